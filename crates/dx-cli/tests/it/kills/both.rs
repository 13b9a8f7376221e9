//! Monitor and launcher killed at once: nobody of ours sees the end, and the records say so.

use super::world::{CODE, Job, KILL, STOP, World, ours};
use dx_testkit::{is_running, send_signal, wait_until};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::world::PATIENCE;

/// Starts the job and kills all of ours while the agent goes on; none can act on the other's end, as all are stopped first.
#[track_caller]
fn orphaned(job: &Job<'_>) -> (String, i32) {
    let uuid = job.start(&[]);
    let agent = job.await_agent();
    let both = ours(&uuid);
    assert_eq!(both.len(), 2, "{both:?}");
    for signal in [STOP, KILL] {
        assert!(both.iter().all(|process| send_signal(process.pid, signal)), "{both:?}");
    }
    wait_until(PATIENCE, "both have gone", || ours(&uuid).is_empty());
    assert!(is_running(agent));
    (uuid, agent)
}

/// All files below a folder with what a write would change.
fn files(folder: &Path) -> BTreeMap<String, (u64, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        if meta.is_dir() {
            all.extend(files(&entry.path()));
        }
        let facts = (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        all.insert(entry.path().display().to_string(), facts);
    }
    all
}

#[test]
fn readers_tell_the_truth_and_write_nothing() {
    let world = World::new();
    let job = world.job("both");
    let (uuid, agent) = orphaned(&job);
    let state = world.env.state_dir();

    let before = files(&state);
    let (code, live) = job.ask(&["check"]);
    assert_eq!((code, &live["ended"]), (0, &false.into()), "{live}");
    let (code, _) = job.ask(&["wait", "--timeout", "100ms"]);
    assert_eq!(code, 35);
    world.env.run(&["status", "--json"]).assert_code(0);
    assert_eq!(files(&state), before);

    job.go();
    wait_until(PATIENCE, "the agent has ended", || !is_running(agent));
    let before = files(&state);
    for command in ["wait", "check"] {
        let (code, ended) = job.ask(&[command]);
        let told = (&ended["state"], &ended["reason_code"], &ended["outcome"]["exit_code"]);
        let truth = (&"exited_err".into(), &"late_finalize_no_rc".into(), &"-".into());
        assert_eq!((code, told), (3, truth), "{ended:#}");
    }
    let status = world.env.run(&["status", "--json"]).assert_code(0).stdout;
    assert!(status.contains("late_finalize_no_rc"), "{status}");
    assert_eq!(files(&state), before);

    world.env.run(&["prune"]).assert_code(0);
    let outcome = job.wait()["outcome"].clone();
    assert_eq!(
        (&outcome["exit_code"], &outcome["reason_code"]),
        (&"-".into(), &"late_finalize_no_rc".into())
    );
    assert_eq!(outcome["exit"], serde_json::Value::Null);
    assert!(!job.view("rc").exists());
    job.assert_settled(&uuid);
}

#[test]
fn prune_gives_a_living_agent_a_new_monitor_and_guard() {
    let world = World::new();
    let job = world.job("both");
    let (uuid, _) = orphaned(&job);
    world.env.run(&["prune"]).assert_code(0);
    let monitor = job.await_ours(&uuid, "dx-monitor", &[]);
    job.await_ours(&uuid, "dx-guard", &[]);
    assert_eq!(job.adoptions(&uuid), 1);
    // It is a monitor as any other: it is replaced too.
    super::world::kill(monitor);
    job.await_ours(&uuid, "dx-monitor", &[monitor]);
    job.go();
    job.assert_told_by_the_kernel(&uuid, CODE);
}

#[test]
fn stop_leaves_nothing() {
    let world = World::new();
    let job = world.job("both").doing(&[
        "ignore-term",
        "spawn-setsid:300",
        "double-fork:300",
        "print:on",
        "sleep:300",
    ]);
    let (uuid, agent) = orphaned(&job);
    wait_until(PATIENCE, "its children run", || std::fs::read_to_string(job.view("log")).unwrap() == "on\n");
    let (code, document) = job.ask(&["stop", "--grace", "100ms"]);
    assert_eq!((code, &document["reason_code"]), (0, &"manual_stop".into()), "{document}");
    assert!(!is_running(agent));
    job.assert_settled(&uuid);
}

#[test]
fn processes_of_ours_that_somebody_stopped_still_end_the_job() {
    let world = World::new();
    let job = world.job("stopped-ours");
    let uuid = job.start(&[]);
    job.await_agent();
    for process in ours(&uuid) {
        send_signal(process.pid, STOP);
    }
    let (code, stopped) = job.ask(&["stop", "--grace", "1s"]);
    assert_eq!((code, &stopped["reason_code"]), (0, &"manual_stop".into()), "{stopped:#}");
    job.assert_gone(&uuid);
}
