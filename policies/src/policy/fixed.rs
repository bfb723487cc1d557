//! `kind = "fixed"`: always the same number of instances.
//!
//! `wish = instances`. It reads nothing and never abstains, so beside other
//! policies it is a floor.

use serde::{Deserialize, Serialize};

use super::Opinion;

/// Always the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// How many instances.
    pub instances: u32,
}

impl Fixed {
    pub(super) fn opinion(self) -> Opinion {
        Opinion::instances(self.instances, format!("fixed at {}", self.instances))
    }
}
