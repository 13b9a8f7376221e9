//! Which processes belong to a job: its descendants, and those that carry its marker.
//!
//! Called by monitor and `stop` to signal, and by the monitor to see their work. A listing is a snapshot of a moving
//! thing: never take an empty one as a proof that nothing is left (that is `ECHILD`, see [`crate::sweep`]).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::clock;
use crate::error::Error;
use crate::identity::{Host, ProcessIdentity, command_name};
use crate::pidfd::PidFd;
use crate::stat;

/// How long the end of an exec is waited for, and the pause between two looks. It takes microseconds; on a machine with too
/// much to do as long as the process is not let run.
const EXEC_PATIENCE_MS: u64 = 2_000;
const EXEC_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// Children of `pid`, exited ones that are not reaped included. Empty when it is gone.
pub fn children(pid: i32) -> Vec<i32> {
    let mut list = Vec::new();
    let mut text = Vec::new();
    children_into(pid, &mut list, &mut text);
    list
}

/// All descendants of `pid`, not itself. Does not see orphans that another process adopted.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = with_descendants(&[pid]);
    found.retain(|other| *other != pid);
    found
}

/// Parent, its parent and so on of the calling process, as far as its namespace shows. An orphan's parent is who adopted it.
pub fn ancestors() -> Vec<i32> {
    // A pid that is used again while we look could lead in a circle.
    const MOST: usize = 1_000;
    let parent = |pid: i32| stat::read(pid).ok().flatten().map(|stat| stat.ppid).filter(|ppid| *ppid > 0);
    let own = rustix::process::getpid().as_raw_nonzero().get();
    std::iter::successors(parent(own), |pid| parent(*pid)).take(MOST).collect()
}

/// What processes have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// User and system time.
    pub cpu_ms: u64,
    /// To storage, by the kernel's account: pages that they made dirty, and writes past the cache.
    pub written_bytes: u64,
}

/// The work of the roots and all their descendants, each with that of the children it has waited for. May go down when a
/// process ends whose parent does not wait; compare with the last seen.
pub fn tree_work(roots: &[i32]) -> Work {
    let (mut ticks, mut written_bytes) = (0u64, 0u64);
    for pid in with_descendants(roots) {
        let Ok(Some(stat)) = stat::read(pid) else { continue };
        ticks = ticks.saturating_add(stat.cpu_ticks);
        written_bytes = written_bytes.saturating_add(stat::written_bytes(pid));
    }
    let cpu_ms = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1);
    Work { cpu_ms, written_bytes }
}

/// Resident memory in KiB of the roots and all their descendants; pages that they share count for each.
pub fn tree_resident_kib(roots: &[i32]) -> u64 {
    let pages = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let pages: u64 = with_descendants(roots).into_iter().filter_map(pages).sum();
    pages.saturating_mul(rustix::param::page_size() as u64) / 1024
}

/// A process by what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub age_ms: u64,
}

/// The oldest living descendant of the roots, none of them itself, that is not older than this.
pub fn oldest_within(roots: &[i32], age_ms: u64) -> Option<Named> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let now = clock::boottime_ms();
    let mut found: Option<(i32, u64)> = None;
    for pid in with_descendants(roots).into_iter().filter(|pid| !roots.contains(pid)) {
        let Some(stat) = stat::read(pid).ok().flatten().filter(|stat| !stat.is_dead()) else { continue };
        let age = now.saturating_sub(stat.start_ticks.saturating_mul(1000) / ticks);
        if age <= age_ms && found.is_none_or(|(_, oldest)| age > oldest) {
            found = Some((pid, age));
        }
    }
    let (pid, age_ms) = found?;
    Some(Named { name: command_name(pid)?, age_ms })
}

/// Since this process was begun.
pub fn age_ms(process: &ProcessIdentity) -> u64 {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    clock::boottime_ms().saturating_sub(process.start_ticks.saturating_mul(1000) / ticks)
}

/// The name of a process among the roots and their descendants that is blocked in reading a terminal.
pub fn terminal_reader(roots: &[i32]) -> Option<String> {
    with_descendants(roots).into_iter().find(|pid| reads_terminal(*pid)).and_then(command_name)
}

/// By the system call that it is in. `false` where the kernel does not tell.
fn reads_terminal(pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/syscall")) else { return false };
    let mut words = text.split_ascii_whitespace();
    let is_read = words.next().and_then(|n| n.parse().ok()) == Some(libc::SYS_read);
    let fd = words.next().and_then(|n| i32::from_str_radix(n.trim_start_matches("0x"), 16).ok());
    let (true, Some(fd)) = (is_read, fd) else { return false };
    fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .is_ok_and(|path| path.starts_with("/dev/pts") || path == Path::new("/dev/tty"))
}

/// Processes whose environment at their exec has exactly the entry `name=value`, this process left out. Sees only
/// what this user may read; zombies and kernel threads have no environment.
pub fn marked(name: &str, value: &str) -> Vec<i32> {
    let entry = format!("{name}={value}");
    let own = own_pid();
    let mut list = all_pids();
    list.retain(|&pid| pid != own && has_entry(pid, entry.as_bytes()));
    list
}

/// The value of a variable in a process's environment, as it was at its exec.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    environ.split(|byte| *byte == 0).find_map(value).and_then(|value| String::from_utf8(value).ok())
}

/// Processes whose working directory is this folder or one below it, this process left out. Sees only what this user may
/// look at; `folder` without links in it.
pub fn working_in(folder: &Path) -> Vec<i32> {
    let own = own_pid();
    let mut list = all_pids();
    list.retain(|&pid| {
        pid != own && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    });
    list
}

/// The living processes of a job: the roots, their descendants and all that carry the marker (name, value), without
/// `exclude`, this process and zombies. Excluded processes are still searched for descendants.
pub fn members(roots: &[i32], marker: (&str, &str), exclude: &[i32]) -> Vec<ProcessIdentity> {
    let Ok(host) = Host::current() else { return Vec::new() };
    let own = own_pid();
    let mut pids = with_descendants(roots);
    pids.extend(marked(marker.0, marker.1));
    pids.sort_unstable();
    pids.dedup();
    pids.retain(|pid| *pid != own && !exclude.contains(pid));
    pids.into_iter()
        .filter_map(|pid| {
            let stat = stat::read(pid).ok().flatten()?;
            (!stat.is_dead()).then(|| host.name(pid, stat.start_ticks))
        })
        .collect()
}

/// Sends `signal` to each of these very processes and returns how many took it. Those that are gone, recycled or not
/// ours to signal are passed over; this process and pid 1 are never signalled.
pub fn signal_all(processes: &[ProcessIdentity], signal: i32) -> usize {
    let Ok(host) = Host::current() else { return 0 };
    let own = own_pid();
    let sent = |identity: &&ProcessIdentity| {
        if identity.pid <= 1 || identity.pid == own {
            return false;
        }
        let send = || -> Result<bool, Error> {
            PidFd::open_verified_on(&host, identity)?.map_or(Ok(false), |fd| fd.send_signal(signal))
        };
        send().unwrap_or(false)
    };
    processes.iter().filter(sent).count()
}

/// The roots (whether they exist or not) and their descendants, each once.
fn with_descendants(roots: &[i32]) -> Vec<i32> {
    let mut list: Vec<i32> = Vec::new();
    for root in roots {
        if *root > 0 && !list.contains(root) {
            list.push(*root);
        }
    }
    let mut text = Vec::new();
    let mut below = Vec::new();
    let mut next = 0;
    while let Some(&pid) = list.get(next) {
        next += 1;
        below.clear();
        children_into(pid, &mut below, &mut text);
        for child in &below {
            if !list.contains(child) {
                list.push(*child);
            }
        }
    }
    list
}

/// Appends the children of all threads of `pid`; `text` is a buffer to use again.
fn children_into(pid: i32, list: &mut Vec<i32>, text: &mut Vec<u8>) {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        let Some(tid) = thread.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        match read_children(pid, tid, text) {
            Ok(true) => list.extend(parse_pids(text)),
            // The thread ended, or this kernel has no such file.
            Ok(false) if stat::read(tid).ok().flatten().is_some() => {
                list.clear();
                list.extend(children_by_scan(pid));
                return;
            }
            _ => {}
        }
    }
}

fn read_children(pid: i32, tid: i32, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    let Some(fd) = stat::open_proc(pid, &format!("task/{tid}/children"))? else { return Ok(false) };
    let mut file = fs::File::from(fd);
    io::Read::read_to_end(&mut file, text)?;
    Ok(true)
}

fn parse_pids(text: &[u8]) -> impl Iterator<Item = i32> {
    text.split(u8::is_ascii_whitespace).filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

/// Children by the parent that each process names: for kernels without `/proc/PID/task/TID/children`.
fn children_by_scan(parent: i32) -> Vec<i32> {
    let mut list = all_pids();
    list.retain(|pid| stat::read(*pid).ok().flatten().is_some_and(|stat| stat.ppid == parent));
    list
}

fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// In the middle of its exec a process has closed what it does not keep, locks among it, and has no environment yet: it is
/// waited for. One that is seen twice without, outside of an exec, has none.
fn has_entry(pid: i32, entry: &[u8]) -> bool {
    let until = clock::monotonic_ms().saturating_add(EXEC_PATIENCE_MS);
    let mut seen_without = false;
    loop {
        let Ok(Some(fd)) = stat::open_proc(pid, "environ") else { return false };
        if let Some(found) = search(&fd, entry) {
            return found;
        }
        let Some(stat) = stat::read(pid).ok().flatten().filter(|stat| !stat.is_dead() && !stat.of_kernel)
        else {
            return false;
        };
        if stat.env_start == 0 && clock::monotonic_ms() < until {
            std::thread::sleep(EXEC_PAUSE);
        } else if std::mem::replace(&mut seen_without, true) {
            return false;
        }
    }
}

/// `None`: there is no environment at all.
fn search(fd: &OwnedFd, entry: &[u8]) -> Option<bool> {
    let mut buffer = [0u8; 4096];
    let mut matcher = Matcher::new(entry);
    let mut empty = true;
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return (!empty).then(|| matcher.at_end()),
            Ok(len) => {
                empty = false;
                if matcher.feed(buffer.get(..len).unwrap_or_default()) {
                    return Some(true);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Some(false),
        }
    }
}

/// Looks for one whole entry in a stream of NUL-terminated ones.
struct Matcher<'a> {
    entry: &'a [u8],
    /// Bytes of the present entry that were equal so far; `None` once one differed.
    equal: Option<usize>,
}

impl<'a> Matcher<'a> {
    fn new(entry: &'a [u8]) -> Self {
        Self { entry, equal: Some(0) }
    }

    /// Whether the entry ended within `bytes`.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == 0 {
                if self.at_end() {
                    return true;
                }
                self.equal = Some(0);
            } else if let Some(count) = self.equal {
                self.equal = (self.entry.get(count) == Some(&byte)).then_some(count + 1);
            }
        }
        false
    }

    fn at_end(&self) -> bool {
        self.equal == Some(self.entry.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environ: &[u8], entry: &str, chunk: usize) -> bool {
        let mut matcher = Matcher::new(entry.as_bytes());
        environ.chunks(chunk).any(|part| matcher.feed(part)) || matcher.at_end()
    }

    #[test]
    fn only_a_whole_entry_matches() {
        for chunk in [1, 2, 3, 7, 4096] {
            assert!(found(b"A=1\0RUN=x\0B=2\0", "RUN=x", chunk));
            assert!(found(b"RUN=x", "RUN=x", chunk), "a last entry without NUL");
            assert!(!found(b"A=1\0RUN=xy\0B=2\0", "RUN=x", chunk));
            assert!(!found(b"A=1\0RUN=\0B=2\0", "RUN=x", chunk));
            assert!(!found(b"A=RUN=x\0MYRUN=x\0RUN=", "RUN=x", chunk));
            assert!(!found(b"", "RUN=x", chunk));
        }
    }

    #[test]
    fn no_environment_is_not_the_middle_of_an_exec() {
        let mut child = std::process::Command::new("sleep").arg("20").env_clear().spawn().unwrap();
        let pid = child.id() as i32;
        let (own, bare) = (stat::read(own_pid()), stat::read(pid));
        let found = has_entry(pid, b"DX_TEST_EXEC=here");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found);
        for stat in [own, bare] {
            let stat = stat.unwrap().unwrap();
            assert!(stat.env_start != 0 && !stat.of_kernel, "{stat:?}");
        }
    }

    #[test]
    fn both_ways_to_list_children_agree() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let pid = child.id() as i32;
        let listed = children(own_pid());
        let scanned = children_by_scan(own_pid());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listed.contains(&pid));
        assert!(scanned.contains(&pid));
    }
}
