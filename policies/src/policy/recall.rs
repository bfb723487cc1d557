//! What policies remember from cycle to cycle.
//!
//! Most rules look at the moment alone. The peers ([`super::peers`]) decide at
//! periods of their own, count points of a metric, or wait out windows, as the
//! systems they stand for do: each keeps notes. The economic policy keeps what
//! it has learnt. Both are plain data of bounded size. [`crate::memory::Memory::look`] lets a policy take its notes
//! once a cycle, so that a restart repeats them from the store's records.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::peers::{Notes, Peer};
use super::{NamedPolicy, Opinion, Policy, View, economic};
use crate::model::Wish;
use crate::signal::Absence;
use crate::units::Timestamp;

/// Since when an instance has been what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// When it was first seen taking jobs.
    pub ready: Timestamp,
    /// Since when it has been seen without a job; `None` while it has one, or
    /// does not say.
    pub idle: Option<Timestamp>,
}

/// For how long an instance has been what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// For how long it has been seen taking jobs.
    pub ready_for: Duration,
    /// For how long it has been seen without a job; `None` if it has one, or
    /// does not say.
    pub idle_for: Option<Duration>,
}

impl Since {
    /// The same as spans that end `now`.
    pub fn until(self, now: Timestamp) -> Life {
        Life {
            ready_for: now.since(self.ready),
            idle_for: self.idle.map(|since| now.since(since)),
        }
    }
}

/// What one policy remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// The rule's own notes; `None` before it first looked.
    notes: Option<Notes>,
    /// What an economic rule has learnt; `None` before it first looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learnt: Option<Box<economic::State>>,
    /// What it last decided at a period of its own, which stands until the next.
    standing: Option<Opinion>,
    /// What it said last, and when.
    said: Option<(Timestamp, Opinion)>,
}

impl Recall {
    /// What was said in the cycle of `now`.
    pub(super) fn said_at(&self, now: Timestamp) -> Option<&Opinion> {
        let (at, opinion) = self.said.as_ref()?;
        (*at == now).then_some(opinion)
    }
}

impl NamedPolicy {
    /// Whether the rule keeps notes, and must be shown every cycle.
    pub fn remembers(&self) -> bool {
        match self.policy {
            Policy::Peer(_) | Policy::Economic(_) => true,
            Policy::Fixed(_)
            | Policy::Schedule(_)
            | Policy::QueueBacklog(_)
            | Policy::TargetTracking(_)
            | Policy::Step(_) => false,
        }
    }

    /// Whether the rule needs to know since when each instance is ready and idle.
    pub fn follows_instances(&self) -> bool {
        match &self.policy {
            Policy::Peer(peer) => peer.follows_instances(),
            Policy::Fixed(_)
            | Policy::Schedule(_)
            | Policy::QueueBacklog(_)
            | Policy::TargetTracking(_)
            | Policy::Step(_)
            | Policy::Economic(_) => false,
        }
    }

    /// Lets the rule take notes of the cycle in `view`, and decide if it is
    /// time to. Once a cycle, before [`NamedPolicy::propose`]. Of a `fleet` that
    /// is not known it assumes what [`economic::Fleet::plain`] says.
    pub fn consider(&self, view: &View<'_>, fleet: Option<&economic::Fleet>, recall: &mut Recall) {
        let opinion = match &self.policy {
            Policy::Peer(peer) => recall.follow(peer, view),
            Policy::Economic(rule) => {
                let before = recall.learnt.take().filter(|state| state.is_current());
                let mut state = before.unwrap_or_else(|| Box::new(economic::State::new(rule)));
                let opinion = match fleet {
                    Some(fleet) => rule.decide(&mut state, view, fleet),
                    None => rule.decide(&mut state, view, &economic::Fleet::plain(view)),
                };
                recall.learnt = Some(state);
                opinion
            }
            Policy::Fixed(_)
            | Policy::Schedule(_)
            | Policy::QueueBacklog(_)
            | Policy::TargetTracking(_)
            | Policy::Step(_) => return,
        };
        recall.said = Some((view.now, opinion));
    }
}

impl Recall {
    /// Lets `peer` take its notes, and gives what it says.
    ///
    /// Between its own periods a rule's last decision stands. An absent reading
    /// never shrinks a fleet, whatever stood before.
    fn follow(&mut self, peer: &Peer, view: &View<'_>) -> Opinion {
        let opinion = match peer.step(&mut self.notes, view) {
            Some(decided) => {
                if let Wish::Instances(_) = decided.wish {
                    self.standing = Some(decided.clone());
                }
                decided
            }
            None => self.standing.clone().unwrap_or_else(|| {
                Opinion::instances(view.desired, "has not decided yet".to_owned())
            }),
        };
        let absence = || -> Option<(&str, Absence)> {
            let mut demands = peer.demands().into_iter();
            demands.find_map(|demand| {
                let absence = view.sample(demand.signal).err()?;
                Some((demand.signal, absence))
            })
        };
        match opinion.wish {
            Wish::Instances(count) if count < view.current => match absence() {
                Some((signal, absence)) => Opinion::abstain(signal, absence),
                None => opinion,
            },
            Wish::Instances(_) | Wish::Abstain(_) => opinion,
        }
    }
}

/// Reads what policies remember, and forgets what cannot be read: notes of
/// another version of windlass are worth less than a start without them.
pub(crate) fn lenient<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Recall>, D::Error> {
    let raw = BTreeMap::<String, serde_json::Value>::deserialize(from)?;
    let read = raw.into_iter().filter_map(|(name, value)| {
        let recall = serde_json::from_value(value).ok()?;
        Some((name, recall))
    });
    Ok(read.collect())
}
