//! JSON lines: one object per job or per step.

use serde::Deserialize;
use serde_json::{Number, Value};
use windlass_policies::units::Timestamp;

use super::decimal::parse_whole;
use super::lines::Lines;
use super::records::{Arrival, Records};
use super::stream::JobBlock;
use super::{TraceError, TraceKind, json_reason, parse_time, shown};

/// One line. What else it holds is passed over.
#[derive(Deserialize)]
struct Line {
    arrival_s: Option<Number>,
    arrival: Option<String>,
    service_s: Option<Number>,
    class: Option<Value>,
    t_s: Option<Number>,
    count: Option<Number>,
}

/// What a line must be.
const EXPECTED: &str = "expected an object such as {\"arrival_s\": 1.5, \"service_s\": 20, \
                        \"class\": \"small\"} or {\"t_s\": 0, \"count\": 7}";

/// Reads all lines, and what time it was at the trace's zero.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let mut reader = Reader::new();
    while reader.advance(lines)? {}
    if reader.records.is_empty() {
        return Err(lines.error(format!("the file is empty; {EXPECTED}")));
    }
    let all = reader.records.finish();
    all.map_err(|reason| lines.error(reason))
}

/// Where a reader of JSON lines is.
pub(super) struct Reader {
    records: Records,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            records: Records::new(),
        }
    }

    /// The classes met so far. Jobs before the first one with a class have none.
    pub(super) fn class_names(&self) -> &[String] {
        self.records.class_names()
    }

    /// Whether the first line is a job, and not a count.
    pub(super) fn begins_with_job(&mut self, lines: &mut Lines<'_>) -> Result<bool, TraceError> {
        while self.records.is_empty() && self.advance(lines)? {}
        Ok(self.records.has_jobs())
    }

    /// Adds jobs until the block has `jobs_max`, or the trace ends. The empty
    /// class is told only of jobs in a block with a class.
    pub(super) fn read_into(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
        jobs_max: usize,
    ) -> Result<(), TraceError> {
        while self.records.held() < jobs_max && self.advance(lines)? {}
        self.records.take_jobs(block);
        Ok(())
    }

    /// Reads one line; false at the end.
    fn advance(&mut self, lines: &mut Lines<'_>) -> Result<bool, TraceError> {
        if !lines.advance()? {
            return Ok(false);
        }
        let skipped = lines.skipped_count();
        if let Err(reason) = push(&mut self.records, lines.current(), skipped) {
            lines.refuse(lines.error(reason))?;
        }
        Ok(true)
    }
}

fn push(records: &mut Records, text: &[u8], skipped: u64) -> Result<(), String> {
    // Checked here, because an array would do for an object, field by field.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(format!("{} is no object; {EXPECTED}", shown(text)));
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        let reason = json_reason(&error);
        let column = error.column();
        format!("{}: {reason} at column {column}; {EXPECTED}", shown(text))
    })?;
    if let (Some(at), Some(count)) = (&line.t_s, &line.count) {
        let at = micros("t_s", at)?;
        let text = count.to_string();
        let count = parse_whole(text.as_bytes())
            .map_err(|reason| format!("count {} {reason}", shown(text.as_bytes())))?;
        return records.push_count(at, count, skipped);
    }
    let arrival = arrival(&line, text)?;
    let service = line
        .service_s
        .as_ref()
        .ok_or_else(|| format!("service_s is missing in {}", shown(text)))?;
    let service = micros("service_s", service)?;
    let class = match line.class {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Err("class is neither a text nor a number".into());
        }
    };
    records.push_job(&arrival, service, class.as_deref().map(str::as_bytes))
}

fn arrival(line: &Line, text: &[u8]) -> Result<Arrival, String> {
    match (&line.arrival_s, &line.arrival) {
        (Some(seconds), _) => micros("arrival_s", seconds).map(Arrival::Micros),
        (None, Some(at)) => Timestamp::parse(at)
            .map(Arrival::At)
            .map_err(|reason| format!("arrival: {reason}")),
        (None, None) => Err(format!(
            "{} is neither a job nor a count; {EXPECTED}",
            shown(text)
        )),
    }
}

fn micros(key: &str, seconds: &Number) -> Result<u64, String> {
    parse_time(key, seconds.to_string().as_bytes())
}
