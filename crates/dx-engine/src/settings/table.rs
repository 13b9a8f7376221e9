//! The one table of settings: key, kind, rule, default, variable, flag, in which files it may stand, what it does.
//!
//! Files, variables and flags are read by this table; `config show`, `config explain`, `config init` and the reference are
//! made from it. Must never: be repeated somewhere else.

use super::value::{Kind, Unit};
use crate::providers::Providers;
use dx_core::settings::{Rule, Scale, Value};
use dx_protocol::Limits;

/// In a family, what stands for the providers that have no word of their own.
pub(crate) const COMMON: &str = "default";

/// The variable that speaks for a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Env {
    None,
    Var(&'static str, Unit),
    /// This, and the provider's name in upper case.
    PerProvider(&'static str),
    /// The one that the provider's own program is known for.
    Model,
}

/// The value when nobody says anything.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Preset {
    /// There is none, or it follows from something else.
    None,
    Off,
    Empty,
    Text(&'static str),
    Number(u64),
    /// That of the contract's limits, as it is.
    Limit(fn(&Limits) -> u64),
    /// The same, there in seconds.
    Seconds(fn(&Limits) -> u64),
}

impl Preset {
    pub(crate) fn value(self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Off => Some(Value::Bool(false)),
            Self::Empty => Some(Value::List(Vec::new())),
            Self::Text(text) => Some(Value::Text(text.to_owned())),
            Self::Limit(of) => Some(Value::Number(of(&Limits::default()))),
            Self::Number(number) => Some(Value::Number(number)),
            Self::Seconds(of) => Some(Value::Number(of(&Limits::default()) * 1000)),
        }
    }
}

/// In which files a setting may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// Only in the user's own.
    User,
    /// Only in the project's.
    Project,
    UserProject,
    All,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// As in `[table] key`; of a family the part before the provider's name, with a dot.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) rule: Rule,
    pub(crate) default: Preset,
    pub(crate) env: Env,
    pub(crate) flag: Option<&'static str>,
    pub(crate) files: Files,
    pub(crate) doc: &'static str,
}

impl Setting {
    /// Whether there is one for each provider.
    pub(crate) fn is_family(&self) -> bool {
        self.key.ends_with('.')
    }

    /// All keys of it: of a family one for each provider, and the one for all others.
    pub(crate) fn keys(&self, providers: &Providers) -> Vec<String> {
        if !self.is_family() {
            return vec![self.key.to_owned()];
        }
        let mut names = providers.names();
        names.push(COMMON.to_owned());
        names.sort_unstable();
        names.into_iter().map(|name| format!("{}{name}", self.key)).collect()
    }

    /// The one variable that speaks for it.
    pub(crate) fn variable(&self) -> Option<&'static str> {
        match self.env {
            Env::Var(name, _) => Some(name),
            _ => None,
        }
    }

    /// Whether this is the setting that the key names.
    pub(crate) fn has_key(&self, key: &str, providers: &Providers) -> bool {
        if self.is_family() {
            key.strip_prefix(self.key).is_some_and(|name| name == COMMON || providers.knows(name))
        } else {
            key == self.key
        }
    }
}

macro_rules! settings {
    ($($name:ident: $key:literal, $kind:expr, $rule:expr, $default:expr, $env:expr, $flag:expr, $files:expr, $doc:literal;)*) => {
        $(#[doc = $doc] pub(crate) static $name: Setting = Setting {
            key: $key, kind: $kind, rule: $rule, default: $default, env: $env, flag: $flag, files: $files, doc: $doc,
        };)*
        /// All settings in the order of the reference.
        pub(crate) static ALL: &[&Setting] = &[$(&$name,)*];
    };
}

const LIMIT: Rule = Rule::Tighten(Scale::NumberOrNever);
const COUNT: Kind = Kind::Number("a whole number");

#[rustfmt::skip]
settings! {
    // What a job is started with.
    PROVIDER: "provider", Kind::Provider, Rule::Replace, Preset::None, Env::None, Some("--provider"), Files::All,
        "The adapter that runs the agent, for a `start` without `--provider`.";
    MODEL: "model", Kind::Text, Rule::Replace, Preset::None, Env::Model, Some("--model"), Files::All,
        "The model, in the provider's words. The provider's list of allowed models applies.";
    ALLOW_MODEL_OVERRIDE: "allow_model_override", Kind::Bool, Rule::Tighten(Scale::TruePermits), Preset::Off, Env::None, Some("--allow-model-override"), Files::All,
        "Accept a model that is not on the provider's list of allowed ones.";
    FALLBACK: "fallback", Kind::Texts, Rule::Replace, Preset::Empty, Env::None, None, Files::All,
        "Providers to take, in this order, when the first cannot be started: not installed, not logged in, without the model, at its cap.";
    ALLOWED_MODELS: "allowed_models", Kind::Texts, Rule::Add, Preset::Empty, Env::None, None, Files::All,
        "The model of a job must be one of these; empty: any. Every layer's list counts by itself.";
    AGENT: "agent", Kind::Text, Rule::Replace, Preset::None, Env::None, Some("--agent"), Files::All,
        "The agent definition to run, in the provider's words.";
    LANE: "lane", Kind::Words(dx_protocol::LANE_WORDS), Rule::Replace, Preset::Text("run"), Env::None, Some("--lane"), Files::All,
        "How the provider is executed: a process of its own, a session of an OpenCode server, or a client of one.";
    PTY: "pty", Kind::Bool, Rule::Replace, Preset::Off, Env::None, Some("--pty"), Files::All,
        "Run the agent on a pseudo-terminal.";
    ENV: "env", Kind::Variables, Rule::GrantNames, Preset::Empty, Env::None, Some("--env"), Files::All,
        "Variables for the agent: `NAME` passes the caller's value on, `NAME=VALUE` is recorded as it is. Never a secret's value.";
    MAX_RUNTIME: "max_runtime", Kind::Millis, LIMIT, Preset::Seconds(|l| l.max_runtime_sec), Env::Var("DX_RUNNER_MAX_RUNTIME_MINUTES", Unit::Minutes), Some("--max-runtime"), Files::All,
        "A job is ended after this long; 0: never.";
    NO_MUTATION_TIMEOUT: "no_mutation_timeout", Kind::Millis, LIMIT, Preset::Seconds(|l| l.no_mutation_sec), Env::Var("DX_RUNNER_NO_MUTATION_TIMEOUT_MINUTES", Unit::Minutes), Some("--no-mutation-timeout"), Files::All,
        "A job is ended when nothing changed in its worktree for this long; 0: never.";
    STALL: "stall", Kind::Millis, Rule::Replace, Preset::Seconds(|l| l.stall_sec), Env::Var("DX_RUNNER_STALL_SEC", Unit::Seconds), Some("--stall-minutes"), Files::All,
        "A job without progress for this long is called stalled.";
    STARTUP_GRACE: "startup_grace", Kind::Millis, Rule::Replace, Preset::Seconds(|l| l.startup_grace_sec), Env::Var("DX_RUNNER_STARTUP_GRACE_SEC", Unit::Seconds), None, Files::All,
        "The time an agent has for its first output before its health is judged.";
    NO_OP: "no_op", Kind::Millis, Rule::Replace, Preset::Seconds(|l| l.no_op_sec), Env::Var("DX_RUNNER_NO_OP_SEC", Unit::Seconds), None, Files::All,
        "A job that shows nothing at all for this long is called a no-op.";
    GRACE: "grace", Kind::Millis, Rule::Tighten(Scale::Number), Preset::Limit(|l| l.grace_ms), Env::Var("DX_RUNNER_GRACE_MS", Unit::One), None, Files::All,
        "The time between the request to end and the kill.";
    MAX_LOG_BYTES: "max_log_bytes", COUNT, LIMIT, Preset::Limit(|l| l.max_log_bytes), Env::Var("DX_RUNNER_MAX_LOG_BYTES", Unit::One), None, Files::All,
        "A job is ended when its output grows beyond this; 0: never.";
    MAX_BARREN_STEPS: "max_barren_steps", COUNT, LIMIT, Preset::Limit(|l| l.max_barren_steps), Env::Var("DX_RUNNER_MAX_BARREN_STEPS", Unit::One), None, Files::All,
        "A job is ended after this many turns in a row without text, tool or output token; 0: never.";
    MAX_FAILED_CALLS: "max_failed_calls", COUNT, LIMIT, Preset::Limit(|l| l.max_failed_calls), Env::None, None, Files::All,
        "A job is ended after this many failed tool calls in a row; 0: never.";
    REQUIRE_COMMIT: "require_commit", Kind::Bool, Rule::Tighten(Scale::TrueDemands), Preset::Off, Env::None, Some("--require-commit"), Files::All,
        "A job must have moved HEAD forward at its end.";
    READ_ONLY: "read_only", Kind::Bool, Rule::Tighten(Scale::TrueDemands), Preset::Off, Env::None, Some("--read-only"), Files::All,
        "Nothing in the worktree may change: a sandbox keeps the agent from it, and a job that did all the same has failed.";
    SCOPE: "scope", Kind::Texts, Rule::Add, Preset::Empty, Env::None, Some("--scope"), Files::All,
        "Every changed path must match one of these patterns; empty: any. Every layer's list counts by itself.";
    FORBIDDEN: "forbidden", Kind::Texts, Rule::Add, Preset::Empty, Env::None, None, Files::All,
        "No changed path may match one of these patterns, beside those that never may.";
    MUTATION_BUDGET: "mutation_budget", COUNT, Rule::Tighten(Scale::Number), Preset::None, Env::None, Some("--mutation-budget"), Files::All,
        "No more paths than this may change.";
    REQUIRED_BASELINE: "required_baseline", Kind::Text, Rule::Add, Preset::None, Env::None, Some("--required-baseline"), Files::All,
        "A job starts only where HEAD contains this commit.";
    FEATURE_KEY: "feature_key", Kind::Text, Rule::Add, Preset::None, Env::None, Some("--feature-key"), Files::All,
        "Every commit of a job must carry the trailer `Feature-Key:` with this key; `job` stands for the job's id.";
    BEADS: "beads", Kind::Bool, Rule::Tighten(Scale::TrueDemands), Preset::Off, Env::None, Some("--beads-gate"), Files::All,
        "A job starts only where Beads can be used.";
    SIGNOFF_FILE: "signoff_file", Kind::Text, Rule::Add, Preset::None, Env::None, Some("--signoff-file"), Files::All,
        "Every claim in this file of the worktree must be true at the end; the commands that it names are run with the check.";
    CHECK: "check", Kind::Text, Rule::Add, Preset::None, Env::None, Some("--check"), Files::All,
        "This command must end with 0 in the worktree after the agent. Every layer's command is run.";
    NESTING: "nesting", Kind::Bool, Rule::Tighten(Scale::TruePermits), Preset::Off, Env::None, None, Files::All,
        "A job may start jobs. The state directory is writable for it then; what it starts ends with it.";
    CHECK_TIMEOUT: "check_timeout", Kind::MillisAboveZero, Rule::Tighten(Scale::Number), Preset::Seconds(|l| l.check_sec), Env::Var("DX_RUNNER_CHECK_TIMEOUT_SEC", Unit::Seconds), None, Files::All,
        "The command of `--check` is ended after this long.";
    SANDBOX: "sandbox", Kind::Words(&["off", "auto", "strict"]), Rule::Tighten(Scale::Words(&["off", "auto", "strict"])), Preset::Text("auto"), Env::None, Some("--sandbox"), Files::All,
        "`strict` confines what the agent can write and is refused where the kernel cannot, `auto` is strict where the kernel can, `off` gives it all rights of its user.";
    SANDBOX_WRITE: "sandbox_write", Kind::Paths, Rule::Grant, Preset::Empty, Env::Var("DX_RUNNER_SANDBOX_WRITE", Unit::One), None, Files::All,
        "More that a confined agent may write.";
    // What holds for all jobs.
    SANDBOX_CACHES: "sandbox_caches", Kind::Paths, Rule::Replace, Preset::None, Env::Var("DX_RUNNER_SANDBOX_CACHES", Unit::One), None, Files::User,
        "Caches that a confined agent may write, in the place of the built-in list; empty for none.";
    SANDBOX_HIDE: "sandbox_hide", Kind::Paths, Rule::Replace, Preset::None, Env::Var("DX_RUNNER_SANDBOX_HIDE", Unit::One), None, Files::User,
        "What a confined agent may not read, in the place of the built-in list; empty for none.";
    BEADS_REPO_PATH: "beads_repo_path", Kind::Path, Rule::Replace, Preset::None, Env::Var("BEADS_REPO_PATH", Unit::One), None, Files::User,
        "The external Beads repository. Default: `~/bd`.";
    BEADS_REMOTE: "beads_remote", Kind::Text, Rule::Replace, Preset::Text("stars-end/bd"), Env::Var("BEADS_REPO_REMOTE_SUBSTR", Unit::One), None, Files::User,
        "What the address of its origin must contain.";
    BEADS_TIMEOUT: "beads_timeout", Kind::MillisAboveZero, Rule::Replace, Preset::Number(20_000), Env::None, None, Files::User,
        "A call of `bd` is ended after this long.";
    MAX_PARALLEL: "max_parallel.", COUNT, Rule::Tighten(Scale::Number), Preset::None, Env::PerProvider("DX_RUNNER_MAX_PARALLEL_"), None, Files::All,
        "Jobs of a provider that may run at once: `max_parallel.<provider>`, and `max_parallel.default` for those not named.";
    ALLOWED_PREFIXES: "allowed_prefixes", Kind::Paths, Rule::Grant, Preset::Empty, Env::Var("DX_RUNNER_EXTRA_ALLOWED_PREFIXES", Unit::Lenient), None, Files::UserProject,
        "Folders below which worktrees may lie, beside the built-in ones.";
    PROTECTED_CHECKOUTS: "protected_checkouts", Kind::Paths, Rule::Add, Preset::Empty, Env::None, None, Files::UserProject,
        "Checkouts in which no job may work, whatever else is allowed. Worktrees of them may lie in them.";
    ADAPTERS_DIR: "adapters_dir", Kind::Path, Rule::Replace, Preset::None, Env::Var("DX_RUNNER_ADAPTERS_DIR", Unit::One), None, Files::User,
        "A folder of adapter scripts: `NAME.sh` in it is provider NAME.";
    WORKTREE_ROOT: "worktree.root", Kind::Path, Rule::Replace, Preset::None, Env::Var("DX_RUNNER_WORKTREE_ROOT", Unit::One), None, Files::User,
        "Where `--worktree auto` makes worktrees; jobs may always work there. Default: `dx-runner/worktrees` in `$XDG_DATA_HOME`.";
    WORKTREE_BUDGET: "worktree.budget", Kind::Bytes, Rule::Replace, Preset::None, Env::Var("DX_RUNNER_WORKTREE_BUDGET", Unit::One), None, Files::User,
        "The most disk that all worktrees together may use.";
    WORKTREE_SETUP: "worktree.setup", Kind::Texts, Rule::Replace, Preset::Empty, Env::None, None, Files::Project,
        "Commands that are run once in a new worktree.";
    WORKTREE_COPY: "worktree.copy", Kind::Texts, Rule::Replace, Preset::Empty, Env::None, None, Files::Project,
        "Files and folders that are copied from the main checkout into a new worktree.";
    OPENCODE_CANONICAL_MODEL: "opencode.canonical_model", Kind::Text, Rule::Replace, Preset::Text("zhipuai-coding-plan/glm-5"), Env::Var("OPENCODE_CANONICAL_MODEL", Unit::One), None, Files::User,
        "OpenCode's model when none is named.";
    OPENCODE_ALLOWED_MODELS: "opencode.allowed_models", Kind::Texts, Rule::Narrow, Preset::None, Env::Var("OPENCODE_ALLOWED_MODELS", Unit::One), None, Files::UserProject,
        "Models that may be asked for with OpenCode. Default: the canonical one and `zai-coding-plan/glm-5`.";
    CLAUDE_CODE_ALLOWED_MODELS: "claude-code.allowed_models", Kind::Texts, Rule::Narrow, Preset::None, Env::Var("CLAUDE_CODE_ALLOWED_MODELS", Unit::One), None, Files::UserProject,
        "Models that may be asked for with Claude Code. Default: all.";
    CODEX_ALLOWED_MODELS: "codex.allowed_models", Kind::Texts, Rule::Narrow, Preset::None, Env::Var("CODEX_ALLOWED_MODELS", Unit::One), None, Files::UserProject,
        "Models that may be asked for with Codex. Default: all.";
    CC_GLM_BASE_URL: "cc-glm.base_url", Kind::Text, Rule::Replace, Preset::Text("https://api.z.ai/api/anthropic"), Env::Var("CC_GLM_BASE_URL", Unit::One), None, Files::User,
        "Where provider `cc-glm` finds its model; the key is sent there.";
    CC_GLM_CANONICAL_MODEL: "cc-glm.canonical_model", Kind::Text, Rule::Replace, Preset::Text("glm-5"), Env::Var("CC_GLM_CANONICAL_MODEL", Unit::One), None, Files::User,
        "The model of `cc-glm` when none is named.";
    CC_GLM_ALLOWED_MODELS: "cc-glm.allowed_models", Kind::Texts, Rule::Narrow, Preset::None, Env::Var("CC_GLM_ALLOWED_MODELS", Unit::One), None, Files::UserProject,
        "Models that may be asked for with `cc-glm`. Default: the canonical one, `glm-5.1`, `glm-4.7` and `glm-4.5-air`.";
    GEMINI_CANONICAL_MODEL: "gemini.canonical_model", Kind::Text, Rule::Replace, Preset::Text("gemini-3-flash-preview"), Env::Var("GEMINI_CANONICAL_MODEL", Unit::One), None, Files::User,
        "The model of Gemini CLI when none is named.";
    GEMINI_ALLOWED_MODELS: "gemini.allowed_models", Kind::Texts, Rule::Narrow, Preset::None, Env::Var("GEMINI_ALLOWED_MODELS", Unit::One), None, Files::UserProject,
        "Models that may be asked for with Gemini CLI. Default: all.";
    GEMINI_NO_YOLO: "gemini.no_yolo", Kind::Bool, Rule::Tighten(Scale::TrueDemands), Preset::Off, Env::Var("GEMINI_NO_YOLO", Unit::One), None, Files::UserProject,
        "Gemini CLI gets no `--yolo`: it cannot write, nor run commands, but for what its own policies allow.";
    ROUTES: "routes", Kind::Texts, Rule::Replace, Preset::Empty, Env::None, None, Files::User,
        "Which model is asked for a task type, in the place of the built-in one: `TASK-TYPE=PROVIDER/MODEL`.";
    ENDPOINTS: "endpoints", Kind::Texts, Rule::Replace, Preset::Empty, Env::None, None, Files::User,
        "OpenAI-compatible endpoints for members `openai:NAME/MODEL`: `NAME=URL`, or `NAME=URL VARIABLE` with the variable that holds the key.";
}

/// The setting of a full key.
pub(crate) fn find(key: &str, providers: &Providers) -> Option<&'static Setting> {
    ALL.iter().copied().find(|setting| setting.has_key(key, providers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_sound() {
        let keys: BTreeSet<&str> = ALL.iter().map(|s| s.key).collect();
        assert_eq!(keys.len(), ALL.len());
        for setting in ALL {
            assert!(setting.doc.ends_with('.'), "{}", setting.key);
            if let Some(value) = setting.default.value() {
                assert!(setting.kind.fits(&value), "{}: {value:?}", setting.key);
                if let Rule::Tighten(scale) = setting.rule {
                    assert!(scale.looseness(&value) > 0 || value == Value::Bool(false), "{}", setting.key);
                }
            }
        }
        let find = |key| find(key, &Providers::default());
        assert!(find("max_parallel.opencode").is_some() && find("max_parallel.").is_none());
        assert!(
            find("max_parallel.exce").is_none()
                && find("max_parallel.default").is_some()
                && find("max_runtime").is_some()
        );
    }
}
