//! A worker's folder: what it tells, what it is told, and what it writes out.
//!
//! A job is lost if a worker takes one between the look at what it is doing and
//! its end. It is not, if both sides keep an order: windlass makes the fence and
//! then reads `work`; a worker writes `busy` and then looks for the fence.
//! Whoever comes second sees what the other did.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use windlass_policies::model::Work;

/// `busy` and `idle` are shorter; what is longer is neither.
const WORK_BYTES_MAX: u64 = 64;

/// The folder of one worker.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(root: &Path, id: &str) -> Self {
        Self(root.join(id))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the worker writes what it is doing.
    pub(super) fn work_path(&self) -> PathBuf {
        self.0.join("work")
    }

    /// What is there while the worker is to take no new jobs.
    pub(super) fn fence_path(&self) -> PathBuf {
        self.0.join("fence")
    }

    /// Where the worker's output goes.
    pub(super) fn log_path(&self) -> PathBuf {
        self.0.join("output.log")
    }

    /// Makes it, for nobody but the user windlass runs as.
    pub(super) fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The log, to write to its end.
    pub(super) fn open_log(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.log_path())
    }

    /// Whether the worker has said anything yet.
    pub(super) fn has_reported(&self) -> bool {
        self.work_path().exists()
    }

    /// What the worker says it is doing. Whatever cannot be read, or is being
    /// written just now, is not known.
    pub(super) fn work(&self) -> Work {
        let path = self.work_path();
        // Anything but a file, such as a pipe, could make the reader wait.
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Work::Unknown;
        }
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(WORK_BYTES_MAX).read_to_string(&mut text));
        match (read, text.trim()) {
            (Ok(_), "idle") => Work::Idle,
            (Ok(_), "busy") => Work::Busy,
            _ => Work::Unknown,
        }
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fence_path().exists()
    }

    pub(super) fn fence(&self) -> io::Result<()> {
        self.make()?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.fence_path())?;
        Ok(())
    }

    pub(super) fn unfence(&self) -> io::Result<()> {
        match fs::remove_file(self.fence_path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Empties the log once it is longer than `bytes_max`; the latter half of
    /// that stays in `output.1.log`. The worker writes to the end of the file,
    /// wherever that is, and notices nothing; what it writes between the copy
    /// and the cut is lost.
    pub(super) fn cut_log(&self, bytes_max: u64) -> io::Result<()> {
        let mut log = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.log_path())
        {
            Ok(log) => log,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let length = log.metadata()?.len();
        if length <= bytes_max {
            return Ok(());
        }
        let kept = bytes_max / 2;
        log.seek(SeekFrom::Start(length - kept))?;
        let mut older = File::create(self.0.join("output.1.log"))?;
        io::copy(&mut (&mut log).take(kept), &mut older)?;
        log.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn work_is_what_was_written_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(root.path(), "w");
        folder.make().expect("made");
        assert_eq!(
            (folder.work(), folder.has_reported()),
            (Work::Unknown, false)
        );
        for (text, expected) in [
            ("", Work::Unknown),
            ("idle", Work::Idle),
            ("busy\n", Work::Busy),
            (" idle \n", Work::Idle),
            ("idle busy", Work::Unknown),
            ("IDLE", Work::Unknown),
        ] {
            fs::write(folder.work_path(), text).expect("written");
            assert_eq!(
                (folder.work(), folder.has_reported()),
                (expected, true),
                "{text:?}"
            );
        }
        fs::write(folder.work_path(), format!("idle{}", " ".repeat(99))).expect("written");
        assert_eq!(folder.work(), Work::Idle, "the rest is not read");
        fs::remove_file(folder.work_path()).expect("removed");
        fs::create_dir(folder.work_path()).expect("a folder in its place");
        assert_eq!(folder.work(), Work::Unknown);
    }

    #[test]
    fn a_log_is_cut_and_its_writer_goes_on() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(root.path(), "w");
        folder.cut_log(10).expect("there is none yet");
        folder.make().expect("made");
        let mut writer = folder.open_log().expect("opened");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        writer.write_all(b"0123456789").expect("written");
        folder.cut_log(10).expect("looked at");
        assert_eq!(
            (read("output.log").len(), read("output.1.log").len()),
            (10, 0)
        );
        writer.write_all(b"abc").expect("written");
        folder.cut_log(10).expect("cut");
        writer.write_all(b"d").expect("written");
        assert_eq!(
            (read("output.log"), read("output.1.log")),
            ("d".into(), "89abc".into())
        );
    }
}
