//! Links, pipes and other people's folders where our files are expected: nothing is followed out of the state directory,
//! nothing outside is changed, nobody hangs.

use super::{ask, copy_of, everything, make_dir, put, run_of, start, view};
use crate::environment;
use dx_testkit::TestEnv;
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A file outside of the state directory that must stay as it is.
fn victim(env: &TestEnv) -> PathBuf {
    let path = env.path("victim");
    put(&path, "precious\n");
    path
}

#[track_caller]
fn assert_untouched(victim: &Path) {
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "precious\n");
}

#[track_caller]
fn assert_refused(env: &TestEnv, what: &str) {
    for args in [&["status"][..], &["check", "--beads", "x"], &["prune"], &["stop", "--beads", "x"]] {
        let (code, error) = ask(env, args);
        assert_eq!(
            (code, &error["error"]["reason_code"]),
            (22, &json!("state_dir_unsafe")),
            "{what}: {error:#}"
        );
    }
    let started = start(env, "x", &[], &["exit:0"]).assert_code(22);
    assert!(started.stderr.contains("state_dir_unsafe"), "{what}: {started}");
}

#[test]
fn a_state_directory_that_is_a_link_or_open_to_others_is_refused() {
    let env = environment();
    make_dir(&env.path("elsewhere"));
    symlink(env.path("elsewhere"), env.state_dir()).unwrap();
    assert_refused(&env, "a link");
    assert_eq!(everything(&env.path("elsewhere")), []);
    std::fs::remove_file(env.state_dir()).unwrap();
    std::fs::create_dir(env.state_dir()).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(env.state_dir(), open).unwrap();
    assert_refused(&env, "open to others");
    let (_, error) = ask(&env, &["status"]);
    assert_eq!(error["error"]["next_action"], format!("chmod 700 {}", env.state_dir().display()));
    assert_eq!(everything(&env.state_dir()), []);
}

#[test]
fn folders_of_another_user_are_refused() {
    let env = environment();
    start(&env, "x", &[], &["exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", "x", "--timeout", "60s"]).assert_code(0);
    dx_testkit::wait_until(std::time::Duration::from_mins(1), "the run is published", || {
        !env.state_dir().join("live/exec.x").exists()
    });
    for folder in ["", "live", "runs", "ended", "exec"] {
        let path = env.state_dir().join(folder);
        if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
            println!("skipped: only root can give a folder away");
            return;
        }
        let started = start(&env, "y", &[], &["exit:0"]).assert_code(22);
        assert!(started.stderr.contains("belongs to user 65534"), "{folder}: {started}");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    start(&env, "z", &[], &["exit:0"]).assert_code(0);
}

#[test]
fn links_in_place_of_our_files_are_not_followed() {
    let env = copy_of("ended");
    let victim = victim(&env);
    let other = copy_of("ended");
    let replace = |path: &Path, target: &Path| {
        let _absent = std::fs::remove_file(path);
        symlink(target, path).unwrap();
    };
    for suffix in ["log", "meta", "outcome", "contract", "rc", "pid", "prompt", "events.jsonl", "heartbeat"] {
        replace(&view(&env, &format!("failed.{suffix}")), &victim);
    }
    // With its `.meta` a link, the job is not told from it.
    let (code, check) = ask(&env, &["check", "--beads", "failed"]);
    assert_eq!((code, &check["error"]["reason_code"]), (1, &json!("no_meta")), "{check:#}");
    let hint = check["error"]["next_action"].as_str().unwrap();
    assert!(!hint.contains("failed"), "it names what was asked for: {hint}");
    start(&env, "failed", &[], &["print:new", "exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", "failed", "--timeout", "60s"]).assert_code(0);
    assert_untouched(&victim);
    assert_eq!(env.run(&["logs", "--beads", "failed"]).assert_code(0).stdout, "new\n");
    for suffix in ["log", "meta", "outcome", "contract", "rc"] {
        assert!(!view(&env, &format!("failed.{suffix}")).is_symlink(), "{suffix}");
    }

    // A claim that is a link: to a journal elsewhere, to the victim, to nothing.
    make_dir(&env.state_dir().join("live"));
    for (id, target) in [
        ("away", run_of(&other, "failed").join("journal")),
        ("victim", victim.clone()),
        ("nowhere", env.path("nowhere")),
    ] {
        replace(&env.state_dir().join("live").join(format!("exec.{id}")), &target);
        for command in ["check", "stop", "finalize"] {
            let (code, error) = ask(&env, &[command, "--beads", id]);
            assert!(code == 33 || code == 1, "{command} {id}: {error:#}");
        }
        assert_ne!(start(&env, id, &[], &["exit:0"]).code, 0, "{id}");
        ask(&env, &["prune"]);
        ask(&env, &["status", "--all"]);
    }
    assert!(!env.path("nowhere").exists());
    assert_untouched(&victim);

    // Inside of a run's folder.
    let before = everything(&other.state_dir());
    for name in ["journal", "exit"] {
        replace(&run_of(&env, "success").join(name), &run_of(&other, "success").join(name));
    }
    let (code, error) = ask(&env, &["check", "--beads", "success"]);
    assert_eq!((code, &error["error"]["reason_code"]), (33, &json!("record_unreadable")), "{error:#}");
    assert_eq!(everything(&other.state_dir()), before);
}

#[test]
fn a_log_that_is_a_link_is_not_shown() {
    let env = copy_of("ended");
    let victim = victim(&env);
    let log = run_of(&env, "failed").join("log");
    std::fs::remove_file(&log).unwrap();
    symlink(&victim, &log).unwrap();
    for args in [&["logs", "--beads", "failed"][..], &["logs", "--beads", "failed", "--raw"]] {
        let output = env.run(args);
        assert!(!output.stdout.contains("precious"), "{output}");
    }
    assert_untouched(&victim);
}

#[test]
fn a_folder_of_views_that_is_a_link_is_not_written_into() {
    let env = environment();
    make_dir(&env.state_dir());
    make_dir(&env.path("elsewhere"));
    symlink(env.path("elsewhere"), env.state_dir().join("exec")).unwrap();
    let started = start(&env, "x", &[], &["exit:0"]);
    assert_eq!(started.code, 22, "{started}");
    assert_eq!(everything(&env.path("elsewhere")), []);
    let (code, _) = ask(&env, &["status", "--all"]);
    assert_eq!(code, 0);
}

/// Puts a pipe that nobody writes into in the place of a file.
fn pipe(env: &TestEnv, path: &Path) {
    let _absent = std::fs::remove_file(path);
    let mut command = env.command("mkfifo");
    command.args(["-m", "600"]).arg(path);
    env.run_command(command).assert_code(0);
}

#[test]
fn pipes_in_place_of_logs_and_pid_files_hang_nobody() {
    let env = copy_of("ended");
    let log = run_of(&env, "success").join("log");
    for path in [view(&env, "old.pid"), view(&env, "failed.pid"), log] {
        pipe(&env, &path);
    }
    for args in [&["prune"][..], &["logs", "--beads", "success"], &["logs", "--beads", "success", "--raw"]] {
        ends(&env, args);
    }
}

#[test]
fn pipes_in_place_of_records_hang_nobody() {
    let env = copy_of("ended");
    let pipe = |path: &Path| pipe(&env, path);
    for name in ["old.outcome", "old.meta", "failed.outcome", "failed.obs"] {
        pipe(&view(&env, name));
    }
    make_dir(&env.state_dir().join("live"));
    pipe(&env.state_dir().join("live/exec.pipe"));
    pipe(&env.state_dir().join("ended/2026-11-20.jsonl"));
    let run = run_of(&env, "success");
    pipe(&run.join("exit"));
    // The deadline of the environment is what fails here.
    for args in [
        &["status", "--all"][..],
        &["check", "--beads", "old"],
        &["check", "--beads", "pipe"],
        &["check", "--beads", "failed"],
        &["check", "--beads", "success"],
        &["logs", "--beads", "success"],
        &["stop", "--beads", "pipe"],
        &["prune"],
    ] {
        ends(&env, args);
    }
    start(&env, "failed", &[], &["exit:0"]).assert_code(0);
    env.run(&["wait", "--beads", "failed", "--timeout", "60s"]).assert_code(0);
}

/// Runs a command; whatever it prints, it ends.
#[track_caller]
fn ends(env: &TestEnv, args: &[&str]) {
    let output = env.run(args);
    assert!((0..=64).contains(&output.code), "{args:?}: {output}");
}
