//! Self-tuning in the daemon: when records are replayed, at what cost, and what
//! becomes of what is found. What is better is found out elsewhere
//! ([`windlass_simulator::self_tuning`]).
//!
//! The work is that of one thread of the lowest priority, in pieces of some
//! milliseconds with rests in between. It reads the store by itself and writes
//! nothing: what it comes to is written down by the daemon's own thread, and
//! only then followed. A stop does not wait for it.

use std::fs;
use std::future::pending;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use windlass_policies::ports::StoreError;
use windlass_policies::reconcile::Mode;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::Timestamp;
use windlass_simulator::self_tuning::{
    Following, Found, Input, Look, Next, Own, Report, Settings, Stopped, TICKS_MAX, Verdict, judge,
    look_back, next,
};

use crate::chain;
use crate::clock;
use crate::config::{Config, Fleet, SelfTuning, TuningConfig};
use crate::store::{Followed, History, OpenError, SqliteStore};

/// How often it is looked whether a file was edited by which something is followed.
const FILES_EVERY: Duration = Duration::from_secs(2);

/// Work of so much processor time is followed by its rest.
const PIECE: Duration = Duration::from_millis(2);

/// A fleet as it is run now, for its loop.
pub type InForce = watch::Receiver<Arc<FleetSpec>>;

/// All fleets of the daemon that are tuned.
pub struct SelfTuner {
    store: Rc<SqliteStore>,
    path: PathBuf,
    config: TuningConfig,
    fleets: Vec<Tuned>,
    /// The configuration.
    file: Option<Watched>,
}

/// One fleet that is tuned.
struct Tuned {
    /// As its file says.
    base: Arc<FleetSpec>,
    own: Own,
    mode: SelfTuning,
    in_force: watch::Sender<Arc<FleetSpec>>,
    following: Option<Following>,
    /// When what it follows changed last.
    changed: Option<Timestamp>,
    /// Its policy file.
    file: Option<Watched>,
    /// Whether the files it was read from are still the same.
    edited: bool,
}

/// A file as it was when the daemon started.
struct Watched {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        let content = fs::read(&path).ok();
        Self { path, content }
    }

    fn edited(&self) -> bool {
        fs::read(&self.path).ok() != self.content
    }
}

/// What a thread is to find out.
enum Question {
    /// Whether something is better.
    Better,
    /// Whether what is followed is worse than the policy of the file.
    Worse,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it was stopped")]
    Stopped,
}

impl SelfTuner {
    /// Takes up what `store` says is followed.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn new(config: &Config, store: &Rc<SqliteStore>) -> Self {
        Self {
            store: Rc::clone(store),
            path: config.store.path.clone(),
            config: config.tuning.clone(),
            fleets: Vec::new(),
            file: config.path.clone().map(Watched::new),
        }
    }

    /// Adds `fleet`, and gives what it is run as: as its file says, or under
    /// what was followed when the daemon stopped, if nothing was edited since.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn add(&mut self, fleet: &Fleet, mode: Mode) -> Result<InForce, StoreError> {
        let base = Arc::new(fleet.spec.clone());
        let name = &base.name;
        let (in_force, receiver) = watch::channel(Arc::clone(&base));
        // What only rehearses follows nothing.
        let self_tuning = match (fleet.self_tuning, mode) {
            (SelfTuning::Act, Mode::Rehearse) => SelfTuning::Advise,
            (chosen, Mode::Act | Mode::Rehearse) => chosen,
        };
        let fingerprint = base.fingerprint();
        let all = self.store.history().followed(name)?;
        let last = all.into_iter().rfind(|one| one.base == fingerprint);
        let changed = last.as_ref().map(|last| last.at);
        let following = last.and_then(|last| {
            let found = last.found?;
            let since = last.at;
            Some(Following { found, since })
        });
        let mut tuned = Tuned {
            own: fleet.own.clone(),
            mode: self_tuning,
            following,
            changed,
            file: fleet.policy_path.clone().map(Watched::new),
            edited: false,
            in_force,
            base,
        };
        if tuned.following.is_some() {
            if tuned.mode == SelfTuning::Act {
                tuned.run_as_followed();
                if let Some(following) = &tuned.following {
                    info!(fleet = %tuned.base.name, follows = %following.found, since = %following.since, "goes on following what self-tuning found");
                }
            } else if mode == Mode::Act {
                tuned.go_back(&self.store, "self_tuning is no longer \"act\"")?;
            } else {
                tuned.following = None;
            }
        }
        // Of one that is not tuned the sender goes, and its loop keeps the last value.
        if tuned.mode != SelfTuning::Off {
            self.fleets.push(tuned);
        }
        Ok(receiver)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.fleets.is_empty()
    }

    /// Tunes whenever it is `due`, and looks back at what is followed `hourly`,
    /// until `stop` says so.
    pub async fn run(
        mut self,
        due: Arc<Notify>,
        hourly: Arc<Notify>,
        mut stop: watch::Receiver<bool>,
    ) {
        if self.missed() {
            due.notify_one();
        }
        loop {
            let question = tokio::select! {
                biased;
                _ = stop.changed() => return,
                () = due.notified() => Question::Better,
                () = hourly.notified() => Question::Worse,
                () = self.next_look() => {
                    self.look_at_files();
                    continue;
                }
            };
            for place in 0..self.fleets.len() {
                if matches!(question, Question::Better) {
                    self.ask(place, &Question::Worse, &mut stop).await;
                }
                self.ask(place, &question, &mut stop).await;
                if *stop.borrow() {
                    return;
                }
            }
        }
    }

    /// Whether a tuning was due while the daemon did not run, or was cut off. One
    /// that was cut off twice is left for the next time: it may be what ended the
    /// daemon.
    fn missed(&self) -> bool {
        let fired = self.config.zone.fired(&self.config.schedule, clock::now());
        let missed = |tuned: &Tuned| {
            let history = self.store.history();
            let name = &tuned.base.name;
            let (Ok(tunings), Ok(Some(_))) = (history.tunings(name, 2), history.latest(name))
            else {
                return false;
            };
            let cut_off = tunings.iter().filter(|one| one.report.is_none()).count();
            match tunings.first() {
                None => true,
                Some(last) if last.report.is_none() => cut_off < 2,
                Some(last) => fired.is_some_and(|fired| last.begun_at < fired),
            }
        };
        self.fleets.iter().any(missed)
    }

    /// Waits until it is time to look at the files; for ever if nothing hangs on
    /// them.
    async fn next_look(&self) {
        if self.fleets.iter().all(|tuned| tuned.following.is_none()) {
            return pending().await;
        }
        sleep_until(Instant::now() + FILES_EVERY).await;
    }

    /// Goes back to the policy of the file where a file was edited.
    fn look_at_files(&mut self) {
        let edited = self.file.as_ref().is_some_and(Watched::edited);
        for tuned in &mut self.fleets {
            let own = tuned.file.as_ref().is_some_and(Watched::edited);
            tuned.edited |= edited || own;
            if tuned.edited && tuned.following.is_some() {
                let why = "its configuration was edited; start windlass again to use that";
                if let Err(error) = tuned.go_back(&self.store, why) {
                    warn!(fleet = %tuned.base.name, error = %chain(&error), "cannot go back to the policy of the file");
                }
            }
        }
    }

    /// Asks one question of one fleet, and does what follows.
    async fn ask(&mut self, place: usize, question: &Question, stop: &mut watch::Receiver<bool>) {
        let tuned = &self.fleets[place];
        if tuned.edited || (matches!(question, Question::Worse) && tuned.following.is_none()) {
            return;
        }
        let name = tuned.base.name.clone();
        let base = tuned.base.fingerprint();
        let number = match question {
            Question::Better => match self.store.begin_tuning(&name, &base, clock::now()) {
                Ok(number) => Some(number),
                Err(error) => {
                    warn!(fleet = %name, error = %chain(&error), "the record is not replayed");
                    return;
                }
            },
            Question::Worse => None,
        };
        let job = Job {
            store: self.path.clone(),
            base: Arc::clone(&tuned.base),
            own: tuned.own.clone(),
            following: tuned.following.clone(),
            settings: self.config.settings,
            share_percent: self.config.cpu_share_percent,
            worse: matches!(question, Question::Worse),
        };
        let Some((_stopper, mut answer)) = job.start() else {
            warn!(fleet = %name, "the record is not replayed: no thread can be started");
            return;
        };
        let answer = loop {
            tokio::select! {
                biased;
                // Its end stops the thread, for which nobody waits.
                _ = stop.changed() => return,
                answer = &mut answer => break answer,
                () = self.next_look() => self.look_at_files(),
            }
        };
        let report = match answer {
            Ok(Ok(Some(report))) => report,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                warn!(fleet = %name, error = %chain(&error), "the record is not replayed");
                return;
            }
            Err(_) => {
                warn!(fleet = %name, "the record is not replayed: the thread has ended, which is a bug");
                return;
            }
        };
        if let Err(error) = self.heed(place, number, &report) {
            warn!(fleet = %name, error = %chain(&error), "what self-tuning found is not written down, so it is not followed");
        }
    }

    /// Writes `report` down and does what it asks for.
    fn heed(
        &mut self,
        place: usize,
        number: Option<i64>,
        report: &Report,
    ) -> Result<(), StoreError> {
        let tuned = &mut self.fleets[place];
        let name = tuned.base.name.clone();
        let number = match (number, &report.verdict) {
            (Some(number), _) => Some(number),
            // Of what was looked back at, only what changes something is kept.
            (None, Verdict::Worse { .. }) => {
                let base = tuned.base.fingerprint();
                Some(self.store.begin_tuning(&name, &base, clock::now())?)
            }
            (None, _) => None,
        };
        if let Some(number) = number {
            self.store.finish_tuning(number, report)?;
        }
        debug!(fleet = %name, %report, "the record was replayed");
        let settings = &self.config.settings;
        match next(report, tuned.following.as_ref(), tuned.changed, settings) {
            Next::Stay => Ok(()),
            Next::Wait { until } => {
                info!(fleet = %name, advice = %report, %until, "another policy is better; what is followed is held for a while");
                Ok(())
            }
            Next::Follow(found) if tuned.mode == SelfTuning::Act && !tuned.edited => {
                tuned.follow(&self.store, found, report)
            }
            Next::Follow(_) => {
                info!(fleet = %name, advice = %report, "another policy is better: `windlass advice` shows it");
                Ok(())
            }
            Next::Back => tuned.go_back(&self.store, &report.to_string()),
        }
    }
}

impl Tuned {
    fn follow(
        &mut self,
        store: &SqliteStore,
        found: Found,
        report: &Report,
    ) -> Result<(), StoreError> {
        // From the next decision on, which is later than the record's end.
        let since = store
            .history()
            .latest(&self.base.name)?
            .map_or(report.at, |latest| latest.max(report.at));
        let following = Following { found, since };
        let followed = Followed {
            at: since,
            base: self.base.fingerprint(),
            spec: following.spec(&self.base).fingerprint(),
            found: Some(following.found.clone()),
            why: report.to_string(),
        };
        store.follow(&self.base.name, &followed)?;
        info!(fleet = %self.base.name, follows = %following.found, why = %report, "follows another policy from now on");
        self.following = Some(following);
        self.changed = Some(since);
        self.run_as_followed();
        Ok(())
    }

    fn run_as_followed(&self) {
        if let Some(following) = &self.following {
            self.in_force
                .send_replace(Arc::new(following.spec(&self.base)));
        }
    }

    /// Back to the policy of the file: that is done even if it cannot be written
    /// down, since it is what the file says.
    fn go_back(&mut self, store: &SqliteStore, why: &str) -> Result<(), StoreError> {
        self.in_force.send_replace(Arc::clone(&self.base));
        let since = self.following.take().map(|following| following.since);
        let latest = store.history().latest(&self.base.name)?;
        let at = latest.or(since).unwrap_or_default();
        self.changed = Some(at);
        info!(fleet = %self.base.name, why, "follows the policy of its file again");
        store.follow(
            &self.base.name,
            &Followed {
                at,
                base: self.base.fingerprint(),
                spec: self.base.fingerprint(),
                found: None,
                why: why.to_owned(),
            },
        )
    }
}

/// Everything a thread needs.
struct Job {
    store: PathBuf,
    base: Arc<FleetSpec>,
    own: Own,
    following: Option<Following>,
    settings: Settings,
    share_percent: u32,
    worse: bool,
}

type Answer = Result<Option<Report>, Unanswered>;

impl Job {
    /// Starts it. It stops soon after the sender is gone.
    fn start(self) -> Option<(mpsc::Sender<()>, oneshot::Receiver<Answer>)> {
        let (stopper, stop) = mpsc::channel();
        let (teller, answer) = oneshot::channel();
        let work = move || {
            lower_priority();
            // Nobody listens any more if the daemon stops.
            let _ = teller.send(self.work(&stop));
        };
        let started = thread::Builder::new()
            .name("self-tuning".to_owned())
            .spawn(work);
        started.ok().map(|_| (stopper, answer))
    }

    fn work(&self, stop: &mpsc::Receiver<()>) -> Answer {
        let mut pace = Pace::new(self.share_percent, stop);
        let looks: Vec<Look> = {
            let history = History::open(&self.store)?;
            history.looks(&self.base.name, TICKS_MAX)?
        };
        let input = Input {
            spec: &self.base,
            own: &self.own,
            following: self.following.as_ref(),
            looks: &looks,
            settings: &self.settings,
        };
        let mut rest = || pace.rest();
        let came_to = if self.worse {
            look_back(input, &mut rest)
        } else {
            judge(input, &mut rest).map(Some)
        };
        came_to.map_err(|Stopped| Unanswered::Stopped)
    }
}

/// Keeps a thread to its share of a core.
struct Pace<'a> {
    share_percent: u32,
    stop: &'a mpsc::Receiver<()>,
    /// The processor time of this thread after the last rest.
    rested: Duration,
}

impl<'a> Pace<'a> {
    fn new(share_percent: u32, stop: &'a mpsc::Receiver<()>) -> Self {
        Self {
            share_percent: share_percent.clamp(1, 100),
            stop,
            rested: worked(),
        }
    }

    /// Rests for as long as what was worked since the last rest asks for.
    fn rest(&mut self) -> ControlFlow<()> {
        let work = worked().saturating_sub(self.rested);
        if work < PIECE {
            return ControlFlow::Continue(());
        }
        // A stop is heard at once in it, however long it is.
        let rest = rest_for(work, self.share_percent);
        let heard = self.stop.recv_timeout(rest);
        self.rested = worked();
        match heard {
            Err(RecvTimeoutError::Timeout) => ControlFlow::Continue(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(()),
        }
    }
}

/// The rest after which `work` was the share.
fn rest_for(work: Duration, share_percent: u32) -> Duration {
    work * (100 - share_percent) / share_percent
}

/// Processor time of this thread.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The other threads come first. What the system does not allow is done without.
fn lower_priority() {
    // Elsewhere than on Linux this would be the priority of the whole program.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_leave_the_share() {
        let work = Duration::from_millis(10);
        for (share, rest) in [(100, 0), (50, 10), (25, 30), (10, 90), (1, 990)] {
            assert_eq!(rest_for(work, share), Duration::from_millis(rest));
        }
    }

    #[test]
    fn a_thread_keeps_to_its_share_and_stops_in_a_rest() {
        let (stopper, stop) = mpsc::channel::<()>();
        let mut pace = Pace::new(20, &stop);
        let (began, before) = (std::time::Instant::now(), worked());
        let since = || worked().saturating_sub(before);
        while since() < Duration::from_millis(60) {
            assert_eq!(pace.rest(), ControlFlow::Continue(()));
        }
        let least = since().saturating_sub(2 * PIECE) * 4;
        assert!(began.elapsed() > least, "{:?}", began.elapsed());
        drop(stopper);
        while pace.rest().is_continue() {}
    }

    #[test]
    fn a_file_is_edited_when_it_says_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        fs::write(&path, "a").expect("written");
        let watched = Watched::new(path.clone());
        assert!(!watched.edited());
        fs::write(&path, "b").expect("written");
        assert!(watched.edited());
        fs::write(&path, "a").expect("written");
        assert!(!watched.edited());
        fs::remove_file(&path).expect("removed");
        assert!(watched.edited());
    }
}
