//! Runs policies through a load that flows: one thread reads it, all policies
//! work on the same pieces side by side, on all cores, and nobody holds more
//! than a few of them, except for jobs that wait.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::{MICROS_PER_HOUR, Timestamp};
use windlass_simulator::engine::Run;
use windlass_simulator::queue::{HISTOGRAM_ERROR, JobColumns};
use windlass_simulator::scenario::{Scenario, ScenarioError};
use windlass_simulator::score::Score;
use windlass_simulator::trace::Skipped;
use windlass_simulator::workload::flow::{Flow, FlowError};

use super::{Candidate, Finished, PROGRESS, SimulationError, label, note};

/// So many pieces of a quarter of a megabyte are read ahead.
const PIECES_AHEAD: usize = 8;

/// So many are worked on at a time: few milliseconds, so that the policies wait
/// for one another seldom, and still a megabyte.
const PIECES_AT_ONCE: usize = 4;

/// What the reader tells.
enum Read {
    Piece(Arc<JobColumns>),
    /// All of it has been read; how long it is, in microseconds, and what was
    /// passed over.
    End(u64, Skipped),
    Failed(FlowError),
}

/// What `candidates` come to, in their order, as [`super::run`] gives them for
/// all jobs at once, but with quantiles of a histogram, and without elasticity
/// and courses, for which all jobs are needed; and what of the trace was passed
/// over.
///
/// # Errors
/// The first one, of the load or of the runs.
pub fn run(
    scenario: &Scenario,
    flow: &Flow,
    candidates: &[Candidate],
) -> Result<(Vec<Finished>, Skipped), SimulationError> {
    let spec = |one: &Candidate| scenario.fleet_spec(one.policies.clone(), one.signals.clone());
    let specs: Vec<FleetSpec> = candidates.iter().map(spec).collect();
    let begin = |(candidate, spec)| Going::new(scenario, candidate, spec);
    let runs: Result<Vec<Going<'_>>, SimulationError> =
        candidates.iter().zip(&specs).map(begin).collect();
    let runs = runs?;
    let (sender, pieces) = mpsc::sync_channel(PIECES_AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || read(flow, &sender));
        let scores = lead(scenario, runs, &pieces, flow.length_micros());
        // Nobody listens any more: after an error the reader ends too.
        drop(pieces);
        scores
    })
}

fn read(flow: &Flow, to: &SyncSender<Read>) {
    let send_all = || {
        let mut jobs = flow.open()?;
        while let Some(piece) = jobs.next_piece()? {
            if to.send(Read::Piece(piece)).is_err() {
                break;
            }
        }
        Ok(Read::End(jobs.length_micros(), jobs.into_skipped()))
    };
    let last = send_all().unwrap_or_else(Read::Failed);
    // Whoever listened may have given up.
    let _ = to.send(last);
}

/// Hands what is read to all runs until it ends.
fn lead(
    scenario: &Scenario,
    mut runs: Vec<Going<'_>>,
    pieces: &Receiver<Read>,
    length: Option<u64>,
) -> Result<(Vec<Finished>, Skipped), SimulationError> {
    let begins_at = scenario.world_begins_at();
    let at = |micros: u64| begins_at + Duration::from_micros(micros);
    let mut progress = Progress::new(length);
    let mut batch = Vec::with_capacity(PIECES_AT_ONCE);
    let broken = |error| SimulationError::Scenario(scenario.flow_error(error));
    loop {
        let ended = match next(pieces, &mut batch) {
            Ok(ended) => ended,
            Err(error) => return Err(broken(error)),
        };
        // Ticks up to the last arrival have all jobs before them.
        let last = batch.iter().rev().find_map(|jobs| jobs.arrivals().last());
        if let Some(last) = last {
            let until = at(last.saturating_add(1));
            runs = go_on(scenario, runs, &batch, until)?;
            progress.tell(*last);
        }
        if let Some((length, skipped)) = ended {
            runs = go_on(scenario, runs, &[], at(length))?;
            progress.done(runs.len());
            let score = |going: Going<'_>| going.finish(scenario, at(length));
            return Ok((runs.into_iter().map(score).collect(), skipped));
        }
        batch.clear();
    }
}

/// Puts the next pieces into `batch`: at least one, unless all has been read;
/// then gives how long the load is, and what was passed over.
fn next(
    pieces: &Receiver<Read>,
    batch: &mut Vec<Arc<JobColumns>>,
) -> Result<Option<(u64, Skipped)>, FlowError> {
    let mut read = pieces.recv().ok();
    while let Some(told) = read {
        match told {
            Read::Piece(jobs) => batch.push(jobs),
            Read::End(length, skipped) => return Ok(Some((length, skipped))),
            Read::Failed(error) => return Err(error),
        }
        if batch.len() == PIECES_AT_ONCE {
            break;
        }
        read = pieces.try_recv().ok();
    }
    Ok(None)
}

fn go_on<'a>(
    scenario: &Scenario,
    runs: Vec<Going<'a>>,
    pieces: &[Arc<JobColumns>],
    until: Timestamp,
) -> Result<Vec<Going<'a>>, SimulationError> {
    let one = |going: Going<'a>| going.go_on(scenario, pieces, until);
    if runs.len() == 1 {
        return runs.into_iter().map(one).collect();
    }
    let went: Vec<_> = runs.into_par_iter().map(one).collect();
    went.into_iter().collect()
}

/// One policy on its way.
struct Going<'a> {
    name: &'a str,
    run: Run<'a>,
}

impl<'a> Going<'a> {
    fn new(
        scenario: &Scenario,
        candidate: &'a Candidate,
        spec: &'a FleetSpec,
    ) -> Result<Self, SimulationError> {
        let world = scenario.flowing_world(&spec.name, &spec.signals)?;
        Ok(Self {
            name: &candidate.name,
            run: Run::new(spec, world),
        })
    }

    fn go_on(
        mut self,
        scenario: &Scenario,
        pieces: &[Arc<JobColumns>],
        until: Timestamp,
    ) -> Result<Self, SimulationError> {
        for piece in pieces {
            let fed = self.run.world().feed(Arc::clone(piece));
            fed.map_err(|error| ScenarioError::World {
                scenario: scenario.name.clone(),
                source: error.into(),
            })?;
        }
        self.run = self.run.go_on(until, |_, _| ())?;
        // What has arrived may start, so that little waits to be looked at: no
        // tick lies before the last arrival any more.
        if let Some(last) = pieces.last().and_then(|jobs| jobs.arrivals().last()) {
            let last = scenario.world_begins_at() + Duration::from_micros(*last);
            self.run.world().advance(last);
        }
        Ok(self)
    }

    fn finish(self, scenario: &Scenario, end: Timestamp) -> Finished {
        let summary = self.run.finish(end).summary();
        let label = label(scenario, self.name);
        let mut score = Score::of(label, &summary, scenario.objective);
        score.quantiles_within = Some(HISTOGRAM_ERROR);
        Finished {
            score,
            course: None,
        }
    }
}

/// Says now and then how far it is.
struct Progress {
    length: Option<u64>,
    started: Instant,
    told: Duration,
}

impl Progress {
    fn new(length: Option<u64>) -> Self {
        Self {
            length,
            started: Instant::now(),
            told: Duration::ZERO,
        }
    }

    fn tell(&mut self, done: u64) {
        let elapsed = self.started.elapsed();
        if elapsed < self.told + PROGRESS {
            return;
        }
        self.told = elapsed;
        match self.length {
            Some(length) => super::tell_progress(elapsed, done, length),
            None => note(&format!(
                "simulating: {} hours of the trace so far",
                done / MICROS_PER_HOUR
            )),
        }
    }

    fn done(&self, policies: usize) {
        super::tell_done(self.started.elapsed(), policies);
    }
}
