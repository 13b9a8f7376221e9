//! Jobs of the real Claude Code against a scripted model, in detail. Each way it is known to go wrong is a row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `claude` in it (`cargo xtask install-agents` prints one); without it the
//! tests say that they were left out.

use crate::environment;
use crate::real_agent::{PATIENCE, RealAgent, SECRET_WORD, assert_refused_without_program};
use dx_testkit::wait_until;

/// As the credentials.
const TOKEN: &str = "sk-ant-secret-7733";

fn world() -> Option<RealAgent> {
    let mut world = RealAgent::new("claude-code", "claude")?;
    world.env.set("ANTHROPIC_BASE_URL", world.model.root_url());
    world.env.set("ANTHROPIC_AUTH_TOKEN", TOKEN);
    Some(world)
}

#[test]
fn success_in_detail() {
    let Some(mut world) = world() else { return };
    // What a Claude Code that calls us leaves in the environment of its shell.
    for (name, value) in
        [("CLAUDECODE", "1"), ("CLAUDE_CODE_ENTRYPOINT", "cli"), ("CLAUDE_CODE_SSE_PORT", "1")]
    {
        world.env.set(name, value);
    }
    let write = "write:notes/a.txt:hello,bash:echo $CLAUDECODE-$DISABLE_TELEMETRY >env.txt,text:ALL DONE";
    world.start("good", write, &["--model", "sonnet"]);
    let end = world.end_as("good", "exited_ok", "process_exit_with_rc");
    assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&300.into(), &30.into()), "{end:#}");
    assert!(end["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{end:#}");
    assert_eq!(end["tools"], serde_json::json!({ "Write": 1, "Bash": 1 }));
    assert_eq!(end["outcome"]["work"]["files_changed"], serde_json::json!(["env.txt", "notes/a.txt"]));
    assert_eq!(end["selected_model"], "sonnet");
    let file = |name: &str| std::fs::read_to_string(world.repository.join(name)).unwrap();
    assert_eq!(file("notes/a.txt"), "hello");
    // Claude Code sets its own mark for its tools, whoever called it.
    assert_eq!(file("env.txt"), "1-1\n");
    let log = world.env.run(&["logs", "--beads", "good"]).assert_code(0).stdout;
    assert!(log.contains("ALL DONE") && log.contains("> Write") && !log.contains("{\"type\""), "{log}");
    assert!(world.model.calls().iter().all(|call| call.api == Some("messages")), "{:?}", world.model.calls());

    let contract = world.contract("good");
    assert!(contract.contains("variable ANTHROPIC_AUTH_TOKEN"), "{contract}");
    assert!(contract.contains(&world.model.root_url()), "{contract}");
    for name in ["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT"] {
        assert!(!contract.contains(name), "{name} is passed on");
    }
    world.assert_not_recorded(TOKEN);
}

#[test]
fn one_that_is_ended_while_it_tries_a_wrong_key_again_says_so() {
    let Some(world) = world() else { return };
    world.start("key", "401", &["--max-runtime", "4s"]);
    let end = world.end_as("key", "exited_err", "max_runtime_exceeded");
    assert_eq!(end["verdicts"]["provider"], "no_result", "{end:#}");
    assert_eq!(end["outcome"]["trouble"]["class"], "auth", "{end:#}");
    let next = end["next_action"].as_str().unwrap();
    assert!(next.starts_with("the agent was still told authentication_failed (401): "), "{next}");
    assert!(next.contains("log in with") && next.contains("raise --max-runtime"), "{next}");
    assert_eq!(end["outcome"]["detail"], "the agent was still told authentication_failed (401)");
}

#[test]
fn six_first_starts_at_once() {
    let Some(world) = world() else { return };
    world.six_first_starts_at_once();
}

#[test]
fn prompts_arrive_whole_or_are_refused() {
    let Some(world) = world() else { return };
    world.prompts_arrive_whole_or_are_refused();
}

#[test]
fn stop_with_a_tool_in_its_own_session() {
    let Some(world) = world() else { return };
    world.start("stop", "bash:true; sleep 120.25,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 120.25").is_some());
    assert!(world.process(SECRET_WORD).is_none(), "the prompt is in a command line");
    let tool = world.process(": sleep 120.25").unwrap();
    let session = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_ne!(session(world.pid("stop")), session(tool), "this Claude Code has no sessions for its tools");
    world.env.run(&["stop", "--beads", "stop"]).assert_code(0);
    assert!(world.process("sleep 120.25").is_none(), "the tool runs on");
    let end = world.end_as("stop", "exited_err", "manual_stop");
    assert_eq!(end["outcome"]["state"], "killed", "{end:#}");
}

#[test]
fn a_retry_is_told_while_it_lasts() {
    let Some(world) = world() else { return };
    world.start("retry", "500", &[]);
    world.until_told("retry", "provider_retrying");
    world.env.run(&["stop", "--beads", "retry"]).assert_code(0);
    world.end_as("retry", "exited_err", "manual_stop");
    let events = world.env.run(&["events", "--beads", "retry"]).assert_code(0).stdout;
    assert!(events.contains("500"), "{events}");
}

#[test]
fn the_kernel_refuses_what_claude_code_allows() {
    let Some(world) = world() else { return };
    let outside = world.env.home().join("elsewhere");
    let folder = world.env.home().join(".claude");
    for made in [&outside, &folder] {
        std::fs::create_dir_all(made).unwrap();
    }
    // The user allows it.
    let settings = serde_json::json!({ "permissions": { "additionalDirectories": [outside] } });
    std::fs::write(folder.join("settings.json"), settings.to_string()).unwrap();
    let file = outside.join("by-tool");
    world.start("outside", &format!("write:{}:x,write:inside.txt:x,text:DONE", file.display()), &[]);
    let end = world.end("outside");
    assert!(!file.exists() && world.repository.join("inside.txt").exists(), "{end:#}");
    assert_eq!(end["state"], "exited_ok", "a finding fails nothing: {end:#}");
    let finding = serde_json::json!([{ "reason_code": "sandbox_denied", "names": [file] }]);
    assert_eq!(end["outcome"]["work"]["findings"], finding, "{end:#}");
}

#[test]
fn without_claude_the_start_is_refused() {
    assert_refused_without_program("claude-code", "claude_code_binary_missing");
}

#[test]
fn a_model_off_the_allow_list_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    env.link_program("claude", "/bin/true");
    env.set("CLAUDE_CODE_ALLOWED_MODELS", "sonnet, opus");
    env.set("ANTHROPIC_MODEL", "haiku");
    let start = |more: &[&str], code: i32| {
        let args = [
            "start",
            "--dry-run",
            "--provider",
            "claude-code",
            "--prompt-file",
            "-",
            "--worktree",
            &repository,
        ];
        env.run_with_stdin(&[&args[..], more].concat(), "go").assert_code(code)
    };
    let refused = start(&[], 25);
    assert!(refused.stderr.contains("reason: model_not_allowed"), "{refused}");
    assert!(refused.stderr.contains("CLAUDE_CODE_ALLOWED_MODELS"), "{refused}");
    assert!(start(&["--model", "opus"], 0).stdout.contains("--model opus"));
    assert!(start(&["--allow-model-override"], 0).stdout.contains("--model haiku"));
}
