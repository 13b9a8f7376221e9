//! A process of ours beside one that asks: when that is killed, it ends what was begun, and what the other could not end in
//! time. It is in a group of its own, so that what is meant for the other's group does not reach it.
//!
//! Called by: `dispatch`, `batch`, and the hidden entry. Must never: end anything while the other one lives.

use super::Member;
use super::open::{Sessions, is_session_left};
use crate::Engine;
use crate::error::EngineError;
use crate::settle::Programs;
use dx_jobdir::StateDir;
use dx_proc::{PidFd, poll};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// The hidden entry: `dx-runner __cleaner <state dir> <configuration or ->`.
pub const CLEANER: &str = "__cleaner";

/// What it is told at the end: nothing is left, or something is.
const DONE: &[u8] = b"done";
const LEFT: &[u8] = b"left";

/// The process; told with the value whether there is something to end.
pub(super) struct Cleaner {
    process: Option<Child>,
    state: StateDir,
}

impl Engine {
    /// The cleaner for a question to these. Without one, whoever asks next ends what is left.
    pub(super) fn cleaner(&self, members: &[Member]) -> Option<Cleaner> {
        let begins = |member: &Member| !matches!(member, Member::Openai { .. });
        if !members.iter().any(begins) {
            return None;
        }
        let state = self.state().ok()?;
        let config = self.settings.config.as_ref();
        let config =
            config.and_then(|path| std::path::absolute(path).ok()).map_or_else(|| "-".into(), OsString::from);
        let mut command = Command::new(Programs::find().ok()?.runner);
        // Nothing here that would have to be done between fork and exec: so it is started without copying this process.
        command.arg(CLEANER).arg(state.root()).arg(config).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Some(command.spawn().ok()?);
        Some(Cleaner { process, state })
    }

    /// The cleaner itself: waits for the end of its parent, and ends what is left unless it was told that nothing is.
    pub fn clean(&self) -> Result<(), EngineError> {
        // A working directory that is kept busy could not be removed or unmounted.
        let _stays = std::env::set_current_dir("/");
        let parent = rustix::process::getppid();
        let end = parent.and_then(|pid| PidFd::open(pid.as_raw_nonzero().get()).ok());
        let mut told = Vec::new();
        let heard = std::io::stdin().lock().read_to_end(&mut told);
        if heard.is_ok() && told == DONE {
            return Ok(());
        }
        // Its locks are given back when it has ended as a whole. One that has another parent now has ended.
        if let Some(end) = end.filter(|_| told.is_empty() && rustix::process::getppid() == parent) {
            poll::poll(&[end.as_fd()], None)?;
        }
        let state = self.state()?;
        self.sweep_questions(&state, Sessions::All);
        Ok(())
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let left = is_session_left(&self.state);
        // One that died has closed its end.
        let word = if left { LEFT } else { DONE };
        let _told = process.stdin.take().map(|mut stdin| stdin.write_all(word));
        // Nobody is to wait for it: not for a server that does not answer, and not for its end.
        std::thread::spawn(move || process.wait());
    }
}
