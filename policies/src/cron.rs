//! Cron lines read against the wall clock of a time zone.
//!
//! **The rule at clock changes:** a line fires when the wall clock first shows
//! or first passes its time. So a time that is skipped in spring fires at the
//! first moment after the gap, and a time that is shown twice in autumn fires
//! at the first of the two only. One rule for all lines, with or without
//! wildcards.
//!
//! `croner` reads the line and knows which days it means. Which moment that is
//! in a zone is worked out here: croner's own search gives wrong answers when
//! it looks backwards over a gap (it fires before it) or starts within a
//! repeated hour, and it walks years second by second when a line is rare.
//! Here the days are a table made once, so that a search is a few bit
//! operations: simulations ask once per simulated minute.

use std::fmt;

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

use crate::fields::{FromToml, did_you_mean};
use crate::units::Timestamp;

/// How far a search looks: a leap day that must also be a given weekday comes
/// every 28 years, or after 40 across a year such as 2100.
const SEARCH_YEARS: i32 = 41;

/// Years that show every kind of calendar year (leap or not, by its first
/// weekday).
const EVERY_KIND_OF_YEAR: std::ops::RangeInclusive<i32> = 2000..=2027;

/// Kinds of calendar year: 7 first weekdays, leap or not.
const YEAR_KINDS: usize = 14;

/// A cron line of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronLine {
    text: String,
    /// Bit `m` for minute `m`.
    minutes: u64,
    /// Bit `h` for hour `h`.
    hours: u32,
    /// Bit `d` for day `d`, by kind of year and month.
    days: Box<[[u32; 12]; YEAR_KINDS]>,
}

impl CronLine {
    /// Reads a line such as `0 8 * * MON-FRI`.
    ///
    /// If both day fields are restricted, either is enough, as in every cron;
    /// a `+` before the weekday asks for both (`0 8 1 * +MON`).
    ///
    /// # Errors
    /// What is wrong with it and what to write; also for a line that never
    /// fires, such as one for 30 February.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(format!(
                "`{text}` is no cron line: it needs five fields (minute hour day month weekday), \
                 such as \"0 8 * * MON-FRI\", and has {fields}"
            ));
        }
        if !text.is_ascii() {
            return Err(format!(
                "`{text}` is no cron line: only plain letters and digits"
            ));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let wrong = |error| format!("`{text}` is no cron line: {}", sentence(error));
        let cron = parser.parse(text).map_err(wrong)?;
        let line = Self::tabulate(text, &cron).map_err(wrong)?;
        if line.days.iter().flatten().all(|mask| *mask == 0) {
            return Err(format!("`{text}` never fires: there is no such day"));
        }
        Ok(line)
    }

    fn tabulate(text: &str, cron: &croner::Cron) -> Result<Self, CronError> {
        let pattern = &cron.pattern;
        let mut line = Self {
            text: text.to_owned(),
            minutes: 0,
            hours: 0,
            days: Box::new([[0; 12]; YEAR_KINDS]),
        };
        for minute in 0..60 {
            line.minutes |= u64::from(pattern.minute_match(minute)?) << minute;
        }
        for hour in 0..24 {
            line.hours |= u32::from(pattern.hour_match(hour)?) << hour;
        }
        let mut known = [false; YEAR_KINDS];
        for year in EVERY_KIND_OF_YEAR {
            let Some(new_year) = NaiveDate::from_ymd_opt(year, 1, 1) else {
                continue;
            };
            let kind = year_kind(new_year);
            if std::mem::replace(&mut known[kind], true) {
                continue;
            }
            for date in new_year.iter_days().take_while(|date| date.year() == year) {
                if pattern.month_match(date.month())?
                    && pattern.day_match(year, date.month(), date.day())?
                {
                    line.days[kind][month0(date)] |= 1 << date.day();
                }
            }
        }
        Ok(line)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it fires at the same times as `other`, however they are written.
    pub fn fires_with(&self, other: &Self) -> bool {
        (self.minutes, self.hours, &self.days) == (other.minutes, other.hours, &other.days)
    }

    /// The last time it fires at or before the wall clock reads `wall`; `None`
    /// if that is before the day `floor`.
    fn last_until(&self, wall: NaiveDateTime, floor: NaiveDate) -> Option<NaiveDateTime> {
        let mut date = wall.date();
        let today = self
            .fires_on(date)
            .then(|| self.last_time_until(wall))
            .flatten();
        if let Some((hour, minute)) = today {
            return date.and_hms_opt(hour, minute, 0);
        }
        date = date.pred_opt()?;
        while date >= floor {
            let earlier = self.days_of(date) & (u32::MAX >> (31 - date.day()));
            if earlier != 0 {
                let fired = date.with_day(earlier.ilog2())?;
                let (hour, minute) = (self.hours.ilog2(), self.minutes.ilog2());
                return (fired >= floor)
                    .then(|| fired.and_hms_opt(hour, minute, 0))
                    .flatten();
            }
            date = date.with_day(1)?.pred_opt()?;
        }
        None
    }

    /// The first time it fires after the wall clock reads `wall`; `None` if
    /// it is after the day `ceiling`.
    fn first_after(&self, wall: NaiveDateTime, ceiling: NaiveDate) -> Option<NaiveDateTime> {
        let mut date = wall.date();
        let today = self
            .fires_on(date)
            .then(|| self.first_time_after(wall))
            .flatten();
        if let Some((hour, minute)) = today {
            return date.and_hms_opt(hour, minute, 0);
        }
        date = date.succ_opt()?;
        while date <= ceiling {
            let later = self.days_of(date) & (u32::MAX << date.day());
            if later != 0 {
                let fires = date.with_day(later.trailing_zeros())?;
                let (hour, minute) = (self.hours.trailing_zeros(), self.minutes.trailing_zeros());
                return (fires <= ceiling)
                    .then(|| fires.and_hms_opt(hour, minute, 0))
                    .flatten();
            }
            date = date
                .with_day(1)?
                .checked_add_months(chrono::Months::new(1))?;
        }
        None
    }

    fn days_of(&self, date: NaiveDate) -> u32 {
        date.with_ordinal(1)
            .map_or(0, |new_year| self.days[year_kind(new_year)][month0(date)])
    }

    fn fires_on(&self, date: NaiveDate) -> bool {
        self.days_of(date) & (1 << date.day()) != 0
    }

    fn last_time_until(&self, wall: NaiveDateTime) -> Option<(u32, u32)> {
        let this_hour = self.minutes & (u64::MAX >> (63 - wall.minute()));
        if self.hours & (1 << wall.hour()) != 0 && this_hour != 0 {
            return Some((wall.hour(), this_hour.ilog2()));
        }
        let earlier = self.hours & ((1 << wall.hour()) - 1);
        (earlier != 0).then(|| (earlier.ilog2(), self.minutes.ilog2()))
    }

    fn first_time_after(&self, wall: NaiveDateTime) -> Option<(u32, u32)> {
        let this_hour = self.minutes & (u64::MAX << wall.minute() << 1);
        if self.hours & (1 << wall.hour()) != 0 && this_hour != 0 {
            return Some((wall.hour(), this_hour.trailing_zeros()));
        }
        let later = self.hours & (u32::MAX << wall.hour() << 1);
        (later != 0).then(|| (later.trailing_zeros(), self.minutes.trailing_zeros()))
    }
}

impl fmt::Debug for CronLine {
    /// The line; its tables say nothing to a reader.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CronLine({:?})", self.text)
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl TryFrom<String> for CronLine {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<CronLine> for String {
    fn from(line: CronLine) -> Self {
        line.text
    }
}

impl FromToml for CronLine {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        Self::parse(&String::from_toml(value)?)
    }

    fn to_text(&self) -> String {
        self.text.to_text()
    }
}

/// What `croner` has to say, without the name of its kind of error.
fn sentence(error: CronError) -> String {
    let message = match error {
        CronError::InvalidPattern(message)
        | CronError::IllegalCharacters(message)
        | CronError::ComponentError(message) => message,
        other => other.to_string(),
    };
    let message = message.replace("CronPattern contains", "it contains");
    let mut letters = message.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_ascii_lowercase(), letters.as_str())
    })
}

/// Which of the [`YEAR_KINDS`] the year of `new_year` is.
fn year_kind(new_year: NaiveDate) -> usize {
    let weekday = new_year.weekday().num_days_from_monday() as usize;
    if new_year.leap_year() {
        weekday + 7
    } else {
        weekday
    }
}

fn month0(date: NaiveDate) -> usize {
    date.month0() as usize
}

/// One firing of a line: what the wall clock was meant to read, and when that
/// was. Ordered by wall clock; the moments are in the same order, and equal
/// for all that fell into one gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Firing {
    pub(crate) wall: NaiveDateTime,
    pub(crate) at: DateTime<Utc>,
}

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone called `name`.
    ///
    /// # Errors
    /// What to write, if there is none.
    pub fn parse(name: &str) -> Result<Self, String> {
        name.parse().map(Self).map_err(|_| {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let same = known.clone().find(|known| known.eq_ignore_ascii_case(name));
            let hint = same.map_or_else(
                || did_you_mean(name, known),
                |same| format!("; did you mean `{same}`?"),
            );
            format!(
                "\"{name}\" is no time zone of the IANA database, such as \"Europe/Berlin\"{hint}"
            )
        })
    }

    /// The same zone for `chrono`.
    pub const fn tz(self) -> Tz {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// When `line` last fired at or before `now`; `None` if it never did.
    pub fn fired(self, line: &CronLine, now: Timestamp) -> Option<Timestamp> {
        let fired = self.last_firing(line, moment(now), None)?.at;
        let micros = u64::try_from(fired.timestamp_micros()).ok()?;
        Some(Timestamp::from_micros(micros))
    }

    /// The last time `line` fired at or before `now`, not looking further
    /// back than `reach`.
    pub(crate) fn last_firing(
        self,
        line: &CronLine,
        now: DateTime<Utc>,
        reach: Option<std::time::Duration>,
    ) -> Option<Firing> {
        let front = self.front(now);
        let floor = match reach.map(Duration::from_std) {
            // Two days of margin for zones that changed sides of the date line.
            Some(Ok(reach)) => front
                .date()
                .checked_sub_signed(reach)?
                .checked_sub_signed(Duration::days(2))?,
            Some(Err(_)) | None => front
                .date()
                .with_day(1)?
                .with_year(front.year() - SEARCH_YEARS)?,
        };
        let wall = line.last_until(front, floor)?;
        Some(Firing {
            wall,
            at: self.moment_of(wall)?,
        })
    }

    /// The first time `line` fires after `now`.
    pub(crate) fn next_firing(self, line: &CronLine, now: DateTime<Utc>) -> Option<Firing> {
        let front = self.front(now);
        let ceiling = front
            .date()
            .with_day(1)?
            .with_year(front.year() + SEARCH_YEARS)?;
        let wall = line.first_after(front, ceiling)?;
        Some(Firing {
            wall,
            at: self.moment_of(wall)?,
        })
    }

    /// The latest reading the wall clock has shown by `now`: what it shows
    /// now, except that while an hour is repeated it is the end of that hour.
    fn front(self, now: DateTime<Utc>) -> NaiveDateTime {
        let shown = now.with_timezone(&self.0).naive_local();
        match self.0.from_local_datetime(&shown) {
            chrono::LocalResult::Ambiguous(one, other) if one.max(other) <= now => {
                self.last_reading_before_repeat(one.min(other).to_utc(), now)
            }
            _ => shown,
        }
    }

    /// The last second the wall clock showed before it was put back, somewhere
    /// between two moments at which it showed the same time.
    fn last_reading_before_repeat(
        self,
        first: DateTime<Utc>,
        second: DateTime<Utc>,
    ) -> NaiveDateTime {
        use chrono::Offset;
        let offset_at = |at: i64| {
            DateTime::from_timestamp(at, 0).map_or(0, |at| {
                self.0
                    .offset_from_utc_datetime(&at.naive_utc())
                    .fix()
                    .local_minus_utc()
            })
        };
        let (mut before, mut after) = (first.timestamp(), second.timestamp());
        let offset = offset_at(before);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if offset_at(middle) == offset {
                before = middle;
            } else {
                after = middle;
            }
        }
        DateTime::from_timestamp(before, 0)
            .map_or(first, |at| at)
            .with_timezone(&self.0)
            .naive_local()
    }

    /// When the wall clock first shows or passes `wall`.
    fn moment_of(self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.0.from_local_datetime(&wall) {
            chrono::LocalResult::Single(at) => Some(at.to_utc()),
            chrono::LocalResult::Ambiguous(one, other) => Some(one.min(other).to_utc()),
            chrono::LocalResult::None => GapInfo::new(&wall, &self.0)?
                .end
                .map(|after| after.to_utc()),
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

impl FromToml for Zone {
    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        Self::parse(&String::from_toml(value)?)
    }

    fn to_text(&self) -> String {
        self.name().to_owned().to_text()
    }
}

/// The same moment for `chrono`, within the years its calendar can shift by
/// any offset without leaving it.
pub(crate) fn moment(at: Timestamp) -> DateTime<Utc> {
    /// 9999-12-31T00:00:00Z.
    const LAST_MICROS: u64 = 253_402_214_400_000_000;
    Timestamp::from_micros(at.micros().min(LAST_MICROS)).to_chrono()
}

#[cfg(test)]
mod tests;
