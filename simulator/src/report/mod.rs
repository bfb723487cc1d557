//! A report of some runs as one page of HTML: it opens from a disk, without a
//! network, and holds everything it shows.
//!
//! The page's text is made here and its pictures by the script in it, out of
//! the data in it. Same runs, same bytes.

mod page;
mod recorder;
#[cfg(test)]
mod tests;

pub use page::html;
pub(crate) use page::{CONTENT_POLICY, STYLE, escaped, push_table};
pub use recorder::{BINS_MAX, Course, MARKS_MAX, Recorder, WaitPrices};

use crate::score::Score;

/// One policy's run, for a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it came to.
    pub score: Score,
    /// How it went.
    pub course: Course,
}
