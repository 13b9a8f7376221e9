//! The jobs of a run that has begun: so many at once as asked for, each with a record as soon as it has ended.
//!
//! Called by `governed`. Must never: run a job that has a record, or go on when records cannot be kept.

use crate::error::BenchError;
use crate::folder::Folder;
use crate::governed::{News, Request};
use crate::job::{self, Ground, RunClock, Task};
use crate::prompts::Prompt;
use crate::servers::Servers;
use dx_engine::{Cancel, Engine};
use dx_proc::clock;
use dx_protocol::{BenchManifest, BenchPlanned};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The whole run looks at its cancellation this often.
const TICK: Duration = Duration::from_millis(100);

/// A run whose gates let it begin.
pub(crate) struct Begun<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a Request,
    pub(crate) manifest: &'a BenchManifest,
    /// Versions of the agents' programs now.
    pub(crate) agents: &'a BTreeMap<String, String>,
    pub(crate) folder: &'a Folder,
    pub(crate) servers: &'a Servers<'a>,
    pub(crate) cancel: &'a Cancel,
    pub(crate) told: &'a (dyn Fn(News<'_>) + Sync),
}

/// Runs all jobs that have no record: each workflow's warm-up first, then so many at once as asked for.
pub(crate) fn run(begun: &Begun<'_>, prompts: &[Prompt]) -> Result<(), BenchError> {
    let Begun { engine, request, manifest, agents, folder, servers, cancel, told } = *begun;
    let records = folder.records()?;
    let done = |job: &BenchPlanned| records.iter().any(|record| record.job == job.job);
    let left: Vec<Task<'_>> = manifest
        .jobs
        .iter()
        .enumerate()
        .filter(|(_, job)| !done(job))
        .filter_map(|(number, planned)| {
            let workflow = manifest.workflows.iter().find(|w| w.name == planned.workflow)?;
            let prompt = prompts.iter().find(|p| p.id == planned.prompt)?;
            Some(Task { planned, workflow, prompt, number })
        })
        .collect();
    told(News::Begun { run_id: &manifest.run_id, jobs: left.len(), done: manifest.jobs.len() - left.len() });
    let (given_up, stay) =
        std::io::pipe().map_err(|source| BenchError::io("make a pipe in", folder.path(), source))?;
    let last = records.iter().map(|record| record.ended_ms).max().unwrap_or(0);
    let ground = Ground {
        engine,
        run_id: &manifest.run_id,
        agents,
        timeout: request.timeout,
        max_retries: request.max_retries,
        clock: RunClock::new(clock::monotonic_ms(), clock::now_ms(), manifest.began_at, last),
        servers,
        cancel,
        given_up: &given_up,
    };
    let mut stay = Some(stay);
    let (warm_up, measured): (Vec<_>, Vec<_>) = left.into_iter().partition(|task| task.planned.round == 0);
    for tasks in [warm_up, measured] {
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            let worker = || {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(error) = one(&ground, task, folder, told) {
                        next.store(tasks.len(), Ordering::SeqCst);
                        keep(&failure, error);
                        return;
                    }
                }
            };
            let workers: Vec<_> =
                (0..tasks.len().min(request.parallel as usize)).map(|_| scope.spawn(worker)).collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                if cancel.is_cancelled() {
                    next.store(tasks.len(), Ordering::SeqCst);
                    drop(stay.take());
                }
                std::thread::sleep(TICK);
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_default() {
            return Err(error);
        }
        if cancel.is_cancelled() {
            return Err(BenchError::Interrupted);
        }
    }
    Ok(())
}

/// The first failure counts; what follows from it does not.
fn keep(failure: &Mutex<Option<BenchError>>, error: BenchError) {
    let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    failure.get_or_insert(error);
}

fn one(
    ground: &Ground<'_>,
    task: &Task<'_>,
    folder: &Folder,
    told: &(dyn Fn(News<'_>) + Sync),
) -> Result<(), BenchError> {
    told(News::Started(task.planned));
    let (record, answer) = job::run(ground, task)?;
    folder.write(&format!("raw/{}.answer.txt", task.planned.job), &answer)?;
    // Last: who has a record has all.
    folder.append(&record)?;
    told(News::Ended(&record));
    Ok(())
}
