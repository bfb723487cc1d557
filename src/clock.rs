//! The system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

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
