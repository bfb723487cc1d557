//! A fleet of EC2 instances that windlass launches and ends itself.
//!
//! What belongs to it is what carries its tag. Everything is read anew in every
//! cycle; nothing is kept here but what the last complete listing showed, so
//! that nothing is touched that was not in it.

pub(crate) mod launch;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use windlass_policies::model::{
    Action, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing, Market, Notice, Outcome,
    Phase,
};
use windlass_policies::ports::{Clock, FleetProvider};
use windlass_policies::quote::Quotes;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

use super::Opening;
use super::workers::{Fence, Report, Signs, TAG_FENCE, TAG_WORK, Workers};
use crate::aws::budget::Bucket;
use crate::aws::errors::{Call, fleet_error};
use crate::aws::notices::Notices;
use crate::aws::region::{Described, Region, State};
use crate::aws::shared::Aws;
use crate::aws::spot_prices::FleetPrices;
use crate::clock::{Due, SystemClock};
use crate::config::ec2::{Ec2Offering, Ec2Settings, Ready};

/// The tag that holds the token of the launch an instance came from.
pub const TAG_TOKEN: &str = "windlass:token";

/// The tag that says which start of windlass asked for that launch.
pub const TAG_EPOCH: &str = "windlass:epoch";

/// The tag that names the offering an instance was bought as.
pub const TAG_OFFERING: &str = "windlass:offering";

/// How long EC2 may not know of an instance it has just launched. A "not found"
/// within it is no end.
const UNKNOWN_AT_FIRST: Duration = Duration::from_mins(5);

/// A fleet on EC2.
#[derive(Debug)]
pub struct Ec2Fleet {
    name: String,
    /// The store's identity, which its launch tokens begin with.
    store: String,
    settings: Ec2Settings,
    due: Rc<Due>,
    region: Rc<Region>,
    workers: Workers,
    notices: Option<Rc<Notices>>,
    /// What its spot instances cost, if its file does not say.
    prices: Option<FleetPrices>,
    clock: SystemClock,
    /// What the last complete listing showed, and what was done since.
    known: Rc<RefCell<BTreeMap<InstanceId, Known>>>,
    /// The newest epoch of this store that any listing has shown.
    newest: Cell<Epoch>,
    /// When this fleet last changed anything: a listing must be newer.
    acted_at: Cell<Option<Timestamp>>,
}

/// An instance of this fleet.
#[derive(Clone, Debug)]
struct Known {
    fence: Option<Fence>,
    report: Option<Report>,
    launched_at: Timestamp,
}

impl Ec2Fleet {
    /// The fleet of `spec` in the region that all share. It is nudged when EC2
    /// announces something of one of its instances.
    pub fn open(spec: &FleetSpec, settings: &Ec2Settings, aws: &Aws, opening: Opening<'_>) -> Self {
        let notices = aws.notices(settings.notices_queue_url.as_deref(), opening.mode);
        let mut fleet = Self::new(spec, settings, Rc::clone(&aws.region), notices, opening);
        let (prices, last) = (&aws.spot_prices, opening.prices);
        let spot = |one: &Ec2Offering| one.offering.market == Market::Spot;
        if fleet.notices.is_none() && settings.offerings.iter().any(spot) {
            aws.region.show_taken_back();
        }
        fleet.prices = FleetPrices::of_ec2(&spec.name, settings, prices, last);
        if let Some(notices) = &fleet.notices {
            let known = Rc::downgrade(&fleet.known);
            let owns = move |id: &InstanceId| {
                let known = known.upgrade();
                known.is_some_and(|known| known.borrow().contains_key(id))
            };
            notices.watch(Box::new(owns), Arc::clone(opening.nudge));
        }
        fleet
    }

    fn new(
        spec: &FleetSpec,
        settings: &Ec2Settings,
        region: Rc<Region>,
        notices: Option<Rc<Notices>>,
        opening: Opening<'_>,
    ) -> Self {
        Self {
            name: spec.name.clone(),
            store: opening.store_id.to_owned(),
            settings: settings.clone(),
            due: Rc::clone(opening.due),
            region,
            workers: Workers::new(&spec.name, &settings.workers, opening.mode),
            notices,
            prices: None,
            clock: SystemClock::new(opening.latest),
            known: Rc::default(),
            newest: Cell::new(opening.epoch),
            acted_at: Cell::new(None),
        }
    }

    async fn list_instances(&self) -> Result<Listing, FleetError> {
        let now = self.region.now();
        let acted_at = self.acted_at.get().unwrap_or_default();
        let not_before = self.due.listed_since(now).max(acted_at);
        let all = self.region.instances(not_before).await?;
        let passed = match self.settings.ready {
            Ready::StatusOk => Some(self.region.passed(not_before).await?),
            Ready::Running | Ready::Worker => None,
        };
        let ours = all.get(&self.name).map_or(&[][..], Vec::as_slice);
        let tagged = ours.iter().map(|one| {
            let fence = one.tag(TAG_FENCE).and_then(Fence::read);
            (&one.id, fence, one.tag(TAG_WORK))
        });
        let reports = match self.workers.reports(tagged).await {
            Ok(reports) => reports,
            // Who is ready is not known then; nobody may be taken for a failed boot.
            Err(error) if self.settings.ready == Ready::Worker => return Err(error),
            Err(error) => {
                warn!(fleet = %self.name, %error, "what the workers are doing is unknown");
                BTreeMap::new()
            }
        };
        self.see_epochs(ours);
        let known: BTreeMap<InstanceId, Known> = ours
            .iter()
            .map(|one| {
                let known = Known {
                    fence: one.tag(TAG_FENCE).and_then(Fence::read),
                    report: reports.get(&one.id).cloned(),
                    launched_at: one.launched_at.unwrap_or(now),
                };
                (one.id.clone(), known)
            })
            .collect();
        let instances = ours
            .iter()
            .map(|one| self.show(one, &known[&one.id], passed.as_deref(), now))
            .collect();
        *self.known.borrow_mut() = known;
        Ok(Listing {
            instances,
            complete: true,
        })
    }

    /// An instance as decisions see it.
    fn show(
        &self,
        one: &Described,
        known: &Known,
        passed: Option<&BTreeSet<InstanceId>>,
        now: Timestamp,
    ) -> Instance {
        let ready = match self.settings.ready {
            Ready::Running => true,
            Ready::StatusOk => passed.is_some_and(|passed| passed.contains(&one.id)),
            Ready::Worker => known.report.is_some(),
        };
        let phase = match one.state {
            State::Leaving => Phase::Ending,
            State::Running if ready => Phase::Ready,
            State::Pending | State::Running => Phase::Booting,
        };
        let signs = Signs {
            fence: known.fence.as_ref(),
            report: known.report.as_ref(),
            protected: false,
        };
        let (fenced, work) = self.workers.judge(signs, now);
        Instance {
            id: one.id.clone(),
            offering: self.offering_of(one),
            token: one.tag(TAG_TOKEN).map(LaunchToken::from_text),
            launched_at: known.launched_at,
            phase,
            fenced,
            work,
            notice: self.notice_of(one, now),
        }
    }

    /// What was announced of an instance, or what its end says in hindsight.
    fn notice_of(&self, one: &Described, now: Timestamp) -> Option<Notice> {
        let taken_back = |ends_at| Notice::Interruption { ends_at };
        one.taken_back_at
            .map(taken_back)
            .or_else(|| self.notices.as_ref()?.of(&one.id, now))
    }

    /// What an instance was bought as: what its tag says, or else the first
    /// offering it could be; its type, if there is none.
    fn offering_of(&self, one: &Described) -> String {
        if let Some(name) = one.tag(TAG_OFFERING) {
            return name.to_owned();
        }
        let fits = self.settings.offerings.iter().find(|offering| {
            offering.offering.market == one.market && offering.types.contains(&one.instance_type)
        });
        fits.map_or_else(
            || one.instance_type.clone(),
            |offering| offering.offering.name.clone(),
        )
    }

    /// Notes the newest epoch of this store that launched or fenced anything.
    /// Other stores count their own.
    fn see_epochs(&self, ours: &[Described]) {
        for one in ours {
            let Some(token) = one.tag(TAG_TOKEN).map(LaunchToken::from_text) else {
                continue;
            };
            if !token.as_str().starts_with(&format!("{}-", self.store)) {
                continue;
            }
            let launched = one.tag(TAG_EPOCH).and_then(|epoch| epoch.parse().ok());
            let fenced = one.tag(TAG_FENCE).and_then(Fence::read);
            let fenced = fenced.and_then(|fence| fence.epoch());
            for epoch in launched.map(Epoch).into_iter().chain(fenced) {
                self.newest.set(self.newest.get().max(epoch));
            }
        }
    }

    async fn obey(&self, epoch: Epoch, action: &Action) -> Result<Outcome, FleetError> {
        if epoch < self.newest.get() {
            return Err(FleetError::StaleEpoch);
        }
        // Before it is sent: a listing that was begun meanwhile may show either.
        self.acted_at.set(Some(self.region.now()));
        let outcome = match action {
            Action::Launch {
                token,
                offering,
                count,
            } => self.launch(token, offering, *count).await,
            Action::Fence { instance } => self.fence(epoch, instance).await,
            Action::Unfence { instance } => self.unfence(instance).await,
            Action::Terminate { instance, .. } => self.terminate(instance).await,
        };
        self.acted_at.set(Some(self.region.now()));
        outcome
    }

    async fn launch(
        &self,
        token: &LaunchToken,
        name: &str,
        count: u32,
    ) -> Result<Outcome, FleetError> {
        let offerings = &self.settings.offerings;
        let offering = offerings.iter().find(|one| one.offering.name == name);
        let offering = offering
            .ok_or_else(|| FleetError::Rejected(format!("there is no offering `{name}`")))?;
        let wanted = launch::Wanted {
            fleet: &self.name,
            settings: &self.settings,
            offering,
            token,
            count,
        };
        let instances = launch::launch(&self.region, &wanted).await?;
        Ok(Outcome::Launched { instances })
    }

    /// Sets a fence, or finds that there is one. It holds from then on, for a
    /// worker looks before it takes a job; whether it is idle is believed only
    /// once it has answered to this very fence.
    async fn fence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Outcome, FleetError> {
        let known = self.known_of(instance)?;
        let (fence, mut report) = match known.fence {
            // It was set in an earlier cycle, and its worker is still at work.
            Some(fence) => (fence, known.report),
            None => (self.tag_fence(epoch, instance).await?, None),
        };
        if let Some(answered) = self.workers.fence(instance, &fence).await? {
            report = Some(answered);
        }
        let signs = Signs {
            fence: Some(&fence),
            report: report.as_ref(),
            protected: false,
        };
        let (_, work) = self.workers.judge(signs, self.region.now());
        Ok(Outcome::Fenced { work })
    }

    async fn tag_fence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Fence, FleetError> {
        let fence = Fence::new(epoch, self.region.now());
        let tagged = self.region.tag(instance, TAG_FENCE, fence.as_str()).await;
        tagged.map_err(|error| self.failed(instance, error))?;
        if let Some(known) = self.known.borrow_mut().get_mut(instance) {
            known.fence = Some(fence.clone());
            known.report = None;
        }
        Ok(fence)
    }

    async fn unfence(&self, instance: &InstanceId) -> Result<Outcome, FleetError> {
        self.known_of(instance)?;
        let untagged = self.region.untag(instance, TAG_FENCE).await;
        untagged.map_err(|error| self.failed(instance, error))?;
        if let Some(known) = self.known.borrow_mut().get_mut(instance) {
            known.fence = None;
        }
        self.workers.unfence(instance).await?;
        Ok(Outcome::Unfenced)
    }

    async fn terminate(&self, instance: &InstanceId) -> Result<Outcome, FleetError> {
        self.known_of(instance)?;
        self.take(&[
            (Bucket::TerminateInstances, 1),
            (Bucket::TerminatedInstances, 1),
        ])?;
        let call = self.region.ec2().terminate_instances();
        let answer = call.instance_ids(instance.as_str()).send().await;
        answer.map_err(|error| self.failed(instance, fleet_error(Call::Changes, &error)))?;
        self.workers.forget(instance).await;
        Ok(Outcome::Terminated)
    }

    fn take(&self, wanted: &[(Bucket, u32)]) -> Result<(), FleetError> {
        self.region.budget.take(self.region.now(), wanted)
    }

    /// What the last complete listing showed of `instance`. What was not in it
    /// is not touched: it may be somebody else's.
    fn known_of(&self, instance: &InstanceId) -> Result<Known, FleetError> {
        let known = self.known.borrow().get(instance).cloned();
        known.ok_or_else(|| {
            FleetError::Rejected(format!(
                "{instance} was not in the last listing of the fleet, so it is not touched"
            ))
        })
    }

    /// What a failed call says of `instance`: EC2 may not know a young one yet.
    fn failed(&self, instance: &InstanceId, error: FleetError) -> FleetError {
        let now = self.region.now();
        let young = |known: &Known| now.since(known.launched_at) < UNKNOWN_AT_FIRST;
        match error {
            FleetError::NotFound if self.known.borrow().get(instance).is_some_and(young) => {
                FleetError::Unknown(format!("EC2 does not know {instance} everywhere yet"))
            }
            other => other,
        }
    }
}

impl Clock for Ec2Fleet {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl FleetProvider for Ec2Fleet {
    fn prices(&self) -> Quotes {
        let prices = self.prices.as_ref();
        prices.map(FleetPrices::now).unwrap_or_default()
    }

    async fn list(&self, _fleet: &str) -> Result<Listing, FleetError> {
        self.list_instances().await
    }

    async fn apply(&self, _fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        self.obey(epoch, action)
            .await
            .unwrap_or_else(Outcome::Failed)
    }
}

/// The epoch in a launch token: the third of its parts from behind.
fn token_epoch(token: &LaunchToken) -> Option<Epoch> {
    let epoch = token.as_str().rsplit('-').nth(2)?;
    epoch.parse().ok().map(Epoch)
}
