//! The watchdog with real processes: restarts, the mark at the end of the tries, what it leaves alone, what it survives.
//!
//! Thresholds are one second, and each test waits until `check` says what the watchdog is to see.

use crate::world::{PATIENCE, World, read, write};
use crate::{document, environment};
use dx_testkit::{is_running, wait_until};
use serde_json::Value;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

fn world() -> World {
    let mut world = World::new();
    for name in ["STALL", "NO_OP", "STARTUP_GRACE"] {
        world.env.set(format!("DX_RUNNER_{name}_SEC"), "1");
    }
    world.env.set("DX_RUNNER_GRACE_MS", "500");
    world
}

/// A job that says one word and then nothing; each run tells its process.
fn start(world: &World, id: &str) {
    let ran = format!("append-pid:{}", world.path(&format!("{id}.ran")));
    world.start(id, &[], &[&ran, "print:one", "sleep:600"]);
}

fn runs(world: &World, id: &str) -> Vec<i32> {
    let pids = std::fs::read_to_string(world.path(&format!("{id}.ran"))).unwrap_or_default();
    pids.lines().map(|pid| pid.parse().unwrap()).collect()
}

#[track_caller]
fn until(world: &World, id: &str, state: &str) -> Value {
    let mut seen = Value::Null;
    wait_until(PATIENCE, &format!("{id} is {state}"), || {
        seen = world.json_any(&["check", "--beads", id]);
        seen["state"] == state
    });
    seen
}

/// One round: what was done, by job.
#[track_caller]
fn round(world: &World, more: &[&str]) -> Vec<(String, String, String)> {
    let output = world.env.run(&[&["watchdog", "--once", "--json"], more].concat());
    let told = document(&world.env, "watchdog", &output.stdout);
    let failed = told["actions"].as_array().unwrap().iter().any(|action| action["done"] == "failed");
    assert_eq!(output.code, i32::from(failed), "{output}");
    let word = |action: &Value, key: &str| action[key].as_str().unwrap().to_owned();
    let all = told["actions"].as_array().unwrap();
    all.iter().map(|a| (word(a, "beads"), word(a, "done"), word(a, "reason_code"))).collect()
}

fn did(beads: &str, done: &str, reason: &str) -> (String, String, String) {
    (beads.to_owned(), done.to_owned(), reason.to_owned())
}

/// The records of one kind in the journal of a job's run, the newest run last.
fn records(world: &World, kind: &str) -> Vec<Value> {
    let runs = std::fs::read_dir(world.env.state_dir().join("runs")).unwrap();
    let mut runs: Vec<_> = runs.flatten().map(|run| run.path()).collect();
    runs.sort();
    let lines = runs.iter().map(|run| read(run.join("journal"))).collect::<String>();
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["event"]["type"] == kind).collect()
}

#[test]
fn a_stalled_job_is_started_again_and_then_marked() {
    let world = world();
    start(&world, "bd-1");
    start(&world, "done");
    world.env.run(&["stop", "--beads", "done"]).assert_code(0);
    until(&world, "bd-1", "stalled");
    assert_eq!(round(&world, &[]), [did("bd-1", "restarted", "extended_stall")]);
    wait_until(PATIENCE, "it runs again", || runs(&world, "bd-1").len() == 2);
    let [first, second] = runs(&world, "bd-1")[..] else { panic!("two runs") };
    assert!(!is_running(first) && is_running(second));
    let endings = records(&world, "ending");
    let ending = endings.iter().find(|record| record["event"]["reason"] == "extended_stall").unwrap();
    let note = ending["event"]["note"].as_str().unwrap();
    assert!(note.starts_with("watchdog: stalled (stale_log_no_cpu), try 1 of 1 follows: "), "{note}");
    assert!(note.contains("log_age=") && note.contains("wait=none"), "{note}");

    let stalled = until(&world, "bd-1", "stalled");
    assert_eq!(round(&world, &[]), [did("bd-1", "blocked", "max_retries_exhausted")]);
    assert!(!is_running(second) && runs(&world, "bd-1").len() == 2);
    let check = world.json(3, &["check", "--beads", "bd-1"]);
    assert_eq!(
        (&check["state"], &check["reason_code"]),
        (&"blocked".into(), &"max_retries_exhausted".into())
    );
    assert_eq!(
        (&check["outcome"]["exit_code"], &check["run_instance"]),
        (&"124".into(), &stalled["run_instance"])
    );
    let note = records(&world, "blocked")[0]["event"]["note"].as_str().unwrap().to_owned();
    assert!(note.contains("after 1 of 1 tries"), "{note}");
    let attention = world.json(0, &["status", "--attention"]);
    assert!(
        attention["jobs"].as_array().unwrap().iter().any(|job| job["state"] == "blocked"),
        "{attention:#}"
    );
    // Nothing more is done to it.
    assert_eq!(round(&world, &[]), []);
    // A person starts it again.
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    until(&world, "bd-1", "healthy");
    world.env.run(&["stop", "--beads", "bd-1"]).assert_code(0);
}

#[test]
fn a_job_that_never_did_anything_is_no_op() {
    let world = world();
    world.start("bd-1", &[], &["sleep:600"]);
    let seen = |state: &str| world.json_any(&["check", "--beads", "bd-1"])["state"] == state;
    wait_until(PATIENCE, "it is an alarm", || seen("no_op") || seen("stalled"));
    let done = round(&world, &["--max-retries", "0"]);
    assert_eq!((done.len(), done[0].1.as_str()), (1, "blocked"), "{done:?}");
}

#[test]
fn jobs_of_waves_and_healthy_ones_are_left_alone() {
    let world = world();
    let file = world.env.path("wave.toml");
    let repo = world.repo.display();
    let text = format!(
        "[wave]\nname = \"w\"\nrepo = \"{repo}\"\n[[item]]\nid = \"slow\"\nprovider = \"exec\"\nsandbox = \"off\"\ncommand = [\"sh\", \"-c\", \"echo one; sleep 600\"]\n"
    );
    write(&file, &text);
    world.env.run(&["wave", "run", &file.display().to_string(), "--detach"]).assert_code(0);
    let mut slow = Value::Null;
    wait_until(PATIENCE, "its job is stalled", || {
        let output = world.env.run(&["check", "--beads", "slow", "--json"]);
        slow = serde_json::from_str(&output.stdout).unwrap_or_default();
        slow["state"] == "stalled"
    });
    let busy = ["print:one", "cpu:120"];
    world.start("busy", &[], &busy);
    until(&world, "busy", "healthy");
    assert_eq!(round(&world, &["--max-retries", "0"]), []);
    assert_eq!(world.json_any(&["check", "--beads", "slow"])["run_instance"], slow["run_instance"]);
    world.env.run(&["wave", "cancel", "w-1"]);
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

#[test]
fn one_at_a_time_in_rounds_until_it_is_told_to_end() {
    let world = world();
    start(&world, "bd-1");
    let mut command = world.env.product();
    command.args(["watchdog", "--interval", "200ms", "--max-retries", "1"]);
    let mut first = command.stdout(Stdio::piped()).spawn().unwrap();
    until(&world, "bd-1", "blocked");
    assert_eq!(runs(&world, "bd-1").len(), 2);
    let second = world.env.run(&["watchdog", "--once", "--json"]).assert_code(32);
    assert!(second.stderr.contains("\"reason_code\":\"watchdog_running\""), "{second}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&first), rustix::process::Signal::TERM)
        .unwrap();
    let output = std::io::read_to_string(first.stdout.take().unwrap()).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let words: Vec<&str> = output.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["restarted", "blocked"], "{output}");
    assert_eq!(round(&world, &[]), []);
}

/// All processes of the environment stop at once while the clocks go on: a paused virtual machine, a frozen control group.
/// On a suspended one the clock stands still as well.
#[test]
fn time_in_which_the_machine_was_frozen_counts_for_nothing() {
    const THRESHOLD: u64 = 8;
    let mut world = world();
    for name in ["STALL", "NO_OP", "STARTUP_GRACE"] {
        world.env.set(format!("DX_RUNNER_{name}_SEC"), THRESHOLD.to_string());
    }
    let limit = format!("{THRESHOLD}s");
    let go = world.path("go");
    world.start("hung", &[], &["print:one", "sleep:600"]);
    world.start("works", &[], &[&["print:one"][..], &["sleep:0.3", "print:more"].repeat(2_000)].concat());
    world.start("limited", &["--max-runtime", &limit], &["print:one", "sleep:600"]);
    for id in ["hung", "works", "limited"] {
        until(&world, id, "healthy");
    }
    let file = world.env.path("wave.toml");
    let (repo, go_on) = (world.repo.display(), &go);
    let text = format!(
        "[wave]\nname = \"w\"\nrepo = \"{repo}\"\n[[item]]\nid = \"slow\"\nprovider = \"exec\"\nsandbox = \"off\"\ncommand = [\"sh\", \"-c\", \"until [ -e {go_on} ]; do sleep 0.2; done\"]\n"
    );
    write(&file, &text);
    world.env.run(&["wave", "run", &file.display().to_string(), "--detach"]).assert_code(0);
    let mut command = world.env.product();
    command.args(["watchdog", "--interval", "200ms", "--max-retries", "0"]);
    let mut watchdog = command.stdout(Stdio::null()).spawn().unwrap();
    wait_until(PATIENCE, "the item's job is there", || world.check("slow")["ended"] == false);

    // What `TestEnv` marks its children with is not handed on to all of ours.
    let all = dx_testkit::processes_with_marker("HOME", &world.env.home().display().to_string());
    let named = |name: &str| {
        let is = |pid: &&i32| read(format!("/proc/{pid}/comm")).trim() == name;
        all.iter().filter(is).count()
    };
    assert_eq!((named("dx-monitor"), named("dx-launcher")), (4, 4), "{all:?}");
    assert!(all.iter().all(|pid| dx_testkit::send_signal(*pid, 19)));
    let frozen = monotonic_ms();
    wait_until(PATIENCE, "the thresholds are over", || monotonic_ms() > frozen + THRESHOLD * 1_500);
    let thawed = monotonic_ms();
    for pid in all {
        dx_testkit::send_signal(pid, 18);
    }
    let seen = world.json(0, &["status", "--attention"]);
    assert_eq!(seen["jobs"], serde_json::json!([]), "nobody is blamed just after");
    write(&go, "");
    world.env.run(&["wave", "status", "w-1", "--watch"]).assert_code(0);

    let ended = [("hung", "extended_stall"), ("limited", "max_runtime_exceeded")];
    for (id, reason) in ended {
        wait_until(PATIENCE, &format!("{id} is ended all the same"), || {
            world.json_any(&["check", "--beads", id])["outcome"]["reason_code"] == reason
        });
    }
    for (id, reason) in ended {
        let journal = read(world.view(id, "events.jsonl"));
        let records: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let at = |kind: &str| {
            let record = records.iter().find(|record| record["event"]["type"] == kind).unwrap();
            record["mono_ms"].as_u64().unwrap()
        };
        // What it had before the freeze, and the most that a pause is counted as.
        let before = frozen - at("created") + 1_000;
        let after = at("ending").saturating_sub(thawed);
        assert!(after + before >= THRESHOLD * 1_000, "{id} ({reason}): {after} ms after {before} ms");
    }
    assert_eq!(world.check("works")["state"], "healthy");
    assert_eq!(world.json_any(&["wave", "status", "w-1"])["items"][0]["state"], "done");
    dx_testkit::send_signal(i32::try_from(watchdog.id()).unwrap(), 15);
    assert_eq!(watchdog.wait().unwrap().code(), Some(0));
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

fn monotonic_ms() -> u64 {
    dx_proc::clock::monotonic_ms()
}

#[test]
fn it_survives_vanished_jobs_damaged_files_and_a_restart_that_fails() {
    let world = world();
    let script = world.env.path("agent.sh");
    write(&script, "#!/bin/sh\necho one\nexec sleep 600\n");
    let mut mode = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let program = script.display().to_string();
    let here = world.repo.display().to_string();
    let fails = ["start", "--beads", "fails", "--provider", "exec", "--worktree", &here, "--", &program];
    world.env.run(&fails).assert_code(0);
    for id in ["vanishes", "damaged", "works"] {
        start(&world, id);
    }
    let gone = ["start", "--beads", "homeless", "--provider", "exec", "--worktree", "auto", "--repo", &here];
    let gone = world.env.run(&[&gone[..], &["--json", "--", &program]].concat()).assert_code(0);
    let gone: Value = serde_json::from_str(&gone.stdout).unwrap();
    for id in ["fails", "vanishes", "damaged", "works", "homeless"] {
        until(&world, id, "stalled");
    }
    let agents: Vec<i32> = ["vanishes", "damaged"].iter().flat_map(|id| runs(&world, id)).collect();
    std::fs::remove_file(&script).unwrap();
    std::fs::remove_dir_all(gone["worktree"].as_str().unwrap()).unwrap();
    let state = world.env.state_dir();
    let uuid = |id: &str| world.pairs(id, "meta")["run_uuid"].clone();
    std::fs::remove_dir_all(state.join("runs").join(uuid("vanishes"))).unwrap();
    std::fs::write(state.join("live/exec.damaged"), "nothing\n").unwrap();
    std::fs::write(state.join("watchdog.json"), "[{").unwrap();
    let done = round(&world, &[]);
    let of = |id: &str| {
        done.iter().find(|action| action.0 == id).map(|action| (action.1.as_str(), action.2.as_str()))
    };
    assert_eq!(of("works"), Some(("restarted", "extended_stall")), "{done:?}");
    assert_eq!(of("damaged").map(|done| done.0), Some("failed"), "{done:?}");
    assert_eq!(of("fails").map(|done| done.0), Some("blocked"), "{done:?}");
    assert_eq!(of("homeless"), Some(("blocked", "worktree_missing")), "{done:?}");
    assert_ne!(of("fails").map(|done| done.1), Some("max_retries_exhausted"), "{done:?}");
    assert_eq!(world.json(3, &["check", "--beads", "fails"])["state"], "blocked");
    // The others' rounds go on.
    until(&world, "works", "stalled");
    assert!(round(&world, &[]).contains(&did("works", "blocked", "max_retries_exhausted")));
    for agent in agents {
        if is_running(agent) {
            let pid = rustix::process::Pid::from_raw(agent).unwrap();
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_watchdog_that_is_killed_at_any_step_is_gone_on_from() {
    for (step, retries, end, count) in [
        ("watchdog.decided", "1", "stalled", 2),
        ("watchdog.ended", "1", "stalled", 2),
        ("watchdog.restarted", "1", "stalled", 2),
        ("watchdog.decided", "0", "blocked", 1),
        ("watchdog.ended", "0", "blocked", 1),
        ("watchdog.blocked", "0", "blocked", 1),
    ] {
        let case = format!("{step}, {retries} tries");
        let world = world();
        start(&world, "bd-1");
        until(&world, "bd-1", "stalled");
        let marker = world.path("killed");
        let mut command = world.env.product();
        command.args(["watchdog", "--once", "--max-retries", retries]);
        command.env("DX_FAULT_KILL", format!("{step}@{marker}"));
        assert_eq!(world.env.run_command(command).code, -9, "{case}");
        // Whatever the next one does first, a job that was decided about is not decided about again.
        let left: Value = serde_json::from_str(&read(world.env.state_dir().join("watchdog.json"))).unwrap();
        assert_eq!(left.as_array().unwrap().len(), 1, "{case}: {left}");
        round(&world, &["--max-retries", retries]);
        assert_eq!(read(world.env.state_dir().join("watchdog.json")), "[]", "{case}");
        until(&world, "bd-1", end);
        wait_until(PATIENCE, &case, || runs(&world, "bd-1").len() == count);
        assert_eq!(records(&world, "blocked").len(), usize::from(end == "blocked"), "{case}");
        world.env.run(&["stop", "--beads", "bd-1", "--grace", "0s"]).assert_code(0);
    }
}

#[test]
fn a_unit_for_systemd() {
    let env = environment();
    let unit =
        env.run(&["watchdog", "--install", "--interval", "2m", "--max-retries", "3"]).assert_code(0).stdout;
    for line in ["[Service]", "KillMode=process", "Restart=always", "WantedBy=default.target"] {
        assert!(unit.lines().any(|found| found == line), "{line} in {unit}");
    }
    let exec = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (program, rest) = exec.strip_prefix('"').unwrap().split_once('"').unwrap();
    assert!(std::path::Path::new(program).is_file(), "{unit}");
    assert_eq!(rest, " watchdog --interval 120000ms --max-retries 3");
    // Without a pause it would only burn the processor.
    for interval in ["0", "0s", "99ms"] {
        let refused = env.run(&["watchdog", "--interval", interval]).assert_code(64);
        assert!(
            refused.stderr.contains("--interval") && refused.stderr.contains("at least 100ms"),
            "{refused}"
        );
    }
    assert!(!env.state_dir().exists(), "it does nothing else");
}

#[test]
fn a_unit_watches_what_was_asked_for() {
    let env = environment();
    let folder = env.path("50% of \"it\\");
    std::fs::create_dir(&folder).unwrap();
    let shown = env.root().display().to_string();
    let unit = |set: &[(&str, &str)], args: &[&str]| {
        let mut command = env.product();
        command.args(args).args(["watchdog", "--install"]).current_dir(&folder);
        command.env_remove("DX_RUNNER_STATE_DIR").envs(set.iter().copied());
        env.run_command(command).assert_code(0).stdout
    };
    let line = |unit: &str, begin: &str| {
        let mut found = unit.lines().filter(|line| line.starts_with(begin)).map(str::to_owned);
        (found.next().unwrap_or_default(), found.next())
    };
    // As it is read by systemd, which knows `$` in arguments alone.
    let here = format!("{shown}/50%% of \\\"it\\\\");
    let told = unit(&[], &["--state-dir", "a $HOME", "--config", "my\n.toml"]);
    let (exec, _) = line(&told, "ExecStart=");
    let expected = format!(" --state-dir \"{here}/a $$HOME\" --config \"{here}/my\\n.toml\"");
    assert!(exec.ends_with(&expected), "{exec}\n{expected}");
    for (name, value, expected) in [
        ("DX_RUNNER_STATE_DIR", "a $HOME", Some(format!("{here}/a $HOME"))),
        ("DX_RUNNER_STATE_DIR", "/a/b", Some("/a/b".to_owned())),
        ("DX_RUNNER_STATE_DIR", "", None),
        ("XDG_STATE_HOME", "/my state", Some("/my state".to_owned())),
        ("XDG_CONFIG_HOME", "/my config", Some("/my config".to_owned())),
        ("XDG_DATA_HOME", "/my data", Some("/my data".to_owned())),
        ("DX_RUNNER_ADAPTERS_DIR", "mine", Some(format!("{here}/mine"))),
        ("DX_RUNNER_WORKTREE_ROOT", "/trees", Some("/trees".to_owned())),
        // Relative ones count for nothing.
        ("XDG_STATE_HOME", "state", None),
    ] {
        let told = unit(&[(name, value)], &[]);
        let found = line(&told, &format!("Environment=\"{name}="));
        let expected = expected.map(|value| format!("Environment=\"{name}={value}\"")).unwrap_or_default();
        assert_eq!(found, (expected, None), "{told}");
        assert!(line(&told, "ExecStart=").0.ends_with(" --max-retries 1"), "{told}");
    }
    let mut command = env.product();
    command.args(["watchdog", "--install", "--state-dir"]).arg(std::ffi::OsStr::from_bytes(b"/\xff"));
    let refused = env.run_command(command).assert_code(64);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("is not UTF-8"), "{refused}");
}
