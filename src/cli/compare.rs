//! `windlass compare`: policies beside one another on several loads.

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use windlass_policies::fields::parse_duration;
use windlass_policies::knobs::Tunable;
use windlass_policies::presets;
use windlass_policies::units::micros_of;
use windlass_simulator::comparison::{self, Record, millionths, table};
use windlass_simulator::scenario::{BUILT_IN, Scenario, TraceFile};
use windlass_simulator::score::table::is_empty;

use super::Failure;
use super::simulate::{make_folder, named_text, unwritable, write_columns};
use crate::comparison::files::{self, Note};
use crate::comparison::shard::{self, Shard};
use crate::comparison::state::{State, StateError};
use crate::comparison::{
    self as work, BOUND_POINTS_MAX, Candidate, ComparisonError, Options, Plan,
};
use crate::exit::Exit;

/// Where finished runs are kept, below the user's folder for caches.
const STATE_FOLDER: &str = "windlass/compare";

/// The share of a load that knobs are searched on, in percent.
const TUNING_PERCENT: u8 = 40;

/// Compare policies on several loads, tuned and along their frontiers
#[derive(Debug, Args)]
#[command(
    long_about = "Compares policies on several loads: what instances and waiting cost, how long jobs \
        wait, how far each is from the least that is possible, and what it costs at the same wait.\n\n\
        With --tune-peers the knobs of every policy are searched on the first part of each load, and \
        what is scored is the rest, so that nobody wins or loses by how its file was written. Every \
        policy is also tried along its main knob, which gives its frontier of cost against wait. \
        Without --policy the built-in presets are compared.\n\n\
        All cores are used. Finished runs are kept, so that a comparison that was interrupted goes on \
        where it was. The same inputs give the same bytes, on any number of cores and machines.",
    after_long_help = "Examples:\n  \
        windlass compare --scenario builtin:web-week\n  \
        windlass compare --scenario builtin:web-week builtin:ci-bursts --tune-peers\n  \
        windlass compare --scenario web.toml --policy mine.toml builtin:step --at-p95 30s\n  \
        windlass compare --scenario web.toml --trace may.csv june.csv --seed 1 2 3 --out results\n  \
        windlass compare --scenario web.toml --format html > compared.html\n  \
        windlass compare --scenario web.toml --tune-peers --out parts --shard 0/8\n\n\
        With --out, DIR gets results.json, report.html and results.parquet. A shard leaves \
        shard-I-of-N.parquet there; `windlass merge` joins the shards.\n\n\
        Environment:\n  \
          AWS_BATCH_JOB_ARRAY_INDEX and AWS_BATCH_JOB_ARRAY_SIZE,\n  \
          JOB_COMPLETION_INDEX and JOB_COMPLETIONS, or\n  \
          SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT\n                    \
            which shard this is, if --shard does not say it\n  \
          RAYON_NUM_THREADS how many cores are used\n  \
          XDG_CACHE_HOME    where finished runs are kept, in windlass/compare"
)]
pub(super) struct Compare {
    /// Worlds: files, or builtin:web-week, builtin:call-centre, builtin:ci-bursts, builtin:supercomputer
    #[arg(long = "scenario", value_name = "FILE", num_args = 1.., required = true)]
    scenarios: Vec<String>,

    /// Policies: files, or builtin:PRESET [default: all presets]
    #[arg(long = "policy", value_name = "FILE", num_args = 1..)]
    policies: Vec<String>,

    /// Loads to use instead of the scenarios' own, each in every scenario
    #[arg(long = "trace", value_name = "FILE", num_args = 1..)]
    traces: Vec<PathBuf>,

    /// What random numbers grow from, each for every load [default: the scenarios']
    #[arg(long = "seed", value_name = "N", num_args = 1.., value_parser = clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs()))]
    seeds: Vec<u64>,

    /// Search each policy's knobs on the first part of each load, and score the rest
    #[arg(long)]
    tune_peers: bool,

    /// How much of a load that part is
    #[arg(long, value_name = "PERCENT", default_value_t = TUNING_PERCENT, requires = "tune_peers", value_parser = clap::value_parser!(u8).range(1..=90))]
    tuning_share: u8,

    /// At how many places of its main knob each policy is tried; 0 for none
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(0..=64))]
    frontier_points: u32,

    /// At how many prices of waiting the bound is worked out; 0 for no bound
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=i64::from(BOUND_POINTS_MAX)))]
    bound_points: u32,

    /// The wait that 95 % of the jobs are not to exceed, to compare costs at [default: that of the
    /// policy with the lowest total]
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    at_p95: Option<Duration>,

    /// How the results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ResultFormat::Table)]
    format: ResultFormat,

    /// Also write results into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Do only part I of N, counted from 0, and leave it in the folder of --out
    #[arg(long, value_name = "I/N", conflicts_with = "format")]
    shard: Option<Shard>,

    /// Where finished runs are kept [default: windlass/compare in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Do everything anew, and keep nothing
    #[arg(long, conflicts_with = "state")]
    fresh: bool,
}

/// How comparisons are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ResultFormat {
    /// Tables for people, one for each load.
    Table,
    /// An array with one object per policy and load.
    Json,
    /// A page with pictures of cost against wait.
    Html,
}

pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

impl Compare {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let (shard, says) = self.shard()?;
        let plan = self.plan()?;
        let parted = self.shard.is_some() || says.is_some();
        let folder = match &self.out {
            None if parted => {
                let what = "a shard leaves its results in a folder: give one with --out, the same for all \
                    shards or one that you gather them from";
                return Err(Failure::new(Exit::Usage, what));
            }
            folder => folder.as_deref(),
        };
        if let Some(folder) = folder {
            make_folder(folder)?;
        }
        let at_p95 = self.at_p95.map(micros_of);
        let name = plan.fingerprint(&format!("{at_p95:?}")).to_string();
        let note = Note::new(&name, shard, at_p95);
        let records = work::run(&plan, shard, &kept(self.state.as_deref(), self.fresh)?)?;
        match (folder, parted) {
            (Some(folder), true) => {
                let (index, count) = (shard.index(), shard.count());
                let path = folder.join(format!("shard-{index}-of-{count}.parquet"));
                files::write(&path, &note, &records)?;
                let says =
                    says.map_or_else(String::new, |variable| format!(", as {variable} says"));
                writeln!(
                    out,
                    "shard {shard}{says}: {} results in {}; once all {count} are there: windlass merge {}",
                    records.len(),
                    path.display(),
                    folder.display()
                )?;
            }
            (folder, _) => show(out, &note, &records, self.format, folder)?,
        }
        Ok(Exit::Done)
    }

    /// Which part to do, and which variable says so.
    fn shard(&self) -> Result<(Shard, Option<&'static str>), Failure> {
        if let Some(shard) = self.shard {
            return Ok((shard, None));
        }
        let found = shard::from_environment(|name| env::var(name).ok());
        let found = found.map_err(|what| Failure::new(Exit::Usage, what))?;
        Ok(found.map_or((Shard::WHOLE, None), |(shard, says)| (shard, Some(says))))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let scenarios = loads(&self.scenarios, &self.traces, &self.seeds)?;
        let options = Options {
            tuning_percent: self.tune_peers.then_some(self.tuning_share),
            frontier_points: self.frontier_points,
            bound_points: self.bound_points,
        };
        let candidates = candidates(&self.policies)?;
        let plan = Plan::new(scenarios, candidates, options)?;
        plan.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    }
}

/// Each of `scenarios` with each of `traces` and of `seeds`; with its own where
/// none is given.
pub(super) fn loads(
    scenarios: &[String],
    traces: &[PathBuf],
    seeds: &[u64],
) -> Result<Vec<Scenario>, Failure> {
    let mut loads = Vec::new();
    for name in scenarios {
        let scenario = Scenario::open(name)?;
        let own = || vec![scenario.trace.clone()];
        let given = traces.iter().cloned().map(TraceFile::Path);
        let traces = if traces.is_empty() {
            own()
        } else {
            given.collect()
        };
        let seeds = if seeds.is_empty() {
            vec![scenario.seed]
        } else {
            seeds.to_vec()
        };
        for trace in traces {
            for seed in &seeds {
                loads.push(Scenario {
                    trace: trace.clone(),
                    seed: *seed,
                    ..scenario.clone()
                });
            }
        }
    }
    Ok(loads)
}

/// The policies in `files`; all presets if there are none.
pub(super) fn candidates(files: &[String]) -> Result<Vec<Candidate>, Failure> {
    if files.is_empty() {
        let names = presets::all().into_iter();
        let presets: Vec<String> = names.map(|(name, _)| format!("{BUILT_IN}{name}")).collect();
        return presets.iter().map(|file| candidate(file)).collect();
    }
    files.iter().map(|file| candidate(file)).collect()
}

fn candidate(file: &str) -> Result<Candidate, Failure> {
    let (name, text) = named_text(file)?;
    let policy = Tunable::read(&text);
    let policy = policy.map_err(|problems| Failure::new(Exit::Usage, problems.in_file(file)))?;
    Ok(Candidate { name, policy })
}

/// The runs that are finished: those in `folder`, or in the user's cache; none
/// if it is to be `fresh`.
pub(super) fn kept(folder: Option<&Path>, fresh: bool) -> Result<State, Failure> {
    if fresh {
        return Ok(State::forgetful());
    }
    if let Some(folder) = folder {
        return Ok(State::open(folder)?);
    }
    let Some(folder) = cache_folder() else {
        return Ok(State::forgetful());
    };
    // Nobody asked for it by name, so it goes without.
    State::open(&folder).or_else(|error| {
        let told = crate::chain(&error).to_string();
        writeln!(io::stderr().lock(), "windlass: {told}; goes on without")?;
        Ok(State::forgetful())
    })
}

/// `$XDG_CACHE_HOME/windlass/compare`, by default below `~/.cache`.
fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
    Some(cache.or_else(home)?.join(STATE_FOLDER))
}

/// Writes what a whole comparison comes to, and leaves it in `folder` too.
pub(super) fn show(
    out: &mut dyn Write,
    note: &Note,
    records: &[Record],
    format: ResultFormat,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let sheets = comparison::sheets(records, note.at_p95_micros.map(millionths));
    let json = comparison::to_json(&sheets);
    let html = comparison::html(&sheets);
    if let Some(folder) = folder {
        for (name, text) in [("results.json", &json), ("report.html", &html)] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| unwritable(&path, error))?;
        }
        files::write(&folder.join("results.parquet"), note, records)?;
    }
    match format {
        ResultFormat::Json => out.write_all(json.as_bytes())?,
        ResultFormat::Html => {
            if io::stdout().is_terminal() {
                writeln!(
                    io::stderr().lock(),
                    "windlass: a page for a browser; redirect it into a file"
                )?;
            }
            out.write_all(html.as_bytes())?;
        }
        ResultFormat::Table => {
            for (place, sheet) in sheets.iter().enumerate() {
                if place > 0 {
                    writeln!(out)?;
                }
                writeln!(out, "{}\n", table::head(sheet))?;
                write_columns(out, &table::totals(sheet))?;
                writeln!(out)?;
                for note in table::notes(sheet) {
                    writeln!(out, "{note}")?;
                }
                let knobs = table::knobs(sheet);
                if !is_empty(&knobs) {
                    writeln!(out)?;
                    write_columns(out, &knobs)?;
                }
            }
            let overall = table::overall(&sheets);
            if !is_empty(&overall) {
                writeln!(out, "\nAll {} loads\n", sheets.len())?;
                write_columns(out, &overall)?;
            }
        }
    }
    Ok(())
}

impl From<ComparisonError> for Failure {
    fn from(error: ComparisonError) -> Self {
        match error {
            ComparisonError::Scenario(error) => error.into(),
            ComparisonError::State(error) => error.into(),
            ComparisonError::Unread { path, source } => Self::unreadable(&path, source),
            short @ (ComparisonError::TooShort { .. }
            | ComparisonError::TooShortForFolds { .. }
            | ComparisonError::NoJobsInFold { .. }) => Self::new(Exit::Usage, short.to_string()),
            ComparisonError::Store(error) => {
                Self::because(Exit::Internal, "cannot simulate", error)
            }
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let what = format!(
            "cannot keep finished runs in {}; name another folder with --state, or keep none with --fresh",
            error.path.display()
        );
        Self::because(Exit::Unavailable, what, error.source)
    }
}
