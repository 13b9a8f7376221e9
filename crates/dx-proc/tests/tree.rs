//! Trees, markers, sweeps, subreapers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use common::{Guard, PidGuard, alone, eventually};
use dx_proc::{ChildrenState, ExitStatus, Liveness, ProcessIdentity, reap_zombies, tree, wait};

fn own() -> i32 {
    std::process::id() as i32
}

fn pids(list: &[ProcessIdentity]) -> Vec<i32> {
    list.iter().map(|identity| identity.pid).collect()
}

#[test]
fn a_marker_matches_as_a_whole_only() {
    let value = format!("run-{}", own());
    let start = |name: &str, value: &str| Guard::of(Command::new("sleep").arg("30").env(name, value));
    let exact = start("DX_TEST_MARK", &value);
    let longer = start("DX_TEST_MARK", &format!("{value}x"));
    let other = start("DX_TEST_MARKS", &value);
    let inside = start("OTHER", &format!("DX_TEST_MARK={value}"));
    assert_eq!(tree::marked("DX_TEST_MARK", &value), [exact.pid()]);
    let all = tree::members(&[longer.pid(), other.pid()], ("DX_TEST_MARK", &value), &[other.pid()]);
    let mut expected = [exact.pid(), longer.pid()];
    expected.sort_unstable();
    assert_eq!(pids(&all), expected);
    assert_eq!(tree::signal_all(&all, libc::SIGTERM), 2);
    for (guard, gone) in [(&exact, true), (&longer, true), (&other, false), (&inside, false)] {
        if gone {
            eventually("exit", || wait::peek_exit(guard.pid()).unwrap().is_some());
            assert_eq!(wait::peek_exit(guard.pid()).unwrap(), Some(ExitStatus::Signaled(libc::SIGTERM)));
        } else {
            assert_eq!(wait::peek_exit(guard.pid()).unwrap(), None);
        }
    }
    assert_eq!(pids(&tree::members(&[exact.pid()], ("DX_TEST_MARK", &value), &[])), [0; 0], "no zombies");
}

#[test]
fn descendants_of_all_generations_and_threads() {
    let guard = Guard::sh("sh -c 'sleep 30 & wait' & wait");
    eventually("three generations", || tree::descendants(guard.pid()).len() == 2);
    let found = tree::descendants(guard.pid());
    assert_eq!(tree::children(guard.pid()), [found[0]]);
    assert!(tree::descendants(own()).contains(&guard.pid()), "child of another thread than the main one");
    let members = tree::members(&[guard.pid()], ("DX_NONE", "none"), &[guard.pid()]);
    assert_eq!(members.len(), 2, "found through an excluded root");
    assert_eq!(tree::signal_all(&members, libc::SIGKILL), 2);
}

#[test]
fn cpu_time_counts_the_whole_tree() {
    let guard = Guard::sh("sh -c 'while :; do :; done' & wait");
    let cpu_ms = |roots: &[i32]| tree::tree_work(roots).cpu_ms;
    eventually("CPU time", || cpu_ms(&[guard.pid()]) >= 200);
    let members = tree::members(&[guard.pid()], ("DX_NONE", "none"), &[]);
    assert_eq!(members.len(), 2);
    let seen = cpu_ms(&[guard.pid()]);
    assert!(cpu_ms(&[guard.pid(), guard.pid(), members[1].pid]) < 2 * seen, "nobody counts twice");
    tree::signal_all(&members, libc::SIGKILL);
}

/// The target folder is on storage, where `/tmp` may be memory.
#[test]
fn what_was_written_stays_after_the_child_that_wrote_it() {
    const BYTES: u64 = 400_000;
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("written-{}", own()));
    let script = format!("(head -c {BYTES} /dev/zero >{}; true); echo done; exec cat", file.display());
    let mut guard = Guard(
        Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = [0u8; 5];
    std::io::Read::read_exact(guard.0.stdout.as_mut().unwrap(), &mut line).unwrap();
    let before = tree::tree_work(&[guard.pid()]).written_bytes;
    // A pipe is no storage.
    let stdin = guard.0.stdin.as_mut().unwrap();
    std::io::Write::write_all(stdin, &vec![b'x'; 50_000]).unwrap();
    let mut echoed = vec![0u8; 50_000];
    std::io::Read::read_exact(guard.0.stdout.as_mut().unwrap(), &mut echoed).unwrap();
    let after = tree::tree_work(&[guard.pid()]).written_bytes;
    std::fs::remove_file(&file).unwrap();
    assert!((BYTES..2 * BYTES).contains(&before), "{before}");
    assert_eq!(after, before);
}

#[test]
fn an_orphan_in_its_own_session_comes_to_the_subreaper() {
    alone(
        "an_orphan_in_its_own_session_comes_to_the_subreaper",
        an_orphan_in_its_own_session_comes_to_the_subreaper_body,
    );
}

fn an_orphan_in_its_own_session_comes_to_the_subreaper_body() {
    dx_proc::subreaper::become_subreaper().unwrap();
    dx_proc::subreaper::set_name("dx-a-name-that-is-too-long").unwrap();
    assert_eq!(std::fs::read_to_string("/proc/self/comm").unwrap(), "dx-a-name-that-\n");
    let mut middle = Guard::sh("setsid sh -c 'exec sleep 30' </dev/null >/dev/null 2>&1 & exec sleep 30");
    eventually("grandchild", || tree::descendants(middle.pid()).len() == 1);
    let orphan = tree::descendants(middle.pid())[0];
    let _guard = PidGuard(orphan);
    let identity = ProcessIdentity::of_pid(orphan).unwrap();
    middle.0.kill().unwrap();
    middle.0.wait().unwrap();
    assert!(tree::descendants(own()).contains(&orphan));
    assert_eq!(reap_zombies(None).unwrap(), ChildrenState::Some);
    assert_eq!(tree::signal_all(&tree::members(&[own()], ("DX_NONE", "x"), &[]), libc::SIGKILL), 1);
    eventually("swept", || reap_zombies(None).unwrap() == ChildrenState::None);
    assert_eq!(identity.liveness(), Liveness::Gone);
}

#[test]
fn a_sweep_keeps_the_one_status() {
    alone("a_sweep_keeps_the_one_status", a_sweep_keeps_the_one_status_body);
}

fn a_sweep_keeps_the_one_status_body() {
    assert_eq!(reap_zombies(None).unwrap(), ChildrenState::None);
    // The kept one comes first, in the middle and last in the kernel's order.
    for position in 0..3 {
        let list: Vec<Guard> = (0..3).map(|code| Guard::sh(&format!("exit {code}"))).collect();
        for guard in &list {
            eventually("exit", || wait::peek_exit(guard.pid()).unwrap().is_some());
        }
        let kept = list[position].pid();
        assert_eq!(reap_zombies(Some(kept)).unwrap(), ChildrenState::Some);
        for guard in list.iter().filter(|guard| guard.pid() != kept) {
            assert!(wait::peek_exit(guard.pid()).is_err(), "others are reaped");
        }
        assert_eq!(wait::peek_exit(kept).unwrap(), Some(ExitStatus::Exited(position as i32)));
        wait::reap(kept).unwrap();
        assert_eq!(reap_zombies(Some(kept)).unwrap(), ChildrenState::None);
    }
}
