//! Made-up traces: days, weeks, noise, bursts and dumps, from a short file.
//!
//! The file is explained in `simulator/traces/example.synth.toml`. Arrivals are
//! a Poisson process: the rate of a step is the mean rate, times the factors of
//! its day, week, noise and bursts, and within a step every instant is equally
//! likely. Everything random comes from [`Stream`]s of the seed, named
//! `synth arrivals`, `synth noise`, `synth burst N`, `synth dump N` and
//! `synth service`, so that taking one part out leaves the others as they were.

use std::time::Duration;

use windlass_policies::fields::{Document, Fields};
use windlass_policies::problems::Problems;
use windlass_policies::units::{MICROS_PER_HOUR, Timestamp, micros_of};

use super::{Trace, seconds};
use crate::distribution::Distribution;
use crate::random::Stream;
use crate::scenario::read_distribution;

/// The example, which explains every key.
pub const EXAMPLE: &str = include_str!("../../traces/example.synth.toml");

/// The most arrivals that are made: 1.6 GB of jobs.
pub const ARRIVALS_MAX: u64 = 100_000_000;

const DAY: Duration = Duration::from_hours(24);
const LENGTH_MAX: Duration = Duration::from_hours(24 * 3_650);
const DAY_MICROS: u64 = 24 * MICROS_PER_HOUR;
const STEPS_MAX: u64 = 50_000_000;
const DUMPS_MAX: usize = 10_000_000;

/// A made-up load.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    length: u64,
    step: u64,
    arrivals_per_hour: f64,
    seed: u64,
    begins_at: Option<Timestamp>,
    daily: Option<Daily>,
    weekend: f64,
    noise: Option<Noise>,
    bursts: Vec<Burst>,
    dumps: Vec<Dump>,
    service: Option<Distribution>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Daily {
    amplitude: f64,
    peak: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Noise {
    cv: f64,
    correlation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Burst {
    every: u64,
    length: u64,
    factor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Dump {
    every: u64,
    at: Option<u64>,
    jobs: u64,
    cv: f64,
}

impl Spec {
    /// The same load, drawn otherwise.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str) -> Result<Spec, Problems> {
    Document::parse(text)?.read(read_spec)
}

fn read_spec(fields: &mut Fields<'_>) -> Option<Spec> {
    let second = Duration::from_secs(1);
    let length = fields.required_within("length", "how long, such as \"28d\"", second..=LENGTH_MAX);
    let rate = fields.required_within(
        "arrivals_per_hour",
        "the mean number, such as 600",
        1e-9..=1e12,
    );
    let step = fields.or_within("step", Duration::from_mins(1), second..=DAY);
    let seed = fields.or("seed", 1_u64);
    let begins_at = fields.optional::<Timestamp>("begins_at");
    let daily = fields.table("daily", |daily| {
        Some(Daily {
            amplitude: daily.required_within("amplitude", "0 to 1", 0.0..=1.0)?,
            peak: micros_of(daily.or_within(
                "peak",
                Duration::from_hours(12),
                Duration::ZERO..=DAY,
            )),
        })
    });
    let weekend = fields.table("weekly", |weekly| {
        weekly.required_within("weekend", "a factor such as 0.4", 0.0..=1_000.0)
    });
    let noise = fields.table("noise", |noise| {
        let hour = Duration::from_hours(1);
        Some(Noise {
            cv: noise.required_within("cv", "its standard deviation, such as 0.2", 0.0..=10.0)?,
            correlation: micros_of(noise.or_within("correlation", hour, second..=LENGTH_MAX)),
        })
    });
    let bursts = fields.tables("burst", read_burst);
    let dumps = fields.tables("dump", read_dump);
    let service = fields.table("service", read_distribution);
    let (length, step) = (micros_of(length?), micros_of(step));
    if length < step {
        fields.problem("length", "shorter than a step");
    } else if length / step > STEPS_MAX {
        fields.problem(
            "step",
            format!("the length has more than {STEPS_MAX} steps of this"),
        );
    }
    Some(Spec {
        // Whole steps, so that every count covers as much time.
        length: length - length % step.max(1),
        step,
        arrivals_per_hour: rate?,
        seed,
        begins_at,
        daily,
        weekend: weekend.unwrap_or(1.0),
        noise,
        bursts,
        dumps,
        service,
    })
}

fn read_burst(burst: &mut Fields<'_>) -> Option<Burst> {
    let second = Duration::from_secs(1);
    let every = burst.required_within("every", "the mean time between two", second..=LENGTH_MAX);
    let length = burst.required_within("length", "the mean length", second..=LENGTH_MAX);
    let factor = burst.required_within("factor", "what the rate is multiplied by", 1.0..=1e6);
    Some(Burst {
        every: micros_of(every?),
        length: micros_of(length?),
        factor: factor?,
    })
}

fn read_dump(dump: &mut Fields<'_>) -> Option<Dump> {
    let second = Duration::from_secs(1);
    let every = dump.required_within("every", "the time between two", second..=LENGTH_MAX);
    let at = dump.optional_within("at", Duration::ZERO..=LENGTH_MAX);
    let jobs = dump.required_within("jobs", "how many arrive at once", 1..=ARRIVALS_MAX);
    let cv = dump.or_within("cv", 0.0, 0.0..=10.0);
    Some(Dump {
        every: micros_of(every?),
        at: at.map(micros_of),
        jobs: jobs?,
        cv,
    })
}

/// Makes the trace. The same file gives the same bytes on every machine.
///
/// # Errors
/// A sentence, if it has no arrival, or more than [`ARRIVALS_MAX`].
pub fn make(spec: &Spec, name: &str) -> Result<Trace, String> {
    let rates = rates(spec);
    let dumps = dumps(spec)?;
    let dumped: u64 = dumps.iter().map(|(_, jobs)| jobs).sum();
    let expected = rates.iter().sum::<f64>() + float(dumped);
    if !(expected <= float(ARRIVALS_MAX)) {
        return Err(format!(
            "about {expected:.0} arrivals are too many (at most {ARRIVALS_MAX}); lower \
             arrivals_per_hour or length"
        ));
    }
    let mut stream = Stream::new(spec.seed, "synth arrivals");
    let mut arrivals = Vec::new();
    let mut next_dump = 0;
    for (place, rate) in rates.iter().enumerate() {
        let start = place as u64 * spec.step;
        let before = arrivals.len();
        let mut at = stream.exponential();
        while at < *rate {
            arrivals.push(start + part(at / rate, spec.step));
            at += stream.exponential();
        }
        while let Some((instant, jobs)) = dumps.get(next_dump)
            && *instant < start + spec.step
        {
            arrivals.extend((0..*jobs).map(|_| *instant));
            next_dump += 1;
        }
        arrivals[before..].sort_unstable();
    }
    if arrivals.is_empty() {
        return Err("chance gave no arrival; raise arrivals_per_hour or length".into());
    }
    let trace = if let Some(service) = &spec.service {
        let mut stream = Stream::new(spec.seed, "synth service");
        let services = arrivals.iter().map(|_| service.sample_micros(&mut stream));
        let services = services.collect();
        Trace::of_jobs(name, arrivals, services)
    } else {
        let mut counts = vec![0; rates.len()];
        for arrival in &arrivals {
            counts[index(arrival / spec.step)] += 1;
        }
        Trace::of_counts(name, spec.step, counts)
    }?;
    Ok(trace.beginning_at(spec.begins_at))
}

/// The expected arrivals of every step, without dumps.
fn rates(spec: &Spec) -> Vec<f64> {
    let steps = spec.length / spec.step;
    let zero = spec.begins_at.map_or(0, Timestamp::micros);
    let per_step = spec.arrivals_per_hour * float(spec.step) / float(MICROS_PER_HOUR);
    // Two days of seven are multiplied; the mean is to stay.
    let weekday = 7.0 / (5.0 + 2.0 * spec.weekend);
    let mut rates: Vec<f64> = (0..steps)
        .map(|step| {
            let middle = step * spec.step + spec.step / 2;
            let day = if is_weekend(spec.begins_at, middle) {
                weekday * spec.weekend
            } else {
                weekday
            };
            per_step * day * daily(spec.daily, zero.saturating_add(middle))
        })
        .collect();
    add_noise(spec, &mut rates);
    for (number, burst) in spec.bursts.iter().enumerate() {
        add_bursts(spec, number, *burst, &mut rates);
    }
    rates
}

fn daily(daily: Option<Daily>, at: u64) -> f64 {
    let Some(Daily { amplitude, peak }) = daily else {
        return 1.0;
    };
    let since_peak = (at + DAY_MICROS - peak) % DAY_MICROS;
    let turn = float(since_peak) / float(DAY_MICROS) * std::f64::consts::TAU;
    1.0 + amplitude * libm::cos(turn)
}

/// Without a calendar a trace begins on a Monday.
fn is_weekend(begins_at: Option<Timestamp>, offset: u64) -> bool {
    // 1970-01-01 was a Thursday.
    let days = begins_at.map_or(offset / DAY_MICROS, |at| {
        at.micros().saturating_add(offset) / DAY_MICROS + 3
    });
    days % 7 >= 5
}

/// A lognormal factor with mean 1 whose logarithm is a first-order
/// autoregressive process.
fn add_noise(spec: &Spec, rates: &mut [f64]) {
    let Some(Noise { cv, correlation }) = spec.noise else {
        return;
    };
    let variance = libm::log1p(cv * cv);
    let sigma = libm::sqrt(variance);
    let kept = libm::exp(-float(spec.step) / float(correlation));
    let fresh = libm::sqrt(1.0 - kept * kept);
    let mut stream = Stream::new(spec.seed, "synth noise");
    let mut level = stream.normal();
    for rate in rates {
        *rate *= libm::exp(sigma * level - variance / 2.0);
        level = kept * level + fresh * stream.normal();
    }
}

/// Multiplies the rate of every step by how much of it lies in bursts.
fn add_bursts(spec: &Spec, number: usize, burst: Burst, rates: &mut [f64]) {
    let mut stream = Stream::new(spec.seed, &format!("synth burst {number}"));
    let mut at = later(0, burst.every, &mut stream);
    while at < spec.length {
        let end = later(at, burst.length, &mut stream).min(spec.length);
        let first = at / spec.step;
        for step in first..end.div_ceil(spec.step) {
            let start = step * spec.step;
            let inside = end.min(start + spec.step) - at.max(start);
            let share = float(inside) / float(spec.step);
            if let Some(rate) = rates.get_mut(index(step)) {
                *rate *= 1.0 + (burst.factor - 1.0) * share;
            }
        }
        // One burst at a time, and no endless loop where they follow closely.
        at = later(end, burst.every, &mut stream).max(end + 1);
    }
}

/// Instants and sizes of all dumps in order.
fn dumps(spec: &Spec) -> Result<Vec<(u64, u64)>, String> {
    let mut all = Vec::new();
    let mut jobs_left = ARRIVALS_MAX;
    for (number, dump) in spec.dumps.iter().enumerate() {
        let mut stream = Stream::new(spec.seed, &format!("synth dump {number}"));
        let mut at = match dump.at {
            Some(at) => at,
            None => later(0, dump.every, &mut stream),
        };
        while at < spec.length {
            let jobs = dump_size(*dump, &mut stream);
            jobs_left = jobs_left.checked_sub(jobs).ok_or_else(|| {
                format!(
                    "the dumps until {} have more than {ARRIVALS_MAX} arrivals",
                    seconds(at)
                )
            })?;
            if all.len() >= DUMPS_MAX {
                return Err(format!("there are more than {DUMPS_MAX} dumps"));
            }
            all.push((at, jobs));
            at = match dump.at {
                Some(_) => at.saturating_add(dump.every),
                None => later(at, dump.every, &mut stream).max(at + 1),
            };
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and cut off before"
)]
fn dump_size(dump: Dump, stream: &mut Stream) -> u64 {
    let variance = libm::log1p(dump.cv * dump.cv);
    let factor = libm::exp(libm::sqrt(variance) * stream.normal() - variance / 2.0);
    libm::fmin(float(dump.jobs) * factor + 0.5, float(ARRIVALS_MAX) + 1.0) as u64
}

/// An instant after `at`, at an exponential distance.
fn later(at: u64, mean: u64, stream: &mut Stream) -> u64 {
    at.saturating_add(micros(float(mean) * stream.exponential()))
}

/// A share below 1 of a step.
fn part(share: f64, step: u64) -> u64 {
    micros(share * float(step)).min(step - 1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and at most some hundred years"
)]
fn micros(micros: f64) -> u64 {
    micros as u64
}

#[expect(clippy::cast_precision_loss, reason = "rates are in double precision")]
fn float(value: u64) -> f64 {
    value as f64
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceKind;
    use crate::trace::describe::{describe, hours_of_week};

    fn made(text: &str) -> Trace {
        make(&parse(text).expect("a spec"), "made").expect("a trace")
    }

    #[test]
    fn the_example_makes_jobs_with_days_weeks_bursts_and_dumps() {
        let trace = made(EXAMPLE);
        assert_eq!(trace, made(EXAMPLE), "same file, same bytes");
        let found = describe(&trace);
        assert!(found.correlation_week.expect("weeks") > 0.3, "{found:?}");
        assert!(found.peak_5min.expect("peaks") > 5.0, "{found:?}");
        let service = found.service.expect("jobs");
        assert!((service.mean_secs - 30.0).abs() < 1.0, "{service:?}");
        let TraceKind::Jobs { arrival_micros, .. } = trace.kind() else {
            panic!("not jobs");
        };
        let two = 2 * MICROS_PER_HOUR;
        let at_two = arrival_micros.iter().filter(|arrival| **arrival == two);
        assert!(at_two.count() > 50, "the first dump");
    }

    #[test]
    fn plain_arrivals_are_poisson() {
        let trace = made("length = \"20d\"\narrivals_per_hour = 1200");
        let found = describe(&trace);
        assert!(
            (found.arrivals_per_sec - 1.0 / 3.0).abs() < 0.003,
            "{found:?}"
        );
        let uneven = found.dispersion.expect("arrivals");
        assert!((uneven.overall - 1.0).abs() < 0.05, "{uneven:?}");
    }

    #[test]
    fn days_and_weekends_are_where_they_were_asked_for() {
        let trace = made(
            "length = \"28d\"\narrivals_per_hour = 6000\nbegins_at = \"2026-06-03T05:00:00Z\"\n\
             daily = { amplitude = 0.5, peak = \"14h\" }\nweekly = { weekend = 0.25 }",
        );
        let week = hours_of_week(&trace).expect("four weeks");
        let mean = week.iter().sum::<f64>() / 168.0;
        assert!(
            (mean * 3_600.0 - 6_000.0).abs() < 60.0,
            "the mean stays: {mean}"
        );
        // Wednesday at two in the afternoon, at two in the night, and Sunday.
        let (high, low, sunday) = (week[2 * 24 + 14], week[2 * 24 + 2], week[6 * 24 + 14]);
        assert!((high / low - 3.0).abs() < 0.2, "{high} {low}");
        assert!((high / sunday - 4.0).abs() < 0.3, "{high} {sunday}");
    }

    #[test]
    fn noise_spreads_the_rate_and_keeps_its_mean() {
        let trace = made(
            "length = \"365d\"\nstep = \"1h\"\narrivals_per_hour = 2500\n\
             noise = { cv = 0.3, correlation = \"1h\" }",
        );
        let found = describe(&trace);
        assert!(
            (found.arrivals_per_sec * 3_600.0 / 2_500.0 - 1.0).abs() < 0.02,
            "{found:?}"
        );
        // Variance of the factor times the mean, and 1 of Poisson.
        let expected = 0.09 * 2_500.0 + 1.0;
        let uneven = found.dispersion.expect("arrivals").overall;
        assert!((uneven / expected - 1.0).abs() < 0.1, "{uneven}");
    }

    #[test]
    fn wrong_files_name_every_problem() {
        for (text, problem) in [
            ("arrivals_per_hour = 1", "length: missing"),
            ("length = \"1d\"\narrivals_per_hour = 0", "out of bounds"),
            (
                "length = \"1d\"\narrivals_per_hour = nan",
                "arrivals_per_hour",
            ),
            (
                "length = \"10s\"\narrivals_per_hour = 1",
                "shorter than a step",
            ),
            (
                "length = \"1d\"\narrivals_per_hour = 1\n[[dump]]\nevery = \"1h\"",
                "dump[0].jobs: missing",
            ),
            (
                "length = \"1d\"\narrivals_per_hour = 1\nnois = 3",
                "did you mean `noise`",
            ),
        ] {
            let problems = parse(text).expect_err(text).to_string();
            assert!(problems.contains(problem), "{text}: {problems}");
        }
        let endless = "length = \"3650d\"\narrivals_per_hour = 1e12";
        let spec = parse(endless).expect("a spec");
        assert!(make(&spec, "x").expect_err("too many").contains("too many"));
    }
}
