//! `fake-agent`: a process that misbehaves on request.
//!
//! For: tests that need an agent which hangs, floods, forks away, ignores signals or dies in an exact way.
//! Called by: tests, as the agent of a job or alone. Each argument is one action; actions run in order and the
//! process exits 0 after the last. Relative paths are relative to the current directory.
//! Must never: depend on the product, read the network, or do anything that no argument asked for.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "printing and exiting on request is what this program is for"
)]

mod actions;
mod sys;

use std::process::ExitCode;

/// Exit code for an unknown action or a malformed argument (`EX_USAGE`).
const USAGE: u8 = 64;
/// Exit code when an action failed, for example a write into a closed pipe (`EX_IOERR`).
const ACTION_FAILED: u8 = 74;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--help" | "-h") => {
            print!("{}", actions::help());
            return ExitCode::SUCCESS;
        }
        Some("--version" | "-V") => {
            println!("fake-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // Parsed as a whole first: a typing error in a test fails at once, not after a long sleep.
    let mut script = Vec::with_capacity(args.len());
    for arg in &args {
        match actions::parse(arg) {
            Ok(step) => script.push(step),
            Err(message) => {
                eprintln!("fake-agent: {message}; see fake-agent --help");
                return ExitCode::from(USAGE);
            }
        }
    }
    for (arg, step) in args.iter().zip(script) {
        if let Err(error) = step.run() {
            eprintln!("fake-agent: {arg}: {error}");
            return ExitCode::from(ACTION_FAILED);
        }
    }
    ExitCode::SUCCESS
}
