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

/// A pin of a lock with the digests that its file may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// What is pinned, normalised.
    pub(crate) name: String,
    /// The first line without its hashes: `name==1.2` or `name @ https://…`.
    pub(crate) text: String,
    /// Digests of the files that it may be, in the lock's order.
    pub(crate) hashes: Vec<Digest>,
}

/// The pins of a lock.
pub(crate) fn pinned(lock: &str) -> Vec<Pin> {
    let mut pins: Vec<Pin> = vec![];
    for line in canonical(lock).lines() {
        if !line.starts_with([' ', '-']) {
            let text = line.split(" --hash=").next().unwrap_or(line);
            pins.push(Pin {
                name: pin_name(line),
                text: text.trim_end_matches('\\').trim_end().to_owned(),
                hashes: vec![],
            });
        }
        if let Some(pin) = pins.last_mut() {
            let hash = |word: &str| word.strip_prefix("--hash=sha256:")?.parse().ok();
            pin.hashes.extend(line.split_whitespace().filter_map(hash));
        }
    }
    pins
}

/// The text of a lock of these pins.
pub(crate) fn text(pins: &[Pin]) -> String {
    let mut text = String::new();
    for pin in pins {
        text.push_str(&pin.text);
        for hash in &pin.hashes {
            text.push_str(&format!(" \\\n    --hash=sha256:{hash}"));
        }
        text.push('\n');
    }
    text
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
    fn pins_with_their_hashes_are_the_lock() {
        let digest = Digest::of("wheel");
        let lock = format!(
            "flask==2.2.5 \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{digest}\n\
             numpy==1.26.4\nmodel @ https://h/m.whl \\\n    --hash=sha256:{digest}\n"
        );
        let pins = pinned(&lock);
        assert_eq!(text(&pins), lock);
        let hashes: Vec<usize> = pins.iter().map(|pin| pin.hashes.len()).collect();
        assert_eq!(hashes, [2, 0, 1]);
        assert_eq!(pins[2].text, "model @ https://h/m.whl");
        assert_eq!(
            pinned(&format!("a==1 --hash=sha256:{digest}\n"))[0].text,
            "a==1"
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
