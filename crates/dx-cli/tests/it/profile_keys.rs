//! Every key that may stand in a profile has an effect: a table with a row for each key, and a test that fails when the
//! program knows a key that has no row. Then what several layers make of one key.

use crate::config::{here, here_with, project};
use crate::world::{World, error_of, write};
use serde_json::{Value, json};

/// How the effect of a key shows.
enum Effect {
    /// In the first record of the run, at this place.
    Recorded(&'static str, Value),
    /// The list there has this.
    Has(&'static str, &'static str),
    /// The start is refused: exit code, reason.
    Refused(i32, &'static str),
    /// The job, which makes a file and changes another, ends for this reason.
    Ended(&'static str),
}
use Effect::{Ended, Has, Recorded, Refused};

/// Key, the line with it (and what else it needs), effect.
fn rows() -> Vec<(&'static str, &'static str, Effect)> {
    let seconds = |place, n: u64| Recorded(place, json!(n));
    vec![
        ("provider", "provider = \"nope\"", Refused(20, "provider_not_found")),
        ("model", "model = \"m7\"", Recorded("/contract/selected_model", json!("m7"))),
        (
            "allow_model_override",
            "allow_model_override = true",
            Recorded("/spec/allow_model_override", json!(true)),
        ),
        (
            "fallback",
            "provider = \"opencode\"\nfallback = [\"exec\"]",
            Recorded("/contract/fallback_reason", json!("opencode: opencode_binary_missing")),
        ),
        ("allowed_models", "model = \"m7\"\nallowed_models = [\"m1\"]", Refused(25, "model_not_allowed")),
        ("agent", "agent = \"reviewer\"", Refused(64, "not_supported")),
        ("lane", "lane = \"run\"", Recorded("/spec/lane", json!("run"))),
        ("pty", "pty = true", Recorded("/spec/pty", json!(true))),
        ("env", "env = [\"MODE=fast\"]", Has("/contract/env_names", "MODE")),
        ("max_runtime", "max_runtime = \"7m\"", seconds("/spec/limits/max_runtime_sec", 420)),
        ("no_mutation_timeout", "no_mutation_timeout = \"6m\"", seconds("/spec/limits/no_mutation_sec", 360)),
        ("stall", "stall = \"5m\"", seconds("/spec/limits/stall_sec", 300)),
        ("startup_grace", "startup_grace = \"70s\"", seconds("/spec/limits/startup_grace_sec", 70)),
        ("no_op", "no_op = \"80s\"", seconds("/spec/limits/no_op_sec", 80)),
        ("grace", "grace = \"3s\"", seconds("/spec/limits/grace_ms", 3000)),
        ("max_log_bytes", "max_log_bytes = 9000", seconds("/spec/limits/max_log_bytes", 9000)),
        ("max_barren_steps", "max_barren_steps = 3", seconds("/spec/limits/max_barren_steps", 3)),
        ("max_failed_calls", "max_failed_calls = 4", seconds("/spec/limits/max_failed_calls", 4)),
        ("check_timeout", "check_timeout = \"9s\"", seconds("/spec/limits/check_sec", 9)),
        ("max_parallel", "[max_parallel]\nexec = 0", Refused(26, "provider_concurrency_cap_exceeded")),
        ("require_commit", "require_commit = true", Ended("no_commit_artifact")),
        ("read_only", "read_only = true\nsandbox = \"off\"", Ended("read_only_violation")),
        ("scope", "scope = [\"src\"]", Ended("scope_violation")),
        ("forbidden", "forbidden = [\"made\"]", Ended("scope_violation")),
        ("mutation_budget", "mutation_budget = 1", Ended("mutation_budget_exceeded")),
        ("required_baseline", "required_baseline = \"no-such\"", Refused(1, "required_commit_missing")),
        ("feature_key", "feature_key = \"bd-7\"", Ended("no_commits_in_range")),
        ("beads", "beads = true", Refused(24, "beads_unavailable")),
        ("signoff_file", "signoff_file = \"signoff.md\"", Ended("unverified_claims")),
        ("check", "check = \"test ! -e made\"", Ended("check_failed")),
        ("nesting", "nesting = true", Recorded("/spec/nesting", json!(true))),
        ("sandbox", "sandbox = \"off\"", Recorded("/contract/sandbox/mode", json!("off"))),
        ("sandbox_write", "sandbox_write = [\"/opt/x\"]", Has("/spec/sandbox/write", "/opt/x")),
    ]
}

fn profile(world: &World, name: &str, text: &str) {
    let folder = world.env.path("xdg/config/dx-runner/profiles");
    std::fs::create_dir_all(&folder).unwrap();
    write(folder.join(format!("{name}.toml")), text);
}

/// Starts the job of the table with a profile.
fn start(world: &World, id: &str, more: &[&str]) -> dx_testkit::Output {
    let worktree = world.repo.display().to_string();
    // Agents other than a command need one.
    let prompt = world.path("prompt");
    write(&prompt, "Do it.");
    let head = ["start", "--json", "--beads", id, "--worktree", &worktree, "--prompt-file", &prompt];
    here(world, &[&head[..], more, &["--", "sh", "-c", "echo 1 > made; echo 2 > a.txt"]].concat())
}

/// The first record of a run, and its outcome's reason.
#[track_caller]
fn ended(world: &World, started: &dx_testkit::Output) -> (Value, String) {
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let id = started["beads"].as_str().unwrap();
    world.env.run(&["wait", "--beads", id, "--timeout", "90s"]);
    let journal =
        world.env.state_dir().join("runs").join(started["run_uuid"].as_str().unwrap()).join("journal");
    let text = crate::world::read(journal);
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let reason = world.check(id)["reason_code"].as_str().unwrap().to_owned();
    (first["event"].clone(), reason)
}

#[test]
fn each_key_has_its_effect() {
    for (number, (key, text, effect)) in rows().into_iter().enumerate() {
        let world = World::new();
        let text = if text.contains("provider = ") {
            text.to_owned()
        } else {
            format!("provider = \"exec\"\n{text}")
        };
        profile(&world, "p", &text);
        let id = format!("job{number}");
        let output = start(&world, &id, &["--profile", "p"]);
        if let Refused(code, reason) = effect {
            let output = output.assert_code(code);
            assert_eq!(error_of(&world.env, &output)["reason_code"], reason, "{key}");
            continue;
        }
        let (created, reason) = ended(&world, &output.assert_code(0));
        let at = |place: &str| {
            created.pointer(place).cloned().unwrap_or_else(|| panic!("{key}: {place}: {created:#}"))
        };
        match &effect {
            Recorded(place, value) => assert_eq!(at(place), *value, "{key}"),
            Has(place, entry) => {
                assert!(at(place).as_array().unwrap().contains(&(*entry).into()), "{key}: {}", at(place));
            }
            Ended(expected) => assert_eq!(reason, *expected, "{key}"),
            Refused(..) => unreachable!(),
        }
        // Without the profile the same job has none of it.
        let world = World::new();
        let (created, reason) = ended(&world, &start(&world, &id, &["--provider", "exec"]).assert_code(0));
        assert_eq!(reason, "process_exit_with_rc", "{key}");
        match &effect {
            Recorded(place, value) if key != "lane" => {
                assert_ne!(created.pointer(place), Some(value), "{key}");
            }
            Has(place, entry) => {
                let there = created
                    .pointer(place)
                    .and_then(Value::as_array)
                    .is_some_and(|l| l.contains(&(*entry).into()));
                assert!(!there, "{key}");
            }
            _ => {}
        }
    }
}

#[test]
fn no_key_is_without_a_row() {
    let world = World::new();
    let shown = here(&world, &["config", "show", "--json"]).assert_code(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let rows: Vec<&str> = rows().iter().map(|row| row.0).collect();
    let mut known = Vec::new();
    for setting in shown["settings"].as_array().unwrap() {
        let key = setting["key"].as_str().unwrap();
        let told = here(&world, &["config", "explain", key, "--json"]).assert_code(0).stdout;
        let told: Value = serde_json::from_str(&told).unwrap();
        if told["files"].as_str().unwrap().contains("profiles") {
            known.push(key.split('.').next().unwrap().to_owned());
        }
    }
    known.dedup();
    for key in &known {
        assert!(rows.contains(&key.as_str()), "`{key}` may stand in a profile and has no row in this table");
    }
    for row in rows {
        assert!(known.iter().any(|key| key == row), "`{row}` is no key of profiles any more");
    }
}

#[test]
fn what_layers_demand_adds_up() {
    let world = World::new();
    project(
        &world,
        "scope = [\"src\", \"made\", \"*.txt\"]\nmutation_budget = 5\ncheck = \"test -e made\"\n",
    );
    profile(
        &world,
        "p",
        "provider = \"exec\"\nscope = [\"made\", \"a.txt\"]\ncheck = \"grep -q 2 a.txt\"\nforbidden = [\"*.pdf\"]\n",
    );
    let (created, reason) = ended(
        &world,
        &start(&world, "a", &["--profile", "p", "--mutation-budget", "2", "--scope", "**"]).assert_code(0),
    );
    assert_eq!(reason, "process_exit_with_rc");
    let gates = &created["spec"]["gates"];
    assert_eq!(gates["scope"], json!(["src", "made", "*.txt"]));
    assert_eq!(gates["also_scope"], json!([["made", "a.txt"], ["**"]]));
    assert_eq!((&gates["mutation_budget"], &gates["forbidden"]), (&2.into(), &json!(["*.pdf"])));
    assert_eq!(gates["check"], "(\ntest -e made\n) && (\ngrep -q 2 a.txt\n)");
    // An option takes nothing away.
    let (_, reason) =
        ended(&world, &start(&world, "b", &["--profile", "p", "--scope", "a.txt"]).assert_code(0));
    assert_eq!(reason, "scope_violation");
    let (_, reason) =
        ended(&world, &start(&world, "c", &["--profile", "p", "--check", "false"]).assert_code(0));
    assert_eq!(reason, "check_failed");
    let refused = start(&world, "d", &["--profile", "p", "--mutation-budget", "6"]).assert_code(22);
    assert_eq!(error_of(&world.env, &refused)["reason_code"], "setting_not_allowed");
    // A restart asks all of it again, from the record.
    here(&world, &["restart", "--beads", "a"]).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]);
    assert_eq!(world.pairs("a", "meta")["retries"], "1");
}

#[test]
fn feature_keys_are_looked_for_in_the_jobs_commits() {
    let world = World::new();
    let commit = |id: &str, key: &str, message: &str| {
        let git = "git -c user.name=a -c user.email=a@example.invalid commit -q --allow-empty --cleanup=verbatim -m";
        let script = format!("{git} '{message}'");
        let worktree = world.repo.display().to_string();
        let args = [
            "start",
            "--json",
            "--beads",
            id,
            "--provider",
            "exec",
            "--worktree",
            &worktree,
            "--feature-key",
            key,
            "--",
            "sh",
            "-c",
            &script,
        ];
        ended(&world, &here(&world, &args).assert_code(0)).1
    };
    assert_eq!(commit("a", "bd-7", "Work\n\nFeature-Key: bd-7\n"), "process_exit_with_rc");
    assert_eq!(
        commit("b", "bd-7", "Work\n\nFeature-Key: bd-7\n\nNo trailer.\n"),
        "feature_key_missing_in_commits"
    );
    // The word for the job's own id.
    assert_eq!(commit("bd-9", "job", "Work\n\nFeature-Key: bd-9\n"), "process_exit_with_rc");
    let worktree = world.repo.display().to_string();
    let refused = [
        "--json",
        "start",
        "--beads",
        "not-a-key",
        "--provider",
        "exec",
        "--worktree",
        &worktree,
        "--feature-key",
        "job",
        "--",
        "true",
    ];
    let error = error_of(&world.env, &here(&world, &refused).assert_code(1));
    assert_eq!(error["reason_code"], "feature_key_invalid_format");
}

#[test]
fn a_read_only_job_cannot_write_and_is_judged() {
    let mut world = World::new();
    let make = |world: &World, id: &str, more: &[&str], script: &str| {
        let worktree = world.repo.display().to_string();
        let head = [
            "start",
            "--json",
            "--beads",
            id,
            "--provider",
            "exec",
            "--profile",
            "review",
            "--worktree",
            &worktree,
        ];
        let args = [&head[..], more, &["--", "sh", "-c", script]].concat();
        ended(world, &here_with(world, &args, &[]).assert_code(0))
    };
    let (created, reason) = make(&world, "reads", &[], "cat a.txt; git log --oneline");
    assert_eq!(reason, "exit_zero_no_mutations");
    assert_eq!(created["spec"]["limits"]["no_mutation_sec"], 0, "nothing is to change");
    let confined = created["contract"]["sandbox"]["mode"] == "strict";
    let (_, reason) = make(
        &world,
        "writes",
        &[],
        "echo 1 > new 2>/dev/null; git commit -q --allow-empty -m x 2>/dev/null; true",
    );
    if confined {
        assert_eq!(reason, "exit_zero_no_mutations");
        assert!(!world.repo.join("new").exists());
    }
    // What may be written elsewhere opens the worktree no more.
    world.env.set("DX_RUNNER_SANDBOX_WRITE", &world.repo);
    let (_, reason) = make(&world, "writes2", &[], "echo 1 > new 2>/dev/null; true");
    if confined {
        assert_eq!(reason, "exit_zero_no_mutations");
    }
    // Without a sandbox it is judged: what was written, and a HEAD that only moved.
    let off = ["--sandbox", "off"];
    let (_, reason) = make(&world, "judged", &off, "echo 1 > new");
    assert_eq!(reason, "read_only_violation");
    std::fs::remove_file(world.repo.join("new")).unwrap();
    let (_, reason) = make(
        &world,
        "moved",
        &off,
        "git checkout -q --detach; git -c user.name=a -c user.email=a@example.invalid commit -q --allow-empty -m x",
    );
    assert_eq!(reason, "read_only_violation");
}

#[test]
fn a_job_may_start_jobs_only_where_a_profile_says_so() {
    let world = World::new();
    profile(&world, "nest", "provider = \"exec\"\nnesting = true\n");
    let inner = |id: &str| {
        let program = world.env.product().get_program().to_owned().into_string().unwrap();
        let (state, worktree) =
            (world.env.state_dir().display().to_string(), world.repo.display().to_string());
        let prefixes = world.env.allowed_root().display().to_string();
        format!(
            "export DX_RUNNER_EXTRA_ALLOWED_PREFIXES={prefixes}; {program} --state-dir {state} start --beads {id} --provider exec --worktree {worktree} -- true && {program} --state-dir {state} wait --beads {id}"
        )
    };
    let run = |id: &str, more: &[&str], script: &str| {
        let worktree = world.repo.display().to_string();
        let head = ["start", "--json", "--beads", id, "--worktree", &worktree];
        let args = [&head[..], more, &["--", "sh", "-c", script]].concat();
        ended(&world, &here(&world, &args).assert_code(0)).1
    };
    assert_eq!(run("outer", &["--provider", "exec"], &inner("in1")), "process_exit_with_rc");
    assert_eq!(
        world.rc("outer").as_deref(),
        Some("22"),
        "{}",
        crate::world::read(world.view("outer", "log"))
    );
    run("outer2", &["--profile", "nest"], &inner("in2"));
    assert_eq!(
        world.rc("outer2").as_deref(),
        Some("0"),
        "{}",
        crate::world::read(world.view("outer2", "log"))
    );
    assert_eq!(world.outcome("in2").0, "success");
    // Its rights are at most its parent's, and its record says so.
    let modes = ["outer2", "in2"].map(|id| world.pairs(id, "contract")["sandbox"].clone());
    assert_eq!(modes[0].split_whitespace().next(), modes[1].split_whitespace().next());
}
