//! The jobs' way through the workers: one queue, first come, first served.
//!
//! Time is whole microseconds from 0. At equal times the order is boot, tick,
//! departure, arrival, and every horizon of [`Queue::advance`] is such a tick:
//! at the horizon T, a worker that becomes ready at T is ready and has taken a
//! waiting job, a job that ends at T is still in service, and a job that
//! arrives at T has not arrived. What is done to the workers between two
//! horizons happens at that tick, all at once: the jobs and slots it frees are
//! handed out right after it, before the departures of the same instant.
//!
//! A job goes to the slot that has been free longest; of slots free since the
//! same instant to one that booted or was put back to work before one that
//! finished a job, and then to the lowest number.
//!
//! No event is kept: between two horizons the slots are fixed, so each job
//! starts at the later of its arrival and the time the first slot becomes
//! free, and the queue is a range of job numbers. The result does not depend
//! on how time is cut into horizons.

mod classes;
mod departures;
mod histogram;
mod jobs;
mod journal;
mod ordered;
mod server;
#[cfg(test)]
mod server_tests;
mod sharing;
mod slots;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub use classes::{ClassTotals, JobClass, JobClasses};
pub use histogram::HISTOGRAM_ERROR;
pub use jobs::{JOB_TIME_MAX, JobColumns, JobsError};
pub use journal::JobEntry;
pub use server::{Server, ServerSpec};
pub use sharing::LatencyCurve;
pub use spread::{Quantiles, Spread};
pub(crate) use spread::{quantile, ratio};

use histogram::Histogram;
use jobs::{Batch, Jobs};
pub(crate) use jobs::{gallop, narrow, wide};
use slots::{Freed, InHand, Slots};
use spread::Picked;

/// The most slots the workers of one queue should have together: with so many,
/// the queue's clock runs for more than a year.
pub const SLOTS_MAX: u32 = 1 << 18;

/// Which jobs there are and what is kept of them.
#[derive(Clone, Debug)]
pub struct QueueSpec {
    /// The jobs.
    pub jobs: Arc<JobColumns>,
    /// After this many microseconds the jobs arrive again, and so on for ever.
    /// Longer than the last arrival.
    pub repeat_every: Option<u64>,
    /// What is kept of each job.
    pub keep: Keep,
    /// Whether response times of finished jobs are collected for
    /// [`Queue::take_finished`].
    pub responses: bool,
}

/// What is kept of each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Every wait, so that quantiles are exact: 8 bytes a job.
    EveryWait,
    /// How many waits and responses there are of each size, so that quantiles
    /// are at most 1 in 256 off; memory does not grow with the jobs.
    Histogram,
    /// Sums only; memory does not grow with the jobs.
    Sums,
}

/// The name of a worker in the queue; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(u64);

impl WorkerId {
    /// Its place in the order in which the workers were added.
    pub(crate) fn place(self) -> usize {
        narrow(self.0)
    }
}

/// What a worker is doing at the tick of the last horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Slots with a job.
    pub busy: u32,
    /// Since when it has had no job, if it is ready and has none. Becoming
    /// ready and being put back to work count as having just had one.
    pub idle_since: Option<u64>,
}

/// The whole queue at the tick of the last horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Jobs that have arrived so far.
    pub arrivals: u64,
    /// Jobs that have been finished so far.
    pub completions: u64,
    /// Jobs waiting.
    pub backlog: u64,
    /// Slots with a job, those of fenced workers too: jobs being worked on.
    pub busy: u64,
    /// Age of the longest waiting job in microseconds; 0 if none waits.
    pub oldest_age: u64,
    /// Slots of ready workers, fenced or not.
    pub ready_slots: u64,
    /// Busy slots times microseconds so far, lost work too.
    pub busy_micros: u128,
    /// Ready slots times microseconds so far.
    pub ready_micros: u128,
}

/// All jobs up to the last horizon. What is unfinished counts its time so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTotals {
    /// Jobs that have arrived.
    pub jobs: u64,
    /// Those of them that wait or are in service.
    pub unfinished: u64,
    /// From arrival to the start of the service that counts. Where sessions
    /// share servers, what they took longer than their service.
    pub wait: Spread,
    /// From arrival to the end of service.
    pub response: Spread,
    /// Jobs that were taken from a removed worker and had to begin again.
    pub redone: u64,
}

#[derive(Clone, Debug)]
struct Worker {
    slots: Range<u32>,
    ready_at: u64,
    fenced: bool,
}

/// A job that was lost with its worker and must begin again.
#[derive(Clone, Copy, Debug)]
struct Lost {
    job: u64,
    /// When it was lost: it cannot start before.
    at: u64,
}

/// Sums over all jobs that have been started and not lost.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    wait: u128,
    service: u128,
}

/// As many jobs are started in a row before what they waited is looked at:
/// small enough to stay in the fastest cache.
const CHUNK: usize = 1_024;

/// Sizes of all started and not lost jobs' times.
#[derive(Clone, Debug)]
struct Sizes {
    waits: Histogram,
    responses: Histogram,
}

/// One first-come-first-served queue and the workers that serve it.
#[derive(Debug)]
pub struct Queue {
    jobs: Jobs,
    keep: Keep,
    collect_responses: bool,
    now: u64,
    slots: Slots,
    workers: BTreeMap<WorkerId, Worker>,
    worker_next: u64,
    /// Number of the first job that was never started.
    head: u64,
    /// Number of the first job that has not arrived.
    arrived: u64,
    /// In front of the queue. Invariant: sorted by job, all before `head`.
    lost: Vec<Lost>,
    sums: Sums,
    waits: Vec<u64>,
    /// Kept for [`Keep::Histogram`] only.
    sizes: Option<Box<Sizes>>,
    /// What the jobs waited that were started just now.
    chunk: Box<[u64]>,
    /// End and response time of jobs whose end nobody has asked for yet.
    responses: Vec<(u64, u64)>,
    redone: u64,
    lost_micros: u128,
    /// Ready time of the slots of workers that are gone.
    ready_micros_gone: u128,
}

impl Queue {
    /// An empty queue at time 0, without workers.
    ///
    /// # Errors
    /// If the jobs repeat before they have all arrived.
    pub fn new(spec: QueueSpec) -> Result<Self, JobsError> {
        Ok(Self {
            jobs: Jobs::new(spec.jobs, spec.repeat_every)?,
            keep: spec.keep,
            collect_responses: spec.responses,
            now: 0,
            slots: Slots::new(),
            workers: BTreeMap::new(),
            worker_next: 0,
            head: 0,
            arrived: 0,
            lost: Vec::new(),
            sums: Sums::default(),
            waits: Vec::new(),
            sizes: (spec.keep == Keep::Histogram).then(|| {
                Box::new(Sizes {
                    waits: Histogram::new(),
                    responses: Histogram::new(),
                })
            }),
            chunk: vec![0; CHUNK].into(),
            responses: Vec::new(),
            redone: 0,
            lost_micros: 0,
            ready_micros_gone: 0,
        })
    }

    /// The last horizon.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Replays everything before the tick at `horizon`. An earlier horizon
    /// than the last one changes nothing.
    ///
    /// # Panics
    /// Beyond the end of the queue's clock: 285 years with up to 1,024 slots,
    /// half of that with each doubling of the slots.
    pub fn advance(&mut self, horizon: u64) {
        if horizon < self.now {
            return;
        }
        assert!(
            horizon <= self.slots.horizon_max(self.jobs.service_max()),
            "so many slots and so long a time do not fit into the queue's clock"
        );
        self.now = horizon;
        self.arrived = self.jobs.arrived(horizon, self.arrived);
        self.restart_lost();
        // If lost jobs are left, no slot is free for those behind them either.
        self.serve();
        if self.keep != Keep::EveryWait {
            self.forget();
        }
    }

    /// Puts more jobs behind all that are known: they arrive no earlier. All
    /// that arrive before a horizon must be there before [`Queue::advance`] is
    /// told of it; what is no longer needed of them is forgotten, unless every
    /// wait is kept.
    ///
    /// # Errors
    /// If they arrive before the last known job, or the jobs repeat.
    pub fn feed(&mut self, jobs: Arc<JobColumns>) -> Result<(), JobsError> {
        self.jobs.feed(jobs)
    }

    /// Forgets jobs that were started, except those in hand and lost ones.
    fn forget(&mut self) {
        let (slots, lost, now) = (&self.slots, &self.lost, self.now);
        self.jobs.forget(self.head, || {
            let in_hand = slots.all_in_hand(now).map(|hand| hand.job);
            in_hand.chain(lost.iter().map(|lost| lost.job)).collect()
        });
    }

    /// Starts jobs that were never started as far as there are free slots.
    fn serve(&mut self) {
        while self.head < self.arrived && self.slots.any_free(self.now) {
            let batch = self.jobs.batch(self.head, self.arrived);
            let started = self.slots.serve(batch, self.now, &mut self.chunk);
            self.head += wide(started);
            let (waits, services) = (&self.chunk[..started], &batch.services[..started]);
            // A thousand times of less than 2^53 microseconds each.
            self.sums.wait += u128::from(waits.iter().sum::<u64>());
            self.sums.service += u128::from(services.iter().sum::<u64>());
            if self.keep == Keep::EveryWait {
                self.waits.extend_from_slice(waits);
            }
            if let Some(sizes) = &mut self.sizes {
                for (wait, service) in waits.iter().zip(services) {
                    sizes.waits.add(*wait);
                    sizes.responses.add(wait + service);
                }
            }
            if self.collect_responses {
                let jobs = waits.iter().zip(services).zip(batch.arrivals);
                self.responses
                    .extend(jobs.map(|((wait, service), arrival)| {
                        let response = wait + service;
                        (arrival + batch.offset + response, response)
                    }));
            }
        }
    }

    /// Starts lost jobs again as far as there are free slots.
    fn restart_lost(&mut self) {
        let mut restarted = 0;
        for lost in &self.lost {
            let (arrival, service) = self.jobs.arrival_and_service(lost.job);
            // As if it arrived when it was lost; its wait is counted from its
            // arrival all the same.
            let batch = Batch {
                first: lost.job,
                arrivals: &[lost.at],
                services: &[service],
                offset: 0,
            };
            if self.slots.serve(batch, self.now, &mut self.chunk) == 0 {
                break;
            }
            restarted += 1;
            let wait = lost.at - arrival + self.chunk[0];
            let response = wait + service;
            self.sums.wait += u128::from(wait);
            self.sums.service += u128::from(service);
            if let Some(kept) = self.waits.get_mut(narrow(lost.job)) {
                *kept = wait;
            }
            if let Some(sizes) = &mut self.sizes {
                sizes.waits.add(wait);
                sizes.responses.add(response);
            }
            if self.collect_responses {
                self.responses.push((arrival + response, response));
            }
        }
        self.lost.drain(..restarted);
    }

    /// Adds a worker with `slots` slots that is ready at `ready_at`, or at
    /// once if that is past.
    pub fn add(&mut self, slots: u32, ready_at: u64) -> WorkerId {
        let ready_at = ready_at.max(self.now);
        let slots = self.slots.add(slots, ready_at);
        let id = WorkerId(self.worker_next);
        self.worker_next += 1;
        self.workers.insert(
            id,
            Worker {
                slots,
                ready_at,
                fenced: false,
            },
        );
        id
    }

    /// Lets `worker` take no new jobs; it goes on with those in hand.
    pub fn fence(&mut self, worker: WorkerId) {
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        if !worker.fenced {
            worker.fenced = true;
            self.slots.withdraw(worker.slots.clone());
        }
    }

    /// Lets `worker` take jobs again.
    pub fn unfence(&mut self, worker: WorkerId) {
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        if !worker.fenced {
            return;
        }
        worker.fenced = false;
        for slot in worker.slots.clone() {
            let idle = self.slots.in_hand(slot, self.now).is_none();
            if idle && self.slots.free_at(slot) <= self.now {
                // It could not have taken a job before now.
                self.slots.set(slot, self.now, Freed::Fresh);
            }
        }
        self.slots.offer(worker.slots.clone());
    }

    /// Removes `worker`. Jobs it has in hand go back to the front of the
    /// queue, in the order of their arrival, and begin again. Returns how many
    /// those were.
    pub fn remove(&mut self, worker: WorkerId) -> u64 {
        let Some(Worker {
            slots,
            ready_at,
            fenced,
        }) = self.workers.remove(&worker)
        else {
            return 0;
        };
        if !fenced {
            self.slots.withdraw(slots.clone());
        }
        let ready = u128::from(self.now.saturating_sub(ready_at));
        self.ready_micros_gone += ready * u128::from(slots.end - slots.start);
        let in_hand: Vec<InHand> = slots
            .clone()
            .filter_map(|slot| self.slots.in_hand(slot, self.now))
            .collect();
        for hand in &in_hand {
            self.lose(*hand);
        }
        self.lost.sort_unstable_by_key(|lost| lost.job);
        self.slots.release(slots);
        wide(in_hand.len())
    }

    /// Undoes the start of a job.
    fn lose(&mut self, InHand { job, end }: InHand) {
        let service = self.jobs.service(job);
        let start = end - service;
        let response = end - self.jobs.arrival(job);
        self.sums.wait -= u128::from(response - service);
        self.sums.service -= u128::from(service);
        if let Some(sizes) = &mut self.sizes {
            sizes.waits.remove(response - service);
            sizes.responses.remove(response);
        }
        self.lost_micros += u128::from(self.now - start);
        self.redone += 1;
        if let Some(at) = self
            .responses
            .iter()
            .position(|entry| *entry == (end, response))
        {
            self.responses.swap_remove(at);
        }
        self.lost.push(Lost { job, at: self.now });
    }

    /// What `worker` is doing; `None` if it is not there.
    pub fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        let Worker {
            slots, ready_at, ..
        } = self.workers.get(&worker)?;
        let in_hand = |slot: &u32| self.slots.in_hand(*slot, self.now).is_some();
        let busy = slots.clone().filter(in_hand).count();
        let idle_since = slots.clone().map(|slot| self.slots.free_at(slot)).max();
        Some(WorkerState {
            busy: u32::try_from(busy).unwrap_or(u32::MAX),
            idle_since: idle_since.filter(|_| busy == 0 && *ready_at <= self.now),
        })
    }

    /// When the last job that `worker` has in hand ends, if it gets no more; when
    /// it had or is to have a free slot for the first time, if it has none.
    pub fn free_at(&self, worker: WorkerId) -> Option<u64> {
        let slots = self.workers.get(&worker)?.slots.clone();
        slots.map(|slot| self.slots.free_at(slot)).max()
    }

    /// The whole queue at the last horizon.
    pub fn snapshot(&self) -> Snapshot {
        let mut remaining = 0;
        let mut seen = Snapshot {
            ready_micros: self.ready_micros_gone,
            ..Snapshot::default()
        };
        for worker in self
            .workers
            .values()
            .filter(|worker| worker.ready_at <= self.now)
        {
            let slots = u64::from(worker.slots.end - worker.slots.start);
            seen.ready_slots += slots;
            seen.ready_micros += u128::from(slots) * u128::from(self.now - worker.ready_at);
            for hand in worker
                .slots
                .clone()
                .filter_map(|slot| self.slots.in_hand(slot, self.now))
            {
                seen.busy += 1;
                remaining += u128::from(hand.end - self.now);
            }
        }
        seen.arrivals = self.arrived;
        seen.backlog = self.backlog();
        seen.completions = self.arrived - seen.backlog - seen.busy;
        seen.oldest_age = self
            .waiting()
            .next()
            .map_or(0, |job| self.now - self.jobs.arrival(job));
        seen.busy_micros = self.sums.service + self.lost_micros - remaining;
        seen
    }

    /// Response times, in microseconds, of the jobs that were finished since
    /// this was last asked; in no particular order. Empty unless
    /// [`QueueSpec::responses`] is set.
    pub fn take_finished(&mut self) -> Vec<u64> {
        let now = self.now;
        self.responses
            .extract_if(.., |(end, _)| *end < now)
            .map(|(_, response)| response)
            .collect()
    }

    /// The waits of all started jobs in the order of their first start, which
    /// is that of their arrival; a lost job that waits again shows the wait
    /// before its last start. Empty unless [`Keep::EveryWait`].
    pub fn waits(&self) -> &[u64] {
        &self.waits
    }

    /// All jobs so far.
    pub fn totals(&self) -> JobTotals {
        let in_service = |worker: &Worker| {
            let slots = worker.slots.clone();
            slots
                .filter_map(|slot| self.slots.in_hand(slot, self.now))
                .collect::<Vec<_>>()
        };
        let in_hand: Vec<InHand> = self.workers.values().flat_map(in_service).collect();
        let remaining: u128 = in_hand
            .iter()
            .map(|hand| u128::from(hand.end - self.now))
            .sum();
        let spread = |sum_micros, quantiles| Spread {
            count: self.arrived,
            sum_micros,
            quantiles,
        };
        let (wait, response) = match self.keep {
            Keep::EveryWait => {
                let (wait, response) = self.quantiles();
                (Some(wait), Some(response))
            }
            Keep::Histogram => {
                let sizes = self
                    .sizes
                    .as_ref()
                    .map(|sizes| self.sizes_so_far(sizes, &in_hand));
                let both =
                    sizes.map(|sizes| (sizes.waits.quantiles(), sizes.responses.quantiles()));
                (both.map(|both| both.0), both.map(|both| both.1))
            }
            Keep::Sums => (None, None),
        };
        JobTotals {
            jobs: self.arrived,
            unfinished: self.backlog() + wide(in_hand.len()),
            wait: spread(self.waited_micros(), wait),
            response: spread(
                self.waited_micros() + self.sums.service - remaining,
                response,
            ),
            redone: self.redone,
        }
    }

    /// What all jobs have waited so far, summed.
    pub fn waited_micros(&self) -> u128 {
        let lost = self.lost.iter();
        let lost = lost.map(|lost| u128::from(self.now - self.jobs.arrival(lost.job)));
        let mut waited = self.sums.wait + lost.sum::<u128>();
        let mut from = self.head;
        while from < self.arrived {
            let batch = self.jobs.batch(from, self.arrived);
            let count = wide(batch.arrivals.len());
            // Times are below 2^51, so that this many fit.
            let sums = batch.arrivals.chunks(4_096);
            let arrived = sums.map(|some| u128::from(some.iter().sum::<u64>()));
            let offsets = u128::from(count) * u128::from(batch.offset);
            waited += u128::from(self.now) * u128::from(count) - offsets - arrived.sum::<u128>();
            from += count;
        }
        waited
    }

    /// Shows `note` each job that has arrived, by number, and what it waited; so
    /// far, if it waits. Nothing unless [`Keep::EveryWait`].
    pub fn each_wait(&self, mut note: impl FnMut(u64, u64)) {
        if self.keep != Keep::EveryWait {
            return;
        }
        let so_far = |job| self.now - self.jobs.arrival(job);
        let mut lost = self.lost.iter().map(|lost| lost.job).peekable();
        for (job, wait) in (0..self.head).zip(&self.waits) {
            // What was kept of lost jobs is from before they were lost.
            let waits = lost.next_if_eq(&job).is_some();
            note(job, if waits { so_far(job) } else { *wait });
        }
        for job in self.head..self.arrived {
            note(job, so_far(job));
        }
    }

    /// `sizes` with the time so far of the jobs that are unfinished.
    fn sizes_so_far(&self, sizes: &Sizes, in_hand: &[InHand]) -> Sizes {
        let mut sizes = sizes.clone();
        for InHand { job, end } in in_hand {
            let arrival = self.jobs.arrival(*job);
            sizes.responses.remove(end - arrival);
            sizes.responses.add(self.now - arrival);
        }
        for job in self.waiting() {
            let so_far = self.now - self.jobs.arrival(job);
            sizes.waits.add(so_far);
            sizes.responses.add(so_far);
        }
        sizes
    }

    /// Exact quantiles of waits and responses.
    fn quantiles(&self) -> (Quantiles, Quantiles) {
        let (mut waits, mut responses) = (Histogram::new(), Histogram::new());
        self.each_job(|wait, response| {
            waits.add(wait);
            responses.add(response);
        });
        let (mut waits, mut responses) = (Picked::of(&waits), Picked::of(&responses));
        self.each_job(|wait, response| {
            waits.add(wait);
            responses.add(response);
        });
        (waits.quantiles(), responses.quantiles())
    }

    /// Wait and response of each job that has arrived, in no particular order;
    /// the time so far of those that are unfinished.
    fn each_job(&self, mut note: impl FnMut(u64, u64)) {
        let mut from = 0;
        // What was kept of lost jobs is from before they were lost.
        let lost = self.lost.iter().map(|lost| lost.job);
        for end in lost.chain([self.head]) {
            while from < end {
                let batch = self.jobs.batch(from, end);
                let waits = self.waits[narrow(from)..].iter();
                for ((arrival, service), wait) in
                    batch.arrivals.iter().zip(batch.services).zip(waits)
                {
                    let so_far = self.now - (arrival + batch.offset);
                    note(*wait, (wait + service).min(so_far));
                }
                from += wide(batch.arrivals.len());
            }
            from = end + 1;
        }
        for job in self.waiting() {
            let so_far = self.now - self.jobs.arrival(job);
            note(so_far, so_far);
        }
    }

    fn backlog(&self) -> u64 {
        self.arrived - self.head + wide(self.lost.len())
    }

    /// Numbers of all waiting jobs, first in line first.
    fn waiting(&self) -> impl Iterator<Item = u64> {
        self.lost
            .iter()
            .map(|lost| lost.job)
            .chain(self.head..self.arrived)
    }
}
