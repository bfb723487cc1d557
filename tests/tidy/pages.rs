//! Every link leads somewhere and every page of `docs` is found from an index.

use std::collections::BTreeSet;

use crate::File;

pub(crate) fn link_problems(tree: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for page in tree.iter().filter(|file| file.is_page()) {
        for (place, target) in links(page) {
            let (path, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let path = if path.is_empty() {
                page.path.clone()
            } else {
                beside(&page.path, path)
            };
            let folder = format!("{path}/");
            let found = tree.iter().find(|file| file.path == path);
            if found.is_none() && !tree.iter().any(|file| file.path.starts_with(&folder)) {
                problems.push(format!("{place}: there is no {path}"));
            }
            let heading = found.is_none_or(|file| !file.is_page() || has_heading(file, anchor));
            if !anchor.is_empty() && !heading {
                problems.push(format!("{place}: {path} has no heading #{anchor}"));
            }
        }
    }
    problems
}

/// A page in `docs` is linked from an index: the README at the top, that of
/// `docs` or that of its own folder. Pictures are linked from any page.
pub(crate) fn orphan_problems(tree: &[File]) -> Vec<String> {
    let is_index = |page: &File| page.path == "README.md" || page.path.ends_with("/README.md");
    let mut from_index = BTreeSet::from(["docs/README.md".to_owned()]);
    let mut from_page = BTreeSet::new();
    for page in tree.iter().filter(|file| file.is_page()) {
        for (_, target) in links(page) {
            let path = beside(&page.path, target.split('#').next().unwrap_or_default());
            if is_index(page) && path != page.path {
                from_index.insert(path.clone());
            }
            from_page.insert(path);
        }
    }
    tree.iter()
        .filter(|file| file.path.starts_with("docs/"))
        .filter(|file| {
            let linked = if file.is_page() {
                &from_index
            } else {
                &from_page
            };
            !linked.contains(&file.path)
        })
        .map(|file| format!("{}: link it from docs/README.md", file.path))
        .collect()
}

/// Relative link targets of a page and where they stand; code is left out.
fn links(page: &File) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (place, line) in prose(page) {
        let plain: String = line.split('`').step_by(2).collect();
        let inline = plain
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let reference = plain
            .starts_with('[')
            .then(|| plain.split_once("]: "))
            .flatten();
        for target in inline.chain(reference.map(|(_, target)| target)) {
            // A title may follow the target.
            let target = target.split_whitespace().next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !target.is_empty() {
                found.push((place.clone(), target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    found
}

/// The lines of a page outside fenced code.
fn prose(page: &File) -> Vec<(String, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (place, line) in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((place, line));
        }
    }
    lines
}

/// Whether a heading of `page` becomes `anchor`: lower case, spaces as `-`,
/// other punctuation dropped.
fn has_heading(page: &File, anchor: &str) -> bool {
    prose(page)
        .iter()
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| {
            let title = line
                .trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-");
            let kept = |letter: &char| letter.is_alphanumeric() || ['-', '_'].contains(letter);
            title.chars().filter(kept).eq(anchor.chars())
        })
}

/// `target` as seen from the folder of `page`, from the top of the repository.
fn beside(page: &str, target: &str) -> String {
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                // Above the top there is nothing of ours; the link will not be found.
                path.pop().unwrap_or_default();
            }
            part => path.push(part),
        }
    }
    path.join("/")
}

mod planted {
    use super::*;
    use crate::{file, found};

    #[test]
    fn dead_link_and_forgotten_page_are_found() {
        let text = "[a](docs/a.md#first-steps-now) [b](docs/b.md \"title\") `[c](docs/c.md)`\n\
                    ```\n[d](docs/d.md)\n```\n[e](https://example.com) [f](docs/a.md#second)\n\
                    [folder](docs) [own](#top)\n[g]: docs/g.md\n# Top\n";
        let page = "# First steps, now\n![picture](picture.svg) [up](../README.md)\n";
        let tree = [
            file("README.md", text),
            file("docs/a.md", page),
            file("docs/lost.md", "[lost](lost.md)"),
            file("docs/lost.svg", ""),
            file("docs/picture.svg", ""),
        ];
        found(
            &link_problems(&tree),
            &[
                "README.md:1: there is no docs/b.md",
                "docs/a.md has no heading #second",
                "docs/g.md",
            ],
        );
        found(&orphan_problems(&tree), &["docs/lost.md", "docs/lost.svg"]);
    }
}
