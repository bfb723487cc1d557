//! What others say of a policy: an evaluator of IAM and a copy of AWS's service
//! authorization reference that nobody here wrote (`judge/judge.cjs`).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::proxy::policy::{Need, Policy};
use crate::server::{not_tested, python, script};

/// By what name `WINDLASS_TESTS_WITHOUT` leaves it out.
const NAME: &str = "policy-judge";

/// Somebody else's, whatever it is the name of.
const FOREIGN: &str = "somebody-elses";

/// What is allowed on what is ours only.
const ON_OWN: [&str; 13] = [
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "ec2:CreateFleet",
    "ec2:CreateTags",
    "ec2:DeleteTags",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "iam:PassRole",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
];

/// What is said to a question.
#[derive(Deserialize)]
struct Answer {
    /// Of each need.
    verdicts: Vec<String>,
    /// Kinds of resource that an action requires, and no need named.
    missing: Vec<String>,
}

/// Where it is installed, beside the servers; `None` if the tests were told to do
/// without.
fn folder() -> Option<PathBuf> {
    let beside = python().parent()?.parent()?.join("judge");
    if beside.join("node_modules").exists() {
        return Some(beside);
    }
    let without = std::env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
    assert!(
        without.split_whitespace().any(|left_out| left_out == NAME),
        "{} is not there: `tests/run` installs the evaluator of policies that this test asks; \
         leave it out with WINDLASS_TESTS_WITHOUT={NAME}",
        beside.display()
    );
    not_tested("the evaluator of policies is not installed");
    None
}

/// What is said of `policy` and `needs`.
fn ask(folder: &PathBuf, account: &str, policy: &Policy, needs: &[Need]) -> Answer {
    // What has one value is one in its context, but for a list of tags.
    let values = |(key, values): (&String, &Vec<String>)| {
        let value = match &values[..] {
            [one] if key != "aws:TagKeys" => json!(one),
            several => json!(several),
        };
        (key.clone(), value)
    };
    let needs: Vec<Value> = needs
        .iter()
        .map(|need| {
            let context: serde_json::Map<String, Value> = need.context.iter().map(values).collect();
            json!({ "action": need.action, "resource": need.resource, "context": context })
        })
        .collect();
    let question = json!({ "policy": policy.document(), "account": account, "needs": needs });
    let mut node = Command::new("timeout")
        .args(["120", "node"])
        .arg(script("judge/judge.cjs"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout (coreutils) starts");
    let mut input = node.stdin.take().expect("piped");
    input
        .write_all(question.to_string().as_bytes())
        .expect("read");
    drop(input);
    let done = node.wait_with_output().expect("ended");
    assert!(done.status.success(), "{}", done.status);
    serde_json::from_slice(&done.stdout).expect("an answer")
}

/// The same thing of somebody else: another queue or group, an instance of another
/// fleet, another tag.
fn foreign(need: &Need) -> Vec<Need> {
    let mut all = Vec::new();
    for key in need.context.keys() {
        let mut other = need.clone();
        other.context.insert(key.clone(), vec![FOREIGN.to_owned()]);
        // EC2 has two names for the tag of a resource.
        if let Some(tag) = key.strip_prefix("aws:ResourceTag/") {
            let same = format!("ec2:ResourceTag/{tag}");
            other.context.insert(same, vec![FOREIGN.to_owned()]);
        }
        all.push(other);
    }
    if !need.action.starts_with("ec2:") {
        let resource = match need.resource.rsplit_once('/') {
            Some((head, _)) => format!("{head}/{FOREIGN}"),
            None => format!("{}-{FOREIGN}", need.resource),
        };
        all.push(Need {
            resource,
            ..need.clone()
        });
    }
    all
}

/// All that was `asked` of `policy` is allowed by others too, and they find each
/// action, kind of resource and key of a condition where AWS's reference has it;
/// nothing that an action requires was left unasked. Of what belongs to somebody
/// else they allow and refuse what the test's own reading of IAM does, and refuse
/// something of each action.
#[track_caller]
pub(crate) fn agrees(account: &str, policy: &Policy, asked: &BTreeSet<Need>) {
    let Some(folder) = folder() else {
        return;
    };
    let asked: Vec<Need> = asked.iter().cloned().collect();
    let Answer { verdicts, missing } = ask(&folder, account, policy, &asked);
    for (need, verdict) in asked.iter().zip(&verdicts) {
        assert_eq!(verdict, "Allowed", "{need:?}");
    }
    assert_eq!(verdicts.len(), asked.len());
    assert!(missing.is_empty(), "{missing:?}");

    let others: Vec<Need> = asked
        .iter()
        .filter(|need| ON_OWN.contains(&need.action.as_str()))
        .flat_map(foreign)
        .collect();
    let Answer { verdicts, .. } = ask(&folder, account, policy, &others);
    let mut refused = BTreeSet::new();
    for (need, verdict) in others.iter().zip(&verdicts) {
        let ours = policy.denied(std::slice::from_ref(need)).is_none();
        let expected = if ours { "Allowed" } else { "ImplicitlyDenied" };
        assert_eq!(verdict, expected, "{need:?}");
        if !ours {
            refused.insert(need.action.as_str());
        }
    }
    let acted: BTreeSet<&str> = others.iter().map(|need| need.action.as_str()).collect();
    assert_eq!(refused, acted, "what is refused of somebody else's");
}
