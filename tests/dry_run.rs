//! A rehearsal against a server that writes down what it is asked: nothing but
//! questions, and nothing that an observer's role does not permit. Where workers
//! are heard of in Redis, nothing is written there either.
#![cfg(feature = "aws")]

#[path = "sources/servers.rs"]
#[expect(dead_code, reason = "other tests start other servers with it")]
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// What a rehearsal may ask for.
const QUESTIONS: [&str; 6] = [
    "DescribeAutoScalingGroups",
    "DescribeInstanceRefreshes",
    "DescribeInstanceStatus",
    "DescribeInstances",
    "GetMetricData",
    "GetQueueAttributes",
];

/// Two fleets that have to change at once, one to grow and one to shrink, each
/// with a queue of notices.
fn configuration(url: &str) -> String {
    CONFIGURATION.replace("{url}", url)
}

const CONFIGURATION: &str = r#"
        [aws]
        region = "eu-west-1"
        endpoint_url = "{url}"

        [fleet.bought]
        provider = "ec2"
        interval = "1s"
        [fleet.bought.ec2]
        workers = "tags"
        image = "ami-0abc"
        security_groups = ["sg-0abc"]
        subnets = ["subnet-0abc"]
        notices_queue_url = "{url}/123456789012/notices"
        [[fleet.bought.ec2.offering]]
        name = "small"
        types = ["t3.small"]
        usd_per_hour = 0.02
        [fleet.bought.limits]
        max = 5
        max_usd_per_hour = 1
        [[fleet.bought.policy]]
        kind = "fixed"
        instances = 3

        [fleet.grouped]
        provider = "asg"
        interval = "1s"
        [fleet.grouped.asg]
        group = "web"
        type = "t3.small"
        usd_per_hour = 0.02
        workers = "stateless"
        notices_queue_url = "{url}/123456789012/notices"
        [fleet.grouped.limits]
        min = 0
        max = 5
        max_usd_per_hour = 1
        shrink_settle = "0s"
        [[fleet.grouped.policy]]
        kind = "fixed"
        instances = 1
        "#;

/// An instance of the group, as EC2 lists it.
fn instance(id: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>running</name></instanceState>\
         <instanceType>t3.small</instanceType><launchTime>2026-03-01T11:00:00.000Z</launchTime>\
         </item>"
    )
}

/// A member of it, as Auto Scaling does.
fn member(id: &str) -> String {
    format!(
        "<member><InstanceId>{id}</InstanceId><LifecycleState>InService</LifecycleState>\
         <InstanceType>t3.small</InstanceType><ProtectedFromScaleIn>false</ProtectedFromScaleIn>\
         </member>"
    )
}

const IDS: [&str; 2] = ["i-0123456789abcdef0", "i-0123456789abcdef1"];

/// The answer to `action`; the region has two instances, both of the group.
fn answer(action: &str, body: &str) -> String {
    let inner = match action {
        "DescribeInstances" if body.contains("groupName") => format!(
            "<reservationSet><item><instancesSet>{}</instancesSet></item></reservationSet>",
            IDS.map(instance).concat()
        ),
        "DescribeAutoScalingGroups" => format!(
            "<DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
             <AutoScalingGroupName>web</AutoScalingGroupName><MinSize>0</MinSize>\
             <MaxSize>5</MaxSize><DesiredCapacity>2</DesiredCapacity><Instances>{}</Instances>\
             </member></AutoScalingGroups></DescribeAutoScalingGroupsResult>",
            IDS.map(member).concat()
        ),
        "ReceiveMessage" => return "{}".to_owned(),
        // EC2 has no such element, and Auto Scaling reads nothing without.
        _ => format!("<{action}Result></{action}Result>"),
    };
    format!("<{action}Response>{inner}</{action}Response>")
}

/// Reads one request, and gives the action it asks for and its body.
fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let (mut length, mut target) = (0, None);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "x-amz-target" => target = value.split('.').next_back().map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let form = form_urlencoded::parse(body.as_bytes());
    let in_form = form
        .into_owned()
        .find_map(|(key, value)| (key == "Action").then_some(value));
    Some((target.or(in_form).unwrap_or("?".to_owned()), body))
}

fn serve(stream: TcpStream, asked: &Mutex<BTreeSet<String>>) {
    let mut writer = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::new(stream);
    while let Some((action, body)) = request(&mut reader) {
        let answer = answer(&action, &body);
        asked.lock().expect("nobody panics").insert(action);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if writer.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

/// What is asked of AWS in a run of `windlass run --once` with `arguments`, and
/// what `windlass explain` tells of it.
fn actions(arguments: &[&str]) -> (BTreeSet<String>, String) {
    actions_of(arguments, configuration)
}

/// The same of any configuration, which is told where the server is.
fn actions_of(
    arguments: &[&str],
    configuration: impl Fn(&str) -> String,
) -> (BTreeSet<String>, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let log = Arc::clone(&asked);
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            thread::spawn(move || serve(stream, &log));
        }
    });
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("windlass.toml");
    fs::write(&file, configuration(&url)).expect("written");
    let run = [&["run", "--once", "--config", "windlass.toml"], arguments].concat();
    windlass(folder.path(), &run);
    let told = windlass(folder.path(), &["explain", "--config", "windlass.toml"]);
    let asked = asked.lock().expect("nobody panics").clone();
    (asked, told)
}

/// What `windlass` says with `arguments`; it must succeed.
fn windlass(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(arguments)
        .current_dir(folder)
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env_remove("WINDLASS_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {out}{errors}");
    out
}

#[test]
fn a_rehearsal_asks_and_changes_nothing() {
    let (asked, told) = actions(&["--dry-run"]);
    let changes: Vec<&String> = asked
        .iter()
        .filter(|action| !QUESTIONS.contains(&action.as_str()))
        .collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert!(asked.contains("DescribeAutoScalingGroups"), "{asked:?}");
    assert!(asked.contains("DescribeInstances"), "{asked:?}");
    // It had something to do, or this shows nothing.
    assert!(told.contains("rehearsed"), "{told}");
}

#[test]
fn the_same_run_in_earnest_changes_what_it_should() {
    let (asked, _) = actions(&[]);
    for change in [
        "RunInstances",
        "CreateOrUpdateTags",
        "CreateTags",
        "TerminateInstanceInAutoScalingGroup",
        "ReceiveMessage",
    ] {
        assert!(asked.contains(change), "{change} is not among {asked:?}");
    }
}

/// A Redis server of its own, in which both workers of the group say that they are
/// idle, and one fence stands that no tag has.
struct Redis {
    port: u16,
    _server: servers::Server,
    _folder: TempDir,
}

impl Redis {
    fn start() -> Option<Self> {
        let program = servers::program("redis-server", "redis-server")?;
        let folder = TempDir::new().expect("a folder");
        let port = servers::free_port();
        let arguments = format!("--bind 127.0.0.1 --port {port} --appendonly no --save");
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        // Never.
        arguments.push(String::new());
        let log = folder.path().join("log");
        let server = servers::Server::start(&program, &arguments, &log, None);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::park_timeout(Duration::from_millis(20));
        }
        let redis = Self {
            port,
            _server: server,
            _folder: folder,
        };
        for id in IDS {
            redis.tell(&["HSET", "windlass:grouped:workers", id, "idle"]);
        }
        redis.tell(&["HSET", "windlass:grouped:fences", IDS[0], "1-1"]);
        redis.tell(&["CONFIG", "RESETSTAT"]);
        Some(redis)
    }

    fn tell(&self, command: &[&str]) -> String {
        let done = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .output()
            .expect("redis-cli comes with the server");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// The commands it was given, and all that is in it.
    fn seen(&self) -> (BTreeSet<String>, String) {
        let told = self.tell(&["INFO", "commandstats"]);
        let commands = told.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            Some(name.to_owned())
        });
        let commands = commands.collect();
        let hashes = ["workers", "fences"].map(|name| {
            let key = format!("windlass:grouped:{name}");
            self.tell(&["HGETALL", &key])
        });
        (commands, self.tell(&["KEYS", "*"]) + &hashes.concat())
    }

    /// The group's configuration, with workers that listen to it.
    fn configuration(&self, url: &str) -> String {
        let redis = format!(
            "workers = \"redis\"\n[fleet.grouped.asg.redis]\nurl = \"redis://127.0.0.1:{}\"\n",
            self.port
        );
        let (_, grouped) = CONFIGURATION.split_once("[fleet.grouped]").expect("it");
        let grouped = grouped.replace("workers = \"stateless\"\n", "");
        let (head, tail) = grouped.split_once("[fleet.grouped.limits]").expect("it");
        let aws = format!("[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"{url}\"\n");
        let head = head.replace("{url}", url);
        format!("{aws}[fleet.grouped]{head}{redis}[fleet.grouped.limits]{tail}")
    }
}

#[test]
fn a_rehearsal_writes_nothing_to_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (_, before) = redis.seen();
    let (asked, told) = actions_of(&["--dry-run"], |url| redis.configuration(url));
    let (commands, after) = redis.seen();
    assert_eq!(before, after);
    let writes = |name: &&String| name.starts_with("hset") || name.starts_with("hdel");
    assert_eq!(commands.iter().find(writes), None, "{commands:?}");
    assert!(
        commands.contains("hgetall"),
        "it looked there: {commands:?}"
    );
    assert!(!asked.contains("CreateTags"), "{asked:?}");
    // It had somebody to fence, or this shows nothing.
    assert!(told.contains("rehearsed"), "{told}");
}

#[test]
fn the_same_run_in_earnest_writes_the_fence_to_redis() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let (_, before) = redis.seen();
    let (asked, _) = actions_of(&[], |url| redis.configuration(url));
    let (commands, after) = redis.seen();
    assert_ne!(before, after);
    assert!(commands.contains("hset"), "{commands:?}");
    assert!(asked.contains("CreateTags"), "{asked:?}");
}
