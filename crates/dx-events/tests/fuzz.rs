//! The fuzz loop: recorded lines of all grammars, damaged in ways that know their structure, for as long as is wanted.
//!
//! For: `cargo xtask soak fuzz`. Does nothing without `DX_SOAK=1`. `DX_FUZZ_SECONDS` is for how long (300), `DX_FUZZ_SEED`
//! repeats a run. What fails is written beside the test program, and its place is printed. It needs no nightly compiler and
//! no coverage: what guides it is the recorded runs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod invariants;

use invariants::SECRET;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// So many inputs are made of one seed before the clock is asked.
const ROUND: u64 = 64;

/// What breaks readers: JSON's edges, numbers at their limits, what terminals and tokens begin with.
const STRANGE: [&[u8]; 34] = [
    b"\"",
    b"\\",
    b"\\\\\"",
    b"\\u",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"-1e-999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"0.1e",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x1b[2J",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98",
    b"\xe2\x80\xa8",
    b"sk-abcdefghijklmnop1",
    b"eyJ",
    b"-----BEGIN ",
    b"://u:p@",
    b"*",
];

/// xorshift64*: no crate for four lines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// One damage to one line.
fn damage(random: &mut Random, line: &mut Vec<u8>, lines: &[Vec<u8>]) {
    let at = random.below(line.len() + 1);
    match random.below(11) {
        0 => line.truncate(at),
        1 => drop(line.drain(..at)),
        2 if at < line.len() => line[at] ^= 1 << random.below(8),
        3 => drop(line.splice(at..at, random.of(&STRANGE).iter().copied())),
        4 => {
            // The end of another line.
            let other = random.of(lines);
            let from = random.below(other.len() + 1);
            line.truncate(at);
            line.extend_from_slice(&other[from..]);
        }
        5 => {
            // A piece twice, or many times.
            let to = (at + random.below(40)).min(line.len());
            let piece = line[at..to].repeat(1 + random.below(30));
            line.splice(at..at, piece);
        }
        6 => {
            let deep = random.of(&[&b"["[..], b"{\"a\":", b"\\", b"\"\","]).repeat(1 + random.below(400));
            line.splice(at..at, deep);
        }
        7 => {
            // A string that is too long for anybody.
            let long = random.of(&[&b"x"[..], b"\\n", b"\xc3\xa9", b"\\u00e9"]).repeat(random.below(20_000));
            line.splice(at..at, long);
        }
        8 => {
            let json = serde_json::to_string(SECRET).unwrap();
            line.splice(at..at, json[1..json.len() - 1].bytes());
        }
        9 => {
            // A value of another type: from a colon to the next comma.
            let colon = line[at..].iter().position(|b| *b == b':').map(|n| at + n + 1);
            if let Some(from) = colon {
                let to = line[from..].iter().position(|b| *b == b',').map_or(line.len(), |n| from + n);
                line.splice(from..to, random.of(&STRANGE).iter().copied());
            }
        }
        _ => {
            let to = (at + random.below(8)).min(line.len());
            line.drain(at..to);
        }
    }
}

fn input(random: &mut Random, lines: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let mut text = Vec::new();
    for _ in 0..=random.below(8) {
        let mut line = random.of(lines).clone();
        for _ in 0..random.below(5) {
            damage(random, &mut line, lines);
        }
        text.extend_from_slice(&line);
        if random.below(10) > 0 {
            text.push(b'\n');
        }
    }
    let cuts = (0..random.below(6)).map(|_| random.below(text.len() + 1)).collect();
    (text, cuts)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn run(seed: u64, lines: &[Vec<u8>]) -> u64 {
    let mut bytes = 0;
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..ROUND {
        let (text, cuts) = input(&mut random, lines);
        bytes += text.len() as u64;
        let held = catch_unwind(AssertUnwindSafe(|| {
            invariants::parsers_hold(&text, &cuts);
            invariants::mask_holds(&text, &cuts);
        }));
        if let Err(panic) = held {
            let path = std::env::current_exe().unwrap().with_file_name(format!("fuzz-failure-{seed}"));
            std::fs::write(&path, &text).unwrap();
            println!("DX_FUZZ_SEED={seed} repeats it; cut at {cuts:?}; the input is {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
    bytes
}

#[test]
fn fuzz_all_grammars() {
    let lines = invariants::recorded_lines();
    if let Some(seed) = number("DX_FUZZ_SEED") {
        run(seed, &lines);
        return;
    }
    if std::env::var_os("DX_SOAK").is_none_or(|value| value != "1") {
        println!("a soak test: runs with DX_SOAK=1, or by `cargo xtask soak fuzz`; one round now");
        run(1, &lines);
        return;
    }
    let time = Duration::from_secs(number("DX_FUZZ_SECONDS").unwrap_or(300));
    let first = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() * 1_000_000;
    let (begun, mut seed, mut bytes) = (Instant::now(), first, 0);
    while begun.elapsed() < time {
        bytes += run(seed, &lines);
        seed += 1;
    }
    println!(
        "{} inputs, {} MB, seeds {first} to {seed}: all invariants held",
        (seed - first) * ROUND,
        bytes >> 20
    );
}
