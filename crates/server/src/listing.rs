//! The query options of lists.

use axum::{extract::FromRequestParts, http::request::Parts};
use luthier_store::query::{Filter, ListQuery};
use luthier_types::{Code, Error};
use serde::Deserialize;

use crate::{envelope::Failure, extract::Query};

/// Most items of a page.
const MAX_LIMIT: u32 = 1000;

#[derive(Deserialize)]
struct Options {
    filter: Option<String>,
    search: Option<String>,
    ordering: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    project_id: Option<String>,
}

/// What part of a list a request wants.
pub(crate) struct List(pub(crate) ListQuery);

impl<S: Send + Sync> FromRequestParts<S> for List {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(options) = Query::<Options>::from_request_parts(parts, state).await?;
        Ok(Self(parse(options)?))
    }
}

fn parse(options: Options) -> Result<ListQuery, Error> {
    let number = |name: &str, value: i64, low: i64, high: i64| {
        if (low..=high).contains(&value) {
            return Ok(value.unsigned_abs());
        }
        Err(Error::new(
            Code::BadRequest,
            format!("{name} is {value}, outside {low} to {high}"),
        )
        .hint(format!("Give a {name} within the range.")))
    };
    let mut query = ListQuery::default();
    if let Some(filter) = options.filter.filter(|text| !text.trim().is_empty()) {
        query.filter = Some(parse_filter(&filter)?);
    }
    if let Some(limit) = options.limit {
        let limit = number("limit", limit, 1, i64::from(MAX_LIMIT))?;
        query.limit = u32::try_from(limit).unwrap_or(MAX_LIMIT);
    }
    if let Some(offset) = options.offset {
        query.offset = number("offset", offset, 0, i64::MAX)?;
    }
    query.search = options.search.filter(|text| !text.is_empty());
    query.ordering = options
        .ordering
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|field| !field.is_empty())
        .map(|field| match field.strip_prefix('-') {
            Some(field) => (field.to_owned(), true),
            None => (field.to_owned(), false),
        })
        .collect();
    for (field, value) in [("type", options.kind), ("project_id", options.project_id)] {
        if let Some(value) = value {
            query = query.and_equal(field, value);
        }
    }
    Ok(query)
}

fn parse_filter(text: &str) -> Result<Filter, Error> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(Code::BadRequest, format!("the filter does not fit: {e}")).hint(
            "A filter is {\"condition\": \"AND\" or \"OR\", \"rules\": [{\"field\": …, \
             \"operator\": …, \"value\": …}]} as URL-encoded JSON.",
        )
    })
}
