//! Which model a job gets: canonical, allowed, listed; and why another one. Pure but for [`Policy::of`].

use crate::error::EngineError;
use crate::providers::Wish;
use crate::settings::{OPENCODE_ALLOWED_MODELS, OPENCODE_CANONICAL_MODEL};
use dx_protocol::ReasonCode;

/// Allowed beside the canonical model when nobody lists allowed ones.
pub(crate) const ALSO_ALLOWED: &str = "zai-coding-plan/glm-5";

/// The rules in force for one start.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    requested: Option<String>,
    canonical: String,
    allowed: Vec<String>,
    override_allowed: bool,
}

/// The model a job gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) model: String,
    /// `none` for the preferred model.
    pub(super) fallback_reason: String,
}

impl Policy {
    pub(super) fn of(wish: &Wish<'_>) -> Result<Self, EngineError> {
        let canonical = wish.settings.text(&OPENCODE_CANONICAL_MODEL)?.unwrap_or_default();
        let allowed = wish.settings.list(&OPENCODE_ALLOWED_MODELS)?;
        let requested = wish.model.map(str::to_owned);
        Ok(Self { requested, canonical, allowed, override_allowed: wish.allow_model_override })
    }

    /// The model asked for, if it may be asked for.
    pub(super) fn wanted(&self) -> Result<String, EngineError> {
        let wanted = self.requested.clone().unwrap_or_else(|| self.canonical.clone());
        if self.allowed.contains(&wanted) || self.override_allowed {
            return Ok(wanted);
        }
        Err(EngineError::Provider {
            reason: ReasonCode::OpencodeModelUnsupported,
            message: format!("model `{wanted}` is not on the allow list ({})", self.allowed.join(", ")),
            next_action: None,
        })
    }

    /// The wanted model when it is listed; else the first other allowed and listed one.
    pub(super) fn choose(&self, wanted: &str, listed: &[String]) -> Result<Choice, EngineError> {
        let is_listed = |model: &str| listed.iter().any(|m| m == model);
        if is_listed(wanted) {
            return Ok(Choice { model: wanted.to_owned(), fallback_reason: "none".to_owned() });
        }
        match self.allowed.iter().find(|m| *m != wanted && is_listed(m)) {
            Some(other) => Ok(Choice {
                model: other.clone(),
                fallback_reason: format!("preferred {wanted} is not listed on this host"),
            }),
            None => Err(EngineError::Provider {
                reason: ReasonCode::OpencodeModelUnavailable,
                message: format!(
                    "model `{wanted}` is not among the {} models that OpenCode lists",
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

    fn policy(requested: Option<&str>, override_allowed: bool) -> Policy {
        Policy {
            requested: requested.map(str::to_owned),
            canonical: "a/1".to_owned(),
            allowed: vec!["a/1".to_owned(), "b/1".to_owned()],
            override_allowed,
        }
    }

    fn listed(models: &[&str]) -> Vec<String> {
        models.iter().map(|m| (*m).to_owned()).collect()
    }

    #[test]
    fn the_rules() {
        assert_eq!(policy(None, false).wanted().unwrap(), "a/1");
        assert!(policy(Some("c/1"), false).wanted().is_err());
        assert_eq!(policy(Some("c/1"), true).wanted().unwrap(), "c/1");
        let p = policy(None, false);
        assert_eq!(p.choose("a/1", &listed(&["a/1"])).unwrap().fallback_reason, "none");
        let other = p.choose("a/1", &listed(&["x", "b/1"])).unwrap();
        assert_eq!(other.model, "b/1");
        assert!(other.fallback_reason.contains("a/1"));
        let none = p.choose("a/1", &listed(&["x"])).unwrap_err();
        assert_eq!(none.exit_code().code(), 25);
    }
}
