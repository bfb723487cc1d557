//! The slower queues against theory, and against loops that look at every
//! microsecond.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers in these tests are small"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::random::Stream;

const SECOND: f64 = 1e6;

fn server(jobs: Vec<(u64, u64)>, spec: ServerSpec) -> Server {
    let (arrivals, services) = jobs.into_iter().unzip();
    let jobs = Arc::new(JobColumns::new(arrivals, services).expect("sorted"));
    let queue = QueueSpec {
        jobs,
        repeat_every: None,
        keep: Keep::EveryWait,
        responses: true,
    };
    Server::new(queue, spec).expect("a valid queue")
}

fn classes(priorities: &[u32], numbers: Vec<u16>) -> Arc<JobClasses> {
    let class = |(place, priority): (usize, &u32)| JobClass {
        name: format!("class {place}"),
        priority: *priority,
    };
    let classes = priorities.iter().enumerate().map(class).collect();
    Arc::new(JobClasses::new(classes, numbers).expect("all known"))
}

/// Poisson arrivals, `load` for each second of one slot; services of a second
/// on average.
fn poisson(jobs: usize, load: f64, seed: u64, constant: bool) -> Vec<(u64, u64)> {
    let mut arrivals = Stream::new(seed, "arrivals");
    let mut services = Stream::new(seed, "services");
    let mut at = 0.0;
    let mut draw = || {
        at += arrivals.exponential() / load;
        let service = if constant {
            1.0
        } else {
            services.exponential()
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and small"
        )]
        let micros = |secs: f64| (secs * SECOND) as u64;
        (micros(at), micros(service))
    };
    (0..jobs).map(|_| draw()).collect()
}

fn mean(spread: &Spread) -> f64 {
    spread.mean_secs().expect("there are jobs")
}

#[test]
fn shared_servers_respond_as_theory_says_whatever_the_services() {
    // M/M/1 and M/D/1 under processor sharing: the mean response is that of
    // the service over 1 - load, whatever its distribution.
    for (load, constant) in [(0.5, false), (0.8, false), (0.5, true), (0.8, true)] {
        let spec = ServerSpec {
            sharing: Some(LatencyCurve::default()),
            ..ServerSpec::default()
        };
        let jobs = poisson(150_000, load, 7, constant);
        let work: u64 = jobs.iter().map(|(_, service)| service).sum();
        let service = work as f64 / jobs.len() as f64 / SECOND;
        let mut server = server(jobs, spec);
        server.add(1, 0, 100);
        server.advance(1 << 40);
        let totals = server.totals();
        assert_eq!(totals.unfinished, 0);
        let lost = totals.response.sum_micros - totals.wait.sum_micros;
        assert_eq!(lost, u128::from(work));
        let expected = service / (1.0 - load * service);
        let found = mean(&totals.response);
        let off = (found / expected - 1.0).abs();
        assert!(off < 0.05, "{load}: {found} for {expected}");
    }
}

#[test]
fn priorities_wait_as_cobham_says() {
    // Non-preemptive M/M/1: class k, first to last, waits
    // R / ((1 - load of those before)(1 - that and its own)), with R = load.
    for loads in [[0.3, 0.5], [0.5, 0.3], [0.1, 0.8]] {
        let load: f64 = loads.iter().sum();
        let jobs = poisson(400_000, load, 3, false);
        let mut kinds = Stream::new(3, "kinds");
        let numbers: Vec<u16> = jobs
            .iter()
            .map(|_| u16::from(kinds.uniform() * load < loads[0]))
            .collect();
        let spec = ServerSpec {
            // Class 1 is the one of the first load, and goes first.
            classes: Some(classes(&[2, 7], numbers)),
            ..ServerSpec::default()
        };
        let mut server = server(jobs, spec);
        server.add(1, 0, 100);
        server.advance(1 << 40);
        let found = server.class_totals();
        let first = load / (1.0 - loads[0]);
        let last = load / ((1.0 - loads[0]) * (1.0 - load));
        for (found, expected, tolerance) in [
            (mean(&found[1].wait), first, 0.03),
            (mean(&found[0].wait), last, 0.12),
        ] {
            let off = (found / expected - 1.0).abs();
            assert!(off < tolerance, "{loads:?}: {found} for {expected}");
        }
        // Work is conserved: whoever goes first, all wait as M/M/1 on average.
        let all = mean(&server.totals().wait);
        assert!((all / (load / (1.0 - load)) - 1.0).abs() < 0.12, "{all}");
    }
}

#[test]
fn latency_curves_slow_sessions_down_as_drawn() {
    let points = vec![(500_000, 1_000_000), (1_000_000, 3_000_000)];
    let curve = LatencyCurve::new(points).expect("sound");
    // Four slots: alone, at half load, at three quarters, full, and at twice that.
    for (sessions, slowdown) in [(1, 1.0), (2, 1.0), (3, 2.0), (4, 3.0), (8, 6.0)] {
        let spec = ServerSpec {
            sharing: Some(curve.clone()),
            ..ServerSpec::default()
        };
        let mut server = server(vec![(0, 1_000_000); sessions], spec);
        server.add(4, 0, 100);
        server.advance(1 << 40);
        let found = mean(&server.totals().response);
        assert!((found / slowdown - 1.0).abs() < 1e-4, "{sessions}: {found}");
    }
    for (points, problem) in [
        (vec![(1, 1_000_000), (1, 2_000_000)], "rise"),
        (vec![(1, 2_000_000), (2, 1_000_000)], "fall"),
        (vec![(1, 999_999)], "at least 1.0"),
        (vec![(0, 1_000_000)], "above 0"),
    ] {
        let told = LatencyCurve::new(points).expect_err("unsound");
        assert!(told.contains(problem), "{told}");
    }
}

/// What is done between two horizons.
#[derive(Clone, Debug)]
enum Step {
    Add { boot: u64, fast: bool },
    Fence(usize),
    Unfence(usize),
    Remove(usize),
}

#[derive(Clone, Debug)]
struct Script {
    slots: u32,
    /// Gap, service, class.
    jobs: Vec<(u64, u64, u16)>,
    ticks: Vec<(u64, Vec<Step>)>,
}

fn scripts() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        4 => (0..5_u64, any::<bool>()).prop_map(|(boot, fast)| Step::Add { boot, fast }),
        2 => any::<usize>().prop_map(Step::Fence),
        2 => any::<usize>().prop_map(Step::Unfence),
        1 => any::<usize>().prop_map(Step::Remove),
    ];
    let ticks = prop::collection::vec((0..9_u64, prop::collection::vec(step, 0..4)), 1..20);
    let jobs = prop::collection::vec((0..3_u64, 0..9_u64, 0..3_u16), 0..60);
    (1..4_u32, jobs, ticks).prop_map(|(slots, jobs, ticks)| Script { slots, jobs, ticks })
}

/// Free since when and whether by a departure; job, start and end.
type PlainSlot = ((u64, bool), Option<(usize, u64, u64)>);

/// One worker of the plain loops.
struct Plain {
    ready_at: u64,
    percent: u64,
    fenced: bool,
    gone: bool,
    block: usize,
    slots: Vec<PlainSlot>,
    /// Job, start, and what it still needs.
    sessions: Vec<(usize, u64, u64)>,
}

/// A loop that looks at every microsecond, for both kinds of servers.
struct Stepped {
    now: u64,
    jobs: Vec<(u64, u64, u16)>,
    ranks: [usize; 3],
    shared: bool,
    arrived: usize,
    waiting: BTreeSet<(usize, usize)>,
    workers: Vec<Plain>,
    slots: usize,
    spare: BTreeSet<usize>,
    blocks: usize,
    /// Wait and response.
    times: Vec<Option<(u64, Option<u64>)>>,
    redone: u64,
    busy_micros: u128,
}

impl Stepped {
    fn new(script: &Script, ranks: [usize; 3], shared: bool) -> Self {
        let mut at = 0;
        let jobs = script.jobs.iter().map(|(gap, service, class)| {
            at += gap;
            (at, *service, *class)
        });
        let jobs: Vec<_> = jobs.collect();
        Self {
            now: 0,
            times: vec![None; jobs.len()],
            jobs,
            ranks,
            shared,
            arrived: 0,
            waiting: BTreeSet::new(),
            workers: Vec::new(),
            slots: script.slots as usize,
            spare: BTreeSet::new(),
            blocks: 0,
            redone: 0,
            busy_micros: 0,
        }
    }

    fn rank(&self, job: usize) -> usize {
        if self.shared {
            0
        } else {
            self.ranks[usize::from(self.jobs[job].2)]
        }
    }

    fn advance(&mut self, to: u64) {
        self.hand_out();
        while self.now < to {
            self.departures();
            while self.arrived < self.jobs.len() && self.jobs[self.arrived].0 == self.now {
                self.waiting.insert((self.rank(self.arrived), self.arrived));
                self.arrived += 1;
                self.hand_out();
                self.departures();
            }
            self.work();
            self.now += 1;
            let mut booted: Vec<(usize, usize)> = Vec::new();
            for (place, worker) in self.workers.iter().enumerate() {
                if worker.ready_at == self.now && !worker.gone {
                    booted.push((worker.block, place));
                }
            }
            // One after the other, each takes what waits.
            booted.sort_unstable();
            if self.shared {
                booted.sort_unstable_by_key(|(_, place)| *place);
            }
            for (_, place) in &booted {
                self.workers[*place].ready_at = u64::MAX;
            }
            for (_, place) in booted {
                self.workers[place].ready_at = self.now;
                self.hand_out();
            }
        }
    }

    /// A microsecond of work.
    fn work(&mut self) {
        for worker in self.workers.iter_mut().filter(|worker| !worker.gone) {
            let in_slots = worker.slots.iter().filter(|slot| slot.1.is_some()).count();
            let count = worker.sessions.len();
            self.busy_micros += in_slots.max(count.min(self.slots)) as u128;
            let load = (count * 1_000_000 / self.slots).max(1_000_000) as u64;
            let speed = (1_000_000 << 20) / load * worker.percent / 100;
            for session in &mut worker.sessions {
                session.2 = session.2.saturating_sub(speed);
            }
        }
    }

    /// Ends what ends now, the lowest slot first, or the first session.
    fn departures(&mut self) {
        loop {
            let mut next = None;
            for (place, worker) in self.workers.iter().enumerate() {
                if worker.gone {
                    continue;
                }
                for (slot, (_, hand)) in worker.slots.iter().enumerate() {
                    if hand.is_some_and(|(_, _, end)| end == self.now) {
                        let order = worker.block * self.slots + slot;
                        next = next
                            .min(Some((order, place, slot)))
                            .or(Some((order, place, slot)));
                    }
                }
                for (session, (_, _, needed)) in worker.sessions.iter().enumerate() {
                    if *needed == 0 {
                        next = next.or(Some((0, place, session)));
                    }
                }
            }
            let Some((_, place, which)) = next else {
                return;
            };
            let worker = &mut self.workers[place];
            let job = if self.shared {
                worker.sessions.remove(which).0
            } else {
                let (job, _, _) = worker.slots[which].1.take().expect("it ends now");
                worker.slots[which].0 = (self.now, true);
                job
            };
            let response = self.now - self.jobs[job].0;
            let times = self.times[job].as_mut().expect("it was started");
            times.1 = Some(response);
            self.hand_out();
        }
    }

    fn hand_out(&mut self) {
        while let Some((_, job)) = self.waiting.first().copied() {
            let Some((place, slot)) = self.next_free() else {
                return;
            };
            self.waiting.pop_first();
            let (arrival, service, _) = self.jobs[job];
            self.times[job] = Some((self.now - arrival, None));
            let worker = &mut self.workers[place];
            if self.shared {
                worker.sessions.push((job, self.now, service << 20));
            } else {
                let takes = (service * 100).div_ceil(worker.percent);
                worker.slots[slot].1 = Some((job, self.now, self.now + takes));
            }
        }
    }

    fn next_free(&self) -> Option<(usize, usize)> {
        let workers = self.workers.iter().enumerate();
        let taking = workers
            .filter(|(_, worker)| !worker.gone && !worker.fenced && worker.ready_at <= self.now);
        if self.shared {
            let load = |worker: &Plain| {
                worker.sessions.len() as u64 * 100_000_000 / (self.slots as u64 * worker.percent)
            };
            let least = taking.min_by_key(|(place, worker)| (load(worker), *place));
            return least.map(|(place, _)| (place, 0));
        }
        let free = taking.flat_map(|(place, worker)| {
            let slots = worker.slots.iter().enumerate();
            let first = worker.block * self.slots;
            let free = slots.filter(|(_, (_, hand))| hand.is_none());
            free.map(move |(slot, (since, _))| (*since, first + slot, place, slot))
        });
        free.min().map(|(_, _, place, slot)| (place, slot))
    }

    fn add(&mut self, boot: u64, percent: u64) {
        let block = self.spare.pop_first().unwrap_or(self.blocks);
        self.blocks = self.blocks.max(block + 1);
        let ready_at = self.now + boot;
        self.workers.push(Plain {
            ready_at,
            percent,
            fenced: false,
            gone: false,
            block,
            slots: vec![((ready_at, false), None); if self.shared { 0 } else { self.slots }],
            sessions: Vec::new(),
        });
    }

    fn unfence(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if worker.fenced && worker.ready_at <= self.now {
            for (since, hand) in &mut worker.slots {
                if hand.is_none() {
                    *since = (self.now, false);
                }
            }
        }
        worker.fenced = false;
    }

    fn remove(&mut self, place: usize) -> u64 {
        let worker = &mut self.workers[place];
        worker.gone = true;
        self.spare.insert(worker.block);
        let hands = worker.slots.iter().filter_map(|slot| slot.1);
        let sessions = worker.sessions.iter().map(|session| session.0);
        let lost: Vec<usize> = hands.map(|hand| hand.0).chain(sessions).collect();
        for job in &lost {
            self.times[*job] = None;
            let rank = self.rank(*job);
            self.waiting.insert((rank, *job));
        }
        self.redone += lost.len() as u64;
        lost.len() as u64
    }

    /// Wait and response of each job that has arrived; so far, for unfinished ones.
    fn times(&self) -> Vec<(u64, u64)> {
        let each = (0..self.arrived).map(|job| {
            let so_far = self.now - self.jobs[job].0;
            match self.times[job] {
                None => (so_far, so_far),
                Some((_, response)) if self.shared => {
                    let response = response.unwrap_or(so_far);
                    (response.saturating_sub(self.jobs[job].1), response)
                }
                Some((wait, response)) => (wait, response.unwrap_or(so_far)),
            }
        });
        each.collect()
    }
}

fn compare(script: &Script, priorities: [u32; 3], shared: bool) {
    let above = |one: u32| {
        let distinct: BTreeSet<u32> = priorities
            .into_iter()
            .filter(|other| *other > one)
            .collect();
        distinct.len()
    };
    let mut plain = Stepped::new(script, priorities.map(above), shared);
    let numbers = script.jobs.iter().map(|job| job.2).collect();
    let spec = ServerSpec {
        classes: Some(classes(&priorities, numbers)),
        sharing: shared.then(LatencyCurve::default),
        ..ServerSpec::default()
    };
    let jobs = plain.jobs.iter().map(|job| (job.0, job.1)).collect();
    let mut server = server(jobs, spec);
    let mut workers: Vec<WorkerId> = Vec::new();
    let mut finished = 0;
    for (gap, steps) in &script.ticks {
        let now = plain.now + gap;
        plain.advance(now);
        server.advance(now);
        for step in steps {
            take(step, &mut server, &mut plain, &mut workers);
        }
        finished += server.take_finished().len();
        same(&server, &plain, &workers, finished);
    }
}

/// Does `step` to both.
fn take(step: &Step, server: &mut Server, plain: &mut Stepped, workers: &mut Vec<WorkerId>) {
    let (which, count) = match step {
        Step::Add { boot, fast } => {
            let percent = if *fast { 250 } else { 100 };
            let slots = u32::try_from(plain.slots).expect("small");
            workers.push(server.add(slots, plain.now + boot, percent));
            plain.add(*boot, u64::from(percent));
            return;
        }
        Step::Fence(which) | Step::Unfence(which) | Step::Remove(which) => (which, workers.len()),
    };
    let Some(place) = which
        .checked_rem(count)
        .filter(|place| !plain.workers[*place].gone)
    else {
        return;
    };
    match step {
        Step::Fence(_) => {
            server.fence(workers[place]);
            plain.workers[place].fenced = true;
        }
        Step::Unfence(_) => {
            server.unfence(workers[place]);
            plain.unfence(place);
        }
        Step::Remove(_) | Step::Add { .. } => {
            assert_eq!(server.remove(workers[place]), plain.remove(place));
        }
    }
}

/// Every number of both is the same.
fn same(server: &Server, plain: &Stepped, workers: &[WorkerId], finished: usize) {
    let now = plain.now;
    let (seen, totals) = (server.snapshot(), server.totals());
    let times = plain.times();
    let ended: Vec<_> = plain
        .times
        .iter()
        .flatten()
        .filter_map(|times| times.1)
        .collect();
    assert_eq!(seen.arrivals, plain.arrived as u64, "at {now}");
    assert_eq!(seen.backlog, plain.waiting.len() as u64, "at {now}");
    assert_eq!(seen.completions, ended.len() as u64, "at {now}");
    assert_eq!(seen.busy_micros, plain.busy_micros, "at {now}");
    let busy = plain.workers.iter().filter(|worker| !worker.gone);
    let busy = busy
        .map(|one| one.slots.iter().filter(|slot| slot.1.is_some()).count() + one.sessions.len());
    for (place, count) in plain
        .workers
        .iter()
        .enumerate()
        .filter(|one| !one.1.gone)
        .map(|one| one.0)
        .zip(busy)
    {
        let state = server.state(workers[place]).expect("it is there");
        assert_eq!(state.busy as usize, count, "worker {place} at {now}");
    }
    assert_eq!(
        totals.wait,
        classes::spread(times.iter().map(|time| time.0)),
        "at {now}"
    );
    assert_eq!(
        totals.response,
        classes::spread(times.iter().map(|time| time.1)),
        "at {now}"
    );
    assert_eq!(totals.redone, plain.redone);
    for (number, found) in (0_u16..).zip(server.class_totals()) {
        let own = times
            .iter()
            .zip(&plain.jobs)
            .filter(|(_, job)| job.2 == number);
        let waits: Vec<u64> = own.map(|(time, _)| time.0).collect();
        assert_eq!(found.wait, classes::spread(waits.iter().copied()));
    }
    assert_eq!(finished, ended.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        // The same queues each time; another number finds others.
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn priorities_and_speeds_are_those_of_the_stepped_loop(
        script in scripts(),
        priorities in prop::array::uniform3(0..3_u32),
    ) {
        compare(&script, priorities, false);
    }

    #[test]
    fn shared_servers_are_those_of_the_stepped_loop(script in scripts()) {
        compare(&script, [0; 3], true);
    }
}
