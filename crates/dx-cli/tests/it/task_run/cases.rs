//! How runs of one specification end. All share one home: in a fresh one the real OpenCode takes long to begin.

use super::world::{CONTEXT, World, codes, documented, implemented, report, steps, validated, writes};
use super::{boundary, kills};
use crate::world::{read, write};
use dx_scripted_model::Scenario;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

const GOOD: &str = "hello\n";
const BAD: &str = "goodbye\n";

type Case = (&'static str, fn(&mut World));
const CASES: [Case; 12] = [
    ("four_agents", four_agents_in_order_make_a_validated_change),
    ("outside", an_agent_outside_of_its_role_is_seen_whatever_its_permissions_say),
    ("wrong", what_an_agent_did_wrong_is_seen_whatever_it_says),
    ("held", a_validator_is_held_against_the_record),
    ("cycle", there_is_one_fix_cycle),
    ("worktree", a_worktree_of_its_own_leaves_the_checkout_alone_and_brings_the_papers_home),
    ("tests", boundary::a_test_that_an_agent_wrote_is_held_to_the_boundary),
    ("git", boundary::gits_own_files_and_what_it_ignores_are_in_the_boundary),
    ("lost", boundary::a_worktree_that_is_gone_ends_the_attempt),
    ("two", boundary::a_new_attempt_begins_when_nothing_of_the_old_one_is_at_work),
    ("kills", kills::a_run_that_is_killed_at_any_step_is_gone_on_from),
    ("agy", kills::agy_is_held_to_the_boundary_and_left_out_when_it_is_off_or_missing),
];

/// An implementer that writes this and a report.
fn implements(text: &str) -> Scenario {
    writes(&[("greet.txt", text), (&report("implementation"), &implemented("done"))])
}

pub(super) fn validates(word: &str, issues: &str) -> Scenario {
    writes(&[(&report("validation"), &validated(word, issues))])
}

#[test]
fn the_ends_of_a_run() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let mut world = World::new(&agents);
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let begun = Instant::now();
        let went_well = catch_unwind(AssertUnwindSafe(|| case(&mut world))).is_ok();
        let word = if went_well { "ok" } else { "FAILED" };
        println!("{name}: {word} in {:.1} s", begun.elapsed().as_secs_f64());
        if !went_well {
            failed.push(name);
            drop(world.env.run(&["stop", "--all", "--grace", "0s"]));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

fn four_agents_in_order_make_a_validated_change(world: &mut World) {
    // One tries what its role refuses it, and then does its part.
    let test = "grep -q hello greet.txt && echo fine\n";
    let facts = CONTEXT.replace("plain", "plain and short");
    let turns = [
        (
            "test-writer, round 0",
            Scenario::write("greet.txt", "mine\n").then_write("tests/greet.sh", test).then_text("done"),
        ),
        ("implementer, round 0", implements(GOOD)),
        (
            "documentation, round 0",
            writes(&[
                ("README.md", "# App\nIt greets.\n"),
                (".ai/context.md", &facts),
                (&report("documentation"), &documented()),
            ]),
        ),
        (
            "validator, round 0",
            Scenario::bash("sh tests/greet.sh")
                .then_write(report("validation"), validated("PASS", "None"))
                .then_text("done"),
        ),
    ];
    world.case("four", &["test-writer", "implementer", "documentation"], &turns);
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["status"]), (0, &"done".into()), "{done:#}");
    let expected =
        ["test-writer 0: passed", "implementer 0: passed", "documentation 0: passed", "validator 0: passed"];
    assert_eq!(steps(&done), expected);
    assert_eq!((codes(&done), done["reports"].as_array().unwrap().len()), (vec![0], 3));
    assert_eq!(done["state"]["commands"][0]["output"], "fine\n");
    for (step, refused) in [true, false, false, true].into_iter().enumerate() {
        let notes = done["state"]["steps"][step]["notes"].to_string();
        assert_eq!(notes.contains("its role refused it a tool: "), refused, "{step}: {notes}");
    }
    let show = world.env.run_command({
        let mut command = world.env.product();
        command.current_dir(&world.top).args(["task", "show", "1"]);
        command
    });
    assert!(show.stdout.contains("passed\n    its role refused it a tool: "), "{show}");
    let changed = &done["state"]["steps"][1]["changed_paths"];
    assert_eq!(changed, &json!([report("implementation"), "greet.txt"]));
    assert!(read(world.top.join("README.md")).contains("It greets."));
    // What the validator was told is the runner's own record.
    let calls = world.model.calls();
    let told = calls.iter().any(|call| format!("{call:?}").contains("`sh tests/greet.sh`: exit code 0"));
    assert!(told, "the validator is given the record");
    // Done is done.
    let runs = world.runs();
    let (code, again) = world.run(&[]);
    assert_eq!((code, &again["state"], world.runs()), (0, &done["state"], runs));
}

fn an_agent_outside_of_its_role_is_seen_whatever_its_permissions_say(world: &mut World) {
    // Its permissions forbid the tool, and not the shell.
    let outside =
        Scenario::bash("mkdir -p .ai/decisions && echo mine > .ai/decisions/x.md && echo hello > greet.txt")
            .then_write(report("implementation"), implemented("done"))
            .then_text("done");
    world.case("outside", &["implementer"], &[("implementer, round 0", outside)]);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    assert_eq!(ended["state"]["steps"][0]["violations"], json!([".ai/decisions/x.md"]));
    // It does not begin again by itself.
    let error = world.refused(34, &[]);
    assert_eq!(error["reason_code"], "task_ended");
    assert!(error["next_action"].as_str().unwrap().contains("--again"));
}

fn what_an_agent_did_wrong_is_seen_whatever_it_says(world: &mut World) {
    let commits = Scenario::bash(
        "echo hello > greet.txt && git add greet.txt && git -c user.name=x -c user.email=x@x commit -qm x",
    )
    .then_write(report("implementation"), implemented("done"))
    .then_text("done");
    let tampers = Scenario::bash(
        "sed -i s/Running/Done/ .ai/tasks/001-greet/state.json; echo >> .ai/tasks/001-greet/state.json",
    )
    .then_write(report("implementation"), implemented("done"))
    .then_text("done");
    let silent = writes(&[("greet.txt", GOOD)]);
    let blocked = writes(&[(&report("implementation"), &implemented("Blocked: the two sources disagree."))]);
    let other = writes(&[(&report("implementation"), &implemented("done").replace("HASH", "0123"))]);
    for (name, scenario, code, reason, status) in [
        ("commits", commits, 29, "role_scope_violation", "failed"),
        ("tampers", tampers, 29, "role_scope_violation", "failed"),
        ("silent", silent, 28, "report_missing", "failed"),
        ("blocked", blocked, 34, "agent_blocked", "blocked"),
        ("other", other, 28, "report_invalid", "failed"),
    ] {
        world.case(name, &["implementer"], &[("implementer, round 0", scenario)]);
        let (ended_with, ended) = world.run(&[]);
        assert_eq!((ended_with, &ended["state"]["reason_code"]), (code, &reason.into()), "{name}: {ended:#}");
        // The validator does not begin, and the record says why.
        assert_eq!(
            (&ended["status"], steps(&ended)),
            (&status.into(), vec!["implementer 0: failed".to_owned()])
        );
        let told = |value: &Value| value.as_str().unwrap().to_owned();
        let step = told(&ended["state"]["steps"][0]["message"]);
        assert_eq!(told(&ended["state"]["message"]), format!("implementer: {step}"), "{name}");
        assert!(!step.is_empty() && ended["state"]["ended_at"].is_string(), "{name}: {ended:#}");
    }
}

fn a_validator_is_held_against_the_record(world: &mut World) {
    let contradicts =
        [("implementer, round 0", implements(BAD)), ("validator, round 0", validates("PASS", "None"))];
    world.case("contradicts", &["implementer"], &contradicts);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"verdict_contradicted".into()), "{ended:#}");
    assert_eq!((codes(&ended), &ended["state"]["steps"][1]["claims_pass"]), (vec![1], &json!(true)));
}

fn there_is_one_fix_cycle(world: &mut World) {
    let turns = [
        ("implementer, round 0", implements(BAD)),
        ("validator, round 0", validates("FAIL", "blocking: it does not say hello")),
        (
            "implementer, round 1",
            writes(&[("greet.txt", GOOD), (&report("implementation"), &implemented("mended"))]),
        ),
        ("validator, round 1", validates("PASS", "None any more")),
    ];
    world.case("mended", &["implementer"], &turns);
    let (code, done) = world.run(&[]);
    assert_eq!((code, codes(&done)), (0, vec![1, 0]), "{done:#}");
    let calls = world.model.calls();
    assert!(calls.iter().any(|call| format!("{call:?}").contains("blocking: it does not say hello")));

    // Here the implementer is a stand-in for `agy`, which gets the findings as well.
    let turns = [
        ("validator, round 0", validates("FAIL", "blocking: it does not say hello")),
        ("validator, round 1", validates("FAIL", "blocking: still not")),
    ];
    world.case("exhausted", &["implementer"], &turns);
    kills::agy_that_writes(
        world,
        "grep -c 'does not say hello' \"$(echo $3 | cut -d' ' -f2)\" > greet.txt || true",
    );
    world.context("agy: enabled");
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["status"]), (34, &"escalated".into()), "{ended:#}");
    assert_eq!((&ended["state"]["reason_code"], codes(&ended)), (&"fix_cycle_exhausted".into(), vec![1, 1]));
    let expected =
        ["implementer 0: passed", "validator 0: passed", "implementer 1: passed", "validator 1: passed"];
    assert_eq!(steps(&ended), expected, "no second cycle");
    assert_eq!(read(world.top.join("greet.txt")), "1\n", "the findings are in the handoff");

    // Another version of the specification: what was said of the first is kept, and in nobody's way.
    let spec = world.top.join(".ai/tasks/001-greet/task-spec.md");
    write(&spec, read(&spec).replace("it says hello", "it says hello, loudly"));
    let check = world.env.run_command(world.command(&["check", "1"])).assert_code(1);
    assert!(check.stdout.contains("report_hash"), "{check}");
    let show = world.env.run_command(world.command(&["show", "1"])).assert_code(0);
    assert!(show.stdout.contains("\"dx-runner task run 001-greet\""), "{show}");
    world.play(vec![("step validator, round 0".to_owned(), validates("PASS", "None"))]);
    kills::agy_that_writes(world, "echo hello > greet.txt");
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["state"]["attempt"]), (0, &json!(2)), "{done:#}");
    let earlier = ["implementation", "validation"].map(|kind| report(kind).replace(".md", ".attempt-1.md"));
    assert_eq!(done["earlier_reports"], json!(earlier));
    assert!(read(world.top.join(&earlier[1])).contains("blocking: still not"));
    world.env.run_command(world.command(&["check"])).assert_code(0);
}

#[test]
fn nobody_runs_without_a_list_a_specification_or_valid_files() {
    // No agent is needed, for none is started.
    let mut world = World::new(std::path::Path::new("/nowhere"));
    world.case("app", &[], &[]);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (34, &"execution_empty".into()), "{ended:#}");
    assert_eq!(ended["status"], "blocked");
    let spec = world.top.join(".ai/tasks/001-greet/task-spec.md");
    let text = read(&spec);
    write(&spec, text.replace("## Execution\n", ""));
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (34, &"execution_empty".into()), "{ended:#}");
    write(&spec, text.replace("## Execution\n", "## Execution\n- implementer\n- builder\n"));
    assert_eq!(world.refused(1, &[])["reason_code"], "task_invalid");
    std::fs::remove_file(&spec).unwrap();
    let error = world.refused(34, &[]);
    assert_eq!(error["reason_code"], "task_unplanned");
    assert_eq!(world.runs(), 0);
}

fn a_worktree_of_its_own_leaves_the_checkout_alone_and_brings_the_papers_home(world: &mut World) {
    let decides = writes(&[(".ai/decisions/one.md", "so\n"), (&report("documentation"), &documented())]);
    let turns = [
        ("documentation, round 0", decides),
        ("implementer, round 0", implements(GOOD)),
        ("validator, round 0", validates("PASS", "None")),
    ];
    world.case("apart", &["documentation", "implementer"], &turns);
    let (code, done) = world.run(&["--worktree", "auto"]);
    assert_eq!(code, 0, "{done:#}");
    assert!(!world.top.join("greet.txt").exists());
    for path in [report("validation"), report("implementation"), ".ai/decisions/one.md".to_owned()] {
        assert!(world.top.join(&path).exists(), "{path}");
    }
    let worktree = done["state"]["worktree"].as_str().unwrap();
    assert_eq!(read(std::path::Path::new(worktree).join("greet.txt")), GOOD);
}
