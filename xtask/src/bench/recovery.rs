//! How soon a killed monitor is replaced, how soon an end is recorded, and whether the exit code is the true one.
//!
//! For: "never loses the exit code", as a number.
//! Called by: `bench::run`.
//! Must never: pass over a lost exit code; it is an error of the section.

use std::time::Instant;

use super::Size;
use super::measure::{Pair, Samples, bare, interleaved, ms, timed, until};
use super::report::Report;
use super::world::{Gate, Job, Killer, State, World};
use crate::Failure;

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let state = world.state("recovery");
    let mut killer = Killer::new()?;
    let (mut outcome, mut waited) = (Pair::default(), Pair::default());
    for turn in 0..size.recoveries {
        let end = ended(world, &state, &format!("whole-{turn}"), |_, _| Ok(()))?;
        outcome.figure.push(end.outcome);
        waited.figure.push(end.waited);
        outcome.bare.push(bare()?);
        waited.bare.push(bare()?);
    }
    report.time("agent's exit to outcome written", &outcome, None);
    report.time("agent's exit to the return of `wait`", &waited, None);
    let again = interleaved(size.times, |_| {
        timed(&mut state.runner(&["wait", "--json", "--beads", "whole-0"]), &[0, 3])
    })?;
    report.time("`wait` for a job that has ended", &again, None);

    let mut adopted = Samples::default();
    let mut outcome = Samples::default();
    for turn in 0..size.recoveries {
        let end = ended(world, &state, &format!("killed-{turn}"), |state, job| {
            let processes = state.processes(job)?;
            let begun = killer.kill(processes.monitor)?;
            let look =
                || state.view(job, "events.jsonl").contains("\"adopted\":true").then_some(Instant::now());
            let (at, _) = until("a new monitor", look)?;
            adopted.push(ms(at - begun));
            Ok(())
        })?;
        outcome.push(end.outcome);
    }
    killer.end();
    report.plain("SIGKILL of the monitor to the new one's record", "ms", &adopted, None);
    report.plain("agent's exit to outcome, after that", "ms", &outcome, None);
    report.note(format!(
        "dx-runner: {0} of {0} exit codes recorded with the monitor killed while the job ran.",
        size.recoveries
    ));
    Ok(())
}

/// Milliseconds from the agent's exit.
struct End {
    outcome: f64,
    waited: f64,
}

/// Starts a job that exits with 7 at our word, lets something happen to it, and times its end.
fn ended(
    world: &World,
    state: &State<'_>,
    id: &str,
    mut meanwhile: impl FnMut(&State<'_>, &Job) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let job = Job::exec(id);
    let mut gate = Gate::new(world, &format!("gate-{id}"))?;
    let agent = gate.agent();
    timed(&mut state.exec(id, &agent.each_ref().map(String::as_str)), &[0])?;
    state.processes(&job)?;
    meanwhile(state, &job)?;
    let mut waiter = state
        .runner(&["wait", "--beads", id, "--timeout", "60s"])
        .spawn()
        .map_err(|error| error.to_string())?;
    // Long enough that it waits and has not yet to begin.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let thread = std::thread::spawn(move || waiter.wait().map(|status| (Instant::now(), status.code())));
    let begun = gate.open()?;
    let (at, ()) = until("an outcome", || state.has_view(&job, "outcome").then_some(()))?;
    let waited = thread.join().map_err(|_| "the waiting thread panicked")?;
    let (returned, code) = waited.map_err(|error| error.to_string())?;
    let text = state.view(&job, "outcome");
    if !text.lines().any(|line| line == "exit_code=7") || code != Some(3) {
        return Err(format!("the exit code of {id} is not 7 (`wait` exited with {code:?}):\n{text}"));
    }
    Ok(End { outcome: ms(at - begun), waited: ms(returned - begun) })
}
