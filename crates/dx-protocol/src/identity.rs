//! Who a process is. A bare pid never names a process in a record: pids are used again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process for ever: the same five values never name another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// Host name; tells people where to look when the boot id is another machine's.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode of the pid namespace.
    pub pid_ns: u64,
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}
