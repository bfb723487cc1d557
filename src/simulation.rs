//! Runs policies through a scenario, one per core at a time, and says how far
//! they are.

pub mod flowing;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use windlass_policies::model::{Action, Outcome};
use windlass_policies::policy::NamedPolicy;
use windlass_policies::ports::StoreError;
use windlass_policies::reconcile::Cycle;
use windlass_policies::signal::SignalSpec;
use windlass_policies::units::{MICROS_PER_SEC, Timestamp, micros_of};
use windlass_simulator::engine;
use windlass_simulator::scenario::{Scenario, ScenarioError};
use windlass_simulator::score::{Label, Score};
use windlass_simulator::workload::Workload;

/// How long a run may take before it says how far it is, and how often then.
const PROGRESS: Duration = Duration::from_secs(1);

/// A world and its load.
#[derive(Clone, Copy, Debug)]
pub struct Simulation<'a> {
    /// The world.
    pub scenario: &'a Scenario,
    /// The load.
    pub workload: &'a Workload,
    /// Where each run's course is written; nowhere if not given.
    pub out: Option<&'a Path>,
}

/// A policy to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What it is called in results.
    pub name: String,
    /// Who proposes.
    pub policies: Vec<NamedPolicy>,
    /// What they read.
    pub signals: Vec<SignalSpec>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The scenario makes no world.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A run's course cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store in memory refused a record.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The scores of `candidates`, in their order. Uses all cores; says on standard
/// error how far it is once that takes longer than a second.
///
/// # Errors
/// The first one in the order of the candidates.
pub fn run(
    simulation: Simulation<'_>,
    candidates: &[Candidate],
) -> Result<Vec<Score>, SimulationError> {
    let started = Instant::now();
    let done_micros = AtomicU64::new(0);
    let (ended, ends) = mpsc::channel::<()>();
    let count = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
    let all = simulation.workload.length_micros.saturating_mul(count);
    let scores: Vec<_> = thread::scope(|scope| {
        let done_micros = &done_micros;
        scope.spawn(move || {
            while ends.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                tell_progress(started.elapsed(), done_micros.load(Ordering::Relaxed), all);
            }
        });
        let one = |candidate: &Candidate| run_one(simulation, candidate, done_micros);
        // One by one, so that whoever is done takes the next.
        let scores = candidates.par_iter().with_max_len(1).map(one).collect();
        drop(ended);
        scores
    });
    tell_done(started.elapsed(), candidates.len());
    scores.into_iter().collect()
}

/// The scores as a JSON array, with a line break at the end.
pub fn to_json(scores: &[Score]) -> String {
    let mut json = serde_json::to_string_pretty(scores).expect("scores are plain data");
    json.push('\n');
    json
}

fn run_one(
    simulation: Simulation<'_>,
    candidate: &Candidate,
    done_micros: &AtomicU64,
) -> Result<Score, SimulationError> {
    let Simulation {
        scenario,
        workload,
        out,
    } = simulation;
    let spec = scenario.fleet_spec(candidate.policies.clone(), candidate.signals.clone());
    let world = scenario.world(&spec.name, workload, &spec.signals, false)?;
    let begins_at = world.now();
    let end = begins_at + Duration::from_micros(workload.length_micros);
    let step = micros_of(spec.interval);
    let mut course = out
        .map(|folder| Course::create(folder, &candidate.name, begins_at))
        .transpose()?;
    let summary = engine::run(&spec, world, end, |cycle| {
        done_micros.fetch_add(step, Ordering::Relaxed);
        if let Some(course) = &mut course {
            course.write(cycle);
        }
    })?;
    if let Some(course) = course {
        course.finish()?;
    }
    let label = label(scenario, &candidate.name);
    let prices = scenario.class_prices();
    Ok(Score::of_classes(
        label,
        &summary,
        scenario.objective,
        &prices,
    ))
}

fn label(scenario: &Scenario, policy: &str) -> Label {
    Label {
        scenario: scenario.name.clone(),
        policy: policy.to_owned(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
    }
}

fn tell_done(elapsed: Duration, policies: usize) {
    if elapsed >= PROGRESS {
        note(&format!(
            "{policies} policies simulated in {:.1} s",
            elapsed.as_secs_f64()
        ));
    }
}

fn tell_progress(elapsed: Duration, done: u64, all: u64) {
    let percent = u128::from(done) * 100 / u128::from(all.max(1));
    let left = if done == 0 {
        "?".to_owned()
    } else {
        let left = elapsed.as_micros() * u128::from(all.saturating_sub(done)) / u128::from(done);
        (left / u128::from(MICROS_PER_SEC)).to_string()
    };
    note(&format!("simulating: {percent} %, about {left} s left"));
}

/// A line for whoever waits; if nobody reads it, that is all right.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "windlass: {text}");
}

/// A run's course: one line of CSV per cycle.
struct Course {
    path: PathBuf,
    begins_at: Timestamp,
    file: BufWriter<File>,
    /// The first write that failed; told at the end.
    failed: Option<io::Error>,
}

impl Course {
    fn create(folder: &Path, name: &str, begins_at: Timestamp) -> Result<Self, SimulationError> {
        let path = folder.join(format!("{name}.ticks.csv"));
        let file = File::create(&path).map_err(|source| SimulationError::Write {
            path: path.clone(),
            source,
        })?;
        let mut course = Self {
            path,
            begins_at,
            file: BufWriter::new(file),
            failed: None,
        };
        course.line("t_s,cycle,current,wish,target,launched,ended,readings,why");
        Ok(course)
    }

    fn write(&mut self, cycle: &Cycle) {
        let decision = &cycle.decision;
        let size = |count: Option<u32>| count.map_or(String::new(), |count| count.to_string());
        let launched: usize = cycle
            .done
            .iter()
            .map(|(_, outcome)| match outcome {
                Outcome::Launched { instances } => instances.len(),
                _ => 0,
            })
            .sum();
        let ended = cycle
            .done
            .iter()
            .filter(|(action, _)| matches!(action, Action::Terminate { .. }));
        let readings: Vec<String> = cycle
            .seen
            .readings
            .iter()
            .map(|(name, reading)| format!("{name}={reading}"))
            .collect();
        let secs = micros_of(decision.at.since(self.begins_at)) / MICROS_PER_SEC;
        let line = format!(
            "{secs},{},{},{},{},{launched},{},{},{}",
            decision.cycle,
            size(decision.current),
            size(decision.wish),
            size(decision.target),
            ended.count(),
            quoted(&readings.join(" ")),
            quoted(&decision.summary())
        );
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.file, "{line}").err();
        }
    }

    fn finish(mut self) -> Result<(), SimulationError> {
        let flushed = self.file.flush().err();
        match self.failed.or(flushed) {
            None => Ok(()),
            Some(source) => Err(SimulationError::Write {
                path: self.path,
                source,
            }),
        }
    }
}

/// A field of CSV: in quotes, quotes doubled.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
