//! `docs/prices.sh`, as it stands there: AWS's command line asks, a list in the
//! form of AWS's answers, and windlass counts with what comes of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

use crate::daemon::Place;
use crate::server::{Kind, python};
use crate::worker_tests::left_out;

/// What a product has to be, so that its price is that of a fleet's instance.
const WANTED: [(&str, &str); 4] = [
    ("operatingSystem", "Linux"),
    ("tenancy", "Shared"),
    ("preInstalledSw", "NA"),
    ("capacitystatus", "Used"),
];

/// A product as AWS lists it: a text that holds JSON.
fn product(region: &str, instance_type: &str, market: &str, prices: &[(&str, &str)]) -> Value {
    let term = |(unit, usd): &(&str, &str)| {
        let rate = json!({ "unit": unit, "pricePerUnit": { "USD": usd } });
        let term = json!({ "priceDimensions": { "SKU.JRTCKXETXF.6YS6EN2CT7": rate } });
        (format!("SKU.{unit}.{usd}"), term)
    };
    let terms: serde_json::Map<String, Value> = prices.iter().map(term).collect();
    let product = json!({
        "product": {
            "productFamily": "Compute Instance",
            "attributes": {
                "regionCode": region,
                "instanceType": instance_type,
                "marketoption": market,
                "vcpu": "2",
            },
        },
        "serviceCode": "AmazonEC2",
        "terms": { "OnDemand": terms },
    });
    Value::String(product.to_string())
}

/// The answer to a question for prices: two pages for one region, and nothing
/// for others.
fn answer(question: &Value) -> Value {
    let mut filters = question["Filters"].as_array().expect("filters").iter();
    let of = |field| {
        let mut filters = filters.clone();
        let found = filters.find(|filter| filter["Field"] == field);
        found.map(|filter| &filter["Value"])
    };
    for (field, value) in WANTED {
        assert_eq!(of(field), Some(&json!(value)), "{question}");
    }
    assert!(filters.all(|filter| filter["Type"] == "TERM_MATCH"));
    let region = question["Filters"][0]["Value"].as_str().expect("a region");
    if region != "eu-west-1" {
        return json!({ "FormatVersion": "aws_v1", "PriceList": [] });
    }
    if question["NextToken"].is_null() {
        let list = [
            product(region, "c7g.large", "OnDemand", &[("Hrs", "0.0773000000")]),
            product(region, "p5.48xlarge", "CapacityBlock", &[("Hrs", "1.0")]),
        ];
        return json!({ "FormatVersion": "aws_v1", "PriceList": list, "NextToken": "more" });
    }
    let several = [("Hrs", "0.1060000000"), ("Hrs", "0.1070000000")];
    let list = [
        product(region, "m5.large", "OnDemand", &several),
        product(region, "odd.large", "OnDemand", &[("Hrs", "0.1234561000")]),
        product(region, "free.large", "OnDemand", &[("Hrs", "0.0000000000")]),
        product(region, "used.large", "OnDemand", &[("Quantity", "9.0")]),
    ];
    json!({ "FormatVersion": "aws_v1", "PriceList": list })
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let told = line.to_ascii_lowercase();
        if let Some(value) = told.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let question = serde_json::from_slice(&body).expect("JSON");
    let text = answer(&question).to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Runs the script for `regions` against a list of prices of our own.
fn listed(place: &Place, regions: &[&str]) -> Output {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    // It ends with the tests.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A question that is wrong ends the thread, and so the answers.
            serve(stream).expect("answered");
        }
    });
    let beside = python().parent().expect("bin").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(beside).chain(std::env::split_paths(&path));
    let mut run = Command::new("timeout");
    run.arg("60")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prices.sh"))
        .args(regions)
        .env("PATH", std::env::join_paths(all).expect("a path"))
        .env("AWS_ENDPOINT_URL", url)
        .env("AWS_MAX_ATTEMPTS", "1");
    place.somebody(&mut run);
    run.output().expect("timeout (coreutils) starts")
}

#[test]
fn prices_of_other_regions_come_from_the_list_of_aws() {
    if Kind::all().is_empty() || left_out("jq") {
        return;
    }
    let config = r#"
[aws]
region = "eu-west-1"
prices = "prices.csv"

[fleet.f]
provider = "ec2"

[fleet.f.ec2]
launch_template = "one"
workers = "none"

[[fleet.f.ec2.offering]]
name = "on-demand"
types = ["c7g.large", "m5.large"]

[fleet.f.limits]
max = 10
max_usd_per_hour = 10

[fleet.f.drain]
deadline = "1h"

[[fleet.f.policy]]
kind = "fixed"
instances = 1
"#;
    let place = Place::new(config);
    let done = listed(&place, &["eu-west-1"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    let text = String::from_utf8(done.stdout).expect("text");
    assert_eq!(
        text,
        "region,instance_type,usd_per_hour\n\
         eu-west-1,c7g.large,0.0773000000\n\
         eu-west-1,m5.large,0.1070000000\n\
         eu-west-1,odd.large,0.123457\n"
    );
    std::fs::write(place.path("prices.csv"), text).expect("written");
    let (code, told) = place.windlass(&["check", "windlass.toml"]);
    assert_eq!(code, Some(0), "{told}");
    // Without the table nobody knows, and is told where to find out.
    let without = Place::new(&config.replace("prices = \"prices.csv\"\n", ""));
    let (code, told) = without.windlass(&["check", "windlass.toml"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("docs/prices.sh eu-west-1 > prices.csv"),
        "{told}"
    );
}

#[test]
fn regions_that_are_none_are_told() {
    if Kind::all().is_empty() || left_out("jq") {
        return;
    }
    let place = Place::new("");
    let done = listed(&place, &["eu-west-1", "mars-north-1"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{told}");
    assert!(told.contains("no prices of mars-north-1"), "{told}");
    assert_eq!(listed(&place, &[]).status.code(), Some(2));
}
