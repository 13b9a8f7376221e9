//! One turn of an agent: its job, from the record that it begins to the record of what became of it.
//!
//! What the runner makes of it is `judge`'s. Must never: begin a job that the record does not say.

use super::files::{Project, TASKS, Task, text};
use super::handoff::{self, AGY};
use super::judge::{CONTEXT, judge};
use super::papers::take_back;
use super::prompt;
use super::run::{TaskRunRequest, job_prefix};
use super::seen::hidden_files;
use crate::api::{JobName, PromptSource, StartRequest, Started, WaitRequest, WorktreeChoice};
use crate::error::{EngineError, told};
use crate::halt::Halt;
use crate::{Engine, GiveUp};
use dx_jobdir::faults;
use dx_proc::clock;
use dx_protocol::{
    BeadsId, CheckDocument, ProviderName, ReasonCode, TaskState, TaskStep, TaskStepState, Timestamp,
};
use dx_workflow::hash;
use std::path::Path;
use std::time::Duration;

/// A turn that takes longer is ended.
pub(super) const DEADLINE: Duration = Duration::from_hours(1);
/// For OpenCode: what nobody can be asked for is refused, and the agent goes on without it instead of ending there. Left to who
/// gives settings in this form.
const GOES_ON: (&str, &str) =
    ("OPENCODE_CONFIG_CONTENT", "{\"experimental\":{\"continue_loop_on_deny\":true}}");
/// How often a unit looks whether its wave is ended.
const TICK: Duration = Duration::from_millis(500);
/// Its agent may write all that a test's run may, its report excepted.
pub(super) const IMPLEMENTER: &str = "implementer";

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
    pub(super) fn folder(&self) -> Task {
        Task { id: self.task.id.clone(), folder: self.place.join(TASKS).join(&self.task.id) }
    }

    fn is_halted(&self) -> bool {
        self.halt.is_some_and(|halt| halt.is_over())
    }

    /// Starts a job. A unit waits for its turn under the provider's cap, as an item of a wave does; when the wave is ended, only
    /// a job that runs already is taken up, so that it is ended and not forgotten.
    pub(super) fn start(&self, request: &StartRequest) -> Result<Started, EngineError> {
        let Some(halt) = self.halt else { return self.engine.start(request) };
        if self.is_halted() {
            return self.engine.started_before(request)?.ok_or_else(|| halt.error());
        }
        self.engine.start_queued(request, GiveUp::When(halt.fd()))
    }

    pub(super) fn wait(
        &self,
        beads: &BeadsId,
        provider: &ProviderName,
    ) -> Result<CheckDocument, EngineError> {
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
        state.steps.push(begun(job, agent, round, ground.place)?);
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
        Err(error) => Some((error.reason(), format!("{}; {}", told(&error), error.next_action()))),
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
    step.agy = None;
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
fn begun(job: String, agent: &str, round: u32, place: &Path) -> Result<TaskStep, EngineError> {
    Ok(TaskStep {
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
        notes: Vec::new(),
        before: hidden_files(place)?,
        agy: Some(handoff::flag(text(&place.join(CONTEXT)).as_deref())),
        started_at: Timestamp(clock::now_ms()),
        ended_at: None,
    })
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
        env: goes_on(&ground.request.provider).into_iter().collect(),
        ..blank
    };
    if agent == IMPLEMENTER
        && handoff::is_enabled(ground.project.context().as_deref())
        && let Some(program) = crate::environment::find_program(AGY)
    {
        return handoff::request(ground, request, &program, &prompt);
    }
    Ok(request)
}

fn goes_on(provider: &ProviderName) -> Option<String> {
    let (name, value) = GOES_ON;
    let is_open =
        provider.as_str() == "opencode" && std::env::var_os(name).is_none_or(|given| given.is_empty());
    is_open.then(|| format!("{name}={value}"))
}

/// A start with it never starts a second job.
pub(super) fn key(state: &TaskState, job: &str) -> String {
    format!("{job}{}", mark(state))
}

/// What the keys of all jobs of an attempt end with.
pub(super) fn mark(state: &TaskState) -> String {
    let began = state.started_at.map_or(0, |at| at.0);
    format!(":{began}:{}:{}", state.spec_sha256, hash(state.worktree.as_bytes()))
}
