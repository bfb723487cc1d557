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

#[derive(Default)]
struct Reader {
    rates: RateRows,
    rate_rows: u64,
    jobs: JobBlock,
    // The time of the first job, where jobs have times of the calendar.
    zero: Option<Timestamp>,
}

/// Reads all lines, and what time it was at the trace's zero.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, Option<Timestamp>), TraceError> {
    let mut reader = Reader::default();
    let mut interner = Interner::new();
    while lines.advance()? {
        let skipped = lines.skipped_count();
        let read = reader.push(lines.current(), &mut interner, skipped);
        if let Err(reason) = read {
            lines.refuse(lines.error(reason))?;
        }
    }
    let Reader {
        rates,
        rate_rows,
        jobs,
        zero,
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
    fn push(&mut self, text: &[u8], interner: &mut Interner, skipped: u64) -> Result<(), String> {
        let line: Line = serde_json::from_slice(text)
            .map_err(|error| format!("{}: {error}; {EXPECTED}", shown(text)))?;
        if let (Some(at), Some(count)) = (&line.t_s, &line.count) {
            if !self.jobs.is_empty() {
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
        check_order(
            self.jobs.arrival_micros.last().copied().unwrap_or(0),
            arrival,
        )?;
        self.push_class(line.class.as_ref(), interner)?;
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
        if self.zero.is_none() && !self.jobs.is_empty() {
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
    fn push_class(&mut self, class: Option<&Value>, interner: &mut Interner) -> Result<(), String> {
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
            let none = interner.intern(b"")?;
            self.jobs
                .class_numbers
                .extend(std::iter::repeat_n(none, before));
        }
        let number = interner.intern(name.as_bytes())?;
        self.jobs.class_numbers.push(number);
        Ok(())
    }
}

fn micros(key: &str, seconds: &Number) -> Result<u64, String> {
    parse_time(key, seconds.to_string().as_bytes())
}
