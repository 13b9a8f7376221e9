//! Starts from inside a job: refused, unless the record of that job allows them; and what only a person may do.
//!
//! Called by: `start`, `restart` and `task`. Must never: believe the environment more than a marker, or give a job more rights
//! than the one it is started in.

use crate::api::StartRequest;
use crate::error::EngineError;
use crate::lookup;
use dx_jobdir::StateDir;
use dx_monitor::{Invocation, MARKER};
use dx_proc::tree;
use dx_protocol::{Confinement, Created, SandboxMode};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The job in which this is called, when its record allows it to start jobs; `None` outside of jobs. The record counts and
/// not the environment, which is the agent's.
pub(super) fn nested_in(state: &StateDir) -> Result<Option<Created>, EngineError> {
    let Some(mark) = std::env::var_os(MARKER) else { return Ok(None) };
    let mark = mark.to_string_lossy().into_owned();
    let parent =
        mark.parse().ok().and_then(|uuid| lookup::read_run(state, &state.run(&uuid).journal(), false).ok());
    match parent {
        Some(parent) if parent.run.created.spec.nesting => Ok(Some(parent.run.created)),
        _ => Err(EngineError::Nested(mark)),
    }
}

/// A job in a job has at most its rights: the kernel confines it with its parent, and its record must say so.
pub(super) fn within(parent: Option<&Created>, request: &StartRequest) -> StartRequest {
    let Some(parent) = parent else { return request.clone() };
    let confined = parent.contract.sandbox.mode == Confinement::Strict;
    StartRequest {
        sandbox: if confined { Some(SandboxMode::Strict) } else { request.sandbox },
        allow_model_override: request.allow_model_override && parent.spec.allow_model_override,
        nesting: request.nesting && parent.spec.nesting,
        ..request.clone()
    }
}

/// Refuses in every job, for what no job may do.
pub(crate) fn refuse_nested() -> Result<(), EngineError> {
    std::env::var_os(MARKER)
        .map_or(Ok(()), |mark| Err(EngineError::Nested(mark.to_string_lossy().into_owned())))
}

/// Refuses in every job, whatever it made of its environment, for what only a person may say. All processes of a job, also those
/// that left their session and their parent, are below its launcher or its monitor, and the kernel tells so.
pub(crate) fn refuse_in_job() -> Result<(), EngineError> {
    refuse_nested()?;
    let job = tree::ancestors().into_iter().find_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0).skip(1);
        let args: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
        Invocation::parse(&args)
    });
    job.map_or(Ok(()), |job| Err(EngineError::Nested(job.run.to_string())))
}
