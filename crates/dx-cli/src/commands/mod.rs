//! The commands, one file each, and what runs them.
//!
//! Called by: `main`. Must never: decide anything about a job; that is the engine's.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod dispatch;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exit_codes;
pub(crate) mod finalize;
pub(crate) mod gates;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod hooks;
pub(crate) mod logs;
pub(crate) mod mcp;
pub(crate) mod models;
pub(crate) mod preflight;
pub(crate) mod probe;
pub(crate) mod probe_attach;
pub(crate) mod profiles;
pub(crate) mod providers;
pub(crate) mod prune;
pub(crate) mod reference;
pub(crate) mod report;
pub(crate) mod restart;
pub(crate) mod routes;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod skill;
pub(crate) mod start;
pub(crate) mod start_options;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod task;
pub(crate) mod wait;
pub(crate) mod watchdog;
pub(crate) mod wave;
pub(crate) mod workflow;
pub(crate) mod worktree;

use clap::{Parser, Subcommand};
use dx_protocol::ExitCode;
use std::ffi::OsString;

use crate::args::Cli;
use crate::context::Context;
use crate::error::CliError;
use crate::usage;

/// What to do. The options of a command are put together when it is the one that is called: there are many of them, and a
/// start has no millisecond to lose.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    Start(Box<start::StartArgs>),
    Run(Box<run::RunArgs>),
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    Wait(wait::WaitArgs),
    Logs(logs::LogsArgs),
    Events(events::EventsArgs),
    Stop(stop::StopArgs),
    Restart(restart::RestartArgs),
    Finalize(finalize::FinalizeArgs),
    Diff(diff::DiffArgs),
    Apply(apply::ApplyArgs),
    Prune(prune::PruneArgs),
    Gc(gc::GcArgs),
    Report(report::ReportArgs),
    Bundle(bundle::BundleArgs),
    History(history::HistoryArgs),
    Worktree(worktree::WorktreeArgs),
    PermissionGate(gates::permission::PermissionArgs),
    BaselineGate(gates::baseline::BaselineArgs),
    IntegrityGate(gates::integrity::IntegrityArgs),
    FeatureKeyGate(gates::feature_key::FeatureKeyArgs),
    BeadsGate(gates::beads::BeadsArgs),
    EvidenceGate(gates::evidence::EvidenceArgs),
    ScopeGate(gates::scope::ScopeArgs),
    Dispatch(Box<dispatch::DispatchArgs>),
    Batch(Box<batch::BatchArgs>),
    Routes(routes::RoutesArgs),
    Server(server::ServerArgs),
    Models(models::ModelsArgs),
    ProbeAttach(probe_attach::ProbeAttachArgs),
    Mcp(mcp::McpArgs),
    Skill(skill::SkillArgs),
    Wave(wave::WaveArgs),
    Watchdog(watchdog::WatchdogArgs),
    Workflow(workflow::WorkflowArgs),
    Task(task::TaskArgs),
    Bench(bench::BenchArgs),
    Hooks(hooks::HooksArgs),
    Providers(providers::ProvidersArgs),
    Profiles(profiles::ProfilesArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Preflight(preflight::PreflightArgs),
    Probe(probe::ProbeArgs),
    Demo(demo::DemoArgs),
    Schema(schema::SchemaArgs),
    ExitCodes(exit_codes::ExitCodesArgs),
    Completions(completions::CompletionsArgs),
    #[command(name = "__reference", hide = true)]
    Reference(reference::ReferenceArgs),
}

/// Reads the command line, runs the command, shows its failure; the exit code is the caller's to use.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let whole = usage::with_all_commands(args, &error);
            return usage::report(args, &whole.unwrap_or(error));
        }
    };
    let ctx = Context::new(&cli.global);
    match run(&ctx, &cli.command) {
        Ok(code) => code,
        Err(error) => {
            let error = usage::with_help(args, error);
            ctx.out.error(&error);
            error.exit_code()
        }
    }
}

fn run(ctx: &Context, command: &Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Start(args) => start::run(ctx, args),
        Command::Run(args) => run::run(ctx, args),
        Command::Status(args) => status::run(ctx, args),
        Command::Check(args) => check::run(ctx, args),
        Command::Wait(args) => wait::run(ctx, args),
        Command::Logs(args) => logs::run(ctx, args),
        Command::Events(args) => events::run(ctx, args),
        Command::Stop(args) => stop::run(ctx, args),
        Command::Restart(args) => restart::run(ctx, args),
        Command::Finalize(args) => finalize::run(ctx, args),
        Command::Diff(args) => diff::run(ctx, args),
        Command::Apply(args) => apply::run(ctx, args),
        Command::Gc(args) => gc::run(ctx, args),
        Command::Prune(args) => prune::run(ctx, args),
        Command::Report(args) => report::run(ctx, args),
        Command::Bundle(args) => bundle::run(ctx, args),
        Command::History(args) => history::run(ctx, args),
        Command::Worktree(args) => worktree::run(ctx, args),
        Command::PermissionGate(args) => gates::permission::run(ctx, args),
        Command::BaselineGate(args) => gates::baseline::run(ctx, args),
        Command::IntegrityGate(args) => gates::integrity::run(ctx, args),
        Command::FeatureKeyGate(args) => gates::feature_key::run(ctx, args),
        Command::BeadsGate(args) => gates::beads::run(ctx, args),
        Command::EvidenceGate(args) => gates::evidence::run(ctx, args),
        Command::ScopeGate(args) => gates::scope::run(ctx, args),
        Command::Dispatch(args) => dispatch::run(ctx, args),
        Command::Batch(args) => batch::run(ctx, args),
        Command::Routes(args) => routes::run(ctx, args),
        Command::Models(args) => models::run(ctx, args),
        Command::Server(args) => server::run(ctx, args),
        Command::ProbeAttach(args) => probe_attach::run(ctx, args),
        Command::Mcp(args) => mcp::run(ctx, args),
        Command::Skill(args) => skill::run(ctx, args),
        Command::Bench(args) => bench::run(ctx, args),
        Command::Wave(args) => wave::run(ctx, args),
        Command::Watchdog(args) => watchdog::run(ctx, args),
        Command::Task(args) => task::run(ctx, args),
        Command::Workflow(args) => workflow::run(ctx, args),
        Command::Hooks(args) => hooks::run(ctx, args),
        Command::Providers(args) => providers::run(ctx, args),
        Command::Profiles(args) => profiles::run(ctx, args),
        Command::Config(args) => config::run(ctx, args),
        Command::Doctor(args) => doctor::run(ctx, args),
        Command::Preflight(args) => preflight::run(ctx, args),
        Command::Probe(args) => probe::run(ctx, args),
        Command::Demo(args) => demo::run(ctx, args),
        Command::Schema(args) => schema::run(ctx, args),
        Command::ExitCodes(args) => exit_codes::run(ctx, args),
        Command::Completions(args) => completions::run(ctx, args),
        Command::Reference(args) => reference::run(ctx, args),
    }
}
