//! Claims: a name in `live/` that is a second name of a run's journal. Making it is atomic and is the claim; it counts
//! against the provider's cap until the run has ended.

use crate::disk::{self, DiskError, DiskFile};
use crate::layout::StateDir;
use dx_protocol::{BeadsId, ProviderName};
use std::path::PathBuf;

/// A live entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub provider: ProviderName,
    pub beads: BeadsId,
    /// The claim's path; reading it reads the journal.
    pub path: PathBuf,
}

/// The short lock under which claims are counted and made. Dropped with the value.
#[derive(Debug)]
pub struct ClaimLock {
    _file: DiskFile,
}

impl ClaimLock {
    /// Waits for the lock; it is held for microseconds.
    pub fn take(state: &StateDir) -> Result<Self, DiskError> {
        let file = DiskFile::open_append_or_create(&state.claims_lock())?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

/// All claims, sorted; entries with impossible names are left out.
pub fn claims(state: &StateDir) -> Vec<Claim> {
    let Ok(entries) = std::fs::read_dir(state.live_dir()) else { return Vec::new() };
    let mut claims: Vec<Claim> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let (provider, beads) = name.to_str()?.split_once('.')?;
            Some(Claim { provider: provider.parse().ok()?, beads: beads.parse().ok()?, path: entry.path() })
        })
        .collect();
    claims.sort_by(|a, b| (&a.provider, &a.beads).cmp(&(&b.provider, &b.beads)));
    claims
}

/// Claims of one provider.
pub fn count(state: &StateDir, provider: &ProviderName) -> usize {
    claims(state).iter().filter(|c| c.provider == *provider).count()
}

/// Makes the claim of a journal durable once it is linked.
pub fn make(
    state: &StateDir,
    provider: &ProviderName,
    beads: &BeadsId,
    journal: &std::path::Path,
) -> Result<(), DiskError> {
    disk::link(journal, &state.live(provider, beads))
}

/// Drops a claim.
pub fn release(state: &StateDir, provider: &ProviderName, beads: &BeadsId) -> Result<(), DiskError> {
    disk::remove(&state.live(provider, beads))
}
