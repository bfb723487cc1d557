//! Jobs of a long trace piece by piece, by the same rules as all at once.
//!
//! A flow takes as much memory as a few blocks of jobs. It is for one copy of
//! the trace at most: superposing needs the end of the window at its start.
//! What it gives is, job by job, what [`super::build`] gives.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::{
    Copies, Offer, Source, Window, Workload, WorkloadError, WorkloadSpec, check_busy_mean,
    check_draws, factor, float,
};
use crate::distribution::Distribution;
use crate::queue::{JobColumns, wide};
use crate::random::Stream;
use crate::trace::{JobBlock, JobStream, ReadOptions, Skipped, Trace, TraceError, TraceKind};

/// Up to so many jobs are kept in memory anyway, for exact quantiles: 10 MB
/// with their waits.
pub const HELD_JOBS_MAX: u64 = 250_000;

/// Why there is no flow, or why it broke off.
#[derive(Debug, Error)]
pub enum FlowError {
    /// The trace cannot be read, or is wrong.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// It does not become jobs.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
}

/// How a load is best had.
#[derive(Debug)]
pub enum Choice {
    /// The trace is short.
    Short,
    /// It is long, but not what is used of it: the flow fits into memory.
    Cut(Flow),
    /// Piece by piece.
    Flow(Flow),
    /// It is long, and must be in memory all the same: why.
    Whole(&'static str),
}

/// A load that can be had piece by piece, as often as one likes.
#[derive(Clone, Debug)]
pub struct Flow {
    name: String,
    origin: Origin,
    start: u64,
    length: Option<u64>,
    /// Which share of the jobs is kept; all, if not given.
    fraction: Option<f64>,
    seed: u64,
    /// What was passed over when rates were read.
    skipped: Skipped,
}

#[derive(Clone, Debug)]
enum Origin {
    Jobs(PathBuf, ReadOptions),
    Rates(Arc<Trace>, Distribution),
}

/// What is wrong with shifted copies.
const SUPERPOSED: &str = "workload.busy_mean takes more than one copy of it";

impl Flow {
    /// How the jobs of the trace in `path` are best had; the service times of
    /// `spec` are left aside. Reads only as much of the trace as it takes to
    /// tell: all of it if there is a `busy_mean`, or if only its end shows
    /// whether it is sorted.
    ///
    /// # Errors
    /// What is wrong with the trace as far as it is read, or with the spec.
    pub fn of_jobs(
        path: &Path,
        options: &ReadOptions,
        spec: &WorkloadSpec,
        seed: u64,
    ) -> Result<Choice, FlowError> {
        check_busy_mean(spec)?;
        let Some(mut stream) = JobStream::open_flowing(path, options)? else {
            return Ok(Choice::Whole("its format is read as a whole"));
        };
        let file_name = path.file_name().unwrap_or_default();
        let mut flow = Self {
            name: file_name.to_string_lossy().into_owned(),
            origin: Origin::Jobs(path.to_owned(), options.clone()),
            start: spec.start_micros,
            length: spec.length_micros,
            fraction: None,
            seed,
            skipped: Skipped::default(),
        };
        let all = spec.busy_mean.is_some() || stream.may_be_unsorted();
        let survey = Survey::of(&mut stream, &flow, all)?;
        if survey.rows <= HELD_JOBS_MAX {
            return Ok(Choice::Short);
        }
        if survey.unsorted {
            return Ok(Choice::Whole("it is not sorted by arrival"));
        }
        let length = flow
            .length
            .unwrap_or(survey.span.saturating_sub(flow.start))
            .max(1);
        let load = float(survey.service_sum) / float(length.into());
        let factor = match spec.busy_mean {
            Some(_) if survey.jobs > 0 => factor(&flow.name, spec.busy_mean, load)?,
            _ => 1.0,
        };
        if factor > 1.0 {
            return Ok(Choice::Whole(SUPERPOSED));
        }
        flow.fraction = (factor < 1.0).then_some(factor);
        let expected = float(survey.jobs.into()) * factor;
        Ok(if expected > float(HELD_JOBS_MAX.into()) {
            Choice::Flow(flow)
        } else {
            Choice::Cut(flow)
        })
    }

    /// How the jobs of a trace of rates are best had.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn of_rates(
        trace: &Arc<Trace>,
        spec: &WorkloadSpec,
        seed: u64,
    ) -> Result<Choice, FlowError> {
        check_busy_mean(spec)?;
        let window = Window::new(trace, spec)?;
        let source = Source::new(trace, spec.service, window)?;
        let Some(service) = spec.service else {
            return Ok(Choice::Short);
        };
        check_draws(&source, 1)?;
        let Offer { arrivals, load } = source.offer(window);
        if arrivals <= 0.0 {
            return Ok(Choice::Short);
        }
        let factor = factor(trace.name(), spec.busy_mean, load)?;
        if arrivals * factor <= float(HELD_JOBS_MAX.into()) {
            return Ok(Choice::Short);
        }
        if factor > 1.0 {
            return Ok(Choice::Whole(SUPERPOSED));
        }
        Ok(Choice::Flow(Self {
            name: trace.name().to_owned(),
            origin: Origin::Rates(Arc::clone(trace), service),
            start: window.start,
            length: Some(window.length),
            fraction: (factor < 1.0).then_some(factor),
            seed,
            skipped: trace.skipped().clone(),
        }))
    }

    /// Whether the trace itself says how long its jobs take.
    pub const fn has_services(&self) -> bool {
        matches!(self.origin, Origin::Jobs(..))
    }

    /// How long it is, in microseconds; if not given, to the last arrival.
    pub const fn length_micros(&self) -> Option<u64> {
        self.length
    }

    /// Opens the trace at its beginning.
    ///
    /// # Errors
    /// If it cannot be opened (any more).
    pub fn open(&self) -> Result<FlowingJobs, FlowError> {
        let drawn = |service: &Distribution| Drawn {
            service: *service,
            step: None,
            instants: Stream::new(self.seed, "arrivals"),
            services: Stream::new(self.seed, "service"),
        };
        let source = match &self.origin {
            Origin::Jobs(path, options) => match JobStream::open_flowing(path, options)? {
                Some(stream) => Pieces::Jobs(stream),
                None => Pieces::Over,
            },
            Origin::Rates(trace, service) => Pieces::Rates(Arc::clone(trace), drawn(service)),
        };
        Ok(FlowingJobs {
            thinning: self.fraction.map(|fraction| Thinning {
                copies: Copies::of(fraction),
                stream: Stream::new(self.seed, "thinning"),
            }),
            flow: self.clone(),
            source,
            in_window: 0,
            given: 0,
            skipped: self.skipped.clone(),
            span: 0,
            given_out: VecDeque::with_capacity(GIVEN_OUT_MAX),
        })
    }

    /// All of it at once, and what of the trace was passed over.
    ///
    /// # Errors
    /// As [`FlowingJobs::next_piece`].
    pub fn collect(&self) -> Result<(Workload, Skipped), FlowError> {
        let mut jobs = self.open()?;
        let (mut arrivals, mut services) = (Vec::new(), Vec::new());
        while let Some(piece) = jobs.next_piece()? {
            arrivals.extend(piece.arrivals());
            services.extend(piece.services());
        }
        let jobs_end = jobs.span.saturating_sub(self.start);
        let columns = JobColumns::new(arrivals, services).map_err(WorkloadError::from)?;
        let workload = Workload {
            jobs: Arc::new(columns),
            length_micros: self.length.unwrap_or(jobs_end),
            classes: None,
        };
        Ok((workload, jobs.into_skipped()))
    }

    /// The end of the window in the time of the trace.
    fn end(&self) -> u64 {
        self.length
            .map_or(u64::MAX, |length| self.start.saturating_add(length))
    }
}

/// What a first look at a trace shows.
#[derive(Default)]
struct Survey {
    rows: u64,
    /// Jobs in the window, and how long they take together.
    jobs: u64,
    service_sum: u128,
    /// The last arrival plus one microsecond.
    span: u64,
    unsorted: bool,
}

impl Survey {
    /// As many rows as may be held; from there on up to the end of the window
    /// or, if not `all` is needed, only until it is plain that the flow is long.
    fn of(stream: &mut JobStream<'_>, flow: &Flow, all: bool) -> Result<Self, TraceError> {
        let mut seen = Self::default();
        let mut block = JobBlock::default();
        while (seen.rows <= HELD_JOBS_MAX
            || (all || seen.jobs <= HELD_JOBS_MAX) && seen.span <= flow.end())
            && stream.next_block(&mut block)?
        {
            let window = window_of(&block.arrival_micros, flow);
            let services = &block.service_micros[window.clone()];
            seen.rows += wide(block.len());
            seen.jobs += wide(window.len());
            seen.service_sum += services.iter().copied().map(u128::from).sum::<u128>();
            let first = block.arrival_micros.first().copied().unwrap_or(0);
            seen.unsorted |= first + 1 < seen.span || !block.arrival_micros.is_sorted();
            seen.span = block
                .arrival_micros
                .last()
                .map_or(seen.span, |last| last + 1);
        }
        Ok(seen)
    }
}

/// Which of the sorted arrivals lie in the window.
fn window_of(arrivals: &[u64], flow: &Flow) -> std::ops::Range<usize> {
    let from = arrivals.partition_point(|arrival| *arrival < flow.start);
    let to = arrivals.partition_point(|arrival| *arrival < flow.end());
    from..to.max(from)
}

/// A flow on its way.
pub struct FlowingJobs {
    flow: Flow,
    source: Pieces,
    thinning: Option<Thinning>,
    /// Jobs in the window so far, kept or not, and those given out.
    in_window: u64,
    given: u64,
    skipped: Skipped,
    /// The last arrival so far plus one microsecond, in the time of the trace.
    span: u64,
    /// Pieces that may be done with, the oldest first.
    given_out: VecDeque<Arc<JobColumns>>,
}

/// So many pieces are remembered until they are done with: more than are
/// underway at a time, and never more than 4 MB.
const GIVEN_OUT_MAX: usize = 16;

enum Pieces {
    Jobs(JobStream<'static>),
    Rates(Arc<Trace>, Drawn),
    Over,
}

struct Thinning {
    copies: Copies,
    stream: Stream,
}

impl Thinning {
    fn keeps(&mut self) -> bool {
        self.stream.uniform() < self.copies.fraction
    }
}

/// Where drawing jobs from rates is.
struct Drawn {
    service: Distribution,
    /// The next step; the first one that touches the window, if not given.
    step: Option<u64>,
    instants: Stream,
    services: Stream,
}

impl FlowingJobs {
    /// The next jobs, from the start of the window on; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the trace there. At the end, that there were no jobs.
    pub fn next_piece(&mut self) -> Result<Option<Arc<JobColumns>>, FlowError> {
        loop {
            let mut block = self.room();
            let piece = match &mut self.source {
                Pieces::Over => None,
                Pieces::Jobs(stream) => stream.next_block(&mut block)?.then_some(block),
                Pieces::Rates(trace, drawn) => {
                    drawn.next(trace, &self.flow, &mut self.thinning, block)
                }
            };
            let Some(block) = piece else {
                self.end();
                return match self.given {
                    0 => Err(self.nothing().into()),
                    _ => Ok(None),
                };
            };
            let columns = match self.source {
                Pieces::Rates(..) => block,
                Pieces::Jobs(_) | Pieces::Over => self.cut(block),
            };
            self.given += wide(columns.len());
            if !columns.is_empty() {
                let made = JobColumns::new(columns.arrival_micros, columns.service_micros);
                let piece = Arc::new(made.map_err(WorkloadError::from)?);
                self.given_out.push_back(Arc::clone(&piece));
                return Ok(Some(piece));
            }
        }
    }

    /// An empty block: that of a piece which nobody has any more, if there is one.
    /// New memory comes from the system page by page, which takes half as long
    /// as to read a job into it.
    fn room(&mut self) -> JobBlock {
        while let Some(oldest) = self.given_out.pop_front() {
            match Arc::try_unwrap(oldest) {
                Ok(columns) => return JobBlock::with_room_of(columns.into_columns()),
                Err(oldest) if self.given_out.len() < GIVEN_OUT_MAX => {
                    self.given_out.push_front(oldest);
                    break;
                }
                // Jobs of it wait for long.
                Err(_) => {}
            }
        }
        JobBlock::with_room()
    }

    fn end(&mut self) {
        if let Pieces::Jobs(stream) = std::mem::replace(&mut self.source, Pieces::Over) {
            self.skipped = stream.skipped();
        }
    }

    /// What was wrong with the trace and passed over, now that all of it has
    /// been given out.
    pub fn into_skipped(self) -> Skipped {
        self.skipped
    }

    /// How long the load is, now that all of it has been given out.
    pub fn length_micros(&self) -> u64 {
        let to_last = self.span.saturating_sub(self.flow.start);
        self.flow.length.unwrap_or(to_last)
    }

    /// What of a block lies in the window, in the time of the window, and is kept.
    fn cut(&mut self, mut block: JobBlock) -> JobBlock {
        let window = window_of(&block.arrival_micros, &self.flow);
        let last = block.arrival_micros.last().copied();
        self.span = last.map_or(self.span, |last| last + 1);
        self.in_window += wide(window.len());
        if window.end < block.len() {
            self.end();
        }
        let whole = window.len() == block.len() && self.flow.start == 0;
        if whole && self.thinning.is_none() {
            return block;
        }
        let mut kept = 0;
        for job in window {
            if self.thinning.as_mut().is_none_or(Thinning::keeps) {
                block.arrival_micros[kept] = block.arrival_micros[job] - self.flow.start;
                block.service_micros[kept] = block.service_micros[job];
                kept += 1;
            }
        }
        block.arrival_micros.truncate(kept);
        block.service_micros.truncate(kept);
        block
    }

    /// Why there was no job at all.
    fn nothing(&self) -> WorkloadError {
        let (trace, start_micros) = (self.flow.name.clone(), self.flow.start);
        if self.in_window > 0 {
            let fraction = self.flow.fraction.unwrap_or(1.0);
            let expected = float(self.in_window.into()) * fraction;
            WorkloadError::AllDropped { trace, expected }
        } else if self.span <= start_micros {
            WorkloadError::StartBeyondEnd {
                trace,
                start_micros,
                span_micros: self.span,
            }
        } else {
            WorkloadError::NoJobs {
                trace,
                start_micros,
                end_micros: start_micros + self.length_micros(),
            }
        }
    }
}

impl Drawn {
    /// The jobs of the next steps, in the time of the window.
    fn next(
        &mut self,
        trace: &Trace,
        flow: &Flow,
        thinning: &mut Option<Thinning>,
        mut block: JobBlock,
    ) -> Option<JobBlock> {
        let TraceKind::Rate {
            step_micros,
            counts,
        } = trace.kind()
        else {
            return None;
        };
        let mut step = self.step.unwrap_or(flow.start / step_micros);
        while !block.is_full() {
            let start = step * step_micros;
            let count = usize::try_from(step).ok().and_then(|at| counts.get(at));
            let Some(count) = count.filter(|_| start < flow.end()) else {
                break;
            };
            let before = block.len();
            for _ in 0..*count {
                let instant = start + self.instants.below(*step_micros);
                let inside = (flow.start..flow.end()).contains(&instant);
                if inside && thinning.as_mut().is_none_or(Thinning::keeps) {
                    block.arrival_micros.push(instant - flow.start);
                }
            }
            block.arrival_micros[before..].sort_unstable();
            for _ in before..block.arrival_micros.len() {
                let service = self.service.sample_micros(&mut self.services);
                block.service_micros.push(service);
            }
            step += 1;
        }
        self.step = Some(step);
        (!block.is_empty()).then_some(block)
    }
}

#[cfg(test)]
mod tests;
