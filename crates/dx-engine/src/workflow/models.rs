//! `workflow models`: two groups of specialists share a model each; which is written into OpenCode's configuration of the project.
//!
//! Must never: write without the user's yes, name a model that OpenCode does not list, or change a byte of the configuration
//! beside the entries of the agents.

use super::asking::Scratch;
use super::target::{Content, Target, WorkflowScope};
use crate::Engine;
use crate::error::EngineError;
use dx_protocol::{AvailableModel, ModelGroup, ReasonCode, WorkflowModelsDocument};
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use std::path::PathBuf;

/// The groups. Orchestrator and task-planner are the user's own choice.
pub(super) const GROUPS: [(&str, &[&str]); 2] = [
    ("MED", &["validator", "test-writer", "documentation", "init"]),
    ("LOW", &["implementer", "research", "executor", "shipper", "model-config"]),
];
/// Where the configuration of a project is, in the order in which it is looked for; the first is made when none is there.
const FILES: [&str; 2] = ["opencode.jsonc", ".opencode/opencode.jsonc"];

/// Some editors begin a file with it.
const MARK: char = '\u{feff}';

/// `workflow models set`.
#[derive(Debug, Clone)]
pub struct ModelsRequest {
    pub med: String,
    pub low: String,
    /// For both, where the model has it.
    pub variant: Option<String>,
}

impl Engine {
    /// What is set, and what OpenCode lists.
    pub fn workflow_models(&self) -> Result<WorkflowModelsDocument, EngineError> {
        let config = Config::find()?;
        let text = config.text()?;
        config.check(&text)?;
        document(&config, &text, self.available()?, false)
    }

    /// What would be written: the same document as it is afterwards. Refused when a model is not there.
    pub fn workflow_models_plan(
        &self,
        request: &ModelsRequest,
    ) -> Result<WorkflowModelsDocument, EngineError> {
        self.change_models(request, |_, _| Ok(()))
    }

    /// Writes it; the caller has the user's yes.
    pub fn workflow_models_set(
        &self,
        request: &ModelsRequest,
    ) -> Result<WorkflowModelsDocument, EngineError> {
        self.change_models(request, |config, new| config.target.put(config.name, new.as_bytes()))
    }

    fn change_models(
        &self,
        request: &ModelsRequest,
        write: impl FnOnce(&Config, &str) -> Result<(), EngineError>,
    ) -> Result<WorkflowModelsDocument, EngineError> {
        let config = Config::find()?;
        // Before OpenCode is asked, which says of a file that it cannot read only that it failed.
        config.check(&config.text()?)?;
        let available = self.available()?;
        let text = config.text()?;
        let new = planned(&config, &text, request, &available)?;
        if new != text {
            write(&config, &new)?;
        }
        document(&config, &new, available, new != text)
    }

    /// The models that OpenCode lists here, with their variants.
    fn available(&self) -> Result<Vec<AvailableModel>, EngineError> {
        self.progress("asking OpenCode for its models …");
        let scratch = Scratch::new(&self.state()?.cache_dir())?;
        let mine = scratch.mine()?;
        // Not every version tells variants.
        let listed = scratch.ask(&["models", "--verbose"], &mine);
        let listed = listed.or_else(|_| scratch.ask(&["models"], &mine))?;
        Ok(read_models(&listed))
    }
}

/// `provider/model` lines; below each perhaps what is known of it.
fn read_models(text: &str) -> Vec<AvailableModel> {
    let mut models: Vec<AvailableModel> = Vec::new();
    let mut json = String::new();
    let settle = |models: &mut Vec<AvailableModel>, json: &mut String| {
        let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let variants = value.get("variants").and_then(serde_json::Value::as_object);
        if let (Some(model), Some(variants)) = (models.last_mut(), variants) {
            model.variants = variants.keys().cloned().collect();
        }
        json.clear();
    };
    for line in text.lines() {
        let is_name = line.contains('/') && !line.contains([' ', '"', '{', '}']);
        if is_name {
            settle(&mut models, &mut json);
            models.push(AvailableModel { model: line.to_owned(), variants: Vec::new() });
        } else {
            json.push_str(line);
        }
    }
    settle(&mut models, &mut json);
    models
}

/// The configuration of a project.
struct Config {
    target: Target,
    name: &'static str,
}

impl Config {
    fn find() -> Result<Self, EngineError> {
        let scope = WorkflowScope::Project;
        let folder: PathBuf = scope.folder()?.parent().map(PathBuf::from).unwrap_or_default();
        let target = Target { scope, folder };
        let name =
            FILES.into_iter().find(|name| target.content(name) != Content::Missing).unwrap_or(FILES[0]);
        Ok(Self { target, name })
    }

    fn text(&self) -> Result<String, EngineError> {
        match self.target.content(self.name) {
            Content::Missing => Ok(String::new()),
            Content::File(bytes) => String::from_utf8(bytes)
                .map_err(|_| self.refuse(ReasonCode::ConfigUnreadable, "is not UTF-8")),
            Content::Other => {
                Err(self.refuse(ReasonCode::ConfigUnreadable, "is no plain file, or too large"))
            }
        }
    }

    fn refuse(&self, reason: ReasonCode, why: &str) -> EngineError {
        let message = format!("{} {why}", self.target.path(self.name).display());
        EngineError::Provider { reason, message, next_action: None }
    }

    fn broken(&self, why: &str) -> EngineError {
        self.refuse(ReasonCode::ConfigInvalid, why)
    }

    /// Whether the entries of the agents could be written into this text.
    fn check(&self, text: &str) -> Result<(), EngineError> {
        let (_root, object) = self.parse(text)?;
        let all = self.inner(&object, "agent")?;
        for agent in GROUPS.into_iter().flat_map(|(_, agents)| agents) {
            self.inner(&all, agent)?;
        }
        Ok(())
    }

    fn parse(&self, text: &str) -> Result<(CstRootNode, CstObject), EngineError> {
        let text = text.strip_prefix(MARK).unwrap_or(text);
        let text = if text.trim().is_empty() { "{\n}\n" } else { text };
        let root = CstRootNode::parse(text, &ParseOptions::default())
            .map_err(|error| self.broken(&format!("is not valid: {error}")))?;
        let object = root.object_value().ok_or_else(|| self.broken("is no object"))?;
        Ok((root, object))
    }

    fn inner(&self, object: &CstObject, name: &str) -> Result<CstObject, EngineError> {
        match object.get(name) {
            None => Ok(object.object_value_or_set(name)),
            Some(property) => property
                .object_value()
                .ok_or_else(|| self.broken(&format!("has a `{name}` that is no object"))),
        }
    }
}

/// The text with both groups' models.
fn planned(
    config: &Config,
    text: &str,
    request: &ModelsRequest,
    available: &[AvailableModel],
) -> Result<String, EngineError> {
    let refuse = |message: String, next: String| EngineError::Provider {
        reason: ReasonCode::OpencodeModelUnavailable,
        message,
        next_action: Some(next),
    };
    let names = || available.iter().map(|model| model.model.as_str()).collect::<Vec<_>>().join(", ");
    let find = |wanted: &str| {
        let model = available.iter().find(|model| model.model == wanted);
        model.ok_or_else(|| {
            refuse(format!("OpenCode lists no model {wanted} here"), format!("one of {}", names()))
        })
    };
    let models = [find(&request.med)?, find(&request.low)?];
    if let Some(variant) = &request.variant
        && !models.iter().any(|model| model.variants.contains(variant))
    {
        let known: Vec<&str> = models.iter().flat_map(|model| &model.variants).map(String::as_str).collect();
        let next = if known.is_empty() {
            "leave --variant out".to_owned()
        } else {
            format!("one of {}", known.join(", "))
        };
        return Err(refuse(format!("neither model has a variant {variant}"), next));
    }
    let (root, object) = config.parse(text)?;
    let all = config.inner(&object, "agent")?;
    let mut changed = false;
    for ((_, agents), model) in GROUPS.into_iter().zip(models) {
        let variant = request.variant.as_ref().filter(|variant| model.variants.contains(*variant));
        for agent in agents {
            let entry = config.inner(&all, agent)?;
            changed |= put(&entry, "model", Some(&model.model));
            changed |= put(&entry, "variant", variant);
        }
    }
    let mark = if text.starts_with(MARK) { "\u{feff}" } else { "" };
    Ok(if changed { format!("{mark}{root}") } else { text.to_owned() })
}

/// Sets or removes a key; whether that changed anything.
fn put(entry: &CstObject, name: &str, value: Option<&String>) -> bool {
    let there = entry.get(name);
    let now = there.as_ref().and_then(jsonc_parser::cst::CstObjectProp::to_serde_value);
    match (there, value) {
        (None, None) => false,
        (Some(_), Some(value)) if now.as_ref().and_then(serde_json::Value::as_str) == Some(value) => false,
        (Some(property), Some(value)) => {
            property.set_value(CstInputValue::String(value.clone()));
            true
        }
        (Some(property), None) => {
            property.remove();
            true
        }
        (None, Some(value)) => {
            entry.append(name, CstInputValue::String(value.clone()));
            true
        }
    }
}

fn document(
    config: &Config,
    text: &str,
    available: Vec<AvailableModel>,
    changed: bool,
) -> Result<WorkflowModelsDocument, EngineError> {
    let (root, _) = config.parse(text)?;
    let value = root.to_serde_value().unwrap_or_default();
    let of = |agent: &str, key: &str| {
        let text = value.get("agent").and_then(|all| all.get(agent)?.get(key)?.as_str());
        text.unwrap_or("-").to_owned()
    };
    let mut groups = Vec::new();
    for (name, agents) in GROUPS {
        for agent in agents {
            groups.push(ModelGroup {
                group: name.to_owned(),
                agent: (*agent).to_owned(),
                model: of(agent, "model"),
                variant: of(agent, "variant"),
            });
        }
    }
    Ok(WorkflowModelsDocument {
        schema: "dx-runner/workflow-models/1".to_owned(),
        file: config.target.path(config.name).display().to_string(),
        agents: groups,
        available,
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_with_and_without_variants() {
        let text = "a/m1\n{\n  \"variants\": {\n    \"high\": {\n      \"url\": \"x/y\"\n    }\n  }\n}\na/m2\n{\n  \"variants\": {}\n}\n";
        let rows: Vec<_> = read_models(text).into_iter().map(|m| (m.model, m.variants)).collect();
        assert_eq!(rows, [("a/m1".to_owned(), vec!["high".to_owned()]), ("a/m2".to_owned(), Vec::new())]);
        assert_eq!(read_models("a/m1\nb/c/d\n").len(), 2);
    }
}
