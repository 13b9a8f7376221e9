//! The generated part of the documentation: commands, exit codes, reason codes, schemas.
//!
//! Called by: `dx-runner __reference`, which the repository's own `gen` runs. Must never: depend on the machine, the
//! time or the environment; the same program makes the same bytes.

use clap::CommandFactory;
use dx_protocol::{ExitCode, ReasonCode};
use std::fmt::Write;

use crate::args::Cli;
use crate::commands::config::rule_text;
use crate::error::CliError;
use crate::schemas;

/// Width of help texts in the reference.
const WIDTH: usize = 100;

/// All files: path below the reference's folder, and content.
pub(crate) fn files() -> Result<Vec<(String, String)>, CliError> {
    let mut files = vec![
        ("cli.md".to_owned(), commands()),
        ("configuration.md".to_owned(), configuration()),
        ("exit-codes.md".to_owned(), exit_codes()),
        ("reason-codes.md".to_owned(), reason_codes()),
        ("roles.md".to_owned(), dx_engine::roles_reference()),
    ];
    for (name, make) in schemas::ALL {
        let mut text = serde_json::to_string_pretty(&make())?;
        text.push('\n');
        files.push((format!("schemas/{name}.json"), text));
    }
    Ok(files)
}

fn commands() -> String {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut text = head("Commands", "the command line's own definition");
    section(&mut text, 2, &root);
    text
}

fn section(text: &mut String, level: usize, command: &clap::Command) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.clone().term_width(WIDTH).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ignored =
        writeln!(text, "{} `{name}`\n\n```text\n{}\n```\n", "#".repeat(level), help.join("\n").trim_end());
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        section(text, level + 1, child);
    }
}

fn configuration() -> String {
    let mut text = head("Configuration", "the table of settings");
    text.push_str(
        "How files, variables and options work together is told in the [guide](../guide/configuration.md). Times in files \
         are texts such as `\"90s\"` or `\"1h30m\"`.\n\n| setting | default | variable | option |\n|---|---|---|---|\n",
    );
    let settings = dx_engine::settings_reference();
    for setting in &settings {
        let words = [&setting.key, &setting.default, &setting.variable, &setting.flag].map(|word| code(word));
        let _ignored = writeln!(text, "| {} |", words.join(" | "));
    }
    text.push_str("\n## What each does\n");
    for setting in &settings {
        let _ignored = write!(
            text,
            "\n`{}`: {} Takes {}. May stand in {}. Rule `{}`: {}.\n",
            setting.key,
            cell(setting.what),
            setting.expected,
            setting.files,
            setting.rule,
            rule_text(setting.rule)
        );
    }
    text.push_str("\n## Built-in profiles\n");
    for (name, content) in dx_engine::built_in_profiles() {
        let _ignored = write!(text, "\n### `{name}`\n\n```toml\n{}\n```\n", content.trim_end());
    }
    text
}

/// A word of the program's; `-` stays as it is.
fn code(word: &str) -> String {
    if word == "-" { word.to_owned() } else { format!("`{}`", word.replace('|', "\\|")) }
}

fn exit_codes() -> String {
    let mut text = head("Exit codes", "`ExitCode` of the contract crate");
    text.push_str("| code | name | meaning |\n|---|---|---|\n");
    for code in ExitCode::ALL {
        let _ignored = writeln!(text, "| {} | `{}` | {} |", code.code(), code.name(), cell(code.meaning()));
    }
    text
}

fn reason_codes() -> String {
    let mut text = head("Reason codes", "`ReasonCode` of the contract crate");
    text.push_str(
        "The exit code is that of a command that refuses for this reason; `check` and `wait` go by the job's state. Fallback: whether the \
         same work may go to another provider.\n\n",
    );
    text.push_str("| reason | exit code | meaning | next action | fallback |\n|---|---|---|---|---|\n");
    for code in ReasonCode::ALL {
        let exit = code.exit_code().code();
        let (meaning, next) = (cell(code.meaning()), cell(code.next_action()));
        let fallback = if code.allows_fallback() { "yes" } else { "-" };
        let _ignored = writeln!(text, "| `{code}` | {exit} | {meaning} | {next} | {fallback} |");
    }
    text
}

fn head(title: &str, source: &str) -> String {
    format!("# {title}\n\n<!-- Generated from {source} by `cargo xtask gen`; edit that. -->\n\n")
}

/// Text that fits into a table's cell and shows `<PLACEHOLDER>` as it is.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_the_same_each_time_and_complete() {
        let files = files().unwrap();
        assert_eq!(files, super::files().unwrap());
        let content = |name: &str| &files.iter().find(|file| file.0 == name).unwrap().1;
        for word in ["## `dx-runner`", "### `dx-runner start`", "--prompt-file", "### `dx-runner exit-codes`"]
        {
            assert!(content("cli.md").contains(word), "{word}");
        }
        assert!(!content("cli.md").contains("__reference"));
        assert!(content("exit-codes.md").contains("| 64 | `usage` |"));
        assert!(content("reason-codes.md").contains("| `already_running` | 32 |"));
        assert!(content("schemas/status.json").contains("reason_code"));
    }
}
