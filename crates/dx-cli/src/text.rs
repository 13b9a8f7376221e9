//! Words and numbers as people read them, and exit codes of states.
//!
//! Called by: the commands. Must never: print.

use dx_protocol::{CheckDocument, Confinement, ExitCode, Outcome, Sandbox, State};
use std::fmt::Write as _;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What `check` exits with.
pub(crate) fn exit_of_state(state: State) -> ExitCode {
    match state {
        State::Missing => ExitCode::Error,
        State::Stalled => ExitCode::Stalled,
        State::ExitedErr | State::Blocked => ExitCode::JobError,
        State::NoOp => ExitCode::NoOp,
        State::Launching
        | State::WaitingFirstOutput
        | State::SilentMutation
        | State::Healthy
        | State::ExitedOk => ExitCode::Ok,
    }
}

/// The worst of several: error over stalled over no-op over missing over well.
pub(crate) fn worst(codes: impl IntoIterator<Item = ExitCode>) -> ExitCode {
    let rank = |code: &ExitCode| match code {
        ExitCode::JobError => 4,
        ExitCode::Stalled => 3,
        ExitCode::NoOp => 2,
        ExitCode::Ok => 0,
        _ => 1,
    };
    codes.into_iter().max_by_key(rank).unwrap_or(ExitCode::Ok)
}

/// A number of bytes: `512 B`, `3.4 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as in tables.
pub(crate) fn seconds(count: u64) -> String {
    dx_protocol::elapsed_text(count.saturating_mul(1000))
}

/// A text of at most so many columns; a wide letter takes two.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |letter: &char| {
        let width = letter.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{kept}…")
}

/// A text of at most so many letters, of which the middle goes first.
pub(crate) fn cut_inside(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let tail = most.saturating_sub(1) / 2;
    let head = most.saturating_sub(1 + tail);
    letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect()
}

/// `check` for people: state, next action, numbers, and with `--explain` why.
pub(crate) fn check(doc: &CheckDocument, state: &str) -> String {
    let mut lines = vec![format!("{}: {state} ({})", doc.beads, doc.reason_code)];
    if !matches!(doc.next_action.as_str(), "" | "-") {
        lines.push(format!("  next: {}", doc.next_action));
    }
    let mut facts = vec![
        format!("provider {}", doc.provider),
        format!("log {}", bytes(doc.log_bytes)),
        format!("mutations {}", doc.mutation_count),
        format!("cpu {}", seconds(doc.cpu_time_sec)),
    ];
    // Strict is how it should be.
    if doc.sandbox.mode != Confinement::Strict {
        facts.push(format!("sandbox {}", doc.sandbox.word()));
    }
    if !doc.ended {
        facts.push(format!("up {}", seconds(doc.pid_age_sec)));
        if doc.log_bytes > 0 {
            facts.push(format!("last output {} ago", seconds(doc.log_age_sec)));
        }
    }
    if let Some(input) = doc.tokens_in {
        facts.push(format!("tokens {input} in, {} out", doc.tokens_out.unwrap_or(0)));
    }
    if let Some(cost) = doc.cost_usd {
        facts.push(format!("${cost:.4}"));
    }
    lines.push(format!("  {}", facts.join(", ")));
    if let Some(failure) = &doc.notify_failure {
        lines.push(format!("  not told by --notify: {failure}"));
    }
    if let Some(outcome) = &doc.outcome {
        let words = &doc.verdicts;
        lines.push(format!(
            "  outcome: {}, exit code {}, {}",
            outcome.state,
            outcome.exit_code,
            seconds(outcome.duration_sec)
        ));
        lines.push(format!(
            "  verdicts: process {}, provider {}, work {}, gates {}, check {}",
            words.process, words.provider, words.work, words.gates, words.check
        ));
    }
    if let Some(outcome) = &doc.outcome {
        lines.extend(gate_lines(outcome));
    }
    if let Some(explain) = &doc.explain {
        lines.push(format!("  sandbox: {}", sandbox(&doc.sandbox)));
        lines.push(format!("  rule: {}", explain.rule));
        lines.extend(explain.observation.iter().map(|fact| format!("    {fact}")));
    }
    lines.join("\n")
}

/// Gates with something to say, and what a reviewer should know of the repository.
fn gate_lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    for gate in outcome.gates.iter().filter(|gate| !gate.report.passed) {
        let details = if gate.report.details.is_empty() { "-" } else { &gate.report.details };
        lines.push(format!("  {}: {} ({details})", gate.name, gate.report.reason_code));
    }
    for finding in &outcome.work.findings {
        let names: Vec<String> = finding.names.iter().map(|name| name.escape_debug().to_string()).collect();
        lines.push(format!("  note: {} ({})", finding.reason_code, names.join(", ")));
    }
    lines
}

/// A sandbox in one line.
pub(crate) fn sandbox(sandbox: &Sandbox) -> String {
    let mut line = sandbox.word();
    if sandbox.abi > 0 {
        let _fits = write!(line, ", Landlock ABI {}", sandbox.abi);
    }
    if !sandbox.limits.is_empty() {
        let _fits = write!(line, ", but {}", sandbox.limits.join(", "));
    }
    line
}

/// A state in its colour.
pub(crate) fn coloured(state: State, word: &str, colour: bool) -> String {
    let code = match state {
        State::ExitedOk | State::Healthy => "32",
        State::Launching | State::WaitingFirstOutput | State::SilentMutation => "36",
        State::Stalled | State::NoOp => "33",
        State::ExitedErr | State::Blocked | State::Missing => "31",
    };
    if colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let texts = [0, 1023, 1024, 3500, (1 << 20) - 1, 1 << 30].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "3.4 KiB", "1.0 MiB", "1.0 GiB"]);
    }

    #[test]
    fn a_text_is_cut_only_when_it_is_too_long() {
        assert_eq!((cut("einszwei", 8), cut("einszweid", 8)), ("einszwei".to_owned(), "einszwe…".to_owned()));
        assert_eq!(
            (cut_inside("einszwei", 8), cut_inside("einszweid", 8)),
            ("einszwei".to_owned(), "eins…eid".to_owned())
        );
    }

    #[test]
    fn the_worst_wins() {
        use ExitCode::{Error, JobError, NoOp, Ok, Stalled};
        assert_eq!(worst([]), Ok);
        assert_eq!(worst([Ok, NoOp, Error]), NoOp);
        assert_eq!(worst([Stalled, NoOp]), Stalled);
        assert_eq!(worst([Stalled, JobError, NoOp]), JobError);
    }

    #[test]
    fn exit_codes_by_state() {
        let codes = State::ALL.map(|state| exit_of_state(state).code());
        assert_eq!(codes, [0, 0, 0, 0, 2, 23, 0, 3, 3, 1]);
    }
}
