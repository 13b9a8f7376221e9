//! How long `start` takes, beside what the disk takes for its two syncs.
//!
//! For: the budget of 6 ms plus two syncs.
//! Called by: `bench::run`.
//! Must never: start a job whose start is not checked to have succeeded.

use super::measure::{Pair, Samples, bare, interleaved, quiet, syncs, timed};
use super::report::Report;
use super::world::{LIFE, World};
use super::{Size, status};
use crate::Failure;

/// Besides its two syncs.
const BUDGET_MS: f64 = 6.0;

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let state = world.state("start");
    // The first start makes the folders.
    timed(&mut state.exec("first", &["true"]), &[0])?;
    let folder = state.root().to_owned();
    let (mut start, mut data, mut dir) = (Pair::default(), Samples::default(), Samples::default());
    for turn in 0..size.times {
        let (one, other) = syncs(&folder, turn)?;
        data.push(one);
        dir.push(other);
        start.figure.push(timed(&mut state.exec(&format!("s-{turn}"), &["sleep", LIFE]), &[0])?);
        start.bare.push(bare()?);
    }
    report.plain("fdatasync of a file, same folder", "ms", &data, None);
    report.plain("fsync of the folder", "ms", &dir, None);
    let budget = BUDGET_MS + data.p50() + dir.p50();
    report.time("start exec, repository of 100 files", &start, Some(budget));
    git(world, size, report)?;
    let version = interleaved(size.times, |_| timed(&mut quiet(state.runner(&["--version"])), &[0]))?;
    report.time("dx-runner --version (the program alone)", &version, None);
    world.sweep()?;

    let state = world.state("start-history");
    status::write_history(&state, size.ended, 30)?;
    let named =
        interleaved(size.times, |n| timed(&mut state.exec(&format!("n-{n}"), &["sleep", LIFE]), &[0]))?;
    report.time(&format!("start exec beside {} ended records", size.ended), &named, Some(budget));
    let unnamed = interleaved(size.times.min(20), |_| {
        let mut command = state.runner(&["start", "--provider", "exec", "--worktree"]);
        timed(command.arg(world.path("repo")).args(["--", "sleep", LIFE]), &[0])
    })?;
    report.time(&format!("start without an id beside {} ended records", size.ended), &unnamed, None);
    Ok(())
}

/// The part of it that is git: one `git status`, as the snapshot asks for it.
fn git(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let args = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames"];
    let asked = interleaved(size.times, |_| {
        timed(world.command("git").arg("-C").arg(world.path("repo")).args(args), &[0])
    })?;
    report.time("git status of that repository, alone", &asked, None);
    Ok(())
}
