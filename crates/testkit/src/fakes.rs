//! Images and environments that take no time and no network.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use luthier_ports::{EnvBuilder, ImageInfo, Images, Lock, LockRequest, LogSink, ResolvedImage};
use luthier_types::{Code, Digest, EnvId, Error, Result, layout::CacheLayout};

/// The default image.
pub const IMAGE: &str = "md-base/python/python-311:1.0.0";
/// Another one.
pub const OTHER_IMAGE: &str = "md-base/python/python-39:2.0.2";

/// A catalogue of two images.
#[derive(Default)]
pub struct FakeImages;

fn info(uri: &str) -> ImageInfo {
    ImageInfo {
        uri: uri.to_owned(),
        python: "3.11".to_owned(),
        summary: "A fake".to_owned(),
        libraries: vec![],
    }
}

#[async_trait]
impl Images for FakeImages {
    fn list(&self) -> Vec<ImageInfo> {
        vec![info(OTHER_IMAGE), info(IMAGE)]
    }

    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage> {
        log.line(format!("image {uri}"));
        Ok(ResolvedImage {
            info: info(uri),
            digest: Digest::of(uri),
            rootfs: Digest::of("rootfs"),
            interpreter: Digest::of("interpreter"),
            lock: String::new(),
        })
    }
}

/// Locks are the requirements; environments are empty directories.
pub struct FakeEnvs {
    layout: CacheLayout,
    locks: AtomicUsize,
    fail: Mutex<Option<Error>>,
}

impl FakeEnvs {
    /// Environments below `layout`.
    pub fn new(layout: CacheLayout) -> Self {
        Self {
            layout,
            locks: AtomicUsize::new(0),
            fail: Mutex::default(),
        }
    }

    /// Makes every lock fail with `error`, until called with `None`.
    pub fn fail(&self, error: Option<Error>) {
        *self.fail.lock().unwrap() = error;
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
        let text = request.requirements.clone().unwrap_or_default();
        log.line(format!("resolved {} lines", text.lines().count()));
        Ok(Lock {
            id: EnvId::new(&request.image.digest, &text, "fake"),
            text,
            image: request.image.digest.clone(),
        })
    }

    async fn build(&self, lock: &Lock, _image: &ResolvedImage, _log: &LogSink) -> Result<PathBuf> {
        let dir = self.layout.env(&lock.id);
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::new(Code::Internal, "no directory").source(e))?;
        Ok(dir)
    }
}
