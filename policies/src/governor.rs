//! The last gate before the cloud. It knows numbers and limits, and nothing
//! of the policies that made the wish; nothing passes it.
//!
//! It is asked for four things in a cycle: [`bound`] says which size may be
//! aimed at, [`launches`] how many instances may be bought on the way there,
//! [`payable`] how many of them the money pays for, [`ends`] how many may be
//! let go.

use crate::model::{Direction, Reason};
use crate::spec::Limits;
use crate::units::{MicroUsdPerHour, Timestamp};

/// The numbers the governor judges by.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The time of the cycle.
    pub now: Timestamp,
    /// Instances that count as capacity.
    pub current: u32,
    /// Instances that are paid for: capacity, and those still draining.
    pub billed: u32,
    /// What all of them cost an hour.
    pub spend: MicroUsdPerHour,
    /// Launched instances that are neither ready nor given up.
    pub boots_pending: u32,
    /// Launched instances that failed to become ready, in a row.
    pub fruitless: u32,
    /// Instances ended within the last hour.
    pub ended: u32,
    /// Instances on their way out.
    pub draining: u32,
    /// When instances were last launched.
    pub grown_at: Option<Timestamp>,
    /// When instances were last let go.
    pub shrunk_at: Option<Timestamp>,
    /// Whether every policy had the readings it needs.
    pub informed: bool,
}

/// The size that may be aimed at in this cycle, and what shaped it.
///
/// Between `min` and `max`; one step away from `current` at most; the same as
/// `current` while a change settles. Reaching `min` waits for nothing.
pub fn bound(limits: &Limits, situation: &Situation, wish: u32) -> (u32, Vec<Reason>) {
    let mut reasons = Vec::new();
    let mut target = wish;
    if target < limits.min {
        target = limits.min;
        reasons.push(Reason::RaisedToMin { min: limits.min });
    }
    if target > limits.max {
        target = limits.max;
        reasons.push(Reason::CutToMax { max: limits.max });
    }
    let current = situation.current;
    if target > current {
        let until = situation.grown_at.map(|at| at + limits.grow_settle);
        if let Some(until) = until.filter(|until| situation.now < *until)
            && current >= limits.min
        {
            reasons.push(Reason::Settling {
                direction: Direction::Grow,
                until,
            });
            target = current;
        }
        let step = limits.grow_step_max;
        if target - current > step {
            reasons.push(Reason::CutToStep {
                direction: Direction::Grow,
                step,
            });
            target = current + step;
        }
    }
    if target < current {
        let changed_at = situation.grown_at.max(situation.shrunk_at);
        let until = changed_at.map(|at| at + limits.shrink_settle);
        if let Some(until) = until.filter(|until| situation.now < *until) {
            reasons.push(Reason::Settling {
                direction: Direction::Shrink,
                until,
            });
            target = current;
        }
        let step = limits.shrink_step_max;
        if current - target > step {
            reasons.push(Reason::CutToStep {
                direction: Direction::Shrink,
                step,
            });
            target = current - step;
        }
    }
    (target, reasons)
}

/// How many of `wanted` instances may be launched now.
pub fn launches(limits: &Limits, situation: &Situation, wanted: u32) -> (u32, Vec<Reason>) {
    let mut reasons = Vec::new();
    let mut granted = wanted;
    let headroom = limits.max.saturating_sub(situation.billed);
    if granted > headroom {
        granted = headroom;
        reasons.push(Reason::CutToMax { max: limits.max });
    }
    if granted > 0 && situation.fruitless >= limits.breaker_failures {
        // One probe at a time: the next only once this one has failed too.
        let probing = situation.boots_pending == 0;
        granted = u32::from(probing);
        reasons.push(Reason::BreakerOpen {
            fruitless: situation.fruitless,
            probing,
        });
    }
    (granted, reasons)
}

/// How many of `wanted` instances may be let go now.
pub fn ends(limits: &Limits, situation: &Situation, wanted: u32) -> (u32, Vec<Reason>) {
    if !situation.informed || wanted == 0 {
        return (0, Vec::new());
    }
    // The fleet as it was before the last hour's ends.
    let base =
        u64::from(situation.current) + u64::from(situation.draining) + u64::from(situation.ended);
    let share = base * u64::from(limits.shrink_percent_per_hour_max) / 100;
    // Rounded down, but one is always allowed: a fleet of three could
    // otherwise never shrink at 30 %.
    let allowed = u32::try_from(share.max(1)).unwrap_or(u32::MAX);
    let used = situation.ended.saturating_add(situation.draining);
    let left = allowed.saturating_sub(used);
    if wanted <= left {
        return (wanted, Vec::new());
    }
    (
        left,
        vec![Reason::CutByShare {
            allowed,
            ended: used,
        }],
    )
}

/// Instances to be bought at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// How many.
    pub count: u32,
    /// How many of them cost nothing more, because they are prepaid.
    pub prepaid: u32,
    /// What each of the others costs an hour.
    pub price: MicroUsdPerHour,
}

/// How many of each of `purchases` the money pays for, those that come first
/// first.
pub fn payable(
    limits: &Limits,
    situation: &Situation,
    purchases: &[Purchase],
) -> (Vec<u32>, Vec<Reason>) {
    let cap = limits.max_usd_per_hour;
    let mut left = cap.get().saturating_sub(situation.spend.get());
    let mut counts = Vec::with_capacity(purchases.len());
    for purchase in purchases {
        let paid = purchase.count.saturating_sub(purchase.prepaid);
        // Any number if they are free.
        let most = left.checked_div(purchase.price.get());
        let most = most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX));
        let paid_for = paid.min(most);
        left = left.saturating_sub(purchase.price.times(paid_for).get());
        counts.push(purchase.count - (paid - paid_for));
    }
    let wanted: u32 = purchases
        .iter()
        .fold(0, |sum, purchase| sum.saturating_add(purchase.count));
    let granted: u32 = counts
        .iter()
        .fold(0, |sum: u32, count| sum.saturating_add(*count));
    let mut reasons = Vec::new();
    if granted < wanted {
        reasons.push(Reason::CutBySpend {
            affordable: situation.billed.saturating_add(granted),
            cap,
        });
    }
    (counts, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Strays;
    use std::time::Duration;

    fn limits() -> Limits {
        Limits {
            min: 1,
            max: 20,
            max_usd_per_hour: MicroUsdPerHour::new(3_000_000),
            grow_step_max: 8,
            shrink_step_max: 4,
            shrink_settle: Duration::from_mins(5),
            grow_settle: Duration::from_mins(1),
            shrink_percent_per_hour_max: 50,
            boot_timeout: Duration::from_mins(15),
            breaker_failures: 3,
            observe_cycles: 2,
            listing_patience: Duration::from_mins(10),
            strays: Strays::Adopt,
            strays_confirmations: Limits::STRAYS_CONFIRMATIONS,
        }
    }

    fn situation() -> Situation {
        Situation {
            now: Timestamp::from_secs(10_000),
            current: 10,
            billed: 10,
            spend: MicroUsdPerHour::new(2_000_000),
            boots_pending: 0,
            fruitless: 0,
            ended: 0,
            draining: 0,
            grown_at: None,
            shrunk_at: None,
            informed: true,
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let at = |secs_ago: u64| Some(Timestamp::from_secs(10_000 - secs_ago));
        let calm = situation();
        // wish, current, grown, shrunk -> target, reasons
        for (wish, current, grown_at, shrunk_at, target, reasons) in [
            (10, 10, None, None, 10, vec![]),
            (0, 3, None, None, 1, vec!["raised to min 1"]),
            (99, 15, None, None, 20, vec!["cut to max 20"]),
            (19, 10, None, None, 18, vec!["cut to a step of 8 (grow)"]),
            (1, 10, None, None, 6, vec!["cut to a step of 4 (shrink)"]),
            (
                12,
                10,
                at(59),
                None,
                10,
                vec!["settling: no grow before 1970-01-01T02:46:41Z"],
            ),
            (12, 10, at(60), None, 12, vec![]),
            (12, 10, None, at(1), 12, vec![]),
            (
                9,
                10,
                at(299),
                None,
                10,
                vec!["settling: no shrink before 1970-01-01T02:46:41Z"],
            ),
            (
                9,
                10,
                at(900),
                at(299),
                10,
                vec!["settling: no shrink before 1970-01-01T02:46:41Z"],
            ),
            (9, 10, at(300), at(300), 9, vec![]),
            // Reaching min waits for nothing.
            (0, 0, at(1), at(1), 1, vec!["raised to min 1"]),
        ] {
            let now = Situation {
                current,
                grown_at,
                shrunk_at,
                ..calm
            };
            let (got, why) = bound(&limits(), &now, wish);
            let why: Vec<String> = why.iter().map(ToString::to_string).collect();
            assert_eq!(
                (got, why),
                (target, reasons.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn launches_stay_below_max_and_breaker() {
        let calm = situation();
        let full = Situation { billed: 18, ..calm };
        let tripped = Situation {
            fruitless: 3,
            ..calm
        };
        let probing = Situation {
            boots_pending: 1,
            ..tripped
        };
        for (now, wanted, granted) in [
            (calm, 10, 10),
            (calm, 11, 10),
            (full, 5, 2),
            (tripped, 5, 1),
            (probing, 5, 0),
        ] {
            let (got, why) = launches(&limits(), &now, wanted);
            assert_eq!(got, granted, "{now:?}");
            assert_eq!(why.is_empty(), got == wanted, "{now:?}");
        }
    }

    #[test]
    fn the_money_pays_for_all_purchases_together() {
        let of = |count: u32, prepaid: u32, price: u64| Purchase {
            count,
            prepaid,
            price: MicroUsdPerHour::new(price),
        };
        // A million is left.
        for (purchases, counts) in [
            (vec![of(5, 0, 200_000)], vec![5]),
            (vec![of(6, 0, 200_000)], vec![5]),
            (vec![of(6, 1, 200_000)], vec![6]),
            (vec![of(10, 0, 0)], vec![10]),
            (vec![of(2, 0, 400_000), of(2, 0, 200_000)], vec![2, 1]),
            (vec![of(3, 0, 400_000), of(2, 0, 100_000)], vec![2, 2]),
            (vec![of(1, 0, 2_000_000), of(1, 0, 1_000_000)], vec![0, 1]),
        ] {
            let wanted: u32 = purchases.iter().map(|purchase| purchase.count).sum();
            let (got, why) = payable(&limits(), &situation(), &purchases);
            assert_eq!(got, counts, "{purchases:?}");
            assert_eq!(why.is_empty(), got.iter().sum::<u32>() == wanted);
        }
    }

    #[test]
    fn a_share_of_the_fleet_ends_per_hour_and_none_unseen() {
        let calm = situation();
        let busy_hour = Situation {
            ended: 4,
            draining: 2,
            ..calm
        };
        let tiny = Situation { current: 1, ..calm };
        let blind = Situation {
            informed: false,
            ..calm
        };
        for (now, wanted, granted) in [
            (calm, 5, 5),
            (calm, 6, 5),
            (busy_hour, 5, 2),
            (tiny, 1, 1),
            (blind, 5, 0),
        ] {
            assert_eq!(ends(&limits(), &now, wanted).0, granted, "{now:?}");
        }
    }
}
