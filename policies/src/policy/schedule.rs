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
//! Clock changes: a time that is skipped in spring counts as the first moment
//! after the gap; a time that is shown twice in autumn counts at the first of
//! the two (see [`crate::cron`]). A `duration` is elapsed time, so a ten-hour
//! window is open for ten hours on every day of the year; an `end` is a time on
//! the wall clock, so that window may be an hour shorter or longer.
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

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{INSTANCES_MAX, Opinion, View};
use crate::cron::{CronLine, Zone, moment};
use crate::fields::{Fields, duration_text};
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
    /// When it opens.
    pub start: CronLine,
    /// How long it is open.
    pub until: Until,
    /// How many instances while it is open.
    pub instances: u32,
}

/// How long a window is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// For this long after it opened, whatever the wall clock does.
    For(Duration),
    /// Until this line fires.
    At(CronLine),
}

impl Schedule {
    /// No window needs to be longer: the next year opens it again.
    const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

    /// Cron counts in minutes.
    const DURATION_MIN: Duration = Duration::from_secs(60);

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let zone = fields.or("timezone", Zone::UTC);
        let otherwise = fields.or_within("otherwise", 0, 0..=INSTANCES_MAX);
        if !fields.has("window") {
            fields.problem("window", "missing; write at least one [[policy.window]]");
        }
        let windows = fields.tables("window", Window::read);
        Some(Self {
            zone,
            windows,
            otherwise,
        })
    }

    /// The next moment after `now` at which a window opens or closes; `None`
    /// if there is none within 40 years. A window that opens again while it is
    /// open gives a moment at which nothing changes.
    pub fn boundaries_after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = moment(now);
        let next = self
            .windows
            .iter()
            .flat_map(|window| window.boundaries_after(self.zone, now))
            .flatten()
            .min()?;
        u64::try_from(next.timestamp_micros())
            .ok()
            .map(Timestamp::from_micros)
    }

    pub(super) fn opinion(&self, view: &View<'_>) -> Opinion {
        let now = moment(view.now);
        let mut largest: Option<&Window> = None;
        for window in &self.windows {
            let larger = largest.is_none_or(|best| window.instances > best.instances);
            if larger && window.is_open(self.zone, now) {
                largest = Some(window);
            }
        }
        match largest {
            Some(window) => Opinion::instances(window.instances, window.sentence(self.zone)),
            None => {
                Opinion::instances(self.otherwise, format!("no window is open ({})", self.zone))
            }
        }
    }
}

impl Window {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "the cron line that opens it, such as \"0 8 * * MON-FRI\"";
        let start = fields.required::<CronLine>("start", what);
        let bounds = Schedule::DURATION_MIN..=Schedule::DURATION_MAX;
        let span = fields.optional_within("duration", bounds).map(Until::For);
        let end = fields.optional::<CronLine>("end");
        let what = "how many instances while it is open, such as 12";
        let instances = fields.required_within("instances", what, 0..=INSTANCES_MAX);
        match (fields.has("duration"), fields.has("end")) {
            (true, true) => {
                fields.problem("end", "a window has either `duration` or `end`; remove one");
            }
            (false, false) => fields.problem_here(
                "says not how long it is open; write `duration = \"10h\"` or \
                 `end = \"0 18 * * MON-FRI\"`",
            ),
            (true, false) | (false, true) => {}
        }
        if let (Some(start), Some(end)) = (&start, &end)
            && start.fires_with(end)
        {
            fields.problem(
                "end",
                "is the same as `start`, so the window would never be closed",
            );
        }
        let until = span.or(end.map(Until::At));
        Some(Self {
            start: start?,
            until: until?,
            instances: instances?,
        })
    }

    fn is_open(&self, zone: Zone, now: DateTime<Utc>) -> bool {
        match &self.until {
            Until::For(span) => zone
                .last_firing(&self.start, now, Some(*span))
                .is_some_and(|opened| closes(opened.at, *span).is_none_or(|closed| now < closed)),
            // Compared by wall clock and not by moment: a window that opens
            // and closes within one gap was never open.
            Until::At(end) => match zone.last_firing(&self.start, now, None) {
                Some(opened) => zone
                    .last_firing(end, now, None)
                    .is_none_or(|closed| opened.wall >= closed.wall),
                None => false,
            },
        }
    }

    fn boundaries_after(&self, zone: Zone, now: DateTime<Utc>) -> [Option<DateTime<Utc>>; 2] {
        let opens = zone.next_firing(&self.start, now).map(|firing| firing.at);
        let closes = match &self.until {
            Until::For(span) => zone
                .last_firing(&self.start, now, Some(*span))
                .and_then(|opened| closes(opened.at, *span))
                .filter(|closed| *closed > now),
            Until::At(end) => zone.next_firing(end, now).map(|firing| firing.at),
        };
        [opens, closes]
    }

    fn sentence(&self, zone: Zone) -> String {
        let until = match &self.until {
            Until::For(span) => format!("for {}", duration_text(*span)),
            Until::At(end) => format!("until `{end}`"),
        };
        format!("window `{}` {until} is open ({zone})", self.start)
    }
}

/// When a window that opened at `opened` closes; `None` if that is beyond the
/// calendar.
fn closes(opened: DateTime<Utc>, span: Duration) -> Option<DateTime<Utc>> {
    opened.checked_add_signed(chrono::Duration::from_std(span).ok()?)
}
