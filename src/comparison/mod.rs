//! Policies beside one another on several loads: as they stand, tuned, and along
//! their frontiers, on all cores, in parts on many machines, and going on where
//! it was interrupted.
//!
//! A comparison is a row of units, each of which is the work for one policy on
//! one load. What a unit comes to depends on nothing but its inputs; so whoever
//! does it, in whatever order, the records put together are the same.

mod bound;
pub mod files;
mod plan;
mod progress;
pub mod shard;
pub mod state;
pub mod tuning;
mod unit;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use windlass_policies::fields::duration_text;
use windlass_policies::knobs::Tunable;
use windlass_policies::units::micros_of;
use windlass_simulator::comparison::{Record, Stage};
use windlass_simulator::fingerprint::Fingerprint;
use windlass_simulator::scenario::{Scenario, ScenarioError};
use windlass_simulator::stretch::{Span, StretchError};
use windlass_simulator::trace::TraceKind;
use windlass_simulator::workload::Workload;

use crate::simulation::note;

pub use plan::{Plan, PlanError};

use plan::Unit;
use progress::Progress;
use shard::Shard;
use state::{State, StateError};

/// A policy to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What it is called in results.
    pub name: String,
    /// It, with its knobs.
    pub policy: Tunable,
}

/// The most prices of waiting that a bound is worked out for.
pub const BOUND_POINTS_MAX: u32 = 7;

/// What is done with each policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// In which first part of each load its knobs are searched, in percent; the
    /// rest is what is scored. Nothing is searched without it.
    pub tuning_percent: Option<u8>,
    /// At how many places of its main knob a policy is tried, beside where it
    /// is.
    pub frontier_points: u32,
    /// At how many prices of waiting the bound is worked out, that of the
    /// scenario first; at most [`BOUND_POINTS_MAX`].
    pub bound_points: u32,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// A scenario makes no load or no world.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The store in memory refused a record.
    #[error("cannot simulate")]
    Store(#[source] windlass_policies::ports::StoreError),
    /// Finished runs cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// A load has no room for a tuning window and a rest.
    #[error(
        "the load of {scenario} is too short to tune on: {percent} % of it are less than two \
         intervals of the fleet; give a longer one, or leave --tune-peers out"
    )]
    TooShort {
        /// Which scenario.
        scenario: String,
        /// The tuning window.
        percent: u8,
    },
    /// A load is too short to be cut into folds.
    #[error(
        "the load of {scenario} is too short for {folds} folds: it is {} long, and they take {}, \
         {} of the fleet's intervals each; give a longer one, or fewer --folds",
        duration_text(*length),
        duration_text(*least),
        tuning::FOLD_TICKS_MIN
    )]
    TooShortForFolds {
        /// Which scenario.
        scenario: String,
        /// Into how many.
        folds: u32,
        /// How long it is.
        length: Duration,
        /// How long it would have to be.
        least: Duration,
    },
    /// There is nothing to check on.
    #[error(
        "no job arrives in the last of {folds} folds of {scenario}, so nothing can be checked there; \
         give another load, or another length of it"
    )]
    NoJobsInFold {
        /// Which scenario.
        scenario: String,
        /// Into how many it is cut.
        folds: u32,
    },
    /// A trace cannot be read for its fingerprint.
    #[error("cannot read {}", path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<StretchError> for ComparisonError {
    fn from(error: StretchError) -> Self {
        match error {
            StretchError::Scenario(error) => Self::Scenario(error),
            StretchError::Store(error) => Self::Store(error),
        }
    }
}

/// A load that has been read.
struct Load {
    stage: Stage,
    scenario: Scenario,
    workload: Workload,
    /// Of scenario, traces and program.
    fingerprint: Fingerprint,
    /// Where what is scored begins; the tuning window lies before it.
    split: u64,
}

impl Load {
    /// What is scored.
    const fn scored(&self) -> Span {
        Span {
            from: self.split,
            to: self.workload.length_micros,
        }
    }
}

/// What `shard` of `plan` comes to, in the order of its units. Uses all cores;
/// says on standard error how far it is. What `state` knows is not done again.
///
/// # Errors
/// The first one in the order of the units, or a load that makes none.
pub fn run(plan: &Plan, shard: Shard, state: &State) -> Result<Vec<Record>, ComparisonError> {
    let units = plan.units_of(shard);
    let progress = Progress::of("comparing", units.iter().map(|unit| plan.parts(unit)).sum());
    progress.told(|| {
        let mut records = Vec::new();
        for (place, _) in plan.scenarios.iter().enumerate() {
            let own: Vec<&Unit> = units.iter().filter(|unit| unit.scenario == place).collect();
            // One load at a time is in memory.
            if !own.is_empty() {
                let load = read_load(plan, place)?;
                let work = unit::Work {
                    plan,
                    load: &load,
                    state,
                    progress: &progress,
                };
                let one = |unit: &&Unit| work.do_unit(unit);
                let done: Vec<_> = own.par_iter().with_max_len(1).map(one).collect();
                for came_to in done {
                    records.extend(came_to?);
                }
            }
        }
        Ok(records)
    })
}

fn read_load(plan: &Plan, place: usize) -> Result<Load, ComparisonError> {
    let mut scenario = plan.scenarios[place].clone();
    let trace = scenario.read_trace()?;
    let named = matches!(trace.kind(), TraceKind::Jobs { .. });
    if named && scenario.workload.service.take().is_some() {
        note(&format!(
            "{} says how long each job takes, so workload.service of {} is not used",
            trace.name(),
            scenario.name
        ));
    }
    let workload = scenario.build_workload(&trace)?;
    let split = split(plan, &scenario, workload.length_micros)?;
    Ok(Load {
        stage: plan::stage_of(&scenario),
        fingerprint: plan.load_fingerprint(place),
        scenario,
        workload,
        split,
    })
}

/// Where the tuning window ends: at a tick, so that it is cut between cycles.
fn split(plan: &Plan, scenario: &Scenario, length: u64) -> Result<u64, ComparisonError> {
    let Some(percent) = plan.options.tuning_percent else {
        return Ok(0);
    };
    let step = micros_of(scenario.interval).max(1);
    let share = u128::from(length) * u128::from(percent) / 100;
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    let split = share - share % step;
    // Half of it is a window too.
    if split < 2 * step || split >= length {
        return Err(ComparisonError::TooShort {
            scenario: scenario.name.clone(),
            percent,
        });
    }
    Ok(split)
}
