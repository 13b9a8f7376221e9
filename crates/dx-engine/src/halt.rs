//! What ends work of a wave early: the flag for who looks, the pipe for who waits.
//!
//! Called by: waves, their worktrees and their units. Must never: be what tells why; that is in the wave's journal.

use crate::error::EngineError;
use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends work when its wave is cancelled. The flag is set before the pipe is closed on its other side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halt<'a> {
    pub(crate) wave: &'a str,
    pub(crate) flag: &'a AtomicBool,
    pub(crate) pipe: &'a PipeReader,
}

impl<'a> Halt<'a> {
    /// Whether the wave was cancelled.
    pub(crate) fn is_over(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// To be waited on.
    pub(crate) fn fd(&self) -> BorrowedFd<'a> {
        self.pipe.as_fd()
    }

    pub(crate) fn error(&self) -> EngineError {
        EngineError::WaveCancelled { wave: self.wave.to_owned() }
    }
}
