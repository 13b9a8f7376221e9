//! The real OpenCode loads the pack. What it makes of each agent's rules is the table of roles, and `check --live` sees where it
//! is not.
//!
//! Needs `DX_TEST_AGENTS_DIR`, as the tests of jobs with real agents do.

use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// An environment with the real OpenCode.
pub(super) fn world(agents: &Path) -> TestEnv {
    let mut env = environment().deadline(Duration::from_mins(4));
    env.link_program("opencode", agents.join("opencode"));
    env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    env
}

#[track_caller]
fn check(env: &TestEnv, code: i32, more: &[&str]) -> Value {
    let output = env.run(&[&["workflow", "check", "--live", "--json"], more].concat()).assert_code(code);
    document(env, "workflow-check", &output.stdout)
}

#[test]
fn the_real_opencode_loads_all_agents_with_the_rules_of_the_table() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let env = world(&agents);
    let _turn = crate::opencode::turn();
    let package = check(&env, 0, &[]);
    assert_eq!(package["findings"], serde_json::json!([]));
    assert!(package["live"].as_str().unwrap().starts_with("1."), "{package}");
    assert!(!env.path("xdg/config/opencode").exists(), "the user's configuration is left alone");
    let scope = ["--scope", "global"];
    env.run(&["workflow", "install"]).assert_code(0);
    assert_eq!(check(&env, 0, &scope)["findings"], serde_json::json!([]));
    // A rule of the user's that comes after, and a definition that is gone.
    let config =
        r#"{ "agent": { "validator": { "permission": { "edit": "allow" } }, "init": { "disable": true } } }"#;
    std::fs::write(env.path("xdg/config/opencode/opencode.json"), config).unwrap();
    let found = check(&env, 1, &scope);
    let rows: Vec<_> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["file"].as_str().unwrap(), row["rule"].as_str().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [("agents/init.md", "live_missing"), ("agents/validator.md", "live_rules")],
        "{found:#}"
    );
}

#[test]
fn without_opencode_there_is_no_live_check() {
    let mut env = environment();
    env.set("PATH", env.path("nowhere"));
    let output = env.run(&["workflow", "check", "--live", "--json"]).assert_code(21);
    assert!(output.stderr.contains("opencode_binary_missing"), "{output}");
}
