//! What a fleet's controller remembers from cycle to cycle.
//!
//! It is small, plain data: what was asked of the provider and has not shown
//! up in a listing yet, which instances are being let go, and the few counts
//! that the governor needs. It changes in three places only, each of which can
//! be repeated from the store's records, so that a crash loses none of it:
//! [`Memory::look`] takes in a listing, [`Memory::plan`] what was decided, and
//! [`Memory::settle`] an outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    Action, Decision, Epoch, FleetError, InstanceId, LaunchToken, Listing, Observation, Outcome,
    Phase, Work,
};
use crate::ports::Record;
use crate::spec::{FleetSpec, Limits};
use crate::units::Timestamp;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// When it was first told to take no new jobs.
    pub since: Timestamp,
    /// When it confirmed; `None` until then.
    pub fenced_at: Option<Timestamp>,
    /// Whether it is let go because it never became ready.
    pub boot_failed: bool,
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
        for record in tail {
            match record {
                Record::Decided(decided) => {
                    memory = decided.memory.clone();
                    memory.look(&spec.limits, &decided.seen);
                    memory.plan(&decided.decision);
                }
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
    pub fn look(&mut self, limits: &Limits, seen: &Observation) {
        let listing = match &seen.fleet {
            Ok(listing) if listing.complete => listing,
            Ok(_) | Err(_) => {
                if self.corroborated < limits.observe_cycles {
                    self.corroborated = 0;
                }
                return;
            }
        };
        self.corroborate(limits, listing);
        self.confirm_launches(limits, seen.now, listing);
        self.judge_boots(limits, seen.now, listing);
        self.adopt_fenced(seen.now, listing);
        self.forget(limits, seen.now, listing);
    }

    /// Takes in what was decided: launches count from now on, whatever the
    /// answer will be.
    pub fn plan(&mut self, decision: &Decision) {
        self.cycle = decision.cycle;
        for action in &decision.actions {
            match action {
                Action::Launch {
                    token,
                    offering,
                    count,
                } => {
                    let launch = self
                        .launches
                        .entry(token.clone())
                        .or_insert_with(|| Launch {
                            offering: offering.clone(),
                            count: *count,
                            at: decision.at,
                            answer: Answer::Awaited { asked: 0 },
                            seen: BTreeSet::new(),
                        });
                    launch.at = decision.at;
                    if let Answer::Awaited { asked } = &mut launch.answer {
                        *asked = asked.saturating_add(1);
                    }
                }
                Action::Fence { instance } => {
                    let boot_failed = self.unready.get(instance).copied().unwrap_or(false);
                    if !self.drains.contains_key(instance) && !boot_failed {
                        self.shrunk_at = Some(decision.at);
                    }
                    self.drains.entry(instance.clone()).or_insert(Draining {
                        since: decision.at,
                        fenced_at: None,
                        boot_failed,
                    });
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

    /// Takes in how an action came out.
    pub fn settle(&mut self, at: Timestamp, action: &Action, outcome: &Outcome) {
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
                    self.gone(at, instance);
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
        match outcome {
            Outcome::Launched { instances } => {
                launch.answer = Answer::Given;
                launch.count = u32::try_from(instances.len()).unwrap_or(u32::MAX);
                self.grown_at = Some(at);
            }
            Outcome::Granted { count } => {
                launch.answer = Answer::Given;
                launch.count = *count;
                self.grown_at = Some(at);
            }
            // It may have happened: it counts until a listing says otherwise.
            Outcome::Failed(FleetError::Unknown(_)) => self.grown_at = Some(at),
            Outcome::Failed(_) => {
                // The failure is certain only for this asking. If an earlier
                // answer was lost, the launch may have happened then.
                if launch.answer == (Answer::Awaited { asked: 1 }) {
                    self.launches.remove(token);
                }
            }
            Outcome::Rehearsed => {
                self.launches.remove(token);
            }
            Outcome::Fenced { .. } | Outcome::Unfenced | Outcome::Terminated => {}
        }
    }

    fn corroborate(&mut self, limits: &Limits, listing: &Listing) {
        if self.corroborated >= limits.observe_cycles {
            return;
        }
        let lost = self
            .corroborating
            .iter()
            .any(|id| listed(listing, id).is_none());
        self.corroborated = if lost { 1 } else { self.corroborated + 1 };
        self.corroborating.clear();
        if self.corroborated < limits.observe_cycles {
            // What is ending may be gone next time, and proves nothing then.
            let staying = listing.instances.iter().filter(|instance| {
                instance.phase != Phase::Ending && !self.ended.contains_key(&instance.id)
            });
            self.corroborating
                .extend(staying.map(|instance| instance.id.clone()));
        }
    }

    fn confirm_launches(&mut self, limits: &Limits, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            let Some(token) = &instance.token else {
                continue;
            };
            let Some(launch) = self.launches.get_mut(token) else {
                continue;
            };
            if !launch.seen.insert(instance.id.clone()) {
                continue;
            }
            match instance.phase {
                Phase::Ready => self.fruitless = 0,
                // It was over before anybody saw it boot, and not by us: what
                // is not listed is not ended.
                Phase::Ending => self.fruitless = self.fruitless.saturating_add(1),
                Phase::Booting => {}
            }
        }
        let mut never_listed = 0_u32;
        self.launches.retain(|_, launch| {
            let settled = launch.answer == Answer::Given && launch.unlisted() == 0;
            let given_up = now.since(launch.at) > limits.listing_patience;
            if given_up && !settled {
                never_listed = never_listed.saturating_add(match launch.answer {
                    Answer::Given => launch.unlisted(),
                    // It never happened, so no worker was to come of it.
                    Answer::Awaited { .. } => 0,
                });
            }
            !settled && !given_up
        });
        self.fruitless = self.fruitless.saturating_add(never_listed);
    }

    /// Holds it against the launches when an instance does not become ready,
    /// and forgives all when one does.
    fn judge_boots(&mut self, limits: &Limits, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            match instance.phase {
                Phase::Booting if !self.ended.contains_key(&instance.id) => {
                    let counted = self.unready.entry(instance.id.clone()).or_insert(false);
                    if !*counted && now.since(instance.launched_at) > limits.boot_timeout {
                        *counted = true;
                        self.fruitless = self.fruitless.saturating_add(1);
                    }
                    // Let go while it booted: it will never say that it is idle.
                    if *counted && let Some(drain) = self.drains.get_mut(&instance.id) {
                        drain.boot_failed = true;
                    }
                }
                Phase::Ready => {
                    if self.unready.remove(&instance.id).is_some() {
                        self.fruitless = 0;
                    }
                    // It came up after all: from here on it drains like any other.
                    if let Some(drain) = self.drains.get_mut(&instance.id) {
                        drain.boot_failed = false;
                    }
                }
                Phase::Booting | Phase::Ending => {}
            }
        }
        let drains = &self.drains;
        let mut vanished = 0_u32;
        self.unready.retain(|id, counted| {
            let listed = listed(listing, id).is_some_and(|phase| phase == Phase::Booting);
            if !listed && !*counted && !drains.contains_key(id) {
                vanished = vanished.saturating_add(1);
            }
            listed
        });
        self.fruitless = self.fruitless.saturating_add(vanished);
    }

    /// An instance that is fenced without our knowing (the store was lost, or
    /// somebody else did it) is on its way out too, once it confirms to us.
    fn adopt_fenced(&mut self, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            if instance.fenced
                && instance.phase != Phase::Ending
                && !self.ended.contains_key(&instance.id)
            {
                self.drains.entry(instance.id.clone()).or_insert(Draining {
                    since: now,
                    fenced_at: None,
                    boot_failed: false,
                });
            }
        }
    }

    fn forget(&mut self, limits: &Limits, now: Timestamp, listing: &Listing) {
        self.drains.retain(|id, _| listed(listing, id).is_some());
        // Kept for a while after it has gone from the listing, since listings
        // may be older than the last one. Given up if it is still listed as
        // alive long after it should have ended: then it counts again.
        self.ended
            .retain(|_, at| now.since(*at) <= limits.listing_patience);
        self.ends.retain(|ended| now.since(ended.at) < ENDED_WINDOW);
    }
}

/// The phase under which `id` is listed, if it is.
fn listed(listing: &Listing, id: &InstanceId) -> Option<Phase> {
    listing
        .instances
        .binary_search_by(|instance| instance.id.cmp(id))
        .ok()
        .map(|index| listing.instances[index].phase)
}

/// Whether a worker may be ended without losing a job.
pub(crate) fn surely_idle(work: Work) -> bool {
    match work {
        Work::Idle => true,
        Work::Busy | Work::Unknown => false,
    }
}
