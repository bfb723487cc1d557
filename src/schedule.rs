//! Cron to nudges: tokio-cron-scheduler wakes the loops and the upkeep.
//!
//! Nothing is decided here. A nudge only makes a cycle, or the upkeep, come
//! now; if one is lost, the next interval or the next hour makes up for it.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// Old history is dropped at 17 minutes past each hour: on the hour everybody
/// else's jobs run.
const UPKEEP: &str = "0 17 * * * *";

/// What is to be woken when.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Six fields: seconds, then the five of cron.
    pub cron: String,
    /// The IANA time zone it is meant in.
    pub timezone: chrono_tz::Tz,
    /// What to wake.
    pub nudge: Arc<Notify>,
}

/// The running scheduler. It stops when it is [`Scheduler::stop`]ped.
pub struct Scheduler(JobScheduler);

impl Scheduler {
    /// Starts waking `upkeep` hourly and each of `wakes` at its times.
    ///
    /// # Errors
    /// If a cron line is not understood or the scheduler cannot start.
    pub async fn start(upkeep: Arc<Notify>, wakes: Vec<Wake>) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new().await?;
        let hourly = Wake {
            cron: UPKEEP.to_owned(),
            timezone: chrono_tz::UTC,
            nudge: upkeep,
        };
        for wake in wakes.into_iter().chain([hourly]) {
            let nudge = wake.nudge;
            let job = Job::new_tz(wake.cron.as_str(), wake.timezone, move |_, _| {
                nudge.notify_one();
            })?;
            scheduler.add(job).await?;
        }
        scheduler.start().await?;
        Ok(Self(scheduler))
    }

    /// Stops waking anybody.
    pub async fn stop(mut self) {
        // It has nothing to lose: a nudge that does not come any more.
        let _ = self.0.shutdown().await;
    }
}
