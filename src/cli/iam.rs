//! `windlass iam`: the smallest IAM policy for a configuration.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Failure, config_of};
use crate::aws::permissions::{self, Extent, POLICY_CHARS_MAX, Place, Uses};
use crate::exit::Exit;

/// Print the smallest IAM policy for a configuration
#[derive(Debug, Args)]
#[command(
    long_about = "Prints the smallest IAM policy for a configuration, as JSON.\n\n\
        It allows what the file's fleets, signals and notices need, and nothing else; resources \
        are named where AWS can narrow them, and instances by the fleet's own tag. AWS is not \
        asked: what the file does not say (the account, the role of the instances) is an option, \
        or stays open (*). Hints go to standard error.",
    after_long_help = "Examples:\n  \
        windlass iam --config fleets.toml --account 123456789012 > policy.json\n  \
        windlass iam --config fleets.toml --observe\n  \
        windlass iam --config fleets.toml --instance-role workers\n\n\
        Exit codes: 0 done; 64 the configuration is wrong or uses nothing of AWS;\n\
        66 it cannot be read."
)]
pub(super) struct Iam {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Allow only what `windlass run --dry-run` needs: nothing can be changed
    #[arg(long)]
    observe: bool,

    /// The account: twelve digits [default: any]
    #[arg(long, value_name = "ID", value_parser = account)]
    account: Option<String>,

    /// The region [default: that of the configuration, or any]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,

    /// The role of the instances, which windlass hands them if the launch
    /// template names an instance profile; may be given several times
    #[arg(long, value_name = "NAME")]
    instance_role: Vec<String>,
}

fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("an account is twelve digits".to_owned())
}

impl Iam {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let config = config_of(Some(&self.config))?;
        let uses = Uses::of(&config);
        if uses.is_empty() {
            let what = format!(
                "{}: no fleet and no signal is on AWS, so no permission is needed",
                self.config.display()
            );
            return Err(Failure::new(Exit::Usage, what));
        }
        let any = || "*".to_owned();
        let region = self.region.clone().or_else(|| config.aws.region.clone());
        let place = Place {
            region: region.unwrap_or_else(any),
            account: self.account.clone().unwrap_or_else(any),
        };
        let extent = if self.observe {
            Extent::Observe
        } else {
            Extent::Act
        };
        let statements = permissions::statements(&uses, &place, &self.instance_role, extent);
        let policy = permissions::document(&statements);
        writeln!(out, "{policy}")?;
        let length = permissions::length(&policy);
        for hint in self.hints(&uses, &place, length) {
            // If nobody listens there, the policy is out all the same.
            let _ = writeln!(io::stderr().lock(), "windlass: {hint}");
        }
        Ok(Exit::Done)
    }

    fn hints(&self, uses: &Uses, place: &Place, length: usize) -> Vec<String> {
        let mut hints = Vec::new();
        if length > POLICY_CHARS_MAX {
            hints.push(format!(
                "the policy has {length} characters, and IAM takes {POLICY_CHARS_MAX}; give one \
                 role to some of the fleets and another to the rest"
            ));
        }
        let mut open = Vec::new();
        if place.region == "*" {
            open.push("--region");
        }
        if place.account == "*" {
            open.push("--account");
        }
        if !open.is_empty() {
            hints.push(format!("give {} to narrow it down", open.join(" and ")));
        }
        if self.observe || uses.fleets.is_empty() {
            return hints;
        }
        if self.instance_role.is_empty() {
            hints.extend(profile_hints(uses));
        }
        for (wanted, role, service) in [
            (
                uses.fleets.values().any(|fleet| fleet.spot),
                "AWSServiceRoleForEC2Spot",
                "spot.amazonaws.com",
            ),
            (
                uses.fleets.values().any(|fleet| fleet.by_fleet),
                "AWSServiceRoleForEC2Fleet",
                "ec2fleet.amazonaws.com",
            ),
        ] {
            if wanted {
                hints.push(format!(
                    "the account needs the role {role}; if it is not there yet, create it once: \
                     aws iam create-service-linked-role --aws-service-name {service}"
                ));
            }
        }
        hints
    }
}

/// That a role is missing which windlass hands to instances, as far as the file
/// tells.
fn profile_hints(uses: &Uses) -> Vec<String> {
    let mut hints = Vec::new();
    for (name, fleet) in &uses.fleets {
        if let Some(profile) = &fleet.profile {
            hints.push(format!(
                "fleet {name} launches with the instance profile {profile}, which this policy does \
                 not allow; give the name of its role as --instance-role"
            ));
        }
    }
    if uses.fleets.values().any(|fleet| fleet.template.is_some()) {
        hints.push(
            "if the launch template names an instance profile, give the name of its role as \
             --instance-role"
                .to_owned(),
        );
    }
    hints
}
