//! windlass raises and lowers fleets of EC2 instances by what waiting is worth.
//!
//! This library is what the `windlass` program is made of; it is public so that
//! tests and tools can use the parts. The rules themselves are in
//! [`windlass_policies`], the simulated world is in `windlass_simulator`.

use std::error::Error;
use std::fmt;

pub mod aws;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod comparison;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod fleets;
pub mod logging;
pub mod prices;
pub mod replay;
pub mod schedule;
pub mod self_tuning;
pub mod simulation;
pub mod sources;
pub mod store;

/// An error with all its causes in one line, for logs and messages:
/// `cannot write to the store: the disk is full`.
pub fn chain(error: &dyn Error) -> impl fmt::Display + '_ {
    fmt::from_fn(move |out| {
        write!(out, "{error}")?;
        let mut next = error.source();
        while let Some(cause) = next {
            write!(out, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    })
}
