//! Servers that work on all their sessions at once, behind a balancer: for
//! fleets that are steered by latency.
//!
//! A session goes to the worker with the fewest sessions for its slots and
//! speed, and among those to the oldest one. A worker with n sessions and c slots has the load
//! n / c, and each of its sessions goes forward at 1 / slowdown(load) of full
//! speed. The slowdown is at least 1 and at least the load, so no worker does
//! more than its slots can. A session waits only while no worker takes any.
//!
//! What counts as a session's wait is all by which it took longer than its
//! service, whether it waited or was served slowly.
//!
//! All is whole numbers: what a session has received is counted in
//! microseconds times 2^20, and speeds in 2^-20, rounded down. A session ends
//! at the first whole microsecond at which it has received its service.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::classes::{ClassTotals, JobClasses, by_class, spread};
use super::jobs::{JobColumns, Jobs, JobsError, narrow, wide};
use super::journal::{JobEntry, Journal};
use super::{JobTotals, Keep, QueueSpec, Snapshot, Spread, WorkerId, WorkerState};

/// Full speed.
const SPEED: u64 = 1 << SPEED_BITS;
const SPEED_BITS: u32 = 20;

const MILLION: u64 = 1_000_000;

/// How much longer a session takes by how loaded its worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyCurve {
    // Load and slowdown in millionths. Invariant: sorted by load, slowdowns at
    // least a million.
    points: Vec<(u64, u64)>,
}

impl LatencyCurve {
    /// The curve through `points` of load (sessions over slots) and slowdown
    /// (1 is full speed), both in millionths; straight lines in between, level
    /// before the first, in proportion to the load after the last. Without
    /// points, plain processor sharing: 1 up to the load 1, then the load.
    /// Wherever the curve lies below the load, the load counts.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn new(points: Vec<(u64, u64)>) -> Result<Self, String> {
        if points.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err("loads must rise from point to point".to_owned());
        }
        if points.windows(2).any(|pair| pair[0].1 > pair[1].1) {
            return Err("slowdowns must not fall from point to point".to_owned());
        }
        if points.iter().any(|(_, slowdown)| *slowdown < MILLION) {
            return Err("a slowdown is at least 1.0: nothing is faster than alone".to_owned());
        }
        if points.last().is_some_and(|(load, _)| *load == 0) {
            return Err("the last point needs a load above 0".to_owned());
        }
        Ok(Self { points })
    }

    /// The slowdown at `load`, in millionths.
    fn slowdown(&self, load: u64) -> u64 {
        let least = load.max(MILLION);
        let after = self.points.partition_point(|(at, _)| *at < load);
        let drawn = match (after.checked_sub(1), self.points.get(after)) {
            (_, None) => match self.points.last() {
                Some((at, slowdown)) => muldiv(*slowdown, load, *at),
                None => 0,
            },
            (None, Some((_, slowdown))) => *slowdown,
            (Some(before), Some((to, high))) => {
                let (from, low) = self.points[before];
                low + muldiv(high - low, load - from, to - from)
            }
        };
        drawn.max(least)
    }
}

/// `one * other / divisor`, rounded down.
fn muldiv(one: u64, other: u64, divisor: u64) -> u64 {
    let whole = u128::from(one) * u128::from(other) / u128::from(divisor.max(1));
    u64::try_from(whole).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
struct Worker {
    slots: u64,
    percent: u64,
    ready_at: u64,
    ready: bool,
    fenced: bool,
    /// What its sessions must have received by their end, and their jobs.
    sessions: BTreeSet<(u128, u64)>,
    /// What each session has received since the worker began.
    received: u128,
    /// As of when.
    at: u64,
    idle_since: u64,
    /// Slots in use times microseconds.
    busy_micros: u128,
}

impl Worker {
    fn count(&self) -> u64 {
        wide(self.sessions.len())
    }

    /// How fast each session goes forward now.
    fn speed(&self, curve: &LatencyCurve) -> u64 {
        let load = muldiv(self.count(), MILLION, self.slots);
        let full = muldiv(SPEED, MILLION, curve.slowdown(load));
        muldiv(full, self.percent, 100).max(1)
    }

    fn catch_up(&mut self, now: u64, curve: &LatencyCurve) {
        let span = now - self.at;
        self.busy_micros += u128::from(span) * u128::from(self.count().min(self.slots));
        if !self.sessions.is_empty() {
            self.received += u128::from(span) * u128::from(self.speed(curve));
        }
        self.at = now;
    }

    /// When its next session ends, if nothing changes.
    fn next_end(&self, curve: &LatencyCurve) -> Option<u64> {
        let (needed, _) = self.sessions.first()?;
        let left = needed.saturating_sub(self.received);
        let span = left.div_ceil(u128::from(self.speed(curve)));
        Some(
            self.at
                .saturating_add(u64::try_from(span).unwrap_or(u64::MAX)),
        )
    }

    /// Orders workers for the balancer: sessions over what the worker can do.
    fn load(&self) -> u64 {
        muldiv(self.count(), 100 * MILLION, self.slots * self.percent)
    }

    fn takes(&self) -> bool {
        self.ready && !self.fenced
    }
}

/// Sessions behind a balancer.
#[derive(Debug)]
pub(super) struct SharingQueue {
    jobs: Jobs,
    curve: LatencyCurve,
    classes: Option<Arc<JobClasses>>,
    keep: Keep,
    collect_responses: bool,
    now: u64,
    workers: BTreeMap<WorkerId, Worker>,
    worker_next: u64,
    boots: BTreeSet<(u64, WorkerId)>,
    /// The next end of each worker that has sessions.
    ends: BTreeSet<(u64, WorkerId)>,
    /// Workers that take sessions, by load.
    balance: BTreeSet<(u64, WorkerId)>,
    lost: BTreeSet<u64>,
    fresh: VecDeque<u64>,
    arrived: u64,
    completed: u64,
    in_service: u64,
    delay_sum: u128,
    response_sum: u128,
    /// Delay and response by job number; of no meaning for unfinished jobs.
    times: Vec<(u64, u64)>,
    responses: Vec<u64>,
    redone: u64,
    ready_micros_gone: u128,
    busy_micros_gone: u128,
    journal: Journal,
    /// When each session in service began; kept for the journal only.
    starts: BTreeMap<u64, u64>,
}

impl SharingQueue {
    pub(super) fn new(
        spec: QueueSpec,
        classes: Option<Arc<JobClasses>>,
        curve: LatencyCurve,
        journal: bool,
    ) -> Result<Self, JobsError> {
        Ok(Self {
            jobs: Jobs::new(spec.jobs, spec.repeat_every)?,
            curve,
            classes,
            keep: spec.keep,
            collect_responses: spec.responses,
            now: 0,
            workers: BTreeMap::new(),
            worker_next: 0,
            boots: BTreeSet::new(),
            ends: BTreeSet::new(),
            balance: BTreeSet::new(),
            lost: BTreeSet::new(),
            fresh: VecDeque::new(),
            arrived: 0,
            completed: 0,
            in_service: 0,
            delay_sum: 0,
            response_sum: 0,
            times: Vec::new(),
            responses: Vec::new(),
            redone: 0,
            ready_micros_gone: 0,
            busy_micros_gone: 0,
            journal: Journal::new(journal),
            starts: BTreeMap::new(),
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
        while let Some((at, worker)) = self
            .boots
            .first()
            .copied()
            .filter(|(at, _)| *at <= self.now)
        {
            self.boot(at, worker);
        }
        self.hand_out();
        let arrived = self.jobs.arrived(horizon, self.arrived);
        if self.keep == Keep::EveryWait {
            self.times.resize(narrow(arrived), (0, 0));
        }
        while self.arrived < arrived {
            let arrival = self.jobs.arrival(self.arrived);
            self.pass(arrival, true);
            self.now = arrival;
            self.fresh.push_back(self.arrived);
            self.arrived += 1;
            self.hand_out();
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

    /// Forgets sessions that were started, except those in service and lost
    /// ones, unless what they took is looked up at the end.
    fn forget(&mut self) {
        if self.keep == Keep::EveryWait {
            return;
        }
        let started = self.fresh.front().copied().unwrap_or(self.arrived);
        let (workers, lost) = (&self.workers, &self.lost);
        self.jobs.forget(started, || {
            let sessions = workers.values().flat_map(|worker| &worker.sessions);
            let in_service = sessions.map(|(_, job)| *job);
            in_service.chain(lost.iter().copied()).collect()
        });
    }

    /// Boots and ends before `to`; boots at `to` too, and ends if `ends_too`.
    fn pass(&mut self, to: u64, ends_too: bool) {
        loop {
            let end = self.ends.first().copied();
            let end = end.filter(|(end, _)| *end < to || ends_too && *end == to);
            let boot = self.boots.first().copied().filter(|(at, _)| *at <= to);
            match (boot, end) {
                (Some((at, _)), Some((end, worker))) if at > end => self.end_one(end, worker),
                (Some((at, worker)), _) => {
                    self.boot(at, worker);
                    self.hand_out();
                }
                (None, Some((end, worker))) => self.end_one(end, worker),
                (None, None) => return,
            }
        }
    }

    fn boot(&mut self, at: u64, worker: WorkerId) {
        self.now = at;
        self.boots.remove(&(at, worker));
        self.change(worker, |worker| {
            worker.ready = true;
            worker.idle_since = at;
        });
    }

    /// Ends the session of `worker` that is next.
    fn end_one(&mut self, at: u64, worker: WorkerId) {
        self.now = at;
        let mut ended = None;
        self.change(worker, |worker| {
            ended = worker.sessions.pop_first();
            if worker.sessions.is_empty() {
                worker.idle_since = at;
            }
        });
        let Some((_, job)) = ended else {
            return;
        };
        let (delay, response) = self.times_of(job);
        self.in_service -= 1;
        self.completed += 1;
        self.delay_sum += u128::from(delay);
        self.response_sum += u128::from(response);
        if let Some(times) = self.times.get_mut(narrow(job)) {
            *times = (delay, response);
        }
        if self.collect_responses {
            self.responses.push(response);
        }
        if self.journal.kept() {
            let entry = self.entry(job, Some(worker));
            self.starts.remove(&job);
            self.journal.end(JobEntry {
                end: Some(at),
                ..entry
            });
        }
    }

    /// Changes `worker`, and puts it in its new place everywhere.
    fn change(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if let Some(end) = worker.next_end(&self.curve) {
            self.ends.remove(&(end, id));
        }
        self.balance.remove(&(worker.load(), id));
        worker.catch_up(self.now, &self.curve);
        change(worker);
        if let Some(end) = worker.next_end(&self.curve) {
            self.ends.insert((end, id));
        }
        if worker.takes() {
            self.balance.insert((worker.load(), id));
        }
    }

    fn hand_out(&mut self) {
        while let Some((_, worker)) = self.balance.first().copied() {
            let Some(job) = self.lost.pop_first().or_else(|| self.fresh.pop_front()) else {
                return;
            };
            let service = u128::from(self.jobs.service(job)) << SPEED_BITS;
            self.change(worker, |worker| {
                worker.sessions.insert((worker.received + service, job));
            });
            self.in_service += 1;
            if self.journal.kept() {
                self.starts.insert(job, self.now);
            }
        }
    }

    /// What is known of an unfinished job.
    fn entry(&self, job: u64, worker: Option<WorkerId>) -> JobEntry {
        JobEntry {
            job,
            arrival: self.jobs.arrival(job),
            start: self.starts.get(&job).copied(),
            end: None,
            worker,
            redone: self.journal.redone(job),
        }
    }

    pub(super) fn take_journal(&mut self) -> Vec<JobEntry> {
        self.journal.take()
    }

    pub(super) fn unfinished(&self) -> Vec<JobEntry> {
        if !self.journal.kept() {
            return Vec::new();
        }
        let served = self.workers.iter().flat_map(|(id, worker)| {
            let sessions = worker.sessions.iter();
            sessions.map(|(_, job)| self.entry(*job, Some(*id)))
        });
        let waiting = self.waiting().map(|job| self.entry(job, None));
        let mut all: Vec<JobEntry> = served.chain(waiting).collect();
        all.sort_unstable_by_key(|entry| entry.job);
        all
    }

    pub(super) fn add(&mut self, slots: u32, ready_at: u64, percent: u32) -> WorkerId {
        let ready_at = ready_at.max(self.now);
        let id = WorkerId(self.worker_next);
        self.worker_next += 1;
        self.boots.insert((ready_at, id));
        self.workers.insert(
            id,
            Worker {
                slots: u64::from(slots.max(1)),
                percent: u64::from(percent.max(1)),
                ready_at,
                ready: false,
                fenced: false,
                sessions: BTreeSet::new(),
                received: 0,
                at: self.now,
                idle_since: ready_at,
                busy_micros: 0,
            },
        );
        id
    }

    pub(super) fn fence(&mut self, worker: WorkerId) {
        self.change(worker, |worker| worker.fenced = true);
    }

    pub(super) fn unfence(&mut self, worker: WorkerId) {
        let now = self.now;
        self.change(worker, |worker| {
            if worker.fenced && worker.ready && worker.sessions.is_empty() {
                worker.idle_since = now;
            }
            worker.fenced = false;
        });
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> u64 {
        // Out of every order first.
        self.change(id, |worker| worker.fenced = true);
        let Some(worker) = self.workers.remove(&id) else {
            return 0;
        };
        self.boots.remove(&(worker.ready_at, id));
        if let Some(end) = worker.next_end(&self.curve) {
            self.ends.remove(&(end, id));
        }
        let ready = u128::from(self.now.saturating_sub(worker.ready_at));
        self.ready_micros_gone += ready * u128::from(worker.slots);
        self.busy_micros_gone += worker.busy_micros;
        for (_, job) in &worker.sessions {
            self.in_service -= 1;
            self.redone += 1;
            self.journal.lose(*job);
            self.starts.remove(job);
            self.lost.insert(*job);
        }
        worker.count()
    }

    pub(super) fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        let worker = self.workers.get(&worker)?;
        let idle = worker.sessions.is_empty() && worker.ready_at <= self.now;
        Some(WorkerState {
            busy: u32::try_from(worker.sessions.len()).unwrap_or(u32::MAX),
            idle_since: idle.then_some(worker.idle_since),
        })
    }

    fn waiting(&self) -> impl Iterator<Item = u64> {
        self.lost.iter().chain(&self.fresh).copied()
    }

    fn so_far(&self, job: u64) -> u64 {
        self.now - self.jobs.arrival(job)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut seen = Snapshot {
            arrivals: self.arrived,
            completions: self.completed,
            backlog: wide(self.lost.len() + self.fresh.len()),
            busy: self.in_service,
            ready_micros: self.ready_micros_gone,
            busy_micros: self.busy_micros_gone,
            ..Snapshot::default()
        };
        seen.oldest_age = self.waiting().next().map_or(0, |job| self.so_far(job));
        for worker in self.workers.values() {
            let in_use = worker.count().min(worker.slots);
            seen.busy_micros +=
                worker.busy_micros + u128::from(self.now - worker.at) * u128::from(in_use);
            if worker.ready_at <= self.now {
                seen.ready_slots += worker.slots;
                seen.ready_micros +=
                    u128::from(worker.slots) * u128::from(self.now - worker.ready_at);
            }
        }
        seen
    }

    pub(super) fn take_finished(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.responses)
    }

    pub(super) fn totals(&self) -> JobTotals {
        let so_far = |job: u64| u128::from(self.so_far(job));
        let waiting: u128 = self.waiting().map(so_far).sum();
        let in_service: u128 = self.sessions().map(so_far).sum();
        let quantiles = (self.keep == Keep::EveryWait).then(|| {
            let times = self.times_so_far();
            let wait = spread(times.iter().map(|(wait, _)| *wait));
            let response = spread(times.iter().map(|(_, response)| *response));
            (wait.quantiles, response.quantiles)
        });
        let (wait, response) = quantiles.unwrap_or_default();
        let spread = |sum_micros, quantiles| Spread {
            count: self.arrived,
            sum_micros,
            quantiles,
        };
        JobTotals {
            jobs: self.arrived,
            unfinished: self.arrived - self.completed,
            wait: spread(self.waited_micros(), wait),
            response: spread(self.response_sum + in_service + waiting, response),
            redone: self.redone,
        }
    }

    pub(super) fn waited_micros(&self) -> u128 {
        let waiting = self.waiting().map(|job| u128::from(self.so_far(job)));
        let served = self.sessions().map(|job| u128::from(self.times_of(job).0));
        self.delay_sum + waiting.chain(served).sum::<u128>()
    }

    pub(super) fn each_wait(&self, mut note: impl FnMut(u64, u64)) {
        if self.keep == Keep::EveryWait {
            for (job, (wait, _)) in (0..).zip(self.times_so_far()) {
                note(job, wait);
            }
        }
    }

    pub(super) fn class_totals(&self) -> Vec<ClassTotals> {
        match &self.classes {
            Some(classes) if self.keep == Keep::EveryWait => {
                by_class(classes, &self.times_so_far())
            }
            _ => Vec::new(),
        }
    }

    /// Jobs in service.
    fn sessions(&self) -> impl Iterator<Item = u64> {
        let workers = self.workers.values();
        workers.flat_map(|worker| worker.sessions.iter().map(|(_, job)| *job))
    }

    /// How much longer than its service a job has taken up to now, and how long
    /// in all.
    fn times_of(&self, job: u64) -> (u64, u64) {
        let response = self.so_far(job);
        (response.saturating_sub(self.jobs.service(job)), response)
    }

    /// Delay and response of each job that has arrived; so far, for unfinished ones.
    fn times_so_far(&self) -> Vec<(u64, u64)> {
        let mut times = self.times.clone();
        for job in self.sessions() {
            times[narrow(job)] = self.times_of(job);
        }
        for job in self.waiting() {
            times[narrow(job)] = (self.so_far(job), self.so_far(job));
        }
        times
    }
}
