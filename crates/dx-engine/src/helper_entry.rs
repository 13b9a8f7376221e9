//! Hidden entries of `dx-runner` that a monitor starts: they look, print one JSON line per fact, and write nothing.

use crate::lookup;
use crate::{view, work};
use dx_jobdir::StateDir;
use dx_protocol::{RunUuid, Settled};
use std::io::Write;
use std::path::Path;

/// Entry that tells everything the outcome needs.
pub const SETTLE: &str = "__settle";
/// Entry that tells only what changed in the worktree so far.
pub const OBSERVE: &str = "__observe";

fn print(facts: &[Settled]) -> i32 {
    let mut out = std::io::stdout().lock();
    for fact in facts {
        let Ok(line) = serde_json::to_string(fact) else { return 1 };
        if writeln!(out, "{line}").is_err() {
            return 1;
        }
    }
    i32::from(out.flush().is_err())
}

fn found(run: &str, state_dir: &Path) -> Option<lookup::Found> {
    let uuid: RunUuid = run.parse().ok()?;
    let state = StateDir::trusted(state_dir.to_owned());
    lookup::read_run(&state, &state.run(&uuid).journal(), false).ok()
}

/// `dx-runner __settle <uuid> <state dir>`: the provider's verdict from the whole log, the work verdict from git. Removes
/// the run's temporary folder, which nothing uses any more.
pub fn settle(run: &str, state_dir: &Path) -> i32 {
    let Some(found) = found(run, state_dir) else { return 1 };
    let state = StateDir::trusted(state_dir.to_owned());
    let _removed = std::fs::remove_dir_all(state.tmp(&found.run.created.ids.run_uuid));
    print(&view::settle_facts(&found.run, &found, true))
}

/// `dx-runner __observe <uuid> <state dir>`: the worktree compared with its start.
pub fn observe(run: &str, state_dir: &Path) -> i32 {
    let Some(found) = found(run, state_dir) else { return 1 };
    let Some(tree) = &found.run.created.tree else { return print(&[]) };
    print(&[Settled::Work(work::report(tree, &found.paths.tree()))])
}
