//! What a fleet's controller remembers from cycle to cycle.
//!
//! It is small, plain data: what was asked of the provider and has not shown
//! up in a listing yet, which instances are being let go, and the few counts
//! that the governor needs. It changes in three places only, each of which can
//! be repeated from the store's records, so that a crash loses none of it:
//! [`Memory::look`] takes in a listing, [`Memory::plan`] what was decided, and
//! [`Memory::settle`] an outcome.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decide;
use crate::ledger::{Ledger, Span};
use crate::model::{
    Action, Decision, Epoch, FleetError, Instance, InstanceId, LaunchToken, Observation, Outcome,
    Phase, Work, is_default,
};
use crate::policy::{Recall, Since};
use crate::ports::Record;
use crate::spec::FleetSpec;
use crate::standing::Standing;
use crate::units::Timestamp;
use look::find;

/// The span over which ended instances are counted against the share that may
/// be ended.
const ENDED_WINDOW: Duration = Duration::from_hours(1);

/// Everything that is remembered of one fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The store's identity, part of every launch token.
    pub store: String,
    /// Which start of the daemon this is.
    pub epoch: Epoch,
    /// Cycles decided so far, over all starts.
    pub cycle: u64,
    /// Complete listings in a row since the start, none of which lost an
    /// instance that the one before had and that was not ending. Counted only
    /// while it matters.
    pub corroborated: u32,
    /// What the last listing showed while corroborating; empty afterwards.
    pub corroborating: BTreeSet<InstanceId>,
    /// Launches that some listing must still confirm.
    pub launches: BTreeMap<LaunchToken, Launch>,
    /// Instances being let go.
    pub drains: BTreeMap<InstanceId, Draining>,
    /// Instances that are ending but may still be listed, and since when.
    pub ended: BTreeMap<InstanceId, Timestamp>,
    /// Listed instances that have not become ready yet, and whether that is
    /// held against the launches already.
    pub unready: BTreeMap<InstanceId, bool>,
    /// Launched instances that failed to become ready since the last one that did.
    pub fruitless: u32,
    /// When instances were last launched.
    pub grown_at: Option<Timestamp>,
    /// When instances were last let go.
    pub shrunk_at: Option<Timestamp>,
    /// How many instances were ended when, within the last hour.
    pub ends: Vec<Ended>,
    /// How reliably offerings are granted and kept, by name; only those that
    /// refused something or took it back of late, and are still sold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub standings: BTreeMap<String, Standing>,
    /// Listed instances with a notice, and since when it is acted on: `None` for
    /// a rebalance that is ignored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub noticed: BTreeMap<InstanceId, Option<Timestamp>>,
    /// Listed instances whose interruption has been held against their offering.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupted: BTreeSet<InstanceId>,
    /// Listed instances that another store launched, if such are to be ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strays: BTreeMap<InstanceId, Stray>,
    /// When this store first saw a complete listing: what was launched before
    /// belongs to the fleet, whoever launched it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub first_look: Option<Timestamp>,
    /// What the fleet has cost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ledger: Ledger,
    /// What policies remember, by their names; only those that do.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "crate::policy::recall::lenient"
    )]
    pub recalls: BTreeMap<String, Recall>,
    /// Since when ready instances are ready and idle, if a policy follows that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lives: BTreeMap<InstanceId, Since>,
    /// What the last decision was to bring the fleet to, if a policy remembers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Option<u32>,
}

/// An instance that another store launched after this one first looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// When it was first seen.
    pub since: Timestamp,
    /// In how many complete listings in a row it was, after the fleet was observed.
    pub listings: u32,
}

impl Stray {
    /// Whether it was there often and long enough to be let go.
    pub fn confirmed(&self, spec: &FleetSpec, now: Timestamp) -> bool {
        let needed = spec.limits.strays_confirmations;
        let span = spec.interval.saturating_mul(needed.saturating_sub(1));
        self.listings >= needed && now.since(self.since) >= span
    }
}

/// One launch that listings have not fully confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// What was asked for, by offering name.
    pub offering: String,
    /// How many instances it stands for: asked for, or granted once known.
    pub count: u32,
    /// When it was last asked for.
    pub at: Timestamp,
    /// Whether the provider has answered.
    pub answer: Answer,
    /// Which of its instances have been listed. EC2 may list them one by one.
    pub seen: BTreeSet<InstanceId>,
}

impl Launch {
    /// How many of its instances no listing has shown yet.
    pub fn unlisted(&self) -> u32 {
        let seen = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        self.count.saturating_sub(seen)
    }
}

/// What is known of the answer to a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Asked this many times without an answer: it may have happened.
    Awaited {
        /// Times it was asked, at least 1.
        asked: u32,
    },
    /// The provider granted it.
    Given,
}

/// Why and how far an instance is on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// When it was first told to take no new jobs.
    pub since: Timestamp,
    /// When it confirmed; `None` until then.
    pub fenced_at: Option<Timestamp>,
    /// Whether it is let go because it never became ready.
    pub boot_failed: bool,
    /// What else it is let go for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cause: Cause,
    /// What it is and when it was launched, for the ledger; `None` in records of
    /// versions that kept none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bought: Option<Bought>,
}

/// Why an instance is let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The fleet shrinks, or it never became ready.
    #[default]
    Shrink,
    /// The provider takes it back, or is likely to.
    Notice,
    /// Another store launched it.
    Stray,
}

/// What an instance was bought as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bought {
    /// By name.
    pub offering: String,
    /// When its launch was asked for.
    pub at: Timestamp,
}

/// Instances ended at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub count: u32,
}

impl Memory {
    /// The memory of a fleet that was never controlled before.
    pub fn new(store: &str, epoch: Epoch) -> Self {
        Self {
            store: store.to_owned(),
            epoch,
            ..Self::default()
        }
    }

    /// The memory after a restart: what `tail` ([`crate::ports::Store::tail`])
    /// says was remembered, and done since, under the new `epoch`.
    pub fn rebuild(spec: &FleetSpec, store: &str, epoch: Epoch, tail: &[Record]) -> Self {
        let mut memory = Self::new(store, epoch);
        let mut decided_at = Timestamp::EPOCH;
        for record in tail {
            match record {
                Record::Decided(decided) => {
                    memory = decided.memory.clone();
                    memory.look(spec, &decided.seen);
                    memory.plan(&decided.decision, &decided.seen);
                    decided_at = decided.decision.at;
                }
                // It may have been sent.
                Record::Planned {
                    action:
                        Action::Launch {
                            token,
                            offering,
                            count,
                        },
                    ..
                } => memory.plan_launch(decided_at, token, offering, *count),
                // Its first half, the fence, is remembered; the receipt is made anew.
                Record::Planned { .. } => {}
                Record::Acted {
                    at,
                    action,
                    outcome,
                    ..
                } => memory.settle(*at, action, outcome),
            }
        }
        store.clone_into(&mut memory.store);
        memory.epoch = epoch;
        memory.corroborated = 0;
        memory.corroborating.clear();
        memory
    }

    /// Takes in what was seen. Without a complete listing nothing is learnt.
    pub fn look(&mut self, spec: &FleetSpec, seen: &Observation) {
        let limits = &spec.limits;
        let listing = match &seen.fleet {
            Ok(listing) if listing.complete => listing,
            Ok(_) | Err(_) => {
                if self.corroborated < limits.observe_cycles {
                    self.corroborated = 0;
                }
                return;
            }
        };
        self.first_look.get_or_insert(seen.now);
        self.corroborate(limits, listing);
        self.heed_notices(spec, seen.now, listing);
        self.hold_against_offerings(seen.now, listing);
        let came_up = self.came_up(listing);
        self.confirm_launches(limits, seen.now, listing);
        self.judge_boots(limits, seen.now, listing);
        self.adopt_fenced(seen.now, listing);
        self.watch_strays(spec, seen.now, listing);
        self.forget(spec, seen.now, listing);
        let (ended, unready) = (&self.ended, &self.unready);
        let alive = listing.instances.iter().filter(|instance| {
            instance.phase != Phase::Ending && !ended.contains_key(&instance.id)
        });
        let alive = alive.map(|instance| {
            let failed = unready.get(&instance.id).is_some_and(|failed| *failed);
            (instance, failed)
        });
        self.ledger.charge(spec, &seen.prices, seen.now, alive);
        decide::consider(spec, self, seen, listing, came_up);
    }

    /// Takes in what was decided: launches count from now on, whatever the
    /// answer will be. `seen` is what the decision was made of.
    pub fn plan(&mut self, decision: &Decision, seen: &Observation) {
        self.cycle = decision.cycle;
        if !self.recalls.is_empty() {
            self.target = decision.target.or(self.target);
        }
        for action in &decision.actions {
            match action {
                Action::Launch {
                    token,
                    offering,
                    count,
                } => self.plan_launch(decision.at, token, offering, *count),
                Action::Fence { instance } => {
                    let listing = seen.fleet.as_ref().ok();
                    let shown = listing.and_then(|listing| find(listing, instance));
                    self.plan_fence(decision.at, instance, shown);
                }
                Action::Unfence { instance } => {
                    // Whatever comes of it, the old confirmation is worth
                    // nothing from here on: the worker may have a job again.
                    if let Some(drain) = self.drains.get_mut(instance) {
                        drain.fenced_at = None;
                    }
                }
                Action::Terminate { .. } => {}
            }
        }
    }

    /// Takes in that a launch is about to be asked for at `at`.
    pub(crate) fn plan_launch(
        &mut self,
        at: Timestamp,
        token: &LaunchToken,
        offering: &str,
        count: u32,
    ) {
        let launch = self
            .launches
            .entry(token.clone())
            .or_insert_with(|| Launch {
                offering: offering.to_owned(),
                count,
                at,
                answer: Answer::Awaited { asked: 0 },
                seen: BTreeSet::new(),
            });
        launch.at = at;
        if let Answer::Awaited { asked } = &mut launch.answer {
            *asked = asked.saturating_add(1);
        }
    }

    fn plan_fence(&mut self, at: Timestamp, instance: &InstanceId, shown: Option<&Instance>) {
        if self.drains.contains_key(instance) {
            return;
        }
        let boot_failed = self.unready.get(instance).copied().unwrap_or(false);
        let cause = if self.acts_on_notice(instance) {
            Cause::Notice
        } else if self.strays.contains_key(instance) {
            Cause::Stray
        } else {
            Cause::Shrink
        };
        if !boot_failed && cause != Cause::Notice {
            self.shrunk_at = Some(at);
        }
        let draining = Draining {
            since: at,
            fenced_at: None,
            boot_failed,
            cause,
            bought: shown.map(bought),
        };
        self.drains.insert(instance.clone(), draining);
    }

    /// Takes in how an action came out.
    pub fn settle(&mut self, at: Timestamp, action: &Action, outcome: &Outcome) {
        if let Outcome::Rehearsed = outcome {
            // Nothing was done about it, so the fleet is not on its way there.
            self.target = None;
        }
        match action {
            Action::Launch { token, .. } => self.settle_launch(at, token, outcome),
            Action::Fence { instance } => match outcome {
                Outcome::Fenced { .. } => {
                    if let Some(drain) = self.drains.get_mut(instance) {
                        drain.fenced_at.get_or_insert(at);
                    }
                }
                Outcome::Failed(FleetError::NotFound) => self.gone(at, instance),
                Outcome::Rehearsed => {
                    self.drains.remove(instance);
                }
                // Asked again as long as it is wanted.
                _ => {}
            },
            Action::Unfence { instance } => match outcome {
                Outcome::Unfenced => {
                    self.drains.remove(instance);
                }
                Outcome::Failed(FleetError::NotFound) => self.gone(at, instance),
                // It stays on its way out, and may be rescued in the next cycle.
                _ => {}
            },
            Action::Terminate { instance, .. } => match outcome {
                Outcome::Terminated | Outcome::Failed(FleetError::NotFound) => {
                    let drain = self.drains.get(instance);
                    let cause = drain.map(|drain| drain.cause).unwrap_or_default();
                    if let Some(bought) = drain.and_then(|drain| drain.bought.clone()) {
                        self.ledger.note_ended(Span {
                            offering: bought.offering,
                            from: bought.at,
                            to: at,
                        });
                    }
                    self.gone(at, instance);
                    if cause == Cause::Notice {
                        return;
                    }
                    match self.ends.last_mut() {
                        Some(last) if last.at == at => last.count = last.count.saturating_add(1),
                        _ => self.ends.push(Ended { at, count: 1 }),
                    }
                }
                // Also when the answer was lost: ending it again is harmless,
                // taking it for gone is not.
                _ => {}
            },
        }
    }

    /// The provider says that `instance` is no more, whatever a listing that is
    /// older than that may still show.
    fn gone(&mut self, at: Timestamp, instance: &InstanceId) {
        self.drains.remove(instance);
        self.unready.remove(instance);
        self.ended.insert(instance.clone(), at);
    }

    /// Instances launched that no listing has shown yet.
    pub fn unlisted(&self) -> u32 {
        self.launches
            .values()
            .fold(0, |sum, launch| sum.saturating_add(launch.unlisted()))
    }

    /// Those of them whose launch has no answer: there may be no such instances.
    pub fn unanswered(&self) -> u32 {
        let awaited = self
            .launches
            .values()
            .filter(|launch| launch.answer != Answer::Given);
        awaited.fold(0, |sum, launch| sum.saturating_add(launch.unlisted()))
    }

    /// Instances ended within the hour before `now`.
    pub fn ended_within_hour(&self, now: Timestamp) -> u32 {
        self.ends
            .iter()
            .filter(|ended| now.since(ended.at) < ENDED_WINDOW)
            .fold(0, |sum, ended| sum.saturating_add(ended.count))
    }

    fn settle_launch(&mut self, at: Timestamp, token: &LaunchToken, outcome: &Outcome) {
        let Some(launch) = self.launches.get_mut(token) else {
            return;
        };
        let (offering, asked) = (launch.offering.clone(), launch.count);
        let first = launch.answer == (Answer::Awaited { asked: 1 });
        match outcome {
            Outcome::Launched { .. } | Outcome::Granted { .. } => {
                let granted = outcome.granted().unwrap_or(0);
                if launch.answer != Answer::Given {
                    self.learn(at, &offering, asked, granted);
                }
                let Some(launch) = self.launches.get_mut(token) else {
                    return;
                };
                launch.answer = Answer::Given;
                launch.count = granted;
                self.grown_at = Some(at);
            }
            // It may have happened: it counts until a listing says otherwise.
            Outcome::Failed(FleetError::Unknown(_)) => self.grown_at = Some(at),
            Outcome::Failed(error) => {
                // The failure is certain only for this asking. If an earlier
                // answer was lost, the launch may have happened then.
                if first {
                    self.launches.remove(token);
                    if is_refusal(error) {
                        self.learn(at, &offering, asked, 0);
                    }
                }
            }
            Outcome::Rehearsed => {
                self.launches.remove(token);
            }
            Outcome::Fenced { .. } | Outcome::Unfenced | Outcome::Terminated => {}
        }
    }

    /// Takes in that of `asked` instances of `offering` `granted` were granted.
    fn learn(&mut self, at: Timestamp, offering: &str, asked: u32, granted: u32) {
        if let Some(standing) = self.standings.get_mut(offering) {
            standing.learn(at, asked, granted);
        } else if granted < asked {
            let mut standing = Standing::unknown(at);
            standing.learn(at, asked, granted);
            self.standings.insert(offering.to_owned(), standing);
        }
    }

    /// Whether the notice that `instance` has is acted on.
    pub(crate) fn acts_on_notice(&self, instance: &InstanceId) -> bool {
        self.noticed.get(instance).copied().flatten().is_some()
    }
}

fn bought(instance: &Instance) -> Bought {
    Bought {
        offering: instance.offering.clone(),
        at: instance.launched_at,
    }
}

/// Whether an error says something of the offering, and not of the moment.
pub(crate) fn is_refusal(error: &FleetError) -> bool {
    match error {
        FleetError::NoCapacity
        | FleetError::LimitReached(_)
        | FleetError::NotPermitted(_)
        | FleetError::Rejected(_) => true,
        FleetError::Throttled
        | FleetError::Held(_)
        | FleetError::Unreachable(_)
        | FleetError::NotFound
        | FleetError::StaleEpoch
        | FleetError::Unknown(_) => false,
    }
}

/// Whether a worker may be ended without losing a job.
pub(crate) fn surely_idle(work: Work) -> bool {
    match work {
        Work::Idle => true,
        Work::Busy | Work::Unknown => false,
    }
}
