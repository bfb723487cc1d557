//! Records as Parquet: what a shard leaves, and what is joined.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde::{Deserialize, Serialize};
use windlass_simulator::comparison::{Figures, Limits, Record, Stage, What};
use windlass_simulator::score::Quantiles;

use super::shard::Shard;
use crate::simulation::SimulationError;
use crate::simulation::rows::{Cell, Kind, Rows, or_absent};

/// What files say of themselves stands under this name in their metadata.
const NOTE: &str = "windlass.comparison";

const COLUMNS: [(&str, Kind); 27] = [
    ("unit", Kind::Count),
    ("what", Kind::Text),
    ("policy", Kind::Text),
    ("trace", Kind::Text),
    ("scenario", Kind::Text),
    ("seed", Kind::Count),
    ("tuned", Kind::Flag),
    ("knobs", Kind::Text),
    ("usd_per_job_hour_waiting", Kind::Real),
    ("scored_from_secs", Kind::Real),
    ("scored_secs", Kind::Real),
    ("jobs", Kind::Count),
    ("unfinished_jobs", Kind::Count),
    ("instance_usd", Kind::Real),
    ("delay_usd", Kind::Real),
    ("total_usd", Kind::Real),
    ("wait_mean_secs", Kind::Real),
    ("wait_p50_secs", Kind::Real),
    ("wait_p95_secs", Kind::Real),
    ("wait_p99_secs", Kind::Real),
    ("wait_max_secs", Kind::Real),
    ("launches", Kind::Count),
    ("terminations", Kind::Count),
    ("bound_usd", Kind::Real),
    ("achieved_instance_usd", Kind::Real),
    ("achieved_delay_usd", Kind::Real),
    ("windlass", Kind::Text),
];

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The comparison it is of.
    pub comparison: String,
    /// Which part, from 0.
    pub shard: u64,
    /// Of how many.
    pub shards: u64,
    /// The wait that costs are compared at, if it was given.
    pub at_p95_micros: Option<u64>,
}

impl Note {
    /// Of one part of the comparison called `comparison`.
    pub fn new(comparison: &str, shard: Shard, at_p95_micros: Option<u64>) -> Self {
        Self {
            comparison: comparison.to_owned(),
            shard: shard.index(),
            shards: shard.count(),
            at_p95_micros,
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says of itself.
    pub note: Note,
    /// In the order of their units.
    pub records: Vec<Record>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened.
    #[error("cannot read {}", path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no such file.
    #[error(
        "{} is no whole Parquet file of `windlass compare`; run that shard again",
        path.display()
    )]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ParquetError,
    },
}

/// Writes `records` to `path`: under another name first, so that a file of that
/// name is always a whole one.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, note: &Note, records: &[Record]) -> Result<(), SimulationError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let told = serde_json::to_string(note).expect("a note is plain data");
    let mut rows = Rows::create_noted(&unfinished, &COLUMNS, (NOTE, told))?;
    for record in records {
        write_record(&mut rows, record);
    }
    rows.finish()?;
    let failed = |source| SimulationError::Write {
        path: path.to_owned(),
        source,
    };
    let file = File::open(&unfinished).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}

fn write_record(rows: &mut Rows, record: &Record) {
    let figures = record.figures;
    let real = |value: fn(&Figures) -> f64| or_absent(figures.as_ref().map(value), Cell::Real);
    let count = |value: fn(&Figures) -> u64| or_absent(figures.as_ref().map(value), Cell::Count);
    let limits = record.limits;
    let limit = |value: fn(&Limits) -> f64| or_absent(limits.as_ref().map(value), Cell::Real);
    let cells: [Cell<'_>; COLUMNS.len()] = [
        Cell::Count(record.unit),
        Cell::Text(record.what.word()),
        Cell::Text(&record.policy),
        Cell::Text(&record.stage.trace),
        Cell::Text(&record.stage.scenario),
        Cell::Count(record.stage.seed),
        Cell::Flag(record.tuned),
        Cell::Text(&record.knobs),
        Cell::Real(record.usd_per_job_hour_waiting),
        Cell::Real(record.scored_from_secs),
        real(|figures| figures.length_secs),
        count(|figures| figures.jobs),
        count(|figures| figures.unfinished_jobs),
        real(|figures| figures.instance_usd),
        real(|figures| figures.delay_usd),
        real(|figures| figures.total_usd),
        real(|figures| figures.wait_secs.mean),
        real(|figures| figures.wait_secs.p50),
        real(|figures| figures.wait_secs.p95),
        real(|figures| figures.wait_secs.p99),
        real(|figures| figures.wait_secs.max),
        count(|figures| figures.launches),
        count(|figures| figures.terminations),
        limit(|limits| limits.bound_usd),
        limit(|limits| limits.achieved_instance_usd),
        limit(|limits| limits.achieved_delay_usd),
        Cell::Text(env!("CARGO_PKG_VERSION")),
    ];
    rows.write(&cells);
}

/// Reads what [`write()`] has written.
///
/// # Errors
/// If it cannot be read, or is something else.
pub fn read(path: &Path) -> Result<Part, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Unread {
        path: path.to_owned(),
        source,
    })?;
    let part = read_part(path, file);
    part.map_err(|source| ReadError::Wrong {
        path: path.to_owned(),
        source,
    })
}

fn read_part(path: &Path, file: File) -> Result<Part, ParquetError> {
    let wrong = |what: &str| ParquetError::General(what.to_owned());
    let reader = SerializedFileReader::new(file)?;
    let metadata = reader.metadata().file_metadata();
    let mut notes = metadata.key_value_metadata().into_iter().flatten();
    let note = notes.find(|note| note.key == NOTE);
    let note = note.and_then(|note| note.value.as_deref());
    let note = note.ok_or_else(|| wrong("it says of no comparison that it is part of it"))?;
    let note: Note = serde_json::from_str(note).map_err(|error| wrong(&error.to_string()))?;
    let mut records = Vec::new();
    for row in reader.get_row_iter(None)? {
        let record = read_record(&row?);
        records.push(record.ok_or_else(|| wrong("a row lacks what every row has"))?);
    }
    Ok(Part {
        path: path.to_owned(),
        note,
        records,
    })
}

fn read_record(row: &Row) -> Option<Record> {
    let cell = |name: &str| {
        let mut cells = row.get_column_iter();
        cells
            .find(|(known, _)| *known == name)
            .map(|(_, cell)| cell)
    };
    let real = |name: &str| match cell(name)? {
        Field::Double(number) => Some(*number),
        _ => None,
    };
    let count = |name: &str| match cell(name)? {
        Field::Long(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let text = |name: &str| match cell(name)? {
        Field::Str(text) => Some(text.clone()),
        _ => None,
    };
    let flag = |name: &str| match cell(name)? {
        Field::Bool(flag) => Some(*flag),
        _ => None,
    };
    let figures = || {
        Some(Figures {
            length_secs: real("scored_secs")?,
            jobs: count("jobs")?,
            unfinished_jobs: count("unfinished_jobs")?,
            instance_usd: real("instance_usd")?,
            delay_usd: real("delay_usd")?,
            total_usd: real("total_usd")?,
            wait_secs: Quantiles {
                mean: real("wait_mean_secs")?,
                p50: real("wait_p50_secs")?,
                p95: real("wait_p95_secs")?,
                p99: real("wait_p99_secs")?,
                max: real("wait_max_secs")?,
            },
            launches: count("launches")?,
            terminations: count("terminations")?,
        })
    };
    let limits = || {
        Some(Limits {
            bound_usd: real("bound_usd")?,
            achieved_instance_usd: real("achieved_instance_usd")?,
            achieved_delay_usd: real("achieved_delay_usd")?,
        })
    };
    let word = text("what")?;
    let what = What::WORDS.iter().find(|(known, _)| *known == word)?.1;
    Some(Record {
        unit: count("unit")?,
        what,
        stage: Stage {
            scenario: text("scenario")?,
            trace: text("trace")?,
            seed: count("seed")?,
        },
        policy: text("policy")?,
        tuned: flag("tuned")?,
        knobs: text("knobs")?,
        usd_per_job_hour_waiting: real("usd_per_job_hour_waiting")?,
        scored_from_secs: real("scored_from_secs")?,
        figures: figures(),
        limits: limits(),
    })
}

/// Why parts do not make a whole; the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// There is nothing to join.
    #[error("there are no results; name the files of all shards, or the folder they are in")]
    Nothing,
    /// They are parts of different things.
    #[error(
        "{} and {} are not of one comparison: they were made with other arguments, other files or \
         another version of windlass; run all shards alike",
        one.display(), other.display()
    )]
    Strangers {
        /// The first one.
        one: PathBuf,
        /// One that does not fit.
        other: PathBuf,
    },
    /// One part twice.
    #[error(
        "shard {shard} is there twice: {} and {}; leave one of them out",
        one.display(), other.display()
    )]
    Twice {
        /// Which.
        shard: u64,
        /// In one file.
        one: PathBuf,
        /// And in another.
        other: PathBuf,
    },
    /// Parts that are not there.
    #[error(
        "of {shards} shards there are none of {}; run them, with --shard {first}/{shards} and so \
         on, and merge again",
        numbers(missing)
    )]
    Missing {
        /// How many there should be.
        shards: u64,
        /// The first that is missing.
        first: u64,
        /// All that are missing.
        missing: Vec<u64>,
    },
}

/// The first few.
fn numbers(missing: &[u64]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = missing.iter().take(SHOWN).map(u64::to_string).collect();
    let more = missing.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}

/// All records of the comparison that `parts` are of, in the order of their
/// units, and what the whole says of itself.
///
/// # Errors
/// If the parts do not make a whole.
pub fn join(mut parts: Vec<Part>) -> Result<(Note, Vec<Record>), JoinError> {
    parts.sort_by(|one, other| (one.note.shard, &one.path).cmp(&(other.note.shard, &other.path)));
    let first = parts.first().ok_or(JoinError::Nothing)?;
    let whole = Note {
        shard: 0,
        shards: 1,
        ..first.note.clone()
    };
    let shards = first.note.shards;
    for other in &parts {
        let alike = Note {
            shard: first.note.shard,
            ..other.note.clone()
        };
        if alike != first.note {
            return Err(JoinError::Strangers {
                one: first.path.clone(),
                other: other.path.clone(),
            });
        }
    }
    for pair in parts.windows(2) {
        if pair[0].note.shard == pair[1].note.shard {
            return Err(JoinError::Twice {
                shard: pair[0].note.shard,
                one: pair[0].path.clone(),
                other: pair[1].path.clone(),
            });
        }
    }
    let there = |shard: &u64| parts.iter().any(|part| part.note.shard == *shard);
    let missing: Vec<u64> = (0..shards).filter(|shard| !there(shard)).collect();
    if let Some(first) = missing.first() {
        return Err(JoinError::Missing {
            shards,
            first: *first,
            missing,
        });
    }
    let mut records: Vec<Record> = parts.into_iter().flat_map(|part| part.records).collect();
    records.sort_by_key(|record| record.unit);
    Ok((whole, records))
}
