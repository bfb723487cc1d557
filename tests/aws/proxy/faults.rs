//! What goes wrong, and when: ordered by a test for the next calls, or drawn from
//! a seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use windlass_simulator::random::Stream;

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server never sees it; the connection breaks.
    LoseRequest,
    /// The server does it; the connection breaks before the answer.
    LoseAnswer,
    /// The answer comes so much later.
    Delay(Duration),
    /// Refused for the rate of requests.
    Throttle,
    /// Refused with an internal error, 500.
    Unavailable,
    /// Refused with this code, for who asks.
    Deny(&'static str),
    /// A listing tells what an earlier one told.
    Stale,
    /// The answer breaks off in its middle, and says that this is all of it.
    Cut,
}

/// A call meets `fault` in so many of a thousand cases.
#[derive(Clone, Debug)]
struct Chance {
    /// By [`Call::name`](super::call::Call::name).
    call: &'static str,
    fault: Fault,
    per_mille: u64,
}

/// Which requests meet which fault.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    ordered: BTreeMap<String, VecDeque<Fault>>,
    chances: Vec<Chance>,
    /// One per kind of call, so that one more call of one kind shifts nothing
    /// for the others.
    streams: BTreeMap<String, Stream>,
    bucket: Option<Bucket>,
}

/// Requests are let through by a token bucket, as EC2 does it.
#[derive(Debug)]
struct Bucket {
    burst: f64,
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            ordered: BTreeMap::new(),
            chances: Vec::new(),
            streams: BTreeMap::new(),
            bucket: None,
        }
    }

    /// The next `count` calls of that name meet `fault`.
    pub(crate) fn order(&mut self, call: &str, fault: Fault, count: usize) {
        let queue = self.ordered.entry(call.to_owned()).or_default();
        queue.extend(std::iter::repeat_n(fault, count));
    }

    /// From now on such calls meet `fault` in so many of a thousand cases.
    pub(crate) fn chance(&mut self, call: &'static str, fault: Fault, per_mille: u64) {
        self.chances.push(Chance {
            call,
            fault,
            per_mille,
        });
    }

    /// From now on all calls together are let through at this rate.
    pub(crate) fn throttle(&mut self, burst: f64, per_second: f64) {
        self.bucket = Some(Bucket {
            burst,
            per_second,
            level: burst,
            at: Instant::now(),
        });
    }

    /// Everything goes well from now on.
    pub(crate) fn calm(&mut self) {
        self.ordered.clear();
        self.chances.clear();
        self.bucket = None;
    }

    /// What happens to this call.
    pub(crate) fn draw(&mut self, call: &str, now: Instant) -> Option<Fault> {
        if let Some(fault) = self.ordered.get_mut(call).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        if let Some(bucket) = &mut self.bucket
            && !bucket.lets_through(now)
        {
            return Some(Fault::Throttle);
        }
        let seed = self.seed;
        let stream = self
            .streams
            .entry(call.to_owned())
            .or_insert_with(|| Stream::new(seed, call));
        // One draw per call, whatever the chances are.
        let mut drawn = stream.below(1000);
        for chance in self.chances.iter().filter(|chance| chance.call == call) {
            if drawn < chance.per_mille {
                return Some(chance.fault);
            }
            drawn -= chance.per_mille;
        }
        None
    }
}

impl Bucket {
    fn lets_through(&mut self, now: Instant) -> bool {
        let past = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + past * self.per_second).min(self.burst);
        self.at = now;
        let enough = self.level >= 1.0;
        if enough {
            self.level -= 1.0;
        }
        enough
    }
}
