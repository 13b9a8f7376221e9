//! `--agent NAME`: looked up before the start, refused when it cannot be run. With stand-ins for the command lines; the real
//! ones are in `truth`.

use crate::environment;
use dx_testkit::{Output, TestEnv};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Lists as the real one does, and notes each question. The definition `extra` is listed when it exists.
const OPENCODE: &str = r#"#!/bin/sh
echo "$*" >>"$(dirname "$0")/asked"
case "$*" in
models) echo mock/m1 ;;
'agent list')
    printf 'build (primary)\n  [\n  {\n    "permission": "x (primary)"\n  }\n  ]\nexplore (subagent)\n'
    ls .opencode/agent 2>/dev/null | sed 's/.md$/ (all)/' ;;
esac
"#;
/// Looks at `--agent` before it misses the prompt.
const CLAUDE: &str = r#"#!/bin/sh
case "$*" in
*'--agent reviewer'*) echo 'Error: Input must be provided' >&2 ;;
*--agent*) echo "--agent 'x' not found. Available agents: claude, reviewer" >&2 ;;
esac
exit 1
"#;

struct World {
    env: TestEnv,
    repository: PathBuf,
}

impl World {
    fn new() -> Self {
        let env = environment();
        for (name, script) in [("opencode", OPENCODE), ("claude", CLAUDE)] {
            let path = env.bin_dir().join(name);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let repository = env.git_repo("demo", &[("a.txt", "one\n")]);
        Self { env, repository }
    }

    fn plan(&self, provider: &str, agent: &str, more: &[&str]) -> Output {
        let worktree = self.repository.display().to_string();
        let args = [
            "start",
            "--dry-run",
            "--json",
            "--provider",
            provider,
            "--agent",
            agent,
            "--worktree",
            &worktree,
        ];
        let model: &[&str] =
            if provider == "opencode" { &["--model", "mock/m1", "--allow-model-override"] } else { &[] };
        let prompt: &[&str] = if provider == "exec" { &[] } else { &["--prompt-file", "-"] };
        self.env.run_with_stdin(&[&args[..], model, prompt, more].concat(), "go")
    }

    #[track_caller]
    fn accepts(&self, provider: &str, agent: &str) {
        let plan = self.plan(provider, agent, &[]).assert_code(0);
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        let argv: Vec<&str> = plan["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(argv.windows(2).any(|pair| pair == ["--agent", agent]), "{argv:?}");
    }

    #[track_caller]
    fn refuses(&self, provider: &str, agent: &str, reason: &str, next: &str) {
        let output = self.plan(provider, agent, &[]).assert_code(21);
        let error: Value = output.stderr.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
        assert_eq!(error["error"]["reason_code"], reason, "{output}");
        assert_eq!(error["error"]["next_action"], next, "{output}");
    }

    fn asked(&self, question: &str) -> usize {
        let asked = std::fs::read_to_string(self.env.bin_dir().join("asked")).unwrap();
        asked.lines().filter(|line| *line == question).count()
    }
}

#[test]
fn opencode_runs_only_an_agent_that_it_lists_and_that_can_lead() {
    let world = World::new();
    world.accepts("opencode", "build");
    for name in ["bild", "explore", "x"] {
        world.refuses("opencode", name, "opencode_agent_missing", "--agent with one of: build");
    }
    assert_eq!(world.asked("agent list"), 1, "the list is kept");
    // A definition more in the project is another list.
    let folder = world.repository.join(".opencode/agent");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("reviewer.md"), "---\nmode: all\n---\nYou review.\n").unwrap();
    world.accepts("opencode", "reviewer");
    world.refuses("opencode", "bild", "opencode_agent_missing", "--agent with one of: build, reviewer");
    assert_eq!((world.asked("agent list"), world.asked("models")), (2, 1));
}

#[test]
fn claude_code_is_asked_itself() {
    let world = World::new();
    world.accepts("claude-code", "reviewer");
    world.refuses("claude-code", "x", "claude_code_agent_missing", "--agent with one of: claude, reviewer");
}

#[test]
fn exec_has_no_agents() {
    let output = World::new().plan("exec", "any", &["--", "true"]).assert_code(64);
    assert!(output.stderr.contains("not_supported"), "{output}");
}

#[test]
fn a_list_that_cannot_be_had_is_told() {
    let world = World::new();
    let opencode: &Path = &world.env.bin_dir().join("opencode");
    std::fs::write(opencode, OPENCODE.replace("'agent list')", "'agent list') exit 1 ;;\nnever)")).unwrap();
    let output = world.plan("opencode", "build", &[]).assert_code(21);
    assert!(output.stderr.contains("opencode_agents_failed"), "{output}");
}

#[test]
fn a_restart_keeps_the_agent() {
    let world = World::new();
    let worktree = world.repository.display().to_string();
    let args = [
        "start",
        "--beads",
        "a",
        "--provider",
        "claude-code",
        "--agent",
        "reviewer",
        "--worktree",
        &worktree,
    ];
    world.env.run_with_stdin(&[&args[..], &["--prompt-file", "-"]].concat(), "go").assert_code(0);
    for command in ["wait", "restart", "wait"] {
        world.env.run(&[command, "--beads", "a"]);
    }
    let contract = std::fs::read_to_string(world.env.state_dir().join("claude-code/a.contract")).unwrap();
    assert!(contract.contains("--agent") && contract.contains("reviewer"), "{contract}");
    let meta = std::fs::read_to_string(world.env.state_dir().join("claude-code/a.meta")).unwrap();
    assert!(meta.contains("retries=1"), "{meta}");
}
