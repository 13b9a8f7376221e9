//! Records as they are found: of this first version (checked in, they must load for ever), damaged, newer, written by
//! other programs, and hostile.
//!
//! Must never: run a command on the checked-in records themselves; each test has its own copy.

mod damaged;
mod foreign;
mod hostile;
mod live;
mod load;
mod names;

use crate::environment;
use dx_testkit::TestEnv;
use serde_json::Value;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes a private folder and those above it.
fn make_dir(path: &Path) {
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path).unwrap();
}

/// Writes a private file.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, content.as_ref()).unwrap();
}

/// An environment whose state directory is a copy of these checked-in records; git keeps no modes, so the copy has them.
fn copy_of(case: &str) -> TestEnv {
    fn copy(from: &Path, to: &Path) {
        make_dir(to);
        for entry in std::fs::read_dir(from).unwrap() {
            let from = entry.unwrap().path();
            let to = to.join(from.file_name().unwrap());
            if from.is_dir() {
                copy(&from, &to);
            } else {
                put(&to, std::fs::read(&from).unwrap());
            }
        }
    }
    let env = environment();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1").join(case), &env.state_dir());
    env
}

/// The only run's folder of a job in a copy, found through its `.meta`.
fn run_of(env: &TestEnv, id: &str) -> PathBuf {
    let meta = std::fs::read_to_string(view(env, &format!("{id}.meta"))).unwrap();
    let uuid = meta.lines().find_map(|line| line.strip_prefix("run_uuid=")).unwrap();
    env.state_dir().join("runs").join(uuid)
}

/// A published file of provider `exec`.
fn view(env: &TestEnv, name: &str) -> PathBuf {
    env.state_dir().join("exec").join(name)
}

/// A command with `--json`: exit code and document, of the error when it failed.
#[track_caller]
fn ask(env: &TestEnv, args: &[&str]) -> (i32, Value) {
    let output = env.run(&[args, &["--json"]].concat());
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    (output.code, serde_json::from_str(text).unwrap_or_else(|error| panic!("{args:?}: {error}: {output}")))
}

/// Everything below a folder: path, mode and, of files, the content. Links are told, not followed.
fn everything(folder: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if meta.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                b"special".to_vec()
            };
            found.push((path, meta.permissions().mode(), content));
        }
    }
    found.sort();
    found
}

/// Starts a job of the fake agent in a folder of the environment; whatever comes of it.
fn start(env: &TestEnv, id: &str, more: &[&str], actions: &[&str]) -> dx_testkit::Output {
    let tree = env.allowed_root().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    let (tree, agent) = (tree.display().to_string(), env.fake_agent().display().to_string());
    let head = ["start", "--json", "--provider", "exec", "--beads", id, "--worktree", &tree];
    env.run(&[&head[..], more, &["--", &agent], actions].concat())
}
