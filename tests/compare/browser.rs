//! The page in a real browser, from a file and without a network.

use std::fs;
use std::process::Command;

use super::{POLICY, desk, program};

#[test]
fn the_page_shows_itself_in_a_browser() {
    let Some(chromium) = program("chromium") else {
        return;
    };
    let desk = desk();
    // A name that would do harm if it were not escaped.
    let evil = "<img src=x onerror=boom()>&amp;";
    desk.write(&format!("{evil}.toml"), POLICY);
    let mut command = desk
        .command("compare --scenario waves.toml --policy builtin:step --tune-peers --format html");
    let page = command
        .arg("--policy")
        .arg(format!("{evil}.toml"))
        .output()
        .expect("started");
    assert!(page.status.success(), "{page:?}");
    let file = desk.path().join("page.html");
    fs::write(&file, page.stdout).expect("written");
    let output = Command::new("timeout")
        .arg("120")
        .arg(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            desk.path().join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("chromium starts");
    let (drawn, said) = (
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    );
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
    assert_eq!(drawn.matches("<svg viewBox").count(), 2, "two planes");
    assert_eq!(
        drawn.matches("class=\"bound\" d=\"M").count(),
        1,
        "the bound"
    );
    assert!(
        drawn.matches("<circle class=\"dot").count() >= 30,
        "frontiers"
    );
    assert!(!drawn.contains("<img") && !drawn.contains("NaN") && !drawn.contains("<script"));
}
