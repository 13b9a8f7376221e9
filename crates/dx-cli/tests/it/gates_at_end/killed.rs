//! Checks and the settler's steps when ours are killed: no step is lost or stands twice. Must never: end a process that a
//! job of the test did not start.

use super::{COMMIT, assert_end, assert_nothing_left};
use crate::world::{MARK, PATIENCE, World, read, write};
use dx_testkit::{processes_with_marker, send_signal, wait_until};
use serde_json::Value;

const KILL: i32 = 9;

/// Kills the one process of the run with this name.
#[track_caller]
fn kill_named(uuid: &str, name: &str) {
    let found: Vec<_> = crate::kills::world::programs(uuid).into_iter().filter(|o| o.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    assert!(send_signal(found[0].pid, KILL));
}

#[test]
fn a_monitor_that_dies_in_the_middle_of_a_check_is_replaced_and_the_check_runs_again_alone() {
    let world = World::new();
    let (runs, go) = (world.path("runs"), world.path("go"));
    let command = format!("echo $$ >> {runs}; while ! test -e {go}; do sleep 0.02; done");
    let uuid = world.sh("bd-1", &["--check", &command], "echo 1 > new");
    let began = |n: usize| {
        wait_until(PATIENCE, &format!("the check runs for the {n}. time"), || {
            std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() == n)
        });
    };
    began(1);
    kill_named(&uuid, "dx-monitor");
    began(2);
    let first: i32 = read(&runs).lines().next().unwrap().parse().unwrap();
    // A dead one that nobody has reaped yet has no environment.
    let alive = processes_with_marker(MARK, &uuid);
    assert!(!alive.contains(&first), "the first one was ended before: {first} in {alive:?}");
    // The launcher too: somebody stands in for it, and replaces the next monitor that dies.
    kill_named(&uuid, "dx-launcher");
    wait_until(PATIENCE, "a guard stands in", || {
        crate::kills::world::programs(&uuid).iter().any(|o| o.name == "dx-guard")
    });
    kill_named(&uuid, "dx-monitor");
    began(3);
    write(&go, "");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"], "each step stands once");
    assert_nothing_left(&uuid);
}

#[test]
fn after_all_of_ours_died_in_a_check_a_command_has_it_run_again() {
    let world = World::new();
    let (runs, go) = (world.path("runs"), world.path("go"));
    let command = format!("echo $$ >> {runs}; while ! test -e {go}; do sleep 0.02; done");
    let all_die = |id: &str| {
        let before = std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
        let uuid = world.sh(id, &["--check", &command], "true");
        wait_until(PATIENCE, "the check runs", || {
            std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() > before)
        });
        // The launcher first, stopped, so that it replaces nobody.
        for name in ["dx-launcher", "dx-monitor"] {
            let found = crate::kills::world::programs(&uuid);
            found.iter().filter(|o| o.name == name).for_each(|o| assert!(send_signal(o.pid, 19)));
        }
        for name in ["dx-launcher", "dx-monitor"] {
            kill_named(&uuid, name);
        }
        wait_until(PATIENCE, "none of ours is left", || crate::kills::world::programs(&uuid).is_empty());
        uuid
    };
    // A reader tells what it can and does nothing; `wait` does not wait for the dead.
    let uuid = all_die("bd-1");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "infra", "exited_err", "gate_unanswered", "0");
    assert!(check["next_action"].as_str().unwrap().contains("prune"), "{check}");
    world.env.run(&["prune"]).assert_code(0);
    wait_until(PATIENCE, "it runs again", || read(&runs).lines().count() == 2);
    assert_eq!(world.check("bd-1")["reason_code"], "awaiting_finalize");
    write(&go, "");
    assert_end(&world.wait("bd-1"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"]);
    assert_nothing_left(&uuid);

    // Who wants it ended does not have it run again.
    std::fs::remove_file(&go).unwrap();
    let uuid = all_die("bd-2");
    world.env.run(&["stop", "--beads", "bd-2"]).assert_code(0);
    let check = world.wait("bd-2");
    assert_end(&check, "none", "infra", "exited_err", "manual_stop", "137");
    assert_eq!(read(&runs).lines().count(), 3);
    assert_nothing_left(&uuid);
}

#[test]
fn a_settler_or_monitor_killed_at_any_step_changes_nothing() {
    let steps = [
        "settler.provider_told",
        "settler.work_told",
        "check.started",
        "check.ended",
        "monitor.after_settler",
    ];
    for step in steps {
        let world = World::new();
        let (marker, runs) = (world.path("killed"), world.path("runs"));
        let more =
            ["--require-commit", "--scope", "*.txt", "--check", &format!("echo run >> {runs}; exit 0")]
                .map(str::to_owned);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let mut command = world.sh_command("bd-1", &more, &format!("echo 2 > a.txt; {COMMIT}"));
        command.env("DX_FAULT_KILL", format!("{step}@{marker}"));
        let started: Value =
            serde_json::from_str(&world.env.run_command(command).assert_code(0).stdout).unwrap();
        let uuid = started["run_uuid"].as_str().unwrap().to_owned();
        let check = world.wait("bd-1");
        assert!(std::path::Path::new(&marker).exists(), "{step} was never reached");
        assert_end(&check, "pass", "pass", "exited_ok", "process_exit_with_rc", "0");
        assert_eq!(check["outcome"]["work"]["mutations"], 1, "{step}");
        assert_eq!(world.steps(&uuid), ["provider", "work", "commit", "scope", "check"], "{step}");
        let times = read(&runs).lines().count();
        let again = if step == "check.ended" { 2 } else { 1 };
        assert!(times <= 2 && (times == again || step == "check.started"), "{step}: {times}");
        assert_nothing_left(&uuid);
    }
}
