//! What the world promises, in tables; and that it agrees with the plainest
//! event loop in every number.

#![expect(
    clippy::cast_precision_loss,
    reason = "numbers in these tests are small"
)]

mod agreement;
mod cloud;
mod feedback;
mod reference;
mod tables;

use windlass_policies::model::{Epoch, LaunchToken};
use windlass_policies::signal::{SignalKind, SignalSpec, standard};

use std::time::Duration;

const FLEET: &str = "web";

fn token(serial: u32) -> LaunchToken {
    LaunchToken::new("store", FLEET, Epoch(1), 1, serial)
}

fn signals() -> Vec<SignalSpec> {
    [
        standard::BACKLOG,
        standard::IN_FLIGHT,
        standard::ARRIVALS,
        standard::COMPLETIONS,
        standard::OLDEST_AGE,
        standard::BUSY,
        standard::UTILIZATION,
        standard::LATENCY_P95,
    ]
    .map(|name| SignalSpec {
        name: name.to_owned(),
        kind: SignalKind::of_standard(name).expect("a standard signal"),
        max_age: Duration::from_mins(5),
    })
    .into()
}
