use super::*;
use expect_test::{Expect, expect};

fn zone(name: &str) -> Zone {
    Zone::parse(name).expect("a zone")
}

fn line(text: &str) -> CronLine {
    CronLine::parse(text).expect("a cron line")
}

fn utc(text: &str) -> DateTime<Utc> {
    moment(Timestamp::parse(text).expect("a time"))
}

/// Every firing in (`from`, `to`], in local time; checked forwards and
/// backwards, and at every minute in between.
fn firings(name: &str, cron: &str, from: &str, to: &str) -> String {
    let (zone, line) = (zone(name), line(cron));
    let (from, to) = (utc(from), utc(to));
    let mut found: Vec<DateTime<Utc>> = Vec::new();
    let mut now = from;
    while let Some(next) = zone.next_firing(&line, now) {
        if next.at > to {
            break;
        }
        found.push(next.at);
        now = next.at;
    }
    let mut minute = from;
    while minute <= to {
        let last = zone
            .last_firing(&line, minute, None)
            .map(|firing| firing.at);
        let expected = found.iter().rev().find(|at| **at <= minute);
        if let Some(expected) = expected {
            assert_eq!(last, Some(*expected), "last {cron} at {minute} in {name}");
        } else {
            assert!(
                last.is_none_or(|last| last <= from),
                "last {cron} at {minute} in {name}"
            );
        }
        minute += Duration::seconds(30);
    }
    let shown: Vec<String> = found
        .iter()
        .map(|at| at.with_timezone(&zone.0).format("%d %H:%M %z").to_string())
        .collect();
    shown.join(", ")
}

fn check(name: &str, cron: &str, from: &str, to: &str, expected: &Expect) {
    expected.assert_eq(&firings(name, cron, from, to));
}

#[test]
fn skipped_times_fire_at_the_first_moment_after_the_gap() {
    let berlin = |cron: &str, expected: &Expect| {
        check(
            "Europe/Berlin",
            cron,
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
            expected,
        );
    };
    berlin("30 2 * * *", &expect!["29 03:00 +0200, 30 02:30 +0200"]);
    berlin("0 2 * * *", &expect!["29 03:00 +0200, 30 02:00 +0200"]);
    berlin("0 3 * * *", &expect!["29 03:00 +0200, 30 03:00 +0200"]);
    berlin("59 1 * * *", &expect!["29 01:59 +0100, 30 01:59 +0200"]);
    berlin("30 2 29 3 *", &expect!["29 03:00 +0200"]);
    berlin(
        "*/20 1-3 29 * *",
        &expect![
            "29 01:00 +0100, 29 01:20 +0100, 29 01:40 +0100, 29 03:00 +0200, 29 03:20 +0200, 29 03:40 +0200"
        ],
    );
    check(
        "America/New_York",
        "30 2 * * *",
        "2026-03-07T12:00:00Z",
        "2026-03-09T12:00:00Z",
        &expect!["08 03:00 -0400, 09 02:30 -0400"],
    );
    // Half an hour only: 02:00 is skipped to 02:30.
    check(
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T00:00:00Z",
        "2026-10-05T00:00:00Z",
        &expect!["04 02:30 +1100, 05 02:15 +1100"],
    );
}

#[test]
fn repeated_times_fire_once_at_the_first() {
    let berlin = |cron: &str, expected: &Expect| {
        check(
            "Europe/Berlin",
            cron,
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z",
            expected,
        );
    };
    berlin("30 2 * * *", &expect!["25 02:30 +0200, 26 02:30 +0100"]);
    berlin("0 2 * * *", &expect!["25 02:00 +0200, 26 02:00 +0100"]);
    berlin("59 2 * * *", &expect!["25 02:59 +0200, 26 02:59 +0100"]);
    berlin("0 3 * * *", &expect!["25 03:00 +0100, 26 03:00 +0100"]);
    berlin(
        "30 * 25 10 *",
        &expect![
            "25 00:30 +0200, 25 01:30 +0200, 25 02:30 +0200, 25 03:30 +0100, 25 04:30 +0100, \
         25 05:30 +0100, 25 06:30 +0100, 25 07:30 +0100, 25 08:30 +0100, 25 09:30 +0100, \
         25 10:30 +0100, 25 11:30 +0100, 25 12:30 +0100, 25 13:30 +0100, 25 14:30 +0100, \
         25 15:30 +0100, 25 16:30 +0100, 25 17:30 +0100, 25 18:30 +0100, 25 19:30 +0100, \
         25 20:30 +0100, 25 21:30 +0100, 25 22:30 +0100, 25 23:30 +0100"
        ],
    );
    check(
        "America/New_York",
        "30 1 * * *",
        "2026-10-31T12:00:00Z",
        "2026-11-02T12:00:00Z",
        &expect!["01 01:30 -0400, 02 01:30 -0500"],
    );
    // Half an hour only: 01:30 to 02:00 comes twice.
    check(
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T00:00:00Z",
        "2026-04-06T00:00:00Z",
        &expect!["05 01:45 +1100, 06 01:45 +1030"],
    );
}

#[test]
fn zones_without_clock_changes_fire_by_their_clock() {
    check(
        "Asia/Kolkata",
        "30 2 * * *",
        "2026-03-28T00:00:00Z",
        "2026-03-30T00:00:00Z",
        &expect!["29 02:30 +0530, 30 02:30 +0530"],
    );
    check(
        "UTC",
        "0 0 * * *",
        "2026-03-28T00:00:00Z",
        "2026-03-30T00:00:00Z",
        &expect!["29 00:00 +0000, 30 00:00 +0000"],
    );
}

#[test]
fn a_day_that_never_was_fires_when_the_next_begins() {
    // Samoa had no 30 December 2011.
    check(
        "Pacific/Apia",
        "0 8 30 12 *",
        "2011-12-29T00:00:00Z",
        "2011-12-31T20:00:00Z",
        &expect!["31 00:00 +1400"],
    );
}

#[test]
fn rare_lines_are_found_over_years() {
    let next = |cron: &str, from: &str| {
        let at = Zone::UTC
            .next_firing(&line(cron), utc(from))
            .expect("it fires")
            .at;
        let back = Zone::UTC
            .last_firing(&line(cron), at, None)
            .expect("it fired")
            .at;
        assert_eq!(back, at, "{cron} forwards and backwards");
        at.to_string()
    };
    expect!["2028-02-29 00:00:00 UTC"].assert_eq(&next("0 0 29 2 *", "2026-01-01T00:00:00Z"));
    expect!["2104-02-29 00:00:00 UTC"].assert_eq(&next("0 0 29 2 *", "2096-02-29T00:00:00Z"));
    // The longest there is: leap days that are a Monday.
    expect!["2112-02-29 00:00:00 UTC"].assert_eq(&next("0 0 29 2 +MON", "2072-03-01T00:00:00Z"));
    expect!["2026-01-31 23:59:00 UTC"].assert_eq(&next("59 23 L * *", "2026-01-01T00:00:00Z"));
    expect!["2026-01-09 06:00:00 UTC"].assert_eq(&next("0 6 * * FRI#2", "2026-01-01T00:00:00Z"));
    // Either day field is enough, as in every cron.
    expect!["2026-01-02 00:00:00 UTC"].assert_eq(&next("0 0 13 * FRI", "2026-01-01T00:00:00Z"));
}

#[test]
fn agrees_with_croner_where_the_clock_is_never_changed() {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    for cron in [
        "* * * * *",
        "*/7 * * * *",
        "0 8 * * MON-FRI",
        "15,45 6-9 * * *",
        "0 0 1 * *",
        "0 0 31 * *",
        "0 12 15W * *",
        "0 0 L 2 *",
        "5 4 * * SUN",
        "0 0 1,15 * 3",
        "0 22 * JAN-MAR 6#L",
        "59 23 31 12 *",
        "0 9 * * 1#1",
    ] {
        let (ours, theirs) = (line(cron), parser.parse(cron).expect("valid"));
        let mut now = utc("2023-11-30T22:58:31Z");
        for _ in 0..60 {
            let next = Zone::UTC.next_firing(&ours, now).expect("it fires").at;
            assert_eq!(
                next,
                theirs.find_next_occurrence(&now, false).expect("it fires"),
                "{cron}"
            );
            let last = Zone::UTC
                .last_firing(&ours, now, None)
                .expect("it fired")
                .at;
            let reference = theirs
                .find_previous_occurrence(&now, true)
                .expect("it fired");
            assert_eq!(last, reference, "{cron} before {now}");
            now = next + Duration::seconds(7_000_037);
        }
    }
}

/// Why `croner`'s own search is not used: if one of these changes, look again.
#[test]
fn croner_looks_back_over_clock_changes_wrongly() {
    let berlin = chrono_tz::Europe::Berlin;
    let parser = CronParser::builder().build();
    let previous = |cron: &str, now: &str| {
        let now = utc(now).with_timezone(&berlin);
        let cron = parser.parse(cron).expect("valid");
        cron.find_previous_occurrence(&now, true)
            .map_or_else(|error| error.to_string(), |at| at.to_string())
    };
    // Fired at 03:00, says this house; before the gap, says croner.
    expect!["2026-03-29 01:59:59 CET"].assert_eq(&previous("30 2 * * *", "2026-03-29T01:30:00Z"));
    // 02:45 was shown by 02:10 of the second hour; croner forgets it.
    expect!["2026-10-24 02:45:00 CEST"].assert_eq(&previous("45 2 * * *", "2026-10-25T01:10:00Z"));
}

#[test]
fn wrong_lines_say_what_to_write() {
    assert!(CronLine::parse("0 8 \u{663} * *").is_err_and(|message| message.contains("plain")));
    let check = |text: &str, expected: &Expect| {
        expected.assert_eq(&CronLine::parse(text).expect_err("wrong"));
    };
    check(
        "",
        &expect![[
            r#"`` is no cron line: it needs five fields (minute hour day month weekday), such as "0 8 * * MON-FRI", and has 0"#
        ]],
    );
    check(
        "@daily",
        &expect![[
            r#"`@daily` is no cron line: it needs five fields (minute hour day month weekday), such as "0 8 * * MON-FRI", and has 1"#
        ]],
    );
    check(
        "0 0 8 * * MON",
        &expect![[
            r#"`0 0 8 * * MON` is no cron line: it needs five fields (minute hour day month weekday), such as "0 8 * * MON-FRI", and has 6"#
        ]],
    );
    check(
        "61 8 * * *",
        &expect!["`61 8 * * *` is no cron line: number out of bounds"],
    );
    check(
        "0 8 * * NEVER",
        &expect![
            "`0 8 * * NEVER` is no cron line: it contains illegal character 'N' in part 'NEVER'"
        ],
    );
    check(
        "0 8 30 2 *",
        &expect![[r#"`0 8 30 2 *` never fires: there is no such day"#]],
    );
    check(
        "0 8 31 4,6,9,11 *",
        &expect![[r#"`0 8 31 4,6,9,11 *` never fires: there is no such day"#]],
    );
    check(
        "5-1 8 * * *",
        &expect!["`5-1 8 * * *` is no cron line: range out of bounds"],
    );
    check(
        "0 8 * * /",
        &expect!["`0 8 * * /` is no cron line: invalid step"],
    );
}

#[test]
fn wrong_zones_say_what_to_write() {
    let check = |name: &str, expected: &Expect| {
        expected.assert_eq(&Zone::parse(name).expect_err("wrong"));
    };
    check(
        "europe/berlin",
        &expect![[
            r#""europe/berlin" is no time zone of the IANA database, such as "Europe/Berlin"; did you mean `Europe/Berlin`?"#
        ]],
    );
    check(
        "Europe/Berln",
        &expect![[
            r#""Europe/Berln" is no time zone of the IANA database, such as "Europe/Berlin"; did you mean `Europe/Berlin`?"#
        ]],
    );
    check(
        "Mars",
        &expect![[r#""Mars" is no time zone of the IANA database, such as "Europe/Berlin""#]],
    );
}

#[test]
fn lines_and_zones_survive_being_written_down() {
    let before = (line("0 8 * * MON-FRI"), zone("Europe/Berlin"));
    let json = serde_json::to_string(&before).expect("plain data");
    expect![[r#"["0 8 * * MON-FRI","Europe/Berlin"]"#]].assert_eq(&json);
    assert_eq!(
        serde_json::from_str::<(CronLine, Zone)>(&json).expect("as written"),
        before
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn any_line() -> impl Strategy<Value = CronLine> {
        let minute = prop_oneof![
            Just("*".to_owned()),
            (0_u32..60).prop_map(|m| m.to_string()),
            Just("*/15".to_owned())
        ];
        let hour = prop_oneof![
            Just("*".to_owned()),
            (0_u32..24).prop_map(|h| h.to_string()),
            Just("1-3".to_owned())
        ];
        let day = prop_oneof![Just("*"), Just("1"), Just("L"), Just("29"), Just("8-14")];
        let weekday = prop_oneof![
            Just("*"),
            Just("SUN"),
            Just("1-5"),
            Just("6#2"),
            Just("+SUN")
        ];
        (minute, hour, day, weekday).prop_map(|(minute, hour, day, weekday)| {
            line(&format!("{minute} {hour} {day} * {weekday}"))
        })
    }

    fn any_zone() -> impl Strategy<Value = Zone> {
        prop_oneof![
            Just("Europe/Berlin"),
            Just("America/New_York"),
            Just("Australia/Lord_Howe"),
            Just("Pacific/Apia"),
            Just("Africa/Casablanca"),
            Just("Asia/Kathmandu"),
        ]
        .prop_map(zone)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9*/,#LW+?@ a-zA-Z]{0,20}") {
            let _ = CronLine::parse(&text);
            let _ = CronLine::parse(&format!("0 8 {text}"));
            let _ = Zone::parse(&text);
        }

        /// Nothing lies between the last firing and the next, and both are
        /// found from either side.
        #[test]
        fn last_and_next_are_neighbours(
            line in any_line(),
            zone in any_zone(),
            secs in 0_u64..4_000_000_000,
        ) {
            let now = moment(Timestamp::from_secs(secs));
            let last = zone.last_firing(&line, now, None).expect("every line here fires monthly");
            let next = zone.next_firing(&line, now).expect("every line here fires monthly");
            prop_assert!(last.at <= now && now < next.at);
            prop_assert!(last.wall < next.wall);
            prop_assert_eq!(zone.next_firing(&line, last.at).map(|firing| firing.at), Some(next.at));
            let just_before = next.at - Duration::seconds(1);
            prop_assert_eq!(zone.last_firing(&line, just_before, None).map(|firing| firing.at), Some(last.at));
        }

        #[test]
        fn no_moment_is_too_odd(line in any_line(), zone in any_zone(), micros in any::<u64>()) {
            let now = moment(Timestamp::from_micros(micros));
            let _ = zone.last_firing(&line, now, None);
            let _ = zone.last_firing(&line, now, Some(std::time::Duration::MAX));
            let _ = zone.next_firing(&line, now);
        }
    }
}
