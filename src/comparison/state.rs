//! Runs that are finished, kept in a folder so that a comparison that was
//! interrupted goes on where it was.
//!
//! Each process appends to a file of its own, a line for each run, and reads
//! what all have left. A line is on the disk before the run counts as done. It
//! is found again by a fingerprint of all that makes a run: the program, the
//! scenario, the traces, the policy and the part that is scored. So what is old
//! is not used; it only takes room, and goes when that becomes too much.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use windlass_simulator::comparison::Limits;
use windlass_simulator::fingerprint::Fingerprint;
use windlass_simulator::stretch::{Block, Stretch};

/// The most that is kept, in bytes: some hundred thousand runs.
const KEPT_MAX: u64 = 64 << 20;

/// The most processes that write into one folder at a time.
const WRITERS_MAX: u32 = 10_000;

/// Finished runs.
#[derive(Debug, Default)]
pub struct State(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    known: BTreeMap<Fingerprint, CameTo>,
    to: Option<(PathBuf, File)>,
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
struct Line {
    of: String,
    came_to: CameTo,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameTo {
    /// What a run came to.
    Run(Stretch),
    /// What the blocks of a run came to.
    Blocks(Vec<Block>),
    /// What is known about the least that is possible; nothing for a world that
    /// no proof covers.
    Bound(Option<Limits>),
}

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep finished runs in {}", path.display())]
pub struct StateError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl State {
    /// Finished runs that nobody keeps.
    pub fn forgetful() -> Self {
        Self::default()
    }

    /// The runs that are kept in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        Self::read(folder).map_err(|source| StateError {
            path: folder.to_owned(),
            source,
        })
    }

    fn read(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (path, mut file) = own_file(folder)?;
        let mut kept = Kept::default();
        if size(folder)? > KEPT_MAX {
            clear(folder, &path)?;
            file.set_len(0)?;
        }
        for entry in fs::read_dir(folder)? {
            let other = entry?.path();
            if is_kept(&other) {
                kept.take_in(&File::open(other)?)?;
            }
        }
        end_last_line(&mut file)?;
        kept.to = Some((path, file));
        Ok(Self(Mutex::new(kept)))
    }

    /// What `name` came to, if it is finished.
    pub fn get(&self, name: Fingerprint) -> Option<CameTo> {
        self.lock().known.get(&name).cloned()
    }

    /// Keeps what `name` came to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, name: Fingerprint, came_to: CameTo) -> Result<(), StateError> {
        let mut kept = self.lock();
        kept.known.insert(name, came_to.clone());
        let Some((path, file)) = &mut kept.to else {
            return Ok(());
        };
        let line = Line {
            of: name.to_string(),
            came_to,
        };
        let mut text = serde_json::to_string(&line).expect("a line is plain data");
        text.push('\n');
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_data());
        written.map_err(|source| StateError {
            path: path.clone(),
            source,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A run that panicked has left a whole map behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Lines that were cut off, or are not of this program, say nothing.
    fn take_in(&mut self, file: &File) -> io::Result<()> {
        for line in BufReader::new(file).split(b'\n') {
            let line: Option<Line> = serde_json::from_slice(&line?).ok();
            let named = line.and_then(|line| Some((Fingerprint::parse(&line.of)?, line.came_to)));
            self.known.extend(named);
        }
        Ok(())
    }
}

/// The first file that no other process writes into.
fn own_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    for number in 0..WRITERS_MAX {
        let path = folder.join(format!("runs-{number}.jsonl"));
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => return Ok((path, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "{WRITERS_MAX} processes write there already"
    )))
}

fn is_kept(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("runs-") && name.ends_with(".jsonl")
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut all = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_kept(&entry.path()) {
            all += entry.metadata()?.len();
        }
    }
    Ok(all)
}

/// Removes what nobody writes into.
fn clear(folder: &Path, own: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path != own && is_kept(&path) && File::open(&path)?.try_lock().is_ok() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What was cut off is not to be the beginning of the next line.
fn end_last_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use windlass_policies::units::MicroUsd;

    use super::*;

    fn came_to(jobs: u64) -> CameTo {
        CameTo::Run(Stretch {
            length_micros: 1,
            jobs,
            unfinished_jobs: 0,
            wait: windlass_simulator::stretch::Waits {
                mean_secs: 0.1 + 0.2,
                ..Default::default()
            },
            instance_cost: MicroUsd::new(7),
            delay_cost: MicroUsd::ZERO,
            launches: 0,
            terminations: 0,
        })
    }

    fn name(number: u64) -> Fingerprint {
        Fingerprint::default().word(number)
    }

    #[test]
    fn what_was_kept_is_found_again_to_the_last_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("opened");
        state.keep(name(1), came_to(10)).expect("kept");
        // Two at once write into two files.
        let beside = State::open(folder.path()).expect("opened");
        assert_eq!(beside.get(name(1)), Some(came_to(10)));
        beside.keep(name(2), came_to(20)).expect("kept");
        drop((state, beside));
        let again = State::open(folder.path()).expect("opened");
        assert_eq!(again.get(name(1)), Some(came_to(10)));
        assert_eq!(again.get(name(2)), Some(came_to(20)));
        assert_eq!(again.get(name(3)), None);
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 2);
    }

    #[test]
    fn a_line_that_was_cut_off_is_no_run_and_harms_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path()).expect("opened");
        state.keep(name(1), came_to(10)).expect("kept");
        state.keep(name(2), came_to(20)).expect("kept");
        drop(state);
        let path = folder.path().join("runs-0.jsonl");
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() - 9]).expect("written");
        let state = State::open(folder.path()).expect("opened");
        assert_eq!(state.get(name(1)), Some(came_to(10)));
        assert_eq!(state.get(name(2)), None);
        state.keep(name(3), came_to(30)).expect("kept");
        drop(state);
        let again = State::open(folder.path()).expect("opened");
        assert_eq!(again.get(name(3)), Some(came_to(30)));
    }

    #[test]
    fn too_much_is_thrown_away() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..2 {
            let path = folder.path().join(format!("runs-{number}.jsonl"));
            let file = File::create(path).expect("made");
            file.set_len(KEPT_MAX / 2 + 1).expect("long");
        }
        State::open(folder.path()).expect("opened");
        assert_eq!(size(folder.path()).expect("read"), 0);
    }
}
