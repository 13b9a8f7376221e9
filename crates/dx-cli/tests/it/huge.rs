//! Logs that are larger than anybody's memory. Everything of ours runs under a limit of address space that is far below
//! them, and still does its work.

use crate::world::{PATIENCE, World, read, write};
use dx_testkit::{Output, wait_until};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Address space of every process, in KiB: generous for programs that read in pieces, nothing against 10 GB.
const ADDRESS_SPACE_KIB: u64 = 400 << 10;
/// The most that any process of ours may ever have had in memory, in KiB.
const RESIDENT_KIB: u64 = 48 << 10;
const TEN_GB: u64 = 10 << 30;
const LINE: u64 = 100_000_000;

impl World {
    /// The product, and all that it starts, under the limit.
    fn limited(&self, args: &[&str]) -> Command {
        let mut command = self.env.command("sh");
        command.arg("-c").arg(format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$@\"")).arg("sh");
        command.arg(env!("CARGO_BIN_EXE_dx-runner")).args(args).env("DX_RUNNER_MAX_LOG_BYTES", "0");
        command
    }

    #[track_caller]
    fn run_limited(&self, args: &[&str]) -> Output {
        self.env.run_command(self.limited(args))
    }
}

/// The most memory that a live process has had, in KiB.
#[track_caller]
fn peak_kib(pid: i32) -> u64 {
    let status = read(format!("/proc/{pid}/status"));
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_log_of_ten_gigabytes() {
    let world = World::new();
    let go = world.path("go");
    let hole = format!("extend-stdout:{TEN_GB}");
    let actions =
        ["print:first", &hole, "print:", "print-env:HUSH_KEY", "print:last", &format!("wait-file:{go}")];
    let mut start = world.limited(&[]);
    start.args(world.start_args("bd-1", &["--env", "HUSH_KEY"], &actions)).env("HUSH_KEY", "hush-hush-9");
    world.env.run_command(start).assert_code(0);
    let (_, monitor) = world.pids("bd-1");
    let size = TEN_GB + "first\n\nhush-hush-9\nlast\n".len() as u64;
    let shown = |args: &[&str]| world.run_limited(args).assert_code(0).stdout;
    wait_until(PATIENCE, "the monitor has seen it all", || {
        world.check("bd-1")["log_bytes"] == size
            && shown(&["logs", "--beads", "bd-1", "--lines", "2"]).contains("***")
    });
    assert!(peak_kib(monitor) < RESIDENT_KIB, "the monitor had {} KiB", peak_kib(monitor));
    assert_eq!(shown(&["logs", "--beads", "bd-1", "--lines", "1"]), "last\n");
    assert_eq!(shown(&["logs", "--raw", "--beads", "bd-1", "--lines", "2"]), "***********\nlast\n");
    let status: serde_json::Value = serde_json::from_str(&shown(&["status", "--json"])).unwrap();
    assert_eq!(status["jobs"][0]["log_bytes"], size);
    write(&go, "");
    shown(&["wait", "--beads", "bd-1"]);
    assert_eq!(world.outcome("bd-1").0, "success");
    assert_eq!(world.pairs("bd-1", "outcome")["log_bytes"], size.to_string());
    shown(&["check", "--beads", "bd-1", "--json"]);
    shown(&["events", "--beads", "bd-1"]);
    // The settler did not fail for want of memory, and the file is as long as it was.
    assert!(!read(world.view("bd-1", "events.jsonl")).contains("\"step\":\"failed\""));
    assert_eq!(std::fs::metadata(world.view("bd-1", "log")).unwrap().len(), size);
}

#[test]
fn lines_of_a_hundred_megabytes() {
    let world = World::new();
    let line = format!("long-line:{LINE}");
    let mut start = world.limited(&[]);
    start.args(world.start_args("text", &[], &["print:before", &line, "print:after"]));
    world.env.run_command(start).assert_code(0);
    world.run_limited(&["wait", "--beads", "text"]).assert_code(0);
    let logs = world.run_limited(&["logs", "--beads", "text", "--lines", "0"]).assert_code(0).stdout;
    let lines: Vec<&str> = logs.lines().collect();
    assert!(lines.len() == 3 && lines[2] == "after", "{} lines", lines.len());
    assert!(lines[1].ends_with(&format!("(a line of {LINE} bytes)")) && lines[1].len() < 1 << 20);

    // The same in JSON: the string that is too long is passed over, the rest is understood.
    let program = world.env.bin_dir().join("opencode");
    let recorded =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../dx-events/fixtures/opencode/1.18.33/success-write.out");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nmodels) echo zhipuai-coding-plan/glm-5 ;;\nrun) cat > /dev/null\n\
         printf '{{\"type\":\"text\",\"part\":{{\"text\":\"'; head -c {LINE} /dev/zero | tr '\\0' x; printf '\"}}}}\\n'\n\
         head -c {LINE} /dev/zero | tr '\\0' '['; echo; cat {recorded} ;;\n*) echo 1.18.33 ;;\nesac\n"
    );
    write(&program, script);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    write(world.path("task"), "go");
    let repo = world.repo.display().to_string();
    let (task, provider) = (world.path("task"), ["--provider", "opencode"]);
    let args = ["start", "--beads", "json", "--prompt-file", &task, "--worktree", &repo];
    world.run_limited(&[&args[..], &provider].concat()).assert_code(0);
    world.run_limited(&["wait", "--beads", "json"]).assert_code(0);
    let check = world.check("json");
    assert_eq!(
        (&check["verdicts"]["provider"], &check["tools"]["write"]),
        (&"ok".into(), &1.into()),
        "{check:#}"
    );
    let logs = world.run_limited(&["logs", "--beads", "json", "--lines", "0"]).assert_code(0).stdout;
    assert!(logs.contains("> write") && logs.len() < 4 << 20, "{} bytes", logs.len());
}
