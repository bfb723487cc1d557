//! Which launches the group has been asked for, and which of its instances
//! came of them.
//!
//! Raising a desired number has no token: asking twice for "two more" gives
//! four, and instances that come of it carry no name of the launch. So each
//! launch is written into a tag of the group before the number is raised, and
//! what is asked for is a number that is worked out anew from what is there:
//!
//! ```text
//! there   = instances of the group that did not come of this launch
//!         + what other launches are still to bring, as far as the group's own
//!           number confirms it
//! desired = max(desired now, min(there + count, what the tag says))
//! ```
//!
//! Asked again, the same launch comes to the same number, whether the first
//! asking was lost on the way or only its answer, and although instances were
//! ended in between. A launch whose instances the group could not deliver is
//! not added to the next one: there the number is high enough already.
//!
//! An instance belongs to the oldest launch that still lacks one when it first
//! shows up, those first that AWS has confirmed. If the group started it for another reason (it replaced an
//! unhealthy one) no harm is done: what is missing then is asked for again, and
//! the group's number is high enough for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use windlass_policies::model::{FleetError, InstanceId, LaunchToken};
use windlass_policies::units::Timestamp;

use super::group::Group;

/// What the tags of launches begin with; the token follows.
pub const LAUNCH_TAG: &str = "windlass:launch:";

/// So many launches may be open at a time: a group has room for fifty tags,
/// and launches wait for their instances minutes, not hours.
pub const LAUNCHES_OPEN_MAX: usize = 12;

/// One launch, from asking to having seen all it brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// How many instances it is for.
    pub count: u32,
    /// What the group's desired number was before.
    pub from: u32,
    /// The highest desired number that asking for it may lead to.
    pub to: u32,
    /// When the newest instance known at that time was launched, by EC2's
    /// clock. Tells old instances from new ones after a restart.
    pub newest: Timestamp,
    /// When it was last asked for.
    pub at: Timestamp,
    /// Whether AWS has confirmed the number that it asked for.
    confirmed: bool,
    /// Its instances as far as they have shown up.
    seen: BTreeSet<InstanceId>,
}

impl Launch {
    /// How many of its instances have not shown up.
    pub fn missing(&self) -> u32 {
        let seen = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        self.count.saturating_sub(seen)
    }

    /// The value of its tag.
    fn tag(&self) -> String {
        format!(
            "count={} from={} to={} newest={} at={}",
            self.count,
            self.from,
            self.to,
            self.newest.micros(),
            self.at.micros()
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut number = |key: &str| -> Option<u64> {
            let value = parts.next()?.strip_prefix(key)?.strip_prefix('=')?;
            value.parse().ok()
        };
        let small = |number: u64| u32::try_from(number).ok();
        let launch = Self {
            count: small(number("count")?)?,
            from: small(number("from")?)?,
            to: small(number("to")?)?,
            newest: Timestamp::from_micros(number("newest")?),
            at: Timestamp::from_micros(number("at")?),
            confirmed: false,
            seen: BTreeSet::new(),
        };
        parts.next().is_none().then_some(launch)
    }
}

/// An instance as it shows up in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: InstanceId,
    /// When EC2 launched it; `None` if it does not list it yet.
    pub launched_at: Option<Timestamp>,
}

/// What a launch comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// What the desired number is to be; never less than it is.
    pub to: u32,
    /// How many instances are granted, at least one.
    pub granted: u32,
    /// The tag to write first.
    pub tag: (String, String),
    launch: Launch,
}

/// All open launches of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    launches: BTreeMap<LaunchToken, Launch>,
    /// Which launch an instance came of.
    claims: BTreeMap<InstanceId, LaunchToken>,
    /// Every instance that the last listing showed; `None` before the first.
    familiar: Option<BTreeSet<InstanceId>>,
}

impl Book {
    /// The book that the group's `tags` tell of, and the tags that nobody can
    /// read.
    pub fn adopt(tags: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut book = Self::default();
        let mut unreadable = Vec::new();
        for (key, value) in tags {
            let Some(token) = key.strip_prefix(LAUNCH_TAG) else {
                continue;
            };
            match Launch::parse(value) {
                Some(launch) => {
                    book.launches.insert(LaunchToken::from_text(token), launch);
                }
                None => unreadable.push(key.clone()),
            }
        }
        (book, unreadable)
    }

    /// Takes in a complete listing: gives launches their instances, and drops
    /// those that have waited longer than `patience`. Says which those are and
    /// how many instances never came. `owed` is how many instances the group
    /// still has to start by its own number.
    pub fn attribute(
        &mut self,
        now: Timestamp,
        shown: &[Shown],
        owed: u32,
        patience: Duration,
    ) -> Vec<(LaunchToken, u32)> {
        let mut dropped = Vec::new();
        self.launches.retain(|token, launch| {
            let waits = now.since(launch.at) <= patience;
            if !waits && launch.missing() > 0 {
                dropped.push((token.clone(), launch.missing()));
            }
            waits
        });
        let listed: BTreeSet<&InstanceId> = shown.iter().map(|one| &one.id).collect();
        self.claims.retain(|id, _| listed.contains(id));

        let mut arrivals: Vec<&Shown> = shown
            .iter()
            .filter(|one| !self.claims.contains_key(&one.id))
            .filter(|one| match &self.familiar {
                Some(familiar) => !familiar.contains(&one.id),
                None => true,
            })
            .collect();
        arrivals.sort_by(|one, other| {
            // What EC2 does not list yet is the newest of all.
            let key = |shown: &Shown| (shown.launched_at.is_none(), shown.launched_at);
            key(one).cmp(&key(other)).then(one.id.cmp(&other.id))
        });
        let first = self.familiar.is_none();
        let mut order: Vec<LaunchToken> = self.launches.keys().cloned().collect();
        order.sort_by_key(|token| {
            let launch = &self.launches[token];
            (!launch.confirmed, launch.at)
        });
        if first {
            // By its time an instance is told from those before a launch, and
            // so belongs to the newest that it is younger than.
            order.reverse();
        }
        for one in arrivals {
            let lacking = order.iter().find(|token| {
                let launch = &self.launches[*token];
                let new = one.launched_at.is_none_or(|at| at > launch.newest);
                launch.missing() > 0 && (new || !first)
            });
            let Some(token) = lacking else { continue };
            self.claims.insert(one.id.clone(), token.clone());
            if let Some(launch) = self.launches.get_mut(token) {
                launch.seen.insert(one.id.clone());
            }
        }
        if first {
            // What the tags tell of may have come and gone before this start.
            let mut left = owed;
            for token in &order {
                if let Some(launch) = self.launches.get_mut(token) {
                    let waits = launch.missing().min(left);
                    left -= waits;
                    launch.count = launch.count - launch.missing() + waits;
                }
            }
        }
        self.familiar = Some(shown.iter().map(|one| one.id.clone()).collect());
        dropped
    }

    /// The launch that `instance` came of.
    pub fn token_of(&self, instance: &InstanceId) -> Option<&LaunchToken> {
        self.claims.get(instance)
    }

    /// What launching `count` under `token` comes to. `listed` is what was
    /// decided upon, `fresh` the group as it is now, `limit` the most instances
    /// that the fleet may have; `newest` is when the newest listed instance was
    /// launched.
    ///
    /// # Errors
    /// [`FleetError::LimitReached`] if the group or the fleet has no room for
    /// any of them; [`FleetError::Held`] if too many launches are open.
    pub fn raise(
        &self,
        token: &LaunchToken,
        count: u32,
        at: Timestamp,
        situation: Situation<'_>,
    ) -> Result<Raise, FleetError> {
        let Situation {
            listed,
            fresh,
            limit,
            newest,
        } = situation;
        let known = self.launches.get(token);
        let open = self.launches.values().filter(|one| one.missing() > 0);
        if known.is_none() && open.count() >= LAUNCHES_OPEN_MAX {
            return Err(FleetError::Held(format!(
                "{LAUNCHES_OPEN_MAX} launches still wait for instances from the Auto Scaling group {}",
                fresh.name
            )));
        }
        let others = self.launches.iter().filter(|(other, _)| *other != token);
        let coming = others.fold(0_u32, |sum, (_, one)| sum.saturating_add(one.missing()));
        let settled = listed
            .counting()
            .filter(|member| self.claims.get(&member.id) != Some(token));
        let settled = u32::try_from(settled.count()).unwrap_or(u32::MAX);
        let there = settled.saturating_add(coming).min(fresh.desired);
        let mut wanted = there.saturating_add(count);
        if let Some(known) = known {
            wanted = wanted.min(known.to);
        }
        let limit = limit.min(fresh.max);
        // What the desired number allows already needs no room.
        let room = limit.max(fresh.desired);
        let granted = count.saturating_sub(wanted.saturating_sub(room));
        if granted == 0 {
            return Err(FleetError::LimitReached(format!(
                "the Auto Scaling group {} wants {} instances already, its MaxSize is {}; raise \
                 MaxSize, or lower the fleet's limits.max to it",
                fresh.name, fresh.desired, fresh.max
            )));
        }
        let to = wanted.min(room).max(fresh.desired);
        let mut launch = known.cloned().unwrap_or(Launch {
            count: granted,
            from: fresh.desired,
            to,
            newest,
            at,
            confirmed: false,
            seen: BTreeSet::new(),
        });
        launch.count = granted;
        launch.at = at;
        let tag = (format!("{LAUNCH_TAG}{token}"), launch.tag());
        Ok(Raise {
            to,
            granted,
            tag,
            launch,
        })
    }

    /// Enters a launch whose tag is written. From now on it counts.
    pub fn enter(&mut self, token: &LaunchToken, raise: &Raise) {
        self.launches.insert(token.clone(), raise.launch.clone());
    }

    /// AWS has confirmed that the group's number was raised by `by` for the
    /// sake of `token`: the other launches may go up to as much more.
    pub fn raised(&mut self, token: &LaunchToken, by: u32) {
        for (other, launch) in &mut self.launches {
            if other == token {
                launch.confirmed = true;
            } else {
                launch.to = launch.to.saturating_add(by);
            }
        }
    }

    /// Whether `token` was asked for before.
    pub fn knows(&self, token: &LaunchToken) -> bool {
        self.launches.contains_key(token)
    }

    /// Takes a launch out that certainly did not happen.
    pub fn strike(&mut self, token: &LaunchToken) {
        self.launches.remove(token);
    }

    /// Tags among `tags` of launches that nobody waits for any more.
    pub fn closed_tags(&self, tags: &BTreeMap<String, String>) -> Vec<String> {
        let waits = |token: &str| {
            let launch = self.launches.get(&LaunchToken::from_text(token));
            launch.is_some_and(|launch| launch.missing() > 0)
        };
        tags.keys()
            .filter(|key| {
                key.strip_prefix(LAUNCH_TAG)
                    .is_some_and(|token| !waits(token))
            })
            .cloned()
            .collect()
    }
}

/// What a launch is worked out from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The group as it was when the cycle decided.
    pub listed: &'a Group,
    /// The group as it is now.
    pub fresh: &'a Group,
    /// The most instances the fleet may have.
    pub limit: u32,
    /// When the newest listed instance was launched.
    pub newest: Timestamp,
}
