//! Real agents that call the tools from inside a session, driven by the scripted model.
//!
//! Needs `DX_TEST_AGENTS_DIR`; without it the tests say that they were left out.

use crate::environment;
use crate::real_agent::agents_dir;
use dx_scripted_model::{Scenario, ScriptedModel, codex_config, opencode_config};
use dx_testkit::{Output, TestEnv};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A machine under load needs a multiple of what a quiet one does.
pub(super) const PATIENCE: Duration = Duration::from_mins(4);

/// An agent's home, its model, and a member that answers.
pub(super) struct World {
    pub(super) env: TestEnv,
    pub(super) model: ScriptedModel,
    pub(super) repo: PathBuf,
    agents: PathBuf,
    config: String,
}

impl World {
    /// `None` without real agents, which is said.
    pub(super) fn new() -> Option<Self> {
        let agents = agents_dir()?;
        let env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        let member = model.plain_url_for(&Scenario::text("ANSWERED-BY-THE-MEMBER"));
        let config = env.path("xdg/config/dx-runner/config.toml");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        // Not all clients hand their environment on.
        let allowed = env.allowed_root().display().to_string();
        let hanging = model.plain_url_for(&"hang".parse().unwrap());
        let endpoints = format!("[\"one={member}\", \"two={member}\", \"hanging={hanging}\"]");
        let settings = format!("endpoints = {endpoints}\nallowed_prefixes = [{allowed:?}]\n");
        std::fs::write(&config, settings).unwrap();
        let repo = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Some(Self { env, model, repo, agents, config: config.display().to_string() })
    }

    /// The tools, called one after the other, and then a word.
    fn prompt(&self, prefix: &str) -> String {
        let tool = |name: &str, arguments: &Value| format!("tool:{prefix}{name}:{arguments}");
        let members = json!(["openai:one/m1", "openai:two/m1"]);
        let job = json!({ "provider": "exec", "beads": "from-inside", "worktree": self.repo,
            "command": ["sh", "-c", "echo made > made.txt"] });
        let steps = [
            tool("dispatch", &json!({ "prompt": "ASKED-FROM-INSIDE", "member": "openai:one/m1" })),
            tool("batch_dispatch", &json!({ "prompt": "ASKED-ALL", "members": members })),
            tool("job_start", &job),
            tool("job_wait", &json!({ "beads": ["from-inside"] })),
            tool("job_report", &json!({ "beads": "from-inside" })),
            "text:ALL CALLED".to_owned(),
        ];
        format!("Go [[mock:{}]]", steps.join(","))
    }

    /// Tells the agent of the server, as its user would.
    #[track_caller]
    fn install(&self, client: &str) {
        let state = self.env.state_dir().display().to_string();
        let head = ["--state-dir", &state, "--config", &self.config];
        self.env.run(&[&head[..], &["mcp", "install", "--client", client]].concat()).assert_code(0);
    }

    #[track_caller]
    fn run(&self, command: Command, prompt: &str) -> Output {
        self.env.try_run(command, prompt.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What must be true after the agent's session, by our records and by what its model was told.
    #[track_caller]
    fn assert_called(&self, output: &Output) {
        assert_eq!(output.code, 0, "{output}");
        let asked = |words: &str| {
            let calls = self.model.calls().into_iter().filter(|call| call.path.contains("/plain/"));
            calls.filter(|call| call.prompt.contains(words)).count()
        };
        assert_eq!((asked("ASKED-FROM-INSIDE"), asked("ASKED-ALL")), (1, 2), "{output}");
        assert_eq!(
            std::fs::read_to_string(self.repo.join("made.txt")).unwrap_or_default(),
            "made\n",
            "{output}"
        );
        let check = self.env.run(&["check", "--beads", "from-inside", "--json"]).assert_code(0);
        assert!(check.stdout.contains("\"exited_ok\""), "{check}");
        let batches = self.env.run(&["batch", "list"]).assert_code(0).stdout;
        assert_eq!(batches.lines().count(), 1, "{batches}");
        for word in ["ALL CALLED", "ANSWERED-BY-THE-MEMBER", "from-inside", "made.txt"] {
            assert!(output.stdout.contains(word), "{word}: {output}");
        }
        // The server ends with its client.
        assert_eq!(self.env.kill_leftovers(), Vec::<String>::new());
    }
}

/// Each installs the server for its agent, and starts that so that it takes the prompt from its standard input.
impl World {
    pub(super) fn claude(&self) -> Command {
        self.install("claude");
        let mut claude = self.env.command(self.agents.join("claude"));
        claude.current_dir(&self.repo);
        claude.env("ANTHROPIC_BASE_URL", self.model.root_url()).env("ANTHROPIC_AUTH_TOKEN", "fake");
        claude.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1");
        claude.args(["-p", "--output-format", "stream-json", "--verbose"]);
        claude.args(["--allowedTools", "mcp__dx-runner"]);
        claude
    }

    pub(super) fn opencode(&self) -> Command {
        self.install("opencode");
        let config = opencode_config(&self.model.base_url());
        let mut opencode = self.env.command(self.agents.join("opencode"));
        opencode.current_dir(&self.repo).env("OPENCODE_CONFIG_CONTENT", config.to_string());
        opencode.env("OPENCODE_DISABLE_MODELS_FETCH", "1").env("OPENCODE_DISABLE_AUTOUPDATE", "1");
        opencode.args(["run", "--format", "json", "--dir"]).arg(&self.repo);
        opencode
    }

    /// `about` is what the user said of the server before.
    pub(super) fn gemini(&self, about: &Value) -> Command {
        let settings = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } },
            "privacy": { "usageStatisticsEnabled": false }, "general": { "enableAutoUpdate": false },
            "mcpServers": { "dx-runner": about } });
        let file = self.env.home().join(".gemini/settings.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, settings.to_string()).unwrap();
        self.install("gemini");
        let mut gemini = self.env.command(self.agents.join("gemini"));
        gemini.current_dir(&self.repo).env("GEMINI_API_KEY", "fake").env("GEMINI_CLI_NO_RELAUNCH", "true");
        gemini.env("GOOGLE_GEMINI_BASE_URL", self.model.root_url());
        gemini.args(["-m", "gemini-2.5-flash", "-o", "stream-json", "--yolo", "--skip-trust"]);
        gemini
    }

    /// `about` is what the user said of the server before, beside that nobody is there to approve.
    pub(super) fn codex(&self, about: &str) -> Command {
        let folder = self.env.home().join(".codex");
        std::fs::create_dir_all(&folder).unwrap();
        let approved = "\n[mcp_servers.dx-runner]\ndefault_tools_approval_mode = \"approve\"\n";
        let config = codex_config(&self.model.base_url(), Some(1)) + approved + about;
        std::fs::write(folder.join("config.toml"), config).unwrap();
        self.install("codex");
        let mut codex = self.env.command(self.agents.join("codex").canonicalize().unwrap());
        codex.current_dir(&self.repo).env("OPENAI_API_KEY", "fake").env("CODEX_HOME", &folder);
        codex.args(["exec", "--json", "-s", "read-only", "-"]);
        codex
    }
}

#[test]
fn claude_code() {
    let Some(world) = World::new() else { return };
    let output = world.run(world.claude(), &world.prompt("mcp__dx-runner__"));
    world.assert_called(&output);
}

#[test]
fn opencode() {
    let Some(world) = World::new() else { return };
    let _turn = crate::opencode::turn();
    let output = world.run(world.opencode(), &world.prompt("dx-runner_"));
    world.assert_called(&output);
}

#[test]
fn gemini() {
    let Some(world) = World::new() else { return };
    let output = world.run(world.gemini(&json!({})), &world.prompt("mcp_dx-runner_"));
    world.assert_called(&output);
}

#[test]
fn codex() {
    let Some(world) = World::new() else { return };
    // Codex allows no hyphen in a name.
    let output = world.run(world.codex(""), &world.prompt("mcp__dx_runner__"));
    world.assert_called(&output);
}
