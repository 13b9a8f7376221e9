//! The set-up of a new worktree: the user's own commands, one after the other, their output in a file.
//!
//! They carry a marker, so that what a killed command left of them is found and ended. Must never run what an agent wrote:
//! the commands come from [`super::project`].

use crate::environment;
use crate::error::EngineError;
use dx_monitor::{MARKER, sweep_marked};
use dx_proc::PidFd;
use dx_protocol::{BeadsId, RunUuid};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A set-up that takes longer hangs.
const PATIENCE_MS: u64 = 30 * 60 * 1000;
/// Between TERM and KILL for what a set-up leaves behind.
const GRACE_MS: u64 = 2_000;

/// Ends whatever carries this marker.
pub(super) fn end_leftovers(mark: &RunUuid) {
    sweep_marked(mark, GRACE_MS);
}

/// Runs all commands; the first that fails ends it.
pub(super) fn run(
    commands: &[String],
    beads: &BeadsId,
    mark: &RunUuid,
    worktree: &Path,
    log: &Path,
) -> Result<(), EngineError> {
    let failed = |command: &str, how: String| EngineError::SetupFailed {
        command: command.to_owned(),
        how,
        log: log.to_owned(),
    };
    let open = || {
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(log)
    };
    let mut file = open().map_err(|e| failed("open its log", e.to_string()))?;
    let mut env = environment::allowed(&|_| false);
    environment::set(&mut env, "DX_RUNNER_BEADS_ID", beads.as_str());
    environment::set(&mut env, MARKER, mark.as_str());
    for command in commands {
        let ended = writeln!(file, "$ {command}")
            .and_then(|()| one(command, &env, worktree, &file))
            .map_err(|e| e.to_string())
            .and_then(|ended| ended);
        // Nothing of a set-up goes on in the background of a worktree that is said to be ready.
        end_leftovers(mark);
        if let Err(how) = ended {
            let _told = writeln!(file, "dx-runner: {how}");
            return Err(failed(command, how));
        }
    }
    Ok(())
}

/// One command to its end; the inner error says how it failed.
fn one(
    command: &str,
    env: &[(std::ffi::OsString, std::ffi::OsString)],
    worktree: &Path,
    log: &File,
) -> std::io::Result<Result<(), String>> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir(worktree)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    let pid = child.id().cast_signed();
    let in_time = PidFd::open(pid)
        .and_then(|fd| dx_proc::poll::poll(&[fd.as_fd()], Some(PATIENCE_MS)))
        .is_ok_and(|woken| woken == [true]);
    if !in_time {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(if !in_time {
        Err(format!("it was ended after {} minutes", PATIENCE_MS / 60_000))
    } else if status.success() {
        Ok(())
    } else {
        Err(status.to_string())
    })
}
