//! What an agent of a task is told: where the specification is, its hash, what its report is called, and what was found before.
//!
//! Must never: tell a rule that the agent's own definition does not have, or another model's words as if they were the user's.

use super::files::Task;
use dx_protocol::TaskState;
use dx_workflow::hash;
use dx_workflow::task::{Report, ReportKind, SPEC, VALIDATOR};
use std::fmt::Write;

/// The prompt of one turn.
pub(super) fn of(task: &Task, spec: &str, state: &TaskState, agent: &str, round: u32) -> String {
    let mut text = format!(
        "Task {}, step {agent}, round {round}.\n\nThe specification is {}. Read it, and .ai/context.md when it is there.\n\
         Its hash, for the line `Spec: sha256:<hash>` of a report: {}\n",
        task.id,
        task.path(SPEC),
        hash(spec.as_bytes())
    );
    // Writing to a String cannot fail.
    match ReportKind::of_agent(agent) {
        Some(kind) => {
            let _fits = writeln!(
                text,
                "Write your report to {}. Without it the step has failed.",
                task.path(kind.file())
            );
        }
        None => text.push_str("You write no report; your answer is enough.\n"),
    }
    text.push_str("Nobody can answer questions now.\n");
    if agent == VALIDATOR {
        let ran: Vec<_> = state.commands.iter().filter(|command| command.round == round).collect();
        text.push_str("\nThe runner's own record of the test commands:\n\n");
        if ran.is_empty() {
            text.push_str("none\n");
        }
        for command in ran {
            let code = command
                .exit_code
                .map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            let _fits = writeln!(text, "- `{}`: {code}\n{}", command.command, indented(&command.output));
        }
    } else if round > 0 {
        let report = super::files::text(&task.folder.join(ReportKind::Validation.file())).unwrap_or_default();
        let report = Report::parse(&report);
        text.push_str("\nThe validator did not accept the work.");
        if report.names_no_issue() {
            text.push_str(
                " It names no finding of its own: mend what keeps the test commands from passing.\n",
            );
        } else {
            let _fits = writeln!(text, " Mend exactly its blocking findings:\n\n{}", report.issues());
        }
        for command in state.commands.iter().filter(|c| c.round + 1 == round && c.exit_code != Some(0)) {
            let _fits = writeln!(
                text,
                "\nThis test command failed: `{}`\n{}",
                command.command,
                indented(&command.output)
            );
        }
    }
    text
}

fn indented(output: &str) -> String {
    output.lines().map(|line| format!("      {line}\n")).collect::<Vec<_>>().concat()
}
