//! What is wrong with a package that is still a directory of its author's: found without a server,
//! running nothing of it.

use std::{collections::BTreeMap, path::Path};

use luthier_app::deploy::{DEFAULT_IMAGE, alternatives};
use luthier_images::{LocalImages, Options as ImageOptions};
use luthier_inspect::{Environment, Inspection, check, inspect};
use luthier_ports::{
    EnvBuilder as _, ImageInfo, Images as _, Lock, LockRequest, LogSink, names_registry,
};
use luthier_types::{Code, Error, RequirementFiles, Result, layout::CacheLayout, logical_lines};

use crate::machine::{Machine, MachineOptions};

pub use luthier_inspect::{Finding, Level};

/// What was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The image it was checked for.
    pub image: String,
    /// The worst come first.
    pub findings: Vec<Finding>,
    /// Whether the requirements were resolved, as a deployment does; else only their names are known.
    pub resolved: bool,
}

/// Checks the package at `dir` for `image`, the default one if none is named. On a machine with the
/// data directory of a server the requirements are resolved as a deployment does; elsewhere they are
/// taken by their names.
///
/// # Errors
/// `InvalidPackage` when it is no package, `RequirementsError` when its requirements cannot be
/// resolved, `UnknownImage`.
pub async fn check_package(
    dir: &Path,
    image: Option<&str>,
    data: &Path,
    log: &LogSink,
) -> Result<Checked> {
    let image = image.unwrap_or(DEFAULT_IMAGE);
    let images = LocalImages::new(ImageOptions::new(CacheLayout::new(data.join("cache"))))?
        .with_own(data.join("images"));
    // What an image of a registry has is known where it can be pulled.
    let of_registry = names_registry(image);
    let listed = if of_registry {
        None
    } else {
        Some(images.locked(image)?)
    };
    let inspection = inspect(dir)?;
    let resolved = match resolve(image, &inspection, data, log).await {
        Ok(resolved) => resolved,
        Err(error) if of_registry || error.code() == Code::RequirementsError => return Err(error),
        // This machine runs no models; the names have to do.
        Err(_) => None,
    };
    let is_resolved = resolved.is_some();
    let (info, packages) = match (resolved, listed) {
        (Some(resolved), _) => resolved,
        (None, Some((info, pins))) => {
            let mut packages = pinned(&pins);
            packages.extend(named(&inspection.requirements));
            (info, packages)
        }
        (None, None) => {
            return Err(Error::new(
                Code::BadRequest,
                format!("what {image} has is not known without a server's data directory"),
            )
            .hint("Run this on the server's machine and give its --data, or name an image of the catalogue."));
        }
    };
    let environment = environment(&info, packages, &images.list());
    let mut findings = check(&inspection, &environment);
    if !is_resolved && inspection.requirements.main().is_some() {
        // What the requirements bring with them is not known.
        for finding in &mut findings {
            if finding.kind == "missing-module" && finding.level == Level::Error {
                finding.level = Level::Warning;
            }
        }
        findings.sort_by_key(|finding| finding.level);
    }
    Ok(Checked {
        image: info.uri,
        findings,
        resolved: is_resolved,
    })
}

/// The image and its environment as a deployment would lock it; `None` where no server has run.
async fn resolve(
    image: &str,
    inspection: &Inspection,
    data: &Path,
    log: &LogSink,
) -> Result<Option<(ImageInfo, BTreeMap<String, String>)>> {
    if !data.join("cache").is_dir() {
        return Ok(None);
    }
    let machine = Machine::open(&MachineOptions {
        data: data.to_owned(),
        cache: None,
        containers: None,
    })?;
    let request = LockRequest {
        image: machine.images.ensure(image, log).await?,
        requirements: inspection.requirements.clone(),
        wheels_only: false,
    };
    let lock: Lock = machine.envs.lock(&request, log).await?;
    let mut packages = request.image.provided();
    packages.extend(lock.versions());
    Ok(Some((request.image.info, packages)))
}

fn environment(
    info: &ImageInfo,
    packages: BTreeMap<String, String>,
    images: &[ImageInfo],
) -> Environment {
    Environment {
        images: alternatives(images, &info.uri),
        image: info.uri.clone(),
        python: info.python.clone(),
        packages,
    }
}

/// The pins of a lock's text.
fn pinned(text: &str) -> BTreeMap<String, String> {
    let pin = |line: &str| {
        let (name, rest) = line.split_once("==")?;
        let version = rest.split([' ', ';', '\\']).next()?;
        (!name.starts_with([' ', '#'])).then(|| (normal(name), version.to_owned()))
    };
    text.lines().filter_map(pin).collect()
}

/// The names that requirement files speak of, with the versions they pin, or none.
fn named(files: &RequirementFiles) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in files.0.values() {
        for (_, line) in logical_lines(text) {
            let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
            let (name, rest) = line.split_at(end.unwrap_or(line.len()));
            if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                continue;
            }
            let version = rest
                .split_once("==")
                .and_then(|(_, rest)| rest.trim().split([' ', ';', ',']).next())
                .filter(|version| !version.contains('*'))
                .unwrap_or_default();
            found.insert(normal(name), version.to_owned());
        }
    }
    found
}

/// A name as PEP 503 has it.
fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_package_is_checked_where_no_server_is() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("package");
        std::fs::create_dir(&package).unwrap();
        let write = |name: &str, text: &str| std::fs::write(package.join(name), text).unwrap();
        write(
            "package.py",
            "import numpy, sklearn, cv2\nfrom .gone import x\ndef get_model(): pass\n",
        );
        write(
            "requirements.txt",
            "scikit-learn==1.3.2 # as trained\nPillow >= 9\n",
        );
        let data = dir.path().join("data");
        let log = LogSink::new(|_| {});
        let checked = check_package(&package, None, &data, &log).await.unwrap();
        assert!(!checked.resolved && !data.exists());
        let shown: Vec<_> = checked
            .findings
            .iter()
            .map(|f| (f.level, f.kind.as_str(), f.requirement.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                (Level::Error, "missing-own-module", None),
                (
                    Level::Warning,
                    "missing-module",
                    Some("opencv-python-headless")
                ),
            ]
        );
        let error = check_package(&package, Some("nowhere:1"), &data, &log).await;
        assert_eq!(error.unwrap_err().code(), Code::UnknownImage);
    }
}
