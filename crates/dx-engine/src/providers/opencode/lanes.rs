//! The lanes that need a server: what is started for a job, and which models and agents the server has.
//!
//! Must never: put the server's password on a command line.

use super::super::models::Choice;
use super::super::{Resolved, Wish};
use super::agent;
use crate::error::EngineError;
use crate::lanes::{LaneServer, PASSWORD, SESSION};
use crate::settle::Programs;
use dx_opencode::PATIENCE;
use dx_protocol::{Grammar, Lane};
use std::ffi::OsString;
use std::path::PathBuf;

/// Models of connected providers, as `provider/model`.
pub(super) fn models(server: &LaneServer) -> Result<Vec<String>, EngineError> {
    let offered = server.client.providers(PATIENCE)?;
    let connected = offered.all.iter().filter(|entry| offered.connected.contains(&entry.id));
    Ok(connected.flat_map(|entry| entry.models.keys().map(move |m| format!("{}/{m}", entry.id))).collect())
}

pub(super) fn resolve(
    wish: &Wish<'_>,
    server: &LaneServer,
    binary: PathBuf,
    choice: Choice,
) -> Result<Resolved, EngineError> {
    if let Some(name) = wish.agent {
        let agents = server.client.agents(PATIENCE)?;
        let listed: Vec<String> = agents.iter().map(|a| format!("{} ({})", a.name, a.mode)).collect();
        agent::check(name, &listed)?;
    }
    let url = server.client.url();
    let worktree = wish.worktree.as_os_str().to_owned();
    let mut argv: Vec<OsString> = Vec::new();
    if server.lane == Lane::Attach {
        argv.push(binary.into());
        argv.extend(
            ["run", "--attach", url, "--format", "json", "--title", &server.title].map(OsString::from),
        );
        // Without it the job would work where the server does.
        argv.extend(["--dir".into(), worktree, "--model".into(), OsString::from(&choice.model)]);
        argv.extend(wish.agent.iter().flat_map(|name| ["--agent".into(), OsString::from(name)]));
    } else {
        argv.extend([Programs::find()?.runner.into(), SESSION.into(), url.into(), worktree]);
        argv.extend([&choice.model, &server.title, wish.agent.unwrap_or("-")].map(OsString::from));
    }
    let mut env = super::headless();
    env.extend(server.password.clone().map(|password| (PASSWORD, password)));
    Ok(Resolved {
        argv,
        env,
        grammar: Grammar::Opencode,
        prompt_on_stdin: true,
        prompt_channel: "stdin",
        selected_model: choice.model,
        fallback_reason: choice.fallback_reason,
        auth_source: "the OpenCode server's".to_owned(),
        base_url: url.to_owned(),
        state: super::state(wish),
        adapter: false,
    })
}
