//! Adapter scripts: the job they leave is ours, its exit is seen, and nothing they print or write is taken for it.

use crate::document;
use crate::world::{PATIENCE, World, write};
use dx_testkit::wait_until;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

/// Puts a script into the folder of adapters.
#[track_caller]
fn adapter(world: &mut World, name: &str, text: &str) {
    let folder = world.env.path("adapters");
    std::fs::create_dir_all(&folder).unwrap();
    write(folder.join(format!("{name}.sh")), text);
    world.env.set("DX_RUNNER_ADAPTERS_DIR", folder);
}

#[track_caller]
fn start(world: &World, id: &str, provider: &str, more: &[&str], code: i32) -> dx_testkit::Output {
    let worktree = world.repo.display().to_string();
    let args =
        ["start", "--beads", id, "--provider", provider, "--prompt-file", "-", "--worktree", &worktree];
    world.env.run_with_stdin(&[&args[..], more].concat(), "the prompt").assert_code(code)
}

fn end(world: &World, id: &str) -> Value {
    world.env.run(&["wait", "--beads", id]);
    let output = world.env.run(&["check", "--json", "--beads", id]);
    document(&world.env, "check", &output.stdout)
}

fn told(end: &Value) -> [&str; 3] {
    [&end["state"], &end["reason_code"], &end["outcome"]["exit_code"]]
        .map(|value| value.as_str().unwrap_or("-"))
}

/// Starts its job behind the shell's back, as such scripts do.
const BACKGROUND: &str = r#"
adapter_preflight() { return 0; }
adapter_list_models() { echo glm-5; echo glm-6; }
adapter_probe_model() { [ "$1" != broken ] || { echo "model is broken" >&2; return 1; }; }
adapter_stop() { echo "$1" > "$HOME/told-to-stop"; }
adapter_start() {
  local beads="$1" prompt="$2" worktree="$3" log="$4"
  ( cd "$worktree" || exit 9
    cat "$prompt" >> "$log"; echo " by $beads with ${DX_RUNNER_MODEL:-none}" >> "$log"
    [ ! -e "$HOME/hold" ] || while [ -e "$HOME/hold" ]; do sleep 0.05; done
    echo fixed > FIX.md
    code=$(cat "$HOME/code" 2>/dev/null || echo 0)
    # What the file says is not what happens.
    echo 0 > "$DX_RUNNER_RC_FILE"
    exit "$code" ) >> "$log" 2>&1 < /dev/null &
  echo "pid=$!"
  echo "selected_model=${DX_RUNNER_MODEL:-glm-5}"
  echo "fallback_reason=none"
  echo "launch_mode=background"
  echo "rc_file=$DX_RUNNER_RC_FILE"
}
"#;

#[test]
fn a_job_left_behind_is_ours() {
    let mut world = World::new();
    adapter(&mut world, "mine", BACKGROUND);
    start(&world, "good", "mine", &["--model", "glm-6"], 0);
    let ended = end(&world, "good");
    assert_eq!(told(&ended), ["exited_ok", "process_exit_with_rc", "0"], "{ended:#}");
    assert_eq!(ended["selected_model"], "glm-6");
    assert_eq!(ended["outcome"]["execution_mode"], "adapter-script (background)");
    assert_eq!(ended["outcome"]["witness"], "launcher");
    let log = world.env.run(&["logs", "--beads", "good"]).assert_code(0).stdout;
    assert!(log.contains("the prompt by good with glm-6"), "{log}");
    // The exit is seen; the file in which the job writes what it likes changes nothing.
    write(world.env.home().join("code"), "7");
    start(&world, "bad", "mine", &[], 0);
    assert_eq!(told(&end(&world, "bad")), ["exited_err", "process_exit_with_rc", "7"]);
    // A model that it does not list.
    let refused = start(&world, "model", "mine", &["--model", "other"], 25);
    assert!(refused.stderr.contains("reason: provider_model_unavailable"), "{refused}");
}

#[test]
fn the_job_outlives_its_shell_and_is_stopped_whole() {
    let mut world = World::new();
    adapter(&mut world, "mine", BACKGROUND);
    write(world.env.home().join("hold"), "");
    start(&world, "held", "mine", &[], 0);
    let pid = |world: &World| world.env.run(&["status", "--json", "--beads", "held"]).stdout;
    let status: Value = serde_json::from_str(&pid(&world)).unwrap();
    let job: i32 = status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap();
    // Its parent is the launcher: the shell that started it is gone.
    let parent = dx_testkit::describe(job);
    assert!(std::path::Path::new(&format!("/proc/{job}")).exists(), "{parent}");
    world.env.run(&["stop", "--beads", "held"]).assert_code(0);
    assert!(!std::path::Path::new(&format!("/proc/{job}")).exists());
    assert_eq!(told(&end(&world, "held"))[..2], ["exited_err", "manual_stop"]);
    assert_eq!(crate::world::read(world.env.home().join("told-to-stop")), "held\n");
}

#[test]
fn scripts_that_break_their_word() {
    let mut world = World::new();
    let cases = [
        ("no-pid", "adapter_start() { sleep 300.25 & echo started; }", "told no pid="),
        ("stranger", "adapter_start() { echo pid=1; }", "left no such process"),
        ("fails", "adapter_start() { echo oops >&2; return 3; }", "ended with 3"),
        ("ends", "adapter_start() { exit 75; }", "ended with 75"),
        ("silent", "adapter_start() { exit 0; }", "told no pid="),
    ];
    for (name, text, _) in cases {
        adapter(&mut world, name, text);
    }
    for (name, _, words) in cases {
        let refused = start(&world, name, name, &[], 1);
        assert!(refused.stderr.contains(words), "{name}: {refused}");
        assert!(refused.stderr.contains("reason: spawn_failed"), "{name}: {refused}");
        assert!(refused.stderr.contains("mend adapter_start"), "{name}: {refused}");
        assert!(refused.stderr.contains(&format!("dx-runner logs --beads {name}")), "{name}: {refused}");
        assert_eq!(told(&end(&world, name))[..2], ["exited_err", "spawn_failed"]);
    }
    // Nothing of what they began is left.
    let home = world.env.home().display().to_string();
    wait_until(PATIENCE, "what was begun is gone", || {
        let left = dx_testkit::processes_with_marker("HOME", &home);
        left.iter().all(|pid| !dx_testkit::describe(*pid).contains("300.25"))
    });
    adapter(
        &mut world,
        "pre",
        "adapter_preflight() { echo 'no key in the vault' >&2; return 1; }\nadapter_start() { :; }",
    );
    let refused = start(&world, "pre", "pre", &[], 21);
    assert!(
        refused.stderr.contains("reason: adapter_failed") && refused.stderr.contains("no key in the vault")
    );
    world.env.run(&["preflight", "--provider", "pre"]).assert_code(21);
    adapter(&mut world, "nothing", "x=1");
    let refused = world.env.run(&["preflight", "--provider", "nothing"]).assert_code(21);
    assert!(refused.stdout.contains("no function adapter_start"), "{refused}");
    let refused = start(&world, "nothing", "nothing", &[], 21);
    assert!(refused.stderr.contains("no function adapter_start"), "{refused}");
}

#[test]
fn one_that_stays_is_the_job_itself() {
    let mut world = World::new();
    adapter(
        &mut world,
        "stays",
        "adapter_start() { echo pid=$$; cat \"$2\" >> \"$4\"; echo x > FIX.md; exit 5; }",
    );
    start(&world, "stays", "stays", &[], 0);
    assert_eq!(told(&end(&world, "stays")), ["exited_err", "process_exit_with_rc", "5"]);
    // One whose function returns ends as that does, however soon.
    for (name, more, code) in
        [("nil", "echo x > NIL.md", "0"), ("seven", "return 7", "7"), ("late", "sleep 0.3; return 75", "75")]
    {
        adapter(&mut world, name, &format!("adapter_start() {{ echo pid=$$; {more}; }}"));
        start(&world, name, name, &[], 0);
        assert_eq!(told(&end(&world, name))[1..], ["process_exit_with_rc", code], "{name}");
    }
}

#[test]
fn ours_win_and_a_script_can_be_forced() {
    let mut world = World::new();
    adapter(&mut world, "exec", BACKGROUND);
    adapter(&mut world, "free", BACKGROUND);
    let shown = world.json(0, &["providers"]);
    let names: Vec<&str> =
        shown["providers"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"exec") && names.contains(&"script:exec") && names.contains(&"free"),
        "{names:?}"
    );
    start(&world, "forced", "script:exec", &[], 0);
    assert_eq!(told(&end(&world, "forced"))[0], "exited_ok");
    start(&world, "also", "script:free", &[], 0);
    assert_eq!(told(&end(&world, "also"))[0], "exited_ok");
    // A job again, from its record.
    world.env.run(&["restart", "--beads", "forced"]).assert_code(0);
    assert_eq!(told(&end(&world, "forced"))[0], "exited_ok");
    let probe = |model: &str, code: i32| {
        world.env.run(&["probe", "--provider", "free", "--model", model]).assert_code(code)
    };
    probe("glm-5", 0);
    assert!(probe("glm-6", 0).stdout.contains("content"));
    // Nobody else may write what we run.
    let script = world.env.path("adapters/free.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = start(&world, "unsafe", "free", &[], 22);
    assert!(refused.stderr.contains("reason: config_unsafe"), "{refused}");
}

#[test]
fn what_the_file_says_counts_only_when_nobody_saw_the_end() {
    let mut world = World::new();
    adapter(&mut world, "mine", BACKGROUND);
    write(world.env.home().join("hold"), "");
    start(&world, "lost", "mine", &[], 0);
    let status: Value =
        serde_json::from_str(&world.env.run(&["status", "--json", "--beads", "lost"]).stdout).unwrap();
    let job: i32 = status["jobs"][0]["pid"].as_str().unwrap().parse().unwrap();
    let uuid =
        std::fs::read_dir(world.env.state_dir().join("runs")).unwrap().next().unwrap().unwrap().file_name();
    let both = crate::kills::world::ours(uuid.to_str().unwrap());
    assert_eq!(both.len(), 2, "{both:?}");
    for signal in [crate::kills::world::STOP, crate::kills::world::KILL] {
        assert!(both.iter().all(|process| dx_testkit::send_signal(process.pid, signal)), "{both:?}");
    }
    std::fs::remove_file(world.env.home().join("hold")).unwrap();
    wait_until(PATIENCE, "the job has ended", || !dx_testkit::is_running(job));
    world.env.run(&["prune"]).assert_code(0);
    // It wrote 0: that is told, and believed of no one.
    assert_eq!(told(&end(&world, "lost")), ["exited_err", "late_finalize_from_rc_file", "0"]);
}

#[test]
fn what_a_script_says_is_recorded_without_its_secrets() {
    const SECRET: &str = "zqx hushed-value 77";
    const TOKEN: &str = "ghp_abcdefghijklmnopqrstuvwxyz0123456789";
    let mut world = World::new();
    let says = format!(
        "adapter_start() {{ echo selected_model=\"$SECRETV\"; echo launch_mode=\"$SECRETV\"\n\
         echo \"fallback_reason=x $SECRETV {TOKEN} y\"; echo \"$SECRETV\""
    );
    adapter(&mut world, "says", &format!("{says}\n(echo x > FIX.md) & echo pid=$!; }}"));
    adapter(&mut world, "fails", &format!("{says}; return 3; }}"));
    world.env.set("SECRETV", SECRET);
    start(&world, "says", "says", &["--env", "SECRETV"], 0);
    let ended = end(&world, "says");
    assert_eq!(told(&ended)[0], "exited_ok", "{ended:#}");
    assert_eq!(ended["selected_model"], "*".repeat(SECRET.len()), "{ended:#}");
    start(&world, "fails", "fails", &["--env", "SECRETV"], 1);
    assert_eq!(told(&end(&world, "fails"))[1], "spawn_failed");
    world.env.run(&["report", "--beads", "says"]).assert_code(0);
    for found in [world.env.state_dir(), world.env.home()].iter().flat_map(|root| files(root)) {
        let text = String::from_utf8_lossy(&std::fs::read(&found).unwrap_or_default()).into_owned();
        assert!(!text.contains("hushed-value") && !text.contains(TOKEN), "{}: {text}", found.display());
    }
}

/// All files below a folder.
fn files(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let below = |path: std::path::PathBuf| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => files(&path),
        Ok(meta) if meta.is_file() => vec![path],
        _ => Vec::new(),
    };
    entries.flat_map(|entry| below(entry.path())).collect()
}
