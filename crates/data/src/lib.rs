//! Tables in and out by model schema: JSON, CSV, Parquet and Arrow, schema inference, samples.
//!
//! Everything is done column by column, and one rule book ([`cells`]) says which values fit which
//! type, whether they come as JSON, as text of a CSV file or typed in a Parquet file.

#![forbid(unsafe_code)]

mod canonical;
mod cell;
mod cells;
mod family;
mod format;
mod guard;
mod infer;
mod ipc;
mod rows;
mod sample;
mod schema;
mod source;
pub mod tensor;
mod time;
mod wire;
mod write;

pub use canonical::{Published, canonicalise};
pub use format::Format;
pub use infer::{InferOptions, bin_edges, infer_schema};
pub use ipc::{from_ipc, table_bytes, to_ipc};
pub use rows::{Missing, RowParser, RowTable, rows_to_batch};
pub use sample::{head_parquet, sample_parquet, synthetic_rows};
pub use schema::arrow_schema;
pub use source::{FileKind, MAX_COLUMNS, sniff};
pub use time::parse_timestamp;
pub use wire::{Bounds, empty_table, read_table, write_table};
pub use write::{batch_to_rows, write_json_rows};

/// The tables of this crate, for callers that do not name `arrow-array` themselves.
pub use arrow_array::RecordBatch;
