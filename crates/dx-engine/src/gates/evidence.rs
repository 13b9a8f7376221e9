//! The evidence gate: every claim of a sign-off names a command, and each that it names succeeds.
//!
//! Asked for a job by itself it runs the commands in the job's worktree and sandbox; one that was the job's `--check` counts
//! with the result that is on record. At the end of a job it is part of the check, and so in its sandbox and under its
//! deadline. Must never: take a claim's word for anything.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::git::{Repository, Scratch};
use crate::lookup;
use crate::sandbox::Asked;
use crate::secrets::mask_text;
use crate::start::configure::project_of;
use crate::worktree::setup::{self, Setup};
use dx_core::signoff::{Claim, claims};
use dx_protocol::{ClaimRow, GATE_CHECK, Gate, GateDocument, GateFacts, GateReport, ReasonCode};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A sign-off is a page, not a book.
const MAX_BYTES: u64 = 1 << 20;
/// More commands than this are nobody's sign-off.
const MAX_COMMANDS: usize = 100;

/// How a command went: whether it succeeded, and what to say about it.
type Ran = (bool, String);

impl Engine {
    /// Whether every claim of a sign-off about a job is true.
    pub fn evidence_gate(&self, job: &JobName, signoff: &Path) -> Result<GateDocument, EngineError> {
        let text = match read(signoff) {
            Ok(text) => text,
            Err(refused) => return Ok(*refused),
        };
        let found = match self.state_for_reading()? {
            Some(state) => lookup::newest_ours(&state, job)?,
            None => return Err(EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() }),
        };
        let spec = &found.run.created.spec;
        let worktree = PathBuf::from(&spec.worktree);
        let settings = self.layers(project_of(&worktree).as_deref(), None)?;
        let write = spec.sandbox.write.iter().map(Into::into).collect();
        let asked = Asked::configured(spec.sandbox.mode, write, &settings)?.read_only(spec.gates.read_only);
        let Some(repository) = Repository::find(&worktree) else {
            return Err(EngineError::NoRepository(worktree));
        };
        let recorded = found.run.outcome.as_ref().and_then(|outcome| {
            let check = outcome.gates.iter().find(|gate| gate.name == GATE_CHECK)?;
            let ran =
                !matches!(check.report.reason_code, ReasonCode::CheckNotRun | ReasonCode::GateUnanswered);
            ran.then(|| (spec.gates.check.clone(), check.report.passed))
        });
        let scratch = Scratch::new()?;
        let mut run = |command: &str| -> Result<Ran, EngineError> {
            if let Some((Some(check), passed)) = &recorded
                && check == command
            {
                return Ok((*passed, "the job's check, as recorded".to_owned()));
            }
            let mark = uuid::Uuid::now_v7().to_string().parse()?;
            let log = scratch.index("log");
            let one = [command.to_owned()];
            let ran = setup::run(&Setup {
                commands: &one,
                beads: &job.beads,
                mark: &mark,
                worktree: &repository,
                log: &log,
                tmp: &scratch.index("tmp"),
                sandbox: &asked,
                progress: &|what| self.progress(what),
                halt: None,
            });
            match ran {
                Ok(()) => Ok((true, "run now: exit status: 0".to_owned())),
                Err(EngineError::SetupFailed { how, .. }) => {
                    Ok((false, format!("run now: {how}{}", last_of(&log))))
                }
                Err(other) => Err(other),
            }
        };
        let mut answer = judge(&text, &mut run)?;
        answer.facts.worktree = Some(spec.worktree.clone());
        Ok(answer)
    }
}

/// `dx-runner __evidence <file>…`: part of a job's check, so already confined and watched. Prints what it finds.
pub(crate) fn at_the_end(files: &[PathBuf]) -> i32 {
    let mut passed = true;
    for file in files {
        let mut run = |command: &str| {
            let status = Command::new("/bin/sh").args(["-c", command]).status();
            Ok(match status {
                Ok(status) => (status.success(), status.to_string()),
                Err(error) => (false, error.to_string()),
            })
        };
        let answer = match read(file) {
            Ok(text) => judge(&text, &mut run),
            Err(refused) => Ok(*refused),
        };
        let line = match &answer {
            Ok(answer) => {
                passed &= answer.report.passed;
                format!("{}: {} ({})", file.display(), answer.report.details, answer.report.reason_code)
            }
            Err(error) => {
                passed = false;
                format!("{}: {error}", file.display())
            }
        };
        helper_line(&line);
        for claim in answer.iter().flat_map(|answer| answer.facts.claims.iter().flatten()) {
            let word = if claim.verified { "true" } else { "not verified" };
            helper_line(&format!(
                "  line {}: {word}: {}: {} ({})",
                claim.line, claim.text, claim.command, claim.how
            ));
        }
    }
    if passed { 0 } else { i32::from(dx_protocol::ExitCode::Evidence.code()) }
}

/// The check's output is masked by the monitor that reads it.
fn helper_line(text: &str) {
    use std::io::Write as _;
    let _told = writeln!(std::io::stdout().lock(), "{}", mask_text(text));
}

/// The text, or the answer that there is none.
fn read(signoff: &Path) -> Result<String, Box<GateDocument>> {
    let refused = |why: String| {
        let details = format!("{}: {why}", signoff.display());
        let report = GateReport::new(false, ReasonCode::SignoffMissing, details);
        Box::new(GateDocument::new(
            Gate::Evidence,
            report,
            GateFacts {
                claims: Some(Vec::new()),
                total_claims: Some(0),
                verified_claims: Some(0),
                ..GateFacts::default()
            },
        ))
    };
    let bytes = dx_jobdir::read_bounded(signoff, MAX_BYTES + 1).map_err(|e| refused(e.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refused("it is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".to_owned()))
}

/// Judges all claims, with a row for each command of each; a command that stands in several is run once.
fn judge(
    text: &str,
    run: &mut dyn FnMut(&str) -> Result<Ran, EngineError>,
) -> Result<GateDocument, EngineError> {
    let claims: Vec<Claim> = claims(text);
    let (mut rows, mut verified): (Vec<ClaimRow>, usize) = (Vec::new(), 0);
    for claim in &claims {
        let row = |command: &str, (verified, how): Ran| ClaimRow {
            line: claim.line,
            text: claim.text.clone(),
            command: command.to_owned(),
            verified,
            how,
        };
        let before = rows.len();
        for command in &claim.commands {
            let ran = match rows.iter().find(|row| row.command == *command) {
                Some(row) => (row.verified, row.how.clone()),
                None if rows.len() >= MAX_COMMANDS => (false, "there are too many commands".to_owned()),
                None => run(command)?,
            };
            rows.push(row(command, ran));
        }
        if claim.commands.is_empty() {
            rows.push(row("-", (false, "it names no command in backticks".to_owned())));
        }
        verified += usize::from(rows[before..].iter().all(|row| row.verified));
    }
    let total = claims.len();
    let report = if total == 0 {
        GateReport::new(false, ReasonCode::NoClaims, "the sign-off claims nothing")
    } else if verified == total {
        GateReport::new(true, ReasonCode::EvidenceOk, format!("{total} claims are true"))
    } else {
        let details = format!("{} of {total} claims are not verified", total - verified);
        GateReport::new(false, ReasonCode::UnverifiedClaims, details)
    };
    Ok(GateDocument::new(
        Gate::Evidence,
        report,
        GateFacts {
            total_claims: Some(total as u64),
            verified_claims: Some(verified as u64),
            claims: Some(rows),
            ..GateFacts::default()
        },
    ))
}

/// The last line that a command printed, in front of what we wrote below it.
fn last_of(log: &Path) -> String {
    let text = dx_jobdir::read_bounded(log, MAX_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut said = text.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("dx-runner: "));
    let line = said.rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    if line.is_empty() { String::new() } else { format!(" ({})", mask_text(line)) }
}
