//! Everything a use case can fail with. Each variant has one reason code; exit code and next action follow from it.

use crate::settings::SettingsError;
use dx_jobdir::{DiskError, JournalError, StateDirError};
use dx_protocol::{BeadsId, ExitCode, GateReport, InvalidId, ProviderName, QuotaPool, ReasonCode, Timestamp};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a place is no worktree.
#[derive(Debug)]
pub enum PathDenied {
    /// It lies below none of these.
    Elsewhere(Vec<PathBuf>),
    InState,
    InGitFolder,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("neither XDG_STATE_HOME nor HOME is set")]
    NoHome,
    #[error("failed to find the current directory")]
    NoCurrentDir(#[source] io::Error),
    #[error("failed to {what}")]
    Io { what: &'static str, source: io::Error },
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{why}")]
    JobDamaged { provider: ProviderName, beads: BeadsId, why: String },
    #[error(transparent)]
    Process(#[from] dx_proc::Error),
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    #[error("there is no job `{beads}`")]
    NoJob { beads: String, near: Vec<String> },
    #[error("job `{beads}` is already running under {provider}, run {run_instance}")]
    AlreadyRunning { beads: String, provider: String, run_instance: String },
    #[error("{provider} runs {running} jobs{}, and its cap is {cap}", if *waiting > 0 { format!(", {waiting} wait") } else { String::new() })]
    CapExceeded { provider: String, running: usize, waiting: usize, cap: usize },
    #[error(
        "{} was told by its model {} that this account ({}) gets nothing before {until}",
        .pool.provider, .pool.model, .pool.account
    )]
    QuotaParked { pool: QuotaPool, until: Timestamp },
    #[error("interrupted while it waited for a turn of {provider}; nothing was started")]
    QueueLeft { provider: String },
    #[error("there is no provider `{name}`")]
    NoProvider { name: String, known: Vec<String> },
    #[error("no provider was named, by --provider, a profile or the configuration")]
    NoProviderNamed { known: Vec<String> },
    #[error("the worktree {} does not exist", .0.display())]
    WorktreeMissing(PathBuf),
    #[error("{} is a worktree of another repository", .0.display())]
    WorktreeTaken(PathBuf),
    #[error("the path {} is not UTF-8 and cannot be recorded", .0.display())]
    PathNotUtf8(PathBuf),
    #[error("{} is in no git repository", .0.display())]
    NoRepository(PathBuf),
    #[error("there is no commit `{name}` in the repository")]
    NoBase { name: String },
    #[error("`{0}` cannot be the name of a branch")]
    BranchName(String),
    #[error("the branch {branch} is checked out in {}", path.display())]
    BranchInUse { branch: String, path: PathBuf },
    #[error("the branch {branch} is there already, at another commit ({at})")]
    BranchExists { branch: String, at: String },
    #[error("{beads} has a worktree already, on branch {branch} from {base}")]
    WorktreeExists { beads: String, branch: String, base: String },
    #[error("the main checkout is on no branch")]
    NoTarget,
    #[error("{} has changes of its own: {}", path.display(), work.join(", "))]
    TargetDirty { path: PathBuf, work: Vec<String> },
    #[error("an apply to {} was cut off, and its files may be half changed", path.display())]
    ApplyCutOff { path: PathBuf, put_back: String },
    #[error("another git holds {}, or left it when it was killed", .0.display())]
    IndexLocked(PathBuf),
    #[error("the work does not fit branch {branch}:{}", crate::error::list(conflicts))]
    ApplyConflict { branch: String, conflicts: Vec<crate::Conflict>, next_action: String },
    #[error("there is no worktree of `{0}`")]
    NoWorktreeOf(String),
    #[error("{} is a worktree without a record of ours", .0.display())]
    WorktreeUnrecorded(PathBuf),
    #[error("{} leads to another repository than the one it was made in", .0.display())]
    WorktreeMisled(PathBuf),
    #[error("job `{job}` works in {}", path.display())]
    WorktreeInUse { path: PathBuf, job: String },
    #[error("process {process} works in {}", path.display())]
    WorktreeOccupied { path: PathBuf, process: String },
    #[error("{} holds work that is nowhere else: {}", path.display(), work.join("; "))]
    WorktreeUnsaved { beads: String, path: PathBuf, work: Vec<String>, beyond_salvage: bool },
    #[error("worktrees use {used} bytes, and their budget is {budget}")]
    WorktreeBudget { used: u64, budget: u64 },
    #[error("the set-up command `{command}` failed: {how}; its output is in {}", log.display())]
    SetupFailed { command: String, how: String, log: PathBuf },
    #[error("failed to copy {} into the worktree", path.display())]
    CopyFailed { path: PathBuf, source: io::Error },
    #[error("`copy` in .dx-runner.toml names {}, which leads out of the repository, to {}", path.display(), to.display())]
    CopyLeaves { path: PathBuf, to: PathBuf },
    #[error("no worktree was named, and the current directory is in no git repository")]
    NoWorktree,
    #[error("DENIED:non_worktree_path:{}", path.display())]
    PathDenied { path: PathBuf, why: PathDenied },
    #[error("{} is in {}, which is protected from jobs", path.display(), checkout.display())]
    ProtectedCheckout { path: PathBuf, checkout: PathBuf },
    #[error("the prompt tells the agent to read secrets with `op`:{}", crate::error::lines(.0))]
    RawSecrets(Vec<(usize, String)>),
    #[error("the model {model} is not allowed here")]
    ModelNotAllowed { model: String, allowed: Vec<String> },
    #[error("a sandbox was asked for, and there is none: {0}")]
    SandboxUnavailable(&'static str),
    #[error("this is a job itself (run {0}): a job may not start jobs")]
    Nested(String),
    #[error("failed to read the prompt {}", path.display())]
    PromptUnreadable { path: PathBuf, source: io::Error },
    #[error("the prompt {0}")]
    PromptInvalid(&'static str),
    #[error("a prompt is needed: --prompt-file FILE, or - for standard input")]
    PromptNeeded,
    #[error("variable {0}, named with --env, is not set")]
    EnvUnresolved(String),
    #[error("the command of job `{beads}` held a secret, which is in no record")]
    CommandMasked { beads: String },
    #[error("{0}")]
    Argument(String),
    #[error("`{command}` failed: {message}")]
    Git { command: String, message: String },
    #[error("`{command}` was ended by a signal: {status}")]
    GitKilled { command: String, status: ExitStatus },
    #[error("{}", .0.details)]
    Gate(GateReport),
    #[error("{message}")]
    Provider { reason: ReasonCode, message: String, next_action: Option<String> },
    #[error(transparent)]
    Server(#[from] dx_opencode::ClientError),
    #[error("no OpenCode server: none is named, none of ours runs, and nothing healthy is on {tried}")]
    NoServer { tried: String },
    #[error("the agent could not be started: {message}")]
    SpawnFailed { message: String },
    #[error("the adapter script started no job: {message}")]
    AdapterBroken { message: String, beads: String },
    #[error("the monitor could not be started, or ended before the agent ran")]
    MonitorLost,
    #[error("{} is of another version than dx-runner", .0.display())]
    MonitorStale(PathBuf),
    #[error("nothing was heard of the agent of job `{beads}` for a minute; it may start all the same")]
    StartSlow { beads: String },
    #[error("the deadline passed; still running: {}", .0.join(", "))]
    Deadline(Vec<String>),
    #[error("the job was asked to end, but its monitor has not ended it within the deadline")]
    StopDeadline,
    #[error("the record of job `{beads}` was written by another program and cannot be acted on")]
    Foreign { beads: String },
    #[error("the query was refused: {message}")]
    QueryRefused { message: String },
    #[error("failed to use the history: {0}")]
    History(String),
    #[error("job `{beads}` has no run {run}; it has {count}")]
    NoRun { beads: String, run: u32, count: usize },
    #[error("failed to write {}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("a watchdog is at work already")]
    WatchdogRunning,
    #[error("there is no wave `{wave}`")]
    NoWave { wave: String, near: Vec<String> },
    #[error("a coordinator works on wave {wave}")]
    WaveRunning { wave: String },
    #[error("wave {wave} has ended")]
    WaveEnded { wave: String },
    #[error("the wave was cancelled")]
    WaveCancelled { wave: String },
    #[error("items of the wave are taken:\n{}", .0.join("\n"))]
    WaveItemsTaken(Vec<String>),
    #[error("failed to read the wave file {}", path.display())]
    WaveFileUnreadable { path: PathBuf, source: io::Error },
    #[error("the wave file is not valid:\n{0}")]
    WaveFile(crate::WaveFileError),
    #[error("the agent pack is not installed in {}", .0.display())]
    PackNotInstalled(PathBuf),
    #[error("{} cannot be written: {why}", path.display())]
    PackTarget { path: PathBuf, why: String },
    #[error("{}", name.as_ref().map_or_else(|| "there is no backup: no installation here has replaced or removed anything".to_owned(), |name| format!("there is no backup `{name}`")))]
    NoPackBackup { name: Option<String>, known: Vec<String> },
    #[error("{} {why}", path.display())]
    PackRecord { path: PathBuf, why: String, newer: bool },
    #[error("there is no task `{task}`")]
    NoTask { task: String, near: Vec<String> },
    #[error("{number} is the number of several tasks")]
    TaskAmbiguous { number: u32, ids: Vec<String> },
    #[error("task {task} cannot be run in this checkout: {why}")]
    TaskPlace { task: String, why: Box<EngineError> },
    #[error("the files of task {task} are not right:{}", crate::error::findings(findings))]
    TaskInvalid { task: String, findings: Vec<dx_protocol::PackFinding> },
    #[error("task {task} has no specification")]
    TaskUnplanned { task: String },
    #[error("nobody has approved the plan of task {task} as it is now")]
    TaskUnapproved { task: String },
    #[error("task {task} is being run already")]
    TaskRunning { task: String },
    #[error("task {task} has ended as {}: {message}", status.as_str())]
    TaskEnded { task: String, status: dx_protocol::TaskStatus, message: String },
    #[error("the job `{beads}` belongs to host {host}")]
    Elsewhere { beads: String, host: String },
}

impl EngineError {
    /// The one reason code of this error.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Settings(error) => error.reason(),
            Self::NoHome | Self::Disk(_) | Self::StateDir(StateDirError::Disk(_)) => {
                ReasonCode::StateDirUnusable
            }
            Self::Io { .. } | Self::Process(_) | Self::History(_) => ReasonCode::Internal,
            Self::StateDir(_) => ReasonCode::StateDirUnsafe,
            Self::Journal(JournalError::Newer { .. }) | Self::PackRecord { newer: true, .. } => {
                ReasonCode::RecordNewer
            }
            Self::Journal(_) | Self::JobDamaged { .. } | Self::PackRecord { .. } => {
                ReasonCode::RecordUnreadable
            }
            Self::InvalidId(_) => ReasonCode::InvalidId,
            Self::NoJob { .. } => ReasonCode::NoMeta,
            Self::AlreadyRunning { .. } => ReasonCode::AlreadyRunning,
            Self::CapExceeded { .. } => ReasonCode::ProviderConcurrencyCapExceeded,
            Self::QuotaParked { .. } => ReasonCode::QuotaParked,
            Self::QueueLeft { .. } => ReasonCode::Interrupted,
            Self::NoProvider { .. } => ReasonCode::ProviderNotFound,
            Self::WorktreeMissing(_) | Self::NoWorktree | Self::NoRepository(_) | Self::NoCurrentDir(_) => {
                ReasonCode::WorktreeMissing
            }
            Self::WorktreeTaken(_) => ReasonCode::WorktreeTaken,
            Self::BranchInUse { .. } | Self::BranchExists { .. } => ReasonCode::BranchTaken,
            Self::WorktreeExists { .. } => ReasonCode::WorktreeExists,
            Self::NoWorktreeOf(_) => ReasonCode::WorktreeNotFound,
            Self::WorktreeUnrecorded(_) => ReasonCode::WorktreeUnrecorded,
            Self::TargetDirty { .. } | Self::ApplyCutOff { .. } => ReasonCode::TargetDirty,
            Self::IndexLocked(_) => ReasonCode::LockHeld,
            Self::ApplyConflict { .. } => ReasonCode::ApplyConflict,
            Self::WorktreeMisled(_) => ReasonCode::RepositoryRedirected,
            Self::WorktreeInUse { .. } | Self::WorktreeOccupied { .. } => ReasonCode::WorktreeInUse,
            Self::WorktreeUnsaved { .. } => ReasonCode::WorktreeUnsaved,
            Self::WorktreeBudget { .. } => ReasonCode::WorktreeBudgetExceeded,
            Self::SetupFailed { .. } | Self::CopyFailed { .. } | Self::CopyLeaves { .. } => {
                ReasonCode::WorktreeSetupFailed
            }
            Self::PathDenied { .. } => ReasonCode::NonWorktreePath,
            Self::ProtectedCheckout { .. } => ReasonCode::CanonicalWorktreeForbidden,
            Self::ModelNotAllowed { .. } => ReasonCode::ModelNotAllowed,
            Self::RawSecrets(_) => ReasonCode::RawOpForbiddenInAgentContext,
            Self::SandboxUnavailable(_) => ReasonCode::SandboxUnavailable,
            Self::Nested(_) => ReasonCode::NestedStartDenied,
            Self::PromptUnreadable { .. } | Self::PromptNeeded => ReasonCode::PromptMissing,
            Self::PromptInvalid(_) => ReasonCode::PromptInvalid,
            Self::EnvUnresolved(_) | Self::CommandMasked { .. } => ReasonCode::EnvUnresolved,
            Self::Argument(_)
            | Self::NoProviderNamed { .. }
            | Self::NoTarget
            | Self::NoRun { .. }
            | Self::PathNotUtf8(_)
            | Self::NoBase { .. }
            | Self::BranchName(_) => ReasonCode::InvalidArgument,
            Self::Git { .. } | Self::GitKilled { .. } => ReasonCode::GitFailed,
            Self::Gate(report) => report.reason_code,
            Self::Provider { reason, .. } => *reason,
            Self::Server(error) => crate::server::reason_of(error),
            Self::NoServer { .. } => ReasonCode::ServerUnreachable,
            Self::SpawnFailed { .. } | Self::AdapterBroken { .. } => ReasonCode::SpawnFailed,
            Self::MonitorLost | Self::MonitorStale(_) => ReasonCode::MonitorLost,
            Self::Deadline(_) | Self::StopDeadline | Self::StartSlow { .. } => ReasonCode::DeadlineExceeded,
            Self::Foreign { .. } => ReasonCode::NotSupported,
            Self::Elsewhere { .. } => ReasonCode::Elsewhere,
            Self::QueryRefused { .. } => ReasonCode::QueryRefused,
            Self::NoWave { .. } => ReasonCode::WaveNotFound,
            Self::WaveRunning { .. } => ReasonCode::WaveRunning,
            Self::WatchdogRunning => ReasonCode::WatchdogRunning,
            Self::WaveEnded { .. } => ReasonCode::WaveEnded,
            Self::WaveCancelled { .. } => ReasonCode::ManualStop,
            Self::WaveItemsTaken(_) => ReasonCode::WaveItemTaken,
            Self::WaveFile(_) | Self::WaveFileUnreadable { .. } => ReasonCode::WaveFileInvalid,
            Self::NoTask { .. } | Self::TaskAmbiguous { .. } => ReasonCode::TaskNotFound,
            Self::TaskPlace { why, .. } => why.reason(),
            Self::TaskInvalid { .. } => ReasonCode::TaskInvalid,
            Self::TaskUnplanned { .. } => ReasonCode::TaskUnplanned,
            Self::TaskUnapproved { .. } => ReasonCode::TaskUnapproved,
            Self::TaskRunning { .. } => ReasonCode::TaskRunning,
            Self::TaskEnded { .. } => ReasonCode::TaskEnded,
            Self::PackNotInstalled(_) => ReasonCode::PackNotInstalled,
            Self::PackTarget { .. } => ReasonCode::PackTargetUnwritable,
            Self::NoPackBackup { .. } => ReasonCode::PackBackupNotFound,
            Self::Output { .. } => ReasonCode::OutputUnwritable,
        }
    }

    /// What to do; more exact than the code's own where this error knows more.
    pub fn next_action(&self) -> String {
        match self {
            Self::NoJob { near, .. } | Self::NoWave { near, .. } | Self::NoTask { near, .. } if !near.is_empty() => format!("did you mean {}?", near.join(", ")),
            Self::TaskInvalid { task, .. }
            | Self::TaskUnplanned { task }
            | Self::TaskUnapproved { task }
            | Self::TaskRunning { task }
            | Self::TaskEnded { task, .. } => self.reason().next_action().replace("<task>", task),
            Self::WaveRunning { wave } | Self::WaveEnded { wave } | Self::WaveCancelled { wave } => {
                self.reason().next_action().replace("<wave>", wave)
            }
            Self::JobDamaged { provider, beads, .. } => format!(
                "dx-runner stop --beads {beads} --provider {provider} ends what is left of it and records its end"
            ),
            Self::StateDir(StateDirError::OpenToOthers { path, .. }) => format!("chmod 700 {}", path.display()),
            Self::NoProvider { name, known } => {
                let near = |known: &&String| strsim::jaro_winkler(name, known) > 0.84;
                let hint = known.iter().find(near).map(|near| format!("did you mean {near}? "));
                format!("{}known providers: {}", hint.unwrap_or_default(), known.join(", "))
            }
            Self::TaskAmbiguous { ids, .. } => {
                format!("name one: {}; and give all but one another number", ids.join(", "))
            }
            Self::TaskPlace { task, why } if matches!(**why, Self::ProtectedCheckout { .. }) => {
                format!("dx-runner task run {task} --worktree auto")
            }
            Self::TaskPlace { task, .. } => {
                format!("dx-runner task run {task} --worktree auto; or add this checkout to allowed_prefixes in your configuration")
            }
            Self::NoPackBackup { name: None, .. } => {
                "dx-runner workflow uninstall takes the pack out".to_owned()
            }
            Self::NoPackBackup { known, .. } if !known.is_empty() => format!("one of {}", known.join(", ")),
            Self::NoProviderNamed { known } => format!("--provider with one of: {}", known.join(", ")),
            Self::PathDenied { why: PathDenied::InState, .. } => {
                "a worktree outside the state directory, where no job may work, and not above it".to_owned()
            }
            Self::PathDenied { why: PathDenied::InGitFolder, .. } => {
                "a worktree of the repository; in git's own folder no job may work".to_owned()
            }
            Self::PathDenied { why: PathDenied::Elsewhere(allowed), .. } => {
                let allowed: Vec<String> = allowed.iter().map(|p| p.display().to_string()).collect();
                format!(
                    "--worktree auto for a new worktree, or one below {}, or add it to allowed_prefixes in your configuration",
                    allowed.join(" or ")
                )
            }
            Self::CapExceeded { provider, cap, .. } => {
                let name = provider.to_uppercase().replace(['-', ':'], "_");
                let wait = if *cap > 0 { "--queue to wait for its turn, or " } else { "" };
                format!("{wait}raise DX_RUNNER_MAX_PARALLEL_{name}")
            }
            Self::QuotaParked { until, .. } => {
                format!("another provider or model, or again after {until}; if it is not so any more, delete pools.jsonl in the state directory")
            }
            Self::QueueLeft { .. } => "start it again; it will wait behind the others".to_owned(),
            Self::Provider { next_action: Some(action), .. } => action.clone(),
            Self::CommandMasked { beads } => {
                format!(
                    "dx-runner start --beads {beads} with the whole command; --env NAME keeps a secret out of it"
                )
            }
            Self::ModelNotAllowed { allowed, .. } => {
                format!("--model with one of: {}; dx-runner config explain allowed_models", allowed.join(", "))
            }
            Self::NoRun { beads, .. } => format!("dx-runner report --beads {beads} lists the runs"),
            Self::NoTarget => "name a branch with --branch".to_owned(),
            Self::ApplyConflict { next_action, .. } => next_action.clone(),
            Self::ApplyCutOff { put_back, .. } => put_back.clone(),
            Self::IndexLocked(path) => format!(
                "wait until that git has ended, and try again; when none runs there, rm {}",
                crate::worktree::quoted(&path.display().to_string())
            ),
            Self::NoRepository(_) => "--repo PATH with a folder of a git repository".to_owned(),
            Self::NoBase { .. } => "make a first commit, or name another one with --base".to_owned(),
            Self::PathNotUtf8(_) => "rename it, or use another place".to_owned(),
            Self::BranchName(_) => "another id, or worktree create with --branch NAME".to_owned(),
            Self::CopyFailed { .. } | Self::CopyLeaves { .. } => {
                "mend the path, or take it from `copy` in .dx-runner.toml".to_owned()
            }
            Self::WaveFileUnreadable { .. } => "name a wave file that can be read".to_owned(),
            Self::NoCurrentDir(_) => "cd to a folder that exists".to_owned(),
            Self::NoHome => "set HOME or DX_RUNNER_STATE_DIR".to_owned(),
            Self::Disk(error) | Self::StateDir(StateDirError::Disk(error)) => unwritable(error.kind()),
            Self::StopDeadline => {
                "dx-runner doctor tells whether the disk is full; the request stands, so that it ends as soon as it can"
                    .to_owned()
            }
            Self::Foreign { beads } => format!(
                "dx-runner check, logs or report --beads {beads} read it; its own program ends it; start it anew with dx-runner start"
            ),
            Self::SpawnFailed { .. } => "check that the program exists and may be executed".to_owned(),
            Self::AdapterBroken { beads, .. } => {
                format!("mend adapter_start in the script; dx-runner logs --beads {beads} shows what it complained of")
            }
            Self::MonitorStale(_) => "install dx-runner and dx-monitor together".to_owned(),
            Self::StartSlow { beads } => format!("dx-runner check --beads {beads}"),
            Self::Elsewhere { host, .. } => format!("ask on host {host}"),
            Self::WorktreeOccupied { .. } => {
                "wait until it ends, or have it leave the folder; if it is a job's, stop that, with the DX_RUNNER_STATE_DIR it was started with".to_owned()
            }
            Self::WorktreeUnsaved { beads, beyond_salvage: true, .. } => format!(
                "commit and push inside what is named, or move it out of the worktree; for the rest dx-runner worktree salvage {beads}; then remove it again"
            ),
            Self::AlreadyRunning { beads, .. } | Self::WorktreeUnsaved { beads, .. } => {
                self.reason().next_action().replace("<id>", beads)
            }
            Self::Settings(error) => {
                error.next_action().unwrap_or_else(|| self.reason().next_action().to_owned())
            }
            _ => self.reason().next_action().to_owned(),
        }
    }

    /// The exit code of a command that fails with this.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::SpawnFailed { .. } | Self::AdapterBroken { .. } | Self::Elsewhere { .. } => ExitCode::Error,
            other => match other.reason().exit_code() {
                ExitCode::Ok | ExitCode::JobError | ExitCode::Stalled | ExitCode::NoOp => ExitCode::Error,
                code => code,
            },
        }
    }
}

/// What helps when the state directory could not be written or read.
pub(crate) fn unwritable(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or set DX_RUNNER_STATE_DIR".to_owned(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "give it a place that you may write, or set DX_RUNNER_STATE_DIR".to_owned()
        }
        _ => ReasonCode::StateDirUnusable.next_action().to_owned(),
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What the cache of the history says of itself; the file behind it is never the reason.
impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        Self::History(error.to_string())
    }
}

/// A line for each, with its number.
fn lines(lines: &[(usize, String)]) -> String {
    let line = |(number, text): &(usize, String)| {
        ["\n  line ".to_owned(), number.to_string(), ": ".to_owned(), text.escape_debug().to_string()]
    };
    lines.iter().flat_map(line).collect()
}

/// A line for each file.
fn list(conflicts: &[crate::Conflict]) -> String {
    conflicts.iter().flat_map(|conflict| ["\n  ", &conflict.path, ": ", &conflict.why]).collect()
}

/// A line for each finding.
fn findings(findings: &[dx_protocol::PackFinding]) -> String {
    let line =
        |found: &dx_protocol::PackFinding| format!("\n  {}:{}: {}", found.file, found.line, found.message);
    findings.iter().map(line).collect::<Vec<_>>().concat()
}
