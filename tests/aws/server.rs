//! Local AWS servers that nobody here wrote: `ministack` and `moto`.
//!
//! `tests/run` installs them beside the build. They listen on ports of their own
//! and are gone with the tests, however these end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Python takes a second to load either; this is for a machine that is busy.
const START_MAX: Duration = Duration::from_mins(1);

/// Someone else may have taken the port between its choice and the start.
const STARTS_MAX: u32 = 3;

/// By what name `WINDLASS_TESTS_WITHOUT` leaves them out.
const NAME: &str = "aws-servers";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ministack,
    Moto,
}

impl Kind {
    /// The servers that a test is to be run on: all, or none if the tests were
    /// told to do without.
    pub(crate) fn all() -> &'static [Self] {
        if python().exists() {
            return &[Self::Ministack, Self::Moto];
        }
        let without = std::env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
        assert!(
            without.split_whitespace().any(|left_out| left_out == NAME),
            "{} is not there: `tests/run` installs the AWS servers that this test talks to; \
             leave it out with WINDLASS_TESTS_WITHOUT={NAME}",
            python().display()
        );
        not_tested("the AWS servers are not installed");
        &[]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ministack => "ministack",
            Self::Moto => "moto",
        }
    }
}

/// A running server. It is gone when this is dropped, and when the process that
/// holds it ends in any other way: it reads the end of its standard input.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    observer: Mutex<Option<Observer>>,
}

/// The Python that has the servers.
pub(crate) fn python() -> PathBuf {
    let home = std::env::var_os("WINDLASS_TEST_SERVERS").map_or_else(
        || {
            let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
            target.parent().expect("target/tmp").join("test-servers")
        },
        PathBuf::from,
    );
    home.join("bin/python")
}

/// Counted by `tests/run`: a test that was left out did not pass.
pub(crate) fn not_tested(why: &str) {
    eprintln!("NOT TESTED: {why}");
    let Some(list) = std::env::var_os("WINDLASS_TESTS_LEFT_OUT") else {
        return;
    };
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let mut list = File::options().append(true).open(list).expect("a list");
    // At once: other tests write there too.
    list.write_all(format!("{name}\n").as_bytes())
        .expect("written");
}

/// A script of this folder.
pub(crate) fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "aws", name]
        .iter()
        .collect()
}

impl Server {
    /// The one that tests share which name their fleets each in their own way.
    pub(crate) fn shared(kind: Kind) -> &'static Self {
        static MINISTACK: OnceLock<Server> = OnceLock::new();
        static MOTO: OnceLock<Server> = OnceLock::new();
        let server = match kind {
            Kind::Ministack => &MINISTACK,
            Kind::Moto => &MOTO,
        };
        server.get_or_init(|| Self::start(kind))
    }

    /// One for the test alone.
    pub(crate) fn start(kind: Kind) -> Self {
        let mut told = String::new();
        for _ in 0..STARTS_MAX {
            match Self::start_once(kind) {
                Ok(server) => return server,
                Err(error) => told = error,
            }
        }
        panic!("{} does not start: {told}", kind.name());
    }

    fn start_once(kind: Kind) -> Result<Self, String> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let mut child = Command::new(python())
            .arg(script("serve.py"))
            .args([kind.name(), &address.port().to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let errors = child.stderr.take().expect("piped");
        // It writes a line per request; someone must read them.
        let last_lines = thread::spawn(move || {
            let mut kept = Vec::new();
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.push(line);
                if kept.len() > 40 {
                    kept.remove(0);
                }
            }
            kept.join("\n")
        });
        let server = Self {
            child,
            address,
            observer: Mutex::new(None),
        };
        server.wait_until_it_listens(last_lines)
    }

    fn wait_until_it_listens(
        mut self,
        last_lines: thread::JoinHandle<String>,
    ) -> Result<Self, String> {
        let until = Instant::now() + START_MAX;
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait().expect("our child").is_some() {
                return Err(last_lines.join().expect("read"));
            }
            if Instant::now() > until {
                return Err(format!("not within {} s", START_MAX.as_secs()));
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(self)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server itself says, asked by AWS's Python client past the proxy
    /// and past windlass. `command` is a function of `look.py`.
    pub(crate) fn look(&self, command: &str, argument: &Value) -> Value {
        let mut slot = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        let observer = slot.get_or_insert_with(|| Observer::start(self.address.port()));
        observer.ask(command, argument)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `look.py` that waits for the next question. It ends when its standard input
/// does.
struct Observer {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Observer {
    fn start(port: u16) -> Self {
        let mut child = Command::new(python())
            .arg(script("look.py"))
            .arg(port.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        Self {
            questions: child.stdin.take().expect("piped"),
            answers: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    #[track_caller]
    fn ask(&mut self, command: &str, argument: &Value) -> Value {
        writeln!(self.questions, "{}", json!([command, argument])).expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("text");
        let mut told: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(told["error"], Value::Null, "look.py {command}");
        told["answer"].take()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
