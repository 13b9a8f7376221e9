//! Calls that wait until they are let go: a test counts who is there at once, and no clock decides.
//!
//! Called by `route` for each call that plays a step, and by `ScriptedModel`. Must never: keep a call whose client has gone.

use std::io;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::wait;

/// Who waits looks this often.
const LOOK: Duration = Duration::from_millis(20);

/// How many calls may still pass; `None`: all.
#[derive(Debug, Default)]
pub(crate) struct Hold(Mutex<Option<usize>>);

impl Hold {
    /// From now on so many pass and the others wait.
    pub(crate) fn after(&self, passing: usize) {
        *self.lock() = Some(passing);
    }

    /// Lets all pass.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// Returns when the call may pass; an error means that its client has gone.
    pub(crate) fn pass(&self, stream: &mut TcpStream) -> io::Result<()> {
        while !self.try_to_pass() {
            wait(stream, Some(LOOK))?;
        }
        Ok(())
    }

    fn try_to_pass(&self) -> bool {
        let mut left = self.lock();
        match left.as_mut() {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
