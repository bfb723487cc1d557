//! What the policy remembers, and how it learns from a cycle.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Allowance, Moment, Purse, shape};
use super::window::Knobs;
use super::{Economic, Worth};
use crate::learn::{
    Arrivals, Bin, BootTimes, Holds, Promise, Rates, Season, ServiceTimes, Skill, Spikes, secs,
};
use crate::model::Billing;
use crate::policy::View;
use crate::units::{MicroUsd, MicroUsdPerHour, Timestamp};

/// What the policy must know of the fleet beyond a [`View`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Time between two cycles.
    pub interval: Duration,
    /// What the next instance costs.
    pub price: MicroUsdPerHour,
    /// How it is charged.
    pub billing: Billing,
    /// What the fleet's objective says a job's waiting for an hour is worth.
    pub waiting: MicroUsdPerHour,
    /// The fewest instances.
    pub min: u32,
    /// The most instances.
    pub max: u32,
    /// Instances that are paid for, those on their way out included.
    pub billed: u32,
    /// What the fleet has cost since `since`.
    pub spent: MicroUsd,
    /// Since when that is counted; `None` if it is not.
    pub since: Option<Timestamp>,
    /// How long it may take until all are let go that are not wanted.
    pub wind_down: Duration,
    /// How long ago each instance was launched that is not ready.
    pub booting: Vec<Duration>,
    /// Ready instances that say they have no job; `None` if they do not say.
    pub idle: Option<u32>,
    /// For how long those are paid already that would be let go, the next one
    /// first; empty where that is charged by the minute or finer.
    pub paid_left: Vec<Duration>,
    /// When those were launched that are ready for the first time.
    pub came_up: Vec<Timestamp>,
}

impl Fleet {
    /// A fleet of which only `view` is known: a cycle a minute, instances at
    /// $0.10 an hour, charged by the second, 60 s at least.
    pub fn plain(view: &View<'_>) -> Self {
        let booting = view.current.saturating_sub(view.ready);
        let booting = usize::try_from(booting).unwrap_or(0);
        Self {
            interval: Duration::from_mins(1),
            price: MicroUsdPerHour::new(100_000),
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::from_mins(1),
            },
            waiting: MicroUsdPerHour::ZERO,
            min: 0,
            max: crate::policy::INSTANCES_MAX,
            billed: view.current,
            spent: MicroUsd::ZERO,
            since: None,
            wind_down: Duration::ZERO,
            booting: vec![Duration::ZERO; booting],
            idle: None,
            paid_left: Vec::new(),
            came_up: Vec::new(),
        }
    }
}

/// Jobs in the system at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Jobs {
    pub(super) at: Timestamp,
    pub(super) waiting: f64,
    pub(super) running: f64,
}

impl Jobs {
    pub(super) fn all(self) -> f64 {
        self.waiting + self.running
    }
}

/// What the policy remembers from cycle to cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which layout this is; what has another one is forgotten.
    pub(super) version: u32,
    pub(super) arrivals: Arrivals,
    pub(super) season: Season,
    pub(super) spikes: Spikes,
    pub(super) skill: Skill,
    pub(super) service: ServiceTimes,
    pub(super) boots: BootTimes,
    pub(super) holds: Holds,
    pub(super) promise: Promise,
    /// Those of windows that make one of their own, by the window's place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) window_promises: Vec<Promise>,
    /// What is remembered of a budget; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) purse: Option<Purse>,
    /// Jobs as of the last sample that was learnt from.
    pub(super) jobs: Option<Jobs>,
    /// When it looked last.
    pub(super) looked: Option<Timestamp>,
    /// Since when fewer instances would do.
    pub(super) lean_since: Option<Timestamp>,
}

impl State {
    /// The layout of this version of windlass.
    pub const VERSION: u32 = 1;

    /// Nothing was seen yet.
    pub fn new(rule: &Economic) -> Self {
        Self {
            version: Self::VERSION,
            arrivals: Arrivals::default(),
            season: Season::default(),
            spikes: Spikes::default(),
            skill: Skill::default(),
            service: ServiceTimes::new(rule.service_guess.map(secs)),
            boots: BootTimes::new(rule.boot_guess),
            holds: Holds::default(),
            promise: Promise::default(),
            window_promises: Vec::new(),
            purse: None,
            jobs: None,
            looked: None,
            lean_since: None,
        }
    }

    /// Whether this version of windlass can go on from it.
    pub fn is_current(&self) -> bool {
        self.version == Self::VERSION
    }

    /// The season, if it is known and has helped of late.
    pub(super) fn trusted_season(&self) -> Option<&Season> {
        (self.season.is_known() && self.skill.trusts_season()).then_some(&self.season)
    }

    /// Takes in the jobs and arrivals of a cycle, as far as they are there.
    pub(super) fn learn(
        &mut self,
        rule: &Economic,
        knobs: &Knobs<'_>,
        view: &View<'_>,
        fleet: &Fleet,
    ) {
        // Ready since some time between the last look and this one.
        let looked = self.looked.replace(view.now).unwrap_or(view.now);
        for launched in &fleet.came_up {
            let least = secs(looked.since(*launched));
            self.boots
                .learn(f64::midpoint(least, secs(view.now.since(*launched))));
        }
        let Some(jobs) = jobs(rule, view) else {
            return;
        };
        let Ok(sample) = view.sample(&rule.arrivals_signal) else {
            return;
        };
        let trusted = self.season.is_known() && self.skill.trusts_season();
        let season = trusted.then_some(&self.season);
        let bin = self.arrivals.learn(sample, season);
        if let (Some(bin), Some(before)) = (bin, self.jobs) {
            let busy = f64::midpoint(before.running, jobs.running);
            let finished = bin.count - (jobs.all() - before.all());
            self.service.learn(bin.secs, busy, finished);
        }
        if bin.is_none() && self.jobs.is_some() {
            return;
        }
        self.jobs = Some(jobs);
        let boot = self.boots.planned();
        let slots = f64::from(view.slots.max(1));
        self.holds.learn(jobs.at, jobs.all() / slots, boot);
        let Some(bin) = bin else {
            return;
        };
        if let Worth::P95(limit) = knobs.worth {
            let wait = self.wait_of_next(jobs, view);
            let burst = bin.count > bin.steady;
            let short = self.purse.is_some_and(|purse| purse.binds);
            let helpless = burst || short || view.current >= fleet.max;
            let promise = match knobs.window {
                None => &mut self.promise,
                Some(place) => {
                    if self.window_promises.len() <= place {
                        self.window_promises.resize(place + 1, self.promise);
                    }
                    &mut self.window_promises[place]
                }
            };
            promise.learn(bin.count, wait > secs(limit), helpless);
        }
        self.note_spending(bin, jobs, view, fleet);
        self.spikes.learn(bin.at, bin.secs, bin.count - bin.steady);
        let known = self.season.is_known();
        self.season.learn(bin.at, bin.secs, bin.steady);
        let mut switched = self.skill.learn(bin, self.arrivals.dispersion());
        switched |= known != self.season.is_known();
        if switched {
            self.arrivals.rebase();
        }
        self.note_forecast(bin.at, boot);
    }

    /// Takes in what the load of a bin costs, if there is a budget.
    fn note_spending(&mut self, bin: Bin, jobs: Jobs, view: &View<'_>, fleet: &Fleet) {
        let season = shape(self.trusted_season(), bin.at);
        let slots = f64::from(view.slots.max(1));
        let service = self.service.mean() / slots;
        if let Some(purse) = &mut self.purse {
            let (work, busy) = (bin.count * service, jobs.running / slots);
            purse.learn(bin.secs, season, work, busy, fleet.billed);
        }
    }

    /// What the `budget` that counts allows, if waiting should be worth `kappa`
    /// instances.
    pub(super) fn allow(
        &mut self,
        rule: &Economic,
        budget: Option<MicroUsd>,
        view: &View<'_>,
        fleet: &Fleet,
        jobs: Jobs,
        kappa: f64,
    ) -> Allowance {
        let Some(period) = rule.period() else {
            self.purse = None;
            return Allowance {
                kappa,
                most: fleet.max,
                why: None,
            };
        };
        let mut purse = self.purse.unwrap_or_default();
        let moment = Moment {
            now: view.now,
            fleet,
            current: view.current,
            service: self.service.mean() / f64::from(view.slots.max(1)),
            boot: self.boots.planned(),
            waiting: jobs.waiting,
            season: self.trusted_season(),
        };
        let allowance = purse.allow((period, budget), rule.zone, kappa, &moment);
        self.purse = Some(purse);
        allowance
    }

    /// What keeps the promise of a window; of the policy itself if `None`.
    pub(super) fn promised(&self, window: Option<usize>) -> f64 {
        let own = window.and_then(|place| self.window_promises.get(place));
        own.unwrap_or(&self.promise).kappa()
    }

    /// For how many seconds a job that comes now waits, about: for as many as
    /// wait already, and for the slots there are.
    fn wait_of_next(&self, jobs: Jobs, view: &View<'_>) -> f64 {
        let slots = f64::from(view.ready) * f64::from(view.slots.max(1));
        if slots < 1.0 {
            return self.boots.planned();
        }
        jobs.waiting * self.service.mean() / slots
    }

    /// Forecasts with and without the season what comes when a launch of now
    /// is ready.
    fn note_forecast(&mut self, at: Timestamp, boot: f64) {
        let lead = Duration::from_secs_f64(boot.clamp(1.0, 3_600.0));
        let middle = at + lead + Duration::from_secs(30);
        let Some(flat) = self.arrivals.level(None) else {
            return;
        };
        let season = self.season.is_known().then(|| {
            let level = self.arrivals.level(Some(&self.season))?;
            Some(level.ratio * self.season.rate(middle)?)
        });
        let rates = Rates {
            season: season.flatten(),
            flat: flat.ratio,
        };
        self.skill.forecast(at, lead, rates);
    }
}

/// [`jobs`], or the waiting ones and as many as there are slots for if nobody
/// says how many run.
pub(super) fn jobs_at_least(rule: &Economic, view: &View<'_>) -> Option<Jobs> {
    jobs(rule, view).or_else(|| {
        let waiting = view.sample(&rule.signal).ok()?;
        let slots = f64::from(view.ready) * f64::from(view.slots.max(1));
        let running = if waiting.value > 0.0 { slots } else { 0.0 };
        Some(Jobs {
            at: waiting.at.min(view.now),
            waiting: waiting.value,
            running,
        })
    })
}

/// Jobs in the system by the readings; `None` if one is absent.
pub(super) fn jobs(rule: &Economic, view: &View<'_>) -> Option<Jobs> {
    let waiting = view.sample(&rule.signal).ok()?;
    let running = view.sample(&rule.in_flight_signal).ok()?;
    Some(Jobs {
        at: running.at.min(view.now),
        waiting: waiting.value,
        running: running.value,
    })
}
