//! Every state by real processes with short thresholds, what `check` exits with and how it explains itself; `wait`; limits.

use crate::document;
use crate::world::{PATIENCE, World, read, write};
use dx_testkit::{TestEnv, is_running, wait_until};
use serde_json::Value;
use std::io::Write as _;

/// Thresholds in seconds: first output, no-op, stall.
fn world_with(grace: u32, no_op: u32, stall: u32) -> World {
    let mut world = World::new();
    let names = ["DX_RUNNER_STARTUP_GRACE_SEC", "DX_RUNNER_NO_OP_SEC", "DX_RUNNER_STALL_SEC"];
    for (name, seconds) in names.into_iter().zip([grace, no_op, stall]) {
        world.env.set(name, seconds.to_string());
    }
    world
}

const NEVER: u32 = 1_000_000;

/// Waits for state and reason, and compares everything that shows them.
#[track_caller]
fn assert_state(world: &World, id: &str, state: &str, reason: &str, rule: &str, code: i32) {
    let (exit, check) = world.until_state(id, state, reason);
    assert_eq!(exit, code, "{check}");
    document(&world.env, "check", &check.to_string());
    assert_eq!(check["explain"]["rule"], rule);
    assert!(!check["next_action"].as_str().unwrap().is_empty());
    let facts = check["explain"]["observation"].as_array().unwrap();
    for name in ["settled=", "agent_alive=", "elapsed=", "log_bytes=", "cpu_growth_age=", "stall_sec="] {
        assert!(facts.iter().any(|fact| fact.as_str().unwrap().starts_with(name)), "{name} in {facts:?}");
    }
    let row = world.json(0, &["status", "--beads", id])["jobs"][0].clone();
    assert_eq!((&row["state"], &row["reason_code"]), (&state.into(), &reason.into()));
    let text = world.env.run(&["check", "--beads", id, "--explain"]).assert_code(code).stdout;
    assert!(text.starts_with(&format!("{id}: {state} ({reason})\n")), "{text}");
    assert!(text.contains(&format!("  rule: {rule}\n")), "{text}");
}

fn end(world: &World) {
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

#[test]
fn launching_and_the_ends() {
    let world = World::new();
    world.start("bd-1", &[], &["sleep:300"]);
    assert_state(&world, "bd-1", "launching", "startup_grace", "launching", 0);
    world.start("ok", &[], &["write:new.txt:x"]);
    world.start("idle", &[], &["exit:0"]);
    world.start("err", &[], &["exit:9"]);
    assert_state(&world, "ok", "exited_ok", "process_exit_with_rc", "settled", 0);
    assert_state(&world, "err", "exited_err", "process_exit_with_rc", "settled", 3);
    assert_eq!(world.rc("err").as_deref(), Some("9"));
    world.run_to_end("signal", &[], &["kill:15"]);
    assert_state(&world, "signal", "exited_err", "process_exit_with_rc", "settled", 3);
    assert_eq!((world.outcome("signal").2.as_str(), world.rc("signal").as_deref()), ("143", Some("143")));
    world.env.run(&["wait", "--beads", "idle"]).assert_code(0);
    assert_state(&world, "idle", "exited_ok", "exit_zero_no_mutations", "settled", 0);
    world.start("stopped", &[], &["sleep:300"]);
    world.env.run(&["stop", "--beads", "stopped"]).assert_code(0);
    assert_state(&world, "stopped", "exited_err", "manual_stop", "settled", 3);
    end(&world);
}

#[test]
fn cpu_without_output_is_waiting_first_output() {
    let world = world_with(1, NEVER, NEVER);
    world.start("bd-1", &[], &["cpu:300"]);
    assert_state(&world, "bd-1", "waiting_first_output", "cpu_progress_no_output", "waiting_first_output", 0);
    end(&world);
}

#[test]
fn a_changed_worktree_without_output_is_silent_mutation() {
    let world = world_with(1, NEVER, NEVER);
    world.start("bd-1", &[], &["write:new.txt:x", "sleep:300"]);
    assert_state(&world, "bd-1", "silent_mutation", "worktree_changed_no_output", "silent_mutation", 0);
    assert_eq!(world.check("bd-1")["mutation_count"], 1);
    assert_eq!(world.pairs("bd-1", "mutation")["mutation_count"], "1");
    end(&world);
}

#[test]
fn output_is_healthy_and_so_is_cpu_after_output() {
    let world = World::new();
    world.start("log", &[], &["print:hello", "sleep:300"]);
    assert_state(&world, "log", "healthy", "recent_log_activity", "fresh_log", 0);
    let world = world_with(1, NEVER, 3);
    world.start("cpu", &[], &["print:hello", "cpu:300"]);
    assert_state(&world, "cpu", "healthy", "cpu_progress", "fresh_cpu", 0);
    end(&world);
}

/// Where git does not look, and on storage: `/tmp` may be memory.
#[test]
fn what_a_job_writes_to_storage_is_seen() {
    let world = world_with(1, NEVER, 4);
    let file = format!("{}/written-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let script = format!("exec:sh\n-c\nwhile :; do printf '%400000s' x >{file}; sleep 1; done");
    world.start("bd-1", &["--sandbox", "off"], &["print:hello", &script]);
    let fact = |check: &Value, name: &str| {
        let facts = check["explain"]["observation"].as_array().unwrap();
        let found = facts.iter().find_map(|fact| fact.as_str()?.strip_prefix(name).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{name} in {facts:?}"))
    };
    wait_until(PATIENCE, "writing goes on past the threshold", || {
        let check = world.json(0, &["check", "--beads", "bd-1", "--explain"]);
        assert_eq!(check["state"], "healthy", "{check:#}");
        fact(&check, "written_bytes=").parse::<u64>().unwrap() > 2_000_000
            && fact(&check, "log_age=").trim_end_matches('s').parse::<f64>().unwrap() > 4.0
            && fact(&check, "write_growth_age=") != "never"
    });
    end(&world);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn silence_after_output_is_stalled() {
    let world = world_with(NEVER, NEVER, 2);
    world.start("bd-1", &[], &["print:hello", "sleep:300"]);
    assert_state(&world, "bd-1", "stalled", "stale_log_no_cpu", "stalled", 2);
    // The threshold of this look, not the recorded one.
    let check = world.json(0, &["check", "--beads", "bd-1", "--stall-minutes", "60"]);
    assert_eq!(check["state"], "healthy");
    // The recorded one counts for readers with another environment.
    let mut command = world.env.product();
    command.args(["check", "--beads", "bd-1"]).env("DX_RUNNER_STALL_SEC", "9999");
    world.env.run_command(command).assert_code(2);
    let attention = world.json(0, &["status", "--attention"]);
    assert_eq!(attention["jobs"].as_array().unwrap().len(), 1);
    end(&world);
}

#[test]
fn nothing_at_all_is_no_op() {
    let world = world_with(NEVER, 2, NEVER);
    world.start("bd-1", &[], &["sleep:300"]);
    assert_state(&world, "bd-1", "no_op", "no_heartbeat_no_mutation", "no_op", 23);
    // Health never ends a job.
    assert!(is_running(world.pids("bd-1").0));
    end(&world);
}

#[test]
fn unknown_ids_are_missing() {
    let world = World::new();
    world.run_to_end("bd-100", &[], &["exit:0"]);
    let error = world.error(1, &["check", "--beads", "bd-101"]);
    assert_eq!(error["reason_code"], "no_meta");
    assert!(error["next_action"].as_str().unwrap().contains("bd-100"), "{error}");
    let error = world.error(1, &["check", "--beads", "nothing-like-it"]);
    assert_eq!((&error["reason_code"], &error["exit_code"]), (&"no_meta".into(), &1.into()));
}

#[test]
fn blocked_has_an_ended_run_behind_it() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["exit:4"]);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    let journal = world.view("bd-1", "events.jsonl");
    let last: Value = serde_json::from_str(read(&journal).lines().last().unwrap()).unwrap();
    let record = serde_json::json!({
        "at": last["at"], "mono_ms": last["mono_ms"], "by": "settler",
        "event": {"type": "blocked", "reason": "max_retries_exhausted"},
    });
    let mut file = std::fs::File::options().append(true).open(&journal).unwrap();
    writeln!(file, "{record}").unwrap();
    assert_state(&world, "bd-1", "blocked", "max_retries_exhausted", "blocked", 3);
    let check = world.check("bd-1");
    assert_eq!((&check["ended"], &check["outcome"]["exit_code"]), (&true.into(), &"4".into()));
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    // A new run clears it.
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    assert_eq!(world.check("bd-1")["state"], "exited_err");
}

#[test]
fn wait_for_any_for_all_and_for_too_long() {
    let world = World::new();
    let go = |id: &str| format!("wait-file:{}", world.path(&format!("go.{id}")));
    world.start("good", &[], &[&go("good"), "exit:0"]);
    world.start("bad", &[], &[&go("bad"), "exit:1"]);
    let (agent, _) = world.pids("good");
    let error = world.error(35, &["wait", "--beads", "good", "bad", "--timeout", "1s"]);
    assert_eq!(error["reason_code"], "deadline_exceeded");
    assert!(error["message"].as_str().unwrap().contains("good, bad"), "{error}");
    assert!(is_running(agent), "a deadline stops nothing");
    write(world.path("go.good"), "");
    let any = world.json(0, &["wait", "--beads", "good", "bad", "--any"]);
    assert_eq!((&any["beads"], &any["state"]), (&"good".into(), &"exited_ok".into()));
    world.env.run(&["wait", "--beads", "good", "bad", "--all", "--timeout", "1s"]).assert_code(35);
    write(world.path("go.bad"), "");
    let all = world.env.run(&["wait", "--beads", "good", "bad", "--all", "--json"]).assert_code(3).stdout;
    let states: Vec<Value> =
        all.lines().map(|line| document(&world.env, "check", line)["state"].clone()).collect();
    assert_eq!(states, ["exited_ok", "exited_err"]);
    // What has ended is there at once, and everything of it.
    assert_eq!(world.outcome("bad").2, "1");
    world.error(1, &["wait", "--beads", "none"]);
}

#[test]
fn limits_end_a_job() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_MAX_LOG_BYTES", "1000000");
    world.start("long", &["--max-runtime", "1s"], &["print:busy", "sleep:300"]);
    world.start("idle", &["--no-mutation-timeout", "1s"], &["print:busy", "sleep:300"]);
    world.start("flood", &[], &["flood:3000000", "sleep:300"]);
    world.env.run(&["wait", "--beads", "long", "idle", "flood"]).assert_code(3);
    let ends = [("long", "max_runtime_exceeded"), ("idle", "no_mutation_timeout"), ("flood", "output_flood")];
    for (id, reason) in ends {
        assert_eq!(world.outcome(id), ("failed".to_owned(), reason.to_owned(), "124".to_owned()));
        assert_eq!(world.rc(id).as_deref(), Some("143"), "{id}");
    }
}

#[test]
fn zero_means_never() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_MAX_RUNTIME_MINUTES", "1");
    world.env.set("DX_RUNNER_NO_MUTATION_TIMEOUT_MINUTES", "0");
    let go = world.path("go");
    world.start("bd-1", &["--max-runtime", "0"], &["print:x", &format!("wait-file:{go}"), "exit:0"]);
    let limits: Value = serde_json::from_str(&world.pairs("bd-1", "contract")["limits"]).unwrap();
    assert_eq!((&limits["max_runtime_sec"], &limits["no_mutation_sec"]), (&0.into(), &0.into()));
    // A limit of nothing would end it at the monitor's first look.
    world.until_state("bd-1", "healthy", "recent_log_activity");
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    // The environment is in minutes, the record in seconds.
    world.start("bd-2", &[], &["exit:0"]);
    assert_eq!(world.pairs("bd-2", "meta")["max_runtime_sec"], "60");
    refuses_words(&world.env, &world.start_args("bd-3", &[], &["exit:0"]));
}

/// A threshold that is no number is told, not passed over.
fn refuses_words(env: &TestEnv, args: &[String]) {
    let mut command = env.product();
    command.args(args).env("DX_RUNNER_STALL_SEC", "soon");
    let output = env.run_command(command).assert_code(64);
    assert!(output.stderr.contains("DX_RUNNER_STALL_SEC"), "{output}");
}
