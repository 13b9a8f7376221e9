//! SIGKILL of the coordinator at every named step and at random instants: `wave resume` ends with every item run once.

use super::world::{PATIENCE, World, coordinator, item, row, states};
use crate::kills::random::{Random, number};
use dx_testkit::wait_until;
use serde_json::Value;

/// A diamond with a review and a revision, each agent of which tells that it ran.
fn items(world: &World) -> Vec<String> {
    // Reviewers tell it, too, and in a sandbox could write nothing.
    world.sandbox_off();
    let ran = world.path("ran");
    let script = |id: &str, rest: &str| format!("echo {id} >> {ran}; cat > p.{id}; {rest}");
    let review = format!(
        "review = {{ provider = \"exec\", command = [\"sh\", \"-ec\", \"echo r >> {ran}; echo '{{\\\"verdict\\\":\\\"APPROVED\\\"}}'\"] }}"
    );
    vec![
        item("a", &[], &script("a", "echo a > a.txt"), ""),
        // Its first attempt does not pass its check.
        item(
            "b",
            &["a"],
            &script("b", "if grep -q 'attempt 2' p.b; then echo b > b.txt; fi"),
            "prompt = \"go\"\ncheck = \"test -f b.txt\"",
        ),
        item("c", &["a"], &script("c", "echo c > c.txt"), &review),
        item("d", &["b", "c"], &script("d", "cat a.txt b.txt c.txt > d.txt"), ""),
    ]
}

/// Processes that do the same at the same time.
const CALLERS: usize = 6;
const HEAD: &str = "merge_into = \"all\"\n[defaults]\nsandbox = \"off\"";

/// Resumes until the wave has ended, however often that takes.
#[track_caller]
pub(crate) fn resume_to_the_end(world: &World, case: &str) -> Value {
    for _ in 0..20 {
        let (code, wave) = world.ask(&["status", "w-1"]);
        assert_eq!(code, 0, "{case}: {wave}");
        match wave["state"].as_str().unwrap() {
            "interrupted" => {
                let (code, told) = world.ask(&["resume", "w-1"]);
                // Another one may have been quicker.
                let reason = told["error"]["reason_code"].as_str().unwrap_or_default();
                let fine = ["wave_ended", "wave_running", "wave_interrupted"].contains(&reason);
                assert!(code == 0 || fine, "{case}: {code} {told:#}");
            }
            "running" => {
                world.ask(&["status", "w-1", "--watch"]);
            }
            _ => return wave,
        }
    }
    panic!("{case}: it does not end");
}

/// Every item is done, each attempt ran once, and everything is merged.
#[track_caller]
fn assert_once(world: &World, wave: &Value, case: &str) {
    assert_eq!(states(wave), vec!["done"; 4], "{case}: {wave:#}");
    let mut ran: Vec<String> =
        std::fs::read_to_string(world.path("ran")).unwrap().lines().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["a", "b", "b", "c", "d", "r"], "{case}: {wave:#}");
    assert_eq!(row(wave, "b")["attempts"], 2, "{case}: {wave:#}");
    assert_eq!(world.show("all", "d.txt"), "a\nb\nc\n", "{case}");
    let live = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    assert!(live.contains("\"jobs\":[]"), "{case}: {live}");
}

#[test]
fn a_coordinator_that_is_killed_at_any_step_is_gone_on_from() {
    let steps = [
        "wave.began",
        "wave.attempt_decided",
        "wave.started",
        "wave.judged",
        "wave.review_decided",
        "wave.review_started",
        "wave.reviewed",
        "wave.closed",
        "wave.integrated",
        "wave.merged",
        "wave.ended",
    ];
    std::thread::scope(|scope| {
        for part in steps.chunks(6) {
            scope.spawn(move || {
                for step in part {
                    let world = World::new();
                    let marker = world.path("killed");
                    let file = world.file(HEAD, &items(&world));
                    let mut command = world.env.product();
                    command.args(["wave", "run", &file, "--json"]);
                    command.env("DX_FAULT_KILL", format!("{step}@{marker}"));
                    let output = world.env.run_command(command);
                    // Whoever asked may hear of the end before the coordinator has come to its last step.
                    wait_until(PATIENCE, &format!("{step}: it is killed: {output}"), || {
                        std::path::Path::new(&marker).exists()
                    });
                    let wave = resume_to_the_end(&world, step);
                    assert_once(&world, &wave, step);
                }
            });
        }
    });
}

#[test]
fn a_caller_that_is_killed_before_its_coordinator_leaves_a_wave_that_can_be_resumed() {
    let world = World::new();
    let file = world.file(HEAD, &items(&world));
    let mut command = world.env.product();
    command.args(["wave", "run", &file]);
    command.env("DX_FAULT_KILL", format!("wave.created@{}", world.path("killed")));
    assert_eq!(world.env.run_command(command).code, -9);
    wait_until(PATIENCE, "it is told as interrupted", || {
        world.ask(&["status", "w-1"]).1["state"] == "interrupted"
    });
    let wave = resume_to_the_end(&world, "wave.created");
    assert_once(&world, &wave, "wave.created");
}

/// A wave of two jobs that run for long, whose coordinator was killed.
fn orphaned() -> World {
    let world = World::new();
    let items = [item("a", &[], "sleep 600", ""), item("b", &[], "sleep 600", "")];
    let file = world.file("max_parallel = 2", &items);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("a", "running");
    world.until("b", "running");
    wait_until(PATIENCE, "both jobs run", || {
        let live = world.env.run(&["status", "--live", "--json"]).stdout;
        serde_json::from_str::<Value>(&live).is_ok_and(|live| live["jobs"].as_array().unwrap().len() == 2)
    });
    wait_until(PATIENCE, "both starts are recorded", || {
        let wave = world.ask(&["status", "w-1"]).1;
        ["a", "b"].iter().all(|id| row(&wave, id)["history"][0]["run_uuid"].is_string())
    });
    let pid = coordinator(&world.env.state_dir(), "w-1").unwrap();
    dx_testkit::send_signal(pid, 9);
    wait_until(PATIENCE, "it is gone", || coordinator(&world.env.state_dir(), "w-1").is_none());
    world
}

/// Both items were ended, and nothing of them runs.
#[track_caller]
fn assert_cancelled(world: &World, wave: &Value) {
    assert_eq!(states(wave), ["cancelled", "cancelled"], "{wave:#}");
    for id in ["a", "b"] {
        assert_eq!(row(wave, id)["history"][0]["verdict"], "cancelled", "{wave:#}");
    }
    let live = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    assert!(live.contains("\"jobs\":[]"), "{live}");
}

#[test]
fn a_cancel_after_a_kill_ends_the_jobs_of_the_dead_coordinator() {
    let world = orphaned();
    let (code, wave) = world.ask(&["cancel", "w-1"]);
    assert_eq!(code, 0, "{wave:#}");
    assert_cancelled(&world, &wave);
}

#[test]
fn a_kill_during_a_cancel_is_gone_on_from() {
    let world = orphaned();
    let marker = world.path("killed");
    let mut command = world.env.product();
    command.args(["wave", "cancel", "w-1", "--json"]);
    command.env("DX_FAULT_KILL", format!("wave.judged@{marker}"));
    let output = world.env.run_command(command);
    assert!(std::path::Path::new(&marker).exists(), "nothing was killed: {output}");
    let (code, wave) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, &wave["state"]), (0, &"failed".into()), "{wave:#}");
    assert_cancelled(&world, &wave);
}

/// The answers of several processes that do the same at once: how many did it, and the errors of the others.
fn at_once(world: &World, args: &[&str]) -> (usize, Vec<Value>) {
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| scope.spawn(|| world.env.run(&[&["wave"], args, &["--detach", "--json"]].concat())))
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|output| output.code == 0);
    let told = |output: dx_testkit::Output| {
        assert_eq!(output.code, 32, "{output}");
        serde_json::from_str::<Value>(&output.stderr).unwrap()["error"].take()
    };
    (won.len(), lost.into_iter().map(told).collect())
}

#[test]
fn of_several_that_run_one_file_at_once_and_then_resume_its_wave_one_wins() {
    let world = World::new();
    let gate = world.path("gate");
    let ran = world.path("ran");
    let script =
        format!("echo x >> {ran}; until test -e {gate}; do sleep 0.1; done; echo x > $DX_RUNNER_BEADS_ID");
    let items = [item("a", &[], &script, ""), item("b", &["a"], "true", "")];
    let file = world.file("[defaults]\nsandbox = \"off\"", &items);
    let (won, lost) = at_once(&world, &["run", &file]);
    assert_eq!((won, lost.len()), (1, CALLERS - 1), "{lost:#?}");
    for error in &lost {
        let message = error["message"].as_str().unwrap();
        // The second item, which nobody has begun, is the wave's, too.
        let whose = ["a: wave w-1 has it", "b: wave w-1 has it"].iter().all(|text| message.contains(text));
        assert!(error["reason_code"] == "wave_item_taken" && whose, "{error:#}");
    }
    assert_eq!(world.ask(&["list"]).1["waves"].as_array().unwrap().len(), 1);

    world.until("a", "running");
    let state = world.env.state_dir();
    dx_testkit::send_signal(coordinator(&state, "w-1").unwrap(), 9);
    wait_until(PATIENCE, "it is gone", || coordinator(&state, "w-1").is_none());
    let (won, lost) = at_once(&world, &["resume", "w-1"]);
    assert_eq!((won, lost.len()), (1, CALLERS - 1), "{lost:#?}");
    for error in &lost {
        let next = "dx-runner wave status w-1";
        assert_eq!((&error["reason_code"], &error["next_action"]), (&"wave_running".into(), &next.into()));
    }
    std::fs::write(&gate, "").unwrap();
    let (code, wave) = world.ask(&["status", "w-1", "--watch"]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 2]), "{wave:#}");
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "x\n", "the first agent ran once");
}

/// Kills the coordinators of so many waves, each up to three times, at instants that the seed names.
pub(crate) fn kill_at_random_instants(waves: u64, seed: u64) {
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let wave = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if wave >= waves {
                        return;
                    }
                    one(seed.wrapping_add(wave));
                }
            });
        }
    });
}

#[track_caller]
fn one(seed: u64) {
    let case = format!("seed {seed}");
    let mut random = Random::new(seed);
    let world = World::new();
    let file = world.file(HEAD, &items(&world));
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_micros(random.below(900_000)));
        if let Some(pid) = coordinator(&world.env.state_dir(), "w-1") {
            dx_testkit::send_signal(pid, 9);
            wait_until(PATIENCE, "it is gone", || coordinator(&world.env.state_dir(), "w-1").is_none());
            world.ask(&["resume", "w-1", "--detach"]);
        }
    }
    let wave = resume_to_the_end(&world, &case);
    assert_once(&world, &wave, &case);
}

/// 20 waves, with `DX_SOAK=1` 500; `DX_WAVE_KILLS` and `DX_KILL_SEED` make it longer or other.
#[test]
fn kills_at_random_instants_lose_nothing_and_repeat_nothing() {
    let soak = std::env::var_os("DX_SOAK").is_some_and(|value| value == "1");
    let seed = number("DX_KILL_SEED").unwrap_or(1);
    kill_at_random_instants(number("DX_WAVE_KILLS").unwrap_or(if soak { 500 } else { 20 }), seed);
}
