//! One wave of many agents at once: how long until all are at work, what our processes need meanwhile, and how long until
//! all are judged.
//!
//! For: 200 agents on two cores.
//! Called by: `bench::run`.
//! Must never: count an agent, or a wave that lost an exit code.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Size;
use super::measure::{Samples, memory, ms, on_cpu_ms, timed, until};
use super::report::Report;
use super::world::{Gate, Job, World};
use crate::Failure;
use crate::workspace::output;

const AGENTS: usize = 200;
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn run(world: &World, _size: Size, report: &mut Report) -> Result<(), Failure> {
    let state = world.state("wave");
    let mut gate = Gate::new(world, "wave-gate")?;
    let words: Vec<String> = gate.agent().iter().map(|word| format!("{word:?}")).collect();
    let mut text = format!(
        "[wave]\nname = \"w\"\nrepo = \"repo\"\nprovider = \"exec\"\nmax_attempts = 1\nmax_parallel = {AGENTS}\n[defaults]\nsandbox = \"off\"\ncommand = [{}]\n",
        words.join(", ")
    );
    for n in 0..AGENTS {
        let _fits = writeln!(text, "[[item]]\nid = \"w-{n}\"");
    }
    let file = world.write("wave.toml", text.as_bytes())?.display().to_string();

    let one = |value: f64| {
        let mut samples = Samples::default();
        samples.push(value);
        samples
    };
    let begun = Instant::now();
    timed(&mut state.runner(&["wave", "run", &file, "--detach"]), &[0])?;
    let mut ours = Vec::new();
    for n in 0..AGENTS {
        ours.extend(state.processes(&Job::exec(format!("w-{n}")))?.ours());
    }
    report.plain(&format!("wave run to {AGENTS} agents at work"), "ms", &one(ms(begun.elapsed())), None);
    let coordinator = coordinator(state.root())?;
    report.plain("PSS of its coordinator", "KiB", &one(memory(&[coordinator])?.pss), None);
    report.plain("CPU of its coordinator until then", "ms", &one(on_cpu_ms(&[coordinator])?), None);
    let jobs = memory(&ours)?.pss;
    report.plain(&format!("PSS monitors + launchers, all {AGENTS} together"), "KiB", &one(jobs), None);
    ours.push(coordinator);
    let (before, at) = (on_cpu_ms(&ours)?, Instant::now());
    std::thread::sleep(IDLE);
    let share = (on_cpu_ms(&ours)? - before) / ms(at.elapsed()) * 100.0;
    report.plain(&format!("idle, everything of ours of {AGENTS}"), "% core", &one(share), None);

    let begun = Instant::now();
    for _ in 0..AGENTS {
        gate.open()?;
    }
    // Every agent exits with 7, so that no item gets done.
    timed(&mut state.runner(&["wave", "status", "w-1", "--watch", "--json"]), &[1])?;
    report.plain(&format!("end of {AGENTS} agents to all judged"), "ms", &one(ms(begun.elapsed())), None);
    let mut command = state.runner(&["wave", "status", "w-1", "--json"]);
    let told = output(command.stdout(std::process::Stdio::piped()))?;
    let codes = told.matches("\"exit_code\":\"7\"").count();
    if codes == AGENTS { Ok(()) } else { Err(format!("{codes} of {AGENTS} exit codes are told")) }
}

/// The process that coordinates the only wave of a state directory.
fn coordinator(state: &Path) -> Result<u32, Failure> {
    let look = || {
        let pids = std::fs::read_dir("/proc").ok()?.flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            words.get(1) == Some(&"__wave") && words.get(3).is_some_and(|word| Path::new(word) == state)
        })
    };
    until("the coordinator", look).map(|(_, pid)| pid)
}
