//! axioms
