//! Which model a job gets: canonical, allowed, listed; and why another one. Pure but for [`Policy::of_environment`].

use crate::error::EngineError;
use dx_protocol::ReasonCode;

const CANONICAL: &str = "zhipuai-coding-plan/glm-5";
const ALSO_ALLOWED: &str = "zai-coding-plan/glm-5";

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
    pub(super) fn of_environment(flag: Option<&str>, override_allowed: bool) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let canonical = set("OPENCODE_CANONICAL_MODEL").unwrap_or_else(|| CANONICAL.to_owned());
        let allowed = match set("OPENCODE_ALLOWED_MODELS") {
            Some(list) => list.split(',').map(|m| m.trim().to_owned()).filter(|m| !m.is_empty()).collect(),
            None => vec![canonical.clone(), ALSO_ALLOWED.to_owned()],
        };
        let requested = flag.map(str::to_owned).or_else(|| set("OPENCODE_MODEL"));
        Self { requested, canonical, allowed, override_allowed }
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
