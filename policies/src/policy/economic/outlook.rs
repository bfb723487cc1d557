//! What one instance more or fewer is worth, second by second.
//!
//! The future is a few scenarios of the arrival rate (Gauss-Hermite
//! quadrature over the forecast's error), and in each the jobs in the system:
//!
//! ```text
//! jobs <= slots:   jobs' = jobs e^(-dt/s) + rate s (1 - e^(-dt/s))
//! jobs >  slots:   jobs' = jobs + rate dt - slots dt / s
//! ```
//!
//! In a backlog one slot more moves everybody behind it forward, until the
//! backlog is gone or other launches are there, and does work that somebody
//! must do anyway. Without one it shortens the queue that chance makes
//! ([`crate::learn::waiting_factor`]). Both are counted in instance-seconds: a
//! job's waiting for one second is worth `kappa` of them.

use crate::learn::{Spike, float, waiting_factor};

/// Nodes and weights of Gauss-Hermite quadrature with seven points.
const NODES: [(f64, f64); 7] = [
    (-3.750_439_717_725_742_5, 5.482_688_559_722_18e-4),
    (-2.366_759_410_734_541, 0.030_757_123_967_586_49),
    (-1.154_405_394_739_968_2, 0.240_123_178_605_012_7),
    (0.0, 0.457_142_857_142_857_1),
    (1.154_405_394_739_968_2, 0.240_123_178_605_012_7),
    (2.366_759_410_734_541, 0.030_757_123_967_586_49),
    (3.750_439_717_725_742_5, 5.482_688_559_722_18e-4),
];

/// Steps before a launch would be ready.
const LEAD_STEPS_MAX: f64 = 12.0;

/// Steps in which a launch must prove itself at once.
const FIRST_STEPS: usize = 3;

/// Each step beyond is longer than the one before.
const STEP_GROWTH: f64 = 1.25;

/// A span of the future.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Its length, in seconds.
    pub(super) secs: f64,
    /// When it ends, in seconds from now.
    pub(super) ends: f64,
    /// The share of the jobs in hand that outlast it.
    stay: f64,
    /// The share of the jobs in hand now that are still there at its end.
    stay_all: f64,
    /// Slots that are ready in it if nothing is launched or let go.
    slots: f64,
}

/// What the future is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Premises<'a> {
    /// Jobs in the system now.
    pub(super) jobs: f64,
    /// Mean service time, in seconds.
    pub(super) service: f64,
    /// Variance of arrival counts by their mean.
    pub(super) dispersion: f64,
    /// Jobs an instance works on at a time.
    pub(super) slots: f64,
    /// Instances that take jobs.
    pub(super) ready: f64,
    /// Seconds until each booting instance is ready, ascending.
    pub(super) coming: &'a [f64],
    /// Seconds from a launch to the first job.
    pub(super) boot: f64,
    /// Seconds between two cycles.
    pub(super) interval: f64,
    /// What one job's waiting for one second is worth, in instance-seconds.
    pub(super) kappa: f64,
    /// A burst that is expected.
    pub(super) spike: Option<Spike>,
}

/// The best drain time of a backlog, `sqrt(2 D s / (kappa slots))` seconds:
/// more instances would cost more boots than they save waiting.
pub(super) fn drain_secs(premises: &Premises<'_>) -> f64 {
    let Premises {
        boot,
        service,
        kappa,
        slots,
        ..
    } = *premises;
    libm::sqrt(2.0 * boot * service / (kappa * slots).max(1e-9))
}

/// What an instance is worth: by the waiting it saves, and by the work it does
/// that another one must do otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Worth {
    pub(super) waiting: f64,
    pub(super) work: f64,
}

impl Worth {
    pub(super) fn all(self) -> f64 {
        self.waiting + self.work
    }

    /// How many times as dear waiting must be for this to come to `price`;
    /// `None` if no price of waiting does it.
    pub(super) fn factor_for(self, price: f64) -> Option<f64> {
        (self.waiting > 1e-12).then(|| (price - self.work) / self.waiting)
    }
}

/// What the launch of one instance more comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// What it is worth when it comes up, in prices.
    pub(super) at_first: Worth,
    /// What it has saved when it has paid best, in instance-seconds.
    pub(super) saved: Worth,
    /// What it was billed by then, in instance-seconds.
    pub(super) billed: f64,
}

impl Verdict {
    pub(super) fn is_worth_it(self) -> bool {
        self.at_first.all() >= 1.0 && self.pays()
    }

    /// Whether it earns back what it is billed.
    pub(super) fn pays(self) -> bool {
        self.saved.all() >= self.billed
    }

    /// About how many times as dear waiting must be for it to be worth it: the
    /// backlogs and the time in which it pays are taken to stay as they are.
    pub(super) fn factor(self) -> Option<f64> {
        let first = self.at_first.factor_for(1.0)?;
        Some(first.max(self.saved.factor_for(self.billed)?))
    }
}

/// The future under all scenarios.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    pub(super) steps: Vec<Step>,
    /// How many steps pass before a launch of now is ready.
    pub(super) lead: usize,
    premises: Fixed,
    /// Jobs a second, scenario by scenario.
    rates: Vec<f64>,
    /// Variance of the jobs in the system, likewise.
    variances: Vec<f64>,
    recourse: f64,
    /// The step in which a burst is expected, its jobs and its chance.
    spike: Option<(usize, f64, f64)>,
    /// Jobs at the beginning and at the end of each step.
    jobs: Vec<(f64, f64)>,
    /// What the instance in question is worth in each step.
    pub(super) worth: Vec<f64>,
    /// How much of that is work it does, whatever waiting is worth.
    pub(super) work: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Fixed {
    jobs: f64,
    backlog: f64,
    service: f64,
    dispersion: f64,
    slots: f64,
    kappa: f64,
}

impl Outlook {
    /// `rate` gives the mean jobs a second and the deviation of its logarithm
    /// so many seconds ahead.
    pub(super) fn new(premises: &Premises<'_>, rate: impl Fn(f64) -> (f64, f64)) -> Self {
        let service = premises.service;
        let drain = drain_secs(premises);
        let horizon = (1.5 * drain).clamp(600.0, 21_600.0);
        let (steps, lead) = steps(premises, horizon);
        let forecasts: Vec<(f64, f64)> = steps
            .iter()
            .map(|step| rate(step.ends - step.secs / 2.0))
            .collect();
        let count = steps.len() * NODES.len();
        let (mut rates, mut variances) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (node, _) in NODES {
            for (step, (mean, deviation)) in steps.iter().zip(&forecasts) {
                let odds = libm::exp(deviation * (node - 0.5 * deviation));
                let rate = mean * odds;
                let gone = 1.0 - step.stay_all;
                let old = premises.jobs * step.stay_all * gone;
                let new = rate * service * gone * f64::midpoint(1.0, premises.dispersion);
                rates.push(rate);
                variances.push(old + new);
            }
        }
        let backlog = (premises.jobs - premises.ready * premises.slots).max(0.0);
        let spike = premises.spike.and_then(|spike| {
            let step = steps.iter().position(|step| step.ends > spike.after)?;
            Some((step, spike.jobs, spike.chance))
        });
        Self {
            spike,
            jobs: vec![(0.0, 0.0); steps.len()],
            worth: vec![0.0; steps.len()],
            work: vec![0.0; steps.len()],
            steps,
            lead,
            premises: Fixed {
                jobs: premises.jobs,
                backlog,
                service,
                dispersion: premises.dispersion,
                slots: premises.slots,
                kappa: premises.kappa,
            },
            rates,
            variances,
            recourse: 0.5 * (premises.boot + drain),
        }
    }

    /// Fills [`Outlook::worth`] with what one instance more than `instances` is
    /// worth in each step from `from` on, if the fleet has at most `instances`
    /// in the steps from there, and what it has before.
    pub(super) fn value(&mut self, instances: f64, from: usize) {
        let Fixed {
            slots,
            backlog,
            service,
            ..
        } = self.premises;
        let capacity = instances * slots;
        self.worth.fill(0.0);
        self.work.fill(0.0);
        let recourse = self.recourse + backlog * service / (capacity.max(0.5 * slots));
        let count = self.steps.len();
        for (scenario, (_, weight)) in NODES.iter().enumerate() {
            let range = scenario * count..(scenario + 1) * count;
            let without = match self.spike {
                Some((step, jobs, chance)) => {
                    self.run(capacity, from, range.clone(), Some((step, jobs)));
                    self.weigh(capacity, from, range.clone(), weight * chance, recourse);
                    weight * (1.0 - chance)
                }
                None => *weight,
            };
            self.run(capacity, from, range.clone(), None);
            self.weigh(capacity, from, range, without, recourse);
        }
    }

    /// The jobs in the system in one scenario.
    fn run(
        &mut self,
        capacity: f64,
        from: usize,
        scenario: std::ops::Range<usize>,
        spike: Option<(usize, f64)>,
    ) {
        let service = self.premises.service;
        let mut jobs = self.premises.jobs;
        let rates = &self.rates[scenario];
        let all = self.steps.iter().zip(rates).zip(&mut self.jobs).enumerate();
        for (index, ((step, rate), noted)) in all {
            let slots = if from == 0 {
                step.slots.min(capacity)
            } else if index < from {
                step.slots
            } else {
                capacity
            };
            if let Some((at, burst)) = spike
                && at == index
            {
                jobs += burst;
            }
            let before = jobs;
            if jobs <= slots {
                jobs = jobs * step.stay + rate * service * (1.0 - step.stay);
            } else {
                let moved = jobs + rate * step.secs - slots * step.secs / service;
                jobs = moved.max(slots * step.stay);
            }
            *noted = (before, jobs);
        }
    }

    /// Adds what the instance is worth in that scenario.
    fn weigh(
        &mut self,
        capacity: f64,
        from: usize,
        scenario: std::ops::Range<usize>,
        weight: f64,
        recourse: f64,
    ) {
        let Fixed {
            service,
            slots,
            kappa,
            ..
        } = self.premises;
        let rates = &self.rates[scenario.clone()];
        let variances = &self.variances[scenario];
        let mut rest = 0.0;
        if let (Some(jobs), Some(rate)) = (self.jobs.last(), rates.last())
            && jobs.1 > capacity
        {
            let falls = capacity / service - rate;
            rest = if falls > 1e-9 {
                ((jobs.1 - capacity) / falls).min(recourse)
            } else {
                recourse
            };
        }
        let backlog = |excess: f64, rest: f64| {
            let used = excess.min(slots);
            (used * kappa * rest / service, used / slots)
        };
        for index in (from..self.steps.len()).rev() {
            let (start, end) = self.jobs[index];
            let secs = self.steps[index].secs;
            // The share of the step in which there is a backlog.
            let share = if end > capacity {
                1.0
            } else if start > capacity {
                let falls = (capacity / service - rates[index]).max(1e-9);
                ((start - capacity) / (falls * secs)).min(1.0)
            } else {
                0.0
            };
            let mut worth = 0.0;
            if share > 0.0 {
                let after = if end > capacity { rest } else { 0.0 };
                let excess = f64::midpoint(start.max(capacity), end.max(capacity)) - capacity;
                let middle = (after + 0.5 * share * secs).min(recourse);
                let (waiting, work) = backlog(excess, middle);
                worth += share * (waiting + work);
                self.work[index] += weight * share * work;
                rest = (after + share * secs).min(recourse);
            } else {
                rest = 0.0;
            }
            if share < 1.0 {
                let most = recourse * rates[index] * 0.5 + 1e-9;
                let variance = variances[index];
                let fewer = queue(capacity, end, variance).min(most);
                let more = queue(capacity + slots, end, variance).min(most);
                worth += (1.0 - share) * kappa * (fewer - more);
            }
            self.worth[index] += weight * worth;
        }
    }

    /// Up to which step each scenario's demand, were everybody served at once,
    /// has reached `jobs`: the chance of that by the end of each step.
    pub(super) fn chance_to_reach(&self, jobs: f64) -> Vec<f64> {
        let Fixed {
            jobs: now, service, ..
        } = self.premises;
        let count = self.steps.len();
        let mut chances = vec![0.0; count];
        for (scenario, (_, weight)) in NODES.iter().enumerate() {
            let rates = &self.rates[scenario * count..(scenario + 1) * count];
            let mut reached = false;
            for ((step, rate), chance) in self.steps.iter().zip(rates).zip(&mut chances) {
                let demand = now * step.stay_all + rate * service * (1.0 - step.stay_all);
                reached |= demand >= jobs;
                if reached {
                    *chance += weight;
                }
            }
        }
        if let Some((step, burst, chance)) = self.spike
            && burst >= jobs
        {
            for before in &mut chances[step..] {
                *before = before.max(chance);
            }
        }
        chances
    }

    /// The fewest jobs in the system with which the `instances`th instance is
    /// worth its price.
    pub(super) fn jobs_that_want(&self, instances: f64) -> f64 {
        let Fixed {
            service,
            dispersion,
            slots,
            kappa,
            ..
        } = self.premises;
        let spread = f64::midpoint(1.0, dispersion);
        let (fewer, more) = ((instances - 1.0) * slots, instances * slots);
        let (mut low, mut high) = (0.0, more);
        for _ in 0..24 {
            let jobs = f64::midpoint(low, high);
            let most = self.recourse * jobs / service * 0.5 + 1e-9;
            let saved = queue(fewer, jobs, spread * jobs).min(most)
                - queue(more, jobs, spread * jobs).min(most);
            if fewer > jobs && kappa * saved < 1.0 {
                low = jobs;
            } else {
                high = jobs;
            }
        }
        high
    }

    /// The mean of what the instance is worth in the first steps after a launch.
    pub(super) fn at_first(&self) -> Worth {
        let first = self.lead..self.lead + FIRST_STEPS;
        let mean = |steps: &[f64]| steps.iter().sum::<f64>() / float(FIRST_STEPS);
        let (all, work) = (mean(&self.worth[first.clone()]), mean(&self.work[first]));
        Worth {
            waiting: (all - work).max(0.0),
            work,
        }
    }
}

/// How many jobs wait on average if so many are in the system on average.
fn queue(slots: f64, jobs: f64, variance: f64) -> f64 {
    let free = slots - jobs;
    if free <= 0.0 {
        return 1e9;
    }
    if variance <= 1e-12 {
        return 0.0;
    }
    let deviation = libm::sqrt(variance);
    waiting_factor(free / deviation) * deviation
}

fn steps(premises: &Premises<'_>, horizon: f64) -> (Vec<Step>, usize) {
    let boot = premises.boot;
    let lead = (boot / 10.0).ceil().clamp(2.0, LEAD_STEPS_MAX);
    let mut lengths = Vec::with_capacity(64);
    let mut ends = 0.0;
    let lead_secs = boot / lead;
    while float(lengths.len()) < lead {
        lengths.push(lead_secs);
        ends += lead_secs;
    }
    let lead = lengths.len();
    let first = premises.interval.max(30.0) / float(FIRST_STEPS);
    for _ in 0..FIRST_STEPS {
        lengths.push(first);
        ends += first;
    }
    let mut length = first;
    while ends < boot + horizon && lengths.len() < 64 {
        length *= STEP_GROWTH;
        lengths.push(length);
        ends += length;
    }
    let mut steps = Vec::with_capacity(lengths.len());
    let mut ends = 0.0;
    for secs in lengths {
        ends += secs;
        let middle = ends - 0.5 * secs;
        let came = premises.coming.partition_point(|after| *after <= middle);
        steps.push(Step {
            secs,
            ends,
            stay: libm::exp(-secs / premises.service),
            stay_all: libm::exp(-ends / premises.service),
            slots: (premises.ready + float(came)) * premises.slots,
        });
    }
    (steps, lead)
}
