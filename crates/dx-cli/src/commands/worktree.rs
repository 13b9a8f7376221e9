//! `worktree`: worktrees for jobs, made, listed, salvaged and removed.
//!
//! Called by: `commands::run`. Must never: touch a worktree itself; the engine does, under its locks.

use clap::{Args, Subcommand};
use dx_protocol::{BeadsId, ExitCode, WorktreeRow, WorktreeState, WorktreesDocument};
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;
use crate::text;
use dx_engine::WorktreeRequest;

/// Make, list, salvage and remove worktrees
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner worktree create bd-1 --repo ~/src/app
  dx-runner worktree list")]
pub(crate) struct WorktreeArgs {
    #[command(subcommand)]
    command: WorktreeCommand,
}

#[derive(Debug, Subcommand)]
enum WorktreeCommand {
    Create(CreateArgs),
    List(ListArgs),
    Remove(RemoveArgs),
    Salvage(SalvageArgs),
}

/// Make a worktree, or answer with the one that is there
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner worktree create bd-1 --repo ~/src/app --base origin/main")]
struct CreateArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    beads: BeadsId,
    /// A folder in the repository
    #[arg(long, value_name = "PATH")]
    repo: PathBuf,
    /// The commit it starts from; left out, what the repository is on
    #[arg(long, value_name = "REF")]
    base: Option<String>,
    /// The branch's name; left out, the id
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
}

/// Show all worktrees with owner, branch, commits ahead and behind, size and age
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner worktree list --json")]
struct ListArgs {}

/// Remove a worktree whose work is merged, pushed or salvaged
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner worktree remove bd-1")]
struct RemoveArgs {
    #[command(flatten)]
    which: Which,
}

/// Keep everything of a worktree as a ref, untracked files included
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner worktree salvage bd-1")]
struct SalvageArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Which {
    /// The job's id
    #[arg(value_name = "ID")]
    beads: BeadsId,
    /// The repository, when the id has worktrees of several
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &WorktreeArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        WorktreeCommand::Create(args) => create(ctx, args),
        WorktreeCommand::List(_) => list(ctx),
        WorktreeCommand::Remove(args) => remove(ctx, args),
        WorktreeCommand::Salvage(args) => salvage(ctx, args),
    }?;
    Ok(ExitCode::Ok)
}

fn create(ctx: &Context, args: &CreateArgs) -> Result<(), CliError> {
    let made = ctx.engine.worktree_create(&WorktreeRequest {
        beads: args.beads.clone(),
        repo: args.repo.clone(),
        base: args.base.clone(),
        branch: args.branch.clone(),
    })?;
    for remark in &made.remarks {
        ctx.out.note(remark);
    }
    ctx.out.either(&made, || {
        let word = if made.created { "created" } else { "exists" };
        format!("{word} {} branch={} base={}", made.path, made.branch, made.base)
    })
}

fn list(ctx: &Context) -> Result<(), CliError> {
    let all = ctx.engine.worktree_list()?;
    ctx.out.either(&all, || table(&all))
}

fn remove(ctx: &Context, args: &RemoveArgs) -> Result<(), CliError> {
    let removed = ctx.engine.worktree_remove(&args.which.beads, args.which.repo.as_deref())?;
    ctx.out.either(&removed, || {
        let branch = if removed.branch_removed { "removed too" } else { "kept" };
        format!("removed {}; branch {} {branch}", removed.path, removed.branch)
    })
}

fn salvage(ctx: &Context, args: &SalvageArgs) -> Result<(), CliError> {
    let kept = ctx.engine.worktree_salvage(&args.which.beads, args.which.repo.as_deref())?;
    ctx.out.either(&kept, || {
        let mut lines = vec![format!(
            "salvaged {} as {}\n  {} staged, {} unstaged, {} untracked files; HEAD is {}",
            kept.path, kept.r#ref, kept.staged, kept.unstaged, kept.untracked, kept.head
        )];
        lines.extend(kept.not_kept.iter().map(|what| format!("  not kept: {what}")));
        lines.push("to get it back:".to_owned());
        lines.extend(kept.restore.iter().map(|command| format!("  {command}")));
        lines.join("\n")
    })
}

fn table(all: &WorktreesDocument) -> String {
    let total = format!("{} worktrees, {} in {}", all.worktrees.len(), text::bytes(all.size_bytes), all.root);
    let total = match all.budget_bytes {
        Some(budget) => format!("{total}, of {}", text::bytes(budget)),
        None => total,
    };
    if all.worktrees.is_empty() {
        return total;
    }
    let header =
        ["ID", "BRANCH", "STATE", "AHEAD", "BEHIND", "JOB", "SIZE", "AGE", "PATH"].map(str::to_owned);
    let mut lines = lines_of(header.to_vec(), all.worktrees.iter().map(|row| cells(row).to_vec()).collect());
    lines.push(total);
    lines.join("\n")
}

fn cells(row: &WorktreeRow) -> [String; 9] {
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let state = match (row.state, row.dirty) {
        (WorktreeState::Ready, Some(true)) => "dirty",
        (WorktreeState::Ready, Some(false)) => "clean",
        (WorktreeState::Ready, None) => "unknown",
        (WorktreeState::Making, _) => "making",
        (WorktreeState::Removing, _) => "removing",
        (WorktreeState::Unrecorded, _) => "unrecorded",
        (WorktreeState::Broken, _) => "broken",
    };
    [
        row.beads.clone(),
        row.branch.clone(),
        state.to_owned(),
        number(row.ahead),
        number(row.behind),
        row.owner
            .as_ref()
            .map_or_else(|| "-".to_owned(), |owner| format!("{} {}", owner.provider, owner.state)),
        text::bytes(row.size_bytes),
        text::seconds(row.age_sec),
        row.path.clone(),
    ]
}
