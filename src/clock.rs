//! The system's clock.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windlass_policies::ports::Clock;
use windlass_policies::units::{Timestamp, micros_of};

/// What time it is. The one place that asks the system.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the clock comes from"
)]
pub fn now() -> Timestamp {
    // A clock before 1970 is a broken clock; zero is as good as any of its times.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(micros_of(since))
}

/// The system's clock as a fleet needs it: it never goes back, not even when
/// somebody sets the system's clock, and not behind the fleet's history.
#[derive(Debug)]
pub struct SystemClock(Cell<Timestamp>);

impl SystemClock {
    /// A clock that gives no time before `not_before`.
    pub fn new(not_before: Option<Timestamp>) -> Self {
        Self(Cell::new(not_before.unwrap_or_default()))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let time = self.0.get().max(now());
        self.0.set(time);
        time
    }
}

/// The longest time by which a shared listing may be older than the cycle that
/// uses it.
const SLACK_MAX: Duration = Duration::from_secs(10);

/// When the cycle in hand of a fleet came due.
///
/// Fleets whose cycles came due together share what is listed since then, however
/// long their machine takes to get to the last of them: one listing for each tick,
/// not one for each moment in which somebody asks.
#[derive(Debug, Default)]
pub struct Due {
    at: Cell<Option<Timestamp>>,
    slack: Duration,
}

impl Due {
    /// No cycle yet, of a fleet that has one every `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            at: Cell::new(None),
            slack: (interval / 4).min(SLACK_MAX),
        }
    }

    /// The cycle in hand came due at `at`.
    pub fn set(&self, at: Timestamp) {
        self.at.set(Some(at));
    }

    /// What was listed before this is too old for the cycle in hand. A quarter of
    /// the interval before it came due is not, but 10 s are: fleets that are
    /// nudged one after the other share a listing too. `now` is when it came due
    /// if nobody has said so.
    pub fn listed_since(&self, now: Timestamp) -> Timestamp {
        self.at.get().unwrap_or(now) - self.slack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let before = now();
        let clock = SystemClock::new(None);
        let first = clock.now();
        assert!(first >= before && clock.now() >= first);

        let future = Timestamp::from_micros(before.micros() + 3_600_000_000);
        let clock = SystemClock::new(Some(future));
        assert_eq!(clock.now(), future, "the history is ahead of the clock");
    }
}
