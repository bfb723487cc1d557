//! `kind = "hist"`: the histogram rule of Urgaonkar et al. (2008).
//!
//! For each hour of the day (UTC) it keeps the loads `ceil(L)` that were seen in
//! it ([`super::load`]), up to 730, and provides their 90th percentile, put
//! right by the mean of the last five errors `n - ceil(L)`:
//!
//! ```text
//! p = sorted loads of this hour [trunc(0.9 * how many)];  n, if there are none
//! p - error > 0  ->  p - error, else  p - error / 5        rounded up
//! reactive, and L > n by more than slack_jobs  ->  ceil(1.05 * L)
//! ```
//!
//! Sources: B. Urgaonkar et al., "Agile dynamic provisioning of multi-tier
//! Internet applications", ACM TAAS 2008; as evaluated by Ilyushkin et al., ICPE
//! 2017, with the code of <https://github.com/ahmedaley/Autoscalers>
//! (`Histogram.py`). The paper corrects by reacting, too. In that code the
//! reaction needs six of the last ten errors while only five are kept, so it
//! never comes: it is off by default, and `reactive = true` reacts at once.
//!
//! Flaws kept: once an hour has 730 loads the smallest is forgotten for each
//! new one, and not the oldest, so the histogram creeps up. Errors are forgotten
//! within five periods.
//!
//! | key | meaning |
//! |---|---|
//! | `reactive` | default `false` |
//! | `slack_jobs` | jobs a period above capacity that are let be; default 5 |
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::kit::secs;
use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// The histogram rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hist {
    /// How load is measured.
    pub load: Load,
    /// Whether it reacts, too.
    pub reactive: bool,
    /// Jobs a period above capacity that are let be.
    pub slack_jobs: f64,
}

/// The most loads that are kept of an hour.
const LOADS_MAX: u32 = 730;

/// How many errors are kept.
const ERRORS: usize = 5;

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
    /// By hour of the day: how often each load was seen.
    hours: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// Servers too many, or too few; the newest last.
    errors: VecDeque<f64>,
}

impl Hist {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let reactive = fields.or("reactive", false);
        let slack_jobs = fields.or_within("slack_jobs", 5.0, 0.0..=1e6);
        let load = Load::read(fields)?;
        Some(Self {
            load,
            reactive,
            slack_jobs,
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
        let size = f64::from(view.desired);
        let needed = rounding::ceil(load);
        notes.errors.push_back(size - f64::from(needed));
        let mut error = 0.0;
        if notes.errors.len() >= ERRORS {
            error = notes.errors.iter().sum::<f64>() / 5.0;
            notes.errors.pop_front();
        }
        let seconds = view.now.micros() / 1_000_000;
        let hour = u32::try_from(seconds / 3_600 % 24).unwrap_or(0);
        let loads = notes.hours.entry(hour).or_default();
        let (base, whence) = match percentile(loads) {
            Some(load) => (f64::from(load), "this hour's 90th percentile"),
            None => (size, "no load known of this hour, so"),
        };
        let corrected = if base - error > 0.0 {
            base - error
        } else {
            base - error / 5.0
        };
        remember(loads, needed);
        let speed = f64::from(view.slots.max(1)) * secs(self.load.period)
            / secs(self.load.service_mean);
        let over = (load - size) * speed;
        let shown = format!("load {}: {whence} {}", text(load), text(base));
        if self.reactive && over > self.slack_jobs {
            notes.errors.clear();
            let wish = rounding::ceil(load * 1.05).max(rounding::up(corrected));
            return Some(Opinion::instances(wish, format!("{shown}, but too few")));
        }
        let why = format!("{shown} less an error of {}", text(error));
        Some(Opinion::instances(rounding::up(corrected), why))
    }
}

/// The load at nine tenths of those seen.
fn percentile(loads: &BTreeMap<u32, u32>) -> Option<u32> {
    let total: u32 = loads.values().sum();
    let mut left = rounding::floor(f64::from(total) * 0.9);
    for (load, times) in loads {
        if left < *times {
            return Some(*load);
        }
        left -= times;
    }
    None
}

/// Adds a load; of too many the smallest of the others goes.
fn remember(loads: &mut BTreeMap<u32, u32>, load: u32) {
    let full = loads.values().sum::<u32>() >= LOADS_MAX;
    if full && let Some(mut smallest) = loads.first_entry() {
        *smallest.get_mut() -= 1;
        if *smallest.get() == 0 {
            smallest.remove();
        }
    }
    *loads.entry(load).or_insert(0) += 1;
}
