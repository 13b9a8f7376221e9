//! Beginnings: the launcher and the agent behind it, adoption, and the partner that must always be there.

use super::{FAST_TICK_MS, Monitor};
use crate::context::Context;
use crate::handover::{self, ADAPTER_MODE, Told};
use crate::identity::process_of;
use crate::partner::{self, Partner};
use crate::plan::Plan;
use crate::pty::{self, Pty};
use crate::{end, launcher};
use dx_jobdir::{faults, views};
use dx_proc::{ForkResult, Liveness, PidFd, ProcessIdentity, clock};
use dx_protocol::{Event, ExecRecord, Slot, Timestamp};
use std::os::fd::OwnedFd;

/// When no guard could be made, the next try comes this much later.
const GUARD_RETRY_MS: u64 = 10_000;
/// How often the agent may be launched again because its launcher was killed before it ran.
const LAUNCHES: usize = 3;
/// How often a fork of a dead launcher is looked at, until it has either begun the agent's program or gone.
const FORK_ROUNDS: usize = 250;

impl Monitor {
    /// Forks the launcher, which starts the agent. Returns in the fork too, for [`Monitor::become_launcher`].
    #[inline(never)]
    pub(super) fn launch(&mut self) {
        self.launches += 1;
        faults::step("monitor.before_launcher");
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let Ok(own_fd) = PidFd::open(own) else { return };
        if self.ctx.run.created.spec.pty && self.ctx.pty.is_none() {
            self.ctx.pty = Pty::open(&self.ctx.paths.log());
            if self.ctx.pty.is_none() {
                let message = "no pseudo-terminal could be had".to_owned();
                self.ctx.record(Event::SpawnFailed { errno: 0, message });
                return;
            }
        }
        if self.plan.is_none() {
            return;
        }
        // What is dirty now is dirty twice after the fork.
        dx_proc::memory::trim_data();
        match dx_proc::fork_here() {
            Ok(ForkResult::Child) => self.forked_from = Some(own_fd),
            Ok(ForkResult::Parent(pid)) => {
                faults::step("monitor.after_launcher");
                self.partner = ProcessIdentity::of_pid(pid).ok().and_then(|id| Partner::open(id, true));
            }
            Err(error) => self.ctx.record(Event::SpawnFailed {
                errno: error.errno().unwrap_or(0),
                message: "the launcher could not be forked".to_owned(),
            }),
        }
    }

    /// In a fork: frees all that only a monitor needs, and is the launcher until its end.
    pub(super) fn become_launcher(self: Box<Self>) {
        if let Some((mut ctx, plan, monitor, ready)) = self.into_launcher_parts() {
            launcher::main(&mut ctx, plan, monitor, ready);
            partner::leave()
        }
    }

    /// `None` for a monitor.
    fn into_launcher_parts(self: Box<Self>) -> Option<(Box<Context>, Plan, PidFd, Option<OwnedFd>)> {
        let Self { ctx, plan, ready, forked_from, .. } = *self;
        Some((ctx, plan?, forked_from?, ready))
    }

    /// Takes over from a dead monitor: the process of ours that started us is the partner. There is none when it died
    /// meanwhile, or when a command passed the run on.
    pub(super) fn adopt(&mut self, starter: Option<PidFd>) {
        let launcher = self.ctx.exit.read().launcher.as_ref().map(process_of);
        self.partner = starter.and_then(|starter| Partner::of_adopter(starter, launcher.as_ref()));
        if !self.partner.as_ref().is_some_and(|p| p.is_launcher) {
            self.take_terminal();
        }
        if let Some((ending, _)) = self.ctx.run.ending.clone() {
            self.begin_end(ending.grace_ms);
        }
    }

    /// Learns from the exit file that the agent runs, or that it could not be started.
    pub(super) fn learn_launch(&mut self) {
        if self.ctx.run.agent.is_some() || self.ctx.run.phase > dx_core::Phase::Created {
            if self.agent_pid == 0 {
                self.find_agent();
            }
            return;
        }
        let facts = self.ctx.exit.read();
        self.sample.launcher.clone_from(&facts.launcher);
        // Should the launcher's word not have been written, the agent's own name or exit tells that it runs.
        let runs = |agent: &dx_protocol::Identity| {
            let there = self.ctx.host.liveness(&process_of(agent)) != Liveness::Gone;
            let named = dx_proc::command_name(agent.pid).is_some_and(|name| name != "dx-launcher");
            facts.exit().is_some() || (there && named)
        };
        match (facts.exec.clone(), facts.agent.clone()) {
            (Some(exec), _) if exec.errno != 0 => {
                let message = exec.why();
                self.ctx.record(Event::SpawnFailed { errno: exec.errno, message });
                handover::forget(&self.ctx);
                self.plan = None;
            }
            (exec, Some(agent)) if exec.is_some() || runs(&agent) => {
                if exec.is_none() {
                    self.record_exec();
                }
                self.plan = None;
                if self.ctx.run.created.contract.execution_mode == ADAPTER_MODE {
                    self.record_told();
                }
                self.ready = None;
                if let Some(pty) = &mut self.ctx.pty {
                    pty.release();
                }
                self.ctx.record(Event::AgentStarted { agent: agent.clone() });
                handover::forget(&self.ctx);
                faults::step("monitor.agent_record");
                let monitor = rustix::process::getpid().as_raw_nonzero().get();
                let _published =
                    views::publish_pids(&self.ctx.state, &self.ctx.run.created.ids, monitor, Some(agent.pid));
                self.sample.agent = Some(agent);
                self.find_agent();
                self.publish();
                faults::step("monitor.started_record");
            }
            _ => {}
        }
    }

    /// What an adapter script told beside the job's pid.
    fn record_told(&mut self) {
        let told = handover::of_run(&self.ctx);
        let silent = Told { pid: told.pid, ..Told::default() };
        if told != silent {
            self.ctx.record(Event::AdapterTold {
                selected_model: told.selected_model,
                fallback_reason: told.fallback_reason,
                launch_mode: told.launch_mode,
            });
        }
    }

    /// Writes in the launcher's place that the agent's program runs: `start` reads it there.
    fn record_exec(&self) {
        let at = Timestamp(clock::now_ms());
        let record = ExecRecord { errno: 0, at, mono_ms: clock::monotonic_ms(), message: None };
        let _written = self.ctx.exit.write(Slot::Exec, &record);
    }

    /// Opens the agent's pidfd, unless one was handed down.
    pub(super) fn find_agent(&mut self) {
        let Some(agent) = self.ctx.run.agent.clone() else { return };
        self.sample.agent = Some(agent.clone());
        self.agent_pid = agent.pid;
        if self.agent.is_none() {
            self.agent = PidFd::open_verified_on(&self.ctx.host, &process_of(&agent)).ok().flatten();
        }
    }

    /// Sees to it that two of ours live: a dead launcher is launched again when the agent never ran, replaced by a guard
    /// otherwise.
    pub(super) fn mind_partner(&mut self) {
        if self.partner.as_ref().is_some_and(|p| !p.is_gone()) || self.gone_at.is_some() {
            return;
        }
        let facts = self.ctx.exit.read();
        let launcher = facts.launcher.as_ref().map(process_of);
        self.partner = launcher.and_then(|launcher| Partner::open(launcher, true)).filter(|p| !p.is_gone());
        if self.partner.is_some() || facts.exit().is_some() {
            return;
        }
        if self.ctx.run.agent.is_none() && !self.agent_ran(&facts) {
            let _cleared = dx_proc::reap_zombies(None);
            // A script may have begun its job: it is ended, and nobody runs beside it.
            let again = self.plan.as_ref().is_some_and(|plan| !plan.adapter);
            if !again {
                end::sweep_marked(&self.ctx.uuid, self.ctx.run.created.spec.limits.grace_ms);
            }
            if self.launches < LAUNCHES && again {
                self.launch();
            } else {
                self.ctx.record(Event::SpawnFailed {
                    errno: 0,
                    message: "the launcher was killed before the agent ran".to_owned(),
                });
                handover::forget(&self.ctx);
            }
            return;
        }
        let now = self.ctx.clock.now();
        if now < self.guard_after {
            return;
        }
        let _reaped = dx_proc::reap_zombies(Some(self.agent_pid));
        self.partner = partner::fork_guard(&mut self.ctx, self.agent.as_ref());
        if self.partner.is_none() {
            self.guard_after = now + GUARD_RETRY_MS;
        }
        self.take_terminal();
    }

    /// Goes on copying the terminal in the launcher's place.
    pub(super) fn take_terminal(&mut self) {
        if self.ctx.pty.is_some() && !self.copying {
            self.copying = true;
            let offset = std::fs::metadata(self.ctx.paths.log()).map_or(0, |m| m.len());
            self.ctx.record(Event::LogGap { offset, at_most_bytes: pty::PIECE as u64 });
        }
    }

    /// Whether an agent whose launcher died before it could say so did run. Its command name tells: a fork that never
    /// reached its exec still has the launcher's.
    pub(super) fn agent_ran(&mut self, facts: &dx_protocol::ExitFacts) -> bool {
        let Some(agent) = &facts.agent else { return false };
        let identity = process_of(agent);
        for round in 0..FORK_ROUNDS * 2 {
            let liveness = self.ctx.host.liveness(&identity);
            match dx_proc::command_name(agent.pid) {
                None => return false,
                Some(name) if name != "dx-launcher" && liveness != Liveness::Gone => {
                    self.learn_launch();
                    return true;
                }
                Some(_) => {}
            }
            if liveness != Liveness::Alive {
                return false;
            }
            if round >= FORK_ROUNDS {
                // Whether it was released cannot be seen, and nobody may run beside its successor. Its name tells still.
                end::kill(std::slice::from_ref(&identity));
            }
            std::thread::sleep(std::time::Duration::from_millis(FAST_TICK_MS));
        }
        false
    }
}
