//! What no policy can beat on a load, at several prices of waiting.

use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use windlass_policies::units::MicroUsdPerHour;
use windlass_simulator::bound::{self, BoundError};
use windlass_simulator::comparison::{Limits, Record, What, millionths};
use windlass_simulator::queue::{JobClasses, JobColumns};
use windlass_simulator::scenario::Scenario;
use windlass_simulator::workload::Workload;

use super::plan::Unit;
use super::progress::BOUND;
use super::state::CameTo;
use super::unit::Work;
use super::{BOUND_POINTS_MAX, ComparisonError, Load};
use crate::simulation::note;

/// Prices of waiting, as parts of that of the scenario: numerator and
/// denominator, the most telling first.
const PRICES: [(u64, u64); BOUND_POINTS_MAX as usize] = [
    (1, 1),
    (1, 10),
    (10, 1),
    (1, 100),
    (100, 1),
    (3, 10),
    (3, 1),
];

/// The bound of the part of the load that is scored; no records where no proof
/// covers it.
pub(super) fn records(work: &Work<'_>, unit: &Unit) -> Result<Vec<Record>, ComparisonError> {
    let (load, points) = (work.load, work.plan.options.bound_points);
    let Some(workload) = rest(load).filter(|_| points > 0) else {
        work.progress.skip(BOUND * u64::from(points));
        return Ok(Vec::new());
    };
    let one = |price: &MicroUsdPerHour| {
        let limits = limits(work, &workload, *price)?;
        work.progress.add(BOUND);
        Ok(limits.map(|limits| record(load, unit, *price, limits)))
    };
    let prices = prices(&load.scenario, points);
    let found: Vec<Result<Option<Record>, ComparisonError>> =
        prices.par_iter().with_max_len(1).map(one).collect();
    let found: Result<Vec<_>, _> = found.into_iter().collect();
    Ok(found?.into_iter().flatten().collect())
}

fn record(load: &Load, unit: &Unit, price: MicroUsdPerHour, limits: Limits) -> Record {
    Record {
        unit: unit.number,
        what: What::Bound,
        stage: load.stage.clone(),
        policy: String::new(),
        tuned: false,
        knobs: String::new(),
        usd_per_job_hour_waiting: millionths(price.get()),
        scored_from_secs: millionths(load.split),
        figures: None,
        limits: Some(limits),
    }
}

/// Where classes have prices of their own, no other price of waiting says much.
fn prices(scenario: &Scenario, points: u32) -> Vec<MicroUsdPerHour> {
    let own = scenario.objective.usd_per_job_hour_waiting.get();
    let points = if scenario.class_prices().is_empty() {
        points
    } else {
        1
    };
    let points = usize::try_from(points).unwrap_or(PRICES.len());
    let mut prices: Vec<MicroUsdPerHour> = Vec::new();
    for (times, over) in PRICES.into_iter().take(points) {
        let price = MicroUsdPerHour::new(own.saturating_mul(times) / over);
        if !prices.contains(&price) {
            prices.push(price);
        }
    }
    prices
}

fn limits(
    work: &Work<'_>,
    workload: &Workload,
    price: MicroUsdPerHour,
) -> Result<Option<Limits>, ComparisonError> {
    let load = work.load;
    let name = load
        .fingerprint
        .text("bound")
        .word(load.split)
        .word(price.get());
    if let Some(CameTo::Bound(known)) = work.state.get(name) {
        return Ok(known);
    }
    let mut scenario = load.scenario.clone();
    scenario.objective.usd_per_job_hour_waiting = price;
    let found = match bound::of(&scenario, workload) {
        Ok(bound) => Some(Limits {
            bound_usd: bound.bound_usd,
            achieved_instance_usd: bound.achieved_instance_usd,
            achieved_delay_usd: bound.achieved_delay_usd,
        }),
        Err(BoundError::Scenario(error)) => return Err(error.into()),
        Err(not_covered @ BoundError::NotCovered { .. }) => {
            if price == load.scenario.objective.usd_per_job_hour_waiting {
                note(&not_covered.to_string());
            }
            None
        }
    };
    work.state.keep(name, CameTo::Bound(found))?;
    Ok(found)
}

/// The jobs that are scored, as a load of their own; `None` if there are none,
/// or if prices go by the time of the world, which would be another.
fn rest(load: &Load) -> Option<Workload> {
    let (workload, split) = (&load.workload, load.split);
    if split == 0 {
        return Some(workload.clone());
    }
    let priced = load.scenario.offerings.iter();
    if priced.into_iter().any(|one| one.pool.prices.is_some()) {
        return None;
    }
    let jobs = &workload.jobs;
    let first = jobs.arrivals().partition_point(|arrival| *arrival < split);
    let arrivals = jobs.arrivals()[first..]
        .iter()
        .map(|arrival| arrival - split);
    let services = jobs.services()[first..].to_vec();
    let rest = JobColumns::new(arrivals.collect(), services).ok()?;
    let classes = match workload.classes.as_deref() {
        None => None,
        Some(all) => {
            let numbers = all.numbers()[first..].to_vec();
            Some(Arc::new(JobClasses::new(all.classes().to_vec(), numbers)?))
        }
    };
    (!rest.is_empty()).then(|| Workload {
        jobs: Arc::new(rest),
        length_micros: workload.length_micros - split,
        classes,
    })
}
