//! A real array of jobs: Debian's Slurm on this machine, by the script that the
//! documentation shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{WHOLE, desk, program};

/// A cluster that ends with its test.
struct Cluster(PathBuf);

impl Cluster {
    fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("made");
        let cluster = Self(folder.to_owned());
        let output = cluster.script("start");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        cluster
    }

    fn script(&self, verb: &str) -> std::process::Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster");
        let mut command = Command::new("timeout");
        command
            .args(["90", "bash"])
            .arg(script)
            .arg(verb)
            .arg(&self.0);
        command.stdin(Stdio::null()).output().expect("started")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script("stop");
    }
}

/// The batch script in `docs/scale.md`.
fn batch_script() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md");
    let page = fs::read_to_string(page).expect("a page");
    let block = page
        .split("```sh\n#!/bin/sh\n#SBATCH")
        .nth(1)
        .expect("a batch script");
    let block = block.split("```").next().expect("its end");
    format!("#!/bin/sh\n#SBATCH{block}")
}

#[test]
fn an_array_of_slurm_comes_to_the_bytes_of_one_process() {
    if program("slurmctld").is_none() {
        return;
    }
    let desk = desk();
    let cluster = Cluster::start(&desk.path().join("slurm"));
    let script = batch_script();
    assert!(script.contains("--array=0-7"), "{script}");
    let compare = script
        .lines()
        .find(|line| line.starts_with("windlass compare"));
    let compare = compare.expect("what is run");
    // The scenario and the policies of the page are those of whoever reads it.
    let own = "windlass compare --scenario waves.toml --policy mine.toml builtin:step \
        --tune-peers --out parts";
    let program_folder = Path::new(env!("CARGO_BIN_EXE_windlass"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program_folder.display());
    desk.write(
        "compare.sbatch",
        &script
            .replace(compare, own)
            .replace("--array=0-7", "--array=0-3"),
    );
    let output = Command::new("timeout")
        .args(["300", "sbatch", "--wait", "compare.sbatch"])
        .current_dir(desk.path())
        .env("SLURM_CONF", cluster.0.join("slurm.conf"))
        .env("XDG_CACHE_HOME", desk.path().join("cache"))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("started");
    let logs = || {
        let files = fs::read_dir(desk.path()).expect("a folder").flatten();
        let logs = files.filter(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "out")
        });
        logs.map(|file| fs::read_to_string(file.path()).unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert!(output.status.success(), "{output:?} {:#?}", logs());
    let told = logs();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(
        told.iter()
            .all(|one| one.contains("as SLURM_ARRAY_TASK_ID says")),
        "{told:#?}"
    );
    drop(cluster);
    desk.output("merge parts --out merged");
    desk.output(
        "compare --scenario waves.toml --policy mine.toml builtin:step --tune-peers --fresh --out whole",
    );
    for file in WHOLE {
        let (whole, merged) = (
            desk.read(&format!("whole/{file}")),
            desk.read(&format!("merged/{file}")),
        );
        assert!(whole == merged, "{file}");
    }
}
