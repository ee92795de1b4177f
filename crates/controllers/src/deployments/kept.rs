//! What the controller remembers of a deployment.

use luthier_store::deployments::Deployment;
use luthier_types::{ModelId, ReplicaId};
use tokio::time::Instant;

use super::{
    Deps,
    plan::{Memory, Template},
    scaling::{Demand, Scaler},
};

/// A deployment as the owner remembers it.
pub(super) struct Kept {
    pub(super) model: ModelId,
    pub(super) memory: Memory,
    scaler: Scaler,
    /// What the gateway was last told.
    pub(super) traffic: Vec<ReplicaId>,
    /// Whether it was told to let requests wait.
    pub(super) holds: bool,
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(deployment: &Deployment, memory: Memory, now: Instant) -> Self {
        let d = deployment;
        let known = d.observed_generation == d.generation;
        let goal = d.target_replicas.filter(|_| known);
        Self {
            model: d.model_id,
            memory,
            scaler: Scaler::new(d.replicas, d.scaling, d.generation, goal, now),
            traffic: vec![],
            holds: false,
        }
    }

    /// How many replicas there are to be, and when to look again.
    pub(super) fn goal(
        &mut self,
        d: &Deployment,
        template: Option<Template>,
        deps: &Deps,
        now: Instant,
    ) -> (u32, Option<Instant>) {
        if template.is_none() {
            // What comes up again starts with what the user said.
            self.scaler = Scaler::new(d.replicas, d.scaling, d.generation, None, now);
            return (d.replicas, None);
        }
        let demand = Demand {
            active: deps.gateway.stats(self.model).map_or(0, |s| s.active),
            idle: deps.gateway.idle(self.model).unwrap_or_default(),
            served: !self.traffic.is_empty(),
        };
        let said = (d.replicas, d.scaling, d.generation);
        self.scaler
            .decide(said, demand, &deps.settings.windows, now)
    }
}
