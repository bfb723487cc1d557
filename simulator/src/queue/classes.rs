//! Kinds of jobs: which one each job is of, and who goes first.

use super::histogram::Histogram;
use super::jobs::{narrow, wide};
use super::spread::{Picked, Quantiles, Spread};

/// The class of every job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobClasses {
    classes: Vec<JobClass>,
    // Invariant: every number is a place in `classes`; one for each job of the
    // columns beside it.
    numbers: Vec<u16>,
    // Invariant: one for each class; 0 goes first.
    ranks: Vec<usize>,
}

/// One kind of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobClass {
    /// What it is called.
    pub name: String,
    /// Jobs of a higher priority go first.
    pub priority: u32,
}

impl JobClasses {
    /// The classes of jobs whose numbers in `classes` are `numbers`.
    /// `None` if a number is none.
    pub fn new(classes: Vec<JobClass>, numbers: Vec<u16>) -> Option<Self> {
        let known = |number: &u16| usize::from(*number) < classes.len();
        if !numbers.iter().all(known) {
            return None;
        }
        let mut priorities: Vec<u32> = classes.iter().map(|class| class.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let above = |class: &JobClass| {
            let higher = priorities.iter().filter(|one| **one > class.priority);
            higher.count()
        };
        let ranks = classes.iter().map(above).collect();
        Some(Self {
            classes,
            numbers,
            ranks,
        })
    }

    /// The classes, in their order.
    pub fn classes(&self) -> &[JobClass] {
        &self.classes
    }

    /// The class of each job, as a place in [`JobClasses::classes`].
    pub fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// The class of the job with this number, which counts on where jobs repeat.
    pub(crate) fn name_of(&self, job: u64) -> Option<&str> {
        let index = job.checked_rem(wide(self.numbers.len()))?;
        let class = usize::from(*self.numbers.get(narrow(index))?);
        self.classes.get(class).map(|class| class.name.as_str())
    }

    /// How many different priorities there are; at least 1.
    pub(super) fn levels(&self) -> usize {
        self.ranks.iter().max().map_or(1, |last| last + 1)
    }

    /// The level of the job at `index`; 0 goes first.
    #[inline]
    pub(super) fn level(&self, index: usize) -> usize {
        self.ranks[usize::from(self.numbers[index])]
    }

    /// Whether some jobs go before others.
    pub fn ordered(&self) -> bool {
        self.levels() > 1
    }
}

/// What became of the jobs of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTotals {
    /// What it is called.
    pub name: String,
    /// From arrival to the start of the service that counts, or what
    /// [`super::JobTotals::wait`] is.
    pub wait: Spread,
    /// From arrival to the end of service.
    pub response: Spread,
}

/// The totals of each class, of jobs that waited and took `times`, in the order
/// of their numbers.
pub(super) fn by_class(classes: &JobClasses, times: &[(u64, u64)]) -> Vec<ClassTotals> {
    let each = classes.classes.iter().enumerate();
    each.map(|(place, class)| {
        let numbers = classes.numbers.iter().cycle();
        let own = numbers.zip(times);
        let own = own.filter(|(number, _)| usize::from(**number) == place);
        let own: Vec<(u64, u64)> = own.map(|(_, times)| *times).collect();
        ClassTotals {
            name: class.name.clone(),
            wait: spread(own.iter().map(|(wait, _)| *wait)),
            response: spread(own.iter().map(|(_, response)| *response)),
        }
    })
    .collect()
}

/// Sum and exact quantiles of some durations.
pub(super) fn spread(values: impl Iterator<Item = u64> + Clone) -> Spread {
    let mut counted = Histogram::new();
    let mut spread = Spread::default();
    for value in values.clone() {
        counted.add(value);
        spread.count += 1;
        spread.sum_micros += u128::from(value);
    }
    spread.quantiles = Some(quantiles(&counted, values));
    spread
}

fn quantiles(counted: &Histogram, values: impl Iterator<Item = u64>) -> Quantiles {
    let mut picked = Picked::of(counted);
    for value in values {
        picked.add(value);
    }
    picked.quantiles()
}
