//! A run's files for reading: where the log is, and what it adds up to.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Record};
use dx_events::{Parser, Summary, stderr_event};
use dx_jobdir::{RunPaths, open_regular};
use dx_protocol::{Grammar, RunIds};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Where a run's output is.
#[derive(Debug, Clone)]
pub struct LogFiles {
    pub log: PathBuf,
    /// Standard error, where it has a file of its own.
    pub err: Option<PathBuf>,
    pub grammar: Grammar,
    pub ended: bool,
    /// Empty for records of other programs.
    pub uuid: String,
}

impl Engine {
    /// The log of a job: of its newest run, or of the rotated run `n` (`.log.<n>`).
    pub fn log_files(&self, job: &JobName, run: Option<u32>) -> Result<LogFiles, EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let record = lookup::newest(&state, job)?;
        let (provider, grammar) = match &record {
            Record::Ours(found) => (&found.run.created.ids.provider, found.run.created.contract.grammar),
            Record::Foreign(foreign) => (&foreign.provider, Grammar::Text),
        };
        if let Some(n) = run {
            let log = state.view(provider, &job.beads, &format!("log.{n}"));
            if !log.exists() {
                return Err(EngineError::Argument(format!("job `{}` has no log of run {n}", job.beads)));
            }
            return Ok(LogFiles { log, err: None, grammar, ended: true, uuid: String::new() });
        }
        Ok(match &record {
            Record::Ours(found) => LogFiles {
                log: found.paths.log(),
                err: Some(found.paths.err()).filter(|p| p.exists()),
                grammar,
                ended: found.run.outcome.is_some(),
                uuid: found.run.created.ids.run_uuid.to_string(),
            },
            Record::Foreign(_) => LogFiles {
                log: state.view(provider, &job.beads, "log"),
                err: None,
                grammar,
                ended: true,
                uuid: String::new(),
            },
        })
    }

    /// The journal of a job's newest run, and whether the run has ended.
    pub fn journal_file(&self, job: &JobName) -> Result<(PathBuf, RunIds, bool), EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let found = lookup::newest_ours(&state, job)?;
        let path = if found.paths.journal().exists() { found.paths.journal() } else { found.journal.clone() };
        Ok((path, found.run.created.ids.clone(), found.run.outcome.is_some()))
    }
}

/// Parses a run's output from the beginning, in pieces.
pub(crate) fn summarise(paths: &RunPaths, grammar: Grammar) -> Summary {
    let mut summary = Summary::new(grammar);
    if grammar == Grammar::Text {
        return summary;
    }
    if let Ok(mut log) = open_regular(&paths.log()) {
        let mut parser = Parser::new(grammar);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = log.read(&mut buffer) {
            if n == 0 {
                break;
            }
            parser.feed(&buffer[..n], &mut |_, event| summary.apply(&event));
        }
        parser.finish(&mut |_, event| summary.apply(&event));
    }
    if let Ok(err) = open_regular(&paths.err()) {
        let mut reader = BufReader::new(err);
        let mut line = Vec::new();
        while reader.by_ref().take(64 << 10).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if let Some(event) = stderr_event(grammar, String::from_utf8_lossy(&line).trim_end()) {
                summary.apply(&event);
            }
            line.clear();
        }
    }
    summary
}
