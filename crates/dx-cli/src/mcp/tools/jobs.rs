//! Arguments of the tools about jobs and waves.
//!
//! Must never: put a prompt among a command's arguments.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::run::Run;
use super::{Arguments, Argv, Work, slice};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobStart {
    /// The adapter that runs the agent: opencode, claude-code, cc-glm, gemini, codex, or exec for any command.
    provider: Option<String>,
    /// The task, in full. Not for `exec`.
    prompt: Option<String>,
    /// The job's id; a readable one is made when left out.
    beads: Option<String>,
    /// Where the agent works; `auto` (when left out) makes a new git worktree on a branch named like the job.
    worktree: Option<String>,
    /// The repository, by name or path; the one of the current folder when left out.
    repo: Option<String>,
    /// The model, in the provider's words.
    model: Option<String>,
    /// The agent definition to run, in the provider's words.
    agent: Option<String>,
    /// How the provider is executed: run, server or attach; several with commas are tried in turn.
    lane: Option<String>,
    /// The OpenCode server for lanes server and attach.
    server: Option<String>,
    /// A named set of options.
    profile: Option<String>,
    /// End the job after this long, for example 90m.
    max_runtime: Option<String>,
    /// End the job when nothing changed in its worktree for this long.
    no_mutation_timeout: Option<String>,
    /// A success needs a commit.
    #[serde(default)]
    require_commit: bool,
    /// A success needs this command, run in the worktree after the agent, to end with 0.
    check: Option<String>,
    /// A success needs every changed path to match one of these patterns.
    #[serde(default)]
    scope: Vec<String>,
    /// Nothing in the worktree may change.
    #[serde(default)]
    read_only: bool,
    /// A start with the key of an earlier one starts nothing and answers with that run.
    idempotency_key: Option<String>,
    /// The command of provider `exec`, word by word.
    #[serde(default)]
    command: Vec<String>,
}

impl Arguments for JobStart {
    fn work(self) -> Result<Work, String> {
        let mut argv = Argv::new(&["start"])
            .opt("provider", self.provider)
            .opt("prompt-file", self.prompt.as_ref().map(|_| "-"))
            .opt("beads", self.beads)
            .opt("worktree", Some(self.worktree.as_deref().unwrap_or("auto")))
            .opt("repo", self.repo)
            .opt("model", self.model)
            .opt("agent", self.agent)
            .opt("lane", self.lane)
            .opt("server", self.server)
            .opt("profile", self.profile)
            .opt("max-runtime", self.max_runtime)
            .opt("no-mutation-timeout", self.no_mutation_timeout)
            .flag("require-commit", self.require_commit)
            .opt("check", self.check)
            .many("scope", &self.scope)
            .flag("read-only", self.read_only)
            .opt("idempotency-key", self.idempotency_key);
        if !self.command.is_empty() {
            argv.0.push("--".to_owned());
            argv.0.extend(self.command);
        }
        Ok(Work::Run(Run { stdin: self.prompt, ..argv.run() }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobWait {
    /// The jobs' ids.
    beads: Vec<String>,
    /// The provider, when the ids ran under several.
    provider: Option<String>,
    /// Return as soon as one has ended.
    #[serde(default)]
    any: bool,
    /// Wait so long; 45 when left out, at most 55.
    wait_seconds: Option<u64>,
}

impl Arguments for JobWait {
    fn work(self) -> Result<Work, String> {
        let check = |id: &String| {
            Argv::new(&["check"]).opt("beads", Some(id)).opt("provider", self.provider.as_ref()).run()
        };
        let then = self.beads.iter().map(check).collect();
        let seconds = format!("{}s", slice(self.wait_seconds).max(1));
        let run = Argv::new(&["wait"])
            .many("beads", &self.beads)
            .opt("provider", self.provider.as_ref())
            .flag("any", self.any)
            .opt("timeout", Some(seconds))
            .run();
        Ok(Work::WaitForJobs { run, then })
    }
}

/// One job.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobCheck {
    /// The job's id.
    beads: String,
    /// The provider, when the id ran under several.
    provider: Option<String>,
}

impl Arguments for JobCheck {
    fn work(self) -> Result<Work, String> {
        let argv = Argv::new(&["check"]).opt("beads", Some(self.beads)).opt("provider", self.provider);
        Ok(Work::Run(argv.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobStatus {
    /// Only this job.
    beads: Option<String>,
    /// Only jobs of this provider.
    provider: Option<String>,
    /// Only jobs that run.
    #[serde(default)]
    live: bool,
    /// The N that ended last.
    recent: Option<u64>,
    /// Only what needs a person now.
    #[serde(default)]
    attention: bool,
}

impl Arguments for JobStatus {
    fn work(self) -> Result<Work, String> {
        let argv = Argv::new(&["status"])
            .opt("beads", self.beads)
            .opt("provider", self.provider)
            .flag("live", self.live)
            .opt("recent", self.recent)
            .flag("attention", self.attention);
        Ok(Work::Run(argv.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobLogs {
    /// The job's id.
    beads: String,
    /// The provider, when the id ran under several.
    provider: Option<String>,
    /// So many of the last lines; 40 when left out.
    lines: Option<u64>,
}

impl Arguments for JobLogs {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(logs(&self.beads, self.provider.as_deref(), self.lines.unwrap_or(40).clamp(1, 2000))))
    }
}

/// The last lines of a transcript.
pub(in crate::mcp) fn logs(beads: &str, provider: Option<&str>, lines: u64) -> Run {
    let argv =
        Argv::new(&["logs"]).opt("beads", Some(beads)).opt("provider", provider).opt("lines", Some(lines));
    Run { text: true, ..argv.run() }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobStop {
    /// The jobs' ids.
    beads: Vec<String>,
    /// The provider, when the ids ran under several.
    provider: Option<String>,
}

impl Arguments for JobStop {
    fn work(self) -> Result<Work, String> {
        if self.beads.is_empty() {
            return Err("`beads` names no job".to_owned());
        }
        let argv = Argv::new(&["stop"]).many("beads", &self.beads).opt("provider", self.provider);
        Ok(Work::Run(argv.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobReport {
    /// The job's id.
    beads: String,
    /// The provider, when the id ran under several.
    provider: Option<String>,
}

impl Arguments for JobReport {
    fn work(self) -> Result<Work, String> {
        let argv = Argv::new(&["report"]).opt("beads", Some(self.beads)).opt("provider", self.provider);
        Ok(Work::Run(argv.run()))
    }
}

/// A report for people.
pub(in crate::mcp) fn report(beads: &str, provider: &str) -> Run {
    let argv =
        Argv::new(&["report", "--format=markdown"]).opt("beads", Some(beads)).opt("provider", Some(provider));
    Run { text: true, ..argv.run() }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaveRun {
    /// The wave file.
    file: String,
}

impl Arguments for WaveRun {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["wave", "run", "--detach"]).word(self.file)?.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaveStatus {
    /// The wave's id.
    wave: String,
}

impl Arguments for WaveStatus {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["wave", "status"]).word(self.wave)?.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Preflight {
    /// The provider to check; all when left out.
    provider: Option<String>,
    /// The model that a job would ask for.
    model: Option<String>,
    /// Check this worktree, too.
    worktree: Option<String>,
    /// Check what a job with this profile would use.
    profile: Option<String>,
}

impl Arguments for Preflight {
    fn work(self) -> Result<Work, String> {
        let argv = Argv::new(&["preflight"])
            .opt("provider", self.provider)
            .opt("model", self.model)
            .opt("worktree", self.worktree)
            .opt("profile", self.profile);
        Ok(Work::Run(argv.run()))
    }
}
