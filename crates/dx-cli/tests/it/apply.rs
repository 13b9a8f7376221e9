//! `diff` and `apply`: a job's work comes home whole, or not at all and with the reason.
//!
//! For: those commands. Must never: run git through the product's own code.

mod killed;
mod left_out;

use crate::world::{World, error_of, read, write};
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Runs a shell job in a worktree of its own; the worktree.
#[track_caller]
fn job(env: &TestEnv, repo: &Path, id: &str, script: &str) -> PathBuf {
    let repo = repo.to_str().unwrap();
    let start = ["start", "--id", id, "--provider", "exec", "--worktree", "auto", "--repo", repo, "--wait"];
    env.run(&[&start[..], &["--", "sh", "-ec", script]].concat()).assert_code(0);
    let check: Value =
        serde_json::from_str(&env.run(&["check", "--id", id, "--json"]).assert_code(0).stdout).unwrap();
    PathBuf::from(check["worktree"].as_str().unwrap())
}

#[track_caller]
fn apply(env: &TestEnv, id: &str, more: &[&str]) -> Value {
    let args = [&["--json", "apply", "--beads", id], more].concat();
    document(env, "apply", &env.run(&args).assert_code(0).stdout)
}

#[track_caller]
fn refused(env: &TestEnv, code: i32, args: &[&str]) -> Value {
    let output = env.run(&[&["--json"], args].concat()).assert_code(code);
    error_of(env, &output)
}

/// Everything that may not change when an apply is refused. Refs of ours are no branch.
fn state(env: &TestEnv, repo: &Path) -> (String, String, String, String) {
    (
        env.git(repo, &["for-each-ref", "refs/heads", "refs/tags"]),
        env.git(repo, &["status", "--porcelain", "--untracked-files=all"]),
        env.git(repo, &["diff", "HEAD"]),
        env.git(repo, &["symbolic-ref", "HEAD"]),
    )
}

const COMMIT: &str = "git -c user.name=a -c user.email=a@example.invalid commit -q -m work";

#[test]
fn commits_and_uncommitted_changes_come_home() {
    let env = environment();
    let repo =
        env.git_repo("demo", &[("a.txt", "one\n"), ("gone", "x\n"), ("staged", "s\n"), ("sub/keep", "k\n")]);
    let script = format!(
        "echo committed > new.txt; git add new.txt; {COMMIT}
         echo two > a.txt; rm gone; echo more >> staged; git add staged; echo again >> staged
         mkdir -p deep/er; echo untracked > 'deep/er/ü file'; printf 'a\\000b' > binary; ln -s /nowhere link
         printf '#!/bin/sh\\n' > tool; chmod +x tool"
    );
    let worktree = job(&env, &repo, "bd-1", &script);
    let before = env.git(&worktree, &["status", "--porcelain"]);

    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    for part in ["+committed\n", "-one\n+two\n", "deleted file mode", "+++ b/link\n", "new file mode 100755"]
    {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    let told = document(&env, "diff", &env.run(&["diff", "--beads", "bd-1", "--json"]).assert_code(0).stdout);
    assert_eq!(told["diff"], diff);

    let applied = apply(&env, "bd-1", &[]);
    assert_eq!(
        (&applied["branch"], &applied["changed"], &applied["created"]),
        (&"main".into(), &true.into(), &false.into())
    );
    assert_eq!(applied["commits"].as_array().unwrap().len(), 2, "{applied}");
    assert_eq!(env.git(&repo, &["rev-parse", "main"]).trim(), applied["now"]);
    assert_eq!(env.git(&repo, &["status", "--porcelain"]), "", "index and files came along");
    for (file, text) in [
        ("new.txt", "committed\n"),
        ("a.txt", "two\n"),
        ("staged", "s\nmore\nagain\n"),
        ("deep/er/ü file", "untracked\n"),
        ("sub/keep", "k\n"),
    ] {
        assert_eq!(read(repo.join(file)), text, "{file}");
    }
    assert!(!repo.join("gone").exists());
    assert_eq!(std::fs::read(repo.join("binary")).unwrap(), b"a\0b");
    assert_eq!(std::fs::read_link(repo.join("link")).unwrap(), Path::new("/nowhere"));
    assert_eq!(std::fs::metadata(repo.join("tool")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(env.git(&worktree, &["status", "--porcelain"]), before, "the worktree is not touched");

    let again = apply(&env, "bd-1", &[]);
    assert_eq!((&again["changed"], &again["now"]), (&false.into(), &applied["now"]));
    // What was staged and then changed again is only in the index; what was brought home is no reason to keep it.
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    env.git(&worktree, &["add", "--all"]);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!worktree.exists());
    // Its commits are merged, and an apply of them says so.
    assert_eq!(apply(&env, "bd-1", &[])["changed"], false);
}

#[test]
fn both_sides_are_merged_when_the_branch_went_on() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("b.txt", "one\n")]);
    job(&env, &repo, "bd-1", "echo job > a.txt");
    write(repo.join("b.txt"), "user\n");
    env.git(&repo, &["commit", "-q", "-am", "user"]);
    write(repo.join("untracked"), "the user's\n");
    let applied = apply(&env, "bd-1", &[]);
    assert_eq!(applied["changed"], true);
    assert_eq!(
        (read(repo.join("a.txt")), read(repo.join("b.txt"))),
        ("job\n".to_owned(), "user\n".to_owned())
    );
    assert_eq!(env.git(&repo, &["status", "--porcelain"]), "?? untracked\n");
    assert_eq!(
        env.git(&repo, &["rev-list", "--parents", "--max-count=1", "HEAD"]).split_whitespace().count(),
        3
    );
    assert_eq!(apply(&env, "bd-1", &[])["changed"], false);
}

#[test]
fn other_branches_move_without_the_checkout() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    job(&env, &repo, "bd-1", "echo job > a.txt; echo new > new");
    // A dirty checkout of another branch is nobody's business.
    write(repo.join("a.txt"), "dirty\n");
    let applied = apply(&env, "bd-1", &["--branch", "results/x"]);
    assert_eq!((&applied["created"], &applied["was"]), (&true.into(), &Value::Null));
    assert_eq!(env.git(&repo, &["show", "results/x:a.txt"]), "job\n");
    assert_eq!(read(repo.join("a.txt")), "dirty\n");
    assert!(!repo.join("new").exists());
    env.git(&repo, &["branch", "other"]);
    let applied = apply(&env, "bd-1", &["--branch", "other"]);
    assert_eq!(applied["created"], false);
    assert_eq!(env.git(&repo, &["show", "other:new"]), "new\n");
    for (branch, code, reason) in [
        ("bd-1", 64, "invalid_argument"),
        ("-x", 64, "invalid_argument"),
        ("a..b", 64, "invalid_argument"),
        ("main", 32, "target_dirty"),
    ] {
        let option = format!("--branch={branch}");
        assert_eq!(
            refused(&env, code, &["apply", "--beads", "bd-1", &option])["reason_code"],
            reason,
            "{branch}"
        );
    }
    let second = job(&env, &repo, "bd-2", "true");
    env.git(&second, &["switch", "-q", "other"]);
    let error = refused(&env, 32, &["apply", "--beads", "bd-1", "--branch", "other"]);
    assert_eq!(error["reason_code"], "branch_taken");
    env.git(&repo, &["checkout", "-q", "--detach"]);
    refused(&env, 64, &["apply", "--beads", "bd-1"]);
    refused(&env, 1, &["apply", "--beads", "nobody"]);
}

#[test]
fn conflicts_are_explained_and_nothing_is_applied() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a b.txt", "one\n"), ("gone", "x\n"), ("fine", "x\n")]);
    let script = "echo job > 'a b.txt'; echo changed > gone; echo job > fine; printf 'j\\000' > bin";
    job(&env, &repo, "bd-1", script);
    write(repo.join("a b.txt"), "user\n");
    write(repo.join("bin"), "u\0");
    std::fs::remove_file(repo.join("gone")).unwrap();
    env.git(&repo, &["add", "--all"]);
    env.git(&repo, &["commit", "-q", "-m", "user"]);
    let before = state(&env, &repo);
    let error = refused(&env, 32, &["apply", "--beads", "bd-1"]);
    assert_eq!(error["reason_code"], "apply_conflict");
    let message = error["message"].as_str().unwrap();
    for part in [
        "a b.txt: both changed the same lines",
        "gone: one side changed it and the other deleted it",
        "bin: ",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("fine"), "{message}");
    assert_eq!(state(&env, &repo), before);
    assert_eq!(read(repo.join("fine")), "x\n");
    // What it says to do works.
    let next = error["next_action"].as_str().unwrap();
    let merge = next.split(',').next().unwrap();
    let mut shell = env.command("sh");
    shell.args(["-c", merge]);
    env.run_command(shell).assert_code(1);
    assert!(read(repo.join("a b.txt")).contains("<<<<<<<"));
    // An unfinished merge of the user's is not touched either.
    let before = env.git(&repo, &["status", "--porcelain"]);
    let error = refused(&env, 32, &["apply", "--beads", "bd-1"]);
    assert_eq!(error["reason_code"], "target_dirty");
    assert!(error["message"].as_str().unwrap().contains("a merge"), "{error}");
    assert_eq!(env.git(&repo, &["status", "--porcelain"]), before);
}

#[test]
fn a_dirty_target_is_not_touched() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("b.txt", "one\n")]);
    job(&env, &repo, "bd-1", "echo job > a.txt; echo job > new");
    // Staged, not staged, and an untracked file in the way.
    for (file, stage, text) in
        [("b.txt", true, "user\n"), ("a.txt", false, "user\n"), ("new", false, "user\n")]
    {
        write(repo.join(file), text);
        if stage {
            env.git(&repo, &["add", file]);
        }
        let before = state(&env, &repo);
        let error = refused(&env, 32, &["apply", "--beads", "bd-1"]);
        assert_eq!(error["reason_code"], "target_dirty", "{file}: {error}");
        assert!(error["message"].as_str().unwrap().contains(file), "{error}");
        assert!(!error["message"].as_str().unwrap().contains("hint"), "{error}");
        assert_eq!(state(&env, &repo), before, "{file}");
        assert_eq!(read(repo.join(file)), text);
        env.git(&repo, &["reset", "-q", "--hard"]);
        if file == "new" {
            std::fs::remove_file(repo.join(file)).unwrap();
        }
    }
    assert_eq!(apply(&env, "bd-1", &[])["changed"], true);
}

#[test]
fn only_what_the_job_did_is_applied() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("b.txt", "one\n")]);
    let worktree = env.path("repos/tree");
    env.git(&repo, &["worktree", "add", "-q", "-b", "side", worktree.to_str().unwrap()]);
    write(worktree.join("b.txt"), "dirty before\n");
    write(worktree.join("mine"), "before\n");
    let place = worktree.to_str().unwrap();
    let start = ["start", "--id", "bd-1", "--provider", "exec", "--worktree", place, "--wait", "--"];
    env.run(&[&start[..], &["sh", "-c", "echo job > a.txt"]].concat()).assert_code(0);
    let applied = apply(&env, "bd-1", &[]);
    assert_eq!(applied["files_changed"], serde_json::json!(["a.txt"]));
    assert_eq!(read(repo.join("b.txt")), "one\n");
    assert!(!repo.join("mine").exists());
}

#[test]
fn a_live_job_and_a_misled_worktree_are_refused() {
    let world = World::new();
    let env = &world.env;
    let gate = world.path("gate");
    world.start("live", &[], &[&format!("wait-file:{gate}")]);
    assert_eq!(refused(env, 32, &["apply", "--beads", "live"])["reason_code"], "already_running");
    write(&gate, "");
    let repo = env.git_repo("other", &[("a.txt", "one\n")]);
    job(env, &repo, "bd-1", "echo job > a.txt");
    env.git(env.path("tmp"), &["clone", "-q", repo.to_str().unwrap(), "evil"]);
    write(repo.join(".git/worktrees/bd-1/commondir"), format!("{}\n", env.path("tmp/evil/.git").display()));
    let before = state(env, &repo);
    assert_eq!(refused(env, 1, &["apply", "--beads", "bd-1"])["reason_code"], "repository_redirected");
    assert_eq!(state(env, &repo), before);
}

#[test]
fn nothing_that_the_job_configured_runs() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\ntwo\nthree\n"), ("b.txt", "one\n")]);
    let ran = env.path("ran");
    let evil = env.path("evil");
    write(&evil, format!("#!/bin/sh\necho \"$@\" >> {}\ncat\n", ran.display()));
    std::fs::set_permissions(&evil, PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!(
        "e={evil}
         for k in filter.x.clean filter.x.smudge filter.x.process merge.x.driver diff.x.textconv core.fsmonitor diff.external core.pager \
             core.sshCommand gpg.program gpg.ssh.program core.editor; do git config $k \"$e $k\"; done
         git config commit.gpgSign true; git config merge.verifySignatures true; git config gc.auto 1; git config merge.default x
         for h in reference-transaction post-merge post-checkout post-index-change pre-auto-gc post-commit; do
             cp $e $(git rev-parse --git-common-dir)/hooks/$h; done
         echo job > b.txt; sed -i s/three/job/ a.txt; echo '* filter=x merge=x diff=x' > .gitattributes",
        evil = evil.display()
    );
    let repo_text = repo.to_str().unwrap();
    let start = [
        "start",
        "--id",
        "bd-1",
        "--provider",
        "exec",
        "--sandbox",
        "off",
        "--worktree",
        "auto",
        "--repo",
        repo_text,
        "--wait",
    ];
    env.run(&[&start[..], &["--", "sh", "-c", &script]].concat());
    // What the agent's own git calls ran is not ours.
    let _agents = std::fs::remove_file(&ran);
    // The main checkout moved on in the same file, so that there is a merge to be driven. Without git, which is armed.
    let mut git = env.command("git");
    git.arg("-C").arg(&repo).args([
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "commit.gpgSign=false",
    ]);
    write(repo.join("a.txt"), "user\ntwo\nthree\n");
    git.args(["commit", "-q", "-am", "user"]);
    env.run_command(git).assert_code(0);
    let _armed = std::fs::remove_file(&ran);
    let applied = apply(&env, "bd-1", &[]);
    assert_eq!(applied["changed"], true);
    assert!(!ran.exists(), "{}", read(&ran));
    assert_eq!(read(repo.join("a.txt")), "user\ntwo\njob\n");
    assert_eq!(read(repo.join("b.txt")), "job\n");
}

#[test]
fn a_changed_project_file_is_remarked() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    job(&env, &repo, "bd-1", "echo '[worktree]' > .dx-runner.toml");
    let applied = apply(&env, "bd-1", &["--branch", "look"]);
    assert!(applied["remarks"][0].as_str().unwrap().contains(".dx-runner.toml"), "{applied}");
}

#[test]
fn what_git_was_told_to_pass_over_comes_home_and_is_never_written_over() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("b.txt", "b\n"), ("gone", "x\n")]);
    let hide = "git update-index --assume-unchanged a.txt; git update-index --skip-worktree gone
        echo two > a.txt; rm gone";
    let worktree = job(&env, &repo, "bd-1", hide);
    assert_eq!(env.git(&worktree, &["status", "--porcelain"]), "", "it is hidden from a plain look");
    let listed: Value =
        serde_json::from_str(&env.run(&["worktree", "list", "--json"]).assert_code(0).stdout).unwrap();
    assert_eq!(listed["worktrees"][0]["dirty"], true, "{listed}");
    // The user's own hidden edit of a file that would change.
    env.git(&repo, &["update-index", "--assume-unchanged", "a.txt"]);
    write(repo.join("a.txt"), "the user's\n");
    let error = refused(&env, 32, &["apply", "--beads", "bd-1"]);
    assert_eq!(error["reason_code"], "target_dirty", "{error}");
    assert!(error["message"].as_str().unwrap().contains("a.txt"), "{error}");
    assert_eq!(read(repo.join("a.txt")), "the user's\n");
    // One of a file that stays is left alone.
    env.git(&repo, &["update-index", "--no-assume-unchanged", "a.txt"]);
    write(repo.join("a.txt"), "one\n");
    env.git(&repo, &["update-index", "--skip-worktree", "b.txt"]);
    write(repo.join("b.txt"), "the user's\n");
    apply(&env, "bd-1", &[]);
    assert_eq!((read(repo.join("a.txt")), read(repo.join("b.txt"))), ("two\n".into(), "the user's\n".into()));
    assert!(!repo.join("gone").exists());
}

#[test]
fn no_later_run_takes_a_replaced_repository_for_the_worktrees_own() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let worktree = job(&env, &repo, "bd-1", "echo two > a.txt");
    std::fs::remove_file(worktree.join(".git")).unwrap();
    env.git(&worktree, &["init", "-q"]);
    let place = worktree.to_str().unwrap();
    let source = repo.to_str().unwrap();
    for (id, more) in [
        ("bd-1", &["--worktree", place][..]),
        ("bd-2", &["--worktree", place]),
        ("bd-1", &["--worktree", "auto", "--repo", source]),
    ] {
        let start =
            [&["start", "--id", id, "--provider", "exec"][..], more, &["--wait", "--", "true"]].concat();
        assert_eq!(refused(&env, 1, &start)["reason_code"], "repository_redirected", "{id} {more:?}");
    }
    assert_eq!(refused(&env, 1, &["restart", "--id", "bd-1"])["reason_code"], "repository_redirected");
}
