//! What a replica uses, written down for its revision.
//!
//! Memory is the container's own high-water mark, so nothing is missed between two looks. CPU counts
//! only between looks that saw requests, so that waiting is not charged to them; what a replica
//! uses in its busiest minute is measured with its pauses.

use jiff::Timestamp;
use luthier_gateway::client;
use luthier_ports::ContainerStatus;
use luthier_store::usage;
use luthier_types::{
    Mebibytes,
    runner::Live,
    sizing::{Busiest, Usage},
};
use tokio::time::{Duration, Instant};

use super::{replica::Life, spec};

/// Counts of a serving replica at one look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    cpu: Duration,
    requests: u64,
    calls: u64,
    rows: u64,
}

/// What a serving replica used since it was last written down.
#[derive(Debug, Default)]
pub(super) struct Meter {
    last: Option<Look>,
    /// Where the present minute began.
    minute: Option<Look>,
    written: Option<Instant>,
    seen: Usage,
    /// The highest peak that was written.
    peak: u64,
}

impl Meter {
    /// Takes in one look.
    fn look(&mut self, now: Look, minute: Duration) {
        let last = self.last.replace(now);
        let begin = *self.minute.get_or_insert(now);
        let took = now.at - begin.at;
        if took >= minute {
            self.minute = Some(now);
            let seconds = took.as_secs_f64();
            let requests = now.requests.saturating_sub(begin.requests);
            let cpu = now.cpu.saturating_sub(begin.cpu).as_secs_f64();
            let millicpu = cpu / seconds * 1e3;
            let busier = self.seen.busiest.is_none_or(|b| b.millicpu < millicpu);
            if requests > 0 && busier {
                self.seen.busiest = Some(Busiest {
                    millicpu,
                    requests_per_second: requests as f64 / seconds,
                });
            }
        }
        let Some(last) = last else {
            return;
        };
        let requests = now.requests.saturating_sub(last.requests);
        if requests > 0 {
            self.seen.requests += requests;
            self.seen.calls += now.calls.saturating_sub(last.calls);
            self.seen.rows += now.rows.saturating_sub(last.rows);
            self.seen.cpu_seconds += now.cpu.saturating_sub(last.cpu).as_secs_f64();
        }
    }

    /// What is to be written down now, if anything is new and the last time is long enough ago.
    fn due(&mut self, now: Instant, interval: Duration) -> Option<Usage> {
        let peak = self.seen.serve_peak.unwrap_or_default();
        let news = self.seen.requests > 0 || self.seen.busiest.is_some() || peak > self.peak;
        let early = self.written.is_some_and(|at| now - at < interval);
        if !news || early {
            return None;
        }
        self.written = Some(now);
        self.peak = peak;
        Some(std::mem::take(&mut self.seen))
    }
}

impl Life {
    /// The replica has loaded and proven itself.
    pub(super) async fn measured_loading(&self) {
        let id = spec::container_id(self.id.replica);
        if let Ok(Some(status)) = self.deps.runtime.status(&id).await {
            self.write_down(&Usage {
                memory_limit: status.memory_limit,
                load_peak: status.memory_peak,
                working_peak: status.memory,
                ..Usage::default()
            })
            .await;
        }
    }

    /// A meter that begins now.
    pub(super) async fn meter(&self) -> Meter {
        let mut meter = Meter::default();
        let id = spec::container_id(self.id.replica);
        if let Ok(Some(status)) = self.deps.runtime.status(&id).await
            && let Ok(live) = client::live(&self.at(), self.soon()).await
            && let Some(look) = self.look_at(&status, &live)
        {
            meter.look(look, self.deps.settings.usage_window);
        }
        meter
    }

    fn look_at(&self, status: &ContainerStatus, live: &Live) -> Option<Look> {
        let answered = self.deps.gateway.answered(self.id.model, self.id.replica);
        Some(Look {
            at: Instant::now(),
            cpu: status.cpu_time?,
            requests: answered.unwrap_or(0),
            calls: live.predicts,
            rows: live.rows,
        })
    }

    /// It serves and was looked at.
    pub(super) async fn measured_serving(
        &self,
        meter: &mut Meter,
        status: Option<ContainerStatus>,
        live: &Live,
    ) {
        let Some(status) = status else {
            return;
        };
        let now = Instant::now();
        let settings = &self.deps.settings;
        if let Some(look) = self.look_at(&status, live) {
            meter.look(look, settings.usage_window);
        }
        let seen = &mut meter.seen;
        seen.memory_limit = status.memory_limit;
        seen.serve_peak = seen.serve_peak.max(status.memory_peak);
        seen.working_peak = seen.working_peak.max(status.memory);
        seen.most_rows = seen.most_rows.max(live.most_rows);
        if let Some(seen) = meter.due(now, settings.usage_interval) {
            self.write_down(&seen).await;
        }
    }

    /// The kernel has ended it for want of memory.
    pub(super) async fn ran_out_of_memory(&self, limit: Mebibytes) {
        self.write_down(&Usage {
            memory_limit: limit,
            oom_limit: Some(limit),
            ..Usage::default()
        })
        .await;
    }

    /// Measurements are not worth a replica: what cannot be written is logged.
    async fn write_down(&self, seen: &Usage) {
        let written = async {
            let mut db = self.deps.store.write().await?;
            usage::add(&mut db, self.revision.id, seen, Timestamp::now()).await?;
            db.commit()
                .await
                .map_err(luthier_store::failed("recording what a revision uses"))
        };
        if let Err(error) = written.await {
            tracing::warn!(replica = %self.id.replica, error = %error.chain(), "usage not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, cpu_ms: u64, requests: u64) -> Look {
        Look {
            at,
            cpu: Duration::from_millis(cpu_ms),
            requests,
            calls: requests / 2,
            rows: requests * 3,
        }
    }

    #[test]
    fn cpu_counts_only_where_there_were_requests_and_the_busiest_minute_with_its_pauses() {
        let (mut meter, begin) = (Meter::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let minute = Duration::from_secs(60);
        // What it had used and answered before is not counted.
        meter.look(look(at(0), 5000, 100), minute);
        meter.look(look(at(3), 5300, 110), minute);
        meter.look(look(at(6), 5900, 110), minute);
        meter.look(look(at(60), 8000, 140), minute);
        meter.look(look(at(120), 8001, 141), minute);
        let seen = meter.due(at(120), minute).unwrap();
        assert_eq!((seen.requests, seen.calls, seen.rows), (41, 20, 123));
        assert!((seen.cpu_seconds - 2.401).abs() < 1e-9, "{seen:?}");
        let busiest = seen.busiest.unwrap();
        assert!((busiest.millicpu - 50.0).abs() < 1e-6, "{busiest:?}");
        assert!((busiest.requests_per_second - 40.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn only_news_is_written_and_not_too_often() {
        let (mut meter, begin) = (Meter::default(), Instant::now());
        let interval = Duration::from_secs(15);
        assert!(meter.due(begin, interval).is_none());
        meter.seen.serve_peak = Some(7);
        assert!(meter.due(begin, interval).is_some());
        meter.seen.serve_peak = Some(7);
        assert!(meter.due(begin + interval, interval).is_none());
        meter.seen.serve_peak = Some(8);
        assert!(meter.due(begin + interval / 2, interval).is_none());
        assert!(meter.due(begin + interval, interval).is_some());
    }
}
