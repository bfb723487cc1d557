//! The search and the check, piece by piece, so that whoever pays for the
//! processor can rest in between.

use std::ops::ControlFlow;
use std::time::Duration;

use windlass_policies::spec::FleetSpec;
use windlass_policies::units::{MICROS_PER_HOUR, MicroUsd, Timestamp, micros_of};

use super::field::{Own, Policy, field};
use super::{
    BLOCKS_UNSEEN, Following, Found, GainTold, LIKE_PERCENT, Load, Look, Recorded, Report,
    Settings, Verdict,
};
use crate::distribution::Distribution;
use crate::gain::{self, Gain, Pair};
use crate::queue::LatencyCurve;
use crate::random::Stream;
use crate::scenario::{Cloud, Scenario, ScenarioOffering, TraceFile};
use crate::stretch::{self, Block, Interrupted};
use crate::trace::Trace;
use crate::tune::{Places, RADII, around, even};
use crate::workload::{Workload, WorkloadSpec};
use crate::world::cloud::{FaultSpec, PoolSpec};

/// At so many places of its knobs, beside as it stands, the policy in force and
/// the fleet's own are tried first.
const FIRST_OWN: usize = 7;

/// And each of the others.
const FIRST_OTHERS: usize = 3;

/// So many of all go on to all but the last fold.
const KEPT: usize = 8;

/// So many are tried around the best of these, twice.
const AROUND: usize = 3;

/// What random numbers grow from: the same for all policies and at all times.
const SEED: u64 = 1;

const DAY_MICROS: u64 = 24 * MICROS_PER_HOUR;

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The fleet under the policy of its own file.
    pub spec: &'a FleetSpec,
    /// That policy.
    pub own: &'a Own,
    /// What is followed instead, if anything is.
    pub following: Option<&'a Following>,
    /// What was recorded, oldest first.
    pub looks: &'a [Look],
    /// What to go by.
    pub settings: &'a Settings,
}

/// It was not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Whether another policy would surely have cost less. After each piece of work,
/// some milliseconds long, `rest` is asked whether to go on.
///
/// The same input gives the same report, on every machine.
///
/// # Errors
/// [`Stopped`], if `rest` says so.
pub fn judge(
    input: Input<'_>,
    rest: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Report, Stopped> {
    let ground = match Ground::of(input, rest) {
        Ok(ground) => ground,
        Err(why) => return Ok(unfit(input, why)),
    };
    let mut judge = Judge {
        ground,
        rest,
        tried: 1,
    };
    let given = judge.run_in_force()?;
    let verdict = match judge.ground.unlike(&given) {
        Some(unlike) => unlike,
        None => judge.search(&given)?,
    };
    Ok(judge.ground.report(&given, judge.tried, verdict))
}

/// Whether what is followed is worse than the policy of the file since it was
/// chosen: by more than the margin, replayed over what has come since; or, if it
/// really cost so much more than its replay that this tells nothing, worse than
/// was thought of it. `None` if nothing is followed, or not for long enough.
///
/// # Errors
/// [`Stopped`], if `rest` says so.
pub fn look_back(
    input: Input<'_>,
    rest: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Report>, Stopped> {
    let Some(following) = input.following else {
        return Ok(None);
    };
    let Ok(mut ground) = Ground::of(input, rest) else {
        return Ok(None);
    };
    let begins = ground.recorded.begins_at;
    let from = micros_of(following.since.since(begins));
    let step = ground.recorded.step_micros;
    let end = ground.recorded.length_micros();
    let from = from.next_multiple_of(step);
    let enough = micros_of(input.settings.history_min) / LOOK_BACK_SHARE;
    if end < from.saturating_add(enough.max(step * u64::from(BLOCKS_UNSEEN))) {
        return Ok(None);
    }
    ground.cuts = std::iter::once(from)
        .filter(|from| *from > 0)
        .chain(even_cuts(from, end, step, BLOCKS_UNSEEN))
        .collect();
    ground.unseen = usize::try_from(BLOCKS_UNSEEN).unwrap_or(usize::MAX);
    let mut judge = Judge {
        ground,
        rest,
        tried: 2,
    };
    let given = judge.run_in_force()?;
    if let Some(unlike) = judge.ground.unlike(&given) {
        let verdict = dearer_than_thought(following, unlike);
        return Ok(Some(judge.ground.report(&given, 1, verdict)));
    }
    let own = judge.run(&Tried::at_file(judge.ground.own_place(), &judge.ground))?;
    let Some(own) = own else { return Ok(None) };
    let first = judge.ground.cuts.len() - judge.ground.unseen;
    let gain = beside(&given, &own, first..judge.ground.cuts.len());
    let told = judge.ground.gain_told(&given, &gain);
    let margin = f64::from(input.settings.margin_percent) / 100.0;
    let worse = gain.usd > margin * usd(given.cost(first..given.blocks.len()));
    let why = format!(
        "since {} {} was followed; {} would have cost {told}",
        following.since, following.found, input.own.name
    );
    let verdict = if worse {
        Verdict::Worse { why }
    } else {
        Verdict::Best
    };
    Ok(Some(judge.ground.report(&given, 2, verdict)))
}

/// What is followed was chosen by replays. If it costs more than those say, they
/// were no ground to choose it.
fn dearer_than_thought(following: &Following, unlike: Verdict) -> Verdict {
    match unlike {
        Verdict::Unlike {
            replayed_usd,
            recorded_usd,
        } if recorded_usd > replayed_usd => Verdict::Worse {
            why: format!(
                "since {} {} was followed, and it cost ${recorded_usd:.2} where the replay that it was \
                 chosen by says ${replayed_usd:.2}",
                following.since, following.found
            ),
        },
        other => other,
    }
}

/// What is followed is looked back at once it has been for this part of the
/// least history: six hours of three days.
const LOOK_BACK_SHARE: u64 = 12;

fn unfit(input: Input<'_>, why: String) -> Report {
    Report {
        at: input.looks.last().map_or(Timestamp::EPOCH, |look| look.at),
        in_force: in_force(input),
        load: None,
        tried: 0,
        verdict: Verdict::Unfit { why },
    }
}

fn in_force(input: Input<'_>) -> String {
    match input.following {
        Some(following) => following.found.to_string(),
        None => input.own.name.clone(),
    }
}

/// A load, its world, and who is tried in it.
struct Ground<'a> {
    input: Input<'a>,
    recorded: Recorded,
    scenario: Scenario,
    workload: Workload,
    field: Vec<Policy>,
    /// Where blocks end.
    cuts: Vec<u64>,
    /// How many of the last are the fold that the search never sees.
    unseen: usize,
}

impl<'a> Ground<'a> {
    fn of(input: Input<'a>, rest: &mut dyn FnMut() -> ControlFlow<()>) -> Result<Self, String> {
        let field = field(input.spec, input.own, input.following)?;
        let recorded = Recorded::of(input.looks, input.spec, input.settings)
            .map_err(|unfit| unfit.to_string())?;
        let (scenario, workload) = world(&recorded, input.spec)?;
        // Making jobs is a piece of work too; if it is to stop, the first run does.
        let _later = rest();
        let (cuts, unseen) = cuts(&recorded);
        Ok(Self {
            input,
            recorded,
            scenario,
            workload,
            field,
            cuts,
            unseen,
        })
    }

    /// Where the policy of the fleet's own file is in the field.
    fn own_place(&self) -> usize {
        self.field.iter().position(|one| one.own).unwrap_or(0)
    }

    /// Whether the replay comes to what was recorded, as far as the policy in
    /// force decided: in whole blocks, the first apart.
    fn unlike(&self, given: &Run) -> Option<Verdict> {
        let in_force = match self.input.following {
            Some(following) => following.spec(self.input.spec).fingerprint(),
            None => self.input.spec.fingerprint(),
        };
        let since = self.recorded.decided_from(&in_force);
        let Some(since) = since.filter(|since| self.cuts.iter().any(|cut| cut >= since)) else {
            let why =
                "the configuration was changed a moment ago: the policy in force has not decided \
                       for long enough"
                    .to_owned();
            return Some(Verdict::Unfit { why });
        };
        let first = self.cuts.iter().position(|cut| *cut >= since)? + 1;
        if first >= self.cuts.len() {
            let why = "the policy in force has not decided for long enough: the configuration was \
                       changed since"
                .to_owned();
            return Some(Verdict::Unfit { why });
        }
        let replayed = given.cost(first..given.blocks.len());
        let recorded = self.recorded.came_to(self.input.spec, self.cuts[first - 1]);
        let off = (replayed.get() - recorded.get()).unsigned_abs();
        let most = recorded.get().max(0).unsigned_abs() * u64::from(LIKE_PERCENT) / 100;
        (off > most).then(|| Verdict::Unlike {
            replayed_usd: usd(replayed),
            recorded_usd: usd(recorded),
        })
    }

    fn gain_told(&self, given: &Run, gain: &Gain) -> GainTold {
        let first = self.cuts.len() - self.unseen;
        let from = first.checked_sub(1).map_or(0, |before| self.cuts[before]);
        let days = days(self.recorded.length_micros() - from);
        GainTold {
            days,
            given_usd_per_day: usd(given.cost(first..given.blocks.len())) / days,
            usd_per_day: gain.usd / days,
            low_usd_per_day: gain.low_usd / days,
            high_usd_per_day: gain.high_usd / days,
        }
    }

    fn report(&self, given: &Run, tried: usize, verdict: Verdict) -> Report {
        let recorded = &self.recorded;
        let length = recorded.length_micros();
        let to = recorded.begins_at + Duration::from_micros(length);
        Report {
            at: to,
            in_force: in_force(self.input),
            load: Some(Load {
                from: recorded.begins_at,
                to,
                jobs: recorded.jobs(),
                service_secs: recorded.service.as_secs_f64(),
                boot_secs: recorded.boot.as_secs_f64(),
                boot_seen: recorded.boot_seen,
                usd_per_day: usd(given.cost(0..given.blocks.len())) / days(length),
            }),
            tried,
            verdict,
        }
    }
}

/// The simulated world that the record tells of, and its jobs.
fn world(recorded: &Recorded, spec: &FleetSpec) -> Result<(Scenario, Workload), String> {
    let refused = |error: &dyn std::fmt::Display| format!("the record makes no load: {error}");
    let service =
        Distribution::exponential(recorded.service).map_err(|error| refused(&error.why))?;
    let boot = Distribution::constant(recorded.boot).map_err(|error| refused(&error.why))?;
    let offering = &spec.offerings[0];
    let scenario = Scenario {
        name: spec.name.clone(),
        trace: TraceFile::Embedded(spec.name.clone()),
        begins_at: recorded.begins_at,
        workload: WorkloadSpec {
            service: Some(service),
            slots_per_instance: offering.slots,
            ..WorkloadSpec::default()
        },
        cloud: Cloud {
            boot,
            price: offering.price,
            billing: offering.billing,
            listing_lag: Duration::ZERO,
            metric_period: Duration::ZERO,
            metric_lag: recorded.lag,
        },
        interval: spec.interval,
        initial: recorded.initial.min(spec.limits.max),
        min: spec.limits.min,
        max: spec.limits.max,
        mix: spec.mix,
        spot: spec.spot,
        objective: spec.objective,
        seed: SEED,
        offerings: spec
            .offerings
            .iter()
            .map(|offering| ScenarioOffering {
                offering: offering.clone(),
                pool: PoolSpec::default(),
            })
            .collect(),
        faults: FaultSpec::default(),
        warm_pool: None,
        classes: Vec::new(),
        skip_bad: 0,
        sharing: None::<LatencyCurve>,
    };
    let trace = Trace::of_counts(&spec.name, recorded.step_micros, recorded.counts.clone());
    let trace = trace.map_err(|error| refused(&error))?;
    let workload = scenario.build_workload(&trace);
    let workload = workload.map_err(|error| match &error {
        crate::scenario::ScenarioError::Workload { source, .. } => refused(source),
        other => refused(other),
    })?;
    // All runs make this very world: if it cannot be made, it is said here.
    let world = scenario.world(&spec.name, &workload, &spec.signals, false);
    world.map_err(|error| refused(&error))?;
    Ok((scenario, workload))
}

/// Where the blocks of a record end, and how many of the last are never
/// searched. Blocks are of equal length, but for the first, which has the rest.
fn cuts(recorded: &Recorded) -> (Vec<u64>, usize) {
    let (step, length) = (recorded.step_micros, recorded.length_micros());
    let unseen = (length / 5).max(DAY_MICROS.min(length / 3));
    let block = (unseen / u64::from(BLOCKS_UNSEEN) / step * step).max(step);
    let count = length / block;
    let cuts = (0..count).rev().map(|before| length - before * block);
    let unseen = usize::try_from(BLOCKS_UNSEEN).unwrap_or(usize::MAX);
    (cuts.collect(), unseen)
}

/// Where `count` blocks of about equal length between `from` and `end` end.
fn even_cuts(from: u64, end: u64, step: u64, count: u32) -> impl Iterator<Item = u64> {
    let steps = (end - from) / step;
    (1..=u64::from(count)).map(move |number| {
        if number == u64::from(count) {
            end
        } else {
            from + steps * number / u64::from(count) * step
        }
    })
}

/// A setting of one of the field.
#[derive(Clone, Debug, PartialEq)]
struct Tried {
    place: usize,
    places: Places,
}

impl Tried {
    fn at_file(place: usize, ground: &Ground<'_>) -> Self {
        Self {
            place,
            places: vec![None; ground.field[place].dials()],
        }
    }
}

/// What a setting came to in the blocks it was run through.
#[derive(Clone, Debug)]
struct Run {
    tried: Tried,
    blocks: Vec<MicroUsd>,
}

impl Run {
    fn cost(&self, blocks: std::ops::Range<usize>) -> MicroUsd {
        let each = self.blocks[blocks].iter();
        each.fold(MicroUsd::ZERO, |sum, block| sum + *block)
    }
}

/// How much less `other` costs than `given` in `blocks`.
fn beside(given: &Run, other: &Run, blocks: std::ops::Range<usize>) -> Gain {
    let pairs = blocks.map(|block| {
        let (one, two) = (usd(given.blocks[block]), usd(other.blocks[block]));
        Pair {
            cost: one,
            gain: one - two,
        }
    });
    gain::of(&[pairs.collect()])
}

struct Judge<'a, 'r> {
    ground: Ground<'a>,
    rest: &'r mut dyn FnMut() -> ControlFlow<()>,
    tried: usize,
}

impl Judge<'_, '_> {
    /// The policy in force through all blocks. It is the first of the field.
    fn run_in_force(&mut self) -> Result<Run, Stopped> {
        let tried = Tried::at_file(0, &self.ground);
        let run = self.run(&tried)?;
        Ok(
            run.expect(
                "the fleet's own policy was checked with it, and what is followed was tried",
            ),
        )
    }

    /// `tried` through all blocks; `None` if it makes no policy.
    fn run(&mut self, tried: &Tried) -> Result<Option<Run>, Stopped> {
        self.run_to(tried, self.ground.cuts.len())
    }

    /// `tried` through the first so many blocks.
    fn run_to(&mut self, tried: &Tried, blocks: usize) -> Result<Option<Run>, Stopped> {
        let ground = &self.ground;
        let policy = &ground.field[tried.place];
        let Some(spec) = policy.spec(ground.input.spec, &tried.places) else {
            return Ok(None);
        };
        let cuts = &ground.cuts[..blocks];
        let rest = &mut *self.rest;
        let came_to =
            stretch::blocks_in_pieces(&ground.scenario, &ground.workload, &spec, cuts, rest);
        match came_to {
            Ok(blocks) => Ok(Some(Run {
                tried: tried.clone(),
                blocks: blocks.iter().map(Block::total_cost).collect(),
            })),
            Err(Interrupted::Stopped) => Err(Stopped),
            // The world does not depend on the policy, so the policy in force has failed
            // in it too.
            Err(Interrupted::Failed(_)) => Ok(None),
        }
    }

    fn search(&mut self, given: &Run) -> Result<Verdict, Stopped> {
        let searched = self.ground.cuts.len() - self.ground.unseen;
        if searched < 2 {
            return Ok(Verdict::Best);
        }
        let finals = self.finals(given, searched)?;
        let chosen = self.nearest(&finals, searched);
        if chosen.tried == given.tried {
            return Ok(Verdict::Best);
        }
        let policy = &self.ground.field[chosen.tried.place];
        let found = policy.found(self.ground.input.spec, &chosen.tried.places);
        let (Some(found), Some(whole)) = (found, self.run(&chosen.tried)?) else {
            return Ok(Verdict::Best);
        };
        Ok(self.check(given, &whole, found))
    }

    /// What was tried on all folds but the last: the policy in force first, then
    /// that of the file.
    fn finals(&mut self, given: &Run, searched: usize) -> Result<Vec<Run>, Stopped> {
        let mut stream = Stream::new(SEED, "tuning");
        let half = searched.div_ceil(2).max(2);
        let mut first = Vec::new();
        for tried in first_settings(&self.ground.field, &mut stream) {
            first.extend(self.run_to(&tried, half)?);
        }
        self.tried = first.len();
        first.sort_by_key(|run| run.cost(1..half));
        let mut finals = vec![Run {
            tried: given.tried.clone(),
            blocks: given.blocks[..searched].to_vec(),
        }];
        let own = Tried::at_file(self.ground.own_place(), &self.ground);
        let best = first.into_iter().map(|run| run.tried).take(KEPT);
        for tried in std::iter::once(own).chain(best) {
            if finals.iter().all(|run| run.tried != tried) {
                finals.extend(self.run_to(&tried, searched)?);
            }
        }
        for radius in RADII {
            let turned = |run: &&Run| run.tried.places.iter().any(Option::is_some);
            let best = finals.iter().filter(turned);
            let best = best.min_by_key(|run| run.cost(1..searched));
            let Some(centre) = best.map(|run| run.tried.clone()) else {
                break;
            };
            for places in around(&centre.places, radius, AROUND, &mut stream) {
                let place = centre.place;
                self.tried += 1;
                finals.extend(self.run_to(&Tried { place, places }, searched)?);
            }
        }
        Ok(finals)
    }

    /// Of those within one standard error of the best, the nearest to the policy
    /// in force: it, then that of the file, then the others in their order, each
    /// with as few knobs turned as little as may be.
    fn nearest(&self, finals: &[Run], searched: usize) -> Run {
        let blocks = 1..searched;
        let best = finals.iter().min_by_key(|run| run.cost(blocks.clone()));
        let best = best.expect("the policy in force is there");
        let within = finals.iter().filter(|run| {
            let behind = beside(run, best, blocks.clone());
            behind.usd <= behind.standard_error_usd
        });
        let ground = &self.ground;
        let far = |run: &Run| {
            let policy = &ground.field[run.tried.place];
            let (turned, way) = policy.distance(ground.input.spec, &run.tried.places);
            (run.tried.place, turned, way)
        };
        let nearest = within.min_by(|one, other| {
            let ((place, turned, way), (other_place, other_turned, other_way)) =
                (far(one), far(other));
            let by_way = (place, turned).cmp(&(other_place, other_turned));
            let by_way = by_way.then(way.total_cmp(&other_way));
            by_way.then_with(|| one.cost(blocks.clone()).cmp(&other.cost(blocks.clone())))
        });
        nearest.unwrap_or(best).clone()
    }

    /// Whether `found` surely costs less by the margin where nobody searched.
    fn check(&self, given: &Run, found_run: &Run, found: Found) -> Verdict {
        let ground = &self.ground;
        let first = ground.cuts.len() - ground.unseen;
        let gain = beside(given, found_run, first..ground.cuts.len());
        let margin = f64::from(ground.input.settings.margin_percent) / 100.0;
        let needed = margin * usd(given.cost(first..ground.cuts.len()));
        let told = ground.gain_told(given, &gain);
        if gain.low_usd > needed {
            Verdict::Better { found, gain: told }
        } else {
            Verdict::Unsure { found, gain: told }
        }
    }
}

/// What is tried first: all of the field as they stand, and at some places.
fn first_settings(field: &[Policy], stream: &mut Stream) -> Vec<Tried> {
    let mut settings = Vec::new();
    for (place, policy) in field.iter().enumerate() {
        let others = match (policy.dials(), place == 0 || policy.own) {
            (0, _) => 0,
            (_, true) => FIRST_OWN,
            (_, false) => FIRST_OTHERS,
        };
        let all =
            std::iter::once(vec![None; policy.dials()]).chain(even(policy.dials(), others, stream));
        settings.extend(all.map(|places| Tried { place, places }));
    }
    settings
}

fn usd(amount: MicroUsd) -> f64 {
    let whole = crate::comparison::millionths(amount.get().unsigned_abs());
    if amount.get() < 0 { -whole } else { whole }
}

fn days(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() / 86_400.0
}
