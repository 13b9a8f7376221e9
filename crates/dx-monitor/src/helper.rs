//! Short-lived helpers: `dx-runner` itself, started for work that is too heavy for a monitor (git, gates, a full parse).
//! A helper prints one JSON line per fact; the monitor journals. It never writes the run's records itself.

use crate::args::SECRETS_FD;
use crate::context::Context;
use dx_proc::PidFd;
use dx_protocol::{Event, ProviderReport, Settled};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A helper's output is not read beyond this.
const MAX_OUTPUT: usize = 4 << 20;
/// How often a settler that failed is tried.
const SETTLE_TRIES: usize = 2;

/// A running helper.
pub(crate) struct Helper {
    pid: i32,
    pidfd: PidFd,
    output: File,
    text: Vec<u8>,
    pub(crate) started: u64,
    pub(crate) entry: &'static str,
    deadline: u64,
}

impl Helper {
    /// Starts `dx-runner <entry> <run> <state dir>`.
    pub(crate) fn start(ctx: &Context, entry: &'static str, deadline_ms: u64) -> Option<Self> {
        let exe = ctx.settler_exe.as_ref()?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        rustix::io::ioctl_fionbio(&read, true).ok()?;
        let argv: Vec<OsString> = vec![
            "dx-runner".into(),
            entry.into(),
            ctx.uuid.as_str().into(),
            ctx.state.root().as_os_str().to_owned(),
        ];
        let env: Vec<_> = std::env::vars_os().collect();
        let secrets = ctx.secrets.to_fd();
        let mut fds = vec![(write.as_fd(), 1)];
        fds.extend(secrets.as_ref().map(|secrets| (secrets.as_fd(), SECRETS_FD)));
        let pid =
            dx_proc::spawn_detached(Path::new("dx-runner"), Some(exe.as_fd()), &argv, &env, &fds).ok()?;
        drop::<OwnedFd>(write);
        let started = ctx.clock.now();
        let Ok(pidfd) = PidFd::open(pid) else {
            end_child(pid);
            return None;
        };
        Some(Self {
            pid,
            pidfd,
            output: read.into(),
            text: Vec::new(),
            started,
            entry,
            deadline: started + deadline_ms,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What it printed, once it has ended or was ended at its deadline; `None` while it runs.
    pub(crate) fn poll(&mut self, now: u64) -> Option<HelperEnd> {
        self.drain();
        let ended = self.pidfd.is_exited().unwrap_or(true);
        if !ended && now < self.deadline {
            return None;
        }
        if !ended {
            kill_session(self.pid);
            let _gone = dx_proc::poll::poll(&[self.pidfd.as_fd()], Some(1_000));
        }
        let ok =
            ended && matches!(dx_proc::wait::peek_exit(self.pid), Ok(Some(dx_proc::ExitStatus::Exited(0))));
        let _reaped = dx_proc::wait::reap(self.pid);
        self.drain();
        let lines = self.text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        Some(HelperEnd { ok, facts: lines })
    }

    /// Ends it at once.
    pub(crate) fn abandon(self) {
        kill_session(self.pid);
        let _gone = dx_proc::poll::poll(&[self.pidfd.as_fd()], Some(1_000));
        let _reaped = dx_proc::wait::reap(self.pid);
    }

    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(n) = self.output.read(&mut buffer) {
            if n == 0 {
                return;
            }
            if self.text.len() < MAX_OUTPUT {
                self.text.extend_from_slice(&buffer[..n]);
            }
        }
    }
}

/// Ends a child of ours and all it started in its own session, git for example. Safe while the child is not reaped.
fn kill_session(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _sent = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// Ends and reaps a child that cannot be watched.
pub(crate) fn end_child(pid: i32) {
    kill_session(pid);
    for _ in 0..100 {
        if dx_proc::wait::reap(pid).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// What a helper left.
pub(crate) struct HelperEnd {
    /// Ended by itself with 0.
    pub(crate) ok: bool,
    pub(crate) facts: Vec<Settled>,
}

/// Runs the settler to its end and journals what it tells, unless the journal has it all; a second try when it fails. When both fail, `seen`, what the
/// monitor itself took from the log, stands in for the provider's part, and the journal says so.
pub(crate) fn settle(ctx: &mut Context, seen: ProviderReport) {
    let run = &ctx.run;
    let has_work = run.created.tree.is_none() || run.work.is_some();
    if run.provider.is_some() && has_work && dx_core::gates_due(run).is_empty() {
        return;
    }
    let deadline_ms = ctx.run.created.spec.limits.settle_sec.saturating_mul(1000);
    for _ in 0..SETTLE_TRIES {
        let Some(mut helper) = Helper::start(ctx, "__settle", deadline_ms) else { break };
        let end = loop {
            if let Some(end) = helper.poll(ctx.clock.now()) {
                break end;
            }
            let _woken = dx_proc::poll::poll(&[helper.fd(), helper.output.as_fd()], Some(500));
        };
        for fact in end.facts {
            ctx.record(Event::Settled(fact));
        }
        if end.ok {
            return;
        }
    }
    let message = "the settler failed or did not end in time".to_owned();
    ctx.record(Event::Settled(Settled::Failed { message }));
    if ctx.run.provider.is_none() {
        ctx.record(Event::Settled(Settled::Provider(seen)));
    }
}
