//! Lock files: pinned requirements with hashes.

use luthier_ports::normalised;
use luthier_types::Digest;

use crate::requirements::pin_name;

/// A rule an image's lock file carries in its first lines: `# keep numpy<2 for pyarrow==14.0.1`
/// binds `numpy` as long as nobody replaces `pyarrow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    /// The constraint.
    pub(crate) constraint: String,
    /// The library it is for, `name==version`.
    pub(crate) library: String,
}

/// The rules of an image's lock.
pub(crate) fn keeps(lock: &str) -> Vec<Keep> {
    lock.lines()
        .filter_map(|line| {
            let (constraint, library) = line.strip_prefix("# keep ")?.split_once(" for ")?;
            Some(Keep {
                constraint: constraint.trim().to_owned(),
                library: library.trim().to_owned(),
            })
        })
        .collect()
}

/// The lock without comments and blank lines, so that equal resolutions are equal texts.
pub(crate) fn canonical(lock: &str) -> String {
    lock.lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.trim_start().starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The pins of a lock, normalised name and the rest up to the hashes (`==1.2` or ` @ https://…`).
pub(crate) fn pins(lock: &str) -> Vec<(String, String)> {
    canonical(lock)
        .lines()
        .filter(|line| !line.starts_with([' ', '-']))
        .map(|line| {
            let pin = line.trim_end_matches('\\').trim_end();
            let length = pin
                .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
                .unwrap_or(pin.len());
            (normalised(&pin[..length]), pin[length..].to_owned())
        })
        .collect()
}

/// Lets the pin of `name` also be met by the file with this SHA-256.
pub(crate) fn with_hash(lock: &str, name: &str, digest: &Digest) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in lock.lines() {
        if !line.starts_with(' ') {
            inside = pin_name(line) == name;
        }
        text.push_str(line);
        if inside && !line.ends_with('\\') {
            text.push_str(&format!(" \\\n    --hash=sha256:{digest}"));
        }
        text.push('\n');
    }
    text
}

/// The digests in a lock.
pub(crate) fn hashes(lock: &str) -> Vec<Digest> {
    lock.split_whitespace()
        .filter_map(|word| word.strip_prefix("--hash=sha256:")?.parse().ok())
        .collect()
}

/// What changed from one lock to another, for people: `numpy 1.26.4 → 1.23.5`, `+ scipy 1.13.1`.
pub(crate) fn changes(from: &str, to: &str) -> Vec<String> {
    let (from, to) = (pins(from), pins(to));
    let version = |text: &str| text.trim_start_matches("==").trim().to_owned();
    let mut lines = vec![];
    for (name, new) in &to {
        match from.iter().find(|(n, _)| n == name) {
            None => lines.push(format!("+ {name} {}", version(new))),
            Some((_, old)) if old != new => {
                lines.push(format!("{name} {} → {}", version(old), version(new)));
            }
            Some(_) => {}
        }
    }
    for (name, old) in &from {
        if !to.iter().any(|(n, _)| n == name) {
            lines.push(format!("- {name} {}", version(old)));
        }
    }
    lines
}

/// Whether a rule holds for a package that names `names` itself.
pub(crate) fn holds(keep: &Keep, names: &std::collections::BTreeSet<String>) -> bool {
    !names.contains(&pin_name(&keep.library))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "# keep numpy<2 for pyarrow==14.0.1\n\
        Flask==2.2.5 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n\
        # via x\n\nnumpy==1.26.4 \\\n    --hash=sha256:cc\n\
        model @ https://example.org/m.whl \\\n    --hash=sha256:dd\n";

    #[test]
    fn comments_do_not_change_a_lock() {
        assert_eq!(canonical(LOCK), canonical(&canonical(LOCK)));
        assert!(!canonical(LOCK).contains('#'));
        assert_eq!(canonical(LOCK).lines().count(), 7);
    }

    #[test]
    fn pins_and_rules_are_read() {
        assert_eq!(
            pins(LOCK),
            [
                ("flask".to_owned(), "==2.2.5".to_owned()),
                ("numpy".to_owned(), "==1.26.4".to_owned()),
                (
                    "model".to_owned(),
                    " @ https://example.org/m.whl".to_owned()
                ),
            ]
        );
        let keeps = keeps(LOCK);
        assert_eq!(keeps.len(), 1);
        assert_eq!(keeps[0].constraint, "numpy<2");
        assert!(holds(&keeps[0], &["numpy".to_owned()].into()));
        assert!(!holds(&keeps[0], &["pyarrow".to_owned()].into()));
    }

    #[test]
    fn a_hash_is_added_to_its_pin_only() {
        let digest = Digest::of("wheel");
        let text = with_hash(&canonical(LOCK), "flask", &digest);
        assert_eq!(pins(&text), pins(LOCK));
        assert_eq!(hashes(&text), std::slice::from_ref(&digest));
        let after: Vec<&str> = text.lines().skip(2).take(2).collect();
        assert_eq!(
            after,
            [
                "    --hash=sha256:bb \\".to_owned(),
                format!("    --hash=sha256:{digest}")
            ]
        );
    }

    #[test]
    fn changes_are_told() {
        let to = "flask==2.2.5 \\\n --hash=x\nnumpy==1.23.5\nscipy==1.13.1\n";
        assert_eq!(
            changes(LOCK, to),
            [
                "numpy 1.26.4 → 1.23.5",
                "+ scipy 1.13.1",
                "- model @ https://example.org/m.whl"
            ]
        );
    }
}
