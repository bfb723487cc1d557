//! `windlass check`: says what is wrong with files before they are used.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use windlass_policies::cases;
use windlass_policies::fields::Document;
use windlass_policies::model::{Market, Offering};
use windlass_policies::policy_file::{self, PolicyFile};
use windlass_simulator::scenario::{Scenario, ScenarioError, TraceFile};

use super::Failure;
use super::preflight::try_aws;
use super::text::counted;
use crate::aws::permissions::Extent;
use crate::chain;
use crate::config::price::Priced;
use crate::config::{Config, ConfigError, Fleet, Provider};
use crate::exit::Exit;

/// Say what is wrong with configurations, policies and scenarios
#[derive(Debug, Args)]
#[command(
    long_about = "Says what is wrong with configurations, policies and scenarios.\n\n\
        Every problem is listed at once, with the key it concerns and what to change. The cases \
        in policy files ([[case]] tables: readings in, target out) are run, and a scenario's trace \
        is read. Nothing is contacted and nothing is changed.\n\n\
        With --aws, what a configuration needs of AWS is tried too: who asks, what is there and \
        what is allowed. Only reads and dry runs are sent, so nothing is changed either. What has \
        no dry run is named, and not tried.",
    after_long_help = "Examples:\n  \
        windlass check fleets.toml\n  \
        windlass check policies/*.toml scenarios/*.toml\n  \
        windlass check --aws fleets.toml\n  \
        windlass check --aws --observe fleets.toml\n\n\
        Exit codes: 0 all is well; 1 a case or a trial failed; 64 a file is wrong; 66 a file cannot be read.\n\
        With several files, the highest."
)]
pub(super) struct Check {
    /// What to check: each file shows by its tables what it is
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Try what configurations need of AWS, without changing anything there
    #[arg(long)]
    aws: bool,

    /// Try only what `windlass run --dry-run` needs
    #[arg(long, requires = "aws")]
    observe: bool,
}

/// What came of one file.
struct Verdict {
    exit: Exit,
    text: String,
}

impl Verdict {
    fn well(text: String) -> Self {
        Self {
            exit: Exit::Done,
            text,
        }
    }
}

impl Check {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut worst = Exit::Done;
        let extent = if self.observe {
            Extent::Observe
        } else {
            Extent::Act
        };
        let aws = self.aws.then_some(extent);
        for file in &self.files {
            let verdict = check(file, aws);
            writeln!(out, "{}", verdict.text)?;
            if verdict.exit.code() > worst.code() {
                worst = verdict.exit;
            }
        }
        Ok(worst)
    }
}

fn check(file: &Path, aws: Option<Extent>) -> Verdict {
    let name = file.display();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            return Verdict {
                exit: Exit::NoInput,
                text: format!("{name}: cannot be read: {error}"),
            };
        }
    };
    match kind(&text) {
        Kind::Policy => check_policy(&name.to_string(), &text),
        Kind::Scenario => check_scenario(file, &text),
        Kind::Config => check_config(file, &text, aws),
    }
}

/// What a file is meant to be.
#[derive(Clone, Copy)]
enum Kind {
    Config,
    Policy,
    Scenario,
}

/// Judged by its tables. What is no TOML at all is told as a configuration.
fn kind(text: &str) -> Kind {
    let table: toml::Table = text.parse().unwrap_or_default();
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    if has(&["policy", "case", "signals"]) {
        Kind::Policy
    } else if has(&["workload", "cloud", "run", "objective"]) {
        Kind::Scenario
    } else {
        Kind::Config
    }
}

fn check_policy(name: &str, text: &str) -> Verdict {
    let PolicyFile {
        policies, cases, ..
    } = match policy_file::read(text) {
        Ok(file) => file,
        Err(problems) => {
            return Verdict {
                exit: Exit::Usage,
                text: problems.in_file(name),
            };
        }
    };
    let failures = cases::run(&policies, &cases);
    if failures.is_empty() {
        let (policies, cases) = (
            counted_as(policies.len(), "policy", "policies"),
            counted(cases.len(), "case"),
        );
        return Verdict::well(format!("{name}: all well: {policies}, {cases} passed"));
    }
    let told: Vec<String> = failures
        .iter()
        .map(|failure| format!("{name}: {failure}"))
        .collect();
    Verdict {
        exit: Exit::Failed,
        text: told.join("\n"),
    }
}

fn check_scenario(file: &Path, text: &str) -> Verdict {
    let name = file.display();
    let read = || count_jobs(&Scenario::open_file(file)?);
    // What is found in a trace is told at the key it concerns.
    let at_key = |path: &str, message: String| match Document::parse(text) {
        Ok(document) => format!("{name}:{}: {message}", document.line_of(path)),
        Err(_) => format!("{name}: {message}"),
    };
    match read() {
        Ok(jobs) => Verdict::well(format!("{name}: all well: a scenario with {jobs} jobs")),
        Err(error) => {
            let text = match &error {
                ScenarioError::Wrong { .. } => error.to_string(),
                ScenarioError::Trace { source, .. } => {
                    at_key(TRACE, format!("{TRACE}: {}", chain(source)))
                }
                ScenarioError::Workload { source, .. } => {
                    let message = chain(source).to_string();
                    at_key(message.split(':').next().unwrap_or(TRACE), message.clone())
                }
                ScenarioError::Unread { .. }
                | ScenarioError::NoSuch { .. }
                | ScenarioError::World { .. } => format!("{name}: {}", chain(&error)),
            };
            let exit = exit_of(&error);
            Verdict { exit, text }
        }
    }
}

/// Where a scenario names its trace.
const TRACE: &str = "workload.trace";

/// Reads the trace of `scenario` and makes jobs of it.
fn count_jobs(scenario: &Scenario) -> Result<usize, ScenarioError> {
    let trace = scenario.read_trace()?;
    Ok(scenario.build_workload(&trace)?.jobs.len())
}

fn exit_of(error: &ScenarioError) -> Exit {
    match error {
        ScenarioError::Unread { .. } | ScenarioError::Trace { .. } => Exit::NoInput,
        ScenarioError::NoSuch { .. }
        | ScenarioError::Wrong { .. }
        | ScenarioError::Workload { .. }
        | ScenarioError::World { .. } => Exit::Usage,
    }
}

/// The first fleet whose world cannot be made after all, and why. What is
/// built in is known to be sound.
fn unusable_world(config: &Config) -> Option<(&Fleet, ScenarioError)> {
    config.fleets.iter().find_map(|fleet| {
        let scenario = match &fleet.provider {
            Provider::Simulated(simulated) => &simulated.scenario,
            Provider::Process(_) | Provider::Ec2(_) | Provider::Asg(_) => return None,
        };
        match scenario.trace {
            TraceFile::Path(_) => Some((fleet, count_jobs(scenario).err()?)),
            TraceFile::Embedded(_) => None,
        }
    })
}

fn check_config(file: &Path, text: &str, aws: Option<Extent>) -> Verdict {
    let name = file.display();
    match Config::open(Some(file)) {
        Ok(config) => {
            if let Some((fleet, error)) = unusable_world(&config) {
                let path = format!("fleet.{}.simulated.scenario", fleet.spec.name);
                let line = match Document::parse(text) {
                    Ok(document) => format!(":{}", document.line_of(&path)),
                    Err(_) => String::new(),
                };
                return Verdict {
                    exit: exit_of(&error),
                    text: format!("{name}{line}: {path}: {}", chain(&error)),
                };
            }
            let fleets = counted(config.fleets.len(), "fleet");
            let names: Vec<&str> = config
                .fleets
                .iter()
                .map(|fleet| fleet.spec.name.as_str())
                .collect();
            let missing = config.fleets.iter().flat_map(Fleet::missing_secrets);
            let warnings: Vec<String> = missing
                .map(|(key, why)| {
                    format!("{name}: warning: {key}: {why} here; without it the signal is absent")
                })
                .collect();
            let names = names.join(", ");
            let well = format!("{name}: all well: {fleets} ({names})");
            let prices = config.fleets.iter().flat_map(price_lines).collect();
            let well = [vec![well], prices, warnings].concat().join("\n");
            let Some(extent) = aws else {
                return Verdict::well(well);
            };
            let (exit, told) = try_aws(&config, extent);
            Verdict {
                exit,
                text: format!("{well}\n{told}"),
            }
        }
        Err(ConfigError::Wrong { file, problems }) => Verdict {
            exit: Exit::Usage,
            text: problems.in_file(&file),
        },
        Err(error @ ConfigError::Unread { .. }) => Verdict {
            exit: Exit::NoInput,
            text: chain(&error).to_string(),
        },
    }
}

/// What each offering on AWS counts at, and who says so.
fn price_lines(fleet: &Fleet) -> Vec<String> {
    let name = &fleet.spec.name;
    let line = |offering: &Offering, priced: Priced| {
        let says = match (priced, offering.market) {
            (Priced::InFile, _) => "as the file says",
            (Priced::OnDemand, Market::OnDemand) => "on demand, from the price table",
            (Priced::OnDemand, Market::Spot) => {
                "the on-demand price from the table, until its spot price is read from EC2"
            }
        };
        let (offering, price) = (&offering.name, offering.price);
        format!("  {name}: {offering} counts at ${price} an hour, {says}")
    };
    match &fleet.provider {
        Provider::Simulated(_) | Provider::Process(_) => Vec::new(),
        Provider::Asg(settings) => vec![line(&settings.offering(), settings.priced)],
        Provider::Ec2(settings) => settings
            .offerings
            .iter()
            .map(|one| line(&one.offering, one.priced))
            .collect(),
    }
}

fn counted_as(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
