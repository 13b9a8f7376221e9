//! What a wave's journal adds up to. Events that cannot happen are passed over: a journal is read by programs of other
//! versions too, and by a coordinator that was killed between two records.

use dx_protocol::{
    AttemptVerdict, BeadsId, GateVerdict, ItemState, MergeConflict, ProviderName, QuotaPool, ReasonCode,
    ReviewVerdict, RunUuid, Timestamp, WaveCreated, WaveEvent, WaveItem, WaveRecord,
};
use std::collections::{BTreeMap, BTreeSet};

/// A wave so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Wave {
    pub created: WaveCreated,
    pub created_at: Timestamp,
    /// In the order of the plan.
    pub items: Vec<Item>,
    pub cancelling: bool,
    /// What takes nothing before a time.
    pub parked: BTreeMap<Pool, Parked>,
    /// Accounts that take nothing in this wave any more.
    pub refused: BTreeSet<Account>,
    /// Models that are not to be had in this wave.
    pub missing: BTreeSet<Pool>,
    pub merged: Option<Merge>,
    pub ended_at: Option<Timestamp>,
}

/// With whom a provider is asked, by the profile that says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    pub provider: ProviderName,
    pub profile: Option<String>,
}

/// What an account is asked for: a model, by the words that ask for it; `None` is its own choice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool {
    pub account: Account,
    pub model: Option<String>,
}

/// How long something takes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub until: Timestamp,
    /// Under what the ledger of all jobs has it; `None` when it has it not.
    pub ledger: Option<QuotaPool>,
}

/// What became of the integration branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    pub branch: String,
    pub commit: Option<String>,
    pub conflicts: Vec<MergeConflict>,
    pub message: String,
}

/// So many refusals in a row are taken as they come: a chain has as many providers.
const REFUSALS_FREE: u32 = 5;
/// Between two attempts that are refused.
const LONGEST_REST_MS: i64 = 600_000;

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it is under way.
    Waiting,
    /// An attempt is decided and has not been judged.
    Attempt,
    /// What the newest attempt means is known, and what follows is not decided.
    Judged(AttemptVerdict),
    /// A review is decided and has not ended.
    Review,
    /// A review has ended.
    Reviewed(Option<ReviewVerdict>),
    Closed(ItemState),
}

/// One item so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub plan: WaveItem,
    pub phase: Phase,
    /// Those that were not refused, and the one under way.
    pub attempts: Vec<Attempt>,
    /// Providers that could not start this item, or could not do it.
    pub tried: BTreeSet<ProviderName>,
    pub base: Option<String>,
    pub commit: Option<String>,
    pub findings: Vec<String>,
    pub gates: Vec<GateVerdict>,
    /// Of all attempts.
    pub notes: Vec<String>,
    /// Of the newest attempt.
    pub review_round: u32,
    /// Of its rounds, those that said nothing but when to come back.
    pub reviews_parked: u32,
    pub review_run: Option<RunUuid>,
    pub reason: Option<ReasonCode>,
    pub message: String,
    pub closed_at: Option<Timestamp>,
    /// No attempt begins before.
    pub rests_until: Option<Timestamp>,
}

/// One run of an item, or what will be one.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub number: u32,
    pub provider: ProviderName,
    pub began_at: Timestamp,
    pub run: Option<RunUuid>,
    pub worktree: Option<String>,
    pub model: Option<String>,
    pub verdict: Option<AttemptVerdict>,
    pub reason: Option<ReasonCode>,
    pub exit_code: Option<String>,
    pub review: Option<ReviewVerdict>,
}

impl Item {
    fn new(plan: WaveItem) -> Self {
        Self {
            plan,
            phase: Phase::Waiting,
            attempts: Vec::new(),
            tried: BTreeSet::new(),
            base: None,
            commit: None,
            findings: Vec::new(),
            gates: Vec::new(),
            notes: Vec::new(),
            review_round: 0,
            reviews_parked: 0,
            review_run: None,
            reason: None,
            message: String::new(),
            closed_at: None,
            rests_until: None,
        }
    }

    /// What the item asks of a provider. Its model is in the words of the first one.
    pub fn pool(&self, provider: &ProviderName) -> Pool {
        let model = self.plan.model.clone().filter(|_| self.plan.providers.first() == Some(provider));
        let account = Account { provider: provider.clone(), profile: self.plan.profile.clone() };
        Pool { account, model }
    }

    /// What the item's review asks of its provider.
    pub fn review_pool(&self) -> Option<Pool> {
        let review = self.plan.review.as_ref()?;
        let account = Account { provider: review.provider.clone(), profile: review.profile.clone() };
        Some(Pool { account, model: review.model.clone() })
    }

    /// The newest attempt.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Who is refused again and again, each time for moments, asks ever less often: not before this.
    fn rest_after(&self, at: Timestamp) -> Option<Timestamp> {
        let refused = |attempt: &&Attempt| attempt.verdict == Some(AttemptVerdict::Fallback);
        let in_a_row = self.attempts.iter().rev().take_while(refused).count() as u32;
        let times = in_a_row.checked_sub(REFUSALS_FREE)?;
        let rest_ms = (1_000_i64 << times.min(16)).min(LONGEST_REST_MS);
        Some(Timestamp(at.0.saturating_add(rest_ms)))
    }

    /// The attempts that count: not those whose provider took nothing, after which another one is asked, or the same one later.
    pub fn counted(&self) -> u32 {
        let counts = |attempt: &&Attempt| attempt.verdict != Some(AttemptVerdict::Fallback);
        self.attempts.iter().filter(counts).count() as u32
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Closed(ItemState::Done)
    }
}

impl Wave {
    /// A wave of which nothing is known but its plan.
    pub fn new(created: WaveCreated, at: Timestamp) -> Self {
        let items = created.plan.items.iter().cloned().map(Item::new).collect();
        Self {
            created,
            created_at: at,
            items,
            cancelling: false,
            parked: BTreeMap::new(),
            refused: BTreeSet::new(),
            missing: BTreeSet::new(),
            merged: None,
            ended_at: None,
        }
    }

    pub fn position(&self, id: &BeadsId) -> Option<usize> {
        self.items.iter().position(|item| item.plan.id == *id)
    }

    /// Whether a provider may be asked for an item, now or later.
    pub fn is_usable(&self, item: &Item, provider: &ProviderName) -> bool {
        let pool = item.pool(provider);
        !item.tried.contains(provider)
            && !self.refused.contains(&pool.account)
            && !self.missing.contains(&pool)
    }

    /// Whether an attempt or review takes a place.
    pub fn in_flight(&self) -> usize {
        self.items.iter().filter(|item| matches!(item.phase, Phase::Attempt | Phase::Review)).count()
    }

    /// The state of the whole, when it has ended.
    pub fn verdict(&self) -> Option<dx_protocol::WaveState> {
        use dx_protocol::WaveState;
        self.ended_at?;
        let done = self.items.iter().filter(|item| item.is_done()).count();
        let conflict = self.merged.as_ref().is_some_and(|m| m.commit.is_none() || !m.conflicts.is_empty());
        Some(match done {
            0 => WaveState::Failed,
            n if n == self.items.len() && !conflict => WaveState::Done,
            _ => WaveState::Partial,
        })
    }

    /// Whether there is something to bring onto the branch that gets everything, and it was not moved yet.
    pub fn wants_merge(&self) -> bool {
        self.created.plan.merge_into.is_some()
            && self.items.iter().any(Item::is_done)
            && self.merged.as_ref().is_none_or(|merge| merge.commit.is_none())
    }

    /// Takes one record in.
    pub fn apply(&mut self, record: &WaveRecord) {
        let at = record.at;
        match &record.event {
            WaveEvent::Cancelling => self.cancelling = true,
            WaveEvent::Ended => self.ended_at = Some(at),
            WaveEvent::Parked { pool, until } => self.parked.retain(|_, parked| {
                if parked.ledger.as_ref() != Some(pool) {
                    return true;
                }
                parked.until = until.unwrap_or(parked.until);
                until.is_some()
            }),
            // One that had ended was taken up again, for its merge.
            WaveEvent::Coordinator { .. } => self.ended_at = None,
            WaveEvent::Merged { branch, commit, conflicts, message } => {
                self.merged = Some(Merge {
                    branch: branch.clone(),
                    commit: commit.clone(),
                    conflicts: conflicts.clone(),
                    message: message.clone(),
                });
            }
            event => {
                let Some(item) = event.item() else { return };
                let Some(at_item) = self.position(item) else { return };
                if matches!(self.items[at_item].phase, Phase::Closed(_)) {
                    return;
                }
                self.note_provider(at_item, &record.event);
                self.items[at_item].apply(at, &record.event);
            }
        }
    }

    /// What an end or a refusal says of what was asked, for all items.
    fn note_provider(&mut self, item: usize, event: &WaveEvent) {
        let (provider, reason, until, ledger) = match event {
            WaveEvent::Reviewed { until: Some(until), pool: ledger, .. } => {
                if let Some(pool) = self.items[item].review_pool() {
                    self.park(pool, *until, ledger.as_ref());
                }
                return;
            }
            WaveEvent::Refused { provider, reason, until, pool, .. } => {
                (Some(provider.clone()), reason, until, pool)
            }
            WaveEvent::Judged { reason, until, pool, verdict: AttemptVerdict::Fallback, .. } => {
                let newest = self.items[item].attempt();
                (newest.map(|attempt| attempt.provider.clone()), reason, until, pool)
            }
            _ => return,
        };
        let Some(provider) = provider else { return };
        let pool = self.items[item].pool(&provider);
        if let Some(until) = until {
            self.park(pool, *until, ledger.as_ref());
        } else if reason.is_of_account() {
            self.refused.insert(pool.account);
        } else if reason.is_of_model() {
            self.missing.insert(pool);
        }
    }

    fn park(&mut self, pool: Pool, until: Timestamp, ledger: Option<&QuotaPool>) {
        let known = self.parked.entry(pool).or_insert(Parked { until, ledger: None });
        known.until = known.until.max(until);
        known.ledger = ledger.cloned().or(known.ledger.take());
    }
}

impl Item {
    fn apply(&mut self, at: Timestamp, event: &WaveEvent) {
        match event {
            WaveEvent::Attempt { attempt, provider, base, .. } => {
                self.phase = Phase::Attempt;
                self.base = Some(base.clone());
                (self.review_round, self.reviews_parked, self.review_run) = (0, 0, None);
                self.attempts.push(Attempt {
                    number: *attempt,
                    provider: provider.clone(),
                    began_at: at,
                    run: None,
                    worktree: None,
                    model: None,
                    verdict: None,
                    reason: None,
                    exit_code: None,
                    review: None,
                });
            }
            WaveEvent::Started { run, worktree, model, .. } => {
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.run = Some(run.clone());
                    attempt.worktree = Some(worktree.clone());
                    attempt.model = Some(model.clone());
                }
            }
            WaveEvent::Refused { provider, reason, message, until, .. } => {
                if self.phase == Phase::Attempt {
                    self.attempts.pop();
                }
                if until.is_none() {
                    self.tried.insert(provider.clone());
                }
                self.reason = Some(*reason);
                self.message.clone_from(message);
                let verdict = if until.is_some() || reason.is_of_provider() {
                    AttemptVerdict::Fallback
                } else {
                    AttemptVerdict::Failed
                };
                self.phase = Phase::Judged(verdict);
            }
            WaveEvent::Judged {
                verdict, reason, exit_code, findings, commit, gates, notes, until, ..
            } => {
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.verdict = Some(*verdict);
                    attempt.reason = Some(*reason);
                    attempt.exit_code = Some(exit_code.clone());
                    if *verdict == AttemptVerdict::Fallback && until.is_none() {
                        self.tried.insert(attempt.provider.clone());
                    }
                }
                self.rests_until = self.rest_after(at);
                self.phase = Phase::Judged(*verdict);
                self.reason = Some(*reason);
                // A run that the provider refused says nothing of the work: what was found before is still to be mended.
                if *verdict != AttemptVerdict::Fallback {
                    self.findings.clone_from(findings);
                }
                self.gates.clone_from(gates);
                for note in notes {
                    if !self.notes.contains(note) {
                        self.notes.push(note.clone());
                    }
                }
                self.commit = commit.clone().or(self.commit.take());
            }
            WaveEvent::Review { round, .. } => {
                self.phase = Phase::Review;
                (self.review_round, self.review_run) = (*round, None);
            }
            WaveEvent::ReviewStarted { run, .. } => self.review_run = Some(run.clone()),
            WaveEvent::Reviewed { verdict, findings, until, .. } => {
                self.reviews_parked += u32::from(until.is_some());
                self.phase = Phase::Reviewed(*verdict);
                self.findings.clone_from(findings);
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.review = *verdict;
                }
            }
            WaveEvent::Closed { state, reason, message, .. } => {
                self.phase = Phase::Closed(*state);
                self.reason = Some(*reason);
                self.message.clone_from(message);
                self.closed_at = Some(at);
            }
            _ => {}
        }
    }
}

/// Folds a journal; `None` when it does not begin with its plan.
pub fn fold(records: &[WaveRecord]) -> Option<Wave> {
    let (first, rest) = records.split_first()?;
    let WaveEvent::Created(created) = &first.event else { return None };
    let mut wave = Wave::new((**created).clone(), first.at);
    for record in rest {
        wave.apply(record);
    }
    Some(wave)
}
