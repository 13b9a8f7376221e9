//! `models`: what a server has to offer.
//!
//! Must never: show a provider's options, which hold keys.

use crate::Engine;
use crate::error::EngineError;
use dx_opencode::{Client, PATIENCE, Providers};
use dx_protocol::{ModelProviderRow, ModelRow, ModelsDocument, ReasonCode};
use std::path::Path;

impl Engine {
    /// Connected providers and their models; of one provider also when it is not connected.
    pub fn models(
        &self,
        server: Option<&str>,
        directory: Option<&Path>,
        provider: Option<&str>,
    ) -> Result<ModelsDocument, EngineError> {
        let client = in_directory(self.find_server(server)?, directory)?;
        let offered = client.providers(PATIENCE)?;
        let shown: Vec<_> = offered
            .all
            .iter()
            .filter(|entry| {
                provider.map_or_else(|| is_connected(&offered, &entry.id), |name| name == entry.id)
            })
            .map(|entry| ModelProviderRow {
                id: entry.id.clone(),
                name: entry.name.clone(),
                connected: is_connected(&offered, &entry.id),
                models: entry
                    .models
                    .iter()
                    .map(|(id, model)| ModelRow { id: id.clone(), name: model.name.clone() })
                    .collect(),
            })
            .collect();
        if let Some(name) = provider.filter(|_| shown.is_empty()) {
            let known: Vec<&str> = offered.all.iter().map(|entry| entry.id.as_str()).collect();
            return Err(EngineError::Provider {
                reason: ReasonCode::ProviderNotConnected,
                message: format!("the server knows no model provider `{name}`"),
                next_action: Some(format!("one of {}", known.join(", "))),
            });
        }
        Ok(ModelsDocument {
            schema: "dx-runner/models/1".to_owned(),
            url: client.url().to_owned(),
            providers: shown,
        })
    }
}

/// Whether a provider has what it needs.
pub(crate) fn is_connected(offered: &Providers, id: &str) -> bool {
    offered.connected.iter().any(|connected| connected == id)
}

/// The server for a folder of this machine; it must exist.
pub(crate) fn in_directory(client: Client, directory: Option<&Path>) -> Result<Client, EngineError> {
    let Some(directory) = directory else { return Ok(client) };
    let real = directory.canonicalize().ok().filter(|path| path.is_dir());
    let real = real.ok_or_else(|| EngineError::WorktreeMissing(directory.to_owned()))?;
    let text = real.to_str().ok_or_else(|| EngineError::PathNotUtf8(real.clone()))?;
    Ok(client.in_directory(text))
}
