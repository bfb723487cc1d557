//! What windlass needs to be allowed for a configuration: the smallest IAM
//! policy.
//!
//! Which actions there are, which kinds of resources they take and which
//! conditions apply to those is fixed by the service authorization reference
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/>). An
//! action without resources of its own can only be allowed on all (`*`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use windlass_policies::model::Market;

use crate::config::ec2::{Ec2Offering, Ec2Settings, LaunchFrom, Ready};
use crate::config::{Config, Provider};
use crate::sources::SourceSpec;
use crate::sources::sqs::Queue;

/// The tag that names the fleet an instance belongs to.
pub const FLEET_TAG: &str = "windlass:fleet";

/// The only tag that windlass sets on an instance, or removes, once it is there.
const FENCE_TAG: &str = "windlass:fence";

/// All tags that windlass writes on groups: of launches, and of its epoch.
const OWN_TAGS: &str = "windlass:*";

/// IAM takes no longer managed policy, white space not counted.
pub const POLICY_CHARS_MAX: usize = 6_144;

/// Partitions that are not the usual one, by what their regions begin with.
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
];

/// How far windlass is to be allowed to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It only looks: all that `windlass run --dry-run` needs.
    Observe,
    /// It also launches and ends instances.
    Act,
}

/// Where the resources are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The region; `*` if it is not known.
    pub region: String,
    /// The account; `*` if it is not known.
    pub account: String,
}

impl Place {
    /// The first part of every name: China and the government have their own.
    fn partition(&self) -> &'static str {
        let known = PARTITIONS
            .iter()
            .find(|(prefix, _)| self.region.starts_with(prefix));
        known.map_or("aws", |(_, partition)| partition)
    }

    /// `arn:aws:ec2:REGION:ACCOUNT:` and so on, followed by `rest`.
    fn arn(&self, service: &str, rest: &str) -> String {
        let Self { region, account } = self;
        format!(
            "arn:{}:{service}:{region}:{account}:{rest}",
            self.partition()
        )
    }

    /// The same for what belongs to no account: images and their snapshots.
    fn public_arn(&self, service: &str, rest: &str) -> String {
        format!("arn:{}:{service}:{}::{rest}", self.partition(), self.region)
    }

    /// A role by its name, or as it is if it is a full name already.
    fn role(&self, role: &str) -> String {
        if role.starts_with("arn:") {
            return role.to_owned();
        }
        format!("arn:{}:iam::{}:role/{role}", self.partition(), self.account)
    }
}

/// What a configuration uses of AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Fleets of EC2 instances that windlass launches itself, by name.
    pub fleets: BTreeMap<String, Launches>,
    /// Auto Scaling groups, by the name of the fleet.
    pub groups: BTreeMap<String, String>,
    /// Queues whose messages are counted, by URL.
    pub queues: BTreeSet<String>,
    /// Queues of notices, whose messages are taken, by URL.
    pub notices: BTreeSet<String>,
    /// Whether spot prices are read for a group.
    pub group_spot_prices: bool,
    /// Whether metrics of `CloudWatch` are read.
    pub cloudwatch: bool,
}

/// What a fleet launches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a permission of its own, and any of them may be needed"
)]
pub struct Launches {
    /// Its launch template, by id (`lt-...`) or name; `None` if it is launched
    /// from an image.
    pub template: Option<String>,
    /// The image, if there is no template.
    pub image: Option<String>,
    /// The security groups that go with the image.
    pub security_groups: BTreeSet<String>,
    /// The key pair that goes with the image.
    pub key_name: Option<String>,
    /// The instance profile that goes with the image.
    pub profile: Option<String>,
    /// The subnets it launches into, of all offerings that name some.
    pub subnets: BTreeSet<String>,
    /// Whether an offering leaves the subnet to the template, so that it may be
    /// any.
    pub any_subnet: bool,
    /// Whether it asks through an EC2 Fleet, for several types at once.
    pub by_fleet: bool,
    /// Whether it buys spot instances.
    pub spot: bool,
    /// Whether it reads spot prices.
    pub spot_prices: bool,
    /// Whether those are of the zones of its subnets.
    pub zones: bool,
    /// Whether it waits for status checks.
    pub status_checks: bool,
}

impl Launches {
    /// What a fleet of `settings` launches.
    fn of(settings: &Ec2Settings) -> Self {
        let offerings = &settings.offerings;
        let all =
            |of: fn(&Ec2Offering) -> &Vec<String>| offerings.iter().flat_map(of).cloned().collect();
        let any = |is: fn(&Ec2Offering) -> bool| offerings.iter().any(is);
        let launches = Self {
            subnets: all(|offering| &offering.subnets),
            any_subnet: any(|offering| offering.subnets.is_empty()),
            by_fleet: any(|offering| !offering.is_one_pool()),
            spot: any(|offering| offering.offering.market == Market::Spot),
            spot_prices: any(Ec2Offering::is_spot_priced),
            zones: any(|one| one.is_spot_priced() && !one.subnets.is_empty()),
            status_checks: settings.ready == Ready::StatusOk,
            ..Self::default()
        };
        match &settings.launch {
            LaunchFrom::Template { template, .. } => Self {
                template: Some(template.clone()),
                ..launches
            },
            LaunchFrom::Image {
                image,
                security_groups,
                key_name,
                instance_profile,
                user_data: _,
            } => Self {
                image: Some(image.clone()),
                security_groups: security_groups.iter().cloned().collect(),
                key_name: key_name.clone(),
                profile: instance_profile.clone(),
                ..launches
            },
        }
    }

    /// The id of its template, if it is known here.
    fn template_id(&self) -> Option<&str> {
        self.template
            .as_deref()
            .filter(|template| template.starts_with("lt-"))
    }
}

impl Uses {
    /// What `config` uses.
    pub fn of(config: &Config) -> Self {
        let mut uses = Self::default();
        for fleet in &config.fleets {
            uses.add_provider(&fleet.spec.name, &fleet.provider);
            for source in fleet.sources.values() {
                uses.add_source(&source.spec);
            }
        }
        uses
    }

    fn add_provider(&mut self, fleet: &str, provider: &Provider) {
        match provider {
            Provider::Simulated(_) | Provider::Process(_) => {}
            Provider::Asg(settings) => {
                self.notices.extend(settings.notices_queue_url.clone());
                self.groups.insert(fleet.to_owned(), settings.group.clone());
                self.group_spot_prices |= settings.is_spot_priced();
            }
            Provider::Ec2(settings) => {
                self.notices.extend(settings.notices_queue_url.clone());
                self.fleets.insert(fleet.to_owned(), Launches::of(settings));
            }
        }
    }

    fn add_source(&mut self, spec: &SourceSpec) {
        match spec {
            SourceSpec::CloudWatch(_) => self.cloudwatch = true,
            SourceSpec::Sqs(spec) => match spec.in_cloudwatch() {
                Some(_) => self.cloudwatch = true,
                None => {
                    self.queues.insert(spec.queue_url.clone());
                }
            },
            SourceSpec::HttpJson(_)
            | SourceSpec::Postgres(_)
            | SourceSpec::Prometheus(_)
            | SourceSpec::Redis(_)
            | SourceSpec::Sqlite(_) => {}
        }
    }

    /// Whether it needs no permission at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One statement of a policy, which allows something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its name: letters and digits.
    pub sid: &'static str,
    /// What is allowed, sorted.
    pub actions: Vec<&'static str>,
    /// On what.
    pub resources: Vec<String>,
    /// If what: operator, key, values.
    pub conditions: Vec<(&'static str, String, Vec<String>)>,
}

impl Statement {
    fn new(sid: &'static str, actions: &[&'static str], resources: Vec<String>) -> Self {
        let mut actions = actions.to_vec();
        actions.sort_unstable();
        Self {
            sid,
            actions,
            resources,
            conditions: Vec::new(),
        }
    }

    fn everywhere(sid: &'static str, actions: &[&'static str]) -> Self {
        Self::new(sid, actions, vec!["*".to_owned()])
    }

    #[must_use]
    fn only_if(mut self, operator: &'static str, key: &str, values: &[String]) -> Self {
        self.conditions
            .push((operator, key.to_owned(), values.to_vec()));
        self
    }

    /// Operator to key to what it must be. One value stands by itself, as people
    /// write it.
    fn conditions(&self) -> BTreeMap<&'static str, BTreeMap<&str, Value>> {
        let mut conditions: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (operator, key, values) in &self.conditions {
            let value = match values.as_slice() {
                [value] => json!(value),
                values => json!(values),
            };
            let keys = conditions.entry(*operator).or_default();
            keys.insert(key.as_str(), value);
        }
        conditions
    }
}

/// What windlass must be allowed for `uses`; `roles` are those of the instances
/// it launches.
pub fn statements(uses: &Uses, place: &Place, roles: &[String], extent: Extent) -> Vec<Statement> {
    let mut statements = look(uses, place);
    if extent == Extent::Act {
        statements.extend(take_notices(uses, place));
        statements.extend(launch(uses, place, roles));
        statements.extend(end(uses, place));
        statements.extend(fence(uses, place));
        statements.extend(resize_groups(uses, place));
        statements.extend(tag_groups(uses, place));
    }
    statements
}

/// The names of those of `statements` that allow `action` on something.
pub fn granting(statements: &[Statement], action: &str) -> Vec<&'static str> {
    let granting = statements
        .iter()
        .filter(|statement| statement.actions.contains(&action));
    granting.map(|statement| statement.sid).collect()
}

/// The policy in the words of IAM, in lines.
pub fn document(statements: &[Statement]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        version: &'static str,
        statement: Vec<Shown<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown<'a> {
        sid: &'static str,
        effect: &'static str,
        action: &'a [&'static str],
        resource: &'a [String],
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        condition: BTreeMap<&'static str, BTreeMap<&'a str, Value>>,
    }
    let document = Document {
        version: "2012-10-17",
        statement: statements
            .iter()
            .map(|statement| Shown {
                sid: statement.sid,
                effect: "Allow",
                action: &statement.actions,
                resource: &statement.resources,
                condition: statement.conditions(),
            })
            .collect(),
    };
    serde_json::to_string_pretty(&document).expect("a policy is plain data")
}

/// How many characters IAM counts in a policy: all but white space.
pub fn length(policy: &str) -> usize {
    policy.chars().filter(|it| !it.is_whitespace()).count()
}

/// Reading changes nothing. All but queues can be read on all resources only.
fn look(uses: &Uses, place: &Place) -> Vec<Statement> {
    let mut actions = Vec::new();
    if !uses.fleets.is_empty() || !uses.groups.is_empty() {
        actions.push("ec2:DescribeInstances");
    }
    if uses.fleets.values().any(|fleet| fleet.status_checks) {
        actions.push("ec2:DescribeInstanceStatus");
    }
    if uses.group_spot_prices || uses.fleets.values().any(|fleet| fleet.spot_prices) {
        actions.push("ec2:DescribeSpotPriceHistory");
    }
    if uses.fleets.values().any(|fleet| fleet.zones) {
        actions.push("ec2:DescribeSubnets");
    }
    if !uses.groups.is_empty() {
        actions.extend([
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeInstanceRefreshes",
            "autoscaling:DescribePolicies",
            "autoscaling:DescribeScalingActivities",
            "autoscaling:DescribeScheduledActions",
        ]);
    }
    if uses.cloudwatch {
        actions.push("cloudwatch:GetMetricData");
    }
    let mut statements = Vec::new();
    if !actions.is_empty() {
        statements.push(Statement::everywhere("Look", &actions));
    }
    if !uses.queues.is_empty() {
        let queues = queue_arns(&uses.queues, place);
        statements.push(Statement::new(
            "CountMessages",
            &["sqs:GetQueueAttributes"],
            queues,
        ));
    }
    statements
}

/// A notice that was taken is gone: whoever only looks must leave it to who acts.
fn take_notices(uses: &Uses, place: &Place) -> Option<Statement> {
    if uses.notices.is_empty() {
        return None;
    }
    let queues = queue_arns(&uses.notices, place);
    let actions = [
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
    ];
    Some(Statement::new("TakeNotices", &actions, queues))
}

fn queue_arns(urls: &BTreeSet<String>, place: &Place) -> Vec<String> {
    let queues = urls.iter().filter_map(|url| {
        let queue = Queue::of(url)?;
        let region = queue
            .region
            .map_or(&place.region[..], |region| region)
            .to_owned();
        let account = queue.account.to_owned();
        Some(Place { region, account }.arn("sqs", queue.name))
    });
    queues.collect()
}

fn launch(uses: &Uses, place: &Place, roles: &[String]) -> Vec<Statement> {
    if uses.fleets.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = uses.fleets.keys().cloned().collect();
    let by_fleet = uses.fleets.values().any(|fleet| fleet.by_fleet);
    let made = vec![place.arn("ec2", "instance/*")];
    let request_tag = format!("aws:RequestTag/{FLEET_TAG}");
    let mut actions = vec!["ec2:RunInstances"];
    let mut statements = Vec::new();
    if by_fleet {
        actions.push("ec2:CreateFleet");
        // It has no tag: an instant fleet is over when its answer comes.
        let fleets = vec![place.arn("ec2", "fleet/*")];
        statements.push(Statement::new(
            "AskForSeveral",
            &["ec2:CreateFleet"],
            fleets,
        ));
    }
    let create_actions: Vec<String> = actions
        .iter()
        .filter_map(|action| action.strip_prefix("ec2:"))
        .map(str::to_owned)
        .collect();
    statements.extend([
        Statement::new("LaunchWithTag", &actions, made.clone()).only_if(
            "StringEquals",
            &request_tag,
            &names,
        ),
        Statement::new("LaunchFrom", &actions, launched_from(uses, place)),
        Statement::new("TagAtLaunch", &["ec2:CreateTags"], made)
            .only_if("StringEquals", &request_tag, &names)
            .only_if("StringEquals", "ec2:CreateAction", &create_actions),
    ]);
    if !roles.is_empty() {
        let roles = roles.iter().map(|role| place.role(role)).collect();
        let service = match place.partition() {
            "aws-cn" => "ec2.amazonaws.com.cn",
            _ => "ec2.amazonaws.com",
        };
        statements.push(
            Statement::new("GiveRole", &["iam:PassRole"], roles).only_if(
                "StringEquals",
                "iam:PassedToService",
                &[service.to_owned()],
            ),
        );
    }
    statements
}

/// What a launch uses. What the template names itself cannot be known here.
fn launched_from(uses: &Uses, place: &Place) -> Vec<String> {
    let mut resources: BTreeSet<String> = BTreeSet::new();
    for fleet in uses.fleets.values() {
        let mut own = |kind: &str, name: &str| {
            resources.insert(place.arn("ec2", &format!("{kind}/{name}")));
        };
        // Of every launch, and of no name before it.
        own("network-interface", "*");
        own("volume", "*");
        if fleet.any_subnet {
            own("subnet", "*");
        }
        for subnet in &fleet.subnets {
            own("subnet", subnet);
        }
        if fleet.template.is_some() {
            own("launch-template", fleet.template_id().unwrap_or("*"));
            own("key-pair", "*");
            own("security-group", "*");
            resources.insert(place.public_arn("ec2", "snapshot/*"));
        } else {
            for group in &fleet.security_groups {
                own("security-group", group);
            }
            if let Some(key) = &fleet.key_name {
                own("key-pair", key);
            }
        }
        let image = fleet.image.as_deref().unwrap_or("*");
        resources.insert(place.public_arn("ec2", &format!("image/{image}")));
    }
    resources.into_iter().collect()
}

fn end(uses: &Uses, place: &Place) -> Option<Statement> {
    if uses.fleets.is_empty() {
        return None;
    }
    let names: Vec<String> = uses.fleets.keys().cloned().collect();
    let instances = vec![place.arn("ec2", "instance/*")];
    let statement = Statement::new("EndOwn", &["ec2:TerminateInstances"], instances);
    Some(statement.only_if(
        "StringEquals",
        &format!("ec2:ResourceTag/{FLEET_TAG}"),
        &names,
    ))
}

/// The fence stands in a tag, however its workers hear of it.
fn fence(uses: &Uses, place: &Place) -> Vec<Statement> {
    let of_instances = |sid, key: &str, values: &[String]| {
        let instances = vec![place.arn("ec2", "instance/*")];
        let actions = ["ec2:CreateTags", "ec2:DeleteTags"];
        only_tags(Statement::new(sid, &actions, instances), FENCE_TAG).only_if(
            "StringEquals",
            key,
            values,
        )
    };
    let mut statements = Vec::new();
    if !uses.fleets.is_empty() {
        let names: Vec<String> = uses.fleets.keys().cloned().collect();
        let key = format!("ec2:ResourceTag/{FLEET_TAG}");
        statements.push(of_instances("FenceOwn", &key, &names));
    }
    if !uses.groups.is_empty() {
        let names: Vec<String> = uses.groups.values().cloned().collect();
        let key = "aws:ResourceTag/aws:autoscaling:groupName";
        statements.push(of_instances("FenceGroups", key, &names));
    }
    statements
}

/// Only for tags whose keys are like `keys`. To delete tags without naming any
/// means all of them, so some must be named.
fn only_tags(statement: Statement, keys: &str) -> Statement {
    statement
        .only_if("ForAllValues:StringLike", "aws:TagKeys", &[keys.to_owned()])
        .only_if("Null", "aws:TagKeys", &["false".to_owned()])
}

fn group_arns(uses: &Uses, place: &Place) -> Vec<String> {
    let arns = uses.groups.values().map(|group| {
        let rest = format!("autoScalingGroup:*:autoScalingGroupName/{group}");
        place.arn("autoscaling", &rest)
    });
    arns.collect()
}

fn resize_groups(uses: &Uses, place: &Place) -> Option<Statement> {
    let actions = [
        "autoscaling:SetDesiredCapacity",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
    ];
    let arns = group_arns(uses, place);
    (!arns.is_empty()).then(|| Statement::new("ResizeGroups", &actions, arns))
}

/// The launches under way and the epoch stand in tags of the group.
fn tag_groups(uses: &Uses, place: &Place) -> Option<Statement> {
    let actions = ["autoscaling:CreateOrUpdateTags", "autoscaling:DeleteTags"];
    let arns = group_arns(uses, place);
    let statement = || {
        only_tags(
            Statement::new("TagGroups", &actions, arns.clone()),
            OWN_TAGS,
        )
    };
    (!arns.is_empty()).then(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
        }
    }

    fn uses() -> Uses {
        let queue = |name: &str| format!("https://sqs.eu-west-1.amazonaws.com/123456789012/{name}");
        let photos = Launches {
            template: Some("lt-0abc".to_owned()),
            subnets: ["subnet-1".to_owned(), "subnet-2".to_owned()].into(),
            by_fleet: true,
            spot: true,
            spot_prices: true,
            zones: true,
            status_checks: true,
            ..Launches::default()
        };
        Uses {
            fleets: [("photos".to_owned(), photos)].into(),
            groups: [("web".to_owned(), "web-workers".to_owned())].into(),
            queues: [queue("jobs")].into(),
            notices: [queue("notices")].into(),
            group_spot_prices: false,
            cloudwatch: true,
        }
    }

    fn actions(statements: &[Statement]) -> BTreeSet<&'static str> {
        statements
            .iter()
            .flat_map(|statement| statement.actions.iter().copied())
            .collect()
    }

    #[test]
    fn what_only_looks_may_change_nothing() {
        let statements = statements(&uses(), &place(), &["worker".to_owned()], Extent::Observe);
        for action in actions(&statements) {
            let (_, verb) = action.split_once(':').expect("a service");
            let reads = verb.starts_with("Describe") || verb.starts_with("Get");
            assert!(reads, "{action}");
        }
    }

    #[test]
    fn only_what_is_used_is_allowed() {
        let only = |uses: Uses| actions(&statements(&uses, &place(), &[], Extent::Act));
        assert_eq!(only(Uses::default()), BTreeSet::new());
        let metrics = Uses {
            cloudwatch: true,
            ..Uses::default()
        };
        assert_eq!(only(metrics), ["cloudwatch:GetMetricData"].into());
        let queue = Uses {
            queues: uses().queues,
            ..Uses::default()
        };
        assert_eq!(only(queue), ["sqs:GetQueueAttributes"].into());
        let group = only(Uses {
            groups: uses().groups,
            ..Uses::default()
        });
        assert!(group.iter().all(|action| !action.contains("RunInstances")));
        let plain = only(Uses {
            fleets: [("photos".to_owned(), Launches::default())].into(),
            ..Uses::default()
        });
        assert!(!plain.contains("ec2:CreateFleet") && !plain.contains("iam:PassRole"));
        assert!(!plain.contains("ec2:DescribeInstanceStatus"));
    }

    #[test]
    fn an_offering_without_subnets_may_launch_into_any() {
        let text = "[fleet.f]\nprovider = \"ec2\"\n[fleet.f.limits]\nmax = 9\n\
            max_usd_per_hour = 9\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n\
            [fleet.f.ec2]\nworkers = \"tags\"\nlaunch_template = \"lt-0abc\"\n\
            [[fleet.f.ec2.offering]]\nname = \"a\"\ntypes = [\"t3.small\"]\n\
            usd_per_hour = 0.02\nsubnets = [\"subnet-0a\"]\n";
        let other = "[[fleet.f.ec2.offering]]\nname = \"b\"\ntypes = [\"t3.small\"]\n\
            usd_per_hour = 0.02\n";
        let any = |text: &str| {
            let config = Config::parse(text, std::path::Path::new("")).expect("sound");
            let resources = launched_from(&Uses::of(&config), &place());
            resources.iter().any(|it| it.ends_with(":subnet/*"))
        };
        assert!(!any(text));
        assert!(any(&format!("{text}{other}")));
    }

    #[test]
    fn every_change_is_tied_to_own_tags_or_named_resources() {
        for statement in statements(&uses(), &place(), &["worker".to_owned()], Extent::Act) {
            let reads = |action: &&str| action.contains(":Describe") || action.contains(":Get");
            let looks = statement.actions.iter().all(reads);
            assert_eq!(
                statement.resources == ["*"],
                looks && statement.sid == "Look"
            );
            let free = statement
                .resources
                .iter()
                .any(|it| it.ends_with("instance/*"));
            assert!(!free || !statement.conditions.is_empty(), "{statement:?}");
        }
    }

    #[test]
    fn other_partitions_have_their_own_names() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
            ("*", "aws"),
        ] {
            let place = Place {
                region: region.to_owned(),
                ..place()
            };
            assert_eq!(
                place.arn("ec2", "x"),
                format!("arn:{partition}:ec2:{region}:123456789012:x")
            );
        }
    }

    #[test]
    fn the_policy_reads_as_iam_wants_it() {
        let statements = statements(&uses(), &place(), &["worker".to_owned()], Extent::Act);
        let text = document(&statements);
        assert!(length(&text) < POLICY_CHARS_MAX);
        expect_test::expect_file!["testing/policy.json"].assert_eq(&format!("{text}\n"));
    }
}
