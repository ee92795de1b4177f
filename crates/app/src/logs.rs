//! What replicas wrote: of those that run, of those that are gone, and as it is written.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use luthier_ports::{ContainerId, ContainerStatus, LogEnd, LogLine, LogPart};
use luthier_types::{Code, Error, ModelId, ReplicaId, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    App,
    spool::heavy,
    status::{MODEL_LABEL, REPLICA_LABEL, replica},
};

/// Most lines of each replica's output given at once.
const MAX_LINES: usize = 10_000;
/// Those who may follow logs at a time.
pub(crate) const FOLLOWERS: usize = 64;
/// Pause between looks for new lines, and between looks for new replicas.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_FOR_REPLICAS: Duration = Duration::from_secs(1);
/// After so long without a line it says that there is none.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Most lines of a replica that are taken at a look.
const AT_A_LOOK: usize = 1000;

/// Which lines are wanted.
#[derive(Clone, Copy, Debug)]
pub struct LogsQuery {
    /// The last lines of each replica, at most so many.
    pub lines: usize,
    /// Only lines written after this.
    pub since: Option<Timestamp>,
    /// Only of this replica, which may be gone.
    pub replica: Option<ReplicaId>,
    /// Of replicas that are gone instead of those there are.
    pub previous: bool,
}

/// A line of a replica.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaLine {
    /// Which.
    pub replica: ReplicaId,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

/// Gives the lines of a model's replicas as they are written. Holds no database connection.
pub struct Follower {
    app: Arc<App>,
    model: ModelId,
    only: Option<ReplicaId>,
    /// Replicas that run, and to where each was read.
    places: BTreeMap<ReplicaId, Place>,
    /// Replicas that were seen, or were gone before this began.
    seen: HashSet<ReplicaId>,
    next_look: Instant,
    first: Vec<ReplicaLine>,
    _permit: OwnedSemaphorePermit,
}

struct Place {
    container: ContainerId,
    after: Option<Timestamp>,
}

impl LogsQuery {
    /// The last lines of each replica there is.
    pub const fn last(lines: usize) -> Self {
        Self {
            lines,
            since: None,
            replica: None,
            previous: false,
        }
    }

    fn part(&self) -> LogPart {
        LogPart {
            after: self.since,
            lines: self.lines.min(MAX_LINES),
            end: LogEnd::Last,
        }
    }

    fn wants(&self, replica: Option<ReplicaId>) -> bool {
        self.replica.is_none_or(|wanted| replica == Some(wanted))
    }
}

fn replica_id(container: &ContainerStatus) -> Option<ReplicaId> {
    container.labels.get(REPLICA_LABEL)?.parse().ok()
}

/// Lines as their texts and their times, which are of the same number.
fn with_lines(mut value: Value, lines: Vec<LogLine>) -> Value {
    value["times"] = lines.iter().map(|line| json!(line.at)).collect();
    value["lines"] = lines
        .into_iter()
        .map(|line| Value::from(line.text))
        .collect();
    value
}

impl App {
    async fn containers_of(&self, model: ModelId) -> Result<Vec<ContainerStatus>> {
        let model = model.to_string();
        let mut all = self.deps.runtime_logs.list().await?;
        all.retain(|container| container.labels.get(MODEL_LABEL) == Some(&model));
        Ok(all)
    }

    /// The last lines of each replica of a model, oldest replica first.
    ///
    /// # Errors
    /// `NotFound` for the model, or for a replica that is not there and whose log is not kept.
    pub async fn replica_logs(&self, model: ModelId, query: LogsQuery) -> Result<Vec<Value>> {
        self.model_card(model).await?;
        let mut logs = vec![];
        if !query.previous || query.replica.is_some() {
            for container in self.containers_of(model).await? {
                if query.wants(replica_id(&container)) {
                    let read = self.deps.runtime_logs.read_log(&container.id, query.part());
                    logs.push(with_lines(replica(&container), read.await?));
                }
            }
        }
        if query.previous || (query.replica.is_some() && logs.is_empty()) {
            let past = self.deps.replica_logs.clone();
            logs = heavy(move || {
                let mut logs = vec![];
                for id in past.list(model)? {
                    if query.wants(Some(id))
                        && let Some((past, lines)) = past.read(model, id)?
                    {
                        let value = json!({
                            "id": past.replica,
                            "revision": past.revision,
                            "state": "gone",
                            "exit": past.exit,
                            "ended_at": past.ended_at,
                        });
                        logs.push(with_lines(value, query.part().pick(lines)));
                    }
                }
                Ok(logs)
            })
            .await?;
        }
        match query.replica {
            Some(id) if logs.is_empty() => Err(Error::new(
                Code::NotFound,
                format!("there is no replica {id} of the model, and its log is not kept"),
            )
            .hint("`luthier logs --previous` lists the replicas whose logs are kept.")),
            _ => Ok(logs),
        }
    }

    /// Follows the replicas of a model: first the last lines there are, then each as it is written,
    /// also of replicas that start later.
    ///
    /// # Errors
    /// `NotFound`; `Overloaded` when too many follow already.
    pub async fn follow_logs(
        self: &Arc<Self>,
        model: ModelId,
        query: LogsQuery,
    ) -> Result<Follower> {
        self.model_card(model).await?;
        let permit = self.followers.clone().try_acquire_owned().map_err(|_| {
            Error::new(
                Code::Overloaded,
                format!("{FOLLOWERS} clients follow logs already"),
            )
            .hint("End one of them, or ask again without following.")
        })?;
        let past = self.deps.replica_logs.clone();
        let gone = heavy(move || past.list(model)).await?;
        let mut follower = Follower {
            app: Arc::clone(self),
            model,
            only: query.replica,
            places: BTreeMap::new(),
            seen: gone.into_iter().collect(),
            next_look: Instant::now(),
            first: vec![],
            _permit: permit,
        };
        let nothing_yet = (query.lines == 0).then(Timestamp::now);
        for container in self.containers_of(model).await? {
            let Some(id) = replica_id(&container).filter(|id| query.wants(Some(*id))) else {
                continue;
            };
            let read = self.deps.runtime_logs.read_log(&container.id, query.part());
            let lines = read.await?;
            let last = lines.last().map_or(query.since, |line| line.at);
            let place = Place {
                container: container.id,
                after: last.max(nothing_yet),
            };
            follower.first.extend(of(id, lines));
            follower.seen.insert(id);
            follower.places.insert(id, place);
        }
        follower.first.sort_by_key(|line| line.line.at);
        Ok(follower)
    }
}

fn of(replica: ReplicaId, lines: Vec<LogLine>) -> impl Iterator<Item = ReplicaLine> {
    lines
        .into_iter()
        .map(move |line| ReplicaLine { replica, line })
}

impl Follower {
    /// The next lines, as they were written; none at times, while there are none. `None` when the
    /// model is deleted or the server stops.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn next(&mut self) -> Result<Option<Vec<ReplicaLine>>> {
        let begun = Instant::now();
        loop {
            let mut lines = std::mem::take(&mut self.first);
            let mut is_over = false;
            if self.next_look <= Instant::now() {
                is_over = self.look_for_replicas(&mut lines).await?;
                self.next_look = Instant::now() + LOOK_FOR_REPLICAS;
            }
            self.read_on(&mut lines).await?;
            if !lines.is_empty() {
                lines.sort_by_key(|line| line.line.at);
                return Ok(Some(lines));
            }
            if is_over {
                return Ok(None);
            }
            if begun.elapsed() > SIGN_OF_LIFE {
                return Ok(Some(vec![]));
            }
            tokio::select! {
                () = self.app.stopping.cancelled() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn read_on(&mut self, lines: &mut Vec<ReplicaLine>) -> Result<()> {
        for (id, place) in &mut self.places {
            let part = LogPart {
                after: place.after,
                lines: AT_A_LOOK,
                end: LogEnd::First,
            };
            let runtime = &self.app.deps.runtime_logs;
            let read = runtime.read_log(&place.container, part).await?;
            // Lines without a time are of a container older than this server, and cannot be followed.
            let read: Vec<_> = read.into_iter().filter(|line| line.at.is_some()).collect();
            if let Some(last) = read.last() {
                place.after = last.at;
            }
            lines.extend(of(*id, read));
        }
        Ok(())
    }

    /// Finds replicas that are new, and takes what is left to read of those that are gone; gives
    /// whether the model is gone as well.
    async fn look_for_replicas(&mut self, lines: &mut Vec<ReplicaLine>) -> Result<bool> {
        let mut gone = std::mem::take(&mut self.places);
        for container in self.app.containers_of(self.model).await? {
            let Some(id) = replica_id(&container) else {
                continue;
            };
            if self.only.is_some_and(|only| only != id) {
                continue;
            }
            self.seen.insert(id);
            let place = gone.remove(&id).unwrap_or(Place {
                container: container.id,
                after: None,
            });
            self.places.insert(id, place);
        }
        let past = self.app.deps.replica_logs.clone();
        let (model, only) = (self.model, self.only);
        let known = self.seen.clone();
        let left = heavy(move || {
            let mut left = vec![];
            for id in past.list(model)? {
                let after = match gone.get(&id) {
                    Some(place) => place.after,
                    // It came and went between two looks.
                    None if !known.contains(&id) => None,
                    None => continue,
                };
                if only.is_none_or(|only| only == id)
                    && let Some((_, lines)) = past.read(model, id)?
                {
                    let part = LogPart {
                        after,
                        lines: usize::MAX,
                        end: LogEnd::First,
                    };
                    left.push((id, part.pick(lines)));
                }
            }
            Ok(left)
        })
        .await?;
        for (id, read) in left {
            self.seen.insert(id);
            lines.extend(of(id, read));
        }
        match self.app.model_card(self.model).await {
            Err(error) if error.code() == Code::NotFound => Ok(true),
            found => found.map(|_| false),
        }
    }
}
