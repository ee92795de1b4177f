//! What is installed in an environment, as its distributions' own records say.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use luthier_types::Digest;

/// A distribution in an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Its name, as in the name of its directory.
    pub(crate) name: String,
    /// Its version, from there too.
    pub(crate) version: String,
    /// Its `.dist-info` directory, relative to the environment.
    pub(crate) info: PathBuf,
    /// Its files, sorted by path.
    pub(crate) files: Vec<Recorded>,
}

/// A file that a distribution's record names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recorded {
    /// Relative to the environment.
    pub(crate) path: PathBuf,
    /// The content that the record promises, if it does.
    pub(crate) digest: Option<Digest>,
}

impl Distribution {
    /// Whether the record is one: it names itself and the distribution's metadata.
    pub(crate) fn has_record(&self) -> bool {
        ["RECORD", "METADATA"].iter().all(|name| {
            let path = self.info.join(name);
            self.files.iter().any(|file| file.path == path)
        })
    }

    /// The digest of the files' names and promised contents.
    pub(crate) fn record(&self) -> Digest {
        Digest::of_fields(self.files.iter().flat_map(|file| {
            [
                file.path.as_os_str().as_bytes(),
                file.digest.as_ref().map_or(b"", |d| d.as_str().as_bytes()),
            ]
        }))
    }

    /// Its modules' sources.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &Path> {
        self.files
            .iter()
            .map(|file| file.path.as_path())
            .filter(|path| path.extension() == Some(OsStr::new("py")))
    }
}

/// The directory of the environment at `tree` into which libraries are installed, relative to it.
pub(crate) fn packages(tree: &Path) -> io::Result<PathBuf> {
    for entry in fs_err::read_dir(tree.join("lib"))? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b"python") {
            return Ok(Path::new("lib").join(name).join("site-packages"));
        }
    }
    Err(io::Error::other("the environment has no lib/python3"))
}

/// The distributions of the environment at `tree`, sorted by name.
pub(crate) fn distributions(tree: &Path) -> io::Result<Vec<Distribution>> {
    let packages = packages(tree)?;
    let mut found = vec![];
    for entry in fs_err::read_dir(tree.join(&packages))? {
        let file = entry?.file_name();
        let Some((name, version)) = file
            .to_str()
            .and_then(|file| file.strip_suffix(".dist-info")?.split_once('-'))
        else {
            continue;
        };
        let info = packages.join(&file);
        let record = match fs_err::read(tree.join(&info).join("RECORD")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => vec![],
            read => read?,
        };
        found.push(Distribution {
            name: name.to_owned(),
            version: version.to_owned(),
            files: files(&record, &packages),
            info,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The files of a record. Lines that are none, and files outside of the environment, are left out.
fn files(record: &[u8], packages: &Path) -> Vec<Recorded> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(record);
    let mut files: Vec<Recorded> = reader
        .byte_records()
        .filter_map(|row| {
            let row = row.ok()?;
            let path = inside(&packages.join(OsStr::from_bytes(row.get(0)?)))?;
            let digest = row.get(1).and_then(sha256);
            Some(Recorded { path, digest })
        })
        .collect();
    files.sort();
    files.dedup();
    files
}

/// The path without `..`, if it stays inside.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

fn sha256(field: &[u8]) -> Option<Digest> {
    let text = field.strip_prefix(b"sha256=")?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(Digest::from_sha256(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: &str = "lib/python3.11/site-packages";

    #[test]
    fn a_record_is_read_and_what_leads_out_is_left() {
        let record = b"a/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n\
            \"a/odd,name.py\",,\n../../../bin/a,sha256=x,1\n../../../../etc/passwd,,\n/etc/shadow,,\n\
            \xff\xfe,,\n";
        let files = files(record, Path::new(PACKAGES));
        let paths: Vec<_> = files.iter().map(|f| f.path.to_string_lossy()).collect();
        assert_eq!(
            paths,
            [
                "bin/a",
                "lib/python3.11/site-packages/a/__init__.py",
                "lib/python3.11/site-packages/a/odd,name.py",
                "lib/python3.11/site-packages/\u{fffd}\u{fffd}",
            ]
        );
        assert_eq!(files[1].digest, Some(Digest::of("")));
        assert_eq!(files[0].digest, None);
    }

    #[test]
    fn a_record_that_does_not_name_itself_is_none() {
        let info = Path::new(PACKAGES).join("a-1.dist-info");
        let of = |record: &[u8]| Distribution {
            name: "a".to_owned(),
            version: "1".to_owned(),
            files: files(record, Path::new(PACKAGES)),
            info: info.clone(),
        };
        let whole = of(b"a-1.dist-info/RECORD,,\na-1.dist-info/METADATA,,\na.py,,\nb.pyc,,\n");
        assert!(whole.has_record());
        assert_eq!(whole.modules().count(), 1);
        let cut = of(b"a-1.dist-info/METADATA,,\na.py,,\n");
        assert!(!cut.has_record());
        assert_ne!(whole.record(), cut.record());
    }
}
