//! Which sandbox a job of Codex has: ours, or its own.
//!
//! Its own needs namespaces and mounts. Where it cannot have them every command of the agent fails, without a word in its
//! output and with a good result at the end: so it is tried before the first start of a boot. Must never turn both off.

use super::super::ask::{AskError, ask};
use super::super::remembered::{self, Grounds};
use super::Wish;
use crate::environment;
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use std::path::Path;
use std::time::Duration;

/// It takes a quarter of a second on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The options that say so.
pub(super) fn of(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    if wish.confined {
        return Ok(vec!["--dangerously-bypass-approvals-and-sandbox".to_owned()]);
    }
    remembered::yes(wish, &grounds(binary), "codex-sandbox", || try_it(wish, binary))?;
    let repository =
        wish.repository.iter().flat_map(|repository| [&repository.git_dir, &repository.common_dir]);
    let roots: Vec<String> = repository.map(|path| path.to_string_lossy().into_owned()).collect();
    let setting =
        |name: &str, value: String| ["-c".to_owned(), format!("sandbox_workspace_write.{name}={value}")];
    let mut options = ["--sandbox", "workspace-write"].map(str::to_owned).to_vec();
    options.extend(setting("network_access", "true".to_owned()));
    // A job has a folder of its own for temporary files.
    options.extend(setting("exclude_slash_tmp", "true".to_owned()));
    // A list of strings looks the same in JSON and in TOML.
    options.extend(setting("writable_roots", serde_json::json!(roots).to_string()));
    Ok(options)
}

/// The binary's identity, and what this kernel lets us build: this boot, this container, these rules.
fn grounds(binary: &Path) -> Grounds {
    const RULES: [&str; 5] = [
        "proc/sys/kernel/random/boot_id",
        "proc/sys/kernel/unprivileged_userns_clone",
        "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "proc/sys/user/max_user_namespaces",
        "proc/self/attr/current",
    ];
    let mut grounds = Grounds::default();
    grounds.file(binary);
    if let Some(tool) = environment::find_program("bwrap") {
        grounds.file(&tool);
    }
    for rule in RULES {
        grounds.content(Path::new("/"), Path::new(rule));
    }
    for namespace in ["/proc/self/ns/user", "/proc/self/ns/mnt"] {
        grounds.word(namespace, &std::fs::read_link(namespace).unwrap_or_default().to_string_lossy());
    }
    grounds
}

/// Runs nothing in Codex's own sandbox. Only a clear no refuses the start: another version may ask for other words.
fn try_it(wish: &Wish<'_>, binary: &Path) -> Result<bool, EngineError> {
    (wish.progress)("asking Codex whether it can have its own sandbox, once per binary and boot …");
    let answer = match ask(wish, binary, &["sandbox", "--", "true"], &[], DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(_)) => return Ok(false),
    };
    let said = answer.stderr.lines().find(|line| ["bwrap", "sandbox"].iter().any(|word| line.contains(word)));
    match said.filter(|_| !answer.status.success() && answer.status.code() != Some(2)) {
        None => Ok(answer.status.success()),
        Some(said) => Err(EngineError::Provider {
            reason: ReasonCode::CodexSandboxRefused,
            message: format!("Codex cannot have its own sandbox here: {}", said.trim()),
            next_action: None,
        }),
    }
}
