//! The work for one policy on one load.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use windlass_policies::knobs::Turned;
use windlass_policies::policy_file::PolicyFile;
use windlass_policies::units::micros_of;
use windlass_simulator::comparison::{Figures, Record, What, millionths};
use windlass_simulator::stretch::{self, Block, Span, Stretch};
use windlass_simulator::tune::{self, Course, Places};

use super::plan::{Plan, Task, Unit};
use super::progress::{Progress, RUN};
use super::state::{CameTo, State};
use super::{Candidate, ComparisonError, Load, bound};

/// What all units of a load share.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) load: &'a Load,
    pub(super) state: &'a State,
    pub(super) progress: &'a Progress,
}

impl Work<'_> {
    pub(super) fn do_unit(&self, unit: &Unit) -> Result<Vec<Record>, ComparisonError> {
        match unit.task {
            Task::Bound => bound::records(self, unit),
            Task::Policy { candidate, tuned } => {
                self.policy(unit, &self.plan.candidates[candidate], tuned)
            }
        }
    }

    fn policy(
        &self,
        unit: &Unit,
        candidate: &Candidate,
        tuned: bool,
    ) -> Result<Vec<Record>, ComparisonError> {
        let places = if tuned {
            self.search(candidate)?
        } else {
            vec![None; candidate.policy.dials()]
        };
        self.rows(unit, candidate, tuned, &places)
    }

    /// The policy with its knobs at `places`, and its frontier from there.
    pub(super) fn rows(
        &self,
        unit: &Unit,
        candidate: &Candidate,
        tuned: bool,
        places: &Places,
    ) -> Result<Vec<Record>, ComparisonError> {
        let mut tries = vec![(What::Result, places.clone())];
        tries.extend(self.along(places).map(|places| (What::Frontier, places)));
        let mut known: Vec<Vec<Turned>> = Vec::new();
        let mut trials = Vec::new();
        for (what, places) in tries {
            let made = candidate.policy.turned(&places, self.load.scenario.max);
            // Whole numbers come again where they are small.
            let Some((file, settings)) = made.filter(|(_, settings)| !known.contains(settings))
            else {
                self.progress.skip(RUN);
                continue;
            };
            known.push(settings.clone());
            trials.push((what, file, settings));
        }
        let run = |(what, file, settings): &(What, PolicyFile, Vec<Turned>)| {
            let came_to = self.run(file, self.load.scored())?;
            // Of a point of the frontier, only the main knob is of interest.
            let shown = match what {
                What::Frontier => &settings[..settings.len().min(1)],
                What::Result | What::Bound => &settings[..],
            };
            Ok(self.record(unit, candidate, (*what, tuned), shown, &came_to))
        };
        let records: Vec<_> = trials.par_iter().with_max_len(1).map(run).collect();
        records.into_iter().collect()
    }

    /// The main knob from end to end, the others where they are.
    fn along<'a>(&self, places: &'a Places) -> impl Iterator<Item = Places> + use<'a> {
        let points = self.plan.options.frontier_points;
        let points = if places.is_empty() { 0 } else { points };
        let last = f64::from(points.saturating_sub(1).max(1));
        (0..points).map(move |point| {
            let mut moved = places.clone();
            moved[0] = Some(f64::from(point) / last);
            moved
        })
    }

    /// The places that cost least in the tuning window.
    fn search(&self, candidate: &Candidate) -> Result<Places, ComparisonError> {
        let step = micros_of(self.load.scenario.interval).max(1);
        let whole = self.load.split;
        let half = whole / 2 - whole / 2 % step;
        let cost = |rung: usize, tried: &[Places]| {
            let to = if rung == 0 { half } else { whole };
            let one = |places: &Places| {
                let made = candidate.policy.turned(places, self.load.scenario.max);
                let Some((file, _)) = made else {
                    self.progress.skip(self.parts_of(to));
                    return Ok(None);
                };
                let came_to = self.run(&file, Span { from: 0, to })?;
                Ok(Some(came_to.total_cost().get()))
            };
            let costs: Vec<Result<Option<i64>, ComparisonError>> =
                tried.par_iter().with_max_len(1).map(one).collect();
            costs.into_iter().collect()
        };
        let (course, dials) = (Course::of_window(), candidate.policy.dials());
        let found = tune::search(&course, dials, self.load.scenario.seed, cost)?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// A run of `file`; from the state, if it is there.
    fn run(&self, file: &PolicyFile, span: Span) -> Result<Stretch, ComparisonError> {
        let parts = self.parts_of(span.to);
        let name = self
            .load
            .fingerprint
            .text(&format!("{:?} {:?}", file.policies, file.signals))
            .word(span.from)
            .word(span.to);
        if let Some(CameTo::Run(known)) = self.state.get(name) {
            self.progress.skip(parts);
            return Ok(known);
        }
        let scenario = &self.load.scenario;
        let spec = scenario.fleet_spec(file.policies.clone(), file.signals.clone());
        let passed = |micros| self.progress.add(self.parts_of(micros));
        let came_to = stretch::run(scenario, &self.load.workload, &spec, span, passed)?;
        self.state.keep(name, CameTo::Run(came_to))?;
        self.progress.finish();
        Ok(came_to)
    }

    /// What a run of `file` comes to in the blocks that end at `cuts`; from the
    /// state, if it is there.
    pub(super) fn blocks(
        &self,
        file: &PolicyFile,
        cuts: &[u64],
    ) -> Result<Vec<Block>, ComparisonError> {
        let parts = self.parts_of(cuts.last().copied().unwrap_or(0));
        let told = format!("{:?} {:?} blocks {cuts:?}", file.policies, file.signals);
        let name = self.load.fingerprint.text(&told);
        if let Some(CameTo::Blocks(known)) = self.state.get(name) {
            self.progress.skip(parts);
            return Ok(known);
        }
        let scenario = &self.load.scenario;
        let spec = scenario.fleet_spec(file.policies.clone(), file.signals.clone());
        let passed = |micros| self.progress.add(self.parts_of(micros));
        let blocks = stretch::blocks(scenario, &self.load.workload, &spec, cuts, passed)?;
        self.state.keep(name, CameTo::Blocks(blocks.clone()))?;
        self.progress.finish();
        Ok(blocks)
    }

    /// Which part of a run so much of the load is.
    pub(super) fn parts_of(&self, micros: u64) -> u64 {
        let all = u128::from(self.load.workload.length_micros.max(1));
        let parts = u128::from(micros) * u128::from(RUN) / all;
        u64::try_from(parts).unwrap_or(RUN)
    }

    fn record(
        &self,
        unit: &Unit,
        candidate: &Candidate,
        (what, tuned): (What, bool),
        settings: &[Turned],
        came_to: &Stretch,
    ) -> Record {
        let knobs = settings.iter();
        let knobs: Vec<String> = knobs
            .map(|one| format!("{}={}", one.name, one.value))
            .collect();
        let price = self.load.scenario.objective.usd_per_job_hour_waiting;
        Record {
            unit: unit.number,
            what,
            stage: self.load.stage.clone(),
            policy: candidate.name.clone(),
            tuned,
            knobs: knobs.join("; "),
            usd_per_job_hour_waiting: millionths(price.get()),
            scored_from_secs: millionths(self.load.split),
            figures: Some(Figures::of(came_to)),
            limits: None,
        }
    }
}
