//! Journals that are newer, torn, emptied, or lack their exit file.

use super::{ask, copy_of, everything, put, run_of, start};
use serde_json::json;

#[test]
fn a_newer_record_is_refused_by_every_command_and_stays_as_it_is() {
    for newer in [(r#""version":1"#, r#""version":2"#), ("dx-runner/journal/1", "dx-runner/journal/2")] {
        let env = copy_of("ended");
        let journal = run_of(&env, "failed").join("journal");
        let text = std::fs::read_to_string(&journal).unwrap();
        assert!(text.contains(newer.0), "{text}");
        put(&journal, text.replacen(newer.0, newer.1, 1));
        // And once more as a claim: a run that a newer version works on at this moment.
        super::make_dir(&env.state_dir().join("live"));
        std::fs::copy(&journal, env.state_dir().join("live/exec.newer")).unwrap();
        let before = everything(&env.state_dir());
        for id in ["failed", "newer"] {
            let logs = env.run(&["logs", "--beads", id]).assert_code(33);
            assert!(logs.stderr.contains("reason: record_newer"), "{logs}");
            for command in ["check", "events", "wait"] {
                let (code, error) = ask(&env, &[command, "--beads", id]);
                let reason = &error["error"]["reason_code"];
                assert_eq!((code, reason), (33, &json!("record_newer")), "{command} {id}: {error:#}");
            }
        }
        let (code, status) = ask(&env, &["status", "--all"]);
        assert_eq!(
            (code, status["jobs"].as_array().unwrap().len()),
            (0, 8),
            "the index tells the ended: {status:#}"
        );
        assert_eq!(everything(&env.state_dir()), before);
        for args in [
            &["stop", "--beads", "newer"][..],
            &["finalize", "--beads", "newer"],
            &["restart", "--beads", "newer"],
            &["stop", "--beads", "failed"],
        ] {
            let (code, error) = ask(&env, args);
            assert_eq!(
                (code, &error["error"]["reason_code"]),
                (33, &json!("record_newer")),
                "{args:?}: {error:#}"
            );
        }
        let (code, prune) = ask(&env, &["prune"]);
        assert_eq!((code, &prune["pruned"]), (0, &json!(0)), "{prune:#}");
        assert!(prune["details"].to_string().contains("newer version"), "{prune:#}");
        assert_eq!(start(&env, "newer", &[], &["exit:0"]).code, 33);
        let kept = |(path, ..): &&(std::path::PathBuf, u32, Vec<u8>)| path.is_file();
        let after = everything(&env.state_dir());
        assert!(before.iter().filter(kept).all(|file| after.contains(file)), "something was changed");
    }
}

#[test]
fn unknown_events_torn_ends_and_garbage_are_passed_over() {
    let env = copy_of("ended");
    let journal = run_of(&env, "failed").join("journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let unknown = r#"{"at":"2026-01-01T00:00:00.001Z","mono_ms":1,"by":"monitor","event":{"type":"from_tomorrow","x":[{"y":1}]}}"#;
    let garbage = ["", "{", "null", "[]", "\u{0}\u{0}\u{0}", unknown, "{\"at\":1}", "ä€ not JSON", lines[0]];
    for (n, line) in garbage.into_iter().enumerate() {
        lines.insert(1 + n % 3, line);
    }
    put(&journal, format!("{}\n{{\"at\":1,\"mono_ms\":9,\"by\":\"moni", lines.join("\n")));
    let (code, check) = ask(&env, &["check", "--beads", "failed"]);
    assert_eq!((code, &check["outcome"]["exit_code"]), (3, &json!("7")), "{check:#}");
    let events = env.run(&["events", "--beads", "failed"]).assert_code(0).stdout;
    assert!(events.contains("from_tomorrow") && events.contains(r#""type":"ended""#), "{events}");
    assert!(events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    start(&env, "failed", &[], &["exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", "failed", "--timeout", "60s"]).assert_code(0);
}

#[test]
fn a_journal_that_lost_its_end_is_settled_from_the_exit_file() {
    for (exit_file, code, reason) in
        [(true, "7", "process_exit_with_rc"), (false, "-", "late_finalize_no_rc")]
    {
        let env = crate::environment();
        start(&env, "failed", &[], &["exit:7"]).assert_code(0);
        env.run(&["wait", "--beads", "failed", "--timeout", "60s"]).assert_code(3);
        dx_testkit::wait_until(std::time::Duration::from_mins(1), "the run is published", || {
            !env.state_dir().join("live/exec.failed").exists()
        });
        let run = run_of(&env, "failed");
        let text = std::fs::read_to_string(run.join("journal")).unwrap();
        // What is left of it ends in the middle of the record that tells the exit.
        put(&run.join("journal"), &text[..text.find(r#""type":"process_ended""#).unwrap()]);
        if !exit_file {
            std::fs::remove_file(run.join("exit")).unwrap();
        }
        std::fs::hard_link(run.join("journal"), env.state_dir().join("live/exec.failed")).unwrap();
        std::fs::remove_file(super::view(&env, "failed.outcome")).unwrap();
        // A monitor that is about to exit is there, and holds the journal, a moment longer.
        dx_testkit::wait_until(std::time::Duration::from_mins(1), "nobody of ours is left", || {
            ask(&env, &["check", "--beads", "failed"]).1["state"] != "launching"
        });
        let (exits, check) = ask(&env, &["check", "--beads", "failed"]);
        let told = |d: &serde_json::Value| (d["outcome"]["exit_code"].clone(), d["reason_code"].clone());
        assert_eq!((exits, told(&check)), (3, (json!(code), json!(reason))), "{check:#}");
        // By prune, unless a launcher that was about to exit has seen to it already.
        dx_testkit::wait_until(std::time::Duration::from_mins(1), "the run is settled", || {
            ask(&env, &["prune"]);
            !env.state_dir().join("live/exec.failed").exists()
        });
        let (_, check) = ask(&env, &["check", "--beads", "failed"]);
        assert_eq!(told(&check), (json!(code), json!(reason)), "{check:#}");
    }
}

#[test]
fn an_empty_journal_and_a_missing_run_are_told_and_do_not_stop_the_others() {
    let env = copy_of("ended");
    put(&run_of(&env, "failed").join("journal"), b"");
    super::make_dir(&env.state_dir().join("live"));
    put(&env.state_dir().join("live/exec.empty"), b"");
    put(&env.state_dir().join("live/exec.garbage"), b"\0\0\0\0");
    put(&env.state_dir().join("live/no-dot"), b"x");
    std::fs::remove_dir_all(run_of(&env, "limited")).unwrap();
    let (code, check) = ask(&env, &["check", "--beads", "failed"]);
    assert_eq!((code, &check["reason_code"]), (3, &json!("process_exit_with_rc")), "by its views: {check:#}");
    for id in ["empty", "garbage"] {
        let (code, error) = ask(&env, &["check", "--beads", id]);
        assert_eq!(
            (code, &error["error"]["reason_code"]),
            (33, &json!("record_unreadable")),
            "{id}: {error:#}"
        );
    }
    let (code, check) = ask(&env, &["check", "--beads", "limited"]);
    assert_eq!((code, &check["reason_code"]), (3, &json!("max_runtime_exceeded")), "by its views: {check:#}");
    let (code, prune) = ask(&env, &["prune"]);
    assert_eq!(code, 0, "{prune:#}");
    assert!(prune["details"].to_string().contains("it is empty"), "{prune:#}");
    for id in ["empty", "garbage"] {
        // Which led to no run; nothing is in the way of a new one.
        assert!(!env.state_dir().join("live").join(format!("exec.{id}")).exists(), "{prune:#}");
    }
    let (code, status) = ask(&env, &["status", "--all"]);
    assert_eq!((code, status["jobs"].as_array().unwrap().len()), (0, 8), "{status:#}");
    // Without its exit file, log and prompt an ended run is what its journal says.
    let run = run_of(&env, "success");
    for name in ["exit", "log", "prompt"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    let (code, check) = ask(&env, &["check", "--beads", "success"]);
    assert_eq!((code, &check["outcome"]["exit_code"]), (0, &json!("0")), "{check:#}");
    env.run(&["logs", "--beads", "success"]).assert_code(0);
}
