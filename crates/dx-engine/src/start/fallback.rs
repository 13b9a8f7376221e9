//! The next provider when one cannot be started: what `fallback` of profile or configuration says.
//!
//! Called by: `start` and its dry run. A start that waits for its turn waits for the provider it named. Must never: try
//! another provider once an agent may have run.

use super::configure::Configured;
use super::prepare::Lineage;
use crate::Engine;
use crate::api::StartRequest;
use crate::error::EngineError;
use crate::lanes;
use dx_jobdir::StateDir;
use dx_protocol::ProviderName;

impl Engine {
    /// Configures the request and goes on with it; with the next provider when that one cannot be started.
    pub(super) fn with_fallback<T>(
        &self,
        state: &StateDir,
        request: &StartRequest,
        go: impl Fn(&StartRequest, Lineage) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let made_id = request.beads.is_none() && request.idempotency_key.is_none();
        let attempt = |request: &StartRequest, fallback_from: Option<String>| -> Result<_, EngineError> {
            let Configured { request, limits, settings, fallback } = self.configure(state, request)?;
            let lineage = Lineage { made_id, limits, settings, fallback_from, ..Lineage::default() };
            Ok((go(&request, lineage), fallback))
        };
        let (mut result, chain) = attempt(request, None)?;
        result = self.through_lanes(request, result, |other, why| attempt(other, Some(why))?.0);
        let mut tried = vec![request.provider.clone()];
        for next in chain {
            let Err(refused) = &result else { break };
            if !can_fall_back(refused) || tried.contains(&next) {
                continue;
            }
            let why = format!("{}: {}", tried.last().map_or("-", ProviderName::as_str), refused.reason());
            self.progress(&format!("{why}; trying {next}"));
            // What was said for the first provider alone is not said for this one.
            let other = StartRequest {
                provider: next.clone(),
                model: None,
                agent: None,
                lane: None,
                else_lanes: Vec::new(),
                server: None,
                ..request.clone()
            };
            let (retried, _) = attempt(&other, Some(why))?;
            if retried.is_ok() || retried.as_ref().is_err_and(|error| !can_fall_back(error)) {
                result = retried;
            }
            tried.push(next);
        }
        result
    }

    /// The next lanes of the request, while it is the lane that cannot be used.
    pub(super) fn through_lanes<T>(
        &self,
        request: &StartRequest,
        first: Result<T, EngineError>,
        attempt: impl Fn(&StartRequest, String) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (mut result, mut lane) = (first, request.lane.unwrap_or_default());
        for next in &request.else_lanes {
            let Some(reason) = result.as_ref().err().and_then(lanes::is_of_lane) else { break };
            let why = format!("lane {}: {reason}", lane.as_str());
            self.progress(&format!("{why}; trying lane {}", next.as_str()));
            lane = *next;
            let other = StartRequest { lane: Some(lane), else_lanes: Vec::new(), ..request.clone() };
            result = attempt(&other, why);
        }
        result
    }
}

/// Whether another provider may be able to do what this one cannot.
fn can_fall_back(error: &EngineError) -> bool {
    match error {
        EngineError::NoProvider { .. }
        | EngineError::CapExceeded { .. }
        | EngineError::QuotaParked { .. } => true,
        EngineError::Provider { reason, .. } => reason.allows_fallback(),
        _ => false,
    }
}
