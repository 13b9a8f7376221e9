//! Questions to models that Ctrl-C gives up: what was begun is stopped before the program ends.
//!
//! Called by: `dispatch`, `batch` and `bench`. Must never: end before what was asked has been stopped, unless it is asked twice.

use dx_proc::PidFd;
use dx_protocol::ReasonCode;
use rustix::process::Signal;
use std::os::fd::AsFd;

use crate::context::Context;
use crate::error::CliError;
use dx_engine::Cancel;

/// The variable with the pid of the process of ours that has this one ask: with it goes the question.
pub(crate) const ASKED_BY: &str = "DX_RUNNER_ASKED_BY";

/// What one does after a question was given up.
pub(crate) const AGAIN: &str = "ask again";

/// What became of the work.
pub(crate) enum Asked<T> {
    Done(T),
    /// It was cancelled, has stopped what it had begun, and may have come to something.
    GivenUp(T),
}

/// The error after work that was given up; `next` is what one does after that.
pub(crate) fn interrupted(next: impl Into<String>) -> CliError {
    CliError::refused_try(ReasonCode::Interrupted, "interrupted; what was asked has been stopped", next)
}

/// Runs `work` in a thread of its own; the first Ctrl-C, or the end of the process that has us ask, cancels it, a second one
/// ends the waiting. `next` is what one does after that.
pub(crate) fn cancellable<T: Send + 'static>(
    ctx: &Context,
    next: &'static str,
    work: impl FnOnce(&Context, &Cancel) -> T + Send + 'static,
) -> Result<T, CliError> {
    match asked(ctx, next, work)? {
        Asked::Done(result) => Ok(result),
        Asked::GivenUp(_) => Err(interrupted(next)),
    }
}

/// The same for work whose result counts also when it was given up.
pub(crate) fn asked<T: Send + 'static>(
    ctx: &Context,
    next: &'static str,
    work: impl FnOnce(&Context, &Cancel) -> T + Send + 'static,
) -> Result<Asked<T>, CliError> {
    let failed =
        |source| CliError::Io { what: "prepare to ask".to_owned(), reason: ReasonCode::Internal, source };
    // Blocked before any thread is there, so that all of them inherit it.
    let wanted = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
    let signals = dx_proc::SignalFd::new(&wanted)?;
    let (done, keep_open) = std::io::pipe().map_err(failed)?;
    let cancel = Cancel::new();
    let (ctx_there, theirs) = (ctx.again(), cancel.clone());
    let thread = std::thread::Builder::new().spawn(move || {
        let result = work(&ctx_there, &theirs);
        drop(keep_open);
        result
    });
    let thread = thread.map_err(failed)?;
    let mut asker = asker();
    loop {
        let fds = [Some(done.as_fd()), Some(signals.as_fd()), asker.as_ref().map(PidFd::as_fd)];
        let ready = dx_proc::poll::poll(&fds.into_iter().flatten().collect::<Vec<_>>(), None)?;
        if ready.first() == Some(&true) {
            let lost = |_| CliError::refused(ReasonCode::Internal, "the thread that asked has failed");
            let result = thread.join().map_err(lost)?;
            return Ok(if cancel.is_cancelled() { Asked::GivenUp(result) } else { Asked::Done(result) });
        }
        if ready.get(2) == Some(&true) {
            asker = None;
            cancel.cancel();
        }
        if !signals.drain()?.is_empty() {
            if cancel.is_cancelled() {
                let message = "interrupted twice; a session may be left on the server";
                return Err(CliError::refused_try(ReasonCode::Interrupted, message, next));
            }
            ctx.out.note("stopping what was asked");
            cancel.cancel();
        }
    }
}

/// Our parent, when it has us ask. What we start inherits the variable and is not meant.
fn asker() -> Option<PidFd> {
    let pid = std::env::var(ASKED_BY).ok()?.parse().ok()?;
    let asker = PidFd::open(pid).ok()?;
    // Asked last: as it is our parent now, it was when it was opened.
    (rustix::process::getppid()?.as_raw_nonzero().get() == pid).then_some(asker)
}
