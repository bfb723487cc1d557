//! `kind = "adapt"`: the adaptive hybrid controller of Ali-Eldin et al. (2012).
//!
//! It follows the rate at which the load leaves its capacity, and reacts
//! besides. Each period, with `n` servers and the load in whole servers `L`
//! ([`super::load`]):
//!
//! ```text
//! every `wait` periods (5 at first):
//!     avg_n = mean of n since the beginning
//!     u     = mean of n of late / avg_n
//!     P     = (L - n) / avg_n
//!     wait  = 5 * 0.01 * n / mean of n of late
//!     R     = u * P * avg_n, a quarter of it if below 0
//! c = c + R
//! c < 0:  s = whole part of c, taken off c;  n = max(n + s, L)
//!         (and nothing more if L was the larger)
//! c >= 1: s = whole part of c, taken off c
//! L > n:  n = ceil(1.1 * L) + s
//! ```
//!
//! Sources: A. Ali-Eldin, J. Tordsson, E. Elmroth, "An adaptive hybrid
//! elasticity controller for cloud infrastructures", NOMS 2012; as evaluated by
//! Ilyushkin et al., ICPE 2017, with the code of
//! <https://github.com/ahmedaley/Autoscalers> (`AKTE.py`).
//!
//! Flaws kept, as in that code: what is added ahead (`c >= 1`) only counts in a
//! period in which there are too few servers already, and is lost otherwise. The
//! first mean counts one server that never was.
//!
//! | key | meaning |
//! |---|---|
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use serde::{Deserialize, Serialize};

use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// The adaptive hybrid controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapt {
    /// How load is measured.
    pub load: Load,
}

/// What it remembers. Times are periods since the beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
    time: f64,
    /// The sum of n, one at the beginning.
    alive: f64,
    /// The mean of n of late, what it is made of, and since when.
    mean: f64,
    late: f64,
    late_since: f64,
    /// Periods between estimates, and when the last one was.
    wait: f64,
    estimated: Option<f64>,
    /// Servers a period.
    rate: f64,
    /// Servers that are due, in parts.
    due: f64,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            load: LoadNotes::default(),
            time: 0.0,
            alive: 1.0,
            mean: 1.0,
            late: 0.0,
            late_since: 0.0,
            wait: 5.0,
            estimated: None,
            rate: 0.0,
            due: 0.0,
        }
    }
}

impl Adapt {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Load::read(fields).map(|load| Self { load })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        self.load.demands()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let load = match self.load.measure(&mut notes.load, view) {
            Ok(load) => load?,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        let needed = f64::from(rounding::ceil(load));
        let before = f64::from(view.desired);
        notes.estimate(before, needed);
        let size = notes.correct(before, needed);
        let why = format!(
            "load {} on {} servers, which changes by {} a period",
            text(load),
            view.desired,
            text(notes.rate)
        );
        Some(Opinion::instances(rounding::up(size), why))
    }
}

impl Notes {
    fn estimate(&mut self, size: f64, needed: f64) {
        self.time += 1.0;
        self.late += size;
        let span = self.time - self.late_since;
        if span >= self.wait.ceil() {
            self.mean = self.late / span;
            (self.late_since, self.late) = (self.time, 0.0);
        }
        // The first estimate is made at once.
        let waited = self
            .estimated
            .is_none_or(|estimated| self.time - estimated >= self.wait);
        if !waited {
            return;
        }
        self.estimated = Some(self.time);
        let average = self.alive / self.time;
        if !(average > 0.0 && self.mean > 0.0) {
            // A fleet of none has no rate of its own: all is left to reacting.
            self.rate = 0.0;
            return;
        }
        let utilisation = self.mean / average;
        let change = (needed - size) / average;
        self.wait = 0.01 * size * 5.0 / self.mean;
        let rate = utilisation * change * average;
        self.rate = if rate < 0.0 { rate / 4.0 } else { rate };
    }

    /// The size there is to be.
    fn correct(&mut self, before: f64, needed: f64) -> f64 {
        let mut size = before;
        let mut ahead = 0.0;
        self.due += self.rate;
        if self.due < 0.0 {
            let whole = self.due.trunc();
            self.due -= whole;
            if size + whole > needed {
                size += whole;
            } else {
                self.alive += needed;
                return needed;
            }
        } else if self.due >= 1.0 {
            ahead = self.due.trunc();
            self.due -= ahead;
        }
        self.alive += size;
        if needed > size {
            size = (1.1 * needed).ceil() + ahead;
        }
        size
    }
}
