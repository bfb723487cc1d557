//! `[self_tuning]` and `fleet.NAME.self_tuning`: when records are replayed, and
//! what is done about it.

use std::time::Duration;

use toml::{Table, Value};
use windlass_policies::cron::{CronLine, Zone};
use windlass_policies::fields::Fields;
use windlass_policies::spec::FleetSpec;
use windlass_policies::units::MicroUsdPerHour;
use windlass_simulator::self_tuning::{Own, Settings};

/// At night, when most fleets are small and nobody's report is due.
const SCHEDULE_DEFAULT: &str = "40 3 * * *";

/// A quarter of a core is not missed, and a night is long.
const CPU_SHARE_PERCENT_DEFAULT: u32 = 25;

const DAY: Duration = Duration::from_hours(24);

/// As long as the store keeps cycles in short.
const HISTORY_MAX: Duration = Duration::from_hours(28 * 24);

/// What is done about a better policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfTuning {
    /// Nothing: records are not replayed.
    Off,
    /// It is told.
    #[default]
    Advise,
    /// It is told and followed.
    Act,
}

impl SelfTuning {
    const WORDS: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("advise", Self::Advise),
        ("act", Self::Act),
    ];
}

/// When and how records are replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct TuningConfig {
    /// When.
    pub schedule: CronLine,
    /// By which clock on the wall.
    pub zone: Zone,
    /// How much of one core it takes at most, in percent, 1 to 100.
    pub cpu_share_percent: u32,
    /// What it goes by.
    pub settings: Settings,
}

/// Reads `[self_tuning]`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<TuningConfig> {
    let schedule = if fields.has("schedule") {
        fields.optional::<CronLine>("schedule")
    } else {
        let _asked = fields.raw("schedule");
        CronLine::parse(SCHEDULE_DEFAULT).ok()
    };
    let zone = fields.or("timezone", Zone::UTC);
    let minute = Duration::from_mins(1);
    let history = fields.or_within("history", Settings::HISTORY, minute..=HISTORY_MAX);
    let history_min = fields.or_within(
        "history_min",
        Settings::HISTORY_MIN.min(history),
        minute..=HISTORY_MAX,
    );
    if history_min > history {
        fields.problem(
            "history_min",
            "is longer than `history`, so there would never be enough; make it shorter",
        );
    }
    let cpu_share_percent =
        fields.or_within("cpu_share_percent", CPU_SHARE_PERCENT_DEFAULT, 1..=100);
    let margin_percent = fields.or_within("margin_percent", Settings::MARGIN_PERCENT, 0..=100);
    let hold = fields.or_within("hold", Settings::HOLD, Duration::ZERO..=DAY * 365);
    Some(TuningConfig {
        schedule: schedule?,
        zone,
        cpu_share_percent,
        settings: Settings {
            history,
            history_min,
            margin_percent,
            hold,
        },
    })
}

/// Reads `self_tuning` of a fleet.
pub(super) fn read_mode(fleet: &mut Fields<'_>) -> SelfTuning {
    fleet
        .word("self_tuning", &SelfTuning::WORDS)
        .unwrap_or_default()
}

/// To act it must be known what is better.
pub(super) fn refuse_nothing_to_weigh(
    fleet: &mut Fields<'_>,
    mode: SelfTuning,
    spec: Option<&FleetSpec>,
) {
    let Some(spec) = spec.filter(|_| mode == SelfTuning::Act) else {
        return;
    };
    if spec.objective.usd_per_job_hour_waiting == MicroUsdPerHour::ZERO {
        fleet.problem(
            "self_tuning",
            "\"act\" weighs waiting against instances, and waiting costs nothing here; set \
             objective.usd_per_job_hour_waiting",
        );
    }
}

/// The policies of a fleet's own table as a policy file.
pub(super) fn inline(fleet: &mut Fields<'_>) -> Own {
    let policies = fleet.raw("policy").cloned();
    let table: Table = policies
        .map(|policies: Value| ("policy".to_owned(), policies))
        .into_iter()
        .collect();
    Own {
        name: "the fleet's own policy".to_owned(),
        text: toml::to_string(&table).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn problems(tuning: &str, fleet: &str) -> String {
        let text = format!(
            "[self_tuning]\n{tuning}\n[fleet.web]\nprovider = \"process\"\n{fleet}\n\
             [fleet.web.process]\ncommand = [\"true\"]\nusd_per_hour = 1\n\
             [fleet.web.limits]\nmax = 3\nmax_usd_per_hour = 3\n\
             [[fleet.web.policy]]\nkind = \"fixed\"\ninstances = 1\n"
        );
        match Config::parse(&text, Path::new("")) {
            Ok(config) => format!("{:?}", config.fleets[0].self_tuning),
            Err(problems) => problems.in_file("f"),
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (tuning, fleet, expected) in [
            ("", "", "Advise"),
            ("", "self_tuning = \"off\"", "Off"),
            (
                "",
                "self_tuning = \"act\"",
                "set objective.usd_per_job_hour_waiting",
            ),
            (
                "",
                "self_tuning = \"act\"\nobjective = { usd_per_job_hour_waiting = 1 }",
                "Act",
            ),
            (
                "history = \"1d\"\nhistory_min = \"2d\"",
                "",
                "is longer than `history`",
            ),
            ("history = \"1d\"", "", "Advise"),
            ("schedule = \"at night\"", "", "is no cron line"),
            ("cpu_share_percent = 0", "", "cpu_share_percent"),
            ("", "self_tuning = \"advice\"", "did you mean `advise`?"),
        ] {
            let told = problems(tuning, fleet);
            assert!(told.contains(expected), "{tuning} {fleet}: {told}");
        }
    }
}
