//! The history: one line per ended run that stands by itself, also after the run's files are gone. The same columns are
//! the table `runs` of `history query`.
//!
//! Words are text here, not enums, so that a line of a newer version is still a line.

use crate::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schema word of a line.
pub const HISTORY_SCHEMA: &str = "dx-runner/history/1";

/// A column of the table `runs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryColumn {
    pub name: &'static str,
    /// SQLite's type.
    pub sql: &'static str,
    pub meaning: &'static str,
}

macro_rules! history_line {
    ($($name:ident: $type:ty, $sql:literal, $meaning:literal;)*) => {
        /// One ended run.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct HistoryLine {
            /// [`HISTORY_SCHEMA`].
            pub schema: String,
            $(#[doc = $meaning] #[serde(default)] pub $name: $type,)*
        }

        impl HistoryLine {
            /// The columns of `runs`, in order; all fields but `schema`.
            pub const COLUMNS: &'static [HistoryColumn] = &[
                $(HistoryColumn { name: stringify!($name), sql: $sql, meaning: $meaning },)*
            ];
        }
    };
}

history_line! {
    run_uuid: String, "TEXT PRIMARY KEY", "Key of the run (UUIDv7, sorts by start).";
    run_instance: String, "TEXT", "Name of the run for people.";
    beads: String, "TEXT", "The job's id.";
    provider: String, "TEXT", "The provider.";
    selected_model: String, "TEXT", "The model, `-` when the provider was not told one.";
    fallback_reason: String, "TEXT", "Why it is not the preferred model, `none` when it is.";
    state: String, "TEXT", "`success`, `failed`, `killed` or `no_op`.";
    reason_code: String, "TEXT", "Why, one of the reason codes.";
    exit_code: String, "TEXT", "Decimal, or `-` when nobody saw the end.";
    detail: String, "TEXT", "What a person gave as reason, or what the agent said of its error; cut to 500 characters.";
    started_at: Timestamp, "TEXT", "Start, RFC 3339 in UTC with milliseconds.";
    completed_at: Timestamp, "TEXT", "End, likewise.";
    duration_sec: u64, "INTEGER", "Whole seconds between the two.";
    retries: u32, "INTEGER", "0 for a first start, one more with each restart.";
    execution_mode: String, "TEXT", "How it ran: `detached`, `pty-detached`, …";
    host: String, "TEXT", "Name of the machine.";
    cwd: String, "TEXT", "Working directory of who started it.";
    worktree: String, "TEXT", "Where the agent worked.";
    provider_switch_from: String, "TEXT", "The provider that ran this id before, when another one; else `-`.";
    verdict_process: String, "TEXT", "What the operating system said.";
    verdict_provider: String, "TEXT", "What the agent itself reported.";
    verdict_work: String, "TEXT", "Whether the worktree changed.";
    verdict_gates: String, "TEXT", "What the gates at the end said.";
    verdict_check: String, "TEXT", "What the check command said.";
    mutations: u64, "INTEGER", "Changed paths plus commits since the start.";
    commits: u64, "INTEGER", "Commits since the start.";
    files_changed: u64, "INTEGER", "Paths changed since the start.";
    head: Option<String>, "TEXT", "HEAD of the worktree at the end, when known.";
    input_tokens: u64, "INTEGER", "Prompt tokens, cached ones not included.";
    output_tokens: u64, "INTEGER", "Generated tokens.";
    cached_tokens: u64, "INTEGER", "Prompt tokens read from a cache.";
    cost_usd: Option<f64>, "REAL", "US dollars as the agent told them; null when it told nothing.";
    tool_calls: u64, "INTEGER", "Finished tool calls.";
    log_bytes: u64, "INTEGER", "Size of the log.";
    cpu_time_sec: u64, "INTEGER", "CPU time of the process tree.";
    strays: u32, "INTEGER", "Processes that outlived the agent and were ended.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_the_fields_and_what_is_missing_has_a_default() {
        let line: HistoryLine =
            serde_json::from_str(r#"{"schema":"dx-runner/history/1","run_uuid":"x","later":[1]}"#).unwrap();
        let value = serde_json::to_value(&line).unwrap();
        let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut columns: Vec<&str> = HistoryLine::COLUMNS.iter().map(|c| c.name).collect();
        columns.push("schema");
        fields.sort_unstable();
        columns.sort_unstable();
        assert_eq!(fields, columns);
    }
}
