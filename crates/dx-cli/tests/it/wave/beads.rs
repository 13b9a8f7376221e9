//! Waves from the issues of Beads, with a stand-in for `bd` that answers what the real one was recorded to answer;
//! `cargo xtask soak beads` asks the real one.

use super::world::{PATIENCE, World, row, states};
use dx_testkit::wait_until;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Outputs and exit codes of `br` 0.2.11. A file in the store holds each issue's status.
const STAND_IN: &str = r#"#!/bin/sh
store="$PWD/.beads"
refuse() { printf '{"error":{"code":"%s","message":"%s","hint":"-","retryable":false,"context":null}}\n' "$1" "$2" >&2; exit "$3"; }
status() { cat "$store/status.$1" 2>/dev/null || echo open; }
issue() { printf '{"id":"%s","title":"%s","status":"%s","priority":2,"issue_type":"%s"%s}' "$1" "$2" "$(status "$1")" "$3" "$4"; }
[ -e "$store/beads.db" ] || refuse NOT_INITIALIZED "Beads not initialized: run 'br init' first" 2
case "$1" in
ready|blocked) [ -e "$store/hang" ] && sleep 1000 ;;
*) [ -e "$store/hang.writes" ] && sleep 1000 ;;
esac
# Held by somebody else for the next calls.
for lock in "$store"/locked.*; do [ -e "$lock" ] && rm "$lock" && refuse DATABASE_LOCKED "Database is locked" 2; done
for odd in "$store"/odd.*; do [ -e "$odd" ] && rm "$odd" && refuse DATABASE_ERROR "Database error: OpenRead failed" 2; done
case "$1 $2" in
"ready "*) [ -e "$store/none" ] && echo '[]' && exit
  echo "[$(issue bd-a Good task ',"description":"Make a.txt."'),$(issue bd-b Bad bug ''),$(issue bd-e All epic ''),$(issue HEAD Odd task '')]" ;;
"blocked "*) case "$*" in *--limit*) echo 'Error: unknown flag: --limit' >&2; exit 1 ;; esac
  [ -e "$store/none" ] && echo '[]' && exit
  echo "[$(issue bd-d End task ',"blocked_by":["bd-c","bd-b"],"blocked_by_count":2'),$(issue bd-c Next task ',"blocked_by":["bd-a"],"blocked_by_count":1'),$(issue bd-f Far task ',"blocked_by":["bd-x"],"blocked_by_count":1')]" ;;
"show "*) echo "[$(issue "$2" Any task '')]" ;;
"update "*) echo "$4" > "$store/status.$2"; echo "$2 $4" >> "$store/log"; echo "[$(issue "$2" Any task '')]" ;;
"close "*) [ "$(status "$2")" = closed ] && refuse NOTHING_TO_DO "Nothing to do: all 1 issue(s) skipped" 3
  echo closed > "$store/status.$2"; echo "$2 closed" >> "$store/log"
  # Whoever asked does not hear of it.
  [ -e "$store/deaf" ] && rm "$store/deaf" && kill -9 $$
  echo "[{\"id\":\"$2\",\"title\":\"Any\",\"status\":\"closed\",\"close_reason\":\"x\"}]" ;;
"comments add") echo "$3 says $4" >> "$store/log"; echo '{"id":1,"issue_id":"bd","author":"unknown","text":"x"}' ;;
*) refuse USAGE "unknown: $*" 64 ;;
esac
"#;

/// A world with a stand-in, a store in the repository, and a configuration in which a call may take half a second.
fn world() -> (World, PathBuf) {
    let world = World::new();
    let bd = world.env.bin_dir().join("bd");
    std::fs::write(&bd, STAND_IN).unwrap();
    std::fs::set_permissions(&bd, std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = world.repo.join(".beads");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("beads.db"), "").unwrap();
    (world, store)
}

fn configure(world: &World, text: &str) {
    let config = world.env.path("xdg/config/dx-runner/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, text).unwrap();
}

/// A wave file without items: each keeps its prompt, and `bd-b` fails.
fn file(world: &World) -> String {
    let script = "cat > $DX_RUNNER_BEADS_ID.md; test $DX_RUNNER_BEADS_ID != bd-b";
    let head = format!(
        "max_attempts = 1\nmerge_into = \"all\"\n[defaults]\nsandbox = \"off\"\ncommand = [\"sh\", \"-ec\", \"{script}\"]"
    );
    world.file(&head, &[])
}

fn log(store: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(store.join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ready_issues_and_what_waits_only_for_them_are_the_items() {
    let (world, store) = world();
    let file = file(&world);
    let plan = world.env.run(&["wave", "plan", &file, "--from-beads"]).assert_code(0).stdout;
    let lines: Vec<&str> = plan.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "layer 1",
            "  bd-a  exec",
            "  bd-b  exec",
            "layer 2",
            "  bd-c  exec  needs bd-a",
            "layer 3",
            "  bd-d  exec  needs bd-c, bd-b",
            "left out: bd-e, because an epic is done by its issues",
            "left out: HEAD, because no branch can have this name",
            "left out: bd-f, because it waits for bd-x, which is not begun here",
            "then everything is merged into all",
        ]
    );
    let plan = world.ask(&["plan", &file, "--from-beads"]).1;
    crate::document(&world.env, "wave-plan", &plan.to_string());
    // Without a file configuration and the current folder serve.
    configure(&world, "provider = \"claude-code\"\n");
    let mut command = world.env.product();
    command.args(["wave", "plan", "--from-beads"]).current_dir(&world.repo);
    let plan = world.env.run_command(command).assert_code(0).stdout;
    assert!(plan.starts_with("wave beads: 4 items in 3 layers\n"), "{plan}");

    let refused = |args: &[&str], code: i32, reason: &str| {
        let (exit, error) = world.ask(&[&["plan"], args].concat());
        assert_eq!((exit, &error["error"]["reason_code"]), (code, &reason.into()), "{error:#}");
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(world.ask(&["plan"]).0, 64);
    assert_eq!(world.ask(&["run", &file, "--write-back"]).0, 64);
    std::fs::write(store.join("none"), "").unwrap();
    refused(&[&file, "--from-beads"], 1, "beads_none_ready");
    std::fs::remove_file(store.join("none")).unwrap();
    configure(&world, "beads_timeout = \"500ms\"\n");
    std::fs::write(store.join("hang"), "").unwrap();
    refused(&[&file, "--from-beads"], 35, "beads_timeout");
    std::fs::remove_file(store.join("hang")).unwrap();
    std::fs::remove_file(store.join("beads.db")).unwrap();
    let message = refused(&[&file, "--from-beads"], 24, "beads_db_error");
    assert!(message.contains("Beads not initialized"), "{message}");
    std::fs::remove_file(world.env.bin_dir().join("bd")).unwrap();
    refused(&[&file, "--from-beads"], 24, "beads_unavailable");
    let with_items = world.file("", &[super::world::item("a", &[], "true", "")]);
    std::fs::write(world.env.bin_dir().join("bd"), STAND_IN).unwrap();
    std::fs::set_permissions(world.env.bin_dir().join("bd"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(store.join("beads.db"), "").unwrap();
    let message = refused(&[&with_items, "--from-beads"], 64, "wave_file_invalid");
    assert!(message.contains("leave out --from-beads, or the items"), "{message}");
}

#[test]
fn states_are_written_back_when_asked_and_a_held_database_is_asked_again() {
    let (world, store) = world();
    for lock in ["locked.1", "locked.2", "odd.1", "odd.2"] {
        std::fs::write(store.join(lock), "").unwrap();
    }
    std::fs::write(store.join("deaf"), "").unwrap();
    let (code, wave) = world.ask(&["run", &file(&world), "--from-beads", "--write-back"]);
    assert_eq!(
        (code, states(&wave)),
        (31, ["done", "failed", "done", "skipped"].map(str::to_owned).to_vec()),
        "{wave:#}"
    );
    let prompt = world.show("all", "bd-a.md");
    assert_eq!(prompt, "bd-a: Good\n\nMake a.txt.\n");
    let of = |id: &str| -> Vec<String> {
        log(&store).into_iter().filter_map(|line| Some(line.strip_prefix(id)?.trim().to_owned())).collect()
    };
    wait_until(PATIENCE, "everything is written", || of("bd-c").len() == 2 && of("bd-b").len() == 3);
    assert_eq!(of("bd-a"), ["in_progress", "closed"]);
    assert_eq!(of("bd-c"), ["in_progress", "closed"]);
    let bad = of("bd-b");
    assert_eq!(bad[..2], ["in_progress", "blocked"]);
    assert!(bad[2].starts_with("says dx-runner, wave w-1: failed: process_exit_with_rc"), "{bad:?}");
    assert!(of("bd-d").is_empty() && of("bd-e").is_empty(), "{:?}", log(&store));
    wait_until(PATIENCE, "nothing is left to be told", || {
        super::world::coordinator(&world.env.state_dir(), "w-1").is_none()
    });
    assert_eq!(world.ask(&["status", "w-1"]).1["write_back_failure"], Value::Null);
}

/// The wave had ended, and goes on for its merge: nobody is told again what they know, and a closed issue stays closed.
#[test]
fn a_resumed_merge_tells_only_what_is_new() {
    let (world, store) = world();
    world.env.git(&world.repo, &["checkout", "-q", "-b", "all"]);
    std::fs::write(world.repo.join("README.md"), "mine\n").unwrap();
    let (told, file) = (world.path("told"), file(&world));
    let notify = format!("tee -a {told}");
    let gone = || {
        wait_until(PATIENCE, "nothing is left to be told", || {
            super::world::coordinator(&world.env.state_dir(), "w-1").is_none()
        });
    };
    let (code, wave) = world.ask(&["run", &file, "--from-beads", "--write-back", "--notify", &notify]);
    assert_eq!((code, &wave["merged"]["commit"]), (31, &Value::Null), "{wave:#}");
    gone();
    let (before, known) = (log(&store), super::notify::lines(&told));
    assert!(before.contains(&"bd-a closed".to_owned()) && !known.is_empty(), "{before:?} {known:?}");
    world.env.git(&world.repo, &["checkout", "README.md"]);
    let (code, wave) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, wave["merged"]["commit"].is_string()), (31, true), "{wave:#}");
    gone();
    assert_eq!(log(&store), before);
    let numbers: Vec<_> = super::notify::lines(&told).iter().filter_map(|n| n["number"].as_u64()).collect();
    assert!(numbers.len() > known.len() && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn a_beads_that_hangs_keeps_no_wave_waiting_and_nothing_is_written_unasked() {
    let (world, store) = world();
    configure(&world, "beads_timeout = \"1s\"\n");
    std::fs::write(store.join("hang.writes"), "").unwrap();
    let (code, wave) = world.ask(&["run", &file(&world), "--from-beads", "--write-back"]);
    assert_eq!((code, row(&wave, "bd-c")["state"].as_str()), (31, Some("done")), "{wave:#}");
    assert!(log(&store).is_empty());
    std::fs::remove_file(store.join("hang.writes")).unwrap();
    wait_until(PATIENCE, "it is written when it answers again", || {
        log(&store).contains(&"bd-c closed".to_owned())
    });
    wait_until(PATIENCE, "nothing is left to be told", || {
        super::world::coordinator(&world.env.state_dir(), "w-1").is_none()
    });
    let (world, store) = self::world();
    let (code, wave) = world.ask(&["run", &file(&world), "--from-beads"]);
    assert_eq!(code, 31, "{wave:#}");
    assert!(log(&store).is_empty());
}
