//! Each action of `fake-agent` does what its help says.
//!
//! For: trust in the tests that are built on it.

#![allow(clippy::expect_used, reason = "helpers of a test")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dx_testkit::{
    ENV_MARKER, TestEnv, assert_no_process, describe, is_running, processes_with_marker, read_pid,
    send_signal, wait_for_file, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const AGENT: &str = env!("CARGO_BIN_EXE_fake-agent");

fn agent(env: &TestEnv, actions: &[&str]) -> Command {
    let mut command = env.command(AGENT);
    command.args(actions);
    command
}

fn start(env: &TestEnv, actions: &[&str]) -> Child {
    agent(env, actions).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("fake-agent starts")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("a file")
}

/// Session id of a process: the fourth field after the name in `/proc/PID/stat`.
fn session(pid: i32) -> i32 {
    let stat = read(format!("/proc/{pid}/stat"));
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(3)?.parse().ok())
        .expect("a session")
}

/// The one process of `env` besides `known`. It may be in the middle of its exec, so this waits for it.
fn the_other(env: &TestEnv, known: i32) -> i32 {
    let mut found = Vec::new();
    wait_until(SOON, "there is one more process", || {
        found = processes_with_marker(ENV_MARKER, env.id());
        found.retain(|pid| *pid != known);
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{:?}", found.iter().map(|pid| describe(*pid)).collect::<Vec<_>>());
    found[0]
}

#[test]
fn prints_and_exits_as_told() {
    let env = TestEnv::new();
    let output = env.run_command(agent(
        &env,
        &["print:a:b", "stderr:oops", "partial-json:{\"a\":", "exit:7", "print:no"],
    ));
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "a:b\n{\"a\":", "oops\n"));
    assert_eq!(env.run_command(agent(&env, &["kill:9"])).code, -9);
    assert_eq!(env.run_command(agent(&env, &[])).code, 0);
}

#[test]
fn refuses_a_wrong_action_before_running_any() {
    let env = TestEnv::new();
    for wrong in ["nonsense", "print", "exit"] {
        let output = env.run_command(agent(&env, &["touch:ran", wrong])).assert_code(64);
        assert!(output.stderr.contains(wrong), "{output}");
    }
    assert!(!env.path("ran").exists());
    env.run_command(agent(&env, &["sleep:soon"])).assert_code(74);
}

#[test]
fn help_lists_every_action_and_version_is_printed() {
    let env = TestEnv::new();
    let help = env.run_command(agent(&env, &["--help"])).assert_code(0).stdout;
    for name in ["late-write:PATH:SECONDS", "flood-forever", "append-pid:PATH", "ignore-term"] {
        assert!(help.contains(name), "{help}");
    }
    assert!(env.run_command(agent(&env, &["--version"])).stdout.starts_with("fake-agent "));
}

#[test]
fn writes_files_relative_to_its_folder() {
    let env = TestEnv::new();
    let actions =
        ["write:sub/a.txt:x:y", "touch:t", "env:e", "argv:v", "pid:p", "append-pid:n", "append-pid:n"];
    env.run_command(agent(&env, &actions)).assert_code(0);
    assert_eq!(read(env.path("sub/a.txt")), "x:y");
    assert_eq!(read(env.path("t")), "");
    assert!(
        read(env.path("e")).contains(&format!("\n{ENV_MARKER}={}\n", env.id()))
            || read(env.path("e")).starts_with(ENV_MARKER)
    );
    assert!(read(env.path("v")).ends_with("append-pid:n\nappend-pid:n\n"));
    assert!(read_pid(env.path("p")) > 1);
    assert_eq!(read(env.path("n")).lines().count(), 2);
}

#[test]
fn copies_stdin() {
    let env = TestEnv::new();
    env.try_run(agent(&env, &["read-stdin:in"]), b"one\ntwo").expect("it ends").assert_code(0);
    assert_eq!(read(env.path("in")), "one\ntwo");
}

#[test]
fn floods_exactly_and_for_ever() {
    let env = TestEnv::new();
    let output = env.run_command(agent(&env, &["flood:200001"]));
    assert_eq!(output.stdout.len(), 200_001);
    assert!(output.stdout.lines().all(|line| line.len() < 80));
    let mut child =
        agent(&env, &["flood-forever"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(74), "a broken pipe is an error, not a signal");
}

#[test]
fn stdout_closes_while_it_runs_on() {
    let env = TestEnv::new();
    let mut child = agent(&env, &["print:a", "close-stdout", "print:b", "wait-file:go", "exit:3"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut text = String::new();
    let mut pipe = child.stdout.take().expect("piped");
    std::io::Read::read_to_string(&mut pipe, &mut text).expect("read to the end");
    assert_eq!(text, "a\n");
    assert!(child.try_wait().expect("asked").is_none(), "it is still running");
    fs::write(env.path("go"), "").expect("written");
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
}

#[test]
fn ignores_term_but_not_kill() {
    let env = TestEnv::new();
    let mut child = start(&env, &["ignore-term", "pid:p", "wait-file:go", "exit:5"]);
    wait_for_file(SOON, env.path("p"));
    assert!(send_signal(read_pid(env.path("p")), 15));
    fs::write(env.path("go"), "").expect("written");
    assert_eq!(child.wait().expect("it ends").code(), Some(5));
    let mut child = start(&env, &["touch:ready", "sleep:600"]);
    wait_for_file(SOON, env.path("ready"));
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
}

#[test]
fn burns_cpu_silently() {
    let env = TestEnv::new();
    let begin = Instant::now();
    let output = env.run_command(agent(&env, &["cpu:0.2"])).assert_code(0);
    assert!(begin.elapsed() >= Duration::from_millis(200) && output.stdout.is_empty());
}

#[test]
fn a_setsid_child_has_its_own_session_and_outlives_its_parent() {
    let env = TestEnv::new();
    let mut child = start(&env, &["spawn-setsid:600", "pid:p", "wait-file:go"]);
    wait_for_file(SOON, env.path("p"));
    let parent = read_pid(env.path("p"));
    let grandchild = the_other(&env, parent);
    assert_eq!(session(grandchild), grandchild);
    fs::write(env.path("go"), "").expect("written");
    assert!(child.wait().expect("it ends").success());
    assert!(is_running(grandchild));
}

#[test]
fn a_daemon_is_nobodys_child() {
    let env = TestEnv::new();
    let mut child = start(&env, &["double-fork:600", "pid:p", "sleep:600"]);
    wait_for_file(SOON, env.path("p"));
    let parent = read_pid(env.path("p"));
    let daemon = the_other(&env, parent);
    assert!(session(daemon) != session(parent) && session(daemon) != daemon);
    assert!(!describe(daemon).contains(&format!("parent {parent}:")), "{}", describe(daemon));
    child.kill().expect("killed");
    child.wait().expect("it ends");
    assert!(is_running(daemon));
}

#[test]
fn a_late_write_comes_after_the_agent_ended_unless_it_is_killed() {
    let env = TestEnv::new();
    env.run_command(agent(&env, &["late-write:late.txt:0.1"])).assert_code(0);
    wait_for_file(SOON, env.path("late.txt"));

    env.run_command(agent(&env, &["late-write:never.txt:600"])).assert_code(0);
    wait_until(SOON, "only the second daemon runs", || {
        processes_with_marker(ENV_MARKER, env.id()).len() == 1
    });
    assert_eq!(env.kill_leftovers().len(), 1);
    assert_no_process(ENV_MARKER, env.id());
    assert!(!env.path("never.txt").exists());
}
