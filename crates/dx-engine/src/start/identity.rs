//! How a new run is called: its uuid, the job's id, and which provider had that id before.
//!
//! Called by `start`, `restart` and dry runs. Must never: claim anything; an id that is free here may be taken a moment
//! later.

use crate::api::{JobName, StartRequest};
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::prompt::sha256_hex;
use dx_jobdir::StateDir;
use dx_proc::clock;
use dx_protocol::{BeadsId, ProviderName, RunUuid, Timestamp};

/// UUIDv7: sortable by start.
pub(super) fn new_uuid() -> Result<RunUuid, EngineError> {
    Ok(uuid::Uuid::now_v7().to_string().parse()?)
}

/// The job's id. One that was not given follows from the idempotency key, where there is one, so that the key finds its
/// run again.
pub(super) fn id_of(state: &StateDir, request: &StartRequest) -> Result<BeadsId, EngineError> {
    match (&request.beads, &request.idempotency_key) {
        (Some(beads), _) => Ok(beads.clone()),
        (None, Some(key)) => Ok(format!("job-{}", &sha256_hex(key.as_bytes())[..16]).parse()?),
        (None, None) => readable_id(state, &request.provider),
    }
}

/// An id for people who have none: `job-<date>-<n>`, the first that is free.
fn readable_id(state: &StateDir, provider: &ProviderName) -> Result<BeadsId, EngineError> {
    let stem = format!("job-{}", &Timestamp(clock::now_ms()).compact()[..12]);
    let known = lookup::known(state);
    let taken =
        |id: &BeadsId| state.live(provider, id).exists() || known.iter().any(|(_, beads)| beads == id);
    let mut n = 1;
    loop {
        let id: BeadsId = format!("{stem}-{n}").parse()?;
        if !taken(&id) {
            return Ok(id);
        }
        n += 1;
    }
}

/// The provider under which this id ran last, when it was another one.
pub(super) fn switched_from(state: &StateDir, beads: &BeadsId, provider: &ProviderName) -> String {
    let name = match lookup::newest_known(state, &JobName { beads: beads.clone(), provider: None }) {
        Ok(Some(Record::Ours(found))) => found.run.created.ids.provider.clone(),
        Ok(Some(Record::Foreign(foreign))) => foreign.provider,
        Ok(None) | Err(_) => return "-".to_owned(),
    };
    if name == *provider { "-".to_owned() } else { name.to_string() }
}
