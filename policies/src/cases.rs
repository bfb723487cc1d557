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
//! Policies that remember ([`crate::policy::recall`]) may need a past:
//!
//! ```toml
//! before = [{ times = 2, every = "60s", readings = { utilization = 0.9 } }]
//! desired = 5             # what the last decision was to bring the fleet to;
//!                         # default instances + booting
//! idle = ["10m", "30s"]   # for how long instances have been idle; others are busy
//! fresh = ["90s"]         # for how long instances have taken jobs; others for a day
//! ```
//!
//! `before` are cycles that went before, oldest first: each entry stands for
//! `times` cycles, `every` so long until the next; its other keys are those of
//! the case, and are the same as there unless they are written again. Without
//! `at` the first cycle is at 1970-01-01T00:00:00Z.
//!
//! A signal that is not named is absent. The target is what the policies come
//! to by [`combine`], before any limit of a fleet; when there is no wish the
//! fleet is held, so the target is `instances + booting`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::fields::{Fields, FromToml, did_you_mean};
use crate::model::{Proposal, Wish};
use crate::policy::{INSTANCES_MAX, Life, NamedPolicy, Recall, View, combine};
use crate::signal::{Absence, Reading, Readings, SignalSpec};
use crate::units::Timestamp;

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Cycles that went before, oldest first.
    pub before: Vec<Scene>,
    /// The cycle it is about.
    pub scene: Scene,
    /// What the policies should come to.
    pub target: Target,
}

/// What one cycle of a case sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Instances that take jobs.
    pub instances: u32,
    /// Instances on their way.
    pub booting: u32,
    /// What the last decision was to bring the fleet to; all there are if
    /// `None`.
    pub desired: Option<u32>,
    /// Jobs one instance works on at a time.
    pub slots: u32,
    /// For how long instances have been idle; no longer than `instances`.
    pub idle: Vec<Duration>,
    /// For how long the last instances have taken jobs; no longer than
    /// `instances`. All others have for a day.
    pub fresh: Vec<Duration>,
    /// The time of the cycle.
    pub at: Timestamp,
    /// What is read; what is not in it is absent.
    pub readings: Readings,
}

/// For how long an instance has taken jobs unless a case says otherwise.
const READY_FOR: Duration = Duration::from_hours(24);

/// The most cycles that may go before: two weeks of hours fit, as does a day of
/// minutes.
const BEFORE_MAX: u32 = 2_000;

impl Scene {
    fn current(&self) -> u32 {
        self.instances.saturating_add(self.booting)
    }

    /// The ready instances: the idle ones first, the fresh ones last.
    fn lives(&self) -> Vec<Life> {
        let count = usize::try_from(self.instances).unwrap_or(usize::MAX);
        let old = count.saturating_sub(self.fresh.len());
        let lives = (0..count).map(|index| Life {
            ready_for: index
                .checked_sub(old)
                .and_then(|index| self.fresh.get(index))
                .copied()
                .unwrap_or(READY_FOR),
            idle_for: self.idle.get(index).copied(),
        });
        lives.collect()
    }

    /// The same at `at`, with readings taken then.
    fn moved(&self, at: Timestamp) -> Self {
        let mut readings = Readings::new();
        for (name, reading) in self.readings.iter() {
            let reading = match reading {
                Reading::Present(sample) => Reading::complete(sample.value, at),
                Reading::Absent(why) => Reading::Absent(why.clone()),
            };
            readings.insert(name, reading);
        }
        Self {
            at,
            readings,
            ..self.clone()
        }
    }

    fn view<'a>(&'a self, lives: &'a [Life]) -> View<'a> {
        View {
            now: self.at,
            readings: &self.readings,
            current: self.current(),
            ready: self.instances,
            slots: self.slots,
            desired: self.desired.unwrap_or_else(|| self.current()),
            lives,
        }
    }
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
    let current = case.scene.current();
    let lives = case.scene.lives();
    let proposals: Vec<Proposal> = policies
        .iter()
        .map(|policy| {
            let mut recall = Recall::default();
            for scene in &case.before {
                policy.consider(&scene.view(&scene.lives()), None, &mut recall);
            }
            let view = case.scene.view(&lives);
            policy.consider(&view, None, &mut recall);
            policy.propose(&view, Some(&recall))
        })
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
    let base = Scene {
        instances: instances.unwrap_or(0),
        booting: 0,
        desired: None,
        slots: 1,
        idle: Vec::new(),
        fresh: Vec::new(),
        at: Timestamp::EPOCH,
        readings: Readings::new(),
    };
    let at = table.optional::<Timestamp>("at");
    let scene = read_scene(table, &base, signals);
    let entries = table.tables("before", |entry| {
        let what = "how long it is until the next cycle, such as \"60s\"";
        let bounds = Duration::from_millis(100)..=Duration::from_hours(24 * 7);
        let every = entry.required_within("every", what, bounds);
        let times = entry.or_within("times", 1, 1..=BEFORE_MAX);
        let instances = entry.optional_within("instances", 0..=INSTANCES_MAX);
        let base = Scene {
            instances: instances.unwrap_or(scene.instances),
            ..scene.clone()
        };
        let scene = read_scene(entry, &base, signals);
        Some((entry.path().to_owned(), Some((every?, times, scene))))
    });
    let entries: Option<Vec<_>> = entries.into_iter().map(|(_, entry)| entry).collect();
    let entries = entries?;
    let cycles: u64 = entries.iter().map(|(_, times, _)| u64::from(*times)).sum();
    if cycles > u64::from(BEFORE_MAX) {
        let message = format!("{cycles} cycles before the case; at most {BEFORE_MAX}");
        table.problem("before", message);
        return None;
    }
    let span = entries
        .iter()
        .fold(Duration::ZERO, |sum, (every, times, _)| {
            sum + *every * *times
        });
    let at = at.unwrap_or(Timestamp::EPOCH + span);
    if at.since(Timestamp::EPOCH) < span {
        table.problem("before", "begins before 1970; give the case a later `at`");
        return None;
    }
    let mut before = Vec::new();
    let mut clock = at - span;
    for (every, times, scene) in entries {
        for _ in 0..times {
            before.push(scene.moved(clock));
            clock = clock + every;
        }
    }
    let target = table.required("target", "a number of instances or \"hold\"");
    instances?;
    Some(Case {
        name: name?,
        before,
        scene: scene.moved(at),
        target: target?,
    })
}

/// Reads what a cycle sees; what is not written is as in `base`.
fn read_scene(table: &mut Fields<'_>, base: &Scene, signals: Option<&[SignalSpec]>) -> Scene {
    let booting = table.or_within("booting", base.booting, 0..=INSTANCES_MAX);
    let slots = table.or_within("slots", base.slots, 1..=INSTANCES_MAX);
    let desired = table.optional_within("desired", 0..=INSTANCES_MAX);
    let readings = if table.has("readings") {
        table
            .table("readings", |values| Some(read_readings(values, signals)))
            .unwrap_or_default()
    } else {
        base.readings.clone()
    };
    let idle = read_spans(table, "idle", &base.idle, base.instances);
    let fresh = read_spans(table, "fresh", &base.fresh, base.instances);
    Scene {
        instances: base.instances,
        booting,
        desired: desired.or(base.desired),
        slots,
        idle,
        fresh,
        at: base.at,
        readings,
    }
}

/// Reads for how long some of `count` instances have been something.
fn read_spans(table: &mut Fields<'_>, key: &str, base: &[Duration], count: u32) -> Vec<Duration> {
    let Some(Spans(spans)) = table.optional(key) else {
        return base.to_vec();
    };
    if u32::try_from(spans.len()).unwrap_or(u32::MAX) > count {
        let message = format!("{} instances, of {count} that take jobs", spans.len());
        table.problem(key, message);
    }
    spans
}

/// Spans of time as a case writes them.
struct Spans(Vec<Duration>);

impl FromToml for Spans {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let toml::Value::Array(elements) = value else {
            return Err(format!(
                "{value} is no list of durations; write one such as [\"10m\", \"30s\"]"
            ));
        };
        let spans: Result<_, _> = elements.iter().map(Duration::from_toml).collect();
        spans.map(Self)
    }

    fn to_text(&self) -> String {
        let spans: Vec<String> = self.0.iter().map(FromToml::to_text).collect();
        format!("[{}]", spans.join(", "))
    }
}

/// Reads readings; [`Scene::moved`] says when they were taken.
fn read_readings(values: &mut Fields<'_>, signals: Option<&[SignalSpec]>) -> Readings {
    let at = Timestamp::EPOCH;
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
