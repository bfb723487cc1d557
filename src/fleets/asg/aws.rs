//! The group and its workers, reached over AWS.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::{AutoScalingGroup, InstanceRefreshStatus, Tag};
use tokio::sync::Notify;
use tracing::warn;

use windlass_policies::model::{Epoch, FleetError, InstanceId, Work};
use windlass_policies::units::Timestamp;

use crate::aws::budget::Bucket;
use crate::aws::errors::{Call, fleet_error};
use crate::aws::notices::Notices;
use crate::aws::region::{Region, Shared};
use crate::clock::Due;
use crate::fleets::workers::{Fence, Report, Signs, TAG_FENCE, TAG_WORK, Workers};

use super::group::{Group, Member, Stage};
use super::{Detail, GroupCalls};

/// As many names as one call of Auto Scaling takes; a filter of EC2 takes 200.
const NAMES_PER_CALL: usize = 100;

/// The most groups a page holds.
const GROUPS_PER_PAGE: i32 = 100;

/// The most instances a page holds.
const INSTANCES_PER_PAGE: i32 = 1_000;

/// A million instances; more is a server that never ends its listing.
const PAGES_MAX: usize = 1_000;

/// The newest few: an activity that failed before those is no news.
const ACTIVITIES_READ: i32 = 20;

/// The groups of one region, read together.
#[derive(Debug)]
pub struct SharedGroups {
    autoscaling: aws_sdk_autoscaling::Client,
    region: Rc<Region>,
    names: BTreeSet<String>,
    newest: Shared<(Timestamp, BTreeMap<String, AutoScalingGroup>)>,
    described: Shared<BTreeMap<InstanceId, Described>>,
}

impl SharedGroups {
    /// The groups of these `names`.
    pub fn new(
        autoscaling: aws_sdk_autoscaling::Client,
        region: Rc<Region>,
        names: BTreeSet<String>,
    ) -> Self {
        Self {
            autoscaling,
            region,
            names,
            newest: Shared::default(),
            described: Shared::default(),
        }
    }

    /// The group `name` as of `not_before` or later. One fleet reads for all; the
    /// others wait for it.
    async fn get(&self, name: &str, not_before: Timestamp) -> Result<Group, FleetError> {
        let ask = async || {
            let at = self.region.now();
            let names: Vec<String> = self.names.iter().cloned().collect();
            Ok((at, self.read(&names).await?))
        };
        let newest = self.newest.get(not_before, self.region.clock(), ask);
        let (at, groups) = &*newest.await?;
        parse(*at, name, groups.get(name))
    }

    /// What EC2 told of the instances of all groups at `not_before` or later.
    async fn described(
        &self,
        not_before: Timestamp,
    ) -> Result<Rc<BTreeMap<InstanceId, Described>>, FleetError> {
        let ask = async || self.describe().await;
        let clock = self.region.clock();
        self.described.get(not_before, clock, ask).await
    }

    async fn describe(&self) -> Result<BTreeMap<InstanceId, Described>, FleetError> {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let mut all = BTreeMap::new();
        for names in names.chunks(NAMES_PER_CALL) {
            self.describe_some(names, &mut all).await?;
        }
        Ok(all)
    }

    async fn describe_some(
        &self,
        names: &[String],
        all: &mut BTreeMap<InstanceId, Described>,
    ) -> Result<(), FleetError> {
        let region = &self.region;
        let theirs = aws_sdk_ec2::types::Filter::builder()
            .name("tag:aws:autoscaling:groupName")
            .set_values(Some(names.to_vec()))
            .build();
        let mut next = None;
        for _page in 0..PAGES_MAX {
            region.budget.take(region.now(), &[(Bucket::Describe, 1)])?;
            let call = region.ec2().describe_instances();
            let page = call
                .filters(theirs.clone())
                .max_results(INSTANCES_PER_PAGE)
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| fleet_error(Call::Reads, &error))?;
            let reservations = page.reservations.unwrap_or_default();
            let instances = reservations
                .into_iter()
                .flat_map(|reservation| reservation.instances.unwrap_or_default());
            let described = instances.filter_map(Described::of);
            all.extend(described.map(|one| (one.id.clone(), one)));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(());
            }
        }
        let why = "the listing of its instances does not come to an end";
        Err(FleetError::Unreachable(why.to_owned()))
    }

    async fn read(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, AutoScalingGroup>, FleetError> {
        let mut groups = BTreeMap::new();
        for names in names.chunks(NAMES_PER_CALL) {
            let call = self.autoscaling.describe_auto_scaling_groups();
            let mut pages = call
                .set_auto_scaling_group_names(Some(names.to_vec()))
                .max_records(GROUPS_PER_PAGE)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| group_error(Call::Reads, &error))?;
                for group in page.auto_scaling_groups.unwrap_or_default() {
                    let name = group.auto_scaling_group_name.clone().unwrap_or_default();
                    groups.insert(name, group);
                }
            }
        }
        Ok(groups)
    }
}

/// One group of them.
#[derive(Debug)]
pub struct AwsGroup {
    shared: Rc<SharedGroups>,
    name: String,
    due: Rc<Due>,
    workers: Workers,
    notices: Option<Rc<Notices>>,
    /// What the last complete listing showed, and what was done since.
    known: Rc<RefCell<BTreeMap<InstanceId, Known>>>,
}

/// What is known of the worker of an instance.
#[derive(Clone, Debug, Default)]
struct Known {
    fence: Option<Fence>,
    report: Option<Report>,
    protected: bool,
}

impl Known {
    fn signs(&self) -> Signs<'_> {
        Signs {
            fence: self.fence.as_ref(),
            report: self.report.as_ref(),
            protected: self.protected,
        }
    }
}

impl AwsGroup {
    /// The group `name`, whose workers are heard of as `workers` says, and its
    /// instances by `notices`; `due` tells how new its listings must be.
    pub fn new(
        shared: Rc<SharedGroups>,
        name: &str,
        due: Rc<Due>,
        workers: Workers,
        notices: Option<Rc<Notices>>,
    ) -> Self {
        Self {
            shared,
            name: name.to_owned(),
            due,
            workers,
            notices,
            known: Rc::default(),
        }
    }

    /// Has `nudge` woken when EC2 announces something of an instance of the
    /// group.
    pub fn watch(&self, nudge: &Arc<Notify>) {
        let Some(notices) = &self.notices else {
            return;
        };
        let known = Rc::downgrade(&self.known);
        let owns = move |id: &InstanceId| {
            let known = known.upgrade();
            known.is_some_and(|known| known.borrow().contains_key(id))
        };
        notices.watch(Box::new(owns), Arc::clone(nudge));
    }

    fn autoscaling(&self) -> &aws_sdk_autoscaling::Client {
        &self.shared.autoscaling
    }

    fn remember(&self, instance: &InstanceId, worker: &Known) {
        let mut known = self.known.borrow_mut();
        if let Some(there) = known.get_mut(instance) {
            *there = worker.clone();
        }
    }

    /// What the workers say, as far as they are heard of.
    async fn reports(&self, described: &[Described]) -> BTreeMap<InstanceId, Report> {
        let tagged = described.iter().map(|one| {
            let fence = one.fence.as_deref();
            let fence = fence.and_then(|tag| self.workers.read_fence(tag));
            (&one.id, fence, one.work.as_deref())
        });
        match self.workers.reports(tagged).await {
            Ok(reports) => reports,
            Err(error) => {
                warn!(group = %self.name, %error, "what the workers are doing is unknown");
                BTreeMap::new()
            }
        }
    }

    fn tag_of(&self, key: &str) -> aws_sdk_autoscaling::types::builders::TagBuilder {
        Tag::builder()
            .resource_id(&self.name)
            .resource_type("auto-scaling-group")
            .key(key)
            .propagate_at_launch(false)
    }
}

impl GroupCalls for AwsGroup {
    async fn listing(&self, not_before: Timestamp) -> Result<Group, FleetError> {
        let due = self.due.listed_since(self.shared.region.now());
        self.shared.get(&self.name, not_before.max(due)).await
    }

    async fn reading(&self) -> Result<Group, FleetError> {
        let at = self.shared.region.now();
        let groups = self.shared.read(std::slice::from_ref(&self.name)).await?;
        parse(at, &self.name, groups.get(&self.name))
    }

    async fn refreshing(&self) -> Result<bool, FleetError> {
        let call = self.autoscaling().describe_instance_refreshes();
        // The newest comes first, and only one can be in progress.
        let answer = call
            .auto_scaling_group_name(&self.name)
            .max_records(1)
            .send()
            .await
            .map_err(|error| group_error(Call::Reads, &error))?;
        let newest = answer.instance_refreshes.unwrap_or_default();
        Ok(newest
            .first()
            .and_then(|refresh| refresh.status.as_ref())
            .is_some_and(|status| {
                matches!(
                    status,
                    InstanceRefreshStatus::Pending
                        | InstanceRefreshStatus::InProgress
                        | InstanceRefreshStatus::Baking
                        | InstanceRefreshStatus::Cancelling
                        | InstanceRefreshStatus::RollbackInProgress
                )
            }))
    }

    async fn movers(&self) -> Result<Vec<String>, FleetError> {
        let policies = self
            .autoscaling()
            .describe_policies()
            .auto_scaling_group_name(&self.name)
            .send()
            .await
            .map_err(|error| group_error(Call::Reads, &error))?;
        let schedules = self
            .autoscaling()
            .describe_scheduled_actions()
            .auto_scaling_group_name(&self.name)
            .send()
            .await
            .map_err(|error| group_error(Call::Reads, &error))?;
        let policies = policies.scaling_policies.unwrap_or_default();
        let policies = policies
            .into_iter()
            .filter_map(|policy| Some(format!("scaling policy {}", policy.policy_name?)));
        let schedules = schedules.scheduled_update_group_actions.unwrap_or_default();
        let schedules = schedules.into_iter().filter_map(|action| {
            Some(format!(
                "scheduled action {}",
                action.scheduled_action_name?
            ))
        });
        Ok(policies.chain(schedules).collect())
    }

    async fn failure(&self) -> Result<Option<String>, FleetError> {
        let answer = self
            .autoscaling()
            .describe_scaling_activities()
            .auto_scaling_group_name(&self.name)
            .max_records(ACTIVITIES_READ)
            .send()
            .await
            .map_err(|error| group_error(Call::Reads, &error))?;
        let failed = answer
            .activities
            .unwrap_or_default()
            .into_iter()
            .find(|activity| {
                let status = activity.status_code.as_ref();
                status.is_some_and(|status| status.as_str() == "Failed")
            });
        Ok(failed.and_then(|activity| activity.status_message))
    }

    async fn tag(&self, tags: &BTreeMap<String, String>) -> Result<(), FleetError> {
        let tags = tags
            .iter()
            .map(|(key, value)| self.tag_of(key).value(value).build())
            .collect();
        let call = self.autoscaling().create_or_update_tags();
        let done = call.set_tags(Some(tags)).send().await;
        done.map(|_| ())
            .map_err(|error| group_error(Call::Changes, &error))
    }

    async fn untag(&self, keys: &[String]) -> Result<(), FleetError> {
        let tags = keys.iter().map(|key| self.tag_of(key).build()).collect();
        let call = self.autoscaling().delete_tags();
        let done = call.set_tags(Some(tags)).send().await;
        done.map(|_| ())
            .map_err(|error| group_error(Call::Changes, &error))
    }

    async fn set_desired(&self, desired: u32) -> Result<(), FleetError> {
        let desired = i32::try_from(desired).map_err(|_| {
            FleetError::Rejected(format!("{desired} instances are more than a group has"))
        })?;
        let call = self.autoscaling().set_desired_capacity();
        let done = call
            .auto_scaling_group_name(&self.name)
            .desired_capacity(desired)
            .honor_cooldown(false)
            .send()
            .await;
        done.map(|_| ())
            .map_err(|error| group_error(Call::Changes, &error))
    }

    async fn end(&self, instance: &InstanceId) -> Result<(), FleetError> {
        let call = self
            .autoscaling()
            .terminate_instance_in_auto_scaling_group();
        let done = call
            .instance_id(instance.as_str())
            .should_decrement_desired_capacity(true)
            .send()
            .await;
        done.map_err(|error| group_error(Call::Changes, &error))?;
        self.workers.forget(instance).await;
        Ok(())
    }

    async fn details(
        &self,
        read_at: Timestamp,
        members: &[Member],
    ) -> Result<BTreeMap<InstanceId, Detail>, FleetError> {
        if members.is_empty() {
            *self.known.borrow_mut() = BTreeMap::new();
            return Ok(BTreeMap::new());
        }
        let protected: BTreeMap<&InstanceId, bool> = members
            .iter()
            .map(|member| (&member.id, member.protected))
            .collect();
        let all = self.shared.described(read_at).await?;
        let described: Vec<Described> = members
            .iter()
            .filter_map(|member| all.get(&member.id).cloned())
            .collect();
        let mut reports = self.reports(&described).await;
        let now = self.shared.region.now();
        let mut known = BTreeMap::new();
        let mut details = BTreeMap::new();
        for one in described {
            let fence = one.fence.as_deref();
            let worker = Known {
                fence: fence.and_then(|tag| self.workers.read_fence(tag)),
                report: reports.remove(&one.id),
                protected: protected[&one.id],
            };
            let (fenced, work) = self.workers.judge(worker.signs(), now);
            let notices = self.notices.as_ref();
            let detail = Detail {
                launched_at: one.launched_at,
                fenced,
                work,
                notice: notices.and_then(|notices| notices.of(&one.id, now)),
            };
            details.insert(one.id.clone(), detail);
            known.insert(one.id, worker);
        }
        *self.known.borrow_mut() = known;
        Ok(details)
    }

    /// Sets a fence, or finds that there is one.
    async fn fence(&self, epoch: Epoch, instance: &InstanceId) -> Result<Work, FleetError> {
        let region = &self.shared.region;
        let known = self.known.borrow().get(instance).cloned();
        let mut worker = known.unwrap_or_default();
        // It was set in an earlier cycle, and its worker is still at work; or now.
        let fence = if let Some(fence) = worker.fence.take() {
            fence
        } else {
            let fence = Fence::new(epoch, region.now());
            region.tag(instance, TAG_FENCE, fence.as_str()).await?;
            worker.report = None;
            fence
        };
        worker.fence = Some(fence.clone());
        self.remember(instance, &worker);
        if let Some(answered) = self.workers.fence(instance, &fence).await? {
            worker.report = Some(answered);
        }
        let (_, work) = self.workers.judge(worker.signs(), region.now());
        Ok(work)
    }

    async fn unfence(&self, instance: &InstanceId) -> Result<(), FleetError> {
        self.shared.region.untag(instance, TAG_FENCE).await?;
        if let Some(known) = self.known.borrow_mut().get_mut(instance) {
            known.fence = None;
        }
        self.workers.unfence(instance).await
    }
}

/// An instance as EC2 describes it.
#[derive(Clone, Debug)]
struct Described {
    id: InstanceId,
    launched_at: Timestamp,
    /// The value of the tag that holds its fence.
    fence: Option<String>,
    /// The value of the tag in which its worker says what it is doing.
    work: Option<String>,
}

impl Described {
    fn of(instance: aws_sdk_ec2::types::Instance) -> Option<Self> {
        let tags = instance.tags.unwrap_or_default();
        let tag = |key: &str| {
            let found = tags.iter().find(|tag| tag.key() == Some(key));
            found.and_then(|tag| tag.value.clone())
        };
        Some(Self {
            id: InstanceId::new(&instance.instance_id?),
            launched_at: timestamp(instance.launch_time?),
            fence: tag(TAG_FENCE),
            work: tag(TAG_WORK),
        })
    }
}

/// What to do about an error of Auto Scaling, which tells much by its message
/// only.
fn group_error<E>(call: Call, error: &SdkError<E, HttpResponse>) -> FleetError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let refusal = error.as_service_error();
    let message = refusal.and_then(|refusal| refusal.message()).unwrap_or("");
    match refusal.and_then(|refusal| refusal.code()) {
        Some("ScalingActivityInProgress" | "InstanceRefreshInProgress") => {
            FleetError::Held(message.to_owned())
        }
        Some("ResourceContention") => FleetError::Throttled,
        Some("ValidationError") if message.contains("No managed instance found") => {
            FleetError::NotFound
        }
        Some("ValidationError") if message.contains("min size") => {
            FleetError::LimitReached(message.to_owned())
        }
        _ => fleet_error(call, error),
    }
}

/// The group in plain words.
fn parse(
    read_at: Timestamp,
    name: &str,
    group: Option<&AutoScalingGroup>,
) -> Result<Group, FleetError> {
    let wrong = |what: &str| FleetError::Rejected(format!("the Auto Scaling group {name} {what}"));
    let group = group.ok_or_else(|| {
        wrong("does not exist in this region; correct `group`, or `region` in [aws]")
    })?;
    if let Some(kind) = group.desired_capacity_type()
        && kind != "units"
    {
        return Err(wrong(&format!(
            "counts its size in {kind}; windlass counts instances, so set DesiredCapacityType to units"
        )));
    }
    let size = |value: Option<i32>, what: &str| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| wrong(&format!("has no {what}")))
    };
    let mut members = Vec::new();
    for instance in group.instances() {
        let id = instance
            .instance_id()
            .ok_or_else(|| wrong("lists an instance without an id"))?;
        let told = instance
            .lifecycle_state()
            .map_or("nothing", |state| state.as_str());
        let stage = Stage::of(told).ok_or_else(|| {
            wrong(&format!(
                "has {id} in the state {told:?}, which this windlass does not know"
            ))
        })?;
        if instance
            .weighted_capacity()
            .is_some_and(|weight| weight != "1")
        {
            return Err(wrong(
                "weighs its instances; windlass counts them, so remove the weights",
            ));
        }
        members.push(Member {
            id: InstanceId::new(id),
            stage,
            instance_type: instance.instance_type().unwrap_or("").to_owned(),
            protected: instance.protected_from_scale_in().unwrap_or(false),
        });
    }
    members.sort_by(|one, other| one.id.cmp(&other.id));
    members.dedup_by(|one, other| one.id == other.id);
    let tags = group.tags().iter();
    let suspended = group.suspended_processes().iter();
    Ok(Group {
        read_at,
        name: name.to_owned(),
        desired: size(group.desired_capacity, "desired number")?,
        min: size(group.min_size, "MinSize")?,
        max: size(group.max_size, "MaxSize")?,
        suspended: suspended
            .filter_map(|process| process.process_name.clone())
            .collect(),
        tags: tags
            .filter_map(|tag| Some((tag.key.clone()?, tag.value.clone().unwrap_or_default())))
            .collect(),
        warm_pool: group.warm_pool_configuration().is_some(),
        members,
    })
}

/// A time of AWS; before 1970 there was no EC2.
fn timestamp(at: aws_sdk_ec2::primitives::DateTime) -> Timestamp {
    let secs = u64::try_from(at.secs()).unwrap_or(0);
    let micros = u64::from(at.subsec_nanos() / 1_000);
    Timestamp::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros))
}
