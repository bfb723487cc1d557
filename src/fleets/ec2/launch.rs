//! Launching: `RunInstances` where there is one type in one place, and
//! `CreateFleet` where EC2 is to choose among several.
//!
//! Whatever is sent is a function of the launch token and the configuration
//! alone, so that asking again with the same token is the same request, and
//! EC2 answers it with what came of it the first time.

use std::collections::BTreeSet;

use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    CreateFleetError, CreateFleetInstance, DefaultTargetCapacityType,
    FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetOnDemandAllocationStrategy, FleetType,
    HttpTokensState, IamInstanceProfileSpecification, InstanceInterruptionBehavior,
    InstanceMarketOptionsRequest, InstanceMetadataOptionsRequest, InstanceMetadataTagsState,
    InstanceType, LaunchTemplateSpecification, MarketType, OnDemandOptionsRequest, ResourceType,
    ShutdownBehavior, SpotAllocationStrategy, SpotInstanceType, SpotMarketOptions,
    SpotOptionsRequest, Tag, TagSpecification, TargetCapacitySpecificationRequest,
};
use aws_smithy_types::base64;

use windlass_policies::model::{FleetError, InstanceId, LaunchToken, Market};

use super::{TAG_EPOCH, TAG_OFFERING, TAG_TOKEN, token_epoch};
use crate::aws::budget::{Bucket, Budget};
use crate::aws::errors::{Call, fleet_error, of_code};
use crate::aws::region::{Region, TAG_FLEET};
use crate::config::ec2::{Ec2Offering, Ec2Settings, LaunchFrom};

/// What is asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) fleet: &'a str,
    pub(crate) settings: &'a Ec2Settings,
    pub(crate) offering: &'a Ec2Offering,
    pub(crate) token: &'a LaunchToken,
    pub(crate) count: u32,
}

/// Launches up to `wanted.count` instances, and gives those EC2 granted.
///
/// # Errors
/// Why there are none, or that it is not known.
pub(super) async fn launch(
    region: &Region,
    wanted: &Wanted<'_>,
) -> Result<Vec<InstanceId>, FleetError> {
    // More than the bucket ever holds could never be asked for. The same token
    // always asks for the same.
    let count = wanted.count.min(Budget::most(Bucket::LaunchedInstances));
    let call = if wanted.offering.is_one_pool() {
        Bucket::RunInstances
    } else {
        Bucket::Change
    };
    let needed = [(call, 1), (Bucket::LaunchedInstances, count)];
    region.budget.take(region.now(), &needed)?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    if wanted.offering.is_one_pool() {
        run_instances(region, wanted, count).await
    } else {
        create_fleet(region, wanted, count).await
    }
}

/// The instances that an answer names, each once and in order.
fn granted<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<InstanceId> {
    let ids: BTreeSet<InstanceId> = ids.map(InstanceId::new).collect();
    ids.into_iter().collect()
}

async fn run_instances(
    region: &Region,
    wanted: &Wanted<'_>,
    count: i32,
) -> Result<Vec<InstanceId>, FleetError> {
    let offering = wanted.offering;
    let kind = offering.types.first().map(String::as_str);
    let subnet = offering.subnets.first().map(String::as_str);
    let answer = run_call(region.ec2(), wanted, kind, subnet)
        .max_count(count)
        .send()
        .await
        .map_err(|error| fleet_error(Call::Changes, &error))?;
    let instances = answer.instances().iter();
    let granted = granted(instances.filter_map(|instance| instance.instance_id()));
    if granted.is_empty() {
        // EC2 never grants nothing: the answer was cut off on the way.
        let why = "EC2 granted a launch and named no instance";
        return Err(FleetError::Unknown(why.to_owned()));
    }
    Ok(granted)
}

/// The call that launches one instance of the type `kind` into `subnet`, not
/// yet sent: [`crate::aws::preflight`] sends the same as a dry run.
pub(crate) fn run_call(
    ec2: &aws_sdk_ec2::Client,
    wanted: &Wanted<'_>,
    kind: Option<&str>,
    subnet: Option<&str>,
) -> RunInstancesFluentBuilder {
    let mut call = ec2
        .run_instances()
        .client_token(wanted.token.as_str())
        .min_count(1)
        .max_count(1)
        .set_instance_type(kind.map(InstanceType::from))
        .set_subnet_id(subnet.map(str::to_owned))
        .tag_specifications(tags(wanted, ResourceType::Instance));
    if wanted.offering.offering.market == Market::Spot {
        call = call.instance_market_options(spot_once());
    }
    match &wanted.settings.launch {
        LaunchFrom::Template { template, version } => {
            let (id, name) = id_or_name(template);
            let template = LaunchTemplateSpecification::builder()
                .set_launch_template_id(id)
                .set_launch_template_name(name)
                .version(version)
                .build();
            call.launch_template(template)
        }
        LaunchFrom::Image {
            image,
            security_groups,
            key_name,
            instance_profile,
            user_data,
        } => call
            .image_id(image)
            .set_security_group_ids(Some(security_groups.clone()))
            .set_key_name(key_name.clone())
            .set_iam_instance_profile(instance_profile.as_deref().map(profile))
            .set_user_data(user_data.as_ref().map(base64::encode))
            // A worker that shuts its machine down must not leave a stopped
            // one behind, whose disk goes on costing.
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .metadata_options(
                InstanceMetadataOptionsRequest::builder()
                    .http_tokens(HttpTokensState::Required)
                    .instance_metadata_tags(InstanceMetadataTagsState::Enabled)
                    .build(),
            ),
    }
}

async fn create_fleet(
    region: &Region,
    wanted: &Wanted<'_>,
    count: i32,
) -> Result<Vec<InstanceId>, FleetError> {
    let call = fleet_call(region.ec2(), wanted, count)?;
    let answer = call
        .send()
        .await
        .map_err(|error| fleet_error(Call::Changes, &error))?;
    let ids = answer
        .instances()
        .iter()
        .flat_map(CreateFleetInstance::instance_ids);
    let granted = granted(ids.map(String::as_str));
    if !granted.is_empty() {
        return Ok(granted);
    }
    if answer.fleet_id().is_none() {
        let why = "EC2 granted a launch and named no fleet";
        return Err(FleetError::Unknown(why.to_owned()));
    }
    Err(nothing_granted(answer.errors()))
}

/// The call that launches from any pool of the offering, not yet sent.
///
/// # Errors
/// If there is no template, without which EC2 does not choose.
pub(crate) fn fleet_call(
    ec2: &aws_sdk_ec2::Client,
    wanted: &Wanted<'_>,
    count: i32,
) -> Result<CreateFleetFluentBuilder, FleetError> {
    let LaunchFrom::Template { template, version } = &wanted.settings.launch else {
        let why = "several types or subnets need a launch template";
        return Err(FleetError::Rejected(why.to_owned()));
    };
    let (id, name) = id_or_name(template);
    let template = FleetLaunchTemplateSpecificationRequest::builder()
        .set_launch_template_id(id)
        .set_launch_template_name(name)
        .version(version)
        .build();
    let pools = FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(template)
        .set_overrides(Some(pools(wanted.offering)))
        .build();
    let market = match wanted.offering.offering.market {
        Market::OnDemand => DefaultTargetCapacityType::OnDemand,
        Market::Spot => DefaultTargetCapacityType::Spot,
    };
    let capacity = TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(count)
        .default_target_capacity_type(market)
        .build();
    let call = ec2
        .create_fleet()
        .client_token(wanted.token.as_str())
        .r#type(FleetType::Instant)
        .launch_template_configs(pools)
        .target_capacity_specification(capacity)
        .tag_specifications(tags(wanted, ResourceType::Instance));
    Ok(match wanted.offering.offering.market {
        Market::OnDemand => call.on_demand_options(
            OnDemandOptionsRequest::builder()
                .allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice)
                .build(),
        ),
        Market::Spot => call.spot_options(
            SpotOptionsRequest::builder()
                .allocation_strategy(SpotAllocationStrategy::PriceCapacityOptimized)
                .build(),
        ),
    })
}

/// What it means that no pool gave anything: that some may have, then whatever
/// a person must see to, then whatever most pools said.
pub(super) fn nothing_granted(errors: &[CreateFleetError]) -> FleetError {
    let mut meant: Vec<FleetError> = errors
        .iter()
        .map(|error| {
            let code = error.error_code().unwrap_or("");
            of_code(
                Call::Changes,
                code,
                error.error_message().unwrap_or(""),
                None,
            )
        })
        .collect();
    let urgency = |error: &FleetError| match error {
        FleetError::Unknown(_) => 0,
        FleetError::NotPermitted(_) => 1,
        FleetError::StaleEpoch | FleetError::Unreachable(_) | FleetError::Held(_) => 2,
        FleetError::Rejected(_) | FleetError::NotFound => 3,
        FleetError::LimitReached(_) => 4,
        FleetError::Throttled => 5,
        FleetError::NoCapacity => 6,
    };
    // One sound pool that is empty tells more than another that is wrong.
    if meant.contains(&FleetError::NoCapacity) && !meant.iter().any(|error| urgency(error) <= 1) {
        return FleetError::NoCapacity;
    }
    meant.sort_by_key(urgency);
    meant.into_iter().next().unwrap_or(FleetError::NoCapacity)
}

/// Every type in every subnet.
fn pools(offering: &Ec2Offering) -> Vec<FleetLaunchTemplateOverridesRequest> {
    let subnets: Vec<Option<String>> = if offering.subnets.is_empty() {
        vec![None]
    } else {
        offering.subnets.iter().cloned().map(Some).collect()
    };
    let of_type = |name: &String| {
        let kind = InstanceType::from(name.as_str());
        subnets
            .iter()
            .map(move |subnet| {
                FleetLaunchTemplateOverridesRequest::builder()
                    .instance_type(kind.clone())
                    .set_subnet_id(subnet.clone())
                    .build()
            })
            .collect::<Vec<_>>()
    };
    offering.types.iter().flat_map(of_type).collect()
}

fn tags(wanted: &Wanted<'_>, resource: ResourceType) -> TagSpecification {
    let epoch = token_epoch(wanted.token).map(|epoch| epoch.to_string());
    let pairs = [
        (TAG_FLEET, wanted.fleet),
        (TAG_TOKEN, wanted.token.as_str()),
        // Of the token, not of this start: the request must stay the same.
        (TAG_EPOCH, epoch.as_deref().unwrap_or("0")),
        (TAG_OFFERING, &wanted.offering.offering.name),
    ];
    let tags = pairs.map(|(key, value)| Tag::builder().key(key).value(value).build());
    TagSpecification::builder()
        .resource_type(resource)
        .set_tags(Some(tags.to_vec()))
        .build()
}

/// A spot instance that is not bought again by EC2 when it was taken back.
fn spot_once() -> InstanceMarketOptionsRequest {
    let once = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::OneTime)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
        .build();
    InstanceMarketOptionsRequest::builder()
        .market_type(MarketType::Spot)
        .spot_options(once)
        .build()
}

fn profile(name: &str) -> IamInstanceProfileSpecification {
    let builder = IamInstanceProfileSpecification::builder();
    if name.starts_with("arn:") {
        builder.arn(name).build()
    } else {
        builder.name(name).build()
    }
}

fn id_or_name(template: &str) -> (Option<String>, Option<String>) {
    if template.starts_with("lt-") {
        (Some(template.to_owned()), None)
    } else {
        (None, Some(template.to_owned()))
    }
}
