//! One read of `/proc/PID/stat` or `/proc/PID/io`, parsed on the stack.
//!
//! Called by identity checks and tree walks. Must never allocate per process or trust the command name, which may
//! hold spaces and parentheses.

use std::ffi::CStr;
use std::io::{self, Write};

use rustix::fs::{Mode, OFlags};

/// Bit of the flags: a thread of the kernel.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The fields of `/proc/PID/stat` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// State letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`.
    pub(crate) state: u8,
    /// Parent's pid, 0 when it is outside our namespace.
    pub(crate) ppid: i32,
    /// It is a thread of the kernel.
    pub(crate) of_kernel: bool,
    /// `utime + stime + cutime + cstime` in clock ticks.
    pub(crate) cpu_ticks: u64,
    /// Threads that have not ended; above 1 a `Z` is only a leader that ended before its threads.
    pub(crate) threads: u32,
    /// Start time in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// Where its environment is; 0 without one, in the middle of an exec, and when we may not know.
    pub(crate) env_start: u64,
}

impl Stat {
    /// Whether the whole process has exited (and waits to be reaped).
    pub(crate) fn is_dead(&self) -> bool {
        match self.state {
            b'Z' => self.threads <= 1,
            b'X' | b'x' => true,
            _ => false,
        }
    }
}

/// Reads the state of `pid`; `None` when there is no such process.
///
/// Errors other than `ENOENT` and `ESRCH` are returned (for example `EMFILE`).
pub(crate) fn read(pid: i32) -> io::Result<Option<Stat>> {
    if pid <= 0 {
        return Ok(None);
    }
    // Wide enough for the longest command name and the first 50 numbers; the rest is not needed.
    let mut buffer = [0u8; 1536];
    let Some(len) = read_proc(pid, "stat", &mut buffer)? else { return Ok(None) };
    let text = buffer.get(..len).unwrap_or_default();
    parse(text)
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown format of /proc/PID/stat"))
}

/// Bytes that `pid` has had written to storage, with what the children it has waited for had; 0 when it is gone or the
/// kernel does not tell. Memory that is called a file, a pipe or a socket is no storage.
pub(crate) fn written_bytes(pid: i32) -> u64 {
    let mut buffer = [0u8; 512];
    let len = read_proc(pid, "io", &mut buffer).ok().flatten().unwrap_or(0);
    let text = buffer.get(..len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Opens `/proc/PID/<name>` for reading; `None` when the process or the file is not there.
pub(crate) fn open_proc(pid: i32, name: &str) -> io::Result<Option<rustix::fd::OwnedFd>> {
    let mut path = [0u8; 48];
    let mut rest = path.as_mut_slice();
    write!(rest, "/proc/{pid}/{name}\0")?;
    let path = CStr::from_bytes_until_nul(&path).map_err(io::Error::other)?;
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// One read of `/proc/PID/<name>` into `buffer`; `None` when the process is gone.
fn read_proc(pid: i32, name: &str, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(fd) = open_proc(pid, name)? else { return Ok(None) };
    loop {
        match rustix::io::read(&fd, &mut *buffer) {
            Ok(len) => return Ok(Some(len)),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn parse(text: &[u8]) -> Option<Stat> {
    let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // Fields are numbered as in proc(5): the state is 3.
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(4)?.parse().ok()?;
    let mut fields = fields.skip(4);
    let mut cpu_ticks = 0u64;
    for _ in 14..=17 {
        let ticks: i64 = fields.next()?.parse().ok()?;
        cpu_ticks = cpu_ticks.saturating_add(u64::try_from(ticks).unwrap_or(0));
    }
    let mut fields = fields.skip(2);
    let threads = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    let env_start = fields.nth(27)?.parse().ok()?;
    let of_kernel = flags & PF_KTHREAD != 0;
    Some(Stat { state, ppid, of_kernel, cpu_ticks, threads, start_ticks, env_start })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = " 7 8 9 10 -1 12 13 14 15 16 100 20 3 4 20 0 5 0 123456 1 2 18446744073709551615 26 27 28 29 30 31 32 33 \
         34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 140722 51 0\n";

    #[test]
    fn names_with_spaces_and_parentheses_are_skipped() {
        for name in ["sh", "a b", "x) S 1 1 (", ")", "((", "Z) Z 99"] {
            let text = format!("42 ({name}) S{TAIL}");
            let stat = parse(text.as_bytes()).unwrap();
            let expected = Stat {
                state: b'S',
                ppid: 7,
                of_kernel: false,
                cpu_ticks: 127,
                threads: 5,
                start_ticks: 123_456,
                env_start: 140_722,
            };
            assert_eq!(stat, expected, "name {name}");
        }
    }

    #[test]
    fn cut_text_is_refused() {
        let text = format!("42 (sh) S{TAIL}");
        assert_eq!(parse(&text.as_bytes()[..30]), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"42 (sh)"), None);
    }

    #[test]
    fn a_zombie_leader_with_threads_is_not_dead() {
        let mut stat = parse(format!("42 (sh) Z{TAIL}").as_bytes()).unwrap();
        stat.threads = 2;
        assert!(!stat.is_dead());
        stat.threads = 1;
        assert!(stat.is_dead());
    }

    #[test]
    fn no_process_has_a_pid_below_one() {
        assert_eq!(read(0).unwrap(), None);
        assert_eq!(read(-1).unwrap(), None);
    }
}
