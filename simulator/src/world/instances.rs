//! The instances there are and were, and which of them a listing shows.

use std::collections::{BTreeMap, VecDeque};

use windlass_policies::model::{InstanceId, LaunchToken, Notice, Phase};
use windlass_policies::units::MICROS_PER_HOUR;

use crate::queue::WorkerId;

/// Whoever is in a listing, or ended within the hour, is remembered.
const FORGOTTEN: &str = "only what ended long ago is forgotten";

/// One instance, all times in microseconds of the world.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: InstanceId,
    /// Index of its offering.
    pub(super) offering: usize,
    pub(super) token: Option<LaunchToken>,
    pub(super) launched_at: u64,
    /// When its boot ends; `None` if it never does.
    pub(super) ready_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
    pub(super) fenced: bool,
    /// Its place in the queue; `None` if it never becomes ready or has ended.
    pub(super) worker: Option<WorkerId>,
    /// From when on it runs on what is paid for already.
    pub(super) covered_at: Option<u64>,
    /// What the provider has said of its end.
    pub(super) notice: Option<Notice>,
    /// How much later than others it shows up in listings.
    pub(super) straggle: u64,
}

impl Record {
    /// Where it stood `lag` before `now`.
    pub(super) fn phase(&self, now: u64, lag: u64) -> Phase {
        let ready = self
            .ready_at
            .is_some_and(|at| at.saturating_add(lag) <= now);
        // The initial ones were ready before anybody could look.
        if ready || self.ready_at == Some(0) && self.token.is_none() {
            Phase::Ready
        } else {
            Phase::Booting
        }
    }

    /// Whether a listing of `now` that is `lag` old shows it, if it was not
    /// [forgotten](Roster::forget_ended).
    pub(super) fn listed(&self, now: u64, lag: u64) -> bool {
        let late = lag.saturating_add(self.straggle);
        self.token.is_none() || self.launched_at.saturating_add(late) <= now
    }
}

/// How long after it went from the listings an instance is remembered in runs
/// longer than memory: an hour. A launch is given up after ten minutes, and what
/// no listing shows is not ended, so nobody asks for it any more.
const REMEMBERED_MICROS: u64 = MICROS_PER_HOUR;

/// All instances. Those that have ended are remembered, so that what was done
/// can be asked for again; for good, unless they are to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// By place: how many came before.
    records: BTreeMap<usize, Record>,
    place_next: usize,
    by_id: BTreeMap<InstanceId, usize>,
    /// Launched, and not yet gone from the listings.
    shown: BTreeMap<InstanceId, usize>,
    /// Ended and still in the listings, in the order they ended.
    leaving: VecDeque<usize>,
    /// Gone from the listings, in the same order.
    gone: VecDeque<usize>,
    by_token: BTreeMap<LaunchToken, Vec<InstanceId>>,
    forgetful: bool,
    alive: u32,
    alive_peak: u32,
}

impl Roster {
    /// The name the next instance gets.
    pub(super) fn next_id(&self) -> InstanceId {
        InstanceId::new(&format!("sim-{:06}", self.place_next + 1))
    }

    pub(super) fn add(&mut self, record: Record) {
        let place = self.place_next;
        self.place_next += 1;
        self.by_id.insert(record.id.clone(), place);
        self.shown.insert(record.id.clone(), place);
        self.records.insert(place, record);
        self.alive += 1;
        self.alive_peak = self.alive_peak.max(self.alive);
    }

    pub(super) fn remember(&mut self, token: LaunchToken, instances: Vec<InstanceId>) {
        self.by_token.insert(token, instances);
    }

    /// What `token` launched, if it was used before.
    pub(super) fn launched_by(&self, token: &LaunchToken) -> Option<&[InstanceId]> {
        self.by_token.get(token).map(Vec::as_slice)
    }

    pub(super) fn get(&self, id: &InstanceId) -> Option<&Record> {
        self.records.get(self.by_id.get(id)?)
    }

    /// Where the instance `id` stands in the order of launches.
    pub(super) fn place(&self, id: &InstanceId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The place of the instance that is added next.
    pub(super) fn next_place(&self) -> usize {
        self.place_next
    }

    /// The instance at `place`, unless it ended so long ago that it is
    /// forgotten.
    pub(super) fn find(&self, place: usize) -> Option<&Record> {
        self.records.get(&place)
    }

    /// The instance at `place`, which is not forgotten.
    pub(super) fn at(&self, place: usize) -> &Record {
        &self.records[&place]
    }

    /// The instance at `place`, which is not forgotten.
    pub(super) fn at_mut(&mut self, place: usize) -> &mut Record {
        self.records.get_mut(&place).expect(FORGOTTEN)
    }

    /// Places of those that have not ended, in the order of their names.
    pub(super) fn alive_places(&self) -> Vec<usize> {
        let alive = |place: &&usize| self.records[*place].ended_at.is_none();
        self.shown.values().filter(alive).copied().collect()
    }

    pub(super) fn get_mut(&mut self, id: &InstanceId) -> Option<&mut Record> {
        let place = *self.by_id.get(id)?;
        self.records.get_mut(&place)
    }

    /// Notes that the instance at `place`, which must not have ended yet, ends at `now`.
    pub(super) fn end(&mut self, place: usize, now: u64) {
        let record = self.at_mut(place);
        record.ended_at = Some(now);
        record.worker = None;
        self.leaving.push_back(place);
        self.alive -= 1;
    }

    /// Takes those out of the listings that ended `lag` before `now`, and, if it
    /// is forgetful, forgets those that ended an hour before that, and their tokens.
    pub(super) fn forget_ended(&mut self, now: u64, lag: u64) {
        let ended_by = |record: &Record, after: u64| {
            let over = |at: u64| at.saturating_add(after) <= now;
            record.ended_at.is_some_and(over)
        };
        while let Some(place) = self.leaving.front() {
            let record = &self.records[place];
            if !ended_by(record, lag) {
                break;
            }
            self.shown.remove(&record.id);
            self.gone.extend(self.leaving.pop_front());
        }
        while self.forgetful
            && let Some(place) = self.gone.front().copied()
            && ended_by(&self.records[&place], lag.saturating_add(REMEMBERED_MICROS))
        {
            self.gone.pop_front();
            self.forget(place);
        }
    }

    /// Forgets instances an hour after they went from the listings, from now on.
    pub(super) const fn be_forgetful(&mut self) {
        self.forgetful = true;
    }

    /// Forgets the instance at `place`, and its token with the last instance
    /// that it launched.
    fn forget(&mut self, place: usize) {
        let Some(record) = self.records.remove(&place) else {
            return;
        };
        self.by_id.remove(&record.id);
        let Some(token) = record.token else {
            return;
        };
        let mut launched = self.by_token.get(&token).into_iter().flatten();
        if launched.all(|id| !self.by_id.contains_key(id)) {
            self.by_token.remove(&token);
        }
    }

    /// All there ever were, in the order of their launches.
    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Those that may be in a listing, sorted by id.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Record> {
        self.shown.values().map(|place| &self.records[place])
    }

    /// Those that have not ended, sorted by id.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Record> {
        self.shown().filter(|record| record.ended_at.is_none())
    }

    /// How many have not ended.
    pub(super) fn alive_count(&self) -> u32 {
        self.alive
    }

    /// The most that were there at once.
    pub(super) fn alive_peak(&self) -> u32 {
        self.alive_peak
    }
}
