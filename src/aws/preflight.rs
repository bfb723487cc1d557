//! Trying what a configuration needs of AWS before it is needed: who asks, what
//! is there, and what is allowed. Nothing is changed.
//!
//! Calls that change something are made as dry runs, which EC2 offers: it looks
//! at the permissions and the parameters and then answers `DryRunOperation`. Auto
//! Scaling and SQS have none; of those only the reads are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType,
    InstanceType, LaunchTemplateSpecification, LocationType, ResourceType, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use aws_sdk_sqs::types::QueueAttributeName;
use windlass_policies::model::FleetError;

use super::client::AwsClients;
use super::errors::{Call, fleet_error};
use super::permissions::{FLEET_TAG, Launches, Uses};
use crate::clock;

/// One thing that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// What, such as `fleet photos: launch`.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Fine(String),
    /// It could not be tried, which is no failure, and why.
    Skipped(String),
    /// This action must be granted.
    NotPermitted {
        /// Such as `ec2:RunInstances`.
        action: &'static str,
        /// In the words of AWS.
        told: String,
    },
    /// The file is wrong there, or AWS is not as the file has it.
    Wrong {
        /// The key it concerns; empty if there is none.
        key: String,
        /// What is wrong.
        told: String,
    },
}

impl Tried {
    /// Whether it stands in the way of running.
    pub fn fails(&self) -> bool {
        match self.verdict {
            Verdict::Fine(_) | Verdict::Skipped(_) => false,
            Verdict::NotPermitted { .. } | Verdict::Wrong { .. } => true,
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.verdict {
            Verdict::Fine(told) => write!(out, "ok             {what}: {told}"),
            Verdict::Skipped(why) => write!(out, "not tried      {what}: {why}"),
            Verdict::NotPermitted { action, told } => {
                write!(out, "not permitted  {what}: grant {action} ({told})")
            }
            Verdict::Wrong { key, told } if key.is_empty() => {
                write!(out, "wrong          {what}: {told}")
            }
            Verdict::Wrong { key, told } => write!(out, "wrong          {what}: {key}: {told}"),
        }
    }
}

/// Tries all that `uses` needs. Who asks comes first; if that cannot be found
/// out nothing else is tried.
pub async fn tried(clients: &AwsClients, uses: &Uses) -> Vec<Tried> {
    let identity = identity(clients).await;
    if identity.fails() {
        return vec![identity];
    }
    let mut all = vec![identity];
    for (name, launches) in &uses.fleets {
        let fleet = Ec2Fleet {
            clients,
            name,
            launches,
        };
        all.extend(fleet.tried().await);
    }
    for (fleet, group) in &uses.groups {
        all.extend(group_tried(clients, fleet, group).await);
    }
    if uses.group_spot_prices {
        all.push(Tried {
            what: "spot prices of groups".to_owned(),
            verdict: spot_prices(clients, &BTreeSet::new()).await,
        });
    }
    for url in &uses.queues {
        all.push(queue_tried(clients, "messages of", url).await);
    }
    for url in &uses.notices {
        all.push(queue_tried(clients, "notices of", url).await);
    }
    if uses.cloudwatch {
        all.push(metrics_tried(clients).await);
    }
    all
}

async fn identity(clients: &AwsClients) -> Tried {
    let verdict = match clients.sts.get_caller_identity().send().await {
        Ok(caller) => Verdict::Fine(format!(
            "{} in account {}, region {}",
            caller.arn().unwrap_or("somebody"),
            caller.account().unwrap_or("unknown"),
            clients.region
        )),
        // It needs no permission: whoever may not ask this is nobody to AWS.
        Err(error) => Verdict::Wrong {
            key: String::new(),
            told: fleet_error(Call::Reads, &error).to_string(),
        },
    };
    Tried {
        what: "identity".to_owned(),
        verdict,
    }
}

/// What a failed call says: which action to grant, or which key is wrong.
fn refused<E>(action: &'static str, key: &str, error: &SdkError<E, HttpResponse>) -> Verdict
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match fleet_error(Call::Reads, error) {
        FleetError::NotPermitted(told) => Verdict::NotPermitted { action, told },
        other => Verdict::Wrong {
            key: key.to_owned(),
            told: other.to_string(),
        },
    }
}

/// What a dry run says, whose good end is an error too.
fn dry<T, E>(
    action: &'static str,
    key: &str,
    answer: &Result<T, SdkError<E, HttpResponse>>,
) -> Verdict
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match answer {
        Ok(_) => Verdict::Fine(format!("{action} is allowed")),
        Err(error) if error.code() == Some("DryRunOperation") => {
            Verdict::Fine(format!("{action} is allowed"))
        }
        Err(error) => refused(action, key, error),
    }
}

/// A read that only this check makes: without permission it is left out.
fn only_here(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::NotPermitted { action, .. } => {
            Verdict::Skipped(format!("{action} is not allowed; only this check needs it"))
        }
        other => other,
    }
}

/// A fleet whose instances windlass launches itself.
struct Ec2Fleet<'a> {
    clients: &'a AwsClients,
    name: &'a str,
    launches: &'a Launches,
}

impl Ec2Fleet<'_> {
    fn key(&self, key: &str) -> String {
        format!("fleet.{}.ec2.{key}", self.name)
    }

    fn line(&self, what: &str, verdict: Verdict) -> Tried {
        Tried {
            what: format!("fleet {}: {what}", self.name),
            verdict,
        }
    }

    async fn tried(&self) -> Vec<Tried> {
        let (listing, instance) = self.list().await;
        let mut all = vec![self.line("list instances", listing)];
        if let Some(verdict) = self.template().await {
            all.push(self.line("launch template", only_here(verdict)));
        }
        let (subnets, zones) = self.subnets().await;
        if let Some(verdict) = subnets {
            let verdict = if self.launches.zones {
                verdict
            } else {
                only_here(verdict)
            };
            all.push(self.line("subnets", verdict));
        }
        all.push(self.line("types", only_here(self.types(&zones).await)));
        all.push(self.line("launch", self.run_instances().await));
        if self.launches.by_fleet {
            all.push(self.line("launch of several types", self.create_fleet().await));
        }
        if let Some(instance) = instance {
            all.push(self.line("end", self.terminate(&instance).await));
            if self.launches.fence_tags {
                all.push(self.line("fence", self.tag(&instance).await));
            }
        } else {
            let why = "no instance of it is there to try it on";
            all.push(self.line("end and fence", Verdict::Skipped(why.to_owned())));
        }
        if self.launches.spot_prices {
            all.push(self.line(
                "spot prices",
                spot_prices(self.clients, &self.launches.types).await,
            ));
        }
        all
    }

    /// How the listing went, and one of its instances.
    async fn list(&self) -> (Verdict, Option<String>) {
        let filters = [
            filter(&format!("tag:{FLEET_TAG}"), [self.name]),
            filter("instance-state-name", ["pending", "running"]),
        ];
        let listed = self
            .clients
            .ec2
            .describe_instances()
            .set_filters(Some(filters.to_vec()))
            .send()
            .await;
        match listed {
            Ok(page) => {
                let instances: Vec<String> = page
                    .reservations()
                    .iter()
                    .flat_map(aws_sdk_ec2::types::Reservation::instances)
                    .filter_map(|instance| instance.instance_id().map(str::to_owned))
                    .collect();
                let told = format!("{} with its tag", instances.len());
                (Verdict::Fine(told), instances.into_iter().next())
            }
            Err(error) => (refused("ec2:DescribeInstances", "", &error), None),
        }
    }

    async fn template(&self) -> Option<Verdict> {
        let template = self.launches.template.as_ref()?;
        let version = self.launches.version.as_deref().unwrap_or("$Default");
        let request = self
            .clients
            .ec2
            .describe_launch_template_versions()
            .versions(version);
        let request = if template.starts_with("lt-") {
            request.launch_template_id(template)
        } else {
            request.launch_template_name(template)
        };
        let key = self.key("launch_template");
        Some(match request.send().await {
            Ok(found) if found.launch_template_versions().is_empty() => Verdict::Wrong {
                key,
                told: format!("{template} has no version {version}"),
            },
            Ok(_) => Verdict::Fine(format!("{template}, version {version}")),
            Err(error) => refused("ec2:DescribeLaunchTemplateVersions", &key, &error),
        })
    }

    /// How the subnets are, and the zones they are in.
    async fn subnets(&self) -> (Option<Verdict>, BTreeSet<String>) {
        let wanted = &self.launches.subnets;
        if wanted.is_empty() {
            return (None, BTreeSet::new());
        }
        let key = self.key("subnets");
        // By a filter: naming one that is not there would hide the others.
        let found = self
            .clients
            .ec2
            .describe_subnets()
            .filters(filter("subnet-id", wanted.iter().map(String::as_str)))
            .send()
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                return (
                    Some(refused("ec2:DescribeSubnets", &key, &error)),
                    BTreeSet::new(),
                );
            }
        };
        let there: BTreeMap<&str, &str> = found
            .subnets()
            .iter()
            .filter_map(|subnet| Some((subnet.subnet_id()?, subnet.availability_zone()?)))
            .collect();
        let missing: Vec<&str> = wanted
            .iter()
            .map(String::as_str)
            .filter(|subnet| !there.contains_key(subnet))
            .collect();
        let zones: BTreeSet<String> = there.values().map(|zone| (*zone).to_owned()).collect();
        let verdict = if missing.is_empty() {
            let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
            Verdict::Fine(format!("{} in {}", wanted.len(), zones.join(", ")))
        } else {
            Verdict::Wrong {
                key,
                told: format!(
                    "{} is not in region {}",
                    missing.join(", "),
                    self.clients.region
                ),
            }
        };
        (Some(verdict), zones)
    }

    /// Whether every zone offers every type; without zones, whether the region does.
    async fn types(&self, zones: &BTreeSet<String>) -> Verdict {
        let key = self.key("offering.types");
        let types = &self.launches.types;
        let request = self
            .clients
            .ec2
            .describe_instance_type_offerings()
            .filters(filter("instance-type", types.iter().map(String::as_str)));
        let request = if zones.is_empty() {
            request.location_type(LocationType::Region)
        } else {
            request
                .location_type(LocationType::AvailabilityZone)
                .filters(filter("location", zones.iter().map(String::as_str)))
        };
        let offered: BTreeSet<(String, String)> = match request.send().await {
            Ok(page) => page
                .instance_type_offerings()
                .iter()
                .filter_map(|one| {
                    let name = one.instance_type()?.as_str().to_owned();
                    Some((name, one.location()?.to_owned()))
                })
                .collect(),
            Err(error) => return refused("ec2:DescribeInstanceTypeOfferings", &key, &error),
        };
        let offered_at =
            |name: &String, zone: &String| offered.contains(&(name.clone(), zone.clone()));
        let region = BTreeSet::from([self.clients.region.clone()]);
        let places = if zones.is_empty() { &region } else { zones };
        let lacking: Vec<String> = types
            .iter()
            .flat_map(|name| places.iter().map(move |zone| (name, zone)))
            .filter(|(name, zone)| !offered_at(name, zone))
            .map(|(name, zone)| format!("{name} in {zone}"))
            .collect();
        if lacking.is_empty() {
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            return Verdict::Fine(format!("{} offered in all zones", types.join(", ")));
        }
        Verdict::Wrong {
            key,
            told: format!("EC2 does not offer {}", lacking.join(", ")),
        }
    }

    fn tags(&self) -> TagSpecification {
        let tag = Tag::builder().key(FLEET_TAG).value(self.name).build();
        TagSpecification::builder()
            .resource_type(ResourceType::Instance)
            .tags(tag)
            .build()
    }

    async fn run_instances(&self) -> Verdict {
        let launches = self.launches;
        let version = launches.version.as_deref().unwrap_or("$Default");
        let template = launches.template.as_ref().map(|template| {
            let named = LaunchTemplateSpecification::builder().version(version);
            if template.starts_with("lt-") {
                named.launch_template_id(template).build()
            } else {
                named.launch_template_name(template).build()
            }
        });
        let answer = self
            .clients
            .ec2
            .run_instances()
            .dry_run(true)
            .min_count(1)
            .max_count(1)
            .set_launch_template(template)
            .set_image_id(launches.image.clone())
            .set_instance_type(
                launches
                    .types
                    .first()
                    .map(|name| InstanceType::from(&name[..])),
            )
            .set_subnet_id(launches.subnets.first().cloned())
            .tag_specifications(self.tags())
            .send()
            .await;
        let key = if launches.template.is_some() {
            "launch_template"
        } else {
            "image"
        };
        dry("ec2:RunInstances", &self.key(key), &answer)
    }

    async fn create_fleet(&self) -> Verdict {
        let launches = self.launches;
        let version = launches.version.as_deref().unwrap_or("$Default");
        let template = launches.template.clone().unwrap_or_default();
        let named = FleetLaunchTemplateSpecificationRequest::builder().version(version);
        let named = if template.starts_with("lt-") {
            named.launch_template_id(&template).build()
        } else {
            named.launch_template_name(&template).build()
        };
        let overrides = launches.types.iter().map(|name| {
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(InstanceType::from(&name[..]))
                .set_subnet_id(launches.subnets.first().cloned())
                .build()
        });
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(named)
            .set_overrides(Some(overrides.collect()))
            .build();
        let market = if launches.spot {
            DefaultTargetCapacityType::Spot
        } else {
            DefaultTargetCapacityType::OnDemand
        };
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(market)
            .build();
        let answer = self
            .clients
            .ec2
            .create_fleet()
            .dry_run(true)
            .r#type(FleetType::Instant)
            .launch_template_configs(config)
            .target_capacity_specification(capacity)
            .tag_specifications(self.tags())
            .send()
            .await;
        dry("ec2:CreateFleet", &self.key("launch_template"), &answer)
    }

    async fn terminate(&self, instance: &str) -> Verdict {
        let ec2 = &self.clients.ec2;
        let request = ec2
            .terminate_instances()
            .dry_run(true)
            .instance_ids(instance);
        dry("ec2:TerminateInstances", "", &request.send().await)
    }

    async fn tag(&self, instance: &str) -> Verdict {
        let tag = Tag::builder().key("windlass:fence").value("").build();
        let ec2 = &self.clients.ec2;
        let request = ec2
            .create_tags()
            .dry_run(true)
            .resources(instance)
            .tags(tag);
        dry("ec2:CreateTags", "", &request.send().await)
    }
}

/// Whether the spot prices of `types` can be read, or of any if there are none.
async fn spot_prices(clients: &AwsClients, types: &BTreeSet<String>) -> Verdict {
    let types = types.iter().map(|name| InstanceType::from(&name[..]));
    let answer = clients
        .ec2
        .describe_spot_price_history()
        .set_instance_types(Some(types.collect()))
        .max_results(5)
        .send()
        .await;
    match answer {
        Ok(_) => Verdict::Fine("can be read".to_owned()),
        Err(error) => refused("ec2:DescribeSpotPriceHistory", "", &error),
    }
}

fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Filter {
    let values = values.into_iter().map(str::to_owned).collect();
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

async fn group_tried(clients: &AwsClients, fleet: &str, group: &str) -> Vec<Tried> {
    let key = format!("fleet.{fleet}.asg.group");
    let line = |what: &str, verdict| Tried {
        what: format!("fleet {fleet}: {what}"),
        verdict,
    };
    let asked = clients
        .autoscaling
        .describe_auto_scaling_groups()
        .auto_scaling_group_names(group)
        .send()
        .await;
    let found = match asked {
        Ok(found) => found,
        Err(error) => {
            let verdict = refused("autoscaling:DescribeAutoScalingGroups", &key, &error);
            return vec![line("group", verdict)];
        }
    };
    let Some(found) = found.auto_scaling_groups().first() else {
        let told = format!("there is no group {group} in region {}", clients.region);
        return vec![line("group", Verdict::Wrong { key, told })];
    };
    let suspended: Vec<&str> = found
        .suspended_processes()
        .iter()
        .filter_map(|process| process.process_name())
        .filter(|name| ["Launch", "Terminate"].contains(name))
        .collect();
    let verdict = if suspended.is_empty() {
        Verdict::Fine(format!("{group}, {} instances", found.instances().len()))
    } else {
        let told = format!(
            "{} is suspended in {group}; resume it",
            suspended.join(" and ")
        );
        Verdict::Wrong { key, told }
    };
    vec![line("group", verdict)]
}

async fn queue_tried(clients: &AwsClients, what: &str, url: &str) -> Tried {
    let answer = clients
        .sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await;
    let verdict = match answer {
        Ok(answer) => {
            let counts = answer.attributes().and_then(|all| all.values().next());
            let count = counts.map_or("no number of messages", String::as_str);
            Verdict::Fine(format!("{count} waiting"))
        }
        Err(error) => match refused("sqs:GetQueueAttributes", "", &error) {
            Verdict::Wrong { told, .. } => Verdict::Wrong {
                key: String::new(),
                told: format!("{told}; look at the queue's URL and the region"),
            },
            other => other,
        },
    };
    Tried {
        what: format!("{what} {url}"),
        verdict,
    }
}

async fn metrics_tried(clients: &AwsClients) -> Tried {
    let now = clock::now();
    let secs = i64::try_from(now.micros() / 1_000_000).unwrap_or(i64::MAX);
    let time = aws_sdk_cloudwatch::primitives::DateTime::from_secs;
    let metric = aws_sdk_cloudwatch::types::Metric::builder()
        .namespace("AWS/SQS")
        .metric_name("ApproximateNumberOfMessagesVisible");
    let stat = aws_sdk_cloudwatch::types::MetricStat::builder()
        .metric(metric.build())
        .period(60)
        .stat("Average");
    let query = aws_sdk_cloudwatch::types::MetricDataQuery::builder()
        .id("q0")
        .metric_stat(stat.build());
    let answer = clients
        .cloudwatch
        .get_metric_data()
        .start_time(time(secs - 300))
        .end_time(time(secs))
        .metric_data_queries(query.build())
        .send()
        .await;
    let verdict = match answer {
        Ok(_) => Verdict::Fine("can be read".to_owned()),
        Err(error) => refused("cloudwatch:GetMetricData", "", &error),
    };
    Tried {
        what: "metrics".to_owned(),
        verdict,
    }
}
