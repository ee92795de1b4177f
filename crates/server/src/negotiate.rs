//! Which form a body has, and which the answer shall have.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use luthier_data::Format;
use luthier_types::{Code, Error};

use crate::envelope::Failure;

/// Types that mean JSON as well: what is sent when nobody chose a type.
const AS_JSON: [&str; 2] = ["text/json", "application/x-www-form-urlencoded"];

/// Checks that the body is not compressed.
///
/// # Errors
/// Status 415.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let encoding = text(headers, header::CONTENT_ENCODING);
    if encoding.is_none_or(|e| e.trim().eq_ignore_ascii_case("identity")) {
        return Ok(());
    }
    Err(not_taken(
        "compressed bodies are not taken",
        "Send the body without `Content-Encoding`; Parquet and Arrow have compression of their own."
            .to_owned(),
    ))
}

/// The form of the body, by `Content-Type`; JSON when there is none.
///
/// # Errors
/// Status 415 for a type that is not taken, and for a compressed body.
pub(crate) fn form_of_body(headers: &HeaderMap) -> Result<Format, Failure> {
    check_encoding(headers)?;
    let Some(sent) = text(headers, header::CONTENT_TYPE) else {
        return Ok(Format::Json);
    };
    let name = sent.split(';').next().unwrap_or_default().trim();
    if name.is_empty() || AS_JSON.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Ok(Format::Json);
    }
    Format::of_media_type(name).ok_or_else(|| {
        not_taken(
            &format!("rows of the type `{name}` are not taken"),
            format!("Send one of {}.", Format::media_types()),
        )
    })
}

fn not_taken(cause: &str, hint: String) -> Failure {
    let error = Error::new(Code::BadRequest, cause.to_owned()).hint(hint);
    Failure::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// The form of the answer: the one that `Accept` likes best, `default` among equals and where
/// there is no such header.
///
/// # Errors
/// Status 406 when it likes none that there is.
pub(crate) fn form_of_answer(headers: &HeaderMap, default: Format) -> Result<Format, Failure> {
    let mut liked: Vec<(&str, f32)> = vec![];
    for line in headers.get_all(header::ACCEPT) {
        let line = line.to_str().unwrap_or_default();
        liked.extend(line.split(',').filter_map(range));
    }
    if liked.is_empty() {
        return Ok(default);
    }
    let mut best: Option<(Format, f32)> = None;
    let rest = Format::ALL.into_iter().filter(|f| *f != default);
    for format in std::iter::once(default).chain(rest) {
        let quality = quality(&liked, format.media_type());
        if quality > best.map_or(0.0, |(_, q)| q) {
            best = Some((format, quality));
        }
    }
    best.map(|(format, _)| format).ok_or_else(|| {
        let error = Error::new(
            Code::BadRequest,
            "predictions are not given in any of the accepted types",
        )
        .hint(format!("Accept one of {}.", Format::media_types()));
        Failure::with_status(error, StatusCode::NOT_ACCEPTABLE)
    })
}

/// A media range and its quality.
fn range(text: &str) -> Option<(&str, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let quality = parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(0.0));
    Some((name, quality))
}

/// How much a type is liked: by the range that names it most closely.
fn quality(liked: &[(&str, f32)], media_type: &str) -> f32 {
    let family = media_type.split('/').next().unwrap_or_default();
    let closeness = |range: &str| {
        if range.eq_ignore_ascii_case(media_type) {
            return Some(2);
        }
        match range.split_once('/') {
            Some((name, "*")) if name.eq_ignore_ascii_case(family) => Some(1),
            Some(("*", "*")) => Some(0),
            _ => None,
        }
    };
    liked
        .iter()
        .filter_map(|(range, quality)| Some((closeness(range)?, *quality)))
        .max_by_key(|(closeness, _)| *closeness)
        .map_or(0.0, |(_, quality)| quality)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    // What is not text is no type that is taken.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn bodies_are_what_their_type_says() {
        let form = |value: &str| form_of_body(&headers(header::CONTENT_TYPE, &[value])).ok();
        for format in Format::ALL {
            assert_eq!(form(format.media_type()), Some(format));
        }
        assert_eq!(form("Text/CSV; charset=utf-8"), Some(Format::Csv));
        assert_eq!(
            form("application/x-www-form-urlencoded"),
            Some(Format::Json)
        );
        assert_eq!(form(""), Some(Format::Json));
        assert_eq!(form("application/octet-stream"), None);
        assert_eq!(form_of_body(&HeaderMap::new()).ok(), Some(Format::Json));
        let encoding = |value: &str| form_of_body(&headers(header::CONTENT_ENCODING, &[value]));
        assert!(encoding("identity").is_ok());
        assert!(encoding("gzip").is_err());
    }

    #[test]
    fn answers_are_what_is_liked_best() {
        let form = |values: &[&str], default| {
            form_of_answer(&headers(header::ACCEPT, values), default).ok()
        };
        let (json, arrow) = (Format::Json, Format::ArrowStream);
        assert_eq!(form(&[], arrow), Some(arrow));
        assert_eq!(form(&["*/*"], arrow), Some(arrow));
        assert_eq!(form(&["application/*"], Format::Csv), Some(json));
        assert_eq!(form(&["application/json"], arrow), Some(json));
        assert_eq!(
            form(&["text/html, text/csv;q=0.5"], json),
            Some(Format::Csv)
        );
        assert_eq!(
            form(&["text/csv;q=0.5, */*;q=0.1"], json),
            Some(Format::Csv)
        );
        assert_eq!(form(&["application/json;q=0, */*"], json), Some(arrow));
        assert_eq!(form(&["text/html", "TEXT/CSV"], json), Some(Format::Csv));
        assert_eq!(form(&["text/html"], json), None);
        assert_eq!(form(&["text/csv;q=0"], json), None);
        assert_eq!(form(&["text/csv;q=much"], json), None);
    }
}
