//! Records that the original shell program wrote: files without a journal. They are read and never acted on.

use super::{ask, everything, make_dir, put, view};
use crate::environment;
use dx_testkit::{TestEnv, is_running};
use serde_json::json;

fn meta(id: &str) -> String {
    format!(
        "beads={id}\nprovider=exec\nrepo=demo\nworktree=/w/tree=1\nprompt_file=/w/p.prompt\nstarted_at=2026-02-01T10:00:00Z\n\
         retries=1\nuse_pty=false\nversion=1.3.0\nrun_instance=20260201100000-exec-4242\nhost=old-host\ncwd=/w\n\
         provider_switch_from=\nselected_model=zhipuai-coding-plan/glm-5\nfallback_reason=none\n"
    )
}

fn outcome(id: &str, exit_code: &str, state: &str, reason: Option<&str>) -> String {
    let reason = reason.map_or_else(String::new, |reason| format!("reason_code={reason}\n"));
    format!(
        "beads={id}\nprovider=exec\nrun_id=20260201100000\nexit_code={exit_code}\nstate={state}\n{reason}\
         completed_at=2026-02-01T10:01:23Z\nduration_sec=83\nretries=1\nselected_model=zhipuai-coding-plan/glm-5\n\
         fallback_reason=none\nrun_instance=20260201100000-exec-4242\nhost=old-host\ncwd=/w\nworktree=/w/tree=1\n\
         mutations=3\nlog_bytes=2048\ncpu_time_sec=5\npid_age_sec=83\nreported_commit=\n"
    )
}

fn old_state() -> TestEnv {
    let env = environment();
    make_dir(&env.state_dir().join("exec"));
    let cases = [
        ("ok", Some(("0", "success", None))),
        ("bad", Some(("2", "failed", None))),
        ("told", Some(("1", "failed", Some("process_exit_with_rc")))),
        ("strange", Some(("1", "failed", Some("a_reason_of_theirs")))),
        ("lying", Some(("0", "failed", None))),
        ("running", None),
    ];
    for (id, told) in cases {
        put(&view(&env, &format!("{id}.meta")), meta(id));
        put(&view(&env, &format!("{id}.log")), format!("log of {id}\n"));
        if let Some((code, state, reason)) = told {
            put(&view(&env, &format!("{id}.outcome")), outcome(id, code, state, reason));
        }
    }
    env
}

#[test]
fn old_records_are_read() {
    let env = old_state();
    let before = everything(&env.state_dir());
    for (id, exits, state, reason) in [
        ("ok", 0, "exited_ok", "outcome_exit_0"),
        ("bad", 3, "exited_err", "outcome_exit_nonzero"),
        ("told", 3, "exited_err", "process_exit_with_rc"),
        ("strange", 3, "exited_err", "outcome_exit_nonzero"),
        ("lying", 3, "exited_err", "outcome_exit_nonzero"),
    ] {
        let (code, check) = ask(&env, &["check", "--beads", id]);
        crate::document(&env, "check", &check.to_string());
        let words = (code, &check["state"], &check["reason_code"]);
        assert_eq!(words, (exits, &json!(state), &json!(reason)), "{check:#}");
        assert_eq!(
            (&check["host"], &check["worktree"]),
            (&json!("old-host"), &json!("/w/tree=1")),
            "{check:#}"
        );
        assert_eq!((&check["log_bytes"], &check["mutation_count"]), (&json!(2048), &json!(3)), "{check:#}");
        assert_eq!(check["run_instance"], "20260201100000-exec-4242");
        assert_eq!(env.run(&["logs", "--beads", id]).assert_code(0).stdout, format!("log of {id}\n"));
    }
    let (code, status) = ask(&env, &["status", "--all"]);
    assert_eq!((code, status["jobs"].as_array().unwrap().len()), (0, 6), "{status:#}");
    assert_eq!(everything(&env.state_dir()), before);
}

#[test]
fn a_pid_file_of_theirs_is_no_reason_to_signal_anybody() {
    let env = old_state();
    let mut victim = env.command("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(victim.id()).unwrap();
    for id in ["running", "ok"] {
        put(&view(&env, &format!("{id}.pid")), format!("{pid}\n"));
        put(&view(&env, &format!("{id}.monitor.pid")), format!("{pid}\n"));
        for args in [
            &["stop", "--beads", id][..],
            &["finalize", "--beads", id],
            &["restart", "--beads", id],
            &["prune", "--beads", id],
            &["prune"],
        ] {
            let output = env.run(args);
            assert!(args[0] == "prune" || output.code != 0, "{args:?}: {output}");
            assert!(is_running(pid), "{args:?} ended it: {output}");
        }
        assert!(view(&env, &format!("{id}.pid")).exists(), "somebody has that number");
    }
    // A start of our own takes the name over, and still nobody is signalled.
    super::start(&env, "running", &[], &["exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", "running", "--timeout", "60s"]).assert_code(0);
    assert!(is_running(pid));
    assert_eq!(std::fs::read_to_string(view(&env, "running.log.1")).unwrap(), "log of running\n");
    victim.kill().unwrap();
    victim.wait().unwrap();
}
