//! `task`: work that is described in files below `.ai/tasks`.
//!
//! Called by: `commands::run`. Must never: write a task's files itself; that is the engine's and the agents'.

use clap::{Args, Subcommand, ValueEnum};
use dx_engine::TaskRunRequest;
use dx_protocol::{
    ExitCode, ProviderName, TaskCheckDocument, TaskDocument, TaskRow, TaskStatus, TaskStepState,
    TasksDocument,
};

use super::workflow::finding_text;
use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;

/// Make, check, show and run tasks: work that is described in files
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner task new \"Add a --json flag\"
  dx-runner task check 7")]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Make the folder of a new task and print its path
    #[command(after_help = "Example:\n  dx-runner task new \"Add a --json flag\"")]
    New {
        /// A few words; the folder is named after them
        #[arg(value_name = "TITLE")]
        title: String,
    },
    /// All tasks of this project, a line each
    #[command(after_help = "Example:\n  dx-runner task list")]
    List,
    /// One task: what it says, and how it stands
    #[command(after_help = "Example:\n  dx-runner task show 7")]
    Show {
        /// Its number or name
        #[arg(value_name = "TASK")]
        task: String,
    },
    /// Look for mistakes in specifications, plans, reports and project facts
    #[command(after_help = "Example:\n  dx-runner task check 7")]
    Check {
        /// Its number or name; left out, all tasks
        #[arg(value_name = "TASK")]
        task: Option<String>,
    },
    /// The task that can be run next, and what the others wait for
    #[command(after_help = "Example:\n  dx-runner task next")]
    Next,
    /// Draw the units of a plan
    #[command(after_help = "Example:\n  dx-runner task graph 7 --format mermaid")]
    Graph {
        /// Its number or name
        #[arg(value_name = "TASK")]
        task: String,
        /// How it is drawn
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
    /// Carry out a task: its agents in order, its tests, the validator last
    #[command(after_help = "Example:\n  dx-runner task run 7")]
    Run(RunArgs),
    /// Say yes to a plan of several units, as it is now
    #[command(after_help = "Example:\n  dx-runner task approve 7")]
    Approve {
        /// Its number or name
        #[arg(value_name = "TASK")]
        task: String,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Its number or name
    #[arg(value_name = "TASK")]
    task: String,
    /// Which provider runs the agents
    #[arg(long, value_name = "PROVIDER", default_value = "opencode")]
    provider: ProviderName,
    /// `auto`: work in a worktree of its own instead of here
    #[arg(long, value_name = "auto")]
    worktree: Option<Own>,
    /// The model of all agents
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The model of the test-writer
    #[arg(long, value_name = "MODEL")]
    model_test_writer: Option<String>,
    /// The model of the implementer
    #[arg(long, value_name = "MODEL")]
    model_implementer: Option<String>,
    /// The model of the documentation agent
    #[arg(long, value_name = "MODEL")]
    model_documentation: Option<String>,
    /// The model of the validator
    #[arg(long, value_name = "MODEL")]
    model_validator: Option<String>,
    /// Take models that are not the configured ones
    #[arg(long)]
    allow_model_override: bool,
    /// Begin anew after a run that ended without being done
    #[arg(long)]
    again: bool,
    /// Say yes to a plan of several units, as it is now
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Own {
    Auto,
}

impl RunArgs {
    fn request(&self) -> TaskRunRequest {
        let models = [
            ("test-writer", &self.model_test_writer),
            ("implementer", &self.model_implementer),
            ("documentation", &self.model_documentation),
            ("validator", &self.model_validator),
        ];
        let named = models.into_iter().filter_map(|(agent, model)| Some((agent.to_owned(), model.clone()?)));
        TaskRunRequest {
            task: self.task.clone(),
            provider: self.provider.clone(),
            own_worktree: self.worktree.is_some(),
            model: self.model.clone(),
            models: named.collect(),
            allow_model_override: self.allow_model_override,
            again: self.again,
            yes: self.yes,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Dot,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &TaskArgs) -> Result<ExitCode, CliError> {
    let engine = &ctx.engine;
    match &args.command {
        TaskCommand::New { title } => {
            let document = engine.task_new(title)?;
            ctx.out.either(&document, || document.path.clone())?;
        }
        TaskCommand::List => {
            let document = engine.task_list()?;
            ctx.out.either(&document, || list_text(&document))?;
        }
        TaskCommand::Next => {
            let document = engine.task_list()?;
            ctx.out.either(&document, || next_text(&document))?;
        }
        TaskCommand::Show { task } => {
            let document = engine.task_show(task)?;
            ctx.out.either(&document, || text(&document))?;
        }
        TaskCommand::Approve { task } => {
            let document = engine.task_approve(task)?;
            ctx.out.either(&document, || text(&document))?;
        }
        TaskCommand::Run(args) => {
            let document = engine.task_run(&args.request())?;
            ctx.out.either(&document, || text(&document))?;
            return Ok(exit_code(&document));
        }
        TaskCommand::Graph { task, format } => {
            let document = engine.task_show(task)?;
            ctx.out.either(&document, || graph(&document, *format))?;
        }
        TaskCommand::Check { task } => {
            let document = engine.task_check(task.as_deref())?;
            ctx.out.either(&document, || check_text(&document))?;
            return Ok(if document.findings.is_empty() { ExitCode::Ok } else { ExitCode::Error });
        }
    }
    Ok(ExitCode::Ok)
}

/// By what ended it; what is the agent's fault and has no code of ours is a failed job.
fn exit_code(document: &TaskDocument) -> ExitCode {
    let reason = document.state.as_ref().and_then(|state| state.reason_code);
    match (document.status, reason.map(dx_protocol::ReasonCode::exit_code)) {
        (TaskStatus::Done, _) => ExitCode::Ok,
        (_, None | Some(ExitCode::Ok)) => ExitCode::JobError,
        (_, Some(code)) => code,
    }
}

fn list_text(document: &TasksDocument) -> String {
    if document.tasks.is_empty() {
        return "no tasks; dx-runner task new TITLE makes one".to_owned();
    }
    let header = ["TASK", "STATUS", "UNITS", "WAITS FOR", "TITLE"].map(ToOwned::to_owned).to_vec();
    let row = |row: &TaskRow| {
        let status = row.status.as_str().to_owned();
        vec![row.id.clone(), status, row.units.to_string(), row.waits_for.clone(), row.title.clone()]
    };
    lines_of(header, document.tasks.iter().map(row).collect()).join("\n")
}

fn next_text(document: &TasksDocument) -> String {
    let mut lines = vec![match &document.next {
        Some(next) => format!("next: {next}"),
        None => "no task can be run now".to_owned(),
    }];
    let others = document.tasks.iter().filter(|row| row.waits_for != "-" && row.status.as_str() != "done");
    lines.extend(others.map(|row| format!("  {} waits for {}", row.id, row.waits_for)));
    lines.join("\n")
}

/// One task for people.
pub(crate) fn text(document: &TaskDocument) -> String {
    let mut lines = vec![format!("{}: {} ({})", document.id, document.title, document.status.as_str())];
    let mut list = |what: &str, items: &[String]| {
        if !items.is_empty() {
            lines.push(format!("  {what}: {}", items.join(", ")));
        }
    };
    list("runs", &document.execution);
    list("tests", &document.test_paths);
    list("test commands", &document.test_commands);
    list("reports", &document.reports);
    list("reports of earlier attempts", &document.earlier_reports);
    for unit in &document.units {
        let needs: Vec<String> = unit.needs.iter().map(u32::to_string).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(", needs {}", needs.join(", ")) };
        lines.push(format!("  {}: {} ({}{needs})", unit.folder, unit.delivers, unit.status.as_str()));
    }
    if !document.units.is_empty() {
        lines.push(format!("  approved: {}", if document.approved { "yes" } else { "no" }));
    }
    if let Some(state) = &document.state {
        if !state.worktree.is_empty() {
            lines.push(format!("  agents work in: {}", state.worktree));
        }
        if let Some(branch) = &state.branch {
            lines.push(format!("  work: on branch {branch}"));
        }
        for step in &state.steps {
            let result = match step.state {
                TaskStepState::Running => "running",
                TaskStepState::Passed => "passed",
                TaskStepState::Failed => "failed",
            };
            let by = if step.by.is_empty() { String::new() } else { format!(", by {}", step.by) };
            lines.push(format!("  {} (round {}{by}): {result}", step.agent, step.round));
            lines.extend(step.notes.iter().map(|note| format!("    {note}")));
        }
        for command in &state.commands {
            let result = match command.exit_code {
                _ if command.running => "running".to_owned(),
                None => "exit code -".to_owned(),
                Some(code) => format!("exit code {code}"),
            };
            lines.push(format!("  `{}` (round {}): {result}", command.command, command.round));
        }
        if let Some(reason) = state.reason_code {
            lines.push(format!("  {reason}: {}", state.message));
        }
    }
    if document.next_action != "-" {
        lines.push(format!("  next: {}", document.next_action));
    }
    lines.join("\n")
}

fn check_text(document: &TaskCheckDocument) -> String {
    let mut lines: Vec<String> = document.findings.iter().map(finding_text).collect();
    let found = match document.findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    lines.push(format!("{} tasks: {found}", document.tasks.len()));
    lines.join("\n")
}

/// The units; a task without units is one node.
fn graph(document: &TaskDocument, format: Format) -> String {
    let units = &document.units;
    let name = |text: &str| text.replace(['"', '\\'], "'");
    let edges = units.iter().flat_map(|unit| unit.needs.iter().map(move |need| (*need, unit.number)));
    match format {
        Format::Text => {
            let mut lines = vec![format!("{}: {} units", document.id, units.len())];
            let layers = document.layers.iter().enumerate();
            let mut groups: Vec<(String, Vec<u32>)> =
                layers.map(|(index, layer)| (format!("layer {}", index + 1), layer.clone())).collect();
            if groups.is_empty() && !units.is_empty() {
                let name =
                    format!("no order: units wait for one another; dx-runner task check {}", document.id);
                groups.push((name, units.iter().map(|unit| unit.number).collect()));
            }
            for (name, layer) in groups {
                lines.push(name);
                for unit in units.iter().filter(|unit| layer.contains(&unit.number)) {
                    let list =
                        |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                    let needs = if unit.needs.is_empty() {
                        String::new()
                    } else {
                        format!("  needs {}", list(&unit.needs))
                    };
                    let with = if unit.parallel_with.is_empty() {
                        String::new()
                    } else {
                        format!("  parallel with {}", list(&unit.parallel_with))
                    };
                    lines.push(format!("  {}  {}{needs}{with}", unit.folder, unit.status.as_str()));
                }
            }
            lines.join("\n")
        }
        Format::Mermaid => {
            let mut lines = vec!["graph TD".to_owned()];
            lines.extend(units.iter().map(|unit| format!("  u{}[\"{}\"]", unit.number, name(&unit.folder))));
            lines.extend(edges.map(|(from, to)| format!("  u{from} --> u{to}")));
            lines.join("\n")
        }
        Format::Dot => {
            let mut lines =
                vec![format!("digraph \"{}\" {{", name(&document.id)), "  rankdir=TB;".to_owned()];
            lines.extend(
                units.iter().map(|unit| format!("  u{} [label=\"{}\"];", unit.number, name(&unit.folder))),
            );
            lines.extend(edges.map(|(from, to)| format!("  u{from} -> u{to};")));
            lines.push("}".to_owned());
            lines.join("\n")
        }
    }
}
