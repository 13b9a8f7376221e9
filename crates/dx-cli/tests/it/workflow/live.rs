//! The real OpenCode loads the pack. What it makes of each agent's rules is the table of roles, and `check --live` sees where it
//! is not.
//!
//! Needs `DX_TEST_AGENTS_DIR`, as the tests of jobs with real agents do.

use crate::world::{read, write};
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
    plugins_need_nothing(&env);
    env
}

/// Before it loads a plugin OpenCode fetches a package for those that use it; ours does not, and tests need no network.
pub(crate) fn plugins_need_nothing(env: &TestEnv) {
    write(env.home().join(".npmrc"), "offline=true\n");
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
    // Beside them files of the user's that OpenCode takes, however odd.
    let folder = env.path("xdg/config/opencode");
    for (file, text) in TAKEN {
        std::fs::write(folder.join(file), text).unwrap();
    }
    assert_eq!(check(&env, 0, &scope)["findings"], serde_json::json!([]));
    // A rule of the user's that comes after, and a definition that is gone.
    let config =
        r#"{ "agent": { "validator": { "permission": { "edit": "allow" } }, "init": { "disable": true } } }"#;
    std::fs::write(folder.join("opencode.json"), config).unwrap();
    // And one in the agent's own file.
    let research = folder.join("agents/research.md");
    let planted = read(&research).replace("  glob: allow", "  edit: allow\n  glob: allow");
    let line = planted.lines().position(|line| line == "  edit: allow").unwrap() as u64 + 1;
    std::fs::write(&research, planted).unwrap();
    let validator = read(folder.join("agents/validator.md"));
    let denied = validator.lines().position(|line| line == "  edit:").unwrap() as u64 + 2;
    let found = check(&env, 1, &scope);
    let rows: Vec<_> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["file"].as_str().unwrap(), row["line"].as_u64().unwrap(), row["rule"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("agents/init.md", 1, "live_missing"),
            ("agents/research.md", line, "boundary"),
            ("agents/research.md", line, "live_rules"),
            ("agents/validator.md", denied, "live_rules")
        ],
        "{found:#}"
    );
    for (at, rule, settings) in [(2, "`edit: allow`", false), (3, "`edit: deny`", true)] {
        let row = &found["findings"][at];
        assert!(row["message"].as_str().unwrap().contains(rule), "{row}");
        assert_eq!(row["fix"].as_str().unwrap().contains("opencode.json"), settings, "{row}");
    }
    for (file, _) in TAKEN {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    for (file, keys) in REFUSED {
        refused(&env, &folder.join(file), keys);
    }
    // What is found without OpenCode is told beside its refusal.
    std::fs::write(folder.join("agents/mine.md"), "---\ndescription: 7\n---\nYou.\n").unwrap();
    let found = check(&env, 1, &scope);
    let rows = found["findings"].as_array().unwrap();
    let of = |rule: &str| {
        rows.iter().find(|row| row["rule"] == rule).unwrap_or_else(|| panic!("{rule}: {found:#}"))
    };
    assert_eq!((&of("boundary")["file"], &of("value")["line"]), (&"agents/research.md".into(), &2.into()));
    let live = of("live_refused");
    assert_eq!(live["file"], "agents/mine.md", "{live}");
    assert!(live["message"].as_str().unwrap().contains("got 7 description"), "{live}");
}

/// The check and the real program refuse the same keys.
#[track_caller]
fn refused(env: &TestEnv, file: &Path, keys: &[(&str, &str)]) {
    let lines: Vec<String> = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    std::fs::write(file, format!("---\n{}\n---\nYou.\n", lines.join("\n"))).unwrap();
    let output = env.run(&["workflow", "check", "--scope", "global", "--json"]).assert_code(1);
    let found = document(env, "workflow-check", &output.stdout);
    let mine = |row: &&Value| file.ends_with(row["file"].as_str().unwrap());
    let told: Vec<u64> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(mine)
        .map(|row| row["line"].as_u64().unwrap())
        .collect();
    assert_eq!(told, (2..2 + keys.len() as u64).collect::<Vec<_>>(), "{found:#}");
    let mut command = env.command("opencode");
    let output = env.run_command({
        command.args(["agent", "list"]);
        command
    });
    std::fs::remove_file(file).unwrap();
    assert_ne!(output.code, 0, "{output}");
    for (key, _) in keys {
        let of = |word: &str| word.split('.').next().unwrap().trim_matches(['[', ']', '"']) == *key;
        let named = output.stderr.split_whitespace().any(of);
        assert!(named, "OpenCode takes {key}: {output}");
    }
}

/// Values that OpenCode refuses, by file.
const REFUSED: [(&str, &[(&str, &str)]); 2] = [
    (
        "agents/mine.md",
        &[
            ("description", "2026-01-31"),
            ("mode", "boss"),
            ("model", "5"),
            ("variant", "0x10"),
            ("temperature", "\"0.5\""),
            ("top_p", ".inf"),
            ("steps", "0.5"),
            ("maxSteps", "-1"),
            ("color", "#ff0000"),
            ("hidden", "yes"),
            ("disable", "\"true\""),
            ("options", "x"),
            ("tools", "{write: 1}"),
            ("permission", "{question: {\"*\": allow}}"),
        ],
    ),
    (
        "commands/mine.md",
        &[
            ("description", "7"),
            ("agent", "12:30"),
            ("model", "[a]"),
            ("variant", "~"),
            ("subtask", "\"true\""),
        ],
    ),
];

/// And files that it takes.
const TAKEN: [(&str, &str); 4] = [
    (
        "agents/mine.md",
        "---\ndescription: Use it: so\nmodel: x\ntemperature: 12\nsteps: 3.0\nhidden: True\ncolor: \"#ff0000\"\nmine: 7\n---\nYou.\n",
    ),
    ("agents/bare.md", "You.\n"),
    ("commands/bare.md", "Do it.\n"),
    ("commands/mine.md", "---\ndescription: \"7\"\nagent: nobody\nmode: 7\nsubtask: false\n---\nDo it.\n"),
];

#[test]
fn without_opencode_there_is_no_live_check() {
    let mut env = environment();
    env.set("PATH", env.path("nowhere"));
    let output = env.run(&["workflow", "check", "--live", "--json"]).assert_code(21);
    assert!(output.stderr.contains("opencode_binary_missing"), "{output}");
}
