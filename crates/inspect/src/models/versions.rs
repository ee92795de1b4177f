//! Versions that libraries write into their own formats.

use serde_json::Value;

/// Whether a file that begins so is a model of one of these formats.
pub(super) fn is_model(head: &[u8]) -> bool {
    is_xgboost_text(head) || head.starts_with(b"{L") || head.starts_with(b"tree\n") || is_cbm(head)
}

fn is_xgboost_text(head: &[u8]) -> bool {
    let compact: Vec<u8> = head
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    compact.starts_with(b"{\"learner\"")
        || compact.starts_with(b"{\"version\"")
        || compact.starts_with(b"{\"Config\"")
}

fn is_cbm(head: &[u8]) -> bool {
    head.starts_with(b"CBM1")
}

/// The library and version of the model whose beginning and end are `bytes`, if they say.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<(&'static str, String)> {
    if is_cbm(bytes) {
        return catboost(bytes).map(|v| ("catboost", v));
    }
    if bytes.starts_with(b"tree\n") {
        return lightgbm(bytes).map(|v| ("lightgbm", v));
    }
    let is_xgboost = is_xgboost_text(bytes) || bytes.starts_with(b"{L");
    if is_xgboost && contains(bytes, b"learner") {
        return xgboost(bytes).map(|v| ("xgboost", v));
    }
    None
}

/// `"version":[2,1,1]` in JSON, and the same in UBJSON.
fn xgboost(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"version";
    let mut ends = bytes
        .windows(KEY.len())
        .enumerate()
        .filter(|(_, w)| *w == KEY)
        .map(|(at, _)| at + KEY.len());
    ends.find_map(|end| {
        let rest = bytes.get(end..)?;
        json_triple(rest).or_else(|| ubjson_triple(rest))
    })
}

fn json_triple(rest: &[u8]) -> Option<String> {
    let end = rest.iter().take(64).position(|b| *b == b']')?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    let numbers = text
        .trim_start_matches('"')
        .trim_start()
        .strip_prefix(':')?;
    let numbers = numbers.trim_start().strip_prefix('[')?;
    let parts: Vec<u32> = numbers
        .split(',')
        .map(|p| p.trim().parse().ok())
        .collect::<Option<_>>()?;
    dotted(&parts)
}

/// An array of three small numbers: `[`, perhaps `#` and how many, then each with its type.
fn ubjson_triple(rest: &[u8]) -> Option<String> {
    let rest = rest.strip_prefix(b"[")?;
    let rest = match rest.strip_prefix(b"#") {
        Some(rest) => {
            let (count, rest) = ubjson_number(rest)?;
            (count == 3).then_some(rest)?
        }
        None => rest,
    };
    let (major, rest) = ubjson_number(rest)?;
    let (minor, rest) = ubjson_number(rest)?;
    let (patch, _) = ubjson_number(rest)?;
    dotted(&[major, minor, patch])
}

fn ubjson_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let size = match kind {
        b'i' | b'U' => 1,
        b'I' => 2,
        b'l' => 4,
        b'L' => 8,
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(size)?;
    let value = number
        .iter()
        .try_fold(0_u64, |n, b| n.checked_mul(256)?.checked_add((*b).into()))?;
    Some((u32::try_from(value).ok()?, rest))
}

fn dotted(parts: &[u32]) -> Option<String> {
    // The first release with a version in its models is 1.0; a number far beyond is no version.
    let fits = parts.len() == 3 && parts.iter().all(|p| *p < 1000) && parts[0] > 0;
    fits.then(|| {
        parts
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(".")
    })
}

/// LightGBM names the version of its format, of which each came with a release.
fn lightgbm(bytes: &[u8]) -> Option<String> {
    let head = bytes.get(..bytes.len().min(256))?;
    let text = String::from_utf8_lossy(head);
    let format = text.lines().find_map(|l| l.strip_prefix("version=v"))?;
    let release = match format.trim() {
        "2" => "2",
        "3" => "3",
        "4" => "4",
        _ => return None,
    };
    Some(format!("{release}.x"))
}

/// CatBoost's description of its build: `Summary: CatBoost Release 1.2.7. …` or `Branch: tags/v1.2.7`.
fn catboost(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    [("CatBoost Release ", 32), ("Branch: tags/v", 32)]
        .iter()
        .find_map(|(before, most)| {
            let after = text.split_once(before)?.1;
            let word: String = after
                .chars()
                .take(*most)
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let word = word.trim_matches('.');
            (word.split('.').count() >= 2).then(|| word.to_owned())
        })
}

/// TensorFlow's version in a SavedModel: field 5 of its head, followed by field 6, that of Git.
pub(super) fn tensorflow(bytes: &[u8]) -> Option<String> {
    bytes.windows(2).enumerate().find_map(|(at, pair)| {
        let [0x2a, size @ 5..=16] = pair else {
            return None;
        };
        let text = bytes.get(at + 2..at + 2 + usize::from(*size))?;
        let next = bytes.get(at + 2 + usize::from(*size))?;
        let fits = text
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b".-+".contains(b))
            && text.first().is_some_and(u8::is_ascii_digit)
            && text.iter().filter(|b| **b == b'.').count() >= 2;
        (fits && *next == 0x32).then(|| String::from_utf8_lossy(text).into_owned())
    })
}

/// `h2o_version = 3.46.0.5` in a MOJO's `model.ini`.
pub(super) fn h2o(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "h2o_version").then(|| value.trim().to_owned())
    })
}

/// `keras_version` in a `.keras` file's `metadata.json`.
pub(super) fn keras_zip(text: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(text).ok()?;
    value.get("keras_version")?.as_str().map(str::to_owned)
}

/// The version of scikit-learn in the state of an estimator that skops wrote: the value after the
/// key, which is JSON within JSON.
pub(super) fn skops_sklearn(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let after = text.split_once("\"_sklearn_version\"")?.1;
    let content = after.get(..after.len().min(600)).unwrap_or(after);
    let content = content.split_once("\"content\"")?.1.split_once('"')?.1;
    let version: String = content
        .trim_start_matches(['\\', '"'])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect();
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some(version)
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|w| w == word)
}
