//! A run's files for reading: where the log is, and what it adds up to.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::secrets::{Masking, own_secrets};
use dx_events::mask::Secrets;
use dx_events::{Line, LineSplitter, Parser, Summary, stderr_event};
use dx_jobdir::RunPaths;
use dx_monitor::{Access, MaskedFile};
use dx_protocol::{Grammar, RunIds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A line of standard error is read up to this length.
const ERR_LINE: usize = 64 << 10;

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
    /// What must not be shown of it.
    pub secrets: Arc<Secrets>,
}

impl Engine {
    /// The log of a job: of its newest run, or of run `n`, counted from 1, the oldest (`.log.<n>`).
    pub fn log_files(&self, job: &JobName, run: Option<u32>) -> Result<LogFiles, EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let record = lookup::newest(&state, job)?;
        let (provider, grammar, secrets) = match &record {
            Record::Ours(found) => {
                let created = &found.run.created;
                let masking = Masking::again(created, Access::Read);
                (&created.ids.provider, created.contract.grammar, masking.secrets)
            }
            Record::Foreign(foreign) => (&foreign.provider, Grammar::Text, own_secrets()),
        };
        let rotated = |n: u32| state.view(provider, &job.beads, &format!("log.{n}"));
        let count = (1..u32::MAX).find(|n| !rotated(*n).exists()).unwrap_or(u32::MAX);
        if let Some(run) = run.filter(|n| *n != count) {
            let log = rotated(run);
            if !log.exists() {
                let (beads, count) = (job.beads.to_string(), count as usize);
                return Err(EngineError::NoRun { beads, run, count });
            }
            return Ok(LogFiles { log, err: None, grammar, ended: true, uuid: String::new(), secrets });
        }
        Ok(match &record {
            Record::Ours(found) => LogFiles {
                log: found.paths.log(),
                err: Some(found.paths.err()).filter(|p| p.exists()),
                grammar,
                ended: found.run.outcome.is_some(),
                uuid: found.run.created.ids.run_uuid.to_string(),
                secrets,
            },
            Record::Foreign(_) => LogFiles {
                log: state.view(provider, &job.beads, "log"),
                err: None,
                grammar,
                ended: true,
                uuid: String::new(),
                secrets,
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

/// Parses a run's output from the beginning, in pieces, masked; and takes the secrets out of the files where that is wanted.
/// `false` when one could not be taken out.
pub(crate) fn summarise(paths: &RunPaths, grammar: Grammar, masking: &Masking) -> (Summary, bool) {
    let mut summary = Summary::new(grammar);
    let open = |path: &Path| MaskedFile::open(path, &masking.secrets, masking.access);
    // A reader has nothing to learn from a text.
    let idle = grammar == Grammar::Text && masking.access == Access::Read;
    let mut buffer = vec![0; 64 << 10];
    let mut mended = true;
    if let Some(mut log) = open(&paths.log()).filter(|_| !idle) {
        let mut parser = Parser::new(grammar);
        let plain = grammar == Grammar::Text;
        let mut take = |bytes: &[u8]| {
            if !plain {
                parser.feed(bytes, &mut |_, event| summary.apply(&event));
            }
        };
        loop {
            if plain {
                log.skip_hole();
            }
            if log.read(&mut buffer, &mut take) == 0 {
                break;
            }
        }
        log.finish(&mut take);
        parser.finish(&mut |_, event| summary.apply(&event));
        mended &= !log.failed();
    }
    if let Some(mut err) = open(&paths.err()).filter(|_| !idle) {
        let mut lines = LineSplitter::with_limit(ERR_LINE);
        let mut take_line = |line: Line<'_>| {
            let (Line::Whole { bytes, .. } | Line::Truncated { head: bytes, .. }) = line;
            if let Some(event) = stderr_event(grammar, String::from_utf8_lossy(bytes).trim_end()) {
                summary.apply(&event);
            }
        };
        while err.read(&mut buffer, &mut |bytes| lines.feed(bytes, &mut take_line)) > 0 {}
        err.finish(&mut |bytes| lines.feed(bytes, &mut take_line));
        lines.finish(&mut take_line);
        mended &= !err.failed();
    }
    (summary, mended)
}
