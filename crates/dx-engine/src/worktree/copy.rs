//! Copying what `[worktree] copy` lists from the main checkout into a new worktree.
//!
//! What is checked out there may be an agent's, links included: no link is followed on the way to where a copy goes.

use super::made::Copied;
use super::project::plain;
use crate::error::EngineError;
use crate::git::{Call, Repository};
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Hex SHA-256 of a regular file's content, which is copied when there is a place for it.
fn transfer(mut from: impl Read, mut to: Option<File>) -> io::Result<String> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&piece[..n]);
                if let Some(to) = &mut to {
                    to.write_all(&piece[..n])?;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        let _fits = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

/// Copies; tells what, and adds a remark for each path that was passed over.
pub(super) fn copy(
    paths: &[String],
    checkout: &Path,
    worktree: &Repository,
    remarks: &mut Vec<String>,
) -> Result<Vec<Copied>, EngineError> {
    let mut files = Vec::new();
    for path in paths.iter().filter_map(|path| plain(path)) {
        match std::fs::metadata(checkout.join(&path)) {
            Ok(_) => list(checkout, &path, &mut files, remarks),
            Err(_) => remarks.push(format!(
                "{} is not in {} and was not copied",
                path.display(),
                checkout.display()
            )),
        }
    }
    let tracked = tracked(worktree, paths)?;
    let mut copied = Vec::new();
    for path in files {
        let text = super::utf8(&path)?;
        if tracked.contains(text.as_bytes()) {
            remarks.push(format!("{text} is in the commit and was not copied"));
            continue;
        }
        let sha256 = one(checkout, &worktree.work_tree, &path)
            .map_err(|source| EngineError::CopyFailed { path: path.clone(), source })?;
        copied.push(Copied { path: text.to_owned(), sha256 });
    }
    Ok(copied)
}

/// All regular files at or below a path. What is named itself may be a link of the user's; below it none is followed.
fn list(checkout: &Path, path: &Path, files: &mut Vec<PathBuf>, remarks: &mut Vec<String>) {
    let full = checkout.join(path);
    match std::fs::metadata(&full) {
        Ok(meta) if meta.is_file() => files.push(path.to_owned()),
        Ok(meta) if meta.is_dir() => {
            let mut names: Vec<_> =
                std::fs::read_dir(&full).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
            names.sort();
            for name in names.iter().map(|name| path.join(name)) {
                if std::fs::symlink_metadata(checkout.join(&name)).is_ok_and(|meta| meta.is_symlink()) {
                    remarks.push(format!("{} is a link and was not copied", name.display()));
                } else {
                    list(checkout, &name, files, remarks);
                }
            }
        }
        _ => remarks.push(format!("{} is no file and was not copied", path.display())),
    }
}

/// What of these paths the commit has.
fn tracked(worktree: &Repository, paths: &[String]) -> Result<BTreeSet<Vec<u8>>, EngineError> {
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    let args = ["--literal-pathspecs", "ls-files", "-z", "--"];
    let args: Vec<&str> = args.into_iter().chain(paths.iter().map(String::as_str)).collect();
    let list = Call::new(worktree, &args).run()?;
    Ok(list.split(|b| *b == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
}

fn one(checkout: &Path, worktree: &Path, path: &Path) -> io::Result<String> {
    let from = File::open(checkout.join(path))?;
    let mode = from.metadata()?.permissions().mode() & 0o777;
    let folder = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut at: OwnedFd = rustix::fs::open(worktree, folder, Mode::empty())?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        match rustix::fs::mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = rustix::fs::openat(&at, part.as_os_str(), folder, Mode::empty())?;
    }
    let name = path.file_name().unwrap_or_default();
    // What an interrupted copy left, or a link: neither is written through.
    match rustix::fs::unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = File::from(rustix::fs::openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?);
    to.set_permissions(std::fs::Permissions::from_mode(mode))?;
    transfer(from, Some(to))
}

/// Whether a copied file is still what was copied; one that is gone has nothing to lose.
pub(super) fn is_unchanged(worktree: &Path, copied: &Copied) -> bool {
    let path = worktree.join(&copied.path);
    match dx_jobdir::open_regular(&path) {
        Ok(file) => transfer(file, None).is_ok_and(|hash| hash == copied.sha256),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}
