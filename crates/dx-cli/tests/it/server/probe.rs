//! `probe-attach` against what is no usable server. The ready one is among the cases of the real server.

use super::Small;
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;

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
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let env = environment();
    // Connections are taken by the kernel and never answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    probe(&env, 1, "server_unreachable", &["--url", &url]);
}
