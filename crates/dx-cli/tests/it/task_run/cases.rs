//! How runs end.

use super::world::{World, codes, documented, implemented, report, steps, validated, writes};
use crate::opencode::ONE;
use crate::world::read;
use dx_scripted_model::Scenario;
use std::sync::PoisonError;

const GOOD: &str = "hello\n";
const BAD: &str = "goodbye\n";

/// An implementer that writes this and a report.
fn implements(text: &str) -> Scenario {
    writes(&[("greet.txt", text), (&report("implementation"), &implemented("done"))])
}

fn validates(word: &str, issues: &str) -> Scenario {
    writes(&[(&report("validation"), &validated(word, issues))])
}

macro_rules! agents_or_return {
    () => {{
        let Some(agents) = std::env::var_os("DX_TEST_AGENTS_DIR") else {
            println!("left out: DX_TEST_AGENTS_DIR is not set (cargo xtask install-agents prints a folder)");
            return;
        };
        agents
    }};
}

#[test]
fn four_agents_in_order_make_a_validated_change() {
    let agents = agents_or_return!();
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let turns = [
        ("test-writer, round 0", writes(&[("tests/greet.sh", "grep -q hello greet.txt && echo fine\n")])),
        ("implementer, round 0", implements(GOOD)),
        (
            "documentation, round 0",
            writes(&[("README.md", "# App\nIt greets.\n"), (&report("documentation"), &documented())]),
        ),
        ("validator, round 0", validates("PASS", "None")),
    ];
    let world = World::new(&agents, &["test-writer", "implementer", "documentation"], &turns);
    let (code, done) = world.run(&[]);
    assert_eq!((code, &done["status"]), (0, &"done".into()), "{done:#}");
    let expected =
        ["test-writer 0: passed", "implementer 0: passed", "documentation 0: passed", "validator 0: passed"];
    assert_eq!(steps(&done), expected);
    assert_eq!((codes(&done), done["reports"].as_array().unwrap().len()), (vec![0], 3));
    assert_eq!(done["state"]["commands"][0]["output"], "fine\n");
    let changed = &done["state"]["steps"][1]["changed_paths"];
    assert_eq!(changed, &serde_json::json!([report("implementation"), "greet.txt"]));
    assert!(read(world.top.join("README.md")).contains("It greets."));
    // What the validator was told is the runner's own record.
    let calls = world.model.calls();
    let told = calls.iter().any(|call| format!("{call:?}").contains("`sh tests/greet.sh`: exit code 0"));
    assert!(told, "the validator is given the record");
    // Done is done.
    let (code, again) = world.run(&[]);
    assert_eq!((code, &again["state"]["attempt"]), (0, &1.into()));
    assert_eq!(world.jobs("validator"), 1);
}

#[test]
fn what_an_agent_did_wrong_is_seen_whatever_it_says() {
    let agents = agents_or_return!();
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Its permissions forbid the tool, and not the shell.
    let outside =
        Scenario::bash("mkdir -p .ai/decisions && echo mine > .ai/decisions/x.md && echo hello > greet.txt")
            .then_write(report("implementation"), implemented("done"))
            .then_text("done");
    let world = World::new(&agents, &["implementer"], &[("implementer, round 0", outside)]);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    assert_eq!(ended["state"]["steps"][0]["violations"], serde_json::json!([".ai/decisions/x.md"]));
    // It does not begin again by itself.
    let error = world.refused(34, &[]);
    assert_eq!(error["reason_code"], "task_ended");
    assert!(error["next_action"].as_str().unwrap().contains("--again"));

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
        let world = World::new(&agents, &["implementer"], &[("implementer, round 0", scenario)]);
        let (ended_with, ended) = world.run(&[]);
        assert_eq!((ended_with, &ended["state"]["reason_code"]), (code, &reason.into()), "{name}: {ended:#}");
        assert_eq!((&ended["status"], world.jobs("validator")), (&status.into(), 0), "{name}");
    }
}

#[test]
fn a_validator_is_held_against_the_record_and_has_one_fix_cycle() {
    let agents = agents_or_return!();
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let contradicts =
        [("implementer, round 0", implements(BAD)), ("validator, round 0", validates("PASS", "None"))];
    let world = World::new(&agents, &["implementer"], &contradicts);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"verdict_contradicted".into()), "{ended:#}");
    assert_eq!(codes(&ended), [1]);

    let mut turns = vec![
        ("implementer, round 0", implements(BAD)),
        ("validator, round 0", validates("FAIL", "blocking: it does not say hello")),
        (
            "implementer, round 1",
            writes(&[("greet.txt", GOOD), (&report("implementation"), &implemented("mended"))]),
        ),
        ("validator, round 1", validates("PASS", "None any more")),
    ];
    let world = World::new(&agents, &["implementer"], &turns);
    let (code, done) = world.run(&[]);
    assert_eq!((code, codes(&done)), (0, vec![1, 0]), "{done:#}");
    let calls = world.model.calls();
    assert!(calls.iter().any(|call| format!("{call:?}").contains("blocking: it does not say hello")));

    turns[2].1 = writes(&[("greet.txt", "bye\n"), (&report("implementation"), &implemented("tried"))]);
    turns[3].1 = validates("FAIL", "blocking: still not");
    let world = World::new(&agents, &["implementer"], &turns);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["status"]), (34, &"escalated".into()), "{ended:#}");
    assert_eq!((&ended["state"]["reason_code"], codes(&ended)), (&"fix_cycle_exhausted".into(), vec![1, 1]));
    assert_eq!(world.jobs("implementer"), 2, "no second cycle");
}

#[test]
fn nobody_runs_without_a_list_a_specification_or_valid_files() {
    // No agent is needed, for none is started.
    let world = World::new(std::ffi::OsStr::new("/nowhere"), &[], &[]);
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (34, &"execution_empty".into()), "{ended:#}");
    assert_eq!(ended["status"], "blocked");
    let spec = world.top.join(".ai/tasks/001-greet/task-spec.md");
    std::fs::write(&spec, read(&spec).replace("## Execution\n", "## Execution\n- implementer\n- builder\n"))
        .unwrap();
    assert_eq!(world.refused(1, &[])["reason_code"], "task_invalid");
    std::fs::remove_file(&spec).unwrap();
    let error = world.refused(34, &[]);
    assert_eq!(error["reason_code"], "task_unplanned");
    assert_eq!(world.jobs(""), 0);
}

#[test]
fn a_worktree_of_its_own_leaves_the_checkout_alone_and_brings_the_reports_home() {
    let agents = agents_or_return!();
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let turns =
        [("implementer, round 0", implements(GOOD)), ("validator, round 0", validates("PASS", "None"))];
    let world = World::new(&agents, &["implementer"], &turns);
    let (code, done) = world.run(&["--worktree", "auto"]);
    assert_eq!(code, 0, "{done:#}");
    assert!(!world.top.join("greet.txt").exists());
    assert!(
        world.top.join(report("validation")).exists() && world.top.join(report("implementation")).exists()
    );
    let worktree = done["state"]["worktree"].as_str().unwrap();
    assert_eq!(read(std::path::Path::new(worktree).join("greet.txt")), GOOD);
}
