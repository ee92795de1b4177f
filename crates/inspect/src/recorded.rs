//! Versions that models were saved with, found in their files without loading them.
//!
//! Scikit-learn writes the key `_sklearn_version` and then its version into every estimator's
//! pickled state. Joblib mixes raw arrays into the pickle, so opcodes cannot be followed from the
//! start; the key itself is looked for instead, and only what follows it is read as opcodes.

use std::{
    collections::BTreeSet,
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

/// Most bytes of one file that are looked at, unpacked.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
const KEY: &[u8] = b"_sklearn_version";
/// Most bytes after the key that a version takes, opcodes included.
const WINDOW: usize = 64;

/// A library's version that a file says it was written with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recorded {
    /// Path within the package.
    pub file: String,
    /// Distribution, for example `scikit-learn`.
    pub library: String,
    /// Its version.
    pub version: String,
}

/// The scikit-learn versions in a stream of pickles, looked for a piece at a time.
pub(crate) fn sklearn_versions(stream: impl Read) -> io::Result<BTreeSet<String>> {
    let mut stream = stream.take(MAX_BYTES);
    let mut found = BTreeSet::new();
    let mut piece = vec![0; 256 * 1024];
    let mut kept = 0;
    loop {
        let read = match stream.read(&mut piece[kept..]) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let bytes = &piece[..kept + read];
        // A key near the end waits for what follows it, unless nothing does.
        let last = if read == 0 {
            bytes.len()
        } else {
            bytes.len().saturating_sub(KEY.len() + WINDOW)
        };
        let mut at = 0;
        while let Some(hit) = find(&bytes[at..], KEY).map(|i| at + i) {
            if hit >= last {
                break;
            }
            at = hit + KEY.len();
            found.extend(version(&bytes[at..bytes.len().min(at + WINDOW)]));
        }
        if read == 0 {
            return Ok(found);
        }
        let start = last.max(at).min(bytes.len());
        let end = bytes.len();
        piece.copy_within(start..end, 0);
        kept = end - start;
    }
}

fn find(bytes: &[u8], key: &[u8]) -> Option<usize> {
    let first = *key.first()?;
    let mut at = 0;
    while let Some(hit) = bytes.get(at..)?.iter().position(|b| *b == first) {
        at += hit;
        if bytes[at..].starts_with(key) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Reads the text that follows the key: opcodes that remember the key, then one that pushes a text.
fn version(mut code: &[u8]) -> Option<String> {
    // Protocol 0 writes texts as lines.
    code = code.strip_prefix(b"\n").unwrap_or(code);
    loop {
        let (opcode, rest) = code.split_first()?;
        let text = match opcode {
            b'\x94' => {
                code = rest;
                continue;
            }
            b'q' => {
                code = rest.get(1..)?;
                continue;
            }
            b'r' => {
                code = rest.get(4..)?;
                continue;
            }
            b'p' => {
                code = &rest[rest.iter().position(|b| *b == b'\n')? + 1..];
                continue;
            }
            b'\x8c' => rest.get(1..1 + usize::from(*rest.first()?))?,
            b'X' => {
                let size: [u8; 4] = rest.get(..4)?.try_into().ok()?;
                rest.get(4..4_usize.checked_add(u32::from_le_bytes(size) as usize)?)?
            }
            b'V' => &rest[..rest.iter().position(|b| *b == b'\n')?],
            _ => return None,
        };
        let text = std::str::from_utf8(text).ok()?;
        let fits = text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".+-!".contains(c));
        return fits.then(|| text.to_owned());
    }
}

#[cfg(test)]
mod tests;
