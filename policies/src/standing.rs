//! How reliably an offering is granted and kept: what launches of it came to and
//! what the provider took back, forgotten in time, and how much may be asked of
//! it at once.
//!
//! The estimate is a Beta count with exponential forgetting, as in discounted
//! Thompson sampling (Raj and Kalyani, "Taming Non-stationary Bandits", 2017):
//! each launch adds the share that was granted to one count and the rest to
//! the other, and both halve every [`HALF_LIFE`]. With one grant put in
//! advance, an offering that nothing is known of counts as sure.
//!
//! What the provider takes back counts against its offering too: the share of
//! its instances that it takes, as if that share of a launch had been refused.
//! Spot capacity is taken back where it runs short, and what was bought there
//! anew would be the next to go.
//!
//! The estimate says how dear an offering really is: its price by the share
//! that is granted. The budget says how much is risked on it: one instance
//! after a refusal, as many as it left after it took some back, twice as many
//! after every full grant. So there is no ban
//! that is too long for a short shortage and too short for a long one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Timestamp, micros_of};

/// A quarter of an hour. Others ban an offering for 3 minutes (Karpenter), 10
/// (`ParallelCluster`) or 30 (Cluster Autoscaler) after one refusal.
pub const HALF_LIFE: Duration = Duration::from_mins(15);

/// One launch, in the unit of the counts.
const LAUNCH: u32 = 1_000;

/// More is no more telling, and takes longer to forget.
const LAUNCHES_MAX: u32 = 32 * LAUNCH;

/// A twentieth of a refusal is none: one refusal is forgotten after an hour
/// and a bit.
const FORGOTTEN: u32 = LAUNCH / 20;

/// One instance taken back of many is telling too: others of its pool tend to
/// follow. It counts as a quarter of a launch at least.
const LOSS_MIN: u32 = LAUNCH / 4;

/// What launches of one offering came to of late. There is one only for
/// offerings that refused something or took something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Thousandths of launches granted, as of `at`.
    pub granted: u32,
    /// Thousandths of launches refused or taken back, as of `at`.
    pub refused: u32,
    /// When something was learnt last.
    pub at: Timestamp,
    /// The most instances to ask for at once, at least 1.
    pub budget: u32,
}

impl Standing {
    /// That of an offering of which nothing is known at `at`.
    pub fn unknown(at: Timestamp) -> Self {
        Self {
            granted: 0,
            refused: 0,
            at,
            budget: u32::MAX,
        }
    }

    /// Takes in that of `asked` instances `granted` were granted at `at`.
    pub fn learn(&mut self, at: Timestamp, asked: u32, granted: u32) {
        let granted = granted.min(asked);
        let share = u64::from(granted) * u64::from(LAUNCH) / u64::from(asked.max(1));
        let share = u32::try_from(share).unwrap_or(LAUNCH);
        let add = |count: u32, more: u32| (count + more).min(LAUNCHES_MAX);
        self.granted = add(self.faded(self.granted, at), share);
        self.refused = add(self.faded(self.refused, at), LAUNCH - share);
        self.at = self.at.max(at);
        self.budget = if granted == asked {
            self.budget.saturating_mul(2)
        } else {
            granted.max(1)
        };
    }

    /// Takes in that the provider takes back `lost` of the `held` instances of
    /// the offering at `at`.
    pub fn lose(&mut self, at: Timestamp, held: u32, lost: u32) {
        let held = held.max(lost).max(1);
        let share = (u64::from(lost) * u64::from(LAUNCH)).div_ceil(u64::from(held));
        let share = u32::try_from(share).unwrap_or(LAUNCH).max(LOSS_MIN);
        self.granted = self.faded(self.granted, at);
        self.refused = (self.faded(self.refused, at) + share).min(LAUNCHES_MAX);
        self.at = self.at.max(at);
        self.budget = self.budget.min((held - lost).max(1));
    }

    /// The share of what is asked for that is granted and kept, in thousandths, 1 to 1000.
    pub fn odds(&self, now: Timestamp) -> u32 {
        let granted = u64::from(self.faded(self.granted, now) + LAUNCH);
        let refused = u64::from(self.faded(self.refused, now));
        u32::try_from(granted * 1_000 / (granted + refused)).map_or(1_000, |odds| odds.max(1))
    }

    /// Whether what it knows is too old to matter.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.faded(self.refused, now) < FORGOTTEN
    }

    /// What is left of `count` at `now`: halved every half-life, on a straight
    /// line in between, rounded down. Integers only, so that it replays.
    fn faded(&self, count: u32, now: Timestamp) -> u32 {
        let age = micros_of(now.since(self.at));
        let half = micros_of(HALF_LIFE);
        let whole = u32::try_from(age / half).unwrap_or(u32::MAX);
        let left = u64::from(count.checked_shr(whole).unwrap_or(0));
        let lost = u128::from(left) * u128::from(age % half) / u128::from(2 * half);
        let left = left.saturating_sub(u64::try_from(lost).unwrap_or(u64::MAX));
        u32::try_from(left).unwrap_or(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: u64) -> Timestamp {
        Timestamp::from_secs(number * 60)
    }

    #[test]
    fn a_refusal_sets_back_and_grants_double() {
        let mut standing = Standing::unknown(minute(0));
        assert_eq!(
            (standing.odds(minute(0)), standing.budget),
            (1_000, u32::MAX)
        );
        // asked, granted -> odds in thousandths, budget
        for (asked, granted, odds, budget) in [
            (8, 0, 500, 1),
            (1, 0, 333, 1),
            (1, 1, 500, 2),
            (2, 2, 600, 4),
            (4, 4, 666, 8),
            (8, 2, 607, 2),
            (2, 0, 531, 1),
        ] {
            standing.learn(minute(0), asked, granted);
            let got = (standing.odds(minute(0)), standing.budget);
            assert_eq!(got, (odds, budget), "{granted} of {asked}");
        }
    }

    #[test]
    fn what_is_taken_back_sets_back_by_its_share() {
        // held, lost -> odds in thousandths, budget
        for (held, lost, odds, budget) in [
            (1, 1, 500, 1),
            (8, 8, 500, 1),
            (8, 4, 666, 4),
            (100, 1, 800, 99),
            // More than were known of.
            (0, 3, 500, 1),
        ] {
            let mut standing = Standing::unknown(minute(0));
            standing.lose(minute(0), held, lost);
            let got = (standing.odds(minute(0)), standing.budget);
            assert_eq!(got, (odds, budget), "{lost} of {held}");
        }
        let mut standing = Standing::unknown(minute(0));
        standing.lose(minute(0), 4, 1);
        standing.lose(minute(0), 3, 1);
        assert_eq!((standing.odds(minute(0)), standing.budget), (631, 2));
        assert!(!standing.is_forgotten(minute(30)));
        assert!(
            standing.is_forgotten(minute(60)),
            "it fades as a refusal does"
        );
    }

    #[test]
    fn what_was_learnt_fades() {
        let mut standing = Standing::unknown(minute(0));
        standing.learn(minute(0), 4, 0);
        for (minutes, odds, forgotten) in [
            (0, 500, false),
            (15, 666, false),
            (30, 800, false),
            (60, 941, false),
            (70, 959, true),
            (1_000_000, 1_000, true),
        ] {
            let now = minute(minutes);
            let got = (standing.odds(now), standing.is_forgotten(now));
            assert_eq!(got, (odds, forgotten), "after {minutes} min");
        }
    }

    #[test]
    fn counts_stay_bounded() {
        let mut standing = Standing::unknown(minute(0));
        for _ in 0..10_000 {
            standing.learn(minute(0), 3, 1);
        }
        assert!(standing.granted <= LAUNCHES_MAX && standing.refused <= LAUNCHES_MAX);
    }
}
