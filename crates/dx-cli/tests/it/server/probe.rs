//! `probe-attach` against what is no usable server. The ready one is among the cases of the real server.

use super::Small;
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

const JSON: &str = "application/json";

#[track_caller]
fn probe(env: &TestEnv, code: i32, reason: &str, args: &[&str]) -> Value {
    let output = env.run(&[&["probe-attach", "--json"], args].concat()).assert_code(code);
    let value = document(env, "probe-attach", &output.stdout);
    assert_eq!(value["reason_code"], reason, "{output}");
    assert_eq!(value["exit_code"], code, "{output}");
    assert_eq!(value["status"], if code == 0 { "ok" } else { "failed" }, "{output}");
    let next = value["next_action"].as_str().unwrap();
    assert!(code == 0 || !next.is_empty(), "{output}");
    value
}

fn page() -> (u16, &'static str, String) {
    (200, "text/html", "<!doctype html><title>another service</title>".to_owned())
}

#[test]
fn what_is_no_usable_server() {
    let env = environment();
    probe(&env, 1, "server_unreachable", &["--url", "http://127.0.0.1:9"]);
    probe(&env, 1, "server_unreachable", &["--url", "no address"]);

    let other = Small::new(Box::new(|_| page()));
    let told = probe(&env, 1, "server_not_opencode", &["--url", &other.url]);
    assert!(told["details"].as_str().unwrap().contains("another service"), "{told}");

    let ill = Small::new(Box::new(|_| (200, JSON, r#"{"healthy":false,"version":"1.18.33"}"#.to_owned())));
    probe(&env, 1, "server_unhealthy", &["--url", &ill.url]);
    let broken = Small::new(Box::new(|_| (500, "text/plain", "oops".to_owned())));
    probe(&env, 1, "server_unhealthy", &["--url", &broken.url]);

    let locked = Small::new(Box::new(|_| (401, "text/plain", String::new())));
    probe(&env, 1, "server_password_refused", &["--url", &locked.url]);

    // 2.x knows `/api/info`, and answers everything else with its page.
    let next = Small::new(Box::new(|line| {
        if line.starts_with("GET /api/info ") {
            (200, JSON, r#"{"version":"2.1.4"}"#.to_owned())
        } else {
            page()
        }
    }));
    let told = probe(&env, 1, "server_api_unsupported", &["--url", &next.url]);
    assert_eq!(told["version"], "2.1.4");
}

#[test]
fn well_but_without_a_context() {
    let env = environment();
    let healthy = |version: &str| format!(r#"{{"healthy":true,"version":"{version}"}}"#);
    let old = healthy("1.2.6");
    let old = Small::new(Box::new(move |_| (200, JSON, old.clone())));
    probe(&env, 24, "attach_version_unsupported", &["--url", &old.url]);

    let new = healthy("1.18.33");
    let empty =
        Small::new(Box::new(
            move |line| {
                if line.contains("/global/health") { (200, JSON, new.clone()) } else { page() }
            },
        ));
    let missing = env.path("missing").display().to_string();
    probe(&env, 24, "attach_directory_missing", &["--url", &empty.url, "--directory", &missing]);
    assert_eq!(empty.asked.load(std::sync::atomic::Ordering::SeqCst), 1, "only its health is asked");
    probe(&env, 24, "attach_no_context", &["--url", &empty.url]);

    let new = healthy("1.18.33");
    let nobody_leads = Small::new(Box::new(move |line| {
        let agents = r#"[{"name":"helper","mode":"subagent"}]"#.to_owned();
        (200, JSON, if line.contains("/agent") { agents } else { new.clone() })
    }));
    let told = probe(&env, 24, "attach_no_context", &["--url", &nobody_leads.url]);
    assert!(told["details"].as_str().unwrap().contains("can lead"), "{told}");
}

/// A server that goes on and on with its first answer, a byte at a time, as long as anybody listens.
fn dripping(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _sent = stream.write_all(head.as_bytes());
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    url
}

/// Each would go on without end: whatever is said of it is said because the bound has passed. All wait at once.
#[test]
fn a_server_that_does_not_come_to_an_end_is_given_up() {
    let env = environment();
    // Connections are taken by the kernel and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let body =
        dripping("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n");
    let headers = dripping("HTTP/1.1 200 OK\r\nx-long: ");
    // This one is well, and does not list its agents before all is over.
    let (over, waits) = channel::<()>();
    let waits = Mutex::new(waits);
    let agents = Small::new(Box::new(move |line| {
        if line.contains("/agent") {
            let _over = waits.lock().unwrap().recv();
        }
        (200, JSON, r#"{"healthy":true,"version":"1.18.33"}"#.to_owned())
    }));
    std::thread::scope(|scope| {
        for (url, code, reason) in [
            (&silent, 1, "server_unreachable"),
            (&body, 1, "server_unreachable"),
            (&headers, 1, "server_unreachable"),
            (&agents.url, 24, "attach_no_context"),
        ] {
            let env = &env;
            scope.spawn(move || {
                let told = probe(env, code, reason, &["--url", url]);
                let details = told["details"].as_str().unwrap();
                let seconds = details.split_once("no answer within ").map(|(_, rest)| rest);
                let seconds = seconds.and_then(|rest| rest.split(' ').next()?.parse::<f32>().ok());
                assert!(seconds.is_some_and(|seconds| seconds <= 10.0), "{told}");
            });
        }
    });
    drop(over);
}

/// The port that was asked for is somebody else's, whose server lets everybody in.
#[test]
fn a_server_of_somebody_else_is_not_taken_for_the_one_that_was_started() {
    let world = crate::world::World::new();
    crate::manifests::program(
        &world,
        "opencode",
        "sleep 0.5; echo 'ServeError: the port is in use'; exit 1\n",
    );
    let healthy = r#"{"healthy":true,"version":"1.18.33"}"#;
    let other = Small::new(Box::new(move |_| (200, JSON, healthy.to_owned())));
    let port = other.url.rsplit(':').next().unwrap();
    let output = world.env.run(&["server", "start", "--port", port]).assert_code(1);
    assert!(output.stderr.contains("reason: spawn_failed") && output.stderr.contains("in use"), "{output}");
    assert_eq!(world.env.run(&["server", "status"]).assert_code(1).stdout, "stopped\n");
}
