//! Documents: every one against the schema the program prints, the types of the contract field by field, errors on stderr.

use crate::document;
use crate::world::{World, error_of, write};
use serde_json::Value;

/// Checks `name: type` words against a document: `str`, `num`, `num|null`, `bool`, `obj`, `arr`, `obj|null`.
#[track_caller]
fn assert_types(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, kinds) = field.split_once(':').unwrap();
        let found = value.get(name).unwrap_or_else(|| panic!("{name} is missing in {value}"));
        let fits = |kind: &str| match kind {
            "str" => found.is_string(),
            "num" => found.is_number(),
            "bool" => found.is_boolean(),
            "obj" => found.is_object(),
            "arr" => found.is_array(),
            "null" => found.is_null(),
            other => panic!("{other}"),
        };
        assert!(kinds.split('|').any(fits), "{name} is {found}, not {kinds}");
    }
}

const STATUS_ROW: &str = "beads:str provider:str pid:str state:str reason_code:str elapsed:str log_bytes:num \
    mutation_count:num retry_count:num outcome:str run_instance:str host:str cwd:str worktree:str started_at:str \
    elapsed_sec:num selected_model:str sample_age_sec:num ended:bool tokens_in:num|null cost_usd:num|null";
const CHECK: &str = "schema:str beads:str provider:str state:str reason_code:str next_action:str host:str cwd:str \
    worktree:str run_instance:str selected_model:str fallback_reason:str mutation_count:num log_bytes:num \
    cpu_time_sec:num pid_age_sec:num log_age_sec:num verdicts:obj ended:bool outcome:obj|null";
const ACTION: &str = "schema:str action:str beads:str provider:str run_instance:str run_uuid:str pid:str state:str \
    reason_code:str log:str worktree:str selected_model:str changed:bool next_action:str";
const OUTCOME: [&str; 32] = [
    "beads",
    "provider",
    "run_id",
    "run_instance",
    "exit_code",
    "state",
    "reason_code",
    "started_at",
    "completed_at",
    "duration_sec",
    "retries",
    "selected_model",
    "fallback_reason",
    "execution_mode",
    "host",
    "cwd",
    "worktree",
    "mutations",
    "commits",
    "log_bytes",
    "cpu_time_sec",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "run_uuid",
    "detail",
    "provider_switch_from",
    "strays",
    "verdict_process",
    "verdict_provider",
    "verdict_work",
    "beads",
];
const META: [&str; 19] = [
    "beads",
    "provider",
    "repo",
    "worktree",
    "prompt_file",
    "started_at",
    "retries",
    "use_pty",
    "version",
    "run_id",
    "run_instance",
    "host",
    "cwd",
    "provider_switch_from",
    "selected_model",
    "fallback_reason",
    "execution_mode",
    "profile",
    "start_head_commit",
];

/// Whether a text is `42s`, `5m`, `2h1m` or the like.
fn is_elapsed(text: &str) -> bool {
    let units = text.trim_start_matches(|c: char| c.is_ascii_digit());
    units.len() < text.len() && units.starts_with(['s', 'm', 'h', 'd']) && text.is_ascii()
}

/// Whether a text is `2026-02-18T12:00:00Z`.
fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

#[test]
fn status_live_and_ended() {
    let world = World::new();
    let listed = |args: &[&str]| {
        let value = world.json(0, &[&["status"][..], args].concat());
        let value = document(&world.env, "status", &value.to_string());
        assert_types(&value, "schema:str generated_at:str jobs:arr");
        assert!(is_time(value["generated_at"].as_str().unwrap()), "{value}");
        value["jobs"].as_array().unwrap().clone()
    };
    assert_eq!(listed(&[]), Vec::<Value>::new());
    world.start("live", &[], &["print:x", "sleep:300"]);
    world.start("ended", &[], &["write:new.txt:x", "exit:0"]);
    world.env.run(&["wait", "--beads", "ended"]).assert_code(0);
    let rows = listed(&[]);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_types(row, STATUS_ROW);
        assert!(is_elapsed(row["elapsed"].as_str().unwrap()), "{row}");
        assert!(is_time(row["started_at"].as_str().unwrap()), "{row}");
    }
    let row = |id: &str| rows.iter().find(|row| row["beads"] == id).unwrap();
    let live = row("live");
    assert_eq!(live["pid"], world.pids("live").0.to_string());
    assert_eq!((&live["outcome"], &live["ended"]), (&"-".into(), &false.into()));
    let ended = row("ended");
    assert_eq!(
        (&ended["pid"], &ended["ended"], &ended["state"]),
        (&"-".into(), &true.into(), &"exited_ok".into())
    );
    assert!(ended["outcome"].as_str().unwrap().starts_with("success:0 ("), "{ended}");
    assert!(ended["mutation_count"].as_u64().unwrap() >= 1, "{ended}");
    let names =
        |args: &[&str]| -> Vec<Value> { listed(args).into_iter().map(|row| row["beads"].clone()).collect() };
    assert_eq!(names(&["--live"]), ["live"]);
    assert_eq!(names(&["--beads", "ended"]), ["ended"]);
    assert_eq!(names(&["--recent", "1"]), ["live", "ended"]);
    assert_eq!(names(&["--provider", "opencode"]), Vec::<Value>::new());
    assert_eq!(names(&["--all"]).len(), 2);
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

#[test]
fn check_and_wait_before_and_after_the_end() {
    let world = World::new();
    let go = format!("wait-file:{}", world.path("go"));
    world.start("bd-1", &[], &["print:x", &go, "exit:0"]);
    let live = document(&world.env, "check", &world.json(0, &["check", "--beads", "bd-1"]).to_string());
    assert_types(&live, CHECK);
    assert_eq!((&live["outcome"], &live["ended"], live.get("explain")), (&Value::Null, &false.into(), None));
    let explained = world.json(0, &["check", "--beads", "bd-1", "--explain"]);
    assert_types(&explained["explain"], "rule:str observation:arr");
    write(world.path("go"), "");
    let waited = document(&world.env, "check", &world.json(0, &["wait", "--beads", "bd-1"]).to_string());
    let ended = document(&world.env, "check", &world.json(0, &["check", "--beads", "bd-1"]).to_string());
    for value in [&waited, &ended] {
        assert_types(value, CHECK);
        assert_types(&value["verdicts"], "process:str provider:str work:str gates:str check:str");
        assert_types(&value["outcome"], "exit_code:str duration_sec:num retries:num work:obj usage:obj");
        assert_eq!((&value["verdicts"]["process"], &value["log_bytes"]), (&"ok".into(), &2.into()));
    }
    assert_eq!(waited, ended);
}

#[test]
fn what_mutating_commands_did() {
    let world = World::new();
    let action = |value: &Value| {
        let value = document(&world.env, "action", &value.to_string());
        assert_types(&value, ACTION);
        value
    };
    let started = action(&world.start("bd-1", &[], &["sleep:300"]));
    // At once, before the monitor has recorded it.
    assert_eq!(started["pid"], world.json(0, &["status"])["jobs"][0]["pid"]);
    assert_eq!(started["pid"], world.pids("bd-1").0.to_string());
    assert_eq!(started["log"], world.view("bd-1", "log").display().to_string());
    assert_eq!(started["worktree"], world.repo.display().to_string());
    assert!(started["run_instance"].as_str().unwrap().contains("-exec-"), "{started}");
    for (args, name) in [
        (&["restart", "--beads", "bd-1"][..], "restart"),
        (&["stop", "--beads", "bd-1"], "stop"),
        (&["finalize", "--beads", "bd-1"], "finalize"),
    ] {
        assert_eq!(action(&world.json(0, args))["action"], name);
    }
    world.start("bd-2", &[], &["sleep:300"]);
    let all = world.json(0, &["stop", "--all", "--grace", "0s"]);
    let all = document(&world.env, "actions", &all.to_string());
    assert_eq!(all["actions"].as_array().unwrap().len(), 1);
    let pruned = document(&world.env, "prune", &world.json(0, &["prune"]).to_string());
    assert_types(&pruned, "schema:str checked:num pruned:num details:arr");
    let plan = world.start_args("bd-3", &["--json", "--dry-run"], &["exit:0"]);
    let plan = document(&world.env, "dry-run", &world.env.run(&plan).assert_code(0).stdout);
    assert_types(&plan, "argv:arr cwd:str env_names:arr prompt_bytes:num worktree:str files:arr");
    for name in ["providers", "doctor", "exit-codes"] {
        let output = world.env.run(&[name, "--json"]).assert_code(0);
        document(&world.env, name, &output.stdout);
    }
    let started = world.env.run(&world.start_args("bd-4", &["--wait", "--json"], &["exit:5"])).assert_code(3);
    assert_types(&document(&world.env, "check", &started.stdout), CHECK);
}

#[test]
fn published_files_have_the_keys_of_the_contract() {
    let world = World::new();
    world.start("bd-1", &[], &["print:x", "write:new.txt:x", "exit:0"]);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    let outcome = world.pairs("bd-1", "outcome");
    for key in OUTCOME {
        assert!(outcome.contains_key(key), "{key} in {outcome:?}");
    }
    let meta = world.pairs("bd-1", "meta");
    for key in META {
        assert!(meta.contains_key(key), "{key} in {meta:?}");
    }
    assert!(is_time(&outcome["started_at"]) && is_time(&outcome["completed_at"]), "{outcome:?}");
    assert_eq!((outcome["mutations"].as_str(), outcome["execution_mode"].as_str()), ("1", "detached"));
    let head = world.env.git(&world.repo, &["rev-parse", "HEAD"]);
    assert_eq!(meta["start_head_commit"], head.trim());
    for suffix in ["log", "meta", "outcome", "rc", "contract", "heartbeat", "events.jsonl", "prompt"] {
        assert!(world.view("bd-1", suffix).exists(), "{suffix}");
    }
}

#[test]
fn errors_are_documents_on_stderr() {
    let world = World::new();
    let worktree = world.repo.display().to_string();
    let none = world.path("none");
    write(world.path("empty"), "");
    let empty = world.path("empty");
    let prompt = world.path("p");
    write(&prompt, "hello");
    world.start("live", &[], &["sleep:300"]);
    let base = ["start", "--provider", "exec", "--worktree", &worktree];
    let with = |more: &[&'static str]| [&base[..], more, &["--", "true"]].concat();
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (vec!["check", "--beads", "nobody"], 1, "no_meta"),
        (
            vec!["start", "--beads", "x", "--provider", "nope", "--prompt-file", &prompt],
            20,
            "provider_not_found",
        ),
        (vec!["start", "--provider", "exec", "--worktree", &none, "--", "true"], 22, "worktree_missing"),
        (vec!["start", "--provider", "exec", "--worktree", "/usr", "--", "true"], 22, "non_worktree_path"),
        (with(&["--beads", "live"]), 32, "already_running"),
        (with(&["--env", "NOT_SET_ANYWHERE"]), 10, "env_unresolved"),
        (with(&["--beads", "../x"]), 64, "invalid_id"),
        ([&base[..], &["--prompt-file", &none, "--", "true"]].concat(), 64, "prompt_missing"),
        ([&base[..], &["--prompt-file", &empty, "--", "true"]].concat(), 64, "prompt_invalid"),
        ([&base[..], &["--", &none]].concat(), 1, "spawn_failed"),
        (vec!["wait", "--beads", "live", "--timeout", "0s"], 35, "deadline_exceeded"),
        (vec!["finalize", "--beads", "live", "--exit-code", "0"], 64, "invalid_argument"),
        (
            vec!["start", "--provider", "opencode", "--worktree", &worktree, "--prompt-file", &empty],
            64,
            "prompt_invalid",
        ),
        (vec!["bogus"], 64, "invalid_argument"),
    ];
    for (args, code, reason) in cases {
        let error = world.error(code, &args);
        assert_eq!(error["reason_code"], reason, "{args:?}: {error}");
        assert_types(&error, "reason_code:str message:str causes:arr next_action:str exit_code:num");
    }
    // No opencode on this PATH; a cap of nothing.
    let mut bare = world.env.product();
    bare.args([
        "--json",
        "start",
        "--provider",
        "opencode",
        "--worktree",
        &worktree,
        "--prompt-file",
        &prompt,
    ]);
    bare.env("PATH", world.env.bin_dir());
    let output = world.env.run_command(bare).assert_code(21);
    assert_eq!(error_of(&world.env, &output)["reason_code"], "opencode_binary_missing");
    let mut capped = world.env.product();
    capped.args(world.start_args("more", &["--json"], &["exit:0"])).env("DX_RUNNER_MAX_PARALLEL_EXEC", "1");
    let output = world.env.run_command(capped).assert_code(26);
    assert_eq!(error_of(&world.env, &output)["reason_code"], "provider_concurrency_cap_exceeded");
    // A record of a newer program.
    let started = world.run_to_end("newer", &[], &["exit:0"]);
    let journal = world.view("newer", "events.jsonl");
    let text = crate::world::read(&journal).replacen("\"version\":1", "\"version\":99", 1);
    write(&journal, text);
    assert_eq!(world.error(33, &["check", "--beads", "newer"])["reason_code"], "record_newer", "{started}");
    world.env.run(&["stop", "--beads", "live", "--grace", "0s"]).assert_code(0);
}
