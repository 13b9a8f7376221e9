//! What happened in a run, a row per journal record that tells something. A pure function of the records.

use dx_protocol::{AgentEvent, Event, Identity, Record, ReportStep, Settled};

/// Of a longer list the middle is left out.
const MOST: usize = 200;
/// Texts of agents are cut.
const MAX_TEXT: usize = 300;

pub(super) fn of(records: &[Record]) -> Vec<ReportStep> {
    let mut steps: Vec<ReportStep> = records.iter().filter_map(step).collect();
    if steps.len() > MOST {
        let left_out = steps.len() - MOST;
        let row = ReportStep {
            at: steps[MOST / 2].at.clone(),
            what: "…".to_owned(),
            detail: format!("{left_out} steps are not shown; dx-runner events shows all"),
        };
        steps.splice(MOST / 2..MOST / 2 + left_out, [row]);
    }
    steps
}

fn step(record: &Record) -> Option<ReportStep> {
    let (what, detail) = words(&record.event)?;
    let detail = detail.chars().take(MAX_TEXT).collect();
    Some(ReportStep { at: record.at.to_string(), what: what.to_owned(), detail })
}

fn words(event: &Event) -> Option<(&'static str, String)> {
    let pid = |identity: &Identity| format!("pid {}", identity.pid);
    Some(match event {
        Event::Created(created) => ("created", format!("by dx-runner {}", created.program)),
        Event::MonitorStarted { monitor, adopted: true } => ("monitor replaced", pid(monitor)),
        Event::MonitorStarted { monitor, .. } => ("monitor started", pid(monitor)),
        Event::AgentStarted { agent } => ("agent started", pid(agent)),
        Event::SpawnFailed { message, .. } => ("agent not started", message.clone()),
        Event::Agent { event, .. } => return agent_words(event),
        Event::LogTruncated { lost_bytes } => ("log cut by the agent", format!("{lost_bytes} bytes")),
        Event::LogGap { at_most_bytes, .. } => ("log gap", format!("at most {at_most_bytes} bytes")),
        Event::EventsCapped => ("events capped", "the log has the rest".to_owned()),
        Event::LauncherLost { .. } => ("launcher lost", String::new()),
        Event::Ending(ending) => (
            "ending",
            [Some(ending.reason.to_string()), ending.note.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": "),
        ),
        Event::ProcessEnded { exit: Some(exit), .. } => {
            ("process ended", format!("exit code {}", exit.exit.shell_code()))
        }
        Event::ProcessEnded { unseen, .. } => (
            "process ended",
            unseen.map_or_else(|| "unseen".to_owned(), |reason| format!("unseen: {reason}")),
        ),
        Event::Settled(Settled::Gate { name, report }) => {
            let word = if report.passed { "passed" } else { "failed" };
            ("gate", format!("{name}: {word} ({})", report.reason_code))
        }
        Event::Settled(Settled::Masking { unresolved, failed }) => {
            let failed = failed.then(|| "a file could not be written".to_owned());
            let unknown =
                (!unresolved.is_empty()).then(|| format!("values not known: {}", unresolved.join(", ")));
            ("masking incomplete", [failed, unknown].into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
        Event::Settled(Settled::Failed { message }) => ("settling failed", message.clone()),
        Event::Ended(outcome) => ("ended", format!("{} ({})", outcome.state, outcome.reason_code)),
        Event::Blocked { reason, note } => {
            let note = note.as_ref().map(|note| format!(": {note}"));
            ("blocked", format!("{reason}{}", note.unwrap_or_default()))
        }
        // Facts that other parts of the report tell, or that nobody misses.
        _ => return None,
    })
}

fn agent_words(event: &AgentEvent) -> Option<(&'static str, String)> {
    Some(match event {
        AgentEvent::Started { session, model } => {
            let told = [
                session.as_deref().map(|s| format!("session {s}")),
                model.as_deref().map(|m| format!("model {m}")),
            ];
            ("session", told.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
        AgentEvent::ToolFinished { name, ok: true, .. } => ("tool", name.clone()),
        AgentEvent::ToolFinished { name, .. } => ("tool failed", name.clone()),
        AgentEvent::FileChanged { path } => ("file changed", path.clone()),
        AgentEvent::Retrying { attempt, message, .. } => {
            let number = if *attempt > 0 { format!("attempt {attempt}: ") } else { String::new() };
            ("retrying", format!("{number}{message}"))
        }
        AgentEvent::RateLimited { .. } => ("rate limited", String::new()),
        AgentEvent::PermissionAsked { what } => ("permission asked", what.clone()),
        AgentEvent::PermissionRefused { what } => ("permission refused", what.clone()),
        AgentEvent::Error { message, .. } => ("agent error", message.clone()),
        AgentEvent::Result { ok, detail } => (if *ok { "result" } else { "bad result" }, detail.clone()),
        // A row for each turn's tokens or each start of a tool would hide the rest.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::{Timestamp, Writer};

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end() {
        let record = |n: u64| Record {
            at: Timestamp(n as i64 * 1000),
            mono_ms: n,
            by: Writer::Monitor,
            event: Event::LogTruncated { lost_bytes: n },
        };
        let records: Vec<Record> = (0..1000).map(record).collect();
        let steps = of(&records);
        assert_eq!(steps.len(), MOST + 1);
        assert_eq!((steps[0].detail.as_str(), steps[MOST].detail.as_str()), ("0 bytes", "999 bytes"));
        assert!(steps[MOST / 2].detail.starts_with("800 steps"), "{:?}", steps[MOST / 2]);
    }
}
