//! Redis, as it is installed.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use windlass_policies::signal::{Completeness, Reading};
use windlass_policies::units::Timestamp;

use crate::servers::{Certificates, Server, free_port, program};
use crate::{Signals, absent, runtime, wait_until};

/// A Redis server with nothing in it.
pub(crate) struct Redis {
    pub(crate) server: Server,
    pub(crate) port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    pub(crate) fn start(more: &[&str]) -> Option<Self> {
        let port = free_port();
        Self::start_on(port, &["--port", &port.to_string()], more)
    }

    fn start_on(port: u16, listen: &[&str], more: &[&str]) -> Option<Self> {
        let redis = program("redis-server", "redis-server")?;
        let folder = tempfile::tempdir().expect("a folder");
        let fixed = [
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ];
        let arguments: Vec<String> = fixed
            .into_iter()
            .chain([folder.path().to_str().expect("text")])
            .chain(listen.iter().copied())
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect();
        let server = Server::start(&redis, &arguments, &folder.path().join("log"), None);
        Some(Self {
            server,
            port,
            folder,
            arguments,
        })
    }

    fn restart(&mut self) {
        self.server.kill();
        let redis = program("redis-server", "redis-server").expect("it ran already");
        let log = self.folder.path().join("log");
        self.server = Server::start(&redis, &self.arguments, &log, None);
    }

    /// What `redis-cli` prints for each line of `commands`.
    fn tell(&self, commands: &[&str]) -> String {
        let mut said = String::new();
        for line in commands {
            let output = Command::new("redis-cli")
                .args(["-p", &self.port.to_string()])
                .args(line.split(' '))
                .output()
                .expect("redis-cli comes with the server");
            said += &String::from_utf8_lossy(&output.stdout);
        }
        said
    }

    pub(crate) fn wait(&self, runtime: &tokio::runtime::Runtime) {
        wait_until(runtime, "redis-server", |_| {
            let said = self.tell(&["PING"]);
            said.contains("PONG") || said.contains("NOAUTH")
        });
    }

    fn keys(&self, more: &str) -> String {
        format!(
            "source = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n{more}",
            self.port
        )
    }

    #[track_caller]
    fn signals(&self, more: &str) -> Signals {
        Signals::one(&self.keys(more))
    }
}

#[test]
fn lists_sets_streams_and_hashes_are_counted() {
    let runtime = runtime();
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    redis.wait(&runtime);
    redis.tell(&[
        "RPUSH jobs a b c",
        "ZADD delayed 100 a 200 b 9999999999 c",
        "ZADD millis 100000 a 200000 b 9999999999000 c",
        "HSET stats depth 4.5 at 990 word many nan nan less -1 endless inf milli 1700000000000",
        "SET text 7",
        "XADD s 1-1 a 1",
        "XGROUP CREATE s workers 0",
        "XADD s 2-1 a 1",
        "XADD s 3-1 a 1",
        "XREADGROUP GROUP workers me COUNT 1 STREAMS s >",
    ]);
    let cases = [
        ("list = \"jobs\"", Ok(3.0)),
        // Redis removes a list with its last element: none is an empty one.
        ("list = \"never-written\"", Ok(0.0)),
        ("list = \"text\"", Err("unusable: ")),
        ("list = \"s\"", Err("WRONGTYPE")),
        ("sorted_set = \"delayed\"", Ok(3.0)),
        ("sorted_set = \"delayed\"\ndue = \"seconds\"", Ok(2.0)),
        ("sorted_set = \"millis\"\ndue = \"milliseconds\"", Ok(2.0)),
        ("sorted_set = \"never-written\"", Ok(0.0)),
        ("sorted_set = \"jobs\"", Err("WRONGTYPE")),
        ("stream = \"s\"\ngroup = \"workers\"", Ok(3.0)),
        (
            "stream = \"s\"\ngroup = \"workers\"\ncount = \"waiting\"",
            Ok(2.0),
        ),
        (
            "stream = \"s\"\ngroup = \"workers\"\ncount = \"pending\"",
            Ok(1.0),
        ),
        (
            "stream = \"s\"\ngroup = \"others\"",
            Err("has no group `others`"),
        ),
        (
            "stream = \"none\"\ngroup = \"workers\"",
            Err("there is no stream `none`"),
        ),
        ("stream = \"jobs\"\ngroup = \"workers\"", Err("WRONGTYPE")),
        ("hash = \"stats\"\nfield = \"depth\"", Ok(4.5)),
        ("hash = \"stats\"\nfield = \"none\"", Err("no data")),
        ("hash = \"none\"\nfield = \"depth\"", Err("no data")),
        (
            "hash = \"stats\"\nfield = \"word\"",
            Err("not a usable number"),
        ),
        (
            "hash = \"stats\"\nfield = \"nan\"",
            Err("not a usable number"),
        ),
        (
            "hash = \"stats\"\nfield = \"less\"",
            Err("not a usable number"),
        ),
        (
            "hash = \"stats\"\nfield = \"endless\"",
            Err("not a usable number"),
        ),
        ("hash = \"jobs\"\nfield = \"depth\"", Err("WRONGTYPE")),
        (
            "hash = \"stats\"\nfield = \"depth\"\ntime_field = \"none\"",
            Err("has no time in `none`"),
        ),
        (
            "hash = \"stats\"\nfield = \"depth\"\ntime_field = \"milli\"",
            Err("seconds since 1970"),
        ),
    ];
    for (keys, expected) in cases {
        match expected {
            Ok(value) => redis.signals(keys).expect(&runtime, value),
            Err(why) => redis.signals(keys).expect_absent(&runtime, why),
        }
    }
    let timed = redis.signals("hash = \"stats\"\nfield = \"depth\"\ntime_field = \"at\"");
    match runtime.block_on(timed.read_at(Timestamp::from_secs(1_000))) {
        Reading::Present(sample) => assert_eq!(sample.at, Timestamp::from_secs(990)),
        Reading::Absent(why) => panic!("{why}"),
    }
    // Another database has other keys.
    let other = redis
        .keys("list = \"jobs\"")
        .replace("\"\nlist", "/1\"\nlist");
    Signals::one(&other).expect(&runtime, 0.0);
}

#[test]
fn a_stream_whose_lag_is_not_told_is_counted_up_to_a_limit() {
    let runtime = runtime();
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    redis.wait(&runtime);
    redis.tell(&[
        "XADD s 1-1 a 1",
        "XGROUP CREATE s w 0",
        "XADD s 2-1 a 1",
        "XADD s 3-1 a 1",
    ]);
    // From now on Redis itself does not know how many wait.
    redis.tell(&[
        "XDEL s 2-1",
        "XREADGROUP GROUP w me COUNT 1 STREAMS s >",
        "XADD s 4-1 a 1",
    ]);
    assert!(
        redis.tell(&["XINFO GROUPS s"]).lines().any(str::is_empty),
        "lag is told"
    );
    let signals = redis.signals("stream = \"s\"\ngroup = \"w\"\ncount = \"waiting\"");
    signals.expect(&runtime, 2.0);
    let script = "for i=1,1200 do redis.call('XADD',KEYS[1],'*','a','1') end";
    let status = Command::new("redis-cli")
        .args(["-p", &redis.port.to_string(), "EVAL", script, "1", "s"])
        .output();
    assert!(status.expect("redis-cli").status.success());
    match runtime.block_on(signals.read()) {
        // The truth is higher: it may grow a fleet and never shrinks one.
        Reading::Present(sample) => {
            assert_eq!(sample.completeness, Completeness::Partial);
            assert!((sample.value - 1_000.0).abs() < 1e-9, "{sample:?}");
        }
        Reading::Absent(why) => panic!("{why}"),
    }
}

#[test]
fn a_server_that_goes_and_comes_back_is_found_again() {
    let runtime = runtime();
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    redis.wait(&runtime);
    redis.tell(&["RPUSH jobs a"]);
    let signals = redis.signals("list = \"jobs\"\ntimeout = \"1s\"");
    let before = connections(&redis);
    signals.expect(&runtime, 1.0);
    signals.expect(&runtime, 1.0);
    signals.expect(&runtime, 1.0);
    // Each `redis-cli` is a connection too: this one.
    assert_eq!(
        connections(&redis),
        before + 2,
        "the connection is used again"
    );
    redis.server.kill();
    signals.expect_absent(&runtime, "unreachable");
    redis.restart();
    redis.wait(&runtime);
    redis.tell(&["RPUSH jobs a b"]);
    signals.expect(&runtime, 2.0);
    // Restarted between two readings: nobody notices.
    redis.restart();
    redis.wait(&runtime);
    signals.expect(&runtime, 0.0);
    // Frozen: it takes connections and says nothing.
    redis.server.signal("-STOP");
    signals.expect_absent(&runtime, "no answer within 1s");
    redis.server.signal("-CONT");
    signals.expect(&runtime, 0.0);
    assert!(redis.server.runs());
}

fn connections(redis: &Redis) -> u64 {
    let info = redis.tell(&["INFO stats"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    line.expect("told").trim().parse().expect("a number")
}

#[test]
fn a_replica_without_its_primary_is_absent() {
    let runtime = runtime();
    let Some(mut primary) = Redis::start(&["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    primary.wait(&runtime);
    primary.tell(&["RPUSH jobs a b"]);
    let of = format!("127.0.0.1 {}", primary.port);
    let Some(replica) = Redis::start(&["--replicaof", &of]) else {
        return;
    };
    replica.wait(&runtime);
    wait_until(&runtime, "replication", |_| {
        replica
            .tell(&["INFO replication"])
            .contains("master_link_status:up")
    });
    let signals = replica.signals("list = \"jobs\"");
    signals.expect(&runtime, 2.0);
    primary.server.kill();
    wait_until(&runtime, "the loss", |_| {
        replica
            .tell(&["INFO replication"])
            .contains("master_link_status:down")
    });
    assert_eq!(
        replica.tell(&["LLEN jobs"]).trim(),
        "2",
        "it answers all the same"
    );
    signals.expect_absent(&runtime, "a replica that has lost its primary");
}

#[test]
fn passwords_are_checked_looked_up_again_and_never_told() {
    let runtime = runtime();
    let Some(redis) = Redis::start(&["--requirepass", "red-s3cret"]) else {
        return;
    };
    redis.wait(&runtime);
    redis
        .signals("list = \"jobs\"")
        .expect_absent(&runtime, "NOAUTH");
    let file = redis.folder.path().join("password");
    fs::write(&file, "wrong-s3cret").expect("written");
    let password = format!("list = \"jobs\"\npassword = {{ file = {file:?} }}");
    let signals = redis.signals(&password);
    let reading = runtime.block_on(signals.read());
    absent(&reading, "unreachable");
    assert!(!format!("{reading:?}").contains("s3cret"), "{reading:?}");
    fs::write(&file, "red-s3cret\n").expect("written");
    signals.expect(&runtime, 0.0);
    // A user who may do nothing but this, and not even ask for INFO.
    let admin = ["-a", "red-s3cret", "--no-auth-warning"];
    let status = Command::new("redis-cli")
        .args(["-p", &redis.port.to_string()])
        .args(admin)
        .args("ACL SETUSER meter on >met-s3cret ~jobs +llen".split(' '))
        .output();
    assert!(status.expect("redis-cli").status.success());
    fs::write(&file, "met-s3cret").expect("written");
    let limited = redis.signals(&format!("{password}\nuser = \"meter\""));
    limited.expect(&runtime, 0.0);
    let other = password.replace("\"jobs\"", "\"others\"") + "\nuser = \"meter\"";
    redis
        .signals(&other)
        .expect_absent(&runtime, "no permissions");
}

#[test]
fn tls_trusts_whom_it_is_told_to() {
    let runtime = runtime();
    let (Some(good), Some(other)) = (Certificates::make(), Certificates::make()) else {
        return;
    };
    let port = free_port();
    let text = port.to_string();
    let (certificate, key) = (good.path("server.pem"), good.path("server.key"));
    let (authority, plain_port) = (good.path("ca.pem"), free_port());
    let listen = ["--port", &plain_port.to_string(), "--tls-port", &text];
    let tls = [
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "no",
    ];
    let Some(redis) = Redis::start_on(plain_port, &listen, &tls) else {
        return;
    };
    redis.wait(&runtime);
    redis.tell(&["RPUSH jobs a"]);
    let keys = |url: &str, file: &str| {
        let ca_file = if file.is_empty() {
            String::new()
        } else {
            format!("ca_file = {file:?}")
        };
        Signals::one(&format!(
            "source = \"redis\"\nlist = \"jobs\"\nurl = \"{url}\"\n{ca_file}"
        ))
    };
    let url = format!("rediss://127.0.0.1:{port}/0");
    keys(&url, &authority).expect(&runtime, 1.0);
    keys(&url, "").expect_absent(&runtime, "certificate");
    keys(&url, &other.path("ca.pem")).expect_absent(&runtime, "certificate");
    keys(&url, "/nowhere/ca.pem").expect_absent(&runtime, "cannot read /nowhere/ca.pem");
    keys(&url, &key).expect_absent(&runtime, "unreachable");
    let elsewhere = format!("rediss://localhost:{port}/0");
    keys(&elsewhere, &authority).expect_absent(&runtime, "certificate");
    let plain = format!("redis://127.0.0.1:{port}/0");
    keys(&plain, "").expect_absent(&runtime, "unreachable");
}
