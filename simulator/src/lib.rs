//! A deterministic cloud, queue and clock for windlass: what replays traces
//! through the very code that decides in production.
//!
//! Same inputs and seed, same bytes, on every machine: nothing here reads a
//! clock, the environment, a socket or a random source that was not handed to
//! it, and files only where a trace or a scenario is opened.

mod accrual;
pub mod bench;
pub mod bound;
pub mod comparison;
pub mod distribution;
pub mod elasticity;
pub mod embedded;
pub mod engine;
pub mod faults;
pub mod fingerprint;
pub mod gain;
pub mod queue;
pub mod random;
pub mod report;
pub mod scenario;
pub mod score;
pub mod self_tuning;
pub mod stretch;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod tune;
pub mod workload;
pub mod world;
