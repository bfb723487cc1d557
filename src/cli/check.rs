//! `windlass check`: says what is wrong with files before they are used.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::exit::Exit;

/// Say what is wrong with configurations, policies and scenarios
#[derive(Debug, Args)]
#[command(
    long_about = "Says what is wrong with configurations, policies and scenarios.\n\n\
        Every problem is listed at once, with the key it concerns and what to change. The cases \
        in policy files ([[case]] tables: readings in, target out) are run. Nothing is contacted \
        and nothing is changed.",
    after_long_help = "Examples:\n  \
        windlass check fleets.toml\n  \
        windlass check policies/*.toml scenarios/*.toml"
)]
pub(super) struct Check {
    /// What to check: each file shows by its tables what it is
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Check {
    pub(super) fn obey(&self, _out: &mut dyn Write) -> Result<Exit, Failure> {
        let count = self.files.len();
        let what = format!("cannot check {count} files: this verb is not built yet");
        Err(Failure::new(Exit::Internal, what))
    }
}
