//! An existing Auto Scaling group as the fleet.
//!
//! windlass raises the group's desired number to grow, and ends named, drained
//! instances to shrink, each of which takes the number down by one. It never
//! sets the number lower than it finds it. All else stays with the group and
//! its owner: health, zones, lifecycle hooks, load balancers, its own policies.
//!
//! How a raised number becomes a launch that can be asked for twice stands in
//! [`book`]; what a group allows, in [`group`].

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(all(test, feature = "aws"))]
mod aws_tests;
pub mod book;
pub mod group;
#[cfg(test)]
mod swarm;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::{debug, warn};

use windlass_policies::model::{
    Action, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing, Notice, Outcome, Phase,
    Work,
};
use windlass_policies::ports::{Clock, FleetProvider};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

use crate::config::AsgSettings;

use book::{Book, Shown, Situation};
use group::{Group, Member, Stage};

/// The tag of a group that tells who acts on it: the newest epoch.
pub const EPOCH_TAG: &str = "windlass:epoch";

/// The shortest time there is between two readings.
const MOMENT: Duration = Duration::from_micros(1);

/// A group, and the workers on its instances, as they are reached.
#[expect(async_fn_in_trait, reason = "used on one thread with static dispatch")]
pub trait GroupCalls {
    /// A reading of the group that was asked for at `not_before` or later;
    /// fleets of one region may share it.
    async fn listing(&self, not_before: Timestamp) -> Result<Group, FleetError>;

    /// A reading that is asked for now.
    async fn reading(&self) -> Result<Group, FleetError>;

    /// Whether an instance refresh is in progress.
    async fn refreshing(&self) -> Result<bool, FleetError>;

    /// What may change the desired number besides windlass: the names of the
    /// group's scaling policies and scheduled actions.
    async fn movers(&self) -> Result<Vec<String>, FleetError>;

    /// Why the group's newest failed launch failed, in AWS's words.
    async fn failure(&self) -> Result<Option<String>, FleetError>;

    /// Writes tags of the group, none of which instances inherit.
    async fn tag(&self, tags: &BTreeMap<String, String>) -> Result<(), FleetError>;

    /// Removes tags of the group.
    async fn untag(&self, keys: &[String]) -> Result<(), FleetError>;

    /// Sets the desired number, whatever cooldown the group is in.
    async fn set_desired(&self, desired: u32) -> Result<(), FleetError>;

    /// Ends an instance and takes the desired number down by one.
    async fn end(&self, instance: &InstanceId) -> Result<(), FleetError>;

    /// What EC2 and the workers say of `members`, as of `read_at` or later.
    /// Those that EC2 does not list yet are missing. Fleets of one region may
    /// share it.
    async fn details(
        &self,
        read_at: Timestamp,
        members: &[Member],
    ) -> Result<BTreeMap<InstanceId, Detail>, FleetError>;

    /// Tells a worker to take no new jobs, and says what it has in hand.
    async fn fence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Work, FleetError>;

    /// Tells a fenced worker to take jobs again.
    async fn unfence(&self, instance: &InstanceId) -> Result<(), FleetError>;
}

/// What is known of an instance beyond what its group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// When EC2 launched it, or last started it.
    pub launched_at: Timestamp,
    /// Whether its worker refuses new jobs.
    pub fenced: bool,
    /// What its worker does.
    pub work: Work,
    /// Whether EC2 is about to take it back.
    pub notice: Option<Notice>,
}

/// What a fleet wants of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The offering that is launched, by name.
    pub offering: String,
    /// The fleet's own `limits.min`.
    pub min: u32,
    /// The fleet's own `limits.max`: no raise goes beyond.
    pub max: u32,
    /// `limits.listing_patience`: a launch that has waited longer is given up.
    pub patience: Duration,
}

/// What the fleet of `spec` wants of the group that `settings` name.
pub fn rules(spec: &FleetSpec, settings: &AsgSettings) -> Rules {
    Rules {
        offering: settings.instance_type.clone(),
        min: spec.limits.min,
        max: spec.limits.max,
        patience: spec.limits.listing_patience,
    }
}

/// A fleet in an Auto Scaling group.
#[derive(Debug)]
pub struct AsgFleet<C, K> {
    rules: Rules,
    calls: C,
    clock: K,
    state: RefCell<State>,
}

/// What is kept from call to call; everything in it can be read anew.
#[derive(Debug, Default)]
struct State {
    /// `None` until the group was read once.
    book: Option<Book>,
    /// The last complete listing, which the cycle in hand decided upon.
    listed: Option<Group>,
    /// When the newest instance ever listed was launched, by EC2's clock.
    newest: Timestamp,
    /// When an instance that came from elsewhere (a warm pool, a person's
    /// attaching) first showed up.
    joined: BTreeMap<InstanceId, Timestamp>,
    /// Who refuses new jobs.
    fenced: BTreeSet<InstanceId>,
    /// A reading since the last listing, with our own ends taken in, and
    /// whether a refresh is in progress.
    preflight: Option<(Group, bool)>,
    /// What the desired number should be if nobody but us changes it.
    expected: Option<u32>,
    /// Listings older than this do not know what we did.
    acted_at: Timestamp,
    /// The bounds of the group that were last complained of.
    complained: Option<(u32, u32)>,
}

impl<C: GroupCalls, K: Clock> AsgFleet<C, K> {
    /// The fleet in the group that `calls` reach.
    pub fn new(rules: Rules, calls: C, clock: K) -> Self {
        Self {
            rules,
            calls,
            clock,
            state: RefCell::default(),
        }
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &K {
        &self.clock
    }

    /// How the group is reached.
    pub fn calls(&self) -> &C {
        &self.calls
    }

    async fn look(&self, fleet: &str) -> Result<Listing, FleetError> {
        let not_before = {
            let state = self.state.borrow();
            // Never the same reading twice: a cycle that was nudged wants news.
            let last = state.listed.as_ref();
            let last = last.map_or(Timestamp::EPOCH, |last| last.read_at + MOMENT);
            state.acted_at.max(last)
        };
        let group = self.calls.listing(not_before).await?;
        let members: Vec<Member> = group
            .members
            .iter()
            .filter(|member| member.stage.phase().is_some())
            .cloned()
            .collect();
        let details = self.calls.details(group.read_at, &members).await?;
        let now = self.clock.now();
        let (dropped, noticed) = self.take_in(fleet, now, &group, &members, &details);
        if dropped {
            self.tell_failure(fleet, &group.name).await;
        }
        if let Some(before) = noticed {
            self.tell_movers(fleet, &group, before).await;
        }
        let state = self.state.borrow();
        let instances = members
            .iter()
            .map(|member| self.instance(&state, now, member, details.get(&member.id)))
            .collect();
        Ok(Listing {
            instances,
            complete: true,
        })
    }

    /// Takes in a complete reading. Says whether launches were given up, and
    /// what the desired number was before somebody else changed it.
    fn take_in(
        &self,
        fleet: &str,
        now: Timestamp,
        group: &Group,
        members: &[Member],
        details: &BTreeMap<InstanceId, Detail>,
    ) -> (bool, Option<u32>) {
        let mut state = self.state.borrow_mut();
        let first = state.book.is_none();
        let shown: Vec<Shown> = members
            .iter()
            .map(|member| Shown {
                id: member.id.clone(),
                launched_at: details.get(&member.id).map(|detail| detail.launched_at),
            })
            .collect();
        if first {
            let (book, unreadable) = Book::adopt(&group.tags);
            for tag in unreadable {
                warn!(fleet, group = %group.name, %tag, "a tag of a launch cannot be read, and counts for nothing");
            }
            state.book = Some(book);
        }
        let owed = group.desired.saturating_sub(group.size());
        let book = state.book.get_or_insert_default();
        let dropped = book.attribute(now, &shown, owed, self.rules.patience);
        for (token, missing) in &dropped {
            warn!(fleet, group = %group.name, %token, missing, "the group has not delivered what was launched");
        }
        let newest = shown.iter().filter_map(|one| one.launched_at).max();
        let known = &state.joined;
        let joined: BTreeMap<InstanceId, Timestamp> = members
            .iter()
            .filter_map(|member| {
                let seen = known.get(&member.id).copied();
                // On the first look nobody knows who came just now, but for
                // those that are still on their way out of a warm pool.
                let late = group.warm_pool && member.stage == Stage::Booting;
                let at = seen.or_else(|| (!first || late).then_some(now))?;
                Some((member.id.clone(), at))
            })
            .collect();
        state.joined = joined;
        state.newest = state.newest.max(newest.unwrap_or_default());
        state.fenced = details
            .iter()
            .filter(|(_, detail)| detail.fenced)
            .map(|(id, _)| id.clone())
            .collect();
        state.preflight = None;
        let before = state.expected.replace(group.desired);
        self.complain(&mut state, fleet, group);
        state.listed = Some(group.clone());
        (
            !dropped.is_empty(),
            before.filter(|before| *before != group.desired),
        )
    }

    /// Says once that the group's bounds are narrower than the fleet's.
    fn complain(&self, state: &mut State, fleet: &str, group: &Group) {
        let bounds = (group.min, group.max);
        if state.complained == Some(bounds) {
            return;
        }
        state.complained = Some(bounds);
        let rules = &self.rules;
        if group.max < rules.max {
            warn!(
                fleet,
                group = %group.name,
                max_size = group.max,
                max = rules.max,
                "the group's MaxSize is below limits.max, so the fleet cannot grow to that"
            );
        }
        if group.min > rules.min {
            warn!(
                fleet,
                group = %group.name,
                min_size = group.min,
                min = rules.min,
                "the group's MinSize is above limits.min, so the fleet cannot shrink to that"
            );
        }
    }

    async fn tell_failure(&self, fleet: &str, group: &str) {
        match self.calls.failure().await {
            Ok(Some(why)) => warn!(fleet, group, %why, "the group's newest failed launch"),
            Ok(None) => debug!(fleet, group, "the group tells of no failed launch"),
            Err(error) => debug!(fleet, group, %error, "the group's activities cannot be read"),
        }
    }

    async fn tell_movers(&self, fleet: &str, group: &Group, before: u32) {
        let movers = self.calls.movers().await.unwrap_or_default();
        let suspects = if movers.is_empty() {
            "none of the group's own: a person or another program".to_owned()
        } else {
            movers.join(", ")
        };
        warn!(
            fleet,
            group = %group.name,
            before,
            desired = group.desired,
            %suspects,
            "somebody else changed the group's desired number; windlass goes on from there"
        );
    }

    fn instance(
        &self,
        state: &State,
        now: Timestamp,
        member: &Member,
        detail: Option<&Detail>,
    ) -> Instance {
        let phase = member.stage.phase().unwrap_or(Phase::Ending);
        let joined = state.joined.get(&member.id).copied();
        let launched_at = match detail {
            // The clock of a boot starts when the instance came to the group:
            // in a warm pool it may have lain for days.
            Some(detail) if phase == Phase::Booting => {
                detail.launched_at.max(joined.unwrap_or_default())
            }
            Some(detail) => detail.launched_at,
            None => joined.unwrap_or(now),
        };
        let token = state
            .book
            .as_ref()
            .and_then(|book| book.token_of(&member.id));
        Instance {
            id: member.id.clone(),
            offering: if member.instance_type.is_empty() {
                self.rules.offering.clone()
            } else {
                member.instance_type.clone()
            },
            token: token.cloned(),
            launched_at,
            phase,
            fenced: detail.is_some_and(|detail| detail.fenced),
            work: detail.map_or(Work::Unknown, |detail| detail.work),
            notice: detail.and_then(|detail| detail.notice),
        }
    }

    /// Refuses what an older epoch asks, and says which tag a newer one writes.
    fn claim(epoch: Epoch, group: &Group) -> Result<Option<(String, String)>, FleetError> {
        let found = group.tags.get(EPOCH_TAG);
        let newest = match found.map(|text| text.parse::<u64>()) {
            None => None,
            Some(Ok(newest)) => Some(newest),
            Some(Err(_)) => {
                return Err(FleetError::Rejected(format!(
                    "the tag {EPOCH_TAG} of the Auto Scaling group {} is no number; remove it",
                    group.name
                )));
            }
        };
        if newest.is_some_and(|newest| newest > epoch.0) {
            return Err(FleetError::StaleEpoch);
        }
        let ours = newest == Some(epoch.0);
        Ok((!ours).then(|| (EPOCH_TAG.to_owned(), epoch.to_string())))
    }

    async fn launch(
        &self,
        epoch: Epoch,
        token: &LaunchToken,
        count: u32,
    ) -> Result<Outcome, FleetError> {
        let fresh = self.calls.reading().await.map_err(not_done)?;
        let epoch_tag = Self::claim(epoch, &fresh)?;
        let refreshing = self.calls.refreshing().await.map_err(not_done)?;
        fresh.may_launch(refreshing)?;
        let now = self.clock.now();
        let (raise, again, closed) = {
            let state = self.state.borrow();
            let (Some(book), Some(listed)) = (&state.book, &state.listed) else {
                return Err(FleetError::Held("the group was not listed yet".to_owned()));
            };
            let situation = Situation {
                listed,
                fresh: &fresh,
                limit: self.rules.max,
                newest: state.newest,
            };
            let raise = book.raise(token, count, now, situation)?;
            (raise, book.knows(token), book.closed_tags(&fresh.tags))
        };
        let closed: Vec<String> = closed
            .into_iter()
            .filter(|key| *key != raise.tag.0)
            .collect();
        if !closed.is_empty() {
            // Only tidying up: what is left over is tried with the next launch.
            if let Err(error) = self.calls.untag(&closed).await {
                debug!(group = %fresh.name, %error, "tags of old launches stay for now");
            }
        }
        // Written before done: without the tag, a lost answer could not be
        // told from a launch that never was.
        let tags: BTreeMap<_, _> = epoch_tag.into_iter().chain([raise.tag.clone()]).collect();
        self.calls.tag(&tags).await.map_err(not_done)?;
        let by = raise.to - fresh.desired;
        {
            let mut state = self.state.borrow_mut();
            state.preflight = None;
            state.book.get_or_insert_default().enter(token, &raise);
        }
        if by > 0
            && let Err(error) = self.calls.set_desired(raise.to).await
        {
            let lost = matches!(error, FleetError::Unknown(_));
            {
                let mut state = self.state.borrow_mut();
                state.expected = if lost { None } else { Some(fresh.desired) };
                if !lost && !again {
                    state.book.get_or_insert_default().strike(token);
                }
            }
            if !lost && !again {
                // If this fails too, the group's own number tells later that
                // the launch never was.
                let _tidied = self.calls.untag(&[raise.tag.0]).await;
            }
            return Err(error);
        }
        let mut state = self.state.borrow_mut();
        state.expected = Some(raise.to);
        state.book.get_or_insert_default().raised(token, by);
        Ok(Outcome::Granted {
            count: raise.granted,
        })
    }

    /// Reads the group anew if nothing was read since the listing, claims it,
    /// and asks whether `instance` may be ended.
    async fn check_end(&self, epoch: Epoch, instance: &InstanceId) -> Result<Group, FleetError> {
        let known = self.state.borrow().preflight.clone();
        let (group, refreshing) = if let Some(known) = known {
            known
        } else {
            let group = self.calls.reading().await.map_err(not_done)?;
            let refreshing = self.calls.refreshing().await.map_err(not_done)?;
            (group, refreshing)
        };
        let mut group = group;
        if let Some((key, value)) = Self::claim(epoch, &group)? {
            let tags = BTreeMap::from([(key.clone(), value.clone())]);
            self.calls.tag(&tags).await.map_err(not_done)?;
            group.tags.insert(key, value);
        }
        let mut state = self.state.borrow_mut();
        state.preflight = Some((group.clone(), refreshing));
        let leaving = group
            .counting()
            .filter(|member| member.id != *instance && state.fenced.contains(&member.id))
            .count();
        group.may_end(
            instance,
            u32::try_from(leaving).unwrap_or(u32::MAX),
            refreshing,
        )?;
        Ok(group)
    }

    /// Fences, but only what could be ended afterwards: a drained worker that
    /// has to stay would do nothing for nobody.
    async fn fence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Outcome, FleetError> {
        self.check_end(epoch, instance).await?;
        let work = self.calls.fence(epoch, instance).await?;
        self.state.borrow_mut().fenced.insert(instance.clone());
        Ok(Outcome::Fenced { work })
    }

    async fn end(&self, epoch: Epoch, instance: &InstanceId) -> Result<Outcome, FleetError> {
        // The last look: protection may have come after the fence. Only what
        // is itself about to go counts, so the fenced ones that stay do not.
        let mut group = match self.check_end_alone(epoch, instance).await {
            Ok(group) => group,
            // On its way out already, by us or by the group.
            Err(FleetError::NotFound) => return Ok(Outcome::Terminated),
            Err(error) => return Err(error),
        };
        let ended = self.calls.end(instance).await;
        let mut state = self.state.borrow_mut();
        match ended {
            Ok(()) => {
                group.ended(instance);
                state.expected = Some(group.desired);
                state.fenced.remove(instance);
                let refreshing = state.preflight.as_ref().is_some_and(|known| known.1);
                state.preflight = Some((group, refreshing));
                Ok(Outcome::Terminated)
            }
            Err(FleetError::NotFound) => Ok(Outcome::Terminated),
            Err(error) => {
                // It may have happened: what was read before is worth nothing.
                state.preflight = None;
                state.expected = None;
                Err(error)
            }
        }
    }

    async fn check_end_alone(
        &self,
        epoch: Epoch,
        instance: &InstanceId,
    ) -> Result<Group, FleetError> {
        let others = std::mem::take(&mut self.state.borrow_mut().fenced);
        let checked = self.check_end(epoch, instance).await;
        self.state.borrow_mut().fenced = others;
        checked
    }

    async fn unfence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Outcome, FleetError> {
        let known = self.state.borrow().preflight.clone();
        let group = match known {
            Some((group, _)) => group,
            None => self.calls.reading().await.map_err(not_done)?,
        };
        // Nothing is written here: taking an instance back harms nobody.
        Self::claim(epoch, &group)?;
        self.calls.unfence(instance).await?;
        self.state.borrow_mut().fenced.remove(instance);
        Ok(Outcome::Unfenced)
    }
}

/// A question whose answer was lost changed nothing.
fn not_done(error: FleetError) -> FleetError {
    match error {
        FleetError::Unknown(why) => FleetError::Unreachable(why),
        FleetError::NotFound => {
            FleetError::Rejected("there is no such Auto Scaling group".to_owned())
        }
        error => error,
    }
}

impl<C: GroupCalls, K: Clock> FleetProvider for AsgFleet<C, K> {
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError> {
        self.look(fleet).await.map_err(not_done)
    }

    async fn apply(&self, _fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        let outcome = match action {
            Action::Launch { token, count, .. } => self.launch(epoch, token, *count).await,
            Action::Fence { instance } => self.fence(epoch, instance).await,
            Action::Unfence { instance } => self.unfence(epoch, instance).await,
            Action::Terminate { instance, .. } => self.end(epoch, instance).await,
        };
        // Also when it failed: nobody may know what became of it.
        self.state.borrow_mut().acted_at = self.clock.now();
        outcome.unwrap_or_else(Outcome::Failed)
    }
}
