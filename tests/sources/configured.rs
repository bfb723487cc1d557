//! What a configuration may say about sources, and the whole program with one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use windlass::config::Config;
use windlass_policies::signal::SignalKind;

use crate::Signals;
use crate::redis::Redis;
use crate::runtime;
use crate::web::{Reply, Server};

/// What is wrong with the tables in `text`.
#[track_caller]
fn problems(text: &str) -> String {
    match Signals::parse(text) {
        Ok(_) => panic!("nothing is wrong with:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn what_contradicts_itself_is_told() {
    let redis = "source = \"redis\"\nurl = \"redis://h\"\n";
    let http = "source = \"http_json\"\nurl = \"https://h\"\npointer = \"/a\"\n";
    for (table, keys, problem) in [
        ("oldest_age", format!("{redis}list = \"a\""), "source: what is read there is a total, and `oldest_age` is a duration; rename"),
        ("own", format!("{redis}list = \"a\"\nkind = \"rate\""), "kind: what is read there is a total, and `own` is a rate; remove `kind`"),
        ("own", format!("{redis}hash = \"a\"\nfield = \"f\""), "kind: missing"),
        ("own", http.to_owned(), "kind: missing"),
        ("backlog", "source = \"rediss\"".to_owned(), "did you mean `redis`?"),
        ("backlog", redis.to_owned(), "one of `list`, `stream`"),
        ("backlog", format!("{redis}list = \"a\"\nhash = \"b\""), "one of `list`, `stream`"),
        ("backlog", format!("{redis}stream = \"a\""), "group: missing"),
        ("backlog", format!("{redis}list = \"a\"\nca_file = \"x\""), "ca_file: is of no use without TLS"),
        ("backlog", format!("{redis}list = \"a\"\nuser = \"x\""), "user: has no password"),
        ("backlog", format!("{redis}list = \"a\"\ntimeout = \"2m\""), "timeout: \"2m\" is out of bounds"),
        ("backlog", format!("{http}bearer_token = {{ env = \"A\" }}\nuser = \"x\""), "keep one of the two"),
        ("backlog", format!("{http}password = {{ env = \"A\" }}"), "password: has no user"),
        ("backlog", http.replace("/a", "a"), "pointer: is no JSON pointer"),
        ("backlog", http.replace("https", "ftp"), "url: is no URL that can be used"),
        ("backlog", http.replace("https://h", "jobs"), "url: is no URL"),
        ("backlog", format!("{http}headers = {{ \"a b\" = \"c\" }}"), "is no name of a header"),
        ("backlog", "source = \"prometheus\"\nurl = \"http://h\"\nquery = \"x\"\nstep = \"5s\"".to_owned(), "step: belongs to a `range`"),
        ("backlog", "source = \"prometheus\"\nurl = \"http://h\"\nquery = \"x\"\nstep = \"1s\"\nrange = \"1d\"".to_owned(), "11000 points"),
        ("backlog", "source = \"postgres\"\nhost = \"/run\"\ndatabase = \"a\"\nuser = \"b\"\nquery = \"c\"\ntls = \"verify\"".to_owned(), "a socket has no TLS"),
    ] {
        let told = problems(&format!("[signals.{table}]\n{keys}"));
        assert!(told.contains(problem), "{keys}\n{told}");
    }
    let own = Signals::of(&format!("[signals.own]\n{redis}list = \"a\""));
    assert_eq!(own.specs[0].kind, SignalKind::Total);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    for keys in [
        "source = \"redis\"\nurl = \"redis://:s3cret@h\"\nlist = \"a\"",
        "source = \"redis\"\nurl = \"redis://h\"\nlist = \"a\"\npassword = \"s3cret\"",
        "source = \"http_json\"\nurl = \"https://me:s3cret@h\"\npointer = \"\"",
        "source = \"http_json\"\nurl = \"https://h\"\npointer = \"\"\nbearer_token = \"s3cret\"",
        "source = \"http_json\"\nurl = \"https://h\"\npointer = \"\"\nheaders = { Authorization = \"s3cret\" }",
        "source = \"http_json\"\nurl = \"https://h\"\npointer = \"\"\nbearer_token = { env = \"A\", file = \"B\" }",
        "source = \"http_json\"\nurl = \"https://h\"\npointer = \"\"\nbearer_token = { }",
    ] {
        let told = problems(&format!("[signals.backlog]\n{keys}"));
        assert!(!told.contains("s3cret"), "{told}");
        assert!(
            told.contains("password") || told.contains("env = "),
            "{told}"
        );
    }
}

/// A fleet of processes with `signals`; it backlogs on `backlog` alone.
fn fleet(command: &str, signals: &str) -> String {
    format!(
        "[fleet.jobs]\nprovider = \"process\"\ninterval = \"1s\"\n\
         [fleet.jobs.process]\ncommand = {command}\n\
         [fleet.jobs.limits]\nmax = 9\nmax_usd_per_hour = 1.0\nobserve_cycles = 0\n\
         [[fleet.jobs.policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 1.0\n\
         count_in_flight = false\n{signals}"
    )
}

#[test]
fn signals_that_nothing_reads_are_told_of() {
    let text = fleet("[\"true\"]", "");
    let told = Config::parse(&text, Path::new("")).expect_err("no source");
    let told = told.to_string();
    assert!(
        told.contains("fleet.jobs.signals.backlog: nothing reads this signal")
            && told.contains("write [fleet.jobs.signals.backlog] with `source`"),
        "{told}"
    );
    let simulated = "[fleet.a]\nprovider = \"simulated\"\npolicy_file = \"builtin:queue-backlog\"\n\
         [fleet.a.simulated]\nscenario = \"builtin:web-week\"\n[fleet.a.limits]\nmax = 9\n\
         max_usd_per_hour = 9.0\n[fleet.a.signals.backlog]\nsource = \"redis\"\n\
         url = \"redis://h\"\nlist = \"a\"\n";
    let told = Config::parse(simulated, Path::new("")).expect_err("a source");
    assert!(
        told.to_string()
            .contains("fleet.a.signals.backlog.source: a simulated fleet has simulated signals"),
        "{told}"
    );
}

/// The blocks of the page on sources, each with the tables of some signals.
fn examples(page: &str) -> Vec<toml::Table> {
    let blocks = page.split("```toml signals\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    blocks.map(|text| text.parse().expect("TOML")).collect()
}

/// Every key that is known beside those of `table`, from what is said of one
/// that is not.
fn known_keys(name: &str, table: &toml::Table) -> BTreeSet<String> {
    let mut table = table.clone();
    table.insert("qqqqqqqqqqqq".to_owned(), true.into());
    let text = toml::to_string(&toml::Table::from_iter([(
        "signals".to_owned(),
        toml::Table::from_iter([(name.to_owned(), table.into())]).into(),
    )]));
    let told = problems(&text.expect("a table can be written"));
    let (_, list) = told.split_once("known here: ").expect("a list");
    let list = list.lines().next().unwrap_or_default();
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_page_on_sources_shows_every_source_and_names_every_key() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sources.md"));
    let page = page.expect("there");
    let mut shown = BTreeSet::new();
    let mut written = BTreeSet::new();
    let mut known = BTreeSet::new();
    for example in examples(&page) {
        for (name, table) in example["signals"].as_table().expect("tables") {
            let table = table.as_table().expect("a table");
            shown.insert(table["source"].as_str().expect("a word").to_owned());
            written.extend(table.keys().cloned());
            known.extend(known_keys(name, table));
        }
    }
    for key in &known {
        assert!(
            page.contains(&format!("`{key}`")),
            "the page does not name `{key}`"
        );
        let shown = written.contains(key) || ["kind", "max_age"].contains(&key.as_str());
        assert!(shown, "no example on the page has `{key}`");
    }
    let told = problems("[signals.backlog]\nsource = \"qqqqqqqqqqqq\"");
    let words: BTreeSet<String> = told
        .split('"')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(
        words.contains("redis") && words.contains("prometheus"),
        "{told}"
    );
    assert_eq!(words, shown, "each source has an example on the page");
}

/// Every key of every example, misspelt and of a wrong type, is named.
#[test]
fn every_key_of_the_page_on_sources_is_named_when_it_is_wrong() {
    let page = include_str!("../../docs/sources.md");
    for example in examples(page) {
        for (name, table) in example["signals"].as_table().expect("tables") {
            let table = table.as_table().expect("a table");
            for (key, value) in table {
                let mut misspelt = table.clone();
                misspelt.remove(key);
                misspelt.insert(format!("{key}x"), value.clone());
                let mut wrong = table.clone();
                wrong.insert(key.clone(), 1.5.into());
                for (broken, named) in [(misspelt, format!("{key}x")), (wrong, key.clone())] {
                    // Without its word nobody knows whose keys these are.
                    let named = if named == "sourcex" {
                        "kind".to_owned()
                    } else {
                        named
                    };
                    let signals = toml::Table::from_iter([(name.clone(), broken.into())]);
                    let file = toml::Table::from_iter([("signals".to_owned(), signals.into())]);
                    let text = toml::to_string(&file).expect("a table can be written");
                    let parsed = Signals::parse(&text);
                    let told = parsed
                        .err()
                        .map(|told| told.to_string())
                        .unwrap_or_default();
                    let place = format!("signals.{name}.{named}");
                    assert!(
                        told.contains(&format!("{place}:"))
                            || key == "source" && told.contains("unknown key"),
                        "{place} is not named in:\n{told}\n{text}"
                    );
                }
            }
        }
    }
}

/// What the program says, and its exit code.
fn windlass(folder: &Path, arguments: &[&str], secret: Option<&str>) -> (String, Option<i32>) {
    let mut command = Command::new("timeout");
    command
        .args(["60", env!("CARGO_BIN_EXE_windlass")])
        .args(arguments);
    command
        .current_dir(folder)
        .env_remove("WINDLASS_LOG")
        .env_remove("JOBS_PASSWORD")
        // Somebody at AWS, wherever this runs.
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "aws-s3cret")
        .env("AWS_SESSION_TOKEN", "session-s3cret");
    if let Some(secret) = secret {
        command.env("JOBS_PASSWORD", secret);
    }
    let output = command.output().expect("timeout (coreutils) starts");
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&text).into_owned(),
        output.status.code(),
    )
}

#[test]
fn the_whole_program_reads_a_list_and_tells_no_secret() {
    const PASSWORD: &str = "whole-s3cret";
    let runtime = runtime();
    let Some(mut redis) = Redis::start(&["--requirepass", PASSWORD]) else {
        return;
    };
    redis.wait(&runtime);
    let push = |line: &str| {
        let status = Command::new("redis-cli")
            .args([
                "-p",
                &redis.port.to_string(),
                "-a",
                PASSWORD,
                "--no-auth-warning",
            ])
            .args(line.split(' '))
            .output();
        assert!(status.expect("redis-cli").status.success());
    };
    push("RPUSH jobs a b c");
    let folder = tempfile::tempdir().expect("a folder");
    let signal = format!(
        "[fleet.jobs.signals.backlog]\nsource = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n\
         list = \"jobs\"\npassword = {{ env = \"JOBS_PASSWORD\" }}\ntimeout = \"2s\"\n",
        redis.port
    );
    // Workers that end by themselves, should nobody end them.
    let text = fleet("[\"sleep\", \"20\"]", &signal);
    fs::write(folder.path().join("w.toml"), text).expect("written");
    let check = |secret| windlass(folder.path(), &["check", "w.toml"], secret);
    let (told, code) = check(None);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(
            "w.toml: warning: fleet.jobs.signals.backlog: the environment variable JOBS_PASSWORD \
             is not set here"
        ),
        "{told}"
    );
    let (told, _) = check(Some(PASSWORD));
    assert!(!told.contains("warning"), "{told}");

    let mut said = String::new();
    let mut cycle = |secret, more: &[&str]| {
        let run = [&["run", "--config", "w.toml", "--once"], more].concat();
        let (told, code) = windlass(folder.path(), &run, secret);
        assert_eq!(code, Some(0), "{told}");
        said += &told;
        let (explained, _) = windlass(folder.path(), &["explain", "--config", "w.toml"], None);
        said += &explained;
        explained
    };
    let without = cycle(None, &[]);
    assert!(
        without.contains("the environment variable JOBS_PASSWORD is not set"),
        "{without}"
    );
    let refused = cycle(Some("another-s3cret"), &[]);
    assert!(refused.contains("unreachable"), "{refused}");
    let three = cycle(Some(PASSWORD), &[]);
    assert!(three.contains("3 waiting"), "{three}");
    assert!(three.contains("3 launched"), "{three}");
    redis.server.kill();
    let gone = cycle(Some(PASSWORD), &[]);
    assert!(gone.contains("unreachable"), "{gone}");
    assert!(!said.contains("s3cret"), "{said}");
    let mut files = vec![folder.path().to_owned()];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder").flatten();
            files.extend(entries.map(|entry| entry.path()));
        } else if path.is_file() {
            looked_at += 1;
            let bytes = fs::read(&path).expect("read");
            let found = bytes.windows(6).any(|six| six == b"s3cret");
            assert!(!found, "a secret is in {}", path.display());
        }
    }
    assert!(looked_at >= 2, "the configuration and the store");
}

/// With everything logged that windlass and its libraries can say, no secret is,
/// in whatever form it was sent.
#[test]
fn no_secret_is_told_however_much_is_logged() {
    // It repeats all it was sent.
    let server = Server::start(|head| Reply::new("401 Unauthorized", "", head));
    let (url, port) = (server.url("/"), server.port());
    let password = "password = { env = \"JOBS_PASSWORD\" }\ntimeout = \"1s\"";
    let mut signals = Vec::new();
    for (name, keys) in [
        (
            "backlog",
            format!("source = \"http_json\"\nurl = \"{url}a\"\npointer = \"\"\nuser = \"u\""),
        ),
        (
            "b",
            format!("source = \"prometheus\"\nurl = \"{url}\"\nquery = \"x\"\nuser = \"u\""),
        ),
        (
            "c",
            format!(
                "source = \"redis\"\nurl = \"redis://127.0.0.1:{port}\"\nlist = \"x\"\nuser = \"u\""
            ),
        ),
        (
            "d",
            format!(
                "source = \"postgres\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"off\"\n\
                 database = \"x\"\nuser = \"u\"\nquery = \"select 1\""
            ),
        ),
    ] {
        let kind = if ["b", "d"].contains(&name) {
            "kind = \"total\"\n"
        } else {
            ""
        };
        signals.push(format!(
            "[fleet.jobs.signals.{name}]\n{kind}{keys}\n{password}\n"
        ));
    }
    signals.push(format!(
        "[fleet.jobs.signals.e]\nkind = \"total\"\nsource = \"http_json\"\nurl = \"{url}e\"\n\
         pointer = \"\"\nbearer_token = {{ env = \"JOBS_PASSWORD\" }}\n\
         headers = {{ X-Key = {{ env = \"JOBS_PASSWORD\" }} }}\n"
    ));
    if cfg!(feature = "aws") {
        signals.push(format!(
            "[fleet.jobs.signals.f]\nkind = \"total\"\nsource = \"sqs\"\n\
             queue_url = \"{url}123456789012/q\"\n\
             count = \"visible\"\n[aws]\nregion = \"us-east-1\"\nendpoint_url = \"{url}\"\n"
        ));
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(
        folder.path().join("w.toml"),
        fleet("[\"sleep\", \"20\"]", &signals.concat()),
    )
    .expect("written");
    let run = ["-vvv", "run", "--config", "w.toml", "--once"];
    let (told, code) = windlass(folder.path(), &run, Some("whole-s3cret"));
    assert_eq!(code, Some(0), "{told}");
    // All were asked, and the libraries told what they did.
    let asked = server.requests().concat();
    for part in [
        "GET /a",
        "GET /api/v1/query",
        "GET /e",
        "x-key: whole-s3cret",
    ] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
    if cfg!(feature = "aws") {
        // The token is sent and comes back, as AWS's own answers would not have it.
        assert!(asked.contains("session-s3cret"), "{asked}");
    }
    assert!(told.contains("TRACE"), "{told}");
    // As it is, and in base64 with what stands before it, as a basic login.
    for secret in ["s3cret", "dTp3aG9sZS1zM2NyZXQ"] {
        let lines: Vec<&str> = told.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
    assert!(asked.contains("dTp3aG9sZS1zM2NyZXQ"), "a basic login");
}
