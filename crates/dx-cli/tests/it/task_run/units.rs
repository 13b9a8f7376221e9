//! A plan of four units with the real OpenCode as validators: approval, order, two at once, kills at every step, and what becomes of a plan when a
//! unit fails or does not fit.

use super::world::{World, hash_of, implemented, validated, writes};
use crate::tasks::spec;
use crate::wave::world::PATIENCE;
use crate::world::{read, write};
use dx_testkit::wait_until;
use serde_json::{Value, json};

/// Folder, what it depends on, what it is parallel with.
type Unit = (&'static str, &'static str, &'static str);
const BASE: Unit = ("01-base", "None", "None");
const LEFT: Unit = ("02-left", "1", "3");
/// In the place of `LEFT`: its agent leaves its role.
const WILD: Unit = ("02-wild", "1", "3");
/// In the place of `LEFT`: its work does not fit with that of `RIGHT`.
const CLASH: Unit = ("02-clash", "1", "3");
const RIGHT: Unit = ("03-right", "1", "2");
const TOP: Unit = ("04-top", "2, 3", "None");
/// Two units, of which the second waits for the first, and the first for a file.
const SLOW: Unit = ("01-slow", "None", "None");
const LAST: Unit = ("02-last", "1", "None");

const FOLDER: &str = ".ai/tasks/001-greet";

/// A world whose implementers are a stand-in for `agy`, which finds its unit in the path of the handoff file, and whose validators
/// are content.
fn world(agents: &std::path::Path) -> World {
    let mut world = World::new(agents);
    world.project("app", &["implementer"]);
    world.agy(&format!(
        "unit=$(echo \"$3\" | sed 's|.*/001-greet/||; s|/.*||')\necho $unit >> {ran}\ncase $unit in\n\
         *wild) echo mine > .ai/context.md;;\n*clash) echo mine > 03-right.txt;;\n\
         *slow) until test -e {root}/go; do sleep 0.1; done;;\nesac\n\
         echo $unit > $unit.txt\ncp {root}/$unit {FOLDER}/$unit/implementation-report.md",
        ran = world.env.path("ran").display(),
        root = world.env.root().display()
    ));
    world.context("agy: enabled");
    let mut turns = Vec::new();
    for (unit, ..) in [BASE, LEFT, WILD, CLASH, RIGHT, TOP, SLOW, LAST] {
        let hash = hash_of(&text_of(&world, unit));
        write(world.env.path(unit), implemented("done").replace("HASH", &hash));
        let (path, report) = (
            format!("{FOLDER}/{unit}/validation-report.md"),
            validated("PASS", "None").replace("HASH", &hash),
        );
        turns.push((format!("001-greet/{unit}, step validator"), writes(&[(&path, &report)])));
    }
    world.play(turns);
    world
}

/// A unit's specification. Those that are parallel pass their test only while the other is at work, too.
fn text_of(world: &World, unit: &str) -> String {
    let here = |unit: &str| world.env.path(&unit[..2]).display().to_string();
    let meet = |other: &str| {
        format!(
            "touch {}; for n in $(seq 600); do test -e {} && exit 0; sleep 0.1; done; exit 1",
            here(unit),
            here(other)
        )
    };
    let command = match unit {
        "02-left" => meet("03-right"),
        "03-right" => meet("02-left"),
        "04-top" => "cat 01-base.txt 02-left.txt 03-right.txt 04-top.txt".to_owned(),
        _ => format!("test -s {unit}.txt"),
    };
    spec(unit, &format!("{unit}.txt"), &["implementer"], &format!("tests/{unit}.sh"), &command)
}

/// Writes the plan of these units.
fn plan(world: &World, units: &[Unit]) {
    let folder = world.top.join(FOLDER);
    let mut plan = "# Plan\n## Source Artifacts / Handoff Context\nx\n## Scope\nx\n## Unit Table\n\
                    | # | Unit | Delivers | Depends on | Parallel with |\n|---|---|---|---|---|\n"
        .to_owned();
    for second in ["02-left", "02-wild", "02-clash"] {
        let _gone = std::fs::remove_dir_all(folder.join(second));
    }
    for (unit, needs, with) in units {
        let (number, name) = unit.split_once('-').unwrap();
        plan += &["| ", number, " | ", name, " | it | ", needs, " | ", with, " |\n"].concat();
        std::fs::create_dir_all(folder.join(unit)).unwrap();
        write(folder.join(unit).join("task-spec.md"), text_of(world, unit));
    }
    write(folder.join("task-spec.md"), plan);
}

fn statuses(document: &Value) -> Vec<&str> {
    document["units"].as_array().unwrap().iter().map(|unit| unit["status"].as_str().unwrap()).collect()
}

fn waves(world: &World) -> usize {
    let list: Value =
        serde_json::from_str(&world.env.run(&["wave", "list", "--json"]).assert_code(0).stdout).unwrap();
    list["waves"].as_array().unwrap().len()
}

/// Steps of a plan's run in the order in which they come first, and some once more while two units are at work.
const KILLS: [&str; 22] = [
    "task.begun",
    "wave.created",
    "wave.began",
    "wave.attempt_decided",
    "task.step_recorded",
    "task.step_started",
    "task.step_judged",
    "task.command_started",
    "task.command_recorded",
    "task.ended",
    "task.unit_recorded",
    "wave.judged",
    "wave.closed",
    "wave.attempt_decided",
    "task.step_started",
    "task.command_started",
    "task.unit_recorded",
    "wave.judged",
    "wave.integrated",
    "wave.merged",
    "wave.ended",
    "task.ended",
];

#[test]
fn a_plan_is_approved_and_runs_in_order_and_in_parallel_through_kills_at_every_step() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let world = world(&agents);
    plan(&world, &[BASE, LEFT, RIGHT, TOP]);
    let error = world.refused(34, &[]);
    assert_eq!(
        (&error["reason_code"], &error["next_action"]),
        (&"task_unapproved".into(), &"dx-runner task approve 001-greet".into())
    );
    let approve = || world.env.run_command(world.command(&["approve", "1"])).assert_code(0);
    approve();
    // Two that may run at once and change one file: nothing begins, whatever was approved.
    let right = world.top.join(FOLDER).join("03-right/task-spec.md");
    write(&right, text_of(&world, "03-right").replace("Change `03-right.txt`", "Change `02-left.txt`"));
    let error = world.refused(1, &[]);
    assert_eq!(error["reason_code"], "task_invalid");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("units 2 and 3 are parallel, and both change `02-left.txt`"),
        "{error}"
    );
    write(&right, text_of(&world, "03-right"));
    assert_eq!((waves(&world), world.runs()), (0, 0));

    for (n, step) in KILLS.into_iter().enumerate() {
        let marker = world.env.path(format!("killed-{n}"));
        let mut command = world.run_command(&[]);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        let output = world.env.run_command(command);
        assert_eq!((output.code, marker.exists()), (-9, true), "{n} {step}: {output}");
    }
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["status"], statuses(&done)), (0, &"done".into(), vec!["done"; 4]), "{done:#}");
    assert_eq!(done["reports"].as_array().unwrap().len(), 8, "{done:#}");
    assert_eq!((waves(&world), &done["state"]["attempt"]), (1, &json!(1)));
    for unit in [BASE.0, LEFT.0, RIGHT.0, TOP.0] {
        let state: Value =
            serde_json::from_str(&read(world.top.join(FOLDER).join(unit).join("state.json"))).unwrap();
        let steps: Vec<_> = state["steps"].as_array().unwrap().iter().map(|step| &step["job"]).collect();
        let prefix = world.job(&format!(".{}-1-0", &unit[..2]));
        assert_eq!(
            steps,
            [&json!(format!("{prefix}-implementer")), &json!(format!("{prefix}-validator"))],
            "{state:#}"
        );
        assert_eq!(
            (state["commands"].as_array().unwrap().len(), &state["attempt"]),
            (1, &json!(1)),
            "{state:#}"
        );
    }
    // Each agent and each test ran once, whoever died.
    let jobs = (1..=4).flat_map(|n| {
        ["implementer", "test-1", "validator"].map(|end| world.job(&format!(".{n:02}-1-0-{end}")))
    });
    world.assert_ran(jobs.collect());
    // The checkout is the user's; the work is on a branch, and without the task's papers.
    assert_eq!(done["state"]["branch"], "task-001-greet");
    let made = world.env.git(&world.top, &["diff", "--name-only", "HEAD", "task-001-greet"]);
    assert_eq!(made, "01-base.txt\n02-left.txt\n03-right.txt\n04-top.txt\n");
    assert!(!world.top.join("01-base.txt").exists());
    let ran = || read(world.env.path("ran")).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((ran().len(), ran()[0].as_str(), ran()[3].as_str()), (4, "01-base", "04-top"), "{:?}", ran());

    // Another plan: what does not need the new unit is kept, what needs it waits for it.
    plan(&world, &[BASE, WILD, RIGHT, TOP]);
    assert_eq!(world.refused(34, &[])["reason_code"], "task_unapproved");
    approve();
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    assert!(
        ended["state"]["message"].as_str().unwrap().starts_with("unit 02-wild: implementer: "),
        "{ended:#}"
    );
    assert_eq!(world.refused(34, &[])["reason_code"], "task_ended");

    plan(&world, &[BASE, CLASH, RIGHT, TOP]);
    let (code, ended) = world.run(&["--yes"]);
    assert_eq!(&ended["state"]["reason_code"], "merge_conflict", "{code} {ended:#}");
    let message = ended["state"]["message"].as_str().unwrap();
    let next = ended["next_action"].as_str().unwrap();
    assert!(next.starts_with("in the table of units let one of the two depend on the other"), "{next}");
    assert!(message.contains("03-right.txt") && message.starts_with("unit 04-top: "), "{message}");
    assert_eq!(ran()[4..], ["02-wild", "02-clash"], "what does not need the new unit is kept");
}

#[test]
fn the_wave_of_a_plan_is_cancelled_and_resumed_with_and_without_who_ran_it() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let world = world(&agents);
    plan(&world, &[SLOW, LAST]);
    world.env.run_command(world.command(&["approve", "1"])).assert_code(0);
    // So many agents of the first unit were begun, and its attempt is the newest wave's.
    let at_work = |count: usize, more: &[&str]| {
        let mut child = world.run_command(more).stdout(std::process::Stdio::piped()).spawn().unwrap();
        wait_until(PATIENCE, "the slow unit is at work", || {
            assert!(child.try_wait().unwrap().is_none(), "attempt {count} has ended");
            std::fs::read_to_string(world.env.path("ran")).unwrap_or_default().lines().count() == count
        });
        let list: Value = serde_json::from_str(&world.env.run(&["wave", "list", "--json"]).stdout).unwrap();
        assert_eq!(list["waves"][0]["state"], "running", "{list:#}");
        (child, list["waves"][0]["wave_id"].as_str().unwrap().to_owned())
    };
    let wave = |args: &[&str]| world.env.run(&[&["wave"], args, &["--json"]].concat());
    let assert_cancelled = |ended: &Value| {
        assert_eq!(
            (&ended["status"], &ended["state"]["reason_code"]),
            (&json!("failed"), &json!("manual_stop")),
            "{ended:#}"
        );
        assert!(ended["state"]["message"].as_str().unwrap().starts_with("unit 01-slow: "), "{ended:#}");
        let live = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
        assert!(live.contains("\"jobs\":[]"), "{live}");
    };

    let (child, id) = at_work(1, &[]);
    assert_eq!(world.refused(32, &[])["reason_code"], "task_running");
    wave(&["cancel", &id]).assert_code(0);
    let output = child.wait_with_output().unwrap();
    assert_cancelled(&serde_json::from_slice(&output.stdout).unwrap());

    // Nobody coordinates it any more: who cancels does.
    let (mut child, id) = at_work(2, &["--again"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let document: Value = serde_json::from_str(&wave(&["cancel", &id]).assert_code(0).stdout).unwrap();
    let states = ["cancelled", "cancelled"];
    for (item, state) in document["items"].as_array().unwrap().iter().zip(states) {
        assert_eq!(item["state"], state, "{document:#}");
    }
    assert_cancelled(&world.run(&[]).1);

    // Who resumes carries it out, and whoever runs the task next takes the end over.
    let (mut child, id) = at_work(3, &["--again"]);
    child.kill().unwrap();
    child.wait().unwrap();
    wave(&["resume", &id, "--detach"]).assert_code(0);
    assert_eq!(world.refused(32, &[])["reason_code"], "task_running");
    write(world.env.path("go"), "");
    let output = wave(&["status", &id, "--watch"]).assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(document["closed"], 2, "{document:#}");
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["status"], statuses(&done)), (0, &"done".into(), vec!["done"; 2]), "{done:#}");
    assert_eq!(read(world.env.path("ran")), "01-slow\n01-slow\n01-slow\n02-last\n");
    assert_eq!(done["state"]["branch"], "task-001-greet-3");
}
