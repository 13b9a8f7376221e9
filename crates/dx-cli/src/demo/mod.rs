//! The demo: three real jobs at once on a throw-away repository, with a model whose answers are written down.
//!
//! Jobs, worktrees, records, exit codes and diffs are what every job gets; only the model is scripted.
//! Called by: `commands::demo`; `main` for the built-in agent's process. Must never: touch anything of the user's but
//! the folder that `--install` fills, or leave a job or a folder behind (unless `--keep`).

pub(crate) mod agent;
pub(crate) mod install;
pub(crate) mod report;
pub(crate) mod stage;
mod tasks;
mod view;

use dx_proc::SignalFd;
use dx_protocol::{ExitCode, ReasonCode, StatusRow};
use dx_scripted_model::{Scenario, ScriptedModel};
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::context::Context;
use crate::error::CliError;
use agent::Agent;
use dx_engine::{EngineError, JobName, StatusQuery, WaitRequest};
use report::Job;
use stage::Stage;
use tasks::TASKS;
use view::View;

/// Pause between two pictures.
const REDRAW_MS: u64 = 200;
/// The outcome follows the end within moments.
const OUTCOME_PATIENCE: Duration = Duration::from_mins(1);

/// Plays in the folder, which is made first and removed in the end.
pub(crate) fn play(ctx: &Context, folder: &Path, keep: bool) -> Result<ExitCode, CliError> {
    // Before there is anything to clean up, and before there is a thread.
    let interrupts = Interrupts::new()?;
    let mut stage = Stage::make(folder)?;
    stage.keep = keep;
    let repository = tasks::make_repository(&folder.join("tempo"), &folder.join("home"))?;
    let model =
        ScriptedModel::start_by_prompt(tasks::scenarios(), Scenario::text("This is not in the script."))
            .map_err(|error| CliError::refused(ReasonCode::Internal, error.to_string()))?;
    let mut view = View::new(ctx);
    view.begin()?;
    let start = |agent: &Agent, task| -> Result<(), CliError> {
        stage.engine.start(&agent.request(task, &model.base_url(), &repository)?)?;
        Ok(())
    };
    let agent = first(ctx, &interrupts, |agent| start(agent, &TASKS[0]))?;
    interrupts.check()?;
    view.agent(&agent)?;
    // A start may take its time; what runs already is seen meanwhile.
    let (begun, enough) = (AtomicUsize::new(1), AtomicBool::new(false));
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            for task in TASKS[1..].iter().take_while(|_| !enough.load(Ordering::SeqCst)) {
                start(&agent, task)?;
                begun.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        let all_begun = || starter.is_finished().then(|| begun.load(Ordering::SeqCst));
        let seen = watch(&mut view, &stage, &interrupts, all_begun);
        enough.store(true, Ordering::SeqCst);
        let gone = |_| CliError::refused(ReasonCode::Internal, "the thread that started the jobs has failed");
        let started = starter.join().map_err(gone)?;
        // Ctrl-C also ends what a start runs, and then that is no failure.
        seen.and(started)
    })?;
    let jobs = jobs(&stage)?;
    report::show(ctx, &agent, &jobs, keep.then_some(folder))?;
    let all_well = jobs.iter().all(Job::went_well);
    Ok(if all_well { ExitCode::Ok } else { ExitCode::JobError })
}

/// Starts the first job; the agent that took it. A real one that cannot be used is passed over, which is said.
fn first(
    ctx: &Context,
    interrupts: &Interrupts,
    start: impl Fn(&Agent) -> Result<(), CliError>,
) -> Result<Agent, CliError> {
    let mut agent = Agent::BuiltIn("no OpenCode and no Claude Code was found".to_owned());
    if let Some(path) = stage::agent() {
        let real = Agent::real(path.clone());
        if let Agent::OpenCode(_) = real {
            ctx.out.note("setting up OpenCode in an empty home, which takes a few seconds ...\n");
        }
        let problem = match real.problem() {
            Some(problem) => problem,
            None => match start(&real) {
                Err(CliError::Engine(error @ EngineError::Provider { .. })) => error.to_string(),
                other => return other.map(|()| real),
            },
        };
        interrupts.check()?;
        ctx.out.note(format!("{} cannot be used: {problem}\n", path.display()));
        agent = Agent::BuiltIn(format!("{} cannot be used", path.display()));
    }
    start(&agent).map(|()| agent)
}

/// Shows the jobs until all have ended. `all_begun` says how many there are, once no further one is started.
fn watch(
    view: &mut View<'_>,
    stage: &Stage,
    interrupts: &Interrupts,
    all_begun: impl Fn() -> Option<usize>,
) -> Result<(), CliError> {
    loop {
        let begun = all_begun();
        let rows = rows(stage)?;
        view.show(&rows)?;
        match begun {
            // The start that failed says why.
            Some(begun) if begun < TASKS.len() => return Ok(()),
            // Between two records a job may be in neither for a moment.
            Some(begun) if begun == rows.len() && rows.iter().all(|row| row.ended) => return Ok(()),
            _ => interrupts.wait_ms(REDRAW_MS)?,
        }
    }
}

/// The jobs as they are, in the order of the tasks.
fn rows(stage: &Stage) -> Result<Vec<StatusRow>, CliError> {
    let mut rows = stage.engine.status(&StatusQuery { all: true, ..StatusQuery::default() })?.jobs;
    rows.sort_by_key(|row| TASKS.iter().position(|task| task.id == row.beads));
    Ok(rows)
}

/// How the jobs ended, and what each changed.
fn jobs(stage: &Stage) -> Result<Vec<Job>, CliError> {
    let name = |task| Ok(JobName { beads: agent::id(task)?, provider: None });
    let names: Vec<JobName> = TASKS.iter().map(name).collect::<Result<_, CliError>>()?;
    let request = WaitRequest { jobs: names.clone(), any: false, timeout: Some(OUTCOME_PATIENCE) };
    let ends = stage.engine.wait(&request)?;
    let jobs = TASKS.iter().zip(names).zip(ends);
    jobs.map(|((task, name), end)| Ok(Job::new(task, &end, stage.engine.diff(&name)?))).collect()
}

/// Ctrl-C and its relatives, as something to wait for; they no longer end the process by themselves.
pub(crate) struct Interrupts(SignalFd);

impl Interrupts {
    /// Start no thread before.
    pub(crate) fn new() -> Result<Self, CliError> {
        Ok(Self(SignalFd::new(&[Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw))?))
    }

    /// Until something happens on `other`; true: interrupted first.
    pub(crate) fn wait(&self, other: BorrowedFd<'_>) -> Result<bool, CliError> {
        dx_proc::poll::poll(&[self.0.as_fd(), other], None)?;
        Ok(!self.0.drain()?.is_empty())
    }

    /// A pause that Ctrl-C ends with an error.
    fn wait_ms(&self, limit_ms: u64) -> Result<(), CliError> {
        dx_proc::poll::poll(&[self.0.as_fd()], Some(limit_ms))?;
        self.check()
    }

    fn check(&self) -> Result<(), CliError> {
        if self.0.drain()?.is_empty() {
            return Ok(());
        }
        let message = "interrupted; the demo's jobs were ended";
        Err(CliError::refused_try(ReasonCode::Interrupted, message, "dx-runner demo"))
    }
}

/// A failure of the demo's own; `what` as in "failed to …".
pub(crate) fn failed(what: impl Into<String>, source: std::io::Error) -> CliError {
    CliError::Io { what: what.into(), reason: ReasonCode::Internal, source }
}
