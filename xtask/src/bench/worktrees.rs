//! How long many worktrees at once take, beside a serial loop of `git worktree add`.
//!
//! For: worktrees that are made in parallel and faster than one after the other.
//! Called by: `bench::run`.
//! Must never: compare with a repository of another size, or pass over a creation that failed.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::Size;
use super::measure::{Samples, ms, timed};
use super::report::Report;
use super::world::World;
use crate::Failure;

const COUNT: usize = 32;
const FILES: usize = 2_000;
const ROUNDS: usize = 3;

pub(super) fn run(world: &World, _size: Size, report: &mut Report) -> Result<(), Failure> {
    let repo = world.make_dir("many")?;
    for n in 0..50 {
        world.make_dir(&format!("many/d{n}"))?;
    }
    for n in 0..FILES {
        world.write(&format!("many/d{}/f{n}.txt", n % 50), format!("{n}\n").repeat(200).as_bytes())?;
    }
    let git = |args: &[&str]| timed(world.command("git").arg("-C").arg(&repo).args(args), &[0]);
    git(&["init", "-q", "-b", "main"])?;
    git(&["add", "--all"])?;
    git(&["-c", "user.name=b", "-c", "user.email=b@example.invalid", "commit", "-q", "-m", "files"])?;
    let state = world.state("worktrees");
    let (mut ours, mut serial, mut ratio) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let mut children = Vec::new();
        for n in 0..COUNT {
            let mut command = state.runner(&["worktree", "create", &format!("r{round}-{n}"), "--repo"]);
            children.push(command.arg(&repo).spawn().map_err(|error| error.to_string())?);
        }
        for mut child in children {
            let status = child.wait().map_err(|error| error.to_string())?;
            if !status.success() {
                return Err(format!("worktree create: {status}"));
            }
        }
        let took = ms(begun.elapsed());
        let begun = Instant::now();
        for n in 0..COUNT {
            let place = world.path(&format!("serial/{round}-{n}"));
            let branch = format!("s{round}-{n}");
            git(&["worktree", "add", "-q", "-b", &branch, &place.display().to_string()])?;
        }
        let alone = ms(begun.elapsed());
        ours.push(took);
        serial.push(alone);
        ratio.push(took / alone);
        clear(&repo, &world.path("serial"), &git)?;
    }
    report.plain(&format!("{COUNT} worktree create at once, {FILES} files each"), "ms", &ours, None);
    report.plain(&format!("{COUNT} git worktree add one after the other"), "ms", &serial, None);
    report.plain("the first as a part of the second", "", &ratio, Some(1.0));
    Ok(())
}

/// Takes the worktrees of a round away, so that the next has the same to do.
fn clear(repo: &Path, serial: &Path, git: &dyn Fn(&[&str]) -> Result<f64, Failure>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", serial.display());
    fs::remove_dir_all(serial).map_err(failed)?;
    let _none = fs::remove_dir_all(repo.with_file_name("home").join(".local/share/dx-runner/worktrees"));
    git(&["worktree", "prune"]).map(drop)
}
