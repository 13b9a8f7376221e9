//! Repositories inside a worktree: no salvage holds them, so nothing may delete them.

use super::{create, path_of, refused};
use crate::environment;
use crate::world::{World, read, write};
use dx_testkit::TestEnv;
use std::path::Path;

/// A repository with a commit that is nowhere else.
fn repository_in(env: &TestEnv, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    env.git(folder, &["init", "-q"]);
    write(folder.join("only-here"), "work\n");
    env.git(folder, &["add", "only-here"]);
    let who = ["-c", "user.name=agent", "-c", "user.email=agent@localhost"];
    env.git(folder, &[&who[..], &["commit", "-q", "-m", "only here"]].concat());
}

#[test]
fn a_repository_in_an_ignored_folder_keeps_the_worktree_and_the_advice_helps() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n"), (".gitignore", "build/\n")]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    repository_in(&env, &path.join("build/deep/n"));
    write(path.join("new"), "new\n");
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert!(error["message"].as_str().unwrap().contains("build/deep/n/ is a repository"), "{error}");
    env.run(&["worktree", "salvage", "bd-1"]).assert_code(0);
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert!(error["next_action"].as_str().unwrap().contains("move it out of the worktree"), "{error}");
    assert_eq!(read(path.join("build/deep/n/only-here")), "work\n");

    // Pushed, it holds nothing of its own; changed again it does.
    let inner = path.join("build/deep/n");
    let store = env.path("repos/store.git");
    env.git(&inner, &["init", "-q", "--bare", store.to_str().unwrap()]);
    env.git(&inner, &["remote", "add", "origin", store.to_str().unwrap()]);
    env.git(&inner, &["push", "-q", "origin", "HEAD"]);
    repository_in(&env, &inner.join("more"));
    refused(&env, 32, &["worktree", "remove", "bd-1"]);
    std::fs::rename(inner.join("more"), env.path("repos/more")).unwrap();
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
    assert!(!path.exists());
}

#[test]
fn a_submodule_with_work_is_told_what_to_do_about() {
    let env = environment();
    let library = env.git_repo("library", &[("l.txt", "one\n")]);
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let allow = ["-c", "protocol.file.allow=always", "submodule", "--quiet"];
    env.git(&repo, &[&allow[..], &["add", library.to_str().unwrap(), "sub"]].concat());
    env.git(&repo, &["commit", "-q", "-m", "submodule"]);
    let path = path_of(&create(&env, "bd-1", &repo, &[]));
    env.git(&path, &[&allow[..], &["update", "--init"]].concat());
    write(path.join("sub/l.txt"), "two\n");
    let error = refused(&env, 32, &["worktree", "remove", "bd-1"]);
    assert!(error["message"].as_str().unwrap().contains("sub is a repository"), "{error}");
    assert!(error["next_action"].as_str().unwrap().starts_with("commit and push inside"), "{error}");
    env.git(path.join("sub"), &["checkout", "-q", "l.txt"]);
    env.run(&["worktree", "remove", "bd-1"]).assert_code(0);
}

#[test]
fn gc_keeps_a_repository_in_an_ignored_folder() {
    let world = World::new();
    let env = &world.env;
    write(world.repo.join(".gitignore"), "build/\n");
    env.git(&world.repo, &["add", ".gitignore"]);
    env.git(&world.repo, &["commit", "-q", "-m", "ignore"]);
    let script = "mkdir -p build && git init -q build/n && echo work > build/n/only-here";
    let repo = world.repo.to_str().unwrap();
    let start =
        ["start", "--id", "bd-1", "--provider", "exec", "--worktree", "auto", "--repo", repo, "--wait"];
    env.run(&[&start[..], &["--", "sh", "-c", script]].concat());
    crate::gc::settle(env);
    let text = env.run(&["--json", "gc", "--older-than", "0"]).assert_code(0).stdout;
    assert!(text.contains("build/n/ is a repository"), "{text}");
    let path = env.path("xdg/data/dx-runner/worktrees/bd-1").join(world.repo.file_name().unwrap());
    assert_eq!(read(path.join("build/n/only-here")), "work\n");
}
