//! Builds in the sandbox: `cargo test` and `npm ci`, without a network, in a fresh home.

use super::{linked, sh, world};
use crate::world::{World, write};
use std::path::{Path, PathBuf};

/// Puts the folder of a program in front of PATH.
fn with_program(world: &mut World, folder: &Path) {
    let path = format!("{}:{}:/usr/local/bin:/usr/bin:/bin", world.env.bin_dir().display(), folder.display());
    world.env.set("PATH", path);
}

fn add(world: &World, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = world.repo.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(path, content);
    }
    world.env.git(&world.repo, &["add", "--all"]);
    world.env.git(&world.repo, &["commit", "--quiet", "--message=files"]);
}

/// Has this command run in each new worktree, in the sandbox.
fn set_up(world: &World, command: &str) {
    write(world.repo.join(".dx-runner.toml"), format!("[worktree]\nsetup = [\"{command}\"]\n"));
}

#[test]
fn cargo_test() {
    let mut world = world();
    // The toolchain that runs this test, without the wrapper that would look for it in a home.
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap()).canonicalize().unwrap();
    with_program(&mut world, cargo.parent().unwrap());
    add(
        &world,
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"tiny\"\nedition = \"2021\"\n[dependencies]\npart = { path = \"part\" }\n",
            ),
            (
                "src/lib.rs",
                "/// ```\n/// assert_eq!(tiny::two(), 2);\n/// ```\npub fn two() -> u8 { part::ONE + 1 }\n#[test]\nfn adds() { assert_eq!(two(), 2); std::fs::write(std::env::temp_dir().join(\"t\"), \"x\").unwrap(); }\n",
            ),
            ("part/Cargo.toml", "[package]\nname = \"part\"\nedition = \"2021\"\n"),
            ("part/src/lib.rs", "pub const ONE: u8 = 1;\n"),
            (".gitignore", "target\n"),
        ],
    );
    set_up(&world, "cargo fetch --offline && cargo build --offline");
    let worktree = linked(&world, "one");
    assert!(worktree.join("target/debug").is_dir());
    let (code, log) = sh(&world, "bd-1", &worktree, &[], "cargo test --offline");
    assert_eq!(code, "0", "{log}");
    assert_eq!(log.matches("test result: ok. 1 passed").count(), 2, "{log}");
    assert!(!log.contains("warning:"), "{log}");
}

#[test]
fn npm_ci() {
    let world = world();
    let lock = r#"{
  "name": "tiny", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
  "packages": {
    "": { "name": "tiny", "version": "1.0.0", "dependencies": { "part": "file:part" } },
    "node_modules/part": { "resolved": "part", "link": true },
    "part": { "version": "1.0.0" }
  }
}
"#;
    add(
        &world,
        &[
            (
                "package.json",
                r#"{"name":"tiny","version":"1.0.0","scripts":{"test":"node test.js"},"dependencies":{"part":"file:part"}}"#,
            ),
            ("package-lock.json", lock),
            ("part/package.json", r#"{"name":"part","version":"1.0.0","main":"index.js"}"#),
            ("part/index.js", "module.exports = 1;\n"),
            (
                "test.js",
                "if (require('part') !== 1) throw 1; require('fs').writeFileSync(require('os').tmpdir() + '/t', 'x'); console.log('tested');\n",
            ),
            (".gitignore", "node_modules\n"),
        ],
    );
    set_up(&world, "npm ci --offline --no-audit --no-fund");
    let worktree = linked(&world, "one");
    assert!(worktree.join("node_modules/part/index.js").exists());
    let (code, log) = sh(&world, "bd-1", &worktree, &[], "npm ci --offline --no-audit --no-fund && npm test");
    assert_eq!(code, "0", "{log}");
    assert!(log.contains("added 1 package") && log.contains("\ntested\n"), "{log}");
    assert!(world.env.home().join(".npm").is_dir());
}
