//! The policy files that ship with windlass, by name.

/// Every preset: its name and its text.
pub const fn all() -> [(&'static str, &'static str); 6] {
    [
        ("fixed", include_str!("../presets/fixed.toml")),
        ("schedule", include_str!("../presets/schedule.toml")),
        (
            "queue-backlog",
            include_str!("../presets/queue-backlog.toml"),
        ),
        (
            "target-tracking",
            include_str!("../presets/target-tracking.toml"),
        ),
        ("step", include_str!("../presets/step.toml")),
        ("economic", include_str!("../presets/economic.toml")),
    ]
}

/// The presets of the peers ([`crate::policy::peers`]): what other systems would
/// do, with their defaults.
pub const fn peers() -> &'static [(&'static str, &'static str)] {
    macro_rules! presets {
        ($($name:literal),+ $(,)?) => {
            &[$((
                concat!("peers/", $name),
                include_str!(concat!("../presets/peers/", $name, ".toml")),
            )),+]
        };
    }
    presets![
        "asg-target-tracking",
        "asg-target-tracking-10s",
        "asg-step",
        "asg-backlog-per-instance",
        "asg-predictive",
        "hpa",
        "keda-queue",
        "nomad-target-value",
        "nomad-threshold",
        "taskscaler",
        "gce-autoscaler",
        "cluster-autoscaler",
        "karpenter",
        "buildkite",
        "clusterman",
        "react",
        "adapt",
        "hist",
        "reg",
        "conpaas",
        "autoscale-delayed-off",
        "autoscale-delayed-off-part",
        "square-root-staffing",
        "lcp",
    ]
}

/// The text of the preset called `name`, a peer's too.
pub fn text(name: &str) -> Option<&'static str> {
    all()
        .iter()
        .chain(peers())
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Peer;
    use crate::{cases, policy_file};

    #[test]
    fn every_preset_reads_and_its_cases_hold() {
        let mut wrong = Vec::new();
        for (name, text) in all().iter().chain(peers()) {
            let file = policy_file::read(text)
                .unwrap_or_else(|problems| panic!("{}", problems.in_file(name)));
            assert!(
                file.cases.len() >= 4,
                "{name} has too few cases to teach anything"
            );
            let failures: Vec<String> = cases::run(&file.policies, &file.cases)
                .iter()
                .map(ToString::to_string)
                .collect();
            wrong.extend(
                failures
                    .into_iter()
                    .map(|failure| format!("{name}: {failure}")),
            );
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_peer_has_a_preset() {
        let mut kinds = std::collections::BTreeSet::new();
        for (name, text) in peers() {
            let file = policy_file::read(text).expect("read by another test");
            let all = file.policies.iter().map(|named| named.policy.kind());
            let of_peers: Vec<&str> = all.filter(|kind| Peer::KINDS.contains(kind)).collect();
            assert!(!of_peers.is_empty(), "{name}");
            kinds.extend(of_peers);
        }
        assert_eq!(kinds, Peer::KINDS.iter().copied().collect());
    }

    #[test]
    fn presets_are_found_by_name() {
        assert!(text("peers/asg-target-tracking").is_some());
        assert_eq!(text("asg-target-tracking"), None);
        assert!(text("queue-backlog").is_some_and(|text| text.contains("queue_backlog")));
        assert_eq!(text("nothing"), None);
    }
}
