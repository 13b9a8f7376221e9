//! The scope gate by itself: what changed since a job's start, since a worktree was made, and against HEAD.

use super::{ask, commit, reason};
use crate::world::{World, write};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;

#[test]
fn everything_since_the_jobs_start_is_judged() {
    let world = World::new();
    let here = world.repo.display().to_string();
    write(world.repo.join("before"), "dirty before the job");
    let script = "mkdir -p src docs; echo 1 > src/a; git add src; \
        git -c user.name=a -c user.email=a@example.invalid commit -qm work; echo 1 > docs/x; git mv a.txt src/b";
    let args = ["start", "--beads", "a", "--provider", "exec", "--worktree", &here, "--", "sh", "-c", script];
    world.env.run(&args).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let gate = |code, word, more: &[&str]| {
        reason(&world, code, word, &[&["scope-gate", "--worktree", &here], more].concat())
    };
    // Committed, untracked, and both names of what was renamed; not what was dirty before.
    let answer = gate(29, "scope_violation", &["--scope", "src"]);
    assert_eq!(answer["violations"], json!(["a.txt", "docs/x"]));
    assert_eq!((&answer["checked_files"], &answer["mutations"]), (&4.into(), &4.into()));
    assert!(answer["details"].as_str().unwrap().ends_with("since the start of job a"), "{answer}");
    let answer = gate(0, "scope_ok", &["--scope", "src", "docs", "*.txt"]);
    assert_eq!(answer["violations"], json!([]));
    gate(0, "scope_ok", &["--scope", "**", "--mutation-budget", "4"]);
    let answer = gate(29, "mutation_budget_exceeded", &["--scope", "**", "--mutation-budget", "3"]);
    assert_eq!(answer["details"], "4 paths changed, 3 are allowed, since the start of job a");
    gate(0, "scope_ok", &[]);
    write(world.repo.join("docs/.env.local"), "x");
    let answer = gate(29, "scope_violation", &["--scope", "**"]);
    assert_eq!(answer["violations"], json!(["docs/.env.local"]));
    // What is no pattern is told as a mistake of the command line.
    let error = world.error(64, &["scope-gate", "--worktree", &here, "--scope", "../x"]);
    assert_eq!(error["reason_code"], "invalid_argument");
}

#[test]
fn a_worktree_without_a_job_is_judged_from_where_it_was_made() {
    let world = World::new();
    let here = world.repo.display().to_string();
    let made = world.json(0, &["worktree", "create", "w", "--repo", &here]);
    let path = made["worktree"].as_str().or(made["path"].as_str()).unwrap().to_owned();
    write(format!("{path}/n"), "1");
    world.env.git(&path, &["add", "-A"]);
    world.env.git(&path, &["commit", "--quiet", "-m", "x"]);
    let answer =
        reason(&world, 29, "scope_violation", &["scope-gate", "--worktree", &path, "--scope", "src"]);
    assert_eq!(answer["violations"], json!(["n"]));
    assert!(answer["details"].as_str().unwrap().ends_with("since the worktree was made"), "{answer}");

    // Elsewhere only what is not committed can be known to be new.
    commit(&world, "more");
    let answer = ask(&world, 0, &["scope-gate", "--worktree", &here, "--scope", "src"]);
    assert_eq!(answer["checked_files"], 0);
    std::fs::write(world.repo.join(std::ffi::OsStr::from_bytes(b"caf\xe9.pem")), "x").unwrap();
    let answer = reason(&world, 29, "scope_violation", &["scope-gate", "--worktree", &here]);
    assert_eq!(answer["violations"], json!(["caf\u{fffd}.pem"]));
    let sub = world.env.path("nowhere").display().to_string();
    reason(&world, 29, "worktree_missing", &["scope-gate", "--worktree", &sub]);
    std::fs::create_dir(&sub).unwrap();
    reason(&world, 29, "not_a_git_repo", &["scope-gate", "--worktree", &sub]);
}
