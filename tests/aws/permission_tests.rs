//! What `windlass iam` prints is what a fleet needs for its whole life, nothing of
//! it can be left out, and `windlass check --aws` says what is missing.
//!
//! The policy is enforced by the proxy, with resources and conditions: the local
//! servers do not know these (`proxy/policy.rs`).

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::json;
use windlass_policies::model::{FleetError, Outcome};

use crate::cloud::Cloud;
use crate::daemon::{Daemon, Place, QUICK, SILENT};
use crate::judge;
use crate::proxy::Guard;
use crate::proxy::faults::{Fault, Faults};
use crate::proxy::needs::Account;
use crate::proxy::policy::Policy;
use crate::server::Kind;

/// Ten times what it takes: the machine may be busy.
const LIMIT: Duration = Duration::from_mins(2);

/// Quick, but nobody at work is ended.
fn patient() -> String {
    QUICK.replace("deadline = \"0s\"", "deadline = \"1h\"")
}

/// What has no dry run and is no read.
const NEVER_TRIED: [&str; 6] = [
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "sqs:DeleteMessage",
    "sqs:ReceiveMessage",
];

/// A fleet whose workers speak in tags, with an offering of these types.
fn fleet(cloud: &Cloud, types: &str, ready: &str) -> String {
    let ec2 = format!(
        "workers = \"tags\"\nready = \"{ready}\"\nnotices_queue_url = \"{}\"\n\
         [[FLEET.ec2.offering]]\nname = \"spot\"\nmarket = \"spot\"\ntypes = {types}\n\
         usd_per_hour = 0.1\n",
        cloud.notices
    );
    cloud.config(&ec2, &patient())
}

/// The policy that `windlass iam` prints for the place.
fn printed(place: &Place, cloud: &Cloud, arguments: &[&str]) -> Policy {
    let iam = ["iam", "--config", "windlass.toml", "--account"];
    let (code, out) = place.windlass(&[&iam[..], &[cloud.account()], arguments].concat());
    assert_eq!(code, Some(0), "{out}");
    Policy::new(&serde_json::from_str(&out).expect("JSON"))
}

/// From now on only what `policy` allows is done.
fn allow_only(cloud: &Cloud, policy: &Policy) {
    let account = Account {
        id: cloud.account().to_owned(),
        region: "us-east-1",
    };
    cloud.proxy.guard(|guard| {
        *guard = Some(Guard {
            account,
            policy: policy.clone(),
            denied: Vec::new(),
            asked: BTreeSet::new(),
        });
    });
}

/// Nor would it have been by others, who were asked the same questions.
#[track_caller]
fn nothing_was_denied(cloud: &Cloud) {
    let (policy, denied, asked) = cloud.proxy.guard(|guard| {
        let Guard {
            policy,
            denied,
            asked,
            ..
        } = guard.as_ref().expect("a guard");
        (policy.clone(), denied.clone(), asked.clone())
    });
    assert!(denied.is_empty(), "{denied:?}");
    judge::agrees(cloud.account(), &policy, &asked);
}

fn ids(cloud: &Cloud) -> BTreeSet<String> {
    cloud.alive().into_iter().map(|one| one.id).collect()
}

#[track_caller]
fn until_reporting(daemon: &Daemon, cloud: &Cloud, count: usize, busy: bool) {
    daemon.until(&format!("{count} workers"), LIMIT, || {
        let all = ids(cloud);
        let busy = if busy { all.clone() } else { BTreeSet::new() };
        cloud.workers_report(&busy);
        let alive = cloud.alive();
        alive.len() == count && alive.iter().all(|one| one.tag("work").is_some())
    });
}

/// Born from nothing, worked, lost one to EC2, was fenced and freed again, ended.
fn lives(daemon: &Daemon, cloud: &Cloud) {
    cloud.jobs_wait(3);
    until_reporting(daemon, cloud, 3, true);

    let taken = ids(cloud).into_iter().next().expect("one of three");
    cloud.announce(&json!({
        "version": "0",
        "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": windlass::clock::now().to_string(),
        "region": "us-east-1",
        "resources": [format!("arn:aws:ec2:us-east-1a:instance/{taken}")],
        "detail": { "instance-id": taken, "instance-action": "terminate" },
    }));
    daemon.until("a replacement", LIMIT, || {
        let all = ids(cloud);
        cloud.workers_report(&all);
        all.iter().filter(|id| **id != taken).count() == 3
    });
    cloud.look("end", &json!([taken]));
    until_reporting(daemon, cloud, 3, true);

    let fenced = || cloud.alive().iter().all(|one| one.tag("fence").is_some());
    cloud.jobs_wait(0);
    daemon.until("fences", LIMIT, fenced);
    cloud.jobs_wait(3);
    daemon.until("no fences", LIMIT, || {
        cloud.workers_report(&ids(cloud));
        cloud.alive().iter().all(|one| one.tag("fence").is_none())
    });
    cloud.jobs_wait(0);
    daemon.until("the end", LIMIT, || {
        cloud.workers_report(&BTreeSet::new());
        cloud.alive().is_empty()
    });
}

/// All of that on what is printed, and all that is printed is needed for it.
fn lives_on_what_is_printed(cloud: &Cloud, types: &str) {
    let place = Place::new(&fleet(cloud, types, "worker"));
    allow_only(cloud, &printed(&place, cloud, &[]));
    lives(&place.start(), cloud);
    nothing_was_denied(cloud);
    let mut expected = vec![
        "CreateTags",
        "DeleteMessageBatch",
        "DeleteTags",
        "DescribeInstances",
        "GetQueueAttributes",
        "ReceiveMessage",
        "TerminateInstances",
    ];
    expected.push(if types.contains(',') {
        "CreateFleet"
    } else {
        "RunInstances"
    });
    for call in expected {
        assert!(cloud.proxy.calls(call) > 0, "{call} was not needed");
    }
}

#[test]
fn fleet_lives_its_whole_life_on_what_is_printed() {
    thread::scope(|scope| {
        for &kind in Kind::all() {
            let types = match kind {
                Kind::Moto => "[\"m5.large\"]",
                Kind::Ministack => "[\"m5.large\", \"c5.large\"]",
            };
            scope.spawn(move || lives_on_what_is_printed(&Cloud::new(kind, "allowed"), types));
        }
    });
}

/// The fence is a tag even where no worker looks for it.
#[test]
fn silent_fleet_lives_on_what_is_printed() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "silent");
    let config = fleet(cloud, "[\"m5.large\"]", "running");
    let config = config.replace("\"tags\"", "\"none\"");
    let place = Place::new(&config.replace("deadline = \"1h\"", "deadline = \"0s\""));
    allow_only(cloud, &printed(&place, cloud, &[]));
    let daemon = place.start();
    cloud.jobs_wait(2);
    daemon.until("two", LIMIT, || cloud.alive().len() == 2);
    cloud.jobs_wait(0);
    daemon.until("none", LIMIT, || cloud.alive().is_empty());
    nothing_was_denied(cloud);
    assert!(cloud.proxy.calls("CreateTags") > 0);
}

/// By the independent judgement of moto's own IAM, which checks signatures and
/// actions; of resources and conditions it says itself that it evaluates none,
/// so those are left out.
#[test]
fn fleet_lives_on_the_actions_as_moto_judges_them() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::alone(Kind::Moto, "signed");
    let config = fleet(cloud, "[\"m5.large\"]", "worker");
    let place = Place::new(&cloud.past_the_proxy(&config));
    let actions = printed(&place, cloud, &[]).actions();
    let actions: Vec<String> = actions.into_iter().map(|(_, action)| action).collect();
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
    });
    let keys = cloud.look("enforce", &policy);
    let key = |name: &str| keys[name].as_str().expect("a key").to_owned();
    let (id, secret) = (key("aws_access_key_id"), key("aws_secret_access_key"));
    let windlass = [
        ("AWS_ACCESS_KEY_ID", id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
    ];
    lives(&place.start_as(&[], &windlass), cloud);
    // It was enforced: nobody without keys may look.
    let (code, told) = place.windlass(&["check", "--aws", "windlass.toml"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("AWS does not know this key"), "{told}");
}

/// What the last launches or ends came to, as the store has it.
fn last_refusal(place: &Place, cloud: &Cloud) -> Option<String> {
    let entries = place.entries(&cloud.fleet);
    let done = entries.iter().flat_map(|entry| &entry.done);
    let mut outcomes = done.filter_map(|done| Some(done.answer.as_ref()?.outcome.clone()));
    match outcomes.next_back()? {
        Outcome::Failed(FleetError::NotPermitted(told)) => Some(told),
        _ => None,
    }
}

#[test]
fn daemon_names_what_is_not_permitted_and_goes_on_once_it_is() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "denied");
    let place = Place::new(&fleet(cloud, "[\"m5.large\"]", "worker"));
    let policy = printed(&place, cloud, &[]);
    let named = |daemon: &Daemon, sid: &str, action: &str| {
        allow_only(cloud, &policy.without(sid, action));
        daemon.until(action, LIMIT, || {
            cloud.workers_report(&BTreeSet::new());
            last_refusal(&place, cloud).is_some_and(|told| told.contains(action))
        });
        allow_only(cloud, &policy);
    };
    allow_only(cloud, &policy);
    cloud.jobs_wait(2);
    allow_only(cloud, &policy.without("LaunchWithTag", "ec2:RunInstances"));
    let daemon = place.start();
    named(&daemon, "LaunchWithTag", "ec2:RunInstances");
    until_reporting(&daemon, cloud, 2, false);
    allow_only(cloud, &policy.without("FenceOwn", "ec2:CreateTags"));
    cloud.jobs_wait(0);
    named(&daemon, "FenceOwn", "ec2:CreateTags");
    allow_only(cloud, &policy.without("EndOwn", "ec2:TerminateInstances"));
    named(&daemon, "EndOwn", "ec2:TerminateInstances");
    daemon.until("the end", LIMIT, || {
        cloud.workers_report(&BTreeSet::new());
        cloud.alive().is_empty()
    });
}

/// Credentials that end while it runs are told as an error that a person must see
/// to, once and with what to do; so is that they are good again.
#[test]
fn credentials_that_expire_are_told_once_with_what_to_do() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Ministack, "expired");
    let place = Place::new(&cloud.config(SILENT, QUICK));
    let daemon = place.start();
    daemon.cycles(1);
    for (code, level, advice) in [
        ("ExpiredToken", "ERROR", "the credentials have expired"),
        ("AuthFailure", "ERROR", "or not in this region"),
        (
            "SignatureDoesNotMatch",
            "ERROR",
            "or this machine's clock is wrong",
        ),
        (
            "UnauthorizedOperation",
            "ERROR",
            "`windlass check --aws` names what to grant",
        ),
        ("RequestLimitExceeded", "WARN", "throttled"),
    ] {
        let deny = Fault::Deny(code);
        cloud
            .proxy
            .faults(|faults| faults.chance("DescribeInstances", deny, 1000));
        daemon.cycles(4);
        cloud.proxy.faults(Faults::calm);
        daemon.cycles(3);
        let told = daemon.told();
        let of_sight = |words: &str| {
            let lines = told.lines().filter(|line| line.contains(words));
            lines.map(str::to_owned).collect::<Vec<String>>()
        };
        let hidden = of_sight("the fleet cannot be listed");
        let [.., hidden] = &hidden[..] else {
            panic!("{code}: {told}");
        };
        assert!(
            hidden.contains(level) && hidden.contains(advice),
            "{hidden}"
        );
        let mut after = told.lines().skip_while(|line| *line != hidden);
        assert!(
            after.any(|line| line.contains("can be listed again")),
            "{code}: {told}"
        );
    }
    let told = daemon.told();
    let times = told.matches("the fleet cannot be listed").count();
    assert!(times <= 5, "{told}");
}

/// Without each action in turn, the check says which one to grant, and where
/// `windlass iam` has it.
fn check_misses_each(cloud: &Cloud, place: &Place, policy: &Policy) {
    let check = || place.windlass(&["check", "--aws", "windlass.toml"]);
    allow_only(cloud, policy);
    let (code, told) = check();
    assert_eq!(code, Some(0), "{told}");
    for (sid, action) in policy.actions() {
        allow_only(cloud, &policy.without(&sid, &action));
        let (code, told) = check();
        let (begins, expected) = if NEVER_TRIED.contains(&action.as_str()) {
            ("not tried", 0)
        } else {
            ("not permitted", 1)
        };
        assert_eq!(code, Some(expected), "{sid}, {action}: {told}");
        let names =
            |line: &str| line.starts_with(begins) && line.contains(&action) && line.contains(&sid);
        assert!(told.lines().any(names), "{sid}, {action}: {told}");
    }
    let changes = |name: &str| !(name.starts_with("Describe") || name.starts_with("Get"));
    let journal = cloud.proxy.journal();
    let sent: BTreeSet<&str> = journal.iter().map(|entry| entry.name.as_str()).collect();
    // As dry runs, which the guard answers.
    let dry = [
        "CreateFleet",
        "CreateTags",
        "DeleteTags",
        "RunInstances",
        "TerminateInstances",
    ];
    for name in sent.into_iter().filter(|name| changes(name)) {
        assert!(dry.contains(&name), "{name}");
    }
}

#[test]
fn check_names_each_permission_of_a_fleet_that_is_missing() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Ministack, "lacking");
    let jobs = &cloud.jobs;
    let age = format!(
        "[FLEET.signals.age]\nsource = \"sqs\"\nqueue_url = \"{jobs}\"\ncount = \"oldest_age\"\n"
    );
    let config = fleet(cloud, "[\"m5.large\", \"c5.large\"]", "status_ok") + &age;
    let place = Place::new(&config.replace("FLEET", &format!("fleet.{}", cloud.fleet)));
    let own = json!({ "windlass:fleet": cloud.fleet });
    let instance = cloud.look("launch", &own);
    check_misses_each(cloud, &place, &printed(&place, cloud, &[]));
    assert_eq!(
        ids(cloud).len(),
        1,
        "nothing was launched, and nothing ended"
    );
    cloud.look("end", &json!([instance]));
}

/// A fleet in a group of its name.
fn grouped(cloud: &Cloud) -> String {
    let (fleet, notices) = (&cloud.fleet, &cloud.notices);
    let config = cloud.config("", &patient());
    let (head, tail) = config
        .split_once(&format!("[fleet.{fleet}.ec2]"))
        .expect("its table");
    let (_, tail) = tail.split_once("[[").expect("its policy");
    let asg = format!(
        "[fleet.{fleet}.asg]\ngroup = \"{fleet}\"\ntype = \"m5.large\"\nusd_per_hour = 0.1\n\
         workers = \"stateless\"\nnotices_queue_url = \"{notices}\"\n\n[["
    );
    head.replace("\"ec2\"", "\"asg\"") + &asg + tail
}

/// How many instances the fleet's group has.
fn in_group(cloud: &Cloud) -> usize {
    let told = cloud.look("group", &json!(cloud.fleet));
    told["members"].as_array().expect("a list").len()
}

#[test]
fn check_names_each_permission_of_a_group_that_is_missing() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "lacking-group");
    let place = Place::new(&grouped(cloud));
    cloud.look(
        "make_group",
        &json!({ "name": cloud.fleet, "max": 9, "desired": 1 }),
    );
    check_misses_each(cloud, &place, &printed(&place, cloud, &[]));
    assert_eq!(in_group(cloud), 1);
}

#[test]
fn group_lives_its_whole_life_on_what_is_printed() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "allowed-group");
    let place = Place::new(&grouped(cloud));
    cloud.look(
        "make_group",
        &json!({ "name": cloud.fleet, "max": 9, "desired": 0 }),
    );
    allow_only(cloud, &printed(&place, cloud, &[]));
    let daemon = place.start();
    cloud.jobs_wait(3);
    daemon.until("three", LIMIT, || in_group(cloud) == 3);
    daemon.cycles(2);
    cloud.jobs_wait(0);
    daemon.until("none", LIMIT, || in_group(cloud) == 0);
    daemon.cycles(2);
    nothing_was_denied(cloud);
    for call in [
        "CreateOrUpdateTags",
        "CreateTags",
        "DescribeInstanceRefreshes",
        "SetDesiredCapacity",
        "TerminateInstanceInAutoScalingGroup",
    ] {
        assert!(cloud.proxy.calls(call) > 0, "{call} was not needed");
    }
}

/// A rehearsal on what `windlass iam --observe` prints.
fn rehearses(cloud: &Cloud, place: &Place) {
    allow_only(cloud, &printed(place, cloud, &["--observe"]));
    cloud.jobs_wait(3);
    let daemon = place.start_as(&["--dry-run"], &[]);
    daemon.cycles(3);
    drop(daemon);
    let (code, told) = place.windlass(&["check", "--aws", "--observe", "windlass.toml"]);
    assert_eq!(code, Some(0), "{told}");
    let denied = cloud
        .proxy
        .guard(|guard| guard.as_ref().expect("a guard").denied.clone());
    // The check alone asks for more, and does without.
    let only_read = |action: &str| action.starts_with("ec2:Describe");
    assert!(
        denied.iter().all(|need| only_read(&need.action)),
        "{denied:?}"
    );
    for entry in cloud.proxy.journal() {
        let (name, reads) = (&entry.name, ["Describe", "Get"]);
        assert!(reads.iter().any(|verb| name.starts_with(verb)), "{name}");
    }
    let (_, told) = place.windlass(&["explain", "--config", "windlass.toml"]);
    assert!(told.contains("rehearsed"), "{told}");
}

#[test]
fn observer_may_rehearse_a_fleet() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "observed");
    let place = Place::new(&fleet(cloud, "[\"m5.large\"]", "status_ok"));
    rehearses(cloud, &place);
    assert!(cloud.alive().is_empty());
}

#[test]
fn observer_may_rehearse_a_group() {
    if Kind::all().is_empty() {
        return;
    }
    let cloud = &Cloud::new(Kind::Moto, "observed-group");
    let place = Place::new(&grouped(cloud));
    cloud.look(
        "make_group",
        &json!({ "name": cloud.fleet, "max": 9, "desired": 0 }),
    );
    rehearses(cloud, &place);
    assert_eq!(in_group(cloud), 0);
}
