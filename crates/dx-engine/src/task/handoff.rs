//! The implementer's turn by `agy`, when the user says so: a pointer to a file with everything it needs to know.
//!
//! Called by `step`. Must never: let anybody but the user say so, or put a file into the handoff that no job may write.

use super::files::text;
use super::step::Ground;
use crate::api::StartRequest;
use crate::error::EngineError;
use crate::gates::scope::Scope;
use dx_protocol::ProviderName;
use dx_workflow::task::{AGY_ON, Spec, agy_lines};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The program, and the word in the record for who did the step.
pub(super) const AGY: &str = "agy";
/// Relevant files are given as far as this; what is longer is named.
const MAX_FILE: usize = 64 << 10;
const MAX_ALL: usize = 256 << 10;

/// What `## Workflow` of the project's facts says of `agy`, one word for each line.
pub(super) fn flag(context: Option<&str>) -> String {
    let spec = Spec::parse(context.unwrap_or_default());
    agy_lines(&spec).map(|(_, said)| said).collect::<Vec<_>>().join(" ")
}

/// Whether the user lets `agy` carry out implementation steps.
pub(super) fn is_enabled(context: Option<&str>) -> bool {
    flag(context).split(' ').any(|said| said == AGY_ON)
}

/// The turn by another program.
pub(super) fn request(
    ground: &Ground<'_>,
    request: StartRequest,
    program: &Path,
    prompt: &str,
) -> Result<StartRequest, EngineError> {
    let handoff = ground.folder().folder.join("agy-handoff.md");
    let persona = dx_workflow::text_of("agents/implementer.md").unwrap_or_default();
    let persona = persona.splitn(3, "---\n").nth(2).unwrap_or(persona);
    let context = ground.project.context().unwrap_or_default();
    let text = format!(
        "{}\n\n# The step\n\n{prompt}\n\n# task-spec.md\n\n{}\n\n# .ai/context.md\n\n{context}\n\n# Relevant files\n{}",
        persona.trim(),
        ground.spec,
        relevant(ground.place, ground.spec)?
    );
    fs::write(&handoff, text).map_err(|source| EngineError::Io { what: "write the handoff file", source })?;
    let pointer = format!("Read {} and do exactly what it says.", handoff.display());
    let flags = ["--dangerously-skip-permissions", "--print"].map(str::to_owned);
    let command = std::iter::once(program.display().to_string()).chain(flags).chain([pointer]).collect();
    let provider: ProviderName = "exec".parse()?;
    Ok(StartRequest {
        provider,
        command,
        prompt: None,
        model: None,
        agent: None,
        env: Vec::new(),
        allow_model_override: false,
        ..request
    })
}

/// What `## Relevant Files` of the specification names, each with its text.
fn relevant(place: &Path, spec: &str) -> Result<String, EngineError> {
    let (scope, mut told) = (Scope::parse(&[], &[])?, String::new());
    let top = place.canonicalize().unwrap_or_default();
    for path in Spec::parse(spec).relevant_files() {
        let there = place.join(&path);
        // A link could lead to anything of the machine's.
        let is_link = there.canonicalize().is_ok_and(|real| real != top.join(&path));
        let content = match text(&there) {
            _ if is_link => Err("not given: it is a link"),
            _ if there.is_dir() => Err("a folder"),
            _ if scope.is_forbidden(&path) => Err("not given: no job may have it"),
            None => Err("not there yet"),
            Some(text) if text.len() > MAX_FILE || told.len() + text.len() > MAX_ALL => {
                Err("too long to be given here")
            }
            Some(text) => Ok(text),
        };
        // Writing to a String cannot fail.
        let _fits = match content {
            Ok(text) => {
                let fence = "`".repeat(longest_run(&text).max(2) + 1);
                writeln!(told, "\n## {path}\n\n{fence}\n{}\n{fence}", text.trim_end_matches('\n'))
            }
            Err(why) => writeln!(told, "\n## {path}\n\n({why})"),
        };
    }
    Ok(told)
}

/// Of backticks, so that a fence is longer than all in it.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_read_in_either_spelling_and_only_where_it_belongs() {
        for line in ["agy: enabled", "- **agy**: enabled", "- agy: `enabled`"] {
            assert!(is_enabled(Some(&format!("# C\n## Workflow\n{line}\n"))), "{line}");
            assert!(!is_enabled(Some(&format!("# C\n## Conventions\n{line}\n"))), "{line}");
        }
        for line in ["agy: disabled", "agy: enabled?", "never agy: enabled", ""] {
            assert!(!is_enabled(Some(&format!("# C\n## Workflow\n{line}\n"))), "{line}");
        }
        assert!(!is_enabled(None));
        assert_eq!(flag(Some("## Workflow\n- **agy**: Disabled\nship it\n")), "agy:disabled");
    }

    #[test]
    fn relevant_files_are_given_and_what_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        put("src/a.md", "one\n````\ntwo\n");
        put(".env", "KEY");
        put("long.txt", &"x".repeat(MAX_FILE + 1));
        put("secret", "s");
        std::os::unix::fs::symlink("secret", dir.path().join("link.txt")).unwrap();
        let spec = "## Relevant Files\n- `src/a.md`: see it\n- .env\n- long.txt\n- link.txt\n- new.txt\n- src/\n- /etc/hostname\n";
        let told = relevant(dir.path(), spec).unwrap();
        assert!(told.contains("## src/a.md\n\n`````\none\n````\ntwo\n`````\n"), "{told}");
        for line in [
            "## .env\n\n(not given",
            "## long.txt\n\n(too long",
            "## link.txt\n\n(not given",
            "## new.txt\n\n(not there",
            "## src\n\n(a folder",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        assert!(!told.contains("KEY") && !told.contains("/etc"), "{told}");
    }
}
