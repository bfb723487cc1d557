//! `[fleet.NAME.ec2]`: what is read, and what is refused with which words.

use std::path::Path;

use windlass_policies::model::Market;
use windlass_policies::units::MicroUsdPerHour;

use super::ec2::{LaunchFrom, Ready};
use super::price::Priced;
use super::{Config, Provider, WorkersSettings};

fn parse(ec2: &str, drain: &str) -> Result<Config, String> {
    let text = format!(
        "[fleet.f]\nprovider = \"ec2\"\n[fleet.f.limits]\nmax = 9\nmax_usd_per_hour = 9\n\
         [[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n[fleet.f.drain]\n{drain}\n\
         [fleet.f.ec2]\n{ec2}"
    );
    Config::parse(&text, Path::new("/nowhere")).map_err(|problems| problems.to_string())
}

const OFFERING: &str =
    "[[fleet.f.ec2.offering]]\nname = \"a\"\ntypes = [\"t3.small\"]\nusd_per_hour = 0.02\n";
const TEMPLATE: &str = "workers = \"tags\"\nlaunch_template = \"lt-0abc\"\n";
const IMAGE: &str = "workers = \"tags\"\nimage = \"ami-0abc\"\nsecurity_groups = [\"sg-0a\"]\nsubnets = [\"subnet-0a\"]\n";

#[test]
fn the_least_that_is_needed_has_its_defaults() {
    let config = parse(&format!("{TEMPLATE}{OFFERING}"), "").expect("sound");
    let Provider::Ec2(settings) = &config.fleets[0].provider else {
        panic!("another provider");
    };
    let template = LaunchFrom::Template {
        template: "lt-0abc".to_owned(),
        version: "$Default".to_owned(),
    };
    assert_eq!(settings.launch, template);
    assert_eq!(settings.ready, Ready::Worker);
    assert_eq!(settings.workers, WorkersSettings::Tags);
    let offering = &config.fleets[0].spec.offerings[0];
    assert_eq!(
        (offering.market, offering.slots, offering.prepaid),
        (Market::OnDemand, 1, 0)
    );
    assert_eq!(offering.billing.increment.as_secs(), 1);
    assert_eq!(offering.billing.minimum.as_secs(), 60);
}

#[test]
fn offerings_are_sorted_by_price() {
    let dear = OFFERING.replace("\"a\"", "\"b\"").replace("0.02", "0.04");
    let spot = OFFERING
        .replace("\"a\"", "\"spot\"")
        .replace("0.02", "0.01");
    let config = parse(
        &format!("{IMAGE}{dear}{OFFERING}{spot}market = \"spot\"\n"),
        "",
    );
    let names: Vec<String> = config.expect("sound").fleets[0]
        .spec
        .offerings
        .iter()
        .map(|offering| offering.name.clone())
        .collect();
    assert_eq!(names, ["spot", "a", "b"]);
}

#[test]
fn what_makes_no_sense_is_named() {
    let many = OFFERING.replace("[\"t3.small\"]", "[\"t3.small\", \"t3.medium\"]");
    let none = "workers = \"none\"\nlaunch_template = \"t\"\n";
    for (ec2, drain, named) in [
        (TEMPLATE.to_owned(), "", "fleet.f.ec2.offering: missing"),
        (
            format!("workers = \"tags\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.launch_template: missing",
        ),
        (
            format!("launch_template = \"t\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.workers: missing",
        ),
        (
            format!("{TEMPLATE}image = \"ami-0a\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.image: there is a launch_template",
        ),
        (
            format!("{TEMPLATE}key_name = \"k\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.key_name: is in the launch template",
        ),
        (
            format!("{IMAGE}{many}"),
            "",
            "fleet.f.ec2.offering[0].types: EC2 chooses among several",
        ),
        (
            format!("{IMAGE}{OFFERING}subnets = [\"subnet-0a\", \"subnet-0b\"]\n"),
            "",
            "offering[0].subnets: EC2 chooses",
        ),
        (
            format!("{}{OFFERING}", IMAGE.replace("ami-0abc", "emi-0abc")),
            "",
            "fleet.f.ec2.image: \"emi-0abc\" is no image",
        ),
        (
            format!("{}{OFFERING}", IMAGE.replace("[\"sg-0a\"]", "[\"0a\"]")),
            "",
            "fleet.f.ec2.security_groups",
        ),
        (
            format!("{IMAGE}user_data_file = \"none.sh\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.user_data_file: cannot read",
        ),
        (
            format!("{TEMPLATE}{OFFERING}{OFFERING}"),
            "",
            "fleet.f.ec2.offering[1].name: there is another",
        ),
        (
            format!("{TEMPLATE}{OFFERING}market = \"spot\"\nprepaid = 1\n"),
            "",
            "offering[0].prepaid: no spot instance",
        ),
        (
            format!("{TEMPLATE}{}", OFFERING.replace("usd_per_hour = 0.02", "")),
            "",
            "offering[0].usd_per_hour: missing; write what one instance costs an hour, in dollars, \
             such as 0.17, or [aws] region",
        ),
        (
            format!("{none}{OFFERING}"),
            "",
            "fleet.f.drain.deadline: missing; with workers = \"none\"",
        ),
        (
            format!("{none}ready = \"worker\"\n{OFFERING}"),
            "deadline = \"1h\"",
            "fleet.f.ec2.ready: waits for workers",
        ),
        (
            format!("{TEMPLATE}{OFFERING}[fleet.f.ec2.redis]\nurl = \"redis://h\"\n"),
            "",
            "fleet.f.ec2.redis: belongs to",
        ),
        (
            format!("workers = \"redis\"\nlaunch_template = \"t\"\n{OFFERING}"),
            "",
            "fleet.f.ec2.redis.url: missing",
        ),
    ] {
        let problems = parse(&ec2, drain).expect_err(named);
        assert!(problems.contains(named), "{named}\nnot in\n{problems}");
    }
    assert!(parse(&format!("{none}{OFFERING}"), "deadline = \"1h\"").is_ok());
}

/// A fleet of `offering` in `region`, whose price is not in the file.
fn parse_unpriced(region: &str, types: &str, market: &str) -> Result<Config, String> {
    let offering = format!(
        "[aws]\nregion = \"{region}\"\n[[fleet.f.ec2.offering]]\nname = \"a\"\n\
         types = [{types}]\nmarket = \"{market}\"\n"
    );
    parse(&format!("{TEMPLATE}{offering}"), "")
}

#[test]
fn without_a_price_the_dearest_type_on_demand_counts() {
    // m5.large costs 0.096 there, c5.xlarge 0.17: either order, either market.
    for types in ["\"m5.large\", \"c5.xlarge\"", "\"c5.xlarge\", \"m5.large\""] {
        for market in ["on_demand", "spot"] {
            let config = parse_unpriced("us-east-1", types, market).expect(types);
            let price = config.fleets[0].spec.offerings[0].price;
            assert_eq!(price, MicroUsdPerHour::new(170_000), "{types} {market}");
            let Provider::Ec2(settings) = &config.fleets[0].provider else {
                panic!("another provider");
            };
            assert_eq!(settings.offerings[0].priced, Priced::OnDemand);
        }
    }
}

#[test]
fn a_price_that_no_table_knows_is_asked_for() {
    for (region, types, named) in [
        (
            "us-east-1",
            "\"m5.large\", \"m5.huge\"",
            "usd_per_hour: missing; the price table has no m5.huge in us-east-1. Write",
        ),
        (
            "eu-west-1",
            "\"m5.large\"",
            "usd_per_hour: missing; the price table has no prices of eu-west-1",
        ),
    ] {
        let problems = parse_unpriced(region, types, "on_demand").expect_err(named);
        let how = format!(
            "or run `docs/prices.sh {region} > prices.csv` and write `prices = \"prices.csv\"` in [aws]"
        );
        for part in [named, &how] {
            assert!(problems.contains(part), "{part}\nnot in\n{problems}");
        }
    }
}

#[test]
fn a_group_without_a_price_counts_at_its_type_on_demand() {
    let group = |lines: &str| {
        let text = format!(
            "[aws]\nregion = \"us-east-1\"\n[fleet.f]\nprovider = \"asg\"\n[fleet.f.limits]\n\
             max = 9\nmax_usd_per_hour = 9\n[[fleet.f.policy]]\nkind = \"fixed\"\n\
             instances = 1\n[fleet.f.asg]\ngroup = \"web\"\nworkers = \"tags\"\n{lines}"
        );
        Config::parse(&text, Path::new("")).map_err(|problems| problems.to_string())
    };
    let price = |config: Config| config.fleets[0].spec.offerings[0].price;
    let looked_up = group("type = \"m5.large\"\n").expect("in the table");
    assert_eq!(price(looked_up), MicroUsdPerHour::new(96_000));
    let written = group("type = \"m5.huge\"\nusd_per_hour = 0.5\n").expect("written");
    assert_eq!(price(written), MicroUsdPerHour::new(500_000));
    let problems = group("type = \"m5.huge\"\n").expect_err("in no table");
    assert!(
        problems.contains("fleet.f.asg.usd_per_hour: missing; the price table has no m5.huge"),
        "{problems}"
    );
    let problems = group("usd_per_hour = 0.5\n").expect_err("no type");
    assert!(!problems.contains("usd_per_hour"), "{problems}");
}
