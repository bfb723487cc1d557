//! From the cycles that were kept to a load that can be replayed.
//!
//! ```text
//! arrivals       differences of the counter; without one, completions and what
//!                the jobs at hand have become more
//! service mean   jobs in hand, integrated, over jobs that were finished
//!                (Little's law); times are exponential
//! boot           the mean of what was seen, less half an interval, since it is
//!                seen that much late on average; the same for all
//! ```
//!
//! A record that tells no load is not replayed: it is said why. Where the clock
//! went back or stood still, or nothing was looked at for long, the record begins anew.

use std::fmt;
use std::time::Duration;

use windlass_policies::learn::BootTimes;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::{Meter, MicroUsd, Timestamp, micros_of};

use super::look::Look;
use super::{Settings, told};
use crate::queue::wide;

/// Nothing was looked at for longer than this, or ten intervals if those are
/// longer: what came in between is not known well enough.
const GAP_MAX: Duration = Duration::from_hours(1);

/// Fewer jobs say nothing of a policy.
pub const JOBS_MIN: u64 = 100;

/// The most jobs that are replayed at once: 48 MB, and a second or so a run.
/// The record begins later, if it has more.
pub const JOBS_MAX: u64 = 2_000_000;

/// The most cycles that are replayed, likewise: some seconds a run.
pub const TICKS_MAX: usize = 100_000;

/// Cycles in a row that share a sample and tell nothing by themselves.
const SECOND: u64 = 1_000_000;

/// A load as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// When it begins.
    pub begins_at: Timestamp,
    /// Length of a step: the fleet's interval.
    pub step_micros: u64,
    /// Arrivals in each step.
    pub counts: Vec<u64>,
    /// How long a job takes on average.
    pub service: Duration,
    /// How long a boot takes.
    pub boot: Duration,
    /// Whether that was seen, or is only supposed.
    pub boot_seen: bool,
    /// How old a reading is on average, in whole seconds.
    pub lag: Duration,
    /// Instances at the beginning.
    pub initial: u32,
    /// The looks it was made of, for what it really cost.
    looks: Vec<Look>,
}

/// Why a record cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is not enough yet.
    Short {
        /// How long it is.
        have: Duration,
        /// How long it must be.
        need: Duration,
        /// Why it begins so late, if the fleet was looked at before.
        broken: Option<&'static str>,
    },
    /// Neither arrivals nor completions are counted.
    NoCounter,
    /// Nobody says how much work a job is.
    NoWork,
    /// There were too few jobs.
    FewJobs {
        /// So many.
        jobs: u64,
    },
    /// There were so many jobs that what can be replayed is too short.
    ManyJobs {
        /// So much can be.
        have: Duration,
        /// How long it must be.
        need: Duration,
    },
    /// The numbers make no load, such as jobs that take years.
    Absurd(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { have, need, broken } => {
                write!(
                    out,
                    "too little history: {} of the {} that are needed",
                    told::span(*have),
                    told::span(*need)
                )?;
                match broken {
                    Some(why) => write!(out, "; it begins anew where {why}"),
                    None => Ok(()),
                }
            }
            Self::NoCounter => out.write_str(
                "nothing counts arrivals: add the signal `arrivals`, or `completions`, to the fleet",
            ),
            Self::NoWork => out.write_str(
                "nothing says how much work a job is: add the signal `in_flight` to the fleet, or let \
                 workers say whether they are busy",
            ),
            Self::FewJobs { jobs } => write!(
                out,
                "only {jobs} jobs in the history, and {JOBS_MIN} are needed"
            ),
            Self::ManyJobs { have, need } => write!(
                out,
                "too many jobs: the newest {JOBS_MAX} came within {}, and {} of history are needed",
                told::span(*have),
                told::span(*need)
            ),
            Self::Absurd(why) => write!(out, "the record makes no load: {why}"),
        }
    }
}

impl Recorded {
    /// The load that `looks`, oldest first, tell of the fleet of `spec`.
    ///
    /// # Errors
    /// Why they tell none.
    pub fn of(looks: &[Look], spec: &FleetSpec, settings: &Settings) -> Result<Self, Unfit> {
        let (looks, broken) = unbroken(looks, spec.interval);
        let looks = within(looks, settings.history);
        let short = |have: Duration| Unfit::Short {
            have,
            need: settings.history_min,
            broken,
        };
        let points = points(looks);
        if looks.len() > 1 && points.len() < 2 {
            return Err(Unfit::NoCounter);
        }
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Err(short(Duration::ZERO));
        };
        let step = micros_of(spec.interval).max(1);
        let steps = (last.at - first.at) / step;
        let whole = Duration::from_micros(steps.saturating_mul(step));
        if whole < settings.history_min {
            return Err(short(whole));
        }
        let (counts, skipped) = newest(&spread(&points, step, steps)?);
        let kept = Duration::from_micros(step.saturating_mul(wide(counts.len())));
        if kept < settings.history_min {
            return Err(Unfit::ManyJobs {
                have: kept,
                need: settings.history_min,
            });
        }
        let jobs: u64 = counts.iter().sum();
        if jobs < JOBS_MIN {
            return Err(Unfit::FewJobs { jobs });
        }
        let begins = first.at + step * wide(skipped);
        let from = looks.partition_point(|look| look.at.micros() < begins);
        let looks = &looks[from..];
        let (boot, boot_seen) = boot(looks, spec.interval);
        Ok(Self {
            begins_at: Timestamp::from_micros(begins),
            step_micros: step,
            service: service(looks, spec, jobs)?,
            boot,
            boot_seen,
            lag: lag(looks),
            initial: looks
                .iter()
                .find_map(|look| look.instances)
                .map_or(0, |instances| instances.alive),
            counts,
            looks: looks.to_vec(),
        })
    }

    /// How long it is, in microseconds.
    pub fn length_micros(&self) -> u64 {
        self.step_micros.saturating_mul(wide(self.counts.len()))
    }

    /// How many jobs arrive.
    pub fn jobs(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// From where on, in microseconds, the configuration `spec` decided, up to
    /// the end; `None` if it does not decide now.
    pub fn decided_from(&self, spec: &str) -> Option<u64> {
        let others = self.looks.iter().rev().take_while(|look| look.spec == spec);
        let first = others.last()?;
        Some(first.at.micros().saturating_sub(self.begins_at.micros()))
    }

    /// What the fleet really came to from `from_micros` on: what instances cost,
    /// and what the waiting that was read is worth by the objective of `spec`.
    /// A reading holds until the next; where one is absent, the one before it does.
    pub fn came_to(&self, spec: &FleetSpec, from_micros: u64) -> MicroUsd {
        let from = self.begins_at.micros().saturating_add(from_micros);
        let looks = &self.looks[self.looks.partition_point(|look| look.at.micros() < from)..];
        let mut waiting = Meter::default();
        let mut backlog = 0_u64;
        for pair in looks.windows(2) {
            backlog = pair[0].backlog.map_or(backlog, whole);
            let span = pair[1].at.micros().saturating_sub(pair[0].at.micros());
            let price = spec.objective.usd_per_job_hour_waiting;
            waiting.add_wide(price, u128::from(span) * u128::from(backlog));
        }
        let spent = |look: Option<&Look>| look.map_or(0, |look| look.spent.get());
        // A ledger that began anew has lost what came before.
        let instances = (spent(looks.last()) - spent(looks.first())).max(0);
        MicroUsd::new(instances) + waiting.total()
    }
}

/// The looks since the record was last broken, and how it was.
fn unbroken(looks: &[Look], interval: Duration) -> (&[Look], Option<&'static str>) {
    let gap = GAP_MAX.max(interval * 10);
    let breaks = |pair: &[Look]| {
        if pair[1].at <= pair[0].at {
            // A clock that was ahead stands still until time has caught up: what came
            // then would all come at once.
            Some("the clock went back or stood still")
        } else if pair[1].at.since(pair[0].at) > gap {
            Some("the fleet was not looked at for long")
        } else {
            None
        }
    };
    let mut pairs = looks.windows(2).enumerate().rev();
    let last = pairs.find_map(|(place, pair)| Some((place + 1, breaks(pair)?)));
    match last {
        Some((place, why)) => (&looks[place..], Some(why)),
        None => (looks, None),
    }
}

/// Those of the newest `history`, and no more than [`TICKS_MAX`].
fn within(looks: &[Look], history: Duration) -> &[Look] {
    let Some(last) = looks.last() else {
        return looks;
    };
    let from = last.at - history;
    let old = looks.partition_point(|look| look.at < from);
    &looks[old.max(looks.len().saturating_sub(TICKS_MAX))..]
}

/// How many jobs had arrived at a moment, since the first.
#[derive(Clone, Copy)]
struct Point {
    at: u64,
    arrived: f64,
}

/// Ascending in time. A reading that is no newer than the one before says
/// nothing new; a counter that is lower began anew, and what it says is all
/// that is known to have come since.
fn points(looks: &[Look]) -> Vec<Point> {
    let direct = looks.iter().any(|look| look.arrivals.is_some());
    let mut points: Vec<Point> = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for look in looks {
        let (count, at_hand) = if direct {
            (look.arrivals, Some(0.0))
        } else {
            let in_flight = look.in_flight.unwrap_or(0.0);
            (look.completions, look.backlog.map(|jobs| jobs + in_flight))
        };
        let (Some(at), Some(count), Some(at_hand)) = (look.counted_at, count, at_hand) else {
            continue;
        };
        let at = at.micros();
        if !(count >= 0.0 && count.is_finite()) || points.last().is_some_and(|last| at <= last.at) {
            continue;
        }
        let arrived = match (points.last(), before) {
            (Some(last), Some((count_before, hand_before))) => {
                let more = if count >= count_before {
                    count - count_before
                } else {
                    count
                };
                // Readings of one cycle are not of one moment, so the sum may be off.
                last.arrived + (more + at_hand - hand_before).max(0.0)
            }
            _ => 0.0,
        };
        points.push(Point { at, arrived });
        before = Some((count, at_hand));
    }
    points
}

/// Arrivals in each of `steps`; between two points they came evenly.
fn spread(points: &[Point], step: u64, steps: u64) -> Result<Vec<u64>, Unfit> {
    const MOST: f64 = 1e15;
    let first = points[0].at;
    if !points.iter().all(|point| point.arrived < MOST) {
        let why = "a counter rose by more than any number of jobs".to_owned();
        return Err(Unfit::Absurd(why));
    }
    let mut counts = Vec::new();
    let (mut place, mut before) = (0, 0);
    for number in 1..=steps {
        let at = first + number * step;
        while points.get(place + 1).is_some_and(|next| next.at < at) {
            place += 1;
        }
        let from = points[place];
        let to = points.get(place + 1).copied().unwrap_or(from);
        let share = float(at - from.at) / float(to.at.saturating_sub(from.at).max(1));
        let sum = whole(from.arrived + (to.arrived - from.arrived) * share.min(1.0));
        counts.push(sum.saturating_sub(before));
        before = sum;
    }
    Ok(counts)
}

/// The newest steps that have no more than [`JOBS_MAX`] jobs, and how many older
/// ones were left out.
fn newest(counts: &[u64]) -> (Vec<u64>, usize) {
    let mut jobs = 0_u64;
    let fits = counts.iter().rev().take_while(|count| {
        jobs = jobs.saturating_add(**count);
        jobs <= JOBS_MAX
    });
    let skipped = counts.len() - fits.count();
    (counts[skipped..].to_vec(), skipped)
}

/// Jobs in hand, integrated, over jobs finished.
fn service(looks: &[Look], spec: &FleetSpec, arrived: u64) -> Result<Duration, Unfit> {
    let mut work = 0.0;
    let mut known = false;
    for pair in looks.windows(2) {
        let Some(in_flight) = in_hand(&pair[0], spec) else {
            continue;
        };
        known = true;
        work += in_flight * pair[1].at.since(pair[0].at).as_secs_f64();
    }
    if !known {
        return Err(Unfit::NoWork);
    }
    let at_hand = |look: &Look| look.backlog.unwrap_or(0.0) + in_hand(look, spec).unwrap_or(0.0);
    let left = looks.last().map_or(0.0, at_hand) - looks.first().map_or(0.0, at_hand);
    let finished = float(arrived) - left;
    let mean = work / finished;
    // As short as no job is, or longer than any fleet waits for.
    let (least, most) = (1e-3, 7.0 * 86_400.0);
    if !(finished >= 1.0 && (least..=most).contains(&mean)) {
        return Err(Unfit::Absurd(format!(
            "{work:.0} job-seconds were worked on and {finished:.0} jobs finished in fleet {}",
            spec.name
        )));
    }
    Ok(Duration::from_secs_f64(mean))
}

/// Jobs in hand: as the signal says, or as busy instances have them that take
/// one at a time.
fn in_hand(look: &Look, spec: &FleetSpec) -> Option<f64> {
    let one_each = spec.offerings.iter().all(|offering| offering.slots == 1);
    let busy = || look.instances?.busy.filter(|_| one_each).map(f64::from);
    look.in_flight.or_else(busy)
}

fn boot(looks: &[Look], interval: Duration) -> (Duration, bool) {
    let seen = looks.iter().filter_map(|look| look.instances);
    let (boots, micros) = seen.fold((0_u64, 0_u64), |(boots, micros), one| {
        (
            boots + u64::from(one.boots),
            micros.saturating_add(one.boots_micros),
        )
    });
    match micros.checked_div(boots) {
        None => (BootTimes::PRIOR, false),
        Some(mean) => {
            let mean = Duration::from_micros(mean);
            (mean.saturating_sub(interval / 2), true)
        }
    }
}

fn lag(looks: &[Look]) -> Duration {
    let ages = looks
        .iter()
        .filter_map(|look| Some(look.at.since(look.counted_at?)));
    let (count, sum) = ages.fold((0_u64, 0_u64), |(count, sum), age| {
        (count + 1, sum.saturating_add(micros_of(age)))
    });
    let mean = sum.checked_div(count).unwrap_or(0);
    Duration::from_micros(mean - mean % SECOND)
}

#[expect(clippy::cast_precision_loss, reason = "a share, or a count below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The nearest whole number; nothing for what is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked: not negative and below 2^53"
)]
fn whole(value: f64) -> u64 {
    if (0.0..9e15).contains(&value) {
        (value + 0.5).floor() as u64
    } else {
        0
    }
}
