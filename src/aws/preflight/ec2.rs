//! Trying what a fleet needs whose instances windlass launches itself.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Filter, InstanceType, LocationType, Tag};
use windlass_policies::model::LaunchToken;

use super::{Trial, Tried, Verdict, dry, only_here, patiently, refused, words};
use crate::aws::client::AwsClients;
use crate::aws::permissions::{Extent, FLEET_TAG};
use crate::clock;
use crate::config::ec2::{Ec2Offering, Ec2Settings, LaunchFrom, Ready};
use crate::fleets::ec2::launch::{Wanted, fleet_call, run_call};
use crate::fleets::workers::TAG_FENCE;

/// Launches tried of one offering: EC2 lets two a second through. What is left
/// out is told.
const LAUNCHES_MAX: usize = 40;

/// As many instances as a page of EC2 holds; that some are there is enough.
const INSTANCES_LOOKED_AT: i32 = 1_000;

/// Why there is nothing to try a change of an instance on.
pub(super) const NO_INSTANCE: &str = "no instance of it is there to try it on; check again then";

/// Why nothing is tried that changes something.
const NO_DRY_RUNS: &str = "this server takes no dry runs";

/// Whether the server honours `DryRun`, found out by a call that only reads. One
/// that refuses the listing is taken at its word.
pub(super) async fn takes_dry_runs(clients: &AwsClients) -> bool {
    let listing = clients.ec2.describe_instances().dry_run(true).send();
    listing.await.is_err()
}

impl Trial<'_> {
    /// Tries what the fleet `name` needs; changes only as dry runs, and only if
    /// the server is `honest` about those.
    pub(super) async fn ec2(&self, name: &str, settings: &Ec2Settings, honest: bool) -> Vec<Tried> {
        let fleet = Ec2Trial {
            trial: self,
            name,
            settings,
        };
        let (listing, instance) = self
            .instances(filter(&format!("tag:{FLEET_TAG}"), [name]))
            .await;
        let mut all = vec![fleet.line("list instances", listing)];
        all.extend(fleet.reads().await);
        if self.extent == Extent::Observe {
            return all;
        }
        for (index, offering) in settings.offerings.iter().enumerate() {
            all.extend(fleet.launches(index, offering, honest).await);
        }
        let target = instance.as_deref().ok_or(NO_INSTANCE);
        let target = if honest { target } else { Err(NO_DRY_RUNS) };
        all.push(fleet.end(target).await);
        all.extend(self.fence(name, target).await);
        all
    }

    /// How a listing of the running instances that `filter` lets through went,
    /// and one of them.
    pub(super) async fn instances(&self, filter_by: Filter) -> (Verdict, Option<String>) {
        let listed = self
            .clients
            .ec2
            .describe_instances()
            .filters(filter_by)
            .filters(filter("instance-state-name", ["pending", "running"]))
            .max_results(INSTANCES_LOOKED_AT)
            .send()
            .await;
        match listed {
            Ok(page) => {
                let more = page.next_token().is_some_and(|token| !token.is_empty());
                let instances: Vec<String> = page
                    .reservations()
                    .iter()
                    .flat_map(aws_sdk_ec2::types::Reservation::instances)
                    .filter_map(|instance| instance.instance_id().map(str::to_owned))
                    .collect();
                let or_more = if more { " or more" } else { "" };
                let told = format!("{}{or_more} with its tag", instances.len());
                (Verdict::Fine(told), instances.into_iter().next())
            }
            Err(error) => (refused("ec2:DescribeInstances", "", &error), None),
        }
    }

    /// Whether the spot prices of `types` can be read, or of any if there are none.
    pub(super) async fn spot_prices(&self, types: &BTreeSet<&str>) -> Verdict {
        let types = types.iter().map(|name| InstanceType::from(*name));
        let answer = self
            .clients
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

    /// Tries to set a fence on an instance and to remove it, of a fleet with
    /// its own instances or in a group.
    pub(super) async fn fence(&self, fleet: &str, target: Result<&str, &str>) -> Vec<Tried> {
        let (set, remove) = (
            format!("fleet {fleet}: fence"),
            format!("fleet {fleet}: take a fence back"),
        );
        let instance = match target {
            Ok(instance) => instance,
            Err(why) => {
                return vec![
                    self.untried(&set, &["ec2:CreateTags"], why),
                    self.untried(&remove, &["ec2:DeleteTags"], why),
                ];
            }
        };
        let ec2 = &self.clients.ec2;
        let tag = Tag::builder().key(TAG_FENCE);
        let call = ec2.create_tags().dry_run(true).resources(instance);
        let call = call.tags(tag.clone().value("0-0").build());
        let made = dry("ec2:CreateTags", "", &call.send().await);
        let call = ec2.delete_tags().dry_run(true).resources(instance);
        let call = call.tags(tag.build());
        let removed = dry("ec2:DeleteTags", "", &call.send().await);
        let line = |what, verdict| Tried { what, verdict };
        vec![line(set, made), line(remove, removed)]
    }
}

/// A fleet whose instances windlass launches itself.
struct Ec2Trial<'a> {
    trial: &'a Trial<'a>,
    name: &'a str,
    settings: &'a Ec2Settings,
}

impl Ec2Trial<'_> {
    fn key(&self, key: &str) -> String {
        format!("fleet.{}.ec2.{key}", self.name)
    }

    fn line(&self, what: &str, verdict: Verdict) -> Tried {
        Tried {
            what: format!("fleet {}: {what}", self.name),
            verdict,
        }
    }

    fn ec2(&self) -> &aws_sdk_ec2::Client {
        &self.trial.clients.ec2
    }

    /// What is there of what the file names.
    async fn reads(&self) -> Vec<Tried> {
        let mut all = Vec::new();
        if self.settings.ready == Ready::StatusOk {
            all.push(self.line("status checks", self.status().await));
        }
        let (offerings, mut types) = (&self.settings.offerings, BTreeSet::new());
        for offering in offerings.iter().filter(|one| one.is_spot_priced()) {
            types.extend(offering.types.iter().map(String::as_str));
        }
        if !types.is_empty() {
            all.push(self.line("spot prices", self.trial.spot_prices(&types).await));
        }
        match &self.settings.launch {
            LaunchFrom::Template { template, version } => {
                let verdict = self.template(template, version).await;
                all.push(self.line("launch template", only_here(verdict)));
            }
            LaunchFrom::Image {
                image,
                security_groups,
                key_name,
                ..
            } => {
                let verdict = self.image(image).await;
                all.push(self.line("image", only_here(verdict)));
                let verdict = self.security_groups(security_groups).await;
                all.push(self.line("security groups", only_here(verdict)));
                if let Some(name) = key_name {
                    let verdict = self.key_pair(name).await;
                    all.push(self.line("key pair", only_here(verdict)));
                }
            }
        }
        let wanted: BTreeSet<&String> = self
            .settings
            .offerings
            .iter()
            .flat_map(|offering| &offering.subnets)
            .collect();
        let (verdict, zones) = self.subnets(&wanted).await;
        if !wanted.is_empty() {
            // Spot prices go by the zones of the subnets.
            let needed = offerings
                .iter()
                .any(|one| one.is_spot_priced() && !one.subnets.is_empty());
            let verdict = if needed { verdict } else { only_here(verdict) };
            all.push(self.line("subnets", verdict));
        }
        for (index, offering) in self.settings.offerings.iter().enumerate() {
            let what = format!("types of {}", offering.offering.name);
            let verdict = self.types(index, offering, &zones).await;
            all.push(self.line(&what, only_here(verdict)));
        }
        all
    }

    async fn status(&self) -> Verdict {
        let call = self.ec2().describe_instance_status().max_results(5);
        match call.send().await {
            Ok(_) => Verdict::Fine("can be read".to_owned()),
            Err(error) => refused("ec2:DescribeInstanceStatus", "", &error),
        }
    }

    /// An image that is not there, or not for this account, is an error or no
    /// answer.
    async fn image(&self, image: &str) -> Verdict {
        let key = self.key("image");
        match self.ec2().describe_images().image_ids(image).send().await {
            Ok(found) => match found.images().first() {
                Some(found) => {
                    let name = found.name().unwrap_or("no name");
                    Verdict::Fine(format!("{image}, {name}"))
                }
                None => self.not_here(key, image),
            },
            Err(error) => refused("ec2:DescribeImages", &key, &error),
        }
    }

    async fn security_groups(&self, groups: &[String]) -> Verdict {
        let key = self.key("security_groups");
        let call = self.ec2().describe_security_groups();
        let call = call.filters(filter("group-id", groups.iter().map(String::as_str)));
        match call.send().await {
            Ok(found) => {
                let found = found.security_groups().iter();
                let found: BTreeSet<&str> = found.filter_map(|group| group.group_id()).collect();
                let missing = groups.iter().map(String::as_str);
                let missing: Vec<&str> = missing.filter(|id| !found.contains(id)).collect();
                if missing.is_empty() {
                    Verdict::Fine(groups.join(", "))
                } else {
                    self.not_here(key, &missing.join(", "))
                }
            }
            Err(error) => refused("ec2:DescribeSecurityGroups", &key, &error),
        }
    }

    async fn key_pair(&self, name: &str) -> Verdict {
        let key = self.key("key_name");
        let call = self.ec2().describe_key_pairs();
        let call = call.filters(filter("key-name", [name]));
        match call.send().await {
            Ok(found) if found.key_pairs().is_empty() => self.not_here(key, name),
            Ok(_) => Verdict::Fine(name.to_owned()),
            Err(error) => refused("ec2:DescribeKeyPairs", &key, &error),
        }
    }

    fn not_here(&self, key: String, what: &str) -> Verdict {
        let region = &self.trial.clients.region;
        Verdict::Wrong {
            key,
            told: format!("{what} is not in region {region}"),
        }
    }

    async fn template(&self, template: &str, version: &str) -> Verdict {
        let request = self
            .ec2()
            .describe_launch_template_versions()
            .versions(version);
        let request = if template.starts_with("lt-") {
            request.launch_template_id(template)
        } else {
            request.launch_template_name(template)
        };
        let key = self.key("launch_template");
        match request.send().await {
            Ok(found) if found.launch_template_versions().is_empty() => Verdict::Wrong {
                key,
                told: format!("{template} has no version {version}"),
            },
            Ok(_) => Verdict::Fine(format!("{template}, version {version}")),
            Err(error) => refused("ec2:DescribeLaunchTemplateVersions", &key, &error),
        }
    }

    /// How the subnets are, and the zone each is in.
    async fn subnets(&self, wanted: &BTreeSet<&String>) -> (Verdict, BTreeMap<String, String>) {
        let key = self.key("subnets");
        if wanted.is_empty() {
            return (Verdict::Fine("none are named".to_owned()), BTreeMap::new());
        }
        // By a filter: naming one that is not there would hide the others.
        let found = self
            .ec2()
            .describe_subnets()
            .filters(filter("subnet-id", wanted.iter().map(|name| name.as_str())))
            .send()
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let verdict = refused("ec2:DescribeSubnets", &key, &error);
                return (verdict, BTreeMap::new());
            }
        };
        let there: BTreeMap<String, String> = found
            .subnets()
            .iter()
            .filter_map(|subnet| {
                let zone = subnet.availability_zone()?.to_owned();
                Some((subnet.subnet_id()?.to_owned(), zone))
            })
            .collect();
        let missing: Vec<&str> = wanted
            .iter()
            .map(|name| name.as_str())
            .filter(|subnet| !there.contains_key(*subnet))
            .collect();
        let verdict = if missing.is_empty() {
            let zones: BTreeSet<&str> = there.values().map(String::as_str).collect();
            let zones: Vec<&str> = zones.into_iter().collect();
            Verdict::Fine(format!("{} in {}", wanted.len(), zones.join(", ")))
        } else {
            self.not_here(key, &missing.join(", "))
        };
        (verdict, there)
    }

    /// Whether each type of an offering is to be had in a zone of its subnets;
    /// without subnets, in the region.
    async fn types(
        &self,
        index: usize,
        offering: &Ec2Offering,
        zones: &BTreeMap<String, String>,
    ) -> Verdict {
        let key = self.key(&format!("offering[{index}].types"));
        let places: BTreeSet<&str> = offering
            .subnets
            .iter()
            .filter_map(|subnet| zones.get(subnet).map(String::as_str))
            .collect();
        let in_zones = !places.is_empty();
        let names = offering.types.iter().map(String::as_str);
        let request = self
            .ec2()
            .describe_instance_type_offerings()
            .filters(filter("instance-type", names));
        let request = if in_zones {
            request
                .location_type(LocationType::AvailabilityZone)
                .filters(filter("location", places.iter().copied()))
        } else {
            request.location_type(LocationType::Region)
        };
        let mut offered: BTreeSet<(String, String)> = BTreeSet::new();
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => return refused("ec2:DescribeInstanceTypeOfferings", &key, &error),
            };
            offered.extend(page.instance_type_offerings().iter().filter_map(|one| {
                let name = one.instance_type()?.as_str().to_owned();
                Some((name, one.location()?.to_owned()))
            }));
        }
        let region = self.trial.clients.region.as_str();
        let places = if in_zones {
            places
        } else {
            BTreeSet::from([region])
        };
        judge_types(key, &offering.types, &places, &offered)
    }

    /// Tries every type and every subnet of an offering once, and to ask for all
    /// of them together if EC2 chooses.
    async fn launches(&self, index: usize, offering: &Ec2Offering, honest: bool) -> Vec<Tried> {
        let what = format!("launch of {}", offering.offering.name);
        let mut actions = vec!["ec2:RunInstances", "ec2:CreateTags"];
        if !offering.is_one_pool() {
            actions.push("ec2:CreateFleet");
        }
        if !honest {
            let what = format!("fleet {}: {what}", self.name);
            return vec![self.trial.untried(&what, &actions, NO_DRY_RUNS)];
        }
        let pools = sample(offering);
        let mut refusals: Vec<Verdict> = Vec::new();
        for (serial, (kind, subnet)) in pools.iter().take(LAUNCHES_MAX).enumerate() {
            let verdict = self.run(offering, (index, serial), kind, *subnet).await;
            if !matches!(verdict, Verdict::Fine(_)) && !refusals.contains(&verdict) {
                refusals.push(verdict);
            }
        }
        if refusals.is_empty() {
            let tried = pools.len().min(LAUNCHES_MAX);
            let left_out = match pools.len() - tried {
                0 => String::new(),
                left_out => format!("; {left_out} more types and subnets were not tried"),
            };
            let told = format!("ec2:RunInstances is allowed ({tried} tried{left_out})");
            refusals.push(Verdict::Fine(told));
        }
        let mut all: Vec<Tried> = refusals
            .into_iter()
            .map(|verdict| self.line(&what, verdict))
            .collect();
        if !offering.is_one_pool() {
            let verdict = self.create_fleet(offering, index).await;
            all.push(self.line(&format!("{what}, EC2 choosing"), verdict));
        }
        all
    }

    /// The very call that launches, as a dry run.
    async fn run(
        &self,
        offering: &Ec2Offering,
        serial: (usize, usize),
        kind: &str,
        subnet: Option<&str>,
    ) -> Verdict {
        let token = Self::token(serial);
        let wanted = self.wanted(offering, &token);
        let answer = patiently(|| {
            run_call(self.ec2(), &wanted, Some(kind), subnet)
                .dry_run(true)
                .send()
        });
        let verdict = dry("ec2:RunInstances", "", &answer.await);
        let place = subnet.unwrap_or("the subnet of the template");
        self.at_key(verdict, &format!("{kind} in {place}"))
    }

    async fn create_fleet(&self, offering: &Ec2Offering, index: usize) -> Verdict {
        let token = Self::token((index, LAUNCHES_MAX));
        let wanted = self.wanted(offering, &token);
        let call = match fleet_call(self.ec2(), &wanted, 1) {
            Ok(call) => call.dry_run(true),
            Err(error) => {
                return Verdict::Wrong {
                    key: self.key("launch_template"),
                    told: error.to_string(),
                };
            }
        };
        let answer = patiently(|| call.clone().send()).await;
        let verdict = dry("ec2:CreateFleet", "", &answer);
        self.at_key(verdict, "all of them")
    }

    /// A refusal of what was to be launched, with the key it is about.
    fn at_key(&self, verdict: Verdict, what: &str) -> Verdict {
        match verdict {
            Verdict::Wrong { key, told } if key.is_empty() => {
                let key = words::key_of(&told, &self.settings.launch);
                Verdict::Wrong {
                    key: key.map_or_else(String::new, |key| self.key(key)),
                    told: format!("{told} ({what})"),
                }
            }
            other => other,
        }
    }

    fn wanted<'a>(&'a self, offering: &'a Ec2Offering, token: &'a LaunchToken) -> Wanted<'a> {
        Wanted {
            fleet: self.name,
            settings: self.settings,
            offering,
            token,
            count: 1,
        }
    }

    /// One that no launch has.
    fn token((index, serial): (usize, usize)) -> LaunchToken {
        let micros = clock::now().micros();
        LaunchToken::from_text(&format!("check-{micros}-{index}-{serial}"))
    }

    async fn end(&self, target: Result<&str, &str>) -> Tried {
        let action = "ec2:TerminateInstances";
        match target {
            Ok(instance) => {
                let call = self.ec2().terminate_instances().dry_run(true);
                let answer = call.instance_ids(instance).send().await;
                self.line("end", dry(action, "", &answer))
            }
            Err(why) => {
                let what = format!("fleet {}: end", self.name);
                self.trial.untried(&what, &[action], why)
            }
        }
    }
}

/// Pools in which each type and each subnet of an offering occurs: all types in
/// the first subnet, and the first type in the others.
fn sample(offering: &Ec2Offering) -> Vec<(&str, Option<&str>)> {
    let first = offering.subnets.first().map(String::as_str);
    let kinds = offering.types.iter().map(|kind| (kind.as_str(), first));
    let others = offering.subnets.iter().skip(1).map(String::as_str);
    let kind = offering.types.first().map(String::as_str);
    let others = others.filter_map(|subnet| Some((kind?, Some(subnet))));
    kinds.chain(others).collect()
}

/// What `offered` means for `types` that are to be had in `places`: one that is
/// nowhere is wrong; of one that is not everywhere EC2 chooses the place.
fn judge_types(
    key: String,
    types: &[String],
    places: &BTreeSet<&str>,
    offered: &BTreeSet<(String, String)>,
) -> Verdict {
    let is_in = |name: &String, place: &str| offered.contains(&(name.clone(), place.to_owned()));
    let all: Vec<&str> = places.iter().copied().collect();
    let nowhere: Vec<&str> = types
        .iter()
        .filter(|name| !places.iter().any(|place| is_in(name, place)))
        .map(String::as_str)
        .collect();
    if !nowhere.is_empty() {
        let told = format!(
            "EC2 does not offer {} in {}; remove it, or add a subnet of a zone that has it",
            nowhere.join(", "),
            all.join(", ")
        );
        return Verdict::Wrong { key, told };
    }
    let lacking: Vec<String> = types
        .iter()
        .flat_map(|name| places.iter().map(move |place| (name, *place)))
        .filter(|(name, place)| !is_in(name, place))
        .map(|(name, place)| format!("{name} not in {place}"))
        .collect();
    let offered = format!("{} offered in {}", types.join(", "), all.join(", "));
    Verdict::Fine(if lacking.is_empty() {
        offered
    } else {
        format!("{offered}; but {}", lacking.join(", "))
    })
}

pub(super) fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a str>) -> Filter {
    let values = values.into_iter().map(str::to_owned).collect();
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_must_be_in_one_of_its_own_zones() {
        let types = ["c7g.large".to_owned(), "p5.48xlarge".to_owned()];
        let offered = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(one, other)| ((*one).to_owned(), (*other).to_owned()))
                .collect()
        };
        let places = BTreeSet::from(["a", "b"]);
        let judge = |offered| judge_types("types".to_owned(), &types, &places, &offered);
        let all = [("c7g.large", "a"), ("c7g.large", "b"), ("p5.48xlarge", "b")];
        assert_eq!(
            judge(offered(&all)),
            Verdict::Fine(
                "c7g.large, p5.48xlarge offered in a, b; but p5.48xlarge not in a".to_owned()
            )
        );
        assert_eq!(
            judge(offered(&[("c7g.large", "a"), ("p5.48xlarge", "c")])),
            Verdict::Wrong {
                key: "types".to_owned(),
                told: "EC2 does not offer p5.48xlarge in a, b; remove it, or add a subnet of a \
                       zone that has it"
                    .to_owned(),
            }
        );
    }
}
