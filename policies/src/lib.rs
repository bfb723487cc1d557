//! The pure core of windlass: what is seen, what is decided, and why.
//!
//! Nothing in this crate reads a clock, the environment, a file, a socket or a
//! random source: all of that arrives in an [`model::Observation`]. The daemon,
//! the simulator, the fault tests and the replay of production all run the
//! code in here.

pub mod audit;
pub mod cases;
pub mod cron;
pub mod decide;
mod drain;
mod failover;
pub mod fields;
pub mod governor;
pub mod knobs;
pub mod learn;
pub mod ledger;
pub mod memory;
pub mod memory_store;
pub mod model;
mod placement;
pub mod policy;
pub mod policy_file;
pub mod ports;
pub mod presets;
pub mod problems;
pub mod quote;
pub mod reconcile;
pub mod signal;
pub mod spec;
pub mod standing;
pub mod units;
