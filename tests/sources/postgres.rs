//! `PostgreSQL`, as it is installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use windlass_policies::signal::Reading;
use windlass_policies::units::Timestamp;

use crate::servers::{Certificates, Server, as_user, free_port, id, is_root, program};
use crate::{Signals, absent, runtime, wait_until};

/// A `PostgreSQL` server with one superuser, `owner`.
struct Postgres {
    server: Server,
    port: u16,
    folder: TempDir,
    binary: PathBuf,
}

const PACKAGE: &str = "postgresql";

/// The user that Debian's package makes: the server refuses to run as root.
const USER: Option<&str> = Some("postgres");

/// Gives `path` to that user.
fn give_away(path: &Path) {
    if is_root() {
        chown(
            path,
            Some(id(&["-u", "postgres"])),
            Some(id(&["-g", "postgres"])),
        )
        .expect("given away");
    }
}

impl Postgres {
    /// An empty server, which asks everybody but `owner` for a password.
    fn start(certificates: Option<&Certificates>) -> Option<Self> {
        let initdb = program("initdb", PACKAGE)?;
        let folder = tempfile::tempdir().expect("a folder");
        give_away(folder.path());
        let data = folder.path().join("data");
        let output = as_user(USER)
            .arg(&initdb)
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=owner",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg(&data)
            .output()
            .expect("setpriv (util-linux) starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut rules = "host all owner 127.0.0.1/32 trust\n".to_owned();
        if certificates.is_some() {
            rules += "hostssl all all 127.0.0.1/32 scram-sha-256\n";
        } else {
            rules += "host all all 127.0.0.1/32 scram-sha-256\n";
        }
        rules += "local all owner trust\nhost replication owner 127.0.0.1/32 trust\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("written");
        if let Some(certificates) = certificates {
            for name in ["server.pem", "server.key"] {
                let there = data.join(name);
                fs::copy(certificates.path(name), &there).expect("copied");
                fs::set_permissions(&there, fs::Permissions::from_mode(0o600)).expect("closed");
                give_away(&there);
            }
            let more = "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n";
            let config = data.join("postgresql.conf");
            let text = fs::read_to_string(&config).expect("there");
            fs::write(config, text + more).expect("written");
        }
        Some(Self::run(folder))
    }

    /// A server over the data in `folder`.
    fn run(folder: TempDir) -> Self {
        let binary = program("postgres", PACKAGE).expect("it comes with initdb");
        let port = free_port();
        let server = Self::launch(&binary, folder.path(), port);
        Self {
            server,
            port,
            folder,
            binary,
        }
    }

    fn launch(binary: &Path, folder: &Path, port: u16) -> Server {
        let text = |path: PathBuf| path.display().to_string();
        let arguments = [
            "-D".to_owned(),
            text(folder.join("data")),
            "-p".to_owned(),
            port.to_string(),
            "-k".to_owned(),
            text(folder.to_owned()),
            "-h".to_owned(),
            "127.0.0.1".to_owned(),
            "-F".to_owned(),
        ];
        Server::start(binary, &arguments, &folder.join("log"), USER)
    }

    fn restart(&mut self) {
        self.server.kill();
        // The next one waits for the children of the last to be gone.
        self.server = Self::launch(&self.binary, self.folder.path(), self.port);
    }

    /// What `psql` prints for `sql`.
    fn psql(&self, sql: &str) -> Result<String, String> {
        let output = Command::new(program("psql", PACKAGE).expect("it comes along"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
            ])
            .args(["-U", "owner", "-d", "postgres", "-c", sql])
            .output()
            .expect("psql");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    #[track_caller]
    fn tell(&self, sql: &str) -> String {
        self.psql(sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    fn wait(&mut self, runtime: &tokio::runtime::Runtime) {
        wait_until(runtime, "postgres", |_| {
            if !self.server.runs() {
                self.server = Self::launch(&self.binary, self.folder.path(), self.port);
            }
            self.psql("SELECT 1").is_ok()
        });
    }

    #[track_caller]
    fn signals(&self, query: &str, more: &str) -> Signals {
        Signals::one(&format!(
            "source = \"postgres\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\n\
             query = {query:?}\n{more}",
            self.port
        ))
    }

    /// As `owner`, without TLS.
    #[track_caller]
    fn plain(&self, query: &str) -> Signals {
        self.signals(query, "user = \"owner\"\ntls = \"off\"\ntimeout = \"2s\"")
    }
}

#[test]
fn one_row_with_a_number_is_a_reading() {
    let runtime = runtime();
    let Some(mut postgres) = Postgres::start(None) else {
        return;
    };
    postgres.wait(&runtime);
    postgres.tell("CREATE TABLE job AS SELECT generate_series(1, 5) AS id");
    let cases = [
        ("SELECT count(*) FROM job", Ok(5.0)),
        ("SELECT 7::smallint", Ok(7.0)),
        ("SELECT 7::int", Ok(7.0)),
        (
            "SELECT 9007199254740993::bigint",
            Ok(9_007_199_254_740_992.0),
        ),
        ("SELECT 0.5::real", Ok(0.5)),
        ("SELECT 0.1::float8", Ok(0.1)),
        ("SELECT 0::numeric", Ok(0.0)),
        ("SELECT 12345.678901::numeric", Ok(12_345.678_901)),
        ("SELECT 0.00001234::numeric", Ok(0.000_012_34)),
        ("SELECT 100000000::numeric", Ok(100_000_000.0)),
        ("SELECT sum(id) FROM job", Ok(15.0)),
        ("SELECT avg(id) FROM job", Ok(3.0)),
        ("SELECT 'NaN'::numeric", Err("not a usable number")),
        ("SELECT 'Infinity'::numeric", Err("not a usable number")),
        ("SELECT 'NaN'::float8", Err("not a usable number")),
        ("SELECT -1", Err("not a usable number")),
        ("SELECT -1.5::numeric", Err("not a usable number")),
        ("SELECT sum(id) FROM job WHERE id > 99", Err("no data")),
        ("SELECT id FROM job WHERE id > 99", Err("no data")),
        ("SELECT id FROM job", Err("number of rows")),
        ("SELECT generate_series(1, 100000)", Err("number of rows")),
        ("SELECT 1, now(), 3", Err("3 columns")),
        ("SELECT 'many'", Err("of type text; cast it to a number")),
        ("SELECT true", Err("of type bool")),
        ("SELECT 1, now()::timestamp", Err("must be a timestamptz")),
        ("SELECT 1, NULL::timestamptz", Err("null or without end")),
        (
            "SELECT 1, 'infinity'::timestamptz",
            Err("null or without end"),
        ),
        (
            "SELECT 1, now() + interval '1 day'",
            Err("ahead of this machine's clock"),
        ),
        ("SELECT nothing", Err("column \"nothing\" does not exist")),
        ("SELECT 1; SELECT 2", Err("multiple commands")),
        ("DELETE FROM job RETURNING 1", Err("read-only transaction")),
        ("COMMIT", Err("no data")),
        ("SET TRANSACTION READ WRITE", Err("")),
        (
            "CREATE TABLE other AS SELECT 1",
            Err("read-only transaction"),
        ),
    ];
    for (query, expected) in cases {
        match expected {
            Ok(value) => postgres.plain(query).expect(&runtime, value),
            Err(why) => postgres.plain(query).expect_absent(&runtime, why),
        }
    }
    assert_eq!(postgres.tell("SELECT count(*) FROM job"), "5");
    let timed = postgres.plain("SELECT 3, timestamptz '2023-11-14 22:13:20.5+00'");
    match runtime.block_on(timed.read_at(Timestamp::from_secs(1_700_000_060))) {
        Reading::Present(sample) => {
            assert_eq!(sample.at, Timestamp::from_micros(1_700_000_000_500_000));
        }
        Reading::Absent(why) => panic!("{why}"),
    }
    // By way of the socket, too.
    Signals::one(&format!(
        "source = \"postgres\"\nhost = {:?}\nport = {}\ndatabase = \"postgres\"\nuser = \"owner\"\n\
         query = \"SELECT 8\"",
        postgres.folder.path(),
        postgres.port
    ))
    .expect(&runtime, 8.0);
}

#[test]
fn slow_locked_and_lost_servers_are_absent() {
    let runtime = runtime();
    let Some(mut postgres) = Postgres::start(None) else {
        return;
    };
    postgres.wait(&runtime);
    postgres.tell("CREATE TABLE job AS SELECT 1 AS id");
    let keys = "user = \"owner\"\ntls = \"off\"\ntimeout = \"500ms\"";
    let slow = postgres.signals("SELECT count(*) FROM pg_sleep(60)", keys);
    slow.expect_absent(&runtime, "statement timeout");
    assert_eq!(
        postgres.tell("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()"),
        "0",
        "the server has given it up as well"
    );
    let count = postgres.plain("SELECT count(*) FROM job");
    count.expect(&runtime, 1.0);
    let backend = || {
        postgres.tell("SELECT pid FROM pg_stat_activity WHERE application_name = 'windlass' ORDER BY backend_start DESC LIMIT 1")
    };
    let first = backend();
    count.expect(&runtime, 1.0);
    assert_eq!(backend(), first, "the connection is used again");
    assert_eq!(
        postgres.tell(&format!(
            "SELECT state FROM pg_stat_activity WHERE pid = {first}"
        )),
        "idle"
    );
    // Ended by its owner between two readings: nobody notices.
    postgres.tell(&format!("SELECT pg_terminate_backend({first})"));
    count.expect(&runtime, 1.0);
    postgres.server.kill();
    // The process behind a connection outlives its parent for a moment.
    wait_until(&runtime, "the end of its children", |runtime| {
        matches!(runtime.block_on(count.read()), Reading::Absent(_))
    });
    count.expect_absent(&runtime, "unreachable");
    postgres.restart();
    postgres.wait(&runtime);
    count.expect(&runtime, 1.0);
    postgres.server.signal("-STOP");
    let fresh = postgres.plain("SELECT 1");
    fresh.expect_absent(&runtime, "no answer within 2s");
    postgres.server.signal("-CONT");
    fresh.expect(&runtime, 1.0);
}

#[test]
fn logins_over_tls_are_checked() {
    let runtime = runtime();
    let (Some(good), Some(other)) = (Certificates::make(), Certificates::make()) else {
        return;
    };
    let Some(mut postgres) = Postgres::start(Some(&good)) else {
        return;
    };
    postgres.wait(&runtime);
    postgres.tell("CREATE ROLE meter LOGIN PASSWORD 'pg-s3cret'");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "pg-s3cret\n").expect("written");
    let login = format!("user = \"meter\"\npassword = {{ file = {file:?} }}\n");
    let authority = |of: &Certificates| format!("ca_file = {:?}\n", of.path("ca.pem"));
    let signals = postgres.signals("SELECT 5", &(login.clone() + &authority(&good)));
    signals.expect(&runtime, 5.0);
    postgres
        .signals("SELECT 5", &(login.clone() + &authority(&other)))
        .expect_absent(&runtime, "certificate");
    postgres
        .signals("SELECT 5", &login)
        .expect_absent(&runtime, "certificate");
    postgres
        .signals("SELECT 5", &(login.clone() + "tls = \"off\""))
        .expect_absent(&runtime, "no encryption");
    postgres
        .signals(
            "SELECT 5",
            &("user = \"meter\"\n".to_owned() + &authority(&good)),
        )
        .expect_absent(&runtime, "password");
    fs::write(&file, "wrong-s3cret").expect("written");
    let refused = postgres.signals("SELECT 5", &(login + &authority(&good)));
    let reading = runtime.block_on(refused.read());
    absent(&reading, "password authentication failed");
    assert!(!format!("{reading:?}").contains("s3cret"), "{reading:?}");
    // Rotated on both sides.
    postgres.tell("ALTER ROLE meter PASSWORD 'new-s3cret'");
    fs::write(&file, "new-s3cret").expect("written");
    refused.expect(&runtime, 5.0);
}

#[test]
fn a_replica_is_as_old_as_what_it_has_replayed() {
    let runtime = runtime();
    let Some(mut primary) = Postgres::start(None) else {
        return;
    };
    primary.wait(&runtime);
    primary.tell("CREATE TABLE job AS SELECT 1 AS id");
    let folder = tempfile::tempdir().expect("a folder");
    give_away(folder.path());
    let output = as_user(USER)
        .arg(program("pg_basebackup", PACKAGE).expect("it comes along"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &primary.port.to_string(),
            "-U",
            "owner",
            "-R",
            "-c",
            "fast",
        ])
        .arg("-D")
        .arg(folder.path().join("data"))
        .output()
        .expect("started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut replica = Postgres::run(folder);
    replica.wait(&runtime);
    primary.tell("INSERT INTO job VALUES (2)");
    wait_until(&runtime, "replication", |_| {
        replica.psql("SELECT count(*) FROM job") == Ok("2".to_owned())
    });
    let count = replica.plain("SELECT count(*) FROM job");
    count.expect(&runtime, 2.0);
    primary.server.kill();
    wait_until(&runtime, "the loss", |_| {
        replica.psql("SELECT count(*) FROM pg_stat_wal_receiver") == Ok("0".to_owned())
    });
    // An hour on, it still answers, and says of when its answer is.
    let now = windlass::clock::now();
    let later = Timestamp::from_micros(now.micros() + 3_600_000_000);
    match runtime.block_on(count.read_at(later)) {
        Reading::Present(sample) => {
            assert!(later.since(sample.at).as_secs() >= 3_590, "{sample:?}");
        }
        Reading::Absent(why) => panic!("{why}"),
    }
}
