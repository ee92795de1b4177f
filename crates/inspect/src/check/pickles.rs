//! Pickles: what they need, and what they would do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Around,
    modules::{is_own, is_there},
    provided::Provided,
};
use crate::{
    Damage, Finding, Inspection, Level, ModelFile, Own,
    pickle::HIGHEST,
    tables::{distributions, minor},
    version::at_least,
};

/// Modules from which nothing belongs into a model: who runs programs, opens connections or deletes.
const DANGEROUS_MODULES: &[&str] = &[
    "asyncio.subprocess",
    "commands",
    "ctypes",
    "ftplib",
    "http.client",
    "nt",
    "os",
    "posix",
    "pty",
    "requests",
    "runpy",
    "shutil",
    "smtplib",
    "socket",
    "subprocess",
    "telnetlib",
    "urllib.request",
    "urllib2",
    "webbrowser",
];
const DANGEROUS_BUILTINS: &[&str] = &[
    "__import__",
    "breakpoint",
    "compile",
    "eval",
    "exec",
    "execfile",
    "open",
];
/// Modules by their names in Python 2, which protocols before 3 write; Python reads them as its own.
const RENAMED: &[&str] = &[
    "__builtin__",
    "copy_reg",
    "exceptions",
    "cPickle",
    "cStringIO",
    "StringIO",
    "UserDict",
    "UserList",
    "UserString",
    "itertools",
    "Queue",
    "__torch__",
];
/// Modules that are there from one release of a library to before another: what is pickled with one
/// cannot be read with the others.
const MOVED: &[(&str, &str, &str, &str)] = &[
    ("keras.src", "keras", "2.13", ""),
    ("numpy._core", "numpy", "1.26.1", ""),
    ("pandas.core.indexes.numeric", "pandas", "", "2.0"),
    ("sklearn._loss", "scikit-learn", "1.1", ""),
    ("sklearn.ensemble._gb_losses", "scikit-learn", "0.22", "1.5"),
    ("sklearn.ensemble.forest", "scikit-learn", "", "0.24"),
    ("sklearn.externals.joblib", "scikit-learn", "", "0.23"),
    ("sklearn.linear_model.logistic", "scikit-learn", "", "0.24"),
    ("sklearn.preprocessing.data", "scikit-learn", "", "0.24"),
    ("sklearn.preprocessing.label", "scikit-learn", "", "0.24"),
    ("sklearn.tree.tree", "scikit-learn", "", "0.24"),
];

pub(super) fn check(inspection: &Inspection, around: &Around<'_>, found: &mut Vec<Finding>) {
    for model in &inspection.models {
        let mut of_file = vec![];
        of_file.extend(damage(model));
        of_file.extend(too_new(model, around));
        of_file.extend(bytecode(model, around));
        of_file.extend(dangerous(model));
        of_file.extend(of_notebook(model, inspection));
        of_file.extend(missing(model, inspection, around));
        of_file.extend(moved(model, around));
        for mut finding in of_file {
            // One that the code does not name may not be meant to be loaded at all.
            if !model.named {
                finding.level = super::weaker(finding.level);
            }
            found.push(finding.at(&model.file, None));
        }
    }
}

fn damage(model: &ModelFile) -> Option<Finding> {
    let (text, hint) = match model.damage? {
        Damage::Cut => (
            "ends in the middle of a pickle",
            "It was not copied or saved in full; put the whole file into the package",
        ),
        Damage::Pointer => (
            "is a pointer of Git LFS, not the file itself",
            "Run `git lfs pull` and send the package again",
        ),
        Damage::Empty => ("is empty", "Put the whole file into the package"),
    };
    Some(Finding::new(Level::Error, "damaged-file", text).hint(hint))
}

fn too_new(model: &ModelFile, around: &Around<'_>) -> Option<Finding> {
    let python = &around.environment.python;
    (model.protocol > HIGHEST).then(|| {
        let text = format!(
            "is pickled with protocol {}, and Python {python} reads up to {HIGHEST}",
            model.protocol
        );
        Finding::new(Level::Error, "pickle-protocol", text)
            .hint(format!("Save it again with protocol={HIGHEST}"))
    })
}

/// Functions pickled by value are the bytecode of one Python.
fn bytecode(model: &ModelFile, around: &Around<'_>) -> Option<Finding> {
    let python = minor(&around.environment.python);
    let of = |count: usize| match count {
        18.. => (11, u32::MAX, "3.11 or later"),
        _ => (8, 10, "3.8 to 3.10"),
    };
    let (.., made) = model
        .code_arguments
        .iter()
        .map(|count| of(*count))
        .find(|(oldest, newest, _)| !(*oldest..=*newest).contains(&python))?;
    let text = format!(
        "holds functions in the bytecode of Python {made}, and the image has {}",
        around.environment.python
    );
    let fits = |p: &str| {
        let there = minor(p);
        model.code_arguments.iter().all(|c| {
            let (oldest, newest, _) = of(*c);
            (oldest..=newest).contains(&there)
        })
    };
    let mut finding = Finding::new(Level::Error, "python-bytecode", text).hint(
        "Put the functions into a module of the package instead, or deploy on an image with the Python it was saved with",
    );
    let image = around.environment.images.iter().find(|(_, p)| fits(p));
    finding.image = image.map(|(uri, _)| uri.clone());
    Some(finding)
}

fn dangerous(model: &ModelFile) -> Option<Finding> {
    let is_dangerous = |(module, name): &&(String, String)| {
        let within = |m: &str| {
            module
                .strip_prefix(m)
                .is_some_and(|r| r.is_empty() || r.starts_with('.'))
        };
        let builtin = module == "builtins" || module == "__builtin__";
        // Paths are harmless, and saved by encoders of files.
        let path = module.ends_with("path") || name == "PathLike";
        (DANGEROUS_MODULES.iter().any(|m| within(m)) && !path)
            || (builtin && DANGEROUS_BUILTINS.contains(&name.as_str()))
    };
    let names: Vec<String> = model
        .globals
        .iter()
        .filter(is_dangerous)
        .take(5)
        .map(|(module, name)| format!("{module}.{name}"))
        .collect();
    (!names.is_empty()).then(|| {
        let text = format!("uses {} when it is loaded, as no model needs to", names.join(", "));
        Finding::new(Level::Warning, "dangerous-pickle", text).hint(
            "Loading runs it, closed in the model's container; find out who made the file before you trust its predictions",
        )
    })
}

/// Classes of a notebook or script, which are not there when the model is served.
fn of_notebook(model: &ModelFile, inspection: &Inspection) -> Option<Finding> {
    let names: Vec<&str> = model
        .globals
        .iter()
        .filter(|(module, _)| module == "__main__")
        .map(|(_, name)| name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    let (level, ending) = if inspection.sources.touches_main {
        (Level::Note, "; the package seems to put it there")
    } else {
        (Level::Error, "")
    };
    let names = names.join(", ");
    let text = format!("needs {names} of __main__, the notebook or script that saved it{ending}");
    Some(Finding::new(level, "notebook-class", text).hint(format!(
        "Move {names} into a module of the package, for example own.py, import it from there where you train, and save the model again"
    )))
}

/// Modules that are nowhere, and classes that are not in the package's own modules.
fn missing(model: &ModelFile, inspection: &Inspection, around: &Around<'_>) -> Vec<Finding> {
    let sources = &inspection.sources;
    let mut found = vec![];
    let mut absent: BTreeMap<&str, &str> = BTreeMap::new();
    for (module, name) in &model.globals {
        let top = module.split('.').next().unwrap_or(module);
        if top == "__main__" || RENAMED.contains(&top) {
            continue;
        }
        if is_own(sources, module, around) {
            let own = name.split('.').next().unwrap_or(name);
            let place = match sources.modules.get(module) {
                Some(Own::File(path)) => path.clone(),
                Some(_) => continue,
                None => {
                    let path = module.replace('.', "/");
                    let text = format!("needs {module}.{name}, and the package has no {path}.py");
                    let hint = format!("Put {path}.py into the package, or save the model again");
                    found.push(Finding::new(Level::Error, "missing-own-module", text).hint(hint));
                    continue;
                }
            };
            if sources
                .undefined
                .contains(&(module.clone(), own.to_owned()))
            {
                let text = format!("needs {name}, which {place} does not define");
                found.push(
                    Finding::new(Level::Error, "missing-class", text).hint(format!(
                        "Bring {own} back into {place}, or save the model again"
                    )),
                );
            }
        } else if !is_there(module, around) {
            absent.entry(top).or_insert(module);
        }
    }
    for (top, module) in absent {
        let provided = around.libraries.provide(module);
        if provided == Provided::Likely {
            continue;
        }
        let level = match provided {
            Provided::No => Level::Error,
            _ => Level::Warning,
        };
        let text = format!("needs the module {top}, which is not in the environment");
        let finding = Finding::new(level, "missing-module", text);
        found.push(match distributions(module).first() {
            Some(library) => {
                let finding = finding.hint("Add the line to requirements.txt");
                around.with_library(finding, library)
            }
            None => finding.hint(format!(
                "If {top} is code of your own, put it into the package directory; if it is a library, add the distribution that brings it to requirements.txt"
            )),
        });
    }
    found
}

/// Modules that the library's version in the environment does not have.
fn moved(model: &ModelFile, around: &Around<'_>) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut found = vec![];
    for (module, _) in &model.globals {
        let within = |m: &str| {
            module
                .strip_prefix(m)
                .is_some_and(|r| r.is_empty() || r.starts_with('.'))
        };
        let Some((part, library, from, until)) = MOVED.iter().find(|(m, ..)| within(m)) else {
            continue;
        };
        let Some(present) = around.libraries.version(library).filter(|v| !v.is_empty()) else {
            continue;
        };
        let too_old = !from.is_empty() && !at_least(present, from);
        let too_new = !until.is_empty() && at_least(present, until);
        if !(too_old || too_new) || !told.insert(part) {
            continue;
        }
        let (when, line) = if too_old {
            (format!("{from} or later"), format!("{library}>={from}"))
        } else {
            (format!("before {until}"), format!("{library}<{until}"))
        };
        let text = format!(
            "was saved with {library} {when}, whose {part} it needs, and the environment has {present}"
        );
        let finding = Finding::new(Level::Error, "moved-module", text)
            .hint("Take the version it was saved with, or save it again with the other");
        let pinned = around.recorded.contains_key(*library);
        found.push(if pinned {
            around.with_library(finding, library)
        } else {
            finding.requirement(line)
        });
    }
    found
}
