//! Jobs of the real Claude Code against a scripted model, in detail. Each way it is known to go wrong is a row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `claude` in it (`cargo xtask install-agents` prints one); without it the
//! tests say that they were left out.

#![allow(clippy::print_stdout, reason = "says what is left out")]

use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::{Output, TestEnv, describe, processes_with_marker, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(4);
/// In every prompt, so that a prompt in a command line can be found.
const SECRET_WORD: &str = "xylophone-7732";
/// As the credentials.
const TOKEN: &str = "sk-ant-secret-7733";

struct World {
    env: TestEnv,
    model: ScriptedModel,
    repository: PathBuf,
}

impl World {
    /// `None` without the real Claude Code, which is said.
    fn new() -> Option<Self> {
        let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR").map(PathBuf::from) else {
            println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
            return None;
        };
        let mut env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        env.link_program("claude", agents.join("claude"));
        env.set("ANTHROPIC_BASE_URL", model.root_url());
        env.set("ANTHROPIC_AUTH_TOKEN", TOKEN);
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Some(Self { env, model, repository })
    }

    #[track_caller]
    fn start(&self, id: &str, scenario: &str, more: &[&str]) -> Output {
        let prompt = format!("Do the task {SECRET_WORD} [[mock:{scenario}]]");
        let worktree = self.repository.display().to_string();
        let args = [
            "start",
            "--beads",
            id,
            "--provider",
            "claude-code",
            "--prompt-file",
            "-",
            "--worktree",
            &worktree,
        ];
        self.env.run_with_stdin(&[&args[..], more].concat(), prompt).assert_code(0)
    }

    #[track_caller]
    fn end(&self, id: &str) -> Value {
        let output = self.env.run(&["wait", "--json", "--beads", id]);
        document(&self.env, "check", &output.stdout)
    }

    /// A process of a job: its command line contains the words.
    fn process(&self, words: &str) -> Option<i32> {
        let home = self.env.home().display().to_string();
        processes_with_marker("HOME", &home).into_iter().find(|pid| describe(*pid).contains(words))
    }
}

#[test]
fn success_in_detail() {
    let Some(mut world) = World::new() else { return };
    // What a Claude Code that calls us leaves in the environment of its shell.
    for (name, value) in
        [("CLAUDECODE", "1"), ("CLAUDE_CODE_ENTRYPOINT", "cli"), ("CLAUDE_CODE_SSE_PORT", "1")]
    {
        world.env.set(name, value);
    }
    let write = "write:notes/a.txt:hello,bash:echo $CLAUDECODE-$DISABLE_TELEMETRY >env.txt,text:ALL DONE";
    world.start("good", write, &["--model", "sonnet"]);
    let end = world.end("good");
    assert_eq!(
        (&end["state"], &end["reason_code"]),
        (&"exited_ok".into(), &"process_exit_with_rc".into()),
        "{end:#}"
    );
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

    let contract = std::fs::read_to_string(world.env.state_dir().join("claude-code/good.contract")).unwrap();
    assert!(contract.contains("variable ANTHROPIC_AUTH_TOKEN"), "{contract}");
    assert!(contract.contains(&world.model.root_url()), "{contract}");
    for name in ["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT"] {
        assert!(!contract.contains(name), "{name} is passed on");
    }
    for entry in std::fs::read_dir(world.env.state_dir().join("claude-code")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        assert!(!text.contains(TOKEN), "the token is in {}", entry.path().display());
    }
}

#[test]
fn one_that_is_ended_while_it_tries_a_wrong_key_again_says_so() {
    let Some(world) = World::new() else { return };
    world.start("key", "401", &["--max-runtime", "4s"]);
    let end = world.end("key");
    assert_eq!((&end["state"], &end["reason_code"]), (&"exited_err".into(), &"max_runtime_exceeded".into()));
    assert_eq!(end["verdicts"]["provider"], "no_result", "{end:#}");
    assert_eq!(end["outcome"]["trouble"]["class"], "auth", "{end:#}");
    let next = end["next_action"].as_str().unwrap();
    assert!(next.starts_with("the agent was still told authentication_failed (401): "), "{next}");
    assert!(next.contains("log in with") && next.contains("raise --max-runtime"), "{next}");
    assert_eq!(end["outcome"]["detail"], "the agent was still told authentication_failed (401)");
}

#[test]
fn six_first_starts_at_once() {
    let Some(world) = World::new() else { return };
    let ids: Vec<String> = (0..6).map(|n| format!("first-{n}")).collect();
    std::thread::scope(|scope| {
        for id in &ids {
            let world = &world;
            scope.spawn(move || world.start(id, &format!("write:{id}.txt:x,text:DONE"), &[]));
        }
    });
    for id in &ids {
        let end = world.end(id);
        assert_eq!(end["state"], "exited_ok", "{end:#}");
        assert!(world.repository.join(format!("{id}.txt")).exists(), "{id}");
    }
}

#[test]
fn stop_with_a_tool_in_its_own_session() {
    let Some(world) = World::new() else { return };
    world.start("stop", "bash:true; sleep 120.25,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 120.25").is_some());
    assert!(world.process(SECRET_WORD).is_none(), "the prompt is in a command line");
    let tool = world.process(": sleep 120.25").unwrap();
    let session = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
    };
    let status = world.env.run(&["status", "--json", "--beads", "stop"]).assert_code(0).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    let agent: i32 = status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap();
    assert_ne!(session(agent), session(tool), "this Claude Code has no sessions for its tools");
    world.env.run(&["stop", "--beads", "stop"]).assert_code(0);
    assert!(world.process("sleep 120.25").is_none(), "the tool runs on");
    let end = world.end("stop");
    assert_eq!(
        (&end["reason_code"], &end["outcome"]["state"]),
        (&"manual_stop".into(), &"killed".into()),
        "{end:#}"
    );
}

#[test]
fn a_retry_is_told_while_it_lasts() {
    let Some(world) = World::new() else { return };
    world.start("retry", "500", &[]);
    let reason = || {
        let check = world.env.run(&["check", "--json", "--beads", "retry"]).stdout;
        serde_json::from_str::<Value>(&check).unwrap()["reason_code"].clone()
    };
    wait_until(PATIENCE, "the retry is told", || reason() == "provider_retrying");
    world.env.run(&["stop", "--beads", "retry"]).assert_code(0);
    assert_eq!(world.end("retry")["reason_code"], "manual_stop");
    let events = world.env.run(&["events", "--beads", "retry"]).assert_code(0).stdout;
    assert!(events.contains("500"), "{events}");
}

#[test]
fn the_kernel_refuses_what_claude_code_allows() {
    let Some(mut world) = World::new() else { return };
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
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
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let nowhere = env.path("nowhere");
    env.set("PATH", nowhere);
    let args = ["start", "--provider", "claude-code", "--prompt-file", "-", "--worktree", &repository];
    let output = env.run_with_stdin(&args, "go").assert_code(21);
    assert!(output.stderr.contains("reason: claude_code_binary_missing"), "{output}");
    let doctor = env.run(&["doctor"]).stdout;
    assert!(
        doctor.lines().any(|line| line.contains("provider claude-code") && line.contains("not found")),
        "{doctor}"
    );
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
