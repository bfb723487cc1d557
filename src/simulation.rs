//! Runs policies through a scenario, one per core at a time, and says how far
//! they are.

mod files;
pub mod flowing;
pub(crate) mod rows;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use windlass_policies::policy::NamedPolicy;
use windlass_policies::ports::StoreError;
use windlass_policies::signal::SignalSpec;
use windlass_policies::units::{MICROS_PER_SEC, micros_of};
use windlass_simulator::elasticity::{Demand, Elasticity};
use windlass_simulator::engine;
use windlass_simulator::report::{Course, Recorder, WaitPrices};
use windlass_simulator::scenario::{Scenario, ScenarioError};
use windlass_simulator::score::{Label, Score};
use windlass_simulator::workload::Workload;

pub use files::{FileFormat, Out};

use files::Files;

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
    pub out: Option<Out<'a>>,
    /// Whether courses are kept for a report.
    pub report: bool,
}

/// What a run came to, and how it went if that was to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What it came to.
    pub score: Score,
    /// How it went.
    pub course: Option<Course>,
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

/// What `candidates` come to, in their order. Uses all cores; says on standard
/// error how far it is once that takes longer than a second.
///
/// # Errors
/// The first one in the order of the candidates.
pub fn run(
    simulation: Simulation<'_>,
    candidates: &[Candidate],
) -> Result<Vec<Finished>, SimulationError> {
    let started = Instant::now();
    let demand = demand(simulation);
    let done_micros = AtomicU64::new(0);
    let (ended, ends) = mpsc::channel::<()>();
    let count = u64::try_from(candidates.len()).unwrap_or(u64::MAX);
    let all = simulation.workload.length_micros.saturating_mul(count);
    let finished: Vec<_> = thread::scope(|scope| {
        let done_micros = &done_micros;
        scope.spawn(move || {
            while ends.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                tell_progress(started.elapsed(), done_micros.load(Ordering::Relaxed), all);
            }
        });
        let one = |candidate: &Candidate| run_one(simulation, candidate, &demand, done_micros);
        // One by one, so that whoever is done takes the next.
        let finished = candidates.par_iter().with_max_len(1).map(one).collect();
        drop(ended);
        finished
    });
    tell_done(started.elapsed(), candidates.len());
    finished.into_iter().collect()
}

/// The scores as a JSON array, with a line break at the end.
pub fn to_json(scores: &[Score]) -> String {
    let mut json = serde_json::to_string_pretty(scores).expect("scores are plain data");
    json.push('\n');
    json
}

/// What the load demands, of instances of the first offering.
fn demand(
    Simulation {
        scenario, workload, ..
    }: Simulation<'_>,
) -> Demand {
    let offerings = scenario.all_offerings();
    let slots = offerings.first().map_or(1, |offering| offering.slots);
    let interval = micros_of(scenario.interval);
    Demand::of(&workload.jobs, workload.length_micros, interval, slots)
}

fn run_one(
    simulation: Simulation<'_>,
    candidate: &Candidate,
    demand: &Demand,
    done_micros: &AtomicU64,
) -> Result<Finished, SimulationError> {
    let Simulation {
        scenario,
        workload,
        out,
        report,
    } = simulation;
    let spec = scenario.fleet_spec(candidate.policies.clone(), candidate.signals.clone());
    let mut world_spec = scenario.world_spec(&spec.name, workload, &spec.signals, false);
    world_spec.server.journal = out.is_some_and(|out| out.jobs.is_some());
    let world = scenario.build_world(world_spec)?;
    let end = world.now() + Duration::from_micros(workload.length_micros);
    let step = micros_of(spec.interval);
    let mut files = out
        .map(|out| Files::create(out, &candidate.name))
        .transpose()?;
    let mut recorder = report.then(|| Recorder::new(workload.length_micros, step));
    if let Some(recorder) = &mut recorder {
        recorder.note_view(&world.view());
    }
    let mut world = engine::observe(&spec, world, end, |cycle, world| {
        done_micros.fetch_add(step, Ordering::Relaxed);
        // Looking takes time, so only those look who show it to somebody.
        if files.is_none() && recorder.is_none() {
            return;
        }
        let view = world.view();
        if let Some(files) = &mut files {
            files.note(cycle, &view, world);
        }
        if let Some(recorder) = &mut recorder {
            recorder.note(cycle, &view);
        }
    })?;
    if let Some(files) = files {
        files.finish(&mut world)?;
    }
    let label = label(scenario, &candidate.name);
    let prices = scenario.class_prices();
    let mut score = Score::of_classes(label, &world.summary(), scenario.objective, &prices);
    score.elasticity = Some(Elasticity::of(demand, &world));
    let course = recorder.map(|recorder| {
        let prices = wait_prices(simulation);
        recorder.finish(&world, workload, &prices, &score)
    });
    Ok(Finished { score, course })
}

fn wait_prices(
    Simulation {
        scenario, workload, ..
    }: Simulation<'_>,
) -> WaitPrices {
    let usual = scenario.objective.usd_per_job_hour_waiting;
    let own = scenario.class_prices();
    let classes = workload.classes.as_ref();
    let classes = classes.map_or(&[][..], |classes| classes.classes());
    let price = |name: &String| own.get(name).copied().unwrap_or(usual);
    WaitPrices {
        usual,
        classes: classes.iter().map(|class| price(&class.name)).collect(),
    }
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
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "windlass: {text}");
}
