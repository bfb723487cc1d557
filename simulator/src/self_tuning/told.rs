//! Reports in words.

use std::fmt;
use std::time::Duration;

use windlass_policies::fields::duration_text;

use super::{Found, GainTold, LIKE_PERCENT, Report, Verdict};

/// A span to the minute, or to the second if it is shorter than an hour.
pub(crate) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let rest = if secs < 3_600 { 1 } else { 60 };
    duration_text(Duration::from_secs(secs - secs % rest))
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        if !self.turned.is_empty() {
            write!(out, " with {}", self.turned.join(", "))?;
        }
        Ok(())
    }
}

impl GainTold {
    /// `usd` as percent of what the policy in force comes to.
    pub fn percent(&self, usd: f64) -> f64 {
        if self.given_usd_per_day > 0.0 {
            usd / self.given_usd_per_day * 100.0
        } else {
            0.0
        }
    }
}

impl fmt::Display for GainTold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "${:.2} a day less than ${:.2}, {:.1} % (95 % confidence interval {:.1} % to {:.1} %)",
            self.usd_per_day,
            self.given_usd_per_day,
            self.percent(self.usd_per_day),
            self.percent(self.low_usd_per_day),
            self.percent(self.high_usd_per_day)
        )
    }
}

impl fmt::Display for Report {
    /// In one sentence.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            in_force, tried, ..
        } = self;
        match &self.verdict {
            Verdict::Unfit { why } | Verdict::Worse { why } => out.write_str(why),
            Verdict::Unlike {
                replayed_usd,
                recorded_usd,
            } => write!(
                out,
                "the replay of {in_force} comes to ${replayed_usd:.2} where ${recorded_usd:.2} was \
                 recorded, more than {LIKE_PERCENT} % off, so it tells nothing of other policies"
            ),
            Verdict::Best => write!(
                out,
                "of {tried} settings none is better than {in_force} by more than one standard error"
            ),
            Verdict::Unsure { found, gain } => write!(
                out,
                "{found} was best where it was searched, but on the newest {:.1} days it costs \
                 {gain}, which is not surely more than the margin",
                gain.days
            ),
            Verdict::Better { found, gain } => write!(
                out,
                "{found} is better than {in_force}: on the newest {:.1} days, which the search never \
                 saw, it costs {gain}",
                gain.days
            ),
        }
    }
}
