//! Providers that refuse until a time: the wave parks them, goes on with the fallback, comes back, or waits and says until
//! when. With stand-ins that print what the real agents printed.

use super::world::{World, item, row, states};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;

/// What a Claude Code prints whose plan is used up until `UNTIL`, and what one prints that did its work.
const CLAUDE: &str = r#"#!/bin/sh
case "$*" in *--version*) echo '2.1.329 (Claude Code)'; exit 0 ;; esac
cat >/dev/null
here=$(dirname "$0")
echo x >> "$here/claude.calls"
if [ -e "$here/refuse" ] && [ "$(date +%s)" -lt "$(cat "$here/refuse")" ]; then
    sed "s/\"resetsAt\":[0-9]*/\"resetsAt\":$(cat "$here/refuse")$(cat "$here/millis" 2>&-)/" "$here/quota.out"
    exit 1
fi
# It keeps the time for itself, and waits.
if [ -e "$here/sit" ]; then
    sed "s/\"resetsAt\":[0-9]*/\"resetsAt\":$(cat "$here/sit")/;2q" "$here/quota.out"
    exec sleep 600
fi
while [ -e "$here/hold" ]; do sleep 0.05; done
if [ -e "$here/approve" ]; then
    sed 's/"result":"[^"]*"/"result":"{\\"verdict\\":\\"APPROVED\\"}"/' "$here/claude.out"
    exit 0
fi
echo x > claude.txt
sed 's/"result":"[^"]*"/"result":"429 rate limit exceeded, try again in 5 hours"/' "$here/claude.out"
"#;
const OPENCODE: &str = r#"#!/bin/sh
case "$1" in
models) echo zhipuai-coding-plan/glm-5 ;;
run) cat >/dev/null; echo x > opencode.txt; cat "$(dirname "$0")/opencode.out" ;;
*) echo 1.18.33 ;;
esac
"#;

/// A world with both agents; Claude Code refuses for so many seconds.
fn world(refuses_for: Option<u64>) -> World {
    let world = World::new();
    let bin = world.env.bin_dir();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../dx-events/fixtures");
    for (name, script) in [("claude", CLAUDE), ("opencode", OPENCODE)] {
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (from, to) in [
        ("claude/2.1.329/429-quota.out", "quota.out"),
        ("claude/2.1.329/success-write.out", "claude.out"),
        ("opencode/1.18.33/success-write.out", "opencode.out"),
    ] {
        std::fs::copy(fixtures.join(from), bin.join(to)).unwrap();
    }
    if let Some(seconds) = refuses_for {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        std::fs::write(bin.join("refuse"), (now + seconds).to_string()).unwrap();
    }
    world
}

#[track_caller]
fn run(world: &World, items: usize, wave: &str) -> (i32, Value) {
    run_lettered(world, 'i', items, wave)
}

/// Ids of items begin with the letter.
#[track_caller]
fn run_lettered(world: &World, letter: char, items: usize, wave: &str) -> (i32, Value) {
    let repo = world.repo.display();
    let mut text = format!(
        "[wave]\nname = \"w\"\nprovider = \"claude-code\"\nrepo = \"{repo}\"\n{wave}\n[defaults]\nsandbox = \"off\"\n"
    );
    for item in 0..items {
        let _fits = writeln!(text, "[[item]]\nid = \"{letter}{item}\"\nprompt = \"go\"");
    }
    let file = world.path("wave.toml");
    std::fs::write(&file, text).unwrap();
    world.ask(&["run", &file])
}

fn calls(world: &World) -> usize {
    std::fs::read_to_string(world.env.bin_dir().join("claude.calls")).unwrap_or_default().lines().count()
}

fn providers(wave: &Value, item: &str) -> Vec<String> {
    let history = row(wave, item)["history"].as_array().cloned().unwrap_or_default();
    history.iter().map(|attempt| attempt["provider"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_provider_that_refuses_until_a_time_is_asked_once_and_the_fallback_does_the_rest() {
    let world = world(Some(3600));
    // What a provider does not take is no attempt.
    let (code, wave) = run(&world, 6, "fallback = [\"opencode\"]\nmax_parallel = 1\nmax_attempts = 1");
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 6]), "{wave:#}");
    assert_eq!(calls(&world), 1, "{wave:#}");
    assert_eq!(providers(&wave, "i0"), ["claude-code", "opencode"], "{wave:#}");
    assert_eq!(row(&wave, "i0")["history"][0]["reason_code"], "claude_code_rate_limited");
    for item in ["i1", "i5"] {
        assert_eq!(providers(&wave, item), ["opencode"], "{wave:#}");
    }
}

/// Another version tells milliseconds, or what can be no time, or a time that no limit has.
#[test]
fn a_time_in_other_units_leaves_no_wave_that_nobody_can_read() {
    const LATER: u64 = 400 * 86_400;
    for (seconds, digits, calls_made) in [(3600, "000", 1), (3600, "000000", 3), (LATER, "", 3)] {
        let world = world(Some(seconds));
        std::fs::write(world.env.bin_dir().join("millis"), digits).unwrap();
        let (code, wave) = run(&world, 3, "fallback = [\"opencode\"]\nmax_parallel = 1");
        assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 3]), "{wave:#}");
        assert_eq!(calls(&world), calls_made, "{digits}: {wave:#}");
    }
}

/// The first review ends with the time, the next start is refused for it: neither is one of the two rounds.
#[test]
fn a_review_whose_provider_refuses_until_a_time_is_waited_for() {
    let world = world(Some(6));
    world.sandbox_off();
    std::fs::write(world.env.bin_dir().join("approve"), "").unwrap();
    std::fs::write(world.path("review.md"), "look").unwrap();
    let more = "review = { provider = \"claude-code\", prompt_file = \"review.md\" }";
    let items = ["i0", "i1", "i2"].map(|id| item(id, &[], "echo x > a.txt", more));
    let file = world.file("max_parallel = 1", &items);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    dx_testkit::wait_until(super::world::PATIENCE, "it says until when", || {
        let (_, wave) = world.ask(&["status", "w-1"]);
        wave["waits_until"].is_string() && row(&wave, "i0")["state"] == "reviewing"
            || wave["state"] != "running"
    });
    assert_eq!(world.ask(&["status", "w-1"]).1["state"], "running");
    let output = world.env.run(&["wave", "status", "w-1", "--watch", "--json"]).assert_code(0);
    let wave: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(states(&wave), vec!["done".to_owned(); 3], "{wave:#}");
    assert_eq!(calls(&world), 4, "{wave:#}");
}

/// What a profile says of a fallback counts, unless the wave file names others.
#[test]
fn a_profile_and_its_fallback_serve_items_as_they_serve_a_start() {
    let world = world(None);
    std::fs::remove_file(world.env.bin_dir().join("claude")).unwrap();
    let profile = world.env.path("xdg/config/dx-runner/profiles/pf.toml");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    std::fs::write(&profile, "provider = \"claude-code\"\nfallback = [\"opencode\"]\n").unwrap();
    let file = world.path("wave.toml");
    let text = |head: &str| {
        let repo = world.repo.display();
        format!(
            "[wave]\nname = \"w\"\nrepo = \"{repo}\"\n{head}\n[defaults]\nprofile = \"pf\"\nsandbox = \"off\"\n[[item]]\nid = \"i0\"\nprompt = \"go\"\n"
        )
    };
    // Nobody else may take over, and that is known before anything starts.
    std::fs::write(&file, text("fallback = []")).unwrap();
    let (code, error) = world.ask(&["run", &file]);
    assert_eq!(
        (code, &error["error"]["reason_code"]),
        (21, &"claude_code_binary_missing".into()),
        "{error:#}"
    );
    std::fs::write(&file, text("")).unwrap();
    let (code, wave) = world.ask(&["run", &file]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
    assert_eq!(providers(&wave, "i0"), ["opencode"], "{wave:#}");
}

#[test]
fn who_is_to_review_is_looked_for_before_anything_starts() {
    let world = world(None);
    world.sandbox_off();
    std::fs::remove_file(world.env.bin_dir().join("claude")).unwrap();
    std::fs::write(world.path("review.md"), "look").unwrap();
    let more = "review = { provider = \"claude-code\", prompt_file = \"review.md\" }";
    let file = world.file("", &[item("i0", &[], "true", more)]);
    let (code, error) = world.ask(&["run", &file]);
    assert_eq!(
        (code, &error["error"]["reason_code"]),
        (21, &"claude_code_binary_missing".into()),
        "{error:#}"
    );
    assert_eq!(world.ask(&["list"]).1["waves"], serde_json::json!([]));
}

/// Its agent is told the time and waits by itself: it is ended, and keeps no place meanwhile.
#[test]
fn a_review_that_sits_out_a_long_limit_is_parked() {
    let world = world(None);
    world.sandbox_off();
    let later = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600;
    std::fs::write(world.env.bin_dir().join("sit"), later.to_string()).unwrap();
    std::fs::write(world.path("review.md"), "look").unwrap();
    let more = "review = { provider = \"claude-code\", prompt_file = \"review.md\" }";
    let items = [item("i0", &[], "echo x > a.txt", more), item("i1", &[], "true", "")];
    let file = world.file("max_parallel = 1", &items);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    let wave = world.until("i1", "done");
    assert_eq!(row(&wave, "i0")["state"], "reviewing", "{wave:#}");
    dx_testkit::wait_until(super::world::PATIENCE, "it says until when", || {
        world.ask(&["status", "w-1"]).1["waits_until"].is_string()
    });
    let live = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    assert!(live.contains("\"jobs\":[]"), "{live}");
    assert_eq!(calls(&world), 1);
    world.ask(&["cancel", "w-1"]);
    world.until("i0", "cancelled");
}

#[test]
fn an_attempt_that_sits_out_a_long_limit_was_not_stopped_by_hand() {
    let world = world(None);
    let later = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600;
    std::fs::write(world.env.bin_dir().join("sit"), later.to_string()).unwrap();
    let (code, wave) = run(&world, 1, "fallback = [\"opencode\"]");
    assert_eq!(
        (code, providers(&wave, "i0")),
        (0, vec!["claude-code".to_owned(), "opencode".to_owned()]),
        "{wave:#}"
    );
    let first = &row(&wave, "i0")["history"][0];
    assert_eq!(
        (&first["verdict"], &first["reason_code"], &first["exit_code"]),
        (&"fallback".into(), &"claude_code_rate_limited".into(), &"137".into()),
        "{wave:#}"
    );
}

#[test]
fn without_another_provider_the_wave_waits_says_until_when_and_goes_on() {
    let world = world(Some(6));
    let repo = world.repo.display();
    let file = world.path("wave.toml");
    let text = format!(
        "[wave]\nname = \"w\"\nrepo = \"{repo}\"\n[[item]]\nid = \"i0\"\nprovider = \"claude-code\"\nsandbox = \"off\"\nprompt = \"go\"\n"
    );
    std::fs::write(&file, text).unwrap();
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    dx_testkit::wait_until(super::world::PATIENCE, "it says until when", || {
        let (_, wave) = world.ask(&["status", "w-1"]);
        wave["waits_until"].is_string() || wave["state"] == "done"
    });
    let output = world.env.run(&["wave", "status", "w-1", "--watch", "--json"]).assert_code(0);
    let wave: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(providers(&wave, "i0"), ["claude-code", "claude-code"], "{wave:#}");
    assert_eq!(calls(&world), 2);
}

#[test]
fn a_wave_that_shall_not_wait_ends_and_says_when_to_resume_it() {
    let world = world(Some(3600));
    let both = "fallback = [\"opencode\"]";
    let (code, wave) = run(&world, 1, both);
    assert_eq!((code, calls(&world)), (0, 1), "{wave:#}");
    // Its only provider is known to be parked.
    let file = world.path("x.toml");
    let repo = world.repo.display();
    let text = format!(
        "[wave]\nname = \"x\"\nrepo = \"{repo}\"\nprovider = \"claude-code\"\n[defaults]\nsandbox = \"off\"\n[[item]]\nid = \"k0\"\nprompt = \"go\"\n[[item]]\nid = \"k1\"\nneeds = [\"k0\"]\nprompt = \"go\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let parked = |args: &[&str]| {
        let output = world.env.run(&[&["wave"], args, &["--json"]].concat()).assert_code(3);
        let error: Value = serde_json::from_str(&output.stderr).unwrap();
        assert_eq!(error["error"]["reason_code"], "quota_parked", "{output}");
        let next = error["error"]["next_action"].as_str().unwrap();
        assert!(next.starts_with("dx-runner wave resume x-1 after 20"), "{output}");
    };
    // Who is told of it takes nothing; the rest is kept, and nobody waits for him.
    let (takes, log) = (world.path("takes"), world.path("told.log"));
    let notify = super::notify::program(&world, &format!("test -e {takes} && cat >> {log}"));
    parked(&["run", &file, "--exit-when-parked", "--notify", &notify]);
    let (_, wave) = world.ask(&["status", "x-1"]);
    let failure = wave["notify_failure"].as_str().unwrap();
    assert!(failure.ends_with("is kept for `wave resume`"), "{failure}");
    assert!(super::world::coordinator(&world.env.state_dir(), "x-1").is_none());
    // Before the time it is the same again; nobody is asked.
    parked(&["resume", "x-1"]);
    let (_, wave) = world.ask(&["status", "x-1"]);
    assert!(wave["waits_until"].is_string() && wave["closed"] == 0, "{wave:#}");
    assert_eq!(calls(&world), 1);
    // Afterwards it goes on.
    std::fs::remove_file(world.env.bin_dir().join("refuse")).unwrap();
    std::fs::remove_file(world.env.state_dir().join("pools.jsonl")).unwrap();
    std::fs::write(&takes, "").unwrap();
    let (code, wave) = world.ask(&["resume", "x-1"]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 2]), "{wave:#}");
    dx_testkit::wait_until(super::world::PATIENCE, "all is told, from the beginning", || {
        let told = super::notify::lines(&log);
        told.first().is_some_and(|first| first["number"] == 2)
            && told
                .last()
                .is_some_and(|last| last["change"]["state"] == "done" && last["change"]["of"] == "wave")
    });
    assert_eq!(world.ask(&["status", "x-1"]).1["notify_failure"], Value::Null);
}

#[test]
fn when_one_got_through_the_others_follow_and_nobody_leaves_while_it_tries() {
    let world = world(Some(3600));
    let repo = world.repo.display();
    let file = |wave: &str, items: &str| {
        let path = world.path(&format!("{wave}.toml"));
        let text = format!(
            "[wave]\nname = \"{wave}\"\nrepo = \"{repo}\"\nprovider = \"claude-code\"\n[defaults]\nsandbox = \"off\"\n{items}"
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let items = ["i0", "i1", "i2"].map(|id| format!("[[item]]\nid = \"{id}\"\nprompt = \"go\"\n"));
    let three = file("x", &items.concat());
    world.env.run(&["wave", "run", &three, "--exit-when-parked"]).assert_code(3);
    // The time is over; who goes first gets through, when the others were told to wait for it.
    let bin = world.env.bin_dir();
    std::fs::write(bin.join("hold"), "").unwrap();
    std::fs::remove_file(bin.join("refuse")).unwrap();
    let ledger = world.env.state_dir().join("pools.jsonl");
    let mut line: Value = serde_json::from_str(std::fs::read_to_string(&ledger).unwrap().trim_end()).unwrap();
    line["until"] = "2001-01-01T00:00:00.000Z".into();
    std::fs::write(&ledger, format!("{line}\n")).unwrap();
    let journal = || -> Vec<Value> {
        let text = std::fs::read_to_string(world.env.state_dir().join("waves/x-1/journal")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let refused = || journal().iter().filter(|record| record["event"]["type"] == "refused").count();
    let before = refused();
    std::thread::scope(|scope| {
        let resumed = scope.spawn(|| world.ask(&["resume", "x-1"]));
        dx_testkit::wait_until(super::world::PATIENCE, "two wait for the first", || refused() >= before + 2);
        std::fs::remove_file(bin.join("hold")).unwrap();
        let (code, wave) = resumed.join().unwrap();
        assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 3]), "{wave:#}");
    });
    let records = journal();
    let through = records.iter().position(|record| record["event"]["verdict"] == "passed").unwrap();
    let next = &records[through + 1..];
    let released = |record: &Value| record["event"]["type"] == "parked" && record["event"]["until"].is_null();
    assert!(next.iter().any(released), "{records:#?}");
    // Somebody else tries: that is waited for.
    let soon = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3;
    line["until"] = dx_protocol::Timestamp(i64::try_from(soon * 1000).unwrap()).to_string().into();
    line["probed"] = true.into();
    std::fs::write(&ledger, format!("{line}\n")).unwrap();
    let one = file("y", "[[item]]\nid = \"k0\"\nprompt = \"go\"\n");
    let (code, wave) = world.ask(&["run", &one, "--exit-when-parked"]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
}

#[test]
fn a_model_that_talks_about_limits_parks_nothing() {
    let world = world(None);
    let (code, wave) = run(&world, 3, "fallback = [\"opencode\"]\nmax_parallel = 1");
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 3]), "{wave:#}");
    assert_eq!(calls(&world), 3);
    for item in ["i0", "i1", "i2"] {
        assert_eq!(providers(&wave, item), ["claude-code"], "{wave:#}");
    }
}

#[test]
fn what_one_job_was_told_spares_the_others_the_question() {
    let world = world(Some(3600));
    let both = "fallback = [\"opencode\"]\nmax_parallel = 20";
    let (code, wave) = run(&world, 1, both);
    assert_eq!((code, states(&wave), calls(&world)), (0, vec!["done".to_owned()], 1), "{wave:#}");
    // Another wave of the same state directory.
    let (code, wave) = run_lettered(&world, 'k', 3, both);
    assert_eq!((code, states(&wave), calls(&world)), (0, vec!["done".to_owned(); 3], 1), "{wave:#}");
    for item in ["k0", "k1", "k2"] {
        assert_eq!(providers(&wave, item), ["opencode"], "{wave:#}");
    }
    // A job of its own, and a look before one.
    let start = ["start", "--provider", "claude-code", "--prompt-file", "-", "--sandbox", "off"];
    let here = ["--worktree", "auto", "--repo", &world.repo.display().to_string(), "--json"];
    let alone = [&start[..], &["--beads", "alone"], &here].concat();
    let output = world.env.run_with_stdin(&alone, "go").assert_code(1);
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(error["error"]["reason_code"], "quota_parked", "{error:#}");
    assert!(error["error"]["next_action"].as_str().unwrap().contains("again after 20"), "{error:#}");
    let look = world.env.run(&["preflight", "--provider", "claude-code", "--json"]).stdout;
    let look: Value = serde_json::from_str(&look).unwrap();
    let quota = look["checks"].as_array().unwrap().iter().find(|row| row["check"] == "quota").unwrap();
    assert_eq!((&quota["level"], &quota["code"]), (&"warn".into(), &"quota_parked".into()), "{quota}");
    // Another account's limits are its own.
    let ledger = world.env.state_dir().join("pools.jsonl");
    let text = std::fs::read_to_string(&ledger).unwrap();
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    std::fs::write(&ledger, text.replace(line["account"].as_str().unwrap(), "SOMEBODY_ELSES_KEY")).unwrap();
    world.env.run_with_stdin(&alone, "go").assert_code(0);
    world.env.run(&["wait", "--beads", "alone"]).assert_code(3);
    assert_eq!(calls(&world), 2);
}

#[test]
fn of_twenty_that_wait_for_the_same_limit_one_asks_when_its_time_is_over() {
    let world = world(Some(3600));
    let both = "fallback = [\"opencode\"]\nmax_parallel = 20";
    let (_, wave) = run(&world, 1, both);
    assert_eq!(calls(&world), 1, "{wave:#}");
    // The time is over, and the provider refuses once more, for long.
    let ledger = world.env.state_dir().join("pools.jsonl");
    let mut line: Value = serde_json::from_str(std::fs::read_to_string(&ledger).unwrap().trim_end()).unwrap();
    line["until"] = wave["started_at"].clone();
    std::fs::write(&ledger, format!("{line}\n")).unwrap();
    let (code, wave) = run_lettered(&world, 'k', 20, both);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 20]), "{wave:#}");
    assert_eq!(calls(&world), 2, "{wave:#}");
}
