//! The Beads gate with a stand-in for `bd` that answers what the real one was recorded to answer; `cargo xtask soak beads`
//! asks the real one the same.

use super::reason;
use crate::config::user;
use crate::world::{World, write};
use dx_testkit::{processes_with_marker, wait_until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

/// Outputs and exit codes of `br` 0.2.11. `@` is the place of the store.
const STAND_IN: &str = r#"#!/bin/sh
store="${BEADS_DIR:-$PWD/.beads}"
refuse() { printf '{"error":{"code":"%s","message":"%s","hint":"-","retryable":false,"context":null}}\n' "$1" "$2" >&2; exit "$3"; }
[ -e "$store/hang" ] && { sleep 1000 & sleep 1000; }
[ -e "$store/beads.db" ] || refuse NOT_INITIALIZED "Beads not initialized: run 'br init' first" 2
case "$1 $2" in
"stats "*) [ -e "$store/broken" ] && refuse DATABASE_ERROR "database disk image is malformed" 2
  echo '{"summary":{"total_issues":1,"open_issues":1}}' ;;
"info "*) printf '{"database_path":"%s/beads.db","beads_dir":"%s","mode":"direct","issue_count":1,"config":{"issue_prefix":"bd"}}\n' "$store" "$store" ;;
"show bd-siw") echo '[{"id":"bd-siw","title":"First","status":"open","priority":1,"issue_type":"task"}]' ;;
"show "*) refuse ISSUE_NOT_FOUND "Issue not found: $2" 3 ;;
"comments add") [ -w "$store/beads.db" ] && [ ! -e "$store/closed" ] || refuse DATABASE_ERROR "attempt to write a readonly database" 2
  echo "$4" >> "$store/comments"
  echo '{"id":1,"issue_id":"bd-siw","author":"unknown","text":"probe"}' ;;
*) refuse USAGE "unknown: $*" 64 ;;
esac
"#;

/// A world with a stand-in, a store in the repository, and the external repository.
fn world() -> World {
    let world = World::new();
    let bd = world.env.bin_dir().join("bd");
    write(&bd, STAND_IN);
    std::fs::set_permissions(&bd, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(world.repo.join(".beads")).unwrap();
    write(world.repo.join(".beads/beads.db"), "");
    let external = world.env.home().join("bd");
    std::fs::create_dir(&external).unwrap();
    world.env.git(&external, &["init", "--quiet"]);
    world.env.git(&external, &["remote", "add", "origin", "https://me:pass@host.invalid/stars-end/bd.git"]);
    world
}

#[track_caller]
fn gate(world: &World, code: i32, word: &str, more: &[&str]) -> Value {
    let here = world.repo.display().to_string();
    reason(world, code, word, &[&["beads-gate", "--repo", &here], more].concat())
}

#[test]
fn every_reason_is_reached_in_the_order_of_the_looks() {
    let mut world = world();
    let answer = gate(&world, 0, "beads_ok", &[]);
    let store = world.repo.join(".beads").display().to_string();
    assert_eq!((&answer["db_status"], &answer["repo_id_local"]), (&"ok".into(), &store.clone().into()));
    assert_eq!(answer["repo_id_db"], store);
    assert_eq!(answer["external_repo"], world.env.home().join("bd").display().to_string());
    assert_eq!(answer["external_remote"], "https://host.invalid/stars-end/bd.git", "without the password");
    gate(&world, 0, "beads_ok", &["--probe-id", "bd-siw"]);
    assert!(!world.repo.join(".beads/comments").exists(), "nothing is written unasked");
    gate(&world, 0, "beads_ok", &["--probe-id", "bd-siw", "--write-probe"]);
    assert!(world.repo.join(".beads/comments").exists());
    gate(&world, 24, "beads_probe_not_found", &["--probe-id", "bd-none"]);
    write(world.repo.join(".beads/closed"), "");
    let answer = gate(&world, 24, "beads_write_blocked", &["--probe-id", "bd-siw", "--write-probe"]);
    assert!(answer["details"].as_str().unwrap().contains("readonly database"), "{answer}");
    let error =
        world.error(64, &["beads-gate", "--repo", &world.repo.display().to_string(), "--write-probe"]);
    assert_eq!(error["reason_code"], "invalid_argument");

    write(world.repo.join(".beads/broken"), "");
    let answer = gate(&world, 24, "beads_db_error", &[]);
    assert!(answer["details"].as_str().unwrap().contains("malformed"), "{answer}");
    assert_eq!(answer["db_status"], "error");
    std::fs::remove_file(world.repo.join(".beads/broken")).unwrap();

    // `bd` is led to another store; by place, and by the ids where both tell one.
    let other = world.env.path("other");
    std::fs::create_dir(&other).unwrap();
    write(other.join("beads.db"), "");
    world.env.set("BEADS_DIR", &other);
    let answer = gate(&world, 24, "beads_repo_mismatch", &[]);
    assert_eq!(
        (&answer["repo_id_local"], &answer["repo_id_db"]),
        (&store.into(), &other.display().to_string().into())
    );
    world.env.set("BEADS_DIR", world.repo.join(".beads"));

    world.env.set("BEADS_REPO_REMOTE_SUBSTR", "elsewhere/bd");
    gate(&world, 24, "beads_external_remote_mismatch", &[]);
    world.env.set("BEADS_REPO_REMOTE_SUBSTR", "stars-end");
    world.env.set("BEADS_REPO_PATH", world.env.path("none"));
    let answer = gate(&world, 24, "beads_external_repo_missing", &[]);
    assert_eq!(answer["external_repo"], world.env.path("none").display().to_string());
    std::fs::remove_file(world.env.bin_dir().join("bd")).unwrap();
    let answer = gate(&world, 24, "beads_unavailable", &[]);
    assert_eq!(answer["db_status"], "-");
    let error = ["beads-gate", "--repo", "/nowhere/at/all"];
    reason(&world, 24, "worktree_missing", &error);
}

#[test]
fn a_call_that_hangs_is_ended_as_a_whole() {
    let world = world();
    user(&world, "beads_timeout = \"500ms\"\n");
    write(world.repo.join(".beads/hang"), "");
    let answer = gate(&world, 35, "beads_timeout", &[]);
    assert_eq!(answer["db_status"], "timeout");
    let left = || {
        let sleeps = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
        };
        let home = world.env.home().display().to_string();
        processes_with_marker("HOME", &home).into_iter().filter(sleeps).count()
    };
    wait_until(crate::world::PATIENCE, "nothing of the call is left", || left() == 0);
}

#[test]
fn a_start_asks_only_when_it_is_wanted() {
    let world = world();
    std::fs::remove_file(world.repo.join(".beads/beads.db")).unwrap();
    world.run_to_end("free", &[], &["exit:0"]);
    let error = world.error(
        24,
        &[
            "start",
            "--beads",
            "a",
            "--provider",
            "exec",
            "--beads-gate",
            "--worktree",
            &world.repo.display().to_string(),
            "--",
            "true",
        ],
    );
    assert_eq!(error["reason_code"], "beads_db_error");
    assert!(!world.view("a", "meta").exists());
    write(world.repo.join(".beads/beads.db"), "");
    world.run_to_end("a", &["--beads-gate"], &["exit:0"]);
}
