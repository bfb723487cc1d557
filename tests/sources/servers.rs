//! Servers for one test, stopped when it ends, however it ends.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// The path of `name`; `None` if the tests were told to do without it.
#[track_caller]
pub(crate) fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.flatten().map(|version| version.path().join("bin"));
    let found = env::split_paths(&path)
        .chain(debian)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    let without = env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
    if found.is_none() {
        assert!(
            without.split_whitespace().any(|left_out| left_out == name),
            "{name} is not installed, and this test is nothing without it; install it (on Debian: \
             apt-get install {package}), or leave it out with WINDLASS_TESTS_WITHOUT={name}"
        );
        eprintln!("NOT TESTED: {name} is not installed");
        note_left_out();
    }
    found
}

/// Counted by `tests/run`: a test that was left out did not pass.
fn note_left_out() {
    let Some(list) = env::var_os("WINDLASS_TESTS_LEFT_OUT") else {
        return;
    };
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let mut list = fs::File::options().append(true).open(list).expect("a list");
    // At once: other tests write there too.
    let line = format!("{name}\n");
    list.write_all(line.as_bytes()).expect("written");
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A process that ends with the test.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts `program`; as the user `user` if the test is run by root. Should
    /// the test be killed, the system ends it.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        log: &Path,
        user: Option<&str>,
    ) -> Self {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        let mut command = as_user(user);
        command.args(["--pdeathsig", "KILL", "--"]);
        let child = command
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) starts");
        Self { child }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it without its knowing, as if the network were gone.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `setpriv`, so that what it starts is the user `user`, if that is possible.
pub(crate) fn as_user(user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command
}

pub(crate) fn is_root() -> bool {
    id(&["-u"]) == 0
}

/// A number that `id` tells.
pub(crate) fn id(arguments: &[&str]) -> u32 {
    let output = Command::new("id").args(arguments).output().expect("id");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim().parse().expect("a number")
}

/// A certificate for 127.0.0.1 and the authority it comes from, made by openssl.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Option<Self> {
        let openssl = program("openssl", "openssl")?;
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(
            folder.path().join("names"),
            "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .expect("written");
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for line in [
            format!("req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"),
            format!("req {new} -keyout server.key -out server.csr -subj /CN=server"),
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem \
             -days 2 -extfile names"
                .to_owned(),
        ] {
            let output = Command::new(&openssl)
                .args(line.split_whitespace())
                .current_dir(folder.path())
                .output()
                .expect("openssl");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {line}: {said}");
        }
        Some(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}
