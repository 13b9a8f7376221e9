//! `history`: questions to the history in SQL.
//!
//! Called by: `commands::run`. Must never: change anything; the engine refuses what would.

use clap::{Args, Subcommand, ValueEnum};
use dx_protocol::{ExitCode, HistoryLine, HistoryQueryDocument, HistoryValue, ReasonCode};

use crate::context::Context;
use crate::error::CliError;
use crate::page::one_line;
use crate::status_table;
use dx_engine::mask_text;

/// Ask the history of ended runs
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner history query \"SELECT provider, count(*) FROM runs GROUP BY provider\"")]
pub(crate) struct HistoryArgs {
    /// What to do
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, Subcommand)]
enum HistoryCommand {
    Query(QueryArgs),
}

/// Answer one SELECT on the table `runs`, which has a row for each run that ended
#[derive(Debug, Args)]
#[command(after_help = after_help())]
struct QueryArgs {
    /// The SELECT, in SQLite's dialect
    #[arg(value_name = "SQL")]
    sql: String,
    /// How to write the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns that line up.
    Table,
    /// Comma-separated values with a head (RFC 4180).
    Csv,
    /// One document on one line, as with --json.
    Json,
}

fn after_help() -> String {
    let columns: Vec<String> = HistoryLine::COLUMNS
        .iter()
        .map(|column| format!("  {:<22}{:<9}{}", column.name, kind(column.sql), column.meaning))
        .collect();
    format!(
        "Example:\n  dx-runner history query \"SELECT beads, reason_code FROM runs WHERE state = 'failed' \
         ORDER BY completed_at DESC LIMIT 10\"\n\nColumns of runs:\n{}",
        columns.join("\n")
    )
}

/// SQLite's type without what only the table needs to know.
fn kind(sql: &str) -> &str {
    sql.split(' ').next().unwrap_or(sql)
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let HistoryCommand::Query(query) = &args.command;
    if ctx.out.is_json() && query.format == Format::Csv {
        return Err(CliError::refused_try(
            ReasonCode::InvalidArgument,
            "--json and --format csv contradict each other",
            "leave one of them out",
        ));
    }
    let answer = ctx.engine.history_query(&query.sql)?;
    match query.format {
        _ if ctx.out.is_json() => ctx.out.json(&answer)?,
        Format::Json => ctx.out.json(&answer)?,
        Format::Csv => ctx.out.bytes(mask_text(&csv(&answer)).as_bytes())?,
        Format::Table => ctx.out.line(table(&answer))?,
    }
    Ok(ExitCode::Ok)
}

fn table(answer: &HistoryQueryDocument) -> String {
    let cell = |value: &HistoryValue| match value {
        HistoryValue::Null => "-".to_owned(),
        value => one_line(&word(value)),
    };
    let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    status_table::lines_of(answer.columns.clone(), rows).join("\n")
}

/// Lines end with CR LF; a value is quoted when it has to be.
fn csv(answer: &HistoryQueryDocument) -> String {
    let head = answer.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
    let rows = answer
        .rows
        .iter()
        .map(|row| row.iter().map(|value| quoted(&word(value))).collect::<Vec<_>>().join(","));
    [head].into_iter().chain(rows).fold(String::new(), |text, line| text + &line + "\r\n")
}

fn quoted(text: &str) -> String {
    let plain = !text.contains(['"', ',', '\r', '\n']);
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

fn word(value: &HistoryValue) -> String {
    match value {
        HistoryValue::Null => String::new(),
        HistoryValue::Integer(number) => number.to_string(),
        HistoryValue::Real(number) => number.to_string(),
        HistoryValue::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_where_it_has_to_be() {
        let text = |text: &str| HistoryValue::Text(text.to_owned());
        let answer = HistoryQueryDocument {
            schema: String::new(),
            columns: vec!["a".to_owned(), "b,c".to_owned()],
            rows: vec![
                vec![text("x \"y\"\n"), HistoryValue::Null],
                vec![HistoryValue::Integer(-1), HistoryValue::Real(0.5)],
            ],
        };
        assert_eq!(csv(&answer), "a,\"b,c\"\r\n\"x \"\"y\"\"\n\",\r\n-1,0.5\r\n");
        assert!(table(&answer).contains("x \"y\""), "{}", table(&answer));
    }
}
