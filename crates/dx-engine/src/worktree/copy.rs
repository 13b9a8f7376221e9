//! Copying what `[worktree] copy` lists from the main checkout into a new worktree.
//!
//! What is checked out on either side may be an agent's or a stranger's, links included. No link is followed on the way to
//! where a copy goes. What is copied lies in the main checkout itself: a link to a place outside, such as a store of keys,
//! is refused, as the copy would be readable for the agent.

use super::made::Copied;
use super::project::plain;
use crate::error::EngineError;
use crate::git::{Call, Repository};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
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
    let checkout = &checkout
        .canonicalize()
        .map_err(|source| EngineError::CopyFailed { path: checkout.to_owned(), source })?;
    let mut files = Vec::new();
    for path in paths.iter().filter_map(|path| plain(path)) {
        match std::fs::metadata(checkout.join(&path)) {
            Ok(_) => list(checkout, Source { from: inside(checkout, &path)?, path }, &mut files, remarks),
            Err(_) => remarks.push(format!(
                "{} is not in {} and was not copied",
                path.display(),
                checkout.display()
            )),
        }
    }
    let tracked = tracked(worktree, paths)?;
    let mut copied = Vec::new();
    for Source { path, from } in files {
        let text = super::utf8(&path)?;
        if tracked.contains(text.as_bytes()) {
            remarks.push(format!("{text} is in the commit and was not copied"));
            continue;
        }
        let sha256 = one(checkout, &from, &worktree.work_tree, &path)
            .map_err(|source| EngineError::CopyFailed { path: path.clone(), source })?;
        copied.push(Copied { path: text.to_owned(), sha256 });
    }
    Ok(copied)
}

/// A file to be copied.
struct Source {
    /// As it is named, and where it goes.
    path: PathBuf,
    /// The same without links, below the checkout.
    from: PathBuf,
}

/// Where a named path really is, below the checkout. A link may lead to another part of it, but for git's own.
fn inside(checkout: &Path, path: &Path) -> Result<PathBuf, EngineError> {
    let to = checkout
        .join(path)
        .canonicalize()
        .map_err(|source| EngineError::CopyFailed { path: path.to_owned(), source })?;
    let below = to.strip_prefix(checkout).ok().and_then(Path::to_str).and_then(plain);
    below.ok_or_else(|| EngineError::CopyLeaves { path: path.to_owned(), to })
}

/// All regular files at or below a path. Below what is named no link is followed.
fn list(checkout: &Path, source: Source, files: &mut Vec<Source>, remarks: &mut Vec<String>) {
    let full = checkout.join(&source.from);
    let path = &source.path;
    match std::fs::symlink_metadata(&full) {
        Ok(meta) if meta.is_file() => files.push(source),
        Ok(meta) if meta.is_dir() => {
            let mut names: Vec<_> =
                std::fs::read_dir(&full).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
            names.sort();
            for name in &names {
                let entry = Source { path: path.join(name), from: source.from.join(name) };
                if std::fs::symlink_metadata(full.join(name)).is_ok_and(|meta| meta.is_symlink()) {
                    remarks.push(format!("{} is a link and was not copied", entry.path.display()));
                } else {
                    list(checkout, entry, files, remarks);
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

fn one(checkout: &Path, from: &Path, worktree: &Path, path: &Path) -> io::Result<String> {
    // Somebody may have put a link in its place since it was looked at.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let top = rustix::fs::open(checkout, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let from = File::from(rustix::fs::openat2(&top, from, flags, Mode::empty(), below)?);
    let meta = from.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    let mode = meta.permissions().mode() & 0o777;
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
