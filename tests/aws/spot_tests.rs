//! `windlass run` with spot whose price it reads: prices arrive, are written down,
//! outlive a crash, and decide again as they decided.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use windlass::store::Entry;

use crate::cloud::Cloud;
use crate::daemon::{Daemon, Place};
use crate::proxy::faults::Fault;
use crate::server::Kind;

/// Ten times what it takes: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(90);

/// Spot without a price, and on demand at $0.05 an hour: less than the file's
/// table has for spot.
const OFFERINGS: &str = r#"
workers = "none"
ready = "running"

[[FLEET.ec2.offering]]
name = "spot"
types = ["m5.large"]
market = "spot"

[[FLEET.ec2.offering]]
name = "on-demand"
types = ["m5.large"]
usd_per_hour = 0.05
"#;

const LIMITS: &str = r#"
[FLEET.limits]
max = 12
max_usd_per_hour = 100.0
observe_cycles = 1

[FLEET.drain]
deadline = "0s"
"#;

fn on_all(name: &str, kinds: &[Kind], test: impl Fn(&Cloud) + Sync) {
    thread::scope(|scope| {
        for &kind in Kind::all() {
            let test = &test;
            if kinds.contains(&kind) {
                scope.spawn(move || test(&Cloud::new(kind, name)));
            }
        }
    });
}

/// What an offering cost in a decision, in micro-dollars an hour.
fn price_of(entry: &Entry, offering: &str) -> Option<u64> {
    let quote = entry.decided.seen.prices.get(offering)?;
    Some(quote.price.get())
}

fn price(entry: &Entry) -> Option<u64> {
    price_of(entry, "spot")
}

fn until_priced(daemon: &Daemon, place: &Place, fleet: &str, micro: u64) {
    daemon.until("the price", LIMIT, || {
        let entries = place.entries(fleet);
        entries.last().and_then(price) == Some(micro)
    });
}

/// Alive instances by offering.
fn alive(cloud: &Cloud) -> BTreeMap<String, usize> {
    let mut alive = BTreeMap::new();
    for one in cloud.alive() {
        let offering = one.tag("offering").unwrap_or("?").to_owned();
        *alive.entry(offering).or_default() += 1;
    }
    alive
}

#[test]
fn spot_prices_decide_are_recorded_and_outlive_a_crash() {
    on_all("priced", &[Kind::Ministack, Kind::Moto], |cloud| {
        let fleet = &cloud.fleet;
        let price_now = |price: &str| {
            cloud.proxy.world(|world| {
                let price = ("m5.large".to_owned(), price.to_owned());
                world.spot = [price].into();
            });
        };
        price_now("0.031200");
        let place = Place::new(&cloud.config(OFFERINGS, LIMITS));
        let daemon = place.start();
        until_priced(&daemon, &place, fleet, 31_200);
        cloud.jobs_wait(2);
        daemon.until("two", LIMIT, || cloud.alive().len() == 2);
        assert_eq!(alive(cloud), [("spot".to_owned(), 2)].into(), "the cheaper");
        assert_eq!(cloud.proxy.calls("DescribeSpotPriceHistory"), 1);
        daemon.kill();

        // EC2 does not tell prices now: the last ones hold from the first cycle on.
        let epoch = |entry: &Entry| entry.decided.decision.epoch.0;
        let before = place.entries(fleet);
        let refuse = Fault::Unavailable;
        cloud
            .proxy
            .faults(|faults| faults.order("DescribeSpotPriceHistory", refuse, 1));
        let daemon = place.start();
        daemon.cycles(3);
        let entries = place.entries(fleet);
        assert_eq!(entries[..before.len()], before[..]);
        let after = &entries[before.len()..];
        assert!(after.len() >= 3 && after.iter().all(|entry| epoch(entry) == 2));
        assert!(after.iter().all(|entry| price(entry) == Some(31_200)));
        assert_eq!(cloud.proxy.calls("DescribeSpotPriceHistory"), 2, "bounded");
        daemon.kill();

        // Dearer than on demand from now on.
        price_now("0.0961234");
        let daemon = place.start();
        until_priced(&daemon, &place, fleet, 96_124);
        cloud.jobs_wait(4);
        daemon.until("four", LIMIT, || cloud.alive().len() == 4);
        let both = [("spot".to_owned(), 2), ("on-demand".to_owned(), 2)];
        assert_eq!(alive(cloud), both.into());
        daemon.kill();

        let decisions = place.entries(fleet).len();
        let (code, told) = place.windlass(&["replay", "--config", "windlass.toml"]);
        let all = format!("{fleet}: {decisions} decisions, all the same again\n");
        assert_eq!((code, told), (Some(0), all));
        let (_, told) = place.windlass(&["explain", "--config", "windlass.toml"]);
        assert!(
            told.contains("spot costs $0.096124 an hour, read "),
            "{told}"
        );
    });
}

#[test]
fn prices_of_a_server_that_nobody_here_wrote_are_read() {
    on_all("moto-prices", &[Kind::Moto], |cloud| {
        let place = Place::new(&cloud.config(OFFERINGS, LIMITS));
        let daemon = place.start();
        until_priced(&daemon, &place, &cloud.fleet, 10);
    });
}

/// Planted: a group that does not read it, which no other test noticed.
#[test]
fn price_of_a_group_of_spot_is_read() {
    on_all("priced-group", &[Kind::Ministack, Kind::Moto], |cloud| {
        cloud.make_group(1);
        cloud.proxy.world(|world| {
            let price = ("m5.large".to_owned(), "0.0312".to_owned());
            world.spot = [price].into();
        });
        let config = cloud.config_of_group("workers = \"none\"", LIMITS);
        let config = config.replace("usd_per_hour = 0.1\n", "market = \"spot\"\n");
        let place = Place::new(&config);
        let daemon = place.start();
        daemon.until("the price", LIMIT, || {
            let entries = place.entries(&cloud.fleet);
            let newest = entries.last().and_then(|entry| price_of(entry, "m5.large"));
            newest == Some(31_200)
        });
    });
}
