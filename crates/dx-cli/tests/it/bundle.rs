//! `bundle`: what is in it, what is not, and how it comes to its place.

use crate::document;
use crate::world::{World, read, write};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// The files of a bundle by their names, in the order they have in it, with the owner and mode of each.
#[track_caller]
fn unpack(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let header = entry.header();
        let plain = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap());
        assert_eq!(plain, (0, 0, 0o600), "{name}");
        assert!(header.entry_type().is_file(), "{name}");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((name, bytes));
    }
    files
}

fn text(files: &[(String, Vec<u8>)], name: &str) -> String {
    let found = files.iter().find(|file| file.0 == name).unwrap_or_else(|| panic!("no {name}"));
    String::from_utf8(found.1.clone()).unwrap()
}

#[test]
fn everything_of_a_run_and_nothing_secret() {
    let mut world = World::new();
    // Put together here, so that no tool takes this file for one with secrets.
    let (named, token) =
        ("plain-word-4711", |head: &str| format!("{head}{}", "0123456789abcdefghijABCDEFGHIJ012345"));
    let (shaped, recorded) = (token("sk-"), token("ghp_"));
    world.env.set("MY_VALUE", named);
    world.env.set("SOME_TOKEN", "token-value-8822");
    let print =
        [format!("print:{named} {shaped}"), "stderr:token-value-8822".to_owned(), "exit:7".to_owned()];
    let actions: Vec<&str> = print.iter().map(String::as_str).collect();
    let prompt = world.path("prompt.md");
    write(&prompt, "the prompt is nobody's business\n");
    world.run_to_end("bd-1", &["--env", "MY_VALUE", "--prompt-file", &prompt], &actions);
    // As a version before masking, or somebody's hand, would have left it.
    write(world.view("bd-1", "heartbeat"), format!("last_detail={recorded} {named}\n"));
    let out = world.env.path("bd-1.tar.gz");
    let file = out.display().to_string();
    let output = world.env.run(&["bundle", "--beads", "bd-1", "-o", &file, "--json"]).assert_code(0);
    let told = document(&world.env, "bundle", &output.stdout);
    assert_eq!(told["file"], *file);
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpack(&out);
    let names: Vec<&str> = files.iter().map(|file| file.0.strip_prefix("dx-runner-bd-1/").unwrap()).collect();
    let expected = [
        "manifest.json",
        "doctor.json",
        "report.json",
        "run/exit",
        "run/journal.jsonl",
        "run/log",
        "views/contract",
        "views/heartbeat",
        "views/meta",
        "views/outcome",
        "views/rc",
    ];
    assert_eq!(names, expected);
    for (name, bytes) in &files {
        let content = String::from_utf8_lossy(bytes);
        for secret in [named, &shaped, &recorded, "token-value-8822", "nobody's business"] {
            assert!(!content.contains(secret), "{secret} is in {name}:\n{content}");
        }
    }
    let part = |name: &str| text(&files, &format!("dx-runner-bd-1/{name}"));
    let manifest = document(&world.env, "bundle", &part("manifest.json"));
    assert_eq!((&manifest["file"], &manifest["contents"]), (&"bd-1.tar.gz".into(), &told["contents"]));
    assert!(manifest["left_out"].to_string().contains("prompt"), "{manifest}");
    let sizes: BTreeMap<String, u64> = serde_json::from_value::<Vec<Value>>(manifest["contents"].clone())
        .unwrap()
        .iter()
        .map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry["bytes"].as_u64().unwrap()))
        .collect();
    for (name, bytes) in files.iter().skip(1) {
        assert_eq!(sizes[name.strip_prefix("dx-runner-bd-1/").unwrap()], bytes.len() as u64, "{name}");
    }
    let report = document(&world.env, "report", &part("report.json"));
    assert_eq!((&report["exit_code"], &report["beads"]), (&"7".into(), &"bd-1".into()));
    document(&world.env, "doctor", &part("doctor.json"));
    assert!(part("run/journal.jsonl").contains("\"type\":\"ended\"") && part("views/rc") == "7\n");
    assert!(part("run/exit").contains("\"exit\"") && !part("run/exit").contains('\0'));
}

#[test]
fn it_replaces_a_file_and_follows_no_link_and_fails_whole() {
    let world = World::new();
    world.run_to_end("bd-1", &[], &["exit:0"]);
    let out = world.env.path("out/bundle.tar.gz");
    let file = out.display().to_string();
    let args = ["bundle", "--beads", "bd-1", "-o", &file];
    let error = world.error(1, &args);
    assert_eq!(error["reason_code"], "output_unwritable", "{error}");
    std::fs::create_dir(world.env.path("out")).unwrap();
    let theirs = world.env.path("theirs");
    write(&theirs, "theirs");
    symlink(&theirs, &out).unwrap();
    world.env.run(&args).assert_code(0);
    assert_eq!(read(&theirs), "theirs");
    let first = std::fs::symlink_metadata(&out).unwrap();
    assert!(first.is_file() && first.len() > 0);
    world.env.run(&args).assert_code(0);
    assert_ne!(std::fs::metadata(&out).unwrap().ino(), first.ino());
    std::fs::remove_file(&out).unwrap();
    std::fs::create_dir(&out).unwrap();
    assert_eq!(world.error(1, &args)["reason_code"], "output_unwritable");
    let left: Vec<_> =
        std::fs::read_dir(world.env.path("out")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["bundle.tar.gz"], "nothing half is left");
    assert_eq!(world.error(1, &["bundle", "--beads", "bd-2", "-o", &file])["reason_code"], "no_meta");
}

#[test]
fn a_live_job_another_program_s_and_one_whose_files_are_gone() {
    let world = World::new();
    let go = world.path("go");
    world.start("live", &[], &["print:hello", &format!("wait-file:{go}")]);
    let pack = |id: &str| {
        let out = world.env.path(format!("{id}.tar.gz"));
        world.env.run(&["bundle", "--beads", id, "-o", &out.display().to_string()]).assert_code(0);
        let files = unpack(&out);
        let prefix = format!("dx-runner-{id}/");
        files
            .into_iter()
            .map(|(name, bytes)| (name.strip_prefix(&prefix).unwrap().to_owned(), bytes))
            .collect()
    };
    let files: Vec<(String, Vec<u8>)> = pack("live");
    assert!(text(&files, "report.json").contains("\"ended\": false"));
    assert!(text(&files, "run/journal.jsonl").contains("\"type\":\"created\""));
    write(&go, "");
    world.env.run(&["wait", "--beads", "live"]).assert_code(0);

    let folder = world.env.state_dir().join("opencode");
    std::fs::create_dir(&folder).unwrap();
    write(folder.join("old.outcome"), "beads=old\nexit_code=2\nstate=failed\n");
    write(folder.join("old.log"), "their log\n");
    let files: Vec<(String, Vec<u8>)> = pack("old");
    assert_eq!(text(&files, "run/log"), "their log\n");
    assert!(text(&files, "views/outcome").contains("exit_code=2"));

    for folder in ["runs", "exec"] {
        std::fs::remove_dir_all(world.env.state_dir().join(folder)).unwrap();
    }
    let files: Vec<(String, Vec<u8>)> = pack("live");
    let names: Vec<&str> = files.iter().map(|file| file.0.as_str()).collect();
    assert_eq!(names, ["manifest.json", "doctor.json", "report.json"]);
    assert!(text(&files, "report.json").contains("\"source\": \"history\""));
}
