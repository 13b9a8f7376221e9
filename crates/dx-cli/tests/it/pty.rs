//! Jobs on a pseudo-terminal: the log stays whole while one process of ours at a time is killed; without any of ours the
//! agent is hung up, and that is told.
//!
//! For: `start --pty`. Must never: expect more of a terminal than its documentation promises.

use crate::kills::world::{CODE, KILL, PATIENCE, STOP, World};
use dx_testkit::{is_running, send_signal, wait_until};

/// What the agent prints, as a terminal shows it.
const SHOWN: &str = "one\r\ntwo\r\n";

#[test]
fn output_on_a_terminal_is_whole() {
    let world = World::new();
    let job = world.job("pty-plain").doing(&["print:one", "print:two", "exit:7"]);
    let uuid = job.start(&["--pty"]);
    let document = job.wait();
    assert_eq!(document["outcome"]["exit_code"], CODE.to_string());
    assert_eq!(document["outcome"]["execution_mode"], "pty-detached");
    assert_eq!(std::fs::read_to_string(job.view("log")).unwrap(), SHOWN);
    job.assert_settled(&uuid);
}

#[test]
fn the_log_goes_on_when_launcher_guard_and_monitor_are_killed_in_turn() {
    let world = World::new();
    let job = world.job("pty-turns");
    let uuid = job.start(&["--pty"]);
    job.await_agent();
    wait_until(PATIENCE, "the first line is in the log", || {
        std::fs::read_to_string(job.view("log")).is_ok_and(|text| text == "one\r\n")
    });
    let monitor = job.await_ours(&uuid, "dx-monitor", &[]);
    send_signal(job.await_ours(&uuid, "dx-launcher", &[]), KILL);
    job.await_ours(&uuid, "dx-guard", &[]);
    send_signal(monitor, KILL);
    job.await_ours(&uuid, "dx-monitor", &[monitor]);
    wait_until(PATIENCE, "the new monitor is in the journal", || job.adoptions(&uuid) == 1);
    job.go();
    let document = job.wait();
    assert_eq!(document["outcome"]["exit_code"], CODE.to_string(), "{document:#}");
    assert_eq!(std::fs::read_to_string(job.view("log")).unwrap(), SHOWN);
    assert!(job.events(&uuid).iter().any(|event| event["type"] == "log_gap"), "what may be lost is told");
    job.assert_settled(&uuid);
}

#[test]
fn an_agent_without_any_of_ours_is_hung_up_and_that_is_told() {
    let world = World::new();
    let job = world.job("pty-both");
    let uuid = job.start(&["--pty"]);
    let agent = job.await_agent();
    let ours = [job.await_ours(&uuid, "dx-monitor", &[]), job.await_ours(&uuid, "dx-launcher", &[])];
    for pid in ours {
        // Stopped first, so that neither notices that the other one dies.
        send_signal(pid, STOP);
    }
    for pid in ours {
        send_signal(pid, KILL);
    }
    wait_until(PATIENCE, "the agent is hung up", || !is_running(agent));
    let document = job.wait();
    assert_eq!(document["outcome"]["exit_code"], "-", "{document:#}");
    assert_eq!(document["reason_code"], "late_finalize_no_rc");
}
