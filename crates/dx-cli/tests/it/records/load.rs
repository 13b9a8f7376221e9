//! The records of the first version, checked in. What is expected here must never change.

use super::{ask, copy_of, everything};
use serde_json::{Value, json};

/// Job, provider, check's exit code, state, reason, outcome's exit code, exit, log bytes, mutations.
type Told = (&'static str, &'static str, i32, &'static str, &'static str, &'static str, Value, u64, u64);

fn expected() -> Vec<Told> {
    let (exec, err, ok) = ("exec", "exited_err", "exited_ok");
    let told = "process_exit_with_rc";
    vec![
        ("agent", "opencode", 0, ok, told, "0", json!({"code": 0}), 1589, 1),
        ("twice", exec, 0, ok, "exit_zero_no_mutations", "0", json!({"code": 0}), 4, 0),
        ("spawn-failed", exec, 3, err, "spawn_failed", "-", Value::Null, 0, 0),
        ("limited", exec, 3, err, "max_runtime_exceeded", "124", json!({"signal": 15}), 6, 0),
        ("stopped", exec, 3, err, "manual_stop", "137", json!({"signal": 15}), 6, 0),
        ("signalled", exec, 3, err, told, "137", json!({"signal": 9}), 0, 0),
        ("failed", exec, 3, err, told, "7", json!({"code": 7}), 14, 0),
        ("success", exec, 0, ok, told, "0", json!({"code": 0}), 8, 1),
    ]
}

#[test]
fn ended_runs_load_as_they_were_and_no_reader_changes_them() {
    let env = copy_of("ended");
    let before = everything(&env.state_dir());
    let (code, status) = ask(&env, &["status", "--all"]);
    assert_eq!(code, 0);
    let ids: Vec<&str> =
        status["jobs"].as_array().unwrap().iter().map(|j| j["beads"].as_str().unwrap()).collect();
    assert_eq!(ids, expected().iter().map(|told| told.0).collect::<Vec<_>>(), "newest first");
    for (id, provider, exits, state, reason, exit_code, exit, bytes, mutations) in expected() {
        let (code, check) = ask(&env, &["check", "--beads", id]);
        crate::document(&env, "check", &check.to_string());
        assert_eq!((code, &check["provider"]), (exits, &json!(provider)), "{check:#}");
        assert_eq!((&check["state"], &check["reason_code"]), (&json!(state), &json!(reason)), "{check:#}");
        let outcome = &check["outcome"];
        assert_eq!((&outcome["exit_code"], &outcome["exit"]), (&json!(exit_code), &exit), "{check:#}");
        assert_eq!(outcome["witness"], if exit.is_null() { Value::Null } else { json!("launcher") });
        assert_eq!(
            (&check["log_bytes"], &check["mutation_count"]),
            (&json!(bytes), &json!(mutations)),
            "{id}"
        );
        assert_eq!((&check["host"], &check["worktree"]), (&json!("v1-host"), &json!("/w/repo")), "{id}");
        let row = status["jobs"].as_array().unwrap().iter().find(|row| row["beads"] == id).unwrap();
        assert_eq!((&row["state"], &row["ended"]), (&json!(state), &json!(true)), "{row:#}");
        let events = env.run(&["events", "--beads", id]).assert_code(0).stdout;
        assert!(events.lines().next().unwrap().contains(r#""type":"created""#), "{events}");
        assert!(events.lines().last().unwrap().contains(r#""type":"ended""#), "{events}");
    }
    assert_eq!(everything(&env.state_dir()), before);
}

#[test]
fn logs_usage_and_attempts_load() {
    let env = copy_of("ended");
    let logs = |args: &[&str]| env.run(&[&["logs", "--beads"], args].concat()).assert_code(0).stdout;
    assert_eq!(logs(&["failed"]), "do it\nGrüße\n");
    assert_eq!(logs(&["success", "--raw"]), "working\n");
    assert_eq!(logs(&["twice"]), "run\n");
    assert_eq!(logs(&["twice", "--run", "1"]), "run\n");
    assert_eq!(logs(&["twice", "--run", "2"]), "run\n", "the newest run has a number, too");
    for run in ["0", "3"] {
        let refused = env.run(&["logs", "--beads", "twice", "--run", run]).assert_code(64);
        assert!(
            refused.stderr.contains("has no run") && refused.stderr.contains("dx-runner report"),
            "{refused}"
        );
    }
    let agent = logs(&["agent"]);
    assert!(agent.contains("ALL DONE") && agent.contains("stderr| a word on stderr"), "{agent}");
    let (_, check) = ask(&env, &["check", "--beads", "agent"]);
    let told = [&check["tokens_in"], &check["tokens_out"], &check["tools"]["write"]];
    assert_eq!(told, [&json!(200), &json!(20), &json!(1)], "{check:#}");
    assert_eq!(check["selected_model"], "zhipuai-coding-plan/glm-5");
    let (_, twice) = ask(&env, &["check", "--beads", "twice"]);
    assert_eq!(twice["outcome"]["retries"], 1, "{twice:#}");
    let (code, stop) = ask(&env, &["stop", "--beads", "twice"]);
    assert_eq!((code, &stop["changed"]), (0, &json!(false)), "{stop:#}");
}

#[test]
fn a_run_of_another_host_is_shown_and_left_alone() {
    let env = copy_of("live");
    let run = std::fs::read_dir(env.state_dir().join("runs")).unwrap().next().unwrap().unwrap().path();
    let journal = std::fs::read(run.join("journal")).unwrap();
    let (code, status) = ask(&env, &["status"]);
    assert_eq!((code, &status["jobs"][0]["reason_code"]), (0, &json!("elsewhere")), "{status:#}");
    let (_, check) = ask(&env, &["check", "--beads", "live"]);
    assert_eq!((&check["reason_code"], &check["ended"]), (&json!("elsewhere"), &json!(false)), "{check:#}");
    let (code, prune) = ask(&env, &["prune"]);
    assert_eq!((code, &prune["pruned"]), (0, &json!(0)), "{prune:#}");
    for command in ["stop", "finalize"] {
        let (code, error) = ask(&env, &[command, "--beads", "live"]);
        assert_ne!(code, 0, "{command}: {error:#}");
        assert_eq!(error["error"]["reason_code"], "elsewhere", "{command}: {error:#}");
    }
    assert_eq!(super::start(&env, "live", &[], &["exit:0"]).code, 1);
    assert_eq!(std::fs::read(run.join("journal")).unwrap(), journal);
    assert!(env.state_dir().join("live/exec.live").exists());
}
