//! What instances cost.

use windlass_policies::model::{Billing, Offering};
use windlass_policies::units::{MICROS_PER_HOUR, Meter, MicroUsd, micros_of};

use super::price::PriceCourse;

/// The microseconds that are charged for an instance that ran for `ran`
/// microseconds: rounded up to whole increments, and never less than the
/// minimum (which is charged as it stands).
pub fn charged_micros(billing: Billing, ran: u64) -> u64 {
    let increment = micros_of(billing.increment).max(1);
    let whole = ran.div_ceil(increment).saturating_mul(increment);
    whole.max(micros_of(billing.minimum))
}

/// Adds up charges exactly; rounds once, in [`Bill::cost`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    /// Time on the bill.
    pub(super) charged_micros: u128,
    /// Time that instances were there.
    pub(super) ran_micros: u128,
    meter: Meter,
}

impl Bill {
    /// Charges one instance of `offering` that ran for `ran` microseconds.
    pub(super) fn charge(&mut self, offering: &Offering, ran: u64) {
        let charged = charged_micros(offering.billing, ran);
        self.meter.add(offering.price, charged);
        self.charged_micros += u128::from(charged);
        self.ran_micros += u128::from(ran);
    }

    /// Charges one instance of `offering` by what is special about it.
    pub(super) fn charge_stay(&mut self, offering: &Offering, stay: &Stay<'_>) {
        let ran = stay.until - stay.from;
        let paid = stay.covered_at.unwrap_or(stay.until) - stay.from;
        // One that was covered all along is charged nothing, not even a minimum.
        let free = stay.covered_at == Some(stay.from) || stay.taken_back && ran < MICROS_PER_HOUR;
        if free {
            self.ran_micros += u128::from(ran);
            return;
        }
        let Some(prices) = stay.prices else {
            self.charge(offering, paid);
            self.ran_micros += u128::from(ran - paid);
            return;
        };
        let charged = charged_micros(offering.billing, paid);
        prices.charge(
            &mut self.meter,
            stay.from,
            stay.from.saturating_add(charged),
        );
        self.charged_micros += u128::from(charged);
        self.ran_micros += u128::from(ran);
    }

    /// The total, rounded up.
    pub(super) fn cost(&self) -> MicroUsd {
        self.meter.total()
    }
}

/// One instance's time, in microseconds of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay<'a> {
    pub(super) from: u64,
    pub(super) until: u64,
    /// From when on it ran on what was paid for already.
    pub(super) covered_at: Option<u64>,
    /// Whether the provider took it back: within the first hour that is free,
    /// as EC2 charges spot instances it interrupts.
    pub(super) taken_back: bool,
    /// Prices that change, in place of the offering's.
    pub(super) prices: Option<&'a PriceCourse>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use windlass_policies::units::MicroUsdPerHour;

    use windlass_policies::model::Market;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn billing(increment_secs: u64, minimum_secs: u64) -> Billing {
        Billing {
            increment: Duration::from_secs(increment_secs),
            minimum: Duration::from_secs(minimum_secs),
        }
    }

    #[test]
    fn started_increments_are_charged_whole() {
        #[rustfmt::skip]
        let rows = [
            // increment  minimum       ran (us)      charged (s)
            (         1,      60,              0,            60),
            (         1,      60,              1,            60),
            (         1,      60,    60 * SECOND,            60),
            (         1,      60,  60 * SECOND + 1,          61),
            (         1,      60,    61 * SECOND,            61),
            (         1,       0,              0,             0),
            (         1,       0,              1,             1),
            (     3_600,       0,              0,             0),
            (     3_600,   3_600,              0,         3_600),
            (     3_600,   3_600,              1,         3_600),
            (     3_600,   3_600, 3_600 * SECOND,         3_600),
            (     3_600,   3_600, 3_600 * SECOND + 1,     7_200),
            (     3_600,      60,              1,         3_600),
            (        60,      90,              1,            90),
            (        60,      90,    91 * SECOND,           120),
        ];
        for (increment, minimum, ran, charged) in rows {
            assert_eq!(
                charged_micros(billing(increment, minimum), ran),
                charged * SECOND,
                "{increment} s, at least {minimum} s, {ran} us"
            );
        }
    }

    #[test]
    fn bills_are_exact_and_round_once() {
        let offering = |price, billing| Offering {
            name: "small".to_owned(),
            price: MicroUsdPerHour::new(price),
            billing,
            slots: 1,
            market: Market::OnDemand,
            prepaid: 0,
        };
        let mut bill = Bill::default();
        for _ in 0..3 {
            bill.charge(&offering(170_000, billing(1, 60)), 90 * SECOND + 1);
        }
        bill.charge(&offering(170_000, billing(3_600, 3_600)), 1);
        assert_eq!(bill.ran_micros, u128::from(270 * SECOND + 4));
        assert_eq!(bill.charged_micros, u128::from((3 * 91 + 3_600) * SECOND));
        // 0.17 * 3,873 / 3,600 = 0.18289166..., rounded up.
        assert_eq!(bill.cost(), MicroUsd::new(182_892));
    }
}
