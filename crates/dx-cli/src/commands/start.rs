//! `start`: a detached job.
//!
//! Called by: `commands::run`. Must never: keep the caller waiting for the job, unless `--wait` asks for it.

use clap::Args;
use dx_protocol::{Confinement, DryRunDocument, ExitCode, ProviderName, QueuePlace};
use std::path::PathBuf;

use super::start_options::{self, StartOptions};
use crate::context::Context;
use crate::error::CliError;
use crate::{commands, text, waiting};
use dx_engine::{WaitRequest, WorktreeChoice};

/// Start a job and return when it runs
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner start --beads bd-1 --provider opencode --prompt-file task.md --worktree auto
  dx-runner start --provider exec --worktree auto -- make test
  echo 'Fix the typo in README.md' | dx-runner start --provider opencode --prompt-file - --wait")]
pub(crate) struct StartArgs {
    /// The adapter that runs the agent; see `dx-runner providers`. May be left out when a profile or the configuration
    /// names one
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<ProviderName>,
    /// The prompt; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Then wait for the end and exit as `check`
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Show the resolved command, variables' names and files; start nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: StartOptions,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &StartArgs) -> Result<ExitCode, CliError> {
    let provider = args.options.provider(ctx, args.provider.as_ref(), WorktreeChoice::Inferred)?;
    let prompt = args.prompt_file.as_deref().map(start_options::prompt_file).transpose()?;
    let request = args.options.request(&provider, prompt, WorktreeChoice::Inferred);
    if args.dry_run {
        let plan = ctx.engine.dry_run(&request, args.options.queue)?;
        ctx.out.either(&plan, || plan_text(&plan))?;
        return Ok(ExitCode::Ok);
    }
    let started = args.options.start(ctx, &request)?;
    if !args.wait {
        start_options::report(ctx, "start", "started", &started)?;
        return Ok(ExitCode::Ok);
    }
    // One document per command: with --json the end is told, not the start.
    start_options::remark(ctx, &started);
    if !ctx.out.is_json() {
        ctx.out.line(start_options::started_line("started", &started))?;
    }
    let request = WaitRequest { jobs: vec![start_options::job_of(&started)], any: false, timeout: None };
    commands::wait::report(ctx, &waiting::wait(ctx, request)?, false)
}

fn plan_text(plan: &DryRunDocument) -> String {
    let list = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join(" ") };
    let argv: Vec<String> = plan.argv.iter().map(|word| quoted(word)).collect();
    let mut lines = vec![
        format!("would start beads={} provider={}", plan.beads, plan.provider),
        format!("  command: {}", argv.join(" ")),
        format!("  in: {}", plan.cwd),
        format!("  worktree: {}", plan.worktree),
        format!("  prompt: {} bytes by {}", plan.prompt_bytes, plan.prompt_channel),
        format!("  model: {} (fallback: {})", plan.selected_model, plan.fallback_reason),
        format!("  variables: {}", list(&plan.env_names)),
    ];
    lines.extend(plan.queue.as_ref().map(queue_line));
    let sandbox = &plan.sandbox;
    lines.push(format!("  sandbox: {}", text::sandbox(sandbox)));
    // Without one, its lists are about the check only.
    let whose = if sandbox.mode == Confinement::Strict { "" } else { " for the check" };
    lines.extend(sandbox.writable.iter().map(|path| format!("    writable{whose}: {path}")));
    lines.extend(sandbox.hidden.iter().map(|path| format!("    hidden{whose}: {path}")));
    lines.extend(plan.files.iter().map(|file| format!("  file: {file}")));
    lines.join("\n")
}

fn queue_line(place: &QueuePlace) -> String {
    if place.position == 0 {
        return "  queue: it would start at once".to_owned();
    }
    let (running, waiting) = (place.running.join(" "), place.waiting.join(" "));
    let ahead = if waiting.is_empty() { String::new() } else { format!("; before it: {waiting}") };
    format!("  queue: place {}; running: {running}{ahead}", place.position)
}

/// A word as a shell would read it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(["a-b/c=1", "", "a b", "it's"].map(quoted), ["a-b/c=1", "''", "'a b'", r"'it'\''s'"]);
    }
}
