//! Shared by the tests of this crate: deadlines, children that are always ended, and isolated helper processes.
#![allow(dead_code, unreachable_pub)]

use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Deadline of every wait.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `check` holds, or fails the test.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < end, "deadline: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that is killed and reaped when dropped.
pub struct Guard(pub Child);

impl Guard {
    pub fn sh(script: &str) -> Self {
        Self::of(Command::new("sh").args(["-c", script]))
    }
    pub fn of(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A child by pid (not of `Command`), killed and reaped when dropped.
pub struct PidGuard(pub i32);

impl Drop for PidGuard {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0)
            && dx_proc::wait::peek_exit(self.0).is_ok()
        {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            eventually("killed child exits", || dx_proc::wait::reap(self.0).is_ok());
        }
    }
}

/// Variable that tells a helper test that it runs alone in its own process.
pub const ALONE: &str = "DX_PROC_TEST_ALONE";

/// Runs `body` in a process of its own with a single thread, and fails the test when it fails there.
pub fn alone(test: &str, body: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return in_fork(body);
    }
    let mut child = Guard::of(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ALONE, "1"),
    );
    let mut status = None;
    eventually(test, || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{test} failed in its own process");
}

/// The test harness has a second thread; its forked child has not.
#[allow(unsafe_code)]
fn in_fork(body: fn()) {
    // SAFETY: the other thread only waits for this one; the child uses nothing that it could have locked.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: plain integers. Nobody outlives the deadline or the parent.
        unsafe {
            libc::alarm(DEADLINE.as_secs() as u32);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        let code = i32::from(std::panic::catch_unwind(body).is_err());
        // SAFETY: ends the copy without the harness's own report.
        unsafe { libc::_exit(code) };
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "wait status of the isolated process");
}

/// The environment that commands of the tests get.
pub fn env() -> Vec<(OsString, OsString)> {
    vec![("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())]
}

pub fn words(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}
