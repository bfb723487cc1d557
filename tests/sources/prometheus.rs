//! Prometheus, as it is installed, and answers as its relatives give them.

use std::fs;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use windlass::clock;
use windlass_policies::signal::Reading;
use windlass_policies::units::{MICROS_PER_SEC, Timestamp};

use crate::servers::{Certificates, Server, free_port, program};
use crate::web::{Reply, Server as Web};
use crate::{Signals, absent, runtime, same, wait_until};

/// A Prometheus server that scrapes one page every second.
struct Prometheus {
    server: Server,
    port: u16,
    folder: TempDir,
}

/// The bcrypt hash of `prom-s3cret`.
const HASH: &str = "$2b$04$LrNnqHN1fw7d3Gil6oFrBOGzK/c7I9ioKG3DJ9dQSzJJYEYYHNumq";

impl Prometheus {
    /// Scrapes the server at port `target`; `web` is its own web configuration.
    fn start(target: u16, web: &str) -> Option<Self> {
        let prometheus = program("prometheus", "prometheus")?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let config = format!(
            "scrape_configs:\n- job_name: page\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
             static_configs:\n  - targets: ['127.0.0.1:{target}']\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("written");
        fs::write(folder.path().join("web.yml"), web).expect("written");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--web.config.file={}", path("web.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let server = Server::start(&prometheus, &arguments, &folder.path().join("log"), None);
        Some(Self {
            server,
            port,
            folder,
        })
    }

    #[track_caller]
    fn signals(&self, query: &str, more: &str) -> Signals {
        let url = format!("http://127.0.0.1:{}", self.port);
        Signals::one(&format!(
            "source = \"prometheus\"\nurl = \"{url}\"\nquery = {query:?}\n{more}"
        ))
    }
}

fn present(reading: &Reading) -> bool {
    matches!(reading, Reading::Present(_))
}

#[test]
fn queries_are_answered_with_the_time_of_their_samples() {
    let runtime = runtime();
    let page = Arc::new(Mutex::new(
        "# TYPE jobs gauge\njobs{queue=\"a\"} 3\njobs{queue=\"b\"} 4\nodd NaN\nendless +Inf\nless -2\n"
            .to_owned(),
    ));
    let shown = Arc::clone(&page);
    let web = Web::start(move |_| {
        let body = shown.lock().expect("no panic").clone();
        Reply::new(
            "200 OK",
            "Content-Type: text/plain; version=0.0.4\r\n",
            &body,
        )
    });
    let Some(mut prometheus) = Prometheus::start(web.port(), "") else {
        return;
    };
    let total = prometheus.signals("sum(jobs)", "");
    wait_until(&runtime, "a scrape", |runtime| {
        present(&runtime.block_on(total.read()))
    });
    total.expect(&runtime, 7.0);
    for (query, expected) in [
        ("jobs{queue=\"a\"}", Ok(3.0)),
        ("jobs{queue=\"b\"} # of the second", Ok(4.0)),
        ("jobs{queue=\"a\"}[1m]", Ok(3.0)),
        ("vector(5)", Ok(5.0)),
        ("scalar(jobs{queue=\"a\"})", Ok(3.0)),
        ("6", Ok(6.0)),
        ("jobs{queue=\"c\"}", Err("no data")),
        (
            "jobs",
            Err(
                "2 series where one is expected; they differ in queue: add a matcher such as {queue=",
            ),
        ),
        ("jobs[1m]", Err("2 series where one is expected")),
        ("odd", Err("not a usable number")),
        ("endless", Err("not a usable number")),
        ("less", Err("not a usable number")),
        ("jobs{", Err("400 Bad Request: ")),
        ("\"text\"", Err("gives a text")),
    ] {
        match expected {
            Ok(value) => prometheus.signals(query, "").expect(&runtime, value),
            Err(why) => prometheus.signals(query, "").expect_absent(&runtime, why),
        }
    }
    let ranged = prometheus.signals("sum(jobs)", "range = \"1m\"\nstep = \"1s\"");
    ranged.expect(&runtime, 7.0);
    prometheus
        .signals("jobs{queue=\"c\"}", "range = \"1m\"")
        .expect_absent(&runtime, "no data");
    // Three minutes on, the last scrape is still within Prometheus' patience
    // and its time is not that of the question.
    let now = clock::now();
    let later = Timestamp::from_micros(now.micros() + 180 * MICROS_PER_SEC);
    for query in ["jobs{queue=\"a\"}", "jobs{queue=\"a\"}[10m]"] {
        match runtime.block_on(prometheus.signals(query, "").read_at(later)) {
            Reading::Present(sample) => {
                assert!(
                    later.since(sample.at).as_secs() >= 170,
                    "{query}: {sample:?}"
                );
            }
            Reading::Absent(why) => panic!("{query}: {why}"),
        }
    }
    // What is scraped no more is no more.
    *page.lock().expect("no panic") = "jobs{queue=\"b\"} 9\n".to_owned();
    let gone = prometheus.signals("jobs{queue=\"a\"}", "");
    wait_until(&runtime, "the loss", |runtime| {
        !present(&runtime.block_on(gone.read()))
    });
    gone.expect_absent(&runtime, "no data");
    prometheus.signals("sum(jobs)", "").expect(&runtime, 9.0);
    prometheus.server.kill();
    total.expect_absent(&runtime, "unreachable");
}

#[test]
fn a_login_over_tls_is_asked_for() {
    let runtime = runtime();
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let web = Web::start(|_| Reply::new("200 OK", "Content-Type: text/plain\r\n", "up 1\n"));
    let login = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\nbasic_auth_users:\n  windlass: {HASH}\n",
        certificates.path("server.pem"),
        certificates.path("server.key"),
    );
    let Some(prometheus) = Prometheus::start(web.port(), &login) else {
        return;
    };
    let file = prometheus.folder.path().join("password");
    fs::write(&file, "prom-s3cret\n").expect("written");
    let keys = |more: &str| {
        format!(
            "source = \"prometheus\"\nurl = \"https://127.0.0.1:{}\"\nquery = \"vector(5)\"\n{more}",
            prometheus.port
        )
    };
    let authority = format!("ca_file = {:?}\n", certificates.path("ca.pem"));
    let user = format!("user = \"windlass\"\npassword = {{ file = {file:?} }}\n");
    let signals = Signals::one(&keys(&(authority.clone() + &user)));
    wait_until(&runtime, "Prometheus", |runtime| {
        present(&runtime.block_on(signals.read()))
    });
    signals.expect(&runtime, 5.0);
    Signals::one(&keys(&authority)).expect_absent(&runtime, "401 Unauthorized");
    Signals::one(&keys(&user)).expect_absent(&runtime, "certificate");
    fs::write(&file, "wrong").expect("written");
    signals.expect_absent(&runtime, "401 Unauthorized");
    fs::write(&file, "prom-s3cret").expect("written");
    signals.expect(&runtime, 5.0);
}

#[test]
fn answers_of_relatives_are_doubted_as_well() {
    let runtime = runtime();
    let vector =
        "\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1700000000,\"3\"]}]";
    let cases = [
        (format!("{{\"status\":\"success\",\"data\":{{{vector}}}}}"), Ok(3.0)),
        // What informs is no warning.
        (
            format!("{{\"status\":\"success\",\"infos\":[\"no counter\"],\"warnings\":[],\"data\":{{{vector}}}}}"),
            Ok(3.0),
        ),
        (
            format!("{{\"status\":\"success\",\"warnings\":[\"store 2 did not answer\"],\"data\":{{{vector}}}}}"),
            Err("the server warns: store 2 did not answer"),
        ),
        (
            format!("{{\"status\":\"success\",\"isPartial\":true,\"data\":{{{vector}}}}}"),
            Err("partial"),
        ),
        (format!("{{\"status\":\"odd\",\"data\":{{{vector}}}}}"), Err("says \"odd\"")),
        (
            "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query\\ntimed out\"}".to_owned(),
            Err("unusable: query timed out"),
        ),
        ("{\"status\":\"success\"}".to_owned(), Err("says \"success\"")),
        (
            "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"histogram\":[1700000000,{}]}]}}"
                .to_owned(),
            Err("histogram"),
        ),
        (format!("{{\"status\":\"success\",\"data\":{{{vector}"), Err("is not Prometheus'")),
        ("[]".to_owned(), Err("is not Prometheus'")),
    ];
    for (body, expected) in cases {
        let answer = body.clone();
        let server = Web::start(move |head| {
            // The time that was asked for besides.
            if head.contains("timestamp%28") {
                return Reply::json(&answer.replace("\"3\"", "\"1699999990\""));
            }
            Reply::json(&answer)
        });
        let keys = format!(
            "source = \"prometheus\"\nurl = \"{}\"\nquery = \"x\"",
            server.url("/behind/a/proxy/")
        );
        let reading =
            runtime.block_on(Signals::one(&keys).read_at(Timestamp::from_secs(1_700_000_000)));
        match (&reading, expected) {
            (Reading::Present(sample), Ok(value)) => {
                same(&reading, value);
                assert_eq!(sample.at, Timestamp::from_secs(1_699_999_990));
                let heads = server.requests();
                assert!(heads[0].starts_with(
                    "GET /behind/a/proxy/api/v1/query?query=x&time=1700000000.000000 "
                ));
            }
            (_, Err(why)) => absent(&reading, why),
            (Reading::Absent(why), Ok(_)) => panic!("{body}: {why}"),
        }
    }
}
