//! Which keys of a policy are worth searching, over what range, and how they
//! are turned.
//!
//! Knobs are turned in the text of a policy file, which is then read as any
//! other: so whatever a search tries is a policy that a person could have
//! written, and a kind of policy declares its knobs with one line in [`of`].

mod rewrite;

use toml::{Table, Value};

use crate::fields::{duration_text, parse_duration};
use crate::policy_file::{self, PolicyFile};
use crate::problems::Problems;

pub use rewrite::Change;

/// A key to turn, or several that are turned together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knob {
    /// What it is called in results.
    pub name: &'static str,
    /// The keys in the table of the policy; `step.*.above` is the key `above`
    /// of each of the tables `step`.
    pub keys: &'static [&'static str],
    /// Keys that say the same in another way, which it does away with.
    instead_of: &'static [&'static str],
    /// How far it turns.
    pub reach: Reach,
}

/// How far a knob turns, and what stands at its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// A number above zero, on a scale of ratios.
    Number {
        /// The least.
        from: f64,
        /// The most.
        to: f64,
    },
    /// A number that may be zero, on an even scale.
    Share {
        /// The least.
        from: f64,
        /// The most.
        to: f64,
    },
    /// A number of instances, from none to as many as the fleet may have; finer
    /// where they are few.
    Instances,
    /// A time in whole seconds, on a scale of ratios.
    Seconds {
        /// The least, at least 1.
        from: u32,
        /// The most.
        to: u32,
    },
    /// What stands there, times a number, on a scale of ratios. Whole numbers
    /// stay whole and keep their sign; times are times.
    Factor {
        /// The least.
        from: f64,
        /// The most.
        to: f64,
    },
}

const fn knob(key: &'static str, keys: &'static [&'static str], reach: Reach) -> Knob {
    Knob {
        name: key,
        keys,
        instead_of: &[],
        reach,
    }
}

const FIXED: &[Knob] = &[knob("instances", &["instances"], Reach::Instances)];

/// From a tenth of a job to a hundred jobs for each instance.
const QUEUE_BACKLOG: &[Knob] = &[knob(
    "jobs_per_instance",
    &["jobs_per_instance"],
    Reach::Number {
        from: 0.1,
        to: 100.0,
    },
)];

/// The target is a factor of what stands in the file, because its unit is the
/// signal's: a share that is beyond what its signal allows is not tried.
const TARGET_TRACKING: &[Knob] = &[
    knob(
        "target",
        &["target"],
        Reach::Factor {
            from: 0.125,
            to: 4.0,
        },
    ),
    knob(
        "dead_band",
        &["dead_band"],
        Reach::Share { from: 0.0, to: 0.5 },
    ),
];

const STEP: &[Knob] = &[
    knob(
        "thresholds",
        &["step.*.above", "step.*.below"],
        Reach::Factor {
            from: 0.0625,
            to: 16.0,
        },
    ),
    knob(
        "changes",
        &["step.*.change", "step.*.percent"],
        Reach::Factor {
            from: 0.25,
            to: 8.0,
        },
    ),
];

/// Times that policies wait for: from a second to two hours.
const PATIENCE: Reach = Reach::Seconds { from: 1, to: 7_200 };

/// A target whose unit is the signal's.
const TARGET: Knob = TARGET_TRACKING[0];

const ECONOMIC: &[Knob] = &[Knob {
    instead_of: &["preset", "p95_wait"],
    ..knob(
        "usd_per_job_hour_waiting",
        &["usd_per_job_hour_waiting"],
        Reach::Number {
            from: 0.001,
            to: 1_000.0,
        },
    )
}];

const ASG_TARGET_TRACKING: &[Knob] = &[TARGET, knob("warmup", &["warmup"], PATIENCE)];

const ASG_BACKLOG_PER_INSTANCE: &[Knob] = &[
    knob("acceptable_latency", &["acceptable_latency"], PATIENCE),
    knob("warmup", &["warmup"], PATIENCE),
];

const HPA: &[Knob] = &[
    TARGET,
    knob(
        "scale_down_window",
        &["scale_down_window"],
        Reach::Seconds { from: 1, to: 3_600 },
    ),
];

const KEDA_QUEUE: &[Knob] = &[
    knob(
        "queue_length",
        &["queue_length"],
        Reach::Number {
            from: 0.1,
            to: 100.0,
        },
    ),
    knob("cooldown", &["cooldown"], PATIENCE),
];

const NOMAD_TARGET_VALUE: &[Knob] = &[TARGET, knob("cooldown", &["cooldown"], PATIENCE)];

const REACT: &[Knob] = &[knob(
    "factor",
    &["factor"],
    Reach::Number {
        from: 1.0,
        to: 10.0,
    },
)];

const AUTOSCALE_DELAYED_OFF: &[Knob] = &[
    knob("idle_wait", &["idle_wait"], PATIENCE),
    knob(
        "factor",
        &["factor"],
        Reach::Number {
            from: 0.01,
            to: 1.0,
        },
    ),
];

/// How long a job is taken to take: more of it is more instances.
const SERVICE_MEAN: Knob = knob(
    "service_mean",
    &["service_mean"],
    Reach::Factor {
        from: 0.25,
        to: 4.0,
    },
);

const RATE_BASED: &[Knob] = &[SERVICE_MEAN];

const LCP: &[Knob] = &[
    knob(
        "penalty",
        &["penalty"],
        Reach::Number {
            from: 1.0,
            to: 1_000.0,
        },
    ),
    SERVICE_MEAN,
];

const SQUARE_ROOT_STAFFING: &[Knob] = &[
    knob(
        "beta",
        &["beta"],
        Reach::Share {
            from: 0.0,
            to: 10.0,
        },
    ),
    SERVICE_MEAN,
];

const ASG_PREDICTIVE: &[Knob] = &[TARGET];

const BUILDKITE: &[Knob] = &[
    knob(
        "scale_out_factor",
        &["scale_out_factor"],
        Reach::Number {
            from: 0.1,
            to: 10.0,
        },
    ),
    knob("idle_period", &["idle_period"], PATIENCE),
];

const CLUSTER_DEMAND: &[Knob] = &[knob("unneeded_time", &["unneeded_time"], PATIENCE)];

const CLUSTERMAN: &[Knob] = &[
    knob(
        "setpoint",
        &["setpoint"],
        Reach::Number {
            from: 0.05,
            to: 1.0,
        },
    ),
    knob(
        "setpoint_margin",
        &["setpoint_margin"],
        Reach::Share { from: 0.0, to: 1.0 },
    ),
];

const GCE_AUTOSCALER: &[Knob] = &[
    TARGET,
    knob(
        "stabilization_period",
        &["stabilization_period"],
        Reach::Seconds { from: 1, to: 3_600 },
    ),
];

const NOMAD_THRESHOLD: &[Knob] = &[
    knob(
        "bounds",
        &["check.*.lower_bound", "check.*.upper_bound"],
        Reach::Factor {
            from: 0.0625,
            to: 16.0,
        },
    ),
    knob("cooldown", &["cooldown"], PATIENCE),
];

const TASKSCALER: &[Knob] = &[
    knob("idle_count", &["idle_count"], Reach::Instances),
    knob("idle_time", &["idle_time"], PATIENCE),
];

/// The knobs of policies of `kind`, the main one first: the one that trades
/// money for waiting. Empty if there is nothing to turn.
pub fn of(kind: &str) -> &'static [Knob] {
    match kind {
        "fixed" => FIXED,
        "queue_backlog" => QUEUE_BACKLOG,
        "target_tracking" => TARGET_TRACKING,
        "step" | "asg_step" => STEP,
        "economic" => ECONOMIC,
        "asg_target_tracking" => ASG_TARGET_TRACKING,
        "asg_backlog_per_instance" => ASG_BACKLOG_PER_INSTANCE,
        "hpa" => HPA,
        "keda_queue" => KEDA_QUEUE,
        "nomad_target_value" => NOMAD_TARGET_VALUE,
        "react" => REACT,
        "autoscale_delayed_off" => AUTOSCALE_DELAYED_OFF,
        "adapt" | "conpaas" | "hist" | "reg" => RATE_BASED,
        "lcp" => LCP,
        "square_root_staffing" => SQUARE_ROOT_STAFFING,
        "asg_predictive" => ASG_PREDICTIVE,
        "buildkite" => BUILDKITE,
        "cluster_demand" => CLUSTER_DEMAND,
        "clusterman" => CLUSTERMAN,
        "gce_autoscaler" => GCE_AUTOSCALER,
        "nomad_threshold" => NOMAD_THRESHOLD,
        "taskscaler" => TASKSCALER,
        _ => &[],
    }
}

/// A policy file whose knobs can be turned.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunable {
    table: Table,
    dials: Vec<Dial>,
}

/// One knob of one of a file's policies.
#[derive(Clone, Debug, PartialEq)]
struct Dial {
    /// Which `[[policy]]`.
    policy: usize,
    name: String,
    knob: Knob,
}

/// A knob that was turned, as results tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Turned {
    /// Whose it is, such as `queue_backlog.jobs_per_instance`.
    pub name: String,
    /// What stands at its key now, or the factor that was applied.
    pub value: String,
}

impl Tunable {
    /// Finds the knobs in the policy file `text`.
    ///
    /// # Errors
    /// Everything that is wrong with it, as [`policy_file::read`] tells it.
    pub fn read(text: &str) -> Result<Self, Problems> {
        let file = policy_file::read(text)?;
        let mut table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| Problems::one("", error.message().to_owned()))?;
        // Examples are of the policy as it stands in the file.
        table.remove("case");
        let mut dials = Vec::new();
        for (policy, named) in file.policies.iter().enumerate() {
            for knob in of(named.policy.kind()) {
                dials.push(Dial {
                    policy,
                    name: format!("{}.{}", named.name, knob.name),
                    knob: *knob,
                });
            }
        }
        // A factor needs something to multiply.
        dials.retain(|dial| dial.is_there(&table));
        Ok(Self { table, dials })
    }

    /// How many knobs there are; the first one is the main one.
    pub fn dials(&self) -> usize {
        self.dials.len()
    }

    /// The policy with its knobs turned to `places`, each from 0 for the least
    /// to 1 for the most, or as in the file for `None`; in a fleet of at most
    /// `instances_max`. Also says what was turned. `None` if that makes no
    /// policy.
    pub fn turned(
        &self,
        places: &[Option<f64>],
        instances_max: u32,
    ) -> Option<(PolicyFile, Vec<Turned>)> {
        let mut table = self.table.clone();
        let mut turned = Vec::new();
        for (dial, place) in self.dials.iter().zip(places) {
            let Some(place) = place else { continue };
            let value = dial.knob.reach.value_at(*place, instances_max);
            dial.turn(&mut table, value);
            turned.push(Turned {
                name: dial.name.clone(),
                value: dial.knob.reach.told(value),
            });
        }
        let text = toml::to_string(&table).ok()?;
        Some((policy_file::read(&text).ok()?, turned))
    }
}

impl Dial {
    fn policy<'a>(&self, table: &'a mut Table) -> Option<&'a mut Table> {
        let policies = table.get_mut("policy")?.as_array_mut()?;
        policies.get_mut(self.policy)?.as_table_mut()
    }

    fn is_there(&self, table: &Table) -> bool {
        if !matches!(self.knob.reach, Reach::Factor { .. }) {
            return true;
        }
        let mut table = table.clone();
        let mut found = false;
        if let Some(policy) = self.policy(&mut table) {
            for key in self.knob.keys {
                at(policy, key, &mut |slot| found |= slot.is_some());
            }
        }
        found
    }

    fn turn(&self, table: &mut Table, value: f64) {
        let Some(policy) = self.policy(table) else {
            return;
        };
        let reach = self.knob.reach;
        for key in self.knob.instead_of {
            policy.remove(*key);
        }
        for key in self.knob.keys {
            at(policy, key, &mut |slot| {
                if let Some(new) = reach.put(slot.as_ref(), value) {
                    *slot = Some(new);
                }
            });
        }
    }
}

/// Shows `change` what stands at `key` of `table`; it may put something there.
fn at(table: &mut Table, key: &str, change: &mut dyn FnMut(&mut Option<Value>)) {
    if let Some((list, rest)) = key.split_once(".*.") {
        let tables = table.get_mut(list).and_then(Value::as_array_mut);
        for one in tables.into_iter().flatten() {
            if let Some(one) = one.as_table_mut() {
                at(one, rest, change);
            }
        }
        return;
    }
    let mut slot = table.remove(key);
    change(&mut slot);
    if let Some(value) = slot {
        table.insert(key.to_owned(), value);
    }
}

impl Reach {
    /// The value at `place` of the scale, from 0 to 1, in few digits.
    fn value_at(self, place: f64, instances_max: u32) -> f64 {
        let place = place.clamp(0.0, 1.0);
        let ratios = |from: f64, to: f64| from * libm::pow(to / from, place);
        match self {
            Self::Number { from, to } | Self::Factor { from, to } => {
                short(ratios(from, to)).clamp(from, to)
            }
            Self::Share { from, to } => short(from + (to - from) * place).clamp(from, to),
            Self::Instances => {
                let all = f64::from(instances_max);
                (ratios(1.0, 1.0 + all) - 1.0).round()
            }
            Self::Seconds { from, to } => ratios(f64::from(from.max(1)), f64::from(to)).round(),
        }
    }

    /// What is to stand where `old` stands; `None` leaves it.
    fn put(self, old: Option<&Value>, value: f64) -> Option<Value> {
        match self {
            Self::Number { .. } | Self::Share { .. } => Some(Value::Float(value)),
            Self::Instances => whole(value).map(Value::Integer),
            Self::Seconds { .. } => Some(Value::String(format!("{}s", whole(value)?))),
            Self::Factor { .. } => match old? {
                Value::Integer(old) => {
                    let old = i32::try_from(*old).ok()?;
                    let scaled = (f64::from(old.unsigned_abs()) * value).round().max(1.0);
                    // Nothing times anything is nothing.
                    let scaled = if old == 0 { 0 } else { whole(scaled)? };
                    Some(Value::Integer(if old < 0 { -scaled } else { scaled }))
                }
                Value::Float(old) => Some(Value::Float(short(old * value))),
                Value::String(old) => {
                    let scaled = parse_duration(old).ok()?.mul_f64(value);
                    Some(Value::String(duration_text(scaled)))
                }
                _ => None,
            },
        }
    }

    fn told(self, value: f64) -> String {
        match self {
            Self::Number { .. } | Self::Share { .. } | Self::Instances => format!("{value}"),
            Self::Seconds { .. } => format!("{value}s"),
            Self::Factor { .. } => format!("times {value}"),
        }
    }
}

/// Three digits: more than a person would write, and no knob is that fine.
fn short(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is a whole number below 2^32"
)]
fn whole(value: f64) -> Option<i64> {
    (0.0..4_294_967_296.0)
        .contains(&value)
        .then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::presets;

    const MAX: u32 = 200;

    #[test]
    fn every_knob_turns_from_end_to_end() {
        for (name, text) in presets::all().iter().chain(presets::peers()) {
            let tunable = Tunable::read(text).expect(name);
            let as_it_is = tunable.turned(&[], MAX).expect(name).0;
            assert_eq!(
                as_it_is.policies,
                policy_file::read(text).expect(name).policies
            );
            for dial in 0..tunable.dials() {
                let at = |place: f64| {
                    let mut places = vec![None; tunable.dials()];
                    places[dial] = Some(place);
                    tunable.turned(&places, MAX)
                };
                let works = (0_u8..=16).filter_map(|step| at(f64::from(step) / 16.0));
                let mut told: Vec<String> = works
                    .map(|(file, _)| format!("{:?}", file.policies))
                    .collect();
                assert!(told.len() >= 8, "{name}: {} of 17 places work", told.len());
                told.dedup();
                assert!(
                    told.len() >= 5,
                    "{name}: knob {dial} turns nothing: {told:?}"
                );
            }
        }
    }

    #[test]
    fn all_kinds_but_the_clock_have_knobs() {
        for kind in Policy::KINDS {
            assert_eq!(of(kind).is_empty(), kind == "schedule", "{kind}");
        }
    }

    #[test]
    fn values_are_short_and_reach_both_ends() {
        let number = Reach::Number {
            from: 0.1,
            to: 100.0,
        };
        let told = |reach: Reach, place| reach.told(reach.value_at(place, MAX));
        let rows = [
            (number, "0.1 0.562 3.16 100"),
            (Reach::Instances, "0 3 13 200"),
            (Reach::Seconds { from: 60, to: 600 }, "60s 107s 190s 600s"),
            (Reach::Share { from: 0.0, to: 0.5 }, "0 0.125 0.25 0.5"),
        ];
        for (reach, expected) in rows {
            let all: Vec<String> = [0.0, 0.25, 0.5, 1.0]
                .into_iter()
                .map(|place| told(reach, place))
                .collect();
            assert_eq!(all.join(" "), expected);
        }
    }

    #[test]
    fn factors_keep_whole_numbers_whole_and_signs() {
        let text = "[[policy]]\nkind = \"step\"\nsignal = \"oldest_age\"\n\
            [[policy.step]]\nabove = 60\nchange = 3\n\
            [[policy.step]]\nbelow = 5.0\nchange = -1\n";
        let tunable = Tunable::read(text).expect("a policy");
        let (file, turned) = tunable
            .turned(&[Some(0.0), Some(0.0)], MAX)
            .expect("a policy");
        let told = format!("{:?}", file.policies);
        assert!(
            told.contains("Above(4.0)") && told.contains("Below(0.312)"),
            "{told}"
        );
        assert!(told.contains("By(1)") && told.contains("By(-1)"), "{told}");
        assert_eq!(turned[0].name, "step.thresholds");
        assert_eq!(turned[0].value, "times 0.0625");
    }

    #[test]
    fn factors_scale_times() {
        let factor = Reach::Factor { from: 0.5, to: 2.0 };
        let old = Value::String("1m30s".to_owned());
        let new = factor.put(Some(&old), 0.5);
        assert_eq!(new, Some(Value::String("45s".to_owned())));
        let text = Value::String("backlog".to_owned());
        assert_eq!(factor.put(Some(&text), 0.5), None);
    }

    #[test]
    fn what_makes_no_policy_is_not_tried() {
        let text = "[[policy]]\nkind = \"target_tracking\"\ntarget = 0.7\n";
        let tunable = Tunable::read(text).expect("a policy");
        assert!(
            tunable.turned(&[Some(1.0), None], MAX).is_none(),
            "2.8 of a share"
        );
        assert!(tunable.turned(&[Some(0.5), None], MAX).is_some());
    }
}
