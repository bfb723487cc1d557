//! One policy tuned: searched on the first folds of its loads, and checked on
//! the last, which the search never saw.
//!
//! The search is that of a comparison ([`windlass_simulator::tune`]), on a wider
//! course. Of what it found, the candidate is taken that is nearest to the given
//! policy among those within one standard error of the best; and what it turned
//! is turned back, knob by knob, where that stays within it.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::time::Duration;
use windlass_policies::policy_file::PolicyFile;
use windlass_policies::units::micros_of;
use windlass_simulator::comparison::{Record, millionths};
use windlass_simulator::gain::{self, Gain, Pair};
use windlass_simulator::tune::{self, Course, Places};

use super::plan::{Plan, Task, Unit};
use super::progress::{Progress, RUN};
use super::state::State;
use super::unit::Work;
use super::{ComparisonError, Load, read_load};

/// Each fold is cut into so many blocks, whose differences tell how sure a gain
/// is: enough that the interval is not much wider than it need be, and few
/// enough that a block is long against the time of a boot.
pub const BLOCKS: u32 = 8;

/// A fold has at least so many intervals of its fleet: two for each block.
pub const FOLD_TICKS_MIN: u32 = 2 * BLOCKS;

/// What is searched first, beside the policy as it stands: twice what a
/// comparison tries, since this is done once and then used.
const FIRST: usize = 47;

/// Of those that were tried on a rung, one in so many goes on.
const SHARE_KEPT: usize = 3;

/// But so many at least.
const KEPT_MIN: usize = 6;

/// So many are tried around the best, twice.
const AROUND: usize = 8;

/// What tuning came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// Where the knobs of the candidate stand that was chosen on the first folds.
    pub chosen: Places,
    /// What it came to beside the given policy on the first folds, where it was
    /// searched.
    pub training: Beside,
    /// And on the last fold.
    pub unseen: Beside,
    /// Whether it is worth its change there.
    pub verdict: Verdict,
    /// How many different candidates were tried.
    pub candidates: usize,
    /// How long the last fold is, in microseconds, of the first load.
    pub unseen_micros: u64,
    /// The given policy, the tuned one if it pays, and the peers on the last
    /// fold, with their frontiers.
    pub records: Vec<Record>,
}

/// Two policies on a part of all loads, seeds averaged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    /// What the given policy comes to, in dollars.
    pub given_usd: f64,
    /// What the other one does.
    pub chosen_usd: f64,
    /// How much less that is.
    pub gain: Gain,
}

impl Beside {
    /// The gain as a share of what the given policy comes to.
    pub fn share(&self, usd: f64) -> f64 {
        if self.given_usd > 0.0 {
            usd / self.given_usd
        } else {
            0.0
        }
    }
}

/// Whether a change pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On the last fold, the whole interval of its gain lies above nothing.
    Pays,
    /// Already on the first folds nothing is better by more than its standard
    /// error.
    NothingFound,
    /// What was found on the first folds is not surely better on the last.
    NotUnseen,
}

/// Tunes the first candidate of `plan` over `folds`, at least two, and holds it
/// against the others. Uses all cores; says on standard error how far it is.
/// What `state` knows is not done again.
///
/// # Errors
/// A load that makes none or is too short, or the first one of a run.
pub fn run(plan: &Plan, folds: u32, state: &State) -> Result<Tuning, ComparisonError> {
    let loads: Vec<Load> = (0..plan.loads())
        .map(|place| read_load(plan, place))
        .collect::<Result<_, _>>()?;
    let mut grounds = Vec::new();
    for mut load in loads {
        let cuts = cuts(&load, folds)?;
        load.split = cuts[blocks_of(folds - 1) - 1];
        let last = load.workload.jobs.arrivals().last();
        if last.is_none_or(|last| *last < load.split) {
            return Err(ComparisonError::NoJobsInFold {
                scenario: load.scenario.name,
                folds,
            });
        }
        grounds.push(Ground { load, cuts });
    }
    let reaches = reaches(folds - 1);
    let course = course(reaches.len());
    let progress = Progress::of("tuning", parts(plan, &course, &reaches, folds));
    let mut tuner = Tuner {
        plan,
        strata: strata(&grounds),
        grounds,
        folds,
        reaches,
        course,
        state,
        progress: &progress,
        finals: Vec::new(),
        candidates: 0,
    };
    progress.told(|| tuner.tune())
}

/// A load and where its blocks end.
struct Ground {
    load: Load,
    cuts: Vec<u64>,
}

/// What a candidate came to: for each load its blocks, in millionths of dollars.
#[derive(Clone, Debug)]
struct Tried {
    places: Places,
    blocks: Vec<Vec<i64>>,
}

impl Tried {
    fn total(&self) -> i64 {
        self.blocks.iter().flatten().sum()
    }
}

struct Tuner<'a> {
    plan: &'a Plan,
    grounds: Vec<Ground>,
    /// Loads that differ in their seeds alone.
    strata: Vec<Vec<usize>>,
    folds: u32,
    /// How many folds each rung reaches over.
    reaches: Vec<u32>,
    course: Course,
    state: &'a State,
    progress: &'a Progress,
    /// What was tried on all the first folds; the policy as it stands is there.
    finals: Vec<Tried>,
    candidates: usize,
}

impl Tuner<'_> {
    fn tune(&mut self) -> Result<Tuning, ComparisonError> {
        let dials = self.plan.candidates[0].policy.dials();
        let seed = self.grounds[0].load.scenario.seed;
        let course = self.course.clone();
        let last = course.kept.len();
        tune::search(&course, dials, seed, |rung, tried| {
            let reach = self.reaches[rung];
            let tried = self.tried(tried, blocks_of(reach))?;
            let costs = tried.iter().map(|one| one.as_ref().map(Tried::total));
            let costs = costs.collect();
            if rung == 0 {
                self.candidates += tried.len();
            } else if rung == last {
                // Those around the best are new; the others have been counted.
                self.candidates += tried.len() * usize::from(!self.finals.is_empty());
            }
            if rung == last {
                self.finals.extend(tried.into_iter().flatten());
            }
            Ok::<_, ComparisonError>(costs)
        })?;
        let chosen = self.nearest()?;
        let given = vec![None; dials];
        let training = self.beside(&self.known(&given), &chosen, 0);
        let (verdict, unseen) = if chosen.places == given {
            let whole = self.whole(&given)?;
            let from = blocks_of(self.folds - 1);
            (Verdict::NothingFound, self.beside(&whole, &whole, from))
        } else {
            let (as_given, as_chosen) = (self.whole(&given)?, self.whole(&chosen.places)?);
            let unseen = self.beside(&as_given, &as_chosen, blocks_of(self.folds - 1));
            let verdict = if unseen.gain.low_usd > 0.0 {
                Verdict::Pays
            } else {
                Verdict::NotUnseen
            };
            (verdict, unseen)
        };
        let tuned = (verdict == Verdict::Pays).then_some(&chosen.places);
        Ok(Tuning {
            records: self.records(tuned)?,
            training,
            unseen,
            verdict,
            candidates: self.candidates,
            unseen_micros: {
                let load = &self.grounds[0].load;
                load.workload.length_micros - load.split
            },
            chosen: chosen.places,
        })
    }

    /// Of those within one standard error of the best, the nearest to the given
    /// policy, with every knob turned back that need not be turned.
    fn nearest(&mut self) -> Result<Tried, ComparisonError> {
        let mut nearest = self.nearest_known();
        // Each round turns at least one knob back for good, or is the last.
        for _ in 0..=nearest.places.len() {
            let mut back = Vec::new();
            for dial in 0..nearest.places.len() {
                let mut places = nearest.places.clone();
                let turned = places[dial].take().is_some();
                if turned && self.finals.iter().all(|one| one.places != places) {
                    back.push(places);
                }
            }
            if back.is_empty() {
                break;
            }
            let tried = self.tried(&back, blocks_of(self.folds - 1))?;
            self.candidates += back.len();
            self.finals.extend(tried.into_iter().flatten());
            nearest = self.nearest_known();
        }
        Ok(nearest)
    }

    fn nearest_known(&self) -> Tried {
        let best = self.finals.iter().min_by_key(|one| one.total());
        let best = best.expect("the policy as it stands is a policy");
        let within = self.finals.iter().filter(|one| {
            let behind = self.beside(one, best, 0).gain;
            behind.usd <= behind.standard_error_usd
        });
        let far = |one: &Tried| {
            let max = self.grounds[0].load.scenario.max;
            let policy = &self.plan.candidates[0].policy;
            policy.distance(&one.places, max)
        };
        let nearest = within.min_by(|one, other| {
            let ((one_turned, one_way), (other_turned, other_way)) = (far(one), far(other));
            let by_way = one_turned
                .cmp(&other_turned)
                .then(one_way.total_cmp(&other_way));
            by_way.then(one.total().cmp(&other.total()))
        });
        nearest.unwrap_or(best).clone()
    }

    fn known(&self, places: &Places) -> Tried {
        let known = self.finals.iter().find(|one| one.places == *places);
        known.expect("the policy as it stands is tried").clone()
    }

    /// What the blocks of a run through all folds come to.
    fn whole(&self, places: &Places) -> Result<Tried, ComparisonError> {
        let tried = self.tried(std::slice::from_ref(places), blocks_of(self.folds))?;
        let tried = tried.into_iter().next().flatten();
        Ok(tried.expect("what was tried before is a policy"))
    }

    /// What each of `candidates` comes to in so many first blocks of all loads.
    fn tried(
        &self,
        candidates: &[Places],
        blocks: usize,
    ) -> Result<Vec<Option<Tried>>, ComparisonError> {
        let policy = &self.plan.candidates[0].policy;
        let max = self.grounds[0].load.scenario.max;
        let made = |places: &Places| policy.turned(places, max).map(|(file, _)| file);
        let files: Vec<Option<PolicyFile>> = candidates.iter().map(made).collect();
        let mut runs = Vec::new();
        for file in &files {
            for ground in &self.grounds {
                runs.push((file, ground));
            }
        }
        let run = |(file, ground): &(&Option<PolicyFile>, &Ground)| {
            let work = self.work(ground);
            let cuts = &ground.cuts[..blocks];
            let Some(file) = file else {
                let parts = work.parts_of(cuts.last().copied().unwrap_or(0));
                self.progress.skip(parts);
                return Ok(None);
            };
            let blocks = work.blocks(file, cuts)?;
            let costs = blocks.iter().map(|block| block.total_cost().get());
            Ok(Some(costs.collect::<Vec<i64>>()))
        };
        let done: Vec<Result<Option<Vec<i64>>, ComparisonError>> =
            runs.par_iter().with_max_len(1).map(run).collect();
        let mut done = done.into_iter();
        let mut tried = Vec::new();
        for places in candidates {
            let mut own = Vec::new();
            for came_to in done.by_ref().take(self.grounds.len()) {
                own.extend(came_to?);
            }
            tried.push((own.len() == self.grounds.len()).then(|| Tried {
                places: places.clone(),
                blocks: own,
            }));
        }
        Ok(tried)
    }

    /// `chosen` beside `given` in all their blocks from `from` on.
    fn beside(&self, given: &Tried, chosen: &Tried, from: usize) -> Beside {
        let mut differences = Vec::new();
        let (mut given_usd, mut chosen_usd) = (0.0, 0.0);
        for stratum in &self.strata {
            let seeds = f64::from(u32::try_from(stratum.len()).unwrap_or(u32::MAX));
            let mean = |of: &Tried, block: usize| {
                let all: i64 = stratum.iter().map(|load| of.blocks[*load][block]).sum();
                usd(all) / seeds
            };
            let mut own = Vec::new();
            for block in from..given.blocks[stratum[0]].len() {
                let (one, other) = (mean(given, block), mean(chosen, block));
                given_usd += one;
                chosen_usd += other;
                own.push(Pair {
                    cost: one,
                    gain: one - other,
                });
            }
            differences.push(own);
        }
        Beside {
            given_usd,
            chosen_usd,
            gain: gain::of(&differences),
        }
    }

    /// Rows of the last fold: the given policy, it as `tuned`, and the peers.
    fn records(&self, tuned: Option<&Places>) -> Result<Vec<Record>, ComparisonError> {
        let mut rows = Vec::new();
        for (scenario, ground) in self.grounds.iter().enumerate() {
            for (candidate, one) in self.plan.candidates.iter().enumerate() {
                let as_it_stands = vec![None; one.policy.dials()];
                rows.push((scenario, ground, candidate, false, as_it_stands));
                if let Some(places) = tuned.filter(|_| candidate == 0) {
                    rows.push((scenario, ground, candidate, true, places.clone()));
                }
            }
        }
        let row = |(number, (scenario, ground, candidate, tuned, places)): (
            usize,
            &(usize, &Ground, usize, bool, Places),
        )| {
            let unit = Unit {
                number: u64::try_from(number).unwrap_or(u64::MAX),
                scenario: *scenario,
                task: Task::Policy {
                    candidate: *candidate,
                    tuned: *tuned,
                },
            };
            let candidate = &self.plan.candidates[*candidate];
            self.work(ground).rows(&unit, candidate, *tuned, places)
        };
        let done: Vec<Result<Vec<Record>, ComparisonError>> = rows
            .par_iter()
            .with_max_len(1)
            .enumerate()
            .map(row)
            .collect();
        let mut records = Vec::new();
        for one in done {
            records.extend(one?);
        }
        Ok(records)
    }

    fn work<'a>(&'a self, ground: &'a Ground) -> Work<'a> {
        Work {
            plan: self.plan,
            load: &ground.load,
            state: self.state,
            progress: self.progress,
        }
    }
}

/// Where the blocks of all folds end: at ticks, but for the last.
fn cuts(load: &Load, folds: u32) -> Result<Vec<u64>, ComparisonError> {
    let step = micros_of(load.scenario.interval).max(1);
    let length = load.workload.length_micros;
    let least = step * u64::from(FOLD_TICKS_MIN) * u64::from(folds);
    if length < least {
        return Err(ComparisonError::TooShortForFolds {
            scenario: load.scenario.name.clone(),
            folds,
            length: Duration::from_micros(length),
            least: Duration::from_micros(least),
        });
    }
    let all = u128::from(folds * BLOCKS);
    let cut = |block: u32| {
        let at = u128::from(length) * u128::from(block) / all;
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        if u128::from(block) == all {
            length
        } else {
            at - at % step
        }
    };
    Ok((1..=folds * BLOCKS).map(cut).collect())
}

fn blocks_of(folds: u32) -> usize {
    usize::try_from(folds * BLOCKS).unwrap_or(usize::MAX)
}

/// How many of the folds that are searched each rung reaches over: one, then
/// twice as many each time.
fn reaches(folds: u32) -> Vec<u32> {
    let doubled = std::iter::successors(Some(1_u32), |reach| reach.checked_mul(2));
    let mut reaches: Vec<u32> = doubled.take_while(|reach| *reach < folds).collect();
    reaches.push(folds);
    reaches
}

fn course(rungs: usize) -> Course {
    let mut kept = Vec::new();
    let mut going = FIRST + 1;
    for _ in 1..rungs {
        going = (going / SHARE_KEPT).max(KEPT_MIN);
        kept.push(going);
    }
    Course {
        first: FIRST,
        kept,
        around: AROUND,
    }
}

/// About how much work it all is, in parts of runs.
fn parts(plan: &Plan, course: &Course, reaches: &[u32], folds: u32) -> u64 {
    let dials = plan.candidates[0].policy.dials();
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let tries = course.tries(dials);
    let rungs = tries.iter().zip(reaches);
    let searched: u64 = rungs
        .map(|(tries, reach)| wide(*tries) * u64::from(*reach))
        .sum();
    let back = wide(dials) * u64::from(folds - 1);
    let along = |dials: usize| match dials {
        0 => 0,
        _ => u64::from(plan.options.frontier_points),
    };
    let peers = plan.candidates.iter().map(|one| one.policy.dials());
    let shown: u64 = peers.chain([dials]).map(|dials| 1 + along(dials)).sum();
    let folds = u64::from(folds);
    let each = RUN * (searched + back) / folds + RUN * (2 + shown);
    each * wide(plan.loads())
}

/// The loads that differ in their seeds alone, together.
fn strata(grounds: &[Ground]) -> Vec<Vec<usize>> {
    let mut strata: Vec<Vec<usize>> = Vec::new();
    for (place, ground) in grounds.iter().enumerate() {
        let same = |other: &&mut Vec<usize>| {
            let (one, other) = (&ground.load.stage, &grounds[other[0]].load.stage);
            (&one.scenario, &one.trace) == (&other.scenario, &other.trace)
        };
        match strata.iter_mut().find(same) {
            Some(stratum) => stratum.push(place),
            None => strata.push(vec![place]),
        }
    }
    strata
}

/// Millionths of dollars as dollars.
fn usd(micros: i64) -> f64 {
    let whole = millionths(micros.unsigned_abs());
    if micros < 0 { -whole } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_reach_further_until_all_folds_but_the_last_are_searched() {
        for (folds, expected) in [
            (1, vec![1]),
            (2, vec![1, 2]),
            (4, vec![1, 2, 4]),
            (6, vec![1, 2, 4, 6]),
        ] {
            assert_eq!(reaches(folds), expected);
        }
        assert_eq!(course(3).kept, [16, 6]);
        assert_eq!(course(4).kept, [16, 6, 6]);
        assert!(course(1).kept.is_empty());
    }

    #[test]
    fn money_keeps_its_sign() {
        assert_eq!((usd(1_500_000), usd(-250_000)), (1.5, -0.25));
    }
}
