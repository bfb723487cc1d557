//! `kind = "economic"`: an instance-second is bought if, and only if, the
//! waiting it is expected to remove is worth more than it costs.
//!
//! ```text
//! launch one more   if it is worth its price when it comes up, and at some
//!                   later time has earned back all that it was billed
//! keep the last     if it is worth its price until some later time, what a
//!                   new launch would cost then included; or if demand for it
//!                   has not been away for longer than pays on average
//! ```
//!
//! How many jobs come, how long they take and how long instances boot is
//! learnt ([`crate::learn`]); what is launched, held in reserve and let go
//! follows from the one price. See `docs/policies.md` for the whole.
//!
//! | key | meaning |
//! |---|---|
//! | `usd_per_job_hour_waiting` | what one job's waiting for one hour is worth; default that of `[objective]`, or `preset = "balanced"` if that says nothing |
//! | `preset` | or `"interactive"`, `"balanced"`, `"batch"`, `"bulk"`: 10, 1, 0.1, 0.01 times what an instance costs an hour |
//! | `p95_wait` | or as much as it takes for 95 of 100 jobs to wait no longer than this |
//! | `budget_usd_per_day`, `budget_usd_per_month` | and what the fleet may cost; where that is short, waiting is worth less |
//! | `timezone` | the zone in which days and months begin, and of the cron lines; default `"UTC"` |
//! | `[[policy.window]]` | other knobs by the clock: `start`, `duration` or `end` as in a schedule, and those above |
//! | `service_guess` | how long a job takes, until that is learnt; default 60 s, soon forgotten |
//! | `boot_guess` | how long a boot takes, until that is learnt; default 120 s |
//! | `signal`, `in_flight_signal` | waiting jobs and jobs being worked on, totals; default `"backlog"`, `"in_flight"` |
//! | `arrivals_signal` | counts arrivals, a counter; default `"arrivals"` |

mod budget;
mod outlook;
#[cfg(test)]
mod pictures;
mod plan;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Demand, Needs};
use crate::cron::Zone;
use crate::fields::Fields;
use crate::learn::BootTimes;
use crate::signal::standard;
use crate::units::MicroUsdPerHour;

pub use budget::{Budget, Period};
pub use state::{Fleet, State};
pub use window::Window;

/// What an hour of one job's waiting is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// What the fleet's objective says; if that is nothing, [`Preset::Balanced`].
    Objective,
    /// So much.
    Usd(MicroUsdPerHour),
    /// So many times what an instance costs an hour.
    Preset(Preset),
    /// As much as it takes for 95 of 100 jobs to wait no longer than this.
    P95(Duration),
}

/// What waiting is worth, by the price of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Ten instance-hours a job-hour: somebody watches.
    Interactive,
    /// One: waiting is as dear as work.
    Balanced,
    /// A tenth: minutes do not matter.
    Batch,
    /// A hundredth: it is to be done some time.
    Bulk,
}

impl Preset {
    const WORDS: [(&'static str, Self); 4] = [
        ("interactive", Self::Interactive),
        ("balanced", Self::Balanced),
        ("batch", Self::Batch),
        ("bulk", Self::Bulk),
    ];

    /// Instance-hours that a job-hour of waiting is worth.
    pub const fn kappa(self) -> f64 {
        match self {
            Self::Interactive => 10.0,
            Self::Balanced => 1.0,
            Self::Batch => 0.1,
            Self::Bulk => 0.01,
        }
    }
}

/// An instance-second is bought if the waiting it removes is worth more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Economic {
    /// What waiting is worth.
    pub worth: Worth,
    /// What the fleet may cost; waiting is worth less when that is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The zone in which days and months begin, and of the windows' cron lines.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub zone: Zone,
    /// When other knobs count; the first one that is open and has a knob.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// How long a job takes, until that is learnt.
    pub service_guess: Option<Duration>,
    /// How long a boot takes, until that is learnt.
    pub boot_guess: Duration,
    /// The signal that counts waiting jobs. A total.
    pub signal: String,
    /// The signal that counts jobs being worked on. A total.
    pub in_flight_signal: String,
    /// The signal that counts arrivals. A counter.
    pub arrivals_signal: String,
}

impl Default for Economic {
    fn default() -> Self {
        Self {
            worth: Worth::Objective,
            budget: None,
            zone: Zone::UTC,
            windows: Vec::new(),
            service_guess: None,
            boot_guess: BootTimes::PRIOR,
            signal: standard::BACKLOG.to_owned(),
            in_flight_signal: standard::IN_FLIGHT.to_owned(),
            arrivals_signal: standard::ARRIVALS.to_owned(),
        }
    }
}

const fn utc() -> Zone {
    Zone::UTC
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to it"
)]
fn is_utc(zone: &Zone) -> bool {
    *zone == Zone::UTC
}

impl Worth {
    /// Reads what waiting is worth, if that is said.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let worth = fields.optional::<MicroUsdPerHour>("usd_per_job_hour_waiting");
        if worth == Some(MicroUsdPerHour::ZERO) {
            fields.problem(
                "usd_per_job_hour_waiting",
                "at 0 nothing is ever worth an instance; write what an hour of waiting costs you, \
                 such as 0.5",
            );
        }
        let preset = fields.word("preset", &Preset::WORDS);
        let wait = Duration::from_secs(1)..=Duration::from_hours(24 * 7);
        let p95 = fields.optional_within("p95_wait", wait);
        let mut said = [
            ("usd_per_job_hour_waiting", worth.map(Worth::Usd)),
            ("preset", preset.map(Worth::Preset)),
            ("p95_wait", p95.map(Worth::P95)),
        ]
        .into_iter()
        .filter_map(|(key, worth)| Some((key, worth?)));
        let first = said.next();
        let second = said.next().map(|(key, _)| key);
        if let (Some((first, _)), Some(second)) = (first, second) {
            fields.problem(
                second,
                format!("says what waiting is worth, as does `{first}`; remove one of the two"),
            );
        }
        first.map(|(_, worth)| worth)
    }
}

impl Economic {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let guess = Duration::from_millis(1)..=Duration::from_hours(24 * 7);
        let boot = Duration::from_secs(1)..=Duration::from_hours(24);
        let standard = Self::default();
        let worth = Worth::read(fields).unwrap_or(Worth::Objective);
        let budget = Budget::read(fields);
        let zone = fields.or("timezone", standard.zone);
        let windows = fields.tables("window", Window::read);
        window::one_period(budget, &windows, fields);
        Self {
            worth,
            budget,
            zone,
            windows,
            service_guess: fields.optional_within("service_guess", guess),
            boot_guess: fields.or_within("boot_guess", standard.boot_guess, boot),
            signal: fields.or("signal", standard.signal),
            in_flight_signal: fields.or("in_flight_signal", standard.in_flight_signal),
            arrivals_signal: fields.or("arrivals_signal", standard.arrivals_signal),
        }
    }

    pub(super) fn demands(&self) -> Vec<Demand<'_>> {
        let total = |signal, key| Demand {
            signal,
            key,
            needs: Needs::Total,
        };
        vec![
            total(self.signal.as_str(), "signal"),
            total(self.in_flight_signal.as_str(), "in_flight_signal"),
            Demand {
                signal: &self.arrivals_signal,
                key: "arrivals_signal",
                needs: Needs::Counter,
            },
        ]
    }
}
