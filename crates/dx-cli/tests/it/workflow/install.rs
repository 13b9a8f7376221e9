//! `workflow install`, `uninstall` and `restore`: nothing of the user's is lost, whenever they are killed.

use crate::world::{read, write};
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs the rest with the first argument read-only.
const SCRIPT: &str = r#"mount --make-rprivate / && mount -o bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
shift; exec "$@""#;

/// What is below a folder: content of files, `None` for folders.
pub(super) type Tree = BTreeMap<String, Option<Vec<u8>>>;

pub(super) fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let (path, is_dir) = (entry.path(), entry.file_type().unwrap().is_dir());
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, (!is_dir).then(|| std::fs::read(&path).unwrap()));
            if is_dir {
                folders.push(path);
            }
        }
    }
    found
}

struct Place {
    env: TestEnv,
    /// The folder above the target, so that the target's own making is seen.
    above: PathBuf,
    target: PathBuf,
    scope: &'static str,
    project: PathBuf,
}

impl Place {
    fn new(kind: &str) -> Self {
        let mut env = environment();
        let project = env.git_repo("app", &[("src/a.txt", "one\n")]);
        let (above, target, scope) = match kind {
            "own" => {
                let above = env.path("own");
                std::fs::create_dir(&above).unwrap();
                env.set("OPENCODE_CONFIG_DIR", above.join("oc"));
                (above.clone(), above.join("oc"), "global")
            }
            "xdg" => (env.path("xdg/config"), env.path("xdg/config/opencode"), "global"),
            "home" => {
                env.set("XDG_CONFIG_HOME", "");
                std::fs::create_dir(env.home().join(".config")).unwrap();
                (env.home(), env.home().join(".config/opencode"), "global")
            }
            _ => (project.clone(), project.join(".opencode"), "project"),
        };
        Self { env, above, target, scope, project }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.env.product();
        // From a folder below the top.
        command.current_dir(self.project.join("src"));
        command.arg("workflow").args(args).args(["--scope", self.scope, "--json"]);
        command
    }

    #[track_caller]
    fn ask(&self, args: &[&str]) -> Value {
        let output = self.env.run_command(self.command(args)).assert_code(0);
        document(&self.env, "workflow", &output.stdout)
    }

    #[track_caller]
    fn refused(&self, code: i32, args: &[&str]) -> Value {
        let output = self.env.run_command(self.command(args)).assert_code(code);
        crate::world::error_of(&self.env, &output)
    }

    /// Byte for byte as it was before.
    #[track_caller]
    fn assert_is(&self, before: &Tree, case: &str) {
        let now = self.tree();
        let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let differ: Vec<_> = names.into_iter().filter(|name| before.get(*name) != now.get(*name)).collect();
        assert!(differ.is_empty(), "{case}: {differ:?}");
    }

    fn tree(&self) -> Tree {
        tree(&self.above)
    }

    /// An installation of an older version: one agent that differs, one that is gone now, no command and no plugin.
    fn older(&self) {
        self.ask(&["install"]);
        let manifest = self.target.join(".dx-runner-workflow.json");
        let mut record: Value = serde_json::from_str(&read(&manifest)).unwrap();
        record["version"] = "0.0.9".into();
        let files = record["files"].as_array_mut().unwrap();
        files.retain(|file| file["path"].as_str().unwrap().starts_with("agents/"));
        for folder in ["commands", "plugins"] {
            std::fs::remove_dir_all(self.target.join(folder)).unwrap();
        }
        let old = "---\ndescription: old\nmode: subagent\n---\nOld.\n";
        for (index, path) in [(0, "agents/documentation.md"), (files.len(), "agents/builder.md")] {
            write(self.target.join(path), old);
            let entry = serde_json::json!({ "path": path, "sha256": sha256(old.as_bytes()) });
            if index < files.len() { files[index] = entry } else { files.push(entry) }
        }
        write(manifest, serde_json::to_string_pretty(&record).unwrap() + "\n");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    sha2::Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn actions(document: &Value, action: &str) -> Vec<String> {
    let rows = document["files"].as_array().unwrap().iter();
    rows.filter(|row| row["action"] == action).map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_target_gets_the_pack_once_and_gives_it_back() {
    for kind in ["own", "xdg", "home", "project"] {
        let place = Place::new(kind);
        let before = place.tree();
        let dry = place.ask(&["install", "--dry-run"]);
        assert_eq!((&dry["dry_run"], &dry["changed"]), (&true.into(), &true.into()));
        place.assert_is(&before, kind);
        let done = place.ask(&["install"]);
        assert_eq!(done["target"], place.target.display().to_string());
        assert_eq!(actions(&done, "create").len(), 18, "{done:#}");
        assert!(done["next_action"].as_str().unwrap().contains("restart OpenCode"));
        assert_eq!(actions(&dry, "create"), actions(&done, "create"));
        let installed = place.tree();
        assert!(read(place.target.join("agents/orchestrator.md")).contains("# Orchestrator"));
        let again = place.ask(&["install"]);
        assert_eq!((&again["changed"], &again["backup"]), (&false.into(), &Value::Null), "{again:#}");
        place.assert_is(&installed, kind);
        let status = place.ask(&["status"]);
        assert!(status["files"].as_array().unwrap().iter().all(|row| row["state"] == "current"));
        place.ask(&["uninstall"]);
        place.assert_is(&before, kind);
        assert_eq!(place.refused(1, &["uninstall"])["reason_code"], "pack_not_installed");
    }
}

#[test]
fn an_older_version_of_ours_is_replaced_and_can_be_brought_back() {
    let place = Place::new("xdg");
    place.older();
    let before = place.tree();
    let status = place.ask(&["status"]);
    place.assert_is(&before, "status writes nothing");
    assert_eq!(actions(&status, "update"), ["agents/documentation.md"]);
    let done = place.ask(&["install"]);
    assert_eq!(done["installed_version"], "0.0.9");
    assert_eq!(actions(&done, "update"), ["agents/documentation.md"]);
    assert_eq!(actions(&done, "remove"), ["agents/builder.md"]);
    assert_eq!(actions(&done, "create").len(), 7);
    assert!(!place.target.join("agents/builder.md").exists());
    let name = done["backup"].as_str().unwrap();
    assert!(place.target.join(format!("agents/builder.md.bak-{name}")).exists());
    assert_eq!(place.ask(&["install"])["backups"], serde_json::json!([name]), "no second backup");
    let restored = place.ask(&["restore"]);
    assert_eq!(restored["backup"], name);
    place.assert_is(&before, "byte for byte");
    assert_eq!(place.refused(64, &["restore"])["reason_code"], "pack_backup_not_found");
}

#[test]
fn what_the_user_changed_is_kept_until_it_is_forced() {
    let place = Place::new("project");
    // Of the same name and not ours; ours and edited; a link; and things that are none of our business.
    std::fs::create_dir_all(place.target.join("agents")).unwrap();
    for folder in ["skills/x", "plugins"] {
        std::fs::create_dir_all(place.target.join(folder)).unwrap();
    }
    for (path, text) in [
        ("agents/research.md", "---\nmode: all\n---\nMine.\n"),
        ("agents/mine.md", "---\nmode: all\n---\nMine too.\n"),
        ("skills/x/SKILL.md", "skill"),
        ("plugins/mine.js", "export const Mine = async () => ({})\n"),
        ("opencode.jsonc", "{ /* mine */ }"),
    ] {
        write(place.target.join(path), text);
    }
    write(place.project.join("AGENTS.md"), "rules\n");
    write(place.project.join("elsewhere.md"), "linked\n");
    std::os::unix::fs::symlink(place.project.join("elsewhere.md"), place.target.join("agents/shipper.md"))
        .unwrap();
    let foreign = place.tree();
    let done = place.ask(&["install"]);
    assert_eq!(actions(&done, "keep"), ["agents/research.md", "agents/shipper.md"]);
    assert_eq!((&done["backup"], actions(&done, "create").len()), (&Value::Null, 16));
    assert!(done["next_action"].as_str().unwrap().contains("--force"));
    let edited = place.target.join("agents/init.md");
    let mine = read(&edited) + "\nAnd mine.\n";
    write(&edited, &mine);
    let plugin = place.target.join("plugins/dx-runner.js");
    write(&plugin, "// Mine as well.\n");
    let again = place.ask(&["install"]);
    assert_eq!(again["changed"], false, "{again:#}");
    assert_eq!(actions(&again, "keep").len(), 4);
    assert_eq!(read(&edited), mine);
    let output = place.env.run_command({
        let mut command = place.env.product();
        command.current_dir(&place.project).args(["workflow", "diff", "--scope", "project"]);
        command
    });
    assert!(output.stdout.contains("-And mine.") && output.stdout.contains("+# Research"), "{output}");
    assert!(output.stdout.contains("agents/shipper.md is no plain file"), "{output}");
    let before = place.tree();
    let forced = place.ask(&["install", "--force"]);
    let replaced = ["agents/init.md", "agents/research.md", "agents/shipper.md", "plugins/dx-runner.js"];
    assert_eq!(actions(&forced, "replace"), replaced);
    assert!(read(&plugin).contains("tool.execute.before"));
    assert!(read(&edited).contains("# Init") && read(place.project.join("elsewhere.md")) == "linked\n");
    assert!(std::fs::symlink_metadata(place.target.join("agents/shipper.md")).unwrap().is_file());
    assert_eq!(place.ask(&["install", "--force"])["changed"], false);
    place.ask(&["restore", forced["backup"].as_str().unwrap()]);
    place.assert_is(&before, "byte for byte");
    // An edit after a forced installation is not lost by restoring.
    let forced = place.ask(&["install", "--force"]);
    write(&edited, "newest");
    let restored = place.ask(&["restore"]);
    assert_eq!(
        (actions(&restored, "keep"), read(&edited)),
        (vec!["agents/init.md".to_owned()], "newest".to_owned())
    );
    std::fs::remove_file(&edited).unwrap();
    place.ask(&["restore", &format!("agents/init.md.bak-{}", forced["backup"].as_str().unwrap())]);
    place.assert_is(&before, "");
    // What is as it was installed goes; the rest stays.
    let gone = place.ask(&["uninstall"]);
    assert_eq!(actions(&gone, "keep"), ["agents/init.md", "plugins/dx-runner.js"]);
    for file in [&edited, &plugin] {
        std::fs::remove_file(file).unwrap();
    }
    place.assert_is(&foreign, "byte for byte");
}

#[test]
fn taking_it_out_brings_back_what_it_took_the_place_of() {
    let place = Place::new("project");
    std::fs::create_dir_all(place.target.join("agents")).unwrap();
    write(place.target.join("agents/research.md"), "---\nmode: all\n---\nMine.\n");
    write(place.project.join("elsewhere.md"), "linked\n");
    std::os::unix::fs::symlink(place.project.join("elsewhere.md"), place.target.join("agents/shipper.md"))
        .unwrap();
    let before = place.tree();
    let error = place.refused(64, &["restore"]);
    assert!(error["message"].as_str().unwrap().contains("no installation here has replaced"), "{error}");
    place.ask(&["install"]);
    place.ask(&["install", "--force"]);
    let dry = place.ask(&["uninstall", "--dry-run"]);
    assert_eq!(actions(&dry, "restore"), ["agents/research.md", "agents/shipper.md"], "{dry:#}");
    // Nobody changed anything since.
    assert!(dry["files"].as_array().unwrap().iter().all(|row| row["state"] == "current"), "{dry:#}");
    // Killed at each of its steps, and gone on with.
    for n in 0..3 {
        let marker = place.env.path(format!("killed-{n}"));
        let mut command = place.command(&["uninstall"]);
        command.env("DX_FAULT_KILL", format!("workflow.removed@{}", marker.display()));
        assert_eq!(place.env.run_command(command).code, -9);
    }
    let gone = place.ask(&["uninstall"]);
    place.assert_is(&before, "byte for byte");
    assert_eq!((actions(&gone, "restore").len(), &gone["backups"]), (2, &serde_json::json!([])), "{gone:#}");
    // What was ours before is nobody's any more, and what the user wrote since stays beside the older text.
    let place = Place::new("xdg");
    let before = place.tree();
    place.older();
    place.ask(&["install"]);
    place.ask(&["uninstall"]);
    place.assert_is(&before, "an older version of ours");
    place.ask(&["install"]);
    let init = place.target.join("agents/init.md");
    write(&init, "older");
    let forced = place.ask(&["install", "--force"]);
    write(&init, "newer");
    let gone = place.ask(&["uninstall"]);
    assert_eq!(
        (actions(&gone, "keep"), read(&init)),
        (vec!["agents/init.md".to_owned()], "newer".to_owned())
    );
    assert_eq!(gone["backups"], serde_json::json!([forced["backup"]]));
    std::fs::remove_file(&init).unwrap();
    place.ask(&["restore"]);
    assert_eq!(read(&init), "older");
}

#[test]
fn what_was_there_before_stays_when_it_is_like_the_packs() {
    for step in ["", "workflow.folders_made", "workflow.planned", "workflow.finished"] {
        let place = Place::new("project");
        std::fs::create_dir_all(place.target.join("agents")).unwrap();
        std::fs::create_dir(place.target.join("commands")).unwrap();
        write(place.target.join("agents/init.md"), include_str!("../../../../../pack/agents/init.md"));
        let before = place.tree();
        if !step.is_empty() {
            let marker = place.env.path("killed");
            let mut command = place.command(&["install"]);
            command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
            assert_eq!(place.env.run_command(command).code, -9, "{step}");
        }
        let done = place.ask(&["install"]);
        assert_eq!(actions(&done, "keep"), Vec::<String>::new(), "{step}");
        assert_eq!(place.ask(&["install", "--force"])["changed"], false, "{step}");
        let gone = place.ask(&["uninstall"]);
        assert_eq!(actions(&gone, "remove").len(), 17, "{step}: {gone:#}");
        place.assert_is(&before, step);
    }
    // Folders of ours are like any other folder of the user's.
    let place = Place::new("project");
    place.ask(&["install"]);
    for folder in [".", "agents", "commands", "plugins"] {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(place.target.join(folder)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7000, 0, "{folder}");
    }
}

#[test]
fn what_is_written_after_a_kill_is_in_a_backup_too() {
    for step in ["workflow.files_written", "workflow.finished"] {
        let place = Place::new("xdg");
        place.older();
        write(place.target.join("agents/init.md"), "first");
        let marker = place.env.path("killed");
        let mut command = place.command(&["install", "--force"]);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        assert_eq!(place.env.run_command(command).code, -9, "{step}");
        write(place.target.join("agents/init.md"), "second");
        place.ask(&["install", "--force"]);
        let tree = place.tree();
        for text in ["first", "second"] {
            let kept = tree.values().flatten().any(|bytes| bytes == text.as_bytes());
            assert!(kept, "{step}: {text} is lost: {:?}", tree.keys());
        }
        let status = place.ask(&["status"]);
        assert_eq!(status["backups"].as_array().unwrap().len(), 2, "{step}: {status:#}");
    }
}

#[test]
fn what_a_killed_installation_took_the_place_of_comes_back_without_another_one() {
    let steps = ["backup_recorded", "backed_up", "planned", "file_written", "files_written", "finished"];
    for step in steps {
        // Files of the user's with names of ours, of which some are written over by then.
        let place = Place::new("project");
        std::fs::create_dir_all(place.target.join("agents")).unwrap();
        for name in ["documentation", "init", "shipper"] {
            write(place.target.join(format!("agents/{name}.md")), format!("My {name}.\n"));
        }
        let before = place.tree();
        let marker = place.env.path("killed");
        let mut command = place.command(&["install", "--force"]);
        command.env("DX_FAULT_KILL", format!("workflow.{step}@{}", marker.display()));
        assert_eq!(place.env.run_command(command).code, -9, "{step}");
        if place.target.join(".dx-runner-workflow.json").exists() {
            let dry = place.ask(&["uninstall", "--dry-run"]);
            assert_eq!(actions(&dry, "restore").len() + actions(&dry, "keep").len(), 3, "{step}: {dry:#}");
            let gone = place.ask(&["uninstall"]);
            assert_eq!(gone["backups"], serde_json::json!([]), "{step}");
        } else {
            place.ask(&["restore"]);
        }
        place.assert_is(&before, step);
    }
}

#[test]
fn an_installation_that_is_killed_anywhere_is_repaired_by_the_next_and_can_be_undone() {
    // Those of taking it out come below.
    let other = ["workflow.removed", "workflow.restored"];
    let steps = dx_jobdir::faults::WORKFLOW_STEPS.iter().filter(|step| !other.contains(step));
    let installed = {
        let place = Place::new("xdg");
        place.ask(&["install"]);
        place.tree()
    };
    for step in steps {
        // Over an older version with an edit of the user's, forced.
        let place = Place::new("xdg");
        place.older();
        write(place.target.join("agents/init.md"), "mine");
        let before = place.tree();
        let kill = |args: &[&str]| {
            let marker = place.env.path(format!("killed-{}", args[0]));
            let mut command = place.command(args);
            command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
            let output = place.env.run_command(command);
            assert_eq!((output.code, marker.exists()), (-9, true), "{step}: {output}");
        };
        kill(&["install", "--force"]);
        for (path, now) in
            place.tree().iter().filter(|(path, _)| [".md", ".js"].iter().any(|end| path.ends_with(end)))
        {
            let old = before.get(path).cloned().flatten();
            let whole = now == &old || installed.values().any(|new| new == now);
            assert!(whole, "{step}: {path} is half of a file");
        }
        place.ask(&["install", "--force"]);
        let status = place.ask(&["status"]);
        let rows = status["files"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["state"] == "current") && rows.len() == 18, "{step}: {status:#}");
        assert!(!place.target.join("agents/builder.md").exists(), "{step}");
        assert_eq!(status["backups"].as_array().unwrap().len(), 1, "{step}: one backup for both");
        let left: Vec<String> = place.tree().into_keys().filter(|path| path.contains("-new")).collect();
        assert!(left.is_empty(), "{step}: {left:?}");
        place.ask(&["restore"]);
        place.assert_is(&before, step);
        // Into nothing.
        let place = Place::new("home");
        let before = place.tree();
        let marker = place.env.path("killed");
        let mut command = place.command(&["install"]);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        place.env.run_command(command);
        place.ask(&["install"]);
        place.ask(&["uninstall"]);
        place.assert_is(&before, step);
    }
}

#[test]
fn taking_it_out_and_bringing_back_can_be_killed_too() {
    let place = Place::new("own");
    let nothing = place.tree();
    place.ask(&["install"]);
    let killed = |args: &[&str], step: &str| {
        let marker = place.env.path(step);
        let mut command = place.command(args);
        command.env("DX_FAULT_KILL", format!("{step}@{}", marker.display()));
        assert_eq!(place.env.run_command(command).code, -9, "{step}");
    };
    killed(&["uninstall"], "workflow.removed");
    place.ask(&["uninstall"]);
    place.assert_is(&nothing, "");
    place.older();
    let older = place.tree();
    place.ask(&["install"]);
    killed(&["restore"], "workflow.restored");
    place.ask(&["restore"]);
    place.assert_is(&older, "");
}

#[test]
fn two_at_once_make_one() {
    let place = Place::new("xdg");
    place.older();
    let children: Vec<_> = (0..6)
        .map(|_| place.command(&["install"]).stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let status = place.ask(&["status"]);
    assert_eq!(status["backups"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(actions(&status, "none").len(), 18, "{status:#}");
}

#[test]
fn records_that_are_newer_damaged_or_lead_elsewhere_are_refused() {
    let place = Place::new("project");
    place.ask(&["install"]);
    let manifest = place.target.join(".dx-runner-workflow.json");
    let good = read(&manifest);
    write(place.project.join("victim.md"), "mine");
    for (text, reason) in [
        (good.replace("pack-manifest/1", "pack-manifest/2"), "record_newer"),
        ("{".to_owned(), "record_unreadable"),
        (good.replace("agents/init.md", "agents/../../victim.md"), "record_unreadable"),
        (good.replace("agents/init.md", "../victim.md"), "record_unreadable"),
    ] {
        write(&manifest, text);
        let before = place.tree();
        for command in ["install", "uninstall", "status"] {
            assert_eq!(place.refused(33, &[command])["reason_code"], reason);
        }
        place.assert_is(&before, "");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_anything_is_done() {
    let place = Place::new("xdg");
    place.older();
    let before = place.tree();
    let read_only = |args: &[&str]| {
        let product = place.command(args);
        let mut command = place.env.command("unshare");
        command.current_dir(&place.project);
        command.args(["-m", "--map-root-user", "sh", "-c", SCRIPT, "sh"]).arg(&place.target);
        command.arg(product.get_program()).args(product.get_args());
        place.env.run_command(command)
    };
    let first = read_only(&["install"]);
    if first.code == 99 || first.stderr.starts_with("unshare: ") {
        println!("skipped: this machine lets nobody mount");
    } else {
        for args in [&["install"][..], &["install", "--dry-run"], &["uninstall"]] {
            let error = crate::world::error_of(&place.env, &read_only(args).assert_code(1));
            assert_eq!(error["reason_code"], "pack_target_unwritable", "{error}");
            assert!(error["message"].as_str().unwrap().contains("opencode"), "{error}");
        }
        place.assert_is(&before, "");
    }
    // A file where a folder has to be.
    let place = Place::new("xdg");
    write(&place.target, "a file");
    assert_eq!(place.refused(1, &["install"])["reason_code"], "pack_target_unwritable");
}

#[test]
fn what_is_installed_is_checked_with_everything_beside_it() {
    let place = Place::new("project");
    let check = |code| {
        let output = place.env.run_command(place.command(&["check"])).assert_code(code);
        document(&place.env, "workflow-check", &output.stdout)
    };
    assert_eq!(place.refused(1, &["check"])["reason_code"], "pack_not_installed");
    place.ask(&["install"]);
    assert_eq!(check(0)["findings"], serde_json::json!([]));
    write(place.target.join("agents/mine.md"), "---\nmode: boss\n---\nMine.\n");
    let init = place.target.join("agents/init.md");
    write(&init, read(&init).replace("  question: allow\n", ""));
    let plugin = place.target.join("plugins/dx-runner.js");
    write(&plugin, read(&plugin).replacen("OpenCode 1.18", "OpenCode 2", 1));
    write(place.target.join("plugins/mine.js"), "export const Mine = async () => ({})\n");
    write(place.target.join("plugins/README.md"), "not a definition\n");
    let found = check(1);
    let rows: Vec<_> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["file"].as_str().unwrap(), row["rule"].as_str().unwrap()))
        .collect();
    let init = ("agents/init.md", "needs");
    let plugin = ("plugins/dx-runner.js", "plugin");
    assert_eq!(rows, [init, init, ("agents/mine.md", "mode"), plugin], "{found:#}");
    assert_eq!(found["findings"][3]["line"], 3, "{found:#}");
    let package = place.env.run(&["workflow", "check"]).assert_code(0);
    assert_eq!(package.stdout, "package: 18 files: nothing is wrong\n");
    let mut text = place.env.product();
    text.current_dir(&place.project).args(["workflow", "check", "--scope", "project"]);
    let text = place.env.run_command(text).assert_code(1).stdout;
    assert!(text.contains("agents/mine.md:2: ") && text.contains("\n  fix: one of primary"), "{text}");
}
