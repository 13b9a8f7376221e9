//! Fault injection for tests, compiled in only with the feature `faults`; without it every function is empty.
//!
//! Environment: `DX_FAULT_KILL=<step>@<marker file>` kills the process at the named step, once (the marker is made first);
//! `DX_FAULT_ENOSPC=<n>@<counter file>` fails the n-th write of all processes that share the counter; `<n>+@<counter
//! file>` fails it and all later ones that need space, until there is a file `<counter file>.free`;
//! `DX_FAULT_TRACE=<file>` records every write. Never reads or changes anything else.

/// The named steps of monitor, launcher, starter and settler, in the order of a run. A test goes through all of them.
pub const STEPS: &[&str] = &[
    "starter.created",
    "starter.claimed",
    "starter.spawned",
    "starter.planned",
    "monitor.began",
    "monitor.before_launcher",
    "monitor.after_launcher",
    "monitor.started_record",
    "launcher.began",
    "launcher.agent_held",
    "launcher.agent_recorded",
    "launcher.agent_released",
    "launcher.exec_recorded",
    "monitor.agent_record",
    "launcher.exit_seen",
    "launcher.exit_written",
    "launcher.exit_synced",
    "launcher.reaped",
    "launcher.swept",
    "monitor.exit_seen",
    "monitor.ended_record",
    "monitor.before_settler",
    "settler.provider_told",
    "settler.work_told",
    "check.started",
    "check.ended",
    "monitor.after_settler",
    "monitor.outcome_record",
    "monitor.outcome_view",
    "monitor.ended_index",
    "monitor.released",
    "monitor.history",
];

/// The named steps of commands that make and remove worktrees and records, which have tests of their own.
pub const WORKTREE_STEPS: &[&str] = &[
    "worktree.planned",
    "worktree.registered",
    "worktree.checked_out",
    "worktree.set_up",
    "worktree.removing",
    "gc.views_removed",
    "gc.run_emptied",
];

/// The named steps of a wave's making and of its coordinator, which have tests of their own.
pub const WAVE_STEPS: &[&str] = &[
    "wave.created",
    "wave.began",
    "wave.attempt_decided",
    "wave.started",
    "wave.refused",
    "wave.judged",
    "wave.review_decided",
    "wave.review_started",
    "wave.reviewed",
    "wave.closed",
    "wave.integrated",
    "wave.merged",
    "wave.ended",
];

/// The named steps of a watchdog's round, which have tests of their own.
pub const WATCHDOG_STEPS: &[&str] =
    &["watchdog.decided", "watchdog.ended", "watchdog.restarted", "watchdog.blocked"];

/// The named steps of putting the agent pack into a folder and taking it out, which have tests of their own.
pub const WORKFLOW_STEPS: &[&str] = &[
    "workflow.folders_made",
    "workflow.planned",
    "workflow.backup_recorded",
    "workflow.backed_up",
    "workflow.temporary_written",
    "workflow.file_written",
    "workflow.files_written",
    "workflow.stale_removed",
    "workflow.finished",
    "workflow.removed",
    "workflow.restored",
];

/// The named steps of a task's run, which have tests of their own.
pub const TASK_STEPS: &[&str] = &[
    "task.begun",
    "task.step_recorded",
    "task.step_started",
    "task.step_judged",
    "task.command_started",
    "task.command_recorded",
    "task.unit_recorded",
    "task.ended",
];

#[cfg(feature = "faults")]
mod imp {
    use std::io::{self, Write};
    use std::path::Path;

    pub fn step(name: &str) {
        let known = super::STEPS.contains(&name)
            || super::WORKTREE_STEPS.contains(&name)
            || super::WAVE_STEPS.contains(&name)
            || super::WATCHDOG_STEPS.contains(&name)
            || super::WORKFLOW_STEPS.contains(&name)
            || super::TASK_STEPS.contains(&name);
        debug_assert!(known, "unlisted step {name}");
        let Some(spec) = std::env::var_os("DX_FAULT_KILL") else { return };
        let spec = spec.to_string_lossy().into_owned();
        let Some((step, marker)) = spec.split_once('@') else { return };
        if step == name && std::fs::OpenOptions::new().write(true).create_new(true).open(marker).is_ok() {
            let _sent =
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    pub(crate) fn before_write(op: &str) -> io::Result<()> {
        let Some(spec) = std::env::var_os("DX_FAULT_ENOSPC") else { return Ok(()) };
        if op.starts_with("sync") || op == "remove" {
            return Ok(());
        }
        let spec = spec.to_string_lossy().into_owned();
        let Some((n, counter)) = spec.split_once('@') else { return Ok(()) };
        let stays_full = n.ends_with('+');
        let n: u64 = n.trim_end_matches('+').parse().unwrap_or(0);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(counter)?;
        file.write_all(b".")?;
        let count = file.metadata()?.len();
        // Writes at offsets go into reserved space.
        let full =
            stays_full && count > n && op != "write to" && !Path::new(&format!("{counter}.free")).exists();
        if count == n || full {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }

    pub(crate) fn trace(op: &str, path: &Path, to: Option<&Path>, offset: u64, bytes: &[u8]) {
        let Some(trace) = std::env::var_os("DX_FAULT_TRACE") else { return };
        let line = serde_json::json!({
            "op": op,
            "path": path.to_string_lossy(),
            "to": to.map(|t| t.to_string_lossy().into_owned()),
            "offset": offset,
            "bytes": String::from_utf8_lossy(bytes),
        });
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(trace) {
            let _traced = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}

#[cfg(not(feature = "faults"))]
mod imp {
    use std::io;
    use std::path::Path;

    #[inline]
    pub fn step(_name: &str) {}

    #[inline]
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn before_write(_op: &str) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(crate) fn trace(_op: &str, _path: &Path, _to: Option<&Path>, _offset: u64, _bytes: &[u8]) {}
}

pub use imp::step;
pub(crate) use imp::{before_write, trace};
