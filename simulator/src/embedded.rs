//! The real traces that are built into the program.
//!
//! Where each comes from, its terms and what was derived from it stand in
//! `simulator/traces/README.md`.

/// Name and bytes of each, in order of the names.
const TRACES: [(&str, &[u8]); 4] = [
    (
        "call_centre_feb99_fortnight.jobs.csv.gz",
        include_bytes!("../traces/call_centre_feb99_fortnight.jobs.csv.gz"),
    ),
    (
        "ci_abb_iofrol_2016.jobs.csv.gz",
        include_bytes!("../traces/ci_abb_iofrol_2016.jobs.csv.gz"),
    ),
    (
        "hpc_nasa_ipsc_1993_fortnight.swf.gz",
        include_bytes!("../traces/hpc_nasa_ipsc_1993_fortnight.swf.gz"),
    ),
    (
        "nasa_http_jul95_week.rate.csv.gz",
        include_bytes!("../traces/nasa_http_jul95_week.rate.csv.gz"),
    ),
];

/// The names of all embedded traces, in alphabetical order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TRACES.iter().map(|(name, _)| *name)
}

/// The bytes of an embedded trace, as they would stand in a file of this name;
/// `None` if there is none. [`crate::trace::read_bytes`] reads them.
pub fn open(name: &str) -> Option<&'static [u8]> {
    TRACES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{TraceKind, read_bytes};

    #[test]
    fn every_embedded_trace_holds_what_its_page_says() {
        const SEC: u64 = 1_000_000;
        const DAY: u64 = 86_400 * SEC;
        // arrivals, microseconds from start to end
        let expected = [
            (14_348, 1_209_511 * SEC + 1),
            (7_995, 7_644_240 * SEC + 1),
            (2_581, 1_205_055 * SEC + 1),
            (567_785, 7 * DAY),
        ];
        for (name, (arrivals, span)) in names().zip(expected) {
            let trace = read_bytes(name, open(name).expect(name)).expect(name);
            assert_eq!(
                (trace.arrivals(), trace.span_micros()),
                (arrivals, span),
                "{name}"
            );
            assert_eq!(trace.left_out(), 0, "{name}");
            let rate = matches!(trace.kind(), TraceKind::Rate { .. });
            assert_eq!(rate, name.ends_with(".rate.csv.gz"), "{name}");
        }
        assert!(names().is_sorted());
        assert_eq!(open("nasa_http_jul95_week.rate.csv"), None);
    }

    #[test]
    fn every_embedded_trace_has_its_source_and_terms_beside_it() {
        let page = include_str!("../traces/README.md");
        for name in names() {
            let section = page
                .split("\n## ")
                .find(|section| section.starts_with(&format!("`{name}`")));
            let section = section.expect(name);
            assert!(
                section.contains("\n- Source: ") && section.contains("\n- Terms: "),
                "{name}"
            );
            assert!(section.contains("\n- Derived: "), "{name}");
        }
    }

    #[test]
    fn embedded_traces_stay_small() {
        let sizes: Vec<usize> = names().filter_map(open).map(<[u8]>::len).collect();
        assert!(sizes.iter().all(|bytes| *bytes < 64 * 1024), "{sizes:?}");
    }
}
