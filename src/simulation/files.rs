//! What a run leaves in a folder: every tick, and every job if asked.

use std::path::Path;

use windlass_policies::model::Action;
use windlass_policies::reconcile::Cycle;
use windlass_policies::units::MICROS_PER_SEC;
use windlass_simulator::world::{JobStory, World, WorldView};

use super::SimulationError;
use super::rows::{Cell, Kind, Rows, or_absent};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Text, a line each.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// What is left where.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// In which folder; it must be there.
    pub folder: &'a Path,
    /// How ticks are written, to `POLICY.ticks.csv` or `.parquet`.
    pub ticks: FileFormat,
    /// How jobs are written, if they are, to `POLICY.jobs.csv` or `.parquet`.
    pub jobs: Option<FileFormat>,
}

const TICKS: [(&str, Kind); 19] = [
    ("t_s", Kind::Count),
    ("cycle", Kind::Count),
    ("current", Kind::Count),
    ("wish", Kind::Count),
    ("target", Kind::Count),
    ("launched", Kind::Count),
    ("ended", Kind::Count),
    ("ready", Kind::Count),
    ("booting", Kind::Count),
    ("draining", Kind::Count),
    ("backlog", Kind::Count),
    ("in_flight", Kind::Count),
    ("oldest_age_s", Kind::Micros),
    ("arrivals", Kind::Count),
    ("completions", Kind::Count),
    ("waited_job_s", Kind::Micros),
    ("instance_usd", Kind::Micros),
    ("readings", Kind::Text),
    ("why", Kind::Text),
];

const JOBS: [(&str, Kind); 6] = [
    ("arrival_s", Kind::Micros),
    ("start_s", Kind::Micros),
    ("end_s", Kind::Micros),
    ("instance", Kind::Text),
    ("class", Kind::Text),
    ("redone", Kind::Count),
];

/// The files of one run.
pub(super) struct Files {
    ticks: Rows,
    jobs: Option<Rows>,
}

impl Files {
    pub(super) fn create(out: Out<'_>, policy: &str) -> Result<Self, SimulationError> {
        let create = |kind: &str, format, columns| {
            Rows::create(out.folder, &format!("{policy}.{kind}"), format, columns)
        };
        let jobs = out.jobs.map(|format| create("jobs", format, &JOBS));
        Ok(Self {
            ticks: create("ticks", out.ticks, &TICKS)?,
            jobs: jobs.transpose()?,
        })
    }

    /// Writes a cycle, the world right after it, and the jobs that have ended.
    pub(super) fn note(&mut self, cycle: &Cycle, view: &WorldView, world: &mut World) {
        write_tick(&mut self.ticks, cycle, view);
        if let Some(jobs) = &mut self.jobs {
            world.take_jobs(|job| write_job(jobs, job));
        }
    }

    /// Writes the jobs of the world's end, and ends the files.
    pub(super) fn finish(mut self, world: &mut World) -> Result<(), SimulationError> {
        if let Some(mut jobs) = self.jobs.take() {
            world.take_jobs(|job| write_job(&mut jobs, job));
            world.unfinished_jobs(|job| write_job(&mut jobs, job));
            jobs.finish()?;
        }
        self.ticks.finish()
    }
}

fn write_tick(rows: &mut Rows, cycle: &Cycle, view: &WorldView) {
    let decision = &cycle.decision;
    let count = |length: usize| Cell::Count(u64::try_from(length).unwrap_or(u64::MAX));
    let size = |size: Option<u32>| or_absent(size, |size| Cell::Count(size.into()));
    let done = cycle.done.iter();
    let granted = done.clone().filter_map(|(_, outcome)| outcome.granted());
    let launched: u64 = granted.map(u64::from).sum();
    let ended = done.filter(|(action, _)| matches!(action, Action::Terminate { .. }));
    let readings: Vec<String> = cycle
        .seen
        .readings
        .iter()
        .map(|(name, reading)| format!("{name}={reading}"))
        .collect();
    let queue = &view.queue;
    let cells: [Cell<'_>; TICKS.len()] = [
        Cell::Count(view.at / MICROS_PER_SEC),
        Cell::Count(decision.cycle),
        size(decision.current),
        size(decision.wish),
        size(decision.target),
        Cell::Count(launched),
        count(ended.count()),
        Cell::Count(view.ready.into()),
        Cell::Count(view.booting.into()),
        Cell::Count(view.draining.into()),
        Cell::Count(queue.backlog),
        Cell::Count(queue.busy),
        Cell::Micros(queue.oldest_age),
        Cell::Count(queue.arrivals),
        Cell::Count(queue.completions),
        Cell::Micros(u64::try_from(view.waited_micros).unwrap_or(u64::MAX)),
        Cell::Micros(view.instance_cost.get().unsigned_abs()),
        Cell::Text(&readings.join(" ")),
        Cell::Text(&decision.summary()),
    ];
    rows.write(&cells);
}

fn write_job(rows: &mut Rows, job: &JobStory<'_>) {
    let cells: [Cell<'_>; JOBS.len()] = [
        Cell::Micros(job.arrival),
        or_absent(job.start, Cell::Micros),
        or_absent(job.end, Cell::Micros),
        job.instance.map_or(Cell::Absent, Cell::Text),
        job.class.map_or(Cell::Absent, Cell::Text),
        Cell::Count(job.redone.into()),
    ];
    rows.write(&cells);
}
