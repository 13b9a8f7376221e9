//! `preflight`, `probe` and `doctor`: each check tells what is wrong and what to do, on machines with some of the agents,
//! none, and wrong ones.

use crate::config::user;
use crate::document;
use crate::manifests::program;
use crate::real_agent::agents_dir;
use crate::world::World;
use dx_testkit::Output;
use serde_json::Value;

#[track_caller]
fn rows(world: &World, output: &Output) -> Vec<[String; 5]> {
    let document = document(&world.env, "preflight", &output.stdout);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| ["provider", "check", "level", "code", "next_action"].map(|key| text(&row[key]));
    document["checks"].as_array().unwrap().iter().map(row).collect()
}

fn of<'a>(rows: &'a [[String; 5]], check: &str) -> [&'a str; 2] {
    let row = rows.iter().find(|row| row[1] == check).unwrap_or_else(|| panic!("no {check}: {rows:?}"));
    [&row[2], &row[3]]
}

const OPENCODE: &str = "case \"$1\" in models) echo x >>\"$HOME/asked\"; echo zhipuai-coding-plan/glm-5 ;; --version) echo 1.18.33 ;; esac\n";

#[test]
fn opencode_check_by_check() {
    let mut world = World::new();
    program(&world, "opencode", OPENCODE);
    let preflight = |world: &World, more: &[&str], code: i32| {
        let args = [&["preflight", "--provider", "opencode", "--json"], more].concat();
        rows(world, &world.env.run(&args).assert_code(code))
    };
    let told = preflight(&world, &[], 0);
    assert_eq!(of(&told, "binary"), ["ok", "-"]);
    assert_eq!(of(&told, "version"), ["ok", "-"]);
    assert_eq!(of(&told, "credentials"), ["warn", "provider_credentials_missing"]);
    assert_eq!(of(&told, "model"), ["ok", "-"]);
    assert_eq!(of(&told, "lane"), ["ok", "-"]);
    assert_eq!(of(&told, "beads-mcp"), ["warn", "beads_mcp_missing"]);
    let text = world.env.run(&["preflight", "--provider", "opencode"]).assert_code(0).stdout;
    assert!(text.contains("beads-mcp binary: MISSING (optional - Beads context degraded)"), "{text}");
    assert!(
        told.iter().all(|row| row[2] == "ok" || row[4] != "-"),
        "every finding says what to do: {told:?}"
    );
    // Warnings can be errors, and then cost the exit code.
    assert!(
        preflight(&world, &["--strict"], 21).iter().any(|row| row[1] == "beads-mcp" && row[2] == "error")
    );
    world.env.set("ZAI_API_KEY", "zai-secret-1");
    program(&world, "beads-mcp", "");
    let told = preflight(&world, &["--strict", "--worktree", &world.repo.display().to_string()], 0);
    assert_eq!((of(&told, "credentials"), of(&told, "worktree")), (["ok", "-"], ["ok", "-"]));
    // What a job would be refused for.
    assert_eq!(
        of(&preflight(&world, &["--model", "a/b"], 21), "model"),
        ["error", "opencode_model_unsupported"]
    );
    let other = ["--model", "a/b", "--allow-model-override"];
    // Not listed: the first allowed and listed one is taken, as a job would.
    assert_eq!(of(&preflight(&world, &other, 0), "model"), ["ok", "-"]);
    assert_eq!(
        of(&preflight(&world, &["--worktree", "/nowhere"], 21), "worktree"),
        ["error", "worktree_missing"]
    );
}

#[test]
fn lists_are_kept_as_long_as_the_variable_says() {
    let mut world = World::new();
    program(&world, "opencode", OPENCODE);
    let asked =
        |world: &World| std::fs::read_to_string(world.env.home().join("asked")).unwrap_or_default().len() / 2;
    let preflight = |world: &World| world.env.run(&["preflight", "--provider", "opencode"]).assert_code(0);
    preflight(&world);
    preflight(&world);
    assert_eq!(asked(&world), 1);
    world.env.set("OPENCODE_MODELS_CACHE_TTL_SEC", "0");
    preflight(&world);
    assert_eq!(asked(&world), 2);
}

#[test]
fn programs_that_are_missing_or_of_another_version() {
    let world = World::new();
    // None is there: nothing can run, and each says what to do.
    let none = rows(&world, &world.env.run(&["preflight", "--json"]).assert_code(0));
    assert!(none.iter().all(|row| row[2] == "warn" && row[3].ends_with("_binary_missing")), "{none:?}");
    let named = ["preflight", "--provider", "claude-code", "--json"];
    let told = rows(&world, &world.env.run(&named).assert_code(21));
    assert_eq!(of(&told, "binary"), ["error", "claude_code_binary_missing"]);
    world.env.run(&["preflight", "--provider", "nope"]).assert_code(20);
    let doctor = world.env.run(&["doctor"]).stdout;
    assert!(doctor.contains("install `opencode`, or put it on PATH"), "{doctor}");
    // A version nobody tried: a warning, here, in doctor and at a start.
    program(&world, "claude", "case \"$1\" in --version) echo '3.0.0 (Claude Code)' ;; esac\n");
    let told = rows(&world, &world.env.run(&named).assert_code(0));
    assert_eq!(of(&told, "version"), ["warn", "provider_version_untested"]);
    let doctor = world.env.run(&["doctor"]).stdout;
    assert!(doctor.contains("3.0.0; tested with 2.1.x"), "{doctor}");
    assert!(doctor.contains("credentials: none seen"), "{doctor}");
    let worktree = world.repo.display().to_string();
    let args =
        ["start", "--beads", "v", "--provider", "claude-code", "--prompt-file", "-", "--worktree", &worktree];
    let started = world.env.run_with_stdin(&args, "x").assert_code(0);
    assert!(started.stderr.contains("warning: claude-code 3.0.0 is untested"), "{started}");
    world.env.run(&["wait", "--beads", "v"]);
    // It is a file that decides, not a memory of it.
    program(&world, "claude", "case \"$1\" in --version) echo '2.1.400' ;; esac\n");
    assert_eq!(of(&rows(&world, &world.env.run(&named).assert_code(0)), "version"), ["ok", "-"]);
    program(&world, "claude", "exit 1\n");
    let told = rows(&world, &world.env.run(&named).assert_code(0));
    assert_eq!(of(&told, "version"), ["warn", "provider_version_unknown"]);
}

#[test]
fn a_probe_is_judged_by_the_answer() {
    let world = World::new();
    let agent = "case \"$1\" in --version) echo 1.0 ;; well) cat >/dev/null; echo READY ;; silent) : ;; \
                 fails) echo 'Error: no key' >&2; exit 3 ;; where) pwd >\"$HOME/where\"; echo READY ;; \
                 leaves) setsid sleep 300.125 >/dev/null 2>&1 & echo READY ;; esac\n";
    program(&world, "tool", agent);
    let names = ["well", "silent", "fails", "where", "leaves"];
    let table = |n: &&str| format!("[providers.{n}]\ncommand = [\"tool\", \"{n}\"]\n");
    let text: Vec<String> = names.iter().map(table).collect();
    user(&world, &text.concat());
    let probe = |name: &str, code: i32| {
        let output = world.env.run(&["probe", "--provider", name, "--json"]).assert_code(code);
        rows(&world, &output).remove(0)
    };
    assert_eq!(probe("well", 0)[2], "ok");
    assert_eq!(probe("silent", 21)[3], "probe_failed");
    assert_eq!(probe("fails", 21)[3], "probe_failed");
    let said = world.env.run(&["probe", "--provider", "fails"]).assert_code(21).stdout;
    assert!(said.contains("Error: no key"), "{said}");
    // It runs in a folder of its own, and nothing of it stays.
    probe("where", 0);
    let place = std::fs::read_to_string(world.env.home().join("where")).unwrap();
    assert!(
        !std::path::Path::new(place.trim()).exists() && !place.starts_with(&world.repo.display().to_string())
    );
    probe("leaves", 0);
    let home = world.env.home().display().to_string();
    let left = dx_testkit::processes_with_marker("HOME", &home);
    assert!(left.iter().all(|pid| !dx_testkit::describe(*pid).contains("300.125")), "{left:?}");
    // The live check of preflight is the same.
    let live = world.env.run(&["preflight", "--provider", "fails", "--live", "--json"]).assert_code(21);
    assert_eq!(of(&rows(&world, &live), "live"), ["error", "probe_failed"]);
    world.env.run(&["probe", "--provider", "exec"]).assert_code(64);
}

#[test]
fn a_monitor_that_was_left_behind_is_told() {
    let mut world = World::new();
    let folder = world.env.path("installed");
    std::fs::create_dir_all(&folder).unwrap();
    let (runner, monitor) = (folder.join("dx-runner"), folder.join("dx-monitor"));
    std::fs::copy(env!("CARGO_BIN_EXE_dx-runner"), &runner).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_dx-monitor"), &monitor).unwrap();
    world.env = world.env.dx_runner(&runner);
    let doctor = |world: &World| world.json_any(&["doctor"]);
    let row = |document: &Value| {
        let rows = document["checks"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["name"] == "monitor").unwrap()
    };
    assert_eq!(row(&doctor(&world))["level"], "ok");
    std::fs::remove_file(&monitor).unwrap();
    assert_eq!(row(&doctor(&world))["level"], "warn");
    std::os::unix::fs::symlink("/bin/true", &monitor).unwrap();
    let told = row(&doctor(&world));
    assert_eq!(told["level"], "error");
    assert!(told["next_action"].as_str().unwrap().contains("install dx-runner and dx-monitor together"));
    // A start that fails for it says so.
    let refused = world.try_start("x", &[], &["exit:0"]).assert_code(1);
    assert!(refused.stderr.contains("of another version than dx-runner"), "{refused}");
}

#[test]
fn a_machine_without_a_home() {
    let mut world = World::new();
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "DX_RUNNER_STATE_DIR"] {
        world.env.set(name, "");
    }
    let output = world.env.run(&["doctor", "--json"]).assert_code(1);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    for row in document["checks"].as_array().unwrap() {
        let done = row["level"] == "ok" || row["next_action"] != "-";
        assert!(done, "{row}");
    }
}

#[test]
fn a_program_that_does_not_answer_is_ended_with_all_that_it_began() {
    let world = World::new();
    program(
        &world,
        "codex",
        "trap '' TERM; setsid sleep 941.25 & (trap '' TERM; while :; do sleep 0.2; done) & sleep 942.25\n",
    );
    let told = rows(&world, &world.env.run(&["preflight", "--provider", "codex", "--json"]));
    assert_eq!(of(&told, "version"), ["warn", "provider_version_unknown"]);
    let left = dx_testkit::processes_with_marker("HOME", &world.env.home().display().to_string());
    assert!(left.is_empty(), "{:?}", left.into_iter().map(dx_testkit::describe).collect::<Vec<_>>());
}

/// Without a network, and with some of the real agents only: what is there is told as it is, what is not as missing, and
/// nothing waits for an answer from outside.
#[test]
fn some_of_the_agents_and_no_network() {
    let Some(agents) = agents_dir() else { return };
    for (program, names, missing) in [
        ("opencode", &["opencode"][..], "codex_binary_missing"),
        ("claude", &["claude-code", "cc-glm"], "gemini_binary_missing"),
        ("gemini", &["gemini"], "claude_code_binary_missing"),
        ("codex", &["codex"], "opencode_binary_missing"),
    ] {
        let mut world = World::new();
        world.env.link_program(program, agents.join(program));
        for key in
            ["ZHIPU_API_KEY", "CC_GLM_AUTH_TOKEN", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "CODEX_API_KEY"]
        {
            world.env.set(key, "fake");
        }
        // What OpenCode knows of a maker's models it fetches; those of its own configuration are there without.
        let config = world.env.path("xdg/config/opencode");
        std::fs::create_dir_all(&config).unwrap();
        let own = r#"{"provider":{"mock":{"npm":"@ai-sdk/openai-compatible","options":{"baseURL":"http://127.0.0.1:1/v1"},"models":{"m1":{}}}}}"#;
        std::fs::write(config.join("opencode.json"), own).unwrap();
        world.env.set("OPENCODE_CANONICAL_MODEL", "mock/m1");
        let offline = |args: &[&str]| {
            let mut command = world.env.command("unshare");
            command.args(["--map-root-user", "--net", env!("CARGO_BIN_EXE_dx-runner")]).args(args);
            world.env.try_run(command, b"").unwrap()
        };
        // Where nobody may make a network of their own the same is asked with the one that there is.
        let can = offline(&["--version"]).code == 0;
        let run = |args: &[&str]| if can { offline(args) } else { world.env.run(args) };
        let told = rows(&world, &run(&["preflight", "--json"]));
        for name in names {
            let own: Vec<_> = told.iter().filter(|row| row[0] == *name).cloned().collect();
            for check in ["binary", "version", "credentials", "model", "lane"] {
                assert_eq!(of(&own, check), ["ok", "-"], "{name}: {told:#?}");
            }
        }
        assert!(told.iter().any(|row| row[2] == "warn" && row[3] == missing), "{told:#?}");
        assert!(told.iter().all(|row| row[2] == "ok" || row[4] != "-"), "{told:#?}");
        let doctor: Value = serde_json::from_str(&run(&["doctor", "--json"]).stdout).unwrap();
        for row in doctor["checks"].as_array().unwrap() {
            let Some(name) = row["name"].as_str().unwrap().strip_prefix("provider ") else { continue };
            let there = names.contains(&name) || name == "exec";
            assert_eq!(row["level"] == "ok", there, "{row}");
            assert!(there || row["found"] == "not found on PATH", "{row}");
        }
    }
}

/// By name, never by value, and without a question to 1Password.
#[test]
fn doctor_tells_where_credentials_come_from() {
    let mut world = World::new();
    program(&world, "claude", "echo '2.1.400'\n");
    program(&world, "gemini", "echo 0.61.0\n");
    let row = |world: &World, name: &str| {
        let told = world.env.run(&["doctor", "--json"]).stdout;
        assert!(!told.contains("secret-"), "{told}");
        let document: Value = serde_json::from_str(&told).unwrap();
        let rows = document["checks"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["name"] == format!("provider {name}")).unwrap();
        ["level", "found", "next_action"].map(|key| row[key].as_str().unwrap().to_owned())
    };
    let [level, found, next] = row(&world, "gemini");
    assert_eq!(level, "warn");
    assert!(found.ends_with("credentials: no credentials for Gemini CLI were found"), "{found}");
    assert!(next.contains("GEMINI_API_KEY"), "{next}");
    let [level, found, _] = row(&world, "cc-glm");
    assert!(level == "warn" && found.contains("there is no `op` on PATH to resolve op://"), "{found}");
    program(&world, "op", "echo x >>\"$HOME/asked\"; echo secret-3\n");
    let [level, found, _] = row(&world, "cc-glm");
    assert!(level == "ok" && found.contains("in 1Password, from the default"), "{level} {found}");
    assert!(!world.env.home().join("asked").exists(), "doctor asked 1Password");
    world.env.set("ZAI_API_KEY", "secret-1");
    world.env.set("GEMINI_API_KEY", "secret-2");
    for (name, variable) in [("cc-glm", "ZAI_API_KEY"), ("gemini", "GEMINI_API_KEY")] {
        let [level, found, next] = row(&world, name);
        assert_eq!((level.as_str(), next.as_str()), ("ok", "-"), "{name}");
        assert!(found.ends_with(&format!("credentials: variable {variable}")), "{found}");
    }
}
