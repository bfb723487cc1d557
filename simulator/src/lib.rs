//! A deterministic cloud.

pub mod distribution;
pub mod embedded;
pub mod random;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod workload;
