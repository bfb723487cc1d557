//! How often AWS may be asked: token buckets below EC2's own, shared by all
//! fleets of a region.
//!
//! EC2 throttles an account per region and kind of call, with token buckets
//! whose sizes and rates it documents ("Request throttling for the Amazon EC2
//! API", <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>).
//! These buckets hold four fifths of that, so that people and other tools of
//! the account are not shut out by windlass. What finds its bucket empty is not
//! sent, and counts as throttled.

use std::cell::RefCell;
use std::collections::BTreeMap;

use windlass_policies::model::FleetError;
use windlass_policies::units::Timestamp;

/// What EC2 documents, of which windlass takes four fifths.
const SHARE_PERCENT: u64 = 80;

/// Tokens are counted in thousandths, since four fifths of them are not whole.
const MILLI: u64 = 1_000;

/// A kind of call with a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// `Describe*` with a filter or a page size.
    Describe,
    /// `RunInstances`, one token a call.
    RunInstances,
    /// Instances asked for by `RunInstances` or `CreateFleet`, one token each.
    LaunchedInstances,
    /// `TerminateInstances`, one token a call.
    TerminateInstances,
    /// Instances named in `TerminateInstances`, one token each.
    TerminatedInstances,
    /// `CreateTags`.
    CreateTags,
    /// `DeleteTags`.
    DeleteTags,
    /// Changing calls without a bucket of their own, `CreateFleet` among them.
    Change,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 8] = [
        Self::Describe,
        Self::RunInstances,
        Self::LaunchedInstances,
        Self::TerminateInstances,
        Self::TerminatedInstances,
        Self::CreateTags,
        Self::DeleteTags,
        Self::Change,
    ];

    /// What EC2 documents: the tokens it holds, and how many come back a second.
    pub const fn documented(self) -> (u64, u64) {
        match self {
            Self::Describe => (100, 20),
            Self::RunInstances => (5, 2),
            Self::LaunchedInstances => (1_000, 2),
            Self::TerminateInstances => (100, 5),
            Self::CreateTags | Self::DeleteTags => (100, 10),
            Self::TerminatedInstances => (1_000, 20),
            Self::Change => (50, 5),
        }
    }
}

/// The buckets of one region.
#[derive(Debug, Default)]
pub struct Budget(RefCell<BTreeMap<Bucket, Level>>);

/// How full a bucket was when.
#[derive(Clone, Copy, Debug)]
struct Level {
    milli: u64,
    at: Timestamp,
}

impl Budget {
    /// Full buckets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `tokens` of each of `wanted`, or nothing at all. A clock that went
    /// back fills nothing.
    ///
    /// # Errors
    /// [`FleetError::Throttled`] if one of them holds less: send nothing.
    pub fn take(&self, now: Timestamp, wanted: &[(Bucket, u32)]) -> Result<(), FleetError> {
        let mut levels = self.0.borrow_mut();
        let mut taken = Vec::with_capacity(wanted.len());
        for &(bucket, tokens) in wanted {
            let level = levels.get(&bucket).copied();
            let filled = refilled(bucket, level, now);
            let left = filled
                .checked_sub(u64::from(tokens) * MILLI)
                .ok_or(FleetError::Throttled)?;
            let at = level.map_or(now, |level| level.at.max(now));
            taken.push((bucket, Level { milli: left, at }));
        }
        levels.extend(taken);
        Ok(())
    }

    /// The most tokens that `bucket` ever gives at once.
    pub fn most(bucket: Bucket) -> u32 {
        let (capacity, _) = bucket.documented();
        u32::try_from(capacity * SHARE_PERCENT / 100).unwrap_or(u32::MAX)
    }
}

/// How full `bucket` is now, in thousandths, rounded down.
fn refilled(bucket: Bucket, level: Option<Level>, now: Timestamp) -> u64 {
    let (capacity, per_second) = bucket.documented();
    let most = capacity * SHARE_PERCENT * MILLI / 100;
    let Some(level) = level else { return most };
    let micros = u64::try_from(now.since(level.at).as_micros()).unwrap_or(u64::MAX);
    let milli_per_second = per_second * SHARE_PERCENT * MILLI / 100;
    let come_back = micros.saturating_mul(milli_per_second) / 1_000_000;
    level.milli.saturating_add(come_back).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn an_empty_bucket_is_throttled_until_it_fills_again() {
        let budget = Budget::new();
        let one = [(Bucket::RunInstances, 1)];
        let taken = (0..10).filter(|_| budget.take(at(0), &one).is_ok()).count();
        assert_eq!(taken, 4, "four fifths of five");
        // 1.6 a second come back: one after 625 ms.
        assert_eq!(budget.take(at(624), &one), Err(FleetError::Throttled));
        assert_eq!(budget.take(at(625), &one), Ok(()));
    }

    #[test]
    fn nothing_is_taken_if_one_of_several_is_empty() {
        let budget = Budget::new();
        let launch = |count| {
            [
                (Bucket::RunInstances, 1),
                (Bucket::LaunchedInstances, count),
            ]
        };
        assert_eq!(budget.take(at(0), &launch(801)), Err(FleetError::Throttled));
        for _ in 0..4 {
            assert_eq!(budget.take(at(0), &launch(200)), Ok(()));
        }
        assert!(
            budget
                .take(at(0), &[(Bucket::LaunchedInstances, 1)])
                .is_err()
        );
    }

    #[test]
    fn no_bucket_ever_gives_more_than_ec2_documents() {
        for bucket in Bucket::ALL {
            let (capacity, per_second) = bucket.documented();
            let budget = Budget::new();
            let mut given = 0;
            for millis in (0..60_000).step_by(10) {
                while budget.take(at(millis), &[(bucket, 1)]).is_ok() {
                    given += 1;
                }
            }
            let share = (capacity + 60 * per_second) * SHARE_PERCENT / 100;
            assert!(given <= share, "{bucket:?}: {given} in a minute");
            assert!(given + 2 >= share, "{bucket:?}: only {given} in a minute");
        }
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let budget = Budget::new();
        let all = [(Bucket::RunInstances, 4)];
        assert_eq!(budget.take(at(10_000), &all), Ok(()));
        assert!(budget.take(at(0), &[(Bucket::RunInstances, 1)]).is_err());
        assert!(
            budget
                .take(at(10_100), &[(Bucket::RunInstances, 1)])
                .is_err()
        );
    }
}
