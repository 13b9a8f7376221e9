//! From a claimed run to a running agent: the monitor, its launcher's word, and what to do when there is none.

use super::prepare::Prepared;
use crate::error::EngineError;
use crate::lookup;
use crate::settle::{self, Programs};
use dx_jobdir::{JournalWriter, RunPaths, StateDir, faults};
use dx_monitor::{Invocation, JOURNAL_FD, PLAN_FD, READY_FD, SETTLER_FD, end_tree, process_of};
use dx_proc::{PidFd, ProcessIdentity, clock};
use dx_protocol::RunUuid;
use rustix::process::Signal;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long `start` waits for the word that the agent runs. A loaded machine may be slow; a dead monitor is noticed at
/// once, by its pipe.
const READY_PATIENCE_MS: u64 = 60_000;
/// How long the pipe of a monitor that was killed for its silence has to close.
const CLOSE_PATIENCE_MS: u64 = 10_000;
/// How often a monitor that died before it had a launcher is started again.
const MONITOR_TRIES: usize = 3;
/// How long a failed start waits for processes of ours that still end.
const END_PATIENCE_MS: u64 = 5_000;

/// What came through the pipe of a monitor and its launcher.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Word,
    /// Neither of them holds it any more.
    Eof,
    /// Nothing; somebody holds it still.
    Silence,
}

/// The reading end of the pipe whose other end only the monitor and its launcher hold: while it is open, one of them may
/// be there. Empty before the first monitor.
#[derive(Debug, Default)]
pub(super) struct Ready(Option<File>);

impl Ready {
    fn hear(&self, patience_ms: u64) -> Heard {
        let Some(mut pipe) = self.0.as_ref() else { return Heard::Eof };
        if !dx_proc::poll::poll(&[pipe.as_fd()], Some(patience_ms)).is_ok_and(|woken| woken == [true]) {
            return Heard::Silence;
        }
        loop {
            match pipe.read(&mut [0; 16]) {
                Ok(0) => return Heard::Eof,
                Ok(_) => return Heard::Word,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::Silence,
            }
        }
    }

    /// Whether nobody holds the other end any more; a word that still stands in the pipe is passed over.
    fn is_closed(&self) -> bool {
        loop {
            match self.hear(0) {
                Heard::Eof => return true,
                Heard::Silence => return false,
                Heard::Word => {}
            }
        }
    }
}

/// A monitor that has begun and waits for its plan, without which it does nothing and ends. When no plan comes, that is when
/// this value goes or its process dies.
pub(super) struct Waiting {
    pid: i32,
    /// `None` once it was given.
    plan: Option<File>,
    ready: Option<File>,
}

impl Waiting {
    pub(super) fn begin(
        state: &StateDir,
        run: &RunUuid,
        journal: &JournalWriter,
        programs: &Programs,
    ) -> Result<Self, EngineError> {
        let pipe = || {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| EngineError::Io { what: "make a pipe", source: e.into() })
        };
        let (ready_read, ready_write) = pipe()?;
        let (plan_read, plan_write) = pipe()?;
        let runner = programs.open_runner()?;
        let invocation = Invocation { adopt: false, run: run.clone(), state_dir: state.root().to_owned() };
        let fds = [
            (journal.as_fd(), JOURNAL_FD),
            (ready_write.as_fd(), READY_FD),
            (plan_read.as_fd(), PLAN_FD),
            (runner.as_fd(), SETTLER_FD),
        ];
        let env = settle::monitor_environment();
        let spawned = dx_proc::spawn_detached(&programs.monitor, None, &invocation.to_argv(), &env, &fds);
        if let Err(dx_proc::Error::ReadStart { pid, .. }) = &spawned {
            // Whether it runs could not be read.
            kill_child(*pid);
        }
        Ok(Self { pid: spawned?, plan: Some(plan_write.into()), ready: Some(ready_read.into()) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.plan.take().is_some()
            && let Ok(child) = PidFd::open(self.pid)
        {
            let _sent = child.send_signal(Signal::KILL.as_raw());
            let _gone = dx_proc::poll::poll(&[child.as_fd()], Some(CLOSE_PATIENCE_MS));
            let _reaped = dx_proc::wait::reap(self.pid);
        }
    }
}

/// Gives the monitor its plan, or begins one, does what is to be done `meanwhile`, and waits for its launcher's word. `ready` tells afterwards whether one of
/// them may be left.
pub(super) fn launch(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    journal: &JournalWriter,
    mut waiting: Option<Waiting>,
    ready: &mut Ready,
    meanwhile: &mut dyn FnMut(),
) -> Result<(), EngineError> {
    let programs = Programs::find()?;
    let plan = serde_json::to_vec(&prepared.plan).map_err(|e| EngineError::Argument(e.to_string()))?;
    for _ in 0..MONITOR_TRIES {
        let monitor = match waiting.take() {
            Some(monitor) => monitor,
            None => Waiting::begin(state, &prepared.created.ids.run_uuid, journal, &programs)?,
        };
        match launch_once(monitor, &plan, ready, meanwhile) {
            Heard::Word => return Ok(()),
            Heard::Silence => {
                return Err(EngineError::StartSlow { beads: prepared.created.ids.beads.to_string() });
            }
            Heard::Eof => {}
        }
        // The pipe closed without a word: was there a launcher?
        let found = lookup::read_run(state, &paths.journal(), true)?;
        if found.exit.exec.is_some() {
            return Ok(());
        }
        if let Some((errno, message)) = found.run.spawn_error {
            return Err(EngineError::SpawnFailed { message: with_errno(message, errno) });
        }
        if found.run.outcome.is_some() {
            break;
        }
        if found.exit.launcher.is_some() {
            return wait_for_exec(paths);
        }
    }
    // Asked only now: it costs a process.
    if programs.monitor != programs.runner && !programs.monitor_is_ours() {
        return Err(EngineError::MonitorStale(programs.monitor));
    }
    Err(EngineError::MonitorLost)
}

fn with_errno(message: String, errno: i32) -> String {
    if errno == 0 { message } else { format!("{message}: {}", std::io::Error::from_raw_os_error(errno)) }
}

/// Gives one monitor its plan. One that says nothing is killed, so that there are never two; its launcher, when it has one
/// by then, still has a moment for its word.
fn launch_once(mut waiting: Waiting, plan: &[u8], ready: &mut Ready, meanwhile: &mut dyn FnMut()) -> Heard {
    *ready = Ready(waiting.ready.take());
    let pid = waiting.pid;
    faults::step("starter.spawned");
    // A monitor that died already closes its end: that shows in the word that does not come.
    let _sent = waiting.plan.take().map(|mut pipe| pipe.write_all(plan));
    faults::step("starter.planned");
    meanwhile();
    let mut heard = ready.hear(READY_PATIENCE_MS);
    if heard == Heard::Silence {
        kill_child(pid);
        heard = ready.hear(CLOSE_PATIENCE_MS);
    }
    // Only if it is dead by now; a living monitor becomes init's child when we end.
    let _reaped = dx_proc::wait::reap(pid);
    heard
}

/// Kills a child of ours that was not reaped yet, so the pid is its own.
fn kill_child(pid: i32) {
    let _sent = PidFd::open(pid).and_then(|child| child.send_signal(Signal::KILL.as_raw()));
}

/// A launcher was there, and it and the monitor are gone: an agent that it had released may have begun its program.
fn wait_for_exec(paths: &RunPaths) -> Result<(), EngineError> {
    let began = clock::monotonic_ms();
    while clock::monotonic_ms() - began < END_PATIENCE_MS {
        if dx_jobdir::exit_file::read_exit_file(&paths.exit()).exec.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(EngineError::MonitorLost)
}

/// Reads from the record whether the agent runs, whose program is `argv`'s first word.
pub(super) fn confirm(paths: &RunPaths, argv: &[String]) -> Result<i32, EngineError> {
    let facts = dx_jobdir::exit_file::read_exit_file(&paths.exit());
    match (facts.exec, facts.agent) {
        (Some(exec), _) if exec.errno != 0 => {
            // Without a message it is the exec that failed, and the system does not say of what.
            let program = argv.first().filter(|_| exec.message.is_none());
            let message = program.map_or_else(|| exec.why(), |program| format!("{program}: {}", exec.why()));
            Err(EngineError::SpawnFailed { message })
        }
        (Some(_), Some(agent)) => Ok(agent.pid),
        _ => Err(EngineError::MonitorLost),
    }
}

/// A start that failed after its claim: when a monitor has it, the monitor ends it; when none of ours is left, it is
/// settled here. While one of ours may be there and does not end, the record stays as it is.
pub(super) fn give_up(state: &StateDir, paths: &RunPaths, journal: &JournalWriter, ready: &Ready) {
    let began = clock::monotonic_ms();
    let mut found = loop {
        let Ok(found) = lookup::read_run(state, &paths.journal(), true) else { return };
        // The end is there when the error is read.
        if found.run.outcome.is_some() {
            return;
        }
        if ready.is_closed() && !crate::view::alive_ours(&found) {
            break found;
        }
        if clock::monotonic_ms() - began > END_PATIENCE_MS {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if found.exit.exec.as_ref().is_some_and(|exec| exec.errno == 0) {
        return;
    }
    if let Some(agent) = &found.exit.agent {
        // Its launcher was killed between its release and the record of it.
        let roots: [ProcessIdentity; 1] = [process_of(agent)];
        end_tree(&found.run.created.ids.run_uuid, &roots, found.run.created.spec.limits.grace_ms);
    }
    let _settled = settle::settle(state, journal, &mut found, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_an_end_and_silence_are_three_things() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let ready = Ready(Some(read.into()));
        assert_eq!(ready.hear(0), Heard::Silence);
        assert!(!ready.is_closed());
        let mut write = File::from(write);
        write.write_all(b"started\n").unwrap();
        assert_eq!(ready.hear(1_000), Heard::Word);
        assert_eq!(ready.hear(0), Heard::Silence);
        write.write_all(b"failed\n").unwrap();
        drop(write);
        assert!(ready.is_closed());
        assert_eq!(ready.hear(0), Heard::Eof);
        assert!(Ready::default().is_closed(), "there was no monitor");
    }
}
