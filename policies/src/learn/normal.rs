//! The chance to wait, from a table.

/// Steps per unit of slack in [`TABLE`].
const PER_UNIT: f64 = 32.0;

/// Slack beyond which nobody waits: the chance is below one in ten million.
const SLACK_MAX: f64 = 5.0;

const POINTS: usize = 162;

/// [`exact`] at the multiples of 1/32.
static TABLE: std::sync::LazyLock<[f64; POINTS]> =
    std::sync::LazyLock::new(|| std::array::from_fn(|index| exact(super::float(index) / PER_UNIT)));

/// The chance that a job must wait when there are `slack` standard deviations
/// of free slots: `1 / (1 + b Phi(b) / phi(b))`, Halfin and Whitt,
/// "Heavy-Traffic Limits for Queues with Many Exponential Servers", 1981.
fn exact(slack: f64) -> f64 {
    let density = libm::exp(-0.5 * slack * slack) / libm::sqrt(2.0 * std::f64::consts::PI);
    let below = 0.5 * libm::erfc(-slack / std::f64::consts::SQRT_2);
    density / (density + slack * below)
}

/// How many jobs wait on average, as a multiple of the standard deviation of
/// the occupancy, when `slack` standard deviations of slots are free: the
/// chance to wait by the slack. Above zero; straight lines between the points
/// of a table, within 1 in 1,000 of exact.
pub fn waiting_factor(slack: f64) -> f64 {
    if !(slack < SLACK_MAX) {
        return 0.0;
    }
    let slack = slack.max(1e-6);
    let place = slack * PER_UNIT;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 160"
    )]
    let index = place as usize;
    let share = place - super::float(index);
    let table = &*TABLE;
    let chance = table[index] + share * (table[index + 1] - table[index]);
    chance / slack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_close_to_the_formula() {
        for step in 1..500_u32 {
            let slack = f64::from(step) / 100.0;
            let (table, formula) = (waiting_factor(slack) * slack, exact(slack));
            let error = (table - formula).abs();
            assert!(error < 1e-3 * formula + 2e-5, "{slack}: {table} {formula}");
        }
    }

    #[test]
    fn more_slack_never_waits_longer() {
        let factors = (1..600_u32).map(|step| waiting_factor(f64::from(step) / 100.0));
        assert!(factors.is_sorted_by(|one, next| one >= next));
    }
}
