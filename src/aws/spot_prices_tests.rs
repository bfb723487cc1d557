//! Spot prices against a server that answers as EC2 does.

use std::path::Path;

use super::*;
use crate::aws::testing::{Form, Reply, Server, client_of, refusal, serve, with_runtime};
use crate::config::{Config, Provider};

const NOW_SECS: u64 = 1_772_366_400;

const FILE: &str = r#"
[aws]
region = "us-east-1"

[fleet.f]
provider = "ec2"

[fleet.f.limits]
max = 9
max_usd_per_hour = 9

[[fleet.f.policy]]
kind = "fixed"
instances = 1

[fleet.f.ec2]
workers = "tags"
launch_template = "lt-0abc"
subnets = ["subnet-0a", "subnet-0b"]

[[fleet.f.ec2.offering]]
name = "spot"
types = ["m5.large", "m5.xlarge"]
market = "spot"

[[fleet.f.ec2.offering]]
name = "one-zone"
types = ["m5.large"]
subnets = ["subnet-0b"]
market = "spot"

[[fleet.f.ec2.offering]]
name = "spot-in-file"
types = ["c5.large"]
market = "spot"
usd_per_hour = 0.05

[[fleet.f.ec2.offering]]
name = "on-demand"
types = ["r5.large"]
"#;

/// EC2, what it was asked, and the clock.
struct Cloud {
    asked: Rc<RefCell<Vec<Form>>>,
    clock: Rc<Cell<u64>>,
    prices: Rc<SpotPrices>,
    _server: Server,
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
        let clock = Rc::new(Cell::new(NOW_SECS));
        let time = Rc::clone(&clock);
        let now = Box::new(move || Timestamp::from_secs(time.get()));
        let region = Rc::new(Region::new(client_of(&server.url), now));
        Self {
            asked,
            clock,
            prices: Rc::new(SpotPrices::new(region)),
            _server: server,
        }
    }

    fn fleet(&self, last: &Quotes) -> FleetPrices {
        let config = Config::parse(FILE, Path::new("")).expect("a sound file");
        let Provider::Ec2(settings) = &config.fleets[0].provider else {
            panic!("another provider");
        };
        FleetPrices::of_ec2("f", settings, &self.prices, last).expect("there is spot in it")
    }

    fn wait(&self, span: Duration) {
        self.clock.set(self.clock.get() + span.as_secs());
    }

    /// Asks for prices, and lets a reading that begins with that end.
    async fn look(&self, fleet: &FleetPrices) -> Vec<(String, u64, u64)> {
        fleet.now();
        while self.prices.reading.get() {
            tokio::task::yield_now().await;
        }
        let told = fleet.now();
        told.into_iter()
            .map(|(name, quote)| (name, quote.price.get(), quote.read_at.micros() / 1_000_000))
            .collect()
    }

    fn count(&self, action: &str) -> usize {
        let asked = self.asked.borrow();
        asked.iter().filter(|form| form["Action"] == action).count()
    }
}

fn row(instance_type: &str, zone: &str, price: &str, time: &str) -> String {
    format!(
        "<item><instanceType>{instance_type}</instanceType>\
         <productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>\
         <timestamp>2026-03-01T{time}.000Z</timestamp>\
         <availabilityZone>{zone}</availabilityZone></item>"
    )
}

fn page(rows: &[String], next: &str) -> Reply {
    let rows = rows.concat();
    Reply::new(
        200,
        format!(
            "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{rows}</spotPriceHistorySet>\
             <nextToken>{next}</nextToken></DescribeSpotPriceHistoryResponse>"
        ),
    )
}

fn subnets() -> Reply {
    let row = |subnet: &str, zone: &str| {
        format!(
            "<item><subnetId>{subnet}</subnetId><availabilityZone>{zone}</availabilityZone></item>"
        )
    };
    let rows = row("subnet-0a", "us-east-1a") + &row("subnet-0b", "us-east-1b");
    Reply::new(
        200,
        format!("<DescribeSubnetsResponse><subnetSet>{rows}</subnetSet></DescribeSubnetsResponse>"),
    )
}

/// Two pages; another zone is dearer, and an older price is higher.
fn prices(form: &Form) -> Reply {
    if form["Action"] == "DescribeSubnets" {
        return subnets();
    }
    if form.get("NextToken").is_none_or(String::is_empty) {
        let rows = [
            row("m5.large", "us-east-1a", "0.031600", "11:00:00"),
            row("m5.large", "us-east-1a", "0.099000", "09:00:00"),
            row("m5.large", "us-east-1b", "0.0298000", "10:00:00"),
        ];
        return page(&rows, "more");
    }
    let rows = [
        row("m5.large", "us-east-1c", "0.9", "11:00:00"),
        row("m5.xlarge", "us-east-1b", "0.0612345", "11:00:00"),
        row("m5.xlarge", "us-east-1a", "0", "11:30:00"),
    ];
    page(&rows, "")
}

#[test]
fn the_dearest_pool_of_an_offering_counts_by_its_newest_price() {
    with_runtime(async {
        let cloud = Cloud::new(prices).await;
        let fleet = cloud.fleet(&Quotes::new());
        assert_eq!(fleet.now(), Quotes::new(), "no cycle waits for prices");
        let told = cloud.look(&fleet).await;
        assert_eq!(
            told,
            [
                ("one-zone".to_owned(), 29_800, NOW_SECS),
                // A price of nothing is none, and parts of a millionth round up.
                ("spot".to_owned(), 61_235, NOW_SECS),
            ]
        );
        let asked = cloud.asked.borrow().clone();
        let [subnets, first, second] = &asked[..] else {
            panic!("{asked:?}");
        };
        assert_eq!(subnets["Filter.1.Value.2"], "subnet-0b");
        let types = [&first["InstanceType.1"][..], &first["InstanceType.2"]];
        assert_eq!(
            types,
            ["m5.large", "m5.xlarge"],
            "only what is priced by EC2"
        );
        assert!(!first.contains_key("InstanceType.3"));
        assert_eq!(first["ProductDescription.1"], "Linux/UNIX");
        assert_eq!(first["StartTime"], "2026-03-01T12:00:00Z");
        assert_eq!(second["NextToken"], "more");
    });
}

#[test]
fn prices_are_read_once_an_hour_for_all_fleets() {
    with_runtime(async {
        let cloud = Cloud::new(prices).await;
        let fleets = [cloud.fleet(&Quotes::new()), cloud.fleet(&Quotes::new())];
        for minute in 0..180 {
            for fleet in &fleets {
                cloud.look(fleet).await;
            }
            let calls = 2 * (minute / 60 + 1);
            assert_eq!(cloud.count("DescribeSpotPriceHistory"), calls, "{minute}");
            cloud.wait(Duration::from_mins(1));
        }
        assert_eq!(cloud.count("DescribeSubnets"), 1, "a subnet never moves");
    });
}

#[test]
fn a_reading_that_fails_keeps_the_old_prices_and_is_not_repeated_at_once() {
    with_runtime(async {
        let broken = Rc::new(Cell::new(false));
        let refuses = Rc::clone(&broken);
        let cloud = Cloud::new(move |form| {
            // Half a reading is none: the second page is what fails.
            if refuses.get() && form.get("NextToken").is_some_and(|it| it == "more") {
                return refusal(503, "RequestLimitExceeded");
            }
            prices(form)
        })
        .await;
        let fleet = cloud.fleet(&Quotes::new());
        let told = cloud.look(&fleet).await;
        broken.set(true);
        cloud.wait(READ_EVERY);
        assert_eq!(
            cloud.look(&fleet).await,
            told,
            "and they say how old they are"
        );
        let calls = cloud.count("DescribeSpotPriceHistory");
        cloud.wait(Duration::from_mins(4));
        assert_eq!(cloud.look(&fleet).await, told);
        assert_eq!(cloud.count("DescribeSpotPriceHistory"), calls);
        broken.set(false);
        cloud.wait(Duration::from_mins(1));
        let (_, _, read_at) = cloud.look(&fleet).await[0].clone();
        assert_eq!(read_at, NOW_SECS + 3_900);
    });
}

#[test]
fn the_prices_of_the_newest_decision_hold_until_others_are_read() {
    with_runtime(async {
        let cloud = Cloud::new(|_| refusal(403, "UnauthorizedOperation")).await;
        let quote = Quote {
            price: MicroUsdPerHour::new(40_000),
            read_at: Timestamp::from_secs(NOW_SECS - 9_000),
        };
        let last: Quotes = ["spot", "spot-in-file", "gone"]
            .map(|name| (name.to_owned(), quote))
            .into();
        let fleet = cloud.fleet(&last);
        // What the file prices now, or does not sell any more, is forgotten.
        let told = cloud.look(&fleet).await;
        assert_eq!(told, [("spot".to_owned(), 40_000, NOW_SECS - 9_000)]);
    });
}

#[test]
fn zones_that_are_not_known_count_all() {
    with_runtime(async {
        let cloud = Cloud::new(|form| {
            if form["Action"] == "DescribeSubnets" {
                return refusal(403, "UnauthorizedOperation");
            }
            prices(form)
        })
        .await;
        let fleet = cloud.fleet(&Quotes::new());
        let told = cloud.look(&fleet).await;
        assert_eq!(told[0], ("one-zone".to_owned(), 900_000, NOW_SECS));
    });
}

#[test]
fn prices_are_exact_or_rounded_up() {
    for (text, micro) in [
        ("0.031600", Some(31_600)),
        ("0.00001", Some(10)),
        ("0.0000001", Some(1)),
        ("1.23456789", Some(1_234_568)),
        ("2", Some(2_000_000)),
        ("0", None),
        ("0.000", None),
        ("", None),
        ("-1", None),
        ("NaN", None),
        ("1e9", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(read_price(text).map(MicroUsdPerHour::get), micro, "{text}");
    }
}
