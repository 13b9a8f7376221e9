//! `restart`: the next run of the same spec, with what it may not remember resolved again; and jobs that try to start
//! jobs.

use crate::world::{MARK, PATIENCE, World, read, write};
use dx_testkit::{Output, assert_no_process, is_running, wait_for_file};

/// `restart` with variables of the caller.
fn restart(world: &World, id: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = world.env.product();
    command.args(["restart", "--beads", id, "--json"]).envs(variables.iter().copied());
    world.env.run_command(command)
}

#[test]
fn the_next_run_has_the_same_spec() {
    let world = World::new();
    let prompt = world.path("task.md");
    write(&prompt, "do the thing\n");
    let actions = ["read-stdin", "env", "append-pid"].map(|what| format!("{what}:{}", world.path(what)));
    let mut actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    actions.extend(["print:here", "exit:3"]);
    let more = [
        "--prompt-file",
        &prompt,
        "--env",
        "FOO",
        "--env",
        "MODE=fast",
        "--max-runtime",
        "77m",
        "--idempotency-key",
        "k",
    ];
    let mut command = world.env.product();
    command
        .args(world.start_args("bd-1", &more, &actions))
        .env("FOO", "one")
        .env("DX_RUNNER_NO_OP_SEC", "88");
    world.env.run_command(command).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    let first = (world.pairs("bd-1", "meta"), world.pairs("bd-1", "contract"));
    assert!(read(world.path("env")).contains("FOO=one\n"));

    // The copy is what counts, not the file.
    std::fs::remove_file(&prompt).unwrap();
    std::fs::remove_file(world.path("read-stdin")).unwrap();
    let started = restart(&world, "bd-1", &[("FOO", "two")]).assert_code(0);
    let started = crate::document(&world.env, "action", &started.stdout);
    assert_eq!((&started["action"], &started["changed"]), (&"restart".into(), &true.into()));
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    assert_eq!(read(world.path("read-stdin")), "do the thing\n");
    let environment = read(world.path("env"));
    assert!(environment.contains("FOO=two\n") && environment.contains("MODE=fast\n"), "{environment}");
    assert_eq!(read(world.path("append-pid")).lines().count(), 2);

    let second = (world.pairs("bd-1", "meta"), world.pairs("bd-1", "contract"));
    assert_ne!(first.0["run_uuid"], second.0["run_uuid"]);
    for key in ["worktree", "prompt_file", "max_runtime_sec", "stall_sec"] {
        assert_eq!(first.0[key], second.0[key], "{key}");
    }
    for key in ["argv", "cwd", "env_names", "prompt_sha256", "limits"] {
        assert_eq!(first.1[key], second.1[key], "{key}");
    }
    assert!(second.1["limits"].contains("\"no_op_sec\":88"), "{}", second.1["limits"]);
    assert_eq!(
        (second.0["retries"].as_str(), world.pairs("bd-1", "outcome")["retries"].as_str()),
        ("1", "1")
    );
    assert_eq!(read(world.view("bd-1", "log.1")), "here\n");
    assert_eq!(world.pairs("bd-1", "outcome.1")["run_uuid"], first.0["run_uuid"]);

    // A name that nobody sets is refused, named, and changes nothing.
    let output = restart(&world, "bd-1", &[]).assert_code(10);
    let error = crate::world::error_of(&world.env, &output);
    assert_eq!(error["reason_code"], "env_unresolved");
    assert!(error["message"].as_str().unwrap().contains("FOO"), "{error}");
    assert_eq!(world.pairs("bd-1", "meta"), second.0);
    restart(&world, "bd-1", &[("FOO", "three")]).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    assert_eq!(world.pairs("bd-1", "meta")["retries"], "2");
    assert!(world.view("bd-1", "log.2").exists() && world.view("bd-1", "outcome.2").exists());

    // The key still names the job's newest run.
    let mut command = world.env.product();
    command.args(world.start_args("bd-1", &["--idempotency-key", "k"], &["exit:0"]));
    world.env.run_command(command).assert_code(0);
    assert_eq!(world.pairs("bd-1", "meta")["retries"], "2");
}

#[test]
fn a_live_job_is_ended_first_and_only_if_it_can_start_again() {
    let world = World::new();
    let mut command = world.env.product();
    command
        .args(world.start_args("bd-1", &["--env", "FOO", "--json"], &["double-fork:300", "sleep:300"]))
        .env("FOO", "1");
    let first = crate::document(&world.env, "action", &world.env.run_command(command).assert_code(0).stdout);
    let (agent, _) = world.pids("bd-1");
    restart(&world, "bd-1", &[]).assert_code(10);
    assert!(is_running(agent), "a job that could not start again was stopped");
    let second = restart(&world, "bd-1", &[("FOO", "2")]).assert_code(0);
    let second = crate::document(&world.env, "action", &second.stdout);
    assert_no_process(MARK, first["run_uuid"].as_str().unwrap());
    assert_eq!(world.pairs("bd-1", "outcome.1")["reason_code"], "manual_stop");
    assert_ne!(first["run_uuid"], second["run_uuid"]);
    world.env.run(&["stop", "--beads", "bd-1", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_missing_copy_of_the_prompt_is_told() {
    let world = World::new();
    write(world.path("p"), "hello");
    world.start("bd-1", &["--prompt-file", &world.path("p")], &["exit:0"]);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    let run = world.pairs("bd-1", "meta")["run_uuid"].clone();
    std::fs::remove_file(world.env.state_dir().join("runs").join(run).join("prompt")).unwrap();
    assert_eq!(world.error(64, &["restart", "--beads", "bd-1"])["reason_code"], "prompt_missing");
}

#[test]
fn a_job_starts_no_jobs() {
    let world = World::new();
    let (runner, state) = (env!("CARGO_BIN_EXE_dx-runner"), world.env.state_dir().display().to_string());
    let worktree = world.repo.display().to_string();
    let script = format!(
        "for args in 'start --beads inner --provider exec -- true' 'restart --beads outer' 'restart --beads other'; do \
           {runner} --json --state-dir {state} $args > out 2> err; echo $? >> codes; cat err >> errors; cat out >> outs; \
         done; echo > done; exec sleep 300"
    );
    world.start("other", &[], &["sleep:300"]);
    let (other, _) = world.pids("other");
    world
        .env
        .run(&[
            "start",
            "--beads",
            "outer",
            "--provider",
            "exec",
            "--worktree",
            &worktree,
            "--",
            "sh",
            "-c",
            &script,
        ])
        .assert_code(0);
    wait_for_file(PATIENCE, world.repo.join("done"));
    assert_eq!(read(world.repo.join("codes")), "22\n22\n22\n");
    assert_eq!(read(world.repo.join("outs")), "");
    for line in read(world.repo.join("errors")).lines() {
        assert_eq!(crate::document(&world.env, "error", line)["error"]["reason_code"], "nested_start_denied");
    }
    assert!(is_running(other), "a refused restart has stopped its job");
    assert!(is_running(world.pids("outer").0));
    world.env.run(&["check", "--beads", "inner"]).assert_code(1);
    world.env.run(&["stop", "--all", "--grace", "0s"]).assert_code(0);
}
