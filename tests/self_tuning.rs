//! Self-tuning as a user meets it: a daemon that runs, is killed, goes on, follows
//! what it found, and is taken back.

use std::fs;
use std::time::{Duration, Instant};

use windlass::store::{History, Range};

#[path = "support/daemon.rs"]
mod daemon;

use daemon::{Daemon, Place, is_decision};

/// Three instances for each job: what is better is plain. An hour of it is some
/// seconds.
const CONFIG: &str = r#"
[store]
path = "w.db"

[self_tuning]
history_min = "50m"
cpu_share_percent = 90
hold = "0s"

[fleet.web]
provider = "simulated"
interval = "60s"
self_tuning = "advise"

[fleet.web.simulated]
scenario = "builtin:web-week"
speed = 300

[fleet.web.objective]
usd_per_job_hour_waiting = 1.0

[fleet.web.limits]
max = 60
max_usd_per_hour = 12.0

[fleet.web.signals.arrivals]
kind = "counter"

[[fleet.web.policy]]
kind = "queue_backlog"
jobs_per_instance = 0.3
"#;

/// Long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(150);

fn until(daemon: &Daemon, what: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        match daemon.line(end) {
            Ok(line) if line.contains(what) => return line,
            Ok(_) => {}
            Err(error) => panic!("no `{what}`: {error}\n{}", daemon.told()),
        }
    }
}

fn decide(daemon: &Daemon, times: usize) {
    let end = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < times {
        let line = daemon.line(end).unwrap_or_else(|error| {
            panic!("{seen} of {times} decisions: {error}\n{}", daemon.told())
        });
        seen += usize::from(is_decision(&line));
    }
}

fn tell(place: &Place, verb: &str, arguments: &[&str]) -> String {
    let output = place.command(verb, arguments).output().expect("ran");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    told
}

#[test]
fn a_better_policy_is_told_followed_and_given_up_when_the_file_is_edited() {
    let place = Place::with(&[("windlass.toml", CONFIG)]);
    let config = place.path("windlass.toml");
    let daemon = Daemon::start(place.command("run", &[]));
    decide(&daemon, 5);
    daemon.kill();

    // Begun at once, since none was ever done: five cycles are too few, which is said.
    let daemon = Daemon::start(place.command("run", &[]));
    decide(&daemon, 70);
    daemon.kill();
    let told = tell(&place, "advice", &[]);
    assert!(told.contains("too little history"), "{told}");

    // Make it due anew: a schedule that has fired in the meantime.
    let advised = CONFIG.replace(
        "[self_tuning]\n",
        "[self_tuning]\nschedule = \"* * * * *\"\n",
    );
    fs::write(&config, &advised).expect("written");
    let daemon = Daemon::start(place.command("run", &[]));
    until(&daemon, "another policy is better");
    daemon.kill();
    let told = tell(&place, "advice", &[]);
    assert!(
        told.contains("is better than the fleet's own policy"),
        "{told}"
    );
    assert!(!told.contains("follows"), "{told}");
    let better = place.path("better.toml");
    let path = better.to_str().expect("plain");
    tell(&place, "advice", &["--out", path]);
    let text = fs::read_to_string(&better).expect("written");
    windlass_policies::policy_file::read(&text).expect("a policy file");

    let acting = advised.replace("\"advise\"", "\"act\"");
    fs::write(&config, &acting).expect("written");
    let daemon = Daemon::start(place.command("run", &[]));
    until(&daemon, "follows another policy from now on");
    decide(&daemon, 3);
    daemon.kill();

    // It goes on after a crash, and ends with an edit.
    let daemon = Daemon::start(place.command("run", &[]));
    until(&daemon, "goes on following");
    decide(&daemon, 3);
    let told = tell(&place, "explain", &["--last", "1"]);
    assert!(told.contains("which self-tuning found, since"), "{told}");
    fs::write(&config, format!("{acting}\n# a remark\n")).expect("written");
    until(&daemon, "follows the policy of its file again");
    decide(&daemon, 3);
    daemon.kill();

    // All that was decided comes out the same again, whatever was followed.
    let told = tell(&place, "replay", &[]);
    let history = History::open(&place.path("w.db")).expect("a store");
    let all = history.decisions("web", Range::All).expect("read").count();
    assert_eq!(told, format!("web: {all} decisions, all the same again\n"));
    let followed = history.followed("web").expect("read");
    let followed: Vec<bool> = followed.iter().map(|one| one.found.is_some()).collect();
    assert_eq!(followed, [true, false]);
    let told = tell(&place, "advice", &[]);
    assert!(
        told.contains("the policy of its file, again since"),
        "{told}"
    );
}
