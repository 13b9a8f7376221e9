//! Questions and batches whose process is killed: nothing of theirs is left, and what is stored is true.

use super::questions::{M1, SOON, assert_quiet};
use super::real::World;
use crate::document;
use crate::kills::random::Random;
use dx_testkit::{describe, processes_with_marker, send_signal, wait_until};
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Batches that are killed, each at another instant of the first two seconds.
const KILLED: u64 = 3;
const SPAN_MS: u64 = 2_000;

impl World {
    /// Processes of ours with this hidden entry.
    pub(super) fn ours(&self, entry: &str) -> Vec<i32> {
        let home = self.env.home().display().to_string();
        let found = processes_with_marker("HOME", &home);
        found.into_iter().filter(|pid| describe(*pid).contains(entry)).collect()
    }

    pub(super) fn records(&self) -> usize {
        std::fs::read_dir(self.env.state_dir().join("questions")).into_iter().flatten().count()
    }

    pub(super) fn begin(&self, args: &[&str]) -> std::process::Child {
        let mut command: Command = self.env.product();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::world::spawn(command)
    }

    /// Asks, and kills who asks; `alone`: with the process that looks after it.
    pub(super) fn asks_and_dies(&self, words: &str, more: &[&str], alone: bool) {
        let prompt = format!("{words} [[mock:hang]]");
        let mut child = self.begin(&[&["dispatch", "--prompt", &prompt][..], &M1, more].concat());
        wait_until(SOON, "the model is asked", || self.calls(words) > 0);
        let cleaners = self.ours("__cleaner");
        assert_eq!(cleaners.len(), 1);
        if alone {
            send_signal(cleaners[0], 9);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

pub(super) fn a_killed_question(world: &World) {
    let before = world.sessions();
    world.asks_and_dies("KILLED-ONE", &[], false);
    wait_until(SOON, "its session is gone", || world.sessions() == before);
    assert_quiet(world, "KILLED-ONE");
    // When all of ours die, whoever asks next ends what is left.
    world.asks_and_dies("KILLED-ALL", &[], true);
    assert_eq!((world.sessions().len(), world.records()), (before.len() + 1, 1));
    world.asks("text:NEXT", &[]);
    assert_eq!((world.sessions(), world.records()), (before.clone(), 0));
    assert_quiet(world, "KILLED-ALL");
    // A session that was there before is stopped and stays.
    let kept = world.asks("text:FIRST", &["--keep-session"]);
    let id = kept["session"].as_str().unwrap();
    world.asks_and_dies("KILLED-KEPT", &["--session", id], false);
    wait_until(SOON, "it has been looked after", || world.records() == 0);
    assert_quiet(world, "KILLED-KEPT");
    world.asks("text:LAST", &["--session", id, "--cleanup"]);
    assert_eq!(world.sessions(), before);
    wait_until(SOON, "nobody looks after anything", || world.ours("__cleaner").is_empty());
}

pub(super) fn a_detached_batch_that_is_killed(world: &World) {
    let before = world.sessions();
    let mut random = Random::new(7);
    let mut seen = 0;
    for turn in 0..KILLED {
        let words = format!("KILLED-BATCH-{turn} ");
        let prompt = format!("{words} [[mock:sleep:1,text:LATE]]");
        let members = "opencode:plain/m1,opencode:locked/m1,opencode:mock/m1,opencode:hanging/m1";
        let child = world.begin(&["batch", "--members", members, "--prompt", &prompt, "--detach", "--json"]);
        wait_until(SOON, "the batch has its process", || !world.ours("__batch").is_empty());
        std::thread::sleep(Duration::from_millis(random.below(SPAN_MS)));
        for pid in world.ours("__batch") {
            send_signal(pid, 9);
        }
        let output = child.wait_with_output().unwrap();
        let ids = world.json("batches", 0, &["batch", "list"]);
        let shown = ids["batches"].as_array().unwrap().iter().map(|id| id.as_str().unwrap());
        let mut mine = shown.map(|id| world.json("batch", 0, &["batch", "show", id]));
        let Some(told) = mine.rfind(|b| b["prompt"].as_str().unwrap().starts_with(&words)) else {
            // Killed before it was stored: whoever began it was told so.
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
            continue;
        };
        seen += 1;
        assert_eq!(
            (&told["status"], &told["reason_code"], &told["exit_code"]),
            (&json!("interrupted"), &json!("batch_interrupted"), &json!(1)),
            "{told:#}"
        );
        let members = told["members"].as_array().unwrap();
        let status = |at: usize| (members[at]["status"].as_str().unwrap(), &members[at]["reason_code"]);
        let (aborted, auth) = (json!("aborted"), json!("auth_missing"));
        for (at, answer) in [(0, "Yes  it is."), (2, "LATE")] {
            let answered = status(at) == ("ok", &json!(null)) && members[at]["answer"] == answer;
            assert!(answered || status(at) == ("error", &aborted), "{told:#}");
        }
        assert!([("error", &auth), ("error", &aborted)].contains(&status(1)), "{told:#}");
        assert_eq!(status(3), ("error", &aborted), "{told:#}");
        let count = |word: &str| json!(members.iter().filter(|member| member["status"] == word).count());
        assert_eq!((&told["success"], &told["errors"]), (&count("ok"), &count("error")), "{told:#}");
        wait_until(SOON, "its sessions are gone", || world.sessions() == before);
        assert_quiet(world, &words);
    }
    assert!(seen > 0, "no batch was stored before its process was killed");
    // One that runs says so, and is judged by nobody.
    let begun = world.env.run(&[
        "batch",
        "--members",
        "opencode:plain/m1,opencode:hanging/m1",
        "--prompt",
        "STILL-ASKED",
        "--timeout",
        "8",
        "--detach",
        "--json",
    ]);
    let begun = document(&world.env, "batch", &begun.assert_code(0).stdout);
    let told = (&begun["status"], &begun["reason_code"], &begun["exit_code"]);
    assert_eq!(told, (&json!("running"), &json!("batch_running"), &json!(0)), "{begun:#}");
    let id = begun["id"].as_str().unwrap();
    let refused = world.env.run(&["batch", "judge", id, "--judge", "opencode:plain/m1"]).assert_code(32);
    assert!(refused.stderr.contains("reason: batch_running"), "{refused}");
    wait_until(SOON, "it ends", || world.json("batch", 0, &["batch", "show", id])["status"] == "ended");
    wait_until(SOON, "its process ends", || world.ours("__batch").is_empty());
    assert_eq!((world.sessions(), world.records()), (before, 0));
}
