//! `[fleet.NAME.simulated]`: a cloud inside windlass.

use std::path::Path;

use windlass_policies::fields::Fields;
use windlass_simulator::scenario::{BUILT_IN, Scenario};

use crate::chain;

/// Beyond this a simulated minute is shorter than a cycle takes.
const SPEED_MAX: u32 = 100_000;

/// A fleet in a simulated cloud.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulated {
    /// The world.
    pub scenario: Box<Scenario>,
    /// How many times faster than real time it runs.
    pub speed: u32,
}

/// Reads the table; a scenario's path is relative to `folder`.
pub(super) fn read(simulated: &mut Fields<'_>, folder: &Path) -> Option<Simulated> {
    let what = "a scenario file, or one that is built in, such as \"builtin:web-week\"";
    let scenario = simulated.required::<String>("scenario", what);
    let speed = simulated.or_within("speed", 1, 1..=SPEED_MAX);
    let name = scenario?;
    if name.is_empty() {
        simulated.problem("scenario", format!("is empty; write {what}"));
        return None;
    }
    let opened = if name.starts_with(BUILT_IN) {
        Scenario::open(&name)
    } else {
        Scenario::open_file(&folder.join(&name))
    };
    match opened {
        Ok(scenario) => Some(Simulated {
            scenario: Box::new(scenario),
            speed,
        }),
        Err(error) => {
            simulated.problem("scenario", chain(&error).to_string());
            None
        }
    }
}
