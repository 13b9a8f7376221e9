//! The secret values of one job on their way from process to process of ours: by a pipe with the launch plan, by fork, and
//! by a file in memory to what is executed later. Never on a command line, in an environment of ours, or on disk.

use dx_events::mask::Secrets;
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// More than all values of a job.
const MOST_BYTES: u64 = 4 << 20;

/// The values, and what they are looked for with.
#[derive(Clone, Default)]
pub struct SecretValues {
    values: Vec<Vec<u8>>,
    ready: Arc<Secrets>,
}

impl SecretValues {
    pub fn new(values: Vec<Vec<u8>>) -> Self {
        let ready = Arc::new(Secrets::new(&values));
        Self { values, ready }
    }

    /// Takes over what another process of ours wrote with [`Self::to_fd`]. What cannot be read counts as none: the shapes
    /// of tokens are masked in any case.
    pub fn from_fd(fd: OwnedFd) -> Self {
        let file = File::from(fd);
        let len = file.metadata().map_or(0, |m| m.len()).min(MOST_BYTES);
        let mut text = vec![0; len as usize];
        let values = file.read_exact_at(&mut text, 0).ok().and_then(|()| serde_json::from_slice(&text).ok());
        Self::new(values.unwrap_or_default())
    }

    /// The values in a sealed file that lives in memory alone. `None` when there are none, or none could be made.
    pub fn to_fd(&self) -> Option<OwnedFd> {
        if self.values.is_empty() {
            return None;
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("dx-secrets", flags).ok()?);
        file.write_all(&serde_json::to_vec(&self.values).ok()?).ok()?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK).ok()?;
        Some(file.into())
    }

    /// The value that was given with this variable's name (`NAME=value`).
    pub fn named(&self, name: &str) -> Option<String> {
        let value = |entry: &Vec<u8>| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(value.to_vec()).ok()
        };
        self.values.iter().find_map(value)
    }

    /// What masks them.
    pub fn ready(&self) -> Arc<Secrets> {
        Arc::clone(&self.ready)
    }
}

impl std::fmt::Debug for SecretValues {
    /// Never prints a value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretValues").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass_through_a_file_that_nobody_can_change() {
        let values = SecretValues::new(vec![b"hunter-2-secret".to_vec(), b"\xff\0 \n\"bytes".to_vec()]);
        let fd = values.to_fd().unwrap();
        assert!(File::from(fd.try_clone().unwrap()).write_all(b"x").is_err());
        // The same file may be handed to several.
        for _ in 0..2 {
            let read = SecretValues::from_fd(fd.try_clone().unwrap());
            assert_eq!(read.values, values.values);
            assert_eq!(read.named("hunter-2"), None);
            assert_eq!(read.ready().mask_text("a hunter-2-secret"), "a ***************");
        }
        assert!(!format!("{values:?}").contains("hunter"));
        assert!(SecretValues::default().to_fd().is_none());
    }
}
