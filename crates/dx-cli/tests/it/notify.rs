//! `start --notify`: told of begin, end and mark of a job, again when it failed, and never waited for.

use crate::document;
use crate::wave::notify::{signed_posts, told};
use crate::world::{PATIENCE, World};
use dx_testkit::wait_until;
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A program for `--notify`, named as a caller in its folder would.
fn program(world: &World, script: &str) -> String {
    let path = world.env.bin_dir().join("told");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// `running`, `ended success 0`, `blocked max_retries_exhausted`.
fn story(told: &[Value]) -> Vec<String> {
    let line = |notice: &Value| {
        let change = &notice["change"];
        let words = ["state", "outcome", "exit_code"].map(|key| change[key].as_str().unwrap_or_default());
        let reason = change["reason_code"].as_str().filter(|_| words[0] == "blocked").unwrap_or_default();
        [&words[..], &[reason]].concat().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    told.iter().map(line).collect()
}

/// The processes that tell of this world's jobs.
fn tellers(world: &World) -> usize {
    let home = world.env.home().display().to_string();
    let is_teller = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some("__tell")
    };
    dx_testkit::processes_with_marker("HOME", &home).iter().filter(|pid| is_teller(pid)).count()
}

#[test]
fn a_command_is_told_of_begin_and_end_though_it_fails_and_a_monitor_dies() {
    let world = World::new();
    let (log, once, gate) = (world.path("told.log"), world.path("once"), world.path("gate"));
    let script = format!(
        "text=$(cat); test -e {once} || {{ : > {once}; exit 3; }}; printf '%s\\n' \"$text\" >> {log}"
    );
    let notify = program(&world, &script);
    let wait = format!("wait-file:{gate}");
    world.start("bd-1", &["--notify", &notify], &["print:one", &wait, "exit:7"]);
    let run = world.pairs("bd-1", "meta")["run_uuid"].clone();
    let (_, monitor) = world.pids("bd-1");
    dx_testkit::send_signal(monitor, 9);
    wait_until(PATIENCE, "another monitor has it", || world.pids("bd-1").1 != monitor);
    std::fs::write(&gate, "").unwrap();
    let told = told(&log, 2);
    assert_eq!(story(&told), ["running", "ended failed 7"], "{told:#?}");
    for notice in &told {
        document(&world.env, "job-notice", &notice.to_string());
        assert_eq!((&notice["beads"], &notice["run_uuid"]), (&"bd-1".into(), &run.as_str().into()));
    }
    wait_until(PATIENCE, "nobody tells any more", || tellers(&world) == 0);
    // The next run of the job tells, too.
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    let told = crate::wave::notify::told(&log, 4);
    assert_eq!(story(&told)[2..], ["running", "ended failed 7"], "{told:#?}");
    assert_eq!((&told[3]["retries"], told[3]["run_uuid"] == told[0]["run_uuid"]), (&1.into(), false));
}

#[test]
fn an_address_gets_signed_posts_of_a_job_and_who_does_not_answer_holds_nothing_up() {
    let mut world = World::new();
    let key = "job-notice-key-7714";
    world.env.set("DX_RUNNER_NOTIFY_SECRET", key);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/job", listener.local_addr().unwrap());
    // Nobody takes the call before the job has ended.
    world.start("bd-1", &["--notify", &url], &["print:one", "exit:0"]);
    let ended = world.json(0, &["wait", "--beads", "bd-1"]);
    assert_eq!(ended["outcome"]["exit_code"], "0", "{ended:#}");
    let told = signed_posts(&listener, "/job", key, |told| {
        story(told).last().is_some_and(|line| line.starts_with("ended"))
    });
    assert_eq!(story(&told), ["running", "ended success 0"], "{told:#?}");
    let journal = world.pairs("bd-1", "meta")["run_uuid"].clone();
    let journal = std::fs::read_to_string(world.env.state_dir().join("runs").join(journal).join("journal"));
    let journal = journal.unwrap();
    assert!(journal.contains(&url) && !journal.contains(key), "{journal}");
}

#[test]
fn a_job_that_the_watchdog_gives_up_is_told_as_blocked() {
    let mut world = World::new();
    for name in ["STALL", "NO_OP", "STARTUP_GRACE"] {
        world.env.set(format!("DX_RUNNER_{name}_SEC"), "1");
    }
    world.env.set("DX_RUNNER_GRACE_MS", "500");
    let log = world.path("told.log");
    let notify = program(&world, &format!("cat >> {log}"));
    world.start("bd-1", &["--notify", &notify], &["print:one", "sleep:600"]);
    wait_until(PATIENCE, "it is stalled", || {
        world.json_any(&["check", "--beads", "bd-1"])["state"] == "stalled"
    });
    world.env.run(&["watchdog", "--once", "--max-retries", "0"]).assert_code(0);
    let told = told(&log, 3);
    let expected = ["running", "ended failed 124", "blocked max_retries_exhausted"];
    assert_eq!(story(&told), expected, "{told:#?}");
    wait_until(PATIENCE, "nobody tells any more", || tellers(&world) == 0);
}

#[test]
fn what_could_never_be_told_is_refused_and_what_was_not_told_is_shown() {
    let world = World::new();
    let refused = |notify: &str, why: &str| {
        let here = world.repo.display().to_string();
        let args = ["start", "--beads", "x", "--provider", "exec", "--worktree", &here, "--notify", notify];
        let output = world.env.run(&[&args[..], &["--", "true"]].concat()).assert_code(64);
        assert!(output.stderr.contains(why), "{output}");
    };
    refused("http://127.0.0.1:9/x", "DX_RUNNER_NOTIFY_SECRET is not set");
    refused("no-such-program-x y", "there is no program `no-such-program-x`");
    assert!(!Path::new(&world.env.state_dir().join("live/exec.x")).exists());
    let notify = program(&world, "exit 0");
    let gate = world.path("gate");
    world.start("bd-1", &["--notify", &notify], &[&format!("wait-file:{gate}")]);
    let uuid = world.pairs("bd-1", "meta")["run_uuid"].clone();
    let told = world.env.state_dir().join("runs").join(uuid).join("notified");
    wait_until(PATIENCE, "the begin is told", || told.exists());
    std::fs::remove_file(notify).unwrap();
    std::fs::write(&gate, "").unwrap();
    let mut check = Value::Null;
    wait_until(PATIENCE, "it says that nobody was told", || {
        check = world.json_any(&["check", "--beads", "bd-1"]);
        check["notify_failure"].is_string()
    });
    let failure = check["notify_failure"].as_str().unwrap();
    assert!(failure.starts_with("notice 2: there is no program"), "{check:#}");
    let text = world.env.run(&["check", "--beads", "bd-1"]).stdout;
    assert!(text.contains("not told by --notify: notice 2"), "{text}");
}
