//! Starting the agent: held before its exec until its identity is in the exit file, so no agent ever runs unrecorded.

use crate::context::Context;
use crate::handover;
use crate::identity::record_of;
use crate::plan::Plan;
use dx_jobdir::{faults, views};
use dx_proc::sandbox::Domain;
use dx_proc::{AgentCommand, PidFd, Released};
use dx_protocol::{ExecRecord, Slot, Timestamp};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// errno told when the reason of a failed start has none.
const UNKNOWN_ERRNO: i32 = 5;

/// Starts the agent. `Some` when its program runs; otherwise the exit file tells why not.
#[inline(never)]
pub(crate) fn launch(ctx: &Context, plan: &Plan) -> Option<PidFd> {
    match start(ctx, plan) {
        Ok(pidfd) => Some(pidfd),
        Err(failure) => {
            exec_record(ctx, failure.errno, failure.message);
            None
        }
    }
}

/// Why there is no agent.
pub(crate) struct Failure {
    pub(crate) errno: i32,
    /// More than the errno says.
    pub(crate) message: Option<String>,
}

impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        Self { errno, message: None }
    }
}

fn exec_record(ctx: &Context, errno: i32, message: Option<String>) {
    let record = ExecRecord {
        errno,
        message,
        at: Timestamp(dx_proc::clock::now_ms()),
        mono_ms: dx_proc::clock::monotonic_ms(),
    };
    // Nothing better can be done here when the slot cannot be written: the monitor sees the process either way.
    let _written = ctx.exit.write(Slot::Exec, &record);
}

fn start(ctx: &Context, plan: &Plan) -> Result<PidFd, Failure> {
    let terminal = ctx.pty.as_ref().and_then(crate::pty::Pty::other);
    let appended = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW;
    let stdin = match (&terminal, plan.prompt_on_stdin) {
        (_, true) => open(&ctx.paths.prompt(), OFlags::RDONLY)?,
        (Some(terminal), false) => duplicate(terminal)?,
        (None, false) => open(Path::new("/dev/null"), OFlags::RDONLY)?,
    };
    let both_in_log = ctx.run.created.contract.grammar == dx_protocol::Grammar::Text;
    let (stdout, stderr) = if let Some(terminal) = &terminal {
        (duplicate(terminal)?, duplicate(terminal)?)
    } else {
        let err = if both_in_log { ctx.paths.log() } else { ctx.paths.err() };
        // What an adapter prints is for us; its job writes the log by name.
        let out = if plan.adapter { handover::file(ctx)? } else { open(&ctx.paths.log(), appended)? };
        (out, open(&err, appended)?)
    };
    let errno = |e: &dx_proc::Error| e.errno().unwrap_or(UNKNOWN_ERRNO);
    let sandbox = match plan.sandbox() {
        None => None,
        Some(mut rules) => {
            // It may open by name what it has open.
            let logs = [ctx.paths.log(), ctx.paths.err()];
            rules.appended.extend(logs.iter().filter_map(|path| path.canonicalize().ok()));
            Some(Domain::new(&rules).map_err(|e| errno(&e))?)
        }
    };
    let command = AgentCommand {
        argv: plan.argv(),
        env: plan.env(),
        cwd: ctx.run.created.contract.cwd.clone().into(),
        umask: ctx.run.created.contract.umask,
        stdin,
        stdout,
        stderr,
        terminal: terminal.is_some(),
        sandbox,
    };
    let held = dx_proc::fork_held(command).map_err(|e| errno(&e))?;
    if plan.adapter {
        let starter = held.pid();
        held.release().and_then(Released::confirm).map_err(|e| errno(&e))??;
        let job = handover::wait(ctx, starter)?;
        show(ctx, ctx.exit.read().agent.map_or(0, |agent| agent.pid));
        exec_record(ctx, 0, None);
        faults::step("launcher.exec_recorded");
        return Ok(job);
    }
    faults::step("launcher.agent_held");
    let pidfd = PidFd::open(held.pid()).map_err(|e| errno(&e))?;
    ctx.exit
        .write(Slot::Agent, &record_of(held.identity()))
        .map_err(|e| e.source.raw_os_error().unwrap_or(UNKNOWN_ERRNO))?;
    faults::step("launcher.agent_recorded");
    let agent = held.pid();
    let released = held.release().map_err(|e| errno(&e))?;
    // While its program begins. Should it not, the end takes them away.
    show(ctx, agent);
    released.confirm().map_err(|e| errno(&e))??;
    faults::step("launcher.agent_released");
    exec_record(ctx, 0, None);
    faults::step("launcher.exec_recorded");
    Ok(pidfd)
}

/// Publishes the process ids: whoever reads our word may look for them at once. The monitor does the same a moment later,
/// should this fail.
fn show(ctx: &Context, agent: i32) {
    if let Some(monitor) = &ctx.run.monitor {
        let _published = views::publish_pids(&ctx.state, &ctx.run.created.ids, monitor.pid, Some(agent));
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, i32> {
    fd.try_clone().map_err(|e| e.raw_os_error().unwrap_or(UNKNOWN_ERRNO))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, i32> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(rustix::io::Errno::raw_os_error)
}
