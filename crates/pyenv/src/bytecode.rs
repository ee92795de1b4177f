//! Compiled modules, so that a container starts quickly although it cannot write them.
//!
//! Compiling an environment takes longer than everything else together, and most of its modules
//! were compiled before for another. So each compiled module is kept by the digest of its source,
//! its place in the environment and the interpreter, and hard-linked. Compiling only parses; no
//! code of a module runs. A module that does not parse is left as it is, as an installer would.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use luthier_host::Program;
use luthier_ports::{LogSink, ResolvedImage};
use luthier_types::{Digest, Error, Result, layout::container};

use crate::UvEnvs;

/// Goes up when the same source is compiled differently.
const RECIPE: &str = "1";
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Compiles the files listed in a file, one per line, with a process per CPU.
const SCRIPT: &str = "\
import compileall, concurrent.futures, functools, py_compile, sys, warnings
warnings.simplefilter('ignore')
compile = functools.partial(compileall.compile_file, quiet=2, force=True, stripdir=sys.argv[2],
    prependdir=sys.argv[3], invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
with open(sys.argv[1], encoding='utf-8') as file:
    paths = file.read().splitlines()
with concurrent.futures.ProcessPoolExecutor() as pool:
    for _ in pool.map(compile, paths, chunksize=32):
        pass
";

/// A module and where its compiled form belongs.
struct Module {
    source: PathBuf,
    compiled: PathBuf,
    kept: PathBuf,
}

/// Puts compiled modules beside every module of the environment at `tree`.
pub(crate) async fn compile(
    envs: &UvEnvs,
    image: &ResolvedImage,
    tree: &Path,
    log: &LogSink,
) -> Result<()> {
    let store = envs
        .layout()
        .root()
        .join("bytecode")
        .join(image.interpreter.short());
    let tag = format!("cpython-{}", image.info.python.replace('.', ""));
    let missing = {
        let tree = tree.to_owned();
        tokio::task::spawn_blocking(move || link(&tree, &store, &tag))
            .await
            .map_err(|e| Error::internal("linking compiled modules", e))?
            .map_err(|e| Error::internal("linking compiled modules", e))?
    };
    if missing.is_empty() {
        return Ok(());
    }
    log.line(format!("compiling {} modules", missing.len()));
    let failed = |e: io::Error| Error::internal("compiling modules", e);
    let list = tree.with_file_name("modules.txt");
    let text: String = missing
        .iter()
        .filter_map(|module| module.source.to_str())
        .flat_map(|path| [path, "\n"])
        .collect();
    fs_err::write(&list, text).map_err(failed)?;
    let ended = Program::new(envs.interpreter(image))
        .args(["-I", "-c", SCRIPT])
        .arg(&list)
        .arg(tree)
        .arg(container::ENV)
        .limit(LIMIT)
        .run(&LogSink::none())
        .await?;
    if !ended.success() {
        // The environment works without; its containers start more slowly.
        tracing::warn!(output = %ended.output, "compiling modules");
        log.line("some modules could not be compiled; starting will take longer");
    }
    tokio::task::spawn_blocking(move || keep(&missing))
        .await
        .map_err(|e| Error::internal("keeping compiled modules", e))?
        .map_err(|e| Error::internal("keeping compiled modules", e))
}

/// Links what is kept and returns the rest.
fn link(tree: &Path, store: &Path, tag: &str) -> io::Result<Vec<Module>> {
    let mut missing = vec![];
    let mut directories = vec![tree.join("lib")];
    while let Some(directory) = directories.pop() {
        let mut modules = vec![];
        for entry in fs_err::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            // Links are not followed: they may lead out of the environment.
            if kind.is_dir() {
                if entry.file_name() != "__pycache__" {
                    directories.push(path);
                }
            } else if kind.is_file()
                && path.extension().is_some_and(|e| e == "py")
                && path.to_str().is_some_and(|p| !p.contains('\n'))
            {
                modules.push(path);
            }
        }
        if modules.is_empty() {
            continue;
        }
        let compiled = directory.join("__pycache__");
        // A package may bring compiled modules of its own; they are not trusted.
        match fs_err::symlink_metadata(&compiled) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(&compiled)?,
            Ok(_) => fs_err::remove_file(&compiled)?,
            Err(e) => return Err(e),
        }
        fs_err::create_dir(&compiled)?;
        for source in modules {
            let module = module(tree, store, tag, &compiled, source)?;
            match fs_err::hard_link(&module.kept, &module.compiled) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(module),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(missing)
}

fn module(
    tree: &Path,
    store: &Path,
    tag: &str,
    compiled: &Path,
    source: PathBuf,
) -> io::Result<Module> {
    let place = source.strip_prefix(tree).unwrap_or(&source);
    let bytes = fs_err::read(&source)?;
    let digest = Digest::of_fields([
        RECIPE.as_bytes(),
        place.as_os_str().as_encoded_bytes(),
        &bytes,
    ]);
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let (shard, rest) = digest.as_str().split_at(2);
    Ok(Module {
        compiled: compiled.join(format!("{stem}.{tag}.pyc")),
        kept: store.join(shard).join(rest),
        source,
    })
}

/// Keeps what was compiled for the next environment.
fn keep(modules: &[Module]) -> io::Result<()> {
    for module in modules {
        if !module.compiled.is_file() {
            continue;
        }
        if let Some(parent) = module.kept.parent() {
            fs_err::create_dir_all(parent)?;
        }
        match fs_err::hard_link(&module.compiled, &module.kept) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
