//! The closed set of reason codes: why a job is in its state, why a command refused. Each says what it means and what to do.
//!
//! A row: variant, word, exit code, meaning, next action, and `Fallback` where another provider may take the work over.
//! `docs/reference/reason-codes.md` is generated from this table.

use crate::{ErrorClass, ExitCode, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! reason_codes {
    (@fallback) => { false };
    (@fallback Fallback) => { true };
    ($($variant:ident, $name:literal, $exit:ident, $meaning:literal, $next:literal $(, $fallback:ident)?;)*) => {
        /// Why. `Serialize` and `Display` give the published snake_case word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum ReasonCode { $(#[doc = $meaning] #[serde(rename = $name)] $variant,)* }

        impl ReasonCode {
            /// All codes in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The published word.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// What it means.
            pub fn meaning(self) -> &'static str { match self { $(Self::$variant => $meaning,)* } }
            /// What to do next; `-` when nothing.
            pub fn next_action(self) -> &'static str { match self { $(Self::$variant => $next,)* } }
            /// Exit code of a command that refuses for this reason (`check` goes by the state instead).
            pub fn exit_code(self) -> ExitCode { match self { $(Self::$variant => ExitCode::$exit,)* } }
            /// Whether the same work may go to another provider: the fault lies with this one, its account or its model,
            /// and neither with the work nor with whoever asked.
            pub fn allows_fallback(self) -> bool {
                match self { $(Self::$variant => reason_codes!(@fallback $($fallback)?),)* }
            }
        }

        impl std::str::FromStr for ReasonCode {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($name => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}

reason_codes! {
    // Live jobs.
    StartupGrace, "startup_grace", Ok, "Started, no output yet, inside the first-output grace.", "wait";
    ProviderWarmup, "provider_warmup", Ok, "The agent has told its start and nothing else yet.", "wait";
    CpuProgressNoOutput, "cpu_progress_no_output", Ok, "The process tree uses CPU, but nothing was printed past the grace.", "wait, or look at the worktree";
    WorktreeChangedNoOutput, "worktree_changed_no_output", Ok, "The worktree changed, but nothing was printed.", "look at the worktree";
    ProviderEvent, "provider_event", Ok, "The agent's own events show progress.", "-";
    ToolInFlight, "tool_in_flight", Ok, "A tool that the agent started has not ended.", "-";
    WriteProgress, "write_progress", Ok, "Without a word, the worktree changes or the process tree writes to storage.", "-";
    CpuProgress, "cpu_progress", Ok, "The process tree uses CPU.", "-";
    RecentLogActivity, "recent_log_activity", Ok, "Output was written recently.", "-";
    ProviderRetrying, "provider_retrying", Ok, "The agent waits before it asks its model again.", "wait";
    RateLimitedWaiting, "rate_limited_waiting", Ok, "The model refused for its rate; the agent waits until a known time.", "wait until the reset time";
    NoProgress, "no_progress", Stalled, "No event, output, CPU, change or writing to storage for the stall threshold.", "dx-runner logs --beads <id>, then restart";
    StaleLogNoCpu, "stale_log_no_cpu", Stalled, "Output stopped, and the tree neither uses CPU nor writes for the stall threshold.", "dx-runner logs --beads <id>, then restart";
    AwaitingInput, "awaiting_input", Stalled, "The agent waits for an answer that nobody can give.", "stop, and give it the permission it asks for";
    NoHeartbeatNoMutation, "no_heartbeat_no_mutation", NoOp, "No tool call, output, CPU, change or writing to storage since the start.", "stop, then check prompt and provider";
    AwaitingFinalize, "awaiting_finalize", Ok, "The process ended; its outcome is being written.", "dx-runner wait --beads <id>; if this lasts, dx-runner doctor";
    AwaitingFinalizeMonitorActive, "awaiting_finalize_monitor_active", Ok, "A foreign record whose process ended and whose monitor lives.", "wait";
    Elsewhere, "elsewhere", Ok, "The record belongs to another host or pid namespace and is only shown.", "ask on that host";
    Stopping, "stopping", Ok, "The job is being ended.", "dx-runner wait --beads <id>";
    // Ends.
    ProcessExitWithRc, "process_exit_with_rc", Ok, "The process ended and its exit code was seen.", "review the work";
    ProcessExit, "process_exit", Ok, "The process ended (as other programs write it).", "review the work";
    ExitZeroNoMutations, "exit_zero_no_mutations", Ok, "Ended with 0 and changed nothing.", "read the answer in the log";
    OutcomeExit0, "outcome_exit_0", Ok, "A foreign outcome without a reason, exit code 0.", "review the work";
    OutcomeExitNonzero, "outcome_exit_nonzero", JobError, "A foreign outcome without a reason, exit code not 0.", "dx-runner logs --beads <id>";
    ManualStop, "manual_stop", JobError, "Ended by `stop`.", "-";
    ForcedFinalization, "forced_finalization", JobError, "Ended by `finalize`.", "-";
    MaxRuntimeExceeded, "max_runtime_exceeded", JobError, "Ended by us: it ran longer than its limit.", "raise --max-runtime, or cut the work";
    NoMutationTimeout, "no_mutation_timeout", JobError, "Ended by us: nothing changed in the worktree for the limit.", "check the prompt, or raise --no-mutation-timeout";
    ExtendedStall, "extended_stall", JobError, "Ended by the watchdog after a long stall.", "dx-runner logs --beads <id>, then restart";
    OutputFlood, "output_flood", JobError, "Ended by us: output or events without end.", "dx-runner logs --beads <id>; another model or provider", Fallback;
    MonitorNoRcFile, "monitor_no_rc_file", JobError, "A monitor was there, but the exit code could not be seen.", "review the worktree, then restart";
    LateFinalizeNoRc, "late_finalize_no_rc", JobError, "None of our processes was left to see the end.", "review the worktree, then restart";
    HostRebooted, "host_rebooted", JobError, "The host was restarted while the job ran.", "restart";
    SpawnFailed, "spawn_failed", JobError, "The agent's process could not be started.", "check the command and its permissions";
    ProviderReportedError, "provider_reported_error", JobError, "The agent reported an error.", "dx-runner logs --beads <id>", Fallback;
    ProviderNoResult, "provider_no_result", JobError, "The agent ended without telling a result.", "dx-runner logs --beads <id>, then restart", Fallback;
    ProviderUnreachable, "provider_unreachable", JobError, "The agent could not reach its model.", "check the network and the base URL", Fallback;
    PermissionDeniedByAgent, "permission_denied_by_agent", JobError, "The agent refused an action for lack of permission.", "allow it in the agent's configuration";
    NoCommitArtifact, "no_commit_artifact", JobError, "A commit was required and HEAD did not move forward.", "review the worktree";
    GateUnanswered, "gate_unanswered", JobError, "A gate or check that was asked for could not be answered.", "review the worktree; dx-runner check --beads <id> says which";
    // Gates and checks.
    CommitOk, "commit_ok", Ok, "HEAD differs from the start and descends from it.", "-";
    ScopeOk, "scope_ok", Ok, "Every changed path is allowed.", "-";
    ScopeViolation, "scope_violation", Scope, "A changed path is outside the allowed patterns, or is a forbidden one.", "review the paths that are named";
    MutationBudgetExceeded, "mutation_budget_exceeded", Scope, "More paths changed than allowed.", "review the changes, or allow more";
    RepositoryRedirected, "repository_redirected", JobError, "The worktree's .git, commondir or gitdir is not what it was at the start; git was asked only by the recorded paths.", "review the worktree before any git command in it";
    GitConfigChanged, "git_config_changed", Ok, "The repository's git configuration changed while the job ran; nothing it names was run.", "review the configuration before any git command in it";
    GitHooksChanged, "git_hooks_changed", Ok, "Hooks of the repository changed while the job ran; none was run.", "review the hooks before any git command in it";
    ForeignRefChanged, "foreign_ref_changed", Ok, "Another branch than the job's own was moved, made or deleted while the job ran.", "git reflog of the branches that are named";
    CheckOk, "check_ok", Ok, "The command of --check ended with 0.", "-";
    CheckFailed, "check_failed", CheckFailed, "The command of --check did not end with 0.", "read its output in the file that is named";
    CheckTimeout, "check_timeout", CheckFailed, "The command of --check ran into its deadline and was ended.", "raise DX_RUNNER_CHECK_TIMEOUT_SEC, or cut the command";
    CheckInfra, "check_infra", CheckFailed, "The command of --check could not be run or watched; it says nothing about the work.", "run it by hand in the worktree";
    CheckInterrupted, "check_interrupted", CheckFailed, "The run was ended while the command of --check was due.", "run it by hand in the worktree";
    CheckNotRun, "check_not_run", CheckFailed, "The command of --check was not run, because the job had failed already.", "-";
    BaselineOk, "baseline_ok", Ok, "HEAD contains the required commit.", "-";
    BaselineNotMet, "baseline_not_met", Error, "HEAD does not contain the required commit.", "bring the worktree to the required commit";
    RequiredBaselineMissing, "required_baseline_missing", Error, "No required commit was named.", "--required-baseline SHA";
    RequiredCommitMissing, "required_commit_missing", Error, "The required commit is not in the repository.", "git fetch";
    NotAGitRepo, "not_a_git_repo", Error, "The place is in no git repository.", "a worktree of a git repository";
    IntegrityOk, "integrity_ok", Ok, "The reported commit is on the branch.", "-";
    ReportedCommitMissing, "reported_commit_missing", Error, "No commit was reported.", "--reported-commit SHA";
    ReportedCommitNotFound, "reported_commit_not_found", Error, "The reported commit is not in the repository.", "do not trust the report";
    ReportedNotAncestor, "reported_not_ancestor", Error, "The reported commit is not on the branch.", "do not trust the report";
    BranchMissing, "branch_missing", Error, "The branch does not exist.", "--branch with one that exists";
    PermissionOk, "permission_ok", Ok, "The worktree exists, at an allowed place.", "-";
    CanonicalWorktreeForbidden, "canonical_worktree_forbidden", PermissionDenied, "The place is a main checkout that the configuration protects from agents.", "--worktree auto, or take it from protected_checkouts in your configuration";
    FeatureKeyOk, "feature_key_ok", Ok, "Every commit carries the key as a trailer.", "-";
    FeatureKeyInvalidFormat, "feature_key_invalid_format", Error, "The key is not `bd-` and segments of lower-case letters and digits with dots between.", "--feature-key bd-…";
    FeatureKeyMissingInCommits, "feature_key_missing_in_commits", Error, "A commit does not carry the key as a trailer.", "git rebase with `git commit --amend --no-edit --trailer 'Feature-Key: <key>'`";
    NoCommitsInRange, "no_commits_in_range", Error, "There is no commit to look at.", "commit the work, or name another --base-branch";
    BaseBranchMissing, "base_branch_missing", Error, "The base branch does not exist, or has nothing in common with the branch.", "--base-branch with one that exists";
    ReadOnlyOk, "read_only_ok", Ok, "The job was read-only, and nothing in its worktree changed.", "-";
    ModelNotAllowed, "model_not_allowed", ModelUnavailable, "The model is not among those that the provider's list, configuration or profile allow.", "--model with one of allowed_models; dx-runner config explain allowed_models";
    ReadOnlyViolation, "read_only_violation", Scope, "The job was read-only, and something in its worktree changed.", "review what is named; the change is in the worktree";
    RawOpForbiddenInAgentContext, "raw_op_forbidden_in_agent_context", PreflightFailed, "The prompt tells the agent to read secrets with 1Password's `op`.", "take the lines out, and give the secret with --env NAME";
    BeadsOk, "beads_ok", Ok, "Beads can be used here.", "-";
    BeadsUnavailable, "beads_unavailable", BeadsGate, "No `bd` was found.", "install Beads, or put `bd` on PATH";
    BeadsExternalRepoMissing, "beads_external_repo_missing", BeadsGate, "The external Beads repository is not there.", "clone it to ~/bd, or set BEADS_REPO_PATH";
    BeadsExternalRemoteMismatch, "beads_external_remote_mismatch", BeadsGate, "The origin of the external Beads repository is another one.", "git remote set-url origin, or set BEADS_REPO_REMOTE_SUBSTR";
    BeadsDbError, "beads_db_error", BeadsGate, "`bd` cannot use its database.", "run `bd stats` by hand in the repository";
    BeadsRepoMismatch, "beads_repo_mismatch", BeadsGate, "`bd` uses another store than the repository's own.", "unset BEADS_DIR and BEADS_DB, or run `bd init` in the repository";
    BeadsWriteBlocked, "beads_write_blocked", BeadsGate, "`bd` cannot write a comment.", "look at the rights of the database";
    BeadsProbeNotFound, "beads_probe_not_found", BeadsGate, "`bd` does not know the issue.", "--probe-id with one that `bd list` shows";
    BeadsTimeout, "beads_timeout", Timeout, "A call of `bd` did not end within its deadline and was ended.", "run it by hand in the repository; see whether another process holds its database";
    BeadsNoneReady, "beads_none_ready", Error, "No open issue is ready.", "bd blocked shows what the others wait for";
    EvidenceOk, "evidence_ok", Ok, "Every claim of the sign-off is true.", "-";
    UnverifiedClaims, "unverified_claims", Evidence, "A claim of the sign-off names no command, or its command did not succeed.", "do not trust the sign-off; run what is named by hand";
    NoClaims, "no_claims", Evidence, "The sign-off claims nothing.", "a sign-off with checked boxes, or lines that start with validated, verified or confirmed, each with a command in backticks";
    SignoffMissing, "signoff_missing", Evidence, "The sign-off cannot be read.", "--signoff-file FILE";
    MaxRetriesExhausted, "max_retries_exhausted", JobError, "The retries are used up.", "a person must look";
    WatchdogRunning, "watchdog_running", Conflict, "Another watchdog looks after the jobs of this state directory.", "leave it to that one";
    QuotaParked, "quota_parked", JobError, "The account's quota is used up until a known time.", "another provider, or wait", Fallback;
    NoMeta, "no_meta", Error, "There is no record of this job.", "dx-runner status --all";
    // Waves.
    WaveFileInvalid, "wave_file_invalid", Usage, "The wave file is not valid.", "mend the lines that are named";
    WaveNotFound, "wave_not_found", Error, "There is no such wave.", "dx-runner wave list";
    WaveRunning, "wave_running", Conflict, "A coordinator works on the wave already.", "dx-runner wave status <wave>";
    WaveEnded, "wave_ended", Conflict, "The wave has ended.", "dx-runner wave report <wave>";
    WaveInterrupted, "wave_interrupted", Error, "Nobody coordinates the wave any more; its jobs go on.", "dx-runner wave resume <wave>";
    WaveItemTaken, "wave_item_taken", Conflict, "An item's id has a live job, a worktree or a branch already, or another wave has it.", "stop or remove what is named, or take another id";
    NeedNotDone, "need_not_done", Error, "What the item needs did not get done.", "dx-runner wave report <wave>";
    WaveFailFast, "wave_fail_fast", Error, "The wave was told to begin nothing more after the first failure.", "dx-runner wave report <wave>";
    MergeConflict, "merge_conflict", Conflict, "The work of two items does not fit together.", "merge by hand";
    NoProviderLeft, "no_provider_left", Error, "No provider of the chain can take the item.", "dx-runner providers";
    ReviewApproved, "review_approved", Ok, "The review approved the work.", "review the work";
    ReviewRevisionRequired, "review_revision_required", CheckFailed, "The review wants the work to be revised.", "read its findings";
    ReviewBlocked, "review_blocked", Approval, "The review says that a person must decide.", "read its findings";
    ReviewUnreadable, "review_unreadable", Error, "The review told no verdict that can be read.", "dx-runner logs of its job";
    // OpenCode.
    OpencodeModelUnavailable, "opencode_model_unavailable", ModelUnavailable, "The model is not in the list of the installed OpenCode.", "--model with one that `opencode models` lists (and --allow-model-override), or provider cc-glm or gemini", Fallback;
    OpencodeModelUnsupported, "opencode_model_unsupported", ModelUnavailable, "The requested model is not on the allow list.", "add it to OPENCODE_ALLOWED_MODELS, or pass --allow-model-override";
    OpencodeBinaryMissing, "opencode_binary_missing", PreflightFailed, "No `opencode` was found.", "install opencode, or put it on PATH", Fallback;
    OpencodeAuthBlocked, "opencode_auth_blocked", JobError, "OpenCode's model refused the credentials.", "opencode auth login, or check the key", Fallback;
    OpencodeRateLimited, "opencode_rate_limited", JobError, "OpenCode's model refused for its rate or quota.", "wait, or another provider", Fallback;
    OpencodeServerError, "opencode_server_error", JobError, "OpenCode's model answered with a server error.", "try again later, or another provider", Fallback;
    OpencodeAgentMissing, "opencode_agent_missing", PreflightFailed, "The OpenCode agent asked for does not exist, or cannot lead a run.", "--agent with a primary one that `opencode agent list` lists";
    OpencodeAgentsFailed, "opencode_agents_failed", PreflightFailed, "`opencode agent list` failed or did not answer.", "run `opencode agent list` by hand", Fallback;
    OpencodeModelsFailed, "opencode_models_failed", PreflightFailed, "`opencode models` failed or did not answer.", "run `opencode models` by hand", Fallback;
    // Claude Code.
    ClaudeCodeBinaryMissing, "claude_code_binary_missing", PreflightFailed, "No `claude` was found.", "install Claude Code, or put `claude` on PATH", Fallback;
    ClaudeCodeAuthBlocked, "claude_code_auth_blocked", JobError, "Claude Code is not logged in, or its credentials were refused.", "log in with `claude`, or check ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN", Fallback;
    ClaudeCodeRateLimited, "claude_code_rate_limited", JobError, "Claude Code's model refused for its rate, its load or the plan's limit.", "wait, or another provider", Fallback;
    ClaudeCodeModelUnavailable, "claude_code_model_unavailable", ModelUnavailable, "The model does not exist, or is not offered.", "--model with one that this account has", Fallback;
    ClaudeCodeAgentMissing, "claude_code_agent_missing", PreflightFailed, "The Claude Code agent asked for does not exist.", "--agent with one that Claude Code knows in this worktree";
    // Codex.
    CodexBinaryMissing, "codex_binary_missing", PreflightFailed, "No `codex` was found.", "install Codex, or put `codex` on PATH", Fallback;
    CodexAuthBlocked, "codex_auth_blocked", JobError, "Codex is not logged in, or its credentials were refused.", "codex login, or check CODEX_API_KEY or the key that its configuration names", Fallback;
    CodexRateLimited, "codex_rate_limited", JobError, "Codex's model refused for its rate, its load or the plan's limit.", "wait, or another provider", Fallback;
    CodexModelUnavailable, "codex_model_unavailable", ModelUnavailable, "The model does not exist, or is not offered.", "--model with one that this account has", Fallback;
    CodexSandboxRefused, "codex_sandbox_refused", PreflightFailed, "The job is not in dx-runner's sandbox, and Codex cannot have its own here.", "leave dx-runner's sandbox on (--sandbox strict), or allow user namespaces and mounts here", Fallback;
    // Gemini CLI.
    GeminiBinaryMissing, "gemini_binary_missing", PreflightFailed, "No `gemini` was found.", "install Gemini CLI, or put `gemini` on PATH", Fallback;
    GeminiAuthMissing, "gemini_auth_missing", AuthFailed, "Gemini CLI has no credentials that it could use.", "set GEMINI_API_KEY or GOOGLE_API_KEY, or log in with `gemini`", Fallback;
    GeminiAuthBlocked, "gemini_auth_blocked", JobError, "Gemini CLI's model refused the credentials.", "check GEMINI_API_KEY or GOOGLE_API_KEY, or log in again with `gemini`", Fallback;
    GeminiCapacityExhausted, "gemini_capacity_exhausted", JobError, "Gemini CLI's model refused for its rate, its load or the account's quota.", "wait, or another provider or model", Fallback;
    GeminiUntrustedDirectory, "gemini_untrusted_directory", JobError, "Gemini CLI was told not to trust the worktree.", "unset GEMINI_CLI_TRUST_WORKSPACE and GEMINI_RESTRICTED_MODE, or trust the worktree with `gemini`";
    // OpenCode servers.
    AttachReady, "attach_ready", Ok, "The server is healthy and can run jobs.", "-";
    AttachDirectoryMissing, "attach_directory_missing", BeadsGate, "The directory does not exist; the server would accept it all the same.", "name a directory that exists";
    AttachNoContext, "attach_no_context", BeadsGate, "The server is healthy, but cannot list its agents: it has no context to run in.", "start the server in a project, or run headless";
    AttachVersionUnsupported, "attach_version_unsupported", BeadsGate, "The server is of a version whose attached runs fail with \"No context found for instance\".", "update opencode, or run headless";
    ServerUnreachable, "server_unreachable", LaneUnavailable, "No OpenCode server was found, or none answers there.", "dx-runner server start [--hostname 127.0.0.1] [--port N]", Fallback;
    ServerElsewhere, "server_elsewhere", Conflict, "The shared server runs already, at another address than the one that was asked for.", "use it where it is, without --hostname and --port; or dx-runner server stop first";
    ServerUnhealthy, "server_unhealthy", LaneUnavailable, "The server answers, but says that it is not well.", "restart it", Fallback;
    ServerPasswordRefused, "server_password_refused", AuthFailed, "The server asks for a password, or for another one.", "set OPENCODE_SERVER_PASSWORD to the server's password", Fallback;
    ServerNotOpencode, "server_not_opencode", LaneUnavailable, "Something else than an OpenCode server listens there.", "check the address", Fallback;
    ServerApiUnsupported, "server_api_unsupported", LaneUnavailable, "The server is OpenCode 2.x, whose API this program does not speak.", "an OpenCode 1.x server", Fallback;
    ServerRefused, "server_refused", Error, "The server refused a call, or answered what cannot be read.", "look at the server's log";
    // Questions to models.
    AuthMissing, "auth_missing", AuthFailed, "The model's provider has no credentials, or refused them.", "opencode auth login, or check the key";
    ModelNotFound, "model_not_found", ModelUnavailable, "There is no such model, or the account does not have it.", "dx-runner models";
    ProviderNotConnected, "provider_not_connected", LaneUnavailable, "The server does not know the model's provider, or has no credentials for it.", "opencode auth login; dx-runner models lists what is connected";
    RateLimited, "rate_limited", Error, "The model refused for its rate or quota.", "wait, or ask another model";
    Timeout, "timeout", Timeout, "No whole answer before the deadline; the work was stopped.", "a longer --timeout, or another model";
    ServerError, "server_error", Error, "The model's server failed, or could not be reached.", "try again later, or ask another model";
    EmptyResponse, "empty_response", Error, "The model answered nothing.", "another prompt or model";
    SchemaMismatch, "schema_mismatch", Error, "The answer does not fit the schema, after two corrections.", "a simpler schema, or another model";
    UnparsedToolMarkup, "unparsed_tool_markup", Error, "The answer is a tool call that nobody could parse.", "another model";
    Aborted, "aborted", Error, "The question was ended by somebody.", "ask again";
    TaskTypeUnknown, "task_type_unknown", Usage, "There is no such task type.", "dx-runner routes";
    QuorumMissed, "quorum_missed", Partial, "Fewer members answered than were needed.", "dx-runner batch show <id>";
    BatchRunning, "batch_running", Conflict, "The members of the batch are still being asked.", "dx-runner batch show <id>";
    BatchInterrupted, "batch_interrupted", Error, "The process that asked has ended before all had answered.", "ask again; dx-runner batch judge <id> compares what is there";
    BatchOk, "batch_ok", Ok, "All members answered, or as many as were wanted.", "-";
    BatchPartial, "batch_partial", Partial, "Some members answered, some did not.", "dx-runner batch show <id>";
    JudgeFailed, "judge_failed", Partial, "As many members answered as were wanted; the judge gave no verdict.", "dx-runner batch judge <id> --judge <member>";
    BatchFailed, "batch_failed", Error, "No member answered.", "dx-runner batch show <id>";
    BatchNotFound, "batch_not_found", Error, "There is no batch of this id.", "dx-runner batch list";
    // Benchmarks.
    BenchOk, "bench_ok", Ok, "All jobs of the benchmark succeeded.", "-";
    BenchPartial, "bench_partial", Partial, "Some jobs of the benchmark succeeded, some did not.", "look at the failures in summary.md";
    BenchFailed, "bench_failed", Error, "No job of the benchmark succeeded.", "look at the failures in summary.md";
    BenchNotFound, "bench_not_found", Error, "There is no benchmark run in this folder.", "name the folder of a run, or --out with the one that holds it";
    BenchNotRun, "bench_not_run", Error, "A gate refused the run: it has no jobs.", "mend what dx-runner bench report tells of it, and run it again";
    BenchChanged, "bench_changed", Conflict, "The run was begun on another commit, machine or version, or with other options.", "what it was begun with, or another --run-id";
    BenchPhaseBlocked, "bench_phase_blocked", Error, "The phase before has not passed on the same baseline; nothing was run.", "dx-runner bench progressive, which runs all phases in their order; or --force";
    BenchBelowMinimum, "bench_below_minimum", Partial, "Fewer jobs of the phase succeeded than it takes to pass.", "look at the failures in summary.md of its run";
    BenchPromptsInvalid, "bench_prompts_invalid", Usage, "The file of prompts cannot be used.", "mend what is named; the built-in file is an example: dx-runner bench prompts";
    EmptyAnswer, "empty_answer", JobError, "The job ended well, but its model said nothing.", "look at the job's log";
    // Providers of the configuration, and adapter scripts.
    ProviderBinaryMissing, "provider_binary_missing", PreflightFailed, "The provider's program was not found.", "install it, put it on PATH, or mend `command` in your configuration", Fallback;
    ProviderAuthBlocked, "provider_auth_blocked", JobError, "The model refused the credentials.", "check the provider's credentials", Fallback;
    ProviderRateLimited, "provider_rate_limited", JobError, "The model refused for its rate or quota.", "wait, or another provider", Fallback;
    ProviderModelUnavailable, "provider_model_unavailable", ModelUnavailable, "The model does not exist, or is not offered.", "--model with one that the provider has", Fallback;
    ProviderCredentialsMissing, "provider_credentials_missing", AuthFailed, "No credentials of the provider were found.", "log in with the provider's program, or set one of the variables that are named", Fallback;
    ProviderVersionUntested, "provider_version_untested", PreflightFailed, "The program has a version that dx-runner was not tested with.", "a tested version, if something is not understood";
    ProviderVersionUnknown, "provider_version_unknown", PreflightFailed, "The program did not tell its version.", "run it with --version by hand";
    ProviderLaneUnavailable, "provider_lane_unavailable", LaneUnavailable, "The provider has no such lane.", "dx-runner providers show";
    BeadsMcpMissing, "beads_mcp_missing", PreflightFailed, "No `beads-mcp` was found; agents work without the context of Beads.", "install beads-mcp, or go on without";
    ProbeFailed, "probe_failed", PreflightFailed, "The agent did not answer a tiny request well.", "read the message; run the agent by hand", Fallback;
    ProbeTimeout, "probe_timeout", Timeout, "The agent did not answer a tiny request in time.", "check network and credentials, or try again", Fallback;
    AdapterFailed, "adapter_failed", PreflightFailed, "A function of the adapter script failed, or did not tell what it must.", "run the function by hand; see the guide", Fallback;
    LateFinalizeFromRcFile, "late_finalize_from_rc_file", JobError, "None of our processes saw the end; the exit code is what the adapter's file says.", "review the worktree, then restart";
    // Claude Code on Z.ai's GLM.
    CcGlmBinaryMissing, "cc_glm_binary_missing", PreflightFailed, "No `claude` was found; cc-glm is Claude Code on another model.", "install Claude Code, or put `claude` on PATH", Fallback;
    CcGlmAuthBlocked, "cc_glm_auth_blocked", JobError, "Z.ai refused the key.", "check the key that `auth_source` in the .contract file names", Fallback;
    CcGlmRateLimited, "cc_glm_rate_limited", JobError, "Z.ai refused for its rate, its load or the plan's limit.", "wait, or another provider", Fallback;
    CcGlmModelUnavailable, "cc_glm_model_unavailable", ModelUnavailable, "Z.ai does not offer the model.", "--model or CC_GLM_MODEL with one that Z.ai offers", Fallback;
    CcGlmAgentMissing, "cc_glm_agent_missing", PreflightFailed, "The Claude Code agent asked for does not exist.", "--agent with one that Claude Code knows in this worktree";
    AuthResolutionFailed, "auth_resolution_failed", AuthFailed, "No credentials could be had from the place that was named for them, or none was named.", "set CC_GLM_AUTH_TOKEN or CC_GLM_TOKEN_FILE, or sign in to 1Password with `op signin`", Fallback;
    TokenFileError, "token_file_error", TokenFile, "The token file is missing, cannot be read, is empty or holds no token.", "mend the file that CC_GLM_TOKEN_FILE names", Fallback;
    // Refusals of commands.
    AlreadyRunning, "already_running", Conflict, "A run of this job is live.", "dx-runner check --beads <id>, or stop it first";
    LockHeld, "lock_held", Conflict, "Another process holds the record.", "try again";
    WorktreeTaken, "worktree_taken", Conflict, "The place of the job's worktree belongs to another repository.", "another --beads id, or --worktree PATH";
    WorktreeExists, "worktree_exists", Conflict, "The job has a worktree already, on another branch or from another commit.", "dx-runner worktree list; remove it first, or another id";
    WorktreeNotFound, "worktree_not_found", Error, "There is no worktree of this id.", "dx-runner worktree list";
    WorktreeUnrecorded, "worktree_unrecorded", Conflict, "The worktree is there without a record of ours.", "dx-runner worktree create with its id and --repo, which takes it up";
    WorktreeInUse, "worktree_in_use", Conflict, "A live job works in the worktree.", "wait for the job, or stop it";
    WorktreeUnsaved, "worktree_unsaved", Conflict, "The worktree holds work that is nowhere else.", "dx-runner worktree salvage <id>, then remove it again";
    WorktreeBudgetExceeded, "worktree_budget_exceeded", Conflict, "Worktrees use as much disk as they may.", "dx-runner worktree list, then remove some; or raise worktree.budget (DX_RUNNER_WORKTREE_BUDGET)";
    WorktreeSetupFailed, "worktree_setup_failed", PreflightFailed, "A set-up command of the repository's .dx-runner.toml failed; the worktree was taken away again.", "read the log that is named";
    TargetDirty, "target_dirty", Conflict, "The checkout of the branch has changes of its own.", "commit or stash them, or name another branch with --branch";
    ApplyConflict, "apply_conflict", Conflict, "The job's work and the branch changed the same; nothing was applied.", "merge by hand";
    BranchTaken, "branch_taken", Conflict, "The branch is there already, or checked out somewhere else.", "--branch with another name";
    ProviderConcurrencyCapExceeded, "provider_concurrency_cap_exceeded", Capacity, "The provider's concurrency cap is reached.", "start --queue waits for its turn; or raise DX_RUNNER_MAX_PARALLEL_<PROVIDER>";
    ProviderNotFound, "provider_not_found", ProviderNotFound, "No such provider.", "dx-runner providers";
    WorktreeMissing, "worktree_missing", PermissionDenied, "The worktree does not exist.", "--worktree PATH, or --worktree auto in a repository";
    SandboxDenied, "sandbox_denied", Ok, "A tool of the agent was refused a write outside its sandbox. A finding, never a reason to fail.", "nothing, or DX_RUNNER_SANDBOX_WRITE if the path is its business";
    SandboxUnavailable, "sandbox_unavailable", PreflightFailed, "A sandbox was asked for, and this kernel cannot make one.", "dx-runner doctor, or --sandbox off";
    NonWorktreePath, "non_worktree_path", PermissionDenied, "The path is outside the allowed places.", "use a worktree below an allowed prefix, or add the place to allowed_prefixes in your configuration";
    NestedStartDenied, "nested_start_denied", PermissionDenied, "A job may not start jobs.", "start it from outside";
    PromptMissing, "prompt_missing", Usage, "The prompt file does not exist or cannot be read.", "--prompt-file FILE, or - for standard input";
    PromptInvalid, "prompt_invalid", Usage, "The prompt is empty, too large, not UTF-8, or holds a NUL byte.", "mend the prompt";
    EnvUnresolved, "env_unresolved", AuthFailed, "A variable named with --env is not set.", "set it and try again";
    StateDirUnsafe, "state_dir_unsafe", PermissionDenied, "The state directory belongs to somebody else or is reached by a link.", "set DX_RUNNER_STATE_DIR to a private place";
    StateDirUnusable, "state_dir_unusable", Error, "The state directory cannot be written.", "free the disk, or set DX_RUNNER_STATE_DIR";
    RecordNewer, "record_newer", Format, "The record was written by a newer version.", "update dx-runner";
    RecordUnreadable, "record_unreadable", Format, "The record is damaged and tells no job.", "look at the file that is named";
    ConfigInvalid, "config_invalid", Usage, "A configuration file or profile is not valid.", "mend the line that is named";
    ConfigUnknownKey, "config_unknown_key", Usage, "There is no setting of this name.", "dx-runner config show lists all";
    ConfigUnreadable, "config_unreadable", Format, "A configuration file cannot be read, is too large or not UTF-8.", "look at the file that is named";
    ConfigUnsafe, "config_unsafe", PermissionDenied, "A configuration file is a link, or others can write it.", "make it a file that only you can write";
    PackNotInstalled, "pack_not_installed", Error, "The agent pack is not installed in this folder.", "dx-runner workflow install";
    PackTargetUnwritable, "pack_target_unwritable", Error, "The folder of the agent pack cannot be written; nothing was changed.", "look at the path that is named, or choose another --scope";
    PackBackupNotFound, "pack_backup_not_found", Usage, "There is no such backup.", "dx-runner workflow status lists them";
    TaskNotFound, "task_not_found", Error, "There is no such task.", "dx-runner task list";
    TaskInvalid, "task_invalid", Error, "The files of the task are not right; nothing was run.", "dx-runner task check <task>";
    TaskUnplanned, "task_unplanned", Approval, "The task has no specification; nothing was run.", "have it planned: .ai/tasks/<task>/task-spec.md";
    TaskUnapproved, "task_unapproved", Approval, "A plan of several units needs a person's approval first.", "dx-runner task approve <task>";
    TaskRunning, "task_running", Conflict, "The task is being run already.", "dx-runner task show <task>";
    TaskEnded, "task_ended", Approval, "The task has ended without being done.", "read what is said of it, then dx-runner task run <task> --again";
    TaskWorktreeLost, "task_worktree_lost", Approval, "The worktree in which the task was being worked on is gone, and with it what its steps made.", "bring it back, or dx-runner task run <task> --again begins anew";
    TaskUnitDone, "task_unit_done", Ok, "A unit of a plan is done: its agents, its tests and its validator agree.", "review the work";
    ExecutionEmpty, "execution_empty", Approval, "The specification names no agent that runs; nothing was run.", "list agents below ## Execution";
    RoleScopeViolation, "role_scope_violation", Scope, "An agent wrote what its role may not.", "look at the paths in state.json; docs/reference/roles.md tells what each may write";
    ReportMissing, "report_missing", CheckFailed, "An agent ended well without writing its report.", "dx-runner logs of its job tells why";
    ReportInvalid, "report_invalid", CheckFailed, "An agent's report lacks a section, or answers another specification.", "dx-runner task check <task>";
    AgentBlocked, "agent_blocked", Approval, "An agent reports that it cannot do its part.", "read its report, and decide what it asks for";
    VerdictContradicted, "verdict_contradicted", CheckFailed, "The validator says PASS, and the runner's own record says otherwise.", "look at the commands in state.json";
    FixCycleExhausted, "fix_cycle_exhausted", Approval, "The work did not pass after its one fix cycle.", "read the validator's report, and decide";
    ConsentNeeded, "consent_needed", Approval, "Nothing is written without a yes.", "--yes, after you agreed";
    ConfigExists, "config_exists", Conflict, "The configuration file exists already; nothing was written.", "edit it, or move it away";
    ConfigUnwritable, "config_unwritable", Error, "The configuration file cannot be written.", "look at its folder";
    ProfileNotFound, "profile_not_found", Usage, "No such profile.", "dx-runner profiles";
    SettingNotAllowed, "setting_not_allowed", PermissionDenied, "An option would loosen a limit that a project or profile sets, or go beyond what your own file allows.", "dx-runner config explain <key>";
    InvalidId, "invalid_id", Usage, "The id is not allowed.", "letters, digits, . _ - only";
    InvalidArgument, "invalid_argument", Usage, "The command line is wrong.", "dx-runner --help";
    GitFailed, "git_failed", Error, "A git command failed.", "run it by hand in the repository";
    MonitorLost, "monitor_lost", Error, "The monitor could not be started.", "dx-runner doctor";
    QueryRefused, "query_refused", Usage, "The query is no single SELECT that the history can answer.", "one SELECT on the table `runs`; dx-runner history query --help";
    OutputUnwritable, "output_unwritable", Error, "What was asked for cannot be written there.", "name another place, or free the disk";
    DeadlineExceeded, "deadline_exceeded", Timeout, "The deadline passed; nothing was stopped.", "wait longer, or check";
    Interrupted, "interrupted", Interrupted, "Interrupted; jobs go on.", "dx-runner status";
    NotSupported, "not_supported", Usage, "This provider or platform does not offer it.", "dx-runner providers show";
    Internal, "internal", Error, "An unexpected failure.", "report it";
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ReasonCode {
    /// What to do next about this job in this state.
    pub fn advice(self, state: State, id: &str) -> String {
        let text = match (self, state) {
            (Self::ProcessExitWithRc | Self::ProcessExit | Self::RecordUnreadable, State::ExitedErr) => {
                "dx-runner logs --beads <id>"
            }
            _ => self.next_action(),
        };
        text.replace("<id>", id)
    }

    /// Whether a start that is refused for this may go well with another provider.
    pub fn is_of_provider(self) -> bool {
        // What somebody does not allow is no fault of the provider's.
        if matches!(self, Self::ModelNotAllowed | Self::OpencodeModelUnsupported) {
            return false;
        }
        matches!(
            self.exit_code(),
            ExitCode::AuthFailed
                | ExitCode::TokenFile
                | ExitCode::ProviderNotFound
                | ExitCode::ModelUnavailable
                | ExitCode::LaneUnavailable
        ) || self == Self::QuotaParked
            || (self.exit_code() == ExitCode::PreflightFailed
                && !matches!(self, Self::WorktreeSetupFailed | Self::SandboxUnavailable))
    }

    /// Whether nothing that this account is asked for will go well until a person acts.
    pub fn is_of_account(self) -> bool {
        self.is_of_provider() && self != Self::QuotaParked && !self.is_of_model()
            || self.as_str().ends_with("_auth_blocked")
    }

    /// Whether this model will not do, and another one of the same account may.
    pub fn is_of_model(self) -> bool {
        self.is_of_provider() && self.exit_code() == ExitCode::ModelUnavailable
    }

    /// The reason code of a classified agent error, by provider where it has codes of its own.
    pub fn of_agent_error(provider: &str, class: ErrorClass) -> Self {
        use ErrorClass::{
            AgentMissing, Auth, AuthMissing, Capacity, ModelUnavailable, Network, Quota, RateLimit, Server,
            UntrustedDirectory,
        };
        match (provider, class) {
            (_, Network) => Self::ProviderUnreachable,
            ("opencode", Auth) => Self::OpencodeAuthBlocked,
            ("opencode", RateLimit | Quota | Capacity) => Self::OpencodeRateLimited,
            ("opencode", Server) => Self::OpencodeServerError,
            ("opencode", ModelUnavailable) => Self::OpencodeModelUnavailable,
            ("opencode", AgentMissing) => Self::OpencodeAgentMissing,
            ("claude-code", Auth) => Self::ClaudeCodeAuthBlocked,
            ("claude-code", RateLimit | Quota | Capacity) => Self::ClaudeCodeRateLimited,
            ("claude-code", ModelUnavailable) => Self::ClaudeCodeModelUnavailable,
            ("claude-code", AgentMissing) => Self::ClaudeCodeAgentMissing,
            ("cc-glm", Auth) => Self::CcGlmAuthBlocked,
            ("cc-glm", RateLimit | Quota | Capacity) => Self::CcGlmRateLimited,
            ("cc-glm", ModelUnavailable) => Self::CcGlmModelUnavailable,
            ("cc-glm", AgentMissing) => Self::CcGlmAgentMissing,
            ("codex", Auth) => Self::CodexAuthBlocked,
            ("codex", RateLimit | Quota | Capacity) => Self::CodexRateLimited,
            ("codex", ModelUnavailable) => Self::CodexModelUnavailable,
            ("gemini", Auth) => Self::GeminiAuthBlocked,
            ("gemini", AuthMissing) => Self::GeminiAuthMissing,
            ("gemini", RateLimit | Quota | Capacity) => Self::GeminiCapacityExhausted,
            ("gemini", UntrustedDirectory) => Self::GeminiUntrustedDirectory,
            (_, Auth) => Self::ProviderAuthBlocked,
            (_, RateLimit | Quota | Capacity) => Self::ProviderRateLimited,
            (_, ModelUnavailable) => Self::ProviderModelUnavailable,
            _ => Self::ProviderReportedError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_round_trip() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ReasonCode::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            assert!(!code.meaning().is_empty() && !code.next_action().is_empty());
        }
    }

    #[test]
    fn only_what_is_a_providers_fault_goes_to_another() {
        for class in
            [ErrorClass::Auth, ErrorClass::RateLimit, ErrorClass::ModelUnavailable, ErrorClass::Network]
        {
            for provider in ["opencode", "claude-code", "cc-glm", "gemini", "codex", "exec"] {
                let code = ReasonCode::of_agent_error(provider, class);
                assert!(code.allows_fallback(), "{provider} {class:?}: {code}");
            }
        }
        for code in [
            ReasonCode::AuthResolutionFailed,
            ReasonCode::TokenFileError,
            ReasonCode::CcGlmBinaryMissing,
            ReasonCode::CodexBinaryMissing,
            ReasonCode::CodexSandboxRefused,
            ReasonCode::GeminiBinaryMissing,
            ReasonCode::GeminiAuthMissing,
        ] {
            assert!(code.allows_fallback(), "{code}");
        }
        // Somebody chose not to trust the worktree: another agent in it is not the answer.
        assert!(!ReasonCode::GeminiUntrustedDirectory.allows_fallback());
        for code in ReasonCode::ALL.iter().filter(|code| code.allows_fallback()) {
            assert!(
                !matches!(
                    code.exit_code(),
                    ExitCode::Usage | ExitCode::PermissionDenied | ExitCode::Conflict | ExitCode::Scope
                ),
                "{code} is the caller's fault"
            );
        }
        for code in [ReasonCode::ModelNotAllowed, ReasonCode::OpencodeModelUnsupported] {
            assert!(!code.allows_fallback() && !code.is_of_provider() && !code.is_of_account(), "{code}");
        }
        for code in [ReasonCode::OpencodeModelUnavailable, ReasonCode::ModelNotFound] {
            assert!(code.is_of_provider() && code.is_of_model() && !code.is_of_account(), "{code}");
        }
    }
}
