//! What each role may do, tried out: the model behind the real OpenCode attempts it, and what happens is the table of roles.
//!
//! One server, one session and one repository for each role, all at once. Needs `DX_TEST_AGENTS_DIR`.

use super::live::world;
use crate::world::{read, write};
use dx_opencode::{Client, Event, ModelRef, Prompt, TextPart};
use dx_scripted_model::{Scenario, ScriptedModel, Step, opencode_config};
use dx_testkit::TestEnv;
use dx_workflow::{Effect, Rule, agents, decide, rules_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(8);
/// Calls in one answer of the model.
const AT_ONCE: usize = 20;
/// In every file that a trial writes.
const MARK: &str = "by the trial\n";

/// Files that every role with any right to edit tries to write.
const PATHS: &[&str] = &[
    "src/a.rs",
    "sub/src/a.rs",
    "package.json",
    "docs/a.md",
    "sub/docs/a.md",
    "README.md",
    "sub/README.md",
    "CHANGELOG.md",
    "tests/a.rs",
    "sub/tests/a.rs",
    "a.test.ts",
    "sub/a.test.ts",
    "test_a.py",
    "sub/test_a.py",
    ".ai/context.md",
    ".ai/README.md",
    ".ai/decisions/a.md",
    ".ai/tasks/001-x/task-spec.md",
    ".ai/tasks/001-x/01-u/task-spec.md",
    ".ai/tasks/001-x/state.json",
    ".ai/tasks/001-x/tests/a.rs",
    ".ai/tasks/001-x/implementation-report.md",
    ".ai/tasks/001-x/validation-report.md",
    ".ai/tasks/001-x/documentation-report.md",
    ".git/hooks/test_hook",
    "sub/.git/hooks/README.md",
    ".opencode/agents/test_a.md",
    "sub/.opencode/agents/test_a.md",
    "sub/.opencode/agents/README.md",
    "sub/.ai/docs/a.md",
];

/// What each role may write, of these; said here once more, so that no rule of the pack is its own witness.
fn may_write(agent: &str, path: &str) -> bool {
    let report = |kind: &str| path == format!(".ai/tasks/001-x/{kind}-report.md");
    let hidden = [".ai/", ".git/", ".opencode/"].iter().any(|name| path.contains(name));
    let name = path.rsplit('/').next().unwrap();
    match agent {
        "implementer" => report("implementation") || !(path.contains(".ai/") || path.contains(".git/")),
        "executor" => !(path.contains(".ai/") || path.contains(".git/")),
        "validator" => report("validation"),
        "documentation" => {
            let document = path.contains("docs/") || ["README.md", "CHANGELOG.md"].contains(&name);
            (document && !hidden)
                || [".ai/context.md", ".ai/decisions/a.md"].contains(&path)
                || report("documentation")
        }
        "test-writer" => {
            (path.contains("tests/") || name.contains(".test.") || name.starts_with("test_")) && !hidden
        }
        "task-planner" => path.ends_with("/task-spec.md") || path == ".ai/decisions/a.md",
        "init" => path == ".ai/context.md",
        _ => false,
    }
}

/// Ways to write with a shell, each into a file of its own: what rules judge,
const WRITERS: &[&str] = &["touch by-touch", "git diff --output=by-output"];
/// and what OpenCode judges by no rule, or by less than all of it. The plugin lets none of it through where a role's rules do not
/// allow every command.
const UNJUDGED: &[&str] = &[
    "echo x > by-echo",
    "dx-runner task list > by-runner",
    "git status $(touch by-words)",
    "git status `touch by-ticks`",
    "> by-nothing",
    "{ git status; } > by-group",
    "( git status ) > by-subshell",
    "cd . > by-cd",
    "[[ a ]] > by-condition",
    "x=1 > by-assignment",
    "export GIT_EXTERNAL_DIFF='touch by-export'; git diff",
    "by() { > by-function; }; git status",
    "git status \"$(> by-quoted-words)\"",
    "git status #' \n> by-comment #'",
    "git status && > by-and",
    "git status | sort > by-pipeline",
    "ex\\\nport x=1 > by-two-lines",
    // Its parser takes each of these for one command, or for none.
    "cd . \\\r\ntouch by-return",
    "cd =~;touch by-operand",
    "cd . >&1\u{b}by-tabulator",
    "cd . >&1\u{a0}by-space",
    "cd . && touch by-list",
    "cd sub && git push -f",
    "cd .\ntouch by-line",
];
const PLUGIN: &str = "the plugin";
/// How the prompt of who is delegated to begins.
const CHILD: &str = "DELEGATED to";
/// Who tries the first of them when it is delegated to.
const CHILDREN: &[&str] = &["executor", "model-config", "shipper", "task-planner", "validator"];
/// And what it does not stand in the way of: who is asked before each command is asked.
const PLAIN: &[&str] = &["ls sub 2>&1 > /dev/null", "git log --grep 'a > b; { $c' --author \"d > e\""];
const ASKED: &[&str] = &["executor", "validator"];

/// Pushes, and what else rewrites or publishes. Only the shipper may do any of it, after a question.
const PUBLISHING: &[(&str, Effect)] = &[
    ("git push", Effect::Ask),
    ("git push origin main", Effect::Ask),
    ("git push origin my-feature", Effect::Ask),
    ("git push -u origin main", Effect::Ask),
    ("git push --force", Effect::Deny),
    ("git push --force-with-lease origin main", Effect::Deny),
    ("git push origin --force", Effect::Deny),
    ("git push -f origin main", Effect::Deny),
    ("git push origin main -f", Effect::Deny),
    ("git push origin +main", Effect::Deny),
    ("git push origin :main", Effect::Deny),
    ("git push --mirror origin", Effect::Deny),
    ("git push origin --delete main", Effect::Deny),
    ("git push origin -d main", Effect::Deny),
    ("git push --prune origin", Effect::Deny),
    ("git push -f", Effect::Deny),
    ("git push origin -f main", Effect::Deny),
    ("git push -uf origin main", Effect::Deny),
    ("git push --del origin main", Effect::Deny),
    ("git -c push.default=current push -f", Effect::Deny),
    ("git commit --amend", Effect::Deny),
    ("git commit -m x --no-verify", Effect::Deny),
    ("git commit -m \"x\" -n", Effect::Deny),
    ("git commit -n -m \"x\"", Effect::Deny),
    ("git commit -m \"x\" --no-veri -m \"y\"", Effect::Deny),
    ("git commit -m \"x\" --ame -m \"y\"", Effect::Deny),
    ("git commit -am \"x\"", Effect::Deny),
    ("git commit -m \"say -n and --amend\n\nby a trial\"", Effect::Allow),
    ("git reset --hard", Effect::Deny),
    ("git rebase main", Effect::Deny),
    ("git tag v1", Effect::Deny),
];

/// One attempt: the tool by its name in the rules, on what, and the call.
struct Attempt {
    tool: &'static str,
    on: String,
    /// The tool's name in OpenCode, and its arguments.
    call: (String, String),
}

fn call(name: &str, arguments: &Value) -> (String, String) {
    (name.to_owned(), arguments.to_string())
}

impl Attempt {
    fn edit(top: &Path, path: &str) -> Self {
        let arguments = json!({ "filePath": top.join(path), "content": MARK });
        Self { tool: "edit", on: path.to_owned(), call: call("write", &arguments) }
    }

    fn bash(command: &str) -> Self {
        let arguments = json!({ "command": command, "description": "a trial" });
        // Each command of a line is judged by itself; the last is the one in question.
        let on = command.rsplit(" && ").next().unwrap();
        Self { tool: "bash", on: on.to_owned(), call: call("bash", &arguments) }
    }

    fn task(agent: &str) -> Self {
        let arguments =
            json!({ "description": "a trial", "prompt": format!("{CHILD} {agent}"), "subagent_type": agent });
        Self { tool: "task", on: agent.to_owned(), call: call("task", &arguments) }
    }

    fn read(top: &Path, path: &str) -> Self {
        Self { tool: "read", on: path.to_owned(), call: call("read", &json!({ "filePath": top.join(path) })) }
    }

    fn other(tool: &'static str, arguments: &Value) -> Self {
        Self { tool, on: "*".to_owned(), call: call(tool, arguments) }
    }
}

/// A text that the pattern matches, and that comes to the rules.
fn example(rule: &Rule) -> String {
    match rule.pattern.trim_matches('*') {
        sign @ (">" | "<" | "$" | "`") => format!("x '{sign}'"),
        _ => rule.pattern.replace('*', "x"),
    }
}

/// Everything that a role tries: what all try, and something for each of its rules.
fn attempts(agent: &str, top: &Path, web: &str) -> Vec<Attempt> {
    let rules = rules_of(agent);
    let has = |tool: &str| rules.iter().any(|rule| rule.tool == tool && rule.effect != Effect::Deny);
    let mut all = Vec::new();
    let paths = &PATHS[..if has("edit") { PATHS.len() } else { 2 }];
    all.extend(paths.iter().map(|path| Attempt::edit(top, path)));
    all.push(Attempt { on: "src/b.rs".to_owned(), ..Attempt::edit(top, "docs/../src/b.rs") });
    let outside = Attempt::edit(top, "../outside/docs/a.md");
    all.push(Attempt { tool: if has("edit") { "external_directory" } else { "edit" }, ..outside });
    all.extend(WRITERS.iter().map(|command| Attempt::bash(command)));
    if has("bash") {
        let lines = UNJUDGED.iter().chain(if ASKED.contains(&agent) { PLAIN } else { &[] });
        let attempt = |line: &&str| Attempt { tool: PLUGIN, on: (*line).to_owned(), ..Attempt::bash(line) };
        all.extend(lines.map(attempt));
    }
    let publishing = &PUBLISHING[..if has("bash") { PUBLISHING.len() } else { 1 }];
    all.extend(publishing.iter().map(|(command, _)| Attempt::bash(command)));
    if !has("task") {
        all.push(Attempt::task("executor"));
    }
    for rule in &rules {
        let on = example(rule);
        match rule.tool.as_str() {
            "edit" if has("edit") => all.push(Attempt::edit(top, &on)),
            "bash" if has("bash") => all.push(Attempt::bash(&on)),
            "task" if has("task") => all.push(Attempt::task(&on)),
            "read" => all.push(Attempt::read(top, &on)),
            _ => {}
        }
    }
    all.push(Attempt::other("glob", &json!({ "pattern": "*" })));
    all.push(Attempt::other("grep", &json!({ "pattern": "x" })));
    all.push(Attempt::other("todowrite", &json!({ "todos": [] })));
    all.push(Attempt::other("webfetch", &json!({ "url": web, "format": "text" })));
    let asked = json!({ "prompt": "ASKED", "provider": "mock", "model": "m1" });
    for (tool, arguments) in [
        ("dx-runner_task_run", json!({ "task": "999" })),
        ("dx-runner_task_new", json!({ "title": "x" })),
        ("dx-runner_call_wait", json!({ "handle": "call-999" })),
        ("dx-runner_job_start", json!({ "provider": "exec", "command": ["false"] })),
        ("dx-runner_dispatch", asked),
        ("dx-runner_batch_dispatch", json!({ "prompt": "x", "members": ["opencode:mock/m1"] })),
        ("dx-runner_batch_show", json!({ "id": "none" })),
    ] {
        all.push(Attempt::other(tool, &arguments));
    }
    let options = json!([{ "label": "yes", "description": "x" }, { "label": "no", "description": "x" }]);
    // Last: nobody answers it.
    all.push(Attempt::other(
        "question",
        &json!({ "questions": [{ "question": "Shall I?", "header": "x", "options": options }] }),
    ));
    all
}

/// Where a trial takes place.
struct Place {
    agent: &'static str,
    top: PathBuf,
    attempts: Vec<Attempt>,
}

/// What OpenCode did about each attempt.
fn trial(client: &Client, place: &Place) -> Vec<Effect> {
    let client = client.in_directory(place.top.to_str().unwrap());
    let session = client.create_session("trial", &[], None, PATIENCE).unwrap().id;
    let (mut asked, mut questioned) = (BTreeSet::new(), false);
    for event in client.events(Instant::now() + PATIENCE) {
        let Event::Told { kind, properties } = event else {
            let model = ModelRef { provider: "mock".to_owned(), model: "m1".to_owned() };
            let text = prompt_of(place.agent);
            let parts = [TextPart::new(&text)];
            let agent = Some(place.agent);
            let prompt = Prompt { message: None, model: &model, agent, system: None, format: None, parts };
            client.prompt_async(&session, &prompt, PATIENCE).unwrap();
            continue;
        };
        let id = || properties["id"].as_str().unwrap();
        match kind.as_str() {
            "permission.asked" => {
                asked.insert(properties["tool"]["callID"].as_str().unwrap().to_owned());
                // The refusal of another one of the same answer may have taken this one with it.
                drop(client.reject(id(), PATIENCE));
            }
            "question.asked" => {
                questioned = true;
                client.abort(&session, PATIENCE).unwrap();
            }
            "session.idle" if properties["sessionID"] == session.as_str() => break,
            _ => {}
        }
    }
    let messages = client.raw_messages(&session, PATIENCE).unwrap();
    let parts = messages.iter().flat_map(|message| message["parts"].as_array().unwrap());
    let calls: Vec<&Value> = parts.filter(|part| part["type"] == "tool").collect();
    assert_eq!(calls.len(), place.attempts.len(), "{}: {:#}", place.agent, messages.last().unwrap());
    let effect = |call: &&Value| {
        let error = call["state"]["error"].as_str().unwrap_or_default();
        // By a rule, or because the rules leave nothing of the tool.
        let refused = [
            "The user has specified a rule",
            "Model tried to call unavailable tool",
            "Refused by the boundary of this role",
        ];
        if call["tool"] == "invalid" || refused.iter().any(|words| error.starts_with(words)) {
            Effect::Deny
        } else if asked.contains(call["callID"].as_str().unwrap()) {
            Effect::Ask
        } else {
            assert!(call["tool"] != "question" || questioned, "{call:#}");
            Effect::Allow
        }
    };
    calls.iter().map(effect).collect()
}

fn prompt_of(agent: &str) -> String {
    format!("trial of {agent}.")
}

#[test]
fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let Some(agents_dir) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let mut env = world(&agents_dir);
    let web = ScriptedModel::start(Scenario::text("x")).unwrap();
    let page = format!("{}/v1/models", web.root_url());
    let places: Vec<Place> = agents()
        .map(|agent| {
            let top = env.git_repo(agent, &[("a.txt", "one\n"), ("sub/a.txt", "one\n")]);
            Place { agent, attempts: attempts(agent, &top, &page), top }
        })
        .collect();
    // Many in one answer of the model, and the question by itself.
    let turn = |place: &Place| {
        let calls: Vec<_> = place.attempts.iter().map(|attempt| attempt.call.clone()).collect();
        let (question, others) = calls.split_last().unwrap();
        let mut steps = others.chunks(AT_ONCE).map(|calls| Step::Tools(calls.to_vec()));
        let first = Scenario::step(steps.next().unwrap());
        let all = steps.fold(first, Scenario::then).then(Step::Tools(vec![question.clone()]));
        (prompt_of(place.agent), all.then_text("done"))
    };
    let children = CHILDREN.iter().map(|agent| {
        (format!("{CHILD} {agent}"), Scenario::bash("{ git status; } > by-child").then_text("ok"))
    });
    let turns = places.iter().map(turn).chain(children).collect();
    let model = ScriptedModel::start_by_prompt(turns, Scenario::text("ok")).unwrap();
    let (url, password) = serve(&mut env, &model);
    let client = Client::new(&url, Some(&password)).unwrap();
    let outcomes: Vec<Vec<Effect>> = std::thread::scope(|scope| {
        let trials: Vec<_> = places.iter().map(|place| scope.spawn(|| trial(&client, place))).collect();
        trials.into_iter().map(|trial| trial.join().unwrap()).collect()
    });
    env.run(&["server", "stop"]).assert_code(0);
    let calls = model.calls();
    for agent in CHILDREN {
        let tried = |step: &str| {
            calls
                .iter()
                .any(|call| call.prompt.contains(&format!("{CHILD} {agent}")) && call.step.starts_with(step))
        };
        assert!(tried("bash") && tried("text"), "{agent} is delegated to, and tries it: {calls:#?}");
    }
    let mut wrong = Vec::new();
    for (place, seen) in places.iter().zip(outcomes) {
        wrong.extend(against_the_table(place, &seen));
        wrong.extend(against_the_boundary(place, &seen));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `mcp install` writes.
pub(super) fn tools_of_ours() -> Value {
    json!({ "dx-runner": { "type": "local", "command": [env!("CARGO_BIN_EXE_dx-runner"), "mcp"], "enabled": true } })
}

/// A server with the installed pack and nothing else of the user's.
fn serve(env: &mut TestEnv, model: &ScriptedModel) -> (String, String) {
    let mut config = opencode_config(&model.base_url());
    // A refusal is not the end, and nobody looks at what changed.
    config["experimental"] = json!({ "continue_loop_on_deny": true });
    config["snapshot"] = json!(false);
    config["mcp"] = tools_of_ours();
    env.set("OPENCODE_CONFIG_CONTENT", config.to_string());
    env.set("DX_RUNNER_GRACE_MS", "1000");
    let runner = env.bin_dir().join("dx-runner");
    write(&runner, "#!/bin/sh\necho \"called: $*\"\n");
    std::fs::set_permissions(&runner, PermissionsExt::from_mode(0o755)).unwrap();
    env.run(&["workflow", "install"]).assert_code(0);
    let started = env.run(&["server", "start", "--json"]).assert_code(0);
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let record: Value = serde_json::from_str(&read(env.state_dir().join("server.json"))).unwrap();
    (started["url"].as_str().unwrap().to_owned(), record["password"].as_str().unwrap().to_owned())
}

/// Each attempt went as the rules say, and each rule decided one.
fn against_the_table(place: &Place, seen: &[Effect]) -> Vec<String> {
    let rules = rules_of(place.agent);
    let mut wrong = Vec::new();
    let mut alive = BTreeSet::new();
    for (attempt, seen) in place.attempts.iter().zip(seen) {
        let Attempt { tool, on, .. } = attempt;
        if *tool == PLUGIN {
            let expected = match place.agent {
                "implementer" => Effect::Allow,
                _ if PLAIN.contains(&on.as_str()) => Effect::Ask,
                _ => Effect::Deny,
            };
            if *seen != expected {
                wrong.push(format!("{}: `{on}`: {seen:?}, and not {expected:?}", place.agent));
            }
            continue;
        }
        let decided = decide(&rules, tool, on);
        alive.extend(decided.rule.map(|rule| rule.line));
        if decided.effect != *seen {
            wrong
                .push(format!("{}: {tool} {on}: {seen:?}, the table says {:?}", place.agent, decided.effect));
        }
    }
    for rule in rules.iter().filter(|rule| !alive.contains(&rule.line)) {
        // OpenCode has `list` and `websearch` only with settings of its own.
        if !["list", "websearch"].contains(&rule.tool.as_str()) {
            wrong.push(format!("{}: nothing is decided by `{}: {}`", place.agent, rule.tool, rule.pattern));
        }
    }
    wrong
}

/// What is in the tree now, whatever the rules say.
fn against_the_boundary(place: &Place, seen: &[Effect]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut tell = |what: String| wrong.push(format!("{}: {what}", place.agent));
    for path in PATHS {
        let written = std::fs::read_to_string(place.top.join(path)).is_ok_and(|text| text == MARK);
        if written != may_write(place.agent, path) {
            tell(format!("{path} is {}written", if written { "" } else { "not " }));
        }
    }
    if place.top.join("../outside").exists() {
        tell("a file outside of the project is written".to_owned());
    }
    for entry in std::fs::read_dir(&place.top).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("by-") && place.agent != "implementer" {
            tell(format!("{name} is written by the shell"));
        }
    }
    for (attempt, seen) in place.attempts.iter().zip(seen).filter(|(attempt, _)| attempt.tool == "bash") {
        let Some((command, effect)) = PUBLISHING.iter().find(|(command, _)| command.ends_with(&attempt.on))
        else {
            continue;
        };
        let is_right = match place.agent {
            "shipper" => seen == effect,
            // It may run anything; what it publishes is the sandbox's and the gates' matter.
            "implementer" => true,
            "executor" | "validator" => *seen == Effect::Ask,
            _ => *seen == Effect::Deny,
        };
        if !is_right {
            tell(format!("{command}: {seen:?}"));
        }
    }
    wrong
}
