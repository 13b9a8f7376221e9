//! Identity, process descriptors, waiting: real processes.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Guard, PidGuard, alone, eventually};
use dx_proc::{
    AnyChild, Error, ExitStatus, ForkResult, Host, Liveness, PidFd, ProcessIdentity, fork_here, wait,
};

#[test]
fn a_recycled_pid_is_never_alive_and_never_opened() {
    let child = Guard::sh("exec sleep 30");
    let identity = ProcessIdentity::of_pid(child.pid()).unwrap();
    assert_eq!(identity.liveness(), Liveness::Alive);
    assert!(PidFd::open_verified(&identity).unwrap().is_some());
    let older = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity.clone() };
    assert_eq!(older.liveness(), Liveness::Gone);
    assert!(PidFd::open_verified(&older).unwrap().is_none());
    assert_eq!(dx_proc::tree::signal_all(&[older], libc::SIGKILL), 0);
    let elsewhere = ProcessIdentity { pid_ns: identity.pid_ns + 1, ..identity.clone() };
    assert_eq!(elsewhere.liveness(), Liveness::Elsewhere);
    assert!(PidFd::open_verified(&elsewhere).unwrap().is_none());
    let rebooted = ProcessIdentity { boot_id: "other".into(), ..identity.clone() };
    assert_eq!(rebooted.liveness(), Liveness::Rebooted);
    assert!(PidFd::open_verified(&rebooted).unwrap().is_none());
    assert_eq!(identity.liveness(), Liveness::Alive, "none of the above has signalled it");
}

#[test]
fn a_zombie_is_told_from_the_living_and_the_gone() {
    let host = Host::current().unwrap();
    let mut child = Guard::sh("exit 3");
    let identity = host.identify(child.pid()).unwrap();
    eventually("zombie", || host.liveness(&identity) == Liveness::Zombie);
    let fd = PidFd::open_verified(&identity).unwrap().expect("a zombie is still there");
    assert!(fd.is_exited().unwrap());
    child.0.wait().unwrap();
    assert_eq!(host.liveness(&identity), Liveness::Gone);
    assert!(matches!(host.identify(child.pid()), Err(Error::NotFound { .. })));
    assert!(!fd.send_signal(libc::SIGTERM).unwrap());
}

#[test]
fn own_identity_and_impossible_pids() {
    let own = ProcessIdentity::of_self().unwrap();
    assert_eq!(own.liveness(), Liveness::Alive);
    assert_eq!(own.pid_ns, dx_proc::pid_namespace().unwrap());
    assert_eq!(own.boot_id.len(), 36);
    assert!(!dx_proc::hostname().is_empty());
    for pid in [0, -1, i32::MIN, i32::MAX] {
        assert!(matches!(ProcessIdentity::of_pid(pid), Err(Error::NotFound { .. })), "{pid}");
        assert!(matches!(PidFd::open(pid), Err(Error::NotFound { .. })), "{pid}");
        assert!(wait::peek_exit(pid).is_err() && wait::reap(pid).is_err(), "{pid}");
        assert_eq!(ProcessIdentity { pid, ..own.clone() }.liveness(), Liveness::Gone);
    }
}

#[test]
fn a_name_with_parentheses_does_not_confuse() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a) Z 1 (b");
    std::fs::copy("/bin/sleep", &odd).unwrap();
    let child = Guard::of(std::process::Command::new(&odd).arg("30"));
    let identity = ProcessIdentity::of_pid(child.pid()).unwrap();
    assert_eq!(identity.liveness(), Liveness::Alive);
    assert!(identity.start_ticks >= ProcessIdentity::of_self().unwrap().start_ticks);
}

#[test]
fn peeking_does_not_consume_the_status() {
    for (script, expected) in
        [("exit 7", ExitStatus::Exited(7)), ("kill -TERM $$; sleep 9", ExitStatus::Signaled(libc::SIGTERM))]
    {
        let child = Guard::sh(script);
        eventually("exit", || wait::peek_exit(child.pid()).unwrap().is_some());
        for _ in 0..3 {
            assert_eq!(wait::peek_exit(child.pid()).unwrap(), Some(expected));
        }
        wait::reap(child.pid()).unwrap();
        assert_eq!(wait::peek_exit(child.pid()).unwrap_err().errno(), Some(libc::ECHILD));
        assert_eq!(wait::reap(child.pid()).unwrap_err().errno(), Some(libc::ECHILD));
    }
    assert_eq!(ExitStatus::Signaled(9).shell_code(), 137);
}

#[test]
fn a_running_child_is_not_reaped() {
    let child = Guard::sh("exec sleep 30");
    assert_eq!(wait::peek_exit(child.pid()).unwrap(), None);
    assert!(matches!(wait::reap(child.pid()), Err(Error::NotExited { .. })));
}

#[test]
fn the_descriptor_gives_the_status_after_reaping() {
    for (script, expected) in [
        ("read x; exit 9", ExitStatus::Exited(9)),
        ("read x; kill -KILL $$", ExitStatus::Signaled(libc::SIGKILL)),
    ] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let fd = PidFd::open(child.id() as i32).unwrap();
        assert_eq!(fd.exit_info().unwrap(), None, "still running");
        assert!(!fd.is_exited().unwrap());
        drop(child.stdin.take());
        eventually("exit", || fd.is_exited().unwrap());
        assert_eq!(fd.exit_info().unwrap(), None, "not reaped");
        assert!(!fd.wait_reaped(Some(50)).unwrap());
        let waiter = std::thread::spawn(move || {
            let reaped = fd.wait_reaped(Some(10_000)).unwrap();
            (reaped, fd.exit_info().unwrap())
        });
        child.wait().unwrap();
        assert_eq!(waiter.join().unwrap(), (true, Some(expected)));
    }
}

/// A process whose main thread ended while another runs on is alive, and its status is that of `exit_group`.
#[test]
fn a_main_thread_that_ended_is_no_dead_process() {
    alone("a_main_thread_that_ended_is_no_dead_process", a_main_thread_that_ended_is_no_dead_process_body);
}

fn a_main_thread_that_ended_is_no_dead_process_body() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let ForkResult::Parent(pid) = fork_here().unwrap() else {
        drop(write);
        std::thread::spawn(move || {
            let _end = rustix::io::read(&read, &mut [0u8; 1]);
            // SAFETY: ends the whole process.
            unsafe { libc::_exit(5) };
        });
        // SAFETY: ends only this thread; nothing of it is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!()
    };
    let _guard = PidGuard(pid);
    let identity = ProcessIdentity::of_pid(pid).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    eventually("leader ended", || state().contains(") Z "));
    assert_eq!(identity.liveness(), Liveness::Alive);
    let fd = PidFd::open_verified(&identity).unwrap().unwrap();
    assert!(!fd.is_exited().unwrap());
    assert_eq!(wait::peek_exit(pid).unwrap(), None);
    drop(write);
    eventually("exit", || fd.is_exited().unwrap());
    assert_eq!(identity.liveness(), Liveness::Zombie);
    assert_eq!(wait::peek_exit(pid).unwrap(), Some(ExitStatus::Exited(5)));
    wait::reap(pid).unwrap();
    assert_eq!(
        fd.exit_info().unwrap(),
        Some(ExitStatus::Exited(5)),
        "of the process, not of its main thread"
    );
}

#[test]
fn every_child_seen_by_the_kernel() {
    alone("every_child_seen_by_the_kernel", every_child_seen_by_the_kernel_body);
}

fn every_child_seen_by_the_kernel_body() {
    assert_eq!(wait::peek_any_exit().unwrap(), AnyChild::NoChildren);
    let child = Guard::sh("read x; exit 4");
    eventually("exit", || matches!(wait::peek_any_exit().unwrap(), AnyChild::Exited(..)));
    assert_eq!(wait::peek_any_exit().unwrap(), AnyChild::Exited(child.pid(), ExitStatus::Exited(4)));
    let running = Guard::sh("exec sleep 30");
    wait::reap(child.pid()).unwrap();
    assert_eq!(wait::peek_any_exit().unwrap(), AnyChild::StillRunning);
    drop(running);
    assert_eq!(wait::peek_any_exit().unwrap(), AnyChild::NoChildren);
}
