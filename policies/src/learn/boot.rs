//! How long an instance takes from its launch to its first job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// More boots than this do not make the estimate stiffer, so that a new image
/// shows within a few dozen launches.
const BOOTS_MAX: f64 = 50.0;

/// What is assumed counts as this many boots.
const PRIOR_BOOTS: f64 = 2.0;

/// Three of four boots are at most this many standard deviations of their
/// logarithm above its mean.
const UPPER_QUARTILE: f64 = 0.674;

/// Boot times: mean and variance of their logarithms, the newest weighing most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootTimes {
    log_mean: f64,
    log_variance: f64,
    boots: f64,
}

impl BootTimes {
    /// Two minutes, until boots were seen.
    pub const PRIOR: Duration = Duration::from_mins(2);

    /// Believes `prior` at first; at least a second.
    pub fn new(prior: Duration) -> Self {
        Self {
            log_mean: libm::log(prior.as_secs_f64().max(1.0)),
            log_variance: 0.01,
            boots: PRIOR_BOOTS,
        }
    }

    /// Takes in a boot of `secs` seconds.
    pub fn learn(&mut self, secs: f64) {
        if !(secs > 0.0 && secs.is_finite()) {
            return;
        }
        self.boots = (self.boots + 1.0).min(BOOTS_MAX);
        let gain = 1.0 / self.boots;
        let error = libm::log(secs.max(1.0)) - self.log_mean;
        self.log_mean += gain * error;
        self.log_variance += gain * (error * error * (1.0 - gain) - self.log_variance);
    }

    /// What is planned with, in seconds: three of four boots are over by then.
    pub fn planned(&self) -> f64 {
        let spread = libm::sqrt(self.log_variance.max(0.0));
        super::sound(
            libm::exp(self.log_mean + UPPER_QUARTILE * spread),
            Self::PRIOR.as_secs_f64(),
        )
    }

    /// How much longer a boot takes that has taken `age` seconds already. One
    /// that is overdue takes the longer, the longer it has taken.
    pub fn remaining(&self, age: f64) -> f64 {
        (self.planned() - age).max(0.15 * age.max(self.planned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_learnt_and_overdue_ones_are_not_given_up() {
        let mut boots = BootTimes::new(BootTimes::PRIOR);
        for round in 0..60_u32 {
            boots.learn(if round % 2 == 0 { 50.0 } else { 70.0 });
        }
        assert!((60.0..75.0).contains(&boots.planned()), "{boots:?}");
        assert!(boots.remaining(20.0) < boots.planned());
        assert!(boots.remaining(600.0) > 60.0);
    }
}
