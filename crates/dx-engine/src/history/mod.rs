//! The history of ended runs: catching up on what could not be written, queries, and totals for `report --all`.
//!
//! Lines are written by who finishes a run ([`dx_jobdir::history`]). Readers take the ended index beside them, so that a
//! line which is missing hides no run.

mod cache;
mod query;
mod totals;

use crate::Engine;
use crate::error::EngineError;
use cache::Cache;
use dx_jobdir::{StateDir, history, open_regular};
use dx_protocol::{BeadsId, HistoryLine, HistoryQueryDocument, ProviderName, ReportAllDocument, Timestamp};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

impl Engine {
    /// Answers one SELECT on the table `runs`.
    pub fn history_query(&self, sql: &str) -> Result<HistoryQueryDocument, EngineError> {
        match self.state_for_reading()? {
            Some(state) => Cache::ask(&state, |cache| query::run(cache.db(), sql)),
            None => query::run(Cache::empty()?.db(), sql),
        }
    }

    /// All runs that ended within the time, with totals; of all times without one, of all providers unless one is named.
    pub fn report_all(
        &self,
        since: Option<Duration>,
        provider: Option<&ProviderName>,
    ) -> Result<ReportAllDocument, EngineError> {
        let now = Timestamp(dx_proc::clock::now_ms());
        let since = since.map(|since| now.minus_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
        let mut lines = match self.state_for_reading()? {
            Some(state) => Cache::ask(&state, |cache| cache.since(since))?,
            None => Vec::new(),
        };
        lines.retain(|line| provider.is_none_or(|provider| provider.as_str() == line.provider));
        Ok(totals::document(now, since, lines))
    }
}

/// Adds the runs to the history whose line could not be written when they ended. The number of added ones.
pub(crate) fn catch_up(state: &StateDir) -> Result<usize, EngineError> {
    let missing = Cache::ask(state, |cache| cache.unrecorded())?;
    for line in &missing {
        history::append(state, line)?;
    }
    Ok(missing.len())
}

/// All ended runs of an id, oldest first, read without a cache: for commands that write nothing.
pub(crate) fn runs_of(state: &StateDir, beads: &BeadsId) -> Vec<HistoryLine> {
    let mut found = BTreeMap::new();
    let mut read = |path: &Path, recorded: bool| {
        let Ok(file) = open_regular(path) else { return };
        // Most lines are of other jobs, and are not parsed.
        let wanted = format!("\"beads\":\"{beads}\"");
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if String::from_utf8_lossy(&line).contains(&wanted)
                && let Some(parsed) = cache::parse(&line, recorded)
                && parsed.beads == beads.as_str()
            {
                found.insert(parsed.run_uuid.clone(), parsed);
            }
            line.clear();
        }
    };
    for day in dx_jobdir::ended::days(state) {
        read(&state.ended(&day), false);
    }
    for path in history::files(state) {
        read(&path, true);
    }
    found.into_values().collect()
}
