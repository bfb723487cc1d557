//! JSON over HTTP, and HTTP at its worst.

use std::fs;

use windlass_policies::signal::Reading;
use windlass_policies::units::Timestamp;

use crate::web::{Reply, Server};
use crate::{Signals, absent, runtime, same};

/// What `body` is read as, at `pointer`, with `more` keys.
fn read_json(body: &'static str, pointer: &str, more: &str) -> Reading {
    let server = Server::start(move |_| Reply::json(body));
    let keys = format!(
        "source = \"http_json\"\nurl = \"{}\"\npointer = \"{pointer}\"\n{more}",
        server.url("/")
    );
    runtime().block_on(Signals::one(&keys).read_at(Timestamp::from_secs(1_700_000_000)))
}

#[test]
fn what_is_no_number_is_absent() {
    let cases = [
        // body, pointer, value or why there is none
        ("7", "", Ok(7.0)),
        ("{\"a\": {\"b\": [1, 2.5]}}", "/a/b/1", Ok(2.5)),
        ("{\"a/b\": 3, \"m~n\": 4}", "/a~1b", Ok(3.0)),
        ("{\"a\": 0}", "/a", Ok(0.0)),
        ("{\"a\": 1e3}", "/a", Ok(1_000.0)),
        ("{\"a\": null}", "/a", Err("no data")),
        ("{\"b\": 1}", "/a", Err("no data")),
        ("{}", "/a/b/c", Err("no data")),
        ("{\"a\": -1}", "/a", Err("not a usable number")),
        ("{\"a\": \"7\"}", "/a", Err("what is at \"/a\" is a string")),
        ("{\"a\": true}", "/a", Err("is a boolean")),
        ("{\"a\": [1]}", "/a", Err("is an array")),
        ("{\"a\": NaN}", "/a", Err("is no JSON")),
        ("{\"a\": 1e999}", "/a", Err("is no JSON")),
        ("{\"a\": 1", "/a", Err("is no JSON")),
        ("{\"a\": 1} and more", "/a", Err("is no JSON")),
        ("", "/a", Err("is no JSON")),
        ("<html>502</html>", "/a", Err("is no JSON")),
    ];
    for (body, pointer, expected) in cases {
        let reading = read_json(body, pointer, "");
        match expected {
            Ok(value) => same(&reading, value),
            Err(why) => absent(&reading, why),
        }
    }
}

#[test]
fn a_document_says_when_it_was_true() {
    let time = "time_pointer = \"/t\"";
    let cases = [
        ("{\"v\": 1, \"t\": 1699999990}", Ok(1_699_999_990)),
        (
            "{\"v\": 1, \"t\": \"2023-11-14T22:13:00Z\"}",
            Ok(1_699_999_980),
        ),
        ("{\"v\": 1, \"t\": \"1699999990\"}", Ok(1_699_999_990)),
        // A clock that is a little ahead is for the core to judge.
        ("{\"v\": 1, \"t\": 1700000060}", Ok(1_700_000_060)),
        // Milliseconds would otherwise be fresh for fifty thousand years.
        (
            "{\"v\": 1, \"t\": 1699999990000}",
            Err("no time in seconds"),
        ),
        (
            "{\"v\": 1, \"t\": 1800000000}",
            Err("ahead of this machine's clock"),
        ),
        ("{\"v\": 1, \"t\": \"yesterday\"}", Err("RFC 3339")),
        ("{\"v\": 1, \"t\": null}", Err("null is no time")),
        ("{\"v\": 1}", Err("there is nothing")),
    ];
    for (body, expected) in cases {
        match (read_json(body, "/v", time), expected) {
            (Reading::Present(sample), Ok(secs)) => {
                assert_eq!(sample.at, Timestamp::from_secs(secs), "{body}");
            }
            (reading, Err(why)) => absent(&reading, why),
            (reading, Ok(_)) => panic!("{body}: {reading:?}"),
        }
    }
}

#[test]
fn a_cached_answer_is_as_old_as_it_says() {
    let server = Server::start(|_| Reply::new("200 OK", "Age: 100\r\n", "5"));
    let signals = Signals::one(&format!(
        "source = \"http_json\"\nurl = \"{}\"\npointer = \"\"",
        server.url("/")
    ));
    let now = Timestamp::from_secs(1_000);
    match runtime().block_on(signals.read_at(now)) {
        Reading::Present(sample) => assert_eq!(sample.at, Timestamp::from_secs(900)),
        Reading::Absent(why) => panic!("{why}"),
    }
}

/// Keys for `path` of `server`.
fn keys(server: &Server, path: &str) -> String {
    format!(
        "source = \"http_json\"\nurl = \"{}\"\npointer = \"\"\ntimeout = \"3s\"\n",
        server.url(path)
    )
}

#[test]
fn a_server_that_misbehaves_is_absent() {
    let runtime = runtime();
    let server = Server::start(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path {
            "/500" => Reply::new("500 Internal Server Error", "", "7"),
            "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            "/short" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n7".to_vec()),
            "/huge" => Reply::Endless,
            "/claims" => {
                let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n7".to_vec();
                bytes.resize(3_000_000, b' ');
                Reply::Bytes(bytes)
            }
            "/nothing" => Reply::Bytes(Vec::new()),
            "/garbage" => Reply::Bytes(b"\x16\x03\x01 what?".to_vec()),
            "/loop" => Reply::new("302 Found", "Location: /loop\r\n", ""),
            "/moved" => Reply::new("302 Found", "Location: /here\r\n", ""),
            _ => Reply::json("7"),
        }
    });
    for (path, why) in [
        ("/500", "500 Internal Server Error"),
        ("/204", "204 No Content"),
        ("/short", "unreachable"),
        ("/huge", "longer than 1048576 bytes"),
        ("/claims", "longer than 1048576 bytes"),
        ("/nothing", "unreachable"),
        ("/garbage", "unreachable"),
        ("/loop", "302 Found"),
    ] {
        Signals::one(&keys(&server, path)).expect_absent(&runtime, why);
    }
    // Redirects within the host are followed.
    Signals::one(&keys(&server, "/moved")).expect(&runtime, 7.0);
    let nobody = format!(
        "source = \"http_json\"\nurl = \"http://127.0.0.1:{}/\"\npointer = \"\"",
        crate::servers::free_port()
    );
    Signals::one(&nobody).expect_absent(&runtime, "unreachable");
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let thief = Server::start(|_| Reply::json("7"));
    let place = thief.url("/");
    let server = Server::start(move |_| {
        Reply::new(
            "307 Temporary Redirect",
            &format!("Location: {place}\r\n"),
            "",
        )
    });
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "tok-s3cret\n").expect("written");
    let more = format!("bearer_token = {{ file = {token:?} }}");
    let signals = Signals::one(&(keys(&server, "/") + &more));
    signals.expect_absent(&runtime(), "leads to 127.0.0.1");
    assert!(server.requests()[0].contains("authorization: Bearer tok-s3cret"));
    assert!(thief.requests().is_empty());
}

#[test]
fn secrets_are_sent_looked_up_again_and_never_told() {
    let runtime = runtime();
    // It repeats what it was sent, as servers do in their errors.
    let server = Server::start(|head| {
        if head.contains("X-Key: two\r\n") || head.contains("x-key: two\r\n") {
            Reply::json("7")
        } else {
            let echo: String = head.lines().filter(|line| line.contains("x-key")).collect();
            Reply::new(
                "401 Unauthorized",
                "",
                &format!("{{\"status\": \"error\", \"error\": \"no: {echo}\"}}"),
            )
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    fs::write(&file, "one-s3cret").expect("written");
    let more = format!("[signals.x.headers]\nX-Key = {{ file = {file:?} }}\nX-Plain = \"p\"");
    let signals = Signals::one(&(keys(&server, "/") + &more));
    signals.expect_absent(&runtime, "401 Unauthorized");
    // The same by way of Prometheus' reader, which passes a server's reason on.
    let query = format!(
        "source = \"prometheus\"\nurl = \"{}\"\nquery = \"x\"\n{more}",
        server.url("/")
    );
    let told = runtime.block_on(Signals::one(&query).read());
    absent(&told, "401 Unauthorized: no: x-key: ***");
    let head = &server.requests()[0];
    assert!(
        head.contains("x-key: one-s3cret") && head.contains("x-plain: p"),
        "{head}"
    );
    // Rotated while it runs.
    fs::write(&file, "two\r\n").expect("written");
    signals.expect(&runtime, 7.0);
    fs::remove_file(&file).expect("removed");
    signals.expect_absent(&runtime, "cannot read the secret in");
    fs::write(&file, "a\nb").expect("written");
    signals.expect_absent(&runtime, "no header may have");
    fs::write(&file, "\n").expect("written");
    signals.expect_absent(&runtime, "is empty");
    let shown = format!("{signals_debug:?}", signals_debug = signals.sources);
    assert!(!shown.contains("s3cret"));
}

#[test]
fn a_basic_login_is_sent() {
    let server = Server::start(|_| Reply::json("7"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "open sesame").expect("written");
    let more = format!("user = \"Aladdin\"\npassword = {{ file = {file:?} }}");
    Signals::one(&(keys(&server, "/") + &more)).expect(&runtime(), 7.0);
    let head = &server.requests()[0];
    assert!(
        head.contains("authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        "{head}"
    );
}
