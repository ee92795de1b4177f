//! The life of a runner that an operator keeps: found ready, validated, watched, and never started or
//! stopped. To the plan it is a replica like any other, of which one address has one.

use std::{convert::Infallible, time::Instant};

use luthier_gateway::{Retired, client};
use luthier_types::{
    Code, Error, Result, RunnerAddress,
    runner::{LoadPhase, Ready},
};
use tokio::{
    sync::oneshot,
    time::{Duration, sleep},
};

use super::replica::{Event, From, Life};

/// How long a runner may take to answer at all. It is there already, or it is not.
const PATIENCE: Duration = Duration::from_secs(15);

impl Life {
    /// As [`Life::run`], of a runner outside.
    pub(super) async fn run_outside(
        self,
        at: RunnerAddress,
        from: From,
        end: oneshot::Receiver<Option<Retired>>,
    ) -> Result<()> {
        let living = async {
            let Err(error) = self.live_outside(&at, from).await;
            let _ = self.events.send(Event::Died(self.id.replica, error));
            std::future::pending::<Infallible>().await
        };
        let retired = tokio::select! {
            told = end => told.ok().flatten(),
            never = living => match never {},
        };
        if let Some(retired) = retired {
            retired.drained(self.deps.settings.drain_timeout).await;
        }
        Ok(())
    }

    async fn live_outside(&self, at: &RunnerAddress, from: From) -> Result<Infallible> {
        if from != From::Serving {
            let ready = self.found_outside(at).await?;
            self.validate(&ready).await?;
            self.compare(at).await?;
        }
        let _ = self.events.send(Event::Ready(self.id.replica));
        self.watch_outside(at).await
    }

    /// Waits until it says that it is ready.
    async fn found_outside(&self, at: &RunnerAddress) -> Result<Ready> {
        let settings = &self.deps.settings;
        let patience = PATIENCE.min(settings.load_timeout);
        let begun = Instant::now();
        let mut answered = false;
        loop {
            let silence = match client::ready(at, self.soon()).await {
                Ok(ready) if ready.phase == LoadPhase::Ready => return Ok(ready),
                Ok(ready) if ready.phase == LoadPhase::Failed => {
                    let why = ready
                        .error
                        .map_or_else(String::new, |e| format!(": {}", e.message));
                    let cause = format!("the runner at {at} could not load its model{why}");
                    return Err(
                        Error::new(Code::ModelServeError, cause).hint("Look at its own log.")
                    );
                }
                Ok(_) => {
                    answered = true;
                    "it is still loading its model".to_owned()
                }
                Err(error) => error.message().to_owned(),
            };
            let limit = match answered {
                true => settings.load_timeout,
                false => patience,
            };
            if begun.elapsed() >= limit {
                let cause = format!(
                    "the runner at {at} was not ready after {} s: {silence}",
                    limit.as_secs_f64().ceil()
                );
                return Err(Error::new(Code::DeploymentTimeout, cause).hint(
                    "Start it, or set another address with `luthier runner-address`; `GET \
                     /v2/health/ready` there must answer as the runner's contract says.",
                ));
            }
            sleep(settings.poll).await;
        }
    }

    /// Watches it while it serves.
    async fn watch_outside(&self, at: &RunnerAddress) -> Result<Infallible> {
        let settings = &self.deps.settings;
        let mut look = self.look.clone();
        let mut failures = 0;
        loop {
            let asked = tokio::select! {
                () = sleep(settings.liveness_interval) => false,
                Ok(()) = look.changed() => true,
            };
            match client::live(at, self.soon()).await {
                Ok(_) => failures = 0,
                // Nothing tells of its end but that nobody answers.
                Err(error) if error.code() == Code::ModelUnavailable => failures += 1,
                Err(_) => failures += u32::from(!asked),
            }
            if failures >= settings.liveness_failures {
                let cause =
                    format!("the runner at {at} did not answer {failures} health checks in a row");
                return Err(Error::new(Code::ModelServeError, cause).hint(
                    "Look at its own log and start it again; it is asked again, and taken back \
                     when it answers.",
                ));
            }
            if asked {
                sleep(settings.poll).await;
            }
        }
    }
}
