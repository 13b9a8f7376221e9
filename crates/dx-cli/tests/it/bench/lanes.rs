//! All lanes of the benchmark in one home: the real agents, one scripted model behind them.
//!
//! For: the tests of the benchmark, here and in `soak`, which is a program of its own. Must never: assert a time.

use dx_scripted_model::{ScriptedModel, codex_config, opencode_config};
use dx_testkit::{Output, TestEnv};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(30);
/// As the credentials; in no file of a run.
pub(crate) const TOKEN: &str = "sk-ant-bench-7736-xylophone";

/// One home with its model.
pub(crate) struct Lanes {
    pub(crate) env: TestEnv,
    pub(crate) model: ScriptedModel,
    pub(crate) repository: PathBuf,
    /// The folder of all runs.
    pub(crate) out: PathBuf,
}

impl Lanes {
    /// `agents` is the folder of the real command lines.
    pub(crate) fn new(agents: &Path, model: ScriptedModel) -> Self {
        let mut env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE);
        for program in ["opencode", "claude", "gemini", "codex"] {
            env.link_program(program, agents.join(program).canonicalize().unwrap());
        }
        for (name, value) in [
            ("DX_RUNNER_SANDBOX_WRITE", String::new()),
            ("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string()),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
            ("ANTHROPIC_BASE_URL", model.root_url()),
            ("ANTHROPIC_AUTH_TOKEN", TOKEN.to_owned()),
            ("CLAUDE_CODE_MAX_RETRIES", "1".to_owned()),
            ("CC_GLM_BASE_URL", model.root_url()),
            ("CC_GLM_AUTH_TOKEN", TOKEN.to_owned()),
            ("GOOGLE_GEMINI_BASE_URL", model.root_url()),
            ("GEMINI_API_KEY", TOKEN.to_owned()),
            ("OPENAI_API_KEY", TOKEN.to_owned()),
        ] {
            env.set(name, value);
        }
        let settings = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#.to_owned();
        for (file, text) in [
            ("home/.gemini/settings.json", settings),
            ("home/.codex/config.toml", codex_config(&model.base_url(), Some(1))),
            ("xdg/config/dx-runner/config.toml", "allow_model_override = true\n".to_owned()),
        ] {
            let path = env.path(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        let out = env.path("runs");
        Self { env, model, repository, out }
    }

    /// `dx-runner bench` with these words.
    pub(crate) fn bench(&self, args: &[&str]) -> Output {
        let out = self.out.display().to_string();
        let mut command = self.env.product();
        command.arg("bench").args(args).args(["--out", &out]).current_dir(&self.repository);
        self.env.run_command(command)
    }

    /// A run of these workflows under this name, whatever comes of it; the document that it prints.
    pub(crate) fn run(&self, id: &str, workflows: &str, more: &[&str]) -> Value {
        let args = ["run", "--workflows", workflows, "--run-id", id, "--json"];
        let models: Vec<String> = workflows
            .split(',')
            .filter(|name| name.starts_with("opencode"))
            .map(|name| format!("--model={name}=mock/m1"))
            .collect();
        let models: Vec<&str> = models.iter().map(String::as_str).collect();
        let output = self.bench(&[&args[..], &models, more].concat());
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// The jobs of a run.
    pub(crate) fn records(&self, id: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.out.join(id).join("records.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
