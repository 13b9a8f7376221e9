//! A wave of the real OpenCode and the real Claude Code against a scripted model: eight items with a diamond, a check and a
//! review that are not content at first, and two items whose work does not fit together.
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

#[test]
fn eight_items_of_real_agents() {
    let Some(agents) = agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let mut world = World::new();
    world.env = world.env.deadline(Duration::from_mins(4));
    // What a prompt says for itself goes first, so the second attempts' words stand in prompts without a scenario.
    let scenario = |text: &str| text.parse::<Scenario>().unwrap();
    let model = ScriptedModel::start_by_prompt(
        vec![
            ("RIGHT-IS-NOT-GOOD".to_owned(), scenario("bash:echo good > right.txt,text:DONE")),
            ("say fixed in words".to_owned(), scenario("bash:echo fixed > words.txt,text:DONE")),
            ("task of right".to_owned(), scenario("write:right.txt:bad,text:DONE")),
            ("task of words".to_owned(), scenario("write:words.txt:first,text:DONE")),
            ("look at top".to_owned(), Scenario::text(r#"{"verdict":"APPROVED","findings":[]}"#)),
        ],
        Scenario::text("no scenario in the prompt"),
    )
    .unwrap();
    for name in ["opencode", "claude"] {
        world.env.link_program(name, agents.join(name));
    }
    world.env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
    world.env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    world.env.set("ANTHROPIC_BASE_URL", model.root_url());
    world.env.set("ANTHROPIC_AUTH_TOKEN", "fake-7735");
    let config = world.env.path("xdg/config/dx-runner/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "allow_model_override = true\n").unwrap();

    let mock = |scenario: &str| format!("Do the task [[mock:{scenario},text:DONE]]");
    let review = r#"cat >/dev/null; if grep -q fixed words.txt; then echo '{"verdict":"APPROVED"}'; else echo '{"verdict":"REVISION_REQUIRED","findings":["say fixed in words"]}'; fi"#;
    std::fs::write(world.env.path("look.md"), "look at top").unwrap();
    let looked_at =
        format!("review = {{ provider = \"claude-code\", prompt_file = \"{}\" }}", world.path("look.md"));
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
            &format!("review = {{ provider = \"exec\", command = [\"sh\", \"-ec\", '''{review}'''] }}"),
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
    // A review by a real agent.
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
