//! Reading `requirements.txt` and the files it includes. What their lines may say is for the one
//! who resolves them to decide; here it is only made sure that nothing but the package is read.

use std::{io::Read as _, path::Path};

use luthier_types::{Code, Error, Evidence, RequirementFiles, include, logical_lines};

/// Largest file, in bytes.
const FILE_BYTES: u64 = 256 * 1024;
/// Most files.
const FILES: usize = 50;
/// Deepest chain of files that include one another.
const DEPTH: usize = 10;

/// Reads `requirements.txt` of the package at `dir` and all it includes; empty if there is none.
/// Nothing outside of `dir` is read, whatever the lines or links say.
///
/// # Errors
/// `RequirementsError` naming the file and line: an include that is missing, leads out of the
/// package or goes in a circle, a file that is not text, or too many. `Internal` when the directory
/// cannot be read.
pub fn read_requirements(dir: &Path) -> Result<RequirementFiles, Error> {
    let top = fs_err::canonicalize(dir).map_err(unreadable)?;
    let mut files = RequirementFiles::default();
    if fs_err::symlink_metadata(top.join(RequirementFiles::MAIN)).is_err() {
        return Ok(files);
    }
    let main = RequirementFiles::MAIN.to_owned();
    read(&top, &main, &mut vec![], &mut files)?;
    Ok(files)
}

/// Reads the file at `path` and what it includes; `open` are the files that led to it.
fn read(
    top: &Path,
    path: &str,
    open: &mut Vec<String>,
    files: &mut RequirementFiles,
) -> Result<(), Error> {
    let text = text(top, path)?;
    files.0.insert(path.to_owned(), text.clone());
    open.push(path.to_owned());
    for (number, line) in logical_lines(&text) {
        let Some(included) = include(&line) else {
            continue;
        };
        let refused = |cause: &str, hint: &str| {
            let shown: String = line.chars().take(200).collect();
            Error::new(
                Code::RequirementsError,
                format!("line {number} of {path} {cause}"),
            )
            .hint(hint)
            .evidence(Evidence::output(&shown))
        };
        let Some(next) = RequirementFiles::resolve(path, included.path) else {
            return Err(refused(
                "includes a file outside of the package",
                "Put the file into the package and include it by its path relative to this one.",
            ));
        };
        if open.contains(&next) {
            return Err(refused(
                &format!("includes {next}, which includes this file"),
                "Remove one of the two lines.",
            ));
        }
        if files.0.contains_key(&next) {
            continue;
        }
        if open.len() >= DEPTH || files.0.len() >= FILES {
            return Err(refused(
                &format!("includes more than {FILES} files or {DEPTH} within one another"),
                "Write the requirements into fewer files.",
            ));
        }
        match fs_err::canonicalize(top.join(&next)) {
            Ok(real) if !real.starts_with(top) => {
                return Err(refused(
                    &format!("includes {next}, a link that leads out of the package"),
                    "Put the file itself into the package.",
                ));
            }
            Ok(real) if real.is_file() => {}
            _ => {
                return Err(refused(
                    &format!("includes {next}, which is not in the package"),
                    "Put the file into the package, or remove the line.",
                ));
            }
        }
        read(top, &next, open, files)?;
    }
    open.pop();
    Ok(())
}

/// The text of a file of the package.
fn text(top: &Path, path: &str) -> Result<String, Error> {
    let bad = |cause: String| Error::new(Code::RequirementsError, cause);
    let real = fs_err::canonicalize(top.join(path)).map_err(unreadable)?;
    if !real.starts_with(top) || !real.is_file() {
        return Err(bad(format!("{path} is no file of the package"))
            .hint("Make it a plain text file, one requirement per line."));
    }
    let mut content = vec![];
    fs_err::File::open(&real)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > FILE_BYTES {
        return Err(bad(format!("{path} has more than {FILE_BYTES} bytes"))
            .hint("List only what the model imports."));
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(bad(format!("{path} is not UTF-8 text")).hint(
            "Save it as UTF-8; PowerShell's `>` writes UTF-16, use `| Out-File -Encoding utf8`.",
        )),
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::internal("reading the requirements", error)
}

#[cfg(test)]
mod tests;
