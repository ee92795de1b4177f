//! Images and environments that take no time and no network.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use luthier_ports::{
    Collected, EnvBuilder, EnvInfo, ImageInfo, ImageStatus, Images, Lock, LockRequest, LogSink,
    ResolvedImage,
};
use luthier_types::{Code, Digest, EnvId, Error, Result, layout::CacheLayout};

/// The default image.
pub const IMAGE: &str = "md-base/python/python-311:1.0.0";
/// Another one.
pub const OTHER_IMAGE: &str = "md-base/python/python-39:2.0.2";

/// A newer one.
pub const NEW_IMAGE: &str = "md-base/python/python-312:1.0.0";
/// One with Java and the library `h2o`.
pub const JAVA_IMAGE: &str = "md-base/python/java:2.1.0";
/// An older tag of [`OTHER_IMAGE`], for models that have a single version.
pub const OLD_IMAGE: &str = "md-base/python/python-39:1.4.0";

/// A small catalogue.
#[derive(Default)]
pub struct FakeImages;

fn catalogue() -> Vec<ImageInfo> {
    let image = |uri: &str, python: &str| ImageInfo {
        uri: uri.to_owned(),
        python: python.to_owned(),
        summary: "A fake".to_owned(),
        libraries: vec!["pandas==1.5.3".to_owned()],
        debian: vec![],
        released: "2024-10-01".to_owned(),
        status: ImageStatus::Current,
        single_version: false,
    };
    let mut java = image(JAVA_IMAGE, "3.10");
    java.libraries.push("h2o==3.46.0.5".to_owned());
    java.debian.push("default-jre-headless".to_owned());
    let mut old = image(OLD_IMAGE, "3.9");
    old.single_version = true;
    old.status = ImageStatus::Deprecated {
        replaced_by: OTHER_IMAGE.to_owned(),
    };
    vec![
        image(OTHER_IMAGE, "3.9"),
        image(IMAGE, "3.11"),
        image(NEW_IMAGE, "3.12"),
        java,
        old,
    ]
}

#[async_trait]
impl Images for FakeImages {
    fn list(&self) -> Vec<ImageInfo> {
        catalogue()
    }

    async fn disk(&self, _uri: &str) -> Result<Option<(u64, u64)>> {
        Ok(None)
    }

    async fn toolchain(&self, _image: &ResolvedImage, _log: &LogSink) -> Result<Digest> {
        Ok(Digest::of("toolchain"))
    }

    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage> {
        log.line(format!("image {uri}"));
        let found = catalogue().into_iter().find(|image| image.uri == uri);
        let info = found.ok_or_else(|| Error::new(Code::UnknownImage, "no such image"))?;
        Ok(ResolvedImage {
            info,
            digest: Digest::of(uri),
            rootfs: Digest::of("rootfs"),
            interpreter: Digest::of("interpreter"),
            lock: String::new(),
            base: None,
        })
    }
}

/// Locks are the requirements; environments are empty directories.
pub struct FakeEnvs {
    layout: CacheLayout,
    locks: AtomicUsize,
    fail: Mutex<Option<Error>>,
    without_wheels: Mutex<BTreeMap<String, Error>>,
}

impl FakeEnvs {
    /// Environments below `layout`.
    pub fn new(layout: CacheLayout) -> Self {
        Self {
            layout,
            locks: AtomicUsize::new(0),
            fail: Mutex::default(),
            without_wheels: Mutex::default(),
        }
    }

    /// Makes every lock fail with `error`, until called with `None`.
    pub fn fail(&self, error: Option<Error>) {
        *self.fail.lock().unwrap() = error;
    }

    /// Makes every lock on `image` that takes wheels alone fail with `error`.
    pub fn lacks_wheels(&self, image: &str, error: Error) {
        let mut lacking = self.without_wheels.lock().unwrap();
        lacking.insert(image.to_owned(), error);
    }

    /// How often a lock was asked for.
    pub fn locks(&self) -> usize {
        self.locks.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl EnvBuilder for FakeEnvs {
    async fn lock(&self, request: &LockRequest, log: &LogSink) -> Result<Lock> {
        self.locks.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.fail.lock().unwrap().clone() {
            return Err(error);
        }
        let lacking = self.without_wheels.lock().unwrap();
        if let (true, Some(error)) = (request.wheels_only, lacking.get(&request.image.info.uri)) {
            return Err(error.clone());
        }
        drop(lacking);
        let text = request.requirements.main().unwrap_or_default().to_owned();
        log.line(format!("resolved {} lines", text.lines().count()));
        Ok(Lock {
            id: EnvId::new(&request.image.digest, &text, "fake"),
            text,
            image: request.image.digest.clone(),
            origins: vec![],
        })
    }

    async fn build(&self, lock: &Lock, _image: &ResolvedImage, _log: &LogSink) -> Result<PathBuf> {
        let dir = self.layout.env(&lock.id);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::new(Code::Internal, "no directory").source(e))?;
        Ok(dir)
    }

    async fn list(&self) -> Result<Vec<EnvInfo>> {
        let entries = std::fs::read_dir(self.layout.root().join("envs"));
        Ok(entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some(EnvInfo {
                    id: EnvId(entry.file_name().to_str()?.parse().ok()?),
                    built: jiff::Timestamp::UNIX_EPOCH,
                    python: "3.11".to_owned(),
                    packages: 0,
                    bytes: 0,
                    alone: 0,
                })
            })
            .collect())
    }

    async fn sbom(&self, id: &EnvId) -> Result<Option<serde_json::Value>> {
        let there = self.layout.env(id).is_dir();
        Ok(there.then(|| serde_json::json!({ "bomFormat": "CycloneDX" })))
    }

    async fn collect(&self, keep: &BTreeSet<EnvId>, _log: &LogSink) -> Result<Collected> {
        let mut collected = Collected::default();
        for env in self.list().await? {
            if !keep.contains(&env.id) {
                std::fs::remove_dir_all(self.layout.env(&env.id))
                    .map_err(|e| Error::new(Code::Internal, "no directory").source(e))?;
                collected.environments.push(env.id);
            }
        }
        Ok(collected)
    }
}
