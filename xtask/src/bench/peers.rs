//! The same work by other job runners, where they are installed: pueue and task-spooler.
//!
//! For: numbers beside ours, of the same run.
//! Called by: `bench::run` with `--peers`.
//! Must never: install anything, or touch a daemon that the user runs: own HOME, own socket.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Size;
use super::measure::{Pair, bare, interleaved, timed, until};
use super::report::Report;
use super::world::{Gate, Killer, LIFE, World};
use crate::Failure;
use crate::workspace::{cache_dir, output};

/// Tasks of the second row of a peer. The spooler's server takes no more than about a thousand connections, one a task.
const CROWD: usize = 1_000;
const SPOOLER_CROWD: usize = 500;

/// Measures each peer that is there; says of the others how to get them.
pub(super) fn run(world: &World, size: Size, report: &mut Report) {
    let peers: [(&str, &str, &str, Section); 2] = [
        ("pueue", "pueued", "cargo install pueue", pueue),
        ("task-spooler", "tsp", "the system's package task-spooler", spooler),
    ];
    let mut missing = 0;
    for (name, program, hint, section) in peers {
        if find(program).is_none() {
            missing += 1;
            report.note(format!("{name}: missing, not compared; to install it: {hint}"));
        } else if let Err(failure) = section(world, size, report) {
            missing += 1;
            report.note(format!("{name}: not measured: {failure}"));
        }
    }
    if missing > 0 {
        report.note(format!("{missing} of {} peers are missing.", peers.len()));
    }
}

type Section = fn(&World, Size, &mut Report) -> Result<(), Failure>;

/// A program on PATH, or in `bin` of the test cache folder.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let cached = cache_dir().ok().map(|dir| dir.join("bin"));
    std::env::split_paths(&path).chain(cached).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// One of a peer's programs in the benchmark's environment.
fn program(world: &World, name: &str, args: &[&str]) -> Command {
    let mut command = world.command(find(name).unwrap_or_else(|| name.into()));
    for (variable, below) in [
        ("XDG_RUNTIME_DIR", "peers"),
        ("XDG_CONFIG_HOME", "peers"),
        ("XDG_DATA_HOME", "peers"),
        ("TMPDIR", "peers"),
        ("TS_SOCKET", "peers/tsp.sock"),
    ] {
        command.env(variable, world.path(below));
    }
    command.env("TS_MAXCONN", "5000").args(args);
    command
}

fn said(mut command: Command) -> Result<String, Failure> {
    output(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// The figures that peers have in common: adding and listing with 10 tasks and with a crowd, all of them running.
fn add_and_list(
    report: &mut Report,
    size: Size,
    crowd: usize,
    name: &str,
    add: &dyn Fn() -> Command,
    list: &dyn Fn() -> Command,
) -> Result<(), Failure> {
    let mut tasks = 0;
    for goal in [10, crowd.min(size.crowd)] {
        let mut last = Pair::default();
        while tasks < goal {
            let took = timed(&mut add(), &[0])?;
            tasks += 1;
            if tasks + 50 > goal {
                last.figure.push(took);
                last.bare.push(bare()?);
            }
        }
        report.time(&format!("{name} add, up to {goal} running"), &last, None);
        let listed = interleaved(size.times.min(20), |_| timed(&mut list(), &[0]))?;
        report.time(&format!("{name} status, {goal} running"), &listed, None);
    }
    Ok(())
}

fn pueue(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    world.make_dir("peers")?;
    let version = said(program(world, "pueue", &["--version"]))?;
    let name = version.trim().to_owned();
    let mut daemon = pueued(world)?;
    let result = pueue_after_sigkill(world, &name, &mut daemon, report).and_then(|()| {
        timed(&mut program(world, "pueue", &["parallel", "0"]), &[0])?;
        let add = || program(world, "pueue", &["add", "--", "sleep", LIFE]);
        add_and_list(report, size, CROWD, &name, &add, &|| program(world, "pueue", &["status", "--json"]))
    });
    let _asked = timed(&mut program(world, "pueue", &["kill", "--all"]), &[0]);
    let _killed = daemon.kill();
    let _ended = daemon.wait();
    result
}

/// Starts the daemon in the foreground, as a child of ours, and waits until it answers.
fn pueued(world: &World) -> Result<Child, Failure> {
    let daemon = program(world, "pueued", &[]).spawn().map_err(|error| format!("pueued: {error}"))?;
    until("an answer of pueued", || timed(&mut program(world, "pueue", &["status"]), &[0]).ok())?;
    Ok(daemon)
}

fn pueue_after_sigkill(
    world: &World,
    name: &str,
    daemon: &mut Child,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut gate = Gate::new(world, "gate-pueue")?;
    let [_, _, script] = gate.agent();
    timed(&mut program(world, "pueue", &["add", "--", &script]), &[0])?;
    until("the start of a task", || {
        said(program(world, "pueue", &["status", "--json"])).ok()?.contains("\"Running\":{").then_some(())
    })?;
    daemon.kill().and_then(|()| daemon.wait()).map_err(|error| error.to_string())?;
    gate.open()?;
    std::thread::sleep(Duration::from_millis(500));
    let _removed = fs::remove_file(world.path("peers/pueue.pid"));
    *daemon = pueued(world)?;
    std::thread::sleep(Duration::from_millis(500));
    let status = said(program(world, "pueue", &["status", "--json"]))?;
    let result = status.split_once("\"result\":").map_or("nothing", |(_, rest)| {
        let rest = rest.trim_start();
        rest[..rest.len().min(24)].split(['\n', '}']).next().unwrap_or_default()
    });
    let verdict = if result.contains("Failed") && result.contains('7') { "recorded" } else { "lost" };
    report.note(format!(
        "{name}: SIGKILL of pueued while a task runs, which then exits with 7: exit code {verdict} \
         (its record says {result})."
    ));
    Ok(())
}

fn spooler(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    world.make_dir("peers")?;
    let version = said(program(world, "tsp", &["-V"])).unwrap_or_default();
    let version = version.split_whitespace().find_map(|word| word.strip_prefix('v'));
    let name = format!("task-spooler {}", version.unwrap_or_default());
    // The first word to it starts the server.
    timed(&mut program(world, "tsp", &["-S", "5000"]), &[0])?;
    let server = spooler_processes(world);
    let result = spooler_after_sigkill(world, &name, &server, report).and_then(|()| {
        timed(&mut program(world, "tsp", &["-S", "5000"]), &[0])?;
        add_and_list(report, size, SPOOLER_CROWD, &name, &|| program(world, "tsp", &["sleep", LIFE]), &|| {
            program(world, "tsp", &["-l"])
        })
    });
    let _ended = timed(&mut program(world, "tsp", &["-K"]), &[0]);
    result
}

/// Processes of the spooler that belong to this run.
fn spooler_processes(world: &World) -> Vec<u32> {
    let socket = world.path("peers/tsp.sock").display().to_string();
    let ours = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = String::from_utf8_lossy(&environment).contains(&socket);
        (found && ["tsp", "ts"].contains(&name.trim())).then_some(pid)
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(ours).collect()
}

fn spooler_after_sigkill(
    world: &World,
    name: &str,
    server: &[u32],
    report: &mut Report,
) -> Result<(), Failure> {
    let &[server] = server else { return Err(format!("{} servers were found, not one", server.len())) };
    let mut gate = Gate::new(world, "gate-tsp")?;
    let agent = gate.agent();
    timed(&mut program(world, "tsp", &agent.each_ref().map(String::as_str)), &[0])?;
    until("the start of a task", || {
        said(program(world, "tsp", &["-l"])).ok()?.contains("running").then_some(())
    })?;
    let mut killer = Killer::new()?;
    killer.kill(server)?;
    until("the server's end", || (!PathBuf::from(format!("/proc/{server}")).exists()).then_some(()))?;
    killer.end();
    gate.open()?;
    std::thread::sleep(Duration::from_millis(500));
    let listed = said(program(world, "tsp", &["-l"]))?;
    let job = listed.lines().nth(1).map_or("no such job", str::trim);
    let kept = job.contains("finished") && job.split_whitespace().any(|word| word == "7");
    let verdict = if kept { "recorded" } else { "lost" };
    report.note(format!(
        "{name}: SIGKILL of its server while a task runs, which then exits with 7: exit code {verdict} \
         (the next server lists: {job})."
    ));
    Ok(())
}
