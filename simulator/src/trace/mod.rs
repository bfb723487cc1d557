//! Recorded loads: how many arrivals per step, or job by job.
//!
//! Each format is read plain or gzipped, told apart by the first two bytes,
//! whatever the name. The name tells the format, unless [`ReadOptions::format`]
//! does; the endings below may be followed by `.gz`. Where the name says
//! nothing the beginning of the file does:
//!
//! - **comma-separated values**, `.csv`, or what looks like nothing else. With the
//!   header `t_s,count`: a regular grid from 0, with `count` arrivals in
//!   `[t_s, t_s + step)`. With the header `arrival_s,service_s` or
//!   `arrival_s,service_s,class`: jobs, sorted by arrival. Fields may stand in
//!   quotes, if they hold neither commas nor quotes;
//! - the **Standard Workload Format** of the Parallel Workloads Archive, `.swf`:
//!   submit time (field 2) is the arrival, run time (field 4) the service,
//!   processors (field 5, or 8 where 5 is unknown) the class. Records without
//!   all three are left out and counted, and so are those of parts of a job
//!   that was swapped out (status 2, 3 and 4), which another record sums up;
//! - the **cache** of windlass itself, `.wtrace` (see [`cache`]);
//! - **JSON lines**, `.jsonl` or `.ndjson`: one object a line, with
//!   `arrival_s`, `service_s` and perhaps `class`, or with `t_s` and `count`;
//!   the same rules as for comma-separated values. Other keys are passed over.
//!   Instead of `arrival_s` there may be `arrival`, a time such as
//!   `2026-07-01T12:00:00.25Z`; the first arrival is then the trace's zero;
//! - **Parquet**, `.parquet`: the columns of JSON lines by the same names;
//! - **what `CloudWatch` and Prometheus answer**, `.json` (see [`ReadOptions`]
//!   for how values become counts): the output of `aws cloudwatch
//!   get-metric-data`, or of Prometheus' `/api/v1/query_range`;
//! - **access logs** in the Common Log Format, `.log`, or a name with
//!   `access_log` or `access.log` in it: arrivals per second of the log's
//!   clock, in any order. If the first line ends in a number after the fields
//!   of the common or combined format, every line must, and it is the time the
//!   request took: in seconds if it has a point (`$request_time` of nginx), in
//!   microseconds if it has none (`%D` of Apache). The trace is then one of
//!   jobs, with the request's method as its class.
//!
//! Seconds may have decimals; they become whole microseconds, rounded half up
//! from the seventh decimal on. Windows line ends, a byte order mark, blank
//! lines and a missing last line end do no harm. Anything else is an error with
//! the file, the line and the reason; [`ReadOptions::skip_bad`] passes over some.

mod access_log;
pub mod cache;
mod csv;
pub mod decimal;
pub mod describe;
mod document;
mod json_lines;
mod lines;
mod options;
mod parquet;
mod records;
pub mod reshape;
mod stream;
mod swar;
mod swf;
pub mod synthetic;
pub mod write;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use thiserror::Error;

use windlass_policies::units::Timestamp;

use self::lines::Lines;

pub use self::options::{ReadOptions, Skipped, TraceFormat, Values};
pub use self::parquet::silence_caught_panics;
pub use self::stream::{JobBlock, JobStream};

/// The latest time and the longest service in a trace, 2^60 microseconds or
/// 36,000 years: sums of a few of them cannot overflow.
pub const TIME_MICROS_MAX: u64 = 1 << 60;

/// A recorded load. Every trace holds at least one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    name: String,
    kind: TraceKind,
    left_out: u64,
    skipped: Skipped,
    begins_at: Option<Timestamp>,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// Arrivals per step.
    Rate {
        /// Length of a step in microseconds, above 0.
        step_micros: u64,
        /// Arrivals in `[i * step, (i + 1) * step)`.
        counts: Vec<u64>,
    },
    /// Job by job. All columns have the same length.
    Jobs {
        /// Arrivals in microseconds, in ascending order.
        arrival_micros: Vec<u64>,
        /// Service times in microseconds; may be 0.
        service_micros: Vec<u64>,
        /// What kind of job each is.
        classes: Classes,
    },
}

/// The class of every job, each name kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    names: Vec<String>,
    // Invariant: every number is a place in `names`. Empty if the trace has no classes.
    numbers: Vec<u32>,
}

/// Why a trace cannot be used.
#[derive(Debug, Error)]
pub enum TraceError {
    /// There is no such file, or it may not be opened.
    #[error("cannot open the trace {name}")]
    Unopened {
        /// Its path.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// Reading failed on the way: a disk error, or damaged gzip data.
    #[error("cannot read the trace {name} beyond line {line}")]
    Unreadable {
        /// Its path or name.
        name: String,
        /// The last line that was read.
        line: u64,
        /// What went wrong.
        source: io::Error,
    },
    /// Gzip data that ends early: a copy that was broken off.
    #[error("{name}: the gzip data ends early, in or after line {line}; fetch the file again")]
    CutOff {
        /// Its path or name.
        name: String,
        /// The last line that was whole.
        line: u64,
    },
    /// A document that is no trace, or is damaged; it has no lines to name.
    #[error("{name}: {place}: {reason}")]
    Wrong {
        /// Its path or name.
        name: String,
        /// Where: `data.result[0].values[17]`, or `block 3`.
        place: String,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// It is read, but it is no trace.
    #[error("{name}:{line}: {reason}")]
    Malformed {
        /// Its path or name.
        name: String,
        /// Where, counted from 1.
        line: u64,
        /// What is wrong, and what was expected.
        reason: String,
    },
}

/// Reads the trace in a file. Its name is the file's name without directories.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(path: &Path) -> Result<Trace, TraceError> {
    read_with(path, &ReadOptions::default())
}

/// Like [`read`], with options.
///
/// # Errors
/// The first thing that is wrong with it and is not to be skipped.
pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Trace, TraceError> {
    let shown = path.display().to_string();
    let mut file = open(path)?;
    let mut trace = if parquet::is_file(&mut file, options) {
        parquet::read_file(&shown, file, options)?
    } else {
        read_bytes_with(&shown, file, options)?
    };
    if let Some(name) = path.file_name() {
        trace.name = name.to_string_lossy().into_owned();
    }
    Ok(trace)
}

/// Refuses what has no lines, and named pipes, where opening waits for somebody
/// who may never come. Those under /dev come with their writer: `<(command)`.
fn refuse_waiting(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory; name a file in it"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&kind) && !path.starts_with("/dev") {
        return Err(io::Error::other(
            "it is a named pipe; write its lines to a file first",
        ));
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, TraceError> {
    let unopened = |source| TraceError::Unopened {
        name: path.display().to_string(),
        source,
    };
    refuse_waiting(path).map_err(unopened)?;
    File::open(path).map_err(unopened)
}

/// Reads a trace from bytes; `name` stands in errors and tells the format by
/// its ending.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_bytes(name: &str, source: impl Read) -> Result<Trace, TraceError> {
    read_bytes_with(name, source, &ReadOptions::default())
}

/// Like [`read_bytes`], with options.
///
/// # Errors
/// The first thing that is wrong with it and is not to be skipped.
pub fn read_bytes_with(
    name: &str,
    source: impl Read,
    options: &ReadOptions,
) -> Result<Trace, TraceError> {
    let mut lines = Lines::new(name, source, options.skip_bad)?;
    let format = format_of(name, &mut lines, options)?;
    read_lines(name, lines, format, options)
}

/// The format: the one asked for, or that of the name, or of the beginning.
fn format_of(
    name: &str,
    lines: &mut Lines<'_>,
    options: &ReadOptions,
) -> Result<TraceFormat, TraceError> {
    let begins = lines.beginning(options::TELLING_BYTES)?;
    Ok(options
        .format
        .or_else(|| TraceFormat::of_name(name))
        .unwrap_or_else(|| TraceFormat::of_beginning(begins)))
}

fn read_lines(
    name: &str,
    mut lines: Lines<'_>,
    format: TraceFormat,
    options: &ReadOptions,
) -> Result<Trace, TraceError> {
    let mut left_out = 0;
    let (kind, begins_at) = match format {
        TraceFormat::Csv => (csv::read(&mut lines)?, None),
        TraceFormat::Swf => {
            let found = swf::read(&mut lines)?;
            left_out = found.left_out;
            (found.kind, found.begins_at)
        }
        TraceFormat::Cache => cache::read(&mut lines)?,
        TraceFormat::JsonLines => json_lines::read(&mut lines)?,
        TraceFormat::Parquet => parquet::read(&mut lines)?,
        TraceFormat::Json => {
            let (kind, began) = document::read(&mut lines, options)?;
            (kind, Some(began))
        }
        TraceFormat::AccessLog => {
            let (kind, began) = access_log::read(&mut lines)?;
            (kind, Some(began))
        }
    };
    Ok(Trace {
        name: name.to_owned(),
        kind,
        left_out,
        skipped: lines.into_skipped(),
        begins_at,
    })
}

impl Trace {
    /// A trace of arrivals per step, made in memory.
    ///
    /// # Errors
    /// A sentence, if there is no step, or its length is 0, or the end lies
    /// beyond [`TIME_MICROS_MAX`].
    pub fn of_counts(name: &str, step_micros: u64, counts: Vec<u64>) -> Result<Self, String> {
        let bins = u64::try_from(counts.len()).unwrap_or(u64::MAX);
        if bins == 0 || step_micros == 0 {
            return Err("a rate trace needs at least one step, longer than 0".into());
        }
        if bins
            .checked_mul(step_micros)
            .is_none_or(|end| end > TIME_MICROS_MAX)
        {
            return Err(format!(
                "the trace is longer than {}",
                seconds(TIME_MICROS_MAX)
            ));
        }
        let kind = TraceKind::Rate {
            step_micros,
            counts,
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            left_out: 0,
            skipped: Skipped::default(),
            begins_at: None,
        })
    }

    /// A trace of jobs without classes, made in memory.
    ///
    /// # Errors
    /// A sentence, if there is no job, the columns differ in length, arrivals
    /// are not in ascending order, or a time is above [`TIME_MICROS_MAX`].
    pub fn of_jobs(
        name: &str,
        arrival_micros: Vec<u64>,
        service_micros: Vec<u64>,
    ) -> Result<Self, String> {
        Self::of_classed_jobs(name, arrival_micros, service_micros, Classes::default())
    }

    /// A trace of jobs made in memory; `classes` has a number for every job, or
    /// none at all.
    ///
    /// # Errors
    /// As [`Trace::of_jobs`].
    pub fn of_classed_jobs(
        name: &str,
        arrival_micros: Vec<u64>,
        service_micros: Vec<u64>,
        classes: Classes,
    ) -> Result<Self, String> {
        if !classes.numbers.is_empty() && classes.numbers.len() != arrival_micros.len() {
            return Err("every job needs a class, or none has one".into());
        }
        if arrival_micros.is_empty() || arrival_micros.len() != service_micros.len() {
            return Err(format!(
                "a job trace needs at least one job and as many services ({}) as arrivals ({})",
                service_micros.len(),
                arrival_micros.len()
            ));
        }
        if !arrival_micros.is_sorted() {
            return Err("arrivals must be in ascending order".into());
        }
        if arrival_micros
            .iter()
            .chain(&service_micros)
            .any(|micros| *micros > TIME_MICROS_MAX)
        {
            return Err(format!("a time is above {}", seconds(TIME_MICROS_MAX)));
        }
        let kind = TraceKind::Jobs {
            arrival_micros,
            service_micros,
            classes,
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            left_out: 0,
            skipped: Skipped::default(),
            begins_at: None,
        })
    }

    /// What it is called: the file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was recorded.
    pub const fn kind(&self) -> &TraceKind {
        &self.kind
    }

    /// Records that could not be used because the source knows no positive run
    /// time, size or submit time of them, or that are part of another record.
    /// Only SWF has such.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The lines that were wrong and were passed over, as
    /// [`ReadOptions::skip_bad`] allowed.
    pub const fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// What time it was at the trace's zero, where its format tells.
    pub const fn begins_at(&self) -> Option<Timestamp> {
        self.begins_at
    }

    /// The same trace under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The same trace, with the time of its zero.
    #[must_use]
    pub const fn beginning_at(mut self, begins_at: Option<Timestamp>) -> Self {
        self.begins_at = begins_at;
        self
    }

    /// How long it is, in microseconds, so that the half-open window
    /// [0, span) holds all of it: steps times their length, or the last
    /// arrival plus one microsecond.
    pub fn span_micros(&self) -> u64 {
        match &self.kind {
            TraceKind::Rate {
                step_micros,
                counts,
            } => counts.len() as u64 * step_micros,
            TraceKind::Jobs { arrival_micros, .. } => {
                arrival_micros.last().map_or(0, |last| last + 1)
            }
        }
    }

    /// How many arrivals it holds.
    pub fn arrivals(&self) -> u128 {
        match &self.kind {
            TraceKind::Rate { counts, .. } => counts.iter().copied().map(u128::from).sum(),
            TraceKind::Jobs { arrival_micros, .. } => arrival_micros.len() as u128,
        }
    }
}

impl Classes {
    /// Classes from their names and, for every job, a place among them.
    ///
    /// # Errors
    /// A sentence, if a number is no place in `names`.
    pub fn new(names: Vec<String>, numbers: Vec<u32>) -> Result<Self, String> {
        match numbers
            .iter()
            .find(|number| **number as usize >= names.len())
        {
            Some(number) => Err(format!("there is no class number {number}")),
            None => Ok(Self { names, numbers }),
        }
    }

    /// The number of every job's class; empty if the trace has no classes.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The different classes, in the order in which they first appear.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The class of a job as a place in [`Classes::names`]; `None` if the trace
    /// has no classes or no such job.
    pub fn number_of(&self, job: usize) -> Option<u32> {
        self.numbers.get(job).copied()
    }
}

/// Gives every class name a number.
struct Interner {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
    // The number last given for a name with this hash, to spare most searches.
    recent: Vec<u32>,
}

/// Enough places that a few thousand classes seldom share one.
const RECENT_CLASSES: usize = 4_096;

/// More classes than this are no classes, but a column with something else.
const CLASSES_MAX: usize = 1_000_000;

/// A longer class name is no name.
const CLASS_BYTES_MAX: usize = 256;

impl Interner {
    fn new() -> Self {
        Self {
            numbers: BTreeMap::new(),
            names: Vec::new(),
            recent: vec![0; RECENT_CLASSES],
        }
    }

    fn intern(&mut self, class: &[u8]) -> Result<u32, String> {
        let hash = class.iter().fold(0, |hash: usize, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        let place = hash % RECENT_CLASSES;
        let recent = self.recent[place];
        if self
            .names
            .get(recent as usize)
            .is_some_and(|name| name.as_bytes() == class)
        {
            return Ok(recent);
        }
        let number = self.search(class)?;
        self.recent[place] = number;
        Ok(number)
    }

    fn search(&mut self, class: &[u8]) -> Result<u32, String> {
        let name = str::from_utf8(class)
            .map_err(|_| format!("the class {} is not UTF-8", shown(class)))?;
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if name.len() > CLASS_BYTES_MAX {
            return Err(format!("the class is longer than {CLASS_BYTES_MAX} bytes"));
        }
        if self.names.len() >= CLASSES_MAX {
            return Err(format!("there are more than {CLASSES_MAX} classes"));
        }
        let number = u32::try_from(self.names.len()).map_err(|_| "too many classes")?;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }
}

/// A time field in microseconds, or what is wrong with it.
fn parse_time(key: &str, field: &[u8]) -> Result<u64, String> {
    match decimal::parse_millionths(field) {
        Ok(micros) if micros <= TIME_MICROS_MAX => Ok(micros),
        Ok(_) => Err(format!(
            "{key} {} is too large (at most {})",
            shown(field),
            seconds(TIME_MICROS_MAX)
        )),
        Err(error) => Err(format!("{key} {} {error}", shown(field))),
    }
}

/// What is wrong with JSON, without the place, which is told otherwise.
fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A field as it can stand in a message: quoted, short, without control characters.
fn shown(field: &[u8]) -> String {
    const CHARS_MAX: usize = 40;
    let text = String::from_utf8_lossy(field.trim_ascii());
    let short: String = text
        .chars()
        .take(CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    let more = if text.chars().nth(CHARS_MAX).is_some() {
        "..."
    } else {
        ""
    };
    format!("`{short}{more}`")
}

/// Microseconds as seconds for people: `12.5 s`.
pub(crate) fn seconds(micros: u64) -> String {
    let fraction = format!("{:06}", micros % 1_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction} s", micros / 1_000_000)
}

#[cfg(test)]
mod tests;
