//! `kind = "reg"`: the regression rule of Iqbal et al. (2011).
//!
//! It grows by what is there and shrinks by a curve through what was. With the
//! load `L` in servers ([`super::load`]), `n` servers and `W` the last 60
//! `ceil(L)`:
//!
//! ```text
//! n > ceil(L)  ->  p = parabola through W (least squares), at the newest
//!                  min(n, ceil(p) * 1.2), rounded up, if ceil(p) > 0; else n
//! L > n, and by more than slack_jobs  ->  ceil(1.05 * L)
//! otherwise    ->  n
//! ```
//!
//! Sources: W. Iqbal et al., "Adaptive resource provisioning for read intensive
//! multi-tier applications in the cloud", Future Generation Computer Systems
//! 2011; as evaluated by Ilyushkin et al., ICPE 2017, with the code of
//! <https://github.com/ahmedaley/Autoscalers> (`Regression.py`: factors 1.2 and
//! 1.05, 60 points, degree 2, and 5 requests of slack).
//!
//! Flaws kept: the curve is read where it ends and is no forecast. The slack is
//! counted in jobs of a period, whatever the size of the fleet.
//!
//! | key | meaning |
//! |---|---|
//! | `slack_jobs` | jobs a period above capacity that are let be; default 5 |
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::kit::secs;
use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// The regression rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reg {
    /// How load is measured.
    pub load: Load,
    /// Jobs a period above capacity that are let be.
    pub slack_jobs: f64,
}

/// How many points the curve goes through.
const POINTS: usize = 60;

/// What it remembers: `ceil(L)`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
    points: VecDeque<u32>,
}

impl Reg {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let slack_jobs = fields.or_within("slack_jobs", 5.0, 0.0..=1e6);
        let load = Load::read(fields)?;
        Some(Self { load, slack_jobs })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        self.load.demands()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let load = match self.load.measure(&mut notes.load, view) {
            Ok(load) => load?,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        let needed = rounding::ceil(load);
        notes.points.push_back(needed);
        while notes.points.len() > POINTS {
            notes.points.pop_front();
        }
        let size = view.desired;
        let shown = format!("load {} on {size} servers", text(load));
        if size > needed {
            let points: Vec<f64> = notes.points.iter().map(|point| f64::from(*point)).collect();
            let curve = end_of_parabola(&points);
            let fitted = rounding::up(curve);
            let wish = if fitted > 0 {
                size.min(rounding::up(f64::from(fitted) * 1.2))
            } else {
                size
            };
            let why = format!("{shown}, {} by the curve", text(curve));
            return Some(Opinion::instances(wish, why));
        }
        // Jobs that a server does in a period.
        let speed = f64::from(view.slots.max(1)) * secs(self.load.period)
            / secs(self.load.service_mean);
        let over = (load - f64::from(size)) * speed;
        let wish = if load > f64::from(size) && over > self.slack_jobs {
            rounding::ceil(load * 1.05)
        } else {
            size
        };
        Some(Opinion::instances(wish, shown))
    }
}

/// The parabola of least squares through equally spaced `points`, at the last.
///
/// With `x` counted from the middle the odd sums vanish, so that it is two
/// small systems: level and curvature together, and the slope alone. Through
/// three points or fewer it goes exactly.
fn end_of_parabola(points: &[f64]) -> f64 {
    let Some(last) = points.last().copied() else {
        return 0.0;
    };
    if points.len() <= 3 {
        return last;
    }
    let count = f64::from(u32::try_from(points.len()).unwrap_or(u32::MAX));
    let middle = (count - 1.0) / 2.0;
    let (mut s2, mut s4) = (0.0, 0.0);
    let (mut y0, mut y1, mut y2) = (0.0, 0.0, 0.0);
    let mut x = -middle;
    for y in points {
        let square = x * x;
        s2 += square;
        s4 += square * square;
        y0 += y;
        y1 += x * y;
        y2 += square * y;
        x += 1.0;
    }
    let slope = y1 / s2;
    let divisor = count * s4 - s2 * s2;
    let curvature = (count * y2 - s2 * y0) / divisor;
    let level = (s4 * y0 - s2 * y2) / divisor;
    level + slope * middle + curvature * middle * middle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_found_again() {
        let at = |x: f64| 3.0 + 2.0 * x - 0.25 * x * x;
        for count in 1_u32..=60 {
            let points: Vec<f64> = (0..count).map(|x| at(f64::from(x))).collect();
            let end = at(f64::from(count - 1));
            assert!((end_of_parabola(&points) - end).abs() < 1e-6, "{count}");
        }
        // numpy.polyval(numpy.polyfit(range(6), [1, 4, 2, 8, 5, 7], 2), 5)
        let end = end_of_parabola(&[1.0, 4.0, 2.0, 8.0, 5.0, 7.0]);
        assert!((end - 6.75).abs() < 1e-9, "{end}");
    }
}
