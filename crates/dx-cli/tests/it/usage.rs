//! Wrong command lines: exit code 64 (never clap's 2, which means stalled), reason and next action, text and JSON.

use crate::{document, environment};

#[test]
fn wrong_command_lines_are_64_and_explain_themselves() {
    let env = environment();
    for (args, next) in [
        (&["bogus"][..], "dx-runner --help"),
        (&["start", "--provider", "exec", "--sandbox", "tight"], "dx-runner start --help"),
        (&["start", "--provider", "Exec", "--", "true"], "dx-runner start --help"),
        (&["start", "--provider", "exec", "--max-runtime", "5x", "--", "true"], "dx-runner start --help"),
        (&["check"], "dx-runner check --help"),
        (&["wait", "--beads", "a", "--any", "--all"], "dx-runner wait --help"),
        (&["stop"], "dx-runner stop --help"),
        (&["stop", "--all", "--beads", "a"], "dx-runner stop --help"),
        (&["finalize", "--beads", "a", "--exit-code", "0"], "dx-runner finalize --help"),
        (&["logs", "--beads", "a", "--lines", "-1"], "dx-runner logs --help"),
        (&["check", "--beads", "../a"], "letters, digits, . _ - only"),
    ] {
        let output = env.run(args).assert_code(64);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(output.stderr.starts_with("error: "), "{args:?}: {}", output.stderr);
        assert!(output.stderr.ends_with(&format!("  try: {next}\n")), "{args:?}: {}", output.stderr);
        assert!(!output.stderr.contains("error: error"), "{}", output.stderr);

        let with_json: Vec<&str> = std::iter::once("--json").chain(args.iter().copied()).collect();
        let output = env.run(&with_json).assert_code(64);
        assert_eq!(output.stdout, "", "{args:?}");
        let error = document(&env, "error", &output.stderr)["error"].clone();
        let reason = if next.starts_with("dx-runner") { "invalid_argument" } else { "invalid_id" };
        assert_eq!(error["reason_code"], reason, "{args:?}");
        assert_eq!(error["next_action"], next, "{args:?}");
        assert_eq!(error["exit_code"], 64);
    }
    assert!(!env.state_dir().exists(), "a wrong command line made records");
}

#[test]
fn what_only_the_engine_finds_wrong_names_the_help_of_its_command() {
    let env = environment();
    let repository = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let output = env.run(&["start", "--provider", "exec", "--worktree", &repository]).assert_code(64);
    assert!(output.stderr.ends_with("  try: dx-runner start --help\n"), "{output}");
}

#[test]
fn a_start_from_a_folder_that_is_gone_says_so() {
    let env = environment();
    let mut command = env.command("sh");
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" start --json --provider exec -- true";
    command.current_dir(env.home()).args(["-c", script]).arg(env.product().get_program());
    let output = env.run_command(command).assert_code(22);
    let error = document(&env, "error", &output.stderr)["error"].clone();
    assert_eq!(error["reason_code"], "worktree_missing", "{error}");
    assert_eq!(error["next_action"], "cd to a folder that exists", "{error}");
}

#[test]
fn output_that_cannot_be_written_is_no_mystery() {
    let env = environment();
    let product = env.product();
    let mut command = env.command("sh");
    command.args(["-c", "exec \"$0\" --json exit-codes > /dev/full"]).arg(product.get_program());
    let output = env.run_command(command).assert_code(1);
    let error = document(&env, "error", &output.stderr)["error"].clone();
    assert_eq!(error["reason_code"], "output_unwritable", "{error}");
    assert!(error["next_action"].as_str().unwrap().contains("free the disk"), "{error}");
}

#[test]
fn durations_are_explained() {
    let output = environment().run(&["wait", "--beads", "a", "--timeout", "1.5h"]).assert_code(64);
    assert!(output.stderr.contains("90s, 5m, 2h, 1d"), "{}", output.stderr);
}

#[test]
fn json_behind_two_dashes_belongs_to_the_command() {
    let output = environment().run(&["start", "--bogus", "--", "x", "--json"]).assert_code(64);
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
}

#[test]
fn nothing_at_all_shows_help_on_stderr() {
    let output = environment().run::<&str>(&[]).assert_code(64);
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("Usage: dx-runner"), "{}", output.stderr);
}

#[test]
fn help_and_version_are_answers() {
    let env = environment();
    assert!(env.run(&["--version"]).assert_code(0).stdout.starts_with("dx-runner "));
    let root = env.run(&["--help"]).assert_code(0);
    assert_eq!(root.stderr, "");
    let commands = root.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<String> = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned))
        .collect();
    assert!(commands.len() >= 17, "{commands:?}");
    for command in &commands {
        let help = env.run(&[command, "--help"]).assert_code(0).stdout;
        let example = help.lines().filter(|line| line.contains(&format!("dx-runner {command}"))).count();
        assert!(example >= 2, "{command} has no example:\n{help}");
    }
}

#[test]
fn the_monitor_binary_is_not_for_people() {
    let env = environment();
    let output = env.run_command(env.command(env!("CARGO_BIN_EXE_dx-monitor"))).assert_code(64);
    assert!(output.stderr.contains("dx-runner"), "{}", output.stderr);
}
