//! Several policies, one wish.

use crate::model::{Proposal, Reason, Wish};

/// What several proposals come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combined {
    /// The one wish; `None` if every policy abstained, which holds the fleet.
    pub wish: Option<u32>,
    /// How it came about, in order.
    pub reasons: Vec<Reason>,
}

/// The largest wish wins; of equal ones the first.
///
/// - If every policy abstains there is no wish, and the fleet is held.
/// - If some abstain, the fleet may grow but not shrink: the wish is raised
///   to `current`, and [`Reason::ShrinkNeedsEveryReading`] says who abstained.
///
/// Amazon's target tracking combines its policies the same way: any may grow
/// the group, all must agree before it shrinks.
pub fn combine(proposals: &[Proposal], current: u32) -> Combined {
    let mut largest: Option<(u32, &Proposal)> = None;
    let mut abstaining: Option<&Proposal> = None;
    for proposal in proposals {
        match proposal.wish {
            Wish::Instances(count) if largest.is_none_or(|(most, _)| count > most) => {
                largest = Some((count, proposal));
            }
            Wish::Instances(_) => {}
            Wish::Abstain(_) => abstaining = abstaining.or(Some(proposal)),
        }
    }
    let Some((count, winner)) = largest else {
        return Combined {
            wish: None,
            reasons: vec![Reason::AllAbstained],
        };
    };
    let mut reasons = vec![Reason::Followed {
        policy: winner.policy.clone(),
    }];
    let held = abstaining.filter(|_| count < current);
    reasons.extend(held.map(|proposal| Reason::ShrinkNeedsEveryReading {
        policy: proposal.policy.clone(),
    }));
    let wish = if held.is_some() { current } else { count };
    Combined {
        wish: Some(wish),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Absence;
    use expect_test::{Expect, expect};

    fn proposal(policy: &str, wish: Option<u32>) -> Proposal {
        Proposal {
            policy: policy.to_owned(),
            wish: wish.map_or(Wish::Abstain(Absence::NoData), Wish::Instances),
            why: String::new(),
        }
    }

    /// `wishes` belong to policies a, b, c...
    fn check(wishes: &[Option<u32>], current: u32, expected: &Expect) {
        let proposals: Vec<Proposal> = wishes
            .iter()
            .zip(["a", "b", "c"])
            .map(|(wish, name)| proposal(name, *wish))
            .collect();
        let combined = combine(&proposals, current);
        let reasons: Vec<String> = combined.reasons.iter().map(ToString::to_string).collect();
        expected.assert_eq(&format!("{:?}: {}", combined.wish, reasons.join("; ")));
    }

    #[test]
    fn largest_wish_wins_and_the_first_of_equals() {
        check(
            &[Some(3), Some(7), Some(5)],
            4,
            &expect!["Some(7): following b"],
        );
        check(&[Some(3), Some(2)], 4, &expect!["Some(3): following a"]);
        check(&[Some(7), Some(7)], 4, &expect!["Some(7): following a"]);
        check(&[Some(0)], 4, &expect!["Some(0): following a"]);
    }

    #[test]
    fn all_abstaining_is_no_wish() {
        check(
            &[None, None],
            4,
            &expect!["None: every policy abstained, so the fleet is held"],
        );
        check(
            &[],
            4,
            &expect!["None: every policy abstained, so the fleet is held"],
        );
    }

    #[test]
    fn some_abstaining_may_grow_but_not_shrink() {
        check(&[None, Some(9)], 4, &expect!["Some(9): following b"]);
        check(&[Some(4), None], 4, &expect!["Some(4): following a"]);
        check(
            &[Some(3), None, None],
            4,
            &expect!["Some(4): following a; not shrinking while b abstains"],
        );
    }
}
