//! What an operator looks at: every deployment with its replicas.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use luthier_gateway::client;
use luthier_ports::{ContainerState, ContainerStatus};
use luthier_store::{deployments, failures, models, outside};
use luthier_types::{ModelId, Result, RunnerAddress};
use serde_json::{Value, json};

use crate::{App, deployments::batching_of, sizing::failure};

/// Labels that the deployment controller gives to replicas.
pub(crate) const MODEL_LABEL: &str = "luthier.model";
pub(crate) const REPLICA_LABEL: &str = "luthier.replica";
pub(crate) const REVISION_LABEL: &str = "luthier.revision";
pub(crate) const ENVIRONMENT_LABEL: &str = "luthier.environment";

/// How long a replica may take to speak of itself.
const ASK: Duration = Duration::from_secs(2);

impl App {
    /// Every deployment: what is wanted, how far the controller is, and the replicas there are.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn deployment_statuses(&self) -> Result<Vec<Value>> {
        let mut containers: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
        for container in self.deps.runtime_logs.list().await? {
            if let Some(model) = container.labels.get(MODEL_LABEL) {
                containers.entry(model.clone()).or_default().push(container);
            }
        }
        let mut db = self.deps.store.read().await?;
        let mut statuses = vec![];
        for d in deployments::list(&mut db).await? {
            let Some(card) = models::get(&mut db, d.model_id).await? else {
                continue;
            };
            let revision = match d.wanted_revision {
                Some(id) => deployments::revision(&mut db, id).await?,
                None => None,
            };
            let mut running = vec![];
            for container in containers
                .remove(&d.model_id.to_string())
                .unwrap_or_default()
            {
                let mut value = replica(&container);
                self.ask_replica(d.model_id, &mut value).await;
                running.push(value);
            }
            let outside = outside::of_model(&mut db, d.model_id).await?;
            if let Some(outside) = &outside {
                running.extend(self.outside_replicas(d.model_id, &outside.address).await);
            }
            let batching = batching_of(&mut db, &d).await?;
            let sizing = self.sizing_of(&mut db, &d).await?;
            let last_failure = failures::latest(&mut db, d.model_id, 1).await?.pop();
            statuses.push(json!({
                "id": d.id,
                "model_id": d.model_id,
                "project": card.project_name,
                "model": card.name,
                "version": card.version,
                "active": d.active,
                "phase": d.phase,
                "settled": d.is_settled(),
                "replicas": d.replicas,
                "ready_replicas": d.ready_replicas,
                "target_replicas": d.target_replicas.unwrap_or(d.replicas),
                "min_replicas": d.scaling.min_replicas,
                "max_replicas": d.scaling.max_replicas,
                "idle_timeout": d.scaling.idle_timeout,
                "target_concurrency": d.scaling.target_concurrency,
                "cpu": d.resources.cpu,
                "memory": d.resources.memory,
                "image_uri": revision.as_ref().map(|r| r.image_uri.as_str()),
                "image_replaced_by": revision.as_ref().and_then(|r| self.replaced_by(&r.image_uri)),
                "environment": revision.as_ref().map(|r| &r.env),
                "wanted_revision": d.wanted_revision,
                "serving_revision": d.serving_revision,
                "failure": d.failure,
                "crashes": d.crashes,
                "last_failure": last_failure.as_ref().map(failure),
                "sizing": sizing,
                "batching": batching,
                "runner_address": outside.map(|o| o.address),
                "traffic": self.deps.gateway.stats(d.model_id),
                "running": running,
                "created_at": d.created_at,
                "updated_at": d.updated_at,
            }));
        }
        Ok(statuses)
    }

    /// The replica that an operator keeps at `address`, while traffic reaches it.
    async fn outside_replicas(&self, model: ModelId, address: &RunnerAddress) -> Vec<Value> {
        let mut replicas = vec![];
        for endpoint in self.deps.gateway.endpoints(model) {
            if endpoint.at == *address {
                let mut value = json!({
                    "id": endpoint.id,
                    "external": true,
                    "address": address,
                    "state": "running",
                });
                self.ask_replica(model, &mut value).await;
                replicas.push(value);
            }
        }
        replicas
    }

    /// Adds what a serving replica says of itself; one that says nothing in time stays as it is.
    async fn ask_replica(&self, model: ModelId, value: &mut Value) {
        let endpoints = self.deps.gateway.endpoints(model);
        let Some(endpoint) = endpoints.iter().find(|e| value["id"] == e.id.to_string()) else {
            return;
        };
        let deadline = Instant::now() + ASK;
        if let Ok(ready) = client::ready(&endpoint.at, deadline).await {
            value["python"] = json!(ready.python);
            value["packages"] = json!(ready.packages);
            value["import_seconds"] = json!(ready.import_seconds);
            value["load_seconds"] = json!(ready.load_seconds);
        }
    }
}

pub(crate) fn replica(container: &ContainerStatus) -> Value {
    let (state, pid, exit) = match &container.state {
        ContainerState::Starting => ("starting", None, None),
        ContainerState::Running { pid } => ("running", Some(*pid), None),
        ContainerState::Exited(exit) => ("exited", None, Some(exit)),
    };
    json!({
        "id": container.labels.get(REPLICA_LABEL),
        "container": container.id,
        "revision": container.labels.get(REVISION_LABEL),
        "state": state,
        "pid": pid,
        "exit": exit,
        "memory": container.memory,
        "memory_peak": container.memory_peak,
        "memory_limit": container.memory_limit.bytes(),
        "cpu_seconds": container.cpu_time.map(|time| time.as_secs_f64()),
    })
}
