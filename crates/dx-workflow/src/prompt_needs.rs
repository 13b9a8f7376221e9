//! What a prompt tells its agent to do, as calls that its permissions have to admit.
//!
//! Called by: `check`. Reads backticks and a few fixed words; must never: guess from ordinary prose.

/// Tools of `dx-runner mcp` that agents of the pack use, by the names that OpenCode gives them.
pub(crate) const MCP_TOOLS: &[&str] = &[
    "dx-runner_task_run",
    "dx-runner_call_wait",
    "dx-runner_dispatch",
    "dx-runner_batch_dispatch",
    "dx-runner_batch_show",
];

/// Tools of OpenCode that permissions admit for some uses and not for others.
const TOOLS: &[&str] = &["bash", "edit", "task", "read", "glob", "grep", "skill"];

/// What a [`Need`] is on that names a tool and no use of it.
pub(crate) const ANYTHING: &str = "";

/// A call that the text asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// Counted from 1 within the text.
    pub(crate) line: usize,
    pub(crate) tool: String,
    pub(crate) on: String,
    pub(crate) said: String,
}

/// Everything that the text asks for.
pub(crate) fn of(body: &str) -> Vec<Need> {
    body.lines().enumerate().flat_map(|(index, line)| of_line(index + 1, line)).collect()
}

fn of_line(number: usize, line: &str) -> Vec<Need> {
    let need = |tool: &str, on: String, said: &str| Need {
        line: number,
        tool: tool.to_owned(),
        on,
        said: said.to_owned(),
    };
    let mut needs = Vec::new();
    if line.contains("question tool") || line.contains("Ask ") {
        needs.push(need("question", "*".to_owned(), line.trim()));
    }
    for (before, quoted) in quotes(line) {
        // Of this sentence only.
        let before = before.rsplit(". ").next().unwrap_or_default().to_lowercase();
        if ["never ", "not ", "no "].iter().any(|word| before.contains(word)) {
            continue;
        }
        let is_told = |verbs: &[&str]| verbs.iter().any(|verb| before.ends_with(&format!("{verb} ")));
        if let Some(tool) = ["webfetch", "websearch", "todowrite"].into_iter().find(|tool| quoted == *tool) {
            needs.push(need(tool, "*".to_owned(), quoted));
        }
        if TOOLS.contains(&quoted) && is_told(&["use", "use the", "call", "call the"]) {
            needs.push(need(quoted, ANYTHING.to_owned(), quoted));
            continue;
        }
        if MCP_TOOLS.contains(&quoted) {
            needs.push(need(quoted, "*".to_owned(), quoted));
        }
        let told =
            is_told(&["run", "runs", "execute", "with the command", "call"]) && !MCP_TOOLS.contains(&quoted);
        if quoted.starts_with("dx-runner ") || quoted.starts_with("git ") || told {
            needs.push(need("bash", filled(quoted), quoted));
        }
        let is_file = quoted.contains('/')
            || quoted.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && !end.is_empty());
        let plain = !quoted.contains([' ', '(', '<']);
        if is_told(&[
            "write",
            "writes",
            "edit",
            "change",
            "update",
            "create",
            "append to",
            "write to",
            "findings to",
        ]) && is_file
            && plain
        {
            let is_report = quoted.strip_suffix(".md").is_some() && !quoted.contains('/');
            let place = if is_report { ".ai/tasks/001-x/" } else { "" };
            needs.push(need("edit", place.to_owned() + quoted, quoted));
        }
        if is_told(&["delegate to", "delegate to the", "hand it to", "spawn", "start the agent"])
            && plain
            && !is_file
        {
            needs.push(need("task", quoted.to_owned(), quoted));
        }
    }
    needs
}

/// Texts between backticks, each with what stands before it on the line.
pub(crate) fn quotes(line: &str) -> Vec<(&str, &str)> {
    let ticks: Vec<usize> = line.match_indices('`').map(|(at, _)| at).collect();
    let pairs = ticks.chunks_exact(2);
    pairs.map(|pair| (&line[..pair[0]], &line[pair[0] + 1..pair[1]])).collect()
}

/// `<placeholder>` as a word, so that a command looks like one that is run.
fn filled(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('<') {
        filled.push_str(head);
        match tail.split_once('>') {
            Some((_, after)) => {
                filled.push('x');
                rest = after;
            }
            None => return text.to_owned(),
        }
    }
    filled + rest
}

/// Words in backticks behind "task type", to the end of the sentence; lines counted from 0.
pub(crate) fn task_types(body: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut inside = false;
    for (number, line) in body.lines().enumerate() {
        let mut rest = line;
        while !rest.is_empty() {
            if !inside {
                let Some(at) = rest.find("task type") else { break };
                (inside, rest) = (true, &rest[at + "task type".len()..]);
            }
            let end = rest.find(['.', '`']).unwrap_or(rest.len());
            if rest[end..].starts_with('`') {
                let Some((word, after)) = rest[end + 1..].split_once('`') else { break };
                if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                {
                    words.push((number, word));
                }
                rest = after;
            } else if end < rest.len() {
                (inside, rest) = (false, &rest[end + 1..]);
            } else {
                break;
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_what_is_between_backticks() {
        let found = of(
            "Look.\nMake it with `dx-runner task new \"<title>\"`, write `a-report.md` and `x.md`.\nCall `dx-runner_task_run`.\n",
        );
        let rows: Vec<_> =
            found.iter().map(|need| (need.line, need.tool.as_str(), need.on.as_str())).collect();
        assert_eq!(
            rows,
            [
                (2, "bash", "dx-runner task new \"x\""),
                (2, "edit", ".ai/tasks/001-x/a-report.md"),
                (3, "dx-runner_task_run", "*")
            ]
        );
        let found = of(
            "Run `npm test`, edit `src/a.rs`. Then delegate to `research`.\nNever run `git push`, and do not write `b.md`.\n",
        );
        let rows: Vec<_> = found.iter().map(|need| (need.tool.as_str(), need.on.as_str())).collect();
        assert_eq!(rows, [("bash", "npm test"), ("edit", "src/a.rs"), ("task", "research")]);
        let found = of(
            "Use the `edit` tool, or use `bash`. Write your findings to `docs/x.md`. Do not use `task`.\n",
        );
        let rows: Vec<_> = found.iter().map(|need| (need.tool.as_str(), need.on.as_str())).collect();
        assert_eq!(rows, [("edit", ANYTHING), ("bash", ANYTHING), ("edit", "docs/x.md")]);
    }

    #[test]
    fn task_types_are_read_to_the_end_of_the_sentence() {
        let body = "Optional: task types `a`,\n`b-c` of `dx-runner routes`. Write `d`.\n(task type `e`)\n";
        assert_eq!(task_types(body), [(0, "a"), (1, "b-c"), (2, "e")]);
    }
}
