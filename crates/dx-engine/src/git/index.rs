//! An index read without git, as far as it surely hides no file. Git is asked when there is any doubt, which saves its start
//! for nearly every repository.
//!
//! The format is that of git's `gitformat-index`. Must never say yes to what it does not know: another version, another
//! hash, an extension that changes what the entries mean.

use super::Repository;
use std::io::{self, ErrorKind};

/// A larger one is left to git.
const MAX_BYTES: u64 = 64 << 20;
const HEADER: usize = 12;
/// Times, device, inode, mode, owner and size, in front of an object's name.
const STAT: usize = 40;
const NAME: usize = 20;
const STAT_AND_NAME: usize = STAT + NAME;
const CHECKSUM: usize = 20;
const ASSUME_VALID: u16 = 1 << 15;
const EXTENDED: u16 = 1 << 14;
const STAGE: u16 = 3 << 12;
const SKIP_WORKTREE: u16 = 1 << 14;
const INTENT_TO_ADD: u16 = 1 << 13;
const CACHED_TREE: &[u8] = b"TREE";
/// Extensions that add to entries and change none: cached trees, resolved conflicts, untracked files, where entries end.
const HARMLESS: [&[u8]; 5] = [CACHED_TREE, b"REUC", b"UNTR", b"EOIE", b"IEOT"];

/// Whether no entry tells git not to look at its file; `false` also when git has to be asked.
pub(super) fn hides_nothing(repository: &Repository) -> bool {
    match read(repository) {
        Ok(bytes) => Index::parse(&bytes).is_some(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// The index's bytes; of a repository whose format is another one too, none that [`Index::parse`] takes.
pub(super) fn read(repository: &Repository) -> io::Result<Vec<u8>> {
    // Names of objects are longer with another hash.
    let config = dx_jobdir::read_bounded(&repository.common_dir.join("config"), MAX_BYTES);
    let word = &b"objectformat"[..];
    if !config.is_ok_and(|text| !text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))) {
        return Ok(Vec::new());
    }
    // A cut one does not end as it says.
    dx_jobdir::read_bounded(&repository.git_dir.join("index"), MAX_BYTES)
}

/// An index that hides nothing and is understood to its end.
pub(super) struct Index<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    /// The name of the tree that all entries together make, if git has noted it.
    pub(super) tree: Option<&'a [u8]>,
}

/// What git knows of one file.
pub(super) struct Entry<'a> {
    bytes: &'a [u8],
    pub(super) path: &'a [u8],
    /// Neither one side of a conflict, nor only meant to be added.
    pub(super) settled: bool,
}

impl Entry<'_> {
    /// The file as it was when git read it: ten numbers in the order of the format, of which the first is its change's
    /// second.
    pub(super) fn stat(&self) -> [u32; 10] {
        let mut words =
            self.bytes.chunks_exact(4).map(|word| word.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)));
        std::array::from_fn(|_| words.next().unwrap_or_default())
    }

    /// The name of its content.
    pub(super) fn object(&self) -> &[u8] {
        &self.bytes[STAT..STAT_AND_NAME]
    }
}

impl<'a> Index<'a> {
    /// `None` for an index with a flag, and for one that is not understood to its end.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let version = word(4)?;
        if bytes.get(..4)? != b"DIRC" || !(2..=3).contains(&version) {
            return None;
        }
        let end = bytes.len().checked_sub(CHECKSUM)?;
        let mut at = HEADER;
        let mut index = Self { entries: Vec::new(), tree: None };
        for _ in 0..word(8)? {
            let flags = half(at + STAT_AND_NAME)?;
            let mut name = at + STAT_AND_NAME + 2;
            let mut more = 0;
            if flags & ASSUME_VALID != 0 {
                return None;
            }
            if flags & EXTENDED != 0 {
                more = half(name)?;
                if version < 3 || more & SKIP_WORKTREE != 0 {
                    return None;
                }
                name += 2;
            }
            let length = bytes.get(name..end)?.iter().position(|byte| *byte == 0)?;
            index.entries.push(Entry {
                bytes: bytes.get(at..name)?,
                path: bytes.get(name..name + length)?,
                settled: flags & STAGE == 0 && more & INTENT_TO_ADD == 0,
            });
            // One to eight zeros fill an entry up.
            at += (name + length - at) / 8 * 8 + 8;
        }
        while at < end {
            let signature = bytes.get(at..at + 4)?;
            if !HARMLESS.contains(&signature) {
                return None;
            }
            let content = at.checked_add(8)?;
            at = content.checked_add(usize::try_from(word(at + 4)?).ok()?)?;
            if signature == CACHED_TREE {
                index.tree = whole_tree(bytes.get(content..at)?, index.entries.len());
            }
        }
        (at == end).then_some(index)
    }
}

/// The first record of the extension, which is the whole tree: an empty path, the number of entries, the number of trees in
/// it, and its name unless the number of entries is -1.
fn whole_tree(extension: &[u8], entries: usize) -> Option<&[u8]> {
    let rest = extension.strip_prefix(&[0])?;
    let line = rest.iter().position(|byte| *byte == b'\n')?;
    let counted = std::str::from_utf8(&rest[..line]).ok()?.split_once(' ')?.0;
    (counted.parse() == Ok(entries)).then(|| rest.get(line + 1..line + 1 + NAME)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::real::git;

    fn made(format: &str) -> (tempfile::TempDir, Repository) {
        let tmp = tempfile::tempdir().unwrap();
        git(tmp.path(), &["init", "-q", "--object-format", format]);
        for name in ["a", "bcdefgh", "folder-of-a-longer-name"] {
            std::fs::write(tmp.path().join(name), name).unwrap();
        }
        git(tmp.path(), &["add", "."]);
        let repository = Repository::find(tmp.path()).unwrap();
        (tmp, repository)
    }

    #[test]
    fn a_flag_is_seen_in_every_version_that_git_writes() {
        for version in ["2", "3", "4"] {
            for (flag, back) in
                [("--assume-unchanged", "--no-assume-unchanged"), ("--skip-worktree", "--no-skip-worktree")]
            {
                let (tmp, repository) = made("sha1");
                git(tmp.path(), &["update-index", "--index-version", version]);
                // The fourth is left to git.
                assert_eq!(hides_nothing(&repository), version != "4", "{version}");
                git(tmp.path(), &["update-index", flag, "bcdefgh"]);
                assert!(!hides_nothing(&repository), "{version} {flag}");
                git(tmp.path(), &["update-index", back, "bcdefgh"]);
                assert_eq!(hides_nothing(&repository), version != "4", "{version} {back}");
            }
        }
    }

    #[test]
    fn what_git_adds_in_common_use_is_understood() {
        let (tmp, repository) = made("sha1");
        git(tmp.path(), &["commit", "-q", "-m", "first"]);
        git(tmp.path(), &["update-index", "--untracked-cache"]);
        git(tmp.path(), &["status"]);
        std::fs::write(tmp.path().join("new"), "").unwrap();
        git(tmp.path(), &["add", "--intent-to-add", "new"]);
        assert!(hides_nothing(&repository));
        std::fs::remove_file(repository.git_dir.join("index")).unwrap();
        assert!(hides_nothing(&repository), "none is empty");
    }

    #[test]
    fn every_doubt_is_left_to_git() {
        let (_tmp, repository) = made("sha256");
        assert!(!hides_nothing(&repository));
        let (tmp, repository) = made("sha1");
        git(tmp.path(), &["update-index", "--split-index"]);
        assert!(!hides_nothing(&repository));
        let (_tmp, repository) = made("sha1");
        let bytes = std::fs::read(repository.git_dir.join("index")).unwrap();
        assert!(Index::parse(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(Index::parse(&bytes[..length]).is_none(), "{length}");
        }
        for place in 0..HEADER {
            let mut other = bytes.clone();
            other[place] ^= 0x40;
            assert!(Index::parse(&other).is_none(), "{place}");
        }
    }
}
