//! What a trace is like, in numbers.

use serde::Serialize;
use windlass_policies::units::{MICROS_PER_HOUR, MICROS_PER_SEC, Timestamp};

use super::{Trace, TraceKind};

const MINUTE: u64 = 60 * MICROS_PER_SEC;
const HOURS_PER_DAY: usize = 24;
const HOURS_PER_WEEK: usize = 168;

/// More bins than this are not counted: a trace of so many hours holds a wrong
/// time, and says so by its span.
const BINS_MAX: u64 = 50_000_000;

/// What a trace is like. What it is too short for, or has nothing of, is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// `rate` or `jobs`.
    pub kind: &'static str,
    /// What time it was at its zero, where that is known.
    pub begins_at: Option<String>,
    /// From zero to its end, in seconds.
    pub span_secs: f64,
    /// Length of a step of rates, in seconds.
    pub step_secs: Option<f64>,
    /// How many arrivals it holds.
    pub arrivals: u128,
    /// Records without what a job needs.
    pub left_out: u64,
    /// Malformed lines that were passed over.
    pub skipped: u64,
    /// Mean arrivals per second.
    pub arrivals_per_sec: f64,
    /// The highest mean of five minutes of the clock over the overall mean.
    pub peak_5min: Option<f64>,
    /// The highest mean of an hour of the clock over the overall mean.
    pub peak_1h: Option<f64>,
    /// Correlation of hourly counts with those a day before.
    pub correlation_day: Option<f64>,
    /// Correlation of hourly counts with those a week before.
    pub correlation_week: Option<f64>,
    /// How uneven counts are.
    pub dispersion: Option<Dispersion>,
    /// How long jobs take.
    pub service: Option<Service>,
    /// How many jobs are worked on, on average, if none waits.
    pub busy_mean: Option<f64>,
    /// How many classes its jobs have.
    pub classes: usize,
}

/// Variance over mean of counts: 1 if arrivals are independent (Poisson),
/// 0 if they are regular, more if they come in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Dispersion {
    /// How long was counted each time, in seconds: a minute, or a step if that
    /// is longer.
    pub bin_secs: f64,
    /// Over the whole trace: the course of days and weeks is part of it.
    pub overall: f64,
    /// The mean of that of single hours: what no forecast removes.
    pub within_hours: Option<f64>,
}

/// How long jobs take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Mean in seconds.
    pub mean_secs: f64,
    /// Median in seconds.
    pub p50_secs: f64,
    /// 99th percentile in seconds.
    pub p99_secs: f64,
    /// Standard deviation over mean; 0 if the mean is.
    pub cv: f64,
}

/// Describes a trace.
pub fn describe(trace: &Trace) -> Description {
    let span = trace.span_micros();
    let span_secs = secs(span);
    let arrivals = trace.arrivals();
    let hours = whole_bins(trace, MICROS_PER_HOUR);
    let peak = |width| whole_bins(trace, width).and_then(|bins| peak(&bins, width, trace));
    let (kind, step, classes) = match trace.kind() {
        TraceKind::Rate { step_micros, .. } => ("rate", Some(*step_micros), 0),
        TraceKind::Jobs { classes, .. } => ("jobs", None, classes.names().len()),
    };
    let correlation = |lag| {
        let hours = hours.as_deref()?;
        correlation(
            hours.get(..hours.len().checked_sub(lag)?)?,
            hours.get(lag..)?,
        )
    };
    let service = service(trace);
    Description {
        name: trace.name().to_owned(),
        kind,
        begins_at: trace.begins_at().as_ref().map(Timestamp::to_string),
        span_secs,
        step_secs: step.map(secs),
        arrivals,
        left_out: trace.left_out(),
        skipped: trace.skipped().count,
        arrivals_per_sec: float(arrivals) / span_secs,
        peak_5min: peak(5 * MINUTE),
        peak_1h: peak(MICROS_PER_HOUR),
        correlation_day: correlation(HOURS_PER_DAY),
        correlation_week: correlation(HOURS_PER_WEEK),
        dispersion: dispersion(trace),
        service,
        busy_mean: service.map(|service| service.mean_secs * float(arrivals) / span_secs),
        classes,
    }
}

/// The mean arrivals per second of `columns` equal parts of the trace, or of
/// as many as it has steps if those are fewer.
pub fn course(trace: &Trace, columns: usize) -> Vec<f64> {
    let span = trace.span_micros();
    let least = match trace.kind() {
        TraceKind::Rate { step_micros, .. } => *step_micros,
        TraceKind::Jobs { .. } => 1,
    };
    let width = span.div_ceil(columns.max(1) as u64).div_ceil(least) * least;
    bins(trace, width, span.div_ceil(width))
        .iter()
        .zip(0..)
        .map(|(count, bin)| {
            let length = width.min(span - bin * width);
            float((*count).into()) / secs(length)
        })
        .collect()
}

/// Mean arrivals per second of every hour of the week, Monday 00:00 UTC first
/// if the trace tells what time it was; otherwise its own zero. `None` if it
/// is shorter than a week.
pub fn hours_of_week(trace: &Trace) -> Option<Vec<f64>> {
    // 1970-01-01 was a Thursday.
    const MONDAY_FIRST: u64 = 72;
    let hours = whole_bins(trace, MICROS_PER_HOUR)?;
    if hours.len() < HOURS_PER_WEEK {
        return None;
    }
    let first = trace.begins_at().map_or(0, |at| {
        (at.micros() / MICROS_PER_HOUR + MONDAY_FIRST) % HOURS_PER_WEEK as u64
    });
    let first = usize::try_from(first).unwrap_or(0);
    let mut sums = vec![(0.0, 0.0); HOURS_PER_WEEK];
    for (hour, count) in hours.iter().enumerate() {
        let (sum, number) = &mut sums[(first + hour) % HOURS_PER_WEEK];
        *sum += float((*count).into());
        *number += 3_600.0;
    }
    Some(sums.iter().map(|(sum, secs)| sum / secs).collect())
}

/// Counts of all bins that lie wholly in the trace; `None` if there is none,
/// or they are too many, or are narrower than a step.
fn whole_bins(trace: &Trace, width: u64) -> Option<Vec<u64>> {
    if let TraceKind::Rate { step_micros, .. } = trace.kind()
        && *step_micros > width
    {
        return None;
    }
    // The last arrival of jobs stands for the end of what was recorded.
    let count = trace.span_micros() / width;
    (1..=BINS_MAX)
        .contains(&count)
        .then(|| bins(trace, width, count))
}

/// Counts of the first `count` bins.
fn bins(trace: &Trace, width: u64, count: u64) -> Vec<u64> {
    let mut bins = vec![0_u64; index(count)];
    let mut add = |at: u64, arrivals: u64| {
        if let Some(bin) = bins.get_mut(index(at / width)) {
            *bin = bin.saturating_add(arrivals);
        }
    };
    match trace.kind() {
        TraceKind::Rate {
            step_micros,
            counts,
        } => {
            for (step, count) in counts.iter().enumerate() {
                add(step as u64 * step_micros, *count);
            }
        }
        TraceKind::Jobs { arrival_micros, .. } => {
            for arrival in arrival_micros {
                add(*arrival, 1);
            }
        }
    }
    bins
}

fn peak(bins: &[u64], width: u64, trace: &Trace) -> Option<f64> {
    let mean = float(trace.arrivals()) / secs(trace.span_micros());
    let most = bins.iter().max()?;
    (mean > 0.0).then(|| float((*most).into()) / secs(width) / mean)
}

/// Pearson's, of at least two pairs that vary.
fn correlation(earlier: &[u64], later: &[u64]) -> Option<f64> {
    if earlier.len() < 2 {
        return None;
    }
    let (one, other) = (mean(earlier), mean(later));
    let (mut both, mut first, mut second) = (0.0, 0.0, 0.0);
    for (x, y) in earlier.iter().zip(later) {
        let (x, y) = (float((*x).into()) - one, float((*y).into()) - other);
        both += x * y;
        first += x * x;
        second += y * y;
    }
    let scale = libm::sqrt(first) * libm::sqrt(second);
    (scale > 0.0).then(|| both / scale)
}

fn dispersion(trace: &Trace) -> Option<Dispersion> {
    let width = match trace.kind() {
        TraceKind::Rate { step_micros, .. } => MINUTE.div_ceil(*step_micros) * step_micros,
        TraceKind::Jobs { .. } => MINUTE,
    };
    let bins = whole_bins(trace, width)?;
    let overall_mean = mean(&bins);
    if !(overall_mean > 0.0) {
        return None;
    }
    let per_hour = index(MICROS_PER_HOUR / width);
    let ratios: Vec<f64> = if per_hour < 2 {
        Vec::new()
    } else {
        let hours = bins.chunks_exact(per_hour);
        hours
            .filter(|hour| mean(hour) > 0.0)
            .map(|hour| squares(hour) / float(per_hour as u128 - 1) / mean(hour))
            .collect()
    };
    let within_hours =
        (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / float(ratios.len() as u128));
    Some(Dispersion {
        bin_secs: secs(width),
        overall: squares(&bins) / float(bins.len() as u128) / overall_mean,
        within_hours,
    })
}

fn service(trace: &Trace) -> Option<Service> {
    let TraceKind::Jobs { service_micros, .. } = trace.kind() else {
        return None;
    };
    let mut sorted = service_micros.clone();
    let count = sorted.len();
    // The smallest that at least the share of all does not exceed.
    let mut quantile = |percent: usize| {
        let rank = (count * percent).div_ceil(100).max(1) - 1;
        secs(*sorted.select_nth_unstable(rank).1)
    };
    let (p50_secs, p99_secs) = (quantile(50), quantile(99));
    let mean_micros = mean(service_micros);
    let deviation = libm::sqrt(squares(service_micros) / float(count as u128));
    Some(Service {
        mean_secs: mean_micros / 1e6,
        p50_secs,
        p99_secs,
        cv: if mean_micros > 0.0 {
            deviation / mean_micros
        } else {
            0.0
        },
    })
}

/// The mean; of nothing, 0.
fn mean(values: &[u64]) -> f64 {
    let sum: u128 = values.iter().copied().map(u128::from).sum();
    float(sum) / float(values.len().max(1) as u128)
}

/// The sum of squared differences from the mean.
fn squares(values: &[u64]) -> f64 {
    let mean = mean(values);
    values
        .iter()
        .map(|value| float((*value).into()) - mean)
        .map(|difference| difference * difference)
        .sum()
}

fn secs(micros: u64) -> f64 {
    float(micros.into()) / 1e6
}

#[expect(
    clippy::cast_precision_loss,
    reason = "statistics are in double precision"
)]
fn float(count: u128) -> f64 {
    count as f64
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("a value");
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn a_week_and_a_day_that_repeat_correlate_fully() {
        // Two weeks of hours, each day the same ramp, weekends a quarter.
        let counts: Vec<u64> = (0..336_u64)
            .map(|hour| (hour % 24) * if hour / 24 % 7 < 5 { 4 } else { 1 })
            .collect();
        let trace = Trace::of_counts("t", MICROS_PER_HOUR, counts.clone()).expect("valid");
        let found = describe(&trace);
        near(found.correlation_week, 1.0);
        assert!(found.correlation_day.expect("two weeks") < 0.95);
        near(Some(found.span_secs), 14.0 * 86_400.0);
        let sum: u64 = counts.iter().sum();
        near(found.peak_1h, 92.0 * 336.0 / float(sum.into()));
        assert_eq!((found.peak_5min, found.service), (None, None));
        let week = hours_of_week(&trace).expect("two weeks");
        near(Some(week[23] * 3_600.0), 92.0);
        near(Some(week[6 * 24 + 23] * 3_600.0), 23.0);
        let course = course(&trace, 14);
        near(Some(course[0] * 86_400.0), 4.0 * 276.0);
    }

    #[test]
    fn dispersion_tells_regular_from_bursts() {
        let second = MICROS_PER_SEC;
        let regular = Trace::of_counts("r", 60 * second, vec![7; 120]).expect("valid");
        let found = describe(&regular).dispersion.expect("arrivals");
        near(Some(found.overall), 0.0);
        near(found.within_hours, 0.0);
        let bursts: Vec<u64> = (0..120)
            .map(|minute| if minute % 2 == 0 { 0 } else { 10 })
            .collect();
        let bursts = Trace::of_counts("b", 60 * second, bursts).expect("valid");
        let found = describe(&bursts).dispersion.expect("arrivals");
        near(Some(found.overall), 5.0);
        near(found.within_hours, 25.0 * 60.0 / 59.0 / 5.0);
    }

    #[test]
    fn services_are_summed_up() {
        let services: Vec<u64> = (1..=200).map(|secs| secs * MICROS_PER_SEC).collect();
        let arrivals = (0..200).map(|job| job * MICROS_PER_SEC).collect();
        let trace = Trace::of_jobs("j", arrivals, services).expect("valid");
        let found = describe(&trace);
        let service = found.service.expect("jobs");
        near(Some(service.mean_secs), 100.5);
        near(Some(service.p50_secs), 100.0);
        near(Some(service.p99_secs), 198.0);
        assert!((found.busy_mean.expect("jobs") - 101.0).abs() < 0.1);
    }

    #[test]
    fn the_shortest_and_the_longest_trace_are_described() {
        let one = Trace::of_jobs("one", vec![0], vec![0]).expect("valid");
        let found = describe(&one);
        assert_eq!((found.peak_5min, found.dispersion), (None, None));
        assert_eq!(course(&one, 10), [1e6]);
        let end = super::super::TIME_MICROS_MAX;
        let long = Trace::of_jobs("long", vec![0, end], vec![1, 1]).expect("valid");
        assert_eq!(describe(&long).correlation_day, None);
        assert_eq!(course(&long, 10).len(), 10);
    }
}
