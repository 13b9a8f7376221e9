//! Jobs of the real Gemini CLI against a scripted model, in detail. Each way it is known to go wrong is a row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `gemini` in it (`cargo xtask install-agents` prints one); without it the
//! tests say that they were left out.

use crate::environment;
use crate::real_agent::{PATIENCE, RealAgent, SECRET_WORD};
use dx_testkit::{TestEnv, describe, processes_with_marker, send_signal, wait_until};
use std::os::unix::fs::PermissionsExt;

/// As the credentials.
const KEY: &str = "AIzaSy-secret-7743-0123456789-abcdefghi";

fn world() -> Option<RealAgent> {
    let mut world = RealAgent::new("gemini", "gemini")?;
    world.env.set("GOOGLE_GEMINI_BASE_URL", world.model.root_url());
    world.env.set("GEMINI_API_KEY", KEY);
    let folder = world.env.home().join(".gemini");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#;
    std::fs::write(folder.join("settings.json"), settings).unwrap();
    Some(world)
}

#[test]
fn success_in_detail() {
    let Some(mut world) = world() else { return };
    // What a Gemini CLI that calls us leaves in the environment of its shell, and what would start a container.
    for (name, value) in
        [("GEMINI_CLI", "1"), ("GEMINI_CLI_IDE_SERVER_PORT", "1"), ("GEMINI_SANDBOX", "docker")]
    {
        world.env.set(name, value);
    }
    let write = "write:notes/a.txt:hello,bash:echo $GEMINI_CLI_IDE_SERVER_PORT-$GEMINI_SANDBOX >env.txt,text:ALL\\nDONE";
    world.start("good", write, &[]);
    let end = world.end_as("good", "exited_ok", "process_exit_with_rc");
    assert_eq!(end["selected_model"], "gemini-3-flash-preview");
    assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&300.into(), &30.into()), "{end:#}");
    assert_eq!(end["tools"], serde_json::json!({ "write_file": 1, "run_shell_command": 1 }));
    assert_eq!(end["outcome"]["work"]["files_changed"], serde_json::json!(["env.txt", "notes/a.txt"]));
    let file = |name: &str| std::fs::read_to_string(world.repository.join(name)).unwrap();
    assert_eq!((file("notes/a.txt").as_str(), file("env.txt").as_str()), ("hello", "-false\n"));
    let log = world.env.run(&["logs", "--beads", "good"]).assert_code(0).stdout;
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.contains(&"ALL") && lines.contains(&"DONE") && lines.contains(&"> write_file"), "{log}");
    assert!(!log.contains("{\"type\""), "{log}");
    let calls = world.model.calls();
    assert!(calls.iter().all(|call| call.api == Some("generate") && call.model == "gemini-3-flash-preview"));

    let contract = world.contract("good");
    assert!(contract.contains("variable GEMINI_API_KEY"), "{contract}");
    assert!(contract.contains(&world.model.root_url()), "{contract}");
    world.assert_not_recorded(KEY);
}

#[test]
fn a_confined_job_commits_in_a_linked_worktree() {
    let Some(world) = world() else { return };
    let place = world.repository.parent().unwrap().join("linked");
    world.env.git(&world.repository, &["worktree", "add", "-q", "-b", "side", place.to_str().unwrap()]);
    let outside = world.env.path("outside.txt");
    let scenario = format!(
        "write:a.txt:hello,bash:git add a.txt && git commit -qm work,bash:echo x >{},text:DONE",
        outside.display()
    );
    let prompt = format!("Go [[mock:{scenario}]]");
    let worktree = place.display().to_string();
    let args = [&world.args("strict", &worktree)[..], &["--sandbox", "strict"]].concat();
    world.env.run_with_stdin(&args, prompt).assert_code(0);
    let end = world.end("strict");
    assert_eq!(end["state"], "exited_ok", "{end:#}");
    assert!(!outside.exists(), "written outside of the worktree");
    let subject = world.env.git(&place, &["log", "-1", "--format=%s"]);
    assert_eq!(subject.trim(), "work");
    assert_eq!(std::fs::read_to_string(place.join("a.txt")).unwrap(), "hello");
}

#[test]
fn prompts_arrive_whole_or_are_refused() {
    let Some(world) = world() else { return };
    world.prompts_arrive_whole_or_are_refused();
}

#[test]
fn stop_ends_the_agent_itself_and_its_tool() {
    let Some(world) = world() else { return };
    world.start("stop", "bash:true; sleep 120.25,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process("sleep 120.25").is_some());
    assert!(world.process(SECRET_WORD).is_none(), "the prompt is in a command line");
    let agent = world.pid("stop");
    // The wrapper would have a child that is Gemini CLI once more.
    let home = world.env.home().display().to_string();
    let inner = processes_with_marker("HOME", &home).into_iter();
    let others = inner.filter(|pid| *pid != agent && describe(*pid).contains("stream-json")).count();
    assert!(describe(agent).contains("stream-json") && others == 0, "{others} beside {}", describe(agent));
    world.env.run(&["stop", "--beads", "stop"]).assert_code(0);
    assert!(world.process("sleep 120.25").is_none(), "the tool runs on");
    assert_eq!(world.end("stop")["reason_code"], "manual_stop");
}

#[test]
fn its_own_zero_after_term_is_no_success() {
    let Some(world) = world() else { return };
    world.start("term", "hang", &[]);
    wait_until(PATIENCE, "the model is asked", || !world.model.calls().is_empty());
    let agent = world.pid("term");
    assert!(send_signal(agent, 15));
    let end = world.end("term");
    assert_eq!(
        (&end["state"], &end["reason_code"], &end["outcome"]["exit"]),
        (&"exited_err".into(), &"provider_no_result".into(), &serde_json::json!({ "code": 0 })),
        "{end:#}"
    );
}

#[test]
fn nothing_outlives_a_killed_wrapper() {
    let Some(world) = world() else { return };
    let wrapper = world.env.bin_dir().join("gemini");
    std::fs::remove_file(&wrapper).unwrap();
    let script = format!("#!/bin/sh\n'{}' \"$@\"\nexit $?\n", world.program.display());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    world.start("wrapped", "hang", &[]);
    wait_until(PATIENCE, "the model is asked", || !world.model.calls().is_empty());
    assert!(send_signal(world.pid("wrapped"), 9));
    let end = world.end("wrapped");
    assert_eq!(end["state"], "exited_err", "{end:#}");
    assert_eq!(end["outcome"]["exit"], serde_json::json!({ "signal": 9 }), "{end:#}");
    let home = world.env.home().display().to_string();
    wait_until(PATIENCE, "nothing is left", || processes_with_marker("HOME", &home).is_empty());
}

#[test]
fn an_http_status_is_told_and_is_no_signal() {
    let Some(world) = world() else { return };
    world.start("status", "401", &[]);
    let end = world.end("status");
    assert_eq!(end["outcome"]["exit"], serde_json::json!({ "code": 145 }), "{end:#}");
    let detail = end["outcome"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("HTTP 401 UNAUTHENTICATED: "), "{detail}");
}

#[test]
fn a_retry_is_told_while_it_lasts() {
    let Some(world) = world() else { return };
    for (id, scenario, told) in
        [("server", "500", "provider_retrying"), ("limit", "429", "rate_limited_waiting")]
    {
        world.start(id, scenario, &[]);
        world.until_told(id, told);
        world.env.run(&["stop", "--beads", id]).assert_code(0);
        world.end_as(id, "exited_err", "manual_stop");
    }
}

#[test]
fn without_program_or_credentials_the_start_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let args =
        ["start", "--dry-run", "--provider", "gemini", "--prompt-file", "-", "--worktree", &repository];
    let link = env.link_program("gemini", "/bin/true");
    let output = env.run_with_stdin(&args, "go").assert_code(10);
    assert!(output.stderr.contains("reason: gemini_auth_missing"), "{output}");
    // Each of these is enough for a try.
    let folder = env.home().join(".gemini");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [
        ("oauth_creds.json", "{}"),
        (".env", "GEMINI_API_KEY=x"),
        ("settings.json", r#"{"security":{"auth":{"selectedType":"vertex-ai"}}}"#),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        env.run_with_stdin(&args, "go").assert_code(0);
        std::fs::remove_file(file).unwrap();
    }
    env.set("GOOGLE_API_KEY", KEY);
    env.run_with_stdin(&args, "go").assert_code(0);
    std::fs::remove_file(link).unwrap();
    let output = env.run_with_stdin(&args, "go").assert_code(21);
    assert!(output.stderr.contains("reason: gemini_binary_missing"), "{output}");
}

#[test]
fn a_model_off_the_allow_list_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    env.link_program("gemini", "/bin/true");
    env.set("GEMINI_API_KEY", KEY);
    let args =
        ["start", "--dry-run", "--provider", "gemini", "--prompt-file", "-", "--worktree", &repository];
    let start = |env: &TestEnv, more: &[&str], code: i32| {
        env.run_with_stdin(&[&args[..], more].concat(), "go").assert_code(code)
    };
    // Without a list every model may be asked for.
    assert!(start(&env, &["--model", "any"], 0).stdout.contains("--model any"));
    assert!(start(&env, &[], 0).stdout.contains("--model gemini-3-flash-preview"));
    env.set("GEMINI_CANONICAL_MODEL", "gemini-x");
    assert!(start(&env, &[], 0).stdout.contains("--model gemini-x"));
    env.set("GEMINI_ALLOWED_MODELS", "gemini-x, gemini-y");
    let refused = start(&env, &["--model", "any"], 25);
    assert!(refused.stderr.contains("reason: model_not_allowed"), "{refused}");
    assert!(refused.stderr.contains("GEMINI_ALLOWED_MODELS"), "{refused}");
    assert!(start(&env, &["--model", "gemini-y"], 0).stdout.contains("--model gemini-y"));
    assert!(start(&env, &["--model", "any", "--allow-model-override"], 0).stdout.contains("--model any"));
}
