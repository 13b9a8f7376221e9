//! The Beads gate and the hook with the program that stands in for `bd` in reality: every reason that a store can give.
//!
//! Called by: the soak suite `beads`, which builds that program first.

use dx_testkit::TestEnv;
use serde_json::Value;
use std::path::Path;

/// Goes through all of it with this program.
pub(crate) fn run(env: &mut TestEnv, program: &Path) {
    env.link_program("bd", program);
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let external = env.home().join("bd");
    std::fs::create_dir(&external).unwrap();
    env.git(&external, &["init", "--quiet"]);
    env.git(&external, &["remote", "add", "origin", "git@host.invalid:stars-end/bd.git"]);
    let here = repo.display().to_string();
    let bd = |env: &TestEnv, args: &[&str]| {
        let mut command = env.command("bd");
        command.args(args).current_dir(&repo);
        env.run_command(command).assert_code(0).stdout
    };
    let gate = |env: &TestEnv, code: i32, reason: &str, more: &[&str]| {
        let output = env.run(&[&["beads-gate", "--json", "--repo", &here], more].concat()).assert_code(code);
        let answer: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(answer["reason_code"], reason, "{answer}");
        answer
    };
    gate(env, 24, "beads_db_error", &[]);
    bd(env, &["init", "--prefix", "bd"]);
    let made: Value = serde_json::from_str(&bd(env, &["create", "First", "-t", "task", "--json"])).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let answer = gate(env, 0, "beads_ok", &["--probe-id", &id]);
    assert_eq!(answer["repo_id_db"], repo.join(".beads").display().to_string(), "{answer}");
    let comments = |env: &TestEnv| bd(env, &["show", &id, "--json"]).contains("write probe");
    assert!(!comments(env), "nothing is written unasked");
    gate(env, 0, "beads_ok", &["--probe-id", &id, "--write-probe"]);
    assert!(comments(env));
    gate(env, 24, "beads_probe_not_found", &["--probe-id", "bd-none"]);

    // The hook exports what changed, and takes it into the commit.
    env.run(&["hooks", "install", "--repo", &here]).assert_code(0);
    bd(env, &["create", "Second", "-t", "task", "--no-auto-flush"]);
    std::fs::write(repo.join("a.txt"), "two\n").unwrap();
    env.git(&repo, &["add", "a.txt"]);
    env.git(&repo, &["commit", "--quiet", "-m", "work"]);
    let committed = env.git(&repo, &["show", "HEAD:.beads/issues.jsonl"]);
    assert!(committed.contains("Second"), "{committed}");

    // Another store.
    let other = env.path("other");
    std::fs::create_dir(&other).unwrap();
    let mut init = env.command("bd");
    init.args(["init", "--prefix", "bd"]).current_dir(&other);
    env.run_command(init).assert_code(0);
    env.set("BEADS_DIR", other.join(".beads"));
    gate(env, 24, "beads_repo_mismatch", &[]);
}
