//! Seeing the agent's exit and making it durable before anybody may forget it.

use dx_jobdir::{ExitFile, faults};
use dx_proc::{ExitStatus, PidFd, tree, wait};
use dx_protocol::{Exit, ExitRecord, Slot, Timestamp, Witness};

/// Longest wait for a disk that refuses the record; after that the exit is forgotten rather than the tree kept.
const WRITE_PATIENCE_MS: u64 = 60_000;
const WRITE_TICK_MS: u64 = 100;

/// `false` when the record could not be made durable.
fn record(exit: &ExitFile, slot: Slot, witness: Witness, status: ExitStatus, cpu_ms: u64) -> bool {
    let status = match status {
        ExitStatus::Exited(code) => Exit::Code(code),
        ExitStatus::Signaled(signal) => Exit::Signal(signal),
    };
    let record = ExitRecord {
        exit: status,
        witness,
        at: Timestamp(dx_proc::clock::now_ms()),
        mono_ms: dx_proc::clock::monotonic_ms(),
        cpu_ms,
    };
    let written = exit.write(slot, &record).is_ok();
    let launcher = witness == Witness::Launcher;
    if launcher {
        faults::step("launcher.exit_written");
    }
    let synced = exit.sync().is_ok();
    if launcher {
        faults::step("launcher.exit_synced");
    }
    written && synced
}

/// Tries again while the disk refuses: nothing else may forget the exit meanwhile, as it is not reaped.
fn record_patiently(exit: &ExitFile, slot: Slot, witness: Witness, status: ExitStatus, cpu_ms: u64) {
    let began = dx_proc::clock::monotonic_ms();
    while !record(exit, slot, witness, status, cpu_ms)
        && dx_proc::clock::monotonic_ms() - began < WRITE_PATIENCE_MS
    {
        std::thread::sleep(std::time::Duration::from_millis(WRITE_TICK_MS));
    }
}

/// As the agent's parent: looks, records, syncs, and only then reaps. `true` when the agent has ended.
pub(crate) fn as_parent(exit: &ExitFile, pid: i32, witness: Witness) -> bool {
    let Ok(Some(status)) = wait::peek_exit(pid) else { return false };
    let slot = if witness == Witness::Launcher {
        faults::step("launcher.exit_seen");
        Slot::ExitByLauncher
    } else {
        Slot::ExitByMonitor
    };
    // A zombie still has its times.
    record_patiently(exit, slot, witness, status, tree::tree_work(&[pid]).cpu_ms);
    let _reaped = wait::reap(pid);
    if witness == Witness::Launcher {
        faults::step("launcher.reaped");
    }
    true
}

/// Through a pidfd that was opened while the agent lived. Only the kernel of 6.15 and later tells, and only once the
/// parent, whoever that is now, has reaped.
pub(crate) fn by_pidfd(exit: &ExitFile, agent: &PidFd, patience_ms: u64) -> bool {
    let _reaped = agent.wait_reaped(Some(patience_ms));
    let Ok(Some(status)) = agent.exit_info() else { return false };
    record_patiently(exit, Slot::ExitByPidfd, Witness::Pidfd, status, 0);
    true
}
