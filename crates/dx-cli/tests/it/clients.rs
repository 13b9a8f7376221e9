//! `mcp install` and `skill install`: what is written into the configuration of other agents, and what is not.

use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The file of each client, and something of its user's in it.
fn clients(env: &TestEnv) -> [(&'static str, PathBuf, &'static str); 4] {
    [
        (
            "opencode",
            env.path("xdg/config/opencode/opencode.jsonc"),
            "{\n  // my theme\n  \"theme\": \"dark\",\n  \"mcp\": { \"mine\": { \"type\": \"local\", \"command\": [\"x\"] } }, // kept\n}\n",
        ),
        (
            "claude",
            env.home().join(".claude.json"),
            "{\n  \"projects\": {\"/a\": {\"history\": [1, 2.50]}},\n  \"mcpServers\": {}\n}\n",
        ),
        (
            "gemini",
            env.home().join(".gemini/settings.json"),
            "{\"security\": {\"auth\": {}}, \"mcpServers\": { \"mine\": {} }}",
        ),
        (
            "codex",
            env.home().join(".codex/config.toml"),
            "# mine\nmodel = \"m\"\n[mcp_servers.mine]\ncommand = 'x' # kept\n\n[tui]\nx = 1\n",
        ),
    ]
}

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

fn install(env: &TestEnv, words: &[&str]) -> Value {
    let output = env.run(&[words, &["--json"]].concat()).assert_code(0);
    document(env, "install", &output.stdout)
}

#[test]
fn one_entry_is_added_and_all_else_stays() {
    let env = environment();
    for (client, file, text) in clients(&env) {
        write(&file, text);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let words = ["mcp", "install", "--client", client];
        let dry = install(&env, &[&words[..], &["--dry-run"]].concat());
        assert_eq!((&dry["dry_run"], &dry["files"][0]["changed"]), (&true.into(), &true.into()), "{dry}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "a dry run writes nothing");
        let told = install(&env, &words);
        assert_eq!(told["files"][0]["file"], file.display().to_string(), "{told}");
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains(env!("CARGO_BIN_EXE_dx-runner")), "{written}");
        // Nothing was lost: what was there is there, in its order.
        let mut rest = written.as_str();
        for word in text.split_whitespace().map(|word| word.trim_matches(|c| "{},".contains(c))) {
            let at = rest.find(word).unwrap_or_else(|| panic!("{client}: {word} is gone: {written}"));
            rest = &rest[at + word.len()..];
        }
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        let again = install(&env, &words);
        assert_eq!(again["files"][0]["changed"], false, "{again}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
        let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().flatten().collect();
        assert!(
            left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("dx-runner-")),
            "{left:?}"
        );
    }
}

#[test]
fn a_client_without_a_configuration_gets_one() {
    let env = environment();
    for (client, _, _) in clients(&env) {
        let words = ["--state-dir", "/x/state", "mcp", "install", "--client", client];
        let told = install(&env, &words);
        let text = std::fs::read_to_string(told["files"][0]["file"].as_str().unwrap()).unwrap();
        assert!(text.contains("dx-runner") && text.contains("/x/state"), "{text}");
        assert_eq!(install(&env, &words)["files"][0]["changed"], false);
        // The client starts it in another folder.
        let mut relative = env.product();
        relative
            .args(["--state-dir", "sub/state", "mcp", "install", "--client", client])
            .current_dir(env.home());
        env.run_command(relative).assert_code(0);
        let text = std::fs::read_to_string(told["files"][0]["file"].as_str().unwrap()).unwrap();
        assert!(text.contains(&env.home().join("sub/state").display().to_string()), "{text}");
    }
}

#[test]
fn codex_hands_on_the_keys_of_endpoints() {
    let env = environment();
    let config = env.path("endpoints.toml");
    let text =
        "endpoints = [\"one=http://h/v1 ONE_KEY\", \"two=http://h/v1\", \"three=http://h/v1 THREE_KEY\"]\n";
    std::fs::write(&config, text).unwrap();
    let words = ["--config", config.to_str().unwrap(), "mcp", "install", "--client", "codex"];
    install(&env, &words);
    let written = std::fs::read_to_string(env.home().join(".codex/config.toml")).unwrap();
    assert!(written.contains("\"ONE_KEY\", \"THREE_KEY\"]"), "{written}");
    assert_eq!(install(&env, &words)["files"][0]["changed"], false);
}

#[test]
fn what_cannot_be_read_is_left_alone_and_a_link_stays_one() {
    let env = environment();
    for (client, file, _) in clients(&env) {
        write(&file, "{ broken");
        let output = env.run(&["mcp", "install", "--client", client]).assert_code(64);
        assert!(output.stderr.contains("reason: config_invalid"), "{output}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ broken");
    }
    let (_, file, text) = clients(&env)[1].clone();
    let real = env.path("dotfiles.json");
    std::fs::write(&real, text).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    install(&env, &["mcp", "install", "--client", "claude"]);
    assert!(std::fs::symlink_metadata(&file).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().contains("dx-runner"));
}

#[test]
fn skills_are_in_the_open_format_and_others_stay() {
    let env = environment();
    for (client, folder) in [
        ("opencode", env.path("xdg/config/opencode/skills")),
        ("claude", env.home().join(".claude/skills")),
        ("gemini", env.home().join(".gemini/skills")),
        ("codex", env.home().join(".codex/skills")),
    ] {
        write(&folder.join("mine/SKILL.md"), "mine");
        let words = ["skill", "install", "--client", client];
        assert_eq!(install(&env, &[&words[..], &["--dry-run"]].concat())["files"][0]["changed"], true);
        assert!(!folder.join("dx-runner").exists());
        let told = install(&env, &words);
        assert_eq!(told["files"].as_array().unwrap().len(), 2, "{told}");
        for name in ["dx-runner", "opencode-dispatch"] {
            let text = std::fs::read_to_string(folder.join(name).join("SKILL.md")).unwrap();
            let (head, body) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
            assert!(
                head.contains(&format!("name: {name}\n")) && head.contains("\nallowed-tools: Bash"),
                "{head}"
            );
            let description = head.lines().find_map(|line| line.strip_prefix("description: ")).unwrap();
            assert!(description.len() <= 1024 && !description.contains(": "), "{description}");
            assert!(head.contains("\ntags: [") && !body.trim().is_empty());
        }
        assert_eq!(std::fs::read_to_string(folder.join("mine/SKILL.md")).unwrap(), "mine");
        assert_eq!(install(&env, &words)["files"][0]["changed"], false);
    }
}

#[test]
fn a_skill_that_is_not_ours_is_left_alone() {
    let env = environment();
    let file = env.home().join(".claude/skills/dx-runner/SKILL.md");
    let refused = |what: &str| {
        let output = env.run(&["skill", "install", "--client", "claude"]).assert_code(64);
        assert!(output.stderr.contains(what) && output.stderr.contains("move it away"), "{output}");
    };
    write(&file, "---\nname: other\n---\n");
    refused("is not our skill");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "---\nname: other\n---\n");
    // Nothing is written through a link, whatever it leads to.
    let real = env.path("something");
    std::fs::write(&real, "theirs").unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    refused("is a link");
    assert_eq!(std::fs::read_to_string(&real).unwrap(), "theirs");
}
