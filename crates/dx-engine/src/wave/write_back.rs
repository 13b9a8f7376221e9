//! `wave run --write-back`: the issue of an item is in progress, closed, or blocked with the reason, as the item is.
//!
//! Called by the courier, one call of `bd` at a time. An issue whose item was never begun stays as it is. Must never: write to
//! an issue that is no item of the wave.

use crate::Engine;
use crate::beads::{Bd, Refusal};
use dx_protocol::{BeadsId, ItemState, WaveChange, WaveCreated, WaveNotice};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const IN_PROGRESS: &str = "in_progress";
const CLOSED: &str = "closed";
const BLOCKED: &str = "blocked";
const OPEN: &str = "open";

/// The issues of a wave's items.
pub(super) struct WriteBack {
    bd: Bd,
    wave_id: String,
    /// What was written last.
    written: BTreeMap<BeadsId, &'static str>,
}

impl WriteBack {
    pub(super) fn new(engine: &Engine, created: &WaveCreated) -> Result<Self, String> {
        let settings = engine.layers(None, None).map_err(|error| error.to_string())?;
        let bd = Bd::find(&settings, Path::new(&created.plan.repo)).map_err(|(_, why)| why)?;
        Ok(Self { bd, wave_id: created.wave_id.clone(), written: BTreeMap::new() })
    }

    /// The status that an issue is to get, when it has another one.
    fn wanted(&self, id: &BeadsId, state: ItemState) -> Option<&'static str> {
        let written = self.written.get(id).copied();
        let wanted = match state {
            ItemState::Pending | ItemState::Skipped => None,
            ItemState::Running | ItemState::Checking | ItemState::Reviewing | ItemState::Revision => {
                Some(IN_PROGRESS)
            }
            ItemState::Done => Some(CLOSED),
            ItemState::Failed | ItemState::Blocked => Some(BLOCKED),
            // Nobody works on it any more.
            ItemState::Cancelled => written.map(|_| OPEN),
        };
        wanted.filter(|wanted| written != Some(wanted))
    }

    pub(super) fn knows(&mut self, notice: &WaveNotice) {
        if let WaveChange::Item { id, state, .. } = &notice.change
            && let Some(status) = self.wanted(id, *state)
        {
            self.written.insert(id.clone(), status);
        }
    }

    /// One try.
    pub(super) fn tell(&mut self, notice: &WaveNotice) -> Result<(), String> {
        let WaveChange::Item { id, state, reason_code, message, .. } = &notice.change else { return Ok(()) };
        let Some(status) = self.wanted(id, *state) else { return Ok(()) };
        let reason = reason_code.map_or_else(String::new, |reason| format!(": {reason}"));
        let mut why = format!("dx-runner, wave {}: {state}{reason}", self.wave_id);
        if !message.is_empty() {
            why = format!("{why}: {message}");
        }
        self.write(id.as_str(), status, &crate::secrets::mask_text(&why))
            .map_err(|(_, error)| format!("{id} {status}: {error}"))?;
        self.written.insert(id.clone(), status);
        Ok(())
    }

    fn write(&self, id: &str, status: &str, why: &str) -> Result<(), Refusal> {
        let wrote = match status {
            CLOSED => self.bd.call(&["close", id, "--reason", why, "--json"]),
            _ => self.bd.call(&["update", id, "--status", status, "--json"]),
        };
        match wrote {
            // One that is closed twice is told as an error.
            Err(refusal) if self.status(id)?.as_deref() != Some(status) => return Err(refusal),
            _ => {}
        }
        if status == BLOCKED {
            self.bd.call(&["comments", "add", id, why, "--json"])?;
        }
        Ok(())
    }

    fn status(&self, id: &str) -> Result<Option<String>, Refusal> {
        let shown = self.bd.call(&["show", id, "--json"])?;
        let issue = shown.get(0).unwrap_or(&shown);
        Ok(issue.get("status").and_then(Value::as_str).map(str::to_owned))
    }
}
