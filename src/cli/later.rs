//! How launches came out: what later listings show of their instances.

use std::collections::BTreeMap;

use windlass_policies::model::{
    Action, FleetError, Instance, InstanceId, LaunchToken, Outcome, Phase,
};
use windlass_policies::ports::StoreError;
use windlass_policies::units::Timestamp;

use super::text::span;
use crate::store::{Done, Entry, History, Range};

/// How many decisions after the last one shown are searched for its instances:
/// a day of cycles of a minute.
const LOOK_AHEAD: usize = 1_440;

/// What listings have shown of the launches that are to be explained.
#[derive(Debug, Default)]
pub(super) struct Later {
    launches: BTreeMap<LaunchToken, Launch>,
}

/// One launch, over all listings searched.
#[derive(Debug)]
struct Launch {
    /// How many instances there should be.
    expected: usize,
    seen: BTreeMap<InstanceId, Sighting>,
}

/// One instance, over all listings searched.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    /// When a listing first showed it ready.
    ready_at: Option<Timestamp>,
    /// Whether it was ending, or gone, when last looked for.
    over: bool,
}

impl Later {
    /// Searches the decisions of `range` and those after them.
    pub(super) fn gather(history: &History, fleet: &str, range: Range) -> Result<Self, StoreError> {
        let mut later = Self::default();
        let mut after = None;
        for entry in history.decisions(fleet, range)? {
            let entry = entry?;
            later.look(&entry);
            later.expect(&entry);
            after = Some(Range::From(entry.decided.decision.cycle.saturating_add(1)));
        }
        let Some(after) = after else { return Ok(later) };
        let mut decisions = history.decisions(fleet, after)?.take(LOOK_AHEAD);
        while !later.settled() {
            match decisions.next() {
                Some(entry) => later.look(&entry?),
                None => break,
            }
        }
        Ok(later)
    }

    /// Remembers what `entry` launched.
    fn expect(&mut self, entry: &Entry) {
        for (token, expected) in entry.done.iter().filter_map(launched) {
            let launch = Launch {
                expected,
                seen: BTreeMap::new(),
            };
            self.launches
                .entry(token.clone())
                .or_insert(launch)
                .expected = expected;
        }
    }

    /// Takes in what `entry` saw.
    fn look(&mut self, entry: &Entry) {
        let seen = &entry.decided.seen;
        let Ok(listing) = &seen.fleet else { return };
        if listing.complete {
            // A listing is sorted by id.
            let listed = |id: &InstanceId| {
                listing
                    .instances
                    .binary_search_by(|instance| instance.id.cmp(id))
                    .is_ok()
            };
            let tracked = self
                .launches
                .values_mut()
                .flat_map(|launch| launch.seen.iter_mut());
            tracked.for_each(|(id, sighting)| sighting.over = !listed(id));
        }
        for instance in &listing.instances {
            self.see(instance, seen.now);
        }
    }

    fn see(&mut self, instance: &Instance, now: Timestamp) {
        let launch = instance
            .token
            .as_ref()
            .and_then(|token| self.launches.get_mut(token));
        let Some(launch) = launch else { return };
        let sighting = launch.seen.entry(instance.id.clone()).or_insert(Sighting {
            ready_at: None,
            over: false,
        });
        sighting.over = instance.phase == Phase::Ending;
        if instance.phase == Phase::Ready && sighting.ready_at.is_none() {
            sighting.ready_at = Some(now);
        }
    }

    /// Whether there is nothing more to learn from later listings.
    fn settled(&self) -> bool {
        let decided = |sighting: &&Sighting| sighting.ready_at.is_some() || sighting.over;
        self.launches
            .values()
            .all(|launch| launch.seen.values().filter(decided).count() >= launch.expected)
    }

    /// How the launch `done` came out, for a decision made at `since`; `None`
    /// if it is no launch or certainly launched nothing.
    pub(super) fn tell(&self, done: &Done, since: Timestamp) -> Option<String> {
        let (token, expected) = launched(done)?;
        let launch = self.launches.get(token)?;
        let mut ready: Vec<Timestamp> = launch
            .seen
            .values()
            .filter_map(|sighting| sighting.ready_at)
            .collect();
        ready.sort_unstable();
        let unready = launch
            .seen
            .values()
            .filter(|sighting| sighting.ready_at.is_none());
        let (over, booting): (Vec<&Sighting>, Vec<_>) = unready.partition(|sighting| sighting.over);
        let unseen = expected.saturating_sub(launch.seen.len());

        let mut parts = Vec::new();
        if let (Some(first), Some(last)) = (ready.first(), ready.last()) {
            let (first, last) = (span(first.since(since)), span(last.since(since)));
            let when = if first == last {
                last
            } else {
                format!("{first} to {last}")
            };
            parts.push(format!("{} became ready after {when}", ready.len()));
        }
        for (count, what) in [
            (booting.len(), "still booting when last seen"),
            (over.len(), "ended before ready"),
            (unseen, "not seen yet"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        Some(format!("of {expected} launched: {}", parts.join(", ")))
    }
}

/// The token of a launch and how many instances it may have made; `None` if it
/// is no launch or certainly made none.
fn launched(done: &Done) -> Option<(&LaunchToken, usize)> {
    let Action::Launch { token, count, .. } = &done.action else {
        return None;
    };
    let asked = usize::try_from(*count).unwrap_or(usize::MAX);
    let made = match done.answer.as_ref().map(|answer| &answer.outcome) {
        // No answer, or a lost one: it may have happened.
        None | Some(Outcome::Failed(FleetError::Unknown(_))) => asked,
        Some(Outcome::Launched { instances }) => instances.len(),
        Some(Outcome::Granted { count }) => usize::try_from(*count).unwrap_or(usize::MAX),
        Some(
            Outcome::Rehearsed
            | Outcome::Fenced { .. }
            | Outcome::Unfenced
            | Outcome::Terminated
            | Outcome::Failed(
                FleetError::Throttled
                | FleetError::NoCapacity
                | FleetError::Unreachable(_)
                | FleetError::NotFound
                | FleetError::NotPermitted(_)
                | FleetError::LimitReached(_)
                | FleetError::Rejected(_)
                | FleetError::Held(_)
                | FleetError::StaleEpoch,
            ),
        ) => 0,
    };
    (made > 0).then_some((token, made))
}
