//! Processes of this machine, by what stands in `/proc`.
//!
//! A number of a process is used again by the system once it is free. So a
//! process is known here by its number and the moment it started, and a signal
//! goes through a descriptor that was opened before that moment was looked at:
//! from then on the number cannot come to mean another process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

/// Linux passes no more than 6 MB of arguments and environment.
const ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;

/// A process is forked and ended in rounds until a round finds nothing new; one
/// that forks faster than it is ended is met again in the next cycle.
const ROUNDS_MAX: u32 = 10;

/// One process, and no other that has its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    /// Its number.
    pub(super) pid: i32,
    /// When it started, in the system's ticks since it booted.
    pub(super) started: u64,
}

/// A process that carries the tag of a worker: the worker, or what it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    pub(super) process: Process,
    /// Whether it leads the group of processes that it is in, as a worker does.
    pub(super) leads: bool,
    /// Everything that windlass told it, by name.
    pub(super) told: BTreeMap<String, String>,
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    alive: bool,
    group: i32,
    started: u64,
}

/// Which boot of the system this is: numbers of processes of another mean
/// nothing.
pub(super) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// The process `pid` as it is now; `None` if it has ended.
pub(super) fn find(pid: i32) -> io::Result<Option<Process>> {
    let stat = read_stat(pid)?.filter(|stat| stat.alive);
    Ok(stat.map(|Stat { started, .. }| Process { pid, started }))
}

/// The process `pid`, a child that was not waited for: it may have ended, and
/// still has its number.
pub(super) fn started_as(pid: i32) -> io::Result<Process> {
    let stat = read_stat(pid)?.ok_or_else(|| io::Error::other("it is gone already"))?;
    Ok(Process {
        pid,
        started: stat.started,
    })
}

/// Whether `process` has not ended. A zombie has.
pub(super) fn is_alive(process: Process) -> io::Result<bool> {
    Ok(find(process.pid)? == Some(process))
}

/// Every process of this machine in whose environment `marks` says that it is
/// ours, sorted. Names are those that begin with `prefix`.
pub(super) fn scan(
    prefix: &str,
    marks: impl Fn(&BTreeMap<String, String>) -> bool,
) -> io::Result<Vec<Tagged>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(told) = read_environment(pid, prefix)? else {
            continue;
        };
        if !marks(&told) {
            continue;
        }
        // It is looked at after its environment: a number that was used again
        // in between is caught by whoever opens a descriptor of it.
        if let Some(stat) = read_stat(pid)?.filter(|stat| stat.alive) {
            found.push(Tagged {
                process: Process {
                    pid,
                    started: stat.started,
                },
                leads: stat.group == pid,
                told,
            });
        }
    }
    found.sort_by_key(|tagged| (tagged.process.started, tagged.process.pid));
    Ok(found)
}

/// What `pid` was told in its environment under names that begin with `prefix`;
/// `None` if it has ended or belongs to somebody else.
fn read_environment(pid: i32, prefix: &str) -> io::Result<Option<BTreeMap<String, String>>> {
    let path = format!("/proc/{pid}/environ");
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut bytes));
    if let Err(error) = read {
        let theirs = error.kind() == ErrorKind::PermissionDenied;
        return if theirs || is_gone(&error) {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
        let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        name.starts_with(prefix)
            .then(|| (name.to_owned(), value.to_owned()))
    });
    Ok(Some(pairs.collect()))
}

/// Whether `error` means that the process ended while it was looked at.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn read_stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be understood"))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of a program stands in brackets and may hold anything, brackets
/// and spaces too; what follows the last one is numbers.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        alive: !matches!(state, "Z" | "X" | "x"),
        group,
        started,
    })
}

/// Sends `signal` to `process`, and says whether it was there to get it.
pub(super) fn send(process: Process, signal: Signal) -> io::Result<bool> {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return Ok(false);
    };
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !is_alive(process)? {
        return Ok(false);
    }
    match pidfd_send_signal(descriptor, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Kills everything that `look` finds, until it finds nothing new.
pub(super) fn kill_all(mut look: impl FnMut() -> io::Result<Vec<Process>>) -> io::Result<()> {
    let mut known = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let new: Vec<Process> = look()?
            .into_iter()
            .filter(|process| !known.contains(process))
            .collect();
        if new.is_empty() {
            break;
        }
        for process in &new {
            send(*process, Signal::KILL)?;
        }
        known.extend(new);
    }
    Ok(())
}

/// How the child `pid` ended, in words; `None` while it runs. What is no child
/// of this process, or was asked before, ended somehow.
pub(super) fn reap(pid: i32) -> Option<String> {
    let Some(number) = Pid::from_raw(pid) else {
        return Some("it was never started".to_owned());
    };
    match waitpid(Some(number), WaitOptions::NOHANG) {
        Ok(None) => None,
        Ok(Some((_, status))) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "nobody knows how".to_owned(),
        }),
        Err(_) => Some("nobody knows how".to_owned()),
    }
}

/// Whether this system can do what is needed here.
pub(super) fn check() -> io::Result<()> {
    boot_id()?;
    let own = rustix::process::getpid();
    pidfd_open(own, PidfdFlags::empty())?;
    let stat = read_stat(own.as_raw_nonzero().get())?;
    if stat.is_none() || !Path::new("/proc/self/environ").exists() {
        return Err(io::Error::other("/proc does not show this process"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_with_brackets_and_spaces_confuses_nobody() {
        let numbers = "4 77 77 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0 175686 3133440 362";
        for name in ["sh", "a b", ") Z 1 2", "((", "x) "] {
            let stat = parse_stat(&format!("3621 ({name}) S {numbers}")).expect(name);
            let expected = Stat {
                alive: true,
                group: 77,
                started: 175_686,
            };
            assert_eq!(stat, expected, "{name}");
        }
        let zombie = parse_stat(&format!("3621 (sh) Z {numbers}")).expect("a zombie");
        assert!(!zombie.alive);
        for wrong in ["", "3621", "3621 (sh) S 1 2", "3621 (sh) S 1 x 3"] {
            assert_eq!(parse_stat(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_number_that_was_used_again_is_not_signalled() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("started");
        let pid = i32::try_from(child.id()).expect("a number");
        let process = find(pid).expect("readable").expect("it runs");
        let before = Process {
            started: process.started - 1,
            ..process
        };
        assert!(!is_alive(before).expect("readable"));
        assert!(!send(before, Signal::KILL).expect("readable"));
        assert!(is_alive(process).expect("readable"));
        assert_eq!(reap(pid), None);
        assert!(send(process, Signal::KILL).expect("sent"));
        // Until it is waited for it is a zombie, and has ended all the same.
        while is_alive(process).expect("readable") {
            std::thread::yield_now();
        }
        assert!(!send(process, Signal::KILL).expect("nobody there"));
        assert_eq!(reap(pid).as_deref(), Some("signal 9"));
        assert_eq!(find(pid).expect("readable"), None);
        child.wait().expect_err("it was waited for already");
    }
}
