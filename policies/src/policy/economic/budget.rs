//! A budget: waiting gets cheaper before the money runs out.
//!
//! What the day or the month has cost so far is known. What the rest of it will
//! cost is forecast, by the season and by what the load of late has needed
//! ([`Spending`]). If both together are more than the budget, waiting is worth
//! no more than the money allows: the dual variable of the budget, found anew
//! in each cycle, so that nothing winds up. Where even the cheapest waiting
//! needs more than there is, the fleet is kept as small as spreads what is left
//! over the rest of the time. And nothing is launched, or kept, whose way out
//! is no longer paid for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fleet;
use crate::cron::{CronLine, Zone, moment};
use crate::fields::Fields;
use crate::learn::{Season, Seen, Spending, secs};
use crate::policy::rounding;
use crate::units::{MicroUsd, Timestamp};

/// Waiting is worth at least a thousandth of an instance, however short money
/// is: below, backlogs outlast the hours that can be foreseen.
const KAPPA_MIN: f64 = 1e-3;

/// What is let go works on for so many mean service times: twice what is left
/// of exponential ones on average.
const DRAIN_SERVICES: f64 = 2.0;

/// What is left of the season is counted anew this often.
const SLOT: Duration = Duration::from_mins(15);

/// What a fleet may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// So much.
    pub amount: MicroUsd,
    /// For so long.
    pub period: Period,
}

/// What a budget is for, in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

impl Period {
    const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The cron line that begins it.
    const fn begins(self) -> &'static str {
        match self {
            Self::Day => "0 0 * * *",
            Self::Month => "0 0 1 * *",
        }
    }

    /// Its key in TOML.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Day => "budget_usd_per_day",
            Self::Month => "budget_usd_per_month",
        }
    }

    /// The hours of the shortest one: a day on which clocks are put forward, a
    /// February.
    pub const fn hours_min(self) -> u64 {
        match self {
            Self::Day => 23,
            Self::Month => 28 * 24 - 1,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period that `now` is in.
    fn around(self, zone: Zone, now: Timestamp) -> Option<Span> {
        let line = CronLine::parse(self.begins()).ok()?;
        let now = moment(now);
        let from = zone.last_firing(&line, now, None)?.at;
        let to = zone.next_firing(&line, now)?.at;
        let at = |at: chrono::DateTime<chrono::Utc>| {
            let micros = u64::try_from(at.timestamp_micros()).unwrap_or(0);
            Timestamp::from_micros(micros)
        };
        Some(Span {
            from: at(from),
            to: at(to),
        })
    }
}

impl Budget {
    /// Reads `budget_usd_per_day` or `budget_usd_per_month`, if there is one.
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut found: Option<Self> = None;
        for period in Period::ALL {
            let key = period.key();
            let Some(amount) = fields.optional::<MicroUsd>(key) else {
                continue;
            };
            if amount == MicroUsd::ZERO {
                fields.problem(
                    key,
                    "at 0 nothing may ever be bought; write what the fleet may cost, such as 40",
                );
            }
            if let Some(first) = found {
                let first = first.period.key();
                let message = format!("there is `{first}` already; remove one of the two");
                fields.problem(key, message);
                continue;
            }
            found = Some(Self { amount, period });
        }
        found
    }
}

/// From when to when a period lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

/// What is remembered of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Purse {
    spending: Spending,
    kept: Option<(Period, Zone)>,
    span: Option<Span>,
    /// What the fleet had cost when the newest period began, and when that was.
    before: MicroUsd,
    opened: Option<Timestamp>,
    /// Seconds of the mean season from the end of a slot to that of the period.
    rest: Option<(Timestamp, f64)>,
    /// What waiting was worth in the last cycle.
    kappa: f64,
    /// Whether that was less than it should have been.
    pub(super) binds: bool,
}

/// What one cycle may do, by the budget.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Allowance {
    /// What waiting is worth, in instances.
    pub(super) kappa: f64,
    /// The most instances.
    pub(super) most: u32,
    /// Why, if the budget binds.
    pub(super) why: Option<String>,
}

/// What the purse must know of a cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub(super) now: Timestamp,
    pub(super) fleet: &'a Fleet,
    /// Instances that count.
    pub(super) current: u32,
    /// Mean service time, in seconds, by the slots of an instance.
    pub(super) service: f64,
    /// Seconds from a launch to the first job.
    pub(super) boot: f64,
    /// Jobs that wait.
    pub(super) waiting: f64,
    pub(super) season: Option<&'a Season>,
}

impl Purse {
    /// Takes in a span in which `work` instance-seconds of work arrived and
    /// `busy` instances had work.
    pub(super) fn learn(&mut self, span: f64, season: f64, work: f64, busy: f64, billed: u32) {
        self.spending.learn(Seen {
            secs: span,
            season,
            work,
            spare: span * (f64::from(billed) - busy),
            kappa: self.kappa,
        });
    }

    /// What the budget of a period allows, if there is one and waiting should be worth `kappa` instances.
    pub(super) fn allow(
        &mut self,
        (period, amount): (Period, Option<MicroUsd>),
        zone: Zone,
        kappa: f64,
        moment: &Moment<'_>,
    ) -> Allowance {
        self.turn(period, zone, moment);
        (self.kappa, self.binds) = (kappa, false);
        let free = Allowance {
            kappa,
            most: moment.fleet.max,
            why: None,
        };
        let price = price_micros(moment.fleet) / 3_600.0;
        let (Some(span), Some(amount)) = (self.span, amount) else {
            return free;
        };
        let spent = moment.fleet.spent.get().saturating_sub(self.before.get());
        let left = micros(amount.get().saturating_sub(spent)) / price;
        let ahead = secs(span.to.since(moment.now));
        let season = self.season_ahead(moment, span.to, ahead);
        let mut needs = self.spending.needs(season);
        needs.work += moment.waiting * moment.service;
        let worth = needs.kappa_for(left, KAPPA_MIN, kappa);
        let purse = format!(
            "${} of ${} for the {} in {zone} are spent",
            dollars(spent),
            dollars(amount.get()),
            period.word(),
        );
        let mut allowed = free;
        if worth < kappa {
            allowed.kappa = worth;
            let rest = micros_usd(needs.at(kappa) * price);
            allowed.why = Some(format!(
                "{purse} and the rest of it would cost about ${}, so waiting counts {:.4} times \
                 an instance instead of {:.4} times",
                dollars(rest),
                worth,
                kappa
            ));
        }
        if needs.at(KAPPA_MIN.min(kappa)) > left && season > 0.0 {
            let shape = shape(moment.season, moment.now);
            let paced = rounding::down(left.max(0.0) * shape / season);
            allowed.most = allowed.most.min(paced.max(1).max(moment.fleet.min));
        }
        let paid = paid_for(moment, left, ahead);
        if paid < allowed.most {
            allowed.most = paid;
            if paid <= moment.current {
                allowed.why = Some(format!("{purse}, and the way out of more is not paid for"));
            }
        }
        self.kappa = allowed.kappa;
        self.binds = allowed.why.is_some();
        allowed
    }

    /// Begins a new period if the last one is over.
    fn turn(&mut self, period: Period, zone: Zone, moment: &Moment<'_>) {
        let now = moment.now;
        let same = self.kept == Some((period, zone));
        let inside = self
            .span
            .is_some_and(|span| span.from <= now && now < span.to);
        if same && inside {
            return;
        }
        let Some(span) = period.around(zone, now) else {
            return;
        };
        // A clock that was put back opens no period that was closed, and what
        // a day has cost is part of what its month has.
        if self.opened.is_none_or(|opened| span.from > opened) {
            self.opened = Some(span.from);
            let all = moment.fleet.since.is_some_and(|since| since >= span.from);
            self.before = if all {
                MicroUsd::ZERO
            } else {
                moment.fleet.spent
            };
        }
        self.kept = Some((period, zone));
        self.span = Some(span);
        self.rest = None;
    }

    /// Seconds of the mean season that can be foreseen of the `ahead` seconds
    /// up to `to`.
    fn season_ahead(&mut self, moment: &Moment<'_>, to: Timestamp, ahead: f64) -> f64 {
        let known = moment
            .season
            .and_then(|season| Some((season, season.mean_rate()?)));
        let Some((season, mean)) = known else {
            self.rest = None;
            return ahead.min(self.spending.reach_secs());
        };
        let micros = moment.now.micros();
        let length = crate::units::micros_of(SLOT);
        let slot = Timestamp::from_micros(micros - micros % length + length).min(to);
        let rest = match self.rest {
            Some((at, rest)) if at == slot => rest,
            Some(_) | None => {
                let rest = season.jobs_between(slot, to).unwrap_or(0.0) / mean.max(1e-12);
                self.rest = Some((slot, rest));
                rest
            }
        };
        rest + secs(slot.since(moment.now)) * shape(Some(season), moment.now)
    }
}

/// The season's rate at `at`, as a multiple of its mean; 1 without one.
pub(super) fn shape(season: Option<&Season>, at: Timestamp) -> f64 {
    let shape = season.and_then(|season| Some(season.rate(at)? / season.mean_rate()?.max(1e-12)));
    shape.unwrap_or(1.0)
}

/// How many instances `left` instance-seconds pay for, their way out included,
/// and the least that the fleet may have for the `ahead` seconds.
fn paid_for(moment: &Moment<'_>, left: f64, ahead: f64) -> u32 {
    let Moment { fleet, current, .. } = *moment;
    let increment = secs(fleet.billing.increment);
    let coarse = if increment > 60.0 { increment } else { 0.0 };
    let drain = (DRAIN_SERVICES * moment.service).min(ahead);
    let interval = 2.0 * secs(fleet.interval);
    let stay = (interval + secs(fleet.wind_down) + drain)
        .min(ahead)
        .max(coarse);
    let launch = (stay + moment.boot)
        .min(ahead)
        .max(secs(fleet.billing.minimum))
        .max(coarse);
    // What is on its way out must be paid for, too.
    let leaving = fleet.billed.saturating_sub(current);
    let free = left - f64::from(fleet.min) * ahead - f64::from(leaving) * drain.max(coarse);
    let extra = f64::from(current.saturating_sub(fleet.min));
    let most = if free >= extra * stay {
        let more = rounding::down((free - extra * stay) / launch.max(1e-3));
        current.saturating_add(more)
    } else {
        let kept = rounding::down(free.max(0.0) / stay.max(1e-3));
        fleet.min.saturating_add(kept).min(current)
    };
    most.max(fleet.min)
}

/// What an instance costs an hour, in micro-dollars; at least one.
fn price_micros(fleet: &Fleet) -> f64 {
    super::plan::micro_usd(fleet.price).max(1.0)
}

/// Micro-dollars as a number; exact up to nine billion dollars.
fn micros(amount: i64) -> f64 {
    let positive = u64::try_from(amount.max(0)).unwrap_or(0);
    super::plan::micro_usd(crate::units::MicroUsdPerHour::new(positive))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` stops at the largest amount"
)]
fn micros_usd(micros: f64) -> i64 {
    micros as i64
}

/// Dollars and cents.
fn dollars(micros: i64) -> String {
    let cents = micros.max(0) / 10_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::Seen;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn zone(name: &str) -> Zone {
        Zone::parse(name).expect("a zone")
    }

    fn fleet(spent_usd: i64) -> Fleet {
        Fleet {
            interval: Duration::from_mins(1),
            // $3.60 an hour: a thousandth of a dollar a second.
            price: crate::units::MicroUsdPerHour::new(3_600_000),
            billing: crate::model::Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::from_mins(1),
            },
            waiting: crate::units::MicroUsdPerHour::ZERO,
            min: 0,
            max: 100,
            billed: 5,
            spent: MicroUsd::new(spent_usd * 1_000_000),
            since: Some(Timestamp::EPOCH),
            wind_down: Duration::ZERO,
            booting: Vec::new(),
            idle: None,
            paid_left: Vec::new(),
            came_up: Vec::new(),
        }
    }

    /// A purse that has seen two days in which four instances worked and one
    /// was spare, at a worth of waiting of one instance.
    fn purse() -> Purse {
        let mut purse = Purse::default();
        for _ in 0..2_880 {
            purse.spending.learn(Seen {
                secs: 60.0,
                season: 1.0,
                work: 240.0,
                spare: 60.0,
                kappa: 1.0,
            });
        }
        purse
    }

    fn allow(purse: &mut Purse, now: Timestamp, spent_usd: i64, budget_usd: i64) -> Allowance {
        let budget = (Period::Day, Some(MicroUsd::new(budget_usd * 1_000_000)));
        let fleet = fleet(spent_usd);
        let moment = Moment {
            now,
            fleet: &fleet,
            current: 5,
            service: 30.0,
            boot: 120.0,
            waiting: 0.0,
            season: None,
        };
        purse.allow(budget, Zone::UTC, 1.0, &moment)
    }

    #[test]
    fn periods_begin_at_midnight_on_the_wall_clock() {
        let check = |period: Period, name, now, from, to| {
            let span = period.around(zone(name), at(now)).expect("a period");
            assert_eq!((span.from, span.to), (at(from), at(to)), "{name} {now}");
        };
        // 23 hours, 25 hours, and a midnight that the clock skips.
        let day = Period::Day;
        let berlin = "Europe/Berlin";
        let (from, to) = ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00");
        check(day, berlin, "2026-03-29T12:00:00Z", from, to);
        let (from, to) = ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00");
        check(day, berlin, "2026-10-25T01:30:00Z", from, to);
        let (from, to) = ("2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00");
        check(day, "America/Santiago", "2026-09-06T12:00:00Z", from, to);
        let (from, to) = ("2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00");
        check(Period::Month, berlin, "2026-10-25T01:30:00Z", from, to);
    }

    #[test]
    fn the_more_is_spent_the_less_waiting_is_worth_and_the_next_day_begins_anew() {
        let noon = at("2026-01-12T12:00:00Z");
        // Noon to midnight costs $216, $172.80 of it for the work.
        let mut worths = Vec::new();
        for spent in [50, 90, 120, 150, 300] {
            let mut purse = purse();
            allow(&mut purse, at("2026-01-12T00:00:00Z"), 0, 300);
            worths.push(allow(&mut purse, noon, spent, 300));
        }
        let kappas: Vec<f64> = worths.iter().map(|allowed| allowed.kappa).collect();
        assert!(kappas.is_sorted_by(|one, next| one >= next), "{kappas:?}");
        assert!((kappas[0] - 1.0).abs() < 1e-12 && worths[0].why.is_none());
        assert!((0.1..0.9).contains(&kappas[1]), "{kappas:?}");
        assert!((kappas[4] - KAPPA_MIN).abs() < 1e-12, "{kappas:?}");
        // What is left is spread: $150 for twelve hours, 3.47 instances' worth.
        assert_eq!(worths[3].most, 3, "{:?}", worths[3]);
        assert_eq!(worths[4].most, 0, "{:?}", worths[4]);
        let mut purse = purse();
        allow(&mut purse, noon, 300, 300);
        for _ in 0..1_000 {
            allow(&mut purse, noon, 900, 300);
        }
        let next = allow(&mut purse, at("2026-01-13T00:00:00Z"), 900, 500);
        assert!((next.kappa - 1.0).abs() < 1e-12, "{next:?}");
        assert_eq!(next.why, None);
    }

    #[test]
    fn a_clock_that_is_put_back_makes_no_new_money() {
        let mut purse = purse();
        allow(&mut purse, at("2026-01-12T00:00:00Z"), 0, 300);
        allow(&mut purse, at("2026-01-12T23:00:00Z"), 310, 300);
        for now in ["2026-01-11T12:00:00Z", "2026-01-12T23:30:00Z"] {
            let allowed = allow(&mut purse, at(now), 310, 300);
            assert_eq!(allowed.most, 0, "{now}: {allowed:?}");
        }
        let text = serde_json::to_string(&purse).expect("plain data");
        let read: Purse = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read, purse);
    }
}
