//! What to say of an image that is not in the catalogue: the nearest one that would do.

use luthier_types::{Code, Error};

use super::{ImageInfo, ImageStatus};

/// The oldest Python for which the runner is built.
const OLDEST: (u32, u32) = (3, 9);

/// The refusal of an image that is not in the catalogue `images`, which is in the order of
/// [`Images::list`](super::Images::list).
pub fn unknown_image(uri: &str, images: &[ImageInfo]) -> Error {
    let mut cause = format!("there is no image `{uri}`");
    if python_of(uri).is_some_and(|python| python < OLDEST) {
        let (major, minor) = OLDEST;
        cause.push_str(&format!(
            ": Python {major}.{minor} is the oldest that is provided"
        ));
    }
    let mut hint = String::new();
    if let Some(nearest) = nearest(uri, images) {
        hint = format!("The nearest that would do is `{}`. ", nearest.uri);
    }
    let names: Vec<&str> = images.iter().map(|i| i.uri.as_str()).collect();
    if names.is_empty() {
        hint.push_str("The catalogue is empty.");
    } else {
        hint.push_str(&format!("The images are: {}.", names.join(", ")));
    }
    Error::new(Code::UnknownImage, cause).hint(hint)
}

/// The image that is the most like `uri`: another tag of the same name, the closest Python, or a
/// name with few other letters; of several tags the newest that is not deprecated.
fn nearest<'a>(uri: &str, images: &'a [ImageInfo]) -> Option<&'a ImageInfo> {
    let asked = last_part(uri);
    let name = if images.iter().any(|i| last_part(&i.uri) == asked) {
        asked
    } else if let Some(python) = python_of(uri) {
        let closest = images
            .iter()
            .filter(|i| i.status == ImageStatus::Current)
            .filter_map(|i| Some((python_of(&i.uri)?, last_part(&i.uri))))
            .min_by_key(|(there, _)| (there.0.abs_diff(python.0), there.1.abs_diff(python.1)));
        closest?.1
    } else {
        let likeness = |i: &'a ImageInfo| (distance(asked, last_part(&i.uri)), last_part(&i.uri));
        let (distance, closest) = images.iter().map(likeness).min()?;
        (distance <= closest.len() / 2).then_some(closest)?
    };
    let tags = || images.iter().filter(|i| last_part(&i.uri) == name);
    let best = tags()
        .rfind(|i| i.status == ImageStatus::Current)
        .or_else(|| tags().next_back())?;
    match &best.status {
        ImageStatus::Current => Some(best),
        ImageStatus::Deprecated { replaced_by } => {
            images.iter().find(|i| i.uri == *replaced_by).or(Some(best))
        }
    }
}

/// `python-39` of `md-base/python/python-39:2.0.2`.
fn last_part(uri: &str) -> &str {
    let path = uri.rsplit('/').next().unwrap_or(uri);
    path.split([':', '@']).next().unwrap_or(path)
}

/// The version in a name that is only a Python's: `(3, 9)` of `…/python-39:2.0.2`.
fn python_of(uri: &str) -> Option<(u32, u32)> {
    let digits = last_part(uri).strip_prefix("python-")?;
    let (major, minor) = digits.split_at_checked(1)?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The number of single-byte insertions, deletions and replacements between two texts
/// (Levenshtein); texts longer than 200 bytes are cut, so that its cost is bounded.
fn distance(a: &str, b: &str) -> usize {
    let a = &a.as_bytes()[..a.len().min(200)];
    let b = &b.as_bytes()[..b.len().min(200)];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageInfo> {
        let image = |name: &str, replaced_by: Option<&str>| ImageInfo {
            uri: format!("md-base/python/{name}"),
            python: "3.9".to_owned(),
            summary: String::new(),
            libraries: vec![],
            debian: vec![],
            released: String::new(),
            status: replaced_by.map_or(ImageStatus::Current, |name| ImageStatus::Deprecated {
                replaced_by: format!("md-base/python/{name}"),
            }),
            single_version: false,
        };
        vec![
            image("java:2.1.0", None),
            image("python-39:2.0.2", None),
            image("python-39:2.0.3", None),
            image("python-310:1.0.0", None),
            image("python-313:1.0.0", None),
            image("machine-learning:1.4.0", Some("python-39:2.0.3")),
            image("python-39:1.4.0", Some("python-39:2.0.2")),
        ]
    }

    #[test]
    fn the_nearest_is_one_that_would_do() {
        let images = images();
        for (asked, told) in [
            // Another tag, another place, no tag.
            ("md-base/python/python-39:9", Some("python-39:2.0.3")),
            ("python-39", Some("python-39:2.0.3")),
            ("registry.example:5000/x/java@sha256:0", Some("java:2.1.0")),
            // Deprecated throughout: what replaces it.
            (
                "md-base/python/machine-learning:2.0",
                Some("python-39:2.0.3"),
            ),
            // Too old and too new.
            ("md-base/python/python-38:1.3.0", Some("python-39:2.0.3")),
            ("md-base/python/python-27:1", Some("python-39:2.0.3")),
            ("md-base/python/python-314:1", Some("python-313:1.0.0")),
            // Misspelt.
            ("md-base/python/jave:2.1.0", Some("java:2.1.0")),
            ("md-base/python/pyhton-310:1.0.0", Some("python-310:1.0.0")),
            // Nothing like it.
            ("ubuntu", None),
            ("", None),
        ] {
            let found =
                nearest(asked, &images).map(|i| i.uri.trim_start_matches("md-base/python/"));
            assert_eq!(found, told, "{asked}");
        }
    }

    #[test]
    fn the_refusal_names_the_nearest_and_all() {
        let error = unknown_image("md-base/python/python-38:1.3.0", &images());
        assert_eq!(error.code(), Code::UnknownImage);
        assert_eq!(
            error.message(),
            "there is no image `md-base/python/python-38:1.3.0`: Python 3.9 is the oldest that is \
             provided"
        );
        let hint = error.next_step().unwrap_or_default();
        assert!(
            hint.starts_with("The nearest that would do is `md-base/python/python-39:2.0.3`. ")
        );
        assert!(hint.contains("machine-learning:1.4.0"));
        for odd in ["x", &"é".repeat(5000), "python-", "python-3é", ":", "/"] {
            let error = unknown_image(odd, &[]);
            assert_eq!(error.next_step(), Some("The catalogue is empty."), "{odd}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }
}
