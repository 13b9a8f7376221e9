//! What the program tells about itself: schemas, exit codes, completions, the generated reference.

use crate::{document, environment};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn every_schema_is_valid_and_unknown_ones_are_refused() {
    let env = environment();
    let names = env.run(&["schema"]).assert_code(0).stdout;
    for name in names.lines() {
        let text = env.run(&["schema", name]).assert_code(0).stdout;
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
    }
    for name in
        ["status", "check", "action", "actions", "dry-run", "prune", "event", "error", "obs", "outcome"]
    {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    let listed = document(&env, "schemas", &env.run(&["schema", "--json"]).assert_code(0).stdout);
    assert_eq!(listed["names"].as_array().unwrap().len(), names.lines().count());
    let output = env.run(&["schema", "nothing"]).assert_code(64);
    assert!(output.stderr.contains("status"), "{}", output.stderr);
}

#[test]
fn exit_codes_are_a_table_and_a_document() {
    let env = environment();
    let text = env.run(&["exit-codes"]).assert_code(0).stdout;
    let found = text.lines().any(|line| line.split_whitespace().take(2).eq(["23", "no_op"]));
    assert!(found && text.starts_with("CODE"), "{text}");
    let listed = document(&env, "exit-codes", &env.run(&["exit-codes", "--json"]).assert_code(0).stdout);
    let codes = listed["exit_codes"].as_array().unwrap();
    assert!(codes.iter().any(|row| row["code"] == 64 && row["name"] == "usage"));
}

#[test]
fn completions_for_each_shell() {
    let env = environment();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = env.run(&["completions", shell]).assert_code(0).stdout;
        assert!(script.contains("dx-runner") && script.contains("finalize"), "{shell}");
        assert!(!script.contains("__settle"), "{shell}");
    }
    env.run(&["completions", "tcl"]).assert_code(64);
}

#[test]
fn the_generated_reference_is_the_same_everywhere() {
    let env = environment();
    env.run(&["__reference", "one"]).assert_code(0);
    let mut other = env.product();
    other.args(["__reference", "two"]).env("COLUMNS", "40").env("LANG", "C").env("DX_RUNNER_STATE_DIR", "/x");
    env.run_command(other).assert_code(0);
    let (one, two) = (files(&env.path("one")), files(&env.path("two")));
    assert_eq!(one, two);
    for name in ["cli.md", "exit-codes.md", "reason-codes.md", "schemas/status.json"] {
        assert!(one.contains_key(name), "{name}");
    }
    let root = env.root().display().to_string();
    assert!(
        one.values().all(|content| !content.contains(&root)),
        "a path of this machine is in the reference"
    );
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(below, content)| (format!("{name}/{below}"), content)),
            );
        } else {
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}
