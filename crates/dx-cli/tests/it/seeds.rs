//! Shell lines of the runbook and the skill document, word for word, in a bash with `dx-runner` on PATH. A stand-in named
//! `opencode` answers as the real one does. What they name in `/tmp` is made for them where it is missing.

use crate::world::{PATIENCE, World, read, write};
use dx_testkit::{Output, wait_for_file, wait_until};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;

/// Lists the required model; otherwise tells a valid transcript, after the file named in the worktree is there (if any).
const OPENCODE: &str = r#"#!/bin/sh
if [ "$1" = models ]; then echo zhipuai-coding-plan/glm-5; exit 0; fi
cat > /dev/null
if [ -e "$PWD/hold" ]; then exec sleep 300; fi
echo '{"type":"step_start","timestamp":1800000000100,"sessionID":"ses_1","part":{"id":"prt_1","messageID":"msg_1","sessionID":"ses_1","type":"step-start"}}'
echo '{"type":"text","timestamp":1800000000500,"sessionID":"ses_1","part":{"id":"prt_5","messageID":"msg_1","sessionID":"ses_1","type":"text","text":"ALL DONE","time":{"start":1800000000000,"end":1800000000000}}}'
echo '{"type":"step_finish","timestamp":1800000000600,"sessionID":"ses_1","part":{"id":"prt_6","reason":"stop","messageID":"msg_1","sessionID":"ses_1","type":"step-finish","tokens":{"total":110,"input":100,"output":10,"reasoning":0,"cache":{"write":0,"read":0}},"cost":0}}'
"#;

/// The prompts that the lines name.
const PROMPTS: [&str; 4] = ["/tmp/p.prompt", "/tmp/task.prompt", "/tmp/task1.prompt", "/tmp/task2.prompt"];

/// The runbook's files in `/tmp`, for one test process at a time; what was there before stays as it was.
struct Prompts {
    made: Vec<&'static str>,
    _lock: File,
}

impl Prompts {
    fn new() -> Self {
        // The folder itself is the lock: nothing to leave behind.
        let lock = File::open("/tmp").unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let make = |path: &&'static str| {
            let made = File::options().write(true).create_new(true).open(path);
            made.and_then(|mut file| std::io::Write::write_all(&mut file, b"Say hello.\n")).is_ok()
        };
        Self { made: PROMPTS.iter().filter(|path| make(path)).copied().collect(), _lock: lock }
    }
}

impl Drop for Prompts {
    fn drop(&mut self) {
        for path in &self.made {
            let _removed = std::fs::remove_file(path);
        }
    }
}

struct Shell {
    world: World,
    _prompts: Prompts,
}

impl Shell {
    fn new() -> Self {
        let world = World::new();
        world.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
        let stand_in = world.env.bin_dir().join("opencode");
        write(&stand_in, OPENCODE);
        std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { world, _prompts: Prompts::new() }
    }

    /// Runs lines in a bash in the repository.
    fn lines(&self, lines: &str) -> Output {
        let mut bash = self.world.env.command("bash");
        bash.args(["-c", lines]).current_dir(&self.world.repo);
        self.world.env.run_command(bash)
    }

    /// Whether the next agents stay.
    fn hold(&self, hold: bool) {
        let file = self.world.repo.join("hold");
        if hold { write(file, "") } else { std::fs::remove_file(file).unwrap() }
    }

    fn pairs(&self, id: &str, suffix: &str) -> String {
        read(self.world.env.state_dir().join("opencode").join(format!("{id}.{suffix}")))
    }
}

#[test]
fn the_quick_start() {
    let shell = Shell::new();
    shell.lines("dx-runner status").assert_code(0);
    shell.hold(true);
    let line = "dx-runner start --beads bd-xxx --provider opencode --prompt-file /tmp/task.prompt";
    let started = shell.lines(line).assert_code(0).stdout;
    assert!(started.starts_with("started beads=bd-xxx provider=opencode pid="), "{started}");
    let refused = shell.lines(line).assert_code(32);
    assert!(refused.stderr.contains("already_running"), "{refused}");
    let table = shell.lines("dx-runner status").assert_code(0).stdout;
    assert!(table.contains("bd-xxx") && table.contains("opencode"), "{table}");
    shell.lines("dx-runner status --beads bd-xxx --json").assert_code(0);
    shell.lines("dx-runner check --beads bd-xxx").assert_code(0);
    shell.lines("dx-runner check --beads bd-xxx --json --stall-minutes 20").assert_code(0);
    shell.lines("dx-runner stop --beads bd-xxx").assert_code(0);
    shell.lines("dx-runner check --beads bd-xxx").assert_code(3);
    shell.hold(false);
    shell.lines("dx-runner restart --beads bd-xxx").assert_code(0);
    shell.lines("dx-runner wait --beads bd-xxx").assert_code(0);
    assert!(shell.pairs("bd-xxx", "outcome").contains("retries=1\n"));
    shell.lines("dx-runner prune --beads bd-xxx --json").assert_code(0);
}

#[test]
fn a_parallel_wave_and_the_polling_loop() {
    let shell = Shell::new();
    let started = shell.lines(
        "dx-runner start --beads bd-task1 --provider opencode --prompt-file /tmp/task1.prompt &
dx-runner start --beads bd-task2 --provider opencode --prompt-file /tmp/task2.prompt &
wait",
    );
    assert_eq!(started.assert_code(0).stdout.lines().count(), 2);
    // The other two lines of the wave are for a provider that is not there yet; any will do for the loop.
    shell.lines("for n in 3 4; do dx-runner start --beads bd-task$n --provider exec -- sh -c \"exit $((n - 3))\"; done").assert_code(0);
    let looped = shell.lines(
        r#"for id in bd-task1 bd-task2 bd-task3 bd-task4; do
    while true; do
        state=$(dx-runner check --beads "$id" --json 2>/dev/null | jq -r '.state')
        [[ "$state" == "exited_ok" || "$state" == "exited_err" ]] && break
        sleep 5
    done
done"#,
    );
    looped.assert_code(0);
    let states = shell
        .lines("dx-runner status --json | jq '.jobs[] | {beads, state, reason_code}'")
        .assert_code(0)
        .stdout;
    let states: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&states).into_iter().collect::<Result<_, _>>().unwrap();
    let state = |id: &str| states.iter().find(|row| row["beads"] == id).unwrap()["state"].clone();
    assert_eq!(
        ["bd-task1", "bd-task2", "bd-task3", "bd-task4"].map(state),
        ["exited_ok", "exited_ok", "exited_ok", "exited_err"]
    );
    let recent = shell.lines("dx-runner status --recent 10 --json").assert_code(0).stdout;
    let recent: serde_json::Value = serde_json::from_str(&recent).unwrap();
    assert_eq!(recent["jobs"].as_array().unwrap().len(), 4);
    shell.lines("dx-runner status --recent 10").assert_code(0);
    let outcome = shell.pairs("bd-task1", "outcome");
    for pair in [
        "beads=bd-task1",
        "provider=opencode",
        "exit_code=0",
        "state=success",
        "retries=0",
        "selected_model=zhipuai-coding-plan/glm-5",
        "fallback_reason=none",
    ] {
        assert!(outcome.lines().any(|line| line == pair), "{pair} in {outcome}");
    }
    for key in
        ["run_id", "reason_code", "completed_at", "duration_sec", "run_instance", "host", "cwd", "worktree"]
    {
        assert!(outcome.lines().any(|line| line.starts_with(&format!("{key}="))), "{key} in {outcome}");
    }
}

#[test]
fn clean_up_and_force_finalization() {
    let shell = Shell::new();
    shell.hold(true);
    let start = "export DX_RUNNER_MAX_RUNTIME_MINUTES=120
export DX_RUNNER_NO_MUTATION_TIMEOUT_MINUTES=30
dx-runner start --beads bd-xxx --provider opencode --prompt-file /tmp/p.prompt";
    shell.lines(start).assert_code(0);
    assert!(shell.pairs("bd-xxx", "meta").contains("max_runtime_sec=7200\nno_mutation_timeout_sec=1800\n"));
    shell.lines("dx-runner prune").assert_code(0);
    shell.lines("dx-runner check --beads bd-xxx").assert_code(0);
    shell.lines("dx-runner finalize --beads bd-xxx --reason stalled --exit-code 1").assert_code(0);
    let outcome = shell.pairs("bd-xxx", "outcome");
    assert!(outcome.contains("exit_code=1\nstate=failed\n") && outcome.contains("=stalled\n"), "{outcome}");
    shell.lines(start).assert_code(0);
    shell.lines("dx-runner finalize --beads bd-xxx").assert_code(0);
    assert!(shell.pairs("bd-xxx", "outcome").contains("reason_code=forced_finalization\n"));
    // A dead process that nobody saw: all of ours are killed at once.
    shell.lines(start).assert_code(0);
    let pid_file = shell.world.env.state_dir().join("opencode/bd-xxx.pid");
    wait_for_file(PATIENCE, &pid_file);
    let monitor = shell.pairs("bd-xxx", "monitor.pid");
    let agent = shell.pairs("bd-xxx", "pid");
    let launcher = format!("$(cut -d' ' -f4 /proc/{}/stat)", agent.trim());
    let kill =
        format!("l={launcher}; kill -STOP {0} $l && kill -KILL {1} {0} $l", monitor.trim(), agent.trim());
    shell.lines(&kill).assert_code(0);
    wait_until(PATIENCE, "prune has settled it", || {
        shell.lines("dx-runner prune --beads bd-xxx --json | jq -e '.checked >= 1 and .pruned == 1'").code
            == 0
    });
    assert!(shell.pairs("bd-xxx", "outcome").contains("reason_code=late_finalize_no_rc\n"));
    // Not numeric.
    write(&pid_file, "abc\n");
    let pruned = shell.lines("dx-runner prune --json | jq -r '.pruned'").assert_code(0).stdout;
    assert_eq!(pruned, "1\n");
}
