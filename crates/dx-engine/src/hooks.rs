//! `hooks install`: a pre-commit hook that writes Beads' issues to their file, so that they travel with the commit.
//!
//! A hook that is there already is kept and runs first. Must never: lose a hook of somebody else's.

use crate::Engine;
use crate::error::EngineError;
use crate::git::{self, Repository};
use dx_protocol::HookDocument;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "pre-commit";
/// Where a hook goes that was there.
const KEPT: &str = "pre-commit.before-dx-runner";
/// By this a hook is known as ours.
const MARK: &str = "# Installed by `dx-runner hooks install`.";
const SCRIPT: &str = include_str!("hooks/pre-commit.sh");
const MAX_BYTES: u64 = 1 << 20;

impl Engine {
    /// Puts the hook into the repository that `place` lies in; what stands there already is kept.
    pub fn install_hooks(&self, place: &Path) -> Result<HookDocument, EngineError> {
        let io = |what: &'static str| move |source: std::io::Error| EngineError::Io { what, source };
        let real = place.canonicalize().map_err(|_| EngineError::NoRepository(place.to_owned()))?;
        let repository = Repository::find(&real).ok_or_else(|| EngineError::NoRepository(real.clone()))?;
        let folder = folder(&repository)?;
        std::fs::create_dir_all(&folder).map_err(io("make the folder of hooks"))?;
        let (hook, kept) = (folder.join(NAME), folder.join(KEPT));
        let there = std::fs::symlink_metadata(&hook).is_ok();
        let ours = there
            && dx_jobdir::read_bounded(&hook, MAX_BYTES)
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(MARK));
        if there && !ours {
            if std::fs::symlink_metadata(&kept).is_ok() {
                let message =
                    format!("{} and {} are both there; move one away", hook.display(), kept.display());
                return Err(EngineError::Argument(message));
            }
            std::fs::rename(&hook, &kept).map_err(io("keep the hook that is there"))?;
        }
        let new = folder.join(format!(".{NAME}.{}", std::process::id()));
        let written =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&new).and_then(
                |mut file| {
                    file.write_all(SCRIPT.as_bytes())?;
                    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
                    std::fs::rename(&new, &hook)
                },
            );
        written.map_err(io("write the hook"))?;
        let kept = std::fs::symlink_metadata(&kept).is_ok().then(|| kept.display().to_string());
        Ok(HookDocument {
            schema: "dx-runner/hook/1".to_owned(),
            hook: hook.display().to_string(),
            kept,
            changed: !ours,
        })
    }
}

/// Where git looks for hooks: `core.hooksPath` where a configuration has it, from the top of the work tree.
fn folder(repository: &Repository) -> Result<PathBuf, EngineError> {
    let args = ["config", "--null", "--show-scope", "--get-all", "core.hooksPath"];
    // Without an answer there is no such key.
    let listed = repository.git(&args).unwrap_or_default();
    let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
    // The scope `command` is our own, which switches hooks off for our calls.
    let configured = fields.chunks_exact(2).rfind(|pair| pair[0] != b"command");
    let Some(path) = configured.map(|pair| String::from_utf8_lossy(pair[1]).into_owned()) else {
        return Ok(repository.common_dir.join("hooks"));
    };
    let path = match path.strip_prefix("~/") {
        Some(rest) => crate::environment::dir("", rest).ok_or(EngineError::NoHome)?,
        None => PathBuf::from(path),
    };
    if path == Path::new("/dev/null") {
        return Err(git::failed(&args, "hooks are switched off by core.hooksPath".to_owned()));
    }
    Ok(repository.work_tree.join(path))
}
