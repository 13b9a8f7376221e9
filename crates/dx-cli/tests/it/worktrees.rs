//! `--worktree auto`: always of the repository it was asked in, whatever that repository's shape.
//!
//! For: `start`. Must never: run git through the product's own code.

use crate::environment;
use dx_testkit::TestEnv;
use std::path::{Path, PathBuf};

/// Starts a job that shows `who` and the branch it is on, in this directory, and gives what it printed.
fn who(env: &TestEnv, id: &str, cwd: &Path) -> (i32, String, String) {
    let mut command = env.product();
    command.current_dir(cwd).args([
        "start",
        "--beads",
        id,
        "--provider",
        "exec",
        "--worktree",
        "auto",
        "--wait",
    ]);
    command.args(["--", "sh", "-c", "cat who; git rev-parse --abbrev-ref HEAD"]);
    let output = env.run_command(command);
    let log =
        std::fs::read_to_string(env.state_dir().join("exec").join(format!("{id}.log"))).unwrap_or_default();
    (output.code, log, output.stderr)
}

/// A repository in a folder of its own, so that names can repeat.
fn repository(env: &TestEnv, folder: &str, name: &str, content: &str) -> PathBuf {
    let made = env.git_repo(&format!("{folder}-{name}"), &[("who", content)]);
    let parent = env.path(folder);
    std::fs::create_dir_all(&parent).unwrap();
    let place = parent.join(name);
    std::fs::rename(made, &place).unwrap();
    place
}

#[test]
fn two_repositories_of_one_name_are_not_confused() {
    let env = environment();
    let (a, b) = (repository(&env, "a", "app", "A\n"), repository(&env, "b", "app", "B\n"));
    assert_eq!(who(&env, "same", &a).1, "A\nsame\n");
    let (code, _, stderr) = who(&env, "same", &b);
    assert_eq!(code, 32, "{stderr}");
    assert!(stderr.contains("worktree_taken"), "{stderr}");
    assert_eq!(who(&env, "other", &b).1, "B\nother\n");
    assert_eq!(who(&env, "same", &a).1, "A\nsame\n", "a worktree of this repository is taken again");
}

#[test]
fn a_submodule_is_its_own_repository() {
    let env = environment();
    let inner = repository(&env, "src", "inner", "INNER\n");
    let outer = repository(&env, "src", "outer", "OUTER\n");
    let url = inner.to_str().unwrap();
    env.git(&outer, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "sm"]);
    env.git(&outer, &["commit", "--quiet", "-m", "with a submodule"]);
    assert_eq!(who(&env, "sub", &outer.join("sm")).1, "INNER\nsub\n");
    assert!(!env.git(&outer, &["branch", "--list"]).contains("sub"), "nothing happened to the outer one");
}

#[test]
fn a_worktree_of_a_bare_repository_works() {
    let env = environment();
    let outer = repository(&env, "bare", "outer", "OUTER\n");
    let source = repository(&env, "bare", "source", "BARE\n");
    let bare = outer.join("inner.git");
    env.git(&outer, &["clone", "--quiet", "--bare", source.to_str().unwrap(), bare.to_str().unwrap()]);
    let first = env.path("bare/first");
    env.git(&bare, &["worktree", "add", "--quiet", "-b", "first", first.to_str().unwrap()]);
    assert_eq!(who(&env, "next", &first).1, "BARE\nnext\n");
    assert!(!env.git(&outer, &["branch", "--list"]).contains("next"));
}

#[test]
fn a_dry_run_makes_nothing() {
    let env = environment();
    let app = repository(&env, "dry", "app", "A\n");
    let mut command = env.product();
    command.current_dir(&app).args(["start", "--dry-run", "--beads", "dry", "--provider", "exec"]);
    command.args(["--worktree", "auto", "--", "true"]);
    env.run_command(command).assert_code(0);
    assert!(!env.git(&app, &["branch", "--list"]).contains("dry"));
}

#[test]
fn a_start_over_the_cap_makes_nothing() {
    let env = environment();
    let app = repository(&env, "cap", "app", "A\n");
    let mut command = env.product();
    command.current_dir(&app).env("DX_RUNNER_MAX_PARALLEL_EXEC", "0");
    command.args(["start", "--beads", "capped", "--provider", "exec", "--worktree", "auto", "--", "true"]);
    env.run_command(command).assert_code(26);
    assert!(!env.git(&app, &["branch", "--list"]).contains("capped"));
}
