//! Whoever `--notify` names: told of each change, in order, again when it failed, and never waited for.

use super::world::{PATIENCE, World, coordinator, item, states};
use crate::document;
use dx_testkit::wait_until;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

/// A program for `--notify`.
pub(crate) fn program(world: &World, script: &str) -> String {
    let path = world.env.bin_dir().join("told");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Two items, of which one fails: what is run, and what is to be told of it.
fn wave(world: &World) -> String {
    let items = [
        item("good", &[], "echo x > a.txt", ""),
        item("bad", &["good"], "exit 7", "max_attempts = 2"),
        item("child", &["bad"], "true", ""),
    ];
    world.file("max_parallel = 1", &items)
}

const STORY: [&str; 9] = [
    "wave running",
    "good running",
    "good done",
    "bad running",
    "bad revision",
    "bad running",
    "bad failed",
    "child skipped",
    "wave partial",
];

fn story(told: &[Value]) -> Vec<String> {
    let line = |notice: &Value| {
        let change = &notice["change"];
        let who = change["id"].as_str().or(change["of"].as_str()).unwrap();
        format!("{who} {}", change["state"].as_str().unwrap())
    };
    told.iter().map(line).collect()
}

pub(crate) fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
pub(crate) fn told(path: &str, count: usize) -> Vec<Value> {
    wait_until(PATIENCE, "everything is told", || lines(path).len() >= count);
    lines(path)
}

#[test]
fn a_command_is_told_of_each_change_and_again_when_it_failed() {
    let world = World::new();
    let (log, args, once) = (world.path("told.log"), world.path("args"), world.path("once"));
    // The first notice is refused once.
    let script = format!(
        "text=$(cat); echo \"$@\" > {args}; test -e {once} || {{ : > {once}; exit 3; }}; printf '%s\\n' \"$text\" >> {log}"
    );
    let notify = format!("{} $HOME;touch {}", program(&world, &script), world.path("never"));
    let output = world.env.run(&["wave", "run", &wave(&world), "--json", "--notify", &notify]);
    assert_eq!(output.code, 31, "{output}");
    let told = told(&log, STORY.len());
    assert_eq!(story(&told), STORY);
    for notice in &told {
        document(&world.env, "wave-notice", &notice.to_string());
    }
    let numbers: Vec<u64> = told.iter().map(|notice| notice["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let failed = &told[6]["change"];
    assert_eq!((&failed["attempts"], &failed["reason_code"]), (&2.into(), &"process_exit_with_rc".into()));
    // No shell has seen the words.
    let words = std::fs::read_to_string(&args).unwrap();
    assert_eq!(words.trim(), format!("$HOME;touch {}", world.path("never")));
    assert!(!Path::new(&world.path("never")).exists());
}

#[test]
fn who_does_not_answer_keeps_no_wave_waiting_and_a_successor_tells_the_rest() {
    let world = World::new();
    let (log, go) = (world.path("told.log"), world.path("go"));
    let notify = program(&world, &format!("until test -e {go}; do sleep 0.1; done; cat >> {log}"));
    let gate = world.path("gate");
    let wait = format!("until test -e {gate}; do sleep 0.1; done");
    let file = world.file("", &[item("a", &[], &wait, ""), item("b", &["a"], "true", "")]);
    world.env.run(&["wave", "run", &file, "--detach", "--notify", &notify]).assert_code(0);
    world.until("a", "running");
    let pid = coordinator(&world.env.state_dir(), "w-1").unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    wait_until(PATIENCE, "the coordinator is gone", || coordinator(&world.env.state_dir(), "w-1").is_none());
    std::fs::write(&gate, "").unwrap();
    let (code, wave) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 2]), "{wave:#}");
    assert!(lines(&log).is_empty(), "the wave has ended, and nobody was told yet");
    std::fs::write(&go, "").unwrap();
    wait_until(PATIENCE, "the end is told", || {
        story(&lines(&log)).last().is_some_and(|line| line == "wave done")
    });
    // At least once: what the first coordinator's call holds is told, too, when it gets through.
    let mut told = lines(&log);
    told.sort_by_key(|notice| notice["number"].as_u64());
    told.dedup();
    assert_eq!(
        story(&told),
        ["wave running", "a running", "wave running", "a done", "b running", "b done", "wave done"]
    );
    wait_until(PATIENCE, "the coordinator has ended", || {
        coordinator(&world.env.state_dir(), "w-1").is_none()
    });
}

#[test]
fn events_follow_a_wave_over_the_death_of_its_coordinator() {
    let world = World::new();
    let gate = world.path("gate");
    let wait = format!("until test -e {gate}; do sleep 0.1; done");
    let file = world.file("", &[item("a", &[], &wait, ""), item("b", &["a"], "exit 7", "max_attempts = 1")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    let log = world.path("events.jsonl");
    let mut command = world.env.product();
    command.args(["events", "--wave", "w-1", "--follow", "--out", &log]).stderr(std::process::Stdio::piped());
    let mut follower = command.spawn().unwrap();
    wait_until(PATIENCE, "the item's start is told", || {
        story(&lines(&log)).last().is_some_and(|line| line == "a running")
    });
    let pid = coordinator(&world.env.state_dir(), "w-1").unwrap();
    assert!(dx_testkit::send_signal(pid, 9));
    wait_until(PATIENCE, "the coordinator is gone", || coordinator(&world.env.state_dir(), "w-1").is_none());
    // It says so, and goes on.
    let mut stderr = std::io::BufReader::new(follower.stderr.take().unwrap());
    let mut hint = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut hint).unwrap();
    assert_eq!(hint.trim(), "nobody coordinates wave w-1; dx-runner wave resume w-1");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(world.ask(&["resume", "w-1"]).0, 31);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    let followed = lines(&log);
    let whole =
        ["wave running", "a running", "wave running", "a done", "b running", "b failed", "wave partial"];
    assert_eq!(story(&followed), whole);
    assert_eq!(followed[5]["change"]["reason_code"], "process_exit_with_rc", "{followed:#?}");
    // The same again afterwards, and the rest from a place.
    let all = world.env.run(&["events", "--wave", "w-1"]).assert_code(0).stdout;
    assert_eq!(all, std::fs::read_to_string(&log).unwrap());
    for line in all.lines() {
        document(&world.env, "wave-notice", line);
    }
    let after = followed[4]["number"].to_string();
    let rest = world.env.run(&["events", "--wave", "w-1", "--after", &after, "-f"]).assert_code(0).stdout;
    assert_eq!(rest.lines().collect::<Vec<_>>(), all.lines().skip(5).collect::<Vec<_>>());
    world.env.run(&["events", "--wave", "w-2"]).assert_code(1);
}

#[test]
fn an_address_gets_signed_posts() {
    let mut world = World::new();
    let key = "wave-notice-key-5521";
    world.env.set("DX_RUNNER_NOTIFY_SECRET", key);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let is_last = |told: &[Value]| story(told).last().is_some_and(|line| line == "wave partial");
        signed_posts(&listener, "/hook?x=1", key, is_last)
    });
    let output = world.env.run(&["wave", "run", &wave(&world), "--json", "--notify", &url]);
    assert_eq!(output.code, 31, "{output}");
    assert_eq!(story(&server.join().unwrap()), STORY);
    let journal = std::fs::read_to_string(world.env.state_dir().join("waves/w-1/journal")).unwrap();
    assert!(journal.contains("/hook?x=1") && !journal.contains(key), "{journal}");
}

#[test]
fn what_could_never_be_told_is_refused() {
    let mut world = World::new();
    let file = wave(&world);
    let refused = |world: &World, notify: &str, why: &str| {
        let output = world.env.run(&["wave", "run", &file, "--notify", notify]).assert_code(64);
        assert!(output.stderr.contains(why), "{output}");
    };
    refused(&world, "http://127.0.0.1:9/x", "DX_RUNNER_NOTIFY_SECRET is not set");
    refused(&world, "no-such-program-x y", "there is no program `no-such-program-x`");
    refused(&world, " ", "it takes a command or an address");
    world.env.set("DX_RUNNER_NOTIFY_SECRET", "hush-9917");
    refused(&world, "sh -c hush-9917", "holds a secret");
    assert!(!world.env.state_dir().join("waves").exists());
}

/// All notices of a wave that goes on without the secret would be left out.
#[test]
fn a_wave_goes_on_with_the_secret_of_its_receiver_only() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_NOTIFY_SECRET", "wave-notice-key-5522");
    let file = world.file("", &[item("a", &[], "sleep 1000", "")]);
    world.env.run(&["wave", "run", &file, "--detach", "--notify", "http://127.0.0.1:9/x"]).assert_code(0);
    let of_wave = coordinator(&world.env.state_dir(), "w-1").unwrap();
    dx_testkit::send_signal(of_wave, 9);
    wait_until(PATIENCE, "it is gone", || !dx_testkit::is_running(of_wave));
    world.env.set("DX_RUNNER_NOTIFY_SECRET", "");
    let output = world.env.run(&["wave", "resume", "w-1", "--detach"]).assert_code(64);
    assert!(output.stderr.contains("DX_RUNNER_NOTIFY_SECRET is not set"), "{output}");
    world.env.run(&["wave", "cancel", "w-1"]).assert_code(0);
}

/// Who tells is killed after the end of the wave, over a receiver that is slow: the rest waits for `wave resume`.
#[test]
fn what_a_killed_coordinator_had_not_told_of_an_ended_wave_is_told_by_the_next() {
    let world = World::new();
    let (out, gate) = (world.path("told.jsonl"), world.path("gate"));
    let notify = program(&world, &format!("until test -e {gate}; do sleep 0.05; done; cat >> {out}"));
    let (code, _) = world.ask(&["run", &wave(&world), "--notify", &notify]);
    assert_eq!(code, 31);
    let of_wave = coordinator(&world.env.state_dir(), "w-1").unwrap();
    assert_eq!(world.ask(&["resume", "w-1"]).0, 32, "it is at work");
    dx_testkit::send_signal(of_wave, 9);
    wait_until(PATIENCE, "it is gone", || !dx_testkit::is_running(of_wave));
    let seen = world.ask(&["status", "w-1"]).1;
    assert!(seen["notify_failure"].as_str().unwrap().contains("`wave resume`"), "{seen:#}");
    assert_eq!(seen["next_action"], "dx-runner wave resume w-1");
    std::fs::write(&gate, "").unwrap();
    let (code, seen) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, &seen["state"]), (31, &Value::from("partial")), "{seen:#}");
    wait_until(PATIENCE, "nothing is left to be told", || {
        coordinator(&world.env.state_dir(), "w-1").is_none()
    });
    let mut told = lines(&out);
    told.sort_by_key(|notice| notice["number"].as_u64());
    // One may have come twice: who told it first was killed.
    told.dedup_by_key(|notice| notice["number"].as_u64());
    // No more than that: nothing runs again, and nothing ends again.
    assert_eq!(story(&told), STORY);
    assert_eq!(world.ask(&["status", "w-1"]).1["notify_failure"], Value::Null);
    assert_eq!(world.ask(&["resume", "w-1"]).0, 32);
}

/// What comes as signed posts, until the last of them. The first call is not taken, and has to come again.
pub(crate) fn signed_posts(
    listener: &TcpListener,
    path: &str,
    key: &str,
    is_last: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let mut told = Vec::new();
    for calls in 0.. {
        let (mut stream, _) = listener.accept().unwrap();
        let (head, body) = request(&mut stream);
        let status = if calls == 0 { "503 Busy" } else { "204 Fine" };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{head}");
        let expected = format!("dx-signature: sha256={}", hmac(key.as_bytes(), body.as_bytes()));
        assert!(head.lines().any(|line| line.eq_ignore_ascii_case(&expected)), "{expected}\n{head}");
        if calls > 0 {
            told.push(serde_json::from_str(&body).unwrap());
        }
        if is_last(&told) {
            break;
        }
    }
    told
}

fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap() {
                return (format!("{head}\r\n"), body.to_owned());
            }
        }
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the request was cut off: {text}");
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// As the definition has it, for keys that are shorter than a block.
fn hmac(key: &[u8], message: &[u8]) -> String {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([&pad(0x36), message].concat());
    let outer = Sha256::digest([&pad(0x5c)[..], &inner].concat());
    outer.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
