//! What a cycle needs of the world: a clock, metrics, a fleet and a store.
//!
//! The daemon, the simulator, the fault tests and the replay differ only in
//! what stands behind these four traits. They are used with static dispatch on
//! one thread, so futures need not be `Send`.

use crate::memory::Memory;
use crate::model::{Action, Decision, Epoch, FleetError, Listing, Observation, Outcome, Reason};
use crate::quote::Quotes;
use crate::signal::{Readings, SignalSpec};
use crate::units::Timestamp;

use serde::{Deserialize, Serialize};

/// What time it is.
pub trait Clock {
    /// Now. Never earlier than the time it gave before.
    fn now(&self) -> Timestamp;
}

/// Where readings come from.
#[expect(async_fn_in_trait, reason = "used on one thread with static dispatch")]
pub trait MetricSource {
    /// One reading per signal of `signals`. Never fails as a whole: what
    /// cannot be read is absent, with the reason.
    async fn read(&self, signals: &[SignalSpec], now: Timestamp) -> Readings;
}

/// What owns the instances of a fleet.
#[expect(async_fn_in_trait, reason = "used on one thread with static dispatch")]
pub trait FleetProvider {
    /// All instances of `fleet`, sorted by id.
    ///
    /// # Errors
    /// Why there is no listing; the cycle then changes nothing.
    async fn list(&self, fleet: &str) -> Result<Listing, FleetError>;

    /// Does `action`, or finds that it was done before. An epoch older than
    /// one seen before is refused with [`FleetError::StaleEpoch`].
    async fn apply(&self, fleet: &str, epoch: Epoch, action: &Action) -> Outcome;

    /// What offerings cost now whose price moves, as far as that is known
    /// without waiting for an answer; none, where prices stand still.
    fn prices(&self) -> Quotes {
        Quotes::new()
    }
}

/// Where decisions and outcomes are written down.
pub trait Store {
    /// Writes `record` so that it survives a crash right after this returns.
    ///
    /// # Errors
    /// If it could not be made durable. Nothing may be changed then.
    fn append(&self, fleet: &str, record: &Record) -> Result<(), StoreError>;

    /// Whether anybody can ever read what is written. If not, a cycle puts no
    /// record together; it decides and acts just the same.
    fn is_read(&self) -> bool {
        true
    }

    /// The newest decision of `fleet` and everything that was written after
    /// it, oldest first; empty if there is none. Enough to rebuild the memory.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn tail(&self, fleet: &str) -> Result<Vec<Record>, StoreError>;
}

/// One line of a fleet's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A decision, written before anything is done.
    Decided(Box<Decided>),
    /// An action that follows from another's outcome within a cycle (a fenced,
    /// idle instance is ended; what one offering did not grant is asked of
    /// another), written before it is done.
    Planned {
        /// The cycle it belongs to.
        cycle: u64,
        /// What is to be done.
        action: Action,
        /// Why, where that is not plain: [`Reason::BoughtElsewhere`]. An end
        /// says itself what it follows from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Reason>,
    },
    /// An action's outcome.
    Acted {
        /// The cycle it belongs to.
        cycle: u64,
        /// When the answer came.
        at: Timestamp,
        /// What was asked.
        action: Action,
        /// What came of it.
        outcome: Outcome,
    },
}

/// Everything a decision was made of: deciding again gives the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// The memory before the decision.
    pub memory: Memory,
    /// What was seen.
    pub seen: Observation,
    /// What was decided.
    pub decision: Decision,
    /// Which configuration of the fleet decided ([`crate::spec::FleetSpec::fingerprint`]).
    pub spec: String,
}

/// The store did not do what it must.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A write is not durable: change nothing until one is.
    #[error("cannot write to the store")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The history cannot be read.
    #[error("cannot read the store")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}
