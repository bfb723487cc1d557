//! `windlass explain`: what was seen, wished, decided and done, and how it came
//! out.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;
use windlass_policies::model::{Decision, Instance, Listing, Observation, Phase, Wish, Work};
use windlass_policies::ports::Record;
use windlass_policies::signal::{Completeness, Reading};
use windlass_policies::units::{MicroUsd, Timestamp};

use super::later::Later;
use super::text::{counted, number, span};
use super::{Failure, fleets_asked, history_of, unreadable_store};
use crate::exit::Exit;
use crate::store::{Done, Entry, FleetHistory, Followed, History, Range};

/// Explain past decisions: what was seen, wished, cut, done, and how it came out
#[derive(Debug, Args)]
#[command(
    long_about = "Explains past decisions: what was seen, wished, cut, done, and how it came \
        out.\n\n\
        It reads the store that the configuration names, also while `windlass run` writes to it, \
        and looks at nothing else in the configuration. Launches are followed through later \
        listings: how many instances became ready, and how long after the decision.",
    after_long_help = "Examples:\n  \
        windlass explain --config fleets.toml\n  \
        windlass explain --config fleets.toml --fleet web --last 10\n  \
        windlass explain --config fleets.toml --at 2026-03-29T01:30:00Z\n  \
        windlass explain --config fleets.toml --last 100 --format json | jq '.[].records'"
)]
pub(super) struct Explain {
    /// The configuration whose store is read [default: the built-in example]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only this fleet [default: all that have decisions]
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,

    /// The decision in force at this time, such as 2026-03-29T01:30:00Z
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "last")]
    at: Option<Timestamp>,

    /// The newest N decisions, oldest of them first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    last: u32,

    /// How they are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// How decisions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A paragraph per decision, for people.
    Text,
    /// An array with one object per decision: the fleet and its raw records.
    Json,
}

impl Explain {
    pub(super) fn obey(&self, out: &mut dyn Write) -> Result<Exit, Failure> {
        let history = history_of(self.config.as_deref())?;
        let fleets = self.fleets(&history)?;
        let range = self.at.map_or(Range::Last(self.last), Range::At);
        match self.format {
            Format::Text => write_text(out, &history, &fleets, range)?,
            Format::Json => write_json(out, &history, &fleets, range)?,
        }
        Ok(Exit::Done)
    }

    /// The fleets asked for that have something to show.
    fn fleets(&self, history: &History) -> Result<Vec<FleetHistory>, Failure> {
        let mut fleets = fleets_asked(history, self.fleet.as_deref())?;
        let Some(at) = self.at else { return Ok(fleets) };
        let first = fleets
            .iter()
            .map(|fleet| format!("{} at {}", fleet.name, fleet.first_at));
        let first = first.collect::<Vec<_>>().join(", ");
        fleets.retain(|fleet| fleet.first_at <= at);
        if fleets.is_empty() {
            let what =
                format!("nothing was decided at {at} or before; the history begins with {first}");
            return Err(Failure::new(Exit::Usage, what));
        }
        Ok(fleets)
    }
}

/// One decision as JSON.
#[derive(Serialize)]
struct Raw<'a> {
    fleet: &'a str,
    records: Vec<Record>,
}

fn write_json(
    out: &mut dyn Write,
    history: &History,
    fleets: &[FleetHistory],
    range: Range,
) -> Result<(), Failure> {
    let unreadable = |error| unreadable_store(history, error);
    let mut before = "[\n";
    for fleet in fleets {
        for entry in history.decisions(&fleet.name, range).map_err(unreadable)? {
            let Entry {
                decided,
                after,
                done: _,
            } = entry.map_err(unreadable)?;
            let mut records = vec![Record::Decided(Box::new(decided))];
            records.extend(after);
            write!(out, "{before}")?;
            serde_json::to_writer(
                &mut *out,
                &Raw {
                    fleet: &fleet.name,
                    records,
                },
            )
            .map_err(io::Error::from)?;
            before = ",\n";
        }
    }
    writeln!(out, "\n]")?;
    Ok(())
}

fn write_text(
    out: &mut dyn Write,
    history: &History,
    fleets: &[FleetHistory],
    range: Range,
) -> Result<(), Failure> {
    let unreadable = |error| unreadable_store(history, error);
    let mut first = true;
    for fleet in fleets {
        let later = Later::gather(history, &fleet.name, range).map_err(unreadable)?;
        let followed = history.followed(&fleet.name).map_err(unreadable)?;
        for entry in history.decisions(&fleet.name, range).map_err(unreadable)? {
            if !first {
                writeln!(out)?;
            }
            first = false;
            let entry = entry.map_err(unreadable)?;
            write_entry(out, &fleet.name, &entry, &later, &followed)?;
        }
    }
    Ok(())
}

fn write_entry(
    out: &mut dyn Write,
    fleet: &str,
    entry: &Entry,
    later: &Later,
    followed: &[Followed],
) -> io::Result<()> {
    let decision = &entry.decided.decision;
    let Decision {
        epoch, cycle, at, ..
    } = decision;
    writeln!(out, "{at}  {fleet}, cycle {cycle}, epoch {epoch}")?;
    let outcomes = entry.done.iter().filter_map(|done| later.tell(done, *at));
    for (label, lines) in [
        (
            "follows",
            follows_line(entry, followed).into_iter().collect(),
        ),
        ("seen", seen_lines(entry)),
        ("wished", wish_lines(decision)),
        (
            "cut",
            decision.reasons.iter().map(ToString::to_string).collect(),
        ),
        ("target", vec![target_line(decision)]),
        (
            "done",
            entry.done.iter().map(|done| done_line(done, *at)).collect(),
        ),
        ("later", outcomes.collect()),
    ] {
        write_lines(out, label, &lines)?;
    }
    Ok(())
}

/// What it was decided by, if that is not the policy of the file.
fn follows_line(entry: &Entry, followed: &[Followed]) -> Option<String> {
    let in_force = |one: &&Followed| one.spec == entry.decided.spec;
    let Followed { at, found, .. } = followed.iter().rfind(in_force)?;
    let found = found.as_ref()?;
    Some(format!("{found}, which self-tuning found, since {at}"))
}

/// The lines with the label before the first of them.
fn write_lines(out: &mut dyn Write, label: &str, lines: &[String]) -> io::Result<()> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    for (label, line) in labels.zip(lines) {
        writeln!(out, "  {label:<8}{line}")?;
    }
    Ok(())
}

fn seen_lines(entry: &Entry) -> Vec<String> {
    let Observation {
        now,
        fleet,
        readings,
        prices,
    } = &entry.decided.seen;
    let mut lines = vec![match fleet {
        Ok(listing) => listing_line(listing),
        Err(error) => format!("no listing: {error}"),
    }];
    for (offering, quote) in prices {
        lines.push(format!(
            "{offering} costs ${} an hour, read {} before",
            quote.price,
            span(now.since(quote.read_at))
        ));
    }
    let memory = &entry.decided.memory;
    let (unlisted, drains) = (memory.unlisted(), memory.drains.len());
    if unlisted > 0 {
        lines.push(format!("{unlisted} launched before and not listed yet"));
    }
    if drains > 0 {
        lines.push(format!("{drains} being let go"));
    }
    let ledger = &memory.ledger;
    if let Some(since) = ledger.since.filter(|since| *since < ledger.until) {
        lines.push(format!(
            "cost ${} since {since}: ${} of it wasted, ${} avoided",
            cents(ledger.spent()),
            cents(ledger.wasted()),
            cents(ledger.avoided())
        ));
    }
    let width = readings
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    for (name, reading) in readings.iter() {
        lines.push(format!("{name:<width$}  {}", reading_text(reading, *now)));
    }
    lines
}

/// Dollars to the nearest cent; the ledger never holds less than nothing.
fn cents(amount: MicroUsd) -> String {
    let cents = (amount.get().unsigned_abs() + 5_000) / 10_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn reading_text(reading: &Reading, now: Timestamp) -> String {
    match reading {
        Reading::Absent(why) => format!("absent: {why}"),
        Reading::Present(sample) => {
            let partial = match sample.completeness {
                Completeness::Complete => "",
                Completeness::Partial => ", incomplete: may be more",
            };
            format!(
                "{}, {} old{partial}",
                number(sample.value),
                span(now.since(sample.at))
            )
        }
    }
}

/// `4 instances: 2 ready (1 idle, 1 busy), 1 booting, 1 ending; 1 fenced`.
fn listing_line(listing: &Listing) -> String {
    let count = |fits: &dyn Fn(&Instance) -> bool| {
        listing
            .instances
            .iter()
            .filter(|instance| fits(instance))
            .count()
    };
    let parts = |counts: &[(usize, &str)]| {
        let some = counts.iter().filter(|(count, _)| *count > 0);
        some.map(|(count, what)| format!("{count} {what}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let work = |work| count(&|instance| instance.phase == Phase::Ready && instance.work == work);
    let works = parts(&[
        (work(Work::Idle), "idle"),
        (work(Work::Busy), "busy"),
        (work(Work::Unknown), "unknown"),
    ]);
    let phase = |phase| count(&|instance| instance.phase == phase);
    let ready = format!("ready ({works})");
    let phases = parts(&[
        (phase(Phase::Ready), &ready),
        (phase(Phase::Booting), "booting"),
        (phase(Phase::Ending), "ending"),
    ]);
    let mut line = counted(listing.instances.len(), "instance");
    if !phases.is_empty() {
        line = format!("{line}: {phases}");
    }
    let fenced = count(&|instance| instance.fenced);
    if fenced > 0 {
        line = format!("{line}; {fenced} fenced");
    }
    if !listing.complete {
        line = format!("{line}; the listing is incomplete");
    }
    line
}

fn wish_lines(decision: &Decision) -> Vec<String> {
    let width = decision
        .proposals
        .iter()
        .map(|proposal| proposal.policy.len())
        .max()
        .unwrap_or(0);
    let line = |policy: &str, wish: &Wish, why: &str| match wish {
        Wish::Instances(count) => format!("{policy:<width$}  {count}: {why}"),
        Wish::Abstain(absence) if why.is_empty() => {
            format!("{policy:<width$}  abstains: {absence}")
        }
        Wish::Abstain(_) => format!("{policy:<width$}  abstains: {why}"),
    };
    let proposals = decision.proposals.iter();
    proposals
        .map(|proposal| line(&proposal.policy, &proposal.wish, &proposal.why))
        .collect()
}

fn target_line(decision: &Decision) -> String {
    match (decision.current, decision.target) {
        (Some(current), Some(target)) if current == target => format!("{target}, as it is"),
        (Some(current), Some(target)) => format!("{target}, from {current}"),
        (None, Some(target)) => target.to_string(),
        (_, None) => "none: nothing changes".to_owned(),
    }
}

fn done_line(done: &Done, since: Timestamp) -> String {
    let then = if done.followed { "then " } else { "" };
    let answer = match &done.answer {
        None => "no answer recorded".to_owned(),
        Some(answer) => format!("{}, after {}", answer.outcome, span(answer.at.since(since))),
    };
    let why = match &done.why {
        None => String::new(),
        Some(why) => format!("; {why}"),
    };
    format!("{then}{}: {answer}{why}", done.action)
}
