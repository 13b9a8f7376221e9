//! `workflow models` with the models that the real OpenCode lists.

use super::install::tree;
use super::live::world;
use crate::document;
use crate::world::{read, write};
use dx_testkit::TestEnv;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const COMMENTED: &str = "{\n  // mine\n  \"theme\": \"dark\", /* too */\n  \"agent\": {\n    \"orchestrator\": { \"model\": \"mock/m2\" }, // chosen\n    \
                         \"research\": { \"model\": \"mock/old\", \"variant\": \"low\", },\n  },\n}\n";

fn ask(env: &TestEnv, top: &Path, args: &[&str]) -> Command {
    let mut command = env.product();
    command.current_dir(top).args(["workflow", "models"]).args(args).arg("--json");
    command
}

#[test]
fn groups_are_written_after_a_yes_and_everything_else_stays() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let mut env = world(&agents);
    let mut config = dx_scripted_model::opencode_config("http://127.0.0.1:1/v1");
    config["provider"]["mock"]["models"]["m1"]["variants"] = json!({ "deep": { "reasoningEffort": "high" } });
    env.set("OPENCODE_CONFIG_CONTENT", config.to_string());
    let top = env.git_repo("app", &[("a.txt", "one\n")]);
    let document_of = |command: Command| -> Value {
        document(&env, "workflow-models", &env.run_command(command).assert_code(0).stdout)
    };
    let refused = |code: i32, args: &[&str]| {
        crate::world::error_of(&env, &env.run_command(ask(&env, &top, args)).assert_code(code))
    };
    // OpenCode would write beside each of these.
    let folders = [env.path("xdg/config"), env.home().join(".opencode"), top.clone()];
    for file in [env.path("xdg/config/opencode/opencode.json"), env.home().join(".opencode/opencode.json")] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        write(file, "{ }\n");
    }
    let all = || folders.each_ref().map(|folder| tree(folder));
    let before = all();
    let shown = document_of(ask(&env, &top, &[]));
    assert!(
        all() == before,
        "showing changes nothing: {:?}",
        all().map(|tree| tree.into_keys().collect::<Vec<_>>())
    );
    let available =
        json!([{ "model": "mock/m1", "variants": ["deep"] }, { "model": "mock/m2", "variants": [] }]);
    assert_eq!((&shown["available"], shown["agents"].as_array().unwrap().len()), (&available, 9));
    assert!(!top.join("opencode.jsonc").exists());

    let set = ["set", "--med", "mock/m1", "--low", "mock/m2"];
    assert_eq!(refused(34, &set)["reason_code"], "consent_needed");
    assert!(!top.join("opencode.jsonc").exists(), "nothing without a yes");
    let error = refused(25, &["set", "--med", "mock/m9", "--low", "mock/m2", "--yes"]);
    assert!(error["next_action"].as_str().unwrap().contains("mock/m1, mock/m2"), "{error}");
    let error = refused(25, &["set", "--med", "mock/m1", "--low", "mock/m2", "--variant", "wide", "--yes"]);
    assert_eq!(error["next_action"], "one of deep");

    // None is there: one is made.
    let yes = [&set[..], &["--yes"]].concat();
    let made = document_of(ask(&env, &top, &yes));
    assert_eq!(
        (&made["changed"], &made["file"]),
        (&true.into(), &top.join("opencode.jsonc").display().to_string().into())
    );
    let text: Value = serde_json::from_str(&read(top.join("opencode.jsonc"))).unwrap();
    assert_eq!(text["agent"]["validator"], json!({ "model": "mock/m1" }));
    assert_eq!(text["agent"]["shipper"], json!({ "model": "mock/m2" }));
    assert_eq!(document_of(ask(&env, &top, &yes))["changed"], false);

    // In the other place, with comments and commas; a variant only where there is one.
    std::fs::remove_file(top.join("opencode.jsonc")).unwrap();
    let other = top.join(".opencode/opencode.jsonc");
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    write(&other, COMMENTED);
    document_of(ask(&env, &top, &[&yes[..], &["--variant", "deep"]].concat()));
    let text = read(&other);
    for part in [
        "// mine",
        "\"theme\": \"dark\", /* too */",
        "\"orchestrator\": { \"model\": \"mock/m2\" }, // chosen",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(
        !text.contains("mock/old") && !text.contains("\"low\"") && !text.contains("task-planner"),
        "{text}"
    );
    assert!(!top.join("opencode.jsonc").exists());
    let shown = document_of(ask(&env, &top, &["show"]));
    let row = |agent: &str| {
        shown["agents"].as_array().unwrap().iter().find(|r| r["agent"] == agent).unwrap().clone()
    };
    assert_eq!(
        (row("init")["variant"].clone(), row("research")["variant"].clone()),
        ("deep".into(), "-".into())
    );
    assert_eq!(row("research")["model"], "mock/m2");

    assert!(text.ends_with("  },\n}\n"), "the comma at the end stays: {text}");
    assert!(!read(&other).contains("$schema"), "nothing of OpenCode's own");
    write(&other, "\u{feff}{\n  \"theme\": \"dark\"\n}\n");
    document_of(ask(&env, &top, &yes));
    let text = read(&other);
    assert!(text.starts_with("\u{feff}{\n  \"theme\": \"dark\",") && text.contains("mock/m2"), "{text}");

    write(&other, "{ \"agent\": [] }");
    assert_eq!(refused(64, &yes)["reason_code"], "config_invalid");
    assert_eq!(read(&other), "{ \"agent\": [] }");
    write(&other, "{ \"agent\": ");
    assert_eq!(refused(64, &["show"])["reason_code"], "config_invalid");
    std::fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink(top.join("a.txt"), &other).unwrap();
    let error = refused(33, &yes);
    assert_eq!(error["reason_code"], "config_unreadable", "{error}");
    assert_eq!(read(top.join("a.txt")), "one\n");
    std::fs::remove_file(&other).unwrap();
    // What OpenCode itself does not take is its own word, and nothing is written.
    write(&other, "{ \"model\": 7 }");
    assert_eq!(refused(21, &yes)["reason_code"], "opencode_models_failed");
    assert_eq!(read(&other), "{ \"model\": 7 }");
}
