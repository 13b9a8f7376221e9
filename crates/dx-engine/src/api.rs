//! What front ends ask of the engine: plain requests. Answers are documents of `dx-protocol`.

use dx_protocol::{BeadsId, Gates, Lane, Notify, ProviderName, RunIds, SandboxMode};
use std::path::PathBuf;
use std::time::Duration;

/// Where the prompt comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptSource {
    File(PathBuf),
    /// Already read (standard input, or text on the command line).
    Text(Vec<u8>),
}

/// Where the agent works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorktreeChoice {
    /// The previous run's, else the git top level of the current directory.
    Inferred,
    Path(PathBuf),
    /// A new git worktree on a branch named like the job.
    Auto,
    /// None: the run's own temporary folder. For services, which work in other places.
    Own,
}

/// `start` and `run`.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// `None`: a readable one is made.
    pub beads: Option<BeadsId>,
    pub provider: ProviderName,
    /// `None` only for `exec` (then there is none) and `restart`.
    pub prompt: Option<PromptSource>,
    pub worktree: WorktreeChoice,
    pub repo: Option<String>,
    pub model: Option<String>,
    pub allow_model_override: bool,
    /// The agent definition to run; `None` for the provider's default.
    pub agent: Option<String>,
    /// `None`: as configured.
    pub lane: Option<Lane>,
    /// Tried in turn when that lane cannot be used.
    pub else_lanes: Vec<Lane>,
    /// The OpenCode server for the lanes that need one; `None`: the one that is found.
    pub server: Option<String>,
    /// Run the agent on a pseudo-terminal.
    pub pty: bool,
    pub max_runtime: Option<Duration>,
    pub no_mutation_timeout: Option<Duration>,
    pub stall: Option<Duration>,
    /// `NAME` passes the caller's value, `K=V` is literal.
    pub env: Vec<String>,
    /// The command of `exec`.
    pub command: Vec<String>,
    pub idempotency_key: Option<String>,
    /// What the run must pass, at its start and at its end.
    pub gates: Gates,
    /// `None`: strict where the kernel can.
    pub sandbox: Option<SandboxMode>,
    /// What the agent may write, too; `None`: as configured.
    pub sandbox_write: Option<Vec<PathBuf>>,
    /// The job may start jobs; only configuration says so.
    pub nesting: bool,
    /// A named set of what stands above.
    pub profile: Option<String>,
    /// Told of each change.
    pub notify: Option<Notify>,
}

impl StartRequest {
    /// A request that leaves everything open.
    pub fn new(provider: &ProviderName) -> Self {
        Self {
            beads: None,
            provider: provider.clone(),
            prompt: None,
            worktree: WorktreeChoice::Auto,
            repo: None,
            model: None,
            allow_model_override: false,
            agent: None,
            lane: None,
            else_lanes: Vec::new(),
            server: None,
            pty: false,
            max_runtime: None,
            no_mutation_timeout: None,
            stall: None,
            env: Vec::new(),
            command: Vec::new(),
            idempotency_key: None,
            gates: Gates::default(),
            sandbox: None,
            sandbox_write: None,
            nesting: false,
            profile: None,
            notify: None,
        }
    }
}

/// What is wanted of a wave beside its items.
#[derive(Debug, Clone, Default)]
pub struct WaveWishes {
    /// A command or an address that is told of each change.
    pub notify: Option<String>,
    /// The issues that the items came from are told.
    pub write_back: bool,
    /// End the coordinator when everything that is left waits for a parked provider.
    pub exit_when_parked: bool,
}

/// A run that was started, or that an idempotency key named.
#[derive(Debug, Clone)]
pub struct Started {
    pub ids: RunIds,
    /// 0 when it is not known any more.
    pub pid: i32,
    pub log: PathBuf,
    pub worktree: String,
    pub selected_model: String,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// `false` when an earlier start with the same key answered.
    pub fresh: bool,
    /// How long it waited for its turn; `None` when it did not offer to.
    pub queued_ms: Option<u64>,
}

/// Which jobs `status` shows.
#[derive(Debug, Clone, Default)]
pub struct StatusQuery {
    pub beads: Option<BeadsId>,
    pub provider: Option<ProviderName>,
    pub live_only: bool,
    /// The N that ended last.
    pub recent: Option<usize>,
    pub since: Option<Duration>,
    pub all: bool,
    /// Only what needs a person now.
    pub attention: bool,
}

/// One job, by id and perhaps provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobName {
    pub beads: BeadsId,
    pub provider: Option<ProviderName>,
}

/// `apply`.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    pub job: JobName,
    /// The branch that the main checkout is on when `None`.
    pub branch: Option<String>,
}

/// `gc`.
#[derive(Debug, Clone, Copy)]
pub struct GcRequest {
    /// Jobs that ended since are kept.
    pub older_than: Duration,
    /// So many of those that ended last are kept.
    pub keep: usize,
}

/// `worktree create`.
#[derive(Debug, Clone)]
pub struct WorktreeRequest {
    pub beads: BeadsId,
    /// In the repository.
    pub repo: PathBuf,
    /// The repository's HEAD when `None`.
    pub base: Option<String>,
    /// The id when `None`.
    pub branch: Option<String>,
}

/// `scope-gate`.
#[derive(Debug, Clone)]
pub struct ScopeQuery {
    pub worktree: PathBuf,
    /// Patterns of allowed paths; none: only the forbidden ones count.
    pub scope: Vec<String>,
    pub mutation_budget: Option<u64>,
}

/// `beads-gate`.
#[derive(Debug, Clone)]
pub struct BeadsQuery {
    /// The repository, or a folder in it.
    pub repo: PathBuf,
    /// An issue that must be there.
    pub probe: Option<String>,
    /// Write a comment to that issue.
    pub write_probe: bool,
}

/// Where a wave's plan comes from.
#[derive(Debug, Clone, Default)]
pub struct WaveSource {
    /// The wave file; there may be none when the items come from Beads.
    pub file: Option<PathBuf>,
    /// The items are the ready issues of Beads.
    pub from_beads: bool,
}

impl WaveSource {
    /// For people and records; `-` when there is no file.
    pub(crate) fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    }
}

/// `finalize`.
#[derive(Debug, Clone)]
pub struct FinalizeRequest {
    pub job: JobName,
    /// A reason code, or free text that is kept as the detail.
    pub reason: Option<String>,
    pub exit_code: Option<i32>,
}

/// `wait`.
#[derive(Debug, Clone)]
pub struct WaitRequest {
    pub jobs: Vec<JobName>,
    /// Return when one has ended; otherwise all.
    pub any: bool,
    pub timeout: Option<Duration>,
}
