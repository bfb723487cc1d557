//! A deterministic cloud.

pub mod distribution;
pub mod random;
pub mod trace;
