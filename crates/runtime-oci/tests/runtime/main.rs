//! The embedded runtime with real containers. Needs root.

mod life;
mod world;
