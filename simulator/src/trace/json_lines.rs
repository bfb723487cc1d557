//! JSON lines: one object per job or per step.

use serde::Deserialize;
use serde_json::{Number, Value};
use windlass_policies::units::Timestamp;

use super::csv::{RateRows, check_order};
use super::decimal::parse_whole;
use super::lines::Lines;
use super::stream::JobBlock;
use super::{Classes, Interner, TraceError, TraceKind, parse_time, shown};

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

/// Where a reader of JSON lines is.
pub(super) struct Reader {
    interner: Interner,
    rates: RateRows,
    rate_rows: u64,
    // Those that were not given out yet, and how many there were in all.
    jobs: JobBlock,
    job_rows: u64,
    // The arrival of the job before.
    last: u64,
    // The time of the first job, where jobs have times of the calendar.
    zero: Option<Timestamp>,
}

/// Reads all lines, and what time it was at the trace's zero.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let mut reader = Reader::new();
    while reader.advance(lines)? {}
    let Reader {
        interner,
        rates,
        rate_rows,
        jobs,
        zero,
        ..
    } = reader;
    if jobs.is_empty() {
        let empty = rate_rows == 0;
        let kind = rates.finish().map_err(|reason| {
            if empty {
                lines.error(format!("the file is empty; {EXPECTED}"))
            } else {
                lines.error(reason)
            }
        })?;
        return Ok((kind, None));
    }
    let kind = TraceKind::Jobs {
        arrival_micros: jobs.arrival_micros,
        service_micros: jobs.service_micros,
        classes: Classes {
            names: interner.names,
            numbers: jobs.class_numbers,
        },
    };
    Ok((kind, zero))
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            interner: Interner::new(),
            rates: RateRows::default(),
            rate_rows: 0,
            jobs: JobBlock::default(),
            job_rows: 0,
            last: 0,
            zero: None,
        }
    }

    /// The classes met so far. Jobs before the first one with a class have none.
    pub(super) fn class_names(&self) -> &[String] {
        &self.interner.names
    }

    /// Whether the first line is a job, and not a count.
    pub(super) fn begins_with_job(&mut self, lines: &mut Lines<'_>) -> Result<bool, TraceError> {
        while self.job_rows == 0 && self.rate_rows == 0 && self.advance(lines)? {}
        Ok(self.job_rows > 0)
    }

    /// Adds jobs until the block has `jobs_max`, or the trace ends. The empty
    /// class is told only of jobs in a block with a class.
    pub(super) fn read_into(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
        jobs_max: usize,
    ) -> Result<(), TraceError> {
        while self.jobs.len() < jobs_max && self.advance(lines)? {}
        std::mem::swap(&mut self.jobs, block);
        self.jobs.clear();
        Ok(())
    }

    /// Reads one line; false at the end.
    fn advance(&mut self, lines: &mut Lines<'_>) -> Result<bool, TraceError> {
        if !lines.advance()? {
            return Ok(false);
        }
        let skipped = lines.skipped_count();
        if let Err(reason) = self.push(lines.current(), skipped) {
            lines.refuse(lines.error(reason))?;
        }
        Ok(true)
    }

    fn push(&mut self, text: &[u8], skipped: u64) -> Result<(), String> {
        let line: Line = serde_json::from_slice(text)
            .map_err(|error| format!("{}: {error}; {EXPECTED}", shown(text)))?;
        if let (Some(at), Some(count)) = (&line.t_s, &line.count) {
            if self.job_rows > 0 {
                return Err("a count among jobs; a trace has either".into());
            }
            let at = micros("t_s", at)?;
            let text = count.to_string();
            let count = parse_whole(text.as_bytes())
                .map_err(|reason| format!("count {} {reason}", shown(text.as_bytes())))?;
            self.rate_rows += 1;
            return self.rates.push(at, count, skipped);
        }
        if self.rate_rows > 0 {
            return Err(format!("{} among counts; {EXPECTED}", shown(text)));
        }
        let arrival = self.arrival(&line, text)?;
        let service = line
            .service_s
            .as_ref()
            .ok_or_else(|| format!("service_s is missing in {}", shown(text)))?;
        let service = micros("service_s", service)?;
        check_order(self.last, arrival)?;
        self.push_class(line.class.as_ref())?;
        self.last = arrival;
        self.job_rows += 1;
        self.jobs.arrival_micros.push(arrival);
        self.jobs.service_micros.push(service);
        Ok(())
    }

    fn arrival(&mut self, line: &Line, text: &[u8]) -> Result<u64, String> {
        if let Some(seconds) = &line.arrival_s {
            if self.zero.is_some() {
                return Err("arrival_s among lines with arrival; use one of them".into());
            }
            return micros("arrival_s", seconds);
        }
        let Some(at) = &line.arrival else {
            return Err(format!(
                "{} is neither a job nor a count; {EXPECTED}",
                shown(text)
            ));
        };
        if self.zero.is_none() && self.job_rows > 0 {
            return Err("arrival among lines with arrival_s; use one of them".into());
        }
        let at = Timestamp::parse(at).map_err(|reason| format!("arrival: {reason}"))?;
        let zero = *self.zero.get_or_insert(at);
        at.micros().checked_sub(zero.micros()).ok_or_else(|| {
            "arrival is before that of the first job; sort the jobs by arrival".to_owned()
        })
    }

    /// A class is a text or a number; a line without one has the empty class,
    /// if any line has one.
    fn push_class(&mut self, class: Option<&Value>) -> Result<(), String> {
        let name = match class {
            None | Some(Value::Null) if self.jobs.class_numbers.is_empty() => return Ok(()),
            None | Some(Value::Null) => String::new(),
            Some(Value::String(name)) => name.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                return Err("class is neither a text nor a number".into());
            }
        };
        let before = self.jobs.len() - self.jobs.class_numbers.len();
        if before > 0 {
            let none = self.interner.intern(b"")?;
            self.jobs
                .class_numbers
                .extend(std::iter::repeat_n(none, before));
        }
        let number = self.interner.intern(name.as_bytes())?;
        self.jobs.class_numbers.push(number);
        Ok(())
    }
}

fn micros(key: &str, seconds: &Number) -> Result<u64, String> {
    parse_time(key, seconds.to_string().as_bytes())
}
