//! The model files of a package: what their pickles import, and which versions they record.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
    time::{Duration, Instant},
};

use luthier_types::Error;
use serde::{Deserialize, Serialize};

use crate::{
    files::read,
    pickle::{End, Pickled, read_pickles},
    recorded::{Recorded, sklearn_versions},
};

mod h5;
mod open;
mod versions;
mod zipped;

/// Most files that are looked at, and longest that it is done.
const MAX_FILES: usize = 2000;
const MAX_TIME: Duration = Duration::from_secs(120);
/// Largest text in which names of files are looked for.
const MAX_TEXT: u64 = 1024 * 1024;
/// Largest file that is read whole, to find a version in it.
const MAX_WHOLE: u64 = 256 << 20;

/// What a model file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Path within the package.
    pub file: String,
    /// Whether the package's code names it, as far as can be told.
    pub named: bool,
    /// What its pickles import: module and name.
    pub globals: BTreeSet<(String, String)>,
    /// The highest protocol of its pickles.
    pub protocol: u8,
    /// Numbers of arguments that code objects in it are made of, which tell their Python.
    pub code_arguments: BTreeSet<usize>,
    /// What is wrong with the file itself.
    pub damage: Option<Damage>,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// It ends too early.
    Cut,
    /// It only names a file that Git keeps elsewhere.
    Pointer,
    /// It is empty.
    Empty,
}

/// What was found in one file.
#[derive(Default)]
struct Found {
    pickled: Pickled,
    recorded: BTreeSet<(&'static str, String)>,
    damage: Option<Damage>,
}

impl Found {
    fn pickles(&mut self, stream: impl BufRead) {
        let found = read_pickles(stream);
        for payload in &found.payloads {
            self.recorded.extend(versions::of_bytes(payload));
        }
        let all = &mut self.pickled;
        all.globals.extend(found.globals);
        all.code_arguments.extend(found.code_arguments);
        all.protocol = all.protocol.max(found.protocol);
        all.count += found.count;
        all.end = found.end;
    }
}

/// Whether a file of this name is likely pickled.
pub(crate) fn is_pickle(name: &str) -> bool {
    matches!(
        ending(name).as_str(),
        "pkl" | "pickle" | "joblib" | "sav" | "dill" | "cloudpickle"
    )
}

/// Whether a file of this name may be a packed pickle.
fn may_be_packed(name: &str) -> bool {
    let packed = ["gz", "z", "bz2", "xz", "lzma", "lz4"];
    is_pickle(name) || (packed.contains(&ending(name).as_str()) && !name.contains(".tar."))
}

fn ending(name: &str) -> String {
    let end = name.rsplit('.').next().unwrap_or_default();
    end.to_ascii_lowercase()
}

/// What the model files of a package say.
#[derive(Default)]
pub(crate) struct Looked {
    /// Those that are pickled or damaged.
    pub(crate) models: Vec<ModelFile>,
    /// The versions they record.
    pub(crate) recorded: Vec<Recorded>,
    /// Files with a version that no code names.
    pub(crate) unnamed: BTreeSet<String>,
}

/// Looks at every model file among `files`, the paths below `dir`.
pub(crate) fn look(dir: &Path, files: &[String]) -> Result<Looked, Error> {
    let mut all = Looked::default();
    let end = Instant::now() + MAX_TIME;
    let names = Names::read(dir, files)?;
    let skipped = |f: &&String| !f.ends_with(".py") && !f.ends_with(".so");
    for file in files.iter().filter(skipped).take(MAX_FILES) {
        if Instant::now() > end {
            break;
        }
        // A file that cannot be made sense of is the model's business.
        let Ok(looked) = look_at(&dir.join(file), file) else {
            continue;
        };
        let named = names.has(file);
        if !named && !looked.recorded.is_empty() {
            all.unnamed.insert(file.clone());
        }
        all.recorded.extend(
            looked
                .recorded
                .into_iter()
                .map(|(library, version)| Recorded {
                    file: file.clone(),
                    library: library.to_owned(),
                    version,
                }),
        );
        if looked.pickled.count > 0 || looked.damage.is_some() {
            all.models.push(ModelFile {
                file: file.clone(),
                named,
                globals: looked.pickled.globals,
                protocol: looked.pickled.protocol,
                code_arguments: looked.pickled.code_arguments,
                damage: looked.damage,
            });
        }
    }
    Ok(all)
}

fn look_at(path: &Path, name: &str) -> io::Result<Found> {
    let mut found = Found::default();
    let mut head = [0; 64];
    let mut file = BufReader::with_capacity(64 * 1024, fs_err::File::open(path)?);
    let size = file.get_ref().metadata()?.len();
    let there = fill(&mut file, &mut head)?;
    let head = &head[..there];
    let whole = || -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        fs_err::File::open(path)?
            .take(MAX_WHOLE)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let again = || -> io::Result<_> { Ok(BufReader::new(fs_err::File::open(path)?)) };
    if head.starts_with(b"version https://git-lfs.github.com/") {
        found.damage = Some(Damage::Pointer);
    } else if size == 0 && is_pickle(name) {
        found.damage = Some(Damage::Empty);
    } else if head.starts_with(b"PK\x03\x04") {
        zipped::look(fs_err::File::open(path)?, &mut found);
    } else if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        found
            .recorded
            .extend(h5::keras_version(&whole()?).map(|v| ("keras", v)));
    } else if head.starts_with(b"\x93NUMPY") {
        npy(again()?, &mut found)?;
    } else if name.ends_with("saved_model.pb") {
        found
            .recorded
            .extend(versions::tensorflow(&whole()?).map(|v| ("tensorflow", v)));
    } else if versions::is_model(head) && !is_pickle(name) {
        found
            .recorded
            .extend(versions::of_bytes(&ends(path, size)?));
    } else if let Some(stream) = open::unpacked(again()?, head)? {
        if may_be_packed(name) {
            pickles(stream, name, &mut found);
            if let Some(stream) = open::unpacked(again()?, head)? {
                sklearn(stream, &mut found);
            }
        }
    } else if is_pickle(name) || matches!(head, [0x80, 2..=5, ..]) {
        pickles(again()?, name, &mut found);
        sklearn(again()?, &mut found);
    }
    Ok(found)
}

/// Reads pickles; one of a pickle's name that ends too early is damaged.
fn pickles(stream: impl BufRead, name: &str, found: &mut Found) {
    found.pickles(stream);
    if found.pickled.end == End::Cut && is_pickle(name) && found.pickled.protocol > 1 {
        found.damage = Some(Damage::Cut);
    }
}

fn sklearn(stream: impl io::Read, found: &mut Found) {
    let versions = sklearn_versions(stream).unwrap_or_default();
    found
        .recorded
        .extend(versions.into_iter().map(|v| ("scikit-learn", v)));
}

/// An array file, whose elements are a pickle if they are objects.
fn npy(mut stream: impl BufRead, found: &mut Found) -> io::Result<()> {
    let mut start = [0; 8];
    stream.read_exact(&mut start)?;
    let size = if start[6] == 1 {
        let mut size = [0; 2];
        stream.read_exact(&mut size)?;
        u64::from(u16::from_le_bytes(size))
    } else {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        u64::from(u32::from_le_bytes(size))
    };
    let mut header = vec![];
    stream
        .by_ref()
        .take(size.min(64 * 1024))
        .read_to_end(&mut header)?;
    if header.windows(3).any(|w| w == b"'|O" || w == b"'O'") {
        found.pickles(stream);
    }
    Ok(())
}

/// The beginning and the end of a file.
fn ends(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    const KEPT: u64 = 64 * 1024;
    let mut file = fs_err::File::open(path)?;
    let mut bytes = vec![];
    file.by_ref().take(KEPT).read_to_end(&mut bytes)?;
    if size > KEPT {
        io::Seek::seek(
            &mut file,
            io::SeekFrom::Start(KEPT.max(size.saturating_sub(KEPT))),
        )?;
        file.take(KEPT).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Fills the buffer as far as the stream goes.
fn fill(stream: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut there = 0;
    while there < buffer.len() {
        match stream.read(&mut buffer[there..]) {
            Ok(0) => break,
            Ok(read) => there += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(there)
}

/// The texts in which a package names its files.
struct Names(Vec<String>);

impl Names {
    fn read(dir: &Path, files: &[String]) -> Result<Self, Error> {
        let is_text = |f: &&String| {
            matches!(
                ending(f).as_str(),
                "py" | "json" | "yaml" | "yml" | "toml" | "cfg" | "ini"
            )
        };
        let mut texts = vec![];
        for file in files.iter().filter(is_text).take(200) {
            if let Some(text) = read(&dir.join(file), MAX_TEXT)? {
                texts.push(String::from_utf8_lossy(&text).into_owned());
            }
        }
        Ok(Self(texts))
    }

    /// Whether a file may be meant somewhere: by its name, by the directory it is in, or by a name
    /// that is put together.
    fn has(&self, file: &str) -> bool {
        let base = file.rsplit('/').next().unwrap_or(file);
        let end = ending(base);
        let directory = file.split('/').next().filter(|_| file.contains('/'));
        self.0.iter().any(|text| {
            let made = ["glob(", "listdir(", "iterdir(", "scandir("];
            let pieced = ["}", "'", "\"", "*", "%s"].map(|before| format!("{before}.{end}"));
            text.contains(base)
                || directory.is_some_and(|d| text.contains(d))
                || made.iter().any(|m| text.contains(m))
                || pieced.iter().any(|p| text.contains(p.as_str()))
        })
    }
}

#[cfg(test)]
mod tests;
