//! The words of one cycle: what was seen, what was decided and why, what was
//! done and how it came out.
//!
//! Everything here is plain data that can be written down and read back, so
//! that a recorded cycle can be explained and replayed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quote::Quotes;
use crate::signal::{Absence, Readings};
use crate::units::{MicroUsdPerHour, Timestamp};

/// The provider's name of one instance, such as `i-0abc...`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The instance called `id`.
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What makes a launch repeatable: asking again with the same token launches
/// nothing new. Made of the store's identity, the fleet, the epoch and the
/// cycle; at most 64 characters, as EC2's `ClientToken` demands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaunchToken(Arc<str>);

impl LaunchToken {
    /// The token of launch number `serial` of one cycle.
    pub fn new(store: &str, fleet: &str, epoch: Epoch, cycle: u64, serial: u32) -> Self {
        Self(Arc::from(format!(
            "{store}-{fleet}-{epoch}-{cycle}-{serial}"
        )))
    }

    /// The token that a provider kept as text.
    pub fn from_text(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which store made it; `None` if it is no token of windlass.
    pub fn store(&self) -> Option<&str> {
        Some(self.parts()?.0)
    }

    /// Which fleet it was made for; `None` if it is no token of windlass.
    pub fn fleet(&self) -> Option<&str> {
        Some(self.parts()?.1)
    }

    /// Store and fleet. A store has no `-` in its name, a fleet may.
    fn parts(&self) -> Option<(&str, &str)> {
        let (store, rest) = self.0.split_once('-')?;
        let mut parts = rest.rsplitn(4, '-');
        for _ in 0..3 {
            parts.next()?.parse::<u64>().ok()?;
        }
        Some((store, parts.next()?))
    }
}

impl fmt::Display for LaunchToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Which start of the daemon an action comes from. The store counts it up at
/// every start, so an older writer's actions can be told and refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// How instances are charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billing {
    /// Started increments are charged whole: one second, or one hour.
    pub increment: Duration,
    /// The least that is charged for a launch; 60 s on EC2 for Linux.
    pub minimum: Duration,
}

/// On which terms an instance is bought.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Market {
    /// At the list price, until it is ended.
    #[default]
    OnDemand,
    /// Cheaper, and the provider may take it back with a short notice.
    Spot,
}

impl Market {
    /// The word used in TOML.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
        }
    }
}

impl fmt::Display for Market {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// One thing that can be bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offering {
    /// Its name, such as `c7g.large`.
    pub name: String,
    /// What one instance costs an hour.
    pub price: MicroUsdPerHour,
    /// How it is charged.
    pub billing: Billing,
    /// Jobs one instance works on at a time; at least 1.
    pub slots: u32,
    /// On which terms it is bought.
    #[serde(default, skip_serializing_if = "is_default")]
    pub market: Market,
    /// How many of them are paid for already, whether they run or not:
    /// reserved instances and savings plans.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prepaid: u32,
}

/// Whether `value` need not be written: what a reader puts in its place is the
/// same. Records and fingerprints so stay as they were before there was such a
/// field.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where an instance stands, by the provider's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Launched, and not yet taking jobs.
    Booting,
    /// Takes jobs, unless it is fenced.
    Ready,
    /// Ended, or on its way there.
    Ending,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// It has no job.
    Idle,
    /// It has at least one job.
    Busy,
    /// It has not said. Treated as busy wherever that is the safer reading.
    Unknown,
}

/// What the provider has said about an instance's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// It is likelier than others to be taken back; no time is set.
    Rebalance {
        /// When that was said.
        at: Timestamp,
    },
    /// It is taken back.
    Interruption {
        /// When it ends; on EC2 two minutes after the notice.
        ends_at: Timestamp,
    },
}

/// One instance as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The provider's name for it.
    pub id: InstanceId,
    /// Which [`Offering`] it is, by name.
    pub offering: String,
    /// The token of the launch it came from; `None` if it carries none.
    pub token: Option<LaunchToken>,
    /// When its launch was asked for.
    pub launched_at: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it refuses new jobs because it was told to.
    pub fenced: bool,
    /// What it is doing.
    pub work: Work,
    /// Whether the provider is about to take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

/// All instances of a fleet, and whether that is really all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Sorted by id, each once.
    pub instances: Vec<Instance>,
    /// False if a page or a zone is missing.
    pub complete: bool,
}

/// What one cycle looked at. Recorded whole, so that it can be decided again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The time of the cycle.
    pub now: Timestamp,
    /// The listing, or why there is none.
    pub fleet: Result<Listing, FleetError>,
    /// One reading per signal of the fleet.
    pub readings: Readings,
    /// What offerings cost now whose price moves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prices: Quotes,
}

/// Proof that an instance may be ended: it was fenced, and then either found
/// idle or past its drain deadline. [`Action::Terminate`] cannot be made
/// without one, and only `windlass-policies` makes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct FenceReceipt {
    pub(crate) fenced_at: Timestamp,
    pub(crate) grounds: Grounds,
}

impl FenceReceipt {
    /// When the fence was confirmed.
    pub fn fenced_at(&self) -> Timestamp {
        self.fenced_at
    }

    /// Why the instance may be ended.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }
}

/// On what grounds a fenced instance may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grounds {
    /// It was idle after the fence was confirmed, so no job can be on it.
    ConfirmedIdle,
    /// It was still busy at the drain deadline that its fleet sets.
    PastDeadline,
    /// It never became ready, so it never had a job.
    NeverReady,
}

/// One thing to do to a fleet. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Launch up to `count` instances, unless `token` was used before.
    Launch {
        /// Makes it repeatable.
        token: LaunchToken,
        /// What to launch, by [`Offering`] name.
        offering: String,
        /// How many.
        count: u32,
    },
    /// Tell a worker to take no new jobs.
    Fence {
        /// Which one.
        instance: InstanceId,
    },
    /// Tell a fenced worker to take jobs again.
    Unfence {
        /// Which one.
        instance: InstanceId,
    },
    /// End one named instance.
    Terminate {
        /// Which one.
        instance: InstanceId,
        /// Why that kills no job.
        receipt: FenceReceipt,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launch {
                token,
                offering,
                count,
            } => {
                write!(out, "launch {count} {offering} ({token})")
            }
            Self::Fence { instance } => write!(out, "fence {instance}"),
            Self::Unfence { instance } => write!(out, "unfence {instance}"),
            Self::Terminate { instance, receipt } => match receipt.grounds {
                Grounds::ConfirmedIdle => write!(out, "end {instance}, fenced and idle"),
                Grounds::PastDeadline => write!(out, "end {instance}, past its drain deadline"),
                Grounds::NeverReady => write!(out, "end {instance}, which never became ready"),
            },
        }
    }
}

/// How an action came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A launch was accepted; these instances exist or are about to, perhaps
    /// fewer than asked for.
    Launched {
        /// Their names.
        instances: Vec<InstanceId>,
    },
    /// A launch was accepted, and whoever owns the instances gives them their
    /// names later: an Auto Scaling group, for example.
    Granted {
        /// How many are to come, perhaps fewer than asked for.
        count: u32,
    },
    /// The worker takes no new jobs from now on, and this is what it is doing.
    Fenced {
        /// What it had in hand when it confirmed.
        work: Work,
    },
    /// The worker takes jobs again.
    Unfenced,
    /// The instance is ending.
    Terminated,
    /// Nothing was sent: the daemon only rehearses.
    Rehearsed,
    /// It did not happen, or nobody knows: the error says which.
    Failed(FleetError),
}

impl Outcome {
    /// How many instances a launch was granted; `None` if this is no grant.
    pub fn granted(&self) -> Option<u32> {
        match self {
            Self::Launched { instances } => {
                Some(u32::try_from(instances.len()).unwrap_or(u32::MAX))
            }
            Self::Granted { count } => Some(*count),
            Self::Fenced { .. }
            | Self::Unfenced
            | Self::Terminated
            | Self::Rehearsed
            | Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launched { instances } => write!(out, "{} launched", instances.len()),
            Self::Granted { count } => write!(out, "{count} to come"),
            Self::Fenced { work: Work::Idle } => out.write_str("fenced, idle"),
            Self::Fenced { work: Work::Busy } => out.write_str("fenced, busy"),
            Self::Fenced {
                work: Work::Unknown,
            } => out.write_str("fenced, work unknown"),
            Self::Unfenced => out.write_str("takes jobs again"),
            Self::Terminated => out.write_str("ending"),
            Self::Rehearsed => out.write_str("not sent, only rehearsed"),
            Self::Failed(error) => error.fmt(out),
        }
    }
}

/// What went wrong at a fleet provider, named by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FleetError {
    /// Ask less often; it did not happen.
    #[error("throttled")]
    Throttled,
    /// Buy elsewhere or later; it did not happen.
    #[error("no capacity")]
    NoCapacity,
    /// Nobody could be asked, or nobody answered a question: ask again; it did
    /// not happen.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The named thing is not there.
    #[error("not found")]
    NotFound,
    /// A person must grant a permission; it did not happen.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// A person must raise a limit; it did not happen.
    #[error("limit reached: {0}")]
    LimitReached(String),
    /// The request is wrong and will stay wrong; it did not happen.
    #[error("rejected: {0}")]
    Rejected(String),
    /// What owns the instances is busy with them; ask again later. It did not
    /// happen.
    #[error("held: {0}")]
    Held(String),
    /// Another writer has taken this fleet over; stop.
    #[error("refused: a newer epoch acts on this fleet")]
    StaleEpoch,
    /// It may have happened: count it as done until a listing says otherwise.
    #[error("answer lost: {0}")]
    Unknown(String),
}

/// What one policy asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// This many instances, booting ones included.
    Instances(u32),
    /// No opinion: the input it needs is absent.
    Abstain(Absence),
}

/// A policy's wish and the sentence that explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The policy's name: its `kind`, or what its file calls it.
    pub policy: String,
    /// What it asks for.
    pub wish: Wish,
    /// Why, with the numbers it read.
    pub why: String,
}

/// Which way a fleet is moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More instances.
    Grow,
    /// Fewer instances.
    Shrink,
}

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
        })
    }
}

/// Why the target is not simply what was wished, in the order the pipeline
/// came upon it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The fleet could not be listed completely, so nothing is changed.
    Blind {
        /// What was missing.
        why: String,
    },
    /// After a start, nothing is changed until the picture is corroborated.
    Observing {
        /// Complete listings in a row so far, this one included.
        listings: u32,
        /// How many it takes.
        needed: u32,
    },
    /// The largest wish won.
    Followed {
        /// Whose wish it was.
        policy: String,
    },
    /// Every policy abstained.
    AllAbstained,
    /// A policy abstained, so the fleet may grow but not shrink.
    ShrinkNeedsEveryReading {
        /// Who abstained.
        policy: String,
    },
    /// The wish was below the configured minimum.
    RaisedToMin {
        /// The minimum.
        min: u32,
    },
    /// The wish was above the configured maximum.
    CutToMax {
        /// The maximum.
        max: u32,
    },
    /// The wish would cost more than the fleet may spend.
    CutBySpend {
        /// The most instances the money pays for.
        affordable: u32,
        /// The most the fleet may cost.
        cap: MicroUsdPerHour,
    },
    /// The change was larger than one cycle may make.
    CutToStep {
        /// Which way.
        direction: Direction,
        /// The largest change per cycle.
        step: u32,
    },
    /// A recent change must show its effect first.
    Settling {
        /// Which way it would have gone.
        direction: Direction,
        /// When it may.
        until: Timestamp,
    },
    /// Too large a share of the fleet was ended in the last hour.
    CutByShare {
        /// How many ended instances an hour the share allows.
        allowed: u32,
        /// How many were ended within the last hour.
        ended: u32,
    },
    /// Launches have produced no ready workers, so no more are launched, but
    /// for one probe at a time.
    BreakerOpen {
        /// Launched instances that never became ready.
        fruitless: u32,
        /// Whether this cycle launches the probe.
        probing: bool,
    },
    /// Instances that never became ready in time are ended.
    BootFailed {
        /// How many.
        count: u32,
    },
    /// Draining instances were put back to work instead of buying new ones.
    Rescued {
        /// How many.
        count: u32,
    },
    /// A launch whose answer was lost is asked for again with its own token.
    AskedAgain {
        /// Which launch.
        token: LaunchToken,
    },
    /// Launches without an answer may not have happened, so nothing is let go
    /// in their favour.
    Unanswered {
        /// How many instances those launches were for.
        count: u32,
    },
    /// An offering is asked for less than its price alone would have it,
    /// because it refused something or took it back of late.
    OfferingAvoided {
        /// Which one.
        offering: String,
        /// How many are asked of it in this cycle.
        asked: u32,
        /// What share of what is asked of it is granted and kept, in percent.
        granted_percent: u32,
    },
    /// What one offering did not grant was asked of another in the same cycle.
    BoughtElsewhere {
        /// How many were not granted.
        missing: u32,
        /// By which offering.
        of: String,
        /// How many were asked for instead.
        count: u32,
        /// Of which offering.
        instead: String,
    },
    /// Instances are taken back by the provider: they are no capacity any more.
    Interrupted {
        /// How many.
        count: u32,
    },
    /// The provider recommends to replace instances: others are bought first.
    Rebalancing {
        /// How many.
        count: u32,
    },
    /// Instances that another store launched are let go.
    StraysLetGo {
        /// How many in this cycle.
        count: u32,
    },
    /// The decision would have broken an invariant: a bug in windlass. Nothing
    /// of it is done.
    Refused {
        /// What was wrong with it.
        violations: Vec<String>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blind { why } => write!(out, "blind, so nothing changes: {why}"),
            Self::Observing { listings, needed } => write!(
                out,
                "only observing after the start: complete listing {listings} of {needed}"
            ),
            Self::Followed { policy } => write!(out, "following {policy}"),
            Self::AllAbstained => out.write_str("every policy abstained, so the fleet is held"),
            Self::ShrinkNeedsEveryReading { policy } => {
                write!(out, "not shrinking while {policy} abstains")
            }
            Self::RaisedToMin { min } => write!(out, "raised to min {min}"),
            Self::CutToMax { max } => write!(out, "cut to max {max}"),
            Self::CutBySpend { affordable, cap } => {
                write!(out, "cut to {affordable}, what ${cap} an hour pays for")
            }
            Self::CutToStep { direction, step } => {
                write!(out, "cut to a step of {step} ({direction})")
            }
            Self::Settling { direction, until } => {
                write!(out, "settling: no {direction} before {until}")
            }
            Self::CutByShare { allowed, ended } => {
                write!(out, "{ended} ended within the hour of {allowed} allowed")
            }
            Self::BreakerOpen {
                fruitless,
                probing: true,
            } => write!(
                out,
                "breaker open: {fruitless} launched instances never became ready; probing with one"
            ),
            Self::BreakerOpen {
                fruitless,
                probing: false,
            } => write!(
                out,
                "breaker open: {fruitless} launched instances never became ready; launching nothing"
            ),
            Self::BootFailed { count } => write!(out, "{count} never became ready in time"),
            Self::Rescued { count } => write!(out, "{count} rescued from draining"),
            Self::AskedAgain { token } => write!(out, "asking again for {token}"),
            Self::Unanswered { count } => write!(
                out,
                "{count} launched without an answer, and nothing is let go for those"
            ),
            Self::OfferingAvoided {
                offering,
                asked,
                granted_percent,
            } => write!(
                out,
                "only {asked} asked of {offering}, which grants and keeps {granted_percent} % of late"
            ),
            Self::BoughtElsewhere {
                missing,
                of,
                count,
                instead,
            } => write!(
                out,
                "{missing} not granted by {of}, so {count} asked of {instead}"
            ),
            Self::Interrupted { count } => {
                write!(out, "{count} taken back by the provider, and let go")
            }
            Self::Rebalancing { count } => write!(
                out,
                "{count} likely to be taken back, and let go once replaced"
            ),
            Self::StraysLetGo { count } => {
                write!(out, "{count} launched by another store, and let go")
            }
            Self::Refused { violations } => {
                write!(
                    out,
                    "refused by the audit, please report: {}",
                    violations.join("; ")
                )
            }
        }
    }
}

/// What one cycle decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Which start of the daemon decided.
    pub epoch: Epoch,
    /// Which cycle of this fleet it was, counted over all starts from 1.
    pub cycle: u64,
    /// When.
    pub at: Timestamp,
    /// Instances that count as capacity: serving, booting, and launched but
    /// not yet listed. Draining ones do not count. `None` when blind.
    pub current: Option<u32>,
    /// What each policy asked for.
    pub proposals: Vec<Proposal>,
    /// The combined wish before the governor; `None` if all abstained.
    pub wish: Option<u32>,
    /// What the fleet is to have after this cycle's actions; equal to
    /// `current` when it is held, `None` when blind.
    pub target: Option<u32>,
    /// What shaped the target, in order.
    pub reasons: Vec<Reason>,
    /// What is to be done now.
    pub actions: Vec<Action>,
}

impl Decision {
    /// The decision in one line: sizes, what each policy said, what shaped it.
    pub fn summary(&self) -> String {
        let size = |count: Option<u32>| count.map_or("?".to_owned(), |count| count.to_string());
        let sizes = if self.current == self.target {
            format!("hold {}", size(self.current))
        } else {
            format!("{} -> {}", size(self.current), size(self.target))
        };
        let said = self.proposals.iter().map(|proposal| match &proposal.wish {
            Wish::Instances(count) => {
                format!("{} wants {count}: {}", proposal.policy, proposal.why)
            }
            Wish::Abstain(_) => format!("{} abstains: {}", proposal.policy, proposal.why),
        });
        // With one policy it goes without saying whom the fleet follows.
        let obvious = self.proposals.len() == 1;
        let shaped = self
            .reasons
            .iter()
            .filter(|reason| !(obvious && matches!(reason, Reason::Followed { .. })))
            .map(ToString::to_string);
        let parts: Vec<String> = std::iter::once(sizes).chain(said).chain(shaped).collect();
        parts.join("; ")
    }
}
