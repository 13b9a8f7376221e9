//! What runs: finding processes by a mark in their environment, waiting for conditions, sending signals.
//!
//! For: tests that count orphans, kill at an exact moment, or wait for something to become true.
//! Called by: tests, and the clean-up of `TestEnv`.
//! Must never: signal a process by a number alone where it was found by a mark; it is looked at again first.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// First and longest pause between two looks of `wait_until`.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// A process in the middle of `exec` shows no environment for a moment; a second look after this finds it.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// The pids of all processes with exactly `name=value` in the environment they were started with.
///
/// Zombies have none and are not found. Threads count as their process.
pub fn processes_with_marker(name: &str, value: &str) -> Vec<i32> {
    let wanted = format!("{name}={value}").into_bytes();
    processes_where(&|entry| entry == wanted)
}

/// Like `processes_with_marker`, for any property of one environment entry (`NAME=VALUE`, no NUL).
pub(crate) fn processes_where(wanted: &dyn Fn(&[u8]) -> bool) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<i32> = pids.filter(|pid| has_entry(*pid, wanted)).collect();
    found.sort_unstable();
    found
}

fn has_entry(pid: i32, wanted: &dyn Fn(&[u8]) -> bool) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| !entry.is_empty() && wanted(entry)))
}

/// Panics, naming them, when processes with exactly `name=value` in their environment run.
///
/// Looks twice, a moment apart. To allow some time for them to go, use `wait_until` first.
#[track_caller]
pub fn assert_no_process(name: &str, value: &str) {
    for pause in [Duration::ZERO, SECOND_LOOK] {
        std::thread::sleep(pause);
        let found = processes_with_marker(name, value);
        let list: Vec<String> = found.iter().map(|pid| describe(*pid)).collect();
        assert!(found.is_empty(), "{} process(es) with {name}={value}:\n{}", found.len(), list.join("\n"));
    }
}

/// One line about a process for messages: pid, name, state, parent, command line.
pub fn describe(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (state, parent) = stat(pid).unwrap_or(('?', 0));
    let line = read("cmdline").replace('\0', " ");
    format!("  {pid} {} state {state} parent {parent}: {}", read("comm").trim(), line.trim())
}

/// State letter and parent of a process, as in `proc_pid_stat(5)`.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, closing parentheses too; the last one ends it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process of that number exists and has not ended (a zombie has).
pub fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Reads the pid that `fake-agent pid:PATH` (or a pid file) holds.
///
/// # Panics
/// When the file is missing or holds no number.
#[track_caller]
pub fn read_pid(path: impl AsRef<Path>) -> i32 {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().parse().unwrap_or_else(|_| panic!("{} holds no pid: {text:?}", path.display()))
}

/// Sends signal number `signal` to `pid`; false when there is no such process any more.
///
/// # Panics
/// When `pid` or `signal` is no such number, or the signal is not permitted.
#[track_caller]
pub fn send_signal(pid: i32, signal: i32) -> bool {
    let Some(signal) = Signal::from_named_raw(signal) else { panic!("{signal} is no signal number") };
    assert!(pid > 1, "refusing to signal pid {pid}");
    let Some(handle) = open(pid) else { return false };
    match pidfd_send_signal(handle, signal) {
        Ok(()) => true,
        Err(rustix::io::Errno::SRCH) => false,
        Err(error) => panic!("signal {signal:?} to {pid}: {error}"),
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// SIGKILLs every process (not this one) with such an environment entry, until two looks find none or time is up.
/// Returns the descriptions of those it killed.
pub(crate) fn kill_where(wanted: &dyn Fn(&[u8]) -> bool, limit: Duration) -> Vec<String> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let end = Instant::now() + limit;
    let (mut killed, mut clean_looks) = (Vec::new(), 0);
    while clean_looks < 2 && Instant::now() < end {
        let found: Vec<i32> = processes_where(wanted).into_iter().filter(|pid| *pid != own).collect();
        clean_looks = if found.is_empty() { clean_looks + 1 } else { 0 };
        for pid in found {
            let Some(handle) = open(pid) else { continue };
            // The number may have been reused between the look and the open: look again, then use the handle.
            if has_entry(pid, wanted) {
                killed.push(describe(pid));
                let _ = pidfd_send_signal(handle, Signal::KILL);
            }
        }
        std::thread::sleep(POLL.0);
    }
    killed
}

/// Waits until `condition` holds, looking every 5 ms at first and every 50 ms later.
///
/// # Panics
/// With `description` when `limit` passes first.
#[track_caller]
pub fn wait_until(limit: Duration, description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut pause = POLL.0;
    while !condition() {
        assert!(start.elapsed() < limit, "waited {:.1} s in vain until {description}", limit.as_secs_f64());
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL.1);
    }
}

/// Waits until `path` exists; see `wait_until`.
#[track_caller]
pub fn wait_for_file(limit: Duration, path: impl AsRef<Path>) {
    let path = path.as_ref();
    wait_until(limit, &format!("{} exists", path.display()), || path.exists());
}
