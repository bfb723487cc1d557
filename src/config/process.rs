//! `[fleet.NAME.process]`: workers as processes of this machine.

use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use windlass_policies::fields::{Fields, FromToml as _, duration_text, parse_duration};
use windlass_policies::model::{Billing, Market, Offering};
use windlass_policies::units::MicroUsdPerHour;

/// What windlass itself tells a worker stands under names that begin so.
pub const OWN_NAMES: &str = "WINDLASS_";

/// The one thing that can be bought on this machine.
pub const OFFERING: &str = "process";

/// More words than a command has that a person wrote.
const WORDS_MAX: usize = 1_000;

/// A machine has no more processors than that.
const SLOTS_MAX: u32 = 10_000;

/// Long enough to find out what runs that is broken from the start.
const READY_DEFAULT: Duration = Duration::from_secs(1);

/// What service managers give as well.
const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// Some tens of thousands of lines.
const LOG_BYTES_DEFAULT: u64 = 4_000_000;

const HOUR: Duration = Duration::from_hours(1);

/// How workers are started and ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// The program and its arguments; at least the program.
    pub command: Vec<String>,
    /// What is added to the environment windlass runs in.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; absolute.
    pub directory: PathBuf,
    /// Jobs one worker works on at a time.
    pub slots: u32,
    /// What one worker costs an hour.
    pub price: MicroUsdPerHour,
    /// When a worker counts as ready.
    pub ready: Ready,
    /// How a worker is told to take no new jobs.
    pub fence: FenceBy,
    /// How long it has between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// A worker's log is cut when it is longer than this.
    pub log_bytes_max: u64,
}

/// When a worker counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Once it has run this long.
    After(Duration),
    /// Once it has reported what it is doing.
    Report,
}

/// How a worker is told to take no new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceBy {
    /// A file appears, and vanishes when the worker is needed again.
    File,
    /// SIGTERM: it ends by itself once its job is done.
    Signal,
}

impl ProcessSettings {
    /// What can be bought: workers, charged by the second.
    pub fn offering(&self) -> Offering {
        Offering {
            name: OFFERING.to_owned(),
            price: self.price,
            billing: Billing {
                increment: Duration::from_secs(1),
                minimum: Duration::ZERO,
            },
            slots: self.slots,
            market: Market::OnDemand,
            prepaid: 0,
        }
    }
}

/// Reads the table; the directory is relative to `folder`.
pub(super) fn read(process: &mut Fields<'_>, folder: &Path) -> Option<ProcessSettings> {
    let command = read_command(process);
    let environment = process
        .table_or_empty("environment", |environment| {
            Some(read_environment(environment))
        })
        .unwrap_or_default();
    let directory = folder.join(process.or("directory", String::new()));
    let slots = process.or_within("slots", 1, 1..=SLOTS_MAX);
    let price = process.or("usd_per_hour", MicroUsdPerHour::ZERO);
    let ready = read_ready(process);
    let fences = [("file", FenceBy::File), ("signal", FenceBy::Signal)];
    let fence = process.word("fence", &fences).unwrap_or(FenceBy::File);
    let stop_grace = process.or_within("stop_grace", STOP_GRACE_DEFAULT, Duration::ZERO..=HOUR);
    let log_bytes_max =
        process.or_within("log_bytes_max", LOG_BYTES_DEFAULT, 4_096..=1_000_000_000);
    let directory = match path::absolute(&directory) {
        Ok(directory) => directory,
        // Of an empty path, which is where windlass runs.
        Err(_) => match path::absolute(".") {
            Ok(directory) => directory,
            Err(error) => {
                process.problem("directory", format!("has no absolute path: {error}"));
                return None;
            }
        },
    };
    Some(ProcessSettings {
        command: command?,
        environment,
        directory,
        slots,
        price,
        ready,
        fence,
        stop_grace,
        log_bytes_max,
    })
}

fn read_command(process: &mut Fields<'_>) -> Option<Vec<String>> {
    let what = "the program and its arguments, such as [\"python3\", \"worker.py\"]";
    let Some(value) = process.raw("command") else {
        process.problem("command", format!("missing; write {what}"));
        return None;
    };
    let words = value.as_array().map(|words| {
        words
            .iter()
            .map(toml::Value::as_str)
            .collect::<Option<Vec<_>>>()
    });
    let Some(Some(words)) = words else {
        process.problem(
            "command",
            format!("is no list of strings in brackets; write {what}"),
        );
        return None;
    };
    let problem = match words.as_slice() {
        [] | ["", ..] => format!("names no program; write {what}"),
        words if words.len() > WORDS_MAX => format!("{} words; at most {WORDS_MAX}", words.len()),
        words if words.iter().any(|word| word.contains('\0')) => {
            "has a zero byte in it, which no argument can have".to_owned()
        }
        words => return Some(words.iter().map(|&word| word.to_owned()).collect()),
    };
    process.problem("command", problem);
    None
}

fn read_environment(environment: &mut Fields<'_>) -> BTreeMap<String, String> {
    let names: Vec<&str> = environment.keys().collect();
    let mut read = BTreeMap::new();
    for name in names {
        let Some(value) = environment.optional::<String>(name) else {
            continue;
        };
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            environment.problem(
                name,
                "is no name and value of an environment variable; write a name without `=`, and \
                 no zero bytes",
            );
        } else if name.starts_with(OWN_NAMES) {
            environment.problem(
                name,
                format!(
                    "begins with {OWN_NAMES}, which windlass sets itself; give it another name"
                ),
            );
        } else {
            read.insert(name.to_owned(), value);
        }
    }
    read
}

fn read_ready(process: &mut Fields<'_>) -> Ready {
    let Some(value) = process.raw("ready") else {
        return Ready::After(READY_DEFAULT);
    };
    let what = format!(
        "write \"report\", or how long it takes, \"0s\" to \"{}\"",
        duration_text(HOUR)
    );
    let problem = match value.as_str() {
        Some("report") => return Ready::Report,
        Some(text) => match parse_duration(text) {
            Ok(span) if span <= HOUR => return Ready::After(span),
            Ok(_) => format!("{value} is out of bounds; {what}"),
            Err(_) => format!("{value} is neither a word known here nor a duration; {what}"),
        },
        // Says what stands there, in the words of every other key.
        None => match String::from_toml(value) {
            Err(message) => format!("{message}; {what}"),
            Ok(_) => what,
        },
    };
    process.problem("ready", problem);
    Ready::After(READY_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Provider};

    /// The configuration with `keys` in the table of a fleet of processes.
    fn read_with(keys: &str) -> Result<ProcessSettings, String> {
        let text = format!(
            "[fleet.f]\nprovider = \"process\"\n[fleet.f.limits]\nmax = 1\nmax_usd_per_hour = 1\n\
             [[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n[fleet.f.process]\n{keys}\n"
        );
        match Config::parse(&text, Path::new("/srv")) {
            Ok(config) => match &config.fleets[0].provider {
                Provider::Process(settings) => Ok(settings.clone()),
                other => Err(format!("{other:?}")),
            },
            Err(problems) => Err(problems.in_file("f.toml")),
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let settings = read_with("command = [\"true\"]").expect("right");
        assert_eq!(settings.directory, Path::new("/srv"));
        assert_eq!(settings.ready, Ready::After(Duration::from_secs(1)));
        assert_eq!(settings.fence, FenceBy::File);
        assert_eq!(settings.offering().price, MicroUsdPerHour::ZERO);
        let all = "command = [\"./w\", \"-v\"]\nenvironment = { A = \"1\" }\ndirectory = \"d\"\n\
                   slots = 3\nusd_per_hour = 0.5\nready = \"report\"\nfence = \"signal\"\n\
                   stop_grace = \"0s\"\nlog_bytes_max = 5000";
        let settings = read_with(all).expect("right");
        assert_eq!(settings.directory, Path::new("/srv/d"));
        assert_eq!(settings.environment["A"], "1");
        assert_eq!(
            (settings.ready, settings.fence),
            (Ready::Report, FenceBy::Signal)
        );
        assert_eq!(
            (settings.offering().slots, settings.log_bytes_max),
            (3, 5_000)
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        let command = "command = [\"true\"]\n";
        for (keys, expected) in [
            (
                "",
                "command: missing; write the program and its arguments, such as [\"python3\"",
            ),
            (
                "command = \"true\"",
                "command: is no list of strings in brackets",
            ),
            (
                "command = [1]",
                "command: is no list of strings in brackets",
            ),
            ("command = []", "command: names no program"),
            ("command = [\"\", \"x\"]", "command: names no program"),
            ("command = [\"a\\u0000b\"]", "command: has a zero byte"),
            (
                "ready = 3",
                "ready: a whole number where a string is needed; write \"report\", or how",
            ),
            (
                "ready = \"2h\"",
                "ready: \"2h\" is out of bounds; write \"report\", or how",
            ),
            (
                "ready = \"soon\"",
                "ready: \"soon\" is neither a word known here nor a duration",
            ),
            (
                "fence = \"wall\"",
                "fence: \"wall\" is not one of \"file\" or \"signal\"",
            ),
            ("slots = 0", "slots: 0 is out of bounds; write 1 to 10000"),
            (
                "environment = { WINDLASS_WORK = \"x\" }",
                "environment.WINDLASS_WORK: begins with WINDLASS_",
            ),
            (
                "environment = { A = 1 }",
                "environment.A: a whole number where a string is needed",
            ),
            (
                "comand = [\"true\"]",
                "comand: unknown key; did you mean `command`?",
            ),
        ] {
            let whole = if keys.contains("ommand") || keys.is_empty() {
                keys.to_owned()
            } else {
                format!("{command}{keys}")
            };
            let told = read_with(&whole).expect_err(keys);
            let expected = format!("fleet.f.process.{expected}");
            assert!(told.contains(&expected), "{keys}: {told}");
        }
    }

    #[test]
    fn a_signal_that_nothing_reads_is_a_mistake() {
        let text = "[fleet.f]\nprovider = \"process\"\nprocess = { command = [\"true\"] }\n\
                    limits = { max = 1, max_usd_per_hour = 1 }\n\
                    [[fleet.f.policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 1\n";
        let told = Config::parse(text, Path::new("")).expect_err("no source");
        let told = told.in_file("f.toml");
        assert!(
            told.contains("fleet.f.signals.backlog: nothing reads this signal"),
            "{told}"
        );
        let text = text.replace("process = {", "simulated = { speed = 2 }\nprocess = {");
        let told = Config::parse(&text, Path::new("")).expect_err("two providers");
        assert!(
            told.in_file("f.toml")
                .contains("fleet.f.simulated: belongs to provider")
        );
    }
}
