//! A swarm of damaged files: the seeds of each fuzz target, changed at random,
//! through the very entries of the targets, without nightly or libFuzzer.
//!
//! `WINDLASS_SWARM_SEEDS=2000` tries more; `WINDLASS_SWARM_FIRST=17` begins at
//! another seed. What a fuzzer finds becomes a file in `fuzz/seeds/TARGET`.

use std::fs;
use std::panic::{self, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use windlass_simulator::random::Stream;

#[path = "../fuzz/entries.rs"]
mod entries;

/// Seeds tried by default: a second or two.
const SEEDS_DEFAULT: u64 = 40;

/// Changed files of each seed and target.
const FILES_PER_SEED: u64 = 5;

/// A changed file grows no longer than this.
const BYTES_MAX: usize = 16 * 1024;

/// What formats have, and what numbers trip over.
const TOKENS: [&[u8]; 40] = [
    b"\n",
    b"\r\n",
    b",",
    b"-",
    b".",
    b"e",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"+Inf",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1152921504606.846976",
    b"1e-7",
    b"0.0000005",
    b"t_s,count\n",
    b"arrival_s,service_s\n",
    b"arrival_s,service_s,class\n",
    b"; UnixStartTime: 9\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"null",
    b"\"arrival_s\":",
    b"\"t_s\":",
    b"\"class\":{}",
    b"\\u0000",
    b"[01/Jul/1995:00:00:01 -0400]",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08",
    b"PAR1",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"\x89WTRACE\n",
];

#[expect(
    clippy::disallowed_methods,
    reason = "a test's size is set from outside"
)]
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// The seeds of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let folder = folder.join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("a folder of seeds")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .collect()
}

fn below(stream: &mut Stream, bound: usize) -> usize {
    let drawn = stream.below(u64::try_from(bound.max(1)).expect("64 bits"));
    usize::try_from(drawn).expect("below a length")
}

/// One change: a byte, a range, a token, or a piece of another file.
fn change(file: &mut Vec<u8>, other: &[u8], stream: &mut Stream) {
    let at = below(stream, file.len() + 1);
    let to = (at + below(stream, 32)).min(file.len());
    match below(stream, 8) {
        0 => file.truncate(at),
        1 => drop(file.drain(at..to)),
        2 => {
            let piece = file[at..to].to_vec();
            file.splice(at..at, piece);
        }
        3 => {
            let from = below(stream, other.len() + 1);
            let end = (from + below(stream, 64)).min(other.len());
            file.splice(at..to, other[from..end].iter().copied());
        }
        4 | 5 => {
            let token = TOKENS[below(stream, TOKENS.len())];
            let end = if stream.below(2) == 0 { at } else { to };
            file.splice(at..end, token.iter().copied());
        }
        6 => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << stream.below(8);
            }
        }
        _ => {
            if let Some(byte) = file.get_mut(at) {
                *byte = u8::try_from(stream.below(256)).expect("a byte");
            }
        }
    }
    file.truncate(BYTES_MAX);
}

/// Whether a panic was told of, also where a reader caught it: a user would see it.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The entries put their own silence before this watch, whichever test is first.
static WATCH: Once = Once::new();

/// Whether the entry goes through without a panic.
fn sound(entry: fn(&[u8]), file: &[u8]) -> bool {
    catch_unwind(|| entry(file)).is_ok() && !PANICKED.load(Ordering::Relaxed)
}

/// Remembers panics, and tells them as before.
fn watch_panics() {
    WATCH.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            PANICKED.store(true, Ordering::Relaxed);
            usual(about);
        }));
    });
}

#[test]
fn every_seed_is_read_or_refused() {
    watch_panics();
    for (target, entry) in entries::ENTRIES {
        for seed in corpus(target) {
            entry(&seed);
            entries::unnamed(&seed);
        }
    }
}

#[test]
fn swarm_of_damaged_files_is_read_or_refused() {
    watch_panics();
    let first = setting("WINDLASS_SWARM_FIRST", 0);
    for (target, entry) in entries::ENTRIES {
        let corpus = corpus(target);
        for seed in first..first + setting("WINDLASS_SWARM_SEEDS", SEEDS_DEFAULT) {
            let mut stream = Stream::new(seed, target);
            for _ in 0..FILES_PER_SEED {
                let mut file = corpus[below(&mut stream, corpus.len())].clone();
                let other = &corpus[below(&mut stream, corpus.len())];
                for _ in 0..=below(&mut stream, 4) {
                    change(&mut file, other, &mut stream);
                }
                let shown = String::from_utf8_lossy(&file).into_owned();
                assert!(
                    sound(entry, &file),
                    "target {target}, seed {seed}: {shown:?}"
                );
            }
        }
    }
}
