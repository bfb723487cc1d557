//! The table of error codes against the models of AWS's own Python client.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;
use windlass::aws::codes::meaning_of;

use crate::server::{Kind, python};

/// Services besides EC2, whose model names no codes.
const SERVICES: [&str; 3] = ["autoscaling", "cloudwatch", "sqs"];

/// Where the client keeps its models.
fn models() -> PathBuf {
    let lib = python().parent().expect("bin").with_file_name("lib");
    let all = fs::read_dir(&lib).expect("libraries");
    let found = all
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages/botocore/data"))
        .find(|data| data.exists());
    found.expect("the client")
}

/// The codes of every error that a service names.
fn codes(service: &str) -> Vec<String> {
    let versions = fs::read_dir(models().join(service)).expect("versions");
    let newest = versions.filter_map(Result::ok).map(|one| one.path()).max();
    let model = newest.expect("a version").join("service-2.json.gz");
    let mut text = String::new();
    GzDecoder::new(File::open(model).expect("a model"))
        .read_to_string(&mut text)
        .expect("text");
    let model: Value = serde_json::from_str(&text).expect("JSON");
    let shapes = model["shapes"].as_object().expect("shapes");
    let errors = shapes.iter().filter(|(_, it)| it["exception"] == true);
    let code = |(name, it): (&String, &Value)| {
        let code = it["error"]["code"].as_str();
        code.unwrap_or(name).to_owned()
    };
    errors.map(code).collect()
}

#[test]
fn every_code_that_a_service_names_is_in_the_table() {
    if Kind::all().is_empty() {
        return;
    }
    for service in SERVICES {
        let codes = codes(service);
        assert!(codes.len() >= 4, "{service}: {codes:?}");
        for code in codes {
            assert!(meaning_of(&code).is_some(), "{service}: {code}");
        }
    }
}
