//! Watching: the log, CPU, the worktree, and the observation that readers get.

use super::{Monitor, waiting};
use crate::helper::Helper;
use dx_jobdir::views;
use dx_proc::{clock, tree};
use dx_protocol::{AgentEvent, Event, Lane, Settled, Timestamp, WorkReport};

/// The entry of the helper that asks a server.
const ASK: &str = "__session_status";
/// Git is not asked about mutations more often than this, nor than this many times its own duration.
const OBSERVE_EVERY_MS: u64 = 60_000;
const OBSERVE_DUTY: u64 = 100;
/// The server of a job's lane is asked what the job's session does when its client has been silent for so long, and again
/// after twice that, up to the longest pause.
pub(super) const ASK_FIRST_MS: u64 = 5_000;
const ASK_EVERY_MS: u64 = 30_000;
/// An observation may come so much later than it is due.
const LATE_MS: u64 = 2_000;

impl Monitor {
    /// Takes in what the agent printed.
    pub(super) fn follow(&mut self) {
        if let Some(pty) = self.ctx.pty.as_ref().filter(|_| self.copying) {
            pty.copy();
        }
        let round = self.follower.round();
        self.behind = round.more;
        let now = self.ctx.clock.now();
        if round.lost_bytes > 0 {
            self.ctx.record(Event::LogTruncated { lost_bytes: round.lost_bytes });
        }
        let mut heard = false;
        for (offset, event) in round.events {
            // What the monitor before this one has seen keeps its times.
            if offset < self.replayed_to {
                continue;
            }
            kind_of(&event).clone_into(&mut self.sample.last_event);
            self.sample.last_event_mono_ms = now;
            if matches!(event, AgentEvent::FileChanged { .. }) {
                self.mutated(self.sample.mutations.max(1), now);
            }
            self.sample.wait = waiting::told(&event, now);
            self.park_for_others();
            heard = true;
            if event.is_journalled() && self.journalled_to.is_none_or(|to| offset > to) {
                self.journal_agent(offset, event);
            }
        }
        if heard && self.sample.wait.is_none() {
            self.sample.wait = waiting::unfinished(&self.follower.summary, now);
        }
        let bytes = self.follower.bytes();
        let grew = bytes != self.sample.log_bytes;
        if grew {
            self.sample.log_mono_ms = now;
            self.cpu.postpone(now);
            self.forget_terminal();
        }
        let parsed = self.follower.parsed();
        let changed = grew || parsed != self.sample.parsed_bytes;
        self.sample.log_bytes = bytes;
        self.sample.parsed_bytes = parsed;
        self.sample.usage = self.follower.summary.usage;
        // Readers count up to what was published.
        let mut publish = changed || self.ctx.clock.paused_ms() != self.sample.paused_ms;
        if !grew && now >= self.cpu.due_at() && self.agent_pid != 0 {
            self.cpu.sample(now, self.tree_work());
            self.sample.cpu_ms = self.cpu.used.total;
            self.sample.cpu_sampled_mono_ms = self.cpu.sampled_at;
            self.sample.cpu_grew_mono_ms = self.cpu.used.grew_at;
            self.sample.written_bytes = self.cpu.written.total;
            self.sample.write_grew_mono_ms = self.cpu.written.grew_at;
            self.look_at_tree(now);
            publish = true;
        }
        if publish {
            self.publish();
        }
    }

    pub(super) fn journal_agent(&mut self, offset: u64, event: AgentEvent) {
        if self.ctx.journal.len() < self.ctx.run.created.spec.limits.max_journal_bytes {
            self.ctx.record(Event::Agent { offset, event });
        } else if !self.capped {
            self.capped = true;
            self.ctx.record(Event::EventsCapped);
        }
    }

    pub(super) fn mutated(&mut self, count: u64, now: u64) {
        let wall = Timestamp(clock::now_ms());
        self.sample.mutations = count;
        self.sample.mutation_first.get_or_insert(wall);
        self.sample.mutation_last = Some(wall);
        self.sample.mutation_mono_ms = now;
    }

    pub(super) fn publish(&mut self) {
        self.beats += 1;
        self.used_memory = true;
        let (ctx, created) = (&self.ctx, &self.ctx.run.created);
        if !self.shown {
            // The starter does it after it has given us the plan, and may be killed or meet a full disk there.
            self.shown = views::has_files(&ctx.state, &created.ids)
                || views::publish_files(&ctx.state, &ctx.paths, created).is_ok();
        }
        let now = self.ctx.clock.now();
        self.sample.mono_ms = clock::monotonic_ms();
        self.sample.due_mono_ms = self.sample.mono_ms + self.cpu.due_at().saturating_sub(now) + LATE_MS;
        self.sample.paused_ms = self.ctx.clock.paused_ms();
        self.sample.monitor.clone_from(&self.ctx.run.monitor);
        self.sample.ending = self.ctx.run.ending.is_some();
        let _published =
            views::publish_sample(&self.ctx.state, &self.sample, self.beats, Timestamp(clock::now_ms()));
    }

    /// What the agent's tree has done, strays under the launcher included, our own processes not.
    fn tree_work(&self) -> tree::Work {
        let mut roots = vec![self.agent_pid];
        if let Some(partner) = self.partner.as_ref().filter(|p| p.is_launcher && !p.is_gone()) {
            let own = rustix::process::getpid().as_raw_nonzero().get();
            roots.extend(tree::children(partner.identity.pid).into_iter().filter(|pid| *pid != own));
        }
        tree::tree_work(&roots)
    }

    /// Asks git, through a helper, when silence makes the answer matter.
    pub(super) fn observe(&mut self) {
        let now = self.ctx.clock.now();
        if let Some(mut observer) = self.observer.take() {
            match observer.poll(now) {
                None => self.observer = Some(observer),
                Some(end) => {
                    let took = now.saturating_sub(observer.started);
                    if observer.entry == ASK {
                        self.ask_after = now + self.ask_pause;
                        self.ask_pause = (self.ask_pause * 2).min(ASK_EVERY_MS);
                    } else {
                        let every = OBSERVE_EVERY_MS.min(self.shortest_threshold_ms() / 3).max(500);
                        self.observe_after = now
                            + every.max(took * OBSERVE_DUTY).min(OBSERVE_EVERY_MS.max(took * OBSERVE_DUTY));
                    }
                    // A helper that was ended at its deadline has told nothing, and nothing is concluded from that.
                    for fact in end.facts {
                        match fact {
                            Settled::Work(work) => self.take_work(&work, now),
                            Settled::Session { event } => self.take_session(event, now),
                            _ => {}
                        }
                    }
                    self.publish();
                }
            }
            return;
        }
        let silent = now.saturating_sub(self.sample.log_mono_ms.max(self.ctx.run.created_mono_ms));
        let matters = silent * 2 >= self.shortest_threshold_ms() || self.no_mutation_is_near();
        let old = now.saturating_sub(self.observed_at) >= self.lately_ms() / 2;
        let due = now >= self.observe_after || (self.no_mutation_is_near() && old);
        if self.gone_at.is_some() || self.agent_pid == 0 {
            return;
        }
        if self.work_known && matters && due {
            self.observer = Helper::start(&self.ctx, "__observe", OBSERVE_EVERY_MS);
            if self.observer.is_none() {
                self.observe_after = now + OBSERVE_EVERY_MS;
                self.work_known = false;
            }
            return;
        }
        self.ask_server(now);
    }

    /// Asks the server of lane `attach` what the session does: OpenCode's client tells nothing of it.
    fn ask_server(&mut self, now: u64) {
        if self.ctx.run.created.spec.lane != Lane::Attach {
            return;
        }
        let heard = self.sample.log_mono_ms.max(self.ctx.run.created_mono_ms);
        if heard > self.asked_at {
            // It speaks for itself again.
            self.ask_pause = ASK_FIRST_MS;
        }
        if now >= self.ask_after.max(heard + ASK_FIRST_MS) {
            self.asked_at = now;
            self.ask_after = now + ASK_EVERY_MS;
            self.observer = Helper::start(&self.ctx, ASK, ASK_EVERY_MS);
        }
    }

    /// What the server says counts as if the client had told it.
    fn take_session(&mut self, event: AgentEvent, now: u64) {
        // The client may have spoken meanwhile, which is newer.
        if self.sample.log_mono_ms > self.asked_at || self.gone_at.is_some() {
            return;
        }
        kind_of(&event).clone_into(&mut self.sample.last_event);
        self.sample.last_event_mono_ms = now;
        self.sample.wait = waiting::told(&event, now);
        self.park_for_others();
        if event.is_journalled() && self.session_event.as_ref() != Some(&event) {
            // Behind all that was told by then, and before what will be.
            self.journal_agent(self.follower.parsed().saturating_sub(1), event.clone());
        }
        self.session_event = Some(event);
    }

    pub(super) fn shortest_threshold_ms(&self) -> u64 {
        let limits = &self.ctx.run.created.spec.limits;
        limits.startup_grace_sec.min(limits.no_op_sec).min(limits.stall_sec).saturating_mul(1000)
    }

    pub(super) fn no_mutation_is_near(&self) -> bool {
        let limit = self.ctx.run.created.spec.limits.no_mutation_sec.saturating_mul(1000);
        let facts = self.facts();
        limit > 0 && facts.now.saturating_sub(facts.mutated.max(facts.started)) / 9 >= limit / 10
    }

    /// Compares what git tells with what it told before. The first look has nothing but the count to go by.
    fn take_work(&mut self, work: &WorkReport, now: u64) {
        self.work_known = work.known;
        if !work.known {
            return;
        }
        let first = self.observed_at == 0;
        let changed = work.mutations != self.sample.mutations || (!first && work.stamp != self.stamp);
        self.observed_at = now;
        self.sample.observed_mono_ms = now;
        self.sample.observe_again_mono_ms = self.observe_after;
        self.stamp.clone_from(&work.stamp);
        if changed {
            self.mutated(work.mutations, now);
        }
    }

    /// An answer of git is good for a tenth of the no-mutation limit.
    fn lately_ms(&self) -> u64 {
        (self.ctx.run.created.spec.limits.no_mutation_sec.saturating_mul(1000) / 10).max(1_000)
    }

    /// Git has really answered within that time.
    pub(super) fn observed_lately(&self) -> bool {
        self.observed_at != 0 && self.ctx.clock.now().saturating_sub(self.observed_at) <= self.lately_ms()
    }
}

/// The published word for the kind of an event.
fn kind_of(event: &AgentEvent) -> &'static str {
    match event {
        AgentEvent::Started { .. } => "started",
        AgentEvent::Text { .. } => "text",
        AgentEvent::StepStarted => "step_started",
        AgentEvent::Working => "working",
        AgentEvent::ToolStarted { .. } => "tool_started",
        AgentEvent::ToolFinished { .. } => "tool_finished",
        AgentEvent::FileChanged { .. } => "file_changed",
        AgentEvent::Usage(_) => "usage",
        AgentEvent::Retrying { .. } => "retrying",
        AgentEvent::RateLimited { .. } => "rate_limited",
        AgentEvent::PermissionAsked { .. } => "permission_asked",
        AgentEvent::PermissionRefused { .. } => "permission_refused",
        AgentEvent::WriteRefused { .. } => "write_refused",
        AgentEvent::Error { .. } => "error",
        AgentEvent::Result { .. } => "result",
    }
}
