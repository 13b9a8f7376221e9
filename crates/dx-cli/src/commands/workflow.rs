//! `workflow`: the agent pack for OpenCode.
//!
//! Called by: `commands::run`. Must never: write a file of the user's itself; that is the engine's.

use clap::{Args, Subcommand, ValueEnum};
use dx_engine::WorkflowScope;
use dx_protocol::{ExitCode, PackFileAction, PackFinding, WorkflowCheckDocument, WorkflowDocument};

use crate::context::Context;
use crate::error::CliError;

/// Install, check and remove the agent pack: specialists for OpenCode
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner workflow install
  dx-runner workflow check --live")]
pub(crate) struct WorkflowArgs {
    #[command(subcommand)]
    command: WorkflowCommand,
}

#[derive(Debug, Subcommand)]
enum WorkflowCommand {
    /// Put the agents and commands where OpenCode reads them; files that you changed are kept
    #[command(after_help = "Example:\n  dx-runner workflow install --scope project --dry-run")]
    Install {
        #[command(flatten)]
        place: Place,
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Replace files that you changed, after a backup
        #[arg(long)]
        force: bool,
    },
    /// Show how the installed files stand to this version's
    #[command(after_help = "Example:\n  dx-runner workflow status --scope project")]
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Show what an installation would change in the files, line by line
    #[command(after_help = "Example:\n  dx-runner workflow diff")]
    Diff {
        #[command(flatten)]
        place: Place,
    },
    /// Look for mistakes in the pack of this program, or with --scope in what is installed
    #[command(after_help = "Example:\n  dx-runner workflow check --scope global --live")]
    Check {
        /// Look at the installed files here instead of the package
        #[arg(long, value_name = "SCOPE")]
        scope: Option<Scope>,
        /// Let the installed OpenCode load it, and compare what each agent may do with the table of roles
        #[arg(long)]
        live: bool,
    },
    /// Remove the files that are as they were installed; those that you changed stay
    #[command(after_help = "Example:\n  dx-runner workflow uninstall --scope project")]
    Uninstall {
        #[command(flatten)]
        place: Place,
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Undo the installation that made a backup
    #[command(after_help = "Example:\n  dx-runner workflow restore")]
    Restore {
        /// Which backup; left out, the newest
        #[arg(value_name = "BACKUP")]
        backup: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Your own configuration of OpenCode, or .opencode of this project
    #[arg(long, value_name = "SCOPE", default_value = "global")]
    scope: Scope,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    Global,
    Project,
}

impl From<Scope> for WorkflowScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => Self::Global,
            Scope::Project => Self::Project,
        }
    }
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &WorkflowArgs) -> Result<ExitCode, CliError> {
    let engine = &ctx.engine;
    let document = match &args.command {
        WorkflowCommand::Install { place, dry_run, force } => {
            engine.workflow_install(place.scope.into(), *force, *dry_run)?
        }
        WorkflowCommand::Status { place } => engine.workflow_status(place.scope.into())?,
        WorkflowCommand::Uninstall { place, dry_run } => {
            engine.workflow_uninstall(place.scope.into(), *dry_run)?
        }
        WorkflowCommand::Restore { backup, place } => {
            engine.workflow_restore(place.scope.into(), backup.as_deref())?
        }
        WorkflowCommand::Diff { place } => {
            let document = engine.workflow_diff(place.scope.into())?;
            if ctx.out.is_json() {
                ctx.out.json(&document)?;
            } else if !document.diff.is_empty() {
                ctx.out.line(document.diff.trim_end())?;
            }
            return Ok(ExitCode::Ok);
        }
        WorkflowCommand::Check { scope, live } => {
            let document = engine.workflow_check(scope.map(WorkflowScope::from), *live)?;
            ctx.out.either(&document, || check_text(&document))?;
            return Ok(if document.findings.is_empty() { ExitCode::Ok } else { ExitCode::Error });
        }
    };
    ctx.out.either(&document, || text(&document))?;
    Ok(ExitCode::Ok)
}

fn text(document: &WorkflowDocument) -> String {
    let installed = match &document.installed_version {
        Some(version) => format!("version {version} was installed"),
        None => "it was not installed".to_owned(),
    };
    let mut lines =
        vec![format!("pack {} for {} ({}); {installed}", document.version, document.target, document.scope)];
    let is_status = document.action == "status";
    for row in &document.files {
        if row.action == PackFileAction::None && !is_status {
            continue;
        }
        let done = match row.action {
            PackFileAction::None => String::new(),
            action => format!(", {}", action.as_str()),
        };
        lines.push(format!("  {}: {}{done}", row.path, row.state.as_str()));
        lines.extend(row.backup.iter().map(|backup| format!("    its old content: {backup}")));
    }
    if !document.changed && !is_status {
        lines.push("nothing has to be changed".to_owned());
    } else if document.dry_run && !is_status {
        lines.push("nothing was written".to_owned());
    }
    if !document.backups.is_empty() {
        lines.push(format!("backups: {}", document.backups.join(", ")));
    }
    if document.next_action != "-" {
        lines.push(format!("next: {}", document.next_action));
    }
    lines.join("\n")
}

fn check_text(document: &WorkflowCheckDocument) -> String {
    let mut lines: Vec<String> = document.findings.iter().map(finding_text).collect();
    let by = document.live.as_ref().map(|version| format!(", loaded by OpenCode {version}"));
    let found = match document.findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    lines.push(format!("{}: {} files{}: {found}", document.subject, document.files, by.unwrap_or_default()));
    lines.join("\n")
}

/// One finding, as compilers write them.
pub(crate) fn finding_text(finding: &PackFinding) -> String {
    let PackFinding { file, line, rule, message, fix } = finding;
    format!("{file}:{line}: {message} [{rule}]\n  fix: {fix}")
}
