//! What the autoscalers of the literature call load: servers kept busy.
//!
//! ```text
//! load = (arrivals / span * service_mean + backlog * service_mean / period) / slots
//! ```
//!
//! The papers have requests per period over requests a server does per period.
//! They know no queue: what was not served is part of the next period's load in
//! the older code of the authors, and is added here as the work to be done
//! within one period. `count_backlog = false` leaves it out.
//!
//! | key | meaning |
//! |---|---|
//! | `service_mean` | how long a job takes; mandatory, `"10ms"` to `"7d"` |
//! | `period` | how often it decides; default `"60s"`, `"1s"` to `"1h"` |
//! | `count_backlog` | whether waiting jobs are load; default `true` |
//! | `arrivals_signal`, `signal` | default `"arrivals"` and `"backlog"` |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kit::{Cadence, Counter, secs};
use super::{Demand, Needs, View};
use crate::fields::Fields;
use crate::signal::{Absence, standard};

/// How load is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The signal that counts arrivals. A counter.
    pub arrivals_signal: String,
    /// The signal that counts waiting jobs. A total.
    pub signal: String,
    /// How long a job takes in one slot.
    pub service_mean: Duration,
    /// How often there is a measurement.
    pub period: Duration,
    /// Whether waiting jobs are load.
    pub count_backlog: bool,
}

/// What was counted in the period so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LoadNotes {
    cadence: Cadence,
    arrivals: Counter,
    count: f64,
    secs: f64,
}

impl Load {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "how long a job takes, such as \"30s\"";
        let bounds = Duration::from_millis(10)..=Duration::from_hours(24 * 7);
        let service_mean = fields.required_within("service_mean", what, bounds);
        let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
        let period = fields.or_within("period", Duration::from_mins(1), bounds);
        let count_backlog = fields.or("count_backlog", true);
        let arrivals_signal = fields.or("arrivals_signal", standard::ARRIVALS.to_owned());
        let signal = fields.or("signal", standard::BACKLOG.to_owned());
        if !count_backlog && fields.has("signal") {
            let message = "has no effect while `count_backlog` is false; remove one of the two";
            fields.problem("signal", message);
        }
        Some(Self {
            arrivals_signal,
            signal,
            service_mean: service_mean?,
            period,
            count_backlog,
        })
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let mut demands = vec![Demand {
            signal: &self.arrivals_signal,
            key: "arrivals_signal",
            needs: Needs::Counter,
        }];
        if self.count_backlog {
            demands.push(Demand {
                signal: &self.signal,
                key: "signal",
                needs: Needs::Total,
            });
        }
        demands
    }

    /// The load, in servers, when a period is over; `None` if none is, or
    /// nothing was counted yet.
    pub(super) fn measure(
        &self,
        notes: &mut LoadNotes,
        view: &View<'_>,
    ) -> Result<Option<f64>, (&str, Absence)> {
        let sample = view.sample(&self.arrivals_signal);
        let sample = sample.map_err(|absence| (self.arrivals_signal.as_str(), absence))?;
        if let Some(counted) = notes.arrivals.advance(sample) {
            notes.count += counted.count;
            notes.secs += counted.secs;
        }
        let mut work = 0.0;
        if self.count_backlog {
            let sample = view.sample(&self.signal);
            let backlog = sample.map_err(|absence| (self.signal.as_str(), absence))?;
            work = backlog.value * secs(self.service_mean) / secs(self.period);
        }
        if notes.secs <= 0.0 || !notes.cadence.due(view.now, self.period) {
            return Ok(None);
        }
        // In this order whole numbers stay whole.
        let busy = notes.count * secs(self.service_mean) / notes.secs;
        (notes.count, notes.secs) = (0.0, 0.0);
        Ok(Some((busy + work) / f64::from(view.slots.max(1))))
    }
}
