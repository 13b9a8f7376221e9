//! `start --notify`: a process of its own that follows one run and tells of its begin, its end and its mark.
//!
//! Called by `start`, and by the watchdog when it marks a run that has ended: whoever comes later takes up where the first one
//! came to. Must never keep a job waiting, or write its journal but as every command does that finds nobody with it.

use crate::error::{EngineError, told};
use crate::lookup;
use crate::notify::{PAUSES, Target, insist};
use crate::secrets::mask_text;
use crate::settle::{Programs, attend_dead};
use crate::view::View;
use dx_core::job_notices;
use dx_jobdir::{DiskFile, RunPaths, StateDir, disk, read_bounded, read_journal};
use dx_monitor::process_of;
use dx_proc::{Host, PidFd};
use dx_protocol::{Created, RunUuid};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

/// The hidden entry: `__tell <run> <state dir>`.
pub const TELL: &str = "__tell";
/// While a monitor lives its end is the event that counts.
const WATCHED_MS: u64 = 60_000;
/// Without one the record is looked at this often.
const TICK_MS: u64 = 1_000;
const MAX_NOTE: u64 = 64 << 10;

/// Has a run's changes told, when it was started with `--notify`; a word for the caller when they cannot be.
pub(crate) fn begin(state: &StateDir, created: &Created) -> Option<String> {
    created.spec.notify.as_ref()?;
    let spawn = || -> Result<(), EngineError> {
        let programs = Programs::find()?;
        let run = created.ids.run_uuid.as_str();
        let argv: Vec<OsString> = vec!["dx-runner".into(), TELL.into(), run.into(), state.root().into()];
        // The key of signatures is in it, and where commands are.
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        dx_proc::spawn_detached(&programs.runner, None, &argv, &env, &[])?;
        Ok(())
    };
    spawn().err().map(|error| format!("nobody is told by --notify: {}", told(&error)))
}

/// What could not be told of a run last.
pub(crate) fn failure(paths: &RunPaths) -> Option<String> {
    let bytes = read_bounded(&paths.notify_failure(), MAX_NOTE).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The process that tells; 0 when everything was tried.
pub fn tell(run: &str, state_dir: &Path) -> i32 {
    let Ok(run) = run.parse::<RunUuid>() else { return 1 };
    let state = StateDir::trusted(state_dir.to_owned());
    let paths = state.run(&run);
    match follow(&state, &paths) {
        Ok(()) => 0,
        Err(error) => {
            let _noted = note(&paths, &told(&error));
            1
        }
    }
}

fn note(paths: &RunPaths, why: &str) -> Result<(), dx_jobdir::DiskError> {
    disk::replace(&paths.notify_failure(), mask_text(&format!("{why}\n")).as_bytes())
}

fn follow(state: &StateDir, paths: &RunPaths) -> Result<(), EngineError> {
    let lock = DiskFile::open_append_or_create(&paths.notify_lock())?;
    lock.lock()?;
    let before = read_bounded(&paths.notified(), MAX_NOTE).unwrap_or_default();
    let mut done: u64 = String::from_utf8_lossy(&before).trim().parse().unwrap_or(0);
    let host = Host::current()?;
    loop {
        let records = read_journal(&paths.journal())?.records;
        let found = lookup::read_run(state, &paths.journal(), true)?;
        let Some(notify) = &found.run.created.spec.notify else { return Ok(()) };
        let mut news = job_notices(&records);
        news.retain(|notice| notice.number > done);
        for notice in news {
            let target = Target::of(&notify.target, Path::new(&notify.cwd));
            if let Err(why) =
                insist(&PAUSES, || false, || target.as_ref().map_err(Clone::clone)?.tell(&notice))
            {
                note(paths, &format!("notice {}: {why}", notice.number))?;
            }
            done = notice.number;
            disk::replace(&paths.notified(), format!("{done}\n").as_bytes())?;
        }
        // What was read before the telling may be old.
        let now = lookup::read_run(state, &paths.journal(), true)?;
        if now.run.outcome.is_some() {
            let all = read_journal(&paths.journal())?.records;
            if job_notices(&all).iter().all(|notice| notice.number <= done) {
                return Ok(());
            }
            continue;
        }
        let view = View::of(state, &host, &now);
        if view.ended() {
            attend_dead(state, &host, now)?;
            continue;
        }
        let monitor = now.run.monitor.as_ref();
        let alive = monitor.and_then(|m| PidFd::open_verified_on(&host, &process_of(m)).ok().flatten());
        let fds: Vec<_> =
            alive.iter().filter(|fd| !fd.is_exited().unwrap_or(true)).map(AsFd::as_fd).collect();
        let limit = if fds.is_empty() || done == 0 { TICK_MS } else { WATCHED_MS };
        let _woken = dx_proc::poll::poll(&fds, Some(limit))?;
    }
}
