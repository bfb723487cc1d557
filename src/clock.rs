//! The system's clock.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

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
