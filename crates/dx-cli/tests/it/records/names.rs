//! Ids and values that try to be more than one word or one line.

use super::{ask, everything, start, view};
use crate::environment;
use serde_json::json;

#[test]
fn ids_that_could_leave_their_folder_are_refused_before_anything_is_written() {
    let env = environment();
    let long = "x".repeat(129);
    let bad = ["../x", "a..b", "..", ".", "a/b", "/etc/x", "", "a b", "a\nb", "-x", "é", &long];
    for id in bad {
        let named = format!("--beads={id}");
        let tree = env.allowed_root().display().to_string();
        let starting = ["start", "--provider", "exec", &named, "--worktree", &tree, "--", "true"];
        let mut commands = vec![starting.to_vec()];
        commands.extend(["check", "stop", "logs", "prune", "restart"].map(|command| vec![command, &named]));
        for mut args in commands {
            args.insert(1, "--json");
            let output = env.run(&args).assert_code(64);
            let error = crate::document(&env, "error", &output.stderr);
            assert_eq!(error["error"]["reason_code"], "invalid_id", "{id:?}: {output}");
        }
    }
    assert!(!env.state_dir().exists());
    let written = everything(env.root());
    assert!(written.iter().all(|(path, _, bytes)| path.is_dir() || bytes.is_empty()), "{written:?}");
    for provider in ["../exec", "live", "a.b", "EXEC"] {
        let output = env.run(&["start", "--json", "--provider", provider, "--beads", "x", "--", "true"]);
        output.assert_code(64);
    }
    let good = "x".repeat(128);
    start(&env, &good, &[], &["exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", &good, "--timeout", "60s"]).assert_code(0);
}

#[test]
fn values_with_newlines_stay_one_line_each_and_come_back_whole() {
    let env = environment();
    let tree = env.allowed_root().join("a\nexit_code=0\nstate=success");
    std::fs::create_dir_all(&tree).unwrap();
    let repo = "name\nexit_code=0\r\nreason_code=forged\\";
    let agent = env.fake_agent().display().to_string();
    let worktree = tree.display().to_string();
    let args = [
        "start",
        "--json",
        "--provider",
        "exec",
        "--beads",
        "lines",
        "--worktree",
        &worktree,
        "--repo",
        repo,
        "--env",
        "NOTE=one\ntwo",
        "--",
        &agent,
        "print:hello",
        "exit:7",
    ];
    let started = env.run(&args).assert_code(0);
    crate::document(&env, "action", &started.stdout);
    env.run(&["wait", "--beads", "lines", "--timeout", "60s"]).assert_code(3);
    dx_testkit::wait_until(std::time::Duration::from_mins(1), "the run is published", || {
        !env.state_dir().join("live/exec.lines").exists()
    });
    for (name, value) in [("outcome", "exit_code=7"), ("meta", "beads=lines"), ("contract", "beads=lines")] {
        let text = std::fs::read_to_string(view(&env, &format!("lines.{name}"))).unwrap();
        let key = value.split_once('=').unwrap().0;
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{key}="))).collect();
        assert_eq!(told, [value], "{name}: {text}");
        assert!(text.lines().all(|line| line.contains('=') && !line.contains("forged\n")), "{name}: {text}");
        assert!(!text.lines().any(|line| line.starts_with("reason_code=forged")), "{name}: {text}");
    }
    let (code, check) = ask(&env, &["check", "--beads", "lines"]);
    assert_eq!((code, &check["worktree"]), (3, &json!(worktree)), "{check:#}");
    let status = env.run(&["status"]).assert_code(0).stdout;
    assert_eq!(status.lines().count(), 2, "a head and one row: {status}");
    let status = env.run(&["status", "--json"]).assert_code(0).stdout;
    assert_eq!(status.lines().count(), 1, "{status}");
    let text = env.run(&["check", "--beads", "lines"]).assert_code(3).stdout;
    assert!(!text.lines().any(|line| line.starts_with("state=success")), "{text}");
    let journal = env.run(&["events", "--beads", "lines"]).assert_code(0).stdout;
    assert!(journal.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{journal}");
    env.run(&["restart", "--beads", "lines"]).assert_code(0);
    env.run(&["wait", "--beads", "lines", "--timeout", "60s"]).assert_code(3);
}
