//! `TestEnv` keeps its promises: nothing gets in, nothing is left, nothing waits for ever.
//!
//! For: trust in the tests that are built on it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use dx_testkit::{
    ENV_MARKER, RunError, TestEnv, assert_no_process, fake_agent, processes_with_marker, wait_until,
};

#[test]
fn nothing_of_the_caller_gets_in() {
    let mut env = TestEnv::new();
    env.set("EXTRA", "1");
    let printed = env.run_command(env.command("env")).assert_code(0).stdout;
    let names: Vec<&str> = printed.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(!names.contains(&"CARGO_MANIFEST_DIR") && !names.contains(&"USER"), "{printed}");
    let root = env.root().to_string_lossy().into_owned();
    for name in
        ["HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "DX_RUNNER_STATE_DIR"]
    {
        assert!(printed.contains(&format!("{name}={root}/")), "{name} in {printed}");
    }
    assert!(printed.contains(&format!("PATH={root}/bin:/usr/local/bin:/usr/bin:/bin\n")), "{printed}");
    assert!(printed.contains("EXTRA=1\n"), "{printed}");
}

#[test]
fn a_command_past_its_deadline_is_killed_and_shown() {
    let env = TestEnv::new().deadline(Duration::from_millis(300));
    let mut command = env.command(fake_agent());
    command.args(["print:so far", "ignore-term", "sleep:600"]);
    let begin = Instant::now();
    match env.try_run(command, b"") {
        Err(error @ RunError::Deadline { .. }) => assert!(error.to_string().contains("so far"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_no_process(ENV_MARKER, env.id());
}

#[test]
fn output_held_open_by_a_child_is_an_error_that_names_the_child() {
    let env = TestEnv::new().deadline(Duration::from_millis(500));
    let mut command = env.command(fake_agent());
    command.args(["print:done", "spawn-setsid:601"]);
    match env.try_run(command, b"") {
        Err(RunError::OutputHeld { output, holders }) => {
            assert_eq!((output.code, output.stdout.as_str()), (0, "done\n"));
            assert!(holders.iter().any(|line| line.contains("sleep:601")), "{holders:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn dropping_kills_what_is_left_even_without_the_mark() {
    let env = TestEnv::new();
    let id = env.id().to_owned();
    let root = env.root().to_owned();
    let mut marked = env.command(fake_agent());
    env.run_command({
        marked.args(["double-fork:600"]);
        marked
    });
    let mut unmarked = env.command(fake_agent());
    unmarked.env_remove(ENV_MARKER).env("PROBE", &id).arg("sleep:600").stdin(Stdio::null());
    let mut unmarked = unmarked.spawn().expect("it starts");
    wait_until(Duration::from_secs(20), "both run", || {
        [(ENV_MARKER, &id), ("PROBE", &id)]
            .iter()
            .all(|(name, id)| processes_with_marker(name, id).len() == 1)
    });
    drop(env);
    assert_no_process(ENV_MARKER, &id);
    assert_no_process("PROBE", &id);
    assert!(!unmarked.wait().expect("it ended").success());
    assert!(!root.exists());
}

#[test]
fn two_environments_do_not_see_each_other() {
    let (first, second) = (TestEnv::new(), TestEnv::new());
    let mut child = first.command(fake_agent()).arg("sleep:600").spawn().expect("it starts");
    drop(second);
    assert!(child.try_wait().expect("asked").is_none());
    drop(first);
    child.wait().expect("it ended");
}

#[test]
fn a_repository_is_real_and_stable() {
    let (first, second) = (TestEnv::new(), TestEnv::new());
    let files = [("a.txt", "one\n"), ("src/b.txt", "two\n")];
    let (one, two) = (first.git_repo("demo", &files), second.git_repo("demo", &files));
    assert!(one.starts_with(first.allowed_root()));
    let head = first.git(&one, &["rev-parse", "HEAD"]);
    assert_eq!(head, second.git(&two, &["rev-parse", "HEAD"]), "commit ids depend on nothing but the files");
    assert_eq!(first.git(&one, &["status", "--porcelain"]), "");
    assert_eq!(first.git(&one, &["branch", "--show-current"]), "main\n");
    let mut commit = first.command("git");
    commit.arg("-C").arg(&one).args(["commit", "--allow-empty", "-m", "by an agent"]);
    first.run_command(commit).assert_code(0);
}

#[test]
fn a_linked_program_is_found_first() {
    let env = TestEnv::new();
    env.link_program("git", fake_agent());
    let mut command = env.command("git");
    command.arg("print:fake");
    assert_eq!(env.run_command(command).stdout, "fake\n");
}
