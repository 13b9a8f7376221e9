//! Journals that are damaged while their job lives: it can be ended, its end is told for what it is, and its id is free again.

use crate::world::{PATIENCE, World};
use dx_testkit::{is_running, read_pid, send_signal, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;

const KILL: i32 = 9;
const STOP: i32 = 19;

/// A job that sleeps, and its agent.
fn job(world: &World, id: &str) -> i32 {
    let started = world.start(id, &[], &["print:one", "sleep:600"]);
    wait_until(PATIENCE, "it is observed", || world.view(id, "obs").exists());
    started["pid"].as_str().unwrap().parse().unwrap()
}

fn run(world: &World, id: &str) -> PathBuf {
    world.env.state_dir().join("runs").join(&world.pairs(id, "meta")["run_uuid"])
}

/// In place, so that all names of the file have it.
fn damage(world: &World, id: &str) {
    std::fs::write(world.env.state_dir().join("live").join(format!("exec.{id}")), "nothing\n").unwrap();
}

fn launcher(world: &World, id: &str) -> i32 {
    let exit = std::fs::read(run(world, id).join("exit")).unwrap();
    let slot: Value = serde_json::from_slice(exit[..512].trim_ascii()).unwrap();
    i32::try_from(slot["pid"].as_i64().unwrap()).unwrap()
}

/// Kills these before one of them can replace another.
fn kill(pids: &[i32]) {
    for signal in [STOP, KILL] {
        for pid in pids {
            assert!(send_signal(*pid, signal));
        }
    }
    wait_until(PATIENCE, "they are dead", || !pids.iter().any(|pid| is_running(*pid)));
}

/// Refused by all that would have to know the job, with the word that helps.
#[track_caller]
fn assert_refused(world: &World, id: &str) {
    let next =
        format!("dx-runner stop --beads {id} --provider exec ends what is left of it and records its end");
    for command in ["check", "restart", "wait"] {
        let error = world.error(33, &[command, "--beads", id]);
        assert_eq!(
            (&error["reason_code"], &error["next_action"]),
            (&json!("record_unreadable"), &json!(next)),
            "{command}: {error:#}"
        );
    }
    let pruned = world.json(0, &["prune", "--beads", id]);
    assert!(pruned["pruned"] == 0 && pruned["details"].to_string().contains(&next), "{pruned:#}");
    let round = world.env.run(&["watchdog", "--once"]).assert_code(1).stdout;
    assert!(
        round.contains(&format!("failed {id} (exec): record_unreadable")) && round.contains(&next),
        "{round}"
    );
}

/// Ended, told, and out of the way.
#[track_caller]
fn assert_ended(world: &World, id: &str, reason: &str) {
    let check = world.json(3, &["check", "--beads", id]);
    assert_eq!((&check["reason_code"], &check["ended"]), (&json!(reason), &json!(true)), "{check:#}");
    assert!(!world.env.state_dir().join("live").join(format!("exec.{id}")).exists());
    let again = world.json(0, &["stop", "--beads", id]);
    assert_eq!((&again["changed"], &again["reason_code"]), (&json!(false), &json!(reason)), "{again:#}");
    let status = world.json(0, &["status"]);
    let row = status["jobs"].as_array().unwrap().iter().find(|row| row["beads"] == id).unwrap();
    assert_eq!(row["reason_code"], reason, "{row:#}");
    wait_until(PATIENCE, "nobody holds its journal", || world.try_start(id, &[], &["exit:0"]).code == 0);
    world.env.run(&["wait", "--beads", id]).assert_code(0);
}

#[test]
fn its_own_monitor_ends_it_when_there_is_one() {
    let world = World::new();
    let agent = job(&world, "bd-1");
    damage(&world, "bd-1");
    assert_refused(&world, "bd-1");
    let stopped = world.json(0, &["stop", "--beads", "bd-1"]);
    assert_eq!((&stopped["changed"], &stopped["reason_code"]), (&json!(true), &json!("manual_stop")));
    assert!(!is_running(agent));
    assert_eq!(world.pairs("bd-1", "outcome")["exit_code"], "137");
    assert_ended(&world, "bd-1", "manual_stop");
}

#[test]
fn an_agent_that_is_left_alone_is_ended_by_its_identity() {
    let world = World::new();
    let agent = job(&world, "bd-1");
    kill(&[launcher(&world, "bd-1"), read_pid(world.view("bd-1", "monitor.pid"))]);
    damage(&world, "bd-1");
    assert_refused(&world, "bd-1");
    assert!(is_running(agent));
    let ended = world.json(0, &["finalize", "--beads", "bd-1", "--reason", "lost", "--exit-code", "70"]);
    assert_eq!((&ended["changed"], &ended["reason_code"]), (&json!(true), &json!("forced_finalization")));
    assert!(!is_running(agent));
    let outcome = world.pairs("bd-1", "outcome");
    assert_eq!((&*outcome["exit_code"], &*outcome["state"]), ("70", "failed"));
    assert!(outcome["detail"].starts_with("lost; the journal "), "{outcome:?}");
    assert_ended(&world, "bd-1", "forced_finalization");
}

#[test]
fn a_launcher_that_can_have_no_monitor_any_more_holds_nobody_up() {
    let world = World::new();
    let agent = job(&world, "bd-1");
    damage(&world, "bd-1");
    assert!(send_signal(read_pid(world.view("bd-1", "monitor.pid")), KILL));
    let stopped = world.json(0, &["stop", "--beads", "bd-1"]);
    assert_eq!((&stopped["changed"], &stopped["state"]), (&json!(true), &json!("exited_err")));
    assert!(!is_running(agent));
    assert_ended(&world, "bd-1", "manual_stop");
}

#[test]
fn a_dead_one_is_settled_by_prune_and_never_as_a_success() {
    let world = World::new();
    let agent = job(&world, "bd-1");
    kill(&[launcher(&world, "bd-1"), read_pid(world.view("bd-1", "monitor.pid")), agent]);
    damage(&world, "bd-1");
    let pruned = world.json(0, &["prune", "--beads", "bd-1"]);
    assert_eq!(pruned["pruned"], 1, "{pruned:#}");
    assert!(pruned["details"][0].as_str().unwrap().ends_with("settled as failed (late_finalize_no_rc)"));
    assert_eq!(world.pairs("bd-1", "outcome")["exit_code"], "-");
    assert_ended(&world, "bd-1", "late_finalize_no_rc");
}

#[test]
fn a_claim_that_is_no_name_of_its_journal_is_mended() {
    let world = World::new();
    let agent = job(&world, "bd-1");
    let claim = world.env.state_dir().join("live/exec.bd-1");
    let other = world.env.path("other");
    std::fs::write(&other, "nothing\n").unwrap();
    std::fs::rename(&other, &claim).unwrap();
    world.error(33, &["check", "--beads", "bd-1"]);
    let pruned = world.json(0, &["prune"]);
    assert_eq!(pruned["pruned"], 1, "{pruned:#}");
    world.json(0, &["check", "--beads", "bd-1"]);
    assert!(is_running(agent));
    assert_eq!(world.json(0, &["stop", "--beads", "bd-1"])["reason_code"], "manual_stop");
    assert!(!is_running(agent) && !claim.exists());
}
