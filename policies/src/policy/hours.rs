//! Hours that open and close by the clock.
//!
//! They open when `start` fires, a cron line in some zone, and are open for a
//! `duration`, or until `end` fires, another cron line. Clock changes: a time
//! that is skipped in spring counts as the first moment after the gap; a time
//! that is shown twice in autumn counts at the first of the two (see
//! [`crate::cron`]). A `duration` is elapsed time, so ten hours are ten hours on
//! every day of the year; an `end` is a time on the wall clock, so those hours
//! may be one fewer or one more.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::cron::{CronLine, Zone, moment};
use crate::fields::{Fields, duration_text};
use crate::units::Timestamp;

/// A time that opens and closes by the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hours {
    /// When it opens.
    pub start: CronLine,
    /// How long it is open.
    pub until: Until,
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

impl Hours {
    /// None need to be longer: the next year opens them again.
    const DURATION_MAX: Duration = Duration::from_hours(366 * 24);

    /// Cron counts in minutes.
    const DURATION_MIN: Duration = Duration::from_mins(1);

    /// Reads `start`, and `duration` or `end`.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "the cron line that opens it, such as \"0 8 * * MON-FRI\"";
        let start = fields.required::<CronLine>("start", what);
        let bounds = Self::DURATION_MIN..=Self::DURATION_MAX;
        let span = fields.optional_within("duration", bounds).map(Until::For);
        let end = fields.optional::<CronLine>("end");
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
        })
    }

    pub(super) fn is_open(&self, zone: Zone, at: Timestamp) -> bool {
        let now = moment(at);
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

    pub(super) fn sentence(&self, zone: Zone) -> String {
        let until = match &self.until {
            Until::For(span) => format!("for {}", duration_text(*span)),
            Until::At(end) => format!("until `{end}`"),
        };
        format!("window `{}` {until} is open ({zone})", self.start)
    }
}

/// The next moment after `now` at which some of `hours` open or close; `None` if
/// there is none within 40 years. Hours that open again while they are open give
/// a moment at which nothing changes.
pub(super) fn next_boundary<'a>(
    hours: impl Iterator<Item = &'a Hours>,
    zone: Zone,
    now: Timestamp,
) -> Option<Timestamp> {
    let now = moment(now);
    let next = hours
        .flat_map(|hours| hours.boundaries_after(zone, now))
        .flatten()
        .min()?;
    u64::try_from(next.timestamp_micros())
        .ok()
        .map(Timestamp::from_micros)
}

/// When a window that opened at `opened` closes; `None` if that is beyond the
/// calendar.
fn closes(opened: DateTime<Utc>, span: Duration) -> Option<DateTime<Utc>> {
    opened.checked_add_signed(chrono::Duration::from_std(span).ok()?)
}
