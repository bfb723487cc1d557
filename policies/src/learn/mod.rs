//! What is estimated from what was seen: how many jobs come, how long they
//! take, how long instances boot, how long demand stays away.
//!
//! Everything here is plain data of bounded size that is written down with the
//! memory and read back, bit for bit. Functions come from `libm`, so that the
//! same inputs give the same estimates on every machine.

mod arrivals;
mod boot;
mod hold;
mod normal;
mod promise;
mod season;
mod service;
mod skill;
mod spending;
mod spikes;

pub use arrivals::{Arrivals, Bin, Level};
pub use boot::BootTimes;
pub use hold::{Holds, Shortage};
pub use normal::waiting_factor;
pub use promise::Promise;
pub use season::Season;
pub use service::ServiceTimes;
pub use skill::{Rates, Skill};
pub use spending::{Needs, Seen, Spending};
pub use spikes::{Spike, Spikes};

use std::time::Duration;

/// A count as a number; exact up to 2^32, and that for anything above.
pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Seconds between two points in time.
pub(crate) fn secs(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// `number`, or `otherwise` if it is NaN or infinite.
pub(crate) fn sound(number: f64, otherwise: f64) -> f64 {
    if number.is_finite() {
        number
    } else {
        otherwise
    }
}
