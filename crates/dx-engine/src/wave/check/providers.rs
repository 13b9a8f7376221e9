//! Who does an item or its review: providers and profiles that are named, and the providers of profile and configuration.
//!
//! Part of the check of a wave file. Must never: look whether one can be started; that is done when the wave is run.

use super::{At, Check, EXEC, file};
use crate::api::{PromptSource, WorktreeChoice};
use crate::error::EngineError;
use crate::wave::file::WaveFile;
use dx_protocol::{ProviderName, WaveReview};
use std::path::Path;

impl Check<'_> {
    /// What the file says for all its items; `None` when it says nothing. Looked at also when no item can use it.
    pub(super) fn fallback(&mut self, file: &WaveFile) -> Option<Vec<ProviderName>> {
        let fallback = file.fallback.as_ref()?;
        let named =
            fallback.value.iter().map(|name| At { value: name.clone(), place: fallback.place.clone() });
        Some(named.filter_map(|name| self.known_provider(&name)).collect())
    }

    /// The item's provider, and who takes over from it: whom the file names, else profile or configuration.
    pub(super) fn chain(
        &mut self,
        first: ProviderName,
        fallback: Option<&[ProviderName]>,
        profile: Option<&At<String>>,
        item: &file::Item,
        repo: &Path,
    ) -> Vec<ProviderName> {
        let mut chain = vec![first];
        if chain[0].as_str() == EXEC {
            return chain;
        }
        let more = match fallback {
            Some(named) => named.to_vec(),
            None => self.configured_fallback(&chain[0], profile, item, repo),
        };
        for name in more {
            if !chain.contains(&name) {
                chain.push(name);
            }
        }
        chain
    }

    fn configured_fallback(
        &mut self,
        first: &ProviderName,
        profile: Option<&At<String>>,
        item: &file::Item,
        repo: &Path,
    ) -> Vec<ProviderName> {
        let place = profile.map_or(&item.place, |at| &at.place);
        match self.engine.configured_fallback(first, profile.map(|at| at.value.as_str()), repo) {
            // What exec runs would be the item's, and it has none.
            Ok(names) => names
                .into_iter()
                .filter(|name| name.as_str() != EXEC)
                .filter_map(|name| self.known_provider(&At { value: name.to_string(), place: place.clone() }))
                .collect(),
            Err(error) => {
                self.wrong(place, error.to_string(), error.next_action());
                Vec::new()
            }
        }
    }

    pub(super) fn review(
        &mut self,
        at: &At<file::Review>,
        item: &file::Item,
        repo: &Path,
    ) -> (Option<WaveReview>, Vec<u8>) {
        let review = &at.value;
        let provider = self.provider(review.provider.as_ref(), review.profile.as_ref(), item, repo);
        let Some(provider) = provider else { return (None, Vec::new()) };
        let is_exec = provider.as_str() == EXEC;
        if is_exec == review.command.as_ref().is_none_or(|command| command.value.is_empty()) {
            let (what, fix) = if is_exec {
                ("a review by provider exec needs a `command`", "command = [\"program\", \"argument\"]")
            } else {
                ("a command is only for provider exec", "take it away")
            };
            self.wrong(&at.place, what, fix);
        }
        let prompt = review.prompt_file.as_ref().and_then(|file| {
            let path = self.folder.join(&file.value);
            self.read_prompt(&PromptSource::File(path.clone()), path.display().to_string(), &file.place)
        });
        if review.prompt_file.is_none() && !is_exec {
            self.wrong(&at.place, "a review needs a `prompt_file`", "name a file, seen from the wave file");
        }
        let (prompt_file, bytes) = prompt.unwrap_or_else(|| ("none".to_owned(), Vec::new()));
        let review = WaveReview {
            provider,
            model: review.model.as_ref().map(|at| at.value.clone()),
            profile: review.profile.as_ref().map(|at| at.value.clone()),
            command: review.command.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
            prompt_file,
        };
        (Some(review), bytes)
    }

    /// The provider that is named, else that of profile or configuration.
    pub(super) fn provider(
        &mut self,
        named: Option<&At<String>>,
        profile: Option<&At<String>>,
        item: &file::Item,
        repo: &Path,
    ) -> Option<ProviderName> {
        if let Some(named) = named {
            // Nothing is asked of the profile here, but each attempt is started with it.
            if let Some(profile) = profile
                && let Err(error) = self.engine.known_profile(&profile.value, repo)
            {
                self.wrong(&profile.place, error.to_string(), error.next_action());
            }
            return self.known_provider(named);
        }
        let place = profile.map_or(&item.place, |at| &at.place);
        let name = profile.map(|at| at.value.as_str());
        match self.engine.configured_provider(name, &WorktreeChoice::Path(repo.to_owned()), None, None) {
            Ok(name) => Some(name),
            Err(error) => {
                let fix = match &error {
                    EngineError::NoProviderNamed { known } => {
                        format!("provider = with one of: {}", known.join(", "))
                    }
                    other => other.next_action(),
                };
                self.wrong(place, error.to_string().replace("--provider", "the wave file"), fix);
                None
            }
        }
    }

    pub(super) fn known_provider(&mut self, named: &At<String>) -> Option<ProviderName> {
        let found = named.value.parse::<ProviderName>().map_err(EngineError::from);
        match found.and_then(|name| self.providers.find(&name).map(|_| name)) {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong(&named.place, error.to_string(), error.next_action());
                None
            }
        }
    }
}
