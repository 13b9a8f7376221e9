//! A home with the pack, projects in it, and a model that plays a scenario for each agent's turn.

use crate::tasks::spec;
use crate::workflow::live::plugins_need_nothing;
use crate::world::{read, write};
use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};
use dx_testkit::{Output, TestEnv, wait_until};
use serde_json::Value;
use sha2::Digest as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The specification's hash, in reports of scenarios.
const HASH: &str = "HASH";
pub(super) const CONTEXT: &str =
    "# Facts\n## Test Setup\nsh\n## Conventions\nplain\n## Workflow\nagy: disabled\n";
/// What decides the criterion. Git ignores what it writes beside that, as it does builds.
const TEST: &str = "echo ran > test.log\ngrep -q hello greet.txt\n";

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
    /// A home with the pack, of which the first run of OpenCode makes much; and no project yet.
    pub(super) fn new(agents: &Path) -> Self {
        let mut env = environment().deadline(Duration::from_mins(4));
        env.link_program("opencode", agents.join("opencode"));
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("DX_RUNNER_GRACE_MS", "1000");
        plugins_need_nothing(&env);
        env.run(&["workflow", "install"]).assert_code(0);
        let (top, model) = (env.root().to_owned(), ScriptedModel::start(Scenario::text("")).unwrap());
        Self { env, top, model }
    }

    /// Another project with a task, and a model that plays these turns: agent and round, and what it does. `HASH` in it is
    /// the specification's.
    pub(super) fn case(&mut self, name: &str, execution: &[&str], turns: &[(&str, Scenario)]) {
        self.project(name, execution);
        let turns = turns.iter().map(|(turn, scenario)| (format!("step {turn}"), scenario.clone()));
        self.play(turns.collect());
    }

    /// Another project with a task.
    pub(super) fn project(&mut self, name: &str, execution: &[&str]) {
        let spec = spec("Greet", "greet.txt", execution, "tests/greet.sh", "sh tests/greet.sh");
        self.top = self.env.git_repo(
            name,
            &[
                ("README.md", "# App\n"),
                ("tests/greet.sh", TEST),
                (".ai/context.md", CONTEXT),
                (".gitignore", "*.log\n.env\n"),
            ],
        );
        let folder = self.top.join(".ai/tasks/001-greet");
        std::fs::create_dir_all(&folder).unwrap();
        write(folder.join("task-spec.md"), &spec);
    }

    /// Another model, with scenarios for words of prompts.
    pub(super) fn play(&mut self, turns: Vec<(String, Scenario)>) {
        let hash = self.hash();
        let turns = turns.into_iter().map(|(words, scenario)| {
            let scenario = scenario.to_string().replace(HASH, &hash);
            (words, scenario.parse().unwrap())
        });
        let default = Scenario::text("nothing is planned for this turn");
        self.model = ScriptedModel::start_by_prompt(turns.collect(), default).unwrap();
        // In the user's file: settings in the environment would replace what `task run` gives its agents there.
        let config = opencode_config(&self.model.base_url());
        write(self.env.path("xdg/config/opencode/opencode.json"), config.to_string());
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

    /// A stand-in for `agy`, which does what the shell script says.
    pub(super) fn agy(&self, script: &str) {
        let path = self.env.bin_dir().join("agy");
        write(&path, format!("#!/bin/sh\nset -e\n{script}\n"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub(super) fn hash(&self) -> String {
        dx_workflow_hash(&self.env, &self.top)
    }

    /// The id of a job of this project's first task.
    pub(super) fn job(&self, rest: &str) -> String {
        let top = self.top.canonicalize().unwrap();
        let own = sha2::Sha256::digest(top.as_os_str().as_encoded_bytes());
        format!("task-{:02x}{:02x}{:02x}-1{rest}", own[0], own[1], own[2])
    }

    /// That exactly these jobs of this project, in any order, ran to a good end, each once. A start that was killed half way leaves
    /// a record, too, and no agent.
    #[track_caller]
    pub(super) fn assert_ran(&self, mut jobs: Vec<String>) {
        let top = self.top.display();
        let sql = format!("SELECT beads FROM runs WHERE exit_code = '0' AND cwd = '{top}' ORDER BY beads");
        let ran = || -> Vec<String> {
            let answer = self.env.run(&["history", "query", &sql, "--json"]).assert_code(0).stdout;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let rows = answer["rows"].as_array().unwrap();
            rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
        };
        jobs.sort();
        // A run's line is the last that is written of it.
        wait_until(Duration::from_secs(20), "all lines are there", || ran().len() >= jobs.len());
        assert_eq!(ran(), jobs);
    }

    /// How many runs there were of all jobs.
    pub(super) fn runs(&self) -> usize {
        std::fs::read_dir(self.env.state_dir().join("runs")).map_or(0, Iterator::count)
    }
}

/// The hash that the program itself tells.
fn dx_workflow_hash(env: &TestEnv, top: &Path) -> String {
    let mut command = env.product();
    command.current_dir(top).args(["task", "show", "1", "--json"]);
    let shown: Value = serde_json::from_str(&env.run_command(command).assert_code(0).stdout).unwrap();
    shown["spec_sha256"].as_str().unwrap().to_owned()
}

/// The hash of a specification's text.
pub(super) fn hash_of(text: &str) -> String {
    use sha2::Digest;
    use std::fmt::Write as _;
    sha2::Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
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
