//! Which Arrow type each column type has.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field, Schema, SchemaRef, TimeUnit};
use luthier_types::{Column, DataType};

/// The Arrow schema of a model's inputs, as sent to the runner: float is `Float64`, int `Int64`,
/// bool `Boolean`, str and category `Utf8`, timestamp `Timestamp(µs)` without a zone (UTC), vector
/// a list of `Float64`. All are nullable.
pub fn arrow_schema(columns: &[&Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|c| Field::new(&c.name, arrow_type(c.data_type), true))
            .collect::<Vec<_>>(),
    ))
}

/// The Arrow type of a column type.
pub(crate) fn arrow_type(data_type: DataType) -> Arrow {
    match data_type {
        DataType::Float => Arrow::Float64,
        DataType::Int => Arrow::Int64,
        DataType::Bool => Arrow::Boolean,
        DataType::Str | DataType::Category => Arrow::Utf8,
        DataType::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, None),
        DataType::Vector => list_type(),
    }
}

/// A list of `Float64`.
pub(crate) fn list_type() -> Arrow {
    Arrow::List(Arc::new(Field::new("item", Arrow::Float64, true)))
}

/// The type as users spell it, with an article.
pub(crate) fn named(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Float => "a number",
        DataType::Int => "a whole number",
        DataType::Bool => "true or false",
        DataType::Str => "text",
        DataType::Category => "a category",
        DataType::Timestamp => "a timestamp",
        DataType::Vector => "a list of numbers",
    }
}
