//! The command tree's root and the argument groups that several commands share.
//!
//! Called by: `commands` and `reference`. Must never: act; these are only shapes and how to read them.

use clap::{Args, Parser, ValueEnum};
use dx_protocol::{BeadsId, ProviderName};
use std::path::PathBuf;

use crate::commands::Command;
use dx_engine::JobName;

/// The program.
#[derive(Debug, Parser)]
#[command(
    name = "dx-runner",
    version,
    about = "Starts coding agents as governed, detached jobs and never loses how they ended",
    after_help = "Example:\n  dx-runner start --beads bd-1 --provider opencode --prompt-file task.md --worktree auto\n  dx-runner wait --beads bd-1\n\n`dx-runner exit-codes` explains exit codes; `dx-runner demo` shows the main job on a fresh machine.",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print JSON documents on one line each; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder of all records (or DX_RUNNER_STATE_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Read this configuration file in the place of your own
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Tell slow steps even when standard error is no terminal
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// No remarks and no progress, only data and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One job.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobArgs {
    /// The job's id
    #[arg(long, visible_alias = "id", value_name = "ID")]
    pub(crate) beads: BeadsId,
    /// The provider, when the id ran under several; otherwise the newest run counts
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: Option<ProviderName>,
}

impl JobArgs {
    /// The engine's word for it.
    pub(crate) fn name(&self) -> JobName {
        JobName { beads: self.beads.clone(), provider: self.provider.clone() }
    }
}

/// Names for several ids of perhaps one provider.
pub(crate) fn job_names(beads: &[BeadsId], provider: Option<&ProviderName>) -> Vec<JobName> {
    let mut names: Vec<JobName> = Vec::new();
    for id in beads {
        let name = JobName { beads: id.clone(), provider: provider.cloned() };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound_and_every_command_has_an_example() {
        let mut tree = Cli::command();
        tree.clone().debug_assert();
        // The options of a command are there when it was put together.
        tree.build();
        for command in tree.get_subcommands().filter(|c| !c.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("dx-runner"), "{} has no example", command.get_name());
            let shows = ["config", "profiles", "providers"].contains(&command.get_name());
            for below in command.get_subcommands().filter(|_| shows) {
                let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("dx-runner"), "{} {}", command.get_name(), below.get_name());
            }
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
