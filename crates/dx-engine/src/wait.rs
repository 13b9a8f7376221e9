//! `wait`: blocks until jobs have ended, on pidfds of their processes and changes of the live index, never on a dead job.

use crate::Engine;
use crate::api::{JobName, WaitRequest};
use crate::check;
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::view::View;
use dx_jobdir::StateDir;
use dx_monitor::process_of;
use dx_proc::inotify::{self, Watch};
use dx_proc::{Host, PidFd, clock};
use dx_protocol::{CheckDocument, Identity};
use std::os::fd::AsFd;

/// Without any event the records are looked at this often: what is nobody's child wakes nobody.
const SAFETY_TICK_MS: u64 = 1_000;
/// After the outcome is written its views follow within moments; a claim that stays longer belongs to a dead monitor.
const PUBLISH_PATIENCE_MS: u64 = 2_000;
const PUBLISH_TICK_MS: u64 = 10;
/// No more pidfds than this are open at a time: descriptors are few, and the claim that goes away, or the tick,
/// tells of them too.
const MAX_PIDFDS: usize = 200;

impl Engine {
    /// Waits for all jobs, or for any one of them; answers with all documents as they are then.
    pub fn wait(&self, request: &WaitRequest) -> Result<Vec<CheckDocument>, EngineError> {
        let Some(first) = request.jobs.first() else { return Ok(Vec::new()) };
        let none = || EngineError::NoJob { beads: first.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let host = Host::current()?;
        let deadline = request.timeout.map(|t| clock::monotonic_ms().saturating_add(t.as_millis() as u64));
        let watch = Watch::new()
            .ok()
            .filter(|w| w.add(&state.live_dir(), inotify::DELETE | inotify::MOVED_FROM).is_ok());
        let mut watch = watch;
        let mut published_by = None;
        loop {
            let mut jobs: Vec<Waited> = Vec::with_capacity(request.jobs.len());
            let mut open = 0;
            for job in &request.jobs {
                let waited = look(&state, &host, job, open < MAX_PIDFDS)?;
                open += usize::from(waited.pidfd.is_some());
                jobs.push(waited);
            }
            let ended = jobs.iter().filter(|j| j.document.ended).count();
            let enough = if request.any { ended > 0 } else { ended == jobs.len() };
            let now = clock::monotonic_ms();
            if enough {
                let publishing = jobs.iter().any(|j| j.document.ended && j.settled && j.claimed);
                let by = *published_by.get_or_insert(now + PUBLISH_PATIENCE_MS);
                if !publishing || now >= by {
                    return Ok(jobs.into_iter().map(|j| j.document).collect());
                }
            }
            if deadline.is_some_and(|d| now >= d) {
                let running = jobs.iter().filter(|j| !j.document.ended).map(|j| j.document.beads.clone());
                return Err(EngineError::Deadline(running.collect()));
            }
            let tick = if enough { PUBLISH_TICK_MS } else { SAFETY_TICK_MS };
            let timeout = deadline.map_or(tick, |d| tick.min(d.saturating_sub(now)));
            let mut fds: Vec<_> = jobs.iter().filter_map(|j| j.pidfd.as_ref()).map(AsFd::as_fd).collect();
            if let Some(watch) = &watch {
                fds.push(watch.as_fd());
            }
            let _woken = dx_proc::poll::poll(&fds, Some(timeout))?;
            if let Some(watch) = &mut watch {
                let _events = watch.read_events(|_, _, _| {});
            }
        }
    }
}

struct Waited {
    document: CheckDocument,
    settled: bool,
    claimed: bool,
    /// Of one process whose end wakes us; none once the job has ended.
    pidfd: Option<PidFd>,
}

fn look(state: &StateDir, host: &Host, job: &JobName, open: bool) -> Result<Waited, EngineError> {
    let found = match lookup::newest(state, job)? {
        Record::Ours(found) => found,
        Record::Foreign(foreign) => {
            let job = JobName { beads: foreign.beads.clone(), provider: Some(foreign.provider.clone()) };
            let document = check::foreign_document(&foreign);
            if document.ended {
                return Ok(Waited { document, settled: true, claimed: false, pidfd: None });
            }
            return Err(EngineError::Foreign { beads: job.beads.to_string() });
        }
    };
    let view = View::of(state, host, &found);
    // The monitor outlives the agent; an exited one would wake us for ever.
    let alive = |identity: &Identity| {
        let fd = PidFd::open_verified_on(host, &process_of(identity)).ok().flatten();
        fd.filter(|fd| !fd.is_exited().unwrap_or(true))
    };
    let pidfd = if open && !view.ended() {
        let agent = || view.run.agent.as_ref().and_then(alive);
        found.run.monitor.as_ref().and_then(alive).or_else(agent)
    } else {
        None
    };
    Ok(Waited {
        document: check::document(&view, false),
        settled: view.settled,
        claimed: found.claimed,
        pidfd,
    })
}
