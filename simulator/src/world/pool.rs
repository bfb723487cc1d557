//! The pools that instances come from: whether there is capacity, what is paid
//! for already, how many calls are allowed, and what is kept warm.

use std::collections::{BTreeSet, VecDeque};

use windlass_policies::units::{MICROS_PER_SEC, Meter, MicroUsdPerHour};

use super::cloud::{BucketSpec, CapacitySpec, PoolSpec, WarmPoolSpec};
use super::price::PriceCourse;
use crate::distribution::Distribution;
use crate::random::Stream;

/// One offering's pool as it stands.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) spec: PoolSpec,
    pub(super) boots: Stream,
    pub(super) waves: Stream,
    capacity: Option<Spells>,
    /// A wave has left it without capacity until then.
    pub(super) dry_until: u64,
    pub(super) alive: u32,
    prepaid: u32,
    /// Instances that run on what is paid for already.
    covered: u32,
    /// Places of the others, oldest first; kept only if anything is prepaid.
    uncovered: BTreeSet<usize>,
}

impl Pool {
    pub(super) fn new(name: &str, prepaid: u32, spec: PoolSpec, seed: u64) -> Self {
        let stream = |purpose: &str| Stream::new(seed, &format!("{purpose} {name}"));
        Self {
            boots: stream("boot"),
            waves: stream("interruption"),
            capacity: spec
                .capacity
                .map(|spec| Spells::new(spec, stream("capacity"))),
            dry_until: 0,
            alive: 0,
            prepaid,
            covered: 0,
            uncovered: BTreeSet::new(),
            spec,
        }
    }

    /// How many of `count` instances there are to be had at `now`.
    pub(super) fn room(&mut self, count: u32, now: u64) -> u32 {
        let up = self
            .capacity
            .as_mut()
            .is_none_or(|spells| spells.up_at(now));
        if !up || now < self.dry_until {
            return 0;
        }
        let most = self.spec.instances_max.unwrap_or(u32::MAX);
        count.min(most.saturating_sub(self.alive))
    }

    /// Takes in the instance at `place`; whether it is paid for already.
    pub(super) fn enter(&mut self, place: usize) -> bool {
        self.alive += 1;
        if self.covered < self.prepaid {
            self.covered += 1;
            return true;
        }
        if self.prepaid > 0 {
            self.uncovered.insert(place);
        }
        false
    }

    /// Lets the instance at `place` go. What was paid for it passes to the
    /// oldest that is not paid for: its place.
    pub(super) fn leave(&mut self, place: usize, covered: bool) -> Option<usize> {
        self.alive -= 1;
        if !covered {
            self.uncovered.remove(&place);
            return None;
        }
        let heir = self.uncovered.pop_first();
        self.covered -= u32::from(heir.is_none());
        heir
    }

    /// There is capacity from now on.
    pub(super) fn calm(&mut self) {
        self.capacity = None;
        self.dry_until = 0;
    }

    /// Time until the next wave, if waves come.
    pub(super) fn wave_gap(&mut self) -> Option<u64> {
        let every = self.spec.interruption?.every;
        Some(exponential(&mut self.waves, every))
    }
}

/// At least a microsecond, so that time always passes.
pub(super) fn exponential(stream: &mut Stream, mean: std::time::Duration) -> u64 {
    Distribution::exponential(mean).map_or(u64::MAX, |spans| spans.sample_micros(stream).max(1))
}

/// Spells with and without, in turn.
#[derive(Debug)]
struct Spells {
    spec: CapacitySpec,
    stream: Stream,
    up: bool,
    until: u64,
}

impl Spells {
    fn new(spec: CapacitySpec, mut stream: Stream) -> Self {
        let until = exponential(&mut stream, spec.up);
        Self {
            spec,
            stream,
            up: true,
            until,
        }
    }

    /// Whether there is capacity at `now`, which never runs backwards.
    fn up_at(&mut self, now: u64) -> bool {
        while self.until <= now {
            self.up = !self.up;
            let mean = if self.up {
                self.spec.up
            } else {
                self.spec.down
            };
            let length = exponential(&mut self.stream, mean);
            self.until = self.until.saturating_add(length);
        }
        self.up
    }
}

/// A bucket of tokens. Counts millionths, so that nothing is lost between calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    spec: BucketSpec,
    millionths: u64,
    at: u64,
}

impl Bucket {
    pub(super) fn new(spec: BucketSpec) -> Self {
        Self {
            spec,
            millionths: u64::from(spec.size) * MICROS_PER_SEC,
            at: 0,
        }
    }

    /// Takes `tokens` at `now`, if there are so many.
    pub(super) fn take(&mut self, tokens: u32, now: u64) -> bool {
        let full = u64::from(self.spec.size) * MICROS_PER_SEC;
        let back = (now - self.at).saturating_mul(u64::from(self.spec.per_sec));
        self.millionths = self.millionths.saturating_add(back).min(full);
        self.at = now;
        let needed = u64::from(tokens) * MICROS_PER_SEC;
        let enough = needed <= self.millionths;
        self.millionths -= if enough { needed } else { 0 };
        enough
    }
}

/// Stopped instances and those that are being made ready to be stopped.
#[derive(Debug)]
pub(super) struct WarmPool {
    pub(super) spec: WarmPoolSpec,
    starts: Stream,
    boots: Stream,
    stopped: u32,
    /// When those that boot to fill it up again are done; sorted.
    filling: VecDeque<u64>,
    at: u64,
    meter: Meter,
}

impl WarmPool {
    pub(super) fn new(spec: WarmPoolSpec, seed: u64) -> Self {
        Self {
            spec,
            starts: Stream::new(seed, "warm start"),
            boots: Stream::new(seed, "warm boot"),
            stopped: spec.size,
            filling: VecDeque::new(),
            at: 0,
            meter: Meter::default(),
        }
    }

    /// Brings the count and the bill up to `now`.
    fn catch_up(&mut self, now: u64) {
        while let Some(done) = self.filling.front().copied().filter(|done| *done <= now) {
            self.charge(done);
            self.filling.pop_front();
            self.stopped += 1;
        }
        self.charge(now);
    }

    fn charge(&mut self, to: u64) {
        let span = to.saturating_sub(self.at);
        let all = u128::from(span) * u128::from(self.stopped);
        self.meter.add_wide(self.spec.price, all);
        self.at = self.at.max(to);
    }

    /// Takes one out at `now`, if there is one: how long it takes to start. The
    /// one that replaces it boots first, at the prices of `course`, or `price`.
    pub(super) fn take(
        &mut self,
        now: u64,
        price: MicroUsdPerHour,
        course: Option<&PriceCourse>,
    ) -> Option<u64> {
        self.catch_up(now);
        self.stopped = self.stopped.checked_sub(1)?;
        let boot = self.spec.boot.sample_micros(&mut self.boots);
        let done = now.saturating_add(boot);
        match course {
            Some(course) => course.charge(&mut self.meter, now, done),
            None => self.meter.add(price, boot),
        }
        let before = self.filling.partition_point(|other| *other <= done);
        self.filling.insert(before, done);
        Some(self.spec.start.sample_micros(&mut self.starts))
    }

    /// What it has cost up to `now`.
    pub(super) fn bill(&self, now: u64) -> Meter {
        let mut meter = self.meter;
        let mut at = self.at;
        let mut stopped = self.stopped;
        for done in self.filling.iter().filter(|done| **done <= now) {
            meter.add_wide(self.spec.price, u128::from(done - at) * u128::from(stopped));
            (at, stopped) = (*done, stopped + 1);
        }
        let rest = u128::from(now.saturating_sub(at)) * u128::from(stopped);
        meter.add_wide(self.spec.price, rest);
        meter
    }
}
