//! What is not an agent's to change, whoever changes it and however: git's own files, what git ignores, the task's papers; and
//! attempts that would meet in one place.
//!
//! Called by: `cases`, with its home. Implementers are a stand-in for `agy`.

use super::cases::validates;
use super::kills::{agy_that_writes, ran};
use super::world::{CONTEXT, World, documented, report, steps, writes};
use crate::world::{read, write};
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn ends_as_violation(world: &World, case: &str, paths: &[&str]) -> Value {
    let (code, ended) = world.run(&[]);
    assert_eq!(
        (code, &ended["state"]["reason_code"]),
        (29, &"role_scope_violation".into()),
        "{case}: {ended:#}"
    );
    let last = |list: &str| ended["state"][list].as_array().unwrap().last().cloned().unwrap_or_default();
    let by = if last("commands").is_null() { last("steps") } else { last("commands") };
    assert_eq!(by["violations"], json!(paths), "{case}: {ended:#}");
    ended
}

pub(super) fn a_test_that_an_agent_wrote_is_held_to_the_boundary(world: &mut World) {
    for (case, script, paths) in [
        ("switches", "sed -i s/enabled/disabled/ .ai/context.md", [".ai/context.md"]),
        ("hooks", "echo true > .git/hooks/post-merge", [".git/hooks/post-merge"]),
        ("records", "echo >> .ai/tasks/001-greet/state.json", [".ai/tasks/001-greet/state.json"]),
        ("no-repository", "rm -rf .git", [".git"]),
        ("another-repository", "rm -rf .git; git init -q", [".git"]),
    ] {
        world.case(case, &["implementer"], &[]);
        agy_that_writes(world, &format!("echo '{script}' > tests/greet.sh"));
        world.context("agy: enabled");
        let ended = ends_as_violation(world, case, &paths);
        assert_eq!(steps(&ended), ["implementer 0: passed"], "{case}: the validator does not begin");
        assert_eq!(ended["state"]["commands"][0]["exit_code"], 0, "{case}");
    }
}

pub(super) fn gits_own_files_and_what_it_ignores_are_in_the_boundary(world: &mut World) {
    world.case("git", &["implementer"], &[]);
    agy_that_writes(
        world,
        "echo true > .git/hooks/post-merge; git config core.hooksPath /x; echo src/ >> .git/info/exclude",
    );
    world.context("agy: enabled");
    ends_as_violation(world, "git", &[".git/config", ".git/hooks/post-merge", ".git/info/exclude"]);
    // Another branch with the same commit is another place for all that comes after it.
    world.case("branch", &["implementer"], &[]);
    agy_that_writes(world, "git checkout -qb other; echo hello > greet.txt");
    world.context("agy: enabled");
    ends_as_violation(world, "branch", &["HEAD"]);
    world.case("no-git", &["implementer"], &[]);
    agy_that_writes(world, "echo hello > greet.txt; rm -rf .git");
    world.context("agy: enabled");
    let (_, ended) = world.run(&[]);
    let said = ended["state"]["message"].as_str().unwrap();
    assert!(said.contains("is in no git repository") && ended["status"] == "failed", "{ended:#}");

    // The real agent's rules forbid these; so a shell does it before the agent begins. And one that they allow: the line about
    // agy in a file that is its to write.
    let switched = CONTEXT.replace("disabled", "enabled");
    let files = [(".ai/context.md", switched.as_str()), (&report("documentation"), &documented())];
    world.case("ignored", &["documentation"], &[("documentation, round 0", writes(&files))]);
    write(world.top.join("old.log"), "x");
    write(world.top.join("kept.log"), "x");
    let (program, real) = (world.env.bin_dir().join("opencode"), world.env.path("opencode-real"));
    std::fs::rename(&program, &real).unwrap();
    let does = "echo key > .env; rm old.log; echo x > new.log; mkdir -p target docs; echo x > target/b.log; echo x > docs/a.log";
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *documentation*) {does};; esac\nexec {} \"$@\"\n", real.display());
    write(&program, script);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let run = world.run(&[]);
    std::fs::rename(&real, &program).unwrap();
    let (code, ended) = run;
    assert_eq!((code, &ended["state"]["reason_code"]), (29, &"role_scope_violation".into()), "{ended:#}");
    let step = &ended["state"]["steps"][0];
    assert_eq!(step["violations"], json!([".env", "new.log", "old.log", ".ai/context.md"]), "{ended:#}");
    assert!(step["message"].as_str().unwrap().ends_with("what it says of agy is the user's"), "{step:#}");
}

pub(super) fn a_worktree_that_is_gone_ends_the_attempt(world: &mut World) {
    world.case("lost", &["implementer"], &[]);
    agy_that_writes(world, "echo hello > greet.txt");
    world.context("agy: enabled");
    let killed = |world: &World, step: &str, more: &[&str]| {
        let marker = world.env.path(format!("{step}-{}", more.len()));
        let _used = std::fs::remove_file(&marker);
        let mut command = world.run_command(&[&["--worktree", "auto"], more].concat());
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        let output = world.env.run_command(command);
        assert_eq!((output.code, marker.exists()), (-9, true), "{step}: {output}");
        let state: Value =
            serde_json::from_str(&read(world.top.join(".ai/tasks/001-greet/state.json"))).unwrap();
        state["worktree"].as_str().unwrap().to_owned()
    };
    let place = killed(world, "task.command_recorded", &[]);
    let show = world.env.run_command({
        let mut command = world.env.product();
        command.current_dir(&world.top).args(["task", "show", "1"]);
        command
    });
    assert!(show.stdout.contains(&format!("agents work in: {place}\n")), "{show}");
    world.env.git(&world.top, &["worktree", "remove", "--force", &place]);
    // Wherever it is told to go on.
    let (code, ended) = world.run(&[]);
    assert_eq!((code, &ended["state"]["reason_code"]), (34, &"task_worktree_lost".into()), "{ended:#}");
    assert_eq!(
        (&ended["status"], &ended["state"]["worktree"]),
        (&json!("failed"), &json!(place)),
        "{ended:#}"
    );
    // Another worktree in its place is not the one with the work, either.
    assert_eq!(killed(world, "task.command_recorded", &["--again"]), place);
    world.env.git(&world.top, &["worktree", "remove", "--force", &place]);
    world.env.git(&world.top, &["worktree", "add", "--detach", &place]);
    let (code, ended) = world.run(&["--worktree", "auto"]);
    assert_eq!((code, &ended["state"]["reason_code"]), (34, &"task_worktree_lost".into()), "{ended:#}");
    // Another project of this name has such a task, and gets a place of its own.
    world.case("twin/lost", &["implementer"], &[]);
    agy_that_writes(world, "true");
    world.context("agy: enabled");
    let other = killed(world, "task.step_recorded", &[]);
    assert!(other != place && other.contains("/task-001-greet-"), "{other}");
}

pub(super) fn a_new_attempt_begins_when_nothing_of_the_old_one_is_at_work(world: &mut World) {
    world.case("two", &["implementer"], &[]);
    let go = world.env.path("go-on");
    agy_that_writes(
        world,
        &format!("until test -e {}; do sleep 0.05; done; echo OLD > greet.txt", go.display()),
    );
    world.context("agy: enabled");
    let mut child = world.run_command(&[]).stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until(Duration::from_mins(1), "the implementer is at work", || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        ran(world).exists()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let spec = world.top.join(".ai/tasks/001-greet/task-spec.md");
    write(&spec, read(&spec).replace("it says hello", "it says hello, aloud"));
    agy_that_writes(world, "echo hello > greet.txt");
    let fails = validates("FAIL", "None");
    world.play(vec![("step validator, round 0".to_owned(), fails)]);
    let (code, ended) = world.run(&[]);
    // The old job was ended before the new one began, so nothing of it comes now.
    write(&go, "");
    let job = world.job("-1-0-implementer");
    let args = ["check", "--beads", &job, "--provider", "exec", "--json"];
    let old: Value = serde_json::from_str(&world.env.run(&args).stdout).unwrap();
    assert_eq!(old["outcome"]["reason_code"], "manual_stop", "{old:#}");
    let live = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    assert!(live.contains("\"jobs\":[]"), "{live}");
    assert_eq!(read(world.top.join("greet.txt")), "hello\n");
    assert_eq!(ended["state"]["attempt"], 2, "{ended:#}");
    // And a validator that rejects without a word, while all tests pass, leaves nothing to be mended.
    assert_eq!((code, &ended["state"]["reason_code"]), (28, &"report_invalid".into()), "{ended:#}");
    assert_eq!(steps(&ended), ["implementer 0: passed", "validator 0: failed"]);
}
