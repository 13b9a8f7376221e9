//! Between the identity of a process as the kernel tells it and as records hold it: the record adds the host.

use dx_proc::ProcessIdentity;
use dx_protocol::Identity;

/// For a record.
pub fn record_of(process: &ProcessIdentity) -> Identity {
    Identity {
        host: dx_proc::hostname(),
        boot_id: process.boot_id.clone(),
        pid_ns: process.pid_ns,
        pid: process.pid,
        start_ticks: process.start_ticks,
    }
}

/// Out of a record.
pub fn process_of(record: &Identity) -> ProcessIdentity {
    ProcessIdentity {
        boot_id: record.boot_id.clone(),
        pid_ns: record.pid_ns,
        pid: record.pid,
        start_ticks: record.start_ticks,
    }
}
