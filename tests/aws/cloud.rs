//! What a whole-daemon test has around it: a server, a proxy, a fleet's queue, and
//! an account of what exists that owes nothing to windlass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Deref;

use serde::Deserialize;
use serde_json::{Value, json};
use windlass_policies::model::{Action, LaunchToken};

use crate::daemon::Place;
use crate::proxy::Proxy;
use crate::server::{Kind, Server};

/// An instance as AWS's Python client sees it, past the proxy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Real {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(rename = "type")]
    pub(crate) instance_type: String,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Real {
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "running")
    }

    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        self.tags
            .get(&format!("windlass:{name}"))
            .map(String::as_str)
    }
}

/// A server that others use too, or one's own.
enum Owned {
    Shared(&'static Server),
    Alone(Server),
}

impl Deref for Owned {
    type Target = Server;

    fn deref(&self) -> &Server {
        match self {
            Self::Shared(server) => server,
            Self::Alone(server) => server,
        }
    }
}

/// A fleet's surroundings.
pub(crate) struct Cloud {
    server: Owned,
    pub(crate) proxy: Proxy,
    /// The fleet's name: every test has its own, for tests share servers.
    pub(crate) fleet: String,
    /// The queue of its jobs, and the queue of what EC2 announces.
    pub(crate) jobs: String,
    pub(crate) notices: String,
}

impl Cloud {
    /// For the fleet `name` on a server of that kind.
    pub(crate) fn new(kind: Kind, name: &str) -> Self {
        Self::on(Owned::Shared(Server::shared(kind)), name)
    }

    /// On a server that no other fleet uses: what fills it slows nobody down.
    pub(crate) fn alone(kind: Kind, name: &str) -> Self {
        Self::on(Owned::Alone(Server::start(kind)), name)
    }

    fn on(server: Owned, name: &str) -> Self {
        let proxy = Proxy::start(&server, 1);
        server.look("template", &json!("one"));
        let queue = |what: &str| {
            let url = server.look("queue", &json!(format!("{name}-{what}")));
            let url = url.as_str().expect("a URL").to_owned();
            // As windlass is to reach it: through the proxy.
            let path = url.splitn(4, '/').nth(3).expect("a path").to_owned();
            format!("{}/{path}", proxy.url())
        };
        let (jobs, notices) = (queue("jobs"), queue("notices"));
        Self {
            server,
            proxy,
            fleet: name.to_owned(),
            jobs,
            notices,
        }
    }

    /// A configuration of the fleet: `ec2` goes into its table, `rest` behind.
    pub(crate) fn config(&self, ec2: &str, rest: &str) -> String {
        let mut config = String::new();
        let (url, fleet, jobs) = (self.proxy.url(), &self.fleet, &self.jobs);
        write!(
            config,
            r#"
[store]
path = "windlass.db"

[aws]
endpoint_url = "{url}"
region = "us-east-1"

[fleet.{fleet}]
provider = "ec2"
interval = "1s"

[fleet.{fleet}.signals.backlog]
source = "sqs"
queue_url = "{jobs}"
count = "visible"

[fleet.{fleet}.ec2]
launch_template = "one"
launch_template_version = "$Latest"
{ec2}

[[fleet.{fleet}.policy]]
kind = "queue_backlog"
jobs_per_instance = 1
count_in_flight = false

{rest}
"#
        )
        .expect("text");
        config
            .replace("[FLEET.", &format!("[fleet.{fleet}."))
            .replace("[[FLEET.", &format!("[[fleet.{fleet}."))
    }

    /// The same URLs, but those of the server itself that the proxy stands before.
    pub(crate) fn past_the_proxy(&self, text: &str) -> String {
        let server = format!("http://{}", self.server.address());
        text.replace(&self.proxy.url(), &server)
    }

    /// So many jobs wait, and no others.
    pub(crate) fn jobs_wait(&self, count: usize) {
        let queue = self.past_the_proxy(&self.jobs);
        self.server
            .look("wait_in", &json!({ "queue": queue, "count": count }));
    }

    /// What the server itself says: `command` is a function of `look.py`.
    pub(crate) fn look(&self, command: &str, argument: &Value) -> Value {
        self.server.look(command, argument)
    }

    /// The account that the server's queues are in.
    pub(crate) fn account(&self) -> &str {
        self.jobs.rsplit('/').nth(1).expect("an account")
    }

    /// EC2 announces something.
    pub(crate) fn announce(&self, event: &Value) {
        let queue = self.past_the_proxy(&self.notices);
        let bodies = [event.to_string()];
        self.server
            .look("send", &json!({ "queue": queue, "bodies": bodies }));
    }

    /// Every instance of the fleet, ended ones as long as the server keeps them.
    pub(crate) fn all(&self) -> Vec<Real> {
        let all = self.server.look("instances", &json!(self.fleet));
        serde_json::from_value(all).expect("instances")
    }

    pub(crate) fn alive(&self) -> Vec<Real> {
        let mut all = self.all();
        all.retain(Real::is_alive);
        all
    }

    /// Sets tags as a worker would.
    pub(crate) fn tag(&self, instance: &str, name: &str, value: &str) {
        let tags = json!({ format!("windlass:{name}"): value });
        self.server
            .look("tag", &json!({ "ids": [instance], "tags": tags }));
    }

    /// Every worker says what it does: `busy` ones that they are, the others that
    /// they are idle, with the fence they saw.
    pub(crate) fn workers_report(&self, busy: &BTreeSet<String>) {
        for one in self.alive() {
            let word = if busy.contains(&one.id) {
                "busy"
            } else {
                "idle"
            };
            let report = match one.tag("fence") {
                Some(fence) => format!("{word} {fence}"),
                None => word.to_owned(),
            };
            if one.tag("work") != Some(report.as_str()) {
                self.tag(&one.id, "work", &report);
            }
        }
    }

    /// EC2 ends instances by itself.
    pub(crate) fn take_back(&self, instances: &[String]) {
        self.server.look("end", &json!(instances));
    }

    /// What the store says exists and what exists are the same; every instance
    /// comes from a launch in the store, and none from a launch done twice.
    #[track_caller]
    pub(crate) fn agrees_with(&self, place: &Place) {
        let entries = place.entries(&self.fleet);
        let last = entries.last().expect("a decision");
        let listing = last.decided.seen.fleet.as_ref().expect("a listing");
        let listed: BTreeSet<&str> = listing
            .instances
            .iter()
            .filter(|one| one.phase != windlass_policies::model::Phase::Ending)
            .map(|one| one.id.as_str())
            .collect();
        let alive = self.alive();
        let exist: BTreeSet<&str> = alive.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(listed, exist, "what is listed and what exists");

        let mut asked: BTreeMap<&LaunchToken, u32> = BTreeMap::new();
        for done in entries.iter().flat_map(|entry| &entry.done) {
            if let Action::Launch { token, count, .. } = &done.action {
                // Asking again is the same launch.
                let known = asked.insert(token, *count);
                assert!(known.is_none_or(|known| known == *count), "{token:?}");
            }
        }
        for one in &alive {
            let token = LaunchToken::from_text(one.tag("token").expect("a token"));
            assert!(asked.contains_key(&token), "{token:?} is not in the store");
        }
        for (token, count) in self.proxy.world(|world| world.made_by_token()) {
            let most = asked.get(&LaunchToken::from_text(&token));
            let most = most.unwrap_or_else(|| panic!("the store does not know {token}"));
            assert!(count <= *most, "{token} made {count}, not {most}");
        }
    }
}
