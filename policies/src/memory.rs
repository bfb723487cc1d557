//! What a fleet's controller remembers from cycle to cycle.

use serde::{Deserialize, Serialize};

/// Everything that is remembered. Rebuilt from the store after a crash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {}
