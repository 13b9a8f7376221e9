//! The gates as commands: each asks one and changes nothing. What they have in common is how an answer is told.
//!
//! Called by: `commands::run`. Must never: decide; the engine's gates are the same that `start` and the end of a job ask.

pub(crate) mod baseline;
pub(crate) mod beads;
pub(crate) mod evidence;
pub(crate) mod feature_key;
pub(crate) mod integrity;
pub(crate) mod permission;
pub(crate) mod scope;

use dx_protocol::{ExitCode, GateDocument};

use crate::context::Context;
use crate::error::CliError;

/// Tells the answer; a gate that refuses is no error of the command, and its exit code says which gate it was.
fn tell(ctx: &Context, answer: &GateDocument) -> Result<ExitCode, CliError> {
    ctx.out.either(answer, || text(answer))?;
    Ok(answer.exit_code())
}

/// A title, then a line for each fact that is there.
fn text(answer: &GateDocument) -> String {
    let report = &answer.report;
    let verdict = if report.passed { "passed" } else { "failed" };
    let mut lines = vec![
        format!("{} gate: {verdict} ({})", answer.gate.as_str(), report.reason_code),
        format!("  {}", report.details),
    ];
    let facts = &answer.facts;
    let numbers = [
        ("commits", facts.checked_commits),
        ("mutations", facts.mutations),
        ("paths", facts.checked_files),
        ("claims", facts.total_claims),
        ("verified", facts.verified_claims),
    ];
    let words = [
        ("worktree", &facts.worktree),
        ("runtime", &facts.runtime),
        ("required", &facts.required),
        ("reported", &facts.reported),
        ("branch", &facts.branch),
        ("head", &facts.head),
        ("base", &facts.base),
        ("feature key", &facts.feature_key),
        ("database", &facts.db_status),
        ("store here", &facts.repo_id_local),
        ("store in use", &facts.repo_id_db),
        ("external repository", &facts.external_repo),
        ("external remote", &facts.external_remote),
    ];
    let mut line = |name: &str, value: &str| lines.push(format!("  {name}: {value}"));
    for (name, value) in words {
        if let Some(value) = value {
            line(name, value);
        }
    }
    for (name, value) in numbers {
        if let Some(value) = value {
            line(name, &value.to_string());
        }
    }
    for commit in facts.commits_without_key.iter().flatten() {
        line("without the key", commit);
    }
    for path in facts.violations.iter().flatten() {
        line("not allowed", &path.escape_debug().to_string());
    }
    for claim in facts.claims.iter().flatten() {
        let word = if claim.verified { "true" } else { "not verified" };
        line(&format!("line {}", claim.line), &format!("{word}: {} ({})", claim.text, claim.how));
    }
    if !report.passed && answer.next_action != "-" {
        line("try", &answer.next_action);
    }
    lines.join("\n")
}
