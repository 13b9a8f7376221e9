//! A job is nobody's child: whatever happens to the caller, its process group or its terminal, the job goes on and its
//! exit code is seen.

use crate::world::{PATIENCE, World, read, spawn, write};
use dx_testkit::{TestEnv, is_running, wait_for_file, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Actions of an agent that ends with 7, and only when it is told to.
fn patient(world: &World, id: &str) -> [String; 4] {
    let path = |what: &str| world.path(&format!("{id}.{what}"));
    [
        format!("pid:{}", path("agent")),
        "print:here".to_owned(),
        format!("wait-file:{}", path("go")),
        "exit:7".to_owned(),
    ]
}

fn words(of: &[String]) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

/// The job still runs with the same processes, and its exit code is seen when it ends.
#[track_caller]
fn assert_unharmed(world: &World, id: &str, (agent, monitor): (i32, i32)) {
    assert!(is_running(agent), "{id}: the agent is gone");
    assert!(is_running(monitor), "{id}: the monitor is gone");
    assert_eq!(world.pids(id), (agent, monitor), "{id}");
    write(world.path(&format!("{id}.go")), "");
    world.env.run(&["wait", "--beads", id]).assert_code(3);
    let ended = ("failed".to_owned(), "process_exit_with_rc".to_owned(), "7".to_owned());
    assert_eq!((world.outcome(id), world.rc(id).as_deref()), (ended, Some("7")), "{id}");
}

#[track_caller]
fn running(world: &World, id: &str) -> (i32, i32) {
    wait_for_file(PATIENCE, world.path(&format!("{id}.agent")));
    world.pids(id)
}

/// `dx-runner` as the leader of a process group of its own, nobody reading.
fn in_group(world: &World, args: &[&str]) -> Child {
    let mut command = world.env.product();
    command.args(args).current_dir(&world.repo).process_group(0);
    spawn(quiet(command))
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether the process waits for Ctrl-C by itself, which all commands do that stay attached to a job.
#[track_caller]
fn until_attached(pid: u32) {
    wait_until(PATIENCE, "the command is attached", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 0b10 != 0)
    });
}

fn signal_group(leader: &Child, signal: Signal) {
    let group = Pid::from_raw(i32::try_from(leader.id()).unwrap()).unwrap();
    kill_process_group(group, signal).unwrap();
}

#[test]
fn a_command_substitution_returns_while_the_agent_runs() {
    let world = World::new();
    world.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    let actions = patient(&world, "sub");
    let args: Vec<String> = world.start_args("sub", &[], &words(&actions));
    let mut bash = world.env.command("bash");
    // The agent ends only after the substitution has returned.
    bash.args(["-c", "exec 9> held; out=$(dx-runner \"$@\") || exit 9; printf '%s' \"$out\"", "bash"])
        .args(args);
    let output = world.env.run_command(bash).assert_code(0);
    assert!(output.stdout.starts_with("started beads=sub provider=exec pid="), "{output}");
    let pids = running(&world, "sub");
    // None of the caller's descriptors: neither its output nor a file it may hold a lock on.
    for pid in [pids.0, parent_of(pids.0), pids.1] {
        for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            let number: i32 = descriptor.file_name().to_string_lossy().parse().unwrap();
            assert!(target != world.env.path("held"), "{pid} has the caller's descriptor {number}");
            let quiet = number > 2 || pid == pids.0 || target == Path::new("/dev/null");
            assert!(quiet, "{pid}: {number} is {}", target.display());
        }
    }
    assert_unharmed(&world, "sub", pids);
}

fn parent_of(pid: i32) -> i32 {
    let stat = read(format!("/proc/{pid}/stat"));
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()).unwrap()
}

#[test]
fn the_agent_inherits_no_signal_settings() {
    let world = World::new();
    world.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    let mut bash = world.env.command("bash");
    bash.current_dir(&world.repo).args([
        "-c",
        "umask 027; trap '' INT HUP TERM PIPE QUIT; dx-runner start --beads bd-1 --provider exec -- sleep 300",
    ]);
    world.env.run_command(bash).assert_code(0);
    let (agent, _) = world.pids("bd-1");
    let status = read(format!("/proc/{agent}/status"));
    for name in ["SigIgn:", "SigBlk:"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(mask.trim().trim_matches('0'), "", "{name} {mask}");
    }
    // The files it makes are as private as its caller's are.
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    assert_eq!(umask.trim(), "0027");
    world.env.run(&["stop", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(world.rc("bd-1").as_deref(), Some("143"));
}

/// Sends `signal` to the whole process group of callers in every form.
fn survives(signal: Signal) {
    let world = World::new();
    let worktree = world.repo.display().to_string();
    // A shell that has started a job and goes on.
    world.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    let actions = patient(&world, "shell");
    let script = "dx-runner \"$@\"; : > done; while [ ! -e leave ]; do sleep 0.02; done";
    let mut command = world.env.command("bash");
    command
        .args(["-c", script, "bash"])
        .args(world.start_args("shell", &[], &words(&actions)))
        .process_group(0);
    let mut shell = spawn(quiet(command));
    wait_for_file(PATIENCE, world.path("done"));
    let pids = running(&world, "shell");
    signal_group(&shell, signal);
    assert_unharmed(&world, "shell", pids);
    write(world.path("leave"), "");
    shell.wait().unwrap();

    // Commands that stay attached.
    let fake = world.env.fake_agent().display().to_string();
    for form in ["start", "run", "wait", "logs"] {
        let actions = patient(&world, form);
        let mut args = match form {
            "start" => world.start_args(form, &["--wait"], &words(&actions)),
            "run" => [
                &["run", "exec", "--beads", form, "--worktree", &worktree, "--", &fake][..],
                &words(&actions),
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
            _ => {
                world.start(form, &[], &words(&actions));
                vec![form.to_owned(), "--beads".to_owned(), form.to_owned()]
            }
        };
        if form == "logs" {
            args.push("-f".to_owned());
        }
        let mut caller = in_group(&world, &words(&args));
        let pids = running(&world, form);
        until_attached(caller.id());
        signal_group(&caller, signal);
        assert_unharmed(&world, form, pids);
        caller.wait().unwrap();
    }
}

#[test]
fn ctrl_c_to_the_callers_group_changes_nothing() {
    survives(Signal::INT);
}

#[test]
fn hang_up_of_the_callers_group_changes_nothing() {
    survives(Signal::HUP);
}

#[test]
fn a_kill_of_the_callers_group_changes_nothing() {
    survives(Signal::KILL);
}

/// A new terminal: its master, and a command whose session's controlling terminal it is.
fn on_terminal(env: &TestEnv, script: &str) -> (std::os::fd::OwnedFd, Command) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let open = || std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut command = env.command("setsid");
    command.args(["--ctty", "bash", "-c", script, "bash"]).stdin(open()).stdout(open()).stderr(open());
    (master, command)
}

/// Under `nohup` all that the test starts ignores it too.
fn hang_up_is_ignored() -> bool {
    let status = read("/proc/self/status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[test]
fn a_terminal_that_goes_away_changes_nothing() {
    let world = World::new();
    world.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    for (id, leader_dies) in [("master", false), ("leader", true)] {
        let actions = patient(&world, id);
        // bash stays the leader of the session; the command is in its foreground.
        let (master, mut command) = on_terminal(&world.env, "dx-runner \"$@\"; true");
        command.args(world.start_args(id, &["--wait"], &words(&actions)));
        let mut leader = spawn(command);
        let pids = running(&world, id);
        let attached = || {
            let children = format!("/proc/{0}/task/{0}/children", leader.id());
            read(children).split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok())
        };
        let caller = attached().expect("bash has a child");
        until_attached(caller);
        if leader_dies {
            leader.kill().unwrap();
        } else {
            drop(master);
            if hang_up_is_ignored() {
                // Then bash stays too: the terminal alone goes away here.
                leader.kill().unwrap();
            }
        }
        leader.wait().unwrap();
        let caller = i32::try_from(caller).unwrap();
        if !hang_up_is_ignored() {
            wait_until(PATIENCE, "the attached command is hung up", || !is_running(caller));
        }
        assert_unharmed(&world, id, pids);
    }
}
