//! `apply` and its git killed in the middle: the checkout is put back, and no other git's lock is taken.

use super::{apply, job, refused, state};
use crate::environment;
use crate::world::{read, write};
use dx_testkit::TestEnv;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What an apply may leave beside the repository's own files while it works.
fn left(repo: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(repo.join(".git")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("dx-runner-apply") || name == "index.lock").collect()
}

/// A git in front of the real one that changes one file, adds one, takes the lock and dies in the middle of an update.
fn deadly_git(env: &mut TestEnv, more: &str) {
    let real = "/usr/bin/git";
    assert!(Path::new(real).exists());
    let script = format!(
        "#!/bin/sh
case \" $* \" in *' read-tree -m -u '*)
    if ! test -e '{0}'; then
        cd \"$GIT_WORK_TREE\"; printf half > a.txt; mkdir -p deep; printf half > deep/new; : > \"$GIT_INDEX_FILE.lock\"; : > '{0}'; {more}
        kill -9 $$
    fi;;
esac
exec {real} \"$@\"
",
        env.path("died").display()
    );
    let git = env.bin_dir().join("git");
    write(&git, script);
    std::fs::set_permissions(&git, PermissionsExt::from_mode(0o755)).unwrap();
}

const WIDE: &str = "echo two > a.txt; mkdir deep; echo new > deep/new; rm gone";

#[test]
fn a_git_that_is_killed_while_it_changes_files_leaves_them_as_they_were() {
    let mut env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("gone", "x\n")]);
    job(&env, &repo, "bd-1", WIDE);
    write(repo.join("users"), "the user's\n");
    let before = state(&env, &repo);
    deadly_git(&mut env, "");
    let error = refused(&env, 1, &["apply", "--beads", "bd-1"]);
    assert_eq!(error["reason_code"], "git_failed", "{error}");
    assert!(env.path("died").exists() && error["message"].as_str().unwrap().contains("signal: 9"), "{error}");
    assert_eq!(state(&env, &repo), before);
    assert!(!repo.join("deep").exists());
    assert_eq!(left(&repo), [""; 0]);
    apply(&env, "bd-1", &[]);
    assert_eq!((read(repo.join("a.txt")), read(repo.join("deep/new"))), ("two\n".into(), "new\n".into()));
}

#[test]
fn an_apply_that_was_killed_itself_is_put_back_by_the_next() {
    let mut env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("gone", "x\n"), ("README.md", "r\n")]);
    job(&env, &repo, "bd-1", WIDE);
    env.git(&repo, &["update-index", "--assume-unchanged", "README.md"]);
    write(repo.join("README.md"), "the user's\n");
    deadly_git(&mut env, "kill -9 $PPID");
    assert_eq!(env.run(&["apply", "--beads", "bd-1"]).code, -9);
    assert_eq!(read(repo.join("a.txt")), "half", "it was killed in the middle");
    let note = repo.join(".git/dx-runner-apply");
    assert!(note.exists());
    // Nobody else's git works on half of it.
    let mut git = env.command("git");
    git.arg("-C").arg(&repo).args(["add", "users"]);
    write(repo.join("users"), "the user's\n");
    let said = env.run_command(git).assert_code(128);
    assert!(said.stderr.contains("index.lock"), "{said}");
    let applied = apply(&env, "bd-1", &[]);
    assert!(applied["remarks"][0].as_str().unwrap().contains("cut off"), "{applied}");
    assert_eq!((read(repo.join("a.txt")), read(repo.join("deep/new"))), ("two\n".into(), "new\n".into()));
    assert!(!repo.join("gone").exists());
    assert_eq!(left(&repo), [""; 0]);
    assert_eq!(read(repo.join("README.md")), "the user's\n");
    assert_eq!(env.git(&repo, &["ls-files", "-v", "README.md"]), "h README.md\n");
    assert_eq!(env.git(&repo, &["show", "refs/dx-runner/cut-off:a.txt"]), "half", "nothing is lost");
    // One whose branch has moved had nothing left to do; with another commit on top only the user can tell.
    let told = format!("{}\0{}\0", applied["was"].as_str().unwrap(), applied["now"].as_str().unwrap());
    write(&note, &told);
    let again = apply(&env, "bd-1", &[]);
    assert_eq!((&again["changed"], read(repo.join("a.txt"))), (&false.into(), "two\n".into()));
    assert!(!note.exists());
    env.git(&repo, &["commit", "-q", "--allow-empty", "-m", "user"]);
    write(&note, &told);
    let error = refused(&env, 32, &["apply", "--beads", "bd-1"]);
    assert_eq!(error["reason_code"], "target_dirty", "{error}");
    assert_eq!(read(repo.join("README.md")), "the user's\n");
}

#[test]
fn the_lock_of_another_git_is_never_taken_away() {
    let mut env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), ("gone", "x\n")]);
    job(&env, &repo, "bd-1", WIDE);
    let before = state(&env, &repo);
    let lock = repo.join(".git/index.lock");
    let locked = |env: &TestEnv| {
        write(&lock, "the user's");
        let error = refused(env, 32, &["apply", "--beads", "bd-1"]);
        assert_eq!(error["reason_code"], "lock_held", "{error}");
        let next = error["next_action"].as_str().unwrap();
        assert!(next.ends_with(&format!("rm {}", lock.display())), "{next}");
        assert_eq!(read(&lock), "the user's");
        std::fs::remove_file(&lock).unwrap();
    };
    locked(&env);
    assert_eq!((state(&env, &repo), left(&repo)), (before, vec![]));
    // Nor is one that stands where that of an apply that was killed stood.
    deadly_git(&mut env, "kill -9 $PPID");
    assert_eq!(env.run(&["apply", "--beads", "bd-1"]).code, -9);
    std::fs::remove_file(&lock).unwrap();
    locked(&env);
    assert_eq!(read(repo.join("a.txt")), "half", "nothing was touched");
    let applied = apply(&env, "bd-1", &[]);
    assert!(applied["remarks"][0].as_str().unwrap().contains("cut off"), "{applied}");
    assert_eq!((read(repo.join("a.txt")), left(&repo)), ("two\n".into(), vec![]));
}
