//! The result of a `PromQL` query, from Prometheus or what answers as it does.
//!
//! An instant query's result carries the time of the query, not of its sample,
//! which may be five minutes older. So the query is asked a second time within
//! `timestamp()`, for the same moment: for a plain selector that is the time of
//! the scrape, and for an expression the time of the query, as before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;
use windlass_policies::fields::Fields;
use windlass_policies::signal::{Absence, Reading};
use windlass_policies::units::{MICROS_PER_SEC, Timestamp, micros_of};

use super::http::{Asker, HttpSpec, read_spec as read_http};
use super::{number, sampled, unreachable_because, unusable};

/// What is asked of a Prometheus server.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusSpec {
    /// The server; `/api/v1` is put behind its URL.
    pub http: HttpSpec,
    /// The query, in `PromQL`.
    pub query: String,
    /// If the newest point of a range is wanted: of which.
    pub range: Option<PrometheusRange>,
}

/// A range of time that ends now, and its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrometheusRange {
    /// How far back it reaches.
    pub span: Duration,
    /// From one point to the next.
    pub step: Duration,
}

/// Prometheus' own limit for the points of a range.
const POINTS_MAX: u128 = 11_000;

/// A quarter of a minute: Prometheus' usual interval between two scrapes.
const STEP_DEFAULT: Duration = Duration::from_secs(15);

/// Reads the keys of a signal with `source = "prometheus"`.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path) -> Option<PrometheusSpec> {
    let http = read_http(fields, folder, "http://prometheus.internal:9090");
    let query = fields.required::<String>(
        "query",
        "a query with one series as its result, such as \"sum(jobs_waiting)\"",
    );
    if query
        .as_deref()
        .is_some_and(|query| query.trim().is_empty())
    {
        fields.problem("query", "is empty; write a query in PromQL");
    }
    let bounds = Duration::from_secs(1)..=Duration::from_hours(24);
    let span = fields.optional_within("range", bounds.clone());
    let step = fields.or_within("step", STEP_DEFAULT, bounds);
    if fields.has("step") && !fields.has("range") {
        fields.problem("step", "belongs to a `range`; write one, or remove it");
    }
    let range = span.map(|span| PrometheusRange { span, step });
    if range.is_some_and(|range| range.span.as_millis() / range.step.as_millis() >= POINTS_MAX) {
        fields.problem(
            "step",
            "makes more than 11000 points of the range; write a longer one",
        );
    }
    Some(PrometheusSpec {
        http: http?,
        query: query?,
        range,
    })
}

/// Asks one server for one number.
pub(super) struct Reader {
    spec: PrometheusSpec,
    asker: Asker,
}

/// What a server answers.
#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    /// `VictoriaMetrics` says so when a part of its storage did not answer.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Matrix(Vec<Series>),
    Scalar(Point),
    String(IgnoredAny),
}

/// Seconds since 1970, and the value as text.
type Point = (f64, String);

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
    histogram: Option<IgnoredAny>,
    histograms: Option<IgnoredAny>,
}

impl Reader {
    pub(super) fn new(spec: &PrometheusSpec) -> Self {
        Self {
            spec: spec.clone(),
            asker: Asker::new(&spec.http),
        }
    }

    pub(super) async fn read(&self, now: Timestamp) -> Reading {
        self.answer(now).await.unwrap_or_else(Reading::Absent)
    }

    async fn answer(&self, now: Timestamp) -> Result<Reading, Absence> {
        let query = &self.spec.query;
        if let Some(range) = self.spec.range {
            let start = now.micros().saturating_sub(micros_of(range.span));
            let parameters = [
                ("query", query.clone()),
                ("start", secs_text(start)),
                ("end", secs_text(now.micros())),
                ("step", secs_text(micros_of(range.step))),
            ];
            let data = self.ask("query_range", &parameters).await?;
            let (point, _) = only_point(data)?;
            return Ok(reading(&point, None, now));
        }
        let moment = secs_text(now.micros());
        let parameters = [("query", query.clone()), ("time", moment.clone())];
        let data = self.ask("query", &parameters).await?;
        let (point, own_time) = only_point(data)?;
        if own_time {
            return Ok(reading(&point, None, now));
        }
        // The line break ends a comment that the query may end with.
        let parameters = [("query", format!("timestamp({query}\n)")), ("time", moment)];
        let data = self.ask("query", &parameters).await?;
        let ((_, time), _) = only_point(data)?;
        Ok(reading(&point, Some(&time), now))
    }

    async fn ask(&self, what: &str, parameters: &[(&str, String)]) -> Result<Data, Absence> {
        let mut url = self.spec.http.url.clone();
        let path = format!("{}/api/v1/{what}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        append(&mut url, parameters);
        let answer = self
            .asker
            .get(url)
            .await
            .map_err(|why| absence(unreachable_because(why)))?;
        let unusable = |why: String| absence(unusable(answer.blot(&why)));
        let envelope: Result<Envelope, _> = serde_json::from_slice(&answer.body);
        // A refusal may have its reason in its body.
        let said = envelope.as_ref().ok().and_then(|said| said.error.as_ref());
        match (answer.refusal(), said) {
            (Some(refusal), Some(said)) => return Err(unusable(format!("{refusal}: {said}"))),
            (Some(refusal), None) => return Err(unusable(refusal)),
            (None, Some(said)) => return Err(unusable(said.clone())),
            (None, None) => {}
        }
        let envelope = envelope
            .map_err(|error| unusable(format!("its answer is not Prometheus': {error}")))?;
        if let Some(warning) = envelope.warnings.first() {
            return Err(unusable(format!("the server warns: {warning}")));
        }
        if envelope.is_partial {
            return Err(unusable(
                "the server says that its answer is partial".to_owned(),
            ));
        }
        match envelope.data {
            Some(data) if envelope.status == "success" => Ok(data),
            _ => Err(unusable(format!("the server says \"{}\"", envelope.status))),
        }
    }
}

fn append(url: &mut Url, parameters: &[(&str, String)]) {
    let mut pairs = url.query_pairs_mut();
    for (name, value) in parameters {
        pairs.append_pair(name, value);
    }
}

fn absence(reading: Reading) -> Absence {
    match reading {
        Reading::Absent(absence) => absence,
        Reading::Present(_) => Absence::NoData,
    }
}

/// `1700000000.250000`.
fn secs_text(micros: u64) -> String {
    format!("{}.{:06}", micros / MICROS_PER_SEC, micros % MICROS_PER_SEC)
}

/// The one point of a result, the newest of its series, and whether its time is
/// its own.
fn only_point(data: Data) -> Result<(Point, bool), Absence> {
    let unusable = |why: &str| Err(absence(unusable(why)));
    let (series, own_time) = match data {
        Data::Scalar(point) => return Ok((point, true)),
        Data::String(_) => return unusable("the query gives a text, not a number"),
        Data::Vector(series) => (series, false),
        Data::Matrix(series) => (series, true),
    };
    let mut series = series.into_iter();
    let Some(first) = series.next() else {
        return Err(Absence::NoData);
    };
    let others: Vec<Series> = series.collect();
    if !others.is_empty() {
        return unusable(&too_many(&first, &others));
    }
    if first.histogram.is_some() || first.histograms.is_some() {
        return unusable(
            "the query gives a histogram; take a number of it, such as with histogram_quantile()",
        );
    }
    match first.value.or_else(|| first.values.into_iter().next_back()) {
        Some(point) => Ok((point, own_time)),
        None => Err(Absence::NoData),
    }
}

/// What to change about a query with more than one series.
fn too_many(first: &Series, others: &[Series]) -> String {
    let count = others.len() + 1;
    let names: BTreeSet<&String> = others
        .iter()
        .chain([first])
        .flat_map(|series| series.metric.keys())
        .collect();
    let differs = |name: &&String| {
        others
            .iter()
            .any(|other| other.metric.get(*name) != first.metric.get(*name))
    };
    let differing: Vec<&str> = names
        .into_iter()
        .filter(differs)
        .map(String::as_str)
        .collect();
    let example = differing.iter().find_map(|name| {
        let value = first.metric.get(*name)?;
        Some(format!("{{{name}={value:?}}}"))
    });
    format!(
        "{count} series where one is expected; they differ in {}: add a matcher such as {}, or \
         sum() them",
        differing.join(", "),
        example.unwrap_or_else(|| "{job=\"NAME\"}".to_owned()),
    )
}

/// The reading of `point`, at `time` (as text) if it is known better.
fn reading((secs, value): &Point, time: Option<&str>, now: Timestamp) -> Reading {
    let Some(value) = number::parse(value) else {
        return Reading::Absent(Absence::NotANumber);
    };
    let secs = match time {
        Some(text) => number::parse(text).unwrap_or(f64::NAN),
        None => *secs,
    };
    match number::epoch_secs(secs) {
        Ok(at) => sampled(value, at, now),
        Err(why) => unusable(why),
    }
}
