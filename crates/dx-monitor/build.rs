//! Puts a hash of the monitor's own sources and those of the crates below it into the build, for `doctor`: a `dx-monitor`
//! that was left behind beside a newer `dx-runner` is found by it.
//!
//! Must never: depend on time, place or machine; the same sources give the same hash.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// What speaks over pipes, descriptors and files between the two programs.
const CRATES: [&str; 6] = ["dx-core", "dx-events", "dx-jobdir", "dx-monitor", "dx-proc", "dx-protocol"];

fn main() -> Result<(), Box<dyn Error>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut hasher = DefaultHasher::new();
    for name in CRATES {
        let folder = crates.join(name).join("src");
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = files(&folder)?;
        files.sort();
        for file in files {
            file.strip_prefix(&crates)?.hash(&mut hasher);
            std::fs::read(&file)?.hash(&mut hasher);
        }
    }
    println!("cargo::rustc-env=DX_MONITOR_BUILD={:016x}", hasher.finish());
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
