//! A fleet as it is to be run, checked and complete: what TOML becomes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Offering;
use crate::policy::NamedPolicy;
use crate::signal::SignalSpec;
use crate::units::MicroUsdPerHour;

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
    /// How instances are let go.
    pub drain: Drain,
    /// What the fleet's work is worth.
    pub objective: Objective,
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

/// What the fleet's work is worth. Prices results; an economic policy reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// What one job waiting for one hour costs.
    pub usd_per_job_hour_waiting: MicroUsdPerHour,
}
impl FleetSpec {
    /// A short name for exactly this configuration: FNV-1a of its JSON, in hex.
    pub fn fingerprint(&self) -> String {
        let json = serde_json::to_string(self).expect("a spec is plain data with string keys");
        let hash = json.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}
