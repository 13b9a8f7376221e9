//! The command of `--check`: run in the worktree after the agent and the other steps, watched by the monitor itself, because
//! it may take long and must be gone at its deadline, when the run is stopped, and when nobody watches it any more.
//!
//! Its output goes through a pipe into a file of the run, which is bounded that way; the file outlives the run. A monitor
//! that died here is replaced, and the next one ends what is left of the command and runs it again: its verdict is
//! journalled once. Must never: leave a process of the command behind.

use super::{FAST_TICK_MS, Monitor, TICK_MS};
use crate::args::{ALLOCATOR_SETTINGS, MARKER};
use crate::context::Context;
use crate::partner::{self, Partner};
use crate::supervise::ending::wish;
use crate::{end, members};
use dx_events::mask::{MaskStream, Secrets};
use dx_jobdir::{DiskFile, disk, faults};
use dx_proc::sandbox::{DEVICES, Domain, Rules};
use dx_proc::{AgentCommand, ExitStatus, PidFd, ProcessIdentity, Released, clock, tree, wait};
use dx_protocol::{Event, GATE_CHECK, GateReport, ReasonCode, Settled};
use rustix::fs::{Mode, OFlags};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Not looked for on a PATH: the worktree is an agent's to write in.
const SHELL: &str = "/bin/sh";
/// What a shell exits with when it cannot run or find the command.
const NOT_RUNNABLE: [i32; 2] = [126, 127];
/// What the step of a check that verifies sign-offs exits with when one is not true.
const EVIDENCE_FAILED: i32 = 30;
/// Of the output the beginning is kept, and the end.
const HEAD_BYTES: usize = 1 << 20;
const TAIL_BYTES: usize = 64 << 10;
/// What the command leaves behind has at most this long to end by itself.
const STRAY_GRACE_MS: u64 = 2_000;
/// How long KILL is waited for.
const KILL_PATIENCE_MS: u64 = 10_000;

/// Why we end the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Deadline,
    Request,
}

struct Running {
    pid: i32,
    pidfd: PidFd,
    /// `None` once all writers have gone.
    pipe: Option<File>,
    output: Output,
}

impl Monitor {
    /// Runs the command when it is its turn, and journals the verdict.
    pub(super) fn check(&mut self) {
        if !dx_core::check_is_due(&self.ctx.run) {
            return;
        }
        self.end_leftovers();
        let Some(command) = self.ctx.run.created.spec.gates.check.clone() else { return };
        let report = if let Some(ending) = wish(&self.ctx) {
            self.ctx.record(Event::Ending(ending));
            GateReport::new(false, ReasonCode::CheckInterrupted, "it was not begun")
        } else {
            match start(&self.ctx, &command) {
                Ok(running) => self.watch_check(running),
                Err(why) => GateReport::new(false, ReasonCode::CheckInfra, why),
            }
        };
        faults::step("check.ended");
        self.ctx.record(Event::Settled(Settled::Gate { name: GATE_CHECK.to_owned(), report }));
    }

    /// Until nothing of it is left.
    fn watch_check(&mut self, mut running: Running) -> GateReport {
        faults::step("check.started");
        let limits = self.ctx.run.created.spec.limits.clone();
        let deadline = self.ctx.clock.now().saturating_add(limits.check_sec.saturating_mul(1000));
        let mut status = None;
        let mut cut = None;
        let mut kill_at: Option<u64> = None;
        loop {
            let _drained = self.signals.drain();
            self.keep_partner();
            running.drain();
            let now = self.ctx.clock.now();
            if status.is_none() {
                status = wait::peek_exit(running.pid).ok().flatten();
            }
            let _reaped = dx_proc::reap_zombies(status.is_none().then_some(running.pid));
            if status.is_some() {
                let left = self.check_members();
                if left.is_empty() || kill_at.is_some_and(|at| now > at + KILL_PATIENCE_MS) {
                    break;
                }
                if kill_at.is_none() {
                    kill_at = Some(now + limits.grace_ms.min(STRAY_GRACE_MS));
                    end::term(&left);
                }
            } else if cut.is_none() {
                if let Some(ending) = wish(&self.ctx) {
                    cut = Some(Cut::Request);
                    kill_at = Some(now + ending.grace_ms);
                    // The decision is on record before the first signal.
                    self.ctx.record(Event::Ending(ending));
                    end::term(&self.check_members());
                } else if now >= deadline {
                    cut = Some(Cut::Deadline);
                    kill_at = Some(now + limits.grace_ms);
                    end::term(&self.check_members());
                }
            }
            if kill_at.is_some_and(|at| now >= at) {
                end::kill(&self.check_members());
            }
            let tick =
                if kill_at.is_some() { FAST_TICK_MS } else { TICK_MS.min(deadline.saturating_sub(now)) };
            self.wait_for_check(&running, status.is_some(), tick);
        }
        running.drain();
        running.output.finish();
        let path = self.ctx.paths.check_log().display().to_string();
        let evidence = !self.ctx.run.created.spec.gates.signoffs.is_empty();
        let report = verdict(status, cut, limits.check_sec, &path);
        if evidence && status == Some(ExitStatus::Exited(EVIDENCE_FAILED)) && cut.is_none() {
            let details = format!("a claim is not verified; which one is in {path}");
            return GateReport::new(false, ReasonCode::UnverifiedClaims, details);
        }
        report
    }

    fn wait_for_check(&self, running: &Running, ended: bool, timeout: u64) {
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(running.pipe.as_ref().map(AsFd::as_fd));
        if !ended {
            fds.push(running.pidfd.as_fd());
        }
        if let Some(partner) = self.partner.as_ref().filter(|partner| !partner.is_gone()) {
            fds.push(partner.fd());
        }
        let _woken = dx_proc::poll::poll(&fds, Some(timeout));
    }

    /// Somebody must be there to replace this monitor for as long as the command takes.
    fn keep_partner(&mut self) {
        let now = self.ctx.clock.now();
        if self.partner.as_ref().is_some_and(|partner| !partner.is_gone()) || now < self.guard_after {
            return;
        }
        self.partner = partner::fork_guard(&mut self.ctx, None);
        self.guard_after = now + TICK_MS;
    }

    /// The command's processes: our children, what carries the run's mark, and all below both.
    fn check_members(&self) -> Vec<ProcessIdentity> {
        let partner = self.partner.as_ref().map(|partner: &Partner| partner.identity.pid);
        let mut except = vec![rustix::process::getpid().as_raw_nonzero().get()];
        except.extend(partner);
        let mut roots = members::own_children(partner);
        roots.extend(tree::marked(MARKER, self.ctx.uuid.as_str()));
        roots.retain(|pid| !except.contains(pid));
        end::members_of(&self.ctx.uuid, &roots, &except)
    }

    /// Ends what is left of a command whose monitor died.
    fn end_leftovers(&self) {
        let began = clock::monotonic_ms();
        let grace = self.ctx.run.created.spec.limits.grace_ms.min(STRAY_GRACE_MS);
        end::term(&self.check_members());
        loop {
            let _reaped = dx_proc::reap_zombies(None);
            let left = self.check_members();
            let waited = clock::monotonic_ms().saturating_sub(began);
            if left.is_empty() || waited > grace + KILL_PATIENCE_MS {
                return;
            }
            if waited >= grace {
                end::kill(&left);
            }
            std::thread::sleep(std::time::Duration::from_millis(FAST_TICK_MS));
        }
    }
}

fn verdict(status: Option<ExitStatus>, cut: Option<Cut>, check_sec: u64, path: &str) -> GateReport {
    let (reason, what) = match (cut, status) {
        (Some(Cut::Request), _) => (ReasonCode::CheckInterrupted, "it was ended".to_owned()),
        (Some(Cut::Deadline), _) => {
            (ReasonCode::CheckTimeout, format!("it was ended after {check_sec} seconds"))
        }
        (None, Some(ExitStatus::Exited(0))) => (ReasonCode::CheckOk, "exit code 0".to_owned()),
        (None, Some(ExitStatus::Exited(code))) if NOT_RUNNABLE.contains(&code) => {
            (ReasonCode::CheckInfra, format!("exit code {code}: the shell could not run a command"))
        }
        (None, Some(ExitStatus::Exited(code))) => (ReasonCode::CheckFailed, format!("exit code {code}")),
        // Nobody's tests do this; the kernel does when memory is short.
        (None, Some(ExitStatus::Signaled(9))) => (ReasonCode::CheckInfra, "it was killed".to_owned()),
        (None, Some(ExitStatus::Signaled(signal))) => {
            (ReasonCode::CheckFailed, format!("ended by signal {signal}"))
        }
        (None, None) => (ReasonCode::CheckInfra, "its end was not seen".to_owned()),
    };
    let report = GateReport::new(reason == ReasonCode::CheckOk, reason, format!("{what}; output in {path}"));
    let check_exit = match (cut, status) {
        (None, Some(ExitStatus::Exited(code))) => Some(code),
        _ => None,
    };
    GateReport { check_exit, ..report }
}

/// Starts the command with a clean environment of its own, the run's mark and TMPDIR among it.
fn start(ctx: &Context, command: &str) -> Result<Running, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let uuid = &ctx.run.created.ids.run_uuid;
    let tmp = ctx.state.tmp(uuid);
    disk::make_dir(&tmp).map_err(|e| failed("no folder for temporary files", &e))?;
    let output = Output::open(ctx).map_err(|e| failed("no file for the output", &e))?;
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|e| failed("no pipe", &e))?;
    rustix::io::ioctl_fionbio(&read, true).map_err(|e| failed("no pipe", &e))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let stdin = null.map_err(|e| failed("/dev/null", &e))?;
    let stderr = OwnedFd::try_clone(&write).map_err(|e| failed("no pipe", &e))?;
    let ours = |name: &OsString| name == ALLOCATOR_SETTINGS || name.as_encoded_bytes().starts_with(b"DX_");
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().filter(|(name, _)| !ours(name)).collect();
    let mut set = |name: &str, value: OsString| {
        env.retain(|(other, _)| other != name);
        env.push((name.into(), value));
    };
    for (name, value) in &ctx.run.created.spec.env_values {
        set(name, value.into());
    }
    set("TMPDIR", tmp.into_os_string());
    set("DX_RUNNER_BEADS_ID", ctx.run.created.ids.beads.as_str().into());
    set("DX_RUNNER_RUN_ID", uuid.as_str().into());
    set(MARKER, uuid.as_str().into());
    let held = dx_proc::fork_held(AgentCommand {
        argv: [SHELL, "-c", command].map(OsString::from).into(),
        env,
        cwd: ctx.run.created.contract.cwd.clone().into(),
        umask: ctx.run.created.contract.umask,
        stdin,
        stdout: write,
        stderr,
        terminal: false,
        sandbox: sandbox(ctx).map_err(|e| failed("its sandbox cannot be made", &e))?,
    })
    .map_err(|e| failed("it could not be started", &e))?;
    let pid = held.pid();
    let pidfd = PidFd::open(pid).map_err(|e| failed("it could not be watched", &e))?;
    match held.release().and_then(Released::confirm) {
        Ok(Ok(())) => {}
        Ok(Err(errno)) => {
            let error = std::io::Error::from_raw_os_error(errno);
            return Err(failed("it could not be started in the worktree", &error));
        }
        Err(error) => return Err(failed("it could not be started", &error)),
    }
    Ok(Running { pid, pidfd, pipe: Some(read.into()), output })
}

/// What the agent was confined to, made again from the record; the run's folder for temporary files is there again. Lists
/// without a sandbox of the agent's are those of a job in a shared server, whose check runs here.
fn sandbox(ctx: &Context) -> Result<Option<Domain>, dx_proc::Error> {
    let record = &ctx.run.created.contract.sandbox;
    if record.writable.is_empty() {
        return Ok(None);
    }
    let paths = |list: &[String]| list.iter().map(PathBuf::from).collect();
    let devices = DEVICES.iter().filter_map(|device| Path::new(device).canonicalize().ok()).collect();
    let rules = Rules {
        trees: paths(&record.writable),
        devices,
        appended: Vec::new(),
        hidden: paths(&record.hidden),
    };
    Domain::new(&rules).map(Some)
}

impl Running {
    /// Takes what there is to read.
    fn drain(&mut self) {
        let mut buffer = [0; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.output.take(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// The kept part of the output.
struct Output {
    mask: MaskStream<Arc<Secrets>>,
    file: DiskFile,
    room: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Output {
    fn open(ctx: &Context) -> Result<Self, dx_jobdir::DiskError> {
        let path = ctx.paths.check_log();
        disk::remove(&path)?;
        let file = DiskFile::create_new(&path)?;
        Ok(Self {
            mask: ctx.secrets.ready().stream(),
            file,
            room: HEAD_BYTES,
            tail: VecDeque::new(),
            left_out: 0,
        })
    }

    /// What a full disk does not take is lost; the verdict does not depend on it.
    fn take(&mut self, bytes: &[u8]) {
        let mut masked = Vec::with_capacity(bytes.len());
        self.mask.feed(bytes, &mut |_, _| {}, &mut |piece| masked.extend_from_slice(piece));
        self.keep(&masked);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.room));
        if !head.is_empty() {
            self.room -= head.len();
            let _kept = self.file.append(head);
        }
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    fn finish(&mut self) {
        let mut masked = Vec::new();
        self.mask.finish(&mut |_, _| {}, &mut |piece| masked.extend_from_slice(piece));
        self.keep(&masked);
        if self.left_out > 0 {
            let line = format!("\n[dx-runner: {} bytes are left out here]\n", self.left_out);
            let _kept = self.file.append(line.as_bytes());
        }
        let _kept = self.file.append(self.tail.make_contiguous());
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_by_how_it_ended() {
        let rows = [
            (Some(ExitStatus::Exited(0)), None, ReasonCode::CheckOk),
            (Some(ExitStatus::Exited(1)), None, ReasonCode::CheckFailed),
            (Some(ExitStatus::Signaled(11)), None, ReasonCode::CheckFailed),
            (Some(ExitStatus::Signaled(9)), None, ReasonCode::CheckInfra),
            (Some(ExitStatus::Exited(127)), None, ReasonCode::CheckInfra),
            (None, None, ReasonCode::CheckInfra),
            (Some(ExitStatus::Exited(0)), Some(Cut::Deadline), ReasonCode::CheckTimeout),
            (Some(ExitStatus::Signaled(15)), Some(Cut::Deadline), ReasonCode::CheckTimeout),
            (Some(ExitStatus::Signaled(9)), Some(Cut::Request), ReasonCode::CheckInterrupted),
        ];
        for (status, cut, reason) in rows {
            let report = verdict(status, cut, 1, "/x");
            assert_eq!(report.reason_code, reason, "{status:?} {cut:?}");
            assert_eq!(report.passed, reason == ReasonCode::CheckOk);
            assert!(report.details.ends_with("output in /x"));
        }
    }
}
