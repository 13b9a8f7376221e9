//! Routes: which model is asked for which kind of task. One table; the configuration replaces single entries.
//!
//! Called by: `dispatch`, `batch`, `routes`. Must never: be repeated somewhere else.

use super::{Member, Target};
use crate::Engine;
use crate::error::EngineError;
use crate::server::in_directory;
use crate::settings::ROUTES;
use dx_opencode::PATIENCE;
use dx_protocol::{ReasonCode, RouteRow, RoutesDocument};
use std::path::Path;

/// One tier: provider, model, and the task types that go there.
type Tier = (&'static str, &'static str, &'static [&'static str]);

/// The tiers, the cheapest first.
const TIERS: [Tier; 6] = [
    (
        "bailian-coding-plan",
        "qwen3-coder-next",
        &["boilerplate", "simple-fix", "quick-check", "general-opinion"],
    ),
    (
        "bailian-coding-plan",
        "qwen3-coder-plus",
        &["test-scaffolding", "logic-verification", "code-review", "api-analysis"],
    ),
    ("bailian-coding-plan", "qwen3.5-plus", &["research", "architecture", "library-comparison"]),
    ("bailian-coding-plan", "kimi-k2.5", &["docs-lookup"]),
    ("bailian-coding-plan", "minimax-m2.5", &["docs-generation"]),
    (
        "anthropic",
        "claude-sonnet-4-20250514",
        &["security-review", "complex-codegen", "complex-fix", "deep-research"],
    ),
];

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) task_type: String,
    pub(crate) tier: usize,
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Whether the configuration says so.
    pub(crate) configured: bool,
}

/// The table with what the configuration says, or what is wrong with that.
fn table(overrides: &[String]) -> Result<Vec<Route>, String> {
    let mut routes = Vec::new();
    for (tier, (provider, model, task_types)) in TIERS.iter().enumerate() {
        routes.extend(task_types.iter().map(|task_type| Route {
            task_type: (*task_type).to_owned(),
            tier: tier + 1,
            provider: (*provider).to_owned(),
            model: (*model).to_owned(),
            configured: false,
        }));
    }
    for entry in overrides {
        let parts =
            entry.split_once('=').and_then(|(task, to)| Some((task.trim(), to.trim().split_once('/')?)));
        // A route leads to a model of the server, so its provider is no member's kind, and no address.
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        let good = parts.filter(|(_, (provider, model))| {
            is_name(provider) && is_name(model) && !provider.contains([':', '@']) && !model.starts_with('/')
        });
        let Some((task_type, (provider, model))) = good else {
            return Err(format!("has `{entry}`, which is not TASK-TYPE=PROVIDER/MODEL"));
        };
        let names = names(&routes);
        let Some(route) = routes.iter_mut().find(|route| route.task_type == task_type) else {
            return Err(format!(
                "has `{entry}`, and there is no such task type; one of {}",
                names.join(", ")
            ));
        };
        (route.provider, route.model) = (provider.to_owned(), model.to_owned());
        route.configured = true;
    }
    Ok(routes)
}

fn names(routes: &[Route]) -> Vec<String> {
    routes.iter().map(|route| route.task_type.clone()).collect()
}

fn unknown(task_type: &str, names: &[String]) -> EngineError {
    EngineError::Provider {
        reason: ReasonCode::TaskTypeUnknown,
        message: format!("there is no task type `{task_type}`"),
        next_action: Some(format!("one of {}", names.join(", "))),
    }
}

impl Engine {
    pub(crate) fn route_table(&self) -> Result<Vec<Route>, EngineError> {
        let layers = self.layers(None, None)?;
        Ok(table(&layers.list(&ROUTES)?).map_err(|why| layers.wrong(&ROUTES, why))?)
    }

    /// Who is meant, and by which task type, when nothing of its route was replaced.
    pub(super) fn member_of(&self, target: &Target) -> Result<(Member, Option<String>), EngineError> {
        if let Some(member) = &target.member {
            return Ok((member.clone(), None));
        }
        let route = match &target.task_type {
            Some(task_type) => {
                let routes = self.route_table()?;
                let found = routes.iter().find(|route| route.task_type == *task_type).cloned();
                Some(found.ok_or_else(|| unknown(task_type, &names(&routes)))?)
            }
            None => None,
        };
        let provider = target.provider.clone().or_else(|| Some(route.as_ref()?.provider.clone()));
        let model = target.model.clone().or_else(|| Some(route.as_ref()?.model.clone()));
        let (Some(provider), Some(model)) = (provider, model) else {
            let message = "name a --member, or --provider and --model, or a --task-type";
            return Err(EngineError::Argument(message.to_owned()));
        };
        let whole = target.provider.is_none() && target.model.is_none();
        let routed = route.filter(|_| whole).map(|route| route.task_type);
        Ok((Member::Opencode { provider, model }, routed))
    }

    /// The table; with `check`, compared with what a server offers.
    pub fn routes(
        &self,
        check: bool,
        server: Option<&str>,
        directory: Option<&Path>,
    ) -> Result<RoutesDocument, EngineError> {
        let routes = self.route_table()?;
        let mut document = RoutesDocument {
            schema: "dx-runner/routes/1".to_owned(),
            url: "-".to_owned(),
            routes: routes.into_iter().map(row).collect(),
        };
        if check {
            let client = in_directory(self.find_server(server)?, directory)?;
            let offered = client.providers(PATIENCE)?;
            let connected = offered.all.iter().filter(|entry| offered.connected.contains(&entry.id));
            let models: Vec<String> = connected
                .flat_map(|entry| entry.models.keys().map(move |model| format!("{}/{model}", entry.id)))
                .collect();
            client.url().clone_into(&mut document.url);
            for row in &mut document.routes {
                let name = format!("{}/{}", row.provider, row.model);
                row.available = Some(models.contains(&name));
                if row.available == Some(false) {
                    row.nearest =
                        nearest(&row.provider, &row.model, &models).unwrap_or_else(|| "-".to_owned());
                }
            }
        }
        Ok(document)
    }
}

fn row(route: Route) -> RouteRow {
    RouteRow {
        task_type: route.task_type,
        tier: route.tier as u64,
        provider: route.provider,
        model: route.model,
        source: if route.configured { "configuration" } else { "built in" }.to_owned(),
        available: None,
        nearest: "-".to_owned(),
    }
}

/// The available model whose name is most like this one, whoever offers it; of two that are so alike that of the provider.
pub(super) fn nearest(provider: &str, model: &str, models: &[String]) -> Option<String> {
    let likeness = |name: &str| strsim::jaro_winkler(model, name.rsplit('/').next().unwrap_or(name));
    let is_own = |name: &str| name.split('/').next() == Some(provider);
    let alike = |a: &str, b: &str| likeness(a).total_cmp(&likeness(b)).then(is_own(a).cmp(&is_own(b)));
    models.iter().max_by(|a, b| alike(a, b)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seventeen_types_in_six_tiers() {
        let routes = table(&[]).unwrap();
        assert_eq!((routes.len(), routes.last().map(|route| route.tier)), (17, Some(6)));
        let mut names = names(&routes);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 17);
    }

    #[test]
    fn the_configuration_replaces_one() {
        let routes = table(&["code-review=a/b/c".to_owned()]).unwrap();
        let changed: Vec<_> = routes.iter().filter(|route| route.configured).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(
            (changed[0].provider.as_str(), changed[0].model.as_str(), changed[0].tier),
            ("a", "b/c", 2)
        );
        for bad in [
            "code-reviews=a/b",
            "code-review=a",
            "code-review=/b",
            "code-review=a/",
            "code-review=opencode:a/b",
            "code-review=a /b",
            "code-review=a/b c",
            "code-review=https://h/b",
            "=a/b",
            "",
        ] {
            assert!(table(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(table(&["code-review = openrouter/z-ai/glm-5:free".to_owned()]).is_ok());
    }

    #[test]
    fn the_nearest_is_by_the_models_name() {
        let models = ["x/claude-sonnet-4-5".to_owned(), "y/qwen3-coder".to_owned()];
        assert_eq!(nearest("x", "qwen3-coder-plus", &models).as_deref(), Some("y/qwen3-coder"));
        assert_eq!(nearest("x", "any", &[]), None);
        let same = ["mock/m2".to_owned(), "other/m2".to_owned()];
        assert_eq!(nearest("mock", "m9", &same).as_deref(), Some("mock/m2"));
    }
}
