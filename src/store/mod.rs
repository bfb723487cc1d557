//! Where the daemon writes down what it decided, and where people look it up.
//!
//! [`SqliteStore`] is the daemon's: it holds the file's lock, and what it
//! appends survives a crash right after. [`History`] is everybody's: it only
//! reads, and it works while the daemon runs.
//!
//! # The file, for people with the `sqlite3` shell
//!
//! One file, format 3, in write-ahead mode (`FILE-wal` and `FILE-shm` stand
//! beside it while it is open and belong to it). Times are in UTC; a column
//! that ends in `_micros` is the exact time in microseconds since 1970, and the
//! column without that ending shows it as text, to the millisecond.
//!
//! `meta`, one row per fact: `store` (six hexadecimal digits drawn when the
//! file was made; every launch token begins with them), `created_at`, and
//! `epoch` (how often a daemon has been started on this file).
//!
//! `decisions`, one row per fleet and cycle:
//!
//! | column | meaning |
//! |---|---|
//! | `seq` | position in the history of the whole file |
//! | `fleet`, `cycle` | whose decision; which of this fleet, from 1 on, never repeated |
//! | `at`, `at_micros` | when |
//! | `epoch` | which start of the daemon decided |
//! | `current` | instances that counted as capacity; NULL when the fleet could not be listed |
//! | `wish` | what the policies wished for; NULL if all abstained |
//! | `target` | what the fleet was to have; NULL when nothing could be decided |
//! | `summary` | one line for people |
//! | `spec` | fingerprint of the fleet's configuration |
//! | `detail_format`, `detail` | 1, and the whole record: JSON, gzip |
//!
//! `actions`, one row per action of a decision:
//!
//! | column | meaning |
//! |---|---|
//! | `fleet`, `cycle`, `serial` | whose action, and which of its cycle, from 0 on |
//! | `action` | JSON |
//! | `planned_at`, `planned_seq` | time of the cycle and position in the history; NULL if never planned |
//! | `outcome` | JSON; NULL while no answer is known, which is how a crash leaves it |
//! | `acted_at`, `acted_seq` | when the answer came, and its position in the history |
//! | `why` | JSON: why it was added to the cycle after the decision; NULL if it was part of it, or an end |
//!
//! `looks`, one row per decision: it in a few numbers, for self-tuning (four weeks
//! of them). `alive`, `ready`, `busy` and `boots` count instances, `boots_micros` is
//! how long those booted that are ready since; `arrivals`, `completions`, `backlog`
//! and `in_flight` are the readings of that name, `counted_micros` is when the first
//! of them was taken; `spent_micro_usd` is what the fleet had cost. NULL is unknown.
//!
//! `tunings`, one row per replay of a fleet's record: `base` (the fingerprint of the
//! fleet as its file says), `begun_micros`, and `report`, JSON, NULL if it was cut off.
//!
//! `followed`, one row per change of what a fleet follows: from when on, `base` and
//! `spec` (fingerprints as the file says, and as it is run), `found` (JSON: the policy
//! that is followed; NULL for that of the file) and `why`.
//!
//! ```sql
//! SELECT at, current, wish, target, summary FROM decisions WHERE fleet = 'web' ORDER BY cycle DESC LIMIT 20;
//! SELECT cycle, action FROM actions WHERE fleet = 'web' AND outcome IS NULL;
//! ```
//!
//! `SELECT writefile('decided.json.gz', detail) FROM decisions WHERE ...` gets
//! at the whole record. Look all you like; change nothing: a file changed by
//! hand is no record any more.

mod error;
mod history;
mod row;
mod schema;
mod sqlite;
mod tuning;

pub use error::{OpenError, SqliteError};
pub use history::{Answer, Decisions, Done, Entry, FleetHistory, History, Range};
pub use sqlite::{Pruned, SqliteStore};
pub use tuning::{Followed, Tuning};
