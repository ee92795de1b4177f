//! Compiled modules, so that a container starts quickly although it cannot write them.
//!
//! Compiling an environment takes longer than everything else together, and most of its
//! distributions were compiled before for another. So each distribution is compiled once per
//! interpreter and kept by the digest of its content; environments get hard links. Compiling only
//! parses; no code of a module runs. A module that does not parse is left as it is, as an installer
//! would.
//!
//! **Where things lie**: `bytecode/INTERPRETER/KEY/`, made whole or absent, holds compiled modules
//! under the digests of their content and an `index` of the modules they belong to, so that a
//! damaged one is found and compiled again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use luthier_host::{Program, Staged};
use luthier_ports::{LogSink, ResolvedImage};
use luthier_types::{Digest, Error, Result, layout::container};

use crate::{
    UvEnvs,
    heal::Bad,
    installed::Distribution,
    store::blocking,
    verify::{self, hash_all},
};

/// Below the cache's root: what is kept.
pub(crate) const STORE: &str = "bytecode";
/// Goes up when the same source is compiled differently.
const RECIPE: &str = "2";
const INDEX: &str = "index";
/// How the files beside it looked when they were compared with their digests.
const LOOK: &str = "look";
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Compiles what is listed in a file, a line each: source, its place in a container, output. With a
/// process per CPU if that is worth their start.
const SCRIPT: &str = "\
import concurrent.futures, multiprocessing, py_compile, sys, warnings
warnings.simplefilter('ignore')
def compile(line):
    source, shown, output = line.split('\\t')
    try:
        py_compile.compile(source, output, shown, doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except py_compile.PyCompileError:
        pass
with open(sys.argv[1], encoding='utf-8') as file:
    lines = file.read().splitlines()
if len(lines) < 100:
    for line in lines:
        compile(line)
else:
    fork = multiprocessing.get_context('fork')
    with concurrent.futures.ProcessPoolExecutor(mp_context=fork) as pool:
        for _ in pool.map(compile, lines, chunksize=16):
            pass
";

/// The compiled modules of one distribution.
struct Kept {
    place: PathBuf,
    /// Digest of the compiled module, and its source's path in the environment.
    modules: Vec<(Digest, PathBuf)>,
}

impl Kept {
    fn look(&self) -> io::Result<Option<String>> {
        let files = self
            .modules
            .iter()
            .map(|(digest, _)| Path::new(digest.as_str()));
        verify::look(&self.place, files)
    }
}

/// Puts compiled modules beside every module of the environment at `tree`. `contents` has the
/// digest of what each distribution is. Returns the kept files that were damaged, which other
/// environments may share.
pub(crate) async fn compile(
    envs: &UvEnvs,
    image: &ResolvedImage,
    tree: &Path,
    distributions: &[Distribution],
    contents: &BTreeMap<String, Digest>,
    log: &LogSink,
) -> Result<Vec<Bad>> {
    // Compiled modules are the same for every interpreter of a minor version that runs them.
    let interpreter = image.host_interpreter().short();
    let store = envs.layout().root().join(STORE).join(interpreter);
    let tag = format!("cpython-{}", image.info.python.replace('.', ""));
    let wanted: Vec<(Distribution, PathBuf)> = distributions
        .iter()
        .filter(|distribution| distribution.modules().next().is_some())
        .filter_map(|distribution| {
            let content = contents.get(&distribution.name)?;
            let key = Digest::of_fields([RECIPE, interpreter, content.as_str()]);
            Some((distribution.clone(), store.join(key.as_str())))
        })
        .collect();
    let places: Vec<PathBuf> = wanted.iter().map(|(_, place)| place.clone()).collect();
    let (mut kept, broken) = blocking("reading compiled modules", move || load(&places)).await?;
    let mut bad = vec![];
    for place in broken {
        log.line("compiled modules in the cache are damaged; compiling them again");
        bad.extend(discard(envs, place, tag.clone()).await?);
    }
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(_, place)| !kept.iter().any(|kept| kept.place == *place))
        .cloned()
        .collect();
    if !missing.is_empty() {
        kept.extend(make(envs, image, tree, missing, log).await?);
    }
    let tree = tree.to_owned();
    blocking("linking compiled modules", move || {
        let sources = wanted.iter().flat_map(|(d, _)| d.modules());
        link(&tree, sources, &kept, &tag)
    })
    .await?;
    Ok(bad)
}

/// What is kept at `places`, and those of them that are damaged.
fn load(places: &[PathBuf]) -> io::Result<(Vec<Kept>, Vec<PathBuf>)> {
    let (mut kept, mut broken) = (vec![], vec![]);
    for place in places {
        match fs_err::read(place.join(INDEX)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !place.exists() => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => broken.push(place.clone()),
            Err(e) => return Err(e),
            Ok(text) => match parse(&String::from_utf8_lossy(&text)) {
                Some(modules) => kept.push(Kept {
                    place: place.clone(),
                    modules,
                }),
                None => broken.push(place.clone()),
            },
        }
    }
    // What was compared and has not changed since is not read again; see `verify`.
    let mut looks = vec![];
    let mut files: Vec<PathBuf> = vec![];
    for kept in &kept {
        let look = kept.look()?;
        let seen = fs_err::read_to_string(kept.place.join(LOOK)).ok();
        let known = look.is_some() && look == seen;
        if !known {
            files.extend(
                kept.modules
                    .iter()
                    .map(|(d, _)| kept.place.join(d.as_str())),
            );
        }
        looks.push((look, known));
    }
    let mut digests = hash_all(&files)?.into_iter();
    let mut looks = looks.into_iter();
    let mut whole = vec![];
    for kept in kept {
        let (look, known) = looks.next().unwrap_or_default();
        // Every digest is taken, so that the next of `kept` finds its own.
        let fine = known
            || kept.modules.iter().fold(true, |fine, (digest, _)| {
                digests.next().flatten().as_ref() == Some(digest) && fine
            });
        match look {
            Some(look) if fine => {
                if !known {
                    fs_err::write(kept.place.join(LOOK), look)?;
                }
                whole.push(kept);
            }
            _ => broken.push(kept.place),
        }
    }
    Ok((whole, broken))
}

/// The text of an index: its own digest, then a line per module.
fn index(modules: &[(Digest, PathBuf)]) -> String {
    let lines: String = modules
        .iter()
        .map(|(digest, path)| format!("{digest} {}\n", path.display()))
        .collect();
    format!("{}\n{lines}", Digest::of(&lines))
}

fn parse(text: &str) -> Option<Vec<(Digest, PathBuf)>> {
    let (digest, lines) = text.split_once('\n')?;
    if digest != Digest::of(lines).as_str() {
        return None;
    }
    lines
        .lines()
        .map(|line| {
            let (digest, path) = line.split_once(' ')?;
            Some((digest.parse().ok()?, PathBuf::from(path)))
        })
        .collect()
}

/// Takes a damaged directory away. Returns the files in it that are not what they should be; their
/// places in an environment are known as far as the index can be read.
async fn discard(envs: &UvEnvs, place: PathBuf, tag: String) -> Result<Vec<Bad>> {
    let staging = envs.layout().staging();
    tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| Error::internal("removing damaged modules", e);
        let mut bad = vec![];
        let text = fs_err::read(place.join(INDEX)).unwrap_or_default();
        for (digest, source) in parse(&String::from_utf8_lossy(&text)).unwrap_or_default() {
            let file = place.join(digest.as_str());
            if verify::digest_of(&file).map_err(failed)?.as_ref() != Some(&digest)
                && let (Ok(metadata), Some(path)) =
                    (fs_err::metadata(&file), compiled(&source, &tag))
            {
                let inode = (metadata.dev(), metadata.ino());
                bad.push(Bad { path, inode });
            }
        }
        let staged = Staged::new(&staging, "gone")?;
        match fs_err::rename(&place, staged.path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(bad),
            renamed => renamed.map_err(failed).map(|()| bad),
        }
    })
    .await
    .map_err(|e| Error::internal("removing damaged modules", e))?
}

/// Compiles distributions and keeps the result.
async fn make(
    envs: &UvEnvs,
    image: &ResolvedImage,
    tree: &Path,
    missing: Vec<(Distribution, PathBuf)>,
    log: &LogSink,
) -> Result<Vec<Kept>> {
    let staging = envs.layout().staging();
    let list = tree.with_file_name("modules.txt");
    let mut text = String::new();
    let mut made = vec![];
    for (distribution, place) in missing {
        let staged = Staged::new(&staging, "bytecode")?;
        fs_err::create_dir(staged.path())
            .map_err(|e| Error::internal("keeping compiled modules", e))?;
        let mut sources = vec![];
        for source in distribution.modules() {
            let output = staged.path().join(sources.len().to_string());
            let shown = Path::new(container::ENV).join(source);
            let (from, to) = (tree.join(source), &output);
            if let (Some(from), Some(shown), Some(to)) =
                (from.to_str(), shown.to_str(), to.to_str())
                && !source
                    .as_os_str()
                    .as_encoded_bytes()
                    .iter()
                    .any(u8::is_ascii_control)
                && Path::new(from).is_file()
            {
                text.push_str(&format!("{from}\t{shown}\t{to}\n"));
                sources.push(source.to_owned());
            }
        }
        made.push((staged, place, sources));
    }
    log.line(format!("compiling {} modules", text.lines().count()));
    fs_err::write(&list, text).map_err(|e| Error::internal("compiling modules", e))?;
    let ended = Program::new(envs.interpreter(image))
        .args(["-I", "-c", SCRIPT])
        .arg(&list)
        .limit(LIMIT)
        .run(&LogSink::none())
        .await?;
    if !ended.success() {
        return Err(
            Error::internal("compiling modules", ended.output.clone()).evidence(ended.evidence())
        );
    }
    tokio::task::spawn_blocking(move || {
        made.into_iter()
            .map(|(staged, place, sources)| keep(staged, place, sources))
            .collect()
    })
    .await
    .map_err(|e| Error::internal("keeping compiled modules", e))?
}

/// Gives the compiled modules their names and puts them where they are kept.
fn keep(staged: Staged, place: PathBuf, sources: Vec<PathBuf>) -> Result<Kept> {
    let failed = |e: io::Error| Error::internal("keeping compiled modules", e);
    let outputs: Vec<PathBuf> = (0..sources.len())
        .map(|n| staged.path().join(n.to_string()))
        .collect();
    let digests = hash_all(&outputs).map_err(failed)?;
    let mut modules = vec![];
    for ((output, digest), source) in outputs.iter().zip(digests).zip(sources) {
        // What does not parse has none.
        if let Some(digest) = digest {
            fs_err::rename(output, staged.path().join(digest.as_str())).map_err(failed)?;
            modules.push((digest, source));
        }
    }
    fs_err::write(staged.path().join(INDEX), index(&modules)).map_err(failed)?;
    staged.publish(&place)?;
    Ok(Kept { place, modules })
}

/// Links what is kept into the environment at `tree`.
fn link<'a>(
    tree: &Path,
    sources: impl Iterator<Item = &'a Path>,
    kept: &[Kept],
    tag: &str,
) -> io::Result<()> {
    let directories: BTreeSet<&Path> = sources.filter_map(Path::parent).collect();
    for directory in directories {
        let directory = tree.join(directory);
        if !directory.is_dir() {
            continue;
        }
        let compiled = directory.join("__pycache__");
        match fs_err::create_dir(&compiled) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // A package may bring compiled modules of its own; they are not trusted.
                if fs_err::symlink_metadata(&compiled)?.is_dir() {
                    fs_err::remove_dir_all(&compiled)?;
                } else {
                    fs_err::remove_file(&compiled)?;
                }
                fs_err::create_dir(&compiled)?;
            }
            made => made?,
        }
    }
    for kept in kept {
        for (digest, source) in &kept.modules {
            let Some(compiled) = compiled(source, tag) else {
                continue;
            };
            let (from, to) = (kept.place.join(digest.as_str()), tree.join(compiled));
            match std::fs::hard_link(&from, &to) {
                Ok(()) => {}
                // Two distributions may hold the same module; the first has it.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // A file system may allow fewer links than there are environments.
                Err(_) => {
                    fs_err::copy(&from, &to)?;
                }
            }
        }
    }
    Ok(())
}

/// Where the compiled form of the module at `source` belongs.
fn compiled(source: &Path, tag: &str) -> Option<PathBuf> {
    let stem = source.file_stem()?.to_str()?;
    let name = format!("{stem}.{tag}.pyc");
    Some(source.parent()?.join("__pycache__").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_tells_whether_it_is_whole() {
        let modules = vec![(Digest::of("a"), PathBuf::from("lib/a b.py"))];
        let text = index(&modules);
        assert_eq!(parse(&text), Some(modules));
        assert_eq!(parse(&text.replace("a b", "a c")), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse(&index(&[])), Some(vec![]));
    }

    #[test]
    fn what_is_damaged_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let keep = |name: &str| {
            let place = dir.path().join(name);
            fs_err::create_dir(&place).unwrap();
            let digest = Digest::of(name);
            fs_err::write(place.join(digest.as_str()), name).unwrap();
            fs_err::write(place.join(INDEX), index(&[(digest.clone(), "a.py".into())])).unwrap();
            (place, digest)
        };
        let (whole, _) = keep("whole");
        let (changed, digest) = keep("changed");
        fs_err::write(changed.join(digest.as_str()), "other").unwrap();
        let (missing, digest) = keep("missing");
        fs_err::remove_file(missing.join(digest.as_str())).unwrap();
        let (torn, _) = keep("torn");
        fs_err::write(torn.join(INDEX), "").unwrap();
        let absent = dir.path().join("absent");
        let places = [
            torn.clone(),
            changed.clone(),
            whole.clone(),
            missing.clone(),
            absent,
        ];
        let (kept, broken) = load(&places).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].place, whole);
        assert_eq!(broken, [torn, changed, missing]);
    }
}
