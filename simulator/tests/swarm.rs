//! Swarms of faulty runs: whatever goes wrong at any call, no invariant breaks,
//! and once the faults stop the fleet settles. Planted bugs show that each
//! invariant can fail.
//!
//! `WINDLASS_SWARM_SEEDS=2000` tries more seeds; `WINDLASS_SWARM_FIRST=17`
//! begins at another one. A failure prints its seed.

mod swarm_world;

use swarm_world::{Bug, Cloud, run, run_in};

/// Seeds tried by default: a second or two.
const SEEDS_DEFAULT: u64 = 60;

/// A planted bug must be found within so many seeds.
const BUG_SEEDS_MAX: u64 = 200;

#[expect(
    clippy::disallowed_methods,
    reason = "a test's size is set from outside"
)]
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

#[test]
fn swarm_breaks_no_invariant_and_settles() {
    let first = setting("WINDLASS_SWARM_FIRST", 0);
    for seed in first..first + setting("WINDLASS_SWARM_SEEDS", SEEDS_DEFAULT) {
        let found = run(seed, None).violations;
        assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
    }
}

#[test]
fn swarm_in_a_market_breaks_no_invariant_and_settles() {
    let first = setting("WINDLASS_SWARM_FIRST", 0);
    for seed in first..first + setting("WINDLASS_SWARM_SEEDS", SEEDS_DEFAULT) {
        let found = run_in(Cloud::Market, seed, None).violations;
        assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
    }
}

#[test]
fn swarm_is_deterministic() {
    for seed in [3, 11, 29] {
        let (one, other) = (run(seed, None), run(seed, None));
        assert!(!one.record.is_empty());
        assert_eq!(one.record, other.record, "seed {seed}");
    }
}

/// The swarm finds `bug`, and what it finds says `what`.
#[track_caller]
fn finds(bug: Bug, what: &str) {
    let found = (0..BUG_SEEDS_MAX).find_map(|seed| {
        let violations = run(seed, Some(bug)).violations;
        violations
            .into_iter()
            .find(|violation| violation.contains(what))
    });
    assert!(
        found.is_some(),
        "{bug:?} was not found as \"{what}\" in {BUG_SEEDS_MAX} seeds"
    );
}

#[test]
fn swarm_kills_launches_not_counted_until_listed() {
    finds(Bug::UnlistedNotCounted, "more instances than max");
}

#[test]
fn swarm_kills_lost_answer_taken_as_failure() {
    finds(Bug::LostAnswerIsFailure, "more instances than max");
}

#[test]
fn swarm_kills_record_written_after_acting() {
    finds(Bug::RecordAfterActing, "was not written down before");
}

#[test]
fn swarm_kills_absent_read_as_zero() {
    finds(Bug::AbsentIsZero, "on an absent reading");
}

#[test]
fn swarm_kills_one_listed_instance_clearing_its_launch() {
    finds(Bug::OneListedClearsLaunch, "more instances than max");
}

#[test]
fn swarm_kills_memory_not_rebuilt_after_a_crash() {
    finds(Bug::MemoryNotRebuilt, "more instances than max");
}

#[test]
fn swarm_kills_fence_believed_without_an_answer() {
    finds(Bug::FenceAlwaysIdle, "ended with jobs in hand");
}

#[test]
fn swarm_kills_incomplete_listing_taken_as_complete() {
    finds(Bug::IncompleteIsComplete, "more instances than max");
}

#[test]
fn swarm_kills_price_undercounted() {
    finds(Bug::PriceHalved, "more an hour than it may");
}

#[test]
fn swarm_kills_tokens_used_twice() {
    finds(Bug::TokensRepeat, "does not settle");
}

#[test]
fn swarm_kills_strays_taken_for_confirmed() {
    finds(Bug::StraysNotConfirmed, "the target adds up");
}

#[test]
fn swarm_kills_rebalances_ignored_against_the_spec() {
    finds(Bug::RebalanceIgnored, "the target adds up");
}

#[test]
fn swarm_refuses_a_writer_of_an_older_epoch() {
    assert_eq!(
        swarm_world::zombie(1, 2),
        0,
        "a stale writer changed the fleet"
    );
    // The planted bug: a restart that does not raise the epoch.
    assert_ne!(
        swarm_world::zombie(2, 2),
        0,
        "the check could not have failed"
    );
}
