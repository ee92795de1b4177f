//! A new tag from an old one: the libraries as new as their bounds let them be, and Debian's
//! updates; and what that would change, before anything is written.

mod debian;

use std::{path::Path, time::Duration};

use luthier_host::{Staged, find_uv};
use luthier_ports::{LogSink, normalised};
use luthier_types::{Code, Error, Result};

use crate::{
    LocalImages,
    catalogue::{Entry, File, Tag},
    rootfs::Recipe,
};

/// How long a resolution may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// One package at another version. An empty version is one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The version the image has.
    pub from: String,
    /// The version it would have.
    pub to: String,
}

/// What a new tag would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// Debian packages; `None` when the image's file system is not on this machine, so that there
    /// is nothing to compare.
    pub debian: Option<Vec<Change>>,
    /// Libraries, those that others need included.
    pub libraries: Vec<Change>,
}

impl LocalImages {
    /// The day it is, in UTC, as `released` says it.
    pub fn today() -> String {
        jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
    }

    /// What a tag made today would change of the image `uri`.
    ///
    /// # Errors
    /// `UnknownImage`; `RequirementsError` and `ImageUnavailable` with the output of `uv` and `apt`.
    pub async fn outdated(&self, uri: &str, today: &str, log: &LogSink) -> Result<Outdated> {
        let catalogue = self.catalogue()?;
        let entry = catalogue.find(uri)?;
        let layout = &self.options.layout;
        let staged = Staged::new(&layout.staging(), "outdated")?;
        let text = resolve(staged.scratch(), &entry.tag, today, log).await?;
        let rootfs = layout.rootfs(&Recipe::of(&entry.tag).digest());
        let debian = if rootfs.is_dir() {
            Some(debian::updates(&rootfs, staged.scratch(), log).await?)
        } else {
            None
        };
        Ok(Outdated {
            debian,
            libraries: changes(&entry.lock, &text),
        })
    }

    /// Writes the tag `new` of the image `uri`, with its lock, into `directory`: libraries as new as
    /// their bounds let them be on the day `today`, and a root file system of that day or later.
    /// Gives the new uri and what changed of the libraries.
    ///
    /// # Errors
    /// `UnknownImage`; `Conflict` when the tag is there; `BadRequest` when the directory's file
    /// cannot be read; `RequirementsError` with the resolver's output.
    pub async fn lock(
        &self,
        uri: &str,
        new: &str,
        directory: &Path,
        today: &str,
        log: &LogSink,
    ) -> Result<(String, Vec<Change>)> {
        let catalogue = self.catalogue()?;
        let entry = catalogue.find(uri)?;
        let name = uri.rsplit_once(':').map_or(uri, |(name, _)| name);
        let made = format!("{name}:{new}");
        if catalogue.entries.iter().any(|e| e.info.uri == made) {
            return Err(Error::new(
                Code::Conflict,
                format!("there is an image `{made}` already"),
            )
            .hint("A tag never changes: choose another."));
        }
        let staged = Staged::new(&self.options.layout.staging(), "update")?;
        let text = resolve(staged.scratch(), &entry.tag, today, log).await?;
        let tag = renewed(entry, name, new, today, &text)?;
        write(directory, name, &tag, &text)?;
        Ok((made, changes(&entry.lock, &text)))
    }
}

/// The lock of a tag's libraries, as new as their bounds let them be on a day. Runs no code of any.
async fn resolve(scratch: &Path, tag: &Tag, day: &str, log: &LogSink) -> Result<String> {
    let uv = find_uv().ok_or_else(|| {
        Error::new(
            Code::ImageUnavailable,
            "uv, which resolves libraries, is not installed",
        )
        .hint("Install it: `pip install uv`, or set LUTHIER_UV to its path.")
    })?;
    let lines = |lines: Vec<&str>| lines.join("\n") + "\n";
    let metadata: String = tag
        .source
        .iter()
        .map(|(name, requires)| {
            format!("[[dependency-metadata]]\nname = {name:?}\nrequires-dist = {requires:?}\n")
        })
        .collect();
    for (name, text) in [
        ("libraries.in", lines(wanted(tag))),
        (
            "constraints.txt",
            lines(tag.keeps().map(|k| k.constraint).collect()),
        ),
        ("uv.toml", metadata),
    ] {
        fs_err::write(scratch.join(name), text)
            .map_err(|e| Error::internal("writing the libraries", e))?;
    }
    let platform = format!("{}-manylinux_2_28", std::env::consts::ARCH);
    let mut program = luthier_host::uv(&uv)
        .args([
            "pip",
            "compile",
            "libraries.in",
            "--constraint",
            "constraints.txt",
        ])
        .args([
            "--python-version",
            &tag.python,
            "--python-platform",
            &platform,
        ])
        .args(["--exclude-newer", &format!("{day}T23:59:59Z")])
        .args([
            "--only-binary",
            ":all:",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
        ])
        .args(["--no-python-downloads", "--output-file", "lock.txt"])
        .env("UV_CACHE_DIR", scratch.join("cache"))
        .cwd(scratch)
        .limit(LIMIT);
    for name in tag.source.keys() {
        program = program.args(["--no-binary", name]);
    }
    if !tag.source.is_empty() {
        program = program
            .env("UV_NO_CONFIG", "false")
            .env("UV_CONFIG_FILE", scratch.join("uv.toml"));
    }
    let ended = program.run(&quiet(log)).await?;
    if !ended.success() {
        return Err(Error::new(
            Code::RequirementsError,
            "the image's libraries do not resolve inside their bounds",
        )
        .hint("The resolver's output tells why; change `bounds` in the image's file.")
        .evidence(ended.evidence()));
    }
    let text = fs_err::read_to_string(scratch.join("lock.txt"))
        .map_err(|e| Error::internal("reading the lock", e))?;
    let found = pins(&text);
    let rules: String = tag
        .keeps()
        .filter_map(|keep| {
            let library = normalised(keep.library);
            let (_, version) = found.iter().find(|(name, _)| *name == library)?;
            let (constraint, library) = (keep.constraint, keep.library);
            Some(format!("# keep {constraint} for {library}=={version}\n"))
        })
        .collect();
    Ok(rules + &text)
}

/// Hands on what is worth a person's time: not the whole lock, which `uv` prints.
fn quiet(log: &LogSink) -> LogSink {
    let log = log.clone();
    LogSink::new(move |line| {
        if line.starts_with("Resolved") {
            log.line(line);
        }
    })
}

/// What the resolver is asked for: the bound of each library that has one, the pin of the others.
fn wanted(tag: &Tag) -> Vec<&str> {
    let bound = |pin: &str| {
        let name = normalised(pin.split("==").next().unwrap_or(pin));
        tag.bounds
            .iter()
            .find(|b| {
                normalised(
                    b.split(['<', '>', '=', '!', '~'])
                        .next()
                        .unwrap_or("")
                        .trim(),
                ) == name
            })
            .map(String::as_str)
    };
    tag.libraries
        .iter()
        .map(|pin| bound(pin).unwrap_or(pin))
        .collect()
}

/// The tag of a new lock: the old one's with the versions the lock has.
fn renewed(old: &Entry, name: &str, new: &str, today: &str, text: &str) -> Result<Tag> {
    let found = pins(text);
    let libraries = old.tag.libraries.iter().map(|pin| {
        let library = pin.split("==").next().unwrap_or(pin);
        let version = found.iter().find(|(n, _)| *n == normalised(library));
        let version = version.map(|(_, version)| version.as_str());
        Ok(format!(
            "{library}=={}",
            version.ok_or_else(|| Error::internal("renewing a tag", format!("no {library}")))?
        ))
    });
    let last = name.rsplit('/').next().unwrap_or(name);
    Ok(Tag {
        tag: new.to_owned(),
        released: today.to_owned(),
        debian_state: today.to_owned(),
        lock: format!("{last}-{new}.lock"),
        libraries: libraries.collect::<Result<_>>()?,
        ..old.tag.clone()
    })
}

/// Writes the lock and then adds the tag to the end of the image's file in `directory`, which keeps
/// what else stands there.
fn write(directory: &Path, name: &str, tag: &Tag, text: &str) -> Result<()> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let path = directory.join(format!("{last}.toml"));
    let mut file = match fs_err::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => format!("name = \"{name}\"\n"),
        Err(e) => return Err(Error::internal(format!("reading {}", path.display()), e)),
    };
    let block = toml::to_string_pretty(tag).map_err(|e| Error::internal("writing a tag", e))?;
    // A sub-table of the last element of an array of tables is named after it.
    let block = block.replace("[source]", "[tag.source]");
    file.push_str(&format!("\n[[tag]]\n{block}"));
    let read = File::parse(&file).map_err(|wrong| {
        Error::new(
            Code::BadRequest,
            format!(
                "{} with the new tag would be wrong: {wrong}",
                path.display()
            ),
        )
        .hint("Mend the file or the tag's name, then try again.")
    })?;
    if read.name != name {
        return Err(Error::new(
            Code::BadRequest,
            format!("{} is about `{}`", path.display(), read.name),
        )
        .hint("Rename that file, then try again."));
    }
    let lock = directory.join("locks").join(&tag.lock);
    whole(&lock, text)
        .and_then(|()| whole(&path, &file))
        .map_err(|e| Error::internal(format!("writing into {}", directory.display()), e))
}

/// Writes a file so that a reader sees the old one, none or the new one.
fn whole(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    fs_err::write(&new, text)?;
    fs_err::rename(&new, path)
}

/// Names, normalised, and versions of a lock's pins.
fn pins(lock: &str) -> Vec<(String, String)> {
    lock.lines()
        .filter(|line| !line.starts_with(['#', ' ']))
        .filter_map(|line| line.trim_end_matches('\\').trim().split_once("=="))
        .map(|(name, version)| (normalised(name), version.to_owned()))
        .collect()
}

/// What differs between two locks, by name.
fn changes(from: &str, to: &str) -> Vec<Change> {
    let (from, to) = (pins(from), pins(to));
    let version = |pins: &[(String, String)], name: &str| {
        pins.iter()
            .find(|(n, _)| n == name)
            .map_or(String::new(), |(_, version)| version.clone())
    };
    let mut names: Vec<&String> = from.iter().chain(&to).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| Change {
            name: name.clone(),
            from: version(&from, name),
            to: version(&to, name),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

#[cfg(test)]
mod tests;
