//! `windlass simulate`: tries policies on a recorded load.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::exit::Exit;

/// Try policies on a recorded load in a simulated cloud
#[derive(Debug, Args)]
#[command(
    long_about = "Tries policies on a recorded load in a simulated cloud.\n\n\
        A scenario holds everything about the world: the load, how long instances boot, what they \
        cost, how late metrics are, and what waiting is worth. The same code decides as in \
        `windlass run`. The same inputs and seed give the same result, byte for byte. Without \
        --policy the built-in presets are compared.",
    after_long_help = "Examples:\n  \
        windlass simulate --scenario web.toml --policy mine.toml\n  \
        windlass simulate --scenario web.toml --policy a.toml --policy b.toml --seed 7\n  \
        windlass simulate --scenario web.toml --trace july.csv.gz --format json --out results"
)]
pub(super) struct Simulate {
    /// The world: load, cloud, prices
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,

    /// A policy to try; may be given several times, one result each
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,

    /// A load to use instead of the scenario's
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// What the random numbers grow from [default: the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How the results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ResultFormat::Table)]
    format: ResultFormat,

    /// Also write results and each run's course into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How simulation results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResultFormat {
    /// A table for people, one row per policy.
    Table,
    /// An array with one object per policy.
    Json,
}

impl Simulate {
    pub(super) fn obey(&self, _out: &mut dyn Write) -> Result<Exit, Failure> {
        let Self {
            scenario,
            policies: _,
            trace: _,
            seed: _,
            format: _,
            out: _,
        } = self;
        let what = format!(
            "cannot simulate {}: this verb is not built yet",
            scenario.display()
        );
        Err(Failure::new(Exit::Internal, what))
    }
}
