//! `windlass run`: controls the fleets.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::exit::Exit;

/// Control the fleets of a configuration until told to stop
#[derive(Debug, Args)]
#[command(
    long_about = "Controls the fleets of a configuration until told to stop.\n\n\
        Each cycle reads the signals, lists the instances, decides, writes the decision to the \
        store and only then carries it out. Ctrl-C or SIGTERM stops it after the cycle in hand. \
        Started again, it goes on from what it had written.",
    after_long_help = "Examples:\n  \
        windlass run --config fleets.toml\n  \
        windlass run --config fleets.toml --once --dry-run   # what would it do now?"
)]
pub(super) struct Run {
    /// The configuration: store, fleets, limits and policies
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Stop after one cycle of each fleet
    #[arg(long)]
    once: bool,

    /// Decide and write down, but launch and end nothing
    #[arg(long = "dry-run")]
    rehearse: bool,
}

impl Run {
    pub(super) fn obey(&self, _out: &mut dyn Write) -> Result<Exit, Failure> {
        let Self {
            config,
            once: _,
            rehearse: _,
        } = self;
        let what = format!(
            "cannot run {}: this verb is not built yet",
            config.display()
        );
        Err(Failure::new(Exit::Internal, what))
    }
}
