//! The HTTP interface through its real router, over a real database.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
