//! Several kills in a row, each after the one before was made good; and that limits hold afterwards.

use super::world::{CODE, PATIENCE, World, kill};
use dx_testkit::{is_running, wait_until};

#[test]
fn a_killed_monitor_is_replaced_and_the_new_one_enforces_limits() {
    let world = World::new();
    let job = world.job("limit").doing(&["print:one", "spawn-setsid:300", "sleep:300"]);
    let uuid = job.start(&["--max-runtime", "3s"]);
    let agent = job.await_agent();
    let monitor = job.await_ours(&uuid, "dx-monitor", &[]);
    kill(monitor);
    job.await_ours(&uuid, "dx-monitor", &[monitor]);
    wait_until(PATIENCE, "a new monitor has the run", || job.adoptions(&uuid) == 1);
    let document = job.wait();
    let outcome = &document["outcome"];
    assert_eq!(
        (&outcome["reason_code"], &outcome["exit_code"]),
        (&"max_runtime_exceeded".into(), &"124".into()),
        "{document:#}"
    );
    assert!(!is_running(agent));
    job.assert_settled(&uuid);
}

#[test]
fn limits_hold_under_a_guard_and_its_monitor() {
    let world = World::new();
    let job = world.job("limit").doing(&["print:one", "spawn-setsid:300", "sleep:300"]);
    let uuid = job.start(&["--max-runtime", "4s"]);
    job.await_agent();
    kill(job.await_ours(&uuid, "dx-launcher", &[]));
    job.await_ours(&uuid, "dx-guard", &[]);
    let monitor = job.await_ours(&uuid, "dx-monitor", &[]);
    kill(monitor);
    job.await_ours(&uuid, "dx-monitor", &[monitor]);
    let document = job.wait();
    assert_eq!(document["outcome"]["reason_code"], "max_runtime_exceeded", "{document:#}");
    job.assert_settled(&uuid);
}

#[test]
fn a_monitor_that_was_killed_again_and_again_is_replaced_each_time() {
    let world = World::new();
    let job = world.job("again");
    let uuid = job.start(&[]);
    job.await_agent();
    let mut killed = Vec::new();
    for round in 0..4 {
        let monitor = job.await_ours(&uuid, "dx-monitor", &killed);
        kill(monitor);
        killed.push(monitor);
        job.await_ours(&uuid, "dx-monitor", &killed);
        wait_until(PATIENCE, "a new monitor has the run", || job.adoptions(&uuid) > round);
    }
    job.go();
    assert_eq!(job.assert_told(&uuid, CODE)["witness"], "launcher");
}

#[test]
fn every_one_of_ours_in_turn() {
    // Launcher, then monitor, then guard, and once more round: from the second on nobody of ours is the parent.
    let world = World::new();
    let job = world.job("turn");
    let uuid = job.start(&[]);
    job.await_agent();
    let mut killed = vec![];
    for name in ["dx-launcher", "dx-monitor", "dx-guard", "dx-monitor", "dx-guard"] {
        let replacement = if name == "dx-launcher" { "dx-guard" } else { name };
        let victim = job.await_ours(&uuid, name, &killed);
        kill(victim);
        killed.push(victim);
        job.await_ours(&uuid, replacement, &killed);
    }
    job.go();
    job.assert_told_by_the_kernel(&uuid, CODE);
}

#[test]
fn a_launcher_lost_after_its_monitor_was_replaced() {
    let world = World::new();
    let job = world.job("second");
    let uuid = job.start(&[]);
    job.await_agent();
    let first = job.await_ours(&uuid, "dx-monitor", &[]);
    kill(first);
    job.await_ours(&uuid, "dx-monitor", &[first]);
    kill(job.await_ours(&uuid, "dx-launcher", &[]));
    job.await_ours(&uuid, "dx-guard", &[]);
    job.go();
    job.assert_told_by_the_kernel(&uuid, CODE);
}
