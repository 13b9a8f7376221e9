//! Waiting for jobs so that Ctrl-C ends the waiting and not the jobs.
//!
//! Called by: `wait` and `start --wait`. Must never: stop a job.

use dx_protocol::{CheckDocument, ReasonCode};
use std::os::fd::AsFd;

use crate::context::Context;
use crate::error::CliError;
use dx_engine::{Engine, WaitRequest};

/// What the engine's `wait` says, or that the user had enough.
///
/// The engine waits in a thread of its own; this one sleeps on Ctrl-C and on a pipe that the thread closes when it is done.
pub(crate) fn wait(ctx: &Context, request: WaitRequest) -> Result<Vec<CheckDocument>, CliError> {
    let failed =
        |source| CliError::Io { what: "prepare to wait".to_owned(), reason: ReasonCode::Internal, source };
    let signals = dx_proc::SignalFd::new(&[rustix::process::Signal::INT.as_raw()])?;
    let (done, keep_open) = std::io::pipe().map_err(failed)?;
    let names: Vec<String> = request.jobs.iter().map(|job| job.beads.to_string()).collect();
    let settings = ctx.settings();
    let thread = std::thread::Builder::new().spawn(move || {
        let result = Engine::new(settings).wait(&request);
        drop(keep_open);
        result
    });
    let thread = thread.map_err(failed)?;
    loop {
        let ready = dx_proc::poll::poll(&[done.as_fd(), signals.as_fd()], None)?;
        if ready.first() == Some(&true) {
            let gone = |_| CliError::refused(ReasonCode::Internal, "the thread that waited has failed");
            return Ok(thread.join().map_err(gone)??);
        }
        if !signals.drain()?.is_empty() {
            return Err(interrupted(&names));
        }
    }
}

/// What a user is told who stops waiting.
fn interrupted(names: &[String]) -> CliError {
    let which = if names.len() == 1 { "the job goes on" } else { "the jobs go on" };
    let back = format!("dx-runner wait --beads {}", names.join(" "));
    CliError::refused_try(ReasonCode::Interrupted, format!("interrupted; {which}"), back)
}
