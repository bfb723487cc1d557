//! Jobs block by block, for traces that are longer than memory.

use std::path::Path;

use super::csv::{self, Announced, JobRows};
use super::json_lines;
use super::lines::Lines;
use super::swf;
use super::{
    ReadOptions, Skipped, Trace, TraceError, TraceFormat, TraceKind, cache, format_of, open,
    read_with,
};

/// How many jobs a block has: two columns of it fit into the second cache.
pub(super) const BLOCK_JOBS: usize = 16_384;

/// A piece of a job trace. All columns have the same length, except that
/// `class_numbers` is empty if the trace has no classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobBlock {
    /// Arrivals in microseconds, in ascending order, across blocks too.
    pub arrival_micros: Vec<u64>,
    /// Service times in microseconds.
    pub service_micros: Vec<u64>,
    /// Places in [`JobStream::class_names`].
    pub class_numbers: Vec<u32>,
}

impl JobBlock {
    /// An empty one with the memory that a whole one takes.
    pub fn with_room() -> Self {
        Self {
            arrival_micros: Vec::with_capacity(BLOCK_JOBS),
            service_micros: Vec::with_capacity(BLOCK_JOBS),
            class_numbers: Vec::new(),
        }
    }

    /// An empty one in the memory of these columns.
    pub(crate) fn with_room_of((arrival_micros, service_micros): (Vec<u64>, Vec<u64>)) -> Self {
        let mut block = Self {
            arrival_micros,
            service_micros,
            class_numbers: Vec::new(),
        };
        block.clear();
        block
    }

    /// Whether it has as many as a whole one.
    pub fn is_full(&self) -> bool {
        self.len() >= BLOCK_JOBS
    }

    /// How many jobs it has.
    pub fn len(&self) -> usize {
        self.arrival_micros.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.arrival_micros.is_empty()
    }

    /// Takes all jobs out and keeps the memory.
    pub fn clear(&mut self) {
        self.arrival_micros.clear();
        self.service_micros.clear();
        self.class_numbers.clear();
    }
}

/// Reads a job trace block by block. Comma-separated values, the cache, JSON
/// lines and the Standard Workload Format take as little memory as a block,
/// however long the trace is; other formats are read at once.
pub struct JobStream<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Csv(Lines<'a>, Box<JobRows>),
    Cache(Lines<'a>, Box<cache::Reader>),
    JsonLines(Lines<'a>, Box<json_lines::Reader>),
    Swf(Lines<'a>, Box<swf::Reader>),
    Whole(Box<Trace>, usize),
}

impl JobStream<'static> {
    /// Opens the job trace in a file, whatever its format; one that need not be
    /// in order is read at once and put in order.
    ///
    /// # Errors
    /// If it cannot be opened, its beginning is wrong, or it is a trace of
    /// rates, which has no jobs.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        if let Some(stream) = Self::open_flowing(path, options)?
            && !stream.may_be_unsorted()
        {
            return Ok(stream);
        }
        let trace = read_with(path, options)?;
        if matches!(trace.kind(), TraceKind::Rate { .. }) {
            return Err(no_jobs(&path.display().to_string()));
        }
        Ok(Self {
            source: Source::Whole(Box::new(trace), 0),
        })
    }

    /// Opens the job trace in a file if it is one that can be read in the memory
    /// of a block: `None` for rates, for other formats, and for what can be read
    /// only once.
    ///
    /// # Errors
    /// If it cannot be opened, or its beginning is wrong.
    pub fn open_flowing(path: &Path, options: &ReadOptions) -> Result<Option<Self>, TraceError> {
        let name = path.display().to_string();
        let file = open(path)?;
        if !file.metadata().is_ok_and(|about| about.is_file()) {
            return Ok(None);
        }
        let mut lines = Lines::owned(&name, file, options.skip_bad)?;
        let source = match format_of(&name, &mut lines, options)? {
            TraceFormat::Csv => match csv::read_header(&mut lines)? {
                Announced::Jobs(columns) => {
                    lines.allow_any_number();
                    Source::Csv(lines, Box::new(JobRows::new(columns)))
                }
                Announced::Rates => return Ok(None),
            },
            TraceFormat::Cache => {
                let reader = cache::Reader::new(&mut lines)?;
                if !reader.has_jobs() {
                    return Ok(None);
                }
                Source::Cache(lines, Box::new(reader))
            }
            TraceFormat::JsonLines => {
                lines.allow_any_number();
                let mut reader = json_lines::Reader::new();
                if !reader.begins_with_job(&mut lines)? {
                    return Ok(None);
                }
                Source::JsonLines(lines, Box::new(reader))
            }
            TraceFormat::Swf => {
                lines.allow_any_number();
                Source::Swf(lines, Box::new(swf::Reader::new()))
            }
            TraceFormat::Json | TraceFormat::Parquet | TraceFormat::AccessLog => {
                return Ok(None);
            }
        };
        Ok(Some(Self { source }))
    }
}

impl JobStream<'_> {
    /// Whether jobs may come in another order than that of their arrivals.
    pub const fn may_be_unsorted(&self) -> bool {
        matches!(self.source, Source::Swf(..))
    }

    /// Puts the next jobs into `block`, in the place of what it holds; false,
    /// and an empty block, at the end.
    ///
    /// # Errors
    /// The next thing that is wrong with the trace. After an error nothing more
    /// should be read.
    pub fn next_block(&mut self, block: &mut JobBlock) -> Result<bool, TraceError> {
        block.clear();
        match &mut self.source {
            Source::Csv(lines, rows) => rows.read_into(lines, block, BLOCK_JOBS)?,
            Source::Cache(lines, reader) => {
                reader.next_block(lines, block)?;
            }
            Source::JsonLines(lines, reader) => reader.read_into(lines, block, BLOCK_JOBS)?,
            Source::Swf(lines, reader) => reader.read_into(lines, block, BLOCK_JOBS)?,
            Source::Whole(trace, from) => {
                if let TraceKind::Jobs {
                    arrival_micros,
                    service_micros,
                    classes,
                } = trace.kind()
                {
                    let to = arrival_micros.len().min(*from + BLOCK_JOBS);
                    block.arrival_micros.extend(&arrival_micros[*from..to]);
                    block.service_micros.extend(&service_micros[*from..to]);
                    if !classes.numbers().is_empty() {
                        block.class_numbers.extend(&classes.numbers()[*from..to]);
                    }
                    *from = to;
                }
            }
        }
        Ok(!block.is_empty())
    }

    /// The classes of all jobs given out so far.
    pub fn class_names(&self) -> &[String] {
        match &self.source {
            Source::Csv(_, rows) => rows.class_names(),
            Source::Cache(_, reader) => reader.class_names(),
            Source::JsonLines(_, reader) => reader.class_names(),
            Source::Swf(_, reader) => reader.class_names(),
            Source::Whole(trace, _) => match trace.kind() {
                TraceKind::Jobs { classes, .. } => classes.names(),
                TraceKind::Rate { .. } => &[],
            },
        }
    }

    /// What was wrong so far and passed over.
    pub fn skipped(&self) -> Skipped {
        match &self.source {
            Source::Csv(lines, _)
            | Source::Cache(lines, _)
            | Source::JsonLines(lines, _)
            | Source::Swf(lines, _) => lines.skipped().clone(),
            Source::Whole(trace, _) => trace.skipped().clone(),
        }
    }
}

fn no_jobs(name: &str) -> TraceError {
    TraceError::Malformed {
        name: name.to_owned(),
        line: 1,
        reason: "jobs are needed, and this is a trace of arrivals per step".into(),
    }
}
