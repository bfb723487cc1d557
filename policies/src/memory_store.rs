//! A store that forgets everything when it is dropped: for simulated worlds
//! and fault tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::ports::{Record, Store, StoreError};

/// How much of a fleet's history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Nothing.
    Nothing,
    /// The newest decision and what was written after it.
    Tail,
    /// Every record.
    All,
}

/// Records by fleet, in memory.
///
/// It takes whatever is appended. The stores of the daemon also refuse a cycle
/// that was recorded before; this one does not, so that a test sees what a
/// controller with a bad memory would do.
#[derive(Debug)]
pub struct MemoryStore {
    keep: Keep,
    fleets: RefCell<BTreeMap<String, Vec<Record>>>,
}

impl MemoryStore {
    /// A store that keeps of each fleet the newest decision and what was
    /// written after it, so that it does not grow however long the run.
    pub fn keeping_tail() -> Self {
        Self {
            keep: Keep::Tail,
            fleets: RefCell::default(),
        }
    }

    /// A store that keeps nothing, for runs that nobody will look back on:
    /// cycles then put no records together, which is most of their work.
    pub fn keeping_nothing() -> Self {
        Self {
            keep: Keep::Nothing,
            fleets: RefCell::default(),
        }
    }

    /// A store that keeps every record. It grows without limit: for runs whose
    /// length is known.
    pub fn keeping_all() -> Self {
        Self {
            keep: Keep::All,
            fleets: RefCell::default(),
        }
    }

    /// Calls `look` with the records of `fleet` that are kept, oldest first;
    /// none if it has no history. `look` must not append to this store.
    pub fn look<T>(&self, fleet: &str, look: impl FnOnce(&[Record]) -> T) -> T {
        look(self.fleets.borrow().get(fleet).map_or(&[], Vec::as_slice))
    }
}

impl Store for MemoryStore {
    /// Never fails.
    fn append(&self, fleet: &str, record: &Record) -> Result<(), StoreError> {
        if !self.is_read() {
            return Ok(());
        }
        let mut fleets = self.fleets.borrow_mut();
        if !fleets.contains_key(fleet) {
            fleets.insert(fleet.to_owned(), Vec::new());
        }
        let records = fleets.get_mut(fleet).expect("it was put there just now");
        if self.keep == Keep::Tail && matches!(record, Record::Decided(_)) {
            records.clear();
        }
        records.push(record.clone());
        Ok(())
    }

    fn is_read(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// Never fails.
    fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError> {
        Ok(self.look(fleet, |records| {
            records
                .iter()
                .rposition(|record| matches!(record, Record::Decided(_)))
                .map_or_else(Vec::new, |newest| records[newest..].to_vec())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::model::{Action, Decision, Epoch, InstanceId, Listing, Observation};
    use crate::ports::Decided;
    use crate::signal::Readings;
    use crate::units::Timestamp;

    fn decided(cycle: u64) -> Record {
        let at = Timestamp::from_secs(cycle * 60);
        Record::Decided(Box::new(Decided {
            memory: Memory::default(),
            seen: Observation {
                now: at,
                fleet: Ok(Listing::default()),
                readings: Readings::new(),
                prices: BTreeMap::new(),
            },
            decision: Decision {
                epoch: Epoch(1),
                cycle,
                at,
                current: Some(0),
                proposals: Vec::new(),
                wish: None,
                target: Some(0),
                reasons: Vec::new(),
                actions: Vec::new(),
            },
            spec: "test".to_owned(),
        }))
    }

    fn planned(cycle: u64) -> Record {
        Record::Planned {
            cycle,
            action: Action::Fence {
                instance: InstanceId::new("i-1"),
            },
            why: None,
        }
    }

    #[test]
    fn tail_starts_at_the_newest_decision_whatever_is_kept() {
        for store in [MemoryStore::keeping_tail(), MemoryStore::keeping_all()] {
            assert_eq!(store.tail("web").expect("never fails"), []);
            let records = [
                planned(0),
                decided(1),
                planned(1),
                decided(2),
                planned(2),
                planned(2),
            ];
            for record in &records {
                store.append("web", record).expect("never fails");
            }
            assert_eq!(store.tail("web").expect("never fails"), records[3..]);
            assert_eq!(store.tail("batch").expect("never fails"), []);
        }
    }

    #[test]
    fn only_the_tail_stays_unless_all_is_to_be_kept() {
        let cases = [
            (MemoryStore::keeping_nothing(), 0),
            (MemoryStore::keeping_tail(), 2),
            (MemoryStore::keeping_all(), 2_000),
        ];
        for (store, kept) in cases {
            for cycle in 1..=1_000 {
                store.append("web", &decided(cycle)).expect("never fails");
                store.append("web", &planned(cycle)).expect("never fails");
            }
            assert_eq!(store.look("web", <[Record]>::len), kept);
        }
    }
}
