//! The set-up of a new worktree: whose commands run, once, and what their failure is.

use super::{branches, create, path_of, refused};
use crate::environment;
use crate::world::{read, write};

#[test]
fn commands_run_once_in_order_with_a_log() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let text = "[worktree]\nsetup = [\"echo first; cp a.txt made\", \"echo $DX_RUNNER_BEADS_ID >> made; echo oops >&2\"]\n";
    write(repo.join(".dx-runner.toml"), text);
    let made = create(&env, "bd-1", &repo, &[]);
    assert_eq!(read(path_of(&made).join("made")), "one\nbd-1\n");
    let log = read(made["setup_log"].as_str().unwrap());
    assert!(log.contains("first\n") && log.contains("oops\n") && log.contains("$ echo first"), "{log}");
    assert_eq!(create(&env, "bd-1", &repo, &[])["created"], false);
    assert_eq!(read(path_of(&made).join("made")), "one\nbd-1\n");
}

#[test]
fn a_failure_refuses_the_start_and_leaves_only_the_log() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    write(
        repo.join(".dx-runner.toml"),
        "[worktree]\nsetup = [\"echo trying\", \"exit 7\", \"touch ../later\"]\n",
    );
    let r = repo.to_str().unwrap();
    let start =
        ["start", "--id", "bd-1", "--provider", "exec", "--worktree", "auto", "--repo", r, "--", "true"];
    for args in [&start[..], &["worktree", "create", "bd-1", "--repo", r]] {
        let error = refused(&env, 21, args);
        assert_eq!(error["reason_code"], "worktree_setup_failed");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("exit 7") && message.contains("exit status: 7"), "{message}");
        let log = env.path("xdg/data/dx-runner/worktrees/bd-1/demo.setup.log");
        assert!(message.contains(log.to_str().unwrap()), "{message}");
        assert!(read(log).contains("trying"));
        let left = std::fs::read_dir(env.path("xdg/data/dx-runner/worktrees/bd-1")).unwrap();
        assert_eq!(left.count(), 1);
        assert_eq!(branches(&env, &repo), "main\n");
        assert_eq!(env.git(&repo, &["worktree", "list"]).lines().count(), 1);
    }
    assert_eq!(std::fs::read_dir(env.state_dir().join("runs")).unwrap().count(), 0);
    write(repo.join(".dx-runner.toml"), "[worktree]\nsetup = [\"true\"]\n");
    env.run(&start).assert_code(0);
    env.run(&["wait", "--id", "bd-1"]).assert_code(0);
}

#[test]
fn what_the_set_up_leaves_running_is_ended() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let pid = env.path("pid");
    let text = format!(
        "[worktree]\nsetup = [\"setsid sleep 1000 >/dev/null 2>&1 & echo $! > {}\"]\n",
        pid.display()
    );
    write(repo.join(".dx-runner.toml"), text);
    create(&env, "bd-1", &repo, &[]);
    assert_eq!(env.kill_leftovers(), Vec::<String>::new());
}

#[test]
fn an_agent_cannot_say_what_is_run_or_copied() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    write(repo.join(".dx-runner.toml"), "[worktree]\ncopy = [\"config/.env\"]\n");
    std::fs::create_dir(repo.join("config")).unwrap();
    write(repo.join("config/.env"), "SECRET=1\n");
    let first = path_of(&create(&env, "bd-1", &repo, &[]));
    // The agent's worktree and commits say something else; one is asked in, the other is started from.
    std::fs::remove_dir_all(first.join("config")).unwrap();
    let outside = env.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, first.join("config")).unwrap();
    write(
        first.join(".dx-runner.toml"),
        format!("[worktree]\nsetup = [\"touch {}/ran\"]\n", outside.display()),
    );
    env.git(&first, &["add", "--all", "--force"]);
    env.git(&first, &["commit", "-q", "-m", "trap"]);
    let mut command = env.product();
    let args = ["start", "--id", "bd-2", "--provider", "exec", "--worktree", "auto", "--wait", "--", "true"];
    command.current_dir(&first).args(args);
    let output = env.run_command(command);
    // Its commit has a link where a folder is wanted: nothing is written through it.
    assert_eq!(output.code, 21, "{output}");
    assert!(output.stderr.contains("config/.env"), "{output}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let made = create(&env, "bd-3", &first, &["--base", "main"]);
    assert_eq!(made["setup"], serde_json::json!([]));
    assert_eq!(read(path_of(&made).join("config/.env")), "SECRET=1\n");
}

#[test]
fn copies_keep_their_mode_and_pass_over_what_is_committed_or_missing() {
    use std::os::unix::fs::PermissionsExt;
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), (".gitignore", "/keys\n")]);
    write(repo.join(".dx-runner.toml"), "[worktree]\ncopy = [\"keys\", \"a.txt\", \"none\"]\n");
    std::fs::create_dir_all(repo.join("keys/deep")).unwrap();
    write(repo.join("keys/deep/tool"), "#!/bin/sh\n");
    std::fs::set_permissions(repo.join("keys/deep/tool"), PermissionsExt::from_mode(0o700)).unwrap();
    write(repo.join("a.txt"), "changed\n");
    let made = create(&env, "bd-1", &repo, &[]);
    assert_eq!(made["copied"], serde_json::json!(["keys/deep/tool"]));
    let remarks = made["remarks"].to_string();
    assert!(remarks.contains("none is not in") && remarks.contains("a.txt is in the commit"), "{remarks}");
    let path = path_of(&made);
    let mode = std::fs::metadata(path.join("keys/deep/tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(read(path.join("a.txt")), "one\n");
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    write(repo.join(".dx-runner.toml"), "[worktree]\n\nsetup = 1\n");
    let error = refused(&env, 64, &["worktree", "create", "bd-1", "--repo", repo.to_str().unwrap()]);
    assert_eq!(error["reason_code"], "config_invalid");
    assert!(error["message"].as_str().unwrap().contains(".dx-runner.toml:3:1"), "{error}");
    assert!(!env.path("xdg/data/dx-runner/worktrees/bd-1").exists());
    assert_eq!(branches(&env, &repo), "main\n");
}
