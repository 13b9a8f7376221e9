//! What can fail in this crate: one variant per operation, with the kernel's error as source.
//!
//! Callers match on the variant, or ask [`Error::errno`]. Must never carry secrets: no environment values, no
//! arguments besides the program's name.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process has this pid.
    #[error("process {pid} does not exist")]
    NotFound { pid: i32 },
    /// `/proc/sys/kernel/random/boot_id` could not be read.
    #[error("cannot read the boot id")]
    ReadBootId { source: io::Error },
    /// `/proc/self/ns/pid` could not be read.
    #[error("cannot read the pid namespace")]
    ReadPidNamespace { source: io::Error },
    /// `/proc/PID/stat` exists and could not be read or understood.
    #[error("cannot read the state of process {pid}")]
    ReadStat { pid: i32, source: io::Error },
    /// `pidfd_open` failed for another reason than that the process is gone.
    #[error("cannot open a descriptor of process {pid}")]
    OpenPidFd { pid: i32, source: io::Error },
    /// `pidfd_send_signal` failed for another reason than that the process is gone.
    #[error("cannot send signal {signal}")]
    SendSignal { signal: i32, source: io::Error },
    /// `PIDFD_GET_INFO` failed for another reason than that it is not supported or not ready.
    #[error("cannot ask for the exit status of a process descriptor")]
    QueryExitInfo { source: io::Error },
    /// `poll` failed.
    #[error("cannot poll descriptors")]
    Poll { source: io::Error },
    /// `waitid(P_PID, WNOWAIT)` failed (`ECHILD`: not a child of ours, or reaped already).
    #[error("cannot look at the exit status of child {pid}")]
    PeekExit { pid: i32, source: io::Error },
    /// `waitid(P_ALL, WNOWAIT)` failed for another reason than that there are no children.
    #[error("cannot look at exited children")]
    PeekAnyExit { source: io::Error },
    /// The consuming `waitid` failed (`ECHILD`: not a child of ours, or reaped already).
    #[error("cannot reap child {pid}")]
    Reap { pid: i32, source: io::Error },
    /// The child to reap still runs.
    #[error("child {pid} has not exited")]
    NotExited { pid: i32 },
    /// `PR_SET_CHILD_SUBREAPER` failed.
    #[error("cannot become a subreaper")]
    BecomeSubreaper { source: io::Error },
    /// `PR_SET_NAME` failed.
    #[error("cannot set the process name")]
    SetName { source: io::Error },
    /// The signal mask could not be changed.
    #[error("cannot block signals")]
    BlockSignals { source: io::Error },
    /// `signalfd` failed.
    #[error("cannot open a signal descriptor")]
    OpenSignalFd { source: io::Error },
    /// Reading the signal descriptor failed.
    #[error("cannot read pending signals")]
    DrainSignals { source: io::Error },
    /// A signal could not be ignored.
    #[error("cannot ignore signal {signal}")]
    IgnoreSignal { signal: i32, source: io::Error },
    /// `fork` failed.
    #[error("cannot fork")]
    Fork { source: io::Error },
    /// A fork without exec was asked for in a process with more than one thread.
    #[error("cannot fork without exec: the process has {threads} threads")]
    NotSingleThreaded { threads: u32 },
    /// The command has no program.
    #[error("the command is empty")]
    EmptyArgv,
    /// An argument, a variable or a path has a NUL byte (named by kind, never by value).
    #[error("{what} contains a NUL byte")]
    NulByte { what: &'static str },
    /// The program was not found (`ENOENT`) or only as files that may not be run (`EACCES`).
    #[error("cannot find the program {program}", program = program.display())]
    ProgramNotFound { program: PathBuf, source: io::Error },
    /// A target descriptor number is negative or named twice.
    #[error("descriptor number {target} cannot be placed")]
    BadTarget { target: i32 },
    /// The socket pair between parent and child could not be made.
    #[error("cannot make the channel to the child")]
    OpenChannel { source: io::Error },
    /// `/dev/null` could not be opened.
    #[error("cannot open /dev/null")]
    OpenNull { source: io::Error },
    /// A pseudo-terminal could not be made.
    #[error("cannot open a pseudo-terminal")]
    OpenPty { source: io::Error },
    /// The kernel has no Landlock (`ENOSYS`), or it is off (`EOPNOTSUPP`).
    #[error("cannot use Landlock")]
    AskLandlock { source: io::Error },
    /// A sandbox, or its rule for this path, could not be made.
    #[error("cannot make the sandbox: {path}", path = path.display())]
    MakeDomain { path: PathBuf, source: io::Error },
    /// A held child could not be told to go on.
    #[error("cannot release the held child {pid}")]
    Release { pid: i32, source: io::Error },
    /// The result of the child's exec could not be read.
    #[error("cannot read whether child {pid} was started")]
    ReadStart { pid: i32, source: io::Error },
    /// The program of a detached child could not be started; the child has been reaped.
    #[error("cannot start {program}", program = program.display())]
    Exec { program: PathBuf, source: io::Error },
    /// `inotify_init1` failed.
    #[error("cannot open a file watch")]
    OpenWatch { source: io::Error },
    /// `inotify_add_watch` failed.
    #[error("cannot watch {path}", path = path.display())]
    AddWatch { path: PathBuf, source: io::Error },
    /// `inotify_rm_watch` failed.
    #[error("cannot end watch {wd}")]
    RemoveWatch { wd: i32, source: io::Error },
    /// Reading file events failed.
    #[error("cannot read file events")]
    ReadWatch { source: io::Error },
}

impl Error {
    /// The kernel's error number, where the operation has one.
    pub fn errno(&self) -> Option<i32> {
        let source: &dyn std::error::Error = self;
        source.source()?.downcast_ref::<io::Error>()?.raw_os_error()
    }
}
