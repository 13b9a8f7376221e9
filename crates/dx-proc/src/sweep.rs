//! Clearing away exited children until the kernel says that there are none.
//!
//! Called by the subreapers at the end of a job and while it runs. Must never consume the status of the child whose
//! exit is not yet durable, and never block.

use crate::error::{Error, Result};
use crate::tree;
use crate::wait::{self, AnyChild};

/// Whether this process has children left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildrenState {
    /// `ECHILD`: none, running or exited. With a subreaper this proves that nothing of the job below it is left.
    None,
    /// At least one, perhaps only the one to keep.
    Some,
}

/// Reaps every exited child but `keep`, whose status stays to be read by [`wait::peek_exit`].
///
/// Fails with [`Error::PeekAnyExit`], [`Error::PeekExit`] or [`Error::Reap`].
pub fn reap_zombies(keep: Option<i32>) -> Result<ChildrenState> {
    loop {
        match wait::peek_any_exit()? {
            AnyChild::NoChildren => return Ok(ChildrenState::None),
            AnyChild::StillRunning => return Ok(ChildrenState::Some),
            AnyChild::Exited(pid, _) if Some(pid) == keep => {
                // The kernel shows this one again and again and hides those behind it: ask for each by name.
                reap_listed(pid)?;
                return Ok(ChildrenState::Some);
            }
            AnyChild::Exited(pid, _) => reap_if_there(pid)?,
        }
    }
}

fn reap_listed(keep: i32) -> Result<()> {
    for pid in tree::children(rustix::process::getpid().as_raw_nonzero().get()) {
        if pid != keep {
            reap_if_there(pid)?;
        }
    }
    Ok(())
}

/// Another thread may have been faster; a child that runs stays.
fn reap_if_there(pid: i32) -> Result<()> {
    match wait::reap(pid) {
        Ok(()) | Err(Error::NotExited { .. }) => Ok(()),
        Err(error) if error.errno() == Some(libc::ECHILD) => Ok(()),
        Err(error) => Err(error),
    }
}
