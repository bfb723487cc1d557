//! When each slot's job ends, and whose ends first.

use std::hint::select_unpredictable;

use super::jobs::wide;

/// Stands for no job: later than every end, of which none is in the year 292,000.
pub(super) const NEVER: u64 = 1 << 63;

/// A tree of winners: a leaf for every slot, and above each two the earlier of
/// their ends. A change takes one comparison a level and no branch, whichever
/// slot it is, and reads nothing whose place has to be found first; a heap takes
/// twice as many to put in and take out, and each is hard to foresee.
#[derive(Debug)]
pub(super) struct Departures {
    // Invariant: node `n` has the first of the nodes `2 n` and `2 n + 1`; the
    // second half are the leaves, by slot. Its length is a power of two.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    end: u64,
    slot: usize,
}

impl Departures {
    /// Of no slots.
    pub(super) fn new() -> Self {
        let mut none = Self { nodes: Vec::new() };
        none.plant(1);
        none
    }

    fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    /// A tree of so many leaves, a power of two, without any job.
    fn plant(&mut self, leaves: usize) {
        self.nodes.clear();
        let slots = (0..2 * leaves).map(|node| node.saturating_sub(leaves));
        self.nodes
            .extend(slots.map(|slot| Node { end: NEVER, slot }));
    }

    /// Makes room for so many slots.
    pub(super) fn hold(&mut self, slots: usize) {
        let before = self.leaves();
        if slots <= before {
            return;
        }
        let leaves = self.nodes.split_off(before);
        self.plant(slots.next_power_of_two());
        for Node { end, slot } in leaves {
            self.set(slot, end);
        }
    }

    /// When the job of `slot`, for which there is room, ends; [`NEVER`] for no job.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, end: u64) {
        let mut place = self.leaves() + slot;
        let mut first = Node { end, slot };
        self.nodes[place] = first;
        while place > 1 {
            let other = self.nodes[place ^ 1];
            // Of equal ends, that of the lower slot.
            let before = other.end < first.end + wide(place & 1);
            first = Node {
                end: select_unpredictable(before, other.end, first.end),
                slot: select_unpredictable(before, other.slot, first.slot),
            };
            place /= 2;
            self.nodes[place] = first;
        }
    }

    /// The first end; [`NEVER`] if there is no job.
    #[inline]
    pub(super) fn first(&self) -> u64 {
        self.nodes[1].end
    }

    /// The slot whose job ends first; of several, the one with the lowest
    /// number. Of no meaning if there is no job.
    #[inline]
    pub(super) fn first_slot(&self) -> usize {
        self.nodes[1].slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_end_is_that_of_a_plain_search(
            changes in prop::collection::vec((0_usize..40, prop_oneof![0_u64..30, Just(NEVER)]), 0..200),
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
