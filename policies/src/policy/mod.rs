//! The rules that say how many instances a fleet should have.
//!
//! One file per rule. Each is a pure function of what is seen: it proposes a
//! number of instances, or abstains because a reading it needs is absent.
//! Whole numbers come out; each rule states how it rounds. The rules in
//! [`peers`] are those of other systems; they keep notes ([`recall`]).

mod combine;
pub mod economic;
mod fixed;
mod hours;
pub mod peers;
mod queue_backlog;
pub mod recall;
mod rounding;
mod schedule;
mod step;
mod target_tracking;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::cron::Zone;
use crate::fields::{Fields, did_you_mean, nearest};
use crate::model::{Proposal, Wish};
use crate::signal::{Absence, Completeness, Readings, Sample, SignalKind};
use crate::units::Timestamp;

pub use combine::{Combined, combine};
pub use economic::Economic;
pub use fixed::Fixed;
pub use hours::{Hours, Until};
pub use peers::Peer;
pub use queue_backlog::QueueBacklog;
pub use recall::{Life, Recall, Since};
pub use schedule::{Schedule, Window};
pub use step::{Change, Rung, Step, Threshold};
pub use target_tracking::TargetTracking;

pub(crate) use rounding::up as round_up;

/// The most instances any key may name: far above any fleet, far below what
/// would overflow a price.
pub const INSTANCES_MAX: u32 = 100_000;

/// What a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The time of the cycle.
    pub now: Timestamp,
    /// Checked readings: stale ones are absent already.
    pub readings: &'a Readings,
    /// Instances that count as capacity: serving, booting, launched but not
    /// yet listed.
    pub current: u32,
    /// Instances that take jobs now.
    pub ready: u32,
    /// Jobs one instance works on at a time.
    pub slots: u32,
    /// What the last decision was to bring the fleet to; `current` if there was
    /// none. Other systems call it the desired capacity.
    pub desired: u32,
    /// The ready instances, in no order that matters; empty unless a policy of
    /// the fleet [follows them](NamedPolicy::follows_instances).
    pub lives: &'a [Life],
}

impl View<'_> {
    /// The sample of `signal`, a finite number of at least zero.
    ///
    /// # Errors
    /// Why there is none.
    fn sample(&self, signal: &str) -> Result<Sample, Absence> {
        let sample = self.readings.sample(signal)?;
        // Readings are checked before they come here; a rule that is asked
        // directly must not compute with NaN either.
        if sample.value >= 0.0 && sample.value.is_finite() {
            Ok(sample)
        } else {
            Err(Absence::NotANumber)
        }
    }
}

/// A policy and the name it goes by in decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedPolicy {
    /// The name: its `kind`, unless its table sets `name`.
    pub name: String,
    /// The rule.
    pub policy: Policy,
}

impl NamedPolicy {
    /// Reads one `[[policy]]` table: its `kind`, `name` and the keys of its rule.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let named = fields.optional::<String>("name");
        let policy = Policy::read(fields);
        if let Some(problem) = named.as_deref().and_then(Self::name_problem) {
            fields.problem("name", problem);
        }
        let policy = policy?;
        let name = named.unwrap_or_else(|| policy.kind().to_owned());
        Some(Self { name, policy })
    }

    fn name_problem(name: &str) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let fits = (1..=40).contains(&name.len()) && name.bytes().all(plain);
        (!fits).then(|| format!("{name:?} is no name; write 1 to 40 letters, digits, `_` and `-`"))
    }

    /// What the rule asks for, and why.
    ///
    /// A partial reading ([`Completeness::Partial`]) may be lower than the
    /// truth, so it may make a fleet grow but never shrink: a wish below
    /// `current` becomes `current`.
    ///
    /// A rule that [remembers](Self::remembers) says what it came to when it
    /// was shown the cycle ([`Self::consider`]), from `recall`.
    pub fn propose(&self, view: &View<'_>, recall: Option<&Recall>) -> Proposal {
        let Opinion { wish, why } = self.policy.opinion(view, recall);
        let (wish, why) = match (wish, self.partial_signal(view)) {
            (Wish::Instances(count), Some(signal)) if count < view.current => (
                Wish::Instances(view.current),
                format!(
                    "{why}; but `{signal}` is partial, so not below {}",
                    view.current
                ),
            ),
            (wish, _) => (wish, why),
        };
        Proposal {
            policy: self.name.clone(),
            wish,
            why,
        }
    }

    /// The first signal of the rule whose sample does not cover everything.
    fn partial_signal(&self, view: &View<'_>) -> Option<&str> {
        self.policy.signals().into_iter().find(|signal| {
            view.sample(signal)
                .is_ok_and(|sample| sample.completeness == Completeness::Partial)
        })
    }
}

/// One of the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Policy {
    /// Always the same number.
    Fixed(Fixed),
    /// Numbers by the clock.
    Schedule(Schedule),
    /// As many as the jobs at hand need.
    QueueBacklog(QueueBacklog),
    /// As many as bring a per-instance signal to its target.
    TargetTracking(TargetTracking),
    /// More or fewer when a signal crosses thresholds.
    Step(Step),
    /// As many as are worth their price by the waiting they save.
    Economic(Economic),
    /// What another system would do.
    Peer(Box<Peer>),
}

impl Policy {
    /// The words for `kind` in TOML, in the order they are documented in;
    /// [`Peer::KINDS`] has those of the peers.
    pub const KINDS: [&'static str; 6] = [
        "fixed",
        "schedule",
        "queue_backlog",
        "target_tracking",
        "step",
        "economic",
    ];

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        type Reader = fn(&mut Fields<'_>) -> Option<Policy>;
        let readers: [Reader; 6] = [
            |fields| Fixed::read(fields).map(Self::Fixed),
            |fields| Some(Self::Schedule(Schedule::read(fields))),
            |fields| QueueBacklog::read(fields).map(Self::QueueBacklog),
            |fields| TargetTracking::read(fields).map(Self::TargetTracking),
            |fields| Step::read(fields).map(Self::Step),
            |fields| Some(Self::Economic(Economic::read(fields))),
        ];
        if let Some(toml::Value::String(kind)) = fields.raw("kind") {
            if Peer::KINDS.contains(&kind.as_str()) {
                return Peer::read(kind, fields).map(|peer| Self::Peer(Box::new(peer)));
            }
            if !Self::KINDS.contains(&kind.as_str())
                && nearest(kind, Self::KINDS).is_none()
                && let Some(meant) = nearest(kind, Peer::KINDS.iter().copied())
            {
                fields.accept_unknown_keys();
                let message = format!("{kind:?} is no kind of policy; did you mean `{meant}`?");
                fields.problem("kind", message);
                return None;
            }
        }
        let words: Vec<(&str, Reader)> = Self::KINDS.into_iter().zip(readers).collect();
        let Some(read) = fields.required_word("kind", &words) else {
            // Without its kind nobody knows which keys it should have.
            fields.accept_unknown_keys();
            for key in fields.keys().filter(|key| nearest(key, ["kind"]).is_some()) {
                fields.problem(key, format!("unknown key{}", did_you_mean(key, ["kind"])));
            }
            return None;
        };
        read(fields)
    }

    /// Its word in TOML.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::Schedule(_) => "schedule",
            Self::QueueBacklog(_) => "queue_backlog",
            Self::TargetTracking(_) => "target_tracking",
            Self::Step(_) => "step",
            Self::Peer(peer) => peer.kind(),
            Self::Economic(_) => "economic",
        }
    }

    /// The signals it reads, by name.
    pub fn signals(&self) -> Vec<&str> {
        self.demands()
            .into_iter()
            .map(|demand| demand.signal)
            .collect()
    }

    /// The signals it reads, and what kind each must be.
    pub fn demands(&self) -> Vec<Demand<'_>> {
        match self {
            Self::Fixed(_) | Self::Schedule(_) => Vec::new(),
            Self::QueueBacklog(rule) => rule.demands(),
            Self::TargetTracking(rule) => rule.demands(),
            Self::Step(rule) => rule.demands(),
            Self::Peer(peer) => peer.demands(),
            Self::Economic(rule) => rule.demands(),
        }
    }

    /// The hours by which its wish changes with the clock alone, and their zone.
    pub fn hours(&self) -> (Zone, Vec<&Hours>) {
        match self {
            Self::Schedule(rule) => (rule.zone, rule.hours().collect()),
            Self::Economic(rule) => (rule.zone, rule.hours().collect()),
            Self::Fixed(_)
            | Self::QueueBacklog(_)
            | Self::TargetTracking(_)
            | Self::Step(_)
            | Self::Peer(_) => (Zone::UTC, Vec::new()),
        }
    }

    /// When its wish next changes by the clock alone; `None` if it never does.
    /// Used to wake the loop, so a moment too many does no harm.
    pub fn boundary_after(&self, now: Timestamp) -> Option<Timestamp> {
        let (zone, hours) = self.hours();
        hours::next_boundary(hours.into_iter(), zone, now)
    }

    fn opinion(&self, view: &View<'_>, recall: Option<&Recall>) -> Opinion {
        match self {
            Self::Fixed(rule) => rule.opinion(),
            Self::Schedule(rule) => rule.opinion(view),
            Self::QueueBacklog(rule) => rule.opinion(view),
            Self::TargetTracking(rule) => rule.opinion(view),
            Self::Step(rule) => rule.opinion(view),
            Self::Peer(_) | Self::Economic(_) => recall
                .and_then(|recall| recall.said_at(view.now))
                .cloned()
                .unwrap_or_else(|| {
                    Opinion::instances(view.current, "was not shown this cycle".to_owned())
                }),
        }
    }
}

/// What a rule asks for, and the sentence that explains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opinion {
    wish: Wish,
    why: String,
}

impl Opinion {
    fn instances(count: u32, why: String) -> Self {
        Self {
            wish: Wish::Instances(count),
            why,
        }
    }

    fn abstain(signal: &str, absence: Absence) -> Self {
        let why = format!("no reading of `{signal}`: {absence}");
        Self {
            wish: Wish::Abstain(absence),
            why,
        }
    }
}

/// A signal a rule reads, and what it must be for the rule to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The signal's name.
    pub signal: &'a str,
    /// The key of the policy that names it.
    pub key: &'static str,
    /// What it must be.
    pub needs: Needs,
}

/// What kind of number a rule can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A number of jobs over the whole fleet.
    Total,
    /// A number that falls in proportion as instances are added.
    Proportional,
    /// A number that goes up and down.
    Level,
    /// A number that only rises, to take differences of.
    Counter,
}

impl Needs {
    /// Why a signal of `kind` will not do; `None` if it will.
    pub fn refusal(self, kind: SignalKind) -> Option<String> {
        match self {
            Self::Total if kind != SignalKind::Total => Some(format!(
                "is a {kind} and not a total: dividing it by jobs per instance gives no number \
                 of instances"
            )),
            Self::Proportional if !kind.falls_as_instances_are_added() => Some(format!(
                "is a {kind}, which does not fall as instances are added: a constant reading at \
                 twice the target would double the fleet every cycle; use a per_worker or ratio \
                 signal, or `kind = \"queue_backlog\"` for a queue"
            )),
            Self::Level if kind == SignalKind::Counter => Some(
                "is a counter, which only rises: no threshold makes sense for it; use the rate \
                 of it"
                    .to_owned(),
            ),
            Self::Counter if kind != SignalKind::Counter => Some(format!(
                "is a {kind} and not a counter: what has come since the last look cannot be \
                 told from it"
            )),
            Self::Total | Self::Proportional | Self::Level | Self::Counter => None,
        }
    }
}
