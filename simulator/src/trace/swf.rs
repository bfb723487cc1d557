//! The Standard Workload Format: 18 numbers a line, `;` before comments.

use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::decimal::{DecimalError, parse_millionths, parse_whole};
use super::lines::Lines;
use super::stream::JobBlock;
use super::{Classes, Interner, TIME_MICROS_MAX, TraceError, TraceKind, parse_time, shown};

const FIELDS: usize = 18;

struct Job {
    arrival: u64,
    service: u64,
    class: u32,
}

/// What a file holds.
pub(super) struct Found {
    pub(super) kind: TraceKind,
    /// How many records were left out.
    pub(super) left_out: u64,
    /// What time it was at submit time 0, where the header says so.
    pub(super) begins_at: Option<Timestamp>,
}

/// Whether the line is a record: as many numbers as it needs.
pub(super) fn looks_like(line: &[u8]) -> bool {
    let fields = line.split(u8::is_ascii_whitespace);
    let mut fields = fields.filter(|field| !field.is_empty());
    let number =
        |field: &[u8]| matches!(parse_millionths(field), Ok(_) | Err(DecimalError::Negative));
    fields
        .by_ref()
        .take(FIELDS)
        .filter(|field| number(field))
        .count()
        == FIELDS
        && fields.next().is_none()
}

/// Reads all records.
pub(super) fn read(lines: &mut Lines<'_>) -> Result<Found, TraceError> {
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
    Ok(Found {
        kind,
        left_out: reader.left_out,
        begins_at: reader.begins_at,
    })
}

/// Gives out the records one by one, in the order of the file.
pub(super) struct Reader {
    interner: Interner,
    left_out: u64,
    begins_at: Option<Timestamp>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            interner: Interner::new(),
            left_out: 0,
            begins_at: None,
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
                self.begins_at = self.begins_at.or_else(|| start_time(line));
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

/// The time in `; UnixStartTime: 749427203`. Archives write 0, or -1, where
/// they do not know it.
fn start_time(comment: &[u8]) -> Option<Timestamp> {
    let text = comment.trim_ascii_start().strip_prefix(b";")?;
    let value = text.trim_ascii().strip_prefix(b"UnixStartTime:")?;
    let secs = parse_whole(value).ok()?;
    (1..=TIME_MICROS_MAX / MICROS_PER_SEC)
        .contains(&secs)
        .then(|| Timestamp::from_secs(secs))
}

/// The status (field 11) of a record that tells of a part of a job only: one
/// before the job was swapped out, or the last one. The record before them
/// sums all parts up.
const PARTS: [&[u8]; 3] = [b"2", b"3", b"4"];

/// One record; `None` if it lacks submit time, run time or size, or is a part.
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
    if PARTS.contains(&fields[10]) {
        return Ok(None);
    }
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
