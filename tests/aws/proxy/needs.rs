//! What a call must be allowed: actions, resources and context, as the service
//! authorization reference of AWS has them for the calls windlass makes
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/>).

use std::collections::BTreeMap;

use serde_json::Value;

use super::call::{Call, Protocol, field, numbered};
use super::policy::{Context, Need};

/// What EC2 asks of a launch, and not of the fleet that it comes from.
const NOT_OF_A_FLEET: [&str; 3] = ["key-pair", "network-interface", "security-group"];

/// Tags by resource.
pub(crate) type Tags = BTreeMap<String, BTreeMap<String, String>>;

/// Where everything is.
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) region: &'static str,
}

impl Account {
    fn arn(&self, service: &str, rest: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{rest}", self.region, self.id)
    }

    fn need(&self, action: &str, resource: &str, context: &Context) -> Need {
        Need {
            action: format!("ec2:{action}"),
            resource: self.arn("ec2", resource),
            context: context.clone(),
        }
    }

    /// All that `call` needs; `tags` are those of the instances it names.
    pub(crate) fn needs(&self, call: &Call, body: &[u8], tags: &Tags) -> Vec<Need> {
        match call.protocol {
            Protocol::Ec2 => self.of_ec2(call, tags),
            Protocol::Query => self.of_query(call, tags),
            Protocol::Json => self.of_sqs(call, body),
            Protocol::Cbor => vec![anywhere("cloudwatch", &call.action)],
        }
    }

    fn of_ec2(&self, call: &Call, tags: &Tags) -> Vec<Need> {
        let form = &call.form;
        let on_instances = |names: Vec<String>| {
            let mut needs = Vec::new();
            for name in names {
                let mut context = tag_context(&tags_in(form, "Tag."));
                for (key, value) in tags.get(&name).into_iter().flatten() {
                    for service in ["aws", "ec2"] {
                        let key = format!("{service}:ResourceTag/{key}");
                        context.insert(key, vec![value.clone()]);
                    }
                }
                needs.push(self.need(&call.action, &format!("instance/{name}"), &context));
            }
            needs
        };
        match call.action.as_str() {
            "RunInstances" | "CreateFleet" => self.of_launch(call),
            "TerminateInstances" => on_instances(numbered(form, "InstanceId")),
            "CreateTags" | "DeleteTags" => on_instances(numbered(form, "ResourceId")),
            action if action.starts_with("Describe") => vec![anywhere("ec2", action)],
            other => panic!("nobody has said what {other} needs"),
        }
    }

    /// A launch through a fleet needs what one without needs, and more.
    fn of_launch(&self, call: &Call) -> Vec<Need> {
        let form = &call.form;
        let tags = tag_context(&tags_in(form, "TagSpecification.1.Tag."));
        let none = Context::new();
        let has = |part: &str| form.iter().any(|(key, _)| key.contains(part));
        let values = |part: &str| {
            let found = form.iter().filter(|(key, _)| key.contains(part));
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let mut actions = vec!["RunInstances"];
        let mut needs = Vec::new();
        if call.action == "CreateFleet" {
            actions.push("CreateFleet");
            needs.push(self.need("CreateFleet", "fleet/fleet-1", &none));
        }
        let mut from = vec![
            "volume/vol-1".to_owned(),
            "network-interface/eni-1".to_owned(),
        ];
        if has("LaunchTemplate") {
            let named = values("LaunchTemplateId");
            let named = named.first().map_or("lt-1", String::as_str);
            from.push(format!("launch-template/{named}"));
            from.push("key-pair/some".to_owned());
        }
        let mut subnets = values("SubnetId");
        if subnets.is_empty() {
            subnets.push("subnet-1".to_owned());
        }
        from.extend(subnets.iter().map(|name| format!("subnet/{name}")));
        let mut groups = values("SecurityGroupId.");
        if groups.is_empty() {
            groups.push("sg-1".to_owned());
        }
        from.extend(groups.iter().map(|name| format!("security-group/{name}")));
        from.extend(
            values("KeyName")
                .iter()
                .map(|name| format!("key-pair/{name}")),
        );
        let image = values("ImageId");
        let image = image.first().map_or("ami-1", String::as_str);
        for action in &actions {
            needs.push(self.need(action, "instance/i-new", &tags));
            let asked = from.iter().filter(|name| {
                let (kind, _) = name.split_once('/').expect("a kind");
                *action == "RunInstances" || !NOT_OF_A_FLEET.contains(&kind)
            });
            needs.extend(asked.map(|name| self.need(action, name, &none)));
            needs.push(Need {
                action: format!("ec2:{action}"),
                resource: format!("arn:aws:ec2:{}::image/{image}", self.region),
                context: none.clone(),
            });
        }
        let mut tagging = tags;
        tagging.insert("ec2:CreateAction".to_owned(), vec![call.action.clone()]);
        needs.push(self.need("CreateTags", "instance/i-new", &tagging));
        for profile in values("IamInstanceProfile.Name") {
            let service = vec!["ec2.amazonaws.com".to_owned()];
            needs.push(Need {
                action: "iam:PassRole".to_owned(),
                // Here each profile has a role of its name.
                resource: format!("arn:aws:iam::{}:role/{profile}", self.id),
                context: Context::from([("iam:PassedToService".to_owned(), service)]),
            });
        }
        needs
    }

    fn of_query(&self, call: &Call, tags: &Tags) -> Vec<Need> {
        let form = &call.form;
        let group = |name: &str| {
            let rest = format!("autoScalingGroup:1-2-3:autoScalingGroupName/{name}");
            self.arn("autoscaling", &rest)
        };
        let need = |name: &str, context| Need {
            action: format!("autoscaling:{}", call.action),
            resource: group(name),
            context,
        };
        match call.action.as_str() {
            // Nobody can be denied that.
            "GetCallerIdentity" => Vec::new(),
            "SetDesiredCapacity" => {
                let name = field(form, "AutoScalingGroupName").unwrap_or_default();
                vec![need(name, Context::new())]
            }
            "TerminateInstanceInAutoScalingGroup" => {
                let instance = field(form, "InstanceId").unwrap_or_default();
                let tags = tags.get(instance);
                let group = tags.and_then(|tags| tags.get("aws:autoscaling:groupName"));
                vec![need(group.map_or("none", String::as_str), Context::new())]
            }
            "CreateOrUpdateTags" | "DeleteTags" => {
                let name = field(form, "Tags.member.1.ResourceId").unwrap_or_default();
                vec![need(name, tag_context(&tags_in(form, "Tags.member.")))]
            }
            action if action.starts_with("Describe") => vec![anywhere("autoscaling", action)],
            other => panic!("nobody has said what {other} needs"),
        }
    }

    fn of_sqs(&self, call: &Call, body: &[u8]) -> Vec<Need> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let url = body["QueueUrl"].as_str().unwrap_or_default();
        let name = url.rsplit('/').next().unwrap_or_default();
        let action = match call.action.as_str() {
            "DeleteMessageBatch" => "DeleteMessage",
            other => other,
        };
        vec![Need {
            action: format!("sqs:{action}"),
            resource: self.arn("sqs", name),
            context: Context::new(),
        }]
    }
}

fn anywhere(service: &str, action: &str) -> Need {
    Need {
        action: format!("{service}:{action}"),
        resource: "*".to_owned(),
        context: Context::new(),
    }
}

/// The tags that fields of `prefix` name, such as `Tag.1.Key`.
fn tags_in(form: &super::call::Form, prefix: &str) -> Vec<(String, Option<String>)> {
    let keys = form
        .iter()
        .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(".Key"));
    keys.map(|(name, key)| {
        let value = field(form, &name.replace(".Key", ".Value"));
        (key.clone(), value.map(str::to_owned))
    })
    .collect()
}

/// What a request tells of the tags it is about.
fn tag_context(tags: &[(String, Option<String>)]) -> Context {
    let mut context = Context::new();
    if tags.is_empty() {
        return context;
    }
    let keys = tags.iter().map(|(key, _)| key.clone()).collect();
    context.insert("aws:TagKeys".to_owned(), keys);
    for (key, value) in tags {
        if let Some(value) = value {
            context.insert(format!("aws:RequestTag/{key}"), vec![value.clone()]);
        }
    }
    context
}
