//! What a schedule costs: it is carried out in the simulated world itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use windlass_policies::model::{Epoch, InstanceId, LaunchToken};
use windlass_policies::units::MICROS_PER_SEC;

use super::BoundError;
use super::plan::Plan;
use super::problem::{self, Problem};
use crate::queue::Keep;
use crate::scenario::{FLEET, Scenario};
use crate::score::{Label, Score};
use crate::workload::Workload;
use crate::world::World;

/// Among so many of the newest instances one is chosen to let go: one without a
/// job is nearly always among them.
const LOOKED_AT: usize = 64;

/// While instances stay because jobs wait, that is looked at no more often than
/// this over the whole run.
const LOOKS_MAX: u64 = 1 << 16;

/// Increments from this on are used up before an instance is let go.
const LONG: u64 = 60 * MICROS_PER_SEC;

/// What carrying out a schedule came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The whole.
    pub(super) score: Score,
    /// What was spent up to each mark after the first one, and to the end, in
    /// dollars.
    pub(super) so_far: Vec<f64>,
}

/// What a plan asks for, within the limits of the fleet.
struct Wishes {
    /// When it grows, once for each instance.
    ups: Vec<u64>,
    /// When it shrinks, likewise, and whether it is to keep the instance while
    /// jobs wait.
    downs: VecDeque<(u64, bool)>,
}

impl Wishes {
    fn of(plan: &Plan, scenario: &Scenario) -> Self {
        let (mut ups, mut downs) = (Vec::new(), VecDeque::new());
        let mut current = scenario.initial;
        for step in &plan.steps {
            // Nothing is decided at 0.
            let at = step.at.max(1);
            let wanted = step.count.clamp(scenario.min, scenario.max);
            ups.extend((current..wanted).map(|_| at));
            downs.extend((wanted..current).map(|_| (at, step.keep)));
            current = wanted;
        }
        Self { ups, downs }
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
    /// So many are not needed, but stay while jobs wait; serving too.
    kept: usize,
    launched_at: BTreeMap<InstanceId, u64>,
    launches: u64,
    /// Where time is charged in long increments: one of them, and how long
    /// before its end an instance is let go.
    increment: Option<(u64, u64)>,
}

/// What `plan` costs in the world of `scenario`, and what of it was spent by
/// each of `marks`. An instance is launched so long before it is needed as it
/// will boot. One that is needed no more is fenced, and ends once it has no
/// job; where time is charged by the hour or so, only shortly before what is
/// paid for is over; and where the plan says so, not while jobs wait.
///
/// # Errors
/// [`BoundError::Scenario`].
pub(super) fn replay(
    scenario: &Scenario,
    workload: &Workload,
    problem: &Problem<'_>,
    plan: &Plan,
    marks: &[u64],
) -> Result<Outcome, BoundError> {
    let Wishes { ups, mut downs } = Wishes::of(plan, scenario);
    let mut launches = launch_times(scenario, problem, ups);
    let mut marks = marks.iter().skip(1).peekable();
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
        kept: 0,
        launched_at: world.alive().map(|id| (id.clone(), 0)).collect(),
        launches: 0,
        increment: long_increment(problem),
        world,
    };
    let when = |micros: u64| begins_at + Duration::from_micros(micros);
    let look = look_every(problem);
    let mut so_far = Vec::new();
    let mut now = 0;
    loop {
        let first = |set: &BTreeSet<(u64, InstanceId)>| set.first().map(|(at, _)| *at);
        let own = [first(&course.draining), first(&course.spare)];
        let planned = [launches.front().copied(), downs.front().map(|down| down.0)];
        let looks = [
            (course.kept > 0).then_some(now + look),
            marks.peek().copied().copied(),
        ];
        let next = own.into_iter().chain(planned).chain(looks).flatten().min();
        let Some(at) = next.filter(|at| *at < workload.length_micros) else {
            break;
        };
        now = at;
        course.world.advance(when(at));
        while marks.next_if(|mark| **mark <= at).is_some() {
            so_far.push(course.score(scenario).total_usd);
        }
        course.end_drained(at);
        course.look_at_spare(at);
        course.look_at_kept(at);
        while let Some((_, keep)) = downs.front().filter(|due| due.0 <= at).copied() {
            downs.pop_front();
            course.kept += 1;
            if !keep {
                course.let_kept_go(1, at);
            }
        }
        let mut needed = 0;
        while launches.front().is_some_and(|due| *due <= at) {
            launches.pop_front();
            needed += 1;
        }
        course.add(needed, at);
    }
    course.world.advance(when(workload.length_micros));
    let score = course.score(scenario);
    so_far.extend(marks.map(|_| score.total_usd));
    so_far.push(score.total_usd);
    Ok(Outcome { score, so_far })
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

    /// Lets those go that are not needed, if no job waits.
    fn look_at_kept(&mut self, at: u64) {
        if self.kept > 0 && self.world.snapshot().backlog == 0 {
            self.let_kept_go(self.kept, at);
        }
    }

    fn let_kept_go(&mut self, count: usize, at: u64) {
        self.kept -= count;
        (0..count).for_each(|_| self.let_go(at));
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

    /// Takes `count` instances more: those that are there first.
    fn add(&mut self, count: usize, at: u64) {
        let stay = count.min(self.kept);
        self.kept -= stay;
        let count = count - stay;
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

    fn score(&self, scenario: &Scenario) -> Score {
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

/// How often it is looked whether jobs wait, in microseconds.
fn look_every(problem: &Problem<'_>) -> u64 {
    (problem.length / LOOKS_MAX).max(MICROS_PER_SEC)
}

/// When to launch so that instances are ready at `ups`: the k-th launched takes
/// the k-th boot, so that one which boots long holds up those behind it.
fn launch_times(scenario: &Scenario, problem: &Problem<'_>, ups: Vec<u64>) -> VecDeque<u64> {
    let (boot, mut draws) = problem::bought_boots(scenario, problem);
    let mut times: VecDeque<u64> = ups
        .into_iter()
        .map(|up| up.saturating_sub(boot.sample_micros(&mut draws)).max(1))
        .collect();
    let mut latest = u64::MAX;
    for time in times.iter_mut().rev() {
        latest = latest.min(*time);
        *time = latest;
    }
    times
}
