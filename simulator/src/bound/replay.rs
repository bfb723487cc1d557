//! What a schedule costs: it is carried out in the simulated world itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use windlass_policies::model::{Epoch, InstanceId, LaunchToken};
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::BoundError;
use super::problem::{self, Problem};
use crate::queue::{Keep, ratio, wide};
use crate::scenario::{FLEET, Scenario};
use crate::score::{Label, Score};
use crate::workload::Workload;
use crate::world::World;

/// Among so many of the newest instances one is chosen to let go: one without a
/// job is nearly always among them.
const LOOKED_AT: usize = 64;

/// Increments from this on are used up before an instance is let go.
const LONG: u64 = 60 * MICROS_PER_SEC;

/// How many instances are to take jobs, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// So many from so many microseconds on; by time. The first one is at 0.
    pub(super) steps: Vec<(u64, u32)>,
}

impl Plan {
    /// As many instances as have `slots[i]` slots in step `i`, each of `per`
    /// slots; parts of an instance of at least 1 - `up` are a whole one.
    pub(super) fn of(slots: &[f64], step: u64, per: u64, up: f64) -> Self {
        let mut steps: Vec<(u64, u32)> = Vec::new();
        for (place, slots) in slots.iter().enumerate() {
            let instances = whole((slots / ratio(per.into(), 1).unwrap_or(1.0) + up).floor());
            if steps.last().is_none_or(|(_, last)| *last != instances) {
                steps.push((wide(place) * step, instances));
            }
        }
        Self { steps }
    }

    /// The larger of both at any time.
    pub(super) fn with(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.steps.iter().peekable(), other.steps.iter().peekable());
        let (mut of_left, mut of_right) = (0, 0);
        let mut steps: Vec<(u64, u32)> = Vec::new();
        loop {
            let next = [left.peek(), right.peek()].map(|step| step.map(|step| step.0));
            let Some(at) = next.into_iter().flatten().min() else {
                return Self { steps };
            };
            if let Some((_, count)) = left.next_if(|step| step.0 == at) {
                of_left = *count;
            }
            if let Some((_, count)) = right.next_if(|step| step.0 == at) {
                of_right = *count;
            }
            let now = of_left.max(of_right);
            if steps.last().is_none_or(|(_, last)| *last != now) {
                steps.push((at, now));
            }
        }
    }

    /// When it grows, once for each instance, and when it shrinks, likewise,
    /// from `initial` instances on and within the limits of the fleet.
    fn changes(&self, scenario: &Scenario) -> (VecDeque<u64>, VecDeque<u64>) {
        let (mut ups, mut downs) = (VecDeque::new(), VecDeque::new());
        let mut current = scenario.initial;
        let as_it_is = [(0, current)];
        let steps = if self.steps.is_empty() {
            &as_it_is[..]
        } else {
            &self.steps
        };
        for (at, wanted) in steps {
            // Nothing is decided at 0.
            let (at, wanted) = ((*at).max(1), (*wanted).clamp(scenario.min, scenario.max));
            ups.extend((current..wanted).map(|_| at));
            downs.extend((wanted..current).map(|_| at));
            current = wanted;
        }
        (ups, downs)
    }
}

/// A world on its way through a plan. Times are microseconds of the world.
struct Course<'a> {
    world: World,
    offering: &'a str,
    /// Serving. Names rise with age: the newest is last.
    serving: BTreeSet<InstanceId>,
    /// Not needed, but paid for until soon after that time; serving too.
    spare: BTreeSet<(u64, InstanceId)>,
    /// Fenced, by when they will have no job.
    draining: BTreeSet<(u64, InstanceId)>,
    launched_at: BTreeMap<InstanceId, u64>,
    launches: u64,
    /// Where time is charged in long increments: one of them, and how long
    /// before its end an instance is let go.
    increment: Option<(u64, u64)>,
}

/// What `plan` costs in the world of `scenario`. An instance is launched so
/// long before it is needed as it will boot. One that is needed no more is
/// fenced, and ends once it has no job; where time is charged by the hour or
/// so, only shortly before what is paid for is over.
///
/// # Errors
/// [`BoundError::Scenario`].
pub(super) fn replay(
    scenario: &Scenario,
    workload: &Workload,
    problem: &Problem<'_>,
    plan: &Plan,
) -> Result<Score, BoundError> {
    let (mut ups, mut downs) = plan.changes(scenario);
    let mut launches = launch_times(scenario, problem, &mut ups);
    let mut spec = scenario.world_spec(FLEET, workload, &[], false);
    // Only sums are asked for, and nothing is read.
    if workload.classes.is_none() {
        spec.queue.keep = Keep::Sums;
    }
    (spec.metric_period, spec.listing_lag) = (Duration::ZERO, Duration::ZERO);
    let offerings = scenario.all_offerings();
    let world = scenario.build_world(spec)?;
    let begins_at = world.now();
    let mut course = Course {
        offering: &offerings[problem.bought].name,
        serving: world.alive().cloned().collect(),
        spare: BTreeSet::new(),
        draining: BTreeSet::new(),
        launched_at: world.alive().map(|id| (id.clone(), 0)).collect(),
        launches: 0,
        increment: long_increment(problem),
        world,
    };
    let when = |micros: u64| begins_at + Duration::from_micros(micros);
    loop {
        let first = |set: &BTreeSet<(u64, InstanceId)>| set.first().map(|(at, _)| *at);
        let own = [first(&course.draining), first(&course.spare)];
        let planned = [launches.front().copied(), downs.front().copied()];
        let next = own.into_iter().chain(planned).flatten().min();
        let Some(at) = next.filter(|at| *at < workload.length_micros) else {
            break;
        };
        course.world.advance(when(at));
        course.end_drained(at);
        course.look_at_spare(at);
        while downs.front().is_some_and(|due| *due <= at) {
            downs.pop_front();
            course.let_go(at);
        }
        let mut needed = 0;
        while launches.front().is_some_and(|due| *due <= at) {
            launches.pop_front();
            needed += 1;
        }
        course.add(needed, at);
    }
    Ok(course.score(scenario, when(workload.length_micros)))
}

impl Course<'_> {
    /// Ends those that have no job any more.
    fn end_drained(&mut self, at: u64) {
        while self.draining.first().is_some_and(|(due, _)| *due <= at) {
            if let Some((_, id)) = self.draining.pop_first() {
                // It is there: only this course ends any, and one that died by
                // itself is none to end.
                let _ = self.world.terminate(&id);
                self.launched_at.remove(&id);
            }
        }
    }

    /// Lets an instance go that has no job, or the one that will first have
    /// none among the newest.
    fn let_go(&mut self, at: u64) {
        if let Some((increment, ahead)) = self.increment {
            let end = |id: &InstanceId| {
                let from = self.launched_at.get(id).copied().unwrap_or(at);
                let paid = (at + ahead).saturating_sub(from) / increment + 1;
                from + paid * increment
            };
            let next = self.serving.iter().min_by_key(|id| end(id)).cloned();
            if let Some(id) = next {
                let end = end(&id);
                self.serving.remove(&id);
                self.spare.insert((end - ahead, id));
            }
            return;
        }
        let newest = self.serving.iter().rev().take(LOOKED_AT);
        let first = newest.min_by_key(|id| self.world.free_at(id).unwrap_or(0).max(at));
        if let Some(id) = first.cloned() {
            self.serving.remove(&id);
            self.drain(id, at);
        }
    }

    fn drain(&mut self, id: InstanceId, at: u64) {
        // One that died by itself needs no fence.
        let _ = self.world.fence(&id);
        // A job that ends at an instant is still in service at its tick.
        let free_at = self.world.free_at(&id).unwrap_or(at);
        self.draining.insert((free_at.max(at) + 1, id));
    }

    /// Drains those whose paid time is nearly over, if they get done in it;
    /// the others stay for another increment.
    fn look_at_spare(&mut self, at: u64) {
        let Some((increment, ahead)) = self.increment else {
            return;
        };
        while self.spare.first().is_some_and(|(due, _)| *due <= at) {
            let Some((due, id)) = self.spare.pop_first() else {
                return;
            };
            let free_at = self.world.free_at(&id).unwrap_or(0);
            if free_at < due + ahead {
                self.drain(id, at);
            } else {
                self.spare.insert((due + increment, id));
            }
        }
    }

    /// Takes `count` instances more: those that are paid for first.
    fn add(&mut self, count: usize, at: u64) {
        let mut missing = 0;
        for _ in 0..count {
            match self.spare.pop_last() {
                Some((_, id)) => {
                    self.serving.insert(id);
                }
                None => missing += 1,
            }
        }
        if missing == 0 {
            return;
        }
        self.launches += 1;
        let token = LaunchToken::new("hindsight", FLEET, Epoch(1), self.launches, 0);
        // Where there is no capacity, the schedule does without.
        let ids = self.world.launch(&token, self.offering, missing);
        for id in ids.unwrap_or_default() {
            self.launched_at.insert(id.clone(), at);
            self.serving.insert(id);
        }
    }

    fn score(mut self, scenario: &Scenario, end: Timestamp) -> Score {
        self.world.advance(end);
        let label = Label {
            scenario: scenario.name.clone(),
            policy: "hindsight".to_owned(),
            trace: scenario.trace_name(),
            seed: scenario.seed,
        };
        let prices = scenario.class_prices();
        Score::of_classes(label, &self.world.summary(), scenario.objective, &prices)
    }
}

/// The increment that time is charged in, if it is worth to use up what is
/// paid for, and how long before its end instances are let go: about as long as
/// a job takes.
fn long_increment(problem: &Problem<'_>) -> Option<(u64, u64)> {
    let increment = problem.charge.increment;
    let jobs = u64::try_from(problem.jobs()).unwrap_or(1).max(1);
    let mean = u64::try_from(problem.work_micros() / u128::from(jobs)).unwrap_or(u64::MAX);
    (increment >= LONG).then(|| (increment, mean.clamp(1, increment / 4)))
}

/// When to launch so that instances are ready at `ups`: the k-th launched takes
/// the k-th boot, so that one which boots long holds up those behind it.
fn launch_times(
    scenario: &Scenario,
    problem: &Problem<'_>,
    ups: &mut VecDeque<u64>,
) -> VecDeque<u64> {
    let (boot, mut draws) = problem::bought_boots(scenario, problem);
    let mut times: VecDeque<u64> = ups
        .drain(..)
        .map(|up| up.saturating_sub(boot.sample_micros(&mut draws)).max(1))
        .collect();
    let mut latest = u64::MAX;
    for time in times.iter_mut().rev() {
        latest = latest.min(*time);
        *time = latest;
    }
    times
}

/// A number of instances, rounded up.
pub(super) fn whole(count: f64) -> u32 {
    let bounded = count.ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was bounded just now"
    )]
    let whole = bounded as u32;
    whole
}
