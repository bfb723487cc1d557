//! The command line: one file per verb.

mod advice;
mod bench;
mod bound;
mod check;
mod compare;
mod explain;
mod iam;
mod later;
mod merge;
mod preflight;
mod replay;
mod run;
mod simulate;
mod text;
mod trace;
mod tune;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser, Subcommand};

use crate::chain;
use crate::config::{self, Config, ConfigError, STORE_PATH_DEFAULT};
use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use crate::store::{FleetHistory, History, OpenError};

/// Raises and lowers fleets of EC2 instances by what waiting is worth.
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    long_about = "Raises and lowers fleets of EC2 instances by what waiting is worth.\n\n\
        One loop reads signals, decides how many instances each fleet is to have, writes the \
        decision down and carries it out. The same loop runs a simulated cloud, so that a policy \
        can be tried on a recorded load before it is trusted with money.",
    after_help = "Results go to standard output, logs and errors to standard error.\n\
        Exit codes: 0 done; 1 a check, case or replay failed; 64 wrong arguments or \
        configuration;\n66 an input file cannot be read; 69 the store or the fleet's provider \
        cannot be used; 70 a bug;\n130 stopped at once by a second Ctrl-C.",
    after_long_help = "Results go to standard output, logs and errors to standard error.\n\n\
        Exit codes:\n  \
          0   done\n  \
          1   a check, a case or a replay failed\n  \
          64  the arguments or the configuration are wrong\n  \
          66  an input file is missing or cannot be read\n  \
          69  the store or the fleet's provider cannot be used\n  \
          70  a bug in windlass\n  \
          130 a second Ctrl-C or SIGTERM stopped it at once\n\n\
        Environment:\n  \
          WINDLASS_LOG  what is logged if -v is not given: a level such as `debug`, or a list \
        such as\n                `info,windlass::daemon=debug`\n  \
          NO_COLOR      no colours in the log"
)]
struct Cli {
    /// How the log looks [default: human on a terminal, json otherwise]
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        global = true,
        help_heading = "Logging"
    )]
    log: Option<LogFormat>,

    /// Log more: -v how windlass works, -vv every detail, -vvv everything
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "Logging")]
    verbose: u8,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Check(check::Check),
    Simulate(simulate::Simulate),
    Compare(compare::Compare),
    Merge(merge::Merge),
    Tune(tune::Tune),
    Bound(bound::BoundVerb),
    Explain(explain::Explain),
    Replay(replay::Replay),
    Advice(advice::Advice),
    Bench(bench::Bench),
    Trace(trace::TraceVerb),
    Iam(iam::Iam),
}

/// Why a verb did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Whoever read standard output has seen enough. Nothing to complain about.
    #[error("nobody reads the output any more")]
    Closed,
    /// Something to tell.
    #[error("{what}")]
    Told {
        /// What to tell the shell.
        exit: Exit,
        /// The attempt that failed, such as `cannot read fleet.toml`.
        what: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl Failure {
    /// A failure without a cause below it.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::Told {
            exit,
            what: what.into(),
            cause: None,
        }
    }

    /// A failure and its cause.
    pub(crate) fn because(
        exit: Exit,
        what: impl Into<String>,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Told {
            exit,
            what: what.into(),
            cause: Some(Box::new(cause)),
        }
    }

    /// An input file that cannot be read.
    pub(crate) fn unreadable(path: &Path, cause: io::Error) -> Self {
        Self::because(
            Exit::NoInput,
            format!("cannot read {}", path.display()),
            cause,
        )
    }

    /// Tells it on standard error, once, and says what to tell the shell.
    fn told(&self) -> Exit {
        match self {
            Self::Closed => Exit::Done,
            Self::Told { exit, .. } => {
                // If nobody listens there, the exit code must do.
                let _ = writeln!(io::stderr().lock(), "windlass: {}", chain(self));
                *exit
            }
        }
    }
}

/// Writing results fails for two reasons: nobody reads, or the disk is full.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::because(Exit::Unavailable, "cannot write the result", error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        // Opening says it all itself: the file is named in it.
        let OpenError { path, cause } = error;
        Self::because(
            Exit::Unavailable,
            format!("cannot open the store {}", path.display()),
            cause,
        )
    }
}

/// Does what `arguments` ask for; the first is the program's name.
pub fn start(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come here too. A closed pipe is no matter.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
        }
    };
    obey(&cli).unwrap_or_else(|failure| failure.told())
}

fn obey(cli: &Cli) -> Result<Exit, Failure> {
    logging::start(cli.log, cli.verbose)
        .map_err(|error| Failure::because(Exit::Usage, "cannot log", error))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let exit = match &cli.verb {
        Verb::Run(verb) => verb.obey(&mut out),
        Verb::Check(verb) => verb.obey(&mut out),
        Verb::Simulate(verb) => verb.obey(&mut out),
        Verb::Compare(verb) => verb.obey(&mut out),
        Verb::Merge(verb) => verb.obey(&mut out),
        Verb::Tune(verb) => verb.obey(&mut out),
        Verb::Bound(verb) => verb.obey(&mut out),
        Verb::Explain(verb) => verb.obey(&mut out),
        Verb::Replay(verb) => verb.obey(&mut out),
        Verb::Advice(verb) => verb.obey(&mut out),
        Verb::Bench(verb) => verb.obey(&mut out),
        Verb::Trace(verb) => verb.obey(&mut out),
        Verb::Iam(verb) => verb.obey(&mut out),
    };
    // What was found before a failure is worth seeing.
    let flushed = out.flush();
    let exit = exit?;
    flushed?;
    Ok(exit)
}

/// Reads the configuration at `path`, or the built-in example.
fn config_of(path: Option<&Path>) -> Result<Config, Failure> {
    Config::open(path).map_err(|error| match error {
        ConfigError::Unread { path, source } => Failure::unreadable(&path, source),
        wrong @ ConfigError::Wrong { .. } => Failure::new(Exit::Usage, wrong.to_string()),
    })
}

/// Opens the store that the configuration at `config`, or the built-in
/// example, names, to read it. It
/// looks at nothing else there: the past can be explained while the
/// configuration is being worked on.
fn history_of(config: Option<&Path>) -> Result<History, Failure> {
    let path = match config {
        None => store_path(Path::new(""), config::EXAMPLE)?,
        Some(config) => {
            let text =
                fs::read_to_string(config).map_err(|error| Failure::unreadable(config, error))?;
            store_path(config, &text)?
        }
    };
    Ok(History::open(&path)?)
}

/// `store.path`, which is relative to the configuration's folder.
fn store_path(config: &Path, text: &str) -> Result<PathBuf, Failure> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::because(
            Exit::Usage,
            format!("cannot understand {}", config.display()),
            error,
        )
    })?;
    let path = match table.get("store").map(|store| store.get("path")) {
        None | Some(None) => STORE_PATH_DEFAULT,
        Some(Some(toml::Value::String(path))) => path,
        Some(Some(_)) => {
            let what = format!(
                "{}: store.path: give the path of a file, in quotes",
                config.display()
            );
            return Err(Failure::new(Exit::Usage, what));
        }
    };
    Ok(config.parent().unwrap_or(Path::new("")).join(path))
}

/// The fleets to look at: the named one, or all that have decisions.
fn fleets_asked(history: &History, named: Option<&str>) -> Result<Vec<FleetHistory>, Failure> {
    let mut fleets = history
        .fleets()
        .map_err(|error| unreadable_store(history, error))?;
    let store = history.path().display();
    if fleets.is_empty() {
        let what = format!("there is no decision in {store} yet; `windlass run` writes them");
        return Err(Failure::new(Exit::Unavailable, what));
    }
    let Some(named) = named else {
        return Ok(fleets);
    };
    let known: Vec<String> = fleets.iter().map(|fleet| fleet.name.clone()).collect();
    fleets.retain(|fleet| fleet.name == named);
    if fleets.is_empty() {
        let what = format!(
            "there is no decision of a fleet `{named}` in {store}; it has those of {}",
            known.join(", ")
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(fleets)
}

fn unreadable_store(history: &History, cause: impl Error + Send + Sync + 'static) -> Failure {
    let what = format!("cannot look into {}", history.path().display());
    Failure::because(Exit::Unavailable, what, cause)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_example() {
        let mut command = Cli::command();
        command.build();
        let verbs: Vec<_> = command.get_subcommands_mut().collect();
        assert_eq!(verbs.len(), 14, "thirteen, and `help`");
        for verb in verbs.into_iter().filter(|verb| verb.get_name() != "help") {
            let name = verb.get_name().to_owned();
            let help = verb.render_long_help().to_string();
            assert!(help.contains(&format!("\n  windlass {name} ")), "{help}");
            for argument in verb.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name}: {}",
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn the_store_is_found_from_the_folder_of_the_configuration() {
        for (text, expected) in [
            ("", "conf/windlass.db"),
            ("[store]\nkeep = \"7d\"", "conf/windlass.db"),
            ("[store]\npath = \"data/x.db\"", "conf/data/x.db"),
            ("[store]\npath = \"/var/lib/x.db\"", "/var/lib/x.db"),
            ("fleet = 3\n[store]\npath = \"x.db\"", "conf/x.db"),
        ] {
            let path = store_path(Path::new("conf/fleets.toml"), text).expect("found");
            assert_eq!(path, Path::new(expected), "{text}");
        }
        for wrong in ["[store]\npath = 7", "[store\n"] {
            let failure = store_path(Path::new("fleets.toml"), wrong).expect_err(wrong);
            assert!(
                chain(&failure).to_string().contains("fleets.toml"),
                "{failure}"
            );
        }
    }
}
