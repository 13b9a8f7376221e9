//! The optional pre-commit hook: keeps what is there, warns, and blocks only when it is told to.

use crate::document;
use crate::world::{World, read, write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn script(path: &Path, text: &str) {
    write(path, format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Commits a change; whether that went well, and what it said.
fn commit(world: &World, strict: bool) -> (bool, String) {
    write(world.repo.join("a.txt"), format!("{:?}", std::time::SystemTime::now()));
    let mut command = world.env.command("git");
    command.arg("-C").arg(&world.repo).args(["commit", "-q", "-a", "-m", "x"]);
    if strict {
        command.env("BEADS_FLUSH_STRICT", "1");
    }
    let output = world.env.run_command(command);
    (output.code == 0, output.stderr)
}

#[test]
fn a_failure_warns_and_blocks_only_when_it_is_strict() {
    let world = World::new();
    let here = world.repo.display().to_string();
    let bd = world.env.bin_dir().join("bd");
    script(
        &bd,
        "[ \"$*\" = 'sync --flush-only' ] && [ -z \"$GIT_INDEX_FILE\" ] && echo flushed > .beads/issues.jsonl",
    );
    let foreign = world.repo.join(".git/hooks/pre-commit");
    std::fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    let ran = world.path("ran");
    script(&foreign, &format!("echo x >> {ran}; [ ! -e {ran}.stop ]"));
    let install = || {
        let output = world.env.run(&["hooks", "install", "--json", "--repo", &here]).assert_code(0);
        document(&world.env, "hook", &output.stdout)
    };
    let done = install();
    assert_eq!((&done["changed"], &done["hook"]), (&true.into(), &foreign.display().to_string().into()));
    let kept = world.repo.join(".git/hooks/pre-commit.before-dx-runner");
    assert_eq!(done["kept"], kept.display().to_string());
    let again = install();
    assert_eq!((&again["changed"], &again["kept"]), (&false.into(), &done["kept"]));
    assert!(read(&kept).contains("echo x"), "the foreign hook is never overwritten");

    // No store: nothing is asked. Then it is written, and goes with the commit.
    assert!(commit(&world, true).0);
    std::fs::create_dir(world.repo.join(".beads")).unwrap();
    assert_eq!(commit(&world, false), (true, String::new()));
    assert_eq!(world.env.git(&world.repo, &["show", "HEAD:.beads/issues.jsonl"]), "flushed\n");
    assert_eq!(read(&ran).lines().count(), 2, "the hook that was there runs each time");

    script(&bd, "exit 1");
    let (went, said) = commit(&world, false);
    assert!(went && said.contains("Beads was not written"), "{said}");
    let (went, said) = commit(&world, true);
    assert!(!went && said.contains("BEADS_FLUSH_STRICT=1"), "{said}");
    std::fs::remove_file(&bd).unwrap();
    assert!(commit(&world, false).0 && !commit(&world, true).0, "no bd at all");
    // The hook that was there still decides.
    write(format!("{ran}.stop"), "");
    assert!(!commit(&world, false).0);
}

#[test]
fn it_goes_where_git_looks() {
    let world = World::new();
    world.env.git(&world.repo, &["config", "core.hooksPath", "my-hooks"]);
    let linked = world.env.allowed_root().join("linked");
    world.env.git(&world.repo, &["worktree", "add", "--quiet", "-b", "l", &linked.display().to_string()]);
    let done = world.json(0, &["hooks", "install", "--repo", &world.repo.display().to_string()]);
    assert_eq!(done["hook"], world.repo.join("my-hooks/pre-commit").display().to_string());
    world.env.git(&world.repo, &["config", "--unset", "core.hooksPath"]);
    let done = world.json(0, &["hooks", "install", "--repo", &linked.display().to_string()]);
    assert_eq!(done["hook"], world.repo.join(".git/hooks/pre-commit").display().to_string());
    let error = world.error(22, &["hooks", "install", "--repo", "/"]);
    assert_eq!(error["reason_code"], "worktree_missing");
}
