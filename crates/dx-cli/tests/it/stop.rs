//! Ending jobs: nothing is left, the outcome says why, the observed code is kept, and no process that is not the job's is
//! ever signalled.

use crate::document;
use crate::world::{MARK, PATIENCE, World, read, write};
use dx_testkit::{
    assert_no_process, is_running, processes_with_marker, read_pid, send_signal, wait_for_file, wait_until,
};
use serde_json::Value;
use std::path::PathBuf;

const STOP: i32 = 19;
const KILL: i32 = 9;

fn owned(state: &str, reason: &str, code: &str) -> (String, String, String) {
    (state.to_owned(), reason.to_owned(), code.to_owned())
}

fn uuid(started: &Value) -> String {
    started["run_uuid"].as_str().unwrap().to_owned()
}

#[test]
fn stop_leaves_nothing_of_the_worst_agent() {
    let world = World::new();
    let (up, late) = (world.path("up"), world.path("late"));
    let started = world.start(
        "bd-1",
        &[],
        &[
            "ignore-term",
            "spawn:300",
            "spawn-setsid:300",
            "double-fork:300",
            &format!("late-write:{late}:300"),
            &format!("touch:{up}"),
            "sleep:300",
        ],
    );
    wait_for_file(PATIENCE, &up);
    let uuid = uuid(&started);
    // Agent, child, child in a session, daemon, late writer.
    wait_until(PATIENCE, "all five run", || processes_with_marker(MARK, &uuid).len() >= 5);
    let done = world.json(0, &["stop", "--beads", "bd-1", "--grace", "300ms"]);
    assert_no_process(MARK, &uuid);
    assert_eq!(
        (&done["changed"], &done["state"], &done["reason_code"]),
        (&true.into(), &"exited_err".into(), &"manual_stop".into())
    );
    assert_eq!((&done["pid"], &done["run_uuid"]), (&"-".into(), &started["run_uuid"]));
    assert_eq!(world.outcome("bd-1"), owned("killed", "manual_stop", "137"));
    assert_eq!(world.rc("bd-1").as_deref(), Some("137"));
    assert!(!PathBuf::from(late).exists(), "a late write");
    for suffix in ["pid", "monitor.pid"] {
        assert!(!world.view("bd-1", suffix).exists(), "{suffix}");
    }
    world.env.run(&["check", "--beads", "bd-1"]).assert_code(3);
}

#[test]
fn the_observed_code_is_kept_beside_ours() {
    let world = World::new();
    let agent = world.path("agent");
    world.start("bd-1", &[], &[&format!("pid:{agent}"), "sleep:300"]);
    wait_for_file(PATIENCE, &agent);
    // A stopped process takes no TERM until it is continued.
    let pid = read_pid(&agent);
    assert!(send_signal(pid, STOP));
    wait_until(PATIENCE, "the agent is stopped", || read(format!("/proc/{pid}/stat")).contains(") T "));
    world.env.run(&["stop", "--beads", "bd-1"]).assert_code(0);
    assert!(!is_running(pid));
    assert_eq!(world.outcome("bd-1"), owned("killed", "manual_stop", "137"));
    assert_eq!(world.rc("bd-1").as_deref(), Some("143"));
    let check = world.check("bd-1");
    assert_eq!(check["outcome"]["exit"], serde_json::json!({"signal": 15}));
    assert_eq!(check["verdicts"]["process"], "signaled");
}

#[test]
fn what_an_agent_leaves_behind_is_swept() {
    let world = World::new();
    let started = world.start(
        "bd-1",
        &[],
        &[
            "ignore-term",
            "spawn:300",
            "spawn-setsid:300",
            "double-fork:300",
            &format!("late-write:{}:300", world.path("late")),
            "write:new.txt:work",
            "exit:0",
        ],
    );
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_no_process(MARK, &uuid(&started));
    assert_eq!(world.outcome("bd-1"), owned("success", "process_exit_with_rc", "0"));
    assert_eq!(world.pairs("bd-1", "outcome")["strays"], "4");
    assert!(!PathBuf::from(world.path("late")).exists());
    let left: Vec<_> = std::fs::read_dir(world.env.state_dir().join("tmp")).unwrap().flatten().collect();
    assert!(left.is_empty(), "the run's TMPDIR is left: {left:?}");
}

#[test]
fn after_the_end_nothing_changes() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["print:hello", "exit:0"]);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    let files = ["outcome", "rc", "meta", "contract", "log", "events.jsonl"];
    let bytes = || files.map(|suffix| read(world.view("bd-1", suffix)));
    let before = bytes();
    let index = || {
        read(std::fs::read_dir(world.env.state_dir().join("ended")).unwrap().next().unwrap().unwrap().path())
    };
    let indexed = index();
    for args in [
        &["stop", "--beads", "bd-1"][..],
        &["finalize", "--beads", "bd-1"],
        &["finalize", "--beads", "bd-1", "--reason", "manual_stop", "--exit-code", "9"],
        &["stop", "--beads", "bd-1", "--grace", "0s"],
    ] {
        let done = world.json(0, args);
        assert_eq!((&done["changed"], &done["state"]), (&false.into(), &"exited_ok".into()), "{args:?}");
    }
    world.json(0, &["prune", "--beads", "bd-1"]);
    assert_eq!(bytes(), before);
    assert_eq!(index(), indexed);
}

#[test]
fn finalize_ends_the_tree_and_twice_gives_the_same_bytes() {
    let world = World::new();
    let up = world.path("up");
    for (id, more, ended, detail) in [
        ("plain", &[][..], owned("failed", "forced_finalization", "1"), ""),
        (
            "told",
            &["--reason", "stalled", "--exit-code", "7"],
            owned("failed", "forced_finalization", "7"),
            "stalled",
        ),
        ("code", &["--reason", "extended_stall"], owned("failed", "extended_stall", "1"), ""),
    ] {
        let up = format!("{up}.{id}");
        let started = world.start(id, &[], &["double-fork:300", &format!("touch:{up}"), "sleep:300"]);
        wait_for_file(PATIENCE, &up);
        let args = [&["finalize", "--beads", id][..], more].concat();
        let done = document(&world.env, "action", &world.json(0, &args).to_string());
        assert_eq!((&done["changed"], &done["action"]), (&true.into(), &"finalize".into()));
        assert_no_process(MARK, &uuid(&started));
        assert_eq!(world.outcome(id), ended, "{id}");
        assert_eq!(world.pairs(id, "outcome")["detail"], detail);
        assert_eq!(world.rc(id).as_deref(), Some("143"));
        let before = read(world.view(id, "outcome"));
        assert_eq!(world.json(0, &args)["changed"], false);
        assert_eq!(read(world.view(id, "outcome")), before);
    }
}

#[test]
fn finalize_never_makes_a_success() {
    let world = World::new();
    world.start("bd-1", &[], &["sleep:300"]);
    let (agent, _) = world.pids("bd-1");
    for code in ["0", "256", "-1"] {
        world.error(64, &["finalize", "--beads", "bd-1", &format!("--exit-code={code}")]);
    }
    assert!(is_running(agent));
    world.env.run(&["stop", "--beads", "bd-1", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_pid_file_names_nobody_to_signal() {
    let world = World::new();
    let mut victim = world.victim();
    let pid = format!("{}\n", victim.pid());
    let poison = |id: &str| {
        for suffix in ["pid", "monitor.pid"] {
            write(world.view(id, suffix), &pid);
        }
    };
    for command in ["stop", "finalize", "restart", "prune"] {
        let started = world.start(command, &[], &["sleep:300"]);
        let (agent, _) = world.pids(command);
        assert_eq!(started["pid"], agent.to_string());
        poison(command);
        world.json(0, &[command, "--beads", command]);
        victim.assert_untouched();
        assert_eq!(is_running(agent), command == "prune", "{command}");
        world.env.run(&["stop", "--beads", command, "--grace", "0s"]).assert_code(0);
        assert_no_process(MARK, &uuid(&started));
        // The same after the end.
        poison(command);
        for again in ["stop", "finalize", "prune"] {
            world.json(0, &[again, "--beads", command]);
            victim.assert_untouched();
        }
        for suffix in ["pid", "monitor.pid"] {
            assert!(!world.view(command, suffix).exists(), "prune leaves {suffix} of an ended job");
        }
    }
}

/// Kills agent, monitor and launcher so that none can do anything about it.
#[track_caller]
pub(crate) fn abandon(world: &World, id: &str) {
    let (agent, monitor) = world.pids(id);
    let launcher: i32 = read(format!("/proc/{agent}/stat"))
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .unwrap();
    let all = [monitor, launcher, agent];
    for (signal, pids) in [(STOP, &all[..2]), (KILL, &all[..])] {
        for pid in pids {
            assert!(send_signal(*pid, signal), "{pid} is gone");
        }
    }
    wait_until(PATIENCE, "all of them are gone", || all.iter().all(|pid| !is_running(*pid)));
}

/// Gives every recorded process but the starter another pid, as if the numbers had been used again.
fn recycle(world: &World, run: &str, pid: i32) {
    let folder = world.env.state_dir().join("runs").join(run);
    let records = read(folder.join("journal"));
    let records = records.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for name in ["agent", "monitor"] {
            if let Some(identity) = record["event"].get_mut(name).filter(|value| value.is_object()) {
                identity["pid"] = pid.into();
            }
        }
        record.to_string()
    });
    let journal = records.collect::<Vec<String>>().join("\n") + "\n";
    assert_eq!(journal.matches(&format!("\"pid\":{pid}")).count(), 2, "{journal}");
    // In place: the claim is another name of the same file.
    write(folder.join("journal"), journal);
    let mut slots = std::fs::read(folder.join("exit")).unwrap();
    let size = dx_protocol::SLOT_BYTES;
    for slot in slots.chunks_mut(size).take(2) {
        let mut identity: Value = serde_json::from_slice(slot.trim_ascii()).unwrap();
        identity["pid"] = pid.into();
        slot.copy_from_slice(format!("{:<width$}\n", identity.to_string(), width = size - 1).as_bytes());
    }
    write(folder.join("exit"), slots);
}

#[test]
fn an_identity_whose_pid_is_used_again_is_never_signalled() {
    let world = World::new();
    let mut victim = world.victim();
    for (command, ended) in [
        ("stop", owned("failed", "late_finalize_no_rc", "-")),
        ("prune", owned("failed", "late_finalize_no_rc", "-")),
        ("finalize", owned("failed", "forced_finalization", "1")),
    ] {
        let started = world.start(command, &[], &["sleep:300"]);
        abandon(&world, command);
        recycle(&world, &uuid(&started), victim.pid());
        let check = world.check(command);
        assert_eq!((&check["state"], &check["ended"]), (&"exited_err".into(), &true.into()), "{check}");
        world.json(0, &[command, "--beads", command]);
        victim.assert_untouched();
        assert_eq!((world.outcome(command), world.rc(command)), (ended, None), "{command}");
    }
    // A start over an abandoned run settles it first.
    let started = world.start("again", &[], &["sleep:300"]);
    abandon(&world, "again");
    recycle(&world, &uuid(&started), victim.pid());
    world.start("again", &[], &["exit:0"]);
    world.env.run(&["wait", "--beads", "again"]).assert_code(0);
    assert!(read(world.view("again", "outcome.1")).contains("reason_code=late_finalize_no_rc\n"));
    victim.assert_untouched();
}

#[test]
fn another_programs_record_is_never_acted_on() {
    let world = World::new();
    world.run_to_end("ours", &[], &["exit:0"]);
    let mut victim = world.victim();
    let meta = "beads=bd-old\nprovider=exec\nstarted_at=2026-02-18T12:00:00Z\nworktree=/tmp/agents/x\n";
    write(world.view("bd-old", "meta"), meta);
    for suffix in ["pid", "monitor.pid"] {
        write(world.view("bd-old", suffix), victim.pid().to_string());
    }
    for command in ["stop", "finalize", "restart"] {
        let error = world.error(64, &[command, "--beads", "bd-old"]);
        assert_eq!(error["reason_code"], "not_supported", "{command}");
        assert!(error["next_action"].as_str().unwrap().contains("report --beads bd-old"), "{error}");
        victim.assert_untouched();
    }
    // Whether the number is still that program's cannot be known: it stays while somebody has it.
    assert_eq!(world.json(0, &["prune", "--beads", "bd-old"])["pruned"], 0);
    victim.assert_untouched();
    drop(victim);
    assert_eq!(world.json(0, &["prune", "--beads", "bd-old"])["pruned"], 2);
    assert!(!world.view("bd-old", "pid").exists());
    assert_eq!(read(world.view("bd-old", "meta")), meta);
}

#[test]
fn prune_clears_what_a_starter_left_that_was_killed_before_its_claim() {
    let world = World::new();
    let started = world.run_to_end("bd-1", &[], &["exit:0"]);
    let runs = world.env.state_dir().join("runs");
    let (of, journal) = (uuid(&started), read(runs.join(uuid(&started)).join("journal")));
    let made = journal.lines().next().unwrap();
    // The first record of the ended run, whose starter is gone, under other names; one from two days ago.
    let today = format!("{}000000000001", &of[..24]);
    let old = "01800000-0000-7000-8000-000000000002";
    let locked = format!("{}000000000003", &of[..24]);
    for name in [&today, old, &locked] {
        std::fs::create_dir(runs.join(name)).unwrap();
        write(runs.join(name).join("journal"), made.replace(&of, name) + "\n");
        write(runs.join(name).join("prompt"), "do the thing");
        std::fs::create_dir(world.env.state_dir().join("tmp").join(&name[24..])).unwrap();
    }
    let lock = std::fs::File::open(runs.join(&locked).join("journal")).unwrap();
    lock.lock().unwrap();
    // Not even a record, but of this moment: its starter may come to it yet.
    std::fs::create_dir(runs.join(format!("{}000000000004", &of[..24]))).unwrap();
    assert_eq!(world.json(0, &["prune"])["pruned"], 1);
    let left = |folder: &str| std::fs::read_dir(world.env.state_dir().join(folder)).unwrap().count();
    assert!(!runs.join(&today).exists() && runs.join(&of).exists());
    assert_eq!((left("runs"), left("tmp")), (4, 2));
    drop(lock);
    assert_eq!(world.json(0, &["prune", "--beads", "bd-1"])["pruned"], 1);
    assert_eq!(world.json(0, &["prune"])["pruned"], 0);
    assert_eq!(world.outcome("bd-1"), owned("success", "exit_zero_no_mutations", "0"));
}

#[test]
fn times_that_nobody_can_calculate_with_are_refused() {
    let world = World::new();
    for more in
        [["--max-runtime", "3651d"], ["--no-mutation-timeout", "99999d"], ["--stall-minutes", "9999999"]]
    {
        let output = world.try_start("bd-1", &[&more[..], &["--json"]].concat(), &["exit:0"]).assert_code(64);
        assert!(output.stderr.contains("longer than 10 years"), "{output}");
    }
    let mut command = world.env.product();
    command.args(world.start_args("bd-1", &[], &["exit:0"])).env("DX_RUNNER_GRACE_MS", "86400001");
    let output = world.env.run_command(command).assert_code(64);
    assert!(output.stderr.contains("longer than 1 day"), "{output}");
    world.start("bd-1", &["--max-runtime", "3650d"], &["sleep:300"]);
    let error = world.error(64, &["stop", "--beads", "bd-1", "--grace", "25h"]);
    assert_eq!(error["reason_code"], "invalid_argument");
    world.env.run(&["stop", "--beads", "bd-1", "--grace", "1s"]).assert_code(0);
}
