//! A fleet of real processes, through the port that the daemon uses.

use std::process::Child;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::LocalSet;
use windlass_policies::fields::Document;
use windlass_policies::quote::Quotes;
use windlass_policies::reconcile::Mode;
use windlass_policies::spec;
use windlass_policies::units::MicroUsdPerHour;

use super::*;
use crate::config::Config;
use crate::fleets::Shared;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says that it is idle, and waits to be ended.
const IDLE: &str = "echo idle > $WINDLASS_WORK; exec sleep 1000";

/// A folder for a fleet. Whatever of it still runs is ended with it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("w.db")
    }

    fn root(&self) -> PathBuf {
        root_of(&self.store(), "jobs")
    }

    async fn open(
        &self,
        store: &str,
        epoch: u64,
        script: &str,
        change: impl FnOnce(&mut ProcessSettings),
    ) -> Result<Rc<ProcessFleet>, ProcessError> {
        self.open_in(Mode::Act, store, epoch, script, change).await
    }

    async fn open_in(
        &self,
        mode: Mode,
        store: &str,
        epoch: u64,
        script: &str,
        change: impl FnOnce(&mut ProcessSettings),
    ) -> Result<Rc<ProcessFleet>, ProcessError> {
        let mut settings = ProcessSettings {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: BTreeMap::new(),
            directory: self.0.path().to_owned(),
            slots: 1,
            price: MicroUsdPerHour::ZERO,
            ready: Ready::Report,
            fence: FenceBy::File,
            stop_grace: Duration::from_secs(20),
            log_bytes_max: 1_000_000,
        };
        change(&mut settings);
        let opening = Opening {
            mode,
            store_path: &self.store(),
            store_id: store,
            epoch: Epoch(epoch),
            latest: None,
            prices: &Quotes::new(),
            shared: &Shared::new(&Config::open(None).expect("the example is right")),
            nudge: &Arc::new(Notify::new()),
            due: &Rc::default(),
        };
        ProcessFleet::open(&fleet_spec(&settings), &settings, opening).await
    }

    /// Every process that carries the tag of this place, whoever knows of it.
    fn running(&self) -> Vec<Tagged> {
        let root = self.root().canonicalize().expect("made");
        system::scan(OWN_NAMES, |told| {
            told.get(told::FOLDER)
                .is_some_and(|folder| Path::new(folder).starts_with(&root))
        })
        .expect("readable")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.root().exists() {
            for tagged in self.running() {
                let _ended_already = system::send(tagged.process, Signal::KILL);
            }
        }
    }
}

fn fleet_spec(settings: &ProcessSettings) -> FleetSpec {
    let text = "interval = \"30s\"\n[limits]\nmax = 9\nmax_usd_per_hour = 1\n\
                [[policy]]\nkind = \"fixed\"\ninstances = 1\n";
    Document::parse(text)
        .expect("TOML")
        .read(|fields| spec::read_fleet(fields, "jobs", vec![settings.offering()]))
        .expect("a fleet")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, future)
}

fn launch(token: &str, count: u32) -> Action {
    Action::Launch {
        token: LaunchToken::from_text(token),
        offering: OFFERING.to_owned(),
        count,
    }
}

fn fence(id: &InstanceId) -> Action {
    Action::Fence {
        instance: id.clone(),
    }
}

fn terminate(id: &InstanceId) -> Action {
    let receipt = "{\"fenced_at\":1,\"grounds\":\"confirmed_idle\"}";
    Action::Terminate {
        instance: id.clone(),
        receipt: serde_json::from_str(receipt).expect("a receipt"),
    }
}

async fn apply(fleet: &ProcessFleet, action: &Action) -> Outcome {
    fleet.apply("jobs", fleet.epoch.get(), action).await
}

async fn launched(fleet: &ProcessFleet, token: &str, count: u32) -> Vec<InstanceId> {
    match apply(fleet, &launch(token, count)).await {
        Outcome::Launched { instances } => instances,
        other => panic!("{other}"),
    }
}

/// The instances once they are as `wanted`.
async fn listed(fleet: &ProcessFleet, wanted: impl Fn(&[Instance]) -> bool) -> Vec<Instance> {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let instances = fleet.list("jobs").await.expect("a listing").instances;
        if wanted(&instances) {
            return instances;
        }
        assert!(tokio::time::Instant::now() < give_up, "{instances:?}");
        tokio::task::yield_now().await;
    }
}

fn all(phase: Phase) -> impl Fn(&[Instance]) -> bool {
    move |instances| instances.iter().all(|instance| instance.phase == phase)
}

#[test]
fn a_worker_lives_and_is_let_go() {
    block_on(async {
        let place = Place::new();
        let fleet = place.open("aaa", 1, IDLE, |_| {}).await.expect("opened");
        let ids = launched(&fleet, "t", 2).await;
        assert_eq!(ids.len(), 2);
        let instances = listed(&fleet, |found| {
            all(Phase::Ready)(found) && found.iter().all(|one| one.work == Work::Idle)
        })
        .await;
        assert_eq!(instances.len(), 2);
        assert!(
            instances
                .iter()
                .all(|one| !one.fenced && one.token.is_some())
        );

        let outcome = apply(&fleet, &fence(&ids[0])).await;
        assert_eq!(outcome, Outcome::Fenced { work: Work::Idle });
        assert!(Folder::new(&fleet.root, ids[0].as_str()).is_fenced());
        let unfence = Action::Unfence {
            instance: ids[0].clone(),
        };
        assert_eq!(apply(&fleet, &unfence).await, Outcome::Unfenced);
        assert!(listed(&fleet, |_| true).await.iter().all(|one| !one.fenced));

        for _again in 0..2 {
            assert_eq!(
                apply(&fleet, &terminate(&ids[0])).await,
                Outcome::Terminated
            );
        }
        listed(&fleet, |_| place.running().len() == 1).await;
        let instances = listed(&fleet, |_| true).await;
        assert_eq!(instances.len(), 2, "what has ended is shown for a while");
        assert_eq!(instances[0].phase, Phase::Ending);
        assert_eq!(instances[1].phase, Phase::Ready);
        let missing = InstanceId::new("none");
        assert_eq!(
            apply(&fleet, &fence(&missing)).await,
            Outcome::Failed(FleetError::NotFound)
        );
        let zombies = fleet
            .children
            .borrow()
            .keys()
            .filter(|pid| system::reap(**pid).is_some())
            .count();
        assert_eq!(zombies, 0, "all that ended were waited for");
    });
}

#[test]
fn a_launch_is_made_once_whoever_asks() {
    block_on(async {
        let place = Place::new();
        let fleet = place.open("aaa", 1, IDLE, |_| {}).await.expect("opened");
        let first = launched(&fleet, "t", 2).await;
        assert_eq!(launched(&fleet, "t", 2).await, first);
        drop(fleet);
        let fleet = place
            .open("aaa", 2, IDLE, |_| {})
            .await
            .expect("opened again");
        assert_eq!(launched(&fleet, "t", 2).await, first);
        assert_eq!(place.running().len(), 2);
        listed(&fleet, all(Phase::Ready)).await;
        // What ended meanwhile does not come back by asking.
        apply(&fleet, &terminate(&first[1])).await;
        listed(&fleet, |_| place.running().len() == 1).await;
        assert_eq!(launched(&fleet, "t", 2).await, first);
        assert_eq!(place.running().len(), 1);
    });
}

/// A daemon that was cut short after it wrote a launch down, before and after
/// it started the worker.
#[test]
fn a_launch_that_was_cut_short_is_settled_by_what_runs() {
    block_on(async {
        let place = Place::new();
        let fleet = place.open("aaa", 1, IDLE, |_| {}).await.expect("opened");
        let ids = ["t.0", "t.1", "t.2"].map(str::to_owned);
        fleet
            .state
            .begin_launch("t", &ids, fleet.now())
            .expect("written");
        fleet.start("t.1", "t").expect("started");
        drop(fleet);
        let fleet = place
            .open("aaa", 2, IDLE, |_| {})
            .await
            .expect("opened again");
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let instances = loop {
            match apply(&fleet, &launch("t", 3)).await {
                Outcome::Launched { instances } => break instances,
                Outcome::Failed(FleetError::Unknown(_)) => {}
                other => panic!("{other}"),
            }
            assert!(tokio::time::Instant::now() < give_up);
        };
        assert_eq!(instances, [InstanceId::new("t.1")]);
        let shown = listed(&fleet, all(Phase::Ready)).await;
        assert_eq!(shown.len(), 1, "what was never started is no instance");
        assert_eq!(place.running().len(), 1);
    });
}

#[test]
fn workers_are_found_again_though_everything_written_was_lost() {
    block_on(async {
        let place = Place::new();
        let fleet = place.open("aaa", 7, IDLE, |_| {}).await.expect("opened");
        let ids = launched(&fleet, "t", 2).await;
        drop(fleet);
        fs::remove_dir_all(place.root()).expect("removed");
        let fleet = place
            .open("bbb", 1, IDLE, |_| {})
            .await
            .expect("begun anew");
        let shown = listed(&fleet, |_| true).await;
        let found: Vec<InstanceId> = shown.iter().map(|one| one.id.clone()).collect();
        assert_eq!(found, ids);
        assert_eq!(shown[0].token, Some(LaunchToken::from_text("t")));
        for id in &ids {
            assert_eq!(apply(&fleet, &terminate(id)).await, Outcome::Terminated);
        }
        listed(&fleet, |_| place.running().is_empty()).await;
    });
}

#[test]
fn an_older_start_and_a_store_that_was_replaced_are_refused() {
    block_on(async {
        let place = Place::new();
        let older = place.open("aaa", 1, IDLE, |_| {}).await.expect("opened");
        let newer = place.open("aaa", 2, IDLE, |_| {}).await.expect("opened");
        assert_eq!(
            apply(&older, &launch("t", 1)).await,
            Outcome::Failed(FleetError::StaleEpoch)
        );
        assert_eq!(older.list("jobs").await, Err(FleetError::StaleEpoch));
        assert_eq!(launched(&newer, "t", 1).await.len(), 1);
        let stale = newer.apply("jobs", Epoch(1), &launch("u", 1)).await;
        assert_eq!(stale, Outcome::Failed(FleetError::StaleEpoch));
        let error = place
            .open("aaa", 1, IDLE, |_| {})
            .await
            .expect_err("an old copy");
        assert!(matches!(error, ProcessError::OldStore { .. }), "{error}");
        let other = place
            .open("bbb", 1, IDLE, |_| {})
            .await
            .expect("begun anew");
        assert_eq!(
            apply(&newer, &launch("v", 1)).await,
            Outcome::Failed(FleetError::StaleEpoch)
        );
        assert_eq!(listed(&other, |_| true).await.len(), 1);
        assert_eq!(place.running().len(), 1);
    });
}

/// A process that is none of ours and has the number of one that was.
#[test]
fn a_number_that_was_used_again_is_left_alone() {
    struct Ended(Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ended_already = self.0.kill();
            let _nobody_else_does = self.0.wait();
        }
    }
    block_on(async {
        let place = Place::new();
        let fleet = place.open("aaa", 1, IDLE, |_| {}).await.expect("opened");
        let ids = launched(&fleet, "t", 1).await;
        listed(&fleet, all(Phase::Ready)).await;
        let stranger = Command::new("sleep").arg("1000").spawn().expect("started");
        let mut stranger = Ended(stranger);
        let pid = i32::try_from(stranger.0.id()).expect("a number");
        let started = system::find(pid)
            .expect("readable")
            .expect("it runs")
            .started;
        let wrong = Process {
            pid,
            started: started - 1,
        };
        fleet
            .state
            .set_process(ids[0].as_str(), &fleet.boot, wrong)
            .expect("written");
        apply(&fleet, &terminate(&ids[0])).await;
        listed(&fleet, |_| place.running().is_empty()).await;
        assert!(
            stranger.0.try_wait().expect("ours").is_none(),
            "it was killed"
        );
    });
}

#[test]
fn what_does_not_end_in_time_is_killed_and_what_it_started_too() {
    block_on(async {
        let place = Place::new();
        // Neither the worker nor its child listens to SIGTERM.
        let deaf =
            "trap '' TERM; sleep 1000 & echo idle > $WINDLASS_WORK; while :; do sleep 1000; done";
        let change =
            |settings: &mut ProcessSettings| settings.stop_grace = Duration::from_millis(200);
        let fleet = place.open("aaa", 1, deaf, change).await.expect("opened");
        let ids = launched(&fleet, "t", 1).await;
        listed(&fleet, all(Phase::Ready)).await;
        assert!(place.running().len() >= 2);
        apply(&fleet, &terminate(&ids[0])).await;
        // Without a listing: nobody waits for the next cycle.
        let give_up = tokio::time::Instant::now() + PATIENCE;
        while !place.running().is_empty() {
            assert!(tokio::time::Instant::now() < give_up);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn what_a_worker_leaves_behind_is_ended() {
    block_on(async {
        let place = Place::new();
        let leaver = "sleep 1000 & echo idle > $WINDLASS_WORK";
        let fleet = place.open("aaa", 1, leaver, |_| {}).await.expect("opened");
        assert_eq!(launched(&fleet, "t", 1).await.len(), 1);
        listed(&fleet, all(Phase::Ending)).await;
        listed(&fleet, |_| place.running().is_empty()).await;
    });
}

#[test]
fn a_command_that_cannot_be_started_is_told() {
    block_on(async {
        let place = Place::new();
        let change = |settings: &mut ProcessSettings| settings.command = vec!["./none".to_owned()];
        let fleet = place.open("aaa", 1, "", change).await.expect("opened");
        for _again in 0..2 {
            let outcome = apply(&fleet, &launch("t", 2)).await;
            let Outcome::Failed(FleetError::Rejected(why)) = outcome else {
                panic!("{outcome}");
            };
            assert!(
                why.contains("./none") && why.contains("No such file"),
                "{why}"
            );
        }
        assert_eq!(listed(&fleet, |_| true).await, []);
    });
}

#[test]
fn a_worker_that_is_fenced_by_a_signal_is_not_called_back() {
    block_on(async {
        let place = Place::new();
        // Finishes its job, which takes until the file `done` is there.
        let script = "trap 'ending=1' TERM; echo busy > $WINDLASS_WORK; \
                      until [ -e done ]; do sleep 0.05; done; exit 0";
        let change = |settings: &mut ProcessSettings| settings.fence = FenceBy::Signal;
        let fleet = place.open("aaa", 1, script, change).await.expect("opened");
        let ids = launched(&fleet, "t", 1).await;
        listed(&fleet, |found| {
            found.iter().all(|one| one.work == Work::Busy)
        })
        .await;
        assert_eq!(
            apply(&fleet, &fence(&ids[0])).await,
            Outcome::Fenced { work: Work::Busy }
        );
        let shown = listed(&fleet, |_| true).await;
        assert!(shown[0].fenced && shown[0].phase == Phase::Ready);
        let unfence = Action::Unfence {
            instance: ids[0].clone(),
        };
        let outcome = apply(&fleet, &unfence).await;
        assert!(
            matches!(outcome, Outcome::Failed(FleetError::Rejected(_))),
            "{outcome}"
        );
        assert_eq!(
            listed(&fleet, |_| true).await[0].phase,
            Phase::Ending,
            "another takes its place"
        );
        assert_eq!(
            place.running().iter().filter(|tagged| tagged.leads).count(),
            1,
            "and it goes on"
        );
        fs::write(place.0.path().join("done"), "").expect("written");
        listed(&fleet, |_| place.running().is_empty()).await;
    });
}

#[test]
fn folders_of_ended_workers_are_kept_for_a_while_and_not_for_ever() {
    block_on(async {
        let place = Place::new();
        let fleet = place
            .open("aaa", 1, "exit 3", |_| {})
            .await
            .expect("opened");
        let ids = launched(&fleet, "t", 25).await;
        listed(&fleet, all(Phase::Ending)).await;
        let kept = || {
            ids.iter()
                .filter(|id| place.root().join(id.as_str()).exists())
                .count()
        };
        assert_eq!(kept(), 25, "all are still listed");
        let later = Timestamp::from_micros(fleet.now().micros() + 3_600_000_000);
        let seen = fleet.survey(later).expect("seen");
        fleet.tidy(&seen, later).expect("tidied");
        assert_eq!(kept(), ENDED_KEPT);
        let how: Vec<_> = fleet
            .state
            .workers()
            .expect("read")
            .into_iter()
            .map(|one| one.how)
            .collect();
        assert!(
            how.iter().all(|how| how.as_deref() == Some("exit code 3")),
            "{how:?}"
        );
    });
}

#[test]
fn a_rehearsal_takes_nothing_over_and_ends_nobody() {
    block_on(async {
        let place = Place::new();
        let acting = place.open("s", 1, IDLE, |_| {}).await.expect("opened");
        let ids = launched(&acting, "t", 1).await;
        // It was to end, and has had its time.
        acting
            .state
            .set_stopped(ids[0].as_str(), Timestamp::EPOCH)
            .expect("written");
        let watching = place.open_in(Mode::Rehearse, "s", 2, IDLE, |_| {}).await;
        let watching = watching.expect("opened");
        // A process that is killed is there for a moment longer, so one look
        // would not tell.
        for _ in 0..20 {
            let listing = watching.list("jobs").await.expect("a listing");
            assert_eq!(listing.instances.len(), 1);
            assert!(!place.running().is_empty(), "nobody was ended");
        }
        // Whoever had it before has it still, and ends it.
        listed(&acting, |_| place.running().is_empty()).await;
    });
}
