//! `cargo xtask soak`: long runs that look for what short tests miss.
//!
//! For: before a release, and after a change of supervision. A suite is a prefix of test names in a test
//! program, mostly `tests/soak.rs` of the package `dx-runner`; those tests do nothing without `DX_SOAK=1`.
//! Called by: `main`.
//! Must never: pass a suite without tests.

use crate::Failure;
use crate::agents::{self, AGENTS_DIR};
use crate::beads::{self, BEADS_PROGRAM};
use crate::steps::{Outcome, Steps};
use crate::workspace::{cargo, output, run as run_command};

struct Suite {
    /// The filter given to the test program.
    name: &'static str,
    /// Package and name of the test program.
    program: (&'static str, &'static str),
    what: &'static str,
    /// Whether it runs real agents.
    agents: bool,
    /// Whether it runs a real `bd`.
    beads: bool,
}

/// Where most suites are.
const JOBS: (&str, &str) = ("dx-runner", "soak");

/// The suites. To add one: a row here, tests whose names start with `<name>` there.
const SUITES: &[Suite] = &[
    Suite {
        name: "kills",
        program: JOBS,
        what: "SIGKILL of monitor, launcher and agent at named steps and random instants",
        agents: false,
        beads: false,
    },
    Suite {
        name: "wave::kills",
        program: ("dx-runner", "it"),
        what: "SIGKILL of the coordinators of 500 waves at named steps and random instants",
        agents: false,
        beads: false,
    },
    Suite {
        name: "wave::cut",
        program: ("dx-runner", "it"),
        what: "a power cut after every single write of a wave",
        agents: false,
        beads: false,
    },
    Suite {
        name: "workflow::inside",
        program: ("dx-runner", "it"),
        what: "commands of the agent pack that may ask a second model, with a server and without",
        agents: true,
        beads: false,
    },
    Suite {
        name: "crowd",
        program: JOBS,
        what: "many jobs at once, started and stopped by many callers, and by one wave",
        agents: false,
        beads: false,
    },
    Suite {
        name: "floods",
        program: JOBS,
        what: "agents that print without end, full disks, shrunk logs",
        agents: false,
        beads: false,
    },
    Suite {
        name: "truth",
        program: JOBS,
        what: "cases in which the real agents take minutes to give up",
        agents: true,
        beads: false,
    },
    Suite {
        name: "fuzz",
        program: ("dx-events", "fuzz"),
        what: "parsers and masking against damaged recordings; DX_FUZZ_SECONDS=300",
        agents: false,
        beads: false,
    },
    Suite {
        name: "health",
        program: JOBS,
        what: "verdicts on agents that are silent in all known ways, and what the watchdog does: false alarms and misses",
        agents: false,
        beads: false,
    },
    Suite {
        name: "bench",
        program: JOBS,
        what: "benchmarks of all lanes on a scripted model, and their report in a real Chromium, which must be installed",
        agents: true,
        beads: false,
    },
    Suite {
        name: "beads",
        program: JOBS,
        what: "the Beads gate and the hook with a real Beads; builds it the first time",
        agents: false,
        beads: true,
    },
];

/// Prints the suites.
pub(crate) fn list() {
    for Suite { name, what, .. } in SUITES {
        println!("{name:<8} {what}");
    }
}

/// Runs the suite of that name, or all.
pub(crate) fn run(name: Option<&str>) -> Result<(), Failure> {
    let chosen: Vec<&Suite> =
        SUITES.iter().filter(|suite| name.is_none_or(|name| name == suite.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        return Err(format!("no soak suite '{}'; there are: {}", name.unwrap_or_default(), names.join(", ")));
    }
    let mut steps = Steps::default();
    for suite in chosen {
        steps.step(suite.name, || run_suite(suite));
    }
    steps.finish()
}

fn run_suite(suite: &Suite) -> Outcome {
    let bd = match suite.beads.then(beads::install).transpose() {
        Ok(program) => program,
        Err(error) => return Outcome::Failed(error),
    };
    let agents_dir = match suite.agents.then(agents::install).transpose() {
        Ok(folder) => folder,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let command = |more: &[&str]| {
        let mut command = cargo();
        command.args([
            "test",
            "--release",
            "--locked",
            "-p",
            suite.program.0,
            "--test",
            suite.program.1,
            "--",
            suite.name,
        ]);
        command.args(more).env("DX_SOAK", "1").envs(agents_dir.iter().map(|folder| (AGENTS_DIR, folder)));
        command.envs(bd.iter().map(|program| (BEADS_PROGRAM, program)));
        command
    };
    let result = output(&mut command(&["--list", "--format", "terse"])).and_then(|listed| {
        if listed.lines().any(|line| line.ends_with(": test")) {
            run_command(&mut command(&["--nocapture"]))
        } else {
            Err(format!("no test name contains '{}'", suite.name))
        }
    });
    result.into()
}
