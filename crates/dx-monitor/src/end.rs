//! Ending a whole tree from outside of it: TERM to every member by verified identity, grace, KILL, again until nothing
//! answers. Used by the monitor while its launcher is the subreaper, and by commands that find all of ours dead.

use crate::args::MARKER;
use dx_proc::{Host, Liveness, ProcessIdentity, clock, tree};
use dx_protocol::RunUuid;
use rustix::process::Signal;

/// The members of a run: descendants of the roots and everything that carries its marker, without `except`.
pub(crate) fn members_of(uuid: &RunUuid, roots: &[i32], except: &[i32]) -> Vec<ProcessIdentity> {
    tree::members(roots, (MARKER, uuid.as_str()), except)
}

/// Asks all members to end, and lets stopped ones run so that they can.
pub(crate) fn term(members: &[ProcessIdentity]) {
    tree::signal_all(members, Signal::TERM.as_raw());
    tree::signal_all(members, Signal::CONT.as_raw());
}

pub(crate) fn kill(members: &[ProcessIdentity]) {
    tree::signal_all(members, Signal::KILL.as_raw());
}

/// Pids of those that are still these very processes; a recycled pid is nobody's root.
pub(crate) fn still(processes: &[ProcessIdentity]) -> Vec<i32> {
    let Ok(host) = Host::current() else { return Vec::new() };
    let there = |p: &&ProcessIdentity| matches!(host.liveness(p), Liveness::Alive | Liveness::Zombie);
    processes.iter().filter(there).map(|p| p.pid).collect()
}

/// Ends everything that carries the run's marker or descends from `roots`; returns how many processes there were.
/// Blocks for `grace_ms` at most, and then until KILL has taken effect (bounded).
pub fn end_tree(uuid: &RunUuid, roots: &[ProcessIdentity], grace_ms: u64) -> usize {
    const KILL_PATIENCE_MS: u64 = 10_000;
    let began = clock::monotonic_ms();
    let mut members = members_of(uuid, &still(roots), &[]);
    let seen = members.len();
    term(&members);
    while !members.is_empty() && clock::monotonic_ms() - began < grace_ms + KILL_PATIENCE_MS {
        std::thread::sleep(std::time::Duration::from_millis(10));
        members = members_of(uuid, &still(roots), &[]);
        if clock::monotonic_ms() - began >= grace_ms {
            kill(&members);
        }
    }
    seen
}

/// The second net after a proved sweep: what still carries the marker (it left the tree while nobody was subreaper).
pub fn sweep_marked(uuid: &RunUuid, grace_ms: u64) -> usize {
    let found = members_of(uuid, &[], &[]).len();
    if found == 0 { 0 } else { end_tree(uuid, &[], grace_ms) }
}
