//! Arguments of the tools about tasks.
//!
//! Must never: offer the approval of a plan, which is a person's.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::run::Run;
use super::{Arguments, Argv, Work};

/// A refusal comes in this time; what goes on gets a handle.
const REFUSAL_SECONDS: u64 = 2;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskNew {
    /// A few words; the folder is named after them.
    title: String,
}

impl Arguments for TaskNew {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["task", "new"]).word(self.title)?.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskList {}

impl Arguments for TaskList {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["task", "list"]).run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskShow {
    /// Its number or name.
    task: String,
}

impl Arguments for TaskShow {
    fn work(self) -> Result<Work, String> {
        Ok(Work::Run(Argv::new(&["task", "show"]).word(self.task)?.run()))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskCheck {
    /// Its number or name; all tasks when left out.
    task: Option<String>,
}

impl Arguments for TaskCheck {
    fn work(self) -> Result<Work, String> {
        let argv = Argv::new(&["task", "check"]);
        Ok(Work::Run(match self.task {
            Some(task) => argv.word(task)?.run(),
            None => argv.run(),
        }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskRun {
    /// Its number or name.
    task: String,
    /// Work in a git worktree of its own instead of here.
    #[serde(default)]
    own_worktree: bool,
    /// Begin anew after a run that ended without being done.
    #[serde(default)]
    again: bool,
}

impl Arguments for TaskRun {
    fn work(self) -> Result<Work, String> {
        let run = Argv::new(&["task", "run"])
            .opt("worktree", self.own_worktree.then_some("auto"))
            .flag("again", self.again)
            .word(self.task)?
            .run();
        Ok(Work::Run(Run { patience: Some(REFUSAL_SECONDS), ..run }))
    }
}
