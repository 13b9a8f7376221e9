//! Whole benchmarks over real lanes, and their report in a real browser.
//!
//! For: the soak suite `bench`. Must never: assert a time.

use crate::browser::Browser;
use crate::is_wanted;
use crate::lanes::{Lanes, TOKEN, right_answers};
use dx_scripted_model::{Scenario, ScriptedModel};
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

fn agents() -> PathBuf {
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
    answers.push(("notes/limits.md".to_owned(), Scenario::step(dx_scripted_model::Step::Empty)));
    let model = ScriptedModel::start_by_prompt(answers, Scenario::text("no such prompt")).unwrap();
    let lanes = Lanes::new(&agents(), model);
    lanes.env.run(&["server", "start"]).assert_code(0);
    let document = lanes.run("three", OPENCODE, &["--max-retries", "0"]);
    lanes.env.run(&["server", "stop"]).assert_code(0);
    assert_eq!(document["reason_code"], "bench_partial", "{document:#}");
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
