//! The page of `windlass simulate` in a real browser, from a file and without a
//! network: it draws everything, obeys no name, and answers keys and clicks.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use windlass_policies::presets;

/// The path of chromium; `None` if the tests were told to do without it.
fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join("chromium"))
        .find(|file| file.is_file());
    let without = env::var("WINDLASS_TESTS_WITHOUT").unwrap_or_default();
    if found.is_none() {
        assert!(
            without
                .split_whitespace()
                .any(|left_out| left_out == "chromium"),
            "chromium is not installed, and this test is nothing without it; install it (on \
             Debian: apt-get install chromium), or leave it out with WINDLASS_TESTS_WITHOUT=chromium"
        );
        eprintln!("NOT TESTED: chromium is not installed");
    }
    found
}

/// What becomes of the page at `file`, as HTML, and what the browser says.
fn open(chromium: &Path, folder: &Path, file: &str) -> (String, String) {
    let profile = folder.join(format!("profile of {file}"));
    let output: Output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--window-size=1000,1400",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", folder.join(file).display()))
        .output()
        .expect("chromium starts");
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

fn quiet(said: &str) {
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// A policy whose name would do harm if it were not escaped.
const EVIL: &str = "<script>boom()<script>\"&amp;";

fn page(folder: &Path) -> String {
    let evil = folder.join(format!("{EVIL}.toml"));
    fs::write(&evil, presets::text("queue-backlog").expect("a preset")).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(
            "simulate --scenario builtin:supercomputer --policy builtin:step --format html"
                .split(' '),
        )
        .arg("--policy")
        .arg(&evil)
        .output()
        .expect("started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_page_draws_itself_in_a_browser_and_answers() {
    let Some(chromium) = chromium() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = page(folder.path());
    fs::write(folder.path().join("page.html"), &page).expect("written");
    let (drawn, said) = open(&chromium, folder.path(), "page.html");
    quiet(&said);
    assert!(
        drawn.contains("data-state=\"drawn\""),
        "the script came to its end"
    );
    assert_eq!(
        drawn.matches("<svg class=\"chart\"").count(),
        8,
        "four of each policy"
    );
    assert!(
        drawn.matches("class=\"line").count() >= 22,
        "all lines are there"
    );
    assert_eq!(
        drawn.matches("<circle").count(),
        2,
        "both policies in the plane"
    );
    assert!(drawn.contains("class=\"up\"") && drawn.contains("class=\"down\""));
    assert!(!drawn.contains("NaN") && !drawn.contains("undefined</"));
    assert_eq!(
        drawn.matches("<script").count(),
        2,
        "no name became a script"
    );

    // Keys and clicks: zoom in, go to a decision, list them; then all is said.
    let act = r#"<script>
        const charts = document.querySelector(".charts");
        const press = (key) => charts.dispatchEvent(
          new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const before = document.getElementById("span").textContent;
        document.getElementById("in").click();
        press("+");
        press("n");
        document.querySelector(".decisions").open = true;
        document.getElementById("log").click();
        document.body.dataset.zoomed = before !== document.getElementById("span").textContent;
    </script></body>"#;
    let acted = page.replace("</body>", act);
    fs::write(folder.path().join("acted.html"), acted).expect("written");
    let (drawn, said) = open(&chromium, folder.path(), "acted.html");
    quiet(&said);
    assert!(
        drawn.contains("data-zoomed=\"true\""),
        "the time shown changed"
    );
    let readout = drawn.split("class=\"readout\"").nth(1).expect("a reading");
    let readout = readout.split("</p>").next().expect("an end");
    assert!(
        readout.contains("ready ") && readout.contains(" -&gt; "),
        "{readout}"
    );
    assert!(drawn.contains("<td class=\"why\">"), "decisions are listed");
    assert!(!drawn.contains("NaN"));
}
