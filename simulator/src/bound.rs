//! The clairvoyant bound: what no controller can do better than, and the best
//! schedule that was found with hindsight.
//!
//! For a load that is known in full, [`of`] gives a lower limit on instance
//! dollars plus waiting dollars, and a schedule of launches and ends whose cost
//! the simulated world itself measures. The true optimum lies between the two.
//! `docs/bound.md` has the proof, and says what is covered.

mod certificate;
mod levels;
mod plan;
mod prices;
mod problem;
mod program;
mod replay;
mod search;
#[cfg(test)]
mod tests;

use serde::Serialize;

use windlass_policies::units::MicroUsd;

use crate::scenario::{Scenario, ScenarioError};
use crate::workload::Workload;

/// What is known about the least that a scenario's load can cost. Money is
/// instance dollars plus waiting dollars, as [`crate::score::Score::total_usd`]
/// counts them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// The scenario's name: its file name without `.toml`.
    pub scenario: String,
    /// The trace's file name.
    pub trace: String,
    /// The seed everything was drawn from.
    pub seed: u64,
    /// Length of the run in seconds.
    pub simulated_secs: f64,
    /// Jobs that arrived.
    pub jobs: u64,
    /// No controller pays less, however much it knows and however often it
    /// looks. Rounded down to a whole micro-dollar.
    pub bound_usd: f64,
    /// What the best schedule that was found costs in the simulated world.
    pub achieved_usd: f64,
    /// Its instances.
    pub achieved_instance_usd: f64,
    /// Its waiting.
    pub achieved_delay_usd: f64,
    /// How much more that is than the bound, as a part of the bound: 0.02 is
    /// two per cent. The optimum lies in between. `None` if the bound is 0.
    pub gap: Option<f64>,
    /// What the work alone would cost on instances that boot in no time, are
    /// paid for only while they work, and let nobody wait.
    pub work_usd: f64,
}

/// Why there is no bound.
#[derive(Debug, thiserror::Error)]
pub enum BoundError {
    /// The proof does not cover such a world.
    #[error("no bound for the scenario {scenario}: {why}")]
    NotCovered {
        /// Which scenario.
        scenario: String,
        /// What about it, and what to change.
        why: String,
    },
    /// The scenario makes no world.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// The bound of `scenario` under `workload`, which is all of its load.
///
/// Deterministic, like everything here. It takes time in proportion to the jobs,
/// and 8 bytes a job beside the load; up to 4 million jobs, another 48.
///
/// # Errors
/// [`BoundError::NotCovered`] for sessions that share servers, capacity that is
/// paid for ahead, warm pools and interruptions; [`BoundError::Scenario`] if the
/// scenario makes no world.
pub fn of(scenario: &Scenario, workload: &Workload) -> Result<Bound, BoundError> {
    let problem = problem::Problem::of(scenario, workload)?;
    let found = search::search(scenario, workload, &problem)?;
    let (proved, achieved) = (usd(found.proved), found.achieved);
    let (instance, delay) = (achieved.instance_usd, achieved.delay_usd);
    Ok(Bound {
        scenario: scenario.name.clone(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
        simulated_secs: achieved.simulated_secs,
        jobs: achieved.jobs,
        bound_usd: proved,
        achieved_usd: instance + delay,
        achieved_instance_usd: instance,
        achieved_delay_usd: delay,
        gap: gap(proved, instance + delay),
        work_usd: problem.work_usd(),
    })
}

fn gap(bound: f64, achieved: f64) -> Option<f64> {
    (bound > 0.0).then(|| achieved / bound - 1.0)
}

/// Dollars of an amount that is not negative.
fn usd(amount: MicroUsd) -> f64 {
    crate::queue::ratio(u128::from(amount.get().unsigned_abs()), 1_000_000).unwrap_or(0.0)
}
