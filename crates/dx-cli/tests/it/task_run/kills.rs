//! SIGKILL of `task run` at every named step, and `agy` in the implementer's place: the next run goes on, and nothing runs twice.

use super::world::{World, codes, report, steps, validated, writes};
use crate::opencode::ONE;
use crate::world::{read, write};
use std::ffi::OsStr;
use std::sync::PoisonError;

/// A world whose implementer is a stand-in for `agy`, which notes each run.
fn world(agents: &OsStr) -> World {
    let turns = [("validator, round 0", writes(&[(&report("validation"), &validated("PASS", "None"))]))];
    let world = World::new(agents, &["implementer"], &turns);
    let own = super::world::implemented("done").replace("HASH", &world.hash());
    write(world.env.path("report"), own);
    world.agy(&format!(
        "echo \"$@\" >> {ran}\necho hello > greet.txt\ncp {from} {to}",
        ran = world.env.path("ran").display(),
        from = world.env.path("report").display(),
        to = report("implementation")
    ));
    world.context("- **agy**: enabled");
    world
}

#[test]
fn a_run_that_is_killed_at_any_step_is_gone_on_from() {
    let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR") else {
        println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
        return;
    };
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let steps_of_a_run = [
        "task.begun",
        "task.step_recorded",
        "task.step_started",
        "task.step_judged",
        "task.command_started",
        "task.command_recorded",
        "task.ended",
    ];
    // One home for all: a fresh one costs the real OpenCode most of a minute.
    let world = world(&agents);
    for step in steps_of_a_run {
        world.forget();
        let marker = world.env.path(step);
        let mut command = world.run_command(&[]);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        let output = world.env.run_command(command);
        assert_eq!((output.code, marker.exists()), (-9, true), "{step}: {output}");
        let (code, done) = world.run(&[]);
        assert_eq!((code, codes(&done)), (0, vec![0]), "{step}: {done:#}");
        assert_eq!(steps(&done), ["implementer 0: passed", "validator 0: passed"], "{step}");
        assert_eq!(done["state"]["attempt"], 1, "{step}");
        let ran = read(world.env.path("ran"));
        std::fs::remove_file(world.env.path("ran")).unwrap();
        assert_eq!(ran.lines().count(), 1, "{step}: nothing runs twice");
        assert!(ran.starts_with("--dangerously-skip-permissions --print Read "), "{ran}");
        let handoff = read(world.top.join(".ai/tasks/001-greet/agy-handoff.md"));
        for part in [
            "# Implementer",
            "## Testable Acceptance Criteria",
            "## Conventions",
            "step implementer, round 0",
        ] {
            assert!(handoff.contains(part), "{part}");
        }
        assert_eq!(
            (world.jobs("implementer"), world.jobs("test-1"), world.jobs("validator")),
            (1, 1, 1),
            "{step}"
        );
    }
}

#[test]
fn agy_is_held_to_the_implementers_boundary_and_left_out_when_it_is_off() {
    let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR") else {
        println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
        return;
    };
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outside = world(&agents);
    outside.agy("echo mine > .ai/context.md");
    let (code, ended) = outside.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    assert_eq!(ended["state"]["steps"][0]["violations"], serde_json::json!([".ai/context.md"]));
    // The ordinary implementer, of whom nothing is planned here, writes no report.
    let off = world(&agents);
    off.context("agy: disabled");
    let (code, ended) = off.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"report_missing".into()), "{ended:#}");
    assert!(!off.env.path("ran").exists());
    // On, and not there.
    let missing = world(&agents);
    missing.context("agy: enabled");
    std::fs::remove_file(missing.env.bin_dir().join("agy")).unwrap();
    let (code, ended) = missing.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"report_missing".into()), "{ended:#}");
}
