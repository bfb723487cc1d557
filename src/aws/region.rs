//! The instances of a region that carry our tag, listed once per tick for all
//! fleets.
//!
//! One complete, paginated `DescribeInstances` serves every fleet that asks
//! within the same tick, so that a thousand fleets cost as many calls as one. A
//! page that fails is no listing: what is shown is complete or is not shown.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use aws_sdk_ec2::types::{
    Filter, InstanceLifecycleType, InstanceStateName, Reservation, SummaryStatus, Tag,
};
use tokio::sync::Mutex;

use windlass_policies::model::{FleetError, InstanceId, Market};
use windlass_policies::units::Timestamp;

use super::budget::{Bucket, Budget};
use super::errors::{Call, fleet_error};

/// What begins every tag of ours.
pub const TAG_PREFIX: &str = "windlass:";

/// The tag that says which fleet an instance belongs to.
pub const TAG_FLEET: &str = "windlass:fleet";

/// The most that EC2 gives in one page.
const PAGE_SIZE: i32 = 1_000;

/// EC2's reasons for the end of a spot instance that it takes back (`StateReason`,
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>).
const TAKEN_BACK: [&str; 2] = [
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceShutdown",
];

/// How long a terminated instance that was taken back is shown. EC2 lists it for
/// about an hour; several cycles are enough to learn of it.
const TAKEN_BACK_SHOWN: Duration = Duration::from_mins(10);

/// A million instances; more is a server that never ends its listing.
const PAGES_MAX: usize = 1_000;

/// An instance as EC2 shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub id: InstanceId,
    /// Where it stands; never stopped, and terminated only if it was taken back.
    pub state: State,
    /// When EC2 took it back, if it is a spot instance that it took of late.
    pub taken_back_at: Option<Timestamp>,
    /// Its type, such as `c7g.large`.
    pub instance_type: String,
    /// On which terms it was bought.
    pub market: Market,
    /// When it was last started; `None` if EC2 does not say.
    pub launched_at: Option<Timestamp>,
    /// Those of its tags that begin with [`TAG_PREFIX`].
    pub tags: BTreeMap<String, String>,
}

impl Described {
    /// The value of the tag `key`, if it has one that is not empty.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let value = self.tags.get(key).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }
}

/// Where an instance stands, as far as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Being started.
    Pending,
    /// Running.
    Running,
    /// Being stopped or terminated.
    Leaving,
}

/// The tagged instances of a region by fleet, each list sorted by id.
pub type RegionListing = BTreeMap<String, Vec<Described>>;

/// The clock a region goes by.
pub type Now = Box<dyn Fn() -> Timestamp>;

/// One region, with what its fleets share.
pub struct Region {
    ec2: aws_sdk_ec2::Client,
    now: Now,
    /// How often it may still be asked.
    pub budget: Budget,
    terminated_too: Cell<bool>,
    instances: Shared<RegionListing>,
    passed: Shared<BTreeSet<InstanceId>>,
}

/// The last answer to a question that many ask, and when it was asked. A
/// failure is shared too: the second of a thousand fleets must not repeat it.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Option<Asked<T>>>);

/// When a question was asked, and what was answered.
type Asked<T> = (Timestamp, Result<Rc<T>, FleetError>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Shared<T> {
    /// The answer to a question that was asked at `not_before` or later; `ask`
    /// asks it anew. One asks for all; the others wait for it.
    ///
    /// # Errors
    /// What the answer was.
    pub async fn get(
        &self,
        not_before: Timestamp,
        now: &Now,
        ask: impl AsyncFnOnce() -> Result<T, FleetError>,
    ) -> Result<Rc<T>, FleetError> {
        let mut last = self.0.lock().await;
        if let Some((begun, answer)) = &*last
            && *begun >= not_before
            // Unless somebody has set the clock back.
            && *begun <= now()
        {
            return answer.clone();
        }
        let begun = now();
        let answer = ask().await.map(Rc::new);
        *last = Some((begun, answer.clone()));
        answer
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Region")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl Region {
    /// The region that `ec2` asks, by the clock `now`.
    pub fn new(ec2: aws_sdk_ec2::Client, now: Now) -> Self {
        Self {
            ec2,
            now,
            budget: Budget::new(),
            terminated_too: Cell::new(false),
            instances: Shared::default(),
            passed: Shared::default(),
        }
    }

    /// The client, for calls that are not shared.
    pub fn ec2(&self) -> &aws_sdk_ec2::Client {
        &self.ec2
    }

    /// Now, by the region's clock.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// From now on shows spot instances that EC2 has taken back for a while after
    /// they are gone: for fleets that hear of it in no other way. Terminated
    /// instances then take their place in the pages of each listing.
    pub fn show_taken_back(&self) {
        self.terminated_too.set(true);
    }

    /// The region's clock.
    pub fn clock(&self) -> &Now {
        &self.now
    }

    /// Sets one tag of an instance.
    ///
    /// # Errors
    /// Why it is not set, or nobody knows whether it is.
    pub async fn tag(
        &self,
        instance: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), FleetError> {
        self.budget.take(self.now(), &[(Bucket::CreateTags, 1)])?;
        let call = self.ec2.create_tags().resources(instance.as_str());
        let done = call.tags(Tag::builder().key(key).value(value).build());
        done.send()
            .await
            .map(|_| ())
            .map_err(|error| fleet_error(Call::Changes, &error))
    }

    /// Removes one tag of an instance, whatever it says.
    ///
    /// # Errors
    /// Why it is still there, or nobody knows whether it is.
    pub async fn untag(&self, instance: &InstanceId, key: &str) -> Result<(), FleetError> {
        self.budget.take(self.now(), &[(Bucket::DeleteTags, 1)])?;
        let call = self.ec2.delete_tags().resources(instance.as_str());
        let done = call.tags(Tag::builder().key(key).build());
        done.send()
            .await
            .map(|_| ())
            .map_err(|error| fleet_error(Call::Changes, &error))
    }

    /// All tagged instances that are not gone, in a listing begun at or after
    /// `not_before`.
    ///
    /// # Errors
    /// Why there is none. Throttled means that the last one is old, not that
    /// there are no instances.
    pub async fn instances(&self, not_before: Timestamp) -> Result<Rc<RegionListing>, FleetError> {
        let ask = async || self.list_all().await;
        self.instances.get(not_before, &self.now, ask).await
    }

    /// The running instances, ours and others, that pass both status checks,
    /// in a listing begun at or after `not_before`.
    ///
    /// # Errors
    /// As for [`Region::instances`].
    pub async fn passed(
        &self,
        not_before: Timestamp,
    ) -> Result<Rc<BTreeSet<InstanceId>>, FleetError> {
        let ask = async || self.list_passed().await;
        self.passed.get(not_before, &self.now, ask).await
    }

    async fn list_all(&self) -> Result<RegionListing, FleetError> {
        let mut states = vec!["pending", "running", "shutting-down", "stopping"];
        if self.terminated_too.get() {
            states.push("terminated");
        }
        let mut found: BTreeMap<InstanceId, Described> = BTreeMap::new();
        let mut pages = Pages::default();
        while let Some(page) = pages.next()? {
            self.budget.take(self.now(), &[(Bucket::Describe, 1)])?;
            let answer = self
                .ec2
                .describe_instances()
                .filters(filter("tag-key", &[TAG_FLEET]))
                .filters(filter("instance-state-name", &states))
                .max_results(PAGE_SIZE)
                .set_next_token(page.token())
                .send()
                .await
                .map_err(|error| fleet_error(Call::Reads, &error))?;
            let shown = answer
                .reservations()
                .iter()
                .flat_map(Reservation::instances);
            // An instance on two pages is one; it is older on the first.
            let now = self.now();
            let shown = shown.filter_map(|one| describe(one, now));
            found.extend(shown.map(|one| (one.id.clone(), one)));
            pages.turn(answer.next_token());
        }
        let mut by_fleet = RegionListing::new();
        for instance in found.into_values() {
            if let Some(fleet) = instance.tag(TAG_FLEET) {
                by_fleet.entry(fleet.to_owned()).or_default().push(instance);
            }
        }
        Ok(by_fleet)
    }

    async fn list_passed(&self) -> Result<BTreeSet<InstanceId>, FleetError> {
        let mut passed = BTreeSet::new();
        let mut pages = Pages::default();
        while let Some(page) = pages.next()? {
            self.budget.take(self.now(), &[(Bucket::Describe, 1)])?;
            let answer = self
                .ec2
                .describe_instance_status()
                .filters(filter("instance-status.status", &["ok"]))
                .max_results(PAGE_SIZE)
                .set_next_token(page.token())
                .send()
                .await
                .map_err(|error| fleet_error(Call::Reads, &error))?;
            let ok = |status: Option<&aws_sdk_ec2::types::InstanceStatusSummary>| {
                status.and_then(|summary| summary.status()) == Some(&SummaryStatus::Ok)
            };
            let sound = answer
                .instance_statuses()
                .iter()
                .filter(|one| ok(one.instance_status()) && ok(one.system_status()));
            passed.extend(
                sound
                    .filter_map(|one| one.instance_id())
                    .map(InstanceId::new),
            );
            pages.turn(answer.next_token());
        }
        Ok(passed)
    }
}

/// The way through the pages of a listing.
#[derive(Debug, Default)]
pub(super) struct Pages {
    seen: BTreeSet<String>,
    at: Page,
}

#[derive(Debug, Default)]
pub(super) enum Page {
    #[default]
    First,
    Token(String),
    Over,
}

impl Page {
    pub(super) fn token(self) -> Option<String> {
        match self {
            Self::Token(token) => Some(token),
            Self::First | Self::Over => None,
        }
    }
}

impl Pages {
    /// The page to ask for now; `None` when all are there.
    pub(super) fn next(&mut self) -> Result<Option<Page>, FleetError> {
        let page = std::mem::replace(&mut self.at, Page::Over);
        if let Page::Token(token) = &page
            && (self.seen.len() >= PAGES_MAX || !self.seen.insert(token.clone()))
        {
            let why = "the listing of the region does not come to an end";
            return Err(FleetError::Unreachable(why.to_owned()));
        }
        Ok(match page {
            Page::First | Page::Token(_) => Some(page),
            Page::Over => None,
        })
    }

    pub(super) fn turn(&mut self, token: Option<&str>) {
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            self.at = Page::Token(token.to_owned());
        }
    }
}

pub(super) fn filter(name: &str, values: &[&str]) -> Filter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

/// What is of interest; `None` for what is gone, whatever the filters said.
fn describe(instance: &aws_sdk_ec2::types::Instance, now: Timestamp) -> Option<Described> {
    let id = instance.instance_id().filter(|id| !id.is_empty())?;
    let state = match instance.state().and_then(|state| state.name())? {
        InstanceStateName::Pending => State::Pending,
        InstanceStateName::Running => State::Running,
        InstanceStateName::ShuttingDown | InstanceStateName::Stopping => State::Leaving,
        InstanceStateName::Terminated => {
            let of_late = |at: &Timestamp| now.since(*at) <= TAKEN_BACK_SHOWN;
            ended_at(instance).filter(of_late)?;
            taken_back(instance).then_some(State::Leaving)?
        }
        _ => return None,
    };
    let taken_back_at = (state == State::Leaving && taken_back(instance))
        .then(|| ended_at(instance).unwrap_or(now));
    let market = match instance.instance_lifecycle() {
        Some(InstanceLifecycleType::Spot) => Market::Spot,
        _ => Market::OnDemand,
    };
    let launched_at = instance
        .launch_time()
        .and_then(|at| u64::try_from(at.as_nanos() / 1_000).ok())
        .map(Timestamp::from_micros);
    let tags = instance
        .tags()
        .iter()
        .filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or(""))))
        .filter(|(key, _)| key.starts_with(TAG_PREFIX))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Some(Described {
        id: InstanceId::new(id),
        state,
        instance_type: instance
            .instance_type()
            .map_or_else(String::new, |it| it.as_str().to_owned()),
        market,
        taken_back_at,
        launched_at,
        tags,
    })
}

/// Whether EC2 gives as its reason that it takes a spot instance back.
fn taken_back(instance: &aws_sdk_ec2::types::Instance) -> bool {
    let reason = instance.state_reason().and_then(|reason| reason.code());
    reason.is_some_and(|code| TAKEN_BACK.contains(&code))
}

/// When an instance ended, which EC2 says only in a sentence for people:
/// `Service initiated (2026-03-01 11:00:00 GMT)`.
fn ended_at(instance: &aws_sdk_ec2::types::Instance) -> Option<Timestamp> {
    let sentence = instance.state_transition_reason()?;
    let (_, time) = sentence.strip_suffix(" GMT)")?.rsplit_once('(')?;
    let (day, hour) = time.split_once(' ')?;
    Timestamp::parse(&format!("{day}T{hour}Z")).ok()
}
