//! An Auto Scaling group as it was read, and what it allows just now.
//!
//! Plain data: how it is read stands elsewhere, so that what is concluded from
//! it can be tested without AWS.

use std::collections::{BTreeMap, BTreeSet};

use windlass_policies::model::{FleetError, InstanceId, Phase};
use windlass_policies::units::Timestamp;

/// The process that launches, by its name in `SuspendedProcesses`.
const LAUNCH: &str = "Launch";
/// The process that ends instances.
const TERMINATE: &str = "Terminate";

/// One reading of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// When it was asked for.
    pub read_at: Timestamp,
    /// Its name.
    pub name: String,
    /// How many instances it is to have.
    pub desired: u32,
    /// `MinSize`.
    pub min: u32,
    /// `MaxSize`.
    pub max: u32,
    /// The processes that somebody has suspended.
    pub suspended: BTreeSet<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether instances may come to it from a warm pool.
    pub warm_pool: bool,
    /// Its instances without those of the warm pool. Invariant: sorted by id.
    pub members: Vec<Member>,
}

/// One instance of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: InstanceId,
    /// Where it stands.
    pub stage: Stage,
    /// Its type; empty if the group does not say.
    pub instance_type: String,
    /// Whether it is protected from scale-in.
    pub protected: bool,
}

/// What a lifecycle state comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On its way into service. Counts against the desired number.
    Booting,
    /// In service. Counts against the desired number.
    Serving,
    /// On its way out, or out.
    Ending,
    /// Taken out of service by somebody, or warm in the pool: it neither counts
    /// nor is it touched.
    Aside,
}

impl Stage {
    /// What `state` is, as AWS writes it; `None` if this is no state that AWS
    /// has documented so far.
    pub fn of(state: &str) -> Option<Self> {
        // What follows a colon is how far a lifecycle hook has come.
        let head = state.split(':').next().unwrap_or(state);
        Some(match head {
            "Pending" => Self::Booting,
            // With a new root volume it is the same instance, and no boot that
            // could be timed from its launch.
            "InService" | "ReplacingRootVolume" | "RootVolumeReplaced" => Self::Serving,
            "Terminating" | "Terminated" | "Detaching" | "Detached" => Self::Ending,
            "EnteringStandby" | "Standby" | "Quarantined" | "Warmed" => Self::Aside,
            _ => return None,
        })
    }

    /// As a listing says it; `None` if a listing does not show it.
    pub fn phase(self) -> Option<Phase> {
        match self {
            Self::Booting => Some(Phase::Booting),
            Self::Serving => Some(Phase::Ready),
            Self::Ending => Some(Phase::Ending),
            Self::Aside => None,
        }
    }

    /// Whether it counts against the group's desired number.
    pub fn counts(self) -> bool {
        match self {
            Self::Booting | Self::Serving => true,
            Self::Ending | Self::Aside => false,
        }
    }
}

impl Group {
    /// The instance `id`, if the group has it.
    pub fn member(&self, id: &InstanceId) -> Option<&Member> {
        let found = self.members.binary_search_by(|member| member.id.cmp(id));
        found.ok().map(|index| &self.members[index])
    }

    /// Instances that count against the desired number.
    pub fn counting(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.stage.counts())
    }

    /// How many of them there are.
    pub fn size(&self) -> u32 {
        u32::try_from(self.counting().count()).unwrap_or(u32::MAX)
    }

    /// Whether the group launches at all just now.
    ///
    /// # Errors
    /// Why it does not.
    pub fn may_launch(&self, refreshing: bool) -> Result<(), FleetError> {
        if self.suspended.contains(LAUNCH) {
            return Err(FleetError::LimitReached(format!(
                "the process Launch of the Auto Scaling group {} is suspended; resume it for \
                 the fleet to grow again",
                self.name
            )));
        }
        self.not_refreshing(refreshing)
    }

    /// Whether `id` may be ended just now; `leaving` others are fenced and
    /// about to go.
    ///
    /// # Errors
    /// Why not; [`FleetError::NotFound`] if the group does not have it.
    pub fn may_end(
        &self,
        id: &InstanceId,
        leaving: u32,
        refreshing: bool,
    ) -> Result<(), FleetError> {
        let name = &self.name;
        let member = self.member(id).ok_or(FleetError::NotFound)?;
        match member.stage {
            Stage::Booting | Stage::Serving => {}
            Stage::Ending => return Err(FleetError::NotFound),
            Stage::Aside => {
                return Err(FleetError::Held(format!(
                    "{id} stands aside in the Auto Scaling group {name}; whoever put it in standby \
                     must bring it back or end it"
                )));
            }
        }
        if self.suspended.contains(TERMINATE) {
            return Err(FleetError::LimitReached(format!(
                "the process Terminate of the Auto Scaling group {name} is suspended; resume it for \
                 the fleet to shrink again"
            )));
        }
        if member.protected {
            return Err(FleetError::Held(format!("{id} is protected from scale-in")));
        }
        self.not_refreshing(refreshing)?;
        if self.size() > self.desired {
            // Ending one more now would take the desired number below what
            // whoever lowered it had in mind.
            return Err(FleetError::Held(format!(
                "the Auto Scaling group {name} has {} instances and wants {}, so it ends some itself",
                self.size(),
                self.desired
            )));
        }
        if self.desired.saturating_sub(leaving) <= self.min {
            return Err(FleetError::LimitReached(format!(
                "MinSize of the Auto Scaling group {name} is {}; lower it to the fleet's limits.min",
                self.min
            )));
        }
        Ok(())
    }

    fn not_refreshing(&self, refreshing: bool) -> Result<(), FleetError> {
        if refreshing {
            return Err(FleetError::Held(format!(
                "an instance refresh of the Auto Scaling group {} is in progress",
                self.name
            )));
        }
        Ok(())
    }

    /// Notes that `id` is being ended and the desired number is one less.
    pub fn ended(&mut self, id: &InstanceId) {
        let found = self.members.binary_search_by(|member| member.id.cmp(id));
        if let Ok(index) = found {
            self.members[index].stage = Stage::Ending;
            self.desired = self.desired.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(desired: u32, members: &[(&str, &str, bool)]) -> Group {
        let member = |(id, state, protected): &(&str, &str, bool)| Member {
            id: InstanceId::new(id),
            stage: Stage::of(state).expect("a known state"),
            instance_type: "m7g.large".to_owned(),
            protected: *protected,
        };
        Group {
            read_at: Timestamp::EPOCH,
            name: "web".to_owned(),
            desired,
            min: 1,
            max: 5,
            suspended: BTreeSet::new(),
            tags: BTreeMap::new(),
            warm_pool: false,
            members: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn every_documented_lifecycle_state_has_a_stage() {
        for (states, stage) in [
            ("Pending Pending:Wait Pending:Proceed", Stage::Booting),
            (
                "InService ReplacingRootVolume ReplacingRootVolume:Wait RootVolumeReplaced",
                Stage::Serving,
            ),
            (
                "Terminating Terminating:Wait Terminating:Proceed Terminating:Retained Terminated \
                 Detaching Detached",
                Stage::Ending,
            ),
            (
                "EnteringStandby Standby Quarantined Warmed:Pending Warmed:Pending:Wait \
                 Warmed:Running Warmed:Stopped Warmed:Hibernated Warmed:Terminating:Proceed",
                Stage::Aside,
            ),
        ] {
            for state in states.split_whitespace() {
                assert_eq!(Stage::of(state), Some(stage), "{state}");
            }
        }
        assert_eq!(Stage::of("Dancing"), None);
    }

    #[test]
    fn an_instance_is_ended_only_when_the_group_lets_it_go() {
        let calm = || {
            group(
                3,
                &[
                    ("i-1", "InService", false),
                    ("i-2", "InService", true),
                    ("i-3", "Pending", false),
                    ("i-4", "Standby", false),
                    ("i-5", "Terminating:Wait", false),
                ],
            )
        };
        let suspended = |process: &str| {
            let mut group = calm();
            group.suspended.insert(process.to_owned());
            group
        };
        let lowered = Group {
            desired: 2,
            ..calm()
        };
        let at_min = Group { min: 3, ..calm() };
        // group, instance, leaving, refreshing -> what is said
        for (group, id, leaving, refreshing, said) in [
            (calm(), "i-1", 0, false, ""),
            (calm(), "i-3", 1, false, ""),
            (calm(), "i-1", 2, false, "limit reached: MinSize"),
            (at_min, "i-1", 0, false, "limit reached: MinSize"),
            (calm(), "i-2", 0, false, "held: i-2 is protected"),
            (calm(), "i-4", 0, false, "held: i-4 stands aside"),
            (calm(), "i-5", 0, false, "not found"),
            (calm(), "i-9", 0, false, "not found"),
            (calm(), "i-1", 0, true, "held: an instance refresh"),
            (
                lowered,
                "i-1",
                0,
                false,
                "held: the Auto Scaling group web has 3",
            ),
            (
                suspended("Terminate"),
                "i-1",
                0,
                false,
                "limit reached: the process Terminate",
            ),
            (suspended("AZRebalance"), "i-1", 0, false, ""),
        ] {
            let answer = group.may_end(&InstanceId::new(id), leaving, refreshing);
            let answer = answer
                .err()
                .map_or(String::new(), |error| error.to_string());
            assert!(answer.starts_with(said), "{id}: {answer:?}, not {said:?}");
            assert_eq!(answer.is_empty(), said.is_empty(), "{id}: {answer:?}");
        }
    }

    #[test]
    fn nothing_is_launched_while_somebody_else_holds_the_group() {
        let mut group = group(3, &[]);
        assert_eq!(group.may_launch(false), Ok(()));
        assert!(matches!(group.may_launch(true), Err(FleetError::Held(_))));
        group.suspended.insert("Launch".to_owned());
        assert!(matches!(
            group.may_launch(false),
            Err(FleetError::LimitReached(_))
        ));
    }
}
