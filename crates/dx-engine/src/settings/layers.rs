//! The layers of one command: what each says of a setting, and what comes of it.
//!
//! Called by: `start`, `restart`, `doctor`, `providers`, `config`, `profiles`. Must never: search for files; each has one
//! place.

use super::error::{Place, SettingsError};
use super::file::{self, Content, Entry, Owner, Shape};
use super::profile;
use super::table::{self, Env, Setting};
use super::value::Unit;
use crate::environment;
use crate::permission::{self, Places};
use crate::providers::{Provider, Providers};
use dx_core::settings::{Fate, Layer, Merged, Value, Word, merge};
use dx_protocol::Limits;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The project's file, at the top of its main checkout.
pub(crate) const PROJECT_FILE: &str = ".dx-runner.toml";
const USER_FILE: &str = "config.toml";

/// What decides which files are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inputs<'a> {
    /// `--config`: in the place of the user's file.
    pub(crate) config: Option<&'a Path>,
    /// Top of the project's main checkout.
    pub(crate) project: Option<&'a Path>,
    pub(crate) profile: Option<&'a str>,
}

/// A file that was looked for.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    pub(crate) layer: Layer,
    pub(crate) name: String,
    pub(crate) found: bool,
}

#[derive(Debug)]
struct Source {
    layer: Layer,
    own: bool,
    content: Content,
}

/// Where a word was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    BuiltIn,
    Place(Place),
    Variable(String),
    Flag(&'static str),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::Place(place) => place.fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One setting with everything that was said of it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) key: String,
    pub(crate) setting: &'static Setting,
    pub(crate) words: Vec<Word>,
    /// Where each word was said.
    pub(crate) at: Vec<At>,
    pub(crate) merged: Merged,
    /// What the user's file allows everybody, and where it says so.
    pub(crate) allow: Option<(Value, Place)>,
}

impl Resolved {
    /// A flag that would loosen what may not be loosened is an error: it must not be passed over in silence.
    fn refuse_flag(&self) -> Result<(), SettingsError> {
        for (at, fate) in self.merged.fates.iter().enumerate() {
            let At::Flag(flag) = self.at[at] else { continue };
            let because = match fate {
                Fate::Looser(than) => self.at[*than].to_string(),
                Fate::BeyondAllowed | Fate::CutToAllowed => {
                    self.allow.as_ref().map_or_else(String::new, |(_, place)| place.to_string())
                }
                Fate::Counts | Fate::Overridden | Fate::Partly(_) => continue,
            };
            return Err(SettingsError::NotAllowed {
                flag: flag.to_owned(),
                value: self.setting.kind.show(&self.words[at].value),
                key: self.key.clone(),
                because,
            });
        }
        Ok(())
    }
}

/// The layers of one command. The default has no files.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    sources: Vec<Source>,
    flags: Vec<(&'static Setting, Value)>,
    /// All that can be named; those of the user's file among them.
    pub(crate) providers: Providers,
    provider: Option<Arc<Provider>>,
    pub(crate) looked: Vec<Looked>,
}

/// The user's configuration folder.
pub(crate) fn user_folder() -> Option<PathBuf> {
    Some(environment::dir("XDG_CONFIG_HOME", ".config")?.join("dx-runner"))
}

/// The user's file, unless another is named.
pub(crate) fn user_file() -> Option<PathBuf> {
    Some(user_folder()?.join(USER_FILE))
}

impl Layers {
    /// Reads the files: at most the user's, the project's and one profile.
    pub(crate) fn load(inputs: Inputs<'_>) -> Result<Self, SettingsError> {
        let mut layers = Self::default();
        match inputs.config {
            Some(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                layers.add(Layer::User, &path)?;
                if !layers.looked.iter().any(|looked| looked.found) {
                    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                    return Err(SettingsError::Unreadable { path, source });
                }
            }
            None => {
                if let Some(path) = user_file() {
                    layers.add(Layer::User, &path)?;
                }
            }
        }
        if let Some(folder) = layers.text(&table::ADAPTERS_DIR)? {
            layers.providers.add_scripts(Path::new(&folder));
        }
        if let Some(top) = inputs.project {
            layers.add(Layer::Project, &top.join(PROJECT_FILE))?;
        }
        if let Some(name) = inputs.profile {
            let profile = profile::find(name, inputs.project, &layers.providers)?;
            layers.looked.push(Looked { layer: Layer::Profile, name: profile.file.clone(), found: true });
            layers.sources.push(Source { layer: Layer::Profile, own: profile.own, content: profile.content });
        }
        Ok(layers)
    }

    fn add(&mut self, layer: Layer, path: &Path) -> Result<(), SettingsError> {
        let (owner, shape) = match layer {
            Layer::Project => (Owner::Project, Shape::Project),
            _ => (Owner::User, Shape::User),
        };
        let name = path.display().to_string();
        let text = file::read(path, owner)?;
        self.looked.push(Looked { layer, name: name.clone(), found: text.is_some() });
        if let Some(text) = text {
            let mut content = file::parse(&text, &name, shape, &self.providers)?;
            for provider in std::mem::take(&mut content.providers) {
                self.providers.add(provider);
            }
            self.sources.push(Source { layer, own: layer == Layer::User, content });
        }
        Ok(())
    }

    /// For this provider: its variables count too.
    pub(crate) fn with_provider(mut self, provider: Arc<Provider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// What the command line says.
    pub(crate) fn with_flag(mut self, setting: &'static Setting, value: Option<Value>) -> Self {
        self.flags.extend(value.map(|value| (setting, value)));
        self
    }

    /// The setting of this key with its value.
    pub(crate) fn resolve(&self, key: &str) -> Result<Resolved, SettingsError> {
        let Some(setting) = table::find(key, &self.providers) else {
            let near = file::near(key, Shape::User, &self.providers);
            return Err(SettingsError::NoSetting { key: key.to_owned(), near });
        };
        let (mut words, mut at) = (Vec::new(), Vec::new());
        let mut say = |layer, own, value, place| {
            words.push(Word { layer, own, value });
            at.push(place);
        };
        if let Some(value) = self.default_of(setting, key)? {
            say(Layer::Default, true, value, At::BuiltIn);
        }
        for source in &self.sources {
            if [table::MODEL.key, table::AGENT.key].contains(&setting.key) && self.is_for_another(source) {
                continue;
            }
            if let Some(entry) = entry_for(&source.content.entries, setting, key) {
                say(source.layer, source.own, entry.value.clone(), At::Place(entry.place.clone()));
            }
        }
        for (variable, unit) in self.variables(setting, key) {
            let Some(text) = std::env::var_os(&variable) else { continue };
            let value = setting.kind.read_variable(&text, unit).map_err(|why| SettingsError::Variable {
                variable: variable.clone(),
                text: text.to_string_lossy().into_owned(),
                why,
            })?;
            if let Some(value) = value {
                say(Layer::Environment, true, value, At::Variable(variable));
                break;
            }
        }
        for (flagged, value) in &self.flags {
            if flagged.key == setting.key {
                say(Layer::Flag, true, value.clone(), At::Flag(setting.flag.unwrap_or_default()));
            }
        }
        let allow = self
            .sources
            .iter()
            .find_map(|source| entry_for(&source.content.allow, setting, key))
            .map(|entry| (entry.value.clone(), entry.place.clone()));
        let merged = merge(setting.rule, &words, allow.as_ref().map(|(value, _)| value));
        Ok(Resolved { key: key.to_owned(), setting, words, at, merged, allow })
    }

    /// Whether a file's model and agent are those of another provider than the job's.
    fn is_for_another(&self, source: &Source) -> bool {
        let named = source.content.entries.iter().find(|entry| entry.key == table::PROVIDER.key);
        self.provider
            .as_ref()
            .zip(named)
            .is_some_and(|(provider, named)| named.value != Value::Text(provider.name.clone()))
    }

    /// The default, where it follows from something else.
    fn default_of(&self, setting: &'static Setting, key: &str) -> Result<Option<Value>, SettingsError> {
        if setting.is_family() {
            let cap = self.providers.by_name(&key[setting.key.len()..]).and_then(|p| p.cap);
            return Ok(cap.map(|cap| Value::Number(cap as u64)));
        }
        if let Some(models) = self.providers.models_of(setting) {
            let Some((_, Some(also))) = models.setting() else { return Ok(None) };
            let canonical = models.canonical.map(|setting| self.text(setting)).transpose()?.flatten();
            let also = also.iter().map(|model| (*model).to_owned());
            return Ok(Some(Value::List(canonical.into_iter().chain(also).collect())));
        }
        if setting.key == table::WORKTREE_ROOT.key {
            let root = permission::default_worktree_root();
            return Ok(root.map(|root| Value::Text(root.to_string_lossy().into_owned())));
        }
        Ok(setting.default.value())
    }

    /// The variables that speak for it, the first that is set counts.
    pub(crate) fn variables(&self, setting: &'static Setting, key: &str) -> Vec<(String, Unit)> {
        match setting.env {
            Env::None => Vec::new(),
            Env::Var(name, unit) => vec![(name.to_owned(), unit)],
            Env::PerProvider(prefix) => {
                let name = key[setting.key.len()..].to_uppercase().replace(['-', ':'], "_");
                let mut names = vec![(format!("{prefix}{name}"), Unit::One)];
                if name != "DEFAULT" {
                    names.push((format!("{prefix}DEFAULT"), Unit::One));
                }
                names
            }
            Env::Model => self
                .provider
                .as_ref()
                .and_then(|p| p.model_env.clone())
                .map(|name| (name, Unit::One))
                .into_iter()
                .collect(),
        }
    }

    fn value(&self, key: &str) -> Result<Option<Value>, SettingsError> {
        let resolved = self.resolve(key)?;
        resolved.refuse_flag()?;
        Ok(resolved.merged.value)
    }

    pub(crate) fn text(&self, setting: &'static Setting) -> Result<Option<String>, SettingsError> {
        Ok(match self.value(setting.key)? {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        })
    }

    pub(crate) fn list(&self, setting: &'static Setting) -> Result<Vec<String>, SettingsError> {
        Ok(self.choices(setting)?.unwrap_or_default())
    }

    /// What is wrong with an entry of this list, and where it was said.
    pub(crate) fn wrong(&self, setting: &'static Setting, why: String) -> SettingsError {
        let resolved = self.resolve(setting.key).ok();
        let at = resolved.and_then(|resolved| Some(resolved.at.get(resolved.merged.from?)?.to_string()));
        SettingsError::Entry { at: at.unwrap_or_else(|| "configuration".to_owned()), key: setting.key, why }
    }

    /// A list of what may be chosen; `None`: everything.
    pub(crate) fn choices(&self, setting: &'static Setting) -> Result<Option<Vec<String>>, SettingsError> {
        Ok(match self.value(setting.key)? {
            Some(Value::List(list)) => Some(list),
            _ => None,
        })
    }

    pub(crate) fn is_on(&self, setting: &'static Setting) -> Result<bool, SettingsError> {
        Ok(self.value(setting.key)? == Some(Value::Bool(true)))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, SettingsError> {
        Ok(match self.value(key)? {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        })
    }

    /// The concurrency cap of a provider; `None`: no cap.
    pub(crate) fn cap(&self, provider: &str) -> Result<Option<usize>, SettingsError> {
        Ok(self.number(&format!("{}{provider}", table::MAX_PARALLEL.key))?.map(|cap| cap as usize))
    }

    /// Limits and thresholds of a run.
    pub(crate) fn limits(&self) -> Result<Limits, SettingsError> {
        let mut limits = Limits::default();
        let read = |setting: &'static Setting, into: &mut u64, unit: u64| -> Result<(), SettingsError> {
            if let Some(number) = self.number(setting.key)? {
                // A part of a second is a second: 0 means never.
                *into = number.div_ceil(unit);
            }
            Ok(())
        };
        read(&table::STARTUP_GRACE, &mut limits.startup_grace_sec, 1000)?;
        read(&table::NO_OP, &mut limits.no_op_sec, 1000)?;
        read(&table::STALL, &mut limits.stall_sec, 1000)?;
        read(&table::MAX_RUNTIME, &mut limits.max_runtime_sec, 1000)?;
        read(&table::NO_MUTATION_TIMEOUT, &mut limits.no_mutation_sec, 1000)?;
        read(&table::GRACE, &mut limits.grace_ms, 1)?;
        read(&table::MAX_LOG_BYTES, &mut limits.max_log_bytes, 1)?;
        read(&table::MAX_BARREN_STEPS, &mut limits.max_barren_steps, 1)?;
        read(&table::CHECK_TIMEOUT, &mut limits.check_sec, 1000)?;
        read(&table::MAX_FAILED_CALLS, &mut limits.max_failed_calls, 1)?;
        Ok(limits)
    }

    /// Where worktrees may be.
    pub(crate) fn places(&self) -> Result<Places, SettingsError> {
        let root = self.text(&table::WORKTREE_ROOT)?.map(PathBuf::from);
        let extra = self.list(&table::ALLOWED_PREFIXES)?.into_iter().map(PathBuf::from).collect();
        let protected = self.list(&table::PROTECTED_CHECKOUTS)?.into_iter().map(PathBuf::from).collect();
        let budget = self.number(table::WORKTREE_BUDGET.key)?;
        Ok(Places { root, extra, protected, budget })
    }
}

/// What a file says of this key; of a provider without a word of its own what it says of all.
fn entry_for<'a>(entries: &'a [Entry], setting: &'static Setting, key: &str) -> Option<&'a Entry> {
    let own = entries.iter().find(|entry| entry.key == key);
    let common = || {
        let common = format!("{}default", setting.key);
        entries.iter().find(|entry| setting.is_family() && entry.key == common)
    };
    own.or_else(common)
}
