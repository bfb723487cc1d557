//! Loads to measure the simulator with, and the least that any simulator of
//! them has to do.
//!
//! Both loads are made from a seed, so that a figure can be measured again
//! anywhere. [`bare`] is the yardstick: one replace-min a job and a sum, with
//! no identity, no bills, no quantiles and no rows. What [`full`] takes over
//! that is the price of everything else. Nothing here measures time; the
//! command line does.

use std::sync::Arc;
use std::time::Duration;

use windlass_policies::model::{Billing, Epoch, InstanceId, LaunchToken, Market, Offering};
use windlass_policies::units::{MICROS_PER_SEC, MicroUsdPerHour, Timestamp};

use crate::queue::{JobColumns, Keep, QueueSpec, ServerSpec, Snapshot, gallop, narrow, wide};
use crate::random::Stream;
use crate::world::cloud::CloudSpec;
use crate::world::{Summary, World, WorldError, WorldSpec};

/// How long one job takes on average.
const SERVICE_SECS: f64 = 2.0;

/// What the instances are called.
const OFFERING: &str = "bench";

/// A load, and who serves it.
#[derive(Clone, Debug)]
pub struct Load {
    /// What it is called in results.
    pub name: &'static str,
    /// The jobs.
    pub jobs: Arc<JobColumns>,
    /// How long the run is, in microseconds.
    pub length: u64,
    /// Instances at the beginning.
    pub initial: u32,
    /// Who changes their number; nobody, if not given.
    pub rule: Option<Rule>,
}

/// A rule that looks at the queue at fixed times: with A arrivals since it last
/// looked and Q jobs waiting it wants `1.2 * A / interval * 2 s + Q / 30`
/// instances. What is missing is launched; what is too much ends at once as far
/// as it is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How often it looks, in microseconds; a multiple of 1 second.
    pub interval: u64,
    /// From launch to the first job taken, in microseconds.
    pub boot: u64,
}

impl Rule {
    const W2: Self = Self {
        interval: 60 * MICROS_PER_SEC,
        boot: 120 * MICROS_PER_SEC,
    };

    /// How many instances it wants. Rounded up, in whole numbers.
    pub fn want(self, arrivals: u64, backlog: u64) -> u64 {
        let interval_secs = self.interval / MICROS_PER_SEC;
        // 1.2 * A * 2 / s + Q / 30 over the common denominator 150 s.
        let numerator = 360 * arrivals + 5 * backlog * interval_secs;
        numerator.div_ceil(150 * interval_secs)
    }
}

/// Arrival and service of job after job, in microseconds.
pub type Jobs = Box<dyn Iterator<Item = (u64, u64)>>;

/// The load W1: Poisson arrivals, 10 a second, that take 2 s on average,
/// exponentially; 25 instances, nobody changes them.
pub fn w1(jobs: usize) -> Load {
    let columns = columns(w1_jobs(jobs));
    let last = columns.arrivals().last();
    Load {
        name: "w1",
        length: last.map_or(1, |last| last + 3_600 * MICROS_PER_SEC),
        jobs: Arc::new(columns),
        initial: 25,
        rule: None,
    }
}

/// The jobs of W1.
pub fn w1_jobs(jobs: usize) -> Jobs {
    let mut arrivals = Stream::new(1, "bench w1 arrivals");
    let mut at = 0.0;
    let times = std::iter::repeat_with(move || {
        at += arrivals.exponential() / 10.0;
        micros(at)
    });
    with_services(times.take(jobs), "bench w1 service")
}

/// The load W2: as W1, but `10 + 8 sin(2 pi t / 1 day)` arrivals a second over
/// `days` days, and a rule that looks every minute; boots take two minutes.
pub fn w2(days: u32) -> Load {
    Load {
        jobs: Arc::new(columns(w2_jobs(days))),
        ..w2_without_jobs(days)
    }
}

/// W2 without its jobs, which are to be fed.
pub fn w2_without_jobs(days: u32) -> Load {
    Load {
        name: "w2",
        jobs: Arc::default(),
        length: micros(f64::from(days) * DAY_SECS),
        initial: 25,
        rule: Some(Rule::W2),
    }
}

/// The jobs of W2.
pub fn w2_jobs(days: u32) -> Jobs {
    let times = sine("bench w2", 10.0, DAY_SECS, f64::from(days) * DAY_SECS);
    with_services(times, "bench w2 service")
}

/// W2 with a hundred times the arrivals, in `days` days of 72 minutes.
pub fn w2500(days: u32) -> Load {
    let day = 4_320.0;
    let length = f64::from(days) * day;
    let times = sine("bench w2500", 1_000.0, day, length);
    Load {
        name: "w2500",
        jobs: Arc::new(columns(with_services(times, "bench w2500 service"))),
        length: micros(length),
        initial: 2_500,
        rule: Some(Rule::W2),
    }
}

/// A day of W2.
const DAY_SECS: f64 = 86_400.0;

/// Arrivals by thinning: drawn at the highest rate, kept by their share of it.
fn sine(name: &str, rate: f64, day: f64, length: f64) -> impl Iterator<Item = u64> + use<> {
    let (mut gaps, mut thinning) = (
        Stream::new(1, &format!("{name} arrivals")),
        Stream::new(1, &format!("{name} thinning")),
    );
    let mut at = 0.0;
    std::iter::from_fn(move || {
        loop {
            at += gaps.exponential() / (1.8 * rate);
            if at >= length {
                return None;
            }
            let share = (1.0 + 0.8 * libm::sin(std::f64::consts::TAU * at / day)) / 1.8;
            if thinning.uniform() < share {
                return Some(micros(at));
            }
        }
    })
}

fn with_services(arrivals: impl Iterator<Item = u64> + 'static, stream: &str) -> Jobs {
    let mut stream = Stream::new(1, stream);
    let service = move || micros(stream.exponential() * SERVICE_SECS);
    Box::new(arrivals.zip(std::iter::repeat_with(service)))
}

fn columns(jobs: Jobs) -> JobColumns {
    let (arrivals, services) = jobs.unzip();
    JobColumns::new(arrivals, services).expect("drawn in order, and short")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and far below 2^53"
)]
fn micros(secs: f64) -> u64 {
    (secs * 1e6) as u64
}

/// What a run came to, as far as both ways know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs that were started.
    pub started: u64,
    /// What they waited, in microseconds.
    pub wait_sum: u128,
    /// Instance time from launch to end, in microseconds.
    pub instance_micros: u128,
    /// Launches by the rule.
    pub launches: u64,
    /// The most instances at once.
    pub peak: u64,
}

/// Bits of a bare key for the slot's number.
const BITS: u32 = 14;

/// The least key of a slot whose job ends at `at`. The bit below the time says
/// so: who boots at that instant comes before.
const fn departs(at: u64) -> u64 {
    (at << 1 | 1) << BITS
}

/// The yardstick: jobs go to the instance that is free first, whose free time
/// is then replaced in a tree of losers; nothing but sums is kept.
pub fn bare(load: &Load) -> Tally {
    let (arrivals, services) = (load.jobs.arrivals(), load.jobs.services());
    let mut tree = Tree::of((0..u64::from(load.initial)).collect());
    let mut tally = Tally {
        peak: u64::from(load.initial),
        ..Tally::default()
    };
    let (mut head, mut arrived, mut now, mut count) = (0, 0, 0, u64::from(load.initial));
    while now < load.length {
        let step = load.rule.map_or(load.length, |rule| rule.interval);
        let next = (now + step).min(load.length);
        tally.instance_micros += u128::from(count) * u128::from(next - now);
        now = next;
        let before = arrived;
        arrived = gallop(arrivals, now, arrived);
        head += tree.serve(
            &arrivals[head..arrived],
            &services[head..arrived],
            now,
            &mut tally.wait_sum,
        );
        let Some(rule) = load.rule.filter(|_| now < load.length) else {
            continue;
        };
        let (seen, backlog) = (wide(arrived - before), wide(arrived - head));
        let want = rule.want(seen, backlog);
        if want > count {
            tally.launches += want - count;
            tree.add(want - count, now + rule.boot);
            count = want;
            tally.peak = tally.peak.max(count);
        } else if want < count {
            count -= tree.remove_idle(count - want, now);
        }
    }
    tally.started = wide(head);
    tally
}

/// Free times and slot numbers, packed; the least of them on top.
struct Tree {
    losers: Vec<u64>,
    winner: u64,
}

impl Tree {
    fn of(keys: Vec<u64>) -> Self {
        let mut tree = Self {
            losers: Vec::new(),
            winner: u64::MAX,
        };
        tree.build(keys);
        tree
    }

    /// All keys; afterwards slots are numbered anew by the order given.
    fn build(&mut self, keys: Vec<u64>) {
        let leaves = keys.len().next_power_of_two();
        let mut winners = vec![u64::MAX; 2 * leaves];
        for (slot, key) in keys.into_iter().enumerate() {
            winners[leaves + slot] = key >> BITS << BITS | wide(slot);
        }
        self.losers = vec![u64::MAX; leaves];
        for node in (1..leaves).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            winners[node] = left.min(right);
            self.losers[node] = left.max(right);
        }
        self.winner = winners[1];
    }

    fn keys(&self) -> Vec<u64> {
        let all = self.losers.iter().skip(1).chain([&self.winner]);
        all.copied().filter(|key| *key != u64::MAX).collect()
    }

    /// Starts jobs until one could only start after the tick at `horizon`.
    fn serve(
        &mut self,
        arrivals: &[u64],
        services: &[u64],
        horizon: u64,
        wait_sum: &mut u128,
    ) -> usize {
        let leaves = self.losers.len();
        let (losers, mut key) = (&mut self.losers[..leaves], self.winner);
        let limit = departs(horizon);
        let (mut sum, mut served) = (0, 0);
        for (arrival, service) in arrivals.iter().zip(services) {
            if key >= limit {
                break;
            }
            let start = (*arrival).max(key >> (BITS + 1));
            sum += start - arrival;
            let slot = key & ((1 << BITS) - 1);
            key = departs(start + service) | slot;
            let mut node = usize::midpoint(leaves, narrow(slot));
            while node > 0 {
                let loser = losers[node];
                losers[node] = loser.max(key);
                key = loser.min(key);
                node /= 2;
            }
            served += 1;
        }
        self.winner = key;
        *wait_sum += u128::from(sum);
        served
    }

    fn add(&mut self, count: u64, ready_at: u64) {
        let mut keys = self.keys();
        keys.extend((0..count).map(|_| ready_at << (BITS + 1)));
        self.build(keys);
    }

    /// Takes out up to `count` slots that are free before the tick of `now`.
    fn remove_idle(&mut self, count: u64, now: u64) -> u64 {
        let mut keys = self.keys();
        let mut removed = 0;
        keys.retain(|key| {
            let goes = removed < count && *key < departs(now);
            removed += u64::from(goes);
            !goes
        });
        if removed > 0 {
            self.build(keys);
        }
        removed
    }
}

/// One row of a run: what there was at a tick, and what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// When, in microseconds.
    pub at: u64,
    /// The queue.
    pub seen: Snapshot,
    /// Instances before and after.
    pub instances: (u32, u32),
}

/// The whole simulator: a world with named instances, per-second bills with a
/// minimum of a minute, what `keep` says of each job, and a row a tick.
///
/// # Errors
/// If the load makes no world, which those of this module do.
pub fn full(load: &Load, keep: Keep) -> Result<(Summary, Vec<Row>), WorldError> {
    let none = || Ok::<_, WorldError>(None);
    replay(load, world(load, keep, false)?, none)
}

/// The same with the queue that can do more than the fast one, and gives the
/// same where the fast one can do it too.
///
/// # Errors
/// As [`full`].
pub fn full_slow(load: &Load, keep: Keep) -> Result<(Summary, Vec<Row>), WorldError> {
    let none = || Ok::<_, WorldError>(None);
    replay(load, world(load, keep, true)?, none)
}

/// The same for jobs that are fed as `next` gives them, until it gives no more.
///
/// # Errors
/// Those of `next`, and if the jobs are not in order.
pub fn full_fed<E: From<WorldError>>(
    load: &Load,
    next: impl FnMut() -> Result<Option<Arc<JobColumns>>, E>,
) -> Result<(Summary, Vec<Row>), E> {
    replay(load, world(load, Keep::Histogram, false)?, next)
}

fn replay<E: From<WorldError>>(
    load: &Load,
    mut world: World,
    mut next: impl FnMut() -> Result<Option<Arc<JobColumns>>, E>,
) -> Result<(Summary, Vec<Row>), E> {
    let mut rows = Vec::new();
    let (mut seen, mut fed) = (0, 0);
    let mut advance = |world: &mut World, now: u64| {
        while fed < now {
            fed = u64::MAX;
            if let Some(jobs) = next()? {
                fed = jobs.arrivals().last().copied().unwrap_or(0);
                world.feed(jobs).map_err(WorldError::from)?;
                // So that there are never many that have not started.
                world.advance(Timestamp::from_micros(fed.min(now)));
            }
        }
        world.advance(Timestamp::from_micros(now));
        Ok::<(), E>(())
    };
    if let Some(rule) = load.rule {
        let mut now = rule.interval;
        while now < load.length {
            advance(&mut world, now)?;
            let snapshot = world.snapshot();
            let want = rule.want(snapshot.arrivals - seen, snapshot.backlog);
            seen = snapshot.arrivals;
            let before = world.alive_count();
            steer(&mut world, want, wide(rows.len()));
            rows.push(Row {
                at: now,
                seen: snapshot,
                instances: (before, world.alive_count()),
            });
            now += rule.interval;
        }
    }
    advance(&mut world, load.length)?;
    Ok((world.summary(), rows))
}

/// The world of `load` at its beginning, with the slower queue if `slow`.
///
/// # Errors
/// If the load makes no world, which those of this module do.
pub fn world(load: &Load, keep: Keep, slow: bool) -> Result<World, WorldError> {
    let spec = WorldSpec {
        fleet: "bench".to_owned(),
        begins_at: Timestamp::EPOCH,
        offerings: vec![offering()],
        initial: load.initial,
        listing_lag: Duration::ZERO,
        metric_period: Duration::ZERO,
        metric_lag: Duration::ZERO,
        queue: QueueSpec {
            jobs: Arc::clone(&load.jobs),
            repeat_every: None,
            keep,
            responses: false,
        },
        server: ServerSpec {
            slow,
            ..ServerSpec::default()
        },
        cloud: CloudSpec::default(),
    };
    let boot = load.rule.map(|rule| rule.boot);
    World::new(spec, Box::new(move || boot))
}

/// What an instance is and costs.
pub fn offering() -> Offering {
    Offering {
        name: OFFERING.to_owned(),
        price: MicroUsdPerHour::new(170_000),
        billing: Billing {
            increment: Duration::from_secs(1),
            minimum: Duration::from_mins(1),
        },
        slots: 1,
        market: Market::OnDemand,
        prepaid: 0,
    }
}

/// Launches what is missing, or ends what is idle and too much.
fn steer(world: &mut World, want: u64, tick: u64) {
    let have = u64::from(world.alive_count());
    if want > have {
        let count = u32::try_from(want - have).unwrap_or(u32::MAX);
        let token = LaunchToken::new("bench", "bench", Epoch(1), tick, 0);
        // Refused beyond what the simulated cloud has room for.
        let _ = world.launch(&token, OFFERING, count);
    } else if want < have {
        let idle = |id: &&InstanceId| {
            let state = world.worker(id);
            state.is_some_and(|state| state.idle_since.is_some())
        };
        let surplus: Vec<InstanceId> = world
            .alive()
            .filter(idle)
            .take(narrow(have - want))
            .cloned()
            .collect();
        for id in surplus {
            // It is there: it was listed a line ago.
            let _ = world.terminate(&id);
        }
    }
}

#[cfg(test)]
mod tests;
