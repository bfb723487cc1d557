//! What windlass and the workers on EC2 tell each other: `docs/workers.md`.
//!
//! A fence is a stamp that no other fence has. Windlass sets it as a tag of the
//! instance, which lasts whatever happens to either side; where workers listen
//! to Redis it is copied there. A worker looks for it before it takes a job,
//! and says what it is doing together with the stamp it saw. So an answer that
//! was given before the fence cannot be taken for one that was given after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, cmd};
use tokio::time::timeout;

use windlass_policies::model::{Epoch, FleetError, InstanceId, Work};
use windlass_policies::reconcile::Mode;
use windlass_policies::units::Timestamp;

use crate::chain;
use crate::config::WorkersSettings;
use crate::sources::RedisServer;

/// The tag that holds a fence's stamp.
pub const TAG_FENCE: &str = "windlass:fence";

/// The tag in which a worker says what it is doing.
pub const TAG_WORK: &str = "windlass:work";

/// How long Redis has for one question: it answers within a millisecond, and a
/// cycle waits for it.
const REDIS_PATIENCE: Duration = Duration::from_secs(3);

/// A worker that protects its instance looks for the fence after that, but the
/// metadata may show a tag late, and the group a protection: EC2 calls both
/// consistent in the end, and names no time. Both were there within seconds
/// wherever it was looked at; this is several times as long.
pub const PROTECTION_SETTLES: Duration = Duration::from_secs(30);

/// The stamp of a fence: which start of windlass set it, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence(String);

impl Fence {
    /// A new one.
    pub fn new(epoch: Epoch, now: Timestamp) -> Self {
        Self(format!("{epoch}-{}", now.micros()))
    }

    /// The fence that `text` says there is; none if it is empty.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The stamp as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which start of windlass set it, if it was windlass.
    pub fn epoch(&self) -> Option<Epoch> {
        let (epoch, _) = self.0.split_once('-')?;
        epoch.parse().ok().map(Epoch)
    }

    /// When it was set, if it was windlass that set it.
    pub fn at(&self) -> Option<Timestamp> {
        let (_, micros) = self.0.split_once('-')?;
        micros.parse().ok().map(Timestamp::from_micros)
    }
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is doing.
    pub work: Work,
    /// The fence it had seen when it said so.
    pub fence: Option<Fence>,
}

impl Report {
    /// Reads `idle` or `busy`, and the stamp of the fence it saw behind it:
    /// `idle 3-1772366400000000`. Anything else is a worker that says nothing
    /// one could rely on.
    pub fn read(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let work = match words.next() {
            Some("idle") => Work::Idle,
            Some("busy") => Work::Busy,
            _ => Work::Unknown,
        };
        let fence = words.next().and_then(Fence::read);
        if words.next().is_some() {
            return Self {
                work: Work::Unknown,
                fence: None,
            };
        }
        Self { work, fence }
    }

    /// Whether it was given by a worker that knew of `fence`.
    pub fn echoes(&self, fence: &Fence) -> bool {
        self.fence.as_ref() == Some(fence)
    }
}

/// What there is to see of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs<'a> {
    /// The fence in its instance's tag.
    pub fence: Option<&'a Fence>,
    /// What it last said.
    pub report: Option<&'a Report>,
    /// Whether its instance is protected from scale-in.
    pub protected: bool,
}

/// Under a fence only an answer that echoes it counts; without one, the word
/// of a worker that still sees an old fence does not matter.
fn judge_report(fence: Option<&Fence>, report: Option<&Report>) -> (bool, Work) {
    match (fence, report) {
        (Some(fence), Some(report)) if report.echoes(fence) => (true, report.work),
        (Some(_), Some(_) | None) | (None, None) => (false, Work::Unknown),
        (None, Some(report)) => (false, report.work),
    }
}

/// A worker without protection has no job; under a fence it takes none either,
/// once it must have seen that.
fn judge_protection(fence: Option<&Fence>, protected: bool, now: Timestamp) -> (bool, Work) {
    match (fence.map(Fence::at), protected) {
        (None, false) => (false, Work::Idle),
        (Some(Some(at)), false) if now.since(at) >= PROTECTION_SETTLES => (true, Work::Idle),
        (None, true) => (false, Work::Busy),
        (Some(_), true) => (true, Work::Busy),
        (Some(_), false) => (true, Work::Unknown),
    }
}

/// The way to the workers of one fleet.
#[derive(Debug)]
pub struct Workers {
    kind: Kind,
    mode: Mode,
}

#[derive(Debug)]
enum Kind {
    None,
    Tags,
    Redis(Box<Hashes>),
    Protection,
    Stateless,
}

/// What the workers of a fleet have reported.
pub type Reports = BTreeMap<InstanceId, Report>;

impl Workers {
    /// The way to the workers of `fleet` that `settings` describe. In a
    /// rehearsal it is only listened.
    pub fn new(fleet: &str, settings: &WorkersSettings, mode: Mode) -> Self {
        let kind = match settings {
            WorkersSettings::None => Kind::None,
            WorkersSettings::Tags => Kind::Tags,
            WorkersSettings::Protection => Kind::Protection,
            WorkersSettings::Stateless => Kind::Stateless,
            WorkersSettings::Redis { server, prefix } => Kind::Redis(Box::new(Hashes {
                server: server.clone(),
                fences: format!("{prefix}:{fleet}:fences"),
                workers: format!("{prefix}:{fleet}:workers"),
                connection: RefCell::new(None),
            })),
        };
        Self { kind, mode }
    }

    /// The fence that a tag says there is. One whose time nobody can read is
    /// none where its time matters: windlass sets its own over it.
    pub fn read_fence(&self, tag: &str) -> Option<Fence> {
        let fence = Fence::read(tag)?;
        match self.kind {
            Kind::Protection => fence.at().map(|_| fence),
            Kind::None | Kind::Tags | Kind::Redis(_) | Kind::Stateless => Some(fence),
        }
    }

    /// Whether an instance refuses new jobs at `now`, and what it is doing.
    pub fn judge(&self, signs: Signs<'_>, now: Timestamp) -> (bool, Work) {
        let fenced = signs.fence.is_some();
        match self.kind {
            // Nobody ever answers there: the fence stands for itself.
            Kind::None => (fenced, Work::Unknown),
            Kind::Tags | Kind::Redis(_) => judge_report(signs.fence, signs.report),
            Kind::Protection => judge_protection(signs.fence, signs.protected, now),
            Kind::Stateless => (fenced, Work::Idle),
        }
    }

    /// What the workers of the fleet say. `tagged` gives each instance with the
    /// fence of its tag and what its worker wrote in one. Where workers listen
    /// to Redis, fences that it has lost are set there again first.
    ///
    /// # Errors
    /// If Redis does not answer: then nobody's work is known.
    pub async fn reports<'a>(
        &self,
        tagged: impl Iterator<Item = (&'a InstanceId, Option<Fence>, Option<&'a str>)>,
    ) -> Result<Reports, FleetError> {
        match &self.kind {
            Kind::None | Kind::Protection | Kind::Stateless => Ok(Reports::new()),
            Kind::Tags => Ok(tagged
                .filter_map(|(id, _, work)| Some((id.clone(), Report::read(work?))))
                .collect()),
            Kind::Redis(hashes) => {
                let fences: BTreeMap<&str, Option<Fence>> =
                    tagged.map(|(id, fence, _)| (id.as_str(), fence)).collect();
                match self.mode {
                    Mode::Act => hashes.mend(&fences).await?,
                    Mode::Rehearse => {}
                }
                let all = hashes.all(&hashes.workers).await?;
                Ok(all
                    .into_iter()
                    .filter(|(id, _)| fences.contains_key(id.as_str()))
                    .map(|(id, text)| (InstanceId::new(&id), Report::read(&text)))
                    .collect())
            }
        }
    }

    /// Makes a fence known that the instance's tag has already, and gives what
    /// the worker says.
    ///
    /// # Errors
    /// If Redis does not take it.
    pub async fn fence(
        &self,
        instance: &InstanceId,
        fence: &Fence,
    ) -> Result<Option<Report>, FleetError> {
        let Kind::Redis(hashes) = &self.kind else {
            return Ok(None);
        };
        let mut set = cmd("HSET");
        set.arg(&hashes.fences)
            .arg(instance.as_str())
            .arg(fence.as_str());
        hashes.ask::<i64>(&set).await?;
        let mut get = cmd("HGET");
        get.arg(&hashes.workers).arg(instance.as_str());
        let text = hashes.ask::<Option<String>>(&get).await?;
        Ok(text.as_deref().map(Report::read))
    }

    /// Makes known that a fence is gone whose tag has been removed.
    ///
    /// # Errors
    /// If Redis does not take it.
    pub async fn unfence(&self, instance: &InstanceId) -> Result<(), FleetError> {
        match &self.kind {
            Kind::None | Kind::Tags | Kind::Protection | Kind::Stateless => Ok(()),
            Kind::Redis(hashes) => hashes.remove(&hashes.fences, &[instance.as_str()]).await,
        }
    }

    /// Forgets an instance that has ended. What is left behind does no harm, so
    /// that a failure is none.
    pub async fn forget(&self, instance: &InstanceId) {
        if let Kind::Redis(hashes) = &self.kind {
            for key in [&hashes.fences, &hashes.workers] {
                let _ = hashes.remove(key, &[instance.as_str()]).await;
            }
        }
    }
}

/// Two hashes in Redis, whose fields are instances: their fences, which
/// windlass writes, and their reports, which workers write.
struct Hashes {
    server: RedisServer,
    fences: String,
    workers: String,
    connection: RefCell<Option<MultiplexedConnection>>,
}

impl std::fmt::Debug for Hashes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hashes")
            .field("fences", &self.fences)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Hashes {
    /// Brings the hash of fences in line with the tags of the instances: those
    /// that Redis lost are set again, and those nobody has any more removed.
    async fn mend(&self, fences: &BTreeMap<&str, Option<Fence>>) -> Result<(), FleetError> {
        let there = self.all(&self.fences).await?;
        let mut set = cmd("HSET");
        set.arg(&self.fences);
        let mut missing = 0;
        for (id, fence) in fences {
            let Some(fence) = fence else { continue };
            if there.get(*id).map(String::as_str) != Some(fence.as_str()) {
                set.arg(*id).arg(fence.as_str());
                missing += 1;
            }
        }
        if missing > 0 {
            self.ask::<i64>(&set).await?;
        }
        let stale: Vec<&str> = there
            .keys()
            .map(String::as_str)
            .filter(|id| fences.get(id).is_none_or(Option::is_none))
            .collect();
        self.remove(&self.fences, &stale).await
    }

    async fn remove(&self, key: &str, fields: &[&str]) -> Result<(), FleetError> {
        if fields.is_empty() {
            return Ok(());
        }
        let mut remove = cmd("HDEL");
        remove.arg(key).arg(fields);
        self.ask::<i64>(&remove).await.map(|_| ())
    }

    async fn all(&self, key: &str) -> Result<BTreeMap<String, String>, FleetError> {
        self.ask(cmd("HGETALL").arg(key)).await
    }

    /// Asks once, and once more over a new connection if the kept one is of no
    /// more use. Everything asked here may be asked twice.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, FleetError> {
        let kept = self.connection.borrow_mut().take();
        if let Some(connection) = kept
            && let Ok(value) = self.ask_over(connection, command).await
        {
            return Ok(value);
        }
        let connection = timeout(REDIS_PATIENCE, self.server.connect())
            .await
            .map_err(|_| unreachable("no connection in time"))?
            .map_err(|why| unreachable(&why))?;
        self.ask_over(connection, command)
            .await
            .map_err(|why| unreachable(&why))
    }

    async fn ask_over<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        command: &Cmd,
    ) -> Result<T, String> {
        let answer = timeout(REDIS_PATIENCE, command.query_async::<T>(&mut connection)).await;
        let value = answer
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|error: RedisError| chain(&error).to_string())?;
        *self.connection.borrow_mut() = Some(connection);
        Ok(value)
    }
}

fn unreachable(why: &str) -> FleetError {
    FleetError::Unreachable(format!("the workers' Redis: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_the_page_on_workers_says() {
        let fence = |text: &str| Fence::read(text);
        for (text, work, seen) in [
            ("idle", Work::Idle, None),
            ("busy", Work::Busy, None),
            ("idle 3-17", Work::Idle, fence("3-17")),
            (" busy  3-17\n", Work::Busy, fence("3-17")),
            ("", Work::Unknown, None),
            ("IDLE", Work::Unknown, None),
            ("idle 3-17 4-18", Work::Unknown, None),
        ] {
            let report = Report::read(text);
            assert_eq!((report.work, report.fence), (work, seen), "{text:?}");
        }
    }

    fn workers(settings: &WorkersSettings) -> Workers {
        Workers::new("f", settings, Mode::Act)
    }

    #[test]
    fn an_idle_answer_counts_only_if_the_worker_has_seen_the_fence() {
        let now = Timestamp::from_secs(17);
        let (old, new) = (Fence::new(Epoch(3), now), Fence::new(Epoch(4), now));
        let said = |text: String| Some(Report::read(&text));
        let unseen = said("idle".to_owned());
        let outdated = said(format!("idle {}", old.as_str()));
        let seen = said(format!("idle {}", new.as_str()));
        let busy = said(format!("busy {}", new.as_str()));
        for (settings, fence, report, fenced, work) in [
            (WorkersSettings::Tags, None, &None, false, Work::Unknown),
            (WorkersSettings::Tags, None, &unseen, false, Work::Idle),
            (WorkersSettings::Tags, None, &outdated, false, Work::Idle),
            (
                WorkersSettings::Tags,
                Some(&new),
                &None,
                false,
                Work::Unknown,
            ),
            (
                WorkersSettings::Tags,
                Some(&new),
                &unseen,
                false,
                Work::Unknown,
            ),
            (
                WorkersSettings::Tags,
                Some(&new),
                &outdated,
                false,
                Work::Unknown,
            ),
            (WorkersSettings::Tags, Some(&new), &seen, true, Work::Idle),
            (WorkersSettings::Tags, Some(&new), &busy, true, Work::Busy),
            (
                WorkersSettings::None,
                Some(&new),
                &None,
                true,
                Work::Unknown,
            ),
            (WorkersSettings::None, None, &None, false, Work::Unknown),
            (WorkersSettings::Stateless, None, &None, false, Work::Idle),
            (
                WorkersSettings::Stateless,
                Some(&new),
                &None,
                true,
                Work::Idle,
            ),
        ] {
            let signs = Signs {
                fence,
                report: report.as_ref(),
                protected: false,
            };
            let judged = workers(&settings).judge(signs, now);
            assert_eq!(judged, (fenced, work), "{settings:?} {fence:?} {report:?}");
        }
    }

    #[test]
    fn an_unprotected_worker_is_idle_once_it_must_have_seen_the_fence() {
        let set = Timestamp::from_secs(1_000);
        let fence = Fence::new(Epoch(3), set);
        let settled = set + PROTECTION_SETTLES;
        let just_before = settled - Duration::from_micros(1);
        let workers = workers(&WorkersSettings::Protection);
        for (fence, protected, now, fenced, work) in [
            (None, false, set, false, Work::Idle),
            (None, true, set, false, Work::Busy),
            (Some(&fence), true, settled, true, Work::Busy),
            (Some(&fence), false, set, true, Work::Unknown),
            (Some(&fence), false, just_before, true, Work::Unknown),
            (Some(&fence), false, settled, true, Work::Idle),
            // The clock of another machine, which set it, is ahead.
            (Some(&fence), false, Timestamp::EPOCH, true, Work::Unknown),
        ] {
            let signs = Signs {
                fence,
                protected,
                report: None,
            };
            let judged = workers.judge(signs, now);
            assert_eq!(judged, (fenced, work), "{fence:?} {protected} {now}");
        }
        assert_eq!(workers.read_fence(fence.as_str()), Some(fence));
        assert_eq!(workers.read_fence("by hand"), None);
    }

    #[test]
    fn a_stamp_says_who_set_it() {
        let fence = Fence::new(Epoch(12), Timestamp::from_secs(1));
        assert_eq!(fence.as_str(), "12-1000000");
        assert_eq!(fence.epoch(), Some(Epoch(12)));
        assert_eq!(fence.at(), Some(Timestamp::from_secs(1)));
        assert_eq!(Fence::read("by hand").and_then(|fence| fence.epoch()), None);
        assert_eq!(Fence::read("  "), None);
    }
}
