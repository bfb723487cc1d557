//! Policies beside one another on several loads: what their runs came to, put
//! together to rows, tables and a page.
//!
//! Everything a comparison is made of is a [`Record`]. Records can be made in
//! any order and on any machine; put in the order of their units, they come to
//! the same rows, and the same bytes.

mod frontier;
mod page;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::queue::ratio;
use crate::score::Quantiles;
use crate::stretch::Stretch;

pub use frontier::{Point, cost_at, undominated};
pub use page::{Opening, html, html_after};

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A policy, as it is or as it was tuned: a row of its own.
    Result,
    /// The same with its main knob elsewhere: a point of that row's frontier.
    Frontier,
    /// What no policy can beat on this load.
    Bound,
}

impl What {
    /// All of them, and their words in files.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("result", Self::Result),
        ("frontier", Self::Frontier),
        ("bound", Self::Bound),
    ];

    /// Its word in files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Frontier => "frontier",
            Self::Bound => "bound",
        }
    }
}

/// A load that policies are compared on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    /// The scenario's name.
    pub scenario: String,
    /// The trace's file name.
    pub trace: String,
    /// What the streams grew from.
    pub seed: u64,
}

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The unit of work it came of, in the order of the comparison.
    pub unit: u64,
    /// What it is of.
    pub what: What,
    /// On which load.
    pub stage: Stage,
    /// The policy's name; empty for a bound.
    pub policy: String,
    /// Whether its knobs were searched.
    pub tuned: bool,
    /// The knobs that were turned: `name=value` of each, `; ` between them.
    pub knobs: String,
    /// What waiting costs, in dollars per job and hour.
    pub usd_per_job_hour_waiting: f64,
    /// Where the part that is scored begins, in seconds.
    pub scored_from_secs: f64,
    /// What it came to; not of a bound.
    pub figures: Option<Figures>,
    /// What is known about the least it can come to; only of a bound.
    pub limits: Option<Limits>,
}

/// What is known about the least that a load can cost, in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// What no policy can go below, instances and waiting together.
    pub bound_usd: f64,
    /// What the instances of a schedule made with hindsight cost.
    pub achieved_instance_usd: f64,
    /// What its waiting is worth.
    pub achieved_delay_usd: f64,
}

impl Limits {
    /// What the schedule made with hindsight comes to.
    pub fn achieved_usd(&self) -> f64 {
        self.achieved_instance_usd + self.achieved_delay_usd
    }
}

/// What the scored part came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// How long it is, in seconds.
    pub length_secs: f64,
    /// Jobs that arrived.
    pub jobs: u64,
    /// Jobs that were not finished at its end.
    pub unfinished_jobs: u64,
    /// What instances cost, in dollars.
    pub instance_usd: f64,
    /// What waiting was worth, in dollars.
    pub delay_usd: f64,
    /// Both.
    pub total_usd: f64,
    /// From arrival to the start of service.
    pub wait_secs: Quantiles,
    /// Instances launched.
    pub launches: u64,
    /// Instances ended.
    pub terminations: u64,
}

impl Figures {
    /// What `stretch` came to, in the units people ask for.
    pub fn of(stretch: &Stretch) -> Self {
        let secs = |micros: u64| millionths(micros);
        // Neither instances nor waiting ever cost less than nothing.
        let usd = |cost: windlass_policies::units::MicroUsd| millionths(cost.get().unsigned_abs());
        let wait = stretch.wait;
        Self {
            length_secs: secs(stretch.length_micros),
            jobs: stretch.jobs,
            unfinished_jobs: stretch.unfinished_jobs,
            instance_usd: usd(stretch.instance_cost),
            delay_usd: usd(stretch.delay_cost),
            total_usd: usd(stretch.total_cost()),
            wait_secs: Quantiles {
                mean: wait.mean_secs,
                p50: secs(wait.p50_micros),
                p95: secs(wait.p95_micros),
                p99: secs(wait.p99_micros),
                max: secs(wait.max_micros),
            },
            launches: stretch.launches,
            terminations: stretch.terminations,
        }
    }
}

/// Millionths as a whole one with a fraction, rounded once.
pub fn millionths(count: u64) -> f64 {
    ratio(count.into(), 1_000_000).unwrap_or(0.0)
}

/// One policy on one load: a row of the table, an object of the JSON array.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The policy's name.
    pub policy: String,
    /// The trace's file name.
    pub trace: String,
    /// The scenario's name.
    pub scenario: String,
    /// What the streams grew from.
    pub seed: u64,
    /// Whether its knobs were searched on the tuning window.
    pub tuned: bool,
    /// What the search turned, and to what.
    pub knobs: BTreeMap<String, String>,
    /// What waiting costs, per job and hour.
    pub usd_per_job_hour_waiting: f64,
    /// Where the part that is scored begins.
    pub scored_from_secs: f64,
    /// How long it is.
    pub scored_secs: f64,
    /// Jobs that arrived in it.
    pub jobs: u64,
    /// Jobs that were not finished at its end.
    pub unfinished_jobs: u64,
    /// What instances cost.
    pub instance_usd: f64,
    /// What the waiting was worth.
    pub delay_usd: f64,
    /// Both together.
    pub total_usd: f64,
    /// From arrival to the start of service; so far, for jobs still waiting.
    pub wait_secs: Quantiles,
    /// Instances launched.
    pub launches: u64,
    /// Instances ended.
    pub terminations: u64,
    /// What no policy can go below; null where it is not known.
    pub bound_usd: Option<f64>,
    /// What a schedule made with hindsight comes to.
    pub achieved_usd: Option<f64>,
    /// `total_usd` over `bound_usd`.
    pub ratio_to_bound: Option<f64>,
    /// The wait that instances are compared at: [`Row::usd_at_matched_wait`].
    pub matched_p95_secs: f64,
    /// What this policy's instances cost if 95 of 100 jobs wait no longer than
    /// that; null if it comes to no such wait.
    pub usd_at_matched_wait: Option<f64>,
    /// The same policy with its main knob elsewhere.
    pub frontier: Vec<FrontierPoint>,
}

/// A policy with its main knob somewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrontierPoint {
    /// The main knob and where it stands; empty where the row itself has it.
    pub knobs: BTreeMap<String, String>,
    /// What instances cost.
    pub instance_usd: f64,
    /// Instances and waiting.
    pub total_usd: f64,
    /// From arrival to the start of service.
    pub wait_secs: Quantiles,
}

/// What the bound says of one load, at one price of waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundPoint {
    /// The price, per job and hour.
    pub usd_per_job_hour_waiting: f64,
    /// What is known there.
    pub limits: Limits,
}

/// Everything about one load: its rows in the order of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Which load.
    pub stage: Stage,
    /// One for each policy, and one for each that was tuned.
    pub rows: Vec<Row>,
    /// The bound at several prices of waiting, the cheapest first.
    pub bounds: Vec<BoundPoint>,
}

/// Puts `records` together; the order of their units does not matter. Waits are
/// matched at `at_p95_secs`, or at the p95 of whoever has the lowest total on
/// each load.
pub fn sheets(records: &[Record], at_p95_secs: Option<f64>) -> Vec<Sheet> {
    let mut ordered: Vec<&Record> = records.iter().collect();
    // Within a unit the order is that of its making, which is always the same.
    ordered.sort_by_key(|record| record.unit);
    let mut sheets: Vec<(Stage, Vec<&Record>)> = Vec::new();
    for record in ordered {
        match sheets.iter_mut().find(|(stage, _)| *stage == record.stage) {
            Some((_, own)) => own.push(record),
            None => sheets.push((record.stage.clone(), vec![record])),
        }
    }
    let sheet = |(stage, own): (Stage, Vec<&Record>)| sheet(stage, &own, at_p95_secs);
    sheets.into_iter().map(sheet).collect()
}

fn sheet(stage: Stage, records: &[&Record], at_p95_secs: Option<f64>) -> Sheet {
    let of = |what| records.iter().filter(move |record| record.what == what);
    let mut bounds: Vec<BoundPoint> = of(What::Bound).filter_map(|one| bound_point(one)).collect();
    let price = |point: &BoundPoint| point.usd_per_job_hour_waiting;
    bounds.sort_by(|one, other| price(one).total_cmp(&price(other)));
    let results = of(What::Result).filter_map(|record| record.figures);
    // Of equals the first.
    let best = results.min_by(|one, other| one.total_usd.total_cmp(&other.total_usd));
    let matched = at_p95_secs.or(best.map(|figures| figures.wait_secs.p95));
    let row = |record: &&Record| {
        let own = of(What::Frontier).filter(|point| point.unit == record.unit);
        let points = own.filter_map(|point| frontier_point(point)).collect();
        row(record, points, &bounds, matched.unwrap_or(0.0))
    };
    let rows = of(What::Result).filter_map(row).collect();
    Sheet {
        stage,
        rows,
        bounds,
    }
}

fn bound_point(record: &Record) -> Option<BoundPoint> {
    Some(BoundPoint {
        usd_per_job_hour_waiting: record.usd_per_job_hour_waiting,
        limits: record.limits?,
    })
}

fn frontier_point(record: &Record) -> Option<FrontierPoint> {
    let figures = record.figures?;
    Some(FrontierPoint {
        knobs: knobs(&record.knobs),
        instance_usd: figures.instance_usd,
        total_usd: figures.total_usd,
        wait_secs: figures.wait_secs,
    })
}

fn row(
    record: &Record,
    frontier: Vec<FrontierPoint>,
    bounds: &[BoundPoint],
    matched_p95_secs: f64,
) -> Option<Row> {
    let figures = record.figures?;
    let price = record.usd_per_job_hour_waiting;
    let same = |point: &&BoundPoint| point.usd_per_job_hour_waiting.total_cmp(&price).is_eq();
    let bound = bounds.iter().find(same);
    let bound_usd = bound.map(|point| point.limits.bound_usd);
    let itself = Point::of(&figures);
    let mut points: Vec<Point> = frontier.iter().map(Point::of_frontier).collect();
    points.push(itself);
    Some(Row {
        policy: record.policy.clone(),
        trace: record.stage.trace.clone(),
        scenario: record.stage.scenario.clone(),
        seed: record.stage.seed,
        tuned: record.tuned,
        knobs: knobs(&record.knobs),
        usd_per_job_hour_waiting: price,
        scored_from_secs: record.scored_from_secs,
        scored_secs: figures.length_secs,
        jobs: figures.jobs,
        unfinished_jobs: figures.unfinished_jobs,
        instance_usd: figures.instance_usd,
        delay_usd: figures.delay_usd,
        total_usd: figures.total_usd,
        wait_secs: figures.wait_secs,
        launches: figures.launches,
        terminations: figures.terminations,
        bound_usd,
        achieved_usd: bound.map(|point| point.limits.achieved_usd()),
        ratio_to_bound: bound_usd
            .filter(|bound| *bound > 0.0)
            .map(|bound| figures.total_usd / bound),
        matched_p95_secs,
        usd_at_matched_wait: cost_at(&points, matched_p95_secs),
        frontier,
    })
}

fn knobs(told: &str) -> BTreeMap<String, String> {
    let each = told.split("; ").filter_map(|one| one.split_once('='));
    each.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The rows of all `sheets` as a JSON array, with a line break at the end.
pub fn to_json(sheets: &[Sheet]) -> String {
    let rows: Vec<&Row> = sheets.iter().flat_map(|sheet| &sheet.rows).collect();
    let mut json = serde_json::to_string_pretty(&rows).expect("rows are plain data");
    json.push('\n');
    json
}
