//! Trying what a fleet needs that is in an Auto Scaling group.

use std::collections::BTreeSet;
use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use super::ec2::{NO_INSTANCE, filter};
use super::{Trial, Tried, Verdict, refused};
use crate::aws::permissions::Extent;
use crate::config::asg::AsgSettings;

/// What changes a group, of which Auto Scaling has no dry run.
const CHANGES: [&str; 4] = [
    "autoscaling:SetDesiredCapacity",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
];

impl Trial<'_> {
    /// Tries what the fleet `fleet` needs in its group; changes of instances
    /// only as dry runs, and only if the server is `honest` about those.
    pub(super) async fn group(
        &self,
        fleet: &str,
        settings: &AsgSettings,
        honest: bool,
    ) -> Vec<Tried> {
        let line = |what: &str, verdict| Tried {
            what: format!("fleet {fleet}: {what}"),
            verdict,
        };
        let group = &settings.group;
        let found = self.found(fleet, group).await;
        let there = matches!(found, Verdict::Fine(_));
        let mut all = vec![line("group", found)];
        let mine = filter("tag:aws:autoscaling:groupName", [group.as_str()]);
        let (listing, instance) = self.instances(mine).await;
        all.push(line("list instances", listing));
        if settings.is_spot_priced() {
            all.push(line(
                "spot prices",
                self.spot_prices(&BTreeSet::new()).await,
            ));
        }
        // Of a group that is not there these tell nothing new.
        if there {
            all.extend(self.readings(fleet, group).await);
        }
        if self.extent == Extent::Observe {
            return all;
        }
        let target = instance.as_deref().ok_or(NO_INSTANCE);
        let target = if honest {
            target
        } else {
            Err("this server takes no dry runs")
        };
        all.extend(self.fence(fleet, target).await);
        let what = format!("fleet {fleet}: resize and tag the group");
        all.push(self.untried(&what, &CHANGES, "Auto Scaling has no dry run"));
        all
    }

    async fn found(&self, fleet: &str, group: &str) -> Verdict {
        let key = format!("fleet.{fleet}.asg.group");
        let asked = self
            .clients
            .autoscaling
            .describe_auto_scaling_groups()
            .auto_scaling_group_names(group)
            .send()
            .await;
        let found = match asked {
            Ok(found) => found,
            Err(error) => return refused("autoscaling:DescribeAutoScalingGroups", &key, &error),
        };
        let Some(found) = found.auto_scaling_groups().first() else {
            let region = &self.clients.region;
            let told = format!("there is no group {group} in region {region}");
            return Verdict::Wrong { key, told };
        };
        let suspended: Vec<&str> = found
            .suspended_processes()
            .iter()
            .filter_map(|process| process.process_name())
            .filter(|name| ["Launch", "Terminate"].contains(name))
            .collect();
        if suspended.is_empty() {
            Verdict::Fine(format!("{group}, {} instances", found.instances().len()))
        } else {
            let told = format!(
                "{} is suspended in {group}; resume it",
                suspended.join(" and ")
            );
            Verdict::Wrong { key, told }
        }
    }

    /// What is read of a group beside itself.
    async fn readings(&self, fleet: &str, group: &str) -> Vec<Tried> {
        let asg = &self.clients.autoscaling;
        let refreshes = asg
            .describe_instance_refreshes()
            .auto_scaling_group_name(group)
            .max_records(1);
        let policies = asg.describe_policies().auto_scaling_group_name(group);
        let actions = asg
            .describe_scheduled_actions()
            .auto_scaling_group_name(group);
        let activities = asg
            .describe_scaling_activities()
            .auto_scaling_group_name(group)
            .max_records(1);
        let read = [
            (
                "instance refreshes",
                readable(
                    "autoscaling:DescribeInstanceRefreshes",
                    refreshes.send().await,
                ),
            ),
            (
                "scaling policies",
                readable("autoscaling:DescribePolicies", policies.send().await),
            ),
            (
                "scheduled actions",
                readable("autoscaling:DescribeScheduledActions", actions.send().await),
            ),
            (
                "scaling activities",
                readable(
                    "autoscaling:DescribeScalingActivities",
                    activities.send().await,
                ),
            ),
        ];
        read.map(|(what, verdict)| Tried {
            what: format!("fleet {fleet}: {what}"),
            verdict,
        })
        .into()
    }
}

fn readable<T, E>(action: &str, answer: Result<T, SdkError<E, HttpResponse>>) -> Verdict
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match answer {
        Ok(_) => Verdict::Fine("can be read".to_owned()),
        Err(error) => refused(action, "", &error),
    }
}
