//! Log lines for people: a decision is one sentence, everything else its
//! message and its fields. What the sentence leaves out stands in the JSON log
//! and in the store.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// The message of the line about a decision.
const DECIDED: &str = "decided";

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes events as people read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Human {
    /// Whether lines say which part of the program they come from.
    pub(super) target: bool,
}

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let now = clock::now().to_string();
        let (dim, bold, plain) = if out.has_ansi_escapes() {
            (DIM, BOLD, PLAIN)
        } else {
            ("", "", "")
        };
        write!(out, "{dim}{}{plain} ", whole_seconds(&now))?;
        let level = *event.metadata().level();
        if level != Level::INFO {
            let colour = match level {
                Level::ERROR if !plain.is_empty() => RED,
                Level::WARN if !plain.is_empty() => YELLOW,
                _ => "",
            };
            write!(out, "{colour}{level}{plain} ")?;
        }
        if self.target {
            write!(out, "{dim}{}:{plain} ", event.metadata().target())?;
        }
        match line.sentence() {
            Some((fleet, rest)) => writeln!(out, "{bold}{fleet}{plain} {rest}"),
            None => writeln!(out, "{}", line.plain()),
        }
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    fn note(&mut self, field: &Field, text: &str) {
        // What comes from outside must not steer the terminal.
        let safe: String = text
            .chars()
            .flat_map(|letter| {
                let control = letter.is_control();
                let escaped = control.then(|| letter.escape_default());
                escaped
                    .into_iter()
                    .flatten()
                    .chain((!control).then_some(letter))
            })
            .collect();
        if field.name() == "message" {
            self.message = safe;
        } else {
            self.fields.push((field.name(), safe));
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, text)| text.as_str())
    }

    /// A decision: the fleet, and `(1995-07-01 04:03:04): 17 -> 37, 20
    /// launched; ...` with the fleet's own time. `None` for other lines.
    fn sentence(&self) -> Option<(&str, String)> {
        if self.message != DECIDED {
            return None;
        }
        let (fleet, at, why) = (self.get("fleet")?, self.get("at")?, self.get("why")?);
        let at = whole_seconds(at).replace('T', " ").replace('Z', "");
        let (sizes, reasons) = match why.split_once("; ") {
            Some((sizes, reasons)) => (sizes, format!("; {reasons}")),
            None => (why, String::new()),
        };
        let done: Vec<String> = ["launched", "ended"]
            .into_iter()
            .filter_map(|what| Some((what, self.get(what)?)))
            .filter(|(_, count)| *count != "0")
            .map(|(what, count)| format!(", {count} {what}"))
            .collect();
        Some((fleet, format!("({at}): {sizes}{}{reasons}", done.concat())))
    }

    /// `an action failed; fleet: web; error: throttled`.
    fn plain(&self) -> String {
        let fields = self
            .fields
            .iter()
            .map(|(name, text)| format!("; {name}: {text}"));
        std::iter::once(self.message.clone())
            .chain(fields)
            .collect()
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format!("{value:?}"));
    }
}

/// A time without its fraction of a second.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::{info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what `log` logs, without the time at the front.
    fn written(log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Human { target: false })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(page.0.lock().expect("one thread").clone()).expect("text");
        let (time, rest) = text.split_once(' ').expect("a time comes first");
        assert_eq!(time.len(), "2026-11-24T05:55:56Z".len(), "{time}");
        rest.to_owned()
    }

    #[test]
    fn a_decision_is_a_sentence() {
        let line = written(|| {
            info!(
                fleet = "photos",
                cycle = 4,
                at = %"1995-07-01T04:03:04.087277Z",
                current = Some(17),
                launched = 20,
                ended = 0,
                why = %"17 -> 37; queue wants 44: 44 waiting",
                "decided"
            );
        });
        assert_eq!(
            line,
            "photos (1995-07-01 04:03:04): 17 -> 37, 20 launched; queue wants 44: 44 waiting\n"
        );
    }

    #[test]
    fn everything_else_is_message_and_fields() {
        let line = written(|| warn!(fleet = "web", error = %"no\u{1b}[31m", "an action failed"));
        assert_eq!(
            line,
            "WARN an action failed; fleet: web; error: no\\u{1b}[31m\n"
        );
    }
}
