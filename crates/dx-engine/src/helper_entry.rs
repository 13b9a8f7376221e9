//! Hidden entries of `dx-runner` that a monitor starts: they look and print one JSON line per fact, each as soon as it is
//! known. They write no record; the settler removes the run's temporary folder.

use crate::fingerprint::Fingerprint;
use crate::secrets::Masking;
use crate::{lookup, steps, work};
use dx_jobdir::StateDir;
use dx_monitor::{SECRETS_FD, SecretValues};
use dx_protocol::{RunUuid, Settled};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Entry that tells everything the outcome needs.
pub const SETTLE: &str = "__settle";
/// Entry that tells only what changed in the worktree so far.
pub const OBSERVE: &str = "__observe";

/// Entry that tells what the server of a job's lane says that its session does.
pub const SESSION_STATUS: &str = "__session_status";

/// Entry that verifies the claims of sign-offs; part of a job's check.
pub const EVIDENCE: &str = "__evidence";

/// `dx-runner __evidence <file>…`, in the job's worktree: exits 30 when a claim is not verified.
pub fn evidence(files: &[PathBuf]) -> i32 {
    crate::gates::evidence::at_the_end(files)
}

/// Prints and flushes one line; whether that went well.
fn print(fact: &Settled) -> bool {
    let Ok(line) = serde_json::to_string(fact) else { return false };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

fn found(run: &str, state_dir: &Path) -> Option<lookup::Found> {
    let uuid: RunUuid = run.parse().ok()?;
    let state = StateDir::trusted(state_dir.to_owned());
    lookup::read_run(&state, &state.run(&uuid).journal(), false).ok()
}

/// `dx-runner __settle <uuid> <state dir>`: the steps that the journal does not have yet. The log is masked once more while
/// it is parsed, with the values that the monitor gave. The provider's verdict is out before git is asked, which may hang.
/// Removes the run's temporary folder, which nothing uses any more.
pub fn settle(run: &str, state_dir: &Path) -> i32 {
    let Some(found) = found(run, state_dir) else { return 1 };
    let state = StateDir::trusted(state_dir.to_owned());
    let _removed = std::fs::remove_dir_all(state.tmp(&found.run.created.ids.run_uuid));
    let values = dx_proc::inherit::take(SECRETS_FD).map(SecretValues::from_fd).unwrap_or_default();
    let masking = Masking::given(&values);
    let password = values.named(crate::lanes::PASSWORD);
    i32::from(!steps::run(&state, &found.run, &found, &masking, password, &mut |fact| print(&fact)))
}

/// `dx-runner __session_status <uuid> <state dir>`: nothing when the server says nothing.
pub fn session_status(run: &str, state_dir: &Path) -> i32 {
    let Some(found) = found(run, state_dir) else { return 1 };
    let values = dx_proc::inherit::take(SECRETS_FD).map(SecretValues::from_fd).unwrap_or_default();
    let state = StateDir::trusted(state_dir.to_owned());
    let told = crate::lanes::status(&state, &found.run, values.named(crate::lanes::PASSWORD));
    i32::from(!told.is_none_or(|event| print(&Settled::Session { event })))
}

/// `dx-runner __observe <uuid> <state dir>`: the worktree compared with its start.
pub fn observe(run: &str, state_dir: &Path) -> i32 {
    let Some(found) = found(run, state_dir) else { return 1 };
    let Some(tree) = &found.run.created.tree else { return 0 };
    let before = Fingerprint::load(&found.paths.repository());
    i32::from(!print(&Settled::Work(work::progress(tree, &found.paths.tree(), before.as_ref()))))
}
