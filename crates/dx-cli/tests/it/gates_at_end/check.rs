//! The command of `--check`: where it runs, what it sees, what its end means. Must never: leave a process of a check behind.

use super::{assert_end, assert_nothing_left, gate};
use crate::world::{MARK, PATIENCE, World, read};
use dx_testkit::wait_for_file;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_check_runs_after_the_agent_in_a_clean_environment() {
    let mut world = World::new();
    world.env.set("OPENAI_API_KEY", "sk-not-for-checks");
    let told = world.path("told");
    let command = format!("pwd > {told}; env >> {told}; cat a.txt; echo oops >&2; test -d \"$TMPDIR\"");
    let script = "echo agents > a.txt";
    let more = ["--check", &command, "--env", "MODE=fast", "--env", "OPENAI_API_KEY"];
    let uuid = world.sh("bd-1", &more, script);
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    assert_eq!(gate(&check, "check")["reason_code"], "check_ok");
    let told = read(told);
    assert_eq!(told.lines().next(), Some(world.repo.display().to_string().as_str()));
    for line in ["MODE=fast", "DX_RUNNER_BEADS_ID=bd-1", &format!("{MARK}={uuid}")] {
        assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
    }
    assert!(!told.contains("sk-not-for-checks") && !told.contains("DX_FAULT"), "{told}");
    let log = world.env.state_dir().join("runs").join(&uuid).join("check.log");
    assert_eq!(read(&log), "agents\noops\n");
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let details = gate(&check, "check")["details"].as_str().unwrap();
    assert_eq!(details, format!("exit code 0; output in {}", log.display()));
    assert!(!world.env.state_dir().join("tmp").join(&uuid[24..]).exists());
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"]);
    assert_nothing_left(&uuid);
}

#[test]
fn secrets_do_not_get_into_records_by_way_of_a_check() {
    let mut world = World::new();
    world.env.set("MY_TOKEN", "hunter-2-secret");
    let script = "printf %s \"$MY_TOKEN\" > secret.txt";
    let more = ["--env", "MY_TOKEN", "--check", "printf 'it is '; cat secret.txt; echo; exit 1"];
    let uuid = world.sh("bd-1", &more, script);
    let check = world.wait("bd-1");
    assert_end(&check, "none", "fail", "exited_err", "check_failed", "0");
    let log = world.env.state_dir().join("runs").join(&uuid).join("check.log");
    assert_eq!(read(log), "it is ***************\n");
    let refused =
        world.env.run_command(world.sh_command("bd-2", &["--check", "echo hunter-2-secret"], "true"));
    let error = crate::world::error_of(&world.env, &refused);
    assert_eq!((refused.code, &error["reason_code"]), (64, &json!("invalid_argument")), "{error}");
    assert_eq!(
        crate::world::files_with(&world.env.state_dir(), "hunter-2-secret"),
        [""; 0].map(std::path::PathBuf::from)
    );
}

#[test]
fn a_check_is_confined_as_the_agent_was() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
    let outside = world.path("outside");
    let command = format!(
        "echo in > inside.txt; echo in > \"$TMPDIR/x\"; (echo out > {outside}) 2>/dev/null && echo out || echo refused"
    );
    let uuid = world.sh("bd-1", &["--check", &command], "echo 1 > new");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    let log = read(world.env.state_dir().join("runs").join(&uuid).join("check.log"));
    // On a kernel without Landlock neither has a sandbox.
    let strict = world.pairs("bd-1", "contract")["sandbox"] == "strict";
    assert_eq!(log, if strict { "refused\n" } else { "out\n" });
    assert_eq!(std::path::Path::new(&outside).exists(), !strict);
    assert_eq!(read(world.repo.join("inside.txt")), "in\n");
    assert_eq!(
        check["outcome"]["work"]["files_changed"],
        json!(["new"]),
        "what a check writes is not the agent's"
    );
}

#[test]
fn a_check_that_fails_fails_the_job() {
    let world = World::new();
    let check = world.ended("fails", &["--check", "echo why; exit 9"], "echo 1 > new");
    assert_end(&check, "none", "fail", "exited_err", "check_failed", "0");
    assert_eq!(world.rc("fails").as_deref(), Some("0"));
    assert!(check["outcome"]["detail"].as_str().unwrap().starts_with("exit code 9; output in "), "{check}");
    let status = world.json(0, &["status", "--beads", "fails"]);
    assert_eq!(status["jobs"][0]["verdicts"]["check"], "fail", "{status}");
    assert_eq!(status["jobs"][0]["verdicts"]["work"], "changed", "{status}");

    let check = world.ended("infra", &["--check", "no-such-program"], "true");
    assert_end(&check, "none", "infra", "exited_err", "check_infra", "0");
    // Nobody asks a check about an agent that failed already, or about a gate's failure.
    let ran = world.path("ran");
    let command = format!("touch {ran}");
    let check = world.ended("not-asked", &["--check", &command], "exit 4");
    assert_end(&check, "none", "not_run", "exited_err", "process_exit_with_rc", "4");
    let check = world.ended("gate", &["--check", &command, "--require-commit"], "true");
    assert_end(&check, "fail", "not_run", "exited_err", "no_commit_artifact", "44");
    let uuid = world.sh("stopped", &["--check", &command], "sleep 1000");
    world.env.run(&["stop", "--beads", "stopped"]).assert_code(0);
    assert_end(&world.wait("stopped"), "none", "not_run", "exited_err", "manual_stop", "137");
    assert!(!std::path::Path::new(&ran).exists());
    assert_nothing_left(&uuid);
    // A restart keeps what was asked for.
    world.env.run(&["restart", "--beads", "gate"]).assert_code(0);
    assert_end(&world.wait("gate"), "fail", "not_run", "exited_err", "no_commit_artifact", "44");
}

#[test]
fn a_check_is_ended_with_all_it_started() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_CHECK_TIMEOUT_SEC", "1");
    world.env.set("DX_RUNNER_GRACE_MS", "300");
    let agent = world.env.fake_agent().display().to_string();
    // One ignores TERM, one left the session, one its parent too; the last has not even the run's mark.
    let command = format!(
        "{agent} ignore-term sleep:1000 & {agent} spawn-setsid:1000 double-fork:1000 sleep:1000 & \
         env -i {agent} sleep:1000 & echo begun; wait"
    );
    let uuid = world.sh("slow", &["--check", &command], "true");
    let check = world.wait("slow");
    assert_end(&check, "none", "timeout", "exited_err", "check_timeout", "0");
    assert_nothing_left(&uuid);
    assert!(gate(&check, "check")["details"].as_str().unwrap().starts_with("it was ended after 1 seconds"));

    // What a check that ended well left behind is ended too, and holds nothing up.
    world.env.set("DX_RUNNER_CHECK_TIMEOUT_SEC", "1000");
    let command = format!("{agent} double-fork:1000; {agent} ignore-term spawn:1000 & exit 0");
    let uuid = world.sh("leaves", &["--check", &command], "true");
    assert_end(&world.wait("leaves"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    assert_nothing_left(&uuid);
}

#[test]
fn the_settlers_deadline_does_not_cut_a_check_and_its_output_is_bounded() {
    let world = World::new();
    let command = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end";
    let uuid = world.sh("bd-1", &["--check", command], "true");
    assert_end(&world.wait("bd-1"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    let log = read(world.env.state_dir().join("runs").join(&uuid).join("check.log"));
    assert!(log.len() < 1_200_000 && log.starts_with("xxx") && log.ends_with("\nthe end\n"), "{}", log.len());
    assert!(log.contains("\n[dx-runner: 1885897 bytes are left out here]\n"), "{}", log.len());
}

#[test]
fn a_run_whose_check_runs_awaits_its_end_and_can_be_stopped() {
    let world = World::new();
    for (id, end, reason, code) in [
        ("stop", &["stop"][..], "manual_stop", "137"),
        ("finalize", &["finalize", "--exit-code", "5"], "forced_finalization", "5"),
    ] {
        let begun = world.path(&format!("{id}.begun"));
        let uuid = world.sh(id, &["--check", &format!("touch {begun}; sleep 1000")], "true");
        wait_for_file(PATIENCE, &begun);
        let (exit, check) = world.until_state(id, "launching", "awaiting_finalize");
        assert_eq!(
            (exit, &check["ended"], &check["verdicts"]["check"]),
            (0, &json!(false), &json!("pending"))
        );
        let observation = check["explain"]["observation"].to_string();
        assert!(observation.contains("check_due=true"), "{observation}");
        let status = world.json(0, &["status", "--live"]);
        assert_eq!(status["jobs"][0]["reason_code"], "awaiting_finalize", "{status}");
        let timed = world.env.run(&["wait", "--beads", id, "--timeout", "10ms"]);
        assert_eq!(timed.code, 35, "{timed}");
        world.env.run(&[end, &["--beads", id]].concat()).assert_code(0);
        let check = world.wait(id);
        assert_end(&check, "none", "infra", "exited_err", reason, code);
        assert_eq!(gate(&check, "check")["reason_code"], "check_interrupted");
        assert_eq!(world.rc(id).as_deref(), Some("0"), "the agent ended by itself");
        assert_nothing_left(&uuid);
    }
}
