//! Logs: always to standard error, so that results on standard output stay
//! clean. Plain lines on a terminal, JSON otherwise.

mod human;

use std::env::{self, VarError};
use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The variable that says what is logged if `-v` does not.
pub const VARIABLE: &str = "WINDLASS_LOG";

/// What every target of this house begins with.
const OWN: &str = "windlass";

/// What those of AWS's client begin with. In traces it tells whole answers, whatever
/// a server repeats in them, and hides of what it sends only what it thinks secret.
const OF_AWS: &str = "aws_";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable cannot be understood.
    #[error(
        "{VARIABLE}: `{0}` is neither a level (off, error, warn, info, debug, trace) nor a list \
         such as \"info,windlass::daemon=debug\""
    )]
    Filter(String),
    /// The variable is no text.
    #[error("{VARIABLE} is not valid UTF-8")]
    NotText,
    /// Something in this process logs already.
    #[error("logging was started twice")]
    Twice,
}

/// Begins to log. `verbose` counts the `-v`s: 1 shows how windlass works, 2
/// every detail of it and what its libraries do, 3 everything. Without any,
/// `WINDLASS_LOG` decides; without that, `info` and the libraries' warnings. Nobody
/// gets the traces of AWS's client, which tell secrets.
///
/// # Errors
/// If the variable cannot be understood.
pub fn start(format: Option<LogFormat>, verbose: u8) -> Result<(), LoggingError> {
    let variable = match env::var(VARIABLE) {
        Ok(text) => Some(text),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
    };
    let filter = filter(verbose, variable.as_deref())?;
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Human
    } else {
        LogFormat::Json
    });
    // Whoever closed standard error does not want to hear that it is closed.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .log_internal_errors(false);
    let layer = match format {
        LogFormat::Human => {
            let colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let target = verbose > 0;
            layer
                .with_ansi(colour)
                .event_format(human::Human { target })
                .boxed()
        }
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            // A decision has a field of that name, and one key can stand once.
            .with_target(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter.and(without_secrets())))
        .try_init()
        .map_err(|_| LoggingError::Twice)
}

/// What is logged.
fn filter(verbose: u8, variable: Option<&str>) -> Result<Targets, LoggingError> {
    let (own, others) = match (verbose, variable.map(str::trim)) {
        (0, None | Some("")) => (LevelFilter::INFO, LevelFilter::WARN),
        (0, Some(text)) => {
            let wrong = || LoggingError::Filter(text.to_owned());
            match level(text) {
                Some(own) => (own, own.min(LevelFilter::WARN)),
                None => return listed(text).ok_or_else(wrong),
            }
        }
        (1, _) => (LevelFilter::DEBUG, LevelFilter::INFO),
        (2, _) => (LevelFilter::TRACE, LevelFilter::DEBUG),
        (3.., _) => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    Ok(Targets::new().with_default(others).with_target(OWN, own))
}

/// Leaves out what tells secrets, whoever asks for it.
fn without_secrets() -> Targets {
    Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target(OF_AWS, LevelFilter::DEBUG)
}

/// The level called `word`. Numbers, which the library would take, are refused:
/// nobody remembers which way they count.
fn level(word: &str) -> Option<LevelFilter> {
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    known.contains(&word).then(|| word.parse().ok()).flatten()
}

/// A list of `target=level`, and at most a level for the rest. A bare word that
/// is no level is refused; the library would take it for a target.
fn listed(text: &str) -> Option<Targets> {
    let mut filter = Targets::new().with_default(LevelFilter::WARN);
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        filter = match part.split_once('=') {
            Some((target, word)) if !target.is_empty() => filter.with_target(target, level(word)?),
            Some(_) => return None,
            None => filter.with_default(level(part)?),
        };
    }
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn verbosity_and_variable_say_what_is_logged() {
        // verbose, variable, windlass logs up to, libraries log up to
        let off = None;
        for (verbose, variable, own, others) in [
            (0, None, Some(Level::INFO), Some(Level::WARN)),
            (0, Some(""), Some(Level::INFO), Some(Level::WARN)),
            (0, Some("error"), Some(Level::ERROR), Some(Level::ERROR)),
            (0, Some("debug"), Some(Level::DEBUG), Some(Level::WARN)),
            (0, Some("off"), off, off),
            (
                0,
                Some("windlass=trace"),
                Some(Level::TRACE),
                Some(Level::WARN),
            ),
            (
                0,
                Some("error, windlass=debug"),
                Some(Level::DEBUG),
                Some(Level::ERROR),
            ),
            (1, Some("off"), Some(Level::DEBUG), Some(Level::INFO)),
            (2, None, Some(Level::TRACE), Some(Level::DEBUG)),
            (9, None, Some(Level::TRACE), Some(Level::TRACE)),
        ] {
            let filter = filter(verbose, variable).expect("understood");
            for (target, most) in [("windlass::daemon", own), ("hyper::client", others)] {
                for level in [
                    Level::ERROR,
                    Level::WARN,
                    Level::INFO,
                    Level::DEBUG,
                    Level::TRACE,
                ] {
                    assert_eq!(
                        filter.would_enable(target, &level),
                        most.is_some_and(|most| level <= most),
                        "{verbose} {variable:?} {target} {level}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for wrong in [
            "debgu",
            "INFO",
            "3",
            "windlass",
            "windlass=loud",
            "=info",
            "info;warn",
        ] {
            assert!(filter(0, Some(wrong)).is_err(), "{wrong}");
        }
    }
}
