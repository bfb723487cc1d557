//! Knobs by the clock: another worth of waiting at night, a budget of its own for
//! the weekend.

use serde::{Deserialize, Serialize};

use super::{Budget, Economic, Worth};
use crate::fields::Fields;
use crate::policy::Hours;
use crate::units::{MicroUsd, Timestamp};

/// Knobs that count while some hours are open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it opens and closes.
    #[serde(flatten)]
    pub hours: Hours,
    /// What waiting is worth meanwhile; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<Worth>,
    /// What the fleet may cost meanwhile; `None` leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

impl Window {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let hours = Hours::read(fields);
        let worth = Worth::read(fields);
        let budget = Budget::read(fields);
        let keys = [
            "usd_per_job_hour_waiting",
            "preset",
            "p95_wait",
            "budget_usd_per_day",
            "budget_usd_per_month",
        ];
        if !keys.iter().any(|key| fields.has(key)) {
            fields.problem_here(
                "changes nothing while it is open; write what does, such as \
                 `usd_per_job_hour_waiting = 0.1`, `preset = \"batch\"` or `p95_wait = \"10m\"`",
            );
        }
        Some(Self {
            hours: hours?,
            worth,
            budget,
        })
    }
}

/// Reports budgets that are not for the same period as the first one: what a day
/// has cost cannot be told from what its month has.
pub(super) fn one_period(budget: Option<Budget>, windows: &[Window], fields: &mut Fields<'_>) {
    let mut first = budget.map(|budget| budget.period);
    for (index, window) in windows.iter().enumerate() {
        let Some(period) = window.budget.map(|budget| budget.period) else {
            continue;
        };
        let wanted = *first.get_or_insert(period);
        if period != wanted {
            let message = format!(
                "another budget of this policy is `{}`; write this one so, too",
                wanted.key()
            );
            let path = format!("{}[{index}].{}", fields.path_of("window"), period.key());
            fields.problem_at(path, message);
        }
    }
}

/// The knobs that count at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knobs<'a> {
    /// What waiting is worth.
    pub(super) worth: Worth,
    /// Which window says so; `None` if none does.
    pub(super) window: Option<usize>,
    /// What the fleet may cost in its period.
    pub(super) budget: Option<MicroUsd>,
    /// The hours of the windows that say so.
    open: [Option<&'a Hours>; 2],
}

impl Knobs<'_> {
    /// Which windows count, as clauses of the decision's sentence.
    pub(super) fn clauses(&self, rule: &Economic) -> String {
        let mut clauses = String::new();
        for hours in self.open.iter().flatten() {
            clauses.push_str("; ");
            clauses.push_str(&hours.sentence(rule.zone));
        }
        clauses
    }
}

impl Economic {
    /// When its windows open and close.
    pub(in crate::policy) fn hours(&self) -> impl Iterator<Item = &Hours> {
        self.windows.iter().map(|window| &window.hours)
    }

    /// What its budgets are for, if it has any.
    pub(super) fn period(&self) -> Option<super::Period> {
        let windows = self.windows.iter().filter_map(|window| window.budget);
        let first = self.budget.into_iter().chain(windows).next();
        first.map(|budget| budget.period)
    }

    /// The knobs that count at `now`: each by the first open window that has it.
    pub(super) fn knobs_at(&self, now: Timestamp) -> Knobs<'_> {
        let mut knobs = Knobs {
            worth: self.worth,
            window: None,
            budget: self.budget.map(|budget| budget.amount),
            open: [None; 2],
        };
        let (mut worth, mut budget) = (None, None);
        for (index, window) in self.windows.iter().enumerate() {
            if !window.hours.is_open(self.zone, now) {
                continue;
            }
            if let (Some(said), None) = (window.worth, worth) {
                worth = Some(index);
                knobs.worth = said;
            }
            if let (Some(said), None) = (window.budget, budget) {
                budget = Some(index);
                knobs.budget = Some(said.amount);
            }
        }
        knobs.window = worth;
        let other = budget.filter(|index| worth != Some(*index));
        knobs.open = [worth, other].map(|index| Some(&self.windows.get(index?)?.hours));
        knobs
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::policy::Policy;
    use crate::policy_file;

    fn rule(keys: &str) -> Economic {
        let text = format!("[[policy]]\nkind = \"economic\"\n{keys}");
        let file = policy_file::read(&text).expect("a policy");
        match &file.policies[0].policy {
            Policy::Economic(rule) => rule.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Every change of the knobs in (`from`, `to`], in local time. Found minute
    /// by minute, and checked against the boundaries.
    fn check(keys: &str, from: &str, to: &str, expected: &Expect) {
        let rule = rule(keys);
        let policy = Policy::Economic(rule.clone());
        let at = |text| Timestamp::parse(text).expect("a time");
        let (mut now, to) = (at(from), at(to));
        let said = |now| {
            let knobs = rule.knobs_at(now);
            (knobs.worth, knobs.budget, knobs.clauses(&rule))
        };
        let mut changes = Vec::new();
        while now < to {
            let next = now + std::time::Duration::from_mins(1);
            if said(next) != said(now) {
                let local = next.to_chrono().with_timezone(&rule.zone.tz());
                let (worth, budget, clauses) = said(next);
                let budget = budget.map_or_else(String::new, |budget| format!(" ${budget}"));
                let local = local.format("%d %H:%M %z");
                changes.push(format!("{local} {worth:?}{budget}{clauses}"));
                let boundary = policy.boundary_after(now);
                assert_eq!(boundary, Some(next), "a change is a boundary");
            }
            now = next;
        }
        expected.assert_eq(&changes.join("\n"));
    }

    #[test]
    fn night_and_day_follow_the_wall_clock_over_its_changes() {
        let night = "timezone = \"Europe/Berlin\"\npreset = \"interactive\"\n\
             [[policy.window]]\nstart = \"30 2 * * *\"\nend = \"0 6 * * *\"\npreset = \"bulk\"\n";
        check(
            night,
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            &expect![[r#"
                29 03:00 +0200 Preset(Bulk); window `30 2 * * *` until `0 6 * * *` is open (Europe/Berlin)
                29 06:00 +0200 Preset(Interactive)"#]],
        );
        check(
            night,
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            &expect![[r#"
                25 02:30 +0200 Preset(Bulk); window `30 2 * * *` until `0 6 * * *` is open (Europe/Berlin)
                25 06:00 +0100 Preset(Interactive)"#]],
        );
        let elapsed = night.replace("end = \"0 6 * * *\"", "duration = \"4h\"");
        check(
            &elapsed,
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            &expect![[r#"
                25 02:30 +0200 Preset(Bulk); window `30 2 * * *` for 4h is open (Europe/Berlin)
                25 05:30 +0100 Preset(Interactive)"#]],
        );
    }

    #[test]
    fn each_knob_is_that_of_the_first_open_window_that_has_it() {
        check(
            "budget_usd_per_day = 40\n\
             [[policy.window]]\nstart = \"0 0 * * SAT\"\nduration = \"2d\"\nbudget_usd_per_day = 10\n\
             [[policy.window]]\nstart = \"0 20 * * *\"\nduration = \"10h\"\np95_wait = \"10m\"\n\
             [[policy.window]]\nstart = \"0 22 * * *\"\nduration = \"2h\"\npreset = \"bulk\"\n\
             budget_usd_per_day = 5\n",
            "2026-01-09T12:00:00Z",
            "2026-01-12T12:00:00Z",
            &expect![[r#"
                09 20:00 +0000 P95(600s) $40.00; window `0 20 * * *` for 10h is open (UTC)
                09 22:00 +0000 P95(600s) $5.00; window `0 20 * * *` for 10h is open (UTC); window `0 22 * * *` for 2h is open (UTC)
                10 00:00 +0000 P95(600s) $10.00; window `0 20 * * *` for 10h is open (UTC); window `0 0 * * SAT` for 2d is open (UTC)
                10 06:00 +0000 Objective $10.00; window `0 0 * * SAT` for 2d is open (UTC)
                10 20:00 +0000 P95(600s) $10.00; window `0 20 * * *` for 10h is open (UTC); window `0 0 * * SAT` for 2d is open (UTC)
                11 06:00 +0000 Objective $10.00; window `0 0 * * SAT` for 2d is open (UTC)
                11 20:00 +0000 P95(600s) $10.00; window `0 20 * * *` for 10h is open (UTC); window `0 0 * * SAT` for 2d is open (UTC)
                12 00:00 +0000 P95(600s) $40.00; window `0 20 * * *` for 10h is open (UTC)
                12 06:00 +0000 Objective $40.00"#]],
        );
    }
}
