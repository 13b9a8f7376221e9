//! `cargo xtask test`: everything a change must pass, in one command.
//!
//! For: people before a commit, `.ci/run` after it. Works on a fresh machine with Rust, Node.js, git and a C compiler.
//! Called by: `main`.
//! Must never: hide a step that did not run; the closing line counts steps, not tests.

use std::path::PathBuf;

use crate::agents::{self, AGENTS_DIR, InstallError};
use crate::steps::{Outcome, Steps};
use crate::workspace::{cargo, run as run_command};
use crate::{Failure, check, flaky, generate, tools};

/// Runs the steps; with `fast` without the real agents.
pub(crate) fn run(fast: bool) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let mut agents_dir = None;

    steps.step("tools", || tools_present(fast));
    steps.step("agents", || if fast { Outcome::Skipped("--fast".into()) } else { install(&mut agents_dir) });
    steps.step("fmt", || run_command(cargo().args(["fmt", "--all", "--check"])).into());
    steps.step("clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        run_command(cargo().args(args)).into()
    });
    if !steps.step("build", || run_command(cargo().args(["build", "--workspace", "--locked"])).into()) {
        steps.stop("the build failed");
    }
    steps.step("test", || {
        let tests = || {
            let mut command = cargo();
            command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
            command.env("RUST_TEST_THREADS", threads().to_string());
            match &agents_dir {
                Some(folder) => command.env(AGENTS_DIR, folder),
                None => command.env_remove(AGENTS_DIR),
            };
            command
        };
        flaky::run(&mut tests(), tests().arg("--"))
    });
    steps.step("doc", || {
        let args = ["doc", "--workspace", "--no-deps", "--locked"];
        run_command(cargo().args(args).env("RUSTDOCFLAGS", "-Dwarnings")).into()
    });
    steps.step("gen", || generate::run(true).into());
    steps.step("check", || check::run().into());
    steps.finish()
}

/// Most tests wait for processes of theirs more than they compute: one more at a time than there are processors.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) + 1
}

fn tools_present(fast: bool) -> Outcome {
    let mut missing = Vec::new();
    for tool in tools::TOOLS {
        match tool.version() {
            Some(version) => println!("   {:<8} {version}", tool.name),
            None if fast && tool.agents_only => println!("   {} (not needed with --fast)", tool.missing()),
            None => {
                println!("   {}", tool.missing());
                missing.push(tool.name);
            }
        }
    }
    if missing.is_empty() {
        return Outcome::Passed;
    }
    Outcome::Failed(format!("{} missing: {}", missing.len(), missing.join(", ")))
}

fn install(agents_dir: &mut Option<PathBuf>) -> Outcome {
    match agents::install() {
        Ok(folder) => {
            *agents_dir = Some(folder);
            Outcome::Passed
        }
        // The missing tool has failed its own step; the agents are not broken, they were not tried.
        Err(error @ (InstallError::MissingTools(_) | InstallError::Platform(_))) => {
            Outcome::Skipped(error.to_string())
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
