//! How a number of durations is spread: sum, mean, exact quantiles.

use windlass_policies::units::MICROS_PER_SEC;

use super::histogram::{Histogram, class, edges};
use super::jobs::{narrow, wide};

/// Durations in a few numbers, all in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub sum_micros: u128,
    /// Their quantiles, if more than sums was kept of them.
    pub quantiles: Option<Quantiles>,
}

/// Quantiles by nearest rank: the smallest of the values that has at least that
/// share of all values at or below it. Exact if every value was kept, otherwise
/// at most 1 in 256 off (the largest 1 in 128 if it was lost with its
/// instance). In microseconds; zero if there are no values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// 95 in 100 are at or below it.
    pub p95: u64,
    /// 99 in 100 are at or below it.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// The mean in seconds; `None` if there is nothing. Both sides are whole
    /// numbers until the one division.
    pub fn mean_secs(&self) -> Option<f64> {
        let divisor = u128::from(self.count) * u128::from(MICROS_PER_SEC);
        ratio(self.sum_micros, divisor)
    }
}

/// Finds exact quantiles of more numbers than one wants to copy or sort, by
/// looking at them twice: first they are counted by size class, in a histogram,
/// then those in the few classes that hold a quantile are picked out.
#[derive(Debug)]
pub(super) struct Picked {
    parts: [Part; 3],
    /// Which of the parts collects the values of a class; the first, if
    /// several quantiles are in one.
    place_of: Vec<Option<usize>>,
    max: u64,
}

#[derive(Debug)]
struct Part {
    class: usize,
    rank: u64,
    values: Vec<u64>,
}

impl Picked {
    /// All numbers have been counted.
    pub(super) fn of(counted: &Histogram) -> Self {
        let parts = [50, 95, 99].map(|percent| {
            let (class, rank) = counted.place(percent);
            let values = Vec::new();
            Part {
                class,
                rank,
                values,
            }
        });
        let mut place_of = vec![None; counted.classes()];
        for (place, part) in parts.iter().enumerate() {
            if !alone(part.class) {
                place_of[part.class].get_or_insert(place);
            }
        }
        Self {
            parts,
            place_of,
            max: counted.max(),
        }
    }

    /// Looks at one number again.
    #[inline]
    pub(super) fn add(&mut self, value: u64) {
        if value != 0
            && let Some(place) = self.place_of[class(value)]
        {
            self.parts[place].values.push(value);
        }
    }

    /// All numbers have been seen twice.
    pub(super) fn quantiles(mut self) -> Quantiles {
        let [p50, p95, p99] = [0, 1, 2].map(|place| {
            let (class, rank) = (self.parts[place].class, self.parts[place].rank);
            match self.place_of[class] {
                Some(holder) => {
                    *self.parts[holder]
                        .values
                        .select_nth_unstable(narrow(rank))
                        .1
                }
                None => edges(class).0,
            }
        });
        Quantiles {
            p50,
            p95,
            p99,
            max: self.max,
        }
    }
}

/// Whether a class has one value only: itself tells it.
fn alone(class: usize) -> bool {
    edges(class).1 == 1
}

/// The `percent` quantile of `values` by nearest rank; `None` if there are
/// none. The values are put in another order.
pub(crate) fn quantile(values: &mut [u64], percent: u64) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    let at = narrow(rank(wide(values.len()), percent));
    Some(*values.select_nth_unstable(at).1)
}

/// Where the `percent` quantile of `count` values stands once they are sorted.
pub(super) fn rank(count: u64, percent: u64) -> u64 {
    let ranks = (u128::from(count) * u128::from(percent))
        .div_ceil(100)
        .max(1)
        - 1;
    u64::try_from(ranks).unwrap_or(u64::MAX)
}

/// `numerator / denominator`, rounded in that one division (both are first
/// rounded to 53 bits); `None` for a division by zero.
#[expect(
    clippy::cast_precision_loss,
    reason = "this is where whole numbers become a ratio"
)]
pub(crate) fn ratio(numerator: u128, denominator: u128) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By definition.
    fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
        let reaches = |value: &&u64| {
            let at_or_below = sorted.iter().filter(|other| other <= value).count();
            at_or_below * 100 >= percent * sorted.len()
        };
        sorted.iter().find(reaches).copied().unwrap_or(0)
    }

    fn check(values: &[u64]) {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let expected = Quantiles {
            p50: nearest_rank(&sorted, 50),
            p95: nearest_rank(&sorted, 95),
            p99: nearest_rank(&sorted, 99),
            max: sorted.last().copied().unwrap_or(0),
        };
        let mut counted = Histogram::new();
        for value in values {
            counted.add(*value);
        }
        let mut picked = Picked::of(&counted);
        for value in values {
            picked.add(*value);
        }
        assert_eq!(picked.quantiles(), expected, "{values:?}");
        let p95 = quantile(&mut values.to_vec(), 95);
        assert_eq!(p95, (!values.is_empty()).then_some(expected.p95));
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        for length in 0..150_u64 {
            // A fixed shuffle with many equal values, at several scales.
            for scale in [1, 30, 1 << 20, 1 << 57] {
                let values: Vec<u64> = (0..length).map(|k| k * 7_919 % 101 / 3 * scale).collect();
                check(&values);
                check(
                    &values
                        .iter()
                        .map(|value| value.saturating_sub(9 * scale))
                        .collect::<Vec<_>>(),
                );
                check(
                    &values
                        .iter()
                        .map(|value| value + (100 << 40))
                        .collect::<Vec<_>>(),
                );
            }
        }
        check(&[0, u64::MAX, u64::MAX - 1, 64, 63]);
    }

    #[test]
    fn means_of_nothing_are_absent() {
        assert_eq!(Spread::default().mean_secs(), None);
        let spread = Spread {
            count: 4,
            sum_micros: 6_000_000,
            quantiles: None,
        };
        assert_eq!(spread.mean_secs(), Some(1.5));
    }
}
