//! `windlass bound`: what a load costs at least, and what hindsight achieves.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use windlass_simulator::bound::{self, Bound, BoundError};
use windlass_simulator::scenario::{Scenario, TraceFile};

use super::Failure;
use super::simulate;
use crate::exit::Exit;

/// Prove what a load costs at least, and find what hindsight achieves
#[derive(Debug, Args)]
#[command(
    long_about = "Proves what a load costs at least, and finds what hindsight achieves.\n\n\
        No controller, however much it knows and however often it looks, pays less than the bound \
        for instances and waiting together. The schedule that was achieved is the best one found \
        by somebody who knows every job in advance; it is carried out in the simulated world, which \
        measures what it costs. The true optimum lies between the two, and the gap is how much that \
        leaves open. A policy's total over the bound says how good it can still become.",
    after_long_help = "Examples:\n  \
        windlass bound --scenario builtin:web-week\n  \
        windlass bound --scenario web.toml --format json | jq .bound_usd\n  \
        windlass bound --scenario web.toml --trace july.rate.csv.gz --seed 7\n\n\
        The bound heeds neither `min` nor `max` of the fleet nor its interval: it holds for any. The \
        schedule keeps within `min` and `max`. There is no bound where sessions share their servers, \
        where capacity is paid for ahead or kept warm, and where instances are taken back."
)]
pub(super) struct BoundVerb {
    /// The world: a file, or builtin:web-week, builtin:call-centre, builtin:ci-bursts, builtin:supercomputer
    #[arg(long, value_name = "FILE")]
    scenario: String,

    /// A load to use instead of the scenario's
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// What the random numbers grow from [default: the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How the result is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = BoundFormat::Table)]
    format: BoundFormat,
}

/// How a bound is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BoundFormat {
    /// A table for people.
    Table,
    /// An object with a field for each figure.
    Json,
}

impl BoundVerb {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut scenario = Scenario::open(&self.scenario)?;
        if let Some(path) = &self.trace {
            scenario.trace = TraceFile::Path(path.clone());
        }
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        let workload = simulate::whole(&mut scenario)?;
        let found = bound::of(&scenario, &workload)?;
        match self.format {
            BoundFormat::Table => write_table(out, &scenario, &found)?,
            BoundFormat::Json => {
                let json = serde_json::to_string_pretty(&found).expect("a bound is plain data");
                writeln!(out, "{json}")?;
            }
        }
        Ok(Exit::Done)
    }
}

fn write_table(out: &mut dyn Write, scenario: &Scenario, found: &Bound) -> std::io::Result<()> {
    writeln!(
        out,
        "{}: {} jobs of {} in {:.1} h, seed {}; {}\n",
        found.scenario,
        found.jobs,
        found.trace,
        found.simulated_secs / 3_600.0,
        found.seed,
        simulate::price_of_waiting(scenario)
    )?;
    let rows = [
        ("the work alone", found.work_usd),
        ("bound", found.bound_usd),
        ("achieved with hindsight", found.achieved_usd),
        ("  of it instances", found.achieved_instance_usd),
        ("  of it waiting", found.achieved_delay_usd),
    ];
    for (what, usd) in rows {
        writeln!(out, "{what:<24}{usd:>14.2} USD")?;
    }
    match found.gap {
        Some(gap) => writeln!(out, "{:<24}{:>14.2} %", "gap", gap * 100.0),
        None => writeln!(out, "{:<24}{:>14}", "gap", "none: the bound is 0"),
    }
}

impl From<BoundError> for Failure {
    fn from(error: BoundError) -> Self {
        match error {
            BoundError::Scenario(error) => error.into(),
            error @ BoundError::NotCovered { .. } => Self::new(Exit::Usage, error.to_string()),
        }
    }
}
