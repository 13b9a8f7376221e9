//! Gates and checks at the end of a job: `--require-commit`, `--scope`, `--check`, and `--required-baseline` at its start.
//!
//! For: the verdicts `gates` and `check`, and the steps of the settler. Must never: end a process that a job of the test did
//! not start.

mod check;
mod killed;
mod paths;

use crate::world::{MARK, PATIENCE, World, read, write};
use dx_testkit::{processes_with_marker, wait_until};
use serde_json::{Value, json};

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
