//! Signals, poll, file events, clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::{alone, eventually};
use dx_proc::inotify::{self, Watch};
use dx_proc::{SignalFd, WriteAlarm, clock, poll, signals, write_alarm};
use rustix::process::{Signal, getpid, kill_process};

#[test]
fn signals_come_through_the_descriptor() {
    alone("signals_come_through_the_descriptor", signals_come_through_the_descriptor_body);
}

fn signals_come_through_the_descriptor_body() {
    let fd = SignalFd::new(&[libc::SIGTERM, libc::SIGCHLD]).unwrap();
    assert_eq!(fd.drain().unwrap(), []);
    assert_eq!(poll::poll(&[fd.as_fd()], Some(0)).unwrap(), [false]);
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(poll::poll(&[fd.as_fd()], Some(5000)).unwrap(), [true]);
    let got = fd.drain().unwrap();
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].signal, got[0].sender), (libc::SIGTERM, std::process::id() as i32));
    assert_eq!(fd.drain().unwrap(), []);
    signals::ignore(&[libc::SIGHUP]).unwrap();
    kill_process(getpid(), Signal::HUP).unwrap();
    assert!(signals::ignore(&[libc::SIGKILL]).is_err());
    assert!(SignalFd::new(&[4711]).is_err());
}

#[test]
fn poll_tells_which_and_times_out() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let (other, _keep) = rustix::pipe::pipe().unwrap();
    let start = Instant::now();
    assert_eq!(poll::poll(&[read.as_fd(), other.as_fd()], Some(60)).unwrap(), [false, false]);
    assert!(start.elapsed() >= Duration::from_millis(55));
    rustix::io::write(&write, b"x").unwrap();
    assert_eq!(poll::poll(&[other.as_fd(), read.as_fd()], None).unwrap(), [false, true]);
    drop(write);
    assert_eq!(poll::poll(&[read.as_fd()], None).unwrap(), [true]);
    assert_eq!(poll::poll(&[], Some(1)).unwrap(), [false; 0]);
    assert_eq!(poll::poll(&[read.as_fd()], Some(u64::MAX)).unwrap(), [true]);
}

#[test]
fn file_events_name_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut file = File::create(&path).unwrap();
    let mut watch = Watch::new().unwrap();
    let on_file = watch.add(&path, inotify::MODIFY).unwrap();
    let on_dir = watch.add(dir.path(), inotify::CREATE | inotify::MOVED_TO | inotify::ONLYDIR).unwrap();
    assert_eq!(watch.read_events(|_, _, _| panic!("nothing happened")).unwrap(), 0);
    file.write_all(b"line\n").unwrap();
    File::create(dir.path().join("request")).unwrap();
    assert_eq!(poll::poll(&[watch.as_fd()], Some(5000)).unwrap(), [true]);
    let mut seen = Vec::new();
    watch.read_events(|wd, mask, name| seen.push((wd, mask, name.to_vec()))).unwrap();
    assert_eq!(seen, [(on_file, inotify::MODIFY, vec![]), (on_dir, inotify::CREATE, b"request".to_vec())]);
    watch.remove(on_dir).unwrap();
    let mut ended = false;
    eventually("watch ended", || {
        watch.read_events(|wd, mask, _| ended |= wd == on_dir && mask & inotify::IGNORED != 0).unwrap();
        ended
    });
    assert!(watch.remove(on_dir).is_err());
    let missing = watch.add(&dir.path().join("missing"), inotify::MODIFY).unwrap_err();
    assert_eq!(missing.errno(), Some(libc::ENOENT));
}

#[test]
fn clocks_run() {
    let (monotonic, boottime) = (clock::monotonic_ms(), clock::boottime_ms());
    std::thread::sleep(Duration::from_millis(12));
    assert!(clock::monotonic_ms() >= monotonic + 10);
    assert!(clock::boottime_ms() >= boottime + 10);
    assert!(clock::now_ms() > 1_700_000_000_000);
}

#[test]
fn an_alarm_rings_once_for_the_writes_after_it_was_armed() {
    alone("an_alarm_rings_once_for_the_writes_after_it_was_armed", an_alarm_rings_once_body);
}

fn an_alarm_rings_once_body() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("log")).unwrap();
    let fd = SignalFd::new(&[write_alarm::SIGNAL]).unwrap();
    let alarm = WriteAlarm::new(folder.path()).unwrap();
    file.write_all(b"x").unwrap();
    if !alarm.arm() {
        println!("this kernel has no directory notification; a monitor looks by its clock then");
        return;
    }
    assert_eq!(fd.drain().unwrap(), [], "what was written before is not told");
    for _ in 0..3 {
        file.write_all(b"yy").unwrap();
    }
    assert_eq!(poll::poll(&[fd.as_fd()], Some(5000)).unwrap(), [true]);
    assert_eq!(fd.drain().unwrap().len(), 1);
    file.write_all(b"z").unwrap();
    assert_eq!(fd.drain().unwrap(), [], "it rings once");
    assert!(alarm.arm());
    // Another file of the directory, by a name that did not exist.
    File::create(folder.path().join("err")).unwrap().write_all(b"e").unwrap();
    assert_eq!(poll::poll(&[fd.as_fd()], Some(5000)).unwrap(), [true]);
    assert!(WriteAlarm::new(&folder.path().join("log")).is_none());
}
