//! What a configuration says about sources, checked: plain data.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use windlass_policies::fields::Fields;
use windlass_policies::signal::{SignalKind, SignalSpec};
use windlass_policies::spec::{FleetSpec, read_signal_of};

use super::cloudwatch::{self, CloudWatchSpec};
use super::http_json::{self, HttpJsonSpec};
use super::postgres::{self, PostgresSpec};
use super::prometheus::{self, PrometheusSpec};
use super::redis::{self, RedisSpec};
use super::secret::Secret;
use super::sqlite::{self, SqliteSpec};
use super::sqs::{self, SqsSpec};

/// Where one signal is read, and how long that may take.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalSource {
    /// What is asked.
    pub spec: SourceSpec,
    /// The longest a reading may take, connecting included.
    pub timeout: Duration,
}

/// What is asked for a signal: one variant per source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    /// A number in a JSON document.
    HttpJson(HttpJsonSpec),
    /// A query in `PostgreSQL`.
    Postgres(PostgresSpec),
    /// A query in Prometheus.
    Prometheus(PrometheusSpec),
    /// A list, stream, sorted set or hash in Redis.
    Redis(RedisSpec),
    /// A statistic of a metric in Amazon `CloudWatch`, or a formula of several.
    CloudWatch(CloudWatchSpec),
    /// A number of an Amazon SQS queue.
    Sqs(SqsSpec),
    /// A query in an `SQLite` file.
    Sqlite(SqliteSpec),
}

/// The word of each source, in the order they are listed to people.
#[derive(Clone, Copy)]
enum Word {
    HttpJson,
    Postgres,
    Prometheus,
    Redis,
    Sqlite,
    CloudWatch,
    Sqs,
}

const WORDS: [(&str, Word); 7] = [
    ("cloudwatch", Word::CloudWatch),
    ("http_json", Word::HttpJson),
    ("postgres", Word::Postgres),
    ("prometheus", Word::Prometheus),
    ("redis", Word::Redis),
    ("sqlite", Word::Sqlite),
    ("sqs", Word::Sqs),
];

impl Word {
    /// Reads the source's own keys, beside `source`.
    fn read(self, fields: &mut Fields<'_>, folder: &Path) -> Option<SourceSpec> {
        match self {
            Self::HttpJson => http_json::read_spec(fields, folder).map(SourceSpec::HttpJson),
            Self::Postgres => postgres::read_spec(fields, folder).map(SourceSpec::Postgres),
            Self::Prometheus => prometheus::read_spec(fields, folder).map(SourceSpec::Prometheus),
            Self::Redis => redis::read_spec(fields, folder).map(SourceSpec::Redis),
            Self::CloudWatch => cloudwatch::read_spec(fields).map(SourceSpec::CloudWatch),
            Self::Sqs => sqs::read_spec(fields).map(SourceSpec::Sqs),
            Self::Sqlite => sqlite::read_spec(fields, folder).map(SourceSpec::Sqlite),
        }
    }
}

impl SourceSpec {
    /// What kind of number it gives, where the source itself decides that.
    pub fn kind(&self) -> Option<SignalKind> {
        match self {
            Self::CloudWatch(_)
            | Self::HttpJson(_)
            | Self::Postgres(_)
            | Self::Prometheus(_)
            | Self::Sqlite(_) => None,
            Self::Redis(spec) => spec.kind(),
            Self::Sqs(spec) => Some(spec.kind()),
        }
    }

    /// Why what it gives is no number of `kind`, where that can be told.
    fn misfit(&self, kind: SignalKind) -> Option<String> {
        match self {
            Self::CloudWatch(spec) => spec.misfit(kind),
            Self::HttpJson(_)
            | Self::Postgres(_)
            | Self::Prometheus(_)
            | Self::Redis(_)
            | Self::Sqlite(_)
            | Self::Sqs(_) => None,
        }
    }

    /// Every secret it needs.
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::HttpJson(spec) => spec.http.secrets(),
            Self::Prometheus(spec) => spec.http.secrets(),
            Self::Postgres(spec) => spec.password.iter().collect(),
            Self::Redis(spec) => spec.server.password.iter().collect(),
            // Whoever asks AWS is found in the usual chain of credentials.
            Self::CloudWatch(_) | Self::Sqlite(_) | Self::Sqs(_) => Vec::new(),
        }
    }
}

impl SignalSource {
    /// Why each of its secrets that cannot be looked up here and now cannot be.
    pub fn missing_secrets(&self) -> Vec<String> {
        let secrets = self.spec.secrets().into_iter();
        secrets.filter_map(|secret| secret.reveal().err()).collect()
    }

    /// Five seconds: what takes longer is in trouble, and the cycle waits for it.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    const TIMEOUT_MIN: Duration = Duration::from_millis(50);
    /// A minute: no fleet should be blind for longer to wait for a number.
    const TIMEOUT_MAX: Duration = Duration::from_mins(1);
}

/// The sources of a fleet as its configuration has them, by signal; `None` for
/// one that is wrong, which is reported.
#[derive(Debug, Default)]
pub struct Declared(BTreeMap<String, Option<SignalSource>>);

/// Reads every `[signals.NAME]` table of `fleet`: the signal itself, and, if it
/// has a `source`, that source's keys, which stand in the same table.
pub fn read_signals(fleet: &mut Fields<'_>, folder: &Path) -> (Vec<SignalSpec>, Declared) {
    let mut declared = Declared::default();
    let signals = fleet.named_tables("signals", |name, table| {
        let source = table.has("source").then(|| read_source(table, folder));
        // Asked for in any case, so that it is known beside other keys.
        let _word = table.raw("source");
        let given = source
            .iter()
            .flatten()
            .find_map(|source| source.spec.kind());
        let signal = read_signal_of(name, table, given);
        if let (Some(Some(source)), Some(signal)) = (&source, &signal)
            && let Some(message) = source.spec.misfit(signal.kind)
        {
            table.problem("source", message);
            return None;
        }
        if let Some(source) = source {
            declared.0.insert(name.to_owned(), source);
        }
        signal
    });
    (signals, declared)
}

fn read_source(fields: &mut Fields<'_>, folder: &Path) -> Option<SignalSource> {
    let Some(word) = fields.word("source", &WORDS) else {
        // Whose keys these are is not known.
        fields.accept_unknown_keys();
        return None;
    };
    let bounds = SignalSource::TIMEOUT_MIN..=SignalSource::TIMEOUT_MAX;
    let timeout = fields.or_within("timeout", SignalSource::TIMEOUT, bounds);
    let spec = word.read(fields, folder)?;
    Some(SignalSource { spec, timeout })
}

impl Declared {
    /// The sources of a fleet in the real world, whose signals are those of
    /// `spec`. A signal that nothing reads is a problem of `fleet`, its table.
    pub fn for_real(
        self,
        fleet: &mut Fields<'_>,
        spec: &FleetSpec,
    ) -> Option<BTreeMap<String, SignalSource>> {
        let mut sound = true;
        for signal in &spec.signals {
            if self.0.contains_key(&signal.name) {
                continue;
            }
            sound = false;
            let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            let table = format!("{}.{}", fleet.path_of("signals"), signal.name);
            let message = format!(
                "nothing reads this signal, and the fleet uses it; write [{table}] with `source` \
                 (one of {}) and its keys",
                words.join(", ")
            );
            fleet.problem_at(table, message);
        }
        self.all().filter(|_| sound)
    }

    /// The sources that were read; `None` if one of them is wrong.
    pub fn all(self) -> Option<BTreeMap<String, SignalSource>> {
        let sources = self.0.into_iter();
        sources
            .map(|(name, source)| Some((name, source?)))
            .collect()
    }

    /// Reports every source: the signals of a simulated fleet are simulated.
    pub fn for_simulated(self, fleet: &mut Fields<'_>) -> Option<BTreeMap<String, SignalSource>> {
        for name in self.0.keys() {
            let path = format!("{}.{name}.source", fleet.path_of("signals"));
            let message = "a simulated fleet has simulated signals; remove `source` and its keys, \
                           or name another provider";
            fleet.problem_at(path, message);
        }
        self.0.is_empty().then(BTreeMap::new)
    }
}

/// The text of `key`; `None` if it is not there, or is empty or wrong, which
/// is reported.
pub(super) fn text(fields: &mut Fields<'_>, key: &str) -> Option<String> {
    let text = fields.optional::<String>(key)?;
    if text.is_empty() {
        fields.problem(key, "is empty; write it, or remove the key");
        return None;
    }
    Some(text)
}

/// A URL with a host and one of `schemes`.
///
/// # Errors
/// What is wrong with it; never with a part of it, which may be a password.
pub(super) fn parse_url(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let begins = schemes.join("://\" or \"");
    let how = format!("write one that begins with \"{begins}://\"");
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {how}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("is no URL that can be used here; {how}"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no host; {how} and a host"));
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err("has a user or password in it; write them as `user` and `password`".to_owned());
    }
    Ok(url)
}
