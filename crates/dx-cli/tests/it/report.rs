//! `report`: the contract's fields and types, all runs of a job, records of others and leftovers, pages for people.

use crate::document;
use crate::world::{PATIENCE, World, read, write};
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::path::Path;

const TEXTS: &str = "beads provider state reason_code started_at duration_sec exit_code outcome_state selected_model \
    fallback_reason execution_mode host cwd run_instance worktree provider_switch_from completed_at next_action";
const NUMBERS: &str = "retries mutations log_bytes cpu_time_sec pid_age_sec";

impl World {
    /// `report --format json` of a job, held against schema and contract.
    #[track_caller]
    fn report(&self, id: &str, more: &[&str]) -> Value {
        let args = [&["report", "--beads", id, "--format", "json"], more].concat();
        let report = document(&self.env, "report", &self.env.run(&args).assert_code(0).stdout);
        let texts = TEXTS.split_whitespace().all(|field| report[field].is_string());
        let numbers = NUMBERS.split_whitespace().all(|field| report[field].is_u64());
        assert!(texts && numbers, "{report:#}");
        for field in ["input_tokens", "output_tokens", "cached_tokens"] {
            assert!(report["usage"][field].is_u64(), "{report:#}");
        }
        for verdict in ["process", "provider", "work", "gates", "check"] {
            assert!(report["verdicts"][verdict].is_string(), "{report:#}");
        }
        for list in ["commits", "files_changed", "attempts"] {
            assert!(report[list].is_array(), "{report:#}");
        }
        assert!(report["tools"].is_object() && report["usage"].get("cost_usd").is_some(), "{report:#}");
        report
    }
}

#[test]
fn a_job_through_its_life() {
    let world = World::new();
    let go = world.path("go");
    world.start("bd-1", &[], &["print:hello", &format!("wait-file:{go}"), "write:new.txt:x", "exit:7"]);
    let live = world.report("bd-1", &[]);
    assert_eq!(
        (&live["exit_code"], &live["outcome_state"], &live["ended"]),
        (&"-".into(), &"-".into(), &false.into())
    );
    assert_eq!((&live["verdicts"]["process"], &live["completed_at"]), (&"pending".into(), &"-".into()));
    assert_eq!(live["attempts"].as_array().unwrap().len(), 1);
    write(&go, "");
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    let report = world.report("bd-1", &[]);
    assert_eq!(
        (&report["state"], &report["reason_code"]),
        (&"exited_err".into(), &"process_exit_with_rc".into())
    );
    assert_eq!((&report["exit_code"], &report["outcome_state"]), (&"7".into(), &"failed".into()));
    assert_eq!((&report["execution_mode"], &report["mutations"]), (&"detached".into(), &1.into()));
    assert_eq!(report["files_changed"], json!(["new.txt"]));
    assert_eq!(report["diff_stat"], json!([{"path": "new.txt", "added": 1, "removed": 0, "binary": false}]));
    assert_eq!(report["next_action"], "dx-runner logs --beads bd-1");
    let steps: Vec<&str> =
        report["timeline"].as_array().unwrap().iter().map(|s| s["what"].as_str().unwrap()).collect();
    assert_eq!(steps, ["created", "monitor started", "agent started", "process ended", "ended"]);
    assert_eq!(report["record"]["source"], "journal");
    assert_eq!((&report["record"]["monitors"], &report["record"]["settle_error"]), (&1.into(), &"-".into()));
}

#[test]
fn all_runs_of_an_id_by_number_and_after_their_files_are_gone() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["exit:7"]);
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(3);
    world.run_to_end("bd-10", &[], &["exit:0"]);
    let newest = world.report("bd-1", &[]);
    let runs = newest["attempts"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{runs:#?}");
    assert_eq!((&newest["run"], &newest["retries"]), (&2.into(), &1.into()));
    assert!(
        runs[0]["run_instance"] != runs[1]["run_instance"]
            && runs[1]["run_instance"] == newest["run_instance"]
    );
    let first = world.report("bd-1", &["--run", "1"]);
    assert_eq!((&first["run"], &first["retries"], &first["exit_code"]), (&1.into(), &0.into(), &"7".into()));
    assert_eq!((&first["run_instance"], &first["attempts"]), (&runs[0]["run_instance"], &newest["attempts"]));
    for run in ["0", "3"] {
        let error = world.error(64, &["report", "--beads", "bd-1", "--run", run]);
        assert_eq!(error["reason_code"], "invalid_argument", "{error}");
    }
    // Somebody cleared the jobs away.
    wait_until(PATIENCE, "three lines of history", || {
        let files = std::fs::read_dir(world.env.state_dir().join("history")).into_iter().flatten().flatten();
        files.map(|file| read(file.path()).matches("run_uuid").count()).sum::<usize>() == 3
    });
    for folder in ["runs", "exec", "ended"] {
        std::fs::remove_dir_all(world.env.state_dir().join(folder)).unwrap();
    }
    let left = world.report("bd-1", &["--run", "1"]);
    assert_eq!(left["record"]["source"], "history");
    for field in ["run_instance", "exit_code", "started_at", "verdicts", "attempts", "worktree", "state"] {
        assert_eq!(left[field], first[field], "{field}");
    }
    assert_eq!(world.error(1, &["report", "--beads", "bd-2"])["reason_code"], "no_meta");
}

#[test]
fn what_is_wrong_with_a_record_is_said() {
    let world = World::new();
    let started = world.run_to_end("bd-1", &[], &["exit:0"]);
    let journal =
        world.env.state_dir().join("runs").join(started["run_uuid"].as_str().unwrap()).join("journal");
    let text = read(&journal);
    let mut lines: Vec<&str> = text.lines().collect();
    let monitor = lines.iter().position(|line| line.contains("monitor_started")).unwrap();
    let at = r#"{"at":"2030-01-01T00:00:00.000Z","mono_ms":1,"by":"monitor","event":"#;
    let cut = format!(r#"{at}{{"type":"log_truncated","lost_bytes":4096}}}}"#);
    let failed = format!(r#"{at}{{"type":"settled","step":"failed","message":"it was <killed>"}}}}"#);
    let again = lines[monitor].replace("\"adopted\":false", "\"adopted\":true");
    let agent = lines.iter().position(|line| line.contains("agent_started")).unwrap();
    let ended = lines.iter().position(|line| line.contains("process_ended")).unwrap();
    let illegal = lines[agent].to_owned();
    lines.splice(ended + 1..=ended, [failed.as_str(), illegal.as_str()]);
    lines.splice(ended..ended, [again.as_str(), "{\"half", cut.as_str()]);
    let mended = lines.join("\n") + "\n";
    write(&journal, &mended);
    let report = world.report("bd-1", &[]);
    let expected = json!({"source": "journal", "monitors": 2, "illegal_records": 1, "skipped_lines": 1,
        "lost_log_bytes": 4096, "settle_error": "it was <killed>"});
    assert_eq!(report["record"], expected);
    let markdown = world.env.run(&["report", "--beads", "bd-1"]).assert_code(0).stdout;
    for line in
        ["- monitors: 2", "- unreadable lines: 1", "- settling failed: it was \\<killed>", "monitor replaced"]
    {
        assert!(markdown.contains(line), "{line}: {markdown}");
    }
}

#[test]
fn records_of_the_original_program_are_reported_as_they_are() {
    let world = World::new();
    let folder = world.env.state_dir().join("opencode");
    world.env.run(&["prune"]).assert_code(0);
    std::fs::create_dir(&folder).unwrap();
    let outcome = |code: &str, instance: &str| {
        format!(
            "beads=old\nprovider=opencode\nexit_code={code}\nstate=failed\nduration_sec=83\nretries=1\n\
                 completed_at=2026-02-01T10:01:23Z\nmutations=3\nrun_instance={instance}\nexecution_mode=adapter-script\n"
        )
    };
    write(
        folder.join("old.meta"),
        "beads=old\nprovider=opencode\nstarted_at=2026-02-01T10:00:00Z\nhost=old-host\n",
    );
    write(folder.join("old.outcome"), outcome("2", "second"));
    write(folder.join("old.outcome.1"), outcome("9", "first"));
    let report = world.report("old", &[]);
    assert_eq!(
        (&report["exit_code"], &report["duration_sec"], &report["retries"]),
        (&"2".into(), &"83".into(), &1.into())
    );
    assert_eq!((&report["execution_mode"], &report["host"]), (&"adapter-script".into(), &"old-host".into()));
    assert_eq!(
        (&report["record"]["source"], &report["reason_code"]),
        (&"foreign".into(), &"outcome_exit_nonzero".into())
    );
    let exits: Vec<&str> =
        report["attempts"].as_array().unwrap().iter().map(|r| r["exit_code"].as_str().unwrap()).collect();
    assert_eq!(exits, ["9", "2"]);
    assert_eq!(world.report("old", &["--run", "1"])["run_instance"], "first");
    write(folder.join("going.meta"), "beads=going\nprovider=opencode\n");
    assert_eq!(world.report("going", &[])["exit_code"], "-");
}

#[test]
fn totals_per_provider_and_model() {
    let world = World::new();
    let empty = world.json(0, &["report", "--all"]);
    assert_eq!((&empty["total"]["runs"], &empty["total"]["success_rate"]), (&0.into(), &Value::Null));
    world.run_to_end("a", &[], &["exit:0"]);
    world.run_to_end("b", &[], &["exit:5"]);
    // Of other times and models, as they would have been written.
    let history = world.env.state_dir().join("history");
    let line = |uuid: &str, model: &str, state: &str, day: &str, sec: u64, cost: &str| {
        format!(
            "{{\"schema\":\"dx-runner/history/1\",\"run_uuid\":\"{uuid}\",\"beads\":\"x\",\"provider\":\"opencode\",\
             \"selected_model\":\"{model}\",\"state\":\"{state}\",\"reason_code\":\"process_exit_with_rc\",\
             \"started_at\":\"{day}T00:00:00.000Z\",\"completed_at\":\"{day}T00:00:00.000Z\",\"duration_sec\":{sec},\
             \"input_tokens\":100,\"output_tokens\":7,\"cost_usd\":{cost}}}\n"
        )
    };
    wait_until(PATIENCE, "the folder of the history", || history.is_dir());
    let lines = [
        line("1", "glm-5", "success", "2020-01-01", 10, "0.5"),
        line("2", "glm-5", "failed", "2020-01-02", 20, "null"),
        line("3", "glm-4", "success", "2020-01-03", 600, "0.25"),
    ];
    write(history.join("2020-01.jsonl"), lines.concat());
    let output = world.env.run(&["report", "--all", "--format", "json"]).assert_code(0);
    let all = document(&world.env, "report-all", &output.stdout);
    assert_eq!((&all["total"]["runs"], &all["total"]["succeeded"]), (&5.into(), &3.into()));
    let rows: Vec<(&str, &str, u64)> = ["providers", "models"]
        .iter()
        .flat_map(|list| all[list].as_array().unwrap())
        .map(|row| {
            (row["provider"].as_str().unwrap(), row["model"].as_str().unwrap(), row["runs"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("exec", "*", 2),
        ("opencode", "*", 3),
        ("exec", "-", 2),
        ("opencode", "glm-4", 1),
        ("opencode", "glm-5", 2),
    ];
    assert_eq!(rows, expected);
    let opencode = &all["providers"][1];
    assert_eq!((&opencode["duration_p50_sec"], &opencode["duration_p95_sec"]), (&20.into(), &600.into()));
    assert_eq!(
        (&opencode["input_tokens"], &opencode["output_tokens"], &opencode["cost_usd"]),
        (&300.into(), &21.into(), &json!(0.75))
    );
    let newest: Vec<&str> =
        all["runs"].as_array().unwrap().iter().map(|r| r["run_uuid"].as_str().unwrap()).collect();
    assert_eq!(newest[2..], ["3", "2", "1"]);
    let one = world.json(0, &["report", "--all", "--provider", "opencode"]);
    assert_eq!((&one["total"]["runs"], one["providers"].as_array().unwrap().len()), (&3.into(), 1));
    for args in [
        &["report", "--all", "--run", "1"][..],
        &["report", "--beads", "a", "--since", "1h"],
        &["report", "--beads", "a", "--all"],
    ] {
        assert!(world.env.run(args).assert_code(64).stderr.contains("cannot be used with"), "{args:?}");
    }
    let recent = world.json(0, &["report", "--all", "--since", "1h"]);
    assert_eq!((&recent["total"]["runs"], recent["providers"].as_array().unwrap().len()), (&2.into(), 1));
    let text = world.env.run(&["report", "--all"]).assert_code(0).stdout;
    let row = text
        .lines()
        .find(|line| line.contains("glm-5 ") && line.contains("50 %"))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("$0.50") && row.contains("20s"), "{row}");
    let html = world.env.run(&["report", "--all", "--format", "html"]).assert_code(0).stdout;
    assert!(html.starts_with("<!doctype html>") && html.contains("glm-4") && html.contains("$0.75"));
}

#[test]
fn reporting_a_job_writes_nothing() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["exit:0"]);
    wait_until(PATIENCE, "the line of history", || world.env.state_dir().join("history").is_dir());
    let history = || std::fs::read_dir(world.env.state_dir().join("history")).unwrap().count();
    wait_until(PATIENCE, "the line of history", || history() == 1);
    let look = || {
        let mut files = crate::world::files_below(&world.env.state_dir());
        files.sort();
        files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = look();
    for format in ["json", "markdown", "html"] {
        world.env.run(&["report", "--beads", "bd-1", "--format", format]).assert_code(0);
    }
    assert!(before == look(), "a report wrote");
    assert!(!world.env.state_dir().join("cache").exists());
}

#[test]
fn pages_take_text_for_text() {
    let world = World::new();
    let evil = "<script>alert(1)</script>";
    let folder = world.env.state_dir().join("exec");
    world.env.run(&["prune"]).assert_code(0);
    std::fs::create_dir(&folder).unwrap();
    let pairs = format!(
        "beads=old\nprovider=exec\nexit_code=1\nstate={evil}\nhost={evil}|x\nworktree=/w\u{1b}[31m\n"
    );
    write(folder.join("old.outcome"), pairs);
    let html = world.env.run(&["report", "--beads", "old", "--format", "html"]).assert_code(0).stdout;
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    assert!(!html.contains("http") || !html.contains("src="), "{html}");
    let markdown = world.env.run(&["report", "--beads", "old"]).assert_code(0).stdout;
    assert!(markdown.contains("\\<script>") && !markdown.contains('\u{1b}'), "{markdown}");
    let error = world.error(64, &["report", "--beads", "old", "--format", "html"]);
    assert_eq!(error["reason_code"], "invalid_argument");
    assert!(Path::new(&folder).is_dir());
}
