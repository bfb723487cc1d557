//! Arguments, help and exit codes of the `windlass` program.

use std::process::Command;

/// Standard output, standard error and exit code.
fn windlass(arguments: &[&str], variable: Option<&str>) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(arguments).env_remove("WINDLASS_LOG");
    if let Some(value) = variable {
        command.env("WINDLASS_LOG", value);
    }
    let output = command.output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("no signal");
    (text(output.stdout), text(output.stderr), code)
}

#[test]
fn wrong_arguments_end_with_64_and_say_what_is_wrong() {
    for (arguments, message) in [
        (&[][..], "Usage: windlass"),
        (
            &["explian"],
            "similar subcommands exist: 'replay', 'explain'",
        ),
        (&["check"], "<FILE>..."),
        (
            &["simulate", "--scenario", "x", "--format", "xml"],
            "possible values: table, json",
        ),
        (
            &["simulate", "--scenario", "x", "--seed", "seven"],
            "--seed",
        ),
        (
            &["explain", "--config", "x", "--log", "loud"],
            "possible values: human, json",
        ),
    ] {
        let (out, err, code) = windlass(arguments, None);
        assert!(err.contains(message), "{arguments:?}: {err}");
        assert_eq!((out.as_str(), code), ("", 64), "{arguments:?}");
    }
}

#[test]
fn help_goes_to_standard_output_and_ends_with_0() {
    for arguments in [
        &["--help"][..],
        &["help", "explain"],
        &["replay", "-h"],
        &["--version"],
    ] {
        let (out, err, code) = windlass(arguments, None);
        assert!(out.contains("windlass"), "{arguments:?}: {out}");
        assert_eq!((err.as_str(), code), ("", 0), "{arguments:?}");
    }
}

#[test]
fn a_log_filter_nobody_understands_is_an_error() {
    let (_, err, code) = windlass(&["explain", "--config", "none.toml"], Some("loud"));
    assert!(
        err.starts_with("windlass: cannot log: WINDLASS_LOG: `loud` is neither"),
        "{err}"
    );
    assert_eq!(code, 64);
    let (_, err, code) = windlass(&["explain", "--config", "none.toml"], Some("debug"));
    assert!(
        err.starts_with("windlass: cannot read none.toml: No such file"),
        "{err}"
    );
    assert_eq!(code, 66);
}
