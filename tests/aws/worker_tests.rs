//! The workers of `docs/workers.md`, as they stand there, on instances of a fleet:
//! they do all jobs, and none of them is ended but when it has said that it is
//! idle and has seen its fence.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::cloud::Cloud;
use crate::daemon::{Daemon, Place, QUICK, SILENT};
use crate::fleet_tests::{LIMIT, on_both};
use crate::server::{not_tested, python, script};

/// Where the metadata service is on a real instance.
const METADATA: &str = "http://169.254.169.254";

/// A worker that nobody stops ends after so many seconds.
const WORKER_SECS_MAX: &str = "600";

/// Jobs, and instances that work on them.
const JOBS: usize = 6;
const INSTANCES: usize = 2;

/// The block of a page that begins with `first`.
fn block(page: &str, first: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
    let text = text.expect("a page");
    let (_, rest) = text.split_once(&format!("\n{first}")).expect(first);
    let (block, _) = rest.split_once("\n```").expect("its end");
    format!("{first}{block}\n")
}

/// Whether the tests were told to do without `program`.
pub(crate) fn left_out(program: &str) -> bool {
    let without = std::env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
    let left_out = without.split_whitespace().any(|name| name == program);
    if left_out {
        not_tested(&format!("{program} is not installed"));
    }
    left_out
}

/// What an instance has: its metadata, and a worker.
struct Machine {
    metadata: Child,
    port: u16,
    worker: Option<Child>,
}

impl Machine {
    fn boot(cloud: &Cloud, instance: &str) -> Self {
        let mut metadata = Command::new(python())
            .arg(script("metadata.py"))
            .args([&cloud.address().port().to_string(), instance])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut port = String::new();
        let mut told = BufReader::new(metadata.stdout.take().expect("piped"));
        told.read_line(&mut port).expect("text");
        Self {
            metadata,
            port: port.trim().parse().expect("a port"),
            worker: None,
        }
    }

    /// A program of a page, with this machine's metadata service.
    fn adapted(&self, program: &str) -> String {
        assert!(program.contains(METADATA), "{program}");
        program.replace(METADATA, &format!("http://127.0.0.1:{}", self.port))
    }

    fn run(&mut self, mut worker: Command) {
        self.worker = Some(worker.process_group(0).spawn().expect("started"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.metadata.kill();
        let _ = self.metadata.wait();
        if let Some(worker) = &mut self.worker {
            // With all that it has started.
            let order = format!("kill -KILL -{}", worker.id());
            let _ended_already = Command::new("sh").args(["-c", &order]).output();
            let _ = worker.wait();
        }
    }
}

/// Runs `program` with an end to it, and with the AWS CLI at the server of
/// `cloud`.
fn limited(cloud: &Cloud, program: &Path, argument: &Path) -> Command {
    let folders = [
        argument.parent().expect("a folder"),
        program.parent().expect("a folder"),
    ];
    let path = std::env::var("PATH").expect("a path");
    let python = python();
    let here = python.parent().expect("bin");
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "-s", "KILL", WORKER_SECS_MAX])
        .args([program, argument])
        .env(
            "PATH",
            format!("{}:{}:{path}", folders[0].display(), here.display()),
        )
        .env("AWS_ENDPOINT_URL", format!("http://{}", cloud.address()))
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A fleet of workers that answer as `workers` says, which are ended in no other
/// way, and two instances of it.
fn fleet(cloud: &Cloud, workers: &str) -> (Place, Daemon, Vec<String>) {
    let ec2 = SILENT
        .replace("workers = \"none\"", workers)
        .replace("running", "worker");
    let limits = QUICK.replace("deadline = \"0s\"", "deadline = \"1h\"");
    let place = Place::new(&cloud.config(&ec2, &limits));
    let daemon = place.start();
    cloud.jobs_wait(INSTANCES);
    daemon.until("instances", LIMIT, || cloud.alive().len() == INSTANCES);
    let instances = cloud.alive().into_iter().map(|one| one.id).collect();
    (place, daemon, instances)
}

/// Waits until all jobs are done, wants no instance any more, and sees them go.
fn let_them_work(cloud: &Cloud, daemon: &Daemon, done: impl Fn() -> usize) {
    daemon.until("all jobs done", LIMIT, || done() == JOBS);
    assert_eq!(cloud.alive().len(), INSTANCES, "nobody is ended meanwhile");
    cloud.jobs_wait(0);
    daemon.until("their end", LIMIT, || cloud.alive().is_empty());
    assert_eq!(done(), JOBS, "each once");
}

#[test]
fn worker_that_answers_by_tags_works_as_it_is_documented() {
    if left_out("curl") {
        return;
    }
    on_both("worker-tags", |cloud| {
        let program = block("docs/workers.md", "#!/bin/sh\n");
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["jobs", "taken", "done"] {
            fs::create_dir(folder.path().join(part)).expect("made");
        }
        let here = folder.path().display();
        write(
            &folder,
            "take-a-job",
            &format!(
                "#!/bin/sh\ncd {here}/jobs || exit\nfor job in *; do\n  \
                 mv \"$job\" ../taken/ 2>/dev/null && echo \"$job\" && exit\ndone\n"
            ),
        );
        write(
            &folder,
            "do-the-job",
            &format!("#!/bin/sh\nsleep 1\necho done >> {here}/done/\"$1\"\n"),
        );
        for job in 0..JOBS {
            fs::write(folder.path().join(format!("jobs/{job}")), "").expect("a job");
        }
        let (_place, daemon, instances) = fleet(cloud, "workers = \"tags\"");
        let mut machines = Vec::new();
        for instance in &instances {
            let mut machine = Machine::boot(cloud, instance);
            let name = format!("{instance}.sh");
            write(&folder, &name, &machine.adapted(&program));
            let worker = limited(cloud, Path::new("/bin/sh"), &folder.path().join(name));
            machine.run(worker);
            machines.push(machine);
        }
        // What docs/aws.md has a worker look with.
        let look = block("docs/aws.md", "token=$(curl");
        let look = machines[0].adapted(&look);
        let looked = Command::new("sh")
            .args(["-c", &look])
            .output()
            .expect("run");
        assert_eq!(String::from_utf8_lossy(&looked.stdout), "404", "no fence");
        let done = || {
            let done = fs::read_dir(folder.path().join("done")).expect("a folder");
            let lines = done.map(|job| fs::read_to_string(job.expect("a job").path()));
            lines.map(|text| text.expect("text").lines().count()).sum()
        };
        let_them_work(cloud, &daemon, done);
        for one in cloud.all() {
            let (work, fence) = (one.tag("work"), one.tag("fence"));
            let idle = fence.map(|fence| format!("idle {fence}"));
            assert_eq!(work, idle.as_deref(), "it said so before it was ended");
        }
    });
}

/// A Redis server with nothing in it.
struct Redis {
    server: Child,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        // Should the test be killed, the system ends it.
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "redis-server"])
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, which tests/run installs");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::yield_now();
        }
        Self {
            server,
            port,
            _folder: folder,
        }
    }

    fn tell(&self, words: &[&str]) -> String {
        let told = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .expect("redis-cli, which comes with redis-server");
        String::from_utf8(told.stdout)
            .expect("text")
            .trim()
            .to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn worker_that_answers_by_redis_works_as_it_is_documented() {
    if left_out("redis-server") {
        return;
    }
    on_both("worker-redis", |cloud| {
        let redis = Redis::start();
        let program = block("docs/workers.md", "import time, urllib.request, redis\n")
            .replace("\"photos\"", &format!("\"{}\"", cloud.fleet))
            .replace("\"redis.internal\"", &format!("port={}", redis.port));
        assert!(
            program.contains(&format!("port={}", redis.port)),
            "{program}"
        );
        let does = "def do(job):\n    time.sleep(1)\n    CLIENT.rpush(\"done\", job)\n\n";
        let program = program.replace("while True:", &format!("{does}while True:"));
        for job in 0..JOBS {
            redis.tell(&["RPUSH", "jobs", &job.to_string()]);
        }
        let workers = format!(
            "workers = \"redis\"\nredis = {{ url = \"redis://127.0.0.1:{}\" }}",
            redis.port
        );
        let (_place, daemon, instances) = fleet(cloud, &workers);
        let folder = tempfile::tempdir().expect("a folder");
        let mut machines = Vec::new();
        for instance in &instances {
            let mut machine = Machine::boot(cloud, instance);
            let name = format!("{instance}.py");
            write(&folder, &name, &machine.adapted(&program));
            let worker = limited(cloud, &python(), &folder.path().join(name));
            machine.run(worker);
            machines.push(machine);
        }
        let done = || redis.tell(&["LLEN", "done"]).parse().expect("a number");
        let_them_work(cloud, &daemon, done);
        daemon.cycles(3);
        let fences = redis.tell(&["HLEN", &format!("windlass:{}:fences", cloud.fleet)]);
        assert_eq!(fences, "0", "fields of the ended are removed");
    });
}
