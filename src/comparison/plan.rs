//! What a comparison consists of, and who does what of it.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use windlass_simulator::comparison::Stage;
use windlass_simulator::fingerprint::Fingerprint;
use windlass_simulator::scenario::{Scenario, TraceFile};
use windlass_simulator::tune::Course;

use super::progress::{BOUND, RUN};
use super::shard::Shard;
use super::{Candidate, ComparisonError, Options};

/// Why a plan makes no sense; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two policies of one name.
    #[error(
        "two policies are called `{0}`: give their files different names, which are what tells \
         their results apart"
    )]
    SamePolicy(String),
    /// One load twice.
    #[error(
        "there are two loads called `{scenario}` of {trace} with seed {seed}: name each once, and \
         give their files different names, which are what tells their results apart"
    )]
    SameLoad {
        /// The scenario's name.
        scenario: String,
        /// The trace's name.
        trace: String,
        /// The seed.
        seed: u64,
    },
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) scenarios: Vec<Scenario>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) options: Options,
    /// One for each scenario: of it and its traces.
    inputs: Vec<Fingerprint>,
    program: Fingerprint,
}

/// The work for one policy on one load, or for the bound of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) number: u64,
    /// Which scenario.
    pub(super) scenario: usize,
    pub(super) task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// What no policy can beat.
    Bound,
    /// A candidate, as it stands or tuned.
    Policy { candidate: usize, tuned: bool },
}

impl Plan {
    /// Compares `candidates` on each of `scenarios`, which have their traces
    /// and seeds.
    ///
    /// # Errors
    /// What makes no sense, or a trace that cannot be read.
    pub fn new(
        scenarios: Vec<Scenario>,
        candidates: Vec<Candidate>,
        options: Options,
    ) -> Result<Result<Self, PlanError>, ComparisonError> {
        if let Err(error) = check(&scenarios, &candidates) {
            return Ok(Err(error));
        }
        let inputs = scenarios.iter().map(input_fingerprint);
        Ok(Ok(Self {
            inputs: inputs.collect::<Result<_, _>>()?,
            program: program_fingerprint(),
            scenarios,
            candidates,
            options,
        }))
    }

    /// A name for all that is compared: parts that have one name are parts of
    /// one comparison. `more` is what else makes results what they are.
    pub fn fingerprint(&self, more: &str) -> Fingerprint {
        let mut name = Fingerprint::default()
            .text(env!("CARGO_PKG_VERSION"))
            .text(&format!("{:?}", self.options))
            .text(more);
        for input in &self.inputs {
            name = name.text(&input.to_string());
        }
        for candidate in &self.candidates {
            name = name.text(&format!("{candidate:?}"));
        }
        name
    }

    /// How many loads there are.
    pub fn loads(&self) -> usize {
        self.scenarios.len()
    }

    /// How many instances the fleet of the first load may have.
    pub fn instances_max(&self) -> u32 {
        self.scenarios.first().map_or(0, |scenario| scenario.max)
    }

    /// Of the scenario in that place, its traces and this program.
    pub(super) fn load_fingerprint(&self, place: usize) -> Fingerprint {
        self.program.text(&self.inputs[place].to_string())
    }

    /// All there is to do, in the order of the results.
    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut add = |scenario, task| {
            let number = u64::try_from(units.len()).unwrap_or(u64::MAX);
            units.push(Unit {
                number,
                scenario,
                task,
            });
        };
        for scenario in 0..self.scenarios.len() {
            add(scenario, Task::Bound);
            for (candidate, one) in self.candidates.iter().enumerate() {
                let tuning = self.options.tuning_percent.is_some() && one.policy.dials() > 0;
                for tuned in [false, true] {
                    if tuning || !tuned {
                        add(scenario, Task::Policy { candidate, tuned });
                    }
                }
            }
        }
        units
    }

    /// What `shard` is to do: units go to whoever has least to do, the longest
    /// first.
    pub(super) fn units_of(&self, shard: Shard) -> Vec<Unit> {
        let mut by_size = self.units();
        by_size.sort_by_key(|unit| (std::cmp::Reverse(self.parts(unit)), unit.number));
        let mut loads: Vec<u64> = (0..shard.count()).map(|_| 0).collect();
        let mut own = Vec::new();
        for unit in by_size {
            let least = loads.iter().enumerate().min_by_key(|(_, load)| **load);
            let place = least.map_or(0, |(place, _)| place);
            loads[place] += self.parts(&unit);
            if u64::try_from(place) == Ok(shard.index()) {
                own.push(unit);
            }
        }
        own.sort_by_key(|unit| unit.number);
        own
    }

    /// About how much work a unit is, in parts of runs.
    pub(super) fn parts(&self, unit: &Unit) -> u64 {
        let Task::Policy { candidate, tuned } = unit.task else {
            return BOUND * u64::from(self.options.bound_points);
        };
        let dials = self.candidates[candidate].policy.dials();
        let frontier = if dials > 0 {
            self.options.frontier_points
        } else {
            0
        };
        let percent = self.options.tuning_percent.filter(|_| tuned).unwrap_or(0);
        // The first rung is half of the window.
        let tries = Course::of_window().tries(dials);
        let halves: usize = tries[0] + tries[1..].iter().map(|tries| 2 * tries).sum::<usize>();
        let halves = u64::try_from(halves).unwrap_or(u64::MAX);
        let searched = halves * RUN * u64::from(percent) / 200;
        RUN * (1 + u64::from(frontier)) + searched
    }
}

fn check(scenarios: &[Scenario], candidates: &[Candidate]) -> Result<(), PlanError> {
    for (place, candidate) in candidates.iter().enumerate() {
        let name = &candidate.name;
        if candidates[..place].iter().any(|other| other.name == *name) {
            return Err(PlanError::SamePolicy(name.clone()));
        }
    }
    let stages: Vec<Stage> = scenarios.iter().map(stage_of).collect();
    for (place, stage) in stages.iter().enumerate() {
        if stages[..place].contains(stage) {
            return Err(PlanError::SameLoad {
                scenario: stage.scenario.clone(),
                trace: stage.trace.clone(),
                seed: stage.seed,
            });
        }
    }
    Ok(())
}

pub(super) fn stage_of(scenario: &Scenario) -> Stage {
    Stage {
        scenario: scenario.name.clone(),
        trace: scenario.trace_name(),
        seed: scenario.seed,
    }
}

/// Of everything a scenario says and of the contents of its traces, wherever
/// they lie.
fn input_fingerprint(scenario: &Scenario) -> Result<Fingerprint, ComparisonError> {
    let mut told = scenario.clone();
    let mut name = Fingerprint::default();
    let own = std::iter::once(&mut told.trace);
    let classes = told.classes.iter_mut();
    for file in own.chain(classes.filter_map(|class| class.trace.as_mut())) {
        if let TraceFile::Path(path) = file {
            name = add_file(name, path).map_err(|source| ComparisonError::Unread {
                path: path.clone(),
                source,
            })?;
            let stem = path.file_name().unwrap_or_default().to_string_lossy();
            *file = TraceFile::Embedded(stem.into_owned());
        }
    }
    Ok(name.text(&format!("{told:?}")))
}

/// Of this very program: another one may decide otherwise.
fn program_fingerprint() -> Fingerprint {
    let version = Fingerprint::default().text(env!("CARGO_PKG_VERSION"));
    let program = env::current_exe().and_then(|path| add_file(version, &path));
    // Where nobody can read it, the version must do.
    program.unwrap_or(version)
}

fn add_file(mut name: Fingerprint, path: &Path) -> io::Result<Fingerprint> {
    const PIECE: u64 = 1 << 20;
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        let what = "it is no file, and a comparison reads its traces more than once";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut piece = Vec::new();
    loop {
        piece.clear();
        (&mut file).take(PIECE).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(name);
        }
        name = name.bytes(&piece);
    }
}

#[cfg(test)]
mod tests {
    use windlass_policies::knobs::Tunable;
    use windlass_policies::presets;

    use super::*;

    fn plan(percent: Option<u8>) -> Plan {
        let candidate = |(name, text): (&str, &str)| Candidate {
            name: name.to_owned(),
            policy: Tunable::read(text).expect("a preset"),
        };
        let open = |name: &str| Scenario::open(name).expect("built in");
        let scenarios = vec![open("builtin:web-week"), open("builtin:ci-bursts")];
        let candidates = presets::all().into_iter().map(candidate).collect();
        let options = Options {
            tuning_percent: percent,
            frontier_points: 9,
            bound_points: 3,
        };
        Plan::new(scenarios, candidates, options)
            .expect("readable")
            .expect("sensible")
    }

    #[test]
    fn every_unit_is_done_by_one_shard_and_shards_are_even() {
        for percent in [None, Some(40)] {
            let plan = plan(percent);
            let all = plan.units();
            for count in [1, 2, 3, 7, 100] {
                let mut done = Vec::new();
                let mut sizes = Vec::new();
                for index in 0..count {
                    let own = plan.units_of(Shard::new(index, count).expect("a shard"));
                    sizes.push(own.iter().map(|unit| plan.parts(unit)).sum::<u64>());
                    done.extend(own);
                }
                done.sort_by_key(|unit| unit.number);
                assert_eq!(done, all, "{count} shards");
                let largest = all.iter().map(|unit| plan.parts(unit)).max();
                let most = sizes.iter().max().expect("one");
                let least = sizes.iter().min().expect("one");
                assert!(most - least <= largest.expect("one"), "{sizes:?}");
            }
        }
    }

    #[test]
    fn what_has_no_knobs_is_not_tuned() {
        let named = |plan: &Plan, name: &str| {
            let units = plan.units();
            let of = |unit: &&Unit| match unit.task {
                Task::Bound => false,
                Task::Policy { candidate, .. } => plan.candidates[candidate].name == name,
            };
            units.iter().filter(of).count()
        };
        assert_eq!(named(&plan(Some(40)), "schedule"), 2);
        assert_eq!(named(&plan(Some(40)), "step"), 4);
        assert_eq!(named(&plan(None), "step"), 2);
    }

    #[test]
    fn whatever_makes_results_others_makes_another_name() {
        let name = |change: &dyn Fn(&mut Scenario)| {
            let mut scenario = Scenario::open("builtin:web-week").expect("built in");
            change(&mut scenario);
            input_fingerprint(&scenario).expect("readable")
        };
        let as_it_is = name(&|_| ());
        assert_eq!(as_it_is, name(&|_| ()));
        assert_ne!(as_it_is, name(&|scenario| scenario.seed = 2));
        assert_ne!(as_it_is, name(&|scenario| scenario.max = 201));
        let folder = tempfile::tempdir().expect("a folder");
        let trace = |place: &str, text: &str| {
            let folder = folder.path().join(place);
            std::fs::create_dir_all(&folder).expect("made");
            let path = folder.join("t.csv");
            std::fs::write(&path, text).expect("written");
            name(&move |scenario| scenario.trace = TraceFile::Path(path.clone()))
        };
        let here = trace("here", "t_s,count\n0,1\n60,2\n");
        assert_eq!(here, trace("there", "t_s,count\n0,1\n60,2\n"));
        assert_ne!(here, trace("here", "t_s,count\n0,1\n60,3\n"));
    }
}
