//! SIGKILL of `task run` at every named step, and `agy` in the implementer's place: the next run goes on, and nothing runs twice.
//!
//! Called by: `cases`, with its home.

use super::cases::validates;
use super::world::{World, codes, implemented, report, steps};
use crate::world::{read, write};
use serde_json::json;

/// `agy` does this, writes an implementer's report and notes that it ran.
pub(super) fn agy_that_writes(world: &World, script: &str) {
    let name = world.top.file_name().unwrap().to_str().unwrap();
    let own = world.env.path(format!("report-{name}"));
    write(&own, implemented("done").replace("HASH", &world.hash()));
    world.agy(&format!(
        "echo \"$@\" >> {ran}\n{script}\ncp {from} {to}\nwc -l < {ran} >> {to}\n",
        ran = ran(world).display(),
        from = own.display(),
        to = report("implementation")
    ));
}

/// Where `agy` notes its runs for this project.
pub(super) fn ran(world: &World) -> std::path::PathBuf {
    world.env.path(format!("ran-{}", world.top.file_name().unwrap().to_str().unwrap()))
}

/// One run that is killed at each step in turn, each time by another process.
pub(super) fn a_run_that_is_killed_at_any_step_is_gone_on_from(world: &mut World) {
    world.case("killed", &["implementer"], &[("validator, round 0", validates("PASS", "None"))]);
    agy_that_writes(world, "echo hello > greet.txt");
    world.context("- **agy**: enabled");
    let steps_of_a_run = [
        "task.begun",
        "task.step_recorded",
        "task.step_started",
        "task.step_judged",
        "task.command_started",
        "task.command_recorded",
        // Of the validator.
        "task.step_recorded",
        "task.step_started",
        "task.step_judged",
        "task.ended",
    ];
    for (n, step) in steps_of_a_run.into_iter().enumerate() {
        let marker = world.env.path(format!("{n}-{step}"));
        let mut command = world.run_command(&[]);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        let output = world.env.run_command(command);
        assert_eq!((output.code, marker.exists()), (-9, true), "{n} {step}: {output}");
    }
    let (code, done) = world.run(&[]);
    assert_eq!((code, codes(&done), &done["state"]["attempt"]), (0, vec![0], &json!(1)), "{done:#}");
    assert_eq!(steps(&done), ["implementer 0: passed", "validator 0: passed"]);
    assert_eq!(
        (&done["state"]["steps"][0]["by"], &done["state"]["steps"][1]["by"]),
        (&json!("agy"), &json!("opencode"))
    );
    world.assert_ran(
        ["implementer", "test-1", "validator"].map(|end| world.job(&format!("-1-0-{end}"))).to_vec(),
    );
    let ran = read(ran(world));
    assert_eq!(ran.lines().count(), 1);
    assert!(ran.starts_with("--dangerously-skip-permissions --print Read "), "{ran}");
    let handoff = read(world.top.join(".ai/tasks/001-greet/agy-handoff.md"));
    for part in [
        "# Implementer",
        "## Testable Acceptance Criteria",
        "## Conventions",
        "step implementer, round 0",
        "# Relevant files\n\n## greet.txt\n",
    ] {
        assert!(handoff.contains(part), "{part}");
    }
}

pub(super) fn agy_is_held_to_the_boundary_and_left_out_when_it_is_off_or_missing(world: &mut World) {
    world.case("agy-outside", &["implementer"], &[]);
    world.agy("echo mine > .ai/decision.md");
    world.context("agy: enabled");
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    assert_eq!(ended["state"]["steps"][0]["violations"], json!([".ai/decision.md"]));
    // One that does nothing has done nothing.
    world.case("agy-silent", &["implementer"], &[]);
    world.agy("echo done");
    world.context("* `agy`: **enabled**");
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"report_missing".into()), "{ended:#}");
    // The ordinary implementer, who is told to do nothing here.
    for (name, flag, is_there) in [("off", "agy: disabled", true), ("missing", "agy: enabled", false)] {
        world.case(name, &["implementer"], &[]);
        agy_that_writes(world, "true");
        world.context(flag);
        if !is_there {
            std::fs::remove_file(world.env.bin_dir().join("agy")).unwrap();
        }
        let (code, ended) = world.run(&[]);
        assert_eq!(
            (code, &ended["state"]["reason_code"]),
            (28, &"report_missing".into()),
            "{name}: {ended:#}"
        );
        assert_eq!(
            (&ended["state"]["steps"][0]["by"], ran(world).exists()),
            (&json!("opencode"), false),
            "{name}"
        );
        let calls = world.model.calls();
        assert!(calls.iter().any(|call| format!("{call:?}").contains("step implementer")), "{name}");
    }
}
