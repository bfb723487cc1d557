//! The fleet against a server that answers as EC2 does, word by word.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use aws_sdk_ec2::types::CreateFleetError;
use tokio::sync::Notify;

use windlass_policies::model::Work;
use windlass_policies::reconcile::Mode;

use super::launch::nothing_granted;
use super::*;
use crate::aws::testing::{Form, Reply, Server, client_of, refusal, serve, with_runtime};
use crate::config::{Config, Provider};
use crate::fleets::Shared;

const STORE: &str = "0a1b2c";
const NOW_SECS: u64 = 1_772_366_400;

fn file(ec2: &str) -> String {
    format!(
        "[fleet.f]\nprovider = \"ec2\"\ninterval = \"60s\"\n\
         [fleet.f.limits]\nmax = 9\nmax_usd_per_hour = 9\n\
         [[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n\
         [fleet.f.drain]\ndeadline = \"1h\"\n\
         [fleet.f.ec2]\n{ec2}"
    )
}

const IMAGE: &str = "workers = \"tags\"\nready = \"worker\"\nimage = \"ami-0abc\"\n\
    security_groups = [\"sg-0abc\"]\nsubnets = [\"subnet-0abc\"]\n\
    [[fleet.f.ec2.offering]]\nname = \"small\"\ntypes = [\"t3.small\"]\nusd_per_hour = 0.02\n\
    [[fleet.f.ec2.offering]]\nname = \"spot\"\ntypes = [\"t3.small\"]\nmarket = \"spot\"\nusd_per_hour = 0.01\n";

const TEMPLATE: &str = "workers = \"tags\"\nready = \"running\"\nlaunch_template = \"lt-0abc\"\n\
    subnets = [\"subnet-0a\", \"subnet-0b\"]\n\
    [[fleet.f.ec2.offering]]\nname = \"mixed\"\ntypes = [\"t3.small\", \"t3.medium\"]\n\
    market = \"spot\"\nusd_per_hour = 0.05\n";

/// EC2 as far as a test tells it, and everything it was asked.
struct Cloud {
    server: Server,
    asked: Rc<RefCell<Vec<Form>>>,
    clock: Rc<Cell<u64>>,
}

impl Cloud {
    async fn new(mut answer: impl FnMut(&Form) -> Reply + 'static) -> Self {
        let asked: Rc<RefCell<Vec<Form>>> = Rc::default();
        let log = Rc::clone(&asked);
        let server = serve(move |form| {
            log.borrow_mut().push(form.clone());
            answer(form)
        })
        .await;
        Self {
            server,
            asked,
            clock: Rc::new(Cell::new(NOW_SECS)),
        }
    }

    fn region(&self) -> Rc<Region> {
        let clock = Rc::clone(&self.clock);
        let now = Box::new(move || Timestamp::from_secs(clock.get()));
        Rc::new(Region::new(client_of(&self.server.url), now))
    }

    /// How often `action` was asked for.
    fn count(&self, action: &str) -> usize {
        let asked = self.asked.borrow();
        asked.iter().filter(|form| form["Action"] == action).count()
    }

    fn last(&self, action: &str) -> Form {
        let asked = self.asked.borrow();
        let found = asked.iter().rev().find(|form| form["Action"] == action);
        found.expect(action).clone()
    }
}

fn fleet_of(region: &Rc<Region>, ec2: &str, epoch: u64) -> Ec2Fleet {
    let config = Config::parse(&file(ec2), Path::new("")).expect("a sound file");
    let fleet = &config.fleets[0];
    let Provider::Ec2(settings) = &fleet.provider else {
        panic!("another provider");
    };
    let shared = Shared::new(&Config::open(None).expect("the example is right"));
    let opening = Opening {
        store_path: Path::new("w.db"),
        store_id: STORE,
        epoch: Epoch(epoch),
        latest: Some(Timestamp::from_secs(NOW_SECS)),
        prices: &Quotes::new(),
        shared: &shared,
        nudge: &Arc::new(Notify::new()),
        due: &Rc::new(Due::new(fleet.spec.interval)),
        mode: Mode::Act,
    };
    Ec2Fleet::new(&fleet.spec, settings, Rc::clone(region), None, opening)
}

/// One instance in the XML of a listing.
fn item(id: &str, state: &str, tags: &[(&str, &str)]) -> String {
    let mut text = format!(
        "<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>\
         <instanceType>t3.small</instanceType><launchTime>2026-03-01T11:00:00.000Z</launchTime><tagSet>"
    );
    for (key, value) in tags {
        let _ = write!(text, "<item><key>{key}</key><value>{value}</value></item>");
    }
    text + "</tagSet></item>"
}

fn listing(items: &str, next: Option<&str>) -> Reply {
    let next = next.map_or_else(String::new, |token| {
        format!("<nextToken>{token}</nextToken>")
    });
    Reply::new(
        200,
        format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}</instancesSet>\
             </item></reservationSet>{next}</DescribeInstancesResponse>"
        ),
    )
}

fn launched(ids: &[&str]) -> Reply {
    let items: String = ids.iter().map(|id| item(id, "pending", &[])).collect();
    Reply::new(
        200,
        format!(
            "<RunInstancesResponse><reservationId>r-1</reservationId><instancesSet>{items}\
             </instancesSet></RunInstancesResponse>"
        ),
    )
}

fn token(cycle: u64) -> LaunchToken {
    LaunchToken::new(STORE, "f", Epoch(3), cycle, 0)
}

fn launch_of(offering: &str, count: u32) -> Action {
    Action::Launch {
        token: token(7),
        offering: offering.to_owned(),
        count,
    }
}

fn fence_of(id: &str) -> Action {
    Action::Fence {
        instance: InstanceId::new(id),
    }
}

/// An end of `id`; only a record can make its receipt here.
fn end_of(id: &str) -> Action {
    let text = format!(
        r#"{{"terminate":{{"instance":"{id}","receipt":{{"fenced_at":0,"grounds":"past_deadline"}}}}}}"#
    );
    serde_json::from_str(&text).expect("an action")
}

async fn list(fleet: &Ec2Fleet) -> Result<Listing, FleetError> {
    fleet.list("f").await
}

#[test]
fn a_launch_carries_its_token_and_its_tags() {
    with_runtime(async {
        let cloud = Cloud::new(|_| launched(&["i-2", "i-1"])).await;
        let fleet = fleet_of(&cloud.region(), IMAGE, 3);
        let outcome = fleet.apply("f", Epoch(3), &launch_of("small", 5)).await;
        // Fewer than asked for is what was granted.
        let granted = ["i-1", "i-2"].map(InstanceId::new).to_vec();
        assert_eq!(outcome, Outcome::Launched { instances: granted });
        let form = cloud.last("RunInstances");
        for (key, value) in [
            ("ClientToken", "0a1b2c-f-3-7-0"),
            ("MinCount", "1"),
            ("MaxCount", "5"),
            ("ImageId", "ami-0abc"),
            ("InstanceType", "t3.small"),
            ("SubnetId", "subnet-0abc"),
            ("SecurityGroupId.1", "sg-0abc"),
            ("InstanceInitiatedShutdownBehavior", "terminate"),
            ("MetadataOptions.InstanceMetadataTags", "enabled"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "windlass:fleet"),
            ("TagSpecification.1.Tag.1.Value", "f"),
            ("TagSpecification.1.Tag.2.Value", "0a1b2c-f-3-7-0"),
            ("TagSpecification.1.Tag.3.Value", "3"),
            ("TagSpecification.1.Tag.4.Value", "small"),
        ] {
            assert_eq!(
                form.get(key).map(String::as_str),
                Some(value),
                "{key}: {form:?}"
            );
        }
        assert!(!form.contains_key("InstanceMarketOptions.MarketType"));
        fleet.apply("f", Epoch(3), &launch_of("spot", 1)).await;
        let form = cloud.last("RunInstances");
        assert_eq!(form["InstanceMarketOptions.MarketType"], "spot");
        assert_eq!(
            form["InstanceMarketOptions.SpotOptions.SpotInstanceType"],
            "one-time"
        );
    });
}

/// EC2 refuses a token that comes with another request.
#[test]
fn asking_again_after_a_restart_is_the_same_request() {
    with_runtime(async {
        let cloud = Cloud::new(|_| launched(&["i-1"])).await;
        let first = fleet_of(&cloud.region(), IMAGE, 3);
        first.apply("f", Epoch(3), &launch_of("small", 2)).await;
        let before = cloud.last("RunInstances");
        let second = fleet_of(&cloud.region(), IMAGE, 4);
        second.apply("f", Epoch(4), &launch_of("small", 2)).await;
        assert_eq!(before, cloud.last("RunInstances"));
    });
}

#[test]
fn a_grant_that_names_no_instance_may_have_happened() {
    with_runtime(async {
        for body in [
            "<RunInstancesResponse><instancesSet><item>",
            "<RunInstancesResponse><instancesSet/></RunInstancesResponse>",
        ] {
            let cloud = Cloud::new(move |_| Reply::new(200, body)).await;
            let fleet = fleet_of(&cloud.region(), IMAGE, 3);
            let outcome = fleet.apply("f", Epoch(3), &launch_of("small", 2)).await;
            let lost = matches!(outcome, Outcome::Failed(FleetError::Unknown(_)));
            assert!(lost, "{body}: {outcome}");
        }
    });
}

#[test]
fn among_several_types_and_subnets_ec2_chooses() {
    with_runtime(async {
        let cloud = Cloud::new(|_| {
            Reply::new(
                200,
                "<CreateFleetResponse><fleetId>fleet-1</fleetId><fleetInstanceSet><item>\
                 <instanceIds><item>i-2</item></instanceIds></item><item><instanceIds>\
                 <item>i-1</item></instanceIds></item></fleetInstanceSet><errorSet><item>\
                 <errorCode>InsufficientInstanceCapacity</errorCode></item></errorSet>\
                 </CreateFleetResponse>",
            )
        })
        .await;
        let fleet = fleet_of(&cloud.region(), TEMPLATE, 3);
        let outcome = fleet.apply("f", Epoch(3), &launch_of("mixed", 5)).await;
        let instances = ["i-1", "i-2"].map(InstanceId::new).to_vec();
        assert_eq!(outcome, Outcome::Launched { instances });
        let form = cloud.last("CreateFleet");
        let template = "LaunchTemplateConfigs.1.LaunchTemplateSpecification";
        for (key, value) in [
            ("ClientToken".to_owned(), "0a1b2c-f-3-7-0"),
            ("Type".to_owned(), "instant"),
            (
                "TargetCapacitySpecification.TotalTargetCapacity".to_owned(),
                "5",
            ),
            (
                "TargetCapacitySpecification.DefaultTargetCapacityType".to_owned(),
                "spot",
            ),
            (
                "SpotOptions.AllocationStrategy".to_owned(),
                "price-capacity-optimized",
            ),
            (format!("{template}.LaunchTemplateId"), "lt-0abc"),
            (format!("{template}.Version"), "$Default"),
            (
                "LaunchTemplateConfigs.1.Overrides.4.InstanceType".to_owned(),
                "t3.medium",
            ),
            (
                "LaunchTemplateConfigs.1.Overrides.4.SubnetId".to_owned(),
                "subnet-0b",
            ),
            ("TagSpecification.1.Tag.1.Value".to_owned(), "f"),
        ] {
            assert_eq!(
                form.get(&key).map(String::as_str),
                Some(value),
                "{key}: {form:?}"
            );
        }
    });
}

#[test]
fn what_a_fleet_without_instances_says_is_told_by_its_errors() {
    let errors = |codes: &[&str]| -> Vec<CreateFleetError> {
        let one = |code: &&str| CreateFleetError::builder().error_code(*code).build();
        codes.iter().map(one).collect()
    };
    for (codes, expected) in [
        (&["InsufficientInstanceCapacity"][..], "no capacity"),
        (
            &["UnfulfillableCapacity", "InvalidSubnetID.NotFound"],
            "no capacity",
        ),
        (&["VcpuLimitExceeded"], "limit reached: VcpuLimitExceeded"),
        (
            &["VcpuLimitExceeded", "InsufficientInstanceCapacity"],
            "no capacity",
        ),
        (
            &["InsufficientInstanceCapacity", "UnauthorizedOperation"],
            "not permitted: UnauthorizedOperation; `windlass check --aws` names what to grant",
        ),
        (
            &["InvalidAMIID.NotFound"],
            "rejected: InvalidAMIID.NotFound",
        ),
        (&["RequestLimitExceeded"], "throttled"),
        (
            &["InsufficientInstanceCapacity", "InternalError"],
            "answer lost: InternalError",
        ),
        (&["NeverHeardOf"], "answer lost: NeverHeardOf"),
        (&[], "no capacity"),
    ] {
        assert_eq!(
            nothing_granted(&errors(codes)).to_string(),
            expected,
            "{codes:?}"
        );
    }
}

#[test]
fn a_listing_shows_each_instance_as_its_tags_and_worker_say() {
    let ours = ("windlass:fleet", "f");
    let mut items = item("i-3", "running", &[ours, ("windlass:work", "busy")]);
    items += &item("i-1", "pending", &[ours, ("windlass:offering", "spot")]);
    items += &item(
        "i-2",
        "running",
        &[ours, ("windlass:token", "0a1b2c-f-3-7-0")],
    );
    items += &item("i-4", "shutting-down", &[ours]);
    items += &item("i-5", "terminated", &[ours]);
    let fenced = [
        ours,
        ("windlass:fence", "3-9"),
        ("windlass:work", "idle 3-9"),
    ];
    items += &item("i-6", "running", &fenced);
    let unseen = [ours, ("windlass:fence", "3-9"), ("windlass:work", "idle")];
    items += &item("i-7", "running", &unseen);
    items += &item("i-8", "running", &[("windlass:fleet", "other")]);
    with_runtime(async move {
        let cloud = Cloud::new(move |_| listing(&items, None)).await;
        let fleet = fleet_of(&cloud.region(), IMAGE, 3);
        let shown = list(&fleet).await.expect("a listing");
        assert!(shown.complete);
        let rows: Vec<_> = shown
            .instances
            .iter()
            .map(|one| {
                (
                    one.id.as_str(),
                    one.offering.as_str(),
                    one.phase,
                    one.fenced,
                    one.work,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("i-1", "spot", Phase::Booting, false, Work::Unknown),
                // It runs, and its worker has not said a word.
                ("i-2", "small", Phase::Booting, false, Work::Unknown),
                ("i-3", "small", Phase::Ready, false, Work::Busy),
                ("i-4", "small", Phase::Ending, false, Work::Unknown),
                ("i-6", "small", Phase::Ready, true, Work::Idle),
                ("i-7", "small", Phase::Ready, false, Work::Unknown),
            ]
        );
        assert_eq!(shown.instances[1].token, Some(token(7)));
        let at = Timestamp::parse("2026-03-01T11:00:00Z").expect("a time");
        assert_eq!(shown.instances[0].launched_at, at);
    });
}

#[test]
fn a_thousand_fleets_cost_as_many_calls_as_one() {
    for fleets in [1, 100, 1_000] {
        with_runtime(async {
            let items = item("i-1", "running", &[("windlass:fleet", "f")]);
            let cloud = Cloud::new(move |form| match form.get("NextToken") {
                None => listing(&items, Some("more")),
                Some(_) => listing("", None),
            })
            .await;
            let region = cloud.region();
            let due = Due::new(Duration::from_mins(1));
            for tick in 1..=3 {
                due.set(region.now());
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..fleets {
                    let region = Rc::clone(&region);
                    let not_before = due.listed_since(region.now());
                    tasks.spawn_local(async move { region.instances(not_before).await.is_ok() });
                }
                assert!(tasks.join_all().await.into_iter().all(|listed| listed));
                assert_eq!(
                    cloud.count("DescribeInstances"),
                    2 * tick,
                    "{fleets} fleets"
                );
                cloud.clock.set(cloud.clock.get() + 60);
            }
        });
    }
}

#[test]
fn a_page_that_fails_is_no_listing() {
    let item = item("i-1", "running", &[("windlass:fleet", "f")]);
    let whole = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    for (second, expected) in [
        (
            Reply::new(200, &whole[..whole.len() - 20]),
            "unreachable: HTTP 200: response error: WholeAnswer read_after_deserialization \
             interceptor encountered an error: the answer of AWS was cut off",
        ),
        (refusal(503, "RequestLimitExceeded"), "throttled"),
        (
            refusal(500, "InternalError"),
            "unreachable: InternalError: why so",
        ),
        (
            refusal(403, "UnauthorizedOperation"),
            "not permitted: UnauthorizedOperation: why so; `windlass check --aws` names what to grant",
        ),
        // The same page for ever.
        (
            listing(&item, Some("more")),
            "unreachable: the listing of the region does not come to an end",
        ),
    ] {
        let items = item.clone();
        with_runtime(async {
            let cloud = Cloud::new(move |form| match form.get("NextToken") {
                None => listing(&items, Some("more")),
                Some(_) => second.clone(),
            })
            .await;
            let fleet = fleet_of(&cloud.region(), IMAGE, 3);
            let error = list(&fleet).await.expect_err("half a listing");
            assert_eq!(error.to_string(), expected);
            let asked = cloud.asked.borrow().len();
            // Nor does the next fleet of the tick try once more.
            assert!(list(&fleet).await.is_err());
            assert_eq!(cloud.asked.borrow().len(), asked);
        });
    }
}

#[test]
fn an_empty_budget_is_throttled_without_a_call() {
    with_runtime(async {
        let cloud = Cloud::new(|_| launched(&["i-1"])).await;
        let fleet = fleet_of(&cloud.region(), IMAGE, 3);
        for _ in 0..10 {
            fleet.apply("f", Epoch(3), &launch_of("small", 1)).await;
        }
        let throttled = Outcome::Failed(FleetError::Throttled);
        assert_eq!(
            fleet.apply("f", Epoch(3), &launch_of("small", 1)).await,
            throttled
        );
        assert_eq!(cloud.count("RunInstances"), 4);
    });
}

/// Answers listings with what the test sets, and all else with success.
async fn changing_cloud(items: &Rc<RefCell<String>>) -> Cloud {
    let items = Rc::clone(items);
    Cloud::new(move |form| match form["Action"].as_str() {
        "DescribeInstances" => listing(&items.borrow(), None),
        action => Reply::new(
            200,
            format!("<{action}Response><return>true</return></{action}Response>"),
        ),
    })
    .await
}

#[test]
fn a_worker_is_idle_once_it_has_answered_to_the_fence() {
    let ours = ("windlass:fleet", "f");
    let items = Rc::new(RefCell::new(item(
        "i-1",
        "running",
        &[ours, ("windlass:work", "idle")],
    )));
    with_runtime(async {
        let cloud = changing_cloud(&items).await;
        let fleet = fleet_of(&cloud.region(), IMAGE, 3);
        list(&fleet).await.expect("a listing");
        let fenced = Outcome::Fenced {
            work: Work::Unknown,
        };
        assert_eq!(fleet.apply("f", Epoch(3), &fence_of("i-1")).await, fenced);
        let stamp = cloud.last("CreateTags")["Tag.1.Value"].clone();
        // Asked again it sets no other fence: the answer would not fit it.
        assert_eq!(fleet.apply("f", Epoch(3), &fence_of("i-1")).await, fenced);
        assert_eq!(cloud.count("CreateTags"), 1);

        cloud.clock.set(NOW_SECS + 60);
        let answer = format!("idle {stamp}");
        let tags = [ours, ("windlass:fence", &stamp), ("windlass:work", &answer)];
        *items.borrow_mut() = item("i-1", "running", &tags);
        let shown = list(&fleet).await.expect("a listing");
        assert!(shown.instances[0].fenced && shown.instances[0].work == Work::Idle);
        let idle = Outcome::Fenced { work: Work::Idle };
        assert_eq!(fleet.apply("f", Epoch(3), &fence_of("i-1")).await, idle);

        let unfence = Action::Unfence {
            instance: InstanceId::new("i-1"),
        };
        assert_eq!(
            fleet.apply("f", Epoch(3), &unfence).await,
            Outcome::Unfenced
        );
        assert_eq!(cloud.last("DeleteTags")["Tag.1.Key"], "windlass:fence");
        // Another fence is another stamp.
        cloud.clock.set(NOW_SECS + 120);
        assert_eq!(fleet.apply("f", Epoch(3), &fence_of("i-1")).await, fenced);
        assert_ne!(cloud.last("CreateTags")["Tag.1.Value"], stamp);
    });
}

#[test]
fn what_the_last_listing_did_not_show_is_not_touched() {
    let items = Rc::new(RefCell::new(
        item("i-1", "running", &[("windlass:fleet", "f")])
            + &item("i-2", "running", &[("windlass:fleet", "other")])
            + &item("i-3", "running", &[]),
    ));
    with_runtime(async {
        let cloud = changing_cloud(&items).await;
        let fleet = fleet_of(&cloud.region(), IMAGE, 3);
        let ended = Outcome::Terminated;
        let touched = async |id: &str| fleet.apply("f", Epoch(3), &end_of(id)).await == ended;
        assert!(!touched("i-1").await, "nothing was listed yet");
        list(&fleet).await.expect("a listing");
        assert!(touched("i-1").await);
        assert!(!touched("i-2").await, "another fleet's");
        assert!(!touched("i-3").await, "nobody's");
        assert_eq!(cloud.count("TerminateInstances"), 1);
        assert_eq!(cloud.last("TerminateInstances")["InstanceId.1"], "i-1");
    });
}

#[test]
fn an_instance_that_ec2_does_not_know_yet_is_not_gone() {
    for (state_time, expected) in [
        (
            "2026-03-01T11:59:00.000Z",
            "answer lost: EC2 does not know i-1 everywhere yet",
        ),
        ("2026-03-01T11:00:00.000Z", "not found"),
    ] {
        let items = item("i-1", "running", &[("windlass:fleet", "f")])
            .replace("2026-03-01T11:00:00.000Z", state_time);
        with_runtime(async {
            let cloud = Cloud::new(move |form| match form["Action"].as_str() {
                "DescribeInstances" => listing(&items, None),
                _ => refusal(400, "InvalidInstanceID.NotFound"),
            })
            .await;
            let fleet = fleet_of(&cloud.region(), IMAGE, 3);
            list(&fleet).await.expect("a listing");
            let outcome = fleet.apply("f", Epoch(3), &end_of("i-1")).await;
            assert_eq!(outcome.to_string(), expected);
        });
    }
}

#[test]
fn a_newer_epoch_of_the_same_store_takes_the_fleet_over() {
    let of = |token: &str, epoch: &str| {
        let tags = [
            ("windlass:fleet", "f"),
            ("windlass:token", token),
            ("windlass:epoch", epoch),
        ];
        item("i-1", "running", &tags)
    };
    let fenced = item(
        "i-1",
        "running",
        &[
            ("windlass:fleet", "f"),
            ("windlass:token", "0a1b2c-f-2-7-0"),
            ("windlass:epoch", "2"),
            ("windlass:fence", "4-17"),
        ],
    );
    for (items, stale) in [
        (of("0a1b2c-f-3-7-0", "3"), false),
        (of("0a1b2c-f-4-7-0", "4"), true),
        (fenced, true),
        // Another store counts its own starts.
        (of("ffffff-f-9-7-0", "9"), false),
    ] {
        with_runtime(async {
            let cloud = changing_cloud(&Rc::new(RefCell::new(items.clone()))).await;
            let fleet = fleet_of(&cloud.region(), IMAGE, 3);
            list(&fleet).await.expect("a listing");
            let outcome = fleet.apply("f", Epoch(3), &end_of("i-1")).await;
            let refused = outcome == Outcome::Failed(FleetError::StaleEpoch);
            assert_eq!(refused, stale, "{items}: {outcome}");
            assert_eq!(cloud.count("TerminateInstances"), usize::from(!stale));
        });
    }
}

#[test]
fn fleets_that_came_due_together_share_a_listing_however_late_they_ask() {
    with_runtime(async {
        let cloud = Cloud::new(|_| listing("", None)).await;
        let region = cloud.region();
        let fleets = [(); 50].map(|()| fleet_of(&region, IMAGE, 3));
        for tick in 1..=3 {
            let at = region.now();
            for (fleet, second) in fleets.iter().zip(0..) {
                // All of them at `at`, on a machine that is this slow.
                cloud.clock.set(at.micros() / 1_000_000 + second);
                fleet.due.set(at);
                list(fleet).await.expect("a listing");
            }
            assert_eq!(cloud.count("DescribeInstances"), tick);
            cloud.clock.set(at.micros() / 1_000_000 + 60);
        }
        // Not one from a time that is still to come: somebody set the clock back.
        cloud.clock.set(NOW_SECS);
        fleets[0].due.set(Timestamp::from_secs(NOW_SECS));
        list(&fleets[0]).await.expect("a listing");
        assert_eq!(cloud.count("DescribeInstances"), 4);
    });
}

#[test]
fn a_listing_must_be_newer_than_what_its_fleet_did() {
    let items = Rc::new(RefCell::new(item(
        "i-1",
        "running",
        &[("windlass:fleet", "f")],
    )));
    with_runtime(async {
        let cloud = changing_cloud(&items).await;
        let region = cloud.region();
        let (acting, watching) = (fleet_of(&region, IMAGE, 3), fleet_of(&region, IMAGE, 3));
        list(&acting).await.expect("a listing");
        cloud.clock.set(NOW_SECS + 1);
        acting.apply("f", Epoch(3), &end_of("i-1")).await;
        cloud.clock.set(NOW_SECS + 2);
        list(&watching).await.expect("a listing");
        assert_eq!(
            cloud.count("DescribeInstances"),
            1,
            "it did nothing, and the tick is the same"
        );
        list(&acting).await.expect("a listing");
        assert_eq!(cloud.count("DescribeInstances"), 2);
    });
}

#[test]
fn what_ec2_has_taken_back_unannounced_is_shown_for_a_while() {
    // state, code, when -> shown, and with a notice
    let interrupted = "Server.SpotInstanceTermination";
    let user = "Client.UserInitiatedShutdown";
    for (state, code, ended, shown, noticed) in [
        ("shutting-down", interrupted, "11:59:50 GMT", true, true),
        ("shutting-down", interrupted, "", true, true),
        ("shutting-down", user, "11:59:50 GMT", true, false),
        ("terminated", interrupted, "11:59:50 GMT", true, true),
        ("terminated", interrupted, "11:49:59 GMT", false, false),
        ("terminated", interrupted, "", false, false),
        ("terminated", user, "11:59:50 GMT", false, false),
        ("running", interrupted, "11:59:50 GMT", true, false),
    ] {
        let reason = format!(
            "<reason>Service initiated (2026-03-01 {ended})</reason>\
             <stateReason><code>{code}</code></stateReason><tagSet>"
        );
        let tags = [("windlass:fleet", "f"), ("windlass:offering", "spot")];
        let one = item("i-1", state, &tags).replacen("<tagSet>", &reason, 1);
        with_runtime(async {
            let cloud = changing_cloud(&Rc::new(RefCell::new(one))).await;
            let region = cloud.region();
            region.show_taken_back();
            let listing = list(&fleet_of(&region, IMAGE, 3)).await.expect("a listing");
            let states = cloud.last("DescribeInstances")["Filter.2.Value.5"].clone();
            assert_eq!(states, "terminated");
            let notices = listing.instances.iter().map(|one| one.notice.is_some());
            let expected: Vec<bool> = shown.then_some(noticed).into_iter().collect();
            assert_eq!(
                notices.collect::<Vec<_>>(),
                expected,
                "{state} {code} {ended}"
            );
        });
    }
}
