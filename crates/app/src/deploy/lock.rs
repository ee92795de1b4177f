//! The step that settles image and environment: the image that is named, else one on which the
//! requirements resolve; its lock.

use std::collections::BTreeSet;

use luthier_jobs::StepContext;
use luthier_ports::{Lock, LockRequest, LogSink, ResolvedImage};
use luthier_store::{deployments, models};
use luthier_types::{Code, Digest, Error, JobId, RequirementFiles, Result, RevisionId};
use serde::{Deserialize, Serialize};

use super::{
    DEFAULT_IMAGE, DeployPayload,
    image::{candidates, named, needs, notice},
    job::{Unpacked, sink},
};
use crate::App;

/// What `inspect` records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inspected {
    pub(crate) requirements: RequirementFiles,
    #[serde(default)]
    pub(crate) imports: BTreeSet<String>,
}

/// What `lock` records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Locked {
    pub(crate) image: ResolvedImage,
    pub(crate) lock: Lock,
    /// Why this image, in a sentence, when none was named.
    #[serde(default)]
    pub(crate) chosen: Option<String>,
}

impl App {
    /// The step `lock`.
    pub(crate) async fn lock_package(&self, ctx: &StepContext) -> Result<Locked> {
        let payload: DeployPayload = ctx.payload()?;
        let unpacked: Unpacked = ctx.need("unpack")?;
        let inspected: Inspected = ctx.need("inspect")?;
        let log = sink(ctx.logger());
        let before = unpacked.before.intent.and_then(|i| i.wanted_revision);
        let current = self.stored_revision(before).await?;
        let current = current.as_ref().map(|r| r.image_uri.as_str());
        let earlier = match payload.lock_of {
            Some(revision) => {
                self.earlier_lock(revision, &unpacked.package, payload.cause.is_exact(), &log)
                    .await?
            }
            None => None,
        };
        if earlier.is_none() && payload.cause.is_exact() {
            return Err(not_as_it_was(named(&payload.params, current)));
        }
        let locked = match (earlier, named(&payload.params, current)) {
            (Some(locked), _) => {
                log.line(format!(
                    "image {} and environment as the package had them before",
                    locked.image.info.uri
                ));
                locked
            }
            (None, Some(uri)) => {
                self.lock_on(uri, &inspected.requirements, false, &log)
                    .await?
            }
            (None, None) => {
                let card = self.model_card(payload.model_id).await?;
                let mut db = self.deps.store.read().await?;
                let versions = models::versions(&mut db, card.project_id, &card.name).await?;
                drop(db);
                self.choose(&inspected, versions, &log).await?
            }
        };
        for line in notice(&locked.image.info).iter().chain(&locked.chosen) {
            log.line(line);
        }
        log.line(format!("environment {}", locked.lock.id.0.short()));
        Ok(locked)
    }

    /// Resolves the requirements on one image.
    async fn lock_on(
        &self,
        uri: &str,
        requirements: &RequirementFiles,
        wheels_only: bool,
        log: &LogSink,
    ) -> Result<Locked> {
        let image = self.deps.images.ensure(uri, log).await?;
        let request = LockRequest {
            image,
            requirements: requirements.clone(),
            wheels_only,
        };
        let lock = self.deps.envs.lock(&request, log).await?;
        Ok(Locked {
            image: request.image,
            lock,
            chosen: None,
        })
    }

    /// Takes the first image on which the requirements resolve with wheels alone; if there is none,
    /// the default with what must be built from source, or its error.
    async fn choose(&self, inspected: &Inspected, versions: u64, log: &LogSink) -> Result<Locked> {
        let images = self.deps.images.list();
        let needs = needs(&inspected.requirements, &inspected.imports);
        let candidates = candidates(&images, &needs, versions);
        let mut failed: Vec<&str> = vec![];
        for image in &candidates {
            let uri = image.uri.as_str();
            // An image that brings a system may need its own library built for it.
            let wheels_only = image.debian.is_empty();
            match self
                .lock_on(uri, &inspected.requirements, wheels_only, log)
                .await
            {
                Ok(mut locked) => {
                    locked.chosen = Some(reason(uri, &failed));
                    return Ok(locked);
                }
                Err(e) if e.code() == Code::RequirementsError => {
                    let how = if wheels_only {
                        " with wheels alone"
                    } else {
                        ""
                    };
                    log.line(format!(
                        "the requirements do not resolve on {uri}{how}: {e}"
                    ));
                }
                // That another image cannot be made here is no reason to fail with it.
                Err(e) if e.code() == Code::ImageUnavailable && !failed.is_empty() => {
                    log.line(format!("{uri} is not tried: {e}"));
                }
                Err(e) => return Err(e),
            }
            failed.push(uri);
        }
        let plain = candidates.iter().find(|image| image.debian.is_empty());
        let Some(first) = plain.map(|image| image.uri.as_str()) else {
            return Err(
                Error::new(Code::UnknownImage, "the catalogue has no image to choose")
                    .hint("Name an image in the deployment's parameters."),
            );
        };
        log.line(format!(
            "no image has wheels for all of the requirements; building what lacks them on {first}"
        ));
        let mut locked = self
            .lock_on(first, &inspected.requirements, false, log)
            .await?;
        locked.chosen = Some(format!(
            "no image was named; {first} was chosen, on which a part of the requirements is built \
             from source, as no image has wheels for all"
        ));
        Ok(locked)
    }

    /// The lock that an earlier revision was made with, if it is known and the revision has this
    /// package and the image as it is now; or, where it must be `exact`, as it was then if its layers
    /// are still there.
    async fn earlier_lock(
        &self,
        revision: RevisionId,
        package: &Digest,
        exact: bool,
        log: &LogSink,
    ) -> Result<Option<Locked>> {
        let Some(found) = self.stored_revision(Some(revision)).await? else {
            return Ok(None);
        };
        // A revision has the id of the job that made it.
        let steps = self.deps.queue.steps(JobId(revision.0)).await?;
        let result = steps.into_iter().find(|step| step.name == "lock");
        let locked = result
            .and_then(|step| serde_json::from_value::<Locked>(step.result?).ok())
            .filter(|locked| locked.lock.id == found.env && found.package == *package);
        let Some(locked) = locked else {
            return Ok(None);
        };
        let image = if exact && self.has_layers(&locked.image) {
            locked.image
        } else {
            self.deps.images.ensure(&found.image_uri, log).await?
        };
        Ok((image.digest == found.image).then_some(Locked {
            image,
            lock: locked.lock,
            chosen: None,
        }))
    }

    /// Whether what replicas on the image mount is on this machine.
    fn has_layers(&self, image: &ResolvedImage) -> bool {
        let layout = &self.deps.layout;
        layout.rootfs(&image.rootfs).is_dir() && layout.interpreter(&image.interpreter).is_dir()
    }

    /// A revision, if it is there.
    pub(crate) async fn stored_revision(
        &self,
        id: Option<RevisionId>,
    ) -> Result<Option<deployments::Revision>> {
        let Some(id) = id else { return Ok(None) };
        let mut db = self.deps.store.read().await?;
        deployments::revision(&mut db, id).await
    }
}

/// What was asked for again cannot be made as it was.
fn not_as_it_was(uri: Option<&str>) -> Error {
    let uri = uri.unwrap_or_default();
    Error::new(
        Code::ImageUnavailable,
        format!("the image {uri} is not what it was then, so the revision cannot be made again"),
    )
    .hint("Deploy the package anew with `update_artifact`; its requirements are resolved again.")
}

/// Why `uri` was chosen after others had `failed`.
fn reason(uri: &str, failed: &[&str]) -> String {
    match failed {
        [] if uri == DEFAULT_IMAGE => format!("no image was named; {uri} is the default"),
        [] => format!("no image was named; {uri} was chosen, as it brings what the package needs"),
        failed => format!(
            "no image was named; {uri} was chosen, as the requirements do not resolve with wheels \
             alone on {}",
            failed.join(", ")
        ),
    }
}
