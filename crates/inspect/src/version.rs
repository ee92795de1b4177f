//! Versions of libraries, compared as far as is needed here.

use std::cmp::Ordering;

/// The numbers a version starts with: `1.0.2rc1` gives 1, 0, 2.
fn numbers(version: &str) -> Vec<u64> {
    let mut found = vec![];
    for part in version.trim_start_matches('v').split(['.', '+', '-']) {
        let digits: &str = part
            .find(|c: char| !c.is_ascii_digit())
            .map_or(part, |end| &part[..end]);
        match digits.parse() {
            Ok(number) => found.push(number),
            Err(_) => break,
        }
        if digits.len() != part.len() {
            break;
        }
    }
    found
}

fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (numbers(a), numbers(b));
    let part = |v: &[u64], i: usize| v.get(i).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|i| part(&a, i).cmp(&part(&b, i)))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Whether `version` is `least` or later, by their numbers.
pub(crate) fn at_least(version: &str, least: &str) -> bool {
    compare(version, least).is_ge()
}

/// How far apart two versions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// They are the same, or differ only in a label as `+cpu`.
    Same,
    /// They differ in what comes after the first two numbers.
    Patch,
    /// They differ in the first two numbers.
    Minor,
}

/// How far `a`, which may be `4.x` for any release since 4, is from `b`.
pub(crate) fn distance(a: &str, b: &str) -> Distance {
    // The format of a file tells the first release that reads it.
    if let Some(least) = a.strip_suffix(".x") {
        return if at_least(b, least) {
            Distance::Same
        } else {
            Distance::Minor
        };
    }
    let public = |v: &str| v.split('+').next().unwrap_or(v).to_owned();
    if public(a) == public(b) || compare(a, b).is_eq() {
        return Distance::Same;
    }
    let (a, b) = (numbers(a), numbers(b));
    if a.len() > 1 && a.get(..2) == b.get(..2) {
        Distance::Patch
    } else {
        Distance::Minor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(at_least("1.10", "1.9") && !at_least("1.9", "1.10"));
        assert!(at_least("2", "2.0.0") && at_least("1.0.2rc1", "1.0.2"));
        assert_eq!(distance("1.0.2", "1.3.2"), Distance::Minor);
        assert_eq!(distance("1.0.2", "1.0.1"), Distance::Patch);
        assert_eq!(distance("2.1.0+cpu", "2.1.0"), Distance::Same);
        assert_eq!(distance("2.1", "2.1.0"), Distance::Same);
        assert_eq!(distance("3", "2"), Distance::Minor);
        assert_eq!(distance("4.x", "4.5.0"), Distance::Same);
        assert_eq!(distance("4.x", "3.3.0"), Distance::Minor);
    }
}
