//! The Standard Workload Format: 18 numbers a line, `;` before comments.

use super::decimal::{DecimalError, parse_millionths};
use super::lines::Lines;
use super::stream::JobBlock;
use super::{Classes, Interner, TIME_MICROS_MAX, TraceError, TraceKind, parse_time, shown};

const FIELDS: usize = 18;

struct Job {
    arrival: u64,
    service: u64,
    class: u32,
}

/// Reads all records, and how many of them were left out.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<(TraceKind, u64), TraceError> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut reader = Reader::new();
    while let Some(job) = reader.next(lines)? {
        jobs.push(job);
    }
    if jobs.is_empty() {
        return Err(lines.error(format!(
            "the trace has no job with a submit time, a run time and a size ({} without)",
            reader.left_out
        )));
    }
    // Stable: jobs submitted at one time keep the order of the file.
    jobs.sort_by_key(|job| job.arrival);
    let classes = Classes {
        names: reader.interner.names,
        numbers: jobs.iter().map(|job| job.class).collect(),
    };
    let kind = TraceKind::Jobs {
        arrival_micros: jobs.iter().map(|job| job.arrival).collect(),
        service_micros: jobs.iter().map(|job| job.service).collect(),
        classes,
    };
    Ok((kind, reader.left_out))
}

/// Gives out the records one by one, in the order of the file.
pub(super) struct Reader {
    interner: Interner,
    left_out: u64,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            interner: Interner::new(),
            left_out: 0,
        }
    }

    /// The classes met so far.
    pub(super) fn class_names(&self) -> &[String] {
        &self.interner.names
    }

    /// Adds records until the block has `jobs_max`, or the trace ends.
    pub(super) fn read_into(
        &mut self,
        lines: &mut Lines<'_>,
        block: &mut JobBlock,
        jobs_max: usize,
    ) -> Result<(), TraceError> {
        while block.len() < jobs_max
            && let Some(job) = self.next(lines)?
        {
            block.arrival_micros.push(job.arrival);
            block.service_micros.push(job.service);
            block.class_numbers.push(job.class);
        }
        Ok(())
    }

    /// The next record with all that is needed; `None` at the end.
    fn next(&mut self, lines: &mut Lines<'_>) -> Result<Option<Job>, TraceError> {
        while lines.advance()? {
            let line = lines.current().trim_ascii();
            if line.starts_with(b";") {
                continue;
            }
            match parse(line, &mut self.interner) {
                Ok(Some(job)) => return Ok(Some(job)),
                Ok(None) => self.left_out += 1,
                Err(reason) => lines.refuse(lines.error(reason))?,
            }
        }
        Ok(None)
    }
}

/// One record; `None` if it lacks submit time, run time or size.
fn parse(line: &[u8], interner: &mut Interner) -> Result<Option<Job>, String> {
    let mut fields = [&[][..]; FIELDS];
    let mut count = 0;
    for field in line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
    {
        if let Some(place) = fields.get_mut(count) {
            *place = field;
        }
        count += 1;
    }
    if count != FIELDS {
        return Err(format!(
            "{FIELDS} fields expected, {count} found in {}",
            shown(line)
        ));
    }
    let submit = known("submit time (field 2)", fields[1])?;
    let run = known("run time (field 4)", fields[3])?.filter(|run| *run > 0);
    let allocated = known("processors (field 5)", fields[4])?.filter(|size| *size > 0);
    let requested = known("requested processors (field 8)", fields[7])?.filter(|size| *size > 0);
    let size = if allocated.is_some() {
        fields[4]
    } else {
        fields[7]
    };
    match (submit, run, allocated.or(requested)) {
        (Some(arrival), Some(service), Some(_)) => Ok(Some(Job {
            arrival,
            service,
            class: interner.intern(size)?,
        })),
        _ => Ok(None),
    }
}

/// A field in millionths; `None` if negative, which is how the format says unknown.
fn known(key: &str, field: &[u8]) -> Result<Option<u64>, String> {
    match parse_millionths(field) {
        Ok(micros) if micros <= TIME_MICROS_MAX => Ok(Some(micros)),
        Err(DecimalError::Negative) => Ok(None),
        _ => parse_time(key, field).map(Some),
    }
}
