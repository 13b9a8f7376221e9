//! Arguments of the tools that ask models.
//!
//! Must never: put a prompt among a command's arguments.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::run::Run;
use super::{Arguments, Argv, Work, slice};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dispatch {
    /// What is asked.
    prompt: String,
    /// Who is asked, as `opencode:PROVIDER/MODEL`, `openai:NAME/MODEL`, `claude:MODEL`, `gemini:MODEL` or `codex:MODEL`.
    member: Option<String>,
    /// Model provider of the OpenCode server; replaces the route's.
    provider: Option<String>,
    /// Model of the provider; replaces the route's.
    model: Option<String>,
    /// Ask the model that `routes` has for this kind of task.
    task_type: Option<String>,
    /// A system prompt.
    system: Option<String>,
    /// A JSON schema that the answer must fit.
    json_schema: Option<Map<String, Value>>,
    /// A session to go on with.
    session: Option<String>,
    /// Keep the session.
    #[serde(default)]
    keep_session: bool,
    /// Deadline; 120 when left out.
    timeout_seconds: Option<u32>,
    /// Return a handle after so long; 45 when left out, at most 55, 0 for at once.
    wait_seconds: Option<u64>,
    /// Show so many characters of the answer; 50000 when left out, 0 for all.
    max_chars: Option<u64>,
    /// A folder whose files the model may read.
    directory: Option<String>,
    /// Address of an OpenCode server; the one of `server start` when left out.
    server: Option<String>,
}

impl Arguments for Dispatch {
    fn work(self) -> Result<Work, String> {
        let run = Argv::new(&["dispatch", "--prompt-file=-"])
            .opt("member", self.member)
            .opt("provider", self.provider)
            .opt("model", self.model)
            .opt("task-type", self.task_type)
            .opt("system", self.system)
            .opt("session", self.session)
            .flag("keep-session", self.keep_session)
            .opt("timeout", self.timeout_seconds)
            .opt("max-chars", self.max_chars)
            .opt("directory", self.directory)
            .opt("server", self.server)
            .run();
        Ok(Work::Run(Run {
            stdin: Some(self.prompt),
            schema: self.json_schema.map(Value::Object),
            patience: Some(slice(self.wait_seconds)),
            ..run
        }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchDispatch {
    /// What is asked.
    prompt: String,
    /// Who is asked, each as for `dispatch`; at least two.
    #[serde(default)]
    members: Vec<String>,
    /// Instead of members: the models that `routes` has for these kinds of tasks.
    #[serde(default)]
    task_types: Vec<String>,
    /// Instead of members: all models of a tier of `routes`, 1 to 6.
    tier: Option<u64>,
    /// So many answers are enough; all are wanted when left out.
    quorum: Option<u64>,
    /// A member that judges the answers, without names and in two orders.
    judge: Option<String>,
    /// Tell which answers are the same.
    #[serde(default)]
    compare: bool,
    /// A system prompt.
    system: Option<String>,
    /// A JSON schema that the answers must fit.
    json_schema: Option<Map<String, Value>>,
    /// Deadline of each member; 120 when left out.
    timeout_seconds: Option<u32>,
    /// Show so many characters of each answer; 50000 when left out, 0 for all.
    max_chars: Option<u64>,
    /// A folder whose files the models may read.
    directory: Option<String>,
    /// Address of an OpenCode server; the one of `server start` when left out.
    server: Option<String>,
}

impl Arguments for BatchDispatch {
    fn work(self) -> Result<Work, String> {
        let run = Argv::new(&["batch", "--prompt-file=-", "--detach"])
            .many("members", &self.members)
            .many("task-types", &self.task_types)
            .opt("tier", self.tier)
            .opt("quorum", self.quorum)
            .opt("judge", self.judge)
            .flag("compare", self.compare)
            .opt("system", self.system)
            .opt("timeout", self.timeout_seconds)
            .opt("max-chars", self.max_chars)
            .opt("directory", self.directory)
            .opt("server", self.server)
            .run();
        Ok(Work::Run(Run { stdin: Some(self.prompt), schema: self.json_schema.map(Value::Object), ..run }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchShow {
    /// The batch's id.
    id: String,
    /// Wait so long for its end; 45 when left out, at most 55, 0 to look only.
    wait_seconds: Option<u64>,
}

impl Arguments for BatchShow {
    fn work(self) -> Result<Work, String> {
        let show = Argv::new(&["batch", "show"]).word(self.id)?.run();
        Ok(Work::Batch { show, seconds: slice(self.wait_seconds) })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Routes {
    /// Compare with what the OpenCode server really offers.
    #[serde(default)]
    check: bool,
    /// Address of an OpenCode server.
    server: Option<String>,
}

impl Arguments for Routes {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["routes"]).flag("check", self.check).opt("server", self.server).run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Models {
    /// Only this model provider, connected or not.
    provider: Option<String>,
    /// Address of an OpenCode server.
    server: Option<String>,
}

impl Arguments for Models {
    fn work(self) -> Result<Work, String> {
        let run = Argv::new(&["models"]).opt("provider", self.provider).opt("server", self.server).run();
        Ok(Work::Run(run))
    }
}
