//! Work that git does not tell of, or that no commit can hold: it comes home all the same, or is named.

use super::{apply, job, refused};
use crate::environment;
use crate::world::{read, write};
use dx_testkit::TestEnv;
use std::path::Path;

/// Ignore rules outside of the worktree: of the repository, and of the user.
fn overlook(env: &TestEnv, repo: &Path, repositorys: &str, users: &str) {
    write(repo.join(".git/info/exclude"), repositorys);
    let file = env.path("ignored-by-me");
    write(&file, users);
    env.git(repo, &["config", "core.excludesFile", file.to_str().unwrap()]);
}

#[test]
fn recorded_work_that_a_later_rule_ignores_comes_home() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    job(
        &env,
        &repo,
        "bd-1",
        "echo two > a.txt; mkdir gen; echo made > gen/out.txt; echo b > b.log; echo c > kept",
    );
    let before = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    overlook(&env, &repo, "gen/\n", "*.log\n");
    assert_eq!(env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout, before);
    let applied = apply(&env, "bd-1", &[]);
    assert_eq!(applied["files_changed"], serde_json::json!(["a.txt", "b.log", "gen/out.txt", "kept"]));
    assert_eq!((read(repo.join("gen/out.txt")), read(repo.join("b.log"))), ("made\n".into(), "b\n".into()));
    assert_eq!(apply(&env, "bd-1", &[])["changed"], false);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
}

#[test]
fn recorded_work_that_a_later_rule_ignores_keeps_the_worktree_until_it_is_salvaged() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    // The second run finds the first one's work ignored already, and records none of it.
    let worktree = job(&env, &repo, "bd-1", "mkdir -p gen; echo made > gen/out.txt");
    overlook(&env, &repo, "gen/\nother/\n", "");
    job(&env, &repo, "bd-1", "mkdir -p gen other; echo later > gen/unrecorded; echo x > other/y");
    assert_eq!(env.git(&worktree, &["status", "--porcelain"]), "", "git tells of nothing");
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert_eq!(error["reason_code"], "worktree_unsaved", "{error}");
    assert!(error["message"].as_str().unwrap().contains("1 files that are in no commit"), "{error}");
    let gc = env.run(&["gc", "--older-than", "0s", "--keep", "0", "--json"]).assert_code(0).stdout;
    assert!(worktree.join("gen/out.txt").exists() && gc.contains("1 files that are in no commit"), "{gc}");
    let kept = env.run(&["worktree", "salvage", "bd-1", "--json"]).assert_code(0).stdout;
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let file = format!("{}^3:gen/out.txt", kept["ref"].as_str().unwrap());
    assert_eq!(env.git(&repo, &["show", &file]), "made\n");
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!worktree.exists());
}

#[test]
fn repositories_inside_are_named() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), (".gitignore", "build/\n")]);
    let script = "echo two > a.txt; for d in plain build/hidden; do mkdir -p $d; git -C $d init -q; echo x > $d/x; done";
    let worktree = job(&env, &repo, "bd-1", script);
    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    let note = "# not shown: repositories inside: build/hidden, plain\n";
    assert!(diff.contains("-one\n+two\n") && diff.ends_with(note), "{diff}");
    let applied = apply(&env, "bd-1", &[]);
    let stays = "2 repositories of their own stay in the worktree: build/hidden/, plain/";
    assert_eq!(applied["remarks"], serde_json::json!([stays]));
    assert_eq!(applied["files_changed"], serde_json::json!(["a.txt"]));
    assert!(worktree.join("plain/x").exists() && !repo.join("plain").exists());
}

#[test]
fn names_are_told_as_they_are_and_without_the_jobs_secrets() {
    let mut env = environment();
    env.set("HUSH", "zqx-sotto-voce-ü");
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let place = repo.to_str().unwrap();
    let start = [
        "start",
        "--id",
        "bd-1",
        "--provider",
        "exec",
        "--worktree",
        "auto",
        "--repo",
        place,
        "--env",
        "HUSH",
    ];
    let script = "echo \"is $HUSH\" > 'grün'; echo x > \"by-$HUSH\"; printf y > 'a\"b'";
    env.run(&[&start[..], &["--wait", "--", "sh", "-ec", script]].concat()).assert_code(0);
    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    for part in
        ["+++ b/grün\n", "+++ b/by-*****************\n", "+is *****************\n", "+++ \"b/a\\\"b\"\n"]
    {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    let applied = env.run(&["apply", "--beads", "bd-1", "--json"]).assert_code(0).stdout;
    assert!(!applied.contains("sotto") && applied.contains("by-*****************"), "{applied}");
    assert!(applied.contains("\"grün\""), "{applied}");
    let report = env.run(&["report", "--beads", "bd-1", "--format", "json"]).assert_code(0).stdout;
    assert!(report.contains("\"path\":\"grün\"") && !report.contains("sotto"), "{report}");
}
