use super::*;
use crate::fields::{Document, Fields};
use crate::model::{Billing, Market};
use crate::problems::Problems;
use crate::signal::SignalKind::{Ratio, Total};
use expect_test::{Expect, expect};

fn offerings() -> Vec<Offering> {
    vec![Offering {
        name: "c7g.large".to_owned(),
        price: MicroUsdPerHour::new(170_000),
        billing: Billing {
            increment: Duration::from_secs(1),
            minimum: Duration::from_mins(1),
        },
        slots: 1,
        market: Market::OnDemand,
        prepaid: 0,
    }]
}

fn read(text: &str) -> Result<FleetSpec, Problems> {
    Document::parse(text)?.read(|root| {
        root.table("fleet", |fleets| {
            fleets.table("photos", |fleet| read_fleet(fleet, "photos", offerings()))
        })
    })
}

/// All problems of a fleet, or its spec as it is stored.
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&match read(text) {
        Ok(spec) => serde_json::to_string(&spec).expect("plain data"),
        Err(problems) => problems.in_file("f"),
    });
}

/// All problems of a fleet that is sound but for `extra` and its policies.
fn check_policies(policies: &str, expected: &Expect) {
    let text = format!(
        "[fleet.photos]\nlimits = {{ min = 2, max = 10, max_usd_per_hour = 5 }}\n{policies}"
    );
    check(&text, expected);
}

/// All problems of a fleet with these limits and a policy that is sound.
fn check_limits(limits: &str, expected: &Expect) {
    let policy = "[[fleet.photos.policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 4";
    check(
        &format!("[fleet.photos.limits]\n{limits}\n{policy}"),
        expected,
    );
}

#[test]
fn a_small_fleet_has_its_defaults() {
    check_limits(
        "max = 8\nmax_usd_per_hour = 1.36",
        &expect![[
            r#"{"name":"photos","interval":{"secs":60,"nanos":0},"offerings":[{"name":"c7g.large","price":170000,"billing":{"increment":{"secs":1,"nanos":0},"minimum":{"secs":60,"nanos":0}},"slots":1}],"signals":[{"name":"backlog","kind":"total","max_age":{"secs":300,"nanos":0}},{"name":"in_flight","kind":"total","max_age":{"secs":300,"nanos":0}}],"policies":[{"name":"queue_backlog","policy":{"kind":"queue_backlog","signal":"backlog","in_flight_signal":"in_flight","count_in_flight":true,"jobs_per_instance":4.0}}],"limits":{"min":0,"max":8,"max_usd_per_hour":1360000,"grow_step_max":100,"shrink_step_max":50,"grow_settle":{"secs":0,"nanos":0},"shrink_settle":{"secs":300,"nanos":0},"shrink_percent_per_hour_max":100,"boot_timeout":{"secs":900,"nanos":0},"breaker_failures":3,"observe_cycles":2,"listing_patience":{"secs":600,"nanos":0}},"drain":{"deadline":null,"busy":true},"objective":{"usd_per_job_hour_waiting":0}}"#
        ]],
    );
}

#[test]
fn a_whole_fleet() {
    check(
        r#"
        [fleet.photos]
        interval = "30s"
        [fleet.photos.limits]
        min = 1
        max = 20
        max_usd_per_hour = "3.40"
        grow_step_max = 5
        shrink_step_max = 2
        shrink_settle = "10m"
        grow_settle = "90s"
        shrink_percent_per_hour_max = 50
        boot_timeout = "5m"
        breaker_failures = 4
        observe_cycles = 3
        listing_patience = "2m"
        strays = "end"
        strays_confirmations = 3
        [fleet.photos.mix]
        on_demand_base = 2
        on_demand_percent = 25
        [fleet.photos.spot]
        on_rebalance = "ignore"
        [fleet.photos.drain]
        deadline = "30m"
        busy = false
        [fleet.photos.objective]
        usd_per_job_hour_waiting = 0.5
        [fleet.photos.signals.backlog]
        max_age = "3m"
        [fleet.photos.signals.load]
        kind = "per_worker"
        [[fleet.photos.policy]]
        kind = "queue_backlog"
        jobs_per_instance = 4
        [[fleet.photos.policy]]
        name = "load"
        kind = "target_tracking"
        signal = "load"
        target = 12
        "#,
        &expect![[
            r#"{"name":"photos","interval":{"secs":30,"nanos":0},"offerings":[{"name":"c7g.large","price":170000,"billing":{"increment":{"secs":1,"nanos":0},"minimum":{"secs":60,"nanos":0}},"slots":1}],"signals":[{"name":"backlog","kind":"total","max_age":{"secs":180,"nanos":0}},{"name":"in_flight","kind":"total","max_age":{"secs":300,"nanos":0}},{"name":"load","kind":"per_worker","max_age":{"secs":300,"nanos":0}}],"policies":[{"name":"queue_backlog","policy":{"kind":"queue_backlog","signal":"backlog","in_flight_signal":"in_flight","count_in_flight":true,"jobs_per_instance":4.0}},{"name":"load","policy":{"kind":"target_tracking","signal":"load","target":12.0,"dead_band":0.1,"to_zero":false}}],"limits":{"min":1,"max":20,"max_usd_per_hour":3400000,"grow_step_max":5,"shrink_step_max":2,"grow_settle":{"secs":90,"nanos":0},"shrink_settle":{"secs":600,"nanos":0},"shrink_percent_per_hour_max":50,"boot_timeout":{"secs":300,"nanos":0},"breaker_failures":4,"observe_cycles":3,"listing_patience":{"secs":120,"nanos":0},"strays":"end","strays_confirmations":3},"mix":{"on_demand_base":2,"on_demand_percent":25},"spot":{"on_rebalance":"ignore"},"drain":{"deadline":{"secs":1800,"nanos":0},"busy":false},"objective":{"usd_per_job_hour_waiting":500000}}"#
        ]],
    );
}

#[test]
fn an_empty_fleet_says_what_is_missing() {
    check(
        "[fleet.photos]",
        &expect![[r#"
        f:1: fleet.photos.limits.max: missing; write the most instances the fleet may have, such as 20
        f:1: fleet.photos.limits.max_usd_per_hour: missing; write the most the fleet may cost an hour in dollars, such as 3.40
        f:1: fleet.photos.policy: missing; write at least one [[policy]] table with its `kind`"#]],
    );
    check(
        "[fleet.photos]\npolicy = []\nlimits = 3",
        &expect![[r#"
        f:2: fleet.photos.policy: empty; write at least one [[policy]] table with its `kind`
        f:3: fleet.photos.limits: a whole number where a table [fleet.photos.limits] is needed"#]],
    );
}

#[test]
fn every_limit_has_bounds() {
    check_limits(
        "min = 100001\nmax = 0\nmax_usd_per_hour = -1\ngrow_step_max = 0\nshrink_step_max = 0\n\
         shrink_settle = \"25h\"\ngrow_settle = 60\nshrink_percent_per_hour_max = 101\n\
         boot_timeout = \"0s\"\nbreaker_failures = 0\nobserve_cycles = 101\n\
         listing_patience = \"0s\"\nmaximum = 1",
        &expect![[r#"
            f:2: fleet.photos.limits.min: 100001 is out of bounds; write 0 to 100000
            f:3: fleet.photos.limits.max: 0 is out of bounds; write 1 to 100000
            f:4: fleet.photos.limits.max_usd_per_hour: -1 is negative; write 0 or more
            f:5: fleet.photos.limits.grow_step_max: 0 is out of bounds; write 1 to 100000
            f:6: fleet.photos.limits.shrink_step_max: 0 is out of bounds; write 1 to 100000
            f:7: fleet.photos.limits.shrink_settle: "25h" is out of bounds; write "0s" to "1d"
            f:8: fleet.photos.limits.grow_settle: 60 has no unit; write "60s" if seconds are meant
            f:9: fleet.photos.limits.shrink_percent_per_hour_max: 101 is out of bounds; write 1 to 100
            f:10: fleet.photos.limits.boot_timeout: "0s" is out of bounds; write "1s" to "1d"
            f:11: fleet.photos.limits.breaker_failures: 0 is out of bounds; write 1 to 1000
            f:12: fleet.photos.limits.observe_cycles: 101 is out of bounds; write 0 to 100
            f:13: fleet.photos.limits.listing_patience: "0s" is out of bounds; write "1s" to "1d"
            f:14: fleet.photos.limits.maximum: unknown key; did you mean `max`?"#]],
    );
    check_limits(
        "min = 9\nmax = 8\nmax_usd_per_hour = 5",
        &expect!["f:2: fleet.photos.limits.min: 9 is above max (8)"],
    );
    check(
        "[fleet.photos]\ninterval = \"2h\"\nlimits = { max = 1, max_usd_per_hour = 1 }\n\
         drain = { deadline = \"8d\", busy = 1 }\nobjective = { usd_per_job_hour_waiting = -1 }\n\
         policy = [{ kind = \"fixed\", instances = 1 }]",
        &expect![[r#"
            f:2: fleet.photos.interval: "2h" is out of bounds; write "1s" to "1h"
            f:4: fleet.photos.drain.busy: a whole number where true or false is needed
            f:4: fleet.photos.drain.deadline: "8d" is out of bounds; write "0s" to "7d"
            f:5: fleet.photos.objective.usd_per_job_hour_waiting: -1 is negative; write 0 or more"#]],
    );
}

#[test]
fn money_must_pay_for_the_minimum() {
    check_limits(
        "min = 8\nmax = 8\nmax_usd_per_hour = 1.35",
        &expect![
            "f:4: fleet.photos.limits.max_usd_per_hour: $1.35 an hour does not pay for min (8) of c7g.large, which costs $1.36; raise it or lower min"
        ],
    );
    check_limits(
        "max = 8\nmax_usd_per_hour = 0.16",
        &expect![
            "f:3: fleet.photos.limits.max_usd_per_hour: $0.16 an hour does not pay for one c7g.large, which costs $0.17; raise it"
        ],
    );
    check_limits(
        "min = 1\nmax = 8\nmax_usd_per_hour = 0",
        &expect![
            "f:4: fleet.photos.limits.max_usd_per_hour: $0.00 an hour does not pay for min (1) of c7g.large, which costs $0.17; raise it"
        ],
    );
    assert!(
        read(
            "[fleet.photos]\nlimits = { min = 8, max = 8, max_usd_per_hour = 1.36 }\n\
                  policy = [{ kind = \"fixed\", instances = 8 }]"
        )
        .is_ok()
    );
}

#[test]
fn waits_shorter_than_a_cycle_make_no_sense() {
    check_limits(
        "max = 8\nmax_usd_per_hour = 5\nshrink_settle = \"59s\"\ngrow_settle = \"1s\"\n\
         boot_timeout = \"30s\"\nlisting_patience = \"59s\"",
        &expect![[r#"
            f:4: fleet.photos.limits.shrink_settle: 59s is shorter than interval (1m), so it never delays anything; write "0s" or at least "1m"
            f:5: fleet.photos.limits.grow_settle: 1s is shorter than interval (1m), so it never delays anything; write "0s" or at least "1m"
            f:6: fleet.photos.limits.boot_timeout: 30s is shorter than interval (1m): an instance would count as failed before it was looked for once; write at least "1m"
            f:7: fleet.photos.limits.listing_patience: 59s is shorter than interval (1m): a launch would count as lost before it was looked for once; write at least "1m""#]],
    );
}

#[test]
fn a_total_is_refused_where_it_would_compound() {
    check_policies(
        "[fleet.photos.signals]\nrate = { kind = \"rate\" }\n\
         [[fleet.photos.policy]]\nkind = \"target_tracking\"\nsignal = \"backlog\"\ntarget = 100\n\
         [[fleet.photos.policy]]\nkind = \"target_tracking\"\nname = \"b\"\nsignal = \"rate\"\ntarget = 5\n\
         [[fleet.photos.policy]]\nkind = \"target_tracking\"\nname = \"c\"\nsignal = \"oldest_age\"\ntarget = 5\n\
         [[fleet.photos.policy]]\nkind = \"target_tracking\"\nname = \"d\"\ntarget = 70\n\
         [[fleet.photos.policy]]\nkind = \"queue_backlog\"\nsignal = \"utilization\"\njobs_per_instance = 4\n\
         in_flight_signal = \"arrivals\"\n\
         [[fleet.photos.policy]]\nkind = \"step\"\nsignal = \"arrivals\"\nstep = [{ above = 1, change = 1 }]",
        &expect![[r#"
            f:7: fleet.photos.policy[0].signal: `backlog` is a total, which does not fall as instances are added: a constant reading at twice the target would double the fleet every cycle; use a per_worker or ratio signal, or `kind = "queue_backlog"` for a queue
            f:12: fleet.photos.policy[1].signal: `rate` is a rate, which does not fall as instances are added: a constant reading at twice the target would double the fleet every cycle; use a per_worker or ratio signal, or `kind = "queue_backlog"` for a queue
            f:17: fleet.photos.policy[2].signal: `oldest_age` is a duration, which does not fall as instances are added: a constant reading at twice the target would double the fleet every cycle; use a per_worker or ratio signal, or `kind = "queue_backlog"` for a queue
            f:22: fleet.photos.policy[3].target: 70 is above 1, and `utilization` is a ratio from 0 to 1; write 0.7 for 70 %
            f:25: fleet.photos.policy[4].signal: `utilization` is a ratio and not a total: dividing it by jobs per instance gives no number of instances
            f:27: fleet.photos.policy[4].in_flight_signal: `arrivals` is a counter and not a total: dividing it by jobs per instance gives no number of instances
            f:30: fleet.photos.policy[5].signal: `arrivals` is a counter, which only rises: no threshold makes sense for it; use the rate of it"#]],
    );
}

#[test]
fn signals_must_be_known() {
    check_policies(
        "[fleet.photos.signals.requests]\nkind = \"per_worker\"\n\
         [[fleet.photos.policy]]\nkind = \"target_tracking\"\nsignal = \"utilisation\"\ntarget = 0.7\n\
         [[fleet.photos.policy]]\nkind = \"step\"\nsignal = \"request\"\nstep = [{ above = 1, change = 1 }]\n\
         [[fleet.photos.policy]]\nkind = \"queue_backlog\"\nsignal = \"mails\"\njobs_per_instance = 4",
        &expect![[r#"
            f:7: fleet.photos.policy[0].signal: no signal is called `utilisation`; add [signals.utilisation] with its `kind`; did you mean `utilization`?
            f:11: fleet.photos.policy[1].signal: no signal is called `request`; add [signals.request] with its `kind`; did you mean `requests`?
            f:15: fleet.photos.policy[2].signal: no signal is called `mails`; add [signals.mails] with its `kind`"#]],
    );
}

#[test]
fn signals_have_a_kind_and_a_plain_name() {
    check_policies(
        "[fleet.photos.signals]\nrequests = {}\nbacklog = { kind = \"ratio\" }\n\
         in_flight = { kind = \"total\", max_age = \"2d\" }\n\"a b\" = { kind = \"ratio\" }\n\
         load = { kind = \"per_wroker\", age_max = 3 }\n\
         [[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 4",
        &expect![[r#"
            f:4: fleet.photos.signals.requests.kind: missing; write one of "total", "per_worker", "ratio", "rate", "counter" or "duration"
            f:5: fleet.photos.signals.backlog.kind: `backlog` is a total and no ratio; remove `kind` or rename the signal
            f:6: fleet.photos.signals.in_flight.max_age: "2d" is out of bounds; write "1s" to "1d"
            f:7: fleet.photos.signals."a b": "a b" is no name for a signal; write 1 to 64 letters, digits, `_` and `-`
            f:8: fleet.photos.signals.load.age_max: unknown key; known here: kind, max_age
            f:8: fleet.photos.signals.load.kind: "per_wroker" is not one of "total", "per_worker", "ratio", "rate", "counter" or "duration"; did you mean `per_worker`?"#]],
    );
}

#[test]
fn sizes_that_no_limit_allows_are_refused() {
    check_policies(
        "[[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 11\n\
         [[fleet.photos.policy]]\nkind = \"fixed\"\nname = \"low\"\ninstances = 1\n\
         [[fleet.photos.policy]]\nkind = \"schedule\"\notherwise = 1\n\
         [[fleet.photos.policy.window]]\nstart = \"0 8 * * *\"\nduration = \"1h\"\ninstances = 1\n\
         [[fleet.photos.policy.window]]\nstart = \"0 8 * * *\"\nduration = \"1h\"\ninstances = 12\n\
         [[fleet.photos.policy]]\nkind = \"step\"\nsignal = \"backlog\"\nstep = [{ above = 1, exact = 99 }, { below = 0, exact = 1 }]",
        &expect![[r#"
            f:5: fleet.photos.policy[0].instances: 11 is above limits.max (10)
            f:9: fleet.photos.policy[1].instances: 1 is below limits.min (2)
            f:12: fleet.photos.policy[2].otherwise: 1 is below limits.min (2)
            f:16: fleet.photos.policy[2].window[0].instances: 1 is below limits.min (2)
            f:20: fleet.photos.policy[2].window[1].instances: 12 is above limits.max (10)
            f:24: fleet.photos.policy[3].step[0].exact: 99 is above limits.max (10)
            f:24: fleet.photos.policy[3].step[1].exact: 1 is below limits.min (2)"#]],
    );
}

#[test]
fn a_fleet_must_not_stay_empty_for_good() {
    let fleet = |policies: &str| {
        format!("[fleet.photos]\nlimits = {{ max = 10, max_usd_per_hour = 5 }}\n{policies}")
    };
    let tracking =
        "[[fleet.photos.policy]]\nkind = \"target_tracking\"\ntarget = 0.7\nto_zero = true\n";
    check(
        &fleet(tracking),
        &expect![
            "f:2: fleet.photos.limits.min: 0 lets the fleet become empty, and no policy of it can start an empty fleet again, because what they read is measured on instances; write at least 1, or add a policy that can (queue_backlog, schedule or fixed)"
        ],
    );
    let step = |signal: &str| {
        fleet(&format!(
            "[[fleet.photos.policy]]\nkind = \"step\"\nsignal = \"{signal}\"\n\
             step = [{{ above = 0.8, percent = 10 }}, {{ below = 0.2, change = -1 }}]"
        ))
    };
    assert!(read(&step("utilization")).is_err());
    assert!(read(&step("latency_p95")).is_err());
    assert!(read(&step("oldest_age")).is_ok());
    let starter = "[[fleet.photos.policy]]\nkind = \"queue_backlog\"\njobs_per_instance = 9";
    assert!(read(&fleet(&format!("{tracking}{starter}"))).is_ok());
    let off = "[[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 0";
    assert!(read(&fleet(off)).is_ok(), "a fleet may be switched off");
}

#[test]
fn policies_say_what_is_wrong_with_them() {
    check_policies(
        r#"
        [[fleet.photos.policy]]
        [[fleet.photos.policy]]
        kind = "target_traking"
        anything = 1
        [[fleet.photos.policy]]
        kind = "fixed"
        instances = 4
        name = "two words"
        instance = 4
        [[fleet.photos.policy]]
        kind = "fixed"
        name = "same"
        instances = 4
        [[fleet.photos.policy]]
        kind = "fixed"
        name = "same"
        instances = 100001
        [[fleet.photos.policy]]
        kind = "queue_backlog"
        jobs_per_instance = 0
        count_in_flight = false
        in_flight_signal = "busy"
        [[fleet.photos.policy]]
        kind = "target_tracking"
        dead_band = 1
        target = 0
        "#,
        &expect![[r#"
            f:4: fleet.photos.policy[0].kind: missing; write one of "fixed", "schedule", "queue_backlog", "target_tracking", "step" or "economic"
            f:6: fleet.photos.policy[1].kind: "target_traking" is not one of "fixed", "schedule", "queue_backlog", "target_tracking", "step" or "economic"; did you mean `target_tracking`?
            f:11: fleet.photos.policy[2].name: "two words" is no name; write 1 to 40 letters, digits, `_` and `-`
            f:12: fleet.photos.policy[2].instance: unknown key; did you mean `instances`?
            f:20: fleet.photos.policy[4].instances: 100001 is out of bounds; write 0 to 100000
            f:23: fleet.photos.policy[5].jobs_per_instance: 0 is out of bounds; write 0.001 to 1000000
            f:25: fleet.photos.policy[5].in_flight_signal: has no effect while `count_in_flight` is false; remove one of the two
            f:28: fleet.photos.policy[6].dead_band: 1 is out of bounds; write 0 to 0.9
            f:29: fleet.photos.policy[6].target: 0 is out of bounds; write 0.000001 to 1000000000"#]],
    );
}

#[test]
fn policies_have_names_of_their_own() {
    check_policies(
        "[[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 4\n\
         [[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 5\n\
         [[fleet.photos.policy]]\nkind = \"fixed\"\nname = \"b\"\ninstances = 5",
        &expect![
            "f:6: fleet.photos.policy[1]: is called `fixed` like fleet.photos.policy[0]; give one of them another `name`"
        ],
    );
}

#[test]
fn a_fleet_has_a_handful_of_policies() {
    let policies: Vec<String> = (0..33)
        .map(|index| format!("{{ kind = \"fixed\", name = \"p{index}\", instances = 4 }}"))
        .collect();
    check_policies(
        &format!("policy = [{}]", policies.join(", ")),
        &expect!["f:3: fleet.photos.policy: 33 policies; at most 32"],
    );
}

#[test]
fn schedules_say_what_is_wrong_with_them() {
    check_policies(
        r#"
        [[fleet.photos.policy]]
        kind = "schedule"
        timezone = "Europe/Berln"
        [[fleet.photos.policy]]
        name = "b"
        kind = "schedule"
        [[fleet.photos.policy.window]]
        [[fleet.photos.policy.window]]
        start = "0 8 30 2 *"
        duration = "1h"
        end = "0 9 * * *"
        instances = 3
        [[fleet.photos.policy.window]]
        start = "0 8 * * MON-FRI"
        end = "0 8 * * 1-5"
        instances = -3
        [[fleet.photos.policy.window]]
        start = "8:00"
        duration = "30s"
        instances = 3
        "#,
        &expect![[r#"
            f:4: fleet.photos.policy[0].window: missing; write at least one [[policy.window]]
            f:6: fleet.photos.policy[0].timezone: "Europe/Berln" is no time zone of the IANA database, such as "Europe/Berlin"; did you mean `Europe/Berlin`?
            f:10: fleet.photos.policy[1].window[0]: says not how long it is open; write `duration = "10h"` or `end = "0 18 * * MON-FRI"`
            f:10: fleet.photos.policy[1].window[0].instances: missing; write how many instances while it is open, such as 12
            f:10: fleet.photos.policy[1].window[0].start: missing; write the cron line that opens it, such as "0 8 * * MON-FRI"
            f:12: fleet.photos.policy[1].window[1].start: `0 8 30 2 *` never fires: there is no such day
            f:14: fleet.photos.policy[1].window[1].end: a window has either `duration` or `end`; remove one
            f:18: fleet.photos.policy[1].window[2].end: is the same as `start`, so the window would never be closed
            f:19: fleet.photos.policy[1].window[2].instances: -3 is negative; write 0 or more
            f:21: fleet.photos.policy[1].window[3].start: `8:00` is no cron line: it needs five fields (minute hour day month weekday), such as "0 8 * * MON-FRI", and has 1
            f:22: fleet.photos.policy[1].window[3].duration: "30s" is out of bounds; write "1m" to "366d""#]],
    );
}

#[test]
fn steps_say_what_is_wrong_with_them() {
    check_policies(
        r#"
        [[fleet.photos.policy]]
        kind = "step"
        [[fleet.photos.policy]]
        name = "shape"
        kind = "step"
        signal = "oldest_age"
        step = [
            {},
            { above = 1, below = 2, change = 1, exact = 3 },
            { above = -1, change = 0 },
            { above = 2, percent = 0.0 },
            { above = 3, percent = -101 },
            { above = 4, change = 1, change_min = 2 },
            { above = 5, percent = 10, change_min = 0 },
            { above = "6", change = 100001 },
        ]
        [[fleet.photos.policy]]
        name = "sense"
        kind = "step"
        signal = "oldest_age"
        step = [
            { above = 60, change = 1 },
            { above = 60, change = 2 },
            { above = 70, change = -1 },
            { below = 80, change = -1 },
            { below = 10, percent = 10 },
            { below = 5, exact = 3 },
        ]
        "#,
        &expect![[r#"
            f:4: fleet.photos.policy[0].signal: missing; write the signal to watch, such as "oldest_age"
            f:4: fleet.photos.policy[0].step: missing; write at least one [[policy.step]]
            f:11: fleet.photos.policy[1].step[0]: says not when it applies; write `above` or `below`
            f:11: fleet.photos.policy[1].step[0]: says not what to do; write `change`, `percent` or `exact`
            f:12: fleet.photos.policy[1].step[1].below: a step has either `above` or `below`; make two steps of it
            f:12: fleet.photos.policy[1].step[1].exact: a step has one of `change`, `percent` and `exact`; remove the others
            f:13: fleet.photos.policy[1].step[2].above: -1 is out of bounds; write 0 to 1000000000000000
            f:13: fleet.photos.policy[1].step[2].change: 0 changes nothing; write another number or remove the step
            f:14: fleet.photos.policy[1].step[3].percent: 0 changes nothing; write another number or remove the step
            f:15: fleet.photos.policy[1].step[4].percent: -101 is out of bounds; write -100 to 1000
            f:16: fleet.photos.policy[1].step[5].change_min: has no effect without `percent`; remove it
            f:17: fleet.photos.policy[1].step[6].change_min: 0 is out of bounds; write 1 to 100000
            f:18: fleet.photos.policy[1].step[7].above: a string where a number is needed
            f:18: fleet.photos.policy[1].step[7].change: 100001 is out of bounds; write -100000 to 100000
            f:26: fleet.photos.policy[2].step[1]: begins at 60 as an earlier step does; remove one of them
            f:27: fleet.photos.policy[2].step[2]: goes the other way than an earlier step on the same side; let all steps above go one way and all steps below the other
            f:28: fleet.photos.policy[2].step[3]: overlaps an earlier step: a reading from 60 to 80 would be above and below at once; keep every `below` lower than every `above`
            f:29: fleet.photos.policy[2].step[4]: goes the same way as the steps on the other side, so the fleet could never go back; let all steps above go one way and all steps below the other"#]],
    );
}

#[test]
fn policies_from_a_file_are_reported_at_the_key_that_names_it() {
    let document = Document::parse(
        "[fleet.photos]\npolicy_file = \"fixed.toml\"\nlimits = { max = 2, max_usd_per_hour = 5 }",
    )
    .expect("TOML");
    let outcome = document.read(|root| {
        root.table("fleet", |fleets| {
            fleets.table("photos", |fleet| {
                let file: String = fleet.required("policy_file", "a file")?;
                let text = crate::presets::text("fixed").expect("a preset");
                let policy = crate::policy_file::read(text).expect("sound");
                let limits = read_limits(fleet)?;
                let parts = FleetParts {
                    name: "photos".to_owned(),
                    interval: read_interval(fleet),
                    offerings: offerings(),
                    signals: policy.signals,
                    policies: policy.policies,
                    policies_at: PoliciesAt::File {
                        key: "policy_file".to_owned(),
                        file,
                    },
                    limits,
                    mix: Mix::default(),
                    spot: Spot::default(),
                    drain: read_drain(fleet),
                    objective: read_objective(fleet),
                };
                assemble(fleet, parts)
            })
        })
    });
    expect![
        "f:2: fleet.photos.policy_file: fixed.toml: policy[0].instances: 4 is above limits.max (2)"
    ]
    .assert_eq(&outcome.expect_err("too large").in_file("f"));
}

#[test]
fn unbound_limits_bind_nothing_and_can_be_read_over() {
    let document = Document::parse("limits = { shrink_settle = \"5m\", max = 50 }").expect("TOML");
    let limits = document
        .read(|fields| read_limits_over(fields, &Limits::unbound(1, 1_000)))
        .expect("sound");
    let expected = Limits {
        max: 50,
        shrink_settle: Duration::from_mins(5),
        ..Limits::unbound(1, 1_000)
    };
    assert_eq!(limits, expected);
}

#[test]
fn signals_of_a_fleet_override_those_of_a_policy_file() {
    let signal = |name: &str, kind, secs| SignalSpec {
        name: name.to_owned(),
        kind,
        max_age: Duration::from_secs(secs),
    };
    let base = [signal("a", Total, 1), signal("b", Ratio, 2)];
    let merged = override_signals(&base, &[signal("b", Ratio, 9), signal("c", Total, 3)]);
    let expected = vec![
        signal("a", Total, 1),
        signal("b", Ratio, 9),
        signal("c", Total, 3),
    ];
    assert_eq!(merged, Ok(expected));
    let (name, message) = override_signals(&base, &[signal("a", Ratio, 1)]).expect_err("differs");
    expect!["a is a ratio here and a total in the policy file; make them the same"]
        .assert_eq(&format!("{name} {message}"));
}

#[test]
fn fleets_have_plain_names() {
    assert_eq!(parse_fleet_name("photos-2"), Ok("photos-2".to_owned()));
    for wrong in [
        "",
        "Photos",
        "a_b",
        "photos and videos",
        "abcdefghijklmnopqrstuvwxy",
    ] {
        assert!(parse_fleet_name(wrong).is_err(), "{wrong}");
    }
    expect![[r#""Photos" is no name for a fleet; write 1 to 24 characters of a-z, 0-9 and -"#]]
        .assert_eq(&parse_fleet_name("Photos").expect_err("capital"));
}

#[test]
fn a_fingerprint_changes_with_the_spec_and_never_else() {
    let text = |max: u32| {
        format!(
            "[fleet.photos]\nlimits = {{ max = {max}, max_usd_per_hour = 5 }}\n\
             [[fleet.photos.policy]]\nkind = \"fixed\"\ninstances = 1"
        )
    };
    let of = |max: u32| read(&text(max)).expect("sound").fingerprint();
    assert_eq!(of(8), of(8));
    assert_ne!(of(8), of(9));
    expect!["d78fd50c8b2b78f4"].assert_eq(&of(8));
}

#[test]
fn a_spec_survives_being_written_down() {
    for (name, text) in crate::presets::all() {
        let file = crate::policy_file::read(text).expect("sound");
        let spec = FleetSpec {
            name: name.to_owned(),
            interval: FleetSpec::INTERVAL,
            offerings: offerings(),
            signals: file.signals,
            policies: file.policies,
            limits: Limits::unbound(0, 8),
            mix: Mix::default(),
            spot: Spot::default(),
            drain: Drain::default(),
            objective: Objective::default(),
        };
        let json = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(
            serde_json::from_str::<FleetSpec>(&json).expect("as written"),
            spec
        );
    }
}

#[test]
fn scenario_parts_are_read_at_the_top() {
    let document = Document::parse("[objective]\nusd_per_job_hour_waiting = 1.0").expect("TOML");
    let read = |fields: &mut Fields<'_>| Some(read_objective(fields));
    let objective = document.read(read).expect("sound");
    assert_eq!(
        objective.usd_per_job_hour_waiting,
        MicroUsdPerHour::new(1_000_000)
    );
}

#[test]
fn mix_spot_and_strays_have_bounds() {
    check(
        "[fleet.photos]\nlimits = { max = 8, max_usd_per_hour = 5, strays = \"kill\", strays_confirmations = 1 }\n\
         mix = { on_demand_base = -1, on_demand_percent = 101 }\nspot = { on_rebalance = \"replcae\" }\n\
         policy = [{ kind = \"fixed\", instances = 1 }]",
        &expect![[r#"
            f:2: fleet.photos.limits.strays: "kill" is not one of "adopt" or "end"
            f:2: fleet.photos.limits.strays_confirmations: 1 is out of bounds; write 2 to 100
            f:3: fleet.photos.mix.on_demand_base: -1 is negative; write 0 or more
            f:3: fleet.photos.mix.on_demand_percent: 101 is out of bounds; write 0 to 100
            f:4: fleet.photos.spot.on_rebalance: "replcae" is not one of "replace" or "ignore"; did you mean `replace`?"#]],
    );
}

/// All problems of a fleet with a minimum of 4 at $1.00 an hour that may buy
/// on demand for $0.40 and on the spot market for $0.10, as far as `markets` go.
fn check_mix(mix: &str, markets: &[Market], expected: &Expect) {
    let text = format!(
        "[fleet.photos]\nlimits = {{ min = 4, max = 8, max_usd_per_hour = 1 }}\nmix = {mix}\n\
         policy = [{{ kind = \"fixed\", instances = 4 }}]"
    );
    let offered = markets.iter().map(|market| Offering {
        name: market.word().to_owned(),
        price: MicroUsdPerHour::new(match market {
            Market::OnDemand => 400_000,
            Market::Spot => 100_000,
        }),
        market: *market,
        ..offerings()[0].clone()
    });
    let offered: Vec<Offering> = offered.collect();
    let read = Document::parse(&text).and_then(|document| {
        document.read(|root| {
            root.table("fleet", |fleets| {
                fleets.table("photos", |fleet| read_fleet(fleet, "photos", offered))
            })
        })
    });
    expected.assert_eq(&match read {
        Ok(spec) => format!("{:?}", spec.mix),
        Err(problems) => problems.in_file("f"),
    });
}

#[test]
fn a_mix_must_be_for_sale_and_be_paid_for() {
    let both = [Market::Spot, Market::OnDemand];
    check_mix(
        "{ on_demand_base = 2 }",
        &both,
        &expect!["Mix { on_demand_base: 2, on_demand_percent: 0 }"],
    );
    check_mix(
        "{ on_demand_base = 9 }",
        &both,
        &expect![[r#"
        f:3: fleet.photos.mix.on_demand_base: 9 is above limits.max (8)
        f:3: fleet.photos.mix.on_demand_base: needs 4 of on_demand for limits.min (4), which costs $1.60 an hour, and limits.max_usd_per_hour is $1.00; raise that or lower this"#]],
    );
    check_mix(
        "{ on_demand_percent = 51 }",
        &both,
        &expect![
            "f:3: fleet.photos.mix.on_demand_percent: needs 3 of on_demand for limits.min (4), which costs $1.20 an hour, and limits.max_usd_per_hour is $1.00; raise that or lower this"
        ],
    );
    check_mix(
        "{ on_demand_percent = 1 }",
        &[Market::Spot],
        &expect![
            "f:3: fleet.photos.mix.on_demand_percent: nothing on demand is offered, so such instances could never be bought; add an on-demand offering or remove the mix"
        ],
    );
}

#[test]
fn a_mix_rounds_up_to_on_demand() {
    // base, percent, instances -> on demand
    for (on_demand_base, on_demand_percent, instances, on_demand) in [
        (0, 0, 10, 0),
        (3, 0, 2, 2),
        (3, 0, 10, 3),
        (0, 25, 1, 1),
        (0, 25, 4, 1),
        (0, 25, 5, 2),
        (2, 50, 5, 4),
        (2, 100, 5, 5),
    ] {
        let mix = Mix {
            on_demand_base,
            on_demand_percent,
        };
        assert_eq!(
            mix.on_demand_of(instances),
            on_demand,
            "{mix:?} of {instances}"
        );
    }
}

#[test]
fn what_is_not_set_leaves_no_trace_in_the_fingerprint() {
    let spec = read(
        "[fleet.photos]\nlimits = { max = 8, max_usd_per_hour = 5 }\n\
         policy = [{ kind = \"fixed\", instances = 1 }]",
    )
    .expect("sound");
    let json = serde_json::to_string(&spec).expect("plain data");
    for key in ["mix", "spot", "strays", "market", "prepaid"] {
        assert!(!json.contains(key), "{key} in {json}");
    }
}

#[test]
fn a_budget_is_one_amount_that_pays_for_the_minimum() {
    let policy = "[[fleet.photos.policy]]\nkind = \"economic\"\n";
    check_policies(
        &format!("{policy}budget_usd_per_day = 7.81\n"),
        &expect![
            "f:2: fleet.photos.limits.min: 2 instances for 23 hours cost $7.82, more than `budget_usd_per_day` of policy `economic` ($7.81); lower min or raise the budget"
        ],
    );
    check_policies(
        &format!(
            "{policy}budget_usd_per_day = 0\nbudget_usd_per_month = \"much\"\ntimezone = \"Berlin\"\n"
        ),
        &expect![[r#"
            f:5: fleet.photos.policy[0].budget_usd_per_day: at 0 nothing may ever be bought; write what the fleet may cost, such as 40
            f:6: fleet.photos.policy[0].budget_usd_per_month: `much` is not an amount in dollars such as 0.17
            f:7: fleet.photos.policy[0].timezone: "Berlin" is no time zone of the IANA database, such as "Europe/Berlin"; did you mean `Europe/Berlin`?"#]],
    );
    check_policies(
        &format!("{policy}budget_usd_per_day = 9\nbudget_usd_per_month = 90\n"),
        &expect![
            "f:6: fleet.photos.policy[0].budget_usd_per_month: there is `budget_usd_per_day` already; remove one of the two"
        ],
    );
}

#[test]
fn knobs_by_the_clock_say_what_is_wrong_with_them() {
    check_policies(
        "[[fleet.photos.policy]]\nkind = \"economic\"\nbudget_usd_per_month = 900\n\
         [[fleet.photos.policy.window]]\nstart = \"0 22 * * *\"\nduration = \"8h\"\n\
         [[fleet.photos.policy.window]]\nstart = \"0 22 * * *\"\nbudget_usd_per_day = 40\n\
         duration = \"8h\"\n\
         [[fleet.photos.policy.window]]\nend = \"0 22 * * *\"\npreset = \"batch\"\np95_wait = \"1m\"\n\
         budget = 3\n",
        &expect![[r#"
            f:6: fleet.photos.policy[0].window[0]: changes nothing while it is open; write what does, such as `usd_per_job_hour_waiting = 0.1`, `preset = "batch"` or `p95_wait = "10m"`
            f:11: fleet.photos.policy[0].window[1].budget_usd_per_day: another budget of this policy is `budget_usd_per_month`; write this one so, too
            f:13: fleet.photos.policy[0].window[2].start: missing; write the cron line that opens it, such as "0 8 * * MON-FRI"
            f:16: fleet.photos.policy[0].window[2].p95_wait: says what waiting is worth, as does `preset`; remove one of the two
            f:17: fleet.photos.policy[0].window[2].budget: unknown key; did you mean `budget_usd_per_day`?"#]],
    );
}
