//! One real OpenCode server, started by us, and everything that is asked through it.

use super::questions::SOON;
use super::{batches, gone, lanes, left, questions, routes};
use crate::real_agent::agents_dir;
use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};
use dx_testkit::{Output, TestEnv};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// For everything that ends by itself, on a machine under load.
const PATIENCE: Duration = Duration::from_mins(4);

/// A server of ours with its model.
pub(super) struct World {
    pub(super) env: TestEnv,
    pub(super) model: ScriptedModel,
    pub(super) url: String,
    pub(super) folder: PathBuf,
}

type Case = (&'static str, fn(&World));
const CASES: &[Case] = &[
    ("a_second_start_finds_it", a_second_start_finds_it),
    ("it_is_private", it_is_private),
    ("probe", probe),
    ("models", models),
    ("an_answer", questions::an_answer),
    ("every_kind_of_task", routes::every_kind_of_task),
    ("some_routes", routes::some_routes),
    ("routes_of_batches", routes::routes_of_batches),
    ("sessions", questions::sessions),
    ("two_in_one_session", questions::two_in_one_session),
    ("a_schema", questions::a_schema),
    ("every_class_of_error", questions::every_class_of_error),
    ("a_prompt_that_reaches_no_model", questions::a_prompt_that_reaches_no_model),
    ("a_timeout_stops_the_work", questions::a_timeout_stops_the_work),
    ("ctrl_c_stops_the_work", questions::ctrl_c_stops_the_work),
    ("nothing_is_changed", questions::nothing_is_changed),
    ("two_repositories", questions::two_repositories),
    ("many_at_once", questions::many_at_once),
    ("a_batch_of_six", batches::a_batch_of_six),
    ("six_members_are_asked_at_once", batches::six_members_are_asked_at_once),
    ("a_judge", batches::a_judge),
    ("a_batch_that_is_given_up", batches::a_batch_that_is_given_up),
    ("a_judge_that_is_killed", batches::a_judge_that_is_killed),
    ("a_killed_question", left::a_killed_question),
    ("a_detached_batch_that_is_killed", left::a_detached_batch_that_is_killed),
    ("the_same_in_every_lane", lanes::the_same_in_every_lane),
    ("a_worktree_is_let_go_with_its_job", lanes::a_worktree_is_let_go_with_its_job),
    ("a_stop_ends_the_sessions_tools", lanes::a_stop_ends_the_sessions_tools),
    ("what_outlives_a_tool_ends_with_its_job", lanes::what_outlives_a_tool_ends_with_its_job),
    ("a_silent_session_is_as_the_server_says", lanes::a_silent_session_is_as_the_server_says),
    ("a_killed_driver_never_prompts_again", lanes::a_killed_driver_never_prompts_again),
    ("a_password_that_only_the_start_knew", lanes::a_password_that_only_the_start_knew),
    ("a_lane_that_cannot_be_used", lanes::a_lane_that_cannot_be_used),
    ("a_server_that_hangs", gone::a_server_that_hangs),
    ("a_server_that_died_leaves_no_session", gone::a_server_that_died_leaves_no_session),
    ("a_start_right_after_a_death", gone::a_start_right_after_a_death),
    ("who_has_a_dead_servers_port_gets_nothing", gone::who_has_a_dead_servers_port_gets_nothing),
    ("a_server_that_dies_is_told", lanes::a_server_that_dies_is_told),
];

#[test]
fn the_real_server() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let world = World::new(&agents.join("opencode"));
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let begun = Instant::now();
        let went_well = catch_unwind(AssertUnwindSafe(|| case(&world))).is_ok();
        let word = if went_well { "ok" } else { "FAILED" };
        println!("{name}: {word} in {:.1} s", begun.elapsed().as_secs_f64());
        if !went_well {
            failed.push(*name);
        }
    }
    stop(&world);
    assert!(failed.is_empty(), "{failed:?}");
}

impl World {
    pub(super) fn new(opencode: &Path) -> Self {
        assert!(opencode.is_file(), "{} is missing", opencode.display());
        let mut env = environment().deadline(PATIENCE);
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        env.link_program("opencode", opencode);
        let mut config = opencode_config(&model.plain_url());
        // A provider whose address nobody answers at, and one that has no credentials.
        config["provider"]["dead"] = config["provider"]["mock"].clone();
        config["provider"]["dead"]["options"]["baseURL"] = json!("http://127.0.0.1:9/v1");
        // Six members that behave as their address says.
        let mut enabled = vec!["mock".to_owned(), "dead".to_owned()];
        for (name, scenario) in batches::MEMBERS {
            let mut provider = config["provider"]["mock"].clone();
            provider["options"]["baseURL"] = json!(model.plain_url_for(&scenario.parse().unwrap()));
            config["provider"][name] = provider;
            enabled.push(name.to_owned());
        }
        // Those of the routes are configured in one project only.
        enabled.extend(routes::PROVIDERS.map(str::to_owned));
        config["enabled_providers"] = json!(enabled);
        env.set("OPENCODE_CONFIG_CONTENT", config.to_string());
        env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        env.set("DX_RUNNER_GRACE_MS", "1000");
        env.set("DX_RUNNER_SANDBOX_WRITE", "");
        let folder = env.git_repo("asked-about", &[("README.md", "# Asked about\n")]);
        let mut world = Self { env, model, url: String::new(), folder };
        let started = world.json("server", 0, &["server", "start"]);
        assert_eq!(started["status"], "running", "{started:#}");
        assert_eq!(started["changed"], true);
        started["url"].as_str().unwrap().clone_into(&mut world.url);
        world
    }

    /// Runs a command that prints one document, checked by its schema.
    #[track_caller]
    pub(super) fn json(&self, schema: &str, code: i32, args: &[&str]) -> Value {
        let output = self.env.run(&[args, &["--json"]].concat()).assert_code(code);
        document(&self.env, schema, &output.stdout)
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.env.run(args)
    }

    /// What the file with the server's address and password says.
    fn access(&self, key: &str) -> String {
        let text = std::fs::read_to_string(self.env.state_dir().join("server.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()[key].as_str().unwrap().to_owned()
    }

    pub(super) fn password(&self) -> String {
        self.access("password")
    }

    /// A client of the server as it is now: after another start it has another address.
    pub(super) fn client(&self) -> dx_opencode::Client {
        dx_opencode::Client::new(&self.access("url"), Some(&self.password())).unwrap()
    }

    pub(super) fn server_pid(&self) -> i32 {
        dx_testkit::read_pid(self.env.state_dir().join("opencode-server/server.pid"))
    }
}

fn a_second_start_finds_it(world: &World) {
    let again = world.json("server", 0, &["server", "start"]);
    assert_eq!((again["changed"].as_bool(), again["url"].as_str()), (Some(false), Some(world.url.as_str())));
    let status = world.json("server", 0, &["server", "status"]);
    assert_eq!(status["status"], "running");
    assert!(!world.url.ends_with(":4096"), "the port is a free one");
    // It is a job like any other, and a silent one is well.
    let check = world.env.run(&["check", "--beads", "server", "--json"]).assert_code(0);
    assert!(check.stdout.contains("\"healthy\"") || check.stdout.contains("\"launching\""), "{check}");
    // It does not pretend to be where somebody else would have it.
    for other in [["--port", "1"], ["--hostname", "::1"]] {
        let refused = world.run(&[&["server", "start"], &other[..]].concat()).assert_code(32);
        assert!(
            refused.stderr.contains("server_elsewhere") && refused.stderr.contains(&world.url),
            "{refused}"
        );
    }
    let port = world.url.rsplit(':').next().unwrap();
    let there = ["server", "start", "--hostname", "localhost", "--port", port];
    assert_eq!(world.json("server", 0, &there)["changed"], false);
    // Its port is nobody else's.
    let other = world.env.path("other-port");
    let args = ["--state-dir", other.to_str().unwrap(), "server", "start", "--port", port];
    let refused = world.env.run(&args).assert_code(1);
    assert!(refused.stderr.contains("is in use") && !refused.stderr.contains('\u{1b}'), "{refused}");
    assert!(refused.stderr.contains("try: --port"), "{refused}");
    // It is not started as an agent.
    let refused = world.env.run(&[
        "start",
        "--provider",
        "opencode-server",
        "--worktree",
        world.folder.to_str().unwrap(),
    ]);
    assert_eq!(refused.code, 64, "{refused}");
    assert!(refused.stderr.contains("dx-runner server start"), "{refused}");
}

fn it_is_private(world: &World) {
    let file = world.env.state_dir().join("server.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let password = world.password();
    let holders = crate::world::files_with(&world.env.state_dir(), &password);
    assert_eq!(holders, [file]);
    let mut shown = String::new();
    for args in [&["server", "status", "--json"][..], &["report", "--beads", "server", "--format", "json"]] {
        shown += &world.run(args).to_string();
    }
    assert!(!shown.contains(&password));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(&password), "{}", entry.path().display());
    }
    // Somebody with another state directory neither finds it nor gets in.
    let other = world.env.path("other-state").display().to_string();
    let output = world.run(&["--state-dir", &other, "probe-attach", "--url", &world.url]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stdout.contains("server_password_refused"), "{output}");
    let output = world.run(&["--state-dir", &other, "server", "status"]).assert_code(1);
    assert_eq!(output.stdout, "stopped\n");
    // Another user does not even when told where it is. Only root can become one.
    if rustix::process::geteuid().is_root() {
        let state = world.env.state_dir().display().to_string();
        let mut command = world.env.command("setpriv");
        let runner = Path::new(env!("CARGO_BIN_EXE_dx-runner"));
        command.args(["--reuid", "65534", "--clear-groups"]).arg(runner);
        let output = command.args(["--state-dir", &state, "server", "status"]).output().unwrap();
        let said = format!("{output:?}");
        assert!(!output.status.success() && !said.contains("running") && !said.contains(&password), "{said}");
    }
}

fn probe(world: &World) {
    let calls = world.model.calls().len();
    let folder = world.folder.display().to_string();
    for args in [
        &["probe-attach", "--url", &world.url][..],
        &["probe-attach", "--url", &world.url, "--directory", &folder],
    ] {
        let told = world.json("probe-attach", 0, args);
        assert_eq!((&told["status"], &told["reason_code"]), (&json!("ok"), &json!("attach_ready")), "{told}");
        assert!(told["version"].as_str().unwrap().starts_with("1."), "{told}");
    }
    // As people were told to use it.
    let pattern = r#"if dx-runner probe-attach --url "$OPENCODE_URL" --json 2>/dev/null | jq -e '.status == "ok"' >/dev/null; then
    echo attach
else
    echo headless
fi"#;
    for (url, lane) in [(world.url.as_str(), "attach\n"), ("http://127.0.0.1:9", "headless\n")] {
        let bins = Path::new(env!("CARGO_BIN_EXE_dx-runner")).parent().unwrap();
        let mut shell = world.env.command("sh");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bins.display());
        shell.args(["-c", pattern]).env("OPENCODE_URL", url).env("PATH", path).stdin(Stdio::null());
        let output = shell.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), lane, "{output:?}");
    }
    assert_eq!(world.model.calls().len(), calls, "no model is asked");
}

fn models(world: &World) {
    let told = world.json("models", 0, &["models"]);
    let ids: Vec<&str> =
        told["providers"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"mock") && ids.contains(&"dead"), "{told:#}");
    assert!(!told.to_string().contains("fake"), "a key is shown: {told}");
    let output = world.run(&["models", "--provider", "mock"]).assert_code(0);
    assert_eq!(output.stdout, "mock/m1\nmock/m2\n");
    let output = world.run(&["models", "--provider", "nobody"]).assert_code(27);
    assert!(output.stderr.contains("reason: provider_not_connected"), "{output}");
}

fn stop(world: &World) {
    let told = world.json("server", 0, &["server", "stop", "--grace", "5s"]);
    assert_eq!((told["status"].as_str(), told["changed"].as_bool()), (Some("stopped"), Some(true)));
    // The processes of ours go a moment after the end is published.
    world.env.assert_ended(SOON);
    let again = world.json("server", 0, &["server", "stop"]);
    assert_eq!(again["changed"], false);
    assert!(!world.env.state_dir().join("server.json").exists());
    let output = world.run(&["models"]);
    assert!(output.code == 27 || output.code == 0, "somebody else's server may be on port 4096: {output}");
    if output.code == 27 {
        assert!(output.stderr.contains("dx-runner server start"), "{output}");
    }
}
