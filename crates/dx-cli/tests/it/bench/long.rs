//! Whole benchmarks over real lanes, and their report in a real browser.
//!
//! For: the soak suite `bench`. Must never: assert a time.

use crate::answers::right_answers;
use crate::browser::Browser;
use crate::is_wanted;
use crate::lanes::{Lanes, TOKEN};
use dx_scripted_model::{Scenario, ScriptedModel, Step};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const OPENCODE: &str = "opencode_run_headless,opencode_server_http,opencode_server_attach_run";
/// What a run leaves, beside the answers in `raw`.
const OUTPUTS: [&str; 8] = [
    "manifest.json",
    "results.json",
    "records.ndjson",
    "summary.md",
    "summary.json",
    "report.html",
    "governance_report.json",
    "raw",
];

pub(crate) fn agents() -> PathBuf {
    let folder = std::env::var_os("DX_TEST_AGENTS_DIR");
    folder.map_or_else(|| panic!("`cargo xtask soak bench` names the folder"), PathBuf::from)
}

/// Pictures for people stay in this folder.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-pictures");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The built-in prompts over the three lanes of OpenCode, and the report as a person sees it.
#[test]
fn three_lanes_in_a_browser() {
    if !is_wanted() {
        return;
    }
    let mut answers = right_answers(Duration::from_millis(400));
    // One lane's failure is to be seen, and one in each.
    answers.retain(|(words, _)| words != "notes/limits.md");
    answers.push(("notes/limits.md".to_owned(), Scenario::step(Step::Empty)));
    let model = ScriptedModel::start_by_prompt(answers, Scenario::text("no such prompt")).unwrap();
    let lanes = Lanes::new(&agents(), model);
    // A gate that fails is to be seen as well.
    let git = |args: &[&str]| lanes.env.git(&lanes.repository, args).trim().to_owned();
    git(&["checkout", "--quiet", "-b", "other"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "elsewhere"]);
    let elsewhere = git(&["rev-parse", "HEAD"]);
    git(&["checkout", "--quiet", "main"]);
    let document = lanes.run("three", OPENCODE, &["--max-retries", "0", "--reported-commit", &elsewhere]);
    assert_eq!(document["reason_code"], "reported_not_ancestor", "{document:#}");
    let records = lanes.records("three");
    let measured: Vec<_> = records.iter().filter(|record| record["round"] == 1).collect();
    assert_eq!(measured.len(), 15, "{records:#?}");
    for record in &measured {
        let is_empty = record["prompt"] == "partial-context";
        assert_eq!(record["success"], !is_empty, "{record:#}");
        if is_empty {
            assert_eq!(record["failure"]["reason_code"], "empty_answer", "{record:#}");
        }
    }
    let folder = lanes.out.join("three");
    for name in OUTPUTS {
        assert!(folder.join(name).exists(), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.join("raw")).unwrap().count(), 3 + 15);
    look_at(&lanes, &folder.join("report.html"), 3);
    let mut browser = Browser::start(&lanes.env);
    browser.show(&folder.join("report.html"), 400, false);
    let gate = "document.querySelector('.gate').getBoundingClientRect()";
    let first = "document.querySelector('h2').getBoundingClientRect()";
    let is_above = browser.value(&format!("{gate}.height > 20 && {gate}.bottom < {first}.top"));
    assert_eq!(is_above, true, "a failed gate stands above all figures");
}

/// Shows the report narrow and wide, light and dark.
fn look_at(lanes: &Lanes, report: &Path, workflows: usize) {
    let mut browser = Browser::start(&lanes.env);
    let mut backgrounds = Vec::new();
    for (width, dark) in [(400, false), (400, true), (1200, false), (1200, true)] {
        browser.show(report, width, dark);
        let scheme = if dark { "dark" } else { "light" };
        let picture = pictures().join(format!("{workflows}-lanes-{width}-{scheme}.png"));
        browser.picture(&picture);
        println!("{}", picture.display());
        let widest = browser.value("document.documentElement.scrollWidth");
        assert!(widest.as_u64().unwrap() <= u64::from(width), "{width}: the page is {widest} wide");
        // Everything that is shown is inside of the window, or in a box that scrolls by itself.
        let outside = browser.value(
            "[...document.querySelectorAll('body *')].filter(e => !e.closest('.wide')) \
             .filter(e => { const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1) }) \
             .map(e => e.outerHTML.slice(0, 80))",
        );
        assert_eq!(outside, json!([]), "{width}");
        let sizes = browser.value(
            "[...document.querySelectorAll('svg')].map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height])",
        );
        let sizes: Vec<[f64; 2]> = serde_json::from_value(sizes).unwrap();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|[w, h]| *w > f64::from(width) * 0.7 && *h > 60.0), "{sizes:?}");
        let small = browser.value(
            "[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height).filter(h => h < 12).length",
        );
        assert_eq!(small, 0, "words of pictures are too small to read");
        // Words of one picture do not lie on each other.
        let covered = browser.value(
            "[...document.querySelectorAll('svg')].flatMap(s => { const r = [...s.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]); \
             return r.flatMap(([a, p], i) => r.slice(i + 1).filter(([b, q]) => p.left < q.right && q.left < p.right && p.top + 3 < q.bottom && q.top + 3 < p.bottom).map(([b]) => [a, b])) })",
        );
        assert_eq!(covered, json!([]), "{width}");
        let cells = browser.value("document.querySelectorAll('.matrix td').length");
        assert_eq!(cells, 5 * workflows);
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert!(backgrounds[0] == backgrounds[2] && backgrounds[1] == backgrounds[3]);
    assert_ne!(backgrounds[0], backgrounds[1], "the dark one is not dark");
    for told in &browser.told {
        assert_eq!(told["method"], "Network.requestWillBeSent", "{told:#}");
        let url = told["params"]["request"]["url"].as_str().unwrap();
        assert_eq!(url, format!("file://{}", report.display()), "the page loads something");
    }
    assert!(!browser.told.is_empty());
    assert!(!std::fs::read_to_string(report).unwrap().contains(TOKEN));
}

/// Rounds of the two lanes that are one program on one model.
const ROUNDS: u64 = 12;
/// Rounds, and seconds of the model, where the one is 20 % slower. What a machine under load adds to a job differs by seconds
/// from one to the next: the model's share must be longer than that, and the pairs many.
const SLOWER: (u64, f64) = (16, 15.0);

/// Claude Code and Claude Code as cc-glm, each with a model of known latency and failures: as long as these are equal so are
/// the lanes, and the one whose model is 20 % slower is found.
#[test]
fn equal_lanes_and_a_slower_one() {
    if !is_wanted() {
        return;
    }
    let scenario = |seed: u64, pause: f64| -> Scenario {
        format!("seed:{seed},chance:0.2:500,sleep:{pause}+0.2,text:DONE").parse().unwrap()
    };
    let model = ScriptedModel::start(Scenario::text("DONE")).unwrap();
    let mut lanes = Lanes::new(&agents(), model);
    let prompts = lanes.env.path("prompts.json");
    let row = json!({"id": "words", "category": "latency", "title": "words", "prompt": "Say DONE.", "success_hints": ["DONE"]});
    std::fs::write(&prompts, json!({"version": 1, "prompts": [row]}).to_string()).unwrap();
    let mut run = |id: &str, rounds: u64, a: &Scenario, b: &Scenario| {
        lanes.env.set("ANTHROPIC_BASE_URL", lanes.model.root_url_for(a));
        lanes.env.set("CC_GLM_BASE_URL", lanes.model.root_url_for(b));
        let workflows = "claude_code_headless,cc_glm_headless";
        let (prompts, all) = (prompts.display().to_string(), rounds.to_string());
        // One at a time: what they take from each other is no part of the truth.
        let more = ["--prompts", &prompts, "--rounds", &all, "--max-retries", "0", "--parallel", "1"];
        let document = lanes.run(id, workflows, &more);
        for (figures, scenario) in document["summary"]["workflows"].as_array().unwrap().iter().zip([a, b]) {
            // Client 0 was the warm-up.
            let good = |n: &u64| !scenario.draw(*n).steps().contains(&Step::Status(500));
            let (success, truth) = (&figures["success"], (1..=rounds).filter(good).count());
            assert_eq!((&success["count"], &success["of"]), (&json!(truth), &json!(rounds)), "{figures:#}");
            assert!(success["low"].as_f64().unwrap() <= 0.8 && success["high"].as_f64().unwrap() >= 0.8);
            let first = figures["first_output_p50"]["value"].as_f64().unwrap();
            let Some(Step::Sleep(pause)) = scenario.steps().iter().find_map(|step| match step {
                Step::Latency { least, .. } => Some(Step::Sleep(*least)),
                _ => None,
            }) else {
                panic!("{scenario}")
            };
            assert!(first >= pause.as_secs_f64() * 1e3, "the model's pause is in it: {figures:#}");
        }
        println!("{id}: {}", document["summary"]["comparisons"]);
        document["summary"]["comparisons"][0]["completion"].clone()
    };
    // An interval at 95 % leaves the truth out once in twenty runs; twice in a row would be a defect.
    let equal = (0..2).any(|n| {
        run(&format!("equal-{n}"), ROUNDS, &scenario(10 + n, 6.0), &scenario(20 + n, 6.0))["differs"] == false
    });
    assert!(equal, "equal lanes are told apart");
    let (rounds, pause) = SLOWER;
    let slower = run("slower", rounds, &scenario(30, pause), &scenario(40, pause * 1.2));
    let value = |name: &str| slower[name].as_f64().unwrap();
    // How far its upper bound reaches depends on what else the machine has to do; the estimate passes over single late jobs.
    assert!(slower["differs"] == true && value("value") > 1.0 && value("value") < 1.5, "{slower:#}");
}

/// All lanes on one model, of which everybody knows what it does; and the page of the guide that shows it.
///
/// With `DX_BENCH_GUIDE=1` the figures go into the page.
#[test]
fn all_lanes_for_the_guide() {
    const ALL: [&str; 7] = [
        "opencode_run_headless",
        "opencode_server_http",
        "opencode_server_attach_run",
        "claude_code_headless",
        "cc_glm_headless",
        "gemini_run_headless",
        "codex_headless",
    ];
    if !is_wanted() {
        return;
    }
    let answers =
        right_answers(Duration::from_secs(1)).into_iter().enumerate().map(|(n, (words, scenario))| {
            let mixed = format!("seed:{n},chance:0.1:empty,{scenario}").parse().unwrap();
            (words, mixed)
        });
    let model = ScriptedModel::start_by_prompt(answers.collect(), Scenario::text("no such prompt")).unwrap();
    let lanes = Lanes::new(&agents(), model);
    let more = ["--rounds", "2", "--max-retries", "0", "--parallel", "3"];
    let document = lanes.run("all", &ALL.join(","), &more);
    assert_eq!(document["summary"]["jobs"], 7 * 5 * 2, "{document:#}");
    for figures in document["summary"]["workflows"].as_array().unwrap() {
        let success = &figures["success"];
        assert!(success["high"].as_f64().unwrap() >= 0.9, "the model answers nine of ten: {figures:#}");
    }
    for failure in document["summary"]["failures"].as_array().unwrap() {
        assert_eq!(failure["category"], "model", "{failure:#}");
    }
    let report = lanes.out.join("all/report.html");
    std::fs::copy(&report, pictures().join("7-lanes.html")).unwrap();
    look_at(&lanes, &report, 7);
    if std::env::var_os("DX_BENCH_GUIDE").is_some() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/which-lane.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let summary = std::fs::read_to_string(lanes.out.join("all/summary.md")).unwrap();
        std::fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", figures_of(&summary))).unwrap();
    }
}

const BEGIN: &str = "<!-- figures: written by `DX_BENCH_GUIDE=1 cargo xtask soak bench` -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// The tables of `summary.md` that the page shows.
fn figures_of(summary: &str) -> String {
    let part = |title: &str| {
        let (_, rest) = summary.split_once(&format!("## {title}\n")).unwrap();
        rest.split("\n## ").next().unwrap().trim().to_owned()
    };
    let rows = |table: &str, cells: &[usize]| -> String {
        let line = |line: &str| {
            let all: Vec<&str> = line.trim_matches('|').split('|').collect();
            let kept: Vec<&str> = cells.iter().filter_map(|n| all.get(*n).copied()).collect();
            format!("|{}|\n", kept.join("|"))
        };
        table.lines().map(line).collect()
    };
    // Without tokens and cost, which a scripted model makes up.
    let table = rows(&part("Workflows"), &[0, 1, 3, 4, 5, 8]);
    format!("\n{table}\n{}\n\n", part("Differences"))
}
