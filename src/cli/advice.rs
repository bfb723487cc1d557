//! `windlass advice`: what self-tuning found, what is followed, and how to have it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;
use windlass_simulator::self_tuning::{Found, Load, Report, Verdict};

use super::text::span;
use super::{Failure, fleets_asked, history_of, unreadable_store};
use crate::exit::Exit;
use crate::store::{FleetHistory, Followed, History, Tuning};

/// Show what self-tuning found, what is followed since when, and how to have it
#[derive(Debug, Args)]
#[command(
    long_about = "Shows what self-tuning found, what is followed since when, and how to have it.\n\n\
        While `windlass run` goes on, the record of each fleet is replayed on a schedule with other \
        policies (`self_tuning` in the configuration). This shows what that came to, and with --out \
        writes the policy that was found. It reads the store also while `windlass run` writes to it.",
    after_long_help = "Examples:\n  \
        windlass advice --config fleets.toml\n  \
        windlass advice --config fleets.toml --fleet web --last 7\n  \
        windlass advice --config fleets.toml --fleet web --out better.toml\n\n\
        To use what --out wrote, name it in the fleet's `policy_file` in place of its policies, and \
        start\n`windlass run` again. To undo what self_tuning = \"act\" changed, write \"advise\" or \"off\": \
        the policy\nof the file is run again at once."
)]
pub(super) struct Advice {
    /// The configuration whose store is read [default: the built-in example]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only this fleet [default: all that have decisions]
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,

    /// The newest N replays, oldest of them first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    last: u32,

    /// Write the policy that was found last into this new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// How advice is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A paragraph per replay, for people.
    Text,
    /// An array with one object per fleet.
    Json,
}

/// What there is of a fleet.
#[derive(Serialize)]
struct Told {
    fleet: String,
    /// `null` for the policy of its file.
    follows: Option<Found>,
    since: Option<String>,
    changes: Vec<ChangeTold>,
    reports: Vec<Report>,
}

/// A change of what is followed.
#[derive(Serialize)]
struct ChangeTold {
    at: String,
    follows: Option<String>,
    why: String,
}

impl Told {
    fn read(history: &History, fleet: &FleetHistory, last: u32) -> Result<Self, Failure> {
        let unreadable = |error| unreadable_store(history, error);
        let tunings = history.tunings(&fleet.name, last).map_err(unreadable)?;
        let followed = history.followed(&fleet.name).map_err(unreadable)?;
        let newest = followed.last();
        let follows = newest.and_then(|one| one.found.clone());
        let change = |one: &Followed| ChangeTold {
            at: one.at.to_string(),
            follows: one.found.as_ref().map(ToString::to_string),
            why: one.why.clone(),
        };
        let reports = tunings.into_iter().rev();
        let reports = reports.filter_map(|Tuning { report, .. }| report);
        Ok(Self {
            fleet: fleet.name.clone(),
            since: newest.map(|one| one.at.to_string()),
            follows,
            changes: followed.iter().map(change).collect(),
            reports: reports.collect(),
        })
    }

    /// What was found last and is better.
    fn found(&self) -> Option<&Found> {
        self.reports
            .iter()
            .rev()
            .find_map(|report| match &report.verdict {
                Verdict::Better { found, .. } => Some(found),
                Verdict::Unfit { .. }
                | Verdict::Unlike { .. }
                | Verdict::Best
                | Verdict::Unsure { .. }
                | Verdict::Worse { .. } => None,
            })
    }
}

/// So many replays are looked through for a policy to write.
const LOOKED_THROUGH: u32 = 500;

impl Advice {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let history = history_of(self.config.as_deref())?;
        let fleets = fleets_asked(&history, self.fleet.as_deref())?;
        if let Some(path) = &self.out {
            return write_policy(path, &history, &fleets, out);
        }
        let told = fleets
            .iter()
            .map(|fleet| Told::read(&history, fleet, self.last));
        let told = told.collect::<Result<Vec<_>, _>>()?;
        match self.format {
            Format::Text => {
                for (place, one) in told.iter().enumerate() {
                    if place > 0 {
                        writeln!(out)?;
                    }
                    self.write_text(out, one)?;
                }
            }
            Format::Json => {
                let json = serde_json::to_string_pretty(&told);
                writeln!(out, "{}", json.expect("advice is plain data"))?;
            }
        }
        Ok(Exit::Done)
    }

    fn write_text(&self, out: &mut dyn Write, told: &Told) -> io::Result<()> {
        let name = &told.fleet;
        if told.reports.is_empty() {
            writeln!(
                out,
                "{name}: its record has not been replayed yet; `windlass run` does it on the schedule of \
                 [self_tuning], unless the fleet says self_tuning = \"off\""
            )?;
        }
        for report in &told.reports {
            writeln!(out, "{}  {name}", report.at)?;
            if let Some(load) = &report.load {
                line(out, "replayed", &load_text(load))?;
                let cost = format!("{}, ${:.2} a day", report.in_force, load.usd_per_day);
                line(out, "in force", &cost)?;
            }
            line(out, "verdict", &report.to_string())?;
            if let Verdict::Better { found, .. } = &report.verdict
                && told.follows.as_ref() != Some(found)
            {
                line(out, "use it", &self.accept(name))?;
            }
        }
        if let Some(last) = told.changes.last() {
            match &last.follows {
                Some(found) => line(out, "follows", &format!("{found}, since {}", last.at))?,
                None => line(
                    out,
                    "follows",
                    &format!(
                        "the policy of its file, again since {}: {}",
                        last.at, last.why
                    ),
                )?,
            }
        }
        Ok(())
    }

    /// What to type to have it.
    fn accept(&self, fleet: &str) -> String {
        let config = match &self.config {
            Some(config) => format!(" --config {}", config.display()),
            None => String::new(),
        };
        format!(
            "windlass advice{config} --fleet {fleet} --out better.toml, and policy_file = \
             \"better.toml\" in place of the fleet's policies"
        )
    }
}

fn write_policy(
    path: &Path,
    history: &History,
    fleets: &[FleetHistory],
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let [fleet] = fleets else {
        let known: Vec<&str> = fleets.iter().map(|fleet| fleet.name.as_str()).collect();
        let what = format!(
            "choose one of the fleets with --fleet: {}",
            known.join(", ")
        );
        return Err(Failure::new(Exit::Usage, what));
    };
    let told = Told::read(history, fleet, LOOKED_THROUGH)?;
    let Some(found) = told.found() else {
        let what = format!(
            "no better policy was found for {}: `windlass advice` shows what the replays came to",
            fleet.name
        );
        return Err(Failure::new(Exit::Unavailable, what));
    };
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(found.text.as_bytes()));
    written.map_err(|error| {
        let what = if error.kind() == io::ErrorKind::AlreadyExists {
            format!("{} is there already: name another file", path.display())
        } else {
            format!("cannot write {}: {error}", path.display())
        };
        Failure::new(Exit::Usage, what)
    })?;
    writeln!(out, "{}: {found}", path.display())?;
    Ok(Exit::Done)
}

fn line(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {label:<10}{text}")
}

fn load_text(load: &Load) -> String {
    let supposed = if load.boot_seen {
        ""
    } else {
        ", which is supposed"
    };
    format!(
        "{} of it: {} jobs of {:.1} s on average, boots of {:.0} s{supposed}",
        span(load.to.since(load.from)),
        load.jobs,
        load.service_secs,
        load.boot_secs,
    )
}
