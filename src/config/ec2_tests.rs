//! `[fleet.NAME.ec2]`: what is read, and what is refused with which words.

use std::path::Path;

use windlass_policies::model::Market;

use super::ec2::{LaunchFrom, Ready};
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
            "offering[0].usd_per_hour: missing",
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
