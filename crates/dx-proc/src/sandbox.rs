//! A Landlock domain for an agent: what it may write, what it may not read, whom it may signal.
//!
//! The launcher builds the [`Domain`] before it forks the agent; the child enters it between fork and exec, where only
//! system calls are allowed. Must never restrict monitor or launcher, and never leave out quietly what was asked for: a
//! domain is what its rules say, or an error. Paths are taken as they are, without following links: the caller resolves
//! them, and an agent that put a link in their place since then gains nothing.
//!
//! Constants and structures are those of `linux/landlock.h`, which is a stable interface.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, ResolveFlags};

use crate::error::{Error, Result};

const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
/// Linking and renaming between folders. Without it the kernel refuses both.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// Nobody may make a device: the file system's permissions are all that guards it afterwards.
const MAKE_DEVICE: u64 = MAKE_CHAR | MAKE_BLOCK;
const MAKE: u64 = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM;
const CHANGE: u64 = WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE | REFER;
/// What a rule for something else than a folder may grant.
const OF_FILES: u64 = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;

const CREATE_RULESET_VERSION: u32 = 1 << 0;
const RULE_PATH_BENEATH: i32 = 1;

/// Room for the entries of one read of a folder.
const ENTRIES: usize = 8 << 10;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: RawFd,
}

/// What the running kernel's Landlock can do: its ABI version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Abi(pub u32);

impl Abi {
    /// Asks the kernel. Fails with [`Error::AskLandlock`]: `ENOSYS` when it was built without Landlock (or a filter
    /// refuses the call), `EOPNOTSUPP` when Landlock is off since boot.
    pub fn of_kernel() -> Result<Self> {
        // SAFETY: no structure is passed; the call only returns a number.
        let version = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                std::ptr::null::<RulesetAttr>(),
                0_usize,
                CREATE_RULESET_VERSION,
            )
        };
        match u32::try_from(version) {
            Ok(version) if version > 0 => Ok(Self(version)),
            _ => Err(Error::AskLandlock { source: io::Error::last_os_error() }),
        }
    }

    /// Whether renames and links between two writable folders are possible at all.
    pub fn has_refer(self) -> bool {
        self.0 >= 2
    }

    /// Whether cutting a file is refused where writing is. Before, `truncate` works everywhere.
    pub fn has_truncate(self) -> bool {
        self.0 >= 3
    }

    /// Whether control of devices is refused.
    pub fn has_ioctl(self) -> bool {
        self.0 >= 5
    }

    /// Whether signals to, and abstract sockets of, processes outside are refused.
    pub fn has_scopes(self) -> bool {
        self.0 >= 6
    }

    fn handled(self, reads: bool) -> u64 {
        let mut rights = CHANGE | MAKE_DEVICE | IOCTL_DEV;
        if reads {
            rights |= READ_FILE;
        }
        for (has, right) in
            [(self.has_refer(), REFER), (self.has_truncate(), TRUNCATE), (self.has_ioctl(), IOCTL_DEV)]
        {
            if !has {
                rights &= !right;
            }
        }
        rights
    }
}

/// Devices that every program may want, for [`Rules::devices`] once they are resolved.
pub const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts"];

/// What an agent may do. Everything is resolved: a path with a symbolic link in it grants nothing, and so does one that
/// does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Folders (or files) below which everything may be made, changed and removed.
    pub trees: Vec<PathBuf>,
    /// Devices, and folders of them: opened for writing and controlled.
    pub devices: Vec<PathBuf>,
    /// Files that may be written, and neither cut nor removed.
    pub appended: Vec<PathBuf>,
    /// Files and folders that may not be read. Landlock only knows what is allowed, so everything else that is there now
    /// is allowed instead: an entry that is made later beside one of these, or beside a folder on the way to it, cannot be
    /// read either. Names stay visible.
    pub hidden: Vec<PathBuf>,
}

/// A domain, ready to be entered by a child.
#[derive(Debug)]
pub struct Domain {
    ruleset: OwnedFd,
    handled: u64,
}

impl Domain {
    /// Builds a domain. Costs a few microseconds for each rule, and for each entry of a folder on the way to what is
    /// hidden.
    ///
    /// Fails with [`Error::AskLandlock`], or with [`Error::MakeDomain`] when the kernel refuses a rule.
    pub fn new(rules: &Rules) -> Result<Self> {
        let abi = Abi::of_kernel()?;
        let hidden: Vec<&Path> =
            rules.hidden.iter().map(PathBuf::as_path).filter(|path| path.is_absolute()).collect();
        let handled = abi.handled(!hidden.is_empty());
        let scoped = if abi.has_scopes() { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
        let attr = RulesetAttr { handled_access_fs: handled, handled_access_net: 0, scoped };
        // SAFETY: `attr` is valid for reads of the size given; the kernel takes zeros in fields it does not know.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attr,
                std::mem::size_of::<RulesetAttr>(),
                0_u32,
            )
        };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(|| failed("/", &io::Error::last_os_error()))?;
        // SAFETY: a descriptor that the kernel has just made for us. It is close-on-exec.
        let domain = Self { ruleset: unsafe { OwnedFd::from_raw_fd(fd) }, handled };
        let groups = [
            (&rules.trees, CHANGE | READ_FILE),
            (&rules.devices, WRITE_FILE | READ_FILE | IOCTL_DEV),
            (&rules.appended, WRITE_FILE | READ_FILE),
        ];
        for (paths, rights) in groups {
            for path in paths {
                match open(CWD, path.as_path()) {
                    Ok(fd) => {
                        domain.allow(fd.as_fd(), None, rights).map_err(|source| failed(path, &source))?;
                    }
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {}
                    Err(errno) => return Err(failed(path, &errno.into())),
                }
            }
        }
        if !hidden.is_empty() {
            domain.reveal_beside(Path::new("/"), &hidden)?;
        }
        Ok(domain)
    }

    /// Allows to read everything in `folder` but what is `hidden`; `folder` lies on the way to some of it.
    fn reveal_beside(&self, folder: &Path, hidden: &[&Path]) -> Result<()> {
        let failed = |source: rustix::io::Errno| failed(folder, &source.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => fd,
            // What cannot be listed or is gone hides itself.
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                return Ok(());
            }
            Err(errno) => return Err(failed(errno)),
        };
        let mut room = [MaybeUninit::<u8>::uninit(); ENTRIES];
        let mut entries = RawDir::new(&fd, &mut room);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            // A link is judged by where it leads.
            let kind = entry.file_type();
            if matches!(name, b"." | b"..") || kind == FileType::Symlink {
                continue;
            }
            let path = folder.join(std::ffi::OsStr::from_bytes(name));
            if hidden.contains(&path.as_path()) {
                continue;
            }
            if hidden.iter().any(|other| other.starts_with(&path)) {
                self.reveal_beside(&path, hidden)?;
                continue;
            }
            // Gone again, or another user's mount: not ours to read.
            let Ok(entry) = open(fd.as_fd(), entry.file_name()) else { continue };
            // Not all file systems tell the kind.
            let kind = Some(kind).filter(|kind| *kind != FileType::Unknown);
            self.allow(entry.as_fd(), kind, READ_FILE).map_err(|source| self::failed(&path, &source))?;
        }
        Ok(())
    }

    /// Adds a rule for what is open. The `kind` is asked for when it is not known.
    fn allow(&self, fd: BorrowedFd<'_>, kind: Option<FileType>, rights: u64) -> io::Result<()> {
        let mut rights = rights & self.handled;
        let kind = match kind {
            Some(kind) => kind,
            None => FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode),
        };
        if kind != FileType::Directory {
            rights &= OF_FILES;
        }
        // The kernel refuses rules for nothing, and needs none for links.
        if rights == 0 || kind == FileType::Symlink {
            return Ok(());
        }
        let attr = PathBeneathAttr { allowed_access: rights, parent_fd: fd.as_raw_fd() };
        // SAFETY: `attr` is valid for reads and names an open descriptor; the kernel keeps no pointer.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const attr,
                0_u32,
            )
        };
        if result == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // Files that the kernel made for itself (pipes, namespaces) are in nobody's way.
            error if error.raw_os_error() == Some(libc::EBADFD) => Ok(()),
            error => Err(error),
        }
    }
}

impl AsFd for Domain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ruleset.as_fd()
    }
}

/// Opens a place for a rule, through no link.
fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

fn failed(path: impl AsRef<Path>, source: &io::Error) -> Error {
    let errno = source.raw_os_error().unwrap_or(libc::EIO);
    Error::MakeDomain { path: path.as_ref().to_owned(), source: io::Error::from_raw_os_error(errno) }
}

/// Enters the domain, for good, with all later children. For the child between fork and exec: only system calls. Gives
/// the errno of a failure.
pub(crate) fn enter(domain: RawFd) -> std::result::Result<(), i32> {
    // SAFETY: plain integers. No program that is run from here on gains rights; the kernel demands it for what follows.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(errno());
    }
    // SAFETY: plain integers.
    if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, domain, 0_u32) } != 0 {
        return Err(errno());
    }
    Ok(())
}

fn errno() -> i32 {
    // SAFETY: the C library's errno of this thread is always readable.
    unsafe { *libc::__errno_location() }
}
