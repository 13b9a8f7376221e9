//! The launcher: parent of the agent, subreaper of its tree, first witness of its exit, and the one who replaces a dead
//! monitor. Forked from the monitor without exec; it never writes the journal.

use crate::context::Context;
use crate::guard::Replacement;
use crate::identity::record_of;
use crate::launch;
use crate::members::{self, Strays};
use crate::plan::Plan;
use crate::witness;
use dx_jobdir::faults;
use dx_proc::{ChildrenState, PidFd, ProcessIdentity, SignalFd, clock, wait};
use dx_protocol::{Slot, SweepRecord, Timestamp, Witness};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// While strays are being ended, look this often.
const SWEEP_TICK_MS: u64 = 20;

/// Runs the launcher until agent, tree and monitor are gone. Returns to the caller, which exits the process.
pub(crate) fn main(ctx: &mut Context, plan: Plan, monitor: PidFd, mut ready: Option<OwnedFd>) {
    let _named = dx_proc::subreaper::set_name("dx-launcher");
    let _reaper = dx_proc::subreaper::become_subreaper();
    let Ok(signals) = SignalFd::new(&[rustix::process::Signal::CHILD.as_raw()]) else { return };
    let Ok(own) = ProcessIdentity::of_self() else { return };
    let _written = ctx.exit.write(Slot::Launcher, &record_of(&own));
    faults::step("launcher.began");

    let agent = launch::launch(ctx, &plan);
    drop(plan);
    if let Some(pty) = &mut ctx.pty {
        pty.release();
    }
    let agent_pid = ctx.exit.read().agent.map_or(0, |a| a.pid);
    if let Some(fd) = ready.take() {
        let word: &[u8] = if agent.is_some() { b"started\n" } else { b"failed\n" };
        let _told = std::fs::File::from(fd).write_all(word);
    }
    let mut agent_gone = agent.is_none();
    let mut strays = Strays::new(ctx.run.created.spec.limits.grace_ms);
    let mut swept = false;
    let mut monitor = Replacement::new(monitor);
    // From here on it waits, mostly for hours.
    dx_proc::memory::trim();

    loop {
        if let Some(pty) = &ctx.pty {
            pty.copy();
        }
        if !agent_gone && witness::as_parent(&ctx.exit, agent_pid, Witness::Launcher) {
            agent_gone = true;
        }
        let keep = if agent_gone { None } else { Some(agent_pid) };
        let reaped = dx_proc::reap_zombies(keep);
        if agent_gone && !swept {
            let left = members::own_children(monitor.child());
            // ECHILD is the proof; beside a replacement of ours, which is a child too, the list has to do.
            let proved = match monitor.child() {
                None => matches!(reaped, Ok(ChildrenState::None)),
                Some(_) => left.is_empty(),
            };
            if proved {
                if let Some(pty) = &ctx.pty {
                    pty.copy();
                }
                let record = SweepRecord { strays: strays.seen(), at: Timestamp(clock::now_ms()) };
                // The monitor waits for this word: tried again with the next tick.
                swept = ctx.exit.write(Slot::Swept, &record).is_ok();
                faults::step("launcher.swept");
            } else {
                strays.end(&left, &[monitor.pid()]);
            }
        }
        if monitor.is_gone() {
            if ctx.is_finished_on_disk() {
                return;
            }
            if !monitor.replace(ctx, agent.as_ref()) && swept {
                return;
            }
        }
        let timeout = match (agent_gone && !swept, monitor.retry_in_ms()) {
            (true, _) => Some(SWEEP_TICK_MS),
            (false, retry) => retry,
        };
        let mut fds = vec![signals.as_fd()];
        fds.extend(monitor.fd());
        fds.extend(ctx.pty.as_ref().and_then(crate::pty::Pty::fd));
        let _woken = dx_proc::poll::poll(&fds, timeout);
        let _drained = signals.drain();
        if agent_gone
            && swept
            && monitor.is_lost()
            && matches!(wait::peek_any_exit(), Ok(wait::AnyChild::NoChildren))
        {
            return;
        }
    }
}
