//! sampled
