//! A power cut while a wave runs: what its journal calls done is done, and the rest is done by `wave resume`. What is left of
//! the state directory is given to the real commands under another boot.

use super::world::{PATIENCE, World, coordinator, item, states};
use crate::disk::lay_out;
use crate::disk::model::{Keeps, Left, Model, Op, read_trace};
use dx_testkit::wait_until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Two items, the second after the first, each of which tells that it ran.
fn record(world: &mut World) -> Vec<Op> {
    let trace = world.env.path("trace");
    world.env.set("DX_FAULT_TRACE", &trace);
    let ran = world.path("ran");
    let commit = "git diff --cached --quiet || git commit -qm a";
    let items = [
        // Its worktree is whole after the cut, so that a second run may find the first one's commit.
        item("a", &[], &format!("echo a >> {ran}; echo a > a.txt; git add .; {commit}"), ""),
        item("b", &["a"], &format!("echo b >> {ran}; cat a.txt > b.txt"), ""),
    ];
    let (code, wave) = world.run("merge_into = \"all\"\n[defaults]\nsandbox = \"off\"", &items);
    assert_eq!(code, 0, "{wave:#}");
    wait_until(PATIENCE, "the coordinator has ended", || {
        coordinator(&world.env.state_dir(), "w-1").is_none()
    });
    world.env.set("DX_FAULT_TRACE", "/dev/null");
    read_trace(&trace)
}

/// Where the wave's journal was written, with the words in it that are looked for.
fn written(ops: &[Op], journal: &Path, word: &str) -> Vec<usize> {
    let word = format!("\"type\":\"{word}\"");
    (0..ops.len()).filter(|at| ops[*at].path == journal && ops[*at].tells(&word)).collect()
}

/// Events of an item that are left of the wave's journal.
fn events(left: &Left, item: &str) -> Vec<String> {
    let bytes = match left.get(Path::new("state/waves/w-1/journal")) {
        Some(Some((_, bytes))) => bytes.clone(),
        _ => Vec::new(),
    };
    let lines = String::from_utf8(bytes).unwrap();
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_item = records.filter(|record| record["event"]["item"] == item);
    of_item.map(|record| record["event"]["type"].as_str().unwrap().to_owned()).collect()
}

fn runs(world: &World) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for line in std::fs::read_to_string(world.path("ran")).unwrap().lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    runs
}

/// Everything that must hold for one case.
#[track_caller]
fn judge(world: &World, left: &Left, root: &Path, case: &str) {
    let state = lay_out(left, root).display().to_string();
    let before = runs(world);
    let ask = |args: &[&str]| world.ask(&[args, &["--state-dir", &state]].concat());
    let (code, told) = ask(&["resume", "w-1"]);
    assert!(code == 0 || told["error"]["reason_code"] == "wave_ended", "{case}: {code} {told:#}");
    let (_, wave) = ask(&["status", "w-1"]);
    assert_eq!(
        (states(&wave), &wave["state"]),
        (vec!["done".to_owned(); 2], &"done".into()),
        "{case}: {wave:#}"
    );
    let after = runs(world);
    for id in ["a", "b"] {
        let again = after[id] - before[id];
        let judged = events(left, id).iter().any(|event| event == "judged");
        assert!(again <= usize::from(!judged), "{case}: {id} ran {again} times more; {wave:#}");
    }
    assert_eq!(
        (world.show("all", "a.txt"), world.show("all", "b.txt")),
        ("a\n".into(), "a\n".into()),
        "{case}"
    );
    wait_until(PATIENCE, "the coordinator has ended", || coordinator(Path::new(&state), "w-1").is_none());
    std::fs::remove_dir_all(root).unwrap();
}

/// Around each record that decides something; with `DX_SOAK=1` after every single write.
#[test]
fn a_power_cut_loses_no_item_that_is_done() {
    let mut world = World::new();
    let ops = record(&mut world);
    let journal = world.env.state_dir().join("waves/w-1/journal");
    // Git syncs nothing by itself: it is done for it, before the journal says so.
    let git_dir = world.repo.join(".git");
    let synced = |range: &[Op]| range.iter().any(|op| op.kind == "sync_filesystem" && op.path == git_dir);
    let (attempts, judged) = (written(&ops, &journal, "attempt"), written(&ops, &journal, "judged"));
    assert_eq!((attempts.len(), judged.len()), (2, 2));
    for (from, to) in attempts.iter().zip(&judged) {
        assert!(synced(&ops[*from..*to]), "{:?}", &ops[*from..*to]);
    }
    let merged = written(&ops, &journal, "merged")[0];
    assert!(synced(&ops[judged[1] + 1..merged]));

    let soak = std::env::var_os("DX_SOAK").is_some_and(|value| value == "1");
    // A record is there after the write that follows it, which syncs it.
    let wanted: Vec<usize> = [judged[0], judged[0] + 2, attempts[1] + 2, judged[1] + 2].to_vec();
    let mut model = Model::new(world.env.root());
    let mut cuts: BTreeMap<Left, (usize, Keeps)> = BTreeMap::new();
    for (done, op) in (1..).zip(&ops) {
        // The rest is git's and the worktrees', all of which is there.
        if op.path == world.env.root() || op.path.starts_with(world.env.state_dir()) {
            model.apply(op);
        }
        let keeps: &[Keeps] =
            if soak { &[Keeps::All, Keeps::Names, Keeps::Synced] } else { &[Keeps::Synced] };
        for keeps in keeps.iter().filter(|_| soak || wanted.contains(&done)) {
            let left = model.cut(*keeps);
            // Before that, `wave run` had not returned.
            if !events(&left, "a").is_empty() {
                cuts.insert(left, (done, *keeps));
            }
        }
    }
    assert!(cuts.len() >= wanted.len(), "{}", cuts.len());
    println!("{} writes, {} different disks after a cut", ops.len(), cuts.len());
    for (n, (left, (done, keeps))) in cuts.iter().enumerate() {
        let case = format!("{keeps:?} after {done} writes ({})", ops[done - 1].kind);
        judge(&world, left, &world.env.path(format!("cut-{n}")), &case);
    }
}
