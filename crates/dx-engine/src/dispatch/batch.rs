//! `batch`: one prompt, many members, all at once.
//!
//! Each member has a thread, a deadline and an end of its own; a failed one changes nothing for the others. What is known
//! is stored after each answer, so that a crash loses none.
//!
//! Called by: the command `batch`. Must never: count anything but a checked answer as a success.

use super::{Cancel, Conditions, Failure, Member, Question, Ready, judge, store};
use crate::Engine;
use crate::error::EngineError;
use dx_jobdir::StateDir;
use dx_proc::clock;
use dx_protocol::{BatchDocument, BatchMember, ExitCode, FieldAgreement, ReasonCode, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::Instant;

/// Fewer are no batch.
const FEWEST: usize = 2;
/// More are a mistake.
const MOST: usize = 64;

/// Who is asked.
#[derive(Debug, Clone)]
pub enum Members {
    Named(Vec<Member>),
    TaskTypes(Vec<String>),
    /// All models that the routes of a tier lead to.
    Tier(u64),
}

/// What is told while a batch runs.
#[derive(Debug, Clone, Copy)]
pub enum BatchNews<'a> {
    /// It is stored; everybody is being asked.
    Begun(&'a BatchDocument),
    Answer(&'a BatchMember),
}

/// `batch`.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    pub members: Members,
    pub conditions: Conditions,
    /// So many answers are enough; `None`: all are wanted.
    pub quorum: Option<usize>,
    pub judge: Option<Member>,
    /// Say which answers are the same.
    pub compare: bool,
}

impl Engine {
    /// Asks all; `told` hears of the beginning, and of each answer as it comes.
    pub fn batch(
        &self,
        request: &BatchRequest,
        cancel: &Cancel,
        told: &dyn Fn(BatchNews<'_>),
    ) -> Result<BatchDocument, EngineError> {
        let (members, ready) = self.batch_checked(request)?;
        let state = self.state()?;
        let mut stored = store::Stored::create(&state, begun(request, &members)?)?;
        told(BatchNews::Begun(&stored.document));
        let asked: Vec<Member> = members.iter().chain(&request.judge).cloned().collect();
        let _cleaner = self.cleaner(&asked);
        let begun = Instant::now();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| -> Result<(), EngineError> {
            for (at, member) in members.iter().enumerate() {
                let (sender, ready) = (sender.clone(), &ready);
                scope.spawn(move || {
                    let result = self.one(member, request, ready, begun, cancel);
                    let _gone = sender.send((at, result));
                });
            }
            drop(sender);
            for (at, result) in receiver {
                told(BatchNews::Answer(&result));
                stored.document.members[at] = result;
                count(&mut stored.document);
                stored.document.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                stored.save()?;
            }
            Ok(())
        })?;
        let document = &mut stored.document;
        document.agreement = agreement(&document.members);
        if request.compare {
            document.groups = groups(&document.members);
        }
        if let Some(judge) = request.judge.as_ref().filter(|_| !cancel.is_cancelled()) {
            // While it judges all of this is known already, and that it judges.
            document.verdict = Some(judge::none(judge, "the judge has not answered"));
            stored.save()?;
            let document = &mut stored.document;
            document.verdict = Some(self.judged(judge, document, &ready, &request.conditions, cancel));
        }
        let document = &mut stored.document;
        "ended".clone_into(&mut document.status);
        decide(document);
        if cancel.is_cancelled() {
            // As the process ends: what came of it does not count.
            document.reason_code = ReasonCode::Interrupted;
            document.exit_code = ReasonCode::Interrupted.exit_code().code();
        }
        stored.save()?;
        Ok(stored.document.clone())
    }

    /// Who is asked, and what, when nothing of it is wrong.
    pub(super) fn batch_checked(&self, request: &BatchRequest) -> Result<(Vec<Member>, Ready), EngineError> {
        let members = self.members_of(&request.members)?;
        if request.quorum.is_some_and(|quorum| quorum == 0 || quorum > members.len()) {
            let message = format!("--quorum takes 1 to {}, the number of members", members.len());
            return Err(EngineError::Argument(message));
        }
        Ok((members, request.conditions.read()?))
    }

    /// Another verdict on a stored batch.
    pub fn batch_judge(
        &self,
        id: &str,
        judge: &Member,
        conditions: &Conditions,
        cancel: &Cancel,
    ) -> Result<BatchDocument, EngineError> {
        let mut document = self.batch_show(id)?;
        if document.status == "running" {
            return Err(EngineError::Provider {
                reason: ReasonCode::BatchRunning,
                message: format!("batch `{id}` has not ended"),
                next_action: Some(format!("dx-runner batch show {id}")),
            });
        }
        let ready = Ready {
            prompt: document.prompt.clone(),
            schema: None,
            limit: conditions.timeout.unwrap_or(super::DISPATCH_TIMEOUT),
        };
        let _cleaner = self.cleaner(std::slice::from_ref(judge));
        document.verdict = Some(self.judged(judge, &document, &ready, conditions, cancel));
        if document.status == "ended" {
            decide(&mut document);
        }
        store::save(&self.state()?, &document)?;
        Ok(document)
    }

    /// A stored batch.
    pub fn batch_show(&self, id: &str) -> Result<BatchDocument, EngineError> {
        let missing = || EngineError::Provider {
            reason: ReasonCode::BatchNotFound,
            message: format!("there is no batch `{id}`"),
            next_action: None,
        };
        let state: StateDir = self.state_for_reading()?.ok_or_else(missing)?;
        store::load(&state, id)?.ok_or_else(missing)
    }

    /// The ids of stored batches, the newest last.
    pub fn batch_list(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.state_for_reading()?.map(|state| store::list(&state)).unwrap_or_default())
    }

    fn members_of(&self, members: &Members) -> Result<Vec<Member>, EngineError> {
        let route =
            |route: super::routes::Route| Member::Opencode { provider: route.provider, model: route.model };
        let mut found: Vec<Member> = match members {
            Members::Named(members) => members.clone(),
            Members::TaskTypes(types) => {
                let target = |task_type: &String| super::Target {
                    task_type: Some(task_type.clone()),
                    ..Default::default()
                };
                types.iter().map(|t| Ok(self.member_of(&target(t))?.0)).collect::<Result<_, EngineError>>()?
            }
            Members::Tier(tier) => {
                self.route_table()?.into_iter().filter(|r| r.tier as u64 == *tier).map(route).collect()
            }
        };
        let mut seen = Vec::new();
        found.retain(|member| {
            !seen.contains(member) && {
                seen.push(member.clone());
                true
            }
        });
        if !(FEWEST..=MOST).contains(&found.len()) {
            let names: Vec<String> = found.iter().map(Member::spec).collect();
            let message = format!(
                "a batch has {FEWEST} to {MOST} different members, not {} ({}); for one there is dispatch",
                found.len(),
                names.join(", ")
            );
            return Err(EngineError::Argument(message));
        }
        Ok(found)
    }

    fn one(
        &self,
        member: &Member,
        request: &BatchRequest,
        ready: &Ready,
        begun: Instant,
        cancel: &Cancel,
    ) -> BatchMember {
        let title = format!("batch → {member}");
        let question = Question {
            prompt: &ready.prompt,
            system: request.conditions.system.as_deref(),
            schema: ready.schema.as_ref(),
            title: &title,
            reads: request.conditions.directory.is_some(),
            limit: ready.limit,
            until: begun + ready.limit,
            cancel,
            session: None,
            keep: None,
        };
        let asked = self.ask(member, &question, &request.conditions);
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match asked {
            Ok(raw) => {
                let answer = raw.document(member, Vec::new(), request.conditions.max_chars, begun.elapsed());
                BatchMember {
                    status: "ok".to_owned(),
                    duration_ms: took,
                    answer: answer.answer,
                    structured: answer.structured,
                    truncated: answer.truncated,
                    tokens_in: answer.tokens_in,
                    tokens_out: answer.tokens_out,
                    cost_usd: answer.cost_usd,
                    message: answer.warnings.join("; "),
                    ..waiting(member)
                }
            }
            Err(Failure { reason, message, next_action }) => BatchMember {
                status: if reason == ReasonCode::Timeout { "timeout" } else { "error" }.to_owned(),
                reason_code: Some(reason),
                duration_ms: took,
                message: crate::mask_text(&message).into_owned(),
                next_action: next_action.unwrap_or_else(|| reason.next_action().to_owned()),
                ..waiting(member)
            },
        }
    }

    fn judged(
        &self,
        judge: &Member,
        document: &BatchDocument,
        ready: &Ready,
        conditions: &Conditions,
        cancel: &Cancel,
    ) -> dx_protocol::JudgeVerdict {
        judge::judge(judge, document, &ready.prompt, &|prompt, schema| {
            let title = format!("judge → {judge}");
            let question = Question {
                prompt,
                system: None,
                schema: Some(schema),
                title: &title,
                reads: false,
                limit: ready.limit,
                until: Instant::now() + ready.limit,
                cancel,
                session: None,
                keep: None,
            };
            let plain = Conditions { directory: None, ..conditions.clone() };
            self.ask(judge, &question, &plain).map(|raw| raw.structured.unwrap_or(Value::Null))
        })
    }
}

fn begun(request: &BatchRequest, members: &[Member]) -> Result<BatchDocument, EngineError> {
    let now = Timestamp(clock::now_ms());
    let tail: String = uuid::Uuid::now_v7().simple().to_string().chars().rev().take(6).collect();
    let prompt = request.conditions.read()?.prompt;
    Ok(BatchDocument {
        schema: "dx-runner/batch/1".to_owned(),
        // With its milliseconds, so that names sort as they were begun.
        id: format!("batch-{}{:03}-{tail}", now.compact(), now.0 % 1_000),
        status: "running".to_owned(),
        started_at: now.to_string(),
        prompt: crate::mask_text(&prompt).into_owned(),
        mods: request.conditions.mods(None),
        members: members.iter().map(waiting).collect(),
        success: 0,
        errors: 0,
        timeouts: 0,
        wall_ms: 0,
        slowest_ms: 0,
        quorum: request.quorum.unwrap_or(members.len()) as u64,
        reason_code: ReasonCode::BatchRunning,
        exit_code: ExitCode::Ok.code(),
        missing: Vec::new(),
        agreement: Vec::new(),
        groups: Vec::new(),
        verdict: None,
    })
}

fn waiting(member: &Member) -> BatchMember {
    BatchMember {
        member: member.spec(),
        provider: member.provider().to_owned(),
        model: member.model().to_owned(),
        status: "running".to_owned(),
        reason_code: None,
        message: String::new(),
        next_action: "-".to_owned(),
        duration_ms: 0,
        answer: String::new(),
        structured: None,
        truncated: false,
        tokens_in: 0,
        tokens_out: 0,
        cost_usd: None,
    }
}

fn count(document: &mut BatchDocument) {
    let of = |status: &str| document.members.iter().filter(|member| member.status == status).count() as u64;
    (document.success, document.errors, document.timeouts) = (of("ok"), of("error"), of("timeout"));
    document.slowest_ms = document.members.iter().map(|member| member.duration_ms).max().unwrap_or(0);
}

/// A batch whose process has died: who had not answered by then never will.
pub(super) fn interrupt(document: &mut BatchDocument) {
    "interrupted".clone_into(&mut document.status);
    for member in document.members.iter_mut().filter(|member| member.status == "running") {
        "error".clone_into(&mut member.status);
        member.reason_code = Some(ReasonCode::Aborted);
        "the process that asked has ended before an answer came".clone_into(&mut member.message);
        ReasonCode::Aborted.next_action().clone_into(&mut member.next_action);
    }
    count(document);
    decide(document);
    document.reason_code = ReasonCode::BatchInterrupted;
    document.exit_code = ReasonCode::BatchInterrupted.exit_code().code();
}

/// The end of a batch in one word.
fn decide(document: &mut BatchDocument) {
    let all = document.members.len() as u64;
    let unjudged = document.verdict.as_ref().is_some_and(|verdict| verdict.reason_code.is_some());
    let (reason, code) = match document.success {
        0 => (ReasonCode::BatchFailed, ExitCode::Error),
        n if n >= document.quorum && unjudged => (ReasonCode::JudgeFailed, ExitCode::Partial),
        n if n >= document.quorum => (ReasonCode::BatchOk, ExitCode::Ok),
        // Without a quorum all are wanted.
        _ if document.quorum == all => (ReasonCode::BatchPartial, ExitCode::Partial),
        _ => (ReasonCode::QuorumMissed, ExitCode::Partial),
    };
    (document.reason_code, document.exit_code) = (reason, code.code());
    let without = document.members.iter().filter(|member| member.status != "ok");
    document.missing = without
        .map(|m| format!("{}/{}: {}", m.provider, m.model, m.reason_code.map_or("-", ReasonCode::as_str)))
        .collect();
}

fn answers(members: &[BatchMember]) -> impl Iterator<Item = &BatchMember> {
    members.iter().filter(|member| member.status == "ok")
}

/// Field by field, for answers with a schema.
fn agreement(members: &[BatchMember]) -> Vec<FieldAgreement> {
    let objects: Vec<_> =
        answers(members).filter_map(|member| member.structured.as_ref()?.as_object()).collect();
    let mut names: Vec<&String> = objects.iter().flat_map(|object| object.keys()).collect();
    names.sort();
    names.dedup();
    let field = |name: &String| {
        let mut values: BTreeMap<String, u64> = BTreeMap::new();
        for object in &objects {
            let value = object.get(name).map_or_else(|| "(absent)".to_owned(), Value::to_string);
            *values.entry(value).or_default() += 1;
        }
        FieldAgreement { field: name.clone(), unanimous: values.len() == 1, values }
    };
    names.into_iter().map(field).collect()
}

/// Members whose answers are the same but for case and white space; the largest group first.
fn groups(members: &[BatchMember]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in answers(members) {
        let words: Vec<String> = member.answer.split_whitespace().map(str::to_lowercase).collect();
        groups.entry(words.join(" ")).or_default().push(format!("{}/{}", member.provider, member.model));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(status: &str, structured: Option<Value>) -> BatchMember {
        let member = Member::Opencode { provider: "p".to_owned(), model: status.to_owned() };
        BatchMember { status: status.to_owned(), structured, ..waiting(&member) }
    }

    #[test]
    fn fields_agree_or_not() {
        let members = [
            member("ok", Some(json!({ "a": 1, "b": "x" }))),
            member("ok", Some(json!({ "a": 1 }))),
            member("error", Some(json!({ "a": 2 }))),
        ];
        let told = agreement(&members);
        assert_eq!(
            told.iter().map(|f| (f.field.as_str(), f.unanimous)).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        assert_eq!(told[1].values.get("(absent)"), Some(&1));
    }

    #[test]
    fn answers_are_the_same_but_for_case_and_space() {
        let with = |answer: &str| BatchMember { answer: answer.to_owned(), ..member("ok", None) };
        let groups = groups(&[with("No"), with("Yes  it is"), with("yes it\nis")]);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }
}
