//! Tries stated defaults and bounds on the library.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use windlass::config::Config;
use windlass_policies::fields::{duration_text, parse_duration};
use windlass_policies::policy_file;
use windlass_policies::problems::Problems;
use windlass_simulator::scenario::{Scenario, TraceFile};

use crate::keys::Stated;

/// What reads a template.
#[derive(Clone, Copy)]
enum Reader {
    Config,
    Policy,
    Scenario,
}

/// A sound file in which one key is tried. `@` stands where the key goes, or
/// `@window.` for keys of a window. The other lines of that table that set
/// the same key are left out.
struct Template {
    /// How a page calls the table.
    table: &'static str,
    reader: Reader,
    text: &'static str,
}

const POLICY: &str = "[[fleet.f.policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 1.0\n";
const SIMULATED: &str = "[fleet.f.simulated]\nscenario = \"builtin:web-week\"\n";
const LIMITS: &str = "[fleet.f.limits]\nmax = 100000\nmax_usd_per_hour = 1000000\nboot_timeout = \"1d\"\nlisting_patience = \"1d\"\nshrink_settle = \"0s\"\n";
const CASE: &str = "[[policy]]\nkind = \"fixed\"\ninstances = 1\n[[case]]\n@\nname = \"x\"\ninstances = 1\ntarget = 1\n";

const TEMPLATES: &[Template] = &[
    config(
        "`[store]`",
        "[store]\n@\n[fleet.f]\nprovider = \"simulated\"\n",
    ),
    config(
        "`[self_tuning]`",
        "[self_tuning]\n@\nhistory = \"28d\"\n[fleet.f]\nprovider = \"simulated\"\n",
    ),
    config("`[fleet.NAME]`", "[fleet.f]\n@\nprovider = \"simulated\"\n"),
    config(
        "`[fleet.NAME.simulated]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.simulated]\n@\nscenario = \"builtin:web-week\"\n",
    ),
    config("`[aws]`", "[aws]\n@\n[fleet.f]\nprovider = \"simulated\"\n"),
    config(
        "`[fleet.NAME.asg]`",
        "[fleet.f]\nprovider = \"asg\"\n[fleet.f.asg]\n@\ngroup = \"web\"\ntype = \"c7g.large\"\nusd_per_hour = 1\nworkers = \"stateless\"\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n",
    ),
    config(
        "`[fleet.NAME.process]`",
        "[fleet.f]\nprovider = \"process\"\n[fleet.f.process]\n@\ncommand = [\"true\"]\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n",
    ),
    config(
        "`[aws]`",
        "[aws]\n@\nconnect_timeout = \"100ms\"\nread_timeout = \"100ms\"\n[fleet.f]\nprovider = \"simulated\"\n",
    ),
    config(
        "`[fleet.NAME.ec2]`",
        "[fleet.f]\nprovider = \"ec2\"\n[fleet.f.ec2]\n@\nlaunch_template = \"t\"\nworkers = \"tags\"\n[[fleet.f.ec2.offering]]\nname = \"a\"\ntypes = [\"t3.small\"]\nusd_per_hour = 1\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n",
    ),
    config(
        "`[[fleet.NAME.ec2.offering]]`",
        "[fleet.f]\nprovider = \"ec2\"\n[fleet.f.ec2]\nlaunch_template = \"t\"\nworkers = \"tags\"\n[[fleet.f.ec2.offering]]\n@\nname = \"a\"\ntypes = [\"t3.small\"]\nusd_per_hour = 1\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n",
    ),
    config(
        "`[fleet.NAME.ec2.redis]`",
        "[fleet.f]\nprovider = \"ec2\"\n[fleet.f.ec2]\nlaunch_template = \"t\"\nworkers = \"redis\"\n[fleet.f.ec2.redis]\n@\nurl = \"redis://h\"\n[[fleet.f.ec2.offering]]\nname = \"a\"\ntypes = [\"t3.small\"]\nusd_per_hour = 1\n[[fleet.f.policy]]\nkind = \"fixed\"\ninstances = 1\n",
    ),
    config(
        "`[fleet.NAME.objective]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.objective]\n@\n",
    ),
    config(
        "`[fleet.NAME.limits]`",
        "[fleet.f]\ninterval = \"1s\"\nprovider = \"simulated\"\n[fleet.f.limits]\n@\nmax = 100000\nmax_usd_per_hour = 1000000\n",
    ),
    config(
        "`[fleet.NAME.mix]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.mix]\n@\n",
    ),
    config(
        "`[fleet.NAME.spot]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.spot]\n@\n",
    ),
    config(
        "`[fleet.NAME.drain]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.drain]\n@\n",
    ),
    config(
        "`[fleet.NAME.signals.SIGNAL]`",
        "[fleet.f]\nprovider = \"simulated\"\n[fleet.f.signals.backlog]\n@\n",
    ),
    policy(
        "`[[fleet.NAME.policy]]`",
        "[[policy]]\n@\nkind = \"fixed\"\ninstances = 1\n",
    ),
    policy(
        "`kind = \"fixed\"`",
        "[[policy]]\n@\nkind = \"fixed\"\ninstances = 1\n",
    ),
    policy(
        "`kind = \"schedule\"`",
        "[[policy]]\n@\nkind = \"schedule\"\n[[policy.window]]\n@window.\nstart = \"0 8 * * *\"\nduration = \"1h\"\ninstances = 1\n",
    ),
    policy(
        "`kind = \"queue_backlog\"`",
        "[[policy]]\n@\nkind = \"queue_backlog\"\njobs_per_instance = 1\n",
    ),
    policy(
        "`kind = \"target_tracking\"`",
        "[[policy]]\n@\nkind = \"target_tracking\"\ntarget = 0.5\nsignal = \"load\"\n[signals.load]\nkind = \"per_worker\"\n",
    ),
    policy(
        "`kind = \"step\"`",
        "[[policy]]\n@\nkind = \"step\"\nsignal = \"oldest_age\"\n[[policy.step]]\n@step.\nabove = 1\npercent = 10\n",
    ),
    policy(
        "`kind = \"economic\"`",
        "[[policy]]\n@\nkind = \"economic\"\n[[policy.window]]\n@window.\nstart = \"0 8 * * *\"\nduration = \"1h\"\nbudget_usd_per_month = 9\n",
    ),
    policy("`[[case]]`", CASE),
    scenario(
        "`[workload]`",
        "[workload]\n@\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n",
    ),
    scenario(
        "`[cloud]`",
        "[workload]\ntrace = \"x\"\n[cloud]\n@\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n",
    ),
    scenario(
        "`[[cloud.offering]]`",
        "[workload]\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\n[fleet]\nmax = 9\n[[cloud.offering]]\n@\nname = \"a\"\nusd_per_hour = 1\n[cloud.offering.capacity]\n@capacity.\nup = \"1h\"\ndown = \"1h\"\n[cloud.offering.interruption]\n@interruption.\nevery = \"1h\"\n",
    ),
    scenario(
        "`[cloud.warm_pool]`",
        "[workload]\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n[cloud.warm_pool]\n@\nsize = 1\nstart = { distribution = \"constant\", value = \"1s\" }\n",
    ),
    scenario(
        "`[cloud.faults]`",
        "[workload]\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n[cloud.faults]\n@\n",
    ),
    scenario(
        "`[workload.class.NAME]`",
        "[workload]\ntrace = \"x\"\n[workload.class.a]\n@\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n",
    ),
    scenario(
        "`[fleet]`",
        "[workload]\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\n@\nmax = 9\n",
    ),
    scenario(
        "`[run]`",
        "[run]\n@\n[workload]\ntrace = \"x\"\n[cloud]\nboot = { distribution = \"constant\", value = \"1s\" }\nusd_per_hour = 1\n[fleet]\nmax = 9\n",
    ),
];

const fn config(table: &'static str, text: &'static str) -> Template {
    Template {
        table,
        reader: Reader::Config,
        text,
    }
}

const fn policy(table: &'static str, text: &'static str) -> Template {
    Template {
        table,
        reader: Reader::Policy,
        text,
    }
}

const fn scenario(table: &'static str, text: &'static str) -> Template {
    Template {
        table,
        reader: Reader::Scenario,
        text,
    }
}

/// What of `stated` is not so.
pub(crate) fn wrong(stated: &[Stated]) -> Vec<String> {
    let mut problems = Vec::new();
    for stated in stated {
        // The last that fits: `[fleet.NAME]` is the beginning of others.
        let Some(template) = TEMPLATES
            .iter()
            .rev()
            .find(|one| stated.table.contains(one.table))
        else {
            problems.push(format!(
                "{}: nothing to try {} of {} on",
                stated.place, stated.key, stated.table
            ));
            continue;
        };
        for problem in wrong_default(stated, template)
            .into_iter()
            .chain(wrong_bounds(stated, template))
        {
            problems.push(format!("{}: {}: {problem}", stated.place, stated.key));
        }
    }
    problems
}

fn wrong_default(stated: &Stated, template: &Template) -> Option<String> {
    let default = stated.default.as_ref()?;
    let without = template.read(&stated.key, None);
    let with = template.read(&stated.key, Some(default));
    match (without, with) {
        (Ok(without), Ok(with)) if without == with => None,
        (Ok(_), Ok(_)) => Some(format!("{default} is not the default")),
        (Err(problems), _) | (_, Err(problems)) => Some(format!("default {default}: {problems}")),
    }
}

fn wrong_bounds(stated: &Stated, template: &Template) -> Vec<String> {
    let Some((least, most)) = &stated.bounds else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for value in [least, most] {
        let read = template.read(&stated.key, Some(value));
        problems.extend(
            read.err()
                .map(|problem| format!("{value} is refused: {problem}")),
        );
    }
    for value in [below(least), above(most)].into_iter().flatten() {
        if template.read(&stated.key, Some(&value)).is_ok() {
            problems.push(format!("{value} is taken, and {least} to {most} stated"));
        }
    }
    problems
}

/// A little less; `None` where nothing is.
fn below(least: &str) -> Option<String> {
    if let Some(text) = duration(least) {
        let less = text.checked_sub(Duration::from_millis(1))?;
        return Some(format!("\"{}\"", duration_text(less)));
    }
    if least.contains('.') {
        let number: f64 = least.parse().ok()?;
        return Some((number / 2.0).to_string());
    }
    let number: i64 = least.parse().ok()?;
    Some((number - 1).to_string())
}

/// A little more.
fn above(most: &str) -> Option<String> {
    if let Some(text) = duration(most) {
        let more = text + Duration::from_millis(1);
        return Some(format!("\"{}\"", duration_text(more)));
    }
    if most.contains('.') {
        return Some(format!("{most}1"));
    }
    let number: i64 = most.parse().ok()?;
    Some((number + 1).to_string())
}

fn duration(literal: &str) -> Option<Duration> {
    parse_duration(literal.strip_prefix('"')?.strip_suffix('"')?).ok()
}

impl Template {
    /// What is read with `key` set to `value`, or not set at all.
    fn read(&self, key: &str, value: Option<&str>) -> Result<String, String> {
        let (prefix, key) = key
            .split_once('.')
            .map_or(("", key), |(table, key)| (table, key));
        let mark = if prefix.is_empty() {
            "@".to_owned()
        } else {
            format!("@{prefix}.")
        };
        let mut here = false;
        let mut text = String::new();
        for line in self.text.lines() {
            if line.starts_with('[') {
                here = false;
            }
            if line == mark {
                here = true;
                text.extend(value.map(|value| format!("{key} = {value}\n")));
            } else if !(line.starts_with('@') || here && line.starts_with(&format!("{key} = "))) {
                text.push_str(line);
                text.push('\n');
            }
        }
        self.reader.read(&text)
    }
}

impl Reader {
    fn read(self, text: &str) -> Result<String, String> {
        match self {
            Self::Config => {
                let missing = [
                    ("[fleet.f.simulated]", SIMULATED),
                    ("[fleet.f.limits]", LIMITS),
                    ("[[fleet.f.policy]]", POLICY),
                ];
                let simulated = text.contains("provider = \"simulated\"");
                let others = missing
                    .iter()
                    .filter(|(header, _)| !text.contains(header))
                    .filter(|(header, _)| simulated || !header.contains("simulated"));
                let others: String = others.map(|(_, table)| *table).collect();
                told(Config::parse(&format!("{text}{others}"), Path::new("")))
            }
            Self::Policy => told(policy_file::read(text)),
            Self::Scenario => told(Scenario::parse("x", text, |trace| {
                TraceFile::Path(trace.into())
            })),
        }
    }
}

fn told(read: Result<impl Debug, Problems>) -> Result<String, String> {
    read.map(|read| format!("{read:?}"))
        .map_err(|problems| problems.in_file("tried"))
}
