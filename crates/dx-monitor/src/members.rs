//! Which processes belong to the run, and ending those that outlive the agent: TERM, grace, KILL.

use dx_proc::{Host, ProcessIdentity, clock, tree};
use rustix::process::Signal;

/// Children of this process but `except`, living ones only.
pub(crate) fn own_children(except: Option<i32>) -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut children = tree::children(own);
    children.retain(|pid| Some(*pid) != except);
    children
}

/// Progress of ending what is left of a tree.
pub(crate) struct Strays {
    grace_ms: u64,
    began: Option<u64>,
    termed: Vec<(i32, u64)>,
}

/// Longest wait for strays after the agent's own end; what ignores TERM that long is killed.
const STRAY_GRACE_MS: u64 = 2_000;

impl Strays {
    pub(crate) fn new(grace_ms: u64) -> Self {
        Self { grace_ms: grace_ms.min(STRAY_GRACE_MS), began: None, termed: Vec::new() }
    }

    /// How many processes were found.
    pub(crate) fn seen(&self) -> u32 {
        u32::try_from(self.termed.len()).unwrap_or(u32::MAX)
    }

    /// One round: TERM for those seen for the first time, KILL for all once the grace is over.
    pub(crate) fn end(&mut self, roots: &[i32], except: &[i32]) {
        let now = clock::monotonic_ms();
        let began = *self.began.get_or_insert(now);
        let mut pids: Vec<i32> = roots.to_vec();
        pids.extend(roots.iter().flat_map(|root| tree::descendants(*root)));
        let Ok(host) = Host::current() else { return };
        let members: Vec<ProcessIdentity> = pids
            .into_iter()
            .filter(|pid| !except.contains(pid))
            .filter_map(|pid| host.identify(pid).ok())
            .collect();
        if now.saturating_sub(began) >= self.grace_ms {
            self.note(&members);
            tree::signal_all(&members, Signal::KILL.as_raw());
            return;
        }
        let fresh: Vec<ProcessIdentity> =
            members.into_iter().filter(|m| !self.termed.contains(&(m.pid, m.start_ticks))).collect();
        self.note(&fresh);
        tree::signal_all(&fresh, Signal::TERM.as_raw());
        tree::signal_all(&fresh, Signal::CONT.as_raw());
    }

    fn note(&mut self, members: &[ProcessIdentity]) {
        for member in members {
            let key = (member.pid, member.start_ticks);
            if !self.termed.contains(&key) && self.termed.len() < 10_000 {
                self.termed.push(key);
            }
        }
    }
}
