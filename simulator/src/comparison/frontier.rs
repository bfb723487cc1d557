//! What a policy can come to as its main knob is turned: money against waiting.

use super::{Figures, FrontierPoint};

/// A policy with its knobs somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How long 95 of 100 jobs waited at most, in seconds.
    pub wait_p95_secs: f64,
    /// What instances cost, in dollars.
    pub instance_usd: f64,
}

impl Point {
    pub(super) fn of(figures: &Figures) -> Self {
        Self {
            wait_p95_secs: figures.wait_secs.p95,
            instance_usd: figures.instance_usd,
        }
    }

    pub(super) fn of_frontier(point: &FrontierPoint) -> Self {
        Self {
            wait_p95_secs: point.wait_secs.p95,
            instance_usd: point.instance_usd,
        }
    }
}

/// Those of `points` that no other beats: by waits, each cheaper than all
/// before it.
pub fn undominated(points: &[Point]) -> Vec<Point> {
    let place = |point: &Point| (point.wait_p95_secs, point.instance_usd);
    undominated_by(points.to_vec(), place)
}

/// The same of anything that has a wait and a cost, which `place` tells; of two
/// in one place, the first.
pub(super) fn undominated_by<T>(mut items: Vec<T>, place: impl Fn(&T) -> (f64, f64)) -> Vec<T> {
    items.sort_by(|one, other| {
        let (one, other) = (place(one), place(other));
        one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
    });
    let mut kept: Vec<T> = Vec::new();
    for item in items {
        if kept
            .last()
            .is_none_or(|last| place(&item).1 < place(last).1)
        {
            kept.push(item);
        }
    }
    kept
}

/// What instances cost if 95 of 100 jobs wait at most `wait_secs`.
///
/// Of the `points`, those that no other beats are joined by straight lines over
/// the logarithm of a second more than the wait, and the cost is read off at
/// `wait_secs`. If all of them wait less than that, it is the cost of the
/// cheapest. `None` if all of them wait longer: nothing is extrapolated.
pub fn cost_at(points: &[Point], wait_secs: f64) -> Option<f64> {
    let frontier = undominated(points);
    let after = frontier
        .iter()
        .position(|point| point.wait_p95_secs > wait_secs);
    let Some(after) = after else {
        return frontier.last().map(|cheapest| cheapest.instance_usd);
    };
    let before = frontier.get(after.checked_sub(1)?)?;
    let after = frontier.get(after)?;
    // A second more, so that no wait at all has a place too.
    let at = |secs: f64| libm::log1p(secs);
    let (from, to) = (at(before.wait_p95_secs), at(after.wait_p95_secs));
    let share = (at(wait_secs) - from) / (to - from);
    Some(before.instance_usd + share * (after.instance_usd - before.instance_usd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[(f64, f64)]) -> Vec<Point> {
        let point = |(wait_p95_secs, instance_usd): &(f64, f64)| Point {
            wait_p95_secs: *wait_p95_secs,
            instance_usd: *instance_usd,
        };
        rows.iter().map(point).collect()
    }

    #[test]
    fn costs_are_read_off_the_frontier() {
        // 9 seconds lie half way between 0 and 99 on this scale: 1, 10, 100.
        let rows = [(99.0, 2.0), (0.0, 10.0), (50.0, 11.0), (99.0, 3.0)];
        for (wait, expected) in [
            (0.0, Some(10.0)),
            (9.0, Some(6.0)),
            (99.0, Some(2.0)),
            (1e9, Some(2.0)),
        ] {
            let found = cost_at(&points(&rows), wait);
            let near = |(found, expected): (f64, f64)| (found - expected).abs() < 1e-9;
            assert!(found.zip(expected).is_some_and(near), "{wait}: {found:?}");
        }
    }

    #[test]
    fn nothing_is_extrapolated() {
        assert_eq!(cost_at(&points(&[(5.0, 1.0), (7.0, 0.5)]), 4.9), None);
        assert_eq!(cost_at(&[], 4.9), None);
        assert_eq!(cost_at(&points(&[(5.0, 1.0)]), 5.0), Some(1.0));
    }

    #[test]
    fn beaten_points_are_left_out() {
        let rows = [(1.0, 5.0), (1.0, 4.0), (2.0, 4.0), (3.0, 4.5), (4.0, 1.0)];
        assert_eq!(
            undominated(&points(&rows)),
            points(&[(1.0, 4.0), (4.0, 1.0)])
        );
    }
}
