//! The decision: one inequality for launches, reserves and releases.

use std::fmt::Write as _;

use super::super::rounding::{self, text};
use super::budget::Allowance;
use super::outlook::{Outlook, Premises, Verdict, Worth as Saved};
use super::state::{Fleet, Jobs, State, jobs_at_least};
use super::window::Knobs;
use super::{Economic, Preset, Worth};
use crate::learn::{Level, Shortage, secs};
use crate::policy::{Opinion, View};
use crate::signal::Absence;
use crate::units::MicroUsdPerHour;

/// Fewer would do for this long before any is let go, in seconds: a single odd
/// sample is no lull.
const LEAN_SECS: f64 = 20.0;

/// The share of the measured error that is planned with.
const ERROR_SHARE: f64 = 0.7;

/// Errors grow with the square root of the lead, up to twice what they are for
/// a boot.
const ERROR_GROWTH_MAX: f64 = 4.0;

/// Waiting is worth at most this many instance-seconds a second.
const KAPPA_MAX: f64 = 1e6;

/// Everything one decision looks at.
pub(super) struct Plan<'a> {
    state: &'a State,
    view: &'a View<'a>,
    fleet: &'a Fleet,
    /// The most instances that are allowed.
    most: u32,
    outlook: Outlook,
    level: Option<Level>,
    jobs: Jobs,
    boot: f64,
    kappa: f64,
    /// Dollars per instance-second.
    price: f64,
    /// Jobs in the system by now, by the sample and what has happened since.
    jobs_now: f64,
}

/// Whether an instance stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Keep {
    /// Why it does; `None` if it is not worth it.
    why: Option<&'static str>,
    /// About how many times as dear waiting is where that changes; `None` if it
    /// does not hang on the worth of waiting.
    factor: Option<f64>,
}

impl Economic {
    /// Learns from a cycle, and says what it asks for.
    pub(crate) fn decide(&self, state: &mut State, view: &View<'_>, fleet: &Fleet) -> Opinion {
        let knobs = self.knobs_at(view.now);
        state.learn(self, &knobs, view, fleet);
        let mut opinion = self.judge(state, &knobs, view, fleet);
        opinion.why.push_str(&knobs.clauses(self));
        opinion
    }

    fn judge(
        &self,
        state: &mut State,
        knobs: &Knobs<'_>,
        view: &View<'_>,
        fleet: &Fleet,
    ) -> Opinion {
        let kappa = kappa(knobs, state, fleet);
        let missing = self
            .demands()
            .into_iter()
            .find_map(|demand| Some((demand.signal, view.sample(demand.signal).err()?)));
        let Some(jobs) = jobs_at_least(self, view) else {
            let (signal, absence) = missing.unwrap_or((&self.signal, Absence::NoData));
            return Opinion::abstain(signal, absence);
        };
        let allowance = state.allow(self, knobs.budget, view, fleet, jobs, kappa);
        let mut plan = Plan::new(state, view, fleet, jobs, &allowance);
        let grown = plan.grow();
        if let Some((signal, absence)) = missing {
            // What is known may be worth launches; nothing may be let go.
            return match grown {
                Some(Opinion { wish, why }) => Opinion {
                    wish,
                    why: format!("{why}; `{signal}` is absent ({absence})"),
                },
                None => Opinion::abstain(signal, absence),
            };
        }
        let (mut opinion, lean) = match grown {
            Some(opinion) => (opinion, false),
            None => plan.keep_or_shrink(),
        };
        if let Some(why) = allowance.why {
            let _ = write!(opinion.why, "; {why}");
        }
        state.lean_since = match (lean, state.lean_since) {
            (false, _) => None,
            (true, since) => since.or(Some(view.now)),
        };
        opinion
    }
}

/// What one job's waiting for one second is worth, in instance-seconds.
fn kappa(knobs: &Knobs<'_>, state: &State, fleet: &Fleet) -> f64 {
    let waiting = match knobs.worth {
        Worth::P95(_) => return state.promised(knobs.window),
        Worth::Preset(preset) => return preset.kappa(),
        Worth::Objective if fleet.waiting == MicroUsdPerHour::ZERO => {
            return Preset::Balanced.kappa();
        }
        Worth::Objective => fleet.waiting,
        Worth::Usd(price) => price,
    };
    (micro_usd(waiting) / micro_usd(fleet.price).max(1.0)).min(KAPPA_MAX)
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        state: &'a State,
        view: &'a View<'a>,
        fleet: &'a Fleet,
        jobs: Jobs,
        allowed: &Allowance,
    ) -> Self {
        let kappa = allowed.kappa;
        let boot = state.boots.planned();
        let service = state.service.mean();
        let dispersion = state.arrivals.dispersion();
        let price = micro_usd(fleet.price).max(1.0);
        let slots = f64::from(view.slots.max(1));
        let ready = f64::from(view.ready);
        let season = state.trusted_season();
        let level = state.arrivals.level(season);
        // Before arrivals were counted: what is in hand came at some rate.
        let ratio = level.map_or(jobs.running / service, |level| level.ratio);
        let rate_at = |ahead: f64| {
            let at = view.now + std::time::Duration::from_secs_f64(ahead.max(0.0));
            let season = level.and(season).and_then(|season| season.rate(at));
            ratio * season.unwrap_or(1.0)
        };
        let behind = secs(view.now.since(jobs.at)).min(600.0);
        let jobs_now = moved(jobs.all(), rate_at(0.0), service, ready * slots, behind);
        let mut coming: Vec<f64> = fleet
            .booting
            .iter()
            .map(|age| state.boots.remaining(secs(*age)))
            .collect();
        coming.sort_by(f64::total_cmp);
        let premises = Premises {
            jobs: jobs_now,
            service,
            dispersion,
            slots,
            ready,
            coming: &coming,
            boot,
            interval: secs(fleet.interval),
            kappa,
            spike: state.spikes.next(view.now, boot + 120.0),
        };
        let counted = level.map_or(jobs.running, |level| level.count);
        let chance = ERROR_SHARE * dispersion / (counted + 1.0);
        let error = ERROR_SHARE * state.skill.error();
        let outlook = Outlook::new(&premises, |ahead| {
            let growth = ((ahead + 10.0) / (boot + 30.0)).min(ERROR_GROWTH_MAX);
            (rate_at(ahead), libm::sqrt(chance.max(error * growth)))
        });
        Self {
            state,
            view,
            fleet,
            most: allowed.most,
            outlook,
            level,
            jobs,
            boot,
            kappa,
            price: price / 3.6e9,
            jobs_now,
        }
    }

    /// What one instance more than `instances` comes to if launched now.
    pub(super) fn launch(&mut self, instances: u32) -> Verdict {
        let lead = self.outlook.lead;
        self.outlook.value(f64::from(instances), lead);
        let mut best = Verdict {
            at_first: self.outlook.at_first(),
            saved: Saved::default(),
            billed: f64::INFINITY,
        };
        let (mut saved, mut net) = (Saved::default(), f64::NEG_INFINITY);
        let Outlook {
            steps, worth, work, ..
        } = &self.outlook;
        for ((step, worth), work) in steps.iter().zip(worth).zip(work).skip(lead) {
            saved.waiting += (worth - work) * step.secs;
            saved.work += work * step.secs;
            let billed = self.billed(step.ends);
            if saved.all() - billed > net {
                net = saved.all() - billed;
                best.saved = saved;
                best.billed = billed;
            }
        }
        best
    }

    /// What an instance is billed for `age` seconds, in seconds.
    fn billed(&self, age: f64) -> f64 {
        let increment = secs(self.fleet.billing.increment).max(1e-3);
        let charged = if increment <= 1.0 {
            age
        } else {
            (age / increment).ceil() * increment
        };
        charged.max(secs(self.fleet.billing.minimum))
    }

    /// The launches that are worth it; `None` if none is.
    fn grow(&mut self) -> Option<Opinion> {
        let current = self.view.current;
        let first = self.launch(current);
        if !first.is_worth_it() || current >= self.most {
            return None;
        }
        // Invariant: `sure` more are worth it, `over` more are not.
        let (mut sure, mut over) = (1_u32, 2_u32);
        let most = self.most - current;
        let mut last = first;
        let mut next;
        loop {
            if over > most {
                over = most + 1;
                next = None;
                break;
            }
            let verdict = self.launch(current + over - 1);
            if !verdict.is_worth_it() {
                next = Some(verdict);
                break;
            }
            (sure, last) = (over, verdict);
            over = over.saturating_mul(2);
        }
        while over - sure > 1 {
            let middle = u32::midpoint(sure, over);
            let verdict = self.launch(current + middle - 1);
            if verdict.is_worth_it() {
                (sure, last) = (middle, verdict);
            } else {
                (over, next) = (middle, Some(verdict));
            }
        }
        let why = self.why_launch(sure, last, next);
        Some(Opinion::instances(current + sure, why))
    }

    /// Keeps what is worth keeping. Tells, too, whether fewer would do.
    fn keep_or_shrink(&mut self) -> (Opinion, bool) {
        let current = self.view.current;
        if current > self.most && self.fleet.max >= current {
            let over = current - self.most;
            // Whose hour is paid saves nothing by going.
            let count = (0..over)
                .take_while(|gone| self.paid_left(*gone) <= 0.0)
                .count();
            let count = u32::try_from(count).unwrap_or(over);
            let why = format!("releasing {count}: {}", self.situation());
            return (Opinion::instances(current - count, why), false);
        }
        let most = self.releasable();
        let (released, flip, stays) = self.first_to_stay(most);
        let mut kept = stays.why.unwrap_or("it has a job").to_owned();
        if let Some(factor) = stays.factor.filter(|factor| (0.0..1.0).contains(factor)) {
            let worth = self.worth_of(factor);
            let _ = write!(
                kept,
                " (while a job-hour of waiting is worth more than {worth})"
            );
        }
        if released == 0 {
            let why = self.why_hold(&kept);
            return (Opinion::instances(current, why), false);
        }
        let since = self.state.lean_since.unwrap_or(self.view.now);
        let waited = secs(self.view.now.since(since));
        let slow = secs(self.fleet.interval) > LEAN_SECS && !self.is_outdated();
        if waited < LEAN_SECS && !slow {
            let why = self.why_hold("it is to be seen whether the lull lasts");
            return (Opinion::instances(current, why), true);
        }
        let why = self.why_release(released, flip, &kept);
        (Opinion::instances(current - released, why), true)
    }

    /// Whether the readings are from before the last launch: they show what led
    /// to it, or what came before that, and nothing of what became of it.
    fn is_outdated(&self) -> bool {
        let age = self.view.now.since(self.jobs.at);
        self.fleet.booting.iter().any(|since| *since <= age)
    }

    /// How many may be let go without taking one from a job.
    fn releasable(&self) -> u32 {
        let slots = f64::from(self.view.slots.max(1));
        let ready = f64::from(self.view.ready);
        if self.jobs_now > ready * slots {
            return 0;
        }
        let spare = rounding::down((ready * slots - self.jobs_now) / slots);
        let idle = match self.fleet.idle {
            Some(idle) if self.view.slots <= 1 => idle,
            Some(idle) => idle.max(spare),
            None => spare,
        };
        let booting = self.view.current.saturating_sub(self.view.ready);
        idle.min(self.view.ready).saturating_add(booting)
    }

    /// How many of `most` go before the first one that stays, at how many times
    /// the worth of waiting one fewer would go, and why the next one stays.
    ///
    /// The more are gone the more the next one is worth, so that is searched by
    /// doubling and halving; what is paid for or comes back is looked up.
    fn first_to_stay(&mut self, most: u32) -> (u32, Option<f64>, Keep) {
        let (mut over, why) = self.first_known_to_stay(most);
        let mut stays = Keep { why, factor: None };
        // Invariant: the first `sure` go, and the one after `over` others stays.
        let (mut sure, mut flip) = (0, None);
        let (mut next, mut found) = (0, false);
        while sure < over {
            let verdict = self.keep(self.view.current - next);
            if verdict.why.is_some() {
                (over, stays, found) = (next, verdict, true);
            } else {
                (sure, flip) = (next + 1, verdict.factor);
            }
            next = if found {
                u32::midpoint(sure, over)
            } else {
                next.saturating_mul(2).clamp(sure, over.max(sure + 1) - 1)
            };
        }
        let is_paid = self.paid_left(over) > 0.0;
        if !found && over < most && !is_paid {
            // It may be worth its price as well, which says more.
            let verdict = self.keep(self.view.current - over);
            if verdict.why.is_some() {
                stays = verdict;
            }
        }
        (over, flip, stays)
    }

    /// How many of `most` go before one that stays whatever it is worth to come,
    /// and why it does.
    fn first_known_to_stay(&self, most: u32) -> (u32, Option<&'static str>) {
        let relaunch = self.billed(self.boot);
        let holds = &self.state.holds;
        let (mut level, mut comes_back) = (None, false);
        for gone in 0..most {
            if self.paid_left(gone) > 0.0 {
                return (gone, Some("it is paid for already"));
            }
            let instance = self.view.current - gone;
            let own = Some(holds.level_of(instance));
            if level != own {
                (level, comes_back) = (own, self.comes_back(instance, relaunch));
            }
            if comes_back {
                return (gone, Some("demand for it has mostly come back by now"));
            }
        }
        (most, None)
    }

    /// Whether the `instance`th instance is worth keeping.
    fn keep(&mut self, instance: u32) -> Keep {
        self.outlook.value(f64::from(instance) - 1.0, 0);
        let wanted = self.outlook.jobs_that_want(f64::from(instance));
        let chances = self.outlook.chance_to_reach(wanted);
        let relaunch = self.billed(self.boot);
        let mut keep = Keep::default();
        let mut saved = Saved::default();
        let Outlook {
            steps, worth, work, ..
        } = &self.outlook;
        let all = steps.iter().zip(worth).zip(work).zip(&chances);
        for (index, (((step, worth), work), chance)) in all.enumerate() {
            saved.waiting += (worth - work) * step.secs;
            saved.work += work * step.secs;
            if index == 0 {
                continue;
            }
            let billed = self.billed_more(step.ends);
            let spared = relaunch * chance;
            if keep.why.is_none() && saved.all() > billed {
                keep.why = Some("the waiting it saves is worth its price");
            } else if keep.why.is_none() && saved.all() + spared > billed {
                keep.why = Some("it is likely to be needed again before a new one has paid");
            }
            if let Some(factor) = saved.factor_for(billed - spared) {
                keep.factor = Some(keep.factor.map_or(factor, |least| least.min(factor)));
            }
        }
        keep
    }

    /// Whether demand for the `instance`th has been away for less than pays.
    fn comes_back(&self, instance: u32, relaunch: f64) -> bool {
        let shortage = Shortage {
            kappa: self.kappa,
            slots: f64::from(self.view.slots.max(1)),
            launch: relaunch,
        };
        let holds = &self.state.holds;
        let hold = holds.hold_secs(instance, shortage);
        let away = holds.away_secs(instance, self.view.now);
        hold.zip(away).is_some_and(|(hold, away)| away < hold)
    }

    /// For how many seconds the one that is let go after `released` others is
    /// paid for beyond the next cycle.
    fn paid_left(&self, released: u32) -> f64 {
        let index = usize::try_from(released).unwrap_or(usize::MAX);
        let left = self.fleet.paid_left.get(index).copied().map_or(0.0, secs);
        let margin = 1.5 * secs(self.fleet.interval) + 15.0;
        (left - margin).max(0.0)
    }

    /// What keeping it for `more` seconds is billed, in seconds.
    fn billed_more(&self, more: f64) -> f64 {
        let increment = secs(self.fleet.billing.increment).max(1e-3);
        if increment <= 1.0 {
            return more;
        }
        (more / increment).ceil() * increment
    }

    fn dollars(&self, instance_secs: f64) -> String {
        let usd = instance_secs * self.price;
        if usd >= 100.0 {
            format!("${usd:.0}")
        } else if usd >= 1.0 {
            format!("${usd:.2}")
        } else {
            format!("${usd:.5}")
        }
    }

    /// What is there, in one clause.
    fn situation(&self) -> String {
        let booting = self.view.current.saturating_sub(self.view.ready);
        let mut clause = format!(
            "{} waiting, {} running, {} of {} ready",
            text(self.jobs.waiting),
            text(self.jobs.running),
            self.view.ready,
            self.view.ready + booting,
        );
        if let Some(level) = self.level {
            let rate = if self.state.trusted_season().is_some() {
                format!(
                    "{:.2} times the season over the last {:.0} s",
                    level.ratio, level.window_secs
                )
            } else {
                format!(
                    "{} a second over the last {:.0} s",
                    text((level.ratio * 1_000.0).round() / 1_000.0),
                    level.window_secs
                )
            };
            let _ = write!(clause, ", arrivals {rate}");
        }
        clause
    }

    fn why_launch(&self, count: u32, last: Verdict, next: Option<Verdict>) -> String {
        let each = match count {
            1 => "it saves".to_owned(),
            _ => format!("each of the {count} saves at least"),
        };
        let mut why = format!(
            "launching {count}: {}; {each} {}",
            self.situation(),
            self.balance(last),
        );
        match next {
            Some(next) => {
                let refusal = self.refusal(next);
                let _ = write!(why, "; the {} would {refusal}", ordinal(count + 1));
            }
            None => why.push_str("; more than that are not allowed"),
        }
        why
    }

    /// What one saves, and what for.
    fn balance(&self, verdict: Verdict) -> String {
        let Saved { waiting, work } = verdict.saved;
        let waiting = self.dollars(waiting);
        let billed = self.dollars(verdict.billed);
        if work * self.price < 5e-6 {
            return format!("{waiting} of waiting for {billed}");
        }
        let work = self.dollars(work);
        format!("{waiting} of waiting and {work} of others' work for {billed}")
    }

    /// Why one more is not launched, and what waiting would have to be worth.
    fn refusal(&self, next: Verdict) -> String {
        let mut tests = Vec::new();
        if !next.pays() {
            tests.push(format!("save {}", self.balance(next)));
        }
        let first = next.at_first.all();
        if first < 1.0 || tests.is_empty() {
            let percent = 100.0 * first;
            tests.push(format!(
                "be worth {percent:.0} % of its price when it came up"
            ));
        }
        let mut refusal = tests.join(" and ");
        if let Some(factor) = next.factor()
            && factor > 1.0
            && self.kappa * factor <= KAPPA_MAX
        {
            let _ = write!(
                refusal,
                " (not before a job-hour of waiting is worth {})",
                self.worth_of(factor)
            );
        }
        refusal
    }

    /// `factor` times what an hour of waiting is worth, beside that.
    fn worth_of(&self, factor: f64) -> String {
        let hour = 3_600.0 * self.kappa;
        let other = self.dollars(hour * factor);
        format!("about {other} instead of {}", self.dollars(hour))
    }

    fn why_hold(&mut self, kept: &str) -> String {
        let next = self.launch(self.view.current);
        let situation = self.situation();
        let more = if self.view.current >= self.most {
            "more are not allowed".to_owned()
        } else {
            format!("one more would {}", self.refusal(next))
        };
        if self.view.current == 0 {
            return format!("holding 0: {situation}; {more}");
        }
        format!("holding: {situation}; {more}; the last stays because {kept}")
    }

    fn why_release(&self, count: u32, flip: Option<f64>, kept: &str) -> String {
        let mut why = format!(
            "releasing {count}: {}; none of them is worth its price",
            self.situation()
        );
        if let Some(factor) =
            flip.filter(|factor| *factor > 1.0 && self.kappa * factor <= KAPPA_MAX)
        {
            let _ = write!(
                why,
                " (one would stay if a job-hour of waiting were worth {})",
                self.worth_of(factor)
            );
        }
        if self.view.current > count {
            let _ = write!(why, "; the next stays because {kept}");
        }
        why
    }
}

/// Jobs in the system after `span` seconds with `slots` slots.
fn moved(jobs: f64, rate: f64, service: f64, slots: f64, span: f64) -> f64 {
    if span <= 0.0 {
        return jobs;
    }
    if jobs > slots {
        let after = jobs + rate * span - slots * span / service;
        if after >= slots {
            return after;
        }
    }
    let stay = libm::exp(-span / service);
    jobs.min(slots.max(0.0)).max(0.0) * stay + rate * service * (1.0 - stay)
}

/// Micro-dollars an hour, as a number; exact up to four billion dollars.
pub(super) fn micro_usd(price: MicroUsdPerHour) -> f64 {
    let micros = price.get();
    let high = u32::try_from(micros >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(micros & u64::from(u32::MAX)).unwrap_or(0);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// `1st`, `2nd`, `3rd`, `4th` and so on.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
