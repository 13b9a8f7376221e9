//! A read-only state directory: a real bind mount in a mount namespace of the test's own commands.

use crate::environment;
use dx_testkit::{Output, TestEnv};
use std::path::Path;

/// Runs a product command with the state directory mounted read-only. `None`: this machine does not let us mount.
fn read_only(env: &TestEnv, args: &[&str]) -> Option<Output> {
    const SCRIPT: &str = r#"mount --make-rprivate / && mount -o bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
shift; exec "$@""#;
    let product = env.product();
    let mut command = env.command("unshare");
    command.args(["-m", "--map-root-user", "sh", "-c", SCRIPT, "sh"]).arg(env.state_dir());
    command.arg(product.get_program()).args(args);
    let output = env.try_run(command, b"").ok()?;
    (output.code != 99 && !output.stderr.starts_with("unshare: ")).then_some(output)
}

fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_read_only_state_directory_is_read_and_a_start_says_what_is_wrong() {
    let env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let start = |id| {
        let agent = env.fake_agent().display().to_string();
        let args = ["start", "--json", "--provider", "exec", "--beads", id, "--worktree", &repository];
        [&args[..], &["--", &agent, "print:hello", "exit:7"]]
            .concat()
            .iter()
            .map(|a| (*a).to_owned())
            .collect()
    };
    let words = |args: Vec<String>| args;
    env.run(&words(start("ro"))).assert_code(0);
    env.run(&["wait", "--beads", "ro", "--timeout", "60s"]).assert_code(3);
    dx_testkit::wait_until(std::time::Duration::from_mins(1), "the run is over", || {
        super::ours(&env.state_dir()).is_empty()
    });
    let before = snapshot(&env.state_dir());
    let Some(status) = read_only(&env, &["status", "--json"]) else {
        println!("skipped: this machine lets nobody mount");
        return;
    };
    assert!(status.assert_code(0).stdout.contains(r#""beads":"ro""#));
    let ask = |args: &[&str]| read_only(&env, args).unwrap();
    let check = ask(&["check", "--beads", "ro", "--json"]).assert_code(3).stdout;
    assert!(check.contains(r#""exit_code":"7""#), "{check}");
    ask(&["wait", "--beads", "ro", "--timeout", "5s", "--json"]).assert_code(3);
    assert_eq!(ask(&["logs", "--beads", "ro"]).assert_code(0).stdout, "hello\n");
    assert!(ask(&["events", "--beads", "ro"]).assert_code(0).stdout.contains(r#""type":"ended""#));
    for id in ["ro", "new"] {
        let args = words(start(id));
        let failed = ask(&args.iter().map(String::as_str).collect::<Vec<_>>()).assert_code(1);
        let error = crate::document(&env, "error", &failed.stderr);
        assert_eq!(error["error"]["reason_code"], "state_dir_unusable", "{failed}");
        assert!(error["error"]["causes"].to_string().contains("Read-only file system"), "{failed}");
        assert!(error["error"]["next_action"].as_str().unwrap().contains("mount it writable"), "{failed}");
    }
    let kept = ask(&["gc", "--older-than", "0s"]).assert_code(0);
    assert!(kept.stdout.contains("Read-only file system"), "{kept}");
    let doctor = ask(&["doctor", "--json"]).assert_code(1);
    let doctor = crate::document(&env, "doctor", &doctor.stdout);
    let row =
        doctor["checks"].as_array().unwrap().iter().find(|row| row["name"] == "state directory").unwrap();
    assert_eq!(row["level"], "error", "{row}");
    assert!(row["found"].as_str().unwrap().contains("Read-only file system"), "{row}");
    assert_eq!(snapshot(&env.state_dir()), before);
    env.run(&words(start("ro"))).assert_code(0);
    env.run(&["wait", "--beads", "ro", "--timeout", "60s"]).assert_code(3);
}
