//! All ways on which a secret could get out while nobody dies.

use super::{CORE, TOKEN, TOKEN_CORE, VALUE, assert_not_in_processes, stars};
use crate::world::{World, read, write};
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_an_agent_prints_is_masked_while_it_lives_and_its_log_keeps_its_size() {
    let world = World::new();
    let (secrets, go) = (world.path("secrets"), world.path("go"));
    let json = serde_json::to_string(VALUE).unwrap();
    write(&secrets, format!("token {TOKEN}, json {json}\nBearer abcdefghijklmnop1\n"));
    let actions = [
        "print:before",
        "print-env:HUSH",
        &format!("print-file:{secrets}"),
        "stderr-env:HUSH",
        "partial-json:no line feed: ",
        "print-env:HUSH:0:100",
        &format!("wait-file:{go}"),
        "print:\nafter",
    ];
    world.start_with_secret("bd-1", &[], &actions);
    let value = stars(VALUE);
    let quoted = format!("\"{}\"", stars(&json[1..json.len() - 1]));
    let bearer = "Bearer ****************";
    let first = format!(
        "before\n{value}\ntoken {}, json {quoted}\n{bearer}*\n{value}\nno line feed: {value}",
        stars(TOKEN)
    );
    world.until_log("bd-1", &first);
    let (agent, _) = world.pids("bd-1");
    for needle in [CORE, TOKEN_CORE] {
        assert_not_in_processes(&world, needle, agent);
    }
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(world.view("bd-1", "log")), format!("{first}\nafter\n"));
    assert_eq!(world.pairs("bd-1", "outcome")["log_bytes"], (first.len() + 7).to_string());
    let mode = std::fs::metadata(world.view("bd-1", "log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.assert_silent("bd-1", &[CORE, TOKEN_CORE, "abcdefghijklmnop1"]);
    assert_eq!(world.check("bd-1")["outcome"].get("unmasked"), None);
}

#[test]
fn a_value_that_comes_in_two_writes_is_masked_whole() {
    let world = World::new();
    let (middle, go) = (world.path("middle"), world.path("go"));
    let actions = [
        "print-env:HUSH:0:9",
        &format!("wait-file:{middle}"),
        "print-env:HUSH:9:100",
        &format!("wait-file:{go}"),
    ];
    world.start_with_secret("bd-1", &[], &actions);
    world.until_log("bd-1", &VALUE[..9]);
    write(&middle, "");
    world.until_log("bd-1", &stars(VALUE));
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    world.assert_silent("bd-1", &[CORE]);
}

#[test]
fn a_log_that_is_cut_and_written_again_is_masked_and_not_damaged() {
    let world = World::new();
    let mut actions = vec!["print-env:HUSH"; 3];
    // Each time another text stands where the secret was, and a secret where the text was.
    for _ in 0..40 {
        actions.extend(["restart-stdout", "print:0123456789abcdefghijklmnopqrstuvwxyz", "print-env:HUSH"]);
        actions.extend(["restart-stdout", "print-env:HUSH", "print:0123456789abcdefghijklmnopqrstuvwxyz"]);
    }
    world.start_with_secret("bd-1", &[], &actions);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    let expected = format!("{}\n0123456789abcdefghijklmnopqrstuvwxyz\n", stars(VALUE));
    assert_eq!(read(world.view("bd-1", "log")), expected);
    world.assert_silent("bd-1", &[CORE]);
}

#[test]
fn structured_output_reaches_no_record_with_a_secret_in_it() {
    let mut world = World::new();
    let line = |part: String| format!("{{\"type\":\"tool_use\",\"sessionID\":\"s\",\"part\":{part}}}\n");
    let quoted = serde_json::to_string(&format!("call {VALUE} {TOKEN}")).unwrap();
    let output = [
        line(format!(
            r#"{{"type":"tool","tool":{quoted},"callID":{quoted},"state":{{"status":"completed","input":{{"filePath":{quoted}}}}}}}"#
        )),
        format!("{{\"type\":\"error\",\"error\":{{\"name\":\"APIError\",\"data\":{{\"message\":{quoted},\"statusCode\":401}}}}}}\n"),
    ]
    .concat();
    write(world.path("output"), &output);
    let script = format!(
        "#!/bin/sh\ncase $1 in\nmodels) echo zhipuai-coding-plan/glm-5 ;;\nrun) cat {0}/output; echo \"$OPENCODE_HUSH_KEY\" >&2; touch \"{0}/repos/demo/$OPENCODE_FILE_TOKEN\"; git -c user.name=a -c user.email=a@b.invalid commit -q --allow-empty -m \"add $OPENCODE_HUSH_KEY\"; git branch \"on-$OPENCODE_FILE_TOKEN\"; exit 1 ;;\n*) echo 1.18.33 ;;\nesac\n",
        world.env.root().display()
    );
    let program = world.env.bin_dir().join("opencode");
    write(&program, script);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    world.env.set("OPENCODE_HUSH_KEY", VALUE);
    world.env.set("OPENCODE_FILE_TOKEN", "named-by-zqxFile-8");
    let repo = world.repo.display().to_string();
    let args =
        ["start", "--beads", "bd-1", "--provider", "opencode", "--prompt-file", "-", "--worktree", &repo];
    world.env.run_with_stdin(&args, "go").assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    let check = world.check("bd-1");
    assert_eq!(check["reason_code"], "opencode_auth_blocked", "{check:#}");
    assert!(check["outcome"]["detail"].as_str().unwrap().contains("call ****"), "{check:#}");
    assert_eq!(check["outcome"]["work"]["commits"].as_array().unwrap().len(), 1, "{check:#}");
    assert_eq!(check["outcome"]["work"]["files_changed"], serde_json::json!([stars("named-by-zqxFile-8")]));
    let log = read(world.env.state_dir().join("opencode/bd-1.log"));
    assert_eq!(log.len(), output.len());
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    world.assert_silent("bd-1", &[CORE, TOKEN_CORE, "zqxFile"]);
}

#[test]
fn a_prompt_with_a_secret_is_kept_only_while_the_job_runs() {
    let world = World::new();
    let (prompt, copy, go) = (world.path("task.md"), world.path("copy"), world.path("go"));
    let text = format!("use {VALUE} and {TOKEN}\n");
    write(&prompt, &text);
    let actions = [&format!("read-stdin:{copy}")[..], &format!("wait-file:{go}")];
    world.start_with_secret("bd-1", &["--prompt-file", &prompt], &actions);
    // A live job is restarted with the prompt as it was.
    let restarted =
        world.env.run_command(world.knowing(&["restart", "--beads", "bd-1", "--json"])).assert_code(0);
    assert!(restarted.stdout.contains("\"changed\":true"));
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(&copy), text);
    world.assert_silent("bd-1", &[CORE, TOKEN_CORE]);
    // The copy is masked now; the original still is what it was.
    world.env.run_command(world.knowing(&["restart", "--beads", "bd-1"])).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(&copy), text);
    write(&prompt, "another task\n");
    let mut again = world.knowing(&["--json", "restart", "--beads", "bd-1"]);
    again.stdin(std::process::Stdio::null());
    let refused = world.env.run_command(again).assert_code(64);
    assert!(
        refused.stderr.contains("prompt_missing") && refused.stderr.contains("held a secret"),
        "{refused}"
    );
}

#[test]
fn errors_and_dry_runs_show_no_secret() {
    let world = World::new();
    let repo = world.repo.display().to_string();
    for args in [
        &[
            "start",
            "--provider",
            "exec",
            "--env",
            "HUSH",
            "--worktree",
            &format!("/gone/{VALUE}"),
            "--",
            "true",
        ][..],
        &[
            "start",
            "--provider",
            "exec",
            "--env",
            "HUSH",
            "--worktree",
            &repo,
            "--",
            &format!("/gone/{VALUE}"),
        ],
        &["start", "--provider", "exec", "--worktree", &repo, "--", &format!("/gone/{TOKEN}")],
        &[
            "start",
            "--dry-run",
            "--provider",
            "exec",
            "--env",
            "HUSH",
            "--worktree",
            &repo,
            "--",
            "echo",
            VALUE,
            TOKEN,
        ],
        &["check", "--beads", TOKEN],
        &["nonsense", TOKEN],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = world.env.run_command(world.knowing(&[json, args].concat()));
            let shown = format!("{output}");
            assert!(!shown.contains(CORE) && !shown.contains(TOKEN_CORE), "{args:?}: {shown}");
        }
    }
    assert_eq!(
        crate::world::files_with(&world.env.state_dir(), TOKEN_CORE),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_command_with_a_secret_runs_and_is_in_no_record() {
    let world = World::new();
    let argv = world.path("argv");
    let actions = [&format!("argv:{argv}")[..], &format!("print:{VALUE}"), &format!("print:{TOKEN}")];
    world.start_with_secret("bd-1", &[], &actions);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert!(read(&argv).contains(VALUE) && read(&argv).contains(TOKEN));
    world.assert_silent("bd-1", &[CORE, TOKEN_CORE]);
    let refused =
        world.env.run_command(world.knowing(&["--json", "restart", "--beads", "bd-1"])).assert_code(10);
    assert!(refused.stderr.contains("env_unresolved") && refused.stderr.contains("--env NAME"), "{refused}");
}

#[test]
fn a_secret_in_a_name_is_told_by_nobody_who_does_not_know_it() {
    const NEEDLE: &str = "zqxneedle-99";
    let world = World::new();
    let script = r#"echo x > "f-$PLAIN" && git checkout -q -b "b-$PLAIN" && echo ready"#;
    let mut command = world.env.product();
    command.args(["start", "--beads", "bd-1", "--provider", "exec", "--env", "PLAIN", "--worktree", "auto"]);
    command.args(["--repo", &world.repo.display().to_string(), "--wait", "--", "sh", "-c", script]);
    command.env("PLAIN", NEEDLE);
    world.env.run_command(command).assert_code(0);
    let masked = stars(NEEDLE);
    let name = format!("f-{masked}");
    let report = world.json(0, &["report", "--beads", "bd-1"]);
    assert_eq!(report["files_changed"], serde_json::json!([name]));
    assert_eq!(report["diff_stat"][0]["path"], name.as_str());
    assert_eq!((&report["diff_stat"][0]["added"], &report["diff_stat_left_out"]), (&1.into(), &0.into()));
    let list = world.json(0, &["worktree", "list"]);
    assert_eq!(list["worktrees"][0]["branch"], format!("b-{masked}"));
    // Made when nobody looked any more.
    let tree = std::path::PathBuf::from(report["worktree"].as_str().unwrap());
    write(tree.join(format!("later-{NEEDLE}")), "y\n");
    let report = world.json(0, &["report", "--beads", "bd-1"]);
    assert_eq!(report["diff_stat"].as_array().unwrap().len(), 1);
    assert_eq!(report["diff_stat_left_out"], 1);
    for args in [
        &["report", "--beads", "bd-1", "--format", "markdown"][..],
        &["report", "--beads", "bd-1", "--format", "html"],
        &["report", "--beads", "bd-1", "--format", "json"],
        &["worktree", "list"],
    ] {
        let shown = format!("{}", world.env.run(args).assert_code(0));
        assert!(!shown.contains("zqxneedle"), "{args:?}: {shown}");
    }
    let bundle = world.path("bundle.tgz");
    world.env.run(&["bundle", "--beads", "bd-1", "-o", &bundle]).assert_code(0);
    let mut text = String::new();
    let mut unpack = std::process::Command::new("tar");
    let out = unpack.args(["-xzOf", &bundle]).output().unwrap();
    text.push_str(&String::from_utf8_lossy(&out.stdout));
    assert!(text.contains("diff_stat") && !text.contains("zqxneedle"), "{text}");
    // Who knows the value has it masked in the tree's own text too.
    let mut diff = world.env.product();
    diff.args(["diff", "--beads", "bd-1"]).env("PLAIN", NEEDLE);
    let shown = world.env.run_command(diff).assert_code(0).stdout;
    assert!(shown.contains(&name) && !shown.contains("zqxneedle"), "{shown}");
}
