//! A full disk at the n-th write of a start and of what it sets going, for every n until none is left to fail. Writes into
//! reserved space (the exit file's slots) are failed like all others.

use super::ours;
use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
const MARK: &str = "DX_RUNNER_MARK";
/// No start and its run write more often.
const MOST: usize = 200;

/// One environment; each try has a state directory of its own in it.
struct World {
    env: TestEnv,
    repository: PathBuf,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// Nothing failed: there were fewer writes.
    Nothing,
    /// `start` told the failure.
    Start(String),
    /// The run went on and its exit was recorded.
    Run,
}

impl World {
    fn new() -> Self {
        let env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE * 2);
        let repository = env.git_repo("demo", &[("a.txt", "one\n")]);
        // A dirty path, so that the snapshot of the tree is written.
        std::fs::write(repository.join("dirty"), b"x").unwrap();
        Self { env, repository }
    }

    fn start_command(&self, state: &Path, actions: &[&str]) -> Command {
        let mut command = self.env.product();
        let prompt = self.env.path("prompt.md");
        std::fs::write(&prompt, b"do it\n").unwrap();
        command.args(["start", "--json", "--provider", "exec", "--beads", "full", "--worktree"]);
        command.arg(&self.repository).arg("--prompt-file").arg(prompt).arg("--state-dir").arg(state);
        command.arg("--").arg(self.env.fake_agent()).args(actions);
        command
    }

    /// A command about the job: exit code and document, of the error when it failed.
    #[track_caller]
    fn ask(&self, state: &Path, args: &[&str]) -> (i32, Value) {
        let mut command = self.env.product();
        command.args(args).arg("--json").arg("--state-dir").arg(state);
        let output = self.env.run_command(command);
        let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        (output.code, serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {output}")))
    }

    /// Fails the n-th write of a start in this state directory, which may be there already.
    #[track_caller]
    fn try_nth(&self, state: &Path, n: usize) -> Met {
        let counter = self.env.path(format!("{}.count", state.file_name().unwrap().display()));
        let pids = counter.with_extension("pids");
        let tell = format!("append-pid:{}", pids.display());
        let mut command = self.start_command(state, &[&tell, "print:hello", "exit:7"]);
        command.env("DX_FAULT_ENOSPC", format!("{n}@{}", counter.display()));
        let output = self.env.run_command(command);
        if output.code == 0 {
            let (_, told) = self.ask(state, &["wait", "--beads", "full", "--timeout", "90s"]);
            assert_eq!(told["outcome"]["exit_code"], "7", "n={n}: {told:#}");
            assert_eq!(told["outcome"]["exit"]["code"], 7, "n={n}: {told:#}");
            assert_eq!(told["outcome"]["reason_code"], "process_exit_with_rc", "n={n}: {told:#}");
            assert_eq!(std::fs::read_to_string(&pids).unwrap().lines().count(), 1, "n={n}");
            self.assert_over(state, n);
            assert_eq!(std::fs::read_to_string(state.join("exec/full.rc")).unwrap(), "7\n", "n={n}");
            let count = std::fs::metadata(&counter).unwrap().len();
            return if count < n as u64 { Met::Nothing } else { Met::Run };
        }
        assert_eq!(output.code, 1, "n={n}: {output}");
        let error = crate::document(&self.env, "error", &output.stderr);
        assert_eq!(error["error"]["reason_code"], "state_dir_unusable", "n={n}: {output}");
        let causes = error["error"]["causes"].to_string();
        assert!(causes.contains("No space left on device"), "n={n}: {output}");
        assert!(!pids.exists(), "n={n}: the agent of a failed start ran: {output}");
        if state.is_dir() {
            self.assert_over(state, n);
        }
        Met::Start(error["error"]["message"].as_str().unwrap().replace(&state.display().to_string(), ""))
    }

    /// No claim, no process and no half record is left, and the next start works.
    #[track_caller]
    fn assert_over(&self, state: &Path, n: usize) {
        let names = |folder: &str| {
            let entries =
                std::fs::read_dir(state.join(folder)).map_or_else(|_| Vec::new(), Iterator::collect);
            let names = entries.into_iter().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<String>>()
        };
        wait_until(PATIENCE, &format!("n={n}: the claim is gone"), || names("live").is_empty());
        wait_until(PATIENCE, &format!("n={n}: our processes are gone"), || ours(state).is_empty());
        for uuid in names("runs") {
            assert_eq!(dx_testkit::processes_with_marker(MARK, &uuid), [] as [i32; 0], "n={n}");
            let journal = std::fs::read_to_string(state.join("runs").join(&uuid).join("journal")).unwrap();
            let last = journal.lines().next_back().unwrap_or_default();
            assert!(last.contains(r#""type":"ended""#), "n={n}: half a record: {journal}");
            let index = names("ended")
                .into_iter()
                .map(|day| std::fs::read_to_string(state.join("ended").join(day)).unwrap());
            assert!(index.collect::<String>().contains(&uuid), "n={n}: not in the ended index: {journal}");
        }
        assert_eq!(names("tmp"), [] as [String; 0], "n={n}");
        assert!(!names("exec").iter().any(|name| name.contains(".tmp-")), "n={n}: {:?}", names("exec"));
        let (code, status) = self.ask(state, &["status", "--all"]);
        assert_eq!(code, 0, "n={n}: {status:#}");
        assert!(
            status["jobs"].as_array().unwrap().iter().all(|row| row["ended"] == true),
            "n={n}: {status:#}"
        );
    }

    /// The next start on a disk with room works.
    #[track_caller]
    fn assert_usable(&self, state: &Path, n: usize) {
        let output = self.env.run_command(self.start_command(state, &["exit:0"]));
        assert_eq!(output.code, 0, "n={n}: {output}");
        let (code, told) = self.ask(state, &["wait", "--beads", "full", "--timeout", "90s"]);
        assert_eq!(code, 0, "n={n}: {told:#}");
    }
}

/// Every n on a copy of `before` (or on nothing), until nothing fails; gives what came of each.
#[track_caller]
fn every_n(world: &World, before: Option<&Path>) -> Vec<Met> {
    let mut all = Vec::new();
    for n in 1..MOST {
        let state = world.env.path(format!("full-{n}"));
        if let Some(before) = before {
            let mut copy = world.env.command("cp");
            copy.arg("-a").arg(before).arg(&state);
            world.env.run_command(copy).assert_code(0);
        }
        let met = world.try_nth(&state, n);
        world.assert_usable(&state, n);
        std::fs::remove_dir_all(&state).unwrap();
        all.push(met);
        if all.last() == Some(&Met::Nothing) {
            return all;
        }
    }
    panic!("more than {MOST} writes");
}

/// Neither all of the starts failed nor none, and the same of the runs.
#[track_caller]
fn assert_both(all: &[Met]) {
    let runs = all.iter().filter(|met| **met == Met::Run).count();
    assert!(runs > 10 && all.len() - runs > 10, "{all:#?}");
}

#[test]
fn a_full_disk_at_any_write_of_a_first_start_is_told_or_survived() {
    let all = every_n(&World::new(), None);
    println!("{all:#?}");
    assert_both(&all);
}

#[test]
fn a_full_disk_at_any_write_of_a_later_start_is_told_or_survived() {
    let world = World::new();
    let before = world.env.path("before");
    world.assert_usable(&before, 0);
    wait_until(PATIENCE, "the first run is over", || ours(&before).is_empty());
    let all = every_n(&world, Some(&before));
    println!("{all:#?}");
    assert_both(&all);
}

/// From the n-th write on nothing fits any more, until the agent has ended and somebody makes room.
#[track_caller]
fn stay_full_from(world: &World, state: &Path, n: usize) -> Met {
    let counter = world.env.path(format!("{}.count", state.file_name().unwrap().display()));
    let pids = counter.with_extension("pids");
    let free = || std::fs::write(format!("{}.free", counter.display()), b"").unwrap();
    let mut command = world.start_command(state, &[&format!("append-pid:{}", pids.display()), "exit:7"]);
    command.env("DX_FAULT_ENOSPC", format!("{n}+@{}", counter.display()));
    let output = world.env.run_command(command);
    let met = if output.code == 0 {
        let told = || {
            let runs = std::fs::read_dir(state.join("runs")).unwrap().flatten();
            let exits = runs.map(|run| std::fs::read_to_string(run.path().join("exit")).unwrap_or_default());
            exits.into_iter().any(|text| text.contains(r#""exit":{"code":7}"#))
        };
        wait_until(PATIENCE, &format!("n={n}: the exit is recorded on a full disk"), told);
        let (_, check) = world.ask(state, &["check", "--beads", "full"]);
        assert!(check["error"].is_null(), "n={n}: {check:#}");
        free();
        let (_, told) = world.ask(state, &["wait", "--beads", "full", "--timeout", "90s"]);
        assert_eq!(told["outcome"]["exit"]["code"], 7, "n={n}: {told:#}");
        assert_eq!(std::fs::read_to_string(&pids).unwrap().lines().count(), 1, "n={n}");
        if std::fs::metadata(&counter).unwrap().len() < n as u64 { Met::Nothing } else { Met::Run }
    } else {
        let error = crate::document(&world.env, "error", &output.stderr);
        assert_eq!(error["error"]["reason_code"], "state_dir_unusable", "n={n}: {output}");
        assert!(!pids.exists(), "n={n}: the agent of a failed start ran: {output}");
        free();
        Met::Start(String::new())
    };
    if state.is_dir() {
        // What a failed start could not even settle is settled now.
        let (code, prune) = world.ask(state, &["prune"]);
        assert_eq!(code, 0, "n={n}: {prune:#}");
        world.assert_over(state, n);
    }
    world.assert_usable(state, n);
    met
}

#[test]
fn a_disk_that_stays_full_loses_no_exit() {
    let world = World::new();
    for n in (1..MOST).step_by(3) {
        let state = world.env.path(format!("stays-{n}"));
        let met = stay_full_from(&world, &state, n);
        println!("n={n}: {met:?}");
        std::fs::remove_dir_all(&state).unwrap();
        if met == Met::Nothing {
            return;
        }
    }
    panic!("more than {MOST} writes");
}
