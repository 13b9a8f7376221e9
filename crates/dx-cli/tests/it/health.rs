//! Health with real agents: a silent tool is not stalled, a dead connection is, a wait for a rate limit is not; and a
//! question that nobody answers is `awaiting_input`. The scripted cases run in `cargo xtask soak health`.
//!
//! Needs `DX_TEST_AGENTS_DIR` for the real agents; without it their tests say that they were left out. Thresholds are
//! shortened. Must never: assert a time; what is asserted are verdicts, at looks at which the silence is longer than the
//! threshold by the product's own observation.

#[allow(dead_code, reason = "the soak test runs them")]
mod cases;

use crate::environment;
use crate::real_agent::agents_dir;
use crate::world::World;
use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};
use dx_testkit::{Output, TestEnv, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(4);
/// Seconds without progress until `stalled`.
const STALL: f64 = 4.0;

/// One real agent and its model.
struct Real {
    env: TestEnv,
    _model: ScriptedModel,
    repository: PathBuf,
}

impl Real {
    /// `None` without the real agents, which is said.
    fn new(program: &str) -> Option<Self> {
        let agents = agents_dir()?;
        let mut env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        env.link_program(program, agents.join(program));
        env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("ANTHROPIC_BASE_URL", model.root_url());
        env.set("ANTHROPIC_AUTH_TOKEN", "fake");
        env.set("DX_RUNNER_STALL_SEC", STALL.to_string());
        env.set("DX_RUNNER_GRACE_MS", "1000");
        let repository = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Some(Self { env, _model: model, repository })
    }

    /// Starts the agent with a model that plays the scenario.
    #[track_caller]
    fn start(&self, provider: &str, scenario: &str) -> Output {
        let worktree = self.repository.display().to_string();
        let mut args = vec!["start", "--beads", "job", "--provider", provider, "--prompt-file", "-"];
        args.extend(["--worktree", &worktree]);
        if provider == "opencode" {
            args.extend(["--model", "mock/m1", "--allow-model-override"]);
        }
        self.env.run_with_stdin(&args, format!("Do the task [[mock:{scenario}]]")).assert_code(0)
    }

    fn look(&self) -> Look {
        let output = self.env.run(&["check", "--beads", "job", "--json", "--explain"]);
        Look(serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}")))
    }

    /// Looks until the verdict is this one by this rule, and no progress was heard of for longer than the threshold. Once
    /// the verdict was seen, no look may say that the job stalled.
    #[track_caller]
    fn until_silent(&self, reason: &str, rule: &str) -> Look {
        let (mut begun, mut last) = (false, None);
        wait_until(PATIENCE, &format!("silent with {reason} by {rule}"), || {
            let look = self.look();
            begun |= look.is("healthy", reason, rule);
            assert!(!begun || look.0["state"] == "healthy", "a false alarm: {:#}", look.0);
            let done = look.is("healthy", reason, rule) && look.seconds("log_age") > STALL;
            last = Some(look);
            done
        });
        last.unwrap()
    }

    #[track_caller]
    fn until_stalled(&self) -> Look {
        let mut last = None;
        wait_until(PATIENCE, "stalled", || {
            let look = self.look();
            assert_eq!(look.0["ended"], false, "{:#}", look.0);
            let done = look.0["state"] == "stalled";
            last = Some(look);
            done
        });
        last.unwrap()
    }
}

/// One `check --explain --json`.
struct Look(Value);

impl Look {
    fn is(&self, state: &str, reason: &str, rule: &str) -> bool {
        self.0["state"] == state && self.0["reason_code"] == reason && self.0["explain"]["rule"] == rule
    }

    /// One fact of the observation.
    #[track_caller]
    fn fact(&self, name: &str) -> String {
        let facts = self.0["explain"]["observation"].as_array().unwrap();
        let mut facts = facts.iter().filter_map(|fact| fact.as_str()?.strip_prefix(name)?.strip_prefix('='));
        facts.next().unwrap_or_else(|| panic!("no {name} in {:#}", self.0)).to_owned()
    }

    /// Seconds of a fact, 0 when it never was.
    fn seconds(&self, name: &str) -> f64 {
        self.fact(name).trim_end_matches('s').parse().unwrap_or(0.0)
    }

    #[track_caller]
    fn assert_stalled(&self) {
        assert!(["no_progress", "stale_log_no_cpu"].contains(&self.0["reason_code"].as_str().unwrap()));
        assert_eq!(self.0["explain"]["rule"], "stalled", "{:#}", self.0);
        assert!(self.0["next_action"].as_str().is_some_and(|next| !next.is_empty()), "{:#}", self.0);
        for age in ["event_age", "log_age", "cpu_growth_age"] {
            assert!(self.fact(age) == "never" || self.seconds(age) >= STALL, "{age} in {:#}", self.0);
        }
    }
}

/// A tool that is silent for longer than the threshold, a rate limit with a reset time, then a dead connection: all in the
/// life of one job.
fn a_life(real: &Real, provider: &str, told: &str) {
    let go = real.env.path("go");
    // Waits without output and nearly without CPU.
    let tool = format!("true; while [ ! -e {} ]; do sleep 1; done", go.display());
    real.start(provider, &format!("bash:{tool},429:after=9,hang"));
    let look = real.until_silent("tool_in_flight", "tool_in_flight");
    assert!(look.fact("wait").starts_with("tool "), "{:#}", look.0);
    std::fs::write(&go, "").unwrap();
    let look = real.until_silent("rate_limited_waiting", "known_wait");
    assert!(
        look.fact("wait").starts_with("rate_limit, ") && look.fact("wait").contains(told),
        "{:#}",
        look.0
    );
    real.until_stalled().assert_stalled();
    real.env.run(&["stop", "--beads", "job", "--grace", "0s"]).assert_code(0);
}

#[test]
fn a_life_of_claude_code() {
    let Some(real) = Real::new("claude") else { return };
    a_life(&real, "claude-code", "");
}

#[test]
fn a_life_of_opencode() {
    let _turn = crate::opencode::turn();
    let Some(real) = Real::new("opencode") else { return };
    // It does not say for how long.
    a_life(&real, "opencode", "no time told");
}

/// The first call is never answered: nothing was ever heard.
#[test]
fn a_dead_connection_from_the_beginning() {
    let _turn = crate::opencode::turn();
    for (provider, program) in [("claude-code", "claude"), ("opencode", "opencode")] {
        let Some(real) = Real::new(program) else { return };
        real.start(provider, "hang");
        real.until_stalled().assert_stalled();
        real.env.run(&["stop", "--beads", "job", "--grace", "0s"]).assert_code(0);
    }
}

/// A command that asks its terminal, in the agent's place or below it.
#[test]
fn a_question_on_a_terminal_is_awaiting_input() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_STALL_SEC", "4");
    for (id, asks) in
        [("itself", "exec:sh\n-c\nread answer"), ("below", "exec:sh\n-c\ntrue; sh -c 'read answer'; true")]
    {
        world.start(id, &["--pty"], &["print:Continue? [y/N]", asks]);
        let (code, check) = world.until_state(id, "stalled", "awaiting_input");
        assert_eq!((code, &check["explain"]["rule"]), (2, &"awaiting_input".into()), "{check:#}");
        let look = Look(check);
        assert!(look.fact("wait").starts_with("input: sh reads from the terminal for "), "{:#}", look.0);
        let attention = world.json(0, &["status", "--attention"]);
        assert!(attention["jobs"].as_array().unwrap().iter().any(|job| job["beads"] == *id), "{attention:#}");
        world.env.run(&["stop", "--beads", id, "--grace", "0s"]).assert_code(0);
    }
}

/// The table in the guide is that of the scripted cases.
#[test]
fn the_guide_shows_the_cases() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/when-something-goes-wrong.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut table = String::from("| case |");
    for (name, _) in cases::MOMENTS {
        table.extend([" ", name, " |"]);
    }
    table.push_str("\n|---|---|---|---|\n");
    for case in cases::cases() {
        let cells = case.expected.map(|cell| cell.split(" or ").map(word).collect::<Vec<_>>().join(" or "));
        let _fits = writeln!(table, "| {} | {} |", case.name, cells.join(" | "));
    }
    assert!(page.contains(&table), "docs/guide/when-something-goes-wrong.md needs this table:\n\n{table}");
    let mut watched = String::from("| agent | by the watchdog |\n|---|---|\n");
    for case in cases::cases().iter().chain(&cases::unseen()) {
        let _fits = writeln!(watched, "| {} | {} |", case.name, case.watchdog);
    }
    assert!(page.contains(&watched), "the page needs this table:\n\n{watched}");
    let agents = format!("{} agents", cases::cases().len() + cases::unseen().len());
    assert!(page.contains(&agents), "the page does not say \"{agents}\"");
    let figures = format!("{} cases", cases::cases().len());
    assert!(page.contains(&figures), "the page does not say \"{figures}\"");
}

/// A verdict of the table, as the guide writes it.
fn word(verdict: &str) -> String {
    match verdict.split_once(' ') {
        Some((state, reason)) => format!("`{state}` (`{reason}`)"),
        None => format!("`{verdict}`"),
    }
}
