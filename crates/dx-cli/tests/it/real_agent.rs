//! A real agent's command line in one home, with its scripted model and a repository: what the tests of the agents have in
//! common.
//!
//! Called by: those tests. Must never: know a provider; what one needs beside this its own tests say.

#![allow(clippy::print_stdout, reason = "says what is left out")]

use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::{Output, TestEnv, describe, processes_with_marker, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A machine under load needs a multiple of what a quiet one does.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);
/// In every prompt, so that a prompt in a command line can be found.
pub(crate) const SECRET_WORD: &str = "xylophone-7742";

/// The folder of the real agents. `None` when there is none, which is said.
pub(crate) fn agents_dir() -> Option<PathBuf> {
    let folder = std::env::var_os("DX_TEST_AGENTS_DIR").map(PathBuf::from);
    if folder.is_none() {
        println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
    }
    folder
}

/// One agent with its world.
pub(crate) struct RealAgent {
    pub(crate) env: TestEnv,
    pub(crate) model: ScriptedModel,
    pub(crate) repository: PathBuf,
    /// The real one, not the link on PATH.
    pub(crate) program: PathBuf,
    provider: &'static str,
}

impl RealAgent {
    /// `None` without the real agents. Its sandbox is what users have, and no more.
    pub(crate) fn new(provider: &'static str, program: &str) -> Option<Self> {
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        Self::with_model(provider, program, model)
    }

    /// The same with a model of one's own.
    pub(crate) fn with_model(provider: &'static str, program: &str, model: ScriptedModel) -> Option<Self> {
        let agents = agents_dir()?;
        let mut env = environment().deadline(PATIENCE);
        let real = agents.join(program).canonicalize().unwrap();
        env.link_program(program, &real);
        env.set("DX_RUNNER_SANDBOX_WRITE", "");
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Some(Self { env, model, repository, program: real, provider })
    }

    /// The command line of a start in a worktree, with the prompt on standard input.
    pub(crate) fn args<'a>(&self, id: &'a str, worktree: &'a str) -> Vec<&'a str> {
        ["start", "--beads", id, "--provider", self.provider, "--prompt-file", "-", "--worktree", worktree]
            .to_vec()
    }

    /// Starts a job in the repository, whatever comes of it.
    pub(crate) fn try_start(&self, id: &str, prompt: &[u8], more: &[&str]) -> Output {
        let worktree = self.repository.display().to_string();
        let mut command = self.env.product();
        command.args(self.args(id, &worktree)).args(more);
        self.env.try_run(command, prompt).unwrap()
    }

    #[track_caller]
    pub(crate) fn start(&self, id: &str, scenario: &str, more: &[&str]) -> Output {
        let prompt = format!("Do the task {SECRET_WORD} [[mock:{scenario}]]");
        self.try_start(id, prompt.as_bytes(), more).assert_code(0)
    }

    #[track_caller]
    pub(crate) fn end(&self, id: &str) -> Value {
        let output = self.env.run(&["wait", "--json", "--beads", id]);
        document(&self.env, "check", &output.stdout)
    }

    /// The end of a job in this state, for this reason.
    #[track_caller]
    pub(crate) fn end_as(&self, id: &str, state: &str, reason: &str) -> Value {
        let end = self.end(id);
        assert_eq!((&end["state"], &end["reason_code"]), (&state.into(), &reason.into()), "{end:#}");
        end
    }

    /// Waits until `check` tells this reason.
    #[track_caller]
    pub(crate) fn until_told(&self, id: &str, reason: &str) {
        wait_until(PATIENCE, &format!("{reason} is told"), || {
            let check = self.env.run(&["check", "--json", "--beads", id]).stdout;
            serde_json::from_str::<Value>(&check).unwrap()["reason_code"] == reason
        });
    }

    /// A process of a job: its command line contains the words.
    pub(crate) fn process(&self, words: &str) -> Option<i32> {
        let home = self.env.home().display().to_string();
        processes_with_marker("HOME", &home).into_iter().find(|pid| describe(*pid).contains(words))
    }

    /// The agent of a job.
    pub(crate) fn pid(&self, id: &str) -> i32 {
        let status = self.env.run(&["status", "--json", "--beads", id]).assert_code(0).stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn contract(&self, id: &str) -> String {
        self.record(&format!("{id}.contract"))
    }

    /// No published file of any job holds the text.
    #[track_caller]
    pub(crate) fn assert_not_recorded(&self, secret: &str) {
        let folder = self.env.state_dir().join(self.provider);
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            assert!(!text.contains(secret), "a secret is in {}", entry.path().display());
        }
    }

    fn record(&self, name: &str) -> String {
        std::fs::read_to_string(self.env.state_dir().join(self.provider).join(name)).unwrap()
    }

    /// Six jobs of a fresh home at once: none fails, and each writes its file.
    #[track_caller]
    pub(crate) fn six_first_starts_at_once(&self) {
        let ids: Vec<String> = (0..6).map(|n| format!("first-{n}")).collect();
        std::thread::scope(|scope| {
            for id in &ids {
                scope.spawn(move || self.start(id, &format!("write:{id}.txt:x,text:DONE"), &[]));
            }
        });
        for id in &ids {
            self.end_as(id, "exited_ok", "process_exit_with_rc");
            assert!(self.repository.join(format!("{id}.txt")).exists(), "{id}");
        }
    }

    /// A long prompt arrives to its last word, one that looks like options is none, neither is in a command line; and what
    /// no agent could read is refused before there is anything of it.
    #[track_caller]
    pub(crate) fn prompts_arrive_whole_or_are_refused(&self) {
        for (id, begin) in [
            ("long", format!("Read {SECRET_WORD}\n{}", "0123456789abcde\n".repeat(300 * 64))),
            ("dash", format!("--help\n-c {SECRET_WORD} --yolo -p\n")),
        ] {
            let prompt = format!("{begin}[[mock:bash:touch {id}.ran; sleep 0.5,write:{id}.txt:x,text:DONE]]");
            self.try_start(id, prompt.as_bytes(), &[]).assert_code(0);
            let ran = self.repository.join(format!("{id}.ran"));
            wait_until(PATIENCE, "the tool runs", || ran.exists());
            assert!(self.process(SECRET_WORD).is_none(), "the prompt is in a command line");
            self.end_as(id, "exited_ok", "process_exit_with_rc");
            assert!(self.repository.join(format!("{id}.txt")).is_file(), "{id}");
        }
        for (id, prompt) in [("nul", &b"go\0on"[..]), ("utf8", b"go \xff\xfe"), ("empty", b" \n")] {
            let refused = self.try_start(id, prompt, &[]).assert_code(64);
            assert!(refused.stderr.contains("reason: prompt_invalid"), "{id}: {refused}");
        }
    }
}

/// Without its program a start is refused, and `doctor` says that it is missing.
#[track_caller]
pub(crate) fn assert_refused_without_program(provider: &str, reason: &str) {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let nowhere = env.path("nowhere");
    env.set("PATH", nowhere);
    let args = ["start", "--provider", provider, "--prompt-file", "-", "--worktree", &repository];
    let output = env.run_with_stdin(&args, "go").assert_code(21);
    assert!(output.stderr.contains(&format!("reason: {reason}")), "{output}");
    let doctor = env.run(&["doctor"]).stdout;
    let row = format!("provider {provider}");
    assert!(doctor.lines().any(|line| line.contains(&row) && line.contains("not found")), "{doctor}");
}
