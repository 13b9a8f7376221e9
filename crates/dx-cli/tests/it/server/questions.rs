//! Questions through the real server: answers, sessions, schemas, and every way in which none comes.

use super::real::World;
use crate::document;
use crate::world::error_of;
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

pub(super) const SOON: Duration = Duration::from_mins(1);
pub(super) const M1: [&str; 2] = ["--member", "opencode:mock/m1"];

impl World {
    /// Asks with a scenario; the answer's document.
    #[track_caller]
    pub(super) fn asks(&self, scenario: &str, more: &[&str]) -> Value {
        let prompt = format!("What is it? [[mock:{scenario}]]");
        let args = [&["dispatch", "--prompt", &prompt, "--json"], &M1[..], more].concat();
        let output = self.env.run(&args).assert_code(0);
        document(&self.env, "dispatch", &output.stdout)
    }

    /// Asks in vain; the error.
    #[track_caller]
    pub(super) fn asks_in_vain(&self, code: i32, reason: &str, prompt: &str, more: &[&str]) -> Value {
        let args = [&["dispatch", "--prompt", prompt, "--json"], more].concat();
        let output = self.env.run(&args).assert_code(code);
        let error = error_of(&self.env, &output);
        assert_eq!(error["reason_code"], reason, "{error:#}");
        error
    }

    /// The ids of the server's sessions.
    pub(super) fn sessions(&self) -> Vec<String> {
        let client = self.client();
        let mut ids: Vec<String> =
            client.sessions(SOON).unwrap().into_iter().map(|session| session.id).collect();
        ids.sort();
        ids
    }

    /// The same of the folder that is asked about.
    pub(super) fn sessions_in_folder(&self) -> Vec<String> {
        let client = self.client();
        let folder = client.in_directory(&self.folder.display().to_string());
        folder.sessions(SOON).unwrap().into_iter().map(|session| session.id).collect()
    }

    /// Model calls whose prompt has these words.
    pub(super) fn calls(&self, words: &str) -> usize {
        self.model.calls().iter().filter(|call| call.prompt.contains(words)).count()
    }
}

pub(super) fn an_answer(world: &World) {
    let before = world.sessions();
    let answer = world.asks("text:FORTY-TWO", &[]);
    assert_eq!((&answer["answer"], &answer["session"]), (&json!("FORTY-TWO"), &json!("-")), "{answer:#}");
    assert_eq!(answer["mods"], json!([]));
    assert_eq!(world.sessions(), before, "the session is deleted");
    let args = [
        "dispatch",
        "--prompt",
        "x [[mock:text:SHORT]]",
        "--member",
        "opencode:mock/m2",
        "--system",
        "Be brief.",
        "--timeout",
        "60",
        "--max-chars",
        "3",
    ];
    let printed = world.env.run(&args).assert_code(0).stdout;
    let (head, rest) = printed.split_once('\n').unwrap();
    let mods = "[custom-system, timeout-60s, truncated]";
    assert!(head.starts_with(&format!("--- dispatch response from mock/m2 {mods} (")), "{head}");
    assert!(head.ends_with("s) ---"), "{head}");
    assert_eq!(rest, "SHO\n[cut: 2 more characters]\n");
    let told = |words: &str| {
        world.model.calls().iter().any(|call| call.prompt.contains(words) && call.text.contains("Be brief."))
    };
    assert!(told("text:SHORT"), "the model has the system prompt");
    let args = [&["dispatch", "--prompt", "-"], &M1[..]].concat();
    let printed = world.env.run_with_stdin(&args, "x [[mock:text:FROM-STDIN]]").assert_code(0).stdout;
    assert!(printed.ends_with("\nFROM-STDIN\n"), "{printed:?}");
    // A model says nothing to the terminal.
    let args = [&["dispatch", "--prompt", "x [[mock:text:A\u{1b}cB]]"], &M1[..]].concat();
    let printed = world.env.run(&args).assert_code(0).stdout;
    assert!(printed.contains("A\\u{1b}cB"), "{printed:?}");
}

pub(super) fn sessions(world: &World) {
    let kept = world.asks("text:FIRST", &["--keep-session"]);
    let id = kept["session"].as_str().unwrap().to_owned();
    assert!(world.sessions().contains(&id));
    let again = world.asks("text:SECOND", &["--session", &id]);
    assert_eq!((&again["answer"], &again["session"]), (&json!("SECOND"), &json!(id)));
    let last = world.asks("text:THIRD", &["--session", &id, "--cleanup"]);
    assert_eq!(last["session"], "-");
    assert!(!world.sessions().contains(&id));
    for (code, reason, id) in
        [(1, "server_refused", "ses_0000"), (64, "invalid_argument", ""), (64, "invalid_argument", "../x")]
    {
        let error = world.asks_in_vain(code, reason, "x", &[&M1[..], &["--session", id]].concat());
        assert!(error["next_action"].as_str().unwrap().contains("--keep-session"), "{error}");
    }
    // A session of somebody else lets its model change what it likes.
    let (folder, client) = (world.folder.display().to_string(), world.client());
    let client = client.in_directory(&folder);
    let rules = [dx_opencode::Permission { permission: "bash", pattern: "*", action: "allow" }];
    for rules in [&[][..], &rules] {
        let theirs = client.create_session("theirs", rules, None, SOON).unwrap();
        let prompt = "x [[mock:bash:touch written,text:END]]";
        world.asks_in_vain(64, "invalid_argument", prompt, &[&M1[..], &["--session", &theirs.id]].concat());
        client.delete(&theirs.id, SOON).unwrap();
    }
    assert!(!world.folder.join("written").exists());
    // One that is kept although no answer came is told.
    let keep = [&M1[..], &["--keep-session"]].concat();
    let error = world.asks_in_vain(10, "auth_missing", "x [[mock:401]]", &keep);
    let message = error["message"].as_str().unwrap();
    let id = message.split(' ').find(|word| word.starts_with("ses_")).unwrap();
    assert!(world.sessions().iter().any(|session| session == id), "{message}");
    world.asks("text:LAST", &["--session", id, "--cleanup"]);
}

/// Whoever asks in a session that is at work waits, and gets the answer to its own prompt, whatever others send there.
pub(super) fn two_in_one_session(world: &World) {
    let kept = world.asks("text:FIRST", &["--keep-session"]);
    let id = kept["session"].as_str().unwrap();
    let session = ["--session", id];
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.asks("sleep:5,text:OF-THE-FIRST", &session));
        wait_until(SOON, "the model is asked", || world.calls("OF-THE-FIRST") > 0);
        let late = [&M1[..], &session, &["--timeout", "1"]].concat();
        world.asks_in_vain(35, "timeout", "x [[mock:text:TOO-LATE]]", &late);
        let client = world.client();
        let model = dx_opencode::ModelRef { provider: "mock".to_owned(), model: "m1".to_owned() };
        let parts = [dx_opencode::TextPart::new("x [[mock:text:OF-SOMEBODY-ELSE]]")];
        let prompt = dx_opencode::Prompt {
            message: None,
            model: &model,
            agent: None,
            system: None,
            format: None,
            parts,
        };
        client.prompt_async(id, &prompt, SOON).unwrap();
        world.asks_in_vain(10, "auth_missing", "x [[mock:401]]", &[&M1[..], &session].concat());
        assert_eq!(first.join().unwrap()["answer"], "OF-THE-FIRST");
    });
    assert_eq!((world.calls("TOO-LATE"), world.calls("OF-SOMEBODY-ELSE") > 0), (0, true));
    world.asks("text:LAST", &["--session", id, "--cleanup"]);
    assert!(!world.sessions().iter().any(|session| session == id));
}

pub(super) fn a_schema(world: &World) {
    let file = world.env.path("schema.json");
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"],
        "additionalProperties": false });
    std::fs::write(&file, schema.to_string()).unwrap();
    let file = file.display().to_string();
    let with = ["--json-schema", file.as_str()];
    let good = "tool:StructuredOutput:{\"n\":7}";
    let answer = world.asks(good, &with);
    assert_eq!(
        (&answer["structured"], &answer["corrections"]),
        (&json!({ "n": 7 }), &json!(0)),
        "{answer:#}"
    );
    assert_eq!(answer["mods"], json!(["structured-json"]));
    // Words first, or a value of the wrong type; then one that fits.
    let answer = world.asks(&format!("text:seven,{good}"), &with);
    assert_eq!(
        (&answer["structured"], &answer["corrections"]),
        (&json!({ "n": 7 }), &json!(1)),
        "{answer:#}"
    );
    let wrong = "tool:StructuredOutput:{\"n\":\"x\"}";
    let answer = world.asks(&format!("text:{{\"n\":\"x\"}},{good}"), &with);
    assert_eq!(
        (&answer["structured"], &answer["corrections"]),
        (&json!({ "n": 7 }), &json!(1)),
        "{answer:#}"
    );
    let in_vain = |scenario: &str| {
        let before = world.sessions();
        let prompt = format!("x [[mock:{scenario}]]");
        world.asks_in_vain(1, "schema_mismatch", &prompt, &[&M1[..], &with].concat());
        assert_eq!(world.sessions(), before);
    };
    in_vain("text:never");
    world.asks_in_vain(1, "empty_response", "x [[mock:empty]]", &[&M1[..], &with].concat());
    // The server does not look at the value's types.
    in_vain(wrong);
}

pub(super) fn every_class_of_error(world: &World) {
    let before = world.sessions();
    let fails = |code, reason: &str, scenario: &str| {
        let prompt = format!("x [[mock:{scenario}]]");
        world.asks_in_vain(code, reason, &prompt, &[&M1[..], &["--timeout", "60"]].concat())
    };
    fails(10, "auth_missing", "401");
    fails(1, "rate_limited", "429:after=1");
    fails(1, "rate_limited", "429:after=3600");
    fails(1, "server_error", "500");
    fails(1, "server_error", "garbage");
    let broken = fails(1, "server_error", "drop");
    assert!(!broken["message"].as_str().unwrap().contains("never reached"), "{broken}");
    fails(1, "empty_response", "empty");
    fails(1, "unparsed_tool_markup", "text:<tool_call>x</tool_call>");
    fails(25, "model_not_found", "404");
    // Somebody else stops it.
    let mut command = world.env.product();
    command.args(["dispatch", "--prompt", "STOPPED [[mock:hang]]", "--json"]).args(M1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = crate::world::spawn(command);
    wait_until(SOON, "the model is asked", || world.calls("STOPPED") > 0);
    let client = world.client();
    let ids = world.sessions();
    client.abort(ids.iter().find(|id| !before.contains(id)).unwrap(), SOON).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("\"reason_code\":\"aborted\""), "{said}");
    // One refusal is got over.
    let prompt = "x [[mock:429:after=1,text:AFTER-ALL]]";
    let output = world.env.run(&[&["dispatch", "--prompt", prompt], &M1[..]].concat()).assert_code(0);
    assert!(output.stdout.contains("AFTER-ALL"), "{output}");
    assert_eq!(world.sessions(), before);
}

/// What blocked people before: no model is ever asked, and nobody says so.
pub(super) fn a_prompt_that_reaches_no_model(world: &World) {
    let before = (world.sessions(), world.calls("NEVER-SENT"));
    let vain = |code, reason: &str, member: &str| {
        world.asks_in_vain(code, reason, "NEVER-SENT", &["--member", member, "--timeout", "60"])
    };
    let error = vain(25, "model_not_found", "opencode:mock/m9");
    assert!(error["next_action"].as_str().unwrap().contains("mock/m"), "{error}");
    let error = vain(27, "provider_not_connected", "opencode:nobody/m1");
    assert!(error["next_action"].as_str().unwrap().contains("mock"), "{error}");
    // The provider is configured, and nobody answers at its address: the server would try for minutes.
    let error = vain(1, "server_error", "opencode:dead/m1");
    assert!(error["message"].as_str().unwrap().contains("never reached a model"), "{error}");
    assert!(error["next_action"].as_str().unwrap().contains("base URL"), "{error}");
    assert_eq!((world.sessions(), world.calls("NEVER-SENT")), before);
    // The server takes the prompt, says that it is busy, and never asks a model: something of its own hangs.
    let folder = world.env.git_repo("stuck", &[("README.md", "# Stuck\n")]);
    let plugin = folder.join("stuck.js");
    let hangs = "export const Stuck = async () => ({ \"chat.message\": async (input, output) => {\n\
                 if (JSON.stringify(output).includes(\"NEVER-SENT\")) await new Promise(() => {});\n} });\n";
    std::fs::write(&plugin, hangs).unwrap();
    let config = json!({ "plugin": [format!("file://{}", plugin.display())] });
    std::fs::write(folder.join("opencode.json"), config.to_string()).unwrap();
    let folder = folder.display().to_string();
    // The server looks for what plugins need, which takes it half a minute.
    let is_ready = || world.run(&["models", "--directory", &folder]).code == 0;
    wait_until(3 * SOON, "the project is set up", is_ready);
    let more = [&M1[..], &["--directory", &folder]].concat();
    let error = world.asks_in_vain(1, "server_error", "NEVER-SENT", &more);
    assert!(error["message"].as_str().unwrap().contains("never reached a model"), "{error}");
    assert_eq!((world.sessions(), world.calls("NEVER-SENT")), before);
    // So it is when others of the same project are well and busy, and say so all the time.
    let mut command = world.env.product();
    let busy = ["dispatch", "--prompt", "WELL-AND-BUSY [[mock:slow:0.2]]", "--directory", &folder];
    command.args([&busy[..], &M1, &["--timeout", "60"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let others: Vec<_> = [command].into_iter().map(crate::world::spawn).collect();
    wait_until(SOON, "the other one is asked", || world.calls("WELL-AND-BUSY") > 0);
    let error = world.asks_in_vain(1, "server_error", "NEVER-SENT", &more);
    assert!(error["message"].as_str().unwrap().contains("never reached a model"), "{error}");
    assert!(!error["next_action"].as_str().unwrap().contains("--timeout"), "{error}");
    for child in others {
        dx_testkit::send_signal(i32::try_from(child.id()).unwrap(), 2);
        child.wait_with_output().unwrap();
    }
    assert_eq!((world.sessions(), world.calls("NEVER-SENT")), before);
    world.asks_in_vain(
        27,
        "server_unreachable",
        "x",
        &[&M1[..], &["--server", "http://127.0.0.1:9"]].concat(),
    );
}

pub(super) fn a_timeout_stops_the_work(world: &World) {
    let before = world.sessions();
    // A tool that the model calls again and again: left alone, the model would be asked without end.
    let folder = world.folder.display().to_string();
    let more = ["--timeout", "5", "--directory", &folder];
    for scenario in
        ["hang", "hang-stream", "sleep:2,read:README.md,sleep:2,read:README.md,sleep:2,read:README.md,hang"]
    {
        let prompt = format!("TIMED-OUT [[mock:{scenario}]]");
        let error = world.asks_in_vain(35, "timeout", &prompt, &[&M1[..], &more].concat());
        assert!(error["message"].as_str().unwrap().contains("5 s"), "{error}");
    }
    assert_eq!(world.sessions(), before);
    assert_quiet(world, "TIMED-OUT");
}

/// The model's calls have ended, and no more come: what the server does is told by its own list.
pub(super) fn assert_quiet(world: &World, words: &str) {
    let mine = || world.model.calls().into_iter().filter(|c| c.prompt.contains(words)).collect::<Vec<_>>();
    wait_until(SOON, "the model's calls have ended", || mine().iter().all(|call| call.done));
    let client = world.client();
    let folder = client.in_directory(&world.folder.display().to_string());
    let count = mine().len();
    wait_until(SOON, "no session works", || {
        client.statuses(SOON).unwrap().is_empty() && folder.statuses(SOON).unwrap().is_empty()
    });
    assert_eq!(mine().len(), count, "the model was asked again");
}

pub(super) fn ctrl_c_stops_the_work(world: &World) {
    let before = world.sessions();
    let mut command = world.env.product();
    let args = [&["dispatch", "--prompt", "GIVEN-UP [[mock:hang]]"], &M1[..]].concat();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = crate::world::spawn(command);
    wait_until(SOON, "the model is asked", || world.calls("GIVEN-UP") > 0);
    dx_testkit::send_signal(i32::try_from(child.id()).unwrap(), 2);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.sessions(), before);
    assert_quiet(world, "GIVEN-UP");
}

pub(super) fn nothing_is_changed(world: &World) {
    let folder = world.folder.display().to_string();
    let answer = world.asks("write:made.txt:x,text:DONE", &["--directory", &folder]);
    assert!(!world.folder.join("made.txt").exists(), "{answer:#}");
    let answer = world.asks("read:README.md,text:READ", &["--directory", &folder]);
    assert_eq!(answer["answer"], "READ", "{answer:#}");
    let refused =
        world.asks_in_vain(22, "worktree_missing", "x", &[&M1[..], &["--directory", "/no/such"]].concat());
    assert!(refused["message"].as_str().unwrap().contains("/no/such"));
}

pub(super) fn many_at_once(world: &World) {
    let before = world.sessions();
    let server = world.server_pid();
    let open = handles(server, &world.model.plain_url());
    std::thread::scope(|scope| {
        for number in 0..50 {
            scope.spawn(move || {
                let token = format!("TOKEN-{number}-END");
                let answer = world.asks(&format!("text:{token}"), &[]);
                assert_eq!(answer["answer"], token.as_str());
            });
        }
    });
    assert_eq!(world.sessions(), before);
    wait_until(SOON, "the server has no more open than before", || {
        handles(server, &world.model.plain_url()) <= open + 5
    });
    let records = std::fs::read_dir(world.env.state_dir().join("questions")).unwrap().count();
    assert_eq!(records, 0);
}

/// What a process has open, connections to its model left out: it keeps those for others for as long as it likes.
fn handles(pid: i32, model: &str) -> usize {
    let port = model.split(':').nth(2).and_then(|rest| rest.split('/').next()?.parse::<u16>().ok()).unwrap();
    let to_model = format!("0100007F:{port:04X}");
    let table = crate::world::read(format!("/proc/{pid}/net/tcp"));
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets: Vec<String> =
        lines.filter(|words| words[2] == to_model).map(|words| format!("socket:[{}]", words[9])).collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let what = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    what.filter(|what| !sockets.iter().any(|socket| what.as_os_str() == socket.as_str())).count()
}

/// One server, two repositories: each has its own configuration and its own sessions.
pub(super) fn two_repositories(world: &World) {
    let folder = |name: &str| {
        let folder = world.env.git_repo(name, &[("README.md", "# One of two\n")]);
        let config =
            json!({ "provider": { "mock": { "models": { format!("only-{name}"): { "name": name } } } } });
        std::fs::write(folder.join("opencode.json"), config.to_string()).unwrap();
        folder.display().to_string()
    };
    let (left, right) = (folder("left"), folder("right"));
    for (here, there, model) in [(&left, &right, "only-left"), (&right, &left, "only-right")] {
        let member = format!("opencode:mock/{model}");
        let ask = |folder: &str, code: i32| {
            let args = ["dispatch", "--member", &member, "--directory", folder, "--json", "--keep-session"];
            world.run(&[&args[..], &["--prompt", "x [[mock:text:HERE]]"]].concat()).assert_code(code)
        };
        assert_eq!(error_of(&world.env, &ask(there, 25))["reason_code"], "model_not_found");
        let kept = document(&world.env, "dispatch", &ask(here, 0).stdout);
        let listed = |folder: &str| {
            let client = world.client();
            let sessions = client.in_directory(folder).sessions(SOON).unwrap();
            sessions.iter().any(|session| session.id == kept["session"].as_str().unwrap())
        };
        assert_eq!((listed(here), listed(there)), (true, false), "{kept:#}");
    }
}
