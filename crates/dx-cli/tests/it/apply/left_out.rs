//! Work that git does not tell of, or that no commit can hold: it comes home all the same, or is named.

use super::{apply, job, refused};
use crate::environment;
use crate::world::{read, write};
use dx_testkit::TestEnv;
use std::path::Path;

const COMMIT_IN: &str = "git -c user.name=a -c user.email=a@example.invalid -C";

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

#[test]
fn what_repositories_inside_have_configured_does_not_run() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let ran = env.path("ran");
    // One that the job committed as a submodule, one that it left, and a submodule of that.
    let script = format!(
        "inner() {{
            git init -q $1; echo '* filter=x' > $1/.gitattributes; echo 1 > $1/f; git -C $1 add .; {COMMIT_IN} $1 commit -qm x
            git -C $1 config filter.x.clean 'touch {ran}; cat'; git -C $1 config core.fsmonitor 'touch {ran}; false'
         }}
         git init -q n; inner n/s; inner s; for d in . n; do
            printf '[submodule \"s\"]\n\tpath = s\n\turl = ./s\n' > $d/.gitmodules
            git -C $d add .gitmodules s; {COMMIT_IN} $d commit -qm sub
         done; echo 2 > s/f; echo 2 > n/s/f; echo two > a.txt",
        ran = ran.display()
    );
    let place = repo.to_str().unwrap();
    let start = ["start", "--id", "bd-1", "--provider", "exec", "--sandbox", "off", "--worktree", "auto"];
    let more = ["--repo", place, "--wait", "--", "sh", "-ec", &script];
    env.run(&[&start[..], &more].concat()).assert_code(0);
    let worktree = env.path("xdg/data/dx-runner/worktrees/bd-1/demo");
    let _armed_itself = std::fs::remove_file(&ran);
    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    assert!(diff.contains("files in submodules: s/f\n") && diff.contains("inside: n, n/s\n"), "{diff}");
    env.run(&["report", "--beads", "bd-1"]).assert_code(0);
    env.run(&["worktree", "list"]).assert_code(0);
    let kept = env.run(&["worktree", "salvage", "bd-1", "--json"]).assert_code(0).stdout;
    assert!(kept.contains("\"unstaged\":1"), "{kept}");
    apply(&env, "bd-1", &[]);
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    env.run(&["gc", "--older-than", "0s", "--keep", "0"]).assert_code(0);
    assert!(worktree.join("n/s/f").exists() && !ran.exists());
    env.git(&worktree, &["status"]);
    assert!(ran.exists(), "it was armed");
}

#[test]
fn files_that_became_folders_or_links_come_home() {
    let env = environment();
    let repo =
        env.git_repo("demo", &[("a.txt", "one\n"), ("sub/b", "b\n"), ("sub/deep/c", "c\n"), ("link", "l\n")]);
    let script =
        "rm -r sub; ln -s elsewhere sub; rm a.txt; mkdir a.txt; echo x > a.txt/y; rm link; ln -s a.txt link";
    let worktree = job(&env, &repo, "bd-1", script);
    apply(&env, "bd-1", &[]);
    assert_eq!(std::fs::read_link(repo.join("sub")).unwrap(), Path::new("elsewhere"));
    assert_eq!((read(repo.join("a.txt/y")), read(repo.join("link/y"))), ("x\n".into(), "x\n".into()));
    assert_eq!(env.git(&repo, &["status", "--porcelain"]), "");
    env.run(&["worktree", "salvage", "bd-1"]).assert_code(0);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!worktree.exists());
}
