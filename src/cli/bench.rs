//! `windlass bench`: how fast the simulator is on this machine.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::Failure;
use crate::bench::{self, BenchError, Figure};
use crate::exit::Exit;

/// Measure how fast the simulator is on this machine
#[derive(Debug, Args)]
#[command(
    long_about = "Measures how fast the simulator is on this machine.\n\n\
        It makes its own loads, always the same. Each is run by a bare loop that only hands jobs \
        to instances and adds up what they wait, and by the whole simulator: names, bills, \
        quantiles, a row a tick. They take turns on one core. The ratio of their processor times \
        is the figure to compare between machines; 1 would be for nothing.",
    after_long_help = "Examples:\n  \
        windlass bench\n  \
        windlass bench --rounds 11 --format json\n\n\
        w1 is a million jobs on 25 instances; w2 ten days of a load with a daily rhythm on 25 to 50 \
        instances that a rule changes every minute; w2500 a hundred times as many. `_csv` and \
        `_cache` stream their jobs from a file, and their MB are what streaming took; the other \
        loads are in memory. `_exact` keeps every wait, `_general` has the queue for priorities \
        and speeds, and `_controller` is decided by the cycle of `windlass run` instead of a rule \
        of three lines."
)]
pub(super) struct Bench {
    /// How the figures are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = FigureFormat::Table)]
    format: FigureFormat,

    /// How often everything is run; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
}

/// How figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FigureFormat {
    /// A table for people.
    Table,
    /// An array with one object per figure.
    Json,
}

impl Bench {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut told = |what: &str| {
            // A line for whoever waits; if nobody reads it, that is all right.
            let _ = writeln!(io::stderr().lock(), "windlass: {what}");
        };
        let figures = bench::measure(self.rounds.into(), &mut told)?;
        match self.format {
            FigureFormat::Json => {
                let json = serde_json::to_string_pretty(&figures).expect("figures are plain data");
                writeln!(out, "{json}")?;
            }
            FigureFormat::Table => write_table(out, &figures)?,
        }
        Ok(Exit::Done)
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let exit = match &error {
            BenchError::Write { .. } => Exit::Unavailable,
            BenchError::Disagree { .. } | BenchError::Refused { .. } => Exit::Internal,
        };
        Self::because(exit, "cannot measure", error)
    }
}

fn write_table(out: &mut dyn Write, figures: &[Figure]) -> io::Result<()> {
    writeln!(
        out,
        "{:<16}{:>13}{:>12}{:>14}{:>11}{:>9}",
        "load", "times bare", "M jobs/s", "bare M jobs/s", "jobs", "MB"
    )?;
    for figure in figures {
        let rss = figure
            .rss_mb
            .map_or_else(|| "-".to_owned(), |rss| format!("{rss:.0}"));
        writeln!(
            out,
            "{:<16}{:>13.2}{:>12.1}{:>14.1}{:>11}{:>9}",
            figure.name,
            figure.ratio_to_bare,
            figure.jobs_per_cpu_sec / 1e6,
            figure.bare_jobs_per_cpu_sec / 1e6,
            figure.jobs,
            rss
        )?;
    }
    Ok(())
}
