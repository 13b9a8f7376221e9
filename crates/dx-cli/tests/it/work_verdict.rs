//! The work verdict: what an agent changed, told truthfully whatever it did to the worktree, its branches and its git.
//!
//! For: supervision 20 and the verdict `work`. Must never: call git in a way that runs what a test planted.

use crate::environment;
use crate::world::{read, write};
use dx_testkit::TestEnv;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Commits of a script have an author.
const AUTHOR: &str = "set -eu
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.invalid GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.invalid
";

/// A repository with three commits on `main`; each changes `log.txt`, the last adds `added.txt`.
fn repository(env: &TestEnv) -> PathBuf {
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("log.txt", "1\n")]);
    write(repo.join("log.txt"), "2\n");
    env.git(&repo, &["commit", "--quiet", "--all", "--message=second"]);
    write(repo.join("log.txt"), "3\n");
    write(repo.join("added.txt"), "added\n");
    env.git(&repo, &["add", "--all"]);
    env.git(&repo, &["commit", "--quiet", "--message=third"]);
    repo
}

/// Runs a job of a script in a worktree to its end, which must be a success unless `code` says otherwise.
#[track_caller]
fn job(env: &TestEnv, worktree: &Path, id: &str, code: i32, script: &str) -> Value {
    let worktree = worktree.display().to_string();
    let script = format!("{AUTHOR}{script}");
    let args = ["start", "--beads", id, "--provider", "exec", "--worktree", &worktree, "--wait", "--"];
    env.run(&[&args[..], &["sh", "-c", &script]].concat()).assert_code(code);
    let output = env.run(&["check", "--beads", id, "--json"]).assert_code(code);
    crate::document(env, "check", &output.stdout)
}

fn files(check: &Value) -> Vec<String> {
    serde_json::from_value(check["outcome"]["work"]["files_changed"].clone()).unwrap()
}

fn subjects(check: &Value) -> Vec<String> {
    let list = check["outcome"]["work"]["commit_list"].as_array().cloned().unwrap_or_default();
    list.iter().map(|commit| commit["subject"].as_str().unwrap().to_owned()).collect()
}

fn head_move(check: &Value) -> String {
    check["outcome"]["work"]["head_move"].as_str().unwrap_or("stay").to_owned()
}

/// Word, mutations, reason, files, subjects and the move of HEAD.
#[track_caller]
fn assert_work(check: &Value, word: &str, mutations: u64, of: (&str, &[&str], &[&str], &str)) {
    let (reason, changed, told, moved) = of;
    assert_eq!(check["verdicts"]["work"], word, "{check:#}");
    assert_eq!(check["outcome"]["work"]["mutations"], mutations, "{check:#}");
    assert_eq!(check["mutation_count"], mutations, "{check:#}");
    assert_eq!(check["reason_code"], reason, "{check:#}");
    assert_eq!(files(check), changed, "{check:#}");
    assert_eq!(subjects(check), told, "{check:#}");
    assert_eq!(head_move(check), moved, "{check:#}");
}

fn findings(check: &Value) -> Vec<(String, Vec<String>)> {
    let list = check["outcome"]["work"]["findings"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|finding| {
            let names = serde_json::from_value(finding["names"].clone()).unwrap();
            (finding["reason_code"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

const SEEN: &str = "process_exit_with_rc";
const NOTHING: &str = "exit_zero_no_mutations";

#[test]
fn a_tree_that_was_dirty_is_not_the_agents_work() {
    let env = environment();
    let repo = repository(&env);
    write(repo.join("a.txt"), "the user's\n");
    write(repo.join("user.txt"), "the user's\n");
    std::fs::remove_file(repo.join("added.txt")).unwrap();
    let check = job(&env, &repo, "nothing", 0, "true");
    assert_work(&check, "none", 0, (NOTHING, &[], &[], "stay"));
    // Edited again, put back, removed, new.
    let script = "echo more >> a.txt; rm user.txt; git checkout -q added.txt; echo new > new.txt";
    let check = job(&env, &repo, "edits", 0, script);
    assert_work(&check, "changed", 4, (SEEN, &["a.txt", "added.txt", "new.txt", "user.txt"], &[], "stay"));
}

#[test]
fn committed_work_on_a_clean_tree_is_work() {
    let env = environment();
    let repo = repository(&env);
    let script = "for n in 1 2; do echo $n > f$n; git add f$n; git commit -qm \"add f$n\tand a tab\"; done
        test -z \"$(git status --porcelain)\"";
    let check = job(&env, &repo, "bd-1", 0, script);
    let told = ["add f2\tand a tab", "add f1\tand a tab"];
    assert_work(&check, "changed", 2, (SEEN, &["f1", "f2"], &told, "forward"));
    let ids = env.git(&repo, &["rev-list", "--max-count=2", "HEAD"]);
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(check["outcome"]["work"]["commits"], json!(ids));
    assert_eq!(check["outcome"]["work"]["commit_list"][0]["id"], ids[0]);
    assert_eq!(check["outcome"]["work"]["branch"], "main");
}

#[test]
fn untracked_files_alone_are_work() {
    let env = environment();
    let repo = repository(&env);
    let check = job(&env, &repo, "bd-1", 0, "mkdir d; echo 1 > d/one; echo 2 > two");
    assert_work(&check, "changed", 2, (SEEN, &["d/one", "two"], &[], "stay"));
}

#[test]
fn a_branch_that_only_moved_is_told_as_moved() {
    // Back with all files, back without a file, back with the files left untracked; then aside and forward.
    let rows: [(&str, &str, &[&str], &str); 5] = [
        ("hard", "git reset -q --hard HEAD~1", &["added.txt", "log.txt"], "back"),
        ("soft", "git update-ref HEAD HEAD~1", &[], "back"),
        ("mixed", "git reset -q HEAD~1", &[], "back"),
        ("aside", "git reset -q --hard side", &["added.txt", "log.txt", "side.txt"], "aside"),
        ("forward", "git merge -q --ff-only ahead", &["ahead.txt"], "forward"),
    ];
    for (id, script, changed, moved) in rows {
        let env = environment();
        let repo = repository(&env);
        for (branch, from) in [("side", "HEAD~2"), ("ahead", "HEAD")] {
            env.git(&repo, &["checkout", "--quiet", "-b", branch, from]);
            write(repo.join(format!("{branch}.txt")), "x\n");
            env.git(&repo, &["add", "--all"]);
            env.git(&repo, &["commit", "--quiet", "--message=elsewhere"]);
            env.git(&repo, &["checkout", "--quiet", "main"]);
        }
        env.git(&repo, &["pack-refs", "--all"]);
        let check = job(&env, &repo, id, 0, script);
        assert_work(&check, "moved", 0, (SEEN, changed, &[], moved));
        assert_eq!(findings(&check), [], "{id}: its own branch is its own");
    }
}

#[test]
fn work_after_a_move_is_work() {
    let env = environment();
    let repo = repository(&env);
    let script = "git reset -q HEAD~1; echo agents > added.txt; echo new > new.txt";
    let check = job(&env, &repo, "edited", 0, script);
    assert_work(&check, "changed", 2, (SEEN, &["added.txt", "new.txt"], &[], "back"));
    env.git(&repo, &["reset", "--quiet", "--hard", "ORIG_HEAD"]);
    std::fs::remove_file(repo.join("new.txt")).unwrap();
    let check = job(&env, &repo, "amended", 0, "git commit -q --amend -m other");
    assert_work(&check, "changed", 1, (SEEN, &[], &["other"], "aside"));
}

#[test]
fn foreign_branches_that_changed_are_named_and_those_of_other_jobs_attributed() {
    let env = environment();
    let repo = repository(&env);
    for branch in ["moved", "packed", "gone", "kept"] {
        env.git(&repo, &["branch", branch]);
    }
    env.git(&repo, &["pack-refs", "--all"]);
    env.git(&repo, &["branch", "loose"]);
    let repo_text = repo.display().to_string();
    // Another job of ours, which is still running on a branch of its own.
    let go = env.path("go");
    let script = format!(
        "{AUTHOR} echo other > other.txt; git add -A; git commit -qm other; touch {0}.done; \
         while ! test -e {0}; do sleep 0.05; done",
        go.display()
    );
    let start = |id: &str, script: &str, wait: bool| {
        let head = ["start", "--beads", id, "--provider", "exec", "--worktree", "auto", "--repo", &repo_text];
        let wait: &[&str] = if wait { &["--wait"] } else { &[] };
        env.run(&[&head[..], wait, &["--", "sh", "-c", script]].concat()).assert_code(0);
    };
    // One that only looked, and one that did not: both ended before, and only one of their branches is taken away by us.
    let looks =
        ["start", "--beads", "looked", "--provider", "exec", "--worktree", "auto", "--repo", &repo_text];
    env.run(&[&looks[..], &["--read-only", "--sandbox", "off", "--wait", "--", "true"]].concat())
        .assert_code(0);
    start("before", "true", true);
    let waiting = env.path("begun");
    let mine = format!(
        "{AUTHOR} touch {}; while ! test -e {}.done; do sleep 0.05; done
        git update-ref refs/heads/moved HEAD~1; git branch -f packed HEAD~2; git branch -qD gone; git branch -f loose HEAD~1
        git update-ref -d refs/heads/before
        git branch -q fresh; echo mine > mine.txt; git add -A; git commit -qm mine; git checkout -q -b renamed",
        waiting.display(),
        go.display()
    );
    start("mine", &mine, false);
    dx_testkit::wait_for_file(crate::world::PATIENCE, &waiting);
    // A worktree in which no job works yet.
    env.run(&["worktree", "create", "bd-9", "--repo", &repo_text]).assert_code(0);
    env.run(&["worktree", "remove", "looked", "--repo", &repo_text]).assert_code(0);
    start("other", &script, false);
    env.run(&["wait", "--beads", "mine"]).assert_code(0);
    let check: Value =
        serde_json::from_str(&env.run(&["check", "--beads", "mine", "--json"]).stdout).unwrap();
    write(&go, "");
    env.run(&["wait", "--beads", "other"]).assert_code(0);
    let work = &check["outcome"]["work"];
    assert_eq!(work["branch"], "renamed");
    let changes: Vec<(String, bool, bool, Value)> = work["foreign_refs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let name = c["name"].as_str().unwrap().strip_prefix("refs/heads/").unwrap().to_owned();
            (name, c["was"].is_string(), c["now"].is_string(), c["job"].clone())
        })
        .collect();
    let told: Vec<(&str, bool, bool, Option<&str>)> =
        changes.iter().map(|(n, was, now, job)| (n.as_str(), *was, *now, job.as_str())).collect();
    let expected = [
        ("bd-9", false, true, Some("bd-9")),
        ("before", true, false, None),
        ("fresh", false, true, None),
        ("gone", true, false, None),
        ("looked", true, false, Some("looked")),
        ("loose", true, true, None),
        ("moved", true, true, None),
        ("other", false, true, Some("other")),
        ("packed", true, true, None),
    ];
    assert_eq!(told, expected, "{check:#}");
    let names =
        ["before", "fresh", "gone", "loose", "moved", "packed"].map(|name| format!("refs/heads/{name}"));
    assert_eq!(findings(&check), [("foreign_ref_changed".to_owned(), names.to_vec())]);
    let text = env.run(&["check", "--beads", "mine"]).stdout;
    assert!(text.contains("note: foreign_ref_changed (refs/heads/before, refs/heads/fresh"), "{text}");
}

#[test]
fn tags_and_remote_branches_that_moved_or_went_are_told_and_new_ones_are_not() {
    let env = environment();
    let repo = repository(&env);
    for name in ["tags/moved", "tags/gone", "tags/kept", "remotes/origin/moved", "remotes/origin/gone"] {
        env.git(&repo, &["update-ref", &format!("refs/{name}"), "HEAD~1"]);
    }
    env.git(&repo, &["pack-refs", "--all"]);
    let script =
        "git tag -f moved HEAD; git tag -d gone; git tag new; git update-ref refs/remotes/origin/moved HEAD
        git update-ref -d refs/remotes/origin/gone; git update-ref refs/remotes/origin/new HEAD";
    let check = job(&env, &repo, "bd-1", 0, script);
    let names = ["remotes/origin/gone", "remotes/origin/moved", "tags/gone", "tags/moved"];
    let names = names.map(|name| format!("refs/{name}")).to_vec();
    assert_eq!(findings(&check), [("foreign_ref_changed".to_owned(), names)], "{check:#}");
    // Nothing moved under the next one.
    let check = job(&env, &repo, "bd-2", 0, "true");
    assert_eq!(findings(&check), []);
}

#[test]
fn branches_in_reftables_are_seen_too() {
    let env = environment();
    let repo = env.allowed_root().join("tables");
    let made = env.try_run(
        {
            let mut git = env.command("git");
            git.args(["init", "--quiet", "--ref-format=reftable", "--initial-branch=main"]).arg(&repo);
            git
        },
        b"",
    );
    // Git before 2.45 has no such format, and then nobody has such a repository.
    if made.is_ok_and(|output| output.code != 0) {
        return;
    }
    write(repo.join("a.txt"), "one\n");
    for setting in [["user.name", "a"], ["user.email", "a@example.invalid"]] {
        env.git(&repo, &[&["config"], &setting[..]].concat());
    }
    env.git(&repo, &["add", "--all"]);
    env.git(&repo, &["commit", "--quiet", "--message=start"]);
    env.git(&repo, &["branch", "other"]);
    let script = "echo 2 > a.txt; git commit -qam second; git branch -f other HEAD";
    let check = job(&env, &repo, "bd-1", 0, script);
    assert_work(&check, "changed", 1, (SEEN, &["a.txt"], &["second"], "forward"));
    assert_eq!(findings(&check), [("foreign_ref_changed".to_owned(), vec!["refs/heads/other".to_owned()])]);
}

/// A program that writes its arguments to a file, and that file.
fn trap(env: &TestEnv) -> (String, PathBuf) {
    let (program, ran) = (env.path("evil"), env.path("ran"));
    write(&program, format!("#!/bin/sh\necho \"$@\" >> {}\ncat\n", ran.display()));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program.display().to_string(), ran)
}

#[test]
fn a_rewritten_git_file_is_an_integrity_failure_and_its_fsmonitor_does_not_run() {
    let env = environment();
    let repo = repository(&env);
    let (evil, ran) = trap(&env);
    let tree = env.allowed_root().join("tree");
    env.git(&repo, &["worktree", "add", "--quiet", "-b", "job", &tree.display().to_string()]);
    let git_file = read(tree.join(".git"));
    let script = format!(
        "echo two > a.txt; git commit -qam work
        git init -q ../hostile; git -C ../hostile config core.fsmonitor '{evil} fsmonitor'
        git -C ../hostile config core.hooksPath '{evil}'
        printf 'gitdir: %s/.git\\n' \"$(cd ../hostile && pwd)\" > .git"
    );
    let check = job(&env, &tree, "bd-1", 3, &script);
    assert!(!ran.exists(), "{}", read(&ran));
    assert_work(&check, "changed", 1, ("repository_redirected", &["a.txt"], &["work"], "forward"));
    assert_eq!(check["verdicts"]["gates"], "fail", "{check:#}");
    assert_eq!(check["verdicts"]["process"], "ok");
    assert_eq!((&check["outcome"]["state"], &check["outcome"]["exit_code"]), (&json!("failed"), &json!("0")));
    assert_eq!(check["outcome"]["gates"][0]["name"], "repository");
    assert_eq!(check["outcome"]["gates"][0]["details"], ".git");
    env.run(&["diff", "--beads", "bd-1"]);
    assert!(!ran.exists(), "after a diff: {}", read(&ran));
    let refused = env.run(&["restart", "--beads", "bd-1"]);
    assert!(refused.stderr.contains("leads to another repository"), "{refused:?}");
    assert!(!ran.exists(), "after a restart: {}", read(&ran));

    // The trap was armed.
    let mut git = env.command("git");
    git.arg("-C").arg(&tree).arg("status");
    let _whatever = env.try_run(git, b"");
    assert!(read(&ran).contains("fsmonitor"));

    // The other two files that say where a worktree's repository is.
    write(tree.join(".git"), git_file);
    let own = PathBuf::from(env.git(&tree, &["rev-parse", "--absolute-git-dir"]).trim());
    for name in ["commondir", "gitdir"] {
        let kept = read(own.join(name));
        let hostile = env.allowed_root().join("hostile/.git");
        let script = format!("echo {} > {}", hostile.display(), own.join(name).display());
        let check = job(&env, &tree, name, 3, &script);
        assert_eq!(check["reason_code"], "repository_redirected", "{check:#}");
        assert_eq!(check["outcome"]["gates"][0]["details"], name);
        // Git would look for branches where `commondir` says, so it is not asked.
        let word = if name == "commondir" { "unknown" } else { "none" };
        assert_eq!(check["verdicts"]["work"], word, "{check:#}");
        write(own.join(name), kept);
    }
    assert_eq!(read(&ran).lines().count(), 1, "only the call that was to show that the trap was armed");
}

#[test]
fn planted_hooks_and_configuration_are_reported_and_do_not_run() {
    let env = environment();
    let repo = repository(&env);
    let (evil, ran) = trap(&env);
    let script = format!(
        "printf '[core]\\n\\tfsmonitor = {evil} fsmonitor\\n' >> .git/config
        printf '#!/bin/sh\\nexec {evil} hook\\n' > .git/hooks/post-index-change
        chmod +x .git/hooks/post-index-change
        echo hidden.txt >> .git/info/exclude; touch hidden.txt"
    );
    let check = job(&env, &repo, "bd-1", 0, &script);
    assert!(!ran.exists(), "{}", read(&ran));
    let expected = [
        ("git_config_changed".to_owned(), vec!["config".to_owned(), "info/exclude".to_owned()]),
        ("git_hooks_changed".to_owned(), vec!["post-index-change".to_owned()]),
    ];
    assert_eq!(findings(&check), expected, "{check:#}");
    let text = env.run(&["check", "--beads", "bd-1"]).stdout;
    assert!(text.contains("note: git_hooks_changed (post-index-change)"), "{text}");
    // Nothing changed under the next job: it has nothing to report.
    let check = job(&env, &repo, "bd-2", 0, "true");
    assert_eq!(findings(&check), []);
    assert!(!ran.exists(), "{}", read(&ran));
}

#[test]
fn a_repository_that_is_gone_is_unknown_work() {
    let env = environment();
    let repo = repository(&env);
    let check = job(&env, &repo, "bd-1", 3, "rm -rf .git; git init -q .; echo 1 > x");
    assert_eq!(check["reason_code"], "repository_redirected", "{check:#}");
    assert_eq!(check["outcome"]["gates"][0]["details"], ".git, common folder, git folder");
    assert_eq!(check["verdicts"]["work"], "unknown", "{check:#}");
    let check = job(&env, &repo, "bd-2", 3, "rm -rf .git");
    assert_eq!(check["verdicts"]["work"], "unknown", "{check:#}");
}

/// Edits that no plain `git status` shows.
const HIDE: &str = "git update-index --assume-unchanged a.txt; git update-index --skip-worktree log.txt
    echo more >> a.txt; rm log.txt; test -z \"$(git status --porcelain)\"";

#[test]
fn edits_that_git_was_told_to_pass_over_are_seen() {
    let env = environment();
    let repo = repository(&env);
    let index = |repo: &Path| std::fs::read(repo.join(".git/index")).unwrap();
    let check = job(&env, &repo, "bd-1", 0, HIDE);
    assert_work(&check, "changed", 2, (SEEN, &["a.txt", "log.txt"], &[], "stay"));
    let before = index(&repo);
    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    assert!(diff.contains("-one\n") || diff.contains("+more\n"), "{diff}");
    assert!(diff.contains("deleted file mode 100644"), "{diff}");
    assert_eq!(index(&repo), before, "a look has written the index");
    // What was hidden and changed before the start is nobody's work; what is changed again is.
    let check = job(&env, &repo, "bd-2", 0, "true");
    assert_work(&check, "none", 0, ("exit_zero_no_mutations", &[], &[], "stay"));
    let check = job(&env, &repo, "bd-3", 0, "echo again >> a.txt");
    assert_work(&check, "changed", 1, (SEEN, &["a.txt"], &[], "stay"));
}

#[test]
fn what_a_sparse_checkout_leaves_out_is_no_work() {
    let env = environment();
    let repo = repository(&env);
    env.git(&repo, &["sparse-checkout", "set", "--no-cone", "/*", "!/log.txt"]);
    assert!(!repo.join("log.txt").exists());
    let check = job(&env, &repo, "bd-1", 0, "true");
    assert_work(&check, "none", 0, ("exit_zero_no_mutations", &[], &[], "stay"));
    let check = job(&env, &repo, "bd-2", 0, "git update-index --skip-worktree a.txt; echo more >> a.txt");
    assert_work(&check, "changed", 1, (SEEN, &["a.txt"], &[], "stay"));
}

#[test]
fn files_in_a_submodule_are_counted_and_nothing_of_its_configuration_runs() {
    let env = environment();
    let (evil, ran) = trap(&env);
    let inner = env.git_repo("inner", &[("x", "1\n"), ("y", "1\n"), (".gitattributes", "x filter=evil\n")]);
    let repo = repository(&env);
    let url = inner.to_str().unwrap();
    env.git(&repo, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "deep/sm"]);
    env.git(&repo, &["commit", "--quiet", "-m", "with a submodule"]);
    // What the user left there is not the agent's.
    write(repo.join("deep/sm/y"), "the user's\n");
    let script = format!(
        "cd deep/sm; git config filter.evil.clean '{evil} filter'; git config core.fsmonitor '{evil} fsmonitor'
        echo 2 > x; echo 3 > new"
    );
    let check = job(&env, &repo, "bd-1", 0, &script);
    assert_work(&check, "changed", 2, (SEEN, &["deep/sm/new", "deep/sm/x"], &[], "stay"));
    let diff = env.run(&["diff", "--beads", "bd-1"]).assert_code(0).stdout;
    assert_eq!(diff, "# not shown: 2 files in submodules: deep/sm/new, deep/sm/x\n");
    assert!(!ran.exists(), "{}", read(&ran));
    // A repository in its place that is not its own is not looked into.
    let script = format!("echo 'gitdir: {}/.git' > deep/sm/.git", inner.display());
    job(&env, &repo, "bd-2", 0, &script);
    assert!(!ran.exists(), "{}", read(&ran));
}
