//! Readings as a metrics service has them: taken on a grid, seen later.

use std::collections::VecDeque;

use windlass_policies::signal::{Absence, Reading, standard};
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use super::cloud::FaultSpec;
use crate::distribution::Distribution;
use crate::queue::{Server, Snapshot, quantile, ratio};
use crate::random::Stream;

/// When samples are taken and when they can be read, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Samples are taken at the multiples of it; 0 takes one at every read.
    pub(super) period: u64,
    /// How long after that they can be read.
    pub(super) lag: u64,
}

/// The world at one moment, and since the sample before it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: u64,
    seen: Snapshot,
    /// Busy and ready slot-microseconds since the sample before.
    busy_micros: u128,
    ready_micros: u128,
    /// Of the jobs finished since the sample before, in microseconds.
    latency_p95: Option<u64>,
    /// What comes on top of the lag of all.
    delay: u64,
}

/// What goes wrong with samples.
#[derive(Debug)]
struct Trouble {
    gaps: f64,
    gap_draws: Stream,
    delay: Option<Distribution>,
    delay_draws: Stream,
}

/// All samples that can still be read.
#[derive(Debug)]
pub(super) struct Metrics {
    schedule: Schedule,
    /// Whether latencies are measured at all.
    latency: bool,
    /// Oldest first. The newest that can be read is kept, and all after it.
    samples: VecDeque<Sample>,
    /// The snapshot of the newest sample, and when it was.
    last: Option<(u64, Snapshot)>,
    trouble: Option<Trouble>,
}

impl Metrics {
    pub(super) fn new(schedule: Schedule, latency: bool, faults: &FaultSpec, seed: u64) -> Self {
        let troubled = faults.metric_gaps > 0.0 || faults.metric_delay.is_some();
        Self {
            trouble: troubled.then(|| Trouble {
                gaps: faults.metric_gaps,
                gap_draws: Stream::new(seed, "metric gaps"),
                delay: faults.metric_delay,
                delay_draws: Stream::new(seed, "metric delay"),
            }),
            schedule,
            latency,
            samples: VecDeque::new(),
            last: None,
        }
    }

    /// When the next sample is due; `None` if reads take them.
    pub(super) fn due(&self) -> Option<u64> {
        match (self.schedule.period, self.last) {
            (0, _) => None,
            (_, None) => Some(0),
            (period, Some((at, _))) => Some(at.saturating_add(period)),
        }
    }

    /// Takes a sample of `queue` as it is, unless there is one of this moment.
    pub(super) fn sample(&mut self, queue: &mut Server) {
        let at = queue.now();
        if self.last.is_some_and(|(last, _)| last == at) {
            return;
        }
        let seen = queue.snapshot();
        let before = self
            .last
            .map_or_else(Snapshot::default, |(_, before)| before);
        let latency_p95 = quantile(&mut queue.take_finished(), 95);
        self.last = Some((at, seen));
        let (mut lost, mut delay) = (false, 0);
        if let Some(trouble) = &mut self.trouble {
            lost = trouble.gaps > 0.0 && trouble.gap_draws.uniform() < trouble.gaps;
            let drawn = |delay: &Distribution| delay.sample_micros(&mut trouble.delay_draws);
            delay = trouble.delay.as_ref().map_or(0, drawn);
        }
        if lost {
            return;
        }
        self.samples.push_back(Sample {
            at,
            seen,
            busy_micros: seen.busy_micros - before.busy_micros,
            ready_micros: seen.ready_micros - before.ready_micros,
            latency_p95,
            delay,
        });
        // What is hidden behind a newer readable sample is never read again.
        while self
            .samples
            .get(1)
            .is_some_and(|next| self.readable(next, at))
        {
            self.samples.pop_front();
        }
    }

    /// Whether reads take the samples.
    pub(super) fn sampled_at_reads(&self) -> bool {
        self.schedule.period == 0
    }

    /// The reading of the signal `name` at `now`; world time 0 is `begins_at`.
    pub(super) fn reading(&self, name: &str, now: u64, begins_at: Timestamp) -> Reading {
        let known = match name {
            standard::BACKLOG
            | standard::IN_FLIGHT
            | standard::ARRIVALS
            | standard::COMPLETIONS
            | standard::OLDEST_AGE
            | standard::BUSY
            | standard::UTILIZATION => true,
            standard::LATENCY_P95 => self.latency,
            _ => false,
        };
        if !known {
            return Reading::Absent(Absence::NoSource);
        }
        let newest = self
            .samples
            .iter()
            .rev()
            .find(|sample| self.readable(sample, now));
        let Some(sample) = newest else {
            return Reading::Absent(Absence::NoData);
        };
        let at = Timestamp::from_micros(begins_at.micros().saturating_add(sample.at));
        sample
            .value(name)
            .map_or(Reading::Absent(Absence::NoData), |value| {
                Reading::complete(value, at)
            })
    }

    fn readable(&self, sample: &Sample, now: u64) -> bool {
        let lag = self.schedule.lag.saturating_add(sample.delay);
        sample.at.saturating_add(lag) <= now
    }
}

impl Sample {
    /// Counts as they are, times in seconds. `None` if there is none at this
    /// moment, such as the utilization of no slots.
    fn value(&self, name: &str) -> Option<f64> {
        let count = |number: u64| ratio(u128::from(number), 1);
        let secs = |micros: u64| ratio(u128::from(micros), u128::from(MICROS_PER_SEC));
        match name {
            standard::BACKLOG => count(self.seen.backlog),
            standard::IN_FLIGHT | standard::BUSY => count(self.seen.busy),
            standard::ARRIVALS => count(self.seen.arrivals),
            standard::COMPLETIONS => count(self.seen.completions),
            standard::OLDEST_AGE => secs(self.seen.oldest_age),
            standard::UTILIZATION => ratio(self.busy_micros, self.ready_micros),
            standard::LATENCY_P95 => self.latency_p95.and_then(secs),
            _ => None,
        }
    }
}
