//! Schedules: how many instances are to take jobs, by time.

use crate::queue::{ratio, wide};

/// From a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Microseconds of the world.
    pub(super) at: u64,
    /// So many instances.
    pub(super) count: u32,
    /// Whether those that become too many stay while jobs wait.
    pub(super) keep: bool,
}

/// How many instances are to take jobs, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// By time; the first one is at 0.
    pub(super) steps: Vec<Step>,
}

/// What may be done to a schedule to get another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// So many percent of the instances, rounded up.
    Percent(u32),
    /// So many more, where there are any.
    More(u32),
    /// So many fewer.
    Fewer(u32),
    /// Everything so much earlier.
    Earlier(u64),
    /// Everything so much later.
    Later(u64),
    /// Instances come so much earlier, and go when they did.
    Ahead(u64),
    /// Instances go so much later, and come when they did.
    Held(u64),
    /// They stay while jobs wait, or they do not.
    Keep(bool),
}

impl Plan {
    /// So many instances from so many microseconds on.
    pub(super) fn new(steps: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let mut plan = Self::default();
        for (at, count) in steps {
            plan.push(Step {
                at,
                count,
                keep: false,
            });
        }
        plan
    }

    /// As many instances as have `slots[i]` slots in step `i`, each of `per`
    /// slots; parts of an instance of at least 1 - `up` are a whole one.
    pub(super) fn of(slots: &[f64], step: u64, per: u64, up: f64) -> Self {
        let per = ratio(per.into(), 1).unwrap_or(1.0);
        let count = |slots: &f64| whole((slots / per + up).floor());
        let steps = slots.iter().enumerate();
        Self::new(steps.map(|(place, slots)| (wide(place) * step, count(slots))))
    }

    /// The larger of both at any time.
    pub(super) fn with(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.steps.iter().peekable(), other.steps.iter().peekable());
        let (mut of_left, mut of_right): (Option<Step>, Option<Step>) = (None, None);
        let mut plan = Self::default();
        loop {
            let next = [left.peek(), right.peek()].map(|step| step.map(|step| step.at));
            let Some(at) = next.into_iter().flatten().min() else {
                return plan;
            };
            of_left = left.next_if(|step| step.at == at).copied().or(of_left);
            of_right = right.next_if(|step| step.at == at).copied().or(of_right);
            let larger = of_left.into_iter().chain(of_right);
            if let Some(step) = larger.max_by_key(|step| (step.count, step.keep)) {
                plan.push(Step { at, ..step });
            }
        }
    }

    /// With `change` made to it.
    pub(super) fn changed(&self, change: Change) -> Self {
        match change {
            Change::Percent(percent) => self.mapped(|step| Step {
                count: scaled(step.count, percent),
                ..step
            }),
            Change::More(more) => self.mapped(|step| Step {
                count: step.count + if step.count > 0 { more } else { 0 },
                ..step
            }),
            Change::Fewer(fewer) => self.mapped(|step| Step {
                count: step.count.saturating_sub(fewer),
                ..step
            }),
            Change::Earlier(by) => self.mapped(|step| Step {
                at: step.at.saturating_sub(by),
                ..step
            }),
            Change::Later(by) => self.mapped(|step| Step {
                at: if step.at == 0 { 0 } else { step.at + by },
                ..step
            }),
            Change::Ahead(by) => self.with(&self.changed(Change::Earlier(by))),
            Change::Held(by) => self.with(&self.changed(Change::Later(by))),
            Change::Keep(keep) => self.mapped(|step| Step { keep, ..step }),
        }
    }

    /// From `marks[i]` on what `chosen[i]` says.
    pub(super) fn spliced(marks: &[u64], chosen: &[&Self]) -> Self {
        let mut plan = Self::default();
        for (place, (from, of)) in marks.iter().zip(chosen).enumerate() {
            let until = marks.get(place + 1).copied().unwrap_or(u64::MAX);
            let first = of.steps.partition_point(|step| step.at <= *from);
            if let Some(before) = first.checked_sub(1).map(|before| of.steps[before]) {
                plan.push(Step {
                    at: *from,
                    ..before
                });
            }
            let own = of.steps[first..].iter();
            own.take_while(|step| step.at < until)
                .for_each(|step| plan.push(*step));
        }
        plan
    }

    /// Times that cut the schedule into at most `parts`, from 0 on: each where
    /// it has the fewest instances for about `length / parts` microseconds, so
    /// that what is done on one side has little to do with the other.
    pub(super) fn quiet_times(&self, length: u64, parts: u64) -> Vec<u64> {
        let width = (length / parts.max(1)).max(1);
        let mut marks = vec![0];
        let mut steps = self.steps.iter().peekable();
        let mut count = 0;
        for part in 1..parts {
            let (from, until) = (part * width - width / 4, part * width + width / 4);
            while let Some(step) = steps.next_if(|step| step.at <= from) {
                count = step.count;
            }
            let mut least = (count, from);
            while let Some(step) = steps.next_if(|step| step.at <= until) {
                count = step.count;
                least = least.min((count, step.at));
            }
            marks.push(least.1.max(1));
        }
        marks
    }

    fn mapped(&self, change: impl Fn(Step) -> Step) -> Self {
        let mut plan = Self::default();
        for step in &self.steps {
            plan.push(change(*step));
        }
        plan
    }

    /// Steps at one time: the last one counts.
    fn push(&mut self, step: Step) {
        if self.steps.last().is_some_and(|last| last.at == step.at) {
            self.steps.pop();
        }
        let same = |last: &Step| (last.count, last.keep) == (step.count, step.keep);
        if !self.steps.last().is_some_and(same) {
            self.steps.push(step);
        }
    }
}

/// So many percent of `count`, rounded up.
fn scaled(count: u32, percent: u32) -> u32 {
    let scaled = (u64::from(count) * u64::from(percent)).div_ceil(100);
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

/// A number of instances, rounded up.
fn whole(count: f64) -> u32 {
    let bounded = count.ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was bounded just now"
    )]
    let whole = bounded as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::{Change, Plan, Step};

    fn steps(plan: &Plan) -> Vec<(u64, u32)> {
        plan.steps
            .iter()
            .map(|step| (step.at, step.count))
            .collect()
    }

    #[test]
    fn changes_do_what_their_names_say() {
        let plan = Plan::new([(0, 0), (100, 3), (200, 1), (300, 0)]);
        let changed = |change| steps(&plan.changed(change));
        assert_eq!(
            changed(Change::Percent(150)),
            [(0, 0), (100, 5), (200, 2), (300, 0)]
        );
        assert_eq!(
            changed(Change::More(2)),
            [(0, 0), (100, 5), (200, 3), (300, 0)]
        );
        assert_eq!(changed(Change::Fewer(1)), [(0, 0), (100, 2), (200, 0)]);
        assert_eq!(changed(Change::Earlier(120)), [(0, 3), (80, 1), (180, 0)]);
        assert_eq!(
            changed(Change::Later(7)),
            [(0, 0), (107, 3), (207, 1), (307, 0)]
        );
        assert_eq!(
            changed(Change::Ahead(10)),
            [(0, 0), (90, 3), (200, 1), (300, 0)]
        );
        assert_eq!(
            changed(Change::Held(10)),
            [(0, 0), (100, 3), (210, 1), (310, 0)]
        );
        let keep = plan.changed(Change::Keep(true));
        assert!(keep.steps.iter().all(|step| step.keep));
        assert_eq!(steps(&keep), steps(&plan));
    }

    #[test]
    fn a_splice_has_each_part_from_where_it_begins() {
        let low = Plan::new([(0, 1), (50, 2), (150, 1)]);
        let high = Plan::new([(0, 7), (120, 9), (180, 8)]);
        let both = Plan::spliced(&[0, 100, 160], &[&low, &high, &low]);
        assert_eq!(
            steps(&both),
            [(0, 1), (50, 2), (100, 7), (120, 9), (160, 1)]
        );
        let itself = Plan::spliced(&[0, 100, 160], &[&low, &low, &low]);
        assert_eq!(itself, low);
    }

    #[test]
    fn cuts_are_where_the_fewest_instances_are() {
        let plan = Plan::new([(0, 5), (45, 1), (48, 5), (105, 6), (300, 0)]);
        assert_eq!(plan.quiet_times(100, 2), [0, 45]);
        assert_eq!(plan.quiet_times(400, 4), [0, 75, 175, 300]);
        assert_eq!(Plan::default().quiet_times(400, 1), [0]);
    }

    #[test]
    fn the_larger_of_two_has_its_flag() {
        let low = Plan::new([(0, 1), (10, 4)]);
        let high = Plan::new([(0, 2), (20, 5)]).changed(Change::Keep(true));
        let step = |at, count, keep| Step { at, count, keep };
        let both = [step(0, 2, true), step(10, 4, false), step(20, 5, true)];
        assert_eq!(low.with(&high).steps, both);
    }
}
