//! What a job was asked to be, and what it was resolved to. Both are in the first journal record; neither holds a secret.

use crate::{OutputRules, Sandbox, SandboxSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a provider is executed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// One headless process per job.
    #[default]
    Run,
    /// A session of an OpenCode server, driven by a small process of ours.
    Server,
    /// A headless process that is a client of an OpenCode server.
    Attach,
}

/// Lanes by their published words.
pub const LANE_WORDS: &[&str] = &["run", "server", "attach"];

impl Lane {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Server => "server",
            Self::Attach => "attach",
        }
    }
}

impl std::str::FromStr for Lane {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "run" => Ok(Self::Run),
            "server" => Ok(Self::Server),
            "attach" => Ok(Self::Attach),
            _ => Err(()),
        }
    }
}

/// The syntax of an agent's standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grammar {
    /// Plain text; standard output and error share one log.
    #[default]
    Text,
    /// `opencode run --format json`.
    Opencode,
    /// `claude -p --output-format stream-json --verbose`.
    Claude,
    /// `codex exec --json`.
    Codex,
    /// `gemini -o stream-json`.
    Gemini,
}

impl Grammar {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
        }
    }

    /// Every grammar. A new one does not compile until it is in this list, and then no test passes it over.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::Text), |grammar| match grammar {
            Self::Text => Some(Self::Opencode),
            Self::Opencode => Some(Self::Claude),
            Self::Claude => Some(Self::Codex),
            Self::Codex => Some(Self::Gemini),
            Self::Gemini => None,
        })
    }
}

/// Limits and thresholds of one run, recorded at its start so that later readers judge by the same values. Seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Time for the first output (`DX_RUNNER_STARTUP_GRACE_SEC`).
    pub startup_grace_sec: u64,
    /// Time without any evidence until `no_op` (`DX_RUNNER_NO_OP_SEC`).
    pub no_op_sec: u64,
    /// Time without progress until `stalled` (`--stall-minutes`, `DX_RUNNER_STALL_SEC`).
    pub stall_sec: u64,
    /// The run is ended after this (`--max-runtime`, `DX_RUNNER_MAX_RUNTIME_MINUTES`); 0: never.
    pub max_runtime_sec: u64,
    /// The run is ended when nothing changed for this long (`--no-mutation-timeout`); 0: never.
    pub no_mutation_sec: u64,
    /// Between TERM and KILL, in milliseconds (`DX_RUNNER_GRACE_MS`).
    pub grace_ms: u64,
    /// The run is ended when its output grows beyond this (`DX_RUNNER_MAX_LOG_BYTES`); 0: never.
    pub max_log_bytes: u64,
    /// The run is ended after this many turns in a row without text, tool or output token; 0: never.
    pub max_barren_steps: u64,
    /// The run is ended after this many failed tool calls in a row; 0: never.
    pub max_failed_calls: u64,
    /// The journal takes no more agent events beyond this.
    pub max_journal_bytes: u64,
    /// Deadline of the settler.
    pub settle_sec: u64,
    /// Deadline of the command of `--check` (`DX_RUNNER_CHECK_TIMEOUT_SEC`).
    #[serde(default = "check_sec")]
    pub check_sec: u64,
}

/// Half an hour, also for records from before there were checks.
fn check_sec() -> u64 {
    30 * 60
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_grace_sec: 300,
            no_op_sec: 300,
            stall_sec: 1200,
            max_runtime_sec: 120 * 60,
            no_mutation_sec: 30 * 60,
            grace_ms: 5_000,
            max_log_bytes: 1 << 30,
            max_barren_steps: 20,
            max_failed_calls: 50,
            max_journal_bytes: 8 << 20,
            settle_sec: 60,
            check_sec: check_sec(),
        }
    }
}

/// What the caller asked for; `restart` starts from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSpec {
    /// Absolute path of the worktree.
    pub worktree: String,
    /// The repository as it was named, `-` when it was not.
    pub repo: String,
    /// The prompt file as it was named; `-` for standard input.
    pub prompt_file: String,
    /// The model that was asked for, by flag, variable, profile or configuration.
    pub model: Option<String>,
    pub allow_model_override: bool,
    /// The agent definition that was asked for.
    #[serde(default)]
    pub agent: Option<String>,
    /// The command of provider `exec`.
    pub command: Vec<String>,
    /// The command held a secret, which is masked here: it cannot be started again from this record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub command_masked: bool,
    /// Names of caller's variables to pass on; resolved again at each start.
    pub env_names: Vec<String>,
    /// Values given literally, none of them shaped like a secret.
    pub env_values: Vec<(String, String)>,
    pub lane: Lane,
    /// The server that was named for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The agent runs on a pseudo-terminal, the one case in which its output passes through processes of ours.
    #[serde(default)]
    pub pty: bool,
    pub limits: Limits,
    /// `--idempotency-key`: a start with the key of a live or ended run answers with that run.
    pub idempotency_key: Option<String>,
    /// `--profile`, by name; what it says is in the other fields already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The job may start jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nesting: bool,
    /// Gates and checks of this run.
    #[serde(default, skip_serializing_if = "Gates::is_empty")]
    pub gates: Gates,
    #[serde(default)]
    pub sandbox: SandboxSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

/// `--notify`: who is told of each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notify {
    /// A command or an address.
    pub target: String,
    /// Where the command is looked for and run.
    pub cwd: String,
}

/// What a run must pass, at its start and at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gates {
    /// `--required-baseline`: HEAD must contain this commit at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_baseline: Option<String>,
    /// And these, which other layers of the configuration ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_required: Vec<String>,
    /// `--require-commit`: HEAD must have moved forward at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_commit: bool,
    /// `--read-only`: nothing in the worktree may have changed at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// `--scope`: every changed path must match one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// And one of each of these lists, which other layers of the configuration ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_scope: Vec<Vec<String>>,
    /// No changed path may match one of these, beside those that never may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<String>,
    /// `--mutation-budget`: no more paths than this may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation_budget: Option<u64>,
    /// `--feature-key`: every commit of the job must carry each of these as a trailer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_keys: Vec<String>,
    /// `--beads-gate`: Beads must be usable at the start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beads: bool,
    /// `--signoff-file`: every claim in these files of the worktree must be true at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signoffs: Vec<String>,
    /// `--check`: must end with 0 in the worktree after the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

impl Gates {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All lists of allowed paths; each must hold.
    pub fn scopes(&self) -> Vec<Vec<String>> {
        std::iter::once(&self.scope)
            .chain(&self.also_scope)
            .filter(|list| !list.is_empty())
            .cloned()
            .collect()
    }

    /// Whether changed paths are to be judged.
    pub fn judges_paths(&self) -> bool {
        !self.scope.is_empty()
            || !self.also_scope.is_empty()
            || !self.forbidden.is_empty()
            || self.mutation_budget.is_some()
    }

    /// All commits that must be there at the start.
    pub fn baselines(&self) -> impl Iterator<Item = &str> {
        self.required_baseline.iter().chain(&self.also_required).map(String::as_str)
    }
}

/// What the spec was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contract {
    /// The agent's command line; never a secret, never the prompt.
    pub argv: Vec<String>,
    pub cwd: String,
    /// Names of all variables of the agent's environment, sorted.
    pub env_names: Vec<String>,
    pub grammar: Grammar,
    pub selected_model: String,
    /// Why another model than the preferred one; `none` when it is the preferred one.
    pub fallback_reason: String,
    /// Where the credentials come from, by name.
    pub auth_source: String,
    pub base_url: String,
    /// `detached`, `pty-detached`, `adapter-script`, `server`, `attach`.
    pub execution_mode: String,
    /// Hex SHA-256 of the prompt.
    pub prompt_sha256: String,
    pub prompt_bytes: u64,
    /// How the prompt reaches the agent: `stdin`, `file`, `arg` or `none`.
    pub prompt_channel: String,
    /// The caller's file mode creation mask, which the agent gets; `None`: a private one.
    #[serde(default)]
    pub umask: Option<u32>,
    /// What the agent is confined to.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// What the configuration says about the meaning of the agent's output.
    #[serde(default, skip_serializing_if = "OutputRules::is_empty")]
    pub output_rules: OutputRules,
}

/// The git worktree as it was at start. Later git calls take these paths from here and discover nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TreeStart {
    pub git_dir: String,
    pub common_dir: String,
    pub work_tree: String,
    /// HEAD's commit; `None` in a repository without commits.
    pub head: Option<String>,
    /// The branch; `None` when detached.
    pub branch: Option<String>,
    /// Paths that were dirty at start; the file `tree` of the run lists them with size and time.
    pub dirty: u64,
}
