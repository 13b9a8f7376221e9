//! `batch`: one prompt, several models at once; `batch list|show|judge` for stored ones.
//!
//! Called by: `commands::run`. Must never: print an answer twice.

use clap::{Args, Subcommand};
use dx_protocol::{BatchDocument, BatchMember, ExitCode};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::Path;

use super::dispatch::QuestionOptions;
use super::models::ServerOptions;
use crate::asking::{self, AGAIN, Asked};
use crate::context::Context;
use crate::error::CliError;
use crate::transcript::printable_text;
use dx_engine::{
    BatchNews, BatchRequest, Conditions, DISPATCH_MAX_CHARS, Member, Members, PromptSource, Settings,
    tell_begun,
};
use dx_protocol::ReasonCode;

/// Ask several models the same at once, and compare their answers
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Members are named as for `dispatch`. Each has its own deadline; answers are printed as they come, and stored.
Exit codes: 0 all answered (or the quorum), 31 some did or the judge gave no verdict, 1 none.

Example:
  dx-runner batch --members opencode:anthropic/claude-sonnet-4-5,opencode:openai/gpt-5 --prompt \"Is this race real?\"
  dx-runner batch show batch-20260101120000123-1a2b3c"
)]
pub(crate) struct BatchArgs {
    #[command(subcommand)]
    stored: Option<Stored>,
    #[command(flatten)]
    question: QuestionOptions,
    /// Who is asked
    #[arg(long, value_name = "MEMBER", value_delimiter = ',', num_args = 1..,
        required_unless_present_any = ["task_types", "tier"], conflicts_with_all = ["task_types", "tier"])]
    members: Vec<Member>,
    /// Ask the models that `routes` has for these kinds of tasks
    #[arg(long, value_name = "T", value_delimiter = ',', num_args = 1.., conflicts_with = "tier")]
    task_types: Vec<String>,
    /// Ask all models of a tier of `routes`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=6))]
    tier: Option<u64>,
    /// So many answers are enough [default: all]
    #[arg(long, value_name = "K")]
    quorum: Option<usize>,
    /// Let this member judge the answers, without names and in two orders
    #[arg(long, value_name = "MEMBER")]
    judge: Option<Member>,
    /// Tell which answers are the same
    #[arg(long)]
    compare: bool,
    /// Return as soon as the batch is stored; `batch show` tells how far it is
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Subcommand)]
enum Stored {
    /// List stored batches, the newest last
    List,
    /// Show a stored batch
    Show {
        /// Its id
        id: String,
    },
    /// Let a member judge a stored batch again
    Judge {
        /// Its id
        id: String,
        /// Who judges
        #[arg(long, value_name = "MEMBER")]
        judge: Member,
        #[command(flatten)]
        server: ServerOptions,
    },
}

/// `batch list --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchesDocument {
    schema: String,
    batches: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &BatchArgs) -> Result<ExitCode, CliError> {
    let document = match &args.stored {
        Some(Stored::List) => {
            let batches = ctx.engine.batch_list()?;
            let document = BatchesDocument { schema: "dx-runner/batches/1".to_owned(), batches };
            ctx.out.either(&document, || document.batches.join("\n"))?;
            return Ok(ExitCode::Ok);
        }
        Some(Stored::Show { id }) => {
            let document = ctx.engine.batch_show(id)?;
            ctx.out.either(&document, || whole(&document))?;
            return Ok(ExitCode::Ok);
        }
        Some(Stored::Judge { id, judge, server }) => {
            let (id, judge) = (id.clone(), judge.clone());
            let conditions = Conditions {
                prompt: PromptSource::Text(Vec::new()),
                system: None,
                schema: None,
                timeout: None,
                max_chars: DISPATCH_MAX_CHARS,
                directory: server.directory.clone(),
                server: server.server.clone(),
            };
            let document = asking::cancellable(ctx, AGAIN, move |ctx, cancel| {
                ctx.engine.batch_judge(&id, &judge, &conditions, cancel)
            })??;
            ctx.out.either(&document, || whole(&document))?;
            let judged = document.verdict.as_ref().is_some_and(|verdict| verdict.reason_code.is_none());
            return Ok(if judged { ExitCode::Ok } else { ReasonCode::JudgeFailed.exit_code() });
        }
        None if args.detach => {
            let document = ctx.engine.batch_detached(&request(args)?)?;
            let shown = format!("{}\ntry: dx-runner batch show {}", document.id, document.id);
            ctx.out.either(&document, || shown)?;
            return Ok(ExitCode::Ok);
        }
        None => ask(ctx, args)?,
    };
    ctx.out.either(&document, || summary(&document))?;
    Ok(ExitCode::ALL
        .iter()
        .copied()
        .find(|code| code.code() == document.exit_code)
        .unwrap_or(ExitCode::Error))
}

fn request(args: &BatchArgs) -> Result<BatchRequest, CliError> {
    let members = match args.tier {
        Some(tier) => Members::Tier(tier),
        None if !args.task_types.is_empty() => Members::TaskTypes(args.task_types.clone()),
        None => Members::Named(args.members.clone()),
    };
    Ok(BatchRequest {
        members,
        conditions: args.question.conditions()?,
        quorum: args.quorum,
        judge: args.judge.clone(),
        compare: args.compare,
    })
}

/// The process of `batch --detach`: asks, and tells nobody but the store. A signal stops what was asked.
pub(crate) fn detached(state_dir: &Path, config: Option<&Path>) -> i32 {
    let settings = Settings {
        state_dir: Some(state_dir.to_owned()),
        config: config.map(Path::to_owned),
        progress: None,
    };
    let asked = BatchRequest::received(std::io::stdin().lock()).map_err(CliError::from).and_then(|request| {
        asking::cancellable(&Context::of(settings), AGAIN, move |ctx, cancel| {
            let told = |news: BatchNews<'_>| {
                if let BatchNews::Begun(document) = news {
                    tell_begun(document);
                }
            };
            ctx.engine.batch(&request, cancel, &told).map_err(CliError::from)
        })?
    });
    let code = asked.map_or_else(
        |error| {
            tell_begun(&error.document());
            error.exit_code().code()
        },
        |document| document.exit_code,
    );
    code.into()
}

fn ask(ctx: &Context, args: &BatchArgs) -> Result<BatchDocument, CliError> {
    let request = request(args)?;
    let asked = asking::asked(ctx, AGAIN, move |ctx, cancel| {
        let told = |news: BatchNews<'_>| {
            if !ctx.out.is_json() {
                // A reader that went away is found at the end.
                let _written = ctx.out.line(match news {
                    BatchNews::Begun(document) => head(document),
                    BatchNews::Answer(result) => answer(result),
                });
            }
        };
        ctx.engine.batch(&request, cancel, &told)
    })?;
    match asked {
        Asked::Done(document) => Ok(document?),
        Asked::GivenUp(Ok(document)) => {
            // What had been answered by then is stored.
            ctx.out.either(&document, || summary(&document))?;
            Err(asking::interrupted(format!("dx-runner batch show {}", document.id)))
        }
        Asked::GivenUp(Err(_)) => Err(asking::interrupted(AGAIN)),
    }
}

fn answer(member: &BatchMember) -> String {
    let BatchMember { provider, model, status, duration_ms, .. } = member;
    let head = format!("--- {provider}/{model} [{}] ({duration_ms} ms) ---", status.to_uppercase());
    match member.reason_code {
        None => format!("{head}\n{}", printable_text(&member.answer)),
        Some(reason) => {
            let message = printable_text(&member.message);
            format!("{head}\n{reason}: {message}\ntry: {}", member.next_action)
        }
    }
}

fn whole(document: &BatchDocument) -> String {
    let mut lines = vec![head(document)];
    lines.extend(document.members.iter().map(answer));
    lines.push(summary(document));
    lines.join("\n")
}

/// What stands before the answers.
fn head(document: &BatchDocument) -> String {
    let mods =
        if document.mods.is_empty() { String::new() } else { format!(" [{}]", document.mods.join(", ")) };
    format!("=== batch-dispatch to {} models{mods} ===", document.members.len())
}

/// What stands after them.
fn summary(document: &BatchDocument) -> String {
    let count = document.members.len();
    let mut lines = vec![
        format!(
            "Success: {}/{count} | Errors: {} | Timeouts: {}",
            document.success, document.errors, document.timeouts
        ),
        format!("Wall time: {} ms (slowest member: {} ms)", document.wall_ms, document.slowest_ms),
    ];
    let all_wanted = [ReasonCode::BatchOk, ReasonCode::JudgeFailed].contains(&document.reason_code);
    if !all_wanted || document.quorum < count as u64 {
        lines.push(format!("Wanted: {} answers, {}", document.quorum, document.reason_code));
    }
    lines.extend(document.missing.iter().map(|missing| format!("Missing: {missing}")));
    for field in &document.agreement {
        let values: Vec<String> =
            field.values.iter().map(|(value, count)| format!("{value} ({count})")).collect();
        let word = if field.unanimous { "agreed" } else { "differs" };
        lines.push(format!("Field {}: {word}: {}", field.field, values.join(", ")));
    }
    lines.extend(
        document
            .groups
            .iter()
            .filter(|group| group.len() > 1)
            .map(|group| format!("Same answer: {}", group.join(", "))),
    );
    if let Some(verdict) = &document.verdict {
        lines.push(format!("Judge {}: winner {}", verdict.judge, verdict.winner));
        lines.extend(verdict.scores.iter().map(|(member, score)| format!("  {score:.1}  {member}")));
        lines.extend(verdict.reasons.iter().map(|reasons| format!("  {reasons}")));
        if verdict.problem != "-" {
            lines.push(format!("  {}", verdict.problem));
        }
    }
    if document.status != "ended" {
        lines.push(format!("Status: {}", document.status));
    }
    lines.push(format!("Stored: {}", document.id));
    lines.join("\n")
}
