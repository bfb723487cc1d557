//! What a run came to, in the units people ask for.

pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use windlass_policies::spec::Objective;
use windlass_policies::units::{MICROS_PER_HOUR, MICROS_PER_SEC, Meter, MicroUsd, MicroUsdPerHour};

use crate::elasticity::Elasticity;
use crate::queue::{Spread, ratio};
use crate::world::Summary;

/// One policy's result in one scenario: a row of the table, an object of the
/// JSON array.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The scenario's name: its file name without `.toml`.
    pub scenario: String,
    /// The policy's name: its file name without `.toml`.
    pub policy: String,
    /// The trace's file name.
    pub trace: String,
    /// The seed everything was drawn from.
    pub seed: u64,
    /// Length of the run.
    pub simulated_secs: f64,
    /// Jobs that arrived.
    pub jobs: u64,
    /// Those of them that were not finished at the end.
    pub unfinished_jobs: u64,
    /// From arrival to the start of service; so far, for jobs still waiting.
    pub wait_secs: Quantiles,
    /// From arrival to the end of service; so far, for unfinished jobs.
    pub response_secs: Quantiles,
    /// Time from launch to end, summed over instances.
    pub instance_hours: f64,
    /// The same as it is charged: in increments, and with the minimum.
    pub billed_hours: f64,
    /// What the instances cost.
    pub instance_usd: f64,
    /// What the waiting was worth.
    pub delay_usd: f64,
    /// Both together.
    pub total_usd: f64,
    /// Instances launched, without the initial ones.
    pub launches: u64,
    /// Instances ended.
    pub terminations: u64,
    /// The most instances at once.
    pub instances_peak: u32,
    /// Instances on average over time.
    pub instances_mean: f64,
    /// Jobs that had to begin again because their instance was ended.
    pub jobs_redone: u64,
    /// Instances that the provider took back; only where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<u64>,
    /// Instances that died, failed boots too; only where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died: Option<u64>,
    /// Launches that found no capacity at all; only where it can run out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches_without_capacity: Option<u64>,
    /// Calls refused as too many; only where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_throttled: Option<u64>,
    /// What was paid for ahead, used or not; only where anything is. Part of
    /// the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepaid_usd: Option<f64>,
    /// What the warm pool cost; only where there is one. Part of the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_pool_usd: Option<f64>,
    /// Which part of a quantile it may be off by; only where they are not exact.
    /// The largest is exact unless it was lost with its instance; then it may be
    /// off by twice as much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles_within: Option<f64>,
    /// Each class of jobs; only where there are classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassScore>,
    /// How closely the fleet followed its demand; only if that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elasticity: Option<Elasticity>,
}

/// One class of jobs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// What it is called.
    pub class: String,
    /// Jobs that arrived.
    pub jobs: u64,
    /// From arrival to the start of service; so far, for jobs still waiting.
    pub wait_secs: Quantiles,
    /// From arrival to the end of service; so far, for unfinished jobs.
    pub response_secs: Quantiles,
    /// What its waiting was worth; each class is rounded up on its own here.
    pub delay_usd: f64,
}

/// Mean and quantiles over all jobs, in seconds; 0 if there were none.
/// [`Score::quantiles_within`] says whether the quantiles are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median: the smallest value that half of all do not exceed.
    pub p50: f64,
    /// 95th percentile, likewise.
    pub p95: f64,
    /// 99th percentile, likewise.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// What a run was of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The scenario's name.
    pub scenario: String,
    /// The policy's name.
    pub policy: String,
    /// The trace's name.
    pub trace: String,
    /// The seed.
    pub seed: u64,
}

impl Score {
    /// Prices `summary` by `objective`.
    pub fn of(label: Label, summary: &Summary, objective: Objective) -> Self {
        Self::of_classes(label, summary, objective, &BTreeMap::new())
    }

    /// The same where waiting costs what `prices` say in the classes they name.
    pub fn of_classes(
        label: Label,
        summary: &Summary,
        objective: Objective,
        prices: &BTreeMap<String, MicroUsdPerHour>,
    ) -> Self {
        let extras = &summary.extras;
        let mut delay = Meter::default();
        let mut classes = Vec::new();
        for class in &extras.classes {
            let usual = objective.usd_per_job_hour_waiting;
            let price = prices.get(&class.name).copied().unwrap_or(usual);
            let mut own = Meter::default();
            own.add_wide(price, class.wait.sum_micros);
            delay.add_wide(price, class.wait.sum_micros);
            classes.push(ClassScore {
                class: class.name.clone(),
                jobs: class.wait.count,
                wait_secs: Quantiles::of(&class.wait),
                response_secs: Quantiles::of(&class.response),
                delay_usd: usd(own.total()),
            });
        }
        if classes.is_empty() {
            delay.add_wide(objective.usd_per_job_hour_waiting, summary.wait.sum_micros);
        }
        let (instance, delay) = (summary.instance_cost, delay.total());
        let other = [extras.prepaid_cost, extras.warm_pool_cost];
        let total = other
            .into_iter()
            .flatten()
            .fold(instance + delay, |sum, one| sum + one);
        Self {
            scenario: label.scenario,
            policy: label.policy,
            trace: label.trace,
            seed: label.seed,
            simulated_secs: secs(summary.simulated_micros),
            jobs: summary.jobs,
            unfinished_jobs: summary.unfinished_jobs,
            wait_secs: Quantiles::of(&summary.wait),
            response_secs: Quantiles::of(&summary.response),
            instance_hours: hours(summary.instance_micros),
            billed_hours: hours(summary.instance_micros_billed),
            instance_usd: usd(instance),
            delay_usd: usd(delay),
            total_usd: usd(total),
            launches: summary.launches,
            terminations: summary.terminations,
            instances_peak: summary.instances_peak,
            instances_mean: summary.instances_mean,
            jobs_redone: summary.jobs_redone,
            interrupted: extras.interrupted,
            died: extras.died,
            launches_without_capacity: extras.no_capacity,
            calls_throttled: extras.throttled,
            prepaid_usd: extras.prepaid_cost.map(usd),
            warm_pool_usd: extras.warm_pool_cost.map(usd),
            quantiles_within: None,
            classes,
            elasticity: None,
        }
    }
}

impl Quantiles {
    fn of(spread: &Spread) -> Self {
        let exact = spread.quantiles.unwrap_or_default();
        Self {
            mean: spread.mean_secs().unwrap_or(0.0),
            p50: secs(exact.p50),
            p95: secs(exact.p95),
            p99: secs(exact.p99),
            max: secs(exact.max),
        }
    }
}

fn secs(micros: u64) -> f64 {
    quotient(u128::from(micros), u128::from(MICROS_PER_SEC))
}

fn hours(micros: u128) -> f64 {
    quotient(micros, u128::from(MICROS_PER_HOUR))
}

fn usd(amount: MicroUsd) -> f64 {
    // Neither instances nor waiting ever cost less than nothing.
    quotient(u128::from(amount.get().unsigned_abs()), 1_000_000)
}

fn quotient(numerator: u128, denominator: u128) -> f64 {
    ratio(numerator, denominator).expect("the denominator is a constant above 0")
}
