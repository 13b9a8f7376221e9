//! A power cut after every single write of a job's life: a run, the run of another job, the first job again. What is left
//! is given to the real commands under another boot.

use super::model::{Keeps, Left, Model, Op, materialise, read_trace};
use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
const OTHER_BOOT: &str = "00000000-1111-4222-8333-444444444444";

/// A run of the recorded story and what it promises from where on.
#[derive(Debug)]
struct Run {
    id: &'static str,
    code: i32,
    uuid: String,
    /// Position after which it can be found: its claim was durable, which is before `start` returned.
    claimed: usize,
    /// Position after which its exit is known.
    told: usize,
}

struct Story {
    env: TestEnv,
    ops: Vec<Op>,
    runs: Vec<Run>,
}

impl Story {
    /// Runs three real jobs and records their writes.
    fn record() -> Self {
        let mut env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE * 2);
        std::fs::create_dir(env.allowed_root().join("tree")).unwrap();
        let trace = env.path("trace");
        env.set("DX_FAULT_TRACE", &trace);
        let told = [("a", 7), ("b", 9), ("a", 8)];
        for (id, code) in told {
            start(&env, &env.state_dir(), id, code);
            wait_until(PATIENCE, "the run is published", || {
                let live = env.state_dir().join("live").join(format!("exec.{id}"));
                !live.exists() && last_recorded(&trace, &env.state_dir().join("history"))
            });
        }
        env.set("DX_FAULT_TRACE", "/dev/null");
        let ops = read_trace(&trace);
        let links = ops.iter().enumerate().filter(|(_, op)| op.kind == "link");
        let runs = links.zip(told).map(|((at, op), (id, code))| {
            let folder = op.path.parent().unwrap();
            let live = env.state_dir().join("live");
            let claimed = after(&ops, at, "sync_dir", &live);
            let synced = after(&ops, at, "sync_data", &folder.join("exit"));
            let told = after(&ops, synced, "sync_dir", &env.state_dir().join("runs"));
            // Whoever saw the exit makes it durable, name and all, before anybody is told of it.
            let ended = ops[synced..].iter().position(|op| op.tells("process_ended")).unwrap();
            assert!(told < synced + ended, "{:?}", &ops[synced..=told]);
            let uuid = folder.file_name().unwrap().to_str().unwrap().to_owned();
            Run { id, code, uuid, claimed, told }
        });
        let runs: Vec<Run> = runs.collect();
        assert_eq!(runs.len(), told.len());
        Self { env, ops, runs }
    }

    /// The runs that must be found after that many operations.
    fn promised(&self, done: usize) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.claimed < done)
    }

    /// What a cut leaves, each different case once, with the last position at which it is left: there the most is
    /// promised.
    fn cuts(&self) -> BTreeMap<Left, (usize, Keeps)> {
        let mut model = Model::new(self.env.root());
        let mut cuts = BTreeMap::new();
        for done in 0..=self.ops.len() {
            if done > 0 {
                model.apply(&self.ops[done - 1]);
            }
            for keeps in [Keeps::All, Keeps::Names, Keeps::Synced] {
                cuts.insert(model.cut(keeps), (done, keeps));
            }
        }
        cuts
    }
}

/// The history is what is written last.
fn last_recorded(trace: &Path, history: &Path) -> bool {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    let ops: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let removed = ops.iter().rposition(|op| op["op"] == "remove").unwrap_or(usize::MAX);
    let recorded = ops.iter().rposition(|op| {
        let path = Path::new(op["path"].as_str().unwrap_or_default());
        op["op"] == "sync_dir" && path == history
            || op["op"] == "sync_data"
                && path.starts_with(history)
                && ops
                    .iter()
                    .any(|op| op["op"] == "sync_dir" && op["path"].as_str().map(Path::new) == Some(history))
    });
    recorded.is_some_and(|recorded| removed < recorded)
}

#[track_caller]
fn after(ops: &[Op], from: usize, kind: &str, path: &Path) -> usize {
    let found = ops[from..].iter().position(|op| op.kind == kind && op.path == path);
    from + found.unwrap_or_else(|| panic!("no {kind} of {} after {from}", path.display()))
}

/// Starts a job that ends with this code, waits for its end, and gives the run's uuid.
#[track_caller]
fn start(env: &TestEnv, state: &Path, id: &str, code: i32) -> String {
    let mut command = env.product();
    command.args(["start", "--json", "--provider", "exec", "--beads", id, "--worktree"]);
    command.arg(env.allowed_root().join("tree")).arg("--state-dir").arg(state).arg("--");
    command.arg(env.fake_agent()).args(["print:hello", &format!("exit:{code}")]);
    let printed = env.run_command(command).assert_code(0).stdout;
    let document: Value = serde_json::from_str(&printed).unwrap();
    let uuid = document["run_uuid"].as_str().unwrap().to_owned();
    let (exit, told) = ask(env, state, &["wait", "--beads", id, "--timeout", "90s"]);
    assert_eq!(exit, if code == 0 { 0 } else { 3 }, "{told}");
    assert_eq!(told["outcome"]["ids"]["run_uuid"], *uuid, "{told}");
    assert_eq!(told["outcome"]["exit_code"], code.to_string(), "{told}");
    uuid
}

/// A command on a state directory: exit code and document, of the error when it failed.
#[track_caller]
fn ask(env: &TestEnv, state: &Path, args: &[&str]) -> (i32, Value) {
    let mut command = env.product();
    command.args(args).arg("--json").arg("--state-dir").arg(state);
    let output = env.run_command(command);
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{args:?}: {error}: {output}"));
    (output.code, document)
}

/// What is left, under another boot.
pub(crate) fn lay_out(left: &Left, root: &Path) -> PathBuf {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = left.iter().map(|(path, content)| {
        let moved = content.as_ref().map(|(inode, bytes)| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            (*inode, text.replace(boot.trim(), OTHER_BOOT).into_bytes())
        });
        (path.clone(), moved)
    });
    materialise(&other.collect(), root);
    root.join("state")
}

/// The outcome of a job that must be there, in the words that no look may change.
#[track_caller]
fn found(story: &Story, state: &Path, done: usize, run: &Run, case: &str) -> Value {
    let (code, check) = ask(&story.env, state, &["check", "--beads", run.id]);
    assert_eq!(code, 3, "{case}: {check:#}");
    let outcome = &check["outcome"];
    let uuid = outcome["ids"]["run_uuid"].as_str().unwrap_or_default();
    assert!(uuid >= run.uuid.as_str(), "{case}: an older run than {}: {check:#}", run.uuid);
    if uuid == run.uuid {
        let seen = outcome["exit_code"].as_str() == Some(&run.code.to_string())
            && outcome["reason_code"] == "process_exit_with_rc"
            && outcome["exit"]["code"] == run.code;
        let unseen = outcome["exit_code"] == "-" && outcome["reason_code"] == "host_rebooted";
        assert!(seen || (unseen && done <= run.told), "{case}: {check:#}");
    }
    ["state", "reason_code", "exit_code", "exit", "witness", "ids"].map(|key| outcome[key].clone()).into()
}

/// Everything that must hold for one case.
#[track_caller]
fn judge(story: &Story, state: &Path, done: usize, case: &str) {
    let env = &story.env;
    let newest: BTreeMap<&str, &Run> = story.promised(done).map(|run| (run.id, run)).collect();
    let rows = |when: &str| {
        let (code, status) = ask(env, state, &["status", "--all"]);
        assert_eq!(code, 0, "{case}, {when}: {status:#}");
        for id in newest.keys() {
            let rows = status["jobs"].as_array().unwrap().iter().filter(|row| row["beads"] == **id);
            assert_eq!(rows.count(), 1, "{case}, {when}: {id} in {status:#}");
        }
        status
    };
    rows("before prune");
    let before: Vec<Value> = newest.values().map(|run| found(story, state, done, run, case)).collect();
    let (code, prune) = ask(env, state, &["prune"]);
    assert_eq!(code, 0, "{case}: {prune:#}");
    let details = prune["details"].as_array().unwrap();
    let settled = |detail: &Value| detail.as_str().unwrap().contains(": settled as ");
    let cleared = |detail: &Value| {
        let detail = detail.as_str().unwrap();
        detail.contains("names no process") || detail.contains("cut off before its claim")
    };
    let recorded = |detail: &Value| detail.as_str().unwrap().starts_with("history: added ");
    assert!(details.iter().all(|d| settled(d) || cleared(d) || recorded(d)), "{case}: {prune:#}");
    assert_eq!(std::fs::read_dir(state.join("live")).unwrap().count(), 0, "{case}: {prune:#}");
    let status = rows("after prune");
    assert!(status["jobs"].as_array().unwrap().iter().all(|row| row["ended"] == true), "{case}: {status:#}");
    let again: Vec<Value> = newest.values().map(|run| found(story, state, done, run, case)).collect();
    assert_eq!(before, again, "{case}: settling wrote something else than readers showed");
    let (_, prune) = ask(env, state, &["prune"]);
    assert_eq!(prune["pruned"], 0, "{case}: {prune:#}");
    let index = index(state, case);
    for run in story.promised(done) {
        let Some(outcome) = index.get(&run.uuid) else { panic!("{case}: {} is not in {index:#?}", run.uuid) };
        let told = outcome["exit_code"].as_str() == Some(&run.code.to_string());
        assert!(told || done <= run.told, "{case}: {outcome:#}");
    }
    let uuid = start(env, state, "a", 0);
    let (_, check) = ask(env, state, &["check", "--beads", "a"]);
    assert_eq!(check["outcome"]["ids"]["run_uuid"], *uuid, "{case}: {check:#}");
}

/// The ended index: each run's outcome; lines of one run must agree.
#[track_caller]
fn index(state: &Path, case: &str) -> BTreeMap<String, Value> {
    let mut told = BTreeMap::new();
    for day in std::fs::read_dir(state.join("ended")).unwrap() {
        let text = std::fs::read_to_string(day.unwrap().path()).unwrap();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let outcome: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{case}: {e}: {line}"));
            let uuid = outcome["ids"]["run_uuid"].as_str().unwrap().to_owned();
            let other = told.insert(uuid, outcome.clone());
            assert!(other.is_none_or(|other| other == outcome), "{case}: {text}");
        }
    }
    told
}

#[test]
fn a_power_cut_after_any_write_loses_no_run_and_no_known_exit() {
    let story = Story::record();
    let cases = Mutex::new(story.cuts().into_iter().enumerate().collect::<Vec<_>>());
    let count = cases.lock().unwrap().len();
    let next = || cases.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((n, (left, (done, keeps)))) = next() {
                    let root = story.env.path(format!("cut-{n}"));
                    let state = lay_out(&left, &root);
                    let last = done.checked_sub(1).map(|at| &story.ops[at]);
                    let last =
                        last.map_or_else(String::new, |op| format!("{} {}", op.kind, op.path.display()));
                    let case = format!("{keeps:?} after {done} writes ({last})");
                    judge(&story, &state, done, &case);
                    std::fs::remove_dir_all(&root).unwrap();
                }
            });
        }
    });
    println!("{} writes, {count} different disks after a cut", story.ops.len());
}
