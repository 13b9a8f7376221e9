//! Members that are agents' command lines: `claude:`, `gemini:` and `codex:`, with the real programs.
//!
//! Needs `DX_TEST_AGENTS_DIR`; without it the tests say that they were left out.

use crate::real_agent::agents_dir;
use crate::world::error_of;
use crate::{document, environment};
use dx_scripted_model::{CallRecord, Scenario, ScriptedModel, codex_config};
use dx_testkit::{TestEnv, processes_with_marker, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A machine under load needs a multiple of what a quiet one does.
const PATIENCE: Duration = Duration::from_mins(4);

/// A name that only Codex's configuration knows.
const CODEX_KEY: &str = "SOME_MAKERS_KEY";

struct World {
    env: TestEnv,
    model: ScriptedModel,
    folder: PathBuf,
}

impl World {
    /// `None` without real agents, which is said.
    fn new() -> Option<Self> {
        let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
        let address = model.root_url();
        Self::at(&address, model)
    }

    /// Agents whose model is at this address.
    fn at(address: &str, model: ScriptedModel) -> Option<Self> {
        let agents = agents_dir()?;
        let mut env = environment().deadline(PATIENCE);
        for name in ["claude", "gemini", "codex"] {
            env.link_program(name, agents.join(name).canonicalize().unwrap());
        }
        for (name, value) in [
            // A question without tools would be taken for housekeeping.
            ("ANTHROPIC_BASE_URL", format!("{address}/plain")),
            ("ANTHROPIC_AUTH_TOKEN", "fake-token-of-claude".to_owned()),
            ("GOOGLE_GEMINI_BASE_URL", format!("{address}/plain")),
            ("GEMINI_API_KEY", "fake-key-of-gemini".to_owned()),
            // As the configuration below names it.
            (CODEX_KEY, "fake-key-of-codex".to_owned()),
        ] {
            env.set(name, value);
        }
        for (file, text) in [
            (
                ".gemini/settings.json",
                r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#.to_owned(),
            ),
            (
                ".codex/config.toml",
                // Its user trusts our tools: nobody is asked.
                codex_config(&format!("{address}/v1"), Some(1)).replace("OPENAI_API_KEY", CODEX_KEY)
                    + "\n[mcp_servers.dx-runner]\ndefault_tools_approval_mode = \"approve\"\n",
            ),
        ] {
            let path = env.home().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        for client in ["claude", "gemini", "codex"] {
            let state = env.state_dir().display().to_string();
            env.run(&["--state-dir", &state, "mcp", "install", "--client", client]).assert_code(0);
        }
        let folder = env.git_repo("asked-about", &[("README.md", "# Asked about\n")]);
        Some(Self { env, model, folder })
    }

    #[track_caller]
    fn ask(&self, code: i32, member: &str, scenario: &str, more: &[&str]) -> Value {
        let prompt = format!("What is it? [[mock:{scenario}]]");
        let head = ["dispatch", "--member", member, "--prompt", &prompt, "--json"];
        let output = self.env.run(&[&head[..], more].concat()).assert_code(code);
        if code == 0 { document(&self.env, "dispatch", &output.stdout) } else { error_of(&self.env, &output) }
    }
}

/// The members, and as what they are asked here.
const MEMBERS: [&str; 3] = ["claude:sonnet", "gemini:gemini-2.5-flash", "codex:gpt-5.5"];

/// Each alone takes its time.
fn each_at_once(case: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for member in MEMBERS {
            let case = &case;
            scope.spawn(move || case(member));
        }
    });
}

#[test]
fn answers_errors_and_deadlines_of_three_command_lines() {
    let Some(world) = World::new() else { return };
    let schema = world.env.path("schema.json");
    std::fs::write(&schema, r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#)
        .unwrap();
    let schema = ["--json-schema", schema.to_str().unwrap()];
    let folder = world.folder.display().to_string();
    let case = |member: &str| {
        let answer = world.ask(0, member, "text:FORTY-TWO", &["--system", "Be brief."]);
        assert_eq!(
            (&answer["answer"], &answer["member"]),
            (&json!("FORTY-TWO"), &json!(member)),
            "{answer:#}"
        );
        assert_eq!(answer["mods"], json!(["custom-system"]));
        let model = member.split_once(':').unwrap().1;
        let told = |call: &CallRecord| {
            (call.model.contains(model) || call.path.contains(model)) && call.text.contains("Be brief.")
        };
        assert!(world.model.calls().iter().any(told), "{member}: the model has the system prompt");
        assert!(answer["tokens_out"].as_u64().unwrap() > 0, "{answer:#}");
        let answer = world.ask(0, member, "text:seven,text:{\"n\":7}", &schema);
        // Each correction is a new conversation, which the scenario may begin anew.
        let corrected = answer["corrections"].as_u64().is_some_and(|count| (1..=2).contains(&count));
        assert!(corrected && answer["structured"] == json!({ "n": 7 }), "{answer:#}");
        let error = world.ask(1, member, "text:never", &schema);
        assert_eq!(error["reason_code"], "schema_mismatch", "{member}: {error:#}");
        let locked = world.ask(10, member, "401", &[]);
        assert_eq!(locked["reason_code"], "auth_missing", "{member}");
        assert!(!locked["next_action"].to_string().contains("opencode auth"), "{member}: {locked}");
        for (code, scenario, reason) in [
            (25, "404", "model_not_found"),
            (1, "429:after=3600", "rate_limited"),
            (1, "500", "server_error"),
            (1, "empty", "empty_response"),
            (1, "text:<tool_call>x</tool_call>", "unparsed_tool_markup"),
        ] {
            // Codex waits for the reset until the deadline; the others need a multiple of their time under load.
            let limit = if member.starts_with("codex") { "25" } else { "90" };
            let error = world.ask(code, member, scenario, &["--timeout", limit]);
            assert_eq!(error["reason_code"], reason, "{member} {scenario}: {error:#}");
        }
        // A question changes nothing, also where it may read.
        world.ask(0, member, "write:made.txt:x,bash:touch made-too.txt,text:DONE", &["--directory", &folder]);
        // Nor in its user's own folder.
        let plan = r#"tool:enter_plan_mode:{"reason":"x"},tool:write_file:{"file_path":"made-plan.md"\,"content":"x"},text:DONE"#;
        world.ask(0, member, plan, &[]);
        assert_eq!(world.env.git(&world.folder, &["status", "--porcelain"]), "", "{member}");
        // Nor through tools that others offer, which its user has installed and trusts.
        for prefix in ["mcp__dx-runner__", "mcp__dx_runner__", "mcp_dx-runner_"] {
            let job = json!({ "provider": "exec", "beads": "escaped", "worktree": folder,
                "command": ["touch", "escaped.txt"] });
            world.ask(
                0,
                member,
                &format!("tool:{prefix}job_start:{job},text:DONE"),
                &["--directory", &folder],
            );
        }
        world.env.run(&["check", "--beads", "escaped"]).assert_code(1);
        assert_eq!(world.env.git(&world.folder, &["status", "--porcelain"]), "", "{member}");
        let refused = world.ask(64, member, "text:x", &["--session", "ses_1"]);
        assert_eq!(refused["reason_code"], "not_supported", "{refused:#}");
    };
    each_at_once(case);
    assert_eq!(folders_of_questions(&world.env), Vec::<PathBuf>::new());
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
    let mut find = world.env.command("find");
    find.arg(world.env.home()).args(["-name", "*.jsonl", "-o", "-name", "made-plan.md"]);
    let kept = world.env.run_command(find).assert_code(0).stdout;
    assert!(!kept.contains("made-plan.md"), "{kept}");
    // Gemini CLI has no way to leave out its own record.
    let kept: Vec<&str> = kept.lines().filter(|path| !path.contains("/.gemini/tmp/")).collect();
    assert_eq!(kept, Vec::<&str>::new());
}

/// Programs that the folder names, and addresses to which credentials would go.
#[test]
fn a_question_about_a_folder_runs_nothing_of_it() {
    let Some(world) = World::new() else { return };
    let ran = world.env.path("ran").display().to_string();
    let hook = |name: &str| json!([{ "hooks": [{ "type": "command", "command": format!("echo {name} >> {ran}") }] }]);
    let nobody = "http://127.0.0.1:9";
    let claude = json!({
        "hooks": { "SessionStart": hook("claude"), "UserPromptSubmit": hook("claude") },
        "env": { "ANTHROPIC_BASE_URL": nobody },
    });
    let gemini = json!({
        "hooks": { "SessionStart": hook("gemini"), "BeforeAgent": hook("gemini"), "BeforeModel": hook("gemini") },
        "hooksConfig": { "enabled": true },
    });
    let servers = json!({ "mcpServers": { "theirs": { "command": "sh", "args": ["-c", format!("echo mcp >> {ran}")] } } });
    for (file, text) in [
        (".claude/settings.json", claude.to_string()),
        (".mcp.json", servers.to_string()),
        (".gemini/settings.json", gemini.to_string()),
        (".gemini/.env", format!("GOOGLE_GEMINI_BASE_URL={nobody}\n")),
        (".env", format!("GOOGLE_GEMINI_BASE_URL={nobody}\n")),
        (".codex/config.toml", format!("notify = [\"sh\", \"-c\", \"echo codex >> {ran}\"]\n")),
    ] {
        let path = world.folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let folder = world.folder.display().to_string();
    each_at_once(|member| {
        let answer = world.ask(0, member, "text:FORTY-TWO", &["--directory", &folder]);
        assert_eq!(answer["answer"], "FORTY-TWO", "{member}");
    });
    assert_eq!(std::fs::read_to_string(&ran).unwrap_or_default(), "");
}

#[test]
fn what_people_see_of_an_answer() {
    let Some(world) = World::new() else { return };
    each_at_once(|member| {
        let name = member.replace(':', "/");
        let prompt = "What is it? [[mock:sleep:1,text:FORTY-TWO]]";
        let more = ["--system", "Be brief.", "--timeout", "90", "--max-chars", "5"];
        let args = [&["dispatch", "--member", member, "--prompt", prompt], &more[..]].concat();
        let begun = Instant::now();
        let printed = world.env.run(&args).assert_code(0).stdout;
        let whole = begun.elapsed().as_secs_f64() + 0.1;
        let head = format!("--- dispatch response from {name} [custom-system, timeout-90s, truncated] (");
        let rest = printed.strip_prefix(&head).unwrap_or_else(|| panic!("{printed}"));
        let (took, rest) = rest.split_once("s) ---\n").unwrap();
        assert_eq!(rest, "FORTY\n[cut: 4 more characters]\n", "{member}");
        // The model's own second is in it, and no more than there was.
        let took: f64 = took.parse().unwrap();
        assert!((1.0..=whole).contains(&took), "{member}: {took} of {whole}");
        let answer = world.ask(0, member, "text:FORTY-TWO", &["--max-chars", "0"]);
        assert_eq!((&answer["answer"], &answer["truncated"]), (&json!("FORTY-TWO"), &json!(false)));
    });
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
}

/// At the deadline the agent ends and with it its calls: the model that it asked sees the connection closed, and hears no more.
#[test]
fn a_deadline_ends_the_agent_and_its_calls() {
    let Some(world) = World::new() else { return };
    let folder = world.folder.display().to_string();
    let more = ["--timeout", "8", "--directory", &folder];
    let of = |member: &str| {
        let calls = world.model.calls().into_iter().filter(|call| call.prompt.contains(member));
        calls.collect::<Vec<_>>()
    };
    each_at_once(|member| {
        // A tool that is called again and again: left alone, the model would be asked without end.
        let reads = ["sleep:2,read:README.md"; 20].join(",");
        for (name, scenario) in [("hang", "hang"), ("begin", "hang-stream"), ("loop", reads.as_str())] {
            let prompt = format!("{member} {name} [[mock:{scenario}]]");
            let args = ["dispatch", "--member", member, "--prompt", &prompt, "--json"];
            let output = world.env.run(&[&args[..], &more].concat()).assert_code(35);
            let error = error_of(&world.env, &output);
            assert_eq!(error["reason_code"], "timeout", "{member} {name}: {error:#}");
            assert!(error["message"].as_str().unwrap().contains("within 8 s"), "{error:#}");
            assert!(!of(&format!("{member} {name} ")).is_empty(), "{member} {name}: the model was asked");
        }
    });
    // Nobody is there who could call.
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
    wait_until(PATIENCE, "the model's calls have ended", || of("[[mock:").iter().all(|call| call.done));
    for member in MEMBERS {
        for name in ["hang", "begin"] {
            let calls = of(&format!("{member} {name} "));
            assert!(calls.iter().all(|call| call.client_gone), "{member} {name}: {calls:#?}");
        }
    }
    assert_eq!(folders_of_questions(&world.env), Vec::<PathBuf>::new());
}

/// What the agents' user has set up for other work: servers of tools, trusted ones, and a model with a key of its own name.
#[test]
fn a_question_has_no_tools_of_the_user() {
    let Some(mut world) = World::new() else { return };
    let started = |name: &str| format!("echo {name} >> {}; cat", world.env.path("started").display());
    let key = codex_config(&world.model.base_url(), Some(1)).replace("OPENAI_API_KEY", "A_KEY_OF_MY_OWN");
    let servers = ["one", "the-other"].map(|name| {
        let script = started(name);
        let head = format!("[mcp_servers.{name}]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n");
        head + "default_tools_approval_mode = \"approve\"\n"
    });
    let codex = key + &servers.concat();
    let server = json!({ "command": "/bin/sh", "args": ["-c", started("of-another")], "trust": true });
    let gemini = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } }, "mcpServers": { "one": server } });
    let claude = json!({ "mcpServers": { "one": server } });
    for (file, text) in [
        (".codex/config.toml", codex),
        (".gemini/settings.json", gemini.to_string()),
        (".claude.json", claude.to_string()),
    ] {
        std::fs::write(world.env.home().join(file), text).unwrap();
    }
    world.env.set("A_KEY_OF_MY_OWN", "fake-key-of-my-own");
    each_at_once(|member| {
        let answer = world.ask(0, member, "text:ALL THE SAME", &[]);
        assert_eq!(answer["answer"], "ALL THE SAME", "{answer:#}");
    });
    let started = world.env.path("started");
    assert!(!started.exists(), "{:?}", std::fs::read_to_string(&started));
    let below = crate::world::files_below(&world.env.home().join(".codex"));
    let sessions: Vec<_> =
        below.iter().filter(|path| path.to_string_lossy().contains("/sessions/")).collect();
    assert!(sessions.is_empty(), "{sessions:?}");
}

#[test]
fn nobody_at_the_models_address() {
    let model = ScriptedModel::start(Scenario::text("never asked")).unwrap();
    let Some(world) = World::at("http://127.0.0.1:9", model) else { return };
    each_at_once(|member| {
        let error = world.ask(1, member, "text:x", &["--timeout", "90"]);
        assert_eq!(error["reason_code"], "server_error", "{member}: {error:#}");
        let message = error["message"].as_str().unwrap();
        assert!(
            ["refused", "fetch failed", "Connection failed"].iter().any(|why| message.contains(why)),
            "{error:#}"
        );
    });
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
    assert_eq!(world.model.calls().len(), 0);
}

#[test]
fn a_batch_of_command_lines_and_giving_up() {
    let Some(world) = World::new() else { return };
    let members = &MEMBERS.join(",");
    let args = ["batch", "--members", members, "--prompt", "x [[mock:text:SAME]]", "--compare", "--json"];
    let told = document(&world.env, "batch", &world.env.run(&args).assert_code(0).stdout);
    assert_eq!((&told["success"], told["groups"][0].as_array().unwrap().len()), (&json!(3), 3), "{told:#}");
    let mut command = world.env.product();
    command.args(["batch", "--members", members, "--prompt", "GIVEN-UP [[mock:hang]]"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = crate::world::spawn(command);
    let asked = || world.model.calls().iter().filter(|call| call.prompt.contains("GIVEN-UP")).count();
    wait_until(PATIENCE, "all are asked", || asked() >= 3);
    dx_testkit::send_signal(i32::try_from(child.id()).unwrap(), 2);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    // Killed, it leaves as little.
    let mut command = world.env.product();
    command.args(["batch", "--members", members, "--prompt", "KILLED [[mock:hang]]"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = crate::world::spawn(command);
    let asked = || world.model.calls().iter().filter(|call| call.prompt.contains("KILLED")).count();
    wait_until(PATIENCE, "all are asked", || asked() >= 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let home = world.env.home().display().to_string();
    wait_until(PATIENCE, "no process is left", || processes_with_marker("HOME", &home).is_empty());
    assert_eq!(folders_of_questions(&world.env), Vec::<PathBuf>::new());
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
}

fn folders_of_questions(env: &TestEnv) -> Vec<PathBuf> {
    let below = crate::world::files_below(&env.state_dir());
    let of_question = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains(".dispatch-") || path.contains("/questions/")
    };
    below.into_iter().filter(of_question).collect()
}
