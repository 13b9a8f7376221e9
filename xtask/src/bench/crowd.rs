//! Many live jobs: what `status` and `start` cost among them, and what ending some costs.
//!
//! For: the budget of 100 ms with 1,000 live jobs.
//! Called by: `bench::run`.
//! Must never: count jobs that are not live; every one is a real one.

use super::Size;
use super::measure::{Pair, Samples, bare, interleaved, on_cpu_ms, timed};
use super::report::Report;
use super::world::{Job, LIFE, World};
use crate::Failure;
use crate::workspace::output;
use std::time::{Duration, Instant};

const BUDGET_MS: f64 = 100.0;
/// How many are stopped by command; the others by the sweep at the end.
const STOPPED: usize = 50;

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let state = world.state("crowd");
    let mut last = Pair::default();
    for n in 0..size.crowd {
        let took = timed(&mut state.exec(&format!("c-{n}"), &["sleep", LIFE]), &[0])?;
        if n + 50 >= size.crowd {
            last.figure.push(took);
            last.bare.push(bare()?);
        }
    }
    report.time(&format!("start exec, the last 50 of {} live", size.crowd), &last, None);
    let mut command = state.runner(&["status", "--live", "--json"]);
    let shown = output(command.stdout(std::process::Stdio::piped()))?.matches("\"beads\":").count();
    if shown != size.crowd {
        return Err(format!("{shown} jobs are shown as live, not {}", size.crowd));
    }
    let what = format!("status --json, {} live", size.crowd);
    let pair = interleaved(size.times.min(30), |_| timed(&mut state.runner(&["status", "--json"]), &[0]))?;
    report.time(&what, &pair, Some(BUDGET_MS));
    let what = format!("check --json of one of {} live", size.crowd);
    let id = format!("c-{}", size.crowd / 2);
    let pair = interleaved(size.times.min(30), |_| {
        timed(&mut state.runner(&["check", "--json", "--beads", &id]), &[0, 2])
    })?;
    report.time(&what, &pair, None);

    // Everything of ours together, as a share of one core.
    let mut pids = Vec::new();
    for n in 0..size.crowd {
        pids.extend(state.processes(&Job::exec(format!("c-{n}")))?.ours());
    }
    let (before, begun) = (on_cpu_ms(&pids)?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let mut share = Samples::default();
    share.push((on_cpu_ms(&pids)? - before) / begun.elapsed().as_secs_f64() / 10.0);
    let per_job = 0.05 * size.crowd as f64;
    report.plain(&format!("idle, all of {} together", size.crowd), "% core", &share, Some(per_job));

    let some: Vec<String> = (0..size.crowd.min(STOPPED)).map(|n| format!("c-{n}")).collect();
    let mut stop = Samples::default();
    let mut command = state.runner(&["stop", "--grace", "0s", "--beads"]);
    stop.push(timed(command.args(&some), &[0])? / some.len() as f64);
    let what = format!("stop of {} among {} live, per job", some.len(), size.crowd);
    report.plain(&what, "ms", &stop, None);
    let has_outcome =
        |id: &&String| state.view(&Job::exec(id.as_str()), "outcome").contains("reason_code=manual_stop");
    let outcomes = some.iter().filter(has_outcome).count();
    report.note(format!("dx-runner: {outcomes} of {} stopped jobs have their outcome.", some.len()));
    Ok(())
}
