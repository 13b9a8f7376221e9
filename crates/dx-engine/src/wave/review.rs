//! A review: a job of its own on a worktree of its own, checked out at the item's work, so that nothing it does can get
//! into that work.
//!
//! Called by the coordinator, in a thread. Must never write the wave's journal.

use super::attempt::{Ground, in_ledger, told_until};
use super::watch::watch;
use super::{prompt, verdict};
use crate::api::{PromptSource, StartRequest};
use crate::error::{EngineError, told};
use crate::git::{Call, despite_kills};
use crate::lookup;
use crate::prompt::sha256_hex;
use crate::secrets::Masking;
use crate::worktree;
use dx_events::Parser;
use dx_monitor::{Access, MaskedFile};
use dx_protocol::{
    AgentEvent, BeadsId, Gates, OutcomeState, QuotaPool, ReviewVerdict, RunUuid, Timestamp, WaveEvent,
    WaveItem, WaveReview,
};

/// An agent's text is read up to this length.
const TEXT_MAX: usize = 1 << 20;

/// What tells a review's job from its item's.
pub(super) const MARK: &str = ".review-";

/// A review that is decided.
#[derive(Debug, Clone)]
pub(super) struct Review {
    pub(super) item: WaveItem,
    pub(super) by: WaveReview,
    pub(super) attempt: u32,
    pub(super) round: u32,
    pub(super) base: String,
    pub(super) commit: String,
}

/// Runs it to its end; tells each step.
pub(super) fn run(ground: &Ground, review: &Review, tell: &mut dyn FnMut(WaveEvent)) {
    let reviewed = |verdict, findings, until, pool| WaveEvent::Reviewed {
        item: review.item.id.clone(),
        attempt: review.attempt,
        round: review.round,
        verdict,
        findings,
        until,
        pool,
    };
    let Unread { why, until, pool } = match look(ground, review, tell) {
        Ok((verdict, findings)) => return tell(reviewed(Some(verdict), findings, None, None)),
        Err(unread) => unread,
    };
    tell(reviewed(None, vec![why], until, pool));
}

/// Why there is no verdict.
struct Unread {
    why: String,
    until: Option<Timestamp>,
    pool: Option<QuotaPool>,
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self { why, until: None, pool: None }
    }
}

impl From<EngineError> for Unread {
    fn from(error: EngineError) -> Self {
        let why = format!("the review failed: {}", told(&error));
        match error {
            EngineError::QuotaParked { until, pool, .. } => {
                Self { why, until: Some(until), pool: Some(pool) }
            }
            _ => why.into(),
        }
    }
}

fn look(
    ground: &Ground,
    review: &Review,
    tell: &mut dyn FnMut(WaveEvent),
) -> Result<(ReviewVerdict, Vec<String>), Unread> {
    let beads = id(&ground.wave_id, review)?;
    let bytes = prompt::read(&ground.paths.review_prompt(&review.item.id))?;
    let text = prompt::of_review(bytes, review.item.id.as_str(), &review.base, &review.commit);
    let request = StartRequest {
        beads: Some(beads.clone()),
        prompt: Some(PromptSource::Text(text)),
        repo: Some(ground.repo.display().to_string()),
        model: review.by.model.clone(),
        command: review.by.command.clone(),
        idempotency_key: Some(format!("wave:{}:{beads}", ground.wave_id)),
        profile: review.by.profile.clone(),
        // Enforced by the sandbox, and judged at the end: one who changes something is none who looks.
        gates: Gates { read_only: true, ..Gates::default() },
        ..StartRequest::new(&review.by.provider)
    };
    let started = despite_kills(|| ground.start(&review.commit, &request))?;
    let run = started.ids.run_uuid.clone();
    tell(WaveEvent::ReviewStarted {
        item: review.item.id.clone(),
        attempt: review.attempt,
        round: review.round,
        run: run.clone(),
    });
    // Nobody else may review it; while its provider takes nothing it shall keep no place.
    let watched = watch(ground, &started.ids, true)?;
    let (reason, outcome) = (watched.reason(), watched.outcome);
    let moved = moved(ground, review)?;
    if outcome.state != OutcomeState::Success {
        let ended = format!("the review ended with exit code {} ({reason})", outcome.exit_code);
        if let Some(moved) = moved {
            return Err(format!("{ended}; {moved}").into());
        }
        let found = lookup::read_run(&ground.state, &ground.state.run(&run).journal(), false)?;
        let until = watched.until.or_else(|| told_until(&found, &outcome));
        return Err(Unread { why: ended, until, pool: until.and_then(|_| in_ledger(ground, &found)) });
    }
    if let Some(moved) = moved {
        return Err(moved.into());
    }
    let said = said(ground, &run)?;
    // One that is not clean stays, and `worktree list` shows it.
    let _removed = ground.engine.worktree_remove(&beads, Some(&ground.repo));
    Ok(verdict::read(&said)?)
}

/// What to say when the item's branch is not in the work that was reviewed any more: somebody moved it meanwhile.
fn moved(ground: &Ground, review: &Review) -> Result<Option<String>, EngineError> {
    let branch = format!("refs/heads/{}", review.item.id);
    let main = worktree::repository(&ground.repo)?;
    let wanted = format!("{branch}^{{commit}}");
    let found = Call::new(&main, &["rev-parse", "--verify", "--quiet", &wanted]).output()?;
    let tip = crate::git::line(&found.stdout);
    // A branch that its own agent took away carries nothing.
    if !found.status.success() || main.git_says(&["merge-base", "--is-ancestor", &tip, &review.commit])? {
        return Ok(None);
    }
    let Review { item, commit, .. } = review;
    Ok(Some(format!(
        "branch {} is at {tip} after the review, which is not in the reviewed {commit}",
        item.id
    )))
}

/// The review's job: another one for each attempt and round of each wave.
fn id(wave_id: &str, review: &Review) -> Result<BeadsId, EngineError> {
    let Review { item, attempt, round, .. } = review;
    let of_wave = &sha256_hex(wave_id.as_bytes())[..8];
    Ok(format!("{}{MARK}{attempt}-{round}-{of_wave}", item.id).parse()?)
}

/// What the agent said, as its events tell it.
fn said(ground: &Ground, run: &RunUuid) -> Result<String, EngineError> {
    let paths = ground.state.run(run);
    let found = lookup::read_run(&ground.state, &paths.journal(), false)?;
    let masking = Masking::again(&found.run.created, Access::Read);
    let mut text = String::new();
    let Some(mut log) = MaskedFile::open(&paths.log(), &masking.secrets, masking.access) else {
        return Ok(text);
    };
    let mut parser = Parser::with_text_max(found.run.created.contract.grammar, TEXT_MAX);
    let mut hear = |_, event| {
        if let AgentEvent::Text { text: said } | AgentEvent::Result { detail: said, .. } = event {
            text.push_str(&said);
            text.push('\n');
        }
    };
    let mut buffer = vec![0; 64 << 10];
    while log.read(&mut buffer, &mut |bytes| parser.feed(bytes, &mut hear)) > 0 {}
    log.finish(&mut |bytes| parser.feed(bytes, &mut hear));
    parser.finish(&mut hear);
    Ok(text)
}
