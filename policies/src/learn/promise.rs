//! What waiting must be worth so that a promise about it is just kept.
//!
//! The promise: of the jobs that come, 95 of 100 wait no longer than so much.
//! The worth of waiting is its dual variable. It is found on line, by the
//! method of Robbins and Monro ("A Stochastic Approximation Method", 1951) on
//! its logarithm: each job that would wait too long raises it, each that would
//! not lowers it, so that it rests where 5 of 100 do.

use serde::{Deserialize, Serialize};

/// The share of jobs that may wait longer.
const LATE_SHARE: f64 = 0.05;

/// What one job moves the logarithm by.
const GAIN: f64 = 0.02;

/// The jobs of one sample count as at most this many: they share its luck.
const JOBS_MAX: f64 = 25.0;

/// The worth stays between one thousandth of an instance and a thousand.
const LOG_MAX: f64 = 6.907_755;

/// The worth of waiting that keeps a promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promise {
    log_kappa: f64,
    late: f64,
    jobs: f64,
}

impl Promise {
    /// What one job's waiting for one second is worth, in instance-seconds; 1
    /// at first.
    pub fn kappa(&self) -> f64 {
        libm::exp(self.log_kappa)
    }

    /// The share of jobs that came too late of late, if some came.
    pub fn late_share(&self) -> Option<f64> {
        (self.jobs > 0.0).then(|| self.late / self.jobs)
    }

    /// Takes in that `jobs` came, and whether they will wait too long. While
    /// more instances would not help (`helpless`: all are there that may be, or
    /// the jobs are a burst that nobody could expect) lateness does not raise
    /// the worth, so that it does not wind up.
    pub fn learn(&mut self, jobs: f64, late: bool, helpless: bool) {
        if !(jobs > 0.0) {
            return;
        }
        // About the last thousand jobs.
        let fade = libm::exp(-jobs / 1_000.0);
        let too_late = if late { jobs } else { 0.0 };
        self.late = self.late * fade + too_late;
        self.jobs = self.jobs * fade + jobs;
        let pull = match (late, helpless) {
            (true, true) => 0.0,
            (true, false) => 1.0 - LATE_SHARE,
            (false, _) => -LATE_SHARE,
        };
        let step = GAIN * jobs.min(JOBS_MAX) * pull;
        self.log_kappa = (self.log_kappa + step).clamp(-LOG_MAX, LOG_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_where_one_in_twenty_is_late() {
        let mut promise = Promise::default();
        for job in 0..20_000_u32 {
            // The more it is worth, the fewer are late: 1 in 20 at e^2.
            let late = f64::from(job % 100) < 37.0 / promise.kappa();
            promise.learn(1.0, late, false);
        }
        let kappa = promise.kappa();
        assert!((5.0..10.0).contains(&kappa), "{kappa}");
    }

    #[test]
    fn it_does_not_wind_up() {
        let mut promise = Promise::default();
        for _ in 0..10_000 {
            promise.learn(100.0, true, true);
        }
        assert!((promise.kappa() - 1.0).abs() < 1e-9);
        for _ in 0..10_000 {
            promise.learn(100.0, true, false);
        }
        assert!(promise.kappa() < 1_001.0);
        for _ in 0..400 {
            promise.learn(100.0, false, false);
        }
        assert!(promise.kappa() < 1.0, "{}", promise.kappa());
    }
}
