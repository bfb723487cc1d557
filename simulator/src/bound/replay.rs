//! What a schedule costs: it is carried out in the simulated world itself.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use windlass_policies::model::{Epoch, InstanceId, LaunchToken};
use windlass_policies::units::Timestamp;

use super::BoundError;
use super::problem::{self, Problem};
use crate::queue::Keep;
use crate::scenario::{FLEET, Scenario};
use crate::score::{Label, Score};
use crate::workload::Workload;
use crate::world::World;

/// How many instances are to take jobs, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// So many from so many microseconds on; by time. The first one is at 0.
    pub(super) steps: Vec<(u64, u32)>,
}

impl Plan {
    /// When it grows, once for each instance, and when it shrinks, likewise,
    /// from `initial` instances on and within the limits of the fleet.
    fn changes(&self, scenario: &Scenario) -> (VecDeque<u64>, VecDeque<u64>) {
        let (mut ups, mut downs) = (VecDeque::new(), VecDeque::new());
        let mut current = scenario.initial;
        for (at, wanted) in &self.steps {
            // Nothing is decided at 0.
            let (at, wanted) = ((*at).max(1), (*wanted).clamp(scenario.min, scenario.max));
            ups.extend((current..wanted).map(|_| at));
            downs.extend((wanted..current).map(|_| at));
            current = wanted;
        }
        (ups, downs)
    }
}

/// A world on its way through a plan.
struct Course<'a> {
    world: World,
    offering: &'a str,
    /// Serving, oldest last; names rise with age.
    serving: BTreeSet<InstanceId>,
    /// Fenced, by when they will have no job.
    draining: BTreeSet<(u64, InstanceId)>,
    launched: u64,
}

/// What `plan` costs in the world of `scenario`. An instance is launched so
/// long before it is needed as it will boot, is fenced when it is needed no
/// more, and ends once it has no job.
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
    spec.queue.keep = if workload.classes.is_some() {
        Keep::EveryWait
    } else {
        Keep::Sums
    };
    (spec.metric_period, spec.listing_lag) = (Duration::ZERO, Duration::ZERO);
    let offerings = scenario.all_offerings();
    let world = scenario.build_world(spec)?;
    let serving = world.alive().cloned().collect();
    let mut course = Course {
        world,
        offering: &offerings[problem.bought].name,
        serving,
        draining: BTreeSet::new(),
        launched: 0,
    };
    let begins_at = course.world.now();
    let when = |micros: u64| begins_at + Duration::from_micros(micros);
    loop {
        let drained = course.draining.first().map(|(at, _)| *at);
        let due = [launches.front().copied(), downs.front().copied(), drained];
        let Some(at) = due
            .into_iter()
            .flatten()
            .min()
            .filter(|at| *at < workload.length_micros)
        else {
            break;
        };
        course.world.advance(when(at));
        course.end_drained(at);
        while downs.front().is_some_and(|due| *due <= at) {
            downs.pop_front();
            course.let_go(at);
        }
        let before = launches.len();
        while launches.front().is_some_and(|due| *due <= at) {
            launches.pop_front();
        }
        course.launch(before - launches.len());
    }
    let end = when(workload.length_micros);
    Ok(course.score(scenario, end))
}

impl Course<'_> {
    /// Ends those that have no job any more.
    fn end_drained(&mut self, at: u64) {
        while self.draining.first().is_some_and(|(due, _)| *due <= at) {
            if let Some((_, id)) = self.draining.pop_first() {
                // It is there: only this course ends any, and one that died by
                // itself is none to end.
                let _ = self.world.terminate(&id);
            }
        }
    }

    /// Fences the newest instance, which ends once it has no job.
    fn let_go(&mut self, at: u64) {
        let Some(id) = self.serving.pop_last() else {
            return;
        };
        // One that died by itself needs no fence.
        let _ = self.world.fence(&id);
        // A job that ends at an instant is still in service at its tick.
        let free_at = self.world.free_at(&id).unwrap_or(at);
        self.draining.insert((free_at.max(at) + 1, id));
    }

    fn launch(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        self.launched += 1;
        let token = LaunchToken::new("hindsight", FLEET, Epoch(1), self.launched, 0);
        // Where there is no capacity, the schedule does without.
        let ids = self.world.launch(&token, self.offering, count);
        self.serving.extend(ids.unwrap_or_default());
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
