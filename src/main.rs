//! The `windlass` program.

use std::process::ExitCode;

use windlass::cli;
use windlass::exit::Exit;

fn main() -> ExitCode {
    windlass_simulator::trace::silence_caught_panics();
    // A panic has told where it happened; the shell is told that it was a bug.
    std::panic::catch_unwind(|| cli::start(std::env::args_os()))
        .unwrap_or(Exit::Internal)
        .into()
}
