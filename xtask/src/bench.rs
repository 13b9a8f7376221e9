//! `cargo xtask bench`: the benchmarks.
//!
//! For: numbers to quote, each beside a bare `fork+exec` baseline of the same run.
//! Called by: `main`.
//! Must never: print a number that was not measured in this run.

mod crowd;
mod dispatch;
mod http;
mod measure;
mod memory;
mod peers;
mod recovery;
mod relay;
mod replay;
mod report;
mod server;
mod start;
mod status;
mod wave;
mod worktrees;
mod world;

use std::path::PathBuf;

use crate::{Failure, dist};

use report::Report;
use world::World;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Repetitions of what takes milliseconds.
    times: usize,
    /// Repetitions of recovery, each with a job of its own.
    recoveries: usize,
    /// Live jobs of the big crowd.
    crowd: usize,
    /// Ended records.
    ended: usize,
    /// How many of fifty jobs print the big log, and its size.
    parsers: usize,
    log_bytes: usize,
    idle_sec: u64,
}

const FULL: Size = Size {
    times: 50,
    recoveries: 20,
    crowd: 1_000,
    ended: 10_000,
    parsers: 10,
    log_bytes: 50 << 20,
    idle_sec: 30,
};
const QUICK: Size = Size {
    times: 20,
    recoveries: 5,
    crowd: 100,
    ended: 10_000,
    parsers: 1,
    log_bytes: 50 << 20,
    idle_sec: 10,
};

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    peers: bool,
    json: Option<PathBuf>,
    /// Only sections whose name begins so.
    only: Option<String>,
}

impl Options {
    fn parse(args: &mut dyn Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--peers" => options.peers = true,
                "--json" => options.json = Some(args.next().ok_or("--json takes a file")?.into()),
                "--only" => options.only = Some(args.next().ok_or("--only takes the name of a section")?),
                other => {
                    return Err(format!(
                        "bench takes --quick, --peers, --json FILE and --only SECTION, not {other}"
                    ));
                }
            }
        }
        Ok(options)
    }
}

type Section = fn(&World, Size, &mut Report) -> Result<(), Failure>;

/// What is measured, in this order: what needs a quiet machine first.
const SECTIONS: [(&str, Section); 9] = [
    ("memory", memory::run),
    ("recovery", recovery::run),
    ("start", start::run),
    ("status", status::run),
    ("crowd", crowd::run),
    ("wave", wave::run),
    ("worktrees", worktrees::run),
    ("dispatch", dispatch::run),
    ("server", server::run),
];

/// Measures the release build with whole processes; with `peers` also the same work by other programs, where installed.
/// The other options are read from the command line.
pub(crate) fn run() -> Result<(), Failure> {
    let options = Options::parse(&mut std::env::args().skip(2))?;
    let size = if options.quick { QUICK } else { FULL };
    let json = options.json.as_ref().map(|file| std::path::absolute(file).map_err(|e| e.to_string()));
    let json = json.transpose()?;
    let world = World::new(&dist::build()?)?;
    let mut report = Report::new(options.quick);
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| name.starts_with(only));
    let mut failed = Vec::new();
    for (name, section) in SECTIONS.into_iter().filter(|(name, _)| wanted(name)) {
        println!("── {name}");
        // One section that cannot be measured takes none of the others with it.
        if let Err(failure) = section(&world, size, &mut report) {
            println!("{name}: {failure}");
            failed.push(name);
        }
        world.sweep()?;
    }
    if options.peers {
        println!("── peers");
        peers::run(&world, size, &mut report);
    }
    drop(world);
    println!("\n{}", report.table());
    if let Some(file) = json {
        std::fs::write(&file, report.json()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn options_are_read() {
        let parse = |line: &str| Options::parse(&mut line.split_whitespace().map(str::to_owned));
        let options = parse("--peers --quick --json out.json --only memory").unwrap();
        assert!(options.peers && options.quick);
        assert_eq!(options.json.unwrap().to_str(), Some("out.json"));
        assert!(parse("--json").is_err());
        assert!(parse("--fast").is_err());
    }
}
