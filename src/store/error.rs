//! What can be wrong with a store file, named by what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use windlass_policies::model::Epoch;
use windlass_policies::ports::StoreError;

/// A store file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the store {}", path.display())]
pub struct OpenError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: SqliteError,
}

impl OpenError {
    pub(super) fn new(path: &Path, cause: SqliteError) -> Self {
        Self {
            path: path.to_owned(),
            cause,
        }
    }
}

/// What is wrong with a store file.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// There is nothing to read.
    #[error("there is no such file; `windlass run` makes it when it starts")]
    Missing,
    /// The place it should stand in is not there.
    #[error("{} is no directory; make it, or name another place for the store", .0.display())]
    NoDirectory(PathBuf),
    /// No file at all.
    #[error("it is a directory; name a file")]
    ADirectory,
    /// A file of something else.
    #[error("it is not a windlass store; name another file")]
    NotAStore,
    /// A file of a program to come.
    #[error(
        "it has format {found}, and this windlass knows formats up to {known}; use the newer \
         windlass that wrote it"
    )]
    TooNew {
        /// The format of the file.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
    /// A file that only a daemon may bring up to date.
    #[error(
        "it has the old format {found}; start `windlass run` on it once to bring it to {known}"
    )]
    TooOld {
        /// The format of the file.
        found: i64,
        /// The format this program reads.
        known: i64,
    },
    /// Another daemon writes to it.
    #[error(
        "another windlass{holder} is running on it and holds {}; stop that one, or give this one \
         a store of its own",
        lock.display()
    )]
    Held {
        /// The file whose lock is held.
        lock: PathBuf,
        /// ` (process 123)`, or nothing if it is not known.
        holder: String,
    },
    /// The lock could not be asked for.
    #[error("cannot lock {}", lock.display())]
    Lock {
        /// The file that was to be locked.
        lock: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Another daemon was started on this file although this one holds the
    /// lock: somebody removed the lock file, or the file system ignores locks.
    #[error(
        "another windlass has taken it over with epoch {found}; this one has {own} and must stop"
    )]
    TakenOver {
        /// The epoch in the file.
        found: u64,
        /// The epoch this daemon was given.
        own: Epoch,
    },
    /// The file was removed, or another one put in its place, while it was
    /// written to.
    #[error(
        "its file was removed or replaced while windlass was running; put it back, or start \
         windlass again to begin anew"
    )]
    Removed,
    /// The caller's memory does not come from this store.
    #[error(
        "cycle {cycle} of fleet {fleet} is not after {newest}, the newest recorded: its memory \
         was not rebuilt from this store"
    )]
    Repeated {
        /// Whose cycle.
        fleet: String,
        /// Which.
        cycle: u64,
        /// The newest in the store.
        newest: u64,
    },
    /// A record would be lost: it does not come back as it was written.
    #[error("the decision of cycle {cycle} of fleet {fleet} would not read back as it was: {why}")]
    NotFaithful {
        /// Whose decision.
        fleet: String,
        /// Of which cycle.
        cycle: u64,
        /// What differs.
        why: String,
    },
    /// No room.
    #[error("the disk is full; free some space")]
    DiskFull(#[source] rusqlite::Error),
    /// No permission to write.
    #[error("it is read-only, or its directory is; let windlass write there")]
    ReadOnly(#[source] rusqlite::Error),
    /// No permission to read, or not a file.
    #[error(
        "the file cannot be opened; see that it is a file and that windlass may read and write it"
    )]
    CannotOpen(#[source] rusqlite::Error),
    /// The file does not hold together.
    #[error(
        "it is damaged ({0}); move it away with its -wal and -shm files, and start anew or from a \
         copy"
    )]
    Damaged(String),
    /// The file system cannot do what safety needs.
    #[error("its file system allows no write-ahead log (it offers `{0}`); use a local disk")]
    NoWriteAhead(String),
    /// Another program has it locked.
    #[error("another program keeps it locked")]
    Busy(#[source] rusqlite::Error),
    /// The disk failed.
    #[error("the disk did not do what it was told")]
    Disk(#[source] rusqlite::Error),
    /// Anything else `SQLite` may say.
    #[error("SQLite refused")]
    Other(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(error),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly(error),
            Some(ErrorCode::CannotOpen) => Self::CannotOpen(error),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(error.to_string()),
            Some(ErrorCode::NotADatabase) => Self::NotAStore,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error),
            Some(ErrorCode::SystemIoFailure) => Self::Disk(error),
            _ => Self::Other(error),
        }
    }
}

/// As the port reports a failed write.
pub(super) fn write_error(cause: SqliteError) -> StoreError {
    StoreError::Write(Box::new(cause))
}

/// As the port reports a failed read.
pub(super) fn read_error(cause: SqliteError) -> StoreError {
    StoreError::Read(Box::new(cause))
}
