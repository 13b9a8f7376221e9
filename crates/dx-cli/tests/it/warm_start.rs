//! What a start executes: a cold one asks the agent's program about itself and says so, a warm one runs it once, as the
//! agent. With stand-ins that note each call; the real programs are in `truth`.

use crate::environment;
use dx_testkit::TestEnv;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Answers what a start may ask, and plays an agent that says nothing.
const STAND_IN: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >>"$HOME/calls"
case "$*" in
--version) cat "$HOME/version-$(basename "$0")" ;;
models) echo mock/m1 ;;
'agent list') printf 'build (primary)\nreviewer (all)\n' ;;
'sandbox -- true') ;;
*--permission-mode*) cat >/dev/null ;;
*'--agent reviewer'*) echo 'Error: Input must be provided either through stdin' >&2; exit 1 ;;
*) cat >/dev/null ;;
esac
"#;
/// Programs, and the versions that they tell.
const PROGRAMS: [(&str, &str); 4] =
    [("opencode", "1.18.33"), ("claude", "2.1.329"), ("gemini", "0.61.0"), ("codex", "0.169.0")];
/// What a start would run beside them, if anything.
const OTHERS: [&str; 4] = ["op", "node", "npm", "curl"];

struct World {
    env: TestEnv,
    repository: PathBuf,
}

impl World {
    fn new() -> Self {
        let mut env = environment();
        for name in PROGRAMS.iter().map(|(name, _)| name).chain(&OTHERS) {
            let path = env.bin_dir().join(name);
            std::fs::write(&path, STAND_IN).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        for (name, version) in PROGRAMS {
            std::fs::write(env.home().join(format!("version-{name}")), version).unwrap();
        }
        // An agent in a sandbox notes its call too.
        env.set("DX_RUNNER_SANDBOX_WRITE", env.home());
        for name in ["ZAI_API_KEY", "GEMINI_API_KEY", "CODEX_API_KEY", "ANTHROPIC_API_KEY"] {
            env.set(name, "fake");
        }
        let repository = env.git_repo("demo", &[("a.txt", "one\n")]);
        Self { env, repository }
    }

    /// Runs a job to its end; what it executed, and what the start said.
    #[track_caller]
    fn run(&self, id: &str, provider: &str, more: &[&str]) -> (Vec<String>, String) {
        let calls = self.env.home().join("calls");
        std::fs::write(&calls, "").unwrap();
        let worktree = self.repository.display().to_string();
        let args = [
            "--verbose",
            "start",
            "--beads",
            id,
            "--provider",
            provider,
            "--worktree",
            &worktree,
            "--prompt-file",
            "-",
        ];
        let started = self.env.run_with_stdin(&[&args[..], more].concat(), "go").assert_code(0);
        self.env.run(&["wait", "--beads", id]);
        let calls = std::fs::read_to_string(calls).unwrap();
        (calls.lines().map(str::to_owned).collect(), started.stderr)
    }
}

#[test]
fn a_warm_start_runs_the_agent_and_nothing_else_of_it() {
    let world = World::new();
    let opencode = ["--model", "mock/m1", "--allow-model-override", "--agent", "reviewer"];
    for (provider, more, cold, as_agent) in [
        ("opencode", &opencode[..], 4, "opencode run --format json"),
        ("claude-code", &["--agent", "reviewer"], 3, "claude -p --output-format stream-json"),
        // The program is known by now; its agents are those of another environment or not.
        ("cc-glm", &["--agent", "reviewer"], 1, "claude -p --output-format stream-json"),
        ("gemini", &[], 2, "gemini -o stream-json"),
        ("codex", &[], 2, "codex exec --json"),
        ("codex", &["--sandbox", "off"], 2, "codex exec --json"),
    ] {
        let id = |time: &str| format!("{provider}-{}-{time}", more.len());
        let (calls, said) = world.run(&id("cold"), provider, more);
        assert_eq!(calls.len(), cold, "{provider}: {calls:#?}");
        assert_eq!(said.contains("asking "), cold > 1, "a cold start says what it waits for: {said}");
        assert_eq!(said.matches("asking ").count(), cold - 1, "{provider}: {said}");
        let (calls, said) = world.run(&id("warm"), provider, more);
        assert_eq!(calls.len(), 1, "{provider}: {calls:#?}");
        assert!(calls[0].starts_with(as_agent), "{calls:?}");
        assert!(!said.contains("asking "), "{said}");
    }
}

#[test]
fn what_could_change_an_answer_is_looked_at() {
    let world = World::new();
    let agent = ["--agent", "reviewer"];
    let calls = |id: &str| world.run(id, "claude-code", &agent).0.len();
    assert_eq!((calls("a"), calls("b")), (3, 1));
    // A definition of the project, of the user, and another program.
    let definitions = world.repository.join(".claude/agents");
    std::fs::create_dir_all(&definitions).unwrap();
    std::fs::write(definitions.join("reviewer.md"), "---\nname: reviewer\n---\n").unwrap();
    assert_eq!((calls("c"), calls("d")), (2, 1));
    let own = world.env.home().join(".claude/agents");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("other.md"), "---\nname: other\n---\n").unwrap();
    assert_eq!((calls("e"), calls("f")), (2, 1));
    std::fs::write(world.env.bin_dir().join("claude"), format!("{STAND_IN}# another\n")).unwrap();
    assert_eq!((calls("g"), calls("h")), (3, 1));
    // A refusal is not kept: it may be mended where nobody looks.
    let refuses = STAND_IN.replace(
        "*'--agent reviewer'*)",
        "*'--agent reviewer'*) echo \"--agent 'reviewer' not found. Available agents: x\" >&2; exit 1 ;;\nnever)",
    );
    std::fs::write(world.env.bin_dir().join("claude"), refuses).unwrap();
    let worktree = world.repository.display().to_string();
    let args = [
        "start",
        "--provider",
        "claude-code",
        "--agent",
        "reviewer",
        "--worktree",
        &worktree,
        "--prompt-file",
        "-",
    ];
    world.env.run_with_stdin(&args, "go").assert_code(21);
    world.env.run_with_stdin(&args, "go").assert_code(21);
    let asked = std::fs::read_to_string(world.env.home().join("calls")).unwrap();
    assert_eq!(asked.matches("--agent reviewer").count(), 3, "the last job, and each refusal: {asked}");
}
