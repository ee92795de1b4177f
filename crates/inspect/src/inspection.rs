//! Whether an unpacked directory is a package, and what it says about itself.

use std::{collections::BTreeSet, path::Path};

use luthier_types::{Code, Error, Evidence, RequirementFiles};
use serde::{Deserialize, Serialize};

use crate::{
    files::{list, read},
    models::{self, ModelFile},
    python::{Defined, MAX_SOURCE, ModelClass, Source, Syntax},
    recorded::Recorded,
    requirements::read_requirements,
    sources::Sources,
};

/// What a package says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Top-level modules imported anywhere in the package that are not its own. The standard
    /// library's are among them.
    pub imports: BTreeSet<String>,
    /// `requirements.txt` and what it includes; empty if there is none.
    pub requirements: RequirementFiles,
    /// Versions of libraries that model files say they were written with.
    pub recorded: Vec<Recorded>,
    /// Its Python files.
    pub sources: Sources,
    /// Its model files, as far as they are pickled or damaged.
    pub models: Vec<ModelFile>,
    /// The class of its model, when it can be told for sure.
    pub model: Option<ModelClass>,
    /// Every file, by path.
    pub files: Vec<String>,
    /// Files with a recorded version that its code does not name, as far as can be told.
    pub unnamed: BTreeSet<String>,
}

/// Inspects the package unpacked at `dir`. Nothing of it is run. Links are followed, as
/// [`crate::unpack`] lets none lead out.
///
/// # Errors
/// [`Code::InvalidPackage`] when there is no `package.py`, it does not parse, or it defines no
/// `get_model`; [`Code::RequirementsError`] when `requirements.txt` includes what is not in the package;
/// [`Code::Internal`] when the directory cannot be read.
pub fn inspect(dir: &Path) -> Result<Inspection, Error> {
    let files = list(dir)?;
    let model = check_package(dir, &files)?;
    let requirements = read_requirements(dir)?;
    let mut sources = Sources::read(dir, &files)?;
    let models::Looked {
        models,
        recorded,
        unnamed,
    } = models::look(dir, &files)?;
    let pickled = models.iter().flat_map(|m| m.globals.iter().cloned());
    sources.look_up(dir, pickled.collect())?;
    let imports = sources
        .files
        .values()
        .flat_map(|source| &source.imports)
        .filter(|import| import.dots == 0 && sources.owns(&import.module).is_none())
        .filter_map(|import| import.module.split('.').next().map(str::to_owned))
        .collect();
    Ok(Inspection {
        imports,
        requirements,
        recorded,
        sources,
        models,
        model,
        files,
        unnamed,
    })
}

/// Checks that there is a package, and gives the class of its model.
fn check_package(dir: &Path, files: &[String]) -> Result<Option<ModelClass>, Error> {
    let bad = |cause: String| Error::new(Code::InvalidPackage, cause);
    if !dir.join("package.py").is_file() {
        let error = bad("there is no package.py at the top of the package".to_owned());
        let deeper = files
            .iter()
            .filter(|f| f.ends_with("/package.py"))
            .min_by_key(|f| f.len());
        let near = files.iter().find(|f| f.eq_ignore_ascii_case("package.py"));
        return Err(match (deeper, near) {
            (_, Some(near)) => error.hint(format!("Rename {near} to package.py.")),
            (Some(deeper), None) => {
                let inner = deeper.trim_end_matches("/package.py");
                error.hint(format!(
                    "There is {deeper}: send the directory {inner} itself, so that package.py is at its top."
                ))
            }
            (None, None) => error.hint(
                "Add package.py, which defines get_model() returning an object with predict(df).",
            ),
        });
    }
    let Some(text) = read(&dir.join("package.py"), MAX_SOURCE)? else {
        return Ok(None);
    };
    let Some(source) = Source::parse(&text) else {
        return Ok(None);
    };
    let syntax = source.syntax();
    if let Syntax::Bad(at) = &syntax {
        return Err(bad(format!(
            "package.py does not parse: line {}, column {}",
            at.line, at.column
        ))
        .hint("Correct the syntax; `python -m py_compile package.py` shows the same place.")
        .evidence(Evidence::output(&format!("{:>5} | {}", at.line, at.text))));
    }
    match source.defines("get_model") {
        Defined::Yes | Defined::Perhaps => Ok(source.model_class()),
        Defined::No if syntax == Syntax::Unknown => Ok(None),
        Defined::Async => Err(bad("get_model in package.py is a coroutine".to_owned())
            .hint("Write `def get_model():` instead of `async def get_model():`.")),
        Defined::No => Err(bad("package.py defines no get_model".to_owned()).hint(
            "Add a function `def get_model():` at the top level that returns an object with predict(df).",
        )),
    }
}

#[cfg(test)]
mod tests;
