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
#[path = "it/bench/everywhere.rs"]
mod bench_everywhere;
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
#[path = "it/wave/world.rs"]
#[allow(dead_code, reason = "the short tests use more of it")]
mod wave_world;
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

/// As many agents at once in one wave, whose coordinator is killed, and some of our other processes.
#[test]
fn crowd_of_200_agents_in_one_wave() {
    if !is_wanted() {
        return;
    }
    let mut world = wave_world::World::new();
    world.env.set("DX_RUNNER_MAX_PARALLEL_EXEC", CROWD.to_string());
    let seed = random::number("DX_KILL_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let (go, ran) = (world.path("go"), world.path("ran"));
    let codes: Vec<u64> = (0..CROWD).map(|at| if at % 4 == 0 { 0 } else { random.below(256) }).collect();
    let script = |code| format!("echo x >> {ran}; until test -e {go}; do sleep 1; done; exit {code}");
    let items: Vec<String> = codes
        .iter()
        .enumerate()
        .map(|(at, code)| wave_world::item(&format!("i{at}"), &[], &script(code), "max_attempts = 1"))
        .collect();
    let file = world.file(&format!("max_parallel = {CROWD}\n[defaults]\nsandbox = \"off\""), &items);
    let began = std::time::Instant::now();
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    let count = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    wait_until(wave_world::PATIENCE * 5, "all agents are at work", || count() == CROWD);
    println!("{CROWD} agents at work after {:.0} s", began.elapsed().as_secs_f64());
    let row = |wave: &serde_json::Value, at: usize| wave_world::row(wave, &format!("i{at}")).clone();
    let uuid =
        |wave: &serde_json::Value, at| row(wave, at)["history"][0]["run_uuid"].as_str().map(str::to_owned);
    wait_until(wave_world::PATIENCE, "all starts are recorded", || {
        let wave = world.ask(&["status", "w-1"]).1;
        (0..CROWD).all(|at| uuid(&wave, at).is_some())
    });
    let wave = world.ask(&["status", "w-1"]).1;
    let mut killed = 0;
    for at in 0..CROWD {
        let mut found = programs(&uuid(&wave, at).unwrap());
        if random.below(4) == 0 && !found.is_empty() {
            kill(found.swap_remove(random.below(found.len() as u64) as usize).pid);
            killed += 1;
        }
    }
    let state = world.env.state_dir();
    kill(wave_world::coordinator(&state, "w-1").unwrap());
    wait_until(wave_world::PATIENCE, "it is gone", || wave_world::coordinator(&state, "w-1").is_none());
    world.env.run(&["wave", "resume", "w-1", "--detach"]).assert_code(0);
    std::fs::write(&go, b"").unwrap();
    let began = std::time::Instant::now();
    world.env.run(&["wave", "status", "w-1", "--watch", "--json"]).assert_code(31);
    println!("all ended and judged after {:.0} s", began.elapsed().as_secs_f64());
    let wave = world.ask(&["status", "w-1"]).1;
    for (at, code) in codes.iter().enumerate() {
        let row = row(&wave, at);
        let told = (row["state"].as_str(), row["history"][0]["exit_code"].as_str());
        let state = if *code == 0 { "done" } else { "failed" };
        assert_eq!(told, (Some(state), Some(code.to_string().as_str())), "{row:#}");
    }
    assert_eq!(count(), CROWD, "no agent ran twice");
    wait_until(wave_world::PATIENCE, "nothing is left", || {
        let ours = |pid: &i32| *pid != std::process::id().cast_signed();
        let home = world.env.home().display().to_string();
        !dx_testkit::processes_with_marker("HOME", &home).iter().any(ours)
    });
    println!(
        "{CROWD} agents in one wave, {killed} of ours and a coordinator killed, seed {seed}: every exit code is there"
    );
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
