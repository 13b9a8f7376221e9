//! Long runs: thousands of kills, hundreds of jobs at once, agents that print without end.
//!
//! For: `cargo xtask soak`, which selects suites by the beginnings of these names. Each test does nothing without
//! `DX_SOAK=1`. Must never: share the short tests' names, which would run them twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "numbers of a run are what it is for")]

#[path = "it/bench/answers.rs"]
mod answers;
#[path = "it/bench/long.rs"]
mod bench;
#[path = "it/bench/seeds.rs"]
mod bench_seeds;
#[path = "it/bench/browser.rs"]
mod browser;
#[path = "it/health/cases.rs"]
mod health_cases;
#[path = "it/bench/lanes.rs"]
#[allow(dead_code, reason = "the short tests use more of it")]
mod lanes;
#[path = "it/kills/random.rs"]
mod random;
#[path = "it/gates/real_beads.rs"]
mod real_beads;
#[path = "it/wave/real_beads.rs"]
mod real_beads_wave;
#[path = "it/truth/table.rs"]
#[allow(dead_code, reason = "the short tests use more of it")]
mod table;
#[path = "it/kills/world.rs"]
#[allow(dead_code, reason = "the short tests use more of it")]
mod world;

use dx_testkit::{is_running, wait_until};
use random::Random;
use std::sync::Mutex;
use world::{Job, PATIENCE, World, kill, programs};

/// Jobs of the crowd, all alive at the same time.
const CROWD: usize = 200;
/// Callers that start and ask at the same time.
const CALLERS: usize = 4;
/// Log limit of the floods.
const FLOOD_LIMIT: u64 = 16 << 20;
/// How far a log may grow beyond its limit before its agent is gone: what a fast disk takes in a few looks, 20 to 250 ms
/// apart, on a machine that is busy with it.
const FLOOD_SLACK: u64 = 1 << 30;

fn is_wanted() -> bool {
    let wanted = std::env::var_os("DX_SOAK").is_some_and(|value| value == "1");
    if !wanted {
        println!("a soak test: runs with DX_SOAK=1, or by `cargo xtask soak`");
    }
    wanted
}

#[test]
fn beads_with_a_real_store() {
    if is_wanted() {
        let program = std::env::var_os("DX_TEST_BD").expect("`cargo xtask soak beads` names the program");
        let mut env = dx_testkit::TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner"));
        real_beads::run(&mut env, std::path::Path::new(&program));
    }
}

#[test]
fn beads_as_the_source_of_a_wave() {
    if is_wanted() {
        let program = std::env::var_os("DX_TEST_BD").expect("`cargo xtask soak beads` names the program");
        let env = dx_testkit::TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner"));
        real_beads_wave::run(&env, std::path::Path::new(&program));
    }
}

#[test]
fn kills_at_random_instants() {
    if is_wanted() {
        // Every run is another one; the seed is printed.
        let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let seed = random::number("DX_KILL_SEED").unwrap_or(clock * 1_000_000);
        random::kill_at_random_instants(random::number("DX_KILL_RUNS").unwrap_or(10_000), seed);
    }
}

/// Does something with every index below `count`, by a few callers at once.
fn by_callers(count: usize, act: impl Fn(usize) + Sync) {
    let queue = Mutex::new(0..count);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(index) = next else { return };
                    act(index);
                }
            });
        }
    });
}

#[test]
fn crowd_of_200_jobs() {
    if !is_wanted() {
        return;
    }
    let world = World::new();
    let seed = random::number("DX_KILL_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let go = world.env.path("go");
    let wait = format!("wait-file:{}", go.display());
    let codes: Vec<i32> = (0..CROWD).map(|_| 1 + random.below(255) as i32).collect();
    let jobs: Vec<Job<'_>> = codes
        .iter()
        .enumerate()
        .map(|(index, code)| {
            let actions = ["print:one", &wait, "print:two", &format!("exit:{code}")];
            world.job(&format!("crowd-{index}")).doing(&actions)
        })
        .collect();
    let uuids: Vec<Mutex<String>> = jobs.iter().map(|_| Mutex::default()).collect();
    by_callers(CROWD, |index| *uuids[index].lock().unwrap() = jobs[index].start(&[]));
    let uuids: Vec<String> = uuids.into_iter().map(|uuid| uuid.into_inner().unwrap()).collect();
    let agents: Vec<i32> = jobs.iter().map(Job::await_agent).collect();
    assert!(agents.iter().all(|agent| is_running(*agent)), "all {CROWD} live at once");
    let listed = world.env.run(&["status", "--json"]).assert_code(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), CROWD);

    let mut killed = 0;
    for uuid in &uuids {
        if random.below(3) == 0 {
            let mut found = programs(uuid);
            kill(found.swap_remove(random.below(found.len() as u64) as usize).pid);
            killed += 1;
        }
    }
    std::fs::write(&go, b"").unwrap();
    by_callers(CROWD, |index| {
        jobs[index].assert_told(&uuids[index], codes[index]);
        assert_eq!(jobs[index].agents().len(), 1);
    });
    println!("{CROWD} jobs at once, {killed} of ours killed, seed {seed}: every exit code is there");
}

#[test]
fn floods_are_ended_at_their_limit() {
    if !is_wanted() {
        return;
    }
    for (actions, kills) in [
        (&["flood-forever"][..], false),
        (&["flood-forever"], true),
        // When it begins, the monitor has long gone over to looking rarely.
        (&["print:calm", "sleep:2.5", "flood-forever"], false),
    ] {
        let world = World::new();
        let job = world
            .job("flood")
            .doing(actions)
            .with("DX_RUNNER_MAX_LOG_BYTES", FLOOD_LIMIT.to_string())
            .with("DX_RUNNER_GRACE_MS", "200".to_owned());
        let uuid = job.start(&[]);
        if kills {
            kill(job.await_ours(&uuid, "dx-monitor", &[]));
        }
        let document = job.wait();
        let size = std::fs::metadata(job.view("log")).unwrap().len();
        assert_eq!(document["outcome"]["reason_code"], "output_flood", "{document:#}");
        println!("flood: limit {FLOOD_LIMIT}, log {size}, a monitor was killed: {kills}");
        assert!(size < FLOOD_LIMIT + FLOOD_SLACK, "{size} bytes");
        job.assert_settled(&uuid);
        wait_until(PATIENCE, "the agent is gone", || !job.agents().iter().any(|agent| is_running(*agent)));
    }
}

/// Verdicts at named moments of agents that are silent in all known ways.
#[test]
fn health_of_scripted_agents() {
    if is_wanted() {
        let wrong = health_cases::run();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The same agents and others, with a watchdog over them: nobody who works may be ended.
#[test]
fn health_under_a_watchdog() {
    if is_wanted() {
        let wrong = health_cases::run_watched();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The cases in which an agent takes minutes before it gives up.
#[test]
fn truth_of_claude_code() {
    if is_wanted() {
        table::run("claude-code", "soak");
    }
}

#[test]
fn truth_of_cc_glm() {
    if is_wanted() {
        table::run("cc-glm", "soak");
    }
}

#[test]
fn truth_of_codex() {
    if is_wanted() {
        table::run("codex", "soak");
    }
}

#[test]
fn truth_of_gemini() {
    if is_wanted() {
        table::run("gemini", "soak");
    }
}

#[test]
fn truth_of_opencode() {
    if is_wanted() {
        table::run("opencode", "soak");
    }
}
