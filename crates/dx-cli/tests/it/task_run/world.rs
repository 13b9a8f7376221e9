//! A project with the pack, and a model that plays a scenario for each agent's turn.

use crate::tasks::spec;
use crate::world::{read, write};
use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};
use dx_testkit::{Output, TestEnv};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The specification's hash, in reports of scenarios.
const HASH: &str = "HASH";
const CONTEXT: &str = "# Facts\n## Test Setup\nsh\n## Conventions\nplain\n## Workflow\nagy: disabled\n";
/// What decides the criterion; the second line is for validators that are told what it printed.
const TEST: &str = "grep -q hello greet.txt\n";

pub(super) struct World {
    pub(super) env: TestEnv,
    pub(super) top: PathBuf,
    pub(super) model: ScriptedModel,
}

/// An implementation report.
pub(super) fn implemented(outcome: &str) -> String {
    format!(
        "# Report\nSpec: sha256:{HASH}\n\n## Outcome\n{outcome}\n## Files Changed\ngreet.txt\n## Decisions\nNone\n## Verification\nNone\n"
    )
}

/// A documentation report.
pub(super) fn documented() -> String {
    format!(
        "# Report\nSpec: sha256:{HASH}\n\n## Outcome\ndone\n## Files Changed\nREADME.md\n## Context Or Decisions Updated\nNone\n## Verification\nread\n"
    )
}

/// A validation report.
pub(super) fn validated(word: &str, issues: &str) -> String {
    format!(
        "# Report\nSpec: sha256:{HASH}\n\n## Result\n{word}\n## Checks Performed\nall\n## Issues Found\n{issues}\n"
    )
}

pub(super) fn report(kind: &str) -> String {
    format!(".ai/tasks/001-greet/{kind}-report.md")
}

/// Writes these files, then says something.
pub(super) fn writes(files: &[(&str, &str)]) -> Scenario {
    let mut files = files.iter();
    let (path, text) = files.next().unwrap();
    let first = Scenario::write(*path, *text);
    files.fold(first, |scenario, (path, text)| scenario.then_write(*path, *text)).then_text("done")
}

impl World {
    /// `turns`: agent and round, and what its model does. `HASH` in it is the specification's.
    pub(super) fn new(agents: &OsStr, execution: &[&str], turns: &[(&str, Scenario)]) -> Self {
        let turns = turns.iter().map(|(turn, scenario)| (format!("step {turn}"), scenario.clone()));
        Self::with_words(agents, execution, turns.collect())
    }

    /// The same with words of prompts.
    pub(super) fn with_words(agents: &OsStr, execution: &[&str], turns: Vec<(String, Scenario)>) -> Self {
        let mut env = environment().deadline(Duration::from_mins(4));
        let spec = spec("Greet", "greet.txt", execution, "tests/greet.sh", "sh tests/greet.sh");
        let top = env.git_repo(
            "app",
            &[
                ("README.md", "# App\n"),
                ("tests/greet.sh", TEST),
                (".ai/context.md", CONTEXT),
                (".gitignore", "*.log\n"),
            ],
        );
        let folder = top.join(".ai/tasks/001-greet");
        std::fs::create_dir_all(&folder).unwrap();
        write(folder.join("task-spec.md"), &spec);
        let hash = dx_workflow_hash(&env, &top);
        let turns = turns.into_iter().map(|(words, scenario)| {
            let scenario = scenario.to_string().replace(HASH, &hash);
            (words, scenario.parse().unwrap())
        });
        let default = Scenario::text("nothing is planned for this turn");
        let model = ScriptedModel::start_by_prompt(turns.collect(), default).unwrap();
        env.link_program("opencode", Path::new(agents).join("opencode"));
        env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("DX_RUNNER_GRACE_MS", "1000");
        env.run(&["workflow", "install"]).assert_code(0);
        Self { env, top, model }
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.product();
        command.current_dir(&self.top).arg("task").args(args).arg("--json");
        command
    }

    pub(super) fn run_command(&self, more: &[&str]) -> Command {
        self.command(&[&["run", "1", "--model", "mock/m1", "--allow-model-override"], more].concat())
    }

    /// Runs the task: exit code and document.
    #[track_caller]
    pub(super) fn run(&self, more: &[&str]) -> (i32, Value) {
        let output = self.env.run_command(self.run_command(more));
        (output.code, self.document(&output))
    }

    #[track_caller]
    pub(super) fn document(&self, output: &Output) -> Value {
        assert!(!output.stdout.is_empty(), "{output}");
        let value = document(&self.env, "task", &output.stdout);
        document(&self.env, "task-state", &read(self.top.join(".ai/tasks/001-greet/state.json")));
        value
    }

    /// The error of a run that was refused.
    #[track_caller]
    pub(super) fn refused(&self, code: i32, more: &[&str]) -> Value {
        let output = self.env.run_command(self.run_command(more)).assert_code(code);
        crate::world::error_of(&self.env, &output)
    }

    pub(super) fn context(&self, text: &str) {
        write(self.top.join(".ai/context.md"), CONTEXT.replace("agy: disabled", text));
    }

    /// Takes away what runs left in the project, as if there had been none.
    pub(super) fn forget(&self) {
        let reports = ["implementation", "validation"].map(report);
        let others = [".ai/tasks/001-greet/state.json", ".ai/tasks/001-greet/agy-handoff.md", "greet.txt"];
        for path in reports.iter().map(String::as_str).chain(others) {
            let _gone = std::fs::remove_file(self.top.join(path));
        }
    }

    /// A stand-in for `agy`, which does what the shell script says.
    pub(super) fn agy(&self, script: &str) {
        let path = self.env.bin_dir().join("agy");
        write(&path, format!("#!/bin/sh\nset -e\n{script}\n"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub(super) fn hash(&self) -> String {
        dx_workflow_hash(&self.env, &self.top)
    }

    /// How many jobs there were whose id ends so.
    pub(super) fn jobs(&self, end: &str) -> usize {
        let status = self.env.run(&["status", "--all", "--json"]).assert_code(0).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        let jobs = status["jobs"].as_array().unwrap();
        jobs.iter().filter(|job| job["beads"].as_str().unwrap().ends_with(end)).count()
    }
}

/// The hash that the program itself tells.
fn dx_workflow_hash(env: &TestEnv, top: &Path) -> String {
    let mut command = env.product();
    command.current_dir(top).args(["task", "show", "1", "--json"]);
    let shown: Value = serde_json::from_str(&env.run_command(command).assert_code(0).stdout).unwrap();
    shown["spec_sha256"].as_str().unwrap().to_owned()
}

/// `agent round: state` of each step.
pub(super) fn steps(document: &Value) -> Vec<String> {
    let steps = document["state"]["steps"].as_array().unwrap();
    let word =
        |step: &Value, key: &str| step[key].as_str().map_or_else(|| step[key].to_string(), str::to_owned);
    steps.iter().map(|s| format!("{} {}: {}", word(s, "agent"), word(s, "round"), word(s, "state"))).collect()
}

/// Exit codes of the test commands.
pub(super) fn codes(document: &Value) -> Vec<i64> {
    document["state"]["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["exit_code"].as_i64().unwrap())
        .collect()
}
