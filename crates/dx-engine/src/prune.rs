//! `prune`: settle what nobody looks after, and clear away pid files that name nothing.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::settle::{Attended, attend};
use dx_jobdir::{ClaimLock, StateDir, claim, disk};
use dx_proc::Host;
use dx_protocol::{ProviderName, PruneDocument};
use std::io::Read;

/// A pid file is short.
const MAX_PID_BYTES: u64 = 32;

impl Engine {
    /// Settles runs whose processes are gone and removes invalid pid files; of one job when named.
    pub fn prune(&self, job: Option<&JobName>) -> Result<PruneDocument, EngineError> {
        let state = self.state()?;
        let host = Host::current()?;
        let mut document = PruneDocument {
            schema: "dx-runner/prune/1".to_owned(),
            checked: 0,
            pruned: 0,
            details: Vec::new(),
        };
        if let Some(job) = job {
            lookup::newest(&state, job)?;
        }
        let named = |provider: &ProviderName, beads: &dx_protocol::BeadsId| {
            job.is_none_or(|j| j.beads == *beads && j.provider.as_ref().is_none_or(|p| p == provider))
        };
        for claim in claim::claims(&state) {
            if !named(&claim.provider, &claim.beads) {
                continue;
            }
            document.checked += 1;
            let found = match lookup::read_run(&state, &claim.path, true) {
                Ok(found) => found,
                Err(error) => {
                    document.details.push(format!("{}.{}: {error}", claim.provider, claim.beads));
                    continue;
                }
            };
            let attended = match attend(&state, &host, &found) {
                Ok(attended) => attended,
                // The others are settled all the same.
                Err(error) => {
                    document.details.push(format!("{}: {error}", claim.beads));
                    continue;
                }
            };
            match attended {
                Attended::Settled(outcome) => {
                    document.pruned += 1;
                    document.details.push(format!(
                        "{}: settled as {} ({})",
                        claim.beads, outcome.state, outcome.reason_code
                    ));
                }
                Attended::Adopted => {
                    document.details.push(format!("{}: its agent lives; a new monitor has it", claim.beads));
                }
                Attended::Busy | Attended::Elsewhere => {}
            }
        }
        stale_pid_files(&state, &named, &mut document)?;
        Ok(document)
    }
}

/// Removes `.pid` and `.monitor.pid` files that hold no number, or stand beside no live claim.
fn stale_pid_files(
    state: &StateDir,
    named: &dyn Fn(&ProviderName, &dx_protocol::BeadsId) -> bool,
    document: &mut PruneDocument,
) -> Result<(), EngineError> {
    for provider in state.providers() {
        let Ok(entries) = std::fs::read_dir(state.provider_dir(&provider)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(id) = name.strip_suffix(".monitor.pid").or_else(|| name.strip_suffix(".pid")) else {
                continue;
            };
            let Ok(beads) = id.parse::<dx_protocol::BeadsId>() else { continue };
            // Under the lock no start can claim the job between the look and the removal.
            let _lock = ClaimLock::take(state)?;
            if !named(&provider, &beads) || state.live(&provider, &beads).exists() {
                continue;
            }
            document.checked += 1;
            let mut text = String::new();
            if let Ok(file) = dx_jobdir::open_regular(&entry.path()) {
                let _read = file.take(MAX_PID_BYTES).read_to_string(&mut text);
            }
            let pid: Option<i32> = text.trim().parse().ok().filter(|pid| *pid > 0);
            // Of ours nothing lives without a claim, whoever has the number now; of another program's we only know that.
            let ours = matches!(lookup::newest_under(state, &provider, &beads), Ok(Some(Record::Ours(_))));
            let somebody = !ours && pid.is_some_and(|pid| dx_proc::ProcessIdentity::of_pid(pid).is_ok());
            if !somebody {
                disk::remove(&entry.path())?;
                document.pruned += 1;
                document.details.push(format!("{name}: names no process of the job"));
            }
        }
    }
    Ok(())
}
