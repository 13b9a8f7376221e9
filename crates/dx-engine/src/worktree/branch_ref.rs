//! Changes of a worktree's branch by git, also after a git that was killed while it held the branch's lock.
//!
//! Called with the lock of the folder, when our own gits of before have ended. Must never: take a lock from a git that may be
//! at work; that of the packed refs, which others hold for longer, is only waited for.

use super::made::Made;
use crate::error::EngineError;
use crate::git::{self, Call, Repository};
use dx_monitor::MARKER;
use std::process::Output;
use std::time::{Duration, SystemTime};

/// How long git waits for a lock that another one holds; its own values are 100 ms and 1 s, less than a busy machine takes.
pub(crate) const PATIENT: [&str; 4] =
    ["-c", "core.filesRefLockTimeout=3000", "-c", "core.packedRefsTimeout=3000"];
/// A git holds the lock of one branch for some milliseconds. One this old, for which git has waited, is a killed one's.
const STALE: Duration = Duration::from_secs(3);

/// Runs `git update-ref` with these arguments for the branch.
pub(super) fn update_ref(main: &Repository, made: &Made, args: &[&str]) -> Result<Output, EngineError> {
    let whole = [&PATIENT, &["update-ref"][..], args].concat();
    let call = || Call::new(main, &whole).env(MARKER, made.mark.as_str()).output();
    let output = call()?;
    if output.status.success() || !unlock_stale(main, &made.branch) {
        return Ok(output);
    }
    call()
}

/// What git said against [`update_ref`] with these arguments.
pub(super) fn refused(args: &[&str], output: &Output) -> EngineError {
    git::ended(&[&["update-ref"], args].concat(), output)
}

/// Removes the branch's lock when it is of a git that was killed; whether it did.
fn unlock_stale(main: &Repository, branch: &str) -> bool {
    let lock = main.common_dir.join(format!("refs/heads/{branch}.lock"));
    let changed = std::fs::symlink_metadata(&lock).and_then(|meta| meta.modified());
    let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age >= STALE) && std::fs::remove_file(&lock).is_ok()
}
