//! Which model a job gets: canonical, allowed, listed; and why another one. One mechanism for all providers.
//!
//! Called by providers. Pure but for [`Policy::of`], which reads settings. Must never: ask an agent or a model; what a
//! command line lists is an argument.

use super::Wish;
use crate::error::EngineError;
use crate::settings::{Layers, Setting, SettingsError};
use dx_protocol::ReasonCode;

/// What a provider says of its models.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    /// The one that is taken when none is asked for; `None` leaves that to the agent.
    pub(crate) canonical: Option<&'static Setting>,
    pub(crate) allowed: Allowed,
    /// Not on the allow list.
    pub(crate) unsupported: ReasonCode,
    /// Not in the list of the agent's own program.
    pub(crate) unavailable: ReasonCode,
}

/// Who lists the models that may be asked for.
#[derive(Debug, Clone)]
pub(crate) enum Allowed {
    Setting {
        setting: &'static Setting,
        /// Allowed beside the canonical one when nobody lists allowed ones; `None`: every model is.
        also: Option<&'static [&'static str]>,
    },
    /// `allowed_models` of the provider's own table; empty: every model is.
    Table(Vec<String>),
}

impl Models {
    /// The list in force; `None`: every model is allowed.
    pub(crate) fn allowed_in(&self, settings: &Layers) -> Result<Option<Vec<String>>, SettingsError> {
        match &self.allowed {
            Allowed::Setting { setting, .. } => settings.choices(setting),
            Allowed::Table(list) => Ok((!list.is_empty()).then(|| list.clone())),
        }
    }

    /// The setting that is the list, and what is allowed when nobody sets it.
    pub(crate) fn setting(&self) -> Option<(&'static Setting, Option<&'static [&'static str]>)> {
        match self.allowed {
            Allowed::Setting { setting, also } => Some((setting, also)),
            Allowed::Table(_) => None,
        }
    }
}

impl Default for Models {
    /// Every model, in words that hold for every provider.
    fn default() -> Self {
        Self {
            canonical: None,
            allowed: Allowed::Table(Vec::new()),
            unsupported: ReasonCode::ModelNotAllowed,
            unavailable: ReasonCode::ProviderModelUnavailable,
        }
    }
}

/// The rules in force for one start.
#[derive(Debug, Clone)]
pub(super) struct Policy<'a> {
    models: &'a Models,
    requested: Option<String>,
    canonical: Option<String>,
    /// `None`: every model is allowed.
    allowed: Option<Vec<String>>,
    override_allowed: bool,
}

/// The model a job gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) model: String,
    /// `none` for the preferred model.
    pub(super) fallback_reason: String,
}

impl<'a> Policy<'a> {
    pub(super) fn of(wish: &Wish<'_>, models: &'a Models) -> Result<Self, EngineError> {
        let canonical = models.canonical.map(|setting| wish.settings.text(setting)).transpose()?.flatten();
        let allowed = models.allowed_in(wish.settings)?;
        let requested = wish.model.map(str::to_owned);
        Ok(Self { models, requested, canonical, allowed, override_allowed: wish.allow_model_override })
    }

    /// The model asked for, if it may be asked for; `None` leaves the choice to the agent.
    pub(super) fn wanted(&self) -> Result<Option<String>, EngineError> {
        let Some(wanted) = self.requested.as_ref().or(self.canonical.as_ref()) else { return Ok(None) };
        match &self.allowed {
            Some(allowed) if !allowed.contains(wanted) && !self.override_allowed => {
                let list = self
                    .models
                    .setting()
                    .map_or("allowed_models", |(setting, _)| setting.variable().unwrap_or(setting.key));
                Err(EngineError::Provider {
                    reason: self.models.unsupported,
                    message: format!("model `{wanted}` is not on the allow list ({})", allowed.join(", ")),
                    next_action: Some(format!("add it to {list}, or pass --allow-model-override")),
                })
            }
            _ => Ok(Some(wanted.clone())),
        }
    }

    /// The wanted model when it is listed; else the first other allowed and listed one. `program` is whose list it is.
    pub(super) fn choose(
        &self,
        wanted: &str,
        listed: &[String],
        program: &str,
    ) -> Result<Choice, EngineError> {
        let is_listed = |model: &str| listed.iter().any(|m| m == model);
        if is_listed(wanted) {
            return Ok(Choice { model: wanted.to_owned(), fallback_reason: "none".to_owned() });
        }
        let mut others = self.allowed.iter().flatten();
        match others.find(|model| *model != wanted && is_listed(model)) {
            Some(other) => Ok(Choice {
                model: other.clone(),
                fallback_reason: format!("preferred {wanted} is not listed on this host"),
            }),
            None => Err(EngineError::Provider {
                reason: self.models.unavailable,
                message: format!(
                    "model `{wanted}` is not among the {} models that {program} lists, and no other allowed one is",
                    listed.len()
                ),
                next_action: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{OPENCODE_ALLOWED_MODELS, OPENCODE_CANONICAL_MODEL};

    static MODELS: Models = Models {
        canonical: Some(&OPENCODE_CANONICAL_MODEL),
        allowed: Allowed::Setting { setting: &OPENCODE_ALLOWED_MODELS, also: Some(&[]) },
        unsupported: ReasonCode::OpencodeModelUnsupported,
        unavailable: ReasonCode::OpencodeModelUnavailable,
    };

    fn models(models: &[&str]) -> Vec<String> {
        models.iter().map(|m| (*m).to_owned()).collect()
    }

    fn policy(requested: Option<&str>, override_allowed: bool) -> Policy<'static> {
        Policy {
            models: &MODELS,
            requested: requested.map(str::to_owned),
            canonical: Some("a/1".to_owned()),
            allowed: Some(models(&["a/1", "b/1"])),
            override_allowed,
        }
    }

    #[test]
    fn what_may_be_asked_for() {
        let wanted = |policy: Policy<'_>| policy.wanted().unwrap();
        assert_eq!(wanted(policy(None, false)).as_deref(), Some("a/1"));
        let refused = policy(Some("c/1"), false).wanted().unwrap_err();
        assert_eq!(refused.reason(), ReasonCode::OpencodeModelUnsupported);
        assert!(refused.next_action().contains("OPENCODE_ALLOWED_MODELS"), "{refused}");
        assert_eq!(wanted(policy(Some("c/1"), true)).as_deref(), Some("c/1"));
        // The canonical one is under the same rule.
        let only = |allowed| Policy { allowed, ..policy(None, false) };
        assert!(only(Some(models(&["b/1"]))).wanted().is_err());
        assert!(only(Some(Vec::new())).wanted().is_err());
        assert_eq!(wanted(only(None)).as_deref(), Some("a/1"));
        // The agent's own choice is nothing that anybody asked for.
        assert_eq!(wanted(Policy { canonical: None, ..policy(None, false) }), None);
        // A table of the configuration says so in its own words.
        let table = Models { allowed: Allowed::Table(models(&["b/1"])), ..Models::default() };
        let refused = Policy { models: &table, ..policy(Some("c/1"), false) }.wanted().unwrap_err();
        assert_eq!(refused.reason(), ReasonCode::ModelNotAllowed);
        assert!(refused.next_action().contains("add it to allowed_models"), "{refused}");
    }

    #[test]
    fn what_is_taken() {
        let choose = |listed: &[&str]| policy(None, false).choose("a/1", &models(listed), "X");
        assert_eq!(choose(&["a/1"]).unwrap().fallback_reason, "none");
        let other = choose(&["x", "b/1"]).unwrap();
        assert_eq!(other.model, "b/1");
        assert!(other.fallback_reason.contains("a/1"));
        let none = choose(&["x"]).unwrap_err();
        assert_eq!(none.exit_code().code(), 25);
        assert!(none.next_action().contains("cc-glm") && none.next_action().contains("gemini"));
        let any = Policy { allowed: None, ..policy(Some("c/1"), false) };
        assert!(any.choose("c/1", &models(&["a/1"]), "X").is_err(), "nothing is chosen out of everything");
    }
}
