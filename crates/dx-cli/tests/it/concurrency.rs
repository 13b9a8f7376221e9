//! Many callers at once: one job per id, no more than the cap, one run per idempotency key.

use crate::world::{World, error_of, read};
use dx_testkit::{Output, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;

const CALLERS: usize = 20;

/// Runs all commands at once and returns how they ended, in order.
fn at_once(world: &World, commands: &[Vec<String>], variables: &[(&str, &str)]) -> Vec<Output> {
    let barrier = std::sync::Barrier::new(commands.len());
    std::thread::scope(|scope| {
        let start = |args: &Vec<String>| {
            let mut command = world.env.product();
            command.args(args).envs(variables.iter().copied());
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                world.env.run_command(command)
            })
        };
        let threads: Vec<_> = commands.iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn entries(world: &World, folder: &str) -> usize {
    std::fs::read_dir(world.env.state_dir().join(folder)).unwrap().count()
}

/// Splits into those that ended with 0 and the reasons of the others, which all must end with `code`.
#[track_caller]
fn split(world: &World, outputs: &[Output], code: i32) -> (Vec<Value>, BTreeSet<String>) {
    let (good, bad): (Vec<&Output>, Vec<&Output>) = outputs.iter().partition(|output| output.code == 0);
    let reason = |output: &&Output| {
        assert_eq!(output.code, code, "{output}");
        error_of(&world.env, output)["reason_code"].as_str().unwrap().to_owned()
    };
    (
        good.iter().map(|output| serde_json::from_str(&output.stdout).unwrap()).collect(),
        bad.iter().map(reason).collect(),
    )
}

fn reasons(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|reason| (*reason).to_owned()).collect()
}

#[test]
fn twenty_starts_of_one_id_make_one_job() {
    let world = World::new();
    let pids = world.path("pids");
    let args = world.start_args("bd-1", &["--json"], &[&format!("append-pid:{pids}"), "sleep:300"]);
    let outputs = at_once(&world, &vec![args; CALLERS], &[]);
    let (started, refused) = split(&world, &outputs, 32);
    assert_eq!((started.len(), refused), (1, reasons(&["already_running"])));
    world.env.run(&["stop", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(&pids).lines().count(), 1, "more than one agent ran");
    assert_eq!(entries(&world, "runs"), 1, "a refused start left its run behind");
    assert_eq!(entries(&world, "tmp"), 0, "a refused start left its TMPDIR behind");
    assert_eq!(entries(&world, "live"), 0);
}

#[test]
fn twenty_starts_over_a_cap_of_two_make_two_jobs() {
    let world = World::new();
    let pids = world.path("pids");
    let action = format!("append-pid:{pids}");
    let args: Vec<Vec<String>> = (0..CALLERS)
        .map(|n| world.start_args(&format!("bd-{n}"), &["--json"], &[&action, "sleep:300"]))
        .collect();
    let cap = [("DX_RUNNER_MAX_PARALLEL_EXEC", "2")];
    let (started, refused) = split(&world, &at_once(&world, &args, &cap), 26);
    assert_eq!((started.len(), refused), (2, reasons(&["provider_concurrency_cap_exceeded"])));
    let listed = world.json(0, &["status", "--live"]);
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 2);
    // A job that ends makes room for one.
    world.env.run(&["stop", "--beads", started[0]["beads"].as_str().unwrap()]).assert_code(0);
    let more: Vec<Vec<String>> = (0..3)
        .map(|n| world.start_args(&format!("more-{n}"), &["--json"], &[&action, "sleep:300"]))
        .collect();
    let (started, _) = split(&world, &at_once(&world, &more, &cap), 26);
    assert_eq!(started.len(), 1);
    world.env.run(&["stop", "--all"]).assert_code(0);
    assert_eq!(read(&pids).lines().count(), 3);
    assert_eq!(entries(&world, "runs"), 3);
}

#[test]
fn one_idempotency_key_is_one_run() {
    let world = World::new();
    let pids = world.path("pids");
    let action = format!("append-pid:{pids}");
    let key = ["--idempotency-key", "k-1", "--json"];
    let named = world.start_args("bd-1", &key, &[&action, "sleep:300"]);
    // Without an id the key alone must find the run.
    let mut unnamed = world.start_args("-", &["--idempotency-key", "k-2", "--json"], &[&action, "sleep:300"]);
    unnamed.drain(1..3);
    for args in [named, unnamed] {
        let _old = std::fs::remove_file(&pids);
        let (started, refused) = split(&world, &at_once(&world, &vec![args.clone(); 10], &[]), 0);
        assert_eq!((started.len(), refused), (10, reasons(&[])));
        let runs: BTreeSet<&str> = started.iter().map(|done| done["run_uuid"].as_str().unwrap()).collect();
        assert_eq!(runs.len(), 1);
        assert_eq!(started.iter().filter(|done| done["changed"] == true).count(), 1);
        let id = started[0]["beads"].as_str().unwrap();
        world.env.run(&["stop", "--beads", id, "--grace", "1s"]).assert_code(0);
        assert_eq!(read(&pids).lines().count(), 1);
        // The end of the run does not free the key; another key does start.
        let again: Value = serde_json::from_str(&world.env.run(&args).assert_code(0).stdout).unwrap();
        assert_eq!(
            (&again["run_uuid"], &again["state"]),
            (&runs.first().copied().into(), &"exited_err".into())
        );
    }
    let other = world.start("bd-1", &["--idempotency-key", "k-3"], &["exit:0"]);
    assert_eq!(other["changed"], true);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
}

#[test]
fn starts_without_an_id_never_meet() {
    let world = World::new();
    // Short ones: an id that was free again after its job's end would be taken twice.
    let mut args = world.start_args("-", &["--json"], &["exit:0"]);
    args.drain(1..3);
    let (started, refused) = split(&world, &at_once(&world, &vec![args; 10], &[]), 0);
    assert_eq!((started.len(), refused), (10, reasons(&[])));
    let ids: BTreeSet<&str> = started.iter().map(|done| done["beads"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 10, "{ids:?}");
    for id in ids {
        world.env.run(&["wait", "--beads", id]).assert_code(0);
        assert_eq!(world.pairs(id, "meta")["retries"], "0");
        assert!(!world.view(id, "log.1").exists());
    }
}

#[test]
fn starts_in_a_new_worktree_get_a_whole_one() {
    let world = World::new();
    for n in 0..200 {
        crate::world::write(world.repo.join(format!("file-{n}")), "content\n");
    }
    world.env.git(&world.repo, &["add", "--all"]);
    world.env.git(&world.repo, &["commit", "--quiet", "--message=more"]);
    let repo = world.repo.display().to_string();
    let start = |id: &str| -> Vec<String> {
        let script = "git status --porcelain > $TMPDIR/dirty; ls | wc -l; cat $TMPDIR/dirty; exec sleep 300";
        let args =
            ["start", "--beads", id, "--json", "--provider", "exec", "--worktree", "auto", "--repo", &repo];
        [&args[..], &["--", "sh", "-c", script]].concat().into_iter().map(str::to_owned).collect()
    };
    // Eight of one id, and two others beside it.
    let mut commands = vec![start("one"); 8];
    commands.extend(["two", "three"].map(&start));
    let (started, refused) = split(&world, &at_once(&world, &commands, &[]), 32);
    assert_eq!((started.len(), refused), (3, reasons(&["already_running"])));
    for done in &started {
        let id = done["beads"].as_str().unwrap();
        wait_until(crate::world::PATIENCE, "the agent has looked", || {
            !read(world.view(id, "log")).is_empty()
        });
        assert_eq!(read(world.view(id, "log")).trim(), "201", "{id} began in half a tree");
        let branch = world.env.git(done["worktree"].as_str().unwrap(), &["branch", "--show-current"]);
        assert_eq!(branch.trim(), id);
    }
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_dead_run_takes_no_place() {
    let world = World::new();
    let cap = [("DX_RUNNER_MAX_PARALLEL_EXEC", "1")];
    world.start("dead", &[], &["sleep:300"]);
    let next = [world.start_args("next", &["--json"], &["sleep:300"])];
    assert_eq!(split(&world, &at_once(&world, &next, &cap), 26).0.len(), 0);
    crate::stop::abandon(&world, "dead");
    assert_eq!(split(&world, &at_once(&world, &next, &cap), 26).0.len(), 1);
    assert_eq!(world.outcome("dead").1, "late_finalize_no_rc");
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_start_that_fails_takes_no_place() {
    let world = World::new();
    let worktree = world.repo.display().to_string();
    for program in ["no-such-program", "./a.txt", "/"] {
        let start =
            ["start", "--beads", "bd-1", "--provider", "exec", "--worktree", &worktree, "--", program];
        let error = world.error(1, &start);
        assert_eq!(error["reason_code"], "spawn_failed", "{program}: {error}");
        let told = format!("could not be started: {program}: ");
        assert!(error["message"].as_str().unwrap().contains(&told), "{error}");
        let check = world.check("bd-1");
        assert_eq!((&check["state"], &check["reason_code"]), (&"exited_err".into(), &"spawn_failed".into()));
        // The record is there at once; the published files follow, and the claim goes last.
        wait_until(crate::world::PATIENCE, "the claim is gone", || entries(&world, "live") == 0);
        assert_eq!(world.outcome("bd-1"), ("failed".to_owned(), "spawn_failed".to_owned(), "-".to_owned()));
        assert_eq!(world.rc("bd-1"), None);
        assert_eq!(entries(&world, "tmp"), 0, "{program}: a TMPDIR is left");
    }
    world.run_to_end("bd-1", &[], &["exit:0"]);
    assert_eq!(world.outcome("bd-1").0, "success");
}

#[test]
fn many_may_end_one_job() {
    let world = World::new();
    world.start("bd-1", &[], &["ignore-term", "print:up", "sleep:300"]);
    wait_until(crate::world::PATIENCE, "the agent printed", || !read(world.view("bd-1", "log")).is_empty());
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let mut commands = vec![words("stop --beads bd-1 --grace 300ms --json"); 6];
    commands.extend(vec![words("wait --beads bd-1 --json"); 3]);
    commands.extend(vec![words("prune --beads bd-1 --json"); 3]);
    let outputs = at_once(&world, &commands, &[]);
    let codes: Vec<i32> = outputs.iter().map(|output| output.code).collect();
    assert_eq!(codes, [0, 0, 0, 0, 0, 0, 3, 3, 3, 0, 0, 0], "{outputs:?}");
    assert_eq!(world.outcome("bd-1").1, "manual_stop");
    let ended = world.view("bd-1", "events.jsonl");
    assert_eq!(read(ended).lines().filter(|line| line.contains("\"type\":\"ended\"")).count(), 1);
}
