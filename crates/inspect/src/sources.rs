//! The Python files of a package: which of them run when its model is loaded, and what they import.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use luthier_types::Error;
use serde::{Deserialize, Serialize};

use crate::{
    files::read,
    python::{Defined, Import, MAX_SOURCE, Runs, Source, Texts},
};

/// Most Python files that are looked at, and most bytes of all together.
const MAX_FILES: usize = 2000;
const MAX_BYTES: usize = 32 << 20;
/// The file that is loaded first, and the one that is run when a directory is imported.
const PACKAGE: &str = "package.py";
const INIT: &str = "__init__.py";

/// A Python file of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// What it imports.
    pub imports: Vec<Import>,
    /// Whether it runs when the model is loaded.
    pub runs: Runs,
    /// Texts in it that name files.
    pub texts: Texts,
}

/// The Python files of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// By path within the package.
    pub files: BTreeMap<String, SourceFile>,
    /// Every module and package that the directory itself brings, dotted; directories without
    /// `__init__.py` are among them.
    pub modules: BTreeMap<String, Own>,
    /// Names that a module of the package is asked for and does not define: module and name.
    pub undefined: BTreeSet<(String, String)>,
    /// Whether a file speaks of `__main__` other than to ask whether it is run as a program.
    pub touches_main: bool,
}

/// What a module of the package is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Own {
    /// A Python file, by path.
    File(String),
    /// A compiled extension.
    Compiled,
    /// A directory without `__init__.py`.
    Directory,
}

// === impl Sources ===

impl Sources {
    /// Reads the Python files among `files`, the paths below `dir`.
    pub(crate) fn read(dir: &Path, files: &[String]) -> Result<Self, Error> {
        let mut sources = Self {
            modules: modules(files),
            ..Self::default()
        };
        let mut left = MAX_BYTES;
        for file in files.iter().filter(|f| f.ends_with(".py")).take(MAX_FILES) {
            let Some(text) = read(&dir.join(file), MAX_SOURCE)? else {
                continue;
            };
            let Some(rest) = left.checked_sub(text.len()) else {
                break;
            };
            left = rest;
            sources.touches_main |= touches_main(&text);
            let source = Source::parse(&text);
            let found = SourceFile {
                imports: source.as_ref().map(Source::import_list).unwrap_or_default(),
                runs: Runs::Never,
                texts: source.as_ref().map(Source::texts).unwrap_or_default(),
            };
            sources.files.insert(file.clone(), found);
        }
        sources.reach();
        Ok(sources)
    }

    /// Whether the directory brings the top-level module of `module`; one that a library brings too
    /// is the library's, unless the directory has a file for it.
    pub(crate) fn owns(&self, module: &str) -> Option<&Own> {
        self.modules.get(module.split('.').next().unwrap_or(module))
    }

    /// The module that an import in `file` names, dotted from the top of the package; `None` when
    /// it leads out of it.
    pub(crate) fn absolute(file: &str, import: &Import) -> Option<String> {
        if import.dots == 0 {
            return Some(import.module.clone());
        }
        let mut parts: Vec<&str> = file.split('/').collect();
        // The file itself; for `__init__.py` the first dot means its own directory as well.
        parts.pop();
        for _ in 1..import.dots {
            parts.pop()?;
        }
        parts.extend(import.module.split('.').filter(|p| !p.is_empty()));
        Some(parts.join("."))
    }

    /// Files that importing `module` runs: of each package on the way, and its own.
    fn files_of(&self, module: &str) -> Vec<String> {
        let ends = module
            .match_indices('.')
            .map(|(i, _)| i)
            .chain([module.len()]);
        ends.filter_map(|end| match self.modules.get(module.get(..end)?) {
            Some(Own::File(file)) => Some(file.clone()),
            _ => None,
        })
        .collect()
    }

    /// Finds what runs, going from `package.py` along the imports.
    fn reach(&mut self) {
        let mut open: VecDeque<(String, Runs)> =
            [PACKAGE, INIT].map(|f| (f.to_owned(), Runs::Always)).into();
        while let Some((file, runs)) = open.pop_front() {
            let Some(source) = self.files.get_mut(&file) else {
                continue;
            };
            if source.runs <= runs {
                continue;
            }
            source.runs = runs;
            for import in self.files[&file].imports.clone() {
                let Some(module) = Self::absolute(&file, &import) else {
                    continue;
                };
                let runs = runs.max(import.runs);
                let deeper = import.names.iter().map(|name| join(&module, name));
                for module in deeper.chain([module.clone()]) {
                    open.extend(self.files_of(&module).into_iter().map(|f| (f, runs)));
                }
            }
        }
    }

    /// Names that the package's own modules are asked for by imports that run.
    fn asked(&self) -> BTreeSet<(String, String)> {
        let mut asked = BTreeSet::new();
        for (file, source) in &self.files {
            for import in &source.imports {
                if source.runs.max(import.runs) > Runs::Always {
                    continue;
                }
                let Some(module) = Self::absolute(file, import) else {
                    continue;
                };
                for name in &import.names {
                    if !self.modules.contains_key(&join(&module, name)) {
                        asked.insert((module.clone(), name.clone()));
                    }
                }
            }
        }
        asked
    }

    /// Finds which of the names that are asked for, by imports and as `also` says, do not exist.
    pub(crate) fn look_up(
        &mut self,
        dir: &Path,
        also: BTreeSet<(String, String)>,
    ) -> Result<(), Error> {
        let mut by_file: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (module, name) in self.asked().into_iter().chain(also) {
            if let Some(Own::File(file)) = self.modules.get(&module)
                && self.files.contains_key(file)
            {
                by_file
                    .entry(file.clone())
                    .or_default()
                    .push((module, name));
            }
        }
        for (file, asked) in by_file {
            let Some(text) = read(&dir.join(&file), MAX_SOURCE)? else {
                continue;
            };
            let Some(source) = Source::parse(&text) else {
                continue;
            };
            for (module, name) in asked {
                if source.is_fine() && source.defines(&name) == Defined::No {
                    self.undefined.insert((module, name));
                }
            }
        }
        Ok(())
    }
}

/// `module.name`, or `name` at the top.
pub(crate) fn join(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}.{name}")
    }
}

/// The modules that files bring.
fn modules(files: &[String]) -> BTreeMap<String, Own> {
    let mut found = BTreeMap::new();
    for file in files {
        let (parent, name) = file.rsplit_once('/').unwrap_or(("", file));
        let stem = name.strip_suffix(".py");
        let compiled = name.strip_suffix(".so").and_then(|n| n.split('.').next());
        let Some(stem) = stem.or(compiled) else {
            continue;
        };
        for (end, _) in file.match_indices('/') {
            let package = file[..end].replace('/', ".");
            found.entry(package).or_insert(Own::Directory);
        }
        let package = parent.replace('/', ".");
        let module = match stem {
            "__init__" => package,
            stem => join(&package, stem),
        };
        let own = if compiled.is_some() {
            Own::Compiled
        } else {
            Own::File(file.clone())
        };
        // `x/__init__.py` goes before `x.py`, as in Python.
        if !module.is_empty() && (stem == "__init__" || !is_file(found.get(&module))) {
            found.insert(module, own);
        }
    }
    found
}

/// Whether a line speaks of `__main__` and does not ask for `__name__`.
fn touches_main(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .any(|line| line.contains("__main__") && !line.contains("__name__"))
}

fn is_file(own: Option<&Own>) -> bool {
    matches!(own, Some(Own::File(_)))
}

#[cfg(test)]
mod tests;
