//! Rules about text: links that resolve, no path of the machine a file was written on.
//!
//! For: `check`.
//! Called by: its table of rules.
//! Must never: fetch anything; links with a scheme are not looked at.

use std::path::Path;

use super::{Findings, TextFile};
use crate::workspace;

/// First folders of absolute paths that exist on some machine only. In pieces, or this file would break the rule.
const MACHINE_ROOTS: [&str; 2] = [concat!("/", "work/"), concat!("/", "farm/")];

pub(super) fn links(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for file in files.iter().filter(|file| file.is("md")) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (line, target) in link_targets(&file.text) {
            let path = target.split(['#', '?']).next().unwrap_or_default().replace("%20", " ");
            if !path.is_empty() && !workspace::root().join(folder).join(&path).exists() {
                found.error(format!("{}:{line}: {target} does not exist", file.path));
            }
        }
    }
    found
}

/// Line and target of every relative link: `[text](target)`, `[name]: target`, `src="target"`, `href="target"`.
/// Code is left out.
fn link_targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        if fence.is_some() || mark.is_some() {
            continue;
        }
        // Every second part between backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let mut add = |target: &str| {
            let target = target.trim().trim_start_matches('<').trim_end_matches('>');
            let absolute = target.starts_with('#') || target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !absolute {
                found.push((index + 1, target.to_owned()));
            }
        };
        for (open, close) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
            for part in prose.split(open).skip(1) {
                let target = part.split(close).next().unwrap_or_default();
                // A title may follow: `[text](target "title")`.
                add(target.split(" \"").next().unwrap_or_default());
            }
        }
        if let Some((name, target)) = prose.trim_start().split_once("]: ")
            && name.starts_with('[')
            && !name.starts_with("[^")
        {
            add(target.split_whitespace().next().unwrap_or_default());
        }
    }
    found
}

pub(super) fn machine_paths(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for root in MACHINE_ROOTS.iter().filter(|root| starts_a_path(line, root)) {
                found.error(format!("{}:{}: {root}", file.path, index + 1));
            }
        }
    }
    found
}

/// Whether `root` stands in `line` as the beginning of a path, not in the middle of one.
fn starts_a_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || "_-.~*$})]>".contains(char))
    })
}

#[cfg(test)]
mod tests {
    use super::{MACHINE_ROOTS, link_targets, starts_a_path};

    #[test]
    fn finds_relative_links_outside_code() {
        let text = "[a](b.md#c) `[x](y)` ![p](<q r.png> \"t\")\n```\n[no](no.md)\n```\n[h](https://x.invalid/) [i](#j)\n\
                    [k]: l.md\n<img src=\"m.svg\">\n[^1]: a note\n";
        let found: Vec<String> =
            link_targets(text).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
        assert_eq!(found, ["1 b.md#c", "1 q r.png", "6 l.md", "7 m.svg"]);
    }

    #[test]
    fn a_machine_path_is_absolute() {
        let root = MACHINE_ROOTS[0];
        assert!(starts_a_path(&format!("see {root}a"), root) && starts_a_path(&format!("{root}a"), root));
        assert!(
            !starts_a_path(&format!("$HOME{root}a"), root) && !starts_a_path(&format!("{{x}}{root}a"), root)
        );
    }
}
