//! Where a fleet's signals are read: one file per metric source.
//!
//! A source gives a [`Reading`] and never fails as a whole. Whatever leaves a
//! doubt is absent, with the reason: a policy holds the fleet then, and nobody
//! shrinks it. Every reading is bounded by its timeout, and all of a fleet are
//! taken at the same time, so that one slow source delays nobody.
//!
//! **Invariant:** no secret is in a spec, a reading, an error or a log; a spec
//! only says where its secrets are ([`secret::Secret`]).

#[cfg(feature = "aws")]
mod aws;
pub mod cloudwatch;
mod http;
mod http_json;
mod number;
mod postgres;
mod prometheus;
mod redis;
pub(crate) mod redis_server;
pub mod secret;
mod shared;
mod spec;
mod sqlite;
pub mod sqs;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use windlass_policies::fields::duration_text;
use windlass_policies::ports::MetricSource;
use windlass_policies::signal::{Absence, Reading, Readings, SignalSpec};
use windlass_policies::units::Timestamp;

pub use self::http::{HeaderText, HttpSpec, Login};
pub use self::http_json::HttpJsonSpec;
pub use self::postgres::PostgresSpec;
pub use self::prometheus::{PrometheusRange, PrometheusSpec};
pub use self::redis::{RedisCount, RedisSpec, ScoreUnit, StreamPart};
pub use self::redis_server::RedisServer;
pub use self::sqlite::SqliteSpec;
pub use shared::{SharedError, SharedSources};
pub use spec::{Declared, SignalSource, SourceSpec, read_signals};

/// The sources of one fleet's signals, connected when they are first read.
pub struct Sources {
    readers: BTreeMap<String, (Duration, Reader)>,
}

/// What asks one source for one signal. Each keeps its connection for the next
/// time, and drops it when anything went wrong.
enum Reader {
    HttpJson(http_json::Reader),
    Postgres(postgres::Reader),
    Prometheus(prometheus::Reader),
    Redis(redis::Reader),
    #[cfg(feature = "aws")]
    Aws(aws::Reader),
    /// There is nobody to ask, and why.
    Missing(&'static str),
    Sqlite(sqlite::Reader),
}

impl Reader {
    fn new(source: &SignalSource, shared: &SharedSources) -> Self {
        match &source.spec {
            SourceSpec::HttpJson(spec) => Self::HttpJson(http_json::Reader::new(spec)),
            SourceSpec::Postgres(spec) => {
                Self::Postgres(postgres::Reader::new(spec, source.timeout))
            }
            SourceSpec::Prometheus(spec) => Self::Prometheus(prometheus::Reader::new(spec)),
            SourceSpec::Redis(spec) => Self::Redis(redis::Reader::new(spec)),
            SourceSpec::CloudWatch(spec) => shared.cloudwatch(spec),
            SourceSpec::Sqs(spec) => shared.queue(spec),
            SourceSpec::Sqlite(spec) => Self::Sqlite(sqlite::Reader::new(spec, source.timeout)),
        }
    }

    /// May be dropped before it is done, when its time is over; the next call
    /// must then work as the first.
    #[cfg_attr(
        not(feature = "aws"),
        expect(unused_variables, reason = "only readers of AWS look at the signal")
    )]
    async fn read(&self, signal: &SignalSpec, now: Timestamp) -> Reading {
        match self {
            Self::HttpJson(reader) => reader.read(now).await,
            Self::Postgres(reader) => reader.read(now).await,
            Self::Prometheus(reader) => reader.read(now).await,
            Self::Redis(reader) => reader.read(now).await,
            #[cfg(feature = "aws")]
            Self::Aws(reader) => reader.read(signal, now).await,
            Self::Missing(why) => unreachable_because(*why),
            Self::Sqlite(reader) => reader.read(now).await,
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.readers.keys()).finish()
    }
}

impl Sources {
    /// The sources of `specs`, by signal. Nothing is contacted yet.
    pub fn new(specs: &BTreeMap<String, SignalSource>, shared: &SharedSources) -> Self {
        let reader = |(name, source): (&String, &SignalSource)| {
            (name.clone(), (source.timeout, Reader::new(source, shared)))
        };
        Self {
            readers: specs.iter().map(reader).collect(),
        }
    }

    async fn read_one(&self, signal: &SignalSpec, now: Timestamp) -> Reading {
        let Some((longest, reader)) = self.readers.get(&signal.name) else {
            return Reading::Absent(Absence::NoSource);
        };
        timeout(*longest, reader.read(signal, now))
            .await
            .unwrap_or_else(|_elapsed| {
                unreachable_because(format!("no answer within {}", duration_text(*longest)))
            })
    }
}

impl MetricSource for Sources {
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings {
        let reading = |signal| async move {
            let signal: &SignalSpec = signal;
            (&signal.name, self.read_one(signal, now).await)
        };
        let mut readings = Readings::new();
        for (name, reading) in join_all(signals.iter().map(reading)).await {
            readings.insert(name, reading);
        }
        readings
    }
}

/// A sample from further ahead than this is no clock that disagrees a little:
/// its time is wrong, or in another unit.
const AHEAD_MAX: Duration = Duration::from_mins(5);

/// A complete sample of `value` that was true at `at`, by the source's account.
fn sampled(value: f64, at: Timestamp, now: Timestamp) -> Reading {
    let ahead = at.since(now);
    if ahead > AHEAD_MAX {
        return unusable(format!(
            "its time is {} s ahead of this machine's clock; a number must be epoch seconds",
            ahead.as_secs()
        ));
    }
    Reading::complete(value, at)
}

fn unusable(why: impl Into<String>) -> Reading {
    Reading::Absent(Absence::Unusable {
        why: one_line(&why.into()),
    })
}

fn unreachable_because(why: impl Into<String>) -> Reading {
    Reading::Absent(Absence::Unreachable {
        why: one_line(&why.into()),
    })
}

/// An error with those of its causes that say more than it did.
fn because(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// The most characters of a reason: enough for a cause and its cause, too few
/// for a server to fill the store with.
const REASON_CHARS_MAX: usize = 300;

/// `text` without line breaks and control characters, and cut.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|character| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    });
    let mut line: String = plain.take(REASON_CHARS_MAX).collect();
    if text.chars().nth(REASON_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}
