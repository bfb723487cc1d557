//! The proxy itself, asked by the plain clients of the AWS SDK.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::operation::describe_instances::builders::DescribeInstancesFluentBuilder;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, Filter, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType,
    Instance, InstanceLifecycleType, InstanceType, Placement, ResourceType, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use aws_smithy_http_client::Builder;
use serde_json::json;

use crate::proxy::faults::{Fault, Faults};
use crate::proxy::world::Pool;
use crate::proxy::{LATE, Proxy};
use crate::server::{Kind, Server};

/// Long beside what a test does, so that it does not end by itself.
const LONG: Duration = Duration::from_hours(1);

/// A server, a proxy, and a client that asks once, so that what goes wrong is
/// seen.
struct Bench {
    server: &'static Server,
    proxy: Proxy,
    client: Client,
    image: String,
}

/// Runs `test` on both servers, each with a launch template `one`.
fn on_both(test: impl Copy + AsyncFn(&Bench)) {
    for &kind in Kind::all() {
        let server = Server::shared(kind);
        let proxy = Proxy::start(server, 1);
        let image = server.look("template", &json!("one"));
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(proxy.url())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(Builder::new().build_http())
            .build();
        let bench = Bench {
            client: Client::from_conf(config),
            server,
            proxy,
            image: image.as_str().expect("an image").to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(test(&bench));
    }
}

impl Bench {
    fn run(&self, fleet: &str, token: &str, least: i32, most: i32) -> RunInstancesFluentBuilder {
        self.client
            .run_instances()
            .image_id(&self.image)
            .instance_type(InstanceType::M5Large)
            .placement(Placement::builder().availability_zone("us-east-1a").build())
            .client_token(token)
            .min_count(least)
            .max_count(most)
            .tag_specifications(tags(fleet))
    }

    fn list(&self, fleet: &str) -> DescribeInstancesFluentBuilder {
        let filter = Filter::builder().name("tag:windlass:fleet").values(fleet);
        self.client.describe_instances().filters(filter.build())
    }

    /// All pages of a listing, and how many there were.
    async fn listed(&self, fleet: &str) -> (Vec<Instance>, usize) {
        let (mut instances, mut pages) = (Vec::new(), 0);
        let mut stream = self.list(fleet).into_paginator().send();
        while let Some(page) = stream.next().await {
            let page = page.expect("a page");
            pages += 1;
            let reservations = page.reservations.unwrap_or_default();
            let listed = reservations.into_iter().filter_map(|one| one.instances);
            instances.extend(listed.flatten());
        }
        (instances, pages)
    }

    async fn states(&self, fleet: &str) -> Vec<String> {
        let (instances, _) = self.listed(fleet).await;
        let states = instances.iter().filter_map(|one| one.state()?.name());
        states.map(|name| name.as_str().to_owned()).collect()
    }

    /// How many instances of a fleet the server has, ended or not.
    fn exist(&self, fleet: &str) -> usize {
        let all = self.server.look("instances", &json!(fleet));
        all.as_array().expect("a list").len()
    }

    async fn fleet(
        &self,
        fleet: &str,
        token: &str,
        count: i32,
        pools: &[(&str, &str)],
    ) -> CreateFleetOutput {
        let template = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_name("one")
            .version("$Latest")
            .build();
        let overrides = pools.iter().map(|(kind, zone)| {
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(InstanceType::from(*kind))
                .availability_zone(*zone)
                .build()
        });
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(template)
            .set_overrides(Some(overrides.collect()))
            .build();
        let target = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(count)
            .default_target_capacity_type(DefaultTargetCapacityType::Spot)
            .build();
        self.client
            .create_fleet()
            .r#type(FleetType::Instant)
            .client_token(token)
            .launch_template_configs(config)
            .target_capacity_specification(target)
            .tag_specifications(tags(fleet))
            .send()
            .await
            .expect("an answer")
    }
}

fn tags(fleet: &str) -> TagSpecification {
    TagSpecification::builder()
        .resource_type(ResourceType::Instance)
        .tags(Tag::builder().key("windlass:fleet").value(fleet).build())
        .build()
}

fn ids(instances: &[Instance]) -> BTreeSet<String> {
    let ids = instances.iter().filter_map(|one| one.instance_id.clone());
    ids.collect()
}

fn fleet_ids(answer: &CreateFleetOutput) -> Vec<String> {
    let sets = answer.instances().iter();
    sets.flat_map(|set| set.instance_ids().to_vec()).collect()
}

#[test]
fn lost_answer_asked_again_launches_once() {
    on_both(async |bench| {
        let fleet = "lost_answer_asked_again_launches_once";
        bench
            .proxy
            .faults(|faults| faults.order("RunInstances", Fault::LoseAnswer, 1));
        let lost = bench.run(fleet, "t1", 1, 3).send().await;
        let lost = lost.expect_err("the connection broke");
        assert!(lost.as_service_error().is_none(), "{lost:?}");
        assert_eq!(bench.exist(fleet), 3, "the server did it");
        let again = bench.run(fleet, "t1", 1, 3).send().await.expect("answered");
        assert_eq!(bench.exist(fleet), 3, "and not again");
        let (listed, _) = bench.listed(fleet).await;
        assert_eq!(ids(again.instances()), ids(&listed));
        bench.run(fleet, "t2", 1, 3).send().await.expect("answered");
        assert_eq!(bench.exist(fleet), 6, "another token is another launch");
    });
}

#[test]
fn lost_request_launches_nothing() {
    on_both(async |bench| {
        let fleet = "lost_request_launches_nothing";
        bench
            .proxy
            .faults(|faults| faults.order("RunInstances", Fault::LoseRequest, 1));
        let lost = bench.run(fleet, "t1", 1, 3).send().await;
        assert!(lost.is_err_and(|error| error.as_service_error().is_none()));
        assert_eq!(bench.exist(fleet), 0);
        bench.run(fleet, "t1", 1, 3).send().await.expect("answered");
        assert_eq!(bench.exist(fleet), 3);
    });
}

#[test]
fn token_for_something_else_is_refused() {
    on_both(async |bench| {
        let fleet = "token_for_something_else_is_refused";
        bench.run(fleet, "t1", 1, 3).send().await.expect("answered");
        let other = bench.run(fleet, "t1", 1, 4).send().await;
        let code = other.expect_err("refused");
        assert_eq!(code.code(), Some("IdempotentParameterMismatch"));
        assert_eq!(bench.exist(fleet), 3);

        let pools = [("c5.large", "us-east-1b")];
        let first = bench.fleet(fleet, "f1", 2, &pools).await;
        assert_eq!(bench.exist(fleet), 5);
        let again = bench.fleet(fleet, "f1", 2, &pools).await;
        assert_eq!(bench.exist(fleet), 5);
        assert_eq!(fleet_ids(&first), fleet_ids(&again));
    });
}

#[test]
fn pools_give_what_they_have() {
    on_both(async |bench| {
        let fleet = "pools_give_what_they_have";
        let pool = Pool {
            instance_type: Some("m5.large".to_owned()),
            zone: Some("us-east-1a".to_owned()),
            spot: Some(false),
        };
        bench.proxy.world(|world| world.capacity.push((pool, 3)));
        let some = bench.run(fleet, "t1", 1, 5).send().await.expect("a part");
        assert_eq!(some.instances().len(), 3);
        let none = bench.run(fleet, "t2", 1, 5).send().await;
        let none = none.expect_err("empty");
        assert_eq!(none.code(), Some("InsufficientInstanceCapacity"));
        let elsewhere = Placement::builder().availability_zone("us-east-1b").build();
        let other = bench
            .run(fleet, "t3", 5, 5)
            .placement(elsewhere)
            .send()
            .await;
        assert_eq!(other.expect("another pool").instances().len(), 5);
        let (listed, _) = bench.listed(fleet).await;
        let of_zone = |zone| {
            let zones = listed
                .iter()
                .filter_map(|one| one.placement()?.availability_zone());
            zones.filter(|known| *known == zone).count()
        };
        assert_eq!((of_zone("us-east-1a"), of_zone("us-east-1b")), (3, 5));
    });
}

#[test]
fn instant_fleet_takes_the_first_pool_that_has_any() {
    on_both(async |bench| {
        let fleet = "instant_fleet_takes_the_first_pool_that_has_any";
        let pools = [("m5.large", "us-east-1a"), ("c5.large", "us-east-1b")];
        let empty = |kind: &str| Pool {
            instance_type: Some(kind.to_owned()),
            ..Pool::default()
        };
        bench
            .proxy
            .world(|world| world.capacity.push((empty("m5.large"), 0)));
        let second = bench.fleet(fleet, "f1", 4, &pools).await;
        assert_eq!(fleet_ids(&second).len(), 4);
        for one in &bench.listed(fleet).await.0 {
            assert_eq!(one.instance_type(), Some(&InstanceType::C5Large));
            let lifecycle = one.instance_lifecycle().map(InstanceLifecycleType::as_str);
            assert_eq!(lifecycle, Some("spot"));
        }
        bench
            .proxy
            .world(|world| world.capacity.push((empty("c5.large"), 0)));
        let none = bench.fleet(fleet, "f2", 4, &pools).await;
        assert_eq!(fleet_ids(&none), Vec::<String>::new());
        let codes: Vec<_> = none
            .errors()
            .iter()
            .map(|error| error.error_code())
            .collect();
        assert_eq!(codes, [Some("InsufficientInstanceCapacity"); 2]);
        assert_eq!(bench.exist(fleet), 4);
    });
}

#[test]
fn listings_come_in_pages_and_a_page_may_fail() {
    on_both(async |bench| {
        let fleet = "listings_come_in_pages_and_a_page_may_fail";
        bench.proxy.world(|world| world.page_size = Some(10));
        bench
            .run(fleet, "t1", 25, 25)
            .send()
            .await
            .expect("answered");
        bench
            .run("another", "t2", 4, 4)
            .send()
            .await
            .expect("answered");
        let (listed, pages) = bench.listed(fleet).await;
        assert_eq!((ids(&listed).len(), listed.len(), pages), (25, 25, 3));
        bench
            .proxy
            .faults(|faults| faults.order("DescribeInstances+page", Fault::Unavailable, 1));
        let mut stream = bench.list(fleet).into_paginator().send();
        stream.next().await.expect("a page").expect("the first");
        let second = stream.next().await.expect("a page");
        let refused = second.expect_err("the second fails");
        assert_eq!(refused.code(), Some("InternalError"));
        let counts = bench.proxy.counts();
        let of = |name: &str| {
            counts
                .get(&(Some(fleet.to_owned()), name.to_owned()))
                .copied()
        };
        assert_eq!(of("DescribeInstances"), Some(2));
        assert_eq!(of("RunInstances"), Some(1));
        let pages = bench.proxy.calls("DescribeInstances+page");
        assert_eq!(pages, 3);
    });
}

#[test]
fn instances_come_late_boot_and_end_slowly() {
    on_both(async |bench| {
        let fleet = "instances_come_late_boot_and_end_slowly";
        bench.proxy.world(|world| world.hidden = LONG);
        let run = bench.run(fleet, "t1", 1, 2).send().await.expect("answered");
        assert!(bench.states(fleet).await.is_empty());
        bench.proxy.world(|world| {
            world.hidden = Duration::ZERO;
            world.boot = LONG;
            world.ending = LONG;
        });
        assert_eq!(bench.states(fleet).await, ["pending"; 2]);
        bench.proxy.world(|world| world.boot = Duration::ZERO);
        assert_eq!(bench.states(fleet).await, ["running"; 2]);

        let first = run.instances()[0].instance_id().expect("an id");
        let end = bench.client.terminate_instances().instance_ids(first);
        end.send().await.expect("answered");
        let states = || async {
            bench
                .states(fleet)
                .await
                .into_iter()
                .collect::<BTreeSet<_>>()
        };
        let both = |one: &str| BTreeSet::from(["running".to_owned(), one.to_owned()]);
        assert_eq!(states().await, both("shutting-down"));
        bench.proxy.world(|world| world.ending = Duration::ZERO);
        assert_eq!(states().await, both("terminated"));
        let alive = Filter::builder()
            .name("instance-state-name")
            .values("running");
        let alive = bench.list(fleet).filters(alive.build()).send().await;
        assert_eq!(alive.expect("answered").reservations().len(), 1);
        bench
            .proxy
            .world(|world| world.remembered = Some(Duration::ZERO));
        assert_eq!(bench.states(fleet).await, ["running"]);
        let counts = bench.proxy.counts();
        let ended = counts.get(&(Some(fleet.to_owned()), "TerminateInstances".to_owned()));
        assert_eq!(ended, Some(&1), "the fleet is known by the instance");
    });
}

#[test]
fn stale_listing_tells_what_an_earlier_one_told() {
    on_both(async |bench| {
        let fleet = "stale_listing_tells_what_an_earlier_one_told";
        assert!(bench.states(fleet).await.is_empty());
        bench.run(fleet, "t1", 1, 2).send().await.expect("answered");
        bench
            .proxy
            .faults(|faults| faults.order("DescribeInstances", Fault::Stale, 1));
        assert!(bench.states(fleet).await.is_empty());
        assert_eq!(bench.states(fleet).await.len(), 2);
    });
}

#[test]
fn too_many_requests_are_refused_in_the_words_of_each_service() {
    on_both(async |bench| {
        let fleet = "too_many_requests_are_refused_in_the_words_of_each_service";
        bench.proxy.faults(|faults| faults.throttle(2.0, 0.0));
        bench.list(fleet).send().await.expect("one");
        bench.list(fleet).send().await.expect("two");
        let third = bench.list(fleet).send().await.expect_err("no third");
        assert_eq!(third.code(), Some("RequestLimitExceeded"));
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(aws_sdk_sqs::config::Region::new("us-east-1"))
            .endpoint_url(bench.proxy.url())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(Builder::new().build_http())
            .build();
        let sqs = aws_sdk_sqs::Client::from_conf(config);
        let refused = sqs.list_queues().send().await.expect_err("throttled");
        let code = aws_sdk_sqs::error::ProvideErrorMetadata::code(&refused);
        assert_eq!(code, Some("RequestThrottled"));
        bench.proxy.faults(Faults::calm);
        bench.list(fleet).send().await.expect("calm again");
        let queue = sqs.create_queue().queue_name("jobs").send().await;
        queue.expect("passed on");
        let faults = bench.proxy.journal();
        let throttled = faults
            .iter()
            .filter(|entry| entry.fault == Some(Fault::Throttle));
        assert_eq!(throttled.count(), 2);
    });
}

#[test]
fn a_late_answer_comes() {
    on_both(async |bench| {
        let fleet = "a_late_answer_comes";
        bench
            .proxy
            .faults(|faults| faults.order("DescribeInstances", Fault::Delay(LATE), 1));
        let asked = std::time::Instant::now();
        bench.list(fleet).send().await.expect("answered");
        assert!(asked.elapsed() >= LATE);
    });
}

#[test]
fn one_seed_draws_the_same_faults() {
    let drawn = |seed| {
        let mut faults = Faults::new(seed);
        faults.chance("RunInstances", Fault::LoseAnswer, 200);
        faults.chance("RunInstances", Fault::LoseRequest, 100);
        let now = std::time::Instant::now();
        let draws = (0..1000).map(|_| {
            // What else is asked in between shifts nothing.
            assert_eq!(faults.draw("DescribeInstances", now), None);
            faults.draw("RunInstances", now)
        });
        draws.collect::<Vec<_>>()
    };
    let (first, other) = (drawn(1), drawn(2));
    assert_eq!(first, drawn(1));
    assert_ne!(first, other);
    let count = |fault| first.iter().filter(|drawn| **drawn == Some(fault)).count();
    assert!((150..250).contains(&count(Fault::LoseAnswer)));
    assert!((70..130).contains(&count(Fault::LoseRequest)));
}
