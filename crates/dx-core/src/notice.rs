//! Which records of a run change something that somebody wants to be told. Pure: the same journal gives the same notices
//! with the same numbers, so that whoever tells goes on where the last one was.

use dx_protocol::{Event, JobChange, JobNotice, Record};

/// Longer messages are cut: a notice must fit into a pipe that nobody reads.
pub(crate) const MAX_MESSAGE: usize = 4096;

/// All notices of a journal so far, in order.
pub fn job_notices(records: &[Record]) -> Vec<JobNotice> {
    let Some(Event::Created(created)) = records.first().map(|record| &record.event) else {
        return Vec::new();
    };
    let mut notices: Vec<JobNotice> = Vec::new();
    let cut = |text: &str| text.chars().take(MAX_MESSAGE).collect::<String>();
    for record in records {
        let (number, change) = match &record.event {
            Event::AgentStarted { .. } => (1, JobChange::Running),
            Event::Ended(outcome) => {
                let ended = JobChange::Ended {
                    outcome: outcome.state,
                    exit_code: outcome.exit_code.clone(),
                    reason_code: outcome.reason_code,
                    message: cut(&outcome.detail),
                };
                (2, ended)
            }
            Event::Blocked { reason, note } => {
                let message = cut(note.as_deref().unwrap_or_default());
                (3, JobChange::Blocked { reason_code: *reason, message })
            }
            _ => continue,
        };
        if notices.iter().all(|known| known.number < number) {
            notices.push(JobNotice {
                schema: "dx-runner/job-notice/1".to_owned(),
                beads: created.ids.beads.clone(),
                provider: created.ids.provider.clone(),
                run_uuid: created.ids.run_uuid.clone(),
                run_instance: created.ids.run_instance.clone(),
                retries: created.retries,
                number,
                at: record.at,
                change,
            });
        }
    }
    notices
}
