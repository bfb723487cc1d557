//! What a whole-daemon test has around it: a server, a proxy, a fleet's queue, and
//! an account of what exists that owes nothing to windlass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;

use serde::Deserialize;
use serde_json::{Value, json};
use windlass::store::Entry;
use windlass_policies::model::{Action, LaunchToken, Phase};

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

/// What goes wrong by chance is drawn from this. `WINDLASS_AWS_SEED=7` makes
/// another storm of it.
pub(crate) fn seed() -> u64 {
    std::env::var("WINDLASS_AWS_SEED").map_or(1, |text| text.parse().expect("a number"))
}

/// An Auto Scaling group as AWS's Python client sees it, past the proxy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RealGroup {
    pub(crate) desired: usize,
    /// Their ids.
    pub(crate) members: BTreeSet<String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// All it ever launched, as long as the server keeps them.
    pub(crate) instances: Vec<Real>,
}

impl RealGroup {
    /// Those that are not ended, in the group or not.
    pub(crate) fn alive(&self) -> BTreeSet<String> {
        let alive = self.instances.iter().filter(|one| one.is_alive());
        alive.map(|one| one.id.clone()).collect()
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
        let proxy = Proxy::start(&server, seed());
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
        let table =
            format!("launch_template = \"one\"\nlaunch_template_version = \"$Latest\"\n{ec2}");
        self.config_of("ec2", &table, rest)
    }

    /// The same with the Auto Scaling group of that name.
    pub(crate) fn config_of_group(&self, asg: &str, rest: &str) -> String {
        let table = format!(
            "group = \"{}\"\ntype = \"m5.large\"\nusd_per_hour = 0.1\n{asg}",
            self.fleet
        );
        self.config_of("asg", &table, rest)
    }

    fn config_of(&self, provider: &str, table: &str, rest: &str) -> String {
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
provider = "{provider}"
interval = "1s"

[fleet.{fleet}.signals.backlog]
source = "sqs"
queue_url = "{jobs}"
count = "visible"

[fleet.{fleet}.{provider}]
{table}

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

    /// Where the server itself listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
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

    /// Makes the group that the fleet is to be.
    pub(crate) fn make_group(&self, max: usize) {
        self.server
            .look("make_group", &json!({ "name": self.fleet, "max": max }));
    }

    pub(crate) fn group(&self) -> RealGroup {
        let group = self.server.look("group", &json!(self.fleet));
        serde_json::from_value(group).expect("a group")
    }

    /// The group ends instances by itself, and launches others for them.
    pub(crate) fn group_replaces(&self, instances: &[String]) {
        self.server.look("replace", &json!(instances));
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
        self.report_of(self.alive(), busy);
    }

    /// The same for workers in the group.
    pub(crate) fn workers_of_group_report(&self, busy: &BTreeSet<String>) {
        let mut all = self.group().instances;
        all.retain(Real::is_alive);
        self.report_of(all, busy);
    }

    fn report_of(&self, alive: Vec<Real>, busy: &BTreeSet<String>) {
        for one in alive {
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
        let alive = self.alive();
        let exist: BTreeSet<String> = alive.iter().map(|one| one.id.clone()).collect();
        assert_eq!(
            listed_last(&entries),
            exist,
            "what is listed and what exists"
        );
        // No instance was launched that the observer would not find by its tag.
        let all: BTreeSet<String> = self.all().into_iter().map(|one| one.id).collect();
        let launched = self.proxy.world(|world| {
            let launched = world.launched.keys();
            launched.cloned().collect::<BTreeSet<String>>()
        });
        let untagged: Vec<&String> = launched.difference(&all).collect();
        let forgotten = self.server.look("instances", &Value::Null);
        let forgotten: Vec<Real> = serde_json::from_value(forgotten).expect("instances");
        let leaked = forgotten
            .iter()
            .filter(|one| one.is_alive() && untagged.contains(&&one.id));
        assert_eq!(leaked.count(), 0, "instances without the fleet's tag");

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

    /// The group has what the store says, all that it launched is in it or
    /// ended, and its number is what its instances are.
    #[track_caller]
    pub(crate) fn group_agrees_with(&self, place: &Place) {
        let group = self.group();
        assert_eq!(
            group.alive(),
            group.members,
            "an instance outside of its group"
        );
        assert_eq!(group.desired, group.members.len());
        let entries = place.entries(&self.fleet);
        assert_eq!(listed_last(&entries), group.members, "listed, and there");
        let asked: BTreeSet<&LaunchToken> = entries
            .iter()
            .flat_map(|entry| &entry.done)
            .filter_map(|done| match &done.action {
                Action::Launch { token, .. } => Some(token),
                _ => None,
            })
            .collect();
        let named = group.tags.keys();
        for token in named.filter_map(|key| key.strip_prefix("windlass:launch:")) {
            let token = LaunchToken::from_text(token);
            assert!(asked.contains(&token), "{token:?} is not in the store");
        }
    }
}

/// What the last listing in a store shows that is not about to end.
#[track_caller]
fn listed_last(entries: &[Entry]) -> BTreeSet<String> {
    let last = entries.last().expect("a decision");
    let listing = last.decided.seen.fleet.as_ref().expect("a listing");
    let staying = listing.instances.iter();
    staying
        .filter(|one| one.phase != Phase::Ending)
        .map(|one| one.id.as_str().to_owned())
        .collect()
}
