//! What is seen while the jobs run: a table that is drawn over itself on a terminal, a line for each change elsewhere.
//!
//! Called by: `demo`. Must never: be wider than the terminal, or print anything when a document was asked for.

use dx_protocol::StatusRow;

use super::agent::Agent;
use super::tasks::TASKS;
use crate::context::Context;
use crate::error::CliError;
use crate::{output, text};

const HEAD: &str = "\
Three coding jobs at once. Each is a detached, supervised process in a git
worktree of its own. Only the model is not real: it follows a script.";
const MODEL: &str = "model  scripted, in this program on 127.0.0.1; nothing leaves this machine";

/// The picture so far.
pub(crate) struct View<'a> {
    ctx: &'a Context,
    /// Lines that the next picture is drawn over.
    drawn: usize,
    /// What was said last of each job, without a terminal.
    said: Vec<String>,
}

impl<'a> View<'a> {
    /// Nothing is drawn yet.
    pub(crate) fn new(ctx: &'a Context) -> Self {
        Self { ctx, drawn: 0, said: vec![String::new(); TASKS.len()] }
    }

    /// What this is.
    pub(crate) fn begin(&self) -> Result<(), CliError> {
        self.line(&format!("{HEAD}\n"))
    }

    /// Who does the work.
    pub(crate) fn agent(&self, agent: &Agent) -> Result<(), CliError> {
        self.line(&format!("agent  {}\n       {}\n{MODEL}\n", agent.name(), agent.remark()))
    }

    /// Shows the jobs as they are now.
    pub(crate) fn show(&mut self, rows: &[StatusRow]) -> Result<(), CliError> {
        if self.ctx.out.is_json() {
            return Ok(());
        }
        match output::terminal_size() {
            Some((columns, _)) => self.draw(rows, columns),
            None => self.say(rows),
        }
    }

    /// Each line clears what was right of it, so nothing flickers.
    fn draw(&mut self, rows: &[StatusRow], columns: usize) -> Result<(), CliError> {
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        let lines = table(rows, columns, self.ctx.out.has_colour());
        self.drawn = lines.len();
        self.ctx.out.bytes(format!("{up}\r{}\x1b[K\n", lines.join("\x1b[K\n")).as_bytes())
    }

    fn say(&mut self, rows: &[StatusRow]) -> Result<(), CliError> {
        for (row, said) in rows.iter().zip(&mut self.said) {
            let now = format!("{:<12} {} ({})", row.beads, row.state, row.reason_code);
            if now != *said {
                self.ctx.out.line(&now)?;
                *said = now;
            }
        }
        Ok(())
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        if self.ctx.out.is_json() { Ok(()) } else { self.ctx.out.line(text) }
    }
}

/// Columns of fixed widths, so that nothing jumps from one picture to the next; 80 columns hold all of them.
fn table(rows: &[StatusRow], columns: usize, colour: bool) -> Vec<String> {
    let line = |cells: [&str; 6]| {
        let [job, state, reason, time, log, changes] = cells;
        let line = format!("{job:<12} {state:<20} {reason:<21} {time:>4} {log:>9} {changes:>7}");
        line.trim_end().chars().take(columns.saturating_sub(1)).collect::<String>()
    };
    let head = line(["JOB", "STATE", "REASON", "TIME", "LOG", "CHANGES"]);
    let mut lines = vec![if colour { format!("\x1b[1m{head}\x1b[0m") } else { head }];
    for row in rows {
        let (log, changes) = (text::bytes(row.log_bytes), row.mutation_count.to_string());
        let state = row.state.as_str();
        let line = line([&row.beads, state, row.reason_code.as_str(), &row.elapsed, &log, &changes]);
        lines.push(line.replacen(state, &text::coloured(row.state, state, colour), 1));
    }
    lines
}
