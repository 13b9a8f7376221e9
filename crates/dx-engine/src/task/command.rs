//! A test command of a specification, run by the runner itself, and what it changed.
//!
//! Called by `run`. Must never: let a test write what its author may not.

use super::files::text;
use super::run::job_prefix;
use super::seen::{self, hidden_files};
use super::step::{DEADLINE, Ground, IMPLEMENTER, key};
use crate::api::{StartRequest, WorktreeChoice};
use crate::error::EngineError;
use dx_jobdir::faults;
use dx_proc::clock;
use dx_protocol::{ProviderName, RunUuid, TaskCommand, TaskState, Timestamp};
use dx_workflow::{Effect, effect, rules_of};

/// Of a command's output so much is kept.
const MAX_OUTPUT: usize = 4 << 10;

/// Runs a test command, as a job: watched, confined, and taken up again after a kill.
pub(super) fn run(
    ground: &Ground<'_>,
    state: &mut TaskState,
    command: &str,
    index: usize,
    round: u32,
) -> Result<(), EngineError> {
    let job = format!("{}-{round}-test-{}", job_prefix(ground.project, ground.task, state), index + 1);
    let at = state.commands.iter().position(|ran| ran.running).unwrap_or(state.commands.len());
    if at == state.commands.len() {
        state.commands.push(TaskCommand {
            command: command.to_owned(),
            round,
            exit_code: None,
            output: String::new(),
            running: true,
            violations: Vec::new(),
            before: hidden_files(ground.place)?,
            at: Timestamp(clock::now_ms()),
        });
        ground.task.put_state(state)?;
    }
    let known = text(&ground.task.state_path());
    let provider: ProviderName = "exec".parse()?;
    let request = StartRequest {
        beads: Some(job.parse()?),
        worktree: WorktreeChoice::Path(ground.place.to_owned()),
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        max_runtime: Some(DEADLINE),
        idempotency_key: Some(key(state, &job)),
        ..StartRequest::new(&provider)
    };
    let started = ground.start(&request)?;
    faults::step("task.command_started");
    let document = ground.wait(&started.ids.beads, &provider)?;
    let exit_code = document.outcome.as_ref().and_then(|outcome| outcome.exit_code.parse().ok());
    let log = dx_jobdir::read_bounded(&started.log, 16 << 20).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let from = log.char_indices().rev().nth(MAX_OUTPUT).map_or(0, |(at, _)| at);
    let mut violations = written_by_tests(ground, &started.ids.run_uuid, &state.commands[at])?;
    if text(&ground.task.state_path()) != known {
        violations.push(ground.task.path("state.json"));
    }
    let ran = &mut state.commands[at];
    (ran.running, ran.exit_code, ran.violations) = (false, exit_code, violations);
    ran.output = crate::mask_text(&log[from..]).into_owned();
    ran.before.clear();
    ground.task.put_state(state)?;
    faults::step("task.command_recorded");
    Ok(())
}

/// What a test command changed and no test may: agents write the tests, so a test may write no more than the implementer, and
/// nothing below `.ai`.
fn written_by_tests(
    ground: &Ground<'_>,
    uuid: &RunUuid,
    ran: &TaskCommand,
) -> Result<Vec<String>, EngineError> {
    if seen::is_misled(ground, uuid)? {
        // Nothing more can be asked of it.
        return Ok(vec![".git".to_owned()]);
    }
    let rules = rules_of(IMPLEMENTER);
    let is_papers = |path: &str| path == ".ai" || path.starts_with(".ai/");
    let outside = |path: &str| is_papers(path) || effect(&rules, "edit", path) != Effect::Allow;
    let seen = seen::of(ground, uuid, &ran.before, &outside)?;
    let head = seen.moved.then(|| "HEAD".to_owned());
    Ok(seen.changed.into_iter().filter(|path| outside(path)).chain(head).collect())
}
