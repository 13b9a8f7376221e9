//! `gc`: what is old, over and merged goes; everything else stays, with the reason.
//!
//! For: that command. Must never: look into the product.

use crate::world::{PATIENCE, World, files_with, read, write};
use crate::{document, environment};
use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::path::Path;

#[track_caller]
fn gc(env: &TestEnv, more: &[&str]) -> Value {
    settle(env);
    let args = [&["--json", "gc"], more].concat();
    document(env, "gc", &env.run(&args).assert_code(0).stdout)
}

/// Why a job was kept.
#[track_caller]
fn why(document: &Value, id: &str) -> String {
    let rows = document["kept"].as_array().unwrap();
    let row = rows.iter().find(|row| row["beads"] == id).unwrap_or_else(|| panic!("{id}: {document}"));
    row["why"].as_str().unwrap().to_owned()
}

fn removed(document: &Value) -> Vec<&str> {
    document["removed"].as_array().unwrap().iter().map(|row| row["beads"].as_str().unwrap()).collect()
}

#[track_caller]
fn job(env: &TestEnv, repo: &Path, id: &str, script: &str) {
    let repo = repo.to_str().unwrap();
    let start = ["start", "--id", id, "--provider", "exec", "--worktree", "auto", "--repo", repo, "--wait"];
    env.run(&[&start[..], &["--", "sh", "-c", script]].concat()).assert_code(0);
}

/// Waits until no process of ours looks after a record that ended.
pub(crate) fn settle(env: &TestEnv) {
    wait_until(PATIENCE, "monitors of ended jobs are gone", || {
        let runs = std::fs::read_dir(env.state_dir().join("runs")).unwrap();
        let journals = runs.map(|run| run.unwrap().path().join("journal"));
        journals
            .filter(|path| read(path).contains("\"type\":\"ended\""))
            .all(|path| std::fs::File::open(path).unwrap().try_lock().is_ok())
    });
}

fn runs(env: &TestEnv) -> usize {
    std::fs::read_dir(env.state_dir().join("runs")).unwrap().count()
}

#[test]
fn ended_jobs_go_with_everything_but_their_history() {
    let world = World::new();
    let env = &world.env;
    write(env.path("prompt"), "needle-of-the-prompt");
    let prompt = world.path("prompt");
    world.run_to_end("bd-1", &["--prompt-file", &prompt], &["print:hello"]);
    env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    // An id that begins like the other.
    world.run_to_end("bd-1.2", &[], &["print:two"]);
    assert_eq!(runs(env), 3);
    let young = gc(env, &[]);
    assert_eq!(removed(&young), [""; 0]);
    assert!(why(&young, "bd-1").contains("30d"), "{young}");
    let newest = gc(env, &["--older-than", "0", "--keep", "1"]);
    assert_eq!(removed(&newest), ["bd-1"]);
    assert_eq!(newest["removed"][0]["runs"], 2);
    assert!(newest["freed_bytes"].as_u64().unwrap() > 0);
    assert!(why(&newest, "bd-1.2").contains("1 that ended last"), "{newest}");
    assert_eq!(runs(env), 1);
    assert_eq!(files_with(&env.state_dir(), "needle-of-the-prompt"), Vec::<std::path::PathBuf>::new());
    assert!(read(world.view("bd-1.2", "log")).contains("two"));
    // The history stays, and the id is free.
    let status = env.run(&["status", "--all", "--json"]).assert_code(0).stdout;
    assert!(status.contains("\"bd-1\""), "{status}");
    assert_eq!(files_with(&env.state_dir().join("history"), "\"bd-1\"").len(), 1);
    env.run(&["check", "--beads", "bd-1"]).assert_code(1);
    world.run_to_end("bd-1", &[], &["print:again"]);
    assert!(read(world.view("bd-1", "log")).contains("again"));
}

#[test]
fn live_jobs_and_work_that_is_not_merged_stay() {
    let world = World::new();
    let env = &world.env;
    let gate = world.path("gate");
    let pids = {
        world.start("live", &[], &[&format!("wait-file:{gate}")]);
        world.pids("live")
    };
    let repo = env.git_repo("app", &[("a.txt", "one\n")]);
    job(env, &repo, "clean", "true");
    job(env, &repo, "dirty", "echo work > a.txt");
    job(env, &repo, "untracked", "echo work > new");
    let commit = "echo work > a.txt; git -c user.name=a -c user.email=a@example.invalid commit -qam work";
    job(env, &repo, "committed", commit);
    job(env, &repo, "salvaged", "echo work > only-here");
    env.run(&["worktree", "salvage", "salvaged"]).assert_code(0);
    job(env, &repo, "merged", "echo merged > merged");
    env.run(&["apply", "--beads", "merged"]).assert_code(0);
    let done = gc(env, &["--older-than", "0"]);
    let mut gone = removed(&done);
    gone.sort_unstable();
    assert_eq!(gone, ["clean", "merged"], "{done}");
    for (id, part) in [
        ("live", "it is live"),
        ("dirty", "changes that are not staged"),
        ("untracked", "1 files that are in no commit"),
        ("committed", "1 commits that no other branch"),
        ("salvaged", "1 files that are in no commit"),
    ] {
        assert!(why(&done, id).contains(part), "{id}: {done}");
    }
    for id in ["dirty", "untracked", "committed", "salvaged"] {
        assert!(env.path(format!("xdg/data/dx-runner/worktrees/{id}/app")).exists(), "{id}");
        env.run(&["check", "--beads", id]).assert_code(0);
    }
    for id in ["clean", "merged"] {
        assert!(!env.path(format!("xdg/data/dx-runner/worktrees/{id}")).exists(), "{id}");
    }
    let branches = env.git(&repo, &["branch", "--format=%(refname:short)"]);
    assert_eq!(branches, "committed\ndirty\nmain\nsalvaged\nuntracked\n");
    assert_eq!(world.pids("live"), pids);
    assert_eq!(world.check("live")["ended"], false);
    write(&gate, "");
    env.run(&["wait", "--beads", "live"]).assert_code(0);
    env.git(&repo, &["merge", "-q", "committed"]);
    let later = gc(env, &["--older-than", "0"]);
    let mut gone = removed(&later).into_iter().map(str::to_owned).collect::<Vec<_>>();
    gone.sort_unstable();
    assert_eq!(gone, ["committed", "live"], "{later}");
    // The user's own worktree is never removed.
    assert!(world.repo.join("a.txt").exists());
}

#[test]
fn other_programs_records_and_a_worktree_in_use_stay() {
    let world = World::new();
    let env = &world.env;
    let repo = env.git_repo("app", &[("a.txt", "one\n")]);
    job(env, &repo, "first", "true");
    let worktree = env.path("xdg/data/dx-runner/worktrees/first/app");
    let gate = world.path("gate");
    let agent = env.fake_agent().display().to_string();
    let place = worktree.to_str().unwrap();
    let start = ["start", "--id", "second", "--provider", "exec", "--worktree", place, "--"];
    env.run(&[&start[..], &[&agent, &format!("wait-file:{gate}")]].concat()).assert_code(0);
    write(env.state_dir().join("exec/foreign.meta"), "beads=foreign\nprovider=exec\n");
    write(env.state_dir().join("exec/foreign.outcome"), "exit_code=0\nstate=success\n");
    let done = gc(env, &["--older-than", "0"]);
    assert_eq!(removed(&done), [""; 0], "{done}");
    assert!(why(&done, "first").contains("job second works in its worktree"), "{done}");
    assert!(why(&done, "foreign").contains("another program"), "{done}");
    assert!(worktree.exists() && env.state_dir().join("exec/foreign.meta").exists());
    write(&gate, "");
    env.run(&["wait", "--beads", "second"]).assert_code(0);
}

#[test]
fn a_gc_that_is_killed_is_finished_by_the_next() {
    let env = environment();
    let repo = env.git_repo("app", &[("a.txt", "one\n")]);
    for step in ["worktree.removing", "gc.views_removed", "gc.run_emptied"] {
        job(&env, &repo, "bd-1", "true");
        settle(&env);
        let mut command = env.product();
        let marker = env.path(step);
        command
            .args(["gc", "--older-than", "0"])
            .env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        assert_eq!(env.run_command(command).code, -9, "{step}");
        let done = gc(&env, &["--older-than", "0"]);
        assert_eq!(removed(&done), ["bd-1"], "{step}: {done}");
        assert_eq!(runs(&env), 0, "{step}");
        assert!(!env.path("xdg/data/dx-runner/worktrees/bd-1").exists(), "{step}");
        assert_eq!(env.git(&repo, &["branch", "--format=%(refname:short)"]), "main\n");
        assert_eq!(std::fs::read_dir(env.state_dir().join("exec")).unwrap().count(), 0, "{step}");
        assert_eq!(gc(&env, &["--older-than", "0"])["kept"], serde_json::json!([]));
    }
}

#[test]
fn what_the_history_lacks_is_added_before_anything_goes() {
    let world = World::new();
    let env = &world.env;
    world.run_to_end("bd-1", &[], &["exit:0"]);
    settle(env);
    let folder = env.state_dir().join("history");
    let files = || std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let months = || files().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let told = || months().map(read).collect::<String>();
    let whole = told();
    assert!(whole.contains("\"bd-1\""), "{whole}");
    // As if the disk had been full when the run ended.
    months().for_each(|path| write(path, ""));
    let document = gc(env, &["--older-than", "0s", "--keep", "0"]);
    assert_eq!(removed(&document), ["bd-1"], "{document}");
    assert_eq!(told(), whole);
}
