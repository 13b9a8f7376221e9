//! SIGKILL at every named step of starter, monitor and launcher, one run per step.

use super::world::{CODE, Job, KILL, PATIENCE, World, ours, uuid_of};
use dx_testkit::wait_until;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};

/// A job whose processes are killed at `step`, once; the marker file appears then.
fn job_killed_at<'w>(world: &'w World, step: &str) -> Job<'w> {
    let job = world.job(&step.replace('_', "-"));
    let fault = format!("{step}@{}", job.file("killed").display());
    job.with("DX_FAULT_KILL", fault)
}

/// The steps of one program, each checked in a world of its own.
fn steps_of(program: &str) -> Vec<&'static str> {
    let steps: Vec<_> =
        dx_jobdir::faults::STEPS.iter().copied().filter(|step| step.starts_with(program)).collect();
    assert!(!steps.is_empty());
    steps
}

/// Kills at the step and holds the job against the expectation; gives the run's events.
#[track_caller]
fn survive(step: &str) -> Vec<Value> {
    let world = World::new();
    let job = job_killed_at(&world, step);
    let uuid = job.start(&[]);
    job.await_agent();
    job.go();
    job.assert_told(&uuid, CODE);
    assert!(job.file("killed").exists(), "{step} was never reached");
    job.events(&uuid)
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

#[test]
fn monitor_is_killed_at_every_step() {
    for step in steps_of("monitor.") {
        let events = survive(step);
        let monitors = count(&events, "monitor_started");
        // Once the end is recorded nothing may follow it, not even the one who publishes it.
        let recorded = [
            "monitor.outcome_record",
            "monitor.outcome_view",
            "monitor.ended_index",
            "monitor.released",
            "monitor.history",
        ];
        assert_eq!(monitors, if recorded.contains(&step) { 1 } else { 2 }, "{step}: {events:#?}");
        assert_eq!(count(&events, "agent_started"), 1, "{step}: {events:#?}");
        assert_eq!(count(&events, "process_ended"), 1, "{step}: {events:#?}");
    }
}

#[test]
fn launcher_is_killed_at_every_step() {
    for step in steps_of("launcher.") {
        let events = survive(step);
        assert_eq!(count(&events, "monitor_started"), 1, "{step}: {events:#?}");
        assert_eq!(count(&events, "agent_started"), 1, "{step}: {events:#?}");
        let while_it_ran = ["launcher.agent_released", "launcher.exec_recorded"].contains(&step);
        if while_it_ran {
            assert_eq!(count(&events, "launcher_lost"), 1, "{step}: {events:#?}");
        }
    }
}

#[test]
fn starter_is_killed_at_every_step() {
    // From then on the job is its monitor's: see below.
    let given = "starter.planned";
    for step in steps_of("starter.").into_iter().filter(|step| *step != given) {
        let world = World::new();
        let job = job_killed_at(&world, step);
        let output = world.env.run_command(job.start_command(&[]));
        assert_eq!(output.code, -KILL, "{step}: {output}");
        assert!(job.file("killed").exists(), "{step}");
        let state = world.env.state_dir().display().to_string();
        wait_until(PATIENCE, "no process of ours is left", || ours(&state).is_empty());
        assert!(job.agents().is_empty(), "{step}: an agent without a start that succeeded");

        world.env.run(&["prune"]).assert_code(0);
        let (code, document) = job.ask(&["check"]);
        if step == "starter.created" {
            assert_eq!(code, 1, "{step}: no claim, no job: {document}");
        } else {
            assert_eq!((code, &document["reason_code"]), (3, &"spawn_failed".into()), "{step}: {document}");
            let outcome = &document["outcome"];
            assert_eq!((&outcome["exit_code"], &outcome["exit"]), (&"-".into(), &Value::Null), "{step}");
            job.assert_settled(outcome["ids"]["run_uuid"].as_str().unwrap());
            assert!(!job.view("rc").exists(), "{step}");
        }

        let second = job.again();
        let uuid = second.start(&[]);
        second.go();
        second.assert_told(&uuid, CODE);
    }
}

#[test]
fn a_starter_that_is_killed_when_its_monitor_has_the_plan_leaves_a_whole_job() {
    let world = World::new();
    let job = job_killed_at(&world, "starter.planned");
    let output = world.env.run_command(job.start_command(&[]));
    assert_eq!(output.code, -KILL, "{output}");
    job.await_agent();
    wait_until(PATIENCE, "the job's files have their names", || job.view("contract").exists());
    let (code, document) = job.ask(&["check"]);
    assert_eq!(code, 0, "{document}");
    let contract = std::fs::read_to_string(job.view("contract")).unwrap();
    let uuid = contract.lines().find_map(|line| line.strip_prefix("run_uuid=")).unwrap();
    for name in ["log", "prompt", "events.jsonl", "meta", "contract", "pid"] {
        assert!(job.view(name).exists(), "{name}");
    }
    job.go();
    job.assert_told(uuid, CODE);
}

#[test]
fn a_start_that_loses_every_launcher_fails_and_says_so() {
    let world = World::new();
    // The marker limits the fault to one process; taken away as soon as it appears, every launcher dies at the step.
    // A launcher may be faster than that: then that job runs, and another try follows.
    for attempt in 0..50 {
        let job = world.job(&format!("try-{attempt}"));
        let marker = job.file("killed");
        let fault = format!("launcher.began@{}", marker.display());
        let command = job.again().with("DX_FAULT_KILL", fault).start_command(&[]);
        let done = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(std::fs::remove_file(&marker));
                    std::thread::yield_now();
                }
            });
            let output = world.env.try_run(command, b"");
            done.store(true, Ordering::Relaxed);
            output.unwrap_or_else(|error| panic!("start {error}"))
        });
        job.go();
        if output.code == 0 {
            job.assert_told(&uuid_of(&output.stdout), CODE);
            continue;
        }
        let error: Value = serde_json::from_str(&output.stderr).unwrap();
        let (told, next) = (&error["error"]["message"], &error["error"]["next_action"]);
        assert!(told.as_str().is_some_and(|t| !t.is_empty()) && next.is_string(), "{error}");
        assert!(job.agents().is_empty());
        let (code, document) = job.ask(&["check"]);
        assert_eq!((code, &document["reason_code"]), (3, &"spawn_failed".into()), "{document}");
        job.assert_settled(document["outcome"]["ids"]["run_uuid"].as_str().unwrap());
        return;
    }
    panic!("a launcher was always faster");
}
