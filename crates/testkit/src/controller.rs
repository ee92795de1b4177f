//! A stand-in for the deployment controller: it writes observations and sets the gateway as the
//! test says, and starts nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use luthier_gateway::{Gateway, Package, ReplicaEndpoint};
use luthier_store::{
    Store,
    deployments::{self, Deployment, Observation},
};
use luthier_types::{Error, Phase, ReplicaId};
use tokio::task::JoinHandle;

/// What becomes of a revision that does not serve yet.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// It serves.
    Serve,
    /// It fails so; what served before goes on serving.
    Fail(Error),
    /// Nothing happens.
    Hang,
}

/// The running stand-in; ends with its value.
pub struct Controller {
    behaviour: Arc<Mutex<Behaviour>>,
    sockets: Arc<Mutex<Vec<PathBuf>>>,
    task: JoinHandle<()>,
}

impl Controller {
    /// Looks at every deployment every few milliseconds.
    pub fn start(store: Store, gateway: Arc<Gateway>) -> Self {
        let behaviour = Arc::new(Mutex::new(Behaviour::Serve));
        let sockets = Arc::new(Mutex::new(vec![]));
        let (b, s) = (behaviour.clone(), sockets.clone());
        let task = tokio::spawn(async move {
            loop {
                pass(&store, &gateway, &b, &s).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self {
            behaviour,
            sockets,
            task,
        }
    }

    /// Behaves otherwise from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Where the replicas of every model listen.
    pub fn sockets(&self, sockets: Vec<PathBuf>) {
        *self.sockets.lock().unwrap() = sockets;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    store: &Store,
    gateway: &Gateway,
    behaviour: &Mutex<Behaviour>,
    sockets: &Mutex<Vec<PathBuf>>,
) {
    // Writes under the write lock, so that an observation never speaks of older intent; and asks
    // how to behave only then, so that what a test said before it wrote intent is followed.
    let mut db = store.write().await.unwrap();
    let behaviour = behaviour.lock().unwrap().clone();
    let sockets = sockets.lock().unwrap().clone();
    for d in deployments::list(&mut db).await.unwrap() {
        if d.observed_generation >= d.generation {
            continue;
        }
        if let Some(seen) = observe(&d, &behaviour) {
            deployments::observe(&mut db, d.id, &seen).await.unwrap();
            if seen.phase == Phase::Ready {
                let card = luthier_store::models::get(&mut db, d.model_id).await;
                let package = Package {
                    outputs: card.unwrap().map(|c| c.spec.outputs).unwrap_or_default(),
                    batching: false,
                };
                let endpoints = sockets.iter().map(|socket| ReplicaEndpoint {
                    id: ReplicaId::new(),
                    at: socket.clone().into(),
                });
                drop(gateway.set(d.model_id, endpoints.collect(), package));
            } else if seen.phase == Phase::Stopped {
                drop(gateway.clear(d.model_id));
            }
        }
    }
    db.commit().await.unwrap();
}

fn observe(d: &Deployment, behaviour: &Behaviour) -> Option<Observation> {
    let seen = |phase, failure| Observation {
        generation: d.generation,
        phase,
        serving_revision: d.serving_revision,
        ready_replicas: 0,
        target_replicas: d.replicas,
        failure,
        crashes: 0,
    };
    if !d.active {
        return Some(Observation {
            serving_revision: None,
            ..seen(Phase::Stopped, None)
        });
    }
    let proven = d.wanted_revision == d.serving_revision;
    match behaviour {
        Behaviour::Fail(error) if !proven => Some(seen(Phase::Failed, Some(error.clone()))),
        Behaviour::Hang if !proven => None,
        _ => Some(Observation {
            serving_revision: d.wanted_revision,
            ready_replicas: d.replicas,
            ..seen(Phase::Ready, None)
        }),
    }
}
