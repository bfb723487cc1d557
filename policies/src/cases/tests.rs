use super::*;
use crate::policy_file::{self, PolicyFile};
use expect_test::{Expect, expect};

const POLICIES: &str = "[[policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 4\n\
                        [[policy]]\nkind = \"target_tracking\"\ntarget = 0.7\n";

fn read(cases: &str) -> PolicyFile {
    let text = format!("{POLICIES}{cases}");
    policy_file::read(&text).unwrap_or_else(|problems| panic!("{}", problems.in_file("f")))
}

/// How the cases come out that do not hold.
fn check(cases: &str, expected: &Expect) {
    let file = read(cases);
    let failures: Vec<String> = run(&file.policies, &file.cases)
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.assert_eq(&failures.join("\n"));
}

/// The problems of a file with these cases.
fn check_problems(cases: &str, expected: &Expect) {
    let problems = policy_file::read(&format!("{POLICIES}{cases}")).expect_err("problems");
    expected.assert_eq(&problems.in_file("f"));
}

#[test]
fn a_case_that_does_not_hold_says_all_there_is_to_know() {
    check(
        r#"
        [[case]]
        name = "holds"
        instances = 4
        readings = { backlog = 120, in_flight = 4, utilization = 1 }
        target = 31
        [[case]]
        name = "the largest wish wins"
        instances = 4
        booting = 1
        readings = { backlog = 120, in_flight = 4, utilization = 1 }
        target = 12
        [[case]]
        name = "held"
        instances = 4
        booting = 1
        readings = { backlog = "absent" }
        target = 0
        [[case]]
        name = "not held"
        instances = 4
        readings = { backlog = 8, in_flight = 0, utilization = 0.1 }
        target = "hold"
        [[case]]
        name = "may not shrink on half a picture"
        instances = 4
        readings = { backlog = 8, in_flight = 0 }
        target = 2
        "#,
        &expect![[r#"
            case `the largest wish wins`: expected 12, got 31
              queue_backlog asks for 31: (120 waiting + 4 in flight) / 4 per instance
              target_tracking asks for 6: utilization 1 of target 0.7 on 4 ready: 6 needed
            case `held`: expected 0, got 5
              queue_backlog abstains: no reading of `backlog`: no data
              target_tracking abstains: no reading of `utilization`: no source
            case `not held`: expected hold (4), got 2
              queue_backlog asks for 2: (8 waiting + 0 in flight) / 4 per instance
              target_tracking asks for 1: utilization 0.1 of target 0.7 on 4 ready: 1 needed
            case `may not shrink on half a picture`: expected 2, got 4
              queue_backlog asks for 2: (8 waiting + 0 in flight) / 4 per instance
              target_tracking abstains: no reading of `utilization`: no source"#]],
    );
}

#[test]
fn holding_is_as_many_as_there_are() {
    check(
        r#"
        [[case]]
        name = "all abstain"
        instances = 4
        booting = 2
        target = "hold"
        [[case]]
        name = "said as a number"
        instances = 4
        booting = 2
        target = 6
        [[case]]
        name = "one abstains"
        instances = 4
        readings = { backlog = 8, in_flight = 0 }
        target = "hold"
        "#,
        &expect![""],
    );
}

#[test]
fn cases_have_their_defaults() {
    let file = read("[[case]]\nname = \"a\"\ninstances = 3\ntarget = 4");
    let expected = Case {
        name: "a".to_owned(),
        before: Vec::new(),
        scene: Scene {
            instances: 3,
            booting: 0,
            desired: None,
            slots: 1,
            idle: Vec::new(),
            fresh: Vec::new(),
            at: Timestamp::EPOCH,
            readings: Readings::new(),
        },
        target: Target::Instances(4),
    };
    assert_eq!(file.cases, vec![expected]);
}

#[test]
fn cases_say_what_is_wrong_with_them() {
    check_problems(
        r#"
        [[case]]
        [[case]]
        name = "a"
        instances = -1
        booting = 100001
        slots = 0
        at = "noon"
        readings = { backlogs = 1, in_flight = -1, utilization = "gone", arrivals = 3, backlog = true }
        target = "hole"
        wish = 3
        [[case]]
        name = "a"
        instances = 1
        target = 100001
        [[case]]
        name = "b"
        instances = 1
        target = 1.5
        "#,
        &expect![[r#"
            f:8: case[0].instances: missing; write how many instances take jobs, such as 4
            f:8: case[0].name: missing; write what the case shows, such as "a full queue"
            f:8: case[0].target: missing; write a number of instances or "hold"
            f:11: case[1].instances: -1 is negative; write 0 or more
            f:12: case[1].booting: 100001 is out of bounds; write 0 to 100000
            f:13: case[1].slots: 0 is out of bounds; write 1 to 100000
            f:14: case[1].at: `noon` is not a time such as "2026-03-29T01:30:00Z" (RFC 3339)
            f:15: case[1].readings.arrivals: no policy here reads this signal
            f:15: case[1].readings.backlog: true is no reading; write a number or "absent"
            f:15: case[1].readings.backlogs: no policy here reads this signal; did you mean `backlog`?
            f:15: case[1].readings.in_flight: -1 is negative; write 0 or more, or "absent"
            f:15: case[1].readings.utilization: "gone" is no reading; write a number or "absent"
            f:16: case[1].target: "hole" is no target; write a number of instances or "hold"
            f:17: case[1].wish: unknown key; known here: at, before, booting, desired, fresh, idle, instances, name, readings, slots, target
            f:19: case[2].name: "a" is the name of an earlier case
            f:21: case[2].target: 100001 is out of bounds; write 0 to 100000
            f:25: case[3].target: 1.5 is no target; write a number of instances or "hold""#]],
    );
}

#[test]
fn a_policy_file_needs_a_policy_and_nothing_else() {
    let problems = |text: &str| policy_file::read(text).expect_err("problems").in_file("f");
    expect!["f:1: policy: missing; write at least one [[policy]] table with its `kind`"]
        .assert_eq(&problems(""));
    expect!["f:1: policy: a table where tables [[policy]] are needed"]
        .assert_eq(&problems("[policy]\nkind = \"fixed\"\ninstances = 3"));
    expect![[r#"
        f:1: cases: unknown key; did you mean `case`?
        f:4: policy[0].signal: `backlog` is a total, which does not fall as instances are added: a constant reading at twice the target would double the fleet every cycle; use a per_worker or ratio signal, or `kind = "queue_backlog"` for a queue"#]].assert_eq(&problems(
        "cases = 3\n[[policy]]\nkind = \"target_tracking\"\nsignal = \"backlog\"\ntarget = 3",
    ));
    // Readings of a case are not judged while it is not known what is read.
    expect![[r#"f:2: policy[0].kind: "fixd" is not one of "fixed", "schedule", "queue_backlog", "target_tracking", "step" or "economic"; did you mean `fixed`?"#]].assert_eq(&problems(
        "[[policy]]\nkind = \"fixd\"\n[[case]]\nname = \"a\"\ninstances = 1\n\
         readings = { anything = 1 }\ntarget = 1",
    ));
}

#[test]
fn a_policy_file_resolves_its_signals() {
    let file = policy_file::read(
        "[signals.load]\nkind = \"per_worker\"\nmax_age = \"90s\"\n[[policy]]\n\
         kind = \"target_tracking\"\nsignal = \"load\"\ntarget = 3\n[[policy]]\n\
         kind = \"queue_backlog\"\njobs_per_instance = 3",
    )
    .expect("sound");
    let signals: Vec<String> = file
        .signals
        .iter()
        .map(|signal| {
            format!(
                "{} {} {}s",
                signal.name,
                signal.kind,
                signal.max_age.as_secs()
            )
        })
        .collect();
    expect!["backlog total 300s, in_flight total 300s, load per_worker 90s"]
        .assert_eq(&signals.join(", "));
}
