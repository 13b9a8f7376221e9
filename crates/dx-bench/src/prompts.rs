//! The file of prompts: what is asked, and by what the answer is judged. Must never: take a file with a mistake in it.

use crate::error::BenchError;
use dx_protocol::BenchPrompt;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// The built-in file.
pub const BUILT_IN: &str = include_str!("prompts.json");
/// Version of the form of the file.
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 4 << 20;

/// A file of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    pub version: u32,
    pub prompts: Vec<Prompt>,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    pub id: String,
    pub category: String,
    pub title: String,
    pub prompt: String,
    /// Words that a good answer is expected to hold; they are counted and decide nothing.
    #[serde(default)]
    pub success_hints: Vec<String>,
    /// Files that the job finds in its folder, by their paths.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// The paths that the job may change, as patterns; all when empty.
    #[serde(default)]
    pub scope: Vec<String>,
    /// A shell command that is run in the job's folder afterwards; 0 for a right answer.
    #[serde(default)]
    pub check: Option<String>,
}

impl Prompts {
    /// The built-in ones, or those of a file; with the text that was read.
    pub fn load(file: Option<&Path>) -> Result<(Self, String), BenchError> {
        let Some(file) = file else { return Ok((Self::parse(BUILT_IN)?, BUILT_IN.to_owned())) };
        let bytes = dx_jobdir::read_bounded(file, MAX_BYTES)
            .map_err(|source| BenchError::Prompts(format!("{} cannot be read: {source}", file.display())))?;
        let invalid = || BenchError::Prompts("it is longer than 4 MiB, or not UTF-8".to_owned());
        let text = String::from_utf8(bytes).ok().filter(|text| (text.len() as u64) < MAX_BYTES);
        let text = text.ok_or_else(invalid)?;
        Ok((Self::parse(&text)?, text))
    }

    fn parse(text: &str) -> Result<Self, BenchError> {
        let invalid = |what: String| BenchError::Prompts(what);
        let prompts: Self = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if prompts.version != VERSION {
            return Err(invalid(format!("it is of version {}, this is {VERSION}", prompts.version)));
        }
        if prompts.prompts.is_empty() {
            return Err(invalid("it holds no prompt".to_owned()));
        }
        let mut ids = BTreeSet::new();
        for prompt in &prompts.prompts {
            prompt.look().map_err(|what| invalid(format!("prompt `{}`: {what}", prompt.id)))?;
            if !ids.insert(&prompt.id) {
                return Err(invalid(format!("prompt `{}` is there twice", prompt.id)));
            }
        }
        Ok(prompts)
    }
}

impl Prompt {
    fn look(&self) -> Result<(), String> {
        const LONGEST_ID: usize = 40;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.id.is_empty() || self.id.len() > LONGEST_ID || !self.id.chars().all(plain) {
            return Err(format!("an id has up to {LONGEST_ID} of a-z, 0-9 and -"));
        }
        if self.prompt.trim().is_empty() || self.prompt.contains('\0') {
            return Err("its text is empty or holds a NUL byte".to_owned());
        }
        if self.check.as_ref().is_some_and(|check| check.trim().is_empty()) {
            return Err("its check is empty".to_owned());
        }
        // Both would be recorded, the check with each job.
        let named = [
            ("title", Some(&self.title)),
            ("category", Some(&self.category)),
            ("check", self.check.as_ref()),
        ];
        let secret = named.into_iter().find(|(_, text)| text.is_some_and(|text| dx_engine::is_masked(text)));
        if let Some((name, _)) = secret {
            return Err(format!("its {name} holds a secret, which would be recorded"));
        }
        let inside = |path: &String| {
            let mut parts = Path::new(path).components().peekable();
            parts.peek().is_some()
                && parts.all(|part| matches!(part, Component::Normal(name) if name != ".git"))
        };
        match self.files.keys().find(|path| !inside(path)) {
            Some(path) => Err(format!("its file `{path}` is not inside of the job's folder")),
            None => Ok(()),
        }
    }

    /// As the manifest names it.
    pub fn row(&self) -> BenchPrompt {
        BenchPrompt {
            id: self.id.clone(),
            category: self.category.clone(),
            title: self.title.clone(),
            checked: self.check.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Prompts;
    use std::process::Command;

    #[test]
    fn the_built_in_ones_are_sound_and_cover_all_categories() {
        let (prompts, _) = Prompts::load(None).unwrap();
        let count = |category| prompts.prompts.iter().filter(|p| p.category == category).count();
        let all = ["coding", "latency", "robustness", "orchestration"].map(count);
        assert_eq!(all, [2, 1, 1, 1]);
        assert!(prompts.prompts.iter().filter(|p| p.category == "coding").all(|p| p.check.is_some()));
    }

    #[test]
    fn checks_refuse_what_was_there_and_take_a_right_answer() {
        let answers = [
            (
                "coding-slug",
                "slug.sh",
                "printf '%s' \"$1\" | tr 'A-Z' 'a-z' | sed 's/[^a-z0-9]\\{1,\\}/-/g; s/^-//; s/-$//'; echo",
            ),
            (
                "coding-repair",
                "roman.sh",
                "n=$1\nfor p in 1000:M 900:CM 500:D 400:CD 100:C 90:XC 50:L 40:XL 10:X 9:IX 5:V 4:IV 1:I; do\n\
                 while [ \"$n\" -ge \"${p%%:*}\" ]; do printf %s \"${p#*:}\"; n=$((n - ${p%%:*})); done; done; echo",
            ),
            ("orchestration", "plan.txt", "code: -\ntests: code\ndocs: code\n"),
        ];
        let (prompts, _) = Prompts::load(None).unwrap();
        for (id, file, answer) in answers {
            let prompt = prompts.prompts.iter().find(|p| p.id == id).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let check = || {
                let mut command = Command::new("sh");
                command.args(["-c", prompt.check.as_deref().unwrap()]).current_dir(folder.path());
                command.output().unwrap().status.success()
            };
            for (path, text) in &prompt.files {
                std::fs::write(folder.path().join(path), text).unwrap();
            }
            assert!(!check(), "{id} before");
            let answers = |text: &str| {
                std::fs::write(folder.path().join(file), text).unwrap();
                check()
            };
            assert!(answers(answer), "{id} after");
            for (_, wrong) in WRONG.iter().filter(|(of, _)| *of == id) {
                assert!(!answers(wrong), "{id}: {wrong}");
            }
        }
    }

    /// Answers that look right to who looks at a few words of them.
    const WRONG: [(&str, &str); 5] = [
        ("orchestration", "code: -\ntests: code\ndocs: -\nreview: code\n"),
        ("orchestration", "code: -\ntests: -\ndocs: -\na: code\nb: code\n"),
        ("orchestration", "tests: code\ncode: -\ndocs: code\n"),
        ("orchestration", "code: -\ntests: code\ndocs: code, tests\n"),
        (
            "coding-repair",
            "case $1 in 1) echo I;; 4) echo IV;; 49) echo XLIX;; 1994) echo MCMXCIV;; 3888) echo MMMDCCCLXXXVIII;; esac",
        ),
    ];

    #[test]
    fn mistakes_are_named() {
        let one = |fields: &str| {
            format!(r#"{{"version":1,"prompts":[{{"id":"a","category":"c","title":"t",{fields}}}]}}"#)
        };
        let secret = format!("ghp_{}", "a1".repeat(18));
        let cases = [
            ("{".to_owned(), "EOF"),
            (r#"{"version":2,"prompts":[]}"#.to_owned(), "version 2"),
            (r#"{"version":1,"prompts":[]}"#.to_owned(), "no prompt"),
            (one(r#""prompt":" ""#), "empty"),
            (one(r#""prompt":"x","chek":"true""#), "chek"),
            (one(r#""prompt":"x","check":" ""#), "check is empty"),
            (one(&format!(r#""prompt":"x","check":"echo {secret}""#)), "its check holds a secret"),
            (one(r#""prompt":"x""#).replace(r#""t""#, &format!(r#""{secret}""#)), "its title holds a secret"),
            (one(r#""prompt":"x","files":{"../a":""}"#), "../a"),
            (one(r#""prompt":"x","files":{".git/config":""}"#), ".git/config"),
        ];
        for (text, part) in cases {
            let error = Prompts::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
