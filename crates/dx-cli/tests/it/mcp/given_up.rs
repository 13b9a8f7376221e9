//! Real agents that give up a call of a tool: by their own deadline, by an interrupt, or because they are killed.
//!
//! Needs `DX_TEST_AGENTS_DIR`; without it the tests say that they were left out.

use super::agents::{PATIENCE, World};
use dx_testkit::{describe, processes_with_marker, wait_until};
use serde_json::json;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

const INTERRUPT: i32 = 2;
const KILL: i32 = 9;

impl World {
    /// Has the agent start a job that goes on, and then ask a model that never answers. What its own model does after that never
    /// ends either.
    fn asks(&self, mut command: Command, prefix: &str) -> Child {
        let job = json!({ "provider": "exec", "beads": "goes-on", "worktree": self.repo, "command": ["sleep", "1000"] });
        let question = json!({ "prompt": "HANGS-INSIDE", "member": "openai:hanging/m1", "wait_seconds": 55 });
        let prompt =
            format!("OUTSIDE [[mock:tool:{prefix}job_start:{job},tool:{prefix}dispatch:{question},hang]]");
        let said = std::fs::File::create(self.env.path("said")).unwrap();
        command.stdin(Stdio::piped()).stdout(said.try_clone().unwrap()).stderr(said);
        let mut agent = crate::world::spawn(command);
        agent.stdin.take().unwrap().write_all(prompt.as_bytes()).unwrap();
        wait_until(PATIENCE, "the question has come to its model", || self.questions().len() == 1);
        agent
    }

    /// Whether each question from inside has lost its client.
    fn questions(&self) -> Vec<bool> {
        let calls = self.model.calls().into_iter();
        calls
            .filter(|call| call.prompt.contains("HANGS-INSIDE") && call.path.contains("/plain/"))
            .map(|call| call.client_gone)
            .collect()
    }

    /// The agent has gone on: its own model was told what became of the question.
    fn has_gone_on(&self) -> bool {
        self.model.calls().iter().any(|call| !call.path.contains("/plain/") && call.step == "hang")
    }

    /// The processes of the tools.
    fn servers(&self) -> Vec<i32> {
        let home = self.env.home().display().to_string();
        let found = processes_with_marker("HOME", &home);
        found
            .into_iter()
            .filter(|pid| [" mcp", " dispatch "].iter().any(|word| describe(*pid).contains(word)))
            .collect()
    }

    /// Ends the agent; the question has ended with it or before it, and only the job is left.
    fn ends(&self, mut agent: Child, signal: i32) {
        dx_testkit::send_signal(i32::try_from(agent.id()).unwrap(), signal);
        agent.wait().unwrap();
        wait_until(PATIENCE, "the question is given up", || self.questions() == [true]);
        wait_until(PATIENCE, "no server is left", || self.servers().is_empty());
        let check = self.env.run(&["check", "--beads", "goes-on", "--json"]);
        assert!(check.stdout.contains("\"ended\":false"), "{check}");
        self.env.run(&["stop", "--beads", "goes-on"]).assert_code(0);
        let home = self.env.home().display().to_string();
        wait_until(PATIENCE, "nothing is left", || processes_with_marker("HOME", &home).is_empty());
        assert_eq!(self.questions(), [true], "it was asked once");
    }
}

/// The client's own deadline for a tool: before the first note of progress, by which some begin to wait anew.
const SECONDS: u64 = 3;

#[test]
fn claude_code_is_interrupted() {
    let Some(world) = World::new() else { return };
    let agent = world.asks(world.claude(), "mcp__dx-runner__");
    world.ends(agent, INTERRUPT);
}

#[test]
fn opencode_is_killed() {
    let Some(world) = World::new() else { return };
    let _turn = crate::opencode::turn();
    let agent = world.asks(world.opencode(), "dx-runner_");
    world.ends(agent, KILL);
}

#[test]
fn gemini_loses_patience() {
    let Some(world) = World::new() else { return };
    let agent = world.asks(world.gemini(&json!({ "timeout": SECONDS * 1000 })), "mcp_dx-runner_");
    wait_until(PATIENCE, "it goes on", || world.has_gone_on());
    wait_until(PATIENCE, "the question is given up", || world.questions() == [true]);
    world.ends(agent, KILL);
}

#[test]
fn codex_loses_patience() {
    let Some(world) = World::new() else { return };
    let agent = world.asks(world.codex(&format!("tool_timeout_sec = {SECONDS}\n")), "mcp__dx_runner__");
    wait_until(PATIENCE, "it goes on", || world.has_gone_on());
    wait_until(PATIENCE, "the question is given up", || world.questions() == [true]);
    world.ends(agent, KILL);
}
