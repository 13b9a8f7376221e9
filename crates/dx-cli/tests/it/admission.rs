//! What a start lets in: worktrees, variables, prompts. And where none of it may turn up again.

use crate::world::{PATIENCE, World, files_with, read, write};
use dx_testkit::wait_for_file;
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Not a word of any program, so that finding it means that it came from the test.
const NEEDLE: &str = "zqx-needle-7319";
/// The same for a prompt; nothing else in any test has it.
const PROMPT_NEEDLE: &str = "zqx-prompt-4402";

/// Starts in this worktree and expects a refusal.
#[track_caller]
fn refused(world: &World, worktree: &Path, reason: &str) {
    let path = worktree.display().to_string();
    let error = world
        .error(22, &["start", "--provider", "exec", "--beads", "bd-1", "--worktree", &path, "--", "true"]);
    assert_eq!(error["reason_code"], reason, "{path}: {error}");
    if reason == "non_worktree_path" {
        assert!(error["message"].as_str().unwrap().starts_with("DENIED:non_worktree_path:/"), "{error}");
    }
}

#[test]
fn worktrees_lie_below_an_allowed_place() {
    let world = World::new();
    let (root, allowed) = (world.env.root(), world.env.allowed_root());
    let make = |path: &Path| std::fs::create_dir_all(path).unwrap();
    // A sibling with the same beginning, as `/tmp/agents-evil` beside `/tmp/agents`.
    let evil = root.join("repos-evil/demo");
    make(&evil);
    refused(&world, &evil, "non_worktree_path");
    symlink(&evil, allowed.join("out")).unwrap();
    refused(&world, &allowed.join("out"), "non_worktree_path");
    refused(&world, &allowed.join("../repos-evil/demo"), "non_worktree_path");
    refused(&world, &allowed.join("demo/../../home"), "non_worktree_path");
    refused(&world, Path::new("/"), "non_worktree_path");
    refused(&world, &allowed.join("none"), "worktree_missing");
    refused(&world, &allowed.join("demo/a.txt"), "worktree_missing");
    // A link to an allowed place is that place.
    symlink(&world.repo, root.join("in")).unwrap();
    let started = world.env.run(&world.start_args("ok", &["--json"], &["exit:0"])).assert_code(0);
    assert!(started.stdout.contains("\"changed\":true"));
    let through = root.join("in").display().to_string();
    world
        .env
        .run(&["start", "--provider", "exec", "--beads", "link", "--worktree", &through, "--", "true"])
        .assert_code(0);
    assert_eq!(world.pairs("link", "meta")["worktree"], world.repo.display().to_string());
    // The state directory is no worktree even below an allowed place, nor is what lies in it or holds it.
    let mut world = world;
    world.env.set("DX_RUNNER_EXTRA_ALLOWED_PREFIXES", world.env.root().to_owned());
    for path in [world.env.state_dir(), world.env.state_dir().join("exec"), world.env.root().to_owned()] {
        refused(&world, &path, "non_worktree_path");
    }
    world.env.run(&["check", "--beads", "bd-1"]).assert_code(1);
    world.env.run(&["wait", "--beads", "ok", "link"]).assert_code(0);
}

#[test]
fn a_named_path_never_falls_back_and_an_unnamed_one_does() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["exit:0"]);
    let gone = world.env.allowed_root().join("gone").display().to_string();
    let at = |folder: &Path, more: &[&str]| {
        let mut command = world.env.product();
        command
            .current_dir(folder)
            .args(["--json", "start", "--provider", "exec"])
            .args(more)
            .args(["--", "true"]);
        world.env.run_command(command)
    };
    // Inside a good repository, with a good previous run: the named one counts.
    let output = at(&world.repo, &["--beads", "bd-1", "--worktree", &gone]).assert_code(22);
    assert!(output.stderr.contains("worktree_missing"), "{output}");
    let worktree =
        |output: &str| serde_json::from_str::<serde_json::Value>(output).unwrap()["worktree"].clone();
    let repo = world.repo.display().to_string();
    // The previous run's, wherever the caller is; else the repository around the current directory.
    assert_eq!(worktree(&at(&world.env.home(), &["--beads", "bd-1"]).assert_code(0).stdout), *repo);
    let below = world.repo.join("below");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(worktree(&at(&below, &["--beads", "bd-2"]).assert_code(0).stdout), *repo);
    let output = at(&world.env.home(), &["--beads", "bd-3"]).assert_code(22);
    assert!(
        output.stderr.contains("worktree_missing") && output.stderr.contains("--worktree auto"),
        "{output}"
    );
    world.env.run(&["wait", "--beads", "bd-1", "bd-2"]).assert_code(0);
}

#[test]
fn the_agents_environment_is_the_allow_list() {
    let world = World::new();
    let dump = world.path("env");
    let secret = format!("sk-{NEEDLE}");
    let more = [
        "--env",
        "FOO",
        "--env",
        "MODE=fast",
        "--env",
        &format!("MY_TOKEN={secret}"),
        "--env",
        &format!("PLAIN={secret}"),
    ];
    let mut command = world.env.product();
    command
        .args(world.start_args("bd-1", &more, &[&format!("env:{dump}"), "print:up", "wait-file:never"]))
        .env("FOO", "passed")
        .env("FOO_SECRET", NEEDLE)
        .env("ANTHROPIC_API_KEY", NEEDLE)
        .env("LD_PRELOAD_NOT", NEEDLE)
        .env("https_proxy", "http://proxy.invalid");
    world.env.run_command(command).assert_code(0);
    wait_for_file(PATIENCE, &dump);
    let text = read(&dump);
    let names: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = [
        "DX_RUNNER_BEADS_ID",
        "DX_RUNNER_MARK",
        "DX_RUNNER_RUN_ID",
        "FOO",
        "HOME",
        "LANG",
        "MODE",
        "MY_TOKEN",
        "PATH",
        "PLAIN",
        "TERM",
        "TMPDIR",
        "TZ",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "https_proxy",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for line in ["FOO=passed", "MODE=fast", &format!("MY_TOKEN={secret}"), &format!("PLAIN={secret}")] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    let uuid = world.pairs("bd-1", "meta")["run_uuid"].clone();
    let tmp = text.lines().find_map(|line| line.strip_prefix("TMPDIR=")).unwrap();
    assert!(text.contains(&format!("DX_RUNNER_MARK={uuid}\n")) && Path::new(tmp).is_dir(), "{text}");
    // Neither while it lives nor afterwards does a value stand in a record.
    assert_eq!(files_with(&world.env.state_dir(), NEEDLE), Vec::<std::path::PathBuf>::new());
    let (_, monitor) = world.pids("bd-1");
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{monitor}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(NEEDLE), "the monitor's {file}");
    }
    world.env.run(&["stop", "--beads", "bd-1", "--grace", "0s"]).assert_code(0);
    assert_eq!(files_with(&world.env.state_dir(), NEEDLE), Vec::<std::path::PathBuf>::new());
    assert!(world.pairs("bd-1", "contract")["env_names"].contains("MY_TOKEN"));
    // What was not recorded must be given again.
    let mut command = world.env.product();
    command.args(["--json", "restart", "--beads", "bd-1"]).env("FOO", "x");
    let output = world.env.run_command(command).assert_code(10);
    assert!(output.stderr.contains("MY_TOKEN"), "{output}");
}

#[test]
fn a_prompt_arrives_whole_and_shows_nowhere() {
    let world = World::new();
    let file = world.path("task.md");
    let prompt = format!("--model evil\n-rf {PROMPT_NEEDLE} ünï\n{}", "0123456789abcde\n".repeat(300 * 64));
    write(&file, &prompt);
    let (copy, argv, go) = (world.path("copy"), world.path("argv"), world.path("go"));
    let actions = [format!("read-stdin:{copy}"), format!("argv:{argv}"), format!("wait-file:{go}")];
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    world.start("bd-1", &["--prompt-file", &file], &actions);
    wait_for_file(PATIENCE, &argv);
    assert_eq!(read(&copy), prompt);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains(PROMPT_NEEDLE), "{}: {line}", entry.path().display());
    }
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    for path in files_with(&world.env.state_dir(), PROMPT_NEEDLE) {
        assert!(path.ends_with("prompt") || path.ends_with("bd-1.prompt"), "{}", path.display());
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let contract = world.pairs("bd-1", "contract");
    assert_eq!(
        (contract["prompt_bytes"].as_str(), contract["prompt_channel"].as_str()),
        (prompt.len().to_string().as_str(), "stdin")
    );
    assert_eq!(contract["prompt_sha256"].len(), 64);
}

#[test]
fn a_prompt_by_standard_input_or_by_file() {
    let world = World::new();
    let copy = world.path("copy");
    let args = world.start_args("stdin", &["--prompt-file", "-"], &[&format!("read-stdin:{copy}")]);
    world.env.run_with_stdin(&args, "-from stdin\n").assert_code(0);
    world.env.run(&["wait", "--beads", "stdin"]).assert_code(0);
    assert_eq!(read(&copy), "-from stdin\n");
    assert_eq!(world.pairs("stdin", "meta")["prompt_file"], "-");

    write(world.path("p"), "by file\n");
    let more = ["--prompt-file", &world.path("p")];
    let copied = world.path("stdin");
    world.run_to_end("file", &more, &["print-file:{prompt_file}", &format!("read-stdin:{copied}")]);
    assert_eq!(read(world.view("file", "log")), "by file\n");
    assert_eq!(read(&copied), "", "the prompt comes one way only");
    assert_eq!(world.pairs("file", "contract")["prompt_channel"], "file");
    // A place for a prompt and no prompt.
    let error = world.error(64, &words(&world.start_args("none", &[], &["print-file:{prompt_file}"])));
    assert_eq!(error["reason_code"], "prompt_missing");
}

fn words(of: &[String]) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

#[test]
fn prompts_that_cannot_be_one_are_refused() {
    let world = World::new();
    let bytes: [(&str, &[u8]); 4] =
        [("nul", b"a\0b"), ("utf8", b"caf\xe9"), ("empty", b""), ("blank", b" \n\t\n")];
    for (name, content) in bytes {
        write(world.path(name), content);
        let more = ["--prompt-file", &world.path(name)];
        let error = world.error(64, &words(&world.start_args("bd-1", &more, &["exit:0"])));
        assert_eq!(error["reason_code"], "prompt_invalid", "{name}: {error}");
    }
    let error = world.error(64, &words(&world.start_args("bd-1", &["--prompt-file", "/"], &["exit:0"])));
    assert_eq!(error["reason_code"], "prompt_missing");
    assert_eq!(
        files_with(&world.env.state_dir(), "bd-1"),
        Vec::<std::path::PathBuf>::new(),
        "a refused start left records"
    );
}
