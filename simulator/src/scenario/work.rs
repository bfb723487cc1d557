//! The tables of a scenario that say what kinds of jobs there are, and how
//! they are served: `[workload.class.NAME]` and `[workload.sharing]`.

use std::time::Duration;

use windlass_policies::fields::Fields;
use windlass_policies::units::MicroUsdPerHour;

use super::{TraceFile, read_distribution};
use crate::distribution::Distribution;
use crate::queue::LatencyCurve;
use crate::workload::OTHER;

/// The most classes: beyond that nobody reads their results.
const CLASSES_MAX: usize = 64;

/// The highest priority.
const PRIORITY_MAX: u32 = 1_000;

/// The most points of a latency curve.
const POINTS_MAX: usize = 64;

/// One kind of jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSpec {
    /// What it is called, and what the trace's column `class` has.
    pub name: String,
    /// Higher goes first.
    pub priority: u32,
    /// What one of its jobs waiting for an hour costs; the objective's, if not given.
    pub price: Option<MicroUsdPerHour>,
    /// Service times in place of the trace's.
    pub service: Option<Distribution>,
    /// A trace of its own.
    pub trace: Option<TraceFile>,
    /// How many slots that keeps busy on average, if no job waits.
    pub busy_mean: Option<f64>,
}

/// `[workload.class.NAME]`.
pub(super) fn read_classes(
    fields: &mut Fields<'_>,
    place: &impl Fn(&str) -> TraceFile,
) -> Vec<ClassSpec> {
    if !fields.has("class") {
        fields.raw("class");
        return Vec::new();
    }
    let classes = fields.named_tables("class", |name, fields| {
        let trace = fields.optional::<String>("trace");
        let busy_mean = fields.optional::<f64>("busy_mean");
        if busy_mean.is_some_and(|busy| !(busy > 0.0 && busy.is_finite())) {
            fields.problem(
                "busy_mean",
                "write a number of busy slots above 0, such as 20.0",
            );
        }
        if busy_mean.is_some() && trace.is_none() {
            fields.problem("busy_mean", "means nothing without a trace of its own");
        }
        if name == OTHER && (trace.is_some() || fields.has("service")) {
            fields.problem_here("is every job without a table; it has a priority and a price only");
        }
        Some(ClassSpec {
            name: name.to_owned(),
            priority: fields.or_within("priority", 0, 0..=PRIORITY_MAX),
            price: fields.optional("usd_per_job_hour_waiting"),
            service: fields.table("service", read_distribution),
            trace: trace.map(|trace| place(&trace)),
            busy_mean,
        })
    });
    if classes.len() > CLASSES_MAX {
        fields.problem("class", format!("more than {CLASSES_MAX} classes"));
    }
    classes
}

/// `server`, and the curve of `[workload.sharing]`.
pub(super) fn read_server(fields: &mut Fields<'_>) -> Option<LatencyCurve> {
    let sharing = fields.word("server", &[("queue", false), ("processor_sharing", true)]);
    let points = fields.tables("latency_curve", |fields| {
        let load = fields.required_within("load", "sessions over slots, such as 0.8", 0.0..=1e6);
        let slowdown = fields.required_within(
            "slowdown",
            "how much longer a session takes, such as 1.5",
            1.0..=1e6,
        );
        Some((millionths(load?), millionths(slowdown?)))
    });
    if sharing != Some(true) {
        if fields.has("latency_curve") {
            fields.problem(
                "latency_curve",
                "means nothing without server = \"processor_sharing\"",
            );
        }
        return None;
    }
    if points.len() > POINTS_MAX {
        fields.problem("latency_curve", format!("more than {POINTS_MAX} points"));
    }
    LatencyCurve::new(points)
        .map_err(|why| fields.problem("latency_curve", why))
        .ok()
}

/// To the nearest; what comes in is at most a million.
fn millionths(number: f64) -> u64 {
    let span = Duration::try_from_secs_f64(number).unwrap_or_default();
    u64::try_from((span.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX)
}
