//! SIGKILL while a worktree is made or removed: at every named step and at random instants. The next command finishes it, and
//! nothing half-made is taken as whole.

use super::{assert_whole, create, list, only_row, path_of, refused};
use crate::environment;
use crate::world::{PATIENCE, read, spawn, write};
use dx_testkit::{TestEnv, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// With a set-up, so that there are all steps.
fn repository(env: &TestEnv) -> PathBuf {
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), (".gitignore", "made\n")]);
    write(repo.join(".dx-runner.toml"), "[worktree]\nsetup = [\"echo x > made\"]\n");
    repo
}

/// Runs the command and has it killed at the step.
#[track_caller]
fn kill_at(env: &TestEnv, step: &str, args: &[&str]) {
    let marker = tempfile::Builder::new().prefix(step).tempdir_in(env.root()).unwrap().keep().join("killed");
    let mut command = env.product();
    command.args(args).env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
    let output = env.run_command(command);
    assert_eq!(output.code, -9, "{step}: {output}");
}

/// A git that is killed has not said that there is no such commit.
#[test]
fn a_git_that_is_killed_is_no_answer() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let git = env.bin_dir().join("git");
    write(
        &git,
        "#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\ncase \" $* \" in *' rev-parse --verify --quiet HEAD'*) kill -KILL $$ ;; esac\nexec git \"$@\"\n",
    );
    std::fs::set_permissions(&git, PermissionsExt::from_mode(0o755)).unwrap();
    let error = refused(&env, 1, &["worktree", "create", "one", "--repo", repo.to_str().unwrap()]);
    assert_eq!(error["reason_code"], "git_failed", "{error}");
    assert!(error["message"].as_str().unwrap().contains("signal: 9"), "{error}");
    let wave = env.path("wave.toml");
    write(
        &wave,
        format!(
            "[wave]\nname = \"w\"\nrepo = \"{}\"\n[[item]]\nid = \"a\"\nprompt = \"x\"\n",
            repo.display()
        ),
    );
    let said = env.run(&["wave", "plan", wave.to_str().unwrap()]);
    assert!(said.code != 0 && said.stderr.contains("signal: 9"), "{said}");
    assert!(!said.stderr.contains("first commit"), "{said}");
    std::fs::remove_file(&git).unwrap();
    assert_whole(&env, &path_of(&create(&env, "one", &repo, &[])), "one");
}

#[test]
fn a_creation_that_is_killed_at_any_step_is_finished_by_the_next() {
    let env = environment();
    let repo = repository(&env);
    let r = repo.to_str().unwrap();
    let steps = ["worktree.planned", "worktree.registered", "worktree.checked_out", "worktree.set_up"];
    for step in steps {
        let id = step.replace(['.', '_'], "-");
        kill_at(&env, step, &["worktree", "create", &id, "--repo", r]);
        let rows = list(&env);
        let row = rows["worktrees"].as_array().unwrap().iter().find(|row| row["beads"] == id.as_str());
        assert_eq!(row.unwrap()["state"], "making", "{step}: {rows}");
        // What git itself sees is sound at every step.
        env.git(&repo, &["worktree", "list"]);
        env.git(&repo, &["worktree", "prune"]);
        let made = create(&env, &id, &repo, &[]);
        assert!(made["remarks"].to_string().contains("cut off"), "{step}: {made}");
        assert_whole(&env, &path_of(&made), &id);
        assert_eq!(read(path_of(&made).join("made")), "x\n");
        env.run(&["worktree", "remove", &id]).assert_code(0);
    }
    assert_eq!(env.git(&repo, &["branch", "--format=%(refname:short)"]), "main\n");
    assert_eq!(env.git(&repo, &["worktree", "list"]).lines().count(), 1);
}

#[test]
fn a_checkout_that_was_cut_off_is_made_whole() {
    let env = environment();
    let repo = repository(&env);
    kill_at(&env, "worktree.registered", &["worktree", "create", "bd-1", "--repo", repo.to_str().unwrap()]);
    let path = env.path("xdg/data/dx-runner/worktrees/bd-1/demo");
    // What a git that was killed leaves.
    write(path.join("a.txt"), "on");
    write(repo.join(".git/worktrees/bd-1/index.lock"), "DIRC");
    assert_whole(&env, &path_of(&create(&env, "bd-1", &repo, &[])), "bd-1");
}

#[test]
fn a_set_up_that_outlives_its_command_is_ended_before_the_next() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let (pid, gate) = (env.path("pid"), env.path("gate"));
    let text = format!(
        "[worktree]\nsetup = [\"[ -e {gate} ] || {{ echo $$ > {pid}; exec sleep 1000; }}\"]\n",
        gate = gate.display(),
        pid = pid.display()
    );
    write(repo.join(".dx-runner.toml"), text);
    let mut command = env.product();
    command.args(["worktree", "create", "bd-1", "--repo"]).arg(&repo).stdout(Stdio::null());
    let mut child = spawn(command);
    wait_until(PATIENCE, "the set-up runs", || {
        std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    });
    let setup = dx_testkit::read_pid(&pid);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Path::new(&format!("/proc/{setup}")).exists());
    write(&gate, "");
    assert_whole(&env, &path_of(&create(&env, "bd-1", &repo, &[])), "bd-1");
    let stat = std::fs::read_to_string(format!("/proc/{setup}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn a_git_that_outlives_its_command_is_ended_before_the_next() {
    let env = environment();
    let repo = repository(&env);
    create(&env, "bd-1", &repo, &[]);
    let (pid, gate) = (env.path("pid"), env.path("gate"));
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' update-ref -d '*) [ -e {gate} ] || {{ echo $$ > {pid}; exec sleep 1000; }};; esac\n\
         PATH=/usr/local/bin:/usr/bin:/bin exec git \"$@\"\n",
        gate = gate.display(),
        pid = pid.display(),
    );
    let slow = env.bin_dir().join("git");
    write(&slow, text);
    std::fs::set_permissions(&slow, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = env.product();
    command.args(["worktree", "remove", "bd-1"]).stdout(Stdio::null());
    let mut child = spawn(command);
    wait_until(PATIENCE, "the branch is being removed", || {
        std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    });
    let git = dx_testkit::read_pid(&pid);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Path::new(&format!("/proc/{git}")).exists());
    write(&gate, "");
    // It would take the branch from the next worktree of this name.
    assert_whole(&env, &path_of(&create(&env, "bd-1", &repo, &[])), "bd-1");
    let stat = std::fs::read_to_string(format!("/proc/{git}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn what_a_killed_git_left_locked_is_no_bar() {
    let env = environment();
    let repo = repository(&env);
    let lock = repo.join(".git/refs/heads/bd-1.lock");
    let leave = || {
        let file = std::fs::File::create(&lock).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_mins(1)).unwrap();
    };
    leave();
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    assert_whole(&env, &path, "bd-1");
    leave();
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!lock.exists() && !repo.join(".git/refs/heads/bd-1").exists());
}

#[test]
fn random_kills_never_leave_half_a_worktree() {
    const ROUNDS: u64 = 25;
    let env = environment();
    let repo = repository(&env);
    for round in 0..ROUNDS {
        for args in [["worktree", "create", "bd-1", "--repo"], ["worktree", "remove", "bd-1", "--repo"]] {
            let mut command = env.product();
            command.args(args).arg(&repo).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = spawn(command);
            std::thread::sleep(Duration::from_micros(round * 1_500));
            child.kill().unwrap();
            child.wait().unwrap();
            // A removal that came through leaves nothing to make whole.
            if args[1] == "create" || round % 2 == 0 {
                let path = path_of(&create(&env, "bd-1", &repo, &[]));
                assert_whole(&env, &path, "bd-1");
                assert_eq!(read(path.join("made")), "x\n");
                assert_eq!(only_row(&env)["state"], "ready");
            }
        }
        env.run(&["worktree", "remove", "bd-1"]);
    }
    create(&env, "bd-1", &repo, &[]);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert_eq!(env.git(&repo, &["branch", "--format=%(refname:short)"]), "main\n");
    assert_eq!(env.git(&repo, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(std::fs::read_dir(env.path("xdg/data/dx-runner/worktrees")).unwrap().count(), 0);
}

#[test]
fn a_removal_that_is_killed_is_finished() {
    let env = environment();
    let repo = repository(&env);
    for next in ["remove", "create"] {
        create(&env, "bd-1", &repo, &[]);
        kill_at(&env, "worktree.removing", &["worktree", "remove", "bd-1"]);
        assert_eq!(only_row(&env)["state"], "removing");
        if next == "create" {
            assert_whole(&env, &path_of(&create(&env, "bd-1", &repo, &[])), "bd-1");
        }
        env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
        assert_eq!(list(&env)["worktrees"], serde_json::json!([]));
    }
}

#[test]
fn a_branch_that_cannot_be_removed_now_is_not_forgotten() {
    let env = environment();
    let repo = repository(&env);
    create(&env, "bd-1", &repo, &[]);
    // Another git holds it, and has only just taken it when we look.
    let lock = repo.join(".git/refs/heads/bd-1.lock");
    let file = std::fs::File::create(&lock).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_mins(1)).unwrap();
    let refused = env.run(&["worktree", "remove", "bd-1", "--json"]).assert_code(1);
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["error"]["reason_code"], "git_failed", "{error:#}");
    assert_eq!(only_row(&env)["state"], "removing");
    std::fs::remove_file(lock).unwrap();
    let removed = env.run(&["worktree", "remove", "bd-1", "--json"]).assert_code(0);
    let removed: serde_json::Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!(removed["branch_removed"], true, "{removed:#}");
    assert_eq!(env.git(&repo, &["branch", "--format=%(refname:short)"]), "main\n");
}
