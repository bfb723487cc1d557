//! Examples that stand beside a policy: readings in, target out.
//!
//! ```toml
//! [[case]]
//! name = "a full queue"
//! instances = 4                                # taking jobs
//! booting = 1                                  # on their way; default 0
//! slots = 2                                    # jobs an instance works on at a time; default 1
//! at = "2026-03-29T01:30:00Z"                  # default 1970-01-01T00:00:00Z
//! readings = { backlog = 120, in_flight = "absent" }
//! target = 12                                  # or "hold": as many as there are
//! ```
//!
//! A signal that is not named is absent. The target is what the policies come
//! to by [`combine`], before any limit of a fleet; when there is no wish the
//! fleet is held, so the target is `instances + booting`.

use std::collections::BTreeSet;
use std::fmt;

use crate::fields::{Fields, FromToml, did_you_mean};
use crate::model::{Proposal, Wish};
use crate::policy::{INSTANCES_MAX, NamedPolicy, View, combine};
use crate::signal::{Absence, Reading, Readings, SignalSpec};
use crate::units::Timestamp;

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Instances that take jobs.
    pub instances: u32,
    /// Instances on their way.
    pub booting: u32,
    /// Jobs one instance works on at a time.
    pub slots: u32,
    /// The time of the cycle.
    pub at: Timestamp,
    /// What is read; what is not in it is absent.
    pub readings: Readings,
    /// What the policies should come to.
    pub target: Target,
}

/// How many instances a case asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This many.
    Instances(u32),
    /// As many as there are.
    Hold,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances(count) => count.fmt(out),
            Self::Hold => out.write_str("hold"),
        }
    }
}

impl FromToml for Target {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(word) if word == "hold" => Ok(Self::Hold),
            toml::Value::Integer(_) => match u32::from_toml(value)? {
                count if count <= INSTANCES_MAX => Ok(Self::Instances(count)),
                count => Err(format!(
                    "{count} is out of bounds; write 0 to {INSTANCES_MAX}"
                )),
            },
            other => Err(format!(
                "{other} is no target; write a number of instances or \"hold\""
            )),
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A case that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the case.
    pub case: String,
    /// What it asks for.
    pub expected: Target,
    /// The instances it started with, those on their way included.
    pub current: u32,
    /// What the policies came to.
    pub got: u32,
    /// What each policy asked for, and why.
    pub proposals: Vec<Proposal>,
}

impl fmt::Display for Failure {
    /// The case, what was expected and what came, then one line per policy.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            case,
            expected,
            current,
            got,
            proposals,
        } = self;
        write!(out, "case `{case}`: expected {expected}")?;
        if *expected == Target::Hold {
            write!(out, " ({current})")?;
        }
        write!(out, ", got {got}")?;
        for Proposal { policy, wish, why } in proposals {
            match wish {
                Wish::Instances(count) => write!(out, "\n  {policy} asks for {count}: {why}")?,
                Wish::Abstain(_) => write!(out, "\n  {policy} abstains: {why}")?,
            }
        }
        Ok(())
    }
}

/// Runs every case, and gives those that came out otherwise.
pub fn run(policies: &[NamedPolicy], cases: &[Case]) -> Vec<Failure> {
    cases
        .iter()
        .filter_map(|case| run_one(policies, case))
        .collect()
}

fn run_one(policies: &[NamedPolicy], case: &Case) -> Option<Failure> {
    let current = case.instances.saturating_add(case.booting);
    let view = View {
        now: case.at,
        readings: &case.readings,
        current,
        ready: case.instances,
        slots: case.slots,
    };
    let proposals: Vec<Proposal> = policies
        .iter()
        .map(|policy| policy.propose(&view))
        .collect();
    let got = combine(&proposals, current).wish.unwrap_or(current);
    let expected = match case.target {
        Target::Instances(count) => count,
        Target::Hold => current,
    };
    (got != expected).then(|| Failure {
        case: case.name.clone(),
        expected: case.target,
        current,
        got,
        proposals,
    })
}

/// Reads every `[[case]]` table. Readings of signals that are not among
/// `signals` are reported, because a slip of the pen would read as absent;
/// `None` if it is not known which signals there are.
pub fn read_cases(fields: &mut Fields<'_>, signals: Option<&[SignalSpec]>) -> Vec<Case> {
    let mut names = BTreeSet::new();
    fields.tables("case", |table| {
        let name =
            table.required::<String>("name", "what the case shows, such as \"a full queue\"");
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            table.problem("name", format!("\"{name}\" is the name of an earlier case"));
        }
        if name.as_ref().is_some_and(String::is_empty) {
            table.problem("name", "is empty; write what the case shows");
        }
        read_case(table, name, signals)
    })
}

fn read_case(
    table: &mut Fields<'_>,
    name: Option<String>,
    signals: Option<&[SignalSpec]>,
) -> Option<Case> {
    let what = "how many instances take jobs, such as 4";
    let instances = table.required_within("instances", what, 0..=INSTANCES_MAX);
    let booting = table.or_within("booting", 0, 0..=INSTANCES_MAX);
    let slots = table.or_within("slots", 1, 1..=INSTANCES_MAX);
    let at = table.or("at", Timestamp::EPOCH);
    let readings = table.table_or_empty("readings", |values| {
        Some(read_readings(values, at, signals))
    });
    let target = table.required("target", "a number of instances or \"hold\"");
    Some(Case {
        name: name?,
        instances: instances?,
        booting,
        slots,
        at,
        readings: readings?,
        target: target?,
    })
}

fn read_readings(
    values: &mut Fields<'_>,
    at: Timestamp,
    signals: Option<&[SignalSpec]>,
) -> Readings {
    let mut readings = Readings::new();
    let names: Vec<&str> = values.keys().collect();
    for name in names {
        if let Some(signals) = signals
            && !signals.iter().any(|signal| signal.name == name)
        {
            let known = signals.iter().map(|signal| signal.name.as_str());
            let hint = did_you_mean(name, known);
            values.problem(name, format!("no policy here reads this signal{hint}"));
        }
        if let Some(read) = values.optional::<CaseReading>(name) {
            let reading = match read {
                CaseReading::Value(value) => Reading::complete(value, at),
                CaseReading::Absent => Reading::Absent(Absence::NoData),
            };
            readings.insert(name, reading);
        }
    }
    readings
}

/// A reading as a case writes it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CaseReading {
    Value(f64),
    Absent,
}

impl FromToml for CaseReading {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(word) if word == "absent" => Ok(Self::Absent),
            toml::Value::Integer(_) | toml::Value::Float(_) => match f64::from_toml(value)? {
                number if number >= 0.0 => Ok(Self::Value(number)),
                number => Err(format!(
                    "{number} is negative; write 0 or more, or \"absent\""
                )),
            },
            other => Err(format!(
                "{other} is no reading; write a number or \"absent\""
            )),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Value(number) => number.to_string(),
            Self::Absent => "\"absent\"".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
