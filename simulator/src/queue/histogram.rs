//! How often which durations came: for runs whose waits are too many to keep.

use super::Quantiles;
use super::jobs::{narrow, wide};
use super::spread::rank;

/// Values below twice this have a class of their own; above, each doubling has
/// this many classes.
const CLASSES_A_DOUBLING: u64 = 1 << CLASS_BITS;
const CLASS_BITS: u32 = 7;

/// Which part of a quantile of [`Keep::Histogram`](super::Keep::Histogram) it
/// may be off by: a quantile is the middle of its class.
pub const HISTOGRAM_ERROR: f64 = 1.0 / 256.0;

/// Counts by size class. A quantile is the middle of its class: at most 1 in
/// 256 off, whatever the values. Unlike a list it can forget a value again at
/// no cost, which a job that is lost with its instance needs.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// Zeros are counted apart: most waits are zero, and counting on one and
    /// the same place of `classes` is slow.
    zeros: u64,
    classes: Vec<u64>,
    /// The largest that was ever added, even if it was forgotten since.
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            zeros: 0,
            classes: vec![0; class(u64::MAX) + 1],
            max: 0,
        }
    }

    /// Takes in one value.
    #[inline]
    pub(super) fn add(&mut self, value: u64) {
        if value == 0 {
            self.zeros += 1;
        } else {
            self.classes[class(value)] += 1;
            self.max = self.max.max(value);
        }
    }

    /// Forgets one value that was taken in.
    pub(super) fn remove(&mut self, value: u64) {
        if value == 0 {
            self.zeros -= 1;
        } else {
            self.classes[class(value)] -= 1;
        }
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let largest = self.classes.iter().rposition(|within| *within > 0);
        let max = largest.map_or(0, |class| {
            let (low, width) = edges(class);
            self.max.min(low + (width - 1))
        });
        let middle = |percent| {
            let (low, width) = edges(self.place(percent).0);
            (low + (width - 1) / 2).min(max)
        };
        let [p50, p95, p99] = [50, 95, 99].map(middle);
        Quantiles { p50, p95, p99, max }
    }

    /// The class that the `percent` quantile is in, and its rank there.
    pub(super) fn place(&self, percent: u64) -> (usize, u64) {
        let count = self.zeros + self.classes.iter().sum::<u64>();
        let mut rank = rank(count, percent);
        // Zeros are all of class 0 there is.
        if rank < self.zeros {
            return (0, rank);
        }
        rank -= self.zeros;
        for (class, within) in self.classes.iter().enumerate() {
            if rank < *within {
                return (class, rank);
            }
            rank -= within;
        }
        (0, 0)
    }

    /// The largest that was ever added.
    pub(super) const fn max(&self) -> u64 {
        self.max
    }

    /// How many classes there are.
    pub(super) const fn classes(&self) -> usize {
        self.classes.len()
    }
}

/// The size class of `value`.
#[inline]
pub(super) fn class(value: u64) -> usize {
    let shift = (value | CLASSES_A_DOUBLING).ilog2() - CLASS_BITS;
    narrow((u64::from(shift) << CLASS_BITS) + (value >> shift))
}

/// The least value of a class, and how many it has.
pub(super) fn edges(class: usize) -> (u64, u64) {
    let class = wide(class);
    let shift = (class >> CLASS_BITS).saturating_sub(1);
    let low = (class - (shift << CLASS_BITS)) << shift;
    (low, 1 << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::quantile;

    #[test]
    fn classes_follow_one_another_without_gap() {
        let mut expected = 0;
        for number in 0..=class(u64::MAX) {
            let (low, width) = edges(number);
            assert_eq!(low, expected);
            assert_eq!([class(low), class(low + (width - 1))], [number; 2]);
            assert!(width == 1 || width * CLASSES_A_DOUBLING <= low);
            expected = low.wrapping_add(width);
        }
        assert_eq!(expected, 0, "up to the largest number");
    }

    /// Many sizes, many zeros.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = (any::<u64>(), 8..64_u32, 0..4_u8)
            .prop_map(|(bits, shift, zero)| if zero == 0 { 0 } else { bits >> shift });
        prop::collection::vec(value, 1..400)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_1_in_256_of_exact(values in values(), forgotten in values()) {
            let mut histogram = Histogram::new();
            for value in values.iter().chain(&forgotten) {
                histogram.add(*value);
            }
            for value in &forgotten {
                histogram.remove(*value);
            }
            let seen = histogram.quantiles();
            let sorted = |percent| quantile(&mut values.clone(), percent).expect("some");
            for (seen, exact) in [
                (seen.p50, sorted(50)),
                (seen.p95, sorted(95)),
                (seen.p99, sorted(99)),
            ] {
                prop_assert!(seen.abs_diff(exact) <= exact / 256, "{seen} for {exact}");
            }
            let max = sorted(100);
            prop_assert!(seen.max >= max && seen.max - max <= max / 128);
        }
    }
}
