//! Runs what pages show.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::{Connection, OpenFlags};

/// No command of a page takes longer, also on a busy machine.
const SECONDS_MAX: &str = "120";

/// A daemon has shown enough after so many decisions: one of each fleet of the
/// example.
const DECISIONS_MIN: usize = 3;

/// The queue of the tour, which pages may fill and show.
const QUEUE: &str = "python3 docs/tour/jobs.py ";

/// Standard output of `command`, which must end with 0. A daemon is stopped as
/// Ctrl-C does it, once it has decided a few times; that of the tour once its
/// workers have come and gone.
pub(crate) fn run(there: &Path, command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    if command.starts_with(QUEUE) {
        let mut process = Command::new("timeout");
        process.arg(SECONDS_MAX).args(words).current_dir(there);
        return finished(command, process);
    }
    if words.next() != Some("windlass") {
        return Err(format!(
            "`{command}`: write one that begins with `windlass` or `{QUEUE}`"
        ));
    }
    let arguments: Vec<&str> = words.collect();
    let mut process = Command::new("timeout");
    process
        .args([
            "--kill-after=1",
            SECONDS_MAX,
            env!("CARGO_BIN_EXE_windlass"),
        ])
        .args(&arguments)
        .env_remove("WINDLASS_LOG")
        .env("XDG_CACHE_HOME", there.join("cache"))
        .current_dir(there)
        .stdin(Stdio::null());
    if arguments.first() == Some(&"run") && !arguments.contains(&"--once") {
        return daemon(command, process);
    }
    finished(command, process)
}

fn finished(command: &str, mut process: Command) -> Result<String, String> {
    let output = process.output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!(
        "`{command}` ended with {}: {}{}",
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr)
    ))
}

fn daemon(command: &str, mut process: Command) -> Result<String, String> {
    let mut child = process
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let (mut seen, mut decisions) = (String::new(), 0);
    let of_tour = command.contains("docs/tour/");
    // Its workers are launched first, and then the fleet is to have none.
    let (mut launched, mut emptied) = (false, false);
    while decisions < DECISIONS_MIN || of_tour && !emptied {
        let begin = seen.len();
        let read = log
            .read_line(&mut seen)
            .map_err(|error| error.to_string())?;
        let line = &seen[begin..];
        decisions += usize::from(line.contains("\"decided\""));
        launched |= line.contains("\"launched\":4");
        emptied |= launched
            && [
                "\"current\":0",
                "\"launched\":0",
                "\"ended\":0",
                "(0 waiting + 0 in flight)",
            ]
            .iter()
            .all(|part| line.contains(part));
        if read == 0 {
            break;
        }
    }
    // `timeout` passes it on.
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    let rest = log.read_to_string(&mut seen);
    let status = child.wait().map_err(|error| error.to_string())?;
    let stopped = seen.contains("\"stopped\"")
        && decisions >= DECISIONS_MIN
        && (emptied || !of_tour)
        && !seen.contains("a worker ended by itself");
    if status.success() && stopped && told.is_ok() && rest.is_ok() {
        return Ok(String::new());
    }
    let code = status.code().unwrap_or(-1);
    Err(format!("`{command}` ended with {code}: {seen}"))
}

/// Ends the workers that a page left running `there`, as one does that fails
/// halfway: they outlive the daemon.
pub(crate) fn end_workers(there: &Path) {
    let mark = format!("WINDLASS_FOLDER={}/", there.display());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let told = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&told).contains(&mark) {
            let order = format!("kill -9 {}", entry.file_name().display());
            let _ended_already = Command::new("sh").args(["-c", &order]).status();
        }
    }
}

/// Asks the store at `path`, and looks at every row.
pub(crate) fn query(path: &Path, sql: &str) -> Result<(), String> {
    let ask = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags(path, flags)?;
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query(())?;
        while rows.next()?.is_some() {}
        Ok(())
    };
    ask().map_err(|error| format!("{sql}{error}"))
}
