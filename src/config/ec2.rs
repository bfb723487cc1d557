//! `[fleet.NAME.ec2]`: instances that windlass launches and ends itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use windlass_policies::fields::Fields;
use windlass_policies::model::{Billing, Market, Offering};

use super::price::{self, Priced};
use super::workers::{self, WorkersSettings};
use crate::aws::settings::{AwsSettings, optional_name, read_url};

/// EC2 takes no more user data than this, before it is encoded.
const USER_DATA_BYTES_MAX: u64 = 16 * 1024;

/// What EC2 takes in one `CreateFleet`.
const POOLS_MAX: usize = 300;

/// More offerings are a slip of the generator.
const OFFERINGS_MAX: usize = 64;

/// No instance has as many processors.
const SLOTS_MAX: u32 = 10_000;

/// How instances are launched and looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Settings {
    /// What they are launched from.
    pub launch: LaunchFrom,
    /// When an instance counts as ready.
    pub ready: Ready,
    /// How workers hear of a fence and answer.
    pub workers: WorkersSettings,
    /// The queue of what EC2 announces.
    pub notices_queue_url: Option<String>,
    /// What can be bought, in the order of the file; at least one.
    pub offerings: Vec<Ec2Offering>,
}

/// What instances are launched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchFrom {
    /// A launch template of EC2, by name or id, in a version of it.
    Template {
        /// `lt-...`, or its name.
        template: String,
        /// A number, `$Default` or `$Latest`.
        version: String,
    },
    /// An image, with what else an instance needs.
    Image {
        /// `ami-...`.
        image: String,
        /// `sg-...`; at least one.
        security_groups: Vec<String>,
        /// The key pair for logging in.
        key_name: Option<String>,
        /// The instance profile's name or ARN.
        instance_profile: Option<String>,
        /// What the instance does when it first starts.
        user_data: Option<String>,
    },
}

/// When an instance counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Once it runs.
    Running,
    /// Once it runs and has passed both status checks.
    StatusOk,
    /// Once it runs and its worker has reported.
    Worker,
}

/// One thing to buy, and where EC2 may find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Offering {
    /// What the fleet's decisions see of it.
    pub offering: Offering,
    /// Instance types, any of which will do; at least one.
    pub types: Vec<String>,
    /// Subnets, any of which will do; none leaves it to the launch template.
    pub subnets: Vec<String>,
    /// Where its price comes from.
    pub priced: Priced,
}

impl Ec2Offering {
    /// Whether it is one type in one place, so that `RunInstances` buys it.
    pub fn is_one_pool(&self) -> bool {
        self.types.len() == 1 && self.subnets.len() <= 1
    }

    /// Whether it is spot whose price the file leaves to EC2.
    pub fn is_spot_priced(&self) -> bool {
        self.offering.market == Market::Spot && self.priced == Priced::OnDemand
    }
}

impl Ec2Settings {
    /// What can be bought, cheapest first.
    pub fn offerings(&self) -> Vec<Offering> {
        let mut offerings: Vec<Offering> = self
            .offerings
            .iter()
            .map(|one| one.offering.clone())
            .collect();
        offerings.sort_by(|one, other| (one.price, &one.name).cmp(&(other.price, &other.name)));
        offerings
    }
}

/// Reads the table; files are relative to `folder`.
pub(super) fn read(ec2: &mut Fields<'_>, folder: &Path, aws: &AwsSettings) -> Option<Ec2Settings> {
    let launch = read_launch(ec2, folder);
    let workers = workers::read(ec2, folder, &workers::ON_EC2);
    let words = [
        ("running", Ready::Running),
        ("status_ok", Ready::StatusOk),
        ("worker", Ready::Worker),
    ];
    let ready = ec2.word("ready", &words);
    if ready == Some(Ready::Worker) && workers == Some(WorkersSettings::None) {
        ec2.problem(
            "ready",
            "waits for workers that are never heard of (workers = \"none\"); write \"status_ok\"",
        );
    }
    let default = match workers {
        Some(WorkersSettings::Tags | WorkersSettings::Redis { .. }) | None => Ready::Worker,
        Some(WorkersSettings::None | WorkersSettings::Protection | WorkersSettings::Stateless) => {
            Ready::StatusOk
        }
    };
    let notices_queue_url = read_url(ec2, "notices_queue_url");
    let subnets = names(ec2, "subnets", "subnet-");
    let offerings = read_offerings(ec2, aws, &subnets, launch.as_ref());
    Some(Ec2Settings {
        launch: launch?,
        ready: ready.unwrap_or(default),
        workers: workers?,
        notices_queue_url,
        offerings: offerings?,
    })
}

fn read_launch(ec2: &mut Fields<'_>, folder: &Path) -> Option<LaunchFrom> {
    const OF_IMAGE: [&str; 4] = [
        "security_groups",
        "key_name",
        "instance_profile",
        "user_data_file",
    ];
    let template = optional_name(ec2, "launch_template", "its name or id");
    let version = optional_name(ec2, "launch_template_version", "a number or \"$Latest\"");
    let image = optional_name(ec2, "image", "an image such as \"ami-0abc\"");
    let security_groups = names(ec2, "security_groups", "sg-");
    let key_name = optional_name(ec2, "key_name", "the name of a key pair");
    let instance_profile = optional_name(ec2, "instance_profile", "its name or ARN");
    let user_data = read_user_data(ec2, folder);
    match (template, image) {
        (Some(template), None) if !ec2.has("image") => {
            for key in OF_IMAGE
                .into_iter()
                .filter(|key| ec2.has(key))
                .collect::<Vec<_>>()
            {
                ec2.problem(
                    key,
                    "is in the launch template; remove it, or write it there",
                );
            }
            Some(LaunchFrom::Template {
                template,
                version: version.unwrap_or_else(|| "$Default".to_owned()),
            })
        }
        (None, Some(image)) if !ec2.has("launch_template") => {
            if version.is_some() {
                ec2.problem("launch_template_version", "has no launch_template");
            }
            if !image.starts_with("ami-") {
                ec2.problem(
                    "image",
                    format!("{image:?} is no image; write one such as \"ami-0abc\""),
                );
            }
            if security_groups.is_empty() && !ec2.has("security_groups") {
                ec2.problem(
                    "security_groups",
                    "missing; write at least one, such as [\"sg-0abc\"]",
                );
            }
            Some(LaunchFrom::Image {
                image,
                security_groups,
                key_name,
                instance_profile,
                user_data,
            })
        }
        (None, None) if !ec2.has("launch_template") && !ec2.has("image") => {
            ec2.problem(
                "launch_template",
                "missing; write the name or id of one, or an `image` and `security_groups`",
            );
            None
        }
        (Some(_), Some(_)) => {
            ec2.problem(
                "image",
                "there is a launch_template too; keep one of the two",
            );
            None
        }
        // Reported where it was read.
        _ => None,
    }
}

fn read_user_data(ec2: &mut Fields<'_>, folder: &Path) -> Option<String> {
    let name = optional_name(ec2, "user_data_file", "a file")?;
    let path = folder.join(name);
    let size = fs::metadata(&path).map(|file| file.len());
    match size.and_then(|size| Ok((size, fs::read_to_string(&path)?))) {
        Ok((size, _)) if size > USER_DATA_BYTES_MAX => {
            let why = format!(
                "{} has {size} bytes; EC2 takes {USER_DATA_BYTES_MAX}",
                path.display()
            );
            ec2.problem("user_data_file", why);
            None
        }
        Ok((_, text)) => Some(text),
        Err(error) => {
            ec2.problem(
                "user_data_file",
                format!("cannot read {}: {error}", path.display()),
            );
            None
        }
    }
}

fn read_offerings(
    ec2: &mut Fields<'_>,
    aws: &AwsSettings,
    subnets: &[String],
    launch: Option<&LaunchFrom>,
) -> Option<Vec<Ec2Offering>> {
    let read = ec2.tables("offering", |table| {
        Some((
            table.path().to_owned(),
            read_offering(table, aws, subnets, launch),
        ))
    });
    if read.is_empty() && !ec2.has("offering") {
        ec2.problem(
            "offering",
            "missing; write at least one [[offering]] table with `name` and `types`",
        );
    } else if read.is_empty() && ec2.raw("offering").is_some_and(toml::Value::is_array) {
        ec2.problem("offering", "empty; write at least one");
    }
    if read.len() > OFFERINGS_MAX {
        ec2.problem(
            "offering",
            format!("{} offerings; at most {OFFERINGS_MAX}", read.len()),
        );
    }
    let mut taken = BTreeSet::new();
    for (path, one) in &read {
        if let Some(one) = one
            && !taken.insert(one.offering.name.clone())
        {
            let message = format!("there is another one called `{}`", one.offering.name);
            ec2.problem_at(format!("{path}.name"), message);
        }
    }
    let offerings: Option<Vec<Ec2Offering>> = read.into_iter().map(|(_, one)| one).collect();
    offerings.filter(|offerings| !offerings.is_empty())
}

fn read_offering(
    table: &mut Fields<'_>,
    aws: &AwsSettings,
    shared_subnets: &[String],
    launch: Option<&LaunchFrom>,
) -> Option<Ec2Offering> {
    let name = table.required::<String>("name", "what decisions call it, such as \"spot\"");
    let name = name.and_then(|name| match name_of_offering(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            table.problem("name", why);
            None
        }
    });
    if !table.has("types") {
        table.problem(
            "types",
            "missing; write at least one, such as [\"c7g.large\"]",
        );
    }
    let types = names(table, "types", "");
    let subnets = if table.has("subnets") {
        names(table, "subnets", "subnet-")
    } else {
        shared_subnets.to_vec()
    };
    let markets = [Market::OnDemand, Market::Spot].map(|market| (market.word(), market));
    let market = table.word("market", &markets).unwrap_or_default();
    let names: Vec<&str> = types.iter().map(String::as_str).collect();
    let price = price::read(table, aws, &names);
    let slots = table.or_within("slots", 1, 1..=SLOTS_MAX);
    let prepaid = table.or_within("prepaid", 0, 0..=100_000);
    if prepaid > 0 && market == Market::Spot {
        table.problem(
            "prepaid",
            "no spot instance is paid for in advance; remove it",
        );
    }
    let second = Duration::from_secs(1);
    let increment = table.or_within(
        "billing_increment",
        second,
        second..=Duration::from_hours(1),
    );
    let minute = Duration::from_mins(1);
    let minimum = table.or_within(
        "billing_minimum",
        minute,
        Duration::ZERO..=Duration::from_hours(1),
    );
    if types.is_empty() {
        return None;
    }
    let (price, priced) = price?;
    let one = Ec2Offering {
        offering: Offering {
            name: name?,
            price,
            billing: Billing { increment, minimum },
            slots,
            market,
            prepaid,
        },
        types,
        subnets,
        priced,
    };
    let pools = one.types.len() * one.subnets.len().max(1);
    if pools > POOLS_MAX {
        table.problem(
            "types",
            format!("{pools} types and subnets together; EC2 takes {POOLS_MAX}"),
        );
    }
    if let Some(LaunchFrom::Image { .. }) = launch {
        if !one.is_one_pool() {
            let many = if one.types.len() > 1 {
                "types"
            } else {
                "subnets"
            };
            table.problem(
                many,
                "EC2 chooses among several only with a launch template; write `launch_template` \
                 instead of `image`, or an offering for each",
            );
        }
        if one.subnets.is_empty() {
            table.problem("subnets", "missing; write the subnet to launch into");
        }
    }
    Some(one)
}

/// It stands in a tag and in records.
fn name_of_offering(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for an offering; write 1 to 64 letters, digits, \"-\", \"_\" and \".\""
    ))
}

/// A list of names that begin with `prefix`; empty if it is not there, or wrong
/// and reported.
fn names(fields: &mut Fields<'_>, key: &str, prefix: &str) -> Vec<String> {
    let elements = match fields.raw(key) {
        None => return Vec::new(),
        Some(toml::Value::Array(elements)) => elements.clone(),
        Some(_) => {
            fields.problem(
                key,
                format!("is no list; write one such as [\"{prefix}...\"]"),
            );
            return Vec::new();
        }
    };
    if elements.is_empty() {
        fields.problem(key, "is empty; write at least one, or leave it out");
    }
    let mut found = Vec::new();
    for element in &elements {
        match element.as_str() {
            Some(name) if name.len() > prefix.len() && name.starts_with(prefix) => {
                if found.iter().any(|other| other == name) {
                    fields.problem(key, format!("names {name:?} twice"));
                }
                found.push(name.to_owned());
            }
            _ => {
                fields.problem(
                    key,
                    format!("{element} is no name that begins with \"{prefix}\""),
                );
                return Vec::new();
            }
        }
    }
    found
}
