//! The group against a server that answers as AWS does, word by word.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;

use windlass_policies::model::{FleetError, LaunchToken};
use windlass_policies::reconcile::Mode;

use super::aws::{AwsGroup, SharedGroups};
use super::*;
use crate::aws::region::Region;
use crate::aws::testing::{Form, Reply, Server, autoscaling_of, client_of, serve, with_runtime};
use crate::clock::Due;
use crate::config::WorkersSettings;
use crate::fleets::workers::{PROTECTION_SETTLES, Workers};

const NOW_SECS: u64 = 1_772_366_400;

/// A group as a test wants it.
#[derive(Clone, Debug)]
struct Web {
    desired: u32,
    max: u32,
    suspended: &'static str,
    refreshing: bool,
    tags: Vec<(String, String)>,
    members: Vec<Worker>,
}

/// Id, lifecycle state, whether it is protected, tags on EC2.
type Worker = (&'static str, &'static str, bool, Vec<(String, String)>);

impl Web {
    fn of(ids: &[&'static str]) -> Self {
        Self {
            desired: u32::try_from(ids.len()).expect("few"),
            max: 9,
            suspended: "",
            refreshing: false,
            tags: Vec::new(),
            members: ids
                .iter()
                .map(|id| (*id, "InService", false, Vec::new()))
                .collect(),
        }
    }

    fn tagged(tags: &[(String, String)], element: &str) -> String {
        let mut text = String::new();
        for (key, value) in tags {
            let (key_name, value_name) = match element {
                "member" => ("Key", "Value"),
                _ => ("key", "value"),
            };
            let _ = write!(
                text,
                "<{element}><{key_name}>{key}</{key_name}><{value_name}>{value}</{value_name}>\
                 </{element}>"
            );
        }
        text
    }

    fn group(&self, members: &[usize], next: Option<&str>) -> Reply {
        let mut instances = String::new();
        for index in members {
            let (id, state, protected, _) = &self.members[*index];
            let _ = write!(
                instances,
                "<member><InstanceId>{id}</InstanceId><LifecycleState>{state}</LifecycleState>\
                 <ProtectedFromScaleIn>{protected}</ProtectedFromScaleIn></member>"
            );
        }
        let suspended = match self.suspended {
            "" => String::new(),
            name => format!("<member><ProcessName>{name}</ProcessName></member>"),
        };
        let next = next.map_or_else(String::new, |token| {
            format!("<NextToken>{token}</NextToken>")
        });
        answer(
            "DescribeAutoScalingGroups",
            &format!(
                "<AutoScalingGroups><member><AutoScalingGroupName>web</AutoScalingGroupName>\
                 <MinSize>0</MinSize><MaxSize>{}</MaxSize><DesiredCapacity>{}</DesiredCapacity>\
                 <Instances>{instances}</Instances><SuspendedProcesses>{suspended}\
                 </SuspendedProcesses><Tags>{}</Tags></member></AutoScalingGroups>{next}",
                self.max,
                self.desired,
                Self::tagged(&self.tags, "member")
            ),
        )
    }

    fn instances(&self, members: &[usize], next: Option<&str>) -> Reply {
        let mut items = String::new();
        for index in members {
            let (id, _, _, tags) = &self.members[*index];
            let _ = write!(
                items,
                "<item><instanceId>{id}</instanceId><launchTime>2026-03-01T11:00:00.000Z\
                 </launchTime><tagSet>{}</tagSet></item>",
                Self::tagged(tags, "item")
            );
        }
        let next = next.map_or_else(String::new, |token| {
            format!("<nextToken>{token}</nextToken>")
        });
        Reply::new(
            200,
            format!(
                "<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}\
                 </instancesSet></item></reservationSet>{next}</DescribeInstancesResponse>"
            ),
        )
    }

    /// What AWS says to `form` about it.
    fn says(&self, form: &Form) -> Reply {
        let all: Vec<usize> = (0..self.members.len()).collect();
        match &form["Action"][..] {
            "DescribeAutoScalingGroups" => self.group(&all, None),
            "DescribeInstances" => self.instances(&all, None),
            "DescribeInstanceRefreshes" if self.refreshing => answer(
                "DescribeInstanceRefreshes",
                "<InstanceRefreshes><member><Status>Baking</Status></member></InstanceRefreshes>",
            ),
            other => answer(other, ""),
        }
    }
}

fn answer(action: &str, result: &str) -> Reply {
    let body =
        format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
    Reply::new(200, body)
}

/// The answer of Auto Scaling that refuses a call.
fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(
        status,
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}\
             </Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ),
    )
}

#[derive(Clone, Debug)]
struct At(Rc<Cell<u64>>);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.get())
    }
}

/// AWS as far as a test tells it, everything it was asked, and a fleet there.
struct Cloud {
    asked: Rc<RefCell<Vec<Form>>>,
    clock: Rc<Cell<u64>>,
    web: Rc<RefCell<Web>>,
    groups: Rc<SharedGroups>,
    due: Rc<Due>,
    fleet: AsgFleet<AwsGroup, At>,
    _server: Server,
}

impl Cloud {
    async fn of(web: Web, workers: WorkersSettings) -> Self {
        Self::with(web, workers, |_, _| None).await
    }

    /// A cloud in which `first` has the first word.
    async fn with(
        web: Web,
        workers: WorkersSettings,
        mut first: impl FnMut(&Web, &Form) -> Option<Reply> + 'static,
    ) -> Self {
        let asked: Rc<RefCell<Vec<Form>>> = Rc::default();
        let web = Rc::new(RefCell::new(web));
        let (log, told) = (Rc::clone(&asked), Rc::clone(&web));
        let server = serve(move |form| {
            log.borrow_mut().push(form.clone());
            let web = told.borrow();
            first(&web, form).unwrap_or_else(|| web.says(form))
        })
        .await;
        let clock = Rc::new(Cell::new(NOW_SECS));
        let now = Rc::clone(&clock);
        let now = Box::new(move || Timestamp::from_secs(now.get()));
        let region = Rc::new(Region::new(client_of(&server.url), now));
        let names = ["web".to_owned()].into();
        let groups = SharedGroups::new(autoscaling_of(&server.url), region, names);
        let workers = Workers::new("f", &workers, Mode::Act);
        let (groups, due) = (Rc::new(groups), Rc::new(Due::new(Duration::from_mins(1))));
        let calls = AwsGroup::new(Rc::clone(&groups), "web", Rc::clone(&due), workers, None);
        let rules = Rules {
            offering: "t3.small".to_owned(),
            min: 0,
            max: 9,
            patience: Duration::from_mins(10),
        };
        Self {
            fleet: AsgFleet::new(rules, calls, At(Rc::clone(&clock))),
            asked,
            clock,
            web,
            groups,
            due,
            _server: server,
        }
    }

    async fn list(&self) -> Result<Vec<Instance>, FleetError> {
        let listing = self.fleet.list("f").await?;
        assert!(listing.complete);
        Ok(listing.instances)
    }

    async fn act(&self, action: &Action) -> Outcome {
        self.fleet.apply("f", Epoch(3), action).await
    }

    /// A listing, and then what `action` comes to.
    async fn outcome(&self, action: &Action) -> String {
        self.list().await.expect("a listing");
        self.act(action).await.to_string()
    }

    fn all(&self, action: &str) -> Vec<Form> {
        let asked = self.asked.borrow();
        let found = asked.iter().filter(|form| form["Action"] == action);
        found.cloned().collect()
    }

    fn changes(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let names = asked.iter().map(|form| form["Action"].clone());
        names.filter(|name| !name.starts_with("Describe")).collect()
    }
}

fn launch(count: u32) -> Action {
    Action::Launch {
        token: LaunchToken::new("0a1b2c", "f", Epoch(3), 7, 0),
        offering: "t3.small".to_owned(),
        count,
    }
}

fn fence(id: &str) -> Action {
    Action::Fence {
        instance: InstanceId::new(id),
    }
}

/// An end of `id`; only a record can make its receipt here.
fn end(id: &str) -> Action {
    let text = format!(
        r#"{{"terminate":{{"instance":"{id}","receipt":{{"fenced_at":0,"grounds":"past_deadline"}}}}}}"#
    );
    serde_json::from_str(&text).expect("an action")
}

#[test]
fn a_suspended_process_is_named_and_nothing_is_changed() {
    with_runtime(async {
        for (suspended, action) in [("Launch", launch(2)), ("Terminate", fence("i-1"))] {
            let web = Web {
                suspended,
                tags: vec![(EPOCH_TAG.to_owned(), "3".to_owned())],
                ..Web::of(&["i-1", "i-2"])
            };
            let cloud = Cloud::of(web, WorkersSettings::Stateless).await;
            let said = cloud.outcome(&action).await;
            assert!(said.contains(&format!("the process {suspended}")), "{said}");
            assert_eq!(cloud.changes(), [""; 0]);
        }
    });
}

#[test]
fn nothing_is_changed_while_a_refresh_is_in_progress() {
    with_runtime(async {
        for action in [launch(2), fence("i-1"), end("i-1")] {
            let web = Web {
                refreshing: true,
                tags: vec![(EPOCH_TAG.to_owned(), "3".to_owned())],
                ..Web::of(&["i-1", "i-2"])
            };
            let cloud = Cloud::of(web, WorkersSettings::Stateless).await;
            let said = cloud.outcome(&action).await;
            assert!(said.contains("held: an instance refresh"), "{said}");
            assert_eq!(cloud.changes(), [""; 0]);
        }
    });
}

#[test]
fn a_maximum_that_was_edited_meanwhile_holds() {
    with_runtime(async {
        // max -> what is asked for, if anything
        for (max, desired) in [(9, Some("5")), (4, Some("4")), (2, None)] {
            let cloud = Cloud::of(Web::of(&["i-1", "i-2"]), WorkersSettings::Stateless).await;
            cloud.list().await.expect("a listing");
            cloud.web.borrow_mut().max = max;
            let outcome = cloud.act(&launch(3)).await;
            let asked = cloud.all("SetDesiredCapacity");
            let asked = asked.first().map(|form| form["DesiredCapacity"].as_str());
            assert_eq!(asked, desired, "{max}: {outcome}");
            if desired.is_none() {
                let limit = matches!(outcome, Outcome::Failed(FleetError::LimitReached(_)));
                assert!(limit, "{outcome}");
            }
        }
    });
}

#[test]
fn a_worker_is_idle_when_unprotected_long_enough_after_its_fence() {
    with_runtime(async {
        let cloud = Cloud::of(Web::of(&["i-1", "i-2"]), WorkersSettings::Protection).await;
        cloud.web.borrow_mut().members[1].2 = true;
        let said = cloud.outcome(&fence("i-2")).await;
        assert!(said.contains("held: i-2 is protected"), "{said}");
        let fenced = cloud.act(&fence("i-1")).await;
        let unknown = Work::Unknown;
        assert_eq!(fenced, Outcome::Fenced { work: unknown });
        let tag = &cloud.all("CreateTags")[0];
        let stamp = format!("3-{NOW_SECS}000000");
        assert_eq!(
            (&tag["Tag.1.Key"], &tag["Tag.1.Value"], &tag["ResourceId.1"]),
            (&"windlass:fence".to_owned(), &stamp, &"i-1".to_owned())
        );
        let tag = ("windlass:fence".to_owned(), stamp);
        cloud.web.borrow_mut().members[0].3.push(tag);
        let settled = NOW_SECS + PROTECTION_SETTLES.as_secs();
        for (now, protected, work) in [
            (NOW_SECS + 1, false, Work::Unknown),
            (settled, true, Work::Busy),
            (settled + 1, false, Work::Idle),
        ] {
            cloud.clock.set(now);
            cloud.web.borrow_mut().members[0].2 = protected;
            let listed = cloud.list().await.expect("a listing");
            assert_eq!((listed[0].fenced, listed[0].work), (true, work), "{now}");
        }
        // It has taken protection since.
        cloud.web.borrow_mut().members[0].2 = true;
        let said = cloud.act(&end("i-1")).await.to_string();
        assert!(said.contains("held: i-1 is protected"), "{said}");
        assert!(cloud.all("TerminateInstanceInAutoScalingGroup").is_empty());
    });
}

#[test]
fn a_worker_in_a_group_answers_by_tags_as_on_ec2() {
    with_runtime(async {
        let cloud = Cloud::of(Web::of(&["i-1"]), WorkersSettings::Tags).await;
        let work = |work: &str| ("windlass:work".to_owned(), work.to_owned());
        cloud.web.borrow_mut().members[0].3 = vec![work("idle")];
        let said = cloud.outcome(&fence("i-1")).await;
        assert_eq!(
            said,
            Outcome::Fenced {
                work: Work::Unknown
            }
            .to_string()
        );
        let stamp = format!("3-{NOW_SECS}000000");
        for (said, fenced, does) in [
            ("idle".to_owned(), false, Work::Unknown),
            (format!("busy {stamp}"), true, Work::Busy),
            (format!("idle {stamp}"), true, Work::Idle),
        ] {
            let tag = ("windlass:fence".to_owned(), stamp.clone());
            cloud.web.borrow_mut().members[0].3 = vec![work(&said), tag];
            cloud.clock.set(cloud.clock.get() + 1);
            let listed = cloud.list().await.expect("a listing");
            assert_eq!((listed[0].fenced, listed[0].work), (fenced, does), "{said}");
            // Fencing again asks the worker to answer to the same stamp.
            let fenced = cloud.act(&fence("i-1")).await;
            assert_eq!(fenced, Outcome::Fenced { work: does });
        }
        assert_eq!(cloud.all("CreateTags").len(), 1);
    });
}

#[test]
fn groups_whose_cycles_came_due_together_are_read_once() {
    with_runtime(async {
        let throttled = Rc::new(Cell::new(false));
        let refuses = Rc::clone(&throttled);
        let cloud = Cloud::with(
            Web::of(&["i-1"]),
            WorkersSettings::Stateless,
            move |_, form| {
                let read = form["Action"] == "DescribeAutoScalingGroups";
                (read && refuses.get()).then(|| refusal(400, "Throttling", "slow down"))
            },
        )
        .await;
        let fleets = [(); 40].map(|()| {
            let workers = Workers::new("f", &WorkersSettings::Stateless, Mode::Act);
            let (groups, due) = (Rc::clone(&cloud.groups), Rc::clone(&cloud.due));
            AwsGroup::new(groups, "web", due, workers, None)
        });
        for (round, fails) in [(1, false), (2, true), (3, false)] {
            throttled.set(fails);
            let at = NOW_SECS + 60 * round;
            cloud.due.set(Timestamp::from_secs(at));
            for (fleet, second) in fleets.iter().zip(0..) {
                // On a machine that is this slow.
                cloud.clock.set(at + second);
                let group = fleet.listing(Timestamp::EPOCH).await;
                assert_eq!(group.is_err(), fails, "{group:?}");
                if let Ok(group) = group {
                    fleet
                        .details(group.read_at, &group.members)
                        .await
                        .expect("details");
                }
            }
            let reads = cloud.all("DescribeAutoScalingGroups").len();
            assert_eq!(u64::try_from(reads), Ok(round), "a failure is shared too");
        }
        assert_eq!(cloud.all("DescribeInstances").len(), 2);
    });
}

#[test]
fn each_lifecycle_state_is_what_it_comes_to() {
    with_runtime(async {
        for (state, phase) in [
            ("Pending:Wait", Some(Phase::Booting)),
            ("InService", Some(Phase::Ready)),
            ("Terminating:Wait", Some(Phase::Ending)),
            ("Standby", None),
        ] {
            let mut web = Web::of(&["i-1"]);
            web.members[0].1 = state;
            let cloud = Cloud::of(web, WorkersSettings::Stateless).await;
            let listed = cloud.list().await.expect("a listing");
            let found = listed.first().map(|instance| instance.phase);
            assert_eq!(found, phase, "{state}");
        }
        let mut web = Web::of(&["i-1"]);
        web.members[0].1 = "Dancing";
        let cloud = Cloud::of(web, WorkersSettings::Stateless).await;
        let answer = cloud.list().await;
        assert!(matches!(answer, Err(FleetError::Rejected(_))), "{answer:?}");
    });
}

#[test]
fn all_pages_are_read_and_a_missing_one_makes_no_listing() {
    with_runtime(async {
        for fails in [false, true] {
            let paged = move |web: &Web, form: &Form| {
                let token = form.get("NextToken").map(String::as_str);
                match (&form["Action"][..], token) {
                    ("DescribeAutoScalingGroups", None) => Some(Reply::new(
                        200,
                        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult>\
                         <NextToken>g</NextToken></DescribeAutoScalingGroupsResult>\
                         </DescribeAutoScalingGroupsResponse>",
                    )),
                    ("DescribeInstances", None) => Some(web.instances(&[0], Some("p"))),
                    ("DescribeInstances", Some("p")) if fails => {
                        Some(refusal(503, "RequestLimitExceeded", "slow down"))
                    }
                    ("DescribeInstances", Some("p")) => Some(web.instances(&[1], None)),
                    _ => None,
                }
            };
            let web = Web::of(&["i-1", "i-2"]);
            let cloud = Cloud::with(web, WorkersSettings::Tags, paged).await;
            let listed = cloud.list().await.map(|listed| listed.len());
            assert_eq!(listed.is_err(), fails, "{listed:?}");
            assert_eq!(listed.unwrap_or(2), 2);
            assert_eq!(cloud.all("DescribeAutoScalingGroups").len(), 2);
        }
    });
}

#[test]
fn half_an_answer_is_none() {
    with_runtime(async {
        let half = |web: &Web, form: &Form| {
            let Reply::Answer { status, body } = web.says(form) else {
                return None;
            };
            let end = body.find("</member>")? + "</member>".len();
            Some(Reply::new(status, &body[..end]))
        };
        let web = Web::of(&["i-1", "i-2"]);
        let cloud = Cloud::with(web, WorkersSettings::Stateless, half).await;
        let answer = cloud.list().await;
        assert!(answer.is_err(), "{answer:?}");
    });
}

#[test]
fn what_aws_refuses_says_what_to_do() {
    with_runtime(async {
        for (status, code, message, said) in [
            (400, "Throttling", "Rate exceeded", "throttled"),
            (
                400,
                "ScalingActivityInProgress",
                "one is in progress",
                "held",
            ),
            (400, "InstanceRefreshInProgress", "a refresh is", "held"),
            (500, "ResourceContention", "try again", "throttled"),
            (403, "AccessDenied", "not for you", "not permitted"),
        ] {
            let refuse = move |_: &Web, form: &Form| {
                let change = form["Action"] == "SetDesiredCapacity";
                change.then(|| refusal(status, code, message))
            };
            let web = Web::of(&["i-1"]);
            let cloud = Cloud::with(web, WorkersSettings::Stateless, refuse).await;
            let outcome = cloud.outcome(&launch(2)).await;
            assert!(outcome.contains(said), "{code}: {outcome}");
            // Certainly nothing was launched, so its tag goes again.
            assert_eq!(cloud.all("DeleteTags").len(), 1, "{code}");
        }
        let busy = |_: &Web, _: &Form| Some(refusal(400, "Throttling", "Rate exceeded"));
        let cloud = Cloud::with(Web::of(&[]), WorkersSettings::Stateless, busy).await;
        assert_eq!(cloud.list().await, Err(FleetError::Throttled));
    });
}

#[test]
fn an_older_start_changes_nothing_any_more() {
    with_runtime(async {
        for action in [launch(1), fence("i-1"), end("i-1")] {
            let mut web = Web::of(&["i-1", "i-2"]);
            web.tags = vec![(EPOCH_TAG.to_owned(), "4".to_owned())];
            let cloud = Cloud::of(web, WorkersSettings::Stateless).await;
            cloud.list().await.expect("a listing");
            let outcome = cloud.act(&action).await;
            assert_eq!(outcome, Outcome::Failed(FleetError::StaleEpoch));
            assert_eq!(cloud.changes(), [""; 0]);
        }
    });
}

#[test]
fn asking_again_after_a_lost_answer_comes_to_the_same_number() {
    with_runtime(async {
        // Whether the request arrived before its answer was lost.
        for arrived in [false, true] {
            let mut lost = false;
            let hang_up = move |_: &Web, form: &Form| {
                let change = form["Action"] == "SetDesiredCapacity" && !lost;
                lost |= change;
                change.then_some(Reply::Hangup)
            };
            let web = Web::of(&["i-1"]);
            let cloud = Cloud::with(web, WorkersSettings::Stateless, hang_up).await;
            cloud.list().await.expect("a listing");
            let outcome = cloud.act(&launch(3)).await;
            let unknown = matches!(outcome, Outcome::Failed(FleetError::Unknown(_)));
            assert!(unknown, "{outcome}");
            if arrived {
                cloud.web.borrow_mut().desired = 4;
            }
            cloud.clock.set(NOW_SECS + 60);
            cloud.list().await.expect("a listing");
            let outcome = cloud.act(&launch(3)).await;
            assert_eq!(outcome, Outcome::Granted { count: 3 });
            let asked = cloud.all("SetDesiredCapacity");
            assert!(asked.iter().all(|form| form["DesiredCapacity"] == "4"));
            assert_eq!(asked.len(), if arrived { 1 } else { 2 });
            assert!(cloud.all("DeleteTags").is_empty());
        }
    });
}
