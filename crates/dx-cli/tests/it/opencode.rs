//! Jobs of the real OpenCode against a scripted model: what it does well, in detail. Each way it is known to go wrong is a
//! row of `truth`.
//!
//! Needs `DX_TEST_AGENTS_DIR`, a folder with `opencode` in it (`cargo xtask install-agents` prints one); without it
//! the test says that it was left out. One OpenCode runs at a time, in one home, so the cases are one test: each is
//! tried, whatever the others did.

use crate::environment;
use crate::real_agent::agents_dir;
use dx_scripted_model::{CallRecord, Scenario, ScriptedModel, opencode_config};
use dx_testkit::{Output, TestEnv, describe, processes_with_marker, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For everything that ends by itself; a machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(4);
/// What is ended must be gone soon.
const SOON: Duration = Duration::from_mins(2);
/// In every prompt, so that a prompt in a command line can be found.
const SECRET_WORD: &str = "xylophone-7731";

/// The value of a variable that every agent of these tests has.
const HUSH: &str = "zqx/\"qmvwkxz7\" Q";
/// A part of it that is the same in every form.
const HUSH_CORE: &str = "qmvwkxz7";

/// One OpenCode in one home, with its model.
struct World {
    env: TestEnv,
    model: ScriptedModel,
    repository: PathBuf,
}

/// The turn to run OpenCode: one test at a time, whichever it is.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Case = (&'static str, fn(&World));
const CASES: [Case; 7] = [
    ("success", success),
    ("warm_second_start", warm_second_start),
    ("stop_with_a_tool_in_its_own_session", stop_with_a_tool_in_its_own_session),
    ("a_secret_that_a_tool_and_the_answer_show", a_secret_that_a_tool_and_the_answer_show),
    ("unknown_model", unknown_model),
    ("one_list_and_no_prompt_in_a_command_line", one_list_and_no_prompt_in_a_command_line),
    // Last: its permissions make for another list of models.
    ("the_kernel_refuses_what_opencode_allows", the_kernel_refuses_what_opencode_allows),
];

#[test]
fn the_real_opencode() {
    let Some(agents) = agents_dir() else { return };
    let _turn = turn();
    let world = World::new(&agents.join("opencode"));
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let begun = Instant::now();
        let went_well = catch_unwind(AssertUnwindSafe(|| case(&world))).is_ok();
        println!(
            "{name}: {} in {:.1} s",
            if went_well { "ok" } else { "FAILED" },
            begun.elapsed().as_secs_f64()
        );
        if !went_well {
            failed.push(name);
            // The next case shall not suffer for it.
            drop(world.env.run(&["stop", "--all", "--grace", "0s"]));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn six_first_starts_at_once_all_work() {
    let Some(agents) = agents_dir() else { return };
    let _turn = turn();
    let world = World::new(&agents.join("opencode"));
    // Two state directories share the home.
    let other = world.env.path("other-state").display().to_string();
    let all_at_once = |round: &str, count: usize| {
        let started: Vec<(String, Vec<&str>)> = std::thread::scope(|scope| {
            let start = |n: usize| {
                let (id, world) = (format!("{round}-{n}"), &world);
                let more = if n.is_multiple_of(2) { vec!["--state-dir", other.as_str()] } else { Vec::new() };
                scope.spawn(move || {
                    let scenario = format!("write:{id}.txt:hello,text:DONE");
                    world.start(&id, &scenario, &more).assert_code(0);
                    (id, more)
                })
            };
            let threads: Vec<_> = (1..=count).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (id, more) in started {
            let output = world.env.run(&[&["wait", "--json", "--beads", &id][..], &more].concat());
            let end: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
            assert_end(&end, "exited_ok", "process_exit_with_rc", "0");
            assert!(world.repository.join(format!("{id}.txt")).exists());
        }
        world.assert_nothing_left();
    };
    all_at_once("fresh", 6);
    // What is known of the program is of no use when its data folder is another one.
    std::fs::remove_dir_all(world.env.path("xdg/data/opencode")).unwrap();
    all_at_once("again", 3);
    let lists = command_lines(&world).lines().filter(|line| *line == "models").count();
    assert_eq!(lists, 4, "one question for each state directory and each data folder");
}

#[test]
fn without_opencode_the_start_is_refused() {
    let mut env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let nowhere = env.path("nowhere");
    env.set("PATH", nowhere);
    let args = ["start", "--provider", "opencode", "--prompt-file", "-", "--worktree", &repository];
    let output = env.run_with_stdin(&args, "go").assert_code(21);
    assert!(output.stderr.contains("reason: opencode_binary_missing"), "{output}");
}

impl World {
    fn new(opencode: &Path) -> Self {
        assert!(opencode.is_file(), "{} is missing", opencode.display());
        let mut env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        // The real one, and a note of each command line it was given.
        let wrapper = env.bin_dir().join("opencode");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{}'\nexec '{}' \"$@\"\n",
            env.path("command-lines").display(),
            opencode.display()
        );
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
        // What a user's agent gets, and the note.
        std::fs::write(env.path("command-lines"), "").unwrap();
        env.set("DX_RUNNER_SANDBOX_WRITE", env.path("command-lines"));
        env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("OPENCODE_HUSH_KEY", HUSH);
        // It ignores TERM at times.
        env.set("DX_RUNNER_GRACE_MS", "1000");
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Self { env, model, repository }
    }

    /// Starts a job whose model plays `scenario`.
    #[track_caller]
    fn start(&self, id: &str, scenario: &str, more: &[&str]) -> Output {
        self.start_with(id, &format!("Do the task {SECRET_WORD} [[mock:{scenario}]]"), more)
    }

    #[track_caller]
    fn start_with(&self, id: &str, prompt: &str, more: &[&str]) -> Output {
        let worktree = self.repository.display().to_string();
        let mut args = vec!["start", "--beads", id, "--provider", "opencode", "--prompt-file", "-"];
        args.extend(["--worktree", &worktree]);
        if !more.contains(&"--model") {
            args.extend(["--model", "mock/m1", "--allow-model-override"]);
        }
        args.extend(more);
        self.env.run_with_stdin(&args, prompt)
    }

    /// Starts a job and waits for its end.
    #[track_caller]
    fn finish(&self, id: &str, scenario: &str, more: &[&str]) -> Value {
        self.start(id, scenario, more).assert_code(0);
        self.end(id)
    }

    /// Waits for a job's end; nothing of it may be left then.
    #[track_caller]
    fn end(&self, id: &str) -> Value {
        let output = self.env.run(&["wait", "--json", "--beads", id]);
        let end = crate::document(&self.env, "check", &output.stdout);
        self.assert_nothing_left();
        end
    }

    /// Every process of a job, its tools' too, has our HOME; so has a monitor.
    #[track_caller]
    fn assert_nothing_left(&self) {
        let home = self.env.home().display().to_string();
        let begun = Instant::now();
        loop {
            let left = processes_with_marker("HOME", &home);
            if left.is_empty() {
                return;
            }
            let told: Vec<String> = left.into_iter().map(describe).collect();
            assert!(begun.elapsed() < SOON, "still there:\n{}", told.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The calls of the task in a prompt with `needle`.
    fn calls(&self, needle: &str) -> Vec<CallRecord> {
        let calls = self.model.calls().into_iter();
        calls.filter(|call| !call.side_call && call.prompt.contains(needle)).collect()
    }
}

/// State, reason, and the exit code in the outcome.
#[track_caller]
fn assert_end(end: &Value, state: &str, reason: &str, code: &str) {
    let found = (&end["state"], &end["reason_code"], &end["outcome"]["exit_code"]);
    assert_eq!(found, (&state.into(), &reason.into(), &code.into()), "{end:#}");
}

fn success(world: &World) {
    let end = world.finish("good", "write:notes/a.txt:hello,text:ALL DONE", &[]);
    assert_end(&end, "exited_ok", "process_exit_with_rc", "0");
    assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&200.into(), &20.into()), "{end:#}");
    assert_eq!(end["tools"], serde_json::json!({ "write": 1 }));
    assert_eq!(end["outcome"]["work"]["files_changed"], serde_json::json!(["notes/a.txt"]));
    assert_eq!(end["selected_model"], "mock/m1");
    assert_eq!(std::fs::read_to_string(world.repository.join("notes/a.txt")).unwrap(), "hello");
    let log = world.env.run(&["logs", "--beads", "good"]).assert_code(0).stdout;
    assert!(log.contains("ALL DONE") && log.contains("write"), "{log}");
    assert!(!log.contains("{\"type\""), "not for people:\n{log}");
    let raw = world.env.run(&["logs", "--beads", "good", "--raw"]).assert_code(0).stdout;
    assert!(raw.starts_with("{\"type\":\"step_start\""), "{raw}");
}

fn warm_second_start(world: &World) {
    let lists = |world: &World| command_lines(world).lines().filter(|line| *line == "models").count();
    let before = lists(world);
    // Also a long prompt that looks like options.
    let prompt = format!("--help\n{}\nThe very end [[mock:text:HI]]", "0123456789abcde\n".repeat(300 * 64));
    world.start_with("warm", &prompt, &[]).assert_code(0);
    let end = world.end("warm");
    assert!(world.calls("The very end").iter().any(|call| call.prompt.contains("--help\n0123")));
    assert_end(&end, "exited_ok", "exit_zero_no_mutations", "0");
    assert_eq!((before, lists(world)), (1, 1), "the list of models was asked for again");
}

fn stop_with_a_tool_in_its_own_session(world: &World) {
    let sleeper = || {
        let found = |pid: &i32| describe(*pid).contains(": sleep 120.25");
        processes_with_marker("HOME", &world.env.home().display().to_string()).into_iter().find(found)
    };
    world.start("stop", "bash:sleep 120.25,text:NEVER", &[]).assert_code(0);
    wait_until(PATIENCE, "the tool runs", || sleeper().is_some());
    assert_no_prompt_in_any_command_line();
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = |pid: i32| {
        let stat = stat(pid);
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
    };
    let check = world.env.run(&["status", "--json", "--beads", "stop"]).assert_code(0).stdout;
    let status: Value = serde_json::from_str(&check).unwrap();
    let agent: i32 = status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap();
    assert_ne!(session(agent), session(sleeper().unwrap()), "this OpenCode has no sessions for its tools");
    let done = world.env.run(&["stop", "--beads", "stop", "--grace", "1s", "--json"]).assert_code(0);
    assert!(sleeper().is_none(), "the tool runs on");
    assert!(done.stdout.contains("\"reason_code\":\"manual_stop\""), "{done}");
    let end = world.end("stop");
    assert_end(&end, "exited_err", "manual_stop", "137");
    assert_eq!(end["outcome"]["state"], "killed");
}

fn a_secret_that_a_tool_and_the_answer_show(world: &World) {
    let (go, view) = (world.env.path("hush-go"), |suffix: &str| {
        world.env.state_dir().join("opencode").join(format!("hush.{suffix}"))
    });
    let wait = format!(
        "echo \"$OPENCODE_HUSH_KEY\" ghp_zqxTokenNeedle4402abcdef0123456789; until test -e {}; do sleep 0.1; done; echo \"$OPENCODE_HUSH_KEY\"",
        go.display()
    );
    let scenario = format!("bash:{wait},text:the key is {HUSH}");
    world.start("hush", &scenario, &[]).assert_code(0);
    wait_until(PATIENCE, "the model has asked for the tool", || !world.calls("hush-go").is_empty());
    wait_until(PATIENCE, "there is a monitor", || view("monitor.pid").exists());
    dx_testkit::send_signal(dx_testkit::read_pid(view("monitor.pid")), 9);
    std::fs::write(&go, "").unwrap();
    let end = world.end("hush");
    assert_end(&end, "exited_ok", "exit_zero_no_mutations", "0");
    let log = std::fs::read_to_string(view("log")).unwrap();
    assert!(
        log.contains("the key is ****")
            && log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{log}"
    );
    let mut shown = log;
    for args in [
        &["check", "--json", "--explain", "--beads", "hush"][..],
        &["status", "--json", "--all"],
        &["events", "--beads", "hush"],
        &["logs", "--beads", "hush", "--lines", "0"],
        &["logs", "--beads", "hush", "--raw"],
        &["report", "--beads", "hush", "--format", "json"],
    ] {
        shown += &world.env.run(args).to_string();
    }
    for needle in [HUSH_CORE, "zqxTokenNeedle"] {
        assert!(!shown.contains(needle), "{needle} in {shown}");
        assert_eq!(crate::world::files_with(&world.env.state_dir(), needle), Vec::<PathBuf>::new());
    }
}

fn unknown_model(world: &World) {
    let refused = |more: &[&str], reason: &str| {
        let output = world.start("model", "text:NOT-CALLED", more).assert_code(25);
        assert!(output.stderr.contains(&format!("reason: {reason}")), "{output}");
        assert_eq!(output.stdout, "");
        world.env.run(&["check", "--beads", "model"]).assert_code(1);
    };
    refused(&["--model", "mock/m9", "--allow-model-override"], "opencode_model_unavailable");
    refused(&["--model", "mock/m9"], "opencode_model_unsupported");
    assert_eq!(world.calls("NOT-CALLED").len(), 0);
}

fn one_list_and_no_prompt_in_a_command_line(world: &World) {
    let lines = command_lines(world);
    assert_eq!(lines.lines().filter(|line| *line == "models").count(), 1, "{lines}");
    assert!(lines.contains("run --format json --dir "), "{lines}");
    assert!(!lines.contains(SECRET_WORD), "{lines}");
}

fn the_kernel_refuses_what_opencode_allows(world: &World) {
    let mut config = opencode_config(&world.model.base_url());
    config["permission"] = serde_json::json!({ "external_directory": "allow" });
    let config = format!("OPENCODE_CONFIG_CONTENT={config}");
    let place = |name: &str| world.env.home().join(name);
    let scenario = format!(
        "write:{}:x,bash:echo shell > {}; echo inside > inside.txt,write:inside-too.txt:x,text:DONE",
        place("by-tool").display(),
        place("by-shell").display()
    );
    let end = world.finish("outside", &scenario, &["--env", &config]);
    assert!(!place("by-tool").exists() && !place("by-shell").exists());
    assert_eq!(std::fs::read_to_string(world.repository.join("inside.txt")).unwrap(), "inside\n");
    assert!(world.repository.join("inside-too.txt").exists(), "{end:#}");
    // Evidence is what a tool's structured error names; what a shell prints is not. And it fails nothing.
    assert_end(&end, "exited_ok", "process_exit_with_rc", "0");
    let finding = serde_json::json!([{ "reason_code": "sandbox_denied", "names": [place("by-tool")] }]);
    assert_eq!(end["outcome"]["work"]["findings"], finding, "{end:#}");
    assert_eq!(end["sandbox"]["mode"], "strict");
    let config = world.env.path("xdg/config/opencode").display().to_string();
    assert!(!end["sandbox"]["writable"].as_array().unwrap().contains(&config.into()), "{end:#}");
}

fn command_lines(world: &World) -> String {
    std::fs::read_to_string(world.env.path("command-lines")).unwrap_or_default()
}

#[track_caller]
fn assert_no_prompt_in_any_command_line() {
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(SECRET_WORD) {
            let _fits = writeln!(found, "{}: {line}", entry.path().display());
        }
    }
    assert!(found.is_empty(), "{found}");
}
