//! What a salvage keeps, and that its own words bring it back.

use super::{create, only_row, path_of, refused};
use crate::world::{read, write};
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[track_caller]
fn salvage(env: &TestEnv, id: &str) -> Value {
    document(env, "salvage", &env.run(&["worktree", "salvage", id, "--json"]).assert_code(0).stdout)
}

/// Runs the commands that the salvage told; the place where the work is then.
#[track_caller]
fn restore(env: &TestEnv, kept: &Value) -> PathBuf {
    for line in kept["restore"].as_array().unwrap() {
        let mut shell = env.command("sh");
        shell.args(["-c", line.as_str().unwrap()]);
        env.run_command(shell).assert_code(0);
    }
    let path = only_place(kept);
    assert!(!path.starts_with(env.path("xdg/data/dx-runner/worktrees")), "outside the root");
    path
}

/// Beside the repository, named by id and time.
fn only_place(kept: &Value) -> PathBuf {
    let name = kept["ref"].as_str().unwrap().strip_prefix("refs/dx-runner/salvage/").unwrap();
    let demo = kept["restore"][0].as_str().unwrap().split(" worktree add").next().unwrap();
    let repo = demo.strip_prefix("git -C ").unwrap().trim_matches('\'');
    PathBuf::from(format!("{repo}.{}", name.replace('/', ".")))
}

/// Everything about a worktree that counts.
fn state(env: &TestEnv, path: &Path) -> (String, String, String) {
    let status = env.git(path, &["status", "--porcelain", "--untracked-files=all", "--ignored", "-z"]);
    let staged = env.git(path, &["diff", "--cached", "--binary"]);
    let unstaged = env.git(path, &["diff", "--binary"]);
    (status, staged, unstaged)
}

#[test]
fn staged_unstaged_untracked_and_listed_files_come_back() {
    let env = environment();
    let files = [
        ("staged", "one\n"),
        ("both", "one\n"),
        ("edited", "one\n"),
        ("deleted", "one\n"),
        (".gitignore", ".env*\n"),
    ];
    let repo = env.git_repo("de mo", &files);
    write(repo.join(".dx-runner.toml"), "[worktree]\ncopy = [\".env.local\", \".env.other\"]\n");
    write(repo.join(".env.local"), "SECRET=1\n");
    let made = create(&env, "bd-1", &repo, &[]);
    let path = path_of(&made);
    assert_eq!(made["copied"], serde_json::json!([".env.local"]));
    // What was only copied is no work.
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    create(&env, "bd-1", &repo, &[]);

    write(path.join("committed"), "commit\n");
    env.git(&path, &["add", "committed"]);
    env.git(&path, &["commit", "-q", "-m", "work"]);
    write(path.join("staged"), "two\n");
    write(path.join("both"), "two\n");
    write(path.join("staged new"), "new\n");
    env.git(&path, &["add", "staged", "both", "staged new"]);
    write(path.join("both"), "three\n");
    write(path.join("edited"), "a\0b");
    std::fs::remove_file(path.join("deleted")).unwrap();
    std::fs::create_dir(path.join("dir")).unwrap();
    write(path.join("dir/-untracked ü\n"), "mine\n");
    write(path.join(".env.local"), "SECRET=2\n");
    write(path.join(".env.other"), "made here\n");
    std::os::unix::fs::symlink("/nowhere", path.join("link")).unwrap();

    let before = state(&env, &path);
    let index = std::fs::read(repo.join(".git/worktrees/bd-1/index")).unwrap();
    let kept = salvage(&env, "bd-1");
    assert_eq!(state(&env, &path), before, "the worktree is not touched");
    assert_eq!(std::fs::read(repo.join(".git/worktrees/bd-1/index")).unwrap(), index);
    assert!(kept["ref"].as_str().unwrap().starts_with("refs/dx-runner/salvage/bd-1/2"), "{kept}");
    let counts = ["staged", "unstaged", "untracked"].map(|key| kept[key].as_u64().unwrap());
    assert_eq!(counts, [3, 3, 4], "{kept}");
    assert_eq!(only_row(&env)["salvages"], serde_json::json!([kept["ref"]]));

    // Saved exactly as it is, it may go; changed once more it may not.
    write(path.join("edited"), "later\n");
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    write(path.join("edited"), "a\0b");
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!path.exists());
    env.git(&repo, &["gc", "-q", "--prune=now"]);
    let back = restore(&env, &kept);
    assert_eq!(state(&env, &back), before);
    assert_eq!(read(back.join("committed")), "commit\n");
    assert_eq!(read(back.join(".env.local")), "SECRET=2\n");
    assert_eq!(read(back.join("dir/-untracked ü\n")), "mine\n");
    assert_eq!(std::fs::read_link(back.join("link")).unwrap(), Path::new("/nowhere"));
}

#[test]
fn clean_work_and_conflicts_are_kept_too() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    write(path.join("a.txt"), "two\n");
    env.git(&path, &["commit", "-q", "-am", "work"]);
    let kept = salvage(&env, "bd-1");
    assert_ne!(salvage(&env, "bd-1")["ref"], kept["ref"], "each has a name of its own");
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert_eq!(env.git(&repo, &["branch", "--list", "bd-1"]), "");
    assert_eq!(read(restore(&env, &kept).join("a.txt")), "two\n");

    let path = path_of(&create(&env, "bd-2", &repo, &[]));
    env.git(&path, &["checkout", "-q", "-b", "side"]);
    write(path.join("a.txt"), "side\n");
    env.git(&path, &["commit", "-q", "-am", "side"]);
    env.git(&path, &["checkout", "-q", "bd-2"]);
    write(path.join("a.txt"), "ours\n");
    env.git(&path, &["commit", "-q", "-am", "ours"]);
    let mut merge = env.command("git");
    merge.arg("-C").arg(&path).args(["merge", "-q", "side"]);
    env.run_command(merge).assert_code(1);
    // What is staged beside the conflict, and then changed again, is only in the index.
    write(path.join("other"), "staged\n");
    env.git(&path, &["add", "other"]);
    write(path.join("other"), "later\n");
    let kept = salvage(&env, "bd-2");
    assert_eq!(kept["not_kept"], serde_json::json!(["the state of a merge"]));
    let back = restore(&env, &kept);
    assert!(read(back.join("a.txt")).contains("<<<<<<<"));
    assert_eq!(
        (env.git(&back, &["show", ":other"]), read(back.join("other"))),
        ("staged\n".into(), "later\n".into())
    );
}

#[test]
fn a_worktree_whose_agent_set_traps_is_salvaged_without_running_them() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    let ran = env.path("ran");
    let touch = format!("touch {}; cat", ran.display());
    for key in [
        "filter.x.clean",
        "filter.x.smudge",
        "core.fsmonitor",
        "diff.external",
        "merge.x.driver",
        "gpg.program",
    ] {
        env.git(&repo, &["config", key, &touch]);
    }
    env.git(&repo, &["config", "commit.gpgSign", "true"]);
    write(path.join(".gitattributes"), "* filter=x merge=x\n");
    write(path.join("a.txt"), "two\n");
    // The `.git` file leads to a repository of the agent's; the record does not.
    env.git(env.path("tmp"), &["init", "-q", "evil"]);
    write(path.join(".git"), format!("gitdir: {}\n", env.path("tmp/evil/.git").display()));
    let kept = salvage(&env, "bd-1");
    assert_eq!((&kept["unstaged"], &kept["untracked"]), (&1.into(), &1.into()), "{kept}");
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!ran.exists());
    let text = env.git(&repo, &["cat-file", "-p", &format!("{}:a.txt", kept["commit"].as_str().unwrap())]);
    assert_eq!(text, "two\n");
}

#[test]
fn a_branch_that_was_left_for_another_is_kept_too() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    write(path.join("a.txt"), "two\n");
    env.git(&path, &["commit", "-q", "-am", "work"]);
    let tip = env.git(&path, &["rev-parse", "HEAD"]);
    env.git(&path, &["checkout", "-q", "-b", "side", "main"]);
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    let kept = salvage(&env, "bd-1");
    let branch = kept["branch_ref"].as_str().unwrap();
    assert_eq!(env.git(&repo, &["rev-parse", branch]), tip);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    env.git(&repo, &["gc", "-q", "--prune=now"]);
    restore(&env, &kept);
    let back = env.git(&repo, &["for-each-ref", "--format=%(objectname)", "refs/heads/bd-1.*"]);
    assert_eq!(back, tip, "{kept}");
}

#[test]
fn a_repository_is_named_exactly() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    let back = path.with_file_name("demo.back");
    env.git(&repo, &["worktree", "add", "-q", "--detach", back.to_str().unwrap()]);
    let error = refused(&env, 1, &["worktree", "remove", "bd-1", "--repo", back.to_str().unwrap()]);
    assert_eq!(error["reason_code"], "worktree_not_found", "{error}");
    // Nor is another repository of the same name meant.
    std::fs::create_dir(env.path("repos/more")).unwrap();
    env.git(env.path("repos/more"), &["init", "-q", "demo"]);
    let same = env.path("repos/more/demo");
    refused(&env, 1, &["worktree", "remove", "bd-1", "--repo", same.to_str().unwrap()]);
    assert!(path.exists() && back.exists());
    env.run(&["worktree", "remove", "bd-1", "--repo", path.to_str().unwrap()]).assert_code(0);
    assert!(!path.exists() && back.exists());
}

#[test]
fn a_worktree_whose_commit_has_no_file_is_kept_and_removed_like_any_other() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    env.git(&repo, &["rm", "-q", "a.txt"]);
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    env.git(&repo, &[&who[..], &["commit", "-q", "-m", "empty"]].concat());
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    write(path.join("new"), "new\n");
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    env.run(&["worktree", "salvage", "bd-1"]).assert_code(0);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!path.exists());
}

#[test]
fn edits_that_the_index_hides_beside_a_sparse_checkout_are_work() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("b.txt", "one\n"), ("src/c.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    let git_dir = PathBuf::from(env.git(&path, &["rev-parse", "--absolute-git-dir"]).trim());
    std::fs::create_dir_all(git_dir.join("info")).unwrap();
    write(git_dir.join("info/sparse-checkout"), "/*\n!/src/\n");
    env.git(&path, &["update-index", "--skip-worktree", "src/c.txt", "a.txt"]);
    env.git(&path, &["update-index", "--assume-unchanged", "b.txt"]);
    std::fs::remove_dir_all(path.join("src")).unwrap();
    write(path.join("a.txt"), "two\n");
    write(path.join("b.txt"), "two\n");
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert!(error["message"].as_str().unwrap().contains("changes that are not staged"), "{error}");
    let kept = salvage(&env, "bd-1");
    assert_eq!((&kept["unstaged"], &kept["untracked"]), (&2.into(), &0.into()), "{kept}");
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    let back = restore(&env, &kept);
    let read = |name: &str| read(back.join(name));
    assert_eq!(
        (read("a.txt"), read("b.txt"), read("src/c.txt")),
        ("two\n".into(), "two\n".into(), "one\n".into())
    );
}
