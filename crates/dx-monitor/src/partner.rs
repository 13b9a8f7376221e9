//! The process beside the monitor that would replace it: the launcher at first, a guard when the launcher is gone.

use crate::context::Context;
use crate::guard;
use crate::identity::record_of;
use dx_proc::{ForkResult, PidFd, ProcessIdentity};
use dx_protocol::Event;
use std::os::fd::{AsFd, BorrowedFd};

pub(crate) struct Partner {
    pub(crate) identity: ProcessIdentity,
    pidfd: PidFd,
    /// Parent of the agent and subreaper of its tree.
    pub(crate) is_launcher: bool,
}

impl Partner {
    /// The partner with this identity; `None` when it is gone.
    pub(crate) fn open(identity: ProcessIdentity, is_launcher: bool) -> Option<Self> {
        let pidfd = PidFd::open_verified(&identity).ok().flatten()?;
        Some(Self { identity, pidfd, is_launcher })
    }

    /// The process that started this adopter, told by a pidfd of it. `None` when it is gone: our parent is another then.
    pub(crate) fn of_adopter(starter: PidFd, launcher: Option<&ProcessIdentity>) -> Option<Self> {
        let parent = rustix::process::getppid()?.as_raw_nonzero().get();
        let identity = ProcessIdentity::of_pid(parent).ok()?;
        // Asked last: as it lives now, it was our parent when that was asked.
        if starter.is_exited().unwrap_or(true) {
            return None;
        }
        let is_launcher = launcher == Some(&identity);
        Some(Self { identity, pidfd: starter, is_launcher })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.pidfd.is_exited().unwrap_or(false)
    }
}

/// Forks a guard and journals the loss of the partner before it. `None` when no guard could be made; the monitor goes on
/// alone then.
pub(crate) fn fork_guard(ctx: &mut Context, agent: Option<&PidFd>) -> Option<Partner> {
    let own = PidFd::open(rustix::process::getpid().as_raw_nonzero().get()).ok()?;
    match dx_proc::fork_here() {
        Ok(ForkResult::Child) => {
            guard::main(ctx, own, agent);
            leave()
        }
        Ok(ForkResult::Parent(pid)) => {
            let identity = ProcessIdentity::of_pid(pid).ok();
            ctx.record(Event::LauncherLost { guard: identity.as_ref().map(record_of) });
            Partner::open(identity?, false)
        }
        Err(_) => {
            ctx.record(Event::LauncherLost { guard: None });
            None
        }
    }
}

/// Ends a forked copy of the monitor without running anything of the original's.
#[allow(clippy::exit)]
pub(crate) fn leave() -> ! {
    std::process::exit(0)
}
