//! Jobs in the lanes of a server: one set of expectations for all three lanes, and what is special about two of them.

use super::questions::{SOON, assert_quiet};
use super::real::World;
use crate::document;
use crate::world::error_of;
use dx_testkit::{Output, describe, processes_with_marker, read_pid, send_signal, wait_until};
use serde_json::{Value, json};

const LANES: [(&str, &str); 3] = [("run", "detached"), ("server", "server"), ("attach", "attach")];

impl World {
    pub(super) fn try_start(&self, id: &str, scenario: &str, more: &[&str]) -> Output {
        let folder = self.folder.display().to_string();
        let head =
            ["start", "--beads", id, "--provider", "opencode", "--prompt-file", "-", "--worktree", &folder];
        let model = ["--model", "mock/m1", "--allow-model-override"];
        let prompt = format!("Task {id} [[mock:{scenario}]]");
        self.env.run_with_stdin(&[&head[..], &model, more].concat(), prompt)
    }

    #[track_caller]
    pub(super) fn ends(&self, id: &str) -> Value {
        let output = self.env.run(&["wait", "--json", "--beads", id]);
        document(&self.env, "check", &output.stdout)
    }

    pub(super) fn calls_of(&self, id: &str) -> usize {
        let words = format!("Task {id} ");
        self.model.calls().iter().filter(|call| !call.side_call && call.prompt.contains(&words)).count()
    }

    fn sleeper(&self) -> Option<i32> {
        self.sleepers("120.5").pop()
    }

    pub(super) fn sleepers(&self, seconds: &str) -> Vec<i32> {
        let home = self.env.home().display().to_string();
        let is_one = |pid: &i32| describe(*pid).contains(&format!(": sleep {seconds}"));
        processes_with_marker("HOME", &home).into_iter().filter(is_one).collect()
    }

    fn view(&self, id: &str, suffix: &str) -> std::path::PathBuf {
        self.env.state_dir().join(format!("opencode/{id}.{suffix}"))
    }
}

pub(super) fn the_same_in_every_lane(world: &World) {
    let before = world.sessions();
    for (lane, mode) in LANES {
        let here = world.sessions_in_folder();
        let id = format!("good-{lane}");
        // Where the tools are not confined, the check still is.
        let check = format!("grep -q hello {id}.txt && ! (echo x > ~/outside) 2> /dev/null");
        let more = ["--lane", lane, "--check", &check];
        world.try_start(&id, &format!("write:{id}.txt:hello,text:ALL DONE"), &more).assert_code(0);
        let end = world.ends(&id);
        assert_eq!(end["verdicts"]["check"], "pass", "{end:#}");
        let told = (&end["state"], &end["reason_code"], &end["outcome"]["exit_code"]);
        assert_eq!(told, (&json!("exited_ok"), &json!("process_exit_with_rc"), &json!("0")), "{end:#}");
        assert_eq!((&end["tokens_in"], &end["tokens_out"]), (&json!(200), &json!(20)), "{end:#}");
        assert_eq!(end["tools"], json!({ "write": 1 }), "{end:#}");
        assert_eq!(end["outcome"]["work"]["files_changed"], json!([format!("{id}.txt")]), "{end:#}");
        assert_eq!(end["selected_model"], "mock/m1");
        assert_eq!(end["outcome"]["execution_mode"], mode, "{end:#}");
        let sandbox = if lane == "run" { "strict" } else { "none" };
        assert_eq!(end["sandbox"]["mode"], sandbox, "{end:#}");
        let log = world.run(&["logs", "--beads", &id]).assert_code(0).stdout;
        assert!(log.contains("ALL DONE") && log.contains("> write"), "{log}");

        let id = format!("locked-{lane}");
        world.try_start(&id, "401", &["--lane", lane]).assert_code(0);
        let end = world.ends(&id);
        let told = (&end["state"], &end["reason_code"]);
        assert_eq!(told, (&json!("exited_err"), &json!("opencode_auth_blocked")), "{lane}: {end:#}");

        let id = format!("late-{lane}");
        world.try_start(&id, "hang", &["--lane", lane, "--max-runtime", "6s"]).assert_code(0);
        let end = world.ends(&id);
        let told = (&end["reason_code"], &end["verdicts"]["process"]);
        assert_eq!(told, (&json!("max_runtime_exceeded"), &json!("signaled")), "{lane}: {end:#}");

        let id = format!("nothing-{lane}");
        world.try_start(&id, "text:HI", &["--lane", lane]).assert_code(0);
        let end = world.ends(&id);
        let told = (&end["state"], &end["reason_code"]);
        assert_eq!(told, (&json!("exited_ok"), &json!("exit_zero_no_mutations")), "{lane}: {end:#}");
        // A headless run keeps its own in the same store.
        if lane != "run" {
            assert_eq!(world.sessions_in_folder(), here, "{lane}");
        }
    }
    assert_eq!(world.sessions(), before);
}

/// The server does not pile up what it holds for worktrees that were made for one job each.
pub(super) fn a_worktree_is_let_go_with_its_job(world: &World) {
    let server = read_pid(world.env.state_dir().join("opencode-server/server.pid"));
    let watches = || {
        let open = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap().flatten();
        let what = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        what.filter(|what| what.as_os_str() == "anon_inode:inotify").count()
    };
    let repo = world.folder.display().to_string();
    let start = |id: &str, scenario: &str, lane: &str| {
        let head = ["start", "--beads", id, "--provider", "opencode", "--prompt-file", "-", "--lane", lane];
        let more = ["--worktree", "auto", "--repo", &repo, "--model", "mock/m1", "--allow-model-override"];
        let prompt = format!("Task {id} [[mock:{scenario}]]");
        world.env.run_with_stdin(&[&head[..], &more].concat(), prompt).assert_code(0);
    };
    start("own-works", "write:begun.txt:x,hang", "server");
    wait_until(SOON, "it works", || world.calls_of("own-works") >= 2);
    let before = watches();
    for lane in ["server", "attach"] {
        for number in 0..2 {
            let id = format!("own-{lane}-{number}");
            start(&id, "write:made.txt:x,text:DONE", lane);
            let end = world.ends(&id);
            assert_eq!(end["reason_code"], "process_exit_with_rc", "{end:#}");
        }
    }
    assert!(before > 0, "the server watches the folders it works in");
    wait_until(SOON, "none of the jobs that ended has left one", || watches() == before);
    // Beside one that works, which was not disturbed.
    let check = world.run(&["check", "--beads", "own-works", "--json"]).assert_code(0);
    assert!(check.stdout.contains("\"state\":\"healthy\""), "{check}");
    world.run(&["stop", "--beads", "own-works"]).assert_code(0);
    wait_until(SOON, "it has left none", || watches() < before);
}

pub(super) fn a_stop_ends_the_sessions_tools(world: &World) {
    for (lane, _) in LANES {
        let (id, here) = (format!("stop-{lane}"), world.sessions_in_folder());
        world
            .try_start(&id, "bash:setsid sleep 120.5 & sleep 120.5,text:NEVER", &["--lane", lane])
            .assert_code(0);
        wait_until(SOON, "the tool runs", || world.sleeper().is_some());
        let done = world.run(&["stop", "--beads", &id, "--grace", "5s", "--json"]).assert_code(0);
        assert!(done.stdout.contains("\"reason_code\":\"manual_stop\""), "{done}");
        assert_eq!(world.sleeper().map(describe), None, "{lane}: the tool runs on");
        let end = world.ends(&id);
        assert_eq!(
            (&end["state"], &end["outcome"]["state"]),
            (&json!("exited_err"), &json!("killed")),
            "{end:#}"
        );
        if lane != "run" {
            assert_eq!(world.sessions_in_folder(), here, "{lane}");
        }
        assert_quiet(world, &format!("Task {id} "));
    }
}

/// What a tool leaves behind ends with its job, and only with its own.
pub(super) fn what_outlives_a_tool_ends_with_its_job(world: &World) {
    let leaves = "bash:setsid sleep 120.5 > /dev/null 2>&1 &,text:DONE";
    for (lane, _) in LANES {
        let id = format!("leaves-{lane}");
        world.try_start(&id, leaves, &["--lane", lane]).assert_code(0);
        let end = world.ends(&id);
        assert_eq!(
            (&end["state"], &end["outcome"]["strays"]),
            (&json!("exited_ok"), &json!(1)),
            "{lane}: {end:#}"
        );
        assert_eq!(world.sleeper().map(describe), None, "{lane}: what the tool left runs on");
    }
    // Wherever it works, and whoever else is at work in the same place: what somebody else's session has left goes on.
    let client = world.client();
    let client = client.in_directory(&world.folder.display().to_string());
    let session = client.create_session("somebody else's", &[], None, SOON).unwrap();
    let model = dx_opencode::ModelRef { provider: "mock".to_owned(), model: "m1".to_owned() };
    let prompted = |command: &str| {
        let text = format!("theirs [[mock:bash:{command},text:DONE]]");
        let parts = [dx_opencode::TextPart::new(&text)];
        let (agent, system) = (None, None);
        let prompt = dx_opencode::Prompt { message: None, model: &model, agent, system, format: None, parts };
        client.prompt_async(&session.id, &prompt, SOON).unwrap();
    };
    let goes_on = |go: &str| format!("until test -e {}; do sleep 0.1; done", world.env.path(go).display());
    prompted(&format!("setsid sleep 121.5 > /dev/null 2>&1 & {}", goes_on("go-1")));
    wait_until(SOON, "theirs is left", || !world.sleepers("121.5").is_empty());
    let elsewhere =
        "bash:echo $SHELL > shell.txt; setsid sh -c 'cd /; exec sleep 120.5' > /dev/null 2>&1 &,text:DONE";
    world.try_start("beside", elsewhere, &["--lane", "server"]).assert_code(0);
    let end = world.ends("beside");
    let strays =
        |end: &Value| (end["outcome"]["strays"].clone(), end["outcome"]["strays_left"].as_u64().unwrap_or(0));
    assert_eq!((&end["state"], strays(&end)), (&json!("exited_ok"), (json!(1), 0)), "{end:#}");
    assert_eq!((world.sleepers("120.5"), world.sleepers("121.5").len()), (vec![], 1));
    // A tool sees the user's shell.
    let shell = std::fs::read_to_string(world.folder.join("shell.txt")).unwrap();
    assert!(shell.starts_with('/') && !shell.contains("server-shell"), "{shell}");
    std::fs::write(world.env.path("go-1"), "").unwrap();
    // Both run the same at the same time: what may be theirs is left, and counted.
    let same = format!("setsid sleep 120.5 > /dev/null 2>&1 & {}", goes_on("go-2"));
    world.try_start("same", &format!("bash:{same},text:DONE"), &["--lane", "server"]).assert_code(0);
    wait_until(SOON, "ours is left", || world.sleepers("120.5").len() == 1);
    let ours = world.sleepers("120.5");
    prompted(&same);
    wait_until(SOON, "theirs is left", || world.sleepers("120.5").len() == 2);
    std::fs::write(world.env.path("go-2"), "").unwrap();
    let end = world.ends("same");
    let (ended, left) = strays(&end);
    let alive = world.sleepers("120.5");
    assert_eq!((ended.as_u64().unwrap() + left, alive.len() as u64), (2, left), "{end:#}");
    assert!(alive.iter().any(|pid| !ours.contains(pid)), "theirs goes on: {end:#}");
    for pid in alive.into_iter().chain(world.sleepers("121.5")) {
        send_signal(pid, 9);
    }
    wait_until(SOON, "their session has ended", || client.statuses(SOON).unwrap().is_empty());
    client.delete(&session.id, SOON).unwrap();
}

/// A server knows why a session is silent: its model is asked, or will be asked again when a limit has passed.
pub(super) fn a_silent_session_is_as_the_server_says(world: &World) {
    let id = |lane: &str, reason: &str| format!("silent-{lane}-{reason}");
    let is_so = |id: &str, reason: &str| {
        let output = world.env.run(&["check", "--json", "--beads", id]);
        let now = document(&world.env, "check", &output.stdout);
        (&now["state"], &now["reason_code"]) == (&json!("healthy"), &json!(reason))
    };
    let lanes = ["attach", "server"];
    for (scenario, reason) in [("hang", "provider_event"), ("429:after=86400", "rate_limited_waiting")] {
        for lane in lanes {
            world.try_start(&id(lane, reason), scenario, &["--lane", lane]).assert_code(0);
            if lane == "attach" {
                wait_until(SOON, "the model is asked", || world.calls_of(&id(lane, reason)) > 0);
            }
        }
        for lane in lanes {
            let what = format!("{lane}: the server's word is the job's health");
            wait_until(SOON, &what, || is_so(&id(lane, reason), reason));
        }
    }
    // Others are told of a limit that is known, and would not start.
    let pools = std::fs::read_to_string(world.env.state_dir().join("pools.jsonl")).unwrap();
    assert!(pools.contains("until"), "{pools}");
    for reason in ["provider_event", "rate_limited_waiting"] {
        world
            .run(&["stop", "--beads", &id("server", reason), "--beads", &id("attach", reason)])
            .assert_code(0);
    }
    std::fs::remove_file(world.env.state_dir().join("pools.jsonl")).unwrap();
}

pub(super) fn a_killed_driver_never_prompts_again(world: &World) {
    for lane in ["server", "attach"] {
        let (id, here) = (format!("killed-{lane}"), world.sessions_in_folder());
        world.try_start(&id, "bash:sleep 120.5,text:NEVER", &["--lane", lane]).assert_code(0);
        wait_until(SOON, "the tool runs", || world.sleeper().is_some());
        let asked = world.calls_of(&id);
        send_signal(read_pid(world.view(&id, "pid")), 9);
        let end = world.ends(&id);
        let told = (&end["state"], &end["outcome"]["exit_code"]);
        assert_eq!(told, (&json!("exited_err"), &json!("137")), "{end:#}");
        assert_eq!(world.sleeper().map(describe), None, "{lane}: the tool runs on");
        assert_eq!(world.sessions_in_folder(), here, "{lane}");
        assert_quiet(world, &format!("Task {id} "));
        assert_eq!(world.calls_of(&id), asked, "{lane}: it was prompted again");
    }
}

/// A server that is not ours: its password is known to who starts, and afterwards to nobody who could be asked.
pub(super) fn a_password_that_only_the_start_knew(world: &World) {
    let (folder, state) =
        (world.folder.display().to_string(), world.env.path("foreign").display().to_string());
    for lane in ["server", "attach"] {
        let (id, here) = (format!("foreign-{lane}"), world.sessions_in_folder());
        let task = world.env.path("foreign-task");
        std::fs::write(&task, format!("Task {id} [[mock:bash:sleep 120.5,text:NEVER]]")).unwrap();
        let mut command = world.env.product();
        command.env("OPENCODE_SERVER_PASSWORD", world.password()).args(["--state-dir", &state, "start"]);
        command
            .args(["--beads", &id, "--provider", "opencode", "--worktree", &folder, "--prompt-file"])
            .arg(&task);
        command.args([
            "--model",
            "mock/m1",
            "--allow-model-override",
            "--lane",
            lane,
            "--server",
            &world.url,
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        wait_until(SOON, "the tool runs", || world.sleeper().is_some());
        send_signal(read_pid(std::path::Path::new(&state).join(format!("opencode/{id}.pid"))), 9);
        let end = world.env.run(&["--state-dir", &state, "wait", "--json", "--beads", &id]);
        let end = document(&world.env, "check", &end.stdout);
        assert_eq!(end["outcome"]["exit_code"], "137", "{end:#}");
        assert_eq!(world.sleeper().map(describe), None, "{lane}: the tool runs on");
        assert_eq!(world.sessions_in_folder(), here, "{lane}");
        assert_quiet(world, &format!("Task {id} "));
    }
    let holders = crate::world::files_with(std::path::Path::new(&state), &world.password());
    assert_eq!(holders, Vec::<std::path::PathBuf>::new());
}

pub(super) fn a_lane_that_cannot_be_used(world: &World) {
    let dead = ["--server", "http://127.0.0.1:9"];
    for lane in ["server", "attach"] {
        let output =
            world.try_start("lane-dead", "text:x", &[&["--lane", lane, "--json"], &dead[..]].concat());
        let error = error_of(&world.env, &output);
        assert_eq!((&error["reason_code"], output.code), (&json!("server_unreachable"), 27), "{error:#}");
    }
    world.run(&["check", "--beads", "lane-dead"]).assert_code(1);
    // The next one in the list is tried, and the record says why.
    let more = [&["--lane", "attach,run"], &dead[..]].concat();
    world.try_start("lane-next", "text:HEADLESS", &more).assert_code(0);
    let end = world.ends("lane-next");
    assert_eq!(end["outcome"]["execution_mode"], "detached", "{end:#}");
    assert_eq!(end["fallback_reason"], "lane attach: server_unreachable", "{end:#}");
    // So it is for who waits for a turn.
    world.try_start("lane-queued", "text:HEADLESS", &[&more[..], &["--queue"]].concat()).assert_code(0);
    assert_eq!(world.ends("lane-queued")["fallback_reason"], "lane attach: server_unreachable");
    // What needs a sandbox, or has no such lane, is refused.
    let strict = world.try_start("lane-strict", "text:x", &["--lane", "server", "--sandbox", "strict"]);
    assert!(strict.stderr.contains("reason: sandbox_unavailable"), "{strict}");
    // The tools have the server's environment.
    let env = world.try_start("lane-env", "text:x", &["--lane", "server", "--env", "A=b"]);
    assert!(env.code == 64 && env.stderr.contains("--env"), "{env}");
    let unknown = world.try_start("lane-model", "text:x", &["--lane", "server", "--model", "mock/m9"]);
    assert_ne!(unknown.code, 0, "{unknown}");
    let folder = world.folder.display().to_string();
    let exec = ["start", "--provider", "exec", "--lane", "server", "--worktree", &folder, "--", "true"];
    let refused = world.run(&exec).assert_code(27);
    assert!(refused.stderr.contains("reason: provider_lane_unavailable"), "{refused}");
}

/// The last one: there is another server afterwards.
pub(super) fn a_server_that_dies_is_told(world: &World) {
    for lane in ["server", "attach"] {
        let id = format!("crash-{lane}");
        world.try_start(&id, "hang", &["--lane", lane]).assert_code(0);
        wait_until(SOON, "the model is asked", || world.calls_of(&id) > 0);
        send_signal(world.server_pid(), 9);
        let end = world.ends(&id);
        assert_eq!(end["state"], "exited_err", "{end:#}");
        assert_ne!(end["outcome"]["state"], "success", "{end:#}");
        assert_eq!(end["reason_code"], "provider_unreachable", "{lane}: {end:#}");
        world.json("server", 0, &["server", "start"]);
    }
}
