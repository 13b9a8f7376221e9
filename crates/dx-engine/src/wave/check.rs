//! From a wave file, or from issues of Beads, to a plan: everything that can be refused is refused here, before anything is
//! made.
//!
//! Called by: `wave plan` and `wave run`. Must never: write, or start anything.

pub(super) mod branches;
mod graph;
mod providers;

use super::beads;
use super::file::{self, At, MAX_BYTES, Problem, WaveFile, WaveFileError, Work};
use super::merge::resolve;
use crate::Engine;
use crate::api::{PromptSource, WaveSource};
use crate::error::EngineError;
use crate::gates::scope::Scope;
use crate::git::Repository;
use crate::prompt::Prompt;
use crate::providers::Providers;
use crate::secrets::mask_text;
use crate::settings::Place;
use branches::Branches;
use dx_protocol::{BeadsId, ProviderName, SandboxMode, WaveItem, WaveLeftOut, WavePlan};
use std::path::{Path, PathBuf};

const MAX_PARALLEL: u32 = 4;
const MAX_ATTEMPTS: u32 = 3;
/// Room for what a review's id adds.
const MAX_ID: usize = 100;
const EXEC: &str = "exec";

/// A plan with what is not in its record.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) plan: WavePlan,
    pub(super) layers: Vec<Vec<usize>>,
    /// By item; empty for a command without one.
    pub(super) prompts: Vec<Vec<u8>>,
    /// By item.
    pub(super) review_prompts: Vec<Vec<u8>>,
    /// Issues that are no items.
    pub(super) left_out: Vec<WaveLeftOut>,
}

impl Engine {
    /// Reads and checks a wave file, with the issues of Beads as its items when they are asked for.
    pub(super) fn read_wave(&self, source: &WaveSource) -> Result<Checked, EngineError> {
        let (text, folder) = match &source.file {
            Some(path) => read(path)?,
            None => (String::new(), std::env::current_dir().map_err(EngineError::NoCurrentDir)?),
        };
        let mut check = Check {
            engine: self,
            name: source.name(),
            text: &text,
            folder,
            // A project adds none.
            providers: self.layers(None, None)?.providers,
            problems: Vec::new(),
        };
        // What is in a file that is no TOML nobody knows: there is nothing else to tell about it.
        let Some(mut file) = file::parse(&text, &check.name, &mut check.problems) else {
            return Err(EngineError::WaveFile(WaveFileError(check.problems)));
        };
        let there = Branches::read(&check.repo(&file));
        let issues = if source.from_beads { Some(check.issues(&mut file, &there)?) } else { None };
        let checked = check.plan(&file, issues, &there);
        if check.problems.is_empty()
            && let Some(checked) = checked
        {
            return Ok(checked);
        }
        check.problems.sort();
        check.problems.dedup();
        Err(EngineError::WaveFile(WaveFileError(check.problems)))
    }
}

/// A wave file's text and its folder.
fn read(path: &Path) -> Result<(String, PathBuf), EngineError> {
    let unreadable = |source| EngineError::WaveFileUnreadable { path: path.to_owned(), source };
    // Named by the user: a link is followed, but nothing else than a file is read.
    let real = path.canonicalize().map_err(unreadable)?;
    let bytes = dx_jobdir::read_bounded(&real, MAX_BYTES).map_err(unreadable)?;
    let text =
        String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is not a UTF-8 text")))?;
    Ok((text, real.parent().unwrap_or(Path::new("/")).to_owned()))
}

/// What an item says, else the defaults.
fn pick<'w, T>(
    own: &'w Work,
    defaults: &'w Work,
    get: fn(&'w Work) -> &'w Option<At<T>>,
) -> Option<&'w At<T>> {
    get(own).as_ref().or(get(defaults).as_ref())
}

/// What the patterns of a scope are seen from.
fn top_of(repo: &Path) -> PathBuf {
    Repository::find(repo).map_or_else(|| repo.to_owned(), |found| found.work_tree)
}

struct Check<'a> {
    engine: &'a Engine,
    name: String,
    text: &'a str,
    folder: PathBuf,
    providers: Providers,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, place: &Place, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem { place: place.clone(), what: what.into(), fix: fix.into() });
    }

    fn top(&self) -> Place {
        Place::in_text(&self.name, self.text, 0)
    }

    fn repo(&self, file: &WaveFile) -> PathBuf {
        self.folder.join(file.repo.as_ref().map_or(".", |at| at.value.as_str()))
    }

    /// Puts the ready issues in the place of the file's items.
    fn issues(&mut self, file: &mut WaveFile, there: &Branches) -> Result<beads::Issues, EngineError> {
        if let Some(item) = file.items.first() {
            let what = "there are items here, and the issues of Beads are to be the items";
            self.wrong(&item.place, what, "leave out --from-beads, or the items");
        }
        let repo = self.repo(file);
        if Repository::find(&repo).is_none() {
            // Told by the plan.
            return Ok(beads::Issues::default());
        }
        let issues = beads::read(&self.engine.layers(None, None)?, &repo, there)?;
        let place = self.top();
        let at = |value: &str| At { value: value.to_owned(), place: place.clone() };
        file.items = issues
            .items
            .iter()
            .map(|issue| file::Item {
                place: place.clone(),
                id: Some(at(&issue.id)),
                prompt: Some(at(&issue.prompt)),
                prompt_file: None,
                needs: issue.needs.iter().map(|need| at(need)).collect(),
                work: Work::default(),
            })
            .collect();
        Ok(issues)
    }

    /// `None` when the mistakes leave nothing to plan.
    fn plan(&mut self, file: &WaveFile, issues: Option<beads::Issues>, there: &Branches) -> Option<Checked> {
        let top = self.top();
        let name = self.wave_name(file);
        if file.items.is_empty() {
            self.wrong(&top, "there is no item", "add an [[item]] with `id` and `prompt` or `prompt_file`");
        }
        let repo = self.repo(file);
        let repo_place = file.repo.as_ref().map_or(&top, |at| &at.place);
        if Repository::find(&repo).is_none() {
            let what = format!("{} is in no git repository", repo.display());
            self.wrong(repo_place, what, "`repo` names a folder of one, seen from the wave file");
        } else {
            let base = file.base.as_ref();
            match (resolve(&repo, base.map_or("HEAD", |base| &base.value)), base) {
                (Ok(_), _) => {}
                (Err(EngineError::NoBase { .. }), Some(base)) => {
                    let what = format!("there is no commit `{}` in the repository", base.value);
                    self.wrong(&base.place, what, "name a branch, a tag or a commit");
                }
                (Err(EngineError::NoBase { .. }), None) => {
                    let what = "there is no commit in the repository that items could start from";
                    self.wrong(repo_place, what, "make a first commit, or name a `base`");
                }
                (Err(error), _) => {
                    self.wrong(repo_place, error.to_string(), "try again; the file may be right");
                }
            }
        }
        let ids = self.ids(file, there);
        self.merge_into(file, &ids, there);
        let fallback = self.fallback(file);
        let (graph, layers) = self.graph(file, &ids);
        let mut items = Vec::new();
        let (mut prompts, mut review_prompts) = (Vec::new(), Vec::new());
        for item in &file.items {
            let id = item.id.as_ref().and_then(|id| id.value.parse().ok());
            let prompt = self.prompt(item);
            let planned = self.item(file, item, &repo, prompt.is_some(), fallback.as_deref());
            let (Some(id), Some((mut planned, review))) = (id, planned) else { continue };
            planned.id = id;
            if let Some((name, bytes)) = prompt {
                let name = if issues.is_some() { beads::PROMPT.to_owned() } else { name };
                (planned.prompt_file, planned.prompt_bytes) = (name, bytes.len() as u64);
                prompts.push(bytes);
            } else {
                prompts.push(Vec::new());
            }
            review_prompts.push(review);
            items.push(planned);
        }
        let repo = repo.canonicalize().unwrap_or(repo);
        let Some(repo) = repo.to_str() else {
            let what = format!("the path of the repository is not UTF-8: {}", repo.display());
            self.wrong(repo_place, what, "rename the folder");
            return None;
        };
        let plan = WavePlan {
            name: name?,
            repo: repo.to_owned(),
            base: file.base.as_ref().map_or("HEAD", |at| at.value.as_str()).to_owned(),
            max_parallel: file.max_parallel.as_ref().map_or(MAX_PARALLEL, |at| at.value),
            fail_fast: file.fail_fast.as_ref().is_some_and(|at| at.value),
            merge_into: file.merge_into.as_ref().map(|at| at.value.clone()),
            items,
        };
        if plan.items.len() == file.items.len() {
            self.scopes(file, &plan, &graph);
        }
        let left_out = issues.map(|issues| issues.left_out).unwrap_or_default();
        Some(Checked { plan, layers: layers?, prompts, review_prompts, left_out })
    }

    fn wave_name(&mut self, file: &WaveFile) -> Option<String> {
        let Some(name) = &file.name else {
            if self.name == "-" {
                return Some("beads".to_owned());
            }
            // Without a name the file's own serves.
            let stem = Path::new(&self.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("wave");
            let plain: String =
                stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
            let plain = plain.trim_matches('-');
            return Some(if plain.is_empty() { "wave".to_owned() } else { plain.to_owned() });
        };
        if name.value.len() <= MAX_ID && name.value.parse::<BeadsId>().is_ok() {
            return Some(name.value.clone());
        }
        let fix = format!("at most {MAX_ID} letters, digits, . _ -, beginning with a letter or digit");
        self.wrong(&name.place, format!("`{}` cannot be a wave's name", name.value), fix);
        None
    }

    /// The prompt with the name it is recorded under; `None` when there is none, or it is told as a mistake.
    fn prompt(&mut self, item: &file::Item) -> Option<(String, Vec<u8>)> {
        match (&item.prompt, &item.prompt_file) {
            (Some(_), Some(at)) => {
                self.wrong(&at.place, "there is a `prompt` already", "take one of the two away");
                None
            }
            (Some(at), None) => {
                let text = PromptSource::Text(at.value.clone().into_bytes());
                self.read_prompt(&text, "-".to_owned(), &at.place)
            }
            (None, Some(at)) => {
                let path = self.folder.join(&at.value);
                self.read_prompt(&PromptSource::File(path.clone()), path.display().to_string(), &at.place)
            }
            (None, None) => None,
        }
    }

    fn read_prompt(
        &mut self,
        source: &PromptSource,
        name: String,
        place: &Place,
    ) -> Option<(String, Vec<u8>)> {
        // A pipe would be waited for.
        if let PromptSource::File(path) = source
            && path.metadata().is_ok_and(|meta| !meta.is_file())
        {
            self.wrong(place, format!("{} is no file", path.display()), "name a file with the prompt");
            return None;
        }
        match Prompt::read(Some(source)) {
            Ok(prompt) => Some((name, prompt.bytes)),
            Err(error) => {
                let mut what = error.to_string();
                if let Some(cause) = std::error::Error::source(&error) {
                    what = format!("{what}: {cause}");
                }
                self.wrong(
                    place,
                    what,
                    "put the prompt there, or name another file, seen from the wave file",
                );
                None
            }
        }
    }

    /// Everything of an item but its id and prompt; and the prompt of its review.
    fn item(
        &mut self,
        file: &WaveFile,
        item: &file::Item,
        repo: &Path,
        has_prompt: bool,
        fallback: Option<&[ProviderName]>,
    ) -> Option<(WaveItem, Vec<u8>)> {
        let (own, defaults) = (&item.work, &file.defaults);
        let profile = pick(own, defaults, |w| &w.profile);
        let provider = pick(own, defaults, |w| &w.provider).or(file.provider.as_ref());
        let first = self.provider(provider, profile, item, repo)?;
        let command = pick(own, defaults, |w| &w.command);
        let is_exec = first.as_str() == EXEC;
        match command {
            None if is_exec => {
                self.wrong(
                    &item.place,
                    "provider exec needs a `command`",
                    "command = [\"program\", \"argument\"]",
                );
            }
            Some(at) if is_exec && at.value.is_empty() => {
                self.wrong(&at.place, "the command is empty", "command = [\"program\", \"argument\"]");
            }
            Some(at) if at.value.iter().any(|word| mask_text(word) != *word) => {
                self.wrong(
                    &at.place,
                    "the command holds a secret, and it would be recorded",
                    "let it read the secret from a file",
                );
            }
            // Of the defaults it is only for the items of exec.
            Some(at) if !is_exec && own.command.is_some() => {
                self.wrong(
                    &at.place,
                    format!("a command is only for provider exec, not for {first}"),
                    "provider = \"exec\", or a prompt",
                );
            }
            _ => {}
        }
        if !has_prompt && !is_exec && item.prompt.is_none() && item.prompt_file.is_none() {
            self.wrong(&item.place, "an item has neither `prompt` nor `prompt_file`", "give it one of them");
        }
        let providers = self.chain(first, fallback, profile, item, repo);
        let scope = pick(own, defaults, |w| &w.scope);
        if let Some(at) = scope {
            self.scope(at, repo);
        }
        let check = pick(own, defaults, |w| &w.check);
        if let Some(at) = check.filter(|at| mask_text(&at.value) != at.value) {
            self.wrong(
                &at.place,
                "`check` holds a secret, and it would be recorded",
                "let the command read it from a file",
            );
        }
        let sandbox = pick(own, defaults, |w| &w.sandbox).and_then(|at| match at.value.as_str() {
            "strict" => Some(SandboxMode::Strict),
            "off" => Some(SandboxMode::Off),
            other => {
                self.wrong(&at.place, format!("`{other}` is no sandbox"), "\"strict\" or \"off\"");
                None
            }
        });
        let review = pick(own, defaults, |w| &w.review);
        let (review, review_prompt) = review.map_or((None, Vec::new()), |at| self.review(at, item, repo));
        let planned = WaveItem {
            // Replaced by the caller, who has a valid one.
            id: "item".parse().ok()?,
            needs: item.needs.iter().filter_map(|need| need.value.parse().ok()).collect(),
            model: pick(own, defaults, |w| &w.model).map(|at| at.value.clone()),
            profile: profile.map(|at| at.value.clone()),
            command: command.filter(|_| is_exec).map(|at| at.value.clone()).unwrap_or_default(),
            providers,
            sandbox,
            scope: scope.map(|at| at.value.clone()).unwrap_or_default(),
            check: check.map(|at| at.value.clone()),
            require_commit: pick(own, defaults, |w| &w.require_commit).is_some_and(|at| at.value),
            review,
            max_attempts: pick(own, defaults, |w| &w.max_attempts)
                .or(file.max_attempts.as_ref())
                .map_or(MAX_ATTEMPTS, |at| at.value),
            prompt_file: "none".to_owned(),
            prompt_bytes: 0,
            unit: None,
        };
        Some((planned, review_prompt))
    }

    /// Patterns that allow nothing of the repository are a mistake, and no pattern at all could be taken for "nothing".
    fn scope(&mut self, at: &At<Vec<String>>, repo: &Path) {
        if at.value.is_empty() {
            self.wrong(&at.place, "`scope` is empty", "name what may change, or \"**\" for everything");
        }
        if let Err(error) = Scope::parse(std::slice::from_ref(&at.value), &[]) {
            self.wrong(&at.place, error.to_string(), "mend the pattern");
        }
        for pattern in &at.value {
            // A slash at the beginning means the top of the repository, as in `.gitignore`, unless only this machine has it.
            let first = pattern.strip_prefix('/').and_then(|rest| rest.split('/').next());
            let Some(first) = first.filter(|first| !first.is_empty()) else { continue };
            if Path::new("/").join(first).exists() && !top_of(repo).join(first).exists() {
                let what = format!("`{pattern}` is a path of this machine, and not one of the repository");
                self.wrong(&at.place, what, "name it as seen from the top of the repository");
            }
        }
    }
}
