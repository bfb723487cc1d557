//! A number in a JSON document that is fetched over HTTP.

use std::path::Path;
use std::time::Duration;

use reqwest::header::AGE;
use serde_json::Value;
use windlass_policies::fields::Fields;
use windlass_policies::signal::{Absence, Reading};
use windlass_policies::units::{Timestamp, micros_of};

use super::http::{Answer, Asker, HttpSpec, read_spec as read_http};
use super::{number, sampled, unreachable_because, unusable};

/// What is fetched, and where in it the number is.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpJsonSpec {
    /// What is fetched.
    pub http: HttpSpec,
    /// Where the number is (RFC 6901); empty for the document itself.
    pub pointer: String,
    /// Where the time is at which it was true.
    pub time_pointer: Option<String>,
}

/// Reads the keys of a signal with `source = "http_json"`.
pub(super) fn read_spec(fields: &mut Fields<'_>, folder: &Path) -> Option<HttpJsonSpec> {
    let http = read_http(fields, folder, "https://jobs.internal/queue.json");
    let pointer =
        fields.required::<String>("pointer", "where the number is, such as \"/queue/waiting\"");
    let time_pointer = fields.optional::<String>("time_pointer");
    for (key, pointer) in [("pointer", &pointer), ("time_pointer", &time_pointer)] {
        if pointer.as_deref().is_some_and(|text| !is_pointer(text)) {
            fields.problem(
                key,
                "is no JSON pointer; write \"/\" before each step, such as \"/queues/0/waiting\"",
            );
        }
    }
    Some(HttpJsonSpec {
        http: http?,
        pointer: pointer?,
        time_pointer,
    })
}

/// Whether `text` is a JSON pointer: in it `~` is written `~0`, and `/` within
/// a name `~1`.
fn is_pointer(text: &str) -> bool {
    let escapes_are_whole = text
        .split('~')
        .skip(1)
        .all(|rest| rest.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_are_whole
}

/// Fetches one document for one number.
pub(super) struct Reader {
    spec: HttpJsonSpec,
    asker: Asker,
}

impl Reader {
    pub(super) fn new(spec: &HttpJsonSpec) -> Self {
        Self {
            spec: spec.clone(),
            asker: Asker::new(&spec.http),
        }
    }

    pub(super) async fn read(&self, now: Timestamp) -> Reading {
        let answer = match self.asker.get(self.spec.http.url.clone()).await {
            Ok(answer) => answer,
            Err(why) => return unreachable_because(why),
        };
        if let Some(why) = answer.refusal() {
            return unusable(answer.blot(&why));
        }
        match found(&self.spec, &answer, now) {
            Ok(reading) => reading,
            Err(why) => unusable(answer.blot(&why)),
        }
    }
}

fn found(spec: &HttpJsonSpec, answer: &Answer, now: Timestamp) -> Result<Reading, String> {
    let document: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("its answer is no JSON: {error}"))?;
    let value = match document.pointer(&spec.pointer) {
        None | Some(Value::Null) => return Ok(Reading::Absent(Absence::NoData)),
        Some(Value::Number(value)) => value.as_f64(),
        Some(other) => {
            let what = kind_of(other);
            return Err(format!(
                "what is at \"{}\" is {what}, not a number",
                spec.pointer
            ));
        }
    };
    let Some(value) = value else {
        return Ok(Reading::Absent(Absence::NotANumber));
    };
    let at = match &spec.time_pointer {
        None => fetched_at(answer, now),
        Some(pointer) => {
            let time = match document.pointer(pointer) {
                Some(Value::Number(secs)) => number::epoch_secs(secs.as_f64().unwrap_or(f64::NAN)),
                Some(Value::String(text)) => number::parse_time(text),
                Some(other) => Err(format!("{} is no time", kind_of(other))),
                None => Err("there is nothing".to_owned()),
            };
            time.map_err(|why| format!("time_pointer \"{pointer}\": {why}"))?
        }
    };
    Ok(sampled(value, at, now))
}

/// Now, or earlier if a cache on the way says for how long it had the answer.
fn fetched_at(answer: &Answer, now: Timestamp) -> Timestamp {
    let age = answer.headers.get(AGE);
    let secs = age.and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
    let age = Duration::from_secs(secs.unwrap_or(0));
    Timestamp::from_micros(now.micros().saturating_sub(micros_of(age)))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
