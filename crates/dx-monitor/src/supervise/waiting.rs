//! What the agent is known to wait for: as its output tells, and where that is silent, as its processes show.
//!
//! Called by `following`. Must never: guess from silence; a wait needs an event or a process that can be named.

use super::Monitor;
use dx_events::Summary;
use dx_jobdir::pools::{self, Pool};
use dx_proc::{clock, tree};
use dx_protocol::{AgentEvent, Grammar, Timestamp, Wait};

/// HTTP status of a rate limit.
const RATE_LIMIT: u16 = 429;
/// A refusal that passes sooner holds nobody else up.
const LONG_WAIT_MS: i64 = 60_000;
/// A tool may be begun this long before the event that announces it is in the log.
const SLACK_MS: u64 = 1_000;

/// The wait that an event announces. Any other event ends one.
pub(super) fn told(event: &AgentEvent, now: u64) -> Option<Wait> {
    Some(match event {
        AgentEvent::ToolStarted { name, .. } => Wait::Tool { name: name.clone(), since_mono_ms: now },
        AgentEvent::Retrying { delay_ms, status: Some(RATE_LIMIT), .. } => {
            limited(delay_ms.map(|delay| Timestamp(clock::now_ms().saturating_add_unsigned(delay))), now)
        }
        AgentEvent::Retrying { delay_ms, .. } => {
            Wait::Retry { until_mono_ms: delay_ms.map(|delay| now.saturating_add(delay)) }
        }
        AgentEvent::RateLimited { until_ms } => limited(until_ms.map(Timestamp), now),
        AgentEvent::PermissionAsked { what } => Wait::Input { what: what.clone(), read_since_mono_ms: None },
        _ => return None,
    })
}

/// Rate limited until then.
fn limited(until: Option<Timestamp>, now: u64) -> Wait {
    let wall = Timestamp(clock::now_ms());
    let until = until.and_then(|until| dx_core::limit_end(until, wall));
    let left = until.map(|until| until.since_ms(wall));
    Wait::RateLimit { until, until_mono_ms: left.map(|left| now.saturating_add(left)) }
}

/// The tool that is still at work when an event of another one, or of a subagent, came.
pub(super) fn unfinished(summary: &Summary, now: u64) -> Option<Wait> {
    let (_, name) = summary.in_flight.last().filter(|_| !summary.result_stands)?;
    Some(Wait::Tool { name: name.clone(), since_mono_ms: now })
}

impl Monitor {
    /// A long wait until a known time is told to all starts, which need not ask the same.
    pub(super) fn park_for_others(&self) {
        let Some(Wait::RateLimit { until: Some(until), .. }) = &self.sample.wait else { return };
        let now = Timestamp(clock::now_ms());
        if until.0 - now.0 >= LONG_WAIT_MS {
            let _noted = pools::park(&self.ctx.state, &Pool::of(&self.ctx.run.created), *until, now);
        }
    }

    /// Looks for what the agent does not tell, each time CPU is sampled: while it is silent.
    pub(super) fn look_at_tree(&mut self, now: u64) {
        let roots = [self.agent_pid];
        let read_since = self.read_since();
        let told = !self.follower.summary.in_flight.is_empty();
        let other = matches!(self.sample.wait, Some(ref wait) if !matches!(wait, Wait::Tool { .. }));
        if told || (other && read_since.is_none()) {
            return;
        }
        if self.ctx.pty.is_some() {
            self.sample.wait = tree::terminal_reader(&roots).map(|name| Wait::Input {
                what: format!("{name} reads from the terminal"),
                read_since_mono_ms: Some(read_since.unwrap_or(now)),
            });
            return;
        }
        if self.ctx.run.created.contract.grammar != Grammar::Opencode {
            return;
        }
        // OpenCode tells a tool when it has ended; until then its process is there, younger than the last line.
        self.sample.wait = self
            .silent_for_ms()
            .and_then(|silent| tree::oldest_within(&roots, silent + SLACK_MS))
            .map(|process| Wait::Tool {
                name: process.name,
                // Its age counts what a suspended machine has slept.
                since_mono_ms: now.saturating_sub(process.age_ms).max(self.sample.last_event_mono_ms),
            });
    }

    /// Since the agent last printed an event, by the log itself: our own look may come a second later.
    fn silent_for_ms(&self) -> Option<u64> {
        // No tool is called before the model has answered.
        if self.sample.last_event_mono_ms == 0 || self.sample.last_event == "started" {
            return None;
        }
        let written = std::fs::metadata(self.ctx.paths.log()).ok()?.modified().ok()?;
        let age = std::time::SystemTime::now().duration_since(written).unwrap_or_default();
        u64::try_from(age.as_millis()).ok()
    }

    /// A terminal that speaks does not wait, as far as we saw.
    pub(super) fn forget_terminal(&mut self) {
        if self.read_since().is_some() {
            self.sample.wait = None;
        }
    }

    /// Since when a process was seen to read the terminal, as often as was looked.
    fn read_since(&self) -> Option<u64> {
        match self.sample.wait {
            Some(Wait::Input { read_since_mono_ms, .. }) => read_since_mono_ms,
            _ => None,
        }
    }
}
