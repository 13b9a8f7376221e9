//! A plan of several units: approval, order, and going on after a kill between units.

use super::world::{World, validated, writes};
use crate::opencode::ONE;
use crate::tasks::spec;
use crate::world::{read, write};
use serde_json::Value;
use std::sync::PoisonError;

const UNITS: [(&str, &str); 3] = [("01-base", "None"), ("02-left", "1"), ("03-top", "2")];

/// A plan of three units in a row, whose implementer is a stand-in for `agy` that notes its unit.
fn planned(agents: &std::ffi::OsStr) -> World {
    let turns: Vec<_> = UNITS
        .iter()
        .map(|(unit, _)| {
            let path = format!(".ai/tasks/001-greet/{unit}/validation-report.md");
            let hash = dx_hash(unit);
            let report = validated("PASS", "None").replace("HASH", &hash);
            (format!("001-greet/{unit}, step validator"), writes(&[(&path, &report)]))
        })
        .collect();
    let world = World::with_words(agents, &["implementer"], turns);
    let folder = world.top.join(".ai/tasks/001-greet");
    let mut plan = "# Plan\n## Source Artifacts / Handoff Context\nx\n## Scope\nx\n## Unit Table\n\
                    | # | Unit | Delivers | Depends on | Parallel with |\n|---|---|---|---|---|\n"
        .to_owned();
    for (unit, needs) in UNITS {
        let (number, name) = unit.split_once('-').unwrap();
        plan += &["| ", number, " | ", name, " | it | ", needs, " | None |\n"].concat();
        std::fs::create_dir_all(folder.join(unit)).unwrap();
        write(folder.join(unit).join("task-spec.md"), unit_spec(unit));
        let report = super::world::implemented("done").replace("HASH", &dx_hash(unit));
        write(world.env.path(unit), report);
    }
    write(folder.join("task-spec.md"), plan);
    // It finds its unit in the handoff file's path.
    world.agy(&format!(
        "unit=$(echo \"$3\" | sed 's|.*/001-greet/||; s|/.*||')\necho $unit >> {ran}\necho $unit > $unit.txt\n\
         cp {root}/$unit .ai/tasks/001-greet/$unit/implementation-report.md",
        ran = world.env.path("ran").display(),
        root = world.env.root().display()
    ));
    world.context("agy: enabled");
    world
}

fn unit_spec(unit: &str) -> String {
    spec(
        unit,
        &format!("{unit}.txt"),
        &["implementer"],
        &format!("tests/{unit}.sh"),
        &format!("test -s {unit}.txt"),
    )
}

fn dx_hash(unit: &str) -> String {
    use sha2::Digest;
    use std::fmt::Write as _;
    sha2::Sha256::digest(unit_spec(unit)).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn units_run_in_the_order_of_their_needs_after_an_approval_and_go_on_after_a_kill() {
    let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR") else {
        println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
        return;
    };
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let world = planned(&agents);
    let error = world.refused(34, &[]);
    assert_eq!(error["reason_code"], "task_unapproved");
    assert_eq!(error["next_action"], "dx-runner task approve 001-greet");
    assert!(!world.env.path("ran").exists());
    world.env.run_command(world.command(&["approve", "1"])).assert_code(0);
    let marker = world.env.path("killed");
    let mut command = world.run_command(&[]);
    command.env("DX_FAULT_KILL", format!("task.unit_done@{}", marker.display()));
    assert_eq!(world.env.run_command(command).code, -9);
    assert_eq!(read(world.env.path("ran")), "01-base\n");
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["status"]), (0, &"done".into()), "{done:#}");
    assert_eq!(read(world.env.path("ran")), "01-base\n02-left\n03-top\n", "each once, in order");
    let units: Vec<&Value> = done["units"].as_array().unwrap().iter().map(|unit| &unit["status"]).collect();
    assert_eq!(units, ["done", "done", "done"]);
}
