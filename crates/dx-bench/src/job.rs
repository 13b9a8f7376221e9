//! One job of the plan, with its attempts: started as every job is, watched, and measured from outside.
//!
//! Times are of the monotonic clock, taken here: when the start was called, when the agent's program ran, when the model's
//! first word was in the log, when the process was gone. Waiting for a turn counts for nobody. Must never: start a job a
//! second time that an earlier run of the benchmark began, or let one go on that nobody will read.

use crate::answer::{self, Follower};
use crate::collect::{self, Seen};
use crate::error::BenchError;
use crate::prompts::Prompt;
use crate::servers::Servers;
use dx_engine::{
    Cancel, Engine, EngineError, GiveUp, JobName, PromptSource, StartRequest, WaitRequest, WorktreeChoice,
};
use dx_proc::{PidFd, clock, tree};
use dx_protocol::{
    BeadsId, BenchAttempt, BenchPlanned, BenchRecord, BenchWorkflow, Gates, ProviderName, Timestamp,
};
use std::collections::BTreeMap;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::time::Duration;

/// Memory is looked at this often.
const LOOK_MS: u64 = 250;
/// Whether a job has ended is asked this often when its process does not tell.
const ASK_MS: u64 = 2_000;
/// From the end of the process to the outcome: gates, checks, settling.
const SETTLE: Duration = Duration::from_mins(15);

/// What all jobs of a run share.
pub(crate) struct Ground<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) run_id: &'a str,
    /// Versions of the agents' programs, by provider.
    pub(crate) agents: &'a BTreeMap<String, String>,
    pub(crate) timeout: Duration,
    pub(crate) max_retries: u32,
    pub(crate) clock: RunClock,
    pub(crate) servers: &'a Servers<'a>,
    pub(crate) cancel: &'a Cancel,
    /// Closed on its other side when the run is given up.
    pub(crate) given_up: &'a PipeReader,
}

/// Milliseconds since the run began, whichever process began it. Within this process they are of CLOCK_MONOTONIC, which may
/// not know that moment any more: the machine may have been started anew since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunClock {
    /// CLOCK_MONOTONIC and Unix time of the same moment, and how long the run was on by then.
    mono: u64,
    wall: i64,
    elapsed: u64,
}

impl RunClock {
    /// Of a run whose last record so far ended at `last`.
    pub(crate) fn new(mono: u64, wall: i64, began_at: Option<Timestamp>, last: u64) -> Self {
        let since = began_at.map_or(0, |began| wall.saturating_sub(began.0).max(0).unsigned_abs());
        // Unix time may have been set back; what has ended stays in the past.
        Self { mono, wall, elapsed: since.max(last) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.elapsed + clock::monotonic_ms().saturating_sub(self.mono)
    }

    /// A moment that another process wrote down.
    pub(crate) fn at(&self, moment: Timestamp) -> u64 {
        self.elapsed.saturating_add_signed(moment.0.saturating_sub(self.wall))
    }
}

/// A job of the plan with what it names.
pub(crate) struct Task<'a> {
    pub(crate) planned: &'a BenchPlanned,
    pub(crate) workflow: &'a BenchWorkflow,
    pub(crate) prompt: &'a Prompt,
    /// Its place in the plan.
    pub(crate) number: usize,
}

/// Runs it until it succeeds or has no attempt left; what its agents wrote is in `raw` of the answer.
pub(crate) fn run(ground: &Ground<'_>, task: &Task<'_>) -> Result<(BenchRecord, String), BenchError> {
    let mut earlier = Vec::new();
    loop {
        let (record, answer) = attempt(ground, task, earlier.len() as u32)?;
        if record.success || record.retries == ground.max_retries {
            return Ok((collect::with_earlier(record, earlier), answer));
        }
        earlier.push(BenchAttempt {
            began_ms: record.began_ms,
            ended_ms: record.ended_ms,
            usage: record.usage,
            failure: record.failure,
        });
    }
}

/// One attempt, whatever becomes of it: what keeps a job from being run or read is its own failure, and no reason to give the
/// others up.
fn attempt(ground: &Ground<'_>, task: &Task<'_>, retries: u32) -> Result<(BenchRecord, String), BenchError> {
    let id = format!("bench-{}-{}-{retries}", ground.run_id, task.number);
    let mut seen = Seen { retries, began_ms: ground.clock.now(), ..Seen::default() };
    match try_to_run(ground, task, &id, &mut seen) {
        Err(_) if ground.cancel.is_cancelled() => Err(BenchError::Interrupted),
        Err(BenchError::Engine(error)) => {
            seen.ended_ms = ground.clock.now();
            // One that cannot be removed is no worse than the failure that is told.
            let _removed = ground.engine.remove_scratch(&scratch(ground.run_id, &id));
            Ok((collect::refused(ground, task, &seen, &error), String::new()))
        }
        other => other,
    }
}

fn try_to_run(
    ground: &Ground<'_>,
    task: &Task<'_>,
    id: &str,
    seen: &mut Seen,
) -> Result<(BenchRecord, String), BenchError> {
    let provider: ProviderName =
        task.workflow.system.parse().map_err(|_| BenchError::Argument(task.workflow.system.clone()))?;
    let beads: BeadsId = id.parse().map_err(|_| BenchError::Argument(format!("`{id}` is no job id")))?;
    let name = JobName { beads: beads.clone(), provider: Some(provider.clone()) };
    let scratch = scratch(ground.run_id, id);
    if !collect::is_taken_up(ground.engine, &name)? {
        let worktree = ground.engine.scratch_repository(&scratch, &task.prompt.files)?;
        let request = StartRequest {
            beads: Some(beads),
            prompt: Some(PromptSource::Text(task.prompt.prompt.clone().into_bytes())),
            worktree: WorktreeChoice::Path(worktree),
            model: Some(task.workflow.model.clone()).filter(|model| model != "-"),
            lane: crate::workflow::known(&task.workflow.name).map(|known| known.lane),
            server: ground.servers.url(&task.workflow.name).map(str::to_owned),
            max_runtime: Some(ground.timeout),
            gates: Gates {
                check: task.prompt.check.clone(),
                scope: task.prompt.scope.clone(),
                ..Gates::default()
            },
            ..StartRequest::new(&provider)
        };
        let called = clock::monotonic_ms();
        let started = ground.engine.start_queued(&request, GiveUp::When(ground.given_up.as_fd()))?;
        seen.called = Some(called + started.queued_ms.unwrap_or(0));
        seen.began_ms += started.queued_ms.unwrap_or(0);
        if let Err(error) = watch(ground, &name, started.pid, seen) {
            let _ended = ground.engine.stop(&name, None);
            return Err(error);
        }
    }
    let request =
        WaitRequest { jobs: vec![name.clone()], any: false, timeout: Some(ground.timeout + SETTLE) };
    ground.engine.wait(&request)?;
    if ground.cancel.is_cancelled() {
        return Err(BenchError::Interrupted);
    }
    seen.ended_ms = ground.clock.now();
    let answer = answer::whole(&ground.engine.log_files(&name, None)?);
    let record = collect::record(ground, task, &name, seen, &answer)?;
    ground.engine.remove_scratch(&scratch)?;
    Ok((record, answer))
}

/// The name of a job's repository.
fn scratch(run_id: &str, id: &str) -> String {
    format!("bench-{run_id}/{id}")
}

/// Until the agent's process is gone.
fn watch(ground: &Ground<'_>, name: &JobName, pid: i32, seen: &mut Seen) -> Result<(), BenchError> {
    let mut follower = Follower::new(&ground.engine.log_files(name, None)?);
    let pidfd = PidFd::open(pid).ok();
    let (mut looked, mut asked) = (0, clock::monotonic_ms());
    loop {
        follower.step(pidfd.as_ref());
        seen.first = seen.first.or(follower.first);
        let now = clock::monotonic_ms();
        if pidfd.as_ref().is_some_and(|pidfd| pidfd.is_exited().unwrap_or(true)) {
            seen.gone = Some(now);
            return Ok(());
        }
        if ground.cancel.is_cancelled() {
            return Err(BenchError::Interrupted);
        }
        if now - looked >= LOOK_MS {
            looked = now;
            seen.memory_kib = seen.memory_kib.max(tree::tree_resident_kib(&[pid]));
        }
        // The process may have been gone before it could be watched, and its number may be another's by now.
        if now - asked >= ASK_MS {
            asked = now;
            let ended = WaitRequest { jobs: vec![name.clone()], any: false, timeout: Some(Duration::ZERO) };
            match ground.engine.wait(&ended) {
                Ok(_) => return Ok(()),
                Err(EngineError::Deadline(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RunClock;
    use dx_protocol::Timestamp;

    #[test]
    fn a_run_has_one_clock_whoever_goes_on_with_it() {
        let began = Some(Timestamp(1_000_000));
        // Gone on with 50 s after its begin, on a machine that was started 2 s ago.
        let clock = RunClock::new(2_000, 1_050_000, began, 7_000);
        assert_eq!(clock.at(Timestamp(1_003_000)), 3_000, "a job that the killed process began");
        assert!(clock.now() >= 50_000);
        // Before the run's begin is nothing.
        assert_eq!(clock.at(Timestamp(900_000)), 0);
        // Unix time was set back: what is run now is behind what has ended.
        let back = RunClock::new(2_000, 999_000, began, 7_000);
        assert_eq!((back.elapsed, back.at(Timestamp(999_000))), (7_000, 7_000));
        // A run of an earlier version goes on where its last record ended.
        assert_eq!(RunClock::new(2_000, 1_050_000, None, 7_000).elapsed, 7_000);
    }
}
