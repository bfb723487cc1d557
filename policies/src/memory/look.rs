//! What one complete listing teaches: what became of launches, boots, notices
//! and strays.

use std::collections::BTreeMap;

use super::{Answer, Cause, Draining, ENDED_WINDOW, Memory, Stray, bought};
use crate::model::{Instance, InstanceId, LaunchToken, Listing, Notice, Phase};
use crate::spec::{FleetSpec, Limits, OnRebalance, Strays};
use crate::standing::Standing;
use crate::units::Timestamp;

impl Memory {
    /// When those were launched that are ready for the first time. Asked before
    /// anything is learnt from `listing`.
    pub(super) fn came_up(&self, listing: &Listing) -> Vec<Timestamp> {
        let came_up = listing.instances.iter().filter(|instance| {
            let launch = instance.token.as_ref();
            let launch = launch.and_then(|token| self.launches.get(token));
            let unseen = launch.is_some_and(|launch| !launch.seen.contains(&instance.id));
            instance.phase == Phase::Ready && (unseen || self.unready.contains_key(&instance.id))
        });
        came_up.map(|instance| instance.launched_at).collect()
    }

    /// Whether `instance` belongs to this fleet, as far as its token tells: only
    /// one that another store launched for a fleet of this name, after this
    /// store first looked, does not. One without a token, or with a token of
    /// somebody else's making, may be anybody's, and is kept.
    fn is_ours(&self, instance: &Instance) -> bool {
        let Some(token) = &instance.token else {
            return true;
        };
        let ours = token.store() == Some(self.store.as_str()) || token.store().is_none();
        ours || self
            .first_look
            .is_none_or(|first_look| instance.launched_at <= first_look)
    }

    /// Notes who has a notice, and since when it is acted on.
    pub(super) fn heed_notices(&mut self, spec: &FleetSpec, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            let acts = match instance.notice {
                None => continue,
                Some(Notice::Interruption { .. }) => true,
                Some(Notice::Rebalance { .. }) => spec.spot.on_rebalance == OnRebalance::Replace,
            };
            let since = self.noticed.entry(instance.id.clone()).or_insert(None);
            *since = if acts { since.or(Some(now)) } else { None };
            if acts && let Some(drain) = self.drains.get_mut(&instance.id) {
                drain.cause = Cause::Notice;
            }
        }
    }

    /// Holds what the provider takes back against its offering, once.
    pub(super) fn hold_against_offerings(&mut self, now: Timestamp, listing: &Listing) {
        let interrupted =
            |instance: &Instance| matches!(instance.notice, Some(Notice::Interruption { .. }));
        if self.interrupted.is_empty() && !listing.instances.iter().any(interrupted) {
            return;
        }
        // Instances by offering: held up to now, and lost of those.
        let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for instance in &listing.instances {
            let lost = interrupted(instance);
            let held = lost || instance.phase != Phase::Ending;
            if !held || (lost && !self.interrupted.insert(instance.id.clone())) {
                continue;
            }
            let count = counts.entry(&instance.offering).or_default();
            count.0 = count.0.saturating_add(1);
            count.1 = count.1.saturating_add(u32::from(lost));
        }
        for (offering, (held, lost)) in counts {
            if lost > 0 {
                let standing = self.standings.entry(offering.to_owned());
                let standing = standing.or_insert_with(|| Standing::unknown(now));
                standing.lose(now, held, lost);
            }
        }
    }

    /// Counts in how many complete listings each stray was, once the fleet has
    /// been observed.
    pub(super) fn watch_strays(&mut self, spec: &FleetSpec, now: Timestamp, listing: &Listing) {
        if spec.limits.strays == Strays::Adopt {
            self.strays.clear();
            return;
        }
        self.strays.retain(|id, _| listed(listing, id).is_some());
        if self.corroborated < spec.limits.observe_cycles {
            return;
        }
        for instance in &listing.instances {
            let fleet = instance.token.as_ref().and_then(LaunchToken::fleet);
            if fleet != Some(spec.name.as_str()) || self.is_ours(instance) {
                continue;
            }
            let stray = self.strays.entry(instance.id.clone()).or_insert(Stray {
                since: now,
                listings: 0,
            });
            stray.listings = stray.listings.saturating_add(1);
        }
    }

    pub(super) fn corroborate(&mut self, limits: &Limits, listing: &Listing) {
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

    pub(super) fn confirm_launches(&mut self, limits: &Limits, now: Timestamp, listing: &Listing) {
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
            if instance.phase != Phase::Ending {
                self.ledger.note_fresh(instance, now);
            }
            match instance.phase {
                Phase::Ready => self.fruitless = 0,
                // It was over before anybody saw it boot, and not by us: what
                // is not listed is not ended.
                // What was taken back says nothing of boots.
                Phase::Ending if instance.notice.is_none() => {
                    self.fruitless = self.fruitless.saturating_add(1);
                }
                Phase::Booting | Phase::Ending => {}
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
    pub(super) fn judge_boots(&mut self, limits: &Limits, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            match instance.phase {
                Phase::Booting if !self.ended.contains_key(&instance.id) => {
                    let counted = self.unready.entry(instance.id.clone()).or_insert(false);
                    if !*counted && now.since(instance.launched_at) > limits.boot_timeout {
                        *counted = true;
                        self.ledger.note_failed(instance, now);
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
        let (drains, noticed) = (&self.drains, &self.noticed);
        let mut vanished = 0_u32;
        self.unready.retain(|id, counted| {
            let listed = listed(listing, id).is_some_and(|phase| phase == Phase::Booting);
            let told = drains.contains_key(id) || noticed.contains_key(id);
            if !listed && !*counted && !told {
                vanished = vanished.saturating_add(1);
            }
            listed
        });
        self.fruitless = self.fruitless.saturating_add(vanished);
    }

    /// An instance that is fenced without our knowing (the store was lost, or
    /// somebody else did it) is on its way out too, once it confirms to us.
    pub(super) fn adopt_fenced(&mut self, now: Timestamp, listing: &Listing) {
        for instance in &listing.instances {
            if instance.fenced
                && instance.phase != Phase::Ending
                && !self.ended.contains_key(&instance.id)
            {
                let cause = if self.acts_on_notice(&instance.id) {
                    Cause::Notice
                } else {
                    Cause::Shrink
                };
                let drain = self.drains.entry(instance.id.clone());
                let drain = drain.or_insert_with(|| Draining {
                    since: now,
                    fenced_at: None,
                    boot_failed: false,
                    cause,
                    bought: None,
                });
                drain.bought.get_or_insert_with(|| bought(instance));
            }
        }
    }

    pub(super) fn forget(&mut self, spec: &FleetSpec, now: Timestamp, listing: &Listing) {
        let limits = &spec.limits;
        self.standings.retain(|name, standing| {
            let sold = spec.offerings.iter().any(|one| one.name == *name);
            sold && !standing.is_forgotten(now)
        });
        self.noticed
            .retain(|id, _| find(listing, id).is_some_and(|instance| instance.notice.is_some()));
        self.interrupted.retain(|id| listed(listing, id).is_some());
        self.drains.retain(|id, _| listed(listing, id).is_some());
        // Kept for a while after it has gone from the listing, since listings
        // may be older than the last one. Given up if it is still listed as
        // alive long after it should have ended: then it counts again.
        self.ended
            .retain(|_, at| now.since(*at) <= limits.listing_patience);
        self.ends.retain(|ended| now.since(ended.at) < ENDED_WINDOW);
    }
}

/// The instance `id`, if it is listed.
pub(super) fn find<'a>(listing: &'a Listing, id: &InstanceId) -> Option<&'a Instance> {
    listing
        .instances
        .binary_search_by(|instance| instance.id.cmp(id))
        .ok()
        .map(|index| &listing.instances[index])
}

/// The phase under which `id` is listed, if it is.
fn listed(listing: &Listing, id: &InstanceId) -> Option<Phase> {
    find(listing, id).map(|instance| instance.phase)
}
