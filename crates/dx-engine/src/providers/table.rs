//! The providers that there are for one command: ours, and those of the user's configuration.
//!
//! Held by the layers of configuration. Must never: take a provider from a project's file.

use super::models::Models;
use super::provider::Origin;
use super::script;
use super::{Provider, cc_glm, claude_code, codex, exec, gemini, opencode, opencode_server};
use crate::error::EngineError;
use crate::settings::{Layers, Setting};
use dx_protocol::{ProviderName, ProviderRow, SCRIPT_PREFIX};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// Ours, by name.
static BUILT_IN: LazyLock<[Arc<Provider>; 6]> = LazyLock::new(|| {
    [
        cc_glm::provider(),
        claude_code::provider(),
        codex::provider(),
        exec::provider(),
        gemini::provider(),
        opencode::provider(),
    ]
    .map(Arc::new)
});

/// Those that are no agents: nobody can choose one, or configure it.
static SERVICES: LazyLock<[Arc<Provider>; 1]> = LazyLock::new(|| [Arc::new(opencode_server::provider())]);

/// All providers that can be named.
#[derive(Debug, Clone)]
pub(crate) struct Providers {
    all: Vec<Arc<Provider>>,
    /// Whether names count as known that are not: for a reader that has only a part of the configuration.
    open: bool,
}

impl Default for Providers {
    fn default() -> Self {
        Self { all: BUILT_IN.to_vec(), open: false }
    }
}

impl Providers {
    /// The provider that a job names.
    pub(crate) fn find(&self, name: &ProviderName) -> Result<Arc<Provider>, EngineError> {
        self.by_name(name.as_str())
            .or_else(|| SERVICES.iter().find(|service| service.name == name.as_str()))
            .cloned()
            .ok_or_else(|| EngineError::NoProvider { name: name.to_string(), known: self.names() })
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Provider>> {
        let script = name.strip_prefix(SCRIPT_PREFIX);
        let is_meant = |p: &Provider| {
            p.name == name || (Some(p.name.as_str()) == script && matches!(p.origin, Origin::Script(_)))
        };
        self.all.iter().find(|p| is_meant(p))
    }

    /// Adds the scripts of a folder. Where a name is taken, only `script:NAME` means the script.
    pub(crate) fn add_scripts(&mut self, folder: &Path) {
        for (name, path) in script::in_folder(folder) {
            let taken = self.by_name(&name).is_some();
            self.add(script::provider(&name, path, taken));
        }
    }

    /// Whether a provider of the configuration cannot have this name.
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        self.by_name(name).is_some() || SERVICES.iter().any(|service| service.name == name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|p| p.name.clone()).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.all.iter().map(AsRef::as_ref)
    }

    pub(crate) fn shared(&self) -> impl Iterator<Item = Arc<Provider>> {
        self.all.iter().cloned()
    }

    /// For a reader to whom a name that it does not know is none of its business.
    pub(crate) fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Whether settings may speak of a provider of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.by_name(name).is_some() || (self.open && name.parse::<ProviderName>().is_ok())
    }

    /// Adds one, unless there is one of its name.
    pub(crate) fn add(&mut self, provider: Provider) {
        if self.by_name(&provider.name).is_none() {
            self.all.push(Arc::new(provider));
            self.all.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }

    /// The models whose list of allowed ones this setting is.
    pub(crate) fn models_of(&self, setting: &Setting) -> Option<&Models> {
        let is_meant = |models: &&Models| models.setting().is_some_and(|(list, _)| list.key == setting.key);
        self.iter().map(|p| &p.models).find(is_meant)
    }

    /// The table for people.
    pub(crate) fn rows(&self, settings: &Layers) -> Vec<ProviderRow> {
        self.iter().map(|p| row(p, settings)).collect()
    }
}

fn row(p: &Provider, settings: &Layers) -> ProviderRow {
    ProviderRow {
        name: p.name.clone(),
        description: p.description.clone(),
        lanes: p.lanes.iter().map(|lane| lane.as_str().to_owned()).collect(),
        binary: p.found().map_or_else(|| "-".to_owned(), |b| b.display().to_string()),
        prompt_channel: p.prompt.as_str().to_owned(),
        cap: settings.cap(&p.name).ok().flatten().map(|c| c as u64),
        env: p.passes.clone(),
        origin: p.origin.to_string(),
        grammar: p.grammar,
        allowed_models: p.models.allowed_in(settings).ok().flatten().unwrap_or_default(),
        credentials: p.credentials.clone(),
        tested_versions: p.tested.clone(),
    }
}
