//! `config`: what holds, where each value comes from, and why.
//!
//! Called by: `commands::run`. Must never: write anything but the file that `init` makes.

use clap::{Args, Subcommand};
use dx_protocol::{
    ConfigDocument, ConfigExplainDocument, ConfigFileRow, ConfigPathDocument, ExitCode, SettingValue,
};

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;

/// Show the configuration that holds here, and where each value comes from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner config
  dx-runner config explain max_runtime")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to show or make.
#[derive(Debug, Subcommand)]
enum What {
    /// Every setting with its value and its source (the default)
    #[command(after_help = "Example:\n  dx-runner config show --profile review")]
    Show(ProfileArg),
    /// One setting: what each layer says, what counts, what was refused and why
    #[command(after_help = "Example:\n  dx-runner config explain max_runtime")]
    Explain {
        /// The setting, for example max_runtime or max_parallel.opencode
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// The files that are looked for
    #[command(after_help = "Example:\n  dx-runner config path")]
    Path,
    /// Write your configuration file with every setting in it, commented out
    #[command(after_help = "Example:\n  dx-runner config init")]
    Init,
}

/// The profile to look through.
#[derive(Debug, Default, Args)]
struct ProfileArg {
    /// As a start with this profile would have it
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ConfigArgs) -> Result<ExitCode, CliError> {
    match &args.what {
        None => show(ctx, &ProfileArg::default())?,
        Some(What::Show(profile)) => show(ctx, profile)?,
        Some(What::Explain { key, profile }) => {
            let document = ctx.engine.config_explain(key, profile.profile.as_deref())?;
            ctx.out.either(&document, || explain_text(&document))?;
        }
        Some(What::Path) => paths(ctx, &ctx.engine.config_paths()?)?,
        Some(What::Init) => {
            let document = ctx.engine.config_init()?;
            ctx.out.either(&document, || format!("wrote {}", path_of(&document)))?;
        }
    }
    Ok(ExitCode::Ok)
}

fn show(ctx: &Context, profile: &ProfileArg) -> Result<(), CliError> {
    let document = ctx.engine.config(profile.profile.as_deref())?;
    ctx.out.either(&document, || show_text(&document))
}

fn paths(ctx: &Context, document: &ConfigPathDocument) -> Result<(), CliError> {
    ctx.out.either(document, || document.files.iter().map(file_line).collect::<Vec<_>>().join("\n"))
}

fn path_of(document: &ConfigPathDocument) -> String {
    document.files.first().map_or_else(|| "-".to_owned(), |file| file.path.clone())
}

fn file_line(file: &ConfigFileRow) -> String {
    let missing = if file.found { "" } else { " (not there)" };
    format!("{:<8} {}{missing}", file.layer, file.path)
}

/// As a file would hold it; `-` when there is none.
pub(crate) fn value_text(value: Option<&SettingValue>) -> String {
    // A value of JSON is one of TOML, of these four kinds.
    value.and_then(|value| serde_json::to_string(value).ok()).unwrap_or_else(|| "-".to_owned())
}

fn show_text(document: &ConfigDocument) -> String {
    let header = ["SETTING", "VALUE", "FROM", "AT"].map(ToOwned::to_owned).to_vec();
    let row = |row: &dx_protocol::SettingRow| {
        vec![row.key.clone(), value_text(row.value.as_ref()), row.source.clone(), row.at.clone()]
    };
    lines_of(header, document.settings.iter().map(row).collect()).join("\n")
}

fn explain_text(document: &ConfigExplainDocument) -> String {
    let mut lines = vec![
        format!("{} = {}", document.key, value_text(document.value.as_ref())),
        format!("  from: {}, {}", document.source, document.at),
        format!("  what: {}", document.what),
        format!("  takes: {}", document.expected),
        format!("  rule: {}", rule_text(&document.rule)),
        format!("  may stand in: {}", document.files),
    ];
    if !document.variables.is_empty() {
        lines.push(format!("  variable: {}", document.variables.join(", ")));
    }
    if document.flag != "-" {
        lines.push(format!("  option: {}", document.flag));
    }
    if let Some(allow) = &document.allow {
        lines.push(format!("  you allow: {} ({})", value_text(Some(&allow.value)), allow.at));
    }
    for layer in &document.layers {
        let why = if layer.why == "-" { String::new() } else { format!(": {}", layer.why) };
        lines.push(format!(
            "  {:<11} {} ({}) {}{why}",
            layer.layer,
            value_text(Some(&layer.value)),
            layer.at,
            layer.effect
        ));
    }
    lines.join("\n")
}

/// A rule in a sentence.
pub(crate) fn rule_text(rule: &str) -> &'static str {
    match rule {
        "tighten" => "projects and profiles only tighten, unless your own file allows more",
        "grant" => "entries add up; those of a project count only where your own file allows them",
        "add" => "what each layer says holds; nobody takes anything away",
        "narrow" => "projects and profiles only take away, unless your own file allows more",
        _ => "the highest layer counts",
    }
}
