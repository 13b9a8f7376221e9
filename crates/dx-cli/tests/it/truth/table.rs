//! The rows of the table of truth, and how one is run: a real agent, a scripted model, one job from start to end.
//!
//! For: `truth` (the fast rows) and the soak suite `truth` (the slow ones); both are programs of their own. Must never:
//! assert a time. With `DX_TRUTH_SECONDS=1` the times go into `seconds.txt`, from which the guide takes them.

#![allow(clippy::print_stdout, reason = "times of a run are shown with the test's output")]

use dx_scripted_model::{Scenario, ScriptedModel, codex_config, opencode_config};
use dx_testkit::{TestEnv, describe, processes_with_marker};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const ROWS: &str = include_str!("rows.txt");
/// For everything that ends by itself; a machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(10);
/// What is ended must be gone soon.
const SOON: Duration = Duration::from_mins(2);
/// An address at which nobody listens.
const NOBODY: &str = "http://127.0.0.1:1/v1";
/// No case makes more calls of the model, or somebody notices the bill.
const CALLS: usize = 60;

/// One row, as it is written.
pub(crate) struct Row {
    provider: &'static str,
    case: &'static str,
    model: &'static str,
    start: &'static str,
    suite: &'static str,
    expected: [&'static str; 3],
}

/// All rows of a provider in a suite.
pub(crate) fn rows(provider: &str, suite: &str) -> Vec<Row> {
    let lines = ROWS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let all = lines.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [provider, case, model, start, suite, state, reason, exit] = cells[..] else {
            panic!("not eight cells: {line}")
        };
        Row { provider, case, model, start, suite, expected: [state, reason, exit] }
    });
    all.filter(|row| row.provider == provider && row.suite == suite).collect()
}

impl Row {
    /// What happens.
    pub(crate) fn case(&self) -> &'static str {
        self.case
    }
}

/// One agent in one home, with its model.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    model: ScriptedModel,
    repository: PathBuf,
}

impl World {
    /// `agents` is the folder of the real command lines.
    pub(crate) fn new(provider: &str, agents: &Path) -> Self {
        let mut env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        let program = if provider == "cc-glm" { "claude" } else { provider.trim_end_matches("-code") };
        assert!(agents.join(program).is_file(), "{} is missing", agents.join(program).display());
        env.link_program(program, agents.join(program));
        env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("ANTHROPIC_BASE_URL", model.root_url());
        env.set("CC_GLM_BASE_URL", model.root_url());
        env.set("GOOGLE_GEMINI_BASE_URL", model.root_url());
        env.set("GEMINI_API_KEY", "fake");
        // Beside an address, Gemini CLI takes a key only where its settings say so.
        let settings = env.home().join(".gemini/settings.json");
        std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
        std::fs::write(settings, r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#).unwrap();
        if provider == "codex" {
            codex_homes(&env, &model.base_url());
        }
        // OpenCode ignores TERM at times.
        env.set("DX_RUNNER_GRACE_MS", "2000");
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Self { env, model, repository }
    }

    /// Runs one row: state, reason code, exit of the agent's command line, and the seconds until they were known.
    fn run(&self, row: &Row, id: &str) -> ([String; 3], f64) {
        let outside = self.env.path("outside.txt");
        let scenario = row.model.replace("{outside}", outside.to_str().unwrap());
        let worktree = self.repository.display().to_string();
        let mut command = self.env.product();
        command.args(["start", "--beads", id, "--provider", row.provider, "--worktree", &worktree]);
        command.args(["--prompt-file", "-", "--json"]).env("ANTHROPIC_AUTH_TOKEN", "fake");
        command.env("CC_GLM_AUTH_TOKEN", "fake");
        command.env("OPENAI_API_KEY", "fake");
        let words: Vec<&str> = row.start.split(' ').filter(|word| *word != "-").collect();
        if row.provider == "opencode" {
            let model: &[&str] = if words.contains(&"--model") { &[] } else { &["--model", "mock/m1"] };
            command.args(model).arg("--allow-model-override");
        }
        if !words.contains(&"--max-runtime") {
            command.args(["--max-runtime", "5m"]);
        }
        for word in words {
            match word
                .split_once('=')
                .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            {
                Some((name, value)) => {
                    let nobody = opencode_config(NOBODY).to_string();
                    let value = value.replace("{home}", self.env.home().to_str().unwrap());
                    command.env(name, value.replace("{nobody}", &nobody))
                }
                None => command.arg(word),
            };
        }
        // Each row is a case of its own: what one was told of a limit is not to spare the next one the question.
        let _removed = std::fs::remove_file(self.env.state_dir().join("pools.jsonl"));
        let begun = Instant::now();
        let started =
            self.env.try_run(command, format!("Do the task [[mock:{scenario}]]").as_bytes()).unwrap();
        if started.code != 0 {
            let error: Value =
                started.stderr.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            let reason = error["error"]["reason_code"].as_str().unwrap_or(&started.stderr).to_owned();
            return (
                [format!("refused {}", started.code), reason, "-".to_owned()],
                begun.elapsed().as_secs_f64(),
            );
        }
        let waited = self.env.run(&["wait", "--json", "--beads", id]);
        let seconds = begun.elapsed().as_secs_f64();
        let end: Value =
            serde_json::from_str(&waited.stdout).unwrap_or_else(|error| panic!("{error}: {waited}"));
        let exit = &end["outcome"]["exit"];
        let exit =
            exit["signal"].as_i64().map_or_else(|| exit["code"].to_string(), |n| format!("signal {n}"));
        let told =
            [&end["state"], &end["reason_code"]].map(|word| word.as_str().unwrap_or_default().to_owned());
        assert!(!outside.exists(), "{} was written", outside.display());
        let [state, reason] = told;
        ([state, reason, exit], seconds)
    }

    /// Every process of a job, its tools' too, has our HOME; so has a monitor.
    fn await_nothing_left(&self) -> Result<(), String> {
        let home = self.env.home().display().to_string();
        let begun = Instant::now();
        loop {
            let left = processes_with_marker("HOME", &home);
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > SOON {
                return Err(format!("still there: {:?}", left.into_iter().map(describe).collect::<Vec<_>>()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Codex takes its settings from a folder: the usual one, and those that rows name.
fn codex_homes(env: &TestEnv, base_url: &str) {
    for (name, base_url, retries) in [
        (".codex", base_url, Some(2)),
        (".codex-rules", base_url, Some(2)),
        (".codex-defaults", base_url, None),
        (".codex-nobody", NOBODY, Some(1)),
        (".codex-nobody-defaults", NOBODY, None),
    ] {
        let folder = env.home().join(name);
        std::fs::create_dir_all(folder.join("rules")).unwrap();
        std::fs::write(folder.join("config.toml"), codex_config(base_url, retries)).unwrap();
    }
    let rule = "prefix_rule(pattern=[\"touch\"], decision=\"forbidden\")\n";
    std::fs::write(env.home().join(".codex-rules/rules/default.rules"), rule).unwrap();
}

/// Runs all rows of a provider in a suite, whatever becomes of each, and panics with all that differ. `false` when the
/// real agents are not there, which is said.
pub(crate) fn run(provider: &str, suite: &str) -> bool {
    let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR") else {
        println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
        return false;
    };
    let world = World::new(provider, Path::new(&agents));
    let rows = rows(provider, suite);
    assert!(!rows.is_empty(), "no row of {provider} in {suite}");
    let only = std::env::var("DX_TRUTH_ONLY").unwrap_or_default();
    let (mut wrong, mut measured) = (Vec::new(), BTreeMap::new());
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.case.contains(&only)) {
        let before = world.model.calls().len();
        let (told, seconds) = world.run(row, &format!("row-{index}"));
        let calls = world.model.calls().len() - before;
        println!("{provider}: {}: {} in {seconds:.1} s, {calls} calls", row.case, told.join(", "));
        let [state, reason, exits] = row.expected;
        if [&told[0], &told[1]] != [state, reason] || !exits.split(" or ").any(|exit| exit == told[2]) {
            wrong.push(format!("{}: {told:?}, not {:?}", row.case, row.expected));
        }
        if calls > CALLS {
            wrong.push(format!("{}: {calls} calls of the model", row.case));
        }
        wrong.extend(world.await_nothing_left().err().map(|left| format!("{}: {left}", row.case)));
        measured.insert((provider.to_owned(), row.case.to_owned()), seconds);
    }
    if std::env::var_os("DX_TRUTH_SECONDS").is_some() {
        note(measured);
    }
    assert!(wrong.is_empty(), "{provider}:\n{}", wrong.join("\n"));
    true
}

/// Puts the times into `seconds.txt`, beside those that were not measured now.
fn note(measured: BTreeMap<(String, String), f64>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/truth/seconds.txt");
    let mut known: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [provider, case, seconds] = cells[..] {
            known.insert((provider.to_owned(), case.to_owned()), seconds.to_owned());
        }
    }
    known.extend(measured.into_iter().map(|(row, seconds)| (row, format!("{seconds:.1}"))));
    let mut lines = String::new();
    for ((provider, case), seconds) in &known {
        lines.extend([provider, " | ", case, " | ", seconds, "\n"]);
    }
    std::fs::write(path, lines).unwrap();
}
