//! What a package's requirement files ask for, and what is refused. This is the one place of that
//! policy.
//!
//! The files are a stranger's. The installer would follow paths into the server's own files, run a
//! version-control program, and put the server's environment variables where a file says `${NAME}`;
//! so only requirements from an index, wheels by `https` address and a few options are let through.

mod line;
mod option;

use std::collections::{BTreeMap, BTreeSet};

use luthier_ports::normalised;
use luthier_types::{
    Code, Digest, Error, Evidence, RequirementFiles, Result, include, logical_lines,
};

/// Why something is refused and what to do.
type Refusal = (String, &'static str);

/// Checked requirement files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// What is asked for.
    pub(crate) asked: Vec<Line>,
    /// What only bounds it (`-c`).
    pub(crate) bounds: Vec<Line>,
    /// What the options say.
    pub(crate) options: Options,
}

/// A requirement and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The requirement alone, without comment and options.
    pub(crate) text: String,
    /// The name of what it asks for, normalised.
    pub(crate) name: String,
    /// Digests that its file may have; any when empty.
    pub(crate) hashes: BTreeSet<Digest>,
    /// The file it stands in, by its path within the package.
    pub(crate) file: String,
    /// The line in that file, from 1.
    pub(crate) number: usize,
}

/// What the options of requirement files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Where files come from beside the server's indexes, as `--extra-index-url URL` or
    /// `--find-links URL`, each once.
    pub(crate) origins: Vec<String>,
    /// Whether versions before a release count.
    pub(crate) pre: bool,
    /// Whether each requirement must name the digests of its file.
    pub(crate) hashed: bool,
    /// What must be a wheel.
    pub(crate) only_wheels: Names,
    /// What must be built from its source.
    pub(crate) from_source: BTreeSet<String>,
}

/// Some names or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    all: bool,
    some: BTreeSet<String>,
}

// === impl Requirements ===

impl Requirements {
    /// Checks the files, beginning with [`RequirementFiles::MAIN`].
    ///
    /// # Errors
    /// `RequirementsError` naming the file and line that is refused and why.
    pub(crate) fn parse(files: &RequirementFiles) -> Result<Self> {
        let mut parsed = Self::default();
        let mut seen = BTreeSet::new();
        if files.main().is_some() {
            parsed.read(files, RequirementFiles::MAIN, false, &mut seen)?;
        }
        if parsed.options.hashed
            && let Some(line) = parsed.asked.iter().find(|l| l.hashes.is_empty())
        {
            return Err(refused(
                &line.file,
                line.number,
                &line.text,
                (
                    "it has no hash, though `--require-hashes` is asked for".to_owned(),
                    "Add `--hash=sha256:…` to it, or remove `--require-hashes`: what is resolved \
                     is locked with hashes in any case.",
                ),
            ));
        }
        Ok(parsed)
    }

    fn read(
        &mut self,
        files: &RequirementFiles,
        file: &str,
        constraint: bool,
        seen: &mut BTreeSet<(String, bool)>,
    ) -> Result<()> {
        // One that is included twice says the same twice.
        if !seen.insert((file.to_owned(), constraint)) {
            return Ok(());
        }
        let text = files.0.get(file).map_or("", String::as_str);
        for (number, line) in logical_lines(text) {
            let refuse = |refusal| refused(file, number, &line, refusal);
            safe(&line).map_err(refuse)?;
            if let Some(included) = include(&line) {
                let next = RequirementFiles::resolve(file, included.path)
                    .filter(|next| files.0.contains_key(next))
                    .ok_or_else(|| {
                        refuse((
                            format!("there is no file `{}` in the package", included.path),
                            "Put the file into the package and include it by its path relative \
                             to this one.",
                        ))
                    })?;
                self.read(files, &next, constraint || included.constraint, seen)?;
            } else if line.starts_with('-') {
                option::read(&line, &mut self.options).map_err(refuse)?;
            } else {
                let (name, text, hashes) = line::read(&line).map_err(refuse)?;
                let line = Line {
                    text,
                    name,
                    hashes,
                    file: file.to_owned(),
                    number,
                };
                if constraint {
                    self.bounds.push(line);
                } else {
                    self.asked.push(line);
                }
            }
        }
        Ok(())
    }

    /// Every line that names something.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.asked.iter().chain(&self.bounds)
    }

    /// What is named, normalised.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.lines().map(|line| line.name.clone()).collect()
    }

    /// The digests that files may have, of the names for which some are given.
    pub(crate) fn hashes(&self) -> BTreeMap<&str, BTreeSet<&Digest>> {
        let mut hashes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for line in self.lines().filter(|line| !line.hashes.is_empty()) {
            hashes
                .entry(line.name.as_str())
                .or_default()
                .extend(&line.hashes);
        }
        hashes
    }

    /// Everything that decides what these resolve to, as text.
    pub(crate) fn question(&self) -> String {
        let lines = |lines: &[Line]| -> Vec<(String, Vec<String>)> {
            let hashes = |l: &Line| l.hashes.iter().map(|h| h.as_str().to_owned()).collect();
            lines.iter().map(|l| (l.text.clone(), hashes(l))).collect()
        };
        format!(
            "{:?}",
            (lines(&self.asked), lines(&self.bounds), &self.options)
        )
    }
}

// === impl Line ===

impl Line {
    /// Where it stands, for people: `line 3 of requirements.txt`.
    pub(crate) fn place(&self) -> String {
        format!("line {} of {}", self.number, self.file)
    }
}

// === impl Names ===

impl Names {
    /// Whether `name`, normalised, is one of them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all || self.some.contains(name)
    }

    /// Whether they are all names.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }
}

fn refused(file: &str, number: usize, line: &str, (why, hint): Refusal) -> Error {
    // What stands there may be a password.
    let shown: String = luthier_host::mask_credentials(line)
        .chars()
        .take(200)
        .collect();
    Error::new(
        Code::RequirementsError,
        format!("line {number} of {file} is refused: {why}"),
    )
    .hint(hint)
    .evidence(Evidence::output(&shown.escape_debug().to_string()))
}

/// Refuses what no line may hold.
fn safe(line: &str) -> std::result::Result<(), Refusal> {
    if line.contains("${") {
        return Err((
            "it refers to an environment variable".to_owned(),
            "Write the value itself. Credentials belong in the server's settings \
             (LUTHIER_INDEX_CREDENTIALS), not in a package.",
        ));
    }
    if line.contains('\\') || line.chars().any(|c| c.is_control() && c != '\t') {
        return Err((
            "it holds a backslash or a control character".to_owned(),
            "Write plain requirements, one per line.",
        ));
    }
    Ok(())
}

/// Checks an address, of which credentials are never a part: `https`, or `http` to this machine if
/// `loopback`. Returns its part after the scheme.
fn address(text: &str, loopback: bool) -> std::result::Result<&str, Refusal> {
    let place = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(place), _) => place,
        (None, Some(place)) if loopback && is_loopback(place) => place,
        _ => {
            return Err((
                "its address does not start with `https://`".to_owned(),
                "Use an https address.",
            ));
        }
    };
    if authority(place).contains('@') {
        return Err((
            "its address holds credentials".to_owned(),
            "Credentials belong in the server's settings (LUTHIER_INDEX_CREDENTIALS), not in a \
             package.",
        ));
    }
    if authority(place).is_empty() || text.contains(char::is_whitespace) {
        return Err((
            "its address names no host".to_owned(),
            "Correct the address.",
        ));
    }
    Ok(place)
}

fn authority(place: &str) -> &str {
    place.split(['/', '?', '#', ' ']).next().unwrap_or_default()
}

fn is_loopback(place: &str) -> bool {
    let authority = authority(place);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// The normalised name of a pin such as `scikit_learn==1.0.2`.
pub(crate) fn pin_name(pin: &str) -> String {
    let end = pin
        .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .unwrap_or(pin.len());
    normalised(&pin[..end])
}

#[cfg(test)]
mod tests;
