//! The JSON documents of `config` and `profiles`. Types are a promise: fields are added, never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value as a file would hold it; a time is a text such as `2h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SettingValue {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

/// `config show --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigDocument {
    pub schema: String,
    pub files: Vec<ConfigFileRow>,
    pub settings: Vec<SettingRow>,
}

/// A file that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigFileRow {
    /// `user`, `project` or `profile`.
    pub layer: String,
    /// Its path, or the words for a built-in profile.
    pub path: String,
    pub found: bool,
}

/// One setting in `config show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingRow {
    pub key: String,
    /// `null` when nobody says anything.
    pub value: Option<SettingValue>,
    /// The layer that decided, or `allow`, or `-`.
    pub source: String,
    /// File, line and column, or the variable, or `built in`.
    pub at: String,
}

/// `config explain KEY --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigExplainDocument {
    pub schema: String,
    pub key: String,
    /// `null` when nobody says anything.
    pub value: Option<SettingValue>,
    pub source: String,
    pub at: String,
    /// What it does.
    pub what: String,
    /// What a file must hold.
    pub expected: String,
    /// `replace`, `tighten`, `grant` or `narrow`.
    pub rule: String,
    /// The variables that speak for it.
    pub variables: Vec<String>,
    /// The option, or `-`.
    pub flag: String,
    /// In which files it may stand.
    pub files: String,
    /// What the user's own file allows everybody.
    pub allow: Option<AllowRow>,
    /// What each layer says, lowest first.
    pub layers: Vec<LayerRow>,
}

/// `[allow]` of the user's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AllowRow {
    pub value: SettingValue,
    pub at: String,
}

/// What one layer says of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerRow {
    pub layer: String,
    pub value: SettingValue,
    pub at: String,
    /// `counts`, `overridden`, `refused` or `partly`.
    pub effect: String,
    /// Why, for people; `-` when it counts.
    pub why: String,
}

/// `config path --json` and `config init --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigPathDocument {
    pub schema: String,
    pub files: Vec<ConfigFileRow>,
    /// Whether a file was written now.
    pub written: bool,
}

/// `profiles list --json` and `profiles show NAME --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfilesDocument {
    pub schema: String,
    pub profiles: Vec<ProfileRow>,
}

/// One profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileRow {
    pub name: String,
    /// `user`, `built-in` or `project`.
    pub source: String,
    /// Its file, or the words for a built-in one.
    pub file: String,
    /// `-` when it has none.
    pub description: String,
    /// Why it cannot be used; `-` when it can.
    pub problem: String,
    pub settings: Vec<ProfileSetting>,
}

/// What a profile says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSetting {
    pub key: String,
    pub value: SettingValue,
}
