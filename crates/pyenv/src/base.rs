//! Environments over an image of a registry, whose own libraries stay where they are.
//!
//! The image's distributions are told to the resolver as wheels that hold nothing but their metadata:
//! it then knows them as they are, whether or not an index has them. What it answers with the
//! image's own version is left out of the lock; the rest goes into the environment, which is
//! searched first.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    path::Path,
};

use luthier_ports::{Base, Provided, ResolvedImage, normalised};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{lockfile, requirements::pin_name};

/// The directory of the metadata wheels beside the requirements that are resolved.
pub(crate) const WHEELS: &str = "provided";
/// The file in an environment by which its interpreter finds the image's libraries.
pub(crate) const PATHS_FILE: &str = "luthier-base.pth";
/// What the runner needs of an image.
const NEEDED: &[&str] = &["pandas"];
/// The C libraries that `uv` knows platforms of, as minor versions of glibc.
const KNOWN: &[u32] = &[17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40];

/// The arguments of `uv` that name the image's platform; none for an image of the catalogue, which
/// is of this machine's.
pub(crate) fn platform(image: &ResolvedImage) -> Vec<String> {
    let Some(base) = &image.base else {
        return vec![];
    };
    let glibc = KNOWN.iter().rfind(|known| **known <= base.glibc);
    let glibc = glibc.unwrap_or(&KNOWN[0]);
    let name = format!("{}-manylinux_2_{glibc}", std::env::consts::ARCH);
    vec!["--python-platform".to_owned(), name]
}

/// The text of [`PATHS_FILE`]. Each directory is added as the interpreter adds its own, with what
/// its `.pth` files say.
pub(crate) fn paths(base: &Base) -> String {
    let line =
        |path: &std::path::PathBuf| format!("import site; site.addsitedir('{}')\n", path.display());
    base.paths.iter().map(line).collect()
}

/// What the runner needs and neither the image nor the package has.
pub(crate) fn missing(base: &Base, names: &BTreeSet<String>) -> Vec<&'static str> {
    let has = |name: &str| {
        names.contains(name) || base.provided.iter().any(|p| normalised(&p.name) == name)
    };
    NEEDED.iter().copied().filter(|name| !has(name)).collect()
}

/// Writes a wheel of each of the image's distributions that holds its metadata alone.
pub(crate) fn write_wheels(base: &Base, directory: &Path) -> io::Result<()> {
    fs_err::create_dir_all(directory)?;
    for provided in &base.provided {
        let stem = format!(
            "{}-{}",
            normalised(&provided.name).replace('-', "_"),
            provided.version
        );
        let path = directory.join(format!("{stem}-py3-none-any.whl"));
        let mut zip = ZipWriter::new(fs_err::File::create(path)?.into_file());
        for (name, text) in [
            ("METADATA", metadata(provided)),
            (
                "WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
            ),
            ("RECORD", String::new()),
        ] {
            zip.start_file(
                format!("{stem}.dist-info/{name}"),
                SimpleFileOptions::default(),
            )?;
            zip.write_all(text.as_bytes())?;
        }
        zip.finish()?;
    }
    Ok(())
}

fn metadata(provided: &Provided) -> String {
    let requires = provided.requires.iter().map(|r| ("Requires-Dist", r));
    let extras = provided.extras.iter().map(|e| ("Provides-Extra", e));
    let lines = [("Name", &provided.name), ("Version", &provided.version)];
    std::iter::once("Metadata-Version: 2.1\n".to_owned())
        .chain(
            lines
                .into_iter()
                .chain(extras)
                .chain(requires)
                .map(|(key, value)| format!("{key}: {value}\n")),
        )
        .collect()
}

/// The lock without what the image has in that version.
pub(crate) fn without_provided(base: &Base, text: &str) -> String {
    let provided: BTreeSet<String> = base
        .provided
        .iter()
        .map(|p| format!("{}=={}", normalised(&p.name), p.version))
        .collect();
    let pins: Vec<_> = lockfile::pinned(text)
        .into_iter()
        .filter(|pin| {
            let version = pin.text.split_once("==").map_or("", |(_, version)| version);
            !provided.contains(&format!("{}=={version}", pin_name(&pin.text)))
        })
        .collect();
    lockfile::text(&pins)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use luthier_types::Digest;

    use super::*;

    fn base() -> Base {
        let provided = |name: &str, version: &str| Provided {
            name: name.to_owned(),
            version: version.to_owned(),
            requires: vec!["numpy>=1; extra == 'fast'".to_owned()],
            extras: vec!["fast".to_owned()],
        };
        Base {
            stand_in: Digest::of("python"),
            home: "/usr/local/bin".into(),
            glibc: 30,
            paths: vec![PathBuf::from("/usr/local/lib/python3.11/site-packages")],
            provided: vec![
                provided("Acme.Lib", "1.0+ours"),
                provided("numpy", "1.26.4"),
            ],
            variables: [].into(),
        }
    }

    #[test]
    fn what_the_image_has_is_left_out_in_that_version_only() {
        let lock = "acme-lib==1.0+ours \\\n    --hash=sha256:aa\nnumpy==1.26.3\nscipy==1.13.1\n";
        assert_eq!(
            without_provided(&base(), lock),
            "numpy==1.26.3\nscipy==1.13.1\n"
        );
    }

    #[test]
    fn pandas_is_added_unless_somebody_brings_it() {
        assert_eq!(missing(&base(), &BTreeSet::new()), ["pandas"]);
        assert!(missing(&base(), &["pandas".to_owned()].into()).is_empty());
    }

    #[test]
    fn wheels_of_metadata_are_named_as_wheels_are() {
        let dir = tempfile::tempdir().unwrap();
        write_wheels(&base(), dir.path()).unwrap();
        let path = dir.path().join("acme_lib-1.0+ours-py3-none-any.whl");
        let mut wheel = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
        let file = wheel
            .by_name("acme_lib-1.0+ours.dist-info/METADATA")
            .unwrap();
        let text = io::read_to_string(file).unwrap();
        assert!(
            text.contains("Name: Acme.Lib\nVersion: 1.0+ours\n"),
            "{text}"
        );
        assert!(text.contains("Requires-Dist: numpy>=1; extra == 'fast'\n"));
    }

    #[test]
    fn the_platform_is_one_that_the_image_can_run() {
        let name = |glibc| {
            let mut base = base();
            base.glibc = glibc;
            let image = ResolvedImage {
                info: luthier_ports::ImageInfo {
                    uri: "registry.example.org/base:1".to_owned(),
                    python: "3.11".to_owned(),
                    summary: String::new(),
                    libraries: vec![],
                    debian: vec![],
                    released: String::new(),
                    status: luthier_ports::ImageStatus::Current,
                    single_version: false,
                },
                digest: Digest::of("image"),
                rootfs: Digest::of("rootfs"),
                interpreter: Digest::of("link"),
                lock: String::new(),
                base: Some(base),
            };
            let name = platform(&image).pop().unwrap();
            name.rsplit('_').next().unwrap().to_owned()
        };
        assert_eq!(name(30), "28");
        assert_eq!(name(36), "36");
        assert_eq!(name(99), "40");
    }
}
