//! Agents whose exit code or own words lie, played from recorded transcripts by a stand-in: none is told as clean success,
//! and an honest answer without a change is not told as failure.
//!
//! Must never: need a real agent; the table has those.

use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A stand-in for one agent's command line.
struct World {
    env: TestEnv,
    repository: PathBuf,
    provider: &'static str,
    fixtures: PathBuf,
}

impl World {
    fn new(provider: &'static str) -> Self {
        let mut env = environment();
        env.set("GEMINI_API_KEY", "fake");
        let (program, folder) = match provider {
            "opencode" => ("opencode", "opencode/1.18.33"),
            "codex" => ("codex", "codex/0.169.0"),
            "gemini" => ("gemini", "gemini/0.61.0"),
            _ => ("claude", "claude/2.1.329"),
        };
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in models) echo mock/m1; exit ;; --version) exit ;; esac\ncat >/dev/null\n. {}\n",
            env.path("play").display()
        );
        let path = env.bin_dir().join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dx-events/fixtures").join(folder);
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Self { env, repository, provider, fixtures: fixtures.canonicalize().unwrap() }
    }

    /// Plays a recorded run that ends with `code`, after doing what `also` says in the worktree.
    #[track_caller]
    fn play(&self, case: &str, also: &str, code: u8) -> Value {
        let stream = |suffix: &str| self.fixtures.join(format!("{case}.{suffix}"));
        assert!(stream("out").is_file(), "{}", stream("out").display());
        let err = if stream("err").is_file() {
            format!("cat '{}' >&2\n", stream("err").display())
        } else {
            String::new()
        };
        let play = format!("{also}\ncat '{}'\n{err}exit {code}\n", stream("out").display());
        std::fs::write(self.env.path("play"), play).unwrap();
        let worktree = self.repository.display().to_string();
        let args = [
            "start",
            "--beads",
            case,
            "--provider",
            self.provider,
            "--worktree",
            &worktree,
            "--prompt-file",
            "-",
        ];
        let model = ["--model", "mock/m1", "--allow-model-override"];
        self.env.run_with_stdin(&[&args[..], &model].concat(), "go").assert_code(0);
        let output = self.env.run(&["wait", "--json", "--beads", case]);
        document(&self.env, "check", &output.stdout)
    }
}

/// State, reason, the provider's verdict.
#[track_caller]
fn assert_told(end: &Value, state: &str, reason: &str, provider: &str) {
    let told = (&end["state"], &end["reason_code"], &end["verdicts"]["provider"]);
    assert_eq!(told, (&state.into(), &reason.into(), &provider.into()), "{end:#}");
}

#[test]
fn exit_0_after_an_error_is_a_failure() {
    let claude = World::new("claude-code");
    // Each of these says `"subtype":"success"` beside `"is_error":true`.
    for (case, reason) in [
        ("http-401", "claude_code_auth_blocked"),
        ("not-logged-in", "claude_code_auth_blocked"),
        ("429-quota", "claude_code_rate_limited"),
        ("http-404", "claude_code_model_unavailable"),
        ("http-500", "provider_reported_error"),
        ("garbage-after-tool", "provider_reported_error"),
        ("drop", "provider_unreachable"),
        ("max-turns", "provider_reported_error"),
    ] {
        let text = std::fs::read_to_string(claude.fixtures.join(format!("{case}.out"))).unwrap();
        assert!(case == "max-turns" || text.contains(r#""subtype":"success""#), "{case}");
        let end = claude.play(case, "echo work >work.txt", 0);
        assert_told(&end, "exited_err", reason, "failed");
        assert_eq!(end["outcome"]["exit"], serde_json::json!({ "code": 0 }), "{case}");
    }
    let codex = World::new("codex");
    for (case, reason) in [
        ("http-401", "codex_auth_blocked"),
        ("no-key", "codex_auth_blocked"),
        ("429-plan", "codex_rate_limited"),
        ("429-quota", "codex_rate_limited"),
        ("429-capacity", "codex_rate_limited"),
        ("http-404", "codex_model_unavailable"),
        ("http-500", "provider_reported_error"),
        ("garbage-after-tool", "provider_reported_error"),
        ("drop", "provider_unreachable"),
        ("unreachable", "provider_unreachable"),
    ] {
        assert_told(&codex.play(case, "echo work >work.txt", 0), "exited_err", reason, "failed");
    }
    let opencode = World::new("opencode");
    for (case, reason) in [
        ("http-401", "opencode_auth_blocked"),
        ("429-quota", "opencode_rate_limited"),
        ("http-500", "opencode_server_error"),
        ("unknown-agent", "opencode_agent_missing"),
        ("unreachable", "provider_unreachable"),
        ("drop-given-up", "provider_unreachable"),
    ] {
        assert_told(&opencode.play(case, "echo work >work.txt", 0), "exited_err", reason, "failed");
    }
    let gemini = World::new("gemini");
    for (case, reason) in [
        ("http-401", "gemini_auth_blocked"),
        ("429-quota", "gemini_capacity_exhausted"),
        ("http-500", "provider_reported_error"),
        ("drop", "provider_unreachable"),
        ("empty", "provider_reported_error"),
        ("loop", "provider_reported_error"),
    ] {
        assert_told(&gemini.play(case, "echo work >work.txt", 0), "exited_err", reason, "failed");
    }
}

#[test]
fn exit_0_after_a_refusal_is_a_failure() {
    for (provider, cases) in [
        ("claude-code", ["permission-refused", "permission-dont-ask"]),
        ("codex", ["rule-forbids", "patch-outside"]),
        ("opencode", ["permission-refused", "permission-ask-bash"]),
        ("gemini", ["permission-refused", "permission-no-yolo"]),
    ] {
        let world = World::new(provider);
        for case in cases {
            // Whatever else it did well.
            let end = world.play(case, "echo work >work.txt", 0);
            assert_told(&end, "exited_err", "permission_denied_by_agent", "refused");
            assert_eq!(end["outcome"]["exit_code"], "0");
            assert!(!end["outcome"]["detail"].as_str().unwrap().is_empty(), "what was refused: {end:#}");
        }
    }
}

#[test]
fn exit_0_without_a_result_is_a_failure() {
    for provider in ["claude-code", "codex", "gemini", "opencode"] {
        let world = World::new(provider);
        let end = world.play("tool-killed", "echo work >work.txt", 0);
        assert_told(&end, "exited_err", "provider_no_result", "no_result");
    }
}

#[test]
fn a_file_that_is_not_there_is_no_clean_success() {
    for provider in ["claude-code", "codex", "gemini", "opencode"] {
        let world = World::new(provider);
        // The transcript tells a finished write of a file.
        let end = world.play("success-write", "", 0);
        assert_told(&end, "exited_ok", "exit_zero_no_mutations", "ok");
        assert_eq!(
            (&end["verdicts"]["work"], &end["mutation_count"]),
            (&"none".into(), &0.into()),
            "{end:#}"
        );
        // With it, the same transcript is success.
        let end = world.play("success-write", "echo hi >a.txt", 0);
        assert_told(&end, "exited_ok", "process_exit_with_rc", "ok");
    }
}

#[test]
fn an_answer_without_a_change_is_no_failure() {
    let claude = World::new("claude-code");
    for case in ["text-only", "empty", "fail-text", "read-missing"] {
        assert_told(&claude.play(case, "", 0), "exited_ok", "exit_zero_no_mutations", "ok");
    }
    let codex = World::new("codex");
    for case in ["text-only", "empty", "bash-fail", "read-missing"] {
        assert_told(&codex.play(case, "", 0), "exited_ok", "exit_zero_no_mutations", "ok");
    }
    let opencode = World::new("opencode");
    for case in ["empty", "fail-text", "read-missing"] {
        assert_told(&opencode.play(case, "", 0), "exited_ok", "exit_zero_no_mutations", "ok");
    }
}

#[test]
fn a_good_result_does_not_make_a_bad_exit_good() {
    for provider in ["claude-code", "codex", "gemini", "opencode"] {
        let world = World::new(provider);
        let end = world.play("success-write", "echo hi >a.txt", 3);
        assert_told(&end, "exited_err", "process_exit_with_rc", "ok");
        assert_eq!(end["outcome"]["exit_code"], "3");
    }
}
