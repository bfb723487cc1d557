//! How closely a fleet followed its demand: the elasticity measures of the SPEC
//! research group (Herbst, Kounev, Reussner 2013; Bauer, Herbst, Spinner,
//! Ali-Eldin, Kounev 2018).
//!
//! They score how a fleet *follows*, not money and not waiting: they punish an
//! idle instance that is kept through a short gap although that is cheaper than
//! a new boot, and their demand knows neither backlog nor boots. They are here to
//! compare with other work; nothing in this house optimises them.
//!
//! ## Demand
//!
//! Time is cut into windows. The offered load a of a window is the mean number
//! of jobs in service in it, had no job ever waited. The demand d of the window
//! is the least number of instances whose slots m hold the waits of that load
//! within the target, by Erlang's formula for Poisson arrivals and exponential
//! services of mean s:
//!
//! ```text
//! P(wait > t) = C(m, a) exp(-(m - a) t / s)     with t = s / 10
//! ```
//!
//! must be at most 5 %. A window without load has the demand 0. Demand so is a
//! property of the load alone: all policies are held against the same.
//!
//! ## Measures
//!
//! s(t) is how many instances are ready, those that drain too, and T the length
//! of the run. Where d is 0 the divisor is 1.
//!
//! ```text
//! theta_u = 100 / T * integral of max(d - s, 0) / d     theta_o likewise of max(s - d, 0) / d
//! tau_u   = 100 / T * time with d > s                   tau_o   with s > d
//! instability = share of the steps from window to window at whose ends
//!               sgn(change of s) > sgn(change of d), in percent
//! jitter      = (times s changed - times d changed) / T, an hour
//! violations  = share of the jobs that waited longer than the target, in percent
//! deviation   = (theta_u^5 + theta_o^5 + tau_u^5 + tau_o^5 + instability^5 + violations^5)^(1/5)
//! ```

use std::collections::BTreeMap;

use serde::Serialize;
use windlass_policies::units::{MICROS_PER_HOUR, MICROS_PER_SEC};

use crate::accrual::Accrual;
use crate::queue::{JobColumns, ratio, wide};
use crate::world::{InstanceStay, World};

/// The shortest window: load is told in minutes everywhere, and shorter windows
/// hold too few jobs to call it a load.
const WINDOW_MIN: u64 = 60 * MICROS_PER_SEC;

/// The most windows, each 24 bytes: a minute each for a year and a half. Longer
/// runs get longer windows.
const WINDOWS_MAX: u64 = 1 << 20;

/// The share of jobs that may wait longer than the target.
const LATE_MAX: f64 = 0.05;

/// The target wait, as a part of the mean service time.
const TARGET_PART: u64 = 10;

/// How many instances each window of a load needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The length of a window in microseconds; the last one may be shorter.
    pub window: u64,
    /// The whole time in microseconds.
    pub length: u64,
    /// How long a job may wait, in microseconds.
    pub target_wait: u64,
    /// The least number of instances for each window.
    pub least: Vec<u64>,
}

/// How closely a fleet followed its demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Elasticity {
    /// The wait that the demand is reckoned for.
    pub target_wait_secs: f64,
    /// The length of the windows of the demand.
    pub window_secs: f64,
    /// The demand on average over time, in instances.
    pub demand_mean: f64,
    /// The largest demand, in instances.
    pub demand_peak: u64,
    /// What was missing, in percent of the demand, on average over time.
    pub theta_u: f64,
    /// What was too much, in percent of the demand, on average over time.
    pub theta_o: f64,
    /// Time with too few instances, in percent.
    pub tau_u: f64,
    /// Time with too many instances, in percent.
    pub tau_o: f64,
    /// Steps in which the fleet went another way than its demand, in percent.
    pub instability: f64,
    /// How many more changes an hour the fleet made than its demand; fewer, if
    /// negative.
    pub jitter: f64,
    /// Jobs that waited longer than the target, in percent.
    pub violations: f64,
    /// All of it in one number; 0 is ideal.
    pub deviation: f64,
}

impl Demand {
    /// The demand of `jobs` from 0 to `length` on instances of `slots` slots that
    /// are decided upon every `interval`, all in microseconds.
    pub fn of(jobs: &JobColumns, length: u64, interval: u64, slots: u32) -> Self {
        let window = interval.max(WINDOW_MIN).max(length.div_ceil(WINDOWS_MAX));
        let mut busy = Accrual::new(window, length);
        let mut served = 0_u128;
        for (arrival, service) in jobs.arrivals().iter().zip(jobs.services()) {
            busy.add(*arrival, arrival + service, 1);
            served += u128::from(*service);
        }
        let parts = u128::from(TARGET_PART) * u128::from(wide(jobs.len()).max(1));
        let totals = busy.totals();
        // Loads repeat, and a long search need not.
        let mut known = BTreeMap::new();
        let least = totals.windows(2).zip(0_u64..).map(|(pair, place)| {
            let from = place * window;
            let span = window.min(length - from);
            let load = ratio(pair[1] - pair[0], u128::from(span)).unwrap_or(0.0);
            *known
                .entry(load.to_bits())
                .or_insert_with(|| instances_for(load, slots))
        });
        let least = least.collect();
        Self {
            window,
            length,
            target_wait: u64::try_from(served / parts).unwrap_or(u64::MAX),
            least,
        }
    }
}

/// The least number of instances of `slots` slots that hold the waits of the
/// offered load `load` within the target.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of slots are small whole numbers"
)]
fn instances_for(load: f64, slots: u32) -> u64 {
    if !(load > 0.0) {
        return 0;
    }
    let slots = u64::from(slots.max(1));
    // The inverse of Erlang's loss formula B, by 1 / B(m) = 1 + m / a / B(m - 1).
    // Twelve standard deviations below the load B is 1 - m / a, to within what
    // the way up from there makes invisible (a factor of e^-72).
    let mut count = (load - 12.0 * load.sqrt()).max(0.0) as u64;
    let mut inverse = load / (load - count as f64);
    loop {
        count += 1;
        let servers = count as f64;
        inverse = 1.0 + inverse * servers / load;
        if count.is_multiple_of(slots) && servers > load {
            let waits = 1.0 / (1.0 + (inverse - 1.0) * (1.0 - load / servers));
            let late = waits * libm::exp(-(servers - load) / TARGET_PART as f64);
            if late <= LATE_MAX {
                return count / slots;
            }
        }
    }
}

impl Elasticity {
    /// How `world`, at its end, followed `demand`. Shares of jobs are 0 unless
    /// the world keeps every wait.
    pub fn of(demand: &Demand, world: &World) -> Self {
        let (mut jobs, mut late) = (0_u64, 0_u64);
        world.each_wait(|_, wait| {
            jobs += 1;
            late += u64::from(wait > demand.target_wait);
        });
        let supply = Supply::of(world.stays(), demand.length);
        let late = ratio(u128::from(late) * 100, u128::from(jobs));
        Self::followed(demand, &supply, late.unwrap_or(0.0))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "this is where whole numbers become ratios"
    )]
    fn followed(demand: &Demand, supply: &Supply, violations: f64) -> Self {
        let length = demand.length.max(1) as f64;
        let mut sums = Sums::default();
        supply.beside(demand, |span, supply, demand| {
            sums.add(span, supply, demand);
        });
        let percent = |sum: f64| 100.0 * sum / length;
        let mean = ratio(sums.demanded, u128::from(demand.length));
        let changed = demand.least.windows(2).filter(|pair| pair[0] != pair[1]);
        let more = supply.changes as f64 - changed.count() as f64;
        let mut own = Self {
            target_wait_secs: demand.target_wait as f64 / MICROS_PER_SEC as f64,
            window_secs: demand.window as f64 / MICROS_PER_SEC as f64,
            demand_mean: mean.unwrap_or(0.0),
            demand_peak: demand.least.iter().copied().max().unwrap_or(0),
            theta_u: percent(sums.missing),
            theta_o: percent(sums.surplus),
            tau_u: percent(sums.under as f64),
            tau_o: percent(sums.over as f64),
            instability: instability(demand, supply),
            jitter: more * MICROS_PER_HOUR as f64 / length,
            violations,
            deviation: 0.0,
        };
        let parts = [
            own.theta_u,
            own.theta_o,
            own.tau_u,
            own.tau_o,
            own.instability,
            own.violations,
        ];
        let powers = parts.map(|part| part * part * part * part * part);
        own.deviation = libm::pow(powers.iter().sum(), 0.2);
        own
    }
}

/// Time times what was wrong in it.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    demanded: u128,
    missing: f64,
    surplus: f64,
    under: u64,
    over: u64,
}

impl Sums {
    #[expect(
        clippy::cast_precision_loss,
        reason = "this is where whole numbers become ratios"
    )]
    fn add(&mut self, span: u64, supply: u64, demand: u64) {
        self.demanded += u128::from(span) * u128::from(demand);
        let off = supply.abs_diff(demand) as f64 / demand.max(1) as f64 * span as f64;
        if supply < demand {
            self.missing += off;
            self.under += span;
        } else if supply > demand {
            self.surplus += off;
            self.over += span;
        }
    }
}

/// How many instances were ready, from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Supply {
    // Invariant: sorted by time, beginning with 0, no count twice in a row.
    steps: Vec<(u64, u64)>,
    /// How often it changed after 0.
    changes: usize,
}

impl Supply {
    fn of(stays: impl Iterator<Item = InstanceStay>, length: u64) -> Self {
        let mut bends: BTreeMap<u64, i64> = BTreeMap::new();
        for InstanceStay { ready_at, ended_at } in stays {
            let ended_at = ended_at.unwrap_or(length);
            if let Some(ready_at) = ready_at.filter(|at| *at < ended_at) {
                *bends.entry(ready_at).or_default() += 1;
                *bends.entry(ended_at).or_default() -= 1;
            }
        }
        let mut steps = vec![(0, 0)];
        let mut count = 0_u64;
        for (at, bend) in bends.range(..length) {
            count = count.saturating_add_signed(*bend);
            match steps.last_mut() {
                Some(last) if *at == last.0 => last.1 = count,
                Some(last) if last.1 == count => {}
                Some(_) | None => steps.push((*at, count)),
            }
        }
        let changes = steps.len() - 1;
        Self { steps, changes }
    }

    /// Shows `note` each span over which neither supply nor demand changes: its
    /// length, the supply, the demand.
    fn beside(&self, demand: &Demand, mut note: impl FnMut(u64, u64, u64)) {
        let mut next = 0;
        let mut supply = 0;
        for (least, place) in demand.least.iter().zip(0_u64..) {
            let mut at = place * demand.window;
            let end = at.saturating_add(demand.window).min(demand.length);
            while at < end {
                while let Some((from, count)) = self.steps.get(next).filter(|step| step.0 <= at) {
                    (_, supply) = (from, *count);
                    next += 1;
                }
                let until = self.steps.get(next).map_or(end, |step| step.0.min(end));
                note(until - at, supply, *least);
                at = until;
            }
        }
    }

    /// How many are ready right before `at`.
    fn before(&self, at: u64) -> u64 {
        let known = self.steps.partition_point(|step| step.0 < at);
        known.checked_sub(1).map_or(0, |place| self.steps[place].1)
    }
}

/// The share of the steps from window to window in which the supply rose and
/// the demand did not, or the demand fell and the supply did not, in percent.
fn instability(demand: &Demand, supply: &Supply) -> f64 {
    let ends = (1..=wide(demand.least.len())).map(|place| {
        let end = place.saturating_mul(demand.window);
        supply.before(end.min(demand.length))
    });
    let both: Vec<(u64, u64)> = ends.zip(demand.least.iter().copied()).collect();
    let other_way = |pair: &&[(u64, u64)]| {
        let (supply, demand) = (pair[1].0.cmp(&pair[0].0), pair[1].1.cmp(&pair[0].1));
        supply > demand
    };
    let count = both.windows(2).filter(other_way).count();
    let steps = both.len().saturating_sub(1);
    ratio(100 * u128::from(wide(count)), u128::from(wide(steps))).unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
