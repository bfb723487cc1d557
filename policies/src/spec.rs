//! A fleet as it is to be run, checked and complete: what TOML becomes.
//!
//! The parts are read one by one ([`read_limits`], [`read_signals`], ...), so
//! that a configuration, a scenario and a policy file share them; [`assemble()`]
//! puts a fleet together and reports what does not make sense as a whole.

mod assemble;
mod lint;
mod read;
mod signals;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Offering, is_default};
use crate::policy::{INSTANCES_MAX, NamedPolicy};
use crate::signal::SignalSpec;
use crate::units::MicroUsdPerHour;

pub use assemble::{FleetParts, PoliciesAt, assemble, read_fleet};
pub use lint::{Fault, policy_faults};
pub use read::{
    parse_fleet_name, read_drain, read_interval, read_limits, read_limits_over, read_mix,
    read_objective, read_policies, read_spot,
};
pub use signals::{override_signals, read_signal, read_signal_of, read_signals, resolve_signals};

/// One fleet: what is read, who decides, and what nothing may pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// Its name: 1 to 24 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Time between cycles.
    pub interval: Duration,
    /// What can be bought, cheapest first; at least one.
    pub offerings: Vec<Offering>,
    /// What is read.
    pub signals: Vec<SignalSpec>,
    /// Who proposes; the largest wish wins. At least one.
    pub policies: Vec<NamedPolicy>,
    /// What nothing passes.
    pub limits: Limits,
    /// How much of the fleet must be on demand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mix: Mix,
    /// What is done about spot instances.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spot: Spot,
    /// How instances are let go.
    pub drain: Drain,
    /// What the fleet's work is worth.
    pub objective: Objective,
}

impl FleetSpec {
    /// Once a minute: metrics rarely come more often, and a boot takes longer.
    pub const INTERVAL: Duration = Duration::from_mins(1);

    /// A short text that differs when anything in the spec does, and is the
    /// same on every machine: FNV-1a (64 bits) of its JSON, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let json = serde_json::to_vec(self).expect("a spec is plain data with text for keys");
        let hash = json.into_iter().fold(OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        });
        format!("{hash:016x}")
    }
}

/// The governor's bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The least number of instances.
    pub min: u32,
    /// The most instances, draining ones included.
    pub max: u32,
    /// The most all instances may cost an hour, draining ones included.
    pub max_usd_per_hour: MicroUsdPerHour,
    /// The most instances launched in one cycle.
    pub grow_step_max: u32,
    /// The most instances let go in one cycle.
    pub shrink_step_max: u32,
    /// After growing, how long the fleet does not grow again.
    pub grow_settle: Duration,
    /// After any change, how long the fleet does not shrink.
    pub shrink_settle: Duration,
    /// The largest share of the fleet that may be ended in any one hour, in
    /// percent, 1 to 100. At least one instance is always allowed.
    pub shrink_percent_per_hour_max: u32,
    /// An instance not ready this long after its launch has failed to boot.
    pub boot_timeout: Duration,
    /// This many failed boots in a row, with none ready in between, open the
    /// breaker.
    pub breaker_failures: u32,
    /// Complete listings in a row needed after a start before anything changes.
    pub observe_cycles: u32,
    /// How long a launched instance may be missing from complete listings
    /// before it counts as never launched.
    pub listing_patience: Duration,
    /// What becomes of instances that another controller launched.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strays: Strays,
    /// In how many complete listings such an instance must have been before it
    /// is let go, an interval apart each.
    #[serde(
        default = "Limits::strays_confirmations_default",
        skip_serializing_if = "Limits::is_strays_confirmations_default"
    )]
    pub strays_confirmations: u32,
}

/// What becomes of strays: instances with the fleet's tag that carry a launch
/// token of another store, and were launched after this store first looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strays {
    /// They serve like any other.
    #[default]
    Adopt,
    /// They are no capacity, and are let go once they are confirmed.
    End,
}

/// How much of the fleet must be on demand: so many instances, and a share of
/// those above them, rounded up to on demand as EC2 does. The rest is bought
/// where it is cheapest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// The first so many instances are on demand.
    pub on_demand_base: u32,
    /// Of those above, this share is, in percent, 0 to 100.
    pub on_demand_percent: u32,
}

impl Mix {
    /// How many of `instances` must be on demand.
    pub fn on_demand_of(self, instances: u32) -> u32 {
        let base = self.on_demand_base.min(instances);
        let above = u64::from(instances - base) * u64::from(self.on_demand_percent);
        base.saturating_add(u32::try_from(above.div_ceil(100)).unwrap_or(u32::MAX))
            .min(instances)
    }
}

/// What is done about spot instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// What a rebalance recommendation leads to.
    pub on_rebalance: OnRebalance,
}

/// What is done with an instance that is likelier than others to be taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRebalance {
    /// Another one is bought, and it is let go once that is ready.
    #[default]
    Replace,
    /// Nothing until it is really taken back.
    Ignore,
}

impl Limits {
    /// None: what a fleet must always keep is for its owner to say.
    pub const MIN: u32 = 0;
    /// A wrong reading should not buy more than this before the next one
    /// corrects it. EC2 launches a hundred in one call.
    pub const GROW_STEP_MAX: u32 = 100;
    /// Half of the step for growing: what is let go by mistake takes a boot to
    /// come back.
    pub const SHRINK_STEP_MAX: u32 = 50;
    /// Five minutes, as Kubernetes' and KEDA's: longer than most lulls between
    /// two waves of one load, shorter than anybody's patience with idle cost.
    pub const SHRINK_SETTLE: Duration = Duration::from_mins(5);
    /// Growing waits for nothing: the wish counts booting instances already.
    pub const GROW_SETTLE: Duration = Duration::ZERO;
    /// No limit: idle instances are safe to end, and busy ones are drained.
    pub const SHRINK_PERCENT_PER_HOUR_MAX: u32 = 100;
    /// A quarter of an hour, as Karpenter and the Cluster Autoscaler wait:
    /// slower boots are rare, and each costs at most this before it is replaced.
    pub const BOOT_TIMEOUT: Duration = Duration::from_mins(15);
    /// Three in a row are no accident.
    pub const BREAKER_FAILURES: u32 = 3;
    /// Two listings that agree: one could be half a picture.
    pub const OBSERVE_CYCLES: u32 = 2;
    /// Ten minutes: EC2 lists a launch within seconds, and in bad hours within
    /// minutes. Giving up too early buys twice.
    pub const LISTING_PATIENCE: Duration = Duration::from_mins(10);
    /// Five listings, so five minutes: what looks foreign for so long is no
    /// slip of a listing.
    pub const STRAYS_CONFIRMATIONS: u32 = 5;

    const fn strays_confirmations_default() -> u32 {
        Self::STRAYS_CONFIRMATIONS
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands a reference to it"
    )]
    const fn is_strays_confirmations_default(confirmations: &u32) -> bool {
        *confirmations == Self::STRAYS_CONFIRMATIONS
    }

    /// Limits that never bind apart from `min` and `max`: for scenarios, where
    /// a policy is to be seen as it is. Boots may take a day.
    pub const fn unbound(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            max_usd_per_hour: MicroUsdPerHour::new(u64::MAX),
            grow_step_max: INSTANCES_MAX,
            shrink_step_max: INSTANCES_MAX,
            shrink_settle: Duration::ZERO,
            grow_settle: Duration::ZERO,
            shrink_percent_per_hour_max: 100,
            boot_timeout: Duration::from_hours(24),
            breaker_failures: Self::BREAKER_FAILURES,
            observe_cycles: 0,
            listing_patience: Self::LISTING_PATIENCE,
            strays: Strays::Adopt,
            strays_confirmations: Self::STRAYS_CONFIRMATIONS,
        }
    }
}

/// How instances are let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// How long a fenced instance may go on with its jobs before it is ended
    /// with them; `None` waits for as long as they take.
    pub deadline: Option<Duration>,
    /// Whether busy instances may be fenced at all; otherwise only idle and
    /// booting ones are let go.
    pub busy: bool,
}

impl Drain {
    /// As long as the jobs take: a job is never ended unless its owner says so.
    pub const DEADLINE: Option<Duration> = None;
    /// Busy ones too: otherwise a fleet of long jobs never shrinks.
    pub const BUSY: bool = true;
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline: Self::DEADLINE,
            busy: Self::BUSY,
        }
    }
}

/// What the fleet's work is worth. Prices results; an economic policy reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// What one job waiting for one hour costs.
    pub usd_per_job_hour_waiting: MicroUsdPerHour,
}
