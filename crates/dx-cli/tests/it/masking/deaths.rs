//! The same when processes of ours are killed: the values live as long as one of them does, and afterwards as far as
//! somebody knows them.

use super::{CORE, VALUE, stars};
use crate::world::{PATIENCE, World, read, write};
use dx_testkit::wait_until;

fn kill(pid: i32) {
    dx_testkit::send_signal(pid, 9);
}

fn launcher_of(world: &World, id: &str) -> i32 {
    let mut pid = None;
    wait_until(PATIENCE, "the launcher is told", || {
        let text = std::fs::read(world.view(id, "obs")).unwrap_or_default();
        let sample: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        pid = sample["launcher"]["pid"].as_i64();
        pid.is_some()
    });
    i32::try_from(pid.unwrap()).unwrap()
}

#[test]
fn the_next_monitor_knows_the_values_even_when_the_agent_has_gone() {
    let world = World::new();
    let go = world.path("go");
    let actions = ["print-env:HUSH:0:9", &format!("wait-file:{go}"), "print-env:HUSH:9:100", "print:x"];
    world.start_with_secret("bd-1", &[], &actions);
    let (agent, monitor) = world.pids("bd-1");
    world.until_log("bd-1", &VALUE[..9]);
    kill(monitor);
    write(&go, "");
    wait_until(PATIENCE, "the agent is gone", || !dx_testkit::is_running(agent));
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(world.view("bd-1", "log")), format!("{}x\n", stars(VALUE)));
    assert_eq!(world.check("bd-1")["outcome"].get("unmasked"), None);
    world.assert_silent("bd-1", &[CORE]);
}

#[test]
fn a_guard_knows_them_too() {
    let world = World::new();
    let go = world.path("go");
    world.start_with_secret("bd-1", &[], &["print:up", &format!("wait-file:{go}"), "print-env:HUSH"]);
    let (_, monitor) = world.pids("bd-1");
    kill(launcher_of(&world, "bd-1"));
    let journal = || read(world.view("bd-1", "events.jsonl"));
    wait_until(PATIENCE, "there is a guard", || journal().contains("launcher_lost"));
    kill(monitor);
    wait_until(PATIENCE, "the guard has started another", || {
        journal().matches("monitor_started").count() == 2
    });
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(world.view("bd-1", "log")), format!("up\n{}\n", stars(VALUE)));
    world.assert_silent("bd-1", &[CORE]);
}

/// Kills monitor and launcher at once; the agent lives on with nobody.
#[track_caller]
fn kill_ours(world: &World, id: &str) {
    let (_, monitor) = world.pids(id);
    let launcher = launcher_of(world, id);
    for pid in [launcher, monitor] {
        dx_testkit::send_signal(pid, 19);
    }
    for pid in [launcher, monitor] {
        kill(pid);
    }
    wait_until(PATIENCE, "ours are gone", || {
        !dx_testkit::is_running(launcher) && !dx_testkit::is_running(monitor)
    });
}

#[test]
fn a_command_that_passes_a_run_on_reads_them_from_the_agent() {
    let world = World::new();
    let go = world.path("go");
    world.start_with_secret("bd-1", &[], &["print:up", &format!("wait-file:{go}"), "print-env:HUSH"]);
    kill_ours(&world, "bd-1");
    // Without the value in its own environment.
    world.env.run(&["prune"]).assert_code(0);
    let journal = || read(world.view("bd-1", "events.jsonl"));
    wait_until(PATIENCE, "the run has a monitor", || journal().matches("monitor_started").count() == 2);
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]);
    assert_eq!(read(world.view("bd-1", "log")), format!("up\n{}\n", stars(VALUE)));
    world.assert_silent("bd-1", &[CORE]);
}

#[test]
fn when_all_have_died_the_settling_command_masks_what_it_knows_and_says_the_rest() {
    for known in [true, false] {
        let world = World::new();
        let go = world.path("go");
        let actions =
            ["print:up", &format!("wait-file:{go}"), "print-env:HUSH", "print:glpat-zqxTokenNeedle4402"];
        world.start_with_secret("bd-1", &[], &actions);
        let (agent, _) = world.pids("bd-1");
        kill_ours(&world, "bd-1");
        write(&go, "");
        wait_until(PATIENCE, "the agent is gone", || !dx_testkit::is_running(agent));
        // Reading is reading, and shows no token.
        let before = read(world.view("bd-1", "log"));
        assert!(before.contains(CORE) && before.contains("zqxTokenNeedle"), "{before}");
        let shown = world.env.run(&["logs", "--raw", "--beads", "bd-1"]).assert_code(0).stdout;
        assert!(!shown.contains("zqxTokenNeedle"), "{shown}");
        assert_eq!(read(world.view("bd-1", "log")), before);

        let prune = if known { world.knowing(&["prune"]) } else { world.env.product() };
        let mut prune = prune;
        if !known {
            prune.arg("prune");
        }
        world.env.run_command(prune).assert_code(0);
        let value = if known { stars(VALUE) } else { VALUE.to_owned() };
        let token = stars("glpat-zqxTokenNeedle4402");
        assert_eq!(read(world.view("bd-1", "log")), format!("up\n{value}\n{token}\n"));
        let told = world.check("bd-1")["outcome"]["unmasked"].clone();
        let expected = if known { serde_json::Value::Null } else { serde_json::json!(["HUSH"]) };
        assert_eq!(told, expected);
    }
}
