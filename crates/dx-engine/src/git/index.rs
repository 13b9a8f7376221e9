//! A look at an index without git: whether it surely hides no file. Git is asked when there is any doubt, which saves its
//! start for nearly every repository.
//!
//! The format is that of git's `gitformat-index`. Must never say yes to what it does not know: another version, another
//! hash, an extension that changes what the entries mean.

use super::Repository;

/// A larger one is left to git.
const MAX_BYTES: u64 = 64 << 20;
const HEADER: usize = 12;
/// Times, device, inode, mode, owner and size in front of an object's name of 20 bytes.
const STAT_AND_NAME: usize = 40 + 20;
const CHECKSUM: usize = 20;
const ASSUME_VALID: u16 = 1 << 15;
const EXTENDED: u16 = 1 << 14;
const SKIP_WORKTREE: u16 = 1 << 14;
/// Extensions that add to entries and change none: cached trees, resolved conflicts, untracked files, where entries end.
const HARMLESS: [&[u8]; 5] = [b"TREE", b"REUC", b"UNTR", b"EOIE", b"IEOT"];

/// Whether no entry tells git not to look at its file; `false` also when git has to be asked.
pub(super) fn hides_nothing(repository: &Repository) -> bool {
    // Names of objects are longer with another hash.
    let config = dx_jobdir::read_bounded(&repository.common_dir.join("config"), MAX_BYTES);
    let word = &b"objectformat"[..];
    if !config.is_ok_and(|text| !text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))) {
        return false;
    }
    match dx_jobdir::read_bounded(&repository.git_dir.join("index"), MAX_BYTES) {
        Ok(bytes) => (bytes.len() as u64) < MAX_BYTES && is_plain(&bytes).is_some(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// `None` for an index with a flag, and for one that is not understood to its end.
fn is_plain(bytes: &[u8]) -> Option<()> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let version = word(4)?;
    if bytes.get(..4)? != b"DIRC" || !(2..=3).contains(&version) {
        return None;
    }
    let end = bytes.len().checked_sub(CHECKSUM)?;
    let mut at = HEADER;
    for _ in 0..word(8)? {
        let flags = half(at + STAT_AND_NAME)?;
        let mut name = at + STAT_AND_NAME + 2;
        if flags & ASSUME_VALID != 0 {
            return None;
        }
        if flags & EXTENDED != 0 {
            if version < 3 || half(name)? & SKIP_WORKTREE != 0 {
                return None;
            }
            name += 2;
        }
        let length = bytes.get(name..end)?.iter().position(|byte| *byte == 0)?;
        // One to eight zeros fill an entry up.
        at += (name + length - at) / 8 * 8 + 8;
    }
    while at < end {
        let signature = bytes.get(at..at + 4)?;
        if !HARMLESS.contains(&signature) {
            return None;
        }
        at = at.checked_add(8)?.checked_add(usize::try_from(word(at + 4)?).ok()?)?;
    }
    (at == end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn git(dir: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"];
        let mut command = Command::new("git");
        command.arg("-C").arg(dir).args(identity).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

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
        assert!(is_plain(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(is_plain(&bytes[..length]).is_none(), "{length}");
        }
        for place in 0..HEADER {
            let mut other = bytes.clone();
            other[place] ^= 0x40;
            assert!(is_plain(&other).is_none(), "{place}");
        }
    }
}
