//! The lanes that can be compared, as a table. A new one is a row.

use crate::error::BenchError;
use dx_protocol::{BenchWorkflow, Lane};

/// A lane of an agent, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    /// The provider that runs it.
    pub system: &'static str,
    pub lane: Lane,
}

const fn row(name: &'static str, system: &'static str, lane: Lane) -> Known {
    Known { name, system, lane }
}

/// All workflows.
pub const WORKFLOWS: &[Known] = &[
    row("opencode_run_headless", "opencode", Lane::Run),
    row("opencode_server_http", "opencode", Lane::Server),
    row("opencode_server_attach_run", "opencode", Lane::Attach),
    row("cc_glm_headless", "cc-glm", Lane::Run),
    row("claude_code_headless", "claude-code", Lane::Run),
    row("gemini_run_headless", "gemini", Lane::Run),
    row("codex_headless", "codex", Lane::Run),
];

/// The workflow of this name.
pub(crate) fn known(name: &str) -> Option<Known> {
    WORKFLOWS.iter().find(|known| known.name == name).copied()
}

/// Whether what stands before `=` is meant as a workflow, be it one that there is. Models have `=` behind a `/` or `:`, where they
/// have one; any can be given behind a workflow's name.
fn looks_like_a_workflow(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '))
}

/// The workflows that are asked for, in their order. A model is for all of them, or, as `WORKFLOW=MODEL`, for one.
pub(crate) fn chosen(names: &[String], models: &[String]) -> Result<Vec<BenchWorkflow>, BenchError> {
    let all = || WORKFLOWS.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
    let mut chosen: Vec<BenchWorkflow> = Vec::new();
    for name in names {
        let known = known(name).ok_or_else(|| {
            BenchError::Argument(format!("there is no workflow `{name}`; there are {}", all()))
        })?;
        if chosen.iter().any(|other| other.name == *name) {
            return Err(BenchError::Argument(format!("the workflow `{name}` is named twice")));
        }
        chosen.push(BenchWorkflow {
            name: name.clone(),
            system: known.system.to_owned(),
            lane: known.lane.as_str().to_owned(),
            model: "-".to_owned(),
        });
    }
    if models.iter().any(|model| dx_engine::is_masked(model)) {
        return Err(BenchError::Argument("--model holds a secret, which would be recorded".to_owned()));
    }
    // What is for one workflow counts more than what is for all, in whatever order they stand.
    let (one, every): (Vec<_>, Vec<_>) = models
        .iter()
        .partition(|model| model.split_once('=').is_some_and(|(name, _)| looks_like_a_workflow(name)));
    for model in every {
        for workflow in &mut chosen {
            workflow.model.clone_from(model);
        }
    }
    for model in one {
        let Some((name, model)) = model.split_once('=') else { continue };
        let Some(workflow) = chosen.iter_mut().find(|workflow| workflow.name == name) else {
            return Err(BenchError::Argument(if self::known(name).is_some() {
                format!("--model is for `{name}`, which is not among --workflows")
            } else {
                format!("--model is for `{name}`, which is no workflow; there are {}", all())
            }));
        };
        model.clone_into(&mut workflow.model);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn models_are_for_all_or_for_one() {
        let names = ["opencode_run_headless", "cc_glm_headless"].map(str::to_owned);
        let models = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            let found = chosen(&names, &list).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.into_iter().map(|workflow| workflow.model).collect::<Vec<_>>())
        };
        assert_eq!(models(&[]).unwrap(), ["-", "-"]);
        assert_eq!(models(&["cc_glm_headless=glm", "a/b=c"]).unwrap(), ["a/b=c", "glm"]);
        let secret = format!("codex_headless=ghp_{}", "a1".repeat(18));
        assert!(models(&[&secret]).unwrap_err().contains("secret"));
        assert!(models(&["codex_headless=x"]).unwrap_err().contains("codex_headless"));
        for typo in ["opencode_run_headles=x", "opencode-run-headless=x", "codex=x", "=x"] {
            let told = models(&[typo]).unwrap_err();
            assert!(told.contains("no workflow") && told.contains("opencode_run_headless, "), "{told}");
        }
        assert_eq!(models(&["cc_glm_headless=glm=5"]).unwrap(), ["-", "glm=5"]);
        let twice = [names[0].clone(), names[0].clone()];
        assert!(chosen(&twice, &[]).unwrap_err().to_string().contains("twice"));
        assert!(chosen(&["x".to_owned()], &[]).unwrap_err().to_string().contains("opencode_run_headless"));
    }
}
