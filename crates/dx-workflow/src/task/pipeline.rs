//! What comes next in a task: a pure function of its specification and of what was recorded.
//!
//! Called by the engine after every record, live and when it goes on after a kill. Must never: believe a validator against the
//! runner's own record.

use super::VALIDATOR;
use dx_protocol::{ReasonCode, TaskState, TaskStatus, TaskStepState};

/// The round in which the validator's findings are mended; there is no other after it.
const LAST_ROUND: u32 = 1;
const IMPLEMENTER: &str = "implementer";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Begin this agent's turn, or go on with it.
    Step {
        agent: String,
        round: u32,
    },
    /// Run the test command of this number.
    Command {
        index: usize,
        round: u32,
    },
    End {
        status: TaskStatus,
        reason: Option<ReasonCode>,
        message: String,
    },
}

/// Decides.
pub fn next(execution: &[String], commands: &[String], state: &TaskState) -> Next {
    let end = |status, reason, message: String| Next::End { status, reason, message };
    if let Some(failed) = state.steps.iter().find(|step| step.state == TaskStepState::Failed) {
        let status = match failed.reason_code {
            Some(ReasonCode::AgentBlocked) => TaskStatus::Blocked,
            _ => TaskStatus::Failed,
        };
        return end(status, failed.reason_code, format!("{}: {}", failed.agent, failed.message));
    }
    if let Some(wild) = state.commands.iter().find(|command| !command.violations.is_empty()) {
        let (command, paths) = (&wild.command, wild.violations.join(", "));
        let message = format!("the test command `{command}` changed what no test may: {paths}");
        return end(TaskStatus::Failed, Some(ReasonCode::RoleScopeViolation), message);
    }
    let passed = |agent: &str, round| {
        let mut steps = state.steps.iter().filter(|step| step.agent == agent && step.round == round);
        steps.find(|step| step.state == TaskStepState::Passed)
    };
    for round in 0..=LAST_ROUND {
        let mender = [IMPLEMENTER.to_owned()];
        let agents = if round == 0 { execution } else { &mender };
        if let Some(agent) = agents.iter().find(|agent| passed(agent, round).is_none()) {
            return Next::Step { agent: agent.clone(), round };
        }
        let ran: Vec<_> =
            state.commands.iter().filter(|command| command.round == round && !command.running).collect();
        if ran.len() < commands.len() {
            return Next::Command { index: ran.len(), round };
        }
        let Some(validator) = passed(VALIDATOR, round) else {
            return Next::Step { agent: VALIDATOR.to_owned(), round };
        };
        let failing: Vec<&str> =
            ran.iter().filter(|command| command.exit_code != Some(0)).map(|c| c.command.as_str()).collect();
        match (validator.claims_pass, failing.is_empty()) {
            (Some(true), true) => return end(TaskStatus::Done, None, "done".to_owned()),
            (Some(true), false) => {
                let message = format!("the validator says PASS, and failed: {}", failing.join("; "));
                return end(TaskStatus::Failed, Some(ReasonCode::VerdictContradicted), message);
            }
            _ if !execution.iter().any(|agent| agent == IMPLEMENTER) => break,
            _ => {}
        }
    }
    let message =
        "the work did not pass, and its one fix cycle is used up or there is nobody to mend it".to_owned();
    end(TaskStatus::Escalated, Some(ReasonCode::FixCycleExhausted), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::{TaskCommand, TaskStep, Timestamp};

    fn state() -> TaskState {
        TaskState {
            schema: String::new(),
            task: "001-a".to_owned(),
            status: TaskStatus::Running,
            spec_sha256: String::new(),
            attempt: 1,
            approved: None,
            worktree: String::new(),
            wave: None,
            branch: None,
            commit: None,
            steps: Vec::new(),
            commands: Vec::new(),
            reason_code: None,
            message: String::new(),
            started_at: None,
            ended_at: None,
        }
    }

    fn step(agent: &str, round: u32, claims_pass: Option<bool>) -> TaskStep {
        TaskStep {
            agent: agent.to_owned(),
            round,
            job: String::new(),
            by: String::new(),
            run_uuid: None,
            state: TaskStepState::Passed,
            reason_code: None,
            message: String::new(),
            changed_paths: Vec::new(),
            violations: Vec::new(),
            report: None,
            claims_pass,
            notes: Vec::new(),
            agy: None,
            before: std::collections::BTreeMap::new(),
            started_at: Timestamp(0),
            ended_at: None,
        }
    }

    fn command(round: u32, exit_code: Option<i32>) -> TaskCommand {
        TaskCommand {
            command: "t".to_owned(),
            round,
            exit_code,
            output: String::new(),
            running: false,
            violations: Vec::new(),
            before: std::collections::BTreeMap::new(),
            at: Timestamp(0),
        }
    }

    /// Plays a whole run: words of what was asked for, with the exit codes of commands and the claims of validators as they come.
    fn play(
        execution: &[&str],
        codes: &[i32],
        claims: &[bool],
    ) -> (Vec<String>, TaskStatus, Option<ReasonCode>) {
        let execution: Vec<String> = execution.iter().map(|name| (*name).to_owned()).collect();
        let (mut state, mut said) = (state(), Vec::new());
        let (mut codes, mut claims) = (codes.iter(), claims.iter());
        loop {
            match next(&execution, &["t".to_owned()], &state) {
                Next::Step { agent, round } => {
                    said.push(format!("{agent} {round}"));
                    let claim = if agent == VALIDATOR { claims.next().copied() } else { None };
                    state.steps.push(step(&agent, round, claim));
                }
                Next::Command { round, .. } => {
                    said.push(format!("t {round}"));
                    let exit_code = codes.next().copied();
                    state.commands.push(command(round, exit_code));
                }
                Next::End { status, reason, .. } => return (said, status, reason),
            }
            assert!(said.len() < 20, "it does not end: {said:?}");
        }
    }

    #[test]
    fn agents_run_in_order_and_the_validator_last() {
        let (said, status, _) = play(&["test-writer", "implementer", "documentation"], &[0], &[true]);
        assert_eq!(said, ["test-writer 0", "implementer 0", "documentation 0", "t 0", "validator 0"]);
        assert_eq!(status, TaskStatus::Done);
    }

    #[test]
    fn there_is_one_fix_cycle() {
        let (said, status, _) = play(&["implementer"], &[1, 0], &[false, true]);
        assert_eq!(said[3..], ["implementer 1", "t 1", "validator 1"]);
        assert_eq!(status, TaskStatus::Done);
        let (said, status, reason) = play(&["implementer"], &[1, 1], &[false, false]);
        assert_eq!((said.len(), status), (6, TaskStatus::Escalated));
        assert_eq!(reason, Some(ReasonCode::FixCycleExhausted));
        // Tests pass and the validator finds something all the same.
        assert_eq!(play(&["implementer"], &[0, 0], &[false, true]).1, TaskStatus::Done);
        // Nobody who could mend it.
        assert_eq!(play(&["documentation"], &[0], &[false]).1, TaskStatus::Escalated);
    }

    #[test]
    fn a_claim_against_the_record_fails() {
        let (_, status, reason) = play(&["implementer"], &[1], &[true]);
        assert_eq!((status, reason), (TaskStatus::Failed, Some(ReasonCode::VerdictContradicted)));
    }

    #[test]
    fn a_command_is_run_again_until_its_end_is_known_and_ends_it_when_it_writes_what_no_test_may() {
        let (execution, mut state) = (["implementer".to_owned()], state());
        state.steps.push(step("implementer", 0, None));
        state.commands.push(TaskCommand { running: true, ..command(0, None) });
        let commands = ["t".to_owned()];
        assert_eq!(next(&execution, &commands, &state), Next::Command { index: 0, round: 0 });
        state.commands[0] =
            TaskCommand { violations: vec![".ai/context.md".to_owned()], ..command(0, Some(0)) };
        let Next::End { status, reason, message } = next(&execution, &commands, &state) else { panic!() };
        assert_eq!((status, reason), (TaskStatus::Failed, Some(ReasonCode::RoleScopeViolation)));
        assert!(message.contains(".ai/context.md"), "{message}");
    }

    #[test]
    fn a_failed_step_ends_it() {
        let mut state = state();
        state.steps.push(TaskStep {
            state: TaskStepState::Failed,
            reason_code: Some(ReasonCode::ReportMissing),
            ..step("implementer", 0, None)
        });
        let Next::End { status, reason, .. } = next(&["implementer".to_owned()], &[], &state) else {
            panic!()
        };
        assert_eq!((status, reason), (TaskStatus::Failed, Some(ReasonCode::ReportMissing)));
    }
}
