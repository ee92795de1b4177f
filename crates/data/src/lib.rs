//! Tables in and out by model schema: JSON, CSV, Parquet and Arrow, schema inference, samples.
//!
//! Everything is done column by column, and one rule book ([`cells`]) says which values fit which
//! type, whether they come as JSON, as text of a CSV file or typed in a Parquet file.

#![forbid(unsafe_code)]

mod cells;
mod family;
mod ipc;
mod rows;
mod schema;
mod time;
mod write;

pub use ipc::{from_ipc, to_ipc};
pub use rows::{Missing, RowParser, rows_to_batch};
pub use schema::arrow_schema;
pub use time::parse_timestamp;
pub use write::{batch_to_rows, write_json_rows};

/// The tables of this crate, for callers that do not name `arrow-array` themselves.
pub use arrow_array::RecordBatch;
