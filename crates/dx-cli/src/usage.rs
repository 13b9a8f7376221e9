//! What happens when clap did not accept the command line, or was asked for help.
//!
//! Called by: `commands::main`. Must never: exit with clap's own 2, which means `stalled` here.

use clap::CommandFactory;
use clap::error::ErrorKind;
use dx_protocol::{ExitCode, InvalidId, ReasonCode};
use std::error::Error as _;
use std::ffi::OsString;

use crate::args::Cli;
use crate::error::CliError;
use crate::output;

/// The same answer from the whole tree: what a command says of itself is only there when it was put together. `None` for
/// what no command is asked about.
pub(crate) fn with_all_commands(args: &[OsString], error: &clap::Error) -> Option<clap::Error> {
    if error.kind() == ErrorKind::DisplayVersion {
        return None;
    }
    let mut tree = Cli::command();
    tree.build();
    tree.try_get_matches_from(args).err()
}

/// Shows help, version or the mistake, and tells the exit code.
pub(crate) fn report(args: &[OsString], error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::show_help(&text, true);
            return ExitCode::Ok;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !wants_json(args) => {
            output::show_help(&text, false);
            return ExitCode::Usage;
        }
        _ => {}
    }
    let failure = failure(args, error, &text);
    output::show_error(&failure, wants_json(args));
    failure.exit_code()
}

fn failure(args: &[OsString], error: &clap::Error, text: &str) -> CliError {
    let body = text.split("\n\nFor more information").next().unwrap_or(text);
    let body = body.strip_prefix("error: ").unwrap_or(body).trim_end();
    // Clap advises to hide a wrong option behind `--`, which is never meant here.
    let parts: Vec<&str> = body.split("\n\n").filter(|part| !part.starts_with("  tip: to pass '")).collect();
    let body = parts.join("\n\n");
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        // One line for programs, clap's tips and usage for people.
        _ if wants_json(args) => parts.first().unwrap_or(&"").replace('\n', " "),
        _ => body,
    };
    let job_id = error
        .source()
        .and_then(|cause| cause.downcast_ref::<InvalidId>())
        .is_some_and(|id| id.kind == "job id");
    let reason = if job_id { ReasonCode::InvalidId } else { ReasonCode::InvalidArgument };
    let next = if job_id { reason.next_action().to_owned() } else { help_command(args) };
    CliError::refused_try(reason, message, next)
}

/// A mistake on the command line that only the engine could find, with the help of the command that it was made in.
pub(crate) fn with_help(args: &[OsString], error: CliError) -> CliError {
    let reason = ReasonCode::InvalidArgument;
    if error.reason() != reason || error.next_action() != reason.next_action() || !error.causes().is_empty() {
        return error;
    }
    CliError::refused_try(reason, error.to_string(), help_command(args))
}

/// Whether `--json` stands before any `--`.
fn wants_json(args: &[OsString]) -> bool {
    args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// The help that answers best: of the first word that is a command.
fn help_command(args: &[OsString]) -> String {
    let tree = Cli::command();
    let known = |word: &str| tree.get_subcommands().any(|c| c.get_name() == word && !c.is_hide_set());
    let word = args.iter().skip(1).filter_map(|arg| arg.to_str()).find(|word| known(word));
    word.map_or_else(|| "dx-runner --help".to_owned(), |word| format!("dx-runner {word} --help"))
}
