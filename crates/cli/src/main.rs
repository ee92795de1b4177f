//! The `luthier` binary.
fn main() {}
