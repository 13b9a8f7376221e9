//! The evidence gate: by itself on an ended job, and as part of a job's end.

use super::{ask, reason};
use crate::world::{World, read, write};
use serde_json::{Value, json};

/// Runs a job that leaves `made` and this sign-off; the document of `check`.
#[track_caller]
fn job(world: &World, id: &str, more: &[&str], signoff: &str) -> Value {
    let here = world.repo.display().to_string();
    let script = format!("echo 1 > made; cat > signoff.md <<'END'\n{signoff}\nEND\n");
    let head = ["start", "--beads", id, "--provider", "exec", "--worktree", &here];
    let args = [&head[..], more, &["--", "sh", "-c", &script]].concat();
    world.env.run(&args).assert_code(0);
    let output = world.env.run(&["wait", "--beads", id, "--json", "--timeout", "90s"]);
    crate::document(&world.env, "check", &output.stdout)
}

#[test]
fn a_claim_counts_when_its_command_succeeds() {
    let world = World::new();
    let file = world.path("signoff.md");
    job(&world, "a", &["--check", "test -e made"], "");
    let gate = |code, word, text: &str| {
        write(&file, text);
        reason(&world, code, word, &["evidence-gate", "--beads", "a", "--signoff-file", &file])
    };
    let answer = gate(
        0,
        "evidence_ok",
        "- [x] made: `cat made`\nVerified with `test -e made`\n- [ ] later: `false`\n",
    );
    assert_eq!((&answer["total_claims"], &answer["verified_claims"]), (&2.into(), &2.into()));
    assert_eq!(answer["claims"][1]["how"], "the job's check, as recorded");
    assert_eq!(answer["claims"][0]["command"], "cat made");

    let answer = gate(
        30,
        "unverified_claims",
        "- [x] made: `cat made`\n- [x] tests: `echo broken; exit 3`\n- [x] trust me\n",
    );
    let how: Vec<&Value> = answer["claims"].as_array().unwrap().iter().map(|claim| &claim["how"]).collect();
    assert_eq!(
        how,
        [
            &json!("run now: exit status: 0"),
            &json!("run now: exit status: 3 (broken)"),
            &json!("it names no command in backticks")
        ]
    );
    assert_eq!(answer["details"], "2 of 3 claims are not verified");
    gate(30, "unverified_claims", "Confirmed: `no-such-command-at-all`\n");
    // The second command of a claim counts as the first does.
    let answer =
        gate(30, "unverified_claims", "- [x] tests and lint: `cat made`, `false`\n- [x] `cat made`\n");
    assert_eq!((&answer["total_claims"], &answer["verified_claims"]), (&2.into(), &1.into()));
    let told: Vec<_> =
        answer["claims"].as_array().unwrap().iter().map(|row| [&row["command"], &row["verified"]]).collect();
    assert_eq!(
        told,
        [
            [&json!("cat made"), &json!(true)],
            [&json!("false"), &json!(false)],
            [&json!("cat made"), &json!(true)]
        ]
    );
    gate(30, "no_claims", "All is well.\n- [ ] `true`\n");
    gate(30, "no_claims", "");
    std::fs::write(&file, b"\xff").unwrap();
    let gate = ["evidence-gate", "--beads", "a", "--signoff-file", &file];
    reason(&world, 30, "signoff_missing", &gate);
    std::fs::remove_file(&file).unwrap();
    reason(&world, 30, "signoff_missing", &gate);
    write(&file, "- [x] `true`\n");
    let error = world.error(1, &["evidence-gate", "--beads", "nope", "--signoff-file", &file]);
    assert_eq!(error["reason_code"], "no_meta");
}

#[test]
fn commands_run_in_the_jobs_sandbox() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
    job(&world, "a", &[], "");
    let sandboxed = world.check("a")["sandbox"]["mode"] == "strict"
        || read(world.view("a", "contract")).contains("strict");
    let outside = world.path("outside");
    let file = world.path("signoff.md");
    write(&file, format!("- [x] wrote `echo 1 > {outside}`\n"));
    let gate = ["evidence-gate", "--beads", "a", "--signoff-file", &file];
    if sandboxed {
        ask(&world, 30, &gate);
        assert!(!std::path::Path::new(&outside).exists());
    } else {
        ask(&world, 0, &gate);
    }
}

#[test]
fn a_jobs_end_verifies_its_sign_off() {
    let world = World::new();
    let signoff = ["--signoff-file", "signoff.md"];
    let check = job(&world, "good", &signoff, "- [x] `cat made`");
    assert_eq!(
        (&check["state"], &check["verdicts"]["check"]),
        (&"exited_ok".into(), &"pass".into()),
        "{check:#}"
    );
    let check = job(&world, "bad", &signoff, "- [x] made `cat made`\n- [x] tests `cat not-made`");
    assert_eq!(
        (&check["state"], &check["reason_code"]),
        (&"exited_err".into(), &"unverified_claims".into()),
        "{check:#}"
    );
    assert_eq!(check["verdicts"]["check"], "fail");
    let uuid = world.pairs("bad", "meta")["run_uuid"].clone();
    let log = read(world.env.state_dir().join("runs").join(uuid).join("check.log"));
    assert!(log.contains("line 2: not verified: tests `cat not-made`: cat not-made"), "{log}");
    // Beside a check of its own, which is asked first.
    let check = job(&world, "both", &[&signoff[..], &["--check", "exit 4"]].concat(), "- [x] `true`");
    assert_eq!(check["reason_code"], "check_failed");
    let check = job(&world, "silent", &signoff, "all done");
    assert_eq!(check["reason_code"], "unverified_claims");
    let here = world.repo.display().to_string();
    for outside in ["../signoff.md", "/etc/passwd", ""] {
        let args = [
            "start",
            "--beads",
            "x",
            "--provider",
            "exec",
            "--worktree",
            &here,
            "--signoff-file",
            outside,
            "--",
            "true",
        ];
        assert_eq!(world.error(64, &args)["reason_code"], "invalid_argument", "{outside}");
    }
}
