//! Routes through the real server: which model a kind of task comes to.

use super::real::World;
use crate::document;
use crate::world::error_of;
use dx_scripted_model::{ScriptedModel, opencode_config};
use serde_json::{Value, json};

/// The table as people were promised it: tier, model, kinds of tasks.
const TABLE: [(u64, &str, &[&str]); 6] = [
    (
        1,
        "bailian-coding-plan/qwen3-coder-next",
        &["boilerplate", "simple-fix", "quick-check", "general-opinion"],
    ),
    (
        2,
        "bailian-coding-plan/qwen3-coder-plus",
        &["test-scaffolding", "logic-verification", "code-review", "api-analysis"],
    ),
    (3, "bailian-coding-plan/qwen3.5-plus", &["research", "architecture", "library-comparison"]),
    (4, "bailian-coding-plan/kimi-k2.5", &["docs-lookup"]),
    (5, "bailian-coding-plan/minimax-m2.5", &["docs-generation"]),
    (
        6,
        "anthropic/claude-sonnet-4-20250514",
        &["security-review", "complex-codegen", "complex-fix", "deep-research"],
    ),
];

/// The providers of the table. Each answers with its name.
pub(super) const PROVIDERS: [&str; 2] = ["bailian-coding-plan", "anthropic"];

/// The configuration of a project in which the server has all models of the table.
fn project(model: &ScriptedModel) -> Value {
    let mut providers = json!({});
    for provider in PROVIDERS {
        let scenario = format!("text:FROM-{provider}").parse().unwrap();
        let mut entry = opencode_config(&model.plain_url_for(&scenario))["provider"]["mock"].take();
        let limit = entry["models"]["m1"]["limit"].take();
        let names = TABLE.iter().filter_map(|(_, model, _)| model.strip_prefix(provider)?.strip_prefix('/'));
        entry["models"] =
            names.map(|name| (name.to_owned(), json!({ "name": name, "limit": limit }))).collect();
        providers[provider] = entry;
    }
    json!({ "provider": providers })
}

/// Each kind of task is asked through its route, and is seen at the model that the table names.
pub(super) fn every_kind_of_task(world: &World) {
    let folder = world.env.git_repo("routed", &[("README.md", "# Routed\n")]);
    std::fs::write(folder.join("opencode.json"), project(&world.model).to_string()).unwrap();
    let folder = folder.display().to_string();
    let kinds =
        || TABLE.iter().flat_map(|(tier, model, kinds)| kinds.iter().map(move |kind| (*tier, *model, *kind)));
    let told = world.json("routes", 0, &["routes", "--check", "--directory", &folder]);
    let told = told["routes"].as_array().unwrap().iter().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (row["tier"].as_u64().unwrap(), format!("{}/{}", text("provider"), text("model")), text("task_type"))
    });
    let table: Vec<_> =
        kinds().map(|(tier, model, kind)| (tier, model.to_owned(), kind.to_owned())).collect();
    assert_eq!((told.collect::<Vec<_>>(), table.len()), (table, 17));

    let config = world.env.path("one-route.toml");
    std::fs::write(&config, "routes = [\"code-review=bailian-coding-plan/kimi-k2.5\"]\n").unwrap();
    let config = config.display().to_string();
    let ask = |words: &str, kind: &str, globals: &[&str]| {
        let prompt = format!("{words} {kind}, please");
        let args = ["dispatch", "--task-type", kind, "--directory", &folder, "--json", "--prompt", &prompt];
        let output = world.env.run(&[globals, &args].concat()).assert_code(0);
        let answer = document(&world.env, "dispatch", &output.stdout);
        let calls = world.model.calls().into_iter().filter(|call| call.prompt.contains(&prompt));
        (answer, calls.map(|call| call.model).collect::<Vec<_>>())
    };
    let expect = |words: &str, kind: &str, model: &str, globals: &[&str]| {
        let (answer, asked) = ask(words, kind, globals);
        let (provider, name) = model.split_once('/').unwrap();
        let said = (&answer["provider"], &answer["model"], &answer["answer"], &answer["mods"]);
        let mods = json!([format!("routed: {kind}")]);
        let from = json!(format!("FROM-{provider}"));
        assert_eq!(said, (&json!(provider), &json!(name), &from, &mods), "{kind}: {answer:#}");
        assert_eq!(asked, [name], "{kind}");
    };
    // One that the configuration replaces goes elsewhere, and it alone.
    let replaced = ["--config", config.as_str()];
    let globals = &replaced;
    std::thread::scope(|scope| {
        for (_, model, kind) in kinds() {
            scope.spawn(move || expect("BY-THE-TABLE", kind, model, &[]));
        }
        scope.spawn(move || expect("CONFIGURED", "code-review", "bailian-coding-plan/kimi-k2.5", globals));
        scope.spawn(move || {
            expect("CONFIGURED", "api-analysis", "bailian-coding-plan/qwen3-coder-plus", globals);
        });
    });
}

/// A server that offers only some of the models.
pub(super) fn some_routes(world: &World) {
    let document = world.json("routes", 0, &["routes"]);
    assert_eq!(document["routes"].as_array().unwrap().len(), 17);
    let checked = world.json("routes", 25, &["routes", "--check"]);
    let missing = &checked["routes"][0];
    assert_eq!((&missing["available"], missing["nearest"] == "-"), (&json!(false), false), "{missing}");
    let config = world.env.path("routes.toml");
    std::fs::write(&config, "routes = [\"code-review=mock/m2\"]\n").unwrap();
    let config = config.display().to_string();
    let with = |args: &[&str]| world.env.run(&[&["--config", &config], args].concat());
    let checked: Value = serde_json::from_str(&with(&["routes", "--check", "--json"]).stdout).unwrap();
    let route =
        checked["routes"].as_array().unwrap().iter().find(|r| r["task_type"] == "code-review").unwrap();
    assert_eq!((&route["available"], &route["source"]), (&json!(true), &json!("configuration")));
    let printed = with(&["dispatch", "--task-type", "code-review", "--prompt", "x [[mock:text:ROUTED]]"]);
    assert!(
        printed.stdout.starts_with("--- dispatch response from mock/m2 [routed: code-review] ("),
        "{printed}"
    );
    // A replaced part is no route any more.
    let args = ["dispatch", "--task-type", "code-review", "--model", "m1", "--prompt", "x [[mock:text:R]]"];
    let printed = with(&args);
    assert!(printed.stdout.starts_with("--- dispatch response from mock/m1 ("), "{printed}");
    // What is no route is told with its place.
    let bad = world.env.path("bad-routes.toml");
    std::fs::write(&bad, "\nroutes = [\"code-review=opencode:a/b\"]\n").unwrap();
    let refused = world.env.run(&["--config", bad.to_str().unwrap(), "routes"]).assert_code(64);
    let place = format!("{}:2:1: `routes` has `code-review=opencode:a/b`", bad.display());
    assert!(refused.stderr.contains(&place) && refused.stderr.contains("config_invalid"), "{refused}");
    let error = world.asks_in_vain(64, "task_type_unknown", "x", &["--task-type", "code-revue"]);
    assert!(error["next_action"].as_str().unwrap().contains("code-review, "), "{error}");
}

/// Batches by kind of task, with a table whose routes lead to what the server has, or to less.
pub(super) fn routes_of_batches(world: &World) {
    let config = world.env.path("routes-of-batches.toml");
    let routes = [
        "test-scaffolding=mock/m1",
        "logic-verification=mock/m2",
        "code-review=mock/m1",
        "docs-lookup=mock/m1",
    ];
    std::fs::write(&config, format!("routes = {}\n", json!(routes))).unwrap();
    let config = config.display().to_string();
    let batch = |code: i32, more: &[&str]| {
        let head = ["--config", &config, "batch", "--json", "--prompt", "x [[mock:text:ROUTED]]"];
        let output = world.env.run(&[&head[..], more].concat()).assert_code(code);
        if code == 64 { error_of(&world.env, &output) } else { document(&world.env, "batch", &output.stdout) }
    };
    let members = |told: &Value| {
        let members = told["members"].as_array().unwrap().iter();
        members.map(|m| (m["member"].clone(), m["status"].clone())).collect::<Vec<_>>()
    };
    let ok = |member: &str| (json!(member), json!("ok"));
    let two = [ok("opencode:mock/m1"), ok("opencode:mock/m2")];
    let told = batch(0, &["--task-types", "code-review,logic-verification,test-scaffolding"]);
    assert_eq!(members(&told), two, "each model is asked once");
    // The whole tier: its fourth kind leads to what this server does not have.
    let told = batch(31, &["--tier", "2"]);
    let absent = (json!("opencode:bailian-coding-plan/qwen3-coder-plus"), json!("error"));
    assert_eq!(members(&told), [two[0].clone(), two[1].clone(), absent]);
    assert_eq!(told["members"][2]["reason_code"], "provider_not_connected");
    // One model is no batch, and a kind that is none is told with all that are.
    assert_eq!(batch(64, &["--tier", "4"])["reason_code"], "invalid_argument");
    let error = batch(64, &["--task-types", "code-review,code-revue"]);
    assert_eq!(error["reason_code"], "task_type_unknown");
    assert_eq!(error["next_action"].as_str().unwrap().split(", ").count(), 17, "{error}");
    let checked = world.env.run(&["--config", &config, "routes", "--check", "--json"]).assert_code(25);
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    let there = checked["routes"].as_array().unwrap().iter().filter(|route| route["available"] == true);
    assert_eq!(there.count(), 4, "{checked:#}");
}
