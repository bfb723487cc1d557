//! What is kept of each cycle for self-tuning: a few numbers, where the record
//! of the decision has everything.

use windlass_policies::model::{Phase, Work};
use windlass_policies::ports::Decided;
use windlass_policies::signal::{Completeness, standard};
use windlass_policies::units::{MicroUsd, Timestamp};

/// One cycle in short. Absent is `None`, as everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Which cycle.
    pub cycle: u64,
    /// When it was, by the fleet's clock.
    pub at: Timestamp,
    /// Which configuration decided ([`windlass_policies::spec::FleetSpec::fingerprint`]).
    pub spec: String,
    /// The instances, if the listing was complete.
    pub instances: Option<Instances>,
    /// When the counter of arrivals was read; if there is none, that of
    /// completions.
    pub counted_at: Option<Timestamp>,
    /// Jobs that have arrived, as a counter has it.
    pub arrivals: Option<f64>,
    /// Jobs that were finished, as a counter has it.
    pub completions: Option<f64>,
    /// Jobs waiting.
    pub backlog: Option<f64>,
    /// Jobs being worked on.
    pub in_flight: Option<f64>,
    /// What the fleet has cost so far.
    pub spent: MicroUsd,
}

/// A complete listing in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// Those that are not ending.
    pub alive: u32,
    /// Those of them that take jobs.
    pub ready: u32,
    /// Those of them that have a job, if all of them say.
    pub busy: Option<u32>,
    /// Those that were booting when they were last seen, and take jobs now.
    pub boots: u32,
    /// How long these booted, all together, in microseconds.
    pub boots_micros: u64,
}

impl Look {
    /// What is kept of `decided`.
    pub fn of(decided: &Decided) -> Self {
        let Decided {
            memory,
            seen,
            decision,
            spec,
        } = decided;
        let whole = |signal: &str| {
            let sample = seen.readings.sample(signal).ok()?;
            (sample.completeness == Completeness::Complete).then_some(sample)
        };
        let value = |signal: &str| whole(signal).map(|sample| sample.value);
        let counter = whole(standard::ARRIVALS).or_else(|| whole(standard::COMPLETIONS));
        let listing = seen.fleet.as_ref().ok().filter(|listing| listing.complete);
        let instances = listing.map(|listing| {
            let mut counts = Instances {
                busy: Some(0),
                ..Instances::default()
            };
            for one in &listing.instances {
                counts.alive += u32::from(one.phase != Phase::Ending);
                if one.phase == Phase::Ready {
                    counts.ready += 1;
                    counts.busy = match one.work {
                        Work::Busy => counts.busy.map(|busy| busy + 1),
                        Work::Idle => counts.busy,
                        Work::Unknown => None,
                    };
                    if memory.unready.contains_key(&one.id) {
                        counts.boots += 1;
                        let booted = seen.now.since(one.launched_at);
                        let booted = u64::try_from(booted.as_micros()).unwrap_or(u64::MAX);
                        counts.boots_micros = counts.boots_micros.saturating_add(booted);
                    }
                }
            }
            counts
        });
        Self {
            cycle: decision.cycle,
            at: seen.now,
            spec: spec.clone(),
            instances,
            counted_at: counter.map(|sample| sample.at),
            arrivals: value(standard::ARRIVALS),
            completions: value(standard::COMPLETIONS),
            backlog: value(standard::BACKLOG),
            in_flight: value(standard::IN_FLIGHT),
            spent: memory.ledger.spent(),
        }
    }
}
