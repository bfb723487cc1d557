//! Examples of the vendors' own pages and sources with other parameters than the
//! presets have, and the page that tells of the peers.

use std::fmt::Write as _;

use windlass_policies::policy::Peer;
use windlass_policies::{cases, policy_file};

#[test]
fn peers_do_what_their_vendors_say() {
    let files = [
        ("amazon", include_str!("peers/amazon.toml")),
        ("amazon-simple", include_str!("peers/amazon-simple.toml")),
        ("hpa-missing", include_str!("peers/hpa-missing.toml")),
        ("hpa-external", include_str!("peers/hpa-external.toml")),
        ("hpa-average", include_str!("peers/hpa-average.toml")),
        ("hpa-rates", include_str!("peers/hpa-rates.toml")),
        ("hpa-disabled", include_str!("peers/hpa-disabled.toml")),
        (
            "keda-activation",
            include_str!("peers/keda-activation.toml"),
        ),
        ("nomad-queue", include_str!("peers/nomad-queue.toml")),
        ("nomad-zero", include_str!("peers/nomad-zero.toml")),
        ("empty-amazon", include_str!("peers/empty-amazon.toml")),
        ("empty-hpa", include_str!("peers/empty-hpa.toml")),
        ("gce-controls", include_str!("peers/gce-controls.toml")),
        ("buildkite-in", include_str!("peers/buildkite-in.toml")),
    ];
    let mut wrong = Vec::new();
    for (name, text) in files {
        let file =
            policy_file::read(text).unwrap_or_else(|problems| panic!("{}", problems.in_file(name)));
        assert!(!file.cases.is_empty(), "{name}");
        let failures = cases::run(&file.policies, &file.cases);
        wrong.extend(failures.iter().map(|failure| format!("{name}: {failure}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a table, in one line each.
fn problems(keys: &str) -> String {
    let text = format!("[[policy]]\n{keys}\n");
    policy_file::read(&text)
        .expect_err("something is wrong")
        .in_file("f")
}

#[test]
fn keys_that_contradict_one_another_are_told() {
    let told: Vec<String> = [
        "kind = \"hpaa\"",
        "kind = \"hpa\"",
        "kind = \"hpa\"\ntarget = 1\nmin_replicas = 5\nmax_replicas = 4",
        "kind = \"hpa\"\ntarget = 1\nin_flight_signal = \"in_flight\"",
        "kind = \"hpa\"\ntarget = 1\nsignal = \"backlog\"",
        "kind = \"react\"\nservice_mean = \"30s\"\narrivals_signal = \"backlog\"",
        "kind = \"react\"\nservice_mean = \"30s\"\ncount_backlog = false\nsignal = \"busy\"",
        "kind = \"nomad_threshold\"\nsignal = \"backlog\"",
        "kind = \"nomad_threshold\"\nsignal = \"backlog\"\ncheck = [{ delta = 1, value = 2 }]",
        "kind = \"asg_backlog_per_instance\"\nacceptable_latency = \"1s\"\nprocessing_time = \"2s\"",
        "kind = \"gce_autoscaler\"\nscale_in_max = 1\nscale_in_percent = 1",
        "kind = \"asg_target_tracking\"\ntarget = 0.5\npoints_out = 0\nperiod = \"1s\"",
    ]
    .map(problems)
    .to_vec();
    expect_test::expect_file!["peers/problems.txt"].assert_eq(&(told.join("\n") + "\n"));
}

/// The sources of the peers, by their kind.
fn sources() -> Vec<(&'static str, &'static str)> {
    macro_rules! sources {
        ($($kind:literal),+ $(,)?) => {
            vec![$(($kind, include_str!(concat!("../src/policy/peers/", $kind, ".rs")))),+]
        };
    }
    sources![
        "asg_target_tracking",
        "asg_step",
        "asg_backlog_per_instance",
        "asg_predictive",
        "hpa",
        "keda_queue",
        "nomad_target_value",
        "nomad_threshold",
        "taskscaler",
        "gce_autoscaler",
        "cluster_demand",
        "buildkite",
        "clusterman",
        "react",
        "adapt",
        "hist",
        "reg",
        "conpaas",
        "autoscale_delayed_off",
        "square_root_staffing",
        "lcp",
    ]
}

/// What the first lines of a source say, as a page would.
fn told(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    for (from, to) in [
        ("[`super::load`]", "[Load](#load)"),
        (
            "[`super::asg_target_tracking`]",
            "[`asg_target_tracking`](#asg_target_tracking)",
        ),
        ("[`super::Hpa`]", "[`hpa`](#hpa)"),
        ("[`crate::policy::Step`]", "[`step`](policies.md#step)"),
        ("`CloudWatch`", "CloudWatch"),
        ("`ConPaaS`", "ConPaaS"),
        ("`DelayedOff`", "DelayedOff"),
        ("`AutoScale`", "AutoScale"),
        (
            "as in `kind = \"step\"`",
            "as in [`step`](policies.md#step)",
        ),
    ] {
        text = text.replace(from, to);
    }
    for kind in Peer::KINDS {
        let from = format!("as in `kind = \"{kind}\"`");
        text = text.replace(&from, &format!("as in [`{kind}`](#{kind})"));
    }
    text
}

#[test]
fn the_page_says_what_the_sources_say() {
    let page = include_str!("../../docs/peers.md");
    let begin = page.find("\n## `").expect("sections") + 1;
    let mut expected = page[..begin].to_owned();
    assert_eq!(
        sources().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        Peer::KINDS
    );
    for (kind, source) in sources() {
        let text = told(source);
        let text = text
            .strip_prefix(&format!("`kind = \"{kind}\"`: "))
            .unwrap_or_else(|| panic!("{kind} begins otherwise"));
        let (title, rest) = text.split_once("\n\n").expect("a title");
        let title = title.replace('\n', " ");
        let (first, others) = title.split_at(1);
        let title = first.to_uppercase() + others;
        let title = title.trim_end_matches('.');
        let rest = rest.trim();
        write!(expected, "## `{kind}`\n\n{title}.\n\n{rest}\n\n").expect("a text");
    }
    let load = told(include_str!("../src/policy/peers/load.rs"));
    writeln!(expected, "## Load\n\n{}", load.trim()).expect("a text");
    expect_test::expect_file!["../../docs/peers.md"].assert_eq(&expected);
}
