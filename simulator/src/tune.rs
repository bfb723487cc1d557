//! The search for the places of a policy's knobs that cost least.
//!
//! Successive halving with common random numbers: every candidate meets the
//! same jobs and the same boots, so that what differs is the policy. How wide
//! the search is says its [`Course`]:
//!
//! 1. Candidates are the policy as it stands in its file, and
//!    [`first`](Course::first) others that fill the space of the knobs evenly
//!    (Halton's sequence, shifted as a whole by the stream `tuning` of the seed).
//!    They run through the first rung, the beginning of the load.
//! 2. From rung to rung, each of which reaches further, the best of them and the
//!    policy as it stands go on.
//! 3. On the last rung, twice, [`around`](Course::around) candidates around the
//!    best are tried: first within an eighth of each knob's way, then within a
//!    thirty-second.
//!
//! The least cost wins; of equals, who was tried first. So the policy as it
//! stands is never given up for one that is worse on the last rung.

use crate::random::Stream;

/// How wide a search is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// How many candidates there are at first, beside the policy as it stands.
    pub first: usize,
    /// How many of them go on after each rung but the last.
    pub kept: Vec<usize>,
    /// How many are tried around the best, twice.
    pub around: usize,
}

impl Course {
    /// That of a comparison: half of the tuning window, then all of it.
    pub fn of_window() -> Self {
        Self {
            first: 23,
            kept: vec![6],
            around: 6,
        }
    }

    /// How many candidates are tried on each rung at most, with so many knobs.
    pub fn tries(&self, dials: usize) -> Vec<usize> {
        if dials == 0 {
            return vec![0; self.kept.len() + 1];
        }
        let mut tries = vec![1 + self.first];
        tries.extend(self.kept.iter().map(|kept| kept + 1));
        if let Some(last) = tries.last_mut() {
            *last += RADII.len() * self.around;
        }
        tries
    }
}

/// How far around, as a share of a knob's way.
pub(crate) const RADII: [f64; 2] = [1.0 / 8.0, 1.0 / 32.0];

/// Bases of Halton's sequence, one for each knob; those beyond take the last.
const BASES: [u32; 8] = [2, 3, 5, 7, 11, 13, 17, 19];

/// Where knobs stand: from 0 to 1, or as in the file for `None`.
pub type Places = Vec<Option<f64>>;

/// The places of `dials` knobs that were tried on the last rung, the one that
/// costs least first; there is at least one. `cost` tells, for each of some
/// candidates, what it costs on a rung, counted from 0; `None` for what makes no
/// policy.
///
/// # Errors
/// Those of `cost`.
pub fn search<E>(
    course: &Course,
    dials: usize,
    seed: u64,
    mut cost: impl FnMut(usize, &[Places]) -> Result<Vec<Option<i64>>, E>,
) -> Result<Vec<Places>, E> {
    let mut stream = Stream::new(seed, "tuning");
    let as_it_stands: Places = vec![None; dials];
    if dials == 0 {
        return Ok(vec![as_it_stands]);
    }
    let mut tried = vec![as_it_stands.clone()];
    tried.extend(even(dials, course.first, &mut stream));
    let mut ranked = Ranked::default();
    ranked.add(&tried, cost(0, &tried)?);
    for (rung, kept) in course.kept.iter().enumerate() {
        tried = vec![as_it_stands.clone()];
        let others = ranked.best().filter(|places| **places != as_it_stands);
        tried.extend(others.take(*kept).cloned());
        ranked = Ranked::default();
        ranked.add(&tried, cost(rung + 1, &tried)?);
    }
    for radius in RADII {
        let centre = ranked.best().find(|places| **places != as_it_stands);
        let Some(centre) = centre.cloned() else {
            break;
        };
        let around = around(&centre, radius, course.around, &mut stream);
        ranked.add(&around, cost(course.kept.len(), &around)?);
    }
    let mut found: Vec<Places> = ranked.best().cloned().collect();
    if found.is_empty() {
        found.push(as_it_stands);
    }
    Ok(found)
}

/// `count` places within `radius` of `centre`, as a share of each knob's way.
pub(crate) fn around(
    centre: &Places,
    radius: f64,
    count: usize,
    stream: &mut Stream,
) -> Vec<Places> {
    let mut around = even(centre.len(), count, stream);
    for place in around
        .iter_mut()
        .flat_map(|places| places.iter_mut().zip(centre))
    {
        if let (Some(place), Some(centre)) = place {
            *place = (centre + radius * (2.0 * *place - 1.0)).clamp(0.0, 1.0);
        }
    }
    around
}

/// `count` places for `dials` knobs that fill the space evenly.
pub(crate) fn even(dials: usize, count: usize, stream: &mut Stream) -> Vec<Places> {
    let shifts: Vec<f64> = (0..dials).map(|_| stream.uniform()).collect();
    let bases = BASES
        .iter()
        .chain(std::iter::repeat(&BASES[BASES.len() - 1]));
    let axes: Vec<(u32, f64)> = bases.copied().zip(shifts).collect();
    let numbers = (1_u32..).take(count);
    let place = |number: u32, (base, shift): (u32, f64)| {
        let moved = radical_inverse(number, base) + shift;
        Some(if moved >= 1.0 { moved - 1.0 } else { moved })
    };
    numbers
        .map(|number| axes.iter().map(|axis| place(number, *axis)).collect())
        .collect()
}

/// The digits of `number` to `base`, mirrored at the point.
fn radical_inverse(mut number: u32, base: u32) -> f64 {
    let (mut value, mut share) = (0.0, 1.0);
    while number > 0 {
        share /= f64::from(base);
        value += f64::from(number % base) * share;
        number /= base;
    }
    value
}

/// Candidates by what they cost; of equals, the earlier first.
#[derive(Default)]
struct Ranked(Vec<(i64, Places)>);

impl Ranked {
    fn add(&mut self, tried: &[Places], costs: Vec<Option<i64>>) {
        let known = tried.iter().zip(costs);
        self.0
            .extend(known.filter_map(|(places, cost)| Some((cost?, places.clone()))));
        self.0.sort_by_key(|(cost, _)| *cost);
    }

    fn best(&self) -> impl Iterator<Item = &Places> {
        self.0.iter().map(|(_, places)| places)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Finds the bottom of `cost`, a function of the places; as it stands is at
    /// the places of `file`. Also says how many were tried on each rung.
    fn bottom(
        course: &Course,
        file: &[f64],
        seed: u64,
        cost: impl Fn(&[f64]) -> Option<i64>,
    ) -> (Places, Vec<usize>) {
        let mut tries = vec![0; course.kept.len() + 1];
        let found = search(course, file.len(), seed, |rung, tried| {
            tries[rung] += tried.len();
            let costs = tried.iter().map(|places| {
                let own = places
                    .iter()
                    .zip(file)
                    .map(|(place, file)| place.unwrap_or(*file));
                cost(&own.collect::<Vec<_>>())
            });
            Ok::<_, Infallible>(costs.collect())
        });
        let found = found.expect("never fails");
        (found.into_iter().next().expect("at least one"), tries)
    }

    #[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
    fn bowl(places: &[f64], centre: &[f64]) -> i64 {
        let off = places
            .iter()
            .zip(centre)
            .map(|(place, centre)| libm::pow(place - centre, 2.0));
        (off.sum::<f64>() * 1e9) as i64
    }

    #[test]
    fn the_bottom_of_a_bowl_is_found_with_as_many_runs_as_told() {
        let courses = [
            Course::of_window(),
            Course {
                first: 47,
                kept: vec![16, 6],
                around: 8,
            },
        ];
        let bowls = [(1, vec![0.3]), (2, vec![0.97]), (3, vec![0.2, 0.7])];
        for (course, (seed, centre)) in courses
            .iter()
            .flat_map(|course| bowls.iter().map(move |bowl| (course, bowl)))
        {
            let file = vec![0.5; centre.len()];
            let (found, tries) = bottom(course, &file, *seed, |places| Some(bowl(places, centre)));
            assert_eq!(tries, course.tries(centre.len()));
            for (place, centre) in found.iter().zip(centre) {
                let off = (place.expect("not as it stands") - centre).abs();
                assert!(
                    off < if found.len() == 1 { 0.01 } else { 0.12 },
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn what_stands_in_the_file_is_kept_unless_something_is_better() {
        let (found, _) = bottom(&Course::of_window(), &[0.5], 1, |_| Some(7));
        assert_eq!(found, vec![None]);
        let (found, _) = bottom(&Course::of_window(), &[0.123], 1, |places| {
            Some(bowl(places, &[0.123]))
        });
        assert_eq!(found, vec![None]);
    }

    #[test]
    fn what_makes_no_policy_never_wins() {
        let (found, _) = bottom(&Course::of_window(), &[0.1], 1, |places| {
            (places[0] < 0.5).then(|| bowl(places, &[0.9]))
        });
        assert!(found[0].is_some_and(|place| (0.4..0.5).contains(&place)));
        let (found, _) = bottom(&Course::of_window(), &[0.1, 0.1], 1, |_| None);
        assert_eq!(found, vec![None, None]);
    }

    #[test]
    fn the_same_seed_searches_the_same_places() {
        let all = |seed| {
            let mut all = Vec::new();
            let found = search(&Course::of_window(), 2, seed, |_, tried| {
                all.extend_from_slice(tried);
                Ok::<_, Infallible>(vec![Some(1); tried.len()])
            });
            found.expect("never fails");
            all
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }
}
