//! A repository and jobs of the fake agent in it: what the tests of the job commands have in common.
//!
//! Called by: those tests. Must never: look into the product; commands, files and `/proc` are what it knows.

use crate::{document, environment};
use dx_testkit::{Output, TestEnv, read_pid, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Deadline of conditions that are true within a moment on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// The variable that marks all processes of a run.
pub(crate) const MARK: &str = "DX_RUNNER_MARK";

/// One environment with one repository.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) repo: PathBuf,
    agent: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let env = environment();
        let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
        let agent = env.fake_agent().display().to_string();
        Self { env, repo, agent }
    }

    /// A path beside the repository, as text for an action.
    pub(crate) fn path(&self, name: &str) -> String {
        self.env.path(name).display().to_string()
    }

    /// The command line of a start of the fake agent.
    pub(crate) fn start_args(&self, id: &str, more: &[&str], actions: &[&str]) -> Vec<String> {
        let worktree = self.repo.display().to_string();
        let head = ["start", "--beads", id, "--provider", "exec", "--worktree", &worktree];
        let tail = ["--", &self.agent];
        [&head[..], more, &tail[..], actions].concat().into_iter().map(str::to_owned).collect()
    }

    /// Starts the fake agent; whatever comes of it.
    pub(crate) fn try_start(&self, id: &str, more: &[&str], actions: &[&str]) -> Output {
        self.env.run(&self.start_args(id, more, actions))
    }

    /// Starts the fake agent and returns the document.
    #[track_caller]
    pub(crate) fn start(&self, id: &str, more: &[&str], actions: &[&str]) -> Value {
        let more = [more, &["--json"]].concat();
        document(&self.env, "action", &self.try_start(id, &more, actions).assert_code(0).stdout)
    }

    /// Starts the fake agent, waits for its end and returns the document of the start.
    #[track_caller]
    pub(crate) fn run_to_end(&self, id: &str, more: &[&str], actions: &[&str]) -> Value {
        let started = self.start(id, more, actions);
        let waited = self.env.run(&["wait", "--beads", id]);
        assert!(matches!(waited.code, 0 | 3), "{waited}");
        started
    }

    /// Runs a command that ends with `code` and prints one JSON document.
    #[track_caller]
    pub(crate) fn json(&self, code: i32, args: &[&str]) -> Value {
        let output = self.env.run(&[args, &["--json"]].concat()).assert_code(code);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// The same, whatever its exit code.
    #[track_caller]
    pub(crate) fn json_any(&self, args: &[&str]) -> Value {
        let output = self.env.run(&[args, &["--json"]].concat());
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// The error document of a command that fails with `code`; stdout must be empty.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> Value {
        // In front: what follows `--` is the agent's.
        let output = self.env.run(&[&["--json"], args].concat()).assert_code(code);
        error_of(&self.env, &output)
    }

    /// `check --json`, whatever its exit code.
    pub(crate) fn check(&self, id: &str) -> Value {
        let output = self.env.run(&["check", "--beads", id, "--json"]);
        serde_json::from_str(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until `check` shows state and reason, and returns its exit code and document.
    #[track_caller]
    pub(crate) fn until_state(&self, id: &str, state: &str, reason: &str) -> (i32, Value) {
        let mut found = (0, Value::Null);
        wait_until(PATIENCE, &format!("{id} is {state} ({reason})"), || {
            let output = self.env.run(&["check", "--beads", id, "--json", "--explain"]);
            found = (output.code, serde_json::from_str(&output.stdout).unwrap_or(Value::Null));
            found.1["state"] == state && found.1["reason_code"] == reason
        });
        found
    }

    /// A published file of a job.
    pub(crate) fn view(&self, id: &str, suffix: &str) -> PathBuf {
        self.env.state_dir().join("exec").join(format!("{id}.{suffix}"))
    }

    /// A published `key=value` file.
    #[track_caller]
    pub(crate) fn pairs(&self, id: &str, suffix: &str) -> BTreeMap<String, String> {
        let text = read(self.view(id, suffix));
        text.lines()
            .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line}")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// State, reason and exit code of the outcome.
    #[track_caller]
    pub(crate) fn outcome(&self, id: &str) -> (String, String, String) {
        let mut pairs = self.pairs(id, "outcome");
        let mut take = |key: &str| pairs.remove(key).unwrap_or_else(|| panic!("no {key}"));
        (take("state"), take("reason_code"), take("exit_code"))
    }

    /// The observed exit code; `None` when nobody saw it.
    pub(crate) fn rc(&self, id: &str) -> Option<String> {
        std::fs::read_to_string(self.view(id, "rc")).ok().map(|text| text.trim().to_owned())
    }

    /// The pids of agent and monitor of a live job, once the monitor has taken note of the agent.
    #[track_caller]
    pub(crate) fn pids(&self, id: &str) -> (i32, i32) {
        wait_until(PATIENCE, &format!("the pid files of {id} are there"), || {
            let journal = std::fs::read_to_string(self.view(id, "events.jsonl")).unwrap_or_default();
            journal.contains("agent_started")
                && self.view(id, "pid").exists()
                && self.view(id, "monitor.pid").exists()
        });
        (read_pid(self.view(id, "pid")), read_pid(self.view(id, "monitor.pid")))
    }

    /// A process of ours that no command may ever signal.
    pub(crate) fn victim(&self) -> Victim {
        let mut command = self.env.command("sleep");
        command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Victim(spawn(command))
    }
}

/// Starts a command whose output nobody reads.
#[track_caller]
pub(crate) fn spawn(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The checked error document of a failed command with `--json`.
#[track_caller]
pub(crate) fn error_of(env: &TestEnv, output: &Output) -> Value {
    assert_eq!(output.stdout, "", "{output}");
    let error = document(env, "error", &output.stderr)["error"].clone();
    assert_eq!(error["exit_code"], output.code, "{output}");
    assert!(error["causes"].is_array() && !error["message"].as_str().unwrap().is_empty(), "{error}");
    assert!(!error["next_action"].as_str().unwrap().is_empty(), "{error}");
    error
}

#[track_caller]
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
pub(crate) fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// All regular files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Files below `folder` that contain `needle`.
pub(crate) fn files_with(folder: &Path, needle: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(needle))
    };
    files_below(folder).into_iter().filter(holds).collect()
}

/// A process that lives until the test ends it.
pub(crate) struct Victim(Child);

impl Victim {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Whether no signal has ended it or could have changed it: it has no handlers.
    #[track_caller]
    pub(crate) fn assert_untouched(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "a process that is none of the job's was ended: {ended:?}");
        let stat = read(format!("/proc/{}/stat", self.pid()));
        assert!(!stat.contains(") T "), "a process that is none of the job's was stopped: {stat}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
