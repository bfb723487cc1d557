//! `kind = "react"`: the reactive rule of Chieu et al. (2009).
//!
//! With the load `L` in servers ([`super::load`]) and `n` servers:
//!
//! ```text
//! need = ceil(L) - n
//! need > 0     ->  n + trunc(need * factor)
//! 1.1 * L < n  ->  ceil(L) * factor, rounded up
//! ```
//!
//! Sources: T. C. Chieu et al., "Dynamic scaling of web applications in a
//! virtualized cloud computing environment", ICEBE 2009; as evaluated in
//! A. Ilyushkin et al., "An experimental performance evaluation of autoscaling
//! policies for complex workflows", ICPE 2017, with the code of
//! <https://github.com/ahmedaley/Autoscalers> (`Reactive.py`), which has
//! `factor` 1.2.
//!
//! Flaws kept: need * 1.2 is cut to a whole number, so a need of one to four
//! servers has no reserve. The branch for shrinking may grow the fleet: at
//! L = 9 and n = 10 it asks for 9 * 1.2 = 10.8. Boots are not known to it.
//!
//! | key | meaning |
//! |---|---|
//! | `factor` | default 1.2, 1 to 10 |
//! | `service_mean`, `period`, `count_backlog`, `arrivals_signal`, `signal` | as in [`super::load`] |

use serde::{Deserialize, Serialize};

use super::load::{Load, LoadNotes};
use super::{Demand, Opinion, View};
use crate::fields::Fields;
use crate::policy::rounding::{self, text};

/// The reactive rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct React {
    /// How load is measured.
    pub load: Load,
    /// How much more than needed.
    pub factor: f64,
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    load: LoadNotes,
}

impl React {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let factor = fields.or_within("factor", 1.2, 1.0..=10.0);
        let load = Load::read(fields)?;
        Some(Self { load, factor })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        self.load.demands()
    }

    pub(super) fn step(&self, notes: &mut Notes, view: &View<'_>) -> Option<Opinion> {
        let load = match self.load.measure(&mut notes.load, view) {
            Ok(load) => load?,
            Err((signal, absence)) => return Some(Opinion::abstain(signal, absence)),
        };
        let size = view.desired;
        let needed = rounding::ceil(load);
        let wish = if needed > size {
            size.saturating_add(rounding::floor(f64::from(needed - size) * self.factor))
        } else if 1.1 * load < f64::from(size) {
            rounding::up(f64::from(needed) * self.factor)
        } else {
            size
        };
        let why = format!("load {} on {size} servers", text(load));
        Some(Opinion::instances(wish, why))
    }
}
