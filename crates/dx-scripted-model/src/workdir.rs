//! The client's working directory, as its prompt says it.
//!
//! What for: file tools of real agents want absolute paths, and only the prompt tells where the agent works. Called by
//! `route`. Must never invent a directory: none found is `None`.

/// What stands before and after the directory in the prompts of the known agents, best first.
const MARKS: [(&str, char); 6] = [
    ("<cwd>", '<'),                       // codex
    ("Primary working directory:", '\n'), // claude code
    ("orking directory:", '\n'),          // opencode, claude code
    ("working in the directory:", '\n'),  // gemini
    ("**Workspace Directories:**\n", '\n'),
    ("directories:\n", '\n'),
];

/// The directory, from the first mark that has one behind it.
pub(crate) fn find(text: &str) -> Option<String> {
    MARKS.iter().find_map(|(before, end)| {
        text.match_indices(before).find_map(|(at, _)| {
            let rest = text[at + before.len()..].trim_start().trim_start_matches("- ");
            let found =
                rest.split([*end, '\n']).next()?.trim().trim_matches(['`', '\'', '"']).trim_end_matches('.');
            found.starts_with('/').then(|| found.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_prompts() {
        assert_eq!(find("<env>\n  Working directory: /tmp/a b\n  Is").as_deref(), Some("/tmp/a b"));
        assert_eq!(find("<cwd>/x/y</cwd>").as_deref(), Some("/x/y"));
        assert_eq!(find("Workspace Directories:**\n\n directories:\n  - /g\n").as_deref(), Some("/g"));
        assert_eq!(find("the working directory: here"), None);
    }
}
