//! The sandbox around an agent, seen from the command line: what an agent cannot do under `strict`, what it must be able to
//! do, and what the records say. The real OpenCode in it is in `opencode.rs`.

mod builds;
mod places;
mod repository;

use crate::world::{PATIENCE, World, read, write};
use dx_testkit::wait_until;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// A world whose agents get nothing beyond what users' agents get.
fn world() -> World {
    let mut world = World::new();
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
    world
}

/// Runs a shell script as a job in `worktree` to its end; its exit code and its log.
#[track_caller]
fn sh(world: &World, id: &str, worktree: &Path, more: &[&str], script: &str) -> (String, String) {
    let worktree = worktree.display().to_string();
    let head = ["start", "--json", "--beads", id, "--provider", "exec", "--worktree", &worktree];
    world.env.run(&[&head[..], more, &["--", "sh", "-c", script]].concat()).assert_code(0);
    let waited = world.env.run(&["wait", "--beads", id]);
    assert!(matches!(waited.code, 0 | 3), "{waited}");
    (world.outcome(id).2, read(world.view(id, "log")))
}

/// A worktree as `--worktree auto` makes it.
#[track_caller]
fn linked(world: &World, id: &str) -> std::path::PathBuf {
    let mut command = world.env.product();
    command.current_dir(&world.repo);
    let prepare = format!("prepare-{id}");
    command.args([
        "start",
        "--json",
        "--beads",
        &prepare,
        "--provider",
        "exec",
        "--worktree",
        "auto",
        "--",
        "true",
    ]);
    let output = world.env.run_command(command).assert_code(0);
    world.env.run(&["wait", "--beads", &prepare]).assert_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    document["worktree"].as_str().unwrap().into()
}

/// Ways out, each a command that ends with 0 when it did what it should not: `$out` is a folder outside.
const WAYS_OUT: &[(&str, &str)] = &[
    ("redirect", "echo x > $out/redirect"),
    ("overwrite", "echo x > $out/file"),
    ("append", "echo x >> $out/file"),
    ("truncate", "truncate -s 0 $out/file"),
    ("remove", "rm $out/removed"),
    ("folder", "mkdir $out/folder"),
    ("rename there", "mv $out/renamed $out/new-name"),
    ("rename in", "mv -n $out/taken . && test ! -e $out/taken"),
    ("rename out", "echo x > given && mv given $out/given"),
    ("symlink to a folder", "ln -s $out alias && echo x > alias/through-folder"),
    ("symlink to a file", "ln -s $out/through alias-file && echo x > alias-file"),
    ("hard link", "ln $out/linked hard && echo x > hard"),
    ("session of its own", "setsid -w sh -c \"echo x > $out/setsid\""),
    (
        "daemon",
        "(setsid sh -c \"echo x > $out/daemon; echo > $TMPDIR/tried\" &) && \
         while ! test -e $TMPDIR/tried; do sleep 0.01; done; test -e $out/daemon",
    ),
    ("program of its own", "$agent write:$out/tool:x"),
    ("up from here", "echo x > ../up"),
    ("home", "echo x > $HOME/up"),
    ("tmp", "echo x > $tmp/up"),
    ("state", "echo x > $state/up"),
    ("another job", "echo x >> $state/exec/victim.log"),
    ("proc", "echo x > /proc/self/root$out/proc"),
];

/// A script that tries all and says of each whether it went.
fn tries(world: &World) -> String {
    let place = |name: &str| world.path(name);
    let mut script = format!(
        "out={} agent={} tmp={} state={}\nexec 2>/dev/null\n",
        place("outside"),
        world.env.fake_agent().display(),
        place("tmp"),
        world.env.state_dir().display()
    );
    for (name, command) in WAYS_OUT {
        let _fits =
            writeln!(script, "if {command}; then echo 'went: {name}'; else echo 'refused: {name}'; fi");
    }
    script
}

/// Everything below a folder with its content.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found: Vec<_> = crate::world::files_below(folder)
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap_or_default()))
        .collect();
    found.sort();
    found
}

fn make_outside(world: &World) {
    let outside = world.env.path("outside");
    let _gone = std::fs::remove_dir_all(&outside);
    std::fs::create_dir(&outside).unwrap();
    for name in ["file", "removed", "renamed", "taken", "linked", "through"] {
        write(outside.join(name), "whole\n");
    }
}

#[test]
fn no_way_leads_outside() {
    let world = world();
    world.run_to_end("victim", &[], &["print:whole"]);
    make_outside(&world);
    let before = contents(&world.env.path("outside"));
    let (code, log) = sh(&world, "bd-1", &world.repo, &[], &tries(&world));
    assert_eq!(code, "0", "{log}");
    let went: Vec<&str> = log.lines().filter(|line| line.starts_with("went")).collect();
    assert_eq!(went, Vec::<&str>::new(), "{log}");
    assert_eq!(log.lines().count(), WAYS_OUT.len(), "{log}");
    assert_eq!(contents(&world.env.path("outside")), before);
    assert_eq!(read(world.view("victim", "log")), "whole\n");
    // The same ways are open without: each of them is a real one.
    std::fs::read_dir(&world.repo)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name() != ".git" && e.file_name() != "a.txt")
        .for_each(|entry| std::fs::remove_file(entry.path()).unwrap());
    make_outside(&world);
    let (_, log) = sh(&world, "bd-2", &world.repo, &["--sandbox", "off"], &tries(&world));
    let refused: Vec<&str> = log.lines().filter(|line| line.starts_with("refused")).collect();
    assert_eq!(refused, Vec::<&str>::new(), "{log}");
}

#[test]
fn what_an_agent_needs_works() {
    let world = world();
    let script = "set -e; mkdir -p a/b; echo x > a/b/c; mv a/b/c a/c; ln a/c hard; rm -r a; cat hard; \
                  echo x > $TMPDIR/t; mv $TMPDIR/t here; mkfifo $TMPDIR/f; echo x > /dev/null; echo x > /dev/shm/dxt-$$; \
                  rm /dev/shm/dxt-$$; test -r /etc/passwd; ls / > list; echo done >&2; echo more >> /dev/stderr";
    assert_eq!(sh(&world, "bd-1", &world.repo, &[], script), ("0".to_owned(), "x\ndone\nmore\n".to_owned()));
    // Its log it may append to, and not cut.
    let (code, log) = sh(&world, "bd-2", &world.repo, &[], "echo one; echo two > /dev/stderr; echo three");
    assert_eq!(code, "0");
    assert!(log.starts_with("one\n") && log.ends_with("three\n") && !log.contains("two\n"), "{log}");
}

#[test]
fn its_supervisors_cannot_be_signalled() {
    let world = world();
    let monitor = world.view("bd-1", "monitor.pid");
    let script = format!(
        "while ! test -s {0}; do sleep 0.01; done; monitor=$(cat {0}); \
         for pid in $monitor $PPID; do for signal in TERM KILL STOP 0; do \
         if kill -$signal $pid; then echo went $signal; fi; done; done; \
         sleep 300 & kill -KILL $! && echo own; exit 7",
        monitor.display()
    );
    let worktree = world.repo.display().to_string();
    let start = [
        "start",
        "--json",
        "--beads",
        "bd-1",
        "--provider",
        "exec",
        "--worktree",
        &worktree,
        "--",
        "sh",
        "-c",
        &script,
    ];
    world.env.run(&start).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    let log = read(world.view("bd-1", "log"));
    assert!(log.ends_with("own\n") && !log.contains("went"), "{log}");
    assert_eq!(world.rc("bd-1").as_deref(), Some("7"));
    let journal = read(world.view("bd-1", "events.jsonl"));
    assert!(!journal.contains("\"adopted\":true") && !journal.contains("launcher_lost"), "{journal}");
}

#[test]
fn off_is_recorded_and_kept_by_a_restart() {
    let world = world();
    let there = world.path("there");
    let worktree = world.repo.display().to_string();
    let (code, _) = sh(&world, "bd-1", &world.repo, &["--sandbox", "off"], &format!("echo x >> {there}"));
    assert_eq!((code.as_str(), read(&there).as_str()), ("0", "x\n"));
    let check = world.check("bd-1");
    assert_eq!((&check["sandbox"]["mode"], &check["sandbox"]["reason"]), (&"off".into(), &"asked".into()));
    let contract = world.pairs("bd-1", "contract");
    assert_eq!((contract["sandbox"].as_str(), contract["sandbox_reason"].as_str()), ("off", "asked"));
    let text = world.env.run(&["check", "--beads", "bd-1"]).assert_code(0).stdout;
    assert!(text.contains("sandbox off(asked)"), "{text}");
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(&there), "x\nx\n");
    assert_eq!(world.check("bd-1")["sandbox"]["mode"], "off");
    // And strict is what there is otherwise, with all that it is.
    let (code, _) = sh(&world, "bd-2", &world.repo, &[], &format!("echo x >> {there}"));
    assert_ne!(code, "0");
    let contract = world.pairs("bd-2", "contract");
    assert_eq!(contract["sandbox"], "strict");
    assert!(contract["sandbox_writable"].contains(&format!("\"{worktree}\"")), "{contract:?}");
    assert!(contract["sandbox_abi"].parse::<u32>().unwrap() > 0);
    let explained = world.env.run(&["check", "--beads", "bd-2", "--explain"]).stdout;
    assert!(explained.contains("  sandbox: strict, Landlock ABI "), "{explained}");
}

#[test]
fn a_kernel_without_landlock_is_told_and_recorded() {
    let world = world();
    let there = world.path("there");
    let worktree = world.repo.display().to_string();
    let on_it = |args: &[&str]| {
        let mut command = world.env.command(world.env.fake_agent());
        let words = [&[env!("CARGO_BIN_EXE_dx-runner")], args].concat().join("\n");
        command.arg("without-landlock").arg(format!("exec:{words}"));
        world.env.run_command(command)
    };
    let script = format!("echo x >> {there}");
    let start = |id: &'static str, more: &[&'static str]| {
        let head = ["start", "--beads", id, "--provider", "exec", "--worktree", &worktree];
        on_it(&[&head[..], more, &["--", "sh", "-c", &script]].concat())
    };
    let output = start("bd-1", &[]).assert_code(0);
    assert!(output.stderr.contains("warning: no sandbox: the kernel has no Landlock"), "{output}");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(&there), "x\n", "an agent that is not confined is not confined");
    let check = world.check("bd-1");
    assert_eq!(
        (&check["sandbox"]["mode"], &check["sandbox"]["reason"]),
        (&"none".into(), &"no_landlock".into())
    );
    assert_eq!(check["sandbox"]["writable"], serde_json::json!([]));
    let contract = world.pairs("bd-1", "contract");
    assert_eq!((contract["sandbox"].as_str(), contract["sandbox_reason"].as_str()), ("none", "no_landlock"));
    let text = world.env.run(&["check", "--beads", "bd-1"]).assert_code(0).stdout;
    assert!(text.contains("sandbox none(no_landlock)"), "{text}");
    // For programs, too.
    let output = start("bd-2", &["--json"]).assert_code(0);
    let document = crate::document(&world.env, "action", &output.stdout);
    assert!(document["warnings"][0].as_str().unwrap().starts_with("no sandbox"), "{document}");
    world.env.run(&["wait", "--beads", "bd-2"]).assert_code(0);
    // Who asks for it gets it or nothing.
    let output = start("bd-3", &["--json", "--sandbox", "strict"]).assert_code(21);
    let error = crate::world::error_of(&world.env, &output);
    assert_eq!(error["reason_code"], "sandbox_unavailable", "{error}");
    world.env.run(&["check", "--beads", "bd-3"]).assert_code(1);
    // Off is no reason for a warning.
    let output = start("bd-4", &["--sandbox", "off"]).assert_code(0);
    assert_eq!(output.stderr, "");
    world.env.run(&["wait", "--beads", "bd-4"]).assert_code(0);
    let doctor = on_it(&["doctor"]).stdout;
    assert!(
        doctor.contains("warn   sandbox ") && doctor.contains("none: the kernel has no Landlock"),
        "{doctor}"
    );
    let doctor = world.env.run(&["doctor"]).stdout;
    assert!(doctor.contains("ok     sandbox "), "{doctor}");
}

/// A job that outlives its monitor is still in it: what replaces the monitor never starts an agent anew.
#[test]
fn a_new_monitor_changes_nothing() {
    let world = world();
    let (go, there) = (world.env.path("go"), world.path("there"));
    let script = format!("while ! test -e {}; do sleep 0.01; done; echo x > {there}", go.display());
    let worktree = world.repo.display().to_string();
    let start = [
        "start",
        "--json",
        "--beads",
        "bd-1",
        "--provider",
        "exec",
        "--worktree",
        &worktree,
        "--",
        "sh",
        "-c",
        &script,
    ];
    world.env.run(&start).assert_code(0);
    let (_, monitor) = world.pids("bd-1");
    dx_testkit::send_signal(monitor, 9);
    wait_until(PATIENCE, "another monitor", || {
        read(world.view("bd-1", "events.jsonl")).contains("\"adopted\":true")
    });
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    assert!(!Path::new(&there).exists());
}
