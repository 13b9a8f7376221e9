//! Gates and checks at the end of a job: `--require-commit`, `--scope`, `--check`, and `--required-baseline` at its start.
//!
//! For: the verdicts `gates` and `check`, and the steps of the settler, which a kill must not lose or do twice. Must never:
//! end a process that a job of the test did not start.

mod paths;

use crate::world::{MARK, PATIENCE, World, read, write};
use dx_testkit::{processes_with_marker, send_signal, wait_for_file, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const KILL: i32 = 9;
/// A commit by whoever.
const COMMIT: &str = "git -c user.name=a -c user.email=a@example.invalid commit -qam work";

impl World {
    /// Starts a job of a script with options, and gives its uuid.
    #[track_caller]
    fn sh(&self, id: &str, more: &[&str], script: &str) -> String {
        let command = self.sh_command(id, more, script);
        let output = self.env.run_command(command).assert_code(0);
        let started: Value = serde_json::from_str(&output.stdout).unwrap();
        started["run_uuid"].as_str().unwrap().to_owned()
    }

    fn sh_command(&self, id: &str, more: &[&str], script: &str) -> std::process::Command {
        let mut command = self.env.product();
        command.args(["start", "--json", "--beads", id, "--provider", "exec", "--worktree"]).arg(&self.repo);
        command.args(more).args(["--", "sh", "-c", script]);
        command
    }

    /// The same to its end, and the document of `check`.
    #[track_caller]
    fn ended(&self, id: &str, more: &[&str], script: &str) -> Value {
        self.sh(id, more, script);
        self.wait(id)
    }

    #[track_caller]
    fn wait(&self, id: &str) -> Value {
        let output = self.env.run(&["wait", "--beads", id, "--json", "--timeout", "90s"]);
        assert!(matches!(output.code, 0 | 3), "{output}");
        crate::document(&self.env, "check", &output.stdout)
    }

    fn journal(&self, uuid: &str) -> Vec<Value> {
        let text = read(self.env.state_dir().join("runs").join(uuid).join("journal"));
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|mut r| r["event"].take())
            .collect()
    }

    /// The names of the settler's steps in the journal.
    fn steps(&self, uuid: &str) -> Vec<String> {
        let settled = self.journal(uuid).into_iter().filter(|event| event["type"] == "settled");
        settled
            .map(|event| match event["name"].as_str() {
                Some(gate) => gate.to_owned(),
                None => event["step"].as_str().unwrap().to_owned(),
            })
            .collect()
    }
}

#[track_caller]
fn assert_nothing_left(uuid: &str) {
    wait_until(PATIENCE, "nothing of the run is left", || processes_with_marker(MARK, uuid).is_empty());
}

/// Word of gates, of the check, state, reason and exit code.
#[track_caller]
fn assert_end(check: &Value, gates: &str, word: &str, state: &str, reason: &str, exit_code: &str) {
    assert_eq!(check["verdicts"]["gates"], gates, "{check:#}");
    assert_eq!(check["verdicts"]["check"], word, "{check:#}");
    assert_eq!(check["state"], state, "{check:#}");
    assert_eq!(check["reason_code"], reason, "{check:#}");
    assert_eq!(check["outcome"]["exit_code"], exit_code, "{check:#}");
}

fn gate<'c>(check: &'c Value, name: &str) -> &'c Value {
    let gates = check["outcome"]["gates"].as_array().unwrap();
    gates.iter().find(|gate| gate["name"] == name).unwrap_or_else(|| panic!("no {name}: {check:#}"))
}

#[test]
fn a_required_commit_must_lead_forward() {
    let world = World::new();
    let require = ["--require-commit"];
    let check = world.ended("none", &require, "echo 1 > new.txt");
    assert_end(&check, "fail", "none", "exited_err", "no_commit_artifact", "44");
    assert_eq!(check["verdicts"]["process"], "ok");
    assert_eq!(world.rc("none").as_deref(), Some("0"), "what was seen is kept");
    assert_eq!(world.outcome("none"), ("failed".into(), "no_commit_artifact".into(), "44".into()));
    assert_eq!(world.pairs("none", "outcome")["verdict_gates"], "fail");

    let check = world.ended("forward", &require, &format!("echo 2 > a.txt; {COMMIT}"));
    assert_end(&check, "pass", "none", "exited_ok", "process_exit_with_rc", "0");
    let amend = "git -c user.name=a -c user.email=a@example.invalid commit -q --amend -m other";
    let check = world.ended("aside", &require, amend);
    assert_end(&check, "fail", "none", "exited_err", "no_commit_artifact", "44");
    let check = world.ended(
        "back",
        &require,
        "git checkout -q main; git reset -q --hard $(git rev-list --max-parents=0 HEAD)",
    );
    assert_end(&check, "fail", "none", "exited_err", "no_commit_artifact", "44");

    // A failure of the agent's own stays what it is.
    let check = world.ended("failed", &require, "exit 7");
    assert_end(&check, "fail", "none", "exited_err", "process_exit_with_rc", "7");
    // Without the gate nothing changes: an end without a change is a success.
    let check = world.ended("free", &[], "true");
    assert_end(&check, "none", "none", "exited_ok", "exit_zero_no_mutations", "0");
}

#[test]
fn every_changed_path_must_be_in_scope() {
    let world = World::new();
    let scope = ["--scope", "src", "--scope", "*.md"];
    let write_both = "mkdir -p src docs; echo 1 > src/a; echo 1 > docs/x.md";
    let check = world.ended("inside", &scope, &format!("{write_both}; git add -A; {COMMIT}; echo 2 > src/b"));
    assert_end(&check, "pass", "none", "exited_ok", "process_exit_with_rc", "0");
    assert_eq!(gate(&check, "scope")["reason_code"], "scope_ok");

    let outside =
        format!("echo 3 > a.txt; {COMMIT}; git checkout -q HEAD~1 -- a.txt; {COMMIT}; echo 1 > 'n w'");
    let check = world.ended("outside", &scope, &outside);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(check["outcome"]["exit"], json!({"code": 0}), "the true exit is kept");
    assert_eq!(gate(&check, "scope")["details"], "outside the scope: a.txt, n w", "also what was taken back");
    let text = world.env.run(&["check", "--beads", "outside", "--explain"]).assert_code(3).stdout;
    assert!(text.contains("scope: scope_violation (outside the scope: a.txt, n w)"), "{text}");
    assert!(text.contains("gate_scope=failed scope_violation"), "{text}");

    let check = world.ended("forbidden", &["--scope", "**"], "mkdir -p app; echo 1 > app/.env");
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "forbidden: app/.env");
    // A commit that another one stands in for is judged by what it holds.
    let replaced = format!(
        "echo 6 > elsewhere; git add -A; {COMMIT}; git replace HEAD $(git commit-tree -m z 'HEAD~1^{{tree}}')"
    );
    let check = world.ended("replaced", &["--scope", "src"], &replaced);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    // An edit that git is told to pass over is one.
    let hidden = "git update-index --assume-unchanged a.txt; echo 7 >> a.txt";
    let check = world.ended("hidden", &["--scope", "src"], hidden);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "outside the scope: a.txt");
    // What was there before is not the agent's.
    let check = world.ended("before", &["--scope", "src"], "echo 5 > src/c");
    assert_end(&check, "pass", "none", "exited_ok", "process_exit_with_rc", "0");
}

#[test]
fn a_scope_sees_beyond_the_lists_of_a_report() {
    let world = World::new();
    let script = "mkdir src; i=0; while [ $i -lt 1200 ]; do : > src/$i; i=$((i+1)); done; : > zzz";
    let check = world.ended("bd-1", &["--scope", "src"], script);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "outside the scope: zzz");
    assert_eq!(check["outcome"]["work"]["files_changed"].as_array().unwrap().len(), 1000);
    assert_eq!(check["outcome"]["work"]["cut"], json!({"commits": 0, "files": 1201}));
}

#[test]
fn what_could_never_pass_is_refused_at_the_start() {
    let world = World::new();
    let start = |more: &[&str]| {
        let output = world.env.run_command(world.sh_command("bd-1", more, "true"));
        let error = crate::world::error_of(&world.env, &output);
        (output.code, error["reason_code"].as_str().unwrap().to_owned())
    };
    assert_eq!(start(&["--scope", "["]), (64, "invalid_argument".to_owned()));
    assert_eq!(start(&["--scope", "../x"]), (64, "invalid_argument".to_owned()));
    assert_eq!(start(&["--check", " "]), (64, "invalid_argument".to_owned()));
    let zeros = "0000000000000000000000000000000000000001";
    assert_eq!(start(&["--required-baseline", zeros]), (1, "required_commit_missing".to_owned()));
    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "side"]);
    write(world.repo.join("a.txt"), "side\n");
    world.env.git(&world.repo, &["commit", "--quiet", "--all", "--message=side"]);
    world.env.git(&world.repo, &["checkout", "--quiet", "main"]);
    assert_eq!(start(&["--required-baseline", "side"]), (1, "baseline_not_met".to_owned()));
    assert!(!world.env.state_dir().join("exec").join("bd-1.meta").exists());
    world.sh("bd-1", &["--required-baseline", "main"], "true");
    world.wait("bd-1");

    let plain = world.env.allowed_root().join("plain");
    std::fs::create_dir(&plain).unwrap();
    for more in [&["--require-commit"][..], &["--scope", "x"], &["--required-baseline", "x"]] {
        let place = plain.display().to_string();
        let head = ["start", "--beads", "bd-2", "--provider", "exec", "--worktree", &place];
        let error = world.error(1, &[&head[..], more, &["--", "true"]].concat());
        assert_eq!(error["reason_code"], "not_a_git_repo");
    }
}

#[test]
fn a_check_runs_after_the_agent_in_a_clean_environment() {
    let mut world = World::new();
    world.env.set("OPENAI_API_KEY", "sk-not-for-checks");
    let told = world.path("told");
    let command = format!("pwd > {told}; env >> {told}; cat a.txt; echo oops >&2; test -d \"$TMPDIR\"");
    let script = "echo agents > a.txt";
    let more = ["--check", &command, "--env", "MODE=fast", "--env", "OPENAI_API_KEY"];
    let uuid = world.sh("bd-1", &more, script);
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    assert_eq!(gate(&check, "check")["reason_code"], "check_ok");
    let told = read(told);
    assert_eq!(told.lines().next(), Some(world.repo.display().to_string().as_str()));
    for line in ["MODE=fast", "DX_RUNNER_BEADS_ID=bd-1", &format!("{MARK}={uuid}")] {
        assert!(told.lines().any(|told| told == line), "{line} is not in {told}");
    }
    assert!(!told.contains("sk-not-for-checks") && !told.contains("DX_FAULT"), "{told}");
    let log = world.env.state_dir().join("runs").join(&uuid).join("check.log");
    assert_eq!(read(&log), "agents\noops\n");
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let details = gate(&check, "check")["details"].as_str().unwrap();
    assert_eq!(details, format!("exit code 0; output in {}", log.display()));
    assert!(!world.env.state_dir().join("tmp").join(&uuid[24..]).exists());
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"]);
    assert_nothing_left(&uuid);
}

#[test]
fn secrets_do_not_get_into_records_by_way_of_a_check() {
    let mut world = World::new();
    world.env.set("MY_TOKEN", "hunter-2-secret");
    let script = "printf %s \"$MY_TOKEN\" > secret.txt";
    let more = ["--env", "MY_TOKEN", "--check", "printf 'it is '; cat secret.txt; echo; exit 1"];
    let uuid = world.sh("bd-1", &more, script);
    let check = world.wait("bd-1");
    assert_end(&check, "none", "fail", "exited_err", "check_failed", "0");
    let log = world.env.state_dir().join("runs").join(&uuid).join("check.log");
    assert_eq!(read(log), "it is ***************\n");
    let refused =
        world.env.run_command(world.sh_command("bd-2", &["--check", "echo hunter-2-secret"], "true"));
    let error = crate::world::error_of(&world.env, &refused);
    assert_eq!((refused.code, &error["reason_code"]), (64, &json!("invalid_argument")), "{error}");
    assert_eq!(
        crate::world::files_with(&world.env.state_dir(), "hunter-2-secret"),
        [""; 0].map(std::path::PathBuf::from)
    );
}

#[test]
fn a_check_is_confined_as_the_agent_was() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
    let outside = world.path("outside");
    let command = format!(
        "echo in > inside.txt; echo in > \"$TMPDIR/x\"; (echo out > {outside}) 2>/dev/null && echo out || echo refused"
    );
    let uuid = world.sh("bd-1", &["--check", &command], "echo 1 > new");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    let log = read(world.env.state_dir().join("runs").join(&uuid).join("check.log"));
    // On a kernel without Landlock neither has a sandbox.
    let strict = world.pairs("bd-1", "contract")["sandbox"] == "strict";
    assert_eq!(log, if strict { "refused\n" } else { "out\n" });
    assert_eq!(std::path::Path::new(&outside).exists(), !strict);
    assert_eq!(read(world.repo.join("inside.txt")), "in\n");
    assert_eq!(
        check["outcome"]["work"]["files_changed"],
        json!(["new"]),
        "what a check writes is not the agent's"
    );
}

#[test]
fn a_check_that_fails_fails_the_job() {
    let world = World::new();
    let check = world.ended("fails", &["--check", "echo why; exit 9"], "echo 1 > new");
    assert_end(&check, "none", "fail", "exited_err", "check_failed", "0");
    assert_eq!(world.rc("fails").as_deref(), Some("0"));
    assert!(check["outcome"]["detail"].as_str().unwrap().starts_with("exit code 9; output in "), "{check}");
    let status = world.json(0, &["status", "--beads", "fails"]);
    assert_eq!(status["jobs"][0]["verdicts"]["check"], "fail", "{status}");
    assert_eq!(status["jobs"][0]["verdicts"]["work"], "changed", "{status}");

    let check = world.ended("infra", &["--check", "no-such-program"], "true");
    assert_end(&check, "none", "infra", "exited_err", "check_infra", "0");
    // Nobody asks a check about an agent that failed already, or about a gate's failure.
    let ran = world.path("ran");
    let command = format!("touch {ran}");
    let check = world.ended("not-asked", &["--check", &command], "exit 4");
    assert_end(&check, "none", "not_run", "exited_err", "process_exit_with_rc", "4");
    let check = world.ended("gate", &["--check", &command, "--require-commit"], "true");
    assert_end(&check, "fail", "not_run", "exited_err", "no_commit_artifact", "44");
    let uuid = world.sh("stopped", &["--check", &command], "sleep 1000");
    world.env.run(&["stop", "--beads", "stopped"]).assert_code(0);
    assert_end(&world.wait("stopped"), "none", "not_run", "exited_err", "manual_stop", "137");
    assert!(!std::path::Path::new(&ran).exists());
    assert_nothing_left(&uuid);
    // A restart keeps what was asked for.
    world.env.run(&["restart", "--beads", "gate"]).assert_code(0);
    assert_end(&world.wait("gate"), "fail", "not_run", "exited_err", "no_commit_artifact", "44");
}

#[test]
fn a_check_is_ended_with_all_it_started() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_CHECK_TIMEOUT_SEC", "1");
    world.env.set("DX_RUNNER_GRACE_MS", "300");
    let agent = world.env.fake_agent().display().to_string();
    // One ignores TERM, one left the session, one its parent too; the last has not even the run's mark.
    let command = format!(
        "{agent} ignore-term sleep:1000 & {agent} spawn-setsid:1000 double-fork:1000 sleep:1000 & \
         env -i {agent} sleep:1000 & echo begun; wait"
    );
    let uuid = world.sh("slow", &["--check", &command], "true");
    let check = world.wait("slow");
    assert_end(&check, "none", "timeout", "exited_err", "check_timeout", "0");
    assert_nothing_left(&uuid);
    assert!(gate(&check, "check")["details"].as_str().unwrap().starts_with("it was ended after 1 seconds"));

    // What a check that ended well left behind is ended too, and holds nothing up.
    world.env.set("DX_RUNNER_CHECK_TIMEOUT_SEC", "1000");
    let command = format!("{agent} double-fork:1000; {agent} ignore-term spawn:1000 & exit 0");
    let uuid = world.sh("leaves", &["--check", &command], "true");
    assert_end(&world.wait("leaves"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    assert_nothing_left(&uuid);
}

#[test]
fn the_settlers_deadline_does_not_cut_a_check_and_its_output_is_bounded() {
    let world = World::new();
    let command = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end";
    let uuid = world.sh("bd-1", &["--check", command], "true");
    assert_end(&world.wait("bd-1"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    let log = read(world.env.state_dir().join("runs").join(&uuid).join("check.log"));
    assert!(log.len() < 1_200_000 && log.starts_with("xxx") && log.ends_with("\nthe end\n"), "{}", log.len());
    assert!(log.contains("\n[dx-runner: 1885897 bytes are left out here]\n"), "{}", log.len());
}

#[test]
fn a_run_whose_check_runs_awaits_its_end_and_can_be_stopped() {
    let world = World::new();
    for (id, end, reason, code) in [
        ("stop", &["stop"][..], "manual_stop", "137"),
        ("finalize", &["finalize", "--exit-code", "5"], "forced_finalization", "5"),
    ] {
        let begun = world.path(&format!("{id}.begun"));
        let uuid = world.sh(id, &["--check", &format!("touch {begun}; sleep 1000")], "true");
        wait_for_file(PATIENCE, &begun);
        let (exit, check) = world.until_state(id, "launching", "awaiting_finalize");
        assert_eq!(
            (exit, &check["ended"], &check["verdicts"]["check"]),
            (0, &json!(false), &json!("pending"))
        );
        let observation = check["explain"]["observation"].to_string();
        assert!(observation.contains("check_due=true"), "{observation}");
        let status = world.json(0, &["status", "--live"]);
        assert_eq!(status["jobs"][0]["reason_code"], "awaiting_finalize", "{status}");
        let timed = world.env.run(&["wait", "--beads", id, "--timeout", "10ms"]);
        assert_eq!(timed.code, 35, "{timed}");
        world.env.run(&[end, &["--beads", id]].concat()).assert_code(0);
        let check = world.wait(id);
        assert_end(&check, "none", "infra", "exited_err", reason, code);
        assert_eq!(gate(&check, "check")["reason_code"], "check_interrupted");
        assert_eq!(world.rc(id).as_deref(), Some("0"), "the agent ended by itself");
        assert_nothing_left(&uuid);
    }
}

/// Kills the one process of the run with this name.
#[track_caller]
fn kill_named(uuid: &str, name: &str) {
    let found: Vec<_> = crate::kills::world::programs(uuid).into_iter().filter(|o| o.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    assert!(send_signal(found[0].pid, KILL));
}

#[test]
fn a_monitor_that_dies_in_the_middle_of_a_check_is_replaced_and_the_check_runs_again_alone() {
    let world = World::new();
    let (runs, go) = (world.path("runs"), world.path("go"));
    let command = format!("echo $$ >> {runs}; while ! test -e {go}; do sleep 0.02; done");
    let uuid = world.sh("bd-1", &["--check", &command], "echo 1 > new");
    let began = |n: usize| {
        wait_until(PATIENCE, &format!("the check runs for the {n}. time"), || {
            std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() == n)
        });
    };
    began(1);
    kill_named(&uuid, "dx-monitor");
    began(2);
    let first: i32 = read(&runs).lines().next().unwrap().parse().unwrap();
    // A dead one that nobody has reaped yet has no environment.
    let alive = processes_with_marker(MARK, &uuid);
    assert!(!alive.contains(&first), "the first one was ended before: {first} in {alive:?}");
    // The launcher too: somebody stands in for it, and replaces the next monitor that dies.
    kill_named(&uuid, "dx-launcher");
    wait_until(PATIENCE, "a guard stands in", || {
        crate::kills::world::programs(&uuid).iter().any(|o| o.name == "dx-guard")
    });
    kill_named(&uuid, "dx-monitor");
    began(3);
    write(&go, "");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "pass", "exited_ok", "process_exit_with_rc", "0");
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"], "each step stands once");
    assert_nothing_left(&uuid);
}

#[test]
fn after_all_of_ours_died_in_a_check_a_command_has_it_run_again() {
    let world = World::new();
    let (runs, go) = (world.path("runs"), world.path("go"));
    let command = format!("echo $$ >> {runs}; while ! test -e {go}; do sleep 0.02; done");
    let all_die = |id: &str| {
        let before = std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
        let uuid = world.sh(id, &["--check", &command], "true");
        wait_until(PATIENCE, "the check runs", || {
            std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() > before)
        });
        // The launcher first, stopped, so that it replaces nobody.
        for name in ["dx-launcher", "dx-monitor"] {
            let found = crate::kills::world::programs(&uuid);
            found.iter().filter(|o| o.name == name).for_each(|o| assert!(send_signal(o.pid, 19)));
        }
        for name in ["dx-launcher", "dx-monitor"] {
            kill_named(&uuid, name);
        }
        wait_until(PATIENCE, "none of ours is left", || crate::kills::world::programs(&uuid).is_empty());
        uuid
    };
    // A reader tells what it can and does nothing; `wait` does not wait for the dead.
    let uuid = all_die("bd-1");
    let check = world.wait("bd-1");
    assert_end(&check, "none", "infra", "exited_err", "gate_unanswered", "0");
    assert!(check["next_action"].as_str().unwrap().contains("prune"), "{check}");
    world.env.run(&["prune"]).assert_code(0);
    wait_until(PATIENCE, "it runs again", || read(&runs).lines().count() == 2);
    assert_eq!(world.check("bd-1")["reason_code"], "awaiting_finalize");
    write(&go, "");
    assert_end(&world.wait("bd-1"), "none", "pass", "exited_ok", "exit_zero_no_mutations", "0");
    assert_eq!(world.steps(&uuid), ["provider", "work", "check"]);
    assert_nothing_left(&uuid);

    // Who wants it ended does not have it run again.
    std::fs::remove_file(&go).unwrap();
    let uuid = all_die("bd-2");
    world.env.run(&["stop", "--beads", "bd-2"]).assert_code(0);
    let check = world.wait("bd-2");
    assert_end(&check, "none", "infra", "exited_err", "manual_stop", "137");
    assert_eq!(read(&runs).lines().count(), 3);
    assert_nothing_left(&uuid);
}

#[test]
fn a_settler_or_monitor_killed_at_any_step_changes_nothing() {
    let steps = [
        "settler.provider_told",
        "settler.work_told",
        "check.started",
        "check.ended",
        "monitor.after_settler",
    ];
    for step in steps {
        let world = World::new();
        let (marker, runs) = (world.path("killed"), world.path("runs"));
        let more =
            ["--require-commit", "--scope", "*.txt", "--check", &format!("echo run >> {runs}; exit 0")]
                .map(str::to_owned);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let mut command = world.sh_command("bd-1", &more, &format!("echo 2 > a.txt; {COMMIT}"));
        command.env("DX_FAULT_KILL", format!("{step}@{marker}"));
        let started: Value =
            serde_json::from_str(&world.env.run_command(command).assert_code(0).stdout).unwrap();
        let uuid = started["run_uuid"].as_str().unwrap().to_owned();
        let check = world.wait("bd-1");
        assert!(std::path::Path::new(&marker).exists(), "{step} was never reached");
        assert_end(&check, "pass", "pass", "exited_ok", "process_exit_with_rc", "0");
        assert_eq!(check["outcome"]["work"]["mutations"], 1, "{step}");
        assert_eq!(world.steps(&uuid), ["provider", "work", "commit", "scope", "check"], "{step}");
        let times = read(&runs).lines().count();
        let again = if step == "check.ended" { 2 } else { 1 };
        assert!(times <= 2 && (times == again || step == "check.started"), "{step}: {times}");
        assert_nothing_left(&uuid);
    }
}
