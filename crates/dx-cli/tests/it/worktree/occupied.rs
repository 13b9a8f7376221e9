//! Worktrees are shared by all state directories; nobody removes one under a process that works in it.

use super::{create, path_of, refused};
use crate::environment;
use crate::world::{PATIENCE, World, error_of, read, spawn, write};
use dx_testkit::{TestEnv, wait_until};
use std::process::Command;

/// The product with a state directory of its own.
fn other(env: &TestEnv, args: &[&str]) -> Command {
    let mut command = env.product();
    command.args(args).env("DX_RUNNER_STATE_DIR", env.path("other-state"));
    command
}

#[test]
fn a_live_job_of_another_state_directory_keeps_its_worktree() {
    let world = World::new();
    let env = &world.env;
    let gate = world.path("gate");
    let repo = world.repo.to_str().unwrap();
    let agent = env.fake_agent().display().to_string();
    let wait = format!("wait-file:{gate}");
    let start = ["start", "--id", "bd-1", "--provider", "exec", "--worktree", "auto", "--repo", repo];
    env.run(&[&start[..], &["--", &agent, &wait]].concat()).assert_code(0);
    let path = env.path("xdg/data/dx-runner/worktrees/bd-1").join(world.repo.file_name().unwrap());

    let output = env.run_command(other(env, &["--json", "worktree", "remove", "bd-1"])).assert_code(32);
    let error = error_of(env, &output);
    assert_eq!(error["reason_code"], "worktree_in_use", "{error}");
    assert!(error["message"].as_str().unwrap().contains("process "), "{error}");
    assert!(error["next_action"].as_str().unwrap().contains("DX_RUNNER_STATE_DIR"), "{error}");
    assert!(path.join(".git").exists());
    // Another job in the same place is told of it, and `gc` of its state directory keeps the worktree too.
    let script = [&start[..], &["--wait", "--", "true"]].concat();
    let output = env.run_command(other(env, &script));
    assert!(output.stderr.contains("works already"), "{output}");
    wait_until(PATIENCE, "gc comes to the worktree and keeps it", || {
        let output = env.run_command(other(env, &["--json", "gc", "--older-than", "0"])).assert_code(0);
        output.stdout.contains("works in its worktree")
    });
    assert!(path.join(".git").exists());

    write(&gate, "");
    env.run(&["wait", "--id", "bd-1"]).assert_code(0);
    env.run_command(other(env, &["worktree", "remove", "bd-1"])).assert_code(0);
    assert!(!path.exists());
}

#[test]
fn a_process_below_keeps_the_worktree_and_a_neighbour_does_not() {
    let env = environment();
    let repo = env.git_repo("demo", &[("sub/a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    let longer = path_of(&create(&env, "bd-1", &env.git_repo("demo2", &[("a.txt", "one\n")]), &[]));
    let sleeper = |folder| {
        let mut command = env.command("sleep");
        command.arg("1000").current_dir(folder);
        spawn(command)
    };
    let (mut inside, mut beside) = (sleeper(path.join("sub")), sleeper(longer));
    let args = ["worktree", "remove", "bd-1", "--repo", repo.to_str().unwrap()];
    let error = refused(&env, 32, &args);
    assert_eq!(error["reason_code"], "worktree_in_use");
    assert!(error["message"].as_str().unwrap().contains(&format!("{} (sleep)", inside.id())), "{error}");
    assert_eq!(read(path.join("sub/a.txt")), "one\n");
    inside.kill().unwrap();
    inside.wait().unwrap();
    env.run(&args).assert_code(0);
    beside.kill().unwrap();
    beside.wait().unwrap();
}
