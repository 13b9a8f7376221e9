//! Servers that hang, or are gone: what they did not let us end is ended by whoever uses the server next, and what has the
//! address of one that died gets nothing.

use super::questions::{M1, SOON};
use super::real::World;
use crate::kills::world::programs;
use dx_testkit::{describe, send_signal, wait_until};
use serde_json::json;
use std::net::TcpListener;
use std::process::Stdio;

const LANES_OF_SERVERS: [&str; 2] = ["server", "attach"];

impl World {
    fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// Where it was.
    fn starts_again(&self) {
        let told = self.json("server", 0, &["server", "start", "--port", self.port()]);
        assert_eq!(told["changed"], json!(true), "{told:#}");
    }

    /// Asks a model that hangs; what becomes of the server once the model is asked.
    fn asks_while(&self, words: &str, then: impl FnOnce() -> bool) -> String {
        let mut command = self.env.product();
        let prompt = format!("{words} [[mock:hang]]");
        command.args([&["dispatch", "--prompt", &prompt, "--timeout", "6"], &M1[..]].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = crate::world::spawn(command);
        wait_until(SOON, "the model is asked", || self.calls(words) > 0);
        assert!(then());
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

pub(super) fn a_server_that_hangs(world: &World) {
    let (before, here) = (world.sessions(), world.sessions_in_folder());
    let server = world.server_pid();
    let said = world.asks_while("HUNG ", || send_signal(server, 19));
    assert!(said.contains("is ended when the server answers") && said.contains("reason: timeout"), "{said}");
    send_signal(server, 18);
    world.asks("text:NEXT", &[]);
    assert_eq!((world.sessions(), world.records()), (before.clone(), 0));
    for lane in LANES_OF_SERVERS {
        let id = format!("hung-{lane}");
        world.try_start(&id, "bash:sleep 122.5,text:NEVER", &["--lane", lane]).assert_code(0);
        wait_until(SOON, "the tool runs", || !world.sleepers("122.5").is_empty());
        send_signal(server, 19);
        let stopped = world.run(&["stop", "--beads", &id, "--grace", "1s"]).assert_code(0);
        let end = world.ends(&id);
        send_signal(server, 18);
        assert!(stopped.stderr.contains("on in the OpenCode server"), "{lane}: {stopped}");
        assert!(end["outcome"]["strays_left"].as_u64() > Some(0), "{lane}: {end:#}");
        // The session goes on until somebody uses the server.
        world.asks("text:NEXT", &[]);
        assert_eq!((world.sessions_in_folder(), world.records()), (here.clone(), 0), "{lane}");
        let left: Vec<String> = world.sleepers("122.5").into_iter().map(describe).collect();
        assert_eq!(left, [""; 0], "{lane}");
    }
}

pub(super) fn a_server_that_died_leaves_no_session(world: &World) {
    let (before, here) = (world.sessions(), world.sessions_in_folder());
    for lane in LANES_OF_SERVERS {
        world.try_start(&format!("died-{lane}"), "hang", &["--lane", lane]).assert_code(0);
        wait_until(SOON, "the model is asked", || world.calls(&format!("Task died-{lane} ")) > 0);
    }
    let said = world.asks_while("DIED ", || send_signal(world.server_pid(), 9));
    assert!(said.contains("is ended when the server answers"), "{said}");
    for lane in LANES_OF_SERVERS {
        world.ends(&format!("died-{lane}"));
    }
    assert_eq!(world.records(), 1 + LANES_OF_SERVERS.len());
    world.starts_again();
    assert_eq!((world.sessions(), world.sessions_in_folder(), world.records()), (before, here, 0));
}

/// Its monitor still settles its end.
pub(super) fn a_start_right_after_a_death(world: &World) {
    assert!(send_signal(world.server_pid(), 9));
    world.starts_again();
}

/// Its monitors died with it, so that nobody has taken its claim away.
pub(super) fn who_has_a_dead_servers_port_gets_nothing(world: &World) {
    let meta = std::fs::read_to_string(world.env.state_dir().join("opencode-server/server.meta")).unwrap();
    let uuid = meta.lines().find_map(|line| line.strip_prefix("run_uuid=")).unwrap().to_owned();
    let mut all: Vec<i32> = programs(&uuid).iter().map(|ours| ours.pid).collect();
    all.push(world.server_pid());
    // Nobody is to see the end of another one.
    for signal in [19, 9] {
        assert!(all.iter().all(|pid| send_signal(*pid, signal)));
    }
    let mut listener = None;
    wait_until(SOON, "the port is free", || {
        listener = TcpListener::bind(format!("127.0.0.1:{}", world.port())).ok();
        listener.is_some()
    });
    let listener = listener.unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(world.env.state_dir().join("live/opencode-server.server").exists());
    assert_eq!(world.run(&["server", "status"]).assert_code(1).stdout, "stopped\n");
    let asked = world.run(&[&["dispatch", "--prompt", "SECRET"], &M1[..]].concat());
    let started = world.try_start("nobody", "text:x", &["--lane", "server"]);
    let probed = world.run(&["probe-attach"]);
    assert!(asked.code != 0 && started.code != 0 && probed.code != 0, "{asked}{started}{probed}");
    let came = listener.accept().map(|(_, from)| from);
    assert!(came.is_err(), "{came:?} came to ask");
    drop(listener);
    world.starts_again();
}
