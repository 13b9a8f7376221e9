//! What `start` and `run` have in common: options, the request made from them, and what is said of a started run.
//!
//! Called by: `start`, `run`, `restart`. Must never: check what the engine checks; it refuses with better words.

use clap::{Args, ValueEnum};
use dx_protocol::{
    ActionDocument, BeadsId, Gates, Lane, Notify, ProviderName, ReasonCode, SandboxMode, State,
};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;
use dx_engine::{GiveUp, JobName, PromptSource, StartRequest, Started, WorktreeChoice};

/// Schema word of what a mutating command did.
const ACTION_SCHEMA: &str = "dx-runner/action/1";
/// The provider whose command stands on the command line.
pub(crate) const EXEC: &str = "exec";
/// No prompt is read beyond this from standard input; the engine's own limit is lower.
const MAX_STDIN: u64 = 64 << 20;

/// Options of `start` and `run`.
#[derive(Debug, Args)]
pub(crate) struct StartOptions {
    /// The job's id; left out, a readable one is made
    #[arg(long, visible_alias = "id", value_name = "ID")]
    pub(crate) beads: Option<BeadsId>,
    /// Where the agent works; `auto` makes a new git worktree on a branch named like the job
    #[arg(long, value_name = "PATH|auto")]
    pub(crate) worktree: Option<PathBuf>,
    /// The repository, by name or path
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) repo: Option<String>,
    /// The model, in the provider's words
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Accept a --model that is not on the provider's allow list
    #[arg(long)]
    pub(crate) allow_model_override: bool,
    /// The agent definition to run, in the provider's words; checked before the start
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// How the provider is executed; of several, the next one when one cannot be used [default: run]
    #[arg(long, value_enum, value_name = "LANE", value_delimiter = ',')]
    pub(crate) lane: Vec<LaneArg>,
    /// The OpenCode server for lanes `server` and `attach` (or OPENCODE_URL) [default: the one of `server start`]
    #[arg(long, visible_alias = "attach-url", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Run the agent on a pseudo-terminal; its output then passes through dx-runner, and killing both of its processes
    /// at once ends the agent
    #[arg(long)]
    pub(crate) pty: bool,
    /// End the job after this long, for example 90m; 0: never
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) max_runtime: Option<Duration>,
    /// End the job when nothing changed in its worktree for this long; 0: never
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) no_mutation_timeout: Option<Duration>,
    /// Call the job stalled after this many minutes without progress
    #[arg(long, value_name = "N", value_parser = duration::parse_minutes)]
    pub(crate) stall_minutes: Option<Duration>,
    /// A variable for the agent: NAME passes the caller's value on, K=V is recorded as it is (repeatable)
    #[arg(long, value_name = "NAME|K=V")]
    pub(crate) env: Vec<String>,
    /// `strict` confines what the agent can write, and is refused where the kernel cannot; `off` gives it all rights of
    /// its user. Left out: strict where the kernel can
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) sandbox: Option<SandboxArg>,
    /// A named set of options; see `dx-runner profiles`. What stands on the command line counts more, but loosens no limit
    /// of the profile
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Wait for a turn when the provider's cap is reached, first come first served; Ctrl-C gives the place up
    #[arg(long)]
    pub(crate) queue: bool,
    /// A start with the key of an earlier one starts nothing and answers with that run
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Tell a program (JSON on stdin, no shell) or an address (signed POST) when the job begins and ends
    #[arg(long, value_name = "CMD|URL")]
    pub(crate) notify: Option<String>,
    /// Refuse to start unless HEAD contains this commit
    #[arg(long, value_name = "SHA")]
    pub(crate) required_baseline: Option<String>,
    /// A success needs a commit: HEAD must have moved forward at the end
    #[arg(long)]
    pub(crate) require_commit: bool,
    /// A success needs this command, run by `sh -c` in the worktree after the agent, to end with 0
    #[arg(long, value_name = "CMD")]
    pub(crate) check: Option<String>,
    /// A success needs every changed path to match one of these patterns (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) scope: Vec<String>,
    /// A success needs no more paths than this to have changed
    #[arg(long, value_name = "N")]
    pub(crate) mutation_budget: Option<u64>,
    /// Nothing in the worktree may change: a sandbox keeps the agent from it, and a job that did all the same has failed
    #[arg(long)]
    pub(crate) read_only: bool,
    /// A success needs every commit of the job to carry the trailer `Feature-Key: KEY`; `job` stands for the job's id
    #[arg(long, value_name = "KEY")]
    pub(crate) feature_key: Option<String>,
    /// A success needs every claim in this file of the worktree to be true; the commands it names are run with the check
    #[arg(long, value_name = "FILE")]
    pub(crate) signoff_file: Option<String>,
    /// Refuse to start unless Beads can be used in the worktree
    #[arg(long)]
    pub(crate) beads_gate: bool,
    /// The command of provider `exec`, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Lanes that this version can execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LaneArg {
    /// One headless process per job.
    Run,
    /// A session of an OpenCode server.
    Server,
    /// A headless client of an OpenCode server.
    Attach,
}

impl LaneArg {
    fn lane(self) -> Lane {
        match self {
            Self::Run => Lane::Run,
            Self::Server => Lane::Server,
            Self::Attach => Lane::Attach,
        }
    }
}

/// What `--sandbox` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxArg {
    /// Confined.
    Strict,
    /// Not confined.
    Off,
}

impl SandboxArg {
    fn mode(self) -> SandboxMode {
        match self {
            Self::Strict => SandboxMode::Strict,
            Self::Off => SandboxMode::Off,
        }
    }
}

impl StartOptions {
    /// The engine's request.
    pub(crate) fn request(
        &self,
        provider: &ProviderName,
        prompt: Option<PromptSource>,
        unnamed: WorktreeChoice,
    ) -> StartRequest {
        let worktree = self.worktree(unnamed);
        StartRequest {
            beads: self.beads.clone(),
            provider: provider.clone(),
            prompt,
            worktree,
            repo: self.repo.clone(),
            model: self.model.clone(),
            allow_model_override: self.allow_model_override,
            agent: self.agent.clone(),
            lane: self.lane.first().map(|lane| lane.lane()),
            else_lanes: self.lane.iter().skip(1).map(|lane| lane.lane()).collect(),
            server: self.server.clone(),
            pty: self.pty,
            max_runtime: self.max_runtime,
            no_mutation_timeout: self.no_mutation_timeout,
            stall: self.stall_minutes,
            env: self.env.clone(),
            command: self.command.clone(),
            idempotency_key: self.idempotency_key.clone(),
            gates: Gates {
                required_baseline: self.required_baseline.clone(),
                require_commit: self.require_commit,
                scope: self.scope.clone(),
                check: self.check.clone(),
                mutation_budget: self.mutation_budget,
                read_only: self.read_only,
                feature_keys: self.feature_key.iter().cloned().collect(),
                signoffs: self.signoff_file.iter().cloned().collect(),
                beads: self.beads_gate,
                ..Gates::default()
            },
            sandbox: self.sandbox.map(SandboxArg::mode),
            sandbox_write: None,
            nesting: false,
            profile: self.profile.clone(),
            notify: self.notify.clone().map(|target| Notify { target, cwd: here() }),
        }
    }

    /// Starts the job; with `--queue` when its turn has come.
    pub(crate) fn start(&self, ctx: &Context, request: &StartRequest) -> Result<Started, CliError> {
        match turn(self.queue) {
            Some(give_up) => Ok(ctx.engine.start_queued(request, give_up)?),
            None => Ok(ctx.engine.start(request)?),
        }
    }

    /// The worktree that was asked for.
    fn worktree(&self, unnamed: WorktreeChoice) -> WorktreeChoice {
        match &self.worktree {
            None => unnamed,
            Some(word) if word == Path::new("auto") => WorktreeChoice::Auto,
            Some(path) => WorktreeChoice::Path(path.clone()),
        }
    }

    /// The provider that was named, else the one of profile or configuration.
    pub(crate) fn provider(
        &self,
        ctx: &Context,
        named: Option<&ProviderName>,
        unnamed: WorktreeChoice,
    ) -> Result<ProviderName, CliError> {
        if let Some(named) = named {
            return Ok(named.clone());
        }
        let (profile, repo) = (self.profile.as_deref(), self.repo.as_deref());
        Ok(ctx.engine.configured_provider(profile, &self.worktree(unnamed), repo, self.beads.as_ref())?)
    }
}

/// The current folder, by name.
fn here() -> String {
    std::env::current_dir().map_or_else(|_| "-".to_owned(), |cwd| cwd.display().to_string())
}

/// What ends the waiting of `--queue`.
pub(crate) fn turn(queue: bool) -> Option<GiveUp<'static>> {
    const INTERRUPT: [i32; 1] = [rustix::process::Signal::INT.as_raw()];
    queue.then_some(GiveUp::On(&INTERRUPT))
}

/// The prompt that `--prompt-file` names; `-` is standard input.
pub(crate) fn prompt_file(path: &Path) -> Result<PromptSource, CliError> {
    if path != Path::new("-") {
        return Ok(PromptSource::File(path.to_owned()));
    }
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(MAX_STDIN + 1).read_to_end(&mut text);
    read.map_err(|source| CliError::Io {
        what: "read the prompt from standard input".to_owned(),
        reason: ReasonCode::PromptMissing,
        source,
    })?;
    if text.len() as u64 > MAX_STDIN {
        return Err(CliError::refused(
            ReasonCode::PromptInvalid,
            "the prompt on standard input is too large",
        ));
    }
    Ok(PromptSource::Text(text))
}

/// The job that was started.
pub(crate) fn job_of(started: &Started) -> JobName {
    JobName { beads: started.ids.beads.clone(), provider: Some(started.ids.provider.clone()) }
}

/// `started beads=… provider=… pid=… log=…`.
pub(crate) fn started_line(word: &str, started: &Started) -> String {
    let (ids, log) = (&started.ids, started.log.display());
    format!("{word} beads={} provider={} pid={} log={log}", ids.beads, ids.provider, pid_word(started))
}

/// What is said of a run that was started (`action` is `start` or `restart`).
pub(crate) fn report(ctx: &Context, action: &str, word: &str, started: &Started) -> Result<(), CliError> {
    remark(ctx, started);
    if !ctx.out.is_json() {
        return ctx.out.line(started_line(word, started));
    }
    ctx.out.json(&document(ctx, action, started)?)
}

/// Remarks: that nothing new was started, and what the caller should know.
pub(crate) fn remark(ctx: &Context, started: &Started) {
    for warning in &started.warnings {
        ctx.out.note(format!("warning: {warning}"));
    }
    if !started.fresh {
        ctx.out.note("an earlier start with this --idempotency-key answers; nothing was started");
    }
}

fn document(ctx: &Context, action: &str, started: &Started) -> Result<ActionDocument, CliError> {
    let (mut state, mut reason_code) = (State::Launching, ReasonCode::StartupGrace);
    let mut next_action = format!("dx-runner wait --beads {}", started.ids.beads);
    if !started.fresh {
        let now = ctx.engine.check(&job_of(started), None, false)?;
        (state, reason_code, next_action) = (now.state, now.reason_code, now.next_action);
    }
    Ok(ActionDocument {
        schema: ACTION_SCHEMA.to_owned(),
        action: action.to_owned(),
        beads: started.ids.beads.to_string(),
        provider: started.ids.provider.to_string(),
        run_instance: started.ids.run_instance.clone(),
        run_uuid: started.ids.run_uuid.to_string(),
        pid: pid_word(started),
        state,
        reason_code,
        log: started.log.display().to_string(),
        worktree: started.worktree.clone(),
        selected_model: started.selected_model.clone(),
        changed: started.fresh,
        next_action,
        warnings: started.warnings.clone(),
        queued_ms: started.queued_ms,
    })
}

fn pid_word(started: &Started) -> String {
    if started.pid > 0 { started.pid.to_string() } else { "-".to_owned() }
}
