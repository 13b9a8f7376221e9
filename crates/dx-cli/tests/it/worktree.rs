//! `worktree create|list|remove|salvage`: whole or not at all, and nothing dirty is ever lost.
//!
//! For: those commands. Must never: run git through the product's own code.

mod inside;
mod kills;
mod occupied;
mod salvage;
mod setup;
mod setup_rights;

use crate::world::{World, error_of, read, write};
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Makes a worktree and returns its document.
#[track_caller]
fn create(env: &TestEnv, id: &str, repo: &Path, more: &[&str]) -> Value {
    let repo = repo.to_str().unwrap();
    let args = [&["--json", "worktree", "create", id, "--repo", repo], more].concat();
    document(env, "worktree", &env.run(&args).assert_code(0).stdout)
}

/// The error of a command that fails with this code.
#[track_caller]
fn refused(env: &TestEnv, code: i32, args: &[&str]) -> Value {
    let output = env.run(&[&["--json"], args].concat()).assert_code(code);
    error_of(env, &output)
}

#[track_caller]
fn path_of(document: &Value) -> PathBuf {
    PathBuf::from(document["path"].as_str().unwrap())
}

fn list(env: &TestEnv) -> Value {
    document(env, "worktrees", &env.run(&["worktree", "list", "--json"]).assert_code(0).stdout)
}

/// The one row of the list.
#[track_caller]
fn only_row(env: &TestEnv) -> Value {
    let all = list(env);
    let [row] = &all["worktrees"].as_array().unwrap()[..] else { panic!("{all}") };
    row.clone()
}

/// That git itself finds nothing wrong, and that the tree is what the commit says.
#[track_caller]
fn assert_whole(env: &TestEnv, worktree: &Path, branch: &str) {
    assert_eq!(env.git(worktree, &["status", "--porcelain"]), "");
    assert_eq!(env.git(worktree, &["symbolic-ref", "--short", "HEAD"]).trim(), branch);
    assert_eq!(env.git(worktree, &["rev-parse", "--show-toplevel"]).trim(), worktree.to_str().unwrap());
}

fn branches(env: &TestEnv, repo: &Path) -> String {
    env.git(repo, &["branch", "--format=%(refname:short)"])
}

#[test]
fn made_listed_and_removed() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("sub/b.txt", "two\n")]);
    let made = create(&env, "bd-1", &repo, &[]);
    let path = path_of(&made);
    assert_eq!(path, env.path("xdg/data/dx-runner/worktrees/bd-1/demo"));
    assert_eq!(made["branch"], "bd-1");
    assert_eq!(made["base"], env.git(&repo, &["rev-parse", "HEAD"]).trim());
    assert_eq!(made["created"], true);
    assert_whole(&env, &path, "bd-1");
    assert_eq!(read(path.join("sub/b.txt")), "two\n");
    // Git's own commands on it work.
    assert_eq!(env.git(&repo, &["worktree", "list", "--porcelain"]).matches("worktree ").count(), 2);
    env.git(&repo, &["worktree", "prune"]);
    env.git(&repo, &["fsck", "--strict"]);

    let mut command = env.product();
    command.current_dir(repo.join("sub")).args(["--json", "worktree", "create", "bd-1", "--repo", "."]);
    let again = document(&env, "worktree", &env.run_command(command).assert_code(0).stdout);
    assert_eq!((&again["created"], &again["path"]), (&Value::Bool(false), &made["path"]));

    let row = only_row(&env);
    assert_eq!(row["state"], "ready");
    assert_eq!((&row["ahead"], &row["behind"], &row["dirty"]), (&0.into(), &0.into(), &false.into()));
    assert!(row["size_bytes"].as_u64().unwrap() > 0 && row["owner"].is_null(), "{row}");

    let removed = env.run(&["worktree", "remove", "bd-1", "--json"]).assert_code(0);
    let removed = document(&env, "worktree-removed", &removed.stdout);
    assert_eq!(removed["branch_removed"], true, "{removed}");
    assert!(!path.parent().unwrap().exists());
    assert_eq!(branches(&env, &repo), "main\n");
    assert_eq!(env.git(&repo, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(list(&env)["worktrees"], Value::Array(Vec::new()));
    let gone = refused(&env, 1, &["worktree", "remove", "bd-1"]);
    assert_eq!(gone["reason_code"], "worktree_not_found");
    // The id can be used again.
    assert_whole(&env, &path_of(&create(&env, "bd-1", &repo, &[])), "bd-1");
}

#[test]
fn base_and_branch_are_taken_or_refused() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let first = env.git(&repo, &["rev-parse", "HEAD"]).trim().to_owned();
    write(repo.join("a.txt"), "two\n");
    env.git(&repo, &["commit", "-q", "-am", "second"]);
    let made = create(&env, "old", &repo, &["--base", "HEAD~1", "--branch", "feature/x"]);
    assert_eq!((&made["branch"], made["base"].as_str()), (&"feature/x".into(), Some(first.as_str())));
    assert_whole(&env, &path_of(&made), "feature/x");
    assert_eq!(read(path_of(&made).join("a.txt")), "one\n");

    let r = repo.to_str().unwrap();
    let create_args =
        |id: &'static str, more: [&'static str; 2]| ["worktree", "create", id, "--repo", r, more[0], more[1]];
    for (id, more, code, reason) in [
        ("old", ["--branch", "other"], 32, "worktree_exists"),
        ("old", ["--base", "main"], 32, "worktree_exists"),
        ("new", ["--branch", "feature/x"], 32, "branch_taken"),
        ("new", ["--branch", "main"], 32, "branch_taken"),
        ("new", ["--base", "nothing"], 64, "invalid_argument"),
        ("new", ["--base=--help", "-q"], 64, "invalid_argument"),
        ("new", ["--branch=-x", "-q"], 64, "invalid_argument"),
        ("new", ["--branch", "a b"], 64, "invalid_argument"),
        ("new", ["--branch", "a..b"], 64, "invalid_argument"),
        ("x.lock", ["-q", "-q"], 64, "invalid_argument"),
    ] {
        let error = refused(&env, code, &create_args(id, more));
        assert_eq!(error["reason_code"], reason, "{id} {more:?}: {error}");
    }
    let all = list(&env);
    assert_eq!(all["worktrees"].as_array().unwrap().len(), 1, "what was refused left nothing: {all}");

    // A branch that is there and free is taken as it is.
    env.git(&repo, &["branch", "free", "HEAD~1"]);
    let made = create(&env, "taker", &repo, &["--branch", "free"]);
    assert_eq!(made["base"], first);
    env.run(&["worktree", "remove", "taker"]).assert_code(0);
    assert!(branches(&env, &repo).contains("free"), "a branch that we did not make stays");
}

#[test]
fn odd_names_work_or_are_refused_early() {
    let env = environment();
    for name in ["with space", "-dash", "umläut-ß", "a'b\"c", "x.lock", "tilde~1"] {
        let plain = env.git_repo("plain", &[("a.txt", "one\n")]);
        let repo = env.path("repos").join(name);
        std::fs::rename(plain, &repo).unwrap();
        let id = format!("odd-{}", name.len());
        let made = create(&env, &id, &repo, &[]);
        assert_whole(&env, &path_of(&made), &id);
        env.git(&repo, &["worktree", "prune"]);
        assert_eq!(
            env.git(&repo, &["worktree", "list", "-z", "--porcelain"]).matches("worktree ").count(),
            2
        );
        env.run(&["worktree", "remove", &id]).assert_code(0);
    }
    let plain = env.git_repo("plain", &[("a.txt", "one\n")]);
    let repo = env.path("repos").join(OsStr::from_bytes(b"bad-\xff"));
    std::fs::rename(plain, &repo).unwrap();
    let mut command = env.product();
    command.args(["--json", "worktree", "create", "bad", "--repo"]).arg(&repo);
    let error = error_of(&env, &env.run_command(command).assert_code(64));
    assert_eq!(error["reason_code"], "invalid_argument");
    let mut command = env.product();
    command.current_dir(&repo);
    command.args(["--json", "start", "--id", "bad", "--provider", "exec", "--worktree", ".", "--", "true"]);
    let error = error_of(&env, &env.run_command(command).assert_code(64));
    assert!(error["message"].as_str().unwrap().contains("UTF-8"), "{error}");
    assert_eq!(std::fs::read_dir(env.state_dir().join("runs")).unwrap().count(), 0);
    assert!(!env.path("xdg/data/dx-runner/worktrees/bad").exists());
}

#[test]
fn repositories_of_every_shape() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let bare = env.path("repos/store.git");
    env.git(&repo, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    assert_whole(&env, &path_of(&create(&env, "bare", &bare, &[])), "bare");
    // With what `git worktree add` has to do itself.
    env.git(&repo, &["config", "extensions.worktreeConfig", "true"]);
    assert_whole(&env, &path_of(&create(&env, "config", &repo, &[])), "config");
    env.git(env.path("repos"), &["init", "-q", "-b", "main", "empty"]);
    let empty = env.path("repos/empty");
    let error = refused(&env, 64, &["worktree", "create", "none", "--repo", empty.to_str().unwrap()]);
    assert!(error["next_action"].as_str().unwrap().contains("first commit"), "{error}");
    let error = refused(&env, 22, &["worktree", "create", "none", "--repo", "/"]);
    assert_eq!(error["reason_code"], "worktree_missing");
    assert!(!env.path("xdg/data/dx-runner/worktrees/none").exists());
}

#[test]
fn thirty_two_at_once_all_succeed() {
    const COUNT: usize = 32;
    let env = environment();
    let files: Vec<(String, String)> =
        (0..2_000).map(|n| (format!("d{}/f{n}", n % 20), format!("{n}\n"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let repo = env.git_repo("many", &files);
    let children: Vec<_> = (0..COUNT)
        .map(|n| {
            let mut command = env.product();
            command.args(["worktree", "create", &format!("w{n}"), "--repo"]).arg(&repo);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for n in 0..COUNT {
        let path = env.path(format!("xdg/data/dx-runner/worktrees/w{n}/many"));
        assert_whole(&env, &path, &format!("w{n}"));
    }
    assert_eq!(env.git(&repo, &["worktree", "list"]).lines().count(), COUNT + 1);
    assert_eq!(list(&env)["worktrees"].as_array().unwrap().len(), COUNT);
}

#[test]
fn one_id_at_once_is_made_once() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    write(repo.join(".dx-runner.toml"), "[worktree]\nsetup = [\"echo x >> ../ran\"]\n");
    let children: Vec<_> = (0..8)
        .map(|_| {
            let mut command = env.product();
            command.args(["worktree", "create", "same", "--json", "--repo"]).arg(&repo);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let fresh = outputs.filter(|output| {
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).contains("\"created\":true")
    });
    assert_eq!(fresh.count(), 1);
    assert_eq!(read(env.path("xdg/data/dx-runner/worktrees/same/ran")), "x\n");
}

#[test]
fn remove_refuses_what_is_nowhere_else() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), (".gitignore", "*.o\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    let work = |path: &Path| env.git(path, &["status", "--porcelain"]);
    let assert_refused = |part: &str| {
        let before = work(&path);
        let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
        assert_eq!(error["reason_code"], "worktree_unsaved");
        assert!(error["message"].as_str().unwrap().contains(part), "{part}: {error}");
        assert!(error["next_action"].as_str().unwrap().contains("salvage bd-1"), "{error}");
        assert_eq!(work(&path), before);
        assert!(read(path.join("a.txt")).starts_with("one\n"));
    };
    write(path.join("new.txt"), "new\n");
    assert_refused("1 files that are in no commit");
    assert_eq!(only_row(&env)["dirty"], true);
    std::fs::remove_file(path.join("new.txt")).unwrap();
    write(path.join("a.txt"), "one\nmore\n");
    assert_refused("changes that are not staged");
    // An agent that hides its change from `git status`.
    env.git(&path, &["update-index", "--assume-unchanged", "a.txt"]);
    assert_eq!(work(&path), "");
    assert_refused("changes that are not staged");
    env.git(&path, &["update-index", "--no-assume-unchanged", "a.txt"]);
    env.git(&path, &["add", "a.txt"]);
    assert_refused("staged changes");
    env.git(&path, &["commit", "-q", "-m", "work"]);
    assert_eq!(only_row(&env)["ahead"], 1);
    assert_refused("1 commits that no other branch");
    // What git ignores is not work.
    write(path.join("x.o"), "object\n");
    env.git(&repo, &["merge", "-q", "--ff-only", "bd-1"]);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!path.exists());
    assert_eq!(branches(&env, &repo), "main\n");
}

#[test]
fn remove_refuses_nested_repositories_and_what_is_not_finished() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "nest", &repo, &[]));
    env.git(&path, &["init", "-q", "inner"]);
    write(path.join("inner/only-here"), "work\n");
    let error = refused(&env, 32, &["worktree", "remove", "nest"]);
    assert!(error["message"].as_str().unwrap().contains("inner/ is a repository"), "{error}");
    // A salvage says that it cannot hold it, and changes nothing about that.
    let kept = env.run(&["worktree", "salvage", "nest", "--json"]).assert_code(0);
    let kept = document(&env, "salvage", &kept.stdout);
    assert_eq!(kept["not_kept"], serde_json::json!(["inner/"]));
    refused(&env, 32, &["worktree", "remove", "nest"]);
    assert_eq!(read(path.join("inner/only-here")), "work\n");
    std::fs::remove_dir_all(path.join("inner")).unwrap();
    // Folders that may not be written are no obstacle.
    std::fs::create_dir(path.join("a")).unwrap();
    write(path.join(".git-is-here"), "");
    std::fs::remove_file(path.join(".git-is-here")).unwrap();
    std::fs::remove_dir(path.join("a")).unwrap();

    env.git(&path, &["checkout", "-q", "-b", "side"]);
    write(path.join("a.txt"), "side\n");
    env.git(&path, &["commit", "-q", "-am", "side"]);
    env.git(&path, &["checkout", "-q", "nest"]);
    write(path.join("a.txt"), "nest\n");
    env.git(&path, &["commit", "-q", "-am", "nest"]);
    let mut merge = env.command("git");
    merge.arg("-C").arg(&path).args(["merge", "-q", "side"]);
    env.run_command(merge).assert_code(1);
    let error = refused(&env, 32, &["worktree", "remove", "nest"]);
    assert!(error["message"].as_str().unwrap().contains("a merge that is not finished"), "{error}");
}

#[test]
fn a_worktree_that_the_repository_does_not_lead_to_is_not_removed() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    write(path.join("work"), "work\n");
    write(repo.join(".git/worktrees/bd-1/gitdir"), "/elsewhere/.git\n");
    assert_eq!(only_row(&env)["state"], "broken");
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert_eq!(error["reason_code"], "worktree_unsaved", "{error}");
    assert_eq!(read(path.join("work")), "work\n");
    // Its work can be saved; not so when git would write into another repository.
    env.run(&["worktree", "salvage", "bd-1"]).assert_code(0);
    env.git(env.path("tmp"), &["init", "-q", "evil"]);
    write(repo.join(".git/worktrees/bd-1/commondir"), format!("{}\n", env.path("tmp/evil/.git").display()));
    let error = refused(&env, 1, &["worktree", "salvage", "bd-1"]);
    assert_eq!(error["reason_code"], "repository_redirected");
    // A folder that somebody deleted has nothing to lose; its branch stays when it has.
    let path = path_of(&create(&env, "bd-2", &repo, &[]));
    write(path.join("a.txt"), "two\n");
    env.git(&path, &["commit", "-q", "-am", "work"]);
    std::fs::remove_dir_all(&path).unwrap();
    env.run(&["worktree", "remove", "bd-2"]).assert_code(0);
    assert!(branches(&env, &repo).contains("bd-2"));
    let made = create(&env, "bd-2", &repo, &[]);
    assert_eq!(read(path_of(&made).join("a.txt")), "two\n");
}

#[test]
fn jobs_own_their_worktrees() {
    let world = World::new();
    let env = &world.env;
    let gate = world.path("gate");
    let repo = world.repo.to_str().unwrap();
    let agent = env.fake_agent().display().to_string();
    env.run(&[
        "start",
        "--id",
        "bd-1",
        "--provider",
        "exec",
        "--worktree",
        "auto",
        "--repo",
        repo,
        "--",
        &agent,
        &format!("wait-file:{gate}"),
    ])
    .assert_code(0);
    let row = only_row(env);
    assert_eq!(row["owner"]["provider"], "exec", "{row}");
    assert_eq!(row["owner"]["ended"], false, "{row}");
    let error = refused(env, 32, &["worktree", "remove", "bd-1"]);
    assert_eq!(error["reason_code"], "worktree_in_use");
    // A live one can be salvaged.
    env.run(&["worktree", "salvage", "bd-1"]).assert_code(0);
    write(&gate, "");
    env.run(&["wait", "--id", "bd-1"]).assert_code(0);
    assert_eq!(only_row(env)["owner"]["ended"], true);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
}

#[test]
fn a_budget_refuses_and_remarks() {
    let mut env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    create(&env, "one", &repo, &[]);
    env.set("DX_RUNNER_WORKTREE_BUDGET", "1K");
    let args = ["worktree", "create", "two", "--repo", repo.to_str().unwrap()];
    let error = refused(&env, 32, &args);
    assert_eq!(error["reason_code"], "worktree_budget_exceeded");
    assert!(!branches(&env, &repo).contains("two"));
    let used = list(&env)["size_bytes"].as_u64().unwrap();
    env.set("DX_RUNNER_WORKTREE_BUDGET", (used + used / 10 + 4096).to_string());
    assert!(list(&env)["budget_bytes"].as_u64().unwrap() > used);
    let made = create(&env, "two", &repo, &[]);
    assert!(made["remarks"][0].as_str().unwrap().contains("BUDGET"), "{made}");
    env.set("DX_RUNNER_WORKTREE_BUDGET", "much\u{1b}[2J");
    let error = refused(&env, 64, &["worktree", "create", "three", "--repo", repo.to_str().unwrap()]);
    assert!(error["message"].as_str().unwrap().contains("`much\\u{1b}[2J`"), "{error}");
}
