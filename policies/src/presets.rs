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

/// The text of the preset called `name`.
pub fn text(name: &str) -> Option<&'static str> {
    all()
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, policy_file};

    #[test]
    fn every_preset_reads_and_its_cases_hold() {
        for (name, text) in all() {
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
            assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
        }
    }

    #[test]
    fn presets_are_found_by_name() {
        assert!(text("queue-backlog").is_some_and(|text| text.contains("queue_backlog")));
        assert_eq!(text("nothing"), None);
    }
}
