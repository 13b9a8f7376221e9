//! OpenCode 1.2.6, the version whose attached runs end with "No context found for instance": what works with it all the same,
//! and what is refused before it fails. Beside it another user's server of today: each has a server of its own.

use super::questions::{M1, SOON, assert_quiet};
use super::real::World;
use crate::document;
use crate::real_agent::agents_dir;
use crate::world::error_of;
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::process::Stdio;

#[test]
fn an_old_server_beside_one_of_today() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let world = World::new(&agents.join("opencode-old"));
    it_is_found_out(&world);
    its_own_client_fails(&world);
    it_is_asked(&world);
    jobs_of_its_lanes(&world);
    a_killed_question(&world);
    assert_eq!(world.sessions(), Vec::<String>::new());

    let other = World::new(&agents.join("opencode"));
    two_homes_have_two_servers(&world, &other);
    for world in [&world, &other] {
        world.json("server", 0, &["server", "stop", "--grace", "5s"]);
        // The processes of ours go a moment after the end is published.
        world.env.assert_ended(SOON);
    }
}

fn it_is_found_out(world: &World) {
    let folder = world.folder.display().to_string();
    for more in [&[][..], &["--directory", &folder]] {
        let told = world.json("probe-attach", 24, &[&["probe-attach", "--url", &world.url], more].concat());
        assert_eq!(
            (&told["reason_code"], &told["version"], &told["status"]),
            (&json!("attach_version_unsupported"), &json!("1.2.6"), &json!("failed")),
            "{told}"
        );
    }
}

/// What is refused is refused rightly: OpenCode's own client says the words.
fn its_own_client_fails(world: &World) {
    let mut client = world.env.command("opencode");
    client.args(["run", "--attach", &world.url, "--agent", "build", "NEVER-SENT"]);
    client.env("OPENCODE_SERVER_PASSWORD", world.password()).stdin(Stdio::null());
    let output = client.output().unwrap();
    let said = format!("{output:?}");
    assert!(output.status.code() == Some(1) && said.contains("No context found for instance"), "{said}");
    assert_eq!(world.calls("NEVER-SENT"), 0);
}

fn it_is_asked(world: &World) {
    let before = world.sessions();
    let answer = world.asks("text:OLD BUT WELL", &["--system", "Be brief."]);
    assert_eq!(answer["answer"], "OLD BUT WELL", "{answer:#}");
    let kept = world.asks("text:FIRST", &["--keep-session"]);
    let id = kept["session"].as_str().unwrap();
    assert_eq!(world.asks("text:SECOND", &["--session", id, "--cleanup"])["answer"], "SECOND");
    let fails = |code, reason: &str, scenario: &str, seconds: &str| {
        let prompt = format!("VAIN [[mock:{scenario}]]");
        world.asks_in_vain(code, reason, &prompt, &[&M1[..], &["--timeout", seconds]].concat())
    };
    fails(10, "auth_missing", "401", "60");
    fails(1, "empty_response", "empty", "60");
    fails(35, "timeout", "hang", "4");
    assert_quiet(world, "VAIN");
    assert_eq!(world.sessions(), before);
    let models = world.run(&["models", "--provider", "mock"]).assert_code(0);
    assert_eq!(models.stdout, "mock/m1\nmock/m2\n");
    let checked = world.json("routes", 25, &["routes", "--check"]);
    assert_eq!(checked["routes"].as_array().unwrap().len(), 17);
    assert!(checked["routes"][0]["nearest"].as_str().unwrap().contains('/'), "{checked:#}");
}

fn jobs_of_its_lanes(world: &World) {
    let refused = world.try_start("old-attach", "text:x", &["--lane", "attach", "--json"]).assert_code(24);
    assert_eq!(error_of(&world.env, &refused)["reason_code"], "attach_version_unsupported", "{refused}");
    world.try_start("old-next", "write:old.txt:x,text:DONE", &["--lane", "attach,server"]).assert_code(0);
    let end = world.ends("old-next");
    let told = (&end["state"], &end["fallback_reason"]);
    assert_eq!(told, (&json!("exited_ok"), &json!("lane attach: attach_version_unsupported")), "{end:#}");
    // What a tool leaves cannot be told from what others leave: this server does not list all sessions.
    let leaves = "bash:setsid sleep 120.5 > /dev/null 2>&1 &,text:DONE";
    world.try_start("old-leaves", leaves, &["--lane", "server"]).assert_code(0);
    let end = world.ends("old-leaves");
    assert_eq!((&end["state"], &end["outcome"]["strays"]), (&json!("exited_ok"), &json!(0)), "{end:#}");
    assert_eq!(world.sleepers("120.5").len(), 1, "it ends with the server");
    // Preflight says beforehand what a start will.
    for (lane, level, code) in
        [("attach", "error", json!("attach_version_unsupported")), ("server", "ok", Value::Null)]
    {
        let row = lane_row(world, lane);
        assert_eq!((&row["level"], &row["code"]), (&json!(level), &code), "{row}");
    }
}

/// What preflight says of the lane that the user's file names.
fn lane_row(world: &World, lane: &str) -> Value {
    let file = world.env.path("lane.toml");
    std::fs::write(&file, format!("lane = \"{lane}\"\n")).unwrap();
    let file = file.display().to_string();
    let output = world.run(&["--config", &file, "preflight", "--provider", "opencode", "--json"]);
    let told = document(&world.env, "preflight", &output.stdout);
    let row = told["checks"].as_array().unwrap().iter().find(|row| row["check"] == "lane").cloned();
    row.unwrap_or_else(|| panic!("no row of the lane: {told:#}"))
}

/// It keeps no marks of sessions: a note leads to what is left.
fn a_killed_question(world: &World) {
    let before = world.sessions();
    world.asks_and_dies("KILLED-OLD", &[], false);
    wait_until(SOON, "its session is gone", || world.sessions() == before);
    assert_quiet(world, "KILLED-OLD");
}

/// Two people on one machine: each finds his own, whichever was started first, and neither gets into the other's.
fn two_homes_have_two_servers(old: &World, new: &World) {
    assert_ne!(old.url, new.url);
    assert_ne!(old.password(), new.password());
    let version = |world: &World| {
        let told = world.json("server", 0, &["server", "status"]);
        assert_eq!(told["url"], world.url.as_str());
        told["version"].as_str().unwrap().to_owned()
    };
    assert_eq!(version(old), "1.2.6");
    assert!(version(new).starts_with("1.18."));
    for (world, other) in [(old, new), (new, old)] {
        assert_eq!(world.asks("text:MINE", &[])["answer"], "MINE");
        assert_eq!(other.calls("What is it? [[mock:text:MINE]]"), usize::from(std::ptr::eq(world, new)));
        let refused =
            world.run(&["dispatch", "--server", &other.url, "--prompt", "x", "--member", "opencode:mock/m1"]);
        assert!(refused.stderr.contains("reason: server_password_refused"), "{refused}");
    }
    // The one of today is what preflight takes, for either lane.
    for lane in ["server", "attach"] {
        let row = lane_row(new, lane);
        assert_eq!(row["level"], "ok", "{row}");
        assert!(row["found"].as_str().unwrap().contains(&new.url), "{row}");
    }
}
