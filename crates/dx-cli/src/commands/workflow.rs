//! `workflow`: the agent pack for OpenCode.
//!
//! Called by: `commands::run`. Must never: write a file of the user's itself; that is the engine's.

use clap::{Args, Subcommand, ValueEnum};
use dx_engine::{ModelsRequest, WorkflowScope};
use dx_protocol::{
    ExitCode, PackFileAction, PackFinding, ReasonCode, WorkflowCheckDocument, WorkflowDocument,
    WorkflowModelsDocument,
};
use std::io::IsTerminal;

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
    /// Show or set the models of the specialists
    #[command(
        after_help = "Example:\n  dx-runner workflow models set --med anthropic/claude-sonnet-4-5 --low openai/gpt-5-mini"
    )]
    Models {
        #[command(subcommand)]
        what: Option<ModelsCommand>,
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

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// What is set, and what OpenCode lists (the default)
    #[command(after_help = "Example:\n  dx-runner workflow models show")]
    Show,
    /// Write one model for each group into opencode.jsonc of this project
    #[command(after_help = "Example:\n  dx-runner workflow models set --med a/large --low a/small --yes")]
    Set {
        /// For validator, test-writer, documentation and init
        #[arg(long, value_name = "PROVIDER/MODEL")]
        med: String,
        /// For implementer, research, executor, shipper and model-config
        #[arg(long, value_name = "PROVIDER/MODEL")]
        low: String,
        /// A variant, for those of the two models that have it
        #[arg(long, value_name = "VARIANT")]
        variant: Option<String>,
        /// Write without asking
        #[arg(long)]
        yes: bool,
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
        WorkflowCommand::Models { what } => return models(ctx, what.as_ref()),
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

fn models(ctx: &Context, what: Option<&ModelsCommand>) -> Result<ExitCode, CliError> {
    let document = match what {
        None | Some(ModelsCommand::Show) => ctx.engine.workflow_models()?,
        Some(ModelsCommand::Set { med, low, variant, yes }) => {
            let request = ModelsRequest { med: med.clone(), low: low.clone(), variant: variant.clone() };
            let plan = ctx.engine.workflow_models_plan(&request)?;
            if plan.changed && !yes && !agreed(ctx, &plan)? {
                let message = format!("{} was not written", plan.file);
                return Err(CliError::refused(ReasonCode::ConsentNeeded, message));
            }
            ctx.engine.workflow_models_set(&request)?
        }
    };
    // Here and not in the text, which is also what is asked about.
    let restart = if document.changed { "\nrestart OpenCode, so that it reads them" } else { "" };
    ctx.out.either(&document, || models_text(&document) + restart)?;
    Ok(ExitCode::Ok)
}

/// The user's yes, on a terminal; elsewhere nobody can give it.
fn agreed(ctx: &Context, plan: &WorkflowModelsDocument) -> Result<bool, CliError> {
    if ctx.out.is_json() || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    ctx.out.line(models_text(plan))?;
    ctx.out.note(format!("Write this to {}? [y/N]", plan.file));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|source| CliError::Io {
        what: "read your answer".to_owned(),
        reason: ReasonCode::Internal,
        source,
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn models_text(document: &WorkflowModelsDocument) -> String {
    let mut lines = vec![format!("{}:", document.file)];
    for row in &document.agents {
        let variant = if row.variant == "-" { String::new() } else { format!(", variant {}", row.variant) };
        lines.push(format!("  {} {}: {}{variant}", row.group, row.agent, row.model));
    }
    lines.push("available:".to_owned());
    for model in &document.available {
        let variants = if model.variants.is_empty() {
            String::new()
        } else {
            format!(" ({})", model.variants.join(", "))
        };
        lines.push(format!("  {}{variants}", model.model));
    }
    lines.join("\n")
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
