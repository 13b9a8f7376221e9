//! Providers of the configuration: what a table of a few lines makes of a command, how its output is judged, and every
//! mistake in it with its place.

use crate::config::{here, project, user};
use crate::document;
use crate::real_agent::agents_dir;
use crate::world::{World, write};
use dx_scripted_model::{Scenario, ScriptedModel};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A program on the test's PATH.
#[track_caller]
pub(crate) fn program(world: &World, name: &str, script: &str) -> PathBuf {
    let path = world.env.bin_dir().join(name);
    write(&path, format!("#!/bin/sh\n{script}"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs a job of a provider to its end; what `check` tells of it.
#[track_caller]
fn job(world: &World, id: &str, provider: &str, more: &[&str]) -> Value {
    let worktree = world.repo.display().to_string();
    let args =
        ["start", "--beads", id, "--provider", provider, "--prompt-file", "-", "--worktree", &worktree];
    world.env.run_with_stdin(&[&args[..], more].concat(), "the prompt").assert_code(0);
    world.env.run(&["wait", "--beads", id]);
    world.check(id)
}

fn told(end: &Value) -> [&str; 2] {
    [end["state"].as_str().unwrap(), end["reason_code"].as_str().unwrap()]
}

#[test]
fn ten_lines_run_a_real_agent_with_usage() {
    let Some(agents) = agents_dir() else { return };
    let mut world = World::new();
    let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
    let claude = [agents.join("claude"), agents.join("bin/claude")].into_iter().find(|path| path.is_file());
    world.env.link_program("claude", claude.unwrap());
    world.env.set("ANTHROPIC_BASE_URL", model.root_url());
    world.env.set("ANTHROPIC_AUTH_TOKEN", "sk-ant-secret-1");
    // Word for word what the guide says.
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/add-a-provider.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let manifest = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(manifest.lines().count(), 10, "{manifest}");
    user(&world, manifest);
    let worktree = world.repo.display().to_string();
    let prompt = "go [[mock:write:notes.txt:hello,text:ALL DONE]]";
    let args = [
        "start",
        "--beads",
        "real",
        "--provider",
        "my-claude",
        "--prompt-file",
        "-",
        "--worktree",
        &worktree,
    ];
    world.env.run_with_stdin(&[&args[..], &["--model", "sonnet"]].concat(), prompt).assert_code(0);
    world.env.run(&["wait", "--beads", "real"]).assert_code(0);
    let output = world.env.run(&["check", "--json", "--beads", "real"]);
    let end = document(&world.env, "check", &output.stdout);
    assert_eq!(told(&end), ["exited_ok", "process_exit_with_rc"], "{end:#}");
    assert!(end["tokens_in"].as_u64().unwrap() > 0 && end["tokens_out"].as_u64().unwrap() > 0, "{end:#}");
    assert_eq!(end["outcome"]["work"]["files_changed"], serde_json::json!(["notes.txt"]));
    assert_eq!(end["selected_model"], "sonnet");
    // The rule in the manifest names the failure.
    let prompt = "go [[mock:401]]";
    world.env.set("CLAUDE_CODE_MAX_RETRIES", "1");
    let args =
        ["start", "--beads", "bad", "--provider", "my-claude", "--prompt-file", "-", "--worktree", &worktree];
    world.env.run_with_stdin(&args, prompt).assert_code(0);
    world.env.run(&["wait", "--beads", "bad"]).assert_code(3);
    assert_eq!(told(&world.check("bad")), ["exited_err", "provider_auth_blocked"]);
}

#[test]
fn the_prompt_goes_by_stdin_file_or_argument() {
    let world = World::new();
    program(&world, "tool", "printf '%s\\n' \"$@\" >args.txt; cat >stdin.txt; env >env.txt; echo done");
    user(
        &world,
        "[providers.by-stdin]\ncommand = [\"tool\", \"-v\", \"{model}\", \"{worktree}\"]\nmodel_flag = \"--model\"\nallowed_models = [\"a\"]\npass_env = [\"TOOL_*\"]\nmax_parallel = 3\n\
         [providers.by-file]\ncommand = [\"tool\", \"--file={prompt_file}\"]\nprompt = \"file\"\n\
         [providers.by-arg]\ncommand = [\"tool\", \"-m\", \"{prompt}\"]\nprompt = \"arg\"\n",
    );
    let file = |name: &str| std::fs::read_to_string(world.repo.join(name)).unwrap();
    let end = job(&world, "s", "by-stdin", &["--model", "a", "--env", "TOOL_X=1"]);
    assert_eq!(told(&end), ["exited_ok", "process_exit_with_rc"]);
    assert_eq!(file("args.txt"), format!("-v\n--model\na\n{}\n", world.repo.display()));
    assert_eq!(file("stdin.txt"), "the prompt");
    job(&world, "f", "by-file", &[]);
    let named = file("args.txt").trim().strip_prefix("--file=").map(PathBuf::from).unwrap();
    assert!(named.is_absolute() && file("stdin.txt").is_empty());
    job(&world, "a", "by-arg", &[]);
    assert_eq!(file("args.txt"), "-m\nthe prompt\n");
    let contract = std::fs::read_to_string(world.env.state_dir().join("by-arg/a.contract")).unwrap();
    assert!(contract.contains("{prompt}") && !contract.contains("the prompt"), "{contract}");
    // Off the list, with a hint; and the list of providers tells where it is from.
    let worktree = world.repo.display().to_string();
    let args =
        ["start", "--provider", "by-stdin", "--model", "b", "--prompt-file", "-", "--worktree", &worktree];
    let refused = world.env.run_with_stdin(&args, "x").assert_code(25);
    assert!(refused.stderr.contains("reason: model_not_allowed"), "{refused}");
    assert!(refused.stderr.contains("add it to allowed_models, or pass --allow-model-override"), "{refused}");
    let shown = world.json(0, &["providers", "show", "by-stdin"]);
    let row = &shown["providers"][0];
    assert!(row["origin"].as_str().unwrap().ends_with("config.toml:1:12"), "{row}");
    assert_eq!((&row["cap"], &row["allowed_models"]), (&3.into(), &serde_json::json!(["a"])));
    // Limits can be set for it, as for ours.
    project(&world, "[max_parallel]\nby-stdin = 1\n");
    let explained = here(&world, &["config", "explain", "max_parallel.by-stdin"]).assert_code(0).stdout;
    assert!(explained.starts_with("max_parallel.by-stdin = 1\n"), "{explained}");
}

#[test]
fn rules_name_what_went_wrong() {
    let world = World::new();
    program(&world, "tool", "eval \"$(cat)\"");
    user(
        &world,
        "[providers.ruled]\ncommand = [\"tool\"]\nerrors = [\n  { field = \"error.type\", equals = \"auth\", reason = \"provider_auth_blocked\" },\n  { stderr = \"(?i)too many requests\", reason = \"provider_rate_limited\" },\n]\nsuccess = { stdout = \"^DONE$\" }\n",
    );
    let run = |id: &str, script: &str| {
        let worktree = world.repo.display().to_string();
        let args =
            ["start", "--beads", id, "--provider", "ruled", "--prompt-file", "-", "--worktree", &worktree];
        world.env.run_with_stdin(&args, script).assert_code(0);
        world.env.run(&["wait", "--beads", id]);
        world.check(id)
    };
    assert_eq!(told(&run("well", "echo x > f; echo DONE")), ["exited_ok", "process_exit_with_rc"]);
    assert_eq!(told(&run("no-sign", "echo finished")), ["exited_err", "provider_no_result"]);
    // A field says that it failed, whatever the exit code; words say only why.
    let field = "echo '{\"error\":{\"type\":\"auth\"}}'; echo DONE";
    assert_eq!(told(&run("field", field)), ["exited_err", "provider_auth_blocked"]);
    assert_eq!(
        told(&run("words", "echo 'Too Many Requests' >&2; exit 1")),
        ["exited_err", "provider_rate_limited"]
    );
    assert_eq!(
        told(&run("talk", "echo 'too many requests' >&2; echo DONE")),
        ["exited_ok", "exit_zero_no_mutations"]
    );
    assert_eq!(told(&run("other", "exit 4")), ["exited_err", "process_exit_with_rc"]);
    // The end is judged by the rules of the start: the record is enough.
    user(&world, "");
    assert_eq!(told(&world.check("words")), ["exited_err", "provider_rate_limited"]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let world = World::new();
    for (text, place, words) in [
        ("[providers.x]\ncomand = [\"a\"]", "2:1", "unknown key `providers.x.comand`"),
        ("[providers.x]\nprompt = \"stdin\"", "1:12", "has no `command`"),
        (
            "[providers.x]\ncommand = [\"a\"]\nprompt = \"pipe\"",
            "3:1",
            "expected \"stdin\", \"file\" or \"arg\"",
        ),
        ("[providers.x]\ncommand = [\"a\", \"{promt}\"]", "2:1", "`{promt}` is none of"),
        ("[providers.x]\ncommand = [\"bin/a\"]", "2:1", "neither a name on PATH nor an absolute path"),
        ("[providers.x]\ncommand = [\"a\"]\nprompt = \"file\"", "1:12", "needs {prompt_file} in the command"),
        (
            "[providers.x]\ncommand = [\"a\"]\noutput = \"xml\"",
            "3:1",
            "expected one of text, opencode, claude",
        ),
        (
            "[providers.x]\ncommand = [\"a\"]\nsuccess = { stdout = \"(\" }",
            "3:",
            "providers.x.success.stdout",
        ),
        (
            "[providers.x]\ncommand = [\"a\"]\n[[providers.x.errors]]\nstderr = \"x\"\nreason = \"oops\"",
            "5:1",
            "`oops` is none of",
        ),
        ("[providers.opencode]\ncommand = [\"a\"]", "1:12", "a provider of dx-runner's own"),
        ("[providers.Bad]\ncommand = [\"a\"]", "1:12", "is not allowed"),
    ] {
        user(&world, text);
        let refused = here(&world, &["providers"]).assert_code(64);
        assert!(refused.stderr.contains(&format!("config.toml:{place}")), "{text}: {refused}");
        assert!(refused.stderr.contains(words), "{text}: {refused}");
    }
    user(&world, "[providers.x]\ncomand = [\"a\"]");
    let near = here(&world, &["providers"]).assert_code(64);
    assert!(near.stderr.contains("did you mean providers.x.command"), "{near}");
}

#[test]
fn a_project_cannot_bring_in_a_command() {
    let world = World::new();
    let text = "[providers.evil]\ncommand = [\"sh\", \"-c\", \"touch OWNED\"]\n";
    project(&world, text);
    let refused = here(&world, &["providers"]).assert_code(64);
    assert!(refused.stderr.contains("may only stand in your own configuration file"), "{refused}");
    std::fs::create_dir_all(world.repo.join(".dx-runner/profiles")).unwrap();
    project(&world, "");
    write(world.repo.join(".dx-runner/profiles/p.toml"), text);
    let args = world.start_args("x", &["--profile", "p"], &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = here(&world, &args).assert_code(64);
    assert!(refused.stderr.contains("may only stand in your own configuration file"), "{refused}");
    assert!(!world.repo.join("OWNED").exists());
}
