//! Trying what a configuration needs of AWS before it is needed: who asks, what
//! is there, and what is allowed. Nothing is changed.
//!
//! Calls that change something are made as dry runs, which EC2 offers: it looks
//! at the permissions and the parameters and then answers `DryRunOperation`. Auto
//! Scaling and SQS have none; what of them changes something is not tried, and
//! the statement of `windlass iam` is named that allows it.

mod ec2;
mod group;
mod words;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use windlass_policies::model::FleetError;

use super::client::AwsClients;
use super::errors::{Call, fleet_error};
use super::permissions::{self, Extent, Place, Statement, Uses};
use crate::clock;
use crate::config::{Config, Fleet, Provider};

/// A call that is throttled is made again after so long: EC2 lets two launches
/// a second through, dry runs included.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// How often it is made again before it is told as it is.
const THROTTLED_MAX: u32 = 10;

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
        action: String,
        /// The statements of `windlass iam` that grant it.
        statements: Vec<&'static str>,
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
            Verdict::NotPermitted {
                action,
                statements,
                told,
            } => {
                write!(out, "not permitted  {what}: grant {action}")?;
                if !statements.is_empty() {
                    let names = statements.join(", ");
                    write!(out, ", in `windlass iam`: {names}")?;
                }
                write!(out, " ({told})")
            }
            Verdict::Wrong { key, told } if key.is_empty() => {
                write!(out, "wrong          {what}: {told}")
            }
            Verdict::Wrong { key, told } => write!(out, "wrong          {what}: {key}: {told}"),
        }
    }
}

/// Tries all that `config` needs to go as far as `extent`. Who asks comes first;
/// if that cannot be found out nothing else is tried.
pub async fn tried(clients: &AwsClients, config: &Config, extent: Extent) -> Vec<Tried> {
    let identity = identity(clients).await;
    if identity.fails() {
        return vec![identity];
    }
    let uses = Uses::of(config);
    let trial = Trial {
        clients,
        extent,
        statements: statements(&uses, extent),
    };
    let mut all = vec![identity];
    all.extend(trial.fleets(config).await);
    for url in &uses.queues {
        all.push(trial.queue("messages of", url).await);
    }
    if extent == Extent::Act {
        for url in &uses.notices {
            all.push(trial.queue("notices of", url).await);
            all.push(trial.untried(
                &format!("taking notices of {url}"),
                &["sqs:ReceiveMessage", "sqs:DeleteMessage"],
                "they take messages away, and SQS has no dry run",
            ));
        }
    }
    if uses.cloudwatch {
        all.push(metrics(clients).await);
    }
    for one in &mut all {
        trial.name_statements(one);
    }
    all
}

/// All that may be needed, a role for the instances included; where does not
/// matter here.
fn statements(uses: &Uses, extent: Extent) -> Vec<Statement> {
    let anywhere = Place {
        region: "*".to_owned(),
        account: "*".to_owned(),
    };
    permissions::statements(uses, &anywhere, &["*".to_owned()], extent)
}

/// What all trials of one check have in common.
struct Trial<'a> {
    clients: &'a AwsClients,
    extent: Extent,
    statements: Vec<Statement>,
}

impl Trial<'_> {
    async fn fleets(&self, config: &Config) -> Vec<Tried> {
        let on_aws = |fleet: &Fleet| match fleet.provider {
            Provider::Ec2(_) | Provider::Asg(_) => true,
            Provider::Simulated(_) | Provider::Process(_) => false,
        };
        if !config.fleets.iter().any(on_aws) {
            return Vec::new();
        }
        let mut all = Vec::new();
        let honest = self.extent == Extent::Observe || ec2::takes_dry_runs(self.clients).await;
        if !honest {
            let told = "this server ignores DryRun: it answered a listing that was to be one. EC2 \
                does not do that; so nothing that changes something is tried. Look at endpoint_url \
                in [aws]";
            all.push(Tried {
                what: "dry runs".to_owned(),
                verdict: Verdict::Skipped(told.to_owned()),
            });
        }
        for fleet in &config.fleets {
            let name = &fleet.spec.name;
            match &fleet.provider {
                Provider::Simulated(_) | Provider::Process(_) => {}
                Provider::Asg(settings) => all.extend(self.group(name, settings, honest).await),
                Provider::Ec2(settings) => all.extend(self.ec2(name, settings, honest).await),
            }
        }
        all
    }

    /// A line of what is not tried, with the statements that allow it.
    fn untried(&self, what: &str, actions: &[&str], why: &str) -> Tried {
        let names: BTreeSet<&str> = actions
            .iter()
            .flat_map(|action| permissions::granting(&self.statements, action))
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        let actions = actions.join(", ");
        Tried {
            what: what.to_owned(),
            verdict: Verdict::Skipped(format!(
                "{why}; `windlass iam` allows {actions} in: {}",
                names.join(", ")
            )),
        }
    }

    fn name_statements(&self, one: &mut Tried) {
        if let Verdict::NotPermitted {
            action, statements, ..
        } = &mut one.verdict
        {
            *statements = permissions::granting(&self.statements, action);
        }
    }

    async fn queue(&self, what: &str, url: &str) -> Tried {
        let answer = self
            .clients
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
                    told: format!(
                        "{told}; is the URL right, and the region {}?",
                        self.clients.region
                    ),
                },
                other => other,
            },
        };
        Tried {
            what: format!("{what} {url}"),
            verdict,
        }
    }
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
            told: words::nobody(&error, &clients.region),
        },
    };
    Tried {
        what: "identity".to_owned(),
        verdict,
    }
}

/// What a failed call says: which action to grant, or which key is wrong.
fn refused<E>(action: &str, key: &str, error: &SdkError<E, HttpResponse>) -> Verdict
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match fleet_error(Call::Reads, error) {
        FleetError::NotPermitted(advised) => {
            let told = words::of_aws(error).unwrap_or(advised);
            Verdict::NotPermitted {
                action: words::denied_action(&told).unwrap_or(action).to_owned(),
                statements: Vec::new(),
                told,
            }
        }
        FleetError::Throttled => Verdict::Wrong {
            key: String::new(),
            told: "AWS throttles this account; try again in a minute".to_owned(),
        },
        other => Verdict::Wrong {
            key: key.to_owned(),
            told: words::of_aws(error).unwrap_or_else(|| other.to_string()),
        },
    }
}

/// What a dry run says, whose good end is an error too.
fn dry<T, E>(action: &str, key: &str, answer: &Result<T, SdkError<E, HttpResponse>>) -> Verdict
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match answer {
        Ok(_) => Verdict::Wrong {
            key: String::new(),
            told: format!(
                "{action} was to be a dry run, and the server did it: look what is there"
            ),
        },
        Err(error) if error.code() == Some("DryRunOperation") => {
            Verdict::Fine(format!("{action} is allowed"))
        }
        Err(error) => refused(action, key, error),
    }
}

/// Makes `call` until it is not throttled.
async fn patiently<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, SdkError<E, HttpResponse>>
where
    E: ProvideErrorMetadata + Error + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    for _ in 0..THROTTLED_MAX {
        match call().await {
            Err(error) if fleet_error(Call::Reads, &error) == FleetError::Throttled => {
                tokio::time::sleep(THROTTLED_PAUSE).await;
            }
            answer => return answer,
        }
    }
    call().await
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

async fn metrics(clients: &AwsClients) -> Tried {
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
