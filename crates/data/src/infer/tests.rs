//! Tests of infer.
