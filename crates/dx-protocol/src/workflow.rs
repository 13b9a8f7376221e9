//! The documents of the agent pack: what is installed, what is wrong with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a file of a target stands to the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackFileState {
    /// As in this version of the pack.
    Current,
    /// As an older version of ours left it.
    Outdated,
    /// Ours, and changed since.
    Modified,
    /// Of the pack's name, and never ours.
    Foreign,
    Missing,
    /// Of an older pack, and no longer in this one.
    Stale,
    /// The same, and changed since.
    StaleModified,
}

impl PackFileState {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Outdated => "outdated",
            Self::Modified => "modified",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::StaleModified => "stale_modified",
        }
    }
}

/// What a command does to a file, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackFileAction {
    /// Nothing has to be done.
    None,
    Create,
    /// Write this version's text over an older one of ours.
    Update,
    /// Write over what somebody else wrote, after a backup.
    Replace,
    /// Leave what somebody else wrote.
    Keep,
    Remove,
    /// Bring a backup back.
    Restore,
}

impl PackFileAction {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Restore => "restore",
        }
    }

    /// Whether a file is written or removed.
    pub fn changes(self) -> bool {
        !matches!(self, Self::None | Self::Keep)
    }
}

/// `workflow install|status|uninstall|restore --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowDocument {
    pub schema: String,
    /// `install`, `status`, `uninstall`, `restore`.
    pub action: String,
    /// `global` or `project`.
    pub scope: String,
    /// The folder that OpenCode reads.
    pub target: String,
    /// Of this program's pack.
    pub version: String,
    /// Of what was installed when the command began; `null` when nothing was.
    pub installed_version: Option<String>,
    /// Nothing was written.
    pub dry_run: bool,
    /// Something was written, or with `dry_run` would be.
    pub changed: bool,
    pub files: Vec<PackFileRow>,
    /// Name of the backup that was made, for `workflow restore`.
    pub backup: Option<String>,
    /// All backups in the target, newest first.
    pub backups: Vec<String>,
    pub next_action: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackFileRow {
    /// Below the target.
    pub path: String,
    /// As it was found.
    pub state: PackFileState,
    pub action: PackFileAction,
    /// Where its old content is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// `workflow diff --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowDiffDocument {
    pub schema: String,
    pub target: String,
    /// From what is installed to this program's pack, as a unified difference; empty when they are equal.
    pub diff: String,
}

/// `workflow check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowCheckDocument {
    pub schema: String,
    /// `package`, or the folder that was looked at.
    pub subject: String,
    /// Version of the real OpenCode that loaded it; only with `--live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    pub files: u64,
    pub findings: Vec<PackFinding>,
}

/// Something wrong with a definition or a task file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PackFinding {
    pub file: String,
    /// Counted from 1.
    pub line: u64,
    /// Name of the rule.
    pub rule: String,
    pub message: String,
    /// What mends it.
    pub fix: String,
}

/// What is written beside an installed pack: which files are ours, and as what we left them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackManifest {
    pub schema: String,
    pub version: String,
    /// Folders that the installation made, below the target; `.` is the target itself.
    #[serde(default)]
    pub folders: Vec<String>,
    pub files: Vec<PackManifestFile>,
}

/// One file of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackManifestFile {
    pub path: String,
    pub sha256: String,
    /// What it was before; only while an installation is under way, and after one that was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// What a backup undoes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackBackup {
    pub schema: String,
    /// Its text as it was; `null` when there was none.
    pub manifest: Option<String>,
    /// Files whose old content is beside them, and what was written in its place; `null` when nothing was.
    pub kept: Vec<PackBackupFile>,
    /// Files that were not there, and what was written.
    pub created: Vec<PackManifestFile>,
    /// Folders that were not there.
    #[serde(default)]
    pub folders: Vec<String>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackBackupFile {
    pub path: String,
    /// Its old content's name, beside it.
    pub backup: String,
    /// Hash of what was written in its place; `null` when it was removed.
    pub written: Option<String>,
}

/// `workflow models --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowModelsDocument {
    pub schema: String,
    /// The configuration; it need not be there.
    pub file: String,
    /// By group.
    pub agents: Vec<ModelGroup>,
    pub available: Vec<AvailableModel>,
    /// The file was written.
    pub changed: bool,
}

/// An agent's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelGroup {
    /// `MED` or `LOW`.
    pub group: String,
    pub agent: String,
    /// `-` when none is set.
    pub model: String,
    pub variant: String,
}

/// A model that OpenCode lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AvailableModel {
    pub model: String,
    pub variants: Vec<String>,
}
