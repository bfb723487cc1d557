//! `kind = "schedule"`: numbers of instances by the clock.
//!
//! A window opens when its `start` fires (a cron line in `timezone`) and is
//! open for a `duration`, or until its `end` fires, another cron line. The
//! wish is the largest `instances` of the open windows, and `otherwise`
//! (default 0) when none is open.
//!
//! `otherwise` is a wish and not an abstention: the largest wish wins, so a
//! wish of 0 leaves the fleet to the other policies and to `limits.min`, while
//! abstaining would keep them from ever shrinking it.
//!
//! Clock changes are told in [`super::hours`].
//!
//! | key | meaning |
//! |---|---|
//! | `timezone` | an IANA zone; default `"UTC"` |
//! | `otherwise` | how many instances while no window is open; default 0 |
//! | `[[policy.window]]` | the windows, at least one, each with: |
//! | `start` | a cron line of five fields, such as `"0 8 * * MON-FRI"` |
//! | `duration` | how long it is open, `"1m"` to `"366d"` |
//! | `end` | or the cron line that closes it |
//! | `instances` | how many while it is open |

use serde::{Deserialize, Serialize};

use super::hours::{Hours, next_boundary};
use super::{INSTANCES_MAX, Opinion, View};
use crate::cron::Zone;
use crate::fields::Fields;
use crate::units::Timestamp;

/// Numbers of instances by the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The zone its cron lines are read in.
    pub zone: Zone,
    /// The windows, in any order.
    pub windows: Vec<Window>,
    /// How many instances while no window is open.
    pub otherwise: u32,
}

/// A time during which a number of instances is wished for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it opens and closes.
    #[serde(flatten)]
    pub hours: Hours,
    /// How many instances while it is open.
    pub instances: u32,
}

impl Schedule {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let zone = fields.or("timezone", Zone::UTC);
        let otherwise = fields.or_within("otherwise", 0, 0..=INSTANCES_MAX);
        if !fields.has("window") {
            fields.problem("window", "missing; write at least one [[policy.window]]");
        }
        let windows = fields.tables("window", Window::read);
        Self {
            zone,
            windows,
            otherwise,
        }
    }

    /// The next moment after `now` at which a window opens or closes; `None`
    /// if there is none within 40 years. A window that opens again while it is
    /// open gives a moment at which nothing changes.
    pub fn boundaries_after(&self, now: Timestamp) -> Option<Timestamp> {
        next_boundary(self.hours(), self.zone, now)
    }

    /// When its windows open and close.
    pub(super) fn hours(&self) -> impl Iterator<Item = &Hours> {
        self.windows.iter().map(|window| &window.hours)
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        let mut largest: Option<&Window> = None;
        for window in &self.windows {
            let larger = largest.is_none_or(|best| window.instances > best.instances);
            if larger && window.hours.is_open(self.zone, view.now) {
                largest = Some(window);
            }
        }
        match largest {
            Some(window) => Opinion::instances(window.instances, window.hours.sentence(self.zone)),
            None => {
                Opinion::instances(self.otherwise, format!("no window is open ({})", self.zone))
            }
        }
    }
}

impl Window {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let hours = Hours::read(fields);
        let what = "how many instances while it is open, such as 12";
        let instances = fields.required_within("instances", what, 0..=INSTANCES_MAX);
        Some(Self {
            hours: hours?,
            instances: instances?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::CronLine;
    use crate::policy::Policy;
    use crate::policy::Until;
    use crate::policy::testing::propose;
    use expect_test::{Expect, expect};
    use std::time::Duration;

    fn window(start: &str, until: Until, instances: u32) -> Window {
        Window {
            hours: Hours {
                start: line(start),
                until,
            },
            instances,
        }
    }

    fn line(text: &str) -> CronLine {
        CronLine::parse(text).expect("a cron line")
    }

    fn hours(count: u64) -> Until {
        Until::For(Duration::from_hours(count))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn schedule(zone: &str, windows: Vec<Window>) -> Schedule {
        Schedule {
            zone: Zone::parse(zone).expect("a zone"),
            windows,
            otherwise: 0,
        }
    }

    /// Every change of the wish in (`from`, `to`], in local time. Found minute
    /// by minute, and checked against the boundaries.
    fn check(rule: Schedule, from: &str, to: &str, expected: &Expect) {
        let zone: chrono_tz::Tz = rule.zone.name().parse().expect("a zone");
        let policy = Policy::Schedule(rule);
        let wish = |now: Timestamp| propose(&policy, (0, 0), now, &[]).wish;
        let (mut now, to) = (at(from), at(to));
        let mut changes = Vec::new();
        let mut boundary = policy.boundary_after(now);
        while now < to {
            let next = now + Duration::from_mins(1);
            if wish(next) != wish(now) {
                let local = next.to_chrono().with_timezone(&zone).format("%d %H:%M %z");
                changes.push(format!("{local} {:?}", wish(next)));
                assert_eq!(boundary, Some(next), "a change is a boundary");
            }
            if boundary.is_some_and(|boundary| boundary <= next) {
                boundary = policy.boundary_after(next);
            }
            now = next;
        }
        expected.assert_eq(&changes.join("\n"));
    }

    #[test]
    fn the_largest_open_window_wins() {
        let rule = schedule(
            "UTC",
            vec![
                window("0 8 * * MON-FRI", hours(10), 5),
                window("30 8 * * *", hours(1), 9),
                window("0 9 * * *", hours(2), 2),
            ],
        );
        check(
            Schedule {
                otherwise: 1,
                ..rule
            },
            "2026-01-09T00:00:00Z",
            "2026-01-11T00:00:00Z",
            &expect![[r#"
                09 08:00 +0000 Instances(5)
                09 08:30 +0000 Instances(9)
                09 09:30 +0000 Instances(5)
                09 18:00 +0000 Instances(1)
                10 08:30 +0000 Instances(9)
                10 09:30 +0000 Instances(2)
                10 11:00 +0000 Instances(1)"#]],
        );
    }

    #[test]
    fn a_duration_is_elapsed_time_over_clock_changes() {
        let night = || vec![window("30 2 * * *", hours(4), 3)];
        let berlin = schedule("Europe/Berlin", night());
        check(
            berlin.clone(),
            "2026-03-28T22:00:00Z",
            "2026-03-29T22:00:00Z",
            &expect![[r#"
                29 03:00 +0200 Instances(3)
                29 07:00 +0200 Instances(0)"#]],
        );
        check(
            berlin,
            "2026-10-24T22:00:00Z",
            "2026-10-25T22:00:00Z",
            &expect![[r#"
                25 02:30 +0200 Instances(3)
                25 05:30 +0100 Instances(0)"#]],
        );
        let new_york = schedule("America/New_York", vec![window("30 1 * * *", hours(4), 3)]);
        check(
            new_york.clone(),
            "2026-03-08T04:00:00Z",
            "2026-03-09T04:00:00Z",
            &expect![[r#"
                08 01:30 -0500 Instances(3)
                08 06:30 -0400 Instances(0)"#]],
        );
        check(
            new_york,
            "2026-11-01T04:00:00Z",
            "2026-11-02T04:00:00Z",
            &expect![[r#"
                01 01:30 -0400 Instances(3)
                01 04:30 -0500 Instances(0)"#]],
        );
        let lord_howe = schedule(
            "Australia/Lord_Howe",
            vec![window("15 2 * * *", hours(1), 3)],
        );
        check(
            lord_howe.clone(),
            "2026-10-03T12:00:00Z",
            "2026-10-04T12:00:00Z",
            &expect![[r#"
                04 02:30 +1100 Instances(3)
                04 03:30 +1100 Instances(0)"#]],
        );
        check(
            lord_howe,
            "2026-04-04T12:00:00Z",
            "2026-04-05T12:00:00Z",
            &expect![[r#"
                05 02:15 +1030 Instances(3)
                05 03:15 +1030 Instances(0)"#]],
        );
        let kolkata = schedule("Asia/Kolkata", night());
        check(
            kolkata,
            "2026-03-28T22:00:00Z",
            "2026-03-29T22:00:00Z",
            &expect![[r#"
                29 06:30 +0530 Instances(0)
                30 02:30 +0530 Instances(3)"#]],
        );
    }

    #[test]
    fn an_end_is_a_time_on_the_wall_clock() {
        let night = |start: &str, end: &str| {
            schedule(
                "Europe/Berlin",
                vec![window(start, Until::At(line(end)), 3)],
            )
        };
        let spring = ("2026-03-28T20:00:00Z", "2026-03-29T20:00:00Z");
        let autumn = ("2026-10-24T20:00:00Z", "2026-10-25T20:00:00Z");
        let rule = night("0 22 * * *", "0 6 * * *");
        check(
            rule.clone(),
            spring.0,
            spring.1,
            &expect![[r#"
            28 22:00 +0100 Instances(3)
            29 06:00 +0200 Instances(0)
            29 22:00 +0200 Instances(3)"#]],
        );
        check(
            rule,
            autumn.0,
            autumn.1,
            &expect!["25 06:00 +0100 Instances(0)"],
        );
        // Wholly inside the gap: never open. In the repeated hour: the first time.
        let rule = night("15 2 * * *", "45 2 * * *");
        check(rule.clone(), spring.0, spring.1, &expect![[""]]);
        check(
            rule,
            autumn.0,
            autumn.1,
            &expect![[r#"
            25 02:15 +0200 Instances(3)
            25 02:45 +0200 Instances(0)"#]],
        );
        // All but the gap.
        let rule = night("45 2 * * *", "15 2 * * *");
        check(rule, spring.0, spring.1, &expect![[""]]);
    }

    #[test]
    fn a_window_may_be_open_for_months() {
        let season = schedule(
            "UTC",
            vec![window("0 0 1 11 *", Until::At(line("0 0 1 3 *")), 8)],
        );
        let wish =
            |time: &str| propose(&Policy::Schedule(season.clone()), (0, 0), at(time), &[]).why;
        expect!["window `0 0 1 11 *` until `0 0 1 3 *` is open (UTC)"]
            .assert_eq(&wish("2026-02-28T23:59:59Z"));
        expect!["no window is open (UTC)"].assert_eq(&wish("2026-03-01T00:00:00Z"));
        let next = |time: &str| {
            season
                .boundaries_after(at(time))
                .expect("there is one")
                .to_string()
        };
        expect!["2026-03-01T00:00:00Z"].assert_eq(&next("2026-02-28T23:59:59Z"));
        expect!["2026-11-01T00:00:00Z"].assert_eq(&next("2026-03-01T00:00:00Z"));
    }

    #[test]
    fn a_window_open_since_before_1970_is_open() {
        let rule = schedule("Asia/Tokyo", vec![window("0 22 * * *", hours(12), 8)]);
        let first = propose(&Policy::Schedule(rule), (0, 0), Timestamp::EPOCH, &[]);
        expect!["window `0 22 * * *` for 12h is open (Asia/Tokyo)"].assert_eq(&first.why);
    }

    #[test]
    fn no_windows_have_no_boundaries() {
        assert_eq!(
            schedule("UTC", Vec::new()).boundaries_after(Timestamp::EPOCH),
            None
        );
        assert_eq!(
            Policy::Schedule(schedule("UTC", Vec::new())).boundary_after(Timestamp::EPOCH),
            None
        );
    }
}
