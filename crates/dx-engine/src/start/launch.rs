//! From a claimed run to a running agent: the monitor, its launcher's word, and what to do when there is none.

use super::prepare::Prepared;
use crate::error::EngineError;
use crate::lookup;
use crate::settle::{self, Programs};
use dx_jobdir::{JournalWriter, RunPaths, StateDir, faults};
use dx_monitor::{Invocation, JOURNAL_FD, PLAN_FD, READY_FD, SETTLER_FD};
use dx_proc::clock;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long `start` waits for the word that the agent runs. A loaded machine may be slow; a dead monitor is noticed at
/// once, by its pipe.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// How often a monitor that was killed before it had a launcher is started lineage.
const MONITOR_TRIES: usize = 3;

/// Starts the monitor and waits for its launcher's word.
pub(super) fn launch(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    journal: &JournalWriter,
) -> Result<(), EngineError> {
    let programs = Programs::find()?;
    let plan = serde_json::to_vec(&prepared.plan).map_err(|e| EngineError::Argument(e.to_string()))?;
    for _ in 0..MONITOR_TRIES {
        let word = launch_once(state, prepared, journal, &programs, &plan)?;
        if !word.is_empty() {
            return Ok(());
        }
        // The pipe closed without a word: was there a launcher?
        let facts = dx_jobdir::exit_file::read_exit_file(&paths.exit());
        if facts.exec.is_some() {
            return Ok(());
        }
        if facts.launcher.is_some() {
            return wait_for_exec(paths);
        }
    }
    Err(EngineError::MonitorLost)
}

pub(super) fn launch_once(
    state: &StateDir,
    prepared: &Prepared,
    journal: &JournalWriter,
    programs: &Programs,
    plan: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| EngineError::Io { what: "make a pipe", source: e.into() })
    };
    let (ready_read, ready_write) = pipe()?;
    let (plan_read, plan_write) = pipe()?;
    let runner = programs.open_runner()?;
    let invocation = Invocation {
        adopt: false,
        run: prepared.created.ids.run_uuid.clone(),
        state_dir: state.root().to_owned(),
    };
    let fds = [
        (journal.as_fd(), JOURNAL_FD),
        (ready_write.as_fd(), READY_FD),
        (plan_read.as_fd(), PLAN_FD),
        (runner.as_fd(), SETTLER_FD),
    ];
    let pid = dx_proc::spawn_detached(
        &programs.monitor,
        None,
        &invocation.to_argv(),
        &settle::monitor_environment(),
        &fds,
    )?;
    faults::step("starter.spawned");
    drop((ready_write, plan_read, runner));
    // A monitor that died already closes its end: that shows in the word that does not come.
    let _sent = std::fs::File::from(plan_write).write_all(plan);
    let mut word = vec![0; 16];
    let woken = dx_proc::poll::poll(&[ready_read.as_fd()], Some(READY_PATIENCE.as_millis() as u64))?;
    // One read: the monitor holds the other end a little longer than its launcher.
    let read = if woken == [true] { std::fs::File::from(ready_read).read(&mut word).unwrap_or(0) } else { 0 };
    word.truncate(read);
    // Only if it is dead by now; a living monitor becomes init's child when we end.
    let _reaped = dx_proc::wait::reap(pid);
    Ok(word)
}

/// A launcher was there and its pipe closed: the monitor may be launching once more.
pub(super) fn wait_for_exec(paths: &RunPaths) -> Result<(), EngineError> {
    let began = clock::monotonic_ms();
    while clock::monotonic_ms() - began < 5_000 {
        if dx_jobdir::exit_file::read_exit_file(&paths.exit()).exec.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(EngineError::MonitorLost)
}

/// Reads from the record whether the agent runs.
pub(super) fn confirm(paths: &RunPaths) -> Result<i32, EngineError> {
    let facts = dx_jobdir::exit_file::read_exit_file(&paths.exit());
    match (facts.exec, facts.agent) {
        (Some(exec), _) if exec.errno != 0 => Err(EngineError::SpawnFailed {
            message: std::io::Error::from_raw_os_error(exec.errno).to_string(),
        }),
        (Some(_), Some(agent)) => Ok(agent.pid),
        _ => Err(EngineError::MonitorLost),
    }
}

/// A start that failed after its claim: when a monitor has it, the monitor ends it; otherwise it is settled here.
pub(super) fn give_up(state: &StateDir, paths: &RunPaths, journal: &JournalWriter) {
    let Ok(mut found) = lookup::read_run(state, &paths.journal(), true) else { return };
    if found.run.monitor.is_some() {
        // It writes the end itself; wait for it a moment, so that the record is there when the error is read.
        let began = clock::monotonic_ms();
        while clock::monotonic_ms() - began < 5_000 {
            match lookup::read_run(state, &paths.journal(), true) {
                Ok(now) if now.run.outcome.is_some() => {
                    let _removed = std::fs::remove_dir_all(state.tmp(&now.run.created.ids.run_uuid));
                    return;
                }
                Ok(now) if !crate::view::alive_ours(&now) => {
                    found = now;
                    break;
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    if !crate::view::alive_ours(&found) && found.exit.exec.as_ref().is_none_or(|e| e.errno != 0) {
        let _settled = settle::settle(state, journal, &mut found, false);
    }
}
