//! Tests of sample.
