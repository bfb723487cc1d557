//! The slots that serve jobs, ordered by when each can take the next one.
//!
//! A slot is one number: the time it becomes free, one bit for what makes it
//! free, and the slot's own number, packed into a `u64` so that one comparison
//! orders them. Between two horizons the set of slots is fixed and first come,
//! first served needs nothing else: the next job starts at the later of its
//! arrival and the least of these numbers (Kiefer and Wolfowitz), which is
//! then replaced. Departures are never events.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::jobs::{Batch, narrow};

/// Bits for slot numbers to begin with: 1,024 slots leave 285 years of
/// microseconds. Each doubling of the slots halves the years.
const SLOT_BITS_MIN: u32 = 10;

/// What makes a slot free. At equal times a boot comes first, so that it takes
/// a waiting job before the departure next to it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// It was added, or put back to work: it has no job.
    Fresh,
    /// Its job ends.
    Departure,
}

/// One slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    /// The number of its last job; of no meaning before the first.
    job: u64,
}

/// A job in a slot's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InHand {
    /// Its number.
    pub(super) job: u64,
    /// When it will end.
    pub(super) end: u64,
}

/// All slots; those on offer take jobs.
#[derive(Debug)]
pub(super) struct Slots {
    bits: u32,
    // Invariant: `bits` is the least that numbers them all, but at least
    // `SLOT_BITS_MIN`.
    all: Vec<Slot>,
    /// Which of them are on offer.
    offered: Vec<bool>,
    /// Blocks of slot numbers that are in use no more, by length.
    spare: BTreeMap<u32, BTreeSet<u32>>,
    first: Tournament,
    /// Whether what is on offer has changed since `first` was played.
    stale: bool,
}

/// A tree of losers: every slot on offer is a leaf, each inner node keeps the
/// larger of the two keys that met there, and the least key of all comes out
/// on top. To replace that one takes one comparison a level and no branch.
#[derive(Debug)]
struct Tournament {
    /// Losers by node; node 1 is the root, those of node `n` come from the
    /// nodes `2 n` and `2 n + 1`. Its length, a power of two, is that of the leaves.
    losers: Vec<u64>,
    winner: u64,
}

/// Stands in for slots that are not on offer; larger than every limit.
const NO_KEY: u64 = u64::MAX;

impl Tournament {
    /// Plays among `keys`, by slot number.
    fn of(keys: impl ExactSizeIterator<Item = u64>) -> Self {
        let leaves = keys.len().next_power_of_two();
        let mut winners = vec![NO_KEY; 2 * leaves];
        for (winner, key) in winners[leaves..].iter_mut().zip(keys) {
            *winner = key;
        }
        let mut losers = vec![NO_KEY; leaves];
        for node in (1..leaves).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            winners[node] = left.min(right);
            losers[node] = left.max(right);
        }
        Self {
            losers,
            winner: winners[1],
        }
    }

    /// How many levels there are.
    fn depth(&self) -> u32 {
        self.losers.len().ilog2()
    }
}

/// The hot loop: gives the jobs of `batch` in order to the least key, until it
/// is not below `limit`, and notes what each waited. Returns how many were
/// started.
///
/// It is made once for each depth of the tree, so that the way up is laid out
/// in a row and the key's parts are cut by constants. All that can be reckoned
/// from the waits afterwards is left to the caller: here every step waits for
/// the one before.
fn play<const DEPTH: u32>(
    first: &mut Tournament,
    all: &mut [Slot],
    batch: Batch<'_>,
    limit: u64,
    waits: &mut [u64],
) -> usize {
    let bits = DEPTH.max(SLOT_BITS_MIN);
    let (shift, mask, departure) = (bits + 1, (1_u64 << bits) - 1, 1_u64 << bits);
    let leaves = 1_usize << DEPTH;
    let losers = &mut first.losers[..leaves];
    let (mut key, mut job) = (first.winner, batch.first);
    let jobs = batch.arrivals.iter().zip(batch.services);
    for ((arrival, service), wait) in jobs.zip(waits) {
        if key >= limit {
            break;
        }
        let arrival = arrival + batch.offset;
        let start = arrival.max(key >> shift);
        *wait = start - arrival;
        let slot = key & mask;
        key = (start + service) << shift | departure | slot;
        let slot = narrow(slot);
        all[slot] = Slot { key, job };
        let mut node = (leaves + slot) >> 1;
        for _ in 0..DEPTH {
            let place = node & (leaves - 1);
            let loser = losers[place];
            losers[place] = loser.max(key);
            key = loser.min(key);
            node /= 2;
        }
        job += 1;
    }
    first.winner = key;
    narrow(job - batch.first)
}

/// [`play`] for the `depth` of a tree. Deeper ones than those named have more
/// slots than [`super::SLOTS_MAX`].
fn play_at(
    depth: u32,
    first: &mut Tournament,
    all: &mut [Slot],
    batch: Batch<'_>,
    limit: u64,
    waits: &mut [u64],
) -> usize {
    macro_rules! deep {
        ($($depth:literal)*) => {
            match depth {
                $($depth => play::<$depth>(first, all, batch, limit, waits),)*
                _ => panic!("more slots than any queue should have"),
            }
        };
    }
    deep!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24)
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            bits: SLOT_BITS_MIN,
            all: Vec::new(),
            offered: Vec::new(),
            spare: BTreeMap::new(),
            first: Tournament::of(std::iter::empty()),
            stale: false,
        }
    }

    /// `count` slots side by side that become free at `ready_at`; on offer at
    /// once. The lowest numbers that nobody uses.
    pub(super) fn add(&mut self, count: u32, ready_at: u64) -> Range<u32> {
        let first = self
            .spare
            .get_mut(&count)
            .and_then(BTreeSet::pop_first)
            .unwrap_or_else(|| {
                let first = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
                let length = narrow(u64::from(first) + u64::from(count));
                self.all.resize(length, Slot::default());
                self.offered.resize(length, false);
                self.widen();
                first
            });
        let range = first..first + count;
        for slot in range.clone() {
            self.set(slot, ready_at, Freed::Fresh);
        }
        self.offer(range.clone());
        range
    }

    /// Gives the numbers of `range` back. They must not be on offer.
    pub(super) fn release(&mut self, range: Range<u32>) {
        self.spare
            .entry(range.end - range.start)
            .or_default()
            .insert(range.start);
    }

    /// Puts the slots of `range` on offer.
    pub(super) fn offer(&mut self, range: Range<u32>) {
        self.set_offered(range, true);
    }

    /// Takes the slots of `range` off offer; they go on with their jobs.
    pub(super) fn withdraw(&mut self, range: Range<u32>) {
        self.set_offered(range, false);
    }

    fn set_offered(&mut self, range: Range<u32>, offered: bool) {
        for slot in range {
            self.offered[index(slot)] = offered;
        }
        self.stale = true;
    }

    /// Rare against the jobs served, so it plays the whole tournament again.
    fn refresh(&mut self) {
        if self.stale {
            let slots = self.all.iter().zip(&self.offered);
            let key = |(slot, offered): (&Slot, &bool)| if *offered { slot.key } else { NO_KEY };
            self.first = Tournament::of(slots.map(key));
            self.stale = false;
        }
    }

    /// Says that `slot`, which must not be on offer, is free from `at` on.
    pub(super) fn set(&mut self, slot: u32, at: u64, freed: Freed) {
        self.all[index(slot)].key = self.pack(at, freed, slot);
    }

    /// The job that `slot` has in hand at the tick of `now`. A job that ends
    /// at `now` still is: a tick comes before the departures of its instant.
    pub(super) fn in_hand(&self, slot: u32, now: u64) -> Option<InHand> {
        self.hand(self.all[index(slot)], now)
    }

    /// The jobs in all hands at the tick of `now`, and perhaps some that were
    /// lost with slots that are in use no more.
    pub(super) fn all_in_hand(&self, now: u64) -> impl Iterator<Item = InHand> {
        self.all
            .iter()
            .filter_map(move |slot| self.hand(*slot, now))
    }

    fn hand(&self, Slot { key, job }: Slot, now: u64) -> Option<InHand> {
        let end = key >> (self.bits + 1);
        (self.freed(key) == Freed::Departure && end >= now).then_some(InHand { job, end })
    }

    /// Since when, or from when on, `slot` is free.
    pub(super) fn free_at(&self, slot: u32) -> u64 {
        self.all[index(slot)].key >> (self.bits + 1)
    }

    /// The latest horizon at which no key can overflow, if jobs take at most
    /// `service_max`.
    pub(super) fn horizon_max(&self, service_max: u64) -> u64 {
        (self.time_max() - 1).saturating_sub(service_max)
    }

    /// Serves the jobs of `batch`, all of which have arrived before the tick
    /// of `horizon`, in order, until one could only start after that tick or
    /// there is no more room in `waits`, which gets what each waited.
    /// Returns how many were started.
    pub(super) fn serve(&mut self, batch: Batch<'_>, horizon: u64, waits: &mut [u64]) -> usize {
        self.refresh();
        let limit = self.pack(horizon, Freed::Departure, 0);
        let depth = self.first.depth();
        play_at(depth, &mut self.first, &mut self.all, batch, limit, waits)
    }

    /// Whether a slot on offer is free at the tick of `horizon`.
    pub(super) fn any_free(&mut self, horizon: u64) -> bool {
        self.refresh();
        self.first.winner < self.pack(horizon, Freed::Departure, 0)
    }

    /// Makes room for the numbers of all slots in the keys.
    fn widen(&mut self) {
        let bits = usize::BITS - self.all.len().saturating_sub(1).leading_zeros();
        if bits <= self.bits {
            return;
        }
        let (old, mask) = (self.bits, self.mask());
        let time_max = u64::MAX >> (bits + 1);
        let wider = |key: u64| {
            // What was further away than the narrower field can say is still
            // further away than any horizon.
            let time = (key >> (old + 1)).min(time_max);
            let departure = key >> old & 1;
            (time << 1 | departure) << bits | key & mask
        };
        for slot in &mut self.all {
            slot.key = wider(slot.key);
        }
        self.bits = bits;
        self.stale = true;
    }

    fn pack(&self, at: u64, freed: Freed, slot: u32) -> u64 {
        let departure = match freed {
            Freed::Fresh => 0,
            Freed::Departure => 1,
        };
        (at.min(self.time_max()) << 1 | departure) << self.bits | u64::from(slot)
    }

    fn freed(&self, key: u64) -> Freed {
        if key >> self.bits & 1 == 0 {
            Freed::Fresh
        } else {
            Freed::Departure
        }
    }

    fn time_max(&self) -> u64 {
        u64::MAX >> (self.bits + 1)
    }

    fn mask(&self) -> u64 {
        (1 << self.bits) - 1
    }
}

fn index(slot: u32) -> usize {
    narrow(u64::from(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_meaning_when_slots_become_many() {
        let mut slots = Slots::new();
        let first = slots.add(3, 5);
        slots.set(1, 70, Freed::Departure);
        slots.withdraw(first.clone());
        slots.offer(first);
        assert_eq!(slots.horizon_max(7), (1 << 53) - 1 - 1 - 7);
        let second = slots.add(5_000, 1 << 60);
        assert_eq!(slots.bits, 13);
        assert_eq!(slots.horizon_max(0), (1 << 50) - 2);
        assert_eq!(second, 3..5_003);
        assert_eq!([0, 1, 2].map(|slot| slots.free_at(slot)), [5, 70, 5]);
        assert_eq!(slots.in_hand(1, 70), Some(InHand { job: 0, end: 70 }));
        assert_eq!(slots.in_hand(1, 71), None);
        assert_eq!(slots.in_hand(0, 0), None);
        assert_eq!(slots.free_at(3), (1 << 50) - 1, "beyond every horizon");
        assert!(slots.any_free(5) && !slots.any_free(4));
    }

    #[test]
    fn numbers_are_used_again_lowest_first() {
        let mut slots = Slots::new();
        let ranges: Vec<Range<u32>> = [2, 2, 1, 2].map(|count| slots.add(count, 0)).into();
        assert_eq!(ranges, [0..2, 2..4, 4..5, 5..7]);
        for range in [ranges[1].clone(), ranges[0].clone(), ranges[2].clone()] {
            slots.withdraw(range.clone());
            slots.release(range);
        }
        assert_eq!(
            [2, 1, 1, 2].map(|count| slots.add(count, 0)),
            [0..2, 4..5, 7..8, 2..4]
        );
    }
}
