//! `windlass merge`: joins what the shards of a comparison left.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use windlass_policies::units::micros_of;

use super::Failure;
use super::compare::{ResultFormat, parse_span, show};
use super::simulate::make_folder;
use crate::comparison::files::{self, JoinError, Note, ReadError};
use crate::exit::Exit;

/// Join the shards of a comparison
#[derive(Debug, Args)]
#[command(
    long_about = "Joins what the shards of `windlass compare` left, and writes what one process would \
        have written, byte for byte. It says so if a shard is missing, is there twice, or is of another \
        comparison.",
    after_long_help = "Examples:\n  \
        windlass merge parts\n  \
        windlass merge parts --format json > results.json\n  \
        windlass merge shard-*-of-8.parquet --out results\n  \
        windlass merge results/results.parquet --at-p95 30s"
)]
pub(super) struct Merge {
    /// Parquet files of shards, or folders with shard-I-of-N.parquet
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// The wait that 95 % of the jobs are not to exceed, to compare costs at [default: as compared]
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    at_p95: Option<Duration>,

    /// How the results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ResultFormat::Table)]
    format: ResultFormat,

    /// Also write results into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Merge {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut files = Vec::new();
        for path in &self.paths {
            if path.is_dir() {
                files.extend(shards_in(path)?);
            } else {
                files.push(path.clone());
            }
        }
        let parts = files.iter().map(|path| files::read(path));
        let parts: Vec<files::Part> = parts.collect::<Result<_, _>>()?;
        let (joined, records) = files::join(parts)?;
        let note = Note {
            at_p95_micros: self.at_p95.map(micros_of).or(joined.at_p95_micros),
            ..joined
        };
        if let Some(folder) = &self.out {
            make_folder(folder)?;
        }
        show(out, &note, &records, self.format, self.out.as_deref())?;
        Ok(Exit::Done)
    }
}

/// The files of shards in `folder`, sorted.
fn shards_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::unreadable(folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = path.extension().is_some_and(|ending| ending == "parquet");
        if name.starts_with("shard-") && ending {
            found.push(path);
        }
    }
    if found.is_empty() {
        let what = format!(
            "there is no shard-I-of-N.parquet in {}; `windlass compare --shard I/N --out {}` leaves them \
             there",
            folder.display(),
            folder.display()
        );
        return Err(Failure::new(Exit::NoInput, what));
    }
    found.sort();
    Ok(found)
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unread { path, source } => Self::unreadable(&path, source),
            ReadError::Wrong { path, source } => Self::because(
                Exit::NoInput,
                format!(
                    "{} is no whole Parquet file of `windlass compare`; run that shard again",
                    path.display()
                ),
                source,
            ),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self::new(Exit::Usage, error.to_string())
    }
}
