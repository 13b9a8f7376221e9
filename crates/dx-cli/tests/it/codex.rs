//! Jobs of the real Codex against a scripted model, in detail. Each way it is known to go wrong is a row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `codex` in it (`cargo xtask install-agents` prints one); without it the tests
//! say that they were left out.

use crate::environment;
use crate::real_agent::{PATIENCE, RealAgent, assert_refused_without_program};
use dx_scripted_model::codex_config;
use dx_testkit::{Output, wait_until};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// As the credentials.
const TOKEN: &str = "sk-proj-secret-7743";

fn world() -> Option<RealAgent> {
    let mut world = RealAgent::new("codex", "codex")?;
    world.env.set("OPENAI_API_KEY", TOKEN);
    configure(&world, Some(1));
    Some(world)
}

/// Codex's settings, with so many retries.
fn configure(world: &RealAgent, retries: Option<u32>) {
    let folder = world.env.home().join(".codex");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), codex_config(&world.model.base_url(), retries)).unwrap();
}

/// A start on a system that lacks something, as actions of the fake agent say.
fn lacking(world: &RealAgent, lacks: &[&str], id: &str, prompt: &str) -> Output {
    let worktree = world.repository.display().to_string();
    let mut command = world.env.command(world.env.fake_agent());
    let words = [&[env!("CARGO_BIN_EXE_dx-runner")], &world.args(id, &worktree)[..]].concat().join("\n");
    command.args(lacks).arg(format!("exec:{words}"));
    world.env.try_run(command, prompt.as_bytes()).unwrap()
}

#[test]
fn success_in_detail() {
    let Some(mut world) = world() else { return };
    // What a Codex that calls us leaves in the environment of its shell.
    for (name, value) in [("CODEX_THREAD_ID", "x"), ("CODEX_SANDBOX", "seatbelt"), ("CODEX_CI", "1")] {
        world.env.set(name, value);
    }
    let steps = "tool:apply_patch:*** Begin Patch\\n*** Add File\\: notes/a.txt\\n+hello\\n*** End Patch,\
                 bash:echo \"$CODEX_SANDBOX-\" >env.txt,text:ALL DONE";
    world.start("good", steps, &["--model", "gpt-5.5"]);
    let end = world.end_as("good", "exited_ok", "process_exit_with_rc");
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
    world.assert_not_recorded(TOKEN);
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
    world.start("stop", "bash:true; sleep 120.75,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 120.75").is_some());
    world.env.run(&["stop", "--beads", "stop"]).assert_code(0);
    assert!(world.process("sleep 120.75").is_none(), "the tool runs on");
    world.end_as("stop", "exited_err", "manual_stop");
}

/// In our sandbox, which Codex's own cannot be built in: a linked worktree, and what is outside of it.
#[test]
fn a_commit_in_a_linked_worktree_under_strict() {
    let Some(world) = world() else { return };
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
    let end = world.end_as("linked", "exited_ok", "process_exit_with_rc");
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
    let Some(world) = world() else { return };
    let outside = world.env.path("outside.txt").display().to_string();
    let steps = format!(
        "write:a.txt:hello,bash:git add -A && git commit -qm work,bash:echo x >>{outside} || echo stopped >b.txt,text:DONE"
    );
    world.start("off", &steps, &["--sandbox", "off", "--require-commit"]);
    world.end_as("off", "exited_ok", "process_exit_with_rc");
    assert_eq!(std::fs::read_to_string(world.repository.join("b.txt")).unwrap(), "stopped\n");
    assert!(!Path::new(&outside).exists(), "{outside} was written");
    let prompt = format!("Do it [[mock:bash:echo x >>{outside} || echo stopped >c.txt,text:DONE]]");
    lacking(&world, &["without-landlock"], "none", &prompt).assert_code(0);
    let end = world.end_as("none", "exited_ok", "process_exit_with_rc");
    assert_eq!(end["sandbox"]["mode"], "none");
    assert_eq!(std::fs::read_to_string(world.repository.join("c.txt")).unwrap(), "stopped\n");
}

/// Every command of the agent would fail, and the run would end well.
#[test]
fn a_place_without_any_sandbox_is_refused() {
    let Some(world) = world() else { return };
    let refused = lacking(&world, &["without-landlock", "without-mounts"], "nowhere", "go").assert_code(21);
    assert!(refused.stderr.contains("reason: codex_sandbox_refused"), "{refused}");
    assert!(refused.stderr.contains("--sandbox strict"), "{refused}");
    // Ours needs no mounts.
    let prompt = "[[mock:write:a.txt:x,text:DONE]]";
    lacking(&world, &["without-mounts"], "ours", prompt).assert_code(0);
    world.end_as("ours", "exited_ok", "process_exit_with_rc");
}

/// A kill of npm's wrapper would leave the real Codex at work.
#[test]
fn npms_wrapper_is_not_the_agent() {
    let Some(world) = world() else { return };
    let on_path = world.env.bin_dir().join("codex");
    std::fs::remove_file(&on_path).unwrap();
    let modules = world.env.path("lib/node_modules/@openai");
    std::fs::create_dir_all(modules.join("codex/bin")).unwrap();
    let script = modules.join("codex/bin/codex.js");
    std::fs::write(&script, "#!/bin/sh\nexit 99\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&script, &on_path).unwrap();
    // The platform's package, as it was installed: …/vendor/TARGET/bin/codex.
    let package = world.program.ancestors().nth(4).unwrap();
    symlink(package, modules.join(package.file_name().unwrap())).unwrap();
    world.start("npm", "bash:true; sleep 121.25,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 121.25").is_some());
    let pid = world.pid("npm");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), world.program);
    kill(pid);
    let end = world.end("npm");
    assert_eq!(end["outcome"]["exit"]["signal"], 9, "{end:#}");
    assert!(world.process("sleep 121.25").is_none(), "the tool runs on");
}

/// A wrapper that nobody knows is the agent; when it is killed, what it started ends all the same.
#[test]
fn a_killed_wrapper_leaves_nothing() {
    let Some(world) = world() else { return };
    let on_path = world.env.bin_dir().join("codex");
    std::fs::remove_file(&on_path).unwrap();
    std::fs::write(&on_path, format!("#!/bin/sh\n'{}' \"$@\"\n", world.program.display())).unwrap();
    std::fs::set_permissions(&on_path, PermissionsExt::from_mode(0o755)).unwrap();
    world.start("wrapped", "bash:true; sleep 121.75,text:NEVER", &[]);
    wait_until(PATIENCE, "the tool runs", || world.process(": sleep 121.75").is_some());
    let pid = world.pid("wrapped");
    assert_ne!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), world.program);
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
    let Some(world) = world() else { return };
    // Five retries, each later than the one before.
    configure(&world, None);
    world.start("retry", "500", &[]);
    world.until_told("retry", "provider_retrying");
    world.env.run(&["stop", "--beads", "retry"]).assert_code(0);
    world.end_as("retry", "exited_err", "manual_stop");
}

#[test]
fn without_codex_the_start_is_refused() {
    assert_refused_without_program("codex", "codex_binary_missing");
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
