//! Imports: modules that are missing from the environment or from the package itself.

use std::collections::BTreeSet;

use super::{Around, provided::Provided, weaker};
use crate::{
    Finding, Import, Inspection, Level, Own, Runs,
    sources::Sources,
    tables::{distributions, is_standard, minor, removed_after},
};

pub(super) fn check(inspection: &Inspection, around: &Around<'_>, found: &mut Vec<Finding>) {
    let sources = &inspection.sources;
    let mut missing = vec![];
    for (file, source) in &sources.files {
        for import in &source.imports {
            let runs = source.runs.max(import.runs);
            if runs == Runs::Never {
                continue;
            }
            let Some(module) = Sources::absolute(file, import) else {
                continue;
            };
            if import.dots > 0 || is_own(sources, &module, around) {
                found.extend(
                    own(sources, &module, import, runs).map(|f| f.at(file, Some(import.line))),
                );
                found.extend(undefined(sources, &module, import, runs, file));
            } else {
                missing.extend(absent(&module, import, runs, around).map(|f| {
                    let top = top(&module).to_owned();
                    (top, f.at(file, Some(import.line)))
                }));
            }
        }
    }
    // Of one module the worst is told, and of equals the first.
    missing.sort_by(|a, b| (&a.1.level, &a.1.line).cmp(&(&b.1.level, &b.1.line)));
    let mut told = BTreeSet::new();
    missing.retain(|(module, _)| told.insert(module.clone()));
    found.extend(missing.into_iter().map(|(_, f)| f));
}

fn top(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

/// Whether the package itself brings a module. A directory without `__init__.py` gives way to a
/// library of its name.
pub(super) fn is_own(sources: &Sources, module: &str, around: &Around<'_>) -> bool {
    match sources.owns(module) {
        None => false,
        Some(Own::Directory) => around.libraries.provide(top(module)) != Provided::Yes,
        Some(_) => true,
    }
}

/// A module of the package that is not there.
fn own(sources: &Sources, module: &str, import: &Import, runs: Runs) -> Option<Finding> {
    // `from . import x`: the names are looked at one by one.
    if module.is_empty() || sources.modules.contains_key(module) {
        return None;
    }
    let parent = module.rsplit_once('.').map_or("", |(parent, _)| parent);
    // `import a.b` where `a.py` is a file: what `a` makes of it cannot be seen.
    if matches!(sources.modules.get(parent), Some(Own::File(f)) if !f.ends_with("__init__.py")) {
        return None;
    }
    let path = module.replace('.', "/");
    let written = format!("{}{}", ".".repeat(import.dots), import.module);
    let text = format!("imports {written}, and the package has no {path}.py");
    Some(
        Finding::new(level(runs), "missing-own-module", text).hint(format!(
            "Put {path}.py into the package directory, or correct the import"
        )),
    )
}

/// Names that a module of the package does not define.
fn undefined(
    sources: &Sources,
    module: &str,
    import: &Import,
    runs: Runs,
    file: &str,
) -> Vec<Finding> {
    let is_undefined = |name: &&String| {
        let pair = (module.to_owned(), (*name).clone());
        // `from . import x`, with no such file and no `__init__.py` that could define it.
        let nowhere = module.is_empty()
            && !sources.modules.contains_key(name.as_str())
            && !sources.files.contains_key("__init__.py");
        runs == Runs::Always && (sources.undefined.contains(&pair) || nowhere)
    };
    let names = import.names.iter().filter(is_undefined);
    names
        .map(|name| {
            let place = match sources.modules.get(module) {
                Some(Own::File(path)) => path.as_str(),
                _ => "the package",
            };
            let text = format!("imports {name}, which {place} does not define");
            Finding::new(Level::Error, "missing-name", text)
                .at(file, Some(import.line))
                .hint(format!("Define {name} in {place}, or correct the import"))
        })
        .collect()
}

/// A module that no library of the environment brings.
fn absent(module: &str, import: &Import, runs: Runs, around: &Around<'_>) -> Option<Finding> {
    let environment = around.environment;
    if is_there(module, around) {
        return None;
    }
    // What it stands in for is there, so it is not imported at all.
    if !import.instead_of.is_empty() && import.instead_of.iter().all(|m| is_there(m, around)) {
        return None;
    }
    let provided = around.libraries.provide(module);
    if provided == Provided::Likely && distributions(module).is_empty() {
        return None;
    }
    let level = match provided {
        Provided::No => level(runs),
        _ => weaker(level(runs)),
    };
    let top = top(module);
    // Nobody brings what has a name of the standard library's, unless it is known to.
    let certain = self::level(runs);
    if let Some(last) = removed_after(top) {
        let text = format!(
            "imports {top}, which Python {} no longer has; Python 3.{last} was the last with it",
            environment.python
        );
        let image = environment.images.iter().find(|(_, p)| minor(p) <= last);
        let mut finding = Finding::new(certain, "missing-module", text)
            .hint("Deploy on an image with an older Python, or do without the module");
        finding.image = image.map(|(uri, _)| uri.clone());
        if let Some(library) = distributions(module).first() {
            finding = finding.requirement(*library);
        }
        return Some(finding);
    }
    if is_standard(top, "3.99") {
        let text = format!(
            "imports {top}, which Python {} does not have yet",
            environment.python
        );
        let image = environment.images.iter().find(|(_, p)| is_standard(top, p));
        let mut finding = Finding::new(certain, "missing-module", text)
            .hint("Deploy on an image with a newer Python");
        finding.image = image.map(|(uri, _)| uri.clone());
        return Some(finding);
    }
    let what = match level {
        Level::Error => format!("imports {top}, which is not in the environment"),
        Level::Warning if provided == Provided::Unknown => {
            format!("imports {top}, which no library of the environment is known to bring")
        }
        Level::Warning => format!("may import {top}, which is not in the environment"),
        Level::Note => format!("can use {top}, which is not in the environment, and does without"),
    };
    let finding = Finding::new(level, "missing-module", what);
    Some(match distributions(module).first() {
        Some(library) => {
            let finding = finding.hint("Add the line to requirements.txt");
            around.with_library(finding, library)
        }
        None => finding.hint(format!(
            "If {top} is code of your own, put it into the package directory; if it is a library, add the distribution that brings it to requirements.txt"
        )),
    })
}

/// Whether a module is in the standard library or in one of the environment.
pub(super) fn is_there(module: &str, around: &Around<'_>) -> bool {
    is_standard(module, &around.environment.python)
        || around.libraries.provide(module) == Provided::Yes
}

const fn level(runs: Runs) -> Level {
    match runs {
        Runs::Always => Level::Error,
        Runs::Perhaps | Runs::Later => Level::Warning,
        Runs::Optional | Runs::Never => Level::Note,
    }
}
