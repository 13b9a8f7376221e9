//! A state directory with jobs of a fake agent, the processes of ours behind them, and the one expectation that every
//! crash test holds a job against.
//!
//! For: `kills` and the soak tests. Must never: look into the product; it sees commands, files and `/proc`.

use dx_testkit::{TestEnv, describe, processes_with_marker, send_signal, wait_for_file, wait_until};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The machine may be loaded with other builds and tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const KILL: i32 = 9;
pub(crate) const STOP: i32 = 19;
/// What the fake agents exit with: no code that ours ever have.
pub(crate) const CODE: i32 = 7;
/// What the fake agents print.
const PRINTED: &str = "one\ntwo\n";
const MARK: &str = "DX_RUNNER_MARK";

/// A state directory and a worktree outside git.
pub(crate) struct World {
    pub(crate) env: TestEnv,
    worktree: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE * 2);
        let worktree = env.allowed_root().join("tree");
        std::fs::create_dir_all(&worktree).unwrap();
        Self { env, worktree }
    }

    /// A job of this id whose agent proves that it ran, prints, waits for [`Job::go`], prints, and exits with [`CODE`].
    pub(crate) fn job(&self, id: &str) -> Job<'_> {
        let mut job = Job { world: self, id: id.to_owned(), variables: Vec::new(), actions: Vec::new() };
        let wait = format!("wait-file:{}", job.file("go").display());
        job.actions = vec!["print:one".into(), wait, "print:two".into(), format!("exit:{CODE}")];
        job
    }
}

/// One job and its files.
pub(crate) struct Job<'w> {
    pub(crate) world: &'w World,
    pub(crate) id: String,
    variables: Vec<(&'static str, String)>,
    /// What the agent does once it has told its pid.
    actions: Vec<String>,
}

/// A process of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) pid: i32,
    pub(crate) name: String,
}

impl<'w> Job<'w> {
    /// Sets a variable for `start`.
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Replaces what the agent does after telling its pid.
    pub(crate) fn doing(mut self, actions: &[&str]) -> Self {
        self.actions = actions.iter().map(|action| (*action).to_owned()).collect();
        self
    }

    /// A job of the same id with the same agent, as after a crash.
    pub(crate) fn again(&self) -> Job<'w> {
        Job { world: self.world, id: self.id.clone(), variables: Vec::new(), actions: self.actions.clone() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.world.env.path(format!("{}.{name}", self.id))
    }

    pub(crate) fn start_command(&self, more: &[&str]) -> Command {
        let mut command = self.world.env.product();
        command.args(["start", "--json", "--provider", "exec", "--beads", &self.id, "--worktree"]);
        command.arg(&self.world.worktree).args(more).arg("--").arg(self.world.env.fake_agent());
        command.arg(format!("append-pid:{}", self.file("pids").display())).args(&self.actions);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and gives the run's uuid.
    #[track_caller]
    pub(crate) fn start(&self, more: &[&str]) -> String {
        let output = self.world.env.run_command(self.start_command(more)).assert_code(0);
        uuid_of(&output.stdout)
    }

    /// Lets the agent end.
    pub(crate) fn go(&self) {
        std::fs::write(self.file("go"), b"").unwrap();
    }

    /// A command about this job with `--json`, its exit code and document (`null` when it printed none).
    #[track_caller]
    pub(crate) fn ask(&self, args: &[&str]) -> (i32, Value) {
        let all = [args, &["--beads", &self.id, "--json"]].concat();
        let output = self.world.env.run(&all);
        let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        (output.code, serde_json::from_str(text).unwrap_or(Value::Null))
    }

    /// A file that is published for the newest run.
    pub(crate) fn view(&self, suffix: &str) -> PathBuf {
        self.world.env.state_dir().join("exec").join(format!("{}.{suffix}", self.id))
    }

    /// The pids that agents of this job told.
    pub(crate) fn agents(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.file("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// The events of a run's journal; a line that is being written is left out.
    pub(crate) fn events(&self, uuid: &str) -> Vec<Value> {
        let path = self.world.env.state_dir().join("runs").join(uuid).join("journal");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.map(|mut record| record["event"].take()).collect()
    }

    /// How many monitors took the run over from a dead one.
    pub(crate) fn adoptions(&self, uuid: &str) -> usize {
        let adopted = |event: &&Value| event["type"] == "monitor_started" && event["adopted"] == true;
        self.events(uuid).iter().filter(adopted).count()
    }

    /// Waits until the run has a process of this name that is none of `not`, and gives its pid.
    #[track_caller]
    pub(crate) fn await_ours(&self, uuid: &str, name: &str, not: &[i32]) -> i32 {
        let mut found = None;
        wait_until(PATIENCE, &format!("{} has a new {name}", self.id), || {
            let fresh = |o: &&Ours| o.name == name && !not.contains(&o.pid);
            found = programs(uuid).iter().find(fresh).map(|o| o.pid);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the agent runs.
    #[track_caller]
    pub(crate) fn await_agent(&self) -> i32 {
        wait_for_file(PATIENCE, self.file("pids"));
        wait_until(PATIENCE, "the agent told its pid", || !self.agents().is_empty());
        self.agents()[0]
    }

    /// Waits for the end with the product's own command and gives the document.
    #[track_caller]
    pub(crate) fn wait(&self) -> Value {
        let (code, document) = self.ask(&["wait", "--timeout", "90s"]);
        assert!([0, 3].contains(&code), "{}: wait exits with {code}: {document}", self.id);
        document
    }

    /// The expectation: the true exit code with a witness of ours, one agent, a whole log, nothing left running,
    /// everything published, and nothing that a second settling would change. Gives the outcome.
    #[track_caller]
    pub(crate) fn assert_told(&self, uuid: &str, code: i32) -> Value {
        let document = self.wait();
        let outcome = document["outcome"].clone();
        let history = || format!("{}: {document:#}\n{:#?}", self.id, self.events(uuid));
        assert_eq!(outcome["ids"]["run_uuid"], *uuid, "{}", history());
        assert_eq!(outcome["exit_code"], code.to_string(), "{}", history());
        assert_eq!(outcome["exit"]["code"], code, "{}", history());
        assert!(
            ["launcher", "monitor", "pidfd"].contains(&outcome["witness"].as_str().unwrap_or_default()),
            "{}",
            history()
        );
        assert_eq!(outcome["reason_code"], "process_exit_with_rc", "{}", history());
        assert_eq!(std::fs::read_to_string(self.view("log")).unwrap(), PRINTED, "{}", history());
        assert_eq!(std::fs::read_to_string(self.view("rc")).unwrap().trim(), code.to_string());
        self.assert_settled(uuid);
        outcome
    }

    /// An end that nobody but a guard was left to see: true where the kernel tells exits, honestly unknown elsewhere.
    #[track_caller]
    pub(crate) fn assert_told_by_the_kernel(&self, uuid: &str, code: i32) {
        if kernel_tells_exits() {
            assert_eq!(self.assert_told(uuid, code)["witness"], "pidfd");
        } else {
            let document = self.wait();
            assert_eq!(document["outcome"]["exit_code"], "-", "{document:#}");
            self.assert_settled(uuid);
        }
    }

    /// Every end, seen or not: one agent at most, nothing left running, everything published once.
    #[track_caller]
    pub(crate) fn assert_settled(&self, uuid: &str) {
        self.assert_gone(uuid);
        assert!(self.agents().len() <= 1, "{}: agents {:?}", self.id, self.agents());
        let live = self.world.env.state_dir().join("live").join(format!("exec.{}", self.id));
        assert!(!live.exists(), "{} still holds its claim: {:#?}", self.id, self.events(uuid));
        let ended = self.events(uuid).iter().filter(|event| event["type"] == "ended").count();
        assert_eq!(ended, 1, "{}: {:#?}", self.id, self.events(uuid));
        let lines = self.ended_lines(uuid);
        assert!((1..=2).contains(&lines.len()), "{}: ended index {lines:?}", self.id);
        assert!(lines.windows(2).all(|pair| pair[0] == pair[1]), "{}: ended index {lines:?}", self.id);
        let before = std::fs::read(self.view("outcome")).unwrap();
        let (code, document) = self.ask(&["finalize"]);
        assert_eq!((code, &document["changed"]), (0, &Value::Bool(false)), "{}: {document}", self.id);
        assert_eq!(std::fs::read(self.view("outcome")).unwrap(), before, "{}", self.id);
    }

    /// No process of the run is left: none of ours, none with its mark.
    #[track_caller]
    pub(crate) fn assert_gone(&self, uuid: &str) {
        let left = || {
            let mut pids = processes_with_marker(MARK, uuid);
            pids.extend(ours(uuid).iter().map(|o| o.pid));
            pids
        };
        let start = std::time::Instant::now();
        wait_until(PATIENCE * 2, "nothing of the run is left", || {
            let left = left();
            let list = || left.iter().map(|pid| describe(*pid)).collect::<Vec<_>>().join("\n");
            assert!(start.elapsed() < PATIENCE, "{} left:\n{}\n{:#?}", self.id, list(), self.events(uuid));
            left.is_empty()
        });
    }

    fn ended_lines(&self, uuid: &str) -> Vec<String> {
        let days = std::fs::read_dir(self.world.env.state_dir().join("ended")).unwrap();
        let texts = days.flatten().map(|day| std::fs::read_to_string(day.path()).unwrap());
        let lines: Vec<String> =
            texts.flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.into_iter().filter(|line| line.contains(uuid)).collect()
    }
}

/// The run's uuid out of the document of `start`.
#[track_caller]
pub(crate) fn uuid_of(printed: &str) -> String {
    let document: Value = serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    document["run_uuid"].as_str().unwrap().to_owned()
}

/// Processes of ours with this word (a run's uuid, a state directory) on their command line. Zombies have none.
pub(crate) fn ours(word: &str) -> Vec<Ours> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = pids.filter_map(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mine = line.split('\0').any(|argument| argument == word);
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        mine.then_some(Ours { pid, name })
    });
    named.collect()
}

/// Monitors, launchers and guards among [`ours`]. A fork that has not yet become what it will be (an agent, a helper, an
/// adopter) still has its parent's name and is left out: killing it would kill something else than its name says.
pub(crate) fn programs(word: &str) -> Vec<Ours> {
    let name_of = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let parent_of = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok())
    };
    let mut found = ours(word);
    found.retain(|o| ["dx-monitor", "dx-launcher", "dx-guard"].contains(&o.name.as_str()));
    found.retain(|o| parent_of(o.pid).is_some_and(|parent| name_of(parent).trim() != o.name));
    found
}

#[track_caller]
pub(crate) fn kill(pid: i32) {
    assert!(send_signal(pid, KILL), "{pid} had gone before it could be killed");
}

/// Whether this kernel tells the exit of a process that is no child (`PIDFD_GET_INFO` with exit, Linux 6.15).
fn kernel_tells_exits() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}
