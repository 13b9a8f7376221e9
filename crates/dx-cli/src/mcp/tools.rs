//! The tools: what a client may ask for, and which command does it. One table; schemas are made from the types.
//!
//! Called by: the MCP server. Must never: let a value become an option (each stands behind `--name=`), or offer what a
//! person has to approve.

mod jobs;
mod questions;
mod tasks;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Display;

use super::run::Run;
use jobs::{
    JobCheck, JobLogs, JobReport, JobStart, JobStatus, JobStop, JobWait, Preflight, WaveRun, WaveStatus,
};
use questions::{BatchDispatch, BatchShow, Dispatch, Models, Routes};
use tasks::{TaskCheck, TaskList, TaskNew, TaskRun, TaskShow};

pub(super) use jobs::{logs, report};

/// Clients give a call up after a minute or so; an answer comes before.
pub(super) const SLICE_SECONDS: u64 = 45;
const LONGEST_SLICE: u64 = 55;

/// What a call asks for.
#[derive(Debug)]
pub(super) enum Work {
    Run(Run),
    /// Waits for jobs; the second says how they are when the time is up.
    WaitForJobs {
        run: Run,
        then: Vec<Run>,
    },
    /// Shows a batch as soon as it has ended, or when the time is up.
    Batch {
        show: Run,
        seconds: u64,
    },
    /// Goes on waiting for a call that was not finished.
    Wait {
        handle: String,
        seconds: u64,
    },
    Cancel {
        handle: String,
    },
}

/// One tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    description: &'static str,
    /// It changes nothing.
    reads: bool,
    schema: fn() -> Schema,
    make: fn(Value) -> Result<Work, String>,
}

impl Tool {
    /// As `tools/list` shows it.
    pub(super) fn shown(&self) -> Value {
        let mut schema = (self.schema)().to_value();
        plain(&mut schema);
        json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": schema,
            "annotations": { "readOnlyHint": self.reads, "openWorldHint": !self.reads },
        })
    }

    /// The names of its arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let schema = (self.schema)().to_value();
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// What the arguments ask for, or what is wrong with them.
    pub(super) fn work(&self, mut arguments: Value) -> Result<Work, String> {
        whole(&mut arguments);
        (self.make)(arguments)
    }
}

/// A tool of this name.
pub(super) fn named(name: &str) -> Option<&'static Tool> {
    ALL.iter().find(|tool| tool.name == name)
}

/// A tool's arguments.
trait Arguments: DeserializeOwned + JsonSchema {
    fn work(self) -> Result<Work, String>;
}

const fn tool<T: Arguments>(name: &'static str, reads: bool, description: &'static str) -> Tool {
    Tool {
        name,
        description,
        reads,
        schema: || {
            SchemaSettings::draft2020_12()
                .with(|s| s.inline_subschemas = true)
                .into_generator()
                .into_root_schema_for::<T>()
        },
        make: |arguments| {
            let parsed: T = serde_json::from_value(arguments).map_err(|error| error.to_string())?;
            parsed.work()
        },
    }
}

pub(super) const ALL: &[Tool] = &[
    tool::<Dispatch>(
        "dispatch",
        false,
        "Ask one model and get its answer. It changes no file. An answer that takes longer than a call may is fetched with call_wait.",
    ),
    tool::<BatchDispatch>(
        "batch_dispatch",
        false,
        "Ask several models the same at once. Returns the batch's id at once; batch_show waits for the answers.",
    ),
    tool::<BatchShow>(
        "batch_show",
        true,
        "Show a stored batch: its answers so far, summary and verdict. Waits for its end, for a bounded time.",
    ),
    tool::<Routes>("routes", true, "Show which model is asked for which kind of task."),
    tool::<Models>(
        "models",
        true,
        "List the connected model providers of an OpenCode server, and their models.",
    ),
    tool::<JobStart>(
        "job_start",
        false,
        "Start a coding agent as a detached job in a git worktree, and return when it runs. job_wait waits for its end.",
    ),
    tool::<JobWait>(
        "job_wait",
        true,
        "Wait for a bounded time until jobs have ended, and tell how they are. Call it again while `ended` is false.",
    ),
    tool::<JobCheck>("job_check", true, "Tell how one job is: state, reason, next action, verdicts."),
    tool::<JobStatus>(
        "job_status",
        true,
        "List jobs: those that run, and those that ended in the last 24 hours.",
    ),
    tool::<JobLogs>("job_logs", true, "Show the last lines of a job's readable transcript."),
    tool::<JobStop>("job_stop", false, "End jobs with everything that they started."),
    tool::<JobReport>(
        "job_report",
        true,
        "Report everything about one job: outcome, verdicts, files changed, commits, usage.",
    ),
    tool::<WaveRun>(
        "wave_run",
        false,
        "Start a wave (jobs with dependencies, from a TOML file) and return its id; wave_status tells how it goes on.",
    ),
    tool::<WaveStatus>("wave_status", true, "Show a wave: its items, their states, and what is next."),
    tool::<TaskNew>("task_new", false, "Make the folder of a new task and tell its path."),
    tool::<TaskList>("task_list", true, "List the tasks of this project: status, and what each waits for."),
    tool::<TaskShow>(
        "task_show",
        true,
        "Show one task: what it says, its steps, test commands and their exit codes, reports.",
    ),
    tool::<TaskCheck>("task_check", true, "Look for mistakes in specifications, plans and reports of tasks."),
    tool::<TaskRun>(
        "task_run",
        false,
        "Carry out a task: its agents in order, its tests, the validator last. Returns a handle; call_wait tells how it ended.",
    ),
    tool::<Preflight>(
        "preflight",
        true,
        "Check whether providers could run a job here and now. Asks no model.",
    ),
    tool::<CallWait>(
        "call_wait",
        true,
        "Wait, for a bounded time, for a call that returned a handle because it took long.",
    ),
    tool::<CallCancel>("call_cancel", false, "Stop a call that returned a handle, and what it began."),
];

/// The arguments of a command, built so that no value is taken for an option.
struct Argv(Vec<String>);

impl Argv {
    fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn opt(mut self, name: &str, value: Option<impl Display>) -> Self {
        self.0.extend(value.map(|value| format!("--{name}={value}")));
        self
    }

    fn many<T: Display>(mut self, name: &str, values: &[T]) -> Self {
        self.0.extend(values.iter().map(|value| format!("--{name}={value}")));
        self
    }

    fn flag(mut self, name: &str, set: bool) -> Self {
        self.0.extend(set.then(|| format!("--{name}")));
        self
    }

    /// A value that has no option's name.
    fn word(mut self, value: String) -> Result<Self, String> {
        if value.starts_with('-') {
            return Err(format!("`{value}` begins with `-`"));
        }
        self.0.push(value);
        Ok(self)
    }

    fn run(self) -> Run {
        Run { args: self.0, ..Run::default() }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallWait {
    /// What the call returned.
    handle: String,
    /// Wait so long; 45 when left out, at most 55.
    wait_seconds: Option<u64>,
}

impl Arguments for CallWait {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Wait { handle: self.handle, seconds: slice(self.wait_seconds) })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallCancel {
    /// What the call returned.
    handle: String,
}

impl Arguments for CallCancel {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Cancel { handle: self.handle })
    }
}

fn slice(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or(SLICE_SECONDS).min(LONGEST_SLICE)
}

/// Whole numbers that came with a fraction of zero: some models write all their numbers so.
fn whole(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|f| !number.is_u64() && *f >= 0.0 && f.fract() == 0.0)
            {
                *value = json!(float as u64);
            }
        }
        _ => {}
    }
}

/// The schema in the words that all clients and their models understand: a field that may be left out is just not required.
fn plain(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for word in ["$schema", "title", "format", "default"] {
        if map.get(word).is_some_and(|value| !value.is_object()) || word == "default" {
            map.remove(word);
        }
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(plain);
    }
    if let Some(items) = map.get_mut("items") {
        plain(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, arguments: Value) -> Vec<String> {
        match named(name).map(|tool| tool.work(arguments)) {
            Some(Ok(Work::Run(run))) => run.args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn schemas_are_plain_and_closed() {
        for tool in ALL {
            let shown = tool.shown();
            let schema = &shown["inputSchema"];
            assert_eq!(schema["type"], "object", "{shown}");
            assert_eq!(schema["additionalProperties"], false, "{shown}");
            let text = schema.to_string();
            for odd in ["null", "$ref", "$schema", "anyOf", "\"format\""] {
                assert!(!text.contains(odd), "{odd} in {text}");
            }
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                assert!(field["description"].is_string(), "{}: {name}", tool.name);
            }
        }
    }

    #[test]
    fn no_value_becomes_an_option() {
        let hostile = args("job_check", json!({ "beads": "--help", "provider": "--state-dir=/x" }));
        assert_eq!(hostile, ["check", "--beads=--help", "--provider=--state-dir=/x"]);
        for (name, arguments) in [
            ("batch_show", json!({ "id": "--help" })),
            ("wave_run", json!({ "file": "--notify=x" })),
            ("wave_status", json!({ "wave": "-v" })),
            ("task_run", json!({ "task": "--again" })),
            ("task_new", json!({ "title": "-x" })),
            ("job_stop", json!({ "beads": [] })),
            ("job_check", json!({ "beads": "a", "force": true })),
            ("job_check", json!({ "beads": 7 })),
            ("job_check", json!({})),
            ("job_check", json!(null)),
        ] {
            assert!(named(name).unwrap().work(arguments.clone()).is_err(), "{name} {arguments}");
        }
        let start = args("job_start", json!({ "provider": "exec", "command": ["ls", "--json"] }));
        assert_eq!(start, ["start", "--provider=exec", "--worktree=auto", "--", "ls", "--json"]);
    }

    #[test]
    fn a_prompt_is_no_argument_and_numbers_may_have_a_fraction_of_zero() {
        let tool = named("dispatch").unwrap();
        let work = tool.work(json!({ "prompt": "SECRET", "timeout_seconds": 30.0, "json_schema": {} }));
        let Ok(Work::Run(run)) = work else { panic!("{work:?}") };
        assert_eq!(run.args, ["dispatch", "--prompt-file=-", "--timeout=30"]);
        assert_eq!((run.stdin.as_deref(), run.schema), (Some("SECRET"), Some(json!({}))));
    }
}
