//! How long a job takes, from counts alone.
//!
//! Over any span, the slot-seconds that jobs were worked on, by the jobs that
//! were finished, is the mean service time; for exponential times it is the
//! estimate of greatest likelihood, jobs still in hand included. Jobs finished
//! are jobs arrived less the rise of jobs in the system.

use serde::{Deserialize, Serialize};

/// What was seen fades by half in this many seconds: a shift of the mean is
/// believed within a working day.
const HALF_LIFE_SECS: f64 = 6.0 * 3_600.0;

/// It takes at least this many finished jobs to fade by half.
const HALF_LIFE_JOBS_MIN: f64 = 200.0;

/// The mean service time of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceTimes {
    busy_secs: f64,
    finished: f64,
    prior_secs: f64,
    prior_jobs: f64,
}

impl ServiceTimes {
    /// Nothing is known: a minute, to be forgotten after the first few jobs.
    pub const PRIOR_SECS: f64 = 60.0;
    /// The prior counts as this many finished jobs.
    pub const PRIOR_JOBS: f64 = 2.0;
    /// A prior that somebody stated counts as this many.
    pub const STATED_JOBS: f64 = 20.0;

    /// Believes `stated` seconds at first; [`Self::PRIOR_SECS`] if nobody says.
    pub fn new(stated: Option<f64>) -> Self {
        Self {
            busy_secs: 0.0,
            finished: 0.0,
            prior_secs: stated.unwrap_or(Self::PRIOR_SECS),
            prior_jobs: stated.map_or(Self::PRIOR_JOBS, |_| Self::STATED_JOBS),
        }
    }

    /// Takes in that over `secs` seconds `busy` slots worked on average and
    /// `finished` jobs were finished.
    pub fn learn(&mut self, secs: f64, busy: f64, finished: f64) {
        // While nothing is finished nothing is forgotten: between rare bursts the
        // last one is all there is to go by.
        let fades = (secs / HALF_LIFE_SECS).min(finished.max(0.0) / HALF_LIFE_JOBS_MIN);
        let keep = libm::exp2(-fades);
        self.busy_secs = self.busy_secs * keep + busy.max(0.0) * secs;
        // Samples of queue and slots may be of different moments, so that a
        // count falls short of zero and is made good by the next one.
        self.finished = (self.finished * keep + finished).max(0.0);
    }

    /// The mean, in seconds; at least a millisecond.
    pub fn mean(&self) -> f64 {
        // What was believed counts the less, the more was seen.
        let prior = self.prior_jobs / (1.0 + self.finished / (5.0 * self.prior_jobs));
        let jobs = self.finished + prior;
        let secs = self.busy_secs + prior * self.prior_secs;
        super::sound(secs / jobs, self.prior_secs).max(1e-3)
    }

    /// How many finished jobs it rests on.
    pub fn jobs(&self) -> f64 {
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_learnt_whatever_was_believed() {
        for stated in [None, Some(1.0), Some(3_600.0)] {
            let mut times = ServiceTimes::new(stated);
            for _ in 0..2_000 {
                times.learn(10.0, 20.0, 8.0);
            }
            assert!((times.mean() - 25.0).abs() < 2.0, "{}", times.mean());
        }
    }

    #[test]
    fn what_was_learnt_outlasts_a_lull() {
        let mut times = ServiceTimes::new(None);
        times.learn(600.0, 40.0, 100.0);
        for _ in 0..10_000 {
            times.learn(60.0, 0.0, 0.0);
        }
        assert!((times.mean() - 240.0).abs() < 10.0, "{}", times.mean());
    }

    #[test]
    fn jobs_in_hand_count_before_any_is_finished() {
        let mut times = ServiceTimes::new(None);
        times.learn(3_600.0, 4.0, 0.0);
        assert!(times.mean() > 3_600.0, "{}", times.mean());
    }
}
