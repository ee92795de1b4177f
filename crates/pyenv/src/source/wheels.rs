//! The wheels that were built here.
//!
//! A lock says of a package without a wheel only what its source is, so that it means the same on
//! every machine. What was built of it lies in `wheels/PIN/BASE/DIGEST/file.whl`: `PIN` is the digest
//! of the pin with its hashes, `BASE` that of the interpreter and root file system it was built on.
//! Its digest is added to what is handed to the installer, never to the lock.
//!
//! Before a wheel is handed over it is compared with that digest, once for as long as it looks the same
//! (see [`verify::look`]), and whatever it looks like when an installation with it fails.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use luthier_host::Staged;
use luthier_ports::{LogSink, ResolvedImage, normalised};
use luthier_types::{Digest, Error, Result, layout::CacheLayout};

use crate::{
    lockfile::{self, Pin},
    verify,
};

/// Largest wheel that is taken over, in bytes.
const WHEEL_BYTES: u64 = 4 << 30;
/// Beside a wheel: how it looked when it was compared with its digest.
const LOOK: &str = "look";
/// Goes up when the same source would be built differently.
const RECIPE: &str = "1";

/// What the installer is given for a lock.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The lock, in which wheels that were built here are let through.
    pub(crate) text: String,
    /// Those wheels.
    pub(crate) wheels: Vec<Built>,
}

/// A wheel that was built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// What it is a wheel of, normalised.
    name: String,
    /// What it was when it was built.
    digest: Digest,
    /// The directory that holds it.
    place: PathBuf,
}

impl Inputs {
    /// Arguments of the installer that tell where the wheels lie.
    pub(crate) fn args(&self) -> impl Iterator<Item = &OsStr> {
        let places = self.wheels.iter().map(|built| built.place.as_os_str());
        places.flat_map(|place| [OsStr::new("--find-links"), place])
    }
}

/// What the installer is given for `lock`, with the wheels that are there.
pub(crate) fn inputs(layout: &CacheLayout, lock: &str, image: &ResolvedImage) -> Inputs {
    let root = layout.root().join("wheels");
    let mut inputs = Inputs {
        text: lock.to_owned(),
        wheels: vec![],
    };
    if !root.is_dir() {
        return inputs;
    }
    let mut pins = lockfile::pinned(lock);
    for pin in &mut pins {
        if let Some((digest, place)) = built(&place(&root, pin, image)) {
            pin.hashes.push(digest.clone());
            inputs.wheels.push(Built {
                name: pin.name.clone(),
                digest,
                place,
            });
        }
    }
    if !inputs.wheels.is_empty() {
        inputs.text = lockfile::text(&pins);
    }
    inputs
}

/// Which wheels are read to compare them with their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Those that do not look as they did when they were read last.
    Changed,
    All,
}

/// Takes away those of the wheels that are not what they were when they were built. Returns whether
/// there were any: what they are of is to be built again.
pub(crate) fn discard_damaged(
    layout: &CacheLayout,
    wheels: &[Built],
    read: Read,
    log: &LogSink,
) -> Result<bool> {
    let failed = |e: io::Error| Error::internal("reading the wheels that were built here", e);
    let mut any = false;
    for built in wheels {
        if is_whole(built, read).map_err(failed)? {
            continue;
        }
        any = true;
        log.line(format!(
            "damaged in the cache: the wheel of {} that was built here; building it again",
            built.name
        ));
        let staged = Staged::new(&layout.staging(), "gone")?;
        match fs_err::rename(&built.place, staged.path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(any)
}

fn is_whole(built: &Built, read: Read) -> io::Result<bool> {
    let mut found = vec![];
    match wheels(&built.place, 0, &mut found) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        searched => searched?,
    }
    let [wheel] = found.as_slice() else {
        return Ok(false);
    };
    let note = built.place.join(LOOK);
    let look = verify::look(&built.place, [wheel.as_path()].into_iter())?;
    let seen = fs_err::read_to_string(&note).ok();
    if read == Read::Changed && look.is_some() && look == seen {
        return Ok(true);
    }
    let whole = verify::digest_of(wheel)?.as_ref() == Some(&built.digest);
    if let (true, Some(look)) = (whole, look) {
        fs_err::write(note, look)?;
    }
    Ok(whole)
}

/// The names of the directories in `wheels/` that a lock may use.
pub(crate) fn used(lock: &str) -> BTreeSet<String> {
    lockfile::pinned(lock)
        .iter()
        .map(|pin| key(pin).to_string())
        .collect()
}

/// Keeps the wheels of `names` that a build left below `cache`, for the pins of `lock`.
pub(crate) fn keep(
    layout: &CacheLayout,
    lock: &str,
    names: &BTreeSet<String>,
    image: &ResolvedImage,
    cache: &Path,
) -> Result<()> {
    let failed = |e: io::Error| Error::internal("keeping built wheels", e);
    let root = layout.root().join("wheels");
    let mut found = vec![];
    wheels(cache, 0, &mut found).map_err(failed)?;
    found.sort();
    for pin in lockfile::pinned(lock) {
        if !names.contains(&pin.name) {
            continue;
        }
        let mine: Vec<_> = found
            .iter()
            .filter_map(|path| {
                let file = path.file_name()?.to_str()?;
                let (name, version) = wheel_name(file)?;
                (name == pin.name).then_some((path, file, version))
            })
            .collect();
        // A resolution may have built another version on its way.
        let locked = pin.text.split("==").nth(1).map(plain);
        let exact: Vec<_> = mine
            .iter()
            .filter(|(_, _, version)| Some(plain(version)) == locked)
            .collect();
        let chosen = match (exact.as_slice(), mine.as_slice()) {
            ([one, ..], _) => *one,
            ([], [one]) => one,
            _ => continue,
        };
        let (path, file, _) = chosen;
        let digest = Digest::of(fs_err::read(path).map_err(failed)?);
        let place = place(&root, &pin, image).join(digest.as_str());
        if place.is_dir() {
            continue;
        }
        let parent = place.parent().unwrap_or(&root);
        fs_err::create_dir_all(parent).map_err(failed)?;
        let staged = Staged::new(&layout.staging(), "wheel")?;
        fs_err::create_dir(staged.path()).map_err(failed)?;
        fs_err::copy(path, staged.path().join(file)).map_err(failed)?;
        staged.publish(&place)?;
    }
    Ok(())
}

fn key(pin: &Pin) -> Digest {
    let mut hashes: Vec<&str> = pin.hashes.iter().map(Digest::as_str).collect();
    hashes.sort_unstable();
    Digest::of_fields([RECIPE, &pin.text].into_iter().chain(hashes))
}

/// Where the wheels of a pin lie that were built on an image.
fn place(root: &Path, pin: &Pin, image: &ResolvedImage) -> PathBuf {
    let base = Digest::of_fields([image.interpreter.as_str(), image.rootfs.as_str()]);
    root.join(key(pin).as_str()).join(base.as_str())
}

/// The newest wheel there, if there is one.
fn built(place: &Path) -> Option<(Digest, PathBuf)> {
    let entries = fs_err::read_dir(place).ok()?;
    let newest = entries.flatten().max_by_key(|entry| {
        let made = entry.metadata().and_then(|m| m.modified()).ok();
        (made, entry.file_name())
    })?;
    Some((newest.file_name().to_str()?.parse().ok()?, newest.path()))
}

/// Wheel files below a directory that a stranger's code wrote: links are not followed.
fn wheels(directory: &Path, depth: usize, into: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > 12 {
        return Ok(());
    }
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            wheels(&path, depth + 1, into)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| e == "whl")
            && entry.metadata()?.len() <= WHEEL_BYTES
        {
            into.push(path);
        }
    }
    Ok(())
}

/// The normalised name and the version of the package in a wheel's file name, if that is one.
fn wheel_name(file: &str) -> Option<(String, &str)> {
    let stem = file.strip_suffix(".whl")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+!-".contains(c);
    let parts: Vec<&str> = stem.split('-').collect();
    ((5..=6).contains(&parts.len()) && stem.chars().all(allowed))
        .then(|| (normalised(parts[0]), parts[1]))
}

/// A version as it can be compared: its letters and digits, and where they are parted.
fn plain(version: &str) -> String {
    version
        .trim()
        .to_ascii_lowercase()
        .replace(['_', '-', '+'], ".")
}

#[cfg(test)]
mod tests {
    use luthier_ports::ImageInfo;

    use super::*;

    fn image(interpreter: &str) -> ResolvedImage {
        ResolvedImage {
            info: ImageInfo {
                uri: "an-image:1".to_owned(),
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
            interpreter: Digest::of(interpreter),
            lock: String::new(),
            base: None,
        }
    }

    #[test]
    fn a_wheel_is_found_for_its_pin_and_its_base_only() {
        let dir = tempfile::tempdir().unwrap();
        let layout = CacheLayout::new(dir.path().join("layers"));
        let cache = dir.path().join("cache");
        fs_err::create_dir_all(cache.join("deep")).unwrap();
        for version in ["1.0", "2.0"] {
            let file = format!("deep/my_pkg-{version}-py3-none-any.whl");
            fs_err::write(cache.join(file), version).unwrap();
        }
        let source = Digest::of("source");
        let lock = format!("my-pkg==2.0 \\\n    --hash=sha256:{source}\nflask==2.2.5\n");
        let names = ["my-pkg".to_owned()].into();
        assert_eq!(inputs(&layout, &lock, &image("a")).text, lock);
        keep(&layout, &lock, &names, &image("a"), &cache).unwrap();
        let given = inputs(&layout, &lock, &image("a"));
        let wheel = Digest::of("2.0");
        assert_eq!(
            given.text,
            format!(
                "my-pkg==2.0 \\\n    --hash=sha256:{source} \\\n    --hash=sha256:{wheel}\n\
                 flask==2.2.5\n"
            )
        );
        let args: Vec<_> = given.args().map(|arg| arg.to_str().unwrap()).collect();
        let ["--find-links", place] = args[..] else {
            panic!("{args:?}")
        };
        let file = Path::new(place).join("my_pkg-2.0-py3-none-any.whl");
        assert!(file.is_file());
        assert!(used(&lock).iter().any(|key| place.contains(key)));
        // Another interpreter, another source.
        assert!(inputs(&layout, &lock, &image("b")).wheels.is_empty());
        let other = lock.replace(source.as_str(), Digest::of("other").as_str());
        assert!(inputs(&layout, &other, &image("a")).wheels.is_empty());
        // Kept again, nothing changes.
        keep(&layout, &lock, &names, &image("a"), &cache).unwrap();
        assert_eq!(inputs(&layout, &lock, &image("a")).wheels, given.wheels);

        // Only what is damaged goes.
        let discard =
            |read| discard_damaged(&layout, &given.wheels, read, &LogSink::none()).unwrap();
        assert!(!discard(Read::Changed));
        fs_err::write(&file, "2.1").unwrap();
        assert!(discard(Read::Changed));
        assert_eq!(inputs(&layout, &lock, &image("a")).text, lock);
        // Somebody else took it away.
        assert!(discard(Read::Changed));
        keep(&layout, &lock, &names, &image("a"), &cache).unwrap();
        assert!(!discard(Read::Changed));
        // As the file system has it nothing has changed.
        let before = fs_err::metadata(&file).unwrap().modified().unwrap();
        fs_err::write(&file, "2.1").unwrap();
        let changed = fs_err::File::options().write(true).open(&file).unwrap();
        changed.file().set_modified(before).unwrap();
        assert!(!discard(Read::Changed));
        assert!(discard(Read::All));
    }

    #[test]
    fn names_are_read_from_wheels_only() {
        assert_eq!(
            wheel_name("zope.event-5.0-py3-none-any.whl"),
            Some(("zope-event".to_owned(), "5.0"))
        );
        for wrong in [
            "docopt-0.6.2.tar.gz",
            "x.whl",
            "../a-1-py3-none-any.whl",
            "a b-1-py3-none-any.whl",
        ] {
            assert_eq!(wheel_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn links_to_files_of_the_host_are_not_taken_for_wheels() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        fs_err::create_dir(&host).unwrap();
        fs_err::write(host.join("a-1-py3-none-any.whl"), "x").unwrap();
        let cache = dir.path().join("cache");
        fs_err::create_dir_all(cache.join("deep")).unwrap();
        fs_err::write(cache.join("deep/b-1-py3-none-any.whl"), "x").unwrap();
        fs_err::os::unix::fs::symlink(&host, cache.join("link")).unwrap();
        fs_err::os::unix::fs::symlink(
            host.join("a-1-py3-none-any.whl"),
            cache.join("c-1-py3-none-any.whl"),
        )
        .unwrap();
        let mut found = vec![];
        wheels(&cache, 0, &mut found).unwrap();
        assert_eq!(found, [cache.join("deep/b-1-py3-none-any.whl")]);
    }
}
