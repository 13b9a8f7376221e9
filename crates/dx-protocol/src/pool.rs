//! What has one limit at a provider. Must never hold anything but names.

use crate::{Created, ProviderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaPool {
    pub provider: ProviderName,
    /// Where the credentials come from, by name.
    pub account: String,
    pub model: String,
}

impl QuotaPool {
    /// The one that a run uses.
    pub fn of(created: &Created) -> Self {
        Self {
            provider: created.ids.provider.clone(),
            account: created.contract.auth_source.clone(),
            model: created.contract.selected_model.clone(),
        }
    }
}
