//! Starts that wait for their turn: in order, whoever of them dies, and nothing is left of those that give up.

use crate::document;
use crate::world::{PATIENCE, World, read, spawn, write};
use dx_testkit::{is_running, send_signal, wait_until};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Stdio};

const KILL: i32 = 9;
const INT: i32 = 2;
const CONT: i32 = 18;

/// A `start --queue` that runs.
struct Waiter {
    id: String,
    child: Child,
}

impl Waiter {
    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Its exit code and what it printed on both streams.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

fn places(world: &World) -> usize {
    std::fs::read_dir(world.env.state_dir().join("queue")).map_or(0, Iterator::count)
}

/// A start under a cap that need not have come to its end.
fn begin(world: &World, cap: u32, id: &str, more: &[&str], actions: &[&str]) -> Waiter {
    begin_with(world, cap, id, &world.start_args(id, more, actions))
}

/// The same for a restart.
fn again(world: &World, cap: u32, id: &str, more: &[&str]) -> Waiter {
    let args = [&["restart", "--beads", id, "--json"], more].concat();
    begin_with(world, cap, id, &args.into_iter().map(str::to_owned).collect::<Vec<_>>())
}

fn begin_with(world: &World, cap: u32, id: &str, args: &[String]) -> Waiter {
    let mut command = world.env.product();
    command.args(args).env("DX_RUNNER_MAX_PARALLEL_EXEC", cap.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Waiter { id: id.to_owned(), child: spawn(command) }
}

/// The same, and it waits: as the `place`th.
#[track_caller]
fn wait_in_line(world: &World, cap: u32, id: &str, place: usize, actions: &[&str]) -> Waiter {
    let waiter = begin(world, cap, id, &["--queue", "--json"], actions);
    wait_until(PATIENCE, &format!("{id} waits"), || places(world) == place);
    waiter
}

fn stop(world: &World, id: &str) {
    world.env.run(&["stop", "--beads", id, "--grace", "0s"]).assert_code(0);
}

/// Ids in the order in which their runs were claimed.
fn order(world: &World) -> Vec<String> {
    let listed = world.json(0, &["status", "--all"]);
    let mut runs: Vec<(String, String)> = listed["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            (job["run_instance"].as_str().unwrap().to_owned(), job["beads"].as_str().unwrap().to_owned())
        })
        .collect();
    runs.sort_by_key(|(_, id)| {
        let journal = read(world.view(id, "events.jsonl"));
        let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
        first["mono_ms"].as_u64().unwrap()
    });
    runs.into_iter().map(|(_, id)| id).collect()
}

/// What a job does: it notes, in one line, which run beside it.
fn look_around(world: &World) -> String {
    let live = world.env.state_dir().join("live");
    format!("exec:sh\n-c\necho $(ls {}) >> {}", live.display(), world.path("most"))
}

#[test]
fn those_who_survive_run_in_order() {
    let world = World::new();
    let cap = 2;
    for id in ["first", "second"] {
        world.start(id, &[], &["sleep:300"]);
    }
    let most = world.path("most");
    let script = look_around(&world);
    let mut waiters: Vec<Waiter> =
        (1..=12).map(|n| wait_in_line(&world, cap, &format!("w{n}"), n, &[&script])).collect();
    // Any of them, the one at the front and the one at the end too.
    let seed = u64::from(std::process::id());
    let mut doomed = vec![0, 11];
    doomed.extend([1 + seed % 5, 6 + seed / 5 % 5].map(|n| usize::try_from(n).unwrap()));
    doomed.sort_unstable();
    for n in doomed.iter().rev() {
        let mut dead = waiters.remove(*n);
        send_signal(dead.pid(), KILL);
        dead.child.wait().unwrap();
    }
    let expected: Vec<String> = waiters.iter().map(|waiter| waiter.id.clone()).collect();
    // One is left in the way, so that one runs after the other.
    stop(&world, "first");
    for waiter in waiters {
        let id = waiter.id.clone();
        let (code, out, err) = waiter.end();
        assert_eq!(code, Some(0), "{id}, killed {doomed:?}: {out}{err}");
        let started = document(&world.env, "action", &out);
        assert_eq!((&started["beads"], &started["changed"]), (&id.into(), &true.into()));
        assert!(started["queued_ms"].as_u64().unwrap() > 0, "{started}");
    }
    for id in &expected {
        world.env.run(&["wait", "--beads", id]).assert_code(0);
        assert!(world.check(id)["queued_ms"].as_u64().unwrap() > 0);
    }
    assert_eq!(order(&world)[2..], expected, "killed {doomed:?}");
    let beside = read(&most);
    assert!(beside.lines().all(|seen| seen.split(' ').count() <= 2), "more than the cap ran:\n{beside}");
    // Nobody stood behind the last one, and so nobody has looked since it died.
    world.env.run(&["prune"]).assert_code(0);
    assert_eq!(places(&world), 0);
    stop(&world, "second");
}

/// What runs for long, as a wave does, outlives an upgrade of the program.
#[test]
fn a_program_that_was_replaced_still_starts_jobs() {
    let world = World::new();
    let own = world.env.path("program");
    std::fs::create_dir(&own).unwrap();
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_dx-runner"));
    for name in ["dx-runner", "dx-monitor"] {
        std::fs::copy(built.with_file_name(name), own.join(name)).unwrap();
    }
    world.start("first", &[], &["sleep:300"]);
    let mut command = world.env.command(own.join("dx-runner").to_str().unwrap());
    command.args(world.start_args("waits", &["--queue"], &["exit:7"]));
    command.env("DX_RUNNER_MAX_PARALLEL_EXEC", "1").stdin(Stdio::null());
    let mut waiter = spawn(command);
    wait_until(PATIENCE, "it waits", || places(&world) == 1);
    // As a package manager does it: another file of the same name.
    for name in ["dx-runner", "dx-monitor"] {
        std::fs::remove_file(own.join(name)).unwrap();
        write(own.join(name), "another version");
    }
    stop(&world, "first");
    assert_eq!(waiter.wait().unwrap().code(), Some(0));
    world.env.run(&["wait", "--beads", "waits"]).assert_code(3);
    assert_eq!(world.check("waits")["outcome"]["exit_code"], "7");
}

#[test]
fn twelve_over_a_cap_of_two_all_end_and_never_more_than_two_run() {
    let world = World::new();
    let most = world.path("most");
    let script = look_around(&world);
    let waiters: Vec<Waiter> =
        (1..=12).map(|n| begin(&world, 2, &format!("w{n}"), &["--queue", "--json"], &[&script])).collect();
    for waiter in waiters {
        let id = waiter.id.clone();
        let (code, out, err) = waiter.end();
        assert_eq!(code, Some(0), "{id}: {out}{err}");
        world.env.run(&["wait", "--beads", &id]).assert_code(0);
    }
    let beside = read(&most);
    assert!(beside.lines().all(|seen| seen.split(' ').count() <= 2), "more than the cap ran:\n{beside}");
    assert_eq!((order(&world).len(), places(&world)), (12, 0));
}

#[test]
fn who_does_not_wait_takes_no_turn_of_those_who_do() {
    let world = World::new();
    world.start("first", &[], &["sleep:300"]);
    let waiter = wait_in_line(&world, 1, "waits", 1, &["sleep:300"]);
    // There would be room for one, and somebody waits for it.
    let (code, _, refusal) = begin(&world, 2, "pushes", &["--json"], &["exit:0"]).end();
    let error = document(&world.env, "error", &refusal)["error"].clone();
    assert_eq!((code, &error["reason_code"]), (Some(26), &"provider_concurrency_cap_exceeded".into()));
    assert_eq!(error["message"], "exec runs 1 jobs, 1 wait, and its cap is 2");
    assert!(error["next_action"].as_str().unwrap().contains("--queue"), "{error}");
    // Nothing waits for a cap of nothing.
    let (code, _, refusal) = begin(&world, 0, "never", &["--queue"], &["exit:0"]).end();
    assert_eq!((code, refusal.contains("its cap is 0")), (Some(26), true), "{refusal}");
    // What is wrong anyhow is told at once.
    let (code, _, refusal) = begin(&world, 1, "first", &["--queue"], &["exit:0"]).end();
    assert_eq!((code, refusal.contains("already_running")), (Some(32), true), "{refusal}");
    let (code, _, refusal) = begin(&world, 1, "wrong", &["--queue", "--scope", "["], &["exit:0"]).end();
    assert_eq!(code, Some(64), "{refusal}");
    let (code, out, refusal) =
        begin(&world, 1, "dry", &["--queue", "--json", "--dry-run"], &["exit:0"]).end();
    assert_eq!(code, Some(0), "{refusal}");
    let place = document(&world.env, "dry-run", &out)["queue"].clone();
    let expected = serde_json::json!({ "position": 2, "cap": 1, "running": ["first"], "waiting": ["waits"] });
    assert_eq!(place, expected);
    assert_eq!(places(&world), 1, "somebody left a place behind");
    stop(&world, "first");
    assert_eq!(waiter.end().0, Some(0));
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
    // Where there is room nobody waits.
    let (code, out, _) = begin(&world, 1, "last", &["--queue", "--json", "--wait"], &["exit:0"]).end();
    assert_eq!((code, &document(&world.env, "check", &out)["queued_ms"]), (Some(0), &0.into()));
}

#[test]
fn who_is_interrupted_leaves_nothing_and_says_where_it_stood() {
    let world = World::new();
    world.start("first", &[], &["sleep:300"]);
    let mut ahead = wait_in_line(&world, 1, "ahead", 1, &["exit:0"]);
    let before = world.json(0, &["status", "--all"])["jobs"].as_array().unwrap().len();
    let runs = || std::fs::read_dir(world.env.state_dir().join("runs")).unwrap().count();
    let (run_count, worktrees) = (runs(), world.env.path("worktrees"));
    let repo = world.repo.display().to_string();
    let mut command = world.env.product();
    let args = ["--verbose", "run", "exec", "--queue", "--id", "gone", "--repo", &repo, "--", "true"];
    command.args(args).env("DX_RUNNER_MAX_PARALLEL_EXEC", "1").env("DX_RUNNER_WORKTREE_ROOT", &worktrees);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let gone = Waiter { id: "gone".to_owned(), child: spawn(command) };
    wait_until(PATIENCE, "it waits", || places(&world) == 2);
    // When the one before it has gone it looks again, and tells.
    send_signal(ahead.pid(), KILL);
    ahead.child.wait().unwrap();
    wait_until(PATIENCE, "the place of the dead is free", || places(&world) == 1);
    send_signal(gone.pid(), INT);
    let (code, _, told) = gone.end();
    assert_eq!(code, Some(130), "{told}");
    for line in [
        "waiting for a turn of exec, place 2; 1 of 1 run: first; before it: ahead",
        "waiting for a turn of exec, place 1; 1 of 1 run: first",
        "reason: interrupted",
    ] {
        assert!(told.contains(line), "{line} is not in\n{told}");
    }
    assert_eq!((places(&world), runs()), (0, run_count));
    assert!(!worktrees.join("gone").exists(), "a worktree was made for it");
    assert_eq!(world.json(0, &["status", "--all"])["jobs"].as_array().unwrap().len(), before);
    stop(&world, "first");
}

#[test]
fn a_run_whose_processes_all_died_holds_nobody_up() {
    let world = World::new();
    world.start("dead", &[], &["sleep:300"]);
    let waiter = wait_in_line(&world, 1, "next", 1, &["exit:0"]);
    crate::stop::abandon(&world, "dead");
    let (code, out, err) = waiter.end();
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(world.outcome("dead").1, "late_finalize_no_rc");
    world.env.run(&["wait", "--beads", "next"]).assert_code(0);
}

#[test]
fn one_key_that_waits_twice_is_one_run() {
    let world = World::new();
    world.start("first", &[], &["sleep:300"]);
    let key = ["--queue", "--json", "--idempotency-key", "k"];
    let twins = [1, 2].map(|place| {
        let waiter = begin(&world, 1, "twin", &key, &["sleep:300"]);
        wait_until(PATIENCE, "it waits", || places(&world) == place);
        waiter
    });
    stop(&world, "first");
    // The second is answered while the first one's job still runs.
    let ends = twins.map(Waiter::end);
    let documents = ends.each_ref().map(|(_, out, err)| {
        serde_json::from_str::<Value>(out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    });
    assert_eq!(documents[0]["run_uuid"], documents[1]["run_uuid"]);
    assert_eq!(documents.iter().filter(|document| document["changed"] == true).count(), 1);
    stop(&world, "twin");
}

#[test]
fn one_that_is_suspended_is_passed_over_until_it_goes_on() {
    let world = World::new();
    world.start("first", &[], &["sleep:300"]);
    let suspended = wait_in_line(&world, 1, "suspended", 1, &[]);
    let behind = wait_in_line(&world, 1, "behind", 2, &["sleep:300"]);
    send_signal(suspended.pid(), crate::kills::world::STOP);
    stop(&world, "first");
    let (code, out, err) = behind.end();
    assert_eq!(code, Some(0), "{out}{err}");
    // Neither is one held up that does not wait.
    stop(&world, "behind");
    let (code, out, err) = begin(&world, 1, "unqueued", &[], &["sleep:300"]).end();
    assert_eq!(code, Some(0), "{out}{err}");
    send_signal(suspended.pid(), CONT);
    assert_eq!(places(&world), 1);
    stop(&world, "unqueued");
    let (code, out, err) = suspended.end();
    assert_eq!(code, Some(0), "{out}{err}");
    world.env.run(&["wait", "--beads", "suspended"]).assert_code(0);
    assert_eq!(order(&world), ["first", "behind", "unqueued", "suspended"]);
}

#[test]
fn a_restart_waits_for_its_turn_too() {
    let world = World::new();
    world.run_to_end("old", &["--idempotency-key", "k"], &["exit:0"]);
    world.start("first", &[], &["sleep:300"]);
    let (code, _, refusal) = again(&world, 1, "old", &[]).end();
    assert_eq!((code, refusal.contains("provider_concurrency_cap_exceeded")), (Some(26), true), "{refusal}");
    let old = again(&world, 1, "old", &["--queue"]);
    wait_until(PATIENCE, "the restart waits", || places(&world) == 1);
    let behind = wait_in_line(&world, 1, "behind", 2, &["sleep:300"]);
    stop(&world, "first");
    let (code, out, err) = old.end();
    assert_eq!(code, Some(0), "{out}{err}");
    let started = document(&world.env, "action", &out);
    assert_eq!((&started["action"], &started["changed"]), (&"restart".into(), &true.into()));
    assert!(started["queued_ms"].as_u64().unwrap() > 0, "{started}");
    assert_eq!(behind.end().0, Some(0));
    assert_eq!(order(&world), ["first", "old", "behind"]);
    assert_eq!(world.pairs("old", "outcome")["retries"], "1");

    // The run that is replaced makes the room, but not when somebody waits for that.
    let (code, out, err) = again(&world, 1, "behind", &[]).end();
    assert_eq!(code, Some(0), "{out}{err}");
    let (agent, _) = world.pids("behind");
    let next = wait_in_line(&world, 1, "next", 1, &["sleep:300"]);
    let (code, _, refusal) = again(&world, 1, "behind", &[]).end();
    assert_eq!(code, Some(26), "{refusal}");
    assert!(is_running(agent), "a job that could not start again was stopped");
    let behind = again(&world, 1, "behind", &["--queue"]);
    assert_eq!(next.end().0, Some(0));
    assert!(!is_running(agent));
    wait_until(PATIENCE, "the restart waits", || places(&world) == 1);
    // Who gives the place up has an ended job.
    send_signal(behind.pid(), INT);
    let (code, _, told) = behind.end();
    assert_eq!((code, told.contains("interrupted")), (Some(130), true), "{told}");
    assert_eq!(world.outcome("behind").1, "manual_stop");
    assert_eq!(places(&world), 0);
    stop(&world, "next");
}
