//! Self-tuning: what a fleet would cost under other policies, by its own record.
//!
//! The daemon keeps a [`Look`] of each cycle. From time to time it hands them to
//! [`judge()`], which replays them through the simulator with the policy in force,
//! with that policy's knobs elsewhere, and with those presets and peers that need
//! no reading the fleet has not. It changes nothing: it comes to a [`Report`],
//! and `windlass` keeps or changes what the fleet follows.
//!
//! # How
//!
//! 1. The record becomes a load ([`Recorded`]), or it is said why it cannot.
//! 2. The load is cut into blocks of equal length. The last [`BLOCKS_UNSEEN`] are
//!    the fold that the search never sees: a fifth of the load, or a day if that
//!    is longer, but no more than a third. The first block is not counted: there
//!    everybody starts without history.
//! 3. The policy in force is replayed. Over the span in which it really decided,
//!    what that costs must be what was recorded, within [`LIKE_PERCENT`]: a
//!    replay that does not come to what happened tells nothing of what would have
//!    ([`Verdict::Unlike`]).
//! 4. The search: each policy as it stands and at a few places of its knobs, on
//!    the first half; the best of these on all but the last fold; then around the
//!    best of them, twice. All meet the same jobs and boots.
//! 5. The rule of one standard error: of all that are behind the best by no more
//!    than the standard error of that difference, the one nearest to the policy
//!    in force is taken. If that is the policy in force, nothing is better.
//! 6. The check, on the last fold: the low end of the gain's 95 % confidence
//!    interval ([`crate::gain`]) must be above the margin.

mod field;
mod history;
mod judge;
mod look;
#[cfg(test)]
mod tests;
pub(crate) mod told;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use windlass_policies::policy::NamedPolicy;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

pub use field::{Own, Policy};
pub use history::{JOBS_MAX, JOBS_MIN, Recorded, TICKS_MAX, Unfit};
pub use judge::{Input, Stopped, judge, look_back};
pub use look::{Instances, Look};

/// Of so many blocks is the fold that the search never sees, as in
/// `windlass tune`.
pub const BLOCKS_UNSEEN: u32 = 8;

/// How far the replay of what really happened may be off its cost, in percent.
/// Service times are taken as exponential and boots as all the same, which costs
/// some percent; a counter that is wrong costs a multiple.
pub const LIKE_PERCENT: u32 = 30;

/// What self-tuning goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much of the record is replayed at most.
    pub history: Duration,
    /// How much of it there must be.
    pub history_min: Duration,
    /// How much less a policy must surely cost, in percent of what the one in
    /// force costs.
    pub margin_percent: u32,
    /// How long what was chosen is followed at least, unless it turns out worse.
    pub hold: Duration,
}

impl Settings {
    /// A week: of what repeats, most repeats within one.
    pub const HISTORY: Duration = Duration::from_hours(7 * 24);
    /// Three days, so that the fold that is never searched is a whole one.
    pub const HISTORY_MIN: Duration = Duration::from_hours(3 * 24);
    /// Two percent: what differs by less is not worth a change.
    pub const MARGIN_PERCENT: u32 = 2;
    /// Three days: a change is judged by more than one of them.
    pub const HOLD: Duration = Duration::from_hours(3 * 24);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            history: Self::HISTORY,
            history_min: Self::HISTORY_MIN,
            margin_percent: Self::MARGIN_PERCENT,
            hold: Self::HOLD,
        }
    }
}

/// What came of replaying a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The end of the record: when it was asked.
    pub at: Timestamp,
    /// The policy in force, by name.
    pub in_force: String,
    /// What the replay was of; nothing if there was none.
    pub load: Option<Load>,
    /// How many settings of policies were replayed.
    pub tried: usize,
    /// What it came to.
    pub verdict: Verdict,
}

/// A load that was replayed, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// How many jobs arrived.
    pub jobs: u64,
    /// How long one took on average, in seconds.
    pub service_secs: f64,
    /// How long boots took, in seconds.
    pub boot_secs: f64,
    /// Whether boots were seen, or that is only supposed.
    pub boot_seen: bool,
    /// What the policy in force comes to, in dollars a day.
    pub usd_per_day: f64,
}

/// What a replay came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There was nothing to replay, or nothing to weigh.
    Unfit {
        /// Why.
        why: String,
    },
    /// The replay does not come to what was recorded, so it is not trusted.
    Unlike {
        /// What it comes to, in dollars.
        replayed_usd: f64,
        /// What was recorded.
        recorded_usd: f64,
    },
    /// Nothing is better than the policy in force by more than a standard error.
    Best,
    /// What was found is not surely better, by the margin, on the fold that the
    /// search never saw.
    Unsure {
        /// What it is.
        found: Found,
        /// What it gains there.
        gain: GainTold,
    },
    /// It surely is.
    Better {
        /// What it is.
        found: Found,
        /// What it gains there.
        gain: GainTold,
    },
    /// What was followed is worse than the policy of the file since it was
    /// chosen.
    Worse {
        /// Why that is said.
        why: String,
    },
}

/// A policy that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What it is called: a preset, or the fleet's own policy.
    pub name: String,
    /// What was turned about it, such as `queue_backlog.jobs_per_instance = 2`.
    pub turned: Vec<String>,
    /// Its policy file, to be written and used.
    pub text: String,
    /// What that says.
    pub policies: Vec<NamedPolicy>,
    /// Whether it is the policy of the fleet's own file, as it stands there.
    pub own: bool,
}

/// What a policy gains over the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GainTold {
    /// How long it was measured, in days.
    pub days: f64,
    /// What the policy in force comes to, in dollars a day.
    pub given_usd_per_day: f64,
    /// How much less the other does, likewise.
    pub usd_per_day: f64,
    /// From where that lies with 95 % confidence.
    pub low_usd_per_day: f64,
    /// To where.
    pub high_usd_per_day: f64,
}

/// What a fleet follows instead of the policy of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Following {
    /// What it is.
    pub found: Found,
    /// Since when, by the fleet's clock.
    pub since: Timestamp,
}

impl Following {
    /// The fleet of `file` as it is run under this.
    pub fn spec(&self, file: &FleetSpec) -> FleetSpec {
        FleetSpec {
            policies: self.found.policies.clone(),
            ..file.clone()
        }
    }
}

/// What is to be done about a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing.
    Stay,
    /// What was found is better, but what is followed has not been for long.
    Wait {
        /// When it may be changed.
        until: Timestamp,
    },
    /// Follow this from now on.
    Follow(Found),
    /// Go back to the policy of the file.
    Back,
}

/// What `report` asks for, of a fleet that follows `following` and changed that
/// last at `changed`. Going back because it is worse waits for nothing.
pub fn next(
    report: &Report,
    following: Option<&Following>,
    changed: Option<Timestamp>,
    settings: &Settings,
) -> Next {
    match &report.verdict {
        Verdict::Better { found, .. } => {
            let until = changed.map_or(Timestamp::EPOCH, |changed| changed + settings.hold);
            if report.at < until {
                Next::Wait { until }
            } else if found.own {
                Next::Back
            } else {
                Next::Follow(found.clone())
            }
        }
        Verdict::Worse { .. } if following.is_some() => Next::Back,
        Verdict::Worse { .. }
        | Verdict::Unfit { .. }
        | Verdict::Unlike { .. }
        | Verdict::Best
        | Verdict::Unsure { .. } => Next::Stay,
    }
}
