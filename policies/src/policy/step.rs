//! `kind = "step"`: more or fewer instances when a signal crosses thresholds.
//!
//! Each step has one threshold and one change. As with Amazon's step scaling:
//!
//! - `above = X` applies from `X` (included) to the next higher `above`
//!   (excluded); `below = Y` from `Y` (included) down to the next lower
//!   `below` (excluded). Between the highest `below` and the lowest `above`
//!   nothing changes. So steps cannot overlap, and nothing is left out.
//! - `change` adds or removes that many; `exact` sets the number; `percent`
//!   changes by a share of the fleet, and by at least `change_min` instances.
//! - A share is rounded towards zero, but never to zero: 7.9 is 7, 0.4 is 1,
//!   -0.4 is -1, -7.9 is -7.
//!
//! Changes are relative to `current`, booting instances included, and are
//! asked for again every cycle while the reading stays there. `grow_settle`
//! in the fleet's limits paces that: set it to about the boot time.
//!
//! An absent reading: the rule abstains.
//!
//! | key | meaning |
//! |---|---|
//! | `signal` | any signal but a counter; mandatory |
//! | `[[policy.step]]` | the steps, at least one, each with: |
//! | `above`, `below` | one of them: where the step begins, 0 or more |
//! | `change` | instances to add (negative: to remove) |
//! | `percent` | or the share of the fleet to add, in percent, -100 to 1000 |
//! | `change_min` | with `percent`: the least change in instances; default 1 |
//! | `exact` | or the number of instances to have |

use serde::{Deserialize, Serialize};

use super::rounding::text;
use super::{Demand, INSTANCES_MAX, Needs, Opinion, View, rounding};
use crate::fields::Fields;

/// More or fewer instances when a signal crosses thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The signal; any kind but counter.
    pub signal: String,
    /// The steps, in any order.
    pub steps: Vec<Rung>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Where it begins.
    pub when: Threshold,
    /// What it does.
    pub change: Change,
}

/// Where a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// At this reading and above.
    Above(f64),
    /// At this reading and below.
    Below(f64),
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This many more; fewer if negative.
    By(i32),
    /// This share of `current` more, in percent; fewer if negative.
    Percent {
        /// The share.
        percent: f64,
        /// The least change it makes, in instances.
        change_min: u32,
    },
    /// This many.
    Exact(u32),
}

impl Change {
    /// A share of no instances is none; without a least change a fleet that
    /// grows by shares could never leave zero.
    pub const CHANGE_MIN: u32 = 1;

    /// The number of instances it makes of `current`.
    pub fn apply(self, current: u32) -> u32 {
        match self {
            Self::By(count) => current.saturating_add_signed(count),
            Self::Exact(count) => count,
            Self::Percent {
                percent,
                change_min,
            } => {
                let share = f64::from(current) * percent / 100.0;
                let nonzero = u32::from(share != 0.0);
                let size = rounding::down(share.abs()).max(nonzero).max(change_min);
                if percent > 0.0 {
                    current.saturating_add(size)
                } else if percent < 0.0 {
                    current.saturating_sub(size)
                } else {
                    current
                }
            }
        }
    }
}

impl Step {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let signal = fields.required("signal", "the signal to watch, such as \"oldest_age\"");
        if !fields.has("step") {
            fields.problem("step", "missing; write at least one [[policy.step]]");
        }
        let read = fields.tables("step", |step| {
            let when = read_threshold(step);
            let change = read_change(step);
            Some((
                step.path().to_owned(),
                Rung {
                    when: when?,
                    change: change?,
                },
            ))
        });
        for (path, message) in contradictions(&read) {
            fields.problem_at(path, message);
        }
        Some(Self {
            signal: signal?,
            steps: read.into_iter().map(|(_, rung)| rung).collect(),
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        vec![Demand {
            signal: &self.signal,
            key: "signal",
            needs: Needs::Level,
        }]
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        let reading = match view.sample(&self.signal) {
            Ok(sample) => sample.value,
            Err(absence) => return Opinion::abstain(&self.signal, absence),
        };
        let Some(rung) = self.rung_at(reading) else {
            let why = format!("{} {}: between the steps", self.signal, text(reading));
            return Opinion::instances(view.current, why);
        };
        let (word, bound) = match rung.when {
            Threshold::Above(bound) => ("above", bound),
            Threshold::Below(bound) => ("below", bound),
        };
        Opinion::instances(
            rung.change.apply(view.current),
            format!(
                "{} {}: step {word} {}",
                self.signal,
                text(reading),
                text(bound)
            ),
        )
    }

    /// The step that applies at `reading`: the highest `above` it reaches,
    /// else the lowest `below` it reaches.
    pub(super) fn rung_at(&self, reading: f64) -> Option<&Rung> {
        let mut above: Option<(f64, &Rung)> = None;
        let mut below: Option<(f64, &Rung)> = None;
        for rung in &self.steps {
            match rung.when {
                Threshold::Above(bound) => {
                    if reading >= bound && above.is_none_or(|(best, _)| bound > best) {
                        above = Some((bound, rung));
                    }
                }
                Threshold::Below(bound) => {
                    if reading <= bound && below.is_none_or(|(best, _)| bound < best) {
                        below = Some((bound, rung));
                    }
                }
            }
        }
        above.or(below).map(|(_, rung)| rung)
    }
}

/// Thresholds larger than this are a slip of the pen.
const THRESHOLD_MAX: f64 = 1e15;

fn read_threshold(step: &mut Fields<'_>) -> Option<Threshold> {
    let above = step
        .optional_within("above", 0.0..=THRESHOLD_MAX)
        .map(Threshold::Above);
    let below = step
        .optional_within("below", 0.0..=THRESHOLD_MAX)
        .map(Threshold::Below);
    match (step.has("above"), step.has("below")) {
        (true, true) => {
            step.problem(
                "below",
                "a step has either `above` or `below`; make two steps of it",
            );
            None
        }
        (false, false) => {
            step.problem_here("says not when it applies; write `above` or `below`");
            None
        }
        (true, false) | (false, true) => above.or(below),
    }
}

fn read_change(step: &mut Fields<'_>) -> Option<Change> {
    let most = i32::try_from(INSTANCES_MAX).unwrap_or(i32::MAX);
    let by = step.optional_within("change", -most..=most);
    let percent = step.optional_within("percent", -100.0..=1000.0);
    let exact = step.optional_within("exact", 0..=INSTANCES_MAX);
    let change_min = step.or_within("change_min", Change::CHANGE_MIN, 1..=INSTANCES_MAX);
    let given: Vec<&str> = ["change", "percent", "exact"]
        .into_iter()
        .filter(|key| step.has(key))
        .collect();
    match given.as_slice() {
        [] => step.problem_here("says not what to do; write `change`, `percent` or `exact`"),
        [_] => {}
        [_, second, ..] => step.problem(
            second,
            "a step has one of `change`, `percent` and `exact`; remove the others",
        ),
    }
    if step.has("change_min") && !step.has("percent") {
        step.problem("change_min", "has no effect without `percent`; remove it");
    }
    let nothing = "0 changes nothing; write another number or remove the step";
    if by == Some(0) {
        step.problem("change", nothing);
        return None;
    }
    if percent == Some(0.0) {
        step.problem("percent", nothing);
        return None;
    }
    by.map(Change::By)
        .or(percent.map(|percent| Change::Percent {
            percent,
            change_min,
        }))
        .or(exact.map(Change::Exact))
}

/// Steps that cannot be meant together, with the path of the later one.
fn contradictions(steps: &[(String, Rung)]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, (path, rung)) in steps.iter().enumerate() {
        let conflict = steps[..index]
            .iter()
            .find_map(|(_, earlier)| conflict(*earlier, *rung));
        found.extend(conflict.map(|message| (path.clone(), message)));
    }
    found
}

fn conflict(earlier: Rung, later: Rung) -> Option<String> {
    let opposite = grows(earlier.change)
        .zip(grows(later.change))
        .map(|(one, two)| one != two);
    match (earlier.when, later.when) {
        (Threshold::Above(one), Threshold::Above(two))
        | (Threshold::Below(one), Threshold::Below(two))
            if one.total_cmp(&two).is_eq() =>
        {
            Some(format!(
                "begins at {two} as an earlier step does; remove one of them"
            ))
        }
        (Threshold::Above(above), Threshold::Below(below))
        | (Threshold::Below(below), Threshold::Above(above))
            if below >= above =>
        {
            Some(format!(
                "overlaps an earlier step: a reading from {above} to {below} would be above and \
                 below at once; keep every `below` lower than every `above`"
            ))
        }
        (Threshold::Above(_), Threshold::Above(_)) | (Threshold::Below(_), Threshold::Below(_)) => {
            (opposite == Some(true)).then(|| {
                "goes the other way than an earlier step on the same side; let all steps above \
                 go one way and all steps below the other"
                    .to_owned()
            })
        }
        (Threshold::Above(_), Threshold::Below(_)) | (Threshold::Below(_), Threshold::Above(_)) => {
            (opposite == Some(false)).then(|| {
                "goes the same way as the steps on the other side, so the fleet could never go \
                 back; let all steps above go one way and all steps below the other"
                    .to_owned()
            })
        }
    }
}

/// Whether a change grows the fleet; `None` if that depends on its size.
fn grows(change: Change) -> Option<bool> {
    match change {
        Change::By(count) => Some(count > 0),
        Change::Percent { percent, .. } => Some(percent > 0.0),
        Change::Exact(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::testing::{absent, partial, present, table};
    use expect_test::expect;

    fn above(bound: f64, change: Change) -> Rung {
        Rung {
            when: Threshold::Above(bound),
            change,
        }
    }

    fn below(bound: f64, change: Change) -> Rung {
        Rung {
            when: Threshold::Below(bound),
            change,
        }
    }

    fn rule(steps: &[Rung]) -> Policy {
        Policy::Step(Step {
            signal: "oldest_age".to_owned(),
            steps: steps.to_vec(),
        })
    }

    #[test]
    fn bounds_are_as_amazon_has_them() {
        let age = |secs| [present("oldest_age", secs)];
        table(
            &rule(&[
                above(75.0, Change::By(30)),
                above(60.0, Change::By(10)),
                below(40.0, Change::By(-10)),
                below(20.0, Change::By(-30)),
            ]),
            &[
                (100, 100, &age(59.9)),
                (100, 100, &age(60.0)),
                (100, 100, &age(74.9)),
                (100, 100, &age(75.0)),
                (100, 100, &age(1e300)),
                (100, 100, &age(40.1)),
                (100, 100, &age(40.0)),
                (100, 100, &age(20.1)),
                (100, 100, &age(20.0)),
                (100, 100, &age(0.0)),
                (20, 20, &age(0.0)),
            ],
            &expect![[r#"
                100/100 -> 100  oldest_age 59.9: between the steps
                100/100 -> 110  oldest_age 60: step above 60
                100/100 -> 110  oldest_age 74.9: step above 60
                100/100 -> 130  oldest_age 75: step above 75
                100/100 -> 130  oldest_age 1e300: step above 75
                100/100 -> 100  oldest_age 40.1: between the steps
                100/100 -> 90  oldest_age 40: step below 40
                100/100 -> 90  oldest_age 20.1: step below 40
                100/100 -> 70  oldest_age 20: step below 20
                100/100 -> 70  oldest_age 0: step below 20
                20/20 -> 0  oldest_age 0: step below 20
            "#]],
        );
    }

    #[test]
    fn changes_count_what_is_booting() {
        let age = [present("oldest_age", 100.0)];
        table(
            &rule(&[above(60.0, Change::By(10))]),
            &[(10, 25, &age)],
            &expect![[r#"
                10/25 -> 35  oldest_age 100: step above 60
            "#]],
        );
        table(
            &rule(&[above(60.0, Change::Exact(12))]),
            &[(10, 25, &age)],
            &expect![[r#"
                10/25 -> 12  oldest_age 100: step above 60
            "#]],
        );
        table(
            &rule(&[]),
            &[(10, 25, &age)],
            &expect![[r#"
            10/25 -> 25  oldest_age 100: between the steps
        "#]],
        );
    }

    #[test]
    fn shares_are_rounded_towards_zero_but_never_to_it() {
        for (current, percent, change_min, expected) in [
            (10, 79.0, 1, 17),
            (10, 70.0, 1, 17),
            (10, 4.0, 1, 11),
            (10, -4.0, 1, 9),
            (10, -79.0, 1, 3),
            (10, 4.0, 3, 13),
            (10, -4.0, 3, 7),
            (2, -50.0, 3, 0),
            (0, 50.0, 1, 1),
            (0, 50.0, 4, 4),
            (0, -50.0, 1, 0),
            (10, 0.0, 1, 10),
            (10, f64::NAN, 1, 10),
            (u32::MAX, 1000.0, 1, u32::MAX),
            (7, -100.0, 1, 0),
        ] {
            let change = Change::Percent {
                percent,
                change_min,
            };
            assert_eq!(change.apply(current), expected, "{percent} % of {current}");
        }
    }

    #[test]
    fn absent_and_partial_readings_never_shrink() {
        table(
            &rule(&[above(60.0, Change::By(10)), below(5.0, Change::By(-1))]),
            &[
                (4, 4, &[]),
                (4, 4, &[absent("oldest_age")]),
                (4, 4, &[present("oldest_age", f64::NAN)]),
                (4, 4, &[partial("oldest_age", 0.0)]),
                (4, 4, &[partial("oldest_age", 61.0)]),
            ],
            &expect![[r#"
                4/4 -> abstains  no reading of `oldest_age`: no source
                4/4 -> abstains  no reading of `oldest_age`: no data
                4/4 -> abstains  no reading of `oldest_age`: not a usable number
                4/4 -> 4  oldest_age 0: step below 5; but `oldest_age` is partial, so not below 4
                4/4 -> 14  oldest_age 61: step above 60
            "#]],
        );
    }
}
