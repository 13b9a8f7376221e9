//! What is told when the jobs have ended: how, at what cost, what each changed, and what to try next.
//!
//! Called by: `demo`. Must never: print a control character of an agent's, or claim what was not so.

use dx_protocol::{CheckDocument, ReasonCode, State};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::agent::Agent;
use super::tasks::Task;
use crate::context::Context;
use crate::error::CliError;
use crate::text;

/// Schema word of the document.
const SCHEMA: &str = "dx-runner/demo/1";
/// People see no more lines of one diff than this.
const DIFF_LINES: usize = 60;

/// `demo --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DemoDocument<'a> {
    schema: &'static str,
    /// Whether every job ended well and changed something.
    ok: bool,
    /// The provider that ran the jobs.
    provider: &'static str,
    /// Which agent that was.
    agent: &'static str,
    /// Where that agent is, or why it is this one.
    agent_remark: String,
    /// Always `scripted`.
    model: &'static str,
    /// What `--keep` kept; `-` without.
    folder: String,
    jobs: &'a [Job],
}

/// One job of the demo.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Job {
    beads: String,
    task: String,
    state: State,
    reason_code: ReasonCode,
    /// Decimal, or `-` when nobody saw the end.
    exit_code: String,
    duration_sec: u64,
    /// `null` when the agent does not tell.
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    /// Ended tool calls by name, where the agent tells them.
    tools: BTreeMap<String, u64>,
    worktree: String,
    /// In git's form.
    diff: String,
}

impl Job {
    /// From what the engine says of its end.
    pub(crate) fn new(task: &Task, end: &CheckDocument, diff: String) -> Self {
        let outcome = end.outcome.as_ref();
        Self {
            beads: end.beads.clone(),
            task: task.prompt.to_owned(),
            state: end.state,
            reason_code: end.reason_code,
            exit_code: outcome.map_or_else(|| "-".to_owned(), |outcome| outcome.exit_code.clone()),
            duration_sec: outcome.map_or(0, |outcome| outcome.duration_sec),
            tokens_in: end.tokens_in,
            tokens_out: end.tokens_out,
            tools: end.tools.clone(),
            worktree: end.worktree.clone(),
            diff,
        }
    }

    /// Whether it did what it was there for.
    pub(crate) fn went_well(&self) -> bool {
        self.state == State::ExitedOk && !self.diff.is_empty()
    }

    fn text(&self, colour: bool) -> String {
        let mut facts = vec![format!("exit code {}", self.exit_code), format!("{} s", self.duration_sec)];
        match (self.tokens_in, self.tokens_out) {
            (Some(input), Some(output)) => facts.push(format!("{input} tokens in, {output} out")),
            _ => facts.push("tokens not told".to_owned()),
        }
        let tools: Vec<String> = self.tools.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if !tools.is_empty() {
            facts.push(format!("tools: {}", tools.join(", ")));
        }
        let mut lines = vec![
            format!(
                "{}  {} ({})",
                paint("1", &self.beads, colour),
                text::coloured(self.state, self.state.as_str(), colour),
                self.reason_code
            ),
            format!("  {}", facts.join(", ")),
            format!("  \"{}\"", self.task),
        ];
        lines.extend(diff_lines(&self.diff, colour));
        lines.join("\n")
    }
}

/// Prints the end.
pub(crate) fn show(ctx: &Context, agent: &Agent, jobs: &[Job], kept: Option<&Path>) -> Result<(), CliError> {
    let well = jobs.iter().filter(|job| job.went_well()).count();
    let document = DemoDocument {
        schema: SCHEMA,
        ok: well == jobs.len(),
        provider: agent.provider(),
        agent: agent.name(),
        agent_remark: agent.remark(),
        model: "scripted",
        folder: kept.map_or_else(|| "-".to_owned(), |folder| folder.display().to_string()),
        jobs,
    };
    ctx.out.either(&document, || {
        let colour = ctx.out.has_colour();
        let mut parts: Vec<String> = vec![String::new()];
        parts.extend(jobs.iter().map(|job| format!("{}\n", job.text(colour))));
        parts.push(closing(agent, well, jobs.len(), kept));
        parts.join("\n")
    })
}

fn closing(agent: &Agent, well: usize, all: usize, kept: Option<&Path>) -> String {
    let mut lines = vec![
        format!("{well} of {all} jobs ended well. The agent was {}.", agent.name()),
        "The model was a script; processes, worktrees, exit codes and diffs were real.".to_owned(),
    ];
    match kept {
        Some(folder) => {
            let state = folder.join("state");
            lines.push(format!("Kept: {}", folder.display()));
            lines.push(format!("  dx-runner --state-dir {} status --all", state.display()));
        }
        None => lines.push("Repository and records are removed again (--keep leaves them).".to_owned()),
    }
    lines.push("\nNext, in a git repository of yours:".to_owned());
    lines.push("  dx-runner run opencode \"Fix the failing test\"".to_owned());
    lines.push("  dx-runner run exec -- make test        any command is a job".to_owned());
    if let Agent::BuiltIn(_) = agent {
        lines.push("  dx-runner demo --install               the same with the real OpenCode".to_owned());
    }
    lines.push("  dx-runner --help".to_owned());
    lines.join("\n")
}

/// The diff without what only machines read.
fn diff_lines(diff: &str, colour: bool) -> Vec<String> {
    let machine = ["diff --git ", "index ", "new file mode ", "--- "];
    let shown = diff.lines().filter(|line| !machine.iter().any(|word| line.starts_with(word)));
    let mut lines: Vec<String> = shown.map(|line| diff_line(line, colour)).collect();
    if lines.is_empty() {
        lines.push("    nothing was changed".to_owned());
    }
    if lines.len() > DIFF_LINES {
        let hidden = lines.len() - DIFF_LINES;
        lines.truncate(DIFF_LINES);
        lines.push(format!("    ... {hidden} more lines"));
    }
    lines
}

fn diff_line(line: &str, colour: bool) -> String {
    if let Some(file) = line.strip_prefix("+++ ") {
        return format!("  {}", paint("1", &printable(file.strip_prefix("b/").unwrap_or(file)), colour));
    }
    let code = match line.as_bytes().first() {
        Some(b'+') => "32",
        Some(b'-') => "31",
        Some(b'@') => "36",
        _ => "0",
    };
    format!("    {}", paint(code, &printable(line), colour))
}

fn printable(line: &str) -> String {
    let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    line.replace('\t', "    ").chars().map(safe).collect()
}

fn paint(code: &str, text: &str, colour: bool) -> String {
    if colour && !text.is_empty() && code != "0" {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_for_people() {
        let diff = "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\u{1b}[2J\n";
        assert_eq!(diff_lines(diff, false), ["  x", "    @@ -1 +1 @@", "    -a", "    +b\u{fffd}[2J"]);
        assert_eq!(diff_lines(diff, true)[2], "    \u{1b}[31m-a\u{1b}[0m");
        assert_eq!(diff_lines(&"+x\n".repeat(100), false).len(), DIFF_LINES + 1);
    }
}
