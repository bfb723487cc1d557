//! A deterministic cloud.

pub mod queue;
pub mod world;
