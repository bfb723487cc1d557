//! Prices that change over time.

use windlass_policies::units::{Meter, MicroUsdPerHour};

/// A price at every moment of a world: steps, each from its time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceCourse {
    // Invariant: not empty, sorted, the first at 0, no time twice.
    steps: Vec<(u64, MicroUsdPerHour)>,
}

impl PriceCourse {
    /// The price that is `steps[i].1` from `steps[i].0` microseconds on. Before
    /// the first step its price holds too. Of steps at one time the last counts.
    /// `None` if there are none.
    pub fn new(mut steps: Vec<(u64, MicroUsdPerHour)>) -> Option<Self> {
        steps.sort_by_key(|(from, _)| *from);
        steps.reverse();
        steps.dedup_by_key(|(from, _)| *from);
        steps.reverse();
        steps.first_mut()?.0 = 0;
        Some(Self { steps })
    }

    /// The price at `at` microseconds.
    pub fn at(&self, at: u64) -> MicroUsdPerHour {
        self.steps[self.place(at)].1
    }

    /// The lowest price there ever is.
    pub fn lowest(&self) -> MicroUsdPerHour {
        let prices = self.steps.iter().map(|(_, price)| *price);
        prices.min().unwrap_or_default()
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step; there always is one.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn place(&self, at: u64) -> usize {
        self.steps
            .partition_point(|(from, _)| *from <= at)
            .saturating_sub(1)
    }

    /// Adds what the time from `from` to `to` costs.
    pub(super) fn charge(&self, meter: &mut Meter, from: u64, to: u64) {
        let mut at = from;
        let mut place = self.place(from);
        while at < to {
            let next = self.steps.get(place + 1).map_or(to, |(next, _)| *next);
            let end = next.min(to);
            meter.add(self.steps[place].1, end - at);
            (at, place) = (end, place + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_prices_are_charged_moment_by_moment() {
        let price = MicroUsdPerHour::new;
        assert_eq!(PriceCourse::new(Vec::new()), None);
        let steps = vec![
            (7, price(50)),
            (5, price(20)),
            (10, price(1)),
            (7, price(30)),
        ];
        let course = PriceCourse::new(steps).expect("it has steps");
        assert_eq!((course.len(), course.is_empty()), (3, false));
        let each: Vec<u64> = (0..12).map(|at| course.at(at).get()).collect();
        assert_eq!(each, [20, 20, 20, 20, 20, 20, 20, 30, 30, 30, 1, 1]);
        for from in 0..12 {
            for to in from..12 {
                let (mut whole, mut pieces) = (Meter::default(), Meter::default());
                course.charge(&mut whole, from, to);
                for at in from..to {
                    pieces.add(course.at(at), 1);
                }
                assert_eq!(whole, pieces, "{from} to {to}");
            }
        }
    }
}
