//! The command line from outside: what is printed where, exit codes, documents against their schemas.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod agent_names;
mod apply;
mod bench;
mod bundle;
mod cc_glm;
mod claude;
mod clients;
mod codex;
mod concurrency;
mod config;
mod demo;
mod detached;
mod disk;
mod docs;
mod gates;
mod gates_at_end;
mod gc;
mod gemini;
mod git_safety;
mod health;
mod history;
mod huge;
mod jobs;
mod json;
pub(crate) mod kills;
mod launch;
mod manifests;
mod masking;
mod mcp;
mod members;
mod notify;
mod opencode;
mod preflight;
mod profile_keys;
mod profiles;
mod progressive;
mod pty;
mod queue;
mod real_agent;
mod records;
mod reference;
mod report;
mod restart;
mod sandbox;
mod scripts;
mod seeds;
mod server;
mod states;
mod stop;
mod task_run;
mod tasks;
mod truth;
mod usage;
mod warm_start;
mod watchdog;
mod wave;
mod work_verdict;
mod workflow;
mod worktree;
mod worktrees;
mod world;

use dx_testkit::TestEnv;
use serde_json::Value;

/// An environment whose product is this package's binary.
fn environment() -> TestEnv {
    TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner"))
}

/// Reads one document and holds it against the schema that the program itself prints.
#[track_caller]
fn document(env: &TestEnv, schema: &str, text: &str) -> Value {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let printed = env.run(&["schema", schema]).assert_code(0).stdout;
    let schema: Value = serde_json::from_str(&printed).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> = validator.iter_errors(&value).map(|problem| problem.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}: {text}");
    value
}
