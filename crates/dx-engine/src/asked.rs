//! A short-lived program that is asked something, with a deadline: at the deadline it is ended with everything it began.
//!
//! Called wherever another program than git is asked. What it prints goes where the caller says. Must never: leave a
//! process that did not answer in time, or wait for children of one that did.

use dx_monitor::{MARKER, end_tree, sweep_marked};
use dx_proc::{Host, PidFd, clock, poll};
use dx_protocol::RunUuid;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// What is ended has this long for it.
const GRACE_MS: u64 = 500;

/// The program while it runs. Its tree is known by a mark in the environment as well: some of it may have left.
pub(crate) struct Asked {
    pub(crate) child: Child,
    mark: RunUuid,
}

impl Asked {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mark = uuid::Uuid::now_v7().to_string().parse().map_err(|_| io::Error::other("no mark"))?;
        Self::start_marked(command, mark)
    }

    /// With a mark that somebody else knows as well.
    pub(crate) fn start_marked(command: &mut Command, mark: RunUuid) -> io::Result<Self> {
        Ok(Self { child: command.env(MARKER, mark.as_str()).spawn()?, mark })
    }

    /// How it ended; `None` when it did not by the deadline, and was ended.
    pub(crate) fn wait(&mut self, deadline: Duration) -> io::Result<Option<ExitStatus>> {
        let exited = self.exits_within(deadline);
        match exited {
            Ok(true) => self.child.wait().map(Some),
            Ok(false) => {
                self.end();
                Ok(None)
            }
            Err(error) => {
                self.end();
                Err(io::Error::other(error))
            }
        }
    }

    fn exits_within(&self, deadline: Duration) -> Result<bool, dx_proc::Error> {
        let until = clock::monotonic_ms() + u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX / 2);
        let exit = self.exit()?;
        loop {
            if exit.is_exited()? {
                return Ok(true);
            }
            let left = until.saturating_sub(clock::monotonic_ms());
            if left == 0 {
                return Ok(false);
            }
            poll::poll(&[exit.as_fd()], Some(left))?;
        }
    }

    /// Is readable when it has ended.
    pub(crate) fn exit(&self) -> Result<PidFd, dx_proc::Error> {
        PidFd::open(self.child.id().cast_signed())
    }

    /// Ends it and all that it began, and reaps it.
    pub(crate) fn end(&mut self) {
        // As long as it is not reaped its number is its own.
        let pid = self.child.id().cast_signed();
        let roots: Vec<_> = Host::current().and_then(|host| host.identify(pid)).into_iter().collect();
        end_tree(&self.mark, &roots, GRACE_MS);
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Ends what it left after its own end.
    pub(crate) fn sweep(&self) {
        sweep_marked(&self.mark, GRACE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;

    #[test]
    fn one_that_does_not_answer_is_ended_with_all_that_it_began() {
        let tmp = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; setsid sleep 971.25 & echo $! > a; sleep 972.25 & echo $! > b; \
                      echo $$ > c; mv c pid; sleep 973.25";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(tmp.path()).process_group(0).stdin(Stdio::null());
        let mut asked = Asked::start(&mut command).unwrap();
        while !tmp.path().join("pid").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(asked.wait(Duration::from_millis(1)).unwrap().is_none());
        for name in ["a", "b", "pid"] {
            let pid = std::fs::read_to_string(tmp.path().join(name)).unwrap();
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            assert!(state.is_empty() || state.contains(") Z "), "{name}: {state}");
        }
        let mut soon = Asked::start(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(soon.wait(Duration::from_mins(1)).unwrap().unwrap().code(), Some(3));
    }
}
