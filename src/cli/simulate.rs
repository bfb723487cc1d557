//! `windlass simulate`: tries policies on a recorded load.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use windlass_policies::policy_file::{self, PolicyFile};
use windlass_policies::presets;
use windlass_policies::units::Timestamp;
use windlass_simulator::report;
use windlass_simulator::scenario::{BUILT_IN, Scenario, ScenarioError, TraceFile};
use windlass_simulator::score::Score;
use windlass_simulator::score::table::{self, Column};
use windlass_simulator::trace::TraceKind;
use windlass_simulator::workload::Workload;
use windlass_simulator::workload::flow::{Choice, HELD_JOBS_MAX};

use super::Failure;
use super::trace::{STANDARD_INPUT, read_trace, tell_skipped};
use crate::exit::Exit;
use crate::simulation::{self, Candidate, FileFormat, Finished, Out, Simulation, SimulationError};

/// Try policies on a recorded load in a simulated cloud
#[derive(Debug, Args)]
#[command(
    long_about = "Tries policies on a recorded load in a simulated cloud.\n\n\
        A scenario holds everything about the world: the load, how long instances boot, what they \
        cost, how late metrics are, and what waiting is worth. The same code decides as in \
        `windlass run`. The same inputs and seed give the same result, byte for byte. Without \
        --policy the built-in presets are compared.",
    after_long_help = "Examples:\n  \
        windlass simulate --scenario builtin:web-week\n  \
        windlass simulate --scenario web.toml --policy mine.toml\n  \
        windlass simulate --scenario web.toml --policy a.toml --policy b.toml --seed 7\n  \
        windlass simulate --scenario web.toml --trace july.rate.csv.gz --format json --out results\n  \
        windlass simulate --scenario web.toml --format html > report.html\n  \
        windlass simulate --scenario web.toml --out results --ticks parquet --jobs parquet\n\n\
        A long trace is never in memory as a whole: from 250,000 jobs on it is read piece by piece, \
        quantiles are within 1 in 256 of exact, and elasticity is not told. --exact keeps every job \
        instead, and so do --out and pages.\n\n\
        With --out, DIR gets results.json, report.html with pictures of every run, and, for each \
        policy, NAME.ticks.csv: every decision with what it was made of."
)]
pub(super) struct Simulate {
    /// The world: a file, or builtin:web-week, builtin:call-centre, builtin:ci-bursts, builtin:supercomputer
    #[arg(long, value_name = "FILE")]
    scenario: String,

    /// A policy to try, or builtin:PRESET; may be given several times, one result each
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<String>,

    /// A load to use instead of the scenario's, in any format of `windlass trace`; - is standard input
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Pass over so many malformed lines of each trace, and say so, before one is an error
    /// [default: the scenario's `workload.skip_bad`]
    #[arg(long, value_name = "N")]
    skip_bad: Option<u64>,

    /// What the random numbers grow from [default: the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Keep every wait, so that quantiles are exact however long the trace is: 24 bytes a job and
    /// 8 more for each further policy
    #[arg(long)]
    exact: bool,

    /// How the results are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ResultFormat::Table)]
    format: ResultFormat,

    /// Also write results and each run's course into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// How every tick is written into that folder
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Rows::Csv, requires = "out")]
    ticks: Rows,

    /// Also write every job into that folder: arrival, start, end, instance; takes several times as long
    #[arg(long, value_enum, value_name = "FORMAT", requires = "out")]
    jobs: Option<Rows>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Text.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Rows {
    fn format(self) -> FileFormat {
        match self {
            Self::Csv => FileFormat::Csv,
            Self::Parquet => FileFormat::Parquet,
        }
    }
}

/// How simulation results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResultFormat {
    /// A table for people, one row per policy.
    Table,
    /// An array with one object per policy.
    Json,
    /// A page with pictures of every run.
    Html,
}

impl Simulate {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let mut scenario = Scenario::open(&self.scenario)?;
        let candidates = self.candidates()?;
        if self.reads_standard_input() {
            scenario.trace = TraceFile::Path(PathBuf::from("standard input"));
        } else if let Some(path) = &self.trace {
            scenario.trace = TraceFile::Path(path.clone());
        }
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        if let Some(skip_bad) = self.skip_bad {
            scenario.skip_bad = skip_bad;
        }
        if let Some(folder) = &self.out {
            make_folder(folder)?;
        }
        let finished = self.finished(&mut scenario, &candidates)?;
        let html = report(&scenario, &finished);
        let scores: Vec<Score> = finished.into_iter().map(|one| one.score).collect();
        let json = simulation::to_json(&scores);
        if let Some(folder) = &self.out {
            for (name, text) in [("results.json", &json), ("report.html", &html)] {
                let path = folder.join(name);
                fs::write(&path, text).map_err(|error| unwritable(&path, error))?;
            }
        }
        match self.format {
            ResultFormat::Json => out.write_all(json.as_bytes())?,
            ResultFormat::Html => out.write_all(html.as_bytes())?,
            ResultFormat::Table => write_table(out, &scenario, &scores)?,
        }
        Ok(Exit::Done)
    }

    /// Tries them on the load: piece by piece if it is long, all at once if not.
    fn finished(
        &self,
        scenario: &mut Scenario,
        candidates: &[Candidate],
    ) -> Result<Vec<Finished>, Failure> {
        let pictures = self.out.is_some() || self.format == ResultFormat::Html;
        let choice = if self.exact || pictures {
            Choice::Short
        } else if self.reads_standard_input() {
            Choice::Whole("standard input can be read only once")
        } else {
            scenario.choose_flow()?
        };
        let (workload, why) = match choice {
            Choice::Flow(flow) => {
                if flow.has_services() {
                    leave_service_aside(scenario, &scenario.trace_name())?;
                }
                let (finished, skipped) = simulation::flowing::run(scenario, &flow, candidates)?;
                tell_skipped(&skipped)?;
                return Ok(finished);
            }
            Choice::Cut(flow) => {
                leave_service_aside(scenario, &scenario.trace_name())?;
                let cut = flow.collect();
                let (cut, skipped) = cut.map_err(|error| scenario.flow_error(error))?;
                tell_skipped(&skipped)?;
                (cut, None)
            }
            Choice::Short => (self.whole(scenario)?, None),
            Choice::Whole(why) => (self.whole(scenario)?, Some(why)),
        };
        let jobs = u64::try_from(workload.jobs.len()).unwrap_or(u64::MAX);
        if let Some(why) = why.filter(|_| jobs > HELD_JOBS_MAX) {
            let name = scenario.trace_name();
            let held = format!("windlass: {name} is held in memory, {jobs} jobs: {why}");
            writeln!(io::stderr().lock(), "{held}")?;
        }
        let simulation = Simulation {
            scenario,
            workload: &workload,
            out: self.out.as_deref().map(|folder| Out {
                folder,
                ticks: self.ticks.format(),
                jobs: self.jobs.map(Rows::format),
            }),
            report: pictures,
        };
        Ok(simulation::run(simulation, candidates)?)
    }

    /// The load with all its jobs in memory.
    fn whole(&self, scenario: &mut Scenario) -> Result<Workload, Failure> {
        let trace = if self.reads_standard_input() {
            read_trace(Path::new(STANDARD_INPUT), &scenario.read_options())?
        } else {
            scenario.read_trace()?
        };
        let class_traces = scenario.read_class_traces()?;
        for read in std::iter::once(&trace).chain(class_traces.iter().flatten()) {
            tell_skipped(read.skipped())?;
        }
        if matches!(trace.kind(), TraceKind::Jobs { .. }) {
            leave_service_aside(scenario, trace.name())?;
        }
        Ok(scenario.build_workload_of(&trace, &class_traces)?)
    }

    fn reads_standard_input(&self) -> bool {
        self.trace.as_deref() == Some(Path::new(STANDARD_INPUT))
    }

    /// The policies to try: those named, or all presets.
    fn candidates(&self) -> Result<Vec<Candidate>, Failure> {
        let presets = || {
            presets::all()
                .iter()
                .map(|(name, _)| format!("{BUILT_IN}{name}"))
                .collect()
        };
        let files = if self.policies.is_empty() {
            presets()
        } else {
            self.policies.clone()
        };
        let candidates: Vec<Candidate> = files
            .iter()
            .map(|file| open_candidate(file))
            .collect::<Result<_, _>>()?;
        for (index, candidate) in candidates.iter().enumerate() {
            if candidates[..index]
                .iter()
                .any(|other| other.name == candidate.name)
            {
                let what = format!(
                    "two policies are called `{}`: give their files different names, which are \
                     what tells their results apart",
                    candidate.name
                );
                return Err(Failure::new(Exit::Usage, what));
            }
        }
        Ok(candidates)
    }
}

fn open_candidate(file: &str) -> Result<Candidate, Failure> {
    let (name, text) = named_text(file)?;
    let PolicyFile {
        policies, signals, ..
    } = policy_file::read(&text)
        .map_err(|problems| Failure::new(Exit::Usage, problems.in_file(file)))?;
    Ok(Candidate {
        name,
        policies,
        signals,
    })
}

/// The policy file `file`, or builtin:PRESET: what it is called, and its text.
pub(super) fn named_text(file: &str) -> Result<(String, String), Failure> {
    let path = Path::new(file);
    Ok(if let Some(preset) = file.strip_prefix(BUILT_IN) {
        let text = crate::config::policy_text(file, Path::new(""));
        (
            preset.to_owned(),
            text.map_err(|what| Failure::new(Exit::Usage, what))?,
        )
    } else {
        let text = fs::read_to_string(path).map_err(|error| Failure::unreadable(path, error))?;
        let stem = path.file_stem().unwrap_or_default();
        (stem.to_string_lossy().into_owned(), text)
    })
}

/// The load with all its jobs in memory.
pub(super) fn whole(scenario: &mut Scenario) -> Result<Workload, Failure> {
    let trace = scenario.read_trace()?;
    if matches!(trace.kind(), TraceKind::Jobs { .. }) {
        leave_service_aside(scenario, trace.name())?;
    }
    Ok(scenario.build_workload(&trace)?)
}

/// A trace of jobs says itself how long they take: the scenario's service
/// times are meant for traces of rates, and are left aside.
fn leave_service_aside(scenario: &mut Scenario, trace: &str) -> io::Result<()> {
    if scenario.workload.service.take().is_some() {
        writeln!(
            io::stderr().lock(),
            "windlass: {trace} says how long each job takes, so the scenario's workload.service is \
             not used"
        )?;
    }
    Ok(())
}

/// The page of those runs whose course was kept.
fn report(scenario: &Scenario, finished: &[Finished]) -> String {
    let kept = |one: &Finished| {
        let (score, course) = (one.score.clone(), one.course.clone()?);
        Some(report::Run { score, course })
    };
    let runs: Vec<report::Run> = finished.iter().filter_map(kept).collect();
    let stated = scenario.begins_at > Timestamp::EPOCH;
    let begins_at = stated.then(|| scenario.world_begins_at());
    report::html(&runs, begins_at, &price_of_waiting(scenario))
}

pub(super) fn price_of_waiting(scenario: &Scenario) -> String {
    let price = scenario.objective.usd_per_job_hour_waiting;
    format!("waiting costs ${price} per job and hour")
}

pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    if folder.exists() && !folder.is_dir() {
        let what = format!(
            "--out {} is a file: name a folder, which is made if it is not there",
            folder.display()
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))
}

pub(super) fn unwritable(path: &Path, cause: io::Error) -> Failure {
    Failure::because(
        Exit::Unavailable,
        format!("cannot write {}", path.display()),
        cause,
    )
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        let exit = match &error {
            ScenarioError::Wrong { .. } => return Self::new(Exit::Usage, error.to_string()),
            ScenarioError::Unread { .. } | ScenarioError::Trace { .. } => Exit::NoInput,
            ScenarioError::NoSuch { .. }
            | ScenarioError::Workload { .. }
            | ScenarioError::World { .. } => Exit::Usage,
        };
        Self::because(exit, "cannot simulate", error)
    }
}

impl From<SimulationError> for Failure {
    fn from(error: SimulationError) -> Self {
        match error {
            SimulationError::Scenario(error) => error.into(),
            SimulationError::Write { path, source } => unwritable(&path, source),
            SimulationError::Store(error) => {
                Self::because(Exit::Internal, "cannot simulate", error)
            }
        }
    }
}

/// One row per policy, columns as wide as they need to be.
fn write_table(out: &mut dyn Write, scenario: &Scenario, scores: &[Score]) -> io::Result<()> {
    let Some(first) = scores.first() else {
        return Ok(());
    };
    writeln!(
        out,
        "{}: {} jobs of {} in {:.1} h, seed {}; {}",
        first.scenario,
        first.jobs,
        first.trace,
        first.simulated_secs / 3_600.0,
        first.seed,
        price_of_waiting(scenario)
    )?;
    if first.quantiles_within.is_some() {
        writeln!(
            out,
            "Quantiles are within 1 in 256 of exact; --exact keeps every wait."
        )?;
    }
    writeln!(out)?;
    write_columns(out, &table::totals(scores))?;
    for columns in [table::classes(scores), table::elasticity(scores)] {
        if !table::is_empty(&columns) {
            writeln!(out)?;
            write_columns(out, &columns)?;
        }
    }
    Ok(())
}

/// Columns as wide as they need to be; the first one to the left.
pub(super) fn write_columns(out: &mut dyn Write, columns: &[Column]) -> io::Result<()> {
    let widest = |column: &Column| {
        let cells = column.cells.iter().map(String::as_str);
        cells
            .chain([column.head])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let heads = std::iter::once(None);
    for row in heads.chain((0..rows).map(Some)) {
        for (place, column) in columns.iter().enumerate() {
            let width = widest(column);
            let cell = row.map_or(column.head, |row| column.cells[row].as_str());
            match place {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
