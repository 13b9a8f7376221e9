//! The JSON Schemas of everything that is published, by name.
//!
//! Called by: `schema` and `reference`. Must never: describe a type by hand; the types are the source.

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A document's name and how its schema is made.
pub(crate) type Entry = (&'static str, fn() -> Schema);

/// All documents, in the order of the names.
pub(crate) const ALL: &[Entry] = &[
    ("action", of::<dx_protocol::ActionDocument>),
    ("actions", of::<dx_protocol::ActionsDocument>),
    ("apply", of::<dx_protocol::ApplyDocument>),
    ("batch", of::<dx_protocol::BatchDocument>),
    ("batches", of::<crate::commands::batch::BatchesDocument>),
    ("bench", of::<dx_protocol::BenchDocument>),
    ("bench-compare", of::<dx_protocol::BenchCompareDocument>),
    ("bench-manifest", of::<dx_protocol::BenchManifest>),
    ("bench-progress", of::<dx_protocol::BenchProgress>),
    ("bench-progressive", of::<dx_protocol::BenchProgressiveDocument>),
    ("bench-record", of::<dx_protocol::BenchRecord>),
    ("bench-summary", of::<dx_protocol::BenchSummary>),
    ("bundle", of::<dx_protocol::BundleDocument>),
    ("check", of::<dx_protocol::CheckDocument>),
    ("config", of::<dx_protocol::ConfigDocument>),
    ("config-explain", of::<dx_protocol::ConfigExplainDocument>),
    ("config-path", of::<dx_protocol::ConfigPathDocument>),
    ("demo", of::<crate::demo::report::DemoDocument<'static>>),
    ("diff", of::<dx_protocol::DiffDocument>),
    ("dispatch", of::<dx_protocol::DispatchDocument>),
    ("doctor", of::<dx_protocol::DoctorDocument>),
    ("dry-run", of::<dx_protocol::DryRunDocument>),
    ("error", of::<dx_protocol::ErrorDocument>),
    ("event", of::<dx_protocol::EventLine>),
    ("exit-codes", of::<dx_protocol::ExitCodesDocument>),
    ("gate", of::<dx_protocol::GateDocument>),
    ("gc", of::<dx_protocol::GcDocument>),
    ("history", of::<dx_protocol::HistoryLine>),
    ("history-query", of::<dx_protocol::HistoryQueryDocument>),
    ("hook", of::<dx_protocol::HookDocument>),
    ("install", of::<crate::clients::InstallDocument>),
    ("job-notice", of::<dx_protocol::JobNotice>),
    ("journal", of::<dx_protocol::Record>),
    ("mcp-call", of::<crate::mcp::CallDocument>),
    ("models", of::<dx_protocol::ModelsDocument>),
    ("obs", of::<dx_protocol::Sample>),
    ("outcome", of::<dx_protocol::Outcome>),
    ("pack-backup", of::<dx_protocol::PackBackup>),
    ("pack-manifest", of::<dx_protocol::PackManifest>),
    ("preflight", of::<dx_protocol::PreflightDocument>),
    ("probe-attach", of::<dx_protocol::ProbeAttachDocument>),
    ("profiles", of::<dx_protocol::ProfilesDocument>),
    ("providers", of::<dx_protocol::ProvidersDocument>),
    ("prune", of::<dx_protocol::PruneDocument>),
    ("report", of::<dx_protocol::ReportDocument>),
    ("report-all", of::<dx_protocol::ReportAllDocument>),
    ("routes", of::<dx_protocol::RoutesDocument>),
    ("salvage", of::<dx_protocol::SalvageDocument>),
    ("schemas", of::<crate::commands::schema::SchemasDocument>),
    ("server", of::<dx_protocol::ServerDocument>),
    ("status", of::<dx_protocol::StatusDocument>),
    ("task", of::<dx_protocol::TaskDocument>),
    ("task-check", of::<dx_protocol::TaskCheckDocument>),
    ("task-state", of::<dx_protocol::TaskState>),
    ("tasks", of::<dx_protocol::TasksDocument>),
    ("watchdog", of::<dx_protocol::WatchdogDocument>),
    ("wave", of::<dx_protocol::WaveDocument>),
    ("wave-journal", of::<dx_protocol::WaveRecord>),
    ("wave-notice", of::<dx_protocol::WaveNotice>),
    ("wave-plan", of::<dx_protocol::WavePlanDocument>),
    ("waves", of::<dx_protocol::WavesDocument>),
    ("workflow", of::<dx_protocol::WorkflowDocument>),
    ("workflow-check", of::<dx_protocol::WorkflowCheckDocument>),
    ("workflow-diff", of::<dx_protocol::WorkflowDiffDocument>),
    ("workflow-models", of::<dx_protocol::WorkflowModelsDocument>),
    ("worktree", of::<dx_protocol::WorktreeDocument>),
    ("worktree-removed", of::<dx_protocol::WorktreeRemovedDocument>),
    ("worktrees", of::<dx_protocol::WorktreesDocument>),
];

fn of<T: JsonSchema>() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ascend_and_schemas_say_something() {
        assert!(ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, make) in ALL {
            let schema = make().to_value();
            assert!(schema["title"].is_string(), "{name}");
        }
    }
}
