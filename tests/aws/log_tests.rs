//! What is logged of a fleet's life at the level of traces, where AWS's client tells
//! most.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::daemon::{Daemon, Place, QUICK, SILENT, is_decision};
use crate::server::Kind;

/// Ten times what it takes: the machine may be busy.
const LIMIT: Duration = Duration::from_mins(2);

/// What instances do when they start, and how its base64 begins.
const USER_DATA: &str = "#!/bin/sh\nexport TOKEN=user-data-s3cret\n";
const USER_DATA_SENT: &str = "IyEvYmluL3NoCmV4cG9ydCBUT0tFTj11c2VyLWRhdGEtczNjcmV0";

/// Where a container has the credentials of its role from: they come in the body of
/// an answer, which AWS's client is not to repeat.
fn role_of_a_container() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let body = json!({
        "AccessKeyId": "test",
        "SecretAccessKey": "key-s3cret",
        "Token": "session-s3cret",
        "Expiration": "2126-01-01T00:00:00Z",
    })
    .to_string();
    // It ends with the tests.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // One piece is all of so short a question.
            let asked = stream.read(&mut [0; 4096]);
            assert!(asked.is_ok_and(|length| length > 0));
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            write!(
                stream,
                "{head}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("answered");
        }
    });
    url
}

#[test]
fn no_credential_and_no_user_data_is_logged_however_much_is() {
    for &kind in Kind::all() {
        let cloud = &Cloud::new(kind, "discreet");
        let there = cloud.look("place", &Value::Null);
        let of = |key: &str| there[key].as_str().expect("its name").to_owned();
        let ec2 = format!(
            "notices_queue_url = \"{}\"\nsecurity_groups = [\"{}\"]\nsubnets = [\"{}\"]\n{SILENT}",
            cloud.notices,
            of("security_group"),
            of("subnet"),
        );
        let from_image = cloud
            .config(&ec2, QUICK)
            .replace(
                "launch_template = \"one\"",
                &format!("image = \"{}\"", of("image")),
            )
            .replace(
                "launch_template_version = \"$Latest\"",
                "user_data_file = \"start.sh\"",
            );
        let place = Place::new(&from_image);
        fs::write(place.path("start.sh"), USER_DATA).expect("written");
        for (verbose, count) in [(&["-vvv"][..], 2), (&[], 0)] {
            let mut run = place.command("run", verbose);
            place.somebody(&mut run);
            run.env_remove("AWS_ACCESS_KEY_ID")
                .env_remove("AWS_SECRET_ACCESS_KEY")
                .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", role_of_a_container())
                .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "authorization-s3cret")
                // What is named counts for more than all the rest.
                .env("WINDLASS_LOG", "trace,aws_smithy_runtime=trace");
            let daemon = Daemon::start(run);
            cloud.jobs_wait(count);
            let end = Instant::now() + LIMIT;
            let mut lines = Vec::new();
            while cloud.alive().len() != count {
                // As far as the next decision.
                loop {
                    let line = daemon.line(end);
                    lines.push(line.unwrap_or_else(|error| panic!("{error}: {}", daemon.told())));
                    if lines.last().is_some_and(|line| is_decision(line)) {
                        break;
                    }
                }
            }
            lines.extend(std::iter::from_fn(|| daemon.line(Instant::now()).ok()));
            let of = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
            assert!(of("TRACE") > 0 && of("decided") > 0);
            for secret in ["s3cret", USER_DATA_SENT] {
                let told: Vec<&String> =
                    lines.iter().filter(|line| line.contains(secret)).collect();
                assert!(told.is_empty(), "{secret}: {told:?}");
            }
        }
    }
}
