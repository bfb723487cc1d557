//! The queue with a real line: for jobs of several priorities, and for slots of
//! different speed. Slower than [`super::Queue`], and gives the same wherever
//! that one applies, which a test holds it to.
//!
//! The order of events is that of the whole simulator. Among waiting jobs the
//! one of the highest priority goes first, and among those the first that
//! arrived; a job that was lost with its worker stands where it stood. Nobody
//! is taken from a slot for a job of higher priority.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::classes::{ClassTotals, JobClasses, by_class, spread};
use super::departures::{Departures, NEVER};
use super::histogram::Histogram;
use super::jobs::{JobColumns, Jobs, JobsError, narrow, wide};
use super::journal::{JobEntry, Journal};
use super::{JobTotals, Keep, QueueSpec, Snapshot, Spread, WorkerId, WorkerState};

/// One slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The job in hand.
    hand: Option<Hand>,
    /// Since when it is free, or when its job ends.
    free_at: u64,
    /// How fast it works, in percent.
    percent: u32,
    /// Whether it takes jobs.
    offered: bool,
    /// Whose it is.
    worker: Option<WorkerId>,
}

#[derive(Clone, Copy, Debug)]
struct Hand {
    job: u64,
    start: u64,
    end: u64,
}

#[derive(Clone, Debug)]
struct Worker {
    slots: Range<u32>,
    ready_at: u64,
    ready: bool,
    fenced: bool,
}

/// Stands for no boot.
const NO_BOOT: u64 = u64::MAX;

/// Free since when, by a departure or not, slot number: the least goes first.
type FreeKey = (u64, bool, u32);

/// The waiting jobs of one priority.
#[derive(Debug, Default)]
struct Line {
    /// Lost with their workers: all arrived before the others.
    lost: BTreeSet<u64>,
    fresh: VecDeque<u64>,
}

impl Line {
    fn first(&self) -> Option<u64> {
        self.lost.first().or(self.fresh.front()).copied()
    }

    fn pop(&mut self) -> Option<u64> {
        self.lost.pop_first().or_else(|| self.fresh.pop_front())
    }

    fn jobs(&self) -> impl Iterator<Item = u64> {
        self.lost.iter().chain(&self.fresh).copied()
    }
}

/// What the jobs waited, as far as it is kept.
#[derive(Debug)]
enum Kept {
    /// Wait and service by job number; of no meaning for waiting jobs.
    Each(Vec<(u64, u64)>),
    Sizes(Box<(Histogram, Histogram)>),
    Nothing,
}

/// Jobs in lines by priority, and the workers that serve them.
#[derive(Debug)]
pub(super) struct OrderedQueue {
    jobs: Jobs,
    length: usize,
    classes: Option<Arc<JobClasses>>,
    collect_responses: bool,
    now: u64,
    slots: Vec<Slot>,
    spare: BTreeMap<u32, BTreeSet<u32>>,
    workers: BTreeMap<WorkerId, Worker>,
    worker_next: u64,
    /// Sorted; a slot that is freed nearly always goes to the end.
    free: VecDeque<FreeKey>,
    departures: Departures,
    /// By time and first slot.
    boots: BTreeMap<(u64, u32), WorkerId>,
    /// When the first of them is; [`NO_BOOT`] if there is none.
    boot_next: u64,
    lines: Vec<Line>,
    waiting: u64,
    /// Number of the first job that has not arrived.
    arrived: u64,
    busy: u64,
    wait_sum: u128,
    service_sum: u128,
    kept: Kept,
    responses: Vec<u64>,
    redone: u64,
    lost_micros: u128,
    ready_micros_gone: u128,
    journal: Journal,
}

impl OrderedQueue {
    pub(super) fn new(
        spec: QueueSpec,
        classes: Option<Arc<JobClasses>>,
        journal: bool,
    ) -> Result<Self, JobsError> {
        let levels = classes.as_ref().map_or(1, |classes| classes.levels());
        let length = spec.jobs.len();
        Ok(Self {
            length,
            jobs: Jobs::new(spec.jobs, spec.repeat_every)?,
            classes,
            collect_responses: spec.responses,
            now: 0,
            slots: Vec::new(),
            spare: BTreeMap::new(),
            workers: BTreeMap::new(),
            worker_next: 0,
            free: VecDeque::new(),
            departures: Departures::new(),
            boots: BTreeMap::new(),
            boot_next: NO_BOOT,
            lines: std::iter::repeat_with(Line::default).take(levels).collect(),
            waiting: 0,
            arrived: 0,
            busy: 0,
            wait_sum: 0,
            service_sum: 0,
            kept: match spec.keep {
                Keep::EveryWait => Kept::Each(Vec::new()),
                Keep::Histogram => Kept::Sizes(Box::new((Histogram::new(), Histogram::new()))),
                Keep::Sums => Kept::Nothing,
            },
            responses: Vec::new(),
            redone: 0,
            lost_micros: 0,
            ready_micros_gone: 0,
            journal: Journal::new(journal),
        })
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn advance(&mut self, horizon: u64) {
        if horizon < self.now {
            return;
        }
        // What the tick brought comes all at once.
        while self.boot_next <= self.now && self.boot_next != NO_BOOT {
            self.boot();
        }
        self.hand_out();
        let arrived = self.jobs.arrived(horizon, self.arrived);
        if let Kept::Each(kept) = &mut self.kept {
            kept.resize(narrow(arrived), (0, 0));
        }
        let jobs = self.jobs.clone();
        while self.arrived < arrived {
            let batch = jobs.batch(self.arrived, arrived);
            for (arrival, service) in batch.arrivals.iter().zip(batch.services) {
                let arrival = arrival + batch.offset;
                if self.departures.first().min(self.boot_next) <= arrival {
                    self.pass(arrival, true);
                }
                self.now = arrival;
                let job = self.arrived;
                self.arrived += 1;
                match self.free.pop_front() {
                    Some((_, _, slot)) => self.start(slot, job, arrival, *service),
                    None => self.join(job),
                }
            }
        }
        self.pass(horizon, false);
        self.now = horizon;
        self.forget();
    }

    /// See [`super::Queue::feed`].
    pub(super) fn feed(&mut self, jobs: Arc<JobColumns>) -> Result<(), JobsError> {
        match self.classes {
            // A job's class goes by its number among jobs that are all there.
            Some(_) => Err(JobsError::AllAtOnce),
            None => self.jobs.feed(jobs),
        }
    }

    /// Forgets jobs that were started, except those in hand and lost ones.
    fn forget(&mut self) {
        let fresh = self.lines.iter().filter_map(|line| line.fresh.front());
        let started = fresh.min().copied().unwrap_or(self.arrived);
        let (slots, lines) = (&self.slots, &self.lines);
        self.jobs.forget(started, || {
            let in_hand = slots.iter().filter_map(|slot| Some(slot.hand?.job));
            let lost = lines.iter().flat_map(|line| line.lost.iter().copied());
            in_hand.chain(lost).collect()
        });
    }

    /// Boots and departures before `to`; boots at `to` too, and departures if
    /// `departures_too`.
    fn pass(&mut self, to: u64, departures_too: bool) {
        loop {
            let (boot, end) = (self.boot_next, self.departures.first());
            let boots = boot <= to && boot != NO_BOOT;
            let departs = end != NEVER && (end < to || departures_too && end == to);
            if boots && !(departs && end < boot) {
                self.boot();
                self.hand_out();
            } else if departs {
                self.depart(end);
            } else {
                return;
            }
        }
    }

    /// To be called after every change of `boots`.
    fn find_next_boot(&mut self) {
        let first = self.boots.first_key_value();
        self.boot_next = first.map_or(NO_BOOT, |((at, _), _)| *at);
    }

    fn boot(&mut self) {
        let Some(((at, _), worker)) = self.boots.pop_first() else {
            return;
        };
        self.find_next_boot();
        self.now = self.now.max(at);
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        worker.ready = true;
        if !worker.fenced {
            for slot in worker.slots.clone() {
                self.offer((at, false, slot));
            }
        }
    }

    /// The job that ends first, at `end`, leaves its slot.
    fn depart(&mut self, end: u64) {
        let place = self.departures.first_slot();
        let slot = number(place);
        self.now = end;
        if let Some(hand) = self.slots[place].hand.take() {
            self.busy -= 1;
            if self.collect_responses {
                self.responses.push(end - self.jobs.arrival(hand.job));
            }
            if self.journal.kept() {
                let entry = self.entry(hand, self.slots[place].worker);
                self.journal.end(JobEntry {
                    end: Some(end),
                    ..entry
                });
            }
        }
        let offered = self.slots[place].offered;
        if let Some(job) = offered.then(|| self.next_waiting()).flatten() {
            let (arrival, service) = self.jobs.arrival_and_service(job);
            self.start(slot, job, arrival, service);
            return;
        }
        self.departures.set(place, NEVER);
        if offered {
            self.offer((end, true, slot));
        }
    }

    fn offer(&mut self, key: FreeKey) {
        if self.free.back().is_none_or(|last| *last < key) {
            self.free.push_back(key);
            return;
        }
        let mut place = self.free.len();
        while place > 0 && self.free[place - 1] > key {
            place -= 1;
        }
        self.free.insert(place, key);
    }

    /// Gives waiting jobs to free slots.
    fn hand_out(&mut self) {
        while self.waiting > 0 {
            let Some((_, _, slot)) = self.free.pop_front() else {
                return;
            };
            if let Some(job) = self.next_waiting() {
                let (arrival, service) = self.jobs.arrival_and_service(job);
                self.start(slot, job, arrival, service);
            }
        }
    }

    fn next_waiting(&mut self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
        self.waiting -= 1;
        self.lines.iter_mut().find_map(Line::pop)
    }

    fn level(&self, job: u64) -> usize {
        if self.lines.len() == 1 {
            return 0;
        }
        let index = narrow(job % wide(self.length).max(1));
        self.classes
            .as_ref()
            .map_or(0, |classes| classes.level(index))
    }

    fn join(&mut self, job: u64) {
        let level = self.level(job);
        self.lines[level].fresh.push_back(job);
        self.waiting += 1;
    }

    fn start(&mut self, slot: u32, job: u64, arrival: u64, service: u64) {
        let slot_at = &mut self.slots[index(slot)];
        let service = scaled(service, slot_at.percent);
        let (start, end) = (self.now, self.now + service);
        slot_at.hand = Some(Hand { job, start, end });
        slot_at.free_at = end;
        self.departures.set(index(slot), end);
        self.busy += 1;
        let wait = start - arrival;
        self.wait_sum += u128::from(wait);
        self.service_sum += u128::from(service);
        match &mut self.kept {
            Kept::Each(kept) => kept[narrow(job)] = (wait, service),
            Kept::Sizes(sizes) => {
                sizes.0.add(wait);
                sizes.1.add(wait + service);
            }
            Kept::Nothing => {}
        }
    }

    pub(super) fn add(&mut self, count: u32, ready_at: u64, percent: u32) -> WorkerId {
        let ready_at = ready_at.max(self.now);
        let spare = self.spare.get_mut(&count).and_then(BTreeSet::pop_first);
        let first = spare.unwrap_or_else(|| {
            let first = number(self.slots.len());
            let length = self.slots.len() + index(count);
            self.slots.resize(length, Slot::default());
            self.departures.hold(length);
            first
        });
        let id = WorkerId(self.worker_next);
        self.worker_next += 1;
        let slots = first..first + count;
        for slot in slots.clone() {
            self.slots[index(slot)] = Slot {
                hand: None,
                free_at: ready_at,
                percent,
                offered: true,
                worker: Some(id),
            };
        }
        self.boots.insert((ready_at, first), id);
        self.find_next_boot();
        self.workers.insert(
            id,
            Worker {
                slots,
                ready_at,
                ready: false,
                fenced: false,
            },
        );
        id
    }

    pub(super) fn fence(&mut self, worker: WorkerId) {
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        if !worker.fenced {
            worker.fenced = true;
            let slots = worker.slots.clone();
            self.withdraw(&slots);
        }
    }

    fn withdraw(&mut self, slots: &Range<u32>) {
        for slot in slots.clone() {
            self.slots[index(slot)].offered = false;
        }
        self.free.retain(|(_, _, slot)| !slots.contains(slot));
    }

    pub(super) fn unfence(&mut self, worker: WorkerId) {
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        if !worker.fenced {
            return;
        }
        worker.fenced = false;
        let ready = worker.ready;
        for slot in worker.slots.clone() {
            let at = &mut self.slots[index(slot)];
            at.offered = true;
            if ready && at.hand.is_none() {
                // It could not have taken a job before now.
                at.free_at = self.now;
                self.offer((self.now, false, slot));
            }
        }
    }

    pub(super) fn remove(&mut self, worker: WorkerId) -> u64 {
        let Some(worker) = self.workers.remove(&worker) else {
            return 0;
        };
        let slots = worker.slots;
        self.withdraw(&slots);
        self.boots.remove(&(worker.ready_at, slots.start));
        self.find_next_boot();
        let ready = u128::from(self.now.saturating_sub(worker.ready_at));
        self.ready_micros_gone += ready * u128::from(slots.end - slots.start);
        let mut lost = 0;
        for slot in slots.clone() {
            if let Some(hand) = self.slots[index(slot)].hand.take() {
                self.departures.set(index(slot), NEVER);
                self.lose(hand);
                lost += 1;
            }
        }
        self.spare
            .entry(slots.end - slots.start)
            .or_default()
            .insert(slots.start);
        lost
    }

    /// Undoes the start of a job.
    fn lose(&mut self, Hand { job, start, end }: Hand) {
        let wait = start - self.jobs.arrival(job);
        self.busy -= 1;
        self.wait_sum -= u128::from(wait);
        self.service_sum -= u128::from(end - start);
        if let Kept::Sizes(sizes) = &mut self.kept {
            sizes.0.remove(wait);
            sizes.1.remove(wait + (end - start));
        }
        self.lost_micros += u128::from(self.now - start);
        self.redone += 1;
        self.journal.lose(job);
        let level = self.level(job);
        self.lines[level].lost.insert(job);
        self.waiting += 1;
    }

    pub(super) fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        let worker = self.workers.get(&worker)?;
        let slots = || worker.slots.clone().map(|slot| &self.slots[index(slot)]);
        let busy = slots().filter(|slot| slot.hand.is_some()).count();
        let idle_since = slots().map(|slot| slot.free_at).max();
        Some(WorkerState {
            busy: u32::try_from(busy).unwrap_or(u32::MAX),
            idle_since: idle_since.filter(|_| busy == 0 && worker.ready_at <= self.now),
        })
    }

    pub(super) fn free_at(&self, worker: WorkerId) -> Option<u64> {
        let slots = self.workers.get(&worker)?.slots.clone();
        slots.map(|slot| self.slots[index(slot)].free_at).max()
    }

    fn hands(&self) -> impl Iterator<Item = Hand> {
        self.slots.iter().filter_map(|slot| slot.hand)
    }

    fn waiting(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().flat_map(Line::jobs)
    }

    /// How long job `job` has been there.
    fn so_far(&self, job: u64) -> u64 {
        self.now - self.jobs.arrival(job)
    }

    /// Time that jobs in hand will still take.
    fn remaining(&self) -> u128 {
        let left = self.hands().map(|hand| u128::from(hand.end - self.now));
        left.sum()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut seen = Snapshot {
            arrivals: self.arrived,
            completions: self.arrived - self.waiting - self.busy,
            backlog: self.waiting,
            busy: self.busy,
            ready_micros: self.ready_micros_gone,
            busy_micros: self.service_sum + self.lost_micros - self.remaining(),
            ..Snapshot::default()
        };
        let oldest = self.lines.iter().filter_map(Line::first).min();
        seen.oldest_age = oldest.map_or(0, |job| self.so_far(job));
        let ready = |worker: &&Worker| worker.ready_at <= self.now;
        for worker in self.workers.values().filter(ready) {
            let slots = u64::from(worker.slots.end - worker.slots.start);
            seen.ready_slots += slots;
            seen.ready_micros += u128::from(slots) * u128::from(self.now - worker.ready_at);
        }
        seen
    }

    pub(super) fn take_finished(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.responses)
    }

    pub(super) fn totals(&self) -> JobTotals {
        let (wait, response) = match &self.kept {
            Kept::Each(kept) => {
                let times = self.times(kept);
                let wait = spread(times.iter().map(|(wait, _)| *wait));
                let response = spread(times.iter().map(|(_, response)| *response));
                (wait.quantiles, response.quantiles)
            }
            Kept::Sizes(sizes) => {
                let (waits, responses) = self.sizes_so_far(sizes);
                (Some(waits.quantiles()), Some(responses.quantiles()))
            }
            Kept::Nothing => (None, None),
        };
        let spread = |sum_micros, quantiles| Spread {
            count: self.arrived,
            sum_micros,
            quantiles,
        };
        JobTotals {
            jobs: self.arrived,
            unfinished: self.waiting + self.busy,
            wait: spread(self.waited_micros(), wait),
            response: spread(
                self.waited_micros() + self.service_sum - self.remaining(),
                response,
            ),
            redone: self.redone,
        }
    }

    pub(super) fn waited_micros(&self) -> u128 {
        let waiting = self.waiting().map(|job| u128::from(self.so_far(job)));
        self.wait_sum + waiting.sum::<u128>()
    }

    pub(super) fn each_wait(&self, mut note: impl FnMut(u64, u64)) {
        if let Kept::Each(kept) = &self.kept {
            let times = self.times(kept);
            for (job, (wait, _)) in (0..).zip(times) {
                note(job, wait);
            }
        }
    }

    /// What is known of a job in hand.
    fn entry(&self, hand: Hand, worker: Option<WorkerId>) -> JobEntry {
        JobEntry {
            job: hand.job,
            arrival: self.jobs.arrival(hand.job),
            start: Some(hand.start),
            end: None,
            worker,
            redone: self.journal.redone(hand.job),
        }
    }

    pub(super) fn take_journal(&mut self) -> Vec<JobEntry> {
        self.journal.take()
    }

    pub(super) fn unfinished(&self) -> Vec<JobEntry> {
        if !self.journal.kept() {
            return Vec::new();
        }
        let in_hand = self.slots.iter().filter_map(|slot| {
            let hand = slot.hand?;
            Some(self.entry(hand, slot.worker))
        });
        let waiting = self.waiting().map(|job| JobEntry {
            job,
            arrival: self.jobs.arrival(job),
            start: None,
            end: None,
            worker: None,
            redone: self.journal.redone(job),
        });
        let mut all: Vec<JobEntry> = in_hand.chain(waiting).collect();
        all.sort_unstable_by_key(|entry| entry.job);
        all
    }

    /// The totals of each class; empty unless every wait is kept.
    pub(super) fn class_totals(&self) -> Vec<ClassTotals> {
        match (&self.kept, &self.classes) {
            (Kept::Each(kept), Some(classes)) => by_class(classes, &self.times(kept)),
            _ => Vec::new(),
        }
    }

    /// Wait and response of each job that has arrived, by number; the time so
    /// far of those that are unfinished.
    fn times(&self, kept: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut times: Vec<(u64, u64)> = kept
            .iter()
            .map(|(wait, service)| (*wait, wait + service))
            .collect();
        for hand in self.hands() {
            times[narrow(hand.job)].1 = self.so_far(hand.job);
        }
        for job in self.waiting() {
            times[narrow(job)] = (self.so_far(job), self.so_far(job));
        }
        times
    }

    fn sizes_so_far(&self, sizes: &(Histogram, Histogram)) -> (Histogram, Histogram) {
        let (mut waits, mut responses) = sizes.clone();
        for hand in self.hands() {
            responses.remove(hand.end - self.jobs.arrival(hand.job));
            responses.add(self.so_far(hand.job));
        }
        for job in self.waiting() {
            waits.add(self.so_far(job));
            responses.add(self.so_far(job));
        }
        (waits, responses)
    }
}

/// How long a job takes on a slot that works at `percent`; rounded up.
fn scaled(service: u64, percent: u32) -> u64 {
    if percent == 100 {
        service
    } else {
        (service * 100).div_ceil(u64::from(percent.max(1)))
    }
}

fn index(slot: u32) -> usize {
    narrow(u64::from(slot))
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
