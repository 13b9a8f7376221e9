//! `workflow check`: the pack of this program, or what is in a target; with `live` as the real OpenCode loads it.
//!
//! Must never: change the target, or let a definition of the user's pass for one of the package.

use super::asking::{Refusal, Scratch, Surroundings};
use super::target::{MAX_BYTES, Target, WorkflowScope};
use crate::Engine;
use crate::error::EngineError;
use dx_protocol::{PackFinding, WorkflowCheckDocument};
use dx_workflow::{Definition, FILES, Rule, Source, agents, rules_of, text_of};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// Names under which OpenCode reads definitions, and where the pack's plugin is.
const FOLDERS: [&str; 5] = ["agents", "agent", "commands", "command", "plugins"];
const MAX_FILES: usize = 2000;

impl Engine {
    /// Looks at the package, or with a scope at what is in its folder.
    pub fn workflow_check(
        &self,
        scope: Option<WorkflowScope>,
        live: bool,
    ) -> Result<WorkflowCheckDocument, EngineError> {
        let routes = self.route_table()?;
        let task_types: Vec<&str> = routes.iter().map(|route| route.task_type.as_str()).collect();
        let (subject, files) = match scope {
            None => ("package".to_owned(), package()),
            Some(scope) => {
                let target = Target::of(scope)?;
                if target.manifest()?.is_none() {
                    return Err(EngineError::PackNotInstalled(target.folder));
                }
                (target.folder.display().to_string(), below(&target.folder))
            }
        };
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|(path, bytes)| Source { path: path.clone(), bytes, ours: text_of(path).is_some() })
            .collect();
        let mut findings = dx_workflow::check(&sources, &task_types, true);
        let mut version = None;
        if live {
            self.progress("letting OpenCode load the agents …");
            let (told, found) = self.live(scope, &files)?;
            version = Some(told);
            findings.extend(found);
        }
        findings.sort();
        Ok(WorkflowCheckDocument {
            schema: "dx-runner/workflow-check/1".to_owned(),
            subject,
            live: version,
            files: files.len() as u64,
            findings,
        })
    }

    /// The version of the real OpenCode, and where what it made of the agents is not the roles table.
    fn live(
        &self,
        scope: Option<WorkflowScope>,
        files: &[(String, Vec<u8>)],
    ) -> Result<(String, Vec<PackFinding>), EngineError> {
        let scratch = Scratch::new(&self.state()?.cache_dir())?;
        let mine = if scope.is_some() { scratch.mine()? } else { package_alone(&scratch)? };
        let version = scratch.ask(&["--version"], &mine)?.trim().to_owned();
        let listed = match scratch.try_ask(&["agent", "list"], &mine)? {
            Ok(text) => read_list(&text),
            // It starts with no agent at all then.
            Err(refusal) => return Ok((version, vec![refused(&refusal, files)])),
        };
        let own = |agent: &str| {
            let path = format!("agents/{agent}.md");
            let bytes = files.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.as_slice());
            Definition::parse(bytes.unwrap_or_default()).map(|own| own.rules).unwrap_or_default()
        };
        let found = agents().flat_map(|agent| compare(agent, &own(agent), listed.get(agent)));
        Ok((version, found.collect()))
    }
}

/// Of what it says otherwise.
const SAID_LINES: usize = 6;

/// What OpenCode does not take, as one finding: it names one file, and what it expected there.
fn refused(refusal: &Refusal, files: &[(String, Vec<u8>)]) -> PackFinding {
    let said: Vec<&str> = refusal.said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let named = said.iter().position(|line| line.contains(" invalid at "));
    let path = named.and_then(|at| said[at].rsplit_once(" invalid at ")).map_or("", |(_, path)| path);
    let ours = files.iter().map(|(name, _)| name.as_str()).find(|name| Path::new(path).ends_with(name));
    let other = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("opencode");
    let why: Vec<&str> = match named {
        Some(at) => said[at + 1..].iter().map(|line| line.trim_start_matches(['↳', ' '])).collect(),
        // Something else than a definition: all that it said, without where in its program.
        None => said.iter().filter(|line| !line.starts_with("at ")).take(SAID_LINES).copied().collect(),
    };
    let (message, fix) = match named {
        Some(_) => ("OpenCode does not start with it", "mend it; until then OpenCode loads no agent"),
        None => (
            "OpenCode does not start",
            "mend what it says, which may be no definition; `opencode agent list` tells more",
        ),
    };
    PackFinding {
        file: ours.unwrap_or(other).to_owned(),
        line: 1,
        rule: "live_refused".to_owned(),
        message: format!("{message} ({}): {}", refusal.status, why.join("; ")),
        fix: fix.to_owned(),
    }
}

/// Nothing of the user's: what is looked at is the package.
fn package_alone(scratch: &Scratch) -> Result<Surroundings, EngineError> {
    let io = |source| EngineError::Io { what: "write the pack for OpenCode", source };
    let pack = scratch.0.join("pack");
    for file in FILES {
        let path = pack.join(file.path);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, file.text))
            .map_err(io)?;
    }
    let env = vec![
        ("OPENCODE_CONFIG_DIR", pack),
        ("XDG_CONFIG_HOME", scratch.0.join("config")),
        ("OPENCODE_DISABLE_PROJECT_CONFIG", "1".into()),
    ];
    Ok(Surroundings { env, here: scratch.0.clone() })
}

fn package() -> Vec<(String, Vec<u8>)> {
    FILES.iter().map(|file| (file.path.to_owned(), file.text.as_bytes().to_vec())).collect()
}

/// Definitions in the folders that OpenCode reads, ours and others'.
fn below(target: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders: Vec<String> = FOLDERS.map(str::to_owned).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(target.join(&folder)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{folder}/{name}");
            if entry.path().is_dir() {
                folders.push(path);
            } else if is_looked_at(&path) && files.len() < MAX_FILES {
                let bytes = fs::canonicalize(entry.path())
                    .and_then(|real| dx_jobdir::read_bounded(&real, MAX_BYTES))
                    .unwrap_or_default();
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

/// Definitions, whoever wrote them; of plugins only the pack's.
fn is_looked_at(path: &str) -> bool {
    let is_definition = Path::new(path).extension().is_some_and(|ending| ending == "md");
    text_of(path).is_some() || (is_definition && !path.starts_with("plugins/"))
}

/// One rule as OpenCode lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Listed {
    permission: String,
    pattern: String,
    action: String,
}

impl Listed {
    fn of(rule: &Rule) -> Self {
        let effect = rule.effect.as_str().to_owned();
        Self { permission: rule.tool.clone(), pattern: rule.pattern.clone(), action: effect }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pattern.as_str() {
            "*" => write!(f, "{}: {}", self.permission, self.action),
            pattern => write!(f, "{}: {pattern}: {}", self.permission, self.action),
        }
    }
}

/// Mode and rules by agent, from `opencode agent list`: `name (mode)`, below it the rules.
fn read_list(text: &str) -> BTreeMap<String, (String, Vec<Listed>)> {
    let mut agents = BTreeMap::new();
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        let head = line.strip_suffix(')').and_then(|line| line.rsplit_once(" ("));
        let Some((name, mode)) = head.filter(|_| !line.starts_with(char::is_whitespace)) else { continue };
        let mut json = String::new();
        // Only the first line of the list is indented as a whole: its end stands at the margin.
        while let Some(line) = rest.next_if(|line| line.starts_with(char::is_whitespace) || *line == "]") {
            json.push_str(line);
        }
        let rules = serde_json::from_str(&json).unwrap_or_default();
        agents.insert(name.to_owned(), (mode.to_owned(), rules));
    }
    agents
}

/// Where an agent as loaded is not the one of the table; `own` are the rules of its file. OpenCode puts its own rules before ours,
/// and behind them only such about folders of its own.
fn compare(agent: &str, own: &[Rule], listed: Option<&(String, Vec<Listed>)>) -> Vec<PackFinding> {
    let file = format!("agents/{agent}.md");
    let finding = |line: usize, rule: &str, message: String, fix: &str| PackFinding {
        file: file.clone(),
        line: line as u64,
        rule: rule.to_owned(),
        message,
        fix: fix.to_owned(),
    };
    let Some((mode, rules)) = listed else {
        let message = "OpenCode does not load it".to_owned();
        return vec![finding(
            1,
            "live_missing",
            message,
            "dx-runner workflow install; then opencode debug config",
        )];
    };
    let mut found = Vec::new();
    let definition = Definition::parse(text_of(&file).unwrap_or_default().as_bytes());
    let ours = definition.ok().and_then(|d| d.text("mode").map(str::to_owned)).unwrap_or_default();
    if *mode != ours {
        let message = format!("OpenCode runs it as `{mode}`, the pack says `{ours}`");
        found.push(finding(1, "live_mode", message, "look at `agent` in your opencode.json"));
    }
    if let Some((rule, is_loaded, message)) = difference(&rules_of(agent), rules) {
        let at = own.iter().find(|own| Listed::of(own) == rule);
        // What OpenCode has and the file has not, or the other way round, comes from the settings.
        let fix = if at.is_some() == is_loaded {
            "dx-runner workflow diff shows it beside the pack's; workflow install --force puts that back"
        } else {
            "look at `permission` in your opencode.json"
        };
        found.push(finding(at.map_or(1, |rule| rule.line), "live_rules", message, fix));
    }
    found
}

/// The first rule in which a list is not the wanted one, whether OpenCode has it in its place, and what is the matter with it.
fn difference(wanted: &[Rule], rules: &[Listed]) -> Option<(Listed, bool, String)> {
    let wanted: Vec<Listed> = wanted.iter().map(Listed::of).collect();
    let begins = rules.iter().rposition(|rule| Some(rule) == wanted.first()).unwrap_or(0);
    let mut loaded = rules[begins..].to_vec();
    let ends = loaded.iter().rposition(|rule| rule.permission != "external_directory").map_or(0, |at| at + 1);
    loaded.truncate(ends);
    let told = |rule: &Listed, loaded, what: &str| {
        Some((rule.clone(), loaded, format!("OpenCode {what}: `{rule}`")))
    };
    if let Some(more) = loaded.iter().find(|rule| !wanted.contains(rule)) {
        return told(more, true, "has a rule that is not the pack's");
    }
    if let Some(less) = wanted.iter().find(|rule| !loaded.contains(rule)) {
        return told(less, false, "does not have its rule in its place");
    }
    let moved = (0..loaded.len()).find(|at| wanted.get(*at) != loaded.get(*at))?;
    told(&loaded[moved], true, "has its rules in another order, from here on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_agents_is_read_as_opencode_prints_it() {
        let text = "build (primary)\n  [\n  {\n    \"permission\": \"*\",\n    \"action\": \"deny\",\n    \"pattern\": \"*\"\n  }\n]\n\
                    my own (all)\n  []\n";
        let agents = read_list(text);
        assert_eq!((agents.len(), agents["build"].1.len(), agents["my own"].0.as_str()), (2, 1, "all"));
        assert_eq!((agents["build"].1[0].action.as_str(), agents["my own"].1.len()), ("deny", 0));
    }

    #[test]
    fn the_first_rule_that_differs_is_told() {
        let wanted = rules_of("research");
        let base = Listed { permission: "*".into(), pattern: "*".into(), action: "allow".into() };
        let behind = Listed {
            permission: "external_directory".into(),
            pattern: "/x/*".into(),
            action: "allow".into(),
        };
        let rules: Vec<Listed> =
            [base].into_iter().chain(wanted.iter().map(Listed::of)).chain([behind]).collect();
        assert_eq!(difference(&wanted, &rules), None);
        let edit = Listed { permission: "edit".into(), pattern: "*".into(), action: "allow".into() };
        let changed = |change: &dyn Fn(&mut Vec<Listed>)| {
            let mut rules = rules.clone();
            change(&mut rules);
            difference(&wanted, &rules).unwrap().2
        };
        let more = "OpenCode has a rule that is not the pack's: `edit: allow`";
        assert_eq!(changed(&|rules| rules.insert(3, edit.clone())), more);
        assert_eq!(changed(&|rules| rules.insert(rules.len() - 1, edit.clone())), more);
        assert!(
            changed(&|rules| drop(rules.remove(3)))
                .contains("does not have its rule in its place: `read: *.env: ask`")
        );
        assert!(changed(&|rules| rules.swap(2, 3)).contains("another order"));
        assert!(difference(&wanted, &[]).is_some());
    }
}
