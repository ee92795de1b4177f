//! What is wrong with a package that is still a directory of its author's: found without a server,
//! running nothing of it.

use std::{collections::BTreeMap, path::Path};

use luthier_app::deploy::{DEFAULT_IMAGE, alternatives};
use luthier_images::{LocalImages, Options as ImageOptions};
use luthier_inspect::{Environment, Inspection, check, inspect};
use luthier_ports::{
    EnvBuilder as _, ImageInfo, Images as _, Lock, LockRequest, LogSink, names_registry,
};
use luthier_pyenv::check_requirements;
use luthier_types::{Code, Error, RequirementFiles, Result, layout::CacheLayout, logical_lines};

use crate::machine::{Machine, MachineOptions};

pub use luthier_inspect::{Finding, Level};

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// The image it was checked for.
    pub image: String,
    /// The worst come first.
    pub findings: Vec<Finding>,
    /// What is known of the requirements.
    pub requirements: Requirements,
}

/// What is known of a package's requirements.
#[derive(Debug)]
pub enum Requirements {
    /// They were resolved, as a deployment does, or there are none.
    Resolved,
    /// Only their names are known, since this machine is no server's.
    Named,
    /// They cannot be resolved, and only their names are known.
    Refused(Error),
}

/// Checks the package at `dir` for `image`, the default one if none is named. On a machine with the
/// data directory of a server the requirements are resolved as a deployment does; elsewhere they are
/// taken by their names.
///
/// # Errors
/// `BadRequest` when there is no such directory, `InvalidPackage` when it is no package,
/// `UnknownImage`.
pub async fn check_package(
    dir: &Path,
    image: Option<&str>,
    data: &Path,
    log: &LogSink,
) -> Result<Checked> {
    if !dir.is_dir() {
        let cause = format!("{} is no directory", dir.display());
        return Err(Error::new(Code::BadRequest, cause)
            .hint("Name the directory of a package: the one with package.py."));
    }
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
        Ok(Some(resolved)) => Ok(resolved),
        Err(e) if of_registry => return Err(e),
        Err(e) if e.code() == Code::RequirementsError => Err(Requirements::Refused(e)),
        _ if inspection.requirements.main().is_none() => Err(Requirements::Resolved),
        // This machine runs no models; the names have to do.
        Ok(None) | Err(_) => Err(Requirements::Named),
    };
    let (requirements, (info, packages)) = match (resolved, listed) {
        (Ok(resolved), _) => (Requirements::Resolved, resolved),
        (Err(requirements), Some((info, pins))) => {
            let mut packages = pinned(&pins);
            packages.extend(named(&inspection.requirements));
            (requirements, (info, packages))
        }
        (Err(_), None) => {
            return Err(Error::new(
                Code::BadRequest,
                format!("what {image} has is not known without a server's data directory"),
            )
            .hint(
                "Run this on the server's machine and give its --data, or name an image of the \
                 catalogue.",
            ));
        }
    };
    let environment = environment(&info, packages, &images.list());
    let mut findings = check(&inspection, &environment);
    if !matches!(requirements, Requirements::Resolved) {
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
        requirements,
    })
}

/// The image and its environment as a deployment would lock it; `None` where no server has run.
async fn resolve(
    image: &str,
    inspection: &Inspection,
    data: &Path,
    log: &LogSink,
) -> Result<Option<(ImageInfo, BTreeMap<String, String>)>> {
    check_requirements(&inspection.requirements)?;
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
        assert!(matches!(checked.requirements, Requirements::Named) && !data.exists());
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
        let error = check_package(&package.join("package.py"), None, &data, &log).await;
        assert_eq!(error.unwrap_err().code(), Code::BadRequest);

        // Requirements that no server would take do not hide the rest.
        write("requirements.txt", "pandas\n-e ../own\n");
        let checked = check_package(&package, None, &data, &log).await.unwrap();
        let Requirements::Refused(refused) = checked.requirements else {
            panic!("{:?}", checked.requirements)
        };
        assert!(
            refused.message().contains("line 2 of requirements.txt"),
            "{refused}"
        );
        assert_eq!(checked.findings[0].kind, "missing-own-module");

        // Without requirements the environment is the image's own, which is known anywhere.
        std::fs::remove_file(package.join("requirements.txt")).unwrap();
        let checked = check_package(&package, None, &data, &log).await.unwrap();
        assert!(matches!(checked.requirements, Requirements::Resolved));
    }
}
