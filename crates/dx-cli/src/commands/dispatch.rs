//! `dispatch`: one prompt, one model, the answer at once.
//!
//! Called by: `commands::run`. Must never: print anything before there is an answer.

use clap::Args;
use dx_protocol::{DispatchDocument, ExitCode};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::models::ServerOptions;
use super::start_options::prompt_file;
use crate::asking::{self, AGAIN};
use crate::context::Context;
use crate::error::CliError;
use crate::transcript::printable_text;
use dx_engine::{
    Conditions, DISPATCH_MAX_CHARS, DispatchRequest, Engine, Member, PromptSource, SchemaSource, Settings,
    Target,
};

/// What is asked, and under which conditions.
#[derive(Debug, Clone, Args)]
pub(crate) struct QuestionOptions {
    /// The prompt; `-` reads standard input
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file"
    )]
    prompt: Option<String>,
    /// File with the prompt; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// A system prompt of your own
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// File with a JSON schema that the answer must fit
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Deadline in seconds; what was begun is stopped then [default: 120]
    #[arg(long, value_name = "SEC", value_parser = clap::value_parser!(u32).range(1..=86400))]
    timeout: Option<u32>,
    /// Show so many characters of an answer; 0 shows all
    #[arg(long, value_name = "N", default_value_t = DISPATCH_MAX_CHARS)]
    max_chars: usize,
    #[command(flatten)]
    server: ServerOptions,
}

impl QuestionOptions {
    /// The engine's word for it.
    pub(crate) fn conditions(&self) -> Result<Conditions, CliError> {
        let prompt = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) if text == "-" => prompt_file(Path::new("-"))?,
            (Some(text), _) => PromptSource::Text(text.clone().into_bytes()),
            (None, Some(path)) => prompt_file(path)?,
            // clap sees to it that there is one.
            (None, None) => PromptSource::Text(Vec::new()),
        };
        Ok(Conditions {
            prompt,
            system: self.system.clone(),
            schema: self.json_schema.clone().map(SchemaSource::File),
            timeout: self.timeout.map(|seconds| Duration::from_secs(seconds.into())),
            max_chars: self.max_chars,
            directory: self.server.directory.clone(),
            server: self.server.server.clone(),
        })
    }
}

/// Ask one model and print its answer
#[derive(Debug, Args)]
#[command(after_help = "\
A member is `opencode:PROVIDER/MODEL` (through an OpenCode server; see `server start`), `openai:NAME/MODEL` (an endpoint of
your configuration), or `claude:MODEL`, `gemini:MODEL`, `codex:MODEL` (their own command lines, in an empty folder). A question may not change anything; with --directory it may read there.
Exit codes: 10 no credentials, 25 no such model, 27 no server or provider not connected, 35 deadline, 1 anything else.

Example:
  dx-runner dispatch --member opencode:anthropic/claude-sonnet-4-5 --prompt \"Which of these two is right?\"
  git diff | dx-runner dispatch --task-type code-review --prompt-file -")]
pub(crate) struct DispatchArgs {
    #[command(flatten)]
    question: QuestionOptions,
    /// Who is asked
    #[arg(long, value_name = "MEMBER", conflicts_with_all = ["task_type", "provider", "model"])]
    member: Option<Member>,
    /// Ask the model that `routes` has for this kind of task
    #[arg(long, value_name = "T")]
    task_type: Option<String>,
    /// Model provider of the server; replaces the route's
    #[arg(long, value_name = "P")]
    provider: Option<String>,
    /// Model of the provider; replaces the route's
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// Go on with this session, which then stays
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Keep the session
    #[arg(long, conflicts_with = "cleanup")]
    keep_session: bool,
    /// Delete the session, also one that was named
    #[arg(long)]
    cleanup: bool,
}

/// The process that ends what a killed one has begun.
pub(crate) fn clean(state_dir: &Path, config: Option<&Path>) -> i32 {
    let settings = Settings {
        state_dir: Some(state_dir.to_owned()),
        config: config.map(Path::to_owned),
        progress: None,
    };
    i32::from(Engine::new(settings).clean().is_err())
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &DispatchArgs) -> Result<ExitCode, CliError> {
    let request = DispatchRequest {
        target: Target {
            member: args.member.clone(),
            task_type: args.task_type.clone(),
            provider: args.provider.clone(),
            model: args.model.clone(),
        },
        conditions: args.question.conditions()?,
        session: args.session.clone(),
        keep: if args.keep_session { Some(true) } else { args.cleanup.then_some(false) },
    };
    let document =
        asking::cancellable(ctx, AGAIN, move |ctx, cancel| ctx.engine.dispatch(&request, cancel))??;
    for warning in &document.warnings {
        ctx.out.note(format!("warning: {warning}"));
    }
    ctx.out.either(&document, || text(&document))?;
    Ok(ExitCode::Ok)
}

fn text(document: &DispatchDocument) -> String {
    let DispatchDocument { provider, model, mods, answer, session, .. } = document;
    let mods = if mods.is_empty() { String::new() } else { format!(" [{}]", mods.join(", ")) };
    let seconds = document.duration_ms as f64 / 1000.0;
    let kept = if session == "-" { String::new() } else { format!("\n--- session {session} ---") };
    format!(
        "--- dispatch response from {provider}/{model}{mods} ({seconds:.1}s) ---\n{}{kept}",
        printable_text(answer)
    )
}
