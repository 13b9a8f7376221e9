//! Ends: requests and limits, signals to the tree, the exit and the proof that nothing is left.

use super::Monitor;
use crate::context::Context;
use crate::handover;
use crate::identity::process_of;
use crate::limits::{self, Facts};
use crate::{end, members, witness};
use dx_jobdir::faults;
use dx_proc::{Liveness, ProcessIdentity, tree};
use dx_protocol::{EndRequest, Ending, Event, REQUEST_FINALIZE, REQUEST_STOP, ReasonCode, Witness};

/// A request is small.
const MAX_REQUEST_BYTES: u64 = 64 << 10;
/// A request may not keep a tree for ever: one day.
const MAX_GRACE_MS: u64 = 86_400_000;
/// How long a dead launcher's word or a reaping init is waited for before the exit counts as unseen.
const WITNESS_PATIENCE_MS: u64 = 3_000;

/// What a request file asks for, whether it is readable or not.
pub(super) fn wish(ctx: &Context) -> Option<Ending> {
    let defaults =
        [(REQUEST_STOP, ReasonCode::ManualStop), (REQUEST_FINALIZE, ReasonCode::ForcedFinalization)];
    for (kind, reason) in defaults {
        let path = ctx.paths.request(kind);
        if std::fs::symlink_metadata(&path).is_err() {
            continue;
        }
        // Whatever stands there under this name is the request; only a readable one has more to say.
        let text = dx_jobdir::read_bounded(&path, MAX_REQUEST_BYTES).unwrap_or_default();
        let request: Option<EndRequest> = serde_json::from_slice(&text).ok();
        return Some(Ending {
            reason: request.as_ref().map_or(reason, |r| r.reason),
            exit_code: request.as_ref().and_then(|r| r.exit_code),
            grace_ms: request
                .as_ref()
                .and_then(|r| r.grace_ms)
                .unwrap_or(ctx.run.created.spec.limits.grace_ms)
                .min(MAX_GRACE_MS),
            note: request.and_then(|r| r.note),
        });
    }
    None
}

impl Monitor {
    /// Looks for requests; the first decision stands.
    pub(super) fn take_requests(&mut self) {
        if self.ctx.run.ending.is_some() {
            return;
        }
        if let Some(ending) = wish(&self.ctx) {
            self.decide_end(ending);
        }
    }

    pub(super) fn enforce(&mut self) {
        if self.ctx.run.ending.is_some() || self.gone_at.is_some() {
            return;
        }
        let facts = self.facts();
        let limits = &self.ctx.run.created.spec.limits;
        if let Some(reason) = limits::broken(limits, &facts) {
            if reason == ReasonCode::NoMutationTimeout && !self.observed_lately() {
                return;
            }
            let ending = Ending { reason, exit_code: None, grace_ms: limits.grace_ms, note: None };
            self.decide_end(ending);
        }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            now: self.ctx.clock.now(),
            started: self.ctx.run.created_mono_ms,
            log_bytes: self.sample.log_bytes,
            barren_steps: u64::from(self.follower.summary.barren_steps),
            failed_calls: u64::from(self.follower.summary.failed_calls),
            mutated: self.sample.mutation_mono_ms,
            mutations_known: self.work_known,
        }
    }

    /// Journals the decision first, then signals: an outcome never lacks its reason.
    pub(super) fn decide_end(&mut self, ending: Ending) {
        let grace_ms = ending.grace_ms;
        self.ctx.record(Event::Ending(ending));
        self.publish();
        self.begin_end(grace_ms);
    }

    pub(super) fn begin_end(&mut self, grace_ms: u64) {
        self.kill_at = Some(self.ctx.clock.now() + grace_ms);
        end::term(&self.members());
    }

    /// Once the grace is over: KILL, again and again, until nothing answers.
    pub(super) fn press_end(&mut self) {
        if self.kill_at.is_some_and(|at| self.ctx.clock.now() >= at) || self.floods_on() {
            end::kill(&self.members());
        }
    }

    /// One that was asked to end for its output and goes on printing gets no more time for it.
    fn floods_on(&self) -> bool {
        let limit = self.ctx.run.created.spec.limits.max_log_bytes;
        let flood = self.ctx.run.ending.as_ref().is_some_and(|(e, _)| e.reason == ReasonCode::OutputFlood);
        flood && limit > 0 && self.sample.log_bytes >= limit.saturating_add(limit / 4)
    }

    pub(super) fn members(&self) -> Vec<ProcessIdentity> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let agent: Vec<ProcessIdentity> = self.ctx.run.agent.iter().map(process_of).collect();
        let mut roots = end::still(&agent);
        let mut except = vec![own];
        if let Some(partner) = &self.partner {
            except.push(partner.identity.pid);
            // The children of a dead one are ours; its pid may be somebody else's by now.
            if partner.is_launcher && !partner.is_gone() {
                roots.extend(tree::children(partner.identity.pid));
            }
        }
        // Those of a launcher that died are ours now.
        roots.extend(members::own_children(None));
        if let Some(observer) = &self.observer {
            except.push(observer.pid());
        }
        roots.retain(|pid| *pid > 0 && !except.contains(pid));
        end::members_of(&self.ctx.uuid, &roots, &except)
    }

    /// Follows the end: exit recorded, tree swept. `true` once `process_ended` is journalled.
    pub(super) fn exit_is_settled(&mut self) -> bool {
        if self.agent_pid == 0 {
            return false;
        }
        let gone = self.agent_is_gone();
        let facts = self.ctx.exit.read();
        if !gone && facts.exit().is_none() {
            return false;
        }
        let now = self.ctx.clock.now();
        let gone_at = *self.gone_at.get_or_insert(now);
        faults::step("monitor.exit_seen");
        let launcher_lives = self.partner.as_ref().is_some_and(|p| p.is_launcher && !p.is_gone());
        if facts.exit().is_none()
            && !self.sees_exit(launcher_lives)
            && now.saturating_sub(gone_at) < WITNESS_PATIENCE_MS
        {
            return false;
        }
        if !self.swept(launcher_lives) {
            return false;
        }
        self.follow();
        let marked = end::sweep_marked(&self.ctx.uuid, members_grace(&self.ctx));
        let facts = self.ctx.exit.read();
        let exit = facts.exit().cloned();
        let cpu_at_exit = exit.as_ref().map_or(0, |e| e.cpu_ms);
        let unseen = exit.is_none().then_some(ReasonCode::MonitorNoRcFile);
        let rc_file =
            exit.is_none().then(|| handover::rc_of(&self.ctx.state.rc_file(&self.ctx.uuid))).flatten();
        let strays =
            facts.swept.map_or(self.strays.seen(), |s| s.strays) + u32::try_from(marked).unwrap_or(0);
        if let Some(observer) = self.observer.take() {
            observer.abandon();
        }
        self.ctx.record(Event::ProcessEnded {
            exit,
            unseen,
            strays,
            log_bytes: self.sample.log_bytes,
            cpu_ms: self.cpu.used.total.max(cpu_at_exit),
            rc_file,
        });
        faults::step("monitor.ended_record");
        true
    }

    /// Without a descriptor of the agent (none could be had) its identity is asked; what cannot be told is not gone.
    fn agent_is_gone(&mut self) -> bool {
        if self.agent.is_none() {
            self.find_agent();
        }
        match (&self.agent, &self.ctx.run.agent) {
            (Some(fd), _) => fd.is_exited().unwrap_or(false),
            (None, Some(agent)) => {
                matches!(self.ctx.host.liveness(&process_of(agent)), Liveness::Zombie | Liveness::Gone)
            }
            (None, None) => false,
        }
    }

    /// Records the exit when no launcher can do it any more. Whoever is the parent then is asked of the kernel and not
    /// remembered: a launcher may die at any instant, and its children are ours, unless we are not above it, before its
    /// end shows.
    pub(super) fn sees_exit(&self, launcher_lives: bool) -> bool {
        if launcher_lives {
            return false;
        }
        witness::as_parent(&self.ctx.exit, self.agent_pid, Witness::Monitor)
            || self
                .agent
                .as_ref()
                .is_some_and(|agent| witness::by_pidfd(&self.ctx.exit, agent, WITNESS_PATIENCE_MS))
    }

    /// Whether nothing of the tree is left: told by the live launcher, or proved here when we are the subreaper.
    pub(super) fn swept(&mut self, launcher_lives: bool) -> bool {
        if launcher_lives {
            return self.ctx.exit.read().swept.is_some();
        }
        let guard = self.partner.as_ref().map(|p| p.identity.pid);
        let _reaped = dx_proc::reap_zombies(None);
        let mut left = members::own_children(guard);
        if let Some(observer) = &self.observer {
            left.retain(|pid| *pid != observer.pid());
        }
        if left.is_empty() {
            return true;
        }
        self.strays.end(&left, &guard.into_iter().collect::<Vec<_>>());
        false
    }
}

fn members_grace(ctx: &Context) -> u64 {
    ctx.run.created.spec.limits.grace_ms.min(2_000)
}
