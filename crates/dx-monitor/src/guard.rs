//! Replacing a dead monitor; and the guard, the process beside a monitor whose launcher is gone.
//!
//! A guard is not the agent's parent. It holds a pidfd of the agent that was opened while the agent lived, so that the
//! next monitor can still learn the exit from the kernel.

use crate::args::{AGENT_FD, Invocation, JOURNAL_FD, PARTNER_FD, PTY_FD, SECRETS_FD, SETTLER_FD};
use crate::context::Context;
use dx_proc::{PidFd, SignalFd, clock};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Waits before the first, second, … replacement of a monitor that keeps dying.
const BACK_OFF_MS: [u64; 5] = [0, 100, 500, 2_000, 5_000];
/// A monitor that lived this long starts the count anew; longer than one that only waits for a refusing disk.
const STABLE_MS: u64 = 600_000;

/// The monitor as its partner sees it, and its replacements.
pub(crate) struct Replacement {
    pidfd: Option<PidFd>,
    child: Option<i32>,
    tries: usize,
    next_at: u64,
    born_at: u64,
}

impl Replacement {
    pub(crate) fn new(monitor: PidFd) -> Self {
        Self { pidfd: Some(monitor), child: None, tries: 0, next_at: 0, born_at: clock::monotonic_ms() }
    }

    /// A replacement that is a child of this process.
    pub(crate) fn child(&self) -> Option<i32> {
        self.child
    }

    /// Pid of the living replacement, 0 when it is not a child of ours.
    pub(crate) fn pid(&self) -> i32 {
        self.child.unwrap_or(0)
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Whether there is no monitor at the moment.
    pub(crate) fn is_gone(&mut self) -> bool {
        let gone = self.pidfd.as_ref().is_none_or(|fd| fd.is_exited().unwrap_or(false));
        if gone && self.pidfd.take().is_some() {
            let now = clock::monotonic_ms();
            if now.saturating_sub(self.born_at) > STABLE_MS {
                self.tries = 0;
            }
            self.next_at = now + BACK_OFF_MS.get(self.tries).copied().unwrap_or(0);
            if let Some(pid) = self.child.take() {
                let _reaped = dx_proc::wait::reap(pid);
            }
        }
        gone
    }

    /// All tries are used up and there is no monitor.
    pub(crate) fn is_lost(&self) -> bool {
        self.pidfd.is_none() && self.tries >= BACK_OFF_MS.len()
    }

    /// Milliseconds until the next try; `None` when none is due.
    pub(crate) fn retry_in_ms(&self) -> Option<u64> {
        (self.pidfd.is_none() && !self.is_lost()).then(|| self.next_at.saturating_sub(clock::monotonic_ms()))
    }

    /// Starts a replacement when its time has come. `false` when the tries are used up.
    pub(crate) fn replace(&mut self, ctx: &Context, agent: Option<&PidFd>) -> bool {
        if self.is_lost() {
            return false;
        }
        if clock::monotonic_ms() < self.next_at {
            return true;
        }
        self.tries += 1;
        self.born_at = clock::monotonic_ms();
        match spawn_adopter(ctx, agent) {
            Some((pid, pidfd)) => {
                self.child = Some(pid);
                self.pidfd = Some(pidfd);
            }
            None => self.next_at = self.born_at + BACK_OFF_MS.get(self.tries).copied().unwrap_or(0),
        }
        true
    }
}

/// One that cannot be watched is ended: nobody may start another beside it.
fn spawn_adopter(ctx: &Context, agent: Option<&PidFd>) -> Option<(i32, PidFd)> {
    let invocation =
        Invocation { adopt: true, run: ctx.uuid.clone(), state_dir: ctx.state.root().to_owned() };
    let env: Vec<_> = std::env::vars_os().collect();
    let mut fds = vec![(ctx.journal.as_fd(), JOURNAL_FD)];
    if let Some(settler) = &ctx.settler_exe {
        fds.push((settler.as_fd(), SETTLER_FD));
    }
    if let Some(agent) = agent {
        fds.push((agent.as_fd(), AGENT_FD));
    }
    if let Some(pty) = &ctx.pty {
        fds.push((pty.master(), PTY_FD));
    }
    let secrets = ctx.secrets.to_fd();
    if let Some(secrets) = &secrets {
        fds.push((secrets.as_fd(), SECRETS_FD));
    }
    let own = PidFd::open(rustix::process::getpid().as_raw_nonzero().get()).ok();
    if let Some(own) = &own {
        fds.push((own.as_fd(), PARTNER_FD));
    }
    let pid = dx_proc::spawn_detached(
        Path::new("dx-monitor"),
        Some(ctx.own_exe.as_fd()),
        &invocation.to_argv(),
        &env,
        &fds,
    )
    .ok()?;
    let pidfd = PidFd::open(pid).ok();
    if pidfd.is_none() {
        crate::helper::end_child(pid);
    }
    Some((pid, pidfd?))
}

/// Runs a guard until the run has ended or no monitor can be kept. Returns to the caller, which exits the process.
/// `monitor` was opened before the fork, so that the guard notices its death from its own first moment on.
pub(crate) fn main(ctx: &Context, monitor: PidFd, agent: Option<&PidFd>) {
    let _named = dx_proc::subreaper::set_name("dx-guard");
    let Ok(signals) = SignalFd::new(&[rustix::process::Signal::CHILD.as_raw()]) else { return };
    let mut monitor = Replacement::new(monitor);
    loop {
        if monitor.is_gone() && (ctx.is_finished_on_disk() || !monitor.replace(ctx, agent)) {
            return;
        }
        let timeout = monitor.retry_in_ms();
        let mut fds = vec![signals.as_fd()];
        if let Some(fd) = monitor.fd() {
            fds.push(fd);
        }
        let _woken = dx_proc::poll::poll(&fds, timeout);
        let _drained = signals.drain();
    }
}
