//! Forking and starting: held agents, detached programs, descriptors at their numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use common::{PidGuard, alone, env, eventually, words};
use dx_proc::{
    AgentCommand, Error, ExitStatus, ForkResult, Liveness, fork_held, fork_here, spawn_detached, wait,
};

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn command(argv: &[&str], cwd: &Path) -> (AgentCommand, File) {
    let out = tempfile::tempfile().unwrap();
    let copy = out.try_clone().unwrap().into();
    let cmd = AgentCommand {
        argv: words(argv),
        env: env(),
        cwd: cwd.into(),
        umask: None,
        stdin: null(),
        stdout: copy,
        stderr: null(),
        terminal: false,
        sandbox: None,
    };
    (cmd, out)
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn exit_of(pid: i32) -> ExitStatus {
    let mut status = None;
    eventually("exit", || {
        status = wait::peek_exit(pid).unwrap();
        status.is_some()
    });
    wait::reap(pid).unwrap();
    status.unwrap()
}

#[test]
fn a_released_agent_has_exactly_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let script = "env | sort; pwd; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f5,6 /proc/self/stat; echo $$; \
                  grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let (cmd, mut out) = command(&["sh", "-c", script], dir.path());
    let _open = File::open("/etc/passwd").unwrap();
    let held = fork_held(cmd).unwrap();
    let (pid, identity) = (held.pid(), held.identity().clone());
    let _guard = PidGuard(pid);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(text(&mut out), "", "nothing runs before the release");
    assert_eq!(identity.liveness(), Liveness::Alive);
    assert_eq!(held.release().unwrap().confirm().unwrap(), Ok(()));
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    let seen = text(&mut out);
    assert!(seen.contains("ONLY=this\n"), "{seen}");
    assert!(!seen.contains("HOME=") && !seen.contains("CARGO"), "{seen}");
    assert!(seen.contains(dir.path().to_str().unwrap()), "{seen}");
    // One line: the descriptors (its three and the listing's own), then its group and session.
    assert!(
        seen.contains(&format!("\n0 1 2 3 {pid} {pid}\n{pid}\n")),
        "only its three descriptors, and leader of its session: {seen}"
    );
    assert!(seen.contains("SigBlk:\t0000000000000000"), "{seen}");
    assert!(seen.contains("SigIgn:\t0000000000000000"), "{seen}");
}

#[test]
fn a_held_child_that_is_dropped_exits_without_exec() {
    let dir = tempfile::tempdir().unwrap();
    let (cmd, mut out) = command(&["echo", "started"], dir.path());
    let held = fork_held(cmd).unwrap();
    let pid = held.pid();
    let _guard = PidGuard(pid);
    drop(held);
    assert_eq!(exit_of(pid), ExitStatus::Exited(127));
    assert_eq!(text(&mut out), "");
}

#[test]
fn held_children_do_not_hold_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let first = fork_held(command(&["echo", "1"], dir.path()).0).unwrap();
    let second = fork_held(command(&["echo", "2"], dir.path()).0).unwrap();
    let (one, two) = (PidGuard(first.pid()), PidGuard(second.pid()));
    drop(first);
    assert_eq!(exit_of(one.0), ExitStatus::Exited(127));
    drop(second);
    assert_eq!(exit_of(two.0), ExitStatus::Exited(127));
}

#[test]
fn a_held_child_whose_parent_is_killed_exits_without_exec() {
    alone(
        "a_held_child_whose_parent_is_killed_exits_without_exec",
        a_held_child_whose_parent_is_killed_exits_without_exec_body,
    );
}

fn a_held_child_whose_parent_is_killed_exits_without_exec_body() {
    dx_proc::subreaper::become_subreaper().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    if fork_here().unwrap() == ForkResult::Child {
        let held = fork_held(command(&["touch", "started"], dir.path()).0).unwrap();
        std::fs::write(&file, held.pid().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let mut agent = 0;
    eventually("agent forked", || {
        agent = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        agent != 0
    });
    let launcher = dx_proc::tree::children(std::process::id() as i32)[0];
    drop(PidGuard(launcher));
    eventually("orphan adopted", || wait::peek_exit(agent).is_ok());
    assert_eq!(exit_of(agent), ExitStatus::Exited(127));
    assert!(!dir.path().join("started").exists());
}

#[test]
fn a_missing_program_fails_before_the_fork() {
    let dir = tempfile::tempdir().unwrap();
    for program in ["no-such-program", "./no-such", "/no/such/program", ""] {
        let error = fork_held(command(&[program], dir.path()).0).unwrap_err();
        assert!(matches!(error, Error::ProgramNotFound { .. }), "{program}");
        assert_eq!(error.errno(), Some(libc::ENOENT), "{program}");
    }
    assert!(matches!(fork_held(command(&[], dir.path()).0), Err(Error::EmptyArgv)));
    assert!(matches!(fork_held(command(&["sh", "a\0b"], dir.path()).0), Err(Error::NulByte { .. })));
}

#[test]
fn failures_after_the_release_give_their_errno() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let held = fork_held(command(&["./plain"], dir.path()).0).unwrap();
    let pid = held.pid();
    assert_eq!(held.release().unwrap().confirm().unwrap(), Err(libc::EACCES));
    assert_eq!(exit_of(pid), ExitStatus::Exited(127));
    // In PATH only as a file that may not be run.
    let (mut cmd, _out) = command(&["plain"], Path::new("/"));
    cmd.env = vec![("PATH".into(), dir.path().into())];
    assert_eq!(fork_held(cmd).unwrap_err().errno(), Some(libc::EACCES));
    // The working directory is gone: the child has failed before the release.
    let held = fork_held(command(&["echo"], &dir.path().join("gone")).0).unwrap();
    let pid = held.pid();
    eventually("exit", || wait::peek_exit(pid).unwrap().is_some());
    assert_eq!(held.release().unwrap().confirm().unwrap(), Err(libc::ENOENT));
    assert_eq!(exit_of(pid), ExitStatus::Exited(127));
}

#[test]
fn a_held_child_that_was_killed_shows_by_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let held = fork_held(command(&["echo"], dir.path()).0).unwrap();
    let pid = held.pid();
    assert_eq!(dx_proc::tree::signal_all(&[held.identity().clone()], libc::SIGKILL), 1);
    eventually("exit", || wait::peek_exit(pid).unwrap().is_some());
    assert_eq!(held.release().unwrap().confirm().unwrap(), Ok(()));
    assert_eq!(exit_of(pid), ExitStatus::Signaled(libc::SIGKILL));
}

fn named(content: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn descriptors_are_placed_though_their_numbers_overlap() {
    let (a, b, mut out) = (named("a"), named("b"), named(""));
    let [na, nb, nout] = [a.as_raw_fd(), b.as_raw_fd(), out.as_raw_fd()];
    assert!(na.max(nb).max(nout) < 200);
    // a and b change places, the output goes to 1 and to a third number, b also to 0.
    let fds = [(a.as_fd(), nb), (b.as_fd(), na), (out.as_fd(), 1), (b.as_fd(), 203), (out.as_fd(), 200)];
    let script =
        format!("cat /proc/self/fd/{nb} /proc/self/fd/{na} /proc/self/fd/203 ; ls /proc/$$/fd; true");
    let pid =
        spawn_detached(Path::new("/bin/bash"), None, &words(&["bash", "-c", &script]), &env(), &fds).unwrap();
    let _guard = PidGuard(pid);
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    let seen = text(&mut out);
    let (content, list) = seen.split_at(3);
    assert_eq!(content, "abb");
    let mut expected = vec![0, 1, 2, na, nb, 200, 203];
    expected.sort_unstable();
    let mut list: Vec<i32> = list.split_whitespace().map(|word| word.parse().unwrap()).collect();
    list.sort_unstable();
    assert_eq!(list, expected);
}

#[test]
fn unplaced_standard_descriptors_are_null() {
    let mut out = named("");
    let script = "x=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo \"$x\" >&5; pwd >&5; cut -d' ' -f6 /proc/$$/stat >&5; echo $$ >&5";
    let fds = [(out.as_fd(), 5)];
    let pid =
        spawn_detached(Path::new("/bin/sh"), None, &words(&["sh", "-c", script]), &env(), &fds).unwrap();
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    let here = std::env::current_dir().unwrap();
    let expected = format!("/dev/null\n/dev/null\n/dev/null\n{}\n{pid}\n{pid}\n", here.display());
    assert_eq!(text(&mut out), expected);
}

#[test]
fn an_open_program_runs_after_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    std::fs::copy("/bin/echo", &path).unwrap();
    let exe = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut out = named("");
    let argv = words(&["echo", "still here"]);
    let fds = [(out.as_fd(), 1)];
    let pid = spawn_detached(&path, Some(exe.as_fd()), &argv, &env(), &fds).unwrap();
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    assert_eq!(text(&mut out), "still here\n");
    let error = spawn_detached(&path, None, &argv, &env(), &[]).unwrap_err();
    assert!(matches!(&error, Error::Exec { program, .. } if *program == path));
    assert_eq!(error.errno(), Some(libc::ENOENT));
}

#[test]
fn closed_standard_descriptors_of_the_caller_do_not_matter() {
    alone("closed_standard_descriptors_of_the_caller_do_not_matter", closed_body);
}

fn closed_body() {
    let dir = tempfile::tempdir().unwrap();
    // Channel and sources get the numbers 0 to 2 now.
    for fd in 0..3 {
        // SAFETY: nothing in this process uses them through an owner.
        #[allow(unsafe_code)]
        unsafe {
            libc::close(fd)
        };
    }
    let mut out = named("");
    assert!(out.as_raw_fd() < 3);
    let fds = [(out.as_fd(), 1)];
    let pid = spawn_detached(Path::new("/bin/echo"), None, &words(&["echo", "one"]), &env(), &fds).unwrap();
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    assert_eq!(text(&mut out), "one\n");
    let (cmd, mut agent_out) = command(&["echo", "two"], dir.path());
    let held = fork_held(cmd).unwrap();
    let pid = held.pid();
    assert_eq!(held.release().unwrap().confirm().unwrap(), Ok(()));
    assert_eq!(exit_of(pid), ExitStatus::Exited(0));
    assert_eq!(text(&mut agent_out), "two\n");
}

#[test]
fn bad_numbers_are_refused() {
    let out = named("");
    for fds in [vec![(out.as_fd(), -1)], vec![(out.as_fd(), 4), (out.as_fd(), 4)]] {
        let error =
            spawn_detached(Path::new("/bin/true"), None, &words(&["true"]), &env(), &fds).unwrap_err();
        assert!(matches!(error, Error::BadTarget { .. }));
    }
}

#[test]
fn a_process_with_threads_is_not_forked() {
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || receive.recv().is_ok());
        assert!(matches!(fork_here(), Err(Error::NotSingleThreaded { .. })));
        drop(send);
    });
}
