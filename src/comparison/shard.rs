//! Which part of a comparison this process does.

use std::fmt;
use std::str::FromStr;

/// The most parts: as many as an array of AWS Batch has.
pub const SHARDS_MAX: u64 = 10_000;

/// One part of several, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which.
    // Invariant: below `count`.
    index: u64,
    /// Of how many.
    count: u64,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index` of `count`.
    ///
    /// # Errors
    /// A sentence, if there is no such part.
    pub fn new(index: u64, count: u64) -> Result<Self, String> {
        if !(1..=SHARDS_MAX).contains(&count) {
            return Err(format!(
                "{count} shards: there are 1 to {SHARDS_MAX}, such as 0/4"
            ));
        }
        if index >= count {
            return Err(format!(
                "there is no shard {index} of {count}: they are counted from 0, so the last one is \
                 {}/{count}",
                count - 1
            ));
        }
        Ok(Self { index, count })
    }

    /// Which one, from 0.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Of how many.
    pub const fn count(self) -> u64 {
        self.count
    }
}

impl fmt::Display for Shard {
    /// `3/8`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let number = |text: &str| text.parse::<u64>().ok();
        let numbers = parts.and_then(|(index, count)| Some((number(index)?, number(count)?)));
        let Some((index, count)) = numbers else {
            return Err("write which shard of how many, counted from 0, such as 0/4".to_owned());
        };
        Self::new(index, count)
    }
}

/// Where schedulers say which task of an array this is.
struct Array {
    index: &'static str,
    /// How many tasks there are.
    count: &'static str,
    /// The number of the first task, where it need not be 0.
    first: Option<&'static str>,
    /// How far the numbers of two tasks are apart, where it need not be 1.
    step: Option<&'static str>,
    /// What to do if the number of tasks is not told.
    hint: &'static str,
}

const ARRAYS: [Array; 3] = [
    Array {
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        count: "AWS_BATCH_JOB_ARRAY_SIZE",
        first: None,
        step: None,
        hint: "set it in the job definition to the size of the array",
    },
    Array {
        index: "JOB_COMPLETION_INDEX",
        count: "JOB_COMPLETIONS",
        first: None,
        step: None,
        hint: "Kubernetes does not: set it in the Job's env to spec.completions",
    },
    Array {
        index: "SLURM_ARRAY_TASK_ID",
        count: "SLURM_ARRAY_TASK_COUNT",
        first: Some("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        hint: "start it with sbatch --array",
    },
];

/// What the environment says this process is to do, and which variable says
/// so; `variable` looks one up.
///
/// # Errors
/// A sentence, if it says so in part only, or something that makes no sense.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<(Shard, &'static str)>, String> {
    let number = |name: &str| {
        let Some(text) = variable(name) else {
            return Ok(None);
        };
        let number: Option<u64> = text.trim().parse().ok();
        number.map(Some).ok_or(format!(
            "{name} is {text:?}, which is no number; set --shard to say which part this is"
        ))
    };
    for array in ARRAYS {
        let Some(index) = number(array.index)? else {
            continue;
        };
        let Some(count) = number(array.count)? else {
            return Err(format!(
                "{} says that this is a task of an array, and {} does not say of how many: {}; or set \
                 --shard",
                array.index, array.count, array.hint
            ));
        };
        let first = array.first.map_or(Ok(None), number)?.unwrap_or(0);
        let step = array.step.map_or(Ok(None), number)?.unwrap_or(1).max(1);
        // With a step the tasks are 0, 2, 4 and so on.
        let index = index.saturating_sub(first).div_euclid(step);
        let shard = Shard::new(index, count)
            .map_err(|why| format!("{} and {}: {why}", array.index, array.count))?;
        return Ok(Some((shard, array.index)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_zero() {
        let read = |text: &str| text.parse::<Shard>().map(|shard| shard.to_string());
        assert_eq!(read("0/1"), Ok("0/1".to_owned()));
        assert_eq!(read("3/4"), Ok("3/4".to_owned()));
        for (text, problem) in [
            ("4/4", "the last one is 3/4"),
            ("0/0", "1 to 10000"),
            ("1", "such as 0/4"),
            ("-1/4", "such as 0/4"),
            ("1/4/5", "such as 0/4"),
            ("0/10001", "1 to 10000"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(problem), "{text}: {told}");
        }
    }

    #[test]
    fn arrays_are_known_by_their_variables() {
        for (variables, expected) in [
            (&[][..], Ok(None)),
            (
                &[
                    ("AWS_BATCH_JOB_ARRAY_INDEX", "2"),
                    ("AWS_BATCH_JOB_ARRAY_SIZE", "8"),
                ],
                Ok(Some("2/8")),
            ),
            (
                &[("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "3")],
                Ok(Some("0/3")),
            ),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "1"),
                    ("SLURM_ARRAY_TASK_COUNT", "4"),
                    ("SLURM_ARRAY_TASK_MIN", "1"),
                ],
                Ok(Some("0/4")),
            ),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "5"),
                    ("SLURM_ARRAY_TASK_COUNT", "3"),
                    ("SLURM_ARRAY_TASK_MIN", "1"),
                    ("SLURM_ARRAY_TASK_STEP", "2"),
                ],
                Ok(Some("2/3")),
            ),
            (&[("JOB_COMPLETION_INDEX", "0")], Err("spec.completions")),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "x"),
                    ("SLURM_ARRAY_TASK_COUNT", "4"),
                ],
                Err("no number"),
            ),
            (
                &[
                    ("SLURM_ARRAY_TASK_ID", "9"),
                    ("SLURM_ARRAY_TASK_COUNT", "4"),
                ],
                Err("no shard 9 of 4"),
            ),
        ] {
            let variable = |name: &str| {
                let mut known = variables.iter();
                let found = known.find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = from_environment(variable);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let found = found.map(|(shard, _)| shard.to_string());
                    assert_eq!(found.as_deref(), expected, "{variables:?}");
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{variables:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
