//! The monitor: one poll loop from its start to the published outcome.
//!
//! It follows the log, publishes observations, enforces limits, takes requests, and sees to it that the exit is known,
//! the tree is gone and the outcome is written. It must never do slow work itself (helpers do) and never stop because
//! a write failed.

use crate::args::{AGENT_FD, Invocation, JOURNAL_FD, PARTNER_FD, PLAN_FD, PTY_FD, READY_FD, SETTLER_FD};
use crate::context::{Context, ContextError};
use crate::cpu::Cpu;
use crate::finish::finish;
use crate::helper::{self, Helper};
use crate::identity::{process_of, record_of};
use crate::launcher;
use crate::limits::{self, Facts};
use crate::log::Follower;
use crate::members::{self, Strays};
use crate::partner::{self, Partner};
use crate::plan::Plan;
use crate::pty::{self, Pty};
use crate::{end, witness};
use dx_jobdir::{faults, views};
use dx_proc::{ForkResult, Liveness, PidFd, ProcessIdentity, SignalFd, clock, inherit, tree};
use dx_protocol::{
    AgentEvent, EndRequest, Ending, Event, REQUEST_FINALIZE, REQUEST_STOP, ReasonCode, Sample, Settled,
    Timestamp, Wait, Witness, Writer,
};
use rustix::process::Signal;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// The heartbeat of the loop: log size, requests and limits are looked at this often.
const TICK_MS: u64 = 1_000;
/// While a run is ending.
const FAST_TICK_MS: u64 = 20;
/// How long a dead launcher's word or a reaping init is waited for before the exit counts as unseen.
const WITNESS_PATIENCE_MS: u64 = 3_000;
/// When no guard could be made, the next try comes this much later.
const GUARD_RETRY_MS: u64 = 10_000;
/// How often the agent may be launched again because its launcher was killed before it ran.
const LAUNCHES: usize = 3;
/// How often a fork of a dead launcher is looked at, until it has either begun the agent's program or gone.
const FORK_ROUNDS: usize = 250;
/// Git is not asked about mutations more often than this, nor than this many times its own duration.
const OBSERVE_EVERY_MS: u64 = 60_000;
const OBSERVE_DUTY: u64 = 100;
/// How long finishing is tried again on a disk that refuses.
const FINISH_PATIENCE_MS: u64 = 60_000;

/// Entry of the monitor: single-threaded, before settings, logging or anything else. Returns the exit code.
pub fn main(invocation: &Invocation) -> i32 {
    let _named = dx_proc::subreaper::set_name("dx-monitor");
    let _reaper = dx_proc::subreaper::become_subreaper();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let ignored = [Signal::HUP, Signal::INT, Signal::TERM, Signal::QUIT, Signal::PIPE, Signal::USR2];
    let _ignored = dx_proc::signals::ignore(&ignored.map(Signal::as_raw));
    let Some(journal) = inherit::take(JOURNAL_FD) else { return 1 };
    let given = Given {
        ready: inherit::take(READY_FD),
        plan: inherit::take(PLAN_FD),
        agent: inherit::take(AGENT_FD).map(PidFd::from),
        terminal: inherit::take(PTY_FD),
        starter: inherit::take(PARTNER_FD).map(PidFd::from),
    };
    let settler = inherit::take(SETTLER_FD);
    match run(invocation, journal, settler, given) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// The descriptors that only some monitors are given; see [`crate::args`].
struct Given {
    ready: Option<OwnedFd>,
    plan: Option<OwnedFd>,
    agent: Option<PidFd>,
    terminal: Option<OwnedFd>,
    starter: Option<PidFd>,
}

fn run(
    invocation: &Invocation,
    journal: OwnedFd,
    settler: Option<OwnedFd>,
    given: Given,
) -> Result<(), ContextError> {
    let signals = SignalFd::new(&[Signal::CHILD.as_raw(), Signal::USR1.as_raw()])?;
    let mut ctx = Context::open(invocation, journal, settler)?;
    if ctx.run.outcome.is_some() {
        // The monitor before this one died between the outcome and the last of its views.
        finish_patiently(&mut ctx);
        return Ok(());
    }
    ctx.pty = given.terminal.and_then(|master| Pty::inherited(master, &ctx.paths.log()));
    let own = ProcessIdentity::of_self()?;
    ctx.record(Event::MonitorStarted { monitor: record_of(&own), adopted: invocation.adopt });
    let _published = views::publish_pids(&ctx.state, &ctx.run.created.ids, own.pid, None);
    faults::step("monitor.began");
    let mut monitor = Monitor::new(ctx, signals, given.agent);
    if invocation.adopt {
        drop(given.ready);
        monitor.adopt(given.starter);
    } else {
        let mut text = Vec::new();
        let fd = given.plan.ok_or(ContextError::Plan)?;
        std::fs::File::from(fd).read_to_end(&mut text).map_err(|_| ContextError::Plan)?;
        let plan: Plan = serde_json::from_slice(&text).map_err(|_| ContextError::Plan)?;
        monitor.plan = Some(plan);
        monitor.ready = given.ready;
        monitor.launch();
    }
    monitor.watch();
    Ok(())
}

struct Monitor {
    ctx: Context,
    signals: SignalFd,
    /// Until the agent runs.
    plan: Option<Plan>,
    ready: Option<OwnedFd>,
    launches: usize,
    partner: Option<Partner>,
    agent: Option<PidFd>,
    agent_pid: i32,
    /// The launcher is gone, so the terminal is ours to copy.
    copying: bool,
    /// No guard could be made: not tried again before.
    guard_after: u64,
    follower: Follower,
    cpu: Cpu,
    sample: Sample,
    beats: u64,
    capped: bool,
    kill_at: Option<u64>,
    strays: Strays,
    observer: Option<Helper>,
    observe_after: u64,
    work_known: bool,
    gone_at: Option<u64>,
}

impl Monitor {
    fn new(ctx: Context, signals: SignalFd, agent: Option<PidFd>) -> Self {
        let created = &ctx.run.created;
        let limits = created.spec.limits.clone();
        let now = clock::monotonic_ms();
        let follower = Follower::new(&ctx.paths.log(), &ctx.paths.err(), created.contract.grammar);
        let sample = Sample {
            schema: dx_protocol::OBSERVATION_SCHEMA.to_owned(),
            ids: created.ids.clone(),
            mono_ms: now,
            monitor: ctx.run.monitor.clone(),
            launcher: None,
            agent: None,
            started_at: ctx.run.created_at,
            started_mono_ms: ctx.run.created_mono_ms,
            limits: limits.clone(),
            retries: created.retries,
            selected_model: created.contract.selected_model.clone(),
            worktree: created.spec.worktree.clone(),
            host: created.starter.host.clone(),
            cwd: created.cwd.clone(),
            ending: false,
            last_event: String::new(),
            last_event_mono_ms: 0,
            wait: None,
            log_bytes: 0,
            log_mono_ms: 0,
            parsed_bytes: 0,
            cpu_ms: 0,
            cpu_sampled_mono_ms: 0,
            cpu_grew_mono_ms: 0,
            mutations: 0,
            mutation_first: None,
            mutation_last: None,
            mutation_mono_ms: 0,
            usage: dx_protocol::Usage::default(),
        };
        let work_known = created.tree.is_some();
        Self {
            cpu: Cpu::new(&limits, now),
            strays: Strays::new(limits.grace_ms),
            ctx,
            signals,
            plan: None,
            ready: None,
            launches: 0,
            partner: None,
            agent,
            agent_pid: 0,
            copying: false,
            guard_after: 0,
            follower,
            sample,
            beats: 0,
            capped: false,
            kill_at: None,
            observer: None,
            observe_after: 0,
            work_known,
            gone_at: None,
        }
    }

    /// Forks the launcher, which starts the agent.
    fn launch(&mut self) {
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
        let Some(plan) = self.plan.clone() else { return };
        match dx_proc::fork_here() {
            Ok(ForkResult::Child) => {
                launcher::main(&mut self.ctx, &plan, own_fd, self.ready.take());
                partner::leave()
            }
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

    /// Takes over from a dead monitor: the process of ours that started us is the partner. There is none when it died
    /// meanwhile, or when a command passed the run on.
    fn adopt(&mut self, starter: Option<PidFd>) {
        let launcher = self.ctx.exit.read().launcher.as_ref().map(process_of);
        self.partner = starter.and_then(|starter| Partner::of_adopter(starter, launcher.as_ref()));
        if !self.partner.as_ref().is_some_and(|p| p.is_launcher) {
            self.take_terminal();
        }
        if let Some((ending, _)) = self.ctx.run.ending.clone() {
            self.begin_end(ending.grace_ms);
        }
    }

    /// The loop, until the outcome is written or nothing more can be done.
    fn watch(&mut self) {
        loop {
            let _drained = self.signals.drain();
            self.learn_launch();
            if self.ctx.run.phase >= dx_core::Phase::ProcessEnded {
                break;
            }
            self.mind_partner();
            self.follow();
            self.take_requests();
            self.enforce();
            self.press_end();
            if self.exit_is_settled() {
                break;
            }
            self.observe();
            self.wait();
        }
        self.finish();
    }

    /// Learns from the exit file that the agent runs, or that it could not be started.
    fn learn_launch(&mut self) {
        if self.ctx.run.agent.is_some() || self.ctx.run.phase > dx_core::Phase::Created {
            if self.agent_pid == 0 {
                self.find_agent();
            }
            return;
        }
        let facts = self.ctx.exit.read();
        self.sample.launcher.clone_from(&facts.launcher);
        match (facts.exec, facts.agent) {
            (Some(exec), _) if exec.errno != 0 => {
                let message = std::io::Error::from_raw_os_error(exec.errno).to_string();
                self.ctx.record(Event::SpawnFailed { errno: exec.errno, message });
                self.plan = None;
            }
            (Some(_), Some(agent)) => {
                self.plan = None;
                self.ready = None;
                if let Some(pty) = &mut self.ctx.pty {
                    pty.release();
                }
                self.ctx.record(Event::AgentStarted { agent: agent.clone() });
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

    /// Opens the agent's pidfd, unless one was handed down.
    fn find_agent(&mut self) {
        let Some(agent) = self.ctx.run.agent.clone() else { return };
        self.sample.agent = Some(agent.clone());
        self.agent_pid = agent.pid;
        if self.agent.is_none() {
            self.agent = PidFd::open_verified_on(&self.ctx.host, &process_of(&agent)).ok().flatten();
        }
    }

    /// Sees to it that two of ours live: a dead launcher is launched again when the agent never ran, replaced by a guard
    /// otherwise.
    fn mind_partner(&mut self) {
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
            if self.launches < LAUNCHES && self.plan.is_some() {
                self.launch();
            } else {
                self.ctx.record(Event::SpawnFailed {
                    errno: 0,
                    message: "the launcher was killed before the agent ran".to_owned(),
                });
            }
            return;
        }
        let now = clock::monotonic_ms();
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
    fn take_terminal(&mut self) {
        if self.ctx.pty.is_some() && !self.copying {
            self.copying = true;
            let offset = std::fs::metadata(self.ctx.paths.log()).map_or(0, |m| m.len());
            self.ctx.record(Event::LogGap { offset, at_most_bytes: pty::PIECE as u64 });
        }
    }

    /// Whether an agent whose launcher died before it could say so did run. Its command name tells: a fork that never
    /// reached its exec still has the launcher's.
    fn agent_ran(&mut self, facts: &dx_protocol::ExitFacts) -> bool {
        let Some(agent) = &facts.agent else { return false };
        let identity = process_of(agent);
        for round in 0..FORK_ROUNDS * 2 {
            let liveness = self.ctx.host.liveness(&identity);
            match dx_proc::command_name(agent.pid) {
                None => return false,
                Some(name) if name != "dx-launcher" && liveness != Liveness::Gone => {
                    let record = dx_protocol::ExecRecord {
                        errno: 0,
                        at: Timestamp(clock::now_ms()),
                        mono_ms: clock::monotonic_ms(),
                    };
                    let _written = self.ctx.exit.write(dx_protocol::Slot::Exec, &record);
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

    /// Takes in what the agent printed.
    fn follow(&mut self) {
        if let Some(pty) = self.ctx.pty.as_ref().filter(|_| self.copying) {
            pty.copy();
        }
        let round = self.follower.round();
        let now = clock::monotonic_ms();
        if round.lost_bytes > 0 {
            self.ctx.record(Event::LogTruncated { lost_bytes: round.lost_bytes });
        }
        let known = self.ctx.run.agent_offset;
        for (offset, event) in round.events {
            kind_of(&event).clone_into(&mut self.sample.last_event);
            self.sample.last_event_mono_ms = now;
            match &event {
                AgentEvent::FileChanged { .. } => self.mutated(self.sample.mutations.max(1), now),
                AgentEvent::ToolStarted { name, .. } => {
                    self.sample.wait = Some(Wait::Tool { name: name.clone(), since_mono_ms: now });
                }
                AgentEvent::Retrying { delay_ms, .. } => {
                    self.sample.wait = Some(Wait::Retry { until_mono_ms: delay_ms.map(|d| now + d) });
                }
                AgentEvent::RateLimited { until_ms } => {
                    self.sample.wait = Some(Wait::RateLimit { until: until_ms.map(Timestamp) });
                }
                AgentEvent::PermissionAsked { what } => {
                    self.sample.wait = Some(Wait::Input { what: what.clone() });
                }
                _ => self.sample.wait = None,
            }
            if event.is_journalled() && known.is_none_or(|k| offset > k) {
                self.journal_agent(offset, event);
            }
        }
        if round.grew {
            self.sample.log_mono_ms = now;
            self.cpu.postpone(now);
        }
        let bytes = self.follower.bytes();
        let changed = round.grew || bytes != self.sample.log_bytes;
        self.sample.log_bytes = bytes;
        self.sample.parsed_bytes = self.follower.parsed();
        self.sample.usage = self.follower.summary.usage;
        let mut publish = changed;
        if !round.grew && now >= self.cpu.due_at() && self.agent_pid != 0 {
            self.cpu.sample(now, self.tree_cpu());
            self.sample.cpu_ms = self.cpu.total_ms;
            self.sample.cpu_sampled_mono_ms = self.cpu.sampled_at;
            self.sample.cpu_grew_mono_ms = self.cpu.grew_at;
            publish = true;
        }
        if publish {
            self.publish();
        }
    }

    fn journal_agent(&mut self, offset: u64, event: AgentEvent) {
        if self.ctx.journal.len() < self.ctx.run.created.spec.limits.max_journal_bytes {
            self.ctx.record(Event::Agent { offset, event });
        } else if !self.capped {
            self.capped = true;
            self.ctx.record(Event::EventsCapped);
        }
    }

    fn mutated(&mut self, count: u64, now: u64) {
        let wall = Timestamp(clock::now_ms());
        self.sample.mutations = count;
        self.sample.mutation_first.get_or_insert(wall);
        self.sample.mutation_last = Some(wall);
        self.sample.mutation_mono_ms = now;
    }

    fn publish(&mut self) {
        self.beats += 1;
        self.sample.mono_ms = clock::monotonic_ms();
        self.sample.monitor.clone_from(&self.ctx.run.monitor);
        self.sample.ending = self.ctx.run.ending.is_some();
        let _published =
            views::publish_sample(&self.ctx.state, &self.sample, self.beats, Timestamp(clock::now_ms()));
    }

    /// CPU time of the agent's tree, strays under the launcher included, our own processes not.
    fn tree_cpu(&self) -> u64 {
        let mut roots = vec![self.agent_pid];
        if let Some(partner) = self.partner.as_ref().filter(|p| p.is_launcher) {
            let own = rustix::process::getpid().as_raw_nonzero().get();
            roots.extend(tree::children(partner.identity.pid).into_iter().filter(|pid| *pid != own));
        }
        tree::tree_cpu_ms(&roots)
    }

    /// Looks for requests; the first decision stands.
    fn take_requests(&mut self) {
        if self.ctx.run.ending.is_some() {
            return;
        }
        let defaults =
            [(REQUEST_STOP, ReasonCode::ManualStop), (REQUEST_FINALIZE, ReasonCode::ForcedFinalization)];
        for (kind, reason) in defaults {
            let path = self.ctx.paths.request(kind);
            let Ok(text) = std::fs::read(&path) else { continue };
            let request: Option<EndRequest> = serde_json::from_slice(&text).ok();
            let ending = Ending {
                reason: request.as_ref().map_or(reason, |r| r.reason),
                exit_code: request.as_ref().and_then(|r| r.exit_code),
                grace_ms: request
                    .as_ref()
                    .and_then(|r| r.grace_ms)
                    .unwrap_or(self.ctx.run.created.spec.limits.grace_ms),
                note: request.and_then(|r| r.note),
            };
            self.decide_end(ending);
            return;
        }
    }

    fn enforce(&mut self) {
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

    fn facts(&self) -> Facts {
        Facts {
            now: clock::monotonic_ms(),
            started: self.ctx.run.created_mono_ms,
            log_bytes: self.sample.log_bytes,
            barren_steps: u64::from(self.follower.summary.barren_steps),
            failed_calls: u64::from(self.follower.summary.failed_calls),
            mutated: self.sample.mutation_mono_ms,
            mutations_known: self.work_known,
        }
    }

    /// Journals the decision first, then signals: an outcome never lacks its reason.
    fn decide_end(&mut self, ending: Ending) {
        let grace_ms = ending.grace_ms;
        self.ctx.record(Event::Ending(ending));
        self.publish();
        self.begin_end(grace_ms);
    }

    fn begin_end(&mut self, grace_ms: u64) {
        self.kill_at = Some(clock::monotonic_ms() + grace_ms);
        end::term(&self.members());
    }

    /// Once the grace is over: KILL, again and again, until nothing answers.
    fn press_end(&mut self) {
        if self.kill_at.is_some_and(|at| clock::monotonic_ms() >= at) {
            end::kill(&self.members());
        }
    }

    fn members(&self) -> Vec<ProcessIdentity> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut roots = vec![self.agent_pid];
        let mut except = vec![own];
        if let Some(partner) = &self.partner {
            except.push(partner.identity.pid);
            if partner.is_launcher {
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
    fn exit_is_settled(&mut self) -> bool {
        if self.agent_pid == 0 {
            return false;
        }
        let gone = self.agent.as_ref().is_none_or(|fd| fd.is_exited().unwrap_or(true));
        let facts = self.ctx.exit.read();
        if !gone && facts.exit().is_none() {
            return false;
        }
        let now = clock::monotonic_ms();
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
            cpu_ms: self.cpu.total_ms.max(cpu_at_exit),
        });
        faults::step("monitor.ended_record");
        true
    }

    /// Records the exit when no launcher can do it any more. Whoever is the parent then is asked of the kernel and not
    /// remembered: a launcher may die at any instant, and its children are ours, unless we are not above it, before its
    /// end shows.
    fn sees_exit(&self, launcher_lives: bool) -> bool {
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
    fn swept(&mut self, launcher_lives: bool) -> bool {
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

    /// Asks git, through a helper, when silence makes the answer matter.
    fn observe(&mut self) {
        let now = clock::monotonic_ms();
        if let Some(mut observer) = self.observer.take() {
            match observer.poll() {
                None => self.observer = Some(observer),
                Some(end) => {
                    let took = now.saturating_sub(observer.started);
                    let every = OBSERVE_EVERY_MS.min(self.shortest_threshold_ms() / 3).max(500);
                    self.observe_after =
                        now + every.max(took * OBSERVE_DUTY).min(OBSERVE_EVERY_MS.max(took * OBSERVE_DUTY));
                    for fact in end.facts {
                        if let Settled::Work(work) = fact {
                            self.work_known = work.known;
                            if work.known && work.mutations != self.sample.mutations {
                                self.mutated(work.mutations, now);
                            }
                        }
                    }
                    self.publish();
                }
            }
            return;
        }
        let silent = now.saturating_sub(self.sample.log_mono_ms.max(self.ctx.run.created_mono_ms));
        let matters = silent * 2 >= self.shortest_threshold_ms() || self.no_mutation_is_near();
        if self.work_known
            && matters
            && now >= self.observe_after
            && self.gone_at.is_none()
            && self.agent_pid != 0
        {
            self.observer = Helper::start(&self.ctx, "__observe", OBSERVE_EVERY_MS);
            if self.observer.is_none() {
                self.observe_after = now + OBSERVE_EVERY_MS;
                self.work_known = false;
            }
        }
    }

    fn shortest_threshold_ms(&self) -> u64 {
        let limits = &self.ctx.run.created.spec.limits;
        limits.startup_grace_sec.min(limits.no_op_sec).min(limits.stall_sec) * 1000
    }

    fn no_mutation_is_near(&self) -> bool {
        let limit = self.ctx.run.created.spec.limits.no_mutation_sec * 1000;
        let facts = self.facts();
        limit > 0 && facts.now.saturating_sub(facts.mutated.max(facts.started)) * 10 >= limit * 9
    }

    /// Git has answered within the last tenth of the no-mutation limit (or cannot answer at all).
    fn observed_lately(&self) -> bool {
        !self.work_known || (self.observer.is_none() && self.observe_after > clock::monotonic_ms())
    }

    fn wait(&mut self) {
        let ending = self.kill_at.is_some() || self.gone_at.is_some() || self.agent_pid == 0;
        let limits = &self.ctx.run.created.spec.limits;
        let timeout = if ending {
            FAST_TICK_MS
        } else {
            TICK_MS.min(limits::next_in_ms(limits, &self.facts()).max(FAST_TICK_MS))
        };
        let mut fds = vec![self.signals.as_fd()];
        // One that has gone would wake us for ever.
        if let Some(partner) = self.partner.as_ref().filter(|p| !p.is_gone()) {
            fds.push(partner.fd());
        }
        if self.gone_at.is_none()
            && let Some(agent) = &self.agent
        {
            fds.push(agent.as_fd());
        }
        if let Some(observer) = &self.observer {
            fds.push(observer.fd());
        }
        fds.extend(self.ctx.pty.as_ref().filter(|_| self.copying).and_then(Pty::fd));
        let _woken = dx_proc::poll::poll(&fds, Some(timeout));
    }

    /// Verdicts, outcome, views.
    fn finish(&mut self) {
        faults::step("monitor.before_settler");
        if self.ctx.run.spawn_error.is_none() {
            helper::settle(&mut self.ctx);
        }
        faults::step("monitor.after_settler");
        finish_patiently(&mut self.ctx);
    }
}

/// Finishes, again and again for a while when the disk refuses.
fn finish_patiently(ctx: &mut Context) {
    let began = clock::monotonic_ms();
    loop {
        if ctx.flush() && finish(&ctx.state, &ctx.paths, &ctx.journal, &mut ctx.run, Writer::Monitor).is_ok()
        {
            return;
        }
        if clock::monotonic_ms().saturating_sub(began) > FINISH_PATIENCE_MS {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(TICK_MS));
    }
}

fn members_grace(ctx: &Context) -> u64 {
    ctx.run.created.spec.limits.grace_ms.min(2_000)
}

/// The published word for the kind of an event.
fn kind_of(event: &AgentEvent) -> &'static str {
    match event {
        AgentEvent::Started { .. } => "started",
        AgentEvent::Text { .. } => "text",
        AgentEvent::StepStarted => "step_started",
        AgentEvent::ToolStarted { .. } => "tool_started",
        AgentEvent::ToolFinished { .. } => "tool_finished",
        AgentEvent::FileChanged { .. } => "file_changed",
        AgentEvent::Usage(_) => "usage",
        AgentEvent::Retrying { .. } => "retrying",
        AgentEvent::RateLimited { .. } => "rate_limited",
        AgentEvent::PermissionAsked { .. } => "permission_asked",
        AgentEvent::PermissionRefused { .. } => "permission_refused",
        AgentEvent::Error { .. } => "error",
        AgentEvent::Result { .. } => "result",
    }
}
