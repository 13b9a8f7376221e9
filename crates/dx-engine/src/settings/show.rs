//! Configuration for people and programs: what holds, who says so, what was refused, which profiles there are.
//!
//! Called by: `config`, `profiles`, the reference. Must never: show a secret (files that hold one are refused), or decide
//! anything that `start` would decide otherwise.

use super::error::SettingsError;
use super::file;
use super::layers::{self, Layers, Resolved};
use super::profile::{self, Profile};
use super::table::{self, Env, Setting};
use super::value::Kind;
use crate::Engine;
use crate::error::EngineError;
use crate::providers::Providers;
use crate::start::configure::project_here;
use dx_core::settings::{Fate, Layer, Value};
use dx_protocol::{
    AllowRow, ConfigDocument, ConfigExplainDocument, ConfigFileRow, ConfigPathDocument, LayerRow, ProfileRow,
    ProfileSetting, ProfilesDocument, SettingRow, SettingValue,
};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

impl Engine {
    /// Every setting with its value for a start here, with this profile.
    pub fn config(&self, profile: Option<&str>) -> Result<ConfigDocument, EngineError> {
        let layers = self.layers_for_showing(profile)?;
        let mut settings = Vec::new();
        for key in table::ALL.iter().flat_map(|setting| setting.keys(&layers.providers)) {
            let resolved = layers.resolve(&key)?;
            let (source, at) = decided_by(&resolved);
            settings.push(SettingRow { value: value_of(&resolved), key, source, at });
        }
        Ok(ConfigDocument { schema: "dx-runner/config/1".to_owned(), files: files(&layers), settings })
    }

    /// One setting with everything that is said of it.
    pub fn config_explain(
        &self,
        key: &str,
        profile: Option<&str>,
    ) -> Result<ConfigExplainDocument, EngineError> {
        let layers = self.layers_for_showing(profile)?;
        let resolved = layers.resolve(key)?;
        let setting = resolved.setting;
        let (source, at) = decided_by(&resolved);
        let show = |value: &Value| json(setting.kind, value);
        Ok(ConfigExplainDocument {
            schema: "dx-runner/config-explain/1".to_owned(),
            key: resolved.key.clone(),
            value: value_of(&resolved),
            source,
            at,
            what: setting.doc.to_owned(),
            expected: setting.kind.expected(),
            rule: setting.rule.as_str().to_owned(),
            variables: layers.variables(setting, key).into_iter().map(|(name, _)| name).collect(),
            flag: setting.flag.unwrap_or("-").to_owned(),
            files: file::where_allowed(setting.files).to_owned(),
            allow: resolved
                .allow
                .as_ref()
                .map(|(value, place)| AllowRow { value: show(value), at: place.to_string() }),
            layers: layer_rows(&resolved),
        })
    }

    /// The files that are looked for.
    pub fn config_paths(&self) -> Result<ConfigPathDocument, EngineError> {
        let mut rows = Vec::new();
        let mut row = |layer: Layer, path: PathBuf| {
            rows.push(ConfigFileRow {
                layer: layer.to_string(),
                found: path.exists(),
                path: path.display().to_string(),
            });
        };
        row(Layer::User, self.user_file()?);
        if let Some(top) = project_here()? {
            row(Layer::Project, top.join(layers::PROJECT_FILE));
        }
        Ok(paths_document(rows, false))
    }

    /// Writes the user's file with every setting in it, commented out.
    pub fn config_init(&self) -> Result<ConfigPathDocument, EngineError> {
        let path = self.user_file()?;
        write_new(&path, &template()).map_err(|source| {
            if source.kind() == std::io::ErrorKind::AlreadyExists {
                SettingsError::Exists(path.clone())
            } else {
                SettingsError::Unwritable { path: path.clone(), source }
            }
        })?;
        let row =
            ConfigFileRow { layer: Layer::User.to_string(), path: path.display().to_string(), found: true };
        Ok(paths_document(vec![row], true))
    }

    /// All profiles that can be named here; one that cannot be read is told with the reason.
    pub fn profiles(&self) -> Result<ProfilesDocument, EngineError> {
        let project = project_here()?;
        let providers = self.layers_here(None)?.providers;
        let one = |name: String| match profile::find(&name, project.as_deref(), &providers) {
            Ok(profile) => profile_row(&profile),
            Err(error) => ProfileRow {
                name,
                source: "-".to_owned(),
                file: "-".to_owned(),
                description: "-".to_owned(),
                problem: error.to_string(),
                settings: Vec::new(),
            },
        };
        let profiles = profile::names(project.as_deref()).into_iter().map(one).collect();
        Ok(profiles_document(profiles))
    }

    /// One profile.
    pub fn profile(&self, name: &str) -> Result<ProfilesDocument, EngineError> {
        let profile = profile::find(name, project_here()?.as_deref(), &self.layers_here(None)?.providers)?;
        Ok(profiles_document(vec![profile_row(&profile)]))
    }

    /// With the provider that a start without `--provider` would have, so that its variables are told.
    fn layers_for_showing(&self, profile: Option<&str>) -> Result<Layers, EngineError> {
        let layers = self.layers_here(profile)?;
        let provider =
            layers.text(&table::PROVIDER)?.and_then(|name| layers.providers.by_name(&name).cloned());
        Ok(match provider {
            Some(provider) => layers.with_provider(provider),
            None => layers,
        })
    }

    fn user_file(&self) -> Result<PathBuf, EngineError> {
        match &self.settings.config {
            Some(path) => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            None => Ok(layers::user_file().ok_or(SettingsError::NoHome)?),
        }
    }
}

/// A setting as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInfo {
    pub key: String,
    pub expected: String,
    pub default: String,
    pub variable: String,
    pub flag: String,
    pub files: String,
    pub rule: &'static str,
    pub what: &'static str,
}

/// All settings in the order of the table. The same on every machine.
pub fn settings_reference() -> Vec<SettingInfo> {
    let info = |setting: &&'static Setting| SettingInfo {
        key: if setting.is_family() { format!("{}<provider>", setting.key) } else { setting.key.to_owned() },
        expected: setting.kind.expected(),
        default: setting.default.value().map_or_else(|| "-".to_owned(), |value| setting.kind.show(&value)),
        variable: variable_words(setting.env),
        flag: setting.flag.unwrap_or("-").to_owned(),
        files: file::where_allowed(setting.files).to_owned(),
        rule: setting.rule.as_str(),
        what: setting.doc,
    };
    table::ALL.iter().map(info).collect()
}

/// The program's own profiles, by name and text.
pub fn built_in_profiles() -> Vec<(&'static str, &'static str)> {
    profile::BUILT_IN.to_vec()
}

fn variable_words(env: Env) -> String {
    match env {
        Env::None => "-".to_owned(),
        Env::Var(name, unit) => match unit.name() {
            Some(unit) => format!("{name} ({unit})"),
            None => name.to_owned(),
        },
        Env::PerProvider(prefix) => format!("{prefix}<PROVIDER>, {prefix}DEFAULT"),
        Env::Model => {
            let providers = Providers::default();
            providers.iter().filter_map(|p| p.model_env.clone()).collect::<Vec<_>>().join(", ")
        }
    }
}

fn files(layers: &Layers) -> Vec<ConfigFileRow> {
    let row = |looked: &layers::Looked| ConfigFileRow {
        layer: looked.layer.to_string(),
        path: looked.name.clone(),
        found: looked.found,
    };
    layers.looked.iter().map(row).collect()
}

fn paths_document(files: Vec<ConfigFileRow>, written: bool) -> ConfigPathDocument {
    ConfigPathDocument { schema: "dx-runner/config-path/1".to_owned(), files, written }
}

fn profiles_document(profiles: Vec<ProfileRow>) -> ProfilesDocument {
    ProfilesDocument { schema: "dx-runner/profiles/1".to_owned(), profiles }
}

fn profile_row(profile: &Profile) -> ProfileRow {
    let entries = profile.content.entries.iter();
    ProfileRow {
        name: profile.name.clone(),
        source: profile.source.to_owned(),
        file: profile.file.clone(),
        description: profile.content.description.clone().unwrap_or_else(|| "-".to_owned()),
        problem: "-".to_owned(),
        settings: entries
            .map(|e| ProfileSetting { key: e.key.clone(), value: json(e.setting.kind, &e.value) })
            .collect(),
    }
}

/// As a file would hold it: a time is a text.
fn json(kind: Kind, value: &Value) -> SettingValue {
    match (kind, value) {
        (Kind::Millis | Kind::MillisAboveZero, Value::Number(ms)) => {
            SettingValue::Text(dx_core::duration::format(*ms))
        }
        (Kind::Bytes, Value::Number(bytes)) => SettingValue::Text(bytes.to_string()),
        (_, Value::Bool(on)) => SettingValue::Bool(*on),
        (_, Value::Number(number)) => SettingValue::Number(*number),
        (_, Value::Text(text)) => SettingValue::Text(text.clone()),
        (_, Value::List(list)) => SettingValue::List(list.clone()),
    }
}

fn value_of(resolved: &Resolved) -> Option<SettingValue> {
    resolved.merged.value.as_ref().map(|value| json(resolved.setting.kind, value))
}

fn decided_by(resolved: &Resolved) -> (String, String) {
    match (resolved.merged.from, &resolved.allow) {
        (Some(from), _) => (resolved.words[from].layer.to_string(), resolved.at[from].to_string()),
        (None, Some((_, place))) if !resolved.words.is_empty() => ("allow".to_owned(), place.to_string()),
        (None, _) if resolved.merged.value.is_some() => ("default".to_owned(), "built in".to_owned()),
        (None, _) => ("-".to_owned(), "-".to_owned()),
    }
}

fn allow_place(resolved: &Resolved) -> String {
    resolved.allow.as_ref().map_or_else(String::new, |(_, place)| place.to_string())
}

fn layer_rows(resolved: &Resolved) -> Vec<LayerRow> {
    let row = |at: usize| {
        let (effect, why) = match &resolved.merged.fates[at] {
            Fate::Counts => ("counts", "-".to_owned()),
            Fate::Overridden => ("overridden", format!("by {}", decided_by(resolved).0)),
            Fate::Looser(than) => ("refused", format!("looser than {}", resolved.at[*than])),
            Fate::BeyondAllowed => {
                ("refused", format!("beyond what [allow] says, {}", allow_place(resolved)))
            }
            Fate::CutToAllowed => {
                ("partly", format!("counts as far as [allow] goes, {}", allow_place(resolved)))
            }
            Fate::Partly(entries) => ("partly", format!("not allowed: {}", entries.join(", "))),
        };
        LayerRow {
            layer: resolved.words[at].layer.to_string(),
            value: json(resolved.setting.kind, &resolved.words[at].value),
            at: resolved.at[at].to_string(),
            effect: effect.to_owned(),
            why,
        }
    };
    (0..resolved.words.len()).map(row).collect()
}

/// What the user's file takes.
fn for_user() -> impl Iterator<Item = &'static Setting> {
    table::ALL.iter().copied().filter(|setting| setting.files != table::Files::Project)
}

/// A configuration file in which nothing is said yet.
fn template() -> String {
    let mut text = String::from(
        "# Configuration of dx-runner. Lines without `#` count.\n# `dx-runner config explain KEY` tells what holds and why.\n",
    );
    let mut tables = String::new();
    for setting in for_user() {
        let (table, key) = match setting.key.rsplit_once('.') {
            Some((table, "")) => (Some(table), "default"),
            Some((table, key)) => (Some(table), key),
            None => (None, setting.key),
        };
        let example = setting.default.value().map_or_else(
            || match setting.kind {
                Kind::Number(_) => "6".to_owned(),
                Kind::Texts | Kind::Paths | Kind::Variables => "[]".to_owned(),
                _ => "\"…\"".to_owned(),
            },
            |value| setting.kind.show(&value),
        );
        // Writing to a String cannot fail.
        match table {
            None => {
                let _fits = writeln!(text, "\n# {}\n#{key} = {example}", setting.doc);
            }
            Some(table) => {
                let head = format!("[{table}]\n");
                if !tables.contains(&head) {
                    let _fits = write!(tables, "\n{head}");
                }
                let _fits = writeln!(tables, "# {}\n#{key} = {example}", setting.doc);
            }
        }
    }
    text.push_str(&tables);
    text.push_str(
        "\n# Limits and permissions: up to here projects, profiles and options may go, and nobody further.\n[allow]\n#max_runtime = \"4h\"\n",
    );
    text
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::file::Shape;
    use super::*;

    #[test]
    fn the_template_names_every_setting_and_is_valid_as_it_is_and_uncommented() {
        let text = template();
        assert_eq!(file::parse(&text, "t", Shape::User, &Providers::default()).unwrap().entries.len(), 0);
        let settings = text.lines().filter(|line| line.starts_with('#') && !line.starts_with("# "));
        assert_eq!(settings.count(), for_user().count() + 1);
        let uncommented: Vec<&str> = text
            .lines()
            .map(|line| if line.starts_with("# ") { "" } else { line.trim_start_matches('#') })
            .collect();
        let uncommented = uncommented
            .join("\n")
            .replace("root = \"…\"", "root = \"/w\"")
            .replace("provider = \"…\"", "provider = \"exec\"")
            .replace("budget = \"…\"", "budget = \"20G\"")
            .replace("path = \"…\"", "path = \"/bd\"")
            .replace("adapters_dir = \"…\"", "adapters_dir = \"/w\"");
        let content = file::parse(&uncommented, "t", Shape::User, &Providers::default()).unwrap();
        assert_eq!((content.entries.len(), content.allow.len()), (for_user().count(), 1));
    }
}
