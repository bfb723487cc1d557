//! The rules that say how many instances a fleet should have.
//!
//! One file per rule. Each is a pure function of what is seen: it proposes a
//! number of instances, or abstains because a reading it needs is absent.

use serde::{Deserialize, Serialize};

use crate::model::{Proposal, Wish};
use crate::signal::{Absence, Readings};
use crate::units::Timestamp;

/// What a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The time of the cycle.
    pub now: Timestamp,
    /// Checked readings: stale ones are absent already.
    pub readings: &'a Readings,
    /// Instances that count as capacity: serving, booting, launched but not
    /// yet listed.
    pub current: u32,
    /// Instances that take jobs now.
    pub ready: u32,
    /// Jobs one instance works on at a time.
    pub slots: u32,
}

/// A policy and the name it goes by in decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedPolicy {
    /// The name: its `kind`, unless its table sets `name`.
    pub name: String,
    /// The rule.
    pub policy: Policy,
}

/// One of the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Policy {}
