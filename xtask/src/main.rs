//! `cargo xtask`: the project's chores, std only.
//!
//! For: people and continuous integration; `.ci/run` is `cargo xtask test`.
//! Called by: the alias in `.cargo/config.toml`. Each command is one module with a `run`.
//! Must never: report success for something it did not do.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore runner talks to the person at the terminal; nothing parses it but the closing line of `test`"
)]

mod agents;
mod beads;
mod bench;
mod check;
mod dist;
mod flaky;
mod generate;
mod soak;
mod steps;
mod test;
mod tools;
mod truth;
mod workspace;

use std::process::ExitCode;

/// Why a command failed, in words for the terminal.
type Failure = String;

const USAGE: &str = "\
cargo xtask test [--fast]            everything a change must pass; --fast leaves out the real agents
cargo xtask check                    the rules of the repository that neither compiler nor clippy knows
cargo xtask install-agents [--list]  the pinned real agents, into a cache folder
cargo xtask soak [NAME | --list]     long runs; all of them without a name
cargo xtask bench [--quick] [--peers] [--json FILE] [--only NAME]
                                     the benchmarks; --peers compares with other programs
cargo xtask dist                     the programs to install, linked statically where that is possible
cargo xtask gen [--check]            the generated references; --check only compares
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["test"] => test::run(false),
        ["test", "--fast"] => test::run(true),
        ["check"] => check::run(),
        ["install-agents"] => agents::run(),
        ["install-agents", "--list"] => {
            agents::list();
            Ok(())
        }
        ["soak"] => soak::run(None),
        ["soak", "--list"] => {
            soak::list();
            Ok(())
        }
        ["soak", name] => soak::run(Some(name)),
        ["bench", ..] => bench::run(),
        ["dist"] => dist::run(),
        ["gen"] => generate::run(false),
        ["gen", "--check"] => generate::run(true),
        ["--help" | "-h" | "help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
