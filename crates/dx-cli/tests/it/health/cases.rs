//! The scripted cases of health: jobs of a fake agent that is silent in all the ways that are known, looked at until each
//! named moment has passed, and false alarms and misses counted.
//!
//! For: the soak suite `health`; `health` reads the table for the guide. Must never: judge by itself; what is expected
//! stands in `cases.txt` and `unseen.txt`.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "words.rs"]
mod words;

use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

const CASES: &str = include_str!("cases.txt");
const UNSEEN: &str = include_str!("unseen.txt");
/// The threshold of everything.
const THRESHOLD: Duration = Duration::from_secs(4);
/// Until a job that never gave a sign is a no-op: longer than a start takes on a crowded machine.
const NO_OP: Duration = Duration::from_secs(6);
/// When is looked, in halves of the threshold after the agent began to do what its case is about.
pub(crate) const MOMENTS: [(&str, u32); 3] =
    [("after half a threshold", 1), ("after two", 4), ("after five", 10)];
const PATIENCE: Duration = Duration::from_mins(2);
/// States that call for a person.
const ALARMS: [&str; 3] = ["stalled", "no_op", "exited_err"];

/// A Claude Code, Codex, Gemini CLI or OpenCode whose prompt is what the fake agent shall do.
const PLAYER: &str = "#!/bin/sh\ncase \"$1\" in\nmodels) echo mock/m1; exit ;;\n--version) echo 1.0; exit ;;\nesac\n\
    eval \"set -- $(cat)\"\nexec FAKE_AGENT \"$@\"\n";

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    agent: &'static str,
    actions: &'static str,
    options: &'static str,
    pub(crate) expected: [&'static str; 3],
    /// `ended` or `left alone`.
    pub(crate) watchdog: &'static str,
}

fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('|').map(str::trim).collect())
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |cells: Vec<&'static str>| {
        let [name, agent, actions, options, begin, two, five, watchdog] = cells[..] else {
            panic!("not eight cells: {cells:?}")
        };
        Case { name, agent, actions, options, expected: [begin, two, five], watchdog }
    };
    lines(CASES).map(case).collect()
}

/// Those that only the watchdog meets.
pub(crate) fn unseen() -> Vec<Case> {
    let case = |cells: Vec<&'static str>| {
        let [name, agent, actions, options, watchdog] = cells[..] else {
            panic!("not five cells: {cells:?}")
        };
        Case { name, agent, actions, options, expected: ["-"; 3], watchdog }
    };
    lines(UNSEEN).map(case).collect()
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" ")
}

/// Whether a verdict is one of those that a cell allows.
fn fits(cell: &str, seen: &(String, String)) -> bool {
    cell.split(" or ").any(|one| match one.split_once(' ') {
        Some((state, reason)) => state == seen.0 && reason == seen.1,
        None => one == seen.0,
    })
}

fn allows_alarm(cell: &str) -> bool {
    cell.split(" or ").any(|one| ALARMS.contains(&one.split(' ').next().unwrap_or_default()))
}

/// One job that is looked at.
struct Watched {
    case: Case,
    id: String,
    /// Made by the agent when it begins to do what its case is about.
    begun: std::path::PathBuf,
    seen: Vec<(String, String)>,
    /// Alarms seen between two moments that both allow none.
    between: Vec<String>,
}

/// Runs all cases at once; the numbers of false alarms and misses, and all that was not as expected.
pub(crate) fn run() -> Vec<String> {
    let env = environment();
    let mut watched: Vec<Watched> =
        cases().into_iter().enumerate().map(|(index, case)| Watched::new(&env, index, case)).collect();
    let commands: Vec<_> = watched.iter().map(|job| start(&env, job)).collect();
    let mut newest = BTreeMap::new();
    std::thread::scope(|scope| {
        let env = &env;
        for (command, prompt) in commands {
            scope.spawn(move || env.try_run(command, prompt.as_bytes()).unwrap().assert_code(0));
        }
        wait_until(PATIENCE + THRESHOLD * 6, "all moments have passed", || {
            let at = SystemTime::now();
            look(env, &mut newest);
            for job in &mut watched {
                note(job, at, &newest);
            }
            watched.iter().all(|job| job.seen.len() == MOMENTS.len())
        });
    });
    env.run(&["stop", "--all", "--grace", "0s"]);
    tell(&watched)
}

/// All cases under a watchdog that gives no second try: who was ended that should not have been, and who was not. One
/// half after the other, or two cores would hardly be left to those whose CPU is looked at.
pub(crate) fn run_watched() -> Vec<String> {
    let seen = cases().len();
    let all: Vec<Case> = cases().into_iter().chain(unseen()).collect();
    let total = all.len();
    let (mut killed, mut missed, mut wrong) = (0, 0, Vec::new());
    let mut all = all.into_iter().enumerate().peekable();
    while all.peek().is_some() {
        for (index, case, state, reason) in watch(all.by_ref().take(total.div_ceil(2))) {
            let found = if state == "blocked" { "ended" } else { "left alone" };
            let word = match (found, case.watchdog) {
                (found, expected) if found == expected => "ok",
                ("ended", _) => "FALSE KILL",
                _ => "MISSED",
            };
            killed += usize::from(word == "FALSE KILL");
            missed += usize::from(word == "MISSED");
            let which = if index < seen { "" } else { " (unseen)" };
            println!("{}{which}: {} -> {found}, {state} {reason} {word}", case.name, case.watchdog);
            if word != "ok" {
                wrong.push(format!("{}: {state} {reason} ({word})", case.name));
            }
        }
    }
    println!("\n{total} cases, {} unseen: {killed} false kills, {missed} missed hangs", total - seen);
    // At the edge of a threshold of seconds a hang may be missed on a busy machine; nobody may be killed.
    if killed == 0 && missed <= 1 { Vec::new() } else { wrong }
}

/// Runs these cases at once under one watchdog, and tells what is said of each in the end: its state and the reason.
fn watch(cases: impl Iterator<Item = (usize, Case)>) -> Vec<(usize, Case, String, String)> {
    let mut env = environment();
    env.set("DX_RUNNER_GRACE_MS", "300");
    let (indices, jobs): (Vec<_>, Vec<_>) =
        cases.map(|(index, case)| (index, Watched::new(&env, index, case))).unzip();
    let commands: Vec<_> = jobs.iter().map(|job| start(&env, job)).collect();
    let mut command = env.product();
    let mut watchdog =
        command.args(["watchdog", "--interval", "500ms", "--max-retries", "0"]).spawn().unwrap();
    let mut newest = BTreeMap::new();
    std::thread::scope(|scope| {
        let env = &env;
        for (command, prompt) in commands {
            scope.spawn(move || env.try_run(command, prompt.as_bytes()).unwrap().assert_code(0));
        }
        wait_until(PATIENCE + THRESHOLD * 6, "all moments have passed", || {
            let past = |job: &Watched| {
                let begun = std::fs::metadata(&job.begun).and_then(|begun| begun.modified());
                begun.is_ok_and(|begun| begun.elapsed().is_ok_and(|since| since > THRESHOLD * 7))
            };
            jobs.iter().all(past)
        });
    });
    look(&env, &mut newest);
    dx_testkit::send_signal(watchdog.id() as i32, 15);
    assert_eq!(watchdog.wait().unwrap().code(), Some(0), "the watchdog survives them all");
    env.run(&["stop", "--all", "--grace", "0s"]);
    let said = indices.into_iter().zip(jobs).map(|(index, job)| {
        let (state, reason) = newest[&job.id].clone();
        (index, job.case, state, reason)
    });
    said.collect()
}

fn environment() -> TestEnv {
    let mut env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE);
    let player = PLAYER.replace("FAKE_AGENT", &env.fake_agent().display().to_string());
    for name in ["claude", "codex", "gemini", "opencode"] {
        let path = env.bin_dir().join(name);
        std::fs::write(&path, &player).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (name, time) in [("STARTUP_GRACE", THRESHOLD), ("NO_OP", NO_OP), ("STALL", THRESHOLD)] {
        env.set(format!("DX_RUNNER_{name}_SEC"), time.as_secs().to_string());
    }
    for name in ["EXEC", "OPENCODE", "CLAUDE_CODE", "CODEX", "GEMINI"] {
        env.set(format!("DX_RUNNER_MAX_PARALLEL_{name}"), "100");
    }
    for name in ["OPENAI_API_KEY", "GEMINI_API_KEY"] {
        env.set(name, "fake");
    }
    env
}

impl Watched {
    fn new(env: &TestEnv, index: usize, case: Case) -> Self {
        let id = format!("case-{index}");
        env.git_repo(&id, &[("a.txt", "one\n")]);
        let begun = env.path(format!("{id}.begun"));
        Self { case, id, begun, seen: Vec::new(), between: Vec::new() }
    }
}

/// The start of a job and its prompt.
fn start(env: &TestEnv, job: &Watched) -> (Command, String) {
    let Watched { case, id, begun, .. } = job;
    let worktree = env.allowed_root().join(id).display().to_string();
    let actions = words::actions(case.agent, case.actions, begun);
    let provider = if case.agent == "pty" { "exec" } else { case.agent };
    let mut command = env.product();
    command.args(["start", "--beads", id, "--provider", provider, "--worktree", &worktree]);
    command.args(case.options.split_whitespace().filter(|word| *word != "-"));
    if provider == "opencode" {
        command.args(["--model", "mock/m1", "--allow-model-override"]);
    }
    if ["claude-code", "codex", "gemini"].contains(&provider) {
        // What one case is told of a limit shall hold no other up.
        command.args(["--model", id]);
    }
    let prompt = if provider == "exec" {
        command.args((case.agent == "pty").then_some("--pty")).arg("--").arg(env.fake_agent()).args(&actions);
        String::new()
    } else {
        command.args(["--prompt-file", "-"]);
        quoted(&actions)
    };
    (command, prompt)
}

/// The newest verdict of every job.
fn look(env: &TestEnv, newest: &mut BTreeMap<String, (String, String)>) {
    let listed = env.run(&["status", "--all", "--json"]).assert_code(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    for job in listed["jobs"].as_array().unwrap() {
        let word = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
        newest.insert(word("beads"), (word("state"), word("reason_code")));
    }
}

/// Takes in a verdict that was asked for at this time.
fn note(job: &mut Watched, at: SystemTime, newest: &BTreeMap<String, (String, String)>) {
    let begun = std::fs::metadata(&job.begun).and_then(|begun| begun.modified()).ok();
    let since = begun.and_then(|begun| at.duration_since(begun).ok());
    let (Some(since), Some(verdict)) = (since, newest.get(&job.id)) else { return };
    let Some((_, halves)) = MOMENTS.get(job.seen.len()) else { return };
    if since >= THRESHOLD / 2 * *halves {
        job.seen.push(verdict.clone());
        return;
    }
    let mut around = job.case.expected[job.seen.len().saturating_sub(1)..=job.seen.len()].iter();
    if !around.any(|cell| allows_alarm(cell)) && ALARMS.contains(&verdict.0.as_str()) {
        job.between.push(format!("{} {} after {:.1} s", verdict.0, verdict.1, since.as_secs_f64()));
    }
}

/// Prints the table and the numbers.
fn tell(watched: &[Watched]) -> Vec<String> {
    let (mut false_alarms, mut misses, mut wrong) = (0, 0, Vec::new());
    let mut looks = 0;
    for job in watched {
        let mut line = format!("{}\n", job.case.name);
        for ((moment, cell), seen) in MOMENTS.iter().zip(job.case.expected).zip(&job.seen) {
            looks += 1;
            let right = fits(cell, seen);
            let said = ALARMS.contains(&seen.0.as_str());
            let word = match (right, said, allows_alarm(cell)) {
                (true, ..) => "ok",
                (false, true, false) => "FALSE ALARM",
                (false, false, true) => "MISS",
                (false, ..) => "OTHER",
            };
            false_alarms += usize::from(word == "FALSE ALARM");
            misses += usize::from(word == "MISS");
            let _fits = writeln!(line, "  {:<23} {cell} -> {} {} {word}", moment.0, seen.0, seen.1);
            if !right {
                wrong.push(format!("{}, {}: {seen:?}, not {cell} ({word})", job.case.name, moment.0));
            }
        }
        for alarm in &job.between {
            let _fits = writeln!(line, "  in between {alarm} FALSE ALARM");
        }
        if !job.between.is_empty() {
            false_alarms += 1;
            wrong.push(format!("{}: {}", job.case.name, job.between.join(", ")));
        }
        print!("{line}");
    }
    println!(
        "\n{} cases, {looks} verdicts: {false_alarms} false alarms, {misses} misses, {} not as expected",
        watched.len(),
        wrong.len()
    );
    wrong
}
