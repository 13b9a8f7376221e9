//! The history and its cache: one line per run, whatever happens to either; queries that read and nothing else.

use crate::world::{PATIENCE, World, read, write};
use crate::{document, environment};
use dx_testkit::wait_until;
use rusqlite::Connection;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

impl World {
    fn history(&self) -> PathBuf {
        self.env.state_dir().join("history")
    }

    fn cache(&self) -> PathBuf {
        self.env.state_dir().join("cache/history.sqlite")
    }

    /// The lines of the history that are whole.
    fn lines(&self) -> Vec<Value> {
        let files = std::fs::read_dir(self.history()).into_iter().flatten().flatten();
        let texts: Vec<String> = files.map(|file| read(file.path())).collect();
        texts
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for the line of a run; it is written after the end was told.
    #[track_caller]
    fn await_lines(&self, count: usize) -> Vec<Value> {
        wait_until(PATIENCE, &format!("{count} lines of history"), || self.lines().len() == count);
        self.lines()
    }

    /// Rows of a query, as text.
    #[track_caller]
    fn query(&self, sql: &str) -> Vec<Vec<Value>> {
        let output = self.env.run(&["history", "query", sql, "--json"]).assert_code(0);
        let answer = document(&self.env, "history-query", &output.stdout);
        serde_json::from_value(answer["rows"].clone()).unwrap()
    }

    /// What the history tells of all jobs: id and exit code.
    #[track_caller]
    fn told(&self) -> Vec<(String, String)> {
        let rows = self.query("SELECT beads, exit_code FROM runs ORDER BY run_uuid");
        rows.iter()
            .map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_str().unwrap().to_owned()))
            .collect()
    }
}

fn pairs(told: &[(&str, &str)]) -> Vec<(String, String)> {
    told.iter().map(|(id, code)| ((*id).to_owned(), (*code).to_owned())).collect()
}

#[test]
fn every_run_has_one_line_that_stands_by_itself() {
    let world = World::new();
    world.run_to_end("one", &[], &["write:new.txt:x", "exit:7"]);
    let line = world.await_lines(1).remove(0);
    let line = document(&world.env, "history", &line.to_string());
    assert_eq!(
        (&line["beads"], &line["exit_code"], &line["state"]),
        (&"one".into(), &"7".into(), &"failed".into())
    );
    assert_eq!((&line["verdict_process"], &line["mutations"]), (&"failed".into(), &1.into()));
    assert_eq!(line["worktree"], world.repo.display().to_string());
    world.env.run(&["restart", "--beads", "one"]).assert_code(0);
    world.env.run(&["wait", "--beads", "one"]).assert_code(3);
    world.await_lines(2);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.history()), 0o700);
    let file = std::fs::read_dir(world.history()).unwrap().flatten().next().unwrap().path();
    assert_eq!(mode(file), 0o600);
    assert_eq!(world.query("SELECT count(*), max(retries) FROM runs"), [[Value::from(2), 1.into()]]);
    assert_eq!(mode(world.cache()), 0o600);
}

#[test]
fn the_default_place_has_its_history_beside_the_jobs() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let agent = env.fake_agent().display().to_string();
    let place = env.path("xdg/state/dx-runner/jobs");
    let told = place.display().to_string();
    let head =
        ["start", "--beads", "x", "--provider", "exec", "--state-dir", &told, "--worktree", &repo, "--wait"];
    env.run(&[&head[..], &["--", &agent, "exit:0"]].concat()).assert_code(0);
    wait_until(PATIENCE, "a line of history", || {
        let files =
            std::fs::read_dir(env.path("xdg/state/dx-runner/history")).into_iter().flatten().flatten();
        files.map(|file| read(file.path())).any(|text| text.contains("\"beads\":\"x\""))
    });
    assert!(place.is_dir() && !place.join("history").exists());
}

#[test]
fn a_damaged_missing_older_or_newer_cache_is_made_again() {
    let world = World::new();
    world.run_to_end("a", &[], &["exit:0"]);
    world.run_to_end("b", &[], &["exit:5"]);
    world.await_lines(2);
    let expected = pairs(&[("a", "0"), ("b", "5")]);
    assert_eq!(world.told(), expected);
    let good = std::fs::read(world.cache()).unwrap();
    let whole = |bytes: &[u8]| write(world.cache(), bytes);
    let damages: [(&str, &dyn Fn()); 7] = [
        ("gone", &|| std::fs::remove_file(world.cache()).unwrap()),
        ("empty", &|| whole(b"")),
        ("no database", &|| whole(&[b'x'; 9000])),
        ("cut", &|| whole(&good[..good.len() / 2])),
        ("a torn page", &|| {
            let mut bytes = good.clone();
            bytes[4096..8192].fill(0xff);
            whole(&bytes);
        }),
        ("another version", &|| {
            Connection::open(world.cache()).unwrap().pragma_update(None, "user_version", 99).unwrap();
        }),
        ("other tables", &|| {
            let db = Connection::open(world.cache()).unwrap();
            db.execute_batch("DROP TABLE runs; CREATE TABLE runs (x)").unwrap();
        }),
    ];
    for (what, damage) in damages {
        whole(&good);
        damage();
        assert_eq!(world.told(), expected, "{what}");
        let ok: String = Connection::open(world.cache())
            .unwrap()
            .query_row("PRAGMA quick_check", [], |r| r.get(0))
            .unwrap();
        assert_eq!(ok, "ok", "{what}: it was made again");
    }
}

#[test]
fn a_locked_or_unusable_cache_hides_nothing() {
    let world = World::new();
    world.run_to_end("a", &[], &["exit:0"]);
    world.await_lines(1);
    assert_eq!(world.told(), pairs(&[("a", "0")]));
    // Another process has it for itself, and a run ends meanwhile.
    let lock = Connection::open(world.cache()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    world.run_to_end("b", &[], &["exit:5"]);
    world.await_lines(2);
    let expected = pairs(&[("a", "0"), ("b", "5")]);
    assert_eq!(world.told(), expected);
    world.env.run(&["prune"]).assert_code(0);
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    // A folder, a link to elsewhere: left alone.
    std::fs::remove_file(world.cache()).unwrap();
    std::fs::create_dir(world.cache()).unwrap();
    assert_eq!(world.told(), expected);
    std::fs::remove_dir(world.cache()).unwrap();
    let elsewhere = world.env.path("elsewhere");
    write(&elsewhere, "untouched");
    symlink(&elsewhere, world.cache()).unwrap();
    assert_eq!(world.told(), expected);
    assert_eq!(read(&elsewhere), "untouched");
}

#[test]
fn lines_that_are_none_are_passed_over() {
    let world = World::new();
    world.run_to_end("a", &[], &["exit:0"]);
    let line = world.await_lines(1).remove(0);
    let file = std::fs::read_dir(world.history()).unwrap().flatten().next().unwrap().path();
    let other =
        line.to_string().replace("\"a\"", "\"later\"").replace(line["run_uuid"].as_str().unwrap(), "z");
    let newer = other.replace("history/1", "history/2").replace("\"z\"", "\"y\"");
    let torn = &other[..other.len() / 2];
    let mut text = format!("{}\n\u{0}\u{1}\n[]\n{{}}\n{newer}\n{torn}\n{other}\n", read(&file)).into_bytes();
    text.extend(b"\xff\xfe\n");
    let last = other.replace("\"later\"", "\"last\"").replace("\"z\"", "\"zz\"");
    text.extend(&last.as_bytes()[..100]);
    write(&file, &text);
    assert_eq!(world.told(), pairs(&[("a", "0"), ("later", "0")]));
    // The last line is whole now.
    text.extend(&last.as_bytes()[100..]);
    write(&file, &text);
    assert_eq!(world.told(), pairs(&[("a", "0"), ("later", "0"), ("last", "0")]));
}

#[test]
fn a_history_that_lost_a_line_is_told_anew() {
    let world = World::new();
    world.run_to_end("a", &[], &["exit:0"]);
    let line = world.await_lines(1).remove(0);
    let file = std::fs::read_dir(world.history()).unwrap().flatten().next().unwrap().path();
    let other = line.to_string().replace("\"a\"", "\"old\"").replace(line["run_uuid"].as_str().unwrap(), "0");
    write(&file, format!("{other}\n{line}\n"));
    assert_eq!(world.told(), pairs(&[("old", "0"), ("a", "0")]));
    write(&file, format!("{line}\n"));
    assert_eq!(world.told(), pairs(&[("a", "0")]));
}

#[test]
fn a_history_that_cannot_be_written_holds_no_job_up_and_catches_up() {
    // A file where the folder should be, a folder where the file should be, a link to elsewhere.
    for hindrance in ["file", "folder", "link"] {
        let world = World::new();
        world.run_to_end("first", &[], &["exit:0"]);
        let month = world.await_lines(1).remove(0)["completed_at"].as_str().unwrap()[..7].to_owned();
        std::fs::remove_dir_all(world.history()).unwrap();
        let elsewhere = world.env.path("elsewhere");
        match hindrance {
            "file" => write(world.history(), ""),
            "folder" => std::fs::create_dir_all(world.history().join(format!("{month}.jsonl"))).unwrap(),
            _ => {
                std::fs::create_dir(&elsewhere).unwrap();
                symlink(&elsewhere, world.history()).unwrap();
            }
        }
        world.run_to_end("second", &[], &["exit:5"]);
        assert_eq!(world.outcome("second").2, "5", "{hindrance}");
        // Readers have it from the ended index.
        let expected = pairs(&[("first", "0"), ("second", "5")]);
        assert_eq!(world.told(), expected, "{hindrance}");
        let pruned = world.json(0, &["prune"]);
        assert!(pruned["details"].to_string().contains("history: "), "{hindrance}: {pruned}");
        match hindrance {
            "folder" => std::fs::remove_dir_all(world.history()).unwrap(),
            _ => std::fs::remove_file(world.history()).unwrap(),
        }
        assert!(!elsewhere.exists() || std::fs::read_dir(&elsewhere).unwrap().next().is_none());
        let pruned = world.json(0, &["prune"]);
        assert!(pruned["details"].to_string().contains("history: added 2 runs"), "{hindrance}: {pruned}");
        assert_eq!(world.lines().len(), 2, "{hindrance}");
        assert_eq!(world.json(0, &["prune"])["details"], Value::Array(Vec::new()), "{hindrance}");
        assert_eq!(world.told(), expected, "{hindrance}");
    }
}

#[test]
fn only_reading_is_allowed() {
    let world = World::new();
    world.run_to_end("a", &[], &["exit:0"]);
    world.await_lines(1);
    let elsewhere = world.env.path("stolen.db").display().to_string();
    let attempts = [
        "DELETE FROM runs",
        "UPDATE runs SET state = 'success' RETURNING *",
        "INSERT INTO recorded VALUES ('x') RETURNING 1",
        "DROP TABLE runs",
        "CREATE TEMP TABLE t AS SELECT 1",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = 0",
        &format!("ATTACH '{elsewhere}' AS x"),
        &format!("VACUUM INTO '{elsewhere}'"),
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM runs",
        "SELECT ?1",
        "SELECT nonsense FROM runs",
        "",
        "-- nothing",
    ];
    for sql in attempts {
        let error = world.error(64, &["history", "query", "--", sql]);
        assert_eq!(error["reason_code"], "query_refused", "{sql}: {error}");
        assert_eq!(world.told(), pairs(&[("a", "0")]), "{sql}");
    }
    assert!(!std::path::Path::new(&elsewhere).exists());
    let rows = world
        .query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n");
    assert_eq!(rows, [[Value::from(1)], [2.into()], [3.into()]]);
}

#[test]
fn answers_as_table_csv_and_json() {
    let world = World::new();
    let ask = |args: &[&str]| world.env.run(&[&["history", "query"], args].concat()).assert_code(0).stdout;
    let sql = "SELECT beads, cost_usd, duration_sec FROM runs";
    assert_eq!(ask(&[sql, "--format", "csv"]), "beads,cost_usd,duration_sec\r\n", "no run yet");
    world.run_to_end("a", &[], &["exit:0"]);
    world.await_lines(1);
    assert_eq!(
        ask(&["SELECT beads AS \"a,b\", cost_usd FROM runs", "--format", "csv"]),
        "\"a,b\",cost_usd\r\na,\r\n"
    );
    let table = ask(&["SELECT beads, state, cost_usd FROM runs"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["beads", "state", "cost_usd", "a", "success", "-"], "{table}");
    let json: Value = serde_json::from_str(&ask(&["SELECT beads FROM runs", "--format", "json"])).unwrap();
    assert_eq!(json["rows"], serde_json::json!([["a"]]));
    assert_eq!(json["columns"], serde_json::json!(["beads"]));
}

/// The history's own write is what fails: the disk is full from then on.
#[test]
fn a_full_disk_loses_a_line_for_a_while_and_no_outcome() {
    let world = World::new();
    let count = |trace: &str| {
        let ops: Vec<Value> =
            read(trace).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let takes_space = |op: &&Value| {
            let op = op["op"].as_str().unwrap();
            !op.starts_with("sync") && op != "remove"
        };
        let first = ops.iter().position(|op| {
            op["op"] == "make_dir" && op["path"].as_str().is_some_and(|path| path.ends_with("/history"))
        });
        first.map(|first| ops[..first].iter().filter(takes_space).count())
    };
    let start = |id: &str, name: &str, value: &str| {
        let mut command = world.env.product();
        command.args(world.start_args(id, &[], &["exit:5"])).env(name, value);
        world.env.run_command(command).assert_code(0);
        world.env.run(&["wait", "--beads", id]).assert_code(3);
    };
    // How many writes come before the history's.
    let trace = world.path("trace");
    start("traced", "DX_FAULT_TRACE", &trace);
    world.await_lines(1);
    let before = count(&trace).unwrap();
    std::fs::remove_dir_all(world.env.state_dir()).unwrap();
    let full = format!("{}+@{}", before + 1, world.path("count"));
    start("full", "DX_FAULT_ENOSPC", &full);
    assert_eq!(world.outcome("full").2, "5");
    let (claim, over) = (world.env.state_dir().join("live/exec.full"), || world.lines().is_empty());
    wait_until(PATIENCE, "the claim is gone", || !claim.exists());
    assert!(over(), "the disk was full");
    assert_eq!(world.told(), pairs(&[("full", "5")]));
    let pruned = world.json(0, &["prune"]);
    assert!(pruned["details"].to_string().contains("history: added 1 runs"), "{pruned}");
    assert_eq!(world.lines().len(), 1);
}

/// A monitor that dies right before the line, or right after it.
#[test]
fn a_kill_around_the_line_costs_nothing() {
    for step in ["monitor.released", "monitor.history"] {
        let world = World::new();
        let marker = world.path("killed");
        let mut command = world.env.product();
        command
            .args(world.start_args("a", &[], &["exit:5"]))
            .env("DX_FAULT_KILL", format!("{step}@{marker}"));
        world.env.run_command(command).assert_code(0);
        world.env.run(&["wait", "--beads", "a"]).assert_code(3);
        wait_until(PATIENCE, "the monitor was killed", || std::path::Path::new(&marker).exists());
        assert_eq!(world.told(), pairs(&[("a", "5")]), "{step}");
        world.env.run(&["prune"]).assert_code(0);
        world.await_lines(1);
        assert_eq!(world.told(), pairs(&[("a", "5")]), "{step}");
    }
}
