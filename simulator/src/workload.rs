//! From a trace to the jobs of a scenario: window, service times, scale.
//!
//! # The rules
//!
//! All times are whole microseconds. Streams are [`Stream`]s of the scenario's
//! seed, named `arrivals`, `service`, `thinning` and `superposing`; each is
//! drawn from only as told here.
//!
//! **Window.** The half-open window `[start, start + length)` of the trace is
//! taken and shifted to 0. Without a length it reaches to the end of the trace
//! ([`Trace::span_micros`]). A length past the end is allowed: nothing arrives
//! there.
//!
//! **Load.** The offered load is the mean number of busy slots if no job
//! waited. For a job trace: the sum of the service times of the jobs that
//! arrive in the window, over its length; jobs that are still running at its
//! end count in full. For a rate trace it is the expected load, before any
//! draw: `arrivals * mean / length`, where `arrivals` is the sum of every
//! step's count times the microseconds of it that lie in the window, over the
//! length of a step, and `mean` the mean of the service distribution. Sums are
//! exact; they are rounded to double precision once, before the division.
//!
//! **Scale.** With `busy_mean` the factor is `f = busy_mean / load`, in double
//! precision; without it `f = 1`. The workload consists of `floor(f)` whole
//! copies, numbered from 0, and, if `f` is no whole number, of one more copy
//! whose jobs are each kept with probability `f - floor(f)`. (So `f < 1` is
//! one thinned copy.) Copy 0 is not shifted. Copy 1 and later are shifted to
//! the right by a span drawn from `superposing` as `below(min(1 h, length))`,
//! in the order of their numbers; what leaves the window at its end comes in
//! again at its start. A count is never multiplied: that would make the
//! arrivals burstier than they were.
//!
//! **Rates to jobs.** For each copy in turn, for each step that touches the
//! window in turn, and as often as the step's count says: an instant is drawn
//! from `arrivals` as step start plus `below(step)`. It is dropped if it lies
//! outside the window. In a thinned copy it is then kept if the next
//! `uniform()` of `thinning` is below the fraction. What remains is shifted as
//! above. Then all arrivals of all copies are sorted, and each job in this
//! order gets its service time from `service`.
//!
//! **Job traces.** Every copy is put in order of its shifted arrivals (jobs of
//! one instant keep the order of the trace); in a thinned copy a job is kept
//! if the next `uniform()` of `thinning`, in this order, is below the fraction.
//! The copies are merged by arrival; at one instant the lower copy goes first.

mod classes;
pub mod flow;
mod scale;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use thiserror::Error;
use windlass_policies::units::MICROS_PER_HOUR;

use crate::distribution::Distribution;
use crate::queue::{JobClasses, JobColumns, JobsError};
use crate::random::Stream;
use crate::trace::{TIME_MICROS_MAX, Trace, TraceKind, seconds};

pub use classes::{ClassWork, OTHER, build_classed};
pub use scale::scale;

/// The most jobs of one workload: 3.2 GB of memory.
pub const JOBS_MAX: u64 = 200_000_000;

/// The most arrivals that are drawn for one workload, kept or not, and steps
/// gone through on the way, all copies together: about half a minute.
pub const DRAWS_MAX: u64 = 4_000_000_000;

/// The most copies that are superposed. By then nothing of the trace is left.
pub const COPIES_MAX: u64 = 1_000_000;

/// The longest shift of a superposed copy: an hour leaves days and weeks where
/// they were.
const SHIFT_MICROS_MAX: u64 = MICROS_PER_HOUR;

/// Columns in the making: arrivals in ascending order, and as many services.
#[derive(Default)]
struct Columns {
    arrival: Vec<u64>,
    service: Vec<u64>,
}

/// What to make of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkloadSpec {
    /// Start of the window into the trace, in microseconds.
    pub start_micros: u64,
    /// Length of the window; to the end of the trace if not given.
    pub length_micros: Option<u64>,
    /// Service times; needed for rate traces, refused for job traces.
    pub service: Option<Distribution>,
    /// How many slots shall be busy on average if no job waits.
    pub busy_mean: Option<f64>,
    /// Jobs that one instance works on at a time, at least 1. The load is
    /// counted in slots, so it changes nothing about the jobs.
    pub slots_per_instance: u32,
}

impl Default for WorkloadSpec {
    /// The whole trace as it is, one job at a time on an instance.
    fn default() -> Self {
        Self {
            start_micros: 0,
            length_micros: None,
            service: None,
            busy_mean: None,
            slots_per_instance: 1,
        }
    }
}

/// The jobs of a scenario and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// At least one job; all arrive before the end.
    pub jobs: Arc<JobColumns>,
    /// Length of the window in microseconds.
    pub length_micros: u64,
    /// Which class each job is of, if they have classes.
    pub classes: Option<Arc<JobClasses>>,
}

/// Why no workload can be made; the text begins with the key to change.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum WorkloadError {
    /// A time is too long for the queue.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// The window starts where the trace is over.
    #[error(
        "workload.start: {} is not before the end of trace {trace} at {}; start earlier",
        seconds(*.start_micros), seconds(*.span_micros)
    )]
    StartBeyondEnd {
        /// The trace's name.
        trace: String,
        /// The start asked for.
        start_micros: u64,
        /// Where the trace ends.
        span_micros: u64,
    },
    /// The window has no length, or one that no clock can count.
    #[error(
        "workload.length: {} must be above 0 and at most {}",
        seconds(*.length_micros), seconds(TIME_MICROS_MAX)
    )]
    Length {
        /// The length asked for.
        length_micros: u64,
    },
    /// A rate trace without service times.
    #[error(
        "workload.service: trace {trace} says when jobs arrive but not how long they take; add a \
         distribution such as {{ distribution = \"lognormal\", mean = \"30s\", cv = 1.0 }}"
    )]
    ServiceMissing {
        /// The trace's name.
        trace: String,
    },
    /// A job trace has its own service times.
    #[error("workload.service: trace {trace} says how long each job takes; remove this key")]
    ServiceRefused {
        /// The trace's name.
        trace: String,
    },
    /// Drawn jobs must take some time.
    #[error("workload.service: its mean is 0; jobs must take some time")]
    ServiceZero,
    /// An instance that works on nothing.
    #[error("workload.slots_per_instance: 0 must be at least 1")]
    Slots,
    /// A load that is no load.
    #[error("workload.busy_mean: {busy_mean} must be a number above 0")]
    BusyMean {
        /// The load asked for.
        busy_mean: f64,
    },
    /// Jobs that take no time load nothing.
    #[error(
        "workload.busy_mean: no job in the window of trace {trace} takes any time, so no number \
         of them keeps a slot busy; remove this key"
    )]
    NoLoad {
        /// The trace's name.
        trace: String,
    },
    /// A class that no job can be of.
    #[error(
        "workload.class.{class}: {known}; correct the name, or give the class a trace of its own"
    )]
    NoSuchClass {
        /// The class.
        class: String,
        /// What the trace has instead.
        known: Box<str>,
    },
    /// What is wrong with the trace of a class.
    #[error("workload.class.{class}.{}", key_of(.error))]
    OfClass {
        /// The class.
        class: String,
        /// What would be wrong with it as the trace of the workload.
        error: Box<WorkloadError>,
    },
    /// Nothing happens in the window.
    #[error(
        "workload.start: no job of trace {trace} arrives from {} to {}; choose another start or \
         a greater workload.length",
        seconds(*.start_micros), seconds(*.end_micros)
    )]
    NoJobs {
        /// The trace's name.
        trace: String,
        /// Start of the window.
        start_micros: u64,
        /// End of the window.
        end_micros: u64,
    },
    /// Thinning kept nothing, or a cut step had nothing inside the window.
    #[error(
        "workload.length: about {expected:.3} jobs of trace {trace} were expected in the window, \
         and chance left none; raise it, or workload.busy_mean"
    )]
    AllDropped {
        /// The trace's name.
        trace: String,
        /// How many jobs were expected.
        expected: f64,
    },
    /// More than fit into memory.
    #[error(
        "workload.length: about {expected:.0} jobs are too many (at most {JOBS_MAX}); shorten it, \
         or lower workload.busy_mean"
    )]
    TooManyJobs {
        /// How many jobs were expected.
        expected: f64,
    },
    /// More than can be drawn in reasonable time.
    #[error(
        "workload.length: {draws} arrivals and steps to go through are too many (at most \
         {DRAWS_MAX}); shorten it, or lower workload.busy_mean"
    )]
    TooManyDraws {
        /// Arrivals and steps that touch the window, in all copies.
        draws: u128,
    },
    /// So many copies that nothing of the trace is left.
    #[error(
        "workload.busy_mean: {busy_mean} needs {factor:.0} copies of the window, which offers \
         {load:e}; at most {COPIES_MAX} are superposed, so lower it or choose a busier trace"
    )]
    TooManyCopies {
        /// The load asked for.
        busy_mean: f64,
        /// The load of one copy.
        load: f64,
        /// How many copies it takes.
        factor: f64,
    },
}

impl WorkloadError {
    /// The same about the trace that the class `class` has of its own, if it is
    /// about keys that a class has too.
    fn of_class(self, class: &str) -> Self {
        match self {
            Self::ServiceMissing { .. }
            | Self::ServiceRefused { .. }
            | Self::ServiceZero
            | Self::BusyMean { .. }
            | Self::NoLoad { .. }
            | Self::TooManyCopies { .. } => Self::OfClass {
                class: class.to_owned(),
                error: Box::new(self),
            },
            error => error,
        }
    }
}

/// What is told, from the key's own name on.
fn key_of(error: &WorkloadError) -> String {
    let told = error.to_string();
    told.strip_prefix("workload.").unwrap_or(&told).to_owned()
}

/// Makes the jobs of a scenario by the rules at the head of this file. The same
/// arguments give the same jobs on every machine.
///
/// # Errors
/// What is wrong with the spec, or that it gives no job or too many.
pub fn build(trace: &Trace, spec: &WorkloadSpec, seed: u64) -> Result<Workload, WorkloadError> {
    if spec.slots_per_instance == 0 {
        return Err(WorkloadError::Slots);
    }
    check_busy_mean(spec)?;
    let window = Window::new(trace, spec)?;
    let source = Source::new(trace, spec.service, window)?;
    check_draws(&source, 1)?;
    let offer = source.offer(window);
    if offer.arrivals <= 0.0 {
        return Err(WorkloadError::NoJobs {
            trace: trace.name().to_owned(),
            start_micros: window.start,
            end_micros: window.end(),
        });
    }
    let factor = factor(trace.name(), spec.busy_mean, offer.load)?;
    let expected = offer.arrivals * factor;
    if expected > float(JOBS_MAX.into()) {
        return Err(WorkloadError::TooManyJobs { expected });
    }
    let copies = Copies::of(factor);
    check_draws(&source, copies.count())?;
    let columns = source.jobs(window, copies, seed, capacity(expected));
    let jobs = JobColumns::new(columns.arrival, columns.service)?;
    if jobs.is_empty() {
        return Err(WorkloadError::AllDropped {
            trace: trace.name().to_owned(),
            expected,
        });
    }
    Ok(Workload {
        jobs: Arc::new(jobs),
        length_micros: window.length,
        classes: None,
    })
}

fn check_busy_mean(spec: &WorkloadSpec) -> Result<(), WorkloadError> {
    match spec.busy_mean {
        Some(busy_mean) if !(busy_mean.is_finite() && busy_mean > 0.0) => {
            Err(WorkloadError::BusyMean { busy_mean })
        }
        _ => Ok(()),
    }
}

fn check_draws(source: &Source<'_>, copies: u64) -> Result<(), WorkloadError> {
    let draws = source.draws().saturating_mul(copies.into());
    if draws > DRAWS_MAX.into() {
        return Err(WorkloadError::TooManyDraws { draws });
    }
    Ok(())
}

/// The half-open part of the trace that is used.
#[derive(Clone, Copy)]
struct Window {
    start: u64,
    // Invariant: above 0, and `start + length` does not overflow.
    length: u64,
}

impl Window {
    fn new(trace: &Trace, spec: &WorkloadSpec) -> Result<Self, WorkloadError> {
        let (start, span) = (spec.start_micros, trace.span_micros());
        if start >= span {
            return Err(WorkloadError::StartBeyondEnd {
                trace: trace.name().to_owned(),
                start_micros: start,
                span_micros: span,
            });
        }
        let length = spec.length_micros.unwrap_or(span - start);
        if length == 0 || length > TIME_MICROS_MAX {
            return Err(WorkloadError::Length {
                length_micros: length,
            });
        }
        Ok(Self { start, length })
    }

    const fn end(self) -> u64 {
        self.start + self.length
    }

    /// Where in the window an instant of the trace lies, if it does.
    fn place(self, instant: u64) -> Option<u64> {
        instant
            .checked_sub(self.start)
            .filter(|place| *place < self.length)
    }
}

/// How many jobs a copy of the window has, and how many slots they keep busy.
struct Offer {
    arrivals: f64,
    load: f64,
}

/// What `busy_mean` asks for over what there is.
fn factor(trace: &str, busy_mean: Option<f64>, load: f64) -> Result<f64, WorkloadError> {
    let Some(busy_mean) = busy_mean else {
        return Ok(1.0);
    };
    if load <= 0.0 {
        return Err(WorkloadError::NoLoad {
            trace: trace.to_owned(),
        });
    }
    let factor = busy_mean / load;
    if factor > float(COPIES_MAX.into()) {
        return Err(WorkloadError::TooManyCopies {
            busy_mean,
            load,
            factor,
        });
    }
    Ok(factor)
}

/// How many whole copies, and the share of one more.
#[derive(Clone, Copy)]
struct Copies {
    whole: u64,
    // At least 0 and below 1.
    fraction: f64,
}

impl Copies {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and at most COPIES_MAX, as `factor` checks"
    )]
    fn of(factor: f64) -> Self {
        let whole = libm::floor(factor);
        Self {
            whole: whole as u64,
            fraction: factor - whole,
        }
    }

    fn count(self) -> u64 {
        self.whole + u64::from(self.fraction > 0.0)
    }
}

/// The random streams that scale a workload.
struct Scaling {
    copies: Copies,
    thinning: Stream,
    superposing: Stream,
    // Shifts are drawn below this.
    shift_bound: u64,
}

impl Scaling {
    fn new(window: Window, copies: Copies, seed: u64) -> Self {
        Self {
            copies,
            thinning: Stream::new(seed, "thinning"),
            superposing: Stream::new(seed, "superposing"),
            shift_bound: window.length.min(SHIFT_MICROS_MAX),
        }
    }

    /// How far the copy is shifted. To be called once for each, in order.
    fn shift(&mut self, copy: u64) -> u64 {
        if copy == 0 {
            0
        } else {
            self.superposing.below(self.shift_bound)
        }
    }

    /// Whether the next job of the copy is kept.
    fn keeps(&mut self, copy: u64) -> bool {
        copy < self.copies.whole || self.thinning.uniform() < self.copies.fraction
    }
}

/// What of the trace lies in the window, and how its jobs come about.
enum Source<'a> {
    Rate {
        step: u64,
        /// The first step that touches the window.
        first: u64,
        counts: &'a [u64],
        service: Distribution,
    },
    Jobs {
        arrival: &'a [u64],
        service: &'a [u64],
    },
}

impl<'a> Source<'a> {
    fn new(
        trace: &'a Trace,
        service: Option<Distribution>,
        window: Window,
    ) -> Result<Self, WorkloadError> {
        let name = || trace.name().to_owned();
        match (trace.kind(), service) {
            (
                TraceKind::Rate {
                    step_micros,
                    counts,
                },
                Some(service),
            ) => {
                if service.mean_micros() <= 0.0 {
                    return Err(WorkloadError::ServiceZero);
                }
                let step = *step_micros;
                let first = window.start / step;
                let last = window.end().div_ceil(step);
                let counts = &counts[index(first)..index(last).min(counts.len())];
                Ok(Self::Rate {
                    step,
                    first,
                    counts,
                    service,
                })
            }
            (
                TraceKind::Jobs {
                    arrival_micros,
                    service_micros,
                    ..
                },
                None,
            ) => {
                let from = arrival_micros.partition_point(|arrival| *arrival < window.start);
                let to = arrival_micros.partition_point(|arrival| *arrival < window.end());
                Ok(Self::Jobs {
                    arrival: &arrival_micros[from..to],
                    service: &service_micros[from..to],
                })
            }
            (TraceKind::Rate { .. }, None) => Err(WorkloadError::ServiceMissing { trace: name() }),
            (TraceKind::Jobs { .. }, Some(_)) => {
                Err(WorkloadError::ServiceRefused { trace: name() })
            }
        }
    }

    /// Arrivals to draw and steps to go through for one copy.
    fn draws(&self) -> u128 {
        match self {
            Self::Rate { counts, .. } => {
                counts.iter().map(|count| u128::from(*count)).sum::<u128>() + counts.len() as u128
            }
            Self::Jobs { .. } => 0,
        }
    }

    fn offer(&self, window: Window) -> Offer {
        let length = float(window.length.into());
        match self {
            Self::Rate {
                step,
                first,
                counts,
                service,
            } => {
                let weighted: u128 = steps(*first, *step, counts)
                    .map(|(start, count)| {
                        let inside = window.end().min(start + step) - window.start.max(start);
                        u128::from(count) * u128::from(inside)
                    })
                    .sum();
                let arrivals = float(weighted) / float((*step).into());
                Offer {
                    arrivals,
                    load: arrivals * service.mean_micros() / length,
                }
            }
            Self::Jobs { arrival, service } => {
                let sum: u128 = service.iter().copied().map(u128::from).sum();
                Offer {
                    arrivals: float(arrival.len() as u128),
                    load: float(sum) / length,
                }
            }
        }
    }

    fn jobs(&self, window: Window, copies: Copies, seed: u64, capacity: usize) -> Columns {
        let scaling = Scaling::new(window, copies, seed);
        match self {
            Self::Rate {
                step,
                first,
                counts,
                service,
            } => {
                let mut stream = Stream::new(seed, "arrivals");
                let steps = || steps(*first, *step, counts);
                let arrival = draw_arrivals(steps, *step, window, scaling, &mut stream, capacity);
                let mut stream = Stream::new(seed, "service");
                let service = arrival
                    .iter()
                    .map(|_| service.sample_micros(&mut stream))
                    .collect();
                Columns { arrival, service }
            }
            Self::Jobs { arrival, service } => {
                let mut jobs = Columns {
                    arrival: Vec::with_capacity(capacity),
                    service: Vec::with_capacity(capacity),
                };
                merge(arrival, window, scaling, |instant, place| {
                    jobs.arrival.push(instant);
                    jobs.service.push(service[place]);
                });
                jobs
            }
        }
    }
}

/// Start and count of each step.
fn steps(first: u64, step: u64, counts: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    (first..)
        .map(move |number| number * step)
        .zip(counts.iter().copied())
}

fn draw_arrivals<I: Iterator<Item = (u64, u64)>>(
    steps: impl Fn() -> I,
    step: u64,
    window: Window,
    mut scaling: Scaling,
    stream: &mut Stream,
    capacity: usize,
) -> Vec<u64> {
    let mut arrivals = Vec::with_capacity(capacity);
    for copy in 0..scaling.copies.count() {
        let shift = scaling.shift(copy);
        for (start, count) in steps() {
            let before = arrivals.len();
            for _ in 0..count {
                let instant = start + stream.below(step);
                if let Some(place) = window.place(instant)
                    && scaling.keeps(copy)
                {
                    arrivals.push((place + shift) % window.length);
                }
            }
            // Small pieces sort in the cache; the whole is then nearly in order.
            arrivals[before..].sort_unstable();
        }
    }
    if !arrivals.is_sorted() {
        arrivals.sort_unstable();
    }
    arrivals
}

/// The way of one shifted copy through the jobs of the window: those that come
/// in again at the start of the window first.
struct Copy {
    shift: u64,
    // The first job that is shifted past the end of the window.
    pivot: usize,
    // How many jobs this copy has gone past.
    passed: usize,
}

impl Copy {
    fn new(arrival: &[u64], window: Window, shift: u64) -> Self {
        let stay = window.length - shift;
        let pivot = arrival.partition_point(|instant| instant - window.start < stay);
        Self {
            shift,
            pivot,
            passed: 0,
        }
    }

    /// Place in the trace and shifted arrival of the next job that is kept.
    fn next(
        &mut self,
        arrival: &[u64],
        window: Window,
        mut keeps: impl FnMut() -> bool,
    ) -> Option<(u64, usize)> {
        while self.passed < arrival.len() {
            let turned = self.pivot + self.passed;
            let place = if turned < arrival.len() {
                turned
            } else {
                turned - arrival.len()
            };
            self.passed += 1;
            if keeps() {
                let shifted = arrival[place] - window.start + self.shift;
                let again = if shifted < window.length {
                    0
                } else {
                    window.length
                };
                return Some((shifted - again, place));
            }
        }
        None
    }
}

/// Gives the jobs of all copies in order, without holding any of them: shifted
/// arrival and place in the trace.
fn merge(arrival: &[u64], window: Window, mut scaling: Scaling, mut give: impl FnMut(u64, usize)) {
    let count = scaling.copies.count();
    let mut copies: Vec<Copy> = (0..count)
        .map(|copy| Copy::new(arrival, window, scaling.shift(copy)))
        .collect();
    let mut next = |copy: u64| {
        let (instant, place) = copies[index(copy)].next(arrival, window, || scaling.keeps(copy))?;
        Some(Reverse((instant, copy, place)))
    };
    let mut heads: BinaryHeap<_> = (0..count).filter_map(&mut next).collect();
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((instant, copy, place)) = *head;
        give(instant, place);
        match next(copy) {
            Some(following) => *head = following,
            None => drop(PeekMut::pop(head)),
        }
    }
}

/// Room for the expected number of jobs and what chance may add: six standard
/// deviations, at most its square root each.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and about JOBS_MAX at most"
)]
fn capacity(expected: f64) -> usize {
    (expected + 6.0 * libm::sqrt(expected)) as usize + 1
}

#[expect(clippy::cast_precision_loss, reason = "the rules say double precision")]
fn float(count: u128) -> f64 {
    count as f64
}

/// A place in a column; beyond every column if it is no place at all.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
