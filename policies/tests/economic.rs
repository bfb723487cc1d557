//! The economic policy when signals lie, clocks are off and loads change: each
//! costs a bounded amount more than the same load told truly.
//!
//! The world is as small as it can be and still answer: a fluid queue, a cycle
//! a minute, instances that boot for two minutes, jobs of 30 s. What a run
//! comes to is instance-seconds and `KAPPA` for each job-second of waiting.

use std::time::Duration;

use windlass_policies::model::Wish;
use windlass_policies::policy::{NamedPolicy, Recall, View};
use windlass_policies::policy_file;
use windlass_policies::signal::{Absence, Reading, Readings};
use windlass_policies::units::Timestamp;

const CYCLE_SECS: u32 = 60;
/// Launched at the end of a cycle, ready at the beginning of the third after it.
const BOOT_CYCLES: usize = 3;
const SERVICE_SECS: f64 = 30.0;
/// What `preset = "balanced"` says.
const KAPPA: f64 = 1.0;
const DAY: u32 = 86_400 / CYCLE_SECS;

struct World {
    policy: NamedPolicy,
    recall: Recall,
    now: Timestamp,
    jobs: f64,
    ready: u32,
    booting: [u32; BOOT_CYCLES],
    /// What the counter says has arrived.
    counted: f64,
    /// What is counted of each job that arrives.
    lie: f64,
    /// Which of the signals are absent in the cycle at hand.
    absent: Vec<&'static str>,
    /// Instance-seconds, those that waiting is worth included.
    cost: f64,
}

impl World {
    fn new() -> Self {
        Self::of("preset = \"balanced\"\n")
    }

    fn of(keys: &str) -> Self {
        let text = format!("[[policy]]\nkind = \"economic\"\n{keys}");
        let file = policy_file::read(&text).expect("a policy");
        Self {
            policy: file.policies[0].clone(),
            recall: Recall::default(),
            // A Monday at midnight.
            now: Timestamp::from_secs(1_750_032_000),
            jobs: 0.0,
            ready: 0,
            booting: [0; BOOT_CYCLES],
            counted: 1e6,
            lie: 1.0,
            absent: Vec::new(),
            cost: 0.0,
        }
    }

    /// A minute in which `came` jobs come, and a decision at its end.
    fn minute(&mut self, came: f64) {
        let secs = f64::from(CYCLE_SECS);
        self.now = self.now + Duration::from_secs(CYCLE_SECS.into());
        self.ready += self.booting[0];
        self.booting.rotate_left(1);
        self.booting[BOOT_CYCLES - 1] = 0;
        let slots = f64::from(self.ready);
        let worked = (slots * secs / SERVICE_SECS).min(self.jobs + came * 0.5);
        let before = self.jobs;
        self.jobs = (self.jobs * libm::exp(-secs / SERVICE_SECS)).max(self.jobs + came - worked);
        let jobs = f64::midpoint(before, self.jobs);
        let current = self.ready + self.booting.iter().sum::<u32>();
        self.cost += secs * (f64::from(current) + KAPPA * (jobs - slots).max(0.0));
        self.counted += came * self.lie;
        let wish = self.decide(current);
        if wish > current {
            self.booting[BOOT_CYCLES - 1] += wish - current;
        } else {
            // Only idle ones go: the policy knows what is busy by `in_flight`.
            let idle = (slots - self.jobs).max(0.0);
            let mut over = current - wish;
            while over > 0 && idle >= f64::from(current - wish - over + 1) && self.ready > 0 {
                self.ready -= 1;
                over -= 1;
            }
        }
    }

    fn decide(&mut self, current: u32) -> u32 {
        let running = self.jobs.min(f64::from(self.ready));
        let signals = [
            ("backlog", (self.jobs - running).round()),
            ("in_flight", running.round()),
            ("arrivals", self.counted.floor()),
        ];
        let mut readings = Readings::new();
        for (name, value) in signals {
            let reading = if self.absent.contains(&name) {
                Reading::Absent(Absence::NoData)
            } else {
                Reading::complete(value, self.now)
            };
            readings.insert(name, reading);
        }
        let view = View {
            now: self.now,
            readings: &readings,
            current,
            ready: self.ready,
            slots: 1,
            desired: current,
            lives: &[],
        };
        self.policy.consider(&view, None, &mut self.recall);
        match self.policy.propose(&view, Some(&self.recall)).wish {
            Wish::Instances(count) => count,
            Wish::Abstain(_) => current,
        }
    }

    /// What `minutes` of `load` cost, a function of the minute.
    fn run(&mut self, minutes: u32, mut load: impl FnMut(&mut Self, u32) -> f64) -> f64 {
        let before = self.cost;
        for minute in 0..minutes {
            let came = load(self, minute);
            self.minute(came);
        }
        self.cost - before
    }
}

/// Jobs in the `minute` of a day: from 10 at three in the morning to 110 at
/// three in the afternoon.
fn rhythm(minute: u32) -> f64 {
    let turn = f64::from(minute % DAY) / f64::from(DAY) * std::f64::consts::TAU;
    60.0 - 50.0 * libm::cos(turn - std::f64::consts::FRAC_PI_4)
}

fn flat(_: &mut World, _: u32) -> f64 {
    60.0
}

/// A world that has seen `days` of the rhythm.
fn taught(days: u32) -> World {
    let mut world = World::new();
    world.run(days * DAY, |_, minute| rhythm(minute));
    world
}

#[track_caller]
fn at_most(bound: f64, odd: f64, honest: f64) {
    let share = odd / honest;
    assert!(
        share <= bound,
        "{share:.4} times the honest cost, bound {bound}"
    );
}

#[test]
fn a_clock_that_jumps_six_hours_costs_a_seventh_at_most() {
    let honest = taught(3).run(DAY, |_, minute| rhythm(minute));
    let mut world = taught(3);
    world.now = world.now + Duration::from_hours(6);
    let off = world.run(DAY, |_, minute| rhythm(minute));
    at_most(1.15, off, honest);
}

#[test]
fn a_season_that_ends_costs_a_twentieth_at_most() {
    let honest = World::new().run(DAY, flat);
    let ended = taught(3).run(DAY, flat);
    at_most(1.05, ended, honest);
}

#[test]
fn a_rate_that_lies_tenfold_is_bounded_both_ways() {
    let honest = taught(1).run(DAY, flat);
    for (lie, bound) in [(10.0, 2.0), (0.1, 1.5)] {
        let mut world = taught(1);
        world.lie = lie;
        at_most(bound, world.run(DAY, flat), honest);
    }
}

#[test]
fn a_counter_that_begins_anew_each_hour_costs_a_fiftieth_at_most() {
    let honest = taught(1).run(DAY, flat);
    let reset = taught(1).run(DAY, |world, minute| {
        if minute % 60 == 59 {
            world.counted = 0.0;
        }
        60.0
    });
    at_most(1.02, reset, honest);
}

#[test]
fn signals_that_come_one_time_in_three_cost_a_fiftieth_at_most() {
    let honest = taught(1).run(DAY, |_, minute| rhythm(minute));
    for signal in ["backlog", "in_flight", "arrivals"] {
        let gaps = taught(1).run(DAY, |world, minute| {
            world.absent = if minute % 3 == 0 {
                vec![]
            } else {
                vec![signal]
            };
            rhythm(minute)
        });
        at_most(1.02, gaps, honest);
    }
}

/// Above what the formula gives for a dump nobody foresaw: `n = Q s / T`
/// instances, launched at once, for the drain time `T = sqrt(2 D s / kappa)`.
#[test]
fn a_dump_of_a_hundred_thousand_jobs_costs_what_the_drain_time_says() {
    const DUMP: f64 = 100_000.0;
    let honest = taught(1).run(DAY, flat);
    let dumped = taught(1).run(DAY, |_, minute| if minute == 600 { DUMP } else { 60.0 });
    let boot = f64::from(CYCLE_SECS) * 2.0;
    let drain = (2.0 * boot * SERVICE_SECS / KAPPA).sqrt();
    let formula = DUMP * (SERVICE_SECS * (1.0 + boot / drain) + KAPPA * (boot + drain / 2.0));
    at_most(1.1, dumped - honest, formula);
}

/// What is kept after ten weeks is no more than after two: no list grows with
/// the decisions that were made.
#[test]
fn a_hundred_thousand_decisions_remember_no_more_than_a_fifth_of_them_do() {
    let keys = "preset = \"balanced\"\nbudget_usd_per_month = 100\n\
                [[policy.window]]\nstart = \"0 22 * * *\"\nduration = \"8h\"\np95_wait = \"5m\"\n";
    let mut world = World::of(keys);
    let bytes = |world: &World| {
        let text = serde_json::to_string(&world.recall).expect("plain data");
        text.len()
    };
    // A dump each day at another hour, so that levels and spikes are all used.
    let load = |_: &mut World, minute: u32| match minute % 1_511 {
        0 => 900.0,
        _ => 0.3 * rhythm(minute),
    };
    world.run(20_000, load);
    let early = bytes(&world);
    let mut most = early;
    for _ in 0..8 {
        world.run(10_000, load);
        most = most.max(bytes(&world));
    }
    assert!(most < 60_000, "{most} bytes");
    assert!(10 * most < 13 * early, "{early} bytes, then {most}");
}
