//! What `git merge-tree` tells of conflicts, file by file, with what to do about each.

use std::collections::BTreeMap;

/// A file that cannot be merged without a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub path: String,
    /// What the matter is, and what to do.
    pub why: String,
}

/// Reads the output of `--name-only --messages -z`: the tree, the files, an empty field, then the messages, each with the
/// number of its files, these, its kind and its text.
pub(super) fn parse(output: &[u8]) -> Vec<Conflict> {
    let mut fields = output.split(|b| *b == 0).map(|field| String::from_utf8_lossy(field).into_owned());
    let _tree = fields.next();
    let files: Vec<String> = fields.by_ref().take_while(|field| !field.is_empty()).collect();
    let mut why: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(count) = fields.next().and_then(|n| n.parse::<usize>().ok()) {
        let of: Vec<String> = fields.by_ref().take(count).collect();
        let (kind, text) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if kind.starts_with("CONFLICT") {
            for path in of {
                why.entry(path).or_default().push(explained(&kind, &text));
            }
        }
    }
    files
        .into_iter()
        .map(|path| {
            let why =
                why.remove(&path).map_or_else(|| "both sides changed it".to_owned(), |all| all.join("; "));
            Conflict { path, why }
        })
        .collect()
}

fn explained(kind: &str, text: &str) -> String {
    let known = [
        ("(contents)", "both changed the same lines: keep what belongs of either"),
        ("(binary)", "both changed a file that is no text: take one of the two"),
        ("(modify/delete)", "one side changed it and the other deleted it: keep or delete it"),
        ("(file/directory)", "it is a file on one side and a folder on the other: give one another name"),
        ("(distinct modes)", "it is of different kinds on the two sides: take one of the two"),
        ("(submodule", "both moved the submodule: take one of the two commits"),
    ];
    known
        .iter()
        .find(|(part, _)| kind.contains(part))
        .map_or_else(|| text.trim_end().to_owned(), |(_, why)| (*why).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_its_reason() {
        let output = b"tree\0a b\0gone\0odd\0\x001\0a b\0Auto-merging\0Auto-merging a b\n\x001\0a b\0CONFLICT (contents)\0x\n\x002\0gone\0new\0CONFLICT (modify/delete)\0y\n\x001\0odd\0CONFLICT (rename/rename)\0CONFLICT (rename/rename): odd\n\0";
        let found = parse(output);
        let told: Vec<(&str, &str)> = found.iter().map(|c| (c.path.as_str(), c.why.as_str())).collect();
        assert_eq!(told[0], ("a b", "both changed the same lines: keep what belongs of either"));
        assert_eq!(told[1].0, "gone");
        assert!(told[1].1.starts_with("one side changed it"));
        assert_eq!(told[2].1, "CONFLICT (rename/rename): odd");
        assert_eq!(parse(b""), []);
    }
}
