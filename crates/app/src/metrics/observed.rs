//! Everything there is to see at one moment, as metrics.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use luthier_gateway::Stats;
use luthier_jobs::JobSeconds;
use luthier_ports::{ContainerState, ContainerStatus};
use luthier_store::{
    deployments::{self, Deployment},
    models, replica_counts,
};
use luthier_types::Result;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{ModelMetrics, Operation};
use crate::{
    App,
    status::{MODEL_LABEL, REPLICA_LABEL},
};

type Labels = Vec<(&'static str, String)>;

/// What is to see of one model.
#[derive(Default)]
struct OneModel {
    labels: Labels,
    counted: Option<Arc<ModelMetrics>>,
    traffic: Option<Stats>,
    deployment: Option<Deployment>,
    replicas: Vec<ContainerStatus>,
    counts: Vec<(String, u64)>,
}

/// Everything there was to see when it was looked at.
pub struct Observed {
    models: Vec<OneModel>,
    jobs: Vec<(String, String, u64)>,
    job_seconds: JobSeconds,
}

impl App {
    /// Looks at everything: a few reads of the database, and of each container's cgroup.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn observed(&self) -> Result<Observed> {
        let mut replicas: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
        for container in self.deps.runtime_logs.list().await? {
            if let Some(model) = container.labels.get(MODEL_LABEL) {
                replicas.entry(model.clone()).or_default().push(container);
            }
        }
        let mut db = self.deps.store.read().await?;
        let names = models::names(&mut db).await?;
        let deployments = deployments::list(&mut db).await?;
        let counts = replica_counts::all(&mut db).await?;
        drop(db);
        let mut deployments: HashMap<_, _> =
            deployments.into_iter().map(|d| (d.model_id, d)).collect();
        let mut models: BTreeMap<_, _> = names
            .into_iter()
            .map(|(id, [project, model, version])| {
                let labels = vec![("project", project), ("model", model), ("version", version)];
                let model = OneModel {
                    labels,
                    traffic: self.deps.gateway.stats(id),
                    deployment: deployments.remove(&id),
                    replicas: replicas.remove(&id.to_string()).unwrap_or_default(),
                    ..OneModel::default()
                };
                (id, model)
            })
            .collect();
        for (id, counted) in self.metrics.existing(|id| models.contains_key(id)) {
            if let Some(model) = models.get_mut(&id) {
                model.counted = Some(counted);
            }
        }
        for (id, what, count) in counts {
            if let Some(model) = models.get_mut(&id) {
                model.counts.push((what, count));
            }
        }
        Ok(Observed {
            models: models.into_values().collect(),
            jobs: self.deps.queue.unfinished().await?,
            job_seconds: self.deps.queue.job_seconds().clone(),
        })
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

/// A figure of a series.
enum Figure {
    Count(f64),
    Level(f64),
}

impl OneModel {
    /// The labels of one of its series.
    fn and(&self, label: &'static str, value: impl Into<String>) -> Labels {
        let mut labels = self.labels.clone();
        labels.push((label, value.into()));
        labels
    }

    fn operations(&self) -> impl Iterator<Item = (&'static str, &Operation)> {
        let counted = self.counted.iter();
        counted.flat_map(|c| [("predict", &c.predict), ("explain", &c.explain)])
    }

    /// By state: `wanted` and `ready` by intent and observation, the others as containers are.
    fn states(&self) -> Vec<(Labels, Figure)> {
        let Some(d) = &self.deployment else {
            return vec![];
        };
        let are = |wanted: fn(&ContainerState) -> bool| {
            let count = self.replicas.iter().filter(|r| wanted(&r.state)).count();
            count as f64
        };
        let wanted = if d.active { d.replicas } else { 0 };
        [
            ("wanted", f64::from(wanted)),
            ("ready", f64::from(d.ready_replicas)),
            ("starting", are(|s| matches!(s, ContainerState::Starting))),
            (
                "running",
                are(|s| matches!(s, ContainerState::Running { .. })),
            ),
            ("exited", are(|s| matches!(s, ContainerState::Exited(_)))),
        ]
        .map(|(state, count)| (self.and("state", state), Figure::Level(count)))
        .into()
    }

    /// A figure of each replica that has it.
    fn each(&self, figure: impl Fn(&ContainerStatus) -> Option<Figure>) -> Vec<(Labels, Figure)> {
        let replicas = self.replicas.iter();
        replicas
            .filter_map(|r| {
                let id = r.labels.get(REPLICA_LABEL)?.clone();
                Some((self.and("replica", id), figure(r)?))
            })
            .collect()
    }

    fn counted(&self, what: impl Fn(&str) -> bool) -> Vec<(Labels, Figure)> {
        let sum: u64 = self
            .counts
            .iter()
            .filter(|(w, _)| what(w))
            .map(|(_, n)| n)
            .sum();
        if self.deployment.is_none() {
            return vec![];
        }
        vec![(self.labels.clone(), Figure::Count(sum as f64))]
    }

    fn traffic(&self, figure: impl Fn(&Stats) -> usize) -> Vec<(Labels, Figure)> {
        let level = |stats: &Stats| Figure::Level(figure(stats) as f64);
        self.traffic
            .iter()
            .map(|stats| (self.labels.clone(), level(stats)))
            .collect()
    }
}

impl Observed {
    /// One metric with its series.
    fn series(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, Figure)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        let kind = match series.peek() {
            Some((_, Figure::Count(_))) => MetricType::Counter,
            Some((_, Figure::Level(_))) => MetricType::Gauge,
            None => return Ok(()),
        };
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, figure) in series {
            let mut one = metric.encode_family(&labels)?;
            match figure {
                Figure::Count(n) => one.encode_counter::<NoLabelSet, _, f64>(&n, None)?,
                Figure::Level(n) => one.encode_gauge(&n)?,
            }
        }
        Ok(())
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_code = self.models.iter().flat_map(|model| {
            model.operations().flat_map(move |(operation, counted)| {
                counted.by_code().into_iter().map(move |(code, n)| {
                    let mut labels = model.and("operation", operation);
                    labels.push(("code", code));
                    (labels, Figure::Count(n as f64))
                })
            })
        });
        let help = "Requests by their outcome: ok, or the code of the error";
        Self::series(encoder, "luthier_requests", help, by_code)?;
        let help = "Seconds from a request's arrival to its answer";
        let mut seconds = encoder.encode_descriptor(
            "luthier_request_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        for model in &self.models {
            for (operation, counted) in model.operations() {
                let labels = model.and("operation", operation);
                counted.seconds.encode(seconds.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn batches(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that were predicted by one call of the model";
        let mut batches = encoder.encode_descriptor(
            "luthier_batch_requests",
            help,
            None,
            MetricType::Histogram,
        )?;
        for model in &self.models {
            if let Some(stats) = &model.traffic {
                batch(batches.encode_family(&model.labels)?, stats)?;
            }
        }
        Ok(())
    }

    fn replicas(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut each =
            |name: &str, help: &str, figure: &dyn Fn(&ContainerStatus) -> Option<Figure>| {
                let series = self.models.iter().flat_map(|model| model.each(figure));
                Self::series(encoder, name, help, series)
            };
        let level = |bytes: Option<u64>| bytes.map(|bytes| Figure::Level(bytes as f64));
        each(
            "luthier_replica_memory_bytes",
            "Memory a replica uses, without file cache that can be dropped",
            &|r| level(r.memory),
        )?;
        each(
            "luthier_replica_memory_peak_bytes",
            "Most memory a replica has used",
            &|r| level(r.memory_peak),
        )?;
        each(
            "luthier_replica_memory_limit_bytes",
            "Memory at which a replica is killed",
            &|r| level(Some(r.memory_limit.bytes())),
        )?;
        each(
            "luthier_replica_cpu_seconds",
            "CPU time a replica has used",
            &|r| r.cpu_time.map(|time| Figure::Count(time.as_secs_f64())),
        )
    }
}

/// The histogram of how many requests share a call.
fn batch(mut encoder: MetricEncoder<'_>, stats: &Stats) -> fmt::Result {
    let bounds = Stats::BATCHES.iter().map(|most| *most as f64);
    let bounds = bounds.chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(stats.batches).collect();
    let calls: u64 = stats.batches.iter().sum();
    // Joined requests, and one for each call that was made for one.
    let requests = stats.joined + stats.batches[0];
    encoder.encode_histogram::<NoLabelSet>(requests as f64, calls, &buckets, None)
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.requests(encoder)?;
        let models = || self.models.iter();
        let help = "Requests that wait for a place in a replica";
        let waiting = models().flat_map(|m| m.traffic(|s| s.waiting));
        Self::series(encoder, "luthier_queue_length", help, waiting)?;
        let help = "Requests in replicas";
        let in_flight = models().flat_map(|m| m.traffic(|s| s.in_flight));
        Self::series(encoder, "luthier_in_flight", help, in_flight)?;
        self.batches(encoder)?;
        let help = "Replicas by state";
        Self::series(
            encoder,
            "luthier_replicas",
            help,
            models().flat_map(OneModel::states),
        )?;
        let help = "1 for the phase that a deployment is in";
        let phases = models().filter_map(|m| {
            let phase = m.deployment.as_ref()?.phase;
            let phase = serde_json::to_value(phase).ok()?;
            Some((m.and("phase", phase.as_str()?), Figure::Level(1.0)))
        });
        Self::series(encoder, "luthier_deployment_phase", help, phases)?;
        let help = "Replicas that were started";
        let started = models().flat_map(|m| m.counted(|what| what == replica_counts::STARTED));
        Self::series(encoder, "luthier_replica_starts", help, started)?;
        let help = "Replicas that failed to come up or ended while they served";
        let other = [replica_counts::STARTED, replica_counts::OUT_OF_MEMORY];
        let failed = models().flat_map(|m| m.counted(|what| !other.contains(&what)));
        Self::series(encoder, "luthier_replica_failures", help, failed)?;
        let help = "Replicas that were killed for want of memory";
        let oom = models().flat_map(|m| m.counted(|what| what == replica_counts::OUT_OF_MEMORY));
        Self::series(encoder, "luthier_replica_oom_kills", help, oom)?;
        self.replicas(encoder)?;
        let help = "Jobs that are not finished";
        let jobs = self.jobs.iter().map(|(kind, status, n)| {
            let labels = vec![
                ("kind", kind.clone()),
                ("status", status.to_ascii_lowercase()),
            ];
            (labels, Figure::Level(*n as f64))
        });
        Self::series(encoder, "luthier_jobs_unfinished", help, jobs)?;
        let help = "Seconds from the making of a job to its end";
        let kind = MetricType::Histogram;
        let seconds = encoder.encode_descriptor("luthier_job_seconds", help, None, kind)?;
        self.job_seconds.encode(seconds)
    }
}
