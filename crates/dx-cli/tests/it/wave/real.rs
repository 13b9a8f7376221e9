//! Waves of the real OpenCode and the real Claude Code against scripted models: eight items with a diamond, a check and a
//! review that are not content at first, and two items whose work does not fit together; and a provider whose plan is used up.
//!
//! Needs `DX_TEST_AGENTS_DIR`, as `opencode` and `claude` do; without it the test says that it was left out.

#![allow(clippy::print_stdout, reason = "says what is left out")]

use super::world::{World, row, states};
use crate::real_agent::agents_dir;
use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};
use serde_json::json;
use std::time::Duration;

/// An item of a real agent whose model plays the scenario; a real OpenCode has no model of ours in its preferred ones.
fn agent(id: &str, needs: &[&str], provider: &str, prompt: &str, more: &str) -> String {
    let model = if provider == "opencode" { "model = \"mock/m1\"\n" } else { "" };
    format!(
        "[[item]]\nid = \"{id}\"\nneeds = {needs:?}\nprovider = \"{provider}\"\nprompt = '''{prompt}'''\n{model}{more}\n"
    )
}

/// A world of the real agents, in which OpenCode has this model.
fn world(agents: &std::path::Path, model: &ScriptedModel) -> World {
    let mut world = World::new();
    world.env = world.env.deadline(Duration::from_mins(4));
    for name in ["opencode", "claude"] {
        world.env.link_program(name, agents.join(name));
    }
    world.env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
    world.env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    let config = world.env.path("xdg/config/dx-runner/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "allow_model_override = true\n").unwrap();
    world
}

#[test]
fn eight_items_of_real_agents() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    // What a prompt says for itself goes first, so the second attempts' words stand in prompts without a scenario.
    let scenario = |text: &str| text.parse::<Scenario>().unwrap();
    let judge = |verdict: &str| Scenario::bash("cat words.txt").then_text(verdict);
    let wanting = r#"{"verdict":"REVISION_REQUIRED","findings":["say fixed in words"]}"#;
    let model = ScriptedModel::start_by_prompt(
        vec![
            ("RIGHT-IS-NOT-GOOD".to_owned(), scenario("bash:echo good > right.txt,text:DONE")),
            ("say fixed in words".to_owned(), scenario("bash:echo fixed > words.txt,text:DONE")),
            // The reviewer's model is content when it has read that.
            ("read:fixed".to_owned(), judge(r#"{"verdict":"APPROVED","findings":[]}"#)),
            ("judge the text".to_owned(), judge(wanting)),
            ("task of right".to_owned(), scenario("write:right.txt:bad,text:DONE")),
            ("task of words".to_owned(), scenario("write:words.txt:first,text:DONE")),
            ("look at top".to_owned(), Scenario::text(r#"{"verdict":"APPROVED","findings":[]}"#)),
        ],
        Scenario::text("no scenario in the prompt"),
    )
    .unwrap();
    let mut world = world(&agents, &model);
    world.env.set("ANTHROPIC_BASE_URL", model.root_url());
    world.env.set("ANTHROPIC_AUTH_TOKEN", "fake-7735");

    let mock = |scenario: &str| format!("Do the task [[mock:{scenario},text:DONE]]");
    let reviewed = |file: &str, words: &str, provider: &str| {
        std::fs::write(world.env.path(file), words).unwrap();
        let path = world.path(file);
        let model = if provider == "opencode" { ", model = \"mock/m1\"" } else { "" };
        format!("review = {{ provider = \"{provider}\", prompt_file = \"{path}\"{model} }}")
    };
    let looked_at = reviewed("look.md", "look at top", "opencode");
    let items = [
        agent("top", &[], "opencode", &mock("write:top.txt:top"), &looked_at),
        agent("left", &["top"], "opencode", &mock("bash:cat top.txt > left.txt"), "scope = [\"left.txt\"]"),
        agent(
            "right",
            &["top"],
            "claude-code",
            "The task of right",
            "check = \"test -f top.txt && grep -q good right.txt || { echo RIGHT-IS-NOT-GOOD; exit 1; }\"",
        ),
        agent("end", &["left", "right"], "claude-code", &mock("bash:cat left.txt right.txt > end.txt"), ""),
        agent(
            "words",
            &[],
            "opencode",
            "The task of words",
            &reviewed("judge.md", "judge the text", "claude-code"),
        ),
        agent("one", &[], "claude-code", &mock("write:same.txt:one"), ""),
        agent("two", &[], "claude-code", &mock("write:same.txt:two"), ""),
        agent("both", &["one", "two"], "opencode", &mock("write:both.txt:x"), ""),
    ];
    let began = std::time::Instant::now();
    let (code, wave) = world.run("max_parallel = 3\nmerge_into = \"all\"", &items);
    println!("eight items: {:.1} s", began.elapsed().as_secs_f64());
    let expected = ["done", "done", "done", "done", "done", "done", "done", "blocked"];
    assert_eq!((code, states(&wave)), (31, expected.map(str::to_owned).to_vec()), "{wave:#}");

    // Order: each has what it needs, and only once that was done.
    let end = row(&wave, "end");
    let base = end["base"].as_str().unwrap();
    assert_eq!(world.show(base, "left.txt").trim_end(), "top");
    assert_eq!(world.show(base, "right.txt").trim_end(), "good");
    let made = world.show("all", "end.txt");
    assert!(made.contains("top") && made.contains("good"), "{made}");
    // Check and review had another attempt made, which got the findings.
    for (id, first, word) in
        [("right", "revise", "RIGHT-IS-NOT-GOOD"), ("words", "passed", "say fixed in words")]
    {
        let item = row(&wave, id);
        assert_eq!(
            (&item["attempts"], &item["history"][0]["verdict"]),
            (&json!(2), &json!(first)),
            "{item:#}"
        );
        assert!(model.calls().iter().any(|call| call.prompt.contains(word)), "{id}");
    }
    assert_eq!(row(&wave, "words")["history"][0]["review"], "REVISION_REQUIRED", "{wave:#}");
    assert_eq!(row(&wave, "words")["history"][1]["review"], "APPROVED", "{wave:#}");
    assert_eq!(world.show("all", "words.txt").trim_end(), "fixed");
    // The reviewer read the work itself, both times.
    let judged: Vec<String> = model
        .calls()
        .iter()
        .filter(|call| call.prompt.contains("judge the text"))
        .map(|call| call.step.clone())
        .collect();
    assert_eq!(judged.iter().filter(|step| step.starts_with("bash:")).count(), 2, "{judged:?}");
    assert_eq!(row(&wave, "top")["history"][0]["review"], "APPROVED", "{wave:#}");
    // What does not fit is told for the pair, and nothing was started on it.
    let both = row(&wave, "both");
    assert_eq!((&both["reason_code"], &both["attempts"]), (&json!("merge_conflict"), &json!(0)), "{both:#}");
    let conflicts = &wave["merged"]["conflicts"];
    assert_eq!((conflicts.as_array().unwrap().len(), &conflicts[0]["items"]), (1, &json!(["one", "two"])));
    assert!(conflicts[0]["paths"][0].as_str().unwrap().starts_with("same.txt: "), "{conflicts}");
    assert_eq!(world.env.git(&world.repo, &["status", "--porcelain"]), "");
    let report = world.env.run(&["wave", "report", "w-1"]).assert_code(0).stdout;
    for line in [
        "attempt 1 by claude-code: exit code 0 (check_failed)",
        "attempt 2 by opencode: exit code 0",
        "one and two do not fit together: same.txt",
        "merged into all at",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
}

/// OpenCode's plan is used up until a time: the item goes on with Claude Code on GLM, and so does the next, which asks
/// OpenCode nothing; after that time OpenCode is back.
#[test]
fn a_used_up_plan_of_open_code_leads_to_glm_and_back() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let scenario = |text: &str| text.parse::<Scenario>().unwrap();
    // It tries five times more by itself.
    let plans = vec![("task of i0".to_owned(), scenario("6*429:plan=3600,write:code.txt:x,text:DONE"))];
    let code = ScriptedModel::start_by_prompt(plans, scenario("write:code.txt:x,text:DONE")).unwrap();
    let glm = ScriptedModel::start(scenario("write:glm.txt:x,text:DONE")).unwrap();
    let mut world = world(&agents, &code);
    world.env.set("CC_GLM_BASE_URL", glm.root_url());
    world.env.set("CC_GLM_AUTH_TOKEN", "zqxFake-5510");
    let gate = world.path("gate");
    let wait = format!("check = \"until [ -e {gate} ]; do sleep 0.1; done\"");
    let items = [("i0", "", ""), ("i1", "i0", wait.as_str()), ("i2", "i1", "")];
    let items = items.map(|(id, needs, more)| {
        let needs: Vec<&str> = needs.split_whitespace().collect();
        agent(id, &needs, "opencode", &format!("The task of {id}"), more)
    });
    let file = world.file("fallback = [\"cc-glm\"]", &items);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.ask(&["run", &file]));
        world.until("i1", "checking");
        // The time passes.
        let ledger = world.env.state_dir().join("pools.jsonl");
        let text = std::fs::read_to_string(&ledger).unwrap();
        let mut line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        let left = line["until"].as_str().and_then(dx_protocol::Timestamp::parse).unwrap();
        assert!(left.0 > dx_proc::clock::now_ms() + 3_000_000, "{line}");
        line["until"] = json!("2001-01-01T00:00:00.000Z");
        std::fs::write(&ledger, format!("{line}\n")).unwrap();
        std::fs::write(&gate, "").unwrap();
        let (code, wave) = run.join().unwrap();
        assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 3]), "{wave:#}");
        let by = |id: &str| {
            let history = row(&wave, id)["history"].as_array().unwrap().clone();
            history.iter().map(|one| one["provider"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (by("i0"), by("i1"), by("i2")),
            (
                vec!["opencode".to_owned(), "cc-glm".to_owned()],
                vec!["cc-glm".to_owned()],
                vec!["opencode".to_owned()],
            ),
            "{wave:#}"
        );
        assert_eq!(row(&wave, "i0")["history"][0]["reason_code"], "opencode_rate_limited", "{wave:#}");
    });
    let asked = |model: &ScriptedModel, words: &str| {
        model.calls().iter().filter(|call| call.prompt.contains(words) && !call.side_call).count()
    };
    assert_eq!((asked(&code, "task of i0"), asked(&code, "task of i1")), (6, 0));
    assert!(asked(&glm, "task of i0") > 0 && asked(&glm, "task of i1") > 0 && asked(&glm, "task of i2") == 0);
}
