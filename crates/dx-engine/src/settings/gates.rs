//! What the layers ask of a job: gates and lists in which every layer's word counts by itself.
//!
//! Called by: `start`. Must never: drop a layer's word because another one speaks too.

use super::error::SettingsError;
use super::layers::Layers;
use super::table::{self, Setting};
use dx_core::settings::Value;
use dx_protocol::Gates;
use std::path::PathBuf;

impl Layers {
    /// What each layer says, lowest first, nothing twice; empty lists say nothing.
    fn said(&self, setting: &'static Setting) -> Result<Vec<Value>, SettingsError> {
        let mut words = self.resolve(setting.key)?.words;
        words.sort_by_key(|word| word.layer);
        let mut said: Vec<Value> = Vec::new();
        for word in words {
            if word.value != Value::List(Vec::new()) && !said.contains(&word.value) {
                said.push(word.value);
            }
        }
        Ok(said)
    }

    /// The texts of all layers.
    fn texts(&self, setting: &'static Setting) -> Result<Vec<String>, SettingsError> {
        let text = |value| if let Value::Text(text) = value { Some(text) } else { None };
        Ok(self.said(setting)?.into_iter().filter_map(text).collect())
    }

    /// The lists of all layers; each counts.
    pub(crate) fn lists(&self, setting: &'static Setting) -> Result<Vec<Vec<String>>, SettingsError> {
        let list = |value| if let Value::List(list) = value { Some(list) } else { None };
        Ok(self.said(setting)?.into_iter().filter_map(list).collect())
    }

    /// The paths of a setting without a default, when somebody says something.
    pub(crate) fn paths_if_said(
        &self,
        setting: &'static Setting,
    ) -> Result<Option<Vec<PathBuf>>, SettingsError> {
        let said = self.said_at_all(setting)?;
        Ok(said.then(|| self.list(setting)).transpose()?.map(|l| l.into_iter().map(PathBuf::from).collect()))
    }

    fn said_at_all(&self, setting: &'static Setting) -> Result<bool, SettingsError> {
        Ok(!self.resolve(setting.key)?.words.is_empty())
    }

    /// All gates of a job.
    pub(crate) fn gates(&self) -> Result<Gates, SettingsError> {
        let mut baselines = self.texts(&table::REQUIRED_BASELINE)?.into_iter();
        let mut scopes = self.lists(&table::SCOPE)?.into_iter();
        Ok(Gates {
            required_baseline: baselines.next(),
            also_required: baselines.collect(),
            require_commit: self.is_on(&table::REQUIRE_COMMIT)?,
            read_only: self.is_on(&table::READ_ONLY)?,
            scope: scopes.next().unwrap_or_default(),
            also_scope: scopes.collect(),
            forbidden: self.list(&table::FORBIDDEN)?,
            mutation_budget: self.number(table::MUTATION_BUDGET.key)?,
            feature_keys: self.texts(&table::FEATURE_KEY)?,
            beads: self.is_on(&table::BEADS)?,
            signoffs: self.texts(&table::SIGNOFF_FILE)?,
            check: all_of(&self.texts(&table::CHECK)?),
        })
    }
}

/// One command that runs all of them, the first that fails ends it.
fn all_of(commands: &[String]) -> Option<String> {
    match commands {
        [] => None,
        [command] => Some(command.clone()),
        // On lines of their own: a comment at an end would hide what follows.
        some => Some(some.iter().map(|c| format!("(\n{c}\n)")).collect::<Vec<_>>().join(" && ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_commands_become_one() {
        let of = |commands: &[&str]| all_of(&commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["make"]).as_deref(), Some("make"));
        let run = |commands: &[&str]| {
            let all = of(commands).unwrap();
            std::process::Command::new("/bin/sh").args(["-c", &all]).status().unwrap().success()
        };
        assert!(run(&["true # fine", "test 1 = 1"]));
        assert!(!run(&["true", "false"]) && !run(&["false; false", "true"]) && !run(&["exit 3", "exit 0"]));
    }
}
