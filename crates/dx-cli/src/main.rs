//! The program `dx-runner`.
//!
//! For: people and programs on a command line, and the hidden entries by which dx-runner starts itself.
//! Called by: shells, scripts, orchestrating agents; as monitor and helper by `dx-engine` and `dx-monitor`.
//! Must never: do anything before the hidden entries have been looked for (a monitor forks, so there may be no thread
//! and no open file of ours), or end the process anywhere else than here.

mod args;
mod asking;
mod clients;
mod commands;
mod context;
mod demo;
mod duration;
mod error;
mod follow;
mod last_lines;
mod log_view;
mod mcp;
mod output;
mod page;
mod reference;
mod schemas;
mod status_table;
mod text;
mod transcript;
mod usage;
mod waiting;
mod wave_graph;
mod wave_view;

use dx_engine::helper_entry::{self, EVIDENCE, OBSERVE, SESSION_STATUS, SETTLE};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    dx_proc::signals::restore(&[rustix::process::Signal::CHILD.as_raw()]);
    let args: Vec<OsString> = std::env::args_os().collect();
    let rest = args.get(1..).unwrap_or_default();
    if let Some(invocation) = dx_monitor::Invocation::parse(rest) {
        return exit_code(dx_monitor::main(&invocation));
    }
    if let Some(code) = helper(rest).or_else(|| demo::agent::entry(rest)) {
        return exit_code(code);
    }
    ExitCode::from(commands::main(&args).code())
}

/// The helpers that a monitor starts, and the coordinator of a wave; `None` when the command line means something else.
fn helper(args: &[OsString]) -> Option<i32> {
    if let [entry, wave, state_dir, config] = args
        && entry == dx_engine::COORDINATE
    {
        let config = Some(Path::new(config)).filter(|config| *config != Path::new("-"));
        return Some(dx_engine::coordinate(wave.to_str()?, Path::new(state_dir), config));
    }
    if let [entry, rest @ ..] = args
        && entry == dx_engine::SESSION
    {
        return Some(dx_engine::session(rest));
    }
    if let [entry, rest @ ..] = args
        && entry == dx_engine::SHELL
    {
        return Some(dx_engine::shell(rest));
    }
    if let [entry, state_dir, config] = args
        && entry == dx_engine::BATCH
    {
        let config = Some(Path::new(config)).filter(|config| *config != Path::new("-"));
        return Some(commands::batch::detached(Path::new(state_dir), config));
    }
    if let [entry, state_dir, config] = args
        && entry == dx_engine::CLEANER
    {
        let config = Some(Path::new(config)).filter(|config| *config != Path::new("-"));
        return Some(commands::dispatch::clean(Path::new(state_dir), config));
    }
    if let [entry, files @ ..] = args
        && entry == EVIDENCE
    {
        return Some(helper_entry::evidence(&files.iter().map(Into::into).collect::<Vec<_>>()));
    }
    let [entry, run, state_dir] = args else { return None };
    let (run, state_dir) = (run.to_str()?, Path::new(state_dir));
    match entry.to_str()? {
        SETTLE => Some(helper_entry::settle(run, state_dir)),
        OBSERVE => Some(helper_entry::observe(run, state_dir)),
        SESSION_STATUS => Some(helper_entry::session_status(run, state_dir)),
        dx_engine::TELL => Some(dx_engine::tell(run, state_dir)),
        _ => None,
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
