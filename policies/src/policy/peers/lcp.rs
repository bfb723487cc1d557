//! `kind = "lcp"`: lazy capacity provisioning of Lin, Wierman, Andrew and
//! Thereska (2011).
//!
//! Each period costs `n` server periods, and `penalty` for each server that the
//! load `L` ([`super::load`]) lacks; starting a server costs `boot` server
//! periods:
//!
//! ```text
//! f(n) = n + penalty * max(0, L - n)
//! lower = the last size of the plan for all periods so far that is cheapest if
//!         starting costs and stopping is free; the smallest of equals
//! upper = the same if stopping costs and starting is free; the largest
//! n     = min(max(n, lower), upper)
//! ```
//!
//! So it moves only as far as hindsight compels it to, and costs at most three
//! times what the best plan would. Both plans are kept as the slopes of their
//! cost from size to size: taking a period in bounds each slope (to 0..boot, or
//! -boot..0) and adds that of `f`.
//!
//! Source: M. Lin, A. Wierman, L. Andrew, E. Thereska, "Dynamic right-sizing for
//! power-proportional data centers", INFOCOM 2011 and IEEE/ACM TON 2013. The
//! paper leaves `f` to the user; this is the simplest one that is convex and
//! knows delay.
//!
//! Flaws kept: it knows what starting costs, and not that it takes time.
//!
//! | key | meaning |
//! |---|---|
//! | `penalty` | default 10, 1 to 10000: server periods a lacking server is worth |
//! | `boot` | what starting costs, in time of a server; default `"120s"`, to `"24h"` |
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::secs;
use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// Lazy capacity provisioning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lcp {
    /// How load is measured.
    pub load: Load,
    /// What a server that lacks for a period costs, in server periods.
    pub penalty: f64,
    /// What starting a server costs, in its time.
    pub boot: Duration,
}

/// The largest size that is told apart; above it every server is like the last.
const SIZES_MAX: usize = 5_000;

/// The slopes of the two plans' costs: element `n` is what size `n + 1` costs
/// more than size `n`. Sizes beyond were never needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Lcp {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let penalty = fields.or_within("penalty", 10.0, 1.0..=1e4);
        let bounds = Duration::ZERO..=Duration::from_hours(24);
        let boot = fields.or_within("boot", Duration::from_mins(2), bounds);
        let load = Load::read(fields)?;
        Some(Self {
            load,
            penalty,
            boot,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        self.load.demands()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let load = match self.load.measure(&mut notes.load, view) {
            Ok(load) => load?,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        let boot = secs(self.boot) / secs(self.load.period);
        let (lower, upper) = self.bounds(notes, load, boot);
        let wish = view.desired.max(lower).min(upper.max(lower));
        let why = format!("load {}: between {lower} and {upper}", text(load));
        Some(Opinion::instances(wish, why))
    }

    /// Takes in a period of `load`, and gives the two bounds.
    fn bounds(&self, notes: &mut Notes, load: f64, boot: f64) -> (u32, u32) {
        let reach = usize::try_from(rounding::ceil(load)).unwrap_or(SIZES_MAX);
        let sizes = notes.lower.len().max(reach.min(SIZES_MAX));
        // A size that was never needed: it costs its start, or nothing yet.
        notes.lower.resize(sizes, boot);
        notes.upper.resize(sizes, 0.0);
        let mut below = 0.0;
        for (lower, upper) in notes.lower.iter_mut().zip(&mut notes.upper) {
            // How much of the next server has work.
            let lacking = (load - below).clamp(0.0, 1.0);
            let slope = 1.0 - self.penalty * lacking;
            *lower = lower.clamp(0.0, boot) + slope;
            *upper = upper.clamp(-boot, 0.0) + slope;
            below += 1.0;
        }
        let lower = notes.lower.iter().take_while(|slope| **slope < 0.0);
        let upper = notes.upper.iter().take_while(|slope| **slope <= 0.0);
        let count = |sizes: usize| u32::try_from(sizes).unwrap_or(u32::MAX);
        let bounds = (count(lower.count()), count(upper.count()));
        // What hindsight would not start any more is as if never needed.
        while let (Some(lower), Some(upper)) = (notes.lower.last(), notes.upper.last())
            && *lower >= boot
            && *upper >= 0.0
        {
            notes.lower.pop();
            notes.upper.pop();
        }
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last size of the cheapest plan, by trying every plan.
    fn cheapest(rule: &Lcp, loads: &[f64], boot: f64, ups: bool) -> u32 {
        let sizes = 0..=4_u32;
        let period = |size: u32, load: f64| {
            f64::from(size) + rule.penalty * (load - f64::from(size)).max(0.0)
        };
        let switch = |from: u32, to: u32| {
            let (more, less) = (to.saturating_sub(from), from.saturating_sub(to));
            boot * f64::from(if ups { more } else { less })
        };
        let mut costs: Vec<f64> = sizes.clone().map(|size| switch(0, size)).collect();
        for (index, load) in loads.iter().enumerate() {
            let step = |to: u32| {
                let from = sizes.clone().zip(&costs);
                let best = from
                    .map(|(from, cost)| if index == 0 { costs[to as usize] } else { cost + switch(from, to) })
                    .fold(f64::INFINITY, f64::min);
                best + period(to, *load)
            };
            costs = sizes.clone().map(step).collect();
        }
        let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let ties = sizes.zip(&costs).filter(|(_, cost)| **cost - least < 1e-9);
        let ties: Vec<u32> = ties.map(|(size, _)| size).collect();
        if ups { ties[0] } else { ties[ties.len() - 1] }
    }

    #[test]
    fn bounds_are_those_of_the_cheapest_plans() {
        let load = Load {
            arrivals_signal: String::new(),
            signal: String::new(),
            service_mean: Duration::from_secs(1),
            period: Duration::from_mins(1),
            count_backlog: false,
        };
        let rule = Lcp {
            load,
            penalty: 3.0,
            boot: Duration::ZERO,
        };
        let loads = [0.0, 2.5, 1.0, 4.0, 0.5, 0.0, 0.0, 3.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        for boot in [0.0, 0.5, 2.0, 5.0] {
            let mut notes = Notes::default();
            for (index, load) in loads.iter().enumerate() {
                let (lower, upper) = rule.bounds(&mut notes, *load, boot);
                let so_far = &loads[..=index];
                assert_eq!(lower, cheapest(&rule, so_far, boot, true), "{boot} {index}");
                // Sizes nobody ever needed are not told apart.
                let most = cheapest(&rule, so_far, boot, false);
                assert_eq!(upper, most, "{boot} {index}");
            }
        }
    }
}
