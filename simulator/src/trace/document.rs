//! What monitoring systems answer: JSON documents of `CloudWatch` and Prometheus.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::decimal::parse_millionths;
use super::lines::Lines;
use super::options::Values;
use super::{ReadOptions, TIME_MICROS_MAX, TraceError, TraceKind, json_reason, seconds};

/// A year of minutes has 25 MB. A longer document is no answer of either, and
/// would take too much memory: up to 16 times its length.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// More steps than this come from a wrong time.
const STEPS_MAX: u64 = 100_000_000;

/// The greatest value: up to here whole numbers are exact.
const VALUE_MAX: f64 = 9_007_199_254_740_992.0;

/// What a document must be.
const EXPECTED: &str = "expected what `aws cloudwatch get-metric-data` or the query_range of \
                        Prometheus gives";

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "MetricDataResults")]
    results: Option<Vec<MetricResult>>,
    #[serde(rename = "NextToken")]
    next_token: Option<String>,
    data: Option<QueryData>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct MetricResult {
    #[serde(rename = "Id", default)]
    id: String,
    #[serde(rename = "Label", default)]
    label: String,
    #[serde(rename = "Timestamps", default)]
    timestamps: Vec<Value>,
    #[serde(rename = "Values", default)]
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct QueryData {
    #[serde(rename = "resultType", default)]
    kind: String,
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// Values by time, so far.
#[derive(Default)]
struct Points {
    // Invariant: values are finite and not negative.
    values: BTreeMap<u64, f64>,
}

/// Reads the document, and what time it was at the trace's zero.
pub(super) fn read(
    lines: &mut Lines<'_>,
    options: &ReadOptions,
) -> Result<(TraceKind, Timestamp), TraceError> {
    let text = lines.read_all(DOCUMENT_BYTES_MAX)?.ok_or_else(|| {
        let reason = format!("it is longer than {DOCUMENT_BYTES_MAX} bytes");
        lines.wrong("document", reason)
    })?;
    let plain = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    if plain.trim_ascii().is_empty() {
        return Err(lines.wrong("document", "it is empty"));
    }
    // Checked here, because an array would do for an object, field by field.
    if !plain.trim_ascii_start().starts_with(b"{") {
        return Err(lines.wrong("document", format!("it is no JSON object; {EXPECTED}")));
    }
    let document: Document = serde_json::from_slice(plain).map_err(|error| {
        lines.wrong(
            format!("line {} column {}", error.line(), error.column()),
            format!("{}; {EXPECTED}", json_reason(&error)),
        )
    })?;
    match (document.results, document.data) {
        (Some(results), _) => {
            if document.next_token.is_some() {
                let reason = "this is one page of several; fetch all (`aws` does without \
                              --max-items and --starting-token), or let it pass with --skip-bad 1";
                lines.refuse(lines.wrong("NextToken", reason))?;
            }
            let result = choose(join_pages(results), options.series.as_deref())
                .map_err(|reason| lines.wrong("MetricDataResults", reason))?;
            let points = metric_points(lines, &result)?;
            // A period is named by its beginning.
            grid(&points, options.values, false)
                .map_err(|reason| lines.wrong("MetricDataResults", reason))
        }
        (None, Some(data)) => {
            let points = query_points(lines, &data)?;
            // A range looks back from the time it is named by.
            grid(&points, options.values, true).map_err(|reason| lines.wrong("data", reason))
        }
        (None, None) => {
            let said = document
                .error
                .map_or(String::new(), |error| format!(": {error}"));
            let reason = format!("it has neither `MetricDataResults` nor `data`{said}");
            Err(lines.wrong("document", reason))
        }
    }
}

/// A metric that comes in several pages has a result in each, under one id.
fn join_pages(results: Vec<MetricResult>) -> Vec<MetricResult> {
    let mut joined: Vec<MetricResult> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for result in results {
        let key = (result.id.clone(), result.label.clone());
        if let Some(known) = places.get(&key).and_then(|place| joined.get_mut(*place)) {
            known.timestamps.extend(result.timestamps);
            known.values.extend(result.values);
        } else {
            places.insert(key, joined.len());
            joined.push(result);
        }
    }
    joined
}

fn choose(results: Vec<MetricResult>, wanted: Option<&str>) -> Result<MetricResult, String> {
    let known: Vec<String> = results
        .iter()
        .map(|result| format!("{} ({})", result.id, result.label))
        .collect();
    let known = known.join(", ");
    let mut chosen: Vec<MetricResult> = results
        .into_iter()
        .filter(|result| wanted.is_none_or(|name| result.id == name || result.label == name))
        .collect();
    match (chosen.len(), wanted) {
        (1, _) => Ok(chosen.remove(0)),
        (0, Some(name)) => Err(format!("there is no metric `{name}`; there are {known}")),
        (0, None) => Err("there is no metric".into()),
        _ => Err(format!("there are several metrics, choose one: {known}")),
    }
}

fn metric_points(lines: &mut Lines<'_>, result: &MetricResult) -> Result<Points, TraceError> {
    let place = format!("metric {}", result.id);
    if result.timestamps.len() != result.values.len() {
        let reason = format!(
            "{} Timestamps for {} Values",
            result.timestamps.len(),
            result.values.len()
        );
        return Err(lines.wrong(place, reason));
    }
    let mut points = Points::default();
    for (index, (at, value)) in result.timestamps.iter().zip(&result.values).enumerate() {
        let added = metric_time(at).and_then(|at| {
            if points.values.contains_key(&at) {
                return Err(format!("the time {at} comes twice"));
            }
            points.add(at, *value)
        });
        if let Err(reason) = added {
            lines.refuse(lines.wrong(format!("{place}[{index}]"), reason))?;
        }
    }
    Ok(points)
}

fn metric_time(at: &Value) -> Result<u64, String> {
    match at {
        Value::String(text) => Timestamp::parse(text).map(Timestamp::micros),
        Value::Number(number) => parse_millionths(number.to_string().as_bytes())
            .map_err(|reason| format!("time {number} {reason}")),
        other => Err(format!("time {other} is no time")),
    }
}

fn query_points(lines: &mut Lines<'_>, data: &QueryData) -> Result<Points, TraceError> {
    if data.kind != "matrix" {
        let reason = format!(
            "resultType is `{}`, and `matrix` is needed: use query_range",
            data.kind
        );
        return Err(lines.wrong("data", reason));
    }
    let mut points = Points::default();
    for (series, result) in data.result.iter().enumerate() {
        for (index, (at, value)) in result.values.iter().enumerate() {
            let added = parse_millionths(at.to_string().as_bytes())
                .map_err(|reason| format!("time {at} {reason}"))
                .and_then(|at| {
                    let value: f64 = value
                        .parse()
                        .map_err(|_| format!("value `{value}` is no number"))?;
                    points.add(at, value)
                });
            if let Err(reason) = added {
                let place = format!("data.result[{series}].values[{index}]");
                lines.refuse(lines.wrong(place, reason))?;
            }
        }
    }
    Ok(points)
}

impl Points {
    /// Adds a value; at the same time, as of another series, they sum up.
    fn add(&mut self, at: u64, value: f64) -> Result<(), String> {
        if !(0.0..=VALUE_MAX).contains(&value) {
            return Err(format!("value {value} is not a number from 0 to 2^53"));
        }
        if at > TIME_MICROS_MAX {
            return Err(format!("time {} is too large", seconds(at)));
        }
        *self.values.entry(at).or_insert(0.0) += value;
        Ok(())
    }
}

fn grid(
    points: &Points,
    values: Values,
    looks_back: bool,
) -> Result<(TraceKind, Timestamp), String> {
    let times: Vec<u64> = points.values.keys().copied().collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err("there is no value".into());
    };
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let step = gaps
        .min()
        .ok_or("one value does not tell the length of a step; at least two are needed")?;
    let steps = (last - first) / step + 1;
    if steps > STEPS_MAX {
        return Err(format!(
            "it has {steps} steps of {}; at most {STEPS_MAX}",
            seconds(step)
        ));
    }
    let mut counts = vec![0; usize::try_from(steps).unwrap_or(0)];
    let mut sums = Sums::default();
    for (at, value) in &points.values {
        let offset = at - first;
        if !offset.is_multiple_of(step) {
            let at = seconds(*at);
            return Err(format!(
                "the value at {at} is off the grid of {}",
                seconds(step)
            ));
        }
        let value = match values {
            Values::PerStep => *value,
            Values::PerSecond => *value * float(step) / float(MICROS_PER_SEC),
        };
        if let Some(count) = usize::try_from(offset / step)
            .ok()
            .and_then(|index| counts.get_mut(index))
        {
            *count = sums.whole(value)?;
        }
    }
    let begins = if looks_back {
        first.saturating_sub(step)
    } else {
        *first
    };
    let kind = TraceKind::Rate {
        step_micros: step,
        counts,
    };
    Ok((kind, Timestamp::from_micros(begins)))
}

/// Carries what is left of fractions from step to step.
#[derive(Default)]
struct Sums {
    rest: f64,
}

impl Sums {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and at most VALUE_MAX"
    )]
    fn whole(&mut self, value: f64) -> Result<u64, String> {
        let sum = value + self.rest;
        if !(sum <= VALUE_MAX) {
            return Err(format!("value {value} is too large"));
        }
        // The nearest, so that 0.999999 and 1.000001 are both one.
        let whole = libm::floor(libm::fmax(sum, 0.0) + 0.5);
        self.rest = sum - whole;
        Ok(whole as u64)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a step is far below 2^53 microseconds or rounded"
)]
fn float(micros: u64) -> f64 {
    micros as f64
}
