//! A job that an adapter script starts and leaves: from the shell that starts it to the process that is the job.
//!
//! The launcher is the subreaper above the shell. When the shell has ended, the job is the launcher's own child, and from
//! then on an agent like any other: its identity is in the exit file, its exit is seen by its parent. What the shell said is
//! taken for no more than the name of a child of ours.
//!
//! Called by the launcher before there is an agent. Must never: take a process for the job that is no child of ours.

use crate::context::Context;
use crate::identity::record_of;
use crate::launch::Failure;
use dx_events::mask::Secrets;
use dx_jobdir::faults;
use dx_proc::{ExitStatus, PidFd, ProcessIdentity, clock, wait};
use dx_protocol::Slot;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// How such a job runs, in its record.
pub const ADAPTER_MODE: &str = "adapter-script";
/// How long a script may take to start its job.
const PATIENCE_MS: u64 = 30_000;
/// How long a process between shell and job may take to go.
const ADOPT_MS: u64 = 2_000;
const TICK_MS: u64 = 5;
/// More of what a script prints is not read.
const MOST_BYTES: u64 = 64 << 10;
/// Words of a failure, so that its record fits its slot.
const MOST_CHARS: usize = 160;
/// `EPROTO`.
const BROKEN: i32 = 71;

/// What a script told of its job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) pid: Option<i32>,
    pub(crate) selected_model: Option<String>,
    pub(crate) fallback_reason: Option<String>,
    pub(crate) launch_mode: Option<String>,
}

/// Reads `key=value` lines; a bare number is the pid. What is something else is passed over. No value has a secret in it.
pub(crate) fn told(text: &str, secrets: &Secrets) -> Told {
    let mut told = Told::default();
    let value = |text: &str| {
        let plain: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        let plain: String = secrets.mask_text(&plain).chars().take(200).collect();
        (!plain.is_empty() && plain != "-").then_some(plain)
    };
    // Only whole lines: it may be in the middle of one.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    // A number is no secret. Values of several lines are masked before they are taken apart.
    let mut pids = whole.lines().filter_map(|line| match line.split_once('=') {
        Some(("pid", pid)) => Some(pid.trim().parse().ok()),
        Some(_) => None,
        None => line.trim().parse().ok().map(Some),
    });
    told.pid = pids.next_back().flatten();
    for line in secrets.mask_text(whole).lines() {
        match line.split_once('=') {
            Some(("selected_model", text)) => told.selected_model = value(text),
            Some(("fallback_reason", text)) => told.fallback_reason = value(text),
            Some(("launch_mode", text)) => told.launch_mode = value(text),
            _ => {}
        }
    }
    told
}

/// The code in a file that the job's own shell wrote: what a job says of itself, for when nobody saw its end.
pub fn rc_of(path: &Path) -> Option<i32> {
    let bytes = dx_jobdir::read_bounded(path, 64).ok()?;
    String::from_utf8_lossy(&bytes).trim().parse().ok().filter(|code| (0..=255).contains(code))
}

/// Where the script prints.
pub(crate) fn file(ctx: &Context) -> Result<OwnedFd, i32> {
    let flags =
        OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(ctx.paths.adapter(), flags, Mode::RUSR | Mode::WUSR)
        .map_err(rustix::io::Errno::raw_os_error)
}

/// What the script of this run has told so far.
pub(crate) fn of_run(ctx: &Context) -> Told {
    let bytes = dx_jobdir::read_bounded(&ctx.paths.adapter(), MOST_BYTES).unwrap_or_default();
    told(&String::from_utf8_lossy(&bytes), &ctx.secrets.ready())
}

/// Takes what the script said out of the run's folder, once it is recorded without its secrets.
pub(crate) fn forget(ctx: &Context) {
    // One that stays is removed when the run ends.
    let _stays = dx_jobdir::disk::remove(&ctx.paths.adapter());
}

/// Waits until the script has left its job to us, and records which process that is.
pub(crate) fn wait(ctx: &Context, starter: i32) -> Result<PidFd, Failure> {
    let began = clock::monotonic_ms();
    let failure = |message: String| {
        let message = message.chars().take(MOST_CHARS).collect();
        Failure { errno: BROKEN, message: Some(message) }
    };
    loop {
        match wait::peek_exit(starter) {
            Ok(None) => {}
            // Its pid is its own until it is reaped here.
            Ok(Some(status)) => {
                let told = of_run(ctx).pid;
                let job = match (status, told) {
                    // It was the job itself. Its end is seen where every agent's is, so it is not reaped here.
                    (_, Some(pid)) if pid == starter => return itself(ctx, starter),
                    (ExitStatus::Exited(0), Some(pid)) => adopted(pid, starter)
                        .ok_or_else(|| {
                            failure(format!("adapter_start told pid={pid}, and left no such process"))
                        })
                        .and_then(|fd| record(ctx, pid, fd)),
                    (ExitStatus::Exited(0), None) => Err(failure("adapter_start told no pid=".to_owned())),
                    (ExitStatus::Exited(code), _) => Err(failure(format!("adapter_start ended with {code}"))),
                    (ExitStatus::Signaled(signal), _) => {
                        Err(failure(format!("adapter_start was ended by signal {signal}")))
                    }
                };
                let _reaped = wait::reap(starter);
                return job;
            }
            Err(_) => return Err(failure("the shell of the adapter was lost".to_owned())),
        }
        // One that stays is the job itself, when it says so.
        if of_run(ctx).pid == Some(starter) {
            return itself(ctx, starter);
        }
        if clock::monotonic_ms() - began > PATIENCE_MS {
            return Err(failure(format!("adapter_start did not return in {} s", PATIENCE_MS / 1000)));
        }
        std::thread::sleep(std::time::Duration::from_millis(TICK_MS));
    }
}

/// The shell is the job.
fn itself(ctx: &Context, starter: i32) -> Result<PidFd, Failure> {
    let fd = PidFd::open(starter).map_err(|e| Failure::from(e.errno().unwrap_or(BROKEN)))?;
    record(ctx, starter, fd)
}

/// A descriptor of the told process once it is a child of ours. Its number cannot be another's: nobody but us reaps it.
fn adopted(pid: i32, starter: i32) -> Option<PidFd> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if pid <= 1 || pid == starter || pid == own {
        return None;
    }
    let began = clock::monotonic_ms();
    loop {
        if wait::peek_exit(pid).is_ok() {
            return PidFd::open(pid).ok();
        }
        if clock::monotonic_ms() - began > ADOPT_MS {
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(TICK_MS));
    }
}

fn record(ctx: &Context, pid: i32, fd: PidFd) -> Result<PidFd, Failure> {
    let identity = ProcessIdentity::of_pid(pid).map_err(|e| Failure::from(e.errno().unwrap_or(BROKEN)))?;
    ctx.exit
        .write(Slot::Agent, &record_of(&identity))
        .map_err(|e| Failure::from(e.source.raw_os_error().unwrap_or(BROKEN)))?;
    faults::step("launcher.agent_recorded");
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_count() {
        let text =
            "starting\npid=12\nselected_model=glm-5\nfallback_reason=-\nlaunch_mode=bg\nrc_file=/x\npid=9";
        let told = |text: &str| told(text, &Secrets::new([b"hunter-2-secret"]));
        let all = told(text);
        assert_eq!(
            (all.pid, all.selected_model.as_deref(), all.fallback_reason),
            (Some(12), Some("glm-5"), None)
        );
        assert_eq!(all.launch_mode.as_deref(), Some("bg"));
        assert_eq!(told("77\n").pid, Some(77));
        assert_eq!(told("77").pid, None);
        assert_eq!(told("pid=x\n").pid, None);
        let secret = told("launch_mode=x hunter-2-secret y\nselected_model=hunter-\u{1}2-secret\n");
        assert_eq!(secret.launch_mode.as_deref(), Some("x *************** y"));
        assert_eq!(secret.selected_model.as_deref(), Some("***************"));
    }
}
