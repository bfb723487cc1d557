//! Jobs block by block, for traces that are longer than memory.

use std::path::Path;

use super::csv::{self, Announced, JobRows};
use super::lines::Lines;
use super::{
    ReadOptions, Skipped, Trace, TraceError, TraceFormat, TraceKind, cache, format_of, open,
    parquet, read_lines,
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

/// Reads a job trace block by block. Comma-separated values and the cache take
/// as little memory as a block, however long the trace is; other formats must
/// be sorted, and are read at once.
pub struct JobStream<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Csv(Lines<'a>, Box<JobRows>),
    Cache(Lines<'a>, Box<cache::Reader>),
    Whole(Box<Trace>, usize),
}

impl JobStream<'static> {
    /// Opens the job trace in a file.
    ///
    /// # Errors
    /// If it cannot be opened, its beginning is wrong, or it is a trace of
    /// rates, which has no jobs.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let mut file = open(path)?;
        if parquet::is_file(&mut file, options) {
            return Self::whole(&name, parquet::read_file(&name, file, options)?);
        }
        let mut lines = Lines::owned(&name, file, options.skip_bad)?;
        let source = match format_of(&name, &mut lines, options)? {
            TraceFormat::Csv => match csv::read_header(&mut lines)? {
                Announced::Jobs(columns) => {
                    lines.allow_any_number();
                    Source::Csv(lines, Box::new(JobRows::new(columns)))
                }
                Announced::Rates => return Err(no_jobs(&name)),
            },
            TraceFormat::Cache => {
                let reader = cache::Reader::new(&mut lines)?;
                if !reader.has_jobs() {
                    return Err(no_jobs(&name));
                }
                Source::Cache(lines, Box::new(reader))
            }
            format @ (TraceFormat::Swf
            | TraceFormat::JsonLines
            | TraceFormat::Json
            | TraceFormat::Parquet
            | TraceFormat::AccessLog) => {
                return Self::whole(&name, read_lines(&name, lines, format, options)?);
            }
        };
        Ok(Self { source })
    }

    fn whole(name: &str, trace: Trace) -> Result<Self, TraceError> {
        if matches!(trace.kind(), TraceKind::Rate { .. }) {
            return Err(no_jobs(name));
        }
        let source = Source::Whole(Box::new(trace), 0);
        Ok(Self { source })
    }
}

impl JobStream<'_> {
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
            Source::Whole(trace, _) => match trace.kind() {
                TraceKind::Jobs { classes, .. } => classes.names(),
                TraceKind::Rate { .. } => &[],
            },
        }
    }

    /// What was wrong so far and passed over.
    pub fn skipped(&self) -> Skipped {
        match &self.source {
            Source::Csv(lines, _) | Source::Cache(lines, _) => lines.skipped().clone(),
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
