//! Jobs through the command line, with provider `exec`: text, documents, exit codes, following, Ctrl-C.

use crate::{document, environment};
use dx_testkit::{TestEnv, send_signal, wait_until};
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

const INTERRUPT: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(20);

/// An environment with a repository, and what `start` needs to run `script` there.
fn with_repository() -> (TestEnv, String) {
    let env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    (env, repository)
}

fn start(env: &TestEnv, repository: &str, id: &str, script: &str, more: &[&str]) -> dx_testkit::Output {
    let mut args = vec!["start", "--beads", id, "--provider", "exec", "--worktree", repository];
    args.extend(more);
    args.extend(["--", "sh", "-c", script]);
    env.run(&args)
}

#[test]
fn start_says_one_line_and_the_document_says_the_same() {
    let (env, repository) = with_repository();
    let text = start(&env, &repository, "bd-1", "true", &[]).assert_code(0).stdout;
    assert!(text.starts_with("started beads=bd-1 provider=exec pid="), "{text}");
    assert_eq!(text.lines().count(), 1);
    let output = start(&env, &repository, "bd-2", "true", &["--json"]).assert_code(0);
    let action = document(&env, "action", &output.stdout);
    assert_eq!(
        (&action["beads"], &action["action"], &action["changed"]),
        (&"bd-2".into(), &"start".into(), &true.into())
    );
}

#[test]
fn wait_exits_as_the_worst_job_and_prints_one_document_each() {
    let (env, repository) = with_repository();
    start(&env, &repository, "good", "echo x > new", &[]).assert_code(0);
    start(&env, &repository, "bad", "exit 4", &[]).assert_code(0);
    env.run(&["wait", "--beads", "good"]).assert_code(0);
    let output = env.run(&["wait", "--id", "good", "bad", "--json"]).assert_code(3);
    let states: Vec<String> = output
        .stdout
        .lines()
        .map(|line| document(&env, "check", line)["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["exited_ok", "exited_err"]);
    let check = env.run(&["check", "--beads", "bad"]).assert_code(3).stdout;
    assert!(check.starts_with("bad: exited_err (process_exit_with_rc)\n"), "{check}");
    let waited = start(&env, &repository, "third", "exit 7", &["--wait"]).assert_code(3).stdout;
    assert!(waited.starts_with("started ") && waited.contains("exit code 7"), "{waited}");
}

#[test]
fn unknown_jobs_are_1_with_near_ids() {
    let (env, repository) = with_repository();
    start(&env, &repository, "bd-10", "true", &["--wait"]).assert_code(0);
    for command in ["check", "wait", "logs", "stop", "restart", "finalize", "events", "status", "prune"] {
        let output = env.run(&[command, "--beads", "bd-11"]).assert_code(1);
        assert!(output.stderr.contains("reason: no_meta"), "{command}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{command}");
    }
    let output = env.run(&["check", "--beads", "bd-11", "--json"]).assert_code(1);
    let error = document(&env, "error", &output.stderr)["error"].clone();
    assert!(error["next_action"].as_str().unwrap().contains("bd-10"), "{error}");
}

#[test]
fn the_table_and_the_document_of_status() {
    let (env, repository) = with_repository();
    assert_eq!(env.run(&["status"]).assert_code(0).stdout, "");
    start(&env, &repository, "bd-1", "true", &["--wait"]).assert_code(0);
    let table = env.run(&["status", "--color", "always"]).assert_code(0).stdout;
    assert!(table.starts_with("ID ") && table.contains("\u{1b}[32mexited_ok\u{1b}[0m"), "{table}");
    assert!(!env.run(&["status"]).assert_code(0).stdout.contains('\u{1b}'));
    let listed = document(&env, "status", &env.run(&["status", "--json"]).assert_code(0).stdout);
    assert_eq!(listed["jobs"][0]["beads"], "bd-1");
    env.run(&["status", "--watch"]).assert_code(64);
}

#[test]
fn logs_show_the_last_lines_and_raw_shows_all() {
    let (env, repository) = with_repository();
    start(&env, &repository, "bd-1", "seq 1 100; printf tail", &["--wait"]).assert_code(0);
    let last = |args: &[&str]| {
        let args: Vec<&str> = ["logs", "--beads", "bd-1"].iter().chain(args).copied().collect();
        env.run(&args).assert_code(0).stdout
    };
    assert_eq!(last(&["--lines", "2"]), "100\ntail\n");
    assert_eq!(last(&[]).lines().count(), 20);
    assert_eq!(last(&["--lines", "0"]).lines().count(), 101);
    assert_eq!(last(&["--raw"]).lines().count(), 101);
    assert_eq!(last(&["--raw", "--lines", "2"]), "100\ntail");
    assert_eq!(last(&["-f", "--lines", "1"]), "tail\n");
    env.run(&["logs", "--beads", "bd-1", "--json"]).assert_code(64);
}

#[test]
fn events_are_lines_that_hold_against_their_schema() {
    let (env, repository) = with_repository();
    start(&env, &repository, "bd-1", "sleep 0.3", &[]).assert_code(0);
    let followed = env.run(&["events", "--beads", "bd-1", "-f"]).assert_code(0).stdout;
    let types: Vec<String> = followed
        .lines()
        .map(|line| document(&env, "event", line)["record"]["event"]["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types.first().map(String::as_str), Some("created"));
    assert_eq!(types.last().map(String::as_str), Some("ended"));
    env.run(&["events", "--beads", "bd-1", "--out", "events.jsonl"]).assert_code(0);
    assert_eq!(std::fs::read_to_string(env.path("events.jsonl")).unwrap(), followed);
}

#[test]
fn stop_ends_several_and_says_so() {
    let (env, repository) = with_repository();
    for id in ["a", "b"] {
        start(&env, &repository, id, "exec sleep 60", &[]).assert_code(0);
    }
    let output = env.run(&["stop", "--all", "--grace", "1s", "--json"]).assert_code(0);
    let done = document(&env, "actions", &output.stdout);
    assert_eq!(done["actions"].as_array().unwrap().len(), 2);
    let again = env.run(&["stop", "--beads", "a"]).assert_code(0).stdout;
    assert!(again.contains("nothing to do"), "{again}");
    let output = env.run(&["stop", "--beads", "a", "zz", "b"]).assert_code(1);
    assert_eq!(output.stdout.lines().count(), 2);
    assert!(output.stderr.contains("zz"), "{}", output.stderr);
}

#[test]
fn dry_run_names_the_command_and_starts_nothing() {
    let (env, repository) = with_repository();
    let output = start(&env, &repository, "bd-1", "echo 'x y'", &["--dry-run", "--json"]).assert_code(0);
    let plan = document(&env, "dry-run", &output.stdout);
    assert_eq!(plan["argv"], serde_json::json!(["sh", "-c", "echo 'x y'"]));
    env.run(&["check", "--beads", "bd-1"]).assert_code(1);
}

#[test]
fn commands_are_only_for_exec_and_prompts_for_the_others() {
    let (env, repository) = with_repository();
    let base = ["start", "--worktree", &repository, "--provider"];
    let run = |more: &[&str]| env.run(&[&base[..], more].concat()).assert_code(64).stderr;
    assert!(run(&["opencode", "--", "ls"]).contains("only for provider exec"));
    assert!(run(&["opencode"]).contains("reason: prompt_missing"));
    assert!(run(&["exec"]).contains("after --"));
    env.run(&["run", "opencode"]).assert_code(64);
    // What is wrong with the name is said first.
    for args in [&[&base[..], &["exce", "--", "true"]].concat()[..], &["run", "exce", "--", "true"]] {
        let output = env.run(args).assert_code(20);
        assert!(output.stderr.contains("provider_not_found"), "{output}");
        assert!(output.stderr.contains("did you mean exec?"), "{output}");
    }
}

#[test]
fn run_follows_to_the_end() {
    let (env, repository) = with_repository();
    let mut command = env.product();
    command.current_dir(&repository).args([
        "run",
        "exec",
        "--",
        "sh",
        "-c",
        "echo one; sleep 0.2; echo two; exit 5",
    ]);
    let output = env.run_command(command).assert_code(3);
    assert!(output.stdout.starts_with("one\ntwo\n"), "{output}");
    assert!(output.stdout.contains("exited_err") && output.stderr.contains("started beads="), "{output}");
}

#[test]
fn ctrl_c_leaves_the_job_running() {
    let (env, repository) = with_repository();
    let words: [(&[&str], &str); 3] = [
        (
            &[
                "run",
                "exec",
                "--beads",
                "bd-1",
                "--worktree",
                &repository,
                "--",
                "sh",
                "-c",
                "echo here; exec sleep 60",
            ],
            "here\n",
        ),
        (&["wait", "--beads", "bd-1"], ""),
        (&["logs", "-f", "--beads", "bd-1"], "here\n"),
    ];
    for (args, printed) in words {
        let mut command = env.product();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        read_until(&mut child, printed);
        // `wait` prints nothing by which its readiness could be seen: its signal mask tells it.
        let status = format!("/proc/{}/status", child.id());
        wait_until(PATIENCE, "Ctrl-C is blocked", || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let blocked = text.lines().find_map(|line| line.strip_prefix("SigBlk:"));
            blocked
                .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| mask & 0b10 != 0)
        });
        assert!(send_signal(i32::try_from(child.id()).unwrap(), INTERRUPT));
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args:?}: {complaint}");
        if args[0] != "logs" {
            assert!(complaint.contains("goes on") && complaint.contains("try: dx-runner "), "{complaint}");
        }
    }
    wait_until(PATIENCE, "the job is seen to be healthy", || {
        env.run(&["check", "--beads", "bd-1"]).assert_code(0).stdout.starts_with("bd-1: healthy")
    });
    env.run(&["stop", "--beads", "bd-1"]).assert_code(0);
}

#[track_caller]
fn read_until(child: &mut Child, wanted: &str) {
    let mut seen = vec![0; wanted.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), wanted);
}

#[test]
fn a_reader_that_leaves_ends_nothing_badly() {
    let (env, repository) = with_repository();
    start(&env, &repository, "bd-1", "seq 1 200000", &["--wait"]).assert_code(0);
    let mut command = env.product();
    command
        .args(["logs", "--beads", "bd-1", "--raw"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((child.wait().unwrap().code(), complaint.as_str()), (Some(0), ""));
}
