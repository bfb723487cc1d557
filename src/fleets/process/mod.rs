//! Workers as processes of this machine: the fleet that needs no cloud.
//!
//! What there is, is read from the system at every listing: each process that
//! carries the worker's tag in its environment. What was asked for is written
//! down before it is done (`state`), so that a launch is made once however
//! often it is asked for, and a daemon that was killed finds its workers again:
//! they are no part of it and outlive it.
//!
//! Whatever looks or acts holds the fleet's lock. A child that is started has
//! the lock too, until its program runs: so whoever holds the lock knows that
//! no worker is half started.

mod folder;
mod state;
mod system;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use windlass_policies::model::{
    Action, Epoch, FleetError, Instance, InstanceId, LaunchToken, Listing, Outcome, Phase, Work,
};
use windlass_policies::ports::{Clock, FleetProvider};
use windlass_policies::reconcile::Mode;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;

use super::Opening;
use crate::chain;
use crate::clock::SystemClock;
use crate::config::process::{FenceBy, OFFERING, OWN_NAMES, ProcessSettings, Ready};
use folder::Folder;
pub use state::StateError;
use state::{Master, State, Worker};
use system::{Process, Tagged};

/// How long somebody else may hold the fleet's lock: looking takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// A program that is being started gives up the lock an instant before its
/// environment can be read. An instant is less than a second.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Folders of workers that have ended are kept for their logs, this many.
const ENDED_KEPT: usize = 20;

/// Names under which a worker is told who and where it is.
mod told {
    pub(super) const FLEET: &str = "WINDLASS_FLEET";
    pub(super) const STORE: &str = "WINDLASS_STORE";
    pub(super) const EPOCH: &str = "WINDLASS_EPOCH";
    pub(super) const TOKEN: &str = "WINDLASS_TOKEN";
    pub(super) const INSTANCE: &str = "WINDLASS_INSTANCE";
    pub(super) const FOLDER: &str = "WINDLASS_FOLDER";
    pub(super) const WORK: &str = "WINDLASS_WORK";
    pub(super) const FENCE: &str = "WINDLASS_FENCE";
}

/// A fleet of processes.
#[derive(Debug)]
pub struct ProcessFleet {
    name: String,
    settings: ProcessSettings,
    /// How long a worker that has ended is still listed.
    ended_shown: Duration,
    /// Where everything of this fleet stands; absolute, without links.
    root: PathBuf,
    store: String,
    epoch: Cell<Epoch>,
    mode: Mode,
    boot: String,
    clock: SystemClock,
    state: State,
    lock: File,
    /// The workers this daemon has started itself, and how they ended.
    children: RefCell<BTreeMap<i32, Option<String>>>,
    /// Tells the keeper that a worker was told to end.
    stopping: Notify,
}

/// Why processes cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The system cannot do it.
    #[error("this system does not show and signal processes as it must (Linux 5.3, with /proc)")]
    System(#[source] io::Error),
    /// Its folder cannot be used.
    #[error("cannot use {}", path.display())]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was written down cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store is older than what it did here.
    #[error(
        "the workers in {} have followed start {found} of this store, which is at its start {own}: \
         it is an old copy; bring the newer store back, or raise its epoch as the page on \
         operating tells",
        path.display()
    )]
    OldStore {
        /// The fleet's folder.
        path: PathBuf,
        /// The newest epoch that acted.
        found: Epoch,
        /// The epoch that would act now.
        own: Epoch,
    },
}

/// Where the processes of `fleet` keep what they need: beside the store.
pub fn root_of(store: &Path, fleet: &str) -> PathBuf {
    let stem = store.file_stem().unwrap_or_default().to_string_lossy();
    store.with_file_name(format!("{stem}.{fleet}.workers"))
}

/// The fleet's lock; given back when this is dropped.
struct Held<'a>(&'a File);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // A lock that cannot be given back goes with the process.
        let _ = self.0.unlock();
    }
}

/// A worker and the processes that are left of it.
#[derive(Debug)]
struct Seen {
    worker: Worker,
    processes: Vec<Process>,
}

/// Why nothing could be seen or done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot look at processes or signal them")]
    System(#[from] io::Error),
    #[error("a newer start of windlass, or another store, has this fleet")]
    Stale,
}

impl From<Trouble> for FleetError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stale => Self::StaleEpoch,
            other => Self::Unknown(chain(&other).to_string()),
        }
    }
}

impl ProcessFleet {
    /// Opens the fleet of `spec`, takes it over from whoever had it, and finds
    /// the workers that run. To be called on a [`tokio::task::LocalSet`], where
    /// workers are waited for and ended from then on.
    ///
    /// # Errors
    /// If the system, the folder or the file in it cannot be used, or the store
    /// is an old copy.
    pub async fn open(
        spec: &FleetSpec,
        settings: &ProcessSettings,
        opening: Opening<'_>,
    ) -> Result<Rc<Self>, ProcessError> {
        system::check().map_err(ProcessError::System)?;
        let boot = system::boot_id().map_err(ProcessError::System)?;
        let root = make_root(&root_of(opening.store_path, &spec.name))?;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::Folder { path, source }
        };
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        let held = hold(&lock).await.map_err(at(&lock_path))?;
        let own = Master {
            store: opening.store_id.to_owned(),
            epoch: opening.epoch,
        };
        let state = State::open(&root.join("state.db"), &own)?;
        let found = state.master()?;
        if found.store == own.store && found.epoch > own.epoch {
            return Err(ProcessError::OldStore {
                path: root,
                found: found.epoch,
                own: own.epoch,
            });
        }
        match opening.mode {
            // From here on whoever had it before is refused.
            Mode::Act => state.set_master(&own)?,
            Mode::Rehearse => {}
        }
        drop(held);
        let fleet = Rc::new(Self {
            name: spec.name.clone(),
            settings: settings.clone(),
            ended_shown: spec.interval * 2,
            root,
            store: own.store,
            epoch: Cell::new(own.epoch),
            mode: opening.mode,
            boot,
            clock: SystemClock::new(opening.latest),
            state,
            lock,
            children: RefCell::default(),
            stopping: Notify::new(),
        });
        let ended = signal(SignalKind::child()).map_err(ProcessError::System)?;
        tokio::task::spawn_local(Rc::clone(&fleet).keep(ended));
        Ok(fleet)
    }

    /// Waits for children that end, and ends for good what does not end in
    /// time, for as long as the daemon runs.
    async fn keep(self: Rc<Self>, mut ended: SignalStream) {
        loop {
            tokio::select! {
                _ = ended.recv() => self.reap(),
                () = self.stopping.notified() => {
                    let fleet = Rc::clone(&self);
                    // Not waited for here: children end meanwhile.
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(fleet.settings.stop_grace).await;
                        if let Err(error) = fleet.look_after().await {
                            warn!(fleet = %fleet.name, %error, "workers were not looked after");
                        }
                    });
                }
            }
        }
    }

    /// Looks at all workers, and ends what was to end long ago.
    async fn look_after(&self) -> Result<Vec<Seen>, FleetError> {
        let _held = self.hold().await?;
        self.refuse_stale(self.epoch.get())?;
        let now = self.clock.now();
        let seen = self.survey(now)?;
        match self.mode {
            Mode::Act => {
                self.end_overdue(&seen, now)?;
                self.tidy(&seen, now)?;
            }
            Mode::Rehearse => {}
        }
        Ok(seen)
    }

    async fn hold(&self) -> Result<Held<'_>, FleetError> {
        hold(&self.lock).await.map_err(|error| {
            let what = format!("cannot lock {}: {error}", self.root.display());
            FleetError::Unknown(what)
        })
    }

    /// Refuses whoever is not the newest start of the store that has the fleet.
    fn refuse_stale(&self, epoch: Epoch) -> Result<(), Trouble> {
        let master = self.state.master()?;
        if master.store != self.store || epoch < master.epoch {
            return Err(Trouble::Stale);
        }
        if epoch > master.epoch && self.mode == Mode::Act {
            self.state.set_master(&Master { epoch, ..master })?;
        }
        self.epoch.set(epoch);
        Ok(())
    }

    /// Takes in how children ended, so that no zombie is left.
    fn reap(&self) {
        for (pid, how) in self.children.borrow_mut().iter_mut() {
            if how.is_none() {
                *how = system::reap(*pid);
            }
        }
    }

    /// Every process that carries a tag of this fleet, by worker.
    fn tagged(&self) -> io::Result<BTreeMap<String, Vec<Tagged>>> {
        let mut by_worker: BTreeMap<String, Vec<Tagged>> = BTreeMap::new();
        let ours = |told: &BTreeMap<String, String>| {
            let (Some(fleet), Some(id), Some(folder)) = (
                told.get(told::FLEET),
                told.get(told::INSTANCE),
                told.get(told::FOLDER),
            ) else {
                return false;
            };
            *fleet == self.name && is_plain(id) && Path::new(folder) == self.root.join(id)
        };
        for tagged in system::scan(OWN_NAMES, ours)? {
            let id = tagged.told.get(told::INSTANCE).cloned().unwrap_or_default();
            by_worker.entry(id).or_default().push(tagged);
        }
        Ok(by_worker)
    }

    /// What there is: every worker that is known or found, and what is left of
    /// it. Writes down what is new: processes found, workers that ended.
    fn survey(&self, now: Timestamp) -> Result<Vec<Seen>, Trouble> {
        self.reap();
        let mut tagged = self.tagged()?;
        self.adopt(&tagged, now)?;
        let mut seen = Vec::new();
        for mut worker in self.state.workers()? {
            let mine = tagged.remove(&worker.id).unwrap_or_default();
            if worker.process.is_none()
                && let Some(leader) = mine.iter().find(|tagged| tagged.leads)
            {
                self.state
                    .set_process(&worker.id, &self.boot, leader.process)?;
                worker.process = Some((self.boot.clone(), leader.process));
            }
            let main = match &worker.process {
                Some((boot, process)) if *boot == self.boot => Some(*process),
                _ => None,
            };
            let main = match main {
                Some(process) if system::is_alive(process)? => Some(process),
                _ => None,
            };
            let mut processes: Vec<Process> = mine.iter().map(|tagged| tagged.process).collect();
            processes.extend(main.filter(|main| !processes.contains(main)));
            if processes.is_empty() {
                self.settle_end(&mut worker, now)?;
            } else if main.is_none() && worker.stopped_at.is_none() && self.mode == Mode::Act {
                // The worker has ended and left others behind.
                self.stop(&worker, &processes, now)?;
                worker.stopped_at = Some(now);
            }
            seen.push(Seen { worker, processes });
        }
        Ok(seen)
    }

    /// Takes in workers that run and that nothing was known of any more.
    fn adopt(&self, tagged: &BTreeMap<String, Vec<Tagged>>, now: Timestamp) -> Result<(), Trouble> {
        let known = self.state.workers()?;
        for (id, processes) in tagged {
            match known.iter().find(|worker| worker.id == *id) {
                Some(worker) if worker.ended_at.is_none() => {}
                // It was taken for ended while it forked.
                Some(_) => self.state.revive(id)?,
                None => {
                    let token = processes[0].told.get(told::TOKEN).cloned();
                    warn!(fleet = %self.name, instance = %id, "a worker that nothing was known of runs, and is adopted");
                    self.state.adopt(id, token.as_deref(), now)?;
                }
            }
        }
        Ok(())
    }

    /// Writes down that nothing is left of `worker`, if that is so.
    fn settle_end(&self, worker: &mut Worker, now: Timestamp) -> Result<(), Trouble> {
        if worker.ended_at.is_some() {
            return Ok(());
        }
        let how = match &worker.process {
            None if now.since(worker.asked_at) < START_PATIENCE => return Ok(()),
            None => "windlass was cut short before it started it".to_owned(),
            Some((_, process)) => {
                let child = self.children.borrow_mut().remove(&process.pid);
                let how = match child {
                    // It ended since all were waited for.
                    Some(None) => system::reap(process.pid),
                    Some(how) => how,
                    None => None,
                };
                how.unwrap_or_else(|| "nobody knows how".to_owned())
            }
        };
        self.state.set_ended(&worker.id, now, &how)?;
        let log = Folder::new(&self.root, &worker.id).log_path();
        let own_accord = worker.stopped_at.is_none() && worker.fenced_at.is_none();
        if own_accord && worker.process.is_some() {
            warn!(fleet = %self.name, instance = %worker.id, %how, log = %log.display(), "a worker ended by itself");
        } else {
            debug!(fleet = %self.name, instance = %worker.id, %how, "a worker has ended");
        }
        worker.ended_at = Some(now);
        Ok(())
    }

    /// Tells all `processes` of `worker` to end.
    fn stop(&self, worker: &Worker, processes: &[Process], now: Timestamp) -> Result<(), Trouble> {
        // Written down after it is done: a worker that was to hear it and did
        // not, because windlass was cut short, would be listed as ending.
        for process in processes {
            system::send(*process, Signal::TERM)?;
        }
        self.state.set_stopped(&worker.id, now)?;
        self.stopping.notify_one();
        Ok(())
    }

    /// Ends for good what was told to end and has had its time.
    fn end_overdue(&self, seen: &[Seen], now: Timestamp) -> Result<(), Trouble> {
        for Seen { worker, processes } in seen {
            let overdue = worker
                .stopped_at
                .is_some_and(|at| now.since(at) >= self.settings.stop_grace);
            if !overdue || processes.is_empty() {
                continue;
            }
            info!(fleet = %self.name, instance = %worker.id, "a worker did not end in time and is killed");
            let mut first = Some(processes.clone());
            system::kill_all(|| {
                let mut found = first.take().unwrap_or_default();
                let tagged = self.tagged()?.remove(&worker.id).unwrap_or_default();
                found.extend(tagged.into_iter().map(|tagged| tagged.process));
                Ok(found)
            })?;
        }
        Ok(())
    }

    /// Cuts logs, and forgets workers that have ended long ago.
    fn tidy(&self, seen: &[Seen], now: Timestamp) -> Result<(), Trouble> {
        for Seen { worker, .. } in seen {
            let folder = Folder::new(&self.root, &worker.id);
            if let Err(error) = folder.cut_log(self.settings.log_bytes_max) {
                warn!(fleet = %self.name, instance = %worker.id, %error, "its log could not be cut");
            }
        }
        let mut ended: Vec<(Timestamp, &str)> = seen
            .iter()
            .filter_map(|seen| Some((seen.worker.ended_at?, seen.worker.id.as_str())))
            .collect();
        ended.sort_unstable();
        let forgotten = ended.len().saturating_sub(ENDED_KEPT);
        for (at, id) in &ended[..forgotten] {
            if now.since(*at) <= self.ended_shown {
                continue;
            }
            if let Err(error) = Folder::new(&self.root, id).remove() {
                warn!(fleet = %self.name, instance = %id, %error, "its folder could not be removed");
            }
            self.state.forget(id)?;
        }
        self.state.forget_launches(now)?;
        Ok(())
    }

    fn instance(&self, seen: &Seen, now: Timestamp) -> Option<Instance> {
        let worker = &seen.worker;
        let shown = match worker.ended_at {
            None => worker.process.is_some(),
            // What was never started was never an instance.
            Some(at) => worker.process.is_some() && now.since(at) <= self.ended_shown,
        };
        if !shown {
            return None;
        }
        let folder = Folder::new(&self.root, &worker.id);
        // The fence first: what is read after it was there is worth something.
        let fenced = self.is_fenced(worker, &folder);
        let ready = match self.settings.ready {
            Ready::After(span) => now.since(worker.asked_at) >= span,
            Ready::Report => folder.has_reported(),
        };
        let ending = worker.ended_at.is_some() || worker.stopped_at.is_some() || worker.given_up;
        Some(Instance {
            id: InstanceId::new(&worker.id),
            offering: OFFERING.to_owned(),
            token: worker.token.as_deref().map(LaunchToken::from_text),
            launched_at: worker.asked_at,
            phase: match (ending, ready) {
                (true, _) => Phase::Ending,
                (false, true) => Phase::Ready,
                (false, false) => Phase::Booting,
            },
            fenced,
            work: folder.work(),
            notice: None,
        })
    }

    fn is_fenced(&self, worker: &Worker, folder: &Folder) -> bool {
        match self.settings.fence {
            FenceBy::File => folder.is_fenced(),
            FenceBy::Signal => worker.fenced_at.is_some(),
        }
    }

    fn obey(&self, epoch: Epoch, action: &Action) -> Result<Outcome, Trouble> {
        self.refuse_stale(epoch)?;
        let now = self.clock.now();
        match action {
            Action::Launch {
                token,
                offering,
                count,
            } => {
                if offering != OFFERING {
                    let what = format!("there is no offering `{offering}` here, only `{OFFERING}`");
                    return Ok(Outcome::Failed(FleetError::Rejected(what)));
                }
                self.launch(token, *count, now)
            }
            Action::Fence { instance } => self.fence(instance, now),
            Action::Unfence { instance } => self.unfence(instance, now),
            Action::Terminate { instance, .. } => self.terminate(instance, now),
        }
    }

    /// Starts `count` workers, unless that was asked for before: then it tells
    /// what came of it, and starts nothing.
    fn launch(&self, token: &LaunchToken, count: u32, now: Timestamp) -> Result<Outcome, Trouble> {
        let token = token.as_str();
        if let Some(asked) = self.state.asked(token)? {
            if let Some(why) = asked.failure {
                return Ok(Outcome::Failed(FleetError::Rejected(why)));
            }
            let seen = self.survey(now)?;
            let of_launch = seen
                .iter()
                .filter(|seen| seen.worker.token.as_deref() == Some(token));
            let mut instances = Vec::new();
            for Seen { worker, .. } in of_launch {
                match (&worker.process, worker.ended_at) {
                    (Some(_), _) => instances.push(InstanceId::new(&worker.id)),
                    (None, Some(_)) => {}
                    (None, None) => {
                        let what = format!("{} may be starting just now", worker.id);
                        return Ok(Outcome::Failed(FleetError::Unknown(what)));
                    }
                }
            }
            return Ok(Outcome::Launched { instances });
        }
        let ids: Vec<String> = (0..count).map(|index| format!("{token}.{index}")).collect();
        if let Some(odd) = ids.iter().find(|id| !is_plain(id)) {
            let what = format!("`{odd}` is no name for a folder");
            return Ok(Outcome::Failed(FleetError::Rejected(what)));
        }
        self.state.begin_launch(token, &ids, now)?;
        let mut started = Vec::new();
        for id in ids {
            let outcome = self.start(&id, token).map_err(|error| {
                let program = &self.settings.command[0];
                let directory = self.settings.directory.display();
                format!("cannot start {program} in {directory}: {error}")
            });
            started.push((id, outcome));
        }
        self.state.end_launch(token, &self.boot, &started, now)?;
        let failure = started
            .iter()
            .find_map(|(_, outcome)| outcome.as_ref().err());
        let instances: Vec<InstanceId> = started
            .iter()
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(id, _)| InstanceId::new(id))
            .collect();
        match failure {
            Some(why) if instances.is_empty() => {
                Ok(Outcome::Failed(FleetError::Rejected(why.clone())))
            }
            Some(why) => {
                warn!(fleet = %self.name, started = instances.len(), %why, "not all workers could be started");
                Ok(Outcome::Launched { instances })
            }
            None => Ok(Outcome::Launched { instances }),
        }
    }

    fn start(&self, id: &str, token: &str) -> io::Result<Process> {
        let folder = Folder::new(&self.root, id);
        folder.make()?;
        let log = folder.open_log()?;
        let errors = log.try_clone()?;
        let (program, arguments) = self
            .settings
            .command
            .split_first()
            .ok_or_else(|| io::Error::other("no program"))?;
        // With a slash in it, it is a path, and meant from the directory.
        let program = if program.contains('/') {
            self.settings.directory.join(program)
        } else {
            PathBuf::from(program)
        };
        let mut command = Command::new(program);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with(OWN_NAMES)) {
            command.env_remove(name);
        }
        let child = command
            .args(arguments)
            .envs(&self.settings.environment)
            .env(told::FLEET, &self.name)
            .env(told::STORE, &self.store)
            .env(told::EPOCH, self.epoch.get().to_string())
            .env(told::TOKEN, token)
            .env(told::INSTANCE, id)
            .env(told::FOLDER, folder.path())
            .env(told::WORK, folder.work_path())
            .env(told::FENCE, folder.fence_path())
            .current_dir(&self.settings.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C on the daemon's terminal is not meant for its workers.
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        self.children.borrow_mut().insert(pid, None);
        // It is our child and not waited for: ended or not, it has its number.
        system::started_as(pid)
    }

    /// The worker `instance` and what is left of it.
    fn seen(&self, instance: &InstanceId, now: Timestamp) -> Result<Option<Seen>, Trouble> {
        let seen = self.survey(now)?;
        Ok(seen
            .into_iter()
            .find(|seen| seen.worker.id == instance.as_str()))
    }

    fn fence(&self, instance: &InstanceId, now: Timestamp) -> Result<Outcome, Trouble> {
        let Some(Seen { worker, processes }) = self.seen(instance, now)? else {
            return Ok(Outcome::Failed(FleetError::NotFound));
        };
        if processes.is_empty() {
            return Ok(Outcome::Failed(FleetError::NotFound));
        }
        let folder = Folder::new(&self.root, &worker.id);
        match self.settings.fence {
            FenceBy::File => folder.fence()?,
            FenceBy::Signal if worker.fenced_at.is_some() => {}
            FenceBy::Signal => {
                let Some((_, process)) = worker.process else {
                    return Ok(Outcome::Failed(FleetError::NotFound));
                };
                system::send(process, Signal::TERM)?;
                self.state.set_fenced(&worker.id, now)?;
            }
        }
        // What it says was said before it heard the signal, perhaps.
        let work = match (self.settings.fence, folder.work()) {
            (FenceBy::Signal, Work::Idle) => Work::Unknown,
            (_, work) => work,
        };
        Ok(Outcome::Fenced { work })
    }

    fn unfence(&self, instance: &InstanceId, now: Timestamp) -> Result<Outcome, Trouble> {
        let Some(Seen { worker, processes }) = self.seen(instance, now)? else {
            return Ok(Outcome::Failed(FleetError::NotFound));
        };
        if processes.is_empty() {
            return Ok(Outcome::Failed(FleetError::NotFound));
        }
        match self.settings.fence {
            FenceBy::File => {
                Folder::new(&self.root, &worker.id).unfence()?;
                Ok(Outcome::Unfenced)
            }
            FenceBy::Signal if worker.fenced_at.is_none() => Ok(Outcome::Unfenced),
            FenceBy::Signal => {
                // From here on it is listed as ending: another takes its place.
                self.state.give_up(&worker.id)?;
                let what = "a signal that told it to end cannot be called back".to_owned();
                Ok(Outcome::Failed(FleetError::Rejected(what)))
            }
        }
    }

    fn terminate(&self, instance: &InstanceId, now: Timestamp) -> Result<Outcome, Trouble> {
        let Some(Seen { worker, processes }) = self.seen(instance, now)? else {
            return Ok(Outcome::Failed(FleetError::NotFound));
        };
        if !processes.is_empty() && worker.stopped_at.is_none() {
            self.stop(&worker, &processes, now)?;
        }
        Ok(Outcome::Terminated)
    }
}

impl Clock for ProcessFleet {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl FleetProvider for ProcessFleet {
    async fn list(&self, _fleet: &str) -> Result<Listing, FleetError> {
        let seen = self.look_after().await?;
        let now = self.clock.now();
        let instances = seen.iter().filter_map(|seen| self.instance(seen, now));
        // Invariant: sorted by id, as the workers are.
        Ok(Listing {
            instances: instances.collect(),
            complete: true,
        })
    }

    async fn apply(&self, _fleet: &str, epoch: Epoch, action: &Action) -> Outcome {
        let _held = match self.hold().await {
            Ok(held) => held,
            Err(error) => return Outcome::Failed(error),
        };
        self.obey(epoch, action)
            .unwrap_or_else(|trouble| Outcome::Failed(trouble.into()))
    }
}

/// Whether `id` is a name that windlass gives: letters, digits, `-` and `.`.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    !id.is_empty() && id.len() <= 100 && !id.starts_with('.') && id.bytes().all(plain)
}

/// Makes the fleet's folder, for nobody but the user windlass runs as, and
/// finds its true path: the tags of workers name it.
fn make_root(path: &Path) -> Result<PathBuf, ProcessError> {
    let failed = |source| ProcessError::Folder {
        path: path.to_owned(),
        source,
    };
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    path.canonicalize().map_err(failed)
}

/// Waits for the lock as long as is reasonable.
async fn hold(lock: &File) -> io::Result<Held<'_>> {
    let give_up = tokio::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Held(lock)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= give_up => {
                let what = "another windlass holds it, and does not give it back";
                return Err(io::Error::new(ErrorKind::TimedOut, what));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
        }
    }
}
