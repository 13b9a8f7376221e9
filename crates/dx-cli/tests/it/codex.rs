//! Jobs of the real Codex against a scripted model, in detail. Each way it is known to go wrong is a row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `codex` in it (`cargo xtask install-agents` prints one); without it the tests
//! say that they were left out.

#![allow(clippy::print_stdout, reason = "says what is left out")]

use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel, codex_config};
use dx_testkit::{Output, TestEnv, describe, processes_with_marker, wait_until};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(4);
/// In every prompt, so that a prompt in a command line can be found.
const SECRET_WORD: &str = "xylophone-7742";
/// As the credentials.
const TOKEN: &str = "sk-proj-secret-7743";

struct World {
    env: TestEnv,
    model: ScriptedModel,
    repository: PathBuf,
    /// The real Codex.
    codex: PathBuf,
}

impl World {
    /// `None` without the real Codex, which is said.
    fn new() -> Option<Self> {
        let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR").map(PathBuf::from) else {
            println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
            return None;
        };
        let mut env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        let codex = agents.join("codex").canonicalize().unwrap();
        env.link_program("codex", &codex);
        env.set("OPENAI_API_KEY", TOKEN);
        // What users' agents get, and no more.
        env.set("DX_RUNNER_SANDBOX_WRITE", "");
        std::fs::create_dir(env.home().join(".codex")).unwrap();
        let config = codex_config(&model.base_url(), Some(1));
        std::fs::write(env.home().join(".codex/config.toml"), config).unwrap();
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Some(Self { env, model, repository, codex })
    }

    #[track_caller]
    fn start(&self, id: &str, scenario: &str, more: &[&str]) -> Output {
        let prompt = format!("Do the task {SECRET_WORD} [[mock:{scenario}]]");
        let worktree = self.repository.display().to_string();
        self.env.run_with_stdin(&[&args(id, &worktree)[..], more].concat(), prompt).assert_code(0)
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

    fn pid(&self, id: &str) -> i32 {
        let status = self.env.run(&["status", "--json", "--beads", id]).assert_code(0).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap()
    }

    fn contract(&self, id: &str) -> String {
        std::fs::read_to_string(self.env.state_dir().join(format!("codex/{id}.contract"))).unwrap()
    }

    /// The product on a system that lacks something, as actions of the fake agent say.
    fn lacking(&self, lacks: &[&str], args: &[&str], stdin: &str) -> Output {
        let mut command = self.env.command(self.env.fake_agent());
        let words = [&[env!("CARGO_BIN_EXE_dx-runner")], args].concat().join("\n");
        command.args(lacks).arg(format!("exec:{words}"));
        self.env.try_run(command, stdin.as_bytes()).unwrap()
    }
}

fn args<'a>(id: &'a str, worktree: &'a str) -> Vec<&'a str> {
    ["start", "--beads", id, "--provider", "codex", "--prompt-file", "-", "--worktree", worktree].to_vec()
}

#[track_caller]
fn assert_told(end: &Value, state: &str, reason: &str) {
    assert_eq!((&end["state"], &end["reason_code"]), (&state.into(), &reason.into()), "{end:#}");
}

#[test]
fn success_in_detail() {
    let Some(mut world) = World::new() else { return };
    // What a Codex that calls us leaves in the environment of its shell.
    for (name, value) in [("CODEX_THREAD_ID", "x"), ("CODEX_SANDBOX", "seatbelt"), ("CODEX_CI", "1")] {
        world.env.set(name, value);
    }
    let steps = "tool:apply_patch:*** Begin Patch\\n*** Add File\\: notes/a.txt\\n+hello\\n*** End Patch,\
                 bash:echo \"$CODEX_SANDBOX-\" >env.txt,text:ALL DONE";
    world.start("good", steps, &["--model", "gpt-5.5"]);
    let end = world.end("good");
    assert_told(&end, "exited_ok", "process_exit_with_rc");
    assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&300.into(), &30.into()), "{end:#}");
    assert_eq!(end["tools"], serde_json::json!({ "file_change": 1, "command_execution": 1 }));
    assert_eq!(end["outcome"]["work"]["files_changed"], serde_json::json!(["env.txt", "notes/a.txt"]));
    assert_eq!(end["selected_model"], "gpt-5.5");
    let file = |name: &str| std::fs::read_to_string(world.repository.join(name)).unwrap();
    assert_eq!((file("notes/a.txt").as_str(), file("env.txt").as_str()), ("hello\n", "-\n"));
    let log = world.env.run(&["logs", "--beads", "good"]).assert_code(0).stdout;
    assert!(log.contains("ALL DONE") && log.contains("> file_change") && !log.contains("{\"type\""), "{log}");
    assert!(
        world.model.calls().iter().all(|call| call.api == Some("responses")),
        "{:?}",
        world.model.calls()
    );

    let contract = world.contract("good");
    assert!(contract.contains("Codex's own login or settings") && contract.contains("stdin"), "{contract}");
    assert!(contract.contains("unbounded_connection_retries=false"), "{contract}");
    assert!(!contract.contains("CODEX_THREAD_ID"), "{contract}");
    for entry in std::fs::read_dir(world.env.state_dir().join("codex")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        assert!(!text.contains(TOKEN), "the token is in {}", entry.path().display());
    }
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
fn a_large_prompt_that_looks_like_an_option() {
    let Some(world) = World::new() else { return };
    let prompt = format!("--help\n-c x {SECRET_WORD}\n{}the very end", "0123456789abcde\n".repeat(300 * 64));
    let worktree = world.repository.display().to_string();
    let large = args("large", &worktree);
    world.env.run_with_stdin(&large, &prompt).assert_code(0);
    assert!(world.process(SECRET_WORD).is_none(), "the prompt is in a command line");
    assert_told(&world.end("large"), "exited_ok", "exit_zero_no_mutations");
    let calls = world.model.calls();
    assert!(calls.iter().any(|call| *call.prompt == *prompt), "{} calls", calls.len());
    // What no agent could read is refused before there is anything of it.
    for bytes in [&b"a\0b"[..], b"caf\xe9"] {
        let refused = world.env.run_with_stdin(&args("never", &worktree), bytes).assert_code(64);
        assert!(refused.stderr.contains("reason: prompt_invalid"), "{refused}");
    }
}

#[test]
fn stop_with_a_tool_in_its_own_session() {
    let Some(world) = World::new() else { return };
    world.start("stop", "bash:true; sleep 120.75,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 120.75").is_some());
    world.env.run(&["stop", "--beads", "stop"]).assert_code(0);
    assert!(world.process("sleep 120.75").is_none(), "the tool runs on");
    assert_told(&world.end("stop"), "exited_err", "manual_stop");
}

/// In our sandbox, which Codex's own cannot be built in: a linked worktree, and what is outside of it.
#[test]
fn a_commit_in_a_linked_worktree_under_strict() {
    let Some(world) = World::new() else { return };
    let outside = world.env.path("outside.txt").display().to_string();
    let steps = format!(
        "write:a.txt:hello,bash:git add -A && git commit -qm work && git log --oneline >log.txt,\
         bash:echo x >>{outside},tool:apply_patch:*** Begin Patch\\n*** Add File\\: {outside}\\n+x\\n*** End Patch,text:DONE"
    );
    let prompt = format!("Do it [[mock:{steps}]]");
    let mut command = world.env.product();
    command.current_dir(&world.repository);
    command.args(["start", "--json", "--beads", "linked", "--provider", "codex", "--prompt-file", "-"]);
    command.args(["--worktree", "auto", "--sandbox", "strict", "--require-commit"]);
    let started = world.env.try_run(command, prompt.as_bytes()).unwrap().assert_code(0);
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let worktree = PathBuf::from(started["worktree"].as_str().unwrap());
    let end = world.end("linked");
    assert_told(&end, "exited_ok", "process_exit_with_rc");
    assert_eq!(std::fs::read_to_string(worktree.join("log.txt")).unwrap().lines().count(), 2);
    assert_eq!(end["sandbox"]["mode"], "strict");
    assert!(!Path::new(&outside).exists(), "{outside} was written");
    let denied = end["outcome"]["work"]["findings"].to_string();
    assert!(denied.contains("sandbox_denied") && denied.contains(&outside), "{end:#}");
    assert!(world.contract("linked").contains("--dangerously-bypass-approvals-and-sandbox"));
}

/// Without ours Codex has its own: `--sandbox off`, and a kernel that cannot.
#[test]
fn without_our_sandbox_it_has_its_own() {
    let Some(world) = World::new() else { return };
    let outside = world.env.path("outside.txt").display().to_string();
    let steps = format!(
        "write:a.txt:hello,bash:git add -A && git commit -qm work,bash:echo x >>{outside} || echo stopped >b.txt,text:DONE"
    );
    world.start("off", &steps, &["--sandbox", "off", "--require-commit"]);
    let end = world.end("off");
    assert_told(&end, "exited_ok", "process_exit_with_rc");
    assert_eq!(std::fs::read_to_string(world.repository.join("b.txt")).unwrap(), "stopped\n");
    assert!(!Path::new(&outside).exists(), "{outside} was written");
    let worktree = world.repository.display().to_string();
    let prompt = format!("Do it [[mock:bash:echo x >>{outside} || echo stopped >c.txt,text:DONE]]");
    world.lacking(&["without-landlock"], &args("none", &worktree), &prompt).assert_code(0);
    let end = world.end("none");
    assert_told(&end, "exited_ok", "process_exit_with_rc");
    assert_eq!(end["sandbox"]["mode"], "none");
    assert_eq!(std::fs::read_to_string(world.repository.join("c.txt")).unwrap(), "stopped\n");
}

/// Every command of the agent would fail, and the run would end well.
#[test]
fn a_place_without_any_sandbox_is_refused() {
    let Some(world) = World::new() else { return };
    let worktree = world.repository.display().to_string();
    let nowhere = args("nowhere", &worktree);
    let refused = world.lacking(&["without-landlock", "without-mounts"], &nowhere, "go").assert_code(21);
    assert!(refused.stderr.contains("reason: codex_sandbox_refused"), "{refused}");
    assert!(refused.stderr.contains("--sandbox strict"), "{refused}");
    // Ours needs no mounts.
    let prompt = "[[mock:write:a.txt:x,text:DONE]]";
    world.lacking(&["without-mounts"], &args("ours", &worktree), prompt).assert_code(0);
    assert_told(&world.end("ours"), "exited_ok", "process_exit_with_rc");
}

/// A kill of npm's wrapper would leave the real Codex at work.
#[test]
fn npms_wrapper_is_not_the_agent() {
    let Some(world) = World::new() else { return };
    let on_path = world.env.bin_dir().join("codex");
    std::fs::remove_file(&on_path).unwrap();
    let modules = world.env.path("lib/node_modules/@openai");
    std::fs::create_dir_all(modules.join("codex/bin")).unwrap();
    let script = modules.join("codex/bin/codex.js");
    std::fs::write(&script, "#!/bin/sh\nexit 99\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&script, &on_path).unwrap();
    // The platform's package, as it was installed: …/vendor/TARGET/bin/codex.
    let package = world.codex.ancestors().nth(4).unwrap();
    symlink(package, modules.join(package.file_name().unwrap())).unwrap();
    world.start("npm", "bash:true; sleep 121.25,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 121.25").is_some());
    let pid = world.pid("npm");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), world.codex);
    kill(pid);
    let end = world.end("npm");
    assert_eq!(end["outcome"]["exit"]["signal"], 9, "{end:#}");
    assert!(world.process("sleep 121.25").is_none(), "the tool runs on");
}

/// A wrapper that nobody knows is the agent; when it is killed, what it started ends all the same.
#[test]
fn a_killed_wrapper_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let on_path = world.env.bin_dir().join("codex");
    std::fs::remove_file(&on_path).unwrap();
    std::fs::write(&on_path, format!("#!/bin/sh\n'{}' \"$@\"\n", world.codex.display())).unwrap();
    std::fs::set_permissions(&on_path, PermissionsExt::from_mode(0o755)).unwrap();
    world.start("wrapped", "bash:true; sleep 121.75,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 121.75").is_some());
    let pid = world.pid("wrapped");
    assert_ne!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), world.codex);
    kill(pid);
    let end = world.end("wrapped");
    assert_eq!(
        (&end["state"], &end["outcome"]["exit"]["signal"]),
        (&"exited_err".into(), &9.into()),
        "{end:#}"
    );
    assert!(world.process("exec --json").is_none(), "the real Codex runs on");
    assert!(world.process("sleep 121.75").is_none(), "the tool runs on");
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_retry_is_told_while_it_lasts() {
    let Some(world) = World::new() else { return };
    // Five retries, each later than the one before.
    let config = codex_config(&world.model.base_url(), None);
    std::fs::write(world.env.home().join(".codex/config.toml"), config).unwrap();
    world.start("retry", "500", &[]);
    let reason = || {
        let check = world.env.run(&["check", "--json", "--beads", "retry"]).stdout;
        serde_json::from_str::<Value>(&check).unwrap()["reason_code"].clone()
    };
    wait_until(PATIENCE, "the retry is told", || reason() == "provider_retrying");
    world.env.run(&["stop", "--beads", "retry"]).assert_code(0);
    assert_eq!(world.end("retry")["reason_code"], "manual_stop");
}

#[test]
fn without_codex_the_start_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let nowhere = env.path("nowhere");
    env.set("PATH", nowhere);
    let args = ["start", "--provider", "codex", "--prompt-file", "-", "--worktree", &repository];
    let output = env.run_with_stdin(&args, "go").assert_code(21);
    assert!(output.stderr.contains("reason: codex_binary_missing"), "{output}");
    let doctor = env.run(&["doctor"]).stdout;
    assert!(
        doctor.lines().any(|line| line.contains("provider codex") && line.contains("not found")),
        "{doctor}"
    );
}

#[test]
fn a_model_off_the_allow_list_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    env.link_program("codex", "/bin/true");
    env.set("CODEX_ALLOWED_MODELS", "gpt-5.5, gpt-6-sol");
    env.set("CODEX_MODEL", "o1");
    let start = |more: &[&str], code: i32| {
        let args =
            ["start", "--dry-run", "--provider", "codex", "--prompt-file", "-", "--worktree", &repository];
        env.run_with_stdin(&[&args[..], more].concat(), "go").assert_code(code)
    };
    let refused = start(&[], 25);
    assert!(refused.stderr.contains("reason: model_not_allowed"), "{refused}");
    assert!(refused.stderr.contains("CODEX_ALLOWED_MODELS"), "{refused}");
    assert!(start(&["--model", "gpt-6-sol"], 0).stdout.contains("--model gpt-6-sol"));
    assert!(start(&["--allow-model-override"], 0).stdout.contains("--model o1"));
}
