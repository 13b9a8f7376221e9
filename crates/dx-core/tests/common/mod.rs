//! Records of one run, made by hand: what the tests of fold and outcome have in common.
//!
//! Must never: decide anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_protocol::{
    Contract, Created, Event, Exit, ExitRecord, Gates, Grammar, Identity, JobSpec, Lane, Limits, OutputRules,
    ProviderReport, ProviderVerdict, Record, RunIds, Sandbox, SandboxSpec, Timestamp, Usage, Witness, Writer,
};

pub(crate) fn identity(pid: i32) -> Identity {
    Identity { host: "h".into(), boot_id: "b".into(), pid_ns: 1, pid, start_ticks: 7 }
}

pub(crate) fn created() -> Created {
    Created {
        schema: dx_protocol::JOURNAL_SCHEMA.into(),
        version: 1,
        program: "0".into(),
        ids: RunIds {
            beads: "bd-1".parse().unwrap(),
            provider: "opencode".parse().unwrap(),
            run_id: "20260101000000".into(),
            run_instance: "20260101000000-opencode-1".into(),
            run_uuid: "019aa3c0-0000-7000-8000-000000000000".parse().unwrap(),
        },
        starter: identity(1),
        cwd: "/w".into(),
        retries: 0,
        provider_switch_from: "-".into(),
        spec: JobSpec {
            notify: None,
            worktree: "/w".into(),
            repo: "-".into(),
            prompt_file: "-".into(),
            model: None,
            allow_model_override: false,
            agent: None,
            command_masked: false,
            command: vec![],
            env_names: vec![],
            env_values: vec![],
            server: None,
            lane: Lane::Run,
            pty: false,
            limits: Limits::default(),
            idempotency_key: None,
            nesting: false,
            gates: Gates::default(),
            sandbox: SandboxSpec::default(),
            profile: None,
        },
        contract: Contract {
            argv: vec!["opencode".into()],
            cwd: "/w".into(),
            env_names: vec![],
            grammar: Grammar::Opencode,
            output_rules: OutputRules::default(),
            selected_model: "a/b".into(),
            fallback_reason: "none".into(),
            auth_source: "-".into(),
            base_url: "-".into(),
            execution_mode: "detached".into(),
            prompt_sha256: String::new(),
            prompt_bytes: 0,
            prompt_channel: "stdin".into(),
            umask: None,
            sandbox: Sandbox::default(),
        },
        tree: None,
        queued_ms: None,
    }
}

pub(crate) fn record(n: u64, event: Event) -> Record {
    Record { at: Timestamp(1_000_000 + n as i64 * 1000), mono_ms: 1000 * n, by: Writer::Monitor, event }
}

pub(crate) fn exit(code: i32, n: u64) -> ExitRecord {
    let at = Timestamp(1_000_000 + n as i64 * 1000);
    ExitRecord { exit: Exit::Code(code), witness: Witness::Launcher, at, mono_ms: 1000 * n, cpu_ms: 0 }
}

pub(crate) fn report(verdict: ProviderVerdict) -> ProviderReport {
    ProviderReport {
        strays: 0,
        strays_left: 0,
        verdict,
        usage: Usage::default(),
        tools: std::collections::BTreeMap::default(),
        session: None,
        writes_refused: Vec::new(),
        trouble: None,
    }
}
