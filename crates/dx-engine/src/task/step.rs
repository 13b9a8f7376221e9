//! One turn of an agent, one run of a test command: the job, and what the runner sees of it afterwards.
//!
//! Must never: take a report for the work, or an agent's permissions for its boundary.

use super::files::{Project, TASKS, Task, text};
use super::plan::Halt;
use super::prompt;
use super::run::{TaskRunRequest, job_prefix};
use super::seen::{self, hidden_files};
use crate::api::{JobName, PromptSource, StartRequest, Started, WaitRequest, WorktreeChoice};
use crate::error::{EngineError, told};
use crate::{Engine, GiveUp};
use dx_jobdir::faults;
use dx_proc::clock;
use dx_protocol::{
    BeadsId, CheckDocument, OutcomeState, ProviderName, ReasonCode, RunUuid, TaskCommand, TaskState,
    TaskStep, TaskStepState, Timestamp,
};
use dx_workflow::task::{Report, ReportKind, SPEC, report_findings};
use dx_workflow::{Effect, effect, hash, rules_of};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A turn that takes longer is ended.
const DEADLINE: Duration = Duration::from_hours(1);
/// How often a unit looks whether its wave is ended.
const TICK: Duration = Duration::from_millis(500);
/// Its agent may write all that a test's run may, its report excepted.
const IMPLEMENTER: &str = "implementer";
/// May carry out the implementer's step, when the user says so.
const AGY: &str = "agy";
/// Of a command's output so much is kept.
const MAX_OUTPUT: usize = 4 << 10;

/// What all turns of a run share.
pub(super) struct Ground<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a TaskRunRequest,
    pub(super) project: &'a Project,
    pub(super) task: &'a Task,
    /// The specification's text.
    pub(super) spec: &'a str,
    /// Where the agents work: the project, or a worktree.
    pub(super) place: &'a Path,
    /// Of a unit: what ends its wave.
    pub(super) halt: Option<Halt<'a>>,
}

impl Ground<'_> {
    /// The task's folder where the agents work.
    fn folder(&self) -> Task {
        Task { id: self.task.id.clone(), folder: self.place.join(TASKS).join(&self.task.id) }
    }

    fn is_halted(&self) -> bool {
        self.halt.is_some_and(|halt| halt.flag.load(Ordering::Relaxed))
    }

    /// Starts a job. A unit waits for its turn under the provider's cap, as an item of a wave does; when the wave is ended, only
    /// a job that runs already is taken up, so that it is ended and not forgotten.
    fn start(&self, request: &StartRequest) -> Result<Started, EngineError> {
        let Some(halt) = self.halt else { return self.engine.start(request) };
        if self.is_halted() {
            let left = || EngineError::WaveCancelled { wave: halt.wave.to_owned() };
            return self.engine.started_before(request)?.ok_or_else(left);
        }
        self.engine.start_queued(request, GiveUp::When(halt.pipe.as_fd()))
    }

    fn wait(&self, beads: &BeadsId, provider: &ProviderName) -> Result<CheckDocument, EngineError> {
        let job = JobName { beads: beads.clone(), provider: Some(provider.clone()) };
        let timeout = self.halt.map(|_| TICK);
        let request = WaitRequest { jobs: vec![job.clone()], any: false, timeout };
        loop {
            match self.engine.wait(&request) {
                Err(EngineError::Deadline(_)) if self.is_halted() => {
                    let _asked = self.engine.stop(&job, None);
                }
                Err(EngineError::Deadline(_)) => {}
                documents => return documents?.pop().ok_or(EngineError::MonitorLost),
            }
        }
    }
}

/// Lets one agent work, or goes on waiting for it, and judges what it did.
pub(super) fn turn(
    ground: &Ground<'_>,
    state: &mut TaskState,
    agent: &str,
    round: u32,
) -> Result<(), EngineError> {
    let is_this = |step: &TaskStep| step.agent == agent && step.round == round;
    let at = state.steps.iter().position(is_this).unwrap_or(state.steps.len());
    if at == state.steps.len() {
        let job = format!("{}-{round}-{agent}", job_prefix(ground.project, ground.task, state));
        state.steps.push(begun(job, agent, round, ground.place));
        ground.task.put_state(state)?;
        faults::step("task.step_recorded");
    }
    let known = text(&ground.task.state_path());
    let request = request(ground, state, agent, round)?;
    let is_agy = !request.command.is_empty();
    state.steps[at].by = if is_agy { AGY.to_owned() } else { request.provider.to_string() };
    let worked = ground.start(&request).and_then(|started| {
        faults::step("task.step_started");
        let document = ground.wait(&started.ids.beads, &request.provider)?;
        Ok((started.ids.run_uuid, document))
    });
    let failing = state.commands.iter().any(|ran| ran.round == round && ran.exit_code != Some(0));
    let step = &mut state.steps[at];
    let judged = worked.and_then(|(uuid, document)| {
        step.run_uuid = Some(uuid);
        judge(ground, step, failing, &document)
    });
    let problem = match judged {
        Ok(problem) => problem,
        Err(error) => Some((error.reason(), told(&error))),
    };
    let problem = match problem {
        None if text(&ground.task.state_path()) != known => {
            let message = "it changed state.json, which is the runner's".to_owned();
            Some((ReasonCode::RoleScopeViolation, message))
        }
        other => other,
    };
    step.ended_at = Some(Timestamp(clock::now_ms()));
    step.before.clear();
    step.state = if problem.is_none() { TaskStepState::Passed } else { TaskStepState::Failed };
    if let Some((reason, message)) = problem {
        (step.reason_code, step.message) = (Some(reason), message);
    }
    if ground.place != ground.project.top {
        take_back(ground, &state.steps[at])?;
    }
    ground.task.put_state(state)?;
    faults::step("task.step_judged");
    Ok(())
}

/// A turn of which nothing is known but that it begins.
fn begun(job: String, agent: &str, round: u32, place: &Path) -> TaskStep {
    TaskStep {
        agent: agent.to_owned(),
        round,
        job,
        by: String::new(),
        run_uuid: None,
        state: TaskStepState::Running,
        reason_code: None,
        message: String::new(),
        changed_paths: Vec::new(),
        violations: Vec::new(),
        report: None,
        claims_pass: None,
        before: hidden_files(place),
        started_at: Timestamp(clock::now_ms()),
        ended_at: None,
    }
}

fn request(
    ground: &Ground<'_>,
    state: &TaskState,
    agent: &str,
    round: u32,
) -> Result<StartRequest, EngineError> {
    let job = state.steps.iter().find(|step| step.agent == agent && step.round == round);
    let job = job.map(|step| step.job.clone()).unwrap_or_default();
    let model = ground.request.models.get(agent).or(ground.request.model.as_ref()).cloned();
    let prompt = prompt::of(&ground.folder(), ground.spec, state, agent, round);
    let blank = StartRequest::new(&ground.request.provider);
    let request = StartRequest {
        beads: Some(job.parse()?),
        prompt: Some(PromptSource::Text(prompt.clone().into_bytes())),
        worktree: WorktreeChoice::Path(ground.place.to_owned()),
        allow_model_override: ground.request.allow_model_override,
        model,
        agent: Some(agent.to_owned()),
        max_runtime: Some(DEADLINE),
        idempotency_key: Some(key(state, &job)),
        ..blank
    };
    if agent == IMPLEMENTER
        && prompt::agy_is_enabled(ground.project.context().as_deref())
        && let Some(program) = crate::environment::find_program(AGY)
    {
        return agy(ground, request, &program, &prompt);
    }
    Ok(request)
}

/// The implementer's turn by another program: it gets a pointer to a file with everything.
fn agy(
    ground: &Ground<'_>,
    request: StartRequest,
    program: &Path,
    prompt: &str,
) -> Result<StartRequest, EngineError> {
    let handoff = ground.folder().folder.join("agy-handoff.md");
    let persona = dx_workflow::text_of("agents/implementer.md").unwrap_or_default();
    let persona = persona.splitn(3, "---\n").nth(2).unwrap_or(persona);
    let context = ground.project.context().unwrap_or_default();
    let text = format!(
        "{}\n\n# The step\n\n{prompt}\n\n# task-spec.md\n\n{}\n\n# .ai/context.md\n\n{context}\n",
        persona.trim(),
        ground.spec
    );
    fs::write(&handoff, text).map_err(|source| EngineError::Io { what: "write the handoff file", source })?;
    let pointer = format!("Read {} and do exactly what it says.", handoff.display());
    let flags = ["--dangerously-skip-permissions", "--print"].map(str::to_owned);
    let command = std::iter::once(program.display().to_string()).chain(flags).chain([pointer]).collect();
    let provider: ProviderName = "exec".parse()?;
    Ok(StartRequest {
        provider,
        command,
        prompt: None,
        model: None,
        agent: None,
        allow_model_override: false,
        ..request
    })
}

/// A start with it never starts a second job.
fn key(state: &TaskState, job: &str) -> String {
    format!("{job}{}", mark(state))
}

/// What the keys of all jobs of an attempt end with.
pub(super) fn mark(state: &TaskState) -> String {
    let began = state.started_at.map_or(0, |at| at.0);
    format!(":{began}:{}:{}", state.spec_sha256, hash(state.worktree.as_bytes()))
}

/// What is wrong with a turn; `None`: nothing.
fn judge(
    ground: &Ground<'_>,
    step: &mut TaskStep,
    failing: bool,
    document: &CheckDocument,
) -> Result<Option<(ReasonCode, String)>, EngineError> {
    let uuid = step.run_uuid.clone().ok_or(EngineError::MonitorLost)?;
    let seen = seen::of(ground, &uuid, &step.before)?;
    step.changed_paths = seen.changed.into_iter().collect();
    let rules = rules_of(&step.agent);
    let outside = |path: &&String| {
        let elsewhere = path.starts_with(TASKS) && !path.starts_with(&format!("{}/", ground.task.path("")));
        elsewhere || effect(&rules, "edit", path) != Effect::Allow
    };
    step.violations = step.changed_paths.iter().filter(outside).cloned().collect();
    if seen.moved {
        step.violations.push("HEAD".to_owned());
    }
    if !step.violations.is_empty() {
        let message = format!("it wrote what its role may not: {}", step.violations.join(", "));
        return Ok(Some((ReasonCode::RoleScopeViolation, message)));
    }
    let outcome = document.outcome.as_ref();
    if outcome.is_none_or(|outcome| outcome.state != OutcomeState::Success) {
        let reason = outcome.map_or(document.reason_code, |outcome| outcome.reason_code);
        let next = format!("its job {} ended as {reason}; {}", step.job, document.next_action);
        return Ok(Some((reason, next)));
    }
    Ok(report(ground, step, failing))
}

/// What is wrong with a turn's report; `failing`: a test command failed before it.
fn report(ground: &Ground<'_>, step: &mut TaskStep, failing: bool) -> Option<(ReasonCode, String)> {
    let kind = ReportKind::of_agent(&step.agent)?;
    let path = ground.task.path(kind.file());
    let written = text(&ground.folder().folder.join(kind.file()));
    // One that was there before is not this turn's.
    let Some(text) = written.filter(|_| step.changed_paths.contains(&path)) else {
        let message = format!("it ended well, and did not write {path}");
        return Some((ReasonCode::ReportMissing, message));
    };
    step.report = Some(path.clone());
    let parsed = Report::parse(&text);
    step.claims_pass = parsed.passed;
    if parsed.is_blocked() {
        let message = format!("it is blocked, see {path}");
        return Some((ReasonCode::AgentBlocked, message));
    }
    if parsed.passed == Some(false) && !failing && parsed.names_no_issue() {
        let message = format!("{path} says FAIL and names no issue, and all test commands passed");
        return Some((ReasonCode::ReportInvalid, message));
    }
    let found = report_findings(&path, kind, &text, &hash(ground.spec.as_bytes()));
    found
        .first()
        .map(|first| (ReasonCode::ReportInvalid, format!("{}:{}: {}", first.file, first.line, first.message)))
}

/// Runs a test command, as a job: watched, confined, and taken up again after a kill.
pub(super) fn command(
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
            before: hidden_files(ground.place),
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
    let seen = seen::of(ground, uuid, &ran.before)?;
    let rules = rules_of(IMPLEMENTER);
    let is_papers = |path: &str| path == ".ai" || path.starts_with(".ai/");
    let outside = |path: &String| is_papers(path) || effect(&rules, "edit", path) != Effect::Allow;
    let head = seen.moved.then(|| "HEAD".to_owned());
    Ok(seen.changed.into_iter().filter(outside).chain(head).collect())
}

/// Puts what the agents need to read into a worktree: project facts, decisions, the specification.
pub(super) fn bring(project: &Project, task: &Task, place: &Path) -> Result<(), EngineError> {
    if place == project.top {
        return Ok(());
    }
    let mut files = vec![".ai/context.md".to_owned(), task.path(SPEC)];
    let whole = task.id.split('/').next().unwrap_or(&task.id);
    files.push(format!("{TASKS}/{whole}/{SPEC}"));
    let decisions = fs::read_dir(project.top.join(".ai/decisions")).into_iter().flatten().flatten();
    let names = decisions.filter_map(|entry| entry.file_name().into_string().ok());
    files.extend(names.map(|name| format!(".ai/decisions/{name}")));
    for file in files {
        if let Some(content) = text(&project.top.join(&file)) {
            put(&place.join(&file), &content)?;
        }
    }
    Ok(())
}

/// Brings home from a worktree what an agent wrote below `.ai`: its report, decisions, facts of the project.
fn take_back(ground: &Ground<'_>, step: &TaskStep) -> Result<(), EngineError> {
    let is_ours = |path: &&String| path.starts_with(".ai/") && !step.violations.contains(path);
    for path in step.changed_paths.iter().filter(is_ours) {
        if let Some(content) = text(&ground.place.join(path)) {
            put(&ground.project.top.join(path), &content)?;
        }
    }
    Ok(())
}

fn put(path: &Path, content: &str) -> Result<(), EngineError> {
    if text(path).as_deref() == Some(content) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, content));
    made.map_err(|source| EngineError::Io { what: "copy a task's file", source })
}
