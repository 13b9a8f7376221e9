//! Which agent the demo uses, and the small one that is built in.
//!
//! Called by: `demo`, `commands::demo`, and `main` for the built-in agent's process. Must never: say one agent and use
//! another.

use dx_protocol::{BeadsId, Lane, ProviderName};
use dx_scripted_model::{demo_agent, opencode_config};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::tasks::Task;
use crate::demo::{failed, install};
use crate::error::CliError;
use crate::output;
use dx_engine::{PromptSource, StartRequest};

/// How `main` knows the built-in agent.
const ENTRY: &str = "__demo-agent";
/// No prompt of the demo is longer.
const PROMPT_LIMIT: u64 = 64 * 1024;
/// A job that takes longer than this has gone wrong.
const MAX_RUNTIME: Duration = Duration::from_mins(2);

/// What runs the tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Agent {
    /// The real OpenCode at this place.
    OpenCode(PathBuf),
    /// The real Claude Code at this place.
    ClaudeCode(PathBuf),
    /// Ours, and why.
    BuiltIn(String),
}

/// The OpenCode on PATH, else the one that `--install` fetched, else the Claude Code on PATH.
pub(crate) fn find() -> Option<PathBuf> {
    let fetched = || install::binary().filter(|file| is_program(file));
    on_path("opencode").or_else(fetched).or_else(|| on_path("claude"))
}

/// The first program of this name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
    files.find(|file| file.is_absolute() && is_program(file))
}

pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

impl Agent {
    /// The agent whose program was found.
    pub(crate) fn real(program: PathBuf) -> Self {
        if program.ends_with("claude") { Self::ClaudeCode(program) } else { Self::OpenCode(program) }
    }

    /// Why it cannot be used, where a start would not tell.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self::ClaudeCode(program) = self else { return None };
        match Command::new(program).arg("--version").stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("`claude --version` ended with {}", output.status)),
            Err(error) => Some(error.to_string()),
        }
    }

    /// The provider's name.
    pub(crate) fn provider(&self) -> &'static str {
        match self {
            Self::OpenCode(_) => "opencode",
            Self::ClaudeCode(_) => "claude-code",
            Self::BuiltIn(_) => "exec",
        }
    }

    /// For people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::OpenCode(_) => "the real OpenCode",
            Self::ClaudeCode(_) => "the real Claude Code",
            Self::BuiltIn(_) => "a small one that is built into dx-runner",
        }
    }

    /// Where it is, or why it is this one.
    pub(crate) fn remark(&self) -> String {
        match self {
            Self::OpenCode(path) if install::is_ours(path) => {
                format!("version {}, fetched by dx-runner demo --install", install::VERSION)
            }
            Self::OpenCode(path) | Self::ClaudeCode(path) => path.display().to_string(),
            Self::BuiltIn(why) => why.clone(),
        }
    }

    /// What the engine is asked for.
    pub(crate) fn request(
        &self,
        task: &Task,
        model_url: &str,
        repo: &Path,
    ) -> Result<StartRequest, CliError> {
        let (model, env, command) = match self {
            Self::OpenCode(_) => {
                let config = format!("OPENCODE_CONFIG_CONTENT={}", opencode_config(model_url));
                let env = vec![config, "OPENCODE_DISABLE_MODELS_FETCH=1".to_owned()];
                ("mock/m1", env, Vec::new())
            }
            Self::ClaudeCode(_) => {
                let root = model_url.trim_end_matches("/v1");
                let env =
                    vec![format!("ANTHROPIC_BASE_URL={root}"), "ANTHROPIC_AUTH_TOKEN=scripted".to_owned()];
                ("scripted", env, Vec::new())
            }
            Self::BuiltIn(_) => {
                let program =
                    std::env::current_exe().map_err(|source| failed("find this program", source))?;
                let command = vec![program.display().to_string(), ENTRY.to_owned(), model_url.to_owned()];
                ("scripted", Vec::new(), command)
            }
        };
        let provider = self.provider().parse::<ProviderName>().map_err(dx_engine::EngineError::from)?;
        Ok(StartRequest {
            beads: Some(id(task)?),
            prompt: Some(PromptSource::Text(task.prompt.as_bytes().to_vec())),
            repo: Some(repo.display().to_string()),
            model: Some(model.to_owned()),
            allow_model_override: true,
            lane: Some(Lane::Run),
            max_runtime: Some(MAX_RUNTIME),
            env,
            command,
            ..StartRequest::new(&provider)
        })
    }
}

/// The task's id as the engine wants it.
pub(crate) fn id(task: &Task) -> Result<BeadsId, CliError> {
    Ok(task.id.parse::<BeadsId>().map_err(dx_engine::EngineError::from)?)
}

/// The built-in agent's process, when the command line asks for it: `__demo-agent URL`, the prompt on standard input,
/// the work tree as current directory.
pub(crate) fn entry(args: &[OsString]) -> Option<i32> {
    let [word, url] = args else { return None };
    if word != ENTRY {
        return None;
    }
    let mut prompt = String::new();
    let read = std::io::stdin().lock().take(PROMPT_LIMIT).read_to_string(&mut prompt);
    let done = read.map_err(|error| error.to_string()).and_then(|_| {
        let url = url.to_str().unwrap_or_default();
        let tree = std::env::current_dir().map_err(|error| error.to_string())?;
        demo_agent::run(url, "m1", &prompt, &tree, &mut std::io::stdout().lock()).map_err(|e| e.to_string())
    });
    Some(match done {
        Ok(()) => 0,
        Err(error) => {
            output::say(&format!("demo agent: {error}"));
            1
        }
    })
}
