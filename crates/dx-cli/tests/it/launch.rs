//! Starts whose monitor is not what it should be: a stand-in beside the program. There is never a second one while the
//! first may live, and a start that failed leaves a settled record.

use crate::world::{World, error_of, read, write};
use dx_protocol::{Event, Record, Timestamp, Writer};
use dx_testkit::{Output, TestEnv, is_running, read_pid, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// A world whose program finds `script` as its monitor; each call of it adds its pid to the file `calls`.
fn with_monitor(script: &str) -> (World, PathBuf) {
    let mut world = World::new();
    world.env = with_program(world.env);
    let calls = world.env.path("calls");
    let monitor = world.env.bin_dir().join("dx-monitor");
    let root = world.env.root().display();
    write(&monitor, format!("#!/bin/sh\necho $$ >> {root}/calls\nroot={root}\n{script}\n"));
    std::fs::set_permissions(&monitor, std::fs::Permissions::from_mode(0o755)).unwrap();
    (world, calls)
}

/// The program under another name of its file, so that what lies beside it is the test's.
fn with_program(env: TestEnv) -> TestEnv {
    let program = env.bin_dir().join("dx-runner");
    let built = env!("CARGO_BIN_EXE_dx-runner");
    if std::fs::hard_link(built, &program).is_err() {
        std::fs::copy(built, &program).unwrap();
    }
    env.dx_runner(program).deadline(Duration::from_mins(3))
}

fn start(world: &World, more: &[&str]) -> Output {
    world.try_start("bd-1", &[&["--json"], more].concat(), &["append-pid:agents", "sleep:300"])
}

#[test]
fn a_failed_start_that_the_monitor_recorded_is_told_and_not_tried_again() {
    let (world, calls) = with_monitor("cat $root/record >&3");
    let event = Event::SpawnFailed { errno: 11, message: "the launcher could not be forked".to_owned() };
    let record = Record { at: Timestamp(1), mono_ms: 1, by: Writer::Monitor, event };
    write(world.env.path("record"), format!("{}\n", serde_json::to_string(&record).unwrap()));
    // A key is not used up by a run that never ran.
    for _ in 0..2 {
        let output = start(&world, &["--idempotency-key", "k"]).assert_code(1);
        let error = error_of(&world.env, &output);
        assert_eq!(error["reason_code"], "spawn_failed", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("forked: Resource temporarily unavailable"), "{error}");
        assert_eq!(world.outcome("bd-1").1, "spawn_failed");
    }
    assert_eq!(read(calls).lines().count(), 2, "one monitor for each start");
}

#[test]
fn monitors_that_only_die_are_given_up() {
    let (world, calls) = with_monitor("exit 1");
    let error = error_of(&world.env, &start(&world, &[]).assert_code(1));
    assert_eq!(error["reason_code"], "monitor_lost", "{error}");
    // Three monitors, and one question: whether it is of our build.
    assert_eq!(read(calls).lines().count(), 4);
    assert_eq!(world.outcome("bd-1").1, "spawn_failed");
    assert!(!world.repo.join("agents").exists());
}

#[test]
fn a_monitor_that_hangs_is_killed_before_the_next_one() {
    let (world, calls) =
        with_monitor("[ -e $root/hung ] && exec $root/monitor \"$@\"\n: > $root/hung\nexec sleep 300");
    let monitor = PathBuf::from(env!("CARGO_BIN_EXE_dx-monitor"));
    std::os::unix::fs::symlink(monitor, world.env.path("monitor")).unwrap();
    start(&world, &[]).assert_code(0);
    let (_, second) = world.pids("bd-1");
    let first: i32 = read(&calls).lines().next().unwrap().parse().unwrap();
    assert!(first != second && !is_running(first) && is_running(second));
    // `start` returns when the agent's program runs; its first line comes a moment later.
    let written =
        || std::fs::read_to_string(world.repo.join("agents")).is_ok_and(|text| text.ends_with('\n'));
    wait_until(Duration::from_mins(1), "the agent's line", written);
    assert_eq!(read(world.repo.join("agents")).lines().count(), 1);
    world.env.run(&["stop", "--beads", "bd-1", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_start_whose_pipe_stays_open_settles_nothing() {
    // Something that cannot be killed in time stands where the launcher would.
    let (world, calls) = with_monitor("sleep 300 & echo $! > $root/rest; exec sleep 300");
    let error = error_of(&world.env, &start(&world, &[]).assert_code(35));
    assert_eq!(error["reason_code"], "deadline_exceeded", "{error}");
    assert_eq!(read(calls).lines().count(), 1);
    assert!(!world.view("bd-1", "outcome").exists());
    // It holds the lock too: nobody settles the run or starts it again meanwhile.
    assert_eq!(error_of(&world.env, &start(&world, &[]).assert_code(32))["reason_code"], "already_running");
    assert!(dx_testkit::send_signal(read_pid(world.env.path("rest")), 9));
    dx_testkit::wait_until(Duration::from_secs(20), "prune has settled it", || {
        world.json(0, &["prune"])["pruned"] == 1
    });
    assert_eq!(world.outcome("bd-1").1, "spawn_failed");
}
