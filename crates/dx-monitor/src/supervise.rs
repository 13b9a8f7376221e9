//! The monitor: one poll loop from its start to the published outcome.
//!
//! It follows the log, publishes observations, enforces limits, takes requests, and sees to it that the exit is known,
//! the tree is gone and the outcome is written. It must never do slow work itself (helpers do) and never stop because
//! a write failed.

mod checking;
mod ending;
mod following;
mod launching;
mod waiting;

use crate::args::{
    AGENT_FD, Invocation, JOURNAL_FD, PARTNER_FD, PLAN_FD, PTY_FD, READY_FD, SECRETS_FD, SETTLER_FD,
};
use crate::context::{Context, ContextError, Own};
use crate::cpu::{Counter, Cpu};
use crate::finish::finish;
use crate::helper::{self, Helper};
use crate::identity::record_of;
use crate::limits;
use crate::log::Follower;
use crate::members::Strays;
use crate::pace::Pace;
use crate::partner::Partner;
use crate::passed::Passed;
use crate::plan::Plan;
use crate::pty::Pty;
use crate::secrets::SecretValues;
use dx_jobdir::{faults, views};
use dx_proc::{PidFd, SignalFd, clock, inherit, write_alarm};
use dx_protocol::{AgentEvent, Event, Sample, Writer};
use rustix::process::Signal;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

/// While a disk refuses, this long between two tries.
const TICK_MS: u64 = 1_000;
/// While a run is ending.
const FAST_TICK_MS: u64 = 20;
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
        secrets: inherit::take(SECRETS_FD),
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
    secrets: Option<OwnedFd>,
}

/// What stays on the stack while the monitor waits is paid for by every job: the frames of beginning end with `begin`,
/// and what is large lives on the heap.
fn run(
    invocation: &Invocation,
    journal: OwnedFd,
    settler: Option<OwnedFd>,
    given: Given,
) -> Result<(), ContextError> {
    if let Some(mut monitor) = begin(invocation, journal, settler, given)? {
        if !invocation.adopt {
            monitor.launch();
        }
        monitor.watch();
        monitor.become_launcher();
    }
    Ok(())
}

/// Opens what the run has and takes over its agent, if it has one. `None` when nothing is left to watch.
#[inline(never)]
fn begin(
    invocation: &Invocation,
    journal: OwnedFd,
    settler: Option<OwnedFd>,
    given: Given,
) -> Result<Option<Box<Monitor>>, ContextError> {
    let signals = SignalFd::new(&[Signal::CHILD.as_raw(), Signal::USR1.as_raw(), write_alarm::SIGNAL])?;
    // Looked at while there is nothing to do yet.
    let own = Own::look()?;
    let identity = own.identity.clone();
    // The starter begins us before its record is whole, and a start may be refused until it gives the plan: nothing of the
    // run is touched before.
    let plan = if invocation.adopt { None } else { Some(read_plan(given.plan)?) };
    // In a box of its own: it is all that a launcher keeps of its monitor.
    let mut ctx = Box::new(Context::open(invocation, journal, settler, own)?);
    ctx.secrets = given.secrets.map(SecretValues::from_fd).unwrap_or_default();
    if ctx.run.outcome.is_some() {
        // The monitor before this one died between the outcome and the last of its views.
        finish_patiently(&mut ctx);
        return Ok(None);
    }
    ctx.pty = given.terminal.and_then(|master| Pty::inherited(master, &ctx.paths.log()));
    ctx.record(Event::MonitorStarted { monitor: record_of(&identity), adopted: invocation.adopt });
    if invocation.adopt {
        // The first monitor publishes itself with the agent, whose start it shall not delay.
        let _published = views::publish_pids(&ctx.state, &ctx.run.created.ids, identity.pid, None);
    }
    faults::step("monitor.began");
    let Some(mut plan) = plan else {
        drop(given.ready);
        let mut monitor = Box::new(Monitor::new(ctx, signals, given.agent));
        monitor.adopt(given.starter);
        return Ok(Some(monitor));
    };
    ctx.secrets = SecretValues::new(plan.take_secrets());
    let mut monitor = Box::new(Monitor::new(ctx, signals, given.agent));
    monitor.plan = Some(plan);
    monitor.ready = given.ready;
    Ok(Some(monitor))
}

fn read_plan(fd: Option<OwnedFd>) -> Result<Plan, ContextError> {
    let mut text = Vec::new();
    let fd = fd.ok_or(ContextError::Plan)?;
    std::fs::File::from(fd).read_to_end(&mut text).map_err(|_| ContextError::Plan)?;
    serde_json::from_slice(&text).map_err(|_| ContextError::Plan)
}

struct Monitor {
    ctx: Box<Context>,
    signals: SignalFd,
    /// Until the agent runs.
    plan: Option<Plan>,
    ready: Option<OwnedFd>,
    launches: usize,
    /// In a fork that is to be the launcher, the monitor that it came from.
    forked_from: Option<PidFd>,
    partner: Option<Partner>,
    agent: Option<PidFd>,
    agent_pid: i32,
    /// The launcher is gone, so the terminal is ours to copy.
    copying: bool,
    /// No guard could be made: not tried again before.
    guard_after: u64,
    follower: Follower,
    pace: Pace,
    cpu: Cpu,
    sample: Sample,
    beats: u64,
    capped: bool,
    kill_at: Option<u64>,
    strays: Strays,
    observer: Option<Helper>,
    observe_after: u64,
    /// When the server of the job's lane may be asked again, and how long after that it is next.
    ask_after: u64,
    ask_pause: u64,
    asked_at: u64,
    /// What it said last.
    session_event: Option<AgentEvent>,
    /// When git last answered; 0: never.
    observed_at: u64,
    /// What it said then of the state of the tree.
    stamp: String,
    work_known: bool,
    /// Log offset up to which the monitor before this one has published.
    replayed_to: u64,
    /// Log offset of the last event that it journalled.
    journalled_to: Option<u64>,
    gone_at: Option<u64>,
    /// There is more of the log to read at once.
    behind: bool,
    /// What the starter publishes of the run is there.
    shown: bool,
    /// Something was parsed or published since memory was last given back.
    used_memory: bool,
}

impl Monitor {
    fn new(mut ctx: Box<Context>, signals: SignalFd, agent: Option<PidFd>) -> Self {
        let created = &ctx.run.created;
        let limits = created.spec.limits.clone();
        let follower = Follower::new(&ctx.paths, created.contract.grammar, &ctx.secrets.ready());
        let pace = Pace::new(ctx.paths.dir());
        let sample = Sample {
            schema: dx_protocol::OBSERVATION_SCHEMA.to_owned(),
            ids: created.ids.clone(),
            mono_ms: 0,
            due_mono_ms: 0,
            paused_ms: 0,
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
            written_bytes: 0,
            write_grew_mono_ms: 0,
            mutations: 0,
            mutation_first: None,
            mutation_last: None,
            mutation_mono_ms: 0,
            observed_mono_ms: 0,
            observe_again_mono_ms: 0,
            usage: dx_protocol::Usage::default(),
        };
        // A monitor that takes over goes on from what the one before it saw.
        let before = views::read_sample(&ctx.state.view(&created.ids.provider, &created.ids.beads, "obs"))
            .filter(|before| before.ids.run_uuid == created.ids.run_uuid);
        if let Some(before) = &before {
            let mono_ms = clock::monotonic_ms();
            ctx.clock = Passed::since(mono_ms, mono_ms - before.now(mono_ms));
        }
        let now = ctx.clock.now();
        let sample = before.map_or(sample, |before| Sample { monitor: ctx.run.monitor.clone(), ..before });
        let replayed_to = sample.parsed_bytes;
        let journalled_to = ctx.run.agent_offset;
        let work_known = created.tree.is_some();
        Self {
            cpu: Cpu::new(&limits, created.contract.grammar, now).resumed(
                sample.cpu_sampled_mono_ms,
                Counter::resumed(sample.cpu_ms, sample.cpu_grew_mono_ms),
                Counter::resumed(sample.written_bytes, sample.write_grew_mono_ms),
            ),
            strays: Strays::new(limits.grace_ms),
            ctx,
            signals,
            plan: None,
            ready: None,
            launches: 0,
            forked_from: None,
            partner: None,
            agent,
            agent_pid: 0,
            copying: false,
            guard_after: 0,
            follower,
            pace,
            sample,
            beats: 0,
            capped: false,
            kill_at: None,
            observer: None,
            observe_after: 0,
            ask_after: 0,
            ask_pause: following::ASK_FIRST_MS,
            asked_at: 0,
            session_event: None,
            observed_at: 0,
            stamp: String::new(),
            work_known,
            replayed_to,
            journalled_to,
            gone_at: None,
            behind: false,
            shown: false,
            used_memory: true,
        }
    }

    /// The loop, until the outcome is written or nothing more can be done. Returns at once in a fork.
    fn watch(&mut self) {
        while self.forked_from.is_none() && self.look() {
            self.give_back();
            self.wait();
        }
        if self.forked_from.is_none() {
            self.finish();
        }
    }

    /// One look at everything; whether there is more to come. Its frame is gone while the monitor waits.
    #[inline(never)]
    fn look(&mut self) -> bool {
        if self.signals.drain().is_ok_and(|all| all.iter().any(|s| s.signal == write_alarm::SIGNAL)) {
            self.pace.ring();
        }
        self.learn_launch();
        if self.ctx.run.phase >= dx_core::Phase::ProcessEnded {
            return false;
        }
        self.mind_partner();
        if self.forked_from.is_some() {
            return false;
        }
        self.follow();
        self.take_requests();
        self.enforce();
        self.press_end();
        if self.exit_is_settled() {
            return false;
        }
        self.observe();
        true
    }

    /// What the last look took goes back to the kernel before the monitor waits, if it did more than look.
    fn give_back(&mut self) {
        if self.used_memory && self.agent_pid != 0 && self.plan.is_none() && !self.behind {
            self.used_memory = false;
            dx_proc::memory::trim();
        }
    }

    fn wait(&mut self) {
        let ending = self.kill_at.is_some() || self.gone_at.is_some() || self.agent_pid == 0;
        let limits = &self.ctx.run.created.spec.limits;
        let timeout = if self.behind {
            0
        } else if ending {
            FAST_TICK_MS
        } else {
            let next = limits::next_in_ms(limits, &self.facts()).max(FAST_TICK_MS);
            self.pace.next_ms(self.sample.log_bytes).min(next)
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

    /// Verdicts, the command of `--check` last of them; outcome, views.
    #[inline(never)]
    fn finish(&mut self) {
        faults::step("monitor.before_settler");
        if self.ctx.run.spawn_error.is_none() {
            self.follower.finish();
            let seen = self.follower.report();
            helper::settle(&mut self.ctx, seen);
            self.check();
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
