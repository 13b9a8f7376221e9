//! Which process a record means: boot, pid namespace, pid and start time.
//!
//! Called wherever a recorded process is looked at or signalled. Must never call a recycled pid alive, and never call
//! a process gone that only could not be checked.

use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Result};
use crate::stat;

/// A process, named so that a recycled pid, another namespace or a reboot is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Boot id of the kernel, as in `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode of the pid namespace in which `pid` counts.
    pub pid_ns: u64,
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It runs (or is stopped), or it could not be checked though something has its pid.
    Alive,
    /// It has exited and waits to be reaped.
    Zombie,
    /// It no longer exists; its pid is free or belongs to another process.
    Gone,
    /// It belongs to another pid namespace of this boot, or our own namespace is unknown: cannot be checked from here.
    Elsewhere,
    /// The boot id differs. Compare the host name too: a record from another machine looks the same.
    Rebooted,
}

/// Boot id of the running kernel.
///
/// Fails with [`Error::ReadBootId`].
pub fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|source| Error::ReadBootId { source })?;
    Ok(text.trim_end().to_owned())
}

/// Inode number of our pid namespace.
///
/// Fails with [`Error::ReadPidNamespace`].
pub fn pid_namespace() -> Result<u64> {
    let meta = std::fs::metadata("/proc/self/ns/pid").map_err(|source| Error::ReadPidNamespace { source })?;
    Ok(meta.ino())
}

/// Host name as the kernel has it; bytes that are not UTF-8 are replaced.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Boot and namespace we are in, read once for many checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Our boot id.
    pub boot_id: String,
    /// Our pid namespace.
    pub pid_ns: u64,
}

impl Host {
    /// Reads boot id and namespace. Fails with [`Error::ReadBootId`] or [`Error::ReadPidNamespace`].
    pub fn current() -> Result<Self> {
        Ok(Self { boot_id: boot_id()?, pid_ns: pid_namespace()? })
    }

    /// Identity of the process that has `pid` now (zombies too).
    ///
    /// Fails with [`Error::NotFound`] when there is none, [`Error::ReadStat`] when it cannot be read.
    pub fn identify(&self, pid: i32) -> Result<ProcessIdentity> {
        match stat::read(pid) {
            Ok(Some(stat)) => Ok(self.name(pid, stat.start_ticks)),
            Ok(None) => Err(Error::NotFound { pid }),
            Err(source) => Err(Error::ReadStat { pid, source }),
        }
    }

    pub(crate) fn name(&self, pid: i32, start_ticks: u64) -> ProcessIdentity {
        ProcessIdentity { boot_id: self.boot_id.clone(), pid_ns: self.pid_ns, pid, start_ticks }
    }

    /// What became of the process: one open, one read, one close.
    pub fn liveness(&self, identity: &ProcessIdentity) -> Liveness {
        if identity.boot_id != self.boot_id {
            return Liveness::Rebooted;
        }
        if identity.pid_ns != self.pid_ns {
            return Liveness::Elsewhere;
        }
        match stat::read(identity.pid) {
            Ok(Some(stat)) if stat.start_ticks != identity.start_ticks => Liveness::Gone,
            Ok(Some(stat)) if stat.is_dead() => Liveness::Zombie,
            Ok(Some(_)) => Liveness::Alive,
            Ok(None) => Liveness::Gone,
            Err(_) => unreadable(identity.pid),
        }
    }
}

impl Host {
    /// Whether the process is stopped by a signal, and does nothing until another one lets it go on.
    pub fn is_stopped(&self, identity: &ProcessIdentity) -> bool {
        let ours = identity.boot_id == self.boot_id && identity.pid_ns == self.pid_ns;
        let stat = if ours { stat::read(identity.pid).ok().flatten() } else { None };
        stat.is_some_and(|stat| stat.start_ticks == identity.start_ticks && stat.state == b'T')
    }
}

/// The command name of a process (15 bytes at most), also of a zombie; `None` when it is gone. A fork has its parent's
/// name until it execs.
pub fn command_name(pid: i32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

/// Answer for a process whose state could not be read (no descriptors left): gone only when the pid is free.
fn unreadable(pid: i32) -> Liveness {
    let Some(pid) = crate::pidfd::positive(pid) else { return Liveness::Gone };
    match rustix::process::test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => Liveness::Gone,
        _ => Liveness::Alive,
    }
}

impl ProcessIdentity {
    /// Identity of the calling process.
    ///
    /// Fails as [`Host::current`] and [`Host::identify`].
    pub fn of_self() -> Result<Self> {
        Self::of_pid(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Identity of the process that has `pid` now.
    ///
    /// Fails with [`Error::NotFound`] when there is none, and as [`Host::current`].
    pub fn of_pid(pid: i32) -> Result<Self> {
        Host::current()?.identify(pid)
    }

    /// What became of the process. For many checks use [`Host::liveness`].
    ///
    /// Without a readable `/proc` the answer is [`Liveness::Elsewhere`]: nobody settles what cannot be checked.
    pub fn liveness(&self) -> Liveness {
        Host::current().map_or(Liveness::Elsewhere, |host| host.liveness(self))
    }
}
