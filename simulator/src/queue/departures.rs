//! When each slot's job ends, and whose ends first.

use super::jobs::{narrow, wide};

/// Stands for no job: later than every end, of which none is in the year 292,000.
pub(super) const NEVER: u64 = 1 << 63;

/// The key of a slot without a job.
const NO_KEY: u64 = u64::MAX;

/// A tree of winners: a leaf for every slot, and above each two the earlier of
/// their ends. A change takes one comparison a level and no branch, whichever
/// slot it is, and reads nothing whose place has to be found first; a heap takes
/// twice as many to put in and take out, and each is hard to foresee.
///
/// End and slot are packed in one number, which takes a tenth off the whole
/// queue. What is left for the end is two years with the most slots there may
/// be, and a century with a few thousand. Ends beyond that are looked for one by
/// one, once they come first.
#[derive(Debug)]
pub(super) struct Departures {
    /// By slot; [`NEVER`] for no job.
    ends: Vec<u64>,
    // Invariant: node `n` has the lesser of the nodes `2 n` and `2 n + 1`; the
    // second half are the leaves, by slot. Its length is a power of two.
    nodes: Vec<u64>,
    /// How many bits of a key the slot takes; the end is above.
    bits: u32,
}

impl Departures {
    /// Of no slots.
    pub(super) fn new() -> Self {
        Self {
            ends: vec![NEVER],
            nodes: vec![NO_KEY; 2],
            bits: 0,
        }
    }

    /// Makes room for so many slots.
    pub(super) fn hold(&mut self, slots: usize) {
        if slots <= self.ends.len() {
            return;
        }
        let leaves = slots.next_power_of_two();
        let mut ends = std::mem::take(&mut self.ends);
        ends.resize(leaves, NEVER);
        *self = Self {
            ends: vec![NEVER; leaves],
            nodes: vec![NO_KEY; 2 * leaves],
            bits: leaves.ilog2(),
        };
        for (slot, end) in ends.into_iter().enumerate() {
            self.set(slot, end);
        }
    }

    /// When the job of `slot`, for which there is room, ends; [`NEVER`] for no job.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, end: u64) {
        let mut key = if end == NEVER {
            NO_KEY
        } else {
            end.min(self.far()) << self.bits | wide(slot)
        };
        let mut place = self.ends.len() + slot;
        self.ends[slot] = end;
        self.nodes[place] = key;
        while place > 1 {
            // Of equal ends, that of the lower slot.
            key = key.min(self.nodes[place ^ 1]);
            place /= 2;
            self.nodes[place] = key;
        }
    }

    /// Stands for all ends from it on in keys; less than that of [`NO_KEY`].
    #[inline]
    const fn far(&self) -> u64 {
        (NO_KEY >> self.bits) - 1
    }

    /// The first end; [`NEVER`] if there is no job.
    #[inline]
    pub(super) fn first(&self) -> u64 {
        let key = self.nodes[1];
        let end = key >> self.bits;
        if end < self.far() {
            end
        } else if key == NO_KEY {
            NEVER
        } else {
            self.ends[self.search()]
        }
    }

    /// The slot whose job ends first; of several, the one with the lowest
    /// number. Of no meaning if there is no job.
    #[inline]
    pub(super) fn first_slot(&self) -> usize {
        let key = self.nodes[1];
        if key >> self.bits < self.far() {
            narrow(key & ((1 << self.bits) - 1))
        } else {
            self.search()
        }
    }

    /// The same, found without the keys.
    #[cold]
    fn search(&self) -> usize {
        let slots = self.ends.iter().enumerate();
        let first = slots.min_by_key(|(slot, end)| (**end, *slot));
        first.map_or(0, |(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_end_is_that_of_a_plain_search(
            changes in prop::collection::vec((0_usize..40, prop_oneof![
                0_u64..30,
                // Of 64 slots, 58 bits are left for the end.
                (1_u64 << 58) - 3..(1 << 58) + 3,
                Just(NEVER - 1),
                Just(NEVER),
            ]), 0..200),
        ) {
            let (mut tree, mut plain) = (Departures::new(), Vec::new());
            for (slot, end) in changes {
                if plain.len() <= slot {
                    plain.resize(slot + 1, NEVER);
                }
                tree.hold(plain.len());
                tree.set(slot, end);
                plain[slot] = end;
                let first = plain.iter().copied().min().expect("one at least");
                prop_assert_eq!(tree.first(), first);
                if first < NEVER {
                    let place = plain.iter().position(|end| *end == first);
                    prop_assert_eq!(Some(tree.first_slot()), place);
                }
            }
        }
    }
}
