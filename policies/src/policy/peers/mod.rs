//! The competitors' policies: what other systems, and papers, would do.
//!
//! One file per peer, each from its published algorithm, with its defaults and
//! its flaws. They are here to be compared with, in the simulator and in
//! rehearsals, and they can run a fleet like any other policy. How instances
//! are let go stays with the house: a peer says how many, never whom.
//!
//! A peer decides at a period of its own and keeps notes
//! ([`super::recall`]); between its decisions the last one stands.

mod kit;
pub mod load;

use serde::{Deserialize, Serialize};

use super::{Demand, Needs, Opinion, View};
use crate::fields::Fields;

/// Makes of a list of peers the closed sets of them and of their notes.
macro_rules! peers {
    ($($(#[doc = $doc:literal])+ $variant:ident, $module:ident, $kind:literal;)+) => {
        $(mod $module;)+

        /// One of the peers.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", tag = "peer")]
        pub enum Peer {
            $($(#[doc = $doc])+ $variant($module::$variant),)+
        }

        /// What a peer remembers.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        // Tagged from outside: within a table with its tag the keys of maps would
        // be texts, and could not be read back as numbers.
        #[serde(rename_all = "snake_case")]
        pub enum Notes {
            $($(#[doc = $doc])+ $variant(Box<$module::Notes>),)+
        }

        $(pub use $module::$variant;)+

        impl Peer {
            /// The words for `kind` in TOML, in the order they are documented in.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// Reads the rest of the table of a peer of `kind`.
            pub(super) fn read(kind: &str, fields: &mut Fields<'_>) -> Option<Self> {
                match kind {
                    $($kind => $module::$variant::read(fields).map(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its word in TOML.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }

            /// The signals it reads, and what kind each must be.
            pub fn demands(&self) -> Vec<Demand<'_>> {
                match self {
                    $(Self::$variant(rule) => rule.demands(),)+
                }
            }

            /// What it decides now; `None` if its last decision stands. Notes
            /// of another kind, as after the policy was changed, are dropped.
            pub(super) fn step(
                &self,
                notes: &mut Option<Notes>,
                view: &View<'_>,
            ) -> Option<Opinion> {
                match self {
                    $(Self::$variant(rule) => {
                        let mut own = match notes.take() {
                            Some(Notes::$variant(own)) => own,
                            _ => Box::default(),
                        };
                        let opinion = rule.step(&mut own, view);
                        *notes = Some(Notes::$variant(own));
                        opinion
                    })+
                }
            }
        }
    };
}

peers! {
    /// Amazon's target tracking.
    AsgTargetTracking, asg_target_tracking, "asg_target_tracking";
    /// Amazon's step and simple scaling.
    AsgStep, asg_step, "asg_step";
    /// Amazon's recipe for a queue.
    AsgBacklogPerInstance, asg_backlog_per_instance, "asg_backlog_per_instance";
    /// Amazon's predictive scaling.
    AsgPredictive, asg_predictive, "asg_predictive";
    /// The Kubernetes horizontal pod autoscaler.
    Hpa, hpa, "hpa";
    /// KEDA on a queue.
    KedaQueue, keda_queue, "keda_queue";
    /// Nomad's `target-value` strategy.
    NomadTargetValue, nomad_target_value, "nomad_target_value";
    /// Nomad's `threshold` strategy.
    NomadThreshold, nomad_threshold, "nomad_threshold";
    /// GitLab Runner's instance autoscaler.
    Taskscaler, taskscaler, "taskscaler";
    /// Google's managed instance groups.
    GceAutoscaler, gce_autoscaler, "gce_autoscaler";
    /// Cluster Autoscaler and Karpenter, for pending work.
    ClusterDemand, cluster_demand, "cluster_demand";
    /// The Buildkite Agent Scaler.
    Buildkite, buildkite, "buildkite";
    /// Yelp's Clusterman.
    Clusterman, clusterman, "clusterman";
    /// The reactive rule of Chieu et al.
    React, react, "react";
    /// The adaptive hybrid controller of Ali-Eldin et al.
    Adapt, adapt, "adapt";
    /// The histogram rule of Urgaonkar et al.
    Hist, hist, "hist";
    /// The regression rule of Iqbal et al.
    Reg, reg, "reg";
    /// The predictive rule of `ConPaaS`.
    Conpaas, conpaas, "conpaas";
    /// `DelayedOff` and `AutoScale` of Gandhi et al.
    AutoscaleDelayedOff, autoscale_delayed_off, "autoscale_delayed_off";
    /// Offered load plus a reserve of its root.
    SquareRootStaffing, square_root_staffing, "square_root_staffing";
    /// Lazy capacity provisioning of Lin et al.
    Lcp, lcp, "lcp";
}

impl Peer {
    /// Whether it needs to know since when each instance is ready and idle.
    pub(super) fn follows_instances(&self) -> bool {
        match self {
            Self::AsgTargetTracking(_)
            | Self::AsgStep(_)
            | Self::AsgBacklogPerInstance(_)
            | Self::Taskscaler(_)
            | Self::GceAutoscaler(_)
            | Self::ClusterDemand(_)
            | Self::Buildkite(_)
            | Self::AutoscaleDelayedOff(_) => true,
            Self::AsgPredictive(_)
            | Self::Hpa(_)
            | Self::KedaQueue(_)
            | Self::NomadTargetValue(_)
            | Self::NomadThreshold(_)
            | Self::Clusterman(_)
            | Self::React(_)
            | Self::Adapt(_)
            | Self::Hist(_)
            | Self::Reg(_)
            | Self::Conpaas(_)
            | Self::SquareRootStaffing(_)
            | Self::Lcp(_) => false,
        }
    }

    /// Whether it asks for instances when there are none and jobs come. Those
    /// that do not are kept above zero by the fleet's `min`, or another policy.
    /// `seen` says of a signal whether it shows work without an instance.
    pub fn starts_from_zero(&self, seen: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::AsgTargetTracking(_)
            | Self::AsgBacklogPerInstance(_)
            | Self::GceAutoscaler(_) => false,
            Self::AsgStep(rule) => {
                seen(&rule.rule.signal)
                    && rule.rule.steps.iter().any(|rung| rung.change.apply(0) > 0)
            }
            Self::AsgPredictive(rule) => rule.counter,
            Self::Hpa(rule) => {
                rule.min_replicas == 0 && rule.metric.is_external() && seen(&rule.signal)
            }
            Self::NomadTargetValue(rule) => seen(&rule.signal),
            Self::NomadThreshold(rule) => {
                seen(&rule.signal) && rule.checks.iter().any(|check| check.apply(0) > 0)
            }
            Self::Hist(_)
            | Self::KedaQueue(_)
            | Self::Taskscaler(_)
            | Self::ClusterDemand(_)
            | Self::Buildkite(_)
            | Self::Clusterman(_)
            | Self::React(_)
            | Self::Adapt(_)
            | Self::Reg(_)
            | Self::Conpaas(_)
            | Self::AutoscaleDelayedOff(_)
            | Self::SquareRootStaffing(_)
            | Self::Lcp(_) => true,
        }
    }
}
