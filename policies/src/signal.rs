//! What is measured: signals, and readings of them that may be absent.
//!
//! **Invariant:** absent is not zero. A [`Reading`] is a value with the time it
//! was sampled at, or the reason why there is none; nothing here turns one
//! into the other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Timestamp;

/// The signals every source can map to and the simulator provides.
pub mod standard {
    /// Jobs waiting for a worker. Total.
    pub const BACKLOG: &str = "backlog";
    /// Jobs being worked on. Total.
    pub const IN_FLIGHT: &str = "in_flight";
    /// Jobs that have arrived since counting began. Counter.
    pub const ARRIVALS: &str = "arrivals";
    /// Jobs that have been finished since counting began. Counter.
    pub const COMPLETIONS: &str = "completions";
    /// Age of the longest waiting job, in seconds; 0 when none waits. Duration.
    pub const OLDEST_AGE: &str = "oldest_age";
    /// Job slots in use on ready instances. Total.
    pub const BUSY: &str = "busy";
    /// Share of ready job slots in use, mean over the metric's period, 0 to 1. Ratio.
    pub const UTILIZATION: &str = "utilization";
    /// 95th percentile of response time (waiting plus service) of the jobs
    /// finished in the metric's period, in seconds. Duration.
    pub const LATENCY_P95: &str = "latency_p95";

    /// All of them, in the order they are documented in.
    pub const ALL: [&str; 8] = [
        BACKLOG,
        IN_FLIGHT,
        ARRIVALS,
        COMPLETIONS,
        OLDEST_AGE,
        BUSY,
        UTILIZATION,
        LATENCY_P95,
    ];
}

/// What kind of number a signal is: it decides which sums make sense with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// A sum over the whole fleet or queue, such as jobs waiting. It does not
    /// fall when instances are added, so it is no input for a proportional rule.
    Total,
    /// A mean per instance, such as requests per target.
    PerWorker,
    /// A share of capacity in use, normally 0 to 1.
    Ratio,
    /// Events per second over the whole fleet.
    Rate,
    /// A count that only rises, until its source restarts at zero.
    Counter,
    /// Seconds, such as an age or a latency.
    Duration,
}

impl SignalKind {
    /// All kinds, in the order they are documented in.
    pub const ALL: [Self; 6] = [
        Self::Total,
        Self::PerWorker,
        Self::Ratio,
        Self::Rate,
        Self::Counter,
        Self::Duration,
    ];

    /// The word used in TOML.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::PerWorker => "per_worker",
            Self::Ratio => "ratio",
            Self::Rate => "rate",
            Self::Counter => "counter",
            Self::Duration => "duration",
        }
    }

    /// Whether the number falls in proportion as instances are added, so that
    /// `instances * reading / target` is the right size.
    pub const fn falls_as_instances_are_added(self) -> bool {
        match self {
            Self::PerWorker | Self::Ratio => true,
            Self::Total | Self::Rate | Self::Counter | Self::Duration => false,
        }
    }

    /// The kind of a [`standard`] signal; `None` for any other name.
    pub fn of_standard(name: &str) -> Option<Self> {
        match name {
            standard::BACKLOG | standard::IN_FLIGHT | standard::BUSY => Some(Self::Total),
            standard::ARRIVALS | standard::COMPLETIONS => Some(Self::Counter),
            standard::OLDEST_AGE | standard::LATENCY_P95 => Some(Self::Duration),
            standard::UTILIZATION => Some(Self::Ratio),
            _ => None,
        }
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A signal as a fleet uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSpec {
    /// Its name: one of [`standard`] or the user's own.
    pub name: String,
    /// What kind of number it is.
    pub kind: SignalKind,
    /// A sample older than this is stale and counts as absent.
    pub max_age: Duration,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The value, in the unit its signal states; finite, and at least zero.
    pub value: f64,
    /// When it was true, by the source's own account.
    pub at: Timestamp,
    /// Whether everything that should be in it is in it.
    pub completeness: Completeness,
}

/// Whether a sample covers all it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All shards, pages and workers are in it.
    Complete,
    /// Some are missing: the truth may be higher.
    Partial,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// The source answered, and had no sample.
    NoData,
    /// The newest sample is older than the signal's `max_age`.
    Stale {
        /// When the newest sample was taken.
        at: Timestamp,
    },
    /// The source gave something that is no usable number (NaN, infinite, negative).
    NotANumber,
    /// The source could not be asked, and why.
    Unreachable {
        /// One line for a person.
        why: String,
    },
    /// The source answered, and the answer is no sound reading, and why.
    Unusable {
        /// One line for a person.
        why: String,
    },
    /// Nothing reads this signal.
    NoSource,
}

impl fmt::Display for Absence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoData => out.write_str("no data"),
            Self::Stale { at } => write!(out, "stale since {at}"),
            Self::NotANumber => out.write_str("not a usable number"),
            Self::Unreachable { why } => write!(out, "unreachable: {why}"),
            Self::Unusable { why } => write!(out, "unusable: {why}"),
            Self::NoSource => out.write_str("no source"),
        }
    }
}

/// A sample, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// There is a value.
    Present(Sample),
    /// There is none.
    Absent(Absence),
}

impl Reading {
    /// A complete sample of `value` taken at `at`, or
    /// [`Absence::NotANumber`] if it is NaN, infinite or negative.
    pub fn complete(value: f64, at: Timestamp) -> Self {
        if !(value >= 0.0 && value.is_finite()) {
            return Self::Absent(Absence::NotANumber);
        }
        Self::Present(Sample {
            value,
            at,
            completeness: Completeness::Complete,
        })
    }
}

impl fmt::Display for Reading {
    /// The value, or why there is none.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(sample) => sample.value.fmt(out),
            Self::Absent(why) => why.fmt(out),
        }
    }
}

/// All readings of one cycle, by signal name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Readings(BTreeMap<String, Reading>);

impl Readings {
    /// No reading at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the reading of `name`.
    pub fn insert(&mut self, name: &str, reading: Reading) {
        self.0.insert(name.to_owned(), reading);
    }

    /// The reading of `name`; [`Absence::NoSource`] if nobody read it.
    pub fn get(&self, name: &str) -> Reading {
        self.0
            .get(name)
            .cloned()
            .unwrap_or(Reading::Absent(Absence::NoSource))
    }

    /// The sample of `name` if it is present.
    ///
    /// # Errors
    /// Why it is absent.
    pub fn sample(&self, name: &str) -> Result<Sample, Absence> {
        match self.0.get(name) {
            Some(Reading::Present(sample)) => Ok(*sample),
            Some(Reading::Absent(why)) => Err(why.clone()),
            None => Err(Absence::NoSource),
        }
    }

    /// All readings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Reading)> {
        self.0
            .iter()
            .map(|(name, reading)| (name.as_str(), reading))
    }

    /// The same readings as seen at `now`: what is older than its signal's
    /// `max_age`, or no usable number, becomes absent, and a signal of `specs`
    /// without a reading is [`Absence::NoSource`]. A sample from the future
    /// (a clock that disagrees) counts as taken now.
    #[must_use]
    pub fn checked(&self, specs: &[SignalSpec], now: Timestamp) -> Self {
        let readings = specs.iter().map(|spec| {
            let reading = match self.get(&spec.name) {
                Reading::Present(sample) if !(sample.value >= 0.0 && sample.value.is_finite()) => {
                    Reading::Absent(Absence::NotANumber)
                }
                Reading::Present(sample) if now.since(sample.at) > spec.max_age => {
                    Reading::Absent(Absence::Stale { at: sample.at })
                }
                other => other,
            };
            (spec.name.clone(), reading)
        });
        Self(readings.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_odd_and_unread_samples_are_absent() {
        let now = Timestamp::from_secs(1_000);
        let spec = |name: &str| SignalSpec {
            name: name.to_owned(),
            kind: SignalKind::Total,
            max_age: Duration::from_secs(100),
        };
        let mut readings = Readings::new();
        readings.insert("fresh", Reading::complete(3.0, Timestamp::from_secs(900)));
        readings.insert("old", Reading::complete(3.0, Timestamp::from_secs(899)));
        readings.insert("nan", Reading::complete(f64::NAN, now));
        readings.insert("negative", Reading::complete(-1.0, now));
        let specs = ["fresh", "old", "nan", "negative", "unread"].map(spec);
        let checked = readings.checked(&specs, now);
        assert!(checked.sample("fresh").is_ok());
        assert_eq!(
            checked.sample("old"),
            Err(Absence::Stale {
                at: Timestamp::from_secs(899)
            })
        );
        assert_eq!(checked.sample("nan"), Err(Absence::NotANumber));
        assert_eq!(checked.sample("negative"), Err(Absence::NotANumber));
        assert_eq!(checked.sample("unread"), Err(Absence::NoSource));
    }
}
