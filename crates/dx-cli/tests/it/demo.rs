//! The demo from outside: what it says, that it works with and without OpenCode, and that nothing of it stays.

use crate::environment;
use crate::real_agent::agents_dir;
use dx_testkit::{TestEnv, describe, processes_with_marker, send_signal, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const INTERRUPT: i32 = 2;
const PATIENCE: Duration = Duration::from_mins(4);
const IDS: [&str; 3] = ["add-usage", "fix-seconds", "changelog"];

/// An environment with git and nothing else on PATH.
fn machine() -> TestEnv {
    let mut env = environment().deadline(PATIENCE);
    let found = Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
    env.link_program("git", String::from_utf8(found.stdout).unwrap().trim());
    let path = env.bin_dir();
    env.set("PATH", path);
    env
}

fn put_program(env: &TestEnv, name: &str, script: &str) {
    let path = env.bin_dir().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The demo has written nothing outside its folder, which is gone with all its processes.
#[track_caller]
fn assert_clean(env: &TestEnv, folder: Option<&Path>) {
    for place in ["tmp", "home", "xdg/state", "xdg/data", "xdg/config", "xdg/cache"] {
        let left: Vec<PathBuf> =
            std::fs::read_dir(env.path(place)).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(!env.state_dir().exists());
    if let Some(folder) = folder {
        assert_nobody_in(folder);
    }
}

/// Jobs, monitors and what they started have the folder's home. A monitor ends moments after its job's record does.
#[track_caller]
fn assert_nobody_in(folder: &Path) {
    let home = folder.join("home").display().to_string();
    wait_until(PATIENCE, "every process of the demo has ended", || {
        processes_with_marker("HOME", &home).is_empty()
    });
}

/// The folder that a job's worktree was in.
fn folder_of(document: &Value) -> PathBuf {
    let worktree = Path::new(document["jobs"][0]["worktree"].as_str().unwrap());
    worktree.ancestors().find(|path| path.ends_with("worktrees")).unwrap().parent().unwrap().to_owned()
}

#[track_caller]
fn assert_good(document: &Value) {
    assert_eq!(
        (&document["schema"], &document["ok"]),
        (&"dx-runner/demo/1".into(), &true.into()),
        "{document:#}"
    );
    let jobs = document["jobs"].as_array().unwrap();
    let ids: Vec<&str> = jobs.iter().map(|job| job["beads"].as_str().unwrap()).collect();
    assert_eq!(ids, IDS);
    for job in jobs {
        assert_eq!((&job["state"], &job["exit_code"]), (&"exited_ok".into(), &"0".into()), "{job:#}");
    }
    let fixed = jobs[1]["diff"].as_str().unwrap();
    assert!(fixed.contains("\n+    minutes, rest = divmod(seconds, 60)\n"), "{fixed}");
    assert!(fixed.contains("+++ b/test_tempo.py\n@@ -0,0 +1,5 @@\n+from tempo import words\n"), "{fixed}");
}

#[test]
fn without_opencode_it_runs_the_built_in_agent_and_says_so() {
    let env = machine();
    let output = env.run(&["demo"]).assert_code(0);
    assert_eq!(output.stderr, "");
    let text = &output.stdout;
    for part in [
        "agent  a small one that is built into dx-runner\n       no OpenCode and no Claude Code was found\n",
        "\nadd-usage  exited_ok (process_exit_with_rc)\n  exit code 0, ",
        "\n    +    minutes, rest = divmod(seconds, 60)\n",
        "\n3 of 3 jobs ended well. The agent was a small one that is built into dx-runner.\n",
        "\n  dx-runner demo --install ",
        "\n  dx-runner --help\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    assert_clean(&env, None);
}

#[test]
fn the_document_tells_all_and_keep_keeps_the_records() {
    let env = machine();
    let output = env.run(&["demo", "--json"]).assert_code(0);
    assert_eq!((output.stderr.as_str(), output.stdout.lines().count()), ("", 1));
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_good(&document);
    assert_eq!((&document["provider"], &document["folder"]), (&"exec".into(), &"-".into()));
    assert_clean(&env, Some(&folder_of(&document)));

    let output = env.run(&["demo", "--keep", "--json"]).assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    let folder = PathBuf::from(document["folder"].as_str().unwrap());
    assert_eq!(folder, folder_of(&document));
    let state = folder.join("state").display().to_string();
    let status = env.run(&["--state-dir", &state, "status", "--all", "--json"]).assert_code(0).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["jobs"].as_array().unwrap().len(), 3);
    assert_nobody_in(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_clean(&env, None);
}

#[test]
fn an_opencode_that_does_not_work_is_passed_over() {
    let env = machine();
    put_program(&env, "opencode", "exit 1");
    let output = env.run(&["demo"]).assert_code(0);
    assert!(output.stderr.contains("opencode cannot be used: "), "{output}");
    assert!(output.stdout.contains("opencode cannot be used\n"), "{output}");
    assert!(output.stdout.contains("The agent was a small one"), "{output}");
    assert_clean(&env, None);
}

#[test]
fn install_without_npm_or_with_a_foreign_package_leaves_nothing() {
    let env = machine();
    let output = env.run(&["demo", "--install"]).assert_code(21);
    assert!(
        output.stderr.contains("npm is not on PATH") && output.stderr.contains("try: install"),
        "{output}"
    );
    // Every folder that was made on the way may stay, but nothing in it.
    let left = |env: &TestEnv| std::fs::read_dir(env.path("xdg/data/dx-runner/agents")).unwrap().count();
    assert_eq!(left(&env), 0);

    put_program(&env, "npm", "echo 'npm error E404 nothing there' >&2; exit 1");
    let output = env.run(&["demo", "--install"]).assert_code(21);
    assert!(output.stderr.contains("npm error E404 nothing there"), "{output}");
    assert_eq!(left(&env), 0);

    if cfg!(target_arch = "x86_64") {
        let script = "m=node_modules/opencode-linux-x64\n/bin/mkdir -p $m/bin; : > $m/bin/opencode; /bin/chmod 755 $m/bin/opencode\n\
                      echo '{\"packages\":{\"'$m'\":{\"integrity\":\"sha512-other\"}}}' > node_modules/.package-lock.json";
        put_program(&env, "npm", script);
        let output = env.run(&["demo", "--install"]).assert_code(21);
        assert!(output.stderr.contains("is not the known package"), "{output}");
        assert_eq!(left(&env), 0);
    }
}

#[test]
fn ctrl_c_ends_the_jobs_and_cleans_up() {
    let env = machine();
    let mut command = env.product();
    command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("changelog ") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended before the jobs ran");
    }
    let folder = std::fs::read_dir(env.path("tmp")).unwrap().flatten().next().unwrap().path();
    assert!(send_signal(i32::try_from(child.id()).unwrap(), INTERRUPT));
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{complaint}");
    assert!(complaint.contains("interrupted; the demo's jobs were ended"), "{complaint}");
    assert_clean(&env, Some(&folder));
}

#[test]
fn a_claude_code_that_does_not_work_is_passed_over() {
    let env = machine();
    put_program(&env, "claude", "exit 1");
    let output = env.run(&["demo"]).assert_code(0);
    assert!(output.stderr.contains("claude cannot be used: `claude --version` ended with"), "{output}");
    assert!(output.stdout.contains("The agent was a small one"), "{output}");
    assert_clean(&env, None);
}

#[test]
fn with_claude_code_the_jobs_are_real_runs_of_it() {
    let Some(agents) = agents_dir() else { return };
    let mut env = machine();
    env.link_program("claude", agents.join("claude"));
    // Nothing of the user's account gets there.
    env.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:1");
    env.set("ANTHROPIC_API_KEY", "the user's own");
    let output = env.run(&["demo", "--json"]).assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_good(&document);
    let told = (&document["provider"], &document["agent"]);
    assert_eq!(told, (&"claude-code".into(), &"the real Claude Code".into()));
    let job = &document["jobs"][1];
    assert_eq!(job["tools"], serde_json::json!({ "Read": 1, "Write": 2 }));
    assert_eq!((&job["tokens_in"], &job["tokens_out"]), (&400.into(), &40.into()));
    assert_clean(&env, Some(&folder_of(&document)));
}

#[test]
fn with_opencode_the_jobs_are_real_runs_of_it() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let env = machine();
    env.link_program("opencode", agents.join("opencode"));
    let output = env.run(&["demo", "--json"]).assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_good(&document);
    assert_eq!(
        (&document["provider"], &document["agent"]),
        (&"opencode".into(), &"the real OpenCode".into())
    );
    let job = &document["jobs"][1];
    assert_eq!(job["tools"], serde_json::json!({ "read": 1, "write": 2 }));
    assert_eq!((&job["tokens_in"], &job["tokens_out"]), (&400.into(), &40.into()));
    let folder = folder_of(&document);
    let home = folder.join("home").display().to_string();
    let left: Vec<String> = processes_with_marker("HOME", &home).into_iter().map(describe).collect();
    assert!(left.iter().all(|line| line.contains("monitor")), "{left:?}");
    assert_clean(&env, Some(&folder));
}
