use super::*;
use crate::units::{MicroUsdPerHour, Timestamp};
use expect_test::{Expect, expect};
use std::time::Duration;

/// All problems of reading `text` with `read`, with their lines; or what was read.
fn check<T: std::fmt::Debug>(
    text: &str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    expected: &Expect,
) {
    let outcome = Document::parse(text).and_then(|document| document.read(read));
    expected.assert_eq(&match outcome {
        Ok(found) => format!("{found:?}"),
        Err(problems) => problems.in_file("f"),
    });
}

/// Each line of `lines` is a document with the key `k`; all outcomes.
fn check_values<T: FromToml + std::fmt::Debug>(values: &[&str], expected: &Expect) {
    let mut outcomes = String::new();
    for value in values {
        let document = Document::parse(&format!("k = {value}")).expect("TOML");
        let outcome = match document.read(|fields| fields.required::<T>("k", "it")) {
            Ok(found) => format!("{found:?}"),
            Err(problems) => problems.to_string(),
        };
        outcomes.extend([value, " -> ", &outcome, "\n"]);
    }
    expected.assert_eq(&outcomes);
}

#[test]
fn whole_numbers() {
    check_values::<u32>(
        &[
            "7",
            "0",
            "-1",
            "4294967295",
            "4294967296",
            "7.0",
            "\"7\"",
            "true",
            "[7]",
            "{ a = 1 }",
        ],
        &expect![[r#"
            7 -> 7
            0 -> 0
            -1 -> k: -1 is negative; write 0 or more
            4294967295 -> 4294967295
            4294967296 -> k: 4294967296 is too large
            7.0 -> k: 7.0 is no whole number
            "7" -> k: a string where a whole number is needed
            true -> k: a boolean where a whole number is needed
            [7] -> k: an array where a whole number is needed
            { a = 1 } -> k: a table where a whole number is needed
        "#]],
    );
    check_values::<u64>(
        &["9223372036854775807", "-1"],
        &expect![[r#"
        9223372036854775807 -> 9223372036854775807
        -1 -> k: -1 is negative; write 0 or more
    "#]],
    );
    check_values::<i32>(
        &["-7", "+7", "2147483648", "-2147483649", "1.5"],
        &expect![[r#"
        -7 -> -7
        +7 -> 7
        2147483648 -> k: 2147483648 is too far from 0
        -2147483649 -> k: -2147483649 is too far from 0
        1.5 -> k: 1.5 is no whole number
    "#]],
    );
}

#[test]
fn decimal_numbers() {
    check_values::<f64>(
        &["0.7", "7", "-1.5", "1e3", "nan", "inf", "-inf", "\"0.7\""],
        &expect![[r#"
        0.7 -> 0.7
        7 -> 7.0
        -1.5 -> -1.5
        1e3 -> 1000.0
        nan -> k: NaN is no finite number
        inf -> k: inf is no finite number
        -inf -> k: -inf is no finite number
        "0.7" -> k: a string where a number is needed
    "#]],
    );
}

#[test]
fn words_and_switches() {
    check_values::<bool>(
        &["true", "false", "\"yes\"", "1"],
        &expect![[r#"
        true -> true
        false -> false
        "yes" -> k: a string where true or false is needed
        1 -> k: a whole number where true or false is needed
    "#]],
    );
    check_values::<String>(
        &["\"a\"", "1", "2026-03-29"],
        &expect![[r#"
        "a" -> "a"
        1 -> k: a whole number where a string is needed
        2026-03-29 -> k: a date where a string is needed
    "#]],
    );
}

#[test]
fn durations() {
    check_values::<Duration>(
        &[
            "\"90s\"",
            "\"5m\"",
            "\"1h30m\"",
            "\"2d\"",
            "\"250ms\"",
            "\"0s\"",
            "\"1d2h3m4s5ms\"",
            "\"36500d\"",
        ],
        &expect![[r#"
            "90s" -> 90s
            "5m" -> 300s
            "1h30m" -> 5400s
            "2d" -> 172800s
            "250ms" -> 250ms
            "0s" -> 0ns
            "1d2h3m4s5ms" -> 93784.005s
            "36500d" -> 3153600000s
        "#]],
    );
    check_values::<Duration>(
        &[
            "90",
            "1.5",
            "true",
            "\"\"",
            "\"90\"",
            "\"s\"",
            "\"90 s\"",
            "\"-5m\"",
            "\"1.5h\"",
            "\"5min\"",
            "\"5M\"",
            "\"30m1h\"",
            "\"1h1h\"",
            "\"1h30\"",
            "\"36501d\"",
            "\"99999999999999999999d\"",
            "\"1h ٣m\"",
        ],
        &expect![[r#"
            90 -> k: 90 has no unit; write "90s" if seconds are meant
            1.5 -> k: 1.5 has no unit; write a duration such as "90s", "1h30m" or "250ms"
            true -> k: a boolean where a duration such as "90s" is needed
            "" -> k: "" is no duration: write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "90" -> k: "90" is no duration: 90 has no unit; write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "s" -> k: "s" is no duration: write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "90 s" -> k: "90 s" is no duration: write it without spaces, such as "1h30m"
            "-5m" -> k: "-5m" is no duration: it is negative
            "1.5h" -> k: "1.5h" is no duration: write whole numbers, such as "1h30m" and not "1.5h"
            "5min" -> k: "5min" is no duration: `min` is no unit; write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "5M" -> k: "5M" is no duration: `M` is no unit; write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "30m1h" -> k: "30m1h" is no duration: write the longest unit first, and each once
            "1h1h" -> k: "1h1h" is no duration: write the longest unit first, and each once
            "1h30" -> k: "1h30" is no duration: 30 has no unit; write whole numbers with units (d, h, m, s, ms), such as "90s" or "1h30m"
            "36501d" -> k: "36501d" is no duration: it is longer than 36500 days
            "99999999999999999999d" -> k: "99999999999999999999d" is no duration: it is longer than 36500 days
            "1h ٣m" -> k: "1h ٣m" is no duration: write it without spaces, such as "1h30m"
        "#]],
    );
}

#[test]
fn durations_are_shown_as_they_are_read() {
    for text in ["1h30m", "90ms", "2d", "1d2h3m4s5ms", "0s"] {
        assert_eq!(duration_text(parse_duration(text).expect("valid")), text);
    }
    assert_eq!(duration_text(Duration::from_secs(90)), "1m30s");
    assert_eq!(duration_text(Duration::from_micros(999)), "0s");
}

#[test]
fn amounts_are_exact() {
    check_values::<MicroUsdPerHour>(
        &[
            "0.17",
            "3",
            "\"0.17\"",
            "0.1",
            "12.345678",
            "1e-6",
            "0.0000001",
            "1e-7",
            "-0.17",
            "-3",
            "nan",
            "1e300",
            "\"17 cents\"",
            "true",
        ],
        &expect![[r#"
            0.17 -> MicroUsdPerHour(170000)
            3 -> MicroUsdPerHour(3000000)
            "0.17" -> MicroUsdPerHour(170000)
            0.1 -> MicroUsdPerHour(100000)
            12.345678 -> MicroUsdPerHour(12345678)
            1e-6 -> MicroUsdPerHour(1)
            0.0000001 -> k: `0.0000001` has more than six decimals; amounts are exact to a millionth of a dollar
            1e-7 -> k: `0.0000001` has more than six decimals; amounts are exact to a millionth of a dollar
            -0.17 -> k: -0.17 is negative; write 0 or more
            -3 -> k: -3 is negative; write 0 or more
            nan -> k: NaN is no amount in dollars such as 0.17
            1e300 -> k: `1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000` is not an amount in dollars such as 0.17
            "17 cents" -> k: `17 cents` is not an amount in dollars such as 0.17
            true -> k: a boolean where an amount in dollars such as 0.17 is needed
        "#]],
    );
}

#[test]
fn times() {
    check_values::<Timestamp>(
        &[
            "\"2026-03-29T01:30:00Z\"",
            "2026-03-29T03:30:00+02:00",
            "2026-03-29T03:30:00",
            "2026-03-29",
            "\"yesterday\"",
            "0",
            "1969-01-01T00:00:00Z",
        ],
        &expect![[r#"
            "2026-03-29T01:30:00Z" -> Timestamp(1774747800000000)
            2026-03-29T03:30:00+02:00 -> Timestamp(1774747800000000)
            2026-03-29T03:30:00 -> k: `2026-03-29T03:30:00` is not a time such as "2026-03-29T01:30:00Z" (RFC 3339)
            2026-03-29 -> k: `2026-03-29` is not a time such as "2026-03-29T01:30:00Z" (RFC 3339)
            "yesterday" -> k: `yesterday` is not a time such as "2026-03-29T01:30:00Z" (RFC 3339)
            0 -> k: a whole number where a time such as "2026-03-29T01:30:00Z" is needed
            1969-01-01T00:00:00Z -> k: `1969-01-01T00:00:00Z` lies before 1970
        "#]],
    );
}

#[test]
fn bounds() {
    check(
        "a = 0\nb = 9\nc = \"2h\"\nd = 1.5\ne = 3",
        |fields| {
            let _ = fields.required_within("a", "a", 1_u32..=8);
            let _ = fields.optional_within("b", 1_u32..=8);
            let hour = Duration::from_hours(1);
            let _ = fields.or_within("c", hour, Duration::from_secs(1)..=hour);
            let _ = fields.optional_within("d", 0.0..=1.0);
            assert_eq!(fields.or_within("e", 7_u32, 1..=8), 3);
            assert_eq!(fields.or_within("f", 7_u32, 1..=8), 7);
            Some(())
        },
        &expect![[r#"
            f:1: a: 0 is out of bounds; write 1 to 8
            f:2: b: 9 is out of bounds; write 1 to 8
            f:3: c: "2h" is out of bounds; write "1s" to "1h"
            f:4: d: 1.5 is out of bounds; write 0 to 1"#]],
    );
}

#[test]
fn unknown_keys_say_which_were_meant() {
    check(
        "[limits]\nmxa = 1\nMIN = 2\nsettle_shrink = 3\n\"odd key\" = 4",
        |fields| {
            fields.table("limits", |limits| {
                let _: Option<u32> = limits.optional("max");
                let _: Option<u32> = limits.optional("min");
                let _: Option<u32> = limits.optional("shrink_settle");
                Some(())
            })
        },
        &expect![[r#"
            f:2: limits.mxa: unknown key; did you mean `max`?
            f:3: limits.MIN: unknown key; did you mean `min`?
            f:4: limits.settle_shrink: unknown key; known here: max, min, shrink_settle
            f:5: limits."odd key": unknown key; known here: max, min, shrink_settle"#]],
    );
    check(
        "free = 1",
        |fields| {
            fields.accept_unknown_keys();
            Some("accepted")
        },
        &expect![[r#""accepted""#]],
    );
}

#[test]
fn words() {
    let kinds = [("total", 1), ("ratio", 2), ("rate", 3)];
    check(
        "kind = \"ratio\"",
        |fields| fields.word("kind", &kinds),
        &expect!["2"],
    );
    check(
        "kind = \"ration\"",
        |fields| fields.word("kind", &kinds),
        &expect![[
            r#"f:1: kind: "ration" is not one of "total", "ratio" or "rate"; did you mean `ratio`?"#
        ]],
    );
    check(
        "kind = \"x\"",
        |fields| fields.word("kind", &kinds[..1]),
        &expect![[r#"f:1: kind: "x" is not one of "total""#]],
    );
    check(
        "kind = 1",
        |fields| fields.word("kind", &kinds),
        &expect!["f:1: kind: a whole number where a string is needed"],
    );
    check(
        "",
        |fields| fields.required_word("kind", &kinds),
        &expect![[r#"f:1: kind: missing; write one of "total", "ratio" or "rate""#]],
    );
}

#[test]
fn tables_of_the_wrong_shape() {
    let read = |fields: &mut Fields<'_>| {
        let _ = fields.table("a", |_| Some(()));
        let _ = fields.tables("b", |_| Some(()));
        let _ = fields.tables("c", |_| Some(()));
        let _ = fields.named_tables("d", |_, _| Some(()));
        let _ = fields.table_or_empty("e", |inner| inner.required::<u32>("x", "a number"));
        Some(())
    };
    check(
        "a = 1\nb = { x = 1 }\nc = [1, { y = 2 }]\n[d]\nx = 5\n[d.fine]",
        read,
        &expect![[r#"
            f:1: a: a whole number where a table [a] is needed
            f:1: e.x: missing; write a number
            f:2: b: a table where tables [[b]] are needed
            f:3: c[0]: a whole number where a table [[c]] is needed
            f:3: c[1].y: unknown key
            f:5: d.x: a whole number where a table [d.x] is needed"#]],
    );
}

#[test]
fn problems_come_in_the_order_of_the_file_with_their_lines() {
    check(
        "# a fleet\n[z]\nb = true\n\n[[z.step]]\na = 1\n[[z.step]]\n\n[a]\nb = [\n  1,\n  \"x\",\n]\n",
        |fields| {
            let _ = fields.table("a", |a| {
                let _: Option<u32> = a.optional("b");
                a.required::<u32>("c", "a number")
            });
            let _ = fields.table("z", |z| {
                let _: Option<u32> = z.optional("b");
                let _ = z.tables("step", |step| step.required::<u32>("a", "a number"));
                z.problem_at("elsewhere.x".to_owned(), "is a problem of another place");
                Some(())
            });
            Some(())
        },
        &expect![[r#"
            f:1: elsewhere.x: is a problem of another place
            f:3: z.b: a boolean where a whole number is needed
            f:7: z.step[1].a: missing; write a number
            f:9: a.c: missing; write a number
            f:10: a.b: an array where a whole number is needed"#]],
    );
}

#[test]
fn what_is_no_toml_has_its_line() {
    check(
        "a = 1\nb = \n",
        |_| Some(()),
        &expect!["f:2: not TOML: string values must be quoted, expected literal string"],
    );
    check(
        "a = 1\nb = = 2\n[c\nd = 3\n",
        |_| Some(()),
        &expect![[r#"
        f:2: not TOML: extra `=`, expected nothing
        f:2: not TOML: unexpected key or value, expected newline, `#`
        f:3: not TOML: unclosed table, expected `]`"#]],
    );
    check(
        "a = 99999999999999999999",
        |_| Some(()),
        &expect![
            "f:1: not TOML: invalid type: integer `99999999999999999999` as i128, expected any valid TOML value"
        ],
    );
    check(
        "a = 1\na = 2",
        |_| Some(()),
        &expect!["f:2: not TOML: duplicate key `a`"],
    );
}

#[test]
fn a_reader_that_gives_up_without_a_reason_is_an_error() {
    check::<()>("", |_| None, &expect!["f: incomplete"]);
}

#[test]
fn near_words() {
    for (word, near) in [
        ("mxa", Some("max")),
        ("maxx", Some("max")),
        ("backlogs", Some("backlog")),
        ("in_fligth", Some("in_flight")),
        ("utilisation", Some("utilization")),
        ("MAX", Some("max")),
        ("in-flight", Some("in_flight")),
        ("maximum", Some("max")),
        ("flight", Some("in_flight")),
        ("max", None),
        ("ax", Some("max")),
        ("speed", None),
        ("", None),
    ] {
        let known = ["backlog", "in_flight", "max", "utilization"];
        assert_eq!(nearest(word, known), near, "{word}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_is_a_duration_or_refused(text in "[0-9dhms. -]{0,12}|\\PC{0,8}") {
            if let Ok(span) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&duration_text(span)), Ok(span));
            }
        }

        #[test]
        fn any_duration_is_read_as_it_is_shown(millis in 0_u64..3_153_600_000_000) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(span)), Ok(span));
        }

        #[test]
        fn any_text_is_a_document_or_has_a_problem(text in "\\PC{0,40}") {
            if let Ok(document) = Document::parse(&text) {
                let _ = document.read(|fields| Some(fields.keys().count()));
            }
        }

        #[test]
        fn amounts_with_six_decimals_are_read_to_the_last(micro in 0_u64..1_000_000_000_000) {
            let written = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
            for value in [written.clone(), format!("\"{written}\"")] {
                let document = Document::parse(&format!("k = {value}")).expect("TOML");
                let read = document.read(|fields| fields.required::<MicroUsdPerHour>("k", "it"));
                prop_assert_eq!(read, Ok(MicroUsdPerHour::new(micro)));
            }
        }
    }
}
