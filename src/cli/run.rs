//! `windlass run`: controls the fleets.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use windlass_policies::reconcile::Mode;

use super::{Failure, config_of};
use crate::daemon::{self, DaemonError, End};
use crate::exit::Exit;
use crate::fleets::FleetOpenError;

/// Control the fleets of a configuration until told to stop
#[derive(Debug, Args)]
#[command(
    long_about = "Controls the fleets of a configuration until told to stop.\n\n\
        Each cycle reads the signals, lists the instances, decides, writes the decision to the \
        store and only then carries it out. Ctrl-C or SIGTERM stops it after the cycle in hand; a \
        second one ends it at once, with exit code 130. Started again, it goes on from what it had written.\n\n\
        Without --config it runs the built-in example: fleets in a simulated cloud, with the store \
        in windlass.db in this folder.",
    after_long_help = "Examples:\n  \
        windlass run\n  \
        windlass run --config fleets.toml\n  \
        windlass run --config fleets.toml --once --dry-run   # what would it do now?"
)]
pub(super) struct Run {
    /// The configuration: store, fleets, limits and policies [default: the built-in example]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Stop once each fleet has decided in earnest: after `observe_cycles` cycles, at least one
    #[arg(long)]
    once: bool,

    /// Decide and write down, but launch and end nothing
    #[arg(long = "dry-run")]
    rehearse: bool,
}

impl Run {
    pub(super) fn obey(&self, _out: &mut dyn Write) -> Result<Exit, Failure> {
        let config = config_of(self.config.as_deref())?;
        let mode = if self.rehearse {
            Mode::Rehearse
        } else {
            Mode::Act
        };
        match daemon::run(&config, mode, self.once)? {
            End::Asked => Ok(Exit::Done),
            End::CutShort => Ok(Exit::CutShort),
            End::TakenOver => {
                let what = "another windlass has taken over a fleet of this configuration";
                Err(Failure::new(Exit::Unavailable, what))
            }
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Open(error) => error.into(),
            DaemonError::Fleet {
                source: FleetOpenError::Scenario(_),
                ..
            } => Self::because(Exit::NoInput, "cannot start", error),
            #[cfg(feature = "aws")]
            DaemonError::Fleet {
                source: FleetOpenError::Aws(_),
                ..
            } => Self::because(Exit::Usage, "cannot start", error),
            DaemonError::Fleet {
                source: FleetOpenError::NoAws,
                ..
            } => Self::because(Exit::Usage, "cannot start", error),
            DaemonError::Tail(_)
            | DaemonError::Fleet { .. }
            | DaemonError::System(_)
            | DaemonError::Scheduler(_)
            | DaemonError::Sources(_) => Self::because(Exit::Unavailable, "cannot start", error),
        }
    }
}
