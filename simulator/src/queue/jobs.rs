//! The jobs as two columns: all at once, perhaps repeated for ever, or piece by
//! piece as they are fed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Times in a trace stay below this many microseconds (71 years), so that sums
/// of a few of them never overflow.
pub const JOB_TIME_MAX: u64 = 1 << 51;

/// Jobs in the order of their arrival, as two columns of microseconds: a queue
/// is then a range of indices and nothing is stored per job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobColumns {
    arrivals: Vec<u64>,
    services: Vec<u64>,
    service_max: u64,
}

/// Why some columns or a repetition are no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    /// One column is longer than the other.
    #[error("{arrivals} arrivals but {services} service times: every job needs both")]
    Uneven {
        /// Length of the arrivals.
        arrivals: usize,
        /// Length of the service times.
        services: usize,
    },
    /// A job arrives before the one in front of it.
    #[error("job {job} arrives before the one in front of it: sort the jobs by arrival")]
    Unsorted {
        /// Which one, counted from 0.
        job: usize,
    },
    /// An arrival or a service time is too large.
    #[error("job {job} has a time of 71 years or more: use shorter times")]
    TooLong {
        /// Which one, counted from 0.
        job: usize,
    },
    /// The repetition begins before the jobs have all arrived.
    #[error(
        "the jobs repeat every {period} us but the last arrives at {last} us: \
         make the period longer than that"
    )]
    RepeatsTooEarly {
        /// The period.
        period: u64,
        /// The last arrival.
        last: u64,
    },
    /// More jobs for a queue that cannot take them.
    #[error("jobs that repeat or have classes must be given all at once")]
    AllAtOnce,
}

impl JobColumns {
    /// The jobs that arrive at `arrivals[i]` and take `services[i]`, both in
    /// microseconds.
    ///
    /// # Errors
    /// If the columns differ in length, the arrivals are not sorted, or a time
    /// is not below [`JOB_TIME_MAX`].
    pub fn new(arrivals: Vec<u64>, services: Vec<u64>) -> Result<Self, JobsError> {
        if arrivals.len() != services.len() {
            return Err(JobsError::Uneven {
                arrivals: arrivals.len(),
                services: services.len(),
            });
        }
        if let Some(before) = arrivals.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(JobsError::Unsorted { job: before + 1 });
        }
        let service_max = services.iter().copied().max().unwrap_or(0);
        let last = arrivals.last().copied().unwrap_or(0);
        if last.max(service_max) >= JOB_TIME_MAX {
            let times = arrivals.iter().zip(&services);
            let short = |(at, service): &(&u64, &u64)| **at.max(service) < JOB_TIME_MAX;
            let job = times.take_while(short).count();
            return Err(JobsError::TooLong { job });
        }
        Ok(Self {
            arrivals,
            services,
            service_max,
        })
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// When the jobs arrive, in microseconds from the start; sorted.
    pub fn arrivals(&self) -> &[u64] {
        &self.arrivals
    }

    /// How long the jobs take, in microseconds.
    pub fn services(&self) -> &[u64] {
        &self.services
    }

    /// The arrivals and the services: to fill their memory anew.
    pub(crate) fn into_columns(self) -> (Vec<u64>, Vec<u64>) {
        (self.arrivals, self.services)
    }
}

/// A run of jobs with one offset: what the hot loop works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// Number of the first job.
    pub(super) first: u64,
    /// Arrivals without the offset.
    pub(super) arrivals: &'a [u64],
    /// Service times.
    pub(super) services: &'a [u64],
    /// What is added to each arrival.
    pub(super) offset: u64,
}

/// A piece of the jobs.
#[derive(Clone, Debug)]
struct Piece {
    /// Number of its first job.
    first: u64,
    columns: Arc<JobColumns>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.first + wide(self.columns.len())
    }
}

/// The jobs by number: job `k` of repetition `r` has the number `r * len + k`
/// and arrives `r` periods after it first did.
///
/// Jobs that come piece by piece are counted on, and a piece can be forgotten
/// once all of it was started, except for the few jobs that are still needed.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    // Invariant: at least one; each begins where the one before it ends. Just
    // one if there is a period.
    pieces: VecDeque<Piece>,
    period: Option<u64>,
    service_max: u64,
    /// Arrival and service of jobs whose piece was forgotten.
    needed: BTreeMap<u64, (u64, u64)>,
}

impl Jobs {
    /// The jobs of `columns`, again every `period` microseconds if there is one.
    pub(super) fn new(columns: Arc<JobColumns>, period: Option<u64>) -> Result<Self, JobsError> {
        let last = columns.arrivals.last().copied();
        match (period, last) {
            (Some(period), Some(last)) if period <= last => {
                Err(JobsError::RepeatsTooEarly { period, last })
            }
            (Some(0), None) => Err(JobsError::RepeatsTooEarly { period: 0, last: 0 }),
            _ => Ok(Self {
                period,
                service_max: columns.service_max,
                pieces: VecDeque::from([Piece { first: 0, columns }]),
                needed: BTreeMap::new(),
            }),
        }
    }

    /// Puts `columns` behind all others.
    pub(super) fn feed(&mut self, columns: Arc<JobColumns>) -> Result<(), JobsError> {
        if self.period.is_some() {
            return Err(JobsError::AllAtOnce);
        }
        let Some(arrival) = columns.arrivals.first() else {
            return Ok(());
        };
        let last = &self.pieces[self.pieces.len() - 1];
        let first = last.end();
        let before = last.columns.arrivals.last();
        if before.is_some_and(|before| before > arrival) {
            return Err(JobsError::Unsorted { job: narrow(first) });
        }
        self.service_max = self.service_max.max(columns.service_max);
        self.pieces.push_back(Piece { first, columns });
        Ok(())
    }

    /// Forgets pieces whose jobs all come before number `started`, except the
    /// jobs that `needed` names, and the last piece.
    pub(super) fn forget(&mut self, started: u64, needed: impl FnOnce() -> Vec<u64>) {
        let over = |piece: &Piece| piece.end() <= started;
        let count = self
            .pieces
            .iter()
            .take_while(|piece| over(piece))
            .count()
            .min(self.pieces.len() - 1);
        if count == 0 {
            return;
        }
        let first = self.pieces[count].first;
        let times = |job: u64| Some((job, self.times(job)?));
        let needed = needed().into_iter().filter(|job| *job < first);
        self.needed = needed.filter_map(times).collect();
        self.pieces.drain(..count);
    }

    /// The longest service time.
    pub(super) fn service_max(&self) -> u64 {
        self.service_max
    }

    /// How many jobs arrive before `horizon`, of which `known` do for certain.
    pub(super) fn arrived(&self, horizon: u64, known: u64) -> u64 {
        let Some(period) = self.period else {
            return self.arrived_once(horizon, known);
        };
        let arrivals = &self.pieces[0].columns.arrivals;
        let length = wide(arrivals.len());
        if length == 0 {
            return 0;
        }
        let repetition = horizon / period;
        let within = horizon - self.offset(repetition);
        let before = repetition.saturating_mul(length);
        let known = narrow(known.saturating_sub(before).min(length));
        before.saturating_add(wide(gallop(arrivals, within, known)))
    }

    fn arrived_once(&self, horizon: u64, known: u64) -> u64 {
        let mut arrived = known;
        for piece in self.pieces.iter().skip(self.piece_of(known)) {
            let within = narrow(arrived - piece.first);
            arrived = piece.first + wide(gallop(&piece.columns.arrivals, horizon, within));
            if arrived < piece.end() {
                break;
            }
        }
        arrived
    }

    /// The jobs from number `first` up to `end`, as far as they lie in one
    /// repetition and one piece.
    pub(super) fn batch(&self, first: u64, end: u64) -> Batch<'_> {
        let (repetition, piece, from) = self.place(first);
        let columns = &self.pieces[piece].columns;
        let to = from.saturating_add(narrow(end - first)).min(columns.len());
        Batch {
            first,
            arrivals: &columns.arrivals[from..to],
            services: &columns.services[from..to],
            offset: self.offset(repetition),
        }
    }

    /// When job `job` arrives.
    pub(super) fn arrival(&self, job: u64) -> u64 {
        self.times(job).expect(FORGOTTEN).0
    }

    /// How long job `job` takes.
    pub(super) fn service(&self, job: u64) -> u64 {
        self.times(job).expect(FORGOTTEN).1
    }

    /// When job `job` arrives, and how long it takes.
    pub(super) fn arrival_and_service(&self, job: u64) -> (u64, u64) {
        self.times(job).expect(FORGOTTEN)
    }

    /// Arrival and service of a job, unless it was forgotten.
    fn times(&self, job: u64) -> Option<(u64, u64)> {
        if job < self.pieces[0].first {
            return self.needed.get(&job).copied();
        }
        let (repetition, piece, index) = self.place(job);
        let columns = &self.pieces[piece].columns;
        let arrival = columns.arrivals.get(index)? + self.offset(repetition);
        Some((arrival, columns.services[index]))
    }

    /// Repetition, piece, and place in the piece's columns.
    fn place(&self, job: u64) -> (u64, usize, usize) {
        if self.period.is_some() {
            let length = wide(self.pieces[0].columns.len()).max(1);
            return (job / length, 0, narrow(job % length));
        }
        let piece = self.piece_of(job);
        (0, piece, narrow(job - self.pieces[piece].first))
    }

    /// The piece that job `job`, which is not forgotten, is in or would be in.
    fn piece_of(&self, job: u64) -> usize {
        if self.pieces.len() == 1 {
            return 0;
        }
        let begun = self.pieces.partition_point(|piece| piece.first <= job);
        begun.saturating_sub(1)
    }

    fn offset(&self, repetition: u64) -> u64 {
        self.period.unwrap_or(0).saturating_mul(repetition)
    }
}

/// What may still be asked for is never forgotten.
const FORGOTTEN: &str = "jobs that wait or are in hand are kept";

/// How many of the sorted `values` lie below `bound`, of which the first
/// `known` do for certain: doubling steps, since the answer is mostly near.
pub(crate) fn gallop(values: &[u64], bound: u64, known: usize) -> usize {
    let mut from = known;
    let mut step = 8;
    while let Some(value) = values.get(from + step) {
        if *value >= bound {
            break;
        }
        from += step;
        step *= 2;
    }
    let to = (from + step).min(values.len());
    from + values[from..to].partition_point(|value| *value < bound)
}

/// A length as a job number.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A job number as an index; jobs in memory never have more.
pub(crate) fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_no_workload_are_refused() {
        let check = |arrivals: &[u64], services: &[u64]| {
            JobColumns::new(arrivals.to_vec(), services.to_vec()).err()
        };
        assert_eq!(check(&[], &[]), None);
        assert_eq!(check(&[1, 1, 2], &[0, 5, 9]), None);
        assert_eq!(
            check(&[1], &[]),
            Some(JobsError::Uneven {
                arrivals: 1,
                services: 0
            })
        );
        assert_eq!(
            check(&[1, 3, 2], &[0, 0, 0]),
            Some(JobsError::Unsorted { job: 2 })
        );
        assert_eq!(
            check(&[1, 2], &[0, 1 << 51]),
            Some(JobsError::TooLong { job: 1 })
        );
    }

    #[test]
    fn arrivals_are_counted_alike_from_any_known_number() {
        let arrivals: Vec<u64> = (0..100).map(|k| k * k / 50).collect();
        let services = vec![1; 100];
        let columns = Arc::new(JobColumns::new(arrivals, services).expect("sorted"));
        for period in [None, Some(197), Some(300)] {
            let jobs = Jobs::new(columns.clone(), period).expect("long enough");
            for horizon in 0..1_000 {
                let expected = (0..600)
                    .filter(|job| period.is_some() || *job < 100)
                    .filter(|job| jobs.arrival(*job) < horizon)
                    .count();
                for known in [0, expected / 2, expected] {
                    assert_eq!(
                        jobs.arrived(horizon, wide(known)),
                        wide(expected),
                        "{period:?} {horizon} {known}"
                    );
                }
            }
        }
    }

    #[test]
    fn repetitions_do_not_overlap() {
        let columns = Arc::new(JobColumns::new(vec![0, 7], vec![1, 2]).expect("sorted"));
        assert!(Jobs::new(columns.clone(), Some(7)).is_err());
        let jobs = Jobs::new(columns, Some(8)).expect("long enough");
        assert_eq!((jobs.arrival(5), jobs.service(5)), (23, 2));
        assert_eq!(jobs.batch(3, 9).arrivals, [7]);
        assert_eq!(jobs.batch(4, 5).offset, 16);
    }
}
